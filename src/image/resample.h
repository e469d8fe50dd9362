// SPDX-License-Identifier: Apache-2.0
// Scaling pictures with a triangle filter that is as wide as the reduction: plain bilinear interpolation where the picture
// grows, an average over the covered area where it shrinks.

#ifndef QCNN_IMAGE_RESAMPLE_H
#define QCNN_IMAGE_RESAMPLE_H

#include "base/status.h"

// Rows of pixels without gaps between rows; neighbours in a row are `stride` elements apart. Exactly one of `bytes` and
// `floats` is set, on the 0..255 scale both; `owned` is what to release, NULL where the pixels are someone else's.
typedef struct qcnn_picture {
    int width, height, channels, stride;
    const uint8_t *bytes;
    const float *floats;
    void *owned;
} qcnn_picture;

typedef struct qcnn_window {
    int x, y, width, height;
} qcnn_window;

// Replaces the picture by the part `kept` of it scaled to width x height; only what is kept is computed. Bytes that shrink
// stay bytes and equal Pillow's BILINEAR to the bit (rounded after each of two passes). All else becomes floats, without
// rounding. On failure (MEMORY) the picture is still whole.
qcnn_status qcnn_resample(qcnn_picture *picture, int64_t width, int64_t height, qcnn_window kept, qcnn_error *error);

#endif
