// SPDX-License-Identifier: Apache-2.0
// Small models for tests, a line for each value. Everything fails the test on the spot; what these return is never invalid.
//
//     qcnn_model *model = build_begin();
//     int x = build_input(model, "x", SHAPE(1, 3, 8, 8));
//     int w = build_random(model, SHAPE(4, 3, 3, 3), &rng);
//     qcnn_attributes window = build_window(2, 3, 1, 1);
//     build_output(model, "y", build_node(model, QCNN_OP_CONV, &window, 2, x, w));
//     build_end(model, "c");
//
// Include cmocka.h first.

#ifndef QCNN_TESTS_BUILD_MODEL_H
#define QCNN_TESTS_BUILD_MODEL_H

#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "model/model.h"

#define SHAPE(...) ((qcnn_shape){ .rank = (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), .dims = { __VA_ARGS__ } })

#define BUILD_CHECK(call)                                                                                                                  \
    do {                                                                                                                                   \
        qcnn_error error_ = { 0 };                                                                                                         \
        qcnn_error *error = &error_;                                                                                                       \
        if ((call) != QCNN_OK)                                                                                                             \
            fail_msg("%s: %s", #call, error_.message);                                                                                     \
    } while (0)

static inline float build_random_float(qcnn_rng *rng) // in [-1, 1)
{
    return (float)(2 * qcnn_rng_unit(rng) - 1);
}

static inline float *build_random_floats(size_t n, qcnn_rng *rng) // free with qcnn_release
{
    float *data = qcnn_allocate(n, sizeof *data);
    assert_non_null(data);
    for (size_t i = 0; i < n; i++)
        data[i] = build_random_float(rng);
    return data;
}

static inline qcnn_model *build_begin(void)
{
    qcnn_model *model;
    BUILD_CHECK(qcnn_model_new(&model, error));
    return model;
}

static inline int build_input(qcnn_model *model, const char *name, qcnn_shape shape)
{
    int value;
    BUILD_CHECK(qcnn_model_add_value(model, name, &shape, -1, &value, error));
    BUILD_CHECK(qcnn_model_add_input(model, value, error));
    return value;
}

// A constant; takes `data` over.
static inline int build_constant(qcnn_model *model, qcnn_shape shape, float *data)
{
    qcnn_tensor tensor = { .shape = shape, .data = data, .owned_data = data, .error = -1 };
    int index, value;
    BUILD_CHECK(qcnn_model_add_tensor(model, &tensor, &index, error));
    BUILD_CHECK(qcnn_model_add_value(model, NULL, &shape, index, &value, error));
    return value;
}

static inline int build_random(qcnn_model *model, qcnn_shape shape, qcnn_rng *rng)
{
    return build_constant(model, shape, build_random_floats((size_t)qcnn_shape_elements(&shape), rng));
}

// A product-quantized constant with random codewords and assignments, for `groups` that each have or all share codebooks.
static inline int build_codebook(qcnn_model *model, qcnn_shape shape, int groups, bool per_group, int subspace, int n_codewords,
                                 qcnn_rng *rng)
{
    qcnn_codebook book = { .groups = groups,
                           .n_sets = per_group ? groups : 1,
                           .n_inputs = (int)shape.dims[1],
                           .n_outputs = (int)shape.dims[0] / groups,
                           .n_taps = 1,
                           .subspace = subspace,
                           .n_codewords = n_codewords };
    for (int i = 2; i < shape.rank; i++)
        book.n_taps *= (int)shape.dims[i];
    book.n_subspaces = (book.n_inputs + subspace - 1) / subspace;
    const size_t n_codeword_floats = (size_t)book.n_sets * (size_t)book.n_subspaces * (size_t)n_codewords * (size_t)subspace;
    const size_t n_assignments = (size_t)groups * (size_t)book.n_subspaces * (size_t)book.n_taps * (size_t)book.n_outputs;
    float *codewords = build_random_floats(n_codeword_floats, rng);
    const int narrow = book.n_inputs - (book.n_subspaces - 1) * subspace; // of the last subspace: zeros behind it
    for (size_t i = 0; i < n_codeword_floats; i++)
        if (i / ((size_t)n_codewords * (size_t)subspace) % (size_t)book.n_subspaces == (size_t)book.n_subspaces - 1 &&
            i % (size_t)subspace >= (size_t)narrow)
            codewords[i] = 0;
    uint8_t *assignments = qcnn_allocate(n_assignments, 1);
    assert_non_null(assignments);
    for (size_t i = 0; i < n_assignments; i++)
        assignments[i] = (uint8_t)qcnn_rng_below(rng, (uint32_t)n_codewords);
    book.codewords = codewords;
    book.assignments = assignments;
    qcnn_tensor tensor = { .shape = shape, .codebook = book, .owned_data = codewords, .owned_assignments = assignments, .error = -1 };
    int index, value;
    BUILD_CHECK(qcnn_model_add_tensor(model, &tensor, &index, error));
    BUILD_CHECK(qcnn_model_add_value(model, NULL, &shape, index, &value, error));
    return value;
}

// A node over up to three values; -1 is an absent one. Returns its output value. Nodes are named "node0", "node1", ...
static inline int build_node_of(qcnn_model *model, qcnn_op op, const qcnn_attributes *attributes, int n_inputs, const int *inputs)
{
    char name[32];
    int output;
    snprintf(name, sizeof name, "node%zu", model->n_nodes);
    BUILD_CHECK(qcnn_model_add_value(model, NULL, NULL, -1, &output, error));
    BUILD_CHECK(qcnn_model_add_node(model, op, name, inputs, n_inputs, output, attributes, NULL, error));
    return output;
}

#define build_node(model, op, attributes, n_inputs, ...) build_node_of(model, op, attributes, n_inputs, (const int[]){ __VA_ARGS__ })

static inline void build_output(qcnn_model *model, const char *name, int value)
{
    if (!model->values[value].name) {
        model->values[value].name = qcnn_copy_text(name, strlen(name));
        assert_non_null(model->values[value].name);
    }
    BUILD_CHECK(qcnn_model_add_output(model, value, error));
}

// Prepares the model for a tier (NULL: the best). Free it with qcnn_model_free.
static inline void build_end(qcnn_model *model, const char *kernels)
{
    BUILD_CHECK(qcnn_model_prepare(model, kernels, error));
}

// Attributes of a convolution (one group) or pool: the same in each dimension, no dilation.
static inline qcnn_attributes build_window(int n_spatial, int kernel, int stride, int padding)
{
    qcnn_attributes a = { .n_spatial = n_spatial, .groups = 1 };
    for (int i = 0; i < n_spatial; i++) {
        a.kernel[i] = kernel;
        a.stride[i] = stride;
        a.dilation[i] = 1;
        a.window_begin[i] = a.window_end[i] = padding;
    }
    return a;
}

#endif
