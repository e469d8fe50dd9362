// SPDX-License-Identifier: Apache-2.0
// Gathering patches and summing their products. Rows are collected until they make a product worth its while; from each, the
// mean of the first rows is taken out at once, so that the sums lose no digits to it, and the rest of the mean at the end.

#include "compress/statistics.h"

#include <string.h>

#include "base/parallel.h"
#include "base/rng.h"
#include "compress/blas.h"
#include "compress/gemm_bf16.h"
#include "engine/layers.h"

enum { BLOCK_ROWS = 1024, MAX_BATCH = 256, BATCH_ROWS = 4096, MOST_WANTED_ROWS = 4096, MOST_WANTED = 40 << 20 };

struct qcnn_statistics_builder {
    qcnn_statistics s;
    const qcnn_parallel *parallel;
    qcnn_window window;
    int n_channels;                 // of a group
    int n_positions, n_fit_samples; // positions taken of a sample
    int max_batch;                  // samples gathered at once
    size_t max_wanted;              // rows of o to be kept
    uint64_t seed;
    bool shifted;
    float *shift;     // [groups][n]
    float *x, *delta; // [BLOCK_ROWS + n_positions * batch][groups * n]: inputs, and o - x
    float *residual;  // [rows][n_outputs]: of one group
    int n_filled, capacity;
    bool all_equal; // o was x in all rows of the block
    // the batch being gathered
    int first;
    const float *const *batch_x, *const *batch_o;
};

// ---- memory ---------------------------------------------------------------------------------------------------------

static void free_matrices(float **matrices, int n)
{
    for (int g = 0; matrices && g < n; g++)
        qcnn_release(matrices[g]);
    qcnn_release(matrices);
}

static qcnn_status new_matrices(int n, size_t rows, size_t columns, float ***matrices, qcnn_error *error)
{
    *matrices = qcnn_allocate_zeroed((size_t)n, sizeof **matrices);
    if (!*matrices)
        return qcnn_fail_memory(error, (size_t)n * sizeof **matrices);
    for (int g = 0; g < n; g++) {
        (*matrices)[g] = qcnn_allocate_zeroed(rows * columns, sizeof(float));
        if (!(*matrices)[g])
            return qcnn_fail_memory(error, rows * columns * sizeof(float));
    }
    return QCNN_OK;
}

void qcnn_statistics_free(qcnn_statistics *s)
{
    free_matrices(s->weights, s->groups);
    free_matrices(s->gram, s->groups);
    free_matrices(s->cross, s->groups);
    free_matrices(s->held_inputs, s->groups);
    free_matrices(s->held_residual, s->groups);
    qcnn_release(s->map_cross);
    qcnn_release(s->wanted_inputs);
    qcnn_release(s->input_mean);
    qcnn_release(s->wanted_mean);
    *s = (qcnn_statistics){ 0 };
}

void qcnn_statistics_free_builder(qcnn_statistics_builder *builder)
{
    if (!builder)
        return;
    qcnn_statistics_free(&builder->s);
    qcnn_release(builder->shift);
    qcnn_release(builder->x);
    qcnn_release(builder->delta);
    qcnn_release(builder->residual);
    qcnn_release(builder);
}

// ---- beginning ------------------------------------------------------------------------------------------------------

// W[tap * channels + channel][output] of each group, from [groups * outputs][channels][taps].
static void transpose_weights(const qcnn_statistics_builder *b, const float *weights)
{
    enum { SIDE = 16 }; // cache lines at both ends
    const size_t n_taps = (size_t)b->window.n_taps, n_channels = (size_t)b->n_channels, n_outputs = (size_t)b->s.n_outputs;
    for (int g = 0; g < b->s.groups; g++)
        for (size_t first = 0; first < n_outputs; first += SIDE)
            for (size_t i = 0; i < n_channels * n_taps; i++)
                for (size_t o = first, c = i / n_taps, t = i % n_taps; o < n_outputs && o < first + SIDE; o++)
                    b->s.weights[g][(t * n_channels + c) * n_outputs + o] =
                        weights[(((size_t)g * n_outputs + o) * n_channels + c) * n_taps + t];
}

