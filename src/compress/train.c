// SPDX-License-Identifier: Apache-2.0
// A trainer: which layers of a network run, in which memory, what of it is trained, and the passes over all of them.

#include "compress/train.h"

#include <math.h>
#include <string.h>

#include "compress/gemm_bf16.h"

static const double USUAL_FAN_IN = 1000;

// ---- which part of the graph ----------------------------------------------------------------------------------------

static const qcnn_node *producer_of(const qcnn_model *model, int value)
{
    for (size_t n = 0; n < model->n_nodes; n++)
        if (model->nodes[n].output == value)
            return &model->nodes[n];
    return NULL;
}

// The value whose softmax the network gives, perhaps reshaped; or what it gives itself.
static int find_logits(const qcnn_model *model)
{
    int value = model->outputs[0], logits = value;
    for (;;) {
        const qcnn_node *node = producer_of(model, value);
        const bool softmax = node && (node->op == QCNN_OP_SOFTMAX || node->op == QCNN_OP_LOG_SOFTMAX);
        if (!softmax && !(node && node->op == QCNN_OP_RESHAPE))
            return logits;
        value = node->inputs[0];
        logits = softmax ? value : logits;
    }
}

static int count_readers(const qcnn_model *model, const qcnn_tensor *tensor)
{
    const int index = (int)(tensor - model->tensors);
    int n = 0;
    for (size_t i = 0; i < model->n_nodes; i++)
        for (int k = 0; k < model->nodes[i].n_inputs; k++)
            n += model->nodes[i].inputs[k] >= 0 && model->values[model->nodes[i].inputs[k]].tensor == index;
    return n;
}

// Marks the values that the logits need; from the back, since nodes stand in running order.
static void mark_needed(const qcnn_trainer *trainer)
{
    const qcnn_model *model = trainer->model;
    trainer->values[trainer->logits].present = true;
    for (size_t n = model->n_nodes; n-- > 0;) {
        const qcnn_node *node = &model->nodes[n];
        const bool needed = trainer->values[node->output].present && node->output != trainer->input;
        for (int i = 0; needed && i < node->n_inputs; i++)
            if (node->inputs[i] >= 0 && model->values[node->inputs[i]].tensor < 0)
                trainer->values[node->inputs[i]].present = true;
    }
}

static bool is_mean_of_positions(const qcnn_node *node, const qcnn_shape *x)
{
    for (int d = 0; d < x->rank; d++)
        if ((node->attributes.axes[d] != 0) != (d >= 2))
            return false;
    return x->rank > 2;
}

static bool is_sum_or_product(const qcnn_trainer *trainer, const qcnn_node *node)
{
    const qcnn_function f = node->attributes.function;
    const qcnn_train_value *a = &trainer->values[node->inputs[0]], *b = &trainer->values[node->inputs[1]],
                           *y = &trainer->values[node->output];
    return a->present && b->present && (f == QCNN_ADD || f == QCNN_SUBTRACT || f == QCNN_MULTIPLY) && a->channels == y->channels &&
           b->channels == y->channels && a->rows == b->rows && a->rows == y->rows &&
           (a->n_positions == y->n_positions || a->n_positions == 1) && (b->n_positions == y->n_positions || b->n_positions == 1);
}

static bool can_train_through(const qcnn_trainer *trainer, const qcnn_node *node)
{
    const qcnn_train_value *x = &trainer->values[node->inputs[0]];
    if (!x->present || !qcnn_train_activation_known(node->attributes.activation.function))
        return false;
    switch (node->op) {
    case QCNN_OP_CONV: return qcnn_node_weights(trainer->model, node) != NULL;
    case QCNN_OP_FC: return x->rows;
    case QCNN_OP_MAX_POOL:
    case QCNN_OP_AVERAGE_POOL:
    case QCNN_OP_LRN: return true;
    case QCNN_OP_RESHAPE: return true;
    case QCNN_OP_REDUCE_MEAN: return is_mean_of_positions(node, &x->shape);
    case QCNN_OP_UNARY: return qcnn_train_activation_known(node->attributes.function);
    case QCNN_OP_BINARY: return is_sum_or_product(trainer, node);
    case QCNN_OP_CONCAT: return node->attributes.axis == 1;
    default: return false;
    }
}

