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

const char *qcnn_number_type_name(qcnn_number_type type)
{
    static const char *const names[] = { "float32", "float16", "int8" };
    return names[type];
}

static uint64_t plain_bytes(qcnn_number_type type, uint64_t n, uint64_t n_scales)
{
    return type == QCNN_INT8 ? n + n_scales * sizeof(float) : n * (type == QCNN_FLOAT16 ? 2 : sizeof(float));
}

static uint64_t count_assignments(const qcnn_codebook *book)
{
    return (uint64_t)book->groups * (uint64_t)book->n_subspaces * (uint64_t)book->n_taps * (uint64_t)book->n_outputs;
}

uint64_t qcnn_codebook_bytes(const qcnn_codebook *book)
{
    const uint64_t n_books = (uint64_t)book->n_sets * (uint64_t)book->n_subspaces;
    return plain_bytes(book->codeword_type, n_books * (uint64_t)book->n_codewords * (uint64_t)book->subspace, n_books) +
           (count_assignments(book) * (uint64_t)qcnn_assignment_bits(book->n_codewords) + 7) / 8;
}

uint64_t qcnn_tensor_bytes(const qcnn_tensor *tensor)
{
    if (tensor->stored_bytes)
        return tensor->stored_bytes;
    if (qcnn_is_codebook(tensor))
        return qcnn_codebook_bytes(&tensor->codebook);
    return plain_bytes(tensor->data_type, qcnn_shape_elements(&tensor->shape), (uint64_t)tensor->shape.dims[0]);
}

uint64_t qcnn_tensor_unfolded(const qcnn_tensor *tensor)
{
    const qcnn_codebook *book = &tensor->codebook;
    if (!qcnn_is_codebook(tensor))
        return tensor->data_type == QCNN_FLOAT32 ? 0 : qcnn_shape_elements(&tensor->shape) * sizeof(float);
    const uint64_t n_numbers =
        (uint64_t)book->n_sets * (uint64_t)book->n_subspaces * (uint64_t)book->n_codewords * (uint64_t)book->subspace;
    return count_assignments(book) + (book->codeword_type == QCNN_FLOAT32 ? 0 : n_numbers * sizeof(float));
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
