// SPDX-License-Identifier: Apache-2.0
// Held-out samples go through both networks side by side, in copies that give out what layers compute before their activation.

#include "compress/response.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/parallel.h"
#include "compress/stretch.h"

enum { N_SAMPLES = 100, BLOCK = 20 }; // samples at most, and between two reports

typedef struct measured_layer {
    size_t node;
    int values[2];                          // the response, of each copy
    size_t n_outside, n_channels, n_inside; // its dimensions: those before the channels, behind them
    double *error;                          // [N_SAMPLES]: squared differences
    double *sums, *squares;                 // [N_SAMPLES][n_channels]: of the original's
} measured_layer;

typedef struct measurement {
    const qcnn_samples *samples;
    qcnn_part part;
    measured_layer *layers;
    size_t n_layers, end;  // end: of the nodes that are run
    qcnn_model *models[2]; // the original's copy, the other's
    qcnn_stretch *stretches[2];
    qcnn_error errors[BLOCK];
    int first, n; // of the block
    atomic_int n_taken;
} measurement;

// ---- the copies -----------------------------------------------------------------------------------------------------

// Takes the activation out of node n into a node of its own behind it.
static qcnn_status split_node(qcnn_model *model, size_t n, qcnn_error *error)
{
    int response;
    const int output = model->nodes[n].output;
    const qcnn_activation activation = model->nodes[n].attributes.activation;
    if (activation.function == QCNN_IDENTITY)
        return QCNN_OK;
    QCNN_TRY(qcnn_model_add_value(model, NULL, &model->values[output].shape, -1, &response, error));
    const qcnn_attributes attributes = { .function = activation.function,
                                         .activation = { .alpha = activation.alpha, .beta = activation.beta } };
    QCNN_TRY(qcnn_model_add_node(model, QCNN_OP_UNARY, NULL, &response, 1, output, &attributes, NULL, error));
    model->nodes[n].output = response;
    model->nodes[n].attributes.activation = (qcnn_activation){ .function = QCNN_IDENTITY };
    const qcnn_node last = model->nodes[model->n_nodes - 1];
    memmove(model->nodes + n + 2, model->nodes + n + 1, (model->n_nodes - n - 2) * sizeof *model->nodes);
    model->nodes[n + 1] = last;
    return QCNN_OK;
}

// From the last layer on, so that the numbers of those before stay what they are.
static qcnn_status split_all(measurement *m, int which, const qcnn_model *model, qcnn_error *error)
{
    QCNN_TRY(qcnn_model_copy(model, &m->models[which], error));
    qcnn_model *copy = m->models[which];
    copy->exact = true;
    for (size_t i = m->n_layers; i-- > 0;) {
        QCNN_TRY(split_node(copy, m->layers[i].node, error));
        m->layers[i].values[which] = copy->nodes[m->layers[i].node].output;
    }
    m->end = m->layers[m->n_layers - 1].node + 1 + copy->n_nodes - model->n_nodes;
    const char *kernels = qcnn_model_kernels(model);
    return qcnn_model_prepare(copy, *kernels ? kernels : NULL, error);
}

static qcnn_status new_layer(const qcnn_model *model, size_t node, measured_layer *layer, qcnn_error *error)
{
    const qcnn_shape *shape = &model->values[model->nodes[node].output].shape;
    const int channels = model->nodes[node].op == QCNN_OP_CONV ? 1 : shape->rank - 1; // the dimension
    *layer = (measured_layer){ .node = node, .n_channels = (size_t)shape->dims[channels], .n_inside = 1 };
    for (int i = channels + 1; i < shape->rank; i++)
        layer->n_inside *= (size_t)shape->dims[i];
    layer->n_outside = (size_t)qcnn_shape_elements(shape) / layer->n_channels / layer->n_inside;
    layer->error = qcnn_allocate_zeroed(N_SAMPLES, sizeof *layer->error);
    layer->sums = qcnn_allocate_zeroed(N_SAMPLES * layer->n_channels, sizeof *layer->sums);
    layer->squares = qcnn_allocate_zeroed(N_SAMPLES * layer->n_channels, sizeof *layer->squares);
    return layer->error && layer->sums && layer->squares ? QCNN_OK : qcnn_fail_memory(error, 2 * N_SAMPLES * layer->n_channels * 8);
}

static qcnn_status list_layers(measurement *m, const qcnn_model *model, qcnn_error *error)
{
    m->layers = qcnn_allocate_zeroed(model->n_nodes, sizeof *m->layers);
    if (!m->layers)
        return qcnn_fail_memory(error, model->n_nodes * sizeof *m->layers);
    for (size_t n = 0; n < model->n_nodes; n++) {
        const qcnn_tensor *weights = qcnn_node_weights(model, &model->nodes[n]);
        if (weights && qcnn_is_codebook(weights) && weights->error < 0)
            QCNN_TRY(new_layer(model, n, &m->layers[m->n_layers++], error));
    }
    return QCNN_OK;
}

// ---- samples --------------------------------------------------------------------------------------------------------

static void compare(measured_layer *layer, int sample, const float *wanted, const float *given)
{
    double *sums = layer->sums + (size_t)sample * layer->n_channels, *squares = layer->squares + (size_t)sample * layer->n_channels;
    for (size_t outside = 0; outside < layer->n_outside; outside++)
        for (size_t c = 0; c < layer->n_channels; c++)
            for (size_t i = 0; i < layer->n_inside; i++, wanted++, given++) {
                const double y = (double)*wanted, d = (double)*given - y;
                layer->error[sample] += d * d;
                sums[c] += y;
                squares[c] += y * y;
            }
}

