// SPDX-License-Identifier: Apache-2.0
// Shape arithmetic: ONNX operators on integer tensors. They hold sizes, axes and indices and are always constant here, so
// each operator is simply computed. Additions wrap as two's complement: sizes are checked where they are used.

#include "import/onnx_integers.h"

#include <math.h>
#include <string.h>

static const onnx_value *integer_operand(onnx_import *import, int index)
{
    const onnx_value *value = qcnn_onnx_input(import, index);
    return value && !onnx_is_float(value->type) ? value : NULL;
}

static qcnn_status no_integers(onnx_import *import)
{
    return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "its operands must all be constant integers");
}

static size_t count_of(const onnx_value *value)
{
    return (size_t)qcnn_shape_elements(&value->shape);
}

// ---- broadcasting ---------------------------------------------------------------------------------------------------

static bool broadcast_shapes(const qcnn_shape *a, const qcnn_shape *b, qcnn_shape *result)
{
    *result = (qcnn_shape){ .rank = a->rank > b->rank ? a->rank : b->rank };
    for (int i = 0; i < result->rank; i++) {
        const int from_a = i - (result->rank - a->rank), from_b = i - (result->rank - b->rank);
        const int64_t x = from_a < 0 ? 1 : a->dims[from_a], y = from_b < 0 ? 1 : b->dims[from_b];
        if (x != y && x != 1 && y != 1)
            return false;
        result->dims[i] = x == 1 ? y : x;
    }
    return true;
}

// The element of `value` that stands at flat position `index` of the broadcast `shape`.
static int64_t element_at(const onnx_value *value, const qcnn_shape *shape, size_t index)
{
    size_t offset = 0, stride = 1;
    for (int i = shape->rank - 1, own = value->shape.rank - 1; own >= 0; i--, own--) {
        const size_t position = index % (size_t)shape->dims[i];
        index /= (size_t)shape->dims[i];
        offset += value->shape.dims[own] == 1 ? 0 : position * stride;
        stride *= (size_t)value->shape.dims[own];
    }
    return value->integers[offset];
}

// ---- element by element ---------------------------------------------------------------------------------------------

static int64_t divide(int64_t a, int64_t b)
{
    return b == -1 ? (int64_t)(0 - (uint64_t)a) : a / b; // INT64_MIN / -1 wraps
}

// False for a division by zero and for unknown operators.
static bool apply_pair(qcnn_span op, int64_t a, int64_t b, int64_t *result)
{
    const uint64_t x = (uint64_t)a, y = (uint64_t)b;
    if ((qcnn_span_is(op, "Div") || qcnn_span_is(op, "Mod")) && b == 0)
        return false;
    if (qcnn_span_is(op, "Add"))
        *result = (int64_t)(x + y);
    else if (qcnn_span_is(op, "Sub"))
        *result = (int64_t)(x - y);
    else if (qcnn_span_is(op, "Mul"))
        *result = (int64_t)(x * y);
    else if (qcnn_span_is(op, "Div"))
        *result = divide(a, b);
    else if (qcnn_span_is(op, "Mod")) // the sign of the divisor, as Python's
        *result = b == -1 ? 0 : a % b + (a % b != 0 && (a % b < 0) != (b < 0) ? b : 0);
    else if (qcnn_span_is(op, "Max"))
        *result = a > b ? a : b;
    else if (qcnn_span_is(op, "Min"))
        *result = a < b ? a : b;
    else if (qcnn_span_is(op, "Equal"))
        *result = a == b;
    else if (qcnn_span_is(op, "Greater"))
        *result = a > b;
    else if (qcnn_span_is(op, "Less"))
        *result = a < b;
    else if (qcnn_span_is(op, "And"))
        *result = a && b;
    else if (qcnn_span_is(op, "Or"))
        *result = a || b;
    else
        return false;
    return true;
}

qcnn_status qcnn_onnx_fold_pair(onnx_import *import)
{
    const onnx_value *a = integer_operand(import, 0), *b = integer_operand(import, 1);
    qcnn_shape shape;
    int64_t *result;
    if (!a || !b || import->node->n_inputs != 2)
        return no_integers(import);
    if (!broadcast_shapes(&a->shape, &b->shape, &shape))
        return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "the shapes do not broadcast");
    QCNN_TRY(qcnn_onnx_allocate_integers(import, &shape, &result));
    const size_t n = (size_t)qcnn_shape_elements(&shape);
    for (size_t i = 0; i < n; i++)
        if (!apply_pair(import->node->op, element_at(a, &shape, i), element_at(b, &shape, i), &result[i])) {
            qcnn_release(result);
            return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "a division by zero");
        }
    return qcnn_onnx_set_integers(import, a->type, &shape, result);
}

