// SPDX-License-Identifier: Apache-2.0
// Networks to save and files to spoil, for the tests of the .qcnn container.

#ifndef CONTAINER_SAMPLES_H
#define CONTAINER_SAMPLES_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "compress/round.h"
#include "model/container.h"
#include "qcnn_compress.h"

// ---- networks -------------------------------------------------------------------------------------------------------

typedef struct network {
    qcnn_model *model;
    uint32_t random;
} network;

static inline uint32_t next_random(network *net)
{
    net->random = net->random * 1664525u + 1013904223u;
    return net->random >> 16;
}

static inline int add_value(network *net, const char *name, int tensor)
{
    int index;
    assert_int_equal(qcnn_model_add_value(net->model, name, NULL, tensor, &index, NULL), QCNN_OK);
    return index;
}

static inline float *random_floats(network *net, size_t n)
{
    float *floats = qcnn_allocate(n, sizeof *floats);
    assert_non_null(floats);
    for (size_t i = 0; i < n; i++)
        floats[i] = ((float)(next_random(net) % 2001) - 1000) / 4096;
    return floats;
}

static inline int add_dense(network *net, const char *name, qcnn_shape shape)
{
    qcnn_tensor tensor = { .shape = shape, .error = -1 };
    tensor.data = tensor.owned_data = random_floats(net, (size_t)qcnn_shape_elements(&shape));
    int index;
    assert_int_equal(qcnn_model_add_tensor(net->model, &tensor, &index, NULL), QCNN_OK);
    return add_value(net, name, index);
}

static inline int add_codebook(network *net, const char *name, qcnn_shape shape, int groups, int n_sets, int subspace, int n_codewords)
{
    qcnn_tensor tensor = { .shape = shape, .error = 0.125f };
    qcnn_codebook *book = &tensor.codebook;
    *book = (qcnn_codebook){ .groups = groups, .n_sets = n_sets, .n_inputs = (int)shape.dims[1], .n_outputs = (int)shape.dims[0] / groups };
    book->n_taps = 1;
    for (int i = 2; i < shape.rank; i++)
        book->n_taps *= (int)shape.dims[i];
    book->subspace = subspace;
    book->n_codewords = n_codewords;
    book->n_subspaces = (book->n_inputs + subspace - 1) / subspace;
    const size_t n_words = (size_t)(n_sets * book->n_subspaces * n_codewords);
    const size_t n = (size_t)(groups * book->n_subspaces * book->n_taps * book->n_outputs);
    float *words = random_floats(net, n_words * (size_t)subspace);
    for (size_t w = 0; w < n_words; w++)
        for (int c = 0; c < subspace; c++)
            if ((int)(w / (size_t)n_codewords) % book->n_subspaces * subspace + c >= book->n_inputs)
                words[w * (size_t)subspace + (size_t)c] = 0;
    uint8_t *assignments = qcnn_allocate(n, 1);
    assert_non_null(assignments);
    for (size_t i = 0; i < n; i++)
        assignments[i] = (uint8_t)(next_random(net) % (uint32_t)n_codewords);
    book->codewords = tensor.owned_data = words;
    book->assignments = tensor.owned_assignments = assignments;
    int index;
    assert_int_equal(qcnn_model_add_tensor(net->model, &tensor, &index, NULL), QCNN_OK);
    return add_value(net, name, index);
}

#define SHAPE(...) ((qcnn_shape){ .rank = sizeof((int[]){ __VA_ARGS__ }) / sizeof(int), .dims = { __VA_ARGS__ } })

// Attributes without anything in the padding between fields, so that they can be compared byte by byte.
static inline qcnn_attributes no_attributes(void)
{
    qcnn_attributes attributes;
    memset(&attributes, 0, sizeof attributes);
    return attributes;
}

static inline qcnn_attributes window(int kernel, int stride, int padding)
{
    qcnn_attributes a = no_attributes();
    a.n_spatial = 2;
    for (int i = 0; i < 2; i++) {
        a.kernel[i] = kernel;
        a.stride[i] = stride;
        a.dilation[i] = 1;
        a.window_begin[i] = a.window_end[i] = padding;
    }
    a.groups = 1;
    return a;
}

