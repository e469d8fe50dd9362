// SPDX-License-Identifier: Apache-2.0
// Handcrafted bad .qcnn files with float16 and int8 numbers and entropy-coded sections, and models that no file can hold.

#include "bad_files.h"

// ---- float16 and int8 numbers -----------------------------------------------------------------------------------------

// x [1][3] -> fc (codebook of int8, bias of float16): sections GRPH, CODE (2 scales, 12 integers), ASGN, DATA.
static qcnn_model *tiny_typed(void)
{
    qcnn_model *model = tiny();
    assert_int_equal(qcnn_codebook_round(&model->tensors[0], QCNN_INT8, 127, NULL), QCNN_OK);
    assert_int_equal(qcnn_data_round(&model->tensors[1], QCNN_FLOAT16, 0, NULL), QCNN_OK);
    return model;
}

static void test_bad_numbers(void **state)
{
    (void)state;
    static const file_change bad_numbers[] = {
        { FORMAT, "section 1 (CODE): a scale is negative", CONTENT, CODE_W, 0, 4, 0x80000000 },
        { FORMAT, "section 1 (CODE): a scale is negative", CONTENT, CODE_W, 4, 4, 0xbf800000 },
        { FORMAT, "section 1 (CODE): a scale is negative, too large", CONTENT, CODE_W, 0, 4, 0x7e967699 + 99999 },
        { FORMAT, "section 1 (CODE): a scale is negative, too large or not a number", CONTENT, CODE_W, 4, 4, 0x7f800000 },
        { FORMAT, "section 1 (CODE): a scale is negative, too large or not a number", CONTENT, CODE_W, 4, 4, 0x7fc00000 },
        { FORMAT, "section 1 (CODE): an integer is not in -127..127", CONTENT, CODE_W, 8, 1, 0x80 },
        { FORMAT, "codewords of tensor 0 do not end in zeros", CONTENT, CODE_W, 8 + 7, 1, 1 },
        { FORMAT, "section 3 (DATA): a float16 number is not finite", CONTENT, DATA_B, 0, 2, 0x7c00 },
        { FORMAT, "section 3 (DATA): a float16 number is not finite", CONTENT, DATA_B, 6, 2, 0xfe01 },
    };
    const bytes good = save_and_free(tiny_typed());
    assert_changes_refused(good, bad_numbers, sizeof bad_numbers / sizeof *bad_numbers);
    qcnn_bytes_free(good.data);
}

// ---- entropy coding ---------------------------------------------------------------------------------------------------

// Sections of coded(): the first tensor's CODE begins with 4 scales and the largest integer, then comes the number of tables.
enum { CODED_CODE = 1, CODED_ASGN, CODED_DATA };

static void test_bad_coding(void **state)
{
    (void)state;
    static const file_change bad_coding[] = {
        { FORMAT, "section 1 (CODE): it ends inside its scales, or its largest", CONTENT, CODED_CODE, 16, 1, 128 },
        { FORMAT, "section 1 (CODE): frequencies do not add up", CONTENT, CODED_CODE, 16, 1, 2 },
        { FORMAT, "section 1 (CODE): a scale is negative", CONTENT, CODED_CODE, 12, 4, 0xbf800000 },
        { FORMAT, "section 1 (CODE): it has no tables or more than 64", CONTENT, CODED_CODE, 17, 1, 0 },
        { FORMAT, "section 1 (CODE): its size does not fit", ENTRY, CODED_CODE, 32, 8, 100 },
        { FORMAT, "section 1 (CODE): its size does not fit", ENTRY, CODED_CODE, 32, 8, UINT64_MAX },
        { FORMAT, "section 1 (CODE): a plain section must decode to its own size", ENTRY, CODED_CODE, 8, 4, 0 },
        { FORMAT, "section 2 (ASGN): it has no tables or more than 64", CONTENT, CODED_ASGN, 0, 1, 65 },
        { FORMAT, "section 2 (ASGN): frequencies do not add up", CONTENT, CODED_ASGN, 0, 8, 0x0001 },
        { FORMAT, "section 2 (ASGN): a frequency is out of range", CONTENT, CODED_ASGN, 1, 8, UINT64_MAX },
        { FORMAT, "section 2 (ASGN): its size does not fit", ENTRY, CODED_ASGN, 32, 8, 1 },
        { FORMAT, "section 3 (DATA): a scale is negative", CONTENT, CODED_DATA, 0, 4, 0x7fc00000 },
        { FORMAT, "section 3 (DATA): it has no tables or more than 64", CONTENT, CODED_DATA, 16 * 4 + 1, 1, 255 },
    };
    const bytes good = save_and_free(coded());
    assert_changes_refused(good, bad_coding, sizeof bad_coding / sizeof *bad_coding);
    bytes bad = { qcnn_allocate(good.n, 1), good.n };
    // Every bit of the coded sections, checksums made right again: few other bits lead the states back to where they began, and those
    // then decode to symbols of the alphabet.
    size_t n_flipped = 0, n_accepted = 0;
    for (int section = CODED_CODE; section <= CODED_DATA; section++) {
        const unsigned char *entry = good.data + QCNN_HEADER_BYTES + section * QCNN_ENTRY_BYTES;
        const size_t offset = (size_t)get(entry + 16, 8), n = (size_t)get(entry + 24, 8), n_scales = section == CODED_DATA ? 16 : 4;
        memcpy(bad.data, good.data, good.n);
        for (size_t bit = section == CODED_ASGN ? 0 : 8 * (n_scales * 4 + 1); bit < 8 * n; bit++, n_flipped++) {
            bad.data[offset + bit / 8] ^= (unsigned char)(1 << bit % 8);
            qcnn_container_repair_checksums(bad.data, bad.n);
            qcnn_error error;
            n_accepted += try_load(bad, &error) == QCNN_OK;
            bad.data[offset + bit / 8] ^= (unsigned char)(1 << bit % 8);
        }
    }
    print_message("%zu flipped bits of coded sections, %zu not noticed\n", n_flipped, n_accepted);
    assert_true(100 * n_accepted < n_flipped);
    qcnn_release(bad.data);
    qcnn_bytes_free(good.data);
}

