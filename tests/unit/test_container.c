// SPDX-License-Identifier: Apache-2.0
// The .qcnn container: what is saved comes back the same, from memory and from files, and whatever is damaged is refused.

#include "coding/encode.h"
#include "container_samples.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

// Stands before the C library's: the next read is interrupted, fails, or finds nothing.
static enum { READ, INTERRUPTED, BROKEN, SHORT } next_read = READ;

ssize_t read(int descriptor, void *data, size_t n)
{
    const int what = next_read;
    if (what != SHORT)
        next_read = READ;
    errno = what == INTERRUPTED ? EINTR : EIO;
    return what == READ ? syscall(SYS_read, descriptor, data, n) : what == SHORT ? 0 : -1;
}

// ---- round trips ----------------------------------------------------------------------------------------------------

static void assert_same_tensor(const qcnn_tensor *a, const qcnn_tensor *b)
{
    const size_t n = (size_t)qcnn_shape_elements(&a->shape);
    assert_true(qcnn_shape_equal(&a->shape, &b->shape));
    assert_true(a->error == b->error);
    assert_int_equal(qcnn_is_codebook(a), qcnn_is_codebook(b));
    assert_int_equal(a->data_type, b->data_type);
    if (!qcnn_is_codebook(a)) {
        assert_memory_equal(a->data, b->data, n * sizeof(float));
        assert_int_equal(a->data_scales != NULL, b->data_scales != NULL);
        if (a->data_scales)
            assert_memory_equal(a->data_scales, b->data_scales, (size_t)a->shape.dims[0] * sizeof(float));
        return;
    }
    const qcnn_codebook *p = &a->codebook, *q = &b->codebook;
    assert_memory_equal(p, q, offsetof(qcnn_codebook, codewords));
    uint64_t n_numbers = 0, n_assignments = 0;
    assert_true(qcnn_count_codeword_numbers(p, &n_numbers) && qcnn_count_assignments(p, &n_assignments));
    assert_memory_equal(p->codewords, q->codewords, (size_t)n_numbers * sizeof(float));
    assert_int_equal(p->scales != NULL, q->scales != NULL);
    if (p->scales)
        assert_memory_equal(p->scales, q->scales, (size_t)(p->n_sets * p->n_subspaces) * sizeof(float));
    assert_memory_equal(p->assignments, q->assignments, (size_t)n_assignments);
    assert_int_equal(p->peaks != NULL, q->peaks != NULL);
    if (p->peaks)
        assert_memory_equal(p->peaks, q->peaks, (size_t)(p->groups * p->n_subspaces) * sizeof(float));
}

static void assert_same_model(const qcnn_model *a, const qcnn_model *b)
{
    assert_int_equal(a->n_tensors, b->n_tensors);
    assert_int_equal(a->n_values, b->n_values);
    assert_int_equal(a->n_nodes, b->n_nodes);
    assert_int_equal(a->n_inputs, b->n_inputs);
    assert_int_equal(a->n_outputs, b->n_outputs);
    assert_int_equal(a->n_classes, b->n_classes);
    assert_true(a->original_bytes == b->original_bytes);
    for (size_t i = 0; i < a->n_tensors; i++)
        assert_same_tensor(&a->tensors[i], &b->tensors[i]);
    for (size_t i = 0; i < a->n_values; i++) {
        assert_string_equal(a->values[i].name, b->values[i].name);
        assert_int_equal(a->values[i].tensor, b->values[i].tensor);
        assert_true(a->values[i].low == b->values[i].low && a->values[i].high == b->values[i].high);
        assert_true(qcnn_shape_equal(&a->values[i].shape, &b->values[i].shape));
    }
    for (size_t i = 0; i < a->n_nodes; i++) {
        const qcnn_node *p = &a->nodes[i], *q = &b->nodes[i];
        assert_int_equal(p->op, q->op);
        assert_string_equal(p->name, q->name);
        assert_int_equal(p->n_inputs, q->n_inputs);
        assert_memory_equal(p->inputs, q->inputs, (size_t)p->n_inputs * sizeof *p->inputs);
        assert_int_equal(p->output, q->output);
        assert_memory_equal(&p->attributes, &q->attributes, sizeof p->attributes);
    }
    assert_memory_equal(a->inputs, b->inputs, a->n_inputs * sizeof *a->inputs);
    assert_memory_equal(a->outputs, b->outputs, a->n_outputs * sizeof *a->outputs);
    for (size_t i = 0; i < a->n_classes; i++)
        assert_string_equal(a->classes[i], b->classes[i]);
    assert_string_equal(a->preprocessing ? a->preprocessing : "none", b->preprocessing ? b->preprocessing : "none");
}

