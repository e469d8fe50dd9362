// SPDX-License-Identifier: Apache-2.0
// From a built model to one that can run. Builders and the .qcnn reader may hand over anything; what leaves here is whole.

#include "kernels/kernels.h"
#include "model/model.h"

static qcnn_status bad_model(qcnn_error *error, const qcnn_node *node, const char *what)
{
    return qcnn_fail(error, QCNN_ERROR_FORMAT, "node '%s': %s", node->name ? node->name : "", what);
}

// ---- the graph ------------------------------------------------------------------------------------------------------

static bool is_value(const qcnn_model *model, int index)
{
    return index >= 0 && (size_t)index < model->n_values;
}

// Walks the nodes in order, keeping for each value whether it is known by then.
static qcnn_status check_order(const qcnn_model *model, bool *known, qcnn_error *error)
{
    for (size_t i = 0; i < model->n_values; i++) {
        if (model->values[i].tensor >= 0 && (size_t)model->values[i].tensor >= model->n_tensors)
            return qcnn_fail(error, QCNN_ERROR_FORMAT, "value %zu refers to tensor %d of %zu", i, model->values[i].tensor,
                             model->n_tensors);
        known[i] = model->values[i].tensor >= 0;
    }
    for (size_t i = 0; i < model->n_inputs; i++) {
        if (!is_value(model, model->inputs[i]) || known[model->inputs[i]])
            return qcnn_fail(error, QCNN_ERROR_FORMAT, "graph input %zu is no free value", i);
        known[model->inputs[i]] = true;
    }
    for (size_t n = 0; n < model->n_nodes; n++) {
        const qcnn_node *node = &model->nodes[n];
        if (node->n_inputs < 1)
            return bad_model(error, node, "it has no inputs");
        for (int i = 0; i < node->n_inputs; i++)
            if (node->inputs[i] != -1 && (!is_value(model, node->inputs[i]) || !known[node->inputs[i]]))
                return bad_model(error, node, "it reads a value that nothing before it produces");
        if (!is_value(model, node->output) || known[node->output])
            return bad_model(error, node, "its output is no free value");
        known[node->output] = true;
    }
    for (size_t i = 0; i < model->n_outputs; i++)
        if (!is_value(model, model->outputs[i]) || !known[model->outputs[i]])
            return qcnn_fail(error, QCNN_ERROR_FORMAT, "graph output %zu is produced by nothing", i);
    return QCNN_OK;
}

static qcnn_status check_graph(const qcnn_model *model, qcnn_error *error)
{
    if (model->n_inputs < 1 || model->n_outputs < 1)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "the network needs at least one input and one output");
    bool *known = qcnn_allocate_zeroed(model->n_values, sizeof *known);
    if (!known)
        return qcnn_fail_memory(error, model->n_values);
    const qcnn_status status = check_order(model, known, error);
    qcnn_release(known);
    return status;
}

// ---- tensors --------------------------------------------------------------------------------------------------------

static bool same_codebook_shape(const qcnn_codebook *book, const qcnn_shape *shape)
{
    if (book->groups < 1 || book->n_inputs < 1 || book->n_outputs < 1 || book->n_taps < 1 || book->subspace < 1 ||
        book->subspace > book->n_inputs)
        return false;
    if (book->n_sets != 1 && book->n_sets != book->groups)
        return false;
    if (book->n_subspaces != (book->n_inputs - 1) / book->subspace + 1 || book->n_codewords < 1 || book->n_codewords > QCNN_MAX_CODEWORDS)
        return false;
    uint64_t taps = 1;
    for (int i = 2; i < shape->rank; i++)
        taps *= (uint64_t)shape->dims[i];
    return shape->rank >= 2 && shape->dims[0] == (int64_t)book->groups * book->n_outputs && shape->dims[1] == book->n_inputs &&
           taps == (uint64_t)book->n_taps;
}

