// SPDX-License-Identifier: Apache-2.0
// Codewords as signed bytes in quads of four inputs, made once at load for layers that run from byte tables (model.h).

#include <string.h>

#include "model/model.h"

static float largest_size(const float *x, size_t n)
{
    float largest = 0;
    for (size_t i = 0; i < n; i++) {
        const float size = x[i] < 0 ? -x[i] : x[i];
        largest = size > largest ? size : largest;
    }
    return largest;
}

// x * inverse, held to -127..127, to the nearest whole number, even in the middle; -127 where it is not a number. Without a
// branch: close to 3 * 2^22 a float's last bit is worth 1.
static inline int8_t nearest_byte(float x, float inverse)
{
    float v = x * inverse;
    v = v > -127 ? v : -127;
    v = v < 127 ? v : 127;
    v += 0x1.8p23F;
    int32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return (int8_t)(bits - 0x4B400000);
}

static float scale_of(float largest)
{
    return largest > 0 && largest < __builtin_inff() ? largest / 127 : 1;
}

uint64_t qcnn_byte_codebook_size(const qcnn_codebook *book, size_t width)
{
    const uint64_t quads = ((uint64_t)book->subspace + 3) / 4;
    return (uint64_t)book->n_sets * (uint64_t)book->n_subspaces * (width * (quads + 1) * 4 + 8) + sizeof(qcnn_byte_codebook);
}

qcnn_status qcnn_byte_codebook_make(const qcnn_codebook *book, size_t width, qcnn_byte_codebook **made, qcnn_error *error)
{
    const size_t n_books = (size_t)book->n_sets * (size_t)book->n_subspaces, subspace = (size_t)book->subspace;
    const size_t n_codewords = (size_t)book->n_codewords, n_quads = (subspace + 3) / 4, head = 64;
    const uint64_t total = head + qcnn_byte_codebook_size(book, width); // it fits: a float codebook four times as large does
    unsigned char *block = total <= SIZE_MAX ? qcnn_allocate_zeroed(1, (size_t)total) : NULL;
    if (!block)
        return qcnn_fail_memory(error, (size_t)total);
    qcnn_byte_codebook *form = *made = (qcnn_byte_codebook *)(void *)block;
    form->width = width;
    form->codewords = (int8_t *)(block + head);
    form->sums = (int32_t *)(void *)(form->codewords + n_books * n_quads * width * 4);
    form->scales = (float *)(void *)(form->sums + n_books * width);
    form->norms = form->scales + n_books;
    for (size_t b = 0; b < n_books; b++) {
        const float *codewords = book->codewords + b * n_codewords * subspace;
        // Codewords stored as int8 come back as the integers they were.
        const bool stored = book->codeword_type == QCNN_INT8 && book->scales && book->scales[b] > 0;
        form->scales[b] = stored ? book->scales[b] : scale_of(largest_size(codewords, n_codewords * subspace));
        int8_t *bytes = form->codewords + b * n_quads * width * 4;
        const float inverse = 1 / form->scales[b];
        for (size_t k = 0; k < n_codewords; k++) {
            int32_t sum = 0, norm = 0;
            for (size_t i = 0; i < subspace; i++) {
                const int8_t byte = nearest_byte(codewords[k * subspace + i], inverse);
                bytes[(i / 4 * width + k) * 4 + i % 4] = byte;
                sum += byte;
                norm += byte * byte;
            }
            form->sums[b * width + k] = sum;
            form->norms[b] = (float)norm > form->norms[b] ? (float)norm : form->norms[b];
        }
    }
    return QCNN_OK;
}
