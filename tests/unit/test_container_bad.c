// SPDX-License-Identifier: Apache-2.0
// Handcrafted bad .qcnn files, each with its own error: valid files with one thing changed and all checksums right.

#define _GNU_SOURCE // memmem
#include "bad_files.h"

// ---- one number changed ---------------------------------------------------------------------------------------------

// Where things are in the graph section of tiny(): tensors "w" (codebook) and "b"; values w, b, x, fc1, act; nodes "fc1" and
// "act". test_layout checks it.
enum {
    N_TENSORS = 8,
    N_VALUES = 12,
    N_NODES = 16,
    N_INPUTS = 20,
    N_OUTPUTS = 24,
    W_STORAGE = 28,
    W_ERROR = 32,
    W_RANK = 36,
    W_DIM0 = 40,
    W_DIM1 = 48,
    W_TYPE = 56,
    W_GROUPS = 60,
    W_SETS = 64,
    W_INPUTS = 68,
    W_OUTPUTS = 72,
    W_TAPS = 76,
    W_SUBSPACE = 80,
    W_CODEWORDS = 84,
    B_STORAGE = 88,
    B_ERROR = 92,
    B_RANK = 96,
    B_DIM0 = 100,
    VALUE0_TENSOR = 108,
    VALUE0_NAME = 112,
    VALUE2_TENSOR = 122,
    VALUE3_NAME = 133,
    FC1_OP = 147,
    FC1_N_INPUTS = 149,
    FC1_OUTPUT = 151,
    FC1_NAME = 155,
    FC1_INPUTS = 160,
    FC1_FUNCTION = 172,
    ACT_OP = 184,
    ACT_N_INPUTS = 186,
    ACT_OUTPUT = 188,
    ACT_NAME = 192,
    ACT_INPUTS = 197,
    ACT_FUNCTION = 201,
    INPUT_VALUE = 217,
    INPUT_RANK = 221,
    INPUT_DIM0 = 225,
    OUTPUT_VALUE = 241,
    GRAPH_BYTES = 245,
};

