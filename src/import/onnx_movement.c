// SPDX-License-Identifier: Apache-2.0
// Lowering of ONNX operators that make, move, cut and reduce float data.

#include <math.h>
#include <string.h>

#include "import/onnx.h"
#include "import/onnx_integers.h"

enum { MAX_GATHERED = 256 }; // rows that a Gather on data may pick one by one

// ---- passing on -----------------------------------------------------------------------------------------------------

static qcnn_status lower_identity(onnx_import *import)
{
    int input;
    QCNN_TRY(qcnn_onnx_float_input(import, 0, &input));
    return qcnn_onnx_set_float(import, input);
}

static qcnn_status lower_dropout(onnx_import *import)
{
    const onnx_value *training = qcnn_onnx_input(import, 2);
    const bool is_training =
        training && !onnx_is_float(training->type) && qcnn_shape_elements(&training->shape) == 1 && training->integers[0];
    if (is_training) {
        int ratio = -1;
        if (qcnn_onnx_input(import, 1))
            QCNN_TRY(qcnn_onnx_float_input(import, 1, &ratio));
        const float *data = ratio < 0 ? NULL : qcnn_onnx_constant(import, ratio);
        if (!data || *data != 0)
            return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "training mode is not supported");
    }
    return lower_identity(import);
}

static qcnn_status lower_cast(onnx_import *import)
{
    int input;
    QCNN_TRY(qcnn_onnx_float_input(import, 0, &input));
    const int64_t type = qcnn_onnx_int(import->node, "to", ONNX_FLOAT);
    if (type >= 0 && type <= ONNX_BFLOAT16 && onnx_is_float((int)type))
        return qcnn_onnx_set_float(import, input);
    const float *data = qcnn_onnx_constant(import, input);
    if (!data || type == ONNX_STRING)
        return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "only constants are cast from float to another kind of type");
    const qcnn_shape shape = *qcnn_onnx_shape(import, input);
    int64_t *integers;
    QCNN_TRY(qcnn_onnx_allocate_integers(import, &shape, &integers));
    const uint64_t n = qcnn_shape_elements(&shape);
    for (uint64_t i = 0; i < n; i++)
        integers[i] = type == ONNX_BOOL ? data[i] != 0 : fabsf(data[i]) < 0x1p62f ? (int64_t)data[i] : 0;
    return qcnn_onnx_set_integers(import, (int)type, &shape, integers);
}

// ---- constants ------------------------------------------------------------------------------------------------------

static qcnn_status constant_tensor(onnx_import *import, qcnn_span message)
{
    onnx_tensor tensor;
    const int output = import->node->n_outputs ? import->arguments[import->node->first_output] : -1;
    if (output < 0)
        return QCNN_OK;
    QCNN_TRY(qcnn_onnx_parse_tensor(message, &tensor, import->error));
    return qcnn_onnx_decode(import, &tensor, &import->values[output]);
}

static qcnn_status constant_floats(onnx_import *import, bool scalar)
{
    float list[QCNN_MAX_RANK * 8], *data;
    int n = 1, output;
    list[0] = qcnn_onnx_float(import->node, "value_float", 0);
    if (!scalar && (!qcnn_onnx_floats(import->node, "value_floats", list, sizeof list / sizeof *list, &n) || n == 0))
        return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "an empty or a long list");
    QCNN_TRY(qcnn_onnx_allocate_floats(import, (uint64_t)n, &data));
    memcpy(data, list, (size_t)n * sizeof *data);
    QCNN_TRY(qcnn_onnx_add_constant(import, &(qcnn_shape){ .rank = !scalar, .dims = { n } }, data, &output));
    return qcnn_onnx_set_float(import, output);
}

static qcnn_status constant_integers(onnx_import *import, bool scalar)
{
    int64_t list[QCNN_MAX_RANK * 8], *data;
    int n = 1;
    list[0] = qcnn_onnx_int(import->node, "value_int", 0);
    if (!scalar && !qcnn_onnx_ints(import->node, "value_ints", list, sizeof list / sizeof *list, &n))
        return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "a long list");
    const qcnn_shape shape = { .rank = !scalar, .dims = { n } };
    QCNN_TRY(qcnn_onnx_allocate_integers(import, &shape, &data));
    memcpy(data, list, (size_t)n * sizeof *data);
    return qcnn_onnx_set_integers(import, ONNX_INT64, &shape, data);
}

