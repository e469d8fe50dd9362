// SPDX-License-Identifier: Apache-2.0
// The ONNX importer on valid files: encodings of constants, differences between opsets, folding, names, open dimensions; and
// export as its inverse.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
// cmocka.h needs these above
#include <cmocka.h>

#include "onnx_samples.h"

static void assert_floats(const float *actual, const float *expected, int n, float tolerance)
{
    for (int i = 0; i < n; i++)
        if (!(fabsf(actual[i] - expected[i]) <= tolerance))
            fail_msg("element %d is %g, not %g", i, (double)actual[i], (double)expected[i]);
}

// ---- encodings ------------------------------------------------------------------------------------------------------

static const float four[4] = { 1, -2, 0.5f, 65504 };

// y = x + c for a constant c of four elements, already put into the file.
static void check_constant(onnx_file *file, float tolerance)
{
    const float zeros[4] = { 0 };
    float y[4];
    sample_input(file, "x", SHAPE(1, 4));
    sample_node(file, "Add", "add", "x c", "y", NULL);
    sample_output(file, "y");
    qcnn_model *model = sample_import(file);
    sample_run(model, zeros, y);
    assert_floats(y, four, 4, tolerance);
    qcnn_model_free(model);
}

static void test_raw_encodings(void **state)
{
    (void)state;
    const uint16_t half[4] = { 0x3c00, 0xc000, 0x3800, 0x7bff };
    const uint16_t brain[4] = { 0x3f80, 0xc000, 0x3f00, 0x4780 }; // the last: 65536, to bfloat16's 8 bits
    const double wide[4] = { 1, -2, 0.5, 65504 };
    onnx_file file = { .opset = 13 };
    sample_floats(&file, "c", SHAPE(4), four);
    check_constant(&file, 0);
    file.opset = 13;
    sample_raw(&file, "c", ONNX_FLOAT16, SHAPE(4), half, sizeof half);
    check_constant(&file, 0);
    file.opset = 13;
    sample_raw(&file, "c", ONNX_BFLOAT16, SHAPE(4), brain, sizeof brain);
    check_constant(&file, 32);
    file.opset = 13;
    sample_raw(&file, "c", ONNX_DOUBLE, SHAPE(4), wide, sizeof wide);
    check_constant(&file, 0);
}

static void test_typed_encodings(void **state)
{
    (void)state;
    const uint16_t half[4] = { 0x3c00, 0xc000, 0x3800, 0x7bff };
    onnx_file file = { .opset = 13 };
    qcnn_buffer tensor = sample_tensor("c", ONNX_FLOAT, SHAPE(4)); // packed and unpacked in one
    qcnn_put_float(&tensor, 4, four[0]);
    qcnn_put_length(&tensor, 4, 12);
    qcnn_write_bytes(&tensor, four + 1, 12);
    qcnn_put_message(&file.graph, 5, &tensor);
    check_constant(&file, 0);
    file.opset = 13;
    tensor = sample_tensor("c", ONNX_FLOAT16, SHAPE(4));
    for (int i = 0; i < 4; i++)
        qcnn_put_int(&tensor, 5, half[i]);
    qcnn_put_message(&file.graph, 5, &tensor);
    check_constant(&file, 0);
}

static void test_half_behind_cast(void **state)
{
    (void)state;
    const uint16_t half[4] = { 0x3c00, 0xc000, 0x3800, 0x7bff };
    onnx_file file = { .opset = 13 };
    qcnn_buffer to = { 0 };
    sample_raw(&file, "c16", ONNX_FLOAT16, SHAPE(4), half, sizeof half);
    sample_int(&to, "to", ONNX_FLOAT);
    sample_node(&file, "Cast", "cast", "c16", "c", &to);
    check_constant(&file, 0);
}

static void test_subnormal_halves(void **state)
{
    (void)state;
    const uint16_t half[4] = { 0x0001, 0x83ff, 0x7c00, 0x8000 };
    const float expected[3] = { 0x1p-24f, -1023 * 0x1p-24f, INFINITY };
    const onnx_source source = { 0 };
    qcnn_buffer message = sample_tensor("c", ONNX_FLOAT16, SHAPE(4));
    onnx_tensor tensor;
    qcnn_tensor floats;
    qcnn_put_length(&message, 9, sizeof half);
    qcnn_write_bytes(&message, half, sizeof half);
    BUILD_CHECK(qcnn_onnx_parse_tensor((qcnn_span){ message.data, message.n_bytes }, &tensor, error));
    BUILD_CHECK(qcnn_onnx_floats_of(&tensor, &source, &floats, error));
    assert_memory_equal(floats.data, expected, sizeof expected);
    assert_true(floats.data[3] == 0 && signbit(floats.data[3]));
    qcnn_tensor_release(&floats);
    qcnn_release(message.data);
}

