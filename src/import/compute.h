// SPDX-License-Identifier: Apache-2.0
// Computing one node now, while a model is being built, with the engine's own kernels.

#ifndef QCNN_IMPORT_COMPUTE_H
#define QCNN_IMPORT_COMPUTE_H

#include "model/model.h"

// Runs a node with `op`, `attributes` and `n` inputs of the given shapes and data into `output`, which has room for the
// inferred shape's elements. The error names `name`.
qcnn_status qcnn_compute_node(qcnn_op op, const char *name, const qcnn_attributes *attributes, const qcnn_shape *const *shapes,
                              const float *const *inputs, int n, float *output, qcnn_error *error);

#endif
