// SPDX-License-Identifier: Apache-2.0
// What all importers do to a model after it is built and before it is prepared.

#ifndef QCNN_IMPORT_SIMPLIFY_H
#define QCNN_IMPORT_SIMPLIFY_H

#include "base/status.h"
#include "model/model.h"

// Folds constant channel-wise products and sums (BatchNorm, Scale, biases) and zero padding into the convolution or
// fully-connected layer beside them, fuses activations, drops nodes, values and tensors that no output needs, makes node
// names unique and sets original_bytes. The shapes of all values must be set.
qcnn_status qcnn_simplify(qcnn_model *model, qcnn_error *error);

#endif
