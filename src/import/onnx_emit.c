// SPDX-License-Identifier: Apache-2.0
// What the lowering of every operator is written with: reading the inputs of the node in hand, adding nodes and constants to
// the model, binding the node's output.

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "import/compute.h"
#include "import/onnx.h"

// ---- names and errors -----------------------------------------------------------------------------------------------

static qcnn_span argument_name(const onnx_import *import, int argument)
{
    return import->graph.arguments[argument];
}

// The name users know the layer by: the node's own, or that of its weights without their suffix, or its output's.
static qcnn_span layer_name(const onnx_import *import)
{
    static const char *const suffixes[] = { ".weight", "_weight", "/weight", "_W", "_w" };
    const onnx_node *node = import->node;
    if (node->name.n)
        return node->name;
    if (node->n_inputs > 1) {
        const qcnn_span weights = argument_name(import, node->first_input + 1);
        for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
            const size_t n = strlen(suffixes[i]);
            if (weights.n > n && !memcmp(weights.data + weights.n - n, suffixes[i], n))
                return (qcnn_span){ weights.data, weights.n - n };
        }
    }
    return node->n_outputs ? argument_name(import, node->first_output) : node->op;
}

void qcnn_onnx_name_text(qcnn_span name, const char *part, char text[QCNN_ONNX_NAME_BYTES])
{
    snprintf(text, QCNN_ONNX_NAME_BYTES, "%.*s%s%s", (int)(name.n < 200 ? name.n : 200), (const char *)name.data, part ? "/" : "",
             part ? part : "");
    if (!qcnn_bytes_are_text((const unsigned char *)text, strlen(text), false))
        for (char *c = text; *c; c++)
            if (*c < ' ' || *c > '~')
                *c = '?';
}

qcnn_status qcnn_onnx_refuse(onnx_import *import, qcnn_status status, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    const qcnn_span name = layer_name(import);
    return qcnn_fail(import->error, status, "node '%.*s' (%.*s): %s", QCNN_SPAN_TEXT(name), QCNN_SPAN_TEXT(import->node->op), text);
}

// ---- inputs ---------------------------------------------------------------------------------------------------------

onnx_value *qcnn_onnx_input(onnx_import *import, int index)
{
    if (index >= import->node->n_inputs)
        return NULL;
    const int value = import->arguments[import->node->first_input + index];
    return value < 0 ? NULL : &import->values[value];
}

bool qcnn_onnx_output_used(onnx_import *import, int index)
{
    if (index >= import->node->n_outputs)
        return false;
    const int value = import->arguments[import->node->first_output + index];
    return value >= 0 && import->values[value].is_read;
}

qcnn_status qcnn_onnx_float_input(onnx_import *import, int index, int *value)
{
    const onnx_value *input = qcnn_onnx_input(import, index);
    if (!input)
        return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "input %d is missing", index);
    if (!onnx_is_float(input->type))
        return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "input %d is not a float tensor", index);
    *value = input->value;
    return QCNN_OK;
}

qcnn_status qcnn_onnx_integer_input(onnx_import *import, int index, const int64_t **list, int *n)
{
    *list = NULL;
    *n = 0;
    const onnx_value *input = qcnn_onnx_input(import, index);
    if (!input)
        return QCNN_OK;
    if (onnx_is_float(input->type))
        return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "input %d must be a constant integer tensor", index);
    *list = input->integers;
    *n = (int)qcnn_shape_elements(&input->shape);
    return QCNN_OK;
}

const float *qcnn_onnx_constant(const onnx_import *import, int value)
{
    const int tensor = import->model->values[value].tensor;
    return tensor < 0 ? NULL : import->model->tensors[tensor].data;
}

int qcnn_onnx_axis(int64_t axis, int rank)
{
    if (axis < -(int64_t)rank || axis >= rank)
        return -1;
    return (int)(axis < 0 ? axis + rank : axis);
}

