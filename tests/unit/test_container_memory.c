// SPDX-License-Identifier: Apache-2.0
// Memory of the .qcnn container: every allocation may fail, nothing leaks, and no file makes the reader take much more than
// twice its size and 16 MiB.

#include "container_samples.h"

#include <time.h>

// ---- an allocator that counts and fails -----------------------------------------------------------------------------

static struct {
    long n_calls, fail_at; // the call that fails (1: the first); 0: none
    int for_good;          // all later ones too
    long n_blocks;
    size_t bytes, peak;
} memory;

enum { PREFIX = 64 }; // before each block: its size

static void *counting_allocate(void *context, size_t n, size_t alignment)
{
    (void)context;
    memory.n_calls++;
    if (memory.fail_at && (memory.n_calls == memory.fail_at || (memory.for_good && memory.n_calls > memory.fail_at)))
        return NULL;
    unsigned char *block = aligned_alloc(alignment, n + PREFIX);
    assert_non_null(block);
    memcpy(block, &n, sizeof n);
    memory.n_blocks++;
    memory.bytes += n;
    if (memory.bytes > memory.peak)
        memory.peak = memory.bytes;
    return block + PREFIX;
}

static void counting_release(void *context, void *pointer)
{
    (void)context;
    unsigned char *block = (unsigned char *)pointer - PREFIX;
    size_t n;
    memcpy(&n, block, sizeof n);
    memory.n_blocks--;
    memory.bytes -= n;
    free(block);
}

static void count_memory(long fail_at, int for_good)
{
    memset(&memory, 0, sizeof memory);
    memory.fail_at = fail_at;
    memory.for_good = for_good;
    qcnn_set_allocator(&(qcnn_allocator){ counting_allocate, counting_release, NULL });
}

// ---- failing allocations --------------------------------------------------------------------------------------------

typedef struct subject {
    bytes file;
    const char *path;
    const qcnn_model *model;
} subject;

static qcnn_status load_in_place(const subject *s, qcnn_error *error)
{
    qcnn_model *model;
    const qcnn_status status = qcnn_model_load(s->file.data, s->file.n, NULL, &model, error);
    assert_int_equal(model == NULL, status != QCNN_OK);
    qcnn_model_free(model);
    return status;
}

static qcnn_status load_copy(const subject *s, qcnn_error *error)
{
    qcnn_load_options options = qcnn_load_options_default();
    options.copy = 1;
    qcnn_model *model;
    const qcnn_status status = qcnn_model_load(s->file.data, s->file.n, &options, &model, error);
    assert_int_equal(model == NULL, status != QCNN_OK);
    qcnn_model_free(model);
    return status;
}

static qcnn_status open_copy(const subject *s, qcnn_error *error)
{
    qcnn_load_options options = qcnn_load_options_default();
    options.copy = 1;
    qcnn_model *model;
    const qcnn_status status = qcnn_model_open(s->path, &options, &model, error);
    assert_int_equal(model == NULL, status != QCNN_OK);
    qcnn_model_free(model);
    return status;
}

static qcnn_status open_mapped(const subject *s, qcnn_error *error)
{
    qcnn_model *model;
    const qcnn_status status = qcnn_model_open(s->path, NULL, &model, error);
    assert_int_equal(model == NULL, status != QCNN_OK);
    qcnn_model_free(model);
    return status;
}

static qcnn_status save_to_memory(const subject *s, qcnn_error *error)
{
    void *data;
    size_t n;
    const qcnn_status status = qcnn_save_memory(s->model, &data, &n, error);
    assert_int_equal(data == NULL, status != QCNN_OK);
    qcnn_bytes_free(data);
    return status;
}

static qcnn_status save_to_file(const subject *s, qcnn_error *error)
{
    return qcnn_save(s->model, s->path, error);
}

static void fail_allocations(qcnn_model *model)
{
    static qcnn_status (*const calls[])(const subject *, qcnn_error *) = { load_in_place, load_copy,      open_copy,
                                                                           open_mapped,   save_to_memory, save_to_file };
    const subject s = { save_bytes(model), "test_container_memory.qcnn", model };
    assert_int_equal(qcnn_save(model, s.path, NULL), QCNN_OK);
    long n_failures = 0;
    for (size_t c = 0; c < sizeof calls / sizeof *calls; c++)
        for (int for_good = 0; for_good <= 1; for_good++) {
            long n = 1;
            for (;; n++) {
                qcnn_error error = { 0 };
                count_memory(n, for_good);
                const qcnn_status status = calls[c](&s, &error);
                const bool all_done = memory.n_calls < n;
                assert_int_equal(memory.n_blocks, 0);
                if (all_done)
                    assert_int_equal(status, QCNN_OK);
                else
                    assert_int_equal(status, QCNN_ERROR_MEMORY);
                if (all_done)
                    break;
            }
            n_failures += n - 1;
        }
    qcnn_set_allocator(NULL);
    print_message("%ld allocations failed, each a clean error\n", n_failures);
    remove(s.path);
    qcnn_bytes_free(s.file.data);
    qcnn_model_free(model);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    fail_allocations(every_op());
    fail_allocations(every_type());
    fail_allocations(coded());
    fail_allocations(ranged());
}

// ---- files that try to unfold ---------------------------------------------------------------------------------------

