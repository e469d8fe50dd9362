// SPDX-License-Identifier: Apache-2.0
// Decoding: right pixels from every kind of JPEG and PNG, and one clear error from every broken one.

#include "image_samples.h"

#include <zlib.h>

#include "image/image.h"
#include "qcnn_image.h"

static qcnn_status decode(sample file, qcnn_image *image, qcnn_error *error)
{
    memset(error, 0, sizeof *error);
    const qcnn_status status = qcnn_image_decode(file.data, file.n_bytes, 0, image, error);
    if (status != QCNN_OK) {
        assert_null(image->pixels);
        assert_int_equal(error->status, status);
        assert_true(error->message[0] != 0 && !strchr(error->message, '\n'));
    }
    return status;
}

// Decodes bytes that lie at the end of their allocation, so that a sanitizer sees the first byte read beyond.
static qcnn_status decode_exact(const uint8_t *data, size_t n_bytes, qcnn_image *image, qcnn_error *error)
{
    uint8_t *copy = malloc(n_bytes ? n_bytes : 1);
    memcpy(copy, data, n_bytes);
    const qcnn_status status = decode((sample){ copy, n_bytes }, image, error);
    free(copy);
    return status;
}

// ---- right answers --------------------------------------------------------------------------------------------------

static void test_jpeg_kinds(void **state)
{
    (void)state;
    for (int channels = 1; channels <= 3; channels += 2)
        for (int progressive = 0; progressive < 2; progressive++) {
            const sample file = make_jpeg(37, 21, channels, (jpeg_options){ .progressive = progressive });
            qcnn_image image;
            qcnn_error error;
            assert_int_equal(decode(file, &image, &error), QCNN_OK);
            assert_int_equal(image.width, 37);
            assert_int_equal(image.height, 21);
            assert_int_equal(image.channels, channels);
            qcnn_image_free(&image);
            assert_null(image.pixels);
            free(file.data);
        }
}

// Where pixel (x, y) of the upright picture lies in the stored one of width x height (Exif 2.32, 4.6.4, Orientation).
static void stored_place(int orientation, int width, int height, int x, int y, int *stored_x, int *stored_y)
{
    switch (orientation) {
    case 1: *stored_x = x, *stored_y = y; break;
    case 2: *stored_x = width - 1 - x, *stored_y = y; break;
    case 3: *stored_x = width - 1 - x, *stored_y = height - 1 - y; break;
    case 4: *stored_x = x, *stored_y = height - 1 - y; break;
    case 5: *stored_x = y, *stored_y = x; break;
    case 6: *stored_x = y, *stored_y = height - 1 - x; break;
    case 7: *stored_x = width - 1 - y, *stored_y = height - 1 - x; break;
    default: *stored_x = width - 1 - y, *stored_y = x; break;
    }
}

static void test_orientations(void **state)
{
    (void)state;
    enum { WIDTH = 19, HEIGHT = 11 };
    const sample plain = make_jpeg(WIDTH, HEIGHT, 3, (jpeg_options){ 0 });
    qcnn_image stored, image;
    qcnn_error error;
    assert_int_equal(decode(plain, &stored, &error), QCNN_OK);
    for (int orientation = 1; orientation <= 9; orientation++)
        for (int big_endian = 0; big_endian < 2; big_endian++) {
            const jpeg_options options = { .orientation = orientation, .orientation_big_endian = big_endian };
            const sample file = make_jpeg(WIDTH, HEIGHT, 3, options);
            const int meant = orientation == 9 ? 1 : orientation; // an unknown one is ignored
            assert_int_equal(decode(file, &image, &error), QCNN_OK);
            assert_int_equal(image.width, meant >= 5 ? HEIGHT : WIDTH);
            assert_int_equal(image.height, meant >= 5 ? WIDTH : HEIGHT);
            for (int y = 0; y < image.height; y++)
                for (int x = 0; x < image.width; x++) {
                    int stored_x, stored_y;
                    stored_place(meant, WIDTH, HEIGHT, x, y, &stored_x, &stored_y);
                    assert_memory_equal(image.pixels + (y * image.width + x) * 3, stored.pixels + (stored_y * WIDTH + stored_x) * 3, 3);
                }
            qcnn_image_free(&image);
            free(file.data);
        }
    qcnn_image_free(&stored);
    free(plain.data);
}

