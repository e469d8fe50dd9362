// SPDX-License-Identifier: Apache-2.0
// Table sums for 64-bit ARM: four outputs of sixteen positions at a time are 16 accumulators of the 32 registers.

#include <arm_neon.h>

#include "kernels/kernels.h"

enum { LUT_COLUMNS = QCNN_LUT_COLUMNS, LUT_OUTPUTS = 4, LUT_VECTORS = LUT_COLUMNS / 4 };

// `outputs` outputs, a constant at every call, of one block of columns.
static inline __attribute__((always_inline)) void lut_block(int outputs, size_t n_outputs, size_t n_taps, const uint8_t *assignments,
                                                            const float *const *tables, size_t table_stride, size_t column, float *place,
                                                            size_t lanes)
{
    float32x4_t sums[LUT_OUTPUTS][LUT_VECTORS];
#pragma GCC unroll 4
    for (int i = 0; i < outputs; i++)
#pragma GCC unroll 4
        for (int v = 0; v < LUT_VECTORS; v++)
            sums[i][v] = vld1q_f32(place + (size_t)i * lanes + 4 * v);
    for (size_t t = 0; t < n_taps; t++) {
        const float *table = tables[t] + column;
        const uint8_t *codes = assignments + t * n_outputs;
#pragma GCC unroll 4
        for (int i = 0; i < outputs; i++) {
            const float *entries = table + codes[i] * table_stride;
#pragma GCC unroll 4
            for (int v = 0; v < LUT_VECTORS; v++)
                sums[i][v] = vaddq_f32(sums[i][v], vld1q_f32(entries + 4 * v));
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < outputs; i++)
#pragma GCC unroll 4
        for (int v = 0; v < LUT_VECTORS; v++)
            vst1q_f32(place + (size_t)i * lanes + 4 * v, sums[i][v]);
}

void qcnn_lut_sum_columns_neon(size_t n_outputs, size_t n_taps, const uint8_t *assignments, const float *const *tables, size_t table_stride,
                               float *sums, size_t lanes)
{
    for (size_t column = 0; column < lanes; column += LUT_COLUMNS) {
        size_t o = 0;
        for (; o + LUT_OUTPUTS <= n_outputs; o += LUT_OUTPUTS)
            lut_block(LUT_OUTPUTS, n_outputs, n_taps, assignments + o, tables, table_stride, column, sums + o * lanes + column, lanes);
        for (; o < n_outputs; o++)
            lut_block(1, n_outputs, n_taps, assignments + o, tables, table_stride, column, sums + o * lanes + column, lanes);
    }
}

// Subspaces two at a time, so that sums are read and written half as often; each still added in turn.
void qcnn_lut_sum_neon(size_t n_outputs, size_t n_subspaces, const uint8_t *assignments, size_t stride, const float *tables,
                       size_t n_codewords, float *sums)
{
    const size_t whole = n_outputs / 4 * 4, pairs = n_subspaces / 2 * 2;
    for (size_t m = 0; m < pairs; m += 2) {
        const uint8_t *codes = assignments + m * stride, *next = codes + stride;
        const float *table = tables + m * n_codewords, *second = table + n_codewords;
        for (size_t o = 0; o < whole; o += 4) {
            const float32x4_t a = { table[codes[o]], table[codes[o + 1]], table[codes[o + 2]], table[codes[o + 3]] };
            const float32x4_t b = { second[next[o]], second[next[o + 1]], second[next[o + 2]], second[next[o + 3]] };
            vst1q_f32(sums + o, vaddq_f32(vaddq_f32(vld1q_f32(sums + o), a), b));
        }
    }
    if (pairs < n_subspaces)
        qcnn_lut_sum_c(whole, 1, assignments + pairs * stride, stride, tables + pairs * n_codewords, n_codewords, sums);
    qcnn_lut_sum_c(n_outputs - whole, n_subspaces, assignments + whole, stride, tables, n_codewords, sums + whole);
}
