// SPDX-License-Identifier: Apache-2.0
// A pool of threads behind the qcnn_parallel hook. The thread that calls `run` is worker 0 and takes its share; the others
// wait until there is a job and join it if any of it is left by then. They watch for a while before they sleep, because a
// network runs as dozens of jobs a few microseconds apart and waking takes longer than those. Only one job runs at a time: a run from
// inside a task, or from a second thread while the pool is taken, is done in order by its caller.
//
// Each worker begins with its own share of the tasks, the same part of 0..n-1 in every job: what one layer of a network has written stays
// in the cache of the core that reads it in the next. When it is done it helps others, but only those that are late: fetching their
// data takes longer than waiting a moment.

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "qcnn_compress.h"

// Looks at the pool before a thread sleeps: some 50 to 150 microseconds. And at another's share before it is helped: a tenth of that.
enum { MAX_THREADS = 1024, SPINS = 4000, PATIENCE = 400 };

typedef struct pool_job {
    void (*task)(void *argument, int index, int worker);
    void *argument;
} pool_job;

// Tasks next..end-1 are left of a worker's share; a cache line of its own.
typedef struct pool_share {
    _Alignas(64) atomic_llong next; // wider than an index, because each worker reaches past the end once
    long long end;
} pool_share;

typedef struct pool_thread {
    qcnn_pool *pool;
    int worker;
    pthread_t handle;
} pool_thread;

struct qcnn_pool {
    qcnn_parallel hook;
    pthread_mutex_t mutex; // guards what follows, down to the threads
    pthread_cond_t wake;   // there is a job, or the pool ends
    pthread_cond_t left;   // the last worker has left the job
    pool_job *job;         // NULL: none; on the stack of its caller
    int n_asleep;          // workers that wait for `wake`
    bool taken;
    atomic_int n_inside;  // workers in the job, its caller not counted; changed under the mutex, watched without
    atomic_uint n_posted; // jobs so far, and the end: likewise
    bool ending;
    int n_started;
    pool_share *shares;    // of each worker, in the job
    pool_thread threads[]; // workers 1..n_workers-1
};

