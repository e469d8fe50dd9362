// SPDX-License-Identifier: Apache-2.0
// How far the responses of layers are off in the finished network, where correction could not tell: layers that were trained together,
// or after it.

#ifndef QCNN_COMPRESS_RESPONSE_H
#define QCNN_COMPRESS_RESPONSE_H

#include "compress/samples.h"

// Fills in the errors of codebooks that have none: the squared difference from the original's response, each layer reading what its own
// network gives it, over the variance of that response, on held-out samples. No activation. Both models prepared, over the same graph.
// Errors: MEMORY, CANCELLED, those of qcnn_samples_read.
qcnn_status qcnn_response_errors(const qcnn_model *original, qcnn_model *compressed, const qcnn_samples *samples,
                                 const qcnn_parallel *parallel, const qcnn_progress *progress, qcnn_error *error);

#endif
