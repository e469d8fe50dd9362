// SPDX-License-Identifier: Apache-2.0
// Settings from the search: the size that was asked for, the loss that was allowed, what the caller has named, one result for any
// number of threads.

#include <unistd.h>

#include "compress/judge.h"
#include "small_network.h"

typedef struct goal {
    double ratio, max_drop;
    const char *settings;
    const qcnn_parallel *parallel;
    char *note; // [160]: what was told, if anything
    const char *checkpoint;
    const qcnn_progress *progress;
} goal;

static void keep_note(void *context, const char *message)
{
    if (context)
        snprintf(context, 160, "%s", message);
}

static qcnn_status try_compress(const qcnn_model *original, const qcnn_dataset *dataset, goal wanted, qcnn_model **compressed,
                                qcnn_error *error)
{
    qcnn_compress_options options = qcnn_compress_options_default();
    options.ratio = wanted.ratio;
    options.max_drop = wanted.max_drop;
    options.settings = wanted.settings;
    options.parallel = wanted.parallel;
    options.correction = QCNN_CORRECTION_NETWORK;
    options.calibration = dataset;
    options.note = keep_note;
    options.note_context = wanted.note;
    options.checkpoint = wanted.checkpoint;
    options.progress = wanted.progress;
    return qcnn_compress(original, &options, compressed, error);
}

static qcnn_model *compress(const qcnn_model *original, const qcnn_dataset *dataset, goal wanted)
{
    qcnn_model *compressed;
    qcnn_error error = { 0 };
    if (try_compress(original, dataset, wanted, &compressed, &error) != QCNN_OK)
        fail_msg("%s", error.message);
    return compressed;
}

static size_t size_of(const qcnn_model *model)
{
    void *file;
    size_t n_bytes;
    assert_int_equal(qcnn_save_memory(model, &file, &n_bytes, NULL), QCNN_OK);
    qcnn_bytes_free(file);
    return n_bytes;
}

static void test_ratio_is_hit(void **state)
{
    (void)state;
    qcnn_model *original = new_model();
    qcnn_dataset *dataset = new_dataset(1);
    qcnn_model *compressed = compress(original, dataset, (goal){ .ratio = 8 });
    const double ratio = (double)qcnn_model_original_bytes(original) / (double)size_of(compressed);
    print_message("asked for 8, got %.3f\n", ratio);
    assert_true(fabs(ratio / 8 - 1) < 0.02);
    qcnn_model_free(compressed);
    qcnn_dataset_free(dataset);
    qcnn_model_free(original);
}

static void test_too_small(void **state)
{
    (void)state;
    qcnn_model *original = new_model(), *compressed;
    qcnn_dataset *dataset = new_dataset(1);
    qcnn_error error;
    assert_int_equal(try_compress(original, dataset, (goal){ .ratio = 1000 }, &compressed, &error), QCNN_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "no settings make the file so small"));
    qcnn_dataset_free(dataset);
    qcnn_model_free(original);
}

// Stops behind the search, or within it; counts how often a survey reports.
typedef struct watcher {
    int n_survey, stop_at; // 0: never
    bool stop_behind;
} watcher;

static int watch(void *context, const char *stage, double fraction)
{
    (void)fraction;
    watcher *w = context;
    const bool searching =
        !strcmp(stage, "survey") || !strcmp(stage, "search") || !strcmp(stage, "judging") || !strcmp(stage, "importances");
    w->n_survey += !strcmp(stage, "survey");
    return (w->stop_behind && !searching) || (w->stop_at > 0 && w->n_survey >= w->stop_at);
}

