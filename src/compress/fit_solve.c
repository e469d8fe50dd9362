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

enum {
    FEW_STEPS = 5,
    MANY_STEPS = 30,
    TASK_ROWS = 384,
    PARTS = 8,
    ODD = 16
}; // of conjugate gradients; of tasks: rows of a product, and of A

// A subspace's A, which depends on assignments alone: it is summed while the subspace before is solved for.
typedef struct solve_form {
    int set, m, width, n_rows; // n_rows: taps x width
    float *between;            // [groups of the set][n_rows][n_rows]: G between the subspace's rows
    size_t stride;             // between rows of a
    float *a;                  // K width squared
} solve_form;

typedef struct solve_job {
    fit_state *s;
    int n_groups; // of a set
    const solve_form *now;
    solve_form *next;       // NULL: none
    size_t n_numbers;       // n_rows x n_outputs, of the widest subspace
    float *rows;            // [groups of the set][n_rows][n]: the subspace's rows of G
    float *points, *change; // [groups of the set][n_rows][n_outputs]: h; old less new weights
    float *b, *vectors;     // K width, 5 K width
} solve_job;

static int block_of(const fit_state *s, int tap, int m)
{
    return tap * s->form->n_subspaces + m;
}

// The first row of the subspace at a tap.
static size_t row_of(const fit_state *s, int tap, int m)
{
    return (size_t)s->blocks[block_of(s, tap, m)].row;
}

static const uint8_t *assigned_at(const fit_state *s, int g, int tap, int m)
{
    return s->assigned[g] + (size_t)block_of(s, tap, m) * (size_t)s->n_outputs;
}

// ---- the quadratic form ---------------------------------------------------------------------------------------------

static void find_between(const solve_job *job, solve_form *form)
{
    const fit_state *s = job->s;
    const size_t n = (size_t)s->n, width = (size_t)form->width, n_rows = (size_t)form->n_rows;
    float *to = form->between;
    for (int g = form->set * job->n_groups; g < (form->set + 1) * job->n_groups; g++)
        for (size_t i = 0; i < n_rows; i++)
            for (int tap = 0; tap < s->form->n_taps; tap++, to += width)
                memcpy(to, s->problem->gram[g] + (row_of(s, (int)(i / width), form->m) + i % width) * n + row_of(s, tap, form->m),
                       width * sizeof *to);
}

// a += weight * between, width x width.
static inline void add_square(float *a, size_t stride, float weight, const float *between, size_t n_rows, size_t width)
{
    for (size_t i = 0; i < width; i++)
        for (size_t j = 0; j < width; j++)
            a[i * stride + j] += weight * between[i * n_rows + j];
}

// Adds what output o of group g puts into the rows of codewords part, part + PARTS ... A is symmetric: the upper triangle will do.
static void add_output(const solve_job *job, const solve_form *form, int g, int o, int part)
{
    const fit_state *s = job->s;
    const size_t width = (size_t)form->width, n_rows = (size_t)form->n_rows;
    const float *between = form->between + (size_t)(g - form->set * job->n_groups) * n_rows * n_rows;
    const float weight = s->importance[(size_t)g * s->padded + (size_t)o];
    for (int p = 0; p < s->form->n_taps; p++) {
        const size_t k = assigned_at(s, g, p, form->m)[o];
        for (int q = 0; k % PARTS == (size_t)part && q < s->form->n_taps; q++) {
            const size_t l = assigned_at(s, g, q, form->m)[o];
            float *a = form->a + k * width * form->stride + l * width;
            const float *from = between + (size_t)p * width * n_rows + (size_t)q * width;
            if (l >= k && width == 8)
                add_square(a, form->stride, weight, from, n_rows, 8);
            else if (l >= k)
                add_square(a, form->stride, weight, from, n_rows, width);
        }
    }
}

static void add_part(const solve_job *job, const solve_form *form, int part)
{
    const fit_state *s = job->s;
    const size_t width = (size_t)form->width;
    for (size_t k = (size_t)part; k < (size_t)s->form->n_codewords; k += PARTS)
        memset(form->a + k * width * form->stride, 0, width * form->stride * sizeof *form->a);
    for (int g = form->set * job->n_groups; g < (form->set + 1) * job->n_groups; g++)
        for (int o = 0; o < s->n_outputs; o++)
            add_output(job, form, g, o, part);
}

// ---- what is wanted -------------------------------------------------------------------------------------------------

static void gather_rows(const solve_job *job, int group)
{
    const fit_state *s = job->s;
    const size_t n = (size_t)s->n, width = (size_t)job->now->width;
    const float *gram = s->problem->gram[job->now->set * job->n_groups + group];
    float *to = job->rows + (size_t)group * (size_t)job->now->n_rows * n;
    for (int tap = 0; tap < s->form->n_taps; tap++, to += width * n)
        memcpy(to, gram + row_of(s, tap, job->now->m) * n, width * n * sizeof *to);
}

