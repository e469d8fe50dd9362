// SPDX-License-Identifier: Apache-2.0
// Convolutions in training: patches of a few images side by side in a matrix, one GEMM for them, and the same two ways back.
// Columns of weights, [n_inputs][n_taps][n_outputs] of a group, are the transposed left matrix of that GEMM.

#include <string.h>

#include "compress/train.h"

// Positions that a GEMM should at least have, where there are images enough.
enum { POSITIONS_WANTED = 640 };

typedef struct conv_job {
    qcnn_trainer *trainer;
    qcnn_train_layer *layer;
    const qcnn_train_value *x, *y;
    const qcnn_train_weights *weights; // NULL: dense and not trained
    int groups, n_inputs, n_outputs;   // of a group
    size_t n_rows;                     // of a patch matrix: n_inputs * n_taps
    int chunk;                         // images of a GEMM
} conv_job;

static int images_of_chunk(const qcnn_trainer *trainer, const qcnn_train_layer *layer)
{
    const int64_t wanted = POSITIONS_WANTED / layer->window.out_elements;
    return wanted < 1 ? 1 : wanted > trainer->slice ? trainer->slice : (int)wanted;
}

static conv_job new_job(qcnn_trainer *trainer, qcnn_train_layer *layer)
{
    conv_job job = { .trainer = trainer,
                     .layer = layer,
                     .x = &trainer->values[layer->node->inputs[0]],
                     .y = &trainer->values[layer->node->output],
                     .weights = layer->weights >= 0 ? &trainer->weights[layer->weights] : NULL,
                     .groups = layer->node->attributes.groups };
    job.n_inputs = (int)job.x->channels / job.groups;
    job.n_outputs = (int)job.y->channels / job.groups;
    job.n_rows = (size_t)job.n_inputs * (size_t)layer->window.n_taps;
    job.chunk = images_of_chunk(trainer, layer);
    return job;
}

static size_t patch_floats(const conv_job *job)
{
    return job->n_rows * (size_t)job->chunk * (size_t)job->layer->window.out_elements;
}

size_t qcnn_train_conv_scratch(const qcnn_trainer *trainer, const qcnn_train_layer *layer)
{
    const conv_job job = new_job((qcnn_trainer *)trainer, (qcnn_train_layer *)layer);
    return 2 * patch_floats(&job);
}

// ---- patches --------------------------------------------------------------------------------------------------------

// One row of patches, of one image's plane and one tap, copied from the plane or (back) added to it.
static void patch_row(const qcnn_window *w, const int64_t *tap, float *plane, float *row, bool back)
{
    int64_t start[3], first[3], last[3]; // input index under output 0; outputs that read inside
    for (int i = 0; i < 3; i++) {
        start[i] = tap[i] * w->dilation[i] - w->begin[i];
        first[i] = start[i] < 0 ? (-start[i] + w->stride[i] - 1) / w->stride[i] : 0;
        last[i] = start[i] < w->in[i] ? (w->in[i] - 1 - start[i]) / w->stride[i] + 1 : 0;
        last[i] = last[i] < w->out[i] ? last[i] : w->out[i];
    }
    if (!back)
        memset(row, 0, (size_t)w->out_elements * sizeof *row);
    for (int64_t z = first[0]; z < last[0]; z++)
        for (int64_t y = first[1]; y < last[1]; y++) {
            float *from = plane + ((start[0] + z * w->stride[0]) * w->in[1] + start[1] + y * w->stride[1]) * w->in[2] + start[2];
            float *to = row + (z * w->out[1] + y) * w->out[2];
            if (back)
                for (int64_t x = first[2]; x < last[2]; x++)
                    from[x * w->stride[2]] += to[x];
            else if (w->stride[2] == 1 && first[2] < last[2])
                memcpy(to + first[2], from + first[2], (size_t)(last[2] - first[2]) * sizeof *to);
            else
                for (int64_t x = first[2]; x < last[2]; x++)
                    to[x] = from[x * w->stride[2]];
        }
}

