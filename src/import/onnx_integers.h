// SPDX-License-Identifier: Apache-2.0
// Shape arithmetic: ONNX operators on integer tensors, which are all constant, computed while importing.

#ifndef QCNN_IMPORT_ONNX_INTEGERS_H
#define QCNN_IMPORT_ONNX_INTEGERS_H

#include "import/onnx.h"

qcnn_status qcnn_onnx_fold_pair(onnx_import *import);    // Add, Sub, ..., Equal, And: two operands that broadcast
qcnn_status qcnn_onnx_fold_single(onnx_import *import);  // Abs, Neg, Not
qcnn_status qcnn_onnx_fold_shape(onnx_import *import);   // Shape, Size: of any tensor
qcnn_status qcnn_onnx_fold_reshape(onnx_import *import); // Reshape, Flatten, Squeeze, Unsqueeze
qcnn_status qcnn_onnx_fold_concat(onnx_import *import);
qcnn_status qcnn_onnx_fold_gather(onnx_import *import);
qcnn_status qcnn_onnx_fold_slice(onnx_import *import);
qcnn_status qcnn_onnx_fold_where(onnx_import *import);
qcnn_status qcnn_onnx_fold_range(onnx_import *import);
qcnn_status qcnn_onnx_fold_expand(onnx_import *import);
qcnn_status qcnn_onnx_fold_reduce(onnx_import *import);   // ReduceProd, ReduceSum over everything
qcnn_status qcnn_onnx_fold_identity(onnx_import *import); // Identity, Dropout's like
qcnn_status qcnn_onnx_fold_cast(onnx_import *import);
qcnn_status qcnn_onnx_fold_constant_of_shape(onnx_import *import);

// ---- shared with the float forms (onnx_shape.c) ---------------------------------------------------------------------

// The shape that Reshape, Flatten, Squeeze or Unsqueeze, the node in hand, gives a tensor of shape `from`.
qcnn_status qcnn_onnx_new_shape(onnx_import *import, const qcnn_shape *from, qcnn_shape *to);

// Slice's ranges, one for each dimension of `from`: begin in range, step not 0, `count` of elements (0: empty).
typedef struct onnx_range {
    int64_t begin, step, count;
} onnx_range;
qcnn_status qcnn_onnx_ranges(onnx_import *import, const qcnn_shape *from, onnx_range ranges[QCNN_MAX_RANK]);

#endif
