// SPDX-License-Identifier: Apache-2.0
// Codewords as signed bytes in quads of four inputs, made once at load for layers that run from byte tables (model.h).

#include <string.h>

#include "model/model.h"

// The largest magnitude: of numbers without a sign the one with the largest bits. Not a number if one of them is none.
static float largest_size(const float *x, size_t n)
{
    uint32_t largest = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bits &= 0x7FFFFFFF;
        largest = bits > largest ? bits : largest;
    }
    float size;
    memcpy(&size, &largest, sizeof size);
    return size;
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

// Book b of a form: the codewords' numbers in pieces that stay in the first-level cache, first all to bytes, then to their places.
static void quantize_codebook(const float *codewords, size_t n_codewords, size_t subspace, qcnn_byte_codebook *form, size_t b)
{
    enum { PIECE = 512 };
    const size_t width = form->width, n_quads = (subspace + 3) / 4, n_numbers = n_codewords * subspace;
    int8_t *bytes = form->codewords + b * n_quads * width * 4, piece[PIECE];
    int32_t *sums = form->sums + b * width, norm = 0, largest = 0;
    const float inverse = 1 / form->scales[b];
    size_t k = 0, i = 0; // codeword and place in it
    for (size_t first = 0; first < n_numbers; first += PIECE) {
        const size_t n = n_numbers - first < PIECE ? n_numbers - first : PIECE;
        for (size_t j = 0; j < n; j++)
            piece[j] = nearest_byte(codewords[first + j], inverse);
        for (size_t j = 0; j < n; j++) {
            bytes[(i / 4 * width + k) * 4 + i % 4] = piece[j];
            sums[k] += piece[j];
            norm += piece[j] * piece[j];
            if (++i < subspace)
                continue;
            largest = norm > largest ? norm : largest;
            norm = 0;
            i = 0;
            k++;
        }
    }
    form->norms[b] = (float)largest;
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
        quantize_codebook(codewords, n_codewords, subspace, form, b);
    }
    return QCNN_OK;
}