// The patch matrix [n_inputs * n_taps][n_images * positions] of a group; `x` is its first channel's plane of the first image.
static void patches(const conv_job *job, float *x, int n_images, float *matrix, bool back)
{
    const qcnn_window *w = &job->layer->window;
    const int64_t positions = w->out_elements, channel = job->trainer->slice * w->in_elements;
    for (int64_t c = 0; c < job->n_inputs; c++)
        for (int64_t t = 0; t < w->n_taps; t++) {
            const int64_t tap[3] = { t / (w->kernel[1] * w->kernel[2]), t / w->kernel[2] % w->kernel[1], t % w->kernel[2] };
            for (int64_t i = 0; i < n_images; i++, matrix += positions)
                patch_row(w, tap, x + c * channel + i * w->in_elements, matrix, back);
        }
}

// ---- forward --------------------------------------------------------------------------------------------------------

// The left matrix, weights of a group: columns (transposed) or dense rows.
static void set_weights(const conv_job *job, int group, bool transposed, qcnn_gemm_call *call)
{
    const size_t n = (size_t)group * job->n_rows * (size_t)job->n_outputs;
    call->a = job->weights ? job->weights->columns + n : job->layer->dense + n;
    call->lda = job->weights ? (size_t)job->n_outputs : job->n_rows;
    call->transpose_a = job->weights ? transposed : !transposed;
}

static void add_bias(const conv_job *job, float *y, size_t n)
{
    const qcnn_train_layer *layer = job->layer;
    const float *bias = layer->bias >= 0 ? job->trainer->biases[layer->bias].values : layer->constant_bias;
    for (int64_t c = 0; bias && c < job->y->channels; c++)
        for (size_t i = 0; i < n; i++)
            y[(size_t)c * n + i] += bias[c];
}

static void forward_slice(void *argument, int slice, int worker)
{
    const conv_job *job = argument;
    const qcnn_trainer *trainer = job->trainer;
    const qcnn_window *w = &job->layer->window;
    const size_t row = (size_t)trainer->slice * (size_t)w->out_elements; // of a channel
    float *x = job->x->data + (size_t)slice * (size_t)job->x->channels * (size_t)trainer->slice * (size_t)w->in_elements;
    float *y = job->y->data + (size_t)slice * (size_t)job->y->channels * row;
    float *matrix = trainer->scratch + (size_t)worker * trainer->scratch_floats;
    for (int first = 0; first < trainer->slice; first += job->chunk) {
        const int n = trainer->slice - first < job->chunk ? trainer->slice - first : job->chunk;
        for (int group = 0; group < job->groups; group++) {
            patches(job, x + (int64_t)group * job->n_inputs * trainer->slice * w->in_elements + first * w->in_elements, n, matrix, false);
            qcnn_gemm_call call = { .m = job->n_outputs,
                                    .n = n * (int)w->out_elements,
                                    .k = (int)job->n_rows,
                                    .alpha = 1,
                                    .b = matrix,
                                    .ldb = (size_t)n * (size_t)w->out_elements,
                                    .c = y + (size_t)group * (size_t)job->n_outputs * row + (size_t)first * (size_t)w->out_elements,
                                    .ldc = row };
            set_weights(job, group, true, &call);
            qcnn_train_gemm(trainer, &call, worker);
        }
    }
    add_bias(job, y, row);
    const size_t n_values = (size_t)job->y->channels * row;
    if (job->layer->before)
        memcpy(job->layer->before + (size_t)slice * n_values, y, n_values * sizeof *y);
    qcnn_train_activate(&job->layer->node->attributes.activation, y, n_values);
}

static void decode_block(void *argument, int index, int worker)
{
    (void)worker;
    const conv_job *job = argument;
    const qcnn_codebook *book = &job->weights->book;
    const int group = index / book->n_subspaces, m = index % book->n_subspaces;
    const size_t columns = (size_t)book->n_taps * (size_t)book->n_outputs;
    const size_t at = ((size_t)group * (size_t)book->n_inputs + (size_t)m * (size_t)book->subspace) * columns;
    qcnn_train_decode(job->weights, group, m, 0, book->n_outputs, job->weights->columns + at);
}

