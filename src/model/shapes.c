// SPDX-License-Identifier: Apache-2.0
// Shape inference. It is also where a node's attributes are checked: the engine runs what passes here without looking again.

#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "model/model.h"

enum { MAX_EXTENT = 1 << 24 }; // a kernel side, stride, dilation or padding beyond this is nonsense
static const uint64_t MAX_ELEMENTS = (uint64_t)1 << 40;

uint64_t qcnn_shape_elements(const qcnn_shape *shape)
{
    uint64_t n = 1;
    for (int i = 0; i < shape->rank; i++)
        if (shape->dims[i] < 0 || !qcnn_multiply(n, (uint64_t)shape->dims[i], &n))
            return UINT64_MAX;
    return n;
}

bool qcnn_shape_equal(const qcnn_shape *a, const qcnn_shape *b)
{
    return a->rank == b->rank && !memcmp(a->dims, b->dims, (size_t)a->rank * sizeof a->dims[0]);
}

const char *qcnn_shape_text(const qcnn_shape *shape, char text[96])
{
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < shape->rank && used < 80; i++)
        used += (size_t)snprintf(text + used, 96 - used, i ? "x%lld" : "%lld", (long long)shape->dims[i]);
    if (!shape->rank)
        snprintf(text, 96, "scalar");
    return text;
}

static bool valid_shape(const qcnn_shape *shape)
{
    if (shape->rank < 0 || shape->rank > QCNN_MAX_RANK)
        return false;
    for (int i = 0; i < shape->rank; i++)
        if (shape->dims[i] < 1)
            return false;
    return qcnn_shape_elements(shape) <= MAX_ELEMENTS;
}

static qcnn_status refuse(const qcnn_node *node, qcnn_error *error, const char *what, const qcnn_shape *shape)
{
    char text[96] = "";
    if (shape)
        qcnn_shape_text(shape, text);
    const char *op = qcnn_op_name(node->op);
    return qcnn_fail(error, QCNN_ERROR_FORMAT, "node '%s' (%s): %s%s%s", node->name ? node->name : "", op ? op : "unknown operator", what,
                     shape ? ", got " : "", text);
}

// ---- windows: convolutions and pools --------------------------------------------------------------------------------

static qcnn_status check_window(const qcnn_node *node, const qcnn_shape *x, qcnn_error *error)
{
    const qcnn_attributes *a = &node->attributes;
    if (a->n_spatial < 1 || a->n_spatial > QCNN_MAX_SPATIAL || x->rank != a->n_spatial + 2)
        return refuse(node, error, "the input needs a batch, channels and 1 to 3 spatial dimensions, as many as the kernel", x);
    for (int i = 0; i < a->n_spatial; i++)
        if (a->kernel[i] < 1 || a->kernel[i] > MAX_EXTENT || a->stride[i] < 1 || a->stride[i] > MAX_EXTENT || a->dilation[i] < 1 ||
            a->dilation[i] > MAX_EXTENT || a->window_begin[i] < 0 || a->window_begin[i] > MAX_EXTENT || a->window_end[i] < 0 ||
            a->window_end[i] > MAX_EXTENT)
            return refuse(node, error, "kernel, stride and dilation must be at least 1, padding at least 0", NULL);
    return QCNN_OK;
}

// How many windows fit along spatial dimension i; 0 when the kernel is larger than the padded input.
static int64_t n_windows(const qcnn_attributes *a, int i, int64_t side)
{
    const int64_t reach = (int64_t)a->dilation[i] * (a->kernel[i] - 1) + 1;
    const int64_t room = side + a->window_begin[i] + a->window_end[i] - reach;
    if (room < 0)
        return 0;
    if (!a->ceil_mode)
        return room / a->stride[i] + 1;
    const int64_t n = (room + a->stride[i] - 1) / a->stride[i] + 1;
    const bool last_starts_behind = (n - 1) * a->stride[i] >= side + a->window_begin[i]; // only padding would be under it
    return n - (last_starts_behind && n > 1);
}

static qcnn_status slide_window(const qcnn_node *node, const qcnn_shape *x, int64_t channels, qcnn_shape *y, qcnn_error *error)
{
    *y = (qcnn_shape){ .rank = x->rank, .dims = { x->dims[0], channels } };
    for (int i = 0; i < node->attributes.n_spatial; i++) {
        y->dims[2 + i] = n_windows(&node->attributes, i, x->dims[2 + i]);
        if (y->dims[2 + i] < 1)
            return refuse(node, error, "the kernel is larger than the padded input", x);
    }
    return QCNN_OK;
}

