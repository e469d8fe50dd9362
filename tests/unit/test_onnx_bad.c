// SPDX-License-Identifier: Apache-2.0
// The ONNX importer on hostile files: every one gives a clear error, or a correct model, and never takes much memory or time.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
// cmocka.h needs these above
#include <cmocka.h>

#include "onnx_samples.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define QCNN_SLOW_BUILD 1
#else
#define QCNN_SLOW_BUILD 0
#endif

// ---- an allocator that counts and fails on demand -------------------------------------------------------------------

typedef struct meter {
    int n_calls, fail_at, n_alive; // fail_at negative: never
    size_t bytes, peak;
} meter;

static void *meter_allocate(void *context, size_t bytes, size_t alignment)
{
    meter *m = context;
    if (m->n_calls++ == m->fail_at)
        return NULL;
    size_t *block = aligned_alloc(alignment, bytes + 64);
    if (!block)
        return NULL;
    *block = bytes;
    m->n_alive++;
    m->bytes += bytes;
    if (m->bytes > m->peak)
        m->peak = m->bytes;
    return (char *)block + 64;
}

static void meter_release(void *context, void *pointer)
{
    meter *m = context;
    size_t *block = (void *)((char *)pointer - 64);
    m->n_alive--;
    m->bytes -= *block;
    free(block);
}

static qcnn_status import_bytes(const void *data, size_t n_bytes, qcnn_error *error)
{
    qcnn_model *model;
    const qcnn_status status = qcnn_import_onnx(data, n_bytes, NULL, NULL, &model, error);
    assert_true((status == QCNN_OK) == (model != NULL));
    if (status != QCNN_OK)
        assert_true(error->status == status && error->message[0] && !strchr(error->message, '\n'));
    qcnn_model_free(model);
    return status;
}

// ---- every part of a valid file -------------------------------------------------------------------------------------

// A small network with something of everything: convolution, BatchNorm, shape arithmetic, a layer, softmax.
static onnx_file whole_network(void)
{
    static const float numbers[64] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 };
    static const int64_t zero = 0, minus_one = -1;
    onnx_file file = { .opset = 13 };
    qcnn_buffer a = { 0 };
    sample_input(&file, "x", SHAPE(0, 1, 3, 3));
    sample_floats(&file, "w", SHAPE(2, 1, 2, 2), numbers);
    sample_floats(&file, "v", SHAPE(2), numbers);
    sample_floats(&file, "m", SHAPE(8, 3), numbers);
    sample_integers(&file, "zero", 1, &zero);
    sample_integers(&file, "rest", 1, &minus_one);
    sample_ints(&a, "pads", 4, (const int64_t[]){ 0, 1, 0, 0 });
    sample_ints(&a, "strides", 2, (const int64_t[]){ 1, 1 });
    sample_node(&file, "Conv", "conv", "x w v", "c", &a);
    sample_node(&file, "BatchNormalization", "bn", "c v v v v", "n", NULL);
    sample_node(&file, "Relu", "relu", "n", "r", NULL);
    sample_ints(&a, "kernel_shape", 2, (const int64_t[]){ 1, 2 });
    sample_node(&file, "MaxPool", "pool", "r", "p", &a);
    sample_node(&file, "Shape", "shape", "p", "s", NULL);
    sample_node(&file, "Gather", "gather", "s zero", "g", NULL);
    sample_int(&a, "axis", 0);
    sample_node(&file, "Concat", "concat", "g rest", "t", &a);
    sample_node(&file, "Reshape", "flat", "p t", "f", NULL);
    sample_node(&file, "MatMul", "fc", "f m", "l", NULL);
    sample_node(&file, "Softmax", "prob", "l", "y", NULL);
    sample_output(&file, "y");
    sample_finish(&file);
    return file;
}

static void test_every_truncation_is_an_error(void **state)
{
    (void)state;
    onnx_file file = whole_network();
    qcnn_error error;
    assert_int_equal(import_bytes(file.bytes.data, file.bytes.n_bytes, &error), QCNN_OK);
    for (size_t n = 0; n < file.bytes.n_bytes; n++) {
        unsigned char *part = malloc(n ? n : 1); // of exactly that size, for the sanitizers
        memcpy(part, file.bytes.data, n);
        assert_int_not_equal(import_bytes(part, n, &error), QCNN_OK);
        free(part);
    }
    sample_free(&file);
}

