// SPDX-License-Identifier: Apache-2.0
// Folding and fusing. Importers lower each operator by itself; here neighbours are joined, in the order in which a node can
// only be joined to one before it: padding, then factors and terms of one number a channel, then activations.

#include "import/simplify.h"

#include <string.h>

#include "import/sweep.h"

// How often each value is read, and by which node it is made. Values added on the way are constants and have no entry.
typedef struct graph_links {
    size_t n_values;
    int *n_readers;  // of each value; graph outputs count as one
    int *producer;   // node, or -1
    uint64_t budget; // bytes that copies of shared or mapped weights may still take
} graph_links;

static void count_links(const qcnn_model *model, graph_links *links)
{
    for (size_t i = 0; i < links->n_values; i++) {
        links->n_readers[i] = 0;
        links->producer[i] = -1;
    }
    for (size_t n = 0; n < model->n_nodes; n++) {
        const qcnn_node *node = &model->nodes[n];
        if (node->op == QCNN_N_OPS)
            continue;
        links->producer[node->output] = (int)n;
        for (int i = 0; i < node->n_inputs; i++)
            if (node->inputs[i] >= 0)
                links->n_readers[node->inputs[i]]++;
    }
    for (size_t i = 0; i < model->n_outputs; i++)
        links->n_readers[model->outputs[i]]++;
}

// The node that makes `value`, if nothing else reads it.
static qcnn_node *sole_producer(const qcnn_model *model, const graph_links *links, int value)
{
    if (value < 0 || links->n_readers[value] != 1 || links->producer[value] < 0)
        return NULL;
    return &model->nodes[links->producer[value]];
}

// `node` is now done by `before`, which takes over its output. It is left without readers and swept away.
static void replace_output(qcnn_model *model, graph_links *links, qcnn_node *before, qcnn_node *node)
{
    const int between = before->output;
    before->output = node->output;
    node->output = between;
    links->producer[before->output] = (int)(before - model->nodes);
    links->n_readers[between] = 0;
    node->op = QCNN_N_OPS; // swept away below
}

// ---- padding --------------------------------------------------------------------------------------------------------

static void fuse_padding(const qcnn_model *model, const graph_links *links, qcnn_node *conv)
{
    qcnn_attributes *a = &conv->attributes;
    qcnn_node *pad = conv->op == QCNN_OP_CONV ? sole_producer(model, links, conv->inputs[0]) : NULL;
    if (!pad || pad->op != QCNN_OP_PAD || pad->attributes.pad_mode != 0 || pad->attributes.pad_value != 0)
        return;
    for (int i = 0; i < a->n_spatial + 2; i++) {
        const int64_t begin = pad->attributes.begin[i], end = pad->attributes.end[i];
        if (begin < 0 || end < 0 || begin > 1 << 16 || end > 1 << 16 || (i < 2 && (begin || end)))
            return;
    }
    for (int i = 0; i < a->n_spatial; i++) {
        a->window_begin[i] += (int32_t)pad->attributes.begin[2 + i];
        a->window_end[i] += (int32_t)pad->attributes.end[2 + i];
    }
    conv->inputs[0] = pad->inputs[0];
    pad->op = QCNN_N_OPS;
}

// ---- factors and terms ----------------------------------------------------------------------------------------------

// The constant among a binary node's operands, as one number for each output channel of `layer`: *stride is 1, or 0 when one
// number serves all. NULL when it is none.
static const float *channel_constant(const qcnn_model *model, const qcnn_node *layer, int value, int64_t n_channels, int *stride)
{
    const int tensor = value < 0 ? -1 : model->values[value].tensor;
    if (tensor < 0 || !model->tensors[tensor].data)
        return NULL;
    const qcnn_shape *shape = &model->tensors[tensor].shape, *output = &model->values[layer->output].shape;
    const int channel_axis = layer->op == QCNN_OP_CONV ? 1 : output->rank - 1;
    if (shape->rank > output->rank)
        return NULL;
    *stride = 0;
    for (int i = 0; i < shape->rank; i++) {
        const bool is_channel = i + output->rank - shape->rank == channel_axis;
        if (shape->dims[i] != 1 && !(is_channel && shape->dims[i] == n_channels))
            return NULL;
        *stride |= shape->dims[i] != 1;
    }
    return model->tensors[tensor].data;
}

