// SPDX-License-Identifier: Apache-2.0
// Putting a quantized layer into the compressed model.

#ifndef QCNN_COMPRESS_INSTALL_H
#define QCNN_COMPRESS_INSTALL_H

#include "base/status.h"
#include "model/model.h"

// Replaces the weights of node `node` by the codebook tensor, which is taken over (zeroed) and given the shape of the weights.
void qcnn_install_codebook(qcnn_model *model, size_t node, qcnn_tensor *tensor);

// Puts `bias` (one float for each output channel, taken over in success and failure alike) in the place of the node's bias, or
// gives the node one. Errors: MEMORY.
qcnn_status qcnn_install_bias(qcnn_model *model, size_t node, float *bias, qcnn_error *error);

#endif
