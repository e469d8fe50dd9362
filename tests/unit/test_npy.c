// SPDX-License-Identifier: Apache-2.0
// .npy files: every element type and order against values written out here, and one clear error from every broken file.

#include "image_samples.h"

#include <math.h>
#include <unistd.h>

#include "qcnn_compress.h"

// A version `major` file with this header text, padded to 64 bytes, and these elements.
static sample make_npy(int major, const char *header, const void *elements, size_t n_bytes)
{
    const size_t prefix = major == 1 ? 10 : 12, text = (prefix + strlen(header) + 1 + 63) / 64 * 64 - prefix;
    uint8_t *data = malloc(prefix + text + n_bytes + 1);
    memcpy(data, "\x93NUMPY", 6);
    data[6] = (uint8_t)major;
    data[7] = 0;
    for (size_t i = 8; i < prefix; i++)
        data[i] = (uint8_t)(text >> 8 * (i - 8));
    memset(data + prefix, ' ', text);
    memcpy(data + prefix, header, strlen(header));
    data[prefix + text - 1] = '\n';
    if (n_bytes > 0)
        memcpy(data + prefix + text, elements, n_bytes);
    return (sample){ data, prefix + text + n_bytes };
}

static sample make_typed(const char *descr, const char *order, const char *shape, const void *elements, size_t n_bytes)
{
    char header[256];
    snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }", descr, order, shape);
    return make_npy(1, header, elements, n_bytes);
}

static qcnn_status parse(sample file, qcnn_array *array, qcnn_error *error)
{
    uint8_t *exact = malloc(file.n_bytes ? file.n_bytes : 1);
    memcpy(exact, file.data, file.n_bytes);
    memset(error, 0, sizeof *error);
    const qcnn_status status = qcnn_npy_parse(exact, file.n_bytes, array, error);
    free(exact);
    if (status != QCNN_OK) {
        assert_null(array->data);
        assert_null(array->integers);
        assert_true(error->status == status && error->message[0] != 0);
    }
    return status;
}

static void test_types(void **state)
{
    (void)state;
    static const struct {
        const char *descr;
        int is_float, n;
        uint8_t bytes[16];
        double values[3];
    } cases[] = {
        { "<f4", 1, 2, { 0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0 }, { 1.5, -2 } },
        { ">f4", 1, 2, { 0x3f, 0xc0, 0, 0, 0xc0, 0, 0, 0 }, { 1.5, -2 } },
        { "<f2", 1, 3, { 0, 0x3e, 0, 0xc0, 1, 0 }, { 1.5, -2, 0x1p-24 } },
        { "<f2", 1, 3, { 0, 0x7c, 0, 0xfc, 0xff, 0x7b }, { INFINITY, -INFINITY, 65504 } },
        { ">f2", 1, 2, { 0x3e, 0, 0x84, 0 }, { 1.5, -0x1p-14 } },
        { "<f8", 1, 1, { 0, 0, 0, 0, 0, 0, 0xf8, 0x3f }, { 1.5 } },
        { "|i1", 0, 2, { 5, 0xfe }, { 5, -2 } },
        { "|u1", 0, 2, { 5, 0xfe }, { 5, 254 } },
        { "|b1", 0, 2, { 0, 1 }, { 0, 1 } },
        { "<i2", 0, 2, { 1, 2, 0xff, 0xff }, { 513, -1 } },
        { ">i2", 0, 1, { 1, 2 }, { 258 } },
        { "<u2", 0, 1, { 0xff, 0xff }, { 65535 } },
        { "<i4", 0, 2, { 1, 0, 0, 0, 0, 0, 0, 0x80 }, { 1, -2147483648.0 } },
        { "<u4", 0, 1, { 0, 0, 0, 0x80 }, { 2147483648.0 } },
        { "<i8", 0, 1, { 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, { -2 } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char shape[16];
        qcnn_array array;
        qcnn_error error;
        snprintf(shape, sizeof shape, "(%d,)", cases[i].n);
        const sample file = make_typed(cases[i].descr, "False", shape, cases[i].bytes, (size_t)(cases[i].n * (cases[i].descr[2] - '0')));
        assert_int_equal(parse(file, &array, &error), QCNN_OK);
        assert_true((array.data != NULL) == cases[i].is_float && (array.integers != NULL) == !cases[i].is_float);
        for (int k = 0; k < cases[i].n; k++)
            assert_true((cases[i].is_float ? (double)array.data[k] : (double)array.integers[k]) == cases[i].values[k]);
        qcnn_array_free(&array);
        free(file.data);
    }
}

static void test_orders_and_versions(void **state)
{
    (void)state;
    static const uint8_t elements[6] = { 0, 1, 2, 3, 4, 5 };
    static const int64_t by_rows[6] = { 0, 1, 2, 3, 4, 5 }, by_columns[6] = { 0, 2, 4, 1, 3, 5 };
    for (int major = 1; major <= 3; major++)
        for (int fortran = 0; fortran < 2; fortran++) {
            const sample file = make_npy(major,
                                         fortran ? "{\"shape\": (2, 3), 'descr': '|u1', 'fortran_order': True}"
                                                 : "{'descr':'|u1','fortran_order':False,'shape':(2,3,),}",
                                         elements, 6);
            qcnn_array array;
            qcnn_error error;
            assert_int_equal(parse(file, &array, &error), QCNN_OK);
            assert_true(array.shape.rank == 2 && array.shape.dims[0] == 2 && array.shape.dims[1] == 3);
            assert_memory_equal(array.integers, fortran ? by_columns : by_rows, sizeof by_rows);
            qcnn_array_free(&array);
            free(file.data);
        }
    const sample scalar = make_typed("|u1", "False", "()", elements + 3, 1);
    qcnn_array array;
    assert_int_equal(parse(scalar, &array, &(qcnn_error){ 0 }), QCNN_OK);
    assert_true(array.shape.rank == 0 && array.integers[0] == 3);
    qcnn_array_free(&array);
    free(scalar.data);
}

static void test_bad_headers(void **state)
{
    (void)state;
    static const char *const headers[] = {
        "",
        "{",
        "{}",
        "[]",
        "{'descr': '<f4'}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,) 'x': 1}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}",
        "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (0,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 0)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2 1)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} x",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,2)}",
        "{'descr': 'f4', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '|f4', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<u8', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2L,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1073741826,)}",
    };
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        const sample file = make_npy(1, headers[i], "\0\0\0\0\0\0\0", 8);
        qcnn_array array;
        qcnn_error error;
        fail_allocation(0);
        const qcnn_status status = parse(file, &array, &error);
        assert_true(status == QCNN_ERROR_FORMAT || status == QCNN_ERROR_UNSUPPORTED);
        assert_int_equal(samples_calls, 0); // refused before anything is allocated
        qcnn_set_allocator(NULL);
        free(file.data);
    }
}