static qcnn_window window_of(const qcnn_model *model, const qcnn_node *node)
{
    const qcnn_shape *x = &model->values[node->inputs[0]].shape, *y = &model->values[node->output].shape;
    if (node->op == QCNN_OP_CONV)
        return qcnn_window_of(&node->attributes, x, y);
    const int64_t n_rows = (int64_t)qcnn_shape_elements(x) / x->dims[x->rank - 1];
    qcnn_window flat = { .in = { 1, 1, n_rows }, .out = { 1, 1, n_rows }, .in_elements = n_rows, .out_elements = n_rows, .n_taps = 1 };
    for (int i = 0; i < 3; i++)
        flat.kernel[i] = flat.stride[i] = flat.dilation[i] = 1;
    return flat;
}

// The feature maps that the rows of a fully-connected layer are made of: only reshapes in between.
static int count_maps(const qcnn_model *model, const qcnn_node *node, int n)
{
    int value = node->inputs[0];
    for (size_t i = (size_t)(node - model->nodes); node->op == QCNN_OP_FC && i-- > 0;) {
        const qcnn_shape *shape = &model->values[value].shape;
        if (shape->rank == 4 && shape->dims[2] * shape->dims[3] > 1 && shape->dims[1] * shape->dims[2] * shape->dims[3] == n)
            return (int)shape->dims[1];
        if (model->nodes[i].output != value)
            continue;
        if (model->nodes[i].op != QCNN_OP_RESHAPE)
            return 0;
        value = model->nodes[i].inputs[0];
    }
    return 0;
}

// Rows of o to be kept: MOST_WANTED numbers.
static size_t count_wanted(int n, int n_samples)
{
    const int fitting = MOST_WANTED / n, most = fitting < MOST_WANTED_ROWS ? fitting : MOST_WANTED_ROWS;
    return (size_t)(n_samples < most ? n_samples : most);
}

static qcnn_status allocate(qcnn_statistics_builder *b, int n_held_samples, qcnn_error *error)
{
    qcnn_statistics *s = &b->s;
    const size_t n = (size_t)s->n, n_outputs = (size_t)s->n_outputs, width = (size_t)s->groups * n;
    const size_t n_held = (size_t)n_held_samples * (size_t)b->n_positions;
    b->max_batch = b->n_positions * MAX_BATCH <= BATCH_ROWS ? MAX_BATCH : b->n_positions < BATCH_ROWS ? BATCH_ROWS / b->n_positions : 1;
    b->capacity = BLOCK_ROWS + b->n_positions * b->max_batch;
    QCNN_TRY(new_matrices(s->groups, n, n_outputs, &s->weights, error));
    QCNN_TRY(new_matrices(s->groups, n, n, &s->gram, error));
    QCNN_TRY(new_matrices(s->groups, n, n_outputs, &s->cross, error));
    QCNN_TRY(new_matrices(s->groups, n_held, n, &s->held_inputs, error));
    QCNN_TRY(new_matrices(s->groups, n_held, n_outputs, &s->held_residual, error));
    s->wanted_inputs = qcnn_allocate(b->max_wanted * n, sizeof *s->wanted_inputs);
    s->map_cross = qcnn_allocate_zeroed((size_t)s->n_maps * (size_t)s->n_maps, sizeof *s->map_cross);
    s->input_mean = qcnn_allocate_zeroed(width, sizeof *s->input_mean);
    s->wanted_mean = qcnn_allocate_zeroed(width, sizeof *s->wanted_mean);
    b->shift = qcnn_allocate_zeroed(width, sizeof *b->shift);
    b->x = qcnn_allocate((size_t)b->capacity * width, sizeof *b->x);
    b->delta = qcnn_allocate((size_t)b->capacity * width, sizeof *b->delta);
    b->residual = qcnn_allocate((size_t)b->capacity * n_outputs, sizeof *b->residual);
    if (!s->wanted_inputs || !s->map_cross || !s->input_mean || !s->wanted_mean || !b->shift || !b->x || !b->delta || !b->residual)
        return qcnn_fail_memory(error, (size_t)b->capacity * (2 * width + n_outputs) * sizeof(float));
    return QCNN_OK;
}

