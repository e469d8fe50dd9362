// SPDX-License-Identifier: Apache-2.0
// A convolution of single samples with both factors rounded to bfloat16, for walks: twice as fast as in float32, and its error (a
// thousandth of a response) is nothing beside what quantization does.

#ifndef QCNN_COMPRESS_CONV_BF16_H
#define QCNN_COMPRESS_CONV_BF16_H

#include "base/status.h"
#include "model/model.h"

typedef struct qcnn_conv_bf16 qcnn_conv_bf16;

// Whether this processor has the instructions, and the node is a convolution in at most two dimensions with constant weights, dense or a
// codebook, that has enough inputs and outputs in a group.
bool qcnn_conv_bf16_suits(const qcnn_model *model, const qcnn_node *node);

// Takes the node's weights as they are now. Errors: MEMORY.
qcnn_status qcnn_conv_bf16_new(const qcnn_model *model, const qcnn_node *node, qcnn_conv_bf16 **conv, qcnn_error *error);
void qcnn_conv_bf16_free(qcnn_conv_bf16 *conv);

// Bytes of scratch memory of one run.
size_t qcnn_conv_bf16_scratch(const qcnn_conv_bf16 *conv);

// y [channels][height][width] of x, with bias and the node's activation.
void qcnn_conv_bf16_run(const qcnn_conv_bf16 *conv, const float *x, float *y, void *scratch);

#endif
