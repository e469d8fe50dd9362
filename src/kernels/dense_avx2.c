// SPDX-License-Identifier: Apache-2.0
// Matrix products, scalar products and depthwise convolution for AVX2 with FMA (16 registers of 8 floats).

#include <immintrin.h>

#include "kernels/kernels.h"

// Ones in the first `n` of 8 lanes, for masked loads and stores.
static inline __m256i lane_mask(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// ---- matrix product: 6 rows x 16 columns, 12 accumulators -----------------------------------------------------------

// `rows` is a constant at every call, so that the arrays become registers.
static inline __attribute__((always_inline)) void gemm_rows_avx2(int rows, int columns, size_t depth, const float *a, size_t a_stride,
                                                                 const float *b, size_t b_stride, float *c, size_t c_stride,
                                                                 const float *start)
{
    const __m256i mask0 = lane_mask(columns), mask1 = lane_mask(columns - 8);
    __m256 sum0[6], sum1[6]; // (rows, columns 0..7), (rows, columns 8..15)
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        const float *row = c + (size_t)r * c_stride;
        sum0[r] = start ? _mm256_set1_ps(start[r]) : _mm256_maskload_ps(row, mask0);
        sum1[r] = start ? sum0[r] : _mm256_maskload_ps(row + 8, mask1);
    }
    for (size_t k = 0; k < depth; k++) {
        const __m256 b0 = _mm256_loadu_ps(b), b1 = _mm256_loadu_ps(b + 8);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            const __m256 weight = _mm256_broadcast_ss(a + (size_t)r * a_stride);
            sum0[r] = _mm256_fmadd_ps(weight, b0, sum0[r]);
            sum1[r] = _mm256_fmadd_ps(weight, b1, sum1[r]);
        }
        a++;
        b += b_stride;
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        float *row = c + (size_t)r * c_stride;
        if (columns == 16) {
            _mm256_storeu_ps(row, sum0[r]);
            _mm256_storeu_ps(row + 8, sum1[r]);
        } else {
            _mm256_maskstore_ps(row, mask0, sum0[r]);
            _mm256_maskstore_ps(row + 8, mask1, sum1[r]);
        }
    }
}

void qcnn_gemm_6x16_avx2(int rows, int columns, size_t depth, const float *a, size_t a_stride, const float *b, size_t b_stride, float *c,
                         size_t c_stride, const float *start)
{
    switch (rows) {
    case 1: gemm_rows_avx2(1, columns, depth, a, a_stride, b, b_stride, c, c_stride, start); break;
    case 2: gemm_rows_avx2(2, columns, depth, a, a_stride, b, b_stride, c, c_stride, start); break;
    case 3: gemm_rows_avx2(3, columns, depth, a, a_stride, b, b_stride, c, c_stride, start); break;
    case 4: gemm_rows_avx2(4, columns, depth, a, a_stride, b, b_stride, c, c_stride, start); break;
    case 5: gemm_rows_avx2(5, columns, depth, a, a_stride, b, b_stride, c, c_stride, start); break;
    default: gemm_rows_avx2(6, columns, depth, a, a_stride, b, b_stride, c, c_stride, start); break;
    }
}

// ---- scalar products ------------------------------------------------------------------------------------------------

static inline float lane_sum(__m256 v)
{
    const __m128 quad = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 pair = _mm_add_ps(quad, _mm_movehl_ps(quad, quad));
    return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
}

