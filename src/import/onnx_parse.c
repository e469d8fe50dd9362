// SPDX-License-Identifier: Apache-2.0
// From the bytes of an ONNX file (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto) to lists of nodes, initializers,
// inputs and outputs. Nothing is decoded or copied here; field numbers are those of the schema.

#include <string.h>

#include "import/onnx.h"

static qcnn_status malformed(qcnn_error *error, const char *where)
{
    return qcnn_fail(error, QCNN_ERROR_FORMAT, "not a valid ONNX file: %s is cut short or no protobuf message", where);
}

static qcnn_status too_many(qcnn_error *error, const char *what, int limit)
{
    return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "the ONNX graph has more than %d %s", limit, what);
}

// A zeroed element at the end of a list that is about to grow by one.
static void *grow_list(void *list_pointer, size_t n, size_t *capacity, size_t size)
{
    if (!qcnn_reserve(list_pointer, capacity, n + 1, size))
        return NULL;
    char *list;
    memcpy(&list, list_pointer, sizeof list);
    return memset(list + n * size, 0, size);
}

// ---- tensors --------------------------------------------------------------------------------------------------------

static bool append_dim(qcnn_shape *shape, uint64_t dim)
{
    if (shape->rank >= QCNN_MAX_RANK || dim > INT64_MAX)
        return false;
    shape->dims[shape->rank++] = (int64_t)dim;
    return true;
}

qcnn_status qcnn_onnx_parse_tensor(qcnn_span message, onnx_tensor *tensor, qcnn_error *error)
{
    *tensor = (onnx_tensor){ .message = message };
    qcnn_pb_reader reader = qcnn_pb_open(message);
    qcnn_pb_field field;
    uint64_t number;
    bool valid = true;
    while (qcnn_pb_next(&reader, &field)) {
        switch (field.tag) {
        case QCNN_PB_TAG(1, QCNN_PB_VARINT): valid &= append_dim(&tensor->shape, field.value); break;
        case QCNN_PB_TAG(1, QCNN_PB_BYTES):
            while (valid && qcnn_pb_varint(&field.bytes, &number))
                valid = append_dim(&tensor->shape, number);
            valid &= field.bytes.n == 0;
            break;
        case QCNN_PB_TAG(2, QCNN_PB_VARINT): tensor->type = field.value <= INT32_MAX ? (int)field.value : 0; break;
        case QCNN_PB_TAG(8, QCNN_PB_BYTES): tensor->name = field.bytes; break;
        }
    }
    if (reader.malformed)
        return malformed(error, "a tensor");
    if (!valid)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "tensor '%.*s' has negative dimensions, or more than %d", QCNN_SPAN_TEXT(tensor->name),
                         QCNN_MAX_RANK);
    return QCNN_OK;
}

// ---- inputs and outputs ---------------------------------------------------------------------------------------------

static qcnn_status parse_dim(qcnn_span message, qcnn_shape *shape, qcnn_error *error)
{
    int64_t dim = -1;
    qcnn_pb_reader reader = qcnn_pb_open(message);
    qcnn_pb_field field;
    while (qcnn_pb_next(&reader, &field))
        if (field.tag == QCNN_PB_TAG(1, QCNN_PB_VARINT))
            dim = (int64_t)field.value > 0 ? (int64_t)field.value : -1; // some exporters write 0 or -1 for an open one
    if (reader.malformed)
        return malformed(error, "a dimension");
    if (shape->rank >= QCNN_MAX_RANK)
        return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "an input or output has more than %d dimensions", QCNN_MAX_RANK);
    shape->dims[shape->rank++] = dim;
    return QCNN_OK;
}

static qcnn_status parse_tensor_type(qcnn_span message, onnx_port *port, qcnn_error *error)
{
    qcnn_pb_reader reader = qcnn_pb_open(message), dims;
    qcnn_pb_field field, dim;
    while (qcnn_pb_next(&reader, &field)) {
        if (field.tag == QCNN_PB_TAG(1, QCNN_PB_VARINT) && field.value <= ONNX_BFLOAT16)
            port->type = (int)field.value;
        if (field.tag != QCNN_PB_TAG(2, QCNN_PB_BYTES))
            continue;
        port->shape.rank = 0;
        dims = qcnn_pb_open(field.bytes);
        while (qcnn_pb_next(&dims, &dim))
            if (dim.tag == QCNN_PB_TAG(1, QCNN_PB_BYTES))
                QCNN_TRY(parse_dim(dim.bytes, &port->shape, error));
        if (dims.malformed)
            return malformed(error, "a shape");
    }
    return reader.malformed ? malformed(error, "a tensor type") : QCNN_OK;
}

