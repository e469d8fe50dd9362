// SPDX-License-Identifier: Apache-2.0
// The format stays what it is: today's writer makes the same bytes as the files in tests/golden, and a second reader, a Python
// script written from docs/format.md, sees in them and in random networks what the C reader sees.
// After an intended change: test_container_golden --update.

#include "container_samples.h"

#include <cJSON.h>
#include <unistd.h>

#include "base/crc32.h"

#define PYTHON "/usr/bin/python3" // Debian's, the one that has NumPy

static const struct {
    const char *path;
    qcnn_model *(*make)(void);
} goldens[] = {
    { QCNN_SOURCE_DIR "/tests/golden/every_op.qcnn", every_op },
    { QCNN_SOURCE_DIR "/tests/golden/every_type.qcnn", every_type },
    { QCNN_SOURCE_DIR "/tests/golden/coded.qcnn", coded },
    { QCNN_SOURCE_DIR "/tests/golden/ranged.qcnn", ranged },
};
enum { N_GOLDENS = sizeof goldens / sizeof *goldens };

static void write_whole(const char *path, bytes file)
{
    FILE *stream = fopen(path, "wb");
    assert_non_null(stream);
    assert_int_equal(fwrite(file.data, 1, file.n, stream), file.n);
    fclose(stream);
}

// What `command` prints, with a zero behind it; NULL when it fails.
static char *output_of(const char *command)
{
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t n = 0, capacity = 1 << 22;
    char *text = calloc(capacity, 1);
    for (size_t got; n + 1 < capacity && (got = fread(text + n, 1, capacity - 1 - n, pipe)) > 0;)
        n += got;
    if (pclose(pipe) == 0)
        return text;
    free(text);
    return NULL;
}

static bool have_python(void)
{
    char *version = output_of(PYTHON " --version 2>/dev/null");
    if (!version)
        print_message("SKIPPED: " PYTHON " absent, the second reader was not run\n");
    free(version);
    return version != NULL;
}

// ---- the golden file ------------------------------------------------------------------------------------------------

static void test_same_bytes_as_ever(void **state)
{
    (void)state;
    for (int i = 0; i < N_GOLDENS; i++) {
        const bytes file = save_and_free(goldens[i].make());
        FILE *stream = fopen(goldens[i].path, "rb");
        assert_non_null(stream);
        unsigned char *golden = malloc(file.n + 1);
        assert_int_equal(fread(golden, 1, file.n + 1, stream), file.n);
        assert_memory_equal(golden, file.data, file.n);
        fclose(stream);
        free(golden);
        qcnn_bytes_free(file.data);
    }
}

// ---- the second reader ----------------------------------------------------------------------------------------------

static const cJSON *at(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    assert_non_null(item);
    return item;
}

static void assert_same_tensors(const qcnn_model *model, const cJSON *tensors)
{
    qcnn_crc32_tables crc;
    qcnn_crc32_init(&crc);
    assert_int_equal(cJSON_GetArraySize(tensors), model->n_tensors);
    for (size_t i = 0; i < model->n_tensors; i++) {
        const qcnn_tensor *tensor = &model->tensors[i];
        const size_t n = (size_t)qcnn_shape_elements(&tensor->shape);
        const cJSON *json = cJSON_GetArrayItem(tensors, (int)i);
        float *weights = malloc(n * sizeof *weights);
        if (qcnn_is_codebook(tensor))
            qcnn_codebook_decode(&tensor->codebook, weights);
        else
            memcpy(weights, tensor->data, n * sizeof *weights);
        assert_true(at(json, "crc32")->valuedouble == qcnn_crc32(&crc, 0, weights, n * sizeof *weights));
        assert_string_equal(at(json, "storage")->valuestring,
                            qcnn_is_codebook(tensor) ? "codebook" : qcnn_number_type_name(tensor->data_type));
        free(weights);
    }
}

static void assert_same_ranges(const qcnn_model *model, const cJSON *tensors, const cJSON *values)
{
    for (size_t i = 0; i < model->n_values; i++) {
        const qcnn_value *value = &model->values[i];
        const cJSON *range = cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(values, (int)i), "range");
        assert_int_equal(range != NULL, value->low < value->high);
        assert_true(!range || (float)cJSON_GetArrayItem(range, 0)->valuedouble == value->low);
        assert_true(!range || (float)cJSON_GetArrayItem(range, 1)->valuedouble == value->high);
    }
    for (size_t i = 0; i < model->n_tensors; i++) {
        const qcnn_codebook *book = &model->tensors[i].codebook;
        const cJSON *other = cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(tensors, (int)i), "codebook");
        const cJSON *peaks = cJSON_GetObjectItemCaseSensitive(other, "peaks");
        assert_int_equal(peaks != NULL, book->peaks != NULL);
        for (int k = 0; peaks && k < book->groups * book->n_subspaces; k++)
            assert_true((float)cJSON_GetArrayItem(peaks, k)->valuedouble == book->peaks[k]);
    }
}

