// SPDX-License-Identifier: Apache-2.0
// Preprocessing: what the JSON may say, resizing against values worked out apart, and the real inputs of ../shared/data.

#include "image_samples.h"

#include <math.h>
#include <unistd.h>

#include "qcnn_compress.h"
#include "qcnn_image.h"

static qcnn_status parse(const char *text, qcnn_preprocess *preprocess, qcnn_error *error)
{
    char *exact = malloc(strlen(text) + 1);
    memcpy(exact, text, strlen(text)); // without the zero
    const qcnn_status status = qcnn_preprocess_parse(exact, strlen(text), preprocess, error);
    free(exact);
    return status;
}

static void test_parse(void **state)
{
    (void)state;
    qcnn_preprocess p;
    qcnn_error error;
    assert_int_equal(parse("{\"resize_shorter\": [64, 256], \"interpolation\": \"bilinear\", \"crop\": 227, \"channels\": \"BGR\", "
                           "\"mean\": [104.5, 117, 123], \"std\": [1, 2, 4]}\r\n",
                           &p, &error),
                     QCNN_OK);
    assert_true(p.n_resizes == 2 && p.resize_shorter[0] == 64 && p.resize_shorter[1] == 256 && p.crop == 227);
    assert_true(p.n_channels == 3 && p.bgr && p.mean[0] == 104.5f && p.mean[2] == 123 && p.std[1] == 2 && p.std[2] == 4);
    assert_int_equal(parse("{\"std\": [0.5], \"mean\": [-3], \"channels\": \"GRAY\", \"crop\": 0, \"interpolation\": \"bilinear\", "
                           "\"resize_shorter\": 28}",
                           &p, &error),
                     QCNN_OK);
    assert_true(p.n_resizes == 1 && p.resize_shorter[0] == 28 && p.crop == 0 && p.n_channels == 1 && !p.bgr && p.mean[0] == -3);
}

// A valid file but for one key, which the message must name.
static void test_parse_errors(void **state)
{
    (void)state;
    static const char *const names[] = { "resize_shorter", "interpolation", "crop", "channels", "mean", "std" };
    static const char *const valid[] = { "256", "\"bilinear\"", "224", "\"RGB\"", "[1, 2, 3]", "[1, 1, 1]" };
    static const struct {
        int key;
        const char *value;
    } bad[] = {
        { 0, "0" },
        { 0, "-5" },
        { 0, "2.5" },
        { 0, "\"256\"" },
        { 0, "1e9" },
        { 0, "[1, 2, 3, 4, 5]" },
        { 0, "[256, null]" },
        { 0, "{}" },
        { 1, "\"bicubic\"" },
        { 1, "2" },
        { 2, "-1" },
        { 2, "1e300" },
        { 2, "null" },
        { 2, "true" },
        { 3, "\"rgb\"" },
        { 3, "\"GBR\"" },
        { 3, "3" },
        { 4, "[1, 2]" },
        { 4, "[1, 2, 3, 4]" },
        { 4, "7" },
        { 4, "[1, 2, \"3\"]" },
        { 4, "[1, 2, 1e999]" },
        { 5, "[1, 0, 1]" },
        { 5, "[1, 1]" },
        { 5, "[1e300, 1, 1]" },
        { 5, "[1e-300, 1, 1]" },
    };
    const int n_bad = (int)(sizeof bad / sizeof bad[0]);
    for (int i = -12; i < n_bad; i++) { // -12..-7: a key is missing; -6..-1: it stands there twice
        char text[1024] = "{";
        const int key = i < 0 ? (i + 12) % 6 : bad[i].key;
        for (int k = 0; k < 6; k++) {
            const char *value = i >= 0 && k == key ? bad[i].value : valid[k];
            for (int times = k != key || i >= 0 ? 1 : i < -6 ? 0 : 2; times > 0; times--)
                sprintf(text + strlen(text), "%s\"%s\": %s", text[1] ? ", " : "", names[k], value);
        }
        strcat(text, "}");
        qcnn_preprocess p;
        qcnn_error error;
        assert_int_equal(parse(text, &p, &error), QCNN_ERROR_FORMAT);
        assert_non_null(strstr(error.message, names[key]));
    }
    static const char *const broken[] = { "", "{", "[]", "null", "{} x", "{\"a\": 1}", "\"", "{\"resize_shorter\": 256", "\xff\xfe" };
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++)
        assert_int_equal(parse(broken[i], &(qcnn_preprocess){ 0 }, &(qcnn_error){ 0 }), QCNN_ERROR_FORMAT);
    char *deep = malloc(60001);
    memset(deep, '[', 60000);
    deep[60000] = 0;
    assert_int_equal(parse(deep, &(qcnn_preprocess){ 0 }, &(qcnn_error){ 0 }), QCNN_ERROR_FORMAT);
    free(deep);
}

