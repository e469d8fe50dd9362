// SPDX-License-Identifier: Apache-2.0
// Tidying a model: what nothing needs is dropped, indices close up, names become unique.

#include "import/sweep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- dropping -------------------------------------------------------------------------------------------------------

static void free_node(qcnn_node *node)
{
    qcnn_release(node->name);
    qcnn_release(node->inputs);
    qcnn_release(node->decoded);
    qcnn_release(node->byte_codebook);
}

// Marks in new_index (0: needed, -1: not) the values that outputs depend on, and drops the nodes that make others.
static void drop_nodes(qcnn_model *model, int *new_index)
{
    for (size_t i = 0; i < model->n_values; i++)
        new_index[i] = -1;
    for (size_t i = 0; i < model->n_outputs; i++)
        new_index[model->outputs[i]] = 0;
    for (size_t i = 0; i < model->n_inputs; i++)
        new_index[model->inputs[i]] = 0;
    for (size_t n = model->n_nodes; n-- > 0;) {
        const qcnn_node *node = &model->nodes[n];
        for (int i = 0; i < node->n_inputs && node->op != QCNN_N_OPS && new_index[node->output] == 0; i++)
            if (node->inputs[i] >= 0)
                new_index[node->inputs[i]] = 0;
    }
    size_t kept = 0;
    for (size_t n = 0; n < model->n_nodes; n++) {
        if (model->nodes[n].op != QCNN_N_OPS && new_index[model->nodes[n].output] == 0)
            model->nodes[kept++] = model->nodes[n];
        else
            free_node(&model->nodes[n]);
    }
    model->n_nodes = kept;
}

static void drop_values(qcnn_model *model, int *new_index)
{
    size_t kept = 0;
    for (size_t i = 0; i < model->n_values; i++) {
        if (new_index[i] < 0) {
            qcnn_release(model->values[i].name);
            continue;
        }
        new_index[i] = (int)kept;
        model->values[kept++] = model->values[i];
    }
    model->n_values = kept;
    for (size_t n = 0; n < model->n_nodes; n++) {
        qcnn_node *node = &model->nodes[n];
        node->output = new_index[node->output];
        for (int i = 0; i < node->n_inputs; i++)
            node->inputs[i] = node->inputs[i] < 0 ? -1 : new_index[node->inputs[i]];
    }
    for (size_t i = 0; i < model->n_inputs; i++)
        model->inputs[i] = new_index[model->inputs[i]];
    for (size_t i = 0; i < model->n_outputs; i++)
        model->outputs[i] = new_index[model->outputs[i]];
}

static qcnn_status drop_tensors(qcnn_model *model, qcnn_error *error)
{
    int *new_index = qcnn_allocate(model->n_tensors, sizeof *new_index);
    if (!new_index)
        return qcnn_fail_memory(error, model->n_tensors * sizeof *new_index);
    for (size_t i = 0; i < model->n_tensors; i++)
        new_index[i] = -1;
    for (size_t i = 0; i < model->n_values; i++)
        if (model->values[i].tensor >= 0)
            new_index[model->values[i].tensor] = 0;
    size_t kept = 0;
    for (size_t i = 0; i < model->n_tensors; i++) {
        if (new_index[i] < 0) {
            qcnn_tensor_release(&model->tensors[i]);
            continue;
        }
        new_index[i] = (int)kept;
        model->tensors[kept++] = model->tensors[i];
    }
    model->n_tensors = kept;
    for (size_t i = 0; i < model->n_values; i++)
        if (model->values[i].tensor >= 0)
            model->values[i].tensor = new_index[model->values[i].tensor];
    qcnn_release(new_index);
    return QCNN_OK;
}

// ---- names ----------------------------------------------------------------------------------------------------------

static int compare_by_name(const void *a, const void *b)
{
    const qcnn_node *x = *(qcnn_node *const *)a, *y = *(qcnn_node *const *)b;
    const int order = strcmp(x->name, y->name);
    return order ? order : (x > y) - (x < y); // the earlier node keeps the name
}

// Gives all but the first of equal names a number; *changed tells whether there were any.
static qcnn_status number_equal_names(qcnn_node **sorted, size_t n, bool *changed, qcnn_error *error)
{
    *changed = false;
    qsort(sorted, n, sizeof *sorted, compare_by_name);
    for (size_t first = 0, i = 1; i < n; i++) {
        if (strcmp(sorted[first]->name, sorted[i]->name)) {
            first = i;
            continue;
        }
        char name[QCNN_MAX_NAME + 32];
        const int length = snprintf(name, sizeof name, "%.*s_%zu", QCNN_MAX_NAME - 24, sorted[i]->name, i - first + 1);
        char *copy = qcnn_copy_text(name, (size_t)length);
        if (!copy)
            return qcnn_fail_memory(error, (size_t)length);
        // strcmp above must go on seeing the first one's name, so only this node's is replaced
        qcnn_release(sorted[i]->name);
        sorted[i]->name = copy;
        *changed = true;
    }
    return QCNN_OK;
}

static qcnn_status make_names_unique(qcnn_model *model, qcnn_error *error)
{
    const size_t n = model->n_nodes;
    qcnn_node **sorted = qcnn_allocate(n, sizeof *sorted);
    qcnn_status status = sorted ? QCNN_OK : qcnn_fail_memory(error, n * sizeof *sorted);
    bool changed = true;
    for (size_t i = 0; i < n && status == QCNN_OK; i++)
        sorted[i] = &model->nodes[i];
    for (int round = 0; changed && status == QCNN_OK && n > 0; round++) { // a numbered name may meet one that was there before
        status = number_equal_names(sorted, n, &changed, error);
        if (changed && round == 8 && status == QCNN_OK)
            status = qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "the nodes' names cannot be told apart");
    }
    qcnn_release(sorted);
    return status;
}

// ---- all of it ------------------------------------------------------------------------------------------------------

qcnn_status qcnn_sweep(qcnn_model *model, qcnn_error *error)
{
    int *new_index = qcnn_allocate(model->n_values, sizeof *new_index);
    if (!new_index)
        return qcnn_fail_memory(error, model->n_values * sizeof *new_index);
    drop_nodes(model, new_index);
    drop_values(model, new_index);
    qcnn_release(new_index);
    QCNN_TRY(drop_tensors(model, error));
    QCNN_TRY(make_names_unique(model, error));
    model->original_bytes = 0;
    for (size_t i = 0; i < model->n_tensors; i++)
        model->original_bytes += qcnn_shape_elements(&model->tensors[i].shape) * sizeof(float);
    return QCNN_OK;
}