// A node over up to three inputs (-1: absent, also beyond the last); returns the value it writes, which has the node's name.
static inline int add_node(network *net, qcnn_op op, const char *name, int a, int b, int c, qcnn_attributes attributes)
{
    const int inputs[] = { a, b, c };
    const int output = add_value(net, name, -1);
    const int n = c >= 0 ? 3 : b >= 0 ? 2 : 1;
    assert_int_equal(qcnn_model_add_node(net->model, op, name, inputs, n, output, &attributes, NULL, NULL), QCNN_OK);
    return output;
}

static inline int add_input(network *net, const char *name, qcnn_shape shape)
{
    const int x = add_value(net, name, -1);
    net->model->values[x].shape = shape;
    assert_int_equal(qcnn_model_add_input(net->model, x, NULL), QCNN_OK);
    return x;
}

static inline network new_network(void)
{
    network net = { .random = 1 };
    assert_int_equal(qcnn_model_new(&net.model, NULL), QCNN_OK);
    return net;
}

static inline int add_head(network *net, int x)
{
    qcnn_attributes a = no_attributes();
    for (int i = 0; i < 4; i++)
        a.axes[i] = (int[]){ 0, 2, 3, 1 }[i];
    x = add_node(net, QCNN_OP_TRANSPOSE, "transpose", x, -1, -1, a); // 1x4x4x16
    a = no_attributes();
    a.axes[1] = 1;
    x = add_node(net, QCNN_OP_REDUCE_MEAN, "mean", x, -1, -1, a); // 1x4x16
    a.keep_dims = 1;
    x = add_node(net, QCNN_OP_REDUCE_MAX, "max", x, -1, -1, a); // 1x1x16
    a = no_attributes();
    a.activation.function = QCNN_TANH;
    const int bias = add_dense(net, "fc.b", SHAPE(10)), weights = add_codebook(net, "fc.w", SHAPE(10, 16), 1, 1, 4, 4);
    x = add_node(net, QCNN_OP_FC, "fc", x, weights, bias, a);
    x = add_node(net, QCNN_OP_MATMUL, "matmul", x, add_dense(net, "matmul.w", SHAPE(10, 10)), -1, no_attributes());
    a = no_attributes();
    a.target_rank = 3;
    a.target[1] = -1;
    a.target[2] = 5;
    return add_node(net, QCNN_OP_RESHAPE, "reshape", x, -1, -1, a); // 1x2x5
}

// Every operator once or more, groups, sets, a narrower last subspace, K no power of two; class names, preprocessing.
static inline qcnn_model *every_op(void)
{
    network net = new_network();
    const int input = add_input(&net, "image", SHAPE(1, 4, 8, 8));
    qcnn_attributes a = window(3, 1, 1);
    a.activation.function = QCNN_RELU;
    const int bias = add_dense(&net, "conv1.b", SHAPE(6)), weights = add_dense(&net, "conv1.w", SHAPE(6, 4, 3, 3));
    int x = add_node(&net, QCNN_OP_CONV, "conv1", input, weights, bias, a);
    a = no_attributes();
    a.lrn_size = 3;
    a.lrn_alpha = 0.5f;
    a.lrn_beta = 0.75f;
    a.lrn_bias = 2;
    x = add_node(&net, QCNN_OP_LRN, "lrn", x, -1, -1, a);
    a = window(2, 2, 0);
    a.groups = 0;
    x = add_node(&net, QCNN_OP_MAX_POOL, "pool", x, -1, -1, a); // 1x6x4x4
    a = window(3, 1, 1);
    a.groups = 2;
    a.activation = (qcnn_activation){ QCNN_CLIP, 0, 6 };
    x = add_node(&net, QCNN_OP_CONV, "conv2", x, add_codebook(&net, "conv2.w", SHAPE(8, 3, 3, 3), 2, 2, 2, 5), -1, a); // 1x8x4x4
    a = window(3, 1, 1);
    a.groups = 0;
    a.count_include_pad = 1;
    const int pool = add_node(&net, QCNN_OP_AVERAGE_POOL, "average", x, -1, -1, a);
    a = no_attributes();
    a.function = QCNN_LEAKY_RELU;
    a.activation.alpha = 0.25f;
    x = add_node(&net, QCNN_OP_UNARY, "leaky", pool, -1, -1, a);
    a = no_attributes();
    a.function = QCNN_ADD;
    a.activation.function = QCNN_RELU;
    x = add_node(&net, QCNN_OP_BINARY, "add", x, pool, -1, a);
    a = no_attributes();
    a.axis = 1;
    x = add_node(&net, QCNN_OP_CONCAT, "concat", x, pool, -1, a); // 1x16x4x4
    a = no_attributes();
    a.begin[2] = a.begin[3] = 1;
    a.end[3] = -1;
    a.pad_value = 0.5f;
    x = add_node(&net, QCNN_OP_PAD, "pad", x, -1, -1, a); // 1x16x5x4
    a = no_attributes();
    for (int i = 0; i < 4; i++) {
        a.begin[i] = i == 2;
        a.end[i] = INT64_MAX;
        a.step[i] = 1;
    }
    x = add_node(&net, QCNN_OP_SLICE, "slice", x, -1, -1, a); // 1x16x4x4
    x = add_head(&net, x);
    a = no_attributes();
    a.axis = 1;
    a.axis_end = 2;
    const int y = add_node(&net, QCNN_OP_SOFTMAX, "probabilities", x, -1, -1, a);
    const int z = add_node(&net, QCNN_OP_LOG_SOFTMAX, "logarithms", x, -1, -1, a);
    assert_int_equal(qcnn_model_add_output(net.model, y, NULL), QCNN_OK);
    assert_int_equal(qcnn_model_add_output(net.model, z, NULL), QCNN_OK);
    static const char preprocessing[] = "{\"resize_shorter\": 8,\n \"crop\": 8}\n";
    assert_int_equal(qcnn_model_set_preprocessing(net.model, preprocessing, sizeof preprocessing - 1, NULL), QCNN_OK);
    static const char *const classes[] = { "tench", "", "gr\xc3\xbcn", "tench" };
    for (int i = 0; i < 4; i++)
        assert_int_equal(qcnn_model_add_class(net.model, classes[i], strlen(classes[i]), NULL), QCNN_OK);
    net.model->original_bytes = 123456;
    return net.model;
}

