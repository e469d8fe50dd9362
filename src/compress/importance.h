// SPDX-License-Identifier: Apache-2.0
// How much the network's answers depend on each output channel of its layers.

#ifndef QCNN_COMPRESS_IMPORTANCE_H
#define QCNN_COMPRESS_IMPORTANCE_H

#include "compress/samples.h"

// importances[n], for each node n that is a convolution or a fully-connected layer and an array is given (NULL: not wanted; one
// float for each output channel), becomes the mean over samples of the squared derivative of log p(class) by the layer's response
// before its activation, summed over positions, the class drawn from the network's own answer: the diagonal of the Fisher
// information. Half of it times the squared error of the response estimates the divergence that the error causes. The first
// n_samples fitting samples are taken, rounded up to a multiple of 32.
// fishers[n], for each convolution where one is given (`fishers` or the entry NULL: not wanted), becomes the second moments of those
// derivatives between the outputs of a group, summed over positions, [groups][n_outputs][n_outputs], scaled as qcnn_fisher does. Errors:
// UNSUPPORTED (a node that gradients cannot pass), MEMORY, CANCELLED, what samples give.
qcnn_status qcnn_importances(const qcnn_model *model, const qcnn_samples *samples, int n_samples, uint64_t seed,
                             const qcnn_parallel *parallel, const qcnn_progress *progress, float *const *importances, float *const *fishers,
                             qcnn_error *error);

// To mean 1, with a little for channels that the samples never needed. Gives half the mean as it was: what the squared error, weighed by
// the result, is to be multiplied by for the divergence.
double qcnn_importances_normalise(float *importance, size_t n);

// What the network's answers make of the outputs of a fully-connected layer together: fisher, n_outputs x n_outputs, becomes the second
// moments of the same derivatives, scaled to a mean diagonal of 1, with a little added there and a part of all else taken off, as befits
// moments from so few rows. `rows`: what the layer reads, n_rows x its inputs. The class is drawn some times a row. Errors: UNSUPPORTED
// (the answers depend on the image not through this layer alone, a node that gradients cannot pass), MEMORY.
qcnn_status qcnn_fisher(const qcnn_model *model, size_t node, const float *rows, int n_rows, uint64_t seed, const qcnn_parallel *parallel,
                        float *fisher, qcnn_error *error);

#endif
