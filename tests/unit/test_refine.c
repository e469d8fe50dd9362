// SPDX-License-Identifier: Apache-2.0
// Refinement of a small network: its answers come nearer to the original's, the same bytes on any number of threads, numbers of the
// types that files hold, every way to stop.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// cmocka.h needs the four above
#include <cmocka.h>

#include "build_model.h"
#include "compress/importance.h"
#include "compress/refine.h"
#include "fake_workers.h"
#include "image/dataset.h"

enum { SIDE = 10, CROP = 8, N_IMAGES = 60, N_CLASSES = 10 };

static const char gray_json[] = "{\"resize_shorter\": [], \"interpolation\": \"bilinear\", \"crop\": 8, \"channels\": \"GRAY\", "
                                "\"mean\": [128], \"std\": [64]}";

typedef struct setting {
    qcnn_model *original;
    qcnn_dataset *dataset;
    qcnn_samples samples;
} setting;

static int scaled(qcnn_model *model, qcnn_shape shape, float scale, qcnn_rng *rng)
{
    const size_t n = (size_t)qcnn_shape_elements(&shape);
    float *data = build_random_floats(n, rng);
    for (size_t i = 0; i < n; i++)
        data[i] *= scale;
    return build_constant(model, shape, data);
}

// conv 5x5 - relu - max pool - conv 3x3 - relu - flat - fc - relu - fc - softmax.
static qcnn_model *new_model(void)
{
    qcnn_rng rng = { 3 };
    qcnn_model *model = build_begin();
    qcnn_attributes a = build_window(2, 5, 1, 2);
    a.activation.function = QCNN_RELU;
    int x = build_input(model, "x", (qcnn_shape){ 4, { 1, 1, CROP, CROP } });
    x = build_node(model, QCNN_OP_CONV, &a, 3, x, scaled(model, (qcnn_shape){ 4, { 12, 1, 5, 5 } }, 0.4f, &rng),
                   scaled(model, (qcnn_shape){ 1, { 12 } }, 0.2f, &rng));
    a = build_window(2, 2, 2, 0);
    x = build_node(model, QCNN_OP_MAX_POOL, &a, 1, x);
    a = build_window(2, 3, 1, 1);
    a.activation.function = QCNN_RELU;
    x = build_node(model, QCNN_OP_CONV, &a, 3, x, scaled(model, (qcnn_shape){ 4, { 16, 12, 3, 3 } }, 0.2f, &rng),
                   scaled(model, (qcnn_shape){ 1, { 16 } }, 0.2f, &rng));
    a = (qcnn_attributes){ .target_rank = 2, .target = { 0, -1 } };
    x = build_node(model, QCNN_OP_RESHAPE, &a, 1, x);
    a = (qcnn_attributes){ .activation = { .function = QCNN_RELU } };
    x = build_node(model, QCNN_OP_FC, &a, 3, x, scaled(model, (qcnn_shape){ 2, { 40, 256 } }, 0.12f, &rng),
                   scaled(model, (qcnn_shape){ 1, { 40 } }, 0.2f, &rng));
    a = (qcnn_attributes){ 0 };
    x = build_node(model, QCNN_OP_FC, &a, 3, x, scaled(model, (qcnn_shape){ 2, { N_CLASSES, 40 } }, 0.5f, &rng),
                   scaled(model, (qcnn_shape){ 1, { N_CLASSES } }, 0.2f, &rng));
    x = build_node(model, QCNN_OP_SOFTMAX, (&(qcnn_attributes){ .axis = 1, .axis_end = 1 }), 1, x);
    build_output(model, "prob", x);
    build_end(model, "c");
    return model;
}

