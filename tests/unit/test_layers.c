// SPDX-License-Identifier: Apache-2.0
// Every dense layer over seeded random shapes: against the definition in double precision, in every tier, with several
// workers and in a batch.
//
// Bounds: every tier stays within 1e-5 of the reference, relative to the largest output (at least 1). Whatever the workers
// and the batch, results are the same bits.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
// cmocka.h needs the four above
#include <cmocka.h>

#include "build_model.h"
#include "fake_workers.h"
#include "kernels/kernels.h"
#include "reference_layers.h"

enum { CASES = 120, BATCH = 3 };

typedef struct layer_case {
    qcnn_node node; // op, attributes, n_inputs
    qcnn_shape shapes[3];
    bool constant[3];
    bool positive;  // inputs above 0 (logarithms, powers)
    bool batchable; // dimension 0 is a batch of independent images
    bool large;     // too much for the reference
} layer_case;

static int below(qcnn_rng *rng, int n)
{
    return (int)qcnn_rng_below(rng, (uint32_t)n);
}

static qcnn_shape random_shape(qcnn_rng *rng, int min_rank, int max_rank, int max_side)
{
    qcnn_shape shape = { .rank = min_rank + below(rng, max_rank - min_rank + 1) };
    for (int i = 0; i < shape.rank; i++)
        shape.dims[i] = 1 + below(rng, max_side);
    return shape;
}

static qcnn_activation random_activation(qcnn_rng *rng)
{
    static const qcnn_activation choices[] = {
        { QCNN_IDENTITY, 0, 0 }, { QCNN_RELU, 0, 0 }, { QCNN_LEAKY_RELU, 0.1F, 0 }, { QCNN_CLIP, -0.5F, 0.75F }, { QCNN_HARD_SWISH, 0, 0 },
    };
    return choices[below(rng, 5)];
}

// ---- a random case of each layer ------------------------------------------------------------------------------------

static void random_window(qcnn_rng *rng, qcnn_attributes *a, qcnn_shape *x)
{
    a->n_spatial = 1 + below(rng, 3);
    x->rank = 2 + a->n_spatial;
    x->dims[0] = 1;
    for (int i = 0; i < a->n_spatial; i++) {
        x->dims[2 + i] = 1 + below(rng, a->n_spatial == 3 ? 7 : i + 1 == a->n_spatial ? 45 : 12);
        a->kernel[i] = 1 + below(rng, 4);
        a->stride[i] = 1 + below(rng, 3);
        a->dilation[i] = below(rng, 4) ? 1 : 2;
        a->window_begin[i] = below(rng, 2) ? 0 : below(rng, a->kernel[i]);
        a->window_end[i] = below(rng, 2) ? 0 : below(rng, a->kernel[i]);
    }
}

static void random_conv(qcnn_rng *rng, layer_case *c)
{
    qcnn_attributes *a = &c->node.attributes;
    random_window(rng, a, &c->shapes[0]);
    if (below(rng, 4) == 0) // windows that lie in the padding altogether
        a->window_begin[a->n_spatial - 1] = below(rng, 9);
    if (below(rng, 4) == 0) // 1x1
        for (int i = 0; i < a->n_spatial; i++) {
            a->kernel[i] = a->stride[i] = 1;
            a->window_begin[i] = a->window_end[i] = 0;
        }
    a->groups = below(rng, 2) ? 1 : 1 + below(rng, 4);
    const int c_in = below(rng, 3) ? 1 + below(rng, 8) : 1 + below(rng, 70) / a->groups; // depths beyond one block, and depthwise
    c->shapes[0].dims[1] = (int64_t)a->groups * (a->groups > 1 && below(rng, 2) ? 1 : c_in);
    c->shapes[1] = c->shapes[0];
    c->shapes[1].dims[0] = (int64_t)a->groups * (1 + below(rng, 9));
    c->shapes[1].dims[1] = c->shapes[0].dims[1] / a->groups;
    for (int i = 0; i < a->n_spatial; i++)
        c->shapes[1].dims[2 + i] = a->kernel[i];
    c->node.n_inputs = 2 + below(rng, 2);
    c->shapes[2] = SHAPE(c->shapes[1].dims[0]);
    c->constant[1] = c->constant[2] = below(rng, 5) > 0;
    a->activation = random_activation(rng);
    c->batchable = c->constant[1];
}

