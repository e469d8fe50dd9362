// SPDX-License-Identifier: Apache-2.0
// Writing a model as plain ONNX, opset 13, its weights decoded to float32, the batch left open. Field numbers are those of
// onnx.proto. Nodes and names are small and built first; the weights then go straight into a file of known length.

#include <string.h>

#include "base/checked.h"
#include "base/status.h"
#include "export/onnx_nodes.h"
#include "qcnn_compress.h"

static const uint64_t MAX_FILE_BYTES = ((uint64_t)1 << 31) - 1; // of a protobuf message

enum { MODEL_IR_VERSION = 1, MODEL_PRODUCER = 2, MODEL_PRODUCER_VERSION = 3, MODEL_GRAPH = 7, MODEL_OPSET = 8 };
enum { GRAPH_NAME = 2, GRAPH_INITIALIZER = 5, GRAPH_INPUT = 11, GRAPH_OUTPUT = 12 };
enum { TENSOR_DIM = 1, TENSOR_TYPE = 2, TENSOR_NAME = 8, TENSOR_RAW = 9, ELEMENT_FLOAT = 1 };

// A ValueInfoProto. The first dimension of an input is the batch "N"; that of an output follows from it and is left unsaid.
static void put_port(qcnn_buffer *graph, int field, const qcnn_model *model, int value)
{
    char name[QCNN_EXPORT_NAME_BYTES];
    const qcnn_shape *shape = &model->values[value].shape;
    qcnn_buffer port = { 0 }, type = { 0 }, tensor = { 0 }, dims = { 0 };
    qcnn_export_value_name(model, value, name);
    for (int i = 0; i < shape->rank; i++) {
        qcnn_buffer dim = { 0 };
        if (i == 0 && field == GRAPH_INPUT)
            qcnn_put_text(&dim, 2, "N");
        else if (i > 0)
            qcnn_put_int(&dim, 1, shape->dims[i]);
        qcnn_put_message(&dims, 1, &dim);
    }
    qcnn_put_int(&tensor, 1, ELEMENT_FLOAT);
    qcnn_put_message(&tensor, 2, &dims);
    qcnn_put_message(&type, 1, &tensor);
    qcnn_put_text(&port, 1, name);
    qcnn_put_message(&port, 2, &type);
    qcnn_put_message(graph, field, &port);
}

// Everything of the graph but the weights.
static qcnn_status build_graph(const qcnn_model *model, qcnn_buffer *graph, qcnn_error *error)
{
    qcnn_put_text(graph, GRAPH_NAME, "qcnn");
    for (size_t i = 0; i < model->n_nodes; i++)
        QCNN_TRY(qcnn_export_node(model, (int)i, graph, error));
    for (size_t i = 0; i < model->n_inputs; i++)
        put_port(graph, GRAPH_INPUT, model, model->inputs[i]);
    for (size_t i = 0; i < model->n_outputs; i++)
        put_port(graph, GRAPH_OUTPUT, model, model->outputs[i]);
    return QCNN_OK;
}

// ---- weights --------------------------------------------------------------------------------------------------------

// The TensorProto of a constant value up to its data, and how long its data is.
static void put_tensor_head(const qcnn_model *model, int value, qcnn_buffer *head, uint64_t *data_bytes)
{
    char name[QCNN_EXPORT_NAME_BYTES];
    const qcnn_shape *shape = &model->tensors[model->values[value].tensor].shape;
    qcnn_export_value_name(model, value, name);
    for (int i = 0; i < shape->rank; i++)
        qcnn_put_int(head, TENSOR_DIM, shape->dims[i]);
    qcnn_put_int(head, TENSOR_TYPE, ELEMENT_FLOAT);
    qcnn_put_text(head, TENSOR_NAME, name);
    *data_bytes = qcnn_shape_elements(shape) * sizeof(float);
    qcnn_put_length(head, TENSOR_RAW, *data_bytes);
}

// Appends the initializer of a constant value; with `data` false only its heads, as many bytes shorter as *data_bytes says.
static qcnn_status put_initializer(const qcnn_model *model, int value, bool data, qcnn_buffer *graph, uint64_t *data_bytes,
                                   qcnn_error *error)
{
    const qcnn_tensor *tensor = &model->tensors[model->values[value].tensor];
    qcnn_buffer head = { 0 };
    put_tensor_head(model, value, &head, data_bytes);
    qcnn_put_length(graph, GRAPH_INITIALIZER, head.n_bytes + *data_bytes);
    qcnn_write_bytes(graph, head.data, head.n_bytes);
    graph->failed |= head.failed;
    qcnn_release(head.data);
    if (!data || graph->failed)
        return QCNN_OK;
    if (!qcnn_is_codebook(tensor)) {
        qcnn_write_bytes(graph, tensor->data, (size_t)*data_bytes);
        return QCNN_OK;
    }
    float *weights = qcnn_allocate((size_t)*data_bytes, 1);
    if (!weights)
        return qcnn_fail_memory(error, (size_t)*data_bytes);
    qcnn_codebook_decode(&tensor->codebook, weights);
    qcnn_write_bytes(graph, weights, (size_t)*data_bytes);
    qcnn_release(weights);
    return QCNN_OK;
}