qcnn_status qcnn_onnx_axes(onnx_import *import, int input, int rank, unsigned *mask, bool *given)
{
    int64_t from_attribute[QCNN_MAX_RANK];
    const int64_t *list = from_attribute;
    int n;
    *mask = 0;
    *given = qcnn_onnx_has(import->node, "axes");
    if (*given) {
        if (!qcnn_onnx_ints(import->node, "axes", from_attribute, QCNN_MAX_RANK, &n))
            return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "its axes are no list of at most %d", QCNN_MAX_RANK);
    } else {
        QCNN_TRY(qcnn_onnx_integer_input(import, input, &list, &n));
        *given = list != NULL;
    }
    for (int i = 0; i < n; i++) {
        const int axis = qcnn_onnx_axis(list[i], rank);
        if (axis < 0 || (*mask & 1u << axis))
            return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "axis %lld is out of range or named twice", (long long)list[i]);
        *mask |= 1u << axis;
    }
    return QCNN_OK;
}

// ---- constants ------------------------------------------------------------------------------------------------------

qcnn_status qcnn_onnx_charge(onnx_import *import, uint64_t n, size_t size)
{
    uint64_t bytes;
    if (!qcnn_multiply(n, size, &bytes) || bytes > import->budget)
        return qcnn_fail(import->error, QCNN_ERROR_UNSUPPORTED, "the ONNX model unfolds into constants far larger than its file");
    import->budget -= bytes;
    return QCNN_OK;
}

qcnn_status qcnn_onnx_allocate_floats(onnx_import *import, uint64_t n, float **data)
{
    *data = NULL;
    QCNN_TRY(qcnn_onnx_charge(import, n, sizeof **data));
    *data = qcnn_allocate((size_t)n, sizeof **data);
    return *data ? QCNN_OK : qcnn_fail_memory(import->error, (size_t)n * sizeof **data);
}

qcnn_status qcnn_onnx_add_constant(onnx_import *import, const qcnn_shape *shape, float *data, int *value)
{
    qcnn_tensor tensor = { .shape = *shape, .data = data, .owned_data = data, .error = -1 };
    int index;
    QCNN_TRY(qcnn_model_add_tensor(import->model, &tensor, &index, import->error));
    return qcnn_model_add_value(import->model, NULL, shape, index, value, import->error);
}

qcnn_status qcnn_onnx_add_scalar(onnx_import *import, float scalar, int *value)
{
    float *data;
    QCNN_TRY(qcnn_onnx_allocate_floats(import, 1, &data));
    *data = scalar;
    return qcnn_onnx_add_constant(import, &(qcnn_shape){ .rank = 0 }, data, value);
}

// ---- nodes ----------------------------------------------------------------------------------------------------------

// Worth computing at import when everything it reads is constant: what moves or maps data. Layers are left to the run.
static bool is_foldable(qcnn_op op)
{
    return op == QCNN_OP_UNARY || op == QCNN_OP_BINARY || op == QCNN_OP_CONCAT || op == QCNN_OP_RESHAPE || op == QCNN_OP_TRANSPOSE ||
           op == QCNN_OP_PAD || op == QCNN_OP_SLICE || op == QCNN_OP_REDUCE_MEAN || op == QCNN_OP_REDUCE_MAX;
}

static qcnn_status fold(onnx_import *import, const qcnn_node *node, const qcnn_shape *const *shapes, const float *const *data,
                        const qcnn_shape *shape, int *output)
{
    float *result;
    QCNN_TRY(qcnn_onnx_allocate_floats(import, qcnn_shape_elements(shape), &result));
    const qcnn_status status =
        qcnn_compute_node(node->op, node->name, &node->attributes, shapes, data, node->n_inputs, result, import->error);
    if (status != QCNN_OK) {
        qcnn_release(result);
        return status;
    }
    return qcnn_onnx_add_constant(import, shape, result, output);
}

