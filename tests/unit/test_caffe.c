// SPDX-License-Identifier: Apache-2.0
// The Caffe importer: layers against numbers computed by hand, both forms of its files, and hostile text and weights.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
// cmocka.h needs these above
#include <cmocka.h>

#include "build_model.h"
#include "export/protobuf_write.h"
#include "import/import.h"

// ---- files ----------------------------------------------------------------------------------------------------------

// Adds a layer with blobs of `n` floats each to a caffemodel: in the current form, or the older one.
static void put_layer(qcnn_buffer *file, bool old_form, const char *name, int n_blobs, const int *n, const float *const *blobs)
{
    qcnn_buffer layer = { 0 };
    qcnn_put_text(&layer, old_form ? 4 : 1, name);
    for (int i = 0; i < n_blobs; i++) {
        qcnn_buffer blob = { 0 };
        qcnn_put_length(&blob, 5, (uint64_t)n[i] * sizeof(float));
        qcnn_write_bytes(&blob, blobs[i], (size_t)n[i] * sizeof(float));
        qcnn_put_message(&layer, old_form ? 6 : 7, &blob);
    }
    qcnn_put_message(file, old_form ? 2 : 100, &layer);
}

static qcnn_status read_net(const char *net, const qcnn_buffer *weights, qcnn_model **model, qcnn_error *error)
{
    const qcnn_import_options options = qcnn_import_options_default();
    *model = NULL;
    return qcnn_caffe_read((qcnn_span){ (const unsigned char *)net, strlen(net) }, (qcnn_span){ weights->data, weights->n_bytes }, &options,
                           model, error);
}

// Runs a network of one input and one output.
static void check_net(const char *net, const qcnn_buffer *weights, const float *x, const float *expected, int n, int n_layers)
{
    qcnn_model *model;
    qcnn_session *session;
    float y[16];
    BUILD_CHECK(read_net(net, weights, &model, error));
    assert_int_equal(qcnn_model_n_layers(model), n_layers);
    BUILD_CHECK(qcnn_session_create(model, NULL, &session, error));
    const qcnn_shape shape = qcnn_session_output_shape(session, 0);
    assert_int_equal(qcnn_shape_elements(&shape), n);
    qcnn_run(session, &x, (float *const[]){ y });
    for (int i = 0; i < n; i++)
        if (!(fabsf(y[i] - expected[i]) <= 1e-5f))
            fail_msg("output %d is %g, not %g", i, (double)y[i], (double)expected[i]);
    qcnn_session_free(session);
    qcnn_model_free(model);
}

static void refuse_net(const char *net, const qcnn_buffer *weights, qcnn_status status, const char *text)
{
    qcnn_model *model;
    qcnn_error error = { 0 };
    const qcnn_status actual = read_net(net, weights, &model, &error);
    qcnn_model_free(model);
    if (actual != status || !strstr(error.message, text))
        fail_msg("expected '%s' with '%s', got '%s': %s", qcnn_status_name(status), text, qcnn_status_name(actual), error.message);
}

// ---- layers ---------------------------------------------------------------------------------------------------------

static const char normalized_net[] = "name: \"small\" # a comment, with { brackets\n"
                                     "layer { name: 'in' type: 'Input' top: 'x' input_param { shape { dim: [7, 1, 1, 2] } } }\n"
                                     "layer { name: 'conv' type: 'Convolution' bottom: 'x' top: 'c'\n"
                                     "  convolution_param { num_output: 2 kernel_size: 1 bias_term: false } }\n"
                                     "layer { name: 'bn' type: 'BatchNorm' bottom: 'c' top: 'c' batch_norm_param { eps: 0 } }\n"
                                     "layer { name: 'scale' type: 'Scale' bottom: 'c' top: 'c' scale_param { bias_term: true } }\n"
                                     "layer { name: 'relu' type: 'ReLU' bottom: 'c' top: 'c' relu_param { negative_slope: 0.5 } }\n"
                                     "layer { name: 'loss' type: 'SoftmaxWithLoss' bottom: 'c' top: 'l' include { phase: TRAIN } }\n";

