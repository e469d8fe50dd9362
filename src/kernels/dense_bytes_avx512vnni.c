// SPDX-License-Identifier: Apache-2.0
// Dense products in bytes with VNNI: a tile of 8 rows x 48 columns, 24 accumulators, their activations in three registers and
// each quad of weights broadcast from memory.

#include <immintrin.h>

#include "kernels/kernels.h"

enum { VNNI_ROWS = 8 };

// Written out, because GCC 12 copies accumulators around its intrinsic and spills them. (AT&T order: broadcast weights,
// activations, sums.)
static inline __attribute__((always_inline)) void vnni_multiply_add(__m512i *sum, __m512i values, const int32_t *quad)
{
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(*sum) : "v"(values), "m"(*quad));
}

// VNNI_ROWS x 16 * `vectors`, a constant at every call; all rows are computed, n_rows stored.
static inline __attribute__((always_inline)) void vnni_tile(int vectors, size_t n_rows, __mmask16 last, size_t n_steps,
                                                            const int8_t *weights, const uint8_t *x, const uint32_t *offsets,
                                                            const float *scales, const float *starts, float low, float *y, size_t y_stride)
{
    __m512i sums[VNNI_ROWS * 3]; // (rows, vectors)
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
                vnni_multiply_add(&sums[r * vectors + v], values[v], quad);
        }
    }
    const __m512 bound = _mm512_set1_ps(low);
#pragma GCC unroll 8
    for (int r = 0; r < VNNI_ROWS; r++) {
        const size_t row = (size_t)r < n_rows ? (size_t)r : 0;
        const __mmask16 stored = (size_t)r < n_rows ? 0xFFFF : 0; // a mask, not a branch: the sums stay in registers
        const __m512 scale = _mm512_set1_ps(scales[row]), start = _mm512_set1_ps(starts[row]);
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[r * vectors + v]), scale);
            _mm512_mask_storeu_ps(y + row * y_stride + 16 * v, v == vectors - 1 ? stored & last : stored,
                                  _mm512_max_ps(_mm512_add_ps(product, start), bound));
        }
    }
}

void qcnn_dense_bytes_8x48_avx512vnni(size_t n_rows, size_t n_columns, size_t n_steps, const int8_t *weights, const uint8_t *x,
                                      const uint32_t *offsets, const float *scales, const float *starts, float low, float *y,
                                      size_t y_stride)
{
    const size_t vectors = (n_columns + 15) / 16;
    const __mmask16 last = (__mmask16)(0xFFFF >> (16 * vectors - n_columns));
    switch (vectors) {
    case 1: vnni_tile(1, n_rows, last, n_steps, weights, x, offsets, scales, starts, low, y, y_stride); break;
    case 2: vnni_tile(2, n_rows, last, n_steps, weights, x, offsets, scales, starts, low, y, y_stride); break;
    default: vnni_tile(3, n_rows, last, n_steps, weights, x, offsets, scales, starts, low, y, y_stride);
    }
}
