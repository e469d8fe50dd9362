// SPDX-License-Identifier: Apache-2.0
// Models opened to be run only: the same outputs from fewer bytes, and whoever needs the weights is told that they are gone.

#include <math.h>

#include "container_samples.h"
#include "qcnn_compress.h"

static size_t held; // bytes allocated and not released

static void *counting_allocate(void *context, size_t n, size_t alignment)
{
    (void)context;
    unsigned char *block = aligned_alloc(64, (n + 127) / 64 * 64);
    assert_non_null(block);
    assert_true(alignment <= 64);
    memcpy(block, &n, sizeof n);
    held += n;
    return block + 64;
}

static void counting_release(void *context, void *pointer)
{
    (void)context;
    size_t n;
    memcpy(&n, (unsigned char *)pointer - 64, sizeof n);
    held -= n;
    free((unsigned char *)pointer - 64);
}

static qcnn_model *load(bytes file, int exact, int run_only)
{
    qcnn_load_options options = qcnn_load_options_default();
    options.exact = exact;
    options.run_only = run_only;
    qcnn_model *model;
    qcnn_error error;
    if (qcnn_model_load(file.data, file.n, &options, &model, &error))
        fail_msg("%s", error.message);
    return model;
}

enum { MAX_PORTS = 8 };

static size_t elements(qcnn_port port)
{
    return (size_t)qcnn_shape_elements(&port.shape);
}

// All outputs of a run, one after the other; *n floats.
static float *run(const qcnn_model *model, size_t *n)
{
    qcnn_session *session;
    float *inputs[MAX_PORTS] = { 0 }, *outputs[MAX_PORTS] = { 0 };
    assert_int_equal(qcnn_session_create(model, NULL, &session, NULL), QCNN_OK);
    assert_true(qcnn_model_n_inputs(model) <= MAX_PORTS && qcnn_model_n_outputs(model) <= MAX_PORTS);
    for (int i = 0; i < qcnn_model_n_inputs(model); i++) {
        const size_t size = elements(qcnn_model_input(model, i));
        inputs[i] = malloc(size * sizeof(float));
        for (size_t k = 0; k < size; k++)
            inputs[i][k] = sinf((float)(k * 7 + (size_t)i));
    }
    *n = 0;
    for (int i = 0; i < qcnn_model_n_outputs(model); i++)
        *n += elements(qcnn_model_output(model, i));
    float *all = malloc(*n * sizeof(float)), *end = all;
    for (int i = 0; i < qcnn_model_n_outputs(model); i++) {
        outputs[i] = end;
        end += elements(qcnn_model_output(model, i));
    }
    qcnn_run(session, (const float *const *)inputs, outputs);
    for (int i = 0; i < MAX_PORTS; i++)
        free(inputs[i]);
    qcnn_session_free(session);
    return all;
}

static uint64_t memory_bytes(const qcnn_model *model)
{
    uint64_t sum = 0;
    for (int i = 0; i < qcnn_model_n_layers(model); i++)
        sum += qcnn_model_layer(model, i).memory_bytes;
    return sum;
}

static qcnn_model *(*const networks[])(void) = { every_op, every_type, coded, ranged, tiny };
enum { N_NETWORKS = sizeof networks / sizeof *networks };

static void less_memory_and_the_same_bits(void **state)
{
    (void)state;
    size_t saved = 0;
    for (int i = 0; i < 2 * N_NETWORKS; i++) {
        const bytes file = save_and_free(networks[i / 2]());
        const int exact = i & 1;
        qcnn_set_allocator(&(qcnn_allocator){ counting_allocate, counting_release, NULL });
        const size_t before = held;
        qcnn_model *whole = load(file, exact, 0);
        const size_t whole_bytes = held - before;
        qcnn_model *model = load(file, exact, 1);
        const size_t model_bytes = held - before - whole_bytes;
        assert_true(model_bytes <= whole_bytes);
        saved += whole_bytes - model_bytes;
        assert_true(memory_bytes(model) == memory_bytes(whole));
        size_t n, n_expected;
        float *expected = run(whole, &n_expected), *outputs = run(model, &n);
        assert_int_equal(n, n_expected);
        assert_memory_equal(outputs, expected, n * sizeof(float));
        free(expected);
        free(outputs);
        qcnn_model_free(model);
        qcnn_model_free(whole);
        assert_true(held == before);
        qcnn_set_allocator(NULL);
        free(file.data);
    }
    assert_true(saved > 0);
}

static void nobody_reads_what_is_gone(void **state)
{
    (void)state;
    const bytes file = save_and_free(every_type());
    qcnn_model *model = load(file, 0, 1), *other;
    void *data;
    size_t n;
    qcnn_error error;
    assert_int_equal(qcnn_export_onnx(model, "gone.onnx", &error), QCNN_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "run_only"));
    assert_int_equal(qcnn_save(model, "gone.qcnn", &error), QCNN_ERROR_ARGUMENT);
    assert_int_equal(qcnn_save_memory(model, &data, &n, &error), QCNN_ERROR_ARGUMENT);
    assert_int_equal(qcnn_compress(model, NULL, &other, &error), QCNN_ERROR_ARGUMENT);
    assert_int_equal(qcnn_model_copy(model, &other, &error), QCNN_ERROR_ARGUMENT);
    assert_null(other);
    qcnn_model_free(model);
    free(file.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(less_memory_and_the_same_bits),
        cmocka_unit_test(nobody_reads_what_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