qcnn_status qcnn_onnx_fold_single(onnx_import *import)
{
    const onnx_value *a = integer_operand(import, 0);
    int64_t *result;
    QCNN_TRY(qcnn_onnx_allocate_integers(import, &a->shape, &result));
    for (size_t i = 0; i < count_of(a); i++) {
        const int64_t x = a->integers[i], negative = (int64_t)(0 - (uint64_t)x);
        result[i] = qcnn_span_is(import->node->op, "Not") ? !x : qcnn_span_is(import->node->op, "Neg") || x < 0 ? negative : x;
    }
    return qcnn_onnx_set_integers(import, a->type, &a->shape, result);
}

qcnn_status qcnn_onnx_fold_where(onnx_import *import)
{
    const onnx_value *condition = integer_operand(import, 0), *a = integer_operand(import, 1), *b = integer_operand(import, 2);
    qcnn_shape both, shape;
    int64_t *result;
    if (!condition || !a || !b)
        return no_integers(import);
    if (!broadcast_shapes(&a->shape, &b->shape, &both) || !broadcast_shapes(&condition->shape, &both, &shape))
        return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "the shapes do not broadcast");
    QCNN_TRY(qcnn_onnx_allocate_integers(import, &shape, &result));
    const size_t n = (size_t)qcnn_shape_elements(&shape);
    for (size_t i = 0; i < n; i++)
        result[i] = element_at(element_at(condition, &shape, i) ? a : b, &shape, i);
    return qcnn_onnx_set_integers(import, a->type, &shape, result);
}

qcnn_status qcnn_onnx_fold_cast(onnx_import *import)
{
    const onnx_value *a = integer_operand(import, 0);
    const int type = (int)qcnn_onnx_int(import->node, "to", ONNX_INT64);
    const size_t n = count_of(a);
    if (onnx_is_float(type)) {
        float *floats;
        int output;
        if (n == 0)
            return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "an empty tensor");
        QCNN_TRY(qcnn_onnx_allocate_floats(import, n, &floats));
        for (size_t i = 0; i < n; i++)
            floats[i] = (float)a->integers[i];
        QCNN_TRY(qcnn_onnx_add_constant(import, &a->shape, floats, &output));
        return qcnn_onnx_set_float(import, output);
    }
    int64_t *result;
    QCNN_TRY(qcnn_onnx_allocate_integers(import, &a->shape, &result));
    for (size_t i = 0; i < n; i++)
        result[i] = type == ONNX_BOOL ? a->integers[i] != 0 : a->integers[i];
    return qcnn_onnx_set_integers(import, type, &a->shape, result);
}

// ---- shapes ---------------------------------------------------------------------------------------------------------

qcnn_status qcnn_onnx_fold_shape(onnx_import *import)
{
    const onnx_value *a = qcnn_onnx_input(import, 0);
    if (!a)
        return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "its input is missing");
    const qcnn_shape of = onnx_is_float(a->type) ? *qcnn_onnx_shape(import, a->value) : a->shape;
    int64_t *result, start = qcnn_onnx_int(import->node, "start", 0), end = qcnn_onnx_int(import->node, "end", of.rank);
    start = start < -of.rank ? 0 : start < 0 ? start + of.rank : start > of.rank ? of.rank : start;
    end = end < -of.rank ? 0 : end < 0 ? end + of.rank : end > of.rank ? of.rank : end;
    const bool is_size = qcnn_span_is(import->node->op, "Size");
    const qcnn_shape shape = { .rank = is_size ? 0 : 1, .dims = { end > start ? end - start : 0 } };
    QCNN_TRY(qcnn_onnx_allocate_integers(import, &shape, &result));
    if (is_size)
        result[0] = (int64_t)qcnn_shape_elements(&of);
    else
        memcpy(result, of.dims + start, (size_t)shape.dims[0] * sizeof *result);
    return qcnn_onnx_set_integers(import, ONNX_INT64, &shape, result);
}

static qcnn_status copy_as(onnx_import *import, const onnx_value *a, const qcnn_shape *shape)
{
    int64_t *result;
    QCNN_TRY(qcnn_onnx_allocate_integers(import, shape, &result));
    memcpy(result, a->integers, count_of(a) * sizeof *result);
    return qcnn_onnx_set_integers(import, a->type, shape, result);
}

qcnn_status qcnn_onnx_fold_reshape(onnx_import *import)
{
    const onnx_value *a = integer_operand(import, 0);
    qcnn_shape shape;
    QCNN_TRY(qcnn_onnx_new_shape(import, &a->shape, &shape));
    return copy_as(import, a, &shape);
}

