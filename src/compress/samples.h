// SPDX-License-Identifier: Apache-2.0
// Calibration samples: preprocessed crops of the images of a data set, by number. The first ones are the central crops of all
// images, those that follow are cut at random places and half of them mirrored, round after round over the images.
// A sample depends on the data set, the seed and its number alone.
//
// Every tenth image is held out: never fitted to, only used to choose between results and to estimate how good they are.

#ifndef QCNN_COMPRESS_SAMPLES_H
#define QCNN_COMPRESS_SAMPLES_H

#include "base/status.h"
#include "model/model.h"
#include "qcnn_compress.h"

typedef enum qcnn_part { QCNN_PART_FIT, QCNN_PART_HELD_OUT } qcnn_part;

typedef struct qcnn_samples {
    const qcnn_dataset *dataset;
    qcnn_preprocess preprocess;
    qcnn_shape shape;  // of one sample: 1 x channels x height x width, the model's input
    size_t n_elements; // floats of one sample
    uint64_t seed;
    int n_images[2]; // of each part
    int *order[2];   // of each part: indices of its images, shuffled, so that the first samples are a fair choice
} qcnn_samples;

// `preprocess` NULL: the model's own preprocessing. The data set must outlive the samples. On failure *samples is zeroed.
// Errors: ARGUMENT (no preprocessing, or one that does not fit the model's input; no images), FORMAT, UNSUPPORTED (a model with more
// than one input), MEMORY.
qcnn_status qcnn_samples_open(const qcnn_model *model, const qcnn_dataset *dataset, const char *preprocess, uint64_t seed,
                              qcnn_samples *samples, qcnn_error *error);
void qcnn_samples_close(qcnn_samples *samples); // zeroed ones are fine

// Sample `index` (0 or more; below n_images[part] the central crops) into room for n_elements floats, (channels, height, width).
// The part must have images. Safe from several threads at once.
// Errors (with the image's name): IO, FORMAT, UNSUPPORTED, MEMORY, ARGUMENT (an image that preprocessing makes no input of).
qcnn_status qcnn_samples_read(const qcnn_samples *samples, qcnn_part part, int64_t index, float *tensor, qcnn_error *error);

#endif
