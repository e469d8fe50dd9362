// SPDX-License-Identifier: Apache-2.0
// Parsing the GRPH section of a .qcnn file: what tensors there are, the values, the nodes in running order with their
// attributes, the graph's inputs and outputs. Whether the graph makes sense is qcnn_model_prepare's business; here every number
// is in bounds and every byte accounted for.

#include <string.h>

#include "base/checked.h"
#include "model/container.h"

typedef struct graph_parser {
    qcnn_cursor cursor;
    qcnn_model *model;
    qcnn_error *error;
    uint32_t n_tensors, n_values, n_nodes, n_inputs, n_outputs;
    char name[QCNN_MAX_NAME + 1]; // the last one read
} graph_parser;

#define REFUSE_GRAPH(parser, ...) qcnn_fail((parser)->error, QCNN_ERROR_FORMAT, "GRPH section: " __VA_ARGS__)

// ---- pieces ---------------------------------------------------------------------------------------------------------

static qcnn_status read_name(graph_parser *parser, const char *of, uint32_t index)
{
    const size_t n = qcnn_read_u16(&parser->cursor);
    if (n > QCNN_MAX_NAME)
        return REFUSE_GRAPH(parser, "the name of %s %u has %zu bytes, more than %d", of, index, n, QCNN_MAX_NAME);
    const unsigned char *bytes = qcnn_read_bytes(&parser->cursor, n);
    if (!bytes)
        return REFUSE_GRAPH(parser, "it ends inside %s %u", of, index);
    if (!qcnn_bytes_are_text(bytes, n, false))
        return REFUSE_GRAPH(parser, "the name of %s %u is not UTF-8 text of one line", of, index);
    memcpy(parser->name, bytes, n);
    parser->name[n] = 0;
    return QCNN_OK;
}

static const char *name_or_null(const graph_parser *parser)
{
    return parser->name[0] ? parser->name : NULL;
}

static qcnn_status read_shape(graph_parser *parser, const char *of, uint32_t index, qcnn_shape *shape)
{
    const uint32_t rank = qcnn_read_u32(&parser->cursor);
    if (rank > QCNN_MAX_RANK)
        return REFUSE_GRAPH(parser, "%s %u has %u dimensions, more than %d", of, index, rank, QCNN_MAX_RANK);
    *shape = (qcnn_shape){ .rank = (int)rank };
    for (uint32_t i = 0; i < rank; i++) {
        const uint64_t dim = qcnn_read_u64(&parser->cursor);
        if (parser->cursor.failed)
            return REFUSE_GRAPH(parser, "it ends inside %s %u", of, index);
        if (dim < 1 || dim > INT32_MAX)
            return REFUSE_GRAPH(parser, "dimension %u of %s %u is out of range", i, of, index);
        shape->dims[i] = (int64_t)dim;
    }
    if (qcnn_shape_elements(shape) > QCNN_MAX_ELEMENTS)
        return REFUSE_GRAPH(parser, "%s %u has too many elements", of, index);
    return QCNN_OK;
}

// ---- tensors --------------------------------------------------------------------------------------------------------

static bool codebook_fits(const qcnn_codebook *book, const qcnn_shape *shape)
{
    uint64_t taps = 1;
    for (int i = 2; i < shape->rank; i++)
        taps *= (uint64_t)shape->dims[i]; // cannot wrap: the product of all dimensions is bounded
    return shape->rank >= 2 && (uint64_t)book->groups * (uint64_t)book->n_outputs == (uint64_t)shape->dims[0] &&
           book->n_inputs == shape->dims[1] && (uint64_t)book->n_taps == taps && (book->n_sets == 1 || book->n_sets == book->groups) &&
           book->subspace <= book->n_inputs && book->n_codewords <= QCNN_MAX_CODEWORDS;
}

