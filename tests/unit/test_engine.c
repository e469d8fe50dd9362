// SPDX-License-Identifier: Apache-2.0
// Sessions: where values live, what a run may not do, what is refused.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
// cmocka.h needs the four above
#include <cmocka.h>

#include "build_model.h"
#include "engine/memory_plan.h"
#include "fake_workers.h"
#include "kernels/kernels.h"
#include "reference_layers.h"

// ---- an allocator that counts and fails on demand -------------------------------------------------------------------

typedef struct counting_allocator {
    int n_calls, n_alive;
    int fail_at; // the call that fails, and all after it; negative: none
} counting_allocator;

static void *counting_allocate(void *context, size_t bytes, size_t alignment)
{
    counting_allocator *counting = context;
    if (counting->n_calls++ >= counting->fail_at && counting->fail_at >= 0)
        return NULL;
    counting->n_alive++;
    return aligned_alloc(alignment, bytes);
}

static void counting_release(void *context, void *pointer)
{
    ((counting_allocator *)context)->n_alive--;
    free(pointer);
}

// ---- a small network ------------------------------------------------------------------------------------------------

static qcnn_model *small_network(void)
{
    qcnn_rng rng = { 7 };
    qcnn_model *model = build_begin();
    qcnn_attributes conv = build_window(2, 3, 1, 1), pool = build_window(2, 2, 2, 0), softmax = { .axis = 1, .axis_end = 1 };
    const qcnn_attributes flat = { .target_rank = 2, .target = { 0, -1 } };
    conv.activation.function = QCNN_RELU;
    int x = build_input(model, "x", SHAPE(1, 3, 12, 12));
    x = build_node(model, QCNN_OP_CONV, &conv, 3, x, build_random(model, SHAPE(8, 3, 3, 3), &rng), build_random(model, SHAPE(8), &rng));
    x = build_node(model, QCNN_OP_MAX_POOL, &pool, 1, x);
    x = build_node(model, QCNN_OP_RESHAPE, &flat, 1, x);
    x = build_node(model, QCNN_OP_FC, NULL, 2, x, build_random(model, SHAPE(10, 288), &rng));
    build_output(model, "y", build_node(model, QCNN_OP_SOFTMAX, &softmax, 1, x));
    build_end(model, NULL);
    return model;
}

static qcnn_session *session_of(const qcnn_model *model, const qcnn_session_options *options)
{
    qcnn_session *session;
    BUILD_CHECK(qcnn_session_create(model, options, &session, error));
    return session;
}

static void test_run_allocates_nothing(void **state)
{
    (void)state;
    counting_allocator counting = { .fail_at = -1 };
    const qcnn_allocator allocator = { counting_allocate, counting_release, &counting };
    qcnn_set_allocator(&allocator);
    qcnn_model *model = small_network();
    qcnn_session *session = session_of(model, NULL);
    const int before = counting.n_calls;
    static float x[3 * 12 * 12];
    float y[10];
    qcnn_run(session, (const float *const[]){ x }, (float *const[]){ y });
    qcnn_run(session, (const float *const[]){ x }, (float *const[]){ y });
    assert_int_equal(counting.n_calls, before);
    qcnn_session_free(session);
    qcnn_model_free(model);
    qcnn_set_allocator(NULL);
    assert_int_equal(counting.n_alive, 0);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    qcnn_model *model = small_network();
    counting_allocator counting = { .fail_at = 0 };
    const qcnn_allocator allocator = { counting_allocate, counting_release, &counting };
    qcnn_set_allocator(&allocator);
    qcnn_status status = QCNN_ERROR_MEMORY;
    int n = 0;
    for (; status != QCNN_OK && n < 100; n++) {
        counting = (counting_allocator){ .fail_at = n };
        qcnn_error error = { 0 };
        qcnn_session *session;
        status = qcnn_session_create(model, NULL, &session, &error);
        assert_true(status == QCNN_OK || (status == QCNN_ERROR_MEMORY && error.status == status && session == NULL));
        qcnn_session_free(session);
        assert_int_equal(counting.n_alive, 0);
    }
    assert_true(n > 5 && n < 100);
    qcnn_set_allocator(NULL);
    qcnn_model_free(model);
}