static void run_every_op(const qcnn_model *model, float outputs[2][10])
{
    float image[4 * 8 * 8];
    for (int i = 0; i < 4 * 8 * 8; i++)
        image[i] = (float)(i * 37 % 101) / 50 - 1;
    qcnn_session *session;
    assert_int_equal(qcnn_session_create(model, NULL, &session, NULL), QCNN_OK);
    qcnn_run(session, (const float *const[]){ image }, (float *const[]){ outputs[0], outputs[1] });
    qcnn_session_free(session);
}

static void run_once(const qcnn_model *model, const float *input, float *output)
{
    qcnn_session *session;
    assert_int_equal(qcnn_session_create(model, NULL, &session, NULL), QCNN_OK);
    qcnn_run(session, (const float *const[]){ input }, (float *const[]){ output });
    qcnn_session_free(session);
}

static void test_every_op(void **state)
{
    (void)state;
    qcnn_model *model = every_op(), *again;
    assert_int_equal(qcnn_model_prepare(model, NULL, NULL), QCNN_OK);
    const bytes file = save_bytes(model), twice = save_bytes(model);
    assert_int_equal(file.n % 64, 0);
    assert_int_equal(file.n, twice.n);
    assert_memory_equal(file.data, twice.data, file.n);
    assert_int_equal(qcnn_model_load(file.data, file.n, NULL, &again, NULL), QCNN_OK);
    assert_same_model(model, again);
    float before[2][10], after[2][10];
    run_every_op(model, before);
    run_every_op(again, after);
    assert_memory_equal(before, after, sizeof before);
    const bytes third = save_bytes(again);
    assert_int_equal(file.n, third.n);
    assert_memory_equal(file.data, third.data, file.n);
    qcnn_model_free(model);
    qcnn_model_free(again);
    qcnn_bytes_free(file.data);
    qcnn_bytes_free(twice.data);
    qcnn_bytes_free(third.data);
}

static void test_every_type(void **state)
{
    (void)state;
    qcnn_model *model = every_type(), *again;
    assert_int_equal(qcnn_model_prepare(model, NULL, NULL), QCNN_OK);
    const bytes file = save_bytes(model);
    assert_int_equal(qcnn_model_load(file.data, file.n, NULL, &again, NULL), QCNN_OK);
    assert_same_model(model, again);
    static const char *const storage[] = { "float16", "codebook", "codebook", "", "int8" }, *const type[] = { "", "int8", "float16", "",
                                                                                                              "" };
    const uint64_t n_bytes[] = { 2 * (216 + 6), 4 * 4 + 2 * 2 * 5 * 2 + 2 * 2 * 9 * 4 * 3 / 8, 2 * 3 * 7 * 3 + (3 * 9 * 6 * 3 + 7) / 8, 0,
                                 5 * 4 + 5 * 24 };
    for (int i = 0; i < 5; i++) {
        const qcnn_layer_info before = qcnn_model_layer(model, i), after = qcnn_model_layer(again, i);
        assert_string_equal(after.storage, storage[i]);
        assert_string_equal(after.codeword_type, type[i]);
        assert_true(before.bytes == n_bytes[i] && after.bytes == n_bytes[i]);
    }
    const bytes second = save_bytes(again);
    assert_int_equal(file.n, second.n);
    assert_memory_equal(file.data, second.data, file.n);
    qcnn_model_free(model);
    qcnn_model_free(again);
    qcnn_bytes_free(file.data);
    qcnn_bytes_free(second.data);
}

