// SPDX-License-Identifier: Apache-2.0
// Codewords as signed bytes in quads of four inputs, made once at load for layers that run from byte tables (model.h); and numbers stored
// as bytes back to floats. What loading spends its time on: compiled for speed.

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

bool qcnn_integers_to_floats(const unsigned char *bytes, size_t n, const float *scales, size_t n_scales, float *numbers)
{
    const size_t run = n / n_scales;
    uint8_t bad = 0;
    for (size_t s = 0; s < n_scales; s++, bytes += run, numbers += run)
        for (size_t i = 0; i < run; i++) {
            bad |= bytes[i] == 0x80;
            numbers[i] = scales[s] * (float)(int8_t)bytes[i];
        }
    return !bad;
}

uint64_t qcnn_byte_codebook_size(const qcnn_codebook *book, size_t width)
{
    const uint64_t quads = ((uint64_t)book->subspace + 3) / 4;
    return (uint64_t)book->n_sets * (uint64_t)book->n_subspaces * (width * (quads + 1) * 4 + 8) + sizeof(qcnn_byte_codebook);
}

// Book b of a form.
static void quantize_codebook(const float *codewords, size_t n_codewords, size_t subspace, qcnn_byte_codebook *form, size_t b)
{
    const size_t width = form->width, n_quads = (subspace + 3) / 4;
    const float inverse = 1 / form->scales[b];
    int32_t largest = 0;
    for (size_t k = 0; k < n_codewords; k++) {
        int8_t *quad = form->codewords + (b * n_quads * width + k) * 4;
        int32_t sum = 0, norm = 0;
        for (size_t i = 0; i < subspace; i += 4, quad += 4 * width) {
            int8_t bytes[4] = { 0 };
            for (size_t j = 0; j < 4 && i + j < subspace; j++)
                bytes[j] = nearest_byte(codewords[i + j], inverse);
            memcpy(quad, bytes, 4);
            for (size_t j = 0; j < 4; j++) {
                sum += bytes[j];
                norm += bytes[j] * bytes[j];
            }
        }
        form->sums[b * width + k] = sum;
        largest = norm > largest ? norm : largest;
        codewords += subspace;
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