qcnn_status qcnn_statistics_begin(const qcnn_model *model, size_t node_index, int n_positions, int n_samples, int n_held_samples,
                                  uint64_t seed, const qcnn_parallel *parallel, qcnn_statistics_builder **result, qcnn_error *error)
{
    *result = NULL;
    const qcnn_node *node = &model->nodes[node_index];
    const qcnn_tensor *weights = qcnn_node_weights(model, node);
    qcnn_statistics_builder *b = qcnn_allocate_zeroed(1, sizeof *b);
    if (!b)
        return qcnn_fail_memory(error, sizeof *b);
    b->parallel = parallel;
    b->seed = seed;
    b->window = window_of(model, node);
    b->n_channels = (int)weights->shape.dims[1];
    b->n_positions = b->window.out_elements < n_positions ? (int)b->window.out_elements : n_positions;
    b->n_fit_samples = n_samples;
    b->all_equal = true;
    b->s.groups = node->op == QCNN_OP_CONV ? node->attributes.groups : 1;
    b->s.n = (int)b->window.n_taps * b->n_channels;
    b->s.n_outputs = (int)(weights->shape.dims[0] / b->s.groups);
    b->s.positions = (double)b->window.out_elements;
    b->s.n_maps = count_maps(model, node, b->s.n);
    if (node->op == QCNN_OP_FC && b->window.out_elements == 1)
        b->max_wanted = count_wanted(b->s.n, n_samples);
    const qcnn_status status = allocate(b, n_held_samples, error);
    if (status != QCNN_OK) {
        qcnn_statistics_free_builder(b);
        return status;
    }
    transpose_weights(b, weights->data);
    *result = b;
    return QCNN_OK;
}

// ---- patches --------------------------------------------------------------------------------------------------------

// The patch of output position `position`, [groups][tap][channel]; zeros where the window leaves the input.
static void gather_patch(const qcnn_statistics_builder *b, const float *input, int64_t position, float *row)
{
    const qcnn_window *w = &b->window;
    const size_t n_channels = (size_t)b->n_channels;
    int64_t at[3];
    at[2] = position % w->out[2];
    at[1] = position / w->out[2] % w->out[1];
    at[0] = position / w->out[2] / w->out[1];
    for (int g = 0; g < b->s.groups; g++) {
        const float *channels = input + (size_t)g * n_channels * (size_t)w->in_elements;
        for (int64_t tap = 0; tap < w->n_taps; tap++, row += n_channels) {
            const int64_t t[3] = { tap / w->kernel[2] / w->kernel[1], tap / w->kernel[2] % w->kernel[1], tap % w->kernel[2] };
            int64_t index = 0;
            bool inside = true;
            for (int i = 0; i < 3; i++) {
                const int64_t place = at[i] * w->stride[i] - w->begin[i] + t[i] * w->dilation[i];
                inside = inside && place >= 0 && place < w->in[i];
                index = index * w->in[i] + place;
            }
            for (size_t c = 0; c < n_channels; c++)
                row[c] = inside ? channels[c * (size_t)w->in_elements + (size_t)index] : 0;
        }
    }
}

// The input of a fully-connected layer: rows lie one after the other.
static void copy_row(const qcnn_statistics_builder *b, const float *input, int64_t position, float *row)
{
    memcpy(row, input + (size_t)position * (size_t)b->s.n, (size_t)b->s.n * sizeof *row);
}