static qcnn_status read_codebook(graph_parser *parser, uint32_t index, const qcnn_shape *shape, qcnn_codebook *book)
{
    const uint32_t type = qcnn_read_u32(&parser->cursor);
    int *const sizes[] = { &book->groups, &book->n_sets,   &book->n_inputs,   &book->n_outputs,
                           &book->n_taps, &book->subspace, &book->n_codewords };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const uint32_t size = qcnn_read_u32(&parser->cursor);
        if (parser->cursor.failed)
            return REFUSE_GRAPH(parser, "it ends inside tensor %u", index);
        if (size < 1 || size > INT32_MAX)
            return REFUSE_GRAPH(parser, "tensor %u: a size of its codebook is out of range", index);
        *sizes[i] = (int)size;
    }
    if (type >= QCNN_N_NUMBER_TYPES)
        return qcnn_fail(parser->error, QCNN_ERROR_UNSUPPORTED, "GRPH section: tensor %u has codewords of unknown type %u", index, type);
    if (!codebook_fits(book, shape))
        return REFUSE_GRAPH(parser, "tensor %u: its codebook does not fit its shape", index);
    book->codeword_type = (qcnn_number_type)type;
    book->n_subspaces = (book->n_inputs - 1) / book->subspace + 1;
    return QCNN_OK;
}

static bool data_type_of(uint32_t storage, qcnn_number_type *type)
{
    *type = storage == QCNN_STORAGE_INT8 ? QCNN_INT8 : storage == QCNN_STORAGE_FLOAT16 ? QCNN_FLOAT16 : QCNN_FLOAT32;
    return storage == QCNN_STORAGE_FLOAT32 || *type != QCNN_FLOAT32;
}

static qcnn_status read_tensor(graph_parser *parser, uint32_t index)
{
    const uint32_t storage = qcnn_read_u32(&parser->cursor);
    qcnn_tensor tensor = { .error = qcnn_read_f32(&parser->cursor) };
    if (!(tensor.error >= -1e30f && tensor.error <= 1e30f)) // a NaN fails too
        return REFUSE_GRAPH(parser, "tensor %u: its error is not a finite number", index);
    QCNN_TRY(read_shape(parser, "tensor", index, &tensor.shape));
    if (storage == QCNN_STORAGE_CODEBOOK)
        QCNN_TRY(read_codebook(parser, index, &tensor.shape, &tensor.codebook));
    else if (!data_type_of(storage, &tensor.data_type))
        return qcnn_fail(parser->error, QCNN_ERROR_UNSUPPORTED, "GRPH section: tensor %u has unknown storage %u", index, storage);
    if (tensor.data_type == QCNN_INT8 && tensor.shape.rank < 1)
        return REFUSE_GRAPH(parser, "tensor %u: int8 data need a dimension", index);
    int ignored;
    return qcnn_model_add_tensor(parser->model, &tensor, &ignored, parser->error);
}

// ---- values and nodes -----------------------------------------------------------------------------------------------

static qcnn_status read_value(graph_parser *parser, uint32_t index)
{
    const uint32_t tensor = qcnn_read_u32(&parser->cursor);
    QCNN_TRY(read_name(parser, "value", index));
    if (tensor != QCNN_NO_INDEX && tensor >= parser->n_tensors)
        return REFUSE_GRAPH(parser, "value %u refers to tensor %u of %u", index, tensor, parser->n_tensors);
    int ignored;
    return qcnn_model_add_value(parser->model, name_or_null(parser), NULL, tensor == QCNN_NO_INDEX ? -1 : (int)tensor, &ignored,
                                parser->error);
}

