// SPDX-License-Identifier: Apache-2.0
// Gradients of the trainer against finite differences, an operator at a time, and its independence of threads.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// cmocka.h needs the four above
#include <cmocka.h>

#include "build_model.h"
#include "compress/gemm_bf16.h"
#include "compress/train.h"
#include "fake_workers.h"

enum { BATCH = 16, SIDE = 6, CHANNELS = 4 };

// ---- a network around an operator -------------------------------------------------------------------------------------

// Adds what is tested between two codebook layers; returns its output value.
typedef int (*middle_builder)(qcnn_model *model, int x, qcnn_rng *rng);

static int add_conv(qcnn_model *model, int x, int c_in, int c_out, int groups, bool per_group, qcnn_function activation, qcnn_rng *rng)
{
    qcnn_attributes a = build_window(2, 3, 1, 1);
    a.groups = groups;
    a.activation = (qcnn_activation){ activation, 0.3f, 0.8f };
    const qcnn_shape w = { 4, { c_out, c_in / groups, 3, 3 } }, b = { 1, { c_out } };
    const int subspace = c_in / groups < 3 ? c_in / groups : 3;
    const int weights = build_codebook(model, w, groups, per_group, subspace, 5, rng), bias = build_random(model, b, rng);
    return build_node(model, QCNN_OP_CONV, &a, 3, x, weights, bias);
}

static int add_fc(qcnn_model *model, int x, int n_in, int n_out, bool codebook, qcnn_function activation, qcnn_rng *rng)
{
    const qcnn_attributes a = { .activation = { activation, 0.3f, 0.8f } };
    const qcnn_shape w = { 2, { n_out, n_in } }, b = { 1, { n_out } };
    const int weights = codebook ? build_codebook(model, w, 1, false, 4, 6, rng) : build_random(model, w, rng),
              bias = build_random(model, b, rng);
    return build_node(model, QCNN_OP_FC, &a, 3, x, weights, bias);
}

static int add_flat(qcnn_model *model, int x)
{
    const qcnn_attributes a = { .target_rank = 2, .target = { 0, -1 } };
    return build_node(model, QCNN_OP_RESHAPE, &a, 1, x);
}

// conv (codebook) -> middle (keeps 4 channels and 6 x 6 positions unless n_middle says otherwise) -> flat -> fc -> softmax.
static qcnn_model *new_model(middle_builder middle, int n_middle)
{
    qcnn_rng rng = { 5 };
    qcnn_model *model = build_begin();
    int x = build_input(model, "x", (qcnn_shape){ 4, { 1, 2, SIDE, SIDE } });
    x = add_conv(model, x, 2, CHANNELS, 1, false, QCNN_IDENTITY, &rng);
    if (middle)
        x = middle(model, x, &rng);
    x = add_flat(model, x);
    x = add_fc(model, x, n_middle, 5, true, QCNN_IDENTITY, &rng);
    x = build_node(model, QCNN_OP_SOFTMAX, (&(qcnn_attributes){ .axis = 1, .axis_end = 1 }), 1, x);
    build_output(model, "prob", x);
    build_end(model, "c");
    return model;
}

// ---- finite differences -----------------------------------------------------------------------------------------------

typedef struct problem {
    qcnn_trainer *trainer;
    float weights[BATCH * 8]; // of the logits in the loss, a plain sum
} problem;

static double loss(problem *p)
{
    float logits[BATCH * 8];
    double sum = 0;
    qcnn_train_forward(p->trainer);
    qcnn_train_get_logits(p->trainer, logits);
    for (int i = 0; i < BATCH * qcnn_train_n_classes(p->trainer); i++)
        sum += (double)logits[i] * p->weights[i];
    return sum;
}

static void start(problem *p, const qcnn_model *model, const qcnn_parallel *parallel)
{
    const qcnn_train_options options = { .batch = BATCH, .backward = true, .exact = true, .parallel = parallel };
    qcnn_error error = { 0 };
    if (qcnn_trainer_new(model, &options, &p->trainer, &error) != QCNN_OK)
        fail_msg("%s", error.message);
    const size_t n = (size_t)qcnn_shape_elements(&model->values[model->inputs[0]].shape);
    qcnn_rng rng = { 9 };
    float *image = qcnn_allocate(n, sizeof *image);
    assert_non_null(image);
    for (int i = 0; i < BATCH; i++) {
        for (size_t j = 0; j < n; j++)
            image[j] = build_random_float(&rng);
        qcnn_train_set_image(p->trainer, i, image);
    }
    qcnn_release(image);
    for (int i = 0; i < BATCH * 8; i++)
        p->weights[i] = build_random_float(&rng);
}

