// SPDX-License-Identifier: Apache-2.0
// Dense products in bytes with VNNI, to floats or quads: a tile of 8 rows x 48 columns, 24 accumulators, their activations in three
// registers and each quad of weights broadcast from memory.

#include <immintrin.h>

#include "kernels/kernels.h"

enum { VNNI_ROWS = 8 };

// Written out, because GCC 12 copies accumulators around its intrinsic and spills them. (AT&T order: broadcast weights,
// activations, sums.)
static inline __attribute__((always_inline)) void vnni_multiply_add(__m512i *sum, __m512i values, const int32_t *quad)
{
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(*sum) : "v"(values), "m"(*quad));
}

// Where a tile's sums go: y[r][j] = max(low, sum * scales[r] + starts[r]), or, to quads where these are set, whole numbers held to 0..limit
// in quads.
typedef struct vnni_output {
    size_t n_rows;
    __mmask16 last; // columns of the last vector
    const float *scales, *starts;
    float low, *y;
    size_t stride;
    int limit;
    uint8_t *quads;
} vnni_output;

// Pointers and masks, not branches: the sums stay in registers.
static inline __attribute__((always_inline)) void vnni_store_floats(const vnni_output *to, int vectors, const __m512i *sums)
{
    const __m512 bound = _mm512_set1_ps(to->low);
#pragma GCC unroll 8
    for (int r = 0; r < VNNI_ROWS; r++) {
        const size_t row = (size_t)r < to->n_rows ? (size_t)r : 0;
        const __mmask16 stored = (size_t)r < to->n_rows ? 0xFFFF : 0;
        const __m512 scale = _mm512_set1_ps(to->scales[row]), start = _mm512_set1_ps(to->starts[row]);
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[v * VNNI_ROWS + r]), scale);
            _mm512_mask_storeu_ps(to->y + row * to->stride + 16 * v, v == vectors - 1 ? stored & to->last : stored,
                                  _mm512_max_ps(_mm512_add_ps(product, start), bound));
        }
    }
}

// The limit is the first operand of the minimum, so that NaN stays and becomes the least whole number; packing lifts what is below 0.
static inline __attribute__((always_inline)) void vnni_store_quads(const vnni_output *to, int vectors, const __m512i *sums)
{
    static const float none = 0;
    const __m512i order = _mm512_set4_epi32(0x0F0B0703, 0x0E0A0602, 0x0D090501, 0x0C080400);
    const __m512 limit = _mm512_set1_ps((float)to->limit);
#pragma GCC unroll 2
    for (int q = 0; q < VNNI_ROWS / 4; q++) {
        const __mmask16 stored = (size_t)(4 * q) < to->n_rows ? 0xFFFF : 0;
        uint8_t *quads = to->quads + (stored ? (size_t)q * to->stride : 0);
        __m512i whole[3 * 4]; // (vectors, rows)
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) {
            const bool there = (size_t)(4 * q + r) < to->n_rows;
            const __m512 scale = _mm512_set1_ps(*(there ? to->scales + 4 * q + r : &none));
            const __m512 start = _mm512_set1_ps(*(there ? to->starts + 4 * q + r : &none));
#pragma GCC unroll 3
            for (int v = 0; v < vectors; v++) {
                const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[v * VNNI_ROWS + 4 * q + r]), scale);
                whole[4 * v + r] = _mm512_cvtps_epi32(_mm512_min_ps(limit, _mm512_add_ps(product, start)));
            }
        }
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            const __m512i low = _mm512_packs_epi32(whole[4 * v], whole[4 * v + 1]);
            const __m512i high = _mm512_packs_epi32(whole[4 * v + 2], whole[4 * v + 3]);
            _mm512_mask_storeu_epi32(quads + 64 * v, v == vectors - 1 ? stored & to->last : stored,
                                     _mm512_shuffle_epi8(_mm512_packus_epi16(low, high), order));
        }
    }
}

