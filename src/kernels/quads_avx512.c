// SPDX-License-Identifier: Apache-2.0
// Byte planes with AVX-512 (F, BW, DQ, VL): 16 quads to a vector.

#include <immintrin.h>

#include "kernels/kernels.h"

static inline __mmask16 first_quads_512(size_t n)
{
    return n >= 16 ? 0xFFFF : (__mmask16)((1U << n) - 1);
}

// Four vectors of numbers to whole ones in bytes: of each 128 bits of the result, four bytes of a, of b, of c and of d. The limit comes
// first, so that NaN stays and becomes the least whole number; packing lifts what is below 0.
static inline __m512i packed_bytes(__m512 a, __m512 b, __m512 c, __m512 d, __m512 limit)
{
    const __m512i low = _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_min_ps(limit, a)), _mm512_cvtps_epi32(_mm512_min_ps(limit, b)));
    const __m512i high = _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_min_ps(limit, c)), _mm512_cvtps_epi32(_mm512_min_ps(limit, d)));
    return _mm512_packus_epi16(low, high);
}

// ---- sums to quads: four positions at a time ------------------------------------------------------------------------

static inline __m512 scaled_sums(__mmask16 mask, const int32_t *sums, __m512 scale, __m512 start)
{
    return _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_maskz_loadu_epi32(mask, sums)), scale), start);
}

// One quad of up to four positions. (Not by a mask of AVX-512: GCC stores through vextracti32x4 then, which faults under a mask as well.)
static inline void store_positions(uint8_t *to, __m128i quads, size_t n)
{
    if (n == 4)
        _mm_storeu_si128((__m128i *)(void *)to, quads);
    else
        _mm_maskstore_epi32((int *)(void *)to, _mm_cmpgt_epi32(_mm_set1_epi32((int)n), _mm_setr_epi32(0, 1, 2, 3)), quads);
}

void qcnn_requantize_turned_avx512(size_t n_positions, size_t n_outputs, const int32_t *sums, size_t sum_stride, float scale,
                                   const float *starts, int limit, uint8_t *y, size_t quad_stride)
{
    const __m512 scales = _mm512_set1_ps(scale), most = _mm512_set1_ps((float)limit);
    for (size_t p = 0; p < n_positions; p += 4, sums += 4 * sum_stride) {
        const size_t left = n_positions - p < 4 ? n_positions - p : 4;
        const size_t second = left > 1 ? sum_stride : 0, third = left > 2 ? 2 * sum_stride : 0, fourth = left > 3 ? 3 * sum_stride : 0;
        for (size_t o = 0; o < n_outputs; o += 16) {
            const __mmask16 mask = first_quads_512(n_outputs - o);
            const __m512 start = _mm512_maskz_loadu_ps(mask, starts + o);
            const __m512 a = scaled_sums(mask, sums + o, scales, start), b = scaled_sums(mask, sums + second + o, scales, start);
            const __m512 c = scaled_sums(mask, sums + third + o, scales, start), d = scaled_sums(mask, sums + fourth + o, scales, start);
            const __m512i quads = packed_bytes(a, b, c, d, most);
            uint8_t *to = y + o / 4 * quad_stride + 4 * p;
            store_positions(to, _mm512_castsi512_si128(quads), left);
            if (o + 4 < n_outputs)
                store_positions(to + quad_stride, _mm512_extracti32x4_epi32(quads, 1), left);
            if (o + 8 < n_outputs)
                store_positions(to + 2 * quad_stride, _mm512_extracti32x4_epi32(quads, 2), left);
            if (o + 12 < n_outputs)
                store_positions(to + 3 * quad_stride, _mm512_extracti32x4_epi32(quads, 3), left);
        }
    }
}

// ---- max pool -------------------------------------------------------------------------------------------------------

static inline __m512i max_of_rows(__mmask16 mask, const uint8_t *x, size_t row_stride, size_t n_rows)
{
    __m512i most = _mm512_maskz_loadu_epi32(mask, x);
    for (size_t r = 1; r < n_rows; r++)
        most = _mm512_max_epu8(most, _mm512_maskz_loadu_epi32(mask, x + r * row_stride));
    return most;
}

// Two or three taps at a stride of 2: rows first, then the even columns, the odd ones, and the even ones after them.
static void max_pairs_of_quads(uint8_t *y, const uint8_t *x, size_t row_stride, size_t n_rows, size_t n, size_t n_taps)
{
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    for (size_t j = 0; j < n; j += 16, x += 128) {
        const size_t outputs = n - j < 16 ? n - j : 16, columns = 2 * (outputs - 1) + n_taps;
        const __m512i low = max_of_rows(first_quads_512(columns), x, row_stride, n_rows);
        const __m512i high = max_of_rows(first_quads_512(columns > 16 ? columns - 16 : 0), x + 64, row_stride, n_rows);
        const __m512i first = _mm512_permutex2var_epi32(low, even, high);
        __m512i most = _mm512_max_epu8(first, _mm512_permutex2var_epi32(low, odd, high));
        if (n_taps > 2) {
            const __m512i next = columns > 32 ? max_of_rows(1, x + 128, row_stride, n_rows) : _mm512_setzero_si512();
            // without it, the last third tap of fewer outputs is in the even columns
            most = _mm512_max_epu8(most, _mm512_alignr_epi32(next, first, 1));
        }
        _mm512_mask_storeu_epi32(y + 4 * j, first_quads_512(outputs), most);
    }
}