// h = R + G w over the subspace.
static void find_points(const solve_job *job, int group)
{
    const fit_state *s = job->s;
    const int g = job->now->set * job->n_groups + group;
    const size_t ld = (size_t)s->n_outputs, width = (size_t)job->now->width, n_rows = (size_t)job->now->n_rows;
    float *points = job->points + (size_t)group * job->n_numbers, *w = job->change + (size_t)group * job->n_numbers;
    for (int tap = 0; tap < s->form->n_taps; tap++) {
        const size_t row = row_of(s, tap, job->now->m);
        memcpy(points + (size_t)tap * width * ld, s->residual[g] + row * ld, width * ld * sizeof(float));
        memcpy(w + (size_t)tap * width * ld, s->weights[g] + row * ld, width * ld * sizeof(float));
    }
    const qcnn_gemm_call call = { .m = job->now->n_rows,
                                  .n = s->n_outputs,
                                  .k = job->now->n_rows,
                                  .alpha = 1,
                                  .beta = 1,
                                  .a = job->now->between + (size_t)group * n_rows * n_rows,
                                  .lda = n_rows,
                                  .b = w,
                                  .ldb = ld,
                                  .c = points,
                                  .ldc = ld };
    qcnn_gemm_serial(&call);
}

static void find_wanted(const solve_job *job)
{
    const fit_state *s = job->s;
    const size_t ld = (size_t)s->n_outputs, width = (size_t)job->now->width;
    memset(job->b, 0, (size_t)s->form->n_codewords * width * sizeof *job->b);
    for (int group = 0; group < job->n_groups; group++) {
        const int g = job->now->set * job->n_groups + group;
        const float *points = job->points + (size_t)group * job->n_numbers, *weight = s->importance + (size_t)g * s->padded;
        find_points(job, group);
        for (int tap = 0; tap < s->form->n_taps; tap++) {
            const uint8_t *assigned = assigned_at(s, g, tap, job->now->m);
            for (size_t i = 0; i < width; i++, points += ld)
                for (size_t o = 0; o < ld; o++)
                    job->b[assigned[o] * width + i] += weight[o] * points[o];
        }
    }
}

// ---- the solution ---------------------------------------------------------------------------------------------------

static double dot(const float *x, const float *y, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * y[i];
    return sum;
}