static qcnn_status check_tensors(const qcnn_model *model, qcnn_error *error)
{
    for (size_t i = 0; i < model->n_tensors; i++) {
        const qcnn_tensor *tensor = &model->tensors[i];
        const uint64_t n = qcnn_shape_elements(&tensor->shape);
        if (n == 0 || n > SIZE_MAX / 2 / sizeof(float) || !tensor->data == !tensor->codebook.codewords)
            return qcnn_fail(error, QCNN_ERROR_FORMAT, "tensor %zu has no elements, too many, or no data", i);
        if (qcnn_is_codebook(tensor) && !same_codebook_shape(&tensor->codebook, &tensor->shape))
            return qcnn_fail(error, QCNN_ERROR_FORMAT, "tensor %zu: its codebook does not fit its shape", i);
    }
    return QCNN_OK;
}

// A codebook may stand only where weights are read: input 1 of a convolution or a fully-connected layer.
static qcnn_status check_codebook_places(const qcnn_model *model, qcnn_error *error)
{
    for (size_t n = 0; n < model->n_nodes; n++) {
        const qcnn_node *node = &model->nodes[n];
        const bool layer = node->op == QCNN_OP_CONV || node->op == QCNN_OP_FC;
        for (int i = 0; i < node->n_inputs; i++) {
            const int tensor = node->inputs[i] < 0 ? -1 : model->values[node->inputs[i]].tensor;
            if (tensor < 0 || !qcnn_is_codebook(&model->tensors[tensor]))
                continue;
            const int groups = node->op == QCNN_OP_CONV ? node->attributes.groups : 1;
            if (!layer || i != 1 || model->tensors[tensor].codebook.groups != groups)
                return bad_model(error, node, "it reads a codebook where none can stand, or of other groups");
        }
    }
    for (size_t i = 0; i < model->n_outputs; i++) {
        const int tensor = model->values[model->outputs[i]].tensor;
        if (tensor >= 0 && qcnn_is_codebook(&model->tensors[tensor]))
            return qcnn_fail(error, QCNN_ERROR_FORMAT, "graph output %zu is a codebook", i);
    }
    return QCNN_OK;
}

// ---- shapes and methods ---------------------------------------------------------------------------------------------

static qcnn_status set_shapes(qcnn_model *model, qcnn_error *error)
{
    qcnn_shape *inputs = qcnn_allocate(model->n_inputs, sizeof *inputs);
    qcnn_shape *shapes = qcnn_allocate(model->n_values, sizeof *shapes);
    qcnn_status status = inputs && shapes ? QCNN_OK : qcnn_fail_memory(error, model->n_values * sizeof *shapes);
    for (size_t i = 0; status == QCNN_OK && i < model->n_inputs; i++) {
        inputs[i] = model->values[model->inputs[i]].shape;
        for (int d = 0; d < inputs[i].rank && status == QCNN_OK; d++)
            if (inputs[i].rank > QCNN_MAX_RANK || inputs[i].dims[d] < 1)
                status = qcnn_fail(error, QCNN_ERROR_FORMAT, "graph input %zu has an impossible shape", i);
    }
    if (status == QCNN_OK)
        status = qcnn_infer_shapes(model, inputs, shapes, error);
    for (size_t i = 0; status == QCNN_OK && i < model->n_values; i++)
        model->values[i].shape = shapes[i];
    qcnn_release(inputs);
    qcnn_release(shapes);
    return status;
}

// Bytes of decoded weights that the layers may take together, so that a small file never unfolds into a large model: with the graph
// and what reading has unfolded, they stay below twice what is stored and 16 MiB (docs/format.md, section 3).
static uint64_t decode_budget(const qcnn_model *model)
{
    uint64_t allowed = (uint64_t)15 << 20; // the last one is for whatever is not counted here
    uint64_t taken = model->node_capacity * sizeof *model->nodes + model->value_capacity * sizeof *model->values +
                     model->tensor_capacity * sizeof *model->tensors;
    for (size_t i = 0; i < model->n_tensors; i++) {
        allowed += 2 * qcnn_tensor_bytes(&model->tensors[i]);
        taken += qcnn_tensor_unfolded(&model->tensors[i]);
    }
    return allowed > taken ? allowed - taken : 0;
}

