// SPDX-License-Identifier: Apache-2.0
// Calibrated ranges: what values are, and how large table entries get, when the finished network runs over calibration images.

#ifndef QCNN_COMPRESS_RANGES_H
#define QCNN_COMPRESS_RANGES_H

#include "compress/samples.h"

// Sets the range of each value that is no constant, and the peaks of each codebook that a convolution reads, from a run in floats
// over crops of the images, nine tenths of which stay within (peaks are a fifth lower), and prepares the model with them (`kernels`: "" for
// the best). What is not finite, or the same in all of them, is left unknown. One result for any number of threads. Errors: those of
// qcnn_samples_open and qcnn_samples_read, CANCELLED; the model then has no ranges.
qcnn_status qcnn_find_ranges(qcnn_model *model, const char *kernels, const qcnn_dataset *images, const qcnn_calibrate_options *options,
                             qcnn_error *error);

// Bytes that they will add to the model's file, to within its padding.
uint64_t qcnn_ranges_bytes(const qcnn_model *model);

#endif
