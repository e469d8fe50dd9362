// SPDX-License-Identifier: Apache-2.0
// Byte planes between layers: random small networks whose ranges and peaks are those of the images they then run on. Every layer that
// reads or writes planes meets every other, with odd channel counts, strides, padding, groups and several images. The result stays
// near that in floats; threads, batches and tiers of one kind change no bit.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "build_model.h"
#include "fake_workers.h"
#include "kernels/kernels.h"
#include "qcnn_compress.h"

enum { N_NETWORKS = 150, N_IMAGES = 2, MAX_LAYERS = 6, MAX_VALUES = 64 };

static int between(qcnn_rng *rng, int low, int high)
{
    return low + (int)qcnn_rng_below(rng, (uint32_t)(high - low + 1));
}

// ---- networks -------------------------------------------------------------------------------------------------------

typedef struct growing {
    qcnn_model *model;
    qcnn_rng *rng;
    int64_t channels, side; // of the last value
} growing;

static void set_activation(growing *net, qcnn_attributes *a)
{
    a->activation.function = between(net->rng, 0, 3) ? QCNN_RELU : QCNN_CLIP;
    a->activation.beta = 6;
}

// Random int8-like weights, or a codebook; the output's variance is about that of the input.
static int grow_conv(growing *net, int x, int64_t inputs, int64_t outputs, int kernel, int stride, int groups, bool codebook)
{
    qcnn_attributes a = build_window(2, kernel, stride, between(net->rng, 0, kernel / 2));
    a.groups = groups;
    set_activation(net, &a);
    const qcnn_shape shape = SHAPE(outputs, inputs / groups, kernel, kernel);
    const int w =
        codebook ? build_codebook(net->model, shape, groups, false, inputs / groups < 8 || between(net->rng, 0, 2) ? 4 : 8, 16, net->rng)
                 : build_random(net->model, shape, net->rng);
    qcnn_tensor *tensor = &net->model->tensors[net->model->values[w].tensor];
    float *numbers = tensor->owned_data;
    const size_t n = codebook ? (size_t)(tensor->codebook.n_subspaces * tensor->codebook.n_codewords * tensor->codebook.subspace)
                              : (size_t)qcnn_shape_elements(&shape);
    for (size_t i = 0; i < n; i++)
        numbers[i] *= 2 / sqrtf((float)(inputs / groups * kernel * kernel));
    if (!codebook)
        tensor->data_type = QCNN_INT8;
    net->channels = outputs;
    net->side = (net->side + 2 * a.window_begin[0] - kernel) / stride + 1;
    return build_node(net->model, QCNN_OP_CONV, &a, 3, x, w, build_random(net->model, SHAPE(outputs), net->rng));
}

static int grow_pool(growing *net, int x, qcnn_op op)
{
    const int kernel = net->side < 3 ? 2 : between(net->rng, 2, 3), stride = between(net->rng, 1, 2), padding = between(net->rng, 0, 1);
    const qcnn_attributes a = build_window(2, kernel, stride, padding);
    net->side = (net->side + 2 * padding - kernel) / stride + 1;
    return build_node(net->model, op, &a, 1, x);
}

static int grow_fire(growing *net, int x)
{
    const int64_t inputs = net->channels, side = net->side, left = 4 * between(net->rng, 1, 5), right = between(net->rng, 1, 13);
    const int a = grow_conv(net, x, inputs, left, 1, 1, 1, false);
    const int64_t before = net->side;
    net->side = side;
    const int b = grow_conv(net, x, inputs, right, 1, 1, 1, false);
    assert_int_equal(net->side, before);
    net->channels = left + right;
    return build_node(net->model, QCNN_OP_CONCAT, &(qcnn_attributes){ .axis = 1 }, 2, a, b);
}

// x + conv(x): a plane and floats, or two planes. (Not floats alone: the first layer's are a plane.)
static int grow_sum(growing *net, int x)
{
    const int64_t channels = net->channels, side = net->side;
    const int y = grow_conv(net, x, channels, channels, 1, 1, 1, false);
    assert_int_equal(net->side, side);
    if (between(net->rng, 0, 1)) // its range reaches below zero
        net->model->nodes[net->model->n_nodes - 1].attributes.activation.function = QCNN_IDENTITY;
    qcnn_attributes a = { .function = QCNN_ADD };
    set_activation(net, &a);
    const int first = between(net->rng, 0, 1) ? x : y, second = between(net->rng, 0, 3) ? y : x;
    return build_node(net->model, QCNN_OP_BINARY, &a, 2, first, second);
}

