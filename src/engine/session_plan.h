// SPDX-License-Identifier: Apache-2.0
// What planning a session knows about values: where each lives, for how long, and in what format.

#ifndef QCNN_ENGINE_SESSION_PLAN_H
#define QCNN_ENGINE_SESSION_PLAN_H

#include "engine/layers.h"
#include "engine/memory_plan.h"

typedef struct qcnn_value_plan {
    int root;                // the value whose memory it uses: itself, unless it is a view or a part of a concatenation
    size_t offset;           // elements from the root's start
    int input;               // graph input that provides the root, or -1
    int output;              // graph output in whose buffer the root lives, or -1
    int producer;            // node that writes the root, or -1
    int first_use, last_use; // of the root: the first node that writes it, the last that reads it
    int buffer;              // of the root, or -1
    qcnn_format format;      // of the root
    int scale_class;         // of the root, while scales are chosen: that of a root with the same scale, or itself
} qcnn_value_plan;

typedef struct qcnn_session_plan {
    qcnn_value_plan *values;
    qcnn_span *buffers; // up to two of each node, output and shared scratch, and the workers' scratch
    int *shared_buffer; // of each node, or -1
    int worker_buffer;
    bool *joined; // of each node: a concatenation whose parts are in place already
    size_t n_buffers;
} qcnn_session_plan;

// Chooses which values live as byte planes and their scales, and sets the formats of roots and steps. Roots and joined concatenations
// are known by then. (planes.c)
void qcnn_choose_planes(const qcnn_model *model, const qcnn_shape *shapes, qcnn_step *steps, qcnn_session_plan *plan);

#endif
