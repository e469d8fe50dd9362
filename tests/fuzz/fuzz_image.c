// SPDX-License-Identifier: Apache-2.0
// Any bytes as a photo, then through a preprocessing of two resizes.

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const qcnn_preprocess preprocess = {
        .resize_shorter = { 16, 32 }, .n_resizes = 2, .crop = 28, .n_channels = 3, .bgr = 1, .std = { 1, 1, 1 }
    };
    static float tensor[3 * 28 * 28];
    qcnn_image image;
    if (qcnn_image_decode(data, size, 1 << 18, &image, NULL) != QCNN_OK)
        return 0;
    qcnn_preprocess_image(&preprocess, &image, tensor, NULL);
    qcnn_image_free(&image);
    return 0;
}