static void test_damage(void **state)
{
    (void)state;
    static const float elements[6] = { 1, 2, 3, 4, 5, 6 };
    const sample file = make_typed("<f4", "True", "(2, 3)", elements, sizeof elements);
    qcnn_array array;
    qcnn_error error;
    for (size_t n = 0; n < file.n_bytes; n++)
        assert_int_equal(parse((sample){ file.data, n }, &array, &error), QCNN_ERROR_FORMAT);
    file.data[file.n_bytes] = 0; // make_npy leaves room for one byte too many
    assert_int_equal(parse((sample){ file.data, file.n_bytes + 1 }, &array, &error), QCNN_ERROR_FORMAT);
    uint32_t seed = 3;
    for (int round = 0; round < 5000; round++) {
        const size_t place = sample_random(&seed) % 100;
        const uint8_t kept = file.data[place];
        file.data[place] = (uint8_t)sample_random(&seed);
        if (parse(file, &array, &error) == QCNN_OK)
            qcnn_array_free(&array);
        file.data[place] = kept;
    }
    free(file.data);
}

static void test_write_and_read(void **state)
{
    (void)state;
    static const float data[24] = { 0.5f, -1, 3e-40f, 1e30f, 7 };
    static const qcnn_shape shapes[] = {
        { 0, { 0 } }, { 1, { 5 } }, { 2, { 2, 3 } }, { 4, { 1, 2, 3, 4 } }, { 8, { 1, 1, 1, 1, 1, 2, 2, 2 } }
    };
    char path[] = "/tmp/qcnn_npy_XXXXXX";
    const int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        qcnn_array array;
        qcnn_error error;
        size_t n = 1;
        for (int d = 0; d < shapes[i].rank; d++)
            n *= (size_t)shapes[i].dims[d];
        assert_int_equal(qcnn_npy_write(path, &shapes[i], data, &error), QCNN_OK);
        assert_int_equal(qcnn_npy_read(path, &array, &error), QCNN_OK);
        assert_int_equal(array.shape.rank, shapes[i].rank);
        assert_memory_equal(array.shape.dims, shapes[i].dims, sizeof shapes[i].dims);
        assert_memory_equal(array.data, data, n * sizeof *data);
        qcnn_array_free(&array);
    }
    unlink(path);
    assert_int_equal(qcnn_npy_read(path, &(qcnn_array){ 0 }, &(qcnn_error){ 0 }), QCNN_ERROR_IO);
}

static qcnn_status parse_attempt(void *argument)
{
    const sample *file = argument;
    qcnn_array array;
    const qcnn_status status = qcnn_npy_parse(file->data, file->n_bytes, &array, NULL);
    qcnn_array_free(&array);
    return status;
}

static void test_failing_allocations(void **state)
{
    (void)state;
    sample file = make_typed("<f4", "False", "(1,)", "\0\0\0", 4);
    fail_each_allocation(parse_attempt, &file);
    free(file.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),  cmocka_unit_test(test_orders_and_versions), cmocka_unit_test(test_bad_headers),
        cmocka_unit_test(test_damage), cmocka_unit_test(test_write_and_read),      cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests_name("npy", tests, NULL, NULL);
}
