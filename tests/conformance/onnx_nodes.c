// SPDX-License-Identifier: Apache-2.0
// Runs the ONNX project's own test cases (Debian's libonnx-testdata) for the operators that qcnn promises to read, with the
// tolerances of ONNX's backend runner. A case is skipped only when the importer says that it does not support it, and the
// reason is printed. Usage: onnx_nodes [FOLDER], the folder that holds node/, pytorch-converted/ and pytorch-operator/.

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "import/file_map.h"
#include "import/onnx.h"
#include "qcnn_compress.h"

enum { MAX_PORTS = 16, REQUIRED = 145, N_OUTCOMES = 4 };

typedef enum outcome { PASSED, SKIPPED, FAILED, NOT_OURS } outcome;

// Operators of interface.md. Cases with any other are not ours.
static const char *const operators[] = {
    "Conv",          "Gemm",
    "MatMul",        "MaxPool",
    "AveragePool",   "GlobalAveragePool",
    "GlobalMaxPool", "LRN",
    "Relu",          "LeakyRelu",
    "PRelu",         "Clip",
    "Elu",           "Sigmoid",
    "HardSigmoid",   "Tanh",
    "HardSwish",     "Softmax",
    "LogSoftmax",    "Concat",
    "Add",           "Sub",
    "Mul",           "Div",
    "Sum",           "BatchNormalization",
    "Flatten",       "Reshape",
    "Transpose",     "Squeeze",
    "Unsqueeze",     "Dropout",
    "Pad",           "Constant",
    "Identity",      "Cast",
    "ReduceMean",    "Shape",
    "Gather",        "Slice",
};

// ---- which cases ----------------------------------------------------------------------------------------------------

static bool is_our_operator(qcnn_span op)
{
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
        if (qcnn_span_is(op, operators[i]))
            return true;
    return false;
}

// Float inference: our operators only, float32 in and out, or integers in (axes, shapes).
static bool is_our_case(const onnx_graph *graph)
{
    bool any_float = graph->n_inputs == 0;
    for (size_t i = 0; i < graph->n_nodes; i++)
        if (!is_our_operator(graph->nodes[i].op))
            return false;
    for (size_t i = 0; i < graph->n_inputs; i++) {
        const int type = graph->inputs[i].type;
        if (type == 0 || type == ONNX_STRING || type == ONNX_BFLOAT16)
            return false;
        any_float |= type == ONNX_FLOAT;
    }
    return any_float && graph->outputs[0].type == ONNX_FLOAT;
}

static bool has_our_graph(qcnn_span file)
{
    onnx_graph graph;
    const bool ours = !qcnn_onnx_parse(file, &graph, NULL) && is_our_case(&graph);
    qcnn_onnx_graph_free(&graph);
    return ours;
}

// ---- tensors --------------------------------------------------------------------------------------------------------

// FOLDER/test_data_set_0/KIND_INDEX.pb as an array; false when there is none.
static bool read_array(const char *folder, const char *kind, int index, qcnn_array *array)
{
    char path[4096];
    void *file;
    size_t n_bytes;
    onnx_tensor tensor;
    qcnn_tensor floats = { 0 };
    const onnx_source source = { 0 };
    snprintf(path, sizeof path, "%s/test_data_set_0/%s_%d.pb", folder, kind, index);
    memset(array, 0, sizeof *array);
    if (qcnn_map_file(path, &file, &n_bytes, NULL))
        return false;
    if (!qcnn_onnx_parse_tensor((qcnn_span){ file, n_bytes }, &tensor, NULL)) {
        array->shape = tensor.shape;
        if (!onnx_is_float(tensor.type))
            qcnn_onnx_integers_of(&tensor, &source, &array->integers, NULL);
        else if (!qcnn_onnx_floats_of(&tensor, &source, &floats, NULL))
            array->data = floats.owned_data;
    }
    qcnn_unmap_file(file, n_bytes);
    return array->data || array->integers;
}

// Index of the first difference beyond rtol 1e-3 and atol 1e-7; -1 when there is none.
static long first_difference(const float *actual, const float *expected, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const bool equal = actual[i] == expected[i] || (isnan(actual[i]) && isnan(expected[i]));
        if (!equal && !(fabsf(actual[i] - expected[i]) <= 1e-7f + 1e-3f * fabsf(expected[i])))
            return (long)i;
    }
    return -1;
}

// ---- one case -------------------------------------------------------------------------------------------------------

static outcome compare_outputs(const char *folder, const qcnn_session *session, float *const *outputs, int n_outputs, char *reason,
                               size_t size)
{
    for (int i = 0; i < n_outputs; i++) {
        qcnn_array expected;
        if (!read_array(folder, "output", i, &expected) || !expected.data) {
            qcnn_array_free(&expected);
            snprintf(reason, size, "expected output %d cannot be read", i);
            return FAILED;
        }
        const qcnn_shape shape = qcnn_session_output_shape(session, i);
        const bool same_shape = qcnn_shape_equal(&shape, &expected.shape);
        const long at = same_shape ? first_difference(outputs[i], expected.data, (size_t)qcnn_shape_elements(&shape)) : 0;
        if (!same_shape)
            snprintf(reason, size, "output %d has another shape", i);
        else if (at >= 0)
            snprintf(reason, size, "output %d[%ld] is %g, not %g", i, at, (double)outputs[i][at], (double)expected.data[at]);
        qcnn_array_free(&expected);
        if (at >= 0)
            return FAILED;
    }
    return PASSED;
}