static const file_change changes[] = {
    // header
    { FORMAT, "does not begin with the magic", HEADER, 0, 0, 1, 0x88 },
    { FORMAT, "does not begin with the magic", HEADER, 0, 5, 1, '\n' },
    { UNSUPPORTED, "format version 0 is not known", HEADER, 0, 8, 2, 0 },
    { UNSUPPORTED, "format version 2 is not known", HEADER, 0, 8, 2, 2 },
    { FORMAT, "the header's length is not 64", HEADER, 0, 12, 4, 63 },
    { FORMAT, "the header's length is not 64", HEADER, 0, 12, 4, 128 },
    { FORMAT, "the header says 64 bytes", HEADER, 0, 16, 8, 64 },
    { FORMAT, "the header says 18446744073709551615 bytes", HEADER, 0, 16, 8, UINT64_MAX },
    { FORMAT, "4294967295 sections are more than", HEADER, 0, 24, 4, UINT32_MAX },
    { FORMAT, "65537 sections are more than", HEADER, 0, 24, 4, 65537 },
    { FORMAT, "do not cover the file", HEADER, 0, 24, 4, 0 },
    { FORMAT, "reserved bytes of the header", HEADER, 0, 28, 1, 1 },
    { FORMAT, "reserved bytes of the header", HEADER, 0, 59, 1, 1 },
    // section table
    { UNSUPPORTED, "section 0 (GRP?) is required but not known", ENTRY, GRPH, 3, 1, 1 },
    { UNSUPPORTED, "section 3 (DATB) is required but not known", ENTRY, DATA_B, 3, 1, 'B' },
    { FORMAT, "section 3 (DATA): it has unknown flags", ENTRY, DATA_B, 4, 4, 3 },
    { FORMAT, "section 3 (DATA): wrong flags or tensor", ENTRY, DATA_B, 4, 4, 0 },
    { UNSUPPORTED, "section 2 (ASGN) has unknown encoding 2", ENTRY, ASGN_W, 8, 4, 2 },
    { UNSUPPORTED, "section 0 (GRPH) has unknown encoding 1", ENTRY, GRPH, 8, 4, 1 },
    { FORMAT, "section 1 (CODE): only int8 numbers and assignments can be entropy-coded", ENTRY, CODE_W, 8, 4, 1 },
    { FORMAT, "section 3 (DATA): only int8 numbers and assignments can be entropy-coded", ENTRY, DATA_B, 8, 4, 1 },
    { FORMAT, "section 0 (GRPH): wrong flags or tensor", ENTRY, GRPH, 12, 4, 0 },
    { FORMAT, "section 3 (DATA): wrong flags or tensor", ENTRY, DATA_B, 12, 4, UINT32_MAX },
    { FORMAT, "section 3 (DATA): there is no tensor 2", ENTRY, DATA_B, 12, 4, 2 },
    { FORMAT, "section 3 (DATA): there is no tensor 4294967294", ENTRY, DATA_B, 12, 4, UINT32_MAX - 1 },
    { FORMAT, "section 3 (DATA): out of order, or there twice", ENTRY, DATA_B, 12, 4, 0 },
    { FORMAT, "section 1 (CODE): tensor 1 is not stored as a codebook", ENTRY, CODE_W, 12, 4, 1 },
    { FORMAT, "section 1 (DATA): tensor 0 is stored as a codebook", ENTRY, CODE_W, 0, 4, QCNN_SECTION_DATA },
    { FORMAT, "section 2 (CODE): out of order, or there twice", ENTRY, ASGN_W, 0, 4, QCNN_SECTION_CODEWORDS },
    { FORMAT, "section 2 (ASGN): tensor 1 is not stored as a codebook", ENTRY, ASGN_W, 12, 4, 1 },
    { FORMAT, "section 0 (GRPH): it does not begin at the next multiple", ENTRY, GRPH, 16, 8, 0 },
    { FORMAT, "section 1 (CODE): it does not begin at the next multiple", ENTRY, CODE_W, 16, 8, 1 << 20 },
    { FORMAT, "section 3 (DATA): it does not begin at the next multiple", ENTRY, DATA_B, 16, 8, UINT64_MAX - 63 },
    { FORMAT, "section 3 (DATA): it reaches beyond the end", ENTRY, DATA_B, 24, 8, 65 },
    { FORMAT, "section 3 (DATA): it reaches beyond the end", ENTRY, DATA_B, 24, 8, UINT64_MAX },
    { FORMAT, "section 3 (DATA): a plain section must decode to its own size", ENTRY, DATA_B, 24, 8, 17 },
    { FORMAT, "section 3 (DATA): a plain section must decode to its own size", ENTRY, DATA_B, 32, 8, UINT64_MAX },
    { FORMAT, "section 3 (DATA): reserved bytes of its entry", ENTRY, DATA_B, 44, 4, 1 },
    // counts of the graph
    { FORMAT, "8193 tensors are more than", CONTENT, GRPH, N_TENSORS, 4, 8193 },
    { FORMAT, "100 tensors are more than", CONTENT, GRPH, N_TENSORS, 4, 100 },
    { FORMAT, "4294967295 values are more than", CONTENT, GRPH, N_VALUES, 4, UINT32_MAX },
    { FORMAT, "20 nodes are more than", CONTENT, GRPH, N_NODES, 4, 20 },
    { FORMAT, "1025 graph inputs are more than", CONTENT, GRPH, N_INPUTS, 4, 1025 },
    { FORMAT, "80 graph outputs are more than", CONTENT, GRPH, N_OUTPUTS, 4, 80 },
    { FORMAT, "4 bytes follow its end", CONTENT, GRPH, N_OUTPUTS, 4, 0 },
    { FORMAT, "it ends inside graph output 1", CONTENT, GRPH, N_OUTPUTS, 4, 2 },
    { FORMAT, "it ends inside graph output 0", CONTENT, GRPH, N_INPUTS, 4, 2 },
    // tensors
    { UNSUPPORTED, "tensor 0 has unknown storage 4", CONTENT, GRPH, W_STORAGE, 4, 4 },
    { FORMAT, "tensor 0: its error is not a finite number", CONTENT, GRPH, W_ERROR, 4, 0x7fc00000 },
    { FORMAT, "tensor 1: its error is not a finite number", CONTENT, GRPH, B_ERROR, 4, 0x7f800000 },
    { FORMAT, "tensor 0 has 9 dimensions", CONTENT, GRPH, W_RANK, 4, 9 },
    { FORMAT, "tensor 1 has 4294967295 dimensions", CONTENT, GRPH, B_RANK, 4, UINT32_MAX },
    { FORMAT, "dimension 0 of tensor 0 is out of range", CONTENT, GRPH, W_DIM0, 8, 0 },
    { FORMAT, "dimension 0 of tensor 1 is out of range", CONTENT, GRPH, B_DIM0, 8, (uint64_t)1 << 31 },
    { FORMAT, "dimension 0 of tensor 1 is out of range", CONTENT, GRPH, B_DIM0, 8, UINT64_MAX },
    { FORMAT, "section 3 (DATA): its size does not fit the shape of tensor 1", CONTENT, GRPH, B_DIM0, 8, 5 },
    { FORMAT, "section 3 (DATA): its size does not fit the shape of tensor 1", CONTENT, GRPH, B_DIM0, 8, INT32_MAX },
    { FORMAT, "tensor 0: its codebook does not fit its shape", CONTENT, GRPH, W_DIM0, 8, 5 },
    { FORMAT, "tensor 0: its codebook does not fit its shape", CONTENT, GRPH, W_DIM1, 8, 4 },
    { UNSUPPORTED, "tensor 0 has codewords of unknown type 3", CONTENT, GRPH, W_TYPE, 4, 3 },
    { FORMAT, "section 1 (CODE): its size does not fit the codebook", CONTENT, GRPH, W_TYPE, 4, 1 },
    { FORMAT, "section 1 (CODE): its size does not fit the codebook", CONTENT, GRPH, W_TYPE, 4, 2 },
    { FORMAT, "section 3 (DATA): its size does not fit the shape of tensor 1", CONTENT, GRPH, B_STORAGE, 4, 2 },
    { FORMAT, "section 3 (DATA): its size does not fit the shape of tensor 1", CONTENT, GRPH, B_STORAGE, 4, 3 },
    { FORMAT, "tensor 0: a size of its codebook is out of range", CONTENT, GRPH, W_GROUPS, 4, 0 },
    { FORMAT, "tensor 0: its codebook does not fit its shape", CONTENT, GRPH, W_GROUPS, 4, 2 },
    { FORMAT, "tensor 0: its codebook does not fit its shape", CONTENT, GRPH, W_SETS, 4, 2 },
    { FORMAT, "tensor 0: a size of its codebook is out of range", CONTENT, GRPH, W_INPUTS, 4, 0x80000000u },
    { FORMAT, "tensor 0: its codebook does not fit its shape", CONTENT, GRPH, W_INPUTS, 4, 2 },
    { FORMAT, "tensor 0: its codebook does not fit its shape", CONTENT, GRPH, W_OUTPUTS, 4, 3 },
    { FORMAT, "tensor 0: its codebook does not fit its shape", CONTENT, GRPH, W_TAPS, 4, 2 },
    { FORMAT, "tensor 0: a size of its codebook is out of range", CONTENT, GRPH, W_SUBSPACE, 4, 0 },
    { FORMAT, "tensor 0: its codebook does not fit its shape", CONTENT, GRPH, W_SUBSPACE, 4, 4 },
    { FORMAT, "section 1 (CODE): its size does not fit the codebook", CONTENT, GRPH, W_SUBSPACE, 4, 1 },
    { FORMAT, "tensor 0: a size of its codebook is out of range", CONTENT, GRPH, W_CODEWORDS, 4, 0 },
    { FORMAT, "tensor 0: its codebook does not fit its shape", CONTENT, GRPH, W_CODEWORDS, 4, 257 },
    { FORMAT, "section 1 (CODE): its size does not fit the codebook", CONTENT, GRPH, W_CODEWORDS, 4, 4 },
    // values
    { FORMAT, "value 0 refers to tensor 2 of 2", CONTENT, GRPH, VALUE0_TENSOR, 4, 2 },
    { FORMAT, "the name of value 0 has 1025 bytes", CONTENT, GRPH, VALUE0_NAME, 2, 1025 },
    { FORMAT, "it ends inside value 0", CONTENT, GRPH, VALUE0_NAME, 2, 1000 },
    { FORMAT, "the name of value 3 is not UTF-8", CONTENT, GRPH, VALUE3_NAME + 2, 1, 0x80 },
    { FORMAT, "the name of value 3 is not UTF-8", CONTENT, GRPH, VALUE3_NAME + 2, 1, 0 },
    { FORMAT, "the name of value 3 is not UTF-8", CONTENT, GRPH, VALUE3_NAME + 2, 1, 0x1b },
    // nodes
    { UNSUPPORTED, "node 0 ('fc1') has unknown operator 0", CONTENT, GRPH, FC1_OP, 2, 0 },
    { UNSUPPORTED, "node 1 ('act') has unknown operator 999", CONTENT, GRPH, ACT_OP, 2, 999 },
    { FORMAT, "node 0 ('fc1') has 0 inputs", CONTENT, GRPH, FC1_N_INPUTS, 2, 0 },
    { FORMAT, "node 1 ('act') has 65535 inputs", CONTENT, GRPH, ACT_N_INPUTS, 2, 65535 },
    { FORMAT, "node 0 ('fc1') produces value 5 of 5", CONTENT, GRPH, FC1_OUTPUT, 4, 5 },
    { FORMAT, "node 0 ('fc1') produces value 4294967295 of 5", CONTENT, GRPH, FC1_OUTPUT, 4, UINT32_MAX },
    { FORMAT, "node 'fc1': its output is no free value", CONTENT, GRPH, FC1_OUTPUT, 4, 0 },
    { FORMAT, "node 'act': its output is no free value", CONTENT, GRPH, ACT_OUTPUT, 4, 3 },
    { FORMAT, "node 0 ('fc1') reads value 5 of 5", CONTENT, GRPH, FC1_INPUTS, 4, 5 },
    { FORMAT, "node 'fc1': it reads a value that nothing before it produces", CONTENT, GRPH, FC1_INPUTS, 4, 4 },
    { FORMAT, "node 'fc1' (fc): a required input is absent", CONTENT, GRPH, FC1_INPUTS, 4, UINT32_MAX },
    { FORMAT, "node 'act': it reads a codebook where none can stand", CONTENT, GRPH, ACT_INPUTS, 4, 0 },
    { FORMAT, "node 0 ('fc1'): unknown function number", CONTENT, GRPH, FC1_FUNCTION, 4, 15 },
    { FORMAT, "node 0 ('fc1'): unknown function number", CONTENT, GRPH, FC1_FUNCTION, 4, UINT32_MAX },
    { FORMAT, "node 'fc1' (fc): an activation that cannot be fused here", CONTENT, GRPH, FC1_FUNCTION, 4, 32 },
    { FORMAT, "node 'act' (unary): not a function of one argument", CONTENT, GRPH, ACT_FUNCTION, 4, 32 },
    // inputs and outputs
    { FORMAT, "graph input 0 is value 5 of 5", CONTENT, GRPH, INPUT_VALUE, 4, 5 },
    { FORMAT, "graph input 0 is no free value", CONTENT, GRPH, INPUT_VALUE, 4, 1 },
    { FORMAT, "graph input 0 has 9 dimensions", CONTENT, GRPH, INPUT_RANK, 4, 9 },
    { FORMAT, "it ends inside graph input 0", CONTENT, GRPH, INPUT_RANK, 4, 8 },
    { FORMAT, "dimension 0 of graph input 0 is out of range", CONTENT, GRPH, INPUT_DIM0, 8, 0 },
    { FORMAT, "the last dimension of the input must equal", CONTENT, GRPH, INPUT_DIM0 + 8, 8, 4 },
    { FORMAT, "graph output 0 is value 7 of 5", CONTENT, GRPH, OUTPUT_VALUE, 4, 7 },
    { FORMAT, "graph output 0 is a codebook", CONTENT, GRPH, OUTPUT_VALUE, 4, 0 },
    // codewords and assignments: 2 bits each, codeword 3 does not exist
    { FORMAT, "codewords of tensor 0 do not end in zeros", CONTENT, CODE_W, 3 * 2 * 4 + 4, 4, 0x3f800000 },
    { FORMAT, "an assignment of tensor 0 is not below 3", CONTENT, ASGN_W, 0, 1, 3 },
    { FORMAT, "an assignment of tensor 0 is not below 3", CONTENT, ASGN_W, 1, 1, 0xc0 },
};

