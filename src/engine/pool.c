// SPDX-License-Identifier: Apache-2.0
// Max and average pools. Each output row is made in two steps: the input rows under it are combined into one row, element
// by element, and that row is combined along its width.

#include <math.h>

#include "engine/layers.h"

typedef struct pool_job {
    const qcnn_step *step;
    qcnn_window window;
    void (*combine)(float *y, const float *x, size_t n, size_t stride);
    float start; // what nothing combines to
    bool padded; // a max pool whose row has room for the padding (fits_padded)
} pool_job;

// Columns that the windows of an output row reach over, counted from the first one's start.
static int64_t columns_reached(const qcnn_window *w)
{
    return (w->out[2] - 1) * w->stride[2] + w->kernel[2];
}

// Whether a max pool takes the fast way: no gaps between taps and little padding, so that a row with its padding in place makes
// all windows of it alike.
static bool fits_padded(const qcnn_window *w)
{
    return w->dilation[1] == 1 && w->dilation[2] == 1 && w->kernel[0] == 1 && w->stride[0] == 1 && w->in[0] == w->out[0] &&
           w->begin[0] == 0 && w->begin[2] < w->kernel[2] && columns_reached(w) <= w->begin[2] + w->in[2] + w->kernel[2];
}

static void pool_plan(qcnn_step *step)
{
    const qcnn_window w = qcnn_window_of(&step->node->attributes, &step->inputs[0].shape, &step->output_shape);
    const int64_t room = fits_padded(&w) ? w.begin[2] + w.in[2] + w.kernel[2] : w.in[2];
    uint64_t n = (uint64_t)room;
    if (qcnn_is_plane(&step->inputs[0].format)) {
        if (step->node->op == QCNN_OP_AVERAGE_POOL) // four planes of floats before the row
            n += 4 * (uint64_t)w.in_elements;
        else // a row of quads that becomes floats
            n = qcnn_is_plane(&step->output_format) ? 0 : (uint64_t)w.out[2];
    }
    step->worker_bytes = qcnn_plan_bytes(n, sizeof(float), 1);
}

static void fill_plane(float *y, int64_t n, float value)
{
    for (int64_t j = 0; j < n; j++)
        y[j] = value;
}

// How many taps an average at `position` divides by, along one dimension.
static double taps_counted(const qcnn_window *w, int i, int64_t position, bool include_padding)
{
    int64_t first, last;
    qcnn_window_taps(w, i, position, &first, &last);
    if (!include_padding)
        return last > first ? (double)(last - first) : 0;
    const int64_t room = w->in[i] + w->end[i] + w->begin[i] - position * w->stride[i]; // up to the end of the padding
    const int64_t taps = (room + w->dilation[i] - 1) / w->dilation[i];
    return (double)(taps < w->kernel[i] ? taps : w->kernel[i]);
}

// row[x] = what the window's taps above and below combine to at input column x.
static void combine_rows(const pool_job *job, const float *plane, int64_t out_z, int64_t out_y, float *row)
{
    const qcnn_window *w = &job->window;
    int64_t z, last_z, first_y, last_y;
    fill_plane(row, w->in[2], job->start);
    qcnn_window_taps(w, 0, out_z, &z, &last_z);
    qcnn_window_taps(w, 1, out_y, &first_y, &last_y);
    for (; z < last_z; z++)
        for (int64_t y = first_y; y < last_y; y++) {
            const int64_t in_z = out_z * w->stride[0] - w->begin[0] + z * w->dilation[0];
            const int64_t in_y = out_y * w->stride[1] - w->begin[1] + y * w->dilation[1];
            job->combine(row, plane + (in_z * w->in[1] + in_y) * w->in[2], (size_t)w->in[2], 1);
        }
}

// y[j] = what the taps of window j combine to along `row`.
static void combine_columns(const pool_job *job, const float *row, float *y)
{
    const qcnn_window *w = &job->window;
    const int64_t stride = w->stride[2];
    fill_plane(y, w->out[2], job->start);
    for (int64_t t = 0; t < w->kernel[2]; t++) {
        const int64_t start = t * w->dilation[2] - w->begin[2]; // input column under tap t of window 0
        const int64_t first = start < 0 ? (-start + stride - 1) / stride : 0;
        int64_t last = start < w->in[2] ? (w->in[2] - 1 - start) / stride + 1 : 0;
        if (last > w->out[2])
            last = w->out[2];
        if (first < last)
            job->combine(y + first, row + start + first * stride, (size_t)(last - first), (size_t)stride);
    }
}

