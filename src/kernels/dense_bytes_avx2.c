// SPDX-License-Identifier: Apache-2.0
// Dense products in bytes with AVX2: 4 outputs by 16 columns. Activations are at most 127 in this tier, so that the products of two
// neighbours, 2 * 127 * 127, fit in the 16 bits in which vpmaddubsw adds them.

#include <immintrin.h>

#include "kernels/kernels.h"

enum { BYTES_ROWS = 4, BYTES_VECTORS = 2 };

static inline void store_bytes_row(const __m256i *sums, size_t n, float scale, float start, float low, float *y)
{
    for (size_t v = 0; v < BYTES_VECTORS && 8 * v < n; v++) {
        const __m256 product = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[v]), _mm256_set1_ps(scale));
        const __m256 value = _mm256_max_ps(_mm256_add_ps(product, _mm256_set1_ps(start)), _mm256_set1_ps(low));
        const int left = n - 8 * v < 8 ? (int)(n - 8 * v) : 8;
        const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(left), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
        _mm256_maskstore_ps(y + 8 * v, mask, value);
    }
}

void qcnn_dense_bytes_4x16_avx2(size_t n_rows, size_t n_columns, size_t n_steps, const int8_t *weights, const uint8_t *x,
                                const uint32_t *offsets, const float *scales, const float *starts, float low, float *y, size_t y_stride)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sums[BYTES_ROWS][BYTES_VECTORS] = { { _mm256_setzero_si256() } };
    for (size_t s = 0; s < n_steps; s++, weights += BYTES_ROWS * 4) {
        const __m256i *quads = (const __m256i *)(const void *)(x + offsets[s]);
        const __m256i left = _mm256_loadu_si256(quads), right = _mm256_loadu_si256(quads + 1);
#pragma GCC unroll 4
        for (int r = 0; r < BYTES_ROWS; r++) {
            int32_t quad;
            __builtin_memcpy(&quad, weights + 4 * r, sizeof quad);
            const __m256i weight = _mm256_set1_epi32(quad);
            sums[r][0] = _mm256_add_epi32(sums[r][0], _mm256_madd_epi16(_mm256_maddubs_epi16(left, weight), ones));
            sums[r][1] = _mm256_add_epi32(sums[r][1], _mm256_madd_epi16(_mm256_maddubs_epi16(right, weight), ones));
        }
    }
#pragma GCC unroll 4
    for (size_t r = 0; r < BYTES_ROWS; r++)
        if (r < n_rows)
            store_bytes_row(sums[r], n_columns, scales[r], starts[r], low, y + r * y_stride);
}
