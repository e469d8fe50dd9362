// SPDX-License-Identifier: Apache-2.0
// Sensitivity of the output to a layer, by disturbing its weights a little. The disturbance is larger where inputs are weaker, as
// the error of a good quantizer is: about the same response from every input.

#include "compress/sensitivity.h"

#include <math.h>
#include <string.h>

#include "base/parallel.h"
#include "base/rng.h"
#include "compress/blas.h"

typedef struct probe {
    const qcnn_model *models[2]; // as it was, disturbed
    const qcnn_samples *samples;
    qcnn_part part;
    qcnn_session **sessions; // [worker][2]
    float **images;          // [worker]
    float **outputs;         // [worker]: 2 x n_outputs
    size_t n_outputs;
    double *divergence; // [sample]
    qcnn_error *errors; // [sample]
} probe;

// ---- the disturbed network ------------------------------------------------------------------------------------------

static double gauss(qcnn_rng *rng)
{
    return sqrt(-2 * log(1 - qcnn_rng_unit(rng))) * cos(6.283185307179586 * qcnn_rng_unit(rng));
}

// d: n x n_outputs for each group, and what response error it makes beside the power of the responses.
static qcnn_status disturb(const qcnn_statistics *s, int g, qcnn_rng *rng, float *d, float *gd, double *sum, double *power,
                           const qcnn_parallel *parallel)
{
    const size_t n = (size_t)s->n, n_outputs = (size_t)s->n_outputs;
    double mean = 0;
    for (size_t i = 0; i < n; i++)
        mean += (double)s->gram[g][i * n + i] / (double)n;
    for (size_t i = 0; i < n; i++)
        for (size_t o = 0; o < n_outputs; o++)
            d[i * n_outputs + o] = (float)(gauss(rng) / sqrt((double)s->gram[g][i * n + i] + 0.1 * mean + 1e-30));
    qcnn_gemm_call call = {
        .m = s->n, .n = s->n_outputs, .k = s->n, .alpha = 1, .a = s->gram[g], .lda = n, .b = d, .ldb = n_outputs, .c = gd, .ldc = n_outputs
    };
    qcnn_gemm(&call, parallel);
    for (size_t i = 0; i < n * n_outputs; i++)
        *sum += (double)gd[i] * (double)d[i];
    call.b = s->weights[g];
    qcnn_gemm(&call, parallel);
    for (size_t i = 0; i < n * n_outputs; i++)
        *power += (double)gd[i] * (double)s->weights[g][i];
    return QCNN_OK;
}

// weights [groups * outputs][channels][taps] += scale * d.
static void add_disturbance(const qcnn_statistics *s, int g, int n_channels, const float *d, double scale, float *weights)
{
    const size_t n_outputs = (size_t)s->n_outputs, channels = (size_t)n_channels, n_taps = (size_t)s->n / channels;
    for (size_t o = 0; o < n_outputs; o++)
        for (size_t c = 0; c < channels; c++)
            for (size_t t = 0; t < n_taps; t++)
                weights[(((size_t)g * n_outputs + o) * channels + c) * n_taps + t] +=
                    (float)(scale * (double)d[(t * channels + c) * n_outputs + o]);
}

static qcnn_status disturbed_weights(const qcnn_statistics *s, int n_channels, uint64_t seed, const qcnn_parallel *parallel, float *weights,
                                     double *response_error, qcnn_error *error)
{
    static const double relative = 0.01;
    const size_t n = (size_t)s->n * (size_t)s->n_outputs;
    float *d = qcnn_allocate((size_t)s->groups * n, sizeof *d), *gd = qcnn_allocate(n, sizeof *gd);
    double sum = 0, power = 0;
    if (!d || !gd) {
        qcnn_release(d);
        qcnn_release(gd);
        return qcnn_fail_memory(error, (size_t)(s->groups + 1) * n * sizeof *d);
    }
    qcnn_rng rng = { seed };
    for (int g = 0; g < s->groups; g++)
        disturb(s, g, &rng, d + (size_t)g * n, gd, &sum, &power, parallel);
    const double scale = sum > 0 ? sqrt(relative * power / sum) : 0;
    for (int g = 0; g < s->groups; g++)
        add_disturbance(s, g, n_channels, d + (size_t)g * n, scale, weights);
    *response_error = scale * scale * sum;
    qcnn_release(d);
    qcnn_release(gd);
    return QCNN_OK;
}

static qcnn_status disturbed_model(const qcnn_model *original, size_t node, const qcnn_statistics *s, uint64_t seed,
                                   const qcnn_parallel *parallel, qcnn_model **model, double *response_error, qcnn_error *error)
{
    QCNN_TRY(qcnn_model_copy(original, model, error));
    qcnn_tensor *weights = qcnn_node_weights(*model, &(*model)->nodes[node]);
    const size_t n = (size_t)qcnn_shape_elements(&weights->shape);
    float *copy = qcnn_allocate(n, sizeof *copy);
    if (!copy)
        return qcnn_fail_memory(error, n * sizeof *copy);
    memcpy(copy, weights->data, n * sizeof *copy);
    const qcnn_shape shape = weights->shape;
    qcnn_tensor_release(weights);
    *weights = (qcnn_tensor){ .shape = shape, .data = copy, .owned_data = copy, .error = -1 };
    QCNN_TRY(disturbed_weights(s, (int)shape.dims[1], seed, parallel, copy, response_error, error));
    const char *kernels = qcnn_model_kernels(original);
    return qcnn_model_prepare(*model, *kernels ? kernels : NULL, error);
}