static qcnn_buffer normalized_weights(void)
{
    const float w[2] = { 2, 3 }, mean[2] = { 10, 0 }, variance[2] = { 40, 10 }, count[1] = { 10 }, gamma[2] = { 1, 2 }, beta[2] = { 0, 1 };
    qcnn_buffer file = { 0 };
    put_layer(&file, false, "conv", 1, (const int[]){ 2 }, (const float *const[]){ w });
    put_layer(&file, false, "bn", 3, (const int[]){ 2, 2, 1 }, (const float *const[]){ mean, variance, count });
    put_layer(&file, false, "scale", 2, (const int[]){ 2, 2 }, (const float *const[]){ gamma, beta });
    return file;
}

// All five layers become one.
static void test_normalization_folds(void **state)
{
    (void)state;
    qcnn_buffer weights = normalized_weights();
    check_net(normalized_net, &weights, (const float[]){ 1, -1 }, (const float[]){ 0.5f, -0.75f, 7, -2.5f }, 4, 1);
    qcnn_release(weights.data);
}

// The older form: layers, types in capitals, input_dim; an inner product over a grouped convolution.
static void test_older_form(void **state)
{
    (void)state;
    const char net[] = "input: \"x\" input_dim: 1 input_dim: 2 input_dim: 1 input_dim: 2\n"
                       "layers { name: \"conv\" type: CONVOLUTION bottom: \"x\" top: \"conv\"\n"
                       "  convolution_param { num_output: 2 kernel_h: 1 kernel_w: 2 group: 2 } }\n"
                       "layers { name: \"drop\" type: DROPOUT bottom: \"conv\" top: \"conv\" }\n"
                       "layers { name: \"fc\" type: INNER_PRODUCT bottom: \"conv\" top: \"fc\" inner_product_param { num_output: 1 } }\n";
    const float w[4] = { 1, 2, 3, 4 }, b[2] = { 0, 100 }, v[2] = { 10, 1 }, c[1] = { 0.5f };
    qcnn_buffer weights = { 0 };
    put_layer(&weights, true, "conv", 2, (const int[]){ 4, 2 }, (const float *const[]){ w, b });
    put_layer(&weights, true, "fc", 2, (const int[]){ 2, 1 }, (const float *const[]){ v, c });
    check_net(net, &weights, (const float[]){ 1, 1, 1, 1 }, (const float[]){ 30 + 107 + 0.5f }, 1, 3);
    qcnn_release(weights.data);
}

#define INPUT_1X1X1X4 "layer { name: 'in' type: 'Input' top: 'x' input_param { shape { dim: 1 dim: 1 dim: 1 dim: 4 } } }"

// A last window that only partly lies on the input counts; an average divides by what lies on input and padding.
static void test_pooling_rounds_up(void **state)
{
    (void)state;
    const qcnn_buffer none = { 0 };
    const float x[4] = { 1, 5, 3, 8 };
    check_net(INPUT_1X1X1X4 "layer { name: 'p' type: 'Pooling' bottom: 'x' top: 'y' pooling_param { kernel_h: 1 kernel_w: 3 stride: 2 } }",
              &none, x, (const float[]){ 5, 8 }, 2, 1);
    check_net(INPUT_1X1X1X4
              "layer { name: 'p' type: 'Pooling' bottom: 'x' top: 'y' pooling_param { pool: AVE kernel_h: 1 kernel_w: 3 stride: 2 } }",
              &none, x, (const float[]){ 3, 5.5f }, 2, 1);
    check_net(INPUT_1X1X1X4 "layer { name: 'p' type: 'Pooling' bottom: 'x' top: 'y' pooling_param { pool: AVE global_pooling: true } }",
              &none, x, (const float[]){ 4.25f }, 1, 1);
}

