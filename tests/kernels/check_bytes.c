// SPDX-License-Identifier: Apache-2.0
// Checks of the integer kernels: every tier gives the bits of the C tier, the last rounding to float included.

#include <math.h>
#include <string.h>

#include "check.h"

enum { MAX_STEPS = QCNN_LUT_MAX_STEPS };

static const size_t widths[] = { 16, 32, 64, 128, 256 };

// Signed bytes in -127..127.
static int8_t *signed_bytes(checker *check, int slot, size_t n)
{
    int8_t *bytes = (int8_t *)check_bytes(check, slot, n, 255);
    for (size_t i = 0; i < n; i++)
        bytes[i] = (int8_t)((uint8_t)bytes[i] - 127);
    return bytes;
}

static int32_t *integers(checker *check, int slot, size_t n, int size)
{
    int32_t *numbers = check_place(check, slot, n * sizeof *numbers);
    for (size_t i = 0; i < n; i++)
        numbers[i] = check_below(check, 2 * size + 1) - size;
    return numbers;
}

// ---- to integers and back -------------------------------------------------------------------------------------------

void check_range(checker *check)
{
    for (int i = 0; i < 100; i++) {
        const size_t n = (size_t)check_near(check, 64);
        check_shape(check, "%zu numbers", n);
        float *x = check_floats(check, 0, n), expected[2] = { 0.5F, -0.5F }, got[2] = { 0.5F, -0.5F };
        x[check_below(check, (int)n)] = NAN;
        check->c->range(x, n, &expected[0], &expected[1]);
        check->tier->range(x, n, &got[0], &got[1]);
        check_same(check, expected, got, sizeof got);
    }
}

void check_quantize_quads(checker *check)
{
    for (int i = 0; i < 200; i++) {
        const size_t n = (size_t)check_near(check, 16), stride = n + (size_t)check_below(check, 3);
        const int channels = 1 + check_below(check, 4), limit = i % 2 ? 255 : 127, zero = check_below(check, limit + 1);
        const float scale = i % 3 ? 100.0F : 300.0F;
        check_shape(check, "%zu pixels, %d channels, scale %g, zero %d, limit %d", n, channels, (double)scale, zero, limit);
        float *x = check_floats(check, 0, (size_t)(channels - 1) * stride + n);
        for (size_t j = 0; j < n; j += 3)
            x[j] = (float)((int)(x[j] * 200) * 2 + 1) / 2 / scale; // halves: to even
        x[check_below(check, (int)n)] = i % 5 ? INFINITY : NAN;
        uint8_t *expected = check_place(check, 1, 4 * n), *got = check_place(check, 2, 4 * n);
        check->c->quantize_quads(n, x, stride, channels, scale, zero, limit, expected);
        check->tier->quantize_quads(n, x, stride, channels, scale, zero, limit, got);
        check_same(check, expected, got, 4 * n);
    }
}

void check_quantize_bytes(checker *check)
{
    for (int i = 0; i < 100; i++) {
        const size_t n = (size_t)check_near(check, 16);
        const int limit = i % 2 ? 255 : 127, zero = check_below(check, limit + 1);
        check_shape(check, "%zu numbers, zero %d, limit %d", n, zero, limit);
        float *x = check_floats(check, 0, n);
        x[check_below(check, (int)n)] = i % 2 ? INFINITY : NAN;
        uint8_t *expected = check_place(check, 1, n), *got = check_place(check, 2, n);
        check->c->quantize_bytes(n, x, 200, zero, limit, expected);
        check->tier->quantize_bytes(n, x, 200, zero, limit, got);
        check_same(check, expected, got, n);
    }
}

void check_quantize_words(checker *check)
{
    for (int i = 0; i < 100; i++) {
        const size_t n = (size_t)check_near(check, 16);
        check_shape(check, "%zu numbers", n);
        float *x = check_floats(check, 0, n);
        x[check_below(check, (int)n)] = i % 2 ? -INFINITY : NAN;
        int16_t *expected = check_place(check, 1, 2 * n), *got = check_place(check, 2, 2 * n);
        check->c->quantize_words(n, x, 3000, 2500, expected);
        check->tier->quantize_words(n, x, 3000, 2500, got);
        check_same(check, expected, got, 2 * n);
    }
}