static const qcnn_preprocess plain_rgb = { .n_channels = 3, .std = { 1, 1, 1 } };

static void test_channels(void **state)
{
    (void)state;
    uint8_t rgba[8] = { 10, 20, 30, 99, 40, 50, 60, 99 }, grey[2] = { 7, 200 };
    float tensor[6];
    qcnn_preprocess p = { .n_channels = 3, .bgr = 1, .mean = { 1, 2, 3 }, .std = { 2, 4, 5 } };
    const qcnn_image colour_image = { 2, 1, 4, rgba }, grey_image = { 2, 1, 1, grey };
    assert_int_equal(qcnn_preprocess_image(&p, &colour_image, tensor, NULL), QCNN_OK);
    static const float bgr[6] = { 14.5f, 29.5f, 4.5f, 12, 1.4f, 7.4f };
    for (int i = 0; i < 6; i++)
        assert_true(tensor[i] == bgr[i]);
    assert_int_equal(qcnn_preprocess_image(&plain_rgb, &grey_image, tensor, NULL), QCNN_OK);
    for (int i = 0; i < 6; i++)
        assert_true(tensor[i] == grey[i % 2]);
    p = (qcnn_preprocess){ .n_channels = 1, .std = { 1 } };
    assert_int_equal(qcnn_preprocess_image(&p, &colour_image, tensor, NULL), QCNN_OK);
    assert_true(tensor[0] == 18 && tensor[1] == 48); // 0.299 R + 0.587 G + 0.114 B = 18.15, 48.15
    assert_int_equal(qcnn_preprocess_image(&p, &grey_image, tensor, NULL), QCNN_OK);
    assert_true(tensor[0] == 7 && tensor[1] == 200);
}