static void test_layout(void **state)
{
    (void)state;
    const bytes file = save_and_free(tiny());
    const unsigned char *graph = file.data + get(file.data + QCNN_HEADER_BYTES + QCNN_ENTRY_OFFSET_AT, 8);
    assert_int_equal(get(file.data + QCNN_HEADER_COUNT_AT, 4), N_SECTIONS);
    assert_int_equal(get(file.data + QCNN_HEADER_BYTES + QCNN_ENTRY_OFFSET_AT + 8, 8), GRAPH_BYTES);
    assert_memory_equal(graph + FC1_NAME, "\x03\0fc1", 5);
    assert_memory_equal(graph + ACT_NAME, "\x03\0act", 5);
    assert_int_equal(graph[W_CODEWORDS], 3);
    assert_int_equal(graph[INPUT_DIM0 + 8], 3);
    qcnn_bytes_free(file.data);
}

static void test_changes(void **state)
{
    (void)state;
    const bytes good = save_and_free(tiny());
    assert_changes_refused(good, changes, sizeof changes / sizeof *changes);
    bytes bad = { qcnn_allocate(good.n, 1), good.n };
    memcpy(bad.data, good.data, good.n);
    unsigned char *input = place_of(bad, &(file_change){ FORMAT, "", CONTENT, GRPH, INPUT_DIM0, 0, 0 });
    put(input, INT32_MAX, 8);
    put(input + 8, INT32_MAX, 8);
    qcnn_container_repair_checksums(bad.data, bad.n);
    assert_refused(bad, FORMAT, "graph input 0 has too many elements");
    print_message("%zu changed files, each refused with its own error\n", sizeof changes / sizeof *changes);
    qcnn_release(bad.data);
    qcnn_bytes_free(good.data);
}

