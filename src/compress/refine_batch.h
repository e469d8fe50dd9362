// SPDX-License-Identifier: Apache-2.0
// The images of a training batch: crops, varied, so that few photographs ask many questions.

#ifndef QCNN_COMPRESS_REFINE_BATCH_H
#define QCNN_COMPRESS_REFINE_BATCH_H

#include "compress/refine.h"
#include "compress/train.h"

typedef struct qcnn_refine_batch {
    const qcnn_samples *samples;
    const qcnn_refine_options *options;
    qcnn_trainer *trainer; // whose input is filled
    float *images;         // [workers][3][n_elements]
    qcnn_error *errors;    // [batch]
} qcnn_refine_batch;

qcnn_status qcnn_refine_batch_open(const qcnn_samples *samples, const qcnn_refine_options *options, qcnn_trainer *trainer,
                                   qcnn_refine_batch *batch, qcnn_error *error);
void qcnn_refine_batch_close(qcnn_refine_batch *batch);

// The batch of training step `step` (from 0), a function of the seed and the step.
qcnn_status qcnn_refine_batch_fill(qcnn_refine_batch *batch, int step, qcnn_error *error);

// Samples first.. of a part as they are; those at `end` and beyond repeat the last.
qcnn_status qcnn_refine_batch_plain(qcnn_refine_batch *batch, qcnn_part part, int first, int end, qcnn_error *error);

#endif
