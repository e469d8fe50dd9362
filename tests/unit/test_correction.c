// SPDX-License-Identifier: Apache-2.0
// Error correction of a small network with branches, joins and layers without a bias: better responses than without it, the same
// bytes on any number of threads, and every way to stop.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// cmocka.h needs some of the above
#include <cmocka.h>

#include "base/rng.h"
#include "image/dataset.h"
#include "model/model.h"
#include "qcnn_compress.h"

enum { SIDE = 10, N_IMAGES = 60, N_CLASSES = 12 };

static const char gray_json[] = "{\"resize_shorter\": [], \"interpolation\": \"bilinear\", \"crop\": 8, \"channels\": \"GRAY\", "
                                "\"mean\": [128], \"std\": [64]}";

// ---- the network ----------------------------------------------------------------------------------------------------

static int add_value(qcnn_model *model, const char *name)
{
    int index;
    assert_int_equal(qcnn_model_add_value(model, name, NULL, -1, &index, NULL), QCNN_OK);
    return index;
}

static int add_constant(qcnn_model *model, qcnn_shape shape, double scale)
{
    const size_t n = (size_t)qcnn_shape_elements(&shape);
    float *data = qcnn_allocate(n, sizeof *data);
    qcnn_rng rng = { n };
    for (size_t i = 0; i < n; i++)
        data[i] = (float)(scale * (qcnn_rng_unit(&rng) - 0.5));
    qcnn_tensor tensor = { .shape = shape, .data = data, .owned_data = data, .error = -1 };
    int index, value;
    assert_int_equal(qcnn_model_add_tensor(model, &tensor, &index, NULL), QCNN_OK);
    assert_int_equal(qcnn_model_add_value(model, NULL, &shape, index, &value, NULL), QCNN_OK);
    return value;
}

static int add_node(qcnn_model *model, qcnn_op op, const char *name, const int *inputs, int n, const qcnn_attributes *attributes)
{
    const int output = add_value(model, name);
    assert_int_equal(qcnn_model_add_node(model, op, name, inputs, n, output, attributes, NULL, NULL), QCNN_OK);
    return output;
}

static int add_conv(qcnn_model *model, const char *name, int x, int n_in, int n_out, int side, int groups, bool bias)
{
    const qcnn_attributes attributes = { .n_spatial = 2,
                                         .kernel = { side, side },
                                         .stride = { 1, 1 },
                                         .dilation = { 1, 1 },
                                         .window_begin = { side / 2, side / 2 },
                                         .window_end = { side / 2, side / 2 },
                                         .groups = groups,
                                         .activation = { .function = QCNN_RELU } };
    const int w = add_constant(model, (qcnn_shape){ 4, { n_out, n_in / groups, side, side } }, 2 / sqrt(n_in / groups * side * side));
    const int inputs[3] = { x, w, bias ? add_constant(model, (qcnn_shape){ 1, { n_out } }, 0.2) : -1 };
    return add_node(model, QCNN_OP_CONV, name, inputs, bias ? 3 : 2, &attributes);
}

static int add_fc(qcnn_model *model, const char *name, int x, int n_in, int n_out, bool relu)
{
    const qcnn_attributes attributes = { .activation = { .function = relu ? QCNN_RELU : QCNN_IDENTITY } };
    const int inputs[3] = { x, add_constant(model, (qcnn_shape){ 2, { n_out, n_in } }, 3 / sqrt(n_in)),
                            add_constant(model, (qcnn_shape){ 1, { n_out } }, 0.2) };
    return add_node(model, QCNN_OP_FC, name, inputs, 3, &attributes);
}

