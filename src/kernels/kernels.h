// SPDX-License-Identifier: Apache-2.0
// The inner loops of the engine, one constant table of functions per instruction-set tier. A tier names a better function
// where it has one and the portable C one everywhere else (dispatch.c), so every tier can run every layer.
//
// Kernels never allocate, never fail and take any alignment. They read and write exactly the elements their contract
// names. Results of two tiers may differ by rounding (tests/unit/test_layers.c states the bound); within a tier an output
// element depends on its own inputs alone, never on its place in a tile: splitting work differently changes no bit.

#ifndef QCNN_KERNELS_KERNELS_H
#define QCNN_KERNELS_KERNELS_H

#include <stddef.h>
#include <string.h>

#include "model/model.h"

enum { QCNN_GEMM_MAX_ROWS = 16, QCNN_GEMM_MAX_COLUMNS = 64, QCNN_LUT_COLUMNS = 16, QCNN_LUT_MAX_STEPS = 256 };

struct qcnn_lut_step;

typedef struct qcnn_kernels {
    const char *name;          // of the tier: "c", "avx2", ...
    const qcnn_prices *prices; // of integers; where floats are asked for, qcnn_float_prices

    // ---- dense ----

    // One tile of a matrix product: c[r][j] = sum over k < depth of a[r][k] * b[k][j], added to start[r], or to the old
    // c[r][j] where `start` is NULL, k in rising order. 1 <= rows <= gemm_rows, 1 <= columns <= gemm_columns; strides are
    // in elements between rows. All gemm_columns columns of b are read, only `columns` of c are touched.
    int gemm_rows, gemm_columns;
    void (*gemm)(int rows, int columns, size_t depth, const float *a, size_t a_stride, const float *b, size_t b_stride, float *c,
                 size_t c_stride, const float *start);

    // Scalar products of rows with vectors: y[v][r] += sum over k < n of w[r][k] * x[v][k].
    // w: [n_rows][w_stride], x: [n_vectors][x_stride], y: [n_vectors][y_stride].
    void (*dots)(size_t n_rows, size_t n_vectors, size_t n, const float *w, size_t w_stride, const float *x, size_t x_stride, float *y,
                 size_t y_stride);

    // One output row of a depthwise convolution: y[j] = bias + sum over t < n_taps of w[t] * x[offsets[t] + j * stride], j < n.
    void (*depthwise)(float *y, size_t n, const float *x, size_t stride, const float *w, const ptrdiff_t *offsets, size_t n_taps,
                      float bias);

    // y[j] = max(y[j], x[j * stride]) and y[j] += x[j * stride], j < n: the steps of a pool.
    void (*maximum)(float *y, const float *x, size_t n, size_t stride);
    void (*accumulate)(float *y, const float *x, size_t n, size_t stride);

    // The steps of a max pool without gaps or padding: y[j] = max over r < n_rows of x[r * row_stride + j], j < n, and
    // y[j] = max over t < n_taps of x[j * stride + t]. NaN is passed over; -INFINITY where nothing else is.
    void (*max_rows)(float *y, const float *x, size_t row_stride, size_t n_rows, size_t n);
    void (*max_columns)(float *y, const float *x, size_t n, size_t n_taps, size_t stride);
    // Both in one (which zero where 0 and -0 are largest is open): y[j] = max over r < n_rows and t < n_taps of x[r * row_stride + j *
    // stride + t], j < n.
    void (*max_windows)(float *y, const float *x, size_t row_stride, size_t n_rows, size_t n, size_t n_taps, size_t stride);

    // y[j] = x[j] / (bias + scale * sum over i < n_rows of rows[i][j]^2)^beta, j < n; rows: [n_rows][row_stride]. y is apart from both.
    void (*lrn)(float *y, const float *x, const float *rows, size_t row_stride, size_t n_rows, size_t n, float scale, float beta,
                float bias);

    // y[j] = activation(x[j]), j < n; any function of one argument. y may be x.
    void (*activate)(const qcnn_activation *activation, float *y, const float *x, size_t n);

    // ---- look-up (lut_*.c) ----

    // Sums with positions in the lanes: sums[o][j] += tables[t][assignments[t][o]][j] for t in order, o < n_outputs,
    // j < lanes. assignments: [n_taps][n_outputs], tables[t]: [codewords][table_stride], sums: [n_outputs][lanes];
    // lanes is a multiple of QCNN_LUT_COLUMNS.
    void (*lut_sum_columns)(size_t n_outputs, size_t n_taps, const uint8_t *assignments, const float *const *tables, size_t table_stride,
                            float *sums, size_t lanes);

    // Sums of one position: sums[o] += tables[m][assignments[m][o]] for m in order, o < n_outputs.
    // assignments: [n_subspaces][stride], tables: [n_subspaces][n_codewords].
    void (*lut_sum)(size_t n_outputs, size_t n_subspaces, const uint8_t *assignments, size_t stride, const float *tables,
                    size_t n_codewords, float *sums);

    // ---- integers: bit-exact in every tier ----
    //
    // Activations become bytes, four channels of a pixel together: a *quad*. quads[pixel][i] is channel 4 q + i, value
    // scale * (byte - zero). Codewords and dense weights are signed bytes in the same quads.

    int bytes_limit;               // largest activation byte that this tier's dense_bytes takes: 255, or 127
    int bytes_rows, bytes_columns; // largest tile of dense_bytes; the columns are a multiple of 16
    bool conv_byte_tables;         // convolutions run best from byte tables (lut_conv_bytes), else from 16-bit ones (lut_sum_words)

    // Lowers *low and raises *high to the smallest and largest of n numbers; NaN is passed over.
    void (*range)(const float *x, size_t n, float *low, float *high);

    // quads[j][i] = x[i * channel_stride + j] * scale + zero, rounded to the nearest (even) and held to 0..limit, for
    // i < n_channels (1..4); `zero` for the others. NaN gives 0. 0 <= zero <= limit <= 255.
    void (*quantize_quads)(size_t n, const float *x, size_t channel_stride, int n_channels, float scale, int zero, int limit,
                           uint8_t *quads);

    // Tables of n_subspaces subspaces, m = rows[r] or, where `rows` is NULL, r, for positions side by side. They are made of
    //   a[r][p][k] = sum over q < n_quads, i < 4 of codewords[m][q][k][i] * (x[(m n_quads + q) x_stride + 4 p + i] - zero)
    // for p < n_positions, k < width. x_stride is in bytes; codewords: [M][n_quads][width][4]; codeword_sums: [M][width], sums over
    // q and i; width: 16, 32, 64, 128 or 256. The caller keeps n_quads below 2^14, so that 32 bits hold all of it.
    // table_peaks raises peaks[r] to the largest |a[r]|. table_bytes writes, at tables[(r n_positions + p) width + k],
    //   sat8(round(sat16(round(a / 2^shifts[r])) * factors[r] / 2^15)) + 128
    // where round(v) is floor(v + 1/2), sat16 and sat8 hold to signed numbers of so many bits, shifts are 0 to 15 and factors are not
    // negative: 128 stands for zero.
    void (*table_peaks)(size_t n_positions, size_t n_subspaces, const uint32_t *rows, int n_quads, const uint8_t *x, size_t x_stride,
                        const int8_t *codewords, const int32_t *codeword_sums, int zero, size_t width, int32_t *peaks);
    void (*table_bytes)(size_t n_positions, size_t n_subspaces, const uint32_t *rows, int n_quads, const uint8_t *x, size_t x_stride,
                        const int8_t *codewords, const int32_t *codeword_sums, int zero, size_t width, const uint8_t *shifts,
                        const int16_t *factors, uint8_t *tables);

    // Squared norms of the inputs of one subspace: norms[p] = sum over q, i of (x[q x_stride + 4 p + i] - zero)^2, p < n_positions.
    void (*quad_norms)(size_t n_positions, int n_quads, const uint8_t *x, size_t x_stride, int zero, int32_t *norms);

    // Sums of byte tables for positions side by side:
    //   sums[p][o] += 2^shift * sum over s < n_steps of tables[p * position_stride + steps[s].table + codes[steps[s].code + o]]
    // for o < n_outputs. n_steps is at most QCNN_LUT_MAX_STEPS: 16 bits then hold a sum of entries. A code is below `width` (64, 128 or
    // 256), a table has `width` bytes. sums: [n_positions][sum_stride].
    void (*lut_conv_bytes)(size_t n_outputs, size_t n_positions, size_t n_steps, const struct qcnn_lut_step *steps, const uint8_t *tables,
                           size_t position_stride, size_t width, const uint8_t *codes, int shift, int32_t *sums, size_t sum_stride);

    // Sums of byte tables of one position, for a choice of the subspaces: sums[o] += sum over r < n_rows of
    // tables[r][codes[rows[r] * code_stride + o]], o < n_outputs. tables: [n_rows][width], width 16, 32, 64, 128 or 256.
    void (*lut_fc_bytes)(size_t n_outputs, size_t n_rows, const uint32_t *rows, const uint8_t *codes, size_t code_stride,
                         const uint8_t *tables, size_t width, int32_t *sums);

    // Sums of 16-bit tables with positions in the lanes: as lut_sum_columns, sums[o][j] += tables[t][assignments[t][o]][j]. The caller
    // keeps n_taps * |entry| below 2^15. sums: [n_outputs][lanes]; lanes is a multiple of QCNN_LUT_COLUMNS.
    void (*lut_sum_words)(size_t n_outputs, size_t n_taps, const uint8_t *assignments, const int16_t *const *tables, size_t table_stride,
                          int32_t *sums, size_t lanes);

    // bytes[j] = x[j] * scale + zero, as quantize_quads.
    void (*quantize_bytes)(size_t n, const float *x, float scale, int zero, int limit, uint8_t *bytes);

    // words[j] = x[j] * scale, rounded to the nearest (even) and held to -limit..limit; limit < 2^15. NaN gives -limit.
    void (*quantize_words)(size_t n, const float *x, float scale, int limit, int16_t *words);

    // y[j] = max(low, sums[j] * scale + start), two roundings; low -INFINITY: no bound.
    void (*dequantize)(size_t n, const int32_t *sums, float scale, float start, float low, float *y);
    // y[o][p] = max(low, sums[p][o] * scale + starts[o]), p < n_positions, o < n_outputs.
    void (*dequantize_turned)(size_t n_positions, size_t n_outputs, const int32_t *sums, size_t sum_stride, float scale,
                              const float *starts, float low, float *y, size_t y_stride);

    // A tile of a dense layer in bytes: y[r][j] = max(low, a * scales[r] + starts[r]), a = sum over s < n_steps, i < 4 of
    // weights[s][r][i] * x[offsets[s] + 4 j + i]. 1 <= n_rows <= bytes_rows, 1 <= n_columns <= bytes_columns; weights:
    // [n_steps][bytes_rows][4]; bytes of x are at most bytes_limit, and read to the end of 16 columns. |a| < 2^31 is the caller's care.
    void (*dense_bytes)(size_t n_rows, size_t n_columns, size_t n_steps, const int8_t *weights, const uint8_t *x, const uint32_t *offsets,
                        const float *scales, const float *starts, float low, float *y, size_t y_stride);

    // ---- byte planes: activations kept in quads between layers, value scale * byte ----

    // dense_bytes and dequantize_turned, to quads: with v = a * scales[r] + starts[r], or sums[p * sum_stride + o] * scale + starts[o],
    // two roundings, the byte is v rounded to the nearest (even) and held to 0..limit (1..255; NaN: 0). Row r of column j is byte
    // y[r / 4 * quad_stride + 4 j + r % 4], output o of position p byte y[o / 4 * quad_stride + 4 p + o % 4]. Bytes of channels beyond
    // n_rows or n_outputs are 0, to the end of a quad or, where that comes first, of bytes_rows. quad_stride is in bytes.
    void (*dense_quads)(size_t n_rows, size_t n_columns, size_t n_steps, const int8_t *weights, const uint8_t *x, const uint32_t *offsets,
                        const float *scales, const float *starts, int limit, uint8_t *y, size_t quad_stride);
    void (*requantize_turned)(size_t n_positions, size_t n_outputs, const int32_t *sums, size_t sum_stride, float scale,
                              const float *starts, int limit, uint8_t *y, size_t quad_stride);

    // max_windows of quads, n of them: y[4 j + i] = max over r < n_rows and t < n_taps of x[r * row_stride + 4 (j * stride + t) + i], for
    // j < n, i < 4. row_stride is in bytes, stride in quads. n_rows and n_taps are not 0.
    void (*max_quads)(uint8_t *y, const uint8_t *x, size_t row_stride, size_t n_rows, size_t n, size_t n_taps, size_t stride);

    // Local response normalization with beta 3/4 of n positions and all channels, from floats: with s the sum of the squares of channels
    // c - (size - 1) / 2 .. c + size / 2 (those that exist) in rising order and w = qcnn_power_075(bias + scale * s),
    //   y[c / 4 * quad_stride + 4 p + c % 4] = x[c * x_stride + p] * (w * ratio)
    // rounded to the nearest (even) and held to 0..limit (NaN: 0); bytes of channels beyond n_channels are 0. Every operation rounds.
    // size >= 1; bias + scale * s should lie between 2^-20 and 2^60.
    void (*lrn_quads)(uint8_t *y, size_t quad_stride, const float *x, size_t x_stride, size_t n_channels, size_t n, int size, float scale,
                      float bias, float ratio, int limit);

    // y[i * channel_stride + j] = quads[4 j + i] * scale, j < n, i < n_channels (1..4).
    void (*dequantize_quads)(size_t n, const uint8_t *quads, int n_channels, float scale, float *y, size_t channel_stride);
} qcnn_kernels;