static void random_pool(qcnn_rng *rng, layer_case *c)
{
    qcnn_attributes *a = &c->node.attributes;
    random_window(rng, a, &c->shapes[0]);
    c->shapes[0].dims[1] = 1 + below(rng, 5);
    a->ceil_mode = below(rng, 2);
    a->count_include_pad = below(rng, 2);
    c->batchable = true;
}

static void random_fc(qcnn_rng *rng, layer_case *c)
{
    c->shapes[0] = random_shape(rng, 1, 3, 4);
    c->shapes[0].dims[c->shapes[0].rank - 1] = below(rng, 5) ? 1 + below(rng, 90) : 1000 + below(rng, 1300);
    c->shapes[1] = SHAPE(1 + below(rng, 60), c->shapes[0].dims[c->shapes[0].rank - 1]);
    c->shapes[2] = SHAPE(c->shapes[1].dims[0]);
    c->node.n_inputs = 2 + below(rng, 2);
    c->constant[1] = c->constant[2] = true;
    c->node.attributes.activation = random_activation(rng);
    c->batchable = c->shapes[0].rank > 1;
}

static void random_matmul(qcnn_rng *rng, layer_case *c)
{
    const int64_t depth = below(rng, 5) ? 1 + below(rng, 40) : 250 + below(rng, 300);
    const qcnn_shape lead = random_shape(rng, 0, 2, 4);
    c->node.n_inputs = 2;
    for (int k = 0; k < 2; k++) { // each may lack leading dimensions, or broadcast them
        const int dropped = below(rng, lead.rank + 1);
        c->shapes[k].rank = 0;
        for (int i = dropped; i < lead.rank; i++)
            c->shapes[k].dims[c->shapes[k].rank++] = below(rng, 3) ? lead.dims[i] : 1;
        const bool vector = c->shapes[k].rank == 0 && below(rng, 3) == 0;
        const int64_t other = 1 + below(rng, 40);
        if (k == 0 && !vector)
            c->shapes[k].dims[c->shapes[k].rank++] = other;
        c->shapes[k].dims[c->shapes[k].rank++] = depth;
        if (k == 1 && !vector)
            c->shapes[k].dims[c->shapes[k].rank++] = other;
    }
    c->constant[1] = below(rng, 2);
    c->batchable = c->constant[1] && c->shapes[1].rank == 2 && c->shapes[0].rank >= 2;
}

static void random_lrn(qcnn_rng *rng, layer_case *c)
{
    c->shapes[0] = random_shape(rng, 2, 4, 24);
    c->node.attributes.lrn_size = 1 + below(rng, 7);
    c->node.attributes.lrn_alpha = 0.5F;
    c->node.attributes.lrn_beta = below(rng, 3) ? 0.75F : 0.6F;
    c->node.attributes.lrn_bias = 1.5F;
    c->batchable = true;
}

static void random_unary(qcnn_rng *rng, layer_case *c)
{
    c->shapes[0] = random_shape(rng, 0, 4, 8);
    c->node.attributes.function = QCNN_IDENTITY + below(rng, QCNN_RECIPROCAL + 1);
    c->node.attributes.activation.alpha = 0.3F;
    c->node.attributes.activation.beta = 0.6F;
    c->positive = c->node.attributes.function == QCNN_LOG || c->node.attributes.function == QCNN_SQRT ||
                  c->node.attributes.function == QCNN_RECIPROCAL;
    c->batchable = c->shapes[0].rank > 0;
}