static void test_every_changed_byte_is_survived(void **state)
{
    (void)state;
    static const unsigned char changes[] = { 0x01, 0x80, 0x7f, 0xff };
    onnx_file file = whole_network();
    qcnn_error error;
    for (size_t i = 0; i < file.bytes.n_bytes; i++)
        for (size_t c = 0; c < sizeof changes; c++) {
            file.bytes.data[i] ^= changes[c];
            import_bytes(file.bytes.data, file.bytes.n_bytes, &error); // either way
            file.bytes.data[i] ^= changes[c];
        }
    sample_free(&file);
}

static void test_every_failed_allocation_is_an_error(void **state)
{
    (void)state;
    onnx_file file = whole_network();
    qcnn_error error;
    qcnn_status status = QCNN_ERROR_MEMORY;
    for (int n = 0; status != QCNN_OK; n++) {
        meter m = { .fail_at = n };
        qcnn_set_allocator(&(qcnn_allocator){ meter_allocate, meter_release, &m });
        status = import_bytes(file.bytes.data, file.bytes.n_bytes, &error);
        qcnn_set_allocator(NULL);
        assert_int_equal(m.n_alive, 0);
        if (status != QCNN_OK)
            assert_int_equal(status, QCNN_ERROR_MEMORY);
        assert_true(n < 100000);
    }
    sample_free(&file);
}

// ---- graphs ---------------------------------------------------------------------------------------------------------

static void test_bad_graphs(void **state)
{
    (void)state;
    onnx_file file = { .opset = 13 };
    sample_refused(&file, QCNN_ERROR_FORMAT, "no outputs");

    file = (onnx_file){ .opset = 13 };
    sample_input(&file, "x", SHAPE(1, 2));
    sample_node(&file, "Relu", "a", "q", "p", NULL);
    sample_node(&file, "Relu", "b", "p", "q", NULL);
    sample_output(&file, "p");
    sample_refused(&file, QCNN_ERROR_FORMAT, "in a circle");

    file = (onnx_file){ .opset = 13 };
    sample_input(&file, "x", SHAPE(1, 2));
    sample_node(&file, "Relu", "a", "nowhere", "y", NULL);
    sample_output(&file, "y");
    sample_refused(&file, QCNN_ERROR_FORMAT, "'nowhere', which nothing defines");

    file = (onnx_file){ .opset = 13 };
    sample_input(&file, "x", SHAPE(1, 2));
    sample_output(&file, "y");
    sample_refused(&file, QCNN_ERROR_FORMAT, "output 'y'");

    file = (onnx_file){ .opset = 13 };
    sample_input(&file, "x", SHAPE(1, 2));
    sample_node(&file, "Relu", "a", "x", "y", NULL);
    sample_node(&file, "Neg", "b", "x", "y", NULL);
    sample_output(&file, "y");
    sample_refused(&file, QCNN_ERROR_FORMAT, "'y' twice");

    file = (onnx_file){ .opset = 13 };
    sample_input(&file, "x", SHAPE(1, 2));
    sample_node(&file, "Frobnicate", "here", "x", "y", NULL);
    sample_output(&file, "y");
    sample_refused(&file, QCNN_ERROR_UNSUPPORTED, "node 'here' (Frobnicate)");

    file = (onnx_file){ .opset = 13 };
    sample_port(&file, 11, "x", ONNX_INT64, &SHAPE(1, 2));
    sample_node(&file, "Relu", "a", "x", "y", NULL);
    sample_output(&file, "y");
    sample_refused(&file, QCNN_ERROR_UNSUPPORTED, "'x' is no float tensor");

    file = (onnx_file){ .opset = 0 };
    sample_output(&file, "y");
    sample_refused(&file, QCNN_ERROR_FORMAT, "no operator set");
}

// ---- tensors --------------------------------------------------------------------------------------------------------

// y = x + c, where c is a tensor of `shape` and `type` with the bytes given.
static void refuse_constant(int type, qcnn_shape shape, size_t n_bytes, qcnn_status status, const char *text)
{
    static const unsigned char bytes[64];
    onnx_file file = { .opset = 13 };
    sample_input(&file, "x", SHAPE(1, 2));
    sample_raw(&file, "c", type, shape, bytes, n_bytes);
    sample_node(&file, "Add", "add", "x c", "y", NULL);
    sample_output(&file, "y");
    sample_refused(&file, status, text);
}

