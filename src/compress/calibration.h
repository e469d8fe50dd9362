// SPDX-License-Identifier: Apache-2.0
// What calibration images say about one layer after the other: how many samples to take, the walks through the original and the
// compressed network, and the statistics from both.
//
// An image gives a convolution many rows, a fully-connected layer one. So the first walks carry a few thousand samples, and when the
// first layer of few rows is reached, second ones join them with more samples from the images on.

#ifndef QCNN_COMPRESS_CALIBRATION_H
#define QCNN_COMPRESS_CALIBRATION_H

#include "compress/samples.h"
#include "compress/statistics.h"
#include "qcnn_compress.h"

typedef struct qcnn_calibration qcnn_calibration;

// Of the images of options->calibration, with its preprocessing, seed and threads; options must outlive it.
// Errors: those of qcnn_samples_open.
qcnn_status qcnn_calibration_open(const qcnn_model *original, const qcnn_compress_options *options, qcnn_calibration **calibration,
                                  qcnn_error *error);
void qcnn_calibration_close(qcnn_calibration *calibration);

// Frees what a restart does not keep; nothing else may follow.
void qcnn_calibration_rest(qcnn_calibration *calibration);

// From the first node again, as if opened anew; what is known of the original's values at the last stop is kept for layers behind that, so
// that stops from here on must be the same as before where a layer is skipped. Errors: MEMORY.
qcnn_status qcnn_calibration_restart(qcnn_calibration *calibration, const qcnn_compress_options *options, qcnn_error *error);

const qcnn_samples *qcnn_calibration_samples(const qcnn_calibration *calibration);

// From now on the compressed network gives layers other inputs than the original. Its layers up to the last node gathered for must be
// final. To be called again does nothing.
qcnn_status qcnn_calibration_diverge(qcnn_calibration *calibration, const qcnn_model *compressed, qcnn_error *error);

// Statistics of node `node`, to be freed; nodes come in rising order. `progress` may be NULL and is told the layer's name.
// Errors: those of qcnn_samples_read, MEMORY, CANCELLED.
qcnn_status qcnn_calibration_gather(qcnn_calibration *calibration, size_t node, const qcnn_progress *progress, qcnn_statistics *statistics,
                                    qcnn_error *error);

// Walks past node `node` as gathering does, without statistics.
qcnn_status qcnn_calibration_skip(qcnn_calibration *calibration, size_t node, const qcnn_progress *progress, qcnn_error *error);

#endif
