// SPDX-License-Identifier: Apache-2.0
// Evaluation: each image's scores in the right place whatever the number of workers, and failures that name their image.

#include "image_samples.h"

#include "image/dataset.h"
#include "model/model.h"

enum { N_IMAGES = 53, SIDE = 2, N_CLASSES = SIDE * SIDE };

static const char gray_json[] = "{\"resize_shorter\": [], \"interpolation\": \"bilinear\", \"crop\": 2, \"channels\": \"GRAY\", "
                                "\"mean\": [1], \"std\": [2]}";

// A network that gives its input as scores.
static qcnn_model *make_model(void)
{
    qcnn_model *model;
    const qcnn_shape image = { 4, { 1, 1, SIDE, SIDE } }, scores = { 2, { 1, N_CLASSES } };
    const qcnn_attributes attributes = { .target_rank = 2, .target = { 1, N_CLASSES } };
    int input, output, node;
    assert_int_equal(qcnn_model_new(&model, NULL), QCNN_OK);
    assert_int_equal(qcnn_model_add_value(model, "image", &image, -1, &input, NULL), QCNN_OK);
    assert_int_equal(qcnn_model_add_value(model, "scores", &scores, -1, &output, NULL), QCNN_OK);
    assert_int_equal(qcnn_model_add_node(model, QCNN_OP_RESHAPE, "reshape", &input, 1, output, &attributes, &node, NULL), QCNN_OK);
    assert_int_equal(qcnn_model_add_input(model, input, NULL), QCNN_OK);
    assert_int_equal(qcnn_model_add_output(model, output, NULL), QCNN_OK);
    assert_int_equal(qcnn_model_prepare(model, NULL, NULL), QCNN_OK);
    return model;
}

static uint8_t pixel_of(int image, int i)
{
    return (uint8_t)(image * 4 + i);
}

static qcnn_dataset *make_dataset(void)
{
    uint8_t file[16 + N_IMAGES * N_CLASSES] = { 0, 0, 8, 3, 0, 0, 0, N_IMAGES, 0, 0, 0, SIDE, 0, 0, 0, SIDE };
    qcnn_dataset *dataset;
    for (int i = 0; i < N_IMAGES * N_CLASSES; i++)
        file[16 + i] = pixel_of(i / N_CLASSES, i % N_CLASSES);
    assert_int_equal(qcnn_dataset_from_idx(file, sizeof file, NULL, 0, &dataset, NULL), QCNN_OK);
    return dataset;
}

static void check_scores(const qcnn_evaluate_options *options, int expected_images)
{
    qcnn_model *model = make_model();
    qcnn_dataset *dataset = make_dataset();
    float *scores;
    int n_images, n_classes;
    assert_int_equal(qcnn_evaluate(model, dataset, options, &scores, &n_images, &n_classes, NULL), QCNN_OK);
    assert_int_equal(n_images, expected_images);
    assert_int_equal(n_classes, N_CLASSES);
    for (int i = 0; i < n_images; i++)
        for (int c = 0; c < n_classes; c++)
            assert_true(scores[i * n_classes + c] == ((float)pixel_of(i * N_IMAGES / n_images, c) - 1) / 2);
    qcnn_bytes_free(scores);
    qcnn_dataset_free(dataset);
    qcnn_model_free(model);
}

static void test_scores(void **state)
{
    (void)state;
    qcnn_evaluate_options options = qcnn_evaluate_options_default();
    options.preprocess = gray_json;
    for (int threads = 1; threads <= 4; threads++) {
        qcnn_pool *pool;
        assert_int_equal(qcnn_pool_create(threads, &pool, NULL), QCNN_OK);
        options.parallel = qcnn_pool_hook(pool);
        options.limit = 0;
        check_scores(&options, N_IMAGES);
        options.limit = 7;
        check_scores(&options, 7);
        options.limit = 1000;
        check_scores(&options, N_IMAGES);
        qcnn_pool_free(pool);
    }
}

static qcnn_status evaluate(const char *preprocess, const qcnn_dataset *dataset, const qcnn_progress *progress, qcnn_error *error)
{
    qcnn_model *model = make_model();
    qcnn_evaluate_options options = qcnn_evaluate_options_default();
    float *scores;
    int n_images, n_classes;
    options.preprocess = preprocess;
    options.progress = progress;
    const qcnn_status status = qcnn_evaluate(model, dataset, &options, &scores, &n_images, &n_classes, error);
    assert_true((scores != NULL) == (status == QCNN_OK));
    qcnn_bytes_free(scores);
    qcnn_model_free(model);
    return status;
}

static int count_reports(void *context, const char *stage, double fraction)
{
    int *left = context;
    assert_string_equal(stage, "evaluate");
    assert_true(fraction >= 0 && fraction <= 1);
    return --*left == 0;
}

static void test_failures(void **state)
{
    (void)state;
    qcnn_error error;
    qcnn_dataset *dataset = make_dataset();
    assert_int_equal(evaluate(NULL, dataset, NULL, &error), QCNN_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "--preprocess"));
    assert_int_equal(evaluate("{}", dataset, NULL, &error), QCNN_ERROR_FORMAT);
    static const char colour[] = "{\"resize_shorter\": 2, \"interpolation\": \"bilinear\", \"crop\": 2, \"channels\": \"RGB\", "
                                 "\"mean\": [0, 0, 0], \"std\": [1, 1, 1]}";
    assert_int_equal(evaluate(colour, dataset, NULL, &error), QCNN_ERROR_ARGUMENT);
    static const char too_large[] = "{\"resize_shorter\": 5, \"interpolation\": \"bilinear\", \"crop\": 0, \"channels\": \"GRAY\", "
                                    "\"mean\": [0], \"std\": [1]}";
    assert_int_equal(evaluate(too_large, dataset, NULL, &error), QCNN_ERROR_ARGUMENT);
    assert_memory_equal(error.message, "0: ", 3);
    int reports_left = 3;
    assert_int_equal(evaluate(gray_json, dataset, &(qcnn_progress){ count_reports, &reports_left }, &error), QCNN_ERROR_CANCELLED);
    assert_int_equal(reports_left, 0);
    reports_left = 1000;
    assert_int_equal(evaluate(gray_json, dataset, &(qcnn_progress){ count_reports, &reports_left }, &error), QCNN_OK);
    qcnn_dataset_free(dataset);

    static const char labels[] = "absent.png\t0\nother.png\t1\n";
    assert_int_equal(qcnn_dataset_from_labels(labels, sizeof labels - 1, "/nonexistent", &dataset, &error), QCNN_OK);
    assert_int_equal(evaluate(gray_json, dataset, NULL, &error), QCNN_ERROR_IO);
    assert_non_null(strstr(error.message, "/nonexistent/absent.png"));
    qcnn_dataset_free(dataset);
}

static qcnn_status evaluate_attempt(void *argument)
{
    void *const *both = argument;
    qcnn_evaluate_options options = qcnn_evaluate_options_default();
    float *scores;
    int n_images, n_classes;
    options.preprocess = gray_json;
    options.limit = 2;
    const qcnn_status status = qcnn_evaluate(both[0], both[1], &options, &scores, &n_images, &n_classes, NULL);
    qcnn_bytes_free(scores);
    return status;
}

static void test_failing_allocations(void **state)
{
    (void)state;
    qcnn_model *model = make_model();
    qcnn_dataset *dataset = make_dataset();
    fail_each_allocation(evaluate_attempt, (void *[]){ model, dataset });
    qcnn_dataset_free(dataset);
    qcnn_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scores),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests_name("evaluate", tests, NULL, NULL);
}