static qcnn_status lower_constant(onnx_import *import)
{
    const qcnn_span message = qcnn_onnx_message(import->node, "value");
    if (message.n)
        return constant_tensor(import, message);
    if (qcnn_onnx_has(import->node, "value_float") || qcnn_onnx_has(import->node, "value_floats"))
        return constant_floats(import, qcnn_onnx_has(import->node, "value_float"));
    if (qcnn_onnx_has(import->node, "value_int") || qcnn_onnx_has(import->node, "value_ints"))
        return constant_integers(import, qcnn_onnx_has(import->node, "value_int"));
    return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "a constant that is neither a dense tensor nor numbers");
}

// ---- moving ---------------------------------------------------------------------------------------------------------

static qcnn_status lower_reshape(onnx_import *import)
{
    int input, output;
    QCNN_TRY(qcnn_onnx_float_input(import, 0, &input));
    const qcnn_shape from = *qcnn_onnx_shape(import, input);
    qcnn_shape to;
    QCNN_TRY(qcnn_onnx_new_shape(import, &from, &to));
    QCNN_TRY(qcnn_onnx_emit_reshape(import, NULL, input, &to, &output));
    return qcnn_onnx_set_float(import, output);
}

static qcnn_status lower_transpose(onnx_import *import)
{
    int input, output, n;
    int64_t axes[QCNN_MAX_RANK];
    QCNN_TRY(qcnn_onnx_float_input(import, 0, &input));
    const int rank = qcnn_onnx_shape(import, input)->rank;
    qcnn_attributes a = { 0 };
    for (int i = 0; i < rank; i++)
        a.axes[i] = rank - 1 - i;
    if (qcnn_onnx_has(import->node, "perm")) {
        if (!qcnn_onnx_ints(import->node, "perm", axes, QCNN_MAX_RANK, &n) || n != rank)
            return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "perm needs %d numbers", rank);
        for (int i = 0; i < rank; i++)
            a.axes[i] = qcnn_onnx_axis(axes[i], rank);
    }
    QCNN_TRY(qcnn_onnx_emit(import, QCNN_OP_TRANSPOSE, NULL, &input, 1, &a, &output));
    return qcnn_onnx_set_float(import, output);
}

static qcnn_status lower_concat(onnx_import *import)
{
    int inputs[ONNX_MAX_INPUTS], output;
    for (int i = 0; i < import->node->n_inputs; i++)
        QCNN_TRY(qcnn_onnx_float_input(import, i, &inputs[i]));
    const int axis = qcnn_onnx_axis(qcnn_onnx_int(import->node, "axis", import->graph.opset < 4), qcnn_onnx_shape(import, inputs[0])->rank);
    const qcnn_attributes a = { .axis = axis };
    QCNN_TRY(qcnn_onnx_emit(import, QCNN_OP_CONCAT, NULL, inputs, import->node->n_inputs, &a, &output));
    return qcnn_onnx_set_float(import, output);
}

// Attributes of a slice that takes everything.
static qcnn_attributes whole_slice(void)
{
    qcnn_attributes a = { 0 };
    for (int i = 0; i < QCNN_MAX_RANK; i++) {
        a.end[i] = INT64_MAX;
        a.step[i] = 1;
    }
    return a;
}

