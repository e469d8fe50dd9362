// SPDX-License-Identifier: Apache-2.0
// Settings per layer: the preset "q-cnn" and the reader of "LAYER=C/K,LAYER=dense,...".

#include "compress/settings.h"

#include <stdio.h>
#include <string.h>

#include "compress/quantize.h"

// ---- what a layer allows --------------------------------------------------------------------------------------------

int qcnn_tensor_readers(const qcnn_model *model, const qcnn_tensor *tensor)
{
    const int index = (int)(tensor - model->tensors);
    int n_readers = 0;
    for (size_t n = 0; n < model->n_nodes; n++)
        for (int i = 0; i < model->nodes[n].n_inputs; i++) {
            const int value = model->nodes[n].inputs[i];
            n_readers += value >= 0 && model->values[value].tensor == index;
        }
    for (size_t i = 0; i < model->n_outputs; i++)
        n_readers += model->values[model->outputs[i]].tensor == index;
    return n_readers;
}

static int groups_of(const qcnn_node *node)
{
    return node->op == QCNN_OP_CONV ? node->attributes.groups : 1;
}

static const char *name_of(const qcnn_node *node)
{
    return node->name ? node->name : "";
}

// ---- the preset -----------------------------------------------------------------------------------------------------

static qcnn_layer_setting preset_of(const qcnn_node *node, const qcnn_tensor *weights, bool last_fc)
{
    const qcnn_layer_setting dense = { 0 };
    const int64_t n_inputs = weights->shape.dims[1];
    qcnn_layer_setting setting = { .subspace = 8, .n_codewords = 128 };
    if (node->op == QCNN_OP_FC)
        setting =
            last_fc ? (qcnn_layer_setting){ .subspace = 1, .n_codewords = 16 } : (qcnn_layer_setting){ .subspace = 4, .n_codewords = 32 };
    else if (n_inputs == 1)
        return dense;
    if (setting.subspace > n_inputs)
        setting.subspace = (int)n_inputs;
    const qcnn_codebook form = qcnn_codebook_form(&weights->shape, groups_of(node), false, setting.subspace, setting.n_codewords);
    return form.n_subspaces == 0 || qcnn_codebook_bytes(&form) > qcnn_tensor_bytes(weights) ? dense : setting;
}

static void apply_preset(const qcnn_model *model, qcnn_layer_setting *settings)
{
    size_t last_fc = model->n_nodes;
    for (size_t n = 0; n < model->n_nodes; n++)
        if (model->nodes[n].op == QCNN_OP_FC && qcnn_node_weights(model, &model->nodes[n]))
            last_fc = n;
    for (size_t n = 0; n < model->n_nodes; n++) {
        const qcnn_tensor *weights = qcnn_node_weights(model, &model->nodes[n]);
        settings[n] = (qcnn_layer_setting){ 0 };
        if (weights && qcnn_tensor_readers(model, weights) == 1)
            settings[n] = preset_of(&model->nodes[n], weights, n == last_fc);
    }
}

// ---- the caller's text ----------------------------------------------------------------------------------------------

enum { SHOWN = 120 }; // bytes of a bad piece that a message shows

static int shown(size_t n)
{
    return n < SHOWN ? (int)n : SHOWN;
}

// The layer of that name; n_nodes if there is none with constant weights.
static size_t find_layer(const qcnn_model *model, const char *name, size_t n_bytes)
{
    for (size_t n = 0; n < model->n_nodes; n++) {
        const char *candidate = name_of(&model->nodes[n]);
        if (qcnn_node_weights(model, &model->nodes[n]) && strlen(candidate) == n_bytes && memcmp(candidate, name, n_bytes) == 0)
            return n;
    }
    return model->n_nodes;
}

static qcnn_status unknown_layer(const qcnn_model *model, const char *name, size_t n_bytes, qcnn_error *error)
{
    char list[300] = "";
    size_t used = 0;
    for (size_t n = 0; n < model->n_nodes && used < sizeof list - 1; n++)
        if (qcnn_node_weights(model, &model->nodes[n])) {
            const int wanted = snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", name_of(&model->nodes[n]));
            used += wanted > 0 ? (size_t)wanted : 0;
        }
    return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "settings: no layer with weights is named '%.*s'; there are: %s%s", shown(n_bytes), name,
                     list, used < sizeof list ? "" : "...");
}

// Reads a plain number of 1 to 9 digits from *text, which moves past it.
static bool read_number(const char **text, const char *end, int *number)
{
    const char *start = *text;
    *number = 0;
    while (*text < end && **text >= '0' && **text <= '9' && *text - start < 9)
        *number = *number * 10 + (*(*text)++ - '0');
    return *text > start;
}

