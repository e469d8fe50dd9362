// SPDX-License-Identifier: Apache-2.0
// Error correction of a small network with branches, joins and layers without a bias: better responses than without it, the same
// bytes on any number of threads, and every way to stop.

#include "small_network.h"

#include <unistd.h>

#include "compress/gemm_bf16.h"

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

static double corrected; // the divergence of a correction front to back

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
            assert_true(kind == QCNN_CORRECTION_NONE ? weights->error < 0 : weights->error > 0 && weights->error < 0.3f);
            if (kind == QCNN_CORRECTION_LAYER)
                assert_true(weights->error < weights->error_before);
            else // a joint descent may let a layer err more
                assert_true((weights->error_before > 0) == (kind == QCNN_CORRECTION_NETWORK));
        }
        qcnn_model_free(compressed);
    }
    if (!(found[1] < 0.7 * found[0] && found[2] < 0.9 * found[1]))
        fail_msg("divergence without correction %g, layer by layer %g, front to back %g", found[0], found[1], found[2]);
    corrected = found[2];
    qcnn_dataset_free(dataset);
    qcnn_model_free(original);
}

// What processors without bfloat16 run.
static void test_in_float32(void **state)
{
    (void)state;
    qcnn_model *original = new_model();
    qcnn_dataset *dataset = new_dataset(1);
    qcnn_gemm_bf16_forbid(true);
    assert_false(qcnn_gemm_bf16_available());
    qcnn_model *compressed = compress(original, dataset, QCNN_CORRECTION_NETWORK, NULL);
    qcnn_gemm_bf16_forbid(false);
    const double found = divergence(original, compressed);
    if (!(found < 1.5 * corrected && corrected < 1.5 * found))
        fail_msg("divergence %g, and %g without bfloat16", corrected, found);
    qcnn_model_free(compressed);
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

static int n_reports; // so far

static int stop_at(void *context, const char *stage, double fraction)
{
    (void)stage;
    n_reports++;
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
    if (strncmp(message, "resuming: ", 10) == 0) // that a file was used is no complaint
        return;
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
    n_reports = 0;
    void *whole = run_with_checkpoint(original, dataset, path, -1, &n_whole, &n_notes);
    assert_int_equal(access(path, F_OK), 0);
    qcnn_checkpoint_remove(path);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_not_equal(access(previous, F_OK), 0);
    // Stopped ever later, the last times behind the convolutions, and each time gone on with; damaged in between: the newer file, then
    // both.
    const int stops[] = { n_reports / 10, n_reports / 2, n_reports * 9 / 10, n_reports * 19 / 20 };
    for (int round = 0; round < 4; round++) {
        void *file = run_with_checkpoint(original, dataset, path, stops[round], &n_bytes, &n_notes);
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
    assert_int_equal(n_notes, 4); // the last and the one before it, of the convolutions and of what follows
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
        cmocka_unit_test(test_no_images),        cmocka_unit_test(test_in_float32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
