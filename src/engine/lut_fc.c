// SPDX-License-Identifier: Apache-2.0
// Fully-connected layer from codebooks (Wu et al., CVPR 2016, section 3.1): table[m][k] = <codeword k of subspace m, the
// inputs of subspace m>, built once; each output is its bias plus one entry of every subspace's table.
//
// A batch runs in passes of up to QCNN_LUT_COLUMNS rows that lie in the vector lanes, table[m][k][row]; a single row needs
// no lanes. Sums run over the subspaces in order in both cases: a row's result does not depend on its company.

#include "engine/layers.h"

enum { TABLES_PER_TASK = 64, OUTPUTS_PER_TASK = 256 };

typedef struct lut_fc_job {
    const qcnn_step *step;
    const qcnn_codebook *book;
    size_t n_rows, lanes; // of this pass
    size_t first_row;
    size_t columns;      // of `inputs`: the lanes, and never fewer than the GEMM kernel reads
    const float *inputs; // one row: [n_inputs]; more: [n_inputs][columns], the pass's rows as columns, zeros behind them
    float *tables;       // [n_subspaces][n_codewords][lanes]
} lut_fc_job;

static const float fc_zeros[QCNN_GEMM_MAX_ROWS];

static size_t lut_fc_rows(const qcnn_step *step)
{
    return (size_t)(qcnn_shape_elements(&step->inputs[0].shape) / (uint64_t)step->inputs[0].shape.dims[step->inputs[0].shape.rank - 1]);
}

// Room for the codewords of a subspace in the lanes, whole vectors.
static size_t turned_stride(const qcnn_codebook *book, const qcnn_kernels *kernels)
{
    const size_t columns = (size_t)kernels->gemm_columns;
    return ((size_t)book->n_codewords + columns - 1) / columns * columns;
}

static lut_fc_job lut_fc_measure(const qcnn_step *step)
{
    lut_fc_job job = { .step = step, .book = &qcnn_node_weights(step->model, step->node)->codebook };
    job.lanes = lut_fc_rows(step) > 1 ? QCNN_LUT_COLUMNS : 1;
    job.columns = (size_t)step->kernels->gemm_columns > job.lanes ? (size_t)step->kernels->gemm_columns : job.lanes;
    return job;
}

static void lut_fc_plan(qcnn_step *step)
{
    const lut_fc_job job = lut_fc_measure(step);
    const qcnn_codebook *book = job.book;
    const size_t input_bytes = job.lanes > 1 ? qcnn_plan_bytes((uint64_t)book->n_inputs, job.columns, sizeof(float)) : 0;
    const size_t table_bytes = qcnn_plan_bytes((uint64_t)book->n_subspaces, (uint64_t)book->n_codewords * job.lanes, sizeof(float));
    step->shared_bytes = input_bytes < SIZE_MAX - table_bytes ? input_bytes + table_bytes : SIZE_MAX;
    const size_t turned_bytes = qcnn_plan_bytes((uint64_t)book->subspace, turned_stride(book, step->kernels), sizeof(float));
    const size_t sum_bytes = OUTPUTS_PER_TASK * job.lanes * sizeof(float);
    step->worker_bytes = turned_bytes > sum_bytes ? turned_bytes : sum_bytes;
}

// One row: the codewords of a subspace, turned so that they lie in the lanes. Each entry is summed in the same order as in
// tables of many rows: the results are equal to the bit.
static void build_row_table(const lut_fc_job *job, int m, int width, float *turned)
{
    const qcnn_codebook *book = job->book;
    const qcnn_kernels *kernels = job->step->kernels;
    const size_t n_codewords = (size_t)book->n_codewords, stride = turned_stride(book, kernels);
    const float *codewords = book->codewords + (size_t)m * n_codewords * (size_t)book->subspace;
    for (size_t k = 0; k < n_codewords; k++)
        for (int i = 0; i < width; i++)
            turned[(size_t)i * stride + k] = codewords[k * (size_t)book->subspace + (size_t)i];
    for (size_t k = 0; k < n_codewords; k += (size_t)kernels->gemm_columns) {
        const size_t left = n_codewords - k, n = left < (size_t)kernels->gemm_columns ? left : (size_t)kernels->gemm_columns;
        kernels->gemm(1, (int)n, (size_t)width, job->inputs + m * book->subspace, (size_t)width, turned + k, stride,
                      job->tables + (size_t)m * n_codewords + k, n, fc_zeros);
    }
}

