// SPDX-License-Identifier: Apache-2.0
// A small network with branches, joins and layers without a bias, and smooth pictures for it.

#ifndef SMALL_NETWORK_H
#define SMALL_NETWORK_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

static inline int add_value(qcnn_model *model, const char *name)
{
    int index;
    assert_int_equal(qcnn_model_add_value(model, name, NULL, -1, &index, NULL), QCNN_OK);
    return index;
}

static inline int add_constant(qcnn_model *model, qcnn_shape shape, double scale)
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

static inline int add_node(qcnn_model *model, qcnn_op op, const char *name, const int *inputs, int n, const qcnn_attributes *attributes)
{
    const int output = add_value(model, name);
    assert_int_equal(qcnn_model_add_node(model, op, name, inputs, n, output, attributes, NULL, NULL), QCNN_OK);
    return output;
}

static inline int add_conv(qcnn_model *model, const char *name, int x, int n_in, int n_out, int side, int groups, bool bias)
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

static inline int add_fc(qcnn_model *model, const char *name, int x, int n_in, int n_out, bool relu)
{
    const qcnn_attributes attributes = { .activation = { .function = relu ? QCNN_RELU : QCNN_IDENTITY } };
    const int inputs[3] = { x, add_constant(model, (qcnn_shape){ 2, { n_out, n_in } }, 3 / sqrt(n_in)),
                            add_constant(model, (qcnn_shape){ 1, { n_out } }, 0.2) };
    return add_node(model, QCNN_OP_FC, name, inputs, 3, &attributes);
}

static inline qcnn_model *new_model(void)
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
    for (size_t i = 0; i < model->n_tensors; i++)
        model->original_bytes += qcnn_tensor_bytes(&model->tensors[i]);
    qcnn_error error = { 0 };
    if (qcnn_model_prepare(model, NULL, &error) != QCNN_OK)
        fail_msg("%s", error.message);
    return model;
}

// Smooth pictures.
static inline qcnn_dataset *new_dataset(uint64_t seed)
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

#endif
