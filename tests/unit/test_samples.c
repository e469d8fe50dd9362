// SPDX-License-Identifier: Apache-2.0
// Calibration samples: every image once as its central crop, parts that never mix, random crops that stay inside the image and
// depend on the seed and the number alone.

#include "image_samples.h"

#include "compress/samples.h"
#include "image/dataset.h"

enum { N_IMAGES = 23, SIDE = 6, CROP = 3 };

static const char gray_json[] = "{\"resize_shorter\": [], \"interpolation\": \"bilinear\", \"crop\": 3, \"channels\": \"GRAY\", "
                                "\"mean\": [0], \"std\": [1]}";

static qcnn_model *make_model(int side)
{
    qcnn_model *model;
    const qcnn_shape image = { 4, { 1, 1, side, side } };
    const qcnn_attributes attributes = { .target_rank = 2, .target = { 1, -1 } };
    int input, output;
    assert_int_equal(qcnn_model_new(&model, NULL), QCNN_OK);
    assert_int_equal(qcnn_model_add_value(model, "image", &image, -1, &input, NULL), QCNN_OK);
    assert_int_equal(qcnn_model_add_value(model, "scores", NULL, -1, &output, NULL), QCNN_OK);
    assert_int_equal(qcnn_model_add_node(model, QCNN_OP_RESHAPE, "reshape", &input, 1, output, &attributes, NULL, NULL), QCNN_OK);
    assert_int_equal(qcnn_model_add_input(model, input, NULL), QCNN_OK);
    assert_int_equal(qcnn_model_add_output(model, output, NULL), QCNN_OK);
    assert_int_equal(qcnn_model_prepare(model, NULL, NULL), QCNN_OK);
    return model;
}

// A pixel tells its image and its column, and whether its row is odd: so a sample tells where it was cut.
static uint8_t pixel_of(int image, int x, int y)
{
    return (uint8_t)(image * 9 + x + (y % 2));
}

static qcnn_dataset *make_dataset(void)
{
    uint8_t file[16 + N_IMAGES * SIDE * SIDE] = { 0, 0, 8, 3, 0, 0, 0, N_IMAGES, 0, 0, 0, SIDE, 0, 0, 0, SIDE };
    qcnn_dataset *dataset;
    for (int i = 0; i < N_IMAGES * SIDE * SIDE; i++)
        file[16 + i] = pixel_of(i / (SIDE * SIDE), i % SIDE, i / SIDE % SIDE);
    assert_int_equal(qcnn_dataset_from_idx(file, sizeof file, NULL, 0, &dataset, NULL), QCNN_OK);
    return dataset;
}

static void read_sample(const qcnn_samples *samples, qcnn_part part, int64_t index, float tensor[CROP * CROP])
{
    qcnn_error error = { 0 };
    if (qcnn_samples_read(samples, part, index, tensor, &error) != QCNN_OK)
        fail_msg("%s", error.message);
}

// Whether the sample is the crop of that image at (x0, y0).
static bool is_crop(const float *tensor, int image, int x0, int y0, bool flip)
{
    for (int y = 0; y < CROP; y++)
        for (int x = 0; x < CROP; x++)
            if (tensor[y * CROP + x] != (float)pixel_of(image, x0 + (flip ? CROP - 1 - x : x), y0 + y))
                return false;
    return true;
}

static bool is_crop_somewhere(const float *tensor, int image, bool flip)
{
    for (int y = 0; y <= SIDE - CROP; y++)
        for (int x = 0; x <= SIDE - CROP; x++)
            if (is_crop(tensor, image, x, y, flip))
                return true;
    return false;
}

static void test_parts_and_crops(void **state)
{
    (void)state;
    qcnn_model *model = make_model(CROP);
    qcnn_dataset *dataset = make_dataset();
    qcnn_samples samples;
    assert_int_equal(qcnn_samples_open(model, dataset, gray_json, 5, &samples, NULL), QCNN_OK);
    assert_int_equal(samples.n_images[QCNN_PART_FIT], N_IMAGES - 2);
    assert_int_equal(samples.n_images[QCNN_PART_HELD_OUT], 2);
    int seen[N_IMAGES] = { 0 }, n_flipped = 0, n_central = 0;
    float tensor[CROP * CROP], again[CROP * CROP];
    for (int part = 0; part < 2; part++) {
        const int n = samples.n_images[part];
        for (int i = 0; i < n; i++) {
            const int image = samples.order[part][i];
            assert_true((image % 10 == 9) == (part == QCNN_PART_HELD_OUT));
            seen[image]++;
            read_sample(&samples, (qcnn_part)part, i, tensor);
            assert_true(is_crop(tensor, image, 1, 1, false));
            for (int round = 1; round < 8; round++) {
                read_sample(&samples, (qcnn_part)part, i + (int64_t)round * n, tensor);
                const bool flipped = is_crop_somewhere(tensor, image, true);
                assert_true(flipped || is_crop_somewhere(tensor, image, false));
                n_flipped += flipped;
                n_central += is_crop(tensor, image, 1, 1, flipped);
                read_sample(&samples, (qcnn_part)part, i + (int64_t)round * n, again);
                assert_memory_equal(tensor, again, sizeof tensor);
            }
        }
    }
    for (int i = 0; i < N_IMAGES; i++)
        assert_int_equal(seen[i], 1);
    assert_in_range(n_flipped, N_IMAGES * 7 / 3, N_IMAGES * 7 * 2 / 3);
    assert_true(n_central < N_IMAGES * 7 / 3);
    qcnn_samples_close(&samples);
    qcnn_dataset_free(dataset);
    qcnn_model_free(model);
}

static void test_the_seed_changes_order(void **state)
{
    (void)state;
    qcnn_model *model = make_model(CROP);
    qcnn_dataset *dataset = make_dataset();
    qcnn_samples a, b;
    assert_int_equal(qcnn_samples_open(model, dataset, gray_json, 1, &a, NULL), QCNN_OK);
    assert_int_equal(qcnn_samples_open(model, dataset, gray_json, 2, &b, NULL), QCNN_OK);
    assert_memory_not_equal(a.order[0], b.order[0], (size_t)a.n_images[0] * sizeof(int));
    qcnn_samples_close(&a);
    qcnn_samples_close(&b);
    qcnn_dataset_free(dataset);
    qcnn_model_free(model);
}

static void test_errors(void **state)
{
    (void)state;
    qcnn_model *model = make_model(CROP), *other = make_model(CROP + 1);
    qcnn_dataset *dataset = make_dataset();
    qcnn_samples samples;
    qcnn_error error;
    assert_int_equal(qcnn_samples_open(model, dataset, NULL, 1, &samples, &error), QCNN_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "--preprocess"));
    assert_int_equal(qcnn_samples_open(model, dataset, "{", 1, &samples, &error), QCNN_ERROR_FORMAT);
    assert_null(samples.order[0]);
    assert_int_equal(qcnn_samples_open(other, dataset, gray_json, 1, &samples, &error), QCNN_OK);
    float tensor[(CROP + 1) * (CROP + 1)];
    assert_int_equal(qcnn_samples_read(&samples, QCNN_PART_FIT, 0, tensor, &error), QCNN_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "makes 3 x 3 pixels of it, the network reads 4 x 4"));
    qcnn_samples_close(&samples);
    qcnn_dataset_free(dataset);
    qcnn_model_free(other);
    qcnn_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_and_crops),
        cmocka_unit_test(test_the_seed_changes_order),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
