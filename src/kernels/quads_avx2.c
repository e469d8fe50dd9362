// SPDX-License-Identifier: Apache-2.0
// Byte planes with AVX2.

#include <immintrin.h>

#include "kernels/kernels.h"

// ---- sums to quads: four positions by eight outputs -----------------------------------------------------------------

// The limit is the first operand of the minimum, so that NaN stays and becomes the least whole number; packing lifts what is below 0.
static inline __m256i whole_sums(const int32_t *sums, __m256 scale, __m256 start, __m256 limit)
{
    const __m256 product = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(const void *)sums)), scale);
    return _mm256_cvtps_epi32(_mm256_min_ps(limit, _mm256_add_ps(product, start)));
}

void qcnn_requantize_turned_avx2(size_t n_positions, size_t n_outputs, const int32_t *sums, size_t sum_stride, float scale,
                                 const float *starts, int limit, uint8_t *y, size_t quad_stride)
{
    const __m256 scales = _mm256_set1_ps(scale), most = _mm256_set1_ps((float)limit);
    const size_t whole_outputs = n_outputs / 8 * 8;
    size_t p = 0;
    for (; p + 4 <= n_positions; p += 4, sums += 4 * sum_stride, y += 16) {
        for (size_t o = 0; o < whole_outputs; o += 8) {
            const __m256 start = _mm256_loadu_ps(starts + o);
            const __m256i low =
                _mm256_packs_epi32(whole_sums(sums + o, scales, start, most), whole_sums(sums + sum_stride + o, scales, start, most));
            const __m256i high = _mm256_packs_epi32(whole_sums(sums + 2 * sum_stride + o, scales, start, most),
                                                    whole_sums(sums + 3 * sum_stride + o, scales, start, most));
            const __m256i quads = _mm256_packus_epi16(low, high); // a quad of outputs in each half
            _mm_storeu_si128((__m128i *)(void *)(y + o / 4 * quad_stride), _mm256_castsi256_si128(quads));
            _mm_storeu_si128((__m128i *)(void *)(y + (o / 4 + 1) * quad_stride), _mm256_extracti128_si256(quads, 1));
        }
        qcnn_requantize_turned_c(4, n_outputs - whole_outputs, sums + whole_outputs, sum_stride, scale, starts + whole_outputs, limit,
                                 y + whole_outputs / 4 * quad_stride, quad_stride);
    }
    qcnn_requantize_turned_c(n_positions - p, n_outputs, sums, sum_stride, scale, starts, limit, y, quad_stride);
}

// ---- max pool: four quads at a time, the last ones perhaps once more ------------------------------------------------

static inline __m128i max_of_rows_128(const uint8_t *x, size_t row_stride, size_t n_rows)
{
    __m128i most = _mm_loadu_si128((const __m128i *)(const void *)x);
    for (size_t r = 1; r < n_rows; r++)
        most = _mm_max_epu8(most, _mm_loadu_si128((const __m128i *)(const void *)(x + r * row_stride)));
    return most;
}

void qcnn_max_quads_avx2(uint8_t *y, const uint8_t *x, size_t row_stride, size_t n_rows, size_t n, size_t n_taps, size_t stride)
{
    if (n < 4 || stride > 2) {
        qcnn_max_quads_c(y, x, row_stride, n_rows, n, n_taps, stride);
        return;
    }
    for (size_t i = 0; i < n; i += 4) {
        const size_t j = i + 4 <= n ? i : n - 4;
        const uint8_t *columns = x + 4 * j * stride;
        __m128i most = _mm_setzero_si128();
        for (size_t t = 0; t < n_taps; t++, columns += 4) {
            const __m128i low = max_of_rows_128(columns, row_stride, n_rows);
            if (stride == 1) {
                most = _mm_max_epu8(most, low);
                continue;
            }
            const __m128i high = max_of_rows_128(columns + 12, row_stride, n_rows); // columns 0 and 2 of low, 4 and 6 from 3 on
            const __m128 both = _mm_shuffle_ps(_mm_castsi128_ps(low), _mm_castsi128_ps(high), _MM_SHUFFLE(3, 1, 2, 0));
            most = _mm_max_epu8(most, _mm_castps_si128(both));
        }
        _mm_storeu_si128((__m128i *)(void *)(y + 4 * j), most);
    }
}

// ---- local response normalization: eight positions ------------------------------------------------------------------

