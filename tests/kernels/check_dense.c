// SPDX-License-Identifier: Apache-2.0
// Checks of the dense float kernels. Bounds: sums of n products within 4 sqrt(n + 1) roundings (2^-24) of the sum of the
// products' magnitudes; normalization within 2^-20 of the value. An output must have the same bits whatever is computed beside
// it. What lies between the rows of an output is not touched.

#include <math.h>
#include <string.h>

#include "check.h"

#define ROUNDING 0x1p-24

static double sum_bound(size_t n)
{
    return 4 * sqrt((double)n + 1) * ROUNDING;
}

// ---- gemm -----------------------------------------------------------------------------------------------------------

enum { MAX_OUTPUTS = 16384 };
static double expected[MAX_OUTPUTS], magnitude[MAX_OUTPUTS];
static float output[MAX_OUTPUTS];

static void check_gemm_case(checker *check, int rows, int columns, int depth, bool with_start)
{
    const qcnn_kernels *tier = check->tier;
    const size_t r = (size_t)rows, n = (size_t)columns, k = (size_t)depth, tile = (size_t)tier->gemm_columns;
    const size_t a_stride = k + (size_t)check_below(check, 3), b_stride = 2 * tile + (size_t)check_below(check, 9);
    const size_t c_stride = n + (size_t)check_below(check, 5), c_size = (r - 1) * c_stride + n;
    check_shape(check, "%d rows, %d columns, depth %d, strides %zu %zu %zu%s", rows, columns, depth, a_stride, b_stride, c_stride,
                with_start ? ", from a start" : "");
    const float *a = check_floats(check, 0, (r - 1) * a_stride + k), *start = with_start ? check_floats(check, 1, r) : NULL;
    const size_t begin = (size_t)check_below(check, (int)tile); // so that columns of the tile lie at any place of b
    const float *b = (const float *)check_floats(check, 2, (k - 1) * b_stride + begin + tile) + begin;
    float *c = check_floats(check, 3, c_size), *one = check_copy(check, 4, c, c_size * sizeof *c);
    const float *before = memcpy(output, c, c_size * sizeof *c);
    for (size_t i = 0; i < r; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = with_start ? start[i] : before[i * c_stride + j], size = fabs(sum);
            for (size_t l = 0; l < k; l++) {
                sum += (double)a[i * a_stride + l] * b[l * b_stride + j];
                size += fabs((double)a[i * a_stride + l] * b[l * b_stride + j]);
            }
            expected[i * n + j] = sum;
            magnitude[i * n + j] = size;
        }
    tier->gemm(rows, columns, k, a, a_stride, b, b_stride, c, c_stride, start);
    for (size_t i = 0; i < r; i++) {
        if (!check_close(check, expected + i * n, magnitude + i * n, c + i * c_stride, n, sum_bound(k)))
            return;
        if (i + 1 < r && memcmp(c + i * c_stride + n, before + i * c_stride + n, (c_stride - n) * sizeof *c) != 0) {
            check_fail(check, "what lies behind row %zu changed", i);
            return;
        }
    }
    // one output alone
    const size_t row = (size_t)check_below(check, rows), column = (size_t)check_below(check, columns);
    const float *shifted = check_copy(check, 5, b, ((k - 1) * b_stride + tile) * sizeof *b);
    float *place = one + row * c_stride + column;
    if (column == 0) {
        tier->gemm(1, 1, k, a + row * a_stride, a_stride, shifted, b_stride, place, c_stride, with_start ? start + row : NULL);
        if (memcmp(place, c + row * c_stride + column, sizeof *c) != 0)
            check_fail(check, "row %zu, column %zu is other bits when computed alone", row, column);
    } else { // computed with its columns further left: b begins later
        const size_t wide = (k - 1) * b_stride + column + tile;
        float *more = check_place(check, 6, wide * sizeof *more);
        memset(more, 0, wide * sizeof *more);
        for (size_t l = 0; l < k; l++)
            memcpy(more + l * b_stride, b + l * b_stride, tile * sizeof *b);
        tier->gemm(1, 1, k, a + row * a_stride, a_stride, more + column, b_stride, place, c_stride, with_start ? start + row : NULL);
        if (memcmp(place, c + row * c_stride + column, sizeof *c) != 0)
            check_fail(check, "row %zu, column %zu is other bits when computed alone", row, column);
    }
}

void check_gemm(checker *check)
{
    for (int rows = 1; rows <= check->tier->gemm_rows; rows++)
        for (int columns = 1; columns <= check->tier->gemm_columns; columns++)
            check_gemm_case(check, rows, columns, 1 + check_below(check, columns == 1 ? 300 : 20), check_below(check, 2));
}

