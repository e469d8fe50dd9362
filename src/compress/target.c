// SPDX-License-Identifier: Apache-2.0
// The corrected target, its ridge, and the error that is left.

#include "compress/target.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "compress/blas.h"

// Rows of G above which one try of the ridge has to do, each takes n^3 / 3 operations, or tries begin where they mostly end; about how many
// outputs it is judged by.
enum { CHOOSE_BELOW = 12000, DEAR = 1000, CHOOSE_OUTPUTS = 512 };

static double mean_diagonal(const qcnn_statistics *s, int g)
{
    double sum = 0;
    for (size_t i = 0; i < (size_t)s->n; i++)
        sum += (double)s->gram[g][i * (size_t)s->n + i];
    return sum / s->n;
}

// ---- errors ---------------------------------------------------------------------------------------------------------

// Every step-th column of a matrix, rows x n_columns, side by side.
static void take_columns(const float *from, size_t rows, size_t n_columns, size_t step, float *to)
{
    for (size_t i = 0; i < rows; i++, from += n_columns)
        for (size_t o = 0; o < n_columns; o += step)
            *to++ = from[o];
}

// sum over held-out rows of (r + x d)^2, d: n x n_outputs, or of every step-th output; d NULL: of (r + x W)^2 = T^2.
static qcnn_status held_error(const qcnn_statistics *s, int g, const float *d, size_t step, const qcnn_parallel *parallel, double *sum,
                              qcnn_error *error)
{
    const size_t n_outputs = ((size_t)s->n_outputs + step - 1) / step, n = (size_t)s->n_held * n_outputs;
    float *r = qcnn_allocate(n, sizeof *r);
    if (!r)
        return qcnn_fail_memory(error, n * sizeof *r);
    take_columns(s->held_residual[g], (size_t)s->n_held, (size_t)s->n_outputs, step, r);
    const qcnn_gemm_call call = { .m = s->n_held,
                                  .n = (int)n_outputs,
                                  .k = s->n,
                                  .alpha = 1,
                                  .beta = 1,
                                  .a = s->held_inputs[g],
                                  .lda = (size_t)s->n,
                                  .b = d ? d : s->weights[g],
                                  .ldb = n_outputs,
                                  .c = r,
                                  .ldc = n_outputs };
    qcnn_gemm(&call, parallel);
    for (size_t i = 0; i < n; i++)
        *sum += (double)r[i] * (double)r[i];
    qcnn_release(r);
    return QCNN_OK;
}

// tr(d^T G d).
static qcnn_status moment_error(const qcnn_statistics *s, int g, const float *d, const qcnn_parallel *parallel, double *sum,
                                qcnn_error *error)
{
    const size_t n_outputs = (size_t)s->n_outputs, n = (size_t)s->n * n_outputs;
    float *gd = qcnn_allocate(n, sizeof *gd);
    if (!gd)
        return qcnn_fail_memory(error, n * sizeof *gd);
    const qcnn_gemm_call call = { .m = s->n,
                                  .n = s->n_outputs,
                                  .k = s->n,
                                  .alpha = 1,
                                  .a = s->gram[g],
                                  .lda = (size_t)s->n,
                                  .b = d,
                                  .ldb = n_outputs,
                                  .c = gd,
                                  .ldc = n_outputs };
    qcnn_gemm(&call, parallel);
    for (size_t i = 0; i < n; i++)
        *sum += (double)gd[i] * (double)d[i];
    qcnn_release(gd);
    return QCNN_OK;
}

qcnn_status qcnn_response_error(const qcnn_statistics *s, float *const *w, const qcnn_parallel *parallel, double *relative,
                                qcnn_error *error)
{
    const size_t n = (size_t)s->n * (size_t)s->n_outputs;
    float *d = qcnn_allocate(n, sizeof *d);
    if (!d)
        return qcnn_fail_memory(error, n * sizeof *d);
    double sum = 0, power = 0;
    qcnn_status status = QCNN_OK;
    for (int g = 0; status == QCNN_OK && g < s->groups; g++) {
        for (size_t i = 0; i < n; i++)
            d[i] = s->weights[g][i] - w[g][i];
        if (s->n_held > 0) {
            status = held_error(s, g, d, 1, parallel, &sum, error);
            if (status == QCNN_OK)
                status = held_error(s, g, NULL, 1, parallel, &power, error);
        } else {
            status = moment_error(s, g, d, parallel, &sum, error);
            if (status == QCNN_OK)
                status = moment_error(s, g, s->weights[g], parallel, &power, error);
        }
    }
    qcnn_release(d);
    *relative = power > 0 ? sum / power : 0;
    return status;
}