// `rows` x `vectors` products, constants at every call. Each has one accumulator over k whatever the tile, so that a
// product's bits do not depend on how many are computed beside it.
static inline __attribute__((always_inline)) void dot_tile_avx2(int rows, int vectors, size_t n, const float *w, size_t w_stride,
                                                                const float *x, size_t x_stride, float *y, size_t y_stride)
{
    __m256 sums[12]; // (rows, vectors)
#pragma GCC unroll 12
    for (int i = 0; i < rows * vectors; i++)
        sums[i] = _mm256_setzero_ps();
    size_t k = 0;
    for (; k + 8 <= n; k += 8) {
        __m256 values[4];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            values[v] = _mm256_loadu_ps(x + (size_t)v * x_stride + k);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            const __m256 weights = _mm256_loadu_ps(w + (size_t)r * w_stride + k);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sums[r * vectors + v] = _mm256_fmadd_ps(weights, values[v], sums[r * vectors + v]);
        }
    }
    if (k < n) {
        const __m256i mask = lane_mask((int)(n - k));
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            const __m256 weights = _mm256_maskload_ps(w + (size_t)r * w_stride + k, mask);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sums[r * vectors + v] =
                    _mm256_fmadd_ps(weights, _mm256_maskload_ps(x + (size_t)v * x_stride + k, mask), sums[r * vectors + v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            y[(size_t)v * y_stride + (size_t)r] += lane_sum(sums[r * vectors + v]);
}

// All vectors with `rows` rows, where 4 * rows and 8 rows x 1 fit the registers.
static inline __attribute__((always_inline)) void dot_rows_avx2(int rows, size_t n_vectors, size_t n, const float *w, size_t w_stride,
                                                                const float *x, size_t x_stride, float *y, size_t y_stride)
{
    size_t v = 0;
    for (; v + 4 <= n_vectors; v += 4)
        dot_tile_avx2(rows, 4, n, w, w_stride, x + v * x_stride, x_stride, y + v * y_stride, y_stride);
    for (; v < n_vectors; v++)
        dot_tile_avx2(rows, 1, n, w, w_stride, x + v * x_stride, x_stride, y + v * y_stride, y_stride);
}

void qcnn_dots_avx2(size_t n_rows, size_t n_vectors, size_t n, const float *w, size_t w_stride, const float *x, size_t x_stride, float *y,
                    size_t y_stride)
{
    size_t r = 0;
    if (n_vectors == 1) // bound by memory: many rows in flight
        for (; r + 8 <= n_rows; r += 8)
            dot_tile_avx2(8, 1, n, w + r * w_stride, w_stride, x, x_stride, y + r, y_stride);
    for (; r + 3 <= n_rows; r += 3)
        dot_rows_avx2(3, n_vectors, n, w + r * w_stride, w_stride, x, x_stride, y + r, y_stride);
    for (; r < n_rows; r++)
        dot_rows_avx2(1, n_vectors, n, w + r * w_stride, w_stride, x, x_stride, y + r, y_stride);
}

// ---- depthwise convolution ------------------------------------------------------------------------------------------

// Elements 0, 2, 4 ... 14 of x. Reads one element fewer than 16: the last lanes must not touch what lies behind a row.
static inline __m256 load_even(const float *x)
{
    const __m256 low = _mm256_loadu_ps(x), high = _mm256_loadu_ps(x + 7);       // 0..7, 7..14
    const __m256 mixed = _mm256_shuffle_ps(low, high, _MM_SHUFFLE(3, 1, 2, 0)); // 0 2 8 10 | 4 6 12 14
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(mixed), _MM_SHUFFLE(3, 1, 2, 0)));
}

// 8 * `vectors` outputs, `vectors` and `stride` (1 or 2) constants at every call.
static inline __attribute__((always_inline)) void depthwise_block(int vectors, size_t stride, float *y, const float *x, const float *w,
                                                                  const ptrdiff_t *offsets, size_t n_taps, float bias)
{
    __m256 sums[4];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
        sums[v] = _mm256_set1_ps(bias);
    for (size_t t = 0; t < n_taps; t++) {
        const float *values = x + offsets[t];
        const __m256 weight = _mm256_broadcast_ss(w + t);
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sums[v] = _mm256_fmadd_ps(weight, stride == 1 ? _mm256_loadu_ps(values + 8 * v) : load_even(values + 16 * v), sums[v]);
    }
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
        _mm256_storeu_ps(y + 8 * v, sums[v]);
}

// The last outputs, n <= 8 of any stride, with the same roundings as a whole block.
static void depthwise_tail(float *y, size_t n, const float *x, size_t stride, const float *w, const ptrdiff_t *offsets, size_t n_taps,
                           float bias)
{
    const __m256i mask = lane_mask((int)n);
    __m256 sum = _mm256_set1_ps(bias);
    for (size_t t = 0; t < n_taps; t++) {
        float values[8] = { 0 };
        for (size_t j = 0; stride != 1 && j < n; j++)
            values[j] = (x + offsets[t])[j * stride];
        sum = _mm256_fmadd_ps(_mm256_broadcast_ss(w + t), stride == 1 ? _mm256_maskload_ps(x + offsets[t], mask) : _mm256_loadu_ps(values),
                              sum);
    }
    _mm256_maskstore_ps(y, mask, sum);
}

