// SPDX-License-Identifier: Apache-2.0
// The arithmetic of ONNX operators that reshape and slice, the same for floats and integers.

#include <string.h>

#include "base/checked.h"
#include "import/onnx_integers.h"

// ---- new shapes -----------------------------------------------------------------------------------------------------

// Product of dims first..last-1.
static int64_t product_of(const qcnn_shape *shape, int first, int last)
{
    qcnn_shape part = { .rank = last - first };
    memcpy(part.dims, shape->dims + first, (size_t)part.rank * sizeof *part.dims);
    return (int64_t)qcnn_shape_elements(&part);
}

static qcnn_status reshaped(onnx_import *import, const qcnn_shape *from, qcnn_shape *to)
{
    int64_t from_attribute[QCNN_MAX_RANK];
    const int64_t *list = from_attribute;
    int n, open = -1;
    if (!qcnn_onnx_ints(import->node, "shape", from_attribute, QCNN_MAX_RANK, &n))
        QCNN_TRY(qcnn_onnx_integer_input(import, 1, &list, &n));
    if (!list || n > QCNN_MAX_RANK)
        return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "its target shape is missing or has more than %d dimensions",
                                QCNN_MAX_RANK);
    const bool allow_zero = qcnn_onnx_int(import->node, "allowzero", 0) != 0;
    *to = (qcnn_shape){ .rank = n };
    for (int i = 0; i < n; i++) {
        to->dims[i] = list[i] == 0 && !allow_zero ? (i < from->rank ? from->dims[i] : -1) : list[i];
        if (list[i] == -1 && open < 0) {
            open = i;
            to->dims[i] = 1;
        }
        if (to->dims[i] < 0)
            return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "its target shape is not one");
    }
    const uint64_t elements = qcnn_shape_elements(from), rest = qcnn_shape_elements(to);
    if (open >= 0 && rest > 0 && elements % rest == 0)
        to->dims[open] = (int64_t)(elements / rest);
    return QCNN_OK;
}

static qcnn_status flattened(onnx_import *import, const qcnn_shape *from, qcnn_shape *to)
{
    const int64_t axis = qcnn_onnx_int(import->node, "axis", 1);
    const int at = axis == from->rank ? from->rank : qcnn_onnx_axis(axis, from->rank);
    if (at < 0)
        return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "its axis is out of range");
    *to = (qcnn_shape){ .rank = 2, .dims = { product_of(from, 0, at), product_of(from, at, from->rank) } };
    return QCNN_OK;
}

static qcnn_status squeezed(onnx_import *import, const qcnn_shape *from, qcnn_shape *to)
{
    unsigned mask;
    bool given;
    QCNN_TRY(qcnn_onnx_axes(import, 1, from->rank, &mask, &given));
    *to = (qcnn_shape){ 0 };
    for (int i = 0; i < from->rank; i++) {
        const bool dropped = given ? mask >> i & 1 : from->dims[i] == 1;
        if (dropped && from->dims[i] != 1)
            return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "dimension %d is not 1", i);
        if (!dropped)
            to->dims[to->rank++] = from->dims[i];
    }
    return QCNN_OK;
}

static qcnn_status unsqueezed(onnx_import *import, const qcnn_shape *from, qcnn_shape *to)
{
    int64_t list[QCNN_MAX_RANK];
    const int64_t *axes;
    int n;
    unsigned mask;
    bool given;
    if (!qcnn_onnx_ints(import->node, "axes", list, QCNN_MAX_RANK, &n))
        QCNN_TRY(qcnn_onnx_integer_input(import, 1, &axes, &n));
    if (n > QCNN_MAX_RANK - from->rank)
        return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "more than %d dimensions", QCNN_MAX_RANK);
    QCNN_TRY(qcnn_onnx_axes(import, 1, from->rank + n, &mask, &given)); // axes count in the result
    if (!given)
        return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "its axes are missing");
    *to = (qcnn_shape){ .rank = from->rank + n };
    for (int i = 0, next = 0; i < to->rank; i++)
        to->dims[i] = mask >> i & 1 ? 1 : from->dims[next++];
    return QCNN_OK;
}

qcnn_status qcnn_onnx_new_shape(onnx_import *import, const qcnn_shape *from, qcnn_shape *to)
{
    const qcnn_span op = import->node->op;
    qcnn_status status = qcnn_span_is(op, "Reshape")   ? reshaped(import, from, to)
                         : qcnn_span_is(op, "Flatten") ? flattened(import, from, to)
                         : qcnn_span_is(op, "Squeeze") ? squeezed(import, from, to)
                                                       : unsqueezed(import, from, to);
    if (status == QCNN_OK && qcnn_shape_elements(from) != qcnn_shape_elements(to))
        status = qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "the new shape has another number of elements than the input");
    return status;
}

// ---- slices ---------------------------------------------------------------------------------------------------------

// One of Slice's lists: attribute `name` before opset 10, input `index` since.
static qcnn_status slice_list(onnx_import *import, const char *name, int index, int64_t *storage, const int64_t **list, int *n)
{
    *list = storage;
    if (qcnn_onnx_ints(import->node, name, storage, QCNN_MAX_RANK, n))
        return QCNN_OK;
    return qcnn_onnx_integer_input(import, index, list, n);
}

static int64_t clamp(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

// One range over `side` elements by ONNX's rules: negative positions count from the end, what lies outside is cut.
static onnx_range make_range(int64_t start, int64_t end, int64_t step, int64_t side)
{
    if (start < 0)
        start = start < -side ? -1 : start + side;
    if (end < 0)
        end = end < -side ? -1 : end + side;
    start = step > 0 ? clamp(start, 0, side) : clamp(start, -1, side - 1);
    end = step > 0 ? clamp(end, 0, side) : clamp(end, -1, side - 1);
    const int64_t distance = step > 0 ? end - start : start - end;
    const uint64_t stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    return (onnx_range){ start, step, distance <= 0 ? 0 : (int64_t)((uint64_t)(distance - 1) / stride) + 1 };
}

qcnn_status qcnn_onnx_ranges(onnx_import *import, const qcnn_shape *from, onnx_range ranges[QCNN_MAX_RANK])
{
    int64_t storage[4][QCNN_MAX_RANK];
    const int64_t *starts, *ends, *axes, *steps;
    int n, n_ends, n_axes, n_steps;
    QCNN_TRY(slice_list(import, "starts", 1, storage[0], &starts, &n));
    QCNN_TRY(slice_list(import, "ends", 2, storage[1], &ends, &n_ends));
    QCNN_TRY(slice_list(import, "axes", 3, storage[2], &axes, &n_axes));
    QCNN_TRY(slice_list(import, "steps", 4, storage[3], &steps, &n_steps));
    if (!starts || !ends || n != n_ends || n > from->rank || (axes && n_axes != n) || (steps && n_steps != n))
        return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "starts, ends, axes and steps do not go together");
    for (int i = 0; i < from->rank; i++)
        ranges[i] = (onnx_range){ 0, 1, from->dims[i] };
    for (int i = 0; i < n; i++) {
        const int axis = axes ? qcnn_onnx_axis(axes[i], from->rank) : i;
        const int64_t step = steps ? steps[i] : 1;
        if (axis < 0 || step == 0)
            return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "an axis is out of range, or a step is 0");
        ranges[axis] = make_range(starts[i], ends[i], step, from->dims[axis]);
    }
    return QCNN_OK;
}