// True when input `index` of the layer is already a tensor of its own, made by own_input.
static bool is_own(const graph_links *links, const qcnn_node *layer, int index)
{
    return index < layer->n_inputs && layer->inputs[index] >= (int)links->n_values;
}

static qcnn_status set_input(qcnn_node *layer, int index, int value, qcnn_error *error)
{
    if (index >= layer->n_inputs) { // room for the bias
        int *inputs = qcnn_allocate((size_t)index + 1, sizeof *inputs);
        if (!inputs)
            return qcnn_fail_memory(error, ((size_t)index + 1) * sizeof *inputs);
        memcpy(inputs, layer->inputs, (size_t)layer->n_inputs * sizeof *inputs);
        qcnn_release(layer->inputs);
        layer->inputs = inputs;
        layer->n_inputs = index + 1;
    }
    layer->inputs[index] = value;
    return QCNN_OK;
}

// Gives input `index` of a layer a tensor of its own, whose data may be changed: a copy of what it read, or zeros.
static qcnn_status own_input(qcnn_model *model, const graph_links *links, qcnn_node *layer, int index, int64_t n_channels, float **data,
                             qcnn_error *error)
{
    const int old_value = index < layer->n_inputs ? layer->inputs[index] : -1;
    const qcnn_tensor *old = old_value < 0 ? NULL : &model->tensors[model->values[old_value].tensor];
    if (is_own(links, layer, index)) {
        *data = old->owned_data;
        return QCNN_OK;
    }
    const qcnn_shape shape = old ? old->shape : (qcnn_shape){ .rank = 1, .dims = { n_channels } };
    const size_t n = (size_t)qcnn_shape_elements(&shape);
    *data = qcnn_allocate(n, sizeof **data);
    if (!*data)
        return qcnn_fail_memory(error, n * sizeof **data);
    if (old)
        memcpy(*data, old->data, n * sizeof **data);
    else
        memset(*data, 0, n * sizeof **data);
    qcnn_tensor tensor = { .shape = shape, .data = *data, .owned_data = *data, .error = -1 };
    int tensor_index, value;
    QCNN_TRY(qcnn_model_add_tensor(model, &tensor, &tensor_index, error));
    QCNN_TRY(qcnn_model_add_value(model, old_value < 0 ? NULL : model->values[old_value].name, &shape, tensor_index, &value, error));
    return set_input(layer, index, value, error);
}

static float apply_constant(qcnn_function function, float x, float constant)
{
    switch (function) {
    case QCNN_ADD: return x + constant;
    case QCNN_SUBTRACT: return x - constant;
    case QCNN_MULTIPLY: return x * constant;
    default: return x / constant;
    }
}

static bool is_factor(qcnn_function function)
{
    return function == QCNN_MULTIPLY || function == QCNN_DIVIDE;
}

static qcnn_status fold_constant(qcnn_model *model, const graph_links *links, qcnn_node *layer, qcnn_function function,
                                 const float *constant, int stride, int64_t n_channels, qcnn_error *error)
{
    const bool has_bias = layer->n_inputs > 2 && layer->inputs[2] >= 0;
    float *weights, *bias;
    if (is_factor(function)) {
        const uint64_t per_channel = qcnn_shape_elements(&qcnn_node_weights(model, layer)->shape) / (uint64_t)n_channels;
        QCNN_TRY(own_input(model, links, layer, 1, n_channels, &weights, error));
        for (int64_t channel = 0; channel < n_channels; channel++)
            for (uint64_t i = 0; i < per_channel; i++, weights++)
                *weights = apply_constant(function, *weights, constant[channel * stride]);
    }
    if (is_factor(function) && !has_bias)
        return QCNN_OK;
    QCNN_TRY(own_input(model, links, layer, 2, n_channels, &bias, error));
    for (int64_t i = 0; i < n_channels; i++)
        bias[i] = apply_constant(function, bias[i], constant[i * stride]);
    return QCNN_OK;
}