// What calibration found comes back, is copied, and leaves nothing of itself once it is forgotten.
static void test_ranges(void **state)
{
    (void)state;
    qcnn_model *model = ranged(), *again, *copy, *plain = every_op();
    assert_int_equal(qcnn_model_prepare(model, NULL, NULL), QCNN_OK);
    const bytes file = save_bytes(model), without = save_and_free(plain);
    assert_int_equal(get(file.data + 10, 2), 1);
    assert_int_equal(get(without.data + 10, 2), 0);
    assert_int_equal(qcnn_model_load(file.data, file.n, NULL, &again, NULL), QCNN_OK);
    assert_same_model(model, again);
    assert_true(qcnn_model_has_ranges(again));
    assert_int_equal(qcnn_model_copy(again, &copy, NULL), QCNN_OK);
    assert_same_model(model, copy);
    qcnn_model_forget_ranges(copy);
    assert_false(qcnn_model_has_ranges(copy));
    const bytes forgotten = save_and_free(copy);
    assert_int_equal(forgotten.n, without.n);
    assert_memory_equal(forgotten.data, without.data, without.n);
    qcnn_model_free(model);
    qcnn_model_free(again);
    qcnn_bytes_free(file.data);
    qcnn_bytes_free(without.data);
    qcnn_bytes_free(forgotten.data);
}

// Coded sections decode to what plain ones would hold, take what was counted for them, and the sorted codebook is the same network.
static void test_coded(void **state)
{
    (void)state;
    for (int sorted = 0; sorted <= 1; sorted++) {
        qcnn_model *model = coded(), *again;
        float image[30], before[16], after[16];
        for (int i = 0; i < 30; i++)
            image[i] = (float)(i * 37 % 101) / 50 - 1;
        model->exact = true; // byte tables have a scale for all codewords, and sorting drops those that nobody uses
        assert_int_equal(qcnn_model_prepare(model, "c", NULL), QCNN_OK);
        run_once(model, image, before);
        if (sorted)
            assert_int_equal(qcnn_codebook_sort(&model->tensors[0], NULL), QCNN_OK);
        const bytes file = save_bytes(model);
        qcnn_load_options options = qcnn_load_options_default();
        options.kernels = "c";
        options.exact = 1;
        assert_int_equal(qcnn_model_load(file.data, file.n, &options, &again, NULL), QCNN_OK);
        assert_same_model(model, again);
        run_once(again, image, after);
        assert_memory_equal(before, after, sizeof before);
        uint64_t counted;
        for (int i = 0; i < 2; i++) {
            assert_int_equal(qcnn_coded_bytes(&model->tensors[i], &counted, NULL), QCNN_OK);
            assert_true(counted == again->tensors[i].stored_bytes && counted < qcnn_tensor_bytes(&model->tensors[i]));
            assert_true(i > 0 || qcnn_codebook_coded_bytes(&model->tensors[i].codebook) == counted);
        }
        print_message("codebook %.0f bytes plain, %.0f coded%s\n", (double)qcnn_tensor_bytes(&model->tensors[0]),
                      (double)again->tensors[0].stored_bytes, sorted ? " and sorted" : "");
        qcnn_model_free(model);
        qcnn_model_free(again);
        qcnn_bytes_free(file.data);
    }
}