static qcnn_status infer_conv(const qcnn_node *node, const qcnn_shape *const *in, qcnn_shape *y, qcnn_error *error)
{
    const qcnn_shape *x = in[0], *w = in[1], *bias = node->n_inputs > 2 ? in[2] : NULL;
    const qcnn_attributes *a = &node->attributes;
    QCNN_TRY(check_window(node, x, error));
    if (!w || w->rank != x->rank)
        return refuse(node, error, "the weights must have as many dimensions as the input", w);
    for (int i = 0; i < a->n_spatial; i++)
        if (w->dims[2 + i] != a->kernel[i])
            return refuse(node, error, "the kernel's sides and the weights disagree", w);
    if (a->groups < 1 || a->groups > x->dims[1] || x->dims[1] % a->groups || w->dims[0] % a->groups)
        return refuse(node, error, "groups must divide the channels of input and output", x);
    if (w->dims[1] != x->dims[1] / a->groups)
        return refuse(node, error, "the weights' input channels do not match the input's", w);
    if (bias && (bias->rank != 1 || bias->dims[0] != w->dims[0]))
        return refuse(node, error, "the bias needs one value for each output channel", bias);
    return slide_window(node, x, w->dims[0], y, error);
}

static qcnn_status infer_pool(const qcnn_node *node, const qcnn_shape *const *in, qcnn_shape *y, qcnn_error *error)
{
    QCNN_TRY(check_window(node, in[0], error));
    for (int i = 0; i < node->attributes.n_spatial; i++) {
        const int64_t reach = (int64_t)node->attributes.dilation[i] * (node->attributes.kernel[i] - 1) + 1;
        if (node->attributes.window_begin[i] >= reach || node->attributes.window_end[i] >= reach)
            return refuse(node, error, "padding must be smaller than the kernel", NULL);
    }
    return slide_window(node, in[0], in[0]->dims[1], y, error);
}

// ---- matrices -------------------------------------------------------------------------------------------------------

static qcnn_status infer_fc(const qcnn_node *node, const qcnn_shape *const *in, qcnn_shape *y, qcnn_error *error)
{
    const qcnn_shape *x = in[0], *w = in[1], *bias = node->n_inputs > 2 ? in[2] : NULL;
    if (x->rank < 1 || !w || w->rank != 2 || x->dims[x->rank - 1] != w->dims[1])
        return refuse(node, error, "the last dimension of the input must equal the weights' inputs", x);
    if (bias && (bias->rank != 1 || bias->dims[0] != w->dims[0]))
        return refuse(node, error, "the bias needs one value for each output", bias);
    *y = *x;
    y->dims[x->rank - 1] = w->dims[0];
    return QCNN_OK;
}

// One dimension of two that broadcast against each other; 0 when they do not.
static int64_t broadcast(int64_t a, int64_t b)
{
    return a == b || b == 1 ? a : a == 1 ? b : 0;
}

static qcnn_status infer_matmul(const qcnn_node *node, const qcnn_shape *const *in, qcnn_shape *y, qcnn_error *error)
{
    qcnn_shape a = *in[0], b = *in[1];
    const bool row = a.rank == 1, column = b.rank == 1;
    if (a.rank < 1 || b.rank < 1 || (row && column))
        return refuse(node, error, "needs at least one matrix", in[0]);
    if (row)
        a = (qcnn_shape){ .rank = 2, .dims = { 1, in[0]->dims[0] } };
    if (column)
        b = (qcnn_shape){ .rank = 2, .dims = { in[1]->dims[0], 1 } };
    if (a.dims[a.rank - 1] != b.dims[b.rank - 2])
        return refuse(node, error, "the inner dimensions differ", in[1]);
    const int rank = a.rank > b.rank ? a.rank : b.rank;
    y->rank = 0;
    for (int i = 0; i < rank - 2; i++) {
        const int from_a = i - (rank - a.rank), from_b = i - (rank - b.rank);
        const int64_t dim = broadcast(from_a < 0 ? 1 : a.dims[from_a], from_b < 0 ? 1 : b.dims[from_b]);
        if (!dim)
            return refuse(node, error, "the leading dimensions do not broadcast", in[1]);
        y->dims[y->rank++] = dim;
    }
    if (!row)
        y->dims[y->rank++] = a.dims[a.rank - 2];
    if (!column)
        y->dims[y->rank++] = b.dims[b.rank - 1];
    return QCNN_OK;
}

