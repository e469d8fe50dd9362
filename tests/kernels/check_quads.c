// SPDX-License-Identifier: Apache-2.0
// Checks of the kernels of byte planes: every tier gives the bits of the C tier, and touches no byte beside those it is to write.

#include <math.h>
#include <string.h>

#include "check.h"

enum { MAX_CHANNELS = 24 };

// Floats in -size..size.
static float *scaled_floats(checker *check, int slot, size_t n, float size)
{
    float *x = check_floats(check, slot, n);
    for (size_t i = 0; i < n; i++)
        x[i] *= size;
    return x;
}

// The C tier's tile is another one: its rows are set apart, one a tile of their own.
void check_dense_quads(checker *check)
{
    const qcnn_kernels *tier = check->tier, *c = check->c;
    for (int i = 0; i < 200; i++) {
        const size_t rows = 1 + (size_t)check_below(check, tier->bytes_rows), columns = 1 + (size_t)check_below(check, tier->bytes_columns);
        const size_t steps = (size_t)(1 + check_below(check, 60)), room = (columns + 15) / 16 * 64, tile = (size_t)tier->bytes_rows * 4;
        const int limit = i % 3 ? 255 : 127;
        check_shape(check, "%zu rows, %zu columns, %zu steps, limit %d", rows, columns, steps, limit);
        int8_t *weights = (int8_t *)check_bytes(check, 0, steps * tile, 255);
        for (size_t k = 0; k < steps * tile; k++)
            weights[k] = (int8_t)((uint8_t)weights[k] - 127);
        uint8_t *x = check_bytes(check, 1, 100 + room, tier->bytes_limit + 1);
        if (i % 10 == 0)
            memset(x, tier->bytes_limit, 100 + room);
        uint32_t *offsets = check_place(check, 2, steps * sizeof *offsets);
        for (size_t s = 0; s < steps; s++)
            offsets[s] = (uint32_t)check_below(check, 101);
        const float *scales = scaled_floats(check, 3, rows, 0.004F), *starts = scaled_floats(check, 4, rows, i % 7 ? 100 : 1e9F);
        const size_t rows_written = (rows + 3) / 4 * 4 < tile / 4 ? (rows + 3) / 4 * 4 : tile / 4;
        const size_t stride = 4 * columns + (size_t)check_below(check, 9), n = (rows - 1) / 4 * stride + 4 * columns - (tile < 16 ? 2 : 0);
        uint8_t *expected = check_bytes(check, 5, n, 256), *got = check_copy(check, 6, expected, n);
        for (size_t r = 0; r < rows_written; r++)
            for (size_t j = 0; j < columns; j++) {
                int32_t sum = 0;
                for (size_t s = 0; r < rows && s < steps; s++)
                    for (size_t k = 0; k < 4; k++)
                        sum += weights[s * tile + 4 * r + k] * x[offsets[s] + 4 * j + k];
                uint8_t quad[4] = { 0 };
                if (r < rows)
                    c->requantize_turned(1, 1, &sum, 1, scales[r], &starts[r], limit, quad, 0);
                expected[r / 4 * stride + 4 * j + r % 4] = quad[0];
            }
        tier->dense_quads(rows, columns, steps, weights, x, offsets, scales, starts, limit, got, stride);
        check_same(check, expected, got, n);
    }
}