static void test_bad_tensors(void **state)
{
    (void)state;
    refuse_constant(ONNX_FLOAT, SHAPE(2), 7, QCNN_ERROR_FORMAT, "does not match its shape");
    refuse_constant(ONNX_FLOAT, SHAPE(3), 8, QCNN_ERROR_FORMAT, "does not match its shape");
    refuse_constant(ONNX_FLOAT, SHAPE(-2), 8, QCNN_ERROR_FORMAT, "negative dimensions");
    refuse_constant(ONNX_FLOAT, SHAPE(0), 0, QCNN_ERROR_UNSUPPORTED, "no elements");
    refuse_constant(ONNX_FLOAT, SHAPE(INT64_MAX, INT64_MAX), 8, QCNN_ERROR_FORMAT, "impossibly large");
    refuse_constant(ONNX_FLOAT, SHAPE(1LL << 62, 4), 8, QCNN_ERROR_FORMAT, "impossibly large");
    refuse_constant(ONNX_STRING, SHAPE(2), 8, QCNN_ERROR_UNSUPPORTED, "not numbers");
    refuse_constant(99, SHAPE(2), 8, QCNN_ERROR_UNSUPPORTED, "not numbers");
    refuse_constant(ONNX_INT64, SHAPE(1), 8, QCNN_ERROR_UNSUPPORTED, "input 1 is not a float tensor");
    refuse_constant(ONNX_INT64, SHAPE(1 << 20), 8, QCNN_ERROR_UNSUPPORTED, "too large");

    onnx_file file = { .opset = 13 };
    qcnn_buffer tensor = sample_tensor("c", ONNX_FLOAT, SHAPE(1, 1, 1, 1, 1, 1, 1, 1));
    qcnn_put_int(&tensor, 1, 2);
    qcnn_put_message(&file.graph, 5, &tensor);
    sample_refused(&file, QCNN_ERROR_FORMAT, "more than 8");
}

// ---- attributes -----------------------------------------------------------------------------------------------------

static void refuse_conv(const char *attribute, int64_t value, int n, qcnn_shape weights, const char *text)
{
    static const float numbers[128];
    onnx_file file = { .opset = 13 };
    qcnn_buffer a = { 0 };
    if (n == 0)
        sample_int(&a, attribute, value);
    else
        sample_ints(&a, attribute, n, (const int64_t[]){ value, value, value, value });
    sample_input(&file, "x", SHAPE(1, 2, 4, 4));
    sample_floats(&file, "w", weights, numbers);
    sample_node(&file, "Conv", "conv", "x w", "y", &a);
    sample_output(&file, "y");
    sample_refused(&file, QCNN_ERROR_FORMAT, text);
}

static void test_bad_attributes(void **state)
{
    (void)state;
    refuse_conv("strides", 0, 2, SHAPE(2, 2, 1, 1), "strides");
    refuse_conv("strides", -1, 2, SHAPE(2, 2, 1, 1), "strides");
    refuse_conv("strides", 1LL << 40, 2, SHAPE(2, 2, 1, 1), "strides");
    refuse_conv("strides", 1, 3, SHAPE(2, 2, 1, 1), "strides");
    refuse_conv("dilations", 0, 2, SHAPE(2, 2, 1, 1), "dilations");
    refuse_conv("pads", -1, 4, SHAPE(2, 2, 1, 1), "pads");
    refuse_conv("pads", 1LL << 31, 4, SHAPE(2, 2, 1, 1), "pads");
    refuse_conv("pads", INT32_MAX, 4, SHAPE(2, 2, 1, 1), "conv");
    refuse_conv("kernel_shape", 3, 2, SHAPE(2, 2, 1, 1), "kernel_shape");
    refuse_conv("group", 2, 0, SHAPE(2, 2, 1, 1), "channels");
    refuse_conv("group", 3, 0, SHAPE(3, 2, 1, 1), "groups");
    refuse_conv("unknown", 0, 0, SHAPE(2, 2, 5, 5), "larger than the padded input");
}

// ---- bombs ----------------------------------------------------------------------------------------------------------

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

// Imports within a second and with at most twice the file and 16 MiB.
static void check_cost(onnx_file *file)
{
    qcnn_error error = { 0 };
    meter m = { .fail_at = -1 };
    sample_finish(file);
    const double start = now();
    qcnn_set_allocator(&(qcnn_allocator){ meter_allocate, meter_release, &m });
    import_bytes(file->bytes.data, file->bytes.n_bytes, &error);
    qcnn_set_allocator(NULL);
    const double seconds = now() - start;
    if (m.peak > 2 * file->bytes.n_bytes + (16 << 20) || seconds > 1 + 10.0 * QCNN_SLOW_BUILD)
        fail_msg("%zu bytes of file took %zu bytes of memory and %.2f seconds: %s", file->bytes.n_bytes, m.peak, seconds, error.message);
    sample_free(file);
}