// ---- files put together from sections -------------------------------------------------------------------------------

static void test_missing_and_repeated_sections(void **state)
{
    (void)state;
    const bytes file = save_and_free(tiny());
    part parts[MAX_PARTS], other[MAX_PARTS + 1];
    const size_t n = take_apart(file, parts);
    assert_parts_refused(parts, n, FORMAT, NULL);
    assert_parts_refused(parts, 0, FORMAT, "there is no GRPH section");
    static const char *const missing[] = { "section 0 (CODE): out of order", "a section of tensor 0 is missing",
                                           "a section of tensor 0 is missing", "a section of tensor 1 is missing" };
    for (size_t left_out = 0; left_out < n; left_out++) {
        for (size_t i = 0, k = 0; i < n; i++)
            if (i != left_out)
                other[k++] = parts[i];
        assert_parts_refused(other, n - 1, FORMAT, missing[left_out]);
    }
    for (size_t twice = 0; twice < n; twice++) {
        for (size_t i = 0; i <= n; i++)
            other[i] = parts[i <= twice ? i : i - 1];
        assert_parts_refused(other, n + 1, FORMAT, "out of order, or there twice");
    }
    for (size_t i = 0; i + 1 < n; i++) {
        memcpy(other, parts, sizeof parts);
        other[i] = parts[i + 1];
        other[i + 1] = parts[i];
        assert_parts_refused(other, n, FORMAT, "out of order, or there twice");
    }
    qcnn_bytes_free(file.data);
}