void check_dequantize(checker *check)
{
    for (int i = 0; i < 100; i++) {
        const size_t n = (size_t)check_near(check, 16);
        check_shape(check, "%zu numbers", n);
        const int32_t *sums = integers(check, 0, n, 1 << 26);
        float *expected = check_place(check, 1, 4 * n), *got = check_place(check, 2, 4 * n);
        check->c->dequantize(n, sums, 0.37F, -1.3F, i % 2 ? 0 : -INFINITY, expected);
        check->tier->dequantize(n, sums, 0.37F, -1.3F, i % 2 ? 0 : -INFINITY, got);
        check_same(check, expected, got, 4 * n);
    }
}

void check_dequantize_turned(checker *check)
{
    for (int i = 0; i < 100; i++) {
        const size_t positions = (size_t)check_near(check, 16), outputs = (size_t)check_near(check, 16);
        const size_t stride = outputs + (size_t)check_below(check, 3), y_stride = positions + (size_t)check_below(check, 3);
        check_shape(check, "%zu positions, %zu outputs", positions, outputs);
        const int32_t *sums = integers(check, 0, (positions - 1) * stride + outputs, 1 << 26);
        const float *starts = check_floats(check, 1, outputs), low = i % 2 ? 0 : -INFINITY;
        float *expected = check_floats(check, 2, (outputs - 1) * y_stride + positions);
        float *got = check_copy(check, 3, expected, ((outputs - 1) * y_stride + positions) * sizeof *got);
        check->c->dequantize_turned(positions, outputs, sums, stride, 0.37F, starts, low, expected, y_stride);
        check->tier->dequantize_turned(positions, outputs, sums, stride, 0.37F, starts, low, got, y_stride);
        check_same(check, expected, got, ((outputs - 1) * y_stride + positions) * sizeof *got);
    }
}

// ---- tables ---------------------------------------------------------------------------------------------------------

static void check_tables(checker *check, bool peaks)
{
    for (int i = 0; i < 200; i++) {
        const size_t positions = (size_t)check_near(check, 4), width = widths[check_below(check, 5)], n = 1 + (size_t)check_below(check, 6);
        const int quads = 1 + check_below(check, 5), zero = i % 3 ? 0 : check_below(check, 256);
        const size_t stride = 4 * positions + (size_t)check_below(check, 9), n_quads = n * (size_t)quads;
        check_shape(check, "%zu positions, %zu subspaces, %d quads, width %zu", positions, n, quads, width);
        const uint8_t *x = check_bytes(check, 0, (n_quads - 1) * stride + 4 * positions, 256);
        const int8_t *codewords = signed_bytes(check, 1, n_quads * width * 4);
        int32_t *codeword_sums = check_place(check, 2, n * width * sizeof *codeword_sums);
        memset(codeword_sums, 0, n * width * sizeof *codeword_sums);
        for (size_t q = 0; q < n_quads; q++)
            for (size_t k = 0; k < 4 * width; k++)
                codeword_sums[q / (size_t)quads * width + k / 4] += codewords[q * 4 * width + k];
        uint32_t *rows = check_place(check, 3, n * sizeof *rows);
        int16_t *factors = check_place(check, 4, n * sizeof *factors);
        uint8_t *shifts = check_bytes(check, 7, n, 8);
        for (size_t r = 0; r < n; r++) {
            rows[r] = (uint32_t)check_below(check, (int)n);
            factors[r] = (int16_t)check_below(check, 32768);
        }
        const uint32_t *chosen = i % 2 ? rows : NULL;
        const size_t bytes = peaks ? n * sizeof(int32_t) : n * positions * width;
        void *expected = integers(check, 5, bytes / 4, 1000), *got = check_copy(check, 6, expected, bytes);
        if (peaks) {
            check->c->table_peaks(positions, n, chosen, quads, x, stride, codewords, codeword_sums, zero, width, expected);
            check->tier->table_peaks(positions, n, chosen, quads, x, stride, codewords, codeword_sums, zero, width, got);
        } else {
            check->c->table_bytes(positions, n, chosen, quads, x, stride, codewords, codeword_sums, zero, width, shifts, factors, expected);
            check->tier->table_bytes(positions, n, chosen, quads, x, stride, codewords, codeword_sums, zero, width, shifts, factors, got);
        }
        check_same(check, expected, got, bytes);
    }
}

