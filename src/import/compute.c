// SPDX-License-Identifier: Apache-2.0
// Computing one node: a network that consists of it alone, run once. Slow to set up and never wrong in a way of its own.

#include "import/compute.h"

#include "base/status.h"

// A model of one node whose inputs are all graph inputs.
static qcnn_status build_single(qcnn_model *model, qcnn_op op, const char *name, const qcnn_attributes *attributes,
                                const qcnn_shape *const *shapes, int n, qcnn_error *error)
{
    int *values = qcnn_allocate((size_t)n + 1, sizeof *values);
    if (!values)
        return qcnn_fail_memory(error, ((size_t)n + 1) * sizeof *values);
    qcnn_status status = QCNN_OK;
    for (int i = 0; i < n && status == QCNN_OK; i++) {
        status = qcnn_model_add_value(model, "input", shapes[i], -1, &values[i], error);
        if (status == QCNN_OK)
            status = qcnn_model_add_input(model, values[i], error);
    }
    if (status == QCNN_OK)
        status = qcnn_model_add_value(model, "output", NULL, -1, &values[n], error);
    if (status == QCNN_OK)
        status = qcnn_model_add_node(model, op, name, values, n, values[n], attributes, NULL, error);
    if (status == QCNN_OK)
        status = qcnn_model_add_output(model, values[n], error);
    if (status == QCNN_OK)
        status = qcnn_model_prepare(model, NULL, error);
    qcnn_release(values);
    return status;
}

qcnn_status qcnn_compute_node(qcnn_op op, const char *name, const qcnn_attributes *attributes, const qcnn_shape *const *shapes,
                              const float *const *inputs, int n, float *output, qcnn_error *error)
{
    qcnn_model *model;
    qcnn_session *session = NULL;
    QCNN_TRY(qcnn_model_new(&model, error));
    qcnn_status status = build_single(model, op, name, attributes, shapes, n, error);
    if (status == QCNN_OK)
        status = qcnn_session_create(model, NULL, &session, error);
    if (status == QCNN_OK)
        qcnn_run(session, inputs, &output);
    qcnn_session_free(session);
    qcnn_model_free(model);
    return status;
}
