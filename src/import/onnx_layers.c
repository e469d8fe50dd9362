// SPDX-License-Identifier: Apache-2.0
// Lowering of ONNX layers: convolutions, pools, matrix products, normalizations, softmax.

#include <math.h>
#include <string.h>

#include "import/onnx.h"

// ---- windows --------------------------------------------------------------------------------------------------------

// An attribute of one number for each spatial dimension, `otherwise` where the node has none.
static qcnn_status spatial_ints(onnx_import *import, const char *name, int n, int32_t otherwise, int32_t *result)
{
    int64_t list[QCNN_MAX_SPATIAL];
    int found;
    for (int i = 0; i < n; i++)
        result[i] = otherwise;
    if (!qcnn_onnx_has(import->node, name))
        return QCNN_OK;
    if (!qcnn_onnx_ints(import->node, name, list, QCNN_MAX_SPATIAL, &found) || found != n)
        return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "attribute %s needs %d numbers", name, n);
    for (int i = 0; i < n; i++) {
        if (list[i] < 1 || list[i] > INT32_MAX)
            return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "attribute %s must be at least 1", name);
        result[i] = (int32_t)list[i];
    }
    return QCNN_OK;
}

static qcnn_status explicit_padding(onnx_import *import, int n, qcnn_attributes *a)
{
    int64_t pads[2 * QCNN_MAX_SPATIAL];
    int found;
    if (!qcnn_onnx_has(import->node, "pads"))
        return QCNN_OK;
    if (!qcnn_onnx_ints(import->node, "pads", pads, 2 * QCNN_MAX_SPATIAL, &found) || found != 2 * n)
        return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "attribute pads needs %d numbers", 2 * n);
    for (int i = 0; i < n; i++) {
        if (pads[i] < 0 || pads[i] > INT32_MAX || pads[n + i] < 0 || pads[n + i] > INT32_MAX)
            return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "attribute pads must be at least 0");
        a->window_begin[i] = (int32_t)pads[i];
        a->window_end[i] = (int32_t)pads[n + i];
    }
    return QCNN_OK;
}

// SAME: ceil(side / stride) windows, what is missing added at both ends, the odd one at the upper or the lower.
static qcnn_status same_padding(onnx_import *import, const qcnn_shape *x, bool upper, qcnn_attributes *a)
{
    for (int i = 0; i < a->n_spatial; i++) {
        const int64_t side = x->dims[2 + i], stride = a->stride[i];
        const int64_t reach = (int64_t)a->dilation[i] * (a->kernel[i] - 1) + 1;
        const int64_t windows = (side - 1) / stride + 1;
        int64_t missing = (windows - 1) * stride + reach - side;
        if (missing < 0)
            missing = 0;
        if (missing > INT32_MAX)
            return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "its kernel is impossibly large");
        const int64_t less = missing / 2;
        a->window_begin[i] = (int32_t)(upper ? less : missing - less);
        a->window_end[i] = (int32_t)(upper ? missing - less : less);
    }
    return QCNN_OK;
}

// Everything about the window but the kernel, which the caller has set with n_spatial.
static qcnn_status window_attributes(onnx_import *import, const qcnn_shape *x, qcnn_attributes *a)
{
    if (a->n_spatial < 1 || a->n_spatial > QCNN_MAX_SPATIAL || x->rank != a->n_spatial + 2)
        return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "only 1 to 3 spatial dimensions are supported");
    QCNN_TRY(spatial_ints(import, "strides", a->n_spatial, 1, a->stride));
    QCNN_TRY(spatial_ints(import, "dilations", a->n_spatial, 1, a->dilation));
    const qcnn_span mode = qcnn_onnx_text(import->node, "auto_pad");
    if (mode.n == 0 || qcnn_span_is(mode, "NOTSET"))
        return explicit_padding(import, a->n_spatial, a);
    if (qcnn_span_is(mode, "VALID"))
        return QCNN_OK;
    if (!qcnn_span_is(mode, "SAME_UPPER") && !qcnn_span_is(mode, "SAME_LOWER"))
        return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "unknown auto_pad '%.*s'", QCNN_SPAN_TEXT(mode));
    return same_padding(import, x, qcnn_span_is(mode, "SAME_UPPER"), a);
}