void qcnn_depthwise_avx2(float *y, size_t n, const float *x, size_t stride, const float *w, const ptrdiff_t *offsets, size_t n_taps,
                         float bias)
{
    size_t j = 0;
    if (stride == 1) {
        for (; j + 32 <= n; j += 32)
            depthwise_block(4, 1, y + j, x + j, w, offsets, n_taps, bias);
        for (; j + 8 <= n; j += 8)
            depthwise_block(1, 1, y + j, x + j, w, offsets, n_taps, bias);
    } else if (stride == 2)
        for (; j + 8 <= n; j += 8)
            depthwise_block(1, 2, y + j, x + 2 * j, w, offsets, n_taps, bias);
    for (; j < n; j += 8)
        depthwise_tail(y + j, n - j < 8 ? n - j : 8, x + j * stride, stride, w, offsets, n_taps, bias);
}

// ---- the steps of a pool --------------------------------------------------------------------------------------------

void qcnn_maximum_avx2(float *y, const float *x, size_t n, size_t stride)
{
    size_t j = 0;
    for (; stride <= 2 && j + 8 <= n; j += 8) {
        const __m256 values = stride == 1 ? _mm256_loadu_ps(x + j) : load_even(x + 2 * j);
        _mm256_storeu_ps(y + j, _mm256_max_ps(values, _mm256_loadu_ps(y + j)));
    }
    qcnn_maximum_c(y + j, x + j * stride, n - j, stride);
}

void qcnn_accumulate_avx2(float *y, const float *x, size_t n, size_t stride)
{
    size_t j = 0;
    for (; stride <= 2 && j + 8 <= n; j += 8) {
        const __m256 values = stride == 1 ? _mm256_loadu_ps(x + j) : load_even(x + 2 * j);
        _mm256_storeu_ps(y + j, _mm256_add_ps(values, _mm256_loadu_ps(y + j)));
    }
    qcnn_accumulate_c(y + j, x + j * stride, n - j, stride);
}

// ---- normalization, activations -------------------------------------------------------------------------------------

static inline __m256 square_sum(const float *rows, size_t row_stride, size_t n_rows, __m256i mask)
{
    __m256 sum = _mm256_setzero_ps();
    for (size_t i = 0; i < n_rows; i++) {
        const __m256 v = _mm256_maskload_ps(rows + i * row_stride, mask);
        sum = _mm256_fmadd_ps(v, v, sum);
    }
    return sum;
}

void qcnn_lrn_avx2(float *y, const float *x, const float *rows, size_t row_stride, size_t n_rows, size_t n, float scale, float beta,
                   float bias)
{
    if (beta != 0.75F) {
        qcnn_lrn_c(y, x, rows, row_stride, n_rows, n, scale, beta, bias);
        return;
    }
    for (size_t j = 0; j < n; j += 8) {
        const __m256i mask = lane_mask(n - j < 8 ? (int)(n - j) : 8);
        const __m256 sum = square_sum(rows + j, row_stride, n_rows, mask);
        const __m256 v = _mm256_fmadd_ps(_mm256_set1_ps(scale), sum, _mm256_set1_ps(bias));
        const __m256 root = _mm256_div_ps(_mm256_set1_ps(1), _mm256_sqrt_ps(v));
        const __m256 factor = _mm256_mul_ps(root, _mm256_sqrt_ps(root));
        _mm256_maskstore_ps(y + j, mask, _mm256_mul_ps(_mm256_maskload_ps(x + j, mask), factor));
    }
}

void qcnn_activate_avx2(const qcnn_activation *activation, float *y, const float *x, size_t n)
{
    const bool relu = activation->function == QCNN_RELU;
    size_t j = 0;
    if (relu || activation->function == QCNN_CLIP) {
        const __m256 low = _mm256_set1_ps(relu ? 0 : activation->alpha);
        const __m256 high = _mm256_set1_ps(relu ? __builtin_inff() : activation->beta);
        // The bound is the first operand: a NaN then stays one, as in C.
        for (; j + 8 <= n; j += 8)
            _mm256_storeu_ps(y + j, _mm256_min_ps(high, _mm256_max_ps(low, _mm256_loadu_ps(x + j))));
    }
    qcnn_activate_c(activation, y + j, x + j, n - j);
}
