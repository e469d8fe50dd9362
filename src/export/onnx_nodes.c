// SPDX-License-Identifier: Apache-2.0
// The operators of a model as ONNX nodes of opset 13. Where ONNX has no single operator a node becomes a chain, whose inner
// values are called after the node's output: "<output>.1", "<output>.2", ...

#include "export/onnx_nodes.h"

#include <stdio.h>
#include <string.h>

#include "base/status.h"

// Fields of NodeProto, AttributeProto, TensorProto and GraphProto
enum { NODE_INPUT = 1, NODE_OUTPUT = 2, NODE_NAME = 3, NODE_OP = 4, NODE_ATTRIBUTE = 5 };
enum { ATTRIBUTE_NAME = 1, ATTRIBUTE_FLOAT = 2, ATTRIBUTE_INT = 3, ATTRIBUTE_TEXT = 4, ATTRIBUTE_INTS = 8, ATTRIBUTE_TYPE = 20 };
enum { TYPE_FLOAT = 1, TYPE_INT = 2, TYPE_TEXT = 3, TYPE_INTS = 7 };
enum { TENSOR_DIM = 1, TENSOR_TYPE = 2, TENSOR_NAME = 8, TENSOR_RAW = 9, ELEMENT_FLOAT = 1, ELEMENT_INT64 = 7 };
enum { GRAPH_NODE = 1, GRAPH_INITIALIZER = 5 };

// One node of ours on its way out.
typedef struct exporting {
    const qcnn_model *model;
    const qcnn_node *node;
    qcnn_buffer *graph;
    qcnn_buffer onnx;                     // the NodeProto being built
    char output[QCNN_EXPORT_NAME_BYTES];  // of our node
    char current[QCNN_EXPORT_NAME_BYTES]; // what the chain has reached
    int n_parts, n_links, n_links_done;   // inner names used; ONNX nodes in the chain, and those written
} exporting;

void qcnn_export_value_name(const qcnn_model *model, int index, char name[QCNN_EXPORT_NAME_BYTES])
{
    bool is_port = false;
    for (size_t i = 0; i < model->n_inputs; i++)
        is_port |= model->inputs[i] == index;
    for (size_t i = 0; i < model->n_outputs; i++)
        is_port |= model->outputs[i] == index;
    if (is_port && model->values[index].name)
        snprintf(name, QCNN_EXPORT_NAME_BYTES, "%s", model->values[index].name);
    else
        snprintf(name, QCNN_EXPORT_NAME_BYTES, "qcnn.value.%d", index);
}

// ---- pieces ---------------------------------------------------------------------------------------------------------

// A name of its own for an inner value or a small constant of this node.
static void part_name(exporting *e, char name[QCNN_EXPORT_NAME_BYTES])
{
    snprintf(name, QCNN_EXPORT_NAME_BYTES, "qcnn.value.%d.%d", e->node->output, ++e->n_parts);
}

static void begin_node(exporting *e, const char *op)
{
    char name[QCNN_EXPORT_NAME_BYTES];
    snprintf(name, sizeof name, e->n_links_done ? "%s.%d" : "%s", e->node->name ? e->node->name : "", e->n_links_done);
    qcnn_put_text(&e->onnx, NODE_NAME, name);
    qcnn_put_text(&e->onnx, NODE_OP, op);
}

static void add_value(exporting *e, int value)
{
    char name[QCNN_EXPORT_NAME_BYTES] = "";
    if (value >= 0)
        qcnn_export_value_name(e->model, value, name);
    qcnn_put_text(&e->onnx, NODE_INPUT, name);
}

static void add_current(exporting *e)
{
    qcnn_put_text(&e->onnx, NODE_INPUT, e->current);
}

// The node is complete: it writes the last output of the chain, or a new inner value.
static void end_node(exporting *e)
{
    if (++e->n_links_done == e->n_links)
        memcpy(e->current, e->output, sizeof e->current);
    else
        part_name(e, e->current);
    qcnn_put_text(&e->onnx, NODE_OUTPUT, e->current);
    qcnn_put_message(e->graph, GRAPH_NODE, &e->onnx);
}

static void add_attribute(exporting *e, const char *name, int type, qcnn_buffer *attribute)
{
    qcnn_put_text(attribute, ATTRIBUTE_NAME, name);
    qcnn_put_int(attribute, ATTRIBUTE_TYPE, type);
    qcnn_put_message(&e->onnx, NODE_ATTRIBUTE, attribute);
}

static void add_int(exporting *e, const char *name, int64_t value)
{
    qcnn_buffer attribute = { 0 };
    qcnn_put_int(&attribute, ATTRIBUTE_INT, value);
    add_attribute(e, name, TYPE_INT, &attribute);
}

