// SPDX-License-Identifier: Apache-2.0
// Which values live as byte planes between layers, and their scales.
//
// A value whose range on calibration images is known and not negative may be one if the layer that writes it and all layers that read
// it can take it so. Some layers write bytes only where they read bytes (pools, normalization), some read them only where they write
// them: every value that may be a plane is taken for one, and taken back while a layer objects.
//
// The largest value found is byte `limit`, 255 or what the tier's dense products take; larger ones are held to it. What only moves or
// compares bytes - max pools, concatenations - has one scale for all that it reads and writes.

#include <float.h>

#include "engine/session_plan.h"

enum { MAX_ROUNDS = 32 }; // real networks need a few; one that was made to need thousands keeps floats

typedef struct plane_choice {
    const qcnn_model *model;
    const qcnn_shape *shapes;
    qcnn_step *steps;
    qcnn_value_plan *values;
    const bool *joined;
    bool changed;
} plane_choice;

static qcnn_format *format_of(const plane_choice *choice, int value)
{
    return &choice->values[choice->values[value].root].format;
}

static void take_back(plane_choice *choice, int value)
{
    qcnn_format *format = format_of(choice, value);
    choice->changed |= qcnn_is_plane(format);
    *format = (qcnn_format){ 0 };
}

// Whether a value's own range and shape allow a plane.
static bool has_plane(const plane_choice *choice, int index)
{
    const qcnn_value *value = &choice->model->values[index];
    return value->low >= 0 && value->high > value->low && value->high > 1e-30F && value->high < 1e30F && choice->shapes[index].rank >= 3;
}

// Whether the parts of a joined concatenation are whole quads of the whole.
static bool has_whole_quads(const plane_choice *choice, const qcnn_node *node)
{
    for (int i = 0; i + 1 < node->n_inputs; i++)
        if (choice->shapes[node->inputs[i]].dims[1] % 4 != 0)
            return false;
    return node->attributes.axis == 1;
}

// The roots that nothing but layers stands against.
static void list_candidates(plane_choice *choice)
{
    const qcnn_model *model = choice->model;
    for (size_t v = 0; v < model->n_values; v++) {
        const qcnn_value_plan *value = &choice->values[v];
        if (value->root == (int)v && value->producer >= 0 && value->output < 0 && has_plane(choice, (int)v))
            choice->values[v].format = (qcnn_format){ model->values[v].high / 255, 255 };
    }
    for (size_t i = 0; i < model->n_outputs; i++)
        take_back(choice, model->outputs[i]);
    for (size_t n = 0; n < model->n_nodes; n++) {
        const qcnn_node *node = &model->nodes[n];
        const qcnn_shape *x = &choice->shapes[node->inputs[0]], *y = &choice->shapes[node->output];
        const bool same = qcnn_is_view(node, x, y) ? qcnn_shape_equal(x, y) : !choice->joined[n] || has_whole_quads(choice, node);
        if (!same || !has_plane(choice, node->output))
            take_back(choice, node->output);
    }
}

static void set_formats(const plane_choice *choice, qcnn_step *step)
{
    const qcnn_node *node = step->node;
    step->output_format = *format_of(choice, node->output);
    for (int i = 0; i < node->n_inputs; i++)
        if (node->inputs[i] >= 0)
            step->inputs[i].format = *format_of(choice, node->inputs[i]);
}

static bool runs(const plane_choice *choice, size_t n)
{
    const qcnn_node *node = &choice->model->nodes[n];
    return !choice->joined[n] && !qcnn_is_view(node, &choice->shapes[node->inputs[0]], &choice->shapes[node->output]);
}

