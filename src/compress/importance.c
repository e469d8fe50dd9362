// SPDX-License-Identifier: Apache-2.0
// Importances of output channels: the trainer's gradients of a drawn class's log-probability, squared and averaged.

#include "compress/importance.h"

#include <math.h>
#include <string.h>

#include "compress/blas.h"
#include "compress/refine_batch.h"

enum { IMPORTANCE_BATCH = 32, FISHER_BATCH = 128, FISHER_DRAWS = 2 };
static const double least = 0.02; // of a mean importance, for channels that the samples never needed

// Gradients of log p of a class drawn from softmax(logits): 1 - p for that class, -p for the others.
static void draw_gradients(const float *logits, int n_classes, qcnn_rng *rng, float *gradients)
{
    double largest = -INFINITY, sum = 0, point = qcnn_rng_unit(rng), passed = 0;
    int drawn = -1;
    for (int c = 0; c < n_classes; c++)
        largest = fmax(largest, (double)logits[c]);
    for (int c = 0; c < n_classes; c++)
        sum += exp((double)logits[c] - largest);
    for (int c = 0; c < n_classes; c++) {
        const double p = exp((double)logits[c] - largest) / sum;
        gradients[c] = (float)-p;
        passed += p;
        if (drawn < 0 && passed > point)
            drawn = c;
    }
    gradients[drawn < 0 ? n_classes - 1 : drawn] += 1;
}

// Adds the squared gradients of a layer's output, image by image and channel by channel.
static void add_squares(const qcnn_trainer *trainer, const qcnn_train_value *value, double factor, float *sums)
{
    const size_t channels = (size_t)value->channels, images = (size_t)trainer->slice,
                 n = (size_t)value->n_positions * (value->rows ? 1 : images);
    const size_t n_pieces = value->rows ? (size_t)trainer->batch : QCNN_TRAIN_SLICES;
    const float *gradient = value->gradient;
    for (size_t piece = 0; piece < n_pieces; piece++)
        for (size_t c = 0; c < channels; c++) {
            double sum = 0;
            for (size_t i = 0; i < n; i++, gradient++)
                sum += (double)*gradient * *gradient;
            sums[c] += (float)(factor * sum);
        }
}

// Adds the products of the gradients of a convolution's outputs, group by group.
static void add_channels(const qcnn_trainer *trainer, const qcnn_train_value *value, int groups, float factor, float *fisher)
{
    const size_t n_channels = (size_t)value->channels, n = (size_t)value->n_positions * (size_t)trainer->slice;
    const size_t n_outputs = n_channels / (size_t)groups;
    for (size_t slice = 0; slice < QCNN_TRAIN_SLICES; slice++)
        for (size_t g = 0; g < (size_t)groups; g++) {
            const float *gradient = value->gradient + (slice * n_channels + g * n_outputs) * n;
            const qcnn_gemm_call call = { .transpose_b = true,
                                          .m = (int)n_outputs,
                                          .n = (int)n_outputs,
                                          .k = (int)n,
                                          .alpha = factor,
                                          .beta = 1,
                                          .a = gradient,
                                          .lda = n,
                                          .b = gradient,
                                          .ldb = n,
                                          .c = fisher + g * n_outputs * n_outputs,
                                          .ldc = n_outputs };
            qcnn_gemm(&call, trainer->parallel);
        }
}

// To a mean diagonal of 1.
static void scale_fisher(float *fisher, size_t groups, size_t n)
{
    static const double shrink = 0.1;
    double mean = 0;
    for (size_t g = 0; g < groups; g++)
        for (size_t o = 0; o < n; o++)
            mean += (double)fisher[(g * n + o) * n + o] / (double)(groups * n);
    for (size_t row = 0; row < groups * n; row++)
        for (size_t p = 0; p < n; p++) {
            const bool own = row % n == p;
            const double value = mean > 0 && isfinite(mean) ? (double)fisher[row * n + p] / mean : own;
            fisher[row * n + p] = (float)((own ? value + least : (1 - shrink) * value) / (1 + least));
        }
}

