// SPDX-License-Identifier: Apache-2.0
// Reading a Caffe network: NET.prototxt says which layers there are, WEIGHTS.caffemodel holds their numbers.

#include "import/caffe.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "import/import.h"
#include "import/simplify.h"

enum { MAX_LAYERS = 1 << 12, MAX_BLOBS = 1 << 12, MAX_PROTOTXT_BYTES = 4 << 20, NAME_BYTES = 256 };

static void name_text(qcnn_span name, char text[NAME_BYTES])
{
    snprintf(text, NAME_BYTES, "%.*s", (int)(name.n < 200 ? name.n : 200), name.n ? (const char *)name.data : "");
    if (!qcnn_bytes_are_text((const unsigned char *)text, strlen(text), false))
        for (char *c = text; *c; c++)
            if (*c < ' ' || *c > '~')
                *c = '?';
}

qcnn_status qcnn_caffe_refuse(caffe_import *import, qcnn_status status, const char *what)
{
    return qcnn_fail(import->error, status, "layer '%.*s' (%.*s): %s", QCNN_SPAN_TEXT(import->name), QCNN_SPAN_TEXT(import->type), what);
}

// ---- blobs ----------------------------------------------------------------------------------------------------------

static caffe_blob *find_blob(caffe_import *import, qcnn_span name)
{
    for (size_t i = 0; i < import->n_blobs; i++)
        if (qcnn_span_equal(import->blobs[i].name, name))
            return &import->blobs[i];
    return NULL;
}

int qcnn_caffe_n_ports(const caffe_import *import, const char *port)
{
    int n = 0;
    while (n <= CAFFE_MAX_PORTS && qcnn_prototxt_find(&import->net, import->layer, port, n) >= 0)
        n++;
    return n;
}

qcnn_status qcnn_caffe_bottom(caffe_import *import, int index, int *value)
{
    const int field = qcnn_prototxt_find(&import->net, import->layer, "bottom", index);
    if (field < 0)
        return qcnn_caffe_refuse(import, QCNN_ERROR_FORMAT, "it lacks a bottom");
    const qcnn_span name = import->net.fields[field].value;
    caffe_blob *blob = find_blob(import, name);
    if (!blob)
        return qcnn_fail(import->error, QCNN_ERROR_FORMAT, "layer '%.*s' reads blob '%.*s', which no layer before it makes",
                         QCNN_SPAN_TEXT(import->name), QCNN_SPAN_TEXT(name));
    blob->is_read = true;
    *value = blob->value;
    return QCNN_OK;
}

static qcnn_status bind_blob(caffe_import *import, qcnn_span name, int value)
{
    caffe_blob *blob = find_blob(import, name);
    if (!blob) {
        if (import->n_blobs == MAX_BLOBS)
            return qcnn_fail(import->error, QCNN_ERROR_UNSUPPORTED, "the network has more than %d blobs", MAX_BLOBS);
        if (!qcnn_reserve(&import->blobs, &import->capacity, import->n_blobs + 1, sizeof *blob))
            return qcnn_fail_memory(import->error, import->n_blobs * sizeof *blob);
        blob = &import->blobs[import->n_blobs++];
    }
    *blob = (caffe_blob){ name, value, false };
    return QCNN_OK;
}

qcnn_status qcnn_caffe_top(caffe_import *import, int value)
{
    const int field = qcnn_prototxt_find(&import->net, import->layer, "top", import->top++);
    if (field < 0)
        return qcnn_caffe_refuse(import, QCNN_ERROR_FORMAT, "it lacks a top");
    return bind_blob(import, import->net.fields[field].value, value);
}

// ---- values and nodes -----------------------------------------------------------------------------------------------

static qcnn_status add_tensor(caffe_import *import, qcnn_tensor *tensor, int *value)
{
    int index;
    const qcnn_shape shape = tensor->shape;
    QCNN_TRY(qcnn_model_add_tensor(import->model, tensor, &index, import->error));
    return qcnn_model_add_value(import->model, NULL, &shape, index, value, import->error);
}

qcnn_status qcnn_caffe_weight(caffe_import *import, int blob, const qcnn_shape *shape, int *value)
{
    qcnn_tensor tensor;
    const caffe_layer_weights *weights = qcnn_caffe_layer(&import->weights, import->name);
    if (!weights)
        return qcnn_caffe_refuse(import, QCNN_ERROR_FORMAT, "the caffemodel has no weights for it");
    QCNN_TRY(qcnn_caffe_tensor(weights, blob, shape, &tensor, import->error));
    return add_tensor(import, &tensor, value);
}

qcnn_status qcnn_caffe_constant(caffe_import *import, const qcnn_shape *shape, float *data, int *value)
{
    qcnn_tensor tensor = { .shape = *shape, .data = data, .owned_data = data, .error = -1 };
    return add_tensor(import, &tensor, value);
}

