// SPDX-License-Identifier: Apache-2.0
// Convolution as a matrix product: output (channels, positions) = weights (channels, depth) x patches (depth, positions),
// depth = input channels of a group x taps. Weights are read as stored, from a mapped file if need be. Patches are packed
// block by block into panels of gemm_columns positions, small enough to stay in the second-level cache:
//
//     panel[k][column], k < DEPTH_BLOCK
//
// Every output sums its depth in blocks of DEPTH_BLOCK in rising order, whatever the split over workers.

#include <string.h>

#include "engine/layers.h"

enum { DEPTH_BLOCK = 256, COLUMN_BLOCK = 192, MIN_COLUMN_BLOCK = 32 };

// Neighbouring output positions within one panel and one output row; the input index of tap 0 of the first of them.
typedef struct patch_run {
    int column, n; // in the block of columns
    int64_t z, y, x;
} patch_run;

typedef struct conv_job {
    const qcnn_step *step;
    qcnn_window window;
    int64_t n_images, groups, n_inputs, n_outputs; // channels of one group
    int64_t depth, positions;
    int64_t column_block, n_column_blocks, row_block, n_row_blocks;
} conv_job;

static conv_job conv_measure(const qcnn_step *step)
{
    const qcnn_attributes *a = &step->node->attributes;
    const qcnn_shape *x = &step->inputs[0].shape, *y = &step->output_shape;
    conv_job job = { .step = step, .window = qcnn_window_of(a, x, y), .n_images = x->dims[0], .groups = a->groups };
    job.n_inputs = x->dims[1] / a->groups;
    job.n_outputs = y->dims[1] / a->groups;
    job.depth = job.n_inputs * job.window.n_taps;
    job.positions = job.window.out_elements;
    qcnn_window_flatten(&job.window);
    return job;
}

