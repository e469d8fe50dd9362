// SPDX-License-Identifier: Apache-2.0
// Sorting is for codebooks alone: dense int8 numbers are coded as they are.

#include "compress/finish.h"

#include "coding/encode.h"
#include "compress/round.h"

static qcnn_status halve_biases(qcnn_model *model, qcnn_error *error)
{
    for (size_t n = 0; n < model->n_nodes; n++) {
        const qcnn_tensor *weights = qcnn_node_weights(model, &model->nodes[n]);
        qcnn_tensor *bias = qcnn_node_bias(model, &model->nodes[n]);
        if (weights && bias && qcnn_is_codebook(weights) && bias->data_type == QCNN_FLOAT32)
            QCNN_TRY(qcnn_data_round(bias, QCNN_FLOAT16, 0, error));
    }
    return QCNN_OK;
}

qcnn_status qcnn_model_finish(qcnn_model *model, bool half_biases, qcnn_error *error)
{
    if (half_biases)
        QCNN_TRY(halve_biases(model, error));
    for (size_t i = 0; i < model->n_tensors; i++) {
        qcnn_tensor *tensor = &model->tensors[i];
        tensor->stored_bytes = 0;
        if (qcnn_is_codebook(tensor) && tensor->owned_data && tensor->owned_assignments)
            QCNN_TRY(qcnn_codebook_sort(tensor, error));
        uint64_t n_bytes;
        QCNN_TRY(qcnn_coded_bytes(tensor, &n_bytes, error));
        tensor->stored_bytes = n_bytes;
    }
    return QCNN_OK;
}