static void test_bombs(void **state)
{
    (void)state;
    const int64_t large[] = { 1 << 15, 1 << 15 };
    onnx_file file = { .opset = 13 };
    sample_input(&file, "x", SHAPE(1, 1));
    sample_integers(&file, "size", 2, large);
    sample_node(&file, "ConstantOfShape", "fill", "size", "c", NULL);
    sample_node(&file, "Add", "add", "x c", "y", NULL);
    sample_output(&file, "y");
    check_cost(&file);

    file = (onnx_file){ .opset = 13 }; // doubles with every node
    static const float one = 1;
    sample_input(&file, "x", SHAPE(1, 1));
    sample_floats(&file, "c0", SHAPE(1), &one);
    for (int i = 0; i < 60; i++) {
        char inputs[32], output[16];
        qcnn_buffer axis = { 0 };
        sample_int(&axis, "axis", 0);
        snprintf(inputs, sizeof inputs, "c%d c%d", i, i);
        snprintf(output, sizeof output, "c%d", i + 1);
        sample_node(&file, "Concat", "double", inputs, output, &axis);
    }
    sample_node(&file, "Add", "add", "x c60", "y", NULL);
    sample_output(&file, "y");
    check_cost(&file);
}

// A chain of `n` nodes over weights that all share, each of which would have to copy them to fold its factor.
static void test_shared_weights_are_not_copied_without_end(void **state)
{
    (void)state;
    enum { SIDE = 256, LENGTH = 3000 };
    static float weights[SIDE * SIDE];
    onnx_file file = { .opset = 13 };
    const float two = 2;
    char from[16] = "x", product[16], output[16], inputs[40];
    sample_input(&file, "x", SHAPE(1, SIDE));
    sample_floats(&file, "w", SHAPE(SIDE, SIDE), weights);
    sample_floats(&file, "two", (qcnn_shape){ 0 }, &two);
    for (int i = 0; i < LENGTH; i++) {
        qcnn_buffer transposed = { 0 };
        snprintf(product, sizeof product, "p%d", i);
        snprintf(output, sizeof output, "y%d", i);
        snprintf(inputs, sizeof inputs, "%s w", from);
        sample_int(&transposed, "transB", 1);
        sample_node(&file, "Gemm", "gemm", inputs, product, &transposed);
        snprintf(inputs, sizeof inputs, "%s two", product);
        sample_node(&file, "Mul", "mul", inputs, output, NULL);
        memcpy(from, output, sizeof from);
    }
    sample_output(&file, from);
    check_cost(&file);
}

static void test_many_nodes(void **state)
{
    (void)state;
    onnx_file file = { .opset = 13 };
    char from[16] = "x", output[16];
    sample_input(&file, "x", SHAPE(1, 1));
    for (int i = 0; i < ONNX_MAX_NODES; i++) {
        snprintf(output, sizeof output, "y%d", i);
        sample_node(&file, "Neg", "n", from, output, NULL);
        memcpy(from, output, sizeof from);
    }
    sample_output(&file, from);
    check_cost(&file);
    file = (onnx_file){ .opset = 13 };
    sample_input(&file, "x", SHAPE(1, 1));
    for (int i = 0; i <= ONNX_MAX_NODES; i++)
        sample_node(&file, "Neg", "n", "x", "-", NULL);
    sample_output(&file, "x");
    sample_refused(&file, QCNN_ERROR_UNSUPPORTED, "more than 8192 nodes");
}

// ---- external data --------------------------------------------------------------------------------------------------

