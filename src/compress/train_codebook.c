// SPDX-License-Identifier: Apache-2.0
// Codebooks in training: from codewords to columns, from gradients of columns to those of codewords, and their steps.

#include <math.h>
#include <string.h>

#include "compress/quantize.h"
#include "compress/train.h"

static size_t codebook_offset(const qcnn_codebook *book, int group, int m)
{
    const size_t set = book->n_sets > 1 ? (size_t)group : 0;
    return (set * (size_t)book->n_subspaces + (size_t)m) * (size_t)book->n_codewords * (size_t)book->subspace;
}

static size_t block_columns(const qcnn_codebook *book)
{
    return (size_t)book->n_taps * (size_t)book->n_outputs;
}

static size_t assignment_offset(const qcnn_codebook *book, int group, int m)
{
    return ((size_t)group * (size_t)book->n_subspaces + (size_t)m) * block_columns(book);
}

void qcnn_train_decode(const qcnn_train_weights *weights, int group, int m, int first, int n, float *columns)
{
    const qcnn_codebook *book = &weights->book;
    const size_t subspace = (size_t)book->subspace, n_codewords = (size_t)book->n_codewords;
    const float *codewords = weights->codewords + codebook_offset(book, group, m);
    const uint8_t *assignments = weights->assignments + assignment_offset(book, group, m) + first;
    const int width = qcnn_codebook_width(book, m);
    float entries[QCNN_MAX_CODEWORDS];
    for (int i = 0; i < width; i++) {
        for (size_t k = 0; k < n_codewords; k++)
            entries[k] = codewords[k * subspace + (size_t)i];
        for (size_t tap = 0; tap < (size_t)book->n_taps; tap++, columns += n) {
            const uint8_t *from = assignments + tap * (size_t)book->n_outputs;
            for (int o = 0; o < n; o++)
                columns[o] = entries[from[o]];
        }
    }
}

void qcnn_train_gather(qcnn_train_weights *weights, int group, int m, const float *gradients)
{
    const qcnn_codebook *book = &weights->book;
    const size_t subspace = (size_t)book->subspace, n_codewords = (size_t)book->n_codewords, n = block_columns(book);
    float *to = weights->gradient + codebook_offset(book, group, m);
    const uint8_t *assignments = weights->assignments + assignment_offset(book, group, m);
    const int width = qcnn_codebook_width(book, m);
    for (int i = 0; i < width; i++, gradients += n) {
        float even[QCNN_MAX_CODEWORDS] = { 0 }, odd[QCNN_MAX_CODEWORDS] = { 0 }; // two, so that sums overlap in time
        for (size_t j = 0; j + 1 < n; j += 2) {
            even[assignments[j]] += gradients[j];
            odd[assignments[j + 1]] += gradients[j + 1];
        }
        if (n % 2)
            even[assignments[n - 1]] += gradients[n - 1];
        for (size_t k = 0; k < n_codewords; k++)
            to[k * subspace + (size_t)i] += even[k] + odd[k];
    }
}

// ---- from the slices of a convolution to its codewords ----------------------------------------------------------------

typedef struct collect_job {
    const qcnn_trainer *trainer;
    qcnn_train_weights *weights;
} collect_job;

// One subspace of one set of codebooks: all groups that share it, in order.
static void collect_codebook(void *argument, int index, int worker)
{
    (void)worker;
    const collect_job *job = argument;
    qcnn_train_weights *weights = job->weights;
    const qcnn_codebook *book = &weights->book;
    const int set = index / book->n_subspaces, m = index % book->n_subspaces, groups = book->groups / book->n_sets;
    const size_t n = (size_t)qcnn_codebook_width(book, m) * block_columns(book);
    for (int group = set * groups; group < (set + 1) * groups; group++) {
        const size_t at = ((size_t)group * (size_t)book->n_inputs + (size_t)m * (size_t)book->subspace) * block_columns(book);
        float *sum = weights->column_gradients + at;
        for (size_t slice = 1; slice < QCNN_TRAIN_SLICES; slice++)
            for (size_t i = 0; i < n; i++)
                sum[i] += sum[slice * weights->n_columns + i];
        qcnn_train_gather(weights, group, m, sum);
    }
}

void qcnn_train_collect(const qcnn_trainer *trainer, qcnn_train_weights *weights)
{
    collect_job job = { trainer, weights };
    if (weights->column_gradients)
        qcnn_for(trainer->parallel, weights->book.n_sets * weights->book.n_subspaces, collect_codebook, &job);
}

// ---- steps ------------------------------------------------------------------------------------------------------------

static void adam(float *values, float *first, float *second, const float *gradient, size_t n, float rate, int step)
{
    const float first_left = (float)(1 - pow(0.9, step)), second_left = (float)(1 - pow(0.99, step));
    for (size_t i = 0; i < n; i++) {
        const float g = gradient[i];
        first[i] += 0.1f * (g - first[i]);
        second[i] += 0.01f * (g * g - second[i]);
        values[i] -= rate * (first[i] / first_left) / (sqrtf(second[i] / second_left) + 1e-20f);
    }
}

void qcnn_train_update(qcnn_trainer *trainer, const qcnn_train_step *step)
{
    for (size_t i = 0; i < trainer->n_weights; i++) {
        qcnn_train_weights *w = &trainer->weights[i];
        adam(w->codewords, w->first, w->second, w->gradient, w->n_codewords, step->rate * w->unit, step->number);
    }
    for (size_t i = 0; i < trainer->n_biases; i++) {
        qcnn_train_bias *b = &trainer->biases[i];
        for (size_t slice = 1; slice < QCNN_TRAIN_SLICES; slice++)
            for (size_t c = 0; c < b->n; c++)
                b->gradients[c] += b->gradients[slice * b->n + c];
        adam(b->values, b->first, b->second, b->gradients, b->n, step->bias_rate * b->unit, step->number);
    }
}
