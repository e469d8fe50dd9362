// SPDX-License-Identifier: Apache-2.0
// Floats to integers and back, and sums of 16-bit tables, with AVX-512 (F, BW, DQ, VL).

#include <immintrin.h>

#include "kernels/kernels.h"

static inline __mmask16 lane_mask_512(size_t n)
{
    return n >= 16 ? 0xFFFF : (__mmask16)((1U << n) - 1);
}

void qcnn_range_avx512(const float *x, size_t n, float *low, float *high)
{
    __m512 least = _mm512_set1_ps(*low), most = _mm512_set1_ps(*high);
    for (size_t j = 0; j < n; j += 16) { // the bound is the second operand: it stands against NaN, as in C
        const __m512 v = _mm512_mask_loadu_ps(least, lane_mask_512(n - j), x + j);
        least = _mm512_min_ps(v, least);
        most = _mm512_mask_max_ps(most, lane_mask_512(n - j), v, most);
    }
    *low = _mm512_reduce_min_ps(least);
    *high = _mm512_reduce_max_ps(most);
}

// x * scale held to low..high and rounded_512; NaN becomes low.
static inline __m512i rounded_512(__m512 x, __m512 scale, __m512 low, __m512 high)
{
    return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(_mm512_mul_ps(x, scale), low), high));
}

void qcnn_quantize_quads_avx512(size_t n, const float *x, size_t channel_stride, int n_channels, float scale, int zero, int limit,
                                uint8_t *quads)
{
    const __m512 factor = _mm512_set1_ps(scale), low = _mm512_set1_ps((float)-zero), high = _mm512_set1_ps((float)(limit - zero));
    const __m512i zeros = _mm512_set1_epi8((char)zero);
    for (size_t j = 0; j < n; j += 16, quads += 64) {
        const __mmask16 mask = lane_mask_512(n - j);
        __m512i packed = _mm512_setzero_si512(); // each byte less `zero`, modulo 2^8, then all of them plus it
        for (int i = 0; i < n_channels; i++) {
            const __m512i v = rounded_512(_mm512_maskz_loadu_ps(mask, x + (size_t)i * channel_stride + j), factor, low, high);
            packed = _mm512_or_si512(packed, _mm512_sll_epi32(_mm512_and_si512(v, _mm512_set1_epi32(255)), _mm_cvtsi32_si128(8 * i)));
        }
        _mm512_mask_storeu_epi32(quads, mask, _mm512_add_epi8(packed, zeros));
    }
}

void qcnn_quantize_bytes_avx512(size_t n, const float *x, float scale, int zero, int limit, uint8_t *bytes)
{
    const __m512 factor = _mm512_set1_ps(scale), low = _mm512_set1_ps((float)-zero), high = _mm512_set1_ps((float)(limit - zero));
    for (size_t j = 0; j < n; j += 16) {
        const __mmask16 mask = lane_mask_512(n - j);
        const __m512i v = rounded_512(_mm512_maskz_loadu_ps(mask, x + j), factor, low, high);
        _mm512_mask_cvtepi32_storeu_epi8(bytes + j, mask, _mm512_add_epi32(v, _mm512_set1_epi32(zero)));
    }
}

void qcnn_quantize_words_avx512(size_t n, const float *x, float scale, int limit, int16_t *words)
{
    const __m512 factor = _mm512_set1_ps(scale), high = _mm512_set1_ps((float)limit), low = _mm512_set1_ps((float)-limit);
    for (size_t j = 0; j < n; j += 16) {
        const __mmask16 mask = lane_mask_512(n - j);
        _mm512_mask_cvtepi32_storeu_epi16(words + j, mask, rounded_512(_mm512_maskz_loadu_ps(mask, x + j), factor, low, high));
    }
}

void qcnn_quad_norms_avx512(size_t n_positions, int n_quads, const uint8_t *x, size_t x_stride, int zero, int32_t *norms)
{
    const __m512i zeros = _mm512_set1_epi16((int16_t)zero), low = _mm512_set1_epi16(255);
    for (size_t p = 0; p < n_positions; p += 16) {
        const __mmask16 mask = lane_mask_512(n_positions - p);
        __m512i norm = _mm512_setzero_si512();
        for (int q = 0; q < n_quads; q++) {
            const __m512i bytes = _mm512_maskz_loadu_epi32(mask, x + (size_t)q * x_stride + 4 * p);
            const __m512i even = _mm512_sub_epi16(_mm512_and_si512(bytes, low), zeros);
            const __m512i odd = _mm512_sub_epi16(_mm512_srli_epi16(bytes, 8), zeros);
            norm = _mm512_add_epi32(norm, _mm512_add_epi32(_mm512_madd_epi16(even, even), _mm512_madd_epi16(odd, odd)));
        }
        _mm512_mask_storeu_epi32(norms + p, mask, norm);
    }
}

static inline __m512 scaled_512(__m512i sums, __m512 scale, __m512 start, __m512 low)
{
    return _mm512_max_ps(_mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sums), scale), start), low);
}

void qcnn_dequantize_avx512(size_t n, const int32_t *sums, float scale, float start, float low, float *y)
{
    for (size_t j = 0; j < n; j += 16) {
        const __mmask16 mask = lane_mask_512(n - j);
        _mm512_mask_storeu_ps(
            y + j, mask,
            scaled_512(_mm512_maskz_loadu_epi32(mask, sums + j), _mm512_set1_ps(scale), _mm512_set1_ps(start), _mm512_set1_ps(low)));
    }
}

