// SPDX-License-Identifier: Apache-2.0
// Byte planes for any 64-bit ARM processor.

#include <arm_neon.h>
#include <string.h>

#include "kernels/kernels.h"

// Whole numbers, held to 0..limit (NaN: 0), rounded to the nearest even.
static inline int32x4_t whole_values(float32x4_t v, float limit)
{
    return vcvtnq_s32_f32(vminnmq_f32(vmaxnmq_f32(v, vdupq_n_f32(0)), vdupq_n_f32(limit)));
}

// Four bytes each of a, b, c and d.
static inline uint8x16_t narrowed(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d)
{
    const uint8x8_t low = vqmovun_s16(vcombine_s16(vmovn_s32(a), vmovn_s32(b)));
    return vcombine_u8(low, vqmovun_s16(vcombine_s16(vmovn_s32(c), vmovn_s32(d))));
}

static const uint8_t columns_of_rows[16] = { 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15 };

// ---- sums to quads: four columns of four rows -----------------------------------------------------------------------

void qcnn_quads_of_sums_neon(size_t n_rows, size_t n_columns, const int32_t *sums, size_t sum_stride, const float *scales,
                             const float *starts, int limit, uint8_t *y)
{
    for (size_t j = 0; j < n_columns; j += 4) {
        int32x4_t whole[4];
#pragma GCC unroll 4
        for (size_t r = 0; r < 4; r++) {
            whole[r] = vdupq_n_s32(0);
            if (r < n_rows) {
                const float32x4_t product = vmulq_n_f32(vcvtq_f32_s32(vld1q_s32(sums + r * sum_stride + j)), scales[r]);
                whole[r] = whole_values(vaddq_f32(product, vdupq_n_f32(starts[r])), (float)limit);
            }
        }
        uint8_t quads[16];
        vst1q_u8(quads, vqtbl1q_u8(narrowed(whole[0], whole[1], whole[2], whole[3]), vld1q_u8(columns_of_rows)));
        memcpy(y + 4 * j, quads, n_columns - j < 4 ? 4 * (n_columns - j) : 16);
    }
}

// ---- and four positions by four outputs -----------------------------------------------------------------------------

void qcnn_requantize_turned_neon(size_t n_positions, size_t n_outputs, const int32_t *sums, size_t sum_stride, float scale,
                                 const float *starts, int limit, uint8_t *y, size_t quad_stride)
{
    const size_t whole_outputs = n_outputs / 4 * 4;
    size_t p = 0;
    for (; p + 4 <= n_positions; p += 4, sums += 4 * sum_stride, y += 16) {
        for (size_t o = 0; o < whole_outputs; o += 4) {
            const float32x4_t start = vld1q_f32(starts + o);
            int32x4_t whole[4];
#pragma GCC unroll 4
            for (size_t i = 0; i < 4; i++) { // two roundings, as in C
                const float32x4_t product = vmulq_n_f32(vcvtq_f32_s32(vld1q_s32(sums + i * sum_stride + o)), scale);
                whole[i] = whole_values(vaddq_f32(product, start), (float)limit);
            }
            vst1q_u8(y + o / 4 * quad_stride, narrowed(whole[0], whole[1], whole[2], whole[3]));
        }
        qcnn_requantize_turned_c(4, n_outputs - whole_outputs, sums + whole_outputs, sum_stride, scale, starts + whole_outputs, limit,
                                 y + whole_outputs / 4 * quad_stride, quad_stride);
    }
    qcnn_requantize_turned_c(n_positions - p, n_outputs, sums, sum_stride, scale, starts, limit, y, quad_stride);
}

// ---- max pool: four quads at a time, the last ones perhaps once more ------------------------------------------------

static inline uint8x16_t max_of_rows_neon(const uint8_t *x, size_t row_stride, size_t n_rows)
{
    uint8x16_t most = vld1q_u8(x);
    for (size_t r = 1; r < n_rows; r++)
        most = vmaxq_u8(most, vld1q_u8(x + r * row_stride));
    return most;
}

void qcnn_max_quads_neon(uint8_t *y, const uint8_t *x, size_t row_stride, size_t n_rows, size_t n, size_t n_taps, size_t stride)
{
    if (n < 4 || stride > 2) {
        qcnn_max_quads_c(y, x, row_stride, n_rows, n, n_taps, stride);
        return;
    }
    for (size_t i = 0; i < n; i += 4) {
        const size_t j = i + 4 <= n ? i : n - 4;
        const uint8_t *columns = x + 4 * j * stride;
        uint8x16_t most = vdupq_n_u8(0);
        for (size_t t = 0; t < n_taps; t++, columns += 4) {
            const uint8x16_t low = max_of_rows_neon(columns, row_stride, n_rows);
            if (stride == 1) {
                most = vmaxq_u8(most, low);
                continue;
            }
            const uint32x4_t first = vreinterpretq_u32_u8(low); // columns 0 and 2 of it, 4 and 6 from the four behind column 2
            const uint32x4_t second = vreinterpretq_u32_u8(max_of_rows_neon(columns + 12, row_stride, n_rows));
            const uint32x4_t both = vcombine_u32(vget_low_u32(vuzp1q_u32(first, first)), vget_low_u32(vuzp2q_u32(second, second)));
            most = vmaxq_u8(most, vreinterpretq_u8_u32(both));
        }
        vst1q_u8(y + 4 * j, most);
    }
}