void qcnn_max_quads_avx512(uint8_t *y, const uint8_t *x, size_t row_stride, size_t n_rows, size_t n, size_t n_taps, size_t stride)
{
    if (stride == 2 && (n_taps == 2 || n_taps == 3)) {
        max_pairs_of_quads(y, x, row_stride, n_rows, n, n_taps);
        return;
    }
    if (stride > 1) {
        qcnn_max_quads_c(y, x, row_stride, n_rows, n, n_taps, stride);
        return;
    }
    for (size_t j = 0; j < n; j += 16) {
        const __mmask16 mask = first_quads_512(n - j);
        __m512i most = _mm512_setzero_si512();
        for (size_t t = 0; t < n_taps; t++)
            most = _mm512_max_epu8(most, max_of_rows(mask, x + 4 * (j + t), row_stride, n_rows));
        _mm512_mask_storeu_epi32(y + 4 * j, mask, most);
    }
}

// ---- local response normalization -----------------------------------------------------------------------------------

// qcnn_power_075, operation for operation.
static inline __m512 rounded_power_075(__m512 v)
{
    const __m512i bits = _mm512_castps_si512(v), quarters = _mm512_add_epi32(_mm512_srai_epi32(bits, 1), _mm512_srai_epi32(bits, 2));
    const __m512 y = _mm512_castsi512_ps(_mm512_sub_epi32(_mm512_set1_epi32(0x6F14A000), quarters)), one = _mm512_set1_ps(1);
    const __m512 p = _mm512_mul_ps(v, y), q = _mm512_mul_ps(p, y);
    const __m512 d = _mm512_sub_ps(one, _mm512_mul_ps(_mm512_mul_ps(p, p), q));
    const __m512 slope = _mm512_add_ps(_mm512_set1_ps(0.25F), _mm512_mul_ps(_mm512_set1_ps(0.15625F), d));
    return _mm512_mul_ps(y, _mm512_add_ps(one, _mm512_mul_ps(d, slope)));
}

// A channel at 16 positions, zeros where there is none. (Planes are too far apart for the processor to fetch ahead by itself.)
static inline __m512 channel_values(const float *x, size_t x_stride, size_t channel, size_t n_channels, __mmask16 mask)
{
    if (channel >= n_channels)
        return _mm512_setzero_ps();
    _mm_prefetch((const char *)(x + channel * x_stride + 32), _MM_HINT_T0);
    return _mm512_maskz_loadu_ps(mask, x + channel * x_stride);
}

// Sums of five squares; those of the channels two before to five behind a quad's first are at hand.
void qcnn_lrn_quads_avx512(uint8_t *y, size_t quad_stride, const float *x, size_t x_stride, size_t n_channels, size_t n, int size,
                           float scale, float bias, float ratio, int limit)
{
    if (size != 5) {
        qcnn_lrn_quads_c(y, quad_stride, x, x_stride, n_channels, n, size, scale, bias, ratio, limit);
        return;
    }
    const __m512 scales = _mm512_set1_ps(scale), biases = _mm512_set1_ps(bias), ratios = _mm512_set1_ps(ratio);
    const __m512 most = _mm512_set1_ps((float)limit);
    const __m512i order = _mm512_set4_epi32(0x0F0B0703, 0x0E0A0602, 0x0D090501, 0x0C080400);
    for (size_t p = 0; p < n; p += 16, x += 16, y += 64) {
        const __mmask16 mask = first_quads_512(n - p);
        __m512 values[6], squares[8];
#pragma GCC unroll 2
        for (size_t i = 0; i < 2; i++) {
            values[4 + i] = channel_values(x, x_stride, i, n_channels, mask);
            squares[4 + i] = _mm512_setzero_ps();
            squares[6 + i] = _mm512_mul_ps(values[4 + i], values[4 + i]);
        }
        for (size_t c = 0; c < n_channels; c += 4) {
            __m512 results[4];
            values[0] = values[4], values[1] = values[5];
#pragma GCC unroll 4
            for (size_t i = 0; i < 4; i++) {
                squares[i] = squares[4 + i];
                values[2 + i] = channel_values(x, x_stride, c + 2 + i, n_channels, mask);
                squares[4 + i] = _mm512_mul_ps(values[2 + i], values[2 + i]);
            }
#pragma GCC unroll 4
            for (size_t i = 0; i < 4; i++) {
                __m512 sum = _mm512_add_ps(_mm512_add_ps(squares[i], squares[i + 1]), squares[i + 2]);
                sum = _mm512_add_ps(_mm512_add_ps(sum, squares[i + 3]), squares[i + 4]);
                const __m512 w = rounded_power_075(_mm512_add_ps(biases, _mm512_mul_ps(scales, sum)));
                results[i] = _mm512_mul_ps(values[i], _mm512_mul_ps(w, ratios));
            }
            const __m512i bytes = packed_bytes(results[0], results[1], results[2], results[3], most);
            _mm512_mask_storeu_epi32(y + c / 4 * quad_stride, mask, _mm512_shuffle_epi8(bytes, order));
        }
    }
}

// ---- quads to floats ------------------------------------------------------------------------------------------------

void qcnn_dequantize_quads_avx512(size_t n, const uint8_t *quads, int n_channels, float scale, float *y, size_t channel_stride)
{
    const __m512 scales = _mm512_set1_ps(scale);
    for (size_t j = 0; j < n; j += 16) {
        const __mmask16 mask = first_quads_512(n - j);
        __m512i channels = _mm512_maskz_loadu_epi32(mask, quads + 4 * j);
        for (int i = 0; i < n_channels; i++, channels = _mm512_srli_epi32(channels, 8)) {
            const __m512 values = _mm512_cvtepi32_ps(_mm512_and_si512(channels, _mm512_set1_epi32(255)));
            _mm512_mask_storeu_ps(y + (size_t)i * channel_stride + j, mask, _mm512_mul_ps(values, scales));
        }
    }
}