static void backward(problem *p)
{
    loss(p);
    qcnn_train_clear_gradients(p->trainer);
    qcnn_train_set_logit_gradients(p->trainer, p->weights);
    qcnn_train_backward(p->trainer);
}

// Moves the numbers a little along their gradient (which kinks disturb least) and compares the loss's change with its square.
static void check_direction(problem *p, float *values, const float *gradient, size_t n, const char *what)
{
    double square = 0;
    float *start_values = qcnn_allocate(n, sizeof *values), *direction = qcnn_allocate(n, sizeof *values);
    assert_non_null(start_values);
    assert_non_null(direction);
    memcpy(start_values, values, n * sizeof *values);
    memcpy(direction, gradient, n * sizeof *values);
    for (size_t i = 0; i < n; i++)
        square += (double)direction[i] * direction[i];
    assert_true(square > 0);
    const double step = 1e-3 / sqrt(square);
    double change = 0;
    for (int sign = -1; sign <= 1; sign += 2) {
        for (size_t i = 0; i < n; i++)
            values[i] = start_values[i] + (float)(sign * step * direction[i]);
        change += sign * loss(p);
    }
    memcpy(values, start_values, n * sizeof *values);
    const double slope = change / (2 * step);
    if (fabs(slope - square) > 0.01 * square)
        fail_msg("%s: the loss changes by %g along its gradient, whose square is %g", what, slope, square);
    qcnn_release(start_values);
    qcnn_release(direction);
}

// Single numbers, spread over all of them: the largest error is held against the largest gradient.
static void check_single(problem *p, float *values, const float *gradient, size_t n, const char *what)
{
    float largest = 0, copy[64];
    size_t at[64];
    int n_checked = 0;
    for (size_t i = 0; i < n; i++)
        largest = fmaxf(largest, fabsf(gradient[i]));
    for (size_t i = 0; i < n && n_checked < 64; i += 1 + n / 64) {
        at[n_checked] = i;
        copy[n_checked++] = gradient[i];
    }
    for (int k = 0; k < n_checked; k++) {
        const float value = values[at[k]], step = 2e-3f;
        values[at[k]] = value + step;
        const double above = loss(p);
        values[at[k]] = value - step;
        const double slope = (above - loss(p)) / (2 * (double)step);
        values[at[k]] = value;
        if (fabs(slope - copy[k]) > 0.03 * largest)
            fail_msg("%s, number %zu: gradient %g, finite difference %g (largest gradient %g)", what, at[k], (double)copy[k], slope,
                     (double)largest);
    }
}

static void check_gradients(const qcnn_model *model)
{
    problem p;
    start(&p, model, NULL);
    backward(&p);
    for (size_t i = 0; i < p.trainer->n_weights; i++) {
        char what[40];
        snprintf(what, sizeof what, "codewords of layer %zu", i);
        qcnn_train_weights *w = &p.trainer->weights[i];
        check_direction(&p, w->codewords, w->gradient, w->n_codewords, what);
        check_single(&p, w->codewords, w->gradient, w->n_codewords, what);
    }
    qcnn_train_update(p.trainer, &(qcnn_train_step){ .number = 1 }); // a step of no length: sums the slices' bias gradients
    for (size_t i = 0; i < p.trainer->n_biases; i++) {
        qcnn_train_bias *b = &p.trainer->biases[i];
        check_direction(&p, b->values, b->gradients, b->n, "bias");
        check_single(&p, b->values, b->gradients, b->n, "bias");
    }
    qcnn_trainer_free(p.trainer);
}

static void check_middle(middle_builder middle, int n_middle)
{
    qcnn_model *model = new_model(middle, n_middle);
    check_gradients(model);
    qcnn_model_free(model);
}