static qcnn_status read_node(graph_parser *parser, uint32_t index, int *inputs, uint32_t max_inputs)
{
    qcnn_cursor *cursor = &parser->cursor;
    const uint16_t number = qcnn_read_u16(cursor), n_inputs = qcnn_read_u16(cursor);
    const uint32_t output = qcnn_read_u32(cursor);
    QCNN_TRY(read_name(parser, "node", index));
    qcnn_op op;
    if (!qcnn_op_from_number(number, &op))
        return qcnn_fail(parser->error, QCNN_ERROR_UNSUPPORTED, "GRPH section: node %u ('%s') has unknown operator %u", index, parser->name,
                         number);
    if (n_inputs < 1 || n_inputs > max_inputs)
        return REFUSE_GRAPH(parser, "node %u ('%s') has %u inputs", index, parser->name, n_inputs);
    for (uint32_t i = 0; i < n_inputs; i++) {
        const uint32_t value = qcnn_read_u32(cursor);
        if (value != QCNN_NO_INDEX && value >= parser->n_values)
            return REFUSE_GRAPH(parser, "node %u ('%s') reads value %u of %u", index, parser->name, value, parser->n_values);
        inputs[i] = value == QCNN_NO_INDEX ? -1 : (int)value;
    }
    if (output >= parser->n_values)
        return REFUSE_GRAPH(parser, "node %u ('%s') produces value %u of %u", index, parser->name, output, parser->n_values);
    qcnn_attributes attributes;
    const char *wrong = qcnn_read_attributes(cursor, op, &attributes);
    if (cursor->failed)
        return REFUSE_GRAPH(parser, "it ends inside node %u", index);
    if (wrong)
        return REFUSE_GRAPH(parser, "node %u ('%s'): %s", index, parser->name, wrong);
    return qcnn_model_add_node(parser->model, op, name_or_null(parser), inputs, n_inputs, (int)output, &attributes, NULL, parser->error);
}

static qcnn_status read_nodes(graph_parser *parser)
{
    const uint32_t max_inputs = parser->n_values < UINT16_MAX ? parser->n_values : UINT16_MAX;
    int *inputs = qcnn_allocate(max_inputs, sizeof *inputs);
    if (!inputs)
        return qcnn_fail_memory(parser->error, max_inputs * sizeof *inputs);
    qcnn_status status = QCNN_OK;
    for (uint32_t i = 0; i < parser->n_nodes && status == QCNN_OK; i++)
        status = read_node(parser, i, inputs, max_inputs);
    qcnn_release(inputs);
    return status;
}

// ---- inputs and outputs ---------------------------------------------------------------------------------------------

static qcnn_status read_port(graph_parser *parser, const char *of, uint32_t index, const int *before, size_t n_before, int *port)
{
    const uint32_t value = qcnn_read_u32(&parser->cursor);
    if (parser->cursor.failed)
        return REFUSE_GRAPH(parser, "it ends inside %s %u", of, index);
    if (value >= parser->n_values)
        return REFUSE_GRAPH(parser, "%s %u is value %u of %u", of, index, value, parser->n_values);
    const char *name = parser->model->values[value].name;
    if (!name)
        return REFUSE_GRAPH(parser, "%s %u has no name", of, index);
    for (size_t i = 0; i < n_before; i++)
        if (!strcmp(parser->model->values[before[i]].name, name))
            return REFUSE_GRAPH(parser, "two of the graph's ports are %s '%s'", of, name);
    *port = (int)value;
    return QCNN_OK;
}

static qcnn_status read_ports(graph_parser *parser)
{
    qcnn_model *model = parser->model;
    int value;
    for (uint32_t i = 0; i < parser->n_inputs; i++) {
        QCNN_TRY(read_port(parser, "graph input", i, model->inputs, model->n_inputs, &value));
        QCNN_TRY(read_shape(parser, "graph input", i, &model->values[value].shape));
        QCNN_TRY(qcnn_model_add_input(model, value, parser->error));
    }
    for (uint32_t i = 0; i < parser->n_outputs; i++) {
        QCNN_TRY(read_port(parser, "graph output", i, model->outputs, model->n_outputs, &value));
        QCNN_TRY(qcnn_model_add_output(model, value, parser->error));
    }
    return QCNN_OK;
}

