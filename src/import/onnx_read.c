// SPDX-License-Identifier: Apache-2.0
// The ONNX importer's course: parse, name, order, bind the inputs, lower the nodes that an output needs, simplify, prepare.

#include <stdio.h>
#include <string.h>

#include "import/import.h"
#include "import/onnx.h"
#include "import/simplify.h"

static const uint64_t FREE_CONSTANT_BYTES = (uint64_t)8 << 20; // what constants computed from nothing may take

// ---- constants ------------------------------------------------------------------------------------------------------

// Makes tensor data a value: floats in the model, integers here.
qcnn_status qcnn_onnx_decode(onnx_import *import, const onnx_tensor *tensor, onnx_value *value)
{
    if (!onnx_is_float(tensor->type)) {
        QCNN_TRY(qcnn_onnx_charge(import, qcnn_shape_elements(&tensor->shape), sizeof *value->integers));
        QCNN_TRY(qcnn_onnx_integers_of(tensor, &import->source, &value->integers, import->error));
        value->shape = tensor->shape;
    } else {
        char name[QCNN_ONNX_NAME_BYTES];
        qcnn_tensor floats;
        int index;
        const uint64_t n = qcnn_shape_elements(&tensor->shape);
        if (n == 0)
            return qcnn_fail(import->error, QCNN_ERROR_UNSUPPORTED, "tensor '%.*s' has no elements", QCNN_SPAN_TEXT(tensor->name));
        QCNN_TRY(qcnn_onnx_floats_of(tensor, &import->source, &floats, import->error));
        const qcnn_shape shape = floats.shape;
        import->budget += 2 * n * sizeof(float); // real data may be transposed and scaled
        QCNN_TRY(qcnn_model_add_tensor(import->model, &floats, &index, import->error));
        qcnn_onnx_name_text(value->name, NULL, name);
        QCNN_TRY(qcnn_model_add_value(import->model, name, &shape, index, &value->value, import->error));
    }
    value->type = tensor->type;
    value->known = true;
    return QCNN_OK;
}

// ---- graph inputs ---------------------------------------------------------------------------------------------------

// The shape of an input at batch 1: the model's, open dimensions taken from the caller's array or side.
static qcnn_status input_shape(const onnx_import *import, const onnx_port *port, const qcnn_array *array, qcnn_shape *shape)
{
    *shape = port->shape;
    if (array && qcnn_shape_elements(&array->shape) == 0)
        return qcnn_fail(import->error, QCNN_ERROR_UNSUPPORTED, "input '%.*s' has no elements", QCNN_SPAN_TEXT(port->name));
    if (shape->rank < 0) {
        if (!array)
            return qcnn_fail(import->error, QCNN_ERROR_ARGUMENT, "the model does not say the shape of its input '%.*s'; give input tensors",
                             QCNN_SPAN_TEXT(port->name));
        *shape = array->shape;
    }
    const qcnn_shape *given = array && array->shape.rank == shape->rank ? &array->shape : NULL;
    for (int i = 0; i < shape->rank; i++) {
        if (shape->dims[i] >= 1)
            continue;
        if (i == 0)
            shape->dims[i] = 1;
        else if (given)
            shape->dims[i] = given->dims[i];
        else if (shape->rank == 4 && i >= 2 && import->options->side > 0)
            shape->dims[i] = import->options->side;
        else
            return qcnn_fail(import->error, QCNN_ERROR_ARGUMENT,
                             "input '%.*s' leaves dimension %d open; give a preprocessing with a crop, or input tensors",
                             QCNN_SPAN_TEXT(port->name), i);
    }
    return QCNN_OK;
}

static qcnn_status bind_float_input(onnx_import *import, const onnx_port *port, const qcnn_array *array, onnx_value *value)
{
    char name[QCNN_ONNX_NAME_BYTES];
    qcnn_shape shape;
    QCNN_TRY(input_shape(import, port, array, &shape));
    qcnn_onnx_name_text(port->name, NULL, name);
    QCNN_TRY(qcnn_model_add_value(import->model, name, &shape, -1, &value->value, import->error));
    value->type = ONNX_FLOAT;
    value->known = true;
    return qcnn_model_add_input(import->model, value->value, import->error);
}

