// SPDX-License-Identifier: Apache-2.0
// Settings and the compression of a whole model: preset rules, the caller's text, cancelling, threads, failing allocations.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// cmocka.h needs the four above
#include <cmocka.h>

#include "base/rng.h"
#include "compress/settings.h"
#include "qcnn_compress.h"

// ---- a small network ------------------------------------------------------------------------------------------------

static int add_value(qcnn_model *model, const char *name)
{
    int index;
    assert_int_equal(qcnn_model_add_value(model, name, NULL, -1, &index, NULL), QCNN_OK);
    return index;
}

// A constant of random numbers.
static int add_constant(qcnn_model *model, qcnn_shape shape)
{
    const size_t n = (size_t)qcnn_shape_elements(&shape);
    float *data = qcnn_allocate(n, sizeof *data);
    assert_non_null(data);
    qcnn_rng rng = { n };
    for (size_t i = 0; i < n; i++)
        data[i] = (float)(qcnn_rng_unit(&rng) - 0.5);
    qcnn_tensor tensor = { .shape = shape, .data = data, .owned_data = data, .error = -1 };
    int index, value;
    assert_int_equal(qcnn_model_add_tensor(model, &tensor, &index, NULL), QCNN_OK);
    assert_int_equal(qcnn_model_add_value(model, NULL, &shape, index, &value, NULL), QCNN_OK);
    return value;
}

static int add_node(qcnn_model *model, qcnn_op op, const char *name, int x, int w, const qcnn_attributes *attributes)
{
    const int inputs[2] = { x, w }, output = add_value(model, name);
    assert_int_equal(qcnn_model_add_node(model, op, name, inputs, w < 0 ? 1 : 2, output, attributes, NULL, NULL), QCNN_OK);
    return output;
}

static int add_conv(qcnn_model *model, const char *name, int x, int w, int groups)
{
    const qcnn_attributes attributes = { .n_spatial = 2,
                                         .kernel = { 3, 3 },
                                         .stride = { 1, 1 },
                                         .dilation = { 1, 1 },
                                         .window_begin = { 1, 1 },
                                         .window_end = { 1, 1 },
                                         .groups = groups };
    return add_node(model, QCNN_OP_CONV, name, x, w, &attributes);
}

// conv1 (3 channels), conv2 (two groups), depthwise, twin_a and twin_b (one tensor), fc1, fc2, tiny (too small to pay), last.
static qcnn_model *new_model(void)
{
    qcnn_model *model;
    assert_int_equal(qcnn_model_new(&model, NULL), QCNN_OK);
    const qcnn_shape shape = { 4, { 1, 3, 4, 4 } };
    int x;
    assert_int_equal(qcnn_model_add_value(model, "x", &shape, -1, &x, NULL), QCNN_OK);
    assert_int_equal(qcnn_model_add_input(model, x, NULL), QCNN_OK);
    x = add_conv(model, "conv1", x, add_constant(model, (qcnn_shape){ 4, { 64, 3, 3, 3 } }), 1);
    x = add_conv(model, "conv2", x, add_constant(model, (qcnn_shape){ 4, { 64, 32, 3, 3 } }), 2);
    x = add_conv(model, "depthwise", x, add_constant(model, (qcnn_shape){ 4, { 64, 1, 3, 3 } }), 64);
    const int twin = add_constant(model, (qcnn_shape){ 4, { 64, 64, 3, 3 } });
    x = add_conv(model, "twin_a", x, twin, 1);
    x = add_conv(model, "twin_b", x, twin, 1);
    const qcnn_attributes flat = { .target_rank = 2, .target = { 0, -1 } };
    x = add_node(model, QCNN_OP_RESHAPE, "flat", x, -1, &flat);
    const qcnn_attributes none = { 0 };
    x = add_node(model, QCNN_OP_FC, "fc1", x, add_constant(model, (qcnn_shape){ 2, { 100, 1024 } }), &none);
    x = add_node(model, QCNN_OP_FC, "fc2", x, add_constant(model, (qcnn_shape){ 2, { 70, 100 } }), &none);
    x = add_node(model, QCNN_OP_FC, "tiny", x, add_constant(model, (qcnn_shape){ 2, { 10, 70 } }), &none);
    x = add_node(model, QCNN_OP_FC, "last", x, add_constant(model, (qcnn_shape){ 2, { 50, 10 } }), &none);
    assert_int_equal(qcnn_model_add_output(model, x, NULL), QCNN_OK);
    qcnn_error error = { 0 };
    if (qcnn_model_prepare(model, "c", &error) != QCNN_OK)
        fail_msg("%s", error.message);
    return model;
}

