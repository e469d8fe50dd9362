// SPDX-License-Identifier: Apache-2.0
// Decoding an image file of any supported kind, told by its first bytes and never by its name.

#include "image/image.h"

#include <string.h>

#include "base/checked.h"
#include "base/memory.h"
#include "image/read_file.h"

enum { DEFAULT_MAX_PIXELS = 50 * 1000 * 1000, MAX_FILE_BYTES = 512 << 20 };

qcnn_status qcnn_image_check_size(const char *format, uint64_t width, uint64_t height, uint64_t max_pixels, uint64_t n_bytes,
                                  uint64_t pixels_per_byte, qcnn_error *error)
{
    const uint64_t always_fine = 1 << 20; // a small picture need not pay for its headers
    uint64_t n_pixels, bound;
    if (!qcnn_multiply(width, height, &n_pixels) || n_pixels > max_pixels)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "%s: declares %llu x %llu pixels, more than the limit of %llu", format,
                         (unsigned long long)width, (unsigned long long)height, (unsigned long long)max_pixels);
    if (n_pixels > always_fine && qcnn_multiply(n_bytes, pixels_per_byte, &bound) && n_pixels > bound)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "%s: declares %llu x %llu pixels, which its %llu bytes cannot hold: broken or cut off",
                         format, (unsigned long long)width, (unsigned long long)height, (unsigned long long)n_bytes);
    return QCNN_OK;
}

qcnn_status qcnn_image_decode(const void *data, size_t n_bytes, uint64_t max_pixels, qcnn_image *image, qcnn_error *error)
{
    static const uint8_t png_signature[8] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n' };
    static const uint8_t jpeg_start[3] = { 0xff, 0xd8, 0xff };

    if (!image || (!data && n_bytes > 0))
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "qcnn_image_decode: a pointer is null");
    *image = (qcnn_image){ 0 };
    if (max_pixels == 0)
        max_pixels = DEFAULT_MAX_PIXELS;
    int orientation = 1;
    if (n_bytes >= sizeof png_signature && memcmp(data, png_signature, sizeof png_signature) == 0)
        QCNN_TRY(qcnn_decode_png(data, n_bytes, max_pixels, image, &orientation, error));
    else if (n_bytes >= sizeof jpeg_start && memcmp(data, jpeg_start, sizeof jpeg_start) == 0)
        QCNN_TRY(qcnn_decode_jpeg(data, n_bytes, max_pixels, image, &orientation, error));
    else
        return qcnn_fail(error, QCNN_ERROR_FORMAT, n_bytes ? "not a JPEG or PNG image" : "not an image: the file is empty");
    const qcnn_status status = qcnn_image_orient(image, orientation, error);
    if (status != QCNN_OK)
        qcnn_image_free(image);
    return status;
}

qcnn_status qcnn_image_read(const char *path, qcnn_image *image, qcnn_error *error)
{
    if (!path || !image)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "qcnn_image_read: a pointer is null");
    *image = (qcnn_image){ 0 };
    uint8_t *data;
    size_t n_bytes;
    QCNN_TRY(qcnn_read_whole_file(path, MAX_FILE_BYTES, &data, &n_bytes, error));
    qcnn_error inner;
    qcnn_status status = qcnn_image_decode(data, n_bytes, 0, image, &inner);
    if (status != QCNN_OK)
        status = qcnn_fail(error, status, "%s: %s", path, inner.message);
    qcnn_release(data);
    return status;
}

void qcnn_image_free(qcnn_image *image)
{
    if (!image)
        return;
    qcnn_release(image->pixels);
    *image = (qcnn_image){ 0 };
}