static qcnn_model *new_model(void)
{
    qcnn_model *model;
    assert_int_equal(qcnn_model_new(&model, NULL), QCNN_OK);
    const qcnn_shape shape = { 4, { 1, 1, 8, 8 } };
    int x;
    assert_int_equal(qcnn_model_add_value(model, "x", &shape, -1, &x, NULL), QCNN_OK);
    assert_int_equal(qcnn_model_add_input(model, x, NULL), QCNN_OK);
    x = add_conv(model, "conv1", x, 1, 8, 3, 1, true);
    const int a = add_conv(model, "expand1", x, 8, 12, 1, 1, true), b = add_conv(model, "expand3", x, 8, 12, 3, 1, false);
    const qcnn_attributes channels = { .axis = 1 };
    x = add_node(model, QCNN_OP_CONCAT, "concat", (const int[]){ a, b }, 2, &channels);
    const int y = add_conv(model, "grouped", x, 24, 24, 3, 2, true);
    const qcnn_attributes add = { .function = QCNN_ADD };
    x = add_node(model, QCNN_OP_BINARY, "add", (const int[]){ x, y }, 2, &add);
    const qcnn_attributes pool = { .n_spatial = 2, .kernel = { 2, 2 }, .stride = { 2, 2 }, .dilation = { 1, 1 } };
    x = add_node(model, QCNN_OP_MAX_POOL, "pool", &x, 1, &pool);
    const qcnn_attributes flat = { .target_rank = 2, .target = { 0, -1 } };
    x = add_node(model, QCNN_OP_RESHAPE, "flat", &x, 1, &flat);
    x = add_fc(model, "fc1", x, 24 * 16, 40, true);
    x = add_fc(model, "fc2", x, 40, N_CLASSES, false);
    const qcnn_attributes axes = { .axis = 1, .axis_end = 1 };
    x = add_node(model, QCNN_OP_SOFTMAX, "softmax", &x, 1, &axes);
    assert_int_equal(qcnn_model_add_output(model, x, NULL), QCNN_OK);
    assert_int_equal(qcnn_model_set_preprocessing(model, gray_json, strlen(gray_json), NULL), QCNN_OK);
    qcnn_error error = { 0 };
    if (qcnn_model_prepare(model, NULL, &error) != QCNN_OK)
        fail_msg("%s", error.message);
    return model;
}

// Smooth pictures.
static qcnn_dataset *new_dataset(uint64_t seed)
{
    static uint8_t file[16 + N_IMAGES * SIDE * SIDE] = { 0, 0, 8, 3, 0, 0, 0, N_IMAGES, 0, 0, 0, SIDE, 0, 0, 0, SIDE };
    qcnn_rng rng = { seed };
    for (int i = 0; i < N_IMAGES; i++) {
        const double fx = qcnn_rng_unit(&rng), fy = qcnn_rng_unit(&rng), shift = 6 * qcnn_rng_unit(&rng);
        for (int p = 0; p < SIDE * SIDE; p++)
            file[16 + i * SIDE * SIDE + p] =
                (uint8_t)(127 + 100 * sin(fx * (p % SIDE) + fy * (p / SIDE) + shift) + 25 * qcnn_rng_unit(&rng));
    }
    qcnn_dataset *dataset;
    assert_int_equal(qcnn_dataset_from_idx(file, sizeof file, NULL, 0, &dataset, NULL), QCNN_OK);
    return dataset;
}

static const char settings[] = "conv1=1/8,expand1=4/8,expand3=4/16,grouped=4/32,fc1=4/16,fc2=4/8";

static qcnn_model *compress(const qcnn_model *original, const qcnn_dataset *dataset, qcnn_correction correction,
                            const qcnn_parallel *parallel)
{
    qcnn_compress_options options = qcnn_compress_options_default();
    options.settings = settings;
    options.correction = correction;
    options.calibration = dataset;
    options.parallel = parallel;
    qcnn_model *compressed;
    qcnn_error error = { 0 };
    if (qcnn_compress(original, &options, &compressed, &error) != QCNN_OK)
        fail_msg("%s", error.message);
    return compressed;
}

// Mean divergence of the class probabilities, on images that no calibration saw.
static double divergence(const qcnn_model *original, const qcnn_model *compressed)
{
    qcnn_dataset *dataset = new_dataset(999);
    float *p, *q;
    int n_images, n_classes;
    assert_int_equal(qcnn_evaluate(original, dataset, NULL, &p, &n_images, &n_classes, NULL), QCNN_OK);
    assert_int_equal(qcnn_evaluate(compressed, dataset, NULL, &q, &n_images, &n_classes, NULL), QCNN_OK);
    double sum = 0;
    for (int i = 0; i < n_images * n_classes; i++)
        sum += (double)p[i] * log((double)p[i] / (double)q[i]);
    qcnn_bytes_free(p);
    qcnn_bytes_free(q);
    qcnn_dataset_free(dataset);
    return sum / n_images;
}