static void assert_same_graph(const qcnn_model *model, const cJSON *json)
{
    const cJSON *graph = at(json, "graph"), *nodes = at(graph, "nodes"), *classes = at(json, "classes");
    assert_true(at(graph, "original_bytes")->valuedouble == (double)model->original_bytes);
    assert_same_tensors(model, at(graph, "tensors"));
    assert_int_equal(cJSON_GetArraySize(at(graph, "values")), model->n_values);
    assert_same_ranges(model, at(graph, "tensors"), at(graph, "values"));
    assert_int_equal(cJSON_GetArraySize(nodes), model->n_nodes);
    for (size_t i = 0; i < model->n_nodes; i++) {
        const qcnn_node *node = &model->nodes[i];
        const cJSON *other = cJSON_GetArrayItem(nodes, (int)i);
        assert_string_equal(at(other, "op")->valuestring, qcnn_op_name(node->op));
        assert_string_equal(at(other, "name")->valuestring, node->name ? node->name : "");
        assert_int_equal(at(other, "output")->valueint, node->output);
        if (node->op == QCNN_OP_UNARY || node->op == QCNN_OP_BINARY)
            assert_string_equal(at(other, "function")->valuestring, qcnn_function_name(node->attributes.function));
        if (node->op == QCNN_OP_CONV)
            assert_int_equal(at(other, "groups")->valueint, node->attributes.groups);
        for (int k = 0; k < node->n_inputs; k++)
            assert_int_equal(cJSON_GetArrayItem(at(other, "inputs"), k)->valueint, node->inputs[k]);
    }
    assert_int_equal(cJSON_GetArraySize(classes), model->n_classes);
    for (size_t i = 0; i < model->n_classes; i++)
        assert_string_equal(cJSON_GetArrayItem(classes, (int)i)->valuestring, model->classes[i]);
    if (model->preprocessing)
        assert_string_equal(at(json, "preprocessing")->valuestring, model->preprocessing);
}

static void assert_second_reader_agrees(bytes file, const char *python)
{
    const char *path = "test_container_golden.qcnn";
    write_whole(path, file);
    char command[600];
    snprintf(command, sizeof command, "%s '%s/scripts/read_qcnn.py' %s", python, QCNN_SOURCE_DIR, path);
    char *text = output_of(command);
    assert_non_null(text);
    cJSON *json = cJSON_Parse(text);
    assert_non_null(json);
    qcnn_model *model;
    assert_int_equal(qcnn_model_load(file.data, file.n, NULL, &model, NULL), QCNN_OK);
    assert_same_graph(model, json);
    qcnn_model_free(model);
    cJSON_Delete(json);
    free(text);
    unlink(path);
    qcnn_bytes_free(file.data);
}

static void test_second_reader_agrees(void **state)
{
    (void)state;
    if (!have_python())
        return;
    for (int i = 0; i < N_GOLDENS; i++) {
        assert_second_reader_agrees(save_and_free(goldens[i].make()), PYTHON);
        assert_second_reader_agrees(save_and_free(goldens[i].make()), PYTHON " -S"); // without site packages: decodes without NumPy
    }
    assert_second_reader_agrees(save_and_free(tiny()), PYTHON);
    for (int k = 1; k <= QCNN_MAX_CODEWORDS; k = 2 * k + 1) {
        network net = new_network();
        const int x = add_input(&net, "x", SHAPE(1, 9, 5, 5));
        qcnn_attributes a = window(3, 1, 0);
        a.groups = 3;
        const int y = add_node(&net, QCNN_OP_CONV, "y", x, add_codebook(&net, "w", SHAPE(21, 3, 3, 3), 3, k % 2 ? 3 : 1, 2, k), -1, a);
        assert_int_equal(qcnn_model_add_output(net.model, y, NULL), QCNN_OK);
        assert_second_reader_agrees(save_and_free(net.model), PYTHON);
    }
}

// The script is a reader like any other: what is damaged it refuses, in one line.
static void test_second_reader_refuses(void **state)
{
    (void)state;
    if (!have_python())
        return;
    const bytes file = save_and_free(tiny());
    const char *path = "test_container_golden_bad.qcnn";
    char command[600];
    snprintf(command, sizeof command, PYTHON " '%s/scripts/read_qcnn.py' %s 2>/dev/null", QCNN_SOURCE_DIR, path);
    for (size_t i = 0; i < file.n; i += 97) {
        file.data[i] ^= 4;
        write_whole(path, file);
        assert_null(output_of(command));
        file.data[i] ^= 4;
    }
    unlink(path);
    qcnn_bytes_free(file.data);
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "--update")) {
        for (int i = 0; i < N_GOLDENS; i++) {
            const bytes file = save_and_free(goldens[i].make());
            write_whole(goldens[i].path, file);
            qcnn_bytes_free(file.data);
        }
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bytes_as_ever),
        cmocka_unit_test(test_second_reader_agrees),
        cmocka_unit_test(test_second_reader_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