void check_quad_norms(checker *check)
{
    for (int i = 0; i < 100; i++) {
        const size_t positions = (size_t)check_near(check, 16), stride = 4 * positions + (size_t)check_below(check, 9);
        const int quads = 1 + check_below(check, 5), zero = i % 2 ? check_below(check, 256) : 0;
        check_shape(check, "%zu positions, %d quads, zero %d", positions, quads, zero);
        const uint8_t *x = check_bytes(check, 0, (size_t)(quads - 1) * stride + 4 * positions, 256);
        int32_t *expected = check_place(check, 1, positions * sizeof *expected), *got = check_place(check, 2, positions * sizeof *got);
        check->c->quad_norms(positions, quads, x, stride, zero, expected);
        check->tier->quad_norms(positions, quads, x, stride, zero, got);
        check_same(check, expected, got, positions * sizeof *got);
    }
}

void check_table_peaks(checker *check)
{
    check_tables(check, true);
}

void check_table_bytes(checker *check)
{
    check_tables(check, false);
}

// ---- sums -----------------------------------------------------------------------------------------------------------

void check_lut_conv_bytes(checker *check)
{
    for (int i = 0; i < 200; i++) {
        const size_t width = widths[2 + check_below(check, 3)], outputs = (size_t)check_near(check, i % 2 ? 64 : 384),
                     positions = (size_t)check_near(check, 2);
        const size_t n_steps = i % 20 ? (size_t)(1 + check_below(check, 40)) : MAX_STEPS,
                     sum_stride = outputs + (size_t)check_below(check, 3);
        const int shift = check_below(check, 8);
        check_shape(check, "%zu outputs, %zu positions, %zu steps, width %zu", outputs, positions, n_steps, width);
        qcnn_lut_step *steps = check_place(check, 0, n_steps * sizeof *steps);
        const size_t n_tables = 20, table_bytes = (n_tables + positions - 1) * width;
        for (size_t s = 0; s < n_steps; s++)
            steps[s] = (qcnn_lut_step){ (uint32_t)(check_below(check, (int)n_tables) * (int)width),
                                        (uint32_t)(check_below(check, 10) * (int)outputs) };
        uint8_t *tables = check_bytes(check, 1, table_bytes, 256);
        if (n_steps == MAX_STEPS)
            memset(tables, 255, table_bytes); // the bound
        const uint8_t *codes = check_bytes(check, 2, 10 * outputs, i % 3 ? (int)width : 1 + check_below(check, (int)width));
        int32_t *expected = integers(check, 3, (positions - 1) * sum_stride + outputs, 1000);
        int32_t *got = check_copy(check, 4, expected, ((positions - 1) * sum_stride + outputs) * sizeof *got);
        check->c->lut_conv_bytes(outputs, positions, n_steps, steps, tables, width, width, codes, shift, expected, sum_stride);
        check->tier->lut_conv_bytes(outputs, positions, n_steps, steps, tables, width, width, codes, shift, got, sum_stride);
        check_same(check, expected, got, ((positions - 1) * sum_stride + outputs) * sizeof *got);
    }
}

void check_lut_fc_bytes(checker *check)
{
    for (int i = 0; i < 200; i++) {
        const size_t width = widths[check_below(check, 5)], outputs = (size_t)check_near(check, i % 2 ? 64 : 256);
        const size_t n_rows = i % 20 ? (size_t)check_below(check, 40) : 1000, stride = outputs + (size_t)check_below(check, 3);
        check_shape(check, "%zu outputs, %zu rows, width %zu", outputs, n_rows, width);
        uint32_t *rows = check_place(check, 0, n_rows * sizeof *rows);
        for (size_t r = 0; r < n_rows; r++)
            rows[r] = (uint32_t)check_below(check, 50);
        const uint8_t *codes = check_bytes(check, 1, 49 * stride + outputs, i % 3 ? (int)width : 1 + check_below(check, (int)width));
        uint8_t *tables = check_bytes(check, 2, n_rows * width, 256);
        if (n_rows == 1000)
            memset(tables, 255, n_rows * width);
        int32_t *expected = integers(check, 3, outputs, 1000), *got = check_copy(check, 4, expected, outputs * sizeof *got);
        check->c->lut_fc_bytes(outputs, n_rows, rows, codes, stride, tables, width, expected);
        check->tier->lut_fc_bytes(outputs, n_rows, rows, codes, stride, tables, width, got);
        check_same(check, expected, got, outputs * sizeof *got);
    }
}