static qcnn_status run_sample(measurement *m, int sample, int lane, qcnn_error *error)
{
    const int input = m->models[0]->inputs[0];
    float *x = qcnn_stretch_value(m->stretches[0], input, lane);
    QCNN_TRY(qcnn_samples_read(m->samples, m->part, sample, x, error));
    memcpy(qcnn_stretch_value(m->stretches[1], input, lane), x, m->samples->n_elements * sizeof *x);
    for (int i = 0; i < 2; i++)
        qcnn_stretch_run(m->stretches[i], lane);
    for (size_t i = 0; i < m->n_layers; i++)
        compare(&m->layers[i], sample, qcnn_stretch_value(m->stretches[0], m->layers[i].values[0], lane),
                qcnn_stretch_value(m->stretches[1], m->layers[i].values[1], lane));
    return QCNN_OK;
}

static void run_lane(void *argument, int lane, int worker)
{
    (void)worker;
    measurement *m = argument;
    for (int i; (i = atomic_fetch_add(&m->n_taken, 1)) < m->n;)
        m->errors[i].status = run_sample(m, m->first + i, lane, &m->errors[i]);
}

static qcnn_status run_samples(measurement *m, const qcnn_parallel *parallel, const qcnn_progress *progress, qcnn_error *error)
{
    const int n_all = m->samples->n_images[m->part] < N_SAMPLES ? m->samples->n_images[m->part] : N_SAMPLES;
    const int lanes[2] = { qcnn_stretch_n_lanes(m->stretches[0]), qcnn_stretch_n_lanes(m->stretches[1]) };
    for (m->first = 0; m->first < n_all; m->first += BLOCK) {
        if (progress && progress->report(progress->context, "response errors", (double)m->first / n_all))
            return qcnn_fail(error, QCNN_ERROR_CANCELLED, "cancelled while measuring response errors");
        m->n = n_all - m->first < BLOCK ? n_all - m->first : BLOCK;
        atomic_store(&m->n_taken, 0);
        qcnn_for(parallel, lanes[0] < lanes[1] ? lanes[0] : lanes[1], run_lane, m);
        for (int i = 0; i < m->n; i++)
            if (m->errors[i].status != QCNN_OK)
                return qcnn_fail(error, m->errors[i].status, "%s", m->errors[i].message);
    }
    return QCNN_OK;
}

// ---- the whole ------------------------------------------------------------------------------------------------------

// In the order of the samples, whichever thread had them.
static float relative_error(const measured_layer *layer, int n_samples)
{
    const double n = (double)n_samples * (double)(layer->n_outside * layer->n_inside);
    double error = 0, power = 0;
    for (int i = 0; i < n_samples; i++)
        error += layer->error[i];
    for (size_t c = 0; c < layer->n_channels; c++) {
        double sum = 0, square = 0;
        for (int i = 0; i < n_samples; i++) {
            sum += layer->sums[(size_t)i * layer->n_channels + c];
            square += layer->squares[(size_t)i * layer->n_channels + c];
        }
        power += square - sum * sum / n;
    }
    const double relative = power > 0 ? error / power : 0;
    return isfinite(relative) ? (float)relative : -1;
}

static qcnn_status build_stretch(measurement *m, int which, const qcnn_parallel *parallel, qcnn_error *error)
{
    const qcnn_model *model = m->models[which];
    bool *wanted = qcnn_allocate_zeroed(model->n_values, sizeof *wanted);
    if (!wanted)
        return qcnn_fail_memory(error, model->n_values);
    for (size_t i = 0; i < m->n_layers; i++)
        wanted[m->layers[i].values[which]] = true;
    const qcnn_status status = qcnn_stretch_new(model, 0, m->end, wanted, parallel, &m->stretches[which], error);
    qcnn_release(wanted);
    return status;
}

static qcnn_status measure(measurement *m, const qcnn_model *original, qcnn_model *compressed, const qcnn_parallel *parallel,
                           const qcnn_progress *progress, qcnn_error *error)
{
    QCNN_TRY(split_all(m, 0, original, error));
    QCNN_TRY(split_all(m, 1, compressed, error));
    QCNN_TRY(build_stretch(m, 0, parallel, error));
    QCNN_TRY(build_stretch(m, 1, parallel, error));
    QCNN_TRY(run_samples(m, parallel, progress, error));
    const int n_images = m->samples->n_images[m->part], n_samples = n_images < N_SAMPLES ? n_images : N_SAMPLES;
    for (size_t i = 0; i < m->n_layers; i++)
        qcnn_node_weights(compressed, &compressed->nodes[m->layers[i].node])->error = relative_error(&m->layers[i], n_samples);
    return QCNN_OK;
}

qcnn_status qcnn_response_errors(const qcnn_model *original, qcnn_model *compressed, const qcnn_samples *samples,
                                 const qcnn_parallel *parallel, const qcnn_progress *progress, qcnn_error *error)
{
    measurement m = { .samples = samples, .part = samples->n_images[QCNN_PART_HELD_OUT] > 0 ? QCNN_PART_HELD_OUT : QCNN_PART_FIT };
    qcnn_status status = list_layers(&m, compressed, error);
    if (status == QCNN_OK && m.n_layers > 0)
        status = measure(&m, original, compressed, parallel, progress, error);
    for (int i = 0; i < 2; i++) {
        qcnn_stretch_free(m.stretches[i]);
        qcnn_model_free(m.models[i]);
    }
    for (size_t i = 0; i < m.n_layers; i++) {
        qcnn_release(m.layers[i].error);
        qcnn_release(m.layers[i].sums);
        qcnn_release(m.layers[i].squares);
    }
    qcnn_release(m.layers);
    return status;
}