// ---- memory ---------------------------------------------------------------------------------------------------------

static float *new_floats(size_t n, qcnn_status *status, qcnn_error *error)
{
    float *floats = qcnn_allocate_zeroed(n, sizeof *floats);
    if (!floats && *status == QCNN_OK)
        *status = qcnn_fail_memory(error, n * sizeof *floats);
    return floats;
}

static size_t value_floats(const qcnn_trainer *trainer, const qcnn_train_value *value)
{
    return (size_t)trainer->batch * (size_t)value->channels * (size_t)value->n_positions;
}

static qcnn_status set_value_forms(qcnn_trainer *trainer, qcnn_error *error)
{
    for (size_t i = 0; i < trainer->model->n_values; i++) {
        qcnn_train_value *value = &trainer->values[i];
        const qcnn_shape *shape = &trainer->model->values[i].shape;
        if (!value->present)
            continue;
        if (shape->rank < 2 || shape->dims[0] != 1)
            return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED,
                             "refinement needs activations with a batch in front, which one of this network lacks");
        value->shape = *shape;
        value->rows = shape->rank == 2;
        value->channels = shape->dims[1];
        value->n_positions = 1;
        for (int d = 2; d < shape->rank; d++)
            value->n_positions *= shape->dims[d];
    }
    const qcnn_train_value *logits = &trainer->values[trainer->logits];
    if (logits->n_positions != 1)
        return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "refinement needs a network that ends in class scores");
    return QCNN_OK;
}

static qcnn_status new_weights(qcnn_trainer *trainer, const qcnn_tensor *tensor, bool conv, qcnn_train_weights *weights, qcnn_error *error)
{
    const qcnn_codebook *book = &tensor->codebook;
    *weights = (qcnn_train_weights){ .tensor = (int)(tensor - trainer->model->tensors), .book = *book, .assignments = book->assignments };
    weights->n_assignments = (size_t)book->groups * (size_t)book->n_subspaces * (size_t)book->n_taps * (size_t)book->n_outputs;
    weights->n_columns = (size_t)book->groups * (size_t)book->n_inputs * (size_t)book->n_taps * (size_t)book->n_outputs;
    weights->n_codewords = (size_t)book->n_sets * (size_t)book->n_subspaces * (size_t)book->n_codewords * (size_t)book->subspace;
    qcnn_status status = QCNN_OK;
    weights->codewords = new_floats(weights->n_codewords, &status, error);
    if (conv)
        weights->columns = new_floats(weights->n_columns, &status, error);
    if (trainer->backward) {
        weights->gradient = new_floats(weights->n_codewords, &status, error);
        weights->first = new_floats(weights->n_codewords, &status, error);
        weights->second = new_floats(weights->n_codewords, &status, error);
        if (conv)
            weights->column_gradients = new_floats(weights->n_columns * QCNN_TRAIN_SLICES, &status, error);
    }
    if (status != QCNN_OK)
        return status;
    memcpy(weights->codewords, book->codewords, weights->n_codewords * sizeof(float));
    weights->book.codewords = weights->codewords;
    return QCNN_OK;
}

// The root mean square of the columns.
static void start_weights(qcnn_train_weights *weights)
{
    const qcnn_codebook *book = &weights->book;
    const size_t subspace = (size_t)book->subspace, n_columns = (size_t)book->n_taps * (size_t)book->n_outputs;
    const uint8_t *assignment = weights->assignments;
    double sum = 0;
    for (int group = 0; group < book->groups; group++)
        for (int m = 0; m < book->n_subspaces; m++) {
            const size_t codebook = (size_t)(book->n_sets > 1 ? group : 0) * (size_t)book->n_subspaces + (size_t)m;
            const float *codewords = weights->codewords + codebook * (size_t)book->n_codewords * subspace;
            for (size_t j = 0; j < n_columns; j++, assignment++)
                for (size_t i = 0; i < subspace; i++)
                    sum += (double)codewords[*assignment * subspace + i] * codewords[*assignment * subspace + i];
        }
    weights->scale = (float)sqrt(sum / (double)weights->n_columns);
    weights->unit = weights->scale * (float)sqrt(USUAL_FAN_IN / ((double)book->n_inputs * book->n_taps));
}