static qcnn_status parse_port(qcnn_span message, onnx_port *port, qcnn_error *error)
{
    port->shape.rank = -1;
    qcnn_pb_reader reader = qcnn_pb_open(message), type;
    qcnn_pb_field field, kind;
    while (qcnn_pb_next(&reader, &field)) {
        if (field.tag == QCNN_PB_TAG(1, QCNN_PB_BYTES))
            port->name = field.bytes;
        if (field.tag != QCNN_PB_TAG(2, QCNN_PB_BYTES))
            continue;
        type = qcnn_pb_open(field.bytes);
        while (qcnn_pb_next(&type, &kind))
            if (kind.tag == QCNN_PB_TAG(1, QCNN_PB_BYTES))
                QCNN_TRY(parse_tensor_type(kind.bytes, port, error));
        if (type.malformed)
            return malformed(error, "a type");
    }
    if (reader.malformed)
        return malformed(error, "an input or output");
    if (port->name.n == 0)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "an input or output of the ONNX graph has no name");
    return QCNN_OK;
}

// ---- nodes ----------------------------------------------------------------------------------------------------------

static qcnn_status add_argument(onnx_graph *graph, qcnn_span name, int *n, qcnn_error *error)
{
    if (++*n > ONNX_MAX_INPUTS)
        return too_many(error, "inputs or outputs at one node", ONNX_MAX_INPUTS);
    qcnn_span *argument = grow_list(&graph->arguments, graph->n_arguments, &graph->argument_capacity, sizeof *graph->arguments);
    if (!argument)
        return qcnn_fail_memory(error, graph->n_arguments * sizeof *argument);
    *argument = name;
    graph->n_arguments++;
    return QCNN_OK;
}

// The names in field `number` of the node, appended to graph->arguments.
static qcnn_status add_arguments(onnx_graph *graph, qcnn_span message, int number, int *n, qcnn_error *error)
{
    qcnn_pb_reader reader = qcnn_pb_open(message);
    qcnn_pb_field field;
    while (qcnn_pb_next(&reader, &field))
        if (field.tag == QCNN_PB_TAG(number, QCNN_PB_BYTES))
            QCNN_TRY(add_argument(graph, field.bytes, n, error));
    return QCNN_OK;
}

static qcnn_status parse_node(onnx_graph *graph, qcnn_span message, onnx_node *node, qcnn_error *error)
{
    node->message = message;
    qcnn_pb_reader reader = qcnn_pb_open(message);
    qcnn_pb_field field;
    while (qcnn_pb_next(&reader, &field))
        switch (field.tag) {
        case QCNN_PB_TAG(3, QCNN_PB_BYTES): node->name = field.bytes; break;
        case QCNN_PB_TAG(4, QCNN_PB_BYTES): node->op = field.bytes; break;
        case QCNN_PB_TAG(7, QCNN_PB_BYTES): node->domain = field.bytes; break;
        }
    if (reader.malformed)
        return malformed(error, "a node");
    if (node->op.n == 0)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "node %zu of the ONNX graph names no operator", graph->n_nodes);
    node->first_input = (int)graph->n_arguments;
    QCNN_TRY(add_arguments(graph, message, 1, &node->n_inputs, error));
    node->first_output = (int)graph->n_arguments;
    QCNN_TRY(add_arguments(graph, message, 2, &node->n_outputs, error));
    return QCNN_OK;
}

// ---- the graph ------------------------------------------------------------------------------------------------------

static qcnn_status add_node(onnx_graph *graph, qcnn_span message, qcnn_error *error)
{
    if (graph->n_nodes >= ONNX_MAX_NODES)
        return too_many(error, "nodes", ONNX_MAX_NODES);
    onnx_node *node = grow_list(&graph->nodes, graph->n_nodes, &graph->node_capacity, sizeof *node);
    if (!node)
        return qcnn_fail_memory(error, graph->n_nodes * sizeof *node);
    QCNN_TRY(parse_node(graph, message, node, error));
    graph->n_nodes++;
    return QCNN_OK;
}

static qcnn_status add_initializer(onnx_graph *graph, qcnn_span message, qcnn_error *error)
{
    if (graph->n_initializers >= ONNX_MAX_TENSORS)
        return too_many(error, "initializers", ONNX_MAX_TENSORS);
    onnx_tensor *tensor = grow_list(&graph->initializers, graph->n_initializers, &graph->initializer_capacity, sizeof *tensor);
    if (!tensor)
        return qcnn_fail_memory(error, graph->n_initializers * sizeof *tensor);
    QCNN_TRY(qcnn_onnx_parse_tensor(message, tensor, error));
    if (tensor->name.n == 0)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "an initializer of the ONNX graph has no name");
    graph->n_initializers++;
    return QCNN_OK;
}

