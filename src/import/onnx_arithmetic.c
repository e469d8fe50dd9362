// SPDX-License-Identifier: Apache-2.0
// Lowering of element-wise ONNX operators on floats. Their integer forms are in onnx_integers.c.

#include <float.h>
#include <math.h>
#include <string.h>

#include "import/onnx.h"
#include "import/onnx_integers.h"

// ---- two operands ---------------------------------------------------------------------------------------------------

// Before opset 7 the second operand was aligned with the first at attribute `axis`: dimensions of 1 behind it do the same.
static qcnn_status align_operand(onnx_import *import, int a, int *b)
{
    const int rank = qcnn_onnx_shape(import, a)->rank;
    qcnn_shape shape = *qcnn_onnx_shape(import, *b);
    if (import->graph.opset >= 7 || !qcnn_onnx_int(import->node, "broadcast", 0) || !qcnn_onnx_has(import->node, "axis"))
        return QCNN_OK;
    const int axis = qcnn_onnx_axis(qcnn_onnx_int(import->node, "axis", 0), rank);
    if (axis < 0 || axis + shape.rank > rank)
        return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "its axis is out of range");
    while (axis + shape.rank < rank)
        shape.dims[shape.rank++] = 1;
    return qcnn_onnx_emit_reshape(import, "align", *b, &shape, b);
}

static qcnn_status lower_two(onnx_import *import, qcnn_function function)
{
    int a, b, output;
    QCNN_TRY(qcnn_onnx_float_input(import, 0, &a));
    QCNN_TRY(qcnn_onnx_float_input(import, 1, &b));
    QCNN_TRY(align_operand(import, a, &b));
    QCNN_TRY(qcnn_onnx_emit_binary(import, function, NULL, a, b, &output));
    return qcnn_onnx_set_float(import, output);
}

static qcnn_status lower_add(onnx_import *import)
{
    return lower_two(import, QCNN_ADD);
}

static qcnn_status lower_sub(onnx_import *import)
{
    return lower_two(import, QCNN_SUBTRACT);
}

static qcnn_status lower_mul(onnx_import *import)
{
    return lower_two(import, QCNN_MULTIPLY);
}

static qcnn_status lower_div(onnx_import *import)
{
    return lower_two(import, QCNN_DIVIDE);
}

static qcnn_status lower_pow(onnx_import *import)
{
    return lower_two(import, QCNN_POWER);
}

// Sum, Max and Min take any number of operands: a chain of pairs.
static qcnn_status lower_many(onnx_import *import, qcnn_function function)
{
    int output, next;
    QCNN_TRY(qcnn_onnx_float_input(import, 0, &output));
    for (int i = 1; i < import->node->n_inputs; i++) {
        QCNN_TRY(qcnn_onnx_float_input(import, i, &next));
        QCNN_TRY(qcnn_onnx_emit_binary(import, function, NULL, output, next, &output));
    }
    return qcnn_onnx_set_float(import, output);
}

static qcnn_status lower_sum(onnx_import *import)
{
    return lower_many(import, QCNN_ADD);
}

static qcnn_status lower_max(onnx_import *import)
{
    return lower_many(import, QCNN_MAXIMUM);
}

static qcnn_status lower_min(onnx_import *import)
{
    return lower_many(import, QCNN_MINIMUM);
}

// ---- one operand ----------------------------------------------------------------------------------------------------

// The functions of one argument with their attributes' defaults; NaN: no such attribute.
static const struct {
    const char *name;
    qcnn_function function;
    float alpha, beta;
} unary_functions[] = {
    { "Relu", QCNN_RELU, NAN, NAN },
    { "LeakyRelu", QCNN_LEAKY_RELU, 0.01f, NAN },
    { "Elu", QCNN_ELU, 1, NAN },
    { "Sigmoid", QCNN_SIGMOID, NAN, NAN },
    { "HardSigmoid", QCNN_HARD_SIGMOID, 0.2f, 0.5f },
    { "Tanh", QCNN_TANH, NAN, NAN },
    { "HardSwish", QCNN_HARD_SWISH, NAN, NAN },
    { "Sqrt", QCNN_SQRT, NAN, NAN },
    { "Exp", QCNN_EXP, NAN, NAN },
    { "Log", QCNN_LOG, NAN, NAN },
    { "Abs", QCNN_ABS, NAN, NAN },
    { "Neg", QCNN_NEGATE, NAN, NAN },
    { "Reciprocal", QCNN_RECIPROCAL, NAN, NAN },
};

static qcnn_status lower_unary(onnx_import *import)
{
    int input, output;
    QCNN_TRY(qcnn_onnx_float_input(import, 0, &input));
    qcnn_activation activation = { 0 };
    for (size_t i = 0; i < sizeof unary_functions / sizeof *unary_functions; i++)
        if (qcnn_span_is(import->node->op, unary_functions[i].name)) {
            activation.function = unary_functions[i].function;
            if (!isnan(unary_functions[i].alpha))
                activation.alpha = qcnn_onnx_float(import->node, "alpha", unary_functions[i].alpha);
            if (!isnan(unary_functions[i].beta))
                activation.beta = qcnn_onnx_float(import->node, "beta", unary_functions[i].beta);
        }
    QCNN_TRY(qcnn_onnx_emit_unary(import, &activation, NULL, input, &output));
    return qcnn_onnx_set_float(import, output);
}