qcnn_status qcnn_onnx_fold_identity(onnx_import *import)
{
    const onnx_value *a = integer_operand(import, 0);
    return copy_as(import, a, &a->shape);
}

// `n` constant sizes as a shape whose dimensions may be 0.
static qcnn_status shape_from(onnx_import *import, const int64_t *dims, int n, qcnn_shape *shape)
{
    if (n > QCNN_MAX_RANK)
        return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "more than %d dimensions", QCNN_MAX_RANK);
    *shape = (qcnn_shape){ .rank = n };
    for (int i = 0; i < n; i++) {
        if (dims[i] < 0)
            return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "a negative dimension");
        shape->dims[i] = dims[i];
    }
    return QCNN_OK;
}

qcnn_status qcnn_onnx_fold_expand(onnx_import *import)
{
    const onnx_value *a = integer_operand(import, 0);
    const int64_t *dims;
    int n;
    qcnn_shape wanted = { 0 }, shape;
    int64_t *result;
    QCNN_TRY(qcnn_onnx_integer_input(import, 1, &dims, &n));
    QCNN_TRY(shape_from(import, dims, n, &wanted));
    if (!broadcast_shapes(&a->shape, &wanted, &shape))
        return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "the shapes do not broadcast");
    QCNN_TRY(qcnn_onnx_allocate_integers(import, &shape, &result));
    const size_t count = (size_t)qcnn_shape_elements(&shape);
    for (size_t i = 0; i < count; i++)
        result[i] = element_at(a, &shape, i);
    return qcnn_onnx_set_integers(import, a->type, &shape, result);
}

qcnn_status qcnn_onnx_fold_constant_of_shape(onnx_import *import)
{
    const int64_t *dims;
    int n, output;
    qcnn_shape shape;
    onnx_tensor tensor;
    onnx_value value = { 0 };
    QCNN_TRY(qcnn_onnx_integer_input(import, 0, &dims, &n));
    QCNN_TRY(shape_from(import, dims, n, &shape));
    const qcnn_span message = qcnn_onnx_message(import->node, "value");
    const uint64_t count = qcnn_shape_elements(&shape);
    float *floats;
    if (message.n) {
        QCNN_TRY(qcnn_onnx_parse_tensor(message, &tensor, import->error));
        if (qcnn_shape_elements(&tensor.shape) != 1)
            return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "its value must be one number");
        QCNN_TRY(qcnn_onnx_decode(import, &tensor, &value));
    }
    if (message.n && !onnx_is_float(value.type)) {
        int64_t *integers = NULL;
        const qcnn_status status = qcnn_onnx_allocate_integers(import, &shape, &integers);
        for (uint64_t i = 0; status == QCNN_OK && i < count; i++)
            integers[i] = value.integers[0];
        qcnn_release(value.integers);
        return status == QCNN_OK ? qcnn_onnx_set_integers(import, value.type, &shape, integers) : status;
    }
    if (count == 0)
        return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "an empty tensor");
    QCNN_TRY(qcnn_onnx_allocate_floats(import, count, &floats));
    for (uint64_t i = 0; i < count; i++)
        floats[i] = message.n ? *qcnn_onnx_constant(import, value.value) : 0;
    QCNN_TRY(qcnn_onnx_add_constant(import, &shape, floats, &output));
    return qcnn_onnx_set_float(import, output);
}

qcnn_status qcnn_onnx_fold_range(onnx_import *import)
{
    const onnx_value *start = integer_operand(import, 0), *limit = integer_operand(import, 1), *delta = integer_operand(import, 2);
    if (!start || !limit || !delta || count_of(start) != 1 || count_of(limit) != 1 || count_of(delta) != 1 || delta->integers[0] == 0)
        return no_integers(import);
    const double span = ((double)limit->integers[0] - (double)start->integers[0]) / (double)delta->integers[0];
    if (span > ONNX_MAX_INTEGERS)
        return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "a range of more than %d integers", ONNX_MAX_INTEGERS);
    const qcnn_shape shape = { .rank = 1, .dims = { span > 0 ? (int64_t)ceil(span) : 0 } };
    int64_t *result;
    QCNN_TRY(qcnn_onnx_allocate_integers(import, &shape, &result));
    for (int64_t i = 0; i < shape.dims[0]; i++)
        result[i] = (int64_t)((uint64_t)start->integers[0] + (uint64_t)i * (uint64_t)delta->integers[0]);
    return qcnn_onnx_set_integers(import, start->type, &shape, result);
}