qcnn_status qcnn_caffe_emit(caffe_import *import, qcnn_op op, const int *inputs, int n_inputs, const qcnn_attributes *attributes,
                            int *output)
{
    char name[NAME_BYTES];
    const qcnn_shape *shapes[CAFFE_MAX_PORTS];
    qcnn_shape shape;
    for (int i = 0; i < n_inputs; i++)
        shapes[i] = &import->model->values[inputs[i]].shape;
    name_text(import->name, name);
    qcnn_node node = { .op = op, .name = name, .n_inputs = n_inputs };
    if (attributes)
        node.attributes = *attributes;
    QCNN_TRY(qcnn_infer_shape(&node, shapes, &shape, import->error));
    QCNN_TRY(qcnn_model_add_value(import->model, NULL, &shape, -1, output, import->error));
    return qcnn_model_add_node(import->model, op, name, inputs, n_inputs, *output, &node.attributes, NULL, import->error);
}

// ---- inputs ---------------------------------------------------------------------------------------------------------

static qcnn_status add_input(caffe_import *import, qcnn_span blob, qcnn_shape shape)
{
    char name[NAME_BYTES];
    int value;
    if (shape.rank > 0)
        shape.dims[0] = 1; // the batch is the session's choice
    for (int i = 0; i < shape.rank; i++)
        if (shape.dims[i] < 1)
            return qcnn_fail(import->error, QCNN_ERROR_FORMAT, "input '%.*s': dimensions must be at least 1", QCNN_SPAN_TEXT(blob));
    name_text(blob, name);
    QCNN_TRY(qcnn_model_add_value(import->model, name, &shape, -1, &value, import->error));
    QCNN_TRY(qcnn_model_add_input(import->model, value, import->error));
    return bind_blob(import, blob, value);
}

// `n` fields `name` in message `in`, from number `first` on, as a shape.
static qcnn_status read_shape(caffe_import *import, int in, const char *name, int first, int n, qcnn_shape *shape)
{
    *shape = (qcnn_shape){ 0 };
    for (int i = first; i < first + n && qcnn_prototxt_find(&import->net, in, name, i) >= 0; i++) {
        if (shape->rank == QCNN_MAX_RANK)
            return qcnn_fail(import->error, QCNN_ERROR_UNSUPPORTED, "an input has more than %d dimensions", QCNN_MAX_RANK);
        shape->dims[shape->rank++] = qcnn_prototxt_int(&import->net, in, name, i, 0, &import->valid);
    }
    return import->valid && shape->rank ? QCNN_OK
                                        : qcnn_fail(import->error, QCNN_ERROR_FORMAT, "an input's dimensions are missing or no numbers");
}

qcnn_status qcnn_caffe_input(caffe_import *import, int shape_message)
{
    qcnn_shape shape;
    const int field = qcnn_prototxt_find(&import->net, import->layer, "top", import->top++);
    if (field < 0)
        return qcnn_caffe_refuse(import, QCNN_ERROR_FORMAT, "it lacks a top");
    QCNN_TRY(read_shape(import, shape_message, "dim", 0, QCNN_MAX_RANK + 1, &shape));
    return add_input(import, import->net.fields[field].value, shape);
}

// Inputs declared outside layers: input with four input_dim, or with an input_shape.
static qcnn_status add_declared_inputs(caffe_import *import)
{
    for (int i = 0;; i++) {
        qcnn_shape shape;
        const int input = qcnn_prototxt_find(&import->net, 0, "input", i),
                  described = qcnn_prototxt_find(&import->net, 0, "input_shape", i);
        if (input < 0)
            return QCNN_OK;
        if (i == CAFFE_MAX_PORTS)
            return qcnn_fail(import->error, QCNN_ERROR_UNSUPPORTED, "the network has more than %d inputs", CAFFE_MAX_PORTS);
        QCNN_TRY(described >= 0 ? read_shape(import, described, "dim", 0, QCNN_MAX_RANK + 1, &shape)
                                : read_shape(import, 0, "input_dim", 4 * i, 4, &shape));
        QCNN_TRY(add_input(import, import->net.fields[input].value, shape));
    }
}

// ---- layers ---------------------------------------------------------------------------------------------------------

static bool is_phase(const prototxt *net, int rule, const char *phase)
{
    return rule >= 0 && qcnn_span_is(qcnn_prototxt_text(net, rule, "phase"), phase);
}

// Only what is there when the network is used: no training layers, no losses' like.
static bool is_included(const prototxt *net, int layer)
{
    return !is_phase(net, qcnn_prototxt_find(net, layer, "include", 0), "TRAIN") &&
           !is_phase(net, qcnn_prototxt_find(net, layer, "exclude", 0), "TEST");
}

