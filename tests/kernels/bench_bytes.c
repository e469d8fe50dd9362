// SPDX-License-Identifier: Apache-2.0
// Times of the integer kernels, at the sizes of AlexNet's layers.

#include <math.h>

#include "check.h"

typedef struct bytes_job {
    const qcnn_kernels *tier;
    float *x, *y;
    uint8_t *bytes, *codes;
    int8_t *weights;
    int32_t *sums;
    uint32_t *rows;
    qcnn_lut_step *steps;
    int16_t *words;
    const int16_t *tables[9];
    size_t width;
} bytes_job;

static bytes_job bytes_job_of(checker *check)
{
    bytes_job job = { .tier = check->tier, .width = 128 };
    job.x = check_floats(check, 0, 16384);
    job.y = check_floats(check, 1, 16384);
    job.bytes = check_bytes(check, 2, 1 << 18, 127);
    job.codes = check_bytes(check, 3, 1 << 18, 16);
    job.weights = (int8_t *)check_bytes(check, 4, 1 << 16, 128);
    job.sums = check_place(check, 5, 16384 * sizeof *job.sums);
    job.rows = check_place(check, 6, 256 * sizeof *job.rows);
    job.steps = check_place(check, 7, 256 * sizeof *job.steps);
    job.words = check_place(check, 8, 1 << 18);
    for (size_t i = 0; i < 16384; i++)
        job.sums[i] = (int32_t)i;
    for (size_t i = 0; i < 1 << 17; i++)
        job.words[i] = (int16_t)(i % 1000);
    for (uint32_t i = 0; i < 256; i++) {
        job.rows[i] = i;
        job.steps[i] = (qcnn_lut_step){ i % 72 * 256, i % 72 * 384 };
    }
    for (size_t t = 0; t < 9; t++)
        job.tables[t] = job.words + t * 128 * 32;
    return job;
}

#define BENCH(field, what, units, unit, call)                                                                                              \
    static void run_##field(void *argument)                                                                                                \
    {                                                                                                                                      \
        bytes_job *job = argument;                                                                                                         \
        call;                                                                                                                              \
    }                                                                                                                                      \
    void bench_##field(checker *check)                                                                                                     \
    {                                                                                                                                      \
        bytes_job job = bytes_job_of(check);                                                                                               \
        check_time(check, what, units, unit, run_##field, &job);                                                                           \
    }

BENCH(range, "4096 numbers", 4096, "number", job->tier->range(job->x, 4096, job->y, job->y + 1))
BENCH(quantize_quads, "1024 pixels", 4096, "number", job->tier->quantize_quads(1024, job->x, 1024, 4, 100, 0, 127, job->bytes))
BENCH(quantize_bytes, "4096 numbers", 4096, "number", job->tier->quantize_bytes(4096, job->x, 100, 0, 127, job->bytes))
BENCH(quantize_words, "4096 numbers", 4096, "number", job->tier->quantize_words(4096, job->x, 100, 127, job->words))
BENCH(dequantize, "4096 numbers", 4096, "number", job->tier->dequantize(4096, job->sums, 0.5F, 1, 0, job->y))
BENCH(dequantize_turned, "13 positions, 384 outputs", 13.0 * 384, "number",
      job->tier->dequantize_turned(13, 384, job->sums, 384, 0.5F, job->x, 0, job->y, 13))
BENCH(quad_norms, "169 pixels, C' 8", 169.0 * 8, "number", job->tier->quad_norms(169, 2, job->bytes, 169 * 4, 0, job->sums))
BENCH(table_peaks, "15 positions, 4 subspaces, C' 8, K 128", 15.0 * 4 * 128 * 8, "multiply-add",
      job->tier->table_peaks(15, 4, NULL, 2, job->bytes, 60, job->weights, job->sums, 0, 128, job->sums))
BENCH(table_bytes, "15 positions, 4 subspaces, C' 8, K 128", 15.0 * 4 * 128 * 8, "multiply-add",
      job->tier->table_bytes(15, 4, NULL, 2, job->bytes, 60, job->weights, job->sums, 0, 128, job->codes, job->words,
                             job->bytes + (1 << 17)))
BENCH(lut_conv_bytes, "384 outputs, 13 positions, 72 steps, K 128", 384.0 * 13 * 72, "lookup",
      job->tier->lut_conv_bytes(384, 13, 72, job->steps, job->bytes, 128, 128, job->codes, 0, job->sums, 384))
BENCH(lut_fc_bytes, "1024 outputs, 200 rows, K 32", 1024.0 * 200, "lookup",
      job->tier->lut_fc_bytes(1024, 200, job->rows, job->codes, 1024, job->bytes, 32, job->sums))
BENCH(lut_sum_words, "64 outputs, 9 taps, 32 lanes", 64.0 * 9 * 32, "lookup",
      job->tier->lut_sum_words(64, 9, job->codes, job->tables, 32, job->sums, 32))
BENCH(dense_bytes, "a tile, 144 steps", 144.0 * 4 * job.tier->bytes_rows * job.tier->bytes_columns, "multiply-add",
      job->tier->dense_bytes((size_t)job->tier->bytes_rows, (size_t)job->tier->bytes_columns, 144, job->weights, job->bytes, job->rows,
                             job->x, job->x, 0, job->y, 64))
