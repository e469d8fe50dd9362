// SPDX-License-Identifier: Apache-2.0
// Fits of small random layers: no step may raise the objective, the result lies near the best of all assignments, found by
// trying them, and does not depend on the number of threads.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// cmocka.h needs some of the above
#include <cmocka.h>

#include "base/rng.h"
#include "compress/blas.h"
#include "compress/fit.h"
#include "compress/fit_state.h"
#include "compress/quantize.h"

// ---- random layers --------------------------------------------------------------------------------------------------

typedef struct layer {
    qcnn_codebook form;
    qcnn_fit_problem problem;
    float *gram[4], *target[4];
} layer;

static double gauss(qcnn_rng *rng)
{
    return sqrt(-2 * log(1 - qcnn_rng_unit(rng))) * cos(6.283185307179586 * qcnn_rng_unit(rng));
}

static void make_layer(layer *l, int groups, bool set_per_group, int n_inputs, int n_outputs, int side, int subspace, int n_codewords,
                       uint64_t seed)
{
    const qcnn_shape shape = { side > 1 ? 4 : 2, { groups * n_outputs, n_inputs, side, side } };
    *l = (layer){ .form = qcnn_codebook_form(&shape, groups, set_per_group, subspace, n_codewords) };
    const int n = n_inputs * side * side, n_samples = 3 * n;
    l->problem = (qcnn_fit_problem){ .n = n, .gram = l->gram, .target = l->target };
    qcnn_rng rng = { seed };
    for (int g = 0; g < groups; g++) {
        l->gram[g] = qcnn_allocate_zeroed((size_t)n * (size_t)n, sizeof(float));
        l->target[g] = qcnn_allocate((size_t)n * (size_t)n_outputs, sizeof(float));
        float *x = qcnn_allocate((size_t)n, sizeof *x);
        for (int sample = 0; sample < n_samples; sample++) {
            const double common = gauss(&rng);
            for (int i = 0; i < n; i++)
                x[i] = (float)((gauss(&rng) + common) * (1 + i % 3));
            for (int i = 0; i < n; i++)
                for (int j = 0; j < n; j++)
                    l->gram[g][i * n + j] += x[i] * x[j] / (float)n_samples;
        }
        for (int i = 0; i < n; i++)
            l->gram[g][i * n + i] += 0.01f;
        for (int i = 0; i < n * n_outputs; i++)
            l->target[g][i] = (float)gauss(&rng);
        qcnn_release(x);
    }
}

static void free_layer(layer *l)
{
    for (int g = 0; g < l->form.groups; g++) {
        qcnn_release(l->gram[g]);
        qcnn_release(l->target[g]);
    }
}

// The first term of the objective of a codebook, importance 1.
static double distortion(const layer *l, const qcnn_codebook *book)
{
    const int n = l->problem.n, n_outputs = book->n_outputs;
    float *weights = qcnn_allocate((size_t)book->groups * (size_t)n * (size_t)n_outputs, sizeof *weights);
    qcnn_codebook_decode(book, weights);
    double sum = 0, *e = qcnn_allocate((size_t)n, sizeof *e);
    for (int g = 0; g < book->groups; g++)
        for (int o = 0; o < n_outputs; o++) {
            for (int i = 0; i < n; i++) {
                const int tap = i / book->n_inputs, channel = i % book->n_inputs;
                const double w = (double)weights[((g * n_outputs + o) * book->n_inputs + channel) * book->n_taps + tap];
                e[i] = w - (double)l->target[g][i * n_outputs + o];
            }
            for (int i = 0; i < n; i++)
                for (int j = 0; j < n; j++)
                    sum += e[i] * e[j] * (double)l->gram[g][i * n + j];
        }
    qcnn_release(weights);
    qcnn_release(e);
    return sum;
}

// ---- no step raises the objective -----------------------------------------------------------------------------------

typedef struct course {
    double last, start;
    int n_steps;
} course;

