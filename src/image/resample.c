// SPDX-License-Identifier: Apache-2.0
// Separable resampling, columns before rows, with weights in fixed point of 22 bits as Pillow has them. Such a weight is also
// exact as a float, so both kinds of pixels share them.

#include "image/resample.h"

#include <math.h>
#include <stdbool.h>

#include "base/memory.h"

enum { WEIGHT_BITS = 22, ONE_HALF = 1 << (WEIGHT_BITS - 1) };

static const float weight_unit = 1.0f / (1 << WEIGHT_BITS);

// For each output position along one axis: its first input position, how many it takes, and their weights.
typedef struct filter_axis {
    int n_outputs, max_taps;
    int *first, *n_taps; // [n_outputs]
    int32_t *weights;    // [n_outputs][max_taps], summing up to 2^22 but for rounding
} filter_axis;

static double triangle(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

// The arithmetic here, the order of it included, decides on the last bit of weights: it is Pillow's.
static void fill_weights(filter_axis *axis, int i, double center, double width, int n_inputs)
{
    const int lowest = (int)(center - width + 0.5), highest = (int)(center + width + 0.5);
    const int first = lowest < 0 ? 0 : lowest, end = highest > n_inputs ? n_inputs : highest;
    int32_t *weights = axis->weights + (size_t)i * (size_t)axis->max_taps;
    const double narrowing = 1 / width;
    double total = 0;
    for (int k = first; k < end; k++)
        total += triangle((k - center + 0.5) * narrowing);
    for (int k = first; k < end; k++) {
        const double weight = triangle((k - center + 0.5) * narrowing);
        weights[k - first] = (int32_t)(0.5 + (total != 0 ? weight / total : weight) * (1 << WEIGHT_BITS));
    }
    axis->first[i] = first;
    axis->n_taps[i] = end - first;
}

static void free_axis(filter_axis *axis)
{
    qcnn_release(axis->first);
    qcnn_release(axis->n_taps);
    qcnn_release(axis->weights);
    *axis = (filter_axis){ 0 };
}

// Of an axis scaled from n_inputs to n_scaled, positions begin .. begin + n_outputs - 1.
static qcnn_status make_axis(filter_axis *axis, int n_inputs, int64_t n_scaled, int begin, int n_outputs, qcnn_error *error)
{
    const double scale = (double)n_inputs / (double)n_scaled, width = scale < 1 ? 1 : scale;
    axis->n_outputs = n_outputs;
    axis->max_taps = (int)ceil(width) * 2 + 1;
    axis->first = qcnn_allocate((size_t)n_outputs, sizeof *axis->first);
    axis->n_taps = qcnn_allocate((size_t)n_outputs, sizeof *axis->n_taps);
    axis->weights = qcnn_allocate((size_t)n_outputs * (size_t)axis->max_taps, sizeof *axis->weights);
    if (!axis->first || !axis->n_taps || !axis->weights)
        return qcnn_fail_memory(error, (size_t)n_outputs * (size_t)axis->max_taps * sizeof *axis->weights);
    for (int i = 0; i < n_outputs; i++)
        fill_weights(axis, i, (begin + i + 0.5) * scale, width, n_inputs);
    return QCNN_OK;
}

static inline uint8_t to_byte(int32_t sum)
{
    const int32_t value = sum >> WEIGHT_BITS;
    return (uint8_t)(value > 255 ? 255 : value);
}

// One row of pixels `stride` elements apart, to n_outputs pixels side by side.
static inline void columns_of_bytes(const filter_axis *axis, const uint8_t *from, int stride, int channels, uint8_t *to)
{
    for (int x = 0; x < axis->n_outputs; x++) {
        const int32_t *weights = axis->weights + (size_t)x * (size_t)axis->max_taps;
        const uint8_t *first = from + (size_t)axis->first[x] * (size_t)stride;
        for (int c = 0; c < channels; c++) {
            int32_t sum = ONE_HALF;
            for (int k = 0; k < axis->n_taps[x]; k++)
                sum += weights[k] * first[k * stride + c];
            *to++ = to_byte(sum);
        }
    }
}

static void columns_of_floats(const filter_axis *axis, const float *from, int stride, int channels, float *to)
{
    for (int x = 0; x < axis->n_outputs; x++) {
        const int32_t *weights = axis->weights + (size_t)x * (size_t)axis->max_taps;
        const float *first = from + (size_t)axis->first[x] * (size_t)stride;
        for (int c = 0; c < channels; c++) {
            float sum = 0;
            for (int k = 0; k < axis->n_taps[x]; k++)
                sum += (float)weights[k] * weight_unit * first[k * stride + c];
            *to++ = sum;
        }
    }
}

// One row of n elements from n_taps rows that follow each other.
static void rows_of_bytes(const int32_t *weights, int n_taps, const uint8_t *from, size_t n, int32_t *sums, uint8_t *to)
{
    for (size_t i = 0; i < n; i++)
        sums[i] = ONE_HALF;
    for (int k = 0; k < n_taps; k++, from += n)
        for (size_t i = 0; i < n; i++)
            sums[i] += weights[k] * from[i];
    for (size_t i = 0; i < n; i++)
        to[i] = to_byte(sums[i]);
}

static void rows_of_floats(const int32_t *weights, int n_taps, const float *from, size_t n, float *to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = 0;
    for (int k = 0; k < n_taps; k++, from += n) {
        const float weight = (float)weights[k] * weight_unit;
        for (size_t i = 0; i < n; i++)
            to[i] += weight * from[i];
    }
}

// `between` holds those input rows that the output needs, columns already filtered; `sums` is room for one row.
static void filter_bytes(const qcnn_picture *from, const filter_axis *columns, const filter_axis *rows, int n_rows, uint8_t *between,
                         int32_t *sums, uint8_t *to)
{
    const size_t n = (size_t)columns->n_outputs * (size_t)from->channels, from_row = (size_t)from->width * (size_t)from->stride;
    for (int y = 0; y < n_rows; y++) {
        const uint8_t *row = from->bytes + (size_t)(rows->first[0] + y) * from_row;
        if (from->channels == 3 && from->stride == 3) // photos: with constants the compiler unrolls
            columns_of_bytes(columns, row, 3, 3, between + (size_t)y * n);
        else
            columns_of_bytes(columns, row, from->stride, from->channels, between + (size_t)y * n);
    }
    for (int y = 0; y < rows->n_outputs; y++)
        rows_of_bytes(rows->weights + (size_t)y * (size_t)rows->max_taps, rows->n_taps[y],
                      between + (size_t)(rows->first[y] - rows->first[0]) * n, n, sums, to + (size_t)y * n);
}

static void filter_floats(const qcnn_picture *from, const filter_axis *columns, const filter_axis *rows, int n_rows, float *between,
                          float *to)
{
    const size_t n = (size_t)columns->n_outputs * (size_t)from->channels, from_row = (size_t)from->width * (size_t)from->stride;
    for (int y = 0; y < n_rows; y++)
        columns_of_floats(columns, from->floats + (size_t)(rows->first[0] + y) * from_row, from->stride, from->channels,
                          between + (size_t)y * n);
    for (int y = 0; y < rows->n_outputs; y++)
        rows_of_floats(rows->weights + (size_t)y * (size_t)rows->max_taps, rows->n_taps[y],
                       between + (size_t)(rows->first[y] - rows->first[0]) * n, n, to + (size_t)y * n);
}

static qcnn_status filter(qcnn_picture *picture, const filter_axis *columns, const filter_axis *rows, qcnn_error *error)
{
    const int last = rows->n_outputs - 1, n_rows = rows->first[last] + rows->n_taps[last] - rows->first[0];
    const size_t row = (size_t)columns->n_outputs * (size_t)picture->channels;
    const size_t element = picture->bytes ? sizeof *picture->bytes : sizeof *picture->floats;
    void *between = qcnn_allocate((size_t)n_rows, row * element), *sums = qcnn_allocate(row, sizeof(int32_t));
    void *to = qcnn_allocate((size_t)rows->n_outputs, row * element);
    const bool enough = between && sums && to;
    if (enough && picture->bytes)
        filter_bytes(picture, columns, rows, n_rows, between, sums, to);
    else if (enough)
        filter_floats(picture, columns, rows, n_rows, between, to);
    qcnn_release(between);
    qcnn_release(sums);
    if (!enough) {
        qcnn_release(to);
        return qcnn_fail_memory(error, (size_t)n_rows * row * element);
    }
    qcnn_release(picture->owned);
    *picture = (qcnn_picture){ .width = columns->n_outputs,
                               .height = rows->n_outputs,
                               .channels = picture->channels,
                               .owned = to,
                               .stride = picture->channels,
                               .bytes = picture->bytes ? to : NULL,
                               .floats = picture->bytes ? NULL : to };
    return QCNN_OK;
}

static qcnn_status make_floats(qcnn_picture *picture, qcnn_error *error)
{
    const size_t n_pixels = (size_t)picture->width * (size_t)picture->height, n_channels = (size_t)picture->channels;
    float *floats = qcnn_allocate(n_pixels * n_channels, sizeof *floats);
    if (!floats)
        return qcnn_fail_memory(error, n_pixels * n_channels * sizeof *floats);
    const uint8_t *from = picture->bytes;
    for (size_t i = 0; i < n_pixels; i++, from += picture->stride)
        for (size_t c = 0; c < n_channels; c++)
            floats[i * n_channels + c] = from[c];
    qcnn_release(picture->owned);
    *picture = (qcnn_picture){ picture->width, picture->height, picture->channels, picture->channels, NULL, floats, floats };
    return QCNN_OK;
}

qcnn_status qcnn_resample(qcnn_picture *picture, int64_t width, int64_t height, qcnn_window kept, qcnn_error *error)
{
    if (picture->bytes && (width > picture->width || height > picture->height))
        QCNN_TRY(make_floats(picture, error));
    filter_axis columns = { 0 }, rows = { 0 };
    qcnn_status status = make_axis(&columns, picture->width, width, kept.x, kept.width, error);
    if (status == QCNN_OK)
        status = make_axis(&rows, picture->height, height, kept.y, kept.height, error);
    if (status == QCNN_OK)
        status = filter(picture, &columns, &rows, error);
    free_axis(&columns);
    free_axis(&rows);
    return status;
}
