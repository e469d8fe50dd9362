// SPDX-License-Identifier: Apache-2.0
// Building, copying, freeing and describing a model.

#include "model/model.h"

#include <string.h>

static qcnn_status copy_name(const char *name, char **copy, qcnn_error *error)
{
    *copy = NULL;
    if (!name)
        return QCNN_OK;
    const size_t n = strlen(name);
    if (n > QCNN_MAX_NAME)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "a name of %zu bytes is longer than the %d allowed: '%.40s...'", n, QCNN_MAX_NAME, name);
    *copy = qcnn_copy_text(name, n);
    return *copy ? QCNN_OK : qcnn_fail_memory(error, n + 1);
}

qcnn_status qcnn_model_new(qcnn_model **model, qcnn_error *error)
{
    *model = qcnn_allocate_zeroed(1, sizeof **model);
    return *model ? QCNN_OK : qcnn_fail_memory(error, sizeof **model);
}

void qcnn_tensor_release(qcnn_tensor *tensor)
{
    qcnn_release(tensor->owned_data);
    qcnn_release(tensor->owned_assignments);
    qcnn_release(tensor->owned_scales);
    qcnn_release(tensor->owned_peaks);
    memset(tensor, 0, sizeof *tensor);
}

void qcnn_model_forget_ranges(qcnn_model *model)
{
    for (size_t i = 0; i < model->n_values; i++)
        model->values[i].low = model->values[i].high = 0;
    for (size_t i = 0; i < model->n_tensors; i++) {
        qcnn_release(model->tensors[i].owned_peaks);
        model->tensors[i].owned_peaks = NULL;
        model->tensors[i].codebook.peaks = NULL;
    }
}

bool qcnn_model_has_ranges(const qcnn_model *model)
{
    bool any = false;
    for (size_t i = 0; i < model->n_values; i++)
        any |= model->values[i].low < model->values[i].high;
    for (size_t i = 0; i < model->n_tensors; i++)
        any |= model->tensors[i].codebook.peaks != NULL;
    return any;
}

void qcnn_model_free(qcnn_model *model)
{
    if (!model)
        return;
    for (size_t i = 0; i < model->n_values; i++)
        qcnn_release(model->values[i].name);
    for (size_t i = 0; i < model->n_nodes; i++) {
        qcnn_release(model->nodes[i].name);
        qcnn_release(model->nodes[i].inputs);
        qcnn_release(model->nodes[i].decoded);
        qcnn_release(model->nodes[i].bytes);
        qcnn_release(model->nodes[i].byte_codebook);
    }
    for (size_t i = 0; i < model->n_tensors; i++)
        qcnn_tensor_release(&model->tensors[i]);
    for (size_t i = 0; i < model->n_classes; i++)
        qcnn_release(model->classes[i]);
    qcnn_release(model->values);
    qcnn_release(model->nodes);
    qcnn_release(model->tensors);
    qcnn_release(model->inputs);
    qcnn_release(model->outputs);
    qcnn_release(model->classes);
    qcnn_release(model->preprocessing);
    if (model->release_file)
        model->release_file(model->file, model->file_bytes);
    qcnn_release(model);
}

// ---- building -------------------------------------------------------------------------------------------------------

qcnn_status qcnn_model_add_value(qcnn_model *model, const char *name, const qcnn_shape *shape, int tensor, int *index, qcnn_error *error)
{
    qcnn_value value = { .tensor = tensor };
    if (shape) // before there is more room: it may be the shape of one of the values
        value.shape = *shape;
    if (!qcnn_reserve(&model->values, &model->value_capacity, model->n_values + 1, sizeof *model->values))
        return qcnn_fail_memory(error, (model->n_values + 1) * sizeof *model->values);
    QCNN_TRY(copy_name(name, &value.name, error));
    model->values[model->n_values] = value;
    *index = (int)model->n_values++;
    return QCNN_OK;
}

qcnn_status qcnn_model_add_tensor(qcnn_model *model, qcnn_tensor *tensor, int *index, qcnn_error *error)
{
    if (!qcnn_reserve(&model->tensors, &model->tensor_capacity, model->n_tensors + 1, sizeof *model->tensors)) {
        qcnn_tensor_release(tensor);
        return qcnn_fail_memory(error, (model->n_tensors + 1) * sizeof *model->tensors);
    }
    model->tensors[model->n_tensors] = *tensor;
    memset(tensor, 0, sizeof *tensor);
    *index = (int)model->n_tensors++;
    return QCNN_OK;
}

