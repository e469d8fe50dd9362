// SPDX-License-Identifier: Apache-2.0
// What the image decoders share. Each takes bytes that it does not trust and gives a picture in the file's own orientation,
// with the EXIF orientation beside it.

#ifndef QCNN_IMAGE_IMAGE_H
#define QCNN_IMAGE_IMAGE_H

#include "base/status.h"
#include "qcnn_image.h"

// Refuses pictures that declare more than `max_pixels`, or more than their bytes can hold when a byte holds at most
// `pixels_per_byte` (the format's best possible compression): called before anything is allocated.
qcnn_status qcnn_image_check_size(const char *format, uint64_t width, uint64_t height, uint64_t max_pixels, uint64_t n_bytes,
                                  uint64_t pixels_per_byte, qcnn_error *error);

// Grey or RGB; *orientation is 1..8. On failure the image is zeroed.
qcnn_status qcnn_decode_jpeg(const uint8_t *data, size_t n_bytes, uint64_t max_pixels, qcnn_image *image, int *orientation,
                             qcnn_error *error);
qcnn_status qcnn_decode_png(const uint8_t *data, size_t n_bytes, uint64_t max_pixels, qcnn_image *image, int *orientation,
                            qcnn_error *error);

// The orientation (1..8) in a block of EXIF data, which starts with its TIFF header; 1 where there is none or it is broken.
int qcnn_exif_orientation(const uint8_t *exif, size_t n_bytes);

// Turns the image so that it is seen as it was taken.
qcnn_status qcnn_image_orient(qcnn_image *image, int orientation, qcnn_error *error);

#endif