static int64_t ceil_divide(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

// Blocks of columns and rows: as large as the cache likes, smaller while workers would be idle.
static void conv_split(conv_job *job, int n_workers)
{
    const int64_t panel = job->step->kernels->gemm_columns, rows = job->step->kernels->gemm_rows;
    const int64_t wanted = n_workers > 1 ? 4 * n_workers : 1, pieces = job->n_images * job->groups;
    const int64_t wanted_columns = ceil_divide(wanted, pieces);
    job->column_block = ceil_divide(ceil_divide(job->positions, wanted_columns), panel) * panel;
    if (job->column_block < MIN_COLUMN_BLOCK)
        job->column_block = MIN_COLUMN_BLOCK;
    if (job->column_block > COLUMN_BLOCK)
        job->column_block = COLUMN_BLOCK;
    job->n_column_blocks = ceil_divide(job->positions, job->column_block);
    const int64_t wanted_rows = ceil_divide(wanted, pieces * job->n_column_blocks);
    job->row_block = ceil_divide(ceil_divide(job->n_outputs, wanted_rows), rows) * rows;
    job->n_row_blocks = ceil_divide(job->n_outputs, job->row_block);
}

static void conv_dense_plan(qcnn_step *step)
{
    if (qcnn_is_depthwise(step)) {
        qcnn_depthwise_plan(step);
        return;
    }
    const conv_job job = conv_measure(step);
    const int64_t depth = job.depth < DEPTH_BLOCK ? job.depth : DEPTH_BLOCK;
    step->worker_bytes = (size_t)depth * COLUMN_BLOCK * sizeof(float) + COLUMN_BLOCK * sizeof(patch_run);
}

// ---- packing --------------------------------------------------------------------------------------------------------

// The runs of columns first..first+n-1; returns how many.
static int find_runs(const conv_job *job, int64_t first, int64_t n, patch_run *runs)
{
    const qcnn_window *w = &job->window;
    const int panel = job->step->kernels->gemm_columns;
    int n_runs = 0;
    for (int column = 0; column < n; n_runs++) {
        const int64_t position = first + column, x = position % w->out[2], row = position / w->out[2];
        int64_t length = w->out[2] - x;
        if (length > panel - column % panel)
            length = panel - column % panel;
        if (length > n - column)
            length = n - column;
        runs[n_runs] = (patch_run){ .column = column,
                                    .n = (int)length,
                                    .z = row / w->out[1] * w->stride[0] - w->begin[0],
                                    .y = row % w->out[1] * w->stride[1] - w->begin[1],
                                    .x = x * w->stride[2] - w->begin[2] };
        column += (int)length;
    }
    return n_runs;
}

static inline void copy_run(float *to, const float *from, int n, int64_t stride)
{
    if (stride == 1 && n == 16)
        memcpy(to, from, 16 * sizeof *to); // a whole panel: a few vector moves
    else if (stride == 1)
        memcpy(to, from, (size_t)n * sizeof *to);
    else
        for (int i = 0; i < n; i++)
            to[i] = from[i * stride];
}

// One tap of a run for channels 0..n-1: to[channel * to_stride + i] = the input under position i, or 0 in the padding.
static void pack_tap(const qcnn_window *w, const patch_run *run, const int64_t tap[3], const float *input, int64_t n_channels, float *to,
                     size_t to_stride)
{
    const int64_t z = run->z + tap[0] * w->dilation[0], y = run->y + tap[1] * w->dilation[1], x = run->x + tap[2] * w->dilation[2];
    const int64_t stride = w->stride[2];
    int first = 0, end = run->n; // columns inside the input
    if (z < 0 || z >= w->in[0] || y < 0 || y >= w->in[1])
        end = 0;
    else {
        if (x < 0)
            first = -x < run->n * stride ? (int)ceil_divide(-x, stride) : run->n;
        if (x + (run->n - 1) * stride >= w->in[2])
            end = x < w->in[2] ? (int)((w->in[2] - 1 - x) / stride + 1) : 0;
    }
    if (first >= end) {
        for (int64_t c = 0; c < n_channels; c++, to += to_stride)
            memset(to, 0, (size_t)run->n * sizeof *to);
        return;
    }
    const float *from = input + (z * w->in[1] + y) * w->in[2] + x;
    for (int64_t c = 0; c < n_channels; c++, to += to_stride, from += w->in_elements) {
        if (first > 0)
            memset(to, 0, (size_t)first * sizeof *to);
        copy_run(to + first, from + first * stride, end - first, stride);
        if (end < run->n)
            memset(to + end, 0, (size_t)(run->n - end) * sizeof *to);
    }
}

// Packs rows k0..k0+n_depth-1 of the patches of a block of columns into panels of [n_depth][gemm_columns].
static void pack_patches(const conv_job *job, const float *input, const patch_run *runs, int n_runs, int64_t k0, int64_t n_depth,
                         float *panels)
{
    const qcnn_window *w = &job->window;
    const int64_t panel = job->step->kernels->gemm_columns, n_taps = w->n_taps;
    const int n_columns = runs[n_runs - 1].column + runs[n_runs - 1].n;
    if (n_columns % panel) // lanes without a position are computed and dropped
        memset(panels + n_columns / panel * panel * n_depth, 0, (size_t)(panel * n_depth) * sizeof *panels);
    const int64_t last_tap = k0 / n_taps == (k0 + n_depth - 1) / n_taps ? (k0 + n_depth - 1) % n_taps : n_taps - 1;
    for (int64_t t = k0 / n_taps == (k0 + n_depth - 1) / n_taps ? k0 % n_taps : 0; t <= last_tap; t++) {
        const int64_t c0 = k0 > t ? ceil_divide(k0 - t, n_taps) : 0; // channels c with k0 <= c * n_taps + t < k0 + n_depth
        const int64_t c1 = k0 + n_depth > t ? ceil_divide(k0 + n_depth - t, n_taps) : 0;
        if (c0 >= c1)
            continue;
        const int64_t tap[3] = { t / w->kernel[2] / w->kernel[1], t / w->kernel[2] % w->kernel[1], t % w->kernel[2] };
        float *row = panels + (c0 * n_taps + t - k0) * panel;
        for (int i = 0; i < n_runs; i++)
            pack_tap(w, &runs[i], tap, input + c0 * w->in_elements, c1 - c0,
                     row + runs[i].column / panel * panel * n_depth + runs[i].column % panel, (size_t)(n_taps * panel));
    }
}

// ---- running --------------------------------------------------------------------------------------------------------

// Adds n_depth of the depth to a block of outputs [n_rows][n_columns].
static void multiply_block(const conv_job *job, const float *weights, const float *bias, int64_t n_rows, int64_t n_columns,
                           bool first_block, int64_t n_depth, const float *panels, float *output)
{
    static const float no_bias[QCNN_GEMM_MAX_ROWS];
    const qcnn_kernels *kernels = job->step->kernels;
    for (int64_t r = 0; r < n_rows; r += kernels->gemm_rows) {
        const int rows = (int)(n_rows - r < kernels->gemm_rows ? n_rows - r : kernels->gemm_rows);
        const float *start = !first_block ? NULL : bias ? bias + r : no_bias;
        for (int64_t j = 0; j < n_columns; j += kernels->gemm_columns) {
            const int columns = (int)(n_columns - j < kernels->gemm_columns ? n_columns - j : kernels->gemm_columns);
            kernels->gemm(rows, columns, (size_t)n_depth, weights + r * job->depth, (size_t)job->depth, panels + j * n_depth,
                          (size_t)kernels->gemm_columns, output + r * job->positions + j, (size_t)job->positions, start);
        }
    }
}

static void run_conv_block(const conv_job *job, int64_t index, unsigned char *scratch)
{
    const qcnn_step *step = job->step;
    const int64_t column_index = index % job->n_column_blocks, row_index = index / job->n_column_blocks % job->n_row_blocks;
    const int64_t piece = index / job->n_column_blocks / job->n_row_blocks; // image * groups + group
    const int64_t group = piece % job->groups;
    const int64_t j0 = column_index * job->column_block, r0 = row_index * job->row_block;
    const int64_t n_columns = job->positions - j0 < job->column_block ? job->positions - j0 : job->column_block;
    const int64_t n_rows = job->n_outputs - r0 < job->row_block ? job->n_outputs - r0 : job->row_block;

    patch_run *runs = (patch_run *)(void *)scratch;
    float *panels = (float *)(void *)(scratch + COLUMN_BLOCK * sizeof(patch_run));
    const int n_runs = find_runs(job, j0, n_columns, runs);
    const float *input = step->inputs[0].data + piece * job->n_inputs * job->window.in_elements;
    const float *weights = step->inputs[1].data + (group * job->n_outputs + r0) * job->depth;
    const bool has_bias = step->node->n_inputs > 2 && step->inputs[2].data;
    const float *bias = has_bias ? step->inputs[2].data + group * job->n_outputs + r0 : NULL;
    float *output = step->output + (piece * job->n_outputs + r0) * job->positions + j0;
    for (int64_t k = 0; k < job->depth; k += DEPTH_BLOCK) {
        const int64_t n_depth = job->depth - k < DEPTH_BLOCK ? job->depth - k : DEPTH_BLOCK;
        pack_patches(job, input, runs, n_runs, k, n_depth, panels);
        multiply_block(job, weights + k, bias, n_rows, n_columns, k == 0, n_depth, panels, output);
    }
    for (int64_t r = 0; r < n_rows; r++)
        qcnn_fused_activation(step, output + r * job->positions, (size_t)n_columns);
}

static void run_conv_blocks(void *argument, int64_t begin, int64_t end, int worker)
{
    const conv_job *job = argument;
    for (int64_t i = begin; i < end; i++)
        run_conv_block(job, i, job->step->worker + (size_t)worker * job->step->worker_bytes);
}

static void conv_dense_run(const qcnn_step *step, const qcnn_parallel *parallel)
{
    if (qcnn_is_depthwise(step)) {
        qcnn_depthwise_run(step, parallel);
        return;
    }
    conv_job job = conv_measure(step);
    conv_split(&job, qcnn_n_workers(parallel));
    qcnn_for_range(parallel, job.n_images * job.groups * job.n_row_blocks * job.n_column_blocks, 1, run_conv_blocks, &job);
}

const qcnn_layer_type qcnn_layer_conv_dense = { .plan = conv_dense_plan, .run = conv_dense_run };