// One output row of a max pool over `row`, whose padding is -INFINITY already.
static void max_row(const pool_job *job, const float *plane, int64_t out_y, float *row, float *y)
{
    const qcnn_window *w = &job->window;
    const int64_t top = out_y * w->stride[1] - w->begin[1], first = top > 0 ? top : 0; // input rows first..last-1
    const int64_t last = top + w->kernel[1] < w->in[1] ? top + w->kernel[1] : w->in[1];
    if (first < last && w->begin[2] == 0 && columns_reached(w) <= w->in[2]) { // no padding beside: straight from the input
        job->step->kernels->max_windows(y, plane + first * w->in[2], (size_t)w->in[2], (size_t)(last - first), (size_t)w->out[2],
                                        (size_t)w->kernel[2], (size_t)w->stride[2]);
        return;
    }
    if (first < last)
        job->step->kernels->max_rows(row + w->begin[2], plane + first * w->in[2], (size_t)w->in[2], (size_t)(last - first),
                                     (size_t)w->in[2]);
    else
        fill_plane(row + w->begin[2], w->in[2], job->start);
    job->step->kernels->max_columns(y, row, (size_t)w->out[2], (size_t)w->kernel[2], (size_t)w->stride[2]);
}

static void divide_by_counts(const pool_job *job, int64_t out_z, int64_t out_y, float *y)
{
    const qcnn_window *w = &job->window;
    const bool include = job->step->node->attributes.count_include_pad != 0;
    const double above = taps_counted(w, 0, out_z, include) * taps_counted(w, 1, out_y, include);
    for (int64_t x = 0; x < w->out[2]; x++) {
        const double n = above * taps_counted(w, 2, x, include);
        y[x] = n > 0 ? y[x] / (float)n : 0; // 0: dilated past all of the input
    }
}

// One plane; `row` has its padding where the pool has the fast way.
static void pool_plane(const pool_job *job, const float *plane, float *row, float *y)
{
    const qcnn_window *w = &job->window;
    const bool average = job->step->node->op == QCNN_OP_AVERAGE_POOL;
    for (int64_t z = 0; job->padded && z < w->out[0]; z++)
        for (int64_t out_y = 0; out_y < w->out[1]; out_y++, y += w->out[2])
            max_row(job, plane + z * w->in[1] * w->in[2], out_y, row, y);
    for (int64_t out_z = 0; !job->padded && out_z < w->out[0]; out_z++)
        for (int64_t out_y = 0; out_y < w->out[1]; out_y++, y += w->out[2]) {
            combine_rows(job, plane, out_z, out_y, row);
            combine_columns(job, row, y);
            if (average)
                divide_by_counts(job, out_z, out_y, y);
        }
}

// Planes begin..end-1 of all images and channels.
static void run_pool_planes(void *argument, int64_t begin, int64_t end, int worker)
{
    const pool_job *job = argument;
    const qcnn_window *w = &job->window;
    float *row = (float *)(void *)(job->step->worker + (size_t)worker * job->step->worker_bytes);
    if (job->padded) {
        fill_plane(row, w->begin[2], job->start);
        fill_plane(row + w->begin[2] + w->in[2], w->kernel[2], job->start);
    }
    for (int64_t i = begin; i < end; i++)
        pool_plane(job, job->step->inputs[0].data + i * w->in_elements, row, job->step->output + i * w->out_elements);
}

// ---- byte planes ----------------------------------------------------------------------------------------------------

// One output row of a max pool over a quad. Taps in the padding are left out: nothing is below zero, and no window is all padding.
static void max_quad_row(const pool_job *job, const uint8_t *quad, int64_t out_y, uint8_t *y)
{
    const qcnn_window *w = &job->window;
    int64_t first_y, last_y;
    qcnn_window_taps(w, 1, out_y, &first_y, &last_y);
    const uint8_t *rows = quad + (out_y * w->stride[1] - w->begin[1] + first_y) * w->in[2] * 4;
    for (int64_t x = 0, n; x < w->out[2]; x += n) { // as many windows as have all their taps, or else one
        const int64_t left = x * w->stride[2] - w->begin[2], whole = (w->in[2] - w->kernel[2] - left) / w->stride[2] + 1;
        int64_t first, last;
        n = left >= 0 && left + w->kernel[2] <= w->in[2] ? (whole < w->out[2] - x ? whole : w->out[2] - x) : 1;
        qcnn_window_taps(w, 2, x, &first, &last);
        job->step->kernels->max_quads(y + 4 * x, rows + (left + first) * 4, (size_t)w->in[2] * 4, (size_t)(last_y - first_y), (size_t)n,
                                      (size_t)(last - first), (size_t)w->stride[2]);
    }
}

static float *plane_of_quad(const qcnn_step *step, int64_t quad, int64_t plane, int64_t *n_channels)
{
    const int64_t channels = step->output_shape.dims[1], n_quads = (int64_t)qcnn_shape_quads(&step->output_shape);
    const int64_t channel = quad % n_quads * 4;
    *n_channels = channels - channel < 4 ? channels - channel : 4;
    return step->output + (quad / n_quads * channels + channel) * plane;
}

