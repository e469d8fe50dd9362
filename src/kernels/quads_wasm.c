// SPDX-License-Identifier: Apache-2.0
// Byte planes for WebAssembly SIMD.

#include <wasm_simd128.h>

#include "kernels/kernels.h"

// Whole numbers, held to 0..limit (NaN: 0), rounded to the nearest even.
static inline v128_t whole_values_wasm(v128_t v, float limit)
{
    const v128_t held = wasm_f32x4_pmin(wasm_f32x4_splat(limit), wasm_f32x4_pmax(wasm_f32x4_const_splat(0), v));
    return wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(held));
}

// Four bytes each of a, b, c and d.
static inline v128_t narrowed_wasm(v128_t a, v128_t b, v128_t c, v128_t d)
{
    return wasm_u8x16_narrow_i16x8(wasm_i16x8_narrow_i32x4(a, b), wasm_i16x8_narrow_i32x4(c, d));
}

// ---- sums to quads: four positions by four outputs ------------------------------------------------------------------

void qcnn_requantize_turned_wasm(size_t n_positions, size_t n_outputs, const int32_t *sums, size_t sum_stride, float scale,
                                 const float *starts, int limit, uint8_t *y, size_t quad_stride)
{
    const size_t whole_outputs = n_outputs / 4 * 4;
    size_t p = 0;
    for (; p + 4 <= n_positions; p += 4, sums += 4 * sum_stride, y += 16) {
        for (size_t o = 0; o < whole_outputs; o += 4) {
            v128_t whole[4];
            for (size_t i = 0; i < 4; i++) { // two roundings, as in C
                const v128_t sum = wasm_f32x4_convert_i32x4(wasm_v128_load(sums + i * sum_stride + o));
                const v128_t value = wasm_f32x4_add(wasm_f32x4_mul(sum, wasm_f32x4_splat(scale)), wasm_v128_load(starts + o));
                whole[i] = whole_values_wasm(value, (float)limit);
            }
            wasm_v128_store(y + o / 4 * quad_stride, narrowed_wasm(whole[0], whole[1], whole[2], whole[3]));
        }
        qcnn_requantize_turned_c(4, n_outputs - whole_outputs, sums + whole_outputs, sum_stride, scale, starts + whole_outputs, limit,
                                 y + whole_outputs / 4 * quad_stride, quad_stride);
    }
    qcnn_requantize_turned_c(n_positions - p, n_outputs, sums, sum_stride, scale, starts, limit, y, quad_stride);
}

// ---- max pool: four quads at a time, the last ones perhaps once more ------------------------------------------------

static inline v128_t max_of_rows_wasm(const uint8_t *x, size_t row_stride, size_t n_rows)
{
    v128_t most = wasm_v128_load(x);
    for (size_t r = 1; r < n_rows; r++)
        most = wasm_u8x16_max(most, wasm_v128_load(x + r * row_stride));
    return most;
}

void qcnn_max_quads_wasm(uint8_t *y, const uint8_t *x, size_t row_stride, size_t n_rows, size_t n, size_t n_taps, size_t stride)
{
    if (n < 4 || stride > 2) {
        qcnn_max_quads_c(y, x, row_stride, n_rows, n, n_taps, stride);
        return;
    }
    for (size_t i = 0; i < n; i += 4) {
        const size_t j = i + 4 <= n ? i : n - 4;
        const uint8_t *columns = x + 4 * j * stride;
        v128_t most = wasm_i32x4_const_splat(0);
        for (size_t t = 0; t < n_taps; t++, columns += 4) {
            v128_t taps = max_of_rows_wasm(columns, row_stride, n_rows);
            if (stride == 2) // columns 0 and 2 of these, 4 and 6 from the four behind column 2
                taps = wasm_i32x4_shuffle(taps, max_of_rows_wasm(columns + 12, row_stride, n_rows), 0, 2, 5, 7);
            most = wasm_u8x16_max(most, taps);
        }
        wasm_v128_store(y + 4 * j, most);
    }
}

// ---- local response normalization -----------------------------------------------------------------------------------