static void test_refused(void **state)
{
    (void)state;
    qcnn_model *model = small_network();
    qcnn_session *session = (qcnn_session *)1;
    qcnn_error problem;
    qcnn_session_options options = qcnn_session_options_default();

    options.batch = 0;
    assert_int_equal(qcnn_session_create(model, &options, &session, &problem), QCNN_ERROR_ARGUMENT);
    assert_null(session);

    const qcnn_shape wrong[] = { SHAPE(1, 4, 12, 12) }, impossible[] = { SHAPE(1, 3, 0, 12) },
                     huge[] = { SHAPE(INT64_MAX, 3, 12, INT64_MAX) };
    options = qcnn_session_options_default();
    options.input_shapes = wrong;
    assert_int_equal(qcnn_session_create(model, &options, &session, &problem), QCNN_ERROR_ARGUMENT);
    assert_int_equal(problem.status, QCNN_ERROR_ARGUMENT);
    assert_non_null(strstr(problem.message, "node0"));
    assert_int_equal(qcnn_session_create(model, &options, &session, NULL), QCNN_ERROR_ARGUMENT);
    options.input_shapes = impossible;
    assert_int_equal(qcnn_session_create(model, &options, &session, &problem), QCNN_ERROR_ARGUMENT);
    options.input_shapes = huge;
    assert_int_equal(qcnn_session_create(model, &options, &session, &problem), QCNN_ERROR_ARGUMENT);

    assert_int_equal(qcnn_session_create(NULL, NULL, &session, &problem), QCNN_ERROR_ARGUMENT);
    assert_int_equal(qcnn_session_create(model, NULL, NULL, &problem), QCNN_ERROR_ARGUMENT);
    qcnn_model *copy; // a copy is not prepared
    BUILD_CHECK(qcnn_model_copy(model, &copy, error));
    assert_int_equal(qcnn_session_create(copy, NULL, &session, &problem), QCNN_ERROR_ARGUMENT);
    qcnn_model_free(copy);
    qcnn_session_free(NULL);
    qcnn_model_free(model);
}

static void test_shapes_and_batch(void **state)
{
    (void)state;
    qcnn_model *model = small_network();
    qcnn_session_options options = qcnn_session_options_default();
    options.batch = 5;
    qcnn_session *session = session_of(model, &options);
    qcnn_shape shape = qcnn_session_input_shape(session, 0);
    assert_true(qcnn_shape_equal(&shape, &SHAPE(5, 3, 12, 12)));
    shape = qcnn_session_output_shape(session, 0);
    assert_true(qcnn_shape_equal(&shape, &SHAPE(5, 10)));
    assert_int_equal(qcnn_session_output_shape(session, 1).rank, 0);
    assert_int_equal(qcnn_session_input_shape(session, -1).rank, 0);
    qcnn_session_free(session);

    const qcnn_shape shapes[] = { SHAPE(2, 3, 13, 12) }; // the pool drops the odd row
    options.input_shapes = shapes;
    session = session_of(model, &options);
    shape = qcnn_session_output_shape(session, 0);
    assert_true(qcnn_shape_equal(&shape, &SHAPE(2, 10)));
    qcnn_session_free(session);
    qcnn_model_free(model);
}

static double ticking_clock(void)
{
    static double now;
    return now += 2;
}

static void test_layer_times(void **state)
{
    (void)state;
    qcnn_model *model = small_network();
    static float x[3 * 12 * 12];
    float y[10];
    qcnn_session_options options = qcnn_session_options_default();
    qcnn_session *session = session_of(model, &options);
    qcnn_run(session, (const float *const[]){ x }, (float *const[]){ y });
    assert_true(qcnn_session_layer_ms(session, 0) == 0);
    qcnn_session_free(session);
    options.clock_ms = ticking_clock;
    session = session_of(model, &options);
    qcnn_run(session, (const float *const[]){ x }, (float *const[]){ y });
    for (int i = 0; i < qcnn_model_n_layers(model); i++)
        assert_true(qcnn_session_layer_ms(session, i) == 2);
    assert_true(qcnn_session_layer_ms(session, -1) == 0 && qcnn_session_layer_ms(session, 99) == 0);
    qcnn_session_free(session);
    qcnn_model_free(model);
}