static void test_every_operator_and_function_has_a_number(void **state)
{
    (void)state;
    for (int op = 0; op < QCNN_N_OPS; op++) {
        qcnn_op back;
        assert_true(qcnn_op_number((qcnn_op)op) != 0);
        assert_true(qcnn_op_from_number(qcnn_op_number((qcnn_op)op), &back));
        assert_int_equal(back, op);
    }
    for (int function = 0; function < QCNN_N_FUNCTIONS; function++) {
        qcnn_attributes a = no_attributes(), b;
        a.function = (qcnn_function)function;
        qcnn_buffer buffer = { 0 };
        qcnn_write_attributes(&buffer, QCNN_OP_BINARY, &a);
        qcnn_cursor cursor = { .next = buffer.data, .n_left = buffer.n_bytes };
        assert_null(qcnn_read_attributes(&cursor, QCNN_OP_BINARY, &b));
        assert_int_equal(b.function, function);
        qcnn_release(buffer.data);
    }
}

static void test_every_number_of_codewords(void **state)
{
    (void)state;
    for (int k = 1; k <= QCNN_MAX_CODEWORDS; k++) {
        network net = new_network();
        const int x = add_input(&net, "x", SHAPE(1, 7));
        const int y = add_node(&net, QCNN_OP_FC, "y", x, add_codebook(&net, "w", SHAPE(61, 7), 1, 1, 3, k), -1, no_attributes());
        assert_int_equal(qcnn_model_add_output(net.model, y, NULL), QCNN_OK);
        assert_int_equal(qcnn_model_prepare(net.model, NULL, NULL), QCNN_OK);
        const bytes file = save_bytes(net.model);
        qcnn_model *again;
        assert_int_equal(qcnn_model_load(file.data, file.n, NULL, &again, NULL), QCNN_OK);
        assert_same_model(net.model, again);
        qcnn_model_free(again);
        qcnn_model_free(net.model);
        qcnn_bytes_free(file.data);
    }
}

static void test_bits_of_all_widths_and_counts(void **state)
{
    (void)state;
    for (int n_bits = 0; n_bits <= 8; n_bits++)
        for (size_t n = 0; n <= 130; n++) {
            uint8_t numbers[130], back[130];
            const size_t n_bytes = (n * (size_t)n_bits + 7) / 8;
            unsigned char *packed = malloc(n_bytes + 1), expected[130] = { 0 }; // on the heap: exactly sized for sanitizers
            for (size_t i = 0; i < n; i++) {
                numbers[i] = (uint8_t)((i * 167 + n) & ((1u << n_bits) - 1));
                for (int bit = 0; bit < n_bits; bit++)
                    expected[(i * (size_t)n_bits + (size_t)bit) / 8] |=
                        (unsigned char)((numbers[i] >> bit & 1) << (i * (size_t)n_bits + (size_t)bit) % 8);
            }
            packed = realloc(packed, n_bytes ? n_bytes : 1);
            qcnn_pack_bits(numbers, n, n_bits, packed);
            assert_memory_equal(packed, expected, n_bytes);
            qcnn_unpack_bits(packed, n, n_bits, back);
            assert_memory_equal(numbers, back, n);
            free(packed);
        }
}

// ---- ways to load ---------------------------------------------------------------------------------------------------

static void assert_loaded(qcnn_status status, qcnn_model **model, const qcnn_model *expected, const qcnn_error *error)
{
    if (status != QCNN_OK)
        fail_msg("%s", error->message);
    assert_same_model(expected, *model);
    qcnn_model_free(*model);
}

static void test_ways_to_load(void **state)
{
    (void)state;
    qcnn_model *model = every_op(), *again;
    qcnn_error error;
    assert_int_equal(qcnn_model_prepare(model, NULL, NULL), QCNN_OK);
    bytes file = save_bytes(model);
    const char *path = "test_container.qcnn";
    assert_int_equal(qcnn_save(model, path, &error), QCNN_OK);
    qcnn_load_options options = qcnn_load_options_default();
    for (options.copy = 0; options.copy <= 1; options.copy++)
        assert_loaded(qcnn_model_open(path, &options, &again, &error), &again, model, &error);
    assert_loaded(qcnn_model_open(path, NULL, &again, &error), &again, model, &error);
    options.kernels = "c";
    assert_int_equal(qcnn_model_load(file.data, file.n, &options, &again, &error), QCNN_OK); // options.copy is 2
    memset(file.data, 0xff, file.n);                                                         // a copy does not need it any more
    assert_string_equal(qcnn_model_kernels(again), "c");
    assert_loaded(QCNN_OK, &again, model, &error);
    qcnn_bytes_free(file.data);

    file = save_bytes(model); // a buffer that is not aligned is copied
    unsigned char *shifted = malloc(file.n + 4);
    memcpy(shifted + 4, file.data, file.n);
    assert_loaded(qcnn_model_load(shifted + 4, file.n, NULL, &again, &error), &again, model, &error);
    free(shifted);
    qcnn_bytes_free(file.data);
    qcnn_model_free(model);
    unlink(path);
}