static void watch(void *context, const char *step, double objective)
{
    course *c = context;
    // A feedback pass starts the assignments afresh, rounding moves codewords: only these two may end higher.
    if (c->n_steps > 0 && strcmp(step, "feedback") != 0 && strcmp(step, "round") != 0 && objective > c->last + 1e-5 * fabs(c->last))
        fail_msg("%s raised the objective from %g to %g", step, c->last, objective);
    if (c->n_steps++ == 0)
        c->start = objective;
    c->last = objective;
}

static void test_no_step_raises_the_objective(void **state)
{
    (void)state;
    static const struct {
        int groups, set_per_group, n_inputs, n_outputs, side, subspace, n_codewords;
        float price;
        bool important;
        qcnn_number_type type;
    } cases[] = {
        { 1, 0, 24, 40, 1, 4, 8, 0, false, QCNN_FLOAT32 },      { 1, 0, 26, 300, 1, 4, 16, 0, true, QCNN_INT8 },
        { 1, 0, 24, 140, 1, 8, 32, 0.5f, false, QCNN_FLOAT16 }, { 1, 0, 8, 40, 3, 4, 8, 0, false, QCNN_INT8 },
        { 2, 0, 6, 33, 3, 4, 16, 0, true, QCNN_FLOAT32 },       { 2, 1, 6, 33, 3, 2, 16, 0.3f, true, QCNN_INT8 },
        { 2, 1, 12, 130, 1, 3, 8, 0.2f, true, QCNN_FLOAT32 },   { 2, 0, 12, 50, 1, 3, 8, 0, false, QCNN_FLOAT16 },
        { 1, 0, 1, 20, 5, 1, 4, 0, false, QCNN_FLOAT32 },       { 1, 0, 200, 30, 1, 150, 8, 0, false, QCNN_INT8 },
        { 1, 0, 8, 270, 1, 4, 8, 0, false, QCNN_FLOAT32 },      { 1, 0, 4, 600, 3, 4, 8, 0, false, QCNN_FLOAT32 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        layer l;
        make_layer(&l, cases[i].groups, cases[i].set_per_group, cases[i].n_inputs, cases[i].n_outputs, cases[i].side, cases[i].subspace,
                   cases[i].n_codewords, i);
        float importance[512];
        qcnn_rng rng = { 7 };
        for (int o = 0; o < 512; o++)
            importance[o] = (float)(0.2 + qcnn_rng_unit(&rng));
        course c = { 0 };
        const qcnn_fit_options options = { .name = "layer",
                                           .seed = 3,
                                           .n_passes = 3,
                                           .n_sweeps = 4,
                                           .n_annealing = 6,
                                           .price = cases[i].price,
                                           .importance = cases[i].important ? importance : NULL,
                                           .watch = watch,
                                           .watch_context = &c };
        l.form.codeword_type = cases[i].type;
        qcnn_tensor tensor;
        qcnn_error error = { 0 };
        if (qcnn_fit(&l.form, &l.problem, &options, &tensor, &error) != QCNN_OK)
            fail_msg("%s", error.message);
        if (!(c.last < 0.95 * c.start))
            fail_msg("case %zu: from %g to %g only", i, c.start, c.last);
        if (cases[i].price == 0 && !cases[i].important)
            assert_true(fabs(distortion(&l, &tensor.codebook) - c.last) < 1e-3 * c.last);
        qcnn_tensor_release(&tensor);
        free_layer(&l);
    }
}

// ---- against all assignments ----------------------------------------------------------------------------------------

enum { TINY_INPUTS = 2, TINY_OUTPUTS = 5, TINY_CODEWORDS = 2 };

// The least distortion for these assignments (bit o of choice[m]: output o's codeword in subspace m, C' = 1), by coordinate descent on
// the codewords, which a convex problem lets end at the optimum.
static double best_codewords(const layer *l, const unsigned choice[TINY_INPUTS])
{
    double d[TINY_INPUTS][TINY_CODEWORDS] = { { 0 } };
    const float *gram = l->gram[0], *target = l->target[0];
    for (int round = 0; round < 300; round++)
        for (int m = 0; m < TINY_INPUTS; m++)
            for (int k = 0; k < TINY_CODEWORDS; k++) {
                double sum = 0, weight = 0;
                for (int o = 0; o < TINY_OUTPUTS; o++) {
                    if ((int)(choice[m] >> o & 1) != k)
                        continue;
                    for (int j = 0; j < TINY_INPUTS; j++) {
                        const double w = j == m ? 0 : d[j][choice[j] >> o & 1];
                        sum += (double)gram[m * TINY_INPUTS + j] * ((double)target[j * TINY_OUTPUTS + o] - w);
                    }
                    weight += (double)gram[m * TINY_INPUTS + m];
                }
                d[m][k] = weight > 0 ? sum / weight : 0;
            }
    double error = 0;
    for (int o = 0; o < TINY_OUTPUTS; o++)
        for (int i = 0; i < TINY_INPUTS; i++)
            for (int j = 0; j < TINY_INPUTS; j++)
                error += (d[i][choice[i] >> o & 1] - (double)target[i * TINY_OUTPUTS + o]) *
                         (d[j][choice[j] >> o & 1] - (double)target[j * TINY_OUTPUTS + o]) * (double)gram[i * TINY_INPUTS + j];
    return error;
}

static void test_near_the_best_of_all(void **state)
{
    (void)state;
    int n_best = 0;
    enum { N_LAYERS = 20, N_SEEDS = 6 };
    for (uint64_t seed = 0; seed < N_LAYERS; seed++) {
        layer l;
        make_layer(&l, 1, false, TINY_INPUTS, TINY_OUTPUTS, 1, 1, TINY_CODEWORDS, 100 + seed);
        double best = INFINITY, found = INFINITY;
        for (unsigned a = 0; a < 1u << TINY_OUTPUTS; a++)
            for (unsigned b = 0; b < 1u << TINY_OUTPUTS; b++)
                best = fmin(best, best_codewords(&l, (const unsigned[]){ a, b }));
        for (uint64_t start = 0; start < N_SEEDS; start++) {
            const qcnn_fit_options options = { .name = "layer", .seed = start, .n_passes = 1, .n_sweeps = 10 };
            qcnn_tensor tensor;
            assert_int_equal(qcnn_fit(&l.form, &l.problem, &options, &tensor, NULL), QCNN_OK);
            const double error = distortion(&l, &tensor.codebook);
            assert_true(error > best - 1e-4);
            found = fmin(found, error);
            qcnn_tensor_release(&tensor);
        }
        assert_true(found < 1.5 * best + 1e-4);
        n_best += found < best + 1e-3 * (1 + best);
        free_layer(&l);
    }
    assert_in_range(n_best, N_LAYERS / 2, N_LAYERS);
}

// ---- threads, cancelling, memory --------------------------------------------------------------------------------------

static void test_threads_change_nothing(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        layer l;
        make_layer(&l, 2, kind == 1, kind ? 32 : 12, 300, kind ? 1 : 3, 4, 16, 9);
        qcnn_tensor tensors[2];
        for (int i = 0; i < 2; i++) {
            qcnn_pool *pool;
            assert_int_equal(qcnn_pool_create(1 + 2 * i, &pool, NULL), QCNN_OK);
            const qcnn_fit_options options = {
                .name = "layer", .n_passes = 2, .n_sweeps = 2, .n_annealing = 5, .price = 0.1f, .parallel = qcnn_pool_hook(pool)
            };
            assert_int_equal(qcnn_fit(&l.form, &l.problem, &options, &tensors[i], NULL), QCNN_OK);
            qcnn_pool_free(pool);
        }
        const qcnn_codebook *a = &tensors[0].codebook, *b = &tensors[1].codebook;
        assert_int_equal(a->n_codewords, b->n_codewords);
        assert_memory_equal(a->codewords, b->codewords,
                            (size_t)(a->n_sets * a->n_subspaces * a->n_codewords * a->subspace) * sizeof(float));
        assert_memory_equal(a->assignments, b->assignments, (size_t)(a->groups * a->n_subspaces * a->n_taps * a->n_outputs));
        qcnn_tensor_release(&tensors[0]);
        qcnn_tensor_release(&tensors[1]);
        free_layer(&l);
    }
}

