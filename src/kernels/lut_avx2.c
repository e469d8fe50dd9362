// SPDX-License-Identifier: Apache-2.0
// Table sums with AVX2: four outputs at a time, so that eight chains of additions hide the latency of one.

#include <immintrin.h>

#include "kernels/kernels.h"

enum { LUT_COLUMNS = QCNN_LUT_COLUMNS, LUT_OUTPUTS = 4 };

void qcnn_lut_sum_columns_avx2(size_t n_outputs, size_t n_taps, const uint8_t *assignments, const float *const *tables, size_t table_stride,
                               float *sums, size_t lanes)
{
    for (size_t column = 0; column < lanes; column += LUT_COLUMNS) {
        size_t o = 0;
        for (; o + LUT_OUTPUTS <= n_outputs; o += LUT_OUTPUTS) {
            float *place = sums + o * lanes + column;
            __m256 low[LUT_OUTPUTS], high[LUT_OUTPUTS];
            for (int i = 0; i < LUT_OUTPUTS; i++) {
                low[i] = _mm256_loadu_ps(place + (size_t)i * lanes);
                high[i] = _mm256_loadu_ps(place + (size_t)i * lanes + 8);
            }
            for (size_t t = 0; t < n_taps; t++) {
                const float *table = tables[t] + column;
                const uint8_t *codes = assignments + t * n_outputs + o;
                for (int i = 0; i < LUT_OUTPUTS; i++) {
                    const float *entries = table + codes[i] * table_stride;
                    low[i] = _mm256_add_ps(low[i], _mm256_loadu_ps(entries));
                    high[i] = _mm256_add_ps(high[i], _mm256_loadu_ps(entries + 8));
                }
            }
            for (int i = 0; i < LUT_OUTPUTS; i++) {
                _mm256_storeu_ps(place + (size_t)i * lanes, low[i]);
                _mm256_storeu_ps(place + (size_t)i * lanes + 8, high[i]);
            }
        }
        for (; o < n_outputs; o++) {
            float *place = sums + o * lanes + column;
            __m256 low = _mm256_loadu_ps(place), high = _mm256_loadu_ps(place + 8);
            for (size_t t = 0; t < n_taps; t++) {
                const float *entries = tables[t] + column + assignments[t * n_outputs + o] * table_stride;
                low = _mm256_add_ps(low, _mm256_loadu_ps(entries));
                high = _mm256_add_ps(high, _mm256_loadu_ps(entries + 8));
            }
            _mm256_storeu_ps(place, low);
            _mm256_storeu_ps(place + 8, high);
        }
    }
}

// Eight look-ups in a table of 8 * `registers` entries that lie in registers: each register gives its candidate, and the
// bits of the assignment above the third choose among them.
static inline __m256 lut_permute(const __m256 *table, int registers, __m256i codes)
{
    __m256 entries = _mm256_permutevar8x32_ps(table[0], codes);
    if (registers == 1)
        return entries;
    const __m256 bit3 = _mm256_castsi256_ps(_mm256_slli_epi32(codes, 28)); // blends look at the sign bit
    entries = _mm256_blendv_ps(entries, _mm256_permutevar8x32_ps(table[1], codes), bit3);
    if (registers == 2)
        return entries;
    const __m256 upper = _mm256_blendv_ps(_mm256_permutevar8x32_ps(table[2], codes), _mm256_permutevar8x32_ps(table[3], codes), bit3);
    return _mm256_blendv_ps(entries, upper, _mm256_castsi256_ps(_mm256_slli_epi32(codes, 27)));
}

static inline __m256i lut_codes(const uint8_t *assignments)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)assignments));
}

// One subspace's table of 8, 16 or 32 entries, added to all whole vectors of outputs.
static inline void lut_add_permuted(size_t n_outputs, const uint8_t *assignments, const float *table, int registers, float *sums)
{
    __m256 entries[4];
    for (int i = 0; i < registers; i++)
        entries[i] = _mm256_loadu_ps(table + 8 * i);
    for (size_t o = 0; o + 8 <= n_outputs; o += 8)
        _mm256_storeu_ps(sums + o, _mm256_add_ps(_mm256_loadu_ps(sums + o), lut_permute(entries, registers, lut_codes(assignments + o))));
}

void qcnn_lut_sum_avx2(size_t n_outputs, size_t n_subspaces, const uint8_t *assignments, size_t stride, const float *tables,
                       size_t n_codewords, float *sums)
{
    const size_t whole = n_outputs / 8 * 8;
    for (size_t m = 0; m < n_subspaces; m++) {
        const uint8_t *codes = assignments + m * stride;
        const float *table = tables + m * n_codewords;
        switch (n_codewords) {
        case 8: lut_add_permuted(n_outputs, codes, table, 1, sums); break;
        case 16: lut_add_permuted(n_outputs, codes, table, 2, sums); break;
        case 32: lut_add_permuted(n_outputs, codes, table, 4, sums); break;
        default:
            for (size_t o = 0; o < whole; o += 8)
                _mm256_storeu_ps(sums + o, _mm256_add_ps(_mm256_loadu_ps(sums + o), _mm256_i32gather_ps(table, lut_codes(codes + o), 4)));
        }
    }
    if (whole < n_outputs)
        qcnn_lut_sum_c(n_outputs - whole, n_subspaces, assignments + whole, stride, tables, n_codewords, sums + whole);
}