static inline void round_tensor(network *net, int value, qcnn_number_type type, int largest)
{
    qcnn_tensor *tensor = &net->model->tensors[net->model->values[value].tensor];
    const qcnn_status status =
        qcnn_is_codebook(tensor) ? qcnn_codebook_round(tensor, type, largest, NULL) : qcnn_data_round(tensor, type, largest, NULL);
    assert_int_equal(status, QCNN_OK);
}

// Numbers stored in every type: dense and as codebooks, in sets and with a narrower last subspace.
static inline qcnn_model *every_type(void)
{
    network net = new_network();
    int x = add_input(&net, "image", SHAPE(1, 4, 6, 6));
    const int w1 = add_dense(&net, "conv1.w", SHAPE(6, 4, 3, 3)), b1 = add_dense(&net, "conv1.b", SHAPE(6));
    x = add_node(&net, QCNN_OP_CONV, "conv1", x, w1, b1, window(3, 1, 1));
    qcnn_attributes a = window(3, 1, 0);
    a.groups = 2;
    const int w2 = add_codebook(&net, "conv2.w", SHAPE(8, 3, 3, 3), 2, 2, 2, 5),
              w3 = add_codebook(&net, "conv3.w", SHAPE(6, 8, 3, 3), 1, 1, 3, 7);
    x = add_node(&net, QCNN_OP_CONV, "conv2", x, w2, -1, a);               // 1x8x4x4
    x = add_node(&net, QCNN_OP_CONV, "conv3", x, w3, -1, window(3, 1, 0)); // 1x6x2x2
    a = no_attributes();
    a.target_rank = 2;
    a.target[1] = -1;
    x = add_node(&net, QCNN_OP_RESHAPE, "flat", x, -1, -1, a);
    const int w4 = add_dense(&net, "fc.w", SHAPE(5, 24));
    x = add_node(&net, QCNN_OP_FC, "fc", x, w4, -1, no_attributes());
    round_tensor(&net, w1, QCNN_FLOAT16, 0);
    round_tensor(&net, b1, QCNN_FLOAT16, 0);
    round_tensor(&net, w2, QCNN_INT8, 127);
    round_tensor(&net, w3, QCNN_FLOAT16, 0);
    round_tensor(&net, w4, QCNN_INT8, 31);
    assert_int_equal(qcnn_model_add_output(net.model, x, NULL), QCNN_OK);
    return net.model;
}

