// SPDX-License-Identifier: Apache-2.0
// Codebooks in training: from codewords to columns, from gradients of columns to those of codewords, and assignments that
// follow latent columns.

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

// ---- assignments ----------------------------------------------------------------------------------------------------
// Each column remembers how far its own gradients have pushed it from its codeword, beyond what all columns of the codeword have in
// common: that is the codeword's to follow. A column whose push leads nearer to another codeword takes that one.

enum { PIECE = 64 };

// Of each codeword -log2 of its share of n assignments, as if each had one more.
static void bits_of_codewords(const uint8_t *assignments, size_t n, int n_codewords, float *bits)
{
    uint32_t counts[QCNN_MAX_CODEWORDS] = { 0 };
    for (size_t j = 0; j < n; j++)
        counts[assignments[j]]++;
    for (int k = 0; k < n_codewords; k++)
        bits[k] = -log2f((float)(counts[k] + 1) / (float)(n + (size_t)n_codewords));
}

// What n assignments take, entropy-coded.
static double bits_of_block(const uint8_t *assignments, size_t n, int n_codewords)
{
    float bits[QCNN_MAX_CODEWORDS];
    double sum = 0;
    bits_of_codewords(assignments, n, n_codewords, bits);
    for (size_t j = 0; j < n; j++)
        sum += (double)bits[assignments[j]];
    return sum;
}

double qcnn_train_bits(const qcnn_train_weights *weights)
{
    const qcnn_codebook *book = &weights->book;
    const size_t n = block_columns(book);
    double sum = 0;
    for (size_t i = 0; i < (size_t)book->groups * (size_t)book->n_subspaces; i++)
        sum += bits_of_block(weights->assignments + i * n, n, book->n_codewords);
    return sum;
}

void qcnn_train_adjust_price(qcnn_train_weights *weights)
{
    const size_t n_blocks = (size_t)weights->book.groups * (size_t)weights->book.n_subspaces;
    double sum = 0;
    for (size_t i = 0; i < n_blocks; i++)
        sum += weights->block_bits[i];
    weights->price *= sum > weights->start_bits ? 1.1f : 0.95f;
}

// Adam over n pushes.
static QCNN_TRAIN_CLONES void push_columns(float *latent, float *first, float *second, const float *gradient, size_t n, float rate,
                                           float unbias)
{
    for (size_t j = 0; j < n; j++) {
        const float g = gradient[j];
        first[j] += 0.1f * (g - first[j]);
        second[j] += 0.01f * (g * g - second[j]);
        latent[j] -= rate * first[j] / (sqrtf(second[j]) * unbias + 1e-20f);
    }
}

// Takes from n pushes the mean of each codeword's.
static void center_pushes(float *latent, const uint8_t *assignments, size_t n, int n_codewords)
{
    float sums[QCNN_MAX_CODEWORDS] = { 0 };
    uint32_t counts[QCNN_MAX_CODEWORDS] = { 0 };
    for (size_t j = 0; j < n; j++) {
        sums[assignments[j]] += latent[j];
        counts[assignments[j]]++;
    }
    for (int k = 0; k < n_codewords; k++)
        sums[k] /= counts[k] > 0 ? (float)counts[k] : 1;
    for (size_t j = 0; j < n; j++)
        latent[j] -= sums[assignments[j]];
}

static QCNN_TRAIN_CLONES void add_squares(const float *latent, size_t n, float *square)
{
    for (size_t j = 0; j < n; j++)
        square[j] += latent[j] * latent[j];
}

// The cheapest codeword for each of PIECE points [width][PIECE]: squared distance and price.
static QCNN_TRAIN_CLONES void choose_codewords(const float *points, int width, const float *codewords, size_t subspace, int n_codewords,
                                               const float *prices, int32_t *chosen)
{
    float best[PIECE], cost[PIECE];
    for (size_t j = 0; j < PIECE; j++) {
        best[j] = INFINITY;
        chosen[j] = 0;
    }
    for (int k = 0; k < n_codewords; k++) {
        for (size_t j = 0; j < PIECE; j++)
            cost[j] = prices[k];
        for (int i = 0; i < width; i++) {
            const float c = codewords[(size_t)k * subspace + (size_t)i];
            for (size_t j = 0; j < PIECE; j++)
                cost[j] += (points[(size_t)i * PIECE + j] - c) * (points[(size_t)i * PIECE + j] - c);
        }
        for (size_t j = 0; j < PIECE; j++) {
            chosen[j] = cost[j] < best[j] ? k : chosen[j];
            best[j] = cost[j] < best[j] ? cost[j] : best[j];
        }
    }
}