// qcnn_power_075, operation for operation.
static inline v128_t power_075_wasm(v128_t v)
{
    const v128_t quarters = wasm_i32x4_add(wasm_i32x4_shr(v, 1), wasm_i32x4_shr(v, 2));
    const v128_t y = wasm_i32x4_sub(wasm_i32x4_const_splat(0x6F14A000), quarters), one = wasm_f32x4_const_splat(1);
    const v128_t p = wasm_f32x4_mul(v, y), q = wasm_f32x4_mul(p, y), d = wasm_f32x4_sub(one, wasm_f32x4_mul(wasm_f32x4_mul(p, p), q));
    const v128_t slope = wasm_f32x4_add(wasm_f32x4_const_splat(0.25F), wasm_f32x4_mul(wasm_f32x4_const_splat(0.15625F), d));
    return wasm_f32x4_mul(y, wasm_f32x4_add(one, wasm_f32x4_mul(d, slope)));
}

static inline v128_t channel_values_wasm(const float *x, size_t x_stride, size_t channel, size_t n_channels)
{
    return channel < n_channels ? wasm_v128_load(x + channel * x_stride) : wasm_f32x4_const_splat(0);
}

// Four positions; sums of five squares, of which those of four channels are carried on.
static void normalize_four_wasm(uint8_t *y, size_t quad_stride, const float *x, size_t x_stride, size_t n_channels, float scale, float bias,
                                float ratio, float limit)
{
    v128_t values[6], squares[8];
    for (size_t i = 0; i < 2; i++) {
        values[4 + i] = channel_values_wasm(x, x_stride, i, n_channels);
        squares[4 + i] = wasm_f32x4_const_splat(0);
        squares[6 + i] = wasm_f32x4_mul(values[4 + i], values[4 + i]);
    }
    for (size_t c = 0; c < n_channels; c += 4) {
        v128_t whole[4];
        values[0] = values[4], values[1] = values[5];
        for (size_t i = 0; i < 4; i++) {
            squares[i] = squares[4 + i];
            values[2 + i] = channel_values_wasm(x, x_stride, c + 2 + i, n_channels);
            squares[4 + i] = wasm_f32x4_mul(values[2 + i], values[2 + i]);
        }
        for (size_t i = 0; i < 4; i++) {
            const v128_t three = wasm_f32x4_add(wasm_f32x4_add(squares[i], squares[i + 1]), squares[i + 2]);
            const v128_t sum = wasm_f32x4_add(wasm_f32x4_add(three, squares[i + 3]), squares[i + 4]);
            const v128_t w = power_075_wasm(wasm_f32x4_add(wasm_f32x4_splat(bias), wasm_f32x4_mul(wasm_f32x4_splat(scale), sum)));
            whole[i] = whole_values_wasm(wasm_f32x4_mul(values[i], wasm_f32x4_mul(w, wasm_f32x4_splat(ratio))), limit);
        }
        const v128_t bytes = narrowed_wasm(whole[0], whole[1], whole[2], whole[3]);
        wasm_v128_store(y + c / 4 * quad_stride, wasm_i8x16_shuffle(bytes, bytes, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    }
}

void qcnn_lrn_quads_wasm(uint8_t *y, size_t quad_stride, const float *x, size_t x_stride, size_t n_channels, size_t n, int size,
                         float scale, float bias, float ratio, int limit)
{
    size_t p = 0;
    if (size == 5)
        for (; p + 4 <= n; p += 4)
            normalize_four_wasm(y + 4 * p, quad_stride, x + p, x_stride, n_channels, scale, bias, ratio, (float)limit);
    qcnn_lrn_quads_c(y + 4 * p, quad_stride, x + p, x_stride, n_channels, n - p, size, scale, bias, ratio, limit);
}

// ---- quads to floats ------------------------------------------------------------------------------------------------

void qcnn_dequantize_quads_wasm(size_t n, const uint8_t *quads, int n_channels, float scale, float *y, size_t channel_stride)
{
    size_t j = 0;
    for (; j + 4 <= n; j += 4) {
        v128_t channels = wasm_v128_load(quads + 4 * j);
        for (int i = 0; i < n_channels; i++, channels = wasm_u32x4_shr(channels, 8)) {
            const v128_t values = wasm_f32x4_convert_i32x4(wasm_v128_and(channels, wasm_i32x4_const_splat(255)));
            wasm_v128_store(y + (size_t)i * channel_stride + j, wasm_f32x4_mul(values, wasm_f32x4_splat(scale)));
        }
    }
    qcnn_dequantize_quads_c(n - j, quads + 4 * j, n_channels, scale, y + j, channel_stride);
}