bool qcnn_model_is_rounded(const qcnn_model *model)
{
    for (size_t i = 0; i < model->n_tensors; i++)
        if (qcnn_is_codebook(&model->tensors[i]) || model->tensors[i].data_type == QCNN_INT8)
            return true;
    return false;
}

// Whether a dense layer runs in bytes: a convolution in one or two dimensions whose sums of products of bytes fit in 32 bits.
static bool runs_in_bytes(const qcnn_model *model, const qcnn_node *node, const qcnn_tensor *weights)
{
    const uint64_t depth = qcnn_shape_elements(&weights->shape) / (uint64_t)weights->shape.dims[0];
    return model->in_bytes && node->op == QCNN_OP_CONV && node->attributes.n_spatial <= 2 && depth <= INT32_MAX / (127 * 255) &&
           (node->attributes.groups == 1 || weights->shape.dims[1] >= 4);
}

static qcnn_status decode_weights(const qcnn_model *model, qcnn_node *node, const qcnn_tensor *weights, qcnn_error *error)
{
    if (runs_in_bytes(model, node, weights))
        return qcnn_dense_bytes_make(node, weights, model->kernels->bytes_rows, &node->bytes, error);
    const size_t n = (size_t)qcnn_shape_elements(&weights->shape);
    if (!qcnn_is_codebook(weights))
        return QCNN_OK;
    node->decoded = qcnn_allocate(n, sizeof *node->decoded);
    if (!node->decoded)
        return qcnn_fail_memory(error, n * sizeof *node->decoded);
    qcnn_codebook_decode(&weights->codebook, node->decoded);
    return QCNN_OK;
}

static uint64_t decoded_bytes(const qcnn_model *model, const qcnn_node *node, const qcnn_tensor *weights)
{
    if (runs_in_bytes(model, node, weights))
        return qcnn_dense_bytes_size(node, weights, model->kernels->bytes_rows);
    return qcnn_is_codebook(weights) ? qcnn_shape_elements(&weights->shape) * sizeof *node->decoded : 0;
}

// Whether 32 bits hold what byte tables are made of, products and squares of a subspace's bytes, and sums of their entries.
static bool fits_byte_tables(const qcnn_codebook *book)
{
    return book->subspace <= INT32_MAX / (255 * 255) && (uint64_t)book->n_subspaces * (uint64_t)book->n_taps <= INT32_MAX / 255;
}

// Fully-connected layers run from byte tables, convolutions in tiers that do so best; where memory lacks or numbers are too large, from
// float tables.
static qcnn_status make_byte_codebook(const qcnn_model *model, qcnn_node *node, const qcnn_codebook *book, uint64_t *budget,
                                      qcnn_error *error)
{
    const bool is_conv = node->op == QCNN_OP_CONV;
    const size_t width = qcnn_table_width(book->n_codewords, is_conv);
    const uint64_t n_bytes = qcnn_byte_codebook_size(book, width);
    if (model->exact || node->byte_codebook || (is_conv && !model->kernels->conv_byte_tables) || n_bytes > *budget ||
        !fits_byte_tables(book))
        return QCNN_OK;
    *budget -= n_bytes;
    return qcnn_byte_codebook_make(book, width, &node->byte_codebook, error);
}