static void test_tiers(void **state)
{
    (void)state;
    const char *name, *best = NULL;
    for (int i = 0; (name = qcnn_kernels_name(i)) != NULL; i++) {
        assert_non_null(qcnn_kernels_find(name));
        assert_string_equal(qcnn_kernels_find(name)->name, name);
        best = name;
    }
    assert_string_equal(qcnn_kernels_name(0), "c");
    assert_string_equal(qcnn_kernels_find(NULL)->name, best);
    assert_null(qcnn_kernels_find("abacus"));
    assert_null(qcnn_kernels_name(-1));
}

// ---- where values live ----------------------------------------------------------------------------------------------

// x -> a = x + 1 (output, and read below) -> flat view of a (output) -> c = flat * 2 (output twice);
// also outputs: the input itself, a view of it, a constant, a view of the constant.
static void test_shared_outputs(void **state)
{
    (void)state;
    const qcnn_attributes add = { .function = QCNN_ADD }, multiply = { .function = QCNN_MULTIPLY },
                          flat = { .target_rank = 1, .target = { -1 } };
    qcnn_model *model = build_begin();
    float *one = qcnn_allocate(1, sizeof *one), *two = qcnn_allocate(1, sizeof *two);
    *one = 1;
    *two = 2;
    const int x = build_input(model, "x", SHAPE(2, 3)), constant = build_constant(model, SHAPE(1), two);
    const int a = build_node(model, QCNN_OP_BINARY, &add, 2, x, build_constant(model, SHAPE(1), one));
    const int view = build_node(model, QCNN_OP_RESHAPE, &flat, 1, a);
    const int c = build_node(model, QCNN_OP_BINARY, &multiply, 2, view, constant);
    const int input_view = build_node(model, QCNN_OP_RESHAPE, &flat, 1, x);
    const int constant_view = build_node(model, QCNN_OP_RESHAPE, &flat, 1, constant);
    const int values[] = { view, a, c, c, x, input_view, constant, constant_view };
    for (int i = 0; i < 8; i++)
        BUILD_CHECK(qcnn_model_add_output(model, values[i], error));
    build_end(model, NULL);
    qcnn_session *session = session_of(model, NULL);
    const float input[6] = { 1, 2, 3, 4, 5, 6 };
    float y[8][6];
    for (int run = 0; run < 2; run++) {
        memset(y, 0, sizeof y);
        qcnn_run(session, (const float *const[]){ input }, (float *const[]){ y[0], y[1], y[2], y[3], y[4], y[5], y[6], y[7] });
        for (int i = 0; i < 6; i++) {
            assert_true(y[0][i] == input[i] + 1 && y[1][i] == input[i] + 1);
            assert_true(y[2][i] == 2 * (input[i] + 1) && y[3][i] == 2 * (input[i] + 1));
            assert_true(y[4][i] == input[i] && y[5][i] == input[i]);
        }
        assert_true(y[6][0] == 2 && y[7][0] == 2);
    }
    qcnn_session_free(session);
    qcnn_model_free(model);
}

// Nodes of all sorts over values of 24 elements, chosen at random: each shape is one of three.
static int random_node(qcnn_model *model, const int *values, int n, qcnn_rng *rng)
{
    static const qcnn_attributes rank3 = { .target_rank = 3, .target = { 2, 3, 4 } };
    const int value = values[qcnn_rng_below(rng, (uint32_t)n)], other = values[qcnn_rng_below(rng, (uint32_t)n)];
    qcnn_attributes a = { 0 };
    switch (qcnn_rng_below(rng, 6)) {
    case 0: a.function = QCNN_TANH; return build_node(model, QCNN_OP_UNARY, &a, 1, value);
    case 1: a.function = QCNN_IDENTITY; return build_node(model, QCNN_OP_UNARY, &a, 1, value); // a view
    case 2: a.function = QCNN_SUBTRACT; return build_node(model, QCNN_OP_BINARY, &a, 2, value, other);
    case 3: { // transpose and back to the common shape
        memcpy(a.axes, (const int32_t[]){ 2, 0, 1 }, 3 * sizeof a.axes[0]);
        return build_node(model, QCNN_OP_RESHAPE, &rank3, 1, build_node(model, QCNN_OP_TRANSPOSE, &a, 1, value));
    }
    case 4: { // join two and cut 24 elements out
        const int joined = build_node(model, QCNN_OP_CONCAT, &a, 2, value, other);
        a = (qcnn_attributes){ .begin = { 1, 0, 0 }, .end = { 3, 3, 4 }, .step = { 1, 1, 1 } };
        return build_node(model, QCNN_OP_SLICE, &a, 1, joined);
    }
    default: return build_node(model, QCNN_OP_RESHAPE, &rank3, 1, value);
    }
}