void qcnn_train_conv_forward(qcnn_trainer *trainer, qcnn_train_layer *layer)
{
    conv_job job = new_job(trainer, layer);
    if (job.weights)
        qcnn_for(trainer->parallel, job.weights->book.groups * job.weights->book.n_subspaces, decode_block, &job);
    qcnn_for(trainer->parallel, QCNN_TRAIN_SLICES, forward_slice, &job);
}

// ---- backward -------------------------------------------------------------------------------------------------------

static void bias_gradient(const conv_job *job, int slice, const float *dy, size_t n)
{
    if (job->layer->bias < 0)
        return;
    const qcnn_train_bias *bias = &job->trainer->biases[job->layer->bias];
    float *to = bias->gradients + (size_t)slice * bias->n;
    for (size_t c = 0; c < bias->n; c++) {
        float sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += dy[c * n + i];
        to[c] = sum;
    }
}

// Gradients of the weights of one group from those of the outputs of n images, and of the inputs where they are wanted.
static void backward_group(const conv_job *job, int slice, int group, int first, int n, float *matrix, int worker)
{
    const qcnn_trainer *trainer = job->trainer;
    const qcnn_window *w = &job->layer->window;
    const size_t row = (size_t)trainer->slice * (size_t)w->out_elements;
    const int n_positions = n * (int)w->out_elements;
    const int64_t input =
        ((int64_t)slice * job->x->channels + (int64_t)group * job->n_inputs) * trainer->slice * w->in_elements + first * w->in_elements;
    const float *dy = job->y->gradient + ((size_t)slice * (size_t)job->y->channels + (size_t)group * (size_t)job->n_outputs) * row +
                      (size_t)first * (size_t)w->out_elements;
    if (job->weights) {
        float *to = job->weights->column_gradients + (size_t)slice * job->weights->n_columns;
        patches(job, job->x->data + input, n, matrix, false);
        const qcnn_gemm_call call = { .transpose_b = true,
                                      .m = (int)job->n_rows,
                                      .n = job->n_outputs,
                                      .k = n_positions,
                                      .alpha = 1,
                                      .beta = first > 0,
                                      .a = matrix,
                                      .lda = (size_t)n_positions,
                                      .b = dy,
                                      .ldb = row,
                                      .c = to + (size_t)group * job->n_rows * (size_t)job->n_outputs,
                                      .ldc = (size_t)job->n_outputs };
        qcnn_train_gemm(trainer, &call, worker);
    }
    if (job->x->gradient) {
        float *to = matrix + patch_floats(job);
        qcnn_gemm_call call = { .m = (int)job->n_rows,
                                .n = n_positions,
                                .k = job->n_outputs,
                                .alpha = 1,
                                .b = dy,
                                .ldb = row,
                                .c = to,
                                .ldc = (size_t)n_positions };
        set_weights(job, group, false, &call);
        qcnn_train_gemm(trainer, &call, worker);
        patches(job, job->x->gradient + input, n, to, true);
    }
}

static void backward_slice(void *argument, int slice, int worker)
{
    const conv_job *job = argument;
    const qcnn_trainer *trainer = job->trainer;
    const size_t row = (size_t)trainer->slice * (size_t)job->layer->window.out_elements, n_values = (size_t)job->y->channels * row;
    float *dy = job->y->gradient + (size_t)slice * n_values;
    const float *before = job->layer->before;
    qcnn_train_activation_gradient(&job->layer->node->attributes.activation, job->y->data + (size_t)slice * n_values,
                                   before ? before + (size_t)slice * n_values : NULL, dy, n_values);
    bias_gradient(job, slice, dy, row);
    float *matrix = trainer->scratch + (size_t)worker * trainer->scratch_floats;
    for (int first = 0; first < trainer->slice; first += job->chunk) {
        const int n = trainer->slice - first < job->chunk ? trainer->slice - first : job->chunk;
        for (int group = 0; group < job->groups; group++)
            backward_group(job, slice, group, first, n, matrix, worker);
    }
}

void qcnn_train_conv_backward(qcnn_trainer *trainer, qcnn_train_layer *layer)
{
    conv_job job = new_job(trainer, layer);
    qcnn_for(trainer->parallel, QCNN_TRAIN_SLICES, backward_slice, &job);
}