// Minimises x^T A x - 2 x^T b by conjugate gradients from x on, scaled by the diagonal. No step raises it, so any number of them will do.
// Of `vectors` n each are needed for the residual, the same scaled, the direction and its product.
static void minimise(const float *a, size_t stride, const float *b, float *x, size_t n, int most_steps, float *vectors)
{
    static const double tolerance = 1e-3;
    float *residual = vectors, *scaled = vectors + n, *direction = vectors + 2 * n, *product = vectors + 3 * n;
    qcnn_symmetric_product((int)n, a, stride, x, product);
    for (size_t i = 0; i < n; i++) {
        residual[i] = b[i] - product[i];
        direction[i] = scaled[i] = residual[i] / a[i * stride + i];
    }
    double error = dot(residual, scaled, n);
    const double enough = tolerance * tolerance * error;
    for (int step = 0; step < most_steps && error > enough; step++) {
        qcnn_symmetric_product((int)n, a, stride, direction, product);
        const double curvature = dot(direction, product, n), before = error;
        if (!(curvature > 0))
            return;
        const float length = (float)(error / curvature);
        for (size_t i = 0; i < n; i++) {
            x[i] += length * direction[i];
            residual[i] -= length * product[i];
            scaled[i] = residual[i] / a[i * stride + i];
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
    const size_t width = (size_t)job->now->width, size = (size_t)s->form->n_codewords * width, stride = job->now->stride;
    float *codebook = fit_codebook(s, job->now->set, job->now->m), *x = job->vectors, *a = job->now->a;
    double trace = 0;
    for (size_t i = 0; i < size; i++)
        trace += (double)a[i * stride + i];
    const float lambda = ridge * (float)(trace / (double)size) + 1e-20f;
    for (size_t i = 0; i < size; i++) {
        x[i] = codebook[i / width * (size_t)s->form->subspace + i % width];
        a[i * stride + i] += lambda;
        job->b[i] += lambda * x[i];
    }
    minimise(a, stride, job->b, x, size, s->hot ? FEW_STEPS : MANY_STEPS, x + size);
    for (size_t i = 0; i < size; i++)
        codebook[i / width * (size_t)s->form->subspace + i % width] = x[i];
}

// The present subspace's solution beside its rows of G and the next one's A.
static void solve_task(void *argument, int index, int worker)
{
    (void)worker;
    const solve_job *job = argument;
    if (index == 0)
        solve(job);
    else if (index <= job->n_groups)
        gather_rows(job, index - 1);
    else
        add_part(job, job->next, index - 1 - job->n_groups);
}

static void update_rows(void *argument, int index, int worker)
{
    const solve_job *job = argument;
    const fit_state *s = job->s;
    const int n_tasks = (s->n + TASK_ROWS - 1) / TASK_ROWS, group = index / n_tasks;
    const size_t first = (size_t)(index % n_tasks) * TASK_ROWS, ld = (size_t)s->n_outputs;
    const int left = s->n - (int)first;
    const qcnn_gemm_call call = { .transpose_a = true,
                                  .m = left < TASK_ROWS ? left : TASK_ROWS,
                                  .n = s->n_outputs,
                                  .k = job->now->n_rows,
                                  .alpha = 1,
                                  .beta = 1,
                                  .a = job->rows + (size_t)group * (size_t)job->now->n_rows * (size_t)s->n + first,
                                  .lda = (size_t)s->n,
                                  .b = job->change + (size_t)group * job->n_numbers,
                                  .ldb = ld,
                                  .c = s->residual[job->now->set * job->n_groups + group] + first * ld,
                                  .ldc = ld };
    qcnn_fit_product(s, &call, worker);
}

// Takes the new codewords into weights and residual.
static void apply(solve_job *job)
{
    const fit_state *s = job->s;
    const size_t ld = (size_t)s->n_outputs, width = (size_t)job->now->width;
    const float *codebook = fit_codebook(s, job->now->set, job->now->m);
    for (int group = 0; group < job->n_groups; group++)
        for (int tap = 0; tap < s->form->n_taps; tap++) {
            const int g = job->now->set * job->n_groups + group;
            const uint8_t *assigned = assigned_at(s, g, tap, job->now->m);
            float *w = s->weights[g] + row_of(s, tap, job->now->m) * ld;
            float *change = job->change + (size_t)group * job->n_numbers + (size_t)tap * width * ld;
            for (size_t i = 0; i < width; i++)
                for (size_t o = 0; o < ld; o++) {
                    const float value = codebook[assigned[o] * (size_t)s->form->subspace + i];
                    change[i * ld + o] = w[i * ld + o] - value;
                    w[i * ld + o] = value;
                }
        }
    qcnn_for(s->options->parallel, job->n_groups * ((s->n + TASK_ROWS - 1) / TASK_ROWS), update_rows, job);
}

static void part_task(void *argument, int index, int worker)
{
    (void)worker;
    const solve_job *job = argument;
    add_part(job, job->next, index);
}

static void prepare(const solve_job *job, solve_form *form, int index)
{
    const fit_state *s = job->s;
    form->set = index / s->form->n_subspaces;
    form->m = index % s->form->n_subspaces;
    form->width = s->blocks[form->m].width;
    form->n_rows = s->form->n_taps * form->width;
    find_between(job, form);
}

static qcnn_status solve_all(solve_job *job, solve_form forms[2], qcnn_error *error)
{
    fit_state *s = job->s;
    const int n = s->form->n_sets * s->form->n_subspaces;
    job->next = &forms[0];
    prepare(job, job->next, 0);
    qcnn_for(s->options->parallel, PARTS, part_task, job);
    for (int i = 0; i < n; i++) {
        job->now = job->next;
        job->next = i + 1 < n ? &forms[(i + 1) % 2] : NULL;
        if (job->next)
            prepare(job, job->next, i + 1);
        find_wanted(job);
        qcnn_for(s->options->parallel, 1 + job->n_groups + (job->next ? PARTS : 0), solve_task, job);
        apply(job);
        QCNN_TRY(qcnn_fit_report(s, (double)(i + 1) / n, error));
    }
    return QCNN_OK;
}

qcnn_status qcnn_fit_solve(fit_state *s, qcnn_error *error)
{
    const size_t n_groups = (size_t)(s->form->groups / s->form->n_sets), n_rows = (size_t)s->form->n_taps * (size_t)s->form->subspace;
    const size_t size = (size_t)s->form->n_codewords * (size_t)s->form->subspace;
    solve_job job = { .s = s, .n_groups = (int)n_groups, .n_numbers = n_rows * (size_t)s->n_outputs };
    solve_form forms[2] = { 0 };
    job.rows = qcnn_allocate(n_groups * n_rows * (size_t)s->n, sizeof(float));
    job.points = qcnn_allocate(n_groups * job.n_numbers, sizeof(float));
    job.change = qcnn_allocate(n_groups * job.n_numbers, sizeof(float));
    job.b = qcnn_allocate(size, sizeof(float));
    job.vectors = qcnn_allocate(5 * size, sizeof(float));
    bool have = job.rows && job.points && job.change && job.b && job.vectors;
    for (int i = 0; i < 2; i++) {
        forms[i].between = qcnn_allocate(n_groups * n_rows * n_rows, sizeof(float));
        forms[i].stride = size + ODD; // rows a power of two apart would be in each other's way in the caches
        forms[i].a = qcnn_allocate(size * forms[i].stride, sizeof(float));
        have = have && forms[i].between && forms[i].a;
    }
    const qcnn_status status =
        have ? solve_all(&job, forms, error) : qcnn_fail_memory(error, 2 * (size * size + n_groups * n_rows * n_rows) * sizeof(float));
    for (int i = 0; i < 2; i++) {
        qcnn_release(forms[i].between);
        qcnn_release(forms[i].a);
    }
    qcnn_release(job.rows);
    qcnn_release(job.points);
    qcnn_release(job.change);
    qcnn_release(job.b);
    qcnn_release(job.vectors);
    return status;
}