// ---- tests ----------------------------------------------------------------------------------------------------------

static void test_correction_helps(void **state)
{
    (void)state;
    qcnn_model *original = new_model();
    qcnn_dataset *dataset = new_dataset(1);
    double found[3];
    for (int kind = 0; kind < 3; kind++) {
        qcnn_model *compressed = compress(original, dataset, (qcnn_correction)kind, NULL);
        found[kind] = divergence(original, compressed);
        for (size_t n = 0; n < compressed->n_nodes; n++) {
            const qcnn_tensor *weights = qcnn_node_weights(compressed, &compressed->nodes[n]);
            if (!weights)
                continue;
            assert_true(qcnn_is_codebook(weights));
            if (kind == QCNN_CORRECTION_NONE)
                assert_true(weights->error < 0);
            else
                assert_true(weights->error > 0 && weights->error < 0.3f);
        }
        qcnn_model_free(compressed);
    }
    if (!(found[1] < 0.7 * found[0] && found[2] < 0.9 * found[1]))
        fail_msg("divergence without correction %g, layer by layer %g, front to back %g", found[0], found[1], found[2]);
    qcnn_dataset_free(dataset);
    qcnn_model_free(original);
}

static void test_threads_change_nothing(void **state)
{
    (void)state;
    qcnn_model *original = new_model();
    qcnn_dataset *dataset = new_dataset(1);
    void *files[2];
    size_t n_bytes[2];
    for (int i = 0; i < 2; i++) {
        qcnn_pool *pool;
        assert_int_equal(qcnn_pool_create(1 + 2 * i, &pool, NULL), QCNN_OK);
        qcnn_model *compressed = compress(original, dataset, QCNN_CORRECTION_NETWORK, qcnn_pool_hook(pool));
        assert_int_equal(qcnn_save_memory(compressed, &files[i], &n_bytes[i], NULL), QCNN_OK);
        qcnn_model_free(compressed);
        qcnn_pool_free(pool);
    }
    assert_int_equal(n_bytes[0], n_bytes[1]);
    assert_memory_equal(files[0], files[1], n_bytes[0]);
    qcnn_bytes_free(files[0]);
    qcnn_bytes_free(files[1]);
    qcnn_dataset_free(dataset);
    qcnn_model_free(original);
}

static int stop_at(void *context, const char *stage, double fraction)
{
    (void)stage;
    assert_true(fraction >= 0 && fraction <= 1);
    int *n_left = context;
    return (*n_left)-- == 0;
}

static void test_cancel(void **state)
{
    (void)state;
    qcnn_model *original = new_model(), *compressed;
    qcnn_dataset *dataset = new_dataset(1);
    for (int n = 0; n < 200; n += 1 + n / 2) {
        int n_left = n;
        const qcnn_progress progress = { stop_at, &n_left };
        qcnn_compress_options options = qcnn_compress_options_default();
        options.settings = settings;
        options.correction = QCNN_CORRECTION_NETWORK;
        options.calibration = dataset;
        options.progress = &progress;
        const qcnn_status status = qcnn_compress(original, &options, &compressed, NULL);
        assert_int_equal(status, n_left < 0 ? QCNN_ERROR_CANCELLED : QCNN_OK);
        qcnn_model_free(compressed);
    }
    qcnn_dataset_free(dataset);
    qcnn_model_free(original);
}

// ---- checkpoints ----------------------------------------------------------------------------------------------------

static void note(void *context, const char *message)
{
    assert_non_null(strstr(message, "ignored"));
    ++*(int *)context;
}