static qcnn_dataset *new_dataset(void)
{
    uint8_t file[16 + N_IMAGES * SIDE * SIDE] = { 0, 0, 8, 3, 0, 0, 0, N_IMAGES, 0, 0, 0, SIDE, 0, 0, 0, SIDE };
    qcnn_rng rng = { 17 };
    for (int i = 0; i < N_IMAGES; i++) {
        const double tilt = 2 * qcnn_rng_unit(&rng) - 1, wave = 2 * qcnn_rng_unit(&rng), noise = 60 * qcnn_rng_unit(&rng);
        for (int p = 0; p < SIDE * SIDE; p++) {
            const double value = 128 + 12 * tilt * (p % SIDE - 5) + 50 * sin(wave * (p / SIDE)) + noise * (qcnn_rng_unit(&rng) - 0.5);
            file[16 + i * SIDE * SIDE + p] = (uint8_t)fmin(fmax(value, 0), 255);
        }
    }
    qcnn_dataset *dataset;
    assert_int_equal(qcnn_dataset_from_idx(file, sizeof file, NULL, 0, &dataset, NULL), QCNN_OK);
    return dataset;
}

static int set_up(void **state)
{
    setting *all = calloc(1, sizeof *all);
    all->original = new_model();
    all->dataset = new_dataset();
    assert_int_equal(qcnn_samples_open(all->original, all->dataset, gray_json, 1, &all->samples, NULL), QCNN_OK);
    *state = all;
    return 0;
}

static int tear_down(void **state)
{
    setting *all = *state;
    qcnn_samples_close(&all->samples);
    qcnn_dataset_free(all->dataset);
    qcnn_model_free(all->original);
    free(all);
    return 0;
}

static qcnn_model *compress(const setting *all)
{
    qcnn_model *compressed;
    qcnn_error error = { 0 };
    qcnn_compress_options options = qcnn_compress_options_default();
    options.settings = "node0=dense,node2=4/8,node4=8/8/int8,node5=4/8";
    if (qcnn_compress(all->original, &options, &compressed, &error) != QCNN_OK)
        fail_msg("%s", error.message);
    return compressed;
}

static qcnn_refine_options small_options(void)
{
    qcnn_refine_options options = qcnn_refine_options_default();
    options.whole = (qcnn_refine_stage){ 30, 16, 0.02f, 0.02f, 1, 0.3f, 200 };
    options.head = (qcnn_refine_stage){ 30, 16, 0.02f, 0.02f, 1, 0.3f, 100 };
    options.n_looks = 3;
    return options;
}

static bool same_model(const qcnn_model *a, const qcnn_model *b)
{
    void *bytes[2];
    size_t n[2];
    assert_int_equal(qcnn_save_memory(a, &bytes[0], &n[0], NULL), QCNN_OK);
    assert_int_equal(qcnn_save_memory(b, &bytes[1], &n[1], NULL), QCNN_OK);
    const bool same = n[0] == n[1] && memcmp(bytes[0], bytes[1], n[0]) == 0;
    qcnn_bytes_free(bytes[0]);
    qcnn_bytes_free(bytes[1]);
    return same;
}

static void refine(const setting *all, const qcnn_refine_options *options, qcnn_model *model, qcnn_refine_report *report)
{
    qcnn_error error = { 0 };
    if (qcnn_refine(all->original, model, &all->samples, options, report, &error) != QCNN_OK)
        fail_msg("%s", error.message);
}

static void test_answers_come_nearer(void **state)
{
    const setting *all = *state;
    const qcnn_refine_options options = small_options();
    qcnn_model *model = compress(all);
    qcnn_refine_report report;
    refine(all, &options, model, &report);
    assert_true(report.divergence[1] < 0.7 * report.divergence[0]);
    assert_int_equal(report.n_steps[0], 30);
    assert_int_equal(report.n_steps[1], 30);
    // Codewords of the int8 layer are integers times their scale: the file holds them exactly.
    const qcnn_codebook *book = &qcnn_node_weights(model, &model->nodes[4])->codebook;
    assert_int_equal(book->codeword_type, QCNN_INT8);
    for (int i = 0; i < book->n_subspaces * book->n_codewords * book->subspace; i++) {
        const float scale = book->scales[i / (book->n_codewords * book->subspace)];
        assert_true(scale == 0 || book->codewords[i] == scale * rintf(book->codewords[i] / scale));
    }
    qcnn_model_free(model);
}