// ---- divergence -----------------------------------------------------------------------------------------------------

static bool gives_probabilities(const qcnn_model *model)
{
    for (size_t n = 0; n < model->n_nodes; n++)
        if (model->nodes[n].output == model->outputs[0])
            return model->nodes[n].op == QCNN_OP_SOFTMAX;
    return false;
}

static void softmax(float *x, size_t n)
{
    float top = x[0];
    double sum = 0;
    for (size_t i = 1; i < n; i++)
        top = x[i] > top ? x[i] : top;
    for (size_t i = 0; i < n; i++)
        sum += (double)(x[i] = expf(x[i] - top));
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((double)x[i] / sum);
}

static double divergence_of(const float *p, const float *q, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        if (p[i] > 0)
            sum += (double)p[i] * log((double)p[i] / ((double)q[i] + 1e-30));
    return sum;
}

static qcnn_status probe_sample(probe *p, int index, int worker, qcnn_error *error)
{
    for (int i = 0; i < 2; i++)
        if (!p->sessions[2 * worker + i])
            QCNN_TRY(qcnn_session_create(p->models[i], NULL, &p->sessions[2 * worker + i], error));
    QCNN_TRY(qcnn_samples_read(p->samples, p->part, index, p->images[worker], error));
    float *outputs[2] = { p->outputs[worker], p->outputs[worker] + p->n_outputs };
    for (int i = 0; i < 2; i++) {
        qcnn_run(p->sessions[2 * worker + i], (const float *const[]){ p->images[worker] }, &outputs[i]);
        if (!gives_probabilities(p->models[0]))
            softmax(outputs[i], p->n_outputs);
    }
    p->divergence[index] = divergence_of(outputs[0], outputs[1], p->n_outputs);
    return QCNN_OK;
}

static void probe_task(void *argument, int index, int worker)
{
    probe *p = argument;
    p->errors[index].status = probe_sample(p, index, worker, &p->errors[index]);
}

static qcnn_status run_probe(probe *p, int n_samples, const qcnn_parallel *parallel, double *mean, qcnn_error *error)
{
    const size_t n_workers = (size_t)qcnn_n_workers(parallel);
    p->sessions = qcnn_allocate_zeroed(2 * n_workers, sizeof *p->sessions);
    p->images = qcnn_allocate_zeroed(n_workers, sizeof *p->images);
    p->outputs = qcnn_allocate_zeroed(n_workers, sizeof *p->outputs);
    p->divergence = qcnn_allocate((size_t)n_samples, sizeof *p->divergence);
    p->errors = qcnn_allocate_zeroed((size_t)n_samples, sizeof *p->errors);
    bool have = p->sessions && p->images && p->outputs && p->divergence && p->errors;
    for (size_t i = 0; have && i < n_workers; i++) {
        p->images[i] = qcnn_allocate(p->samples->n_elements, sizeof(float));
        p->outputs[i] = qcnn_allocate(2 * p->n_outputs, sizeof(float));
        have = p->images[i] && p->outputs[i];
    }
    if (!have)
        return qcnn_fail_memory(error, n_workers * (p->samples->n_elements + 2 * p->n_outputs) * sizeof(float));
    qcnn_for(parallel, n_samples, probe_task, p);
    *mean = 0;
    for (int i = 0; i < n_samples; i++) {
        if (p->errors[i].status != QCNN_OK)
            return qcnn_fail(error, p->errors[i].status, "%s", p->errors[i].message);
        *mean += p->divergence[i] / n_samples;
    }
    return QCNN_OK;
}

static void free_probe(probe *p, int n_workers)
{
    for (int i = 0; i < n_workers; i++) {
        for (int j = 0; p->sessions && j < 2; j++)
            qcnn_session_free(p->sessions[2 * i + j]);
        if (p->images)
            qcnn_release(p->images[i]);
        if (p->outputs)
            qcnn_release(p->outputs[i]);
    }
    qcnn_release(p->sessions);
    qcnn_release(p->images);
    qcnn_release(p->outputs);
    qcnn_release(p->divergence);
    qcnn_release(p->errors);
}

qcnn_status qcnn_sensitivity(const qcnn_model *original, size_t node, const qcnn_statistics *s, const qcnn_samples *samples, int n_samples,
                             uint64_t seed, const qcnn_parallel *parallel, double *sensitivity, qcnn_error *error)
{
    qcnn_model *disturbed = NULL;
    double response_error = 0, mean = 0;
    *sensitivity = 0;
    if (original->n_outputs != 1)
        return QCNN_OK;
    qcnn_status status = disturbed_model(original, node, s, seed, parallel, &disturbed, &response_error, error);
    if (status == QCNN_OK) {
        probe p = { .models = { original, disturbed }, .samples = samples };
        p.part = samples->n_images[QCNN_PART_HELD_OUT] > 0 ? QCNN_PART_HELD_OUT : QCNN_PART_FIT;
        p.n_outputs = (size_t)qcnn_shape_elements(&original->values[original->outputs[0]].shape);
        status = run_probe(&p, n_samples, parallel, &mean, error);
        free_probe(&p, qcnn_n_workers(parallel));
        if (status == QCNN_OK && response_error > 0)
            *sensitivity = mean / response_error;
    }
    qcnn_model_free(disturbed);
    return status;
}