static void add_float(exporting *e, const char *name, float value)
{
    qcnn_buffer attribute = { 0 };
    qcnn_put_float(&attribute, ATTRIBUTE_FLOAT, value);
    add_attribute(e, name, TYPE_FLOAT, &attribute);
}

static void add_text(exporting *e, const char *name, const char *value)
{
    qcnn_buffer attribute = { 0 };
    qcnn_put_text(&attribute, ATTRIBUTE_TEXT, value);
    add_attribute(e, name, TYPE_TEXT, &attribute);
}

// Two lists, one behind the other (pads); `more` may be NULL.
static void add_int_lists(exporting *e, const char *name, const int32_t *list, const int32_t *more, int n)
{
    qcnn_buffer attribute = { 0 };
    for (int i = 0; i < n; i++)
        qcnn_put_int(&attribute, ATTRIBUTE_INTS, list[i]);
    for (int i = 0; more && i < n; i++)
        qcnn_put_int(&attribute, ATTRIBUTE_INTS, more[i]);
    add_attribute(e, name, TYPE_INTS, &attribute);
}

// A small constant, as the node's next input: `n` integers, or one float when `integers` is NULL.
static void add_constant(exporting *e, const int64_t *integers, int n, float scalar)
{
    char name[QCNN_EXPORT_NAME_BYTES];
    qcnn_buffer tensor = { 0 };
    part_name(e, name);
    if (integers)
        qcnn_put_int(&tensor, TENSOR_DIM, n);
    qcnn_put_int(&tensor, TENSOR_TYPE, integers ? ELEMENT_INT64 : ELEMENT_FLOAT);
    qcnn_put_text(&tensor, TENSOR_NAME, name);
    qcnn_put_length(&tensor, TENSOR_RAW, integers ? (uint64_t)n * 8 : 4);
    for (int i = 0; integers && i < n; i++)
        qcnn_write_u64(&tensor, (uint64_t)integers[i]);
    if (!integers)
        qcnn_write_f32(&tensor, scalar);
    qcnn_put_message(e->graph, GRAPH_INITIALIZER, &tensor);
    qcnn_put_text(&e->onnx, NODE_INPUT, name);
}

// ---- activations ----------------------------------------------------------------------------------------------------

static const char *const function_ops[QCNN_N_FUNCTIONS] = {
    [QCNN_IDENTITY] = "Identity",
    [QCNN_RELU] = "Relu",
    [QCNN_LEAKY_RELU] = "LeakyRelu",
    [QCNN_CLIP] = "Clip",
    [QCNN_ELU] = "Elu",
    [QCNN_SIGMOID] = "Sigmoid",
    [QCNN_HARD_SIGMOID] = "HardSigmoid",
    [QCNN_TANH] = "Tanh",
    [QCNN_SQRT] = "Sqrt",
    [QCNN_EXP] = "Exp",
    [QCNN_LOG] = "Log",
    [QCNN_ABS] = "Abs",
    [QCNN_NEGATE] = "Neg",
    [QCNN_RECIPROCAL] = "Reciprocal",
    [QCNN_ADD] = "Add",
    [QCNN_SUBTRACT] = "Sub",
    [QCNN_MULTIPLY] = "Mul",
    [QCNN_DIVIDE] = "Div",
    [QCNN_MINIMUM] = "Min",
    [QCNN_MAXIMUM] = "Max",
    [QCNN_POWER] = "Pow",
    [QCNN_PRELU] = "PRelu",
};

// ONNX nodes that a function of one argument takes; HardSwish came with opset 14 and is written as what it means.
static int n_function_nodes(qcnn_function function)
{
    return function == QCNN_HARD_SWISH ? 2 : 1;
}

static void put_hard_swish(exporting *e)
{
    char x[QCNN_EXPORT_NAME_BYTES];
    memcpy(x, e->current, sizeof x);
    begin_node(e, "HardSigmoid");
    add_current(e);
    add_float(e, "alpha", 1.0f / 6);
    add_float(e, "beta", 0.5f);
    end_node(e);
    begin_node(e, "Mul");
    qcnn_put_text(&e->onnx, NODE_INPUT, x);
    add_current(e);
    end_node(e);
}

// The function applied to the current value.
static void put_function(exporting *e, qcnn_function function, float alpha, float beta)
{
    if (function == QCNN_HARD_SWISH) {
        put_hard_swish(e);
        return;
    }
    begin_node(e, function_ops[function]);
    add_current(e);
    if (function == QCNN_LEAKY_RELU || function == QCNN_ELU || function == QCNN_HARD_SIGMOID)
        add_float(e, "alpha", alpha);
    if (function == QCNN_HARD_SIGMOID)
        add_float(e, "beta", beta);
    if (function == QCNN_CLIP) {
        add_constant(e, NULL, 1, alpha);
        add_constant(e, NULL, 1, beta);
    }
    end_node(e);
}