static void test_exif_bounds(void **state)
{
    (void)state;
    static const uint8_t block[] = { 'I', 'I', 42, 0, 8, 0,    0, 0, 2, 0, 0, 1, 4, 0, 1, 0, 0,
                                     0,   9,   0,  0, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0 };
    assert_int_equal(qcnn_exif_orientation(block, sizeof block), 6);
    uint32_t seed = 1;
    for (size_t n = 0; n <= sizeof block; n++) {
        uint8_t *copy = malloc(n ? n : 1);
        for (int round = 0; round < 200; round++) {
            memcpy(copy, block, n);
            for (int flips = round ? 3 : 0; flips > 0 && n > 0; flips--)
                copy[sample_random(&seed) % n] = (uint8_t)sample_random(&seed);
            const int orientation = qcnn_exif_orientation(copy, n);
            assert_true(orientation >= 1 && orientation <= 8);
        }
        free(copy);
    }
}

// One pixel's bytes as the sample holds them, after widening to 8 bits.
static uint8_t stored_element(int depth, int width_bytes, int element, int y)
{
    (void)width_bytes;
    if (depth == 16)
        return sample_pixel(element * 2, y, 0);
    if (depth == 8)
        return sample_pixel(element, y, 0);
    const int per_byte = 8 / depth, shift = (per_byte - 1 - element % per_byte) * depth;
    return (uint8_t)(sample_pixel(element / per_byte, y, 0) >> shift & ((1 << depth) - 1));
}

static uint8_t on_white(int value, int alpha)
{
    return (uint8_t)((value * alpha + 255 * (255 - alpha)) / 255.0 + 0.5);
}

static void check_png_pixel(const uint8_t *pixel, int colour, int depth, int transparent, int x, int y)
{
    static const int elements_of[7] = { 1, 0, 3, 1, 2, 0, 4 };
    const int n = elements_of[colour];
    uint8_t value[4];
    for (int e = 0; e < n; e++)
        value[e] = stored_element(depth, 0, x * n + e, y);
    if (colour == PNG_COLOR_TYPE_PALETTE) {
        const uint8_t entry[3] = { value[0], (uint8_t)(255 - value[0]), 7 };
        for (int c = 0; c < 3; c++)
            assert_int_equal(pixel[c], transparent && value[0] == 0 ? 255 : entry[c]);
    } else if (colour & PNG_COLOR_MASK_ALPHA) {
        for (int c = 0; c < n - 1; c++)
            assert_int_equal(pixel[c], on_white(value[c], value[n - 1]));
    } else {
        for (int c = 0; c < n; c++) {
            const int widened = depth < 8 ? value[c] * 255 / ((1 << depth) - 1) : value[c];
            if (!transparent || widened != 0) // a fully black pixel may be the transparent colour
                assert_int_equal(pixel[c], widened);
        }
    }
}

static void test_png_kinds(void **state)
{
    (void)state;
    static const struct {
        int colour, depth;
    } kinds[] = { { 0, 1 }, { 0, 2 }, { 0, 4 }, { 0, 8 }, { 0, 16 }, { 2, 8 }, { 2, 16 }, { 3, 1 },
                  { 3, 2 }, { 3, 4 }, { 3, 8 }, { 4, 8 }, { 4, 16 }, { 6, 8 }, { 6, 16 } };
    for (size_t kind = 0; kind < sizeof kinds / sizeof kinds[0]; kind++)
        for (int variant = 0; variant < 4; variant++) {
            const int colour = kinds[kind].colour, depth = kinds[kind].depth, transparent = variant >> 1 && !(colour & 4);
            const sample file = make_png(23, 14, colour, depth, variant & 1, transparent);
            qcnn_image image;
            qcnn_error error;
            assert_int_equal(decode(file, &image, &error), QCNN_OK);
            assert_int_equal(image.width, 23);
            assert_int_equal(image.height, 14);
            assert_int_equal(image.channels, colour & (PNG_COLOR_MASK_COLOR | PNG_COLOR_MASK_PALETTE) ? 3 : 1);
            for (int y = 0; y < 14; y++)
                for (int x = 0; x < 23; x++)
                    check_png_pixel(image.pixels + (y * 23 + x) * image.channels, colour, depth, transparent, x, y);
            qcnn_image_free(&image);
            free(file.data);
        }
}

// ---- broken files ---------------------------------------------------------------------------------------------------