static qcnn_status lower_conv(onnx_import *import)
{
    int inputs[3], output;
    QCNN_TRY(qcnn_onnx_float_input(import, 0, &inputs[0]));
    QCNN_TRY(qcnn_onnx_float_input(import, 1, &inputs[1]));
    const bool has_bias = qcnn_onnx_input(import, 2) != NULL;
    if (has_bias)
        QCNN_TRY(qcnn_onnx_float_input(import, 2, &inputs[2]));
    const qcnn_shape *x = qcnn_onnx_shape(import, inputs[0]), *w = qcnn_onnx_shape(import, inputs[1]);
    const int64_t groups = qcnn_onnx_int(import->node, "group", 1);
    if (w->rank < 3 || w->rank > 2 + QCNN_MAX_SPATIAL || groups < 1 || groups > INT32_MAX)
        return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "only 1 to 3 spatial dimensions and at least one group are supported");
    qcnn_attributes a = { .n_spatial = w->rank - 2, .groups = (int32_t)groups };
    int32_t stated[QCNN_MAX_SPATIAL];
    for (int i = 0; i < a.n_spatial; i++) {
        if (w->dims[2 + i] > INT32_MAX)
            return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "its kernel is impossibly large");
        a.kernel[i] = (int32_t)w->dims[2 + i];
    }
    QCNN_TRY(window_attributes(import, x, &a));
    if (qcnn_onnx_has(import->node, "kernel_shape")) {
        QCNN_TRY(spatial_ints(import, "kernel_shape", a.n_spatial, 1, stated));
        if (memcmp(stated, a.kernel, (size_t)a.n_spatial * sizeof *stated))
            return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "kernel_shape is not that of the weights");
    }
    QCNN_TRY(qcnn_onnx_emit(import, QCNN_OP_CONV, NULL, inputs, has_bias ? 3 : 2, &a, &output));
    return qcnn_onnx_set_float(import, output);
}

static qcnn_status lower_pool(onnx_import *import, qcnn_op op)
{
    int input, output;
    QCNN_TRY(qcnn_onnx_float_input(import, 0, &input));
    const qcnn_shape *x = qcnn_onnx_shape(import, input);
    qcnn_attributes a = { .n_spatial = x->rank - 2,
                          .ceil_mode = qcnn_onnx_int(import->node, "ceil_mode", 0) != 0,
                          .count_include_pad = op == QCNN_OP_AVERAGE_POOL && qcnn_onnx_int(import->node, "count_include_pad", 0) != 0 };
    if (!qcnn_onnx_has(import->node, "kernel_shape"))
        return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "kernel_shape is missing");
    if (a.n_spatial >= 1 && a.n_spatial <= QCNN_MAX_SPATIAL)
        QCNN_TRY(spatial_ints(import, "kernel_shape", a.n_spatial, 1, a.kernel));
    QCNN_TRY(window_attributes(import, x, &a));
    QCNN_TRY(qcnn_onnx_emit(import, op, NULL, &input, 1, &a, &output));
    return qcnn_onnx_set_float(import, output);
}

static qcnn_status lower_max_pool(onnx_import *import)
{
    return lower_pool(import, QCNN_OP_MAX_POOL);
}

static qcnn_status lower_average_pool(onnx_import *import)
{
    return lower_pool(import, QCNN_OP_AVERAGE_POOL);
}

static qcnn_status lower_global_pool(onnx_import *import, qcnn_op op)
{
    int input, output;
    QCNN_TRY(qcnn_onnx_float_input(import, 0, &input));
    qcnn_attributes a = { .keep_dims = 1 };
    for (int i = 2; i < qcnn_onnx_shape(import, input)->rank; i++)
        a.axes[i] = 1;
    QCNN_TRY(qcnn_onnx_emit(import, op, NULL, &input, 1, &a, &output));
    return qcnn_onnx_set_float(import, output);
}

static qcnn_status lower_global_average_pool(onnx_import *import)
{
    return lower_global_pool(import, QCNN_OP_REDUCE_MEAN);
}

