// SPDX-License-Identifier: Apache-2.0
// Pixels to the tensor a network reads: resizes, central crop, channel order, mean and standard deviation. With resample.c
// needs libc and libm only, so that apps compile the two alone.

#include <stdbool.h>

#include "base/memory.h"
#include "image/crop.h"
#include "image/resample.h"

enum { MAX_TARGET_SIDE = 1 << 15 };

static const uint64_t max_resized_pixels = 100 * 1000 * 1000;

// One grey byte a pixel, by Pillow's weights (ITU-R 601 in 16 bits).
static qcnn_status make_grey(qcnn_picture *image, qcnn_error *error)
{
    const size_t n_pixels = (size_t)image->width * (size_t)image->height;
    uint8_t *grey = qcnn_allocate(n_pixels, 1);
    if (!grey)
        return qcnn_fail_memory(error, n_pixels);
    const uint8_t *from = image->bytes;
    for (size_t i = 0; i < n_pixels; i++, from += image->stride)
        grey[i] = (uint8_t)((from[0] * 19595u + from[1] * 38470u + from[2] * 7471u + 0x8000u) >> 16);
    *image = (qcnn_picture){ image->width, image->height, 1, 1, grey, NULL, grey };
    return QCNN_OK;
}

// The sides after a resize that makes the shorter one `shorter` long.
static void scaled_sides(int64_t *width, int64_t *height, int shorter)
{
    int64_t *const small = *width < *height ? width : height, *const large = small == width ? height : width;
    *large = (2 * *large * shorter + *small) / (2 * *small); // to nearest
    *small = shorter;
}

static qcnn_status check(const qcnn_preprocess *preprocess, int width, int height, qcnn_error *error)
{
    bool valid = preprocess->n_resizes >= 0 && preprocess->n_resizes <= QCNN_MAX_RESIZES && preprocess->crop >= 0 &&
                 preprocess->crop <= MAX_TARGET_SIDE && (preprocess->n_channels == 1 || preprocess->n_channels == 3);
    for (int i = 0; valid && i < preprocess->n_resizes; i++)
        valid = preprocess->resize_shorter[i] >= 1 && preprocess->resize_shorter[i] <= MAX_TARGET_SIDE;
    for (int c = 0; valid && c < preprocess->n_channels; c++)
        valid = preprocess->std[c] != 0;
    if (!valid)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "preprocessing: a field of qcnn_preprocess is out of range");
    if (width < 1 || height < 1)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "preprocessing: the image has no pixels");
    return QCNN_OK;
}

// Of a picture of these sides, what a crop of `crop` pixels keeps: the middle where `place` is NULL. All of it where crop is 0.
static qcnn_status kept_window(int crop, const qcnn_crop *place, int64_t width, int64_t height, qcnn_window *kept, qcnn_error *error)
{
    if (width < crop || height < crop)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT,
                         "preprocessing: the image has %lld x %lld pixels after resizing, fewer than the crop of %d: raise resize_shorter",
                         (long long)width, (long long)height, crop);
    if ((crop == 0 && (uint64_t)width * (uint64_t)height > max_resized_pixels) || width > INT32_MAX || height > INT32_MAX)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "preprocessing: the image would have %lld x %lld pixels after resizing",
                         (long long)width, (long long)height);
    if (crop == 0)
        *kept = (qcnn_window){ 0, 0, (int)width, (int)height };
    else if (!place)
        *kept = (qcnn_window){ (int)((width - crop) / 2), (int)((height - crop) / 2), crop, crop };
    else
        *kept = (qcnn_window){ (int)(place->x * (double)(width - crop + 1)), (int)(place->y * (double)(height - crop + 1)), crop, crop };
    return QCNN_OK;
}