// Copies of weights that many layers share could outgrow the file without bound: beyond the budget nothing is folded.
static bool afford_copies(graph_links *links, const qcnn_model *model, const qcnn_node *layer, qcnn_function function)
{
    const qcnn_tensor *weights = qcnn_node_weights(model, layer);
    const uint64_t n_weights = is_factor(function) && !is_own(links, layer, 1) ? qcnn_shape_elements(&weights->shape) : 0;
    const uint64_t n_biases = is_own(links, layer, 2) ? 0 : (uint64_t)weights->shape.dims[0];
    const uint64_t bytes = (n_weights + n_biases) * sizeof(float);
    if (bytes > links->budget)
        return false;
    links->budget -= bytes;
    return true;
}

// Folds a product or sum with a channel-wise constant into the layer before it.
static qcnn_status fuse_constant(qcnn_model *model, graph_links *links, qcnn_node *node, qcnn_error *error)
{
    const qcnn_function function = node->attributes.function;
    if (node->op != QCNN_OP_BINARY || function < QCNN_ADD || function > QCNN_DIVIDE ||
        node->attributes.activation.function != QCNN_IDENTITY)
        return QCNN_OK;
    const bool commutes = function == QCNN_ADD || function == QCNN_MULTIPLY;
    const int data = commutes && model->values[node->inputs[0]].tensor >= 0; // which operand comes from the layer
    qcnn_node *layer = sole_producer(model, links, node->inputs[data]);
    if (!layer || (layer->op != QCNN_OP_CONV && layer->op != QCNN_OP_FC) || layer->attributes.activation.function != QCNN_IDENTITY)
        return QCNN_OK;
    const qcnn_tensor *weights = qcnn_node_weights(model, layer);
    const bool bias_fits = layer->n_inputs < 3 || layer->inputs[2] < 0 || qcnn_node_bias(model, layer);
    if (!weights || !weights->data || !bias_fits)
        return QCNN_OK;
    int stride;
    const int64_t n_channels = weights->shape.dims[0];
    const float *constant = channel_constant(model, layer, node->inputs[!data], n_channels, &stride);
    if (!constant || !afford_copies(links, model, layer, function))
        return QCNN_OK;
    QCNN_TRY(fold_constant(model, links, layer, function, constant, stride, n_channels, error));
    replace_output(model, links, layer, node);
    return QCNN_OK;
}

// ---- activations ----------------------------------------------------------------------------------------------------

static void fuse_activation(qcnn_model *model, graph_links *links, qcnn_node *node)
{
    qcnn_node *before = node->op == QCNN_OP_UNARY ? sole_producer(model, links, node->inputs[0]) : NULL;
    const qcnn_function function = node->attributes.function;
    if (!before || function < QCNN_RELU || function > QCNN_HARD_SWISH || before->attributes.activation.function != QCNN_IDENTITY ||
        (before->op != QCNN_OP_CONV && before->op != QCNN_OP_FC && before->op != QCNN_OP_BINARY))
        return;
    before->attributes.activation = node->attributes.activation;
    before->attributes.activation.function = function;
    replace_output(model, links, before, node);
}

// ---- all of it ------------------------------------------------------------------------------------------------------

static qcnn_status fuse_all(qcnn_model *model, graph_links *links, qcnn_error *error)
{
    count_links(model, links);
    for (size_t n = 0; n < model->n_nodes; n++)
        fuse_padding(model, links, &model->nodes[n]);
    count_links(model, links);
    for (size_t n = 0; n < model->n_nodes; n++) {
        QCNN_TRY(fuse_constant(model, links, &model->nodes[n], error));
        fuse_activation(model, links, &model->nodes[n]);
    }
    return QCNN_OK;
}

qcnn_status qcnn_simplify(qcnn_model *model, qcnn_error *error)
{
    const size_t n = model->n_values;
    graph_links links = { n, qcnn_allocate(n, sizeof *links.n_readers), qcnn_allocate(n, sizeof *links.producer), (uint64_t)4 << 20 };
    for (size_t i = 0; i < model->n_tensors; i++)
        links.budget += qcnn_shape_elements(&model->tensors[i].shape) * sizeof(float);
    qcnn_status status = links.n_readers && links.producer ? fuse_all(model, &links, error) : qcnn_fail_memory(error, n * sizeof(int));
    qcnn_release(links.n_readers);
    qcnn_release(links.producer);
    if (status == QCNN_OK)
        status = qcnn_sweep(model, error);
    return status;
}