static qcnn_status lower_global_max_pool(onnx_import *import)
{
    return lower_global_pool(import, QCNN_OP_REDUCE_MAX);
}

// ---- matrices -------------------------------------------------------------------------------------------------------

static qcnn_status transpose_matrix(onnx_import *import, const char *part, int *value)
{
    const qcnn_attributes a = { .axes = { 1, 0 } };
    const int input = *value;
    return qcnn_onnx_emit(import, QCNN_OP_TRANSPOSE, part, &input, 1, &a, value);
}

static qcnn_status scale_by(onnx_import *import, const char *part, float factor, int *value)
{
    int scalar;
    if (factor == 1)
        return QCNN_OK;
    QCNN_TRY(qcnn_onnx_add_scalar(import, factor, &scalar));
    return qcnn_onnx_emit_binary(import, QCNN_MULTIPLY, part, *value, scalar, value);
}

// True when the constant `value` adds one number to each of `n` outputs; it is then made a vector of n.
static qcnn_status as_bias(onnx_import *import, int64_t n, int *value, bool *is_bias)
{
    const qcnn_shape shape = *qcnn_onnx_shape(import, *value);
    const float *data = qcnn_onnx_constant(import, *value);
    const uint64_t elements = qcnn_shape_elements(&shape);
    *is_bias = data && (elements == 1 || (elements == (uint64_t)n && shape.dims[shape.rank - 1] == n)) && shape.rank <= 2;
    if (!*is_bias || (shape.rank == 1 && shape.dims[0] == n))
        return QCNN_OK;
    float *bias;
    QCNN_TRY(qcnn_onnx_allocate_floats(import, (uint64_t)n, &bias));
    for (int64_t i = 0; i < n; i++)
        bias[i] = data[elements == 1 ? 0 : i];
    return qcnn_onnx_add_constant(import, &(qcnn_shape){ .rank = 1, .dims = { n } }, bias, value);
}

// alpha A' B' with constant B: a fully-connected layer, with C inside when it is one constant number for each output.
static qcnn_status gemm_layer(onnx_import *import, int a, int b, int c, int *output, bool *c_done)
{
    int inputs[3] = { a, b, c };
    if (!qcnn_onnx_int(import->node, "transB", 0))
        QCNN_TRY(transpose_matrix(import, "weight", &inputs[1]));
    QCNN_TRY(scale_by(import, "weight", qcnn_onnx_float(import->node, "alpha", 1), &inputs[1]));
    *c_done = c < 0;
    if (c >= 0) {
        QCNN_TRY(as_bias(import, qcnn_onnx_shape(import, inputs[1])->dims[0], &inputs[2], c_done));
        if (*c_done)
            QCNN_TRY(scale_by(import, "bias", qcnn_onnx_float(import->node, "beta", 1), &inputs[2]));
    }
    return qcnn_onnx_emit(import, QCNN_OP_FC, NULL, inputs, c >= 0 && *c_done ? 3 : 2, NULL, output);
}

static qcnn_status gemm_product(onnx_import *import, int a, int b, int *output)
{
    if (qcnn_onnx_int(import->node, "transB", 0))
        QCNN_TRY(transpose_matrix(import, "transpose_b", &b));
    QCNN_TRY(qcnn_onnx_emit(import, QCNN_OP_MATMUL, NULL, (const int[]){ a, b }, 2, NULL, output));
    return scale_by(import, "alpha", qcnn_onnx_float(import->node, "alpha", 1), output);
}

static qcnn_status lower_gemm(onnx_import *import)
{
    int a, b, c = -1, output;
    bool c_done = false;
    QCNN_TRY(qcnn_onnx_float_input(import, 0, &a));
    QCNN_TRY(qcnn_onnx_float_input(import, 1, &b));
    if (qcnn_onnx_input(import, 2))
        QCNN_TRY(qcnn_onnx_float_input(import, 2, &c));
    if (qcnn_onnx_shape(import, a)->rank != 2 || qcnn_onnx_shape(import, b)->rank != 2)
        return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "it needs two matrices");
    if (qcnn_onnx_int(import->node, "transA", 0))
        QCNN_TRY(transpose_matrix(import, "transpose_a", &a));
    if (qcnn_onnx_constant(import, b))
        QCNN_TRY(gemm_layer(import, a, b, c, &output, &c_done));
    else
        QCNN_TRY(gemm_product(import, a, b, &output));
    if (c >= 0 && !c_done) {
        QCNN_TRY(scale_by(import, "beta", qcnn_onnx_float(import->node, "beta", 1), &c));
        QCNN_TRY(qcnn_onnx_emit_binary(import, QCNN_ADD, "bias", output, c, &output));
    }
    return qcnn_onnx_set_float(import, output);
}