static void random_binary(qcnn_rng *rng, layer_case *c)
{
    const qcnn_shape full = random_shape(rng, 0, 5, 9);
    const int kind = below(rng, 4); // equal shapes, a scalar, a value per channel, anything
    c->node.n_inputs = 2;
    for (int k = 0; k < 2; k++) {
        const int dropped = kind == 3 ? below(rng, full.rank + 1) : kind == 1 && k == 1 ? full.rank : 0;
        c->shapes[k].rank = full.rank - dropped;
        for (int i = dropped; i < full.rank; i++)
            c->shapes[k].dims[i - dropped] = (kind == 3 && below(rng, 3) == 0) || (kind == 2 && k == 1 && i != 1) ? 1 : full.dims[i];
    }
    c->constant[1] = below(rng, 2);
    c->node.attributes.function = QCNN_ADD + below(rng, QCNN_PRELU - QCNN_ADD + 1);
    c->positive = c->node.attributes.function == QCNN_POWER || c->node.attributes.function == QCNN_DIVIDE;
    c->node.attributes.activation = random_activation(rng);
    c->batchable = kind < 3 && kind > 0 && c->constant[1] && c->shapes[0].rank > 1 && (kind == 1 || c->shapes[1].dims[0] == 1);
}

static void random_softmax(qcnn_rng *rng, layer_case *c)
{
    c->shapes[0] = random_shape(rng, 1, 4, 9);
    c->node.attributes.axis = below(rng, c->shapes[0].rank);
    c->node.attributes.axis_end = c->node.attributes.axis + below(rng, c->shapes[0].rank - c->node.attributes.axis);
    c->batchable = c->node.attributes.axis > 0;
}

static void random_concat(qcnn_rng *rng, layer_case *c)
{
    c->shapes[0] = random_shape(rng, 1, 4, 7);
    c->node.attributes.axis = below(rng, c->shapes[0].rank);
    c->node.n_inputs = 1 + below(rng, 3);
    for (int k = 1; k < 3; k++) {
        c->shapes[k] = c->shapes[0];
        c->shapes[k].dims[c->node.attributes.axis] = 1 + below(rng, 6);
    }
    c->batchable = c->node.attributes.axis > 0;
}

static void random_reshape(qcnn_rng *rng, layer_case *c)
{
    c->shapes[0] = random_shape(rng, 3, 4, 6);
    c->node.attributes.target_rank = 3;
    c->node.attributes.target[1] = c->shapes[0].dims[2];
    c->node.attributes.target[2] = -1;
    c->batchable = true;
}

static void random_transpose(qcnn_rng *rng, layer_case *c)
{
    c->shapes[0] = random_shape(rng, 0, 5, 6);
    int32_t *axes = c->node.attributes.axes;
    for (int i = 0; i < c->shapes[0].rank; i++) {
        const int j = below(rng, i + 1);
        axes[i] = axes[j];
        axes[j] = i;
    }
    c->batchable = c->shapes[0].rank > 0 && axes[0] == 0;
}

static void random_pad(qcnn_rng *rng, layer_case *c)
{
    c->shapes[0] = random_shape(rng, 0, 4, 8);
    c->node.attributes.pad_mode = below(rng, 3);
    c->node.attributes.pad_value = 0.5F;
    for (int i = 0; i < c->shapes[0].rank; i++) {
        c->node.attributes.begin[i] = below(rng, 8) - 3;
        c->node.attributes.end[i] = below(rng, 8) - 3;
    }
    c->batchable = below(rng, 2) && c->shapes[0].rank > 0;
    if (c->batchable)
        c->node.attributes.begin[0] = c->node.attributes.end[0] = 0;
}

static void random_slice(qcnn_rng *rng, layer_case *c)
{
    c->shapes[0] = random_shape(rng, 0, 4, 9);
    for (int i = 0; i < c->shapes[0].rank; i++) {
        c->node.attributes.begin[i] = below(rng, (int)c->shapes[0].dims[i]);
        c->node.attributes.end[i] = below(rng, 2) ? INT64_MAX : c->node.attributes.begin[i] + 1 + below(rng, 6);
        c->node.attributes.step[i] = 1 + below(rng, 3);
    }
}

static void random_reduce(qcnn_rng *rng, layer_case *c)
{
    c->shapes[0] = random_shape(rng, 0, 5, 6);
    for (int i = 0; i < c->shapes[0].rank; i++)
        c->node.attributes.axes[i] = below(rng, 2);
    c->node.attributes.keep_dims = below(rng, 2);
    c->batchable = c->shapes[0].rank > 0 && !c->node.attributes.axes[0];
}

// ---- checking one case ----------------------------------------------------------------------------------------------

