// SPDX-License-Identifier: Apache-2.0
// k-means: the best clustering of tiny problems by brute force, exactness, invariants of the result, hostile points.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka.h needs the four above
#include <cmocka.h>

#include "base/rng.h"
#include "compress/kmeans.h"

static qcnn_kmeans *new_problem(int n, int dim, int k)
{
    qcnn_kmeans *problem;
    qcnn_error error;
    assert_int_equal(qcnn_kmeans_new(n, dim, k, &problem, &error), QCNN_OK);
    problem->n = n;
    problem->dim = dim;
    problem->k = k;
    return problem;
}

static float *coordinate(qcnn_kmeans *problem, int point, int d)
{
    return &problem->points[(size_t)d * problem->stride + (size_t)point];
}

static qcnn_kmeans *random_problem(int n, int dim, int k, uint64_t seed)
{
    qcnn_kmeans *problem = new_problem(n, dim, k);
    qcnn_rng rng = { seed };
    for (int i = 0; i < n; i++)
        for (int d = 0; d < dim; d++)
            *coordinate(problem, i, d) = (float)(qcnn_rng_unit(&rng) + qcnn_rng_unit(&rng) - 1);
    return problem;
}

// Squared distance of a point to a codeword, in double.
static double distance(qcnn_kmeans *problem, int point, int k)
{
    double sum = 0;
    for (int d = 0; d < problem->dim; d++) {
        const double e = (double)*coordinate(problem, point, d) - (double)problem->codewords[k * problem->dim + d];
        sum += e * e;
    }
    return sum;
}

// The error of a clustering whose codewords are the means of their points.
static double clustering_error(qcnn_kmeans *problem, const int *cluster)
{
    double error = 0;
    for (int k = 0; k < problem->k; k++)
        for (int d = 0; d < problem->dim; d++) {
            double sum = 0, squares = 0;
            int count = 0;
            for (int i = 0; i < problem->n; i++)
                if (cluster[i] == k) {
                    const double x = (double)*coordinate(problem, i, d);
                    sum += x;
                    squares += x * x;
                    count++;
                }
            error += count ? squares - sum * sum / count : 0;
        }
    return error;
}

static double brute_force(qcnn_kmeans *problem)
{
    enum { MAX_N = 9 };
    int cluster[MAX_N] = { 0 };
    double best = INFINITY;
    for (;;) {
        const double error = clustering_error(problem, cluster);
        best = error < best ? error : best;
        int i = 0;
        while (i < problem->n && ++cluster[i] == problem->k)
            cluster[i++] = 0;
        if (i == problem->n)
            return best;
    }
}

static void test_brute_force(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        qcnn_kmeans *problem = random_problem(9, 1 + (int)(seed % 3), 3, seed);
        const double best = brute_force(problem);
        qcnn_kmeans_run(problem, seed, 20);
        assert_true(problem->error <= best * 1.00001 + 1e-6);
        assert_true(problem->error >= best * 0.99999 - 1e-6);
        qcnn_kmeans_free(problem);
    }
}

// Each point has its nearest codeword, the error is their sum, and every codeword in use has points near its mean.
static void test_result_is_consistent(void **state)
{
    (void)state;
    static const int sizes[][3] = { { 1, 1, 1 },     { 15, 3, 4 },    { 16, 8, 16 },   { 17, 5, 2 },
                                    { 500, 8, 128 }, { 1000, 1, 16 }, { 700, 13, 256 } };
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        qcnn_kmeans *problem = random_problem(sizes[s][0], sizes[s][1], sizes[s][2], s);
        qcnn_kmeans_run(problem, s, 2);
        assert_int_equal(problem->n_used, problem->k);
        int counts[256] = { 0 };
        double error = 0;
        for (int i = 0; i < problem->n; i++) {
            const double mine = distance(problem, i, problem->assignments[i]);
            counts[problem->assignments[i]]++;
            error += mine;
            for (int k = 0; k < problem->k; k++)
                assert_true(mine <= distance(problem, i, k) + 1e-5);
        }
        assert_true(fabs(error - problem->error) <= 1e-4 * error + 1e-9);
        for (int k = 0; k < problem->k; k++)
            assert_true(counts[k] > 0);
        qcnn_kmeans_free(problem);
    }
}