static qcnn_status bind_integer_input(onnx_import *import, const onnx_port *port, const qcnn_array *array, onnx_value *value)
{
    if (!array || !array->integers)
        return qcnn_fail(import->error, QCNN_ERROR_UNSUPPORTED,
                         "input '%.*s' is no float tensor; give its value as an integer input tensor", QCNN_SPAN_TEXT(port->name));
    const uint64_t n = qcnn_shape_elements(&array->shape);
    if (n > ONNX_MAX_INTEGERS)
        return qcnn_fail(import->error, QCNN_ERROR_UNSUPPORTED, "input '%.*s': more than %d integers", QCNN_SPAN_TEXT(port->name),
                         ONNX_MAX_INTEGERS);
    value->integers = qcnn_allocate((size_t)n, sizeof *value->integers);
    if (!value->integers)
        return qcnn_fail_memory(import->error, (size_t)n * sizeof *value->integers);
    memcpy(value->integers, array->integers, (size_t)n * sizeof *value->integers);
    value->shape = array->shape;
    value->type = port->type;
    value->known = true;
    return QCNN_OK;
}

// Binds the graph's inputs in order; those with a default are constants and take no array.
static qcnn_status bind_inputs(onnx_import *import)
{
    int next = 0;
    for (size_t i = 0; i < import->graph.n_inputs; i++) {
        const onnx_port *port = &import->graph.inputs[i];
        onnx_value *value = &import->values[qcnn_onnx_find(import, port->name)];
        if (value->initializer >= 0)
            continue;
        const qcnn_array *array = import->options->inputs && next < import->options->n_inputs ? &import->options->inputs[next] : NULL;
        next++;
        if (port->type == 0 || port->type == ONNX_STRING)
            return qcnn_fail(import->error, QCNN_ERROR_UNSUPPORTED, "input '%.*s' is no tensor of numbers", QCNN_SPAN_TEXT(port->name));
        QCNN_TRY(onnx_is_float(port->type) ? bind_float_input(import, port, array, value) : bind_integer_input(import, port, array, value));
    }
    return QCNN_OK;
}

// ---- nodes ----------------------------------------------------------------------------------------------------------

static const onnx_operator *find_operator(qcnn_span name)
{
    static const onnx_operator *const tables[] = { qcnn_onnx_layers, qcnn_onnx_arithmetic, qcnn_onnx_movement };
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (const onnx_operator *entry = tables[t]; entry->name; entry++)
            if (qcnn_span_is(name, entry->name))
                return entry;
    return NULL;
}

// Everything the node reads, decoded: nodes before it have set theirs, initializers wait until somebody reads them.
static qcnn_status know_inputs(onnx_import *import)
{
    for (int i = 0; i < import->node->n_inputs; i++) {
        onnx_value *value = qcnn_onnx_input(import, i);
        if (!value || value->known)
            continue;
        if (value->initializer < 0)
            return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "it reads '%.*s', a second output that is not supported",
                                    QCNN_SPAN_TEXT(value->name));
        QCNN_TRY(qcnn_onnx_decode(import, &import->graph.initializers[value->initializer], value));
    }
    return QCNN_OK;
}

static qcnn_status lower_node(onnx_import *import, const onnx_node *node)
{
    import->node = node;
    const onnx_operator *entry = find_operator(node->op);
    if (!entry)
        return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "this operator is not supported");
    if (node->n_inputs < entry->min_inputs || node->n_inputs > entry->max_inputs)
        return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "it has %d inputs", node->n_inputs);
    QCNN_TRY(know_inputs(import));
    const onnx_value *first = qcnn_onnx_input(import, 0);
    if (first && onnx_is_float(first->type) && first->value < 0)
        return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "its first input has no value");
    const onnx_lowering lower = first && !onnx_is_float(first->type) ? entry->integers : entry->floats;
    if (!lower)
        return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "only supported on %s tensors", entry->integers ? "integer" : "float");
    return lower(import);
}

// Marks the nodes that the outputs depend on. `order` runs from producers to readers.
static void mark_needed(const onnx_import *import, const int *order, unsigned char *needed)
{
    for (size_t i = 0; i < import->graph.n_outputs; i++) {
        const int value = qcnn_onnx_find(import, import->graph.outputs[i].name);
        if (value >= 0 && import->values[value].producer >= 0)
            needed[import->values[value].producer] = 1;
    }
    for (size_t i = import->graph.n_nodes; i-- > 0;) {
        const onnx_node *node = &import->graph.nodes[order[i]];
        for (int k = 0; needed[order[i]] && k < node->n_inputs; k++) {
            const int value = import->arguments[node->first_input + k];
            if (value >= 0 && import->values[value].producer >= 0)
                needed[import->values[value].producer] = 1;
        }
    }
}

static qcnn_status lower_nodes(onnx_import *import)
{
    const size_t n = import->graph.n_nodes;
    int *order = qcnn_allocate(n, sizeof *order);
    unsigned char *needed = qcnn_allocate_zeroed(n, 1);
    qcnn_status status = order && needed ? qcnn_onnx_order(import, order) : qcnn_fail_memory(import->error, n * sizeof *order);
    if (status == QCNN_OK)
        mark_needed(import, order, needed);
    for (size_t i = 0; i < n && status == QCNN_OK; i++)
        if (needed[order[i]])
            status = lower_node(import, &import->graph.nodes[order[i]]);
    qcnn_release(order);
    qcnn_release(needed);
    return status;
}

