// SPDX-License-Identifier: Apache-2.0
// The two steps of a max pool with AVX2.

#include <immintrin.h>
#include <math.h>

#include "kernels/kernels.h"

// The bound of a maximum is its second operand: it stands against NaN, as in C.

void qcnn_max_rows_avx2(float *y, const float *x, size_t row_stride, size_t n_rows, size_t n)
{
    size_t j = 0;
    for (; j + 8 <= n; j += 8) {
        __m256 most = _mm256_set1_ps(-INFINITY);
        for (size_t r = 0; r < n_rows; r++)
            most = _mm256_max_ps(_mm256_loadu_ps(x + r * row_stride + j), most);
        _mm256_storeu_ps(y + j, most);
    }
    qcnn_max_rows_c(y + j, x + j, row_stride, n_rows, n - j);
}

// x[0], x[2], ... x[14]
static inline __m256 even_columns(const float *x)
{
    const __m256 low = _mm256_loadu_ps(x), high = _mm256_loadu_ps(x + 7);       // 0..7, 7..14
    const __m256 mixed = _mm256_shuffle_ps(low, high, _MM_SHUFFLE(3, 1, 2, 0)); // 0 2 8 10 | 4 6 12 14
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(mixed), _MM_SHUFFLE(3, 1, 2, 0)));
}

void qcnn_max_columns_avx2(float *y, const float *x, size_t n, size_t n_taps, size_t stride)
{
    size_t j = 0;
    for (; stride <= 2 && j + 8 <= n; j += 8) {
        __m256 most = _mm256_set1_ps(-INFINITY);
        for (size_t t = 0; t < n_taps; t++)
            most = _mm256_max_ps(stride == 1 ? _mm256_loadu_ps(x + j + t) : even_columns(x + 2 * j + t), most);
        _mm256_storeu_ps(y + j, most);
    }
    qcnn_max_columns_c(y + j, x + j * stride, n - j, n_taps, stride);
}

void qcnn_max_windows_avx2(float *y, const float *x, size_t row_stride, size_t n_rows, size_t n, size_t n_taps, size_t stride)
{
    size_t j = 0;
    for (; stride <= 2 && j + 8 <= n; j += 8) {
        __m256 most = _mm256_set1_ps(-INFINITY);
        for (size_t r = 0; r < n_rows; r++)
            for (size_t t = 0; t < n_taps; t++) {
                const float *taps = x + r * row_stride + stride * j + t;
                most = _mm256_max_ps(stride == 1 ? _mm256_loadu_ps(taps) : even_columns(taps), most);
            }
        _mm256_storeu_ps(y + j, most);
    }
    qcnn_max_windows_c(y + j, x + j * stride, row_stride, n_rows, n - j, n_taps, stride);
}
