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

#include "model/model.h"

enum { QCNN_GEMM_MAX_ROWS = 16, QCNN_GEMM_MAX_COLUMNS = 64, QCNN_LUT_COLUMNS = 16 };

typedef struct qcnn_kernels {
    const char *name; // of the tier: "c", "avx2", ...

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
} qcnn_kernels;

// The tier of that name, or the best one for NULL; NULL when unknown, not built in, or beyond this processor.
const qcnn_kernels *qcnn_kernels_find(const char *name); // qcnn.h's qcnn_kernels_name lists those of this processor

// ---- instruction sets of this processor (cpu.c) ----

enum { QCNN_CPU_AVX2 = 1 }; // AVX2 and FMA, and an operating system that saves their registers
unsigned qcnn_cpu_flags(void);

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

#endif