// ---- opsets ---------------------------------------------------------------------------------------------------------

static void check_softmax(int64_t opset, const float expected[4])
{
    const float x[4] = { 0, 0, 0, logf(3) };
    float y[4];
    onnx_file file = { .opset = opset };
    sample_input(&file, "x", SHAPE(1, 2, 2));
    sample_node(&file, "Softmax", "s", "x", "y", NULL);
    sample_output(&file, "y");
    qcnn_model *model = sample_import(&file);
    sample_run(model, x, y);
    assert_floats(y, expected, 4, 1e-6f);
    qcnn_model_free(model);
}

static void test_softmax_opsets(void **state)
{
    (void)state;
    check_softmax(11, (const float[]){ 1 / 6.0f, 1 / 6.0f, 1 / 6.0f, 0.5f }); // over axes 1 and 2 together
    check_softmax(13, (const float[]){ 0.5f, 0.5f, 0.25f, 0.75f });           // over the last axis
}

static void test_clip_opsets(void **state)
{
    (void)state;
    const float x[3] = { -1, 3, 9 };
    for (int64_t opset = 6; opset <= 13; opset += 7) {
        float y[3];
        onnx_file file = { .opset = opset };
        qcnn_buffer bounds = { 0 };
        sample_input(&file, "x", SHAPE(1, 3));
        if (opset < 11)
            sample_float(&bounds, "max", 6);
        else
            sample_floats(&file, "high", (qcnn_shape){ 0 }, (const float[]){ 6 });
        sample_node(&file, "Clip", "clip", opset < 11 ? "x" : "x - high", "y", &bounds);
        sample_output(&file, "y");
        qcnn_model *model = sample_import(&file);
        sample_run(model, x, y);
        assert_floats(y, (const float[]){ -1, 3, 6 }, 3, 0);
        qcnn_model_free(model);
    }
}

static void test_opset_6_broadcast(void **state)
{
    (void)state;
    const float x[4] = { 1, 2, 3, 4 };
    float y[4];
    onnx_file file = { .opset = 6 };
    qcnn_buffer attributes = { 0 };
    sample_input(&file, "x", SHAPE(1, 2, 2));
    sample_floats(&file, "b", SHAPE(2), (const float[]){ 10, 20 });
    sample_int(&attributes, "broadcast", 1);
    sample_int(&attributes, "axis", 1);
    sample_node(&file, "Add", "add", "x b", "y", &attributes);
    sample_output(&file, "y");
    qcnn_model *model = sample_import(&file);
    sample_run(model, x, y);
    assert_floats(y, (const float[]){ 11, 12, 23, 24 }, 4, 0);
    qcnn_model_free(model);
}

static void test_slice_opsets(void **state)
{
    (void)state;
    const float x[5] = { 0, 1, 2, 3, 4 };
    for (int64_t opset = 9; opset <= 10; opset++) {
        float y[3];
        onnx_file file = { .opset = opset };
        qcnn_buffer attributes = { 0 };
        const int64_t start = -4, end = INT64_MAX, axis = 1, step = 2;
        sample_input(&file, "x", SHAPE(1, 5));
        if (opset == 9) {
            sample_ints(&attributes, "starts", 1, &start);
            sample_ints(&attributes, "ends", 1, &end);
            sample_ints(&attributes, "axes", 1, &axis);
        } else {
            sample_integers(&file, "start", 1, &start);
            sample_integers(&file, "end", 1, &end);
            sample_integers(&file, "axis", 1, &axis);
            sample_integers(&file, "step", 1, &step);
        }
        sample_node(&file, "Slice", "cut", opset == 9 ? "x" : "x start end axis step", "y", &attributes);
        sample_output(&file, "y");
        qcnn_model *model = sample_import(&file);
        const qcnn_shape shape = qcnn_model_output(model, 0).shape;
        assert_int_equal(shape.dims[1], opset == 9 ? 4 : 2);
        if (opset == 10) {
            sample_run(model, x, y);
            assert_floats(y, (const float[]){ 1, 3 }, 2, 0);
        }
        qcnn_model_free(model);
    }
}

// ---- folding --------------------------------------------------------------------------------------------------------

static void put_vector(onnx_file *file, const char *name, float a, float b)
{
    sample_floats(file, name, SHAPE(2), (const float[]){ a, b });
}