// A coded section cut or extended, its frame made right again.
static void test_coded_sections_of_wrong_size(void **state)
{
    (void)state;
    const bytes file = save_and_free(coded());
    part parts[MAX_PARTS];
    const size_t n_parts = take_apart(file, parts);
    for (size_t section = CODED_CODE; section <= CODED_DATA; section++) {
        const size_t n = parts[section].n;
        for (parts[section].n = 0; parts[section].n < n; parts[section].n++)
            assert_parts_refused(parts, n_parts, FORMAT, "section ");
        unsigned char *longer = qcnn_allocate_zeroed(n + 2, 1);
        memcpy(longer, parts[section].content, n);
        parts[section].content = longer;
        for (parts[section].n = n + 1; parts[section].n <= n + 2; parts[section].n++)
            assert_parts_refused(parts, n_parts, FORMAT, "its symbols do not end where it ends");
        qcnn_release(longer);
        take_apart(file, parts);
    }
    assert_parts_refused(parts, n_parts, FORMAT, NULL);
    qcnn_bytes_free(file.data);
}

// ---- models that cannot be saved ------------------------------------------------------------------------------------

static void assert_not_saved(qcnn_model *model, const char *expected)
{
    void *data;
    size_t n;
    qcnn_error error;
    assert_int_equal(qcnn_save_memory(model, &data, &n, &error), QCNN_ERROR_FORMAT);
    assert_null(data);
    if (!strstr(error.message, expected) || !strstr(error.message, "cannot be saved"))
        fail_msg("expected '%s', got '%s'", expected, error.message);
    qcnn_model_free(model);
}

static void test_numbers_of_another_type(void **state)
{
    (void)state;
    qcnn_model *model = tiny_typed();
    ((float *)model->tensors[0].owned_data)[0] += 1e-3f;
    assert_not_saved(model, "tensor 0: a number of it is not int8");
    model = tiny_typed();
    ((float *)model->tensors[1].owned_data)[0] = 1e-9f;
    assert_not_saved(model, "tensor 1: a number of it is not float16");
}

static qcnn_model *two_nodes_called(const char *first, const char *second, const char *first_value, const char *second_value)
{
    network net = new_network();
    const int x = add_input(&net, "x", SHAPE(1, 3));
    int values[2], indices[2];
    qcnn_attributes a = no_attributes();
    a.function = QCNN_ABS;
    for (int i = 0; i < 2; i++) {
        values[i] = add_value(&net, i ? second_value : first_value, -1);
        assert_int_equal(qcnn_model_add_node(net.model, QCNN_OP_UNARY, i ? second : first, &x, 1, values[i], &a, &indices[i], NULL),
                         QCNN_OK);
        assert_int_equal(qcnn_model_add_output(net.model, values[i], NULL), QCNN_OK);
    }
    return net.model;
}

static void test_names(void **state)
{
    (void)state;
    assert_not_saved(two_nodes_called("relu", "relu", "y", "z"), "two nodes are called 'relu'");
    assert_not_saved(two_nodes_called("a", "b", "y", "y"), "two of the graph's ports are graph output 'y'");
    assert_not_saved(two_nodes_called("a", "b", "y", NULL), "graph output 1 has no name");
    assert_not_saved(two_nodes_called("a", "b\n", "y", "z"), "the name of node 1 is not UTF-8 text of one line");
    qcnn_bytes_free(save_and_free(two_nodes_called(NULL, NULL, "y", "z")).data);
}

// K = 1 takes no bits: nothing but the bound on what unfolds keeps a file of a few hundred bytes from unfolding to gigabytes.
static void test_bombs(void **state)
{
    (void)state;
    network net = new_network();
    const int x = add_input(&net, "x", SHAPE(1, 1));
    const int y = add_node(&net, QCNN_OP_FC, "y", x, add_codebook(&net, "w", SHAPE(9000000, 1), 1, 1, 1, 1), -1, no_attributes());
    assert_int_equal(qcnn_model_add_output(net.model, y, NULL), QCNN_OK);
    assert_not_saved(net.model, "unfolds to more memory than a file of 512 bytes may take");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_numbers),
        cmocka_unit_test(test_bad_coding),
        cmocka_unit_test(test_coded_sections_of_wrong_size),
        cmocka_unit_test(test_numbers_of_another_type),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_bombs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