static void test_eltwise_and_concat(void **state)
{
    (void)state;
    const qcnn_buffer none = { 0 };
    const float x[4] = { 1, -2, 3, -4 };
    check_net(INPUT_1X1X1X4 "layer { name: 'r' type: 'ReLU' bottom: 'x' top: 'r' }"
                            "layer { name: 'e' type: 'Eltwise' bottom: 'x' bottom: 'r' top: 'e' eltwise_param { coeff: 1 coeff: -3 } }"
                            "layer { name: 'm' type: 'Eltwise' bottom: 'e' bottom: 'x' top: 'm' eltwise_param { operation: MAX } }"
                            "layer { name: 'j' type: 'Concat' bottom: 'e' bottom: 'm' top: 'y' concat_param { axis: 1 } }",
              &none, x, (const float[]){ -2, -2, -6, -4, 1, -2, 3, -4 }, 8, 5);
}

// ---- hostile files --------------------------------------------------------------------------------------------------

static void test_bad_text(void **state)
{
    (void)state;
    const qcnn_buffer none = { 0 };
    char deep[200] = "";
    for (int i = 0; i < 40; i++)
        strcat(deep, "a {");
    refuse_net("", &none, QCNN_ERROR_FORMAT, "at least one input");
    refuse_net("name: \"x", &none, QCNN_ERROR_FORMAT, "line 1: a string does not end");
    refuse_net("a: 1\nlayer {", &none, QCNN_ERROR_FORMAT, "line 2: a message is not closed");
    refuse_net("}", &none, QCNN_ERROR_FORMAT, "line 1");
    refuse_net("a: [1, 2", &none, QCNN_ERROR_FORMAT, "missing");
    refuse_net("a 1", &none, QCNN_ERROR_FORMAT, "neither");
    refuse_net("\x01", &none, QCNN_ERROR_FORMAT, "missing");
    refuse_net(deep, &none, QCNN_ERROR_UNSUPPORTED, "nest deeper");
    refuse_net("input: 'x' input_dim: 1 input_dim: 0", &none, QCNN_ERROR_FORMAT, "at least 1");
    refuse_net("input: 'x' input_dim: 1 input_dim: many", &none, QCNN_ERROR_FORMAT, "no numbers");
    refuse_net("input: 'x'", &none, QCNN_ERROR_FORMAT, "missing");
}

static void test_bad_layers(void **state)
{
    (void)state;
    qcnn_buffer weights = { 0 };
    const float w[4] = { 1, 2, 3, 4 };
    put_layer(&weights, false, "c", 1, (const int[]){ 4 }, (const float *const[]){ w });
    refuse_net(INPUT_1X1X1X4 "layer { name: 'q' type: 'Frobnicate' bottom: 'x' top: 'y' }", &weights, QCNN_ERROR_UNSUPPORTED,
               "'q' (Frobnicate)");
    refuse_net(INPUT_1X1X1X4 "layer { name: 'q' type: 'ReLU' bottom: 'z' top: 'y' }", &weights, QCNN_ERROR_FORMAT, "'z', which no layer");
    refuse_net(INPUT_1X1X1X4 "layer { name: 'q' type: 'ReLU' bottom: 'x' }", &weights, QCNN_ERROR_FORMAT, "lacks a top");
    refuse_net(INPUT_1X1X1X4 "layer { name: 'q' type: 'Concat' top: 'y' }", &weights, QCNN_ERROR_FORMAT, "lacks a bottom");
    refuse_net(INPUT_1X1X1X4 "layer { name: 'in' type: 'ReLU' bottom: 'x' top: 'y' }", &weights, QCNN_ERROR_FORMAT, "two layers");
#define CONVOLUTION(name, settings)                                                                                                        \
    INPUT_1X1X1X4 "layer { name: '" name "' type: 'Convolution' bottom: 'x' top: 'y' convolution_param { " settings " } }"
    refuse_net(CONVOLUTION("d", "num_output: 2 kernel_size: 1"), &weights, QCNN_ERROR_FORMAT, "no weights for it");
    refuse_net(CONVOLUTION("c", "num_output: 3 kernel_size: 1"), &weights, QCNN_ERROR_FORMAT, "does not have 3x1x1x1 numbers");
    refuse_net(CONVOLUTION("c", "num_output: 4 kernel_size: 1"), &weights, QCNN_ERROR_FORMAT, "lacks the 4 numbers of its blob 1");
    refuse_net(CONVOLUTION("c", "num_output: 2147483647 kernel_size: 2147483647"), &weights, QCNN_ERROR_FORMAT, "lacks");
    refuse_net(CONVOLUTION("c", "num_output: 4 kernel_size: 1 stride: 0 bias_term: false"), &weights, QCNN_ERROR_FORMAT, "stride");
    refuse_net(CONVOLUTION("c", "num_output: 4 kernel_size: 1 pad: -1"), &weights, QCNN_ERROR_FORMAT, "out of range");
    refuse_net(CONVOLUTION("c", "num_output: 4 kernel_size: 1 group: 0"), &weights, QCNN_ERROR_FORMAT, "at least 1");
    refuse_net(CONVOLUTION("c", "num_output: 4 kernel_size: 1 group: 2 bias_term: false"), &weights, QCNN_ERROR_FORMAT, "'c'");
    refuse_net(CONVOLUTION("c", "num_output: 4 kernel_size: 1 bias_term: perhaps"), &weights, QCNN_ERROR_FORMAT, "no number");
    qcnn_release(weights.data);
}