static inline void rest_a_moment(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static bool is_left(const pool_share *share)
{
    return atomic_load(&share->next) < share->end;
}

static void work(const qcnn_pool *pool, const pool_job *job, int worker)
{
    const int n = pool->hook.n_workers;
    for (int i = 0; i < n; i++) {
        pool_share *share = &pool->shares[(worker + i) % n];
        for (int j = 0; i > 0 && j < PATIENCE && is_left(share); j++)
            rest_a_moment();
        long long index;
        while (is_left(share) && (index = atomic_fetch_add(&share->next, 1)) < share->end)
            job->task(job->argument, (int)index, worker);
    }
}

static bool has_work(const qcnn_pool *pool)
{
    bool has = false;
    for (int i = 0; pool->job && !has && i < pool->hook.n_workers; i++)
        has = is_left(&pool->shares[i]);
    return has;
}

static void *thread_main(void *argument)
{
    const pool_thread *self = argument;
    qcnn_pool *pool = self->pool;
    pthread_mutex_lock(&pool->mutex);
    for (;;) {
        for (int i = 0; i < SPINS && !pool->ending && !has_work(pool);) {
            const unsigned seen = atomic_load(&pool->n_posted);
            pthread_mutex_unlock(&pool->mutex);
            for (i = 0; i < SPINS && atomic_load(&pool->n_posted) == seen; i++)
                rest_a_moment();
            pthread_mutex_lock(&pool->mutex);
        }
        pool->n_asleep++;
        while (!pool->ending && !has_work(pool))
            pthread_cond_wait(&pool->wake, &pool->mutex);
        pool->n_asleep--;
        if (pool->ending)
            break;
        const pool_job *job = pool->job;
        atomic_fetch_add(&pool->n_inside, 1);
        pthread_mutex_unlock(&pool->mutex);
        work(pool, job, self->worker);
        pthread_mutex_lock(&pool->mutex);
        if (atomic_fetch_sub(&pool->n_inside, 1) == 1)
            pthread_cond_signal(&pool->left);
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

static void pool_run(void *context, int n_tasks, void (*task)(void *argument, int index, int worker), void *argument)
{
    qcnn_pool *pool = context;
    pool_job job = { task, argument };

    pthread_mutex_lock(&pool->mutex);
    const bool mine = !pool->taken;
    if (mine) {
        pool->taken = true;
        pool->job = &job;
        for (long long i = 0, n = pool->hook.n_workers; i < n; i++) {
            atomic_store(&pool->shares[i].next, n_tasks * i / n);
            pool->shares[i].end = n_tasks * (i + 1) / n;
        }
        atomic_fetch_add(&pool->n_posted, 1);
        if (pool->n_asleep > 0)
            pthread_cond_broadcast(&pool->wake);
    }
    pthread_mutex_unlock(&pool->mutex);

    if (!mine) {
        for (int index = 0; index < n_tasks; index++)
            task(argument, index, 0);
        return;
    }
    work(pool, &job, 0);

    pthread_mutex_lock(&pool->mutex);
    pool->job = NULL; // nobody joins any more
    pthread_mutex_unlock(&pool->mutex);
    for (int i = 0; i < SPINS && atomic_load(&pool->n_inside) > 0; i++)
        rest_a_moment();
    pthread_mutex_lock(&pool->mutex);
    while (atomic_load(&pool->n_inside) > 0)
        pthread_cond_wait(&pool->left, &pool->mutex);
    pool->taken = false;
    pthread_mutex_unlock(&pool->mutex);
}

// The number of workers a request for `n_threads` means; 0 if it cannot be had.
static int count_workers(int n_threads)
{
    if (n_threads == 0) {
        const long n_processors = sysconf(_SC_NPROCESSORS_ONLN);
        return n_processors < 1 ? 1 : n_processors > MAX_THREADS ? MAX_THREADS : (int)n_processors;
    }
    return n_threads < 0 || n_threads > MAX_THREADS ? 0 : n_threads;
}

qcnn_status qcnn_pool_create(int n_threads, qcnn_pool **result, qcnn_error *error)
{
    *result = NULL;
    const int n_workers = count_workers(n_threads);
    if (n_workers == 0)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "%d threads asked for: 1 to %d are possible, 0 means one per processor", n_threads,
                         MAX_THREADS);
    const size_t n_bytes = sizeof(qcnn_pool) + (size_t)(n_workers - 1) * sizeof(pool_thread);
    qcnn_pool *pool = qcnn_allocate_zeroed(1, n_bytes);
    pool_share *shares = qcnn_allocate_zeroed((size_t)n_workers, sizeof *shares);
    if (!pool || !shares) {
        qcnn_release(pool);
        qcnn_release(shares);
        return qcnn_fail_memory(error, n_bytes);
    }
    pool->shares = shares;
    pool->hook = (qcnn_parallel){ pool_run, pool, n_workers };
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->left, NULL);
    for (int worker = 1; worker < n_workers; worker++) {
        pool_thread *thread = &pool->threads[worker - 1];
        *thread = (pool_thread){ .pool = pool, .worker = worker };
        const int code = pthread_create(&thread->handle, NULL, thread_main, thread);
        if (code != 0) {
            qcnn_pool_free(pool);
            return qcnn_fail(error, QCNN_ERROR_MEMORY, "thread %d of %d could not be started: %s", worker + 1, n_workers, strerror(code));
        }
        pool->n_started++;
    }
    *result = pool;
    return QCNN_OK;
}

const qcnn_parallel *qcnn_pool_hook(const qcnn_pool *pool)
{
    return pool ? &pool->hook : NULL;
}

void qcnn_pool_free(qcnn_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->mutex);
    pool->ending = true;
    atomic_fetch_add(&pool->n_posted, 1);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
    for (int i = 0; i < pool->n_started; i++)
        pthread_join(pool->threads[i].handle, NULL);
    pthread_cond_destroy(&pool->left);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    qcnn_release(pool->shares);
    qcnn_release(pool);
}