// v^-0.75 within 2^-10, v from 2^-20 to 2^60: a guess from v's bits, that of their value times -3/4, and one step of third order. No
// operation of it may be contracted with another; then it is the same in every tier.
static inline float qcnn_power_075(float v)
{
    int32_t bits;
    float y;
    memcpy(&bits, &v, sizeof bits);
    bits = 0x6F14A000 - ((bits >> 1) + (bits >> 2));
    memcpy(&y, &bits, sizeof y);
    const float p = v * y, q = p * y, d = 1 - p * p * q; // 1 - v^3 y^4
    return y * (1 + d * (0.25F + 0.15625F * d));
}

// A step of lut_conv_bytes: a tap of a subspace.
typedef struct qcnn_lut_step {
    uint32_t table, code; // offsets of its table and of its row of codes
} qcnn_lut_step;

// The tier of that name, or the best one for NULL; NULL when unknown, not built in, or beyond this processor.
const qcnn_kernels *qcnn_kernels_find(const char *name); // qcnn.h's qcnn_kernels_name lists those of this processor

// ---- instruction sets of this processor (cpu.c) ----

// Each with an operating system that saves the registers.
enum {
    QCNN_CPU_AVX2 = 1,       // and FMA
    QCNN_CPU_AVX512 = 2,     // F, BW, DQ and VL
    QCNN_CPU_AVX512VNNI = 4, // VNNI
    QCNN_CPU_AVX512VBMI = 8, // VBMI
    QCNN_CPU_DOT = 1 << 8,   // aarch64: sdot and udot
};
unsigned qcnn_cpu_flags(void);

