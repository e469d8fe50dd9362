// SPDX-License-Identifier: Apache-2.0
// qcnn_image.h - from a photo to the tensor a network reads. The preprocessing needs no image library, so that apps which
// have decoded pixels already (Android, a browser) use it alone; decoding files is qcnn_image_decode in the same library.

#ifndef QCNN_IMAGE_H
#define QCNN_IMAGE_H

#include "qcnn.h"

#ifdef __cplusplus
extern "C" {
#endif

// 8-bit pixels, row after row without gaps. `channels` is 1 (grey), 3 (RGB) or 4 (RGBA, A ignored by preprocessing).
typedef struct qcnn_image {
    int width, height, channels;
    uint8_t *pixels; // width * height * channels bytes; owned by whoever holds the image, freed by qcnn_image_free
} qcnn_image;

#define QCNN_MAX_RESIZES 4

// A parsed preprocess.json (docs/data.md). All sizes in pixels.
typedef struct qcnn_preprocess {
    int resize_shorter[QCNN_MAX_RESIZES]; // each resize makes the shorter side this long; applied in order
    int n_resizes;
    int crop;        // side of the central square that is kept; 0: no crop
    int n_channels;  // 1 or 3
    int bgr;         // channel order of the tensor (n_channels 3): 1 blue first, 0 red first
    float mean[3], std[3]; // in the tensor's channel order; (pixel - mean) / std, pixels 0..255
} qcnn_preprocess;

// Decodes a JPEG or PNG from memory: EXIF orientation applied, grey kept as 1 channel, alpha blended onto white, 16 bits
// reduced to 8, CMYK refused. Images that declare more than `max_pixels` (0: 50 million) are refused before anything is allocated.
// Errors: FORMAT (not an image, or broken), UNSUPPORTED (a kind that is not decoded), MEMORY.
QCNN_API qcnn_status qcnn_image_decode(const void *data, size_t n_bytes, uint64_t max_pixels, qcnn_image *image, qcnn_error *error);
QCNN_API qcnn_status qcnn_image_read(const char *path, qcnn_image *image, qcnn_error *error); // the same from a file; adds IO
QCNN_API void qcnn_image_free(qcnn_image *image);

// Parses preprocess.json text. Unknown keys, missing ones and values out of range are FORMAT errors that name the key.
QCNN_API qcnn_status qcnn_preprocess_parse(const char *text, size_t n_bytes, qcnn_preprocess *preprocess, qcnn_error *error);

// Height and width of the tensor that an image of these sides becomes: the crop's side, or where nothing is cropped the
// resized image's. Errors: ARGUMENT (the image is smaller than the crop, or would grow out of all bounds).
QCNN_API qcnn_status qcnn_preprocess_size(const qcnn_preprocess *preprocess, int width, int height, int *tensor_width,
                                          int *tensor_height, qcnn_error *error);

// Pixels to a tensor of n_channels x height x width floats (see qcnn_preprocess_size), C, H, W order: the caller's memory.
// Shrinking equals Pillow's BILINEAR to the bit, its rounding to 8 bits included; enlarging is bilinear and not
// rounded. Errors: ARGUMENT (the image is smaller than the crop), MEMORY.
QCNN_API qcnn_status qcnn_preprocess_image(const qcnn_preprocess *preprocess, const qcnn_image *image, float *tensor, qcnn_error *error);

#ifdef __cplusplus
}
#endif
#endif