static qcnn_status lower_matmul(onnx_import *import)
{
    int inputs[2], output;
    QCNN_TRY(qcnn_onnx_float_input(import, 0, &inputs[0]));
    QCNN_TRY(qcnn_onnx_float_input(import, 1, &inputs[1]));
    const bool is_layer = qcnn_onnx_constant(import, inputs[1]) && qcnn_onnx_shape(import, inputs[1])->rank == 2 &&
                          qcnn_onnx_shape(import, inputs[0])->rank >= 2;
    if (is_layer)
        QCNN_TRY(transpose_matrix(import, "weight", &inputs[1]));
    QCNN_TRY(qcnn_onnx_emit(import, is_layer ? QCNN_OP_FC : QCNN_OP_MATMUL, NULL, inputs, 2, NULL, &output));
    return qcnn_onnx_set_float(import, output);
}

// ---- normalizations -------------------------------------------------------------------------------------------------

// A vector of one number a channel in the shape [channels][1]..., which broadcasts over x.
static qcnn_status over_channels(onnx_import *import, const char *part, int rank, int *value)
{
    const qcnn_shape vector = *qcnn_onnx_shape(import, *value);
    qcnn_shape shape = { .rank = rank > 1 ? rank - 1 : 1, .dims = { (int64_t)qcnn_shape_elements(&vector) } };
    for (int i = 1; i < shape.rank; i++)
        shape.dims[i] = 1;
    return qcnn_onnx_emit_reshape(import, part, *value, &shape, value);
}

// y = x * a + b with a = scale / sqrt(variance + epsilon), b = bias - mean * a. Both are constant where the parameters are,
// and then fold into the convolution before.
static qcnn_status lower_batch_normalization(onnx_import *import)
{
    int x, scale, bias, mean, variance, epsilon, factor, product;
    QCNN_TRY(qcnn_onnx_float_input(import, 0, &x));
    QCNN_TRY(qcnn_onnx_float_input(import, 1, &scale));
    QCNN_TRY(qcnn_onnx_float_input(import, 2, &bias));
    QCNN_TRY(qcnn_onnx_float_input(import, 3, &mean));
    QCNN_TRY(qcnn_onnx_float_input(import, 4, &variance));
    const int rank = qcnn_onnx_shape(import, x)->rank;
    if (qcnn_onnx_int(import->node, "training_mode", 0) || qcnn_onnx_output_used(import, 1) || !qcnn_onnx_int(import->node, "spatial", 1))
        return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "training mode, further outputs and spatial = 0 are not supported");
    QCNN_TRY(qcnn_onnx_add_scalar(import, qcnn_onnx_float(import->node, "epsilon", 1e-5f), &epsilon));
    QCNN_TRY(qcnn_onnx_emit_binary(import, QCNN_ADD, "epsilon", variance, epsilon, &factor));
    QCNN_TRY(qcnn_onnx_emit_unary(import, &(qcnn_activation){ .function = QCNN_SQRT }, "deviation", factor, &factor));
    QCNN_TRY(qcnn_onnx_emit_binary(import, QCNN_DIVIDE, "factor", scale, factor, &factor));
    QCNN_TRY(qcnn_onnx_emit_binary(import, QCNN_MULTIPLY, "mean", mean, factor, &mean));
    QCNN_TRY(qcnn_onnx_emit_binary(import, QCNN_SUBTRACT, "offset", bias, mean, &bias));
    QCNN_TRY(over_channels(import, "factor", rank, &factor));
    QCNN_TRY(over_channels(import, "offset", rank, &bias));
    QCNN_TRY(qcnn_onnx_emit_binary(import, QCNN_MULTIPLY, NULL, x, factor, &product));
    QCNN_TRY(qcnn_onnx_emit_binary(import, QCNN_ADD, "add", product, bias, &product));
    return qcnn_onnx_set_float(import, product);
}

