// SPDX-License-Identifier: Apache-2.0
// Float kernels for WebAssembly SIMD, those where clang does not already make as much of the portable C.

#include <string.h>
#include <wasm_simd128.h>

#include "kernels/kernels.h"

// ---- scalar products ------------------------------------------------------------------------------------------------

// `rows` x `vectors` products, constants at every call. Each has one accumulator over k whatever the tile.
static inline __attribute__((always_inline)) void dot_tile_wasm(int rows, int vectors, size_t n, const float *w, size_t w_stride,
                                                                const float *x, size_t x_stride, float *y, size_t y_stride)
{
    v128_t sums[8]; // (rows, vectors)
    float tails[8];
    for (int i = 0; i < rows * vectors; i++) {
        sums[i] = wasm_f32x4_const_splat(0);
        tails[i] = 0;
    }
    size_t k = 0;
    for (; k + 4 <= n; k += 4)
        for (int r = 0; r < rows; r++) {
            const v128_t weights = wasm_v128_load(w + (size_t)r * w_stride + k);
            for (int v = 0; v < vectors; v++)
                sums[r * vectors + v] =
                    wasm_f32x4_add(sums[r * vectors + v], wasm_f32x4_mul(weights, wasm_v128_load(x + (size_t)v * x_stride + k)));
        }
    for (; k < n; k++)
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < vectors; v++)
                tails[r * vectors + v] += w[(size_t)r * w_stride + k] * x[(size_t)v * x_stride + k];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) {
            float lanes[4];
            wasm_v128_store(lanes, sums[r * vectors + v]);
            y[(size_t)v * y_stride + (size_t)r] += ((lanes[0] + lanes[2]) + (lanes[1] + lanes[3])) + tails[r * vectors + v];
        }
}

// All vectors with `rows` rows, a constant at every call.
static inline __attribute__((always_inline)) void dot_rows_wasm(int rows, size_t n_vectors, size_t n, const float *w, size_t w_stride,
                                                                const float *x, size_t x_stride, float *y, size_t y_stride)
{
    size_t v = 0;
    for (; v + 4 <= n_vectors; v += 4)
        dot_tile_wasm(rows, 4, n, w, w_stride, x + v * x_stride, x_stride, y + v * y_stride, y_stride);
    for (; v < n_vectors; v++)
        dot_tile_wasm(rows, 1, n, w, w_stride, x + v * x_stride, x_stride, y + v * y_stride, y_stride);
}

void qcnn_dots_wasm(size_t n_rows, size_t n_vectors, size_t n, const float *w, size_t w_stride, const float *x, size_t x_stride, float *y,
                    size_t y_stride)
{
    size_t r = 0;
    if (n_vectors == 1)
        for (; r + 8 <= n_rows; r += 8)
            dot_tile_wasm(8, 1, n, w + r * w_stride, w_stride, x, x_stride, y + r, y_stride);
    for (; r + 2 <= n_rows; r += 2)
        dot_rows_wasm(2, n_vectors, n, w + r * w_stride, w_stride, x, x_stride, y + r, y_stride);
    for (; r < n_rows; r++)
        dot_rows_wasm(1, n_vectors, n, w + r * w_stride, w_stride, x, x_stride, y + r, y_stride);
}

// ---- rows: depthwise convolution, pools -----------------------------------------------------------------------------

// Elements 0, `stride`, ... of x, stride 1 or 2; of eight the last, which may lie behind a row, is not read.
static inline v128_t load_row_wasm(const float *x, size_t stride)
{
    return stride == 1 ? wasm_v128_load(x) : wasm_i32x4_shuffle(wasm_v128_load(x), wasm_v128_load(x + 3), 0, 2, 5, 7);
}