static qcnn_status lower_slice(onnx_import *import)
{
    int input, output;
    onnx_range ranges[QCNN_MAX_RANK];
    QCNN_TRY(qcnn_onnx_float_input(import, 0, &input));
    const qcnn_shape shape = *qcnn_onnx_shape(import, input);
    QCNN_TRY(qcnn_onnx_ranges(import, &shape, ranges));
    qcnn_attributes a = whole_slice();
    for (int i = 0; i < shape.rank; i++) {
        if (ranges[i].count == 0 || ranges[i].step < 1)
            return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "empty and backward slices are not supported");
        const int64_t last = ranges[i].begin + (ranges[i].count - 1) * ranges[i].step;
        a.begin[i] = ranges[i].begin;
        a.step[i] = ranges[i].step;
        if (last + ranges[i].step < shape.dims[i]) // else to the end, however long the dimension is when it runs
            a.end[i] = last + 1;
    }
    QCNN_TRY(qcnn_onnx_emit(import, QCNN_OP_SLICE, NULL, &input, 1, &a, &output));
    return qcnn_onnx_set_float(import, output);
}

static qcnn_status emit_range(onnx_import *import, const char *part, int input, int axis, int64_t begin, int64_t n, int *output)
{
    qcnn_attributes a = whole_slice();
    a.begin[axis] = begin;
    a.end[axis] = begin + n;
    return qcnn_onnx_emit(import, QCNN_OP_SLICE, part, &input, 1, &a, output);
}

// Sizes from attribute or input "split", else equal ones, the last taking what is left.
static qcnn_status lower_split(onnx_import *import)
{
    int input, output, n;
    int64_t storage[64];
    const int64_t *sizes = storage;
    QCNN_TRY(qcnn_onnx_float_input(import, 0, &input));
    const qcnn_shape shape = *qcnn_onnx_shape(import, input);
    const int axis = qcnn_onnx_axis(qcnn_onnx_int(import->node, "axis", 0), shape.rank), n_parts = import->node->n_outputs;
    if (!qcnn_onnx_ints(import->node, "split", storage, 64, &n))
        QCNN_TRY(qcnn_onnx_integer_input(import, 1, &sizes, &n));
    if (axis < 0 || n_parts < 1 || (sizes && n != n_parts))
        return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "its axis is out of range, or its sizes do not match its outputs");
    const int64_t equal = (shape.dims[axis] + n_parts - 1) / n_parts;
    int64_t begin = 0;
    for (int i = 0; i < n_parts; i++) {
        int64_t size = sizes ? sizes[i] : equal;
        if (!sizes && size > shape.dims[axis] - begin)
            size = shape.dims[axis] - begin;
        if (size < 1 || size > shape.dims[axis] - begin)
            return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "its sizes do not fit the input");
        QCNN_TRY(emit_range(import, i ? "part" : NULL, input, axis, begin, size, &output));
        QCNN_TRY(qcnn_onnx_set_float_output(import, i, output));
        begin += size;
    }
    return QCNN_OK;
}

// Rows picked by constant indices: slices of one row, joined.
static qcnn_status lower_gather(onnx_import *import)
{
    int input, rows[MAX_GATHERED], output, n;
    const int64_t *indices;
    QCNN_TRY(qcnn_onnx_float_input(import, 0, &input));
    QCNN_TRY(qcnn_onnx_integer_input(import, 1, &indices, &n));
    const qcnn_shape shape = *qcnn_onnx_shape(import, input);
    const int axis = qcnn_onnx_axis(qcnn_onnx_int(import->node, "axis", 0), shape.rank);
    if (!indices || axis < 0 || n < 1 || n > MAX_GATHERED)
        return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "only 1 to %d constant indices along a valid axis are supported",
                                MAX_GATHERED);
    const qcnn_shape index_shape = qcnn_onnx_input(import, 1)->shape;
    for (int i = 0; i < n; i++) {
        const int64_t index = indices[i] < 0 ? indices[i] + shape.dims[axis] : indices[i];
        if (index < 0 || index >= shape.dims[axis])
            return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "index %lld is out of range", (long long)indices[i]);
        QCNN_TRY(emit_range(import, "row", input, axis, index, 1, &rows[i]));
    }
    const qcnn_attributes a = { .axis = axis };
    output = rows[0];
    if (n > 1)
        QCNN_TRY(qcnn_onnx_emit(import, QCNN_OP_CONCAT, NULL, rows, n, &a, &output));
    if (index_shape.rank != 1) { // the indices' dimensions stand where the axis was
        qcnn_shape to = { .rank = shape.rank - 1 + index_shape.rank };
        if (to.rank > QCNN_MAX_RANK)
            return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "more than %d dimensions", QCNN_MAX_RANK);
        memcpy(to.dims, shape.dims, (size_t)axis * sizeof *to.dims);
        memcpy(to.dims + axis, index_shape.dims, (size_t)index_shape.rank * sizeof *to.dims);
        memcpy(to.dims + axis + index_shape.rank, shape.dims + axis + 1, (size_t)(shape.rank - 1 - axis) * sizeof *to.dims);
        QCNN_TRY(qcnn_onnx_emit_reshape(import, n > 1 ? "reshape" : NULL, output, &to, &output));
    }
    return qcnn_onnx_set_float(import, output);
}