// Max pools: output rows begin..end-1 of all images, of all quads. Workers have rows, as in convolutions: they stay in a core's cache.
// (But whole images of floats, whose short rows would share cache lines.)
static void run_max_quads(void *argument, int64_t begin, int64_t end, int worker)
{
    const pool_job *job = argument;
    const qcnn_step *step = job->step;
    const qcnn_window *w = &job->window;
    const int64_t n_quads = (int64_t)qcnn_shape_quads(&step->output_shape), first_image = begin / w->out[1],
                  last_image = (end - 1) / w->out[1];
    unsigned char *scratch = step->worker + (size_t)worker * step->worker_bytes;
    for (int64_t quad = first_image * n_quads; quad < (last_image + 1) * n_quads; quad++) {
        const int64_t image = quad / n_quads, first = begin - image * w->out[1], last = end - image * w->out[1];
        for (int64_t y = first > 0 ? first : 0; y < (last < w->out[1] ? last : w->out[1]); y++) {
            uint8_t *to = step->output_quads ? step->output_quads + (quad * w->out[1] + y) * w->out[2] * 4 : scratch;
            max_quad_row(job, step->inputs[0].quads + quad * w->in_elements * 4, y, to);
            if (step->output_quads)
                continue;
            int64_t n;
            float *planes = plane_of_quad(step, quad, w->out_elements, &n);
            step->kernels->dequantize_quads((size_t)w->out[2], to, (int)n, step->inputs[0].format.scale, planes + y * w->out[2],
                                            (size_t)w->out_elements);
        }
    }
}

// Averages: quads begin..end-1 of all images.
static void run_average_quads(void *argument, int64_t begin, int64_t end, int worker)
{
    const pool_job *job = argument;
    const qcnn_step *step = job->step;
    const qcnn_window *w = &job->window;
    float *planes = (float *)(void *)(step->worker + (size_t)worker * step->worker_bytes);
    for (int64_t i = begin; i < end; i++) {
        int64_t n;
        float *y = plane_of_quad(step, i, w->out_elements, &n);
        step->kernels->dequantize_quads((size_t)w->in_elements, step->inputs[0].quads + i * w->in_elements * 4, (int)n,
                                        step->inputs[0].format.scale, planes, (size_t)w->in_elements);
        for (int64_t c = 0; c < n; c++)
            pool_plane(job, planes + c * w->in_elements, planes + 4 * w->in_elements, y + c * w->out_elements);
    }
}

// Max pools whose windows all have a tap inside the input, in one or two dimensions; averages, which are of floats.
static bool reads_pool_quads(const qcnn_step *step)
{
    const qcnn_window w = qcnn_window_of(&step->node->attributes, &step->inputs[0].shape, &step->output_shape);
    if (step->node->op == QCNN_OP_AVERAGE_POOL)
        return true;
    bool inside = w.dilation[1] == 1 && w.dilation[2] == 1 && step->node->attributes.n_spatial <= 2;
    for (int i = 1; i < 3; i++)
        inside &= w.begin[i] < w.kernel[i] && (w.out[i] - 1) * w.stride[i] - w.begin[i] < w.in[i];
    return inside;
}

static bool writes_pool_quads(const qcnn_step *step)
{
    return step->node->op == QCNN_OP_MAX_POOL && qcnn_is_plane(&step->inputs[0].format);
}

static void pool_run(const qcnn_step *step, const qcnn_parallel *parallel)
{
    const qcnn_shape *x = &step->inputs[0].shape;
    pool_job job = { step, qcnn_window_of(&step->node->attributes, x, &step->output_shape), step->kernels->maximum, -INFINITY, false };
    job.padded = fits_padded(&job.window);
    if (step->node->op == QCNN_OP_AVERAGE_POOL) {
        job.combine = step->kernels->accumulate;
        job.start = 0;
        job.padded = false;
    }
    const int64_t n_quads = x->dims[0] * (int64_t)qcnn_shape_quads(x);
    if (step->inputs[0].quads && step->node->op == QCNN_OP_MAX_POOL)
        qcnn_for_range(parallel, x->dims[0] * job.window.out[1], step->output_quads ? 1 : job.window.out[1], run_max_quads, &job);
    else if (step->inputs[0].quads)
        qcnn_for_range(parallel, n_quads, 1, run_average_quads, &job);
    else
        qcnn_for_range(parallel, x->dims[0] * x->dims[1], 1, run_pool_planes, &job);
}

const qcnn_layer_type qcnn_layer_max_pool = {
    .plan = pool_plan, .run = pool_run, .reads_quads = reads_pool_quads, .writes_quads = writes_pool_quads
};
const qcnn_layer_type qcnn_layer_average_pool = { .plan = pool_plan, .run = pool_run, .reads_quads = reads_pool_quads };
