// SPDX-License-Identifier: Apache-2.0
// The last step of a compression: what makes the file smaller without changing the network, and its exact size.

#ifndef QCNN_COMPRESS_FINISH_H
#define QCNN_COMPRESS_FINISH_H

#include "model/model.h"

// Sorts the codewords of all codebooks that the model owns by use (for entropy coding), stores the biases of layers with codebooks as
// float16 where `half_biases`, and sets the stored bytes of all tensors. May be called again after changes. Errors: MEMORY.
qcnn_status qcnn_model_finish(qcnn_model *model, bool half_biases, qcnn_error *error);

#endif