// ---- prices (prices.c) ----

extern const qcnn_prices qcnn_float_prices, qcnn_prices_byte_tables, qcnn_prices_word_tables, qcnn_prices_neon, qcnn_prices_neondot,
    qcnn_prices_plain;

// ---- the functions behind the tables ----

void qcnn_gemm_4x8_c(int rows, int columns, size_t depth, const float *a, size_t a_stride, const float *b, size_t b_stride, float *c,
                     size_t c_stride, const float *start);
void qcnn_gemm_6x16_avx2(int rows, int columns, size_t depth, const float *a, size_t a_stride, const float *b, size_t b_stride, float *c,
                         size_t c_stride, const float *start);
void qcnn_dots_c(size_t n_rows, size_t n_vectors, size_t n, const float *w, size_t w_stride, const float *x, size_t x_stride, float *y,
                 size_t y_stride);
void qcnn_dots_avx2(size_t n_rows, size_t n_vectors, size_t n, const float *w, size_t w_stride, const float *x, size_t x_stride, float *y,
                    size_t y_stride);
void qcnn_depthwise_c(float *y, size_t n, const float *x, size_t stride, const float *w, const ptrdiff_t *offsets, size_t n_taps,
                      float bias);
void qcnn_depthwise_avx2(float *y, size_t n, const float *x, size_t stride, const float *w, const ptrdiff_t *offsets, size_t n_taps,
                         float bias);