static void assert_open_fails(const char *path, qcnn_status expected, const char *message)
{
    qcnn_model *model;
    qcnn_error error = { 0 };
    for (int copy = 0; copy <= 1; copy++) {
        qcnn_load_options options = qcnn_load_options_default();
        options.copy = copy;
        assert_int_equal(qcnn_model_open(path, &options, &model, &error), expected);
        assert_null(model);
        if (!strstr(error.message, message))
            fail_msg("expected '%s' in '%s'", message, error.message);
    }
}

static void write_bytes(const char *path, const void *data, size_t n)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, n, file), n);
    fclose(file);
}

static void test_files_that_cannot_be_opened(void **state)
{
    (void)state;
    assert_open_fails("no/such/file.qcnn", QCNN_ERROR_IO, "no/such/file.qcnn: cannot be opened: No such file");
    assert_open_fails("/", QCNN_ERROR_IO, "is not a regular file");
    assert_open_fails("/dev/null", QCNN_ERROR_IO, "is not a regular file");
    assert_open_fails(NULL, QCNN_ERROR_ARGUMENT, "no path");
    const char *path = "test_container_bad.qcnn";
    write_bytes(path, "", 0);
    assert_open_fails(path, QCNN_ERROR_FORMAT, "not a .qcnn file: 0 bytes");
    char text[100];
    memset(text, 'a', sizeof text);
    write_bytes(path, text, sizeof text);
    assert_open_fails(path, QCNN_ERROR_FORMAT, "test_container_bad.qcnn: not a .qcnn file: it does not begin");
    unlink(path);

    qcnn_model *model;
    qcnn_load_options old = { .size = 4 };
    assert_int_equal(qcnn_model_load(text, sizeof text, &old, &model, NULL), QCNN_ERROR_ARGUMENT);
    assert_int_equal(qcnn_model_load(NULL, 10, NULL, &model, NULL), QCNN_ERROR_ARGUMENT);
    assert_int_equal(qcnn_model_load(NULL, 0, NULL, &model, NULL), QCNN_ERROR_FORMAT);
    const bytes file = save_and_free(tiny());
    qcnn_load_options options = qcnn_load_options_default();
    options.kernels = "mmx";
    assert_int_equal(qcnn_model_load(file.data, file.n, &options, &model, NULL), QCNN_ERROR_ARGUMENT);
    qcnn_bytes_free(file.data);
}

static void test_reads_that_fail(void **state)
{
    (void)state;
    const char *path = "test_container_read.qcnn";
    qcnn_model *model = tiny(), *again;
    qcnn_error error;
    assert_int_equal(qcnn_save(model, path, &error), QCNN_OK);
    qcnn_model_free(model);
    qcnn_load_options options = qcnn_load_options_default();
    options.copy = 1;
    next_read = INTERRUPTED;
    assert_int_equal(qcnn_model_open(path, &options, &again, &error), QCNN_OK);
    qcnn_model_free(again);
    next_read = BROKEN;
    assert_int_equal(qcnn_model_open(path, &options, &again, &error), QCNN_ERROR_IO);
    assert_string_equal(error.message, "test_container_read.qcnn: cannot be read: Input/output error");
    next_read = SHORT;
    assert_int_equal(qcnn_model_open(path, &options, &again, &error), QCNN_ERROR_IO);
    next_read = READ;
    assert_string_equal(error.message, "test_container_read.qcnn: became shorter while it was read");
    unlink(path);
}

