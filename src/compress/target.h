// SPDX-License-Identifier: Apache-2.0
// From a layer's statistics to the weights it should have and the metric in which they are quantized.

#ifndef QCNN_COMPRESS_TARGET_H
#define QCNN_COMPRESS_TARGET_H

#include "compress/statistics.h"

// Replaces s->cross by the target W* = W + (G + ridge)^-1 cross, which makes up for what the layers before have broken. The ridge is a
// multiple of G's diagonal, since few samples and many inputs overfit; where samples are held out, the multiple that does best
// on them is taken. Where the layer reads feature maps, what one matrix for all positions can make up for, o_p = x_p + C x_p, has so many
// samples that it is taken out first, without a ridge to speak of: W* = W1 + (G + ridge)^-1 (cross - G (W1 - W)), W1 = W + C^T W. Errors:
// MEMORY.
qcnn_status qcnn_target_find(qcnn_statistics *s, const qcnn_parallel *parallel, qcnn_error *error);

// Shrinks G towards its diagonal, the more the fewer rows it was summed over, and makes it positive definite. Where the layer reads feature
// maps, first towards products of correlations between maps and between positions. Errors: MEMORY.
qcnn_status qcnn_target_shrink(qcnn_statistics *s, qcnn_error *error);

// Relative error of the responses that weights w give on held-out rows: sum (T - x w)^2 / sum T^2, means taken out. Where no rows are held
// out that of the weights alone, by the moments as they are: tr (w - W)^T G (w - W) / tr W^T G W. w[g]: n x n_outputs.
qcnn_status qcnn_response_error(const qcnn_statistics *s, float *const *w, const qcnn_parallel *parallel, double *relative,
                                qcnn_error *error);

#endif