static void test_truncation(void **state)
{
    (void)state;
    const sample files[] = {
        make_jpeg(24, 17, 3, (jpeg_options){ .orientation = 6 }),
        make_jpeg(24, 17, 3, (jpeg_options){ .progressive = 1 }),
        make_jpeg(16, 16, 1, (jpeg_options){ 0 }),
        make_png(16, 16, PNG_COLOR_TYPE_RGB_ALPHA, 8, 0, 0),
        make_png(16, 16, PNG_COLOR_TYPE_PALETTE, 4, 1, 1),
    };
    for (size_t f = 0; f < sizeof files / sizeof files[0]; f++) {
        qcnn_image image;
        qcnn_error error;
        for (size_t n = 0; n < files[f].n_bytes; n++)
            assert_int_equal(decode_exact(files[f].data, n, &image, &error), QCNN_ERROR_FORMAT);
        assert_int_equal(decode(files[f], &image, &error), QCNN_OK);
        qcnn_image_free(&image);
        free(files[f].data);
    }
}

static void test_random_damage(void **state)
{
    (void)state;
    const sample files[] = {
        make_jpeg(24, 17, 3, (jpeg_options){ .orientation = 3 }),
        make_jpeg(24, 17, 3, (jpeg_options){ .progressive = 1 }),
        make_png(16, 16, PNG_COLOR_TYPE_RGB, 8, 1, 1),
        make_png(16, 16, PNG_COLOR_TYPE_PALETTE, 2, 0, 1),
    };
    uint32_t seed = 7;
    for (size_t f = 0; f < sizeof files / sizeof files[0]; f++) {
        for (int round = 0; round < 1500; round++) {
            uint8_t *copy = malloc(files[f].n_bytes);
            memcpy(copy, files[f].data, files[f].n_bytes);
            for (int flips = 1 + round % 4; flips > 0; flips--)
                copy[sample_random(&seed) % files[f].n_bytes] ^= (uint8_t)(1u << sample_random(&seed) % 8);
            qcnn_image image;
            qcnn_error error;
            // A damaged size field may ask for a large picture: the limit keeps this test quick.
            const qcnn_status status = qcnn_image_decode(copy, files[f].n_bytes, 1 << 20, &image, &error);
            assert_true(status == QCNN_OK || image.pixels == NULL);
            qcnn_image_free(&image);
            free(copy);
        }
        free(files[f].data);
    }
}

// Sets the size a JPEG declares in its frame header.
static void declare_jpeg_size(sample file, int width, int height)
{
    for (size_t i = 2; i + 9 < file.n_bytes; i += 2 + (size_t)(file.data[i + 2] << 8 | file.data[i + 3]))
        if (file.data[i + 1] == 0xc0 || file.data[i + 1] == 0xc2) {
            const uint8_t size[4] = { (uint8_t)(height >> 8), (uint8_t)height, (uint8_t)(width >> 8), (uint8_t)width };
            memcpy(file.data + i + 5, size, sizeof size);
            return;
        }
    fail_msg("the sample has no frame header");
}

static void declare_png_size(sample file, uint32_t width, uint32_t height)
{
    uint32_t size[2] = { __builtin_bswap32(width), __builtin_bswap32(height) };
    memcpy(file.data + 16, size, sizeof size);
    const uint32_t crc = __builtin_bswap32((uint32_t)crc32(0, file.data + 12, 17));
    memcpy(file.data + 29, &crc, sizeof crc);
}

static void expect_refused_before_allocation(sample file)
{
    qcnn_image image;
    qcnn_error error;
    fail_allocation(0);
    assert_int_equal(decode(file, &image, &error), QCNN_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "declares"));
    assert_true(samples_largest < 1 << 20);
    assert_int_equal(samples_alive, 0);
    qcnn_set_allocator(NULL);
}

static void test_size_bombs(void **state)
{
    (void)state;
    static const uint32_t sides[][2] = { { 65500, 65500 },
                                         { 12000, 9000 },
                                         { 9000, 9000 } }; // too large; too large; more than the bytes can hold
    for (size_t i = 0; i < sizeof sides / sizeof sides[0]; i++) {
        const sample jpeg = make_jpeg(16, 16, 3, (jpeg_options){ .progressive = i == 2 });
        declare_jpeg_size(jpeg, (int)sides[i][0], (int)sides[i][1]);
        expect_refused_before_allocation(jpeg);
        const sample png = make_png(16, 16, PNG_COLOR_TYPE_RGB, 8, 0, 0);
        declare_png_size(png, sides[i][0], sides[i][1]);
        expect_refused_before_allocation(png);
        free(jpeg.data);
        free(png.data);
    }
}

