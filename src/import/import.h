// SPDX-License-Identifier: Apache-2.0
// What importers offer to the table in import.c.

#ifndef QCNN_IMPORT_IMPORT_H
#define QCNN_IMPORT_IMPORT_H

#include "base/status.h"
#include "import/protobuf.h"
#include "model/model.h"
#include "qcnn_compress.h"

// Reads an ONNX model from its bytes. External data may lie in `folder` (NULL: nowhere). With `outlives` the bytes stay as
// they are until the model is freed, which may refer to them; otherwise it copies. `options` may not be NULL.
qcnn_status qcnn_onnx_read(qcnn_span file, const char *folder, bool outlives, const qcnn_import_options *options, qcnn_model **model,
                           qcnn_error *error);

// Reads a Caffe network from the text of its prototxt and the bytes of its caffemodel, which the model may refer to: they
// must stay as they are until it is freed. `options` may not be NULL.
qcnn_status qcnn_caffe_read(qcnn_span net, qcnn_span weights, const qcnn_import_options *options, qcnn_model **model, qcnn_error *error);

#endif