static qcnn_status add_port(onnx_port **list, size_t *n, size_t *capacity, qcnn_span message, qcnn_error *error)
{
    if (*n >= ONNX_MAX_TENSORS) // before IR version 4 every initializer is listed among the inputs too
        return too_many(error, "inputs or outputs", ONNX_MAX_TENSORS);
    onnx_port *port = grow_list(list, *n, capacity, sizeof *port);
    if (!port)
        return qcnn_fail_memory(error, *n * sizeof *port);
    QCNN_TRY(parse_port(message, port, error));
    ++*n;
    return QCNN_OK;
}

static qcnn_status parse_graph(onnx_graph *graph, qcnn_span message, qcnn_error *error)
{
    qcnn_pb_reader reader = qcnn_pb_open(message);
    qcnn_pb_field field;
    while (qcnn_pb_next(&reader, &field))
        switch (field.tag) {
        case QCNN_PB_TAG(1, QCNN_PB_BYTES): QCNN_TRY(add_node(graph, field.bytes, error)); break;
        case QCNN_PB_TAG(5, QCNN_PB_BYTES): QCNN_TRY(add_initializer(graph, field.bytes, error)); break;
        case QCNN_PB_TAG(11, QCNN_PB_BYTES):
            QCNN_TRY(add_port(&graph->inputs, &graph->n_inputs, &graph->input_capacity, field.bytes, error));
            break;
        case QCNN_PB_TAG(12, QCNN_PB_BYTES):
            QCNN_TRY(add_port(&graph->outputs, &graph->n_outputs, &graph->output_capacity, field.bytes, error));
            break;
        case QCNN_PB_TAG(15, QCNN_PB_BYTES):
            return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "the ONNX graph has sparse initializers; store them dense");
        }
    return reader.malformed ? malformed(error, "the graph") : QCNN_OK;
}

static bool is_default_domain(qcnn_span domain)
{
    return domain.n == 0 || qcnn_span_is(domain, "ai.onnx");
}

static qcnn_status parse_opset(qcnn_span message, int64_t *opset, qcnn_error *error)
{
    qcnn_span domain = { 0 };
    int64_t version = 0;
    qcnn_pb_reader reader = qcnn_pb_open(message);
    qcnn_pb_field field;
    while (qcnn_pb_next(&reader, &field))
        switch (field.tag) {
        case QCNN_PB_TAG(1, QCNN_PB_BYTES): domain = field.bytes; break;
        case QCNN_PB_TAG(2, QCNN_PB_VARINT): version = (int64_t)field.value; break;
        }
    if (is_default_domain(domain))
        *opset = version;
    return reader.malformed ? malformed(error, "an opset") : QCNN_OK;
}

qcnn_status qcnn_onnx_parse(qcnn_span file, onnx_graph *graph, qcnn_error *error)
{
    memset(graph, 0, sizeof *graph);
    bool has_graph = false;
    qcnn_pb_reader reader = qcnn_pb_open(file);
    qcnn_pb_field field;
    while (qcnn_pb_next(&reader, &field))
        switch (field.tag) {
        case QCNN_PB_TAG(7, QCNN_PB_BYTES):
            if (has_graph)
                return qcnn_fail(error, QCNN_ERROR_FORMAT, "the ONNX file has two graphs");
            has_graph = true;
            QCNN_TRY(parse_graph(graph, field.bytes, error));
            break;
        case QCNN_PB_TAG(8, QCNN_PB_BYTES): QCNN_TRY(parse_opset(field.bytes, &graph->opset, error)); break;
        }
    if (reader.malformed)
        return malformed(error, "the model");
    if (!has_graph)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "not an ONNX model: it has no graph");
    if (graph->opset < 1)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "not a valid ONNX model: it names no operator set");
    if (graph->n_outputs == 0)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "the ONNX graph has no outputs");
    for (size_t i = 0; i < graph->n_nodes; i++)
        if (!is_default_domain(graph->nodes[i].domain))
            return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "node '%.*s': operator %.*s of domain '%.*s' is not supported",
                             QCNN_SPAN_TEXT(graph->nodes[i].name), QCNN_SPAN_TEXT(graph->nodes[i].op),
                             QCNN_SPAN_TEXT(graph->nodes[i].domain));
    return QCNN_OK;
}

void qcnn_onnx_graph_free(onnx_graph *graph)
{
    qcnn_release(graph->nodes);
    qcnn_release(graph->initializers);
    qcnn_release(graph->inputs);
    qcnn_release(graph->outputs);
    qcnn_release(graph->arguments);
    memset(graph, 0, sizeof *graph);
}