// One bound of Clip: attribute before opset 11, input since. *value is the bound when it is constant; *dynamic is the input
// that holds it otherwise, -1 when there is none.
static qcnn_status clip_bound(onnx_import *import, const char *name, int index, float *value, int *dynamic)
{
    int input;
    *dynamic = -1;
    *value = qcnn_onnx_float(import->node, name, *value);
    if (!qcnn_onnx_input(import, index))
        return QCNN_OK;
    QCNN_TRY(qcnn_onnx_float_input(import, index, &input));
    if (qcnn_shape_elements(qcnn_onnx_shape(import, input)) != 1)
        return qcnn_onnx_refuse(import, QCNN_ERROR_FORMAT, "%s must be one number", name);
    const float *data = qcnn_onnx_constant(import, input);
    if (data)
        *value = *data;
    else
        *dynamic = input;
    return QCNN_OK;
}

static qcnn_status lower_clip(onnx_import *import)
{
    int output, low, high;
    qcnn_activation clip = { QCNN_CLIP, -FLT_MAX, FLT_MAX };
    QCNN_TRY(qcnn_onnx_float_input(import, 0, &output));
    QCNN_TRY(clip_bound(import, "min", 1, &clip.alpha, &low));
    QCNN_TRY(clip_bound(import, "max", 2, &clip.beta, &high));
    const bool constant = low < 0 && high < 0;
    if (constant || clip.alpha > -FLT_MAX || clip.beta < FLT_MAX)
        QCNN_TRY(qcnn_onnx_emit_unary(import, &clip, constant ? NULL : "clip", output, &output));
    if (low >= 0)
        QCNN_TRY(qcnn_onnx_emit_binary(import, QCNN_MAXIMUM, "low", output, low, &output));
    if (high >= 0)
        QCNN_TRY(qcnn_onnx_emit_binary(import, QCNN_MINIMUM, "high", output, high, &output));
    return qcnn_onnx_set_float(import, output);
}

// Floor and Ceil occur in computed sizes: only constants are rounded.
static qcnn_status lower_round(onnx_import *import)
{
    int input, output;
    float *rounded;
    QCNN_TRY(qcnn_onnx_float_input(import, 0, &input));
    const float *data = qcnn_onnx_constant(import, input);
    if (!data)
        return qcnn_onnx_refuse(import, QCNN_ERROR_UNSUPPORTED, "only supported on constants");
    const qcnn_shape shape = *qcnn_onnx_shape(import, input);
    const uint64_t n = qcnn_shape_elements(&shape);
    QCNN_TRY(qcnn_onnx_allocate_floats(import, n, &rounded));
    for (uint64_t i = 0; i < n; i++)
        rounded[i] = qcnn_span_is(import->node->op, "Ceil") ? ceilf(data[i]) : floorf(data[i]);
    QCNN_TRY(qcnn_onnx_add_constant(import, &shape, rounded, &output));
    return qcnn_onnx_set_float(import, output);
}

const onnx_operator qcnn_onnx_arithmetic[] = {
    { "Add", 2, 2, lower_add, qcnn_onnx_fold_pair },
    { "Sub", 2, 2, lower_sub, qcnn_onnx_fold_pair },
    { "Mul", 2, 2, lower_mul, qcnn_onnx_fold_pair },
    { "Div", 2, 2, lower_div, qcnn_onnx_fold_pair },
    { "Mod", 2, 2, NULL, qcnn_onnx_fold_pair },
    { "Pow", 2, 2, lower_pow, NULL },
    { "Sum", 1, ONNX_MAX_INPUTS, lower_sum, NULL },
    { "Max", 1, ONNX_MAX_INPUTS, lower_max, qcnn_onnx_fold_pair },
    { "Min", 1, ONNX_MAX_INPUTS, lower_min, qcnn_onnx_fold_pair },
    { "Equal", 2, 2, NULL, qcnn_onnx_fold_pair },
    { "Greater", 2, 2, NULL, qcnn_onnx_fold_pair },
    { "Less", 2, 2, NULL, qcnn_onnx_fold_pair },
    { "And", 2, 2, NULL, qcnn_onnx_fold_pair },
    { "Or", 2, 2, NULL, qcnn_onnx_fold_pair },
    { "Not", 1, 1, NULL, qcnn_onnx_fold_single },
    { "Relu", 1, 1, lower_unary, NULL },
    { "LeakyRelu", 1, 1, lower_unary, NULL },
    { "Elu", 1, 1, lower_unary, NULL },
    { "Sigmoid", 1, 1, lower_unary, NULL },
    { "HardSigmoid", 1, 1, lower_unary, NULL },
    { "Tanh", 1, 1, lower_unary, NULL },
    { "HardSwish", 1, 1, lower_unary, NULL },
    { "Sqrt", 1, 1, lower_unary, NULL },
    { "Exp", 1, 1, lower_unary, NULL },
    { "Log", 1, 1, lower_unary, NULL },
    { "Abs", 1, 1, lower_unary, qcnn_onnx_fold_single },
    { "Neg", 1, 1, lower_unary, qcnn_onnx_fold_single },
    { "Reciprocal", 1, 1, lower_unary, NULL },
    { "Clip", 1, 3, lower_clip, NULL },
    { "Floor", 1, 1, lower_round, NULL },
    { "Ceil", 1, 1, lower_round, NULL },
    { 0 },
};