static void test_more_codewords_err_less(void **state)
{
    (void)state;
    double previous = INFINITY;
    for (int k = 1; k <= 256; k *= 2) {
        qcnn_kmeans *problem = random_problem(600, 4, k, 5);
        qcnn_kmeans_run(problem, 1, 3);
        assert_true(problem->error < previous);
        previous = problem->error;
        qcnn_kmeans_free(problem);
    }
}

// Three distinct points, forty times each, and eight codewords: exact with three, the rest zero.
static void test_few_distinct_points(void **state)
{
    (void)state;
    qcnn_kmeans *problem = new_problem(120, 2, 8);
    for (int i = 0; i < 120; i++) {
        *coordinate(problem, i, 0) = 0.1f * (float)(i % 3);
        *coordinate(problem, i, 1) = 1e6f;
    }
    qcnn_kmeans_run(problem, 9, 4);
    assert_int_equal(problem->n_used, 3);
    assert_true(problem->error == 0);
    for (int i = 0; i < 120; i++)
        assert_true(distance(problem, i, problem->assignments[i]) == 0);
    for (int k = 3; k < 8; k++)
        assert_true(problem->codewords[2 * k] == 0 && problem->codewords[2 * k + 1] == 0);
    qcnn_kmeans_free(problem);
}

static void test_as_many_codewords_as_points(void **state)
{
    (void)state;
    qcnn_kmeans *problem = random_problem(37, 3, 37, 4);
    qcnn_kmeans_run(problem, 2, 1);
    assert_int_equal(problem->n_used, 37);
    assert_true(problem->error == 0);
    qcnn_kmeans_free(problem);
}

// A workspace that served larger problems gives what a fresh one gives.
static void test_reuse(void **state)
{
    (void)state;
    qcnn_kmeans *fresh = random_problem(50, 3, 7, 8), *used = random_problem(400, 6, 30, 1);
    qcnn_kmeans_run(used, 3, 2);
    used->n = 50;
    used->dim = 3;
    used->k = 7;
    for (int d = 0; d < 3; d++)
        memcpy(coordinate(used, 0, d), coordinate(fresh, 0, d), 50 * sizeof(float));
    qcnn_kmeans_run(fresh, 11, 3);
    qcnn_kmeans_run(used, 11, 3);
    assert_memory_equal(fresh->codewords, used->codewords, 7 * 3 * sizeof(float));
    assert_memory_equal(fresh->assignments, used->assignments, 50);
    assert_true(fresh->error == used->error);
    qcnn_kmeans_free(fresh);
    qcnn_kmeans_free(used);
}

static void test_hostile_points(void **state)
{
    (void)state;
    static const float values[] = { NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e20f, 1e-45f, 0 };
    for (uint64_t seed = 0; seed < 50; seed++) {
        qcnn_kmeans *problem = random_problem(60, 2, 10, seed);
        qcnn_rng rng = { seed };
        for (int i = 0; i < 40; i++)
            *coordinate(problem, (int)qcnn_rng_below(&rng, 60), i % 2) = values[qcnn_rng_below(&rng, 8)];
        qcnn_kmeans_run(problem, seed, 2);
        assert_in_range(problem->n_used, 1, 10);
        for (int i = 0; i < 60; i++)
            assert_true(problem->assignments[i] < problem->n_used);
        qcnn_kmeans_free(problem);
    }
}

static void test_rng(void **state)
{
    (void)state;
    qcnn_rng rng = { 1234567 }; // the published first outputs of SplitMix64 for this seed
    assert_true(qcnn_rng_next(&rng) == 6457827717110365317u);
    assert_true(qcnn_rng_next(&rng) == 3203168211198807973u);
    int counts[10] = { 0 };
    for (int i = 0; i < 10000; i++) {
        const double unit = qcnn_rng_unit(&rng);
        assert_true(unit >= 0 && unit < 1);
        counts[qcnn_rng_below(&rng, 10)]++;
    }
    for (int i = 0; i < 10; i++)
        assert_in_range(counts[i], 850, 1150);
    assert_true(qcnn_rng_split(1, 2) != qcnn_rng_split(2, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_brute_force),
        cmocka_unit_test(test_result_is_consistent),
        cmocka_unit_test(test_more_codewords_err_less),
        cmocka_unit_test(test_few_distinct_points),
        cmocka_unit_test(test_as_many_codewords_as_points),
        cmocka_unit_test(test_reuse),
        cmocka_unit_test(test_hostile_points),
        cmocka_unit_test(test_rng),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
