// SPDX-License-Identifier: Apache-2.0
// The target of a layer that reads feature maps: an error that is the same at all positions is made up for from few samples, and the
// statistics are as before afterwards.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/rng.h"
#include "compress/blas.h"
#include "compress/target.h"

enum { MAPS = 6, POSITIONS = 8, N = MAPS * POSITIONS, OUTPUTS = 10, ROWS = 60, HELD = 40 };

typedef struct layer {
    float weights[N * OUTPUTS], gram[N * N], cross[N * OUTPUTS], held_inputs[HELD * N], held_residual[HELD * OUTPUTS], maps[MAPS * MAPS];
    float *matrices[5];
    qcnn_statistics statistics;
} layer;

static float gauss(qcnn_rng *rng)
{
    return (float)(sqrt(-2 * log(1 - qcnn_rng_unit(rng))) * cos(6.283185307179586 * qcnn_rng_unit(rng)));
}

// A row of inputs as the layer had them, o, and as it gets them, x: at each position o is `mix` x.
static void draw(qcnn_rng *rng, const float mix[MAPS][MAPS], float *x, float *delta)
{
    for (int i = 0; i < N; i++)
        x[i] = gauss(rng);
    for (int c = 0; c < MAPS; c++)
        for (int p = 0; p < POSITIONS; p++) {
            delta[c * POSITIONS + p] = -x[c * POSITIONS + p];
            for (int k = 0; k < MAPS; k++)
                delta[c * POSITIONS + p] += mix[c][k] * x[k * POSITIONS + p];
        }
}

static void respond(const layer *l, const float *x, float *y)
{
    for (int o = 0; o < OUTPUTS; o++) {
        y[o] = 0;
        for (int i = 0; i < N; i++)
            y[o] += x[i] * l->weights[i * OUTPUTS + o];
    }
}

// Means are nought, or nearly.
static void make_layer(layer *l, int n_maps)
{
    memset(l, 0, sizeof *l);
    qcnn_rng rng = { 5 };
    float mix[MAPS][MAPS], x[N], delta[N], residual[OUTPUTS];
    for (int i = 0; i < MAPS; i++)
        for (int j = 0; j < MAPS; j++)
            mix[i][j] = (i == j ? 0.8f : 0) + 0.2f * gauss(&rng);
    for (int i = 0; i < N * OUTPUTS; i++)
        l->weights[i] = gauss(&rng);
    for (int row = 0; row < ROWS; row++) {
        draw(&rng, mix, x, delta);
        respond(l, delta, residual);
        for (int i = 0; i < N; i++) {
            for (int j = 0; j < N; j++)
                l->gram[i * N + j] += x[i] * x[j] / ROWS;
            for (int o = 0; o < OUTPUTS; o++)
                l->cross[i * OUTPUTS + o] += x[i] * residual[o] / ROWS;
        }
        for (int i = 0; i < MAPS; i++)
            for (int j = 0; j < MAPS; j++)
                for (int p = 0; p < POSITIONS; p++)
                    l->maps[i * MAPS + j] += x[i * POSITIONS + p] * delta[j * POSITIONS + p] / ROWS;
    }
    for (int row = 0; row < HELD; row++) {
        draw(&rng, mix, l->held_inputs + row * N, delta);
        respond(l, delta, l->held_residual + row * OUTPUTS);
    }
    float *const matrices[] = { l->weights, l->gram, l->cross, l->held_inputs, l->held_residual };
    memcpy(l->matrices, matrices, sizeof matrices);
    l->statistics = (qcnn_statistics){ .groups = 1,
                                       .n = N,
                                       .n_outputs = OUTPUTS,
                                       .n_rows = ROWS,
                                       .positions = 1,
                                       .weights = &l->matrices[0],
                                       .gram = &l->matrices[1],
                                       .cross = &l->matrices[2],
                                       .n_held = HELD,
                                       .held_inputs = &l->matrices[3],
                                       .held_residual = &l->matrices[4],
                                       .n_maps = n_maps,
                                       .map_cross = l->maps };
}

