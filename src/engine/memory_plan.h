// SPDX-License-Identifier: Apache-2.0
// Placing buffers that live for a part of a run into one block of memory, those that never meet in the same place.

#ifndef QCNN_ENGINE_MEMORY_PLAN_H
#define QCNN_ENGINE_MEMORY_PLAN_H

#include "base/memory.h"

typedef struct qcnn_span {
    uint64_t bytes;
    int first, last; // steps during which it is in use, both inclusive
    uint64_t offset; // the result, a multiple of 64
} qcnn_span;

// Sets all offsets so that no two buffers in use during the same step overlap, and *total to the bytes needed.
// Errors: MEMORY (also when the sizes do not fit 64 bits).
qcnn_status qcnn_plan_memory(qcnn_span *buffers, size_t n, uint64_t *total, qcnn_error *error);

#endif