static void test_sections_of_wrong_size(void **state)
{
    (void)state;
    const bytes file = save_and_free(tiny());
    part parts[MAX_PARTS] = { 0 };
    const size_t n = take_apart(file, parts);
    static const char *const expected[] = { "bytes follow its end", "does not fit the codebook of tensor 0",
                                            "does not fit the codebook of tensor 0", "does not fit the shape of tensor 1" };
    for (size_t i = 0; i < n; i++) {
        parts[i].n++;
        assert_parts_refused(parts, n, FORMAT, expected[i]);
        parts[i].n -= 2;
        assert_parts_refused(parts, n, FORMAT, i == 0 ? "it ends inside" : expected[i]);
        parts[i].n = 0;
        assert_parts_refused(parts, n, FORMAT, i == 0 ? "it ends inside its counts" : expected[i]);
        take_apart(file, parts);
    }
    for (size_t cut = 1; cut < parts[GRPH].n; cut++) { // a graph that ends anywhere
        parts[GRPH].n = cut;
        assert_parts_refused(parts, n, FORMAT, "GRPH");
        take_apart(file, parts);
    }
    void *large = qcnn_allocate_zeroed(QCNN_MAX_GRAPH_BYTES + 1, 1);
    parts[GRPH].content = large;
    parts[GRPH].n = QCNN_MAX_GRAPH_BYTES + 1;
    assert_parts_refused(parts, n, FORMAT, "GRPH section: 4194305 bytes are more");
    qcnn_release(large);
    qcnn_bytes_free(file.data);
}

