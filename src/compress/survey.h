// SPDX-License-Identifier: Apache-2.0
// What the search for settings knows about the layers of a network: a few windows of each, small layers of their own on which
// settings are tried, and how much an error in the layer's responses matters at the network's output.

#ifndef QCNN_COMPRESS_SURVEY_H
#define QCNN_COMPRESS_SURVEY_H

#include "compress/judge.h"
#include "compress/statistics.h"
#include "qcnn_compress.h"

enum { QCNN_SURVEY_WINDOWS = 4 };

// A layer: some of its input channels (the same of each group), all taps and outputs.
typedef struct qcnn_surveyed_layer {
    size_t node;
    int n_windows;                                // 0: not surveyed, the layer is left as it is
    int width;                                    // channels of a window
    qcnn_statistics windows[QCNN_SURVEY_WINDOWS]; // their moments, made ready for a fit
    double share;                                 // windows' weights / the layer's
    float *importance;                            // [outputs of all groups], of their response errors, mean 1; NULL: all 1
    double sensitivity; // divergence of the output per unit of objective: squared response errors of a row times importance, summed
} qcnn_surveyed_layer;

typedef struct qcnn_survey {
    qcnn_surveyed_layer *layers; // [n_layers], nodes with constant weights that nothing else reads
    int n_layers;
    double drop_per_divergence; // about: of the noise that sensitivities are measured with
} qcnn_survey;

// Surveys the prepared original on the fit part of the samples; the judge must be of the held-out part. Errors: those of
// qcnn_samples_read, MEMORY, CANCELLED.
qcnn_status qcnn_survey_make(const qcnn_model *original, const qcnn_samples *samples, const qcnn_judge *judge, uint64_t seed,
                             const qcnn_parallel *parallel, const qcnn_progress *progress, qcnn_survey *survey, qcnn_error *error);
void qcnn_survey_free(qcnn_survey *survey);

#endif