typedef struct built_case {
    const layer_case *c;
    float *data[3]; // of every input
    qcnn_model *model;
} built_case;

static bool acceptable(const layer_case *c)
{
    const qcnn_shape *inputs[3] = { &c->shapes[0], &c->shapes[1], &c->shapes[2] };
    qcnn_shape output;
    return qcnn_infer_shape(&c->node, inputs, &output, NULL) == QCNN_OK;
}

static float *copy_floats(const float *data, size_t n)
{
    float *copy = qcnn_allocate(n, sizeof *copy);
    assert_non_null(copy);
    memcpy(copy, data, n * sizeof *copy);
    return copy;
}

static void build_case(built_case *b, const char *tier)
{
    const layer_case *c = b->c;
    int values[3] = { -1, -1, -1 };
    b->model = build_begin();
    for (int i = 0; i < c->node.n_inputs; i++)
        values[i] = c->constant[i]
                        ? build_constant(b->model, c->shapes[i], copy_floats(b->data[i], (size_t)qcnn_shape_elements(&c->shapes[i])))
                        : build_input(b->model, "x", c->shapes[i]);
    build_output(b->model, "y", build_node_of(b->model, c->node.op, &c->node.attributes, c->node.n_inputs, values));
    build_end(b->model, tier);
}

// One run on the case's inputs, each repeated `batch` times with image i of input 0 scaled by i + 1 (0: image `only` alone).
static float *run_case(const built_case *b, const qcnn_parallel *parallel, int batch, int only, size_t *n)
{
    qcnn_session_options options = qcnn_session_options_default();
    options.batch = batch;
    options.parallel = parallel;
    qcnn_session *session;
    BUILD_CHECK(qcnn_session_create(b->model, &options, &session, error));
    const float *inputs[3];
    float *copies[3] = { 0 };
    int n_inputs = 0;
    for (int i = 0; i < b->c->node.n_inputs; i++) {
        if (b->c->constant[i])
            continue;
        const size_t image = (size_t)qcnn_shape_elements(&b->c->shapes[i]);
        copies[i] = qcnn_allocate(image * (size_t)batch, sizeof(float));
        assert_non_null(copies[i]);
        for (size_t k = 0; k < image * (size_t)batch; k++)
            copies[i][k] = b->data[i][k % image] * (float)(1 + (batch > 1 ? (int)(k / image) : only));
        inputs[n_inputs++] = copies[i];
    }
    const qcnn_shape shape = qcnn_session_output_shape(session, 0);
    *n = (size_t)qcnn_shape_elements(&shape);
    float *output = qcnn_allocate(*n + 1, sizeof *output);
    assert_non_null(output);
    output[*n] = 12345; // a guard
    qcnn_run(session, inputs, &output);
    assert_true(output[*n] == 12345);
    for (int i = 0; i < 3; i++)
        qcnn_release(copies[i]);
    qcnn_session_free(session);
    return output;
}

static void check_reference(const built_case *b, const float *output, size_t n)
{
    const layer_case *c = b->c;
    const reference_operand in[3] = { { c->shapes[0], b->data[0] }, { c->shapes[1], b->data[1] }, { c->shapes[2], b->data[2] } };
    const qcnn_shape *y = &b->model->values[b->model->outputs[0]].shape;
    double *expected = calloc(n, sizeof *expected), largest = 1;
    assert_non_null(expected);
    for (size_t i = 0; i < n; i++) {
        expected[i] = reference_element(&c->node, in, y, (int64_t)i);
        if (isfinite(expected[i]))
            largest = fmax(largest, fabs(expected[i]));
    }
    for (size_t i = 0; i < n; i++)
        if (!(fabs(expected[i] - output[i]) <= 1e-5 * largest || expected[i] == output[i]))
            fail_msg("%s, tier %s: output %zu is %.8g, expected %.8g", qcnn_op_name(c->node.op), b->model->kernels->name, i, output[i],
                     expected[i]);
    free(expected);
}

static void check_same(const float *a, const float *b, size_t n, qcnn_op op, const char *what)
{
    if (memcmp(a, b, n * sizeof *a) != 0)
        fail_msg("%s: %s changes bits", qcnn_op_name(op), what);
}