static qcnn_status infer_binary(const qcnn_node *node, const qcnn_shape *const *in, qcnn_shape *y, qcnn_error *error)
{
    const qcnn_shape *a = in[0], *b = in[1];
    if (node->attributes.function < QCNN_ADD || node->attributes.function > QCNN_PRELU)
        return refuse(node, error, "not a function of two arguments", NULL);
    y->rank = a->rank > b->rank ? a->rank : b->rank;
    for (int i = 0; i < y->rank; i++) {
        const int from_a = i - (y->rank - a->rank), from_b = i - (y->rank - b->rank);
        y->dims[i] = broadcast(from_a < 0 ? 1 : a->dims[from_a], from_b < 0 ? 1 : b->dims[from_b]);
        if (!y->dims[i])
            return refuse(node, error, "the shapes do not broadcast", b);
    }
    return QCNN_OK;
}

// ---- moving data ----------------------------------------------------------------------------------------------------

static qcnn_status infer_concat(const qcnn_node *node, const qcnn_shape *const *in, qcnn_shape *y, qcnn_error *error)
{
    const int axis = node->attributes.axis;
    if (axis < 0 || axis >= in[0]->rank)
        return refuse(node, error, "no such axis", in[0]);
    *y = *in[0];
    for (int i = 1; i < node->n_inputs; i++) {
        qcnn_shape expected = *in[i];
        if (expected.rank != y->rank)
            return refuse(node, error, "all inputs need the same number of dimensions", in[i]);
        expected.dims[axis] = y->dims[axis];
        if (!qcnn_shape_equal(&expected, y) || __builtin_add_overflow(y->dims[axis], in[i]->dims[axis], &y->dims[axis]))
            return refuse(node, error, "all inputs must agree outside the axis", in[i]);
    }
    return QCNN_OK;
}

static qcnn_status infer_reshape(const qcnn_node *node, const qcnn_shape *const *in, qcnn_shape *y, qcnn_error *error)
{
    const qcnn_attributes *a = &node->attributes;
    if (a->target_rank < 0 || a->target_rank > QCNN_MAX_RANK)
        return refuse(node, error, "too many dimensions", NULL);
    int open = -1;
    *y = (qcnn_shape){ .rank = a->target_rank };
    for (int i = 0; i < y->rank; i++) {
        y->dims[i] = a->target[i];
        if (a->target[i] == 0)
            y->dims[i] = i < in[0]->rank ? in[0]->dims[i] : 0;
        else if (a->target[i] == -1 && open < 0) {
            y->dims[i] = 1;
            open = i;
        }
        if (y->dims[i] < 1)
            return refuse(node, error, "the target shape is not one", y);
    }
    const uint64_t from = qcnn_shape_elements(in[0]), to = qcnn_shape_elements(y);
    if (open >= 0 && from % to == 0)
        y->dims[open] = (int64_t)(from / to);
    if (qcnn_shape_elements(y) != from)
        return refuse(node, error, "the target shape has another number of elements than the input", in[0]);
    return QCNN_OK;
}

static qcnn_status infer_transpose(const qcnn_node *node, const qcnn_shape *const *in, qcnn_shape *y, qcnn_error *error)
{
    unsigned seen = 0;
    *y = *in[0];
    for (int i = 0; i < y->rank; i++) {
        const int axis = node->attributes.axes[i];
        if (axis < 0 || axis >= y->rank || (seen & 1u << axis))
            return refuse(node, error, "the axes are not a permutation of the input's", in[0]);
        seen |= 1u << axis;
        y->dims[i] = in[0]->dims[axis];
    }
    return QCNN_OK;
}

static qcnn_status infer_pad(const qcnn_node *node, const qcnn_shape *const *in, qcnn_shape *y, qcnn_error *error)
{
    const qcnn_attributes *a = &node->attributes;
    if (a->pad_mode < 0 || a->pad_mode > 2)
        return refuse(node, error, "unknown padding mode", NULL);
    *y = *in[0];
    for (int i = 0; i < y->rank; i++) {
        const int64_t begin = a->begin[i], end = a->end[i], side = in[0]->dims[i];
        if (begin < -side || begin > MAX_EXTENT || end < -side || end > MAX_EXTENT || begin + end + side < 1)
            return refuse(node, error, "padding out of range", in[0]);
        if (a->pad_mode == 1 && (begin >= side || end >= side))
            return refuse(node, error, "reflection cannot reach that far", in[0]);
        if (begin + side < 1 || end + side < 1)
            return refuse(node, error, "padding cuts the whole input away", in[0]);
        y->dims[i] = begin + end + side;
    }
    return QCNN_OK;
}