static int grow(growing *net, int x)
{
    const int64_t inputs = net->channels;
    const qcnn_attributes lrn = { .lrn_size = 5, .lrn_alpha = 0.5F, .lrn_beta = 0.75F, .lrn_bias = 1.5F };
    const int few = between(net->rng, 1, 21), many = 4 * between(net->rng, 14, 20), stride = between(net->rng, 1, 2);
    switch (between(net->rng, 0, 9)) { // draws in an argument list would come in an order of the compiler's
    case 0: return grow_conv(net, x, inputs, few, 1, 1, 1, false);
    case 1: return grow_conv(net, x, inputs, few, 3, stride, 1, false);
    case 2: return inputs % 8 ? grow_conv(net, x, inputs, 16, 2, 1, 1, false) : grow_conv(net, x, inputs, 24, 3, 1, 2, false);
    case 3: return grow_conv(net, x, inputs, many + few % 4, 3, stride, 1, inputs >= 4);
    case 4: return inputs % 8 ? grow_conv(net, x, inputs, 8, 1, 1, 1, false) : grow_conv(net, x, inputs, 128, 3, 1, 2, true);
    case 5: return grow_pool(net, x, QCNN_OP_MAX_POOL);
    case 6: return grow_fire(net, x);
    case 8: return grow_sum(net, x);
    case 7: return build_node(net->model, QCNN_OP_LRN, &lrn, 1, x);
    default: return build_node(net->model, QCNN_OP_UNARY, &(qcnn_attributes){ .function = QCNN_IDENTITY }, 1, x); // a view
    }
}

// The same network for the same seed; with `all`, every value of it is an output. `ending`: a max pool, whose floats are those of the
// byte plane it reads; or a mean, a pool of averages or a fully-connected layer.
static qcnn_model *build_network(uint64_t seed, int ending, bool all)
{
    qcnn_rng rng = { seed };
    growing net = { .model = build_begin(), .rng = &rng };
    net.channels = between(&rng, 1, 5);
    net.side = between(&rng, 12, 19);
    int x = build_input(net.model, "x", SHAPE(N_IMAGES, net.channels, net.side, net.side));
    x = grow_conv(&net, x, net.channels, 8 * between(&rng, 1, 3), 3, 1, 1, false);
    for (int i = between(&rng, 1, MAX_LAYERS); i > 0 && net.side >= 5; i--)
        x = grow(&net, x);
    const qcnn_attributes mean = { .axes = { 0, 0, 1, 1 }, .keep_dims = 1 }, flat = { .target_rank = 2, .target = { 0, -1 } };
    switch (ending) {
    case 0: x = grow_pool(&net, x, QCNN_OP_MAX_POOL); break;
    case 1: x = build_node(net.model, QCNN_OP_REDUCE_MEAN, &mean, 1, x); break;
    case 2: x = grow_pool(&net, x, QCNN_OP_AVERAGE_POOL); break;
    default:
        x = build_node(net.model, QCNN_OP_RESHAPE, &flat, 1, x);
        x = build_node(net.model, QCNN_OP_FC, &(qcnn_attributes){ 0 }, 2, x,
                       build_random(net.model, SHAPE(3, net.channels * net.side * net.side), &rng));
    }
    build_output(net.model, "y", x);
    for (size_t n = 0; all && n + 1 < net.model->n_nodes; n++) {
        char name[32];
        snprintf(name, sizeof name, "value%zu", n);
        build_output(net.model, name, net.model->nodes[n].output);
    }
    assert_true(net.model->n_outputs <= MAX_VALUES);
    return net.model;
}

// ---- running --------------------------------------------------------------------------------------------------------

