// SPDX-License-Identifier: Apache-2.0
// Codewords that serve many taps and outputs, all K C' numbers of a subspace at once by least squares: with everything else as it
// is, the objective is a quadratic form in them. Where output o uses codeword k at the taps P_ok, it is d^T A d - 2 d^T b with
//
//     A_kl += sum over p in P_ok, q in P_ol of G_(p,m)(q,m)        b_k += sum over p in P_ok of h_(p,m),o
//
// h being the response wanted of the subspace, all its other terms taken out. A small ridge pulls towards the present codewords
// and keeps those that nobody uses where they are.

#include <string.h>

#include "compress/blas.h"
#include "compress/fit_state.h"

typedef struct solve_job {
    fit_state *s;
    int set, m, width, n_rows; // n_rows: taps x width
    float *rows;               // [n_rows][n]: the subspace's rows of G
    float *form;               // [n_rows][n_rows]: G between them
    float *points;             // [n_rows][n_outputs]: h
    float *change;             // [n_rows][n_outputs]
    float *a, *b;              // K width squared, K width
} solve_job;

static int block_of(const fit_state *s, int tap, int m)
{
    return tap * s->form->n_subspaces + m;
}

// The subspace's rows of G and what G is between them.
static void gather_rows(const solve_job *job, int g)
{
    const fit_state *s = job->s;
    const size_t n = (size_t)s->n, width = (size_t)job->width;
    for (int tap = 0; tap < s->form->n_taps; tap++) {
        const size_t row = (size_t)s->blocks[block_of(s, tap, job->m)].row;
        memcpy(job->rows + (size_t)tap * width * n, s->problem->gram[g] + row * n, width * n * sizeof(float));
    }
    for (int i = 0; i < job->n_rows; i++)
        for (int tap = 0; tap < s->form->n_taps; tap++)
            memcpy(job->form + (size_t)i * (size_t)job->n_rows + (size_t)tap * width,
                   job->rows + (size_t)i * n + (size_t)s->blocks[block_of(s, tap, job->m)].row, width * sizeof(float));
}

// h = R + G w over the subspace.
static void find_points(const solve_job *job, int g)
{
    const fit_state *s = job->s;
    const size_t ld = (size_t)s->n_outputs, width = (size_t)job->width;
    for (int tap = 0; tap < s->form->n_taps; tap++) {
        const size_t row = (size_t)s->blocks[block_of(s, tap, job->m)].row;
        memcpy(job->points + (size_t)tap * width * ld, s->residual[g] + row * ld, width * ld * sizeof(float));
        memcpy(job->change + (size_t)tap * width * ld, s->weights[g] + row * ld, width * ld * sizeof(float));
    }
    const qcnn_gemm_call call = { .m = job->n_rows,
                                  .n = s->n_outputs,
                                  .k = job->n_rows,
                                  .alpha = 1,
                                  .beta = 1,
                                  .a = job->form,
                                  .lda = (size_t)job->n_rows,
                                  .b = job->change,
                                  .ldb = ld,
                                  .c = job->points,
                                  .ldc = ld };
    qcnn_gemm(&call, s->options->parallel);
}

// Adds what one output wants.
static void add_output(const solve_job *job, int g, int o)
{
    const fit_state *s = job->s;
    const size_t ld = (size_t)s->n_outputs, width = (size_t)job->width, size = (size_t)s->form->n_codewords * width;
    const float weight = s->importance[(size_t)g * s->padded + (size_t)o];
    for (int p = 0; p < s->form->n_taps; p++) {
        const size_t k = s->assigned[g][(size_t)block_of(s, p, job->m) * ld + (size_t)o];
        for (size_t i = 0; i < width; i++)
            job->b[k * width + i] += weight * job->points[((size_t)p * width + i) * ld + (size_t)o];
        for (int q = 0; q < s->form->n_taps; q++) {
            const size_t l = s->assigned[g][(size_t)block_of(s, q, job->m) * ld + (size_t)o];
            if (l < k)
                continue; // A is symmetric: the upper triangle will do
            for (size_t i = 0; i < width; i++)
                for (size_t j = 0; j < width; j++)
                    job->a[(k * width + i) * size + l * width + j] +=
                        weight * job->form[((size_t)p * width + i) * (size_t)job->n_rows + (size_t)q * width + j];
        }
    }
}