static qcnn_status choose_method(const qcnn_model *model, qcnn_node *node, uint64_t *budget, qcnn_error *error)
{
    const qcnn_tensor *weights = qcnn_node_weights(model, node);
    node->method = node->op == QCNN_OP_CONV || node->op == QCNN_OP_FC ? QCNN_METHOD_DENSE : QCNN_METHOD_NONE;
    if (!weights || node->decoded || node->bytes)
        return QCNN_OK;
    const qcnn_layer_cost cost =
        qcnn_cost(model->prices, node, weights, &model->values[node->inputs[0]].shape, &model->values[node->output].shape);
    const bool has_tables = qcnn_is_codebook(weights) && (node->op == QCNN_OP_FC || node->attributes.n_spatial <= 2); // none of volumes
    const uint64_t n_bytes = decoded_bytes(model, node, weights);
    if (has_tables && (cost.lut <= cost.dense || n_bytes > *budget)) {
        node->method = QCNN_METHOD_LUT;
        return make_byte_codebook(model, node, &weights->codebook, budget, error);
    }
    if (n_bytes > *budget && !qcnn_is_codebook(weights))
        return QCNN_OK; // as it is, in floats
    if (n_bytes > *budget)
        return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "node '%s': its weights take %llu bytes decoded, too many beside their codebook",
                         node->name ? node->name : "", (unsigned long long)n_bytes);
    *budget -= n_bytes;
    return decode_weights(model, node, weights, error);
}

// ---- what no run reads ----------------------------------------------------------------------------------------------

// Frees a layer's weights as they were read; codewords that lie in the file stay.
static void release_weights(qcnn_tensor *weights, bool keep_assignments)
{
    if (weights->owned_data) {
        qcnn_release(weights->owned_data);
        weights->owned_data = NULL;
        weights->data = weights->codebook.codewords = NULL;
    }
    if (!keep_assignments) {
        qcnn_release(weights->owned_assignments);
        weights->codebook.assignments = weights->owned_assignments = NULL;
    }
}

static qcnn_status release_unread(qcnn_model *model, qcnn_error *error)
{
    int *n_readers = qcnn_allocate_zeroed(model->n_values + model->n_tensors, sizeof *n_readers), *of_tensor = n_readers + model->n_values;
    if (!n_readers)
        return qcnn_fail_memory(error, (model->n_values + model->n_tensors) * sizeof *n_readers);
    for (size_t n = 0; n < model->n_nodes; n++)
        for (int i = 0; i < model->nodes[n].n_inputs; i++)
            if (model->nodes[n].inputs[i] >= 0)
                n_readers[model->nodes[n].inputs[i]]++;
    for (size_t i = 0; i < model->n_outputs; i++)
        n_readers[model->outputs[i]]++;
    for (size_t i = 0; i < model->n_values; i++)
        if (model->values[i].tensor >= 0)
            of_tensor[model->values[i].tensor] += n_readers[i];
    for (size_t n = 0; n < model->n_nodes; n++) {
        const qcnn_node *node = &model->nodes[n];
        qcnn_tensor *weights = qcnn_node_weights(model, node);
        if (weights && of_tensor[weights - model->tensors] == 1 && (node->bytes || node->decoded || node->byte_codebook))
            release_weights(weights, node->byte_codebook != NULL);
    }
    qcnn_release(n_readers);
    return QCNN_OK;
}

qcnn_status qcnn_model_prepare(qcnn_model *model, const char *kernels, qcnn_error *error)
{
    model->kernels = qcnn_kernels_find(kernels);
    if (!model->kernels)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "kernels '%s' do not exist or need another processor", kernels ? kernels : "");
    model->prices = model->exact ? &qcnn_float_prices : model->kernels->prices;
    QCNN_TRY(check_graph(model, error));
    QCNN_TRY(check_tensors(model, error));
    QCNN_TRY(check_codebook_places(model, error));
    QCNN_TRY(set_shapes(model, error));
    model->in_bytes = !model->exact && qcnn_model_is_rounded(model);
    uint64_t budget = decode_budget(model);
    for (size_t n = 0; n < model->n_nodes; n++)
        QCNN_TRY(choose_method(model, &model->nodes[n], &budget, error));
    return model->run_only ? release_unread(model, error) : QCNN_OK;
}

const char *qcnn_model_kernels(const qcnn_model *model)
{
    return model->kernels ? model->kernels->name : "";
}