// y = x + c, c two floats in another file.
static qcnn_status import_external(const char *folder, const char *location, const char *offset, const char *length, float y[2],
                                   qcnn_error *error)
{
    onnx_file file = { .opset = 13 };
    static const char *const keys[] = { "location", "offset", "length" };
    const char *values[] = { location, offset, length };
    sample_input(&file, "x", SHAPE(1, 2));
    qcnn_buffer tensor = sample_tensor("c", ONNX_FLOAT, SHAPE(2));
    for (int i = 0; i < 3; i++) {
        qcnn_buffer entry = { 0 };
        if (!values[i])
            continue;
        qcnn_put_text(&entry, 1, keys[i]);
        qcnn_put_text(&entry, 2, values[i]);
        qcnn_put_message(&tensor, 13, &entry);
    }
    qcnn_put_int(&tensor, 14, 1);
    qcnn_put_message(&file.graph, 5, &tensor);
    sample_node(&file, "Add", "add", "x c", "y", NULL);
    sample_output(&file, "y");
    sample_finish(&file);
    qcnn_model *model;
    const qcnn_status status = qcnn_import_onnx(file.bytes.data, file.bytes.n_bytes, folder, NULL, &model, error);
    if (status == QCNN_OK)
        sample_run(model, (const float[]){ 0, 0 }, y);
    qcnn_model_free(model);
    sample_free(&file);
    return status;
}

static void refuse_external(const char *folder, const char *location, const char *offset, const char *length, const char *text)
{
    qcnn_error error = { 0 };
    assert_int_not_equal(import_external(folder, location, offset, length, NULL, &error), QCNN_OK);
    if (!strstr(error.message, text))
        fail_msg("expected '%s', got: %s", text, error.message);
}

static void write_file(const char *folder, const char *name, const void *data, size_t n)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(data, 1, n, out), n);
    fclose(out);
}

static void test_external_data(void **state)
{
    (void)state;
    char folder[] = "/tmp/qcnn_onnx_XXXXXX", inner[64], path[128], command[128], deep[1200];
    const float numbers[3] = { 7, 8, 9 };
    float y[2];
    qcnn_error error;
    assert_non_null(mkdtemp(folder));
    snprintf(inner, sizeof inner, "%s/model", folder);
    assert_int_equal(mkdir(inner, 0700), 0);
    write_file(folder, "secret", numbers, sizeof numbers);
    write_file(inner, "data", numbers, sizeof numbers);
    snprintf(path, sizeof path, "%s/link", inner);
    assert_int_equal(symlink("data", path), 0);
    snprintf(path, sizeof path, "%s/up", inner);
    assert_int_equal(symlink("..", path), 0);
    snprintf(path, sizeof path, "%s/pipe", inner);
    assert_int_equal(mkfifo(path, 0600), 0);
    memset(deep, 'd', sizeof deep - 1);
    deep[sizeof deep - 1] = 0;

    assert_int_equal(import_external(inner, "data", "4", "8", y, &error), QCNN_OK);
    assert_true(y[0] == 8 && y[1] == 9);
    assert_int_equal(import_external(inner, "./data", NULL, NULL, y, &error), QCNN_OK);
    assert_true(y[0] == 7 && y[1] == 8);
    refuse_external(inner, "../secret", NULL, NULL, "leaves the model's own folder");
    refuse_external(inner, "./../model/data", NULL, NULL, "leaves the model's own folder");
    refuse_external(inner, "/etc/passwd", NULL, NULL, "absolute");
    refuse_external(inner, "link", NULL, NULL, "symbolic link");
    refuse_external(inner, "up/secret", NULL, NULL, "symbolic link");
    refuse_external(inner, "data/data", NULL, NULL, "symbolic link or a file");
    refuse_external(inner, "pipe", NULL, NULL, "not a regular file");
    refuse_external(inner, ".", NULL, NULL, "not a regular file");
    refuse_external(inner, "absent", NULL, NULL, "absent");
    refuse_external(inner, "", NULL, NULL, "empty");
    refuse_external(inner, NULL, NULL, NULL, "empty");
    refuse_external(inner, deep, NULL, NULL, "too long");
    refuse_external(inner, "data", "8", NULL, "shorter than the model says");
    refuse_external(inner, "data", "18446744073709551615", NULL, "shorter than the model says");
    refuse_external(inner, "data", "99999999999999999999999", NULL, "offset or length");
    refuse_external(inner, "data", "-4", NULL, "offset or length");
    refuse_external(inner, "data", "0", "12", "length of its external data");
    refuse_external(NULL, "data", NULL, NULL, "another file");
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_truncation_is_an_error),
        cmocka_unit_test(test_every_changed_byte_is_survived),
        cmocka_unit_test(test_every_failed_allocation_is_an_error),
        cmocka_unit_test(test_bad_graphs),
        cmocka_unit_test(test_bad_tensors),
        cmocka_unit_test(test_bad_attributes),
        cmocka_unit_test(test_bombs),
        cmocka_unit_test(test_shared_weights_are_not_copied_without_end),
        cmocka_unit_test(test_many_nodes),
        cmocka_unit_test(test_external_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
