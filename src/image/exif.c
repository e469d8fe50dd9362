// SPDX-License-Identifier: Apache-2.0
// EXIF orientation: cameras store the sensor's rows and a tag that says how to turn them. Finding the tag (TIFF 6.0 section 2,
// Exif 2.32 section 4.6.4) and turning the picture.

#include "base/memory.h"
#include "image/image.h"

#include <string.h>

enum { TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3, ENTRY_BYTES = 12 };

static uint32_t tiff_u16(const uint8_t *p, int big_endian)
{
    return big_endian ? (uint32_t)p[0] << 8 | p[1] : (uint32_t)p[1] << 8 | p[0];
}

static uint32_t tiff_u32(const uint8_t *p, int big_endian)
{
    return big_endian ? tiff_u16(p, 1) << 16 | tiff_u16(p + 2, 1) : tiff_u16(p + 2, 0) << 16 | tiff_u16(p, 0);
}

// A TIFF header is: "II" or "MM", 42, offset of the first directory. A directory is: its number of entries, then entries of
// 12 bytes (tag, type, count, value).
int qcnn_exif_orientation(const uint8_t *exif, size_t n_bytes)
{
    if (n_bytes < 8 || (memcmp(exif, "II", 2) != 0 && memcmp(exif, "MM", 2) != 0))
        return 1;
    const int big_endian = exif[0] == 'M';
    const uint32_t directory = tiff_u32(exif + 4, big_endian);
    if (tiff_u16(exif + 2, big_endian) != 42 || directory > n_bytes - 2)
        return 1;
    const uint32_t declared = tiff_u16(exif + directory, big_endian);
    const size_t room = (n_bytes - directory - 2) / ENTRY_BYTES;
    for (size_t i = 0; i < declared && i < room; i++) {
        const uint8_t *entry = exif + directory + 2 + i * ENTRY_BYTES;
        if (tiff_u16(entry, big_endian) != TAG_ORIENTATION)
            continue;
        const uint32_t value = tiff_u16(entry + 8, big_endian);
        const int valid = tiff_u16(entry + 2, big_endian) == TYPE_SHORT && tiff_u32(entry + 4, big_endian) == 1;
        return valid && value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

qcnn_status qcnn_image_orient(qcnn_image *image, int orientation, qcnn_error *error)
{
    if (orientation <= 1 || orientation > 8)
        return QCNN_OK;
    // Which of the stored axes run backwards; in 5..8 the stored columns are moreover the rows of the picture.
    static const uint8_t backwards_x[9] = { 0, 0, 1, 1, 0, 0, 0, 1, 1 };
    static const uint8_t backwards_y[9] = { 0, 0, 0, 1, 1, 0, 1, 1, 0 };
    const int swapped = orientation >= 5;
    const ptrdiff_t width = image->width, height = image->height, channels = image->channels;
    const ptrdiff_t stored_x = backwards_x[orientation] ? -channels : channels;
    const ptrdiff_t stored_y = backwards_y[orientation] ? -channels * width : channels * width;
    const ptrdiff_t step_x = swapped ? stored_y : stored_x, step_y = swapped ? stored_x : stored_y;
    const ptrdiff_t new_width = swapped ? height : width, new_height = swapped ? width : height;

    const size_t n_bytes = (size_t)(width * height * channels);
    uint8_t *turned = qcnn_allocate(n_bytes, 1);
    if (!turned)
        return qcnn_fail_memory(error, n_bytes);
    const uint8_t *first = image->pixels;
    first += backwards_x[orientation] ? (width - 1) * channels : 0;
    first += backwards_y[orientation] ? (height - 1) * width * channels : 0;
    uint8_t *to = turned;
    for (ptrdiff_t y = 0; y < new_height; y++)
        for (ptrdiff_t x = 0; x < new_width; x++, to += channels) {
            const uint8_t *from = first + y * step_y + x * step_x;
            for (ptrdiff_t c = 0; c < channels; c++)
                to[c] = from[c];
        }
    qcnn_release(image->pixels);
    *image = (qcnn_image){ (int)new_width, (int)new_height, image->channels, turned };
    return QCNN_OK;
}
