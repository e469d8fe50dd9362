// SPDX-License-Identifier: Apache-2.0
// Table sums with AVX2: four outputs at a time, so that eight chains of additions hide the latency of one.

#include <immintrin.h>

#include "kernels/kernels.h"

enum { LUT_COLUMNS = QCNN_LUT_COLUMNS, LUT_OUTPUTS = 4 };

void qcnn_lut_sum_columns_avx2(size_t n_outputs, size_t n_taps, const uint8_t *assignments, const float *const *tables,
                               size_t table_stride, float *sums, size_t lanes)
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
