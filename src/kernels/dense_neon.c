// SPDX-License-Identifier: Apache-2.0
// Dense kernels for 64-bit ARM (32 registers of 4 floats). Every processor of that architecture runs them.

#include <arm_neon.h>
#include <string.h>

#include "kernels/kernels.h"

// The first n <= 4 floats, zeros behind them; and back.
static inline float32x4_t load_first(const float *x, size_t n)
{
    float lanes[4] = { 0 };
    memcpy(lanes, x, n * sizeof *lanes);
    return vld1q_f32(lanes);
}

static inline void store_first(float *x, size_t n, float32x4_t v)
{
    float lanes[4];
    vst1q_f32(lanes, v);
    memcpy(x, lanes, n * sizeof *lanes);
}

// ---- matrix product: 8 rows x 8 columns, 16 accumulators ------------------------------------------------------------

// `rows` is a constant at every call, so that the arrays become registers.
static inline __attribute__((always_inline)) void gemm_rows_neon(int rows, int columns, size_t depth, const float *a, size_t a_stride,
                                                                 const float *b, size_t b_stride, float *c, size_t c_stride,
                                                                 const float *start)
{
    float32x4_t sums[8][2]; // (rows, columns)
    for (int r = 0; r < rows; r++) {
        float row[8] = { 0 };
        if (!start)
            memcpy(row, c + (size_t)r * c_stride, (size_t)columns * sizeof *row);
        sums[r][0] = start ? vdupq_n_f32(start[r]) : vld1q_f32(row);
        sums[r][1] = start ? sums[r][0] : vld1q_f32(row + 4);
    }
    size_t k = 0;
    for (; k + 4 <= depth; k += 4, b += 4 * b_stride) {
        float32x4_t weights[8];
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
            weights[r] = vld1q_f32(a + (size_t)r * a_stride + k);
#define STEP(lane)                                                                                                                         \
    {                                                                                                                                      \
        const float32x4_t low = vld1q_f32(b + (lane)*b_stride), high = vld1q_f32(b + (lane)*b_stride + 4);                                 \
        _Pragma("GCC unroll 8") for (int r = 0; r < rows; r++)                                                                             \
        {                                                                                                                                  \
            sums[r][0] = vfmaq_laneq_f32(sums[r][0], low, weights[r], lane);                                                               \
            sums[r][1] = vfmaq_laneq_f32(sums[r][1], high, weights[r], lane);                                                              \
        }                                                                                                                                  \
    }
        STEP(0)
        STEP(1)
        STEP(2)
        STEP(3)
#undef STEP
    }
    for (; k < depth; k++, b += b_stride) {
        const float32x4_t low = vld1q_f32(b), high = vld1q_f32(b + 4);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            const float32x4_t weight = vdupq_n_f32(a[(size_t)r * a_stride + k]);
            sums[r][0] = vfmaq_f32(sums[r][0], weight, low);
            sums[r][1] = vfmaq_f32(sums[r][1], weight, high);
        }
    }
    for (int r = 0; r < rows; r++) {
        float row[8];
        vst1q_f32(row, sums[r][0]);
        vst1q_f32(row + 4, sums[r][1]);
        memcpy(c + (size_t)r * c_stride, row, (size_t)columns * sizeof *row);
    }
}

void qcnn_gemm_8x8_neon(int rows, int columns, size_t depth, const float *a, size_t a_stride, const float *b, size_t b_stride, float *c,
                        size_t c_stride, const float *start)
{
    switch (rows) {
    case 1: gemm_rows_neon(1, columns, depth, a, a_stride, b, b_stride, c, c_stride, start); break;
    case 2: gemm_rows_neon(2, columns, depth, a, a_stride, b, b_stride, c, c_stride, start); break;
    case 3: gemm_rows_neon(3, columns, depth, a, a_stride, b, b_stride, c, c_stride, start); break;
    case 4: gemm_rows_neon(4, columns, depth, a, a_stride, b, b_stride, c, c_stride, start); break;
    case 5: gemm_rows_neon(5, columns, depth, a, a_stride, b, b_stride, c, c_stride, start); break;
    case 6: gemm_rows_neon(6, columns, depth, a, a_stride, b, b_stride, c, c_stride, start); break;
    case 7: gemm_rows_neon(7, columns, depth, a, a_stride, b, b_stride, c, c_stride, start); break;
    default:
        if (columns == 8)
            gemm_rows_neon(8, 8, depth, a, a_stride, b, b_stride, c, c_stride, start);
        else
            gemm_rows_neon(8, columns, depth, a, a_stride, b, b_stride, c, c_stride, start);
        break;
    }
}

// ---- scalar products ------------------------------------------------------------------------------------------------