// ---- target ---------------------------------------------------------------------------------------------------------

// d = (G + ridge)^-1 d for group g, n x n_columns. The factor is made over the upper triangle of G, which is restored: two such matrices
// would be too many for the largest layers. `diagonal`: scratch of n floats.
static bool solve_shift(const qcnn_statistics *s, int g, double ridge, float *diagonal, float *d, size_t n_columns,
                        const qcnn_parallel *parallel)
{
    const size_t n = (size_t)s->n;
    const double mean = mean_diagonal(s, g);
    float *gram = s->gram[g];
    for (size_t i = 0; i < n; i++) {
        diagonal[i] = gram[i * n + i];
        gram[i * n + i] += (float)(ridge * ((double)gram[i * n + i] + 0.1 * mean) + 1e-6 * mean + 1e-30);
    }
    const bool definite = qcnn_cholesky(s->n, gram, n, parallel);
    if (definite)
        qcnn_cholesky_solve(s->n, gram, n, (int)n_columns, d, n_columns, parallel);
    for (size_t i = 0; i < n; i++)
        gram[i * n + i] = diagonal[i];
    qcnn_mirror_lower(s->n, gram, n, parallel);
    return definite;
}

static size_t chosen_step(const qcnn_statistics *s)
{
    return ((size_t)s->n_outputs + CHOOSE_OUTPUTS - 1) / CHOOSE_OUTPUTS;
}

// Held-out error of all groups with this ridge, in every so many outputs; HUGE_VAL where the equations cannot be solved.
static qcnn_status try_ridge(const qcnn_statistics *s, double ridge, float *diagonal, float *d, const qcnn_parallel *parallel, double *sum,
                             qcnn_error *error)
{
    const size_t n = (size_t)s->n, step = chosen_step(s), n_columns = ((size_t)s->n_outputs + step - 1) / step;
    *sum = 0;
    for (int g = 0; g < s->groups; g++) {
        take_columns(s->cross[g], n, (size_t)s->n_outputs, step, d);
        if (!solve_shift(s, g, ridge, diagonal, d, n_columns, parallel)) {
            *sum = HUGE_VAL;
            return QCNN_OK;
        }
        for (size_t i = 0; i < n * n_columns; i++)
            d[i] = -d[i];
        QCNN_TRY(held_error(s, g, d, step, parallel, sum, error));
    }
    return QCNN_OK;
}

// Threefold steps from some times the ratio of inputs and samples, in the direction that helps, until it does no more.
static qcnn_status choose_ridge(const qcnn_statistics *s, float *diagonal, float *d, const qcnn_parallel *parallel, double *ridge,
                                qcnn_error *error)
{
    double best, sum;
    QCNN_TRY(try_ridge(s, *ridge, diagonal, d, parallel, &best, error));
    for (int up = 1; up >= 0; up--) {
        const double first = *ridge, factor_of_step = up ? 3 : 1.0 / 3;
        for (int step = 0; step < 4; step++) {
            QCNN_TRY(try_ridge(s, *ridge * factor_of_step, diagonal, d, parallel, &sum, error));
            if (!(sum < best))
                break;
            best = sum;
            *ridge *= factor_of_step;
        }
        if (*ridge != first)
            break;
    }
    return QCNN_OK;
}

static bool all_zero(const float *x, size_t n)
{
    size_t i = 0;
    while (i < n && x[i] == 0)
        i++;
    return i == n;
}

// W1 - W, n x n_outputs: what one matrix for all positions of the feature maps makes up for. False where it cannot be solved for.
static bool solve_maps(const qcnn_statistics *s, float *gram, float *c, float *change, const qcnn_parallel *parallel)
{
    static const float ridge = 0.01f;
    const size_t n_maps = (size_t)s->n_maps, n = (size_t)s->n, n_positions = n / n_maps;
    for (size_t i = 0; i < n_maps; i++)
        for (size_t j = 0; j < n_maps; j++) {
            double sum = 0;
            for (size_t p = 0; p < n_positions; p++)
                sum += (double)s->gram[0][(i * n_positions + p) * n + j * n_positions + p];
            gram[i * n_maps + j] = (float)(i == j ? (1 + ridge) * sum + 1e-20 : sum);
        }
    memcpy(c, s->map_cross, n_maps * n_maps * sizeof *c);
    if (!qcnn_cholesky(s->n_maps, gram, n_maps, parallel))
        return false;
    qcnn_cholesky_solve(s->n_maps, gram, n_maps, s->n_maps, c, n_maps, parallel);
    const size_t n_columns = n_positions * (size_t)s->n_outputs;
    const qcnn_gemm_call call = { .m = s->n_maps,
                                  .n = (int)n_columns,
                                  .k = s->n_maps,
                                  .alpha = 1,
                                  .a = c,
                                  .lda = n_maps,
                                  .b = s->weights[0],
                                  .ldb = n_columns,
                                  .c = change,
                                  .ldc = n_columns };
    qcnn_gemm(&call, parallel);
    return true;
}

