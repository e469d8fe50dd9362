// SPDX-License-Identifier: Apache-2.0
// From floats to integers and back, and dense products in bytes, for WebAssembly SIMD.

#include <string.h>
#include <wasm_simd128.h>

#include "kernels/kernels.h"

// ---- to integers ----------------------------------------------------------------------------------------------------

void qcnn_range_wasm(const float *x, size_t n, float *low, float *high)
{
    size_t j = 0;
    v128_t lows = wasm_f32x4_splat(*low), highs = wasm_f32x4_splat(*high);
    for (; j + 4 <= n; j += 4) {
        const v128_t v = wasm_v128_load(x + j);
        lows = wasm_f32x4_pmin(lows, v); // v < lows ? v : lows
        highs = wasm_f32x4_pmax(highs, v);
    }
    float lanes[8];
    wasm_v128_store(lanes, lows);
    wasm_v128_store(lanes + 4, highs);
    for (int i = 0; i < 4; i++) {
        *low = lanes[i] < *low ? lanes[i] : *low;
        *high = lanes[4 + i] > *high ? lanes[4 + i] : *high;
    }
    qcnn_range_c(x + j, n - j, low, high);
}

// Four numbers times scale, held to low..high (NaN: low), rounded to the nearest even.
static inline v128_t round_held_wasm(const float *x, float scale, float low, float high)
{
    const v128_t v = wasm_f32x4_pmax(wasm_f32x4_splat(low), wasm_f32x4_mul(wasm_v128_load(x), wasm_f32x4_splat(scale)));
    return wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(wasm_f32x4_pmin(wasm_f32x4_splat(high), v)));
}

void qcnn_quantize_quads_wasm(size_t n, const float *x, size_t channel_stride, int n_channels, float scale, int zero, int limit,
                              uint8_t *quads)
{
    const float low = (float)-zero, high = (float)(limit - zero);
    const v128_t zeros = wasm_i32x4_splat(zero);
    size_t j = 0;
    for (; j + 4 <= n; j += 4) {
        v128_t pixels = wasm_i32x4_const_splat(0);
        for (int i = 3; i >= 0; i--) {
            v128_t bytes = zeros;
            if (i < n_channels)
                bytes = wasm_i32x4_add(bytes, round_held_wasm(x + (size_t)i * channel_stride + j, scale, low, high));
            pixels = wasm_v128_or(wasm_i32x4_shl(pixels, 8), bytes);
        }
        wasm_v128_store(quads + 4 * j, pixels);
    }
    qcnn_quantize_quads_c(n - j, x + j, channel_stride, n_channels, scale, zero, limit, quads + 4 * j);
}

void qcnn_quantize_bytes_wasm(size_t n, const float *x, float scale, int zero, int limit, uint8_t *bytes)
{
    const float low = (float)-zero, high = (float)(limit - zero);
    const v128_t zeros = wasm_i16x8_splat((int16_t)zero);
    size_t j = 0;
    for (; j + 8 <= n; j += 8) {
        const v128_t words =
            wasm_i16x8_narrow_i32x4(round_held_wasm(x + j, scale, low, high), round_held_wasm(x + j + 4, scale, low, high));
        const v128_t raised = wasm_i16x8_add(words, zeros);
        wasm_v128_store64_lane(bytes + j, wasm_u8x16_narrow_i16x8(raised, raised), 0);
    }
    qcnn_quantize_bytes_c(n - j, x + j, scale, zero, limit, bytes + j);
}

void qcnn_quantize_words_wasm(size_t n, const float *x, float scale, int limit, int16_t *words)
{
    size_t j = 0;
    for (; j + 8 <= n; j += 8)
        wasm_v128_store(words + j, wasm_i16x8_narrow_i32x4(round_held_wasm(x + j, scale, (float)-limit, (float)limit),
                                                           round_held_wasm(x + j + 4, scale, (float)-limit, (float)limit)));
    qcnn_quantize_words_c(n - j, x + j, scale, limit, words + j);
}

// ---- to floats ------------------------------------------------------------------------------------------------------

static inline v128_t to_floats_wasm(v128_t sums, float scale, float start, float low)
{
    const v128_t v = wasm_f32x4_add(wasm_f32x4_mul(wasm_f32x4_convert_i32x4(sums), wasm_f32x4_splat(scale)), wasm_f32x4_splat(start));
    return wasm_f32x4_pmax(wasm_f32x4_splat(low), v);
}