// `rows` x `vectors` products, constants at every call. Each has one accumulator over k whatever the tile, so that a
// product's bits do not depend on how many are computed beside it.
static inline __attribute__((always_inline)) void dot_tile_neon(int rows, int vectors, size_t n, const float *w, size_t w_stride,
                                                                const float *x, size_t x_stride, float *y, size_t y_stride)
{
    float32x4_t sums[16]; // (rows, vectors)
#pragma GCC unroll 16
    for (int i = 0; i < rows * vectors; i++)
        sums[i] = vdupq_n_f32(0);
    for (size_t k = 0; k < n; k += 4) {
        const size_t left = n - k;
        float32x4_t values[4];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            values[v] = left < 4 ? load_first(x + (size_t)v * x_stride + k, left) : vld1q_f32(x + (size_t)v * x_stride + k);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            const float *row = w + (size_t)r * w_stride + k;
            const float32x4_t weights = left < 4 ? load_first(row, left) : vld1q_f32(row);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sums[r * vectors + v] = vfmaq_f32(sums[r * vectors + v], weights, values[v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            y[(size_t)v * y_stride + (size_t)r] += vaddvq_f32(sums[r * vectors + v]);
}

// All vectors with `rows` rows, a constant at every call.
static inline __attribute__((always_inline)) void dot_rows_neon(int rows, size_t n_vectors, size_t n, const float *w, size_t w_stride,
                                                                const float *x, size_t x_stride, float *y, size_t y_stride)
{
    size_t v = 0;
    for (; v + 4 <= n_vectors; v += 4)
        dot_tile_neon(rows, 4, n, w, w_stride, x + v * x_stride, x_stride, y + v * y_stride, y_stride);
    for (; v < n_vectors; v++)
        dot_tile_neon(rows, 1, n, w, w_stride, x + v * x_stride, x_stride, y + v * y_stride, y_stride);
}

void qcnn_dots_neon(size_t n_rows, size_t n_vectors, size_t n, const float *w, size_t w_stride, const float *x, size_t x_stride, float *y,
                    size_t y_stride)
{
    size_t r = 0;
    if (n_vectors == 1) // bound by memory: many rows in flight
        for (; r + 8 <= n_rows; r += 8)
            dot_tile_neon(8, 1, n, w + r * w_stride, w_stride, x, x_stride, y + r, y_stride);
    for (; r + 4 <= n_rows; r += 4)
        dot_rows_neon(4, n_vectors, n, w + r * w_stride, w_stride, x, x_stride, y + r, y_stride);
    for (; r < n_rows; r++)
        dot_rows_neon(1, n_vectors, n, w + r * w_stride, w_stride, x, x_stride, y + r, y_stride);
}

// ---- depthwise convolution ------------------------------------------------------------------------------------------

// Elements 0, 2, 4, 6 of x; element 7, which may lie behind a row, is not read.
static inline float32x4_t load_even(const float *x)
{
    const float32x4_t low = vld1q_f32(x), high = vld1q_f32(x + 3); // 0 1 2 3, 3 4 5 6
    return vcombine_f32(vget_low_f32(vuzp1q_f32(low, low)), vget_low_f32(vuzp2q_f32(high, high)));
}

static inline float32x4_t load_strided(const float *x, size_t stride)
{
    return stride == 1 ? vld1q_f32(x) : load_even(x);
}

// 4 * `vectors` outputs, `vectors` and `stride` (1 or 2) constants at every call.
static inline __attribute__((always_inline)) void depthwise_block(int vectors, size_t stride, float *y, const float *x, const float *w,
                                                                  const ptrdiff_t *offsets, size_t n_taps, float bias)
{
    float32x4_t sums[8];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++)
        sums[v] = vdupq_n_f32(bias);
    for (size_t t = 0; t < n_taps; t++) {
        const float32x4_t weight = vdupq_n_f32(w[t]);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            sums[v] = vfmaq_f32(sums[v], weight, load_strided(x + offsets[t] + 4 * (size_t)v * stride, stride));
    }
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++)
        vst1q_f32(y + 4 * v, sums[v]);
}

// The last outputs, n <= 4 of any stride, with the same roundings as a whole block.
static void depthwise_tail(float *y, size_t n, const float *x, size_t stride, const float *w, const ptrdiff_t *offsets, size_t n_taps,
                           float bias)
{
    float32x4_t sum = vdupq_n_f32(bias);
    for (size_t t = 0; t < n_taps; t++) {
        float values[4] = { 0 };
        for (size_t j = 0; j < n; j++)
            values[j] = (x + offsets[t])[j * stride];
        sum = vfmaq_f32(sum, vdupq_n_f32(w[t]), vld1q_f32(values));
    }
    store_first(y, n, sum);
}

void qcnn_depthwise_neon(float *y, size_t n, const float *x, size_t stride, const float *w, const ptrdiff_t *offsets, size_t n_taps,
                         float bias)
{
    size_t j = 0;
    if (stride == 1) {
        for (; j + 32 <= n; j += 32)
            depthwise_block(8, 1, y + j, x + j, w, offsets, n_taps, bias);
        for (; j + 4 <= n; j += 4)
            depthwise_block(1, 1, y + j, x + j, w, offsets, n_taps, bias);
    } else if (stride == 2) {
        for (; j + 16 <= n; j += 16)
            depthwise_block(4, 2, y + j, x + 2 * j, w, offsets, n_taps, bias);
        for (; j + 4 <= n; j += 4)
            depthwise_block(1, 2, y + j, x + 2 * j, w, offsets, n_taps, bias);
    }
    for (; j < n; j += 4)
        depthwise_tail(y + j, n - j < 4 ? n - j : 4, x + j * stride, stride, w, offsets, n_taps, bias);
}

// ---- the steps of a pool --------------------------------------------------------------------------------------------

void qcnn_maximum_neon(float *y, const float *x, size_t n, size_t stride)
{
    size_t j = 0;
    for (; stride <= 2 && j + 4 <= n; j += 4) {
        const float32x4_t values = load_strided(x + j * stride, stride), old = vld1q_f32(y + j);
        vst1q_f32(y + j, vbslq_f32(vcgtq_f32(values, old), values, old)); // C's x > y ? x : y, also for NaN
    }
    qcnn_maximum_c(y + j, x + j * stride, n - j, stride);
}

// The larger ones; where `v` is NaN, `most`.
static inline float32x4_t larger(float32x4_t v, float32x4_t most)
{
    return vbslq_f32(vcgtq_f32(v, most), v, most);
}

void qcnn_max_rows_neon(float *y, const float *x, size_t row_stride, size_t n_rows, size_t n)
{
    size_t j = 0;
    for (; j + 4 <= n; j += 4) {
        float32x4_t most = vdupq_n_f32(-__builtin_inff());
        for (size_t r = 0; r < n_rows; r++)
            most = larger(vld1q_f32(x + r * row_stride + j), most);
        vst1q_f32(y + j, most);
    }
    qcnn_max_rows_c(y + j, x + j, row_stride, n_rows, n - j);
}

void qcnn_max_columns_neon(float *y, const float *x, size_t n, size_t n_taps, size_t stride)
{
    size_t j = 0;
    for (; stride <= 2 && j + 4 <= n; j += 4) {
        float32x4_t most = vdupq_n_f32(-__builtin_inff());
        for (size_t t = 0; t < n_taps; t++)
            most = larger(load_strided(x + j * stride + t, stride), most);
        vst1q_f32(y + j, most);
    }
    qcnn_max_columns_c(y + j, x + j * stride, n - j, n_taps, stride);
}

void qcnn_accumulate_neon(float *y, const float *x, size_t n, size_t stride)
{
    size_t j = 0;
    for (; stride <= 2 && j + 4 <= n; j += 4)
        vst1q_f32(y + j, vaddq_f32(vld1q_f32(y + j), load_strided(x + j * stride, stride)));
    qcnn_accumulate_c(y + j, x + j * stride, n - j, stride);
}

// ---- normalization, activations -------------------------------------------------------------------------------------

// Four outputs with beta 0.75 from the sum of squares.
static inline float32x4_t lrn_scaled(float32x4_t x, float32x4_t sum, float scale, float bias)
{
    const float32x4_t v = vfmaq_f32(vdupq_n_f32(bias), vdupq_n_f32(scale), sum);
    const float32x4_t root = vdivq_f32(vdupq_n_f32(1), vsqrtq_f32(v));
    return vmulq_f32(x, vmulq_f32(root, vsqrtq_f32(root)));
}

void qcnn_lrn_neon(float *y, const float *x, const float *rows, size_t row_stride, size_t n_rows, size_t n, float scale, float beta,
                   float bias)
{
    if (beta != 0.75F) {
        qcnn_lrn_c(y, x, rows, row_stride, n_rows, n, scale, beta, bias);
        return;
    }
    for (size_t j = 0; j < n; j += 4) {
        const size_t left = n - j;
        float32x4_t sum = vdupq_n_f32(0);
        for (size_t i = 0; i < n_rows; i++) {
            const float *row = rows + i * row_stride + j;
            const float32x4_t v = left < 4 ? load_first(row, left) : vld1q_f32(row);
            sum = vfmaq_f32(sum, v, v);
        }
        if (left < 4)
            store_first(y + j, left, lrn_scaled(load_first(x + j, left), sum, scale, bias));
        else
            vst1q_f32(y + j, lrn_scaled(vld1q_f32(x + j), sum, scale, bias));
    }
}

void qcnn_activate_neon(const qcnn_activation *activation, float *y, const float *x, size_t n)
{
    const bool relu = activation->function == QCNN_RELU;
    size_t j = 0;
    if (relu || activation->function == QCNN_CLIP) {
        const float32x4_t low = vdupq_n_f32(relu ? 0 : activation->alpha);
        const float32x4_t high = vdupq_n_f32(relu ? __builtin_inff() : activation->beta);
        for (; j + 4 <= n; j += 4) { // comparisons as in C: a NaN stays one
            float32x4_t v = vld1q_f32(x + j);
            v = vbslq_f32(vcltq_f32(v, low), low, v);
            vst1q_f32(y + j, vbslq_f32(vcgtq_f32(v, high), high, v));
        }
    }
    qcnn_activate_c(activation, y + j, x + j, n - j);
}