// ---- operators ------------------------------------------------------------------------------------------------------
// Each writes the ONNX nodes of one of our operators; the fused activation is written behind it.

static void put_window(exporting *e)
{
    const qcnn_attributes *a = &e->node->attributes;
    add_int_lists(e, "kernel_shape", a->kernel, NULL, a->n_spatial);
    add_int_lists(e, "strides", a->stride, NULL, a->n_spatial);
    add_int_lists(e, "pads", a->window_begin, a->window_end, a->n_spatial);
    if (e->node->op != QCNN_OP_AVERAGE_POOL) // came with opset 19
        add_int_lists(e, "dilations", a->dilation, NULL, a->n_spatial);
}

static void put_conv(exporting *e)
{
    begin_node(e, "Conv");
    for (int i = 0; i < e->node->n_inputs; i++)
        add_value(e, e->node->inputs[i]);
    put_window(e);
    add_int(e, "group", e->node->attributes.groups);
    end_node(e);
}

static bool has_bias(const qcnn_node *node)
{
    return node->n_inputs > 2 && node->inputs[2] >= 0;
}

static bool is_gemm(const exporting *e)
{
    return e->model->values[e->node->inputs[0]].shape.rank == 2;
}

static void put_fc(exporting *e)
{
    if (is_gemm(e)) {
        begin_node(e, "Gemm");
        for (int i = 0; i < e->node->n_inputs; i++)
            add_value(e, e->node->inputs[i]);
        add_int(e, "transB", 1);
        end_node(e);
        return;
    }
    const int32_t swap[2] = { 1, 0 };
    begin_node(e, "Transpose");
    add_value(e, e->node->inputs[1]);
    add_int_lists(e, "perm", swap, NULL, 2);
    end_node(e);
    begin_node(e, "MatMul");
    add_value(e, e->node->inputs[0]);
    add_current(e);
    end_node(e);
    if (!has_bias(e->node))
        return;
    begin_node(e, "Add");
    add_current(e);
    add_value(e, e->node->inputs[2]);
    end_node(e);
}

static void put_pool(exporting *e)
{
    const qcnn_attributes *a = &e->node->attributes;
    begin_node(e, e->node->op == QCNN_OP_MAX_POOL ? "MaxPool" : "AveragePool");
    add_current(e);
    put_window(e);
    add_int(e, "ceil_mode", a->ceil_mode);
    if (e->node->op == QCNN_OP_AVERAGE_POOL)
        add_int(e, "count_include_pad", a->count_include_pad);
    end_node(e);
}

static void put_lrn(exporting *e)
{
    const qcnn_attributes *a = &e->node->attributes;
    begin_node(e, "LRN");
    add_current(e);
    add_int(e, "size", a->lrn_size);
    add_float(e, "alpha", a->lrn_alpha);
    add_float(e, "beta", a->lrn_beta);
    add_float(e, "bias", a->lrn_bias);
    end_node(e);
}

static void put_reshape(exporting *e, const int64_t *target, int rank)
{
    begin_node(e, "Reshape");
    add_current(e);
    add_constant(e, target, rank, 0);
    end_node(e);
}

// Over several dimensions: they are made one first. Dimensions before stay what they are, whatever the batch.
static void put_softmax(exporting *e)
{
    const qcnn_attributes *a = &e->node->attributes;
    const qcnn_shape *shape = &e->model->values[e->node->output].shape;
    int64_t together[QCNN_MAX_RANK] = { 0 }, apart[QCNN_MAX_RANK] = { 0 };
    const int n_merged = a->axis_end - a->axis;
    for (int i = a->axis; i < shape->rank; i++)
        apart[i] = shape->dims[i];
    if (a->axis == 0 && shape->rank > 0)
        apart[0] = -1;
    together[a->axis] = -1;
    for (int i = a->axis_end + 1; i < shape->rank; i++)
        together[i - n_merged] = shape->dims[i];
    if (n_merged)
        put_reshape(e, together, shape->rank - n_merged);
    begin_node(e, e->node->op == QCNN_OP_SOFTMAX ? "Softmax" : "LogSoftmax");
    add_current(e);
    add_int(e, "axis", a->axis);
    end_node(e);
    if (n_merged)
        put_reshape(e, apart, shape->rank);
}

