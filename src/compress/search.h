// SPDX-License-Identifier: Apache-2.0
// Settings for all layers under one size: a price on bits, in divergence of the network's output, is the only unknown. At a price each
// layer has a best setting; the price is raised until the file is small enough.

#ifndef QCNN_COMPRESS_SEARCH_H
#define QCNN_COMPRESS_SEARCH_H

#include "compress/judge.h"
#include "compress/settings.h"
#include "qcnn_compress.h"

typedef struct qcnn_search qcnn_search;

// Surveys the original and tries settings on each layer's windows. `fixed`: settings named by the caller are kept. With a checkpoint what
// was found out is kept beside it, and not found out again. Errors: those of qcnn_survey_make; IO.
qcnn_status qcnn_search_new(const qcnn_model *original, const qcnn_samples *samples, const qcnn_judge *judge,
                            const qcnn_compress_options *options, const qcnn_layer_setting *fixed, qcnn_search **search, qcnn_error *error);
void qcnn_search_free(qcnn_search *search);

// About how much top-1 (0..1, see judge.h) goes with a divergence of 1.
double qcnn_search_drop_rate(const qcnn_search *search);

// What is expected of the settings that were chosen last.
typedef struct qcnn_search_result {
    double price;      // divergence per bit
    double file_bytes; // of the whole file
    double divergence; // sum over layers
} qcnn_search_result;

// settings[n_nodes] for a file of so many bytes, or for so much divergence: the best at one price. Errors: ARGUMENT (no file can be
// that small, or need be that large).
qcnn_status qcnn_search_for_bytes(const qcnn_search *search, double file_bytes, qcnn_layer_setting *settings, qcnn_search_result *result,
                                  qcnn_error *error);
qcnn_status qcnn_search_for_divergence(const qcnn_search *search, double divergence, qcnn_layer_setting *settings,
                                       qcnn_search_result *result, qcnn_error *error);

#endif