// Evaluates every value of a graph by the definitions, rounding to float between nodes as the engine does.
static float **evaluate_graph(const qcnn_model *model, const float *input)
{
    float **values = calloc(model->n_values, sizeof *values);
    assert_non_null(values);
    for (size_t v = 0; v < model->n_values; v++) {
        const size_t n = (size_t)qcnn_shape_elements(&model->values[v].shape);
        values[v] = calloc(n, sizeof **values);
        assert_non_null(values[v]);
        if (model->values[v].tensor >= 0)
            memcpy(values[v], model->tensors[model->values[v].tensor].data, n * sizeof **values);
    }
    memcpy(values[model->inputs[0]], input, 24 * sizeof **values);
    for (size_t i = 0; i < model->n_nodes; i++) {
        const qcnn_node *node = &model->nodes[i];
        const qcnn_shape *shape = &model->values[node->output].shape;
        reference_operand in[3] = { 0 };
        for (int k = 0; k < node->n_inputs; k++)
            in[k] = (reference_operand){ model->values[node->inputs[k]].shape, values[node->inputs[k]] };
        for (int64_t k = 0; k < (int64_t)qcnn_shape_elements(shape); k++)
            values[node->output][k] = (float)reference_element(node, in, shape, k);
    }
    return values;
}

static void test_random_graphs(void **state)
{
    (void)state;
    enum { GRAPHS = 300, MAX_NODES = 14, MAX_OUTPUTS = 4 };
    for (uint64_t seed = 0; seed < GRAPHS; seed++) {
        qcnn_rng rng = { seed };
        qcnn_model *model = build_begin();
        int values[MAX_NODES + 2], n = 0;
        values[n++] = build_input(model, "x", SHAPE(2, 3, 4));
        values[n++] = build_random(model, SHAPE(2, 3, 4), &rng);
        for (int nodes = 1 + (int)qcnn_rng_below(&rng, MAX_NODES); nodes > 0; nodes--, n++)
            values[n] = random_node(model, values, n, &rng);
        const int n_outputs = 1 + (int)qcnn_rng_below(&rng, MAX_OUTPUTS);
        for (int i = 0; i < n_outputs; i++)
            BUILD_CHECK(qcnn_model_add_output(model, values[qcnn_rng_below(&rng, (uint32_t)n)], error));
        build_end(model, NULL);
        qcnn_session *session = session_of(model, NULL);
        float *input = build_random_floats(24, &rng), outputs[MAX_OUTPUTS][24];
        float **expected = evaluate_graph(model, input);
        qcnn_run(session, (const float *const[]){ input }, (float *const[]){ outputs[0], outputs[1], outputs[2], outputs[3] });
        for (int i = 0; i < n_outputs; i++)
            for (int k = 0; k < 24; k++)
                if (!(fabsf(outputs[i][k] - expected[model->outputs[i]][k]) <= 1e-4F))
                    fail_msg("graph %d, output %d, element %d: %g, expected %g", (int)seed, i, k, (double)outputs[i][k],
                             (double)expected[model->outputs[i]][k]);
        for (size_t v = 0; v < model->n_values; v++)
            free(expected[v]);
        free(expected);
        qcnn_release(input);
        qcnn_session_free(session);
        qcnn_model_free(model);
    }
}

// ---- the memory plan ------------------------------------------------------------------------------------------------