static int stop_late(void *context, const char *stage, double fraction)
{
    (void)context;
    assert_string_equal(stage, "layer");
    return fraction > 0.5;
}

static void test_cancel(void **state)
{
    (void)state;
    layer l;
    make_layer(&l, 1, false, 12, 30, 3, 4, 8, 9);
    const qcnn_progress progress = { .report = stop_late };
    const qcnn_fit_options options = { .name = "layer", .n_passes = 2, .n_sweeps = 2, .progress = &progress };
    qcnn_tensor tensor;
    qcnn_error error;
    assert_int_equal(qcnn_fit(&l.form, &l.problem, &options, &tensor, &error), QCNN_ERROR_CANCELLED);
    assert_non_null(strstr(error.message, "'layer'"));
    assert_null(tensor.codebook.codewords);
    free_layer(&l);
}

typedef struct failing {
    long n, fail_at, live;
} failing;

static void *failing_allocate(void *context, size_t bytes, size_t alignment)
{
    failing *f = context;
    if (++f->n == f->fail_at)
        return NULL;
    void *pointer = aligned_alloc(alignment, bytes);
    f->live += pointer != NULL;
    return pointer;
}

static void failing_release(void *context, void *pointer)
{
    failing *f = context;
    f->live--;
    free(pointer);
}