static void gather_sample(void *argument, int index, int worker)
{
    (void)worker;
    const qcnn_statistics_builder *b = argument;
    const bool is_rows = b->window.n_taps == 1 && b->s.groups == 1 && b->s.positions == (double)b->window.in_elements &&
                         b->window.in[0] == 1 && b->window.in[1] == 1;
    const size_t width = (size_t)b->s.groups * (size_t)b->s.n;
    const int64_t n_all = b->window.out_elements;
    qcnn_rng rng = { qcnn_rng_split(b->seed, (uint64_t)(b->first + index)) };
    for (int p = 0; p < b->n_positions; p++) {
        // One position out of each of n_positions stretches of the output.
        const int64_t begin = n_all * p / b->n_positions, end = n_all * (p + 1) / b->n_positions;
        const int64_t position = begin + (int64_t)(qcnn_rng_unit(&rng) * (double)(end - begin));
        const size_t row = ((size_t)b->n_filled + (size_t)index * (size_t)b->n_positions + (size_t)p) * width;
        (is_rows ? copy_row : gather_patch)(b, b->batch_x[index], position, b->x + row);
        if (b->batch_o[index] == b->batch_x[index]) {
            memset(b->delta + row, 0, width * sizeof(float));
            continue;
        }
        (is_rows ? copy_row : gather_patch)(b, b->batch_o[index], position, b->delta + row);
        for (size_t i = 0; i < width; i++)
            b->delta[row + i] -= b->x[row + i];
    }
}

// ---- sums -----------------------------------------------------------------------------------------------------------

static void find_shift(qcnn_statistics_builder *b, int n_rows)
{
    const size_t width = (size_t)b->s.groups * (size_t)b->s.n;
    for (int row = 0; row < n_rows; row++)
        for (size_t i = 0; i < width; i++)
            b->shift[i] += b->x[(size_t)row * width + i] / (float)n_rows;
    b->shifted = true;
}

enum { STRIP = 512 };

typedef struct shift_job {
    qcnn_statistics_builder *b;
    bool add;
} shift_job;

static void shift_strip(void *argument, int index, int worker)
{
    (void)worker;
    const shift_job *job = argument;
    qcnn_statistics_builder *b = job->b;
    const size_t width = (size_t)b->s.groups * (size_t)b->s.n, first = (size_t)index * STRIP,
                 end = width - first < STRIP ? width : first + STRIP;
    for (int row = 0; row < b->n_filled; row++) {
        float *x = b->x + (size_t)row * width, *delta = b->delta + (size_t)row * width;
        for (size_t i = first; i < end; i++) {
            x[i] -= b->shift[i];
            if (job->add) {
                b->s.input_mean[i] += (double)x[i];
                b->s.wanted_mean[i] += (double)delta[i];
            }
        }
    }
}

// Takes the shift out of the collected rows and adds them to the means.
static void shift_rows(qcnn_statistics_builder *b, bool add)
{
    shift_job job = { b, add };
    qcnn_for(b->parallel, (int)(((size_t)b->s.groups * (size_t)b->s.n + STRIP - 1) / STRIP), shift_strip, &job);
}

// residual = delta W for `n_rows` rows of group g.
static qcnn_status find_residual(qcnn_statistics_builder *b, int g, int n_rows, float *residual, qcnn_error *error)
{
    const size_t n = (size_t)b->s.n, width = (size_t)b->s.groups * n, n_outputs = (size_t)b->s.n_outputs;
    const qcnn_gemm_call call = { .m = n_rows,
                                  .n = (int)n_outputs,
                                  .k = (int)n,
                                  .alpha = 1,
                                  .a = b->delta + (size_t)g * n,
                                  .lda = width,
                                  .b = b->s.weights[g],
                                  .ldb = n_outputs,
                                  .c = residual,
                                  .ldc = n_outputs };
    return qcnn_gemm_fast(&call, b->parallel, error);
}

enum { MAP_PANEL = 64 };

static void add_map_panel(void *argument, int index, int worker)
{
    (void)worker;
    const qcnn_statistics_builder *b = argument;
    const qcnn_statistics *s = &b->s;
    const int first = index * MAP_PANEL, n_positions = s->n / s->n_maps;
    qcnn_gemm_call call = { .transpose_b = true,
                            .m = s->n_maps - first < MAP_PANEL ? s->n_maps - first : MAP_PANEL,
                            .n = s->n_maps,
                            .k = n_positions,
                            .alpha = 1,
                            .beta = 1,
                            .lda = (size_t)n_positions,
                            .ldb = (size_t)n_positions,
                            .c = s->map_cross + (size_t)first * (size_t)s->n_maps,
                            .ldc = (size_t)s->n_maps };
    for (int row = 0; row < b->n_filled; row++) {
        call.a = b->x + (size_t)row * (size_t)s->n + (size_t)first * (size_t)n_positions;
        call.b = b->delta + (size_t)row * (size_t)s->n;
        qcnn_gemm_serial(&call);
    }
}