void qcnn_maximum_c(float *y, const float *x, size_t n, size_t stride);
void qcnn_maximum_avx2(float *y, const float *x, size_t n, size_t stride);
void qcnn_accumulate_c(float *y, const float *x, size_t n, size_t stride);
void qcnn_accumulate_avx2(float *y, const float *x, size_t n, size_t stride);
void qcnn_lrn_c(float *y, const float *x, const float *rows, size_t row_stride, size_t n_rows, size_t n, float scale, float beta,
                float bias);
void qcnn_lrn_avx2(float *y, const float *x, const float *rows, size_t row_stride, size_t n_rows, size_t n, float scale, float beta,
                   float bias);
void qcnn_activate_c(const qcnn_activation *activation, float *y, const float *x, size_t n);
void qcnn_activate_avx2(const qcnn_activation *activation, float *y, const float *x, size_t n);
void qcnn_lut_sum_columns_c(size_t n_outputs, size_t n_taps, const uint8_t *assignments, const float *const *tables, size_t table_stride,
                            float *sums, size_t lanes);
void qcnn_lut_sum_columns_avx2(size_t n_outputs, size_t n_taps, const uint8_t *assignments, const float *const *tables, size_t table_stride,
                               float *sums, size_t lanes);
void qcnn_lut_sum_c(size_t n_outputs, size_t n_subspaces, const uint8_t *assignments, size_t stride, const float *tables,
                    size_t n_codewords, float *sums);