typedef struct gemm_job {
    const qcnn_kernels *tier;
    const float *a, *b;
    float *c;
} gemm_job;

enum { BENCH_DEPTH = 576 };

static void run_gemm(void *argument)
{
    const gemm_job *job = argument;
    const size_t columns = (size_t)job->tier->gemm_columns;
    job->tier->gemm(job->tier->gemm_rows, job->tier->gemm_columns, BENCH_DEPTH, job->a, BENCH_DEPTH, job->b, columns, job->c, columns,
                    job->c);
}

void bench_gemm(checker *check)
{
    const size_t rows = (size_t)check->tier->gemm_rows, columns = (size_t)check->tier->gemm_columns;
    gemm_job job = { check->tier, check_floats(check, 0, rows * BENCH_DEPTH), check_floats(check, 1, BENCH_DEPTH * columns),
                     check_floats(check, 2, rows * columns) };
    check_time(check, "a whole tile, depth 576", (double)(rows * columns * BENCH_DEPTH), "MAC", run_gemm, &job);
}

// ---- dots -----------------------------------------------------------------------------------------------------------

static void check_dots_case(checker *check, int rows, int vectors, int length)
{
    const size_t r = (size_t)rows, v = (size_t)vectors, n = (size_t)length;
    const size_t w_stride = n + (size_t)check_below(check, 3), x_stride = n + (size_t)check_below(check, 3);
    const size_t y_stride = r + (size_t)check_below(check, 3), y_size = (v - 1) * y_stride + r;
    check_shape(check, "%d rows, %d vectors of %d, strides %zu %zu %zu", rows, vectors, length, w_stride, x_stride, y_stride);
    const float *w = check_floats(check, 0, (r - 1) * w_stride + n), *x = check_floats(check, 1, (v - 1) * x_stride + n);
    float *y = check_floats(check, 2, y_size);
    const float *before = memcpy(output, y, y_size * sizeof *y);
    for (size_t i = 0; i < y_size; i++) {
        expected[i] = before[i];
        magnitude[i] = i % y_stride < r ? fabsf(before[i]) : 0;
        for (size_t k = 0; i % y_stride < r && k < n; k++) {
            const double product = (double)w[i % y_stride * w_stride + k] * x[i / y_stride * x_stride + k];
            expected[i] += product;
            magnitude[i] += fabs(product);
        }
    }
    check->tier->dots(r, v, n, w, w_stride, x, x_stride, y, y_stride);
    if (!check_close(check, expected, magnitude, y, y_size, sum_bound(n)))
        return;
    const size_t row = (size_t)check_below(check, rows), vector = (size_t)check_below(check, vectors);
    float alone = before[vector * y_stride + row];
    check->tier->dots(1, 1, n, w + row * w_stride, w_stride, x + vector * x_stride, x_stride, &alone, 1);
    if (memcmp(&alone, y + vector * y_stride + row, sizeof alone) != 0)
        check_fail(check, "row %zu, vector %zu is other bits when computed alone", row, vector);
}

void check_dots(checker *check)
{
    for (int i = 0; i < 400; i++)
        check_dots_case(check, check_near(check, i % 2 ? 3 : 8), 1 + check_below(check, 9), check_near(check, i % 3 ? 16 : 200));
}

typedef struct dots_job {
    const qcnn_kernels *tier;
    const float *w, *x;
    float *y;
    size_t vectors;
} dots_job;

static void run_dots(void *argument)
{
    const dots_job *job = argument;
    job->tier->dots(64, job->vectors, 1024, job->w, 1024, job->x, 1024, job->y, 64);
}

void bench_dots(checker *check)
{
    dots_job job = { check->tier, check_floats(check, 0, 64 * 1024), check_floats(check, 1, 16 * 1024), check_floats(check, 2, 16 * 64),
                     1 };
    check_time(check, "64 rows of 1024, 1 vector", 64 * 1024.0, "MAC", run_dots, &job);
    job.vectors = 16;
    check_time(check, "64 rows of 1024, 16 vectors", 16 * 64 * 1024.0, "MAC", run_dots, &job);
}

// ---- depthwise ------------------------------------------------------------------------------------------------------

