// SPDX-License-Identifier: Apache-2.0
// Fully-connected layers in training. Their weights are never decoded as a whole: forward in tiles of outputs, backward in tiles
// of inputs, whose gradients go straight to the codewords of the subspaces they hold.

#include <string.h>

#include "compress/quantize.h"
#include "compress/train.h"

// A tile of inputs is INPUT_TILE wide, rounded up to whole subspaces.
enum { OUTPUT_TILE = 128, INPUT_TILE = QCNN_TRAIN_INPUT_TILE / 2 };

typedef struct fc_job {
    qcnn_trainer *trainer;
    qcnn_train_layer *layer;
    const qcnn_train_value *x, *y;
    qcnn_train_weights *weights; // NULL: dense and not trained
    int n_inputs, n_outputs;
    int subspaces_of_tile, tile; // of inputs
} fc_job;

static fc_job new_job(qcnn_trainer *trainer, qcnn_train_layer *layer)
{
    fc_job job = { .trainer = trainer,
                   .layer = layer,
                   .x = &trainer->values[layer->node->inputs[0]],
                   .y = &trainer->values[layer->node->output],
                   .weights = layer->weights >= 0 ? &trainer->weights[layer->weights] : NULL };
    job.n_inputs = (int)job.x->channels;
    job.n_outputs = (int)job.y->channels;
    const int subspace = job.weights ? job.weights->book.subspace : 1;
    job.subspaces_of_tile = (INPUT_TILE + subspace - 1) / subspace;
    job.tile = job.subspaces_of_tile * subspace;
    return job;
}

size_t qcnn_train_fc_scratch(const qcnn_trainer *trainer, const qcnn_train_layer *layer)
{
    const fc_job job = new_job((qcnn_trainer *)trainer, (qcnn_train_layer *)layer);
    if (!job.weights)
        return 0;
    const size_t forward = (size_t)job.n_inputs * OUTPUT_TILE, backward = 2 * (size_t)job.tile * (size_t)job.n_outputs;
    return forward > backward ? forward : backward;
}

// ---- forward --------------------------------------------------------------------------------------------------------

static void forward_tile(void *argument, int index, int worker)
{
    const fc_job *job = argument;
    const qcnn_trainer *trainer = job->trainer;
    const int first = index * OUTPUT_TILE, n = job->n_outputs - first < OUTPUT_TILE ? job->n_outputs - first : OUTPUT_TILE;
    float *columns = trainer->scratch + (size_t)worker * trainer->scratch_floats;
    qcnn_gemm_call call = { .m = trainer->batch,
                            .n = n,
                            .k = job->n_inputs,
                            .alpha = 1,
                            .beta = 1,
                            .a = job->x->data,
                            .lda = (size_t)job->n_inputs,
                            .b = columns,
                            .ldb = (size_t)n,
                            .c = job->y->data + first,
                            .ldc = (size_t)job->n_outputs };
    if (job->weights)
        for (int m = 0; m < job->weights->book.n_subspaces; m++)
            qcnn_train_decode(job->weights, 0, m, first, n, columns + (size_t)m * (size_t)job->weights->book.subspace * (size_t)n);
    else {
        call.b = job->layer->dense + (size_t)first * (size_t)job->n_inputs;
        call.ldb = (size_t)job->n_inputs;
        call.transpose_b = true;
    }
    const float *bias = job->layer->bias >= 0 ? trainer->biases[job->layer->bias].values : job->layer->constant_bias;
    for (int i = 0; i < trainer->batch; i++)
        for (int o = 0; o < n; o++)
            call.c[(size_t)i * call.ldc + (size_t)o] = bias ? bias[first + o] : 0;
    qcnn_train_gemm(trainer, &call, worker);
    for (int i = 0; i < trainer->batch; i++) {
        float *y = call.c + (size_t)i * call.ldc;
        if (job->layer->before)
            memcpy(job->layer->before + (y - job->y->data), y, (size_t)n * sizeof *y);
        qcnn_train_activate(&job->layer->node->attributes.activation, y, (size_t)n);
    }
}