static qcnn_status express_layer(caffe_import *import, int layer)
{
    import->layer = layer;
    import->name = qcnn_prototxt_text(&import->net, layer, "name");
    import->type = qcnn_prototxt_text(&import->net, layer, "type");
    import->top = 0;
    import->valid = true;
    if (qcnn_caffe_n_ports(import, "bottom") > CAFFE_MAX_PORTS || qcnn_caffe_n_ports(import, "top") > CAFFE_MAX_PORTS)
        return qcnn_caffe_refuse(import, QCNN_ERROR_UNSUPPORTED, "more than 64 bottoms or tops");
    for (const caffe_layer_type *type = qcnn_caffe_layer_types; type->name; type++) {
        if (!qcnn_span_is(import->type, type->name) && !(type->old_name && qcnn_span_is(import->type, type->old_name)))
            continue;
        const int parameter = type->parameter ? qcnn_prototxt_find(&import->net, layer, type->parameter, 0) : -1;
        QCNN_TRY(type->express(import, parameter));
        return import->valid ? QCNN_OK : qcnn_caffe_refuse(import, QCNN_ERROR_FORMAT, "one of its settings is no number of the right kind");
    }
    return qcnn_caffe_refuse(import, QCNN_ERROR_UNSUPPORTED, "this type of layer is not supported (give the network's deploy form)");
}

// Weights belong to names: two layers of one name would share them without saying so.
static qcnn_status check_name(const caffe_import *import, const int *layers, int n, int layer)
{
    const qcnn_span name = qcnn_prototxt_text(&import->net, layer, "name");
    for (int i = 0; i < n; i++)
        if (qcnn_span_equal(name, qcnn_prototxt_text(&import->net, layers[i], "name")))
            return qcnn_fail(import->error, QCNN_ERROR_FORMAT, "two layers are called '%.*s'", QCNN_SPAN_TEXT(name));
    return QCNN_OK;
}

static qcnn_status express_layers(caffe_import *import, int *layers)
{
    const prototxt *net = &import->net;
    int n = 0;
    for (int i = 1; i < net->fields[0].next; i = net->fields[i].next) {
        const bool is_layer = qcnn_span_is(net->fields[i].name, "layer") || qcnn_span_is(net->fields[i].name, "layers");
        if (!is_layer || !net->fields[i].is_message || !is_included(net, i))
            continue;
        if (n == MAX_LAYERS)
            return qcnn_fail(import->error, QCNN_ERROR_UNSUPPORTED, "the network has more than %d layers", MAX_LAYERS);
        QCNN_TRY(check_name(import, layers, n, i));
        layers[n++] = i;
        QCNN_TRY(express_layer(import, i));
    }
    return QCNN_OK;
}

// ---- outputs --------------------------------------------------------------------------------------------------------

// Blobs that no layer reads are the outputs.
static qcnn_status add_outputs(caffe_import *import)
{
    const qcnn_attributes identity = { .function = QCNN_IDENTITY };
    for (size_t i = 0; i < import->n_blobs; i++) {
        const caffe_blob *blob = &import->blobs[i];
        char name[NAME_BYTES];
        int output = blob->value;
        if (blob->is_read)
            continue;
        name_text(blob->name, name);
        bool taken = false;
        for (size_t k = 0; k < import->model->n_inputs; k++)
            taken |= import->model->inputs[k] == output;
        for (size_t k = 0; k < import->model->n_outputs; k++)
            taken |= import->model->outputs[k] == output;
        import->name = blob->name;
        if (taken)
            QCNN_TRY(qcnn_caffe_emit(import, QCNN_OP_UNARY, &blob->value, 1, &identity, &output));
        char *copy = qcnn_copy_text(name, strlen(name));
        if (!copy)
            return qcnn_fail_memory(import->error, strlen(name));
        qcnn_release(import->model->values[output].name);
        import->model->values[output].name = copy;
        QCNN_TRY(qcnn_model_add_output(import->model, output, import->error));
    }
    return QCNN_OK;
}

// ---- all of it ------------------------------------------------------------------------------------------------------

static qcnn_status read_net(caffe_import *import, qcnn_span net, qcnn_span weights)
{
    if (net.n > MAX_PROTOTXT_BYTES)
        return qcnn_fail(import->error, QCNN_ERROR_UNSUPPORTED, "the prototxt is larger than %d bytes", MAX_PROTOTXT_BYTES);
    QCNN_TRY(qcnn_prototxt_parse(net, &import->net, import->error));
    QCNN_TRY(qcnn_caffe_find_weights(weights, &import->weights, import->error));
    QCNN_TRY(add_declared_inputs(import));
    int *layers = qcnn_allocate(MAX_LAYERS, sizeof *layers);
    const qcnn_status status = layers ? express_layers(import, layers) : qcnn_fail_memory(import->error, MAX_LAYERS * sizeof *layers);
    qcnn_release(layers);
    QCNN_TRY(status);
    return add_outputs(import);
}

qcnn_status qcnn_caffe_read(qcnn_span net, qcnn_span weights, const qcnn_import_options *options, qcnn_model **model, qcnn_error *error)
{
    caffe_import import = { .error = error, .valid = true };
    QCNN_TRY(qcnn_model_new(&import.model, error));
    qcnn_status status = read_net(&import, net, weights);
    qcnn_prototxt_free(&import.net);
    qcnn_release(import.weights.layers);
    qcnn_release(import.blobs);
    if (status == QCNN_OK)
        status = qcnn_simplify(import.model, error);
    if (status == QCNN_OK)
        status = qcnn_model_prepare(import.model, options->kernels, error);
    if (status == QCNN_OK)
        *model = import.model;
    else
        qcnn_model_free(import.model);
    return status;
}
