// SPDX-License-Identifier: Apache-2.0
// Caffe's layer types in our operators. Settings, their defaults and the order of blobs are those of caffe.proto and of
// Caffe's layer catalogue.

#include <math.h>
#include <string.h>

#include "import/caffe.h"

static const qcnn_shape *shape_of(const caffe_import *import, int value)
{
    return &import->model->values[value].shape;
}

// ---- settings -------------------------------------------------------------------------------------------------------

static int64_t setting(caffe_import *import, int parameter, const char *name, int64_t otherwise)
{
    return qcnn_prototxt_int(&import->net, parameter, name, 0, otherwise, &import->valid);
}

static float float_setting(caffe_import *import, int parameter, const char *name, float otherwise)
{
    return qcnn_prototxt_float(&import->net, parameter, name, 0, otherwise, &import->valid);
}

static bool flag(caffe_import *import, int parameter, const char *name, bool otherwise)
{
    return qcnn_prototxt_bool(&import->net, parameter, name, otherwise, &import->valid);
}

static bool has(const caffe_import *import, int parameter, const char *name)
{
    return qcnn_prototxt_find(&import->net, parameter, name, 0) >= 0;
}

// An axis in 0..rank-1; -1 when it is outside.
static int axis_setting(caffe_import *import, int parameter, const char *name, int64_t otherwise, int rank)
{
    const int64_t axis = setting(import, parameter, name, otherwise);
    return axis < -rank || axis >= rank ? -1 : (int)(axis < 0 ? axis + rank : axis);
}

static qcnn_status require(caffe_import *import, bool condition, const char *what)
{
    return condition ? QCNN_OK : qcnn_caffe_refuse(import, QCNN_ERROR_UNSUPPORTED, what);
}

// One number for each spatial dimension: repeated `name` (the last one goes on), or `name_h` and `name_w`.
static qcnn_status window_setting(caffe_import *import, int parameter, const char *name, const char *name_h, const char *name_w,
                                  int64_t otherwise, int n, int32_t *result)
{
    for (int i = 0; i < n; i++) {
        int64_t value = otherwise;
        for (int k = i; k >= 0 && name; k--) // the last one there is, up to this dimension
            if (qcnn_prototxt_find(&import->net, parameter, name, k) >= 0) {
                value = qcnn_prototxt_int(&import->net, parameter, name, k, 0, &import->valid);
                break;
            }
        if (n == 2 && name_h && has(import, parameter, i ? name_w : name_h))
            value = setting(import, parameter, i ? name_w : name_h, 0);
        if (value < 0 || value > INT32_MAX)
            return qcnn_caffe_refuse(import, QCNN_ERROR_FORMAT, "its kernel, stride, padding or dilation is out of range");
        result[i] = (int32_t)value;
    }
    return QCNN_OK;
}

static qcnn_status window_settings(caffe_import *import, int parameter, qcnn_attributes *a)
{
    QCNN_TRY(window_setting(import, parameter, "kernel_size", "kernel_h", "kernel_w", 0, a->n_spatial, a->kernel));
    QCNN_TRY(window_setting(import, parameter, "stride", "stride_h", "stride_w", 1, a->n_spatial, a->stride));
    QCNN_TRY(window_setting(import, parameter, "dilation", NULL, NULL, 1, a->n_spatial, a->dilation));
    QCNN_TRY(window_setting(import, parameter, "pad", "pad_h", "pad_w", 0, a->n_spatial, a->window_begin));
    memcpy(a->window_end, a->window_begin, sizeof a->window_end);
    return QCNN_OK;
}

// ---- layers with weights --------------------------------------------------------------------------------------------

static qcnn_status express_input(caffe_import *import, int parameter)
{
    for (int i = 0, n = qcnn_caffe_n_ports(import, "top"); i < n; i++) {
        const int own = qcnn_prototxt_find(&import->net, parameter, "shape", i);
        QCNN_TRY(qcnn_caffe_input(import, own >= 0 ? own : qcnn_prototxt_find(&import->net, parameter, "shape", 0)));
    }
    return QCNN_OK;
}