// Adds the collected rows to the sums.
static qcnn_status flush(qcnn_statistics_builder *b, qcnn_error *error)
{
    const size_t n = (size_t)b->s.n, width = (size_t)b->s.groups * n, n_outputs = (size_t)b->s.n_outputs;
    if (b->n_filled == 0)
        return QCNN_OK;
    if (!b->shifted)
        find_shift(b, b->n_filled);
    shift_rows(b, true);
    for (int g = 0; g < b->s.groups; g++) {
        const float *x = b->x + (size_t)g * n;
        qcnn_gram_add((int)n, b->n_filled, 1, x, width, b->s.gram[g], n, b->parallel);
        if (b->all_equal)
            continue;
        QCNN_TRY(find_residual(b, g, b->n_filled, b->residual, error));
        const qcnn_gemm_call call = { .transpose_a = true,
                                      .m = (int)n,
                                      .n = (int)n_outputs,
                                      .k = b->n_filled,
                                      .alpha = 1,
                                      .beta = 1,
                                      .a = x,
                                      .lda = width,
                                      .b = b->residual,
                                      .ldb = n_outputs,
                                      .c = b->s.cross[g],
                                      .ldc = n_outputs };
        QCNN_TRY(qcnn_gemm_fast(&call, b->parallel, error));
    }
    if (!b->all_equal)
        qcnn_for(b->parallel, (b->s.n_maps + MAP_PANEL - 1) / MAP_PANEL, add_map_panel, b);
    b->s.n_rows += b->n_filled;
    b->n_filled = 0;
    b->all_equal = true;
    return QCNN_OK;
}

// Stores the collected rows, which are held out, for later.
static qcnn_status flush_held(qcnn_statistics_builder *b, qcnn_error *error)
{
    qcnn_statistics *s = &b->s;
    const size_t n = (size_t)s->n, width = (size_t)s->groups * n, n_outputs = (size_t)s->n_outputs;
    shift_rows(b, false);
    for (int g = 0; g < s->groups; g++) {
        float *to = s->held_inputs[g] + (size_t)s->n_held * n;
        for (int row = 0; row < b->n_filled; row++)
            memcpy(to + (size_t)row * n, b->x + (size_t)row * width + (size_t)g * n, n * sizeof *to);
        QCNN_TRY(find_residual(b, g, b->n_filled, s->held_residual[g] + (size_t)s->n_held * n_outputs, error));
    }
    s->n_held += b->n_filled;
    b->n_filled = 0;
    return QCNN_OK;
}

qcnn_status qcnn_statistics_add(qcnn_statistics_builder *b, int first, int n, const float *const *x, const float *const *o,
                                qcnn_error *error)
{
    const bool held = first >= b->n_fit_samples;
    if (held && b->s.n_held == 0)
        QCNN_TRY(flush(b, error));
    for (int done = 0; done < n;) {
        const int left_to_fit = held ? n - done : b->n_fit_samples - first - done;
        int batch = n - done < b->max_batch ? n - done : b->max_batch;
        if (left_to_fit <= 0) // the rest is held out
            return qcnn_statistics_add(b, first + done, n - done, x + done, o + done, error);
        batch = batch < left_to_fit ? batch : left_to_fit;
        b->first = first + done;
        b->batch_x = x + done;
        b->batch_o = o + done;
        qcnn_for(b->parallel, batch, gather_sample, b);
        for (int i = 0; i < batch; i++)
            b->all_equal = b->all_equal && x[done + i] == o[done + i];
        for (int i = 0; !held && i < batch && (size_t)b->s.n_wanted < b->max_wanted; i++)
            memcpy(b->s.wanted_inputs + (size_t)b->s.n_wanted++ * (size_t)b->s.n, o[done + i], (size_t)b->s.n * sizeof(float));
        b->n_filled += batch * b->n_positions;
        if (held)
            QCNN_TRY(flush_held(b, error));
        else if (b->n_filled >= BLOCK_ROWS)
            QCNN_TRY(flush(b, error));
        done += batch;
    }
    return QCNN_OK;
}