// Many rows: they lie in the lanes.
static void build_batch_table(const lut_fc_job *job, int m, int width)
{
    const qcnn_codebook *book = job->book;
    const qcnn_kernels *kernels = job->step->kernels;
    const size_t subspace = (size_t)book->subspace, n_codewords = (size_t)book->n_codewords;
    for (int k = 0; k < book->n_codewords; k += kernels->gemm_rows) {
        const int rows = book->n_codewords - k < kernels->gemm_rows ? book->n_codewords - k : kernels->gemm_rows;
        const size_t first = (size_t)m * n_codewords + (size_t)k;
        for (size_t lane = 0; lane < job->lanes; lane += (size_t)kernels->gemm_columns) {
            const size_t left = job->lanes - lane, n = left < (size_t)kernels->gemm_columns ? left : (size_t)kernels->gemm_columns;
            kernels->gemm(rows, (int)n, (size_t)width, book->codewords + first * subspace, subspace,
                          job->inputs + (size_t)m * subspace * job->columns + lane, job->columns, job->tables + first * job->lanes + lane,
                          job->lanes, fc_zeros);
        }
    }
}

static void build_fc_tables(void *argument, int index, int worker)
{
    const lut_fc_job *job = argument;
    const qcnn_codebook *book = job->book;
    const int end = (index + 1) * TABLES_PER_TASK < book->n_subspaces ? (index + 1) * TABLES_PER_TASK : book->n_subspaces;
    for (int m = index * TABLES_PER_TASK; m < end; m++) {
        const int left = book->n_inputs - m * book->subspace, width = left < book->subspace ? left : book->subspace;
        if (job->lanes == 1)
            build_row_table(job, m, width, (float *)(void *)(job->step->worker + (size_t)worker * job->step->worker_bytes));
        else
            build_batch_table(job, m, width);
    }
}

static void sum_fc_outputs(void *argument, int index, int worker)
{
    const lut_fc_job *job = argument;
    const qcnn_step *step = job->step;
    const qcnn_codebook *book = job->book;
    const size_t n_outputs = (size_t)book->n_outputs, first = (size_t)index * OUTPUTS_PER_TASK, lanes = job->lanes;
    const size_t n = n_outputs - first < OUTPUTS_PER_TASK ? n_outputs - first : OUTPUTS_PER_TASK;
    const size_t table_floats = (size_t)book->n_codewords * lanes;
    const float *bias = step->node->n_inputs > 2 ? step->inputs[2].data : NULL;
    float *sums = (float *)(void *)(step->worker + (size_t)worker * step->worker_bytes); // [n][lanes]
    for (size_t o = 0; o < n; o++)
        for (size_t lane = 0; lane < lanes; lane++)
            sums[o * lanes + lane] = bias ? bias[first + o] : 0;
    const uint8_t *assignments = book->assignments + first;
    if (lanes == 1)
        step->kernels->lut_sum(n, (size_t)book->n_subspaces, assignments, n_outputs, job->tables, (size_t)book->n_codewords, sums);
    else
        for (int m = 0; m < book->n_subspaces; m++) {
            const float *table = job->tables + (size_t)m * table_floats;
            step->kernels->lut_sum_columns(n, 1, assignments + (size_t)m * n_outputs, &table, lanes, sums, lanes);
        }
    for (size_t row = 0; row < job->n_rows; row++) {
        float *output = step->output + (job->first_row + row) * n_outputs + first;
        for (size_t o = 0; o < n; o++)
            output[o] = sums[o * lanes + row];
        step->kernels->activate(&step->node->attributes.activation, output, output, n);
    }
}

// Columns of the pass's rows, for the GEMM that builds their tables.
static void turn_rows(const lut_fc_job *job, float *turned)
{
    const size_t n_inputs = (size_t)job->book->n_inputs;
    const float *rows = job->step->inputs[0].data + job->first_row * n_inputs;
    for (size_t i = 0; i < n_inputs; i++)
        for (size_t column = 0; column < job->columns; column++)
            turned[i * job->columns + column] = column < job->n_rows ? rows[column * n_inputs + i] : 0;
}

static void lut_fc_run(const qcnn_step *step, const qcnn_parallel *parallel)
{
    lut_fc_job job = lut_fc_measure(step);
    const size_t n_rows = lut_fc_rows(step);
    float *turned = (float *)(void *)step->shared;
    job.inputs = job.lanes == 1 ? step->inputs[0].data : turned;
    job.tables = job.lanes == 1 ? turned : turned + (size_t)job.book->n_inputs * job.columns;
    for (job.first_row = 0; job.first_row < n_rows; job.first_row += job.lanes) {
        job.n_rows = n_rows - job.first_row < job.lanes ? n_rows - job.first_row : job.lanes;
        if (job.lanes > 1)
            turn_rows(&job, turned);
        qcnn_for(parallel, (job.book->n_subspaces + TABLES_PER_TASK - 1) / TABLES_PER_TASK, build_fc_tables, &job);
        qcnn_for(parallel, (job.book->n_outputs + OUTPUTS_PER_TASK - 1) / OUTPUTS_PER_TASK, sum_fc_outputs, &job);
    }
}

const qcnn_layer_type qcnn_layer_fc_lut = { .plan = lut_fc_plan, .run = lut_fc_run };