static qcnn_status new_bias(const qcnn_trainer *trainer, const qcnn_tensor *tensor, float unit, qcnn_train_bias *bias, qcnn_error *error)
{
    *bias = (qcnn_train_bias){ .tensor = (int)(tensor - trainer->model->tensors),
                               .n = (size_t)qcnn_shape_elements(&tensor->shape),
                               .unit = unit };
    qcnn_status status = QCNN_OK;
    bias->values = new_floats(bias->n, &status, error);
    bias->gradients = new_floats(bias->n * QCNN_TRAIN_SLICES, &status, error);
    bias->first = new_floats(bias->n, &status, error);
    bias->second = new_floats(bias->n, &status, error);
    if (status == QCNN_OK)
        memcpy(bias->values, tensor->data, bias->n * sizeof(float));
    return status;
}

// ---- layers ---------------------------------------------------------------------------------------------------------

static bool same_constant(const qcnn_tensor *a, const qcnn_tensor *b)
{
    if (!a || !b || !a->data || !b->data)
        return a == b;
    return a->data == b->data || (qcnn_shape_equal(&a->shape, &b->shape) &&
                                  memcmp(a->data, b->data, (size_t)qcnn_shape_elements(&a->shape) * sizeof(float)) == 0);
}

// Whether the teacher's node `n` computes the same from the same.
static bool is_shared(const qcnn_trainer *trainer, const qcnn_trainer *teacher, size_t n)
{
    const qcnn_node *node = &trainer->model->nodes[n], *other = &teacher->model->nodes[n];
    const bool layer = node->op == QCNN_OP_CONV || node->op == QCNN_OP_FC;
    for (int i = 0; i < node->n_inputs; i++)
        if (node->inputs[i] >= 0 && trainer->values[node->inputs[i]].present && !trainer->values[node->inputs[i]].borrowed)
            return false;
    return !layer || (same_constant(qcnn_node_weights(trainer->model, node), qcnn_node_weights(teacher->model, other)) &&
                      same_constant(qcnn_node_bias(trainer->model, node), qcnn_node_bias(teacher->model, other)));
}

static qcnn_status set_parameters(qcnn_trainer *trainer, qcnn_train_layer *layer, qcnn_error *error)
{
    const qcnn_node *node = layer->node;
    const qcnn_tensor *weights = qcnn_node_weights(trainer->model, node), *bias = qcnn_node_bias(trainer->model, node);
    layer->dense = weights->data;
    layer->constant_bias = bias ? bias->data : NULL;
    if (!qcnn_is_codebook(weights))
        return QCNN_OK;
    qcnn_train_weights *own = &trainer->weights[trainer->n_weights];
    layer->weights = (int)trainer->n_weights++;
    QCNN_TRY(new_weights(trainer, weights, node->op == QCNN_OP_CONV, own, error));
    start_weights(own);
    if (!bias || !trainer->backward || count_readers(trainer->model, bias) != 1)
        return QCNN_OK;
    layer->bias = (int)trainer->n_biases++;
    return new_bias(trainer, bias, own->unit, &trainer->biases[layer->bias], error);
}