static void test_sizes(void **state)
{
    (void)state;
    static const struct {
        int resizes[2], n_resizes, crop, width, height, expected_width, expected_height; // 0: refused
    } cases[] = {
        { { 256 }, 1, 0, 500, 375, 341, 256 },  { { 256 }, 1, 0, 375, 500, 256, 341 },     { { 256 }, 1, 227, 500, 375, 227, 227 },
        { { 256 }, 1, 0, 256, 300, 256, 300 },  { { 64, 256 }, 2, 0, 100, 131, 256, 336 }, { { 0 }, 0, 28, 28, 28, 28, 28 },
        { { 0 }, 0, 29, 28, 40, 0, 0 },         { { 256 }, 1, 257, 10, 10, 0, 0 },         { { 2 }, 1, 0, 3, 4, 2, 3 },
        { { 256 }, 1, 0, 1, 50000000, 0, 0 },   { { 256 }, 1, 200, 1, 100000000, 0, 0 },   { { 256 }, 1, 200, 1, 8000000, 200, 200 },
        { { 256, 8 }, 2, 8, 1, 8000000, 0, 0 }, { { 40000 }, 1, 0, 3, 4, 0, 0 },           { { 2 }, 1, 0, 0, 4, 0, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        qcnn_preprocess p = { .n_channels = 1, .std = { 1 }, .n_resizes = cases[i].n_resizes, .crop = cases[i].crop };
        memcpy(p.resize_shorter, cases[i].resizes, sizeof cases[i].resizes);
        int width, height;
        const qcnn_status status = qcnn_preprocess_size(&p, cases[i].width, cases[i].height, &width, &height, NULL);
        assert_int_equal(status, cases[i].expected_width ? QCNN_OK : QCNN_ERROR_ARGUMENT);
        assert_int_equal(width, cases[i].expected_width);
        assert_int_equal(height, cases[i].expected_height);
    }
}

// Small enough to follow by hand.
static void test_resize_values(void **state)
{
    (void)state;
    uint8_t pixels[16] = { 0, 255, 17, 99, 250, 3, 128, 64, 255, 255, 0, 1, 2, 77, 130, 200 };
    qcnn_preprocess p = { .n_channels = 1, .std = { 1 }, .n_resizes = 1, .resize_shorter = { 2 } };
    const qcnn_image image = { 4, 4, 1, pixels };
    // Half the sides: weights 3 3 1 over 7 from each border, rounded after each pass. Numbers from Pillow.
    static const float halved[4] = { 134, 78, 134, 93 };
    float tensor[64];
    assert_int_equal(qcnn_preprocess_image(&p, &image, tensor, NULL), QCNN_OK);
    for (int i = 0; i < 4; i++)
        assert_true(tensor[i] == halved[i]);
    // Twice the sides: half-pixel centres, weights 1/4 and 3/4, nothing rounded.
    p.resize_shorter[0] = 8;
    assert_int_equal(qcnn_preprocess_image(&p, &image, tensor, NULL), QCNN_OK);
    assert_true(tensor[0] == 0 && tensor[1] == 63.75f && tensor[2] == 191.25f && tensor[7] == 99);
    assert_true(tensor[8] == 62.5f && tensor[9] == 0.75f * 63.75f + 0.25f * (0.75f * 250 + 0.25f * 3));
}

// A crop after a resize computes only what it keeps: the same numbers as cropping the whole.
static void test_crop_equals_whole(void **state)
{
    (void)state;
    enum { WIDTH = 53, HEIGHT = 37, CROP = 15 };
    static uint8_t pixels[WIDTH * HEIGHT * 3];
    for (int i = 0; i < WIDTH * HEIGHT * 3; i++)
        pixels[i] = sample_pixel(i % WIDTH, i / WIDTH, i % 3);
    const qcnn_image image = { WIDTH, HEIGHT, 3, pixels };
    static float whole[3 * 200 * 200], cropped[3 * CROP * CROP];
    for (int side = 16; side < 90; side += 7) {
        qcnn_preprocess p = plain_rgb;
        p.n_resizes = 1;
        p.resize_shorter[0] = side;
        int width, height;
        assert_int_equal(qcnn_preprocess_size(&p, WIDTH, HEIGHT, &width, &height, NULL), QCNN_OK);
        assert_int_equal(qcnn_preprocess_image(&p, &image, whole, NULL), QCNN_OK);
        p.crop = CROP;
        assert_int_equal(qcnn_preprocess_image(&p, &image, cropped, NULL), QCNN_OK);
        const int left = (width - CROP) / 2, top = (height - CROP) / 2;
        for (int c = 0; c < 3; c++)
            for (int y = 0; y < CROP; y++)
                assert_memory_equal(cropped + (c * CROP + y) * CROP, whole + (c * height + top + y) * width + left, CROP * sizeof(float));
    }
}

static qcnn_status preprocess_attempt(void *argument)
{
    qcnn_preprocess p = { .n_channels = 1, .std = { 1 }, .n_resizes = 2, .resize_shorter = { 9, 12 }, .crop = 8 };
    float tensor[64];
    return qcnn_preprocess_image(&p, argument, tensor, NULL);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    static uint8_t pixels[20 * 30 * 3];
    qcnn_image image = { 20, 30, 3, pixels };
    fail_each_allocation(preprocess_attempt, &image);
}

// The first inputs that were made elsewhere, with the networks, from the same photographs.
static void compare_expected(const char *network, const char *const files[4])
{
    char folder[512], path[1024];
    snprintf(folder, sizeof folder, "%s/../shared/data/%s", QCNN_SOURCE_DIR, network);
    snprintf(path, sizeof path, "%s/expected/input.npy", folder);
    if (access(path, R_OK) != 0) {
        printf("SKIPPED: %s absent\n", path);
        return;
    }
    qcnn_array expected;
    qcnn_error error;
    assert_int_equal(qcnn_npy_read(path, &expected, &error), QCNN_OK);
    snprintf(path, sizeof path, "%s/preprocess.json", folder);
    char text[4096];
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    const size_t n_text = fread(text, 1, sizeof text, file);
    fclose(file);
    qcnn_preprocess p;
    assert_int_equal(qcnn_preprocess_parse(text, n_text, &p, &error), QCNN_OK);
    const size_t n = (size_t)(expected.shape.dims[1] * expected.shape.dims[2] * expected.shape.dims[3]);
    float *tensor = malloc(n * sizeof *tensor), worst = 0;
    for (size_t i = 0; i < 4; i++) {
        qcnn_image image;
        snprintf(path, sizeof path, "%s/val/%s.jpg", folder, files[i]);
        assert_int_equal(qcnn_image_read(path, &image, &error), QCNN_OK);
        assert_int_equal(qcnn_preprocess_image(&p, &image, tensor, &error), QCNN_OK);
        for (size_t k = 0; k < n; k++)
            worst = fmaxf(worst, fabsf(tensor[k] - expected.data[i * n + k]));
        qcnn_image_free(&image);
    }
    printf("%s: largest difference from expected/input.npy: %g\n", network, (double)worst);
    assert_true(worst < 1e-4f);
    free(tensor);
    qcnn_array_free(&expected);
}

static void test_expected_inputs(void **state)
{
    (void)state;
    compare_expected("alexnet200", (const char *const[4]){ "00000", "01000", "02000", "03000" });
    compare_expected("squeezenet1000", (const char *const[4]){ "0000", "0200", "0400", "0600" });
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_parse_errors),
        cmocka_unit_test(test_channels),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_resize_values),
        cmocka_unit_test(test_crop_equals_whole),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_expected_inputs),
    };
    return cmocka_run_group_tests_name("preprocess", tests, NULL, NULL);
}