static void test_unknown_sections(void **state)
{
    (void)state;
    const bytes file = save_and_free(tiny());
    part parts[MAX_PARTS], more[MAX_PARTS + 1];
    const size_t n = take_apart(file, parts);
    for (size_t at = 0; at <= n; at++) {
        for (size_t i = 0; i <= n; i++)
            more[i] = i == at ? (part){ QCNN_FOURCC('N', 'E', 'W', '!'), 0, 5, "something", 9, 0, 0 } : parts[i < at ? i : i - 1];
        assert_parts_refused(more, n + 1, FORMAT, NULL);
        more[at].flags = QCNN_FLAG_REQUIRED;
        assert_parts_refused(more, n + 1, UNSUPPORTED, "(NEW!) is required but not known here");
        more[at].flags = 4;
        assert_parts_refused(more, n + 1, FORMAT, "(NEW!): it has unknown flags");
    }
    qcnn_bytes_free(file.data);
}

static void test_padding(void **state)
{
    (void)state;
    const bytes file = save_and_free(tiny());
    for (int section = 0; section <= N_SECTIONS; section++) {
        const unsigned char *before = file.data + QCNN_HEADER_BYTES + (section - 1) * QCNN_ENTRY_BYTES;
        const size_t end =
            section == 0 ? QCNN_HEADER_BYTES + N_SECTIONS * QCNN_ENTRY_BYTES : (size_t)(get(before + 16, 8) + get(before + 24, 8));
        if (end % 64 == 0)
            continue;
        file.data[end] = 1;
        assert_refused(file, FORMAT,
                       section < N_SECTIONS ? "the padding before it is not zero" : "the padding at the end of the file is not zero");
        file.data[end] = 0;
    }
    bytes longer = { qcnn_allocate_zeroed(file.n + 64, 1), file.n + 64 };
    memcpy(longer.data, file.data, file.n);
    assert_refused(longer, FORMAT, "cut off or extended");
    put(longer.data + 16, longer.n, 8);
    qcnn_container_repair_checksums(longer.data, longer.n);
    assert_refused(longer, FORMAT, "the sections do not cover the file");
    qcnn_release(longer.data);
    qcnn_bytes_free(file.data);
}