// All outputs of the first `n_images` images; the caller releases them.
static void run_network(const qcnn_model *model, const float *x, int n_images, const qcnn_parallel *parallel, float **y, size_t *bytes)
{
    qcnn_session_options options = qcnn_session_options_default();
    qcnn_shape shape = model->values[model->inputs[0]].shape;
    shape.dims[0] = n_images;
    options.input_shapes = &shape;
    options.parallel = parallel;
    qcnn_session *session;
    BUILD_CHECK(qcnn_session_create(model, &options, &session, error));
    for (size_t i = 0; i < model->n_outputs; i++) {
        const qcnn_shape out = qcnn_session_output_shape(session, (int)i);
        y[i] = qcnn_allocate((size_t)qcnn_shape_elements(&out), sizeof **y);
    }
    qcnn_run(session, &x, y);
    if (bytes)
        *bytes = qcnn_session_bytes(session);
    qcnn_session_free(session);
}

// The largest products of an input's subspaces and codewords: the codebook's peaks.
static void set_peaks(qcnn_tensor *weights, const float *x, const qcnn_shape *shape)
{
    qcnn_codebook *book = &weights->codebook;
    const size_t n_subspaces = (size_t)book->n_subspaces, subspace = (size_t)book->subspace, n_inputs = (size_t)book->n_inputs;
    const size_t plane = (size_t)(shape->dims[2] * shape->dims[3]), channels = (size_t)shape->dims[1];
    float *peaks = weights->owned_peaks = qcnn_allocate_zeroed((size_t)book->groups * n_subspaces, sizeof *peaks);
    for (size_t i = 0; i < (size_t)book->groups * n_subspaces; i++)
        for (size_t k = 0; k < (size_t)book->n_codewords; k++)
            for (size_t p = 0; p < plane * N_IMAGES; p++) {
                const float *codeword = book->codewords + (i % n_subspaces * (size_t)book->n_codewords + k) * subspace;
                float product = 0;
                for (size_t j = 0, c = i % n_subspaces * subspace; j < subspace && c < n_inputs; j++, c++)
                    product += codeword[j] * x[(p / plane * channels + i / n_subspaces * n_inputs + c) * plane + p % plane];
                peaks[i] = fabsf(product) > peaks[i] ? fabsf(product) : peaks[i];
            }
    book->peaks = peaks;
}

// Ranges and peaks of `model` from a run of the same network in floats with all values as outputs.
static void calibrate(qcnn_model *model, const qcnn_model *all, const float *x)
{
    float *y[MAX_VALUES];
    run_network(all, x, N_IMAGES, NULL, y, NULL);
    for (size_t i = 0; i < all->n_outputs; i++) {
        qcnn_value *value = &model->values[all->outputs[i]];
        const size_t n = (size_t)qcnn_shape_elements(&all->values[all->outputs[i]].shape);
        value->low = value->high = y[i][0];
        for (size_t j = 0; j < n; j++) {
            value->low = y[i][j] < value->low ? y[i][j] : value->low;
            value->high = y[i][j] > value->high ? y[i][j] : value->high;
        }
        if (value->low == value->high)
            value->low = value->high = 0;
        for (size_t k = 0; k < model->n_nodes; k++) {
            qcnn_tensor *weights = qcnn_node_weights(model, &model->nodes[k]);
            if (weights && qcnn_is_codebook(weights) && model->nodes[k].inputs[0] == all->outputs[i] && k % 2)
                set_peaks(weights, y[i], &all->values[all->outputs[i]].shape);
        }
    }
    for (size_t i = 0; i < all->n_outputs; i++)
        qcnn_release(y[i]);
}

typedef struct trial {
    uint64_t seed;
    int ending;
    float *x;
    qcnn_model *exact, *all; // in floats
    float *expected;
    size_t n; // elements of the output
} trial;

static trial begin_trial(uint64_t seed, int ending)
{
    trial t = { .seed = seed, .ending = ending, .exact = build_network(seed, ending, false), .all = build_network(seed, ending, true) };
    qcnn_rng rng = { seed + 1000 };
    t.exact->exact = t.all->exact = true;
    build_end(t.exact, NULL);
    build_end(t.all, NULL);
    t.x = build_random_floats((size_t)qcnn_shape_elements(&t.exact->values[t.exact->inputs[0]].shape), &rng);
    t.n = (size_t)qcnn_shape_elements(&t.exact->values[t.exact->outputs[0]].shape);
    run_network(t.exact, t.x, N_IMAGES, NULL, &t.expected, NULL);
    return t;
}

