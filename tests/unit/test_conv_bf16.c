// SPDX-License-Identifier: Apache-2.0
// Convolutions in bfloat16 against the engine's on random geometries, with numbers so small that both are exact; and a stretch cut into
// such convolutions and sessions against one session, which is also what it is where there is no bfloat16.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "build_model.h"
#include "compress/conv_bf16.h"
#include "compress/gemm_bf16.h"
#include "compress/stretch.h"

enum { N_CASES = 150 };

static int between(qcnn_rng *rng, int low, int high)
{
    return low + (int)qcnn_rng_below(rng, (uint32_t)(high - low + 1));
}

static float *small_numbers(size_t n, qcnn_rng *rng)
{
    float *x = qcnn_allocate(n, sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)between(rng, -32, 32) / 4;
    return x;
}

// A codebook of small numbers, one for all groups or one for each.
static int small_codebook(qcnn_model *model, qcnn_shape shape, int groups, qcnn_rng *rng)
{
    const int subspace = between(rng, 1, shape.dims[1] < 4 ? (int)shape.dims[1] : 4);
    const int value = build_codebook(model, shape, groups, between(rng, 0, 1), subspace, between(rng, 2, 20), rng);
    qcnn_tensor *tensor = &model->tensors[model->values[value].tensor];
    const qcnn_codebook *book = &tensor->codebook;
    float *codewords = tensor->owned_data;
    const size_t n = (size_t)book->n_sets * (size_t)book->n_subspaces * (size_t)book->n_codewords * (size_t)book->subspace;
    for (size_t i = 0; i < n; i++)
        codewords[i] = codewords[i] != 0 ? (float)between(rng, -32, 32) / 4 : 0; // zero behind a narrow last subspace
    return value;
}

// A convolution of an image, or of a row, with random geometry; one in four has a single output position.
static qcnn_model *random_case(qcnn_rng *rng)
{
    const bool single = between(rng, 0, 3) == 0;
    qcnn_attributes a = { .n_spatial = between(rng, 1, 2), .groups = between(rng, 1, 2) };
    const int inputs = between(rng, 1, 9), outputs = between(rng, 8, 30);
    qcnn_shape x = { .rank = 2 + a.n_spatial, .dims = { 1, inputs * a.groups } },
               w = { .rank = x.rank, .dims = { outputs * a.groups, inputs } };
    for (int i = 0; i < a.n_spatial; i++) {
        w.dims[2 + i] = a.kernel[i] = between(rng, 1, 11);
        a.stride[i] = between(rng, 1, 4);
        a.dilation[i] = between(rng, 0, 3) ? 1 : 2;
        a.window_begin[i] = between(rng, 0, 5);
        a.window_end[i] = between(rng, 0, 5);
        x.dims[2 + i] = between(rng, 22, 50);
        if (single) {
            x.dims[2 + i] = (a.kernel[i] - 1) * a.dilation[i] + between(rng, 1, a.stride[i]);
            a.window_begin[i] = a.window_end[i] = 0;
        }
    }
    a.activation.function = between(rng, 0, 1) ? QCNN_RELU : QCNN_IDENTITY;
    qcnn_model *model = build_begin();
    const int input = build_input(model, "x", x),
              weights = between(rng, 0, 1) ? small_codebook(model, w, a.groups, rng)
                                           : build_constant(model, w, small_numbers((size_t)qcnn_shape_elements(&w), rng));
    const int bias = build_constant(model, (qcnn_shape){ .rank = 1, .dims = { w.dims[0] } }, small_numbers((size_t)w.dims[0], rng));
    model->exact = true;
    build_output(model, "y", build_node_of(model, QCNN_OP_CONV, &a, between(rng, 2, 3), (const int[]){ input, weights, bias }));
    build_end(model, NULL);
    return model;
}

static float *run_session(const qcnn_model *model, const float *x)
{
    float *y = qcnn_allocate((size_t)qcnn_shape_elements(&model->values[model->outputs[0]].shape), sizeof *y);
    qcnn_session *session;
    assert_non_null(y);
    assert_int_equal(qcnn_session_create(model, NULL, &session, NULL), QCNN_OK);
    qcnn_run(session, &x, &y);
    qcnn_session_free(session);
    return y;
}