// ---- padding --------------------------------------------------------------------------------------------------------

// The lists of Pad: attribute "pads" before opset 11, inputs since, axes since 18.
static qcnn_status pad_amounts(onnx_import *import, int rank, qcnn_attributes *a)
{
    int64_t storage[2 * QCNN_MAX_RANK];
    const int64_t *pads = storage, *axes;
    int n, n_axes;
    if (!qcnn_onnx_ints(import->node, "pads", storage, 2 * QCNN_MAX_RANK, &n))
        QCNN_TRY(qcnn_onnx_integer_input(import, 1, &pads, &n));
    QCNN_TRY(qcnn_onnx_integer_input(import, 3, &axes, &n_axes));
    const int count = axes ? n_axes : rank;
    if (!pads || count > rank || n != 2 * count)
        return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "pads needs %d numbers", 2 * count);
    for (int i = 0; i < count; i++) {
        const int axis = axes ? qcnn_onnx_axis(axes[i], rank) : i;
        if (axis < 0)
            return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "an axis is out of range");
        a->begin[axis] = pads[i];
        a->end[axis] = pads[count + i];
    }
    return QCNN_OK;
}

// A value known only when the network runs is added where a constant mask of the padding is 1.
static qcnn_status pad_by_value(onnx_import *import, const qcnn_shape *shape, qcnn_attributes a, int input, int value, int *output)
{
    float *zeros;
    int mask;
    const uint64_t n = qcnn_shape_elements(shape);
    QCNN_TRY(qcnn_onnx_emit(import, QCNN_OP_PAD, NULL, &input, 1, &a, output));
    QCNN_TRY(qcnn_onnx_allocate_floats(import, n, &zeros));
    memset(zeros, 0, (size_t)n * sizeof *zeros);
    QCNN_TRY(qcnn_onnx_add_constant(import, shape, zeros, &mask));
    a.pad_value = 1;
    QCNN_TRY(qcnn_onnx_emit(import, QCNN_OP_PAD, "mask", &mask, 1, &a, &mask));
    QCNN_TRY(qcnn_onnx_emit_binary(import, QCNN_MULTIPLY, "value", mask, value, &mask));
    return qcnn_onnx_emit_binary(import, QCNN_ADD, "add", *output, mask, output);
}

static qcnn_status lower_pad(onnx_import *import)
{
    static const char *const modes[] = { "constant", "reflect", "edge" };
    int input, output, value = -1;
    QCNN_TRY(qcnn_onnx_float_input(import, 0, &input));
    const qcnn_shape shape = *qcnn_onnx_shape(import, input);
    qcnn_attributes a = { .pad_mode = -1, .pad_value = qcnn_onnx_float(import->node, "value", 0) };
    QCNN_TRY(pad_amounts(import, shape.rank, &a));
    const qcnn_span mode = qcnn_onnx_text(import->node, "mode");
    for (int i = 0; i < 3; i++)
        if (qcnn_span_is(mode, modes[i]) || (mode.n == 0 && i == 0))
            a.pad_mode = i;
    if (a.pad_mode < 0)
        return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "mode '%.*s' is not supported", QCNN_SPAN_TEXT(mode));
    if (a.pad_mode == 0 && qcnn_onnx_input(import, 2)) {
        QCNN_TRY(qcnn_onnx_float_input(import, 2, &value));
        if (qcnn_shape_elements(qcnn_onnx_shape(import, value)) != 1)
            return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "its value must be one number");
        const float *data = qcnn_onnx_constant(import, value);
        if (!data) {
            QCNN_TRY(pad_by_value(import, &shape, a, input, value, &output));
            return qcnn_onnx_set_float(import, output);
        }
        a.pad_value = *data;
    }
    QCNN_TRY(qcnn_onnx_emit(import, QCNN_OP_PAD, NULL, &input, 1, &a, &output));
    return qcnn_onnx_set_float(import, output);
}

