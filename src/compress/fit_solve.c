// SPDX-License-Identifier: Apache-2.0
// Codewords that serve many taps and outputs, all K C' numbers of a subspace at once by least squares: with everything else as it
// is, the objective is a quadratic form in them. Where output o uses codeword k at the taps P_ok, it is d^T A d - 2 d^T b with
//
//     A_kl += sum over p in P_ok, q in P_ol of G_(p,m)(q,m)        b_k += sum over p in P_ok of h_(p,m),o
//
// h being the response wanted of the subspace, all its other terms taken out. A small ridge pulls towards the present codewords
// and keeps those that nobody uses where they are.

#include <string.h>

#include "base/parallel.h"
#include "compress/blas.h"
#include "compress/fit_state.h"

enum { FEW_STEPS = 5, MANY_STEPS = 30, TASK_ROWS = 384 }; // of conjugate gradients; of a task's part of a product

typedef struct solve_job {
    fit_state *s;
    int set, g, m, width, n_rows; // n_rows: taps x width
    float *rows;                  // [n_rows][n]: the subspace's rows of G
    float *form;                  // [n_rows][n_rows]: G between them
    float *points;                // [n_rows][n_outputs]: h
    float *change;                // [n_rows][n_outputs]: old less new weights
    float *a, *b, *vectors;       // K width squared, K width, 5 K width
} solve_job;

static int block_of(const fit_state *s, int tap, int m)
{
    return tap * s->form->n_subspaces + m;
}

// The subspace's rows of G and what G is between them.
static void gather_rows(const solve_job *job)
{
    const fit_state *s = job->s;
    const size_t n = (size_t)s->n, width = (size_t)job->width;
    for (int tap = 0; tap < s->form->n_taps; tap++) {
        const size_t row = (size_t)s->blocks[block_of(s, tap, job->m)].row;
        memcpy(job->rows + (size_t)tap * width * n, s->problem->gram[job->g] + row * n, width * n * sizeof(float));
    }
    for (int i = 0; i < job->n_rows; i++)
        for (int tap = 0; tap < s->form->n_taps; tap++)
            memcpy(job->form + (size_t)i * (size_t)job->n_rows + (size_t)tap * width,
                   job->rows + (size_t)i * n + (size_t)s->blocks[block_of(s, tap, job->m)].row, width * sizeof(float));
}