qcnn_status qcnn_onnx_emit(onnx_import *import, qcnn_op op, const char *part, const int *inputs, int n_inputs,
                           const qcnn_attributes *attributes, int *output)
{
    char name[QCNN_ONNX_NAME_BYTES];
    const qcnn_shape *shapes[ONNX_MAX_INPUTS];
    const float *data[ONNX_MAX_INPUTS];
    bool constant = is_foldable(op);
    qcnn_onnx_name_text(layer_name(import), part, name);
    for (int i = 0; i < n_inputs; i++) {
        shapes[i] = inputs[i] < 0 ? NULL : qcnn_onnx_shape(import, inputs[i]);
        data[i] = inputs[i] < 0 ? NULL : qcnn_onnx_constant(import, inputs[i]);
        constant &= data[i] != NULL;
    }
    qcnn_node node = { .op = op, .name = name, .n_inputs = n_inputs };
    if (attributes)
        node.attributes = *attributes;
    qcnn_shape shape;
    QCNN_TRY(qcnn_infer_shape(&node, shapes, &shape, import->error));
    if (constant)
        return fold(import, &node, shapes, data, &shape, output);
    QCNN_TRY(qcnn_model_add_value(import->model, NULL, &shape, -1, output, import->error));
    return qcnn_model_add_node(import->model, op, name, inputs, n_inputs, *output, &node.attributes, NULL, import->error);
}

qcnn_status qcnn_onnx_emit_unary(onnx_import *import, const qcnn_activation *activation, const char *part, int input, int *output)
{
    const qcnn_attributes attributes = { .function = activation->function,
                                         .activation = { .alpha = activation->alpha, .beta = activation->beta } };
    return qcnn_onnx_emit(import, QCNN_OP_UNARY, part, &input, 1, &attributes, output);
}

qcnn_status qcnn_onnx_emit_binary(onnx_import *import, qcnn_function function, const char *part, int a, int b, int *output)
{
    const qcnn_attributes attributes = { .function = function };
    return qcnn_onnx_emit(import, QCNN_OP_BINARY, part, (const int[]){ a, b }, 2, &attributes, output);
}

qcnn_status qcnn_onnx_emit_reshape(onnx_import *import, const char *part, int input, const qcnn_shape *shape, int *output)
{
    const qcnn_shape from = *qcnn_onnx_shape(import, input);
    qcnn_attributes attributes = { .target_rank = shape->rank };
    memcpy(attributes.target, shape->dims, sizeof attributes.target);
    if (shape->rank > 0 && from.rank > 0 && !qcnn_onnx_constant(import, input)) // a larger batch goes where dimension 0 goes
        attributes.target[0] = shape->dims[0] == from.dims[0] ? 0 : -1;
    return qcnn_onnx_emit(import, QCNN_OP_RESHAPE, part, &input, 1, &attributes, output);
}

// ---- the node's output ----------------------------------------------------------------------------------------------

static onnx_value *output_value(onnx_import *import)
{
    const int value = import->node->n_outputs ? import->arguments[import->node->first_output] : -1;
    return value < 0 ? NULL : &import->values[value];
}

qcnn_status qcnn_onnx_set_float_output(onnx_import *import, int index, int value)
{
    const int argument = index < import->node->n_outputs ? import->arguments[import->node->first_output + index] : -1;
    if (argument < 0)
        return QCNN_OK; // nobody asked
    import->values[argument].known = true;
    import->values[argument].type = ONNX_FLOAT;
    import->values[argument].value = value;
    return QCNN_OK;
}

qcnn_status qcnn_onnx_set_float(onnx_import *import, int value)
{
    return qcnn_onnx_set_float_output(import, 0, value);
}

qcnn_status qcnn_onnx_set_integers(onnx_import *import, int type, const qcnn_shape *shape, int64_t *integers)
{
    onnx_value *output = output_value(import);
    if (!output) {
        qcnn_release(integers);
        return QCNN_OK;
    }
    output->known = true;
    output->type = type;
    output->shape = *shape;
    output->integers = integers;
    return QCNN_OK;
}

qcnn_status qcnn_onnx_allocate_integers(onnx_import *import, const qcnn_shape *shape, int64_t **integers)
{
    *integers = NULL;
    const uint64_t n = qcnn_shape_elements(shape);
    if (n > ONNX_MAX_INTEGERS)
        return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "an integer tensor of more than %d elements", ONNX_MAX_INTEGERS);
    QCNN_TRY(qcnn_onnx_charge(import, n, sizeof **integers));
    *integers = qcnn_allocate((size_t)n, sizeof **integers);
    return *integers ? QCNN_OK : qcnn_fail_memory(import->error, (size_t)n * sizeof **integers);
}