// conv 1x1 (weights 2 and 3) -> BatchNorm -> Relu: one layer remains.
static void test_batch_norm_and_relu_fold(void **state)
{
    (void)state;
    const float x[2] = { 1, -1 };
    float y[4];
    onnx_file file = { .opset = 13 };
    qcnn_buffer epsilon = { 0 };
    sample_input(&file, "x", SHAPE(1, 1, 1, 2));
    sample_floats(&file, "stem.weight", SHAPE(2, 1, 1, 1), (const float[]){ 2, 3 });
    put_vector(&file, "scale", 1, 2);
    put_vector(&file, "bias", 0, 1);
    put_vector(&file, "mean", 1, 0);
    put_vector(&file, "variance", 4, 1);
    sample_node(&file, "Conv", "", "x stem.weight", "c", NULL);
    sample_float(&epsilon, "epsilon", 0);
    sample_node(&file, "BatchNormalization", "bn", "c scale bias mean variance", "n", &epsilon);
    sample_node(&file, "Relu", "relu", "n", "y", NULL);
    sample_output(&file, "y");
    qcnn_model *model = sample_import(&file);
    assert_int_equal(qcnn_model_n_layers(model), 1);
    assert_string_equal(qcnn_model_layer(model, 0).name, "stem"); // of its weights: the node has no name
    assert_string_equal(qcnn_model_output(model, 0).name, "y");
    assert_int_equal(qcnn_model_original_bytes(model), 4 * sizeof(float)); // two weights, two biases
    sample_run(model, x, y);
    assert_floats(y, (const float[]){ 0.5f, 0, 7, 0 }, 4, 1e-6f);
    qcnn_model_free(model);
}

// A convolution whose output is also read elsewhere must keep it.
static void test_shared_output_is_not_folded(void **state)
{
    (void)state;
    const float x[1] = { -1 };
    float y[1];
    onnx_file file = { .opset = 13 };
    sample_input(&file, "x", SHAPE(1, 1, 1, 1));
    sample_floats(&file, "w", SHAPE(1, 1, 1, 1), (const float[]){ 2 });
    sample_node(&file, "Conv", "conv", "x w", "c", NULL);
    sample_node(&file, "Relu", "relu", "c", "r", NULL);
    sample_node(&file, "Add", "add", "c r", "y", NULL);
    sample_output(&file, "y");
    qcnn_model *model = sample_import(&file);
    assert_int_equal(qcnn_model_n_layers(model), 3);
    sample_run(model, x, y);
    assert_floats(y, (const float[]){ -2 }, 1, 0);
    qcnn_model_free(model);
}

static void test_matmul_and_add_become_a_layer(void **state)
{
    (void)state;
    const float x[2] = { 1, 10 };
    float y[3];
    onnx_file file = { .opset = 13 };
    sample_input(&file, "x", SHAPE(0, 2)); // batch open
    sample_floats(&file, "w", SHAPE(2, 3), (const float[]){ 1, 2, 3, 4, 5, 6 });
    sample_floats(&file, "b", SHAPE(3), (const float[]){ 100, 200, 300 });
    sample_node(&file, "MatMul", "dense", "x w", "m", NULL);
    sample_node(&file, "Add", "bias", "b m", "y", NULL);
    sample_output(&file, "y");
    qcnn_model *model = sample_import(&file);
    assert_int_equal(qcnn_model_n_layers(model), 1);
    assert_string_equal(qcnn_model_layer(model, 0).name, "dense");
    assert_string_equal(qcnn_model_layer(model, 0).type, "fc");
    sample_run(model, x, y);
    assert_floats(y, (const float[]){ 141, 252, 363 }, 3, 1e-4f);
    qcnn_model_free(model);
}

// x.view(x.size(0), -1), as exporters write it.
static void test_shape_arithmetic_folds(void **state)
{
    (void)state;
    const int64_t zero = 0, minus_one = -1;
    onnx_file file = { .opset = 13 };
    sample_input(&file, "x", SHAPE(0, 2, 3));
    sample_raw(&file, "zero", ONNX_INT64, (qcnn_shape){ 0 }, &zero, sizeof zero);
    sample_integers(&file, "axis", 1, &zero);
    sample_integers(&file, "rest", 1, &minus_one);
    sample_node(&file, "Shape", "shape", "x", "s", NULL);
    sample_node(&file, "Gather", "gather", "s zero", "n", NULL);
    sample_node(&file, "Unsqueeze", "unsqueeze", "n axis", "n1", NULL);
    qcnn_buffer axis = { 0 };
    sample_int(&axis, "axis", 0);
    sample_node(&file, "Concat", "concat", "n1 rest", "t", &axis);
    sample_node(&file, "Reshape", "view", "x t", "y", NULL);
    sample_output(&file, "y");
    qcnn_model *model = sample_import(&file);
    assert_int_equal(qcnn_model_n_layers(model), 1);
    qcnn_session_options options = qcnn_session_options_default();
    qcnn_session *session;
    options.batch = 5; // the 1 that was read from the shape must not be frozen in
    BUILD_CHECK(qcnn_session_create(model, &options, &session, error));
    const qcnn_shape shape = qcnn_session_output_shape(session, 0);
    assert_true(qcnn_shape_equal(&shape, &SHAPE(5, 6)));
    qcnn_session_free(session);
    qcnn_model_free(model);
}