// Of each codeword the squared push below which none of its columns changes: with d the distance of its nearest neighbour and p what
// it costs more than the cheapest, pushes of (d^2 - p) / 2d.
static void safe_pushes(const float *codewords, size_t subspace, int n_codewords, const float *prices, float *safe)
{
    float cheapest = prices[0];
    for (int k = 1; k < n_codewords; k++)
        cheapest = fminf(cheapest, prices[k]);
    for (int k = 0; k < n_codewords; k++) {
        float nearest = INFINITY;
        for (int l = 0; l < n_codewords; l++) {
            float square = 0;
            for (size_t i = 0; i < subspace && l != k; i++)
                square += (codewords[(size_t)k * subspace + i] - codewords[(size_t)l * subspace + i]) *
                          (codewords[(size_t)k * subspace + i] - codewords[(size_t)l * subspace + i]);
            nearest = l != k && square < nearest ? square : nearest;
        }
        const float push = (nearest - (prices[k] - cheapest)) / (2 * sqrtf(nearest) + 1e-30f);
        safe[k] = push > 0 ? push * push : 0;
    }
}

// Chooses anew for the listed columns.
static void reassign(const qcnn_codebook *book, int width, const float *codewords, const float *prices, float *latent, size_t n,
                     const uint32_t *listed, int n_listed, uint8_t *assignments)
{
    const size_t subspace = (size_t)book->subspace;
    float points[QCNN_TRAIN_MAX_LATENT_WIDTH * PIECE];
    int32_t chosen[PIECE];
    memset(points, 0, sizeof points);
    for (int j = 0; j < n_listed; j++)
        for (size_t i = 0; i < (size_t)width; i++)
            points[i * PIECE + (size_t)j] = latent[i * n + listed[j]] + codewords[assignments[listed[j]] * subspace + i];
    choose_codewords(points, width, codewords, subspace, book->n_codewords, prices, chosen);
    for (int j = 0; j < n_listed; j++) {
        assignments[listed[j]] = (uint8_t)chosen[j];
        for (size_t i = 0; i < (size_t)width; i++)
            latent[i * n + listed[j]] = points[i * PIECE + (size_t)j] - codewords[(size_t)chosen[j] * subspace + i];
    }
}

void qcnn_train_latent_block(const qcnn_trainer *trainer, qcnn_train_weights *weights, int group, int m, const float *gradients)
{
    const qcnn_codebook *book = &weights->book;
    const size_t n = block_columns(book), subspace = (size_t)book->subspace;
    const int width = qcnn_codebook_width(book, m);
    const size_t at = ((size_t)group * (size_t)book->n_inputs + (size_t)m * subspace) * n;
    const double first_left = 1 - pow(0.9, trainer->step), second_left = 1 - pow(0.99, trainer->step);
    const float rate = (float)(trainer->latent_rate * (double)weights->unit / first_left), unbias = (float)(1 / sqrt(second_left));
    const float *codewords = weights->codewords + codebook_offset(book, group, m);
    float *latent = weights->latent + at, prices[QCNN_MAX_CODEWORDS], safe[QCNN_MAX_CODEWORDS];
    uint8_t *assignments = weights->assignments + assignment_offset(book, group, m);
    bits_of_codewords(assignments, n, book->n_codewords, prices);
    for (int k = 0; k < book->n_codewords; k++)
        prices[k] *= weights->price * weights->scale * weights->scale;
    safe_pushes(codewords, subspace, book->n_codewords, prices, safe);
    for (size_t i = 0; i < (size_t)width; i++) {
        push_columns(latent + i * n, weights->latent_first + at + i * n, weights->latent_second + at + i * n, gradients + i * n, n, rate,
                     unbias);
        center_pushes(latent + i * n, assignments, n, book->n_codewords);
    }
    uint32_t listed[PIECE];
    int n_listed = 0;
    for (size_t j = 0; j < n; j += PIECE) {
        const size_t count = n - j < PIECE ? n - j : PIECE;
        float square[PIECE] = { 0 };
        for (size_t i = 0; i < (size_t)width; i++)
            add_squares(latent + i * n + j, count, square);
        for (size_t l = 0; l < count; l++) {
            if (square[l] <= safe[assignments[j + l]])
                continue;
            listed[n_listed++] = (uint32_t)(j + l);
            if (n_listed == PIECE) {
                reassign(book, width, codewords, prices, latent, n, listed, n_listed, assignments);
                n_listed = 0;
            }
        }
    }
    if (n_listed > 0)
        reassign(book, width, codewords, prices, latent, n, listed, n_listed, assignments);
    weights->block_bits[(size_t)group * (size_t)book->n_subspaces + (size_t)m] = bits_of_block(assignments, n, book->n_codewords);
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
        if (weights->latent && job->trainer->latent_rate > 0)
            qcnn_train_latent_block(job->trainer, weights, group, m, sum);
    }
}

void qcnn_train_collect(const qcnn_trainer *trainer, qcnn_train_weights *weights)
{
    collect_job job = { trainer, weights };
    if (weights->column_gradients)
        qcnn_for(trainer->parallel, weights->book.n_sets * weights->book.n_subspaces, collect_codebook, &job);
    if (weights->latent && trainer->latent_rate > 0)
        qcnn_train_adjust_price(weights);
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