static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        layer l;
        make_layer(&l, 2, kind == 1, 4, 9, kind ? 1 : 3, 2, 4, 9);
        const qcnn_fit_options options = { .name = "layer", .n_passes = 1, .n_sweeps = 1, .n_annealing = 1, .price = 0.1f };
        failing f = { .fail_at = -1 };
        for (long fail_at = 0; fail_at == 0 || f.n >= fail_at; fail_at++) {
            f = (failing){ .fail_at = fail_at };
            qcnn_set_allocator(&(qcnn_allocator){ failing_allocate, failing_release, &f });
            qcnn_tensor tensor;
            const qcnn_status status = qcnn_fit(&l.form, &l.problem, &options, &tensor, NULL);
            assert_int_equal(status, fail_at > 0 && f.n >= fail_at ? QCNN_ERROR_MEMORY : QCNN_OK);
            qcnn_tensor_release(&tensor);
            assert_int_equal(f.live, 0);
            qcnn_set_allocator(NULL);
        }
        free_layer(&l);
    }
}

// ---- outputs together -----------------------------------------------------------------------------------------------

// e = w - w* of a codebook without taps or groups, [n_outputs][n].
static double *find_errors(const layer *l, const qcnn_codebook *book)
{
    const size_t n = (size_t)l->problem.n, n_outputs = (size_t)book->n_outputs;
    float *weights = qcnn_allocate(n * n_outputs, sizeof *weights);
    double *errors = qcnn_allocate(n * n_outputs, sizeof *errors);
    qcnn_codebook_decode(book, weights);
    for (size_t o = 0; o < n_outputs; o++)
        for (size_t i = 0; i < n; i++)
            errors[o * n + i] = (double)weights[o * n + i] - (double)l->target[0][i * n_outputs + o];
    qcnn_release(weights);
    return errors;
}

// (G e F) of row i and output o.
static double pull_of(const layer *l, const float *fisher, const double *errors, size_t i, size_t o)
{
    const size_t n = (size_t)l->problem.n, n_outputs = (size_t)l->form.n_outputs;
    double sum = 0;
    for (size_t p = 0; p < n_outputs; p++)
        for (size_t j = 0; j < n; j++)
            sum += (double)fisher[o * n_outputs + p] * (double)l->gram[0][i * n + j] * errors[p * n + j];
    return sum;
}