static void test_maps_share_what_they_learn(void **state)
{
    (void)state;
    double before, left[2];
    layer l, fresh;
    for (int i = 0; i < 2; i++) {
        make_layer(&l, i == 1 ? MAPS : 0);
        fresh = l;
        assert_int_equal(qcnn_response_error(&l.statistics, l.statistics.weights, NULL, &before, NULL), QCNN_OK);
        assert_int_equal(qcnn_target_find(&l.statistics, NULL, NULL), QCNN_OK);
        assert_int_equal(qcnn_response_error(&l.statistics, l.statistics.cross, NULL, &left[i], NULL), QCNN_OK);
        for (int j = 0; j < HELD * OUTPUTS; j++)
            assert_true(fabsf(l.held_residual[j] - fresh.held_residual[j]) < 1e-4f);
        for (int j = 0; j < N * N; j++)
            assert_true(fabsf(l.gram[j] - fresh.gram[j]) < 1e-5f);
    }
    assert_true(left[0] < before && left[1] < 0.01 * before && left[1] < 0.1 * left[0]);
}

// Correlation of numbers i and j of a row.
static double correlation(int i, int j, double of_neighbours)
{
    return pow(of_neighbours, abs(i - j));
}

// Inputs whose correlations are products: numbers that follow each other in a row, in both directions.
static void draw_products(qcnn_rng *rng, float *x)
{
    static const float maps = 0.8f, positions = 0.6f;
    for (int i = 0; i < N; i++)
        x[i] = gauss(rng);
    for (int i = 0; i < N; i++)
        if (i % POSITIONS > 0)
            x[i] = positions * x[i - 1] + sqrtf(1 - positions * positions) * x[i];
    for (int i = POSITIONS; i < N; i++)
        x[i] = maps * x[i - POSITIONS] + sqrtf(1 - maps * maps) * x[i];
}

// Mean squared error of the shrunk moments.
static double error_of_shrunk(int n_maps)
{
    static float gram[N * N];
    float x[N], *matrix = gram;
    qcnn_rng rng = { 9 };
    memset(gram, 0, sizeof gram);
    for (int row = 0; row < ROWS; row++) {
        draw_products(&rng, x);
        for (int i = 0; i < N * N; i++)
            gram[i] += x[i / N] * x[i % N] / ROWS;
    }
    qcnn_statistics s = { .groups = 1, .n = N, .n_outputs = OUTPUTS, .n_rows = ROWS, .gram = &matrix, .n_maps = n_maps };
    assert_int_equal(qcnn_target_shrink(&s, NULL), QCNN_OK);
    double sum = 0;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            const double wanted = correlation(i / POSITIONS, j / POSITIONS, 0.8) * correlation(i % POSITIONS, j % POSITIONS, 0.6);
            sum += pow((double)gram[i * N + j] - wanted, 2) / (N * N);
            assert_true(gram[i * N + j] == gram[j * N + i]);
        }
    assert_true(qcnn_cholesky(N, gram, N, NULL));
    return sum;
}

static void test_moments_of_maps_shrink_to_products(void **state)
{
    (void)state;
    assert_true(error_of_shrunk(MAPS) < 0.6 * error_of_shrunk(0));
}

// An input that never changes has a moment of nothing but rounding, of either sign.
static void test_moments_of_an_input_that_never_changes(void **state)
{
    (void)state;
    static float gram[N * N];
    float *matrix = gram;
    for (int sign = -1; sign <= 1; sign++) {
        for (int i = 0; i < N * N; i++)
            gram[i] = i / N == 1 || i % N == 1 ? (float)sign * 1e-20f : i / N == i % N ? 1 : 0.25f;
        qcnn_statistics s = { .groups = 1, .n = N, .n_outputs = OUTPUTS, .n_rows = ROWS, .gram = &matrix, .n_maps = MAPS };
        assert_int_equal(qcnn_target_shrink(&s, NULL), QCNN_OK);
        for (int i = 0; i < N * N; i++)
            assert_true(isfinite(gram[i]));
        assert_true(fabsf(gram[1]) < 1e-6f);
        assert_true(qcnn_cholesky(N, gram, N, NULL));
    }
}

int main(void)
{
    qcnn_blas_start();
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_maps_share_what_they_learn),
                                        cmocka_unit_test(test_moments_of_an_input_that_never_changes),
                                        cmocka_unit_test(test_moments_of_maps_shrink_to_products) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