void qcnn_lut_sum_avx2(size_t n_outputs, size_t n_subspaces, const uint8_t *assignments, size_t stride, const float *tables,
                       size_t n_codewords, float *sums);

// The type of a kernel, for declaring the functions that implement it.
#define QCNN_KERNEL(field) __typeof__(*((qcnn_kernels *)0)->field)

QCNN_KERNEL(range) qcnn_range_c, qcnn_range_avx512;
QCNN_KERNEL(quantize_quads) qcnn_quantize_quads_c, qcnn_quantize_quads_avx512;
QCNN_KERNEL(quad_norms) qcnn_quad_norms_c, qcnn_quad_norms_avx512;
QCNN_KERNEL(table_peaks) qcnn_table_peaks_c, qcnn_table_peaks_avx512vbmi;
QCNN_KERNEL(table_bytes) qcnn_table_bytes_c, qcnn_table_bytes_avx512vbmi;
QCNN_KERNEL(lut_conv_bytes) qcnn_lut_conv_bytes_c, qcnn_lut_conv_bytes_avx512vbmi;
QCNN_KERNEL(lut_fc_bytes) qcnn_lut_fc_bytes_c, qcnn_lut_fc_bytes_avx512vbmi;
QCNN_KERNEL(lut_sum_words) qcnn_lut_sum_words_c, qcnn_lut_sum_words_avx512;
QCNN_KERNEL(quantize_bytes) qcnn_quantize_bytes_c, qcnn_quantize_bytes_avx512;
QCNN_KERNEL(quantize_words) qcnn_quantize_words_c, qcnn_quantize_words_avx512;
QCNN_KERNEL(dequantize) qcnn_dequantize_c, qcnn_dequantize_avx512;
QCNN_KERNEL(dequantize_turned) qcnn_dequantize_turned_c, qcnn_dequantize_turned_avx512;
QCNN_KERNEL(dense_bytes) qcnn_dense_bytes_4x16_c, qcnn_dense_bytes_8x48_avx512vnni;
QCNN_KERNEL(dense_quads) qcnn_dense_quads_4x16_c, qcnn_dense_quads_8x48_avx512vnni, qcnn_dense_quads_4x16_avx2;
QCNN_KERNEL(requantize_turned) qcnn_requantize_turned_c, qcnn_requantize_turned_avx2, qcnn_requantize_turned_avx512;
QCNN_KERNEL(max_quads) qcnn_max_quads_c, qcnn_max_quads_avx2, qcnn_max_quads_avx512;
QCNN_KERNEL(lrn_quads) qcnn_lrn_quads_c, qcnn_lrn_quads_avx2, qcnn_lrn_quads_avx512;
QCNN_KERNEL(dequantize_quads) qcnn_dequantize_quads_c, qcnn_dequantize_quads_avx2, qcnn_dequantize_quads_avx512;

