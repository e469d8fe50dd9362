// SPDX-License-Identifier: Apache-2.0
// Weights and biases of a layer replaced in place.

#include "compress/install.h"

#include <string.h>

#include "compress/settings.h"

void qcnn_install_codebook(qcnn_model *model, size_t node, qcnn_tensor *tensor)
{
    qcnn_tensor *weights = qcnn_node_weights(model, &model->nodes[node]);
    tensor->shape = weights->shape;
    qcnn_tensor_release(weights);
    *weights = *tensor;
    memset(tensor, 0, sizeof *tensor);
}

qcnn_status qcnn_install_bias(qcnn_model *model, size_t index, float *bias, qcnn_error *error)
{
    qcnn_node *node = &model->nodes[index];
    const int64_t n = qcnn_node_weights(model, node)->shape.dims[0];
    qcnn_tensor *old = qcnn_node_bias(model, node), tensor = { .shape = { 1, { n } }, .data = bias, .owned_data = bias, .error = -1 };
    if (old && qcnn_tensor_readers(model, old) == 1) {
        qcnn_tensor_release(old);
        *old = tensor;
        return QCNN_OK;
    }
    int *inputs = qcnn_allocate(3, sizeof *inputs), tensor_index, value;
    if (!inputs) {
        qcnn_release(bias);
        return qcnn_fail_memory(error, 3 * sizeof *inputs);
    }
    memcpy(inputs, node->inputs, 2 * sizeof *inputs);
    inputs[2] = -1;
    qcnn_release(node->inputs);
    node->inputs = inputs;
    node->n_inputs = 3;
    const qcnn_shape shape = tensor.shape;
    QCNN_TRY(qcnn_model_add_tensor(model, &tensor, &tensor_index, error));
    QCNN_TRY(qcnn_model_add_value(model, NULL, &shape, tensor_index, &value, error));
    node->inputs[2] = value;
    return QCNN_OK;
}
