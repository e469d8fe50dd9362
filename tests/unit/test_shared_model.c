// SPDX-License-Identifier: Apache-2.0
// One model shared by 16 threads gives every thread the same bits (scripts/test.sh runs this under ThreadSanitizer too), and
// loading, running and freeing many times keeps no memory. QCNN_TEST_LONG=1 takes the numbers of the reliability table.

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "container_samples.h"

enum { N_THREADS = 16, N_INPUT = 3, N_OUTPUT = 4 };

static const float tiny_input[N_INPUT] = { 0.5f, -1.25f, 2 };

static bool is_long(void)
{
    return getenv("QCNN_TEST_LONG") != NULL;
}

static bytes tiny_file(void)
{
    return save_and_free(tiny());
}

typedef struct thread_job {
    const qcnn_model *model;
    int n_runs;
    float expected[N_OUTPUT];
    bool same;
} thread_job;

static void *run_many(void *argument)
{
    thread_job *job = argument;
    qcnn_session *session;
    if (qcnn_session_create(job->model, NULL, &session, NULL) != QCNN_OK)
        return NULL;
    job->same = true;
    for (int i = 0; i < job->n_runs; i++) {
        float output[N_OUTPUT];
        qcnn_run(session, (const float *const[]){ tiny_input }, (float *const[]){ output });
        job->same = job->same && !memcmp(output, job->expected, sizeof output);
    }
    qcnn_session_free(session);
    return NULL;
}

static void sixteen_threads_share_a_model(void **state)
{
    (void)state;
    const bytes file = tiny_file();
    qcnn_model *model;
    assert_int_equal(qcnn_model_load(file.data, file.n, NULL, &model, NULL), QCNN_OK);
    qcnn_session *session;
    assert_int_equal(qcnn_session_create(model, NULL, &session, NULL), QCNN_OK);
    thread_job jobs[N_THREADS];
    pthread_t threads[N_THREADS];
    memset(jobs, 0, sizeof jobs);
    qcnn_run(session, (const float *const[]){ tiny_input }, (float *const[]){ jobs[0].expected });
    qcnn_session_free(session);
    for (int i = 0; i < N_THREADS; i++) {
        memcpy(jobs[i].expected, jobs[0].expected, sizeof jobs[i].expected);
        jobs[i].model = model;
        jobs[i].n_runs = 10000 / N_THREADS;
        assert_int_equal(pthread_create(&threads[i], NULL, run_many, &jobs[i]), 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(jobs[i].same);
    }
    qcnn_model_free(model);
    qcnn_bytes_free(file.data);
}

// Resident memory of this process in bytes.
static long resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    long total = 0, resident = 0;
    if (file) {
        if (fscanf(file, "%ld %ld", &total, &resident) != 2)
            resident = 0;
        fclose(file);
    }
    return resident * sysconf(_SC_PAGESIZE);
}

static void load_run_free(const bytes *file, int n_loads, int n_runs)
{
    for (int i = 0; i < n_loads; i++) {
        qcnn_model *model;
        qcnn_session *session;
        assert_int_equal(qcnn_model_load(file->data, file->n, NULL, &model, NULL), QCNN_OK);
        assert_int_equal(qcnn_session_create(model, NULL, &session, NULL), QCNN_OK);
        float output[N_OUTPUT];
        for (int run = 0; run < n_runs; run++)
            qcnn_run(session, (const float *const[]){ tiny_input }, (float *const[]){ output });
        qcnn_session_free(session);
        qcnn_model_free(model);
    }
}

static void memory_does_not_grow(void **state)
{
    (void)state;
    const bytes file = tiny_file();
    const int n_loads = is_long() ? 10000 : 1000;
    load_run_free(&file, 100, 10); // what the C library keeps for itself
    const long before = resident_bytes();
    load_run_free(&file, n_loads, 10);
    const long grown = resident_bytes() - before;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__) // sanitizers keep freed memory
    assert_true(grown < 1 << 20);
#else
    (void)grown;
#endif
    qcnn_bytes_free(file.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sixteen_threads_share_a_model),
        cmocka_unit_test(memory_does_not_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