qcnn_status qcnn_model_add_node(qcnn_model *model, qcnn_op op, const char *name, const int *inputs, int n_inputs, int output,
                                const qcnn_attributes *attributes, int *index, qcnn_error *error)
{
    if (!qcnn_reserve(&model->nodes, &model->node_capacity, model->n_nodes + 1, sizeof *model->nodes))
        return qcnn_fail_memory(error, (model->n_nodes + 1) * sizeof *model->nodes);
    qcnn_node node = { .op = op, .n_inputs = n_inputs, .output = output };
    if (attributes)
        node.attributes = *attributes;
    QCNN_TRY(copy_name(name, &node.name, error));
    node.inputs = qcnn_allocate((size_t)n_inputs, sizeof *node.inputs);
    if (!node.inputs) {
        qcnn_release(node.name);
        return qcnn_fail_memory(error, (size_t)n_inputs * sizeof *node.inputs);
    }
    memcpy(node.inputs, inputs, (size_t)n_inputs * sizeof *node.inputs);
    model->nodes[model->n_nodes] = node;
    if (index)
        *index = (int)model->n_nodes;
    model->n_nodes++;
    return QCNN_OK;
}

static qcnn_status add_index(int **list, size_t *n, size_t *capacity, int value, qcnn_error *error)
{
    if (!qcnn_reserve(list, capacity, *n + 1, sizeof **list))
        return qcnn_fail_memory(error, (*n + 1) * sizeof **list);
    (*list)[(*n)++] = value;
    return QCNN_OK;
}

qcnn_status qcnn_model_add_input(qcnn_model *model, int value, qcnn_error *error)
{
    return add_index(&model->inputs, &model->n_inputs, &model->input_capacity, value, error);
}

qcnn_status qcnn_model_add_output(qcnn_model *model, int value, qcnn_error *error)
{
    return add_index(&model->outputs, &model->n_outputs, &model->output_capacity, value, error);
}

qcnn_status qcnn_model_add_class(qcnn_model *model, const char *name, size_t n, qcnn_error *error)
{
    if (!qcnn_reserve(&model->classes, &model->class_capacity, model->n_classes + 1, sizeof *model->classes))
        return qcnn_fail_memory(error, (model->n_classes + 1) * sizeof *model->classes);
    char *copy = qcnn_copy_text(name, n);
    if (!copy)
        return qcnn_fail_memory(error, n + 1);
    model->classes[model->n_classes++] = copy;
    return QCNN_OK;
}

void qcnn_model_clear_classes(qcnn_model *model)
{
    while (model->n_classes > 0)
        qcnn_release(model->classes[--model->n_classes]);
}

qcnn_status qcnn_model_set_preprocessing(qcnn_model *model, const char *text, size_t n, qcnn_error *error)
{
    char *copy = qcnn_copy_text(text, n);
    if (!copy)
        return qcnn_fail_memory(error, n + 1);
    qcnn_release(model->preprocessing);
    model->preprocessing = copy;
    return QCNN_OK;
}

// ---- copying --------------------------------------------------------------------------------------------------------

static qcnn_status copy_into(const qcnn_model *model, qcnn_model *copy, qcnn_error *error)
{
    int index;
    for (size_t i = 0; i < model->n_values; i++) {
        const qcnn_value *value = &model->values[i];
        QCNN_TRY(qcnn_model_add_value(copy, value->name, &value->shape, value->tensor, &index, error));
        copy->values[index].low = value->low;
        copy->values[index].high = value->high;
    }
    for (size_t i = 0; i < model->n_nodes; i++) {
        const qcnn_node *node = &model->nodes[i];
        QCNN_TRY(
            qcnn_model_add_node(copy, node->op, node->name, node->inputs, node->n_inputs, node->output, &node->attributes, &index, error));
    }
    for (size_t i = 0; i < model->n_tensors; i++) {
        qcnn_tensor tensor = model->tensors[i];
        tensor.owned_data = tensor.owned_assignments = tensor.owned_scales = tensor.owned_peaks = NULL; // the original keeps them
        QCNN_TRY(qcnn_model_add_tensor(copy, &tensor, &index, error));
    }
    for (size_t i = 0; i < model->n_inputs; i++)
        QCNN_TRY(qcnn_model_add_input(copy, model->inputs[i], error));
    for (size_t i = 0; i < model->n_outputs; i++)
        QCNN_TRY(qcnn_model_add_output(copy, model->outputs[i], error));
    for (size_t i = 0; i < model->n_classes; i++)
        QCNN_TRY(qcnn_model_add_class(copy, model->classes[i], strlen(model->classes[i]), error));
    if (model->preprocessing)
        QCNN_TRY(qcnn_model_set_preprocessing(copy, model->preprocessing, strlen(model->preprocessing), error));
    copy->original_bytes = model->original_bytes;
    return QCNN_OK;
}

qcnn_status qcnn_model_copy(const qcnn_model *model, qcnn_model **copy, qcnn_error *error)
{
    *copy = NULL;
    QCNN_TRY(qcnn_model_require_weights(model, error));
    QCNN_TRY(qcnn_model_new(copy, error));
    const qcnn_status status = copy_into(model, *copy, error);
    if (status != QCNN_OK) {
        qcnn_model_free(*copy);
        *copy = NULL;
    }
    return status;
}

// ---- reading --------------------------------------------------------------------------------------------------------