// ---- operators --------------------------------------------------------------------------------------------------------

static int middle_groups(qcnn_model *model, int x, qcnn_rng *rng)
{
    x = add_conv(model, x, 4, 6, 2, false, QCNN_RELU, rng);
    return add_conv(model, x, 6, 4, 2, true, QCNN_TANH, rng);
}

static int middle_strides(qcnn_model *model, int x, qcnn_rng *rng)
{
    qcnn_attributes a = build_window(2, 2, 2, 1);
    a.dilation[0] = 2;
    a.window_end[1] = 0;
    const int w = build_codebook(model, (qcnn_shape){ 4, { 5, 4, 2, 2 } }, 1, false, 4, 7, rng);
    return build_node(model, QCNN_OP_CONV, &a, 2, x, w);
}

static int middle_dense_conv(qcnn_model *model, int x, qcnn_rng *rng)
{
    qcnn_attributes a = build_window(2, 3, 1, 1);
    a.groups = 2;
    return build_node(model, QCNN_OP_CONV, &a, 2, x, build_random(model, (qcnn_shape){ 4, { 4, 2, 3, 3 } }, rng));
}

static int middle_max_pool(qcnn_model *model, int x, qcnn_rng *rng)
{
    (void)rng;
    const qcnn_attributes a = build_window(2, 3, 2, 1);
    return build_node(model, QCNN_OP_MAX_POOL, &a, 1, x);
}

static int middle_average_pool(qcnn_model *model, int x, qcnn_rng *rng)
{
    (void)rng;
    qcnn_attributes a = build_window(2, 3, 2, 1);
    x = build_node(model, QCNN_OP_AVERAGE_POOL, &a, 1, x); // 3 x 3
    a = build_window(2, 2, 1, 0);
    a.window_begin[0] = 1;
    a.count_include_pad = 1;
    return build_node(model, QCNN_OP_AVERAGE_POOL, &a, 1, x); // 3 x 2
}

static int middle_lrn(qcnn_model *model, int x, qcnn_rng *rng)
{
    (void)rng;
    qcnn_attributes a = { .lrn_size = 3, .lrn_alpha = 0.9f, .lrn_beta = 0.75f, .lrn_bias = 1 };
    x = build_node(model, QCNN_OP_LRN, &a, 1, x);
    a = (qcnn_attributes){ .lrn_size = 4, .lrn_alpha = 0.5f, .lrn_beta = 0.6f, .lrn_bias = 2 };
    return build_node(model, QCNN_OP_LRN, &a, 1, x);
}

static int middle_concat(qcnn_model *model, int x, qcnn_rng *rng)
{
    const int a = add_conv(model, x, 4, 3, 1, false, QCNN_TANH, rng), b = add_conv(model, x, 4, 2, 1, false, QCNN_SIGMOID, rng);
    return build_node(model, QCNN_OP_CONCAT, (&(qcnn_attributes){ .axis = 1 }), 3, a, x, b);
}

static int middle_residual(qcnn_model *model, int x, qcnn_rng *rng)
{
    const int y = add_conv(model, x, 4, 4, 1, false, QCNN_TANH, rng);
    const qcnn_attributes add = { .function = QCNN_ADD, .activation = { QCNN_SIGMOID, 0, 0 } }, subtract = { .function = QCNN_SUBTRACT };
    const int sum = build_node(model, QCNN_OP_BINARY, &add, 2, x, y);
    return build_node(model, QCNN_OP_BINARY, &subtract, 2, sum, y);
}

static int middle_gate(qcnn_model *model, int x, qcnn_rng *rng)
{
    qcnn_attributes mean = { .keep_dims = 1, .axes = { 0, 0, 1, 1 } };
    int gate = build_node(model, QCNN_OP_REDUCE_MEAN, &mean, 1, x);
    gate = add_conv(model, gate, 4, 4, 1, false, QCNN_SIGMOID, rng);
    return build_node(model, QCNN_OP_BINARY, (&(qcnn_attributes){ .function = QCNN_MULTIPLY }), 2, x, gate);
}