static void test_scan_bomb(void **state)
{
    (void)state;
    qcnn_image image;
    qcnn_error error;
    const sample fine = make_jpeg(64, 64, 1, (jpeg_options){ .n_scans = 90 }),
                 bomb = make_jpeg(64, 64, 1, (jpeg_options){ .n_scans = 250 });
    assert_int_equal(decode(fine, &image, &error), QCNN_OK);
    qcnn_image_free(&image);
    assert_int_equal(decode(bomb, &image, &error), QCNN_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "scans"));
    free(fine.data);
    free(bomb.data);
}

static void test_other_refusals(void **state)
{
    (void)state;
    qcnn_image image;
    qcnn_error error;
    const sample cmyk = make_jpeg(16, 16, 4, (jpeg_options){ .cmyk = 1 });
    assert_int_equal(decode(cmyk, &image, &error), QCNN_ERROR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "CMYK"));
    free(cmyk.data);
    assert_int_equal(decode((sample){ (uint8_t *)"GIF89a", 6 }, &image, &error), QCNN_ERROR_FORMAT);
    assert_int_equal(decode((sample){ NULL, 0 }, &image, &error), QCNN_ERROR_FORMAT);
    assert_int_equal(qcnn_image_decode("x", 1, 0, NULL, &error), QCNN_ERROR_ARGUMENT);
    assert_int_equal(qcnn_image_read("/nonexistent/photo.jpg", &image, &error), QCNN_ERROR_IO);
    assert_int_equal(qcnn_image_read("/", &image, &error), QCNN_ERROR_IO);
    const sample png = make_png(16, 16, PNG_COLOR_TYPE_RGB, 8, 0, 0);
    for (size_t i = 8; i < png.n_bytes; i++) { // each byte is covered by a checksum, or is a length or a type
        png.data[i] ^= 0x10;
        assert_int_equal(decode(png, &image, &error), QCNN_ERROR_FORMAT);
        png.data[i] ^= 0x10;
    }
    free(png.data);
}

static qcnn_status decode_attempt(void *argument)
{
    const sample *file = argument;
    qcnn_image image;
    qcnn_error error;
    const qcnn_status status = qcnn_image_decode(file->data, file->n_bytes, 0, &image, &error);
    qcnn_image_free(&image);
    return status;
}

static void test_failing_allocations(void **state)
{
    (void)state;
    sample jpeg = make_jpeg(16, 8, 3, (jpeg_options){ .orientation = 6 }), png = make_png(16, 8, PNG_COLOR_TYPE_PALETTE, 4, 1, 1);
    fail_each_allocation(decode_attempt, &jpeg);
    fail_each_allocation(decode_attempt, &png);
    free(jpeg.data);
    free(png.data);
}

// VmHWM in kB. The test that asks runs first, before anything has raised it.
static long peak_memory(void)
{
    long peak = 0;
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        sscanf(line, "VmHWM: %ld", &peak);
    if (status)
        fclose(status);
    return peak;
}

// A file that declares as much as its length may just hold, and then holds nothing: memory must follow what is there.
static void test_peak_memory(void **state)
{
    (void)state;
    enum { FILE_BYTES = 1 << 18 };
    const sample jpeg = make_jpeg(16, 16, 3, (jpeg_options){ .progressive = 1 });
    const sample png = make_png(16, 16, PNG_COLOR_TYPE_RGB, 8, 0, 0);
    declare_jpeg_size(jpeg, 9000, 9000);
    declare_png_size(png, 9000, 9000);
    uint8_t *padded = calloc(1, FILE_BYTES);
    const long before = peak_memory();
    const sample files[] = { jpeg, png };
    for (int f = 0; f < 2; f++) {
        qcnn_image image;
        qcnn_error error;
        memset(padded, 0, FILE_BYTES);
        memcpy(padded, files[f].data, files[f].n_bytes);
        assert_int_equal(decode((sample){ padded, FILE_BYTES }, &image, &error), QCNN_ERROR_FORMAT);
        free(files[f].data);
    }
    free(padded);
#ifdef MEMORY_IS_SHADOWED
    (void)before;
#else
    assert_true(peak_memory() - before < (16 << 10) + 2 * (FILE_BYTES >> 10));
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_peak_memory),    cmocka_unit_test(test_jpeg_kinds),          cmocka_unit_test(test_orientations),
        cmocka_unit_test(test_exif_bounds),    cmocka_unit_test(test_png_kinds),           cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_random_damage),  cmocka_unit_test(test_size_bombs),          cmocka_unit_test(test_scan_bomb),
        cmocka_unit_test(test_other_refusals), cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