static qcnn_status express_convolution(caffe_import *import, int parameter)
{
    int inputs[3], output;
    QCNN_TRY(qcnn_caffe_bottom(import, 0, &inputs[0]));
    const qcnn_shape x = *shape_of(import, inputs[0]);
    const int64_t groups = setting(import, parameter, "group", 1), n_outputs = setting(import, parameter, "num_output", 0);
    qcnn_attributes a = { .n_spatial = x.rank - 2, .groups = (int32_t)groups };
    QCNN_TRY(require(import, a.n_spatial >= 1 && a.n_spatial <= QCNN_MAX_SPATIAL, "only 1 to 3 spatial dimensions are supported"));
    QCNN_TRY(window_settings(import, parameter, &a));
    if (groups < 1 || groups > INT32_MAX || n_outputs < 1 || n_outputs > INT32_MAX)
        return qcnn_caffe_refuse(import, QCNN_ERROR_FORMAT, "num_output and group must be at least 1");
    qcnn_shape w = { .rank = x.rank, .dims = { n_outputs, x.dims[1] / groups } };
    for (int i = 0; i < a.n_spatial; i++)
        w.dims[2 + i] = a.kernel[i];
    const bool has_bias = flag(import, parameter, "bias_term", true);
    QCNN_TRY(qcnn_caffe_weight(import, 0, &w, &inputs[1]));
    if (has_bias)
        QCNN_TRY(qcnn_caffe_weight(import, 1, &(qcnn_shape){ .rank = 1, .dims = { n_outputs } }, &inputs[2]));
    QCNN_TRY(qcnn_caffe_emit(import, QCNN_OP_CONV, inputs, has_bias ? 3 : 2, &a, &output));
    return qcnn_caffe_top(import, output);
}

// Everything behind the first dimension as one.
static qcnn_status flatten(caffe_import *import, int *value)
{
    const qcnn_attributes a = { .target_rank = 2, .target = { 0, -1 } };
    const int input = *value;
    return shape_of(import, input)->rank == 2 ? QCNN_OK : qcnn_caffe_emit(import, QCNN_OP_RESHAPE, &input, 1, &a, value);
}

static qcnn_status express_inner_product(caffe_import *import, int parameter)
{
    int inputs[3], output;
    QCNN_TRY(qcnn_caffe_bottom(import, 0, &inputs[0]));
    QCNN_TRY(
        require(import, axis_setting(import, parameter, "axis", 1, shape_of(import, inputs[0])->rank) == 1, "only axis 1 is supported"));
    QCNN_TRY(require(import, !flag(import, parameter, "transpose", false), "transposed weights are not supported"));
    QCNN_TRY(flatten(import, &inputs[0]));
    const int64_t n_inputs = shape_of(import, inputs[0])->dims[1], n_outputs = setting(import, parameter, "num_output", 0);
    const bool has_bias = flag(import, parameter, "bias_term", true);
    if (n_outputs < 1)
        return qcnn_caffe_refuse(import, QCNN_ERROR_FORMAT, "num_output must be at least 1");
    QCNN_TRY(qcnn_caffe_weight(import, 0, &(qcnn_shape){ .rank = 2, .dims = { n_outputs, n_inputs } }, &inputs[1]));
    if (has_bias)
        QCNN_TRY(qcnn_caffe_weight(import, 1, &(qcnn_shape){ .rank = 1, .dims = { n_outputs } }, &inputs[2]));
    QCNN_TRY(qcnn_caffe_emit(import, QCNN_OP_FC, inputs, has_bias ? 3 : 2, NULL, &output));
    return qcnn_caffe_top(import, output);
}

static qcnn_status emit_binary(caffe_import *import, qcnn_function function, int a, int b, int *output)
{
    const qcnn_attributes attributes = { .function = function };
    return qcnn_caffe_emit(import, QCNN_OP_BINARY, (const int[]){ a, b }, 2, &attributes, output);
}