// Memory of the layer's output: the teacher's where it is the same; and a gradient where something is trained before it.
static qcnn_status set_output(qcnn_trainer *trainer, qcnn_train_layer *layer, const qcnn_trainer *teacher, qcnn_error *error)
{
    qcnn_train_value *value = &trainer->values[layer->node->output];
    const qcnn_activation *activation = &layer->node->attributes.activation;
    const size_t n = value_floats(trainer, value);
    qcnn_status status = QCNN_OK;
    if (layer->shared) {
        value->data = teacher->values[layer->node->output].data;
        value->borrowed = true;
        return QCNN_OK;
    }
    bool trained = layer->weights >= 0 || trainer->everywhere;
    for (int i = 0; i < layer->node->n_inputs; i++)
        trained = trained || (layer->node->inputs[i] >= 0 && trainer->values[layer->node->inputs[i]].gradient);
    value->data = new_floats(n, &status, error);
    if (trainer->backward && trained)
        value->gradient = new_floats(n, &status, error);
    if (value->gradient && qcnn_train_activation_needs_input(activation->function))
        layer->before = new_floats(n, &status, error);
    if (layer->node->op == QCNN_OP_MAX_POOL) {
        layer->chosen = qcnn_allocate(n, sizeof *layer->chosen);
        if (!layer->chosen && status == QCNN_OK)
            status = qcnn_fail_memory(error, n * sizeof *layer->chosen);
    }
    return status;
}

static size_t scratch_of(const qcnn_trainer *trainer, const qcnn_train_layer *layer)
{
    switch (layer->node->op) {
    case QCNN_OP_CONV: return qcnn_train_conv_scratch(trainer, layer);
    case QCNN_OP_FC: return qcnn_train_fc_scratch(trainer, layer);
    case QCNN_OP_LRN: return qcnn_train_lrn_scratch(trainer, layer);
    default: return 0;
    }
}

// For the products of a layer, whose longest left sides are rows of patches, outputs, or images.
static size_t gemm_scratch_of(const qcnn_trainer *trainer, const qcnn_train_layer *layer)
{
    const qcnn_node *node = layer->node;
    if (node->op != QCNN_OP_CONV && node->op != QCNN_OP_FC)
        return 0;
    const int64_t outputs = trainer->values[node->output].channels;
    int64_t rows = trainer->batch + QCNN_TRAIN_INPUT_TILE + (layer->weights >= 0 ? trainer->weights[layer->weights].book.subspace : 0);
    if (node->op == QCNN_OP_CONV)
        rows = trainer->values[node->inputs[0]].channels / node->attributes.groups * layer->window.n_taps;
    return qcnn_gemm_bf16_scratch((int)(rows > outputs ? rows : outputs));
}

void qcnn_train_gemm(const qcnn_trainer *trainer, const qcnn_gemm_call *call, int worker)
{
    if (trainer->gemm_scratch && call->m >= QCNN_GEMM_BF16_ROWS && call->n >= QCNN_GEMM_BF16_COLUMNS)
        qcnn_gemm_bf16(call, trainer->gemm_scratch + (size_t)worker * trainer->gemm_floats);
    else
        qcnn_gemm_serial(call);
}

static qcnn_status add_layer(qcnn_trainer *trainer, size_t n, const qcnn_train_options *options, qcnn_error *error)
{
    const qcnn_node *node = &trainer->model->nodes[n];
    if (!can_train_through(trainer, node))
        return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "refinement cannot go through node '%s' (%s)", node->name ? node->name : "",
                         qcnn_op_name(node->op));
    qcnn_train_layer *layer = &trainer->layers[trainer->n_layers++];
    *layer = (qcnn_train_layer){ .node = node, .weights = -1, .bias = -1 };
    if (node->op == QCNN_OP_CONV || node->op == QCNN_OP_MAX_POOL || node->op == QCNN_OP_AVERAGE_POOL)
        layer->window = qcnn_window_of(&node->attributes, &trainer->values[node->inputs[0]].shape, &trainer->values[node->output].shape);
    layer->shared = options->teacher && is_shared(trainer, options->teacher, n);
    if (node->op == QCNN_OP_CONV || node->op == QCNN_OP_FC)
        QCNN_TRY(set_parameters(trainer, layer, error));
    QCNN_TRY(set_output(trainer, layer, options->teacher, error));
    const size_t floats = scratch_of(trainer, layer);
    trainer->scratch_floats = floats > trainer->scratch_floats ? floats : trainer->scratch_floats;
    const size_t gemm = gemm_scratch_of(trainer, layer);
    trainer->gemm_floats = gemm > trainer->gemm_floats ? gemm : trainer->gemm_floats;
    return QCNN_OK;
}