qcnn_status qcnn_onnx_fold_reduce(onnx_import *import)
{
    const onnx_value *a = integer_operand(import, 0);
    const bool product = qcnn_span_is(import->node->op, "ReduceProd"), keep = qcnn_onnx_int(import->node, "keepdims", 1) != 0;
    unsigned mask;
    bool given;
    QCNN_TRY(qcnn_onnx_axes(import, 1, a->shape.rank, &mask, &given));
    if (given && mask != (1u << a->shape.rank) - 1)
        return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "integers are only reduced over all axes");
    qcnn_shape shape = { .rank = keep ? a->shape.rank : 0 };
    for (int i = 0; i < shape.rank; i++)
        shape.dims[i] = 1;
    int64_t *result;
    QCNN_TRY(qcnn_onnx_allocate_integers(import, &shape, &result));
    result[0] = product;
    for (size_t i = 0; i < count_of(a); i++)
        result[0] = (int64_t)(product ? (uint64_t)result[0] * (uint64_t)a->integers[i] : (uint64_t)result[0] + (uint64_t)a->integers[i]);
    return qcnn_onnx_set_integers(import, a->type, &shape, result);
}

// ---- moving ---------------------------------------------------------------------------------------------------------

qcnn_status qcnn_onnx_fold_concat(onnx_import *import)
{
    const onnx_value *first = integer_operand(import, 0);
    qcnn_shape shape = first->shape;
    if (shape.rank != 1 || qcnn_onnx_axis(qcnn_onnx_int(import->node, "axis", 0), 1) != 0)
        return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "integers are only joined as vectors");
    shape.dims[0] = 0;
    for (int i = 0; i < import->node->n_inputs; i++) {
        const onnx_value *part = integer_operand(import, i);
        if (!part || part->shape.rank != 1)
            return no_integers(import);
        shape.dims[0] += part->shape.dims[0]; // at most ONNX_MAX_INPUTS times ONNX_MAX_INTEGERS
    }
    int64_t *result, *next;
    QCNN_TRY(qcnn_onnx_allocate_integers(import, &shape, &result));
    next = result;
    for (int i = 0; i < import->node->n_inputs; i++) {
        const onnx_value *part = integer_operand(import, i);
        memcpy(next, part->integers, count_of(part) * sizeof *next);
        next += count_of(part);
    }
    return qcnn_onnx_set_integers(import, first->type, &shape, result);
}

// Along axis 0, the only one that shape arithmetic uses: element i of the indices picks a row.
qcnn_status qcnn_onnx_fold_gather(onnx_import *import)
{
    const onnx_value *data = integer_operand(import, 0), *indices = integer_operand(import, 1);
    if (!data || !indices || data->shape.rank < 1 || qcnn_onnx_axis(qcnn_onnx_int(import->node, "axis", 0), data->shape.rank) != 0)
        return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "integers are only gathered along axis 0, by constant indices");
    if (indices->shape.rank + data->shape.rank - 1 > QCNN_MAX_RANK)
        return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "more than %d dimensions", QCNN_MAX_RANK);
    qcnn_shape shape = indices->shape, row_shape = { .rank = data->shape.rank - 1 };
    memcpy(row_shape.dims, data->shape.dims + 1, (size_t)row_shape.rank * sizeof *row_shape.dims);
    for (int i = 0; i < row_shape.rank; i++)
        shape.dims[shape.rank++] = row_shape.dims[i];
    const size_t row = (size_t)qcnn_shape_elements(&row_shape), n = count_of(indices);
    const int64_t n_rows = data->shape.dims[0];
    int64_t *result;
    QCNN_TRY(qcnn_onnx_allocate_integers(import, &shape, &result));
    for (size_t i = 0; i < n; i++) {
        const int64_t index = indices->integers[i] < 0 ? indices->integers[i] + n_rows : indices->integers[i];
        if (index < 0 || index >= n_rows) {
            qcnn_release(result);
            return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "index %lld is out of range", (long long)indices->integers[i]);
        }
        memcpy(result + i * row, data->integers + (size_t)index * row, row * sizeof *result);
    }
    return qcnn_onnx_set_integers(import, data->type, &shape, result);
}

qcnn_status qcnn_onnx_fold_slice(onnx_import *import)
{
    const onnx_value *a = integer_operand(import, 0);
    onnx_range ranges[QCNN_MAX_RANK];
    if (a->shape.rank != 1)
        return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "only vectors of integers are sliced");
    QCNN_TRY(qcnn_onnx_ranges(import, &a->shape, ranges));
    const qcnn_shape shape = { .rank = 1, .dims = { ranges[0].count } };
    int64_t *result;
    QCNN_TRY(qcnn_onnx_allocate_integers(import, &shape, &result));
    for (int64_t i = 0; i < ranges[0].count; i++)
        result[i] = a->integers[ranges[0].begin + i * ranges[0].step];
    return qcnn_onnx_set_integers(import, a->type, &shape, result);
}
