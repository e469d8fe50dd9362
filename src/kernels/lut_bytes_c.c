// SPDX-License-Identifier: Apache-2.0
// Integer tables in portable C: what every other tier gives too, bit for bit.

#include "kernels/kernels.h"

// ---- building -------------------------------------------------------------------------------------------------------

static int32_t accumulate_entry(int n_quads, const uint8_t *x, size_t x_stride, const int8_t *codewords, size_t width, int32_t sum)
{
    for (int q = 0; q < n_quads; q++)
        for (size_t i = 0; i < 4; i++)
            sum += codewords[(size_t)q * width * 4 + i] * x[(size_t)q * x_stride + i];
    return sum;
}

void qcnn_quad_norms_c(size_t n_positions, int n_quads, const uint8_t *x, size_t x_stride, int zero, int32_t *norms)
{
    for (size_t p = 0; p < n_positions; p++) {
        int32_t norm = 0;
        for (int q = 0; q < n_quads; q++)
            for (size_t i = 0; i < 4; i++) {
                const int32_t v = x[(size_t)q * x_stride + 4 * p + i] - zero;
                norm += v * v;
            }
        norms[p] = norm;
    }
}

void qcnn_table_peaks_c(size_t n_positions, size_t n_subspaces, const uint32_t *rows, int n_quads, const uint8_t *x, size_t x_stride,
                        const int8_t *codewords, const int32_t *codeword_sums, int zero, size_t width, int32_t *peaks)
{
    for (size_t r = 0; r < n_subspaces; r++) {
        const size_t m = rows ? rows[r] : r, first_quad = m * (size_t)n_quads;
        for (size_t p = 0; p < n_positions; p++)
            for (size_t k = 0; k < width; k++) {
                const int32_t a = accumulate_entry(n_quads, x + first_quad * x_stride + 4 * p, x_stride,
                                                   codewords + (first_quad * width + k) * 4, width, -zero * codeword_sums[m * width + k]);
                const int32_t size = a < 0 ? -a : a;
                peaks[r] = size > peaks[r] ? size : peaks[r];
            }
    }
}

static int32_t hold(int32_t v, int32_t low, int32_t high)
{
    return v < low ? low : v > high ? high : v;
}

void qcnn_table_bytes_c(size_t n_positions, size_t n_subspaces, const uint32_t *rows, int n_quads, const uint8_t *x, size_t x_stride,
                        const int8_t *codewords, const int32_t *codeword_sums, int zero, size_t width, const uint8_t *shifts,
                        const int16_t *factors, uint8_t *tables)
{
    for (size_t r = 0; r < n_subspaces; r++) {
        const size_t m = rows ? rows[r] : r, first_quad = m * (size_t)n_quads;
        for (size_t p = 0; p < n_positions; p++, tables += width)
            for (size_t k = 0; k < width; k++) {
                const int32_t a = accumulate_entry(n_quads, x + first_quad * x_stride + 4 * p, x_stride,
                                                   codewords + (first_quad * width + k) * 4, width, -zero * codeword_sums[m * width + k]);
                const int32_t held = hold((a + ((1 << shifts[r]) >> 1)) >> shifts[r], INT16_MIN, INT16_MAX);
                const int32_t scaled = (held * factors[r] + (1 << 14)) >> 15;
                tables[k] = (uint8_t)(hold(scaled, INT8_MIN, INT8_MAX) + 128);
            }
    }
}

// ---- summing --------------------------------------------------------------------------------------------------------

enum { OUTPUTS = 64 }; // whose sums stay in the first-level cache over all steps

static inline void add_entries(size_t n, const uint8_t *codes, const uint8_t *table, int shift, int32_t *sums)
{
    for (size_t o = 0; o < n; o++)
        sums[o] += table[codes[o]] << shift;
}

void qcnn_lut_conv_bytes_c(size_t n_outputs, size_t n_positions, size_t n_steps, const qcnn_lut_step *steps, const uint8_t *tables,
                           size_t position_stride, size_t width, const uint8_t *codes, int shift, int32_t *sums, size_t sum_stride)
{
    (void)width;
    for (size_t p = 0; p < n_positions; p++)
        for (size_t o = 0; o < n_outputs; o += OUTPUTS)
            for (size_t s = 0; s < n_steps; s++)
                add_entries(n_outputs - o < OUTPUTS ? n_outputs - o : OUTPUTS, codes + steps[s].code + o,
                            tables + p * position_stride + steps[s].table, shift, sums + p * sum_stride + o);
}

void qcnn_lut_fc_bytes_c(size_t n_outputs, size_t n_rows, const uint32_t *rows, const uint8_t *codes, size_t code_stride,
                         const uint8_t *tables, size_t width, int32_t *sums)
{
    for (size_t r = 0; r < n_rows; r++)
        add_entries(n_outputs, codes + rows[r] * code_stride, tables + r * width, 0, sums);
}

void qcnn_lut_sum_words_c(size_t n_outputs, size_t n_taps, const uint8_t *assignments, const int16_t *const *tables, size_t table_stride,
                          int32_t *sums, size_t lanes)
{
    enum { BLOCK = QCNN_LUT_COLUMNS }; // sums of 16 bits that stay in registers over the taps
    for (size_t column = 0; column < lanes; column += BLOCK)
        for (size_t o = 0; o < n_outputs; o++) {
            int16_t block[BLOCK] = { 0 };
            for (size_t t = 0; t < n_taps; t++) {
                const int16_t *entries = tables[t] + assignments[t * n_outputs + o] * table_stride + column;
                for (int j = 0; j < BLOCK; j++)
                    block[j] = (int16_t)(block[j] + entries[j]);
            }
            for (int j = 0; j < BLOCK; j++)
                sums[o * lanes + column + (size_t)j] += block[j];
        }
}