static int middle_functions(qcnn_model *model, int x, qcnn_rng *rng)
{
    static const qcnn_function functions[] = { QCNN_LEAKY_RELU, QCNN_ELU, QCNN_HARD_SWISH, QCNN_HARD_SIGMOID, QCNN_TANH, QCNN_SIGMOID };
    (void)rng;
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        x = build_node(model, QCNN_OP_UNARY, (&(qcnn_attributes){ .function = functions[i], .activation = { QCNN_IDENTITY, 0.4f, 0.2f } }),
                       1, x);
    return x;
}

static int middle_fc(qcnn_model *model, int x, qcnn_rng *rng)
{
    x = add_flat(model, x);
    x = add_fc(model, x, CHANNELS * SIDE * SIDE, 150, true, QCNN_HARD_SWISH, rng); // more than a tile of inputs and of outputs
    x = add_fc(model, x, 150, 12, false, QCNN_RELU, rng);
    return x;
}

static void test_groups(void **state)
{
    (void)state;
    check_middle(NULL, 144);
    check_middle(middle_groups, 144);
    check_middle(middle_strides, 5 * 3 * 3);
    check_middle(middle_dense_conv, 144);
}

static void test_pools(void **state)
{
    (void)state;
    check_middle(middle_max_pool, 4 * 3 * 3);
    check_middle(middle_average_pool, 4 * 3 * 2);
}

static void test_lrn(void **state)
{
    (void)state;
    check_middle(middle_lrn, 144);
}

static void test_branches(void **state)
{
    (void)state;
    check_middle(middle_concat, 9 * 36);
    check_middle(middle_residual, 144);
    check_middle(middle_gate, 144);
}

static void test_functions(void **state)
{
    (void)state;
    check_middle(middle_functions, 144);
}

static void test_fully_connected(void **state)
{
    (void)state;
    check_middle(middle_fc, 12);
}

// ---- the passes -------------------------------------------------------------------------------------------------------

// The forward pass is the engine's.
static void test_forward_is_the_engines(void **state)
{
    (void)state;
    qcnn_model *model = new_model(middle_groups, 144);
    problem p;
    start(&p, model, NULL);
    qcnn_session *session;
    assert_int_equal(qcnn_session_create(model, NULL, &session, NULL), QCNN_OK);
    float image[2 * SIDE * SIDE], logits[BATCH * 8], prob[5];
    qcnn_rng rng = { 9 };
    qcnn_train_forward(p.trainer);
    qcnn_train_get_logits(p.trainer, logits);
    for (int i = 0; i < BATCH; i++) {
        for (int j = 0; j < 2 * SIDE * SIDE; j++)
            image[j] = build_random_float(&rng);
        qcnn_run(session, (const float *const[]){ image }, (float *const[]){ prob });
        double sum = 0;
        for (int c = 0; c < 5; c++)
            sum += exp((double)logits[i * 5 + c]);
        for (int c = 0; c < 5; c++)
            assert_true(fabs(exp((double)logits[i * 5 + c]) / sum - prob[c]) < 0.05); // the engine rounds to bytes
    }
    qcnn_session_free(session);
    qcnn_trainer_free(p.trainer);
    qcnn_model_free(model);
}

// Three steps of everything, on workers that run out of order.
static void test_threads_do_not_matter(void **state)
{
    (void)state;
    qcnn_model *model = new_model(middle_fc, 12);
    problem p[3];
    for (int i = 0; i < 3; i++) {
        fake_workers workers = { 1 << i, 0 };
        const qcnn_parallel hook = fake_workers_hook(&workers);
        start(&p[i], model, i > 0 ? &hook : NULL);
        for (int step = 1; step <= 3; step++) {
            backward(&p[i]);
            qcnn_train_update(p[i].trainer, &(qcnn_train_step){ .number = step, .rate = 0.1f, .bias_rate = 0.1f });
        }
        for (size_t k = 0; k < p[i].trainer->n_weights; k++) {
            const qcnn_train_weights *a = &p[0].trainer->weights[k], *b = &p[i].trainer->weights[k];
            assert_memory_equal(a->codewords, b->codewords, a->n_codewords * sizeof(float));
        }
        for (size_t k = 0; k < p[i].trainer->n_biases; k++)
            assert_memory_equal(p[0].trainer->biases[k].values, p[i].trainer->biases[k].values, p[0].trainer->biases[k].n * sizeof(float));
    }
    for (int i = 0; i < 3; i++)
        qcnn_trainer_free(p[i].trainer);
    qcnn_model_free(model);
}

