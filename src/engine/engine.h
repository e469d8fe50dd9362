// SPDX-License-Identifier: Apache-2.0
// A session is a list of steps: one node each, with its shapes, buffers and scratch memory fixed when the session is made.
// Each layer type has one file with a plan and a run function; layers.c holds the table.

#ifndef QCNN_ENGINE_ENGINE_H
#define QCNN_ENGINE_ENGINE_H

#include "base/parallel.h"
#include "kernels/kernels.h"
#include "model/model.h"

// How a value lies in memory: as floats, [n][c][...], or as a byte plane, quads [n][ceil(c / 4)][positions][4] of bytes 0..limit
// that stand for scale * byte; bytes of channels that are not there are 0. (planes.c says which value lies how.)
typedef struct qcnn_format {
    float scale; // 0: floats
    int limit;
} qcnn_format;

typedef struct qcnn_operand {
    qcnn_shape shape;
    qcnn_format format;
    const float *data;    // NULL for an absent optional input, for a byte plane, and for weights that are stored as a codebook
    const uint8_t *quads; // NULL for floats; QCNN_PLANE_SLACK bytes behind a byte plane may be read
} qcnn_operand;

enum { QCNN_PLANE_SLACK = 64 };

typedef struct qcnn_step {
    const qcnn_node *node;
    const qcnn_model *model;
    const qcnn_kernels *kernels;
    qcnn_operand *inputs; // node->n_inputs of them
    qcnn_shape output_shape;
    qcnn_format output_format;
    float *output;         // or, as output_format says,
    uint8_t *output_quads; // the one that it is not is NULL
    // Scratch, asked for by plan(): `shared` belongs to the step, each worker w has `worker_bytes` (or more, later) at
    // worker + w * worker_bytes. Both 64-byte aligned, contents undefined at the start of a run.
    size_t shared_bytes, worker_bytes;
    unsigned char *shared, *worker;
    double milliseconds; // of the last run, where the session has a clock
} qcnn_step;

typedef struct qcnn_layer_type {
    void (*plan)(qcnn_step *step); // sets shared_bytes and worker_bytes; may be NULL: none needed. Shapes and formats are set, data is not.
    void (*run)(const qcnn_step *step, const qcnn_parallel *parallel); // writes all of the output
    // Whether the inputs whose formats say so can be byte planes, and whether the output can be one while the other formats are as they
    // are. NULL: no. Formats are as far as planning has come: byte planes may turn back into floats later.
    bool (*reads_quads)(const qcnn_step *step);
    bool (*writes_quads)(const qcnn_step *step);
} qcnn_layer_type;

// The layer type of a node: by its op, and for layers with weights by its method.
const qcnn_layer_type *qcnn_layer_of(const qcnn_node *node);

extern const qcnn_layer_type qcnn_layer_conv_dense, qcnn_layer_conv_bytes, qcnn_layer_conv_lut, qcnn_layer_conv_lut_bytes,
    qcnn_layer_fc_dense, qcnn_layer_fc_lut, qcnn_layer_fc_lut_bytes;

#endif
