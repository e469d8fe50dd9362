// SPDX-License-Identifier: Apache-2.0
// Weights of a dense convolution as bytes, in the order in which kernels read them.

#include <string.h>

#include "base/checked.h"
#include "model/model.h"

// The shape of the work: weights [groups * n_outputs][n_inputs][n_taps], row_taps of the taps in a row of the kernel.
typedef struct packing {
    size_t groups, n_outputs, n_inputs, n_taps, row_taps, tile_rows, tiles, n_steps;
    bool interleaved;
    size_t rows, row_bytes, row_steps, rest_steps; // interleaved: of the kernel, of one of its rows, of what is left of all rows
} packing;

static void count_interleaved(packing *p, const qcnn_attributes *a)
{
    p->rows = p->n_taps / p->row_taps;
    p->row_bytes = p->row_taps * p->n_inputs;
    p->row_steps = (p->row_bytes - 1) / 4 + 1;
    if (a->n_spatial == 2 && p->rows > 1 && p->row_bytes % 4 == 1 && a->dilation[0] == 1 && 4 % a->stride[0] == 0) {
        p->row_steps--;
        p->rest_steps = (p->rows - 1) / 4 + 1;
    }
    p->n_steps = p->rows * p->row_steps + p->rest_steps;
}

static packing packing_of(const qcnn_node *node, const qcnn_tensor *weights, int tile_rows)
{
    const qcnn_attributes *a = &node->attributes;
    const qcnn_shape *shape = &weights->shape;
    packing p = { .groups = (size_t)a->groups, .n_inputs = (size_t)shape->dims[1], .n_taps = 1, .tile_rows = (size_t)tile_rows };
    p.n_outputs = (size_t)shape->dims[0] / p.groups;
    for (int i = 2; i < shape->rank; i++)
        p.n_taps *= (size_t)shape->dims[i];
    p.row_taps = (size_t)shape->dims[shape->rank - 1];
    p.tiles = (p.n_outputs - 1) / p.tile_rows + 1;
    p.interleaved = p.groups == 1 && p.n_inputs < 4 && a->dilation[a->n_spatial - 1] == 1;
    p.n_steps = ((p.n_inputs - 1) / 4 + 1) * p.n_taps;
    if (p.interleaved)
        count_interleaved(&p, a);
    return p;
}

// Where in an output's weights [n_inputs][n_taps] number `i` of a step is, or SIZE_MAX: nowhere.
static size_t weight_of_step(const packing *p, size_t step, size_t i)
{
    if (!p->interleaved) {
        const size_t channel = step / p->n_taps * 4 + i;
        return channel < p->n_inputs ? channel * p->n_taps + step % p->n_taps : SIZE_MAX;
    }
    size_t row, place;
    if (step < p->rows * p->row_steps) {
        row = step / p->row_steps;
        place = step % p->row_steps * 4 + i;
    } else {
        row = (step - p->rows * p->row_steps) * 4 + i;
        place = p->row_bytes - 1;
    }
    if (row >= p->rows || place >= p->row_bytes)
        return SIZE_MAX;
    return place % p->n_inputs * p->n_taps + row * p->row_taps + place / p->n_inputs;
}

// One output's weights as whole numbers -127..127 times a scale, into its row of its tile: tile[step][tile_rows][4].
static void pack_output(const packing *p, const float *weights, int8_t *row, float *scale, int32_t *sum)
{
    float largest = 0;
    for (size_t i = 0; i < p->n_inputs * p->n_taps; i++) {
        const float magnitude = weights[i] < 0 ? -weights[i] : weights[i];
        largest = magnitude > largest ? magnitude : largest; // NaN: not larger
    }
    *scale = largest / 127;
    *sum = 0;
    const float inverse = *scale > 0 ? 1 / *scale : 0;
    for (size_t step = 0; step < p->n_steps; step++, row += 4 * p->tile_rows)
        for (size_t i = 0; i < 4; i++) {
            const size_t place = weight_of_step(p, step, i);
            if (place == SIZE_MAX)
                continue;
            float v = weights[place] * inverse;
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

uint64_t qcnn_dense_bytes_size(const qcnn_node *node, const qcnn_tensor *weights, int tile_rows)
{
    const packing p = packing_of(node, weights, tile_rows);
    uint64_t n;
    if (!qcnn_multiply(p.groups * p.tiles * 4 * p.tile_rows, p.n_steps, &n) || n > SIZE_MAX / 2)
        return UINT64_MAX;
    return sizeof(qcnn_dense_bytes) + p.groups * p.n_outputs * (sizeof(float) + sizeof(int32_t)) + n;
}

qcnn_status qcnn_dense_bytes_make(const qcnn_node *node, const qcnn_tensor *weights, int tile_rows, qcnn_dense_bytes **made,
                                  qcnn_error *error)
{
    const packing p = packing_of(node, weights, tile_rows);
    const size_t all_outputs = p.groups * p.n_outputs;
    const uint64_t size = qcnn_dense_bytes_size(node, weights, tile_rows);
    qcnn_dense_bytes *bytes = size <= SIZE_MAX ? qcnn_allocate_zeroed((size_t)size, 1) : NULL;
    float *row = qcnn_allocate(p.n_inputs * p.n_taps, sizeof *row);
    *made = bytes;
    if (!bytes || !row) {
        qcnn_release(row);
        return qcnn_fail_memory(error, (size_t)size);
    }
    bytes->tile_rows = tile_rows;
    bytes->interleaved = p.interleaved;
    bytes->rest_steps = p.rest_steps;
    bytes->n_steps = p.n_steps;
    bytes->tile_bytes = p.n_steps * p.tile_rows * 4;
    bytes->scales = (float *)(void *)(bytes + 1);
    bytes->sums = (int32_t *)(void *)(bytes->scales + all_outputs);
    bytes->weights = (int8_t *)(bytes->sums + all_outputs);
    for (size_t o = 0; o < all_outputs; o++) {
        const size_t group = o / p.n_outputs, r = o % p.n_outputs;
        gather_output(weights, o, p.n_inputs, p.n_taps, row);
        pack_output(&p, row, bytes->weights + (group * p.tiles + r / p.tile_rows) * bytes->tile_bytes + 4 * (r % p.tile_rows),
                    &bytes->scales[o], &bytes->sums[o]);
    }
    qcnn_release(row);
    return QCNN_OK;
}