// A search that was done need not be done again, whatever ratio is asked for then, and leads to the same bytes.
static void test_a_search_is_kept(void **state)
{
    (void)state;
    char path[] = "/tmp/qcnn_checkpoint_XXXXXX", kept[64], part[64];
    const int handle = mkstemp(path);
    assert_true(handle >= 0);
    close(handle);
    unlink(path);
    snprintf(kept, sizeof kept, "%s.search", path);
    snprintf(part, sizeof part, "%s.search.new", path); // as a kill leaves it
    fclose(fopen(part, "wb"));
    qcnn_model *original = new_model(), *stopped;
    qcnn_dataset *dataset = new_dataset(1);
    watcher w = { .stop_at = 3 };
    const qcnn_progress progress = { watch, &w };
    goal wanted = { .ratio = 8, .checkpoint = path, .progress = &progress };
    assert_int_equal(try_compress(original, dataset, wanted, &stopped, NULL), QCNN_ERROR_CANCELLED);
    assert_int_equal(w.n_survey, 3);
    assert_int_not_equal(access(kept, F_OK), 0);
    w = (watcher){ .stop_behind = true };
    assert_int_equal(try_compress(original, dataset, wanted, &stopped, NULL), QCNN_ERROR_CANCELLED);
    assert_true(w.n_survey > 3);
    assert_int_equal(access(kept, F_OK), 0);
    w = (watcher){ 0 };
    wanted.ratio = 6;
    qcnn_model *resumed = compress(original, dataset, wanted), *whole = compress(original, dataset, (goal){ .ratio = 6 });
    assert_int_equal(w.n_survey, 0);
    void *files[2];
    size_t n_bytes[2];
    assert_int_equal(qcnn_save_memory(resumed, &files[0], &n_bytes[0], NULL), QCNN_OK);
    assert_int_equal(qcnn_save_memory(whole, &files[1], &n_bytes[1], NULL), QCNN_OK);
    assert_int_equal(n_bytes[0], n_bytes[1]);
    assert_memory_equal(files[0], files[1], n_bytes[0]);
    fclose(fopen(part, "wb"));
    qcnn_checkpoint_remove(path);
    assert_int_not_equal(access(kept, F_OK), 0);
    assert_int_not_equal(access(part, F_OK), 0);
    for (int i = 0; i < 2; i++)
        qcnn_bytes_free(files[i]);
    qcnn_model_free(resumed);
    qcnn_model_free(whole);
    qcnn_dataset_free(dataset);
    qcnn_model_free(original);
}

// No settings make the file as large as was asked for: the nearest is given, and that it is not the size wanted is told.
static void test_miss_is_told(void **state)
{
    (void)state;
    qcnn_model *original = new_model();
    qcnn_dataset *dataset = new_dataset(1);
    char note[160] = "";
    qcnn_model_free(compress(original, dataset, (goal){ .ratio = 8, .note = note }));
    assert_string_equal(note, "");
    qcnn_model_free(compress(original, dataset, (goal){ .ratio = 1.5, .note = note }));
    assert_non_null(strstr(note, "times smaller, not 1.5"));
    qcnn_dataset_free(dataset);
    qcnn_model_free(original);
}

// Images that are all the same gray, 0 once normalised: every input of every layer is constant, most of them 0.
static void test_constant_inputs(void **state)
{
    (void)state;
    static uint8_t file[16 + N_IMAGES * SIDE * SIDE] = { 0, 0, 8, 3, 0, 0, 0, N_IMAGES, 0, 0, 0, SIDE, 0, 0, 0, SIDE };
    memset(file + 16, 128, sizeof file - 16);
    qcnn_model *original = new_model();
    qcnn_dataset *dataset;
    assert_int_equal(qcnn_dataset_from_idx(file, sizeof file, NULL, 0, &dataset, NULL), QCNN_OK);
    qcnn_model_free(compress(original, dataset, (goal){ .ratio = 8 }));
    qcnn_dataset_free(dataset);
    qcnn_model_free(original);
}

static void test_named_layers_are_kept(void **state)
{
    (void)state;
    qcnn_model *original = new_model();
    qcnn_dataset *dataset = new_dataset(1);
    qcnn_model *compressed = compress(original, dataset, (goal){ .ratio = 5, .settings = "grouped=6/16,conv1=dense" });
    for (int i = 0; i < qcnn_model_n_layers(compressed); i++) {
        const qcnn_layer_info layer = qcnn_model_layer(compressed, i);
        if (!strcmp(layer.name, "grouped"))
            assert_true(layer.subspace == 6 && layer.codewords <= 16);
        if (!strcmp(layer.name, "conv1"))
            assert_string_equal(layer.storage, "float32");
    }
    qcnn_model_free(compressed);
    qcnn_dataset_free(dataset);
    qcnn_model_free(original);
}

