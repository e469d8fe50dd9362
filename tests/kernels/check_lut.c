// SPDX-License-Identifier: Apache-2.0
// Checks of the table sums in float: every tier adds the same entries in the same order, so the bits are those of the C tier.

#include <string.h>

#include "check.h"

enum { MAX_TAPS = 64 };

// A number of codewords that real codebooks have, or an odd one.
static int codewords(checker *check)
{
    const int choices[] = { 1, 2, 8, 16, 32, 64, 128, 256, 1 + check_below(check, 256) };
    return choices[check_below(check, 9)];
}

// ---- positions in the lanes -----------------------------------------------------------------------------------------

static void check_columns_case(checker *check, int n_outputs, int n_taps, int n_columns)
{
    const size_t outputs = (size_t)n_outputs, taps = (size_t)n_taps, lanes = (size_t)n_columns * QCNN_LUT_COLUMNS;
    const int k = 1 + check_below(check, 40);
    const size_t stride = lanes + (size_t)check_below(check, 3);
    check_shape(check, "%d outputs, %d taps, %zu lanes, %d codewords, stride %zu", n_outputs, n_taps, lanes, k, stride);
    const uint8_t *assignments = check_bytes(check, 0, taps * outputs, k);
    const size_t table = ((size_t)k - 1) * stride + lanes;
    const float *entries = check_floats(check, 1, table + taps - 1); // the taps' tables overlap, as those of a sliding window do
    const float **tables = check_place(check, 2, taps * sizeof *tables);
    for (size_t t = 0; t < taps; t++)
        tables[t] = entries + t;
    float *sums = check_floats(check, 3, outputs * lanes), *other = check_copy(check, 4, sums, outputs * lanes * sizeof *sums);
    check->c->lut_sum_columns(outputs, taps, assignments, tables, stride, sums, lanes);
    check->tier->lut_sum_columns(outputs, taps, assignments, tables, stride, other, lanes);
    check_same(check, sums, other, outputs * lanes * sizeof *sums);
}

void check_lut_sum_columns(checker *check)
{
    for (int i = 0; i < 200; i++)
        check_columns_case(check, check_near(check, i % 2 ? 4 : 16), 1 + check_below(check, 30), 1 + check_below(check, 4));
}

typedef struct columns_job {
    const qcnn_kernels *tier;
    const uint8_t *assignments;
    const float *tables[MAX_TAPS];
    float *sums;
} columns_job;

static void run_columns(void *argument)
{
    const columns_job *job = argument;
    job->tier->lut_sum_columns(64, 9, job->assignments, job->tables, 32, job->sums, 32);
}

void bench_lut_sum_columns(checker *check)
{
    columns_job job = { .tier = check->tier, .assignments = check_bytes(check, 0, 64 * 9, 128), .sums = check_floats(check, 1, 64 * 32) };
    const float *entries = check_floats(check, 2, 9 * 128 * 32);
    for (size_t t = 0; t < 9; t++)
        job.tables[t] = entries + t * 128 * 32;
    check_time(check, "64 outputs, 9 taps, 32 lanes, K 128", 64.0 * 9 * 32, "lookup", run_columns, &job);
}

// ---- one position ---------------------------------------------------------------------------------------------------

static void check_position_case(checker *check, int n_outputs, int n_subspaces, int k)
{
    const size_t outputs = (size_t)n_outputs, subspaces = (size_t)n_subspaces, stride = outputs + (size_t)check_below(check, 5);
    check_shape(check, "%d outputs, %d subspaces, %d codewords, stride %zu", n_outputs, n_subspaces, k, stride);
    const uint8_t *assignments = check_bytes(check, 0, (subspaces - 1) * stride + outputs, k);
    const float *tables = check_floats(check, 1, subspaces * (size_t)k);
    float *sums = check_floats(check, 2, outputs), *other = check_copy(check, 3, sums, outputs * sizeof *sums);
    check->c->lut_sum(outputs, subspaces, assignments, stride, tables, (size_t)k, sums);
    check->tier->lut_sum(outputs, subspaces, assignments, stride, tables, (size_t)k, other);
    check_same(check, sums, other, outputs * sizeof *sums);
}

void check_lut_sum(checker *check)
{
    for (int i = 0; i < 400; i++)
        check_position_case(check, check_near(check, i % 2 ? 8 : 64), 1 + check_below(check, 20), codewords(check));
}

typedef struct position_job {
    const qcnn_kernels *tier;
    const uint8_t *assignments;
    const float *tables;
    size_t k;
    float *sums;
} position_job;

static void run_position(void *argument)
{
    const position_job *job = argument;
    job->tier->lut_sum(1024, 64, job->assignments, 1024, job->tables, job->k, job->sums);
}

void bench_lut_sum(checker *check)
{
    position_job job = { check->tier, check_bytes(check, 0, 64 * 1024, 32), check_floats(check, 1, 64 * 128), 32,
                         check_floats(check, 2, 1024) };
    check_time(check, "1024 outputs, 64 subspaces, K 32", 64.0 * 1024, "lookup", run_position, &job);
    job.k = 128;
    job.assignments = check_bytes(check, 0, 64 * 1024, 128);
    check_time(check, "1024 outputs, 64 subspaces, K 128", 64.0 * 1024, "lookup", run_position, &job);
}
