// SPDX-License-Identifier: Apache-2.0
// Tidying a model after its nodes were joined.

#ifndef QCNN_IMPORT_SWEEP_H
#define QCNN_IMPORT_SWEEP_H

#include "base/status.h"
#include "model/model.h"

// Drops nodes with op QCNN_N_OPS and all nodes, values and tensors that no graph output needs, makes node names unique (a
// number is added) and sets original_bytes.
qcnn_status qcnn_sweep(qcnn_model *model, qcnn_error *error);

#endif
