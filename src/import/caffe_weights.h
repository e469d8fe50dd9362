// SPDX-License-Identifier: Apache-2.0
// Weights from a .caffemodel, by layer name.

#ifndef QCNN_IMPORT_CAFFE_WEIGHTS_H
#define QCNN_IMPORT_CAFFE_WEIGHTS_H

#include "base/status.h"
#include "import/protobuf.h"
#include "model/model.h"

enum { CAFFE_MAX_BLOBS = 4 }; // of one layer

typedef struct caffe_layer_weights {
    qcnn_span name;
    qcnn_span blobs[CAFFE_MAX_BLOBS]; // BlobProto messages
    int n_blobs;
} caffe_layer_weights;

typedef struct caffe_weights {
    caffe_layer_weights *layers;
    size_t n_layers, capacity;
} caffe_weights;

// Finds the layers that have weights, in the current and the older ("V1") form. Spans refer to `file`. Free the result with
// qcnn_release(weights->layers) on success and failure alike.
qcnn_status qcnn_caffe_find_weights(qcnn_span file, caffe_weights *weights, qcnn_error *error);

// Those of layer `name`; NULL when it has none.
const caffe_layer_weights *qcnn_caffe_layer(const caffe_weights *weights, qcnn_span name);

// The numbers of a blob as a tensor of `shape`, of which it must have exactly as many: referring to the file where it can.
qcnn_status qcnn_caffe_tensor(const caffe_layer_weights *layer, int blob, const qcnn_shape *shape, qcnn_tensor *tensor, qcnn_error *error);

#endif
