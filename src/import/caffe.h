// SPDX-License-Identifier: Apache-2.0
// The Caffe importer's parts: caffe.c walks the layers of the prototxt in order and keeps track of blobs; caffe_layers.c
// expresses each layer type in our operators; prototxt.c and caffe_weights.c read the two files.

#ifndef QCNN_IMPORT_CAFFE_H
#define QCNN_IMPORT_CAFFE_H

#include "import/caffe_weights.h"
#include "import/prototxt.h"
#include "model/model.h"

enum { CAFFE_MAX_PORTS = 64 }; // bottoms of a layer, or tops

// What a blob's name stands for at this point of the network: layers may write the blob they read.
typedef struct caffe_blob {
    qcnn_span name;
    int value;
    bool is_read;
} caffe_blob;

typedef struct caffe_import {
    prototxt net;
    caffe_weights weights;
    qcnn_model *model;
    caffe_blob *blobs;
    size_t n_blobs, capacity;
    int layer;            // message in `net` being expressed
    qcnn_span name, type; // of that layer
    bool valid;           // no number in the layer was malformed
    int top;              // how many of its tops are bound
    qcnn_error *error;
} caffe_import;

typedef struct caffe_layer_type {
    const char *name, *old_name; // the latter as in the older ("V1") form; NULL: not in it
    const char *parameter;       // the message with its settings, or NULL
    // Adds the layer to the model; `parameter` is that message or -1.
    qcnn_status (*express)(caffe_import *import, int parameter);
} caffe_layer_type;

extern const caffe_layer_type qcnn_caffe_layer_types[]; // ended by a nameless entry

// ---- what layers are written with (caffe.c) -------------------------------------------------------------------------

// Fails, naming the layer and its type.
qcnn_status qcnn_caffe_refuse(caffe_import *import, qcnn_status status, const char *what);

// The value of bottom `index`; fails when there is none.
qcnn_status qcnn_caffe_bottom(caffe_import *import, int index, int *value);
// How many fields `port` ("bottom" or "top") the layer has, at most CAFFE_MAX_PORTS + 1.
int qcnn_caffe_n_ports(const caffe_import *import, const char *port);
// Binds the layer's next top to `value`.
qcnn_status qcnn_caffe_top(caffe_import *import, int value);

// A constant from the layer's weights, or from `data`, which is taken over.
qcnn_status qcnn_caffe_weight(caffe_import *import, int blob, const qcnn_shape *shape, int *value);
qcnn_status qcnn_caffe_constant(caffe_import *import, const qcnn_shape *shape, float *data, int *value);

// Adds a node named as the layer, its shape inferred.
qcnn_status qcnn_caffe_emit(caffe_import *import, qcnn_op op, const int *inputs, int n_inputs, const qcnn_attributes *attributes,
                            int *output);

// Adds a graph input for the layer's next top: `shape` is a message with "dim" fields.
qcnn_status qcnn_caffe_input(caffe_import *import, int shape);

#endif