static qcnn_status set_input(qcnn_trainer *trainer, const qcnn_trainer *teacher, qcnn_error *error)
{
    qcnn_train_value *value = &trainer->values[trainer->input];
    qcnn_status status = QCNN_OK;
    if (!value->present || (trainer->input != trainer->model->inputs[0] && trainer->values[trainer->model->inputs[0]].present))
        return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "refinement needs class scores that depend on the input");
    value->borrowed = teacher != NULL;
    value->data = teacher ? teacher->values[teacher->input].data : new_floats(value_floats(trainer, value), &status, error);
    return status;
}

static qcnn_status build(qcnn_trainer *trainer, const qcnn_train_options *options, qcnn_error *error)
{
    const qcnn_model *model = trainer->model;
    trainer->values = qcnn_allocate_zeroed(model->n_values, sizeof *trainer->values);
    trainer->layers = qcnn_allocate_zeroed(model->n_nodes, sizeof *trainer->layers);
    trainer->weights = qcnn_allocate_zeroed(model->n_nodes, sizeof *trainer->weights);
    trainer->biases = qcnn_allocate_zeroed(model->n_nodes, sizeof *trainer->biases);
    if (!trainer->values || !trainer->layers || !trainer->weights || !trainer->biases)
        return qcnn_fail_memory(error, model->n_nodes * sizeof *trainer->weights);
    if (model->n_inputs != 1)
        return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "refinement needs a network of one input, this one has %zu", model->n_inputs);
    trainer->input = options->first_node > 0 ? model->nodes[options->first_node].inputs[0] : model->inputs[0];
    trainer->logits = find_logits(model);
    mark_needed(trainer);
    QCNN_TRY(set_value_forms(trainer, error));
    QCNN_TRY(set_input(trainer, options->teacher, error));
    for (size_t n = 0; n < model->n_nodes; n++)
        if (trainer->values[model->nodes[n].output].present && model->nodes[n].output != trainer->input)
            QCNN_TRY(add_layer(trainer, n, options, error));
    const size_t n_workers = (size_t)qcnn_n_workers(options->parallel);
    const bool fast = !options->exact && qcnn_gemm_bf16_available();
    trainer->scratch = qcnn_allocate(trainer->scratch_floats * n_workers, sizeof(float));
    trainer->gemm_scratch = fast ? qcnn_allocate(trainer->gemm_floats * n_workers, sizeof(float)) : NULL;
    if (!trainer->scratch || (fast && !trainer->gemm_scratch))
        return qcnn_fail_memory(error, (trainer->scratch_floats + trainer->gemm_floats) * n_workers * sizeof(float));
    return QCNN_OK;
}

qcnn_status qcnn_trainer_new(const qcnn_model *model, const qcnn_train_options *options, qcnn_trainer **result, qcnn_error *error)
{
    *result = NULL;
    qcnn_trainer *trainer = qcnn_allocate_zeroed(1, sizeof *trainer);
    if (!trainer)
        return qcnn_fail_memory(error, sizeof *trainer);
    qcnn_blas_start();
    trainer->model = model;
    trainer->parallel = options->parallel;
    trainer->backward = options->backward;
    trainer->everywhere = options->everywhere;
    trainer->slice = options->batch / QCNN_TRAIN_SLICES;
    trainer->batch = trainer->slice * QCNN_TRAIN_SLICES;
    const qcnn_status status = build(trainer, options, error);
    if (status != QCNN_OK) {
        qcnn_trainer_free(trainer);
        return status;
    }
    *result = trainer;
    return QCNN_OK;
}

static void free_weights(qcnn_train_weights *weights)
{
    float *const blocks[] = { weights->codewords, weights->gradient, weights->first,
                              weights->second,    weights->columns,  weights->column_gradients };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        qcnn_release(blocks[i]);
}