static void test_threads_do_not_matter(void **state)
{
    const setting *all = *state;
    qcnn_refine_options options = small_options();
    qcnn_refine_report report;
    qcnn_model *models[3];
    options.whole.n_steps = options.head.n_steps = 5;
    for (int i = 0; i < 3; i++) {
        fake_workers workers = { 1 << i, 0 };
        const qcnn_parallel hook = fake_workers_hook(&workers);
        options.parallel = i > 0 ? &hook : NULL;
        models[i] = compress(all);
        refine(all, &options, models[i], &report);
        assert_true(same_model(models[0], models[i]));
    }
    options.seed++;
    qcnn_model *other = compress(all);
    options.parallel = NULL;
    refine(all, &options, other, &report);
    assert_false(same_model(models[0], other));
    qcnn_model_free(other);
    for (int i = 0; i < 3; i++)
        qcnn_model_free(models[i]);
}

typedef struct stopper {
    int n_calls, stop_at;
} stopper;

static int count_and_stop(void *context, const char *stage, double fraction)
{
    stopper *s = context;
    assert_non_null(stage);
    assert_true(fraction >= 0 && fraction <= 1);
    return ++s->n_calls == s->stop_at;
}

// Stopped at each call of the hook, the model is as it was.
static void test_cancel(void **state)
{
    const setting *all = *state;
    qcnn_refine_options options = small_options();
    qcnn_refine_report report;
    options.whole.n_steps = options.head.n_steps = 2;
    options.n_looks = 1;
    qcnn_model *before = compress(all), *model = compress(all);
    for (int stop_at = 1;; stop_at++) {
        stopper s = { 0, stop_at };
        const qcnn_progress progress = { count_and_stop, &s };
        options.progress = &progress;
        const qcnn_status status = qcnn_refine(all->original, model, &all->samples, &options, &report, NULL);
        if (status == QCNN_OK) {
            assert_true(stop_at > 6);
            break;
        }
        assert_int_equal(status, QCNN_ERROR_CANCELLED);
        assert_true(same_model(before, model));
    }
    qcnn_model_free(before);
    qcnn_model_free(model);
}

// Stopped anywhere and called again, with as many checkpoints as there are, it ends with the same bytes. A damaged checkpoint or one
// of another seed is not used.
static void test_goes_on_from_checkpoints(void **state)
{
    const setting *all = *state;
    static const int stops[] = { 3, 9, 14, 18, 22 };
    char folder[] = "/tmp/qcnn-refine-XXXXXX", path[80], whole[80];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/checkpoint", folder);
    snprintf(whole, sizeof whole, "%s/checkpoint.whole", folder);
    qcnn_refine_options options = small_options();
    qcnn_refine_report report, expected;
    options.whole.n_steps = options.head.n_steps = 9;
    qcnn_model *straight = compress(all);
    refine(all, &options, straight, &expected);
    options.checkpoint = path;
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
        qcnn_model *model = compress(all);
        stopper s = { 0, stops[i] };
        const qcnn_progress progress = { count_and_stop, &s };
        options.progress = &progress;
        assert_int_equal(qcnn_refine(all->original, model, &all->samples, &options, &report, NULL), QCNN_ERROR_CANCELLED);
        options.progress = NULL;
        if (i == 3) {
            FILE *file = fopen(whole, "r+b");
            assert_non_null(file);
            fseek(file, 1000, SEEK_SET);
            fputs("damage", file);
            fclose(file);
        }
        options.seed += i == 1;
        if (i == 1) {
            refine(all, &options, model, &report);
            assert_false(same_model(straight, model));
            options.seed--;
            qcnn_model_free(model);
            model = compress(all);
        }
        refine(all, &options, model, &report);
        assert_true(same_model(straight, model));
        assert_true(report.divergence[0] == expected.divergence[0] && report.divergence[1] == expected.divergence[1]);
        qcnn_model_free(model);
        qcnn_refine_checkpoint_remove(path);
    }
    assert_int_equal(rmdir(folder), 0); // nothing else was left
    qcnn_model_free(straight);
}