// qcnn_power_075, operation for operation.
static inline __m256 power_075_avx2(__m256 v)
{
    const __m256i bits = _mm256_castps_si256(v), quarters = _mm256_add_epi32(_mm256_srai_epi32(bits, 1), _mm256_srai_epi32(bits, 2));
    const __m256 y = _mm256_castsi256_ps(_mm256_sub_epi32(_mm256_set1_epi32(0x6F14A000), quarters)), one = _mm256_set1_ps(1);
    const __m256 p = _mm256_mul_ps(v, y), q = _mm256_mul_ps(p, y);
    const __m256 d = _mm256_sub_ps(one, _mm256_mul_ps(_mm256_mul_ps(p, p), q));
    const __m256 slope = _mm256_add_ps(_mm256_set1_ps(0.25F), _mm256_mul_ps(_mm256_set1_ps(0.15625F), d));
    return _mm256_mul_ps(y, _mm256_add_ps(one, _mm256_mul_ps(d, slope)));
}

static inline __m256 channel_values_avx2(const float *x, size_t x_stride, size_t channel, size_t n_channels)
{
    return channel < n_channels ? _mm256_loadu_ps(x + channel * x_stride) : _mm256_setzero_ps();
}

// The square of the channel two ahead joins those of four channels.
void qcnn_lrn_quads_avx2(uint8_t *y, size_t quad_stride, const float *x, size_t x_stride, size_t n_channels, size_t n, int size,
                         float scale, float bias, float ratio, int limit)
{
    const __m256i order = _mm256_setr_epi32(0x0C080400, 0x0D090501, 0x0E0A0602, 0x0F0B0703, 0x0C080400, 0x0D090501, 0x0E0A0602, 0x0F0B0703);
    const __m256 scales = _mm256_set1_ps(scale), biases = _mm256_set1_ps(bias), ratios = _mm256_set1_ps(ratio);
    const __m256 most = _mm256_set1_ps((float)limit);
    for (; size == 5 && n >= 8; n -= 8, x += 8, y += 32) {
        __m256 squares[4] = { _mm256_setzero_ps(), _mm256_setzero_ps() };
        for (size_t i = 0; i < 2; i++) {
            const __m256 v = channel_values_avx2(x, x_stride, i, n_channels);
            squares[2 + i] = _mm256_mul_ps(v, v);
        }
        for (size_t c = 0; c < n_channels; c += 4) {
            __m256i whole[4];
#pragma GCC unroll 4
            for (size_t i = 0; i < 4; i++) {
                const __m256 ahead = channel_values_avx2(x, x_stride, c + i + 2, n_channels), square = _mm256_mul_ps(ahead, ahead);
                __m256 sum = _mm256_add_ps(_mm256_add_ps(squares[i], squares[(i + 1) % 4]), squares[(i + 2) % 4]);
                sum = _mm256_add_ps(_mm256_add_ps(sum, squares[(i + 3) % 4]), square);
                squares[i] = square;
                const __m256 w = power_075_avx2(_mm256_add_ps(biases, _mm256_mul_ps(scales, sum)));
                const __m256 value = channel_values_avx2(x, x_stride, c + i, n_channels);
                whole[i] = _mm256_cvtps_epi32(_mm256_min_ps(most, _mm256_mul_ps(value, _mm256_mul_ps(w, ratios))));
            }
            const __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(whole[0], whole[1]), _mm256_packs_epi32(whole[2], whole[3]));
            _mm256_storeu_si256((__m256i *)(void *)(y + c / 4 * quad_stride), _mm256_shuffle_epi8(bytes, order));
        }
    }
    qcnn_lrn_quads_c(y, quad_stride, x, x_stride, n_channels, n, size, scale, bias, ratio, limit);
}

// ---- quads to floats ------------------------------------------------------------------------------------------------

void qcnn_dequantize_quads_avx2(size_t n, const uint8_t *quads, int n_channels, float scale, float *y, size_t channel_stride)
{
    const __m256 scales = _mm256_set1_ps(scale);
    const __m256i byte = _mm256_set1_epi32(255);
    size_t j = 0;
    for (; j + 8 <= n; j += 8) {
        __m256i channels = _mm256_loadu_si256((const __m256i *)(const void *)(quads + 4 * j));
        for (int i = 0; i < n_channels; i++, channels = _mm256_srli_epi32(channels, 8))
            _mm256_storeu_ps(y + (size_t)i * channel_stride + j,
                             _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_and_si256(channels, byte)), scales));
    }
    qcnn_dequantize_quads_c(n - j, quads + 4 * j, n_channels, scale, y + j, channel_stride);
}