// Everything that can be entropy-coded, large and uneven enough for it: codewords and assignments of "fc1", the weights of "fc2".
static inline qcnn_model *coded(void)
{
    network net = new_network();
    const int x = add_input(&net, "x", SHAPE(1, 30));
    const int w1 = add_codebook(&net, "fc1.w", SHAPE(150, 30), 1, 1, 8, 16), w2 = add_dense(&net, "fc2.w", SHAPE(16, 150));
    const int y = add_node(&net, QCNN_OP_FC, "fc1", x, w1, -1, no_attributes());
    const int z = add_node(&net, QCNN_OP_FC, "fc2", y, w2, -1, no_attributes());
    round_tensor(&net, w1, QCNN_INT8, 3);
    round_tensor(&net, w2, QCNN_INT8, 7);
    uint8_t *assignments = net.model->tensors[net.model->values[w1].tensor].owned_assignments;
    for (int i = 0; i < 4 * 150; i++)
        assignments[i] = assignments[i] < 10 ? (uint8_t)(i / 150) : assignments[i];
    assert_int_equal(qcnn_model_add_output(net.model, z, NULL), QCNN_OK);
    return net.model;
}

// every_op() with what calibration finds: ranges of all values but constants, peaks of conv2's codebook [2][2].
static inline qcnn_model *ranged(void)
{
    qcnn_model *model = every_op();
    for (size_t i = 0; i < model->n_values; i++)
        if (model->values[i].tensor < 0) {
            model->values[i].low = i % 3 ? 0 : -0.5f * (float)i;
            model->values[i].high = 1 + 0.25f * (float)i;
        }
    for (size_t i = 0; i < model->n_tensors; i++) {
        qcnn_tensor *tensor = &model->tensors[i];
        if (tensor->codebook.groups != 2)
            continue;
        float *peaks = tensor->owned_peaks = qcnn_allocate(4, sizeof *peaks);
        assert_non_null(peaks);
        for (int k = 0; k < 4; k++)
            peaks[k] = 0.75f * (float)k;
        tensor->codebook.peaks = peaks;
    }
    return model;
}

// x [1][3] -> fc1 (codebook 4x3: C'=2, K=3; bias) -> act (relu) -> z. Its graph section has the layout that the bad files count on.
static inline qcnn_model *tiny(void)
{
    network net = new_network();
    const int w = add_codebook(&net, "w", SHAPE(4, 3), 1, 1, 2, 3), b = add_dense(&net, "b", SHAPE(4));
    const int x = add_input(&net, "x", SHAPE(1, 3));
    const int y = add_node(&net, QCNN_OP_FC, "fc1", x, w, b, no_attributes());
    qcnn_attributes a = no_attributes();
    a.function = QCNN_RELU;
    const int z = add_node(&net, QCNN_OP_UNARY, "act", y, -1, -1, a);
    assert_int_equal(qcnn_model_add_output(net.model, z, NULL), QCNN_OK);
    return net.model;
}

// ---- files ----------------------------------------------------------------------------------------------------------

typedef struct bytes {
    unsigned char *data; // 64-byte aligned
    size_t n;
} bytes;

static inline bytes save_bytes(const qcnn_model *model)
{
    bytes file;
    void *data;
    qcnn_error error = { 0 };
    if (qcnn_save_memory(model, &data, &file.n, &error) != QCNN_OK)
        fail_msg("%s", error.message);
    file.data = data;
    return file;
}

static inline bytes save_and_free(qcnn_model *model)
{
    const bytes file = save_bytes(model);
    qcnn_model_free(model);
    return file;
}

static inline qcnn_status try_load(bytes file, qcnn_error *error)
{
    qcnn_model *model;
    *error = (qcnn_error){ 0 };
    const qcnn_status status = qcnn_model_load(file.data, file.n, NULL, &model, error);
    if (status == QCNN_OK) {
        assert_non_null(model);
        qcnn_model_free(model);
    } else {
        assert_null(model);
        assert_int_equal(error->status, status);
        assert_true(error->message[0] != 0);
    }
    return status;
}

static inline void put(unsigned char *at, uint64_t value, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++)
        at[i] = (unsigned char)(value >> 8 * i);
}

static inline uint64_t get(const unsigned char *at, int n_bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < n_bytes; i++)
        value |= (uint64_t)at[i] << 8 * i;
    return value;
}

#endif