void check_requantize_turned(checker *check)
{
    for (int i = 0; i < 200; i++) {
        const size_t positions = (size_t)check_near(check, 16), outputs = (size_t)check_near(check, 16);
        const size_t sum_stride = outputs + (size_t)check_below(check, 3), stride = 4 * positions + (size_t)check_below(check, 9);
        const int limit = i % 3 ? 255 : 127;
        check_shape(check, "%zu positions, %zu outputs, limit %d", positions, outputs, limit);
        int32_t *sums = check_place(check, 0, ((positions - 1) * sum_stride + outputs) * sizeof *sums);
        for (size_t k = 0; k < (positions - 1) * sum_stride + outputs; k++)
            sums[k] = check_below(check, 1 << 16) - (1 << 14);
        const float *starts = scaled_floats(check, 1, outputs, 20), scale = i % 2 ? 0.005F : 0.5F; // halves: to even
        const size_t n = (outputs - 1) / 4 * stride + 4 * positions;
        uint8_t *expected = check_bytes(check, 2, n, 256), *got = check_copy(check, 3, expected, n);
        float *whole = check_copy(check, 4, starts, outputs * sizeof *whole);
        for (size_t o = 0; o < outputs; o++)
            whole[o] = i % 2 ? starts[o] : i % 4 ? INFINITY : (float)(int)starts[o];
        check->c->requantize_turned(positions, outputs, sums, sum_stride, scale, whole, limit, expected, stride);
        check->tier->requantize_turned(positions, outputs, sums, sum_stride, scale, whole, limit, got, stride);
        check_same(check, expected, got, n);
    }
}

void check_max_quads(checker *check)
{
    for (int i = 0; i < 400; i++) {
        const size_t n = (size_t)check_near(check, 16), n_taps = 1 + (size_t)check_below(check, 5);
        const size_t stride = 1 + (size_t)check_below(check, 3), n_rows = 1 + (size_t)check_below(check, 4);
        const size_t width = 4 * ((n - 1) * stride + n_taps), row_stride = width + (size_t)check_below(check, 9);
        check_shape(check, "%zu outputs, %zu rows, %zu taps, stride %zu", n, n_rows, n_taps, stride);
        const uint8_t *x = check_bytes(check, 0, (n_rows - 1) * row_stride + width, 256);
        uint8_t *expected = check_place(check, 1, 4 * n), *got = check_place(check, 2, 4 * n);
        check->c->max_quads(expected, x, row_stride, n_rows, n, n_taps, stride);
        check->tier->max_quads(got, x, row_stride, n_rows, n, n_taps, stride);
        check_same(check, expected, got, 4 * n);
    }
}

// The C tier too, against the definition.
static void check_normalized(checker *check, const uint8_t *got, size_t quad_stride, const float *x, size_t x_stride, size_t channels,
                             int size, double scale, double bias, double ratio, int limit)
{
    for (size_t c = 0; c < channels; c++) { // position 0
        double sum = 0;
        for (int k = -(size - 1) / 2; k <= size / 2; k++)
            if (c + (size_t)k < channels) // wraps below 0
                sum += pow((double)x[(c + (size_t)k) * x_stride], 2);
        const double v = (double)x[c * x_stride] * ratio * pow(bias + scale * sum, -0.75), held = v < 0 ? 0 : v < limit ? v : limit;
        if (fabs(got[c / 4 * quad_stride + c % 4] - held) > 0.5 + 0.001 * held)
            check_fail(check, "channel %zu is %d instead of %g", c, got[c / 4 * quad_stride + c % 4], held);
    }
}

void check_lrn_quads(checker *check)
{
    const float biases[] = { 1, 2, 0x1p-20F, 1000 }, scales[] = { 1e-4F, 0, 0.03F, 1e6F };
    for (int i = 0; i < 200; i++) {
        const size_t n = (size_t)check_near(check, 16), channels = 1 + (size_t)check_below(check, MAX_CHANNELS);
        const size_t x_stride = n + (size_t)check_below(check, 3), y_stride = 4 * n + (size_t)check_below(check, 9);
        const int size = i % 2 ? 5 : 1 + check_below(check, 8), limit = i % 3 ? 255 : 127;
        const float scale = scales[check_below(check, 4)], bias = biases[check_below(check, 4)],
                    ratio = (float)(1 + check_below(check, 9)) / 3;
        check_shape(check, "%zu positions, %zu channels, size %d, scale %g, bias %g", n, channels, size, (double)scale, (double)bias);
        float *x = scaled_floats(check, 0, (channels - 1) * x_stride + n, 200);
        for (size_t p = 1; p < n; p += 7)
            x[p] = p % 2 ? NAN : INFINITY;
        const size_t bytes = (channels - 1) / 4 * y_stride + 4 * n;
        uint8_t *expected = check_bytes(check, 1, bytes, 256), *got = check_copy(check, 2, expected, bytes);
        check->c->lrn_quads(expected, y_stride, x, x_stride, channels, n, size, scale, bias, ratio, limit);
        check->tier->lrn_quads(got, y_stride, x, x_stride, channels, n, size, scale, bias, ratio, limit);
        if (check_same(check, expected, got, bytes))
            check_normalized(check, got, y_stride, x, x_stride, channels, size, (double)scale, (double)bias, (double)ratio, limit);
    }
}

