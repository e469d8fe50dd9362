// SPDX-License-Identifier: Apache-2.0
// Dense convolutions in bytes against the same ones in floats: every tier, random geometries. The difference stays within what
// rounding inputs and weights can do, and no thread count or batch changes a bit.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "build_model.h"
#include "fake_workers.h"
#include "kernels/kernels.h"

enum { N_CASES = 120 };

typedef struct bytes_case {
    qcnn_shape x, w;
    qcnn_attributes attributes;
} bytes_case;

static int between(qcnn_rng *rng, int low, int high)
{
    return low + (int)qcnn_rng_below(rng, (uint32_t)(high - low + 1));
}

static bytes_case random_case(qcnn_rng *rng)
{
    bytes_case c = { 0 };
    qcnn_attributes *a = &c.attributes;
    a->n_spatial = between(rng, 1, 2);
    a->groups = between(rng, 0, 3) ? 1 : 2;
    const int inputs = a->groups > 1 ? between(rng, 4, 9) : between(rng, 1, between(rng, 0, 1) ? 3 : 10), outputs = between(rng, 1, 20);
    c.x = (qcnn_shape){ .rank = 2 + a->n_spatial, .dims = { 2, inputs * a->groups } };
    c.w = (qcnn_shape){ .rank = 2 + a->n_spatial, .dims = { outputs * a->groups, inputs } };
    for (int i = 0; i < a->n_spatial; i++) {
        a->kernel[i] = between(rng, 1, 5);
        a->stride[i] = between(rng, 1, 4);
        a->dilation[i] = between(rng, 0, 3) ? 1 : 2;
        a->window_begin[i] = between(rng, 0, 2);
        a->window_end[i] = between(rng, 0, 2);
        c.w.dims[2 + i] = a->kernel[i];
        c.x.dims[2 + i] = between(rng, 10, between(rng, 0, 7) ? 24 : 130);
    }
    a->activation.function = (qcnn_function[]){ QCNN_IDENTITY, QCNN_RELU, QCNN_ABS }[between(rng, 0, 2)];
    return c;
}

// The convolution over `weights` stored as int8 numbers, which makes it run in bytes unless `exact`.
static qcnn_model *build_case(const bytes_case *c, const float *weights, const float *bias, const char *tier, bool exact)
{
    const size_t n = (size_t)qcnn_shape_elements(&c->w), n_outputs = (size_t)c->w.dims[0];
    float *w = qcnn_allocate(n, sizeof *w), *b = qcnn_allocate(n_outputs, sizeof *b);
    memcpy(w, weights, n * sizeof *w);
    memcpy(b, bias, n_outputs * sizeof *b);
    qcnn_model *model = build_begin();
    const int x = build_input(model, "x", c->x), constant = build_constant(model, c->w, w);
    model->tensors[model->values[constant].tensor].data_type = QCNN_INT8;
    build_output(model, "y",
                 build_node(model, QCNN_OP_CONV, &c->attributes, 3, x, constant, build_constant(model, SHAPE((int64_t)n_outputs), b)));
    model->exact = exact;
    build_end(model, tier);
    return model;
}

static float *run_case(const qcnn_model *model, const float *x, const qcnn_parallel *parallel, size_t *n)
{
    qcnn_session_options options = qcnn_session_options_default();
    options.parallel = parallel;
    qcnn_session *session;
    BUILD_CHECK(qcnn_session_create(model, &options, &session, error));
    const qcnn_shape shape = qcnn_session_output_shape(session, 0);
    *n = (size_t)qcnn_shape_elements(&shape);
    float *y = qcnn_allocate(*n, sizeof *y);
    qcnn_run(session, (const float *const[]){ x }, (float *const[]){ y });
    qcnn_session_free(session);
    return y;
}

static void check_case(const bytes_case *c, qcnn_rng *rng, const char *tier)
{
    const size_t n_x = (size_t)qcnn_shape_elements(&c->x), n_w = (size_t)qcnn_shape_elements(&c->w);
    float *x = build_random_floats(n_x, rng), *weights = build_random_floats(n_w, rng),
          *bias = build_random_floats((size_t)c->w.dims[0], rng);
    for (size_t i = 0; between(rng, 0, 1) && i < n_x; i++)
        x[i] = fabsf(x[i]); // as after ReLU
    qcnn_model *exact = build_case(c, weights, bias, tier, true), *fast = build_case(c, weights, bias, tier, false);
    assert_null(exact->nodes[0].bytes);
    assert_non_null(fast->nodes[0].bytes);
    size_t n;
    float *expected = run_case(exact, x, NULL, &n), *got = run_case(fast, x, NULL, &n);
    // Inputs span at most 2 in at least 127 steps, weights at most 1 in 127.
    const double depth = (double)n_w / (double)c->w.dims[0], bound = depth * (1.0 / 127 + 0.5 / 127 + 0.5 / 127 / 127) + 1e-4;
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - (double)expected[i]) <= bound))
            fail_msg("tier %s: output %zu is %g, expected %g within %g", tier, i, (double)got[i], (double)expected[i], bound);
    fake_workers workers = { .n_workers = 3 };
    const qcnn_parallel hook = fake_workers_hook(&workers);
    float *parallel = run_case(fast, x, &hook, &n);
    assert_memory_equal(parallel, got, n * sizeof *got);
    void *const owned[] = { x, weights, bias, expected, got, parallel };
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        qcnn_release(owned[i]);
    qcnn_model_free(exact);
    qcnn_model_free(fast);
}

