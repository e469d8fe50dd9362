// SPDX-License-Identifier: Apache-2.0
// How much an error in a layer's responses shows in the network's output.

#ifndef QCNN_COMPRESS_SENSITIVITY_H
#define QCNN_COMPRESS_SENSITIVITY_H

#include "compress/samples.h"
#include "compress/statistics.h"

// The divergence (nats, mean over samples) of the network's output that a unit of response error of node `node` causes: the response
// error being sum over outputs o of d_o^T G d_o, G = s->gram, for an error d of the weights. Measured with a small random d on
// n_samples held-out samples, or where none are held out on others. What does not end in a
// softmax is taken for logits; with several outputs the result is 0, not known. Errors: those of qcnn_samples_read, MEMORY.
qcnn_status qcnn_sensitivity(const qcnn_model *original, size_t node, const qcnn_statistics *s, const qcnn_samples *samples, int n_samples,
                             uint64_t seed, const qcnn_parallel *parallel, double *sensitivity, qcnn_error *error);

#endif
