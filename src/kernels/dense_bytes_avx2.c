// SPDX-License-Identifier: Apache-2.0
// Dense products in bytes with AVX2, to floats or quads: 4 outputs by 16 columns. Activations are at most 127 in this tier, so that the
// products of two neighbours, 2 * 127 * 127, fit in the 16 bits in which vpmaddubsw adds them.

#include <immintrin.h>

#include "kernels/kernels.h"

enum { BYTES_ROWS = 4, BYTES_VECTORS = 2 };

static inline __m256i lanes_below(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n < 8 ? (int)n : 8), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline __m256 value_of_sums(__m256i sums, float scale, float start)
{
    return _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_set1_ps(scale)), _mm256_set1_ps(start));
}

// The sums of a tile, (rows, vectors).
static inline void sum_tile(size_t n_steps, const int8_t *weights, const uint8_t *x, const uint32_t *offsets,
                            __m256i sums[BYTES_ROWS][BYTES_VECTORS])
{
    const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 4
    for (int r = 0; r < BYTES_ROWS; r++)
        sums[r][0] = sums[r][1] = _mm256_setzero_si256();
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
}

void qcnn_dense_bytes_4x16_avx2(size_t n_rows, size_t n_columns, size_t n_steps, const int8_t *weights, const uint8_t *x,
                                const uint32_t *offsets, const float *scales, const float *starts, float low, float *y, size_t y_stride)
{
    __m256i sums[BYTES_ROWS][BYTES_VECTORS];
    sum_tile(n_steps, weights, x, offsets, sums);
#pragma GCC unroll 4
    for (size_t r = 0; r < BYTES_ROWS; r++)
#pragma GCC unroll 2
        for (size_t v = 0; v < BYTES_VECTORS; v++)
            if (r < n_rows && 8 * v < n_columns)
                _mm256_maskstore_ps(y + r * y_stride + 8 * v, lanes_below(n_columns - 8 * v),
                                    _mm256_max_ps(value_of_sums(sums[r][v], scales[r], starts[r]), _mm256_set1_ps(low)));
}

void qcnn_dense_quads_4x16_avx2(size_t n_rows, size_t n_columns, size_t n_steps, const int8_t *weights, const uint8_t *x,
                                const uint32_t *offsets, const float *scales, const float *starts, int limit, uint8_t *y,
                                size_t quad_stride)
{
    (void)quad_stride; // a tile has one quad
    const __m256i order = _mm256_setr_epi32(0x0C080400, 0x0D090501, 0x0E0A0602, 0x0F0B0703, 0x0C080400, 0x0D090501, 0x0E0A0602, 0x0F0B0703);
    const __m256 most = _mm256_set1_ps((float)limit);
    __m256i sums[BYTES_ROWS][BYTES_VECTORS];
    sum_tile(n_steps, weights, x, offsets, sums);
#pragma GCC unroll 2
    for (size_t v = 0; v < BYTES_VECTORS; v++) {
        __m256i whole[BYTES_ROWS];
#pragma GCC unroll 4
        for (size_t r = 0; r < BYTES_ROWS; r++) { // NaN stays behind the limit and becomes the least number, which packing lifts to 0
            const __m256 value = r < n_rows ? value_of_sums(sums[r][v], scales[r], starts[r]) : _mm256_setzero_ps();
            whole[r] = _mm256_cvtps_epi32(_mm256_min_ps(most, value));
        }
        const __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(whole[0], whole[1]), _mm256_packs_epi32(whole[2], whole[3]));
        if (8 * v < n_columns)
            _mm256_maskstore_epi32((int *)(void *)(y + 32 * v), lanes_below(n_columns - 8 * v), _mm256_shuffle_epi8(bytes, order));
    }
}