static void end_trial(trial *t)
{
    qcnn_release(t->x);
    qcnn_release(t->expected);
    qcnn_model_free(t->exact);
    qcnn_model_free(t->all);
}

static qcnn_model *prepared(const trial *t, const char *tier)
{
    qcnn_model *model = build_network(t->seed, t->ending, false);
    calibrate(model, t->all, t->x);
    build_end(model, tier);
    return model;
}

// ---- tests ----------------------------------------------------------------------------------------------------------

// Near the floats, and the same bits with the workers of `hook` and with one image alone.
static void check_tier(const trial *t, const char *tier, const qcnn_parallel *hook, int *n_tables)
{
    qcnn_model *model = prepared(t, tier);
    float *got, *parallel, *alone;
    run_network(model, t->x, N_IMAGES, NULL, &got, NULL);
    double error = 0, size = 0;
    for (size_t i = 0; i < t->n; i++) {
        error += pow((double)got[i] - (double)t->expected[i], 2);
        size += pow((double)t->expected[i], 2);
    }
    if (!(error <= 0.09 * 0.09 * size)) // six layers of 7 bits each: 0.065 at most was seen
        fail_msg("tier %s, seed %llu, ending %d: relative error %g", tier, (unsigned long long)t->seed, t->ending, sqrt(error / size));
    run_network(model, t->x, N_IMAGES, hook, &parallel, NULL);
    assert_memory_equal(parallel, got, t->n * sizeof *got);
    run_network(model, t->x, 1, NULL, &alone, NULL);
    assert_memory_equal(alone, got, t->n / N_IMAGES * sizeof *got);
    for (size_t n = 0; n < model->n_nodes; n++)
        *n_tables += model->nodes[n].byte_codebook && model->nodes[n].op == QCNN_OP_CONV;
    qcnn_release(got);
    qcnn_release(parallel);
    qcnn_release(alone);
    qcnn_model_free(model);
}

static void test_random_networks(void **state)
{
    (void)state;
    int n_tables = 0;
    fake_workers workers = { .n_workers = 3 };
    const qcnn_parallel fake = fake_workers_hook(&workers);
    qcnn_pool *threads; // scripts/test.sh runs this under ThreadSanitizer too
    BUILD_CHECK(qcnn_pool_create(3, &threads, error));
    for (int i = 0; i < N_NETWORKS; i++) {
        trial t = begin_trial((uint64_t)i + 1, i % 4);
        for (int k = 0; qcnn_kernels_name(k); k++)
            check_tier(&t, qcnn_kernels_name(k), (i + k) % 2 ? &fake : qcnn_pool_hook(threads), &n_tables);
        end_trial(&t);
    }
    qcnn_pool_free(threads);
    const qcnn_kernels *best = qcnn_kernels_find(NULL);
    if (best->conv_byte_tables)
        assert_true(n_tables > N_NETWORKS / 10);
}

// Ranges and peaks of quite another network, as a hostile file may have them: bytes saturate or are all zero, scales reach the ends of what
// is allowed. Still threads and batches change no bit, and sanitizers see nothing.
static void spoil_ranges(qcnn_model *model, uint64_t seed)
{
    const float lows[] = { 0, -0.0F, 0.5F, 1e-40F, -1 }, highs[] = { 1, 0.6F, 1e-39F, 2e-30F, 9e29F, 1e30F };
    const float peaks[] = { 0, 1, 1e-45F, 1e-30F, 1e30F };
    qcnn_rng rng = { seed };
    for (size_t i = 0; i < model->n_values; i++) {
        qcnn_value *value = &model->values[i];
        value->low = lows[between(&rng, 0, 4)];
        value->high = highs[between(&rng, 0, 5)];
        if (value->tensor >= 0 || !(value->low < value->high))
            value->low = value->high = 0;
    }
    for (size_t i = 0; i < model->n_tensors; i++)
        for (int k = 0; model->tensors[i].owned_peaks && k < model->tensors[i].codebook.groups * model->tensors[i].codebook.n_subspaces;
             k++)
            ((float *)model->tensors[i].owned_peaks)[k] = peaks[between(&rng, 0, 4)];
}