void qcnn_trainer_free(qcnn_trainer *trainer)
{
    if (!trainer)
        return;
    for (size_t i = 0; trainer->values && i < trainer->model->n_values; i++) {
        if (!trainer->values[i].borrowed)
            qcnn_release(trainer->values[i].data);
        qcnn_release(trainer->values[i].gradient);
    }
    for (size_t i = 0; i < trainer->n_layers; i++) {
        qcnn_release(trainer->layers[i].chosen);
        qcnn_release(trainer->layers[i].before);
    }
    for (size_t i = 0; i < trainer->n_weights; i++)
        free_weights(&trainer->weights[i]);
    for (size_t i = 0; i < trainer->n_biases; i++) {
        qcnn_release(trainer->biases[i].values);
        qcnn_release(trainer->biases[i].gradients);
        qcnn_release(trainer->biases[i].first);
        qcnn_release(trainer->biases[i].second);
    }
    qcnn_release(trainer->values);
    qcnn_release(trainer->layers);
    qcnn_release(trainer->weights);
    qcnn_release(trainer->biases);
    qcnn_release(trainer->scratch);
    qcnn_release(trainer->gemm_scratch);
    qcnn_release(trainer);
}

// ---- passes ---------------------------------------------------------------------------------------------------------

void qcnn_train_set_image(qcnn_trainer *trainer, int index, const float *image)
{
    const qcnn_train_value *value = &trainer->values[trainer->input];
    const size_t n = (size_t)value->n_positions, channels = (size_t)value->channels, images = (size_t)trainer->slice;
    const size_t slice = (size_t)index / images, i = (size_t)index % images;
    for (size_t c = 0; c < channels; c++)
        memcpy(value->data + (value->rows ? (size_t)index * channels + c : ((slice * channels + c) * images + i) * n), image + c * n,
               n * sizeof *image);
}

void qcnn_train_forward(qcnn_trainer *trainer)
{
    for (size_t i = 0; i < trainer->n_layers; i++)
        if (!trainer->layers[i].shared)
            qcnn_train_layer_forward(trainer, &trainer->layers[i]);
}

int qcnn_train_n_classes(const qcnn_trainer *trainer)
{
    return (int)trainer->values[trainer->logits].channels;
}

void qcnn_train_get_logits(const qcnn_trainer *trainer, float *logits)
{
    const qcnn_train_value *value = &trainer->values[trainer->logits];
    const size_t classes = (size_t)value->channels;
    for (size_t i = 0; i < (size_t)trainer->batch; i++)
        for (size_t c = 0; c < classes; c++)
            *logits++ = value->data[qcnn_train_place(trainer, value, i, c)];
}

void qcnn_train_set_logit_gradients(qcnn_trainer *trainer, const float *gradients)
{
    const qcnn_train_value *value = &trainer->values[trainer->logits];
    const size_t classes = (size_t)value->channels;
    for (size_t i = 0; value->gradient && i < (size_t)trainer->batch; i++)
        for (size_t c = 0; c < classes; c++)
            value->gradient[qcnn_train_place(trainer, value, i, c)] = *gradients++;
}

void qcnn_train_clear_gradients(qcnn_trainer *trainer)
{
    for (size_t i = 0; i < trainer->model->n_values; i++)
        if (trainer->values[i].gradient)
            memset(trainer->values[i].gradient, 0, value_floats(trainer, &trainer->values[i]) * sizeof(float));
    for (size_t i = 0; i < trainer->n_weights; i++)
        memset(trainer->weights[i].gradient, 0, trainer->weights[i].n_codewords * sizeof(float));
}

void qcnn_train_backward(qcnn_trainer *trainer)
{
    for (size_t i = trainer->n_layers; i-- > 0;)
        if (trainer->values[trainer->layers[i].node->output].gradient)
            qcnn_train_layer_backward(trainer, &trainer->layers[i]);
    for (size_t i = 0; i < trainer->n_weights; i++)
        qcnn_train_collect(trainer, &trainer->weights[i]);
}
