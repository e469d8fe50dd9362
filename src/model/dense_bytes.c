// SPDX-License-Identifier: Apache-2.0
// Weights of a dense convolution as bytes, in the order in which kernels read them.

#include <string.h>

#include "base/checked.h"
#include "model/model.h"

// One output's weights as whole numbers -127..127 times a scale, into row `row` of its tile: tile[step][tile_rows][4].
static void pack_output(const float *weights, size_t n_inputs, size_t n_taps, size_t tile_rows, int8_t *row, float *scale, int32_t *sum)
{
    float largest = 0;
    for (size_t i = 0; i < n_inputs * n_taps; i++) {
        const float magnitude = weights[i] < 0 ? -weights[i] : weights[i];
        largest = magnitude > largest ? magnitude : largest; // NaN: not larger
    }
    *scale = largest / 127;
    *sum = 0;
    const float inverse = *scale > 0 ? 1 / *scale : 0;
    for (size_t c = 0; c < n_inputs; c += 4)
        for (size_t tap = 0; tap < n_taps; tap++, row += 4 * tile_rows)
            for (size_t i = 0; i < 4 && c + i < n_inputs; i++) {
                float v = weights[(c + i) * n_taps + tap] * inverse;
                v = v > -127 ? v : -127; // also NaN, and what an infinite scale made
                v = v < 127 ? v : 127;
                row[i] = (int8_t)(v < 0 ? v - 0.5F : v + 0.5F);
                *sum += row[i];
            }
}

// The dense weights of one output, [n_inputs][n_taps].
static void gather_output(const qcnn_tensor *weights, size_t o, size_t n_inputs, size_t n_taps, float *row)
{
    if (!qcnn_is_codebook(weights)) {
        memcpy(row, weights->data + o * n_inputs * n_taps, n_inputs * n_taps * sizeof *row);
        return;
    }
    const qcnn_codebook *book = &weights->codebook;
    const size_t n_outputs = (size_t)book->n_outputs, subspace = (size_t)book->subspace, group = o / n_outputs;
    const size_t n_subspaces = (size_t)book->n_subspaces, words = (size_t)book->n_codewords * subspace;
    const float *codewords = book->codewords + (book->n_sets > 1 ? group : 0) * n_subspaces * words;
    const uint8_t *assignment = book->assignments + group * n_subspaces * n_taps * n_outputs + o % n_outputs;
    for (size_t m = 0; m < n_subspaces; m++, codewords += words) {
        const size_t first = m * subspace, width = n_inputs - first < subspace ? n_inputs - first : subspace;
        for (size_t tap = 0; tap < n_taps; tap++, assignment += n_outputs)
            for (size_t i = 0; i < width; i++)
                row[(first + i) * n_taps + tap] = codewords[*assignment * subspace + i];
    }
}

static size_t count_taps(const qcnn_shape *shape)
{
    size_t n = 1;
    for (int i = 2; i < shape->rank; i++)
        n *= (size_t)shape->dims[i];
    return n;
}

uint64_t qcnn_dense_bytes_size(const qcnn_tensor *weights, int groups, int tile_rows)
{
    const uint64_t outputs = (uint64_t)weights->shape.dims[0], tiles = (outputs / (uint64_t)groups - 1) / (uint64_t)tile_rows + 1;
    const uint64_t steps = (((uint64_t)weights->shape.dims[1] - 1) / 4 + 1) * count_taps(&weights->shape);
    uint64_t n;
    if (!qcnn_multiply((uint64_t)groups * tiles * 4 * (uint64_t)tile_rows, steps, &n) || n > SIZE_MAX / 2)
        return UINT64_MAX;
    return sizeof(qcnn_dense_bytes) + outputs * (sizeof(float) + sizeof(int32_t)) + n;
}

qcnn_status qcnn_dense_bytes_make(const qcnn_tensor *weights, int groups, int tile_rows, qcnn_dense_bytes **made, qcnn_error *error)
{
    const size_t all_outputs = (size_t)weights->shape.dims[0], n_inputs = (size_t)weights->shape.dims[1];
    const size_t n_outputs = all_outputs / (size_t)groups, n_taps = count_taps(&weights->shape), rows = (size_t)tile_rows;
    const uint64_t size = qcnn_dense_bytes_size(weights, groups, tile_rows);
    qcnn_dense_bytes *bytes = size <= SIZE_MAX ? qcnn_allocate_zeroed((size_t)size, 1) : NULL;
    float *row = qcnn_allocate(n_inputs * n_taps, sizeof *row);
    *made = bytes;
    if (!bytes || !row) {
        qcnn_release(row);
        return qcnn_fail_memory(error, (size_t)size);
    }
    const size_t tiles = (n_outputs - 1) / rows + 1;
    bytes->tile_rows = tile_rows;
    bytes->n_steps = ((n_inputs - 1) / 4 + 1) * n_taps;
    bytes->tile_bytes = bytes->n_steps * rows * 4;
    bytes->scales = (float *)(void *)(bytes + 1);
    bytes->sums = (int32_t *)(void *)(bytes->scales + all_outputs);
    bytes->weights = (int8_t *)(bytes->sums + all_outputs);
    for (size_t o = 0; o < all_outputs; o++) {
        const size_t group = o / n_outputs, r = o % n_outputs;
        gather_output(weights, o, n_inputs, n_taps, row);
        pack_output(row, n_inputs, n_taps, rows, bytes->weights + (group * tiles + r / rows) * bytes->tile_bytes + 4 * (r % rows),
                    &bytes->scales[o], &bytes->sums[o]);
    }
    qcnn_release(row);
    return QCNN_OK;
}