// Turns 16 x 16 dwords: element j of vector i changes places with element i of vector j.
static inline void turn_512(__m512i v[16])
{
    __m512i w[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) { // pairs of dwords, within 128-bit lanes
        w[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        w[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) { // fours
        v[i] = _mm512_unpacklo_epi64(w[i], w[i + 2]);
        v[i + 1] = _mm512_unpackhi_epi64(w[i], w[i + 2]);
        v[i + 2] = _mm512_unpacklo_epi64(w[i + 1], w[i + 3]);
        v[i + 3] = _mm512_unpackhi_epi64(w[i + 1], w[i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) { // lane l of v[4 g + i]: element 4 l + i of rows 4 g..; to vector 4 l + i, lane g
        const __m512i a = _mm512_shuffle_i32x4(v[i], v[4 + i], 0x44), b = _mm512_shuffle_i32x4(v[i], v[4 + i], 0xEE);
        const __m512i c = _mm512_shuffle_i32x4(v[8 + i], v[12 + i], 0x44), d = _mm512_shuffle_i32x4(v[8 + i], v[12 + i], 0xEE);
        w[i] = _mm512_shuffle_i32x4(a, c, 0x88);
        w[4 + i] = _mm512_shuffle_i32x4(a, c, 0xDD);
        w[8 + i] = _mm512_shuffle_i32x4(b, d, 0x88);
        w[12 + i] = _mm512_shuffle_i32x4(b, d, 0xDD);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        v[i] = w[i];
}

void qcnn_dequantize_turned_avx512(size_t n_positions, size_t n_outputs, const int32_t *sums, size_t sum_stride, float scale,
                                   const float *starts, float low, float *y, size_t y_stride)
{
    const __m512 factor = _mm512_set1_ps(scale), bound = _mm512_set1_ps(low);
    for (size_t o = 0; o < n_outputs; o += 16) {
        const size_t outputs = n_outputs - o < 16 ? n_outputs - o : 16;
        for (size_t p = 0; p < n_positions; p += 16) {
            const size_t positions = n_positions - p < 16 ? n_positions - p : 16;
            __m512i v[16];
#pragma GCC unroll 16
            for (size_t i = 0; i < 16; i++)
                v[i] = _mm512_maskz_loadu_epi32(i < positions ? lane_mask_512(outputs) : 0,
                                                sums + (p + (i < positions ? i : 0)) * sum_stride + o);
            turn_512(v);
            for (size_t i = 0; i < outputs; i++)
                _mm512_mask_storeu_ps(y + (o + i) * y_stride + p, lane_mask_512(positions),
                                      scaled_512(v[i], factor, _mm512_set1_ps(starts[o + i]), bound));
        }
    }
}

// ---- sums of 16-bit tables ------------------------------------------------------------------------------------------

// Four outputs at a time, `words` (32 or 16) columns: chains of additions that hide the latency of one.
#define SUM_WORDS_512(OUTPUTS, VECTOR, LOAD, ADD, WIDEN)                                                                                   \
    do {                                                                                                                                   \
        VECTOR sum[OUTPUTS] = { 0 };                                                                                                       \
        for (size_t t = 0; t < n_taps; t++) {                                                                                              \
            const int16_t *table = tables[t] + column;                                                                                     \
            const uint8_t *codes = assignments + t * n_outputs + o;                                                                        \
            _Pragma("GCC unroll 8") for (int i = 0; i < (OUTPUTS); i++) sum[i] = ADD(sum[i], LOAD(table + codes[i] * table_stride));       \
        }                                                                                                                                  \
        _Pragma("GCC unroll 8") for (int i = 0; i < (OUTPUTS); i++) WIDEN(sums + (o + (size_t)i) * lanes + column, sum[i]);                \
    } while (0)

static inline void widen_256(int32_t *place, __m256i sum)
{
    _mm512_storeu_si512(place, _mm512_add_epi32(_mm512_loadu_si512(place), _mm512_cvtepi16_epi32(sum)));
}

static inline void widen_512(int32_t *place, __m512i sum)
{
    widen_256(place, _mm512_castsi512_si256(sum));
    widen_256(place + 16, _mm512_extracti64x4_epi64(sum, 1));
}

static inline __m256i load_words_256(const int16_t *words)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)words);
}

void qcnn_lut_sum_words_avx512(size_t n_outputs, size_t n_taps, const uint8_t *assignments, const int16_t *const *tables,
                               size_t table_stride, int32_t *sums, size_t lanes)
{
    size_t column = 0;
    for (; column + 32 <= lanes; column += 32) {
        size_t o = 0;
        for (; o + 8 <= n_outputs; o += 8)
            SUM_WORDS_512(8, __m512i, _mm512_loadu_si512, _mm512_add_epi16, widen_512);
        for (; o < n_outputs; o++)
            SUM_WORDS_512(1, __m512i, _mm512_loadu_si512, _mm512_add_epi16, widen_512);
    }
    if (column < lanes) {
        size_t o = 0;
        for (; o + 8 <= n_outputs; o += 8)
            SUM_WORDS_512(8, __m256i, load_words_256, _mm256_add_epi16, widen_256);
        for (; o < n_outputs; o++)
            SUM_WORDS_512(1, __m256i, load_words_256, _mm256_add_epi16, widen_256);
    }
}
