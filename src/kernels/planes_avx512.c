// SPDX-License-Identifier: Apache-2.0
// Max pool and local response normalization with AVX-512 (F, BW, DQ, VL).

#include <immintrin.h>
#include <math.h>

#include "kernels/kernels.h"

static inline __mmask16 first_lanes_512(size_t n)
{
    return n >= 16 ? 0xFFFF : (__mmask16)((1U << n) - 1);
}

// ---- max pool: the bound of a maximum is its second operand, it stands against NaN as in C --------------------------

void qcnn_max_rows_avx512(float *y, const float *x, size_t row_stride, size_t n_rows, size_t n)
{
    size_t j = 0;
    for (; j + 16 <= n; j += 16) { // masked moves cost more than plain ones
        __m512 most = _mm512_set1_ps(-INFINITY);
        for (size_t r = 0; r < n_rows; r++)
            most = _mm512_max_ps(_mm512_loadu_ps(x + r * row_stride + j), most);
        _mm512_storeu_ps(y + j, most);
    }
    if (j < n) {
        const __mmask16 mask = first_lanes_512(n - j);
        __m512 most = _mm512_set1_ps(-INFINITY);
        for (size_t r = 0; r < n_rows; r++)
            most = _mm512_max_ps(_mm512_maskz_loadu_ps(mask, x + r * row_stride + j), most);
        _mm512_mask_storeu_ps(y + j, mask, most);
    }
}

// Two taps at a time share their loads: the even and the odd ones of 32 columns.
static inline __m512 max_of_pairs(const float *x, size_t n_outputs, size_t n_taps)
{
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    const size_t n_columns = 2 * (n_outputs < 16 ? n_outputs : 16); // one less under a last tap without a partner
    __m512 most = _mm512_set1_ps(-INFINITY);
    for (size_t t = 0; t < n_taps; t += 2, x += 2) {
        const size_t n = t + 1 < n_taps ? n_columns : n_columns - 1;
        const __m512 low = _mm512_maskz_loadu_ps(first_lanes_512(n), x);
        const __m512 high = _mm512_maskz_loadu_ps(first_lanes_512(n > 16 ? n - 16 : 0), x + 16);
        most = _mm512_max_ps(_mm512_permutex2var_ps(low, even, high), most);
        if (t + 1 < n_taps)
            most = _mm512_max_ps(_mm512_permutex2var_ps(low, odd, high), most);
    }
    return most;
}

void qcnn_max_columns_avx512(float *y, const float *x, size_t n, size_t n_taps, size_t stride)
{
    if (stride > 2) {
        qcnn_max_columns_c(y, x, n, n_taps, stride);
        return;
    }
    for (size_t j = 0; j < n; j += 16) {
        const __mmask16 mask = first_lanes_512(n - j);
        __m512 most = _mm512_set1_ps(-INFINITY);
        for (size_t t = 0; stride == 1 && t < n_taps; t++)
            most = _mm512_max_ps(_mm512_maskz_loadu_ps(mask, x + j + t), most);
        if (stride == 2)
            most = max_of_pairs(x + 2 * j, n - j, n_taps);
        _mm512_mask_storeu_ps(y + j, mask, most);
    }
}

// Up to 16 outputs at stride 2: the rows are combined first, 2 n_outputs columns for two taps at a time.
static inline __attribute__((always_inline)) __m512 max_of_windows(const float *x, size_t row_stride, size_t n_rows, size_t n_taps,
                                                                   size_t n_outputs)
{
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    __m512 most = _mm512_set1_ps(-INFINITY);
    for (size_t t = 0; t < n_taps; t += 2, x += 2) {
        const size_t n = t + 1 < n_taps ? 2 * n_outputs : 2 * n_outputs - 1; // a last tap without a partner reaches one column less
        const __mmask16 low = first_lanes_512(n), high = first_lanes_512(n > 16 ? n - 16 : 0);
        __m512 left = _mm512_set1_ps(-INFINITY), right = left;
        for (size_t r = 0; r < n_rows; r++) {
            left = _mm512_max_ps(_mm512_maskz_loadu_ps(low, x + r * row_stride), left);
            right = _mm512_max_ps(_mm512_maskz_loadu_ps(high, x + r * row_stride + 16), right);
        }
        most = _mm512_max_ps(_mm512_permutex2var_ps(left, even, right), most);
        if (t + 1 < n_taps)
            most = _mm512_max_ps(_mm512_permutex2var_ps(left, odd, right), most);
    }
    return most;
}

void qcnn_max_windows_avx512(float *y, const float *x, size_t row_stride, size_t n_rows, size_t n, size_t n_taps, size_t stride)
{
    size_t j = 0;
    for (; stride == 2 && j + 16 <= n; j += 16)
        _mm512_storeu_ps(y + j, max_of_windows(x + 2 * j, row_stride, n_rows, n_taps, 16));
    if (stride != 2)
        qcnn_max_windows_avx2(y, x, row_stride, n_rows, n, n_taps, stride);
    else if (j < n)
        _mm512_mask_storeu_ps(y + j, first_lanes_512(n - j), max_of_windows(x + 2 * j, row_stride, n_rows, n_taps, n - j));
}

// ---- local response normalization -----------------------------------------------------------------------------------

// v^-0.5 from the processor's 14 bits by a Newton step: within 2^-22.
static inline __m512 inverse_root(__m512 v)
{
    const __m512 r = _mm512_rsqrt14_ps(v), half = _mm512_mul_ps(v, _mm512_mul_ps(r, _mm512_set1_ps(0.5F)));
    return _mm512_mul_ps(r, _mm512_fnmadd_ps(half, r, _mm512_set1_ps(1.5F)));
}

// v^-0.75. The Newton step does not hold for zeros, infinities and the like: those lanes take the long way.
static inline __m512 power_075(__m512 v)
{
    const __m512 root = inverse_root(v);
    const __m512 result = _mm512_mul_ps(_mm512_mul_ps(root, root), inverse_root(root)); // r^1.5 = r^2 r^-0.5
    const __mmask16 plain =
        _mm512_cmp_ps_mask(v, _mm512_set1_ps(0x1p-60F), _CMP_GE_OQ) & _mm512_cmp_ps_mask(v, _mm512_set1_ps(0x1p60F), _CMP_LE_OQ);
    if (plain == 0xFFFF)
        return result;
    const __m512 exact = _mm512_div_ps(_mm512_set1_ps(1), _mm512_sqrt_ps(v));
    return _mm512_mask_mov_ps(_mm512_mul_ps(exact, _mm512_sqrt_ps(exact)), plain, result);
}

void qcnn_lrn_avx512(float *y, const float *x, const float *rows, size_t row_stride, size_t n_rows, size_t n, float scale, float beta,
                     float bias)
{
    if (beta != 0.75F) {
        qcnn_lrn_c(y, x, rows, row_stride, n_rows, n, scale, beta, bias);
        return;
    }
    for (size_t j = 0; j < n; j += 16) {
        const __mmask16 mask = first_lanes_512(n - j);
        __m512 sum = _mm512_setzero_ps();
        for (size_t i = 0; i < n_rows; i++) {
            const __m512 v = _mm512_maskz_loadu_ps(mask, rows + i * row_stride + j);
            sum = _mm512_fmadd_ps(v, v, sum);
        }
        const __m512 factor = power_075(_mm512_fmadd_ps(_mm512_set1_ps(scale), sum, _mm512_set1_ps(bias)));
        _mm512_mask_storeu_ps(y + j, mask, _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + j), factor));
    }
}