// The new codewords; false where A is too near to singular.
static bool solve(const solve_job *job)
{
    static const float ridge = 1e-5f;
    const fit_state *s = job->s;
    const size_t width = (size_t)job->width, n_codewords = (size_t)s->form->n_codewords, size = n_codewords * width;
    float *codebook = fit_codebook(s, job->set, job->m);
    double trace = 0;
    for (size_t i = 0; i < size; i++)
        trace += (double)job->a[i * size + i];
    const float lambda = ridge * (float)(trace / (double)size) + 1e-20f;
    for (size_t i = 0; i < size; i++) {
        job->a[i * size + i] += lambda;
        job->b[i] += lambda * codebook[i / width * (size_t)s->form->subspace + i % width];
    }
    if (!qcnn_cholesky((int)size, job->a, size, s->options->parallel))
        return false;
    qcnn_cholesky_solve((int)size, job->a, size, 1, job->b, 1, NULL);
    for (size_t i = 0; i < size; i++)
        codebook[i / width * (size_t)s->form->subspace + i % width] = job->b[i];
    return true;
}

// Takes the new codewords into weights and residual of group g.
static void apply(const solve_job *job, int g)
{
    const fit_state *s = job->s;
    const size_t ld = (size_t)s->n_outputs, width = (size_t)job->width;
    const float *codebook = fit_codebook(s, job->set, job->m);
    for (int tap = 0; tap < s->form->n_taps; tap++) {
        const int b = block_of(s, tap, job->m);
        const uint8_t *assigned = s->assigned[g] + (size_t)b * ld;
        float *w = s->weights[g] + (size_t)s->blocks[b].row * ld, *change = job->change + (size_t)tap * width * ld;
        for (size_t i = 0; i < width; i++)
            for (size_t o = 0; o < ld; o++) {
                const float value = codebook[assigned[o] * (size_t)s->form->subspace + i];
                change[i * ld + o] = value - w[i * ld + o];
                w[i * ld + o] = value;
            }
    }
    const qcnn_gemm_call call = { .transpose_a = true,
                                  .m = s->n,
                                  .n = s->n_outputs,
                                  .k = job->n_rows,
                                  .alpha = -1,
                                  .beta = 1,
                                  .a = job->rows,
                                  .lda = (size_t)s->n,
                                  .b = job->change,
                                  .ldb = ld,
                                  .c = s->residual[g],
                                  .ldc = ld };
    qcnn_gemm(&call, s->options->parallel);
}

static void solve_subspace(solve_job *job)
{
    const fit_state *s = job->s;
    const size_t size = (size_t)s->form->n_codewords * (size_t)job->width;
    const int n_groups = s->form->groups / s->form->n_sets;
    memset(job->a, 0, size * size * sizeof(float));
    memset(job->b, 0, size * sizeof(float));
    for (int g = job->set * n_groups; g < (job->set + 1) * n_groups; g++) {
        gather_rows(job, g);
        find_points(job, g);
        for (int o = 0; o < s->n_outputs; o++)
            add_output(job, g, o);
    }
    if (!solve(job))
        return;
    for (int g = job->set * n_groups; g < (job->set + 1) * n_groups; g++) {
        gather_rows(job, g);
        apply(job, g);
    }
}

qcnn_status qcnn_fit_solve(fit_state *s, qcnn_error *error)
{
    const size_t n_rows = (size_t)s->form->n_taps * (size_t)s->form->subspace, n_outputs = (size_t)s->n_outputs;
    const size_t size = (size_t)s->form->n_codewords * (size_t)s->form->subspace;
    solve_job job = { .s = s };
    job.rows = qcnn_allocate(n_rows * (size_t)s->n, sizeof(float));
    job.form = qcnn_allocate(n_rows * n_rows, sizeof(float));
    job.points = qcnn_allocate(n_rows * n_outputs, sizeof(float));
    job.change = qcnn_allocate(n_rows * n_outputs, sizeof(float));
    job.a = qcnn_allocate(size * size, sizeof(float));
    job.b = qcnn_allocate(size, sizeof(float));
    const bool have = job.rows && job.form && job.points && job.change && job.a && job.b;
    qcnn_status status = have ? QCNN_OK : qcnn_fail_memory(error, (size * size + n_rows * (size_t)s->n) * sizeof(float));
    for (job.set = 0; status == QCNN_OK && job.set < s->form->n_sets; job.set++)
        for (job.m = 0; status == QCNN_OK && job.m < s->form->n_subspaces; job.m++) {
            job.width = s->blocks[job.m].width;
            job.n_rows = s->form->n_taps * job.width;
            solve_subspace(&job);
            const double done = job.set * s->form->n_subspaces + job.m + 1, all = s->form->n_sets * s->form->n_subspaces;
            status = qcnn_fit_report(s, done / all, error);
        }
    qcnn_release(job.rows);
    qcnn_release(job.form);
    qcnn_release(job.points);
    qcnn_release(job.change);
    qcnn_release(job.a);
    qcnn_release(job.b);
    return status;
}
