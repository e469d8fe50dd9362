// SPDX-License-Identifier: Apache-2.0
// A stage of refinement: a student, and activations of crops with what the original makes of them.

#ifndef QCNN_COMPRESS_REFINE_STAGE_H
#define QCNN_COMPRESS_REFINE_STAGE_H

#include "compress/refine.h"
#include "compress/refine_cache.h"

typedef struct qcnn_refine_run {
    const char *name;
    const qcnn_refine_options *options;
    const qcnn_refine_stage *stage;
    qcnn_trainer *student;
    qcnn_trainer *teacher; // never run: it holds the original's activations, from the caches
    const qcnn_refine_cache *training, *held_out;
    double planned_seconds;             // that the steps should take; 0: not said. A stage that will take much longer says so
    const char *checkpoint;             // NULL, or the file that keeps the state; a whole one for this start is gone on from
    double divergence[2], agreement[2]; // at the start, and of the state kept
    int best_step;
} qcnn_refine_run;

// Trains. The student ends in the best of the states that were looked at, its start among them.
qcnn_status qcnn_refine_train(qcnn_refine_run *run, qcnn_error *error);

#endif