static void test_drop_is_kept_to(void **state)
{
    (void)state;
    qcnn_model *original = new_model();
    qcnn_dataset *dataset = new_dataset(1);
    qcnn_samples samples;
    qcnn_judge *judge;
    assert_int_equal(qcnn_samples_open(original, dataset, NULL, 0, &samples, NULL), QCNN_OK);
    assert_int_equal(qcnn_judge_new(original, &samples, QCNN_PART_HELD_OUT, samples.n_images[QCNN_PART_HELD_OUT], NULL, NULL, &judge, NULL),
                     QCNN_OK);
    qcnn_model *compressed = compress(original, dataset, (goal){ .max_drop = 0.2 });
    qcnn_verdict verdict;
    assert_int_equal(qcnn_judge_model(judge, compressed, NULL, &verdict, NULL), QCNN_OK);
    print_message("at most 0.2 points: %.2f, %zu bytes\n", 100 * verdict.drop, size_of(compressed));
    assert_true(100 * verdict.drop <= 0.2);
    qcnn_model_free(compressed);
    qcnn_judge_free(judge);
    qcnn_samples_close(&samples);
    qcnn_dataset_free(dataset);
    qcnn_model_free(original);
}

// One layer spoilt: the network with it alone is bad, the one with all others is good.
static void test_diagnosis_finds_the_layer(void **state)
{
    (void)state;
    qcnn_model *original = new_model();
    qcnn_dataset *dataset = new_dataset(1);
    qcnn_compress_options options = qcnn_compress_options_default();
    options.settings = "conv1=1/64,expand1=2/32,expand3=2/64,grouped=1/2,fc1=2/32,fc2=2/12";
    options.correction = QCNN_CORRECTION_LAYER;
    options.calibration = dataset;
    qcnn_model *compressed;
    qcnn_diagnosis diagnosis;
    assert_int_equal(qcnn_compress(original, &options, &compressed, NULL), QCNN_OK);
    assert_int_equal(qcnn_diagnose(original, compressed, dataset, 6, NULL, NULL, &diagnosis, NULL), QCNN_OK);
    assert_int_equal(diagnosis.n_images, 6);
    assert_int_equal(diagnosis.n_layers, qcnn_model_n_layers(compressed));
    int worst_alone = 0, best_without = -1;
    for (int i = 0; i < diagnosis.n_layers; i++) {
        const qcnn_layer_diagnosis *layer = &diagnosis.layers[i];
        if (!layer->known)
            continue;
        worst_alone = layer->alone_divergence > diagnosis.layers[worst_alone].alone_divergence ? i : worst_alone;
        if (best_without < 0 || layer->others_divergence < diagnosis.layers[best_without].others_divergence)
            best_without = i;
    }
    assert_string_equal(qcnn_model_layer(compressed, worst_alone).name, "grouped");
    assert_string_equal(qcnn_model_layer(compressed, best_without).name, "grouped");
    qcnn_comparison comparison; // of what runs: in bytes, so not quite the diagnosis's floats
    assert_int_equal(qcnn_compare(original, compressed, dataset, 6, NULL, NULL, &comparison, NULL), QCNN_OK);
    assert_int_equal(comparison.n_images, 6);
    assert_int_equal(comparison.held_out, 1);
    assert_true(comparison.divergence > 0.2 * diagnosis.divergence && comparison.divergence < 5 * diagnosis.divergence);
    assert_true(comparison.drop_error >= 0);
    qcnn_diagnosis_free(&diagnosis);
    assert_int_equal(qcnn_compare(original, original, dataset, 0, NULL, NULL, &comparison, NULL), QCNN_OK);
    assert_true(comparison.n_images >= 6 && comparison.agreement > 0.9999 && comparison.divergence < 1e-6 && comparison.drop == 0);
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
        qcnn_model *compressed = compress(original, dataset, (goal){ .ratio = 8, .parallel = qcnn_pool_hook(pool) });
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ratio_is_hit),           cmocka_unit_test(test_too_small),
        cmocka_unit_test(test_a_search_is_kept),       cmocka_unit_test(test_miss_is_told),
        cmocka_unit_test(test_constant_inputs),        cmocka_unit_test(test_named_layers_are_kept),
        cmocka_unit_test(test_drop_is_kept_to),        cmocka_unit_test(test_diagnosis_finds_the_layer),
        cmocka_unit_test(test_threads_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