static void test_texts(void **state)
{
    (void)state;
    const bytes file = save_and_free(tiny());
    part parts[MAX_PARTS], with[MAX_PARTS + 1];
    const size_t n = take_apart(file, parts);
    memcpy(with, parts, sizeof *parts);
    memcpy(with + 2, parts + 1, (n - 1) * sizeof *parts);
    const uint32_t prep = QCNN_SECTION_PREPROCESSING, clas = QCNN_SECTION_CLASSES, none = QCNN_NO_INDEX;
    char *large = qcnn_allocate(QCNN_MAX_TEXT_BYTES + 1, 1);
    memset(large, 'a', QCNN_MAX_TEXT_BYTES);
    large[QCNN_MAX_TEXT_BYTES] = '\n';
    char *lines = qcnn_allocate(QCNN_MAX_CLASSES + 1, 1);
    memset(lines, '\n', QCNN_MAX_CLASSES + 1);
    const struct {
        part part;
        const char *expected;
    } cases[] = {
        { { prep, 0, none, "{}\r\n\t", 5, 0, 0 }, NULL },
        { { prep, 0, none, "", 0, 0, 0 }, NULL },
        { { prep, 1, none, "{}", 2, 0, 0 }, "(PREP): wrong flags" },
        { { prep, 0, 0, "{}", 2, 0, 0 }, "(PREP): wrong flags or tensor" },
        { { prep, 0, none, "{\xff}", 3, 0, 0 }, "(PREP): it is too long, or not UTF-8" },
        { { prep, 0, none, "{\0}", 3, 0, 0 }, "(PREP): it is too long, or not UTF-8" },
        { { prep, 0, none, large, QCNN_MAX_TEXT_BYTES + 1, 0, 0 }, "(PREP): it is too long" },
        { { clas, 0, none, "a\nb\n\nb\n", 7, 0, 0 }, NULL },
        { { clas, 0, none, "", 0, 0, 0 }, NULL },
        { { clas, 0, none, "a\nb", 3, 0, 0 }, "class 1 is cut off" },
        { { clas, 0, none, "a\nb\r\n", 5, 0, 0 }, "class 1 is cut off, one too many, too long, or not UTF-8" },
        { { clas, 0, none, "\xe0\x80\x80\n", 4, 0, 0 }, "class 0 is cut off, one too many, too long, or not UTF-8" },
        { { clas, 0, none, large + QCNN_MAX_TEXT_BYTES - QCNN_MAX_NAME, QCNN_MAX_NAME + 1, 0, 0 }, NULL },
        { { clas, 0, none, large + QCNN_MAX_TEXT_BYTES - QCNN_MAX_NAME - 1, QCNN_MAX_NAME + 2, 0, 0 },
          "class 0 is cut off, one too many, too long" },
        { { clas, 0, none, large, QCNN_MAX_TEXT_BYTES + 1, 0, 0 }, "(CLAS): it is too long" },
        { { clas, 0, none, lines, QCNN_MAX_CLASSES, 0, 0 }, NULL },
        { { clas, 0, none, lines, QCNN_MAX_CLASSES + 1, 0, 0 }, "class 32768 is cut off, one too many" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        with[1] = cases[i].part;
        assert_parts_refused(with, n + 1, FORMAT, cases[i].expected);
    }
    qcnn_release(large);
    qcnn_release(lines);
    qcnn_bytes_free(file.data);
}

static float float_of(uint32_t bits)
{
    float number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

// tiny(): values 2 to 4 are no constants, tensor 0 is a codebook with two subspaces.
static void test_bad_ranges(void **state)
{
    (void)state;
    const bytes file = save_and_free(tiny());
    part parts[MAX_PARTS], with[MAX_PARTS + 1];
    const size_t n = take_apart(file, parts);
    memcpy(with, parts, sizeof *parts);
    memcpy(with + 2, parts + 1, (n - 1) * sizeof *parts);
    typedef struct record {
        uint32_t index;
        float numbers[2];
    } record;
    typedef struct ranges {
        uint32_t n_ranges, n_peaks;
        record records[4];
    } ranges;
    const float nan = float_of(0x7fc00000), infinity = float_of(0x7f800000), next = float_of(0x7149f2cb), large = float_of(0x7149f2ca);
    static const char *const bad_value = "(RANG): value", *const bad_range = "is empty, too large or not a number";
    static const char *const bad_tensor = "(RANG): tensor", *const bad_peak = "is negative, too large or not a number";
    const struct {
        const char *expected;
        ranges content;
        size_t n;
    } cases[] = {
        { NULL, { 2, 1, { { 2, { -1, 0 } }, { 4, { 0, 1 } }, { 0, { 0, 3 } } } }, 44 },
        { NULL, { 1, 1, { { 3, { -large, large } }, { 0, { 0, large } } } }, 32 },
        { NULL, { 0, 0, { { 0 } } }, 8 },
        { "it ends inside its counts", { 0, 0, { { 0 } } }, 7 },
        { "it ends inside its counts", { 0, 0, { { 0 } } }, 0 },
        { "4 bytes follow its end", { 1, 0, { { 3, { 0, 1 } } } }, 24 },
        { "it ends inside its ranges", { 1, 0, { { 3, { 0, 1 } } } }, 19 },
        { "it ends inside its ranges", { UINT32_MAX, 0, { { 3, { 0, 1 } } } }, 20 },
        { "it ends inside its peaks", { 0, 1, { { 0, { 0, 1 } } } }, 19 },
        { "it ends inside its peaks", { 0, 1, { { 0, { 0, 1 } } } }, 11 },
        { "it ends inside its peaks", { 0, UINT32_MAX, { { 0, { 0, 1 } } } }, 20 },
        { bad_value, { 1, 0, { { 5, { 0, 1 } } } }, 20 },
        { bad_value, { 1, 0, { { UINT32_MAX, { 0, 1 } } } }, 20 },
        { bad_value, { 1, 0, { { 1, { 0, 1 } } } }, 20 },
        { bad_value, { 2, 0, { { 3, { 0, 1 } }, { 3, { 0, 1 } } } }, 32 },
        { bad_value, { 2, 0, { { 3, { 0, 1 } }, { 2, { 0, 1 } } } }, 32 },
        { bad_range, { 1, 0, { { 3, { 1, 1 } } } }, 20 },
        { bad_range, { 1, 0, { { 3, { 1, 0 } } } }, 20 },
        { bad_range, { 1, 0, { { 3, { nan, 0 } } } }, 20 },
        { bad_range, { 1, 0, { { 3, { 0, nan } } } }, 20 },
        { bad_range, { 1, 0, { { 3, { 0, infinity } } } }, 20 },
        { bad_range, { 1, 0, { { 3, { -next, 0 } } } }, 20 },
        { bad_range, { 1, 0, { { 3, { 0, next } } } }, 20 },
        { bad_tensor, { 0, 1, { { 1, { 0, 1 } } } }, 20 },
        { bad_tensor, { 0, 1, { { 2, { 0, 1 } } } }, 20 },
        { bad_tensor, { 0, 2, { { 0, { 0, 1 } }, { 0, { 0, 1 } } } }, 32 },
        { bad_peak, { 0, 1, { { 0, { -1, 1 } } } }, 20 },
        { bad_peak, { 0, 1, { { 0, { 0, nan } } } }, 20 },
        { bad_peak, { 0, 1, { { 0, { 0, infinity } } } }, 20 },
        { bad_peak, { 0, 1, { { 0, { next, 1 } } } }, 20 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        with[1] = (part){ QCNN_SECTION_RANGES, 0, QCNN_NO_INDEX, &cases[i].content, cases[i].n, 0, 0 };
        assert_parts_refused(with, n + 1, FORMAT, cases[i].expected);
    }
    with[1] = (part){ QCNN_SECTION_RANGES, 0, 0, &cases[0].content, cases[0].n, 0, 0 };
    assert_parts_refused(with, n + 1, FORMAT, "(RANG): wrong flags or tensor");
    memcpy(with, parts, n * sizeof *parts);
    with[n] = (part){ QCNN_SECTION_RANGES, 0, QCNN_NO_INDEX, &cases[0].content, cases[0].n, 0, 0 };
    assert_parts_refused(with, n + 1, FORMAT, "(RANG): out of order, or there twice");
    qcnn_bytes_free(file.data);
}

// What tiny() has not: assignments that do not fill their last byte, and a window.
static void test_unused_bits_and_windows(void **state)
{
    (void)state;
    network net = new_network();
    const int x = add_input(&net, "x", SHAPE(1, 1, 4));
    qcnn_attributes a = window(3, 1, 0);
    a.n_spatial = 1;
    a.kernel[1] = a.stride[1] = a.dilation[1] = 0;
    const int y = add_node(&net, QCNN_OP_CONV, "conv", x, add_codebook(&net, "w", SHAPE(1, 1, 3), 1, 1, 1, 2), -1, a);
    assert_int_equal(qcnn_model_add_output(net.model, y, NULL), QCNN_OK);
    const bytes file = save_and_free(net.model);
    part parts[MAX_PARTS];
    assert_int_equal(take_apart(file, parts), 3);
    unsigned char *graph = (unsigned char *)parts[GRPH].content, *assignments = (unsigned char *)parts[ASGN_W].content;
    for (int bit = 3; bit < 8; bit++) {
        *assignments ^= (unsigned char)(1 << bit);
        qcnn_container_repair_checksums(file.data, file.n);
        assert_refused(file, FORMAT, "the unused bits of its last byte");
        *assignments ^= (unsigned char)(1 << bit);
    }
    unsigned char *name = memmem(graph, parts[GRPH].n, "\4\0conv", 6);
    name = memmem(name + 1, parts[GRPH].n - (size_t)(name + 1 - graph), "\4\0conv", 6); // the node's, behind the value's
    put(name + 6 + 2 * 4 + 4 + 4, 1, 4);                                                // behind the inputs and n_spatial: kernel[1]
    qcnn_container_repair_checksums(file.data, file.n);
    assert_refused(file, FORMAT, "node 0 ('conv'): a window has more dimensions than it says");
    qcnn_bytes_free(file.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_missing_and_repeated_sections),
        cmocka_unit_test(test_sections_of_wrong_size),
        cmocka_unit_test(test_unknown_sections),
        cmocka_unit_test(test_padding),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_bad_ranges),
        cmocka_unit_test(test_unused_bits_and_windows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
