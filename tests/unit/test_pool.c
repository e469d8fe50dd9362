// SPDX-License-Identifier: Apache-2.0
// The thread pool: every task once, no worker number twice at a time, nested and contended runs, many short jobs.

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
// cmocka.h needs the four above
#include <cmocka.h>

#include "base/parallel.h"
#include "qcnn_compress.h"

enum { N_TASKS = 1000, MAX_WORKERS = 8 };

typedef struct tally {
    atomic_int runs[N_TASKS];
    atomic_int busy[MAX_WORKERS];
    atomic_int clashes, n_done;
    int n_workers;
    const qcnn_parallel *nested;
} tally;

static void count_task(void *argument, int index, int worker)
{
    tally *t = argument;
    if (worker < 0 || worker >= t->n_workers || atomic_fetch_add(&t->busy[worker], 1) != 0)
        atomic_fetch_add(&t->clashes, 1);
    atomic_fetch_add(&t->runs[index], 1);
    atomic_fetch_add(&t->n_done, 1);
    if (worker >= 0 && worker < t->n_workers)
        atomic_fetch_sub(&t->busy[worker], 1);
}

static void expect_each_once(const qcnn_parallel *hook, int n_tasks)
{
    tally *t = calloc(1, sizeof *t);
    t->n_workers = hook->n_workers;
    qcnn_for(hook, n_tasks, count_task, t);
    assert_int_equal(atomic_load(&t->clashes), 0);
    assert_int_equal(atomic_load(&t->n_done), n_tasks);
    for (int i = 0; i < n_tasks; i++)
        assert_int_equal(atomic_load(&t->runs[i]), 1);
    free(t);
}

static qcnn_pool *new_pool(int n_threads)
{
    qcnn_pool *pool;
    qcnn_error error;
    assert_int_equal(qcnn_pool_create(n_threads, &pool, &error), QCNN_OK);
    return pool;
}

static void test_every_task_once(void **state)
{
    (void)state;
    for (int n_threads = 1; n_threads <= MAX_WORKERS; n_threads *= 2) {
        qcnn_pool *pool = new_pool(n_threads);
        assert_int_equal(qcnn_pool_hook(pool)->n_workers, n_threads);
        expect_each_once(qcnn_pool_hook(pool), N_TASKS);
        expect_each_once(qcnn_pool_hook(pool), 1);
        expect_each_once(qcnn_pool_hook(pool), 0);
        qcnn_pool_free(pool);
    }
}

static void test_many_short_jobs(void **state)
{
    (void)state;
    qcnn_pool *pool = new_pool(4);
    for (int i = 0; i < 5000; i++)
        expect_each_once(qcnn_pool_hook(pool), i % 7);
    qcnn_pool_free(pool);
}

static void test_create_and_free(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++)
        qcnn_pool_free(new_pool(4));
    qcnn_pool_free(NULL);
    assert_null(qcnn_pool_hook(NULL));
    qcnn_pool *pool = new_pool(0);
    assert_true(qcnn_pool_hook(pool)->n_workers >= 1);
    qcnn_pool_free(pool);
}

static void nesting_task(void *argument, int index, int worker)
{
    (void)index, (void)worker;
    tally *outer = argument;
    tally *inner = calloc(1, sizeof *inner);
    inner->n_workers = outer->nested->n_workers;
    qcnn_for(outer->nested, 10, count_task, inner);
    if (atomic_load(&inner->n_done) != 10 || atomic_load(&inner->clashes) != 0)
        atomic_fetch_add(&outer->clashes, 1);
    atomic_fetch_add(&outer->n_done, 1);
    free(inner);
}

static void test_nested_run(void **state)
{
    (void)state;
    qcnn_pool *pool = new_pool(4);
    tally *t = calloc(1, sizeof *t);
    t->nested = qcnn_pool_hook(pool);
    qcnn_for(t->nested, 200, nesting_task, t);
    assert_int_equal(atomic_load(&t->n_done), 200);
    assert_int_equal(atomic_load(&t->clashes), 0);
    free(t);
    qcnn_pool_free(pool);
}

// Runs jobs on a pool that another thread uses as well; counts the wrong ones.
static void *contend(void *argument)
{
    const qcnn_parallel *hook = argument;
    intptr_t n_wrong = 0;
    for (int i = 0; i < 500; i++) {
        tally *t = calloc(1, sizeof *t);
        t->n_workers = hook->n_workers;
        qcnn_for(hook, 20, count_task, t);
        n_wrong += atomic_load(&t->n_done) != 20 || atomic_load(&t->clashes) != 0;
        free(t);
    }
    return (void *)n_wrong;
}

static void test_two_callers(void **state)
{
    (void)state;
    qcnn_pool *pool = new_pool(3);
    pthread_t other;
    assert_int_equal(pthread_create(&other, NULL, contend, (void *)(uintptr_t)qcnn_pool_hook(pool)), 0);
    assert_null(contend((void *)(uintptr_t)qcnn_pool_hook(pool)));
    void *wrong;
    pthread_join(other, &wrong);
    assert_null(wrong);
    qcnn_pool_free(pool);
}

static void test_bad_number(void **state)
{
    (void)state;
    qcnn_error error;
    qcnn_pool *pool = (qcnn_pool *)&error;
    assert_int_equal(qcnn_pool_create(-1, &pool, &error), QCNN_ERROR_ARGUMENT);
    assert_null(pool);
    assert_int_equal(qcnn_pool_create(1000000, &pool, &error), QCNN_ERROR_ARGUMENT);
    assert_null(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_task_once), cmocka_unit_test(test_many_short_jobs), cmocka_unit_test(test_create_and_free),
        cmocka_unit_test(test_nested_run),      cmocka_unit_test(test_two_callers),     cmocka_unit_test(test_bad_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
