// SPDX-License-Identifier: Apache-2.0
// What a codebook stands for, and what it takes to store.

#include "model/model.h"

#include <string.h>

int qcnn_assignment_bits(int n_codewords)
{
    int bits = 0;
    while (1 << bits < n_codewords)
        bits++;
    return bits;
}

uint64_t qcnn_codebook_bytes(const qcnn_codebook *book)
{
    const uint64_t n_codewords = (uint64_t)book->n_sets * (uint64_t)book->n_subspaces * (uint64_t)book->n_codewords;
    const uint64_t n_assignments =
        (uint64_t)book->groups * (uint64_t)book->n_subspaces * (uint64_t)book->n_taps * (uint64_t)book->n_outputs;
    return n_codewords * (uint64_t)book->subspace * sizeof(float) +
           (n_assignments * (uint64_t)qcnn_assignment_bits(book->n_codewords) + 7) / 8;
}

uint64_t qcnn_tensor_bytes(const qcnn_tensor *tensor)
{
    return qcnn_is_codebook(tensor) ? qcnn_codebook_bytes(&tensor->codebook) : qcnn_shape_elements(&tensor->shape) * sizeof(float);
}

void qcnn_codebook_decode(const qcnn_codebook *book, float *weights)
{
    const size_t n_inputs = (size_t)book->n_inputs, n_outputs = (size_t)book->n_outputs, n_taps = (size_t)book->n_taps;
    const size_t subspace = (size_t)book->subspace, n_codewords = (size_t)book->n_codewords, n_subspaces = (size_t)book->n_subspaces;
    const uint8_t *assignment = book->assignments;
    for (size_t group = 0; group < (size_t)book->groups; group++) {
        const float *set = book->codewords + (book->n_sets > 1 ? group : 0) * n_subspaces * n_codewords * subspace;
        for (size_t m = 0; m < n_subspaces; m++) {
            const float *codewords = set + m * n_codewords * subspace;
            const size_t first = m * subspace, width = n_inputs - first < subspace ? n_inputs - first : subspace;
            for (size_t tap = 0; tap < n_taps; tap++)
                for (size_t o = 0; o < n_outputs; o++) {
                    const float *codeword = codewords + *assignment++ * subspace;
                    float *weight = weights + ((group * n_outputs + o) * n_inputs + first) * n_taps + tap;
                    for (size_t i = 0; i < width; i++)
                        weight[i * n_taps] = codeword[i];
                }
        }
    }
}