// Comparing all pairs of hashes is quick enough for the few thousand nodes that a file may hold.
static qcnn_status check_node_names(graph_parser *parser)
{
    const qcnn_model *model = parser->model;
    uint64_t *hashes = qcnn_allocate(model->n_nodes, sizeof *hashes);
    if (!hashes)
        return qcnn_fail_memory(parser->error, model->n_nodes * sizeof *hashes);
    const char *twice = NULL;
    for (size_t i = 0; i < model->n_nodes && !twice; i++) {
        const char *name = model->nodes[i].name;
        hashes[i] = 0xcbf29ce484222325u; // FNV-1a
        for (const char *c = name; c && *c; c++)
            hashes[i] = (hashes[i] ^ (unsigned char)*c) * 0x100000001b3u;
        for (size_t k = 0; name && k < i; k++)
            if (hashes[k] == hashes[i] && model->nodes[k].name && !strcmp(model->nodes[k].name, name))
                twice = name;
    }
    qcnn_release(hashes);
    return twice ? REFUSE_GRAPH(parser, "two nodes are called '%s'", twice) : QCNN_OK;
}

// ---- the section ----------------------------------------------------------------------------------------------------

// A count must not exceed its limit, nor what the remaining bytes could hold at `min_bytes` each.
static qcnn_status read_count(graph_parser *parser, const char *of, uint32_t limit, size_t min_bytes, uint32_t *count)
{
    *count = qcnn_read_u32(&parser->cursor);
    if (parser->cursor.failed)
        return REFUSE_GRAPH(parser, "it ends inside its counts");
    if (*count > limit || *count > parser->cursor.n_left / min_bytes)
        return REFUSE_GRAPH(parser, "%u %s are more than allowed or than its size can hold", *count, of);
    return QCNN_OK;
}

static qcnn_status read_counts(graph_parser *parser)
{
    qcnn_model *model = parser->model;
    model->original_bytes = qcnn_read_u64(&parser->cursor);
    QCNN_TRY(read_count(parser, "tensors", QCNN_MAX_TENSORS, 12, &parser->n_tensors));
    QCNN_TRY(read_count(parser, "values", QCNN_MAX_VALUES, 6, &parser->n_values));
    QCNN_TRY(read_count(parser, "nodes", QCNN_MAX_NODES, 14, &parser->n_nodes));
    QCNN_TRY(read_count(parser, "graph inputs", QCNN_MAX_PORTS, 8, &parser->n_inputs));
    QCNN_TRY(read_count(parser, "graph outputs", QCNN_MAX_PORTS, 4, &parser->n_outputs));
    if (!qcnn_reserve(&model->tensors, &model->tensor_capacity, parser->n_tensors, sizeof *model->tensors) ||
        !qcnn_reserve(&model->values, &model->value_capacity, parser->n_values, sizeof *model->values) ||
        !qcnn_reserve(&model->nodes, &model->node_capacity, parser->n_nodes, sizeof *model->nodes))
        return qcnn_fail_memory(parser->error, parser->n_nodes * sizeof *model->nodes);
    return QCNN_OK;
}

qcnn_status qcnn_read_graph(const unsigned char *bytes, size_t n_bytes, qcnn_model *model, qcnn_error *error)
{
    graph_parser parser = { .cursor = { .next = bytes, .n_left = n_bytes }, .model = model, .error = error };
    if (n_bytes > QCNN_MAX_GRAPH_BYTES)
        return REFUSE_GRAPH(&parser, "%zu bytes are more than the %d allowed", n_bytes, QCNN_MAX_GRAPH_BYTES);
    QCNN_TRY(read_counts(&parser));
    for (uint32_t i = 0; i < parser.n_tensors; i++)
        QCNN_TRY(read_tensor(&parser, i));
    for (uint32_t i = 0; i < parser.n_values; i++)
        QCNN_TRY(read_value(&parser, i));
    QCNN_TRY(read_nodes(&parser));
    QCNN_TRY(read_ports(&parser));
    if (parser.cursor.n_left > 0)
        return REFUSE_GRAPH(&parser, "%zu bytes follow its end", parser.cursor.n_left);
    return check_node_names(&parser);
}