// [channels][1]...: one number a channel, over a value of rank `rank`.
static qcnn_shape channel_shape(int64_t n_channels, int rank)
{
    qcnn_shape shape = { .rank = rank - 1, .dims = { n_channels } };
    for (int i = 1; i < shape.rank; i++)
        shape.dims[i] = 1;
    return shape;
}

// Blobs: sums of means and variances, and by what they are to be divided. y = (x - mean) / sqrt(variance + eps).
static qcnn_status express_batch_norm(caffe_import *import, int parameter)
{
    int x, mean, variance, count, factor, offset;
    QCNN_TRY(qcnn_caffe_bottom(import, 0, &x));
    const int rank = shape_of(import, x)->rank;
    QCNN_TRY(require(import, rank >= 2, "it needs channels"));
    QCNN_TRY(require(import, flag(import, parameter, "use_global_stats", true), "statistics of the batch are not supported"));
    const int64_t n = shape_of(import, x)->dims[1];
    const qcnn_shape shape = channel_shape(n, rank);
    QCNN_TRY(qcnn_caffe_weight(import, 0, &shape, &mean));
    QCNN_TRY(qcnn_caffe_weight(import, 1, &shape, &variance));
    QCNN_TRY(qcnn_caffe_weight(import, 2, &(qcnn_shape){ .rank = 1, .dims = { 1 } }, &count));
    const qcnn_tensor *tensors = import->model->tensors;
    const qcnn_value *values = import->model->values;
    const float *means = tensors[values[mean].tensor].data, *variances = tensors[values[variance].tensor].data;
    const float divisor = tensors[values[count].tensor].data[0], scale = divisor == 0 ? 0 : 1 / divisor;
    const float epsilon = float_setting(import, parameter, "eps", 1e-5f);
    float *factors = qcnn_allocate((size_t)n, sizeof *factors), *offsets = qcnn_allocate((size_t)n, sizeof *offsets);
    for (int64_t i = 0; factors && offsets && i < n; i++) {
        factors[i] = 1 / sqrtf(variances[i] * scale + epsilon);
        offsets[i] = -means[i] * scale * factors[i];
    }
    if (!factors || !offsets) {
        qcnn_release(factors);
        qcnn_release(offsets);
        return qcnn_fail_memory(import->error, (size_t)n * sizeof *factors);
    }
    const qcnn_status status = qcnn_caffe_constant(import, &shape, factors, &factor);
    if (status != QCNN_OK)
        qcnn_release(offsets);
    QCNN_TRY(status);
    QCNN_TRY(qcnn_caffe_constant(import, &shape, offsets, &offset));
    QCNN_TRY(emit_binary(import, QCNN_MULTIPLY, x, factor, &x));
    QCNN_TRY(emit_binary(import, QCNN_ADD, x, offset, &x));
    return qcnn_caffe_top(import, x);
}

// Scale and Bias with learned numbers for each channel.
static qcnn_status express_channels(caffe_import *import, int parameter, bool has_factor, bool has_term)
{
    int x, constant;
    QCNN_TRY(qcnn_caffe_bottom(import, 0, &x));
    const int rank = shape_of(import, x)->rank;
    QCNN_TRY(require(import,
                     qcnn_caffe_n_ports(import, "bottom") == 1 && rank >= 2 && axis_setting(import, parameter, "axis", 1, rank) == 1 &&
                         setting(import, parameter, "num_axes", 1) == 1,
                     "only learned numbers for each channel are supported"));
    const qcnn_shape shape = channel_shape(shape_of(import, x)->dims[1], rank);
    if (has_factor) {
        QCNN_TRY(qcnn_caffe_weight(import, 0, &shape, &constant));
        QCNN_TRY(emit_binary(import, QCNN_MULTIPLY, x, constant, &x));
    }
    if (has_term) {
        QCNN_TRY(qcnn_caffe_weight(import, has_factor, &shape, &constant));
        QCNN_TRY(emit_binary(import, QCNN_ADD, x, constant, &x));
    }
    return qcnn_caffe_top(import, x);
}

static qcnn_status express_scale(caffe_import *import, int parameter)
{
    return express_channels(import, parameter, true, flag(import, parameter, "bias_term", false));
}