static void test_unordered_and_dead_nodes(void **state)
{
    (void)state;
    const float x[1] = { -3 };
    float y[1];
    onnx_file file = { .opset = 13 };
    sample_input(&file, "x", SHAPE(1, 1));
    sample_node(&file, "Relu", "same", "a", "y", NULL);
    sample_node(&file, "Neg", "same", "x", "a", NULL);
    sample_node(&file, "NoSuchOperator", "dead", "a", "nobody", NULL); // nothing needs it
    sample_output(&file, "y");
    qcnn_model *model = sample_import(&file);
    assert_int_equal(qcnn_model_n_layers(model), 2);
    assert_string_equal(qcnn_model_layer(model, 0).name, "same");
    assert_string_equal(qcnn_model_layer(model, 1).name, "same_2");
    sample_run(model, x, y);
    assert_floats(y, (const float[]){ 3 }, 1, 0);
    qcnn_model_free(model);
}

// ---- inputs ---------------------------------------------------------------------------------------------------------

static void test_open_dimensions(void **state)
{
    (void)state;
    onnx_file file = { .opset = 13 };
    sample_input(&file, "x", SHAPE(0, 3, 0, 0));
    sample_node(&file, "Relu", "relu", "x", "y", NULL);
    sample_output(&file, "y");
    sample_finish(&file);
    qcnn_import_options options = qcnn_import_options_default();
    qcnn_model *model;
    qcnn_error error;
    assert_int_equal(qcnn_import_onnx(file.bytes.data, file.bytes.n_bytes, NULL, &options, &model, &error), QCNN_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "'x' leaves dimension 2 open"));
    options.side = 9;
    assert_int_equal(qcnn_import_onnx(file.bytes.data, file.bytes.n_bytes, NULL, &options, &model, &error), QCNN_OK);
    const qcnn_shape shape = qcnn_model_input(model, 0).shape;
    assert_true(qcnn_shape_equal(&shape, &SHAPE(1, 3, 9, 9)));
    qcnn_model_free(model);
    const qcnn_array array = { .shape = SHAPE(4, 3, 5, 7) };
    options.inputs = &array;
    options.n_inputs = 1;
    assert_int_equal(qcnn_import_onnx(file.bytes.data, file.bytes.n_bytes, NULL, &options, &model, &error), QCNN_OK);
    const qcnn_shape given = qcnn_model_input(model, 0).shape;
    assert_true(qcnn_shape_equal(&given, &SHAPE(1, 3, 5, 7)));
    qcnn_model_free(model);
    sample_free(&file);
}

// Outputs that are an input, a constant, or another output still get values and names of their own.
static void test_outputs_without_a_node(void **state)
{
    (void)state;
    onnx_file file = { .opset = 13 };
    sample_input(&file, "x", SHAPE(1, 2));
    put_vector(&file, "c", 5, 6);
    sample_node(&file, "Relu", "relu", "x", "r", NULL);
    sample_node(&file, "Identity", "again", "r", "r2", NULL);
    sample_output(&file, "x");
    sample_output(&file, "c");
    sample_output(&file, "r");
    sample_output(&file, "r2");
    qcnn_model *model = sample_import(&file);
    static const char *const names[] = { "x", "c", "r", "r2" };
    float outputs[4][2];
    const float x[2] = { -1, 1 }, *inputs[] = { x };
    qcnn_session *session;
    for (int i = 0; i < 4; i++)
        assert_string_equal(qcnn_model_output(model, i).name, names[i]);
    BUILD_CHECK(qcnn_session_create(model, NULL, &session, error));
    qcnn_run(session, inputs, (float *const[]){ outputs[0], outputs[1], outputs[2], outputs[3] });
    assert_floats(outputs[0], (const float[]){ -1, 1, 5, 6, 0, 1, 0, 1 }, 8, 0);
    qcnn_session_free(session);
    qcnn_model_free(model);
}

// ---- export ---------------------------------------------------------------------------------------------------------

