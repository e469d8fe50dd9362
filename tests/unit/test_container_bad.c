// SPDX-License-Identifier: Apache-2.0
// Handcrafted bad .qcnn files, each with its own error: valid files with one thing changed and all checksums right.

#define _GNU_SOURCE // memmem
#include "container_samples.h"

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

// Where a number lies: in the header, in the table entry of a section, or in the content of one.
typedef enum place { HEADER, ENTRY, CONTENT } place;
enum { GRPH, CODE_W, ASGN_W, DATA_B, N_SECTIONS };

enum { FORMAT = QCNN_ERROR_FORMAT, UNSUPPORTED = QCNN_ERROR_UNSUPPORTED };

typedef struct file_change {
    int status;
    const char *expected; // in the message
    place place;
    int section, at, n_bytes;
    uint64_t value;
} file_change;

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

static unsigned char *place_of(bytes file, const file_change *change)
{
    unsigned char *entry = file.data + QCNN_HEADER_BYTES + change->section * QCNN_ENTRY_BYTES;
    if (change->place == HEADER)
        return file.data + change->at;
    return change->place == ENTRY ? entry + change->at : file.data + get(entry + QCNN_ENTRY_OFFSET_AT, 8) + change->at;
}

static void assert_refused(bytes file, int status, const char *expected)
{
    qcnn_error error;
    const qcnn_status got = try_load(file, &error);
    if ((int)got != status || !strstr(error.message, expected))
        fail_msg("expected '%s', got %s '%s'", expected, qcnn_status_name(got), error.message);
}

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
    bytes bad = { qcnn_allocate(good.n, 1), good.n };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        const file_change *change = &changes[i];
        memcpy(bad.data, good.data, good.n);
        unsigned char *at = place_of(bad, change);
        put(at, change->value, change->n_bytes);
        qcnn_container_repair_checksums(bad.data, bad.n);
        assert_refused(bad, change->status, change->expected);
    }
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

typedef struct part {
    uint32_t type, flags, tensor;
    const void *content;
    size_t n;
    uint32_t encoding;
    uint64_t decoded; // where it is not plain
} part;

// A file of these sections, its frame in order.
static bytes assemble(const part *parts, size_t n_parts)
{
    size_t end = QCNN_HEADER_BYTES + n_parts * QCNN_ENTRY_BYTES;
    for (size_t i = 0; i < n_parts; i++)
        end = (end + 63) / 64 * 64 + parts[i].n;
    bytes file = { NULL, (end + 63) / 64 * 64 };
    file.data = qcnn_allocate_zeroed(file.n, 1);
    memcpy(file.data, QCNN_MAGIC, QCNN_MAGIC_BYTES);
    put(file.data + 8, QCNN_FORMAT_MAJOR, 2);
    put(file.data + 10, 77, 2); // a newer minor version is none of our business
    put(file.data + 12, QCNN_HEADER_BYTES, 4);
    put(file.data + 16, file.n, 8);
    put(file.data + QCNN_HEADER_COUNT_AT, n_parts, 4);
    end = QCNN_HEADER_BYTES + n_parts * QCNN_ENTRY_BYTES;
    for (size_t i = 0; i < n_parts; i++) {
        unsigned char *entry = file.data + QCNN_HEADER_BYTES + i * QCNN_ENTRY_BYTES;
        const size_t start = (end + 63) / 64 * 64;
        put(entry, parts[i].type, 4);
        put(entry + 4, parts[i].flags, 4);
        put(entry + 8, parts[i].encoding, 4);
        put(entry + 12, parts[i].tensor, 4);
        put(entry + 16, start, 8);
        put(entry + 24, parts[i].n, 8);
        put(entry + 32, parts[i].encoding ? parts[i].decoded : parts[i].n, 8);
        memcpy(file.data + start, parts[i].content, parts[i].n);
        end = start + parts[i].n;
    }
    qcnn_container_repair_checksums(file.data, file.n);
    return file;
}

enum { MAX_PARTS = 8 };

// The sections of a file, into room for MAX_PARTS.
static size_t take_apart(bytes file, part *parts)
{
    const size_t n = (size_t)get(file.data + QCNN_HEADER_COUNT_AT, 4);
    for (size_t i = 0; i < n; i++) {
        const unsigned char *entry = file.data + QCNN_HEADER_BYTES + i * QCNN_ENTRY_BYTES;
        parts[i] = (part){ (uint32_t)get(entry, 4),
                           (uint32_t)get(entry + 4, 4),
                           (uint32_t)get(entry + 12, 4),
                           file.data + get(entry + 16, 8),
                           (size_t)get(entry + 24, 8),
                           (uint32_t)get(entry + 8, 4),
                           get(entry + 32, 8) };
    }
    return n;
}

static void assert_parts_refused(const part *parts, size_t n, int status, const char *expected)
{
    const bytes file = assemble(parts, n);
    if (expected) {
        assert_refused(file, status, expected);
    } else {
        qcnn_error error;
        if (try_load(file, &error) != QCNN_OK)
            fail_msg("refused: %s", error.message);
    }
    qcnn_release(file.data);
}

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
    part parts[MAX_PARTS];
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
    bytes bad = { qcnn_allocate(good.n, 1), good.n };
    for (size_t i = 0; i < sizeof bad_numbers / sizeof *bad_numbers; i++) {
        memcpy(bad.data, good.data, good.n);
        put(place_of(bad, &bad_numbers[i]), bad_numbers[i].value, bad_numbers[i].n_bytes);
        qcnn_container_repair_checksums(bad.data, bad.n);
        assert_refused(bad, bad_numbers[i].status, bad_numbers[i].expected);
    }
    qcnn_release(bad.data);
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
    bytes bad = { qcnn_allocate(good.n, 1), good.n };
    for (size_t i = 0; i < sizeof bad_coding / sizeof *bad_coding; i++) {
        memcpy(bad.data, good.data, good.n);
        put(place_of(bad, &bad_coding[i]), bad_coding[i].value, bad_coding[i].n_bytes);
        qcnn_container_repair_checksums(bad.data, bad.n);
        assert_refused(bad, bad_coding[i].status, bad_coding[i].expected);
    }
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
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_missing_and_repeated_sections),
        cmocka_unit_test(test_sections_of_wrong_size),
        cmocka_unit_test(test_unknown_sections),
        cmocka_unit_test(test_padding),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_bad_ranges),
        cmocka_unit_test(test_unused_bits_and_windows),
        cmocka_unit_test(test_bad_numbers),
        cmocka_unit_test(test_bad_coding),
        cmocka_unit_test(test_coded_sections_of_wrong_size),
        cmocka_unit_test(test_numbers_of_another_type),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_bombs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
