// SPDX-License-Identifier: Apache-2.0
// Calibrated ranges: exactly those of a plain search through all activations (peaks: four fifths), the same for any number of threads, by
// compressing with images as by calibrating afterwards.

#include "small_network.h"

#include "compress/round.h"
#include "compress/samples.h"

static const char settings[] = "conv1=1/8,expand1=4/8,expand3=3/16,grouped=4/32,fc1=4/16,fc2=4/8";

static qcnn_model *compress(const qcnn_model *original, const qcnn_dataset *dataset, const qcnn_parallel *parallel)
{
    qcnn_compress_options options = qcnn_compress_options_default();
    options.settings = settings;
    options.calibration = dataset;
    options.parallel = parallel;
    qcnn_model *compressed;
    qcnn_error error = { 0 };
    if (qcnn_compress(original, &options, &compressed, &error) != QCNN_OK)
        fail_msg("%s", error.message);
    return compressed;
}

static void *save(const qcnn_model *model, size_t *n_bytes)
{
    void *file;
    qcnn_error error = { 0 };
    if (qcnn_save_memory(model, &file, n_bytes, &error) != QCNN_OK)
        fail_msg("%s", error.message);
    return file;
}

static void assert_same_files(const qcnn_model *a, const qcnn_model *b)
{
    size_t n_a, n_b;
    void *file_a = save(a, &n_a), *file_b = save(b, &n_b);
    assert_int_equal(n_a, n_b);
    assert_memory_equal(file_a, file_b, n_a);
    qcnn_bytes_free(file_a);
    qcnn_bytes_free(file_b);
}

// ---- the plain search -----------------------------------------------------------------------------------------------

// Peaks of a convolution's codebook over its input x [channels][plane].
static void search_peaks(const qcnn_codebook *book, const float *x, size_t plane, float *peaks)
{
    for (int i = 0; i < book->groups * book->n_subspaces; i++)
        for (size_t p = 0; p < plane; p++)
            for (int k = 0; k < book->n_codewords; k++) {
                const int group = i / book->n_subspaces, m = i % book->n_subspaces, set = book->n_sets > 1 ? group : 0;
                const float *word = book->codewords + ((set * book->n_subspaces + m) * book->n_codewords + k) * book->subspace;
                float product = 0;
                for (int c = 0; c < book->subspace && m * book->subspace + c < book->n_inputs; c++)
                    product += x[(size_t)(group * book->n_inputs + m * book->subspace + c) * plane + p] * word[c];
                peaks[i] = fmaxf(peaks[i], fabsf(product));
            }
}