// to += factor a change: `to` and `a` are cross and G, or the held-out residual and inputs.
static void add_change(const qcnn_statistics *s, float factor, const float *a, int n_rows, const float *change, float *to,
                       const qcnn_parallel *parallel)
{
    const qcnn_gemm_call call = { .m = n_rows,
                                  .n = s->n_outputs,
                                  .k = s->n,
                                  .alpha = factor,
                                  .beta = 1,
                                  .a = a,
                                  .lda = (size_t)s->n,
                                  .b = change,
                                  .ldb = (size_t)s->n_outputs,
                                  .c = to,
                                  .ldc = (size_t)s->n_outputs };
    qcnn_gemm(&call, parallel);
}

// Takes what the maps explain out of cross and the held-out residual; *change is NULL where there are none.
static qcnn_status find_map_change(qcnn_statistics *s, const qcnn_parallel *parallel, float **change, qcnn_error *error)
{
    const size_t n_maps = (size_t)s->n_maps, n = (size_t)s->n * (size_t)s->n_outputs;
    *change = NULL;
    if (n_maps == 0)
        return QCNN_OK;
    float *small = qcnn_allocate(2 * n_maps * n_maps, sizeof *small);
    *change = qcnn_allocate(n, sizeof **change);
    if (!small || !*change) {
        qcnn_release(small);
        return qcnn_fail_memory(error, n * sizeof **change);
    }
    if (solve_maps(s, small, small + n_maps * n_maps, *change, parallel)) {
        add_change(s, -1, s->gram[0], s->n, *change, s->cross[0], parallel);
        add_change(s, -1, s->held_inputs[0], s->n_held, *change, s->held_residual[0], parallel);
    } else {
        qcnn_release(*change);
        *change = NULL;
    }
    qcnn_release(small);
    return QCNN_OK;
}

static qcnn_status find_target(qcnn_statistics *s, float *diagonal, float *d, float *change, const qcnn_parallel *parallel,
                               qcnn_error *error)
{
    const size_t n = (size_t)s->n * (size_t)s->n_outputs;
    double ridge = (s->n < DEAR ? 1 : 9) * (double)s->n / (double)s->n_rows; // AlexNet's layers take 9 or 27
    if (s->n_held > 0 && s->n < CHOOSE_BELOW)
        QCNN_TRY(choose_ridge(s, diagonal, d, parallel, &ridge, error));
    if (change) // errors are told against the layer's own weights
        add_change(s, 1, s->held_inputs[0], s->n_held, change, s->held_residual[0], parallel);
    for (int g = 0; g < s->groups; g++) {
        if (!solve_shift(s, g, ridge, diagonal, s->cross[g], (size_t)s->n_outputs, parallel))
            memset(s->cross[g], 0, n * sizeof(float)); // the weights as they were are a target too
        for (size_t i = 0; i < n; i++)
            s->cross[g][i] += s->weights[g][i] + (change ? change[i] : 0);
    }
    return QCNN_OK;
}

qcnn_status qcnn_target_find(qcnn_statistics *s, const qcnn_parallel *parallel, qcnn_error *error)
{
    const size_t n = (size_t)s->n, n_weights = n * (size_t)s->n_outputs;
    bool nothing_to_do = true;
    for (int g = 0; g < s->groups; g++)
        nothing_to_do = nothing_to_do && all_zero(s->cross[g], n_weights);
    if (nothing_to_do) {
        for (int g = 0; g < s->groups; g++)
            memcpy(s->cross[g], s->weights[g], n_weights * sizeof(float));
        return QCNN_OK;
    }
    const size_t n_tried = n * (((size_t)s->n_outputs + chosen_step(s) - 1) / chosen_step(s));
    float *diagonal = qcnn_allocate(n, sizeof *diagonal), *d = s->n < CHOOSE_BELOW ? qcnn_allocate(n_tried, sizeof *d) : NULL;
    qcnn_status status = diagonal && (d || s->n >= CHOOSE_BELOW) ? QCNN_OK : qcnn_fail_memory(error, (n + n_tried) * sizeof *d);
    float *change = NULL;
    if (status == QCNN_OK)
        status = find_map_change(s, parallel, &change, error);
    if (status == QCNN_OK)
        status = find_target(s, diagonal, d, change, parallel, error);
    qcnn_release(change);
    qcnn_release(diagonal);
    qcnn_release(d);
    return status;
}