void qcnn_train_fc_forward(qcnn_trainer *trainer, qcnn_train_layer *layer)
{
    fc_job job = new_job(trainer, layer);
    qcnn_for(trainer->parallel, (job.n_outputs + OUTPUT_TILE - 1) / OUTPUT_TILE, forward_tile, &job);
}

// ---- backward -------------------------------------------------------------------------------------------------------

// dX [batch][tile] += dY W^T.
static void input_gradient(const fc_job *job, int first, int n, const float *columns, int worker)
{
    qcnn_gemm_call call = { .m = job->trainer->batch,
                            .n = n,
                            .k = job->n_outputs,
                            .alpha = 1,
                            .beta = 1,
                            .a = job->y->gradient,
                            .lda = (size_t)job->n_outputs,
                            .transpose_b = true,
                            .b = columns,
                            .ldb = (size_t)job->n_outputs,
                            .c = job->x->gradient + first,
                            .ldc = (size_t)job->n_inputs };
    if (!columns) {
        call.transpose_b = false;
        call.b = job->layer->dense + first;
        call.ldb = (size_t)job->n_inputs;
    }
    qcnn_train_gemm(job->trainer, &call, worker);
}

static void backward_tile(void *argument, int index, int worker)
{
    const fc_job *job = argument;
    const qcnn_trainer *trainer = job->trainer;
    const int first = index * job->tile, n = job->n_inputs - first < job->tile ? job->n_inputs - first : job->tile;
    if (!job->weights) {
        input_gradient(job, first, n, NULL, worker);
        return;
    }
    const qcnn_codebook *book = &job->weights->book;
    float *columns = trainer->scratch + (size_t)worker * trainer->scratch_floats,
          *gradients = columns + (size_t)job->tile * (size_t)job->n_outputs;
    const int first_m = index * job->subspaces_of_tile;
    const int end_m = first_m + job->subspaces_of_tile < book->n_subspaces ? first_m + job->subspaces_of_tile : book->n_subspaces;
    if (job->x->gradient) {
        for (int m = first_m; m < end_m; m++)
            qcnn_train_decode(job->weights, 0, m, 0, job->n_outputs,
                              columns + (size_t)(m - first_m) * (size_t)book->subspace * (size_t)job->n_outputs);
        input_gradient(job, first, n, columns, worker);
    }
    const qcnn_gemm_call call = { .transpose_a = true,
                                  .m = n,
                                  .n = job->n_outputs,
                                  .k = trainer->batch,
                                  .alpha = 1,
                                  .a = job->x->data + first,
                                  .lda = (size_t)job->n_inputs,
                                  .b = job->y->gradient,
                                  .ldb = (size_t)job->n_outputs,
                                  .c = gradients,
                                  .ldc = (size_t)job->n_outputs };
    qcnn_train_gemm(trainer, &call, worker);
    for (int m = first_m; m < end_m; m++)
        qcnn_train_gather(job->weights, 0, m, gradients + (size_t)(m - first_m) * (size_t)book->subspace * (size_t)job->n_outputs);
}

static void bias_gradient(const fc_job *job)
{
    if (job->layer->bias < 0)
        return;
    const qcnn_train_bias *bias = &job->trainer->biases[job->layer->bias];
    memset(bias->gradients, 0, QCNN_TRAIN_SLICES * bias->n * sizeof(float));
    for (int i = 0; i < job->trainer->batch; i++)
        for (size_t o = 0; o < bias->n; o++)
            bias->gradients[o] += job->y->gradient[(size_t)i * bias->n + o];
}

void qcnn_train_fc_backward(qcnn_trainer *trainer, qcnn_train_layer *layer)
{
    fc_job job = new_job(trainer, layer);
    const size_t n_values = (size_t)trainer->batch * (size_t)job.n_outputs;
    qcnn_train_activation_gradient(&layer->node->attributes.activation, job.y->data, layer->before, job.y->gradient, n_values);
    bias_gradient(&job);
    if (job.weights || job.x->gradient)
        qcnn_for(trainer->parallel, (job.n_inputs + job.tile - 1) / job.tile, backward_tile, &job);
}