static qcnn_status express_bias(caffe_import *import, int parameter)
{
    return express_channels(import, parameter, false, true);
}

static qcnn_status express_prelu(caffe_import *import, int parameter)
{
    int x, slope, output;
    QCNN_TRY(qcnn_caffe_bottom(import, 0, &x));
    const int rank = shape_of(import, x)->rank;
    QCNN_TRY(require(import, rank >= 2, "it needs channels"));
    const qcnn_shape shape = channel_shape(flag(import, parameter, "channel_shared", false) ? 1 : shape_of(import, x)->dims[1], rank);
    QCNN_TRY(qcnn_caffe_weight(import, 0, &shape, &slope));
    QCNN_TRY(emit_binary(import, QCNN_PRELU, x, slope, &output));
    return qcnn_caffe_top(import, output);
}

// ---- layers without weights -----------------------------------------------------------------------------------------

static qcnn_status express_function(caffe_import *import, qcnn_function function, float alpha)
{
    int input, output;
    const qcnn_attributes a = { .function = function, .activation = { .alpha = alpha } };
    QCNN_TRY(qcnn_caffe_bottom(import, 0, &input));
    QCNN_TRY(qcnn_caffe_emit(import, QCNN_OP_UNARY, &input, 1, &a, &output));
    return qcnn_caffe_top(import, output);
}

static qcnn_status express_relu(caffe_import *import, int parameter)
{
    const float slope = float_setting(import, parameter, "negative_slope", 0);
    return express_function(import, slope == 0 ? QCNN_RELU : QCNN_LEAKY_RELU, slope);
}

static qcnn_status express_elu(caffe_import *import, int parameter)
{
    return express_function(import, QCNN_ELU, float_setting(import, parameter, "alpha", 1));
}

static qcnn_status express_sigmoid(caffe_import *import, int parameter)
{
    (void)parameter;
    return express_function(import, QCNN_SIGMOID, 0);
}

static qcnn_status express_tanh(caffe_import *import, int parameter)
{
    (void)parameter;
    return express_function(import, QCNN_TANH, 0);
}

// Windows that only partly lie on the input count, and padding counts in an average: Caffe's rules.
static qcnn_status express_pooling(caffe_import *import, int parameter)
{
    int input, output;
    QCNN_TRY(qcnn_caffe_bottom(import, 0, &input));
    const qcnn_shape x = *shape_of(import, input);
    const qcnn_span method = qcnn_prototxt_text(&import->net, parameter, "pool");
    const bool is_max = method.n == 0 || qcnn_span_is(method, "MAX") || qcnn_span_is(method, "0");
    const bool is_floor = qcnn_span_is(qcnn_prototxt_text(&import->net, parameter, "round_mode"), "FLOOR");
    QCNN_TRY(require(import, is_max || qcnn_span_is(method, "AVE") || qcnn_span_is(method, "1"), "only MAX and AVE are supported"));
    QCNN_TRY(require(import, x.rank >= 3 && x.rank <= 2 + QCNN_MAX_SPATIAL, "only 1 to 3 spatial dimensions are supported"));
    qcnn_attributes a = { .n_spatial = x.rank - 2,
                          .ceil_mode = !is_floor && flag(import, parameter, "ceil_mode", true),
                          .count_include_pad = !is_max };
    if (flag(import, parameter, "global_pooling", false)) {
        qcnn_attributes all = { .keep_dims = 1 };
        for (int i = 2; i < x.rank; i++)
            all.axes[i] = 1;
        QCNN_TRY(qcnn_caffe_emit(import, is_max ? QCNN_OP_REDUCE_MAX : QCNN_OP_REDUCE_MEAN, &input, 1, &all, &output));
        return qcnn_caffe_top(import, output);
    }
    QCNN_TRY(window_settings(import, parameter, &a));
    QCNN_TRY(qcnn_caffe_emit(import, is_max ? QCNN_OP_MAX_POOL : QCNN_OP_AVERAGE_POOL, &input, 1, &a, &output));
    return qcnn_caffe_top(import, output);
}