static void test_wrong_ranges(void **state)
{
    (void)state;
    for (int i = 0; i < N_NETWORKS; i++) {
        trial t = begin_trial((uint64_t)i + 1, i % 4);
        for (size_t k = 0; i % 3 == 0 && k < (size_t)t.exact->values[t.exact->inputs[0]].shape.dims[1]; k++)
            t.x[7 * k] = k % 2 ? INFINITY : NAN;
        qcnn_model *model = build_network(t.seed, t.ending, false);
        calibrate(model, t.all, t.x);
        spoil_ranges(model, t.seed);
        build_end(model, NULL);
        float *got, *parallel, *alone;
        fake_workers workers = { .n_workers = 3 };
        const qcnn_parallel hook = fake_workers_hook(&workers);
        run_network(model, t.x, N_IMAGES, NULL, &got, NULL);
        run_network(model, t.x, N_IMAGES, &hook, &parallel, NULL);
        run_network(model, t.x, 1, NULL, &alone, NULL);
        assert_memory_equal(parallel, got, t.n * sizeof *got);
        assert_memory_equal(alone, got, t.n / N_IMAGES * sizeof *got);
        qcnn_release(got);
        qcnn_release(parallel);
        qcnn_release(alone);
        qcnn_model_free(model);
        end_trial(&t);
    }
}

// What begins with bytes and ends with those of a plane has the same bits in all tiers that take bytes of one size, where no layer
// runs from tables of which tiers have different kinds.
static void test_tiers_agree(void **state)
{
    (void)state;
    for (int i = 0; i < N_NETWORKS; i++) {
        trial t = begin_trial((uint64_t)i + 1, 0);
        float *first[2] = { NULL, NULL };
        for (int k = 0; qcnn_kernels_name(k); k++) {
            qcnn_model *model = prepared(&t, qcnn_kernels_name(k));
            const int kind = model->kernels->bytes_limit == 255;
            bool tables = false;
            for (size_t n = 0; n < model->n_nodes; n++)
                tables |= model->nodes[n].method == QCNN_METHOD_LUT;
            float *got;
            run_network(model, t.x, N_IMAGES, NULL, &got, NULL);
            if (!tables && first[kind])
                assert_memory_equal(got, first[kind], t.n * sizeof *got);
            if (tables || first[kind])
                qcnn_release(got);
            else
                first[kind] = got;
            qcnn_model_free(model);
        }
        qcnn_release(first[0]);
        qcnn_release(first[1]);
        end_trial(&t);
    }
}

// Planes are a quarter of the floats; --exact and a missing range keep floats.
static void test_memory(void **state)
{
    (void)state;
    size_t sizes[3];
    for (int i = 0; i < 3; i++) {
        qcnn_rng rng = { 3 };
        growing net = { build_begin(), &rng, 8, 40 };
        int x = build_input(net.model, "x", SHAPE(1, 8, 40, 40));
        for (int k = 0; k < 5; k++)
            x = grow_conv(&net, x, k ? 64 : 8, 64, 1, 1, 1, false);
        build_output(net.model, "y", x);
        for (size_t v = 0; v < net.model->n_values; v++)
            if (net.model->values[v].tensor < 0 && i < 2)
                net.model->values[v].high = 5;
        net.model->exact = i == 1;
        build_end(net.model, NULL);
        qcnn_session *session;
        BUILD_CHECK(qcnn_session_create(net.model, NULL, &session, error));
        sizes[i] = qcnn_session_bytes(session);
        qcnn_session_free(session);
        qcnn_model_free(net.model);
    }
    assert_true(sizes[0] < sizes[1] / 2);
    assert_true(sizes[0] < sizes[2] / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_random_networks), cmocka_unit_test(test_wrong_ranges),
                                        cmocka_unit_test(test_tiers_agree), cmocka_unit_test(test_memory) };
    return cmocka_run_group_tests_name("planes", tests, NULL, NULL);
}