static qcnn_status run_batches(qcnn_trainer *trainer, qcnn_refine_batch *batch, int n_batches, uint64_t seed, const qcnn_progress *progress,
                               float *const *importances, float *const *fishers, float *logits, qcnn_error *error)
{
    const int n_classes = qcnn_train_n_classes(trainer);
    qcnn_rng rng = { qcnn_rng_split(seed, 0x696d70) };
    for (int b = 0; b < n_batches; b++) {
        if (progress && progress->report && progress->report(progress->context, "importances", (double)b / n_batches) != 0)
            return qcnn_fail(error, QCNN_ERROR_CANCELLED, "measuring importances was stopped");
        QCNN_TRY(qcnn_refine_batch_plain(batch, QCNN_PART_FIT, b * IMPORTANCE_BATCH, (b + 1) * IMPORTANCE_BATCH, error));
        qcnn_train_forward(trainer);
        qcnn_train_get_logits(trainer, logits);
        for (int i = 0; i < IMPORTANCE_BATCH; i++)
            draw_gradients(logits + (size_t)i * (size_t)n_classes, n_classes, &rng, logits + (size_t)i * (size_t)n_classes);
        qcnn_train_clear_gradients(trainer);
        qcnn_train_set_logit_gradients(trainer, logits);
        qcnn_train_backward(trainer);
        for (size_t i = 0; i < trainer->n_layers; i++) {
            const qcnn_node *node = trainer->layers[i].node;
            float *sums = importances[node - trainer->model->nodes];
            if (sums && (node->op == QCNN_OP_CONV || node->op == QCNN_OP_FC))
                add_squares(trainer, &trainer->values[node->output], 1.0 / (n_batches * IMPORTANCE_BATCH), sums);
            float *fisher = fishers && node->op == QCNN_OP_CONV ? fishers[node - trainer->model->nodes] : NULL;
            if (fisher)
                add_channels(trainer, &trainer->values[node->output], node->attributes.groups, 1.0f / (float)(n_batches * IMPORTANCE_BATCH),
                             fisher);
        }
    }
    return QCNN_OK;
}

static size_t channels_of(const qcnn_model *model, size_t n)
{
    return (size_t)model->values[model->nodes[n].output].shape.dims[1];
}

qcnn_status qcnn_importances(const qcnn_model *model, const qcnn_samples *samples, int n_samples, uint64_t seed,
                             const qcnn_parallel *parallel, const qcnn_progress *progress, float *const *importances, float *const *fishers,
                             qcnn_error *error)
{
    qcnn_trainer *trainer;
    const qcnn_train_options train = { .batch = IMPORTANCE_BATCH, .backward = true, .everywhere = true, .parallel = parallel };
    QCNN_TRY(qcnn_trainer_new(model, &train, &trainer, error));
    const qcnn_refine_options options = { .parallel = parallel };
    qcnn_refine_batch batch;
    qcnn_status status = qcnn_refine_batch_open(samples, &options, trainer, &batch, error);
    float *logits = qcnn_allocate((size_t)IMPORTANCE_BATCH * (size_t)qcnn_train_n_classes(trainer), sizeof *logits);
    if (status == QCNN_OK && !logits)
        status = qcnn_fail_memory(error, IMPORTANCE_BATCH * sizeof *logits);
    for (size_t n = 0; n < model->n_nodes; n++) {
        const size_t n_channels = channels_of(model, n);
        if (importances[n])
            memset(importances[n], 0, n_channels * sizeof(float));
        if (fishers && fishers[n])
            memset(fishers[n], 0, n_channels * n_channels / (size_t)model->nodes[n].attributes.groups * sizeof(float));
    }
    if (status == QCNN_OK)
        status = run_batches(trainer, &batch, (n_samples + IMPORTANCE_BATCH - 1) / IMPORTANCE_BATCH, seed, progress, importances, fishers,
                             logits, error);
    for (size_t n = 0; status == QCNN_OK && fishers && n < model->n_nodes; n++) {
        const size_t groups = fishers[n] ? (size_t)model->nodes[n].attributes.groups : 1;
        if (fishers[n])
            scale_fisher(fishers[n], groups, channels_of(model, n) / groups);
    }
    qcnn_release(logits);
    qcnn_refine_batch_close(&batch);
    qcnn_trainer_free(trainer);
    return status;
}