static const qcnn_tensor *weights_of(const qcnn_model *model, const char *layer)
{
    for (size_t n = 0; n < model->n_nodes; n++)
        if (strcmp(model->nodes[n].name, layer) == 0)
            return qcnn_node_weights(model, &model->nodes[n]);
    fail_msg("no layer %s", layer);
    return NULL;
}

static qcnn_model *compress(const qcnn_model *original, const qcnn_compress_options *options)
{
    qcnn_model *compressed;
    qcnn_error error = { 0 };
    if (qcnn_compress(original, options, &compressed, &error) != QCNN_OK)
        fail_msg("%s", error.message);
    return compressed;
}

static void expect_setting(const qcnn_model *model, const char *layer, int subspace, int n_codewords)
{
    const qcnn_codebook *book = &weights_of(model, layer)->codebook;
    assert_int_equal(book->subspace, subspace);
    assert_int_equal(book->n_codewords, n_codewords);
    assert_true((weights_of(model, layer)->data == NULL) == (subspace > 0));
}

// ---- tests ----------------------------------------------------------------------------------------------------------

static void test_preset(void **state)
{
    (void)state;
    qcnn_model *original = new_model(), *compressed = compress(original, NULL);
    expect_setting(compressed, "conv1", 3, 128);
    expect_setting(compressed, "conv2", 8, 128);
    assert_int_equal(weights_of(compressed, "conv2")->codebook.n_sets, 1);
    assert_int_equal(weights_of(compressed, "conv2")->codebook.groups, 2);
    expect_setting(compressed, "depthwise", 0, 0);
    expect_setting(compressed, "twin_a", 0, 0);
    expect_setting(compressed, "fc1", 4, 32);
    expect_setting(compressed, "fc2", 4, 32);
    expect_setting(compressed, "tiny", 0, 0);
    expect_setting(compressed, "last", 1, 16);
    assert_true(weights_of(compressed, "fc1")->error < 0);
    assert_ptr_equal(weights_of(compressed, "twin_a")->data, weights_of(original, "twin_a")->data);
    assert_string_equal(qcnn_model_kernels(compressed), "c");
    qcnn_model_free(compressed);
    qcnn_model_free(original);
}

static void test_text_overrides_the_preset(void **state)
{
    (void)state;
    qcnn_model *original = new_model();
    qcnn_compress_options options = qcnn_compress_options_default();
    options.settings = "conv2=32/256/groups/int8:15,fc1=dense,tiny=70/2/float16,depthwise=1/9,last=dense/int8";
    qcnn_model *compressed = compress(original, &options);
    expect_setting(compressed, "conv1", 3, 128);
    expect_setting(compressed, "conv2", 32, 256);
    expect_setting(compressed, "fc1", 0, 0);
    expect_setting(compressed, "tiny", 70, 2);
    expect_setting(compressed, "depthwise", 1, 9);
    assert_int_equal(weights_of(compressed, "conv2")->codebook.n_sets, 2);
    assert_int_equal(weights_of(compressed, "conv2")->codebook.codeword_type, QCNN_INT8);
    assert_int_equal(weights_of(compressed, "tiny")->codebook.codeword_type, QCNN_FLOAT16);
    assert_int_equal(weights_of(compressed, "last")->data_type, QCNN_INT8);
    qcnn_model_free(compressed);
    qcnn_model_free(original);
}