void qcnn_depthwise_wasm(float *y, size_t n, const float *x, size_t stride, const float *w, const ptrdiff_t *offsets, size_t n_taps,
                         float bias)
{
    size_t j = 0;
    for (; stride <= 2 && j + 16 <= n; j += 16) {
        v128_t sums[4];
        for (int v = 0; v < 4; v++)
            sums[v] = wasm_f32x4_splat(bias);
        for (size_t t = 0; t < n_taps; t++) {
            const float *row = x + offsets[t] + j * stride;
            const v128_t weight = wasm_v128_load32_splat(w + t);
            for (size_t v = 0; v < 4; v++)
                sums[v] = wasm_f32x4_add(sums[v], wasm_f32x4_mul(weight, load_row_wasm(row + 4 * v * stride, stride)));
        }
        for (int v = 0; v < 4; v++)
            wasm_v128_store(y + j + 4 * v, sums[v]);
    }
    for (; stride <= 2 && j + 4 <= n; j += 4) {
        v128_t sum = wasm_f32x4_splat(bias);
        for (size_t t = 0; t < n_taps; t++)
            sum = wasm_f32x4_add(sum, wasm_f32x4_mul(wasm_v128_load32_splat(w + t), load_row_wasm(x + offsets[t] + j * stride, stride)));
        wasm_v128_store(y + j, sum);
    }
    qcnn_depthwise_c(y + j, n - j, x + j * stride, stride, w, offsets, n_taps, bias);
}

// Only stride 2: clang makes as much of the C version of others.
void qcnn_maximum_wasm(float *y, const float *x, size_t n, size_t stride)
{
    size_t j = 0;
    for (; stride == 2 && j + 4 <= n; j += 4) // y < x ? x : y
        wasm_v128_store(y + j, wasm_f32x4_pmax(wasm_v128_load(y + j), load_row_wasm(x + 2 * j, 2)));
    qcnn_maximum_c(y + j, x + j * stride, n - j, stride);
}

void qcnn_accumulate_wasm(float *y, const float *x, size_t n, size_t stride)
{
    size_t j = 0;
    for (; stride == 2 && j + 4 <= n; j += 4)
        wasm_v128_store(y + j, wasm_f32x4_add(wasm_v128_load(y + j), load_row_wasm(x + 2 * j, 2)));
    qcnn_accumulate_c(y + j, x + j * stride, n - j, stride);
}

void qcnn_max_rows_wasm(float *y, const float *x, size_t row_stride, size_t n_rows, size_t n)
{
    size_t j = 0;
    for (; j + 4 <= n; j += 4) {
        v128_t most = wasm_f32x4_const_splat(-__builtin_inff());
        for (size_t r = 0; r < n_rows; r++) // most < x ? x : most
            most = wasm_f32x4_pmax(most, wasm_v128_load(x + r * row_stride + j));
        wasm_v128_store(y + j, most);
    }
    qcnn_max_rows_c(y + j, x + j, row_stride, n_rows, n - j);
}

void qcnn_max_columns_wasm(float *y, const float *x, size_t n, size_t n_taps, size_t stride)
{
    size_t j = 0;
    for (; stride <= 2 && j + 4 <= n; j += 4) {
        v128_t most = wasm_f32x4_const_splat(-__builtin_inff());
        for (size_t t = 0; t < n_taps; t++)
            most = wasm_f32x4_pmax(most, load_row_wasm(x + j * stride + t, stride));
        wasm_v128_store(y + j, most);
    }
    qcnn_max_columns_c(y + j, x + j * stride, n - j, n_taps, stride);
}

// ---- normalization --------------------------------------------------------------------------------------------------

void qcnn_lrn_wasm(float *y, const float *x, const float *rows, size_t row_stride, size_t n_rows, size_t n, float scale, float beta,
                   float bias)
{
    size_t j = 0;
    for (; beta == 0.75F && j + 4 <= n; j += 4) {
        v128_t sum = wasm_f32x4_const_splat(0);
        for (size_t i = 0; i < n_rows; i++) {
            const v128_t v = wasm_v128_load(rows + i * row_stride + j);
            sum = wasm_f32x4_add(sum, wasm_f32x4_mul(v, v));
        }
        const v128_t v = wasm_f32x4_add(wasm_f32x4_splat(bias), wasm_f32x4_mul(wasm_f32x4_splat(scale), sum));
        const v128_t root = wasm_f32x4_div(wasm_f32x4_const_splat(1), wasm_f32x4_sqrt(v));
        wasm_v128_store(y + j, wasm_f32x4_mul(wasm_v128_load(x + j), wasm_f32x4_mul(root, wasm_f32x4_sqrt(root))));
    }
    qcnn_lrn_c(y + j, x + j, rows + j, row_stride, n_rows, n - j, scale, beta, bias);
}