static double joint_objective(const layer *l, const float *fisher, const qcnn_codebook *book)
{
    double sum = 0, *errors = find_errors(l, book);
    for (size_t o = 0; o < (size_t)book->n_outputs; o++)
        for (size_t i = 0; i < (size_t)l->problem.n; i++)
            sum += errors[o * (size_t)l->problem.n + i] * pull_of(l, fisher, errors, i, o);
    qcnn_release(errors);
    return sum;
}

// The most that another codeword in one place would take off the objective.
static double most_to_gain(const layer *l, const float *fisher, const qcnn_codebook *book)
{
    const size_t n = (size_t)l->problem.n, n_outputs = (size_t)book->n_outputs, c = (size_t)book->subspace;
    double most = 0, *errors = find_errors(l, book);
    for (size_t m = 0; m < n / c; m++)
        for (size_t o = 0; o < n_outputs; o++) {
            double pull[8];
            for (size_t i = 0; i < c; i++)
                pull[i] = pull_of(l, fisher, errors, m * c + i, o);
            const float *words = book->codewords + m * (size_t)book->n_codewords * c;
            const float *present = words + book->assignments[m * n_outputs + o] * c;
            for (int k = 0; k < book->n_codewords; k++) {
                double change = 0;
                for (size_t i = 0; i < c; i++) {
                    const double step = (double)words[(size_t)k * c + i] - (double)present[i];
                    change += 2 * step * pull[i];
                    for (size_t j = 0; j < c; j++)
                        change += (double)fisher[o * n_outputs + o] * step * (double)l->gram[0][(m * c + i) * n + m * c + j] *
                                  ((double)words[(size_t)k * c + j] - (double)present[j]);
                }
                most = fmax(most, -change);
            }
        }
    qcnn_release(errors);
    return most;
}

// Outputs that matter in few directions: sweeps over all outputs together never raise what is minimised, take most of it, and end where no
// single change helps.
static void test_outputs_together(void **state)
{
    (void)state;
    enum { OUTPUTS = 140, DIRECTIONS = 10, MANY = 40 }; // more than a tile
    static float fisher[OUTPUTS * OUTPUTS], directions[DIRECTIONS][OUTPUTS];
    layer l;
    make_layer(&l, 1, false, 24, OUTPUTS, 1, 4, 16, 7);
    qcnn_rng rng = { 3 };
    for (int d = 0; d < DIRECTIONS; d++)
        for (int o = 0; o < OUTPUTS; o++)
            directions[d][o] = (float)gauss(&rng);
    for (int o = 0; o < OUTPUTS; o++) {
        for (int p = 0; p < OUTPUTS; p++) {
            fisher[o * OUTPUTS + p] = o == p ? 0.02f : 0;
            for (int d = 0; d < DIRECTIONS; d++)
                fisher[o * OUTPUTS + p] += directions[d][o] * directions[d][p] / DIRECTIONS;
        }
    }
    static const int n_joint[] = { 0, 1, 2, 4, MANY };
    double objective[5];
    for (int i = 0; i < 5; i++) {
        const qcnn_fit_options options = {
            .name = "layer", .seed = 1, .n_passes = 1, .n_sweeps = 1, .fisher = fisher, .n_joint = n_joint[i]
        };
        qcnn_tensor tensor;
        assert_int_equal(qcnn_fit(&l.form, &l.problem, &options, &tensor, NULL), QCNN_OK);
        objective[i] = joint_objective(&l, fisher, &tensor.codebook);
        assert_true(i == 0 || objective[i] <= objective[i - 1] * (1 + 1e-5));
        if (n_joint[i] == MANY)
            assert_true(most_to_gain(&l, fisher, &tensor.codebook) <= 1e-4 * objective[i]);
        qcnn_tensor_release(&tensor);
    }
    assert_true(objective[2] < 0.6 * objective[0]);
    free_layer(&l);
}

int main(void)
{
    qcnn_blas_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_step_raises_the_objective), cmocka_unit_test(test_near_the_best_of_all),
        cmocka_unit_test(test_threads_change_nothing),       cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_every_allocation_may_fail),    cmocka_unit_test(test_outputs_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