static void test_bad_settings(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        { "", "'' is neither LAYER=C/K nor LAYER=dense" },
        { "fc1", "'fc1' is neither" },
        { "fc1=", "'fc1=' is neither" },
        { "fc1=4", "'fc1=4' is neither" },
        { "fc1=4/", "is neither" },
        { "fc1=/4", "is neither" },
        { "fc1=4/32x", "is neither" },
        { "fc1=4/32/int", "is neither" },
        { "fc1=4/32/int8:", "is neither" },
        { "fc1=4/32/int8:128", "is neither" },
        { "fc1=4/32/int8/float16", "is neither" },
        { "fc1=dense/groups", "is neither" },
        { "fc1=densely", "is neither" },
        { "fc1=4/32/1", "is neither" },
        { "fc1=-4/32", "is neither" },
        { "fc1=4/ 32", "is neither" },
        { "fc1=99999999999999999999/32", "is neither" },
        { "fc1=Dense", "is neither" },
        { "fc1=4/32,", "'' is neither" },
        { ",fc1=4/32", "'' is neither" },
        { "=4/32", "no layer with weights is named ''" },
        { "fc9=4/32", "named 'fc9'; there are: conv1, conv2, depthwise, twin_a, twin_b, fc1, fc2, tiny, last" },
        { "flat=4/32", "named 'flat'" },
        { "FC1=4/32", "named 'FC1'" },
        { "fc1=0/32", "'fc1=0/32': C must be 1 to 1024, the layer's inputs" },
        { "conv2=33/32", "'conv2=33/32': C must be 1 to 32, the layer's inputs in a group" },
        { "fc1=4/1", "'fc1=4/1': K must be 2 to 256" },
        { "fc1=4/257", "'fc1=4/257': K must be 2 to 256" },
        { "fc1=4/32,fc2=dense,fc1=dense", "'fc1=dense' names a layer a second time" },
        { "twin_a=8/128", "'twin_a=8/128': the layer shares its weights" },
    };
    qcnn_model *original = new_model();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qcnn_compress_options options = qcnn_compress_options_default();
        options.settings = cases[i].text;
        qcnn_model *compressed = original;
        qcnn_error error = { 0 };
        assert_int_equal(qcnn_compress(original, &options, &compressed, &error), QCNN_ERROR_ARGUMENT);
        assert_null(compressed);
        if (!strstr(error.message, cases[i].message))
            fail_msg("'%s' gave: %s", cases[i].text, error.message);
    }
    qcnn_model_free(original);
}

static void test_bad_options(void **state)
{
    (void)state;
    qcnn_model *original = new_model(), *compressed;
    qcnn_error error;
    qcnn_compress_options options = qcnn_compress_options_default();
    options.preset = "other";
    assert_int_equal(qcnn_compress(original, &options, &compressed, &error), QCNN_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "'other'"));
    options = qcnn_compress_options_default();
    options.size = 0;
    assert_int_equal(qcnn_compress(original, &options, &compressed, &error), QCNN_ERROR_ARGUMENT);
    options = qcnn_compress_options_default();
    options.correction = QCNN_CORRECTION_NETWORK;
    assert_int_equal(qcnn_compress(original, &options, &compressed, &error), QCNN_ERROR_ARGUMENT);
    qcnn_model *once = compress(original, NULL);
    assert_int_equal(qcnn_compress(once, NULL, &compressed, &error), QCNN_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "compressed already"));
    assert_null(compressed);
    qcnn_model_free(once);
    qcnn_model_free(original);
}

static void expect_same_codebooks(const qcnn_model *a, const qcnn_model *b)
{
    for (size_t i = 0; i < a->n_tensors; i++) {
        const qcnn_codebook *p = &a->tensors[i].codebook, *q = &b->tensors[i].codebook;
        const size_t n_codewords = (size_t)p->n_sets * (size_t)p->n_subspaces * (size_t)p->n_codewords * (size_t)p->subspace;
        const size_t n_assignments = (size_t)p->groups * (size_t)p->n_subspaces * (size_t)p->n_taps * (size_t)p->n_outputs;
        assert_int_equal(p->n_codewords, q->n_codewords);
        if (n_codewords) {
            assert_memory_equal(p->codewords, q->codewords, n_codewords * sizeof(float));
            assert_memory_equal(p->assignments, q->assignments, n_assignments);
        }
    }
}