static inline __attribute__((always_inline)) void vnni_store(const vnni_output *to, int vectors, const __m512i *sums)
{
    if (to->quads)
        vnni_store_quads(to, vectors, sums);
    else
        vnni_store_floats(to, vectors, sums);
}

// Tiles of one or two vectors go through memory, for the sake of small code.
static __attribute__((noinline)) void vnni_store_narrow(vnni_output *to, int vectors, const __m512i *sums)
{
    const __mmask16 last = to->last;
    for (int v = 0; v < vectors; v++) {
        to->last = v == vectors - 1 ? last : 0xFFFF;
        vnni_store(to, 1, sums + v * VNNI_ROWS);
        if (to->quads)
            to->quads += 64;
        else
            to->y += 16;
    }
}

// VNNI_ROWS x 16 * `vectors`, a constant at every call; all rows are computed, n_rows stored.
static inline __attribute__((always_inline)) void vnni_tile(int vectors, size_t n_steps, const int8_t *weights, const uint8_t *x,
                                                            const uint32_t *offsets, vnni_output *to)
{
    __m512i sums[VNNI_ROWS * 3]; // (vectors, rows)
#pragma GCC unroll 24
    for (int i = 0; i < VNNI_ROWS * vectors; i++)
        sums[i] = _mm512_setzero_si512();
    for (size_t s = 0; s < n_steps; s++, weights += VNNI_ROWS * 4) {
        const uint8_t *quads = x + offsets[s];
        __m512i values[3];
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++)
            values[v] = _mm512_loadu_si512(quads + 64 * v);
#pragma GCC unroll 8
        for (int r = 0; r < VNNI_ROWS; r++) {
            const int32_t *quad = (const int32_t *)(const void *)(weights + 4 * r);
#pragma GCC unroll 3
            for (int v = 0; v < vectors; v++)
                vnni_multiply_add(&sums[v * VNNI_ROWS + r], values[v], quad);
        }
    }
    if (vectors == 3) {
        vnni_store(to, 3, sums);
        return;
    }
    __m512i kept[VNNI_ROWS * 2];
#pragma GCC unroll 16
    for (int i = 0; i < VNNI_ROWS * vectors; i++)
        kept[i] = sums[i];
    vnni_store_narrow(to, vectors, kept);
}

static void vnni_tile_of(size_t n_columns, size_t n_steps, const int8_t *weights, const uint8_t *x, const uint32_t *offsets,
                         vnni_output *to)
{
    const size_t vectors = (n_columns + 15) / 16;
    to->last = (__mmask16)(0xFFFF >> (16 * vectors - n_columns));
    switch (vectors) {
    case 1: vnni_tile(1, n_steps, weights, x, offsets, to); break;
    case 2: vnni_tile(2, n_steps, weights, x, offsets, to); break;
    default: vnni_tile(3, n_steps, weights, x, offsets, to);
    }
}

void qcnn_dense_bytes_8x48_avx512vnni(size_t n_rows, size_t n_columns, size_t n_steps, const int8_t *weights, const uint8_t *x,
                                      const uint32_t *offsets, const float *scales, const float *starts, float low, float *y,
                                      size_t y_stride)
{
    vnni_output to = { .n_rows = n_rows, .scales = scales, .starts = starts, .low = low, .y = y, .stride = y_stride };
    vnni_tile_of(n_columns, n_steps, weights, x, offsets, &to);
}

void qcnn_dense_quads_8x48_avx512vnni(size_t n_rows, size_t n_columns, size_t n_steps, const int8_t *weights, const uint8_t *x,
                                      const uint32_t *offsets, const float *scales, const float *starts, int limit, uint8_t *y,
                                      size_t quad_stride)
{
    vnni_output to = { .n_rows = n_rows, .scales = scales, .starts = starts, .limit = limit, .quads = y, .stride = quad_stride };
    vnni_tile_of(n_columns, n_steps, weights, x, offsets, &to);
}