static qcnn_status infer_reduce(const qcnn_node *node, const qcnn_shape *const *in, qcnn_shape *y, qcnn_error *error)
{
    (void)error;
    y->rank = 0;
    for (int i = 0; i < in[0]->rank; i++)
        if (!node->attributes.axes[i] || node->attributes.keep_dims)
            y->dims[y->rank++] = node->attributes.axes[i] ? 1 : in[0]->dims[i];
    return QCNN_OK;
}

static qcnn_status infer_slice(const qcnn_node *node, const qcnn_shape *const *in, qcnn_shape *y, qcnn_error *error)
{
    const qcnn_attributes *a = &node->attributes;
    *y = *in[0];
    for (int i = 0; i < y->rank; i++) {
        const int64_t end = a->end[i] < y->dims[i] ? a->end[i] : y->dims[i];
        if (a->begin[i] < 0 || a->step[i] < 1 || a->begin[i] >= end)
            return refuse(node, error, "an empty or backward slice", in[0]);
        y->dims[i] = (end - a->begin[i] - 1) / a->step[i] + 1;
    }
    return QCNN_OK;
}

// ---- the rest -------------------------------------------------------------------------------------------------------

static qcnn_status infer_lrn(const qcnn_node *node, const qcnn_shape *const *in, qcnn_shape *y, qcnn_error *error)
{
    if (in[0]->rank < 2 || node->attributes.lrn_size < 1 || node->attributes.lrn_size > MAX_EXTENT)
        return refuse(node, error, "needs channels and a size of at least 1", in[0]);
    *y = *in[0];
    return QCNN_OK;
}

static qcnn_status infer_unary(const qcnn_node *node, const qcnn_shape *const *in, qcnn_shape *y, qcnn_error *error)
{
    if (node->attributes.function < QCNN_IDENTITY || node->attributes.function > QCNN_RECIPROCAL)
        return refuse(node, error, "not a function of one argument", NULL);
    *y = *in[0];
    return QCNN_OK;
}

static qcnn_status infer_softmax(const qcnn_node *node, const qcnn_shape *const *in, qcnn_shape *y, qcnn_error *error)
{
    const qcnn_attributes *a = &node->attributes;
    if (in[0]->rank > 0 && (a->axis < 0 || a->axis_end < a->axis || a->axis_end >= in[0]->rank))
        return refuse(node, error, "no such axis", in[0]);
    *y = *in[0];
    return QCNN_OK;
}

typedef struct op_facts {
    const char *name;
    int min_inputs, max_inputs, n_required; // the first n_required may not be absent
    qcnn_status (*infer)(const qcnn_node *node, const qcnn_shape *const *inputs, qcnn_shape *output, qcnn_error *error);
} op_facts;

static const op_facts ops[QCNN_N_OPS] = {
    [QCNN_OP_CONV] = { "conv", 2, 3, 2, infer_conv },
    [QCNN_OP_FC] = { "fc", 2, 3, 2, infer_fc },
    [QCNN_OP_MATMUL] = { "matmul", 2, 2, 2, infer_matmul },
    [QCNN_OP_MAX_POOL] = { "max_pool", 1, 1, 1, infer_pool },
    [QCNN_OP_AVERAGE_POOL] = { "average_pool", 1, 1, 1, infer_pool },
    [QCNN_OP_LRN] = { "lrn", 1, 1, 1, infer_lrn },
    [QCNN_OP_UNARY] = { "unary", 1, 1, 1, infer_unary },
    [QCNN_OP_BINARY] = { "binary", 2, 2, 2, infer_binary },
    [QCNN_OP_SOFTMAX] = { "softmax", 1, 1, 1, infer_softmax },
    [QCNN_OP_LOG_SOFTMAX] = { "log_softmax", 1, 1, 1, infer_softmax },
    [QCNN_OP_CONCAT] = { "concat", 1, INT32_MAX, INT32_MAX, infer_concat },
    [QCNN_OP_RESHAPE] = { "reshape", 1, 1, 1, infer_reshape },
    [QCNN_OP_TRANSPOSE] = { "transpose", 1, 1, 1, infer_transpose },
    [QCNN_OP_PAD] = { "pad", 1, 1, 1, infer_pad },
    [QCNN_OP_REDUCE_MEAN] = { "reduce_mean", 1, 1, 1, infer_reduce },
    [QCNN_OP_REDUCE_MAX] = { "reduce_max", 1, 1, 1, infer_reduce },
    [QCNN_OP_SLICE] = { "slice", 1, 1, 1, infer_slice },
};