void check_dequantize_quads(checker *check)
{
    for (int i = 0; i < 200; i++) {
        const size_t n = (size_t)check_near(check, 16), stride = n + (size_t)check_below(check, 3);
        const int channels = 1 + check_below(check, 4);
        check_shape(check, "%zu pixels, %d channels", n, channels);
        const uint8_t *quads = check_bytes(check, 0, 4 * n, 256);
        const size_t numbers = (size_t)(channels - 1) * stride + n;
        float *expected = check_floats(check, 1, numbers), *got = check_copy(check, 2, expected, numbers * sizeof *got);
        check->c->dequantize_quads(n, quads, channels, 0.037F, expected, stride);
        check->tier->dequantize_quads(n, quads, channels, 0.037F, got, stride);
        check_same(check, expected, got, numbers * sizeof *got);
    }
}

// ---- times ----------------------------------------------------------------------------------------------------------

typedef struct quads_job {
    const qcnn_kernels *tier;
    uint8_t *x, *y;
    int8_t *weights;
    int32_t *sums;
    uint32_t *offsets;
    float *floats;
} quads_job;

static quads_job quads_job_of(checker *check)
{
    quads_job job = { .tier = check->tier };
    job.x = check_bytes(check, 0, 1 << 17, 127);
    job.y = check_bytes(check, 1, 1 << 17, 127);
    job.weights = (int8_t *)check_bytes(check, 2, 1 << 16, 128);
    job.sums = check_place(check, 3, 16384 * sizeof *job.sums);
    job.offsets = check_place(check, 4, 256 * sizeof *job.offsets);
    job.floats = check_floats(check, 5, 1 << 15);
    for (int i = 0; i < 16384; i++)
        job.sums[i] = i;
    for (uint32_t i = 0; i < 256; i++)
        job.offsets[i] = i;
    return job;
}

#define BENCH(field, what, units, unit, call)                                                                                              \
    static void run_##field(void *argument)                                                                                                \
    {                                                                                                                                      \
        quads_job *job = argument;                                                                                                         \
        call;                                                                                                                              \
    }                                                                                                                                      \
    void bench_##field(checker *check)                                                                                                     \
    {                                                                                                                                      \
        quads_job job = quads_job_of(check);                                                                                               \
        check_time(check, what, units, unit, run_##field, &job);                                                                           \
    }

BENCH(dense_quads, "a tile, 144 steps", 144.0 * 4 * job.tier->bytes_rows * job.tier->bytes_columns, "multiply-add",
      job->tier->dense_quads((size_t)job->tier->bytes_rows, (size_t)job->tier->bytes_columns, 144, job->weights, job->x, job->offsets,
                             job->floats, job->floats, 255, job->y, 4096))
BENCH(requantize_turned, "13 positions, 384 outputs", 13.0 * 384, "number",
      job->tier->requantize_turned(13, 384, job->sums, 384, 0.01F, job->floats, 255, job->y, 1024))
BENCH(max_quads, "27 of 3x3, stride 2", 27.0 * 4, "output", job->tier->max_quads(job->y, job->x, 220, 3, 27, 3, 2))
BENCH(lrn_quads, "96 channels, 64 positions, size 5", 96.0 * 64, "output",
      job->tier->lrn_quads(job->y, 4096, job->floats, 256, 96, 64, 5, 1e-4F, 1, 1, 255))
BENCH(dequantize_quads, "1024 pixels", 4096, "number", job->tier->dequantize_quads(1024, job->x, 4, 0.5F, job->floats, 1024))