static void check_depthwise_case(checker *check, int outputs, int stride, int kernel)
{
    const size_t n = (size_t)outputs, s = (size_t)stride, side = (size_t)kernel, taps = side * side, width = (n - 1) * s + side;
    check_shape(check, "%d outputs, stride %d, %d x %d taps", outputs, stride, kernel, kernel);
    const float *rows = check_floats(check, 0, side * width), *w = check_floats(check, 1, taps);
    ptrdiff_t *offsets = check_place(check, 2, taps * sizeof *offsets);
    const size_t middle = side / 2 * width + side / 2; // offsets of both signs
    for (size_t t = 0; t < taps; t++)
        offsets[t] = (ptrdiff_t)(t / side * width + t % side) - (ptrdiff_t)middle;
    const float *x = rows + middle, bias = 0.5F;
    float *y = check_floats(check, 3, n);
    for (size_t j = 0; j < n; j++) {
        expected[j] = magnitude[j] = bias;
        for (size_t t = 0; t < taps; t++) {
            const double product = (double)w[t] * (x + offsets[t])[j * s];
            expected[j] += product;
            magnitude[j] += fabs(product);
        }
    }
    check->tier->depthwise(y, n, x, s, w, offsets, taps, bias);
    if (!check_close(check, expected, magnitude, y, n, sum_bound(taps)))
        return;
    const size_t begin = (size_t)check_below(check, outputs);
    float *part = check_place(check, 4, (n - begin) * sizeof *part);
    check->tier->depthwise(part, n - begin, x + begin * s, s, w, offsets, taps, bias);
    check_same(check, y + begin, part, (n - begin) * sizeof *part);
}

void check_depthwise(checker *check)
{
    for (int i = 0; i < 400; i++)
        check_depthwise_case(check, check_near(check, i % 2 ? 8 : 32), 1 + check_below(check, 3), 1 + check_below(check, 5));
}

typedef struct row_job {
    const qcnn_kernels *tier;
    float *y;
    const float *x, *w;
    const ptrdiff_t *offsets;
    size_t stride;
} row_job;

enum { BENCH_ROW = 56 };

static void run_depthwise(void *argument)
{
    const row_job *job = argument;
    job->tier->depthwise(job->y, BENCH_ROW, job->x, job->stride, job->w, job->offsets, 9, 0);
}

void bench_depthwise(checker *check)
{
    const size_t width = 2 * BENCH_ROW + 2;
    ptrdiff_t offsets[9];
    for (size_t t = 0; t < 9; t++)
        offsets[t] = (ptrdiff_t)(t / 3 * width + t % 3);
    row_job job = {
        check->tier, check_floats(check, 0, BENCH_ROW), check_floats(check, 1, 3 * width), check_floats(check, 2, 9), offsets, 1
    };
    check_time(check, "56 outputs, 3x3, stride 1", 9.0 * BENCH_ROW, "MAC", run_depthwise, &job);
    job.stride = 2;
    check_time(check, "56 outputs, 3x3, stride 2", 9.0 * BENCH_ROW, "MAC", run_depthwise, &job);
}

// ---- the steps of a pool: exact -------------------------------------------------------------------------------------

typedef void (*pool_step)(float *y, const float *x, size_t n, size_t stride);

static void check_pool_step(checker *check, pool_step reference, pool_step tested)
{
    for (int i = 0; i < 300; i++) {
        const size_t n = (size_t)check_near(check, i % 2 ? 8 : 32), stride = 1 + (size_t)check_below(check, 4);
        check_shape(check, "%zu elements, stride %zu", n, stride);
        float *x = check_floats(check, 0, (n - 1) * stride + 1), *y = check_floats(check, 1, n);
        if (i % 3 == 0) { // special values in both
            const float special[] = { NAN, INFINITY, -INFINITY, 0.0F, -0.0F };
            for (size_t j = 0; j < n; j++) {
                x[j * stride] = special[check_below(check, 5)];
                y[j] = special[check_below(check, 5)];
            }
        }
        float *other = check_copy(check, 2, y, n * sizeof *y);
        reference(y, x, n, stride);
        tested(other, x, n, stride);
        for (size_t j = 0; j < n; j++) // which NaN it is does not matter
            if (isnan(y[j]) && isnan(other[j]))
                y[j] = other[j] = 0;
        check_same(check, y, other, n * sizeof *y);
    }
}

void check_maximum(checker *check)
{
    check_pool_step(check, check->c->maximum, check->tier->maximum);
}

void check_accumulate(checker *check)
{
    check_pool_step(check, check->c->accumulate, check->tier->accumulate);
}

static void run_maximum(void *argument)
{
    const row_job *job = argument;
    job->tier->maximum(job->y, job->x, BENCH_ROW, job->stride);
}

static void run_accumulate(void *argument)
{
    const row_job *job = argument;
    job->tier->accumulate(job->y, job->x, BENCH_ROW, job->stride);
}

static void bench_pool_step(checker *check, void (*body)(void *argument))
{
    row_job job = { .tier = check->tier, .y = check_floats(check, 0, BENCH_ROW), .x = check_floats(check, 1, 2 * BENCH_ROW), .stride = 1 };
    check_time(check, "56 elements, stride 1", BENCH_ROW, "op", body, &job);
    job.stride = 2;
    check_time(check, "56 elements, stride 2", BENCH_ROW, "op", body, &job);
}

