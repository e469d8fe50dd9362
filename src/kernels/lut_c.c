// SPDX-License-Identifier: Apache-2.0
// Table sums in portable C: what every other tier is tested against, bit for bit, since all add in the same order.

#include "kernels/kernels.h"

void qcnn_lut_sum_columns_c(size_t n_outputs, size_t n_taps, const uint8_t *assignments, const float *const *tables, size_t table_stride,
                            float *sums, size_t lanes)
{
    enum { BLOCK = QCNN_LUT_COLUMNS }; // accumulators that stay in registers over the taps
    for (size_t column = 0; column < lanes; column += BLOCK)
        for (size_t o = 0; o < n_outputs; o++) {
            float block[BLOCK];
            for (int j = 0; j < BLOCK; j++)
                block[j] = sums[o * lanes + column + j];
            for (size_t t = 0; t < n_taps; t++) {
                const float *entries = tables[t] + assignments[t * n_outputs + o] * table_stride + column;
                for (int j = 0; j < BLOCK; j++)
                    block[j] += entries[j];
            }
            for (int j = 0; j < BLOCK; j++)
                sums[o * lanes + column + j] = block[j];
        }
}

void qcnn_lut_sum_c(size_t n_outputs, size_t n_subspaces, const uint8_t *assignments, size_t stride, const float *tables,
                    size_t n_codewords, float *sums)
{
    for (size_t m = 0; m < n_subspaces; m++, assignments += stride, tables += n_codewords)
        for (size_t o = 0; o < n_outputs; o++)
            sums[o] += tables[assignments[o]];
}
