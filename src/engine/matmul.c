// SPDX-License-Identifier: Apache-2.0
// Matrix product of two run-time values (or of one and a constant), with leading dimensions broadcast as NumPy does.

#include <string.h>

#include "engine/layers.h"

enum { MATMUL_DEPTH_BLOCK = 256 };

typedef struct matmul_job {
    const qcnn_step *step;
    int64_t m, k, n; // a (m, k) x b (k, n) -> (m, n)
    int64_t n_matrices, row_tiles;
    int rank; // leading dimensions of the output, with the strides (in matrices, 0 where broadcast) of both inputs
    int64_t dims[QCNN_MAX_RANK], a_strides[QCNN_MAX_RANK], b_strides[QCNN_MAX_RANK];
} matmul_job;

// Strides of an input's leading dimensions, aligned at the right with the output's `rank` ones.
static void lead_strides(const qcnn_shape *shape, int rank, int64_t *strides)
{
    const int lead = shape->rank - 2;
    int64_t step = 1;
    for (int i = rank - 1; i >= 0; i--) {
        const int from = i - (rank - lead);
        const int64_t dim = from < 0 ? 1 : shape->dims[from];
        strides[i] = dim == 1 ? 0 : step;
        step *= dim;
    }
}

static matmul_job matmul_measure(const qcnn_step *step)
{
    const qcnn_shape *a = &step->inputs[0].shape, *b = &step->inputs[1].shape;
    matmul_job job = { .step = step, .n_matrices = 1 };
    job.m = a->rank == 1 ? 1 : a->dims[a->rank - 2];
    job.k = a->dims[a->rank - 1];
    job.n = b->rank == 1 ? 1 : b->dims[b->rank - 1];
    job.row_tiles = (job.m + step->kernels->gemm_rows - 1) / step->kernels->gemm_rows;
    job.rank = step->output_shape.rank - (a->rank > 1) - (b->rank > 1);
    for (int i = 0; i < job.rank; i++) {
        job.dims[i] = step->output_shape.dims[i];
        job.n_matrices *= job.dims[i];
    }
    lead_strides(a, job.rank, job.a_strides);
    lead_strides(b, job.rank, job.b_strides);
    return job;
}

static void matmul_plan(qcnn_step *step)
{
    step->worker_bytes = (size_t)step->kernels->gemm_columns * MATMUL_DEPTH_BLOCK * sizeof(float);
}

// c (rows, n) = a (rows, k) x b (k, n).
static void multiply_rows(const matmul_job *job, int rows, const float *a, const float *b, float *c, float *panel)
{
    static const float zeros[QCNN_GEMM_MAX_ROWS];
    const qcnn_kernels *kernels = job->step->kernels;
    const int64_t width = kernels->gemm_columns, tail = job->n % width, whole = job->n - tail;
    const size_t k_stride = (size_t)job->k, n_stride = (size_t)job->n;
    for (int64_t k = 0; k < job->k; k += MATMUL_DEPTH_BLOCK) {
        const size_t depth = (size_t)(job->k - k < MATMUL_DEPTH_BLOCK ? job->k - k : MATMUL_DEPTH_BLOCK);
        const float *block = b + k * job->n, *start = k == 0 ? zeros : NULL;
        for (int64_t j = 0; j < whole; j += width)
            kernels->gemm(rows, (int)width, depth, a + k, k_stride, block + j, n_stride, c + j, n_stride, start);
        if (!tail)
            continue;
        memset(panel, 0, depth * (size_t)width * sizeof *panel);
        for (size_t i = 0; i < depth; i++) // the last columns, since the kernel reads whole panels
            memcpy(panel + i * (size_t)width, block + i * n_stride + whole, (size_t)tail * sizeof *panel);
        kernels->gemm(rows, (int)tail, depth, a + k, k_stride, panel, (size_t)width, c + whole, n_stride, start);
    }
}

static void run_matmul_tiles(void *argument, int64_t begin, int64_t end, int worker)
{
    const matmul_job *job = argument;
    const qcnn_step *step = job->step;
    const int64_t tile_rows = step->kernels->gemm_rows;
    for (int64_t i = begin; i < end; i++) {
        const int64_t matrix = i / job->row_tiles, row = i % job->row_tiles * tile_rows;
        int64_t a = 0, b = 0, rest = matrix;
        for (int d = job->rank - 1; d >= 0; rest /= job->dims[d], d--) {
            a += rest % job->dims[d] * job->a_strides[d];
            b += rest % job->dims[d] * job->b_strides[d];
        }
        multiply_rows(job, (int)(job->m - row < tile_rows ? job->m - row : tile_rows), step->inputs[0].data + (a * job->m + row) * job->k,
                      step->inputs[1].data + b * job->k * job->n, step->output + (matrix * job->m + row) * job->n,
                      (float *)(void *)(step->worker + (size_t)worker * step->worker_bytes));
    }
}

static void matmul_run(const qcnn_step *step, const qcnn_parallel *parallel)
{
    matmul_job job = matmul_measure(step);
    qcnn_for_range(parallel, job.n_matrices * job.row_tiles, 1, run_matmul_tiles, &job);
}

const qcnn_layer_type qcnn_layer_matmul = { .plan = matmul_plan, .run = matmul_run };