// "/float16", "/int8", "/int8:LARGEST" or "/groups" at *text, which moves past it.
static bool read_flag(const char **text, const char *end, qcnn_layer_setting *setting)
{
    const char *flag = *text + 1;
    *text = flag;
    while (*text < end && **text != '/')
        (*text)++;
    const size_t n = (size_t)(*text - flag);
    if (n == 6 && memcmp(flag, "groups", n) == 0 && setting->subspace > 0)
        return setting->set_per_group = true;
    if (setting->codeword_type != QCNN_FLOAT32)
        return false;
    setting->codeword_type = n == 7 && memcmp(flag, "float16", n) == 0 ? QCNN_FLOAT16 : QCNN_INT8;
    if (setting->codeword_type == QCNN_FLOAT16)
        return true;
    if (n < 4 || memcmp(flag, "int8", 4) != 0)
        return false;
    const char *number = flag + 5;
    return n == 4 || (flag[4] == ':' && read_number(&number, *text, &setting->largest) && number == *text && setting->largest >= 1 &&
                      setting->largest <= 127);
}

// "dense" or "C/K", and flags.
static bool read_value(const char *text, const char *end, qcnn_layer_setting *setting)
{
    if (end - text >= 5 && memcmp(text, "dense", 5) == 0)
        text += 5;
    else if (!read_number(&text, end, &setting->subspace) || text == end || *text++ != '/' ||
             !read_number(&text, end, &setting->n_codewords))
        return false;
    while (text < end)
        if (*text != '/' || !read_flag(&text, end, setting))
            return false;
    return true;
}

// One piece, "LAYER=C/K" or "LAYER=dense". The name ends at the last '=', so that it may hold others.
static qcnn_status apply_piece(const qcnn_model *model, const char *piece, const char *end, qcnn_layer_setting *settings, qcnn_error *error)
{
    const char *value = end;
    while (value > piece && value[-1] != '=')
        value--;
    const size_t n_piece = (size_t)(end - piece), n_value = (size_t)(end - value);
    qcnn_layer_setting setting = { .named = true };
    const bool dense = n_value >= 5 && memcmp(value, "dense", 5) == 0;
    if (value == piece || !read_value(value, end, &setting))
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT,
                         "settings: '%.*s' is neither LAYER=C/K nor LAYER=dense (behind either: /float16, /int8, /int8:LARGEST; /groups)",
                         shown(n_piece), piece);

    const size_t layer = find_layer(model, piece, n_piece - n_value - 1);
    if (layer == model->n_nodes)
        return unknown_layer(model, piece, n_piece - n_value - 1, error);
    const qcnn_tensor *weights = qcnn_node_weights(model, &model->nodes[layer]);
    const int64_t n_inputs = weights->shape.dims[1];
    if (settings[layer].named)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "settings: '%.*s' names a layer a second time", shown(n_piece), piece);
    settings[layer] = setting;
    const int subspace = setting.subspace, n_codewords = setting.n_codewords;
    if (dense)
        return QCNN_OK;
    if (subspace < 1 || subspace > n_inputs)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "settings: '%.*s': C must be 1 to %lld, the layer's inputs%s", shown(n_piece), piece,
                         (long long)n_inputs, groups_of(&model->nodes[layer]) > 1 ? " in a group" : "");
    if (n_codewords < 2 || n_codewords > QCNN_MAX_CODEWORDS)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "settings: '%.*s': K must be 2 to %d", shown(n_piece), piece, QCNN_MAX_CODEWORDS);
    if (qcnn_tensor_readers(model, weights) != 1)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "settings: '%.*s': the layer shares its weights with another and has to stay dense",
                         shown(n_piece), piece);
    if (qcnn_codebook_form(&weights->shape, groups_of(&model->nodes[layer]), false, subspace, n_codewords).n_subspaces == 0)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "settings: '%.*s': the layer is too large for a codebook", shown(n_piece), piece);
    return QCNN_OK;
}

qcnn_status qcnn_settings_choose(const qcnn_model *model, const char *preset, const char *text, qcnn_layer_setting *settings,
                                 qcnn_error *error)
{
    if (preset && strcmp(preset, "q-cnn") != 0)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "no preset is named '%.*s'; there is: q-cnn", SHOWN, preset);
    apply_preset(model, settings);
    while (text) {
        const char *end = strchr(text, ',');
        QCNN_TRY(apply_piece(model, text, end ? end : text + strlen(text), settings, error));
        text = end ? end + 1 : NULL;
    }
    return QCNN_OK;
}