static qcnn_status lower_lrn(onnx_import *import)
{
    int input, output;
    QCNN_TRY(qcnn_onnx_float_input(import, 0, &input));
    const int64_t size = qcnn_onnx_int(import->node, "size", 0);
    const qcnn_attributes a = { .lrn_size = size < 0 || size > INT32_MAX ? 0 : (int32_t)size,
                                .lrn_alpha = qcnn_onnx_float(import->node, "alpha", 1e-4f),
                                .lrn_beta = qcnn_onnx_float(import->node, "beta", 0.75f),
                                .lrn_bias = qcnn_onnx_float(import->node, "bias", 1) };
    QCNN_TRY(qcnn_onnx_emit(import, QCNN_OP_LRN, NULL, &input, 1, &a, &output));
    return qcnn_onnx_set_float(import, output);
}

// Before opset 13 the dimensions from the axis (1 unless given) to the last are taken together.
static qcnn_status softmax_like(onnx_import *import, qcnn_op op)
{
    int input, output;
    QCNN_TRY(qcnn_onnx_float_input(import, 0, &input));
    const int rank = qcnn_onnx_shape(import, input)->rank;
    const bool together = import->graph.opset < 13;
    const int axis = qcnn_onnx_axis(qcnn_onnx_int(import->node, "axis", together ? 1 : -1), rank);
    if (axis < 0 && rank > 0)
        return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "its axis is out of range");
    const qcnn_attributes a = { .axis = axis, .axis_end = together ? rank - 1 : axis };
    QCNN_TRY(qcnn_onnx_emit(import, op, NULL, &input, 1, &a, &output));
    return qcnn_onnx_set_float(import, output);
}

static qcnn_status lower_softmax(onnx_import *import)
{
    return softmax_like(import, QCNN_OP_SOFTMAX);
}

static qcnn_status lower_log_softmax(onnx_import *import)
{
    return softmax_like(import, QCNN_OP_LOG_SOFTMAX);
}

// Before opset 7 a slope of one number a channel stood for itself; since then it broadcasts as NumPy does.
static qcnn_status lower_prelu(onnx_import *import)
{
    int x, slope, output;
    QCNN_TRY(qcnn_onnx_float_input(import, 0, &x));
    QCNN_TRY(qcnn_onnx_float_input(import, 1, &slope));
    const qcnn_shape *shape = qcnn_onnx_shape(import, x), *slopes = qcnn_onnx_shape(import, slope);
    const bool by_channel = import->graph.opset < 7 && slopes->rank == 1 && slopes->dims[0] > 1 && shape->rank > 1;
    if (by_channel)
        QCNN_TRY(over_channels(import, "slope", shape->rank, &slope));
    if (qcnn_onnx_shape(import, slope)->rank > qcnn_onnx_shape(import, x)->rank)
        return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "its slope has more dimensions than its input");
    QCNN_TRY(qcnn_onnx_emit_binary(import, QCNN_PRELU, NULL, x, slope, &output));
    return qcnn_onnx_set_float(import, output);
}

const onnx_operator qcnn_onnx_layers[] = {
    { "Conv", 2, 3, lower_conv, NULL },
    { "Gemm", 2, 3, lower_gemm, NULL },
    { "MatMul", 2, 2, lower_matmul, NULL },
    { "MaxPool", 1, 1, lower_max_pool, NULL },
    { "AveragePool", 1, 1, lower_average_pool, NULL },
    { "GlobalAveragePool", 1, 1, lower_global_average_pool, NULL },
    { "GlobalMaxPool", 1, 1, lower_global_max_pool, NULL },
    { "BatchNormalization", 5, 5, lower_batch_normalization, NULL },
    { "LRN", 1, 1, lower_lrn, NULL },
    { "Softmax", 1, 1, lower_softmax, NULL },
    { "LogSoftmax", 1, 1, lower_log_softmax, NULL },
    { "PRelu", 2, 2, lower_prelu, NULL },
    { 0 },
};