void check_lut_sum_words(checker *check)
{
    for (int i = 0; i < 200; i++) {
        const size_t outputs = (size_t)check_near(check, 4), taps = (size_t)(1 + check_below(check, 40));
        const size_t lanes = (size_t)(1 + check_below(check, 5)) * QCNN_LUT_COLUMNS, stride = lanes + (size_t)check_below(check, 3);
        const int k = 1 + check_below(check, 40);
        check_shape(check, "%zu outputs, %zu taps, %zu lanes, %d codewords", outputs, taps, lanes, k);
        const uint8_t *assignments = check_bytes(check, 0, taps * outputs, k);
        const size_t n = ((size_t)k - 1) * stride + lanes + taps - 1;
        int16_t *entries = check_place(check, 1, n * sizeof *entries);
        const int size = 32767 / (int)taps;
        for (size_t j = 0; j < n; j++)
            entries[j] = (int16_t)(i % 4 ? check_below(check, 2 * size + 1) - size : size);
        const int16_t **tables = check_place(check, 2, taps * sizeof *tables);
        for (size_t t = 0; t < taps; t++)
            tables[t] = entries + t;
        int32_t *expected = integers(check, 3, outputs * lanes, 100000);
        int32_t *got = check_copy(check, 4, expected, outputs * lanes * sizeof *got);
        check->c->lut_sum_words(outputs, taps, assignments, tables, stride, expected, lanes);
        check->tier->lut_sum_words(outputs, taps, assignments, tables, stride, got, lanes);
        check_same(check, expected, got, outputs * lanes * sizeof *got);
    }
}

// ---- dense ----------------------------------------------------------------------------------------------------------

// The C tier's tile is another one: the expected values come from the definition.
void check_dense_bytes(checker *check)
{
    const qcnn_kernels *tier = check->tier;
    for (int i = 0; i < 200; i++) {
        const size_t rows = 1 + (size_t)check_below(check, tier->bytes_rows), columns = 1 + (size_t)check_below(check, tier->bytes_columns);
        const size_t steps = (size_t)(1 + check_below(check, 60)), room = (columns + 15) / 16 * 64, tile = (size_t)tier->bytes_rows * 4;
        check_shape(check, "%zu rows, %zu columns, %zu steps", rows, columns, steps);
        const int8_t *weights = signed_bytes(check, 0, steps * tile);
        uint8_t *x = check_bytes(check, 1, 100 + room, tier->bytes_limit + 1);
        if (i % 10 == 0)
            memset(x, tier->bytes_limit, 100 + room);
        uint32_t *offsets = check_place(check, 2, steps * sizeof *offsets);
        for (size_t s = 0; s < steps; s++)
            offsets[s] = (uint32_t)check_below(check, 101);
        const float *scales = check_floats(check, 3, rows), *starts = check_floats(check, 4, rows), low = i % 2 ? 0 : -INFINITY;
        const size_t stride = columns + (size_t)check_below(check, 3), n = (rows - 1) * stride + columns;
        float *expected = check_floats(check, 5, n), *got = check_copy(check, 6, expected, n * sizeof *got);
        for (size_t r = 0; r < rows; r++)
            for (size_t j = 0; j < columns; j++) {
                int32_t sum = 0;
                for (size_t s = 0; s < steps; s++)
                    for (size_t k = 0; k < 4; k++)
                        sum += weights[s * tile + 4 * r + k] * x[offsets[s] + 4 * j + k];
                check->c->dequantize(1, &sum, scales[r], starts[r], low, &expected[r * stride + j]);
            }
        tier->dense_bytes(rows, columns, steps, weights, x, offsets, scales, starts, low, got, stride);
        check_same(check, expected, got, n * sizeof *got);
    }
}