static void test_convolutions(void **state)
{
    (void)state;
    if (!qcnn_gemm_bf16_available())
        skip();
    qcnn_rng rng = { 7 };
    int n_run = 0;
    for (int i = 0; i < N_CASES; i++) {
        qcnn_model *model = random_case(&rng);
        const size_t n = (size_t)qcnn_shape_elements(&model->values[model->outputs[0]].shape);
        float *x = small_numbers((size_t)qcnn_shape_elements(&model->values[model->inputs[0]].shape), &rng);
        if (qcnn_conv_bf16_suits(model, &model->nodes[0])) {
            qcnn_conv_bf16 *conv;
            assert_int_equal(qcnn_conv_bf16_new(model, &model->nodes[0], &conv, NULL), QCNN_OK);
            void *scratch = qcnn_allocate(qcnn_conv_bf16_scratch(conv), 1);
            float *wanted = run_session(model, x), *y = qcnn_allocate(n, sizeof *y);
            qcnn_conv_bf16_run(conv, x, y, scratch);
            for (size_t j = 0; j < n; j++)
                assert_true(y[j] == wanted[j]);
            qcnn_release(scratch);
            qcnn_release(wanted);
            qcnn_release(y);
            qcnn_conv_bf16_free(conv);
            n_run++;
        }
        qcnn_release(x);
        qcnn_model_free(model);
    }
    assert_true(n_run > N_CASES / 2);
}

// conv - (max pool, conv) - add: the pool is read by the addition too.
static qcnn_model *branched(qcnn_rng *rng)
{
    const qcnn_shape x = { 4, { 1, 4, 9, 9 } }, w = { 4, { 8, 4, 3, 3 } }, v = { 4, { 8, 8, 3, 3 } };
    qcnn_attributes a = build_window(2, 3, 1, 1), pool = a, add = { .function = QCNN_ADD };
    qcnn_model *model = build_begin();
    const int input = build_input(model, "x", x);
    const int first = build_node_of(model, QCNN_OP_CONV, &a, 2, (const int[]){ input, build_constant(model, w, small_numbers(288, rng)) });
    const int middle = build_node_of(model, QCNN_OP_MAX_POOL, &pool, 1, (const int[]){ first });
    const int second = build_node_of(model, QCNN_OP_CONV, &a, 2, (const int[]){ first, build_constant(model, v, small_numbers(576, rng)) });
    build_output(model, "y", build_node_of(model, QCNN_OP_BINARY, &add, 2, (const int[]){ middle, second }));
    build_end(model, NULL);
    return model;
}

static void check_stretch(float tolerance)
{
    qcnn_rng rng = { 11 };
    qcnn_model *model = branched(&rng);
    bool wanted[16] = { false };
    assert_true(model->n_values <= 16);
    wanted[model->outputs[0]] = true;
    qcnn_stretch *stretch;
    assert_int_equal(qcnn_stretch_new(model, 0, model->n_nodes, wanted, NULL, &stretch, NULL), QCNN_OK);
    float *x = small_numbers(324, &rng), *y = run_session(model, x);
    for (size_t v = 0; v < model->n_values; v++)
        assert_int_equal(qcnn_stretch_reads(stretch, (int)v), (int)v == model->inputs[0]);
    memcpy(qcnn_stretch_value(stretch, model->inputs[0], 0), x, 324 * sizeof *x);
    qcnn_stretch_run(stretch, 0);
    const float *made = qcnn_stretch_value(stretch, model->outputs[0], 0);
    float largest = 0;
    for (int i = 0; i < 648; i++)
        largest = y[i] > largest ? y[i] : largest;
    assert_true(largest > 0);
    for (int i = 0; i < 648; i++)
        assert_true(fabsf(y[i] - made[i]) <= tolerance * largest);
    qcnn_release(x);
    qcnn_release(y);
    qcnn_stretch_free(stretch);
    qcnn_model_free(model);
}

static void test_stretch(void **state)
{
    (void)state;
    check_stretch(0.01f);
}

static void test_stretch_in_float32(void **state)
{
    (void)state;
    qcnn_gemm_bf16_forbid(true);
    check_stretch(0);
    qcnn_gemm_bf16_forbid(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_convolutions), cmocka_unit_test(test_stretch),
                                        cmocka_unit_test(test_stretch_in_float32) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