static outcome run_model(const char *folder, const qcnn_model *model, const qcnn_array *arrays, int n_arrays, char *reason, size_t size)
{
    const float *inputs[MAX_PORTS];
    float *outputs[MAX_PORTS];
    int n_inputs = 0;
    qcnn_session *session;
    qcnn_error error;
    for (int i = 0; i < n_arrays; i++)
        if (arrays[i].data)
            inputs[n_inputs++] = arrays[i].data;
    const int n_outputs = qcnn_model_n_outputs(model);
    if (n_inputs != qcnn_model_n_inputs(model) || n_outputs > MAX_PORTS || qcnn_session_create(model, NULL, &session, &error)) {
        snprintf(reason, size, "%s", n_inputs != qcnn_model_n_inputs(model) ? "wrong number of inputs" : error.message);
        return FAILED;
    }
    for (int i = 0; i < n_outputs; i++) {
        const qcnn_shape shape = qcnn_session_output_shape(session, i);
        outputs[i] = calloc((size_t)qcnn_shape_elements(&shape), sizeof(float));
    }
    qcnn_run(session, inputs, outputs);
    const outcome result = compare_outputs(folder, session, outputs, n_outputs, reason, size);
    for (int i = 0; i < n_outputs; i++)
        free(outputs[i]);
    qcnn_session_free(session);
    return result;
}

static outcome run_case(const char *folder, char *reason, size_t size)
{
    char path[4096];
    void *file;
    size_t n_bytes;
    qcnn_array arrays[MAX_PORTS];
    int n_arrays = 0;
    qcnn_model *model;
    qcnn_error error = { 0 };
    snprintf(path, sizeof path, "%s/model.onnx", folder);
    if (qcnn_map_file(path, &file, &n_bytes, &error))
        return NOT_OURS;
    outcome result = NOT_OURS;
    if (has_our_graph((qcnn_span){ file, n_bytes })) {
        while (n_arrays < MAX_PORTS && read_array(folder, "input", n_arrays, &arrays[n_arrays]))
            n_arrays++;
        qcnn_import_options options = qcnn_import_options_default();
        options.inputs = arrays;
        options.n_inputs = n_arrays;
        if (qcnn_import_onnx(file, n_bytes, NULL, &options, &model, &error)) {
            result = error.status == QCNN_ERROR_UNSUPPORTED ? SKIPPED : FAILED;
            snprintf(reason, size, "%s", error.message);
        } else
            result = run_model(folder, model, arrays, n_arrays, reason, size);
        qcnn_model_free(model);
        while (n_arrays > 0)
            qcnn_array_free(&arrays[--n_arrays]);
    }
    qcnn_unmap_file(file, n_bytes);
    return result;
}

// ---- all cases ------------------------------------------------------------------------------------------------------

static void run_folder(const char *root, const char *set, int counts[N_OUTCOMES])
{
    static const char *const words[] = { "passed", "SKIPPED", "FAILED", "" };
    char folder[2048], path[3072], reason[600];
    struct dirent **entries;
    snprintf(folder, sizeof folder, "%s/%s", root, set);
    const int n = scandir(folder, &entries, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        reason[0] = 0;
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        const outcome result = strncmp(entries[i]->d_name, "test_", 5) ? NOT_OURS : run_case(path, reason, sizeof reason);
        counts[result]++;
        if (result == SKIPPED || result == FAILED)
            printf("%s %s/%s: %s\n", words[result], set, entries[i]->d_name, reason);
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
}

int main(int argc, char **argv)
{
    const char *root = argc > 1 ? argv[1] : "/usr/share/libonnx-testdata/data";
    int nodes[N_OUTCOMES] = { 0 }, networks[N_OUTCOMES] = { 0 };
    if (access(root, R_OK)) {
        printf("SKIPPED: %s absent (Debian package libonnx-testdata)\n", root);
        return 77;
    }
    run_folder(root, "node", nodes);
    run_folder(root, "pytorch-operator", networks);
    run_folder(root, "pytorch-converted", networks);
    printf("conformance: %d passed, %d skipped of %d node tests; %d passed, %d skipped of %d PyTorch exports (opset 6)\n", nodes[PASSED],
           nodes[SKIPPED], nodes[PASSED] + nodes[SKIPPED] + nodes[FAILED], networks[PASSED], networks[SKIPPED],
           networks[PASSED] + networks[SKIPPED] + networks[FAILED]);
    return nodes[FAILED] || networks[FAILED] || nodes[PASSED] < REQUIRED;
}