static const char *const functions[QCNN_N_FUNCTIONS] = {
    [QCNN_IDENTITY] = "identity",
    [QCNN_RELU] = "relu",
    [QCNN_LEAKY_RELU] = "leaky_relu",
    [QCNN_CLIP] = "clip",
    [QCNN_ELU] = "elu",
    [QCNN_SIGMOID] = "sigmoid",
    [QCNN_HARD_SIGMOID] = "hard_sigmoid",
    [QCNN_TANH] = "tanh",
    [QCNN_HARD_SWISH] = "hard_swish",
    [QCNN_SQRT] = "sqrt",
    [QCNN_EXP] = "exp",
    [QCNN_LOG] = "log",
    [QCNN_ABS] = "abs",
    [QCNN_NEGATE] = "negate",
    [QCNN_RECIPROCAL] = "reciprocal",
    [QCNN_ADD] = "add",
    [QCNN_SUBTRACT] = "subtract",
    [QCNN_MULTIPLY] = "multiply",
    [QCNN_DIVIDE] = "divide",
    [QCNN_MINIMUM] = "minimum",
    [QCNN_MAXIMUM] = "maximum",
    [QCNN_POWER] = "power",
    [QCNN_PRELU] = "prelu",
};

const char *qcnn_op_name(qcnn_op op)
{
    return (unsigned)op < QCNN_N_OPS ? ops[op].name : NULL;
}

const char *qcnn_function_name(qcnn_function function)
{
    return (unsigned)function < QCNN_N_FUNCTIONS ? functions[function] : NULL;
}

qcnn_status qcnn_infer_shape(const qcnn_node *node, const qcnn_shape *const *inputs, qcnn_shape *output, qcnn_error *error)
{
    if ((unsigned)node->op >= QCNN_N_OPS)
        return refuse(node, error, "no such operator", NULL);
    const op_facts *op = &ops[node->op];
    if (node->n_inputs < op->min_inputs || node->n_inputs > op->max_inputs)
        return refuse(node, error, "wrong number of inputs", NULL);
    for (int i = 0; i < node->n_inputs; i++) {
        if (!inputs[i] && i < op->n_required)
            return refuse(node, error, "a required input is absent", NULL);
        if (inputs[i] && !valid_shape(inputs[i]))
            return refuse(node, error, "an input has an impossible shape",
                          inputs[i]->rank >= 0 && inputs[i]->rank <= QCNN_MAX_RANK ? inputs[i] : NULL);
    }
    const qcnn_function fused = node->attributes.activation.function;
    if (fused < QCNN_IDENTITY || fused > QCNN_RECIPROCAL ||
        (fused != QCNN_IDENTITY && node->op != QCNN_OP_CONV && node->op != QCNN_OP_FC && node->op != QCNN_OP_BINARY))
        return refuse(node, error, "an activation that cannot be fused here", NULL);
    QCNN_TRY(op->infer(node, inputs, output, error));
    return valid_shape(output) ? QCNN_OK : refuse(node, error, "the output's shape is impossible", NULL);
}

qcnn_status qcnn_infer_shapes(const qcnn_model *model, const qcnn_shape *input_shapes, qcnn_shape *shapes, qcnn_error *error)
{
    for (size_t i = 0; i < model->n_values; i++)
        shapes[i] = model->values[i].tensor >= 0 ? model->tensors[model->values[i].tensor].shape : (qcnn_shape){ 0 };
    for (size_t i = 0; i < model->n_inputs; i++)
        shapes[model->inputs[i]] = input_shapes[i];
    const qcnn_shape **inputs = NULL;
    size_t capacity = 0;
    qcnn_status status = QCNN_OK;
    for (size_t n = 0; n < model->n_nodes && status == QCNN_OK; n++) {
        const qcnn_node *node = &model->nodes[n];
        if (!qcnn_reserve(&inputs, &capacity, (size_t)node->n_inputs, sizeof *inputs)) {
            status = qcnn_fail_memory(error, (size_t)node->n_inputs * sizeof *inputs);
            break;
        }
        for (int i = 0; i < node->n_inputs; i++)
            inputs[i] = node->inputs[i] < 0 ? NULL : &shapes[node->inputs[i]];
        status = qcnn_infer_shape(node, inputs, &shapes[node->output], error);
    }
    qcnn_release(inputs);
    return status;
}