static qcnn_status compress_all(const setting *all, const char *checkpoint, const qcnn_parallel *parallel, const qcnn_progress *progress,
                                qcnn_model **model)
{
    qcnn_compress_options options = qcnn_compress_options_default();
    options.settings = "node0=dense,node2=4/8,node4=8/8/int8,node5=4/8";
    options.correction = QCNN_CORRECTION_NETWORK;
    options.calibration = all->dataset;
    options.preprocess = gray_json;
    options.refine_minutes = 1e-5;
    options.checkpoint = checkpoint;
    options.parallel = parallel;
    options.progress = progress;
    return qcnn_compress(all->original, &options, model, NULL);
}

// Convolutions are corrected and refined, then the fully-connected layers: on any number of threads, stopped anywhere, the same bytes.
static void test_between_corrections(void **state)
{
    const setting *all = *state;
    char folder[] = "/tmp/qcnn-refine-XXXXXX", path[80];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/checkpoint", folder);
    fake_workers workers = { 2, 0 };
    const qcnn_parallel hook = fake_workers_hook(&workers);
    stopper counter = { 0, -1 };
    const qcnn_progress counting = { count_and_stop, &counter };
    qcnn_model *straight, *model;
    assert_int_equal(compress_all(all, NULL, NULL, &counting, &straight), QCNN_OK);
    for (int part = 1; part < 8; part++) {
        stopper s = { 0, counter.n_calls * part / 8 };
        const qcnn_progress progress = { count_and_stop, &s };
        assert_int_equal(compress_all(all, path, NULL, &progress, &model), QCNN_ERROR_CANCELLED);
        assert_int_equal(compress_all(all, path, &hook, NULL, &model), QCNN_OK);
        assert_true(same_model(straight, model));
        qcnn_model_free(model);
        qcnn_checkpoint_remove(path);
    }
    assert_int_equal(rmdir(folder), 0); // nothing was left
    qcnn_model_free(straight);
}

static void test_refuses(void **state)
{
    const setting *all = *state;
    qcnn_refine_options options = small_options();
    qcnn_refine_report report;
    qcnn_error error = { 0 };
    qcnn_model *copy;
    assert_int_equal(qcnn_model_copy(all->original, &copy, NULL), QCNN_OK);
    assert_int_equal(qcnn_refine(all->original, copy, &all->samples, &options, &report, &error), QCNN_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "nothing to refine"));
    qcnn_model_free(copy);
    qcnn_model *model = compress(all);
    options.whole.batch = 12;
    assert_int_equal(qcnn_refine(all->original, model, &all->samples, &options, &report, &error), QCNN_ERROR_ARGUMENT);
    qcnn_model_free(model);
}

// Minutes make steps, as many on every machine.
static void test_minutes(void **state)
{
    const setting *all = *state;
    qcnn_refine_options options = small_options();
    qcnn_refine_report report;
    options.whole.n_steps = options.head.n_steps = -1;
    options.minutes = 1e-5;
    qcnn_model *model = compress(all);
    refine(all, &options, model, &report);
    assert_true(report.n_steps[0] >= 1 && report.n_steps[1] >= 1);
    qcnn_model_free(model);
}

