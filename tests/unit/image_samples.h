// SPDX-License-Identifier: Apache-2.0
// For the image tests: small JPEG and PNG files made on the spot, and an allocator that fails when told to.

#ifndef IMAGE_SAMPLES_H
#define IMAGE_SAMPLES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jpeglib.h>
#include <png.h>

#include "qcnn.h"

// Sanitizers' shadow memory makes peaks meaningless.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MEMORY_IS_SHADOWED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define MEMORY_IS_SHADOWED 1
#endif

typedef struct sample {
    uint8_t *data;
    size_t n_bytes;
} sample;

// A smooth picture with some texture: element c of pixel (x, y).
static inline uint8_t sample_pixel(int x, int y, int c)
{
    return (uint8_t)(x * 7 + y * 5 * (c + 1) + (x * y * 31 + c * 77) % 23);
}

typedef struct jpeg_options {
    int progressive, cmyk, n_scans;          // n_scans: 0, or so many scans of a progressive file
    int orientation, orientation_big_endian; // 0: no EXIF
} jpeg_options;

static inline void write_exif(struct jpeg_compress_struct *jpeg, int orientation, int big_endian)
{
    uint8_t little[] = { 'E', 'x', 'i', 'f', 0, 0, 'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, (uint8_t)orientation,
                         0,   0,   0 };
    uint8_t big[] = {
        'E', 'x', 'i', 'f', 0, 0, 'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, (uint8_t)orientation, 0, 0
    };
    jpeg_write_marker(jpeg, JPEG_APP0 + 1, big_endian ? big : little, sizeof little);
}

static inline sample make_jpeg(int width, int height, int channels, jpeg_options options)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned char *data = NULL;
    unsigned long n_bytes = 0;
    jpeg_scan_info scans[300];
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &data, &n_bytes);
    jpeg.image_width = (JDIMENSION)width;
    jpeg.image_height = (JDIMENSION)height;
    jpeg.input_components = channels;
    jpeg.in_color_space = options.cmyk ? JCS_CMYK : channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, 90, TRUE);
    if (options.progressive)
        jpeg_simple_progression(&jpeg);
    if (options.n_scans > 0) { // one for DC, then the same two coefficients over and over is not allowed: one coefficient, bit after bit
        int n = 0;
        scans[n++] = (jpeg_scan_info){ 1, { 0 }, 0, 0, 0, 0 };
        for (int k = 1; k < 64 && n < options.n_scans; k++)
            for (int bit = 4; bit >= 0 && n < options.n_scans; bit--)
                scans[n++] = (jpeg_scan_info){ 1, { 0 }, k, k, bit == 4 ? 0 : bit + 1, bit };
        jpeg.scan_info = scans;
        jpeg.num_scans = n;
    }
    jpeg_start_compress(&jpeg, TRUE);
    if (options.orientation)
        write_exif(&jpeg, options.orientation, options.orientation_big_endian);
    uint8_t *row = malloc((size_t)width * (size_t)channels);
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++)
            for (int c = 0; c < channels; c++)
                row[x * channels + c] = sample_pixel(x, y, c);
        JSAMPROW rows[1] = { row };
        jpeg_write_scanlines(&jpeg, rows, 1);
    }
    free(row);
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    return (sample){ data, n_bytes };
}

static inline void append_png(png_structp png, png_bytep bytes, png_size_t n)
{
    sample *file = png_get_io_ptr(png);
    file->data = realloc(file->data, file->n_bytes + n);
    memcpy(file->data + file->n_bytes, bytes, n);
    file->n_bytes += n;
}

// A PNG of any colour type, bit depth and interlacing. Palettes hold grey ramps: entry i is (i, 255 - i, 7), and entry 0 is
// transparent where `transparent`, which for other types marks the colour (0, 0, 0).
static inline sample make_png(int width, int height, int colour, int depth, int interlaced, int transparent)
{
    sample file = { NULL, 0 };
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_set_write_fn(png, &file, append_png, NULL);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, depth, colour, interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_color palette[256];
    const int n_colours = depth <= 8 ? 1 << depth : 0;
    for (int i = 0; i < n_colours; i++)
        palette[i] = (png_color){ (png_byte)i, (png_byte)(255 - i), 7 };
    if (colour == PNG_COLOR_TYPE_PALETTE)
        png_set_PLTE(png, info, palette, n_colours);
    png_byte alpha[1] = { 0 };
    png_color_16 key = { 0 };
    if (transparent)
        png_set_tRNS(png, info, alpha, 1, &key);
    png_write_info(png, info);
    const size_t row_bytes = png_get_rowbytes(png, info);
    uint8_t *pixels = malloc(row_bytes * (size_t)height);
    png_bytep *rows = malloc(sizeof *rows * (size_t)height);
    for (int y = 0; y < height; y++) {
        rows[y] = pixels + row_bytes * (size_t)y;
        for (size_t x = 0; x < row_bytes; x++)
            rows[y][x] = sample_pixel((int)x, y, 0);
    }
    png_write_image(png, rows);
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    free(rows);
    free(pixels);
    return file;
}

// ---- an allocator that fails the n-th call, and counts what is alive --------------------------------------------------

static long samples_calls, samples_fail_at, samples_alive;
static size_t samples_largest;

static inline void *failing_allocate(void *context, size_t bytes, size_t alignment)
{
    (void)context;
    if (++samples_calls == samples_fail_at)
        return NULL;
    samples_alive++;
    if (bytes > samples_largest)
        samples_largest = bytes;
    return aligned_alloc(alignment, bytes);
}

static inline void failing_release(void *context, void *pointer)
{
    (void)context;
    samples_alive--;
    free(pointer);
}

// From here on the n-th allocation fails (0: none).
static inline void fail_allocation(long n)
{
    static const qcnn_allocator failing = { failing_allocate, failing_release, NULL };
    samples_calls = 0;
    samples_fail_at = n;
    samples_largest = 0;
    qcnn_set_allocator(&failing);
}

// Calls try(argument) with each of its allocations failing in turn until none is left; it must fail cleanly each time.
static inline void fail_each_allocation(qcnn_status (*attempt)(void *argument), void *argument)
{
    const long alive = samples_alive;
    long n = 0;
    qcnn_status status;
    do {
        fail_allocation(++n);
        status = attempt(argument);
        assert_int_equal(samples_alive, alive);
        assert_true(status == QCNN_OK || status == QCNN_ERROR_MEMORY);
    } while (status != QCNN_OK && n < 10000);
    assert_int_equal(status, QCNN_OK);
    qcnn_set_allocator(NULL);
}

// A deterministic random number.
static inline uint32_t sample_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

#endif