// A network with an operator of each kind, exported and read again, computes the same.
static void test_export_is_read_back(void **state)
{
    (void)state;
    qcnn_rng rng = { 3 };
    qcnn_attributes window = build_window(2, 3, 1, 1), pool = build_window(2, 2, 2, 0),
                    lrn = { .lrn_size = 3, .lrn_alpha = 0.1f, .lrn_beta = 0.75f, .lrn_bias = 1 };
    qcnn_attributes swish = { .function = QCNN_HARD_SWISH }, clip = { .function = QCNN_CLIP, .activation = { .alpha = -1, .beta = 2 } };
    qcnn_attributes softmax = { .axis = 1, .axis_end = 2 }, slice = { 0 }, mean = { .axes = { 0, 0, 1, 1 } }, concat = { .axis = 1 };
    qcnn_attributes pad = { .begin = { 0, 0, 1, 0 }, .end = { 0, 0, 0, 2 }, .pad_value = 3 }, swap = { .axes = { 0, 2, 1, 3 } };
    window.activation = (qcnn_activation){ QCNN_LEAKY_RELU, 0.1f, 0 };
    window.groups = 1;
    for (int i = 0; i < QCNN_MAX_RANK; i++) {
        slice.end[i] = INT64_MAX;
        slice.step[i] = 1;
    }
    slice.begin[2] = 1;
    slice.step[3] = 2;
    qcnn_model *model = build_begin();
    const int x = build_input(model, "x", SHAPE(1, 3, 6, 6));
    const int w = build_random(model, SHAPE(4, 3, 3, 3), &rng), bias = build_random(model, SHAPE(4), &rng);
    int y = build_node(model, QCNN_OP_CONV, &window, 3, x, w, bias);
    y = build_node(model, QCNN_OP_LRN, &lrn, 1, y);
    y = build_node(model, QCNN_OP_UNARY, &swish, 1, y);
    y = build_node(model, QCNN_OP_MAX_POOL, &pool, 1, y);
    y = build_node(model, QCNN_OP_PAD, &pad, 1, y);
    y = build_node(model, QCNN_OP_SLICE, &slice, 1, y);
    y = build_node(model, QCNN_OP_TRANSPOSE, &swap, 1, y);
    y = build_node(model, QCNN_OP_TRANSPOSE, &swap, 1, y);
    y = build_node(model, QCNN_OP_SOFTMAX, &softmax, 1, y);
    const int branch = build_node(model, QCNN_OP_UNARY, &clip, 1, y);
    y = build_node(model, QCNN_OP_CONCAT, &concat, 2, y, branch);
    y = build_node(model, QCNN_OP_REDUCE_MEAN, &mean, 1, y);
    y = build_node(model, QCNN_OP_FC, &(qcnn_attributes){ 0 }, 3, y, build_random(model, SHAPE(5, 8), &rng),
                   build_random(model, SHAPE(5), &rng));
    build_output(model, "y", y);
    build_end(model, "c");

    char path[] = "/tmp/qcnn_export_XXXXXX.onnx";
    qcnn_model *again;
    float *image = build_random_floats(3 * 36, &rng), expected[5], actual[5];
    const int descriptor = mkstemps(path, 5);
    assert_true(descriptor >= 0);
    close(descriptor);
    BUILD_CHECK(qcnn_export_onnx(model, path, error));
    BUILD_CHECK(qcnn_import(path, NULL, &again, error));
    unlink(path);
    sample_run(model, image, expected);
    sample_run(again, image, actual);
    assert_floats(actual, expected, 5, 1e-6f);
    assert_string_equal(qcnn_model_input(again, 0).name, "x");
    qcnn_release(image);
    qcnn_model_free(model);
    qcnn_model_free(again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raw_encodings),
        cmocka_unit_test(test_typed_encodings),
        cmocka_unit_test(test_half_behind_cast),
        cmocka_unit_test(test_subnormal_halves),
        cmocka_unit_test(test_softmax_opsets),
        cmocka_unit_test(test_clip_opsets),
        cmocka_unit_test(test_opset_6_broadcast),
        cmocka_unit_test(test_slice_opsets),
        cmocka_unit_test(test_batch_norm_and_relu_fold),
        cmocka_unit_test(test_shared_output_is_not_folded),
        cmocka_unit_test(test_matmul_and_add_become_a_layer),
        cmocka_unit_test(test_shape_arithmetic_folds),
        cmocka_unit_test(test_unordered_and_dead_nodes),
        cmocka_unit_test(test_open_dimensions),
        cmocka_unit_test(test_outputs_without_a_node),
        cmocka_unit_test(test_export_is_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