// ---- reducing -------------------------------------------------------------------------------------------------------

static qcnn_status lower_reduce(onnx_import *import, qcnn_op op)
{
    int input, output;
    unsigned mask;
    bool given;
    QCNN_TRY(qcnn_onnx_float_input(import, 0, &input));
    const int rank = qcnn_onnx_shape(import, input)->rank;
    QCNN_TRY(qcnn_onnx_axes(import, 1, rank, &mask, &given));
    if (mask == 0 && qcnn_onnx_int(import->node, "noop_with_empty_axes", 0))
        return qcnn_onnx_set_float(import, input);
    qcnn_attributes a = { .keep_dims = qcnn_onnx_int(import->node, "keepdims", 1) != 0 };
    for (int i = 0; i < rank; i++)
        a.axes[i] = mask == 0 || (mask >> i & 1);
    QCNN_TRY(qcnn_onnx_emit(import, op, NULL, &input, 1, &a, &output));
    return qcnn_onnx_set_float(import, output);
}

static qcnn_status lower_reduce_mean(onnx_import *import)
{
    return lower_reduce(import, QCNN_OP_REDUCE_MEAN);
}

static qcnn_status lower_reduce_max(onnx_import *import)
{
    return lower_reduce(import, QCNN_OP_REDUCE_MAX);
}

const onnx_operator qcnn_onnx_movement[] = {
    { "Identity", 1, 1, lower_identity, qcnn_onnx_fold_identity },
    { "Dropout", 1, 3, lower_dropout, NULL },
    { "Cast", 1, 1, lower_cast, qcnn_onnx_fold_cast },
    { "Constant", 0, 0, lower_constant, NULL },
    { "ConstantOfShape", 1, 1, NULL, qcnn_onnx_fold_constant_of_shape },
    { "Reshape", 1, 2, lower_reshape, qcnn_onnx_fold_reshape },
    { "Flatten", 1, 1, lower_reshape, qcnn_onnx_fold_reshape },
    { "Squeeze", 1, 2, lower_reshape, qcnn_onnx_fold_reshape },
    { "Unsqueeze", 1, 2, lower_reshape, qcnn_onnx_fold_reshape },
    { "Transpose", 1, 1, lower_transpose, NULL },
    { "Concat", 1, ONNX_MAX_INPUTS, lower_concat, qcnn_onnx_fold_concat },
    { "Slice", 1, 5, lower_slice, qcnn_onnx_fold_slice },
    { "Split", 1, 2, lower_split, NULL },
    { "Gather", 2, 2, lower_gather, qcnn_onnx_fold_gather },
    { "Pad", 1, 4, lower_pad, NULL },
    { "ReduceMean", 1, 2, lower_reduce_mean, NULL },
    { "ReduceMax", 1, 2, lower_reduce_max, NULL },
    { "ReduceProd", 1, 2, NULL, qcnn_onnx_fold_reduce },
    { "ReduceSum", 1, 2, NULL, qcnn_onnx_fold_reduce },
    { "Shape", 1, 1, qcnn_onnx_fold_shape, qcnn_onnx_fold_shape },
    { "Size", 1, 1, qcnn_onnx_fold_shape, qcnn_onnx_fold_shape },
    { "Where", 3, 3, NULL, qcnn_onnx_fold_where },
    { "Range", 3, 3, NULL, qcnn_onnx_fold_range },
    { "Expand", 2, 2, NULL, qcnn_onnx_fold_expand },
    { 0 },
};
