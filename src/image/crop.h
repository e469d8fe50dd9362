// SPDX-License-Identifier: Apache-2.0
// Preprocessing that cuts elsewhere than in the middle: more samples out of few calibration images.

#ifndef QCNN_IMAGE_CROP_H
#define QCNN_IMAGE_CROP_H

#include <stdbool.h>

#include "qcnn_image.h"

// Where the crop lies: x and y in [0, 1) run over all positions that the resized image allows, left to right and top to
// bottom. `flip` mirrors it left to right.
typedef struct qcnn_crop {
    double x, y;
    bool flip;
} qcnn_crop;

// As qcnn_preprocess_image; `crop` NULL: the central one. Where the preprocessing cuts nothing, only `flip` counts.
qcnn_status qcnn_preprocess_crop(const qcnn_preprocess *preprocess, const qcnn_image *image, const qcnn_crop *crop, float *tensor,
                                 qcnn_error *error);

#endif
