// SPDX-License-Identifier: Apache-2.0
// The scale of int8 numbers: the largest magnitude over the largest integer, or less, which clips the few largest numbers and
// rounds all others more finely. A row of candidates is tried, each improved once by least squares for its integers.

#include "compress/round.h"

#include <math.h>
#include <string.h>

#include "base/half.h"

enum { N_CANDIDATES = 24 };
static const float SMALLEST_SHARE = 0.5f; // of the magnitude that the smallest candidate reaches

static float to_integer(float number, float scale, float largest)
{
    const float integer = rintf(number / scale);
    return integer > largest ? largest : integer < -largest ? -largest : integer;
}

// The squared error at a scale; *better is the best scale for the integers that this one gives.
static double squared_error(const float *numbers, size_t n, float largest, float scale, float *better)
{
    double error = 0, cross = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        const float integer = to_integer(numbers[i], scale, largest), off = numbers[i] - scale * integer;
        error += (double)off * off;
        cross += (double)numbers[i] * integer;
        norm += (double)integer * integer;
    }
    *better = norm > 0 && cross > 0 ? (float)(cross / norm) : scale;
    return error;
}

static float best_scale(const float *numbers, size_t n, float largest)
{
    float magnitude = 0, best = 0;
    for (size_t i = 0; i < n; i++)
        magnitude = fabsf(numbers[i]) > magnitude ? fabsf(numbers[i]) : magnitude;
    double least = INFINITY;
    for (int c = 0; c < N_CANDIDATES && magnitude > 0; c++) {
        const float share = 1 - (1 - SMALLEST_SHARE) * (float)c / N_CANDIDATES;
        float candidate = magnitude / largest * share;
        for (int pass = 0; pass < 2 && candidate > 0; pass++) {
            float better;
            const double error = squared_error(numbers, n, largest, candidate, &better);
            if (error < least) {
                least = error;
                best = candidate;
            }
            candidate = better;
        }
    }
    return best;
}

void qcnn_round_int8_to(float *numbers, size_t n, int largest, float scale)
{
    for (size_t i = 0; i < n; i++)
        numbers[i] = scale > 0 ? scale * to_integer(numbers[i], scale, (float)largest) + 0.0f : 0; // + 0 makes 0 of -0
}

float qcnn_round_int8(float *numbers, size_t n, int largest)
{
    const float scale = best_scale(numbers, n, (float)largest);
    qcnn_round_int8_to(numbers, n, largest, scale);
    return scale;
}

void qcnn_round_float16(float *numbers, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const float clipped = numbers[i] > 65504 ? 65504 : numbers[i] < -65504 ? -65504 : numbers[i];
        numbers[i] = qcnn_half_to_float(qcnn_float_to_half(clipped));
    }
}

// Rounds `n_runs` runs of `n` numbers. *scales is new memory for int8, else NULL.
static qcnn_status round_runs(float *numbers, size_t n_runs, size_t n, qcnn_number_type type, int largest, float **scales,
                              qcnn_error *error)
{
    *scales = NULL;
    if (type == QCNN_FLOAT16)
        qcnn_round_float16(numbers, n_runs * n);
    if (type != QCNN_INT8)
        return QCNN_OK;
    *scales = qcnn_allocate(n_runs, sizeof **scales);
    if (!*scales)
        return qcnn_fail_memory(error, n_runs * sizeof **scales);
    for (size_t i = 0; i < n_runs; i++)
        (*scales)[i] = qcnn_round_int8(numbers + i * n, n, largest);
    return QCNN_OK;
}

qcnn_status qcnn_codebook_round(qcnn_tensor *tensor, qcnn_number_type type, int largest, qcnn_error *error)
{
    qcnn_codebook *book = &tensor->codebook;
    const size_t n_books = (size_t)book->n_sets * (size_t)book->n_subspaces, n = (size_t)book->n_codewords * (size_t)book->subspace;
    float *scales;
    QCNN_TRY(round_runs(tensor->owned_data, n_books, n, type, largest, &scales, error));
    qcnn_release(tensor->owned_scales);
    book->codeword_type = type;
    book->scales = tensor->owned_scales = scales;
    tensor->stored_bytes = 0;
    return QCNN_OK;
}

qcnn_status qcnn_data_round(qcnn_tensor *tensor, qcnn_number_type type, int largest, qcnn_error *error)
{
    const size_t n = (size_t)qcnn_shape_elements(&tensor->shape), n_runs = tensor->shape.rank > 0 ? (size_t)tensor->shape.dims[0] : 1;
    if (!tensor->owned_data) {
        float *copy = qcnn_allocate(n, sizeof *copy);
        if (!copy)
            return qcnn_fail_memory(error, n * sizeof *copy);
        memcpy(copy, tensor->data, n * sizeof *copy);
        tensor->data = tensor->owned_data = copy;
    }
    float *scales;
    QCNN_TRY(round_runs(tensor->owned_data, n_runs, n / n_runs, type, largest, &scales, error));
    qcnn_release(tensor->owned_scales);
    tensor->data_type = type;
    tensor->data_scales = tensor->owned_scales = scales;
    tensor->stored_bytes = 0;
    return QCNN_OK;
}