static int compare_floats(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

enum { N_NODES = 11, N_SAMPLES = 256, MAX_ELEMENTS = 24 * 64, MAX_PEAKS = 16 };

// What nine samples in ten do not exceed.
static float usual(float extremes[N_SAMPLES])
{
    qsort(extremes, N_SAMPLES, sizeof *extremes, compare_floats);
    return extremes[230];
}

// Of each sample: extremes of the nodes' outputs and, last, of the input; peaks of convolutions.
static float lows[N_NODES + 1][N_SAMPLES], highs[N_NODES + 1][N_SAMPLES], peaks[N_NODES][MAX_PEAKS][N_SAMPLES];

static void search_sample(const qcnn_model *traced, const float *input, float outputs[N_NODES][MAX_ELEMENTS], int sample)
{
    for (int n = 0; n <= N_NODES; n++) {
        const float *x = n < N_NODES ? outputs[n] : input;
        const size_t n_elements = n < N_NODES ? (size_t)qcnn_shape_elements(&traced->values[traced->nodes[n].output].shape) : 64;
        lows[n][sample] = INFINITY;
        highs[n][sample] = -INFINITY;
        for (size_t e = 0; e < n_elements; e++) {
            lows[n][sample] = fminf(lows[n][sample], x[e]);
            highs[n][sample] = fmaxf(highs[n][sample], x[e]);
        }
    }
    for (int n = 0; n < N_NODES; n++) {
        const qcnn_node *node = &traced->nodes[n];
        const float *x = node->inputs[0] == traced->inputs[0] ? input : NULL;
        float found[MAX_PEAKS] = { 0 };
        for (int before = 0; before < n; before++)
            x = traced->nodes[before].output == node->inputs[0] ? outputs[before] : x;
        if (node->op == QCNN_OP_CONV)
            search_peaks(&qcnn_node_weights(traced, node)->codebook, x, 64, found);
        for (int i = 0; i < MAX_PEAKS; i++)
            peaks[n][i][sample] = found[i];
    }
}

static void assert_range(const qcnn_value *value, float low[N_SAMPLES], float high[N_SAMPLES])
{
    for (int i = 1; i < N_SAMPLES; i++)
        low[0] = fminf(low[0], low[i]);
    assert_true(low[0] == value->low && usual(high) == value->high);
}

// Every node's output of the network in floats, for all samples, against what was found.
static void assert_ranges_are_right(const qcnn_model *model, const qcnn_dataset *dataset)
{
    static float outputs[N_NODES][MAX_ELEMENTS];
    float input[64], *places[N_NODES];
    qcnn_model *traced;
    qcnn_session *session;
    qcnn_samples samples;
    assert_int_equal(qcnn_model_copy(model, &traced, NULL), QCNN_OK);
    assert_int_equal(traced->n_nodes, N_NODES);
    traced->exact = true;
    traced->n_outputs = 0;
    for (int n = 0; n < N_NODES; n++) {
        assert_int_equal(qcnn_model_add_output(traced, traced->nodes[n].output, NULL), QCNN_OK);
        places[n] = outputs[n];
    }
    assert_int_equal(qcnn_model_prepare(traced, NULL, NULL), QCNN_OK);
    assert_int_equal(qcnn_session_create(traced, NULL, &session, NULL), QCNN_OK);
    assert_int_equal(qcnn_samples_open(traced, dataset, NULL, 0, &samples, NULL), QCNN_OK);
    for (int i = 0; i < N_SAMPLES; i++) {
        assert_int_equal(qcnn_samples_read(&samples, QCNN_PART_FIT, i, input, NULL), QCNN_OK);
        qcnn_run(session, (const float *const[]){ input }, places);
        search_sample(traced, input, outputs, i);
    }
    assert_range(&model->values[model->inputs[0]], lows[N_NODES], highs[N_NODES]);
    for (int n = 0; n < N_NODES; n++) {
        const qcnn_tensor *weights = qcnn_node_weights(model, &model->nodes[n]);
        assert_range(&model->values[model->nodes[n].output], lows[n], highs[n]);
        assert_int_equal(weights && weights->codebook.peaks, model->nodes[n].op == QCNN_OP_CONV);
        for (int i = 0; model->nodes[n].op == QCNN_OP_CONV && i < weights->codebook.groups * weights->codebook.n_subspaces; i++)
            assert_true(0.8F * usual(peaks[n][i]) == weights->codebook.peaks[i]); // a fifth is cut off
    }
    qcnn_samples_close(&samples);
    qcnn_session_free(session);
    qcnn_model_free(traced);
}

// ---- tests ----------------------------------------------------------------------------------------------------------

static void test_ranges_and_peaks(void **state)
{
    (void)state;
    qcnn_model *original = new_model(), *with, *without, *calibrated, *loaded;
    qcnn_dataset *dataset = new_dataset(1);
    with = compress(original, dataset, NULL);
    assert_true(qcnn_model_calibrated(with));
    assert_ranges_are_right(with, dataset);
    without = compress(original, NULL, NULL);
    assert_false(qcnn_model_calibrated(without));
    // Calibrated afterwards, from a file.
    size_t n_bytes;
    void *file = save(without, &n_bytes);
    assert_int_equal(qcnn_model_load(file, n_bytes, NULL, &loaded, NULL), QCNN_OK);
    for (int threads = 1; threads <= 3; threads += 2) {
        qcnn_pool *pool;
        qcnn_calibrate_options options = qcnn_calibrate_options_default();
        assert_int_equal(qcnn_pool_create(threads, &pool, NULL), QCNN_OK);
        options.parallel = qcnn_pool_hook(pool);
        assert_int_equal(qcnn_calibrate(loaded, dataset, &options, &calibrated, NULL), QCNN_OK);
        assert_same_files(calibrated, with);
        assert_false(qcnn_model_calibrated(loaded));
        qcnn_model_free(calibrated);
        qcnn_pool_free(pool);
    }
    qcnn_model_free(loaded);
    qcnn_bytes_free(file);
    qcnn_model_free(with);
    qcnn_model_free(without);
    qcnn_dataset_free(dataset);
    qcnn_model_free(original);
}

static void test_found_anew(void **state)
{
    (void)state;
    qcnn_model *original = new_model(), *first, *second;
    qcnn_dataset *dataset = new_dataset(1), *other = new_dataset(2);
    first = compress(original, dataset, NULL);
    assert_int_equal(qcnn_calibrate(first, other, NULL, &second, NULL), QCNN_OK);
    assert_ranges_are_right(first, dataset);
    assert_ranges_are_right(second, other);
    qcnn_model_free(second);
    qcnn_model_free(first);
    qcnn_dataset_free(dataset);
    qcnn_dataset_free(other);
    qcnn_model_free(original);
}

// Weights of int8 without any codebook: ranges, no peaks. An original has no use for them.
static void test_networks_without_codebooks(void **state)
{
    (void)state;
    qcnn_model *model = new_model(), *calibrated;
    qcnn_dataset *dataset = new_dataset(1);
    qcnn_error error;
    assert_int_equal(qcnn_calibrate(model, dataset, NULL, &calibrated, &error), QCNN_ERROR_ARGUMENT);
    assert_null(calibrated);
    assert_non_null(strstr(error.message, "not compressed"));
    assert_int_equal(qcnn_data_round(qcnn_node_weights(model, &model->nodes[0]), QCNN_INT8, 127, NULL), QCNN_OK);
    assert_int_equal(qcnn_calibrate(model, dataset, NULL, &calibrated, NULL), QCNN_OK);
    for (size_t n = 0; n < calibrated->n_nodes; n++)
        assert_true(calibrated->values[calibrated->nodes[n].output].low < calibrated->values[calibrated->nodes[n].output].high);
    for (size_t t = 0; t < calibrated->n_tensors; t++)
        assert_null(calibrated->tensors[t].codebook.peaks);
    qcnn_model_free(calibrated);
    qcnn_dataset_free(dataset);
    qcnn_model_free(model);
}

// An output that is the same for all images has no range, nor has one that overflows.
static void test_unknown_ranges(void **state)
{
    (void)state;
    qcnn_model *model = new_model(), *calibrated;
    qcnn_dataset *dataset = new_dataset(1);
    qcnn_tensor *first = qcnn_node_weights(model, &model->nodes[0]), *bias = qcnn_node_bias(model, &model->nodes[0]);
    memset(first->owned_data, 0, (size_t)qcnn_shape_elements(&first->shape) * sizeof(float));
    for (int i = 0; i < 8; i++)
        ((float *)bias->owned_data)[i] = 1e30f;
    assert_int_equal(qcnn_data_round(qcnn_node_weights(model, &model->nodes[1]), QCNN_INT8, 127, NULL), QCNN_OK);
    assert_int_equal(qcnn_calibrate(model, dataset, NULL, &calibrated, NULL), QCNN_OK);
    const qcnn_value *values = calibrated->values;
    assert_true(values[calibrated->inputs[0]].low < values[calibrated->inputs[0]].high);
    assert_true(values[calibrated->nodes[0].output].low == values[calibrated->nodes[0].output].high);
    size_t n_bytes;
    qcnn_bytes_free(save(calibrated, &n_bytes)); // nothing in it that a reader would refuse
    qcnn_model_free(calibrated);
    qcnn_dataset_free(dataset);
    qcnn_model_free(model);
}

static int stop_at(void *context, const char *stage, double fraction)
{
    assert_string_equal(stage, "ranges");
    assert_true(fraction >= 0 && fraction <= 1);
    int *n_left = context;
    return (*n_left)-- == 0;
}

static void test_bad_requests(void **state)
{
    (void)state;
    qcnn_model *original = new_model(), *model, *calibrated;
    qcnn_dataset *dataset = new_dataset(1);
    model = compress(original, NULL, NULL);
    qcnn_calibrate_options options = { .size = 4 };
    assert_int_equal(qcnn_calibrate(model, dataset, &options, &calibrated, NULL), QCNN_ERROR_ARGUMENT);
    assert_int_equal(qcnn_calibrate(model, NULL, NULL, &calibrated, NULL), QCNN_ERROR_ARGUMENT);
    assert_int_equal(qcnn_calibrate(NULL, dataset, NULL, &calibrated, NULL), QCNN_ERROR_ARGUMENT);
    options = qcnn_calibrate_options_default();
    options.preprocess = "{";
    assert_int_equal(qcnn_calibrate(model, dataset, &options, &calibrated, NULL), QCNN_ERROR_FORMAT);
    options.preprocess = NULL;
    for (int n = 0; n < 100; n += 30) {
        int n_left = n;
        const qcnn_progress progress = { stop_at, &n_left };
        options.progress = &progress;
        const qcnn_status status = qcnn_calibrate(model, dataset, &options, &calibrated, NULL);
        assert_int_equal(status, n_left < 0 ? QCNN_ERROR_CANCELLED : QCNN_OK);
        qcnn_model_free(calibrated);
    }
    qcnn_model_free(model);
    qcnn_dataset_free(dataset);
    qcnn_model_free(original);
}

// ---- failing allocations --------------------------------------------------------------------------------------------

typedef struct failing {
    long n, fail_at, live; // allocations so far, the one that fails, blocks not released
} failing;

static void *failing_allocate(void *context, size_t bytes, size_t alignment)
{
    failing *f = context;
    void *pointer = ++f->n == f->fail_at ? NULL : aligned_alloc(alignment, bytes);
    f->live += pointer != NULL;
    return pointer;
}

static void failing_release(void *context, void *pointer)
{
    failing *f = context;
    f->live--;
    free(pointer);
}

// Each of the first, which make the copy and its sessions, and some of those of the samples.
static void test_failing_allocations(void **state)
{
    (void)state;
    qcnn_model *original = new_model(), *model = compress(original, NULL, NULL), *calibrated;
    qcnn_dataset *dataset = new_dataset(1);
    failing f = { 0 };
    qcnn_set_allocator(&(qcnn_allocator){ failing_allocate, failing_release, &f });
    assert_int_equal(qcnn_calibrate(model, dataset, NULL, &calibrated, NULL), QCNN_OK);
    qcnn_model_free(calibrated);
    const long n_allocations = f.n;
    for (long fail_at = 1; fail_at <= n_allocations; fail_at += fail_at > n_allocations - 40 || fail_at < 200 ? 1 : n_allocations / 8) {
        f = (failing){ .fail_at = fail_at };
        calibrated = model;
        assert_int_equal(qcnn_calibrate(model, dataset, NULL, &calibrated, NULL), QCNN_ERROR_MEMORY);
        assert_null(calibrated);
        assert_int_equal(f.live, 0);
    }
    qcnn_set_allocator(NULL);
    qcnn_dataset_free(dataset);
    qcnn_model_free(model);
    qcnn_model_free(original);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges_and_peaks), cmocka_unit_test(test_found_anew),   cmocka_unit_test(test_networks_without_codebooks),
        cmocka_unit_test(test_unknown_ranges),   cmocka_unit_test(test_bad_requests), cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
