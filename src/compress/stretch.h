// SPDX-License-Identifier: Apache-2.0
// A stretch of a network as something to run by itself, one sample after the other: what samples are walked through. Where the processor
// is fast in bfloat16 its convolutions are computed so (conv_bf16.h), all else by sessions of models that hold the nodes between.

#ifndef QCNN_COMPRESS_STRETCH_H
#define QCNN_COMPRESS_STRETCH_H

#include "base/status.h"
#include "model/model.h"

typedef struct qcnn_stretch qcnn_stretch;

// Nodes first..end - 1 of a model that outlives the stretch and whose weights stay what they are meanwhile; wanted[value]: what of the
// values that they write is to be had. Errors: MEMORY, and those of qcnn_model_prepare.
qcnn_status qcnn_stretch_new(const qcnn_model *model, size_t first, size_t end, const bool *wanted, const qcnn_parallel *parallel,
                             qcnn_stretch **stretch, qcnn_error *error);
void qcnn_stretch_free(qcnn_stretch *stretch);

// Whether the stretch reads a value from outside.
bool qcnn_stretch_reads(const qcnn_stretch *stretch, int value);

// How many samples may be run at the same time, each in a lane of its own: workers, or fewer where each needs much memory.
int qcnn_stretch_n_lanes(const qcnn_stretch *stretch);

// Where a lane's run reads or writes a value: to be filled in before for those that it reads; NULL for values that it knows nothing of.
float *qcnn_stretch_value(const qcnn_stretch *stretch, int value, int lane);

// Runs it on one sample.
void qcnn_stretch_run(const qcnn_stretch *stretch, int lane);

#endif