// ---- graph outputs --------------------------------------------------------------------------------------------------

// True when `value` is made by a node and is not yet an output: then it can bear the output's name.
static bool can_be_output(const qcnn_model *model, int value)
{
    bool taken = model->values[value].tensor >= 0;
    for (size_t i = 0; i < model->n_inputs; i++)
        taken |= model->inputs[i] == value;
    for (size_t i = 0; i < model->n_outputs; i++)
        taken |= model->outputs[i] == value;
    return !taken;
}

// A node that copies `value`, for outputs that are also something else.
static qcnn_status copy_value(onnx_import *import, const char *name, int *value)
{
    const qcnn_shape shape = *qcnn_onnx_shape(import, *value);
    const qcnn_attributes attributes = { .function = QCNN_IDENTITY };
    const int input = *value;
    QCNN_TRY(qcnn_model_add_value(import->model, NULL, &shape, -1, value, import->error));
    return qcnn_model_add_node(import->model, QCNN_OP_UNARY, name, &input, 1, *value, &attributes, NULL, import->error);
}

static qcnn_status bind_output(onnx_import *import, const onnx_port *port)
{
    const int index = qcnn_onnx_find(import, port->name);
    onnx_value *value = index < 0 ? NULL : &import->values[index];
    if (!value)
        return qcnn_fail(import->error, QCNN_ERROR_FORMAT, "nothing defines the graph's output '%.*s'", QCNN_SPAN_TEXT(port->name));
    if (!value->known && value->initializer >= 0)
        QCNN_TRY(qcnn_onnx_decode(import, &import->graph.initializers[value->initializer], value));
    if (!value->known || !onnx_is_float(value->type))
        return qcnn_fail(import->error, QCNN_ERROR_UNSUPPORTED,
                         "output '%.*s' is not a float tensor, or a second output that is not supported", QCNN_SPAN_TEXT(port->name));
    char name[QCNN_ONNX_NAME_BYTES];
    qcnn_onnx_name_text(port->name, NULL, name);
    int output = value->value;
    if (!can_be_output(import->model, output))
        QCNN_TRY(copy_value(import, name, &output));
    char *copy = qcnn_copy_text(name, strlen(name));
    if (!copy)
        return qcnn_fail_memory(import->error, strlen(name));
    qcnn_release(import->model->values[output].name);
    import->model->values[output].name = copy;
    return qcnn_model_add_output(import->model, output, import->error);
}

// ---- all of it ------------------------------------------------------------------------------------------------------

static qcnn_status read_graph(onnx_import *import, qcnn_span file)
{
    QCNN_TRY(qcnn_onnx_parse(file, &import->graph, import->error));
    QCNN_TRY(qcnn_onnx_resolve_names(import));
    for (size_t i = 0; i < import->graph.n_outputs; i++) {
        const int value = qcnn_onnx_find(import, import->graph.outputs[i].name);
        if (value >= 0)
            import->values[value].is_read = true;
    }
    QCNN_TRY(bind_inputs(import));
    if (import->model->n_inputs == 0)
        return qcnn_fail(import->error, QCNN_ERROR_UNSUPPORTED, "the ONNX graph has no float input: its outputs are constants");
    QCNN_TRY(lower_nodes(import));
    for (size_t i = 0; i < import->graph.n_outputs; i++)
        QCNN_TRY(bind_output(import, &import->graph.outputs[i]));
    return QCNN_OK;
}

static void free_import(onnx_import *import)
{
    for (size_t i = 0; i < import->n_values; i++)
        qcnn_release(import->values[i].integers);
    qcnn_release(import->values);
    qcnn_release(import->arguments);
    qcnn_onnx_graph_free(&import->graph);
}

qcnn_status qcnn_onnx_read(qcnn_span file, const char *folder, bool outlives, const qcnn_import_options *options, qcnn_model **model,
                           qcnn_error *error)
{
    onnx_import import = { .source = { folder, outlives }, .options = options, .error = error, .budget = FREE_CONSTANT_BYTES };
    QCNN_TRY(qcnn_model_new(&import.model, error));
    qcnn_status status = read_graph(&import, file);
    free_import(&import);
    if (status == QCNN_OK)
        status = qcnn_simplify(import.model, error);
    if (status == QCNN_OK)
        status = qcnn_model_prepare(import.model, options->kernels, error);
    if (status == QCNN_OK)
        *model = import.model;
    else
        qcnn_model_free(import.model);
    return status;
}