QCNN_KERNEL(max_rows) qcnn_max_rows_c, qcnn_max_rows_avx2, qcnn_max_rows_avx512;
QCNN_KERNEL(max_columns) qcnn_max_columns_c, qcnn_max_columns_avx2, qcnn_max_columns_avx512;
QCNN_KERNEL(max_windows) qcnn_max_windows_c, qcnn_max_windows_avx2, qcnn_max_windows_avx512;
QCNN_KERNEL(lrn) qcnn_lrn_avx512;
QCNN_KERNEL(range) qcnn_range_avx2;
QCNN_KERNEL(quantize_quads) qcnn_quantize_quads_avx2;
QCNN_KERNEL(quantize_bytes) qcnn_quantize_bytes_avx2;
QCNN_KERNEL(quantize_words) qcnn_quantize_words_avx2;
QCNN_KERNEL(table_peaks) qcnn_table_peaks_avx2;
QCNN_KERNEL(table_bytes) qcnn_table_bytes_avx2;
QCNN_KERNEL(lut_fc_bytes) qcnn_lut_fc_bytes_avx2;
QCNN_KERNEL(lut_sum_words) qcnn_lut_sum_words_avx2;
QCNN_KERNEL(dequantize) qcnn_dequantize_avx2;
QCNN_KERNEL(dense_bytes) qcnn_dense_bytes_4x16_avx2;

// ---- 64-bit ARM (*_neon.c) ----

void qcnn_gemm_8x8_neon(int rows, int columns, size_t depth, const float *a, size_t a_stride, const float *b, size_t b_stride, float *c,
                        size_t c_stride, const float *start);
void qcnn_dots_neon(size_t n_rows, size_t n_vectors, size_t n, const float *w, size_t w_stride, const float *x, size_t x_stride, float *y,
                    size_t y_stride);
void qcnn_depthwise_neon(float *y, size_t n, const float *x, size_t stride, const float *w, const ptrdiff_t *offsets, size_t n_taps,
                         float bias);
void qcnn_maximum_neon(float *y, const float *x, size_t n, size_t stride);
void qcnn_accumulate_neon(float *y, const float *x, size_t n, size_t stride);
void qcnn_lrn_neon(float *y, const float *x, const float *rows, size_t row_stride, size_t n_rows, size_t n, float scale, float beta,
                   float bias);
void qcnn_activate_neon(const qcnn_activation *activation, float *y, const float *x, size_t n);
void qcnn_lut_sum_columns_neon(size_t n_outputs, size_t n_taps, const uint8_t *assignments, const float *const *tables, size_t table_stride,
                               float *sums, size_t lanes);
void qcnn_lut_sum_neon(size_t n_outputs, size_t n_subspaces, const uint8_t *assignments, size_t stride, const float *tables,
                       size_t n_codewords, float *sums);