static void test_random_geometries(void **state)
{
    (void)state;
    qcnn_rng rng = { 5 };
    for (int t = 0; qcnn_kernels_name(t); t++)
        for (int i = 0; i < N_CASES; i++) {
            const bytes_case c = random_case(&rng);
            check_case(&c, &rng, qcnn_kernels_name(t));
        }
}

// 1x1 kernels with padding, whose border is not multiplied.
static void test_padded_pixels(void **state)
{
    (void)state;
    qcnn_rng rng = { 6 };
    for (int t = 0; qcnn_kernels_name(t); t++)
        for (int i = 0; i < 20; i++) {
            bytes_case c = random_case(&rng);
            for (int k = 0; k < c.attributes.n_spatial; k++) {
                c.attributes.kernel[k] = c.attributes.stride[k] = 1;
                c.w.dims[2 + k] = 1;
            }
            check_case(&c, &rng, qcnn_kernels_name(t));
        }
}

// Inputs without range, with infinities and NaN: no trap, and finite weights of other images' sums.
static void test_unusual_inputs(void **state)
{
    (void)state;
    bytes_case c = { .x = SHAPE(2, 4, 3, 3), .w = SHAPE(2, 4, 1, 1), .attributes = { .n_spatial = 2, .groups = 1 } };
    for (int i = 0; i < 2; i++)
        c.attributes.kernel[i] = c.attributes.stride[i] = c.attributes.dilation[i] = 1;
    float weights[8], bias[2] = { 0.5F, -0.25F }, x[72] = { 0 };
    for (int i = 0; i < 8; i++)
        weights[i] = 0.125F * (float)(i - 4);
    x[36] = INFINITY; // of the second image
    x[37] = NAN;
    qcnn_model *model = build_case(&c, weights, bias, NULL, false);
    size_t n;
    float *y = run_case(model, x, NULL, &n);
    for (size_t i = 0; i < 18; i++)
        assert_true(y[i] == bias[i / 9]);
    qcnn_release(y);
    qcnn_model_free(model);
}

// Sums that 32 bits do not hold if all is at its largest: as many ones as there are inputs, from layers of that width, dense, or of one
// subspace.
static void check_wide(qcnn_op op, bool codebook, int64_t n_inputs, const char *tier)
{
    enum { N_OUTPUTS = 64 };
    qcnn_rng rng = { 7 };
    const bool is_conv = op == QCNN_OP_CONV;
    const qcnn_shape shape = is_conv ? SHAPE(N_OUTPUTS, n_inputs, 1, 1) : SHAPE(N_OUTPUTS, n_inputs);
    const qcnn_attributes a = is_conv ? build_window(2, 1, 1, 0) : (qcnn_attributes){ 0 };
    qcnn_model *model = build_begin();
    const int x = build_input(model, "x", is_conv ? SHAPE(1, n_inputs, 1, 1) : SHAPE(1, n_inputs));
    const int w = codebook ? build_codebook(model, shape, 1, false, (int)n_inputs, 2, &rng) : build_random(model, shape, &rng);
    qcnn_tensor *tensor = &model->tensors[model->values[w].tensor];
    tensor->data_type = codebook ? QCNN_FLOAT32 : QCNN_INT8;
    for (int64_t i = 0; i < n_inputs * (codebook ? 2 : N_OUTPUTS); i++)
        ((float *)tensor->owned_data)[i] = 1;
    build_output(model, "y", build_node(model, op, &a, 2, x, w));
    build_end(model, tier);
    float *ones = qcnn_allocate((size_t)n_inputs, sizeof *ones);
    for (int64_t i = 0; i < n_inputs; i++)
        ones[i] = 1;
    size_t n;
    float *y = run_case(model, ones, NULL, &n);
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(y[i] / (float)n_inputs - 1) < 0.01F))
            fail_msg("tier %s, %lld inputs: %g", tier, (long long)n_inputs, (double)y[i]);
    qcnn_release(ones);
    qcnn_release(y);
    qcnn_model_free(model);
}

static void test_wide_layers(void **state)
{
    (void)state;
    for (int t = 0; qcnn_kernels_name(t); t++)
        for (int i = 0; i < 2; i++) {
            check_wide(QCNN_OP_CONV, false, i ? 140000 : 66312, qcnn_kernels_name(t));
            check_wide(QCNN_OP_CONV, true, i ? 70000 : 33026, qcnn_kernels_name(t));
            check_wide(QCNN_OP_FC, true, i ? 140000 : 66312, qcnn_kernels_name(t));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_random_geometries), cmocka_unit_test(test_padded_pixels),
                                        cmocka_unit_test(test_unusual_inputs), cmocka_unit_test(test_wide_layers) };
    return cmocka_run_group_tests_name("conv_bytes", tests, NULL, NULL);
}