// bfloat16 keeps 8 bits: products of numbers that have no more are exact, sums of few of them too.
static void test_gemm_bf16(void **state)
{
    (void)state;
    if (!qcnn_gemm_bf16_available())
        skip();
    static const int sizes[][3] = { { 12, 32, 2 }, { 13, 33, 3 }, { 1, 1, 1 }, { 40, 300, 7 }, { 5, 70, 1100 }, { 150, 17, 513 } };
    enum { MOST = 700000 };
    float *a = qcnn_allocate(MOST, sizeof *a), *b = qcnn_allocate(MOST, sizeof *b), *c = qcnn_allocate(MOST, sizeof *c);
    qcnn_rng rng = { 2 };
    for (size_t s = 0; s < 4 * sizeof sizes / sizeof *sizes; s++) {
        const int m = sizes[s / 4][0], n = sizes[s / 4][1], k = sizes[s / 4][2];
        const bool ta = s & 1, tb = s & 2;
        qcnn_gemm_call call = {
            .transpose_a = ta, .transpose_b = tb, .m = m, .n = n, .k = k, .alpha = 1, .beta = 1, .a = a, .b = b, .c = c
        };
        call.lda = (size_t)(ta ? m : k) + 3;
        call.ldb = (size_t)(tb ? k : n) + 1;
        call.ldc = (size_t)n + 2;
        for (size_t i = 0; i < MOST; i++) {
            a[i] = (float)((int)qcnn_rng_below(&rng, 129) - 64);
            b[i] = (float)((int)qcnn_rng_below(&rng, 129) - 64) / 8;
            c[i] = 1;
        }
        float *scratch = qcnn_allocate(qcnn_gemm_bf16_scratch(m), sizeof *scratch);
        assert_non_null(scratch);
        qcnn_gemm_bf16(&call, scratch);
        for (int i = 0; i < m; i++)
            for (int j = 0; j < n + 2; j++) {
                double sum = 1;
                for (int l = 0; l < k && j < n; l++)
                    sum += (double)a[ta ? (size_t)l * call.lda + (size_t)i : (size_t)i * call.lda + (size_t)l] *
                           b[tb ? (size_t)j * call.ldb + (size_t)l : (size_t)l * call.ldb + (size_t)j];
                assert_true(c[(size_t)i * call.ldc + (size_t)j] == (float)sum);
            }
        qcnn_release(scratch);
    }
    qcnn_release(a);
    qcnn_release(b);
    qcnn_release(c);
}

static void test_refuses_what_it_cannot_train(void **state)
{
    (void)state;
    qcnn_rng rng = { 5 };
    qcnn_model *model = build_begin();
    int x = build_input(model, "x", (qcnn_shape){ 4, { 1, 2, SIDE, SIDE } });
    x = add_conv(model, x, 2, CHANNELS, 1, false, QCNN_IDENTITY, &rng);
    x = build_node(model, QCNN_OP_TRANSPOSE, (&(qcnn_attributes){ .axes = { 0, 2, 1, 3 } }), 1, x);
    build_output(model, "y", add_flat(model, x));
    build_end(model, "c");
    qcnn_trainer *trainer;
    qcnn_error error = { 0 };
    const qcnn_train_options options = { .batch = BATCH, .backward = true };
    assert_int_equal(qcnn_trainer_new(model, &options, &trainer, &error), QCNN_ERROR_UNSUPPORTED);
    assert_null(trainer);
    assert_non_null(strstr(error.message, "node1"));
    qcnn_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_pools),
        cmocka_unit_test(test_lrn),
        cmocka_unit_test(test_branches),
        cmocka_unit_test(test_functions),
        cmocka_unit_test(test_fully_connected),
        cmocka_unit_test(test_forward_is_the_engines),
        cmocka_unit_test(test_threads_do_not_matter),
        cmocka_unit_test(test_gemm_bf16),
        cmocka_unit_test(test_refuses_what_it_cannot_train),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