void bench_maximum(checker *check)
{
    bench_pool_step(check, run_maximum);
}

void bench_accumulate(checker *check)
{
    bench_pool_step(check, run_accumulate);
}

// ---- normalization --------------------------------------------------------------------------------------------------

static void check_lrn_case(checker *check, int elements, int n_rows, float beta)
{
    const size_t n = (size_t)elements, rows_n = (size_t)n_rows, stride = n + (size_t)check_below(check, 4);
    const float scale = 0.3F, bias = 1.5F;
    check_shape(check, "%d elements, %d rows, beta %g", elements, n_rows, (double)beta);
    const float *rows = check_floats(check, 0, (rows_n - 1) * stride + n), *x = check_floats(check, 1, n);
    float *y = check_floats(check, 2, n);
    for (size_t j = 0; j < n; j++) {
        double sum = 0;
        for (size_t i = 0; i < rows_n; i++)
            sum += (double)rows[i * stride + j] * rows[i * stride + j];
        expected[j] = x[j] * pow((double)bias + (double)scale * sum, -(double)beta);
    }
    check->tier->lrn(y, x, rows, stride, rows_n, n, scale, beta, bias);
    if (!check_close(check, expected, NULL, y, n, 0x1p-20))
        return;
    const size_t begin = (size_t)check_below(check, elements);
    float *part = check_place(check, 3, (n - begin) * sizeof *part);
    check->tier->lrn(part, x + begin, rows + begin, stride, rows_n, n - begin, scale, beta, bias);
    check_same(check, y + begin, part, (n - begin) * sizeof *part);
}

void check_lrn(checker *check)
{
    for (int i = 0; i < 200; i++)
        check_lrn_case(check, check_near(check, 8), 1 + check_below(check, 6), i % 4 ? 0.75F : 0.6F);
}

typedef struct lrn_job {
    const qcnn_kernels *tier;
    float *y;
    const float *x;
} lrn_job;

static void run_lrn(void *argument)
{
    const lrn_job *job = argument;
    job->tier->lrn(job->y, job->x, job->x, 2048, 5, 2048, 1e-4F / 5, 0.75F, 1);
}

void bench_lrn(checker *check)
{
    lrn_job job = { check->tier, check_floats(check, 0, 2048), check_floats(check, 1, 5 * 2048) };
    check_time(check, "2048 elements, 5 rows", 2048, "el", run_lrn, &job);
}

// ---- functions of one argument --------------------------------------------------------------------------------------

// Within 2^-21 of what the C tier gives: the C library's functions, or a tier's own approximations of them.
static void check_activation(checker *check, qcnn_activation activation)
{
    for (int i = 0; i < 24; i++) {
        const size_t n = (size_t)check_near(check, i % 2 ? 8 : 32);
        const bool in_place = check_below(check, 2);
        check_shape(check, "function %d, %zu elements%s", (int)activation.function, n, in_place ? ", in place" : "");
        float *x = check_floats(check, 0, n);
        for (size_t j = 0; j < n; j++)
            x[j] *= i % 3 ? 10.0F : 2.0F;
        if (i == 0 && n > 1) {
            x[0] = NAN;
            x[1] = -0.0F;
        }
        check->c->activate(&activation, output, x, n);
        float *y = in_place ? x : check_place(check, 1, n * sizeof *y);
        check->tier->activate(&activation, y, x, n);
        for (size_t j = 0; j < n; j++)
            expected[j] = output[j];
        check_close(check, expected, NULL, y, n, 0x1p-21);
    }
}

void check_activate(checker *check)
{
    for (int function = QCNN_IDENTITY; function <= QCNN_RECIPROCAL; function++)
        check_activation(check, (qcnn_activation){ (qcnn_function)function, function == QCNN_CLIP ? -0.5F : 0.2F, 0.75F });
}

static void run_activate(void *argument)
{
    const lrn_job *job = argument;
    job->tier->activate(&(qcnn_activation){ .function = QCNN_RELU }, job->y, job->x, 2048);
}

static void run_sigmoid(void *argument)
{
    const lrn_job *job = argument;
    job->tier->activate(&(qcnn_activation){ .function = QCNN_SIGMOID }, job->y, job->x, 2048);
}

void bench_activate(checker *check)
{
    lrn_job job = { check->tier, check_floats(check, 0, 2048), check_floats(check, 1, 2048) };
    check_time(check, "relu, 2048 elements", 2048, "el", run_activate, &job);
    check_time(check, "sigmoid, 2048 elements", 2048, "el", run_sigmoid, &job);
}