static qcnn_status express_lrn(caffe_import *import, int parameter)
{
    int input, output;
    const qcnn_span region = qcnn_prototxt_text(&import->net, parameter, "norm_region");
    QCNN_TRY(require(import, region.n == 0 || qcnn_span_is(region, "ACROSS_CHANNELS") || qcnn_span_is(region, "0"),
                     "only normalization across channels is supported"));
    const int64_t size = setting(import, parameter, "local_size", 5);
    const qcnn_attributes a = { .lrn_size = size < 1 || size > INT32_MAX ? 0 : (int32_t)size,
                                .lrn_alpha = float_setting(import, parameter, "alpha", 1),
                                .lrn_beta = float_setting(import, parameter, "beta", 0.75f),
                                .lrn_bias = float_setting(import, parameter, "k", 1) };
    QCNN_TRY(qcnn_caffe_bottom(import, 0, &input));
    QCNN_TRY(qcnn_caffe_emit(import, QCNN_OP_LRN, &input, 1, &a, &output));
    return qcnn_caffe_top(import, output);
}

static qcnn_status express_softmax(caffe_import *import, int parameter)
{
    int input, output;
    QCNN_TRY(qcnn_caffe_bottom(import, 0, &input));
    const int axis = axis_setting(import, parameter, "axis", 1, shape_of(import, input)->rank);
    const qcnn_attributes a = { .axis = axis, .axis_end = axis };
    QCNN_TRY(qcnn_caffe_emit(import, QCNN_OP_SOFTMAX, &input, 1, &a, &output));
    return qcnn_caffe_top(import, output);
}

static qcnn_status express_concat(caffe_import *import, int parameter)
{
    int inputs[CAFFE_MAX_PORTS], output;
    const int n = qcnn_caffe_n_ports(import, "bottom");
    for (int i = 0; i < n || i == 0; i++)
        QCNN_TRY(qcnn_caffe_bottom(import, i, &inputs[i]));
    const char *name = has(import, parameter, "concat_dim") ? "concat_dim" : "axis";
    const qcnn_attributes a = { .axis = axis_setting(import, parameter, name, 1, shape_of(import, inputs[0])->rank) };
    QCNN_TRY(qcnn_caffe_emit(import, QCNN_OP_CONCAT, inputs, n, &a, &output));
    return qcnn_caffe_top(import, output);
}

// Bottom `index` of a sum, times its coefficient where that is not 1.
static qcnn_status summand(caffe_import *import, int parameter, int index, int *value)
{
    QCNN_TRY(qcnn_caffe_bottom(import, index, value));
    const float coefficient = qcnn_prototxt_float(&import->net, parameter, "coeff", index, 1, &import->valid);
    if (coefficient == 1)
        return QCNN_OK;
    float *data = qcnn_allocate(1, sizeof *data);
    int constant;
    if (!data)
        return qcnn_fail_memory(import->error, sizeof *data);
    *data = coefficient;
    QCNN_TRY(qcnn_caffe_constant(import, &(qcnn_shape){ 0 }, data, &constant));
    return emit_binary(import, QCNN_MULTIPLY, *value, constant, value);
}

static qcnn_status express_eltwise(caffe_import *import, int parameter)
{
    int output, next;
    const qcnn_span operation = qcnn_prototxt_text(&import->net, parameter, "operation");
    const bool is_sum = operation.n == 0 || qcnn_span_is(operation, "SUM") || qcnn_span_is(operation, "1");
    const bool is_product = qcnn_span_is(operation, "PROD") || qcnn_span_is(operation, "0");
    QCNN_TRY(require(import, is_sum || is_product || qcnn_span_is(operation, "MAX") || qcnn_span_is(operation, "2"), "unknown operation"));
    const qcnn_function function = is_sum ? QCNN_ADD : is_product ? QCNN_MULTIPLY : QCNN_MAXIMUM;
    const int n = qcnn_caffe_n_ports(import, "bottom"), sum_parameter = is_sum ? parameter : -1;
    QCNN_TRY(summand(import, sum_parameter, 0, &output));
    for (int i = 1; i < n; i++) {
        QCNN_TRY(summand(import, sum_parameter, i, &next));
        if (!qcnn_shape_equal(shape_of(import, output), shape_of(import, next)))
            return qcnn_caffe_refuse(import, QCNN_ERROR_FORMAT, "its bottoms have different shapes");
        QCNN_TRY(emit_binary(import, function, output, next, &output));
    }
    return qcnn_caffe_top(import, output);
}