static void test_memory_plan(void **state)
{
    (void)state;
    enum { BUFFERS = 60, STEPS = 40 };
    qcnn_rng rng = { 3 };
    for (int round = 0; round < 100; round++) {
        qcnn_span buffers[BUFFERS];
        uint64_t total, alive_most = 0;
        for (int i = 0; i < BUFFERS; i++) {
            buffers[i] = (qcnn_span){ .bytes = 1 + qcnn_rng_below(&rng, 5000), .first = (int)qcnn_rng_below(&rng, STEPS) };
            buffers[i].last = buffers[i].first + (int)qcnn_rng_below(&rng, 6);
        }
        BUILD_CHECK(qcnn_plan_memory(buffers, BUFFERS, &total, error));
        for (int i = 0; i < BUFFERS; i++) {
            assert_true(buffers[i].offset % 64 == 0 && buffers[i].offset + buffers[i].bytes <= total);
            for (int j = 0; j < i; j++)
                if (buffers[i].first <= buffers[j].last && buffers[j].first <= buffers[i].last)
                    assert_true(buffers[i].offset + buffers[i].bytes <= buffers[j].offset ||
                                buffers[j].offset + buffers[j].bytes <= buffers[i].offset);
        }
        for (int step = 0; step < STEPS; step++) {
            uint64_t alive = 0;
            for (int i = 0; i < BUFFERS; i++)
                alive += buffers[i].first <= step && step <= buffers[i].last ? buffers[i].bytes : 0;
            alive_most = alive > alive_most ? alive : alive_most;
        }
        assert_true(total <= alive_most * 3 / 2); // close to what nothing can undercut
    }
    qcnn_span enormous[2] = { { .bytes = UINT64_MAX - 100 }, { .bytes = UINT64_MAX - 100 } };
    uint64_t total;
    qcnn_error problem;
    assert_int_equal(qcnn_plan_memory(enormous, 2, &total, &problem), QCNN_ERROR_MEMORY);
}

// A chain needs two buffers however long it is.
static void test_chain_memory(void **state)
{
    (void)state;
    const qcnn_attributes relu = { .function = QCNN_RELU };
    qcnn_model *model = build_begin();
    int x = build_input(model, "x", SHAPE(1, 1024));
    for (int i = 0; i < 20; i++)
        x = build_node(model, QCNN_OP_UNARY, &relu, 1, x);
    build_output(model, "y", x);
    build_end(model, NULL);
    qcnn_session *session = session_of(model, NULL);
    assert_int_equal(qcnn_session_bytes(session), 2 * 1024 * sizeof(float));
    qcnn_session_free(session);
    qcnn_model_free(model);
}

// Concatenations of concatenations, with other readers of the parts: at batch 1 the parts are written in place, at batch 2 they
// are copied. Both give the same.
static void test_joined_in_place(void **state)
{
    (void)state;
    enum { PLANE = 6 };
    const qcnn_attributes relu = { .function = QCNN_RELU }, negate = { .function = QCNN_NEGATE }, join = { .axis = 1 };
    qcnn_model *model = build_begin();
    const int x = build_input(model, "x", SHAPE(1, 2, 2, 3));
    const int a = build_node(model, QCNN_OP_UNARY, &relu, 1, x), b = build_node(model, QCNN_OP_UNARY, &negate, 1, x);
    const int ab = build_node(model, QCNN_OP_CONCAT, &join, 2, a, b);
    const int c = build_node(model, QCNN_OP_UNARY, &negate, 1, a); // reads a part
    const int abc = build_node(model, QCNN_OP_CONCAT, &join, 2, ab, c);
    build_output(model, "y", build_node(model, QCNN_OP_UNARY, &negate, 1, abc));
    build_end(model, NULL);
    float images[2][2 * PLANE], y[2][6 * PLANE];
    for (int i = 0; i < 2 * 2 * PLANE; i++)
        (&images[0][0])[i] = (float)(i % 5 - 2);
    for (int batch = 1; batch <= 2; batch++) {
        qcnn_session_options options = qcnn_session_options_default();
        options.batch = batch;
        qcnn_session *session = session_of(model, &options);
        memset(y, 0, sizeof y);
        qcnn_run(session, (const float *const[]){ &images[0][0] }, (float *const[]){ &y[0][0] });
        for (int n = 0; n < batch; n++)
            for (int i = 0; i < 2 * PLANE; i++) {
                const float v = images[n][i], positive = v > 0 ? v : 0;
                assert_true(y[n][i] == -positive && y[n][2 * PLANE + i] == v && y[n][4 * PLANE + i] == positive);
            }
        qcnn_session_free(session);
    }
    qcnn_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run_allocates_nothing), cmocka_unit_test(test_failing_allocations), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_shapes_and_batch),      cmocka_unit_test(test_layer_times),         cmocka_unit_test(test_tiers),
        cmocka_unit_test(test_shared_outputs),        cmocka_unit_test(test_random_graphs),       cmocka_unit_test(test_memory_plan),
        cmocka_unit_test(test_chain_memory),          cmocka_unit_test(test_joined_in_place),
    };
    return cmocka_run_group_tests_name("engine", tests, NULL, NULL);
}
