// SPDX-License-Identifier: Apache-2.0
// Spreading work over the caller's threads.

#ifndef QCNN_BASE_PARALLEL_H
#define QCNN_BASE_PARALLEL_H

#include "qcnn.h"

static inline int qcnn_n_workers(const qcnn_parallel *parallel)
{
    return parallel && parallel->n_workers > 1 ? parallel->n_workers : 1;
}

// Calls task(argument, index, worker) for every index below n_tasks, in order when there is no hook.
static inline void qcnn_for(const qcnn_parallel *parallel, int n_tasks, void (*task)(void *argument, int index, int worker), void *argument)
{
    if (parallel && parallel->n_workers > 1 && n_tasks > 1) {
        parallel->run(parallel->context, n_tasks, task, argument);
        return;
    }
    for (int index = 0; index < n_tasks; index++)
        task(argument, index, 0);
}

#endif