qcnn_status qcnn_preprocess_size(const qcnn_preprocess *preprocess, int width, int height, int *tensor_width, int *tensor_height,
                                 qcnn_error *error)
{
    if (!preprocess || !tensor_width || !tensor_height)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "qcnn_preprocess_size: a pointer is null");
    *tensor_width = *tensor_height = 0;
    QCNN_TRY(check(preprocess, width, height, error));
    int64_t scaled_width = width, scaled_height = height;
    qcnn_window kept = { 0 };
    for (int i = 0; i < preprocess->n_resizes; i++) {
        scaled_sides(&scaled_width, &scaled_height, preprocess->resize_shorter[i]);
        if (i + 1 < preprocess->n_resizes) // what lies between two resizes is computed in full
            QCNN_TRY(kept_window(0, NULL, scaled_width, scaled_height, &kept, error));
    }
    QCNN_TRY(kept_window(preprocess->crop, NULL, scaled_width, scaled_height, &kept, error));
    *tensor_width = kept.width;
    *tensor_height = kept.height;
    return QCNN_OK;
}

static qcnn_status resize_all(const qcnn_preprocess *preprocess, const qcnn_crop *place, qcnn_picture *image, qcnn_error *error)
{
    for (int i = 0; i < preprocess->n_resizes; i++) {
        int64_t width = image->width, height = image->height;
        scaled_sides(&width, &height, preprocess->resize_shorter[i]);
        if (width == image->width && height == image->height)
            continue; // not touched
        qcnn_window kept;
        QCNN_TRY(kept_window(i + 1 == preprocess->n_resizes ? preprocess->crop : 0, place, width, height, &kept, error));
        QCNN_TRY(qcnn_resample(image, width, height, kept, error));
    }
    return QCNN_OK;
}

// The crop at `place` (of a picture that is cut already, all of it), normalised, channel after channel: a grey picture fills all.
static qcnn_status fill_tensor(const qcnn_preprocess *preprocess, const qcnn_crop *place, const qcnn_picture *image, float *tensor,
                               qcnn_error *error)
{
    qcnn_window kept;
    QCNN_TRY(kept_window(preprocess->crop, place, image->width, image->height, &kept, error));
    for (int c = 0; c < preprocess->n_channels; c++) {
        const float mean = preprocess->mean[c], std = preprocess->std[c];
        const int source = image->channels == 1 ? 0 : preprocess->bgr ? 2 - c : c;
        for (int y = 0; y < kept.height; y++) {
            const size_t first = ((size_t)(kept.y + y) * (size_t)image->width + (size_t)kept.x) * (size_t)image->stride + (size_t)source;
            for (size_t x = 0; x < (size_t)kept.width; x++) {
                const size_t column = place && place->flip ? (size_t)kept.width - 1 - x : x;
                const size_t i = first + column * (size_t)image->stride;
                *tensor++ = ((image->bytes ? (float)image->bytes[i] : image->floats[i]) - mean) / std;
            }
        }
    }
    return QCNN_OK;
}

qcnn_status qcnn_preprocess_crop(const qcnn_preprocess *preprocess, const qcnn_image *image, const qcnn_crop *crop, float *tensor,
                                 qcnn_error *error)
{
    if (!preprocess || !image || !tensor || !image->pixels)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "qcnn_preprocess_image: a pointer is null");
    if (image->channels != 1 && image->channels != 3 && image->channels != 4)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "preprocessing: an image of %d channels, where 1, 3 or 4 are known", image->channels);
    int width, height; // checks everything once, before work begins
    QCNN_TRY(qcnn_preprocess_size(preprocess, image->width, image->height, &width, &height, error));
    qcnn_picture current = { image->width, image->height, image->channels == 1 ? 1 : 3, image->channels, image->pixels, NULL, NULL };
    qcnn_status status = QCNN_OK;
    if (preprocess->n_channels == 1 && current.channels == 3)
        status = make_grey(&current, error);
    if (status == QCNN_OK)
        status = resize_all(preprocess, crop, &current, error);
    if (status == QCNN_OK)
        status = fill_tensor(preprocess, crop, &current, tensor, error);
    qcnn_release(current.owned);
    return status;
}

qcnn_status qcnn_preprocess_image(const qcnn_preprocess *preprocess, const qcnn_image *image, float *tensor, qcnn_error *error)
{
    return qcnn_preprocess_crop(preprocess, image, NULL, tensor, error);
}
