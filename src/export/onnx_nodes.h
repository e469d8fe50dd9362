// SPDX-License-Identifier: Apache-2.0
// The operators of a model as ONNX nodes.

#ifndef QCNN_EXPORT_ONNX_NODES_H
#define QCNN_EXPORT_ONNX_NODES_H

#include "export/protobuf_write.h"
#include "model/model.h"

enum { QCNN_EXPORT_NAME_BYTES = QCNN_MAX_NAME + 64 };

// The name of value `index` in the file: graph inputs and outputs keep theirs, others are numbered.
void qcnn_export_value_name(const qcnn_model *model, int index, char name[QCNN_EXPORT_NAME_BYTES]);

// Appends the ONNX nodes for node `index`, and the initializers that they need, to the GraphProto in `graph`.
qcnn_status qcnn_export_node(const qcnn_model *model, int index, qcnn_buffer *graph, qcnn_error *error);

#endif