// ---- end ------------------------------------------------------------------------------------------------------------

// gram and cross become means with the rest of the input mean taken out.
static void centre(qcnn_statistics *s, int g, const double *mean, const double *delta_mean, double *residual_mean)
{
    const size_t n = (size_t)s->n, n_outputs = (size_t)s->n_outputs;
    const double scale = 1 / (double)s->n_rows;
    memset(residual_mean, 0, n_outputs * sizeof *residual_mean);
    for (size_t i = 0; i < n; i++)
        for (size_t o = 0; o < n_outputs; o++)
            residual_mean[o] += delta_mean[i] * (double)s->weights[g][i * n_outputs + o];
    for (size_t i = 0; i < n; i++) {
        float *gram = s->gram[g] + i * n, *cross = s->cross[g] + i * n_outputs;
        for (size_t j = i; j < n; j++)
            gram[j] = (float)((double)gram[j] * scale - mean[i] * mean[j]);
        for (size_t o = 0; o < n_outputs; o++)
            cross[o] = (float)((double)cross[o] * scale - mean[i] * residual_mean[o]);
    }
}

static void centre_maps(qcnn_statistics *s, const double *mean, const double *delta_mean)
{
    const int n_positions = s->n_maps > 0 ? s->n / s->n_maps : 0;
    for (int i = 0; i < s->n_maps; i++)
        for (int j = 0; j < s->n_maps; j++) {
            float *cross = &s->map_cross[(size_t)i * (size_t)s->n_maps + (size_t)j];
            double sum = (double)*cross / (double)s->n_rows;
            for (int p = 0; p < n_positions; p++)
                sum -= mean[i * n_positions + p] * delta_mean[j * n_positions + p];
            *cross = (float)sum;
        }
}

static void centre_held(qcnn_statistics *s, int g, const double *mean, const double *residual_mean)
{
    const size_t n = (size_t)s->n, n_outputs = (size_t)s->n_outputs;
    for (int row = 0; row < s->n_held; row++) {
        float *x = s->held_inputs[g] + (size_t)row * n, *r = s->held_residual[g] + (size_t)row * n_outputs;
        for (size_t i = 0; i < n; i++)
            x[i] -= (float)mean[i];
        for (size_t o = 0; o < n_outputs; o++)
            r[o] -= (float)residual_mean[o];
    }
}

qcnn_status qcnn_statistics_end(qcnn_statistics_builder *b, qcnn_statistics *statistics, qcnn_error *error)
{
    if (b->s.n_held == 0)
        QCNN_TRY(flush(b, error));
    qcnn_statistics *s = &b->s;
    const size_t n = (size_t)s->n;
    for (size_t i = 0; i < (size_t)s->groups * n; i++) {
        s->input_mean[i] /= (double)s->n_rows;
        s->wanted_mean[i] /= (double)s->n_rows; // of o - x so far
    }
    double *residual_mean = (double *)b->residual; // of at least BLOCK_ROWS * n_outputs floats
    for (int g = 0; g < s->groups; g++) {
        double *mean = s->input_mean + (size_t)g * n, *wanted = s->wanted_mean + (size_t)g * n;
        centre(s, g, mean, wanted, residual_mean);
        centre_held(s, g, mean, residual_mean);
        centre_maps(s, mean, wanted);
        qcnn_mirror_upper((int)n, s->gram[g], n, b->parallel);
        for (size_t i = 0; i < n; i++) {
            mean[i] += (double)b->shift[(size_t)g * n + i];
            wanted[i] += mean[i];
        }
    }
    *statistics = *s;
    b->s = (qcnn_statistics){ 0 };
    return QCNN_OK;
}
