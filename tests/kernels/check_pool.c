// SPDX-License-Identifier: Apache-2.0
// The steps of a max pool without gaps: exact, NaN and infinities included.

#include <math.h>

#include "check.h"

static float *numbers_with_specials(checker *check, size_t n, bool specials)
{
    const float special[] = { NAN, INFINITY, -INFINITY, 0.0F, -0.0F };
    float *x = check_floats(check, 0, n);
    for (size_t j = 0; specials && j < n; j += 1 + (size_t)check_below(check, 3))
        x[j] = special[check_below(check, 5)];
    return x;
}

void check_max_rows(checker *check)
{
    for (int i = 0; i < 300; i++) {
        const size_t n = (size_t)check_near(check, i % 2 ? 16 : 64), n_rows = 1 + (size_t)check_below(check, 4);
        const size_t stride = n + (size_t)check_below(check, 5);
        check_shape(check, "%zu elements of %zu rows", n, n_rows);
        const float *x = numbers_with_specials(check, (n_rows - 1) * stride + n, i % 3 == 0);
        float *y = check_floats(check, 1, n), *other = check_floats(check, 2, n);
        check->c->max_rows(y, x, stride, n_rows, n);
        check->tier->max_rows(other, x, stride, n_rows, n);
        check_same(check, y, other, n * sizeof *y);
    }
}

void check_max_columns(checker *check)
{
    for (int i = 0; i < 400; i++) {
        const size_t n = (size_t)check_near(check, i % 2 ? 16 : 64), n_taps = 1 + (size_t)check_below(check, 5);
        const size_t stride = 1 + (size_t)check_below(check, 3);
        check_shape(check, "%zu outputs, %zu taps, stride %zu", n, n_taps, stride);
        const float *x = numbers_with_specials(check, (n - 1) * stride + n_taps, i % 3 == 0);
        float *y = check_floats(check, 1, n), *other = check_floats(check, 2, n);
        check->c->max_columns(y, x, n, n_taps, stride);
        check->tier->max_columns(other, x, n, n_taps, stride);
        check_same(check, y, other, n * sizeof *y);
    }
}

void check_max_windows(checker *check)
{
    for (int i = 0; i < 600; i++) {
        const size_t n = (size_t)check_near(check, i % 2 ? 16 : 64), n_taps = 1 + (size_t)check_below(check, 5);
        const size_t stride = 1 + (size_t)check_below(check, 3), n_rows = 1 + (size_t)check_below(check, 4);
        const size_t width = (n - 1) * stride + n_taps, row_stride = width + (size_t)check_below(check, 5);
        check_shape(check, "%zu outputs, %zu rows, %zu taps, stride %zu", n, n_rows, n_taps, stride);
        const float *x = numbers_with_specials(check, (n_rows - 1) * row_stride + width, i % 3 == 0);
        float *y = check_floats(check, 1, n), *other = check_floats(check, 2, n);
        check->c->max_windows(y, x, row_stride, n_rows, n, n_taps, stride);
        check->tier->max_windows(other, x, row_stride, n_rows, n, n_taps, stride);
        for (size_t j = 0; j < n; j++) // which zero does not matter
            if (y[j] == 0 && other[j] == 0)
                y[j] = other[j] = 0;
        check_same(check, y, other, n * sizeof *y);
    }
}

enum { ROW = 111 };

typedef struct pool_bench {
    const qcnn_kernels *tier;
    float *x, *y;
} pool_bench;

static void run_max_rows(void *argument)
{
    const pool_bench *job = argument;
    job->tier->max_rows(job->y, job->x, ROW, 3, ROW);
}

static void run_max_columns(void *argument)
{
    const pool_bench *job = argument;
    job->tier->max_columns(job->y, job->x, ROW / 2, 3, 2);
}

static void run_max_windows(void *argument)
{
    const pool_bench *job = argument;
    job->tier->max_windows(job->y, job->x, ROW, 3, ROW / 2, 3, 2);
}

void bench_max_windows(checker *check)
{
    pool_bench job = { check->tier, check_floats(check, 0, 3 * ROW), check_floats(check, 1, ROW) };
    check_time(check, "55 outputs, 3 x 3 taps, stride 2", 9.0 * (ROW / 2), "el", run_max_windows, &job);
}

void bench_max_rows(checker *check)
{
    pool_bench job = { check->tier, check_floats(check, 0, 3 * ROW), check_floats(check, 1, ROW) };
    check_time(check, "111 elements of 3 rows", 3.0 * ROW, "el", run_max_rows, &job);
}

void bench_max_columns(checker *check)
{
    pool_bench job = { check->tier, check_floats(check, 0, 3 * ROW), check_floats(check, 1, ROW) };
    check_time(check, "55 outputs, 3 taps, stride 2", 3.0 * (ROW / 2), "el", run_max_columns, &job);
}