QCNN_KERNEL(range) qcnn_range_neon;
QCNN_KERNEL(max_rows) qcnn_max_rows_neon;
QCNN_KERNEL(max_columns) qcnn_max_columns_neon;
QCNN_KERNEL(quantize_quads) qcnn_quantize_quads_neon;
QCNN_KERNEL(quantize_bytes) qcnn_quantize_bytes_neon;
QCNN_KERNEL(quantize_words) qcnn_quantize_words_neon;
QCNN_KERNEL(table_peaks) qcnn_table_peaks_neon;
QCNN_KERNEL(table_bytes) qcnn_table_bytes_neon;
QCNN_KERNEL(lut_fc_bytes) qcnn_lut_fc_bytes_neon;
QCNN_KERNEL(lut_sum_words) qcnn_lut_sum_words_neon;
QCNN_KERNEL(dequantize) qcnn_dequantize_neon;
QCNN_KERNEL(dense_bytes) qcnn_dense_bytes_4x16_neon;
QCNN_KERNEL(dense_quads) qcnn_dense_quads_4x16_neon;
QCNN_KERNEL(requantize_turned) qcnn_requantize_turned_neon;
QCNN_KERNEL(max_quads) qcnn_max_quads_neon;
QCNN_KERNEL(lrn_quads) qcnn_lrn_quads_neon;
QCNN_KERNEL(dequantize_quads) qcnn_dequantize_quads_neon;

// dense_quads' last step: rows of a tile (four, n_rows of them there) to one row of quads. sums: [4][sum_stride], read to whole quads.
void qcnn_quads_of_sums_neon(size_t n_rows, size_t n_columns, const int32_t *sums, size_t sum_stride, const float *scales,
                             const float *starts, int limit, uint8_t *y);
// with dot products (*_neondot.c)
QCNN_KERNEL(table_peaks) qcnn_table_peaks_neondot;
QCNN_KERNEL(table_bytes) qcnn_table_bytes_neondot;
QCNN_KERNEL(dense_bytes) qcnn_dense_bytes_4x16_neondot;
QCNN_KERNEL(dense_quads) qcnn_dense_quads_4x16_neondot;

// ---- WebAssembly SIMD (*_wasm.c) ----

QCNN_KERNEL(dots) qcnn_dots_wasm;
QCNN_KERNEL(depthwise) qcnn_depthwise_wasm;
QCNN_KERNEL(maximum) qcnn_maximum_wasm;
QCNN_KERNEL(accumulate) qcnn_accumulate_wasm;
QCNN_KERNEL(lrn) qcnn_lrn_wasm;
QCNN_KERNEL(range) qcnn_range_wasm;
QCNN_KERNEL(max_rows) qcnn_max_rows_wasm;
QCNN_KERNEL(max_columns) qcnn_max_columns_wasm;
QCNN_KERNEL(quantize_quads) qcnn_quantize_quads_wasm;
QCNN_KERNEL(quantize_bytes) qcnn_quantize_bytes_wasm;
QCNN_KERNEL(quantize_words) qcnn_quantize_words_wasm;
QCNN_KERNEL(table_peaks) qcnn_table_peaks_wasm;
QCNN_KERNEL(table_bytes) qcnn_table_bytes_wasm;
QCNN_KERNEL(lut_fc_bytes) qcnn_lut_fc_bytes_wasm;
QCNN_KERNEL(lut_sum_words) qcnn_lut_sum_words_wasm;
QCNN_KERNEL(dequantize) qcnn_dequantize_wasm;
QCNN_KERNEL(dense_bytes) qcnn_dense_bytes_2x16_wasm;
QCNN_KERNEL(dense_quads) qcnn_dense_quads_2x16_wasm;
QCNN_KERNEL(requantize_turned) qcnn_requantize_turned_wasm;
QCNN_KERNEL(max_quads) qcnn_max_quads_wasm;
QCNN_KERNEL(lrn_quads) qcnn_lrn_quads_wasm;
QCNN_KERNEL(dequantize_quads) qcnn_dequantize_quads_wasm;

#endif