// The file of a compression that keeps a checkpoint at `path` and is stopped at its n_left-th report (never when negative); NULL if
// it was stopped.
static void *run_with_checkpoint(const qcnn_model *original, const qcnn_dataset *dataset, const char *path, int n_left, size_t *n_bytes,
                                 int *n_notes)
{
    const qcnn_progress progress = { stop_at, &n_left };
    qcnn_compress_options options = qcnn_compress_options_default();
    options.settings = settings;
    options.correction = QCNN_CORRECTION_NETWORK;
    options.calibration = dataset;
    options.checkpoint = path;
    options.note = note;
    options.note_context = n_notes;
    options.progress = &progress;
    qcnn_model *compressed;
    qcnn_error error = { 0 };
    const qcnn_status status = qcnn_compress(original, &options, &compressed, &error);
    if (status == QCNN_ERROR_CANCELLED)
        return NULL;
    if (status != QCNN_OK)
        fail_msg("%s", error.message);
    void *file;
    assert_int_equal(qcnn_save_memory(compressed, &file, n_bytes, NULL), QCNN_OK);
    qcnn_model_free(compressed);
    return file;
}

static void damage(const char *path, long at)
{
    FILE *file = fopen(path, "r+b");
    if (!file)
        return;
    fseek(file, at, SEEK_SET);
    const int byte = fgetc(file);
    fseek(file, at, SEEK_SET);
    fputc(byte ^ 1, file);
    fclose(file);
}

static void test_a_stopped_run_goes_on(void **state)
{
    (void)state;
    char path[] = "/tmp/qcnn_checkpoint_XXXXXX", previous[64];
    const int handle = mkstemp(path);
    assert_true(handle >= 0);
    close(handle);
    unlink(path);
    snprintf(previous, sizeof previous, "%s.previous", path);
    qcnn_model *original = new_model();
    qcnn_dataset *dataset = new_dataset(1);
    int n_notes = 0;
    size_t n_whole, n_bytes;
    void *whole = run_with_checkpoint(original, dataset, path, -1, &n_whole, &n_notes);
    assert_int_equal(access(path, F_OK), 0);
    qcnn_checkpoint_remove(path);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_not_equal(access(previous, F_OK), 0);
    // Stopped ever later, and each time gone on with; damaged in between: the newer file, then both.
    for (int n = 10, round = 0; round < 4; n *= 2, round++) {
        void *file = run_with_checkpoint(original, dataset, path, n, &n_bytes, &n_notes);
        if (round >= 2)
            damage(path, round * 40);
        if (round >= 3)
            damage(previous, 100);
        if (!file)
            file = run_with_checkpoint(original, dataset, path, -1, &n_bytes, &n_notes);
        assert_int_equal(n_bytes, n_whole);
        assert_memory_equal(file, whole, n_whole);
        qcnn_bytes_free(file);
        qcnn_checkpoint_remove(path);
    }
    assert_in_range(n_notes, 1, 3);
    // One of other images is not used.
    qcnn_bytes_free(run_with_checkpoint(original, dataset, path, -1, &n_bytes, &n_notes));
    n_notes = 0;
    qcnn_dataset *other = new_dataset(2);
    void *file = run_with_checkpoint(original, other, path, -1, &n_bytes, &n_notes);
    assert_int_equal(n_notes, 2); // the last and the one before it
    assert_true(n_bytes != n_whole || memcmp(file, whole, n_whole) != 0);
    qcnn_checkpoint_remove(path);
    qcnn_bytes_free(file);
    qcnn_bytes_free(whole);
    qcnn_dataset_free(other);
    qcnn_dataset_free(dataset);
    qcnn_model_free(original);
}

static void test_no_images(void **state)
{
    (void)state;
    qcnn_model *original = new_model(), *compressed;
    qcnn_compress_options options = qcnn_compress_options_default();
    options.correction = QCNN_CORRECTION_LAYER;
    qcnn_error error;
    assert_int_equal(qcnn_compress(original, &options, &compressed, &error), QCNN_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "--calib"));
    qcnn_model_free(original);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_correction_helps), cmocka_unit_test(test_threads_change_nothing),
        cmocka_unit_test(test_cancel),           cmocka_unit_test(test_a_stopped_run_goes_on),
        cmocka_unit_test(test_no_images),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
