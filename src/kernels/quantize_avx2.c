// SPDX-License-Identifier: Apache-2.0
// Floats to integers and back with AVX2.

#include <immintrin.h>

#include "kernels/kernels.h"

void qcnn_range_avx2(const float *x, size_t n, float *low, float *high)
{
    __m256 least = _mm256_set1_ps(*low), most = _mm256_set1_ps(*high);
    size_t j = 0;
    for (; j + 8 <= n; j += 8) { // the bound is the second operand: it stands against NaN, as in C
        const __m256 v = _mm256_loadu_ps(x + j);
        least = _mm256_min_ps(v, least);
        most = _mm256_max_ps(v, most);
    }
    float lanes[16];
    _mm256_storeu_ps(lanes, least);
    _mm256_storeu_ps(lanes + 8, most);
    for (int i = 0; i < 8; i++) {
        *low = lanes[i] < *low ? lanes[i] : *low;
        *high = lanes[8 + i] > *high ? lanes[8 + i] : *high;
    }
    qcnn_range_c(x + j, n - j, low, high);
}

// Eight numbers times scale, held to low..high (NaN: low), rounded to the nearest even.
static inline __m256i rounded_256(const float *x, __m256 scale, __m256 low, __m256 high)
{
    return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(_mm256_mul_ps(_mm256_loadu_ps(x), scale), low), high));
}

void qcnn_quantize_quads_avx2(size_t n, const float *x, size_t channel_stride, int n_channels, float scale, int zero, int limit,
                              uint8_t *quads)
{
    const __m256 factor = _mm256_set1_ps(scale), low = _mm256_set1_ps((float)-zero), high = _mm256_set1_ps((float)(limit - zero));
    const __m256i zeros = _mm256_set1_epi8((char)zero), byte = _mm256_set1_epi32(255);
    size_t j = 0;
    for (; j + 8 <= n; j += 8) {
        __m256i packed = _mm256_setzero_si256(); // each byte less `zero`, modulo 2^8, then all of them plus it
        for (int i = 0; i < n_channels; i++) {
            const __m256i v = rounded_256(x + (size_t)i * channel_stride + j, factor, low, high);
            packed = _mm256_or_si256(packed, _mm256_sll_epi32(_mm256_and_si256(v, byte), _mm_cvtsi32_si128(8 * i)));
        }
        _mm256_storeu_si256((__m256i *)(void *)(quads + 4 * j), _mm256_add_epi8(packed, zeros));
    }
    qcnn_quantize_quads_c(n - j, x + j, channel_stride, n_channels, scale, zero, limit, quads + 4 * j);
}

void qcnn_quantize_bytes_avx2(size_t n, const float *x, float scale, int zero, int limit, uint8_t *bytes)
{
    const __m256 factor = _mm256_set1_ps(scale), low = _mm256_set1_ps((float)-zero), high = _mm256_set1_ps((float)(limit - zero));
    const __m256i zeros = _mm256_set1_epi16((int16_t)zero), order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    size_t j = 0;
    for (; j + 32 <= n; j += 32) { // packing works within halves: dwords come out as 0 2 4 6 | 1 3 5 7
        const __m256i a = _mm256_packs_epi32(rounded_256(x + j, factor, low, high), rounded_256(x + j + 8, factor, low, high));
        const __m256i b = _mm256_packs_epi32(rounded_256(x + j + 16, factor, low, high), rounded_256(x + j + 24, factor, low, high));
        const __m256i packed = _mm256_packus_epi16(_mm256_add_epi16(a, zeros), _mm256_add_epi16(b, zeros));
        _mm256_storeu_si256((__m256i *)(void *)(bytes + j), _mm256_permutevar8x32_epi32(packed, order));
    }
    qcnn_quantize_bytes_c(n - j, x + j, scale, zero, limit, bytes + j);
}

void qcnn_quantize_words_avx2(size_t n, const float *x, float scale, int limit, int16_t *words)
{
    const __m256 factor = _mm256_set1_ps(scale), high = _mm256_set1_ps((float)limit), low = _mm256_set1_ps((float)-limit);
    size_t j = 0;
    for (; j + 16 <= n; j += 16) {
        const __m256i packed = _mm256_packs_epi32(rounded_256(x + j, factor, low, high), rounded_256(x + j + 8, factor, low, high));
        _mm256_storeu_si256((__m256i *)(void *)(words + j), _mm256_permute4x64_epi64(packed, _MM_SHUFFLE(3, 1, 2, 0)));
    }
    qcnn_quantize_words_c(n - j, x + j, scale, limit, words + j);
}

void qcnn_dequantize_avx2(size_t n, const int32_t *sums, float scale, float start, float low, float *y)
{
    const __m256 factor = _mm256_set1_ps(scale), begin = _mm256_set1_ps(start), bound = _mm256_set1_ps(low);
    size_t j = 0;
    for (; j + 8 <= n; j += 8) {
        const __m256 v = _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(const void *)(sums + j)));
        _mm256_storeu_ps(y + j, _mm256_max_ps(_mm256_add_ps(_mm256_mul_ps(v, factor), begin), bound));
    }
    qcnn_dequantize_c(n - j, sums + j, scale, start, low, y + j);
}
