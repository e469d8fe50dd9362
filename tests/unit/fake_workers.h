// SPDX-License-Identifier: Apache-2.0
// A parallel hook without threads that shows what real ones might: tasks in reverse order, workers in rotation, so that a
// result that depends on either becomes visible.

#ifndef QCNN_TESTS_FAKE_WORKERS_H
#define QCNN_TESTS_FAKE_WORKERS_H

#include "qcnn.h"

typedef struct fake_workers {
    int n_workers;
    int n_calls; // how often the hook was asked
} fake_workers;

static inline void fake_workers_run(void *context, int n_tasks, void (*task)(void *argument, int index, int worker), void *argument)
{
    fake_workers *workers = context;
    workers->n_calls++;
    for (int i = n_tasks - 1; i >= 0; i--)
        task(argument, i, (i + workers->n_calls) % workers->n_workers);
}

static inline qcnn_parallel fake_workers_hook(fake_workers *workers)
{
    return (qcnn_parallel){ fake_workers_run, workers, workers->n_workers };
}

#endif