static void check_case(const layer_case *c, qcnn_rng *rng, const char *tier)
{
    built_case b = { .c = c };
    for (int i = 0; i < c->node.n_inputs; i++) {
        const size_t n = (size_t)qcnn_shape_elements(&c->shapes[i]);
        b.data[i] = build_random_floats(n, rng);
        for (size_t k = 0; c->positive && k < n; k++)
            b.data[i][k] = 0.1F + fabsf(b.data[i][k]);
    }
    build_case(&b, tier);
    size_t n, n_batch;
    float *single = run_case(&b, NULL, 1, 0, &n);
    if (!c->large)
        check_reference(&b, single, n);

    fake_workers workers = { .n_workers = 3 };
    const qcnn_parallel parallel = fake_workers_hook(&workers);
    float *spread = run_case(&b, &parallel, 1, 0, &n);
    check_same(single, spread, n, c->node.op, "the number of workers");
    qcnn_release(spread);
    assert_true(workers.n_calls > 0 || !c->large); // large ones are really spread
    if (c->batchable) {
        float *batch = run_case(&b, &parallel, BATCH, 0, &n_batch);
        assert_int_equal(n_batch, n * BATCH);
        for (int image = 0; image < BATCH; image++) {
            float *alone = run_case(&b, NULL, 1, image, &n);
            check_same(alone, batch + (size_t)image * n, n, c->node.op, "the batch");
            qcnn_release(alone);
        }
        qcnn_release(batch);
    }
    qcnn_release(single);
    for (int i = 0; i < 3; i++)
        qcnn_release(b.data[i]);
    qcnn_model_free(b.model);
}

static void check_layer(qcnn_op op, void (*make)(qcnn_rng *rng, layer_case *c))
{
    qcnn_rng rng = { 1000 + (uint64_t)op };
    for (int i = 0; i < CASES; i++) {
        layer_case c;
        do {
            c = (layer_case){ .node = { .op = op, .n_inputs = 1 } };
            make(&rng, &c);
        } while (!acceptable(&c));
        const char *tier;
        for (int t = 0; (tier = qcnn_kernels_name(t)) != NULL; t++)
            check_case(&c, &rng, tier);
    }
}

#define LAYER_TEST(name, op, make)                                                                                                         \
    static void test_##name(void **state)                                                                                                  \
    {                                                                                                                                      \
        (void)state;                                                                                                                       \
        check_layer(op, make);                                                                                                             \
    }

LAYER_TEST(conv, QCNN_OP_CONV, random_conv)
LAYER_TEST(max_pool, QCNN_OP_MAX_POOL, random_pool)
LAYER_TEST(average_pool, QCNN_OP_AVERAGE_POOL, random_pool)
LAYER_TEST(fc, QCNN_OP_FC, random_fc)
LAYER_TEST(matmul, QCNN_OP_MATMUL, random_matmul)
LAYER_TEST(lrn, QCNN_OP_LRN, random_lrn)
LAYER_TEST(unary, QCNN_OP_UNARY, random_unary)
LAYER_TEST(binary, QCNN_OP_BINARY, random_binary)
LAYER_TEST(softmax, QCNN_OP_SOFTMAX, random_softmax)
LAYER_TEST(log_softmax, QCNN_OP_LOG_SOFTMAX, random_softmax)
LAYER_TEST(concat, QCNN_OP_CONCAT, random_concat)
LAYER_TEST(reshape, QCNN_OP_RESHAPE, random_reshape)
LAYER_TEST(transpose, QCNN_OP_TRANSPOSE, random_transpose)
LAYER_TEST(pad, QCNN_OP_PAD, random_pad)
LAYER_TEST(slice, QCNN_OP_SLICE, random_slice)
LAYER_TEST(reduce_mean, QCNN_OP_REDUCE_MEAN, random_reduce)
LAYER_TEST(reduce_max, QCNN_OP_REDUCE_MAX, random_reduce)

