// SPDX-License-Identifier: Apache-2.0
// Fully-connected layer from codebooks (Wu et al., CVPR 2016, section 3.1): table[m][k] = <codeword k of subspace m, the
// inputs of subspace m>, built once; each output is its bias plus one entry of every subspace's table.
//
// A batch runs in passes of up to QCNN_LUT_COLUMNS rows that lie in the vector lanes, table[m][k][row]; a single row needs
// no lanes. Sums run over the subspaces in order in both cases: a row's result does not depend on its company.

#include "engine/engine.h"

enum { TABLES_PER_TASK = 64, OUTPUTS_PER_TASK = 256 };

typedef struct lut_fc_job {
    const qcnn_step *step;
    const qcnn_codebook *book;
    size_t n_rows, lanes; // of this pass
    size_t first_row;
    size_t columns; // of `inputs`: the lanes, and never fewer than the GEMM kernel reads
    float *inputs;  // [n_inputs][columns]: the pass's rows as columns, zeros behind them
    float *tables; // [n_subspaces][n_codewords][lanes]
} lut_fc_job;

static size_t lut_fc_rows(const qcnn_step *step)
{
    return (size_t)(qcnn_shape_elements(&step->inputs[0].shape) / (uint64_t)step->inputs[0].shape.dims[step->inputs[0].shape.rank - 1]);
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
    step->shared_bytes = ((size_t)book->n_inputs * job.columns + (size_t)book->n_subspaces * (size_t)book->n_codewords * job.lanes) * sizeof(float);
    step->worker_bytes = OUTPUTS_PER_TASK * job.lanes * sizeof(float);
}

static void build_fc_tables(void *argument, int index, int worker)
{
    (void)worker;
    const lut_fc_job *job = argument;
    const qcnn_codebook *book = job->book;
    const qcnn_kernels *kernels = job->step->kernels;
    const size_t columns = (size_t)kernels->gemm_columns, subspace = (size_t)book->subspace, n_codewords = (size_t)book->n_codewords;
    static const float zeros[QCNN_GEMM_MAX_ROWS];
    const int end = (index + 1) * TABLES_PER_TASK < book->n_subspaces ? (index + 1) * TABLES_PER_TASK : book->n_subspaces;
    for (int m = index * TABLES_PER_TASK; m < end; m++) {
        const int left = book->n_inputs - m * book->subspace;
        const size_t width = (size_t)(left < book->subspace ? left : book->subspace);
        for (int k = 0; k < book->n_codewords; k += kernels->gemm_rows) {
            const int rows = book->n_codewords - k < kernels->gemm_rows ? book->n_codewords - k : kernels->gemm_rows;
            for (size_t lane = 0; lane < job->lanes; lane += columns) {
                const size_t n = job->lanes - lane < columns ? job->lanes - lane : columns;
                kernels->gemm(rows, (int)n, width, book->codewords + ((size_t)m * n_codewords + (size_t)k) * subspace, subspace,
                              job->inputs + (size_t)m * subspace * job->columns + lane, job->columns,
                              job->tables + ((size_t)m * n_codewords + (size_t)k) * job->lanes + lane, job->lanes, zeros);
            }
        }
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
        step->kernels->lut_sum(n, (size_t)book->n_subspaces, assignments, n_outputs, job->tables, table_floats, sums);
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

static void lut_fc_run(const qcnn_step *step, const qcnn_parallel *parallel)
{
    lut_fc_job job = lut_fc_measure(step);
    const size_t n_inputs = (size_t)job.book->n_inputs, n_rows = lut_fc_rows(step);
    job.inputs = (float *)(void *)step->shared;
    job.tables = job.inputs + n_inputs * job.columns;
    for (job.first_row = 0; job.first_row < n_rows; job.first_row += job.lanes) {
        job.n_rows = n_rows - job.first_row < job.lanes ? n_rows - job.first_row : job.lanes;
        for (size_t i = 0; i < n_inputs; i++)
            for (size_t column = 0; column < job.columns; column++)
                job.inputs[i * job.columns + column] = column < job.n_rows ? step->inputs[0].data[(job.first_row + column) * n_inputs + i] : 0;
        qcnn_for(parallel, (job.book->n_subspaces + TABLES_PER_TASK - 1) / TABLES_PER_TASK, build_fc_tables, &job);
        qcnn_for(parallel, (job.book->n_outputs + OUTPUTS_PER_TASK - 1) / OUTPUTS_PER_TASK, sum_fc_outputs, &job);
    }
}

const qcnn_layer_type qcnn_layer_fc_lut = { lut_fc_plan, lut_fc_run };