static void test_threads_change_nothing(void **state)
{
    (void)state;
    qcnn_model *original = new_model(), *serial = compress(original, NULL);
    for (int n_threads = 2; n_threads <= 4; n_threads += 2) {
        qcnn_pool *pool;
        assert_int_equal(qcnn_pool_create(n_threads, &pool, NULL), QCNN_OK);
        qcnn_compress_options options = qcnn_compress_options_default();
        options.parallel = qcnn_pool_hook(pool);
        qcnn_model *parallel = compress(original, &options);
        expect_same_codebooks(serial, parallel);
        qcnn_model_free(parallel);
        qcnn_pool_free(pool);
    }
    qcnn_model_free(serial);
    qcnn_model_free(original);
}

static int stop_in_fc1(void *context, const char *stage, double fraction)
{
    int *n_stages = context;
    *n_stages += fraction == 0;
    return strcmp(stage, "fc1") == 0 && fraction > 0;
}

static void test_cancel(void **state)
{
    (void)state;
    qcnn_model *original = new_model(), *compressed;
    int n_stages = 0;
    const qcnn_progress progress = { stop_in_fc1, &n_stages };
    qcnn_compress_options options = qcnn_compress_options_default();
    options.progress = &progress;
    qcnn_error error;
    assert_int_equal(qcnn_compress(original, &options, &compressed, &error), QCNN_ERROR_CANCELLED);
    assert_non_null(strstr(error.message, "'fc1'"));
    assert_null(compressed);
    assert_int_equal(n_stages, 3); // conv1, conv2, fc1
    qcnn_model_free(original);
}

// ---- failing allocations --------------------------------------------------------------------------------------------

typedef struct failing {
    long n, fail_at, live; // allocations so far, the one that fails, blocks not released
    bool for_good;         // all later ones fail too
} failing;

static void *failing_allocate(void *context, size_t bytes, size_t alignment)
{
    failing *f = context;
    f->n++;
    if (f->n == f->fail_at || (f->for_good && f->n > f->fail_at))
        return NULL;
    void *pointer = aligned_alloc(alignment, bytes);
    f->live += pointer != NULL;
    return pointer;
}

static void failing_release(void *context, void *pointer)
{
    failing *f = context;
    f->live--;
    free(pointer);
}

static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    qcnn_model *original = new_model();
    failing f = { .fail_at = -1 };
    qcnn_set_allocator(&(qcnn_allocator){ failing_allocate, failing_release, &f });
    qcnn_compress_options options = qcnn_compress_options_default();
    options.settings = "conv1=dense,conv2=32/2,fc1=dense,fc2=50/2,last=5/2"; // quick ones
    qcnn_model_free(compress(original, &options));
    const long n_allocations = f.n;
    assert_int_equal(f.live, 0);
    for (long fail_at = 1; fail_at <= n_allocations; fail_at++)
        for (int for_good = 0; for_good < 2; for_good++) {
            f = (failing){ .fail_at = fail_at, .for_good = for_good };
            qcnn_model *compressed = original;
            qcnn_error error;
            assert_int_equal(qcnn_compress(original, &options, &compressed, &error), QCNN_ERROR_MEMORY);
            assert_null(compressed);
            assert_int_equal(f.live, 0);
        }
    qcnn_set_allocator(NULL);
    qcnn_model_free(original);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_preset),
        cmocka_unit_test(test_text_overrides_the_preset),
        cmocka_unit_test(test_bad_settings),
        cmocka_unit_test(test_bad_options),
        cmocka_unit_test(test_threads_change_nothing),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