static qcnn_status express_flatten(caffe_import *import, int parameter)
{
    int value;
    QCNN_TRY(qcnn_caffe_bottom(import, 0, &value));
    const int rank = shape_of(import, value)->rank;
    QCNN_TRY(require(
        import, axis_setting(import, parameter, "axis", 1, rank) == 1 && axis_setting(import, parameter, "end_axis", -1, rank) == rank - 1,
        "only flattening of everything behind the batch is supported"));
    QCNN_TRY(flatten(import, &value));
    return qcnn_caffe_top(import, value);
}

static qcnn_status express_reshape(caffe_import *import, int parameter)
{
    int input, output;
    qcnn_attributes a = { 0 };
    QCNN_TRY(qcnn_caffe_bottom(import, 0, &input));
    const int shape = qcnn_prototxt_find(&import->net, parameter, "shape", 0);
    QCNN_TRY(require(import, setting(import, parameter, "axis", 0) == 0 && setting(import, parameter, "num_axes", -1) == -1,
                     "only reshaping of all dimensions is supported"));
    for (; qcnn_prototxt_find(&import->net, shape, "dim", a.target_rank) >= 0; a.target_rank++) {
        QCNN_TRY(require(import, a.target_rank < QCNN_MAX_RANK, "more than 8 dimensions"));
        a.target[a.target_rank] = qcnn_prototxt_int(&import->net, shape, "dim", a.target_rank, 0, &import->valid);
    }
    QCNN_TRY(qcnn_caffe_emit(import, QCNN_OP_RESHAPE, &input, 1, &a, &output));
    return qcnn_caffe_top(import, output);
}

// Dropout does nothing when the network is used; Split only gives names.
static qcnn_status express_same(caffe_import *import, int parameter)
{
    (void)parameter;
    int value;
    QCNN_TRY(qcnn_caffe_bottom(import, 0, &value));
    for (int i = 0, n = qcnn_caffe_n_ports(import, "top"); i < n; i++)
        QCNN_TRY(qcnn_caffe_top(import, value));
    return QCNN_OK;
}

const caffe_layer_type qcnn_caffe_layer_types[] = {
    { "Input", NULL, "input_param", express_input },
    { "Convolution", "CONVOLUTION", "convolution_param", express_convolution },
    { "InnerProduct", "INNER_PRODUCT", "inner_product_param", express_inner_product },
    { "BatchNorm", NULL, "batch_norm_param", express_batch_norm },
    { "Scale", NULL, "scale_param", express_scale },
    { "Bias", NULL, "bias_param", express_bias },
    { "PReLU", NULL, "prelu_param", express_prelu },
    { "ReLU", "RELU", "relu_param", express_relu },
    { "ELU", NULL, "elu_param", express_elu },
    { "Sigmoid", "SIGMOID", NULL, express_sigmoid },
    { "TanH", "TANH", NULL, express_tanh },
    { "Pooling", "POOLING", "pooling_param", express_pooling },
    { "LRN", "LRN", "lrn_param", express_lrn },
    { "Softmax", "SOFTMAX", "softmax_param", express_softmax },
    { "Concat", "CONCAT", "concat_param", express_concat },
    { "Eltwise", "ELTWISE", "eltwise_param", express_eltwise },
    { "Flatten", "FLATTEN", "flatten_param", express_flatten },
    { "Reshape", NULL, "reshape_param", express_reshape },
    { "Dropout", "DROPOUT", NULL, express_same },
    { "Split", "SPLIT", NULL, express_same },
    { 0 },
};