double qcnn_importances_normalise(float *importance, size_t n)
{
    double mean = 0;
    for (size_t i = 0; i < n; i++)
        mean += (double)importance[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        importance[i] = mean > 0 && isfinite(mean) ? (float)(((double)importance[i] / mean + least) / (1 + least)) : 1;
    return 0.5 * mean;
}

// ---- outputs together -----------------------------------------------------------------------------------------------

// fisher += sums over a batch of rows and some draws for each; the upper triangle.
static void add_products(qcnn_trainer *trainer, const qcnn_train_value *value, int n_rows, qcnn_rng *rng, float *answers, float *gradients,
                         float *fisher)
{
    const size_t n_classes = (size_t)qcnn_train_n_classes(trainer), n = (size_t)value->channels;
    qcnn_train_forward(trainer);
    qcnn_train_get_logits(trainer, answers);
    memset(gradients, 0, (size_t)FISHER_BATCH * n_classes * sizeof *gradients);
    for (int draw = 0; draw < FISHER_DRAWS; draw++) {
        for (int i = 0; i < n_rows; i++)
            draw_gradients(answers + (size_t)i * n_classes, (int)n_classes, rng, gradients + (size_t)i * n_classes);
        qcnn_train_clear_gradients(trainer);
        qcnn_train_set_logit_gradients(trainer, gradients);
        qcnn_train_backward(trainer);
        qcnn_gram_add((int)n, n_rows, 1, value->gradient, n, fisher, n, trainer->parallel);
    }
}

qcnn_status qcnn_fisher(const qcnn_model *model, size_t node, const float *rows, int n_rows, uint64_t seed, const qcnn_parallel *parallel,
                        float *fisher, qcnn_error *error)
{
    qcnn_trainer *trainer;
    const qcnn_train_options train = {
        .batch = FISHER_BATCH, .backward = true, .everywhere = true, .first_node = node, .parallel = parallel
    };
    QCNN_TRY(qcnn_trainer_new(model, &train, &trainer, error));
    const qcnn_train_value *value = &trainer->values[model->nodes[node].output], *input = &trainer->values[trainer->input];
    const size_t n = (size_t)value->channels, n_inputs = (size_t)(input->channels * input->n_positions);
    const size_t n_logits = (size_t)FISHER_BATCH * (size_t)qcnn_train_n_classes(trainer);
    qcnn_rng rng = { qcnn_rng_split(seed, 0x66697368) };
    float *answers = qcnn_allocate(2 * n_logits, sizeof *answers);
    const qcnn_status status = answers ? QCNN_OK : qcnn_fail_memory(error, 2 * n_logits * sizeof *answers);
    memset(fisher, 0, n * n * sizeof *fisher);
    for (int first = 0; status == QCNN_OK && first < n_rows; first += FISHER_BATCH) {
        const int batch = n_rows - first < FISHER_BATCH ? n_rows - first : FISHER_BATCH;
        for (int i = 0; i < FISHER_BATCH; i++) // the last ones again where there are too few
            qcnn_train_set_image(trainer, i, rows + (size_t)(first + (i < batch ? i : batch - 1)) * n_inputs);
        add_products(trainer, value, batch, &rng, answers, answers + n_logits, fisher);
    }
    if (status == QCNN_OK) {
        qcnn_mirror_upper((int)n, fisher, n, parallel);
        scale_fisher(fisher, 1, n);
    }
    qcnn_release(answers);
    qcnn_trainer_free(trainer);
    return status;
}