void qcnn_dequantize_wasm(size_t n, const int32_t *sums, float scale, float start, float low, float *y)
{
    size_t j = 0;
    for (; j + 4 <= n; j += 4)
        wasm_v128_store(y + j, to_floats_wasm(wasm_v128_load(sums + j), scale, start, low));
    qcnn_dequantize_c(n - j, sums + j, scale, start, low, y + j);
}

// ---- products: 2 rows x 16 columns ----------------------------------------------------------------------------------

enum { WASM_DENSE_ROWS = 2, WASM_DENSE_COLUMNS = 16 };

// Eight columns: sums[r][i] holds two of them, each in two halves. Eight accumulators are what a processor with sixteen
// registers keeps in them.
static inline void dense_columns_wasm(size_t n_steps, const int8_t *weights, const uint8_t *x, const uint32_t *offsets,
                                      v128_t sums[WASM_DENSE_ROWS][4])
{
    for (int i = 0; i < 4; i++)
        sums[0][i] = sums[1][i] = wasm_i32x4_const_splat(0);
    for (size_t s = 0; s < n_steps; s++, weights += WASM_DENSE_ROWS * 4) {
        const v128_t both = wasm_i16x8_load8x8(weights);
        const v128_t w0 = wasm_i64x2_shuffle(both, both, 0, 0), w1 = wasm_i64x2_shuffle(both, both, 1, 1);
        const uint8_t *quads = x + offsets[s];
        for (int i = 0; i < 4; i++) {
            const v128_t values = wasm_u16x8_load8x8(quads + 8 * i);
            sums[0][i] = wasm_i32x4_add(sums[0][i], wasm_i32x4_dot_i16x8(values, w0));
            sums[1][i] = wasm_i32x4_add(sums[1][i], wasm_i32x4_dot_i16x8(values, w1));
        }
    }
}

// The sums of four columns of row r.
static inline v128_t whole_sums_wasm(v128_t sums[WASM_DENSE_ROWS][4], size_t r, size_t i)
{
    const v128_t a = sums[r][2 * i], b = sums[r][2 * i + 1];
    return wasm_i32x4_add(wasm_i32x4_shuffle(a, b, 0, 2, 4, 6), wasm_i32x4_shuffle(a, b, 1, 3, 5, 7));
}

void qcnn_dense_bytes_2x16_wasm(size_t n_rows, size_t n_columns, size_t n_steps, const int8_t *weights, const uint8_t *x,
                                const uint32_t *offsets, const float *scales, const float *starts, float low, float *y, size_t y_stride)
{
    for (size_t column = 0; column < n_columns; column += 8) {
        v128_t sums[WASM_DENSE_ROWS][4];
        dense_columns_wasm(n_steps, weights, x + 4 * column, offsets, sums);
        const size_t n = n_columns - column < 8 ? n_columns - column : 8;
        for (size_t r = 0; r < n_rows; r++) {
            float row[8];
            for (size_t i = 0; i < 2; i++)
                wasm_v128_store(row + 4 * i, to_floats_wasm(whole_sums_wasm(sums, r, i), scales[r], starts[r], low));
            memcpy(y + r * y_stride + column, row, n * sizeof *row);
        }
    }
}

// A tile is half a quad.
void qcnn_dense_quads_2x16_wasm(size_t n_rows, size_t n_columns, size_t n_steps, const int8_t *weights, const uint8_t *x,
                                const uint32_t *offsets, const float *scales, const float *starts, int limit, uint8_t *y,
                                size_t quad_stride)
{
    (void)quad_stride;
    for (size_t column = 0; column < n_columns; column += 8) {
        v128_t sums[WASM_DENSE_ROWS][4];
        dense_columns_wasm(n_steps, weights, x + 4 * column, offsets, sums);
        for (size_t i = 0; i < 2; i++) {
            v128_t bytes[2] = { wasm_i32x4_const_splat(0), wasm_i32x4_const_splat(0) };
            for (size_t r = 0; r < n_rows; r++) {
                const v128_t value = to_floats_wasm(whole_sums_wasm(sums, r, i), scales[r], starts[r], 0); // NaN: 0
                bytes[r] = wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(wasm_f32x4_pmin(wasm_f32x4_splat((float)limit), value)));
            }
            uint16_t pairs[8];
            wasm_v128_store(pairs, wasm_v128_or(bytes[0], wasm_i32x4_shl(bytes[1], 8)));
            for (size_t j = 0; j < 4 && column + 4 * i + j < n_columns; j++)
                memcpy(y + 4 * (column + 4 * i + j), pairs + 2 * j, 2);
        }
    }
}