// ---- moments from few samples ---------------------------------------------------------------------------------------

// Of two inputs; none where one of them never changes (its deviation is 0).
static double correlation(const qcnn_statistics *s, const double *deviation, size_t i, size_t j)
{
    const double scale = deviation[i] * deviation[j];
    return scale > 0 ? (double)s->gram[0][i * (size_t)s->n + j] / scale : 0;
}

// Correlations between maps, the mean over positions, and between positions, the mean over maps. deviation: [n].
static void find_correlations(const qcnn_statistics *s, const double *deviation, double *maps, double *positions)
{
    const size_t n = (size_t)s->n, n_maps = (size_t)s->n_maps, n_positions = n / n_maps;
    for (size_t a = 0; a < n_maps; a++)
        for (size_t b = 0; b < n_maps; b++)
            for (size_t p = 0; p < n_positions; p++)
                maps[a * n_maps + b] += correlation(s, deviation, a * n_positions + p, b * n_positions + p) / (double)n_positions;
    for (size_t a = 0; a < n_maps; a++)
        for (size_t p = 0; p < n_positions; p++)
            for (size_t q = 0; q < n_positions; q++)
                positions[p * n_positions + q] += correlation(s, deviation, a * n_positions + p, a * n_positions + q) / (double)n_maps;
}

// The correlation of two inputs is nearly that of their maps times that of their positions, and these are known from far more numbers. So
// G moves towards such products, the more the fewer rows it has; its diagonal stays.
static qcnn_status shrink_to_products(qcnn_statistics *s, qcnn_error *error)
{
    const size_t n = (size_t)s->n, n_maps = (size_t)s->n_maps, n_positions = n / n_maps;
    const size_t n_numbers = n + n_maps * n_maps + n_positions * n_positions;
    const double weight = 2.0 * s->n / (2.0 * s->n + (double)s->n_rows);
    float *gram = s->gram[0];
    double *deviation = qcnn_allocate_zeroed(n_numbers, sizeof *deviation);
    if (!deviation)
        return qcnn_fail_memory(error, n_numbers * sizeof *deviation);
    double *maps = deviation + n, *positions = maps + n_maps * n_maps;
    const double least = 1e-9 * mean_diagonal(s, 0); // of an input that never changes rounding leaves less, of either sign
    for (size_t i = 0; i < n; i++)
        deviation[i] = (double)gram[i * n + i] > least ? sqrt((double)gram[i * n + i]) : 0;
    find_correlations(s, deviation, maps, positions);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            const double product = maps[i / n_positions * n_maps + j / n_positions] *
                                   positions[i % n_positions * n_positions + j % n_positions] * deviation[i] * deviation[j];
            if (i != j)
                gram[i * n + j] = (float)((1 - weight) * (double)gram[i * n + j] + weight * product);
        }
    qcnn_release(deviation);
    return QCNN_OK;
}

qcnn_status qcnn_target_shrink(qcnn_statistics *s, qcnn_error *error)
{
    const size_t n = (size_t)s->n;
    if (s->n_maps > 1)
        QCNN_TRY(shrink_to_products(s, error));
    // Rows of a fully-connected layer are few images seen some times; where they are not shrunk to products, that is all there is.
    const double strength = s->positions > 1 || s->n_maps > 1 ? 0.2 : 1, shrink = strength * s->n / (s->n + (double)s->n_rows);
    for (int g = 0; g < s->groups; g++) {
        const double mean = mean_diagonal(s, g), floor = (0.1 * shrink + 1e-4) * mean + 1e-20;
        float *gram = s->gram[g];
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                gram[i * n + j] = i == j ? gram[i * n + j] + (float)floor : gram[i * n + j] * (float)(1 - shrink);
    }
    return QCNN_OK;
}