static void assert_modest(bytes file)
{
    qcnn_error error;
    count_memory(0, 0);
    const clock_t start = clock();
    const qcnn_status status = try_load(file, &error);
    const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    const size_t limit = 2 * file.n + ((size_t)16 << 20);
    print_message("%zu bytes: %s, %.1f MiB, %.3f s\n", file.n, status ? error.message : "ok", (double)memory.peak / (1 << 20), seconds);
    assert_true(memory.peak <= limit);
    assert_int_equal(memory.n_blocks, 0);
    assert_true(seconds < 3); // 1 s without sanitizers on a machine of our own
    qcnn_set_allocator(NULL);
}

// As many tensors, values, nodes and classes as a file may hold, with nothing in them.
static void test_as_many_as_allowed(void **state)
{
    (void)state;
    network net = new_network();
    int x = add_input(&net, "x", SHAPE(1));
    qcnn_attributes a = no_attributes();
    a.function = QCNN_ADD;
    for (int i = 0; i < QCNN_MAX_NODES - 1; i++) {
        const int b = add_dense(&net, NULL, SHAPE(1)), y = add_value(&net, NULL, -1);
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        assert_int_equal(qcnn_model_add_node(net.model, QCNN_OP_BINARY, name, (int[]){ x, b }, 2, y, &a, NULL, NULL), QCNN_OK);
        x = y;
    }
    net.model->values[x].name = qcnn_copy_text("y", 1);
    assert_int_equal(qcnn_model_add_output(net.model, x, NULL), QCNN_OK);
    for (int i = 0; i < QCNN_MAX_CLASSES; i++)
        assert_int_equal(qcnn_model_add_class(net.model, "", 0, NULL), QCNN_OK);
    const bytes file = save_and_free(net.model);
    assert_modest(file);
    qcnn_bytes_free(file.data);
}

// One bit a weight, at one weight to a subspace: dense is faster, but takes 32 times the file, and again for every node
// that shares the codebook. Beyond the budget such layers run by tables; volumes, which have none, are refused.
static void test_large_when_decoded(void **state)
{
    (void)state;
    enum { N = 2896, N_NODES = 16 };
    for (int n_spatial = 2; n_spatial <= 3; n_spatial++) {
        network net = new_network();
        const int x = add_input(&net, "x", n_spatial == 2 ? SHAPE(1, N, 2, 2) : SHAPE(1, N, 2, 2, 2));
        const int w = add_codebook(&net, "w", n_spatial == 2 ? SHAPE(N, N, 1, 1) : SHAPE(N, N, 1, 1, 1), 1, 1, 1, 2);
        qcnn_attributes a = window(1, 1, 0);
        a.n_spatial = n_spatial;
        a.kernel[2] = a.stride[2] = a.dilation[2] = n_spatial == 3;
        for (int i = 0; i < N_NODES; i++) {
            char name[16];
            snprintf(name, sizeof name, "y%d", i);
            assert_int_equal(qcnn_model_add_output(net.model, add_node(&net, QCNN_OP_CONV, name, x, w, -1, a), NULL), QCNN_OK);
        }
        void *data;
        bytes file;
        qcnn_error error;
        const qcnn_status status = qcnn_save_memory(net.model, &data, &file.n, &error);
        file.data = data;
        assert_int_equal(status, n_spatial == 2 ? QCNN_OK : QCNN_ERROR_UNSUPPORTED);
        if (status == QCNN_OK)
            assert_modest(file);
        qcnn_bytes_free(file.data);
        qcnn_model_free(net.model);
    }
}

// Assignments that take no bits at all once coded: a few hundred bytes unfold to as much as a file may, and no further.
static void test_coded_to_nothing(void **state)
{
    (void)state;
    static const int sizes[] = { 4 << 20, 8 << 20, 10 << 20 };
    for (int i = 0; i < 3; i++) {
        const int n_outputs = sizes[i];
        network net = new_network();
        const int x = add_input(&net, "x", SHAPE(1, 1)), w = add_codebook(&net, "w", SHAPE(n_outputs, 1), 1, 1, 1, 2);
        memset(net.model->tensors[0].owned_assignments, 0, (size_t)n_outputs);
        assert_int_equal(qcnn_model_add_output(net.model, add_node(&net, QCNN_OP_FC, "y", x, w, -1, no_attributes()), NULL), QCNN_OK);
        const bytes file = save_and_free(net.model); // plain where the coded form would unfold too far
        assert_true((file.n < 1000) == (n_outputs <= 8 << 20));
        assert_modest(file);
        qcnn_bytes_free(file.data);
    }
}

// Of two such tensors only the smaller one is stored plain where that is enough.
static void test_no_more_plain_than_needed(void **state)
{
    (void)state;
    network net = new_network();
    const int x = add_input(&net, "x", SHAPE(1, 1)), sizes[] = { 5 << 20, 7 << 19 };
    for (int i = 0; i < 2; i++) {
        const int w = add_codebook(&net, i ? "v" : "w", SHAPE(sizes[i], 1), 1, 1, 1, 2);
        memset(net.model->tensors[i].owned_assignments, 0, (size_t)sizes[i]);
        assert_int_equal(qcnn_model_add_output(net.model, add_node(&net, QCNN_OP_FC, i ? "z" : "y", x, w, -1, no_attributes()), NULL),
                         QCNN_OK);
    }
    const bytes file = save_and_free(net.model);
    assert_true(file.n > (size_t)sizes[1] / 8 && file.n < (size_t)sizes[1] / 8 + 2000);
    assert_modest(file);
    qcnn_bytes_free(file.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failing_allocations),       cmocka_unit_test(test_as_many_as_allowed),
        cmocka_unit_test(test_large_when_decoded),        cmocka_unit_test(test_coded_to_nothing),
        cmocka_unit_test(test_no_more_plain_than_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
