// SPDX-License-Identifier: Apache-2.0
// What the checks of the kernel tester share: seeded inputs in buffers whose neighbouring memory cannot be touched, comparisons
// that say what differs, and timing.
//
// A check runs one kernel of one tier over seeded shapes and compares it with the C tier (integers and sums of table entries:
// the same bits) or with the definition in double precision (float arithmetic, the bound stated in the check).

#ifndef QCNN_TESTS_CHECK_H
#define QCNN_TESTS_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"
#include "kernels/kernels.h"

enum { CHECK_SLOTS = 16, CHECK_SLOT_BYTES = 1 << 20, CHECK_MARGIN = 128 };

typedef struct checker {
    const qcnn_kernels *c, *tier; // the reference and the tier on trial (which may be the reference itself)
    const char *kernel;           // the field's name
    qcnn_rng rng;
    bool no_guards; // CHECK_MARGIN bytes around each buffer may be touched
    int failures;
} checker;

// One row of the list of kernels: a field of qcnn_kernels, how it is checked and how it is timed.
typedef struct kernel_entry {
    const char *name;
    size_t offset;                 // of the field
    void (*check)(checker *check); //
    void (*bench)(checker *check); // reports through check_time
} kernel_entry;

extern const kernel_entry kernel_list[];
extern const size_t n_kernel_list;

// ---- random choices ----

int check_below(checker *check, int n);   // uniform in 0..n-1
int check_near(checker *check, int tile); // 1 up: around `tile` and its multiples, where tails begin and end
void check_shape(checker *check, const char *format, ...) __attribute__((format(printf, 2, 3))); // of the case that follows

// ---- buffers ----

// `bytes` bytes in slot 0..CHECK_SLOTS-1, with a page that cannot be touched directly behind them (then their alignment is
// whatever `bytes` makes it) or directly before them. Valid until the slot is asked for again.
void *check_place(checker *check, int slot, size_t bytes);
// The same with contents: floats in -1..1, bytes below `limit` (1..256), a copy.
float *check_floats(checker *check, int slot, size_t n);
uint8_t *check_bytes(checker *check, int slot, size_t n, int limit);
void *check_copy(checker *check, int slot, const void *from, size_t bytes);

// Where memory protection is missing (WASI): bytes around each buffer that nobody may change. True when all are as they were.
bool check_surroundings(checker *check);

void check_start(void); // once: maps the slots, catches faults

// ---- verdicts ----

// Whether the buffers hold the same bits.
bool check_same(checker *check, const void *expected, const void *got, size_t bytes);
// Whether |got - expected| <= bound * magnitude for each element; NaN matches NaN. `magnitude` NULL: |expected|.
bool check_close(checker *check, const double *expected, const double *magnitude, const float *got, size_t n, double bound);
void check_fail(checker *check, const char *format, ...) __attribute__((format(printf, 2, 3)));

// ---- timing ----

// Calls `body` for about 50 ms and prints the rate: `units` of work a call, in thousand millions of `unit` a second.
void check_time(checker *check, const char *what, double units, const char *unit, void (*body)(void *argument), void *argument);

// ---- the checks (check_*.c) ----

void check_gemm(checker *check);
void check_dots(checker *check);
void check_depthwise(checker *check);
void check_maximum(checker *check);
void check_max_rows(checker *check);
void check_max_columns(checker *check);
void check_max_windows(checker *check);
void check_accumulate(checker *check);
void check_lrn(checker *check);
void check_activate(checker *check);
void check_lut_sum_columns(checker *check);
void check_lut_sum(checker *check);
void check_range(checker *check);
void check_quantize_quads(checker *check);
void check_quantize_bytes(checker *check);
void check_quantize_words(checker *check);
void check_dequantize(checker *check);
void check_dequantize_turned(checker *check);
void check_quad_norms(checker *check);
void check_table_peaks(checker *check);
void check_table_bytes(checker *check);
void check_lut_conv_bytes(checker *check);
void check_lut_fc_bytes(checker *check);
void check_lut_sum_words(checker *check);
void check_dense_bytes(checker *check);
void check_dense_quads(checker *check);
void check_requantize_turned(checker *check);
void check_max_quads(checker *check);
void check_lrn_quads(checker *check);
void check_dequantize_quads(checker *check);
void bench_gemm(checker *check);
void bench_dots(checker *check);
void bench_depthwise(checker *check);
void bench_maximum(checker *check);
void bench_max_rows(checker *check);
void bench_max_columns(checker *check);
void bench_max_windows(checker *check);
void bench_accumulate(checker *check);
void bench_lrn(checker *check);
void bench_activate(checker *check);
void bench_lut_sum_columns(checker *check);
void bench_lut_sum(checker *check);
void bench_range(checker *check);
void bench_quantize_quads(checker *check);
void bench_quantize_bytes(checker *check);
void bench_quantize_words(checker *check);
void bench_dequantize(checker *check);
void bench_dequantize_turned(checker *check);
void bench_quad_norms(checker *check);
void bench_table_peaks(checker *check);
void bench_table_bytes(checker *check);
void bench_lut_conv_bytes(checker *check);
void bench_lut_fc_bytes(checker *check);
void bench_lut_sum_words(checker *check);
void bench_dense_bytes(checker *check);
void bench_dense_quads(checker *check);
void bench_requantize_turned(checker *check);
void bench_max_quads(checker *check);
void bench_lrn_quads(checker *check);
void bench_dequantize_quads(checker *check);

#endif