// ---- local response normalization -----------------------------------------------------------------------------------

// qcnn_power_075, operation for operation.
static inline float32x4_t power_075_neon(float32x4_t v)
{
    const int32x4_t bits = vreinterpretq_s32_f32(v), quarters = vaddq_s32(vshrq_n_s32(bits, 1), vshrq_n_s32(bits, 2));
    const float32x4_t y = vreinterpretq_f32_s32(vsubq_s32(vdupq_n_s32(0x6F14A000), quarters)), one = vdupq_n_f32(1);
    const float32x4_t p = vmulq_f32(v, y), q = vmulq_f32(p, y), d = vsubq_f32(one, vmulq_f32(vmulq_f32(p, p), q));
    const float32x4_t slope = vaddq_f32(vdupq_n_f32(0.25F), vmulq_n_f32(d, 0.15625F));
    return vmulq_f32(y, vaddq_f32(one, vmulq_f32(d, slope)));
}

static inline float32x4_t channel_values_neon(const float *x, size_t x_stride, size_t channel, size_t n_channels)
{
    return channel < n_channels ? vld1q_f32(x + channel * x_stride) : vdupq_n_f32(0);
}

// Four positions; sums of five squares, of which those of four channels are carried on.
static void normalize_four(uint8_t *y, size_t quad_stride, const float *x, size_t x_stride, size_t n_channels, float scale, float bias,
                           float ratio, float limit)
{
    float32x4_t values[6], squares[8];
    for (size_t i = 0; i < 2; i++) {
        values[4 + i] = channel_values_neon(x, x_stride, i, n_channels);
        squares[4 + i] = vdupq_n_f32(0);
        squares[6 + i] = vmulq_f32(values[4 + i], values[4 + i]);
    }
    for (size_t c = 0; c < n_channels; c += 4) {
        int32x4_t whole[4];
        values[0] = values[4], values[1] = values[5];
#pragma GCC unroll 4
        for (size_t i = 0; i < 4; i++) {
            squares[i] = squares[4 + i];
            values[2 + i] = channel_values_neon(x, x_stride, c + 2 + i, n_channels);
            squares[4 + i] = vmulq_f32(values[2 + i], values[2 + i]);
        }
#pragma GCC unroll 4
        for (size_t i = 0; i < 4; i++) {
            const float32x4_t three = vaddq_f32(vaddq_f32(squares[i], squares[i + 1]), squares[i + 2]);
            const float32x4_t sum = vaddq_f32(vaddq_f32(three, squares[i + 3]), squares[i + 4]);
            const float32x4_t w = power_075_neon(vaddq_f32(vdupq_n_f32(bias), vmulq_n_f32(sum, scale)));
            whole[i] = whole_values(vmulq_f32(values[i], vmulq_n_f32(w, ratio)), limit);
        }
        vst1q_u8(y + c / 4 * quad_stride, vqtbl1q_u8(narrowed(whole[0], whole[1], whole[2], whole[3]), vld1q_u8(columns_of_rows)));
    }
}

void qcnn_lrn_quads_neon(uint8_t *y, size_t quad_stride, const float *x, size_t x_stride, size_t n_channels, size_t n, int size,
                         float scale, float bias, float ratio, int limit)
{
    size_t p = 0;
    if (size == 5)
        for (; p + 4 <= n; p += 4)
            normalize_four(y + 4 * p, quad_stride, x + p, x_stride, n_channels, scale, bias, ratio, (float)limit);
    qcnn_lrn_quads_c(y + 4 * p, quad_stride, x + p, x_stride, n_channels, n - p, size, scale, bias, ratio, limit);
}

// ---- quads to floats ------------------------------------------------------------------------------------------------

void qcnn_dequantize_quads_neon(size_t n, const uint8_t *quads, int n_channels, float scale, float *y, size_t channel_stride)
{
    size_t j = 0;
    for (; j + 4 <= n; j += 4) {
        uint32x4_t channels = vreinterpretq_u32_u8(vld1q_u8(quads + 4 * j));
        for (int i = 0; i < n_channels; i++, channels = vshrq_n_u32(channels, 8))
            vst1q_f32(y + (size_t)i * channel_stride + j, vmulq_n_f32(vcvtq_f32_u32(vandq_u32(channels, vdupq_n_u32(255))), scale));
    }
    qcnn_dequantize_quads_c(n - j, quads + 4 * j, n_channels, scale, y + j, channel_stride);
}