// Appends all initializers; *n_bytes is what they take with their data.
static qcnn_status put_initializers(const qcnn_model *model, bool data, qcnn_buffer *graph, uint64_t *n_bytes, qcnn_error *error)
{
    const size_t start = graph->n_bytes;
    uint64_t data_bytes, total = 0;
    for (size_t i = 0; i < model->n_values; i++) {
        if (model->values[i].tensor < 0)
            continue;
        QCNN_TRY(put_initializer(model, (int)i, data, graph, &data_bytes, error));
        if (!data && !qcnn_add(total, data_bytes, &total))
            total = UINT64_MAX / 2;
    }
    *n_bytes = total + (graph->n_bytes - start);
    return QCNN_OK;
}

// ---- the file -------------------------------------------------------------------------------------------------------

static void put_model_head(qcnn_buffer *file, uint64_t graph_bytes)
{
    qcnn_buffer opset = { 0 };
    qcnn_put_int(&opset, 2, 13);
    qcnn_put_int(file, MODEL_IR_VERSION, 7);
    qcnn_put_text(file, MODEL_PRODUCER, "qcnn");
    qcnn_put_text(file, MODEL_PRODUCER_VERSION, QCNN_VERSION);
    qcnn_put_message(file, MODEL_OPSET, &opset);
    qcnn_put_length(file, MODEL_GRAPH, graph_bytes);
}

// The whole file in *file, of which the caller releases the data.
static qcnn_status build_file(const qcnn_model *model, const qcnn_buffer *graph, qcnn_buffer *file, qcnn_error *error)
{
    qcnn_buffer heads = { 0 };
    uint64_t initializer_bytes = 0, ignored;
    QCNN_TRY(put_initializers(model, false, &heads, &initializer_bytes, error));
    const bool failed = heads.failed || graph->failed;
    qcnn_release(heads.data);
    const uint64_t total = initializer_bytes + graph->n_bytes + 256; // the model's own head is shorter than that
    if (total > MAX_FILE_BYTES)
        return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "the decoded model is larger than the 2 GiB that an ONNX file can hold");
    file->data = failed ? NULL : qcnn_allocate((size_t)total, 1);
    if (!file->data)
        return qcnn_fail_memory(error, (size_t)total);
    file->capacity = (size_t)total;
    put_model_head(file, initializer_bytes + graph->n_bytes);
    qcnn_write_bytes(file, graph->data, graph->n_bytes);
    QCNN_TRY(put_initializers(model, true, file, &ignored, error));
    return file->failed ? qcnn_fail_memory(error, (size_t)total) : QCNN_OK;
}

// Two graph inputs or outputs of one name, or one of ours, would make another graph of it.
static qcnn_status check_names(const qcnn_model *model, qcnn_error *error)
{
    for (size_t i = 0; i < model->n_inputs + model->n_outputs; i++) {
        char name[QCNN_EXPORT_NAME_BYTES], other[QCNN_EXPORT_NAME_BYTES];
        const int value = i < model->n_inputs ? model->inputs[i] : model->outputs[i - model->n_inputs];
        qcnn_export_value_name(model, value, name);
        for (size_t k = 0; k < i; k++) {
            const int earlier = k < model->n_inputs ? model->inputs[k] : model->outputs[k - model->n_inputs];
            qcnn_export_value_name(model, earlier, other);
            if (!strcmp(name, other))
                return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "two inputs or outputs are called '%s'", name);
        }
        if (model->values[value].name && !strncmp(model->values[value].name, "qcnn.value.", 11))
            return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "an input or output is called '%s', which is kept for inner values", name);
    }
    return QCNN_OK;
}

qcnn_status qcnn_export_onnx(const qcnn_model *model, const char *path, qcnn_error *error)
{
    qcnn_buffer graph = { 0 }, file = { 0 };
    QCNN_TRY(qcnn_model_require_weights(model, error));
    qcnn_status status = check_names(model, error);
    if (status == QCNN_OK)
        status = build_graph(model, &graph, error);
    if (status == QCNN_OK)
        status = build_file(model, &graph, &file, error);
    if (status == QCNN_OK)
        status = qcnn_write_file(path, file.data, file.n_bytes, error);
    qcnn_release(graph.data);
    qcnn_release(file.data);
    return status;
}