// Layers whose work is only spread over workers when there is much of it.
static void test_large(void **state)
{
    (void)state;
    const qcnn_shape image = SHAPE(2, 7, 70, 80), channel = SHAPE(7, 1, 1), other = SHAPE(2, 9, 70, 80), rows = SHAPE(300, 70);
    const layer_case cases[] = {
        { .node = { .op = QCNN_OP_UNARY, .n_inputs = 1, .attributes = { .function = QCNN_SIGMOID } }, .shapes = { image } },
        { .node = { .op = QCNN_OP_BINARY, .n_inputs = 2, .attributes = { .function = QCNN_SUBTRACT, .activation = { QCNN_RELU, 0, 0 } } },
          .shapes = { image, channel } },
        { .node = { .op = QCNN_OP_BINARY, .n_inputs = 2, .attributes = { .function = QCNN_PRELU } }, .shapes = { image, image } },
        { .node = { .op = QCNN_OP_SOFTMAX, .n_inputs = 1, .attributes = { .axis = 1, .axis_end = 1 } },
          .shapes = { image },
          .large = true },
        { .node = { .op = QCNN_OP_CONCAT, .n_inputs = 3, .attributes = { .axis = 1 } }, .shapes = { image, other, image } },
        { .node = { .op = QCNN_OP_TRANSPOSE, .n_inputs = 1, .attributes = { .axes = { 0, 2, 3, 1 } } }, .shapes = { image } },
        { .node = { .op = QCNN_OP_SLICE,
                    .n_inputs = 1,
                    .attributes = { .begin = { 0, 2, 1, 3 }, .end = { 2, 7, 70, 79 }, .step = { 1, 1, 1, 1 } } },
          .shapes = { image } },
        { .node = { .op = QCNN_OP_PAD, .n_inputs = 1, .attributes = { .begin = { 0, 0, 3, -1 }, .end = { 0, 1, 2, 40 }, .pad_mode = 2 } },
          .shapes = { image } },
        { .node = { .op = QCNN_OP_REDUCE_MEAN, .n_inputs = 1, .attributes = { .axes = { 0, 1, 0, 0 } } },
          .shapes = { image },
          .large = true },
        { .node = { .op = QCNN_OP_FC, .n_inputs = 2 }, .shapes = { rows, SHAPE(170, 70) }, .constant = { false, true } },
        { .node = { .op = QCNN_OP_MATMUL, .n_inputs = 2 }, .shapes = { rows, SHAPE(70, 33) } },
    };
    qcnn_rng rng = { 99 };
    const char *tier;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int t = 0; (tier = qcnn_kernels_name(t)) != NULL; t++)
            check_case(&cases[i], &rng, tier);
}

// A ceil_mode window that would start behind the input is not one; the average of a partial window divides by what it has.
static void test_ceil_mode(void **state)
{
    (void)state;
    qcnn_attributes a = build_window(1, 2, 2, 0);
    a.ceil_mode = 1;
    qcnn_model *model = build_begin();
    build_output(model, "y", build_node(model, QCNN_OP_AVERAGE_POOL, &a, 1, build_input(model, "x", SHAPE(1, 1, 5))));
    build_end(model, NULL);
    qcnn_session *session;
    BUILD_CHECK(qcnn_session_create(model, NULL, &session, error));
    const float x[5] = { 1, 3, 5, 7, 11 };
    float y[3];
    qcnn_run(session, (const float *const[]){ x }, (float *const[]){ y });
    assert_true(y[0] == 2 && y[1] == 6 && y[2] == 11);
    qcnn_session_free(session);
    qcnn_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv),        cmocka_unit_test(test_max_pool),   cmocka_unit_test(test_average_pool),
        cmocka_unit_test(test_fc),          cmocka_unit_test(test_matmul),     cmocka_unit_test(test_lrn),
        cmocka_unit_test(test_unary),       cmocka_unit_test(test_binary),     cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_log_softmax), cmocka_unit_test(test_concat),     cmocka_unit_test(test_reshape),
        cmocka_unit_test(test_transpose),   cmocka_unit_test(test_pad),        cmocka_unit_test(test_slice),
        cmocka_unit_test(test_reduce_mean), cmocka_unit_test(test_reduce_max), cmocka_unit_test(test_large),
        cmocka_unit_test(test_ceil_mode),
    };
    return cmocka_run_group_tests_name("layers", tests, NULL, NULL);
}
