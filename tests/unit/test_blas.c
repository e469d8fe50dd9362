// SPDX-License-Identifier: Apache-2.0
// The tiled linear algebra against plain loops, and the same bits on any number of threads.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
// cmocka.h needs some of the above
#include <cmocka.h>

#include "base/memory.h"
#include "base/rng.h"
#include "compress/blas.h"
#include "qcnn_compress.h"

static float *random_matrix(size_t n, uint64_t seed)
{
    float *a = qcnn_allocate(n, sizeof *a);
    assert_non_null(a);
    qcnn_rng rng = { seed };
    for (size_t i = 0; i < n; i++)
        a[i] = (float)(qcnn_rng_unit(&rng) - 0.5);
    return a;
}

static void test_gemm(void **state)
{
    (void)state;
    enum { M = 70, N = 530, K = 33, LD = 600 };
    float *a = random_matrix((size_t)LD * LD, 1), *b = random_matrix((size_t)LD * LD, 2), *c = random_matrix((size_t)LD * LD, 3);
    float *expected = qcnn_allocate((size_t)LD * LD, sizeof(float));
    for (int kind = 0; kind < 4; kind++) {
        const bool ta = kind & 1, tb = kind & 2;
        memcpy(expected, c, (size_t)LD * LD * sizeof(float));
        for (int i = 0; i < M; i++)
            for (int j = 0; j < N; j++) {
                double sum = 0;
                for (int k = 0; k < K; k++)
                    sum += (double)(ta ? a[k * LD + i] : a[i * LD + k]) * (double)(tb ? b[j * LD + k] : b[k * LD + j]);
                expected[i * LD + j] = (float)(2 * sum + 0.5 * (double)c[i * LD + j]);
            }
        const qcnn_gemm_call call = { .transpose_a = ta,
                                      .transpose_b = tb,
                                      .m = M,
                                      .n = N,
                                      .k = K,
                                      .alpha = 2,
                                      .beta = 0.5f,
                                      .a = a,
                                      .b = b,
                                      .lda = LD,
                                      .ldb = LD,
                                      .c = c,
                                      .ldc = LD };
        qcnn_gemm(&call, NULL);
        for (int i = 0; i < LD * LD; i++)
            assert_true(fabsf(expected[i] - c[i]) < 1e-4f);
    }
    qcnn_release(a);
    qcnn_release(b);
    qcnn_release(c);
    qcnn_release(expected);
}

// G x = b for G = A^T A, and G itself, on so many threads.
static void solve(int n, int n_columns, const qcnn_parallel *parallel, float *gram, float *x)
{
    float *a = random_matrix((size_t)n * 2 * (size_t)n, 4);
    memset(gram, 0, (size_t)n * (size_t)n * sizeof *gram);
    qcnn_gram_add(n, 2 * n, 1, a, (size_t)n, gram, (size_t)n, parallel);
    qcnn_mirror_upper(n, gram, (size_t)n, parallel);
    float *u = qcnn_allocate((size_t)n * (size_t)n, sizeof *u), *b = random_matrix((size_t)n * (size_t)n_columns, 5);
    memcpy(u, gram, (size_t)n * (size_t)n * sizeof *u);
    memcpy(x, b, (size_t)n * (size_t)n_columns * sizeof *x);
    assert_true(qcnn_cholesky(n, u, (size_t)n, parallel));
    qcnn_cholesky_solve(n, u, (size_t)n, n_columns, x, (size_t)n_columns, parallel);
    for (int i = 0; i < n; i += 97)
        for (int j = 0; j < n_columns; j += 31) {
            double sum = 0, g = 0;
            for (int k = 0; k < n; k++)
                sum += (double)gram[(size_t)i * (size_t)n + (size_t)k] * (double)x[(size_t)k * (size_t)n_columns + (size_t)j];
            assert_true(fabs(sum - (double)b[(size_t)i * (size_t)n_columns + (size_t)j]) < 1e-3);
            const int column = j < n ? j : 0;
            for (int k = 0; k < 2 * n; k++)
                g += (double)a[(size_t)k * (size_t)n + (size_t)i] * (double)a[(size_t)k * (size_t)n + (size_t)column];
            assert_true(fabs(g - (double)gram[(size_t)i * (size_t)n + (size_t)column]) < 1e-3);
        }
    qcnn_release(a);
    qcnn_release(b);
    qcnn_release(u);
}

static void test_cholesky_on_any_threads(void **state)
{
    (void)state;
    enum { N = 701, COLUMNS = 150 };
    float *gram[2], *x[2];
    for (int i = 0; i < 2; i++) {
        gram[i] = qcnn_allocate((size_t)N * N, sizeof(float));
        x[i] = qcnn_allocate((size_t)N * COLUMNS, sizeof(float));
        qcnn_pool *pool;
        assert_int_equal(qcnn_pool_create(1 + 2 * i, &pool, NULL), QCNN_OK);
        solve(N, COLUMNS, qcnn_pool_hook(pool), gram[i], x[i]);
        qcnn_pool_free(pool);
    }
    assert_memory_equal(gram[0], gram[1], (size_t)N * N * sizeof(float));
    assert_memory_equal(x[0], x[1], (size_t)N * COLUMNS * sizeof(float));
    for (int i = 0; i < 2; i++) {
        qcnn_release(gram[i]);
        qcnn_release(x[i]);
    }
}

static void test_not_positive_definite(void **state)
{
    (void)state;
    float a[4] = { 1, 2, 2, 1 };
    assert_false(qcnn_cholesky(2, a, 2, NULL));
}

int main(void)
{
    qcnn_blas_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gemm),
        cmocka_unit_test(test_cholesky_on_any_threads),
        cmocka_unit_test(test_not_positive_definite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