static void put_moving(exporting *e)
{
    static const char *const modes[] = { "constant", "reflect", "edge" };
    const qcnn_attributes *a = &e->node->attributes;
    const int rank = e->model->values[e->node->inputs[0]].shape.rank;
    int64_t pads[2 * QCNN_MAX_RANK], axes[QCNN_MAX_RANK];
    for (int i = 0; i < rank; i++) {
        pads[i] = a->begin[i];
        pads[rank + i] = a->end[i];
        axes[i] = i;
    }
    switch (e->node->op) {
    case QCNN_OP_RESHAPE: put_reshape(e, a->target, a->target_rank); return;
    case QCNN_OP_TRANSPOSE:
        begin_node(e, "Transpose");
        add_current(e);
        add_int_lists(e, "perm", a->axes, NULL, rank);
        break;
    case QCNN_OP_PAD:
        begin_node(e, "Pad");
        add_current(e);
        add_constant(e, pads, 2 * rank, 0);
        add_constant(e, NULL, 1, a->pad_value);
        add_text(e, "mode", modes[a->pad_mode]);
        break;
    default: // slice
        begin_node(e, "Slice");
        add_current(e);
        add_constant(e, a->begin, rank, 0);
        add_constant(e, a->end, rank, 0);
        add_constant(e, axes, rank, 0);
        add_constant(e, a->step, rank, 0);
        break;
    }
    end_node(e);
}

static void put_reduce(exporting *e)
{
    const qcnn_attributes *a = &e->node->attributes;
    const int rank = e->model->values[e->node->inputs[0]].shape.rank;
    int32_t axes[QCNN_MAX_RANK];
    int n = 0;
    for (int i = 0; i < rank; i++)
        if (a->axes[i])
            axes[n++] = i;
    begin_node(e, n == 0 ? "Identity" : e->node->op == QCNN_OP_REDUCE_MEAN ? "ReduceMean" : "ReduceMax");
    add_current(e);
    if (n) {
        add_int_lists(e, "axes", axes, NULL, n);
        add_int(e, "keepdims", a->keep_dims);
    }
    end_node(e);
}

// One ONNX operator that takes all our inputs.
static void put_plain(exporting *e, const char *op)
{
    begin_node(e, op);
    for (int i = 0; i < e->node->n_inputs; i++)
        add_value(e, e->node->inputs[i]);
    if (e->node->op == QCNN_OP_CONCAT)
        add_int(e, "axis", e->node->attributes.axis);
    end_node(e);
}

static void put_operator(exporting *e)
{
    const qcnn_attributes *a = &e->node->attributes;
    switch (e->node->op) {
    case QCNN_OP_CONV: put_conv(e); break;
    case QCNN_OP_FC: put_fc(e); break;
    case QCNN_OP_MATMUL: put_plain(e, "MatMul"); break;
    case QCNN_OP_MAX_POOL:
    case QCNN_OP_AVERAGE_POOL: put_pool(e); break;
    case QCNN_OP_LRN: put_lrn(e); break;
    case QCNN_OP_UNARY: put_function(e, a->function, a->activation.alpha, a->activation.beta); break;
    case QCNN_OP_BINARY: put_plain(e, function_ops[a->function]); break;
    case QCNN_OP_SOFTMAX:
    case QCNN_OP_LOG_SOFTMAX: put_softmax(e); break;
    case QCNN_OP_CONCAT: put_plain(e, "Concat"); break;
    case QCNN_OP_REDUCE_MEAN:
    case QCNN_OP_REDUCE_MAX: put_reduce(e); break;
    default: put_moving(e); break;
    }
}

// ONNX nodes that the operator itself takes.
static int n_operator_nodes(const exporting *e)
{
    const qcnn_attributes *a = &e->node->attributes;
    switch (e->node->op) {
    case QCNN_OP_FC: return is_gemm(e) ? 1 : has_bias(e->node) ? 3 : 2;
    case QCNN_OP_UNARY: return n_function_nodes(a->function);
    case QCNN_OP_SOFTMAX:
    case QCNN_OP_LOG_SOFTMAX: return a->axis_end > a->axis ? 3 : 1;
    default: return 1;
    }
}

qcnn_status qcnn_export_node(const qcnn_model *model, int index, qcnn_buffer *graph, qcnn_error *error)
{
    exporting e = { .model = model, .node = &model->nodes[index], .graph = graph };
    const qcnn_attributes *a = &e.node->attributes;
    for (int i = 0; e.node->op == QCNN_OP_AVERAGE_POOL && i < a->n_spatial; i++)
        if (a->dilation[i] != 1)
            return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "node '%s': ONNX opset 13 has no dilated average pool", e.node->name);
    const qcnn_function fused = a->activation.function;
    e.n_links = n_operator_nodes(&e) + (fused != QCNN_IDENTITY ? n_function_nodes(fused) : 0);
    qcnn_export_value_name(model, e.node->output, e.output);
    qcnn_export_value_name(model, e.node->inputs[0], e.current);
    put_operator(&e);
    if (fused != QCNN_IDENTITY)
        put_function(&e, fused, a->activation.alpha, a->activation.beta);
    return QCNN_OK;
}