// Asks a layer, and takes back what it cannot read or write.
static void ask_layer(plane_choice *choice, size_t n)
{
    qcnn_step *step = &choice->steps[n];
    if (!runs(choice, n))
        return;
    const qcnn_node *node = step->node;
    const qcnn_layer_type *layer = qcnn_layer_of(node);
    set_formats(choice, step);
    const bool reads = layer->reads_quads && layer->reads_quads(step);
    for (int i = 0; i < node->n_inputs; i++)
        if (node->inputs[i] >= 0 && qcnn_is_plane(format_of(choice, node->inputs[i])) &&
            (!reads || (i > 0 && node->op != QCNN_OP_CONCAT && node->op != QCNN_OP_BINARY)))
            take_back(choice, node->inputs[i]);
    set_formats(choice, step);
    if (qcnn_is_plane(&step->output_format) && !(layer->writes_quads && layer->writes_quads(step)))
        take_back(choice, node->output);
}

// ---- scales ---------------------------------------------------------------------------------------------------------

static int class_of(const plane_choice *choice, int value)
{
    qcnn_value_plan *values = choice->values;
    int root = values[value].root;
    while (values[root].scale_class != root) // each way is halved, so that no chain of pools stays long
        root = values[root].scale_class = values[values[root].scale_class].scale_class;
    return root;
}

// Gives two values one scale.
static void unite(const plane_choice *choice, int a, int b)
{
    choice->values[class_of(choice, a)].scale_class = class_of(choice, b);
}

static void choose_scales(plane_choice *choice)
{
    const qcnn_model *model = choice->model;
    qcnn_value_plan *values = choice->values;
    for (size_t v = 0; v < model->n_values; v++) {
        values[v].scale_class = (int)v;
        if (qcnn_is_plane(&values[v].format))
            values[v].format = (qcnn_format){ FLT_MIN, 255 };
    }
    for (size_t n = 0; n < model->n_nodes; n++) {
        const qcnn_node *node = &model->nodes[n];
        for (int i = 0; i < node->n_inputs; i++)
            if ((node->op == QCNN_OP_MAX_POOL || node->op == QCNN_OP_CONCAT) && node->inputs[i] >= 0 &&
                qcnn_is_plane(format_of(choice, node->inputs[i])) && qcnn_is_plane(format_of(choice, node->output)))
                unite(choice, node->inputs[i], node->output);
    }
    for (size_t v = 0; v < model->n_values; v++) // the largest value of each class, for now as its scale
        if (qcnn_is_plane(format_of(choice, (int)v))) {
            qcnn_format *format = &values[class_of(choice, (int)v)].format;
            format->scale = model->values[v].high > format->scale ? model->values[v].high : format->scale;
        }
    for (size_t n = 0; n < model->n_nodes; n++) {
        const qcnn_node *node = &model->nodes[n];
        if (node->bytes && qcnn_is_plane(format_of(choice, node->inputs[0])))
            values[class_of(choice, node->inputs[0])].format.limit = model->kernels->bytes_limit;
    }
    for (size_t v = 0; v < model->n_values; v++)
        if (values[v].scale_class == (int)v && qcnn_is_plane(&values[v].format))
            values[v].format.scale /= (float)values[v].format.limit;
    for (size_t v = 0; v < model->n_values; v++)
        if (qcnn_is_plane(&values[v].format))
            values[v].format = values[class_of(choice, (int)v)].format;
}

void qcnn_choose_planes(const qcnn_model *model, const qcnn_shape *shapes, qcnn_step *steps, qcnn_session_plan *plan)
{
    plane_choice choice = { model, shapes, steps, plan->values, plan->joined, model->in_bytes };
    if (!model->in_bytes)
        return;
    list_candidates(&choice);
    for (int round = 0; choice.changed; round++) { // in both directions: a chain of layers is done in one round
        choice.changed = false;
        for (size_t v = 0; round == MAX_ROUNDS && v < model->n_values; v++)
            take_back(&choice, (int)v);
        for (size_t n = 0; n < model->n_nodes; n++)
            ask_layer(&choice, n);
        for (size_t n = model->n_nodes; n-- > 0;)
            ask_layer(&choice, n);
    }
    choose_scales(&choice);
    for (size_t n = 0; n < model->n_nodes; n++)
        set_formats(&choice, &steps[n]);
}