// In the last layer the derivative is 1 - p or -p: its mean square over draws is p (1 - p).
static void test_importances(void **state)
{
    const setting *all = *state;
    const qcnn_model *model = all->original;
    enum { N = 512 };
    static float together[16 * 16];
    float last[2][N_CLASSES], convolution[16], *wanted[16] = { 0 }, *fishers[16] = { 0 };
    assert_true(model->n_nodes <= 16);
    wanted[2] = convolution;
    wanted[5] = last[0];
    fishers[2] = together;
    assert_int_equal(model->nodes[2].attributes.groups, 1);
    assert_int_equal(qcnn_importances(model, &all->samples, N, 1, NULL, NULL, wanted, fishers, NULL), QCNN_OK);
    // Channels together have the same diagonal, scaled, and no product is larger than its two squares allow.
    qcnn_importances_normalise(convolution, 16);
    for (int c = 0; c < 16; c++) {
        assert_true(fabsf(together[c * 16 + c] - convolution[c]) <= 1e-3f * convolution[c]);
        for (int d = 0; d < 16; d++)
            assert_true(together[c * 16 + d] * together[c * 16 + d] <= together[c * 16 + c] * together[d * 16 + d] * 1.001f);
    }
    fake_workers workers = { 3, 0 };
    const qcnn_parallel hook = fake_workers_hook(&workers);
    wanted[5] = last[1];
    assert_int_equal(qcnn_importances(model, &all->samples, N, 1, &hook, NULL, wanted, NULL, NULL), QCNN_OK);
    assert_memory_equal(last[0], last[1], sizeof last[0]);
    double expected[N_CLASSES] = { 0 }, sums[2] = { 0, 0 };
    qcnn_session *session;
    assert_int_equal(qcnn_session_create(model, NULL, &session, NULL), QCNN_OK);
    for (int i = 0; i < N; i++) {
        float image[CROP * CROP], prob[N_CLASSES];
        assert_int_equal(qcnn_samples_read(&all->samples, QCNN_PART_FIT, i, image, NULL), QCNN_OK);
        qcnn_run(session, (const float *const[]){ image }, (float *const[]){ prob });
        for (int c = 0; c < N_CLASSES; c++)
            expected[c] += (double)prob[c] * (1 - (double)prob[c]) / N;
    }
    qcnn_session_free(session);
    for (int c = 0; c < N_CLASSES; c++) {
        sums[0] += expected[c];
        sums[1] += (double)last[0][c];
    }
    assert_true(sums[0] > 0 && fabs(sums[1] / sums[0] - 1) < 0.1);
    float sum = 0;
    for (int c = 0; c < 16; c++) {
        assert_true(convolution[c] >= 0);
        sum += convolution[c];
    }
    assert_true(sum > 0);
}

// In the last layer the derivatives of an image add up to 0, so do the rows of their products: before something is added to the diagonal
// and a tenth taken off all else. Threads change nothing.
static void test_fisher(void **state)
{
    const setting *all = *state;
    const qcnn_model *model = all->original;
    enum { N = 200, LAST = 5, MOST_INPUTS = 512 };
    static float rows[N * MOST_INPUTS], fisher[2][N_CLASSES * N_CLASSES];
    const qcnn_shape *shape = &model->values[model->nodes[LAST].inputs[0]].shape;
    const int n_inputs = (int)shape->dims[shape->rank - 1];
    assert_true(model->nodes[LAST].op == QCNN_OP_FC && n_inputs <= MOST_INPUTS);
    qcnn_rng rng = { 5 };
    for (int i = 0; i < N * n_inputs; i++)
        rows[i] = (float)qcnn_rng_unit(&rng);
    fake_workers workers = { 3, 0 };
    const qcnn_parallel hook = fake_workers_hook(&workers);
    assert_int_equal(qcnn_fisher(model, LAST, rows, N, 1, NULL, fisher[0], NULL), QCNN_OK);
    assert_int_equal(qcnn_fisher(model, LAST, rows, N, 1, &hook, fisher[1], NULL), QCNN_OK);
    assert_memory_equal(fisher[0], fisher[1], sizeof fisher[0]);
    for (int c = 0; c < N_CLASSES; c++) {
        double others = 0;
        for (int d = 0; d < N_CLASSES; d++)
            others += d == c ? 0 : (double)fisher[0][c * N_CLASSES + d];
        const double own = (double)fisher[0][c * N_CLASSES + c] - 0.02 / 1.02;
        assert_true(own >= 0 && fabs(others + 0.9 * own) <= 1e-4 * (1 + own));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_come_nearer),
        cmocka_unit_test(test_threads_do_not_matter),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_goes_on_from_checkpoints),
        cmocka_unit_test(test_between_corrections),
        cmocka_unit_test(test_minutes),
        cmocka_unit_test(test_importances),
        cmocka_unit_test(test_fisher),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