static void test_every_truncation_is_an_error_or_a_model(void **state)
{
    (void)state;
    qcnn_buffer weights = normalized_weights();
    qcnn_model *model;
    qcnn_error error;
    for (size_t n = 0; n < weights.n_bytes; n++) {
        const qcnn_buffer part = { .data = malloc(n ? n : 1), .n_bytes = n }; // of exactly that size, for the sanitizers
        memcpy(part.data, weights.data, n);
        assert_int_equal(read_net(normalized_net, &part, &model, &error), QCNN_ERROR_FORMAT);
        assert_null(model);
        free(part.data);
    }
    for (size_t n = 0; n < strlen(normalized_net); n++) { // text may end behind any layer
        char *part = strndup(normalized_net, n);
        read_net(part, &weights, &model, &error);
        qcnn_model_free(model);
        free(part);
    }
    qcnn_release(weights.data);
}

static int n_calls, fail_at, n_alive;

static void *failing_allocate(void *context, size_t bytes, size_t alignment)
{
    (void)context;
    if (n_calls++ == fail_at)
        return NULL;
    n_alive++;
    return aligned_alloc(alignment, bytes);
}

static void failing_release(void *context, void *pointer)
{
    (void)context;
    n_alive--;
    free(pointer);
}

static void test_every_failed_allocation_is_an_error(void **state)
{
    (void)state;
    qcnn_buffer weights = normalized_weights();
    qcnn_status status = QCNN_ERROR_MEMORY;
    for (fail_at = 0; status != QCNN_OK; fail_at++) {
        qcnn_model *model;
        n_calls = 0;
        qcnn_set_allocator(&(qcnn_allocator){ failing_allocate, failing_release, NULL });
        status = read_net(normalized_net, &weights, &model, NULL);
        qcnn_model_free(model);
        qcnn_set_allocator(NULL);
        assert_int_equal(n_alive, 0);
        assert_true(status == QCNN_OK || status == QCNN_ERROR_MEMORY);
        assert_true(fail_at < 10000);
    }
    qcnn_release(weights.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_normalization_folds),
        cmocka_unit_test(test_older_form),
        cmocka_unit_test(test_pooling_rounds_up),
        cmocka_unit_test(test_eltwise_and_concat),
        cmocka_unit_test(test_bad_text),
        cmocka_unit_test(test_bad_layers),
        cmocka_unit_test(test_every_truncation_is_an_error_or_a_model),
        cmocka_unit_test(test_every_failed_allocation_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