static qcnn_tensor *constant_input(const qcnn_model *model, const qcnn_node *node, int position)
{
    if ((node->op != QCNN_OP_CONV && node->op != QCNN_OP_FC) || node->n_inputs <= position || node->inputs[position] < 0)
        return NULL;
    const int tensor = model->values[node->inputs[position]].tensor;
    return tensor < 0 ? NULL : &model->tensors[tensor];
}

qcnn_tensor *qcnn_node_weights(const qcnn_model *model, const qcnn_node *node)
{
    return constant_input(model, node, 1);
}

qcnn_tensor *qcnn_node_bias(const qcnn_model *model, const qcnn_node *node)
{
    return constant_input(model, node, 2);
}

int qcnn_model_n_inputs(const qcnn_model *model)
{
    return (int)model->n_inputs;
}

int qcnn_model_n_outputs(const qcnn_model *model)
{
    return (int)model->n_outputs;
}

static qcnn_port port_of(const qcnn_model *model, const int *list, size_t n, int index)
{
    if (index < 0 || (size_t)index >= n)
        return (qcnn_port){ 0 };
    const qcnn_value *value = &model->values[list[index]];
    return (qcnn_port){ value->name ? value->name : "", value->shape };
}

qcnn_port qcnn_model_input(const qcnn_model *model, int index)
{
    return port_of(model, model->inputs, model->n_inputs, index);
}

qcnn_port qcnn_model_output(const qcnn_model *model, int index)
{
    return port_of(model, model->outputs, model->n_outputs, index);
}

int qcnn_model_n_classes(const qcnn_model *model)
{
    return (int)model->n_classes;
}

const char *qcnn_model_class(const qcnn_model *model, int index)
{
    return index >= 0 && (size_t)index < model->n_classes ? model->classes[index] : NULL;
}

const char *qcnn_model_preprocessing(const qcnn_model *model)
{
    return model->preprocessing;
}

uint64_t qcnn_model_original_bytes(const qcnn_model *model)
{
    return model->original_bytes;
}

int qcnn_model_n_layers(const qcnn_model *model)
{
    return (int)model->n_nodes;
}

// Bytes that a run reads of a layer's weights: decoded, or assignments of a byte each and codewords.
static uint64_t running_bytes(const qcnn_node *node, const qcnn_tensor *weights)
{
    const uint64_t n = qcnn_shape_elements(&weights->shape);
    if (node->bytes)
        return qcnn_dense_bytes_size(node, weights, node->bytes->tile_rows);
    if (node->method == QCNN_METHOD_DENSE)
        return n * sizeof(float);
    const qcnn_codebook *book = &weights->codebook;
    const uint64_t n_subspaces = (uint64_t)book->n_subspaces;
    const uint64_t words = (uint64_t)book->n_sets * n_subspaces * (uint64_t)book->n_codewords * (uint64_t)book->subspace;
    return n / (uint64_t)book->n_inputs * n_subspaces +
           (node->byte_codebook ? qcnn_byte_codebook_size(book, node->byte_codebook->width) : words * sizeof(float));
}

qcnn_layer_info qcnn_model_layer(const qcnn_model *model, int index)
{
    if (index < 0 || (size_t)index >= model->n_nodes)
        return (qcnn_layer_info){ 0 };
    const qcnn_node *node = &model->nodes[index];
    qcnn_layer_info info = { .name = node->name ? node->name : "",
                             .type = qcnn_op_name(node->op),
                             .output_shape = model->values[node->output].shape,
                             .storage = "",
                             .method = "",
                             .codeword_type = "",
                             .error = -1 };
    const qcnn_tensor *weights = qcnn_node_weights(model, node), *bias = qcnn_node_bias(model, node);
    const qcnn_layer_cost cost =
        qcnn_cost(model->prices, node, weights, &model->values[node->inputs[0]].shape, &model->values[node->output].shape);
    info.dense_operations = cost.dense_operations;
    info.dense_cost = cost.dense;
    if (!weights)
        return info;
    info.storage = qcnn_number_type_name(weights->data_type);
    info.method = node->method == QCNN_METHOD_LUT ? "lut" : "dense";
    info.weights = qcnn_shape_elements(&weights->shape);
    info.bytes = qcnn_tensor_bytes(weights) + (bias ? qcnn_tensor_bytes(bias) : 0);
    info.memory_bytes = running_bytes(node, weights) + (bias ? qcnn_shape_elements(&bias->shape) * sizeof(float) : 0);
    info.error = weights->error;
    info.error_before = weights->error_before > 0 ? (double)weights->error_before : -1;
    if (qcnn_is_codebook(weights)) {
        info.storage = "codebook";
        info.codeword_type = qcnn_number_type_name(weights->codebook.codeword_type);
        info.subspace = weights->codebook.subspace;
        info.codewords = weights->codebook.n_codewords;
        info.table_multiplications = cost.table_multiplications;
        info.lookups = cost.lookups;
        info.lut_cost = cost.lut;
    }
    return info;
}