// ---- damage ---------------------------------------------------------------------------------------------------------

static void assert_truncation_refused(bytes file)
{
    qcnn_error error;
    for (size_t n = 0; n < file.n; n++) {
        bytes cut = { qcnn_allocate(n, 1), n };
        memcpy(cut.data, file.data, n);
        assert_int_equal(try_load(cut, &error), QCNN_ERROR_FORMAT);
        if (n >= QCNN_HEADER_BYTES) { // the same by someone who knows the format
            put(cut.data + 16, n, 8);
            qcnn_container_repair_checksums(cut.data, n);
            assert_int_equal(try_load(cut, &error), QCNN_ERROR_FORMAT);
        }
        qcnn_release(cut.data);
    }
    qcnn_bytes_free(file.data);
}

static void test_truncation_at_every_length(void **state)
{
    (void)state;
    assert_truncation_refused(save_and_free(every_op()));
    assert_truncation_refused(save_and_free(every_type()));
    assert_truncation_refused(save_and_free(coded()));
    assert_truncation_refused(save_and_free(ranged()));
}

static void test_four_corruptions_of_every_header_byte(void **state)
{
    (void)state;
    const bytes file = save_and_free(every_op());
    const size_t n_head = QCNN_HEADER_BYTES + (size_t)get(file.data + QCNN_HEADER_COUNT_AT, 4) * QCNN_ENTRY_BYTES;
    qcnn_error error;
    for (size_t i = 0; i < n_head; i++) {
        const unsigned char good = file.data[i], bad[] = { good ^ 1, good ^ 0x80, (unsigned char)~good, (unsigned char)(good + 0x11) };
        for (int k = 0; k < 4; k++) {
            file.data[i] = bad[k];
            assert_true(try_load(file, &error) != QCNN_OK);
        }
        file.data[i] = good;
    }
    assert_int_equal(try_load(file, &error), QCNN_OK);
    qcnn_bytes_free(file.data);
}

static void test_a_flipped_bit_anywhere(void **state)
{
    (void)state;
    const bytes file = save_and_free(every_op());
    qcnn_error error;
    for (size_t i = 0; i < file.n; i++) {
        file.data[i] ^= (unsigned char)(1u << i % 8);
        assert_true(try_load(file, &error) != QCNN_OK);
        file.data[i] ^= (unsigned char)(1u << i % 8);
    }
    qcnn_bytes_free(file.data);
}

// Refused or not, nothing else may happen: for the sanitizers.
static void test_changes_with_right_checksums(void **state)
{
    (void)state;
    static const unsigned char replacements[] = { 0, 1, 0x7f, 0xff };
    const bytes file = save_and_free(every_op());
    qcnn_error error;
    int n_refused = 0;
    for (size_t i = 0; i < file.n; i++)
        for (int k = 0; k < 4; k++) {
            const unsigned char good = file.data[i];
            file.data[i] = replacements[k];
            qcnn_container_repair_checksums(file.data, file.n);
            n_refused += try_load(file, &error) != QCNN_OK;
            file.data[i] = good;
        }
    assert_true(n_refused > 1000);
    qcnn_bytes_free(file.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_op),
        cmocka_unit_test(test_every_type),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_coded),
        cmocka_unit_test(test_every_operator_and_function_has_a_number),
        cmocka_unit_test(test_every_number_of_codewords),
        cmocka_unit_test(test_bits_of_all_widths_and_counts),
        cmocka_unit_test(test_ways_to_load),
        cmocka_unit_test(test_files_that_cannot_be_opened),
        cmocka_unit_test(test_reads_that_fail),
        cmocka_unit_test(test_truncation_at_every_length),
        cmocka_unit_test(test_four_corruptions_of_every_header_byte),
        cmocka_unit_test(test_a_flipped_bit_anywhere),
        cmocka_unit_test(test_changes_with_right_checksums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