// h = R + G w over the subspace.
static void find_points(const solve_job *job)
{
    const fit_state *s = job->s;
    const size_t ld = (size_t)s->n_outputs, width = (size_t)job->width;
    for (int tap = 0; tap < s->form->n_taps; tap++) {
        const size_t row = (size_t)s->blocks[block_of(s, tap, job->m)].row;
        memcpy(job->points + (size_t)tap * width * ld, s->residual[job->g] + row * ld, width * ld * sizeof(float));
        memcpy(job->change + (size_t)tap * width * ld, s->weights[job->g] + row * ld, width * ld * sizeof(float));
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
static void add_output(const solve_job *job, int o)
{
    const fit_state *s = job->s;
    const size_t ld = (size_t)s->n_outputs, width = (size_t)job->width, size = (size_t)s->form->n_codewords * width;
    const float weight = s->importance[(size_t)job->g * s->padded + (size_t)o];
    for (int p = 0; p < s->form->n_taps; p++) {
        const size_t k = s->assigned[job->g][(size_t)block_of(s, p, job->m) * ld + (size_t)o];
        for (size_t i = 0; i < width; i++)
            job->b[k * width + i] += weight * job->points[((size_t)p * width + i) * ld + (size_t)o];
        for (int q = 0; q < s->form->n_taps; q++) {
            const size_t l = s->assigned[job->g][(size_t)block_of(s, q, job->m) * ld + (size_t)o];
            if (l < k)
                continue; // A is symmetric: the upper triangle will do
            for (size_t i = 0; i < width; i++)
                for (size_t j = 0; j < width; j++)
                    job->a[(k * width + i) * size + l * width + j] +=
                        weight * job->form[((size_t)p * width + i) * (size_t)job->n_rows + (size_t)q * width + j];
        }
    }
}

static double dot(const float *x, const float *y, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * y[i];
    return sum;
}

// Minimises x^T A x - 2 x^T b by conjugate gradients from x on, scaled by the diagonal. No step raises it, so any number of them will do.
// Of `vectors` n each are needed for the residual, the same scaled, the direction and its product.
static void minimise(const float *a, const float *b, float *x, size_t n, int most_steps, float *vectors)
{
    static const double tolerance = 1e-3;
    float *residual = vectors, *scaled = vectors + n, *direction = vectors + 2 * n, *product = vectors + 3 * n;
    qcnn_symmetric_product((int)n, a, n, x, product);
    for (size_t i = 0; i < n; i++) {
        residual[i] = b[i] - product[i];
        direction[i] = scaled[i] = residual[i] / a[i * n + i];
    }
    double error = dot(residual, scaled, n);
    const double enough = tolerance * tolerance * error;
    for (int step = 0; step < most_steps && error > enough; step++) {
        qcnn_symmetric_product((int)n, a, n, direction, product);
        const double curvature = dot(direction, product, n), before = error;
        if (!(curvature > 0))
            return;
        const float length = (float)(error / curvature);
        for (size_t i = 0; i < n; i++) {
            x[i] += length * direction[i];
            residual[i] -= length * product[i];
            scaled[i] = residual[i] / a[i * n + i];
        }
        error = dot(residual, scaled, n);
        for (size_t i = 0; i < n; i++)
            direction[i] = scaled[i] + (float)(error / before) * direction[i];
    }
}

static void solve(const solve_job *job)
{
    static const float ridge = 1e-5f;
    const fit_state *s = job->s;
    const size_t width = (size_t)job->width, size = (size_t)s->form->n_codewords * width;
    float *codebook = fit_codebook(s, job->set, job->m), *x = job->vectors;
    double trace = 0;
    for (size_t i = 0; i < size; i++)
        trace += (double)job->a[i * size + i];
    const float lambda = ridge * (float)(trace / (double)size) + 1e-20f;
    for (size_t i = 0; i < size; i++) {
        x[i] = codebook[i / width * (size_t)s->form->subspace + i % width];
        job->a[i * size + i] += lambda;
        job->b[i] += lambda * x[i];
    }
    minimise(job->a, job->b, x, size, s->hot ? FEW_STEPS : MANY_STEPS, x + size);
    for (size_t i = 0; i < size; i++)
        codebook[i / width * (size_t)s->form->subspace + i % width] = x[i];
}

static void update_rows(void *argument, int index, int worker)
{
    const solve_job *job = argument;
    const fit_state *s = job->s;
    const size_t first = (size_t)index * TASK_ROWS, ld = (size_t)s->n_outputs;
    const int left = s->n - (int)first;
    const qcnn_gemm_call call = { .transpose_a = true,
                                  .m = left < TASK_ROWS ? left : TASK_ROWS,
                                  .n = s->n_outputs,
                                  .k = job->n_rows,
                                  .alpha = 1,
                                  .beta = 1,
                                  .a = job->rows + first,
                                  .lda = (size_t)s->n,
                                  .b = job->change,
                                  .ldb = ld,
                                  .c = s->residual[job->g] + first * ld,
                                  .ldc = ld };
    qcnn_fit_product(s, &call, worker);
}

// Takes the new codewords into weights and residual of the group.
static void apply(solve_job *job)
{
    const fit_state *s = job->s;
    const size_t ld = (size_t)s->n_outputs, width = (size_t)job->width;
    const float *codebook = fit_codebook(s, job->set, job->m);
    for (int tap = 0; tap < s->form->n_taps; tap++) {
        const int b = block_of(s, tap, job->m);
        const uint8_t *assigned = s->assigned[job->g] + (size_t)b * ld;
        float *w = s->weights[job->g] + (size_t)s->blocks[b].row * ld, *change = job->change + (size_t)tap * width * ld;
        for (size_t i = 0; i < width; i++)
            for (size_t o = 0; o < ld; o++) {
                const float value = codebook[assigned[o] * (size_t)s->form->subspace + i];
                change[i * ld + o] = w[i * ld + o] - value;
                w[i * ld + o] = value;
            }
    }
    qcnn_for(s->options->parallel, (s->n + TASK_ROWS - 1) / TASK_ROWS, update_rows, job);
}

static void solve_subspace(solve_job *job)
{
    const fit_state *s = job->s;
    const size_t size = (size_t)s->form->n_codewords * (size_t)job->width;
    const int n_groups = s->form->groups / s->form->n_sets;
    memset(job->a, 0, size * size * sizeof(float));
    memset(job->b, 0, size * sizeof(float));
    for (job->g = job->set * n_groups; job->g < (job->set + 1) * n_groups; job->g++) {
        gather_rows(job);
        find_points(job);
        for (int o = 0; o < s->n_outputs; o++)
            add_output(job, o);
    }
    solve(job);
    for (job->g = job->set * n_groups; job->g < (job->set + 1) * n_groups; job->g++) {
        gather_rows(job);
        apply(job);
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
    job.vectors = qcnn_allocate(5 * size, sizeof(float));
    const bool have = job.rows && job.form && job.points && job.change && job.a && job.b && job.vectors;
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
    qcnn_release(job.vectors);
    return status;
}
