// SPDX-License-Identifier: Apache-2.0
// Layers as JSON and as a table, with the byte budget of the file and the cost model's figures.

#include "layers.h"

#include <string.h>

#include "table.h"

cli_operations cli_layer_operations(const qcnn_layer_info *layer)
{
    if (strcmp(layer->method, "lut") == 0)
        return (cli_operations){ layer->table_multiplications, layer->lookups };
    return (cli_operations){ layer->dense_operations, 0 };
}

const char *cli_layer_reason(const qcnn_layer_info *layer, char text[128])
{
    cli_text dense, lut;
    if (strcmp(layer->storage, "codebook") == 0)
        snprintf(text, 128, "tables cost %s, dense %s", cli_count_text(layer->lut_cost, lut), cli_count_text(layer->dense_cost, dense));
    else
        snprintf(text, 128, "no codebook");
    return text;
}

const char *cli_layer_setting(const qcnn_layer_info *layer, char text[32])
{
    if (strcmp(layer->storage, "codebook") == 0)
        snprintf(text, 32, "%d/%d", layer->subspace, layer->codewords);
    else
        snprintf(text, 32, "-");
    return text;
}

cli_totals cli_model_totals(const qcnn_model *model, uint64_t file_bytes)
{
    cli_totals totals = { .original_bytes = qcnn_model_original_bytes(model), .file_bytes = file_bytes };
    for (int i = 0; i < qcnn_model_n_layers(model); i++) {
        const qcnn_layer_info layer = qcnn_model_layer(model, i);
        if (!cli_has_weights(&layer))
            continue;
        const cli_operations operations = cli_layer_operations(&layer);
        totals.layer_bytes += layer.bytes;
        totals.memory_bytes += layer.memory_bytes;
        totals.weights += layer.weights;
        totals.dense_operations += layer.dense_operations;
        totals.multiplications += operations.multiplications;
        totals.lookups += operations.lookups;
    }
    totals.ratio = file_bytes ? (double)totals.original_bytes / (double)file_bytes : 0;
    return totals;
}

// ---- JSON -----------------------------------------------------------------------------------------------------------

static void shape_json(cJSON *object, const char *key, const qcnn_shape *shape)
{
    cJSON *array = cli_json_array(object, key);
    for (int i = 0; i < shape->rank; i++)
        cJSON_AddItemToArray(array, cJSON_CreateNumber((double)shape->dims[i]));
}

static void operations_json(cJSON *object, uint64_t dense, uint64_t multiplications, uint64_t lookups)
{
    cJSON *operations = cli_json_child(object, "operations");
    cli_json_number(operations, "dense", (double)dense);
    cli_json_number(operations, "multiplications", (double)multiplications);
    cli_json_number(operations, "lookups", (double)lookups);
}

static void error_json(cJSON *object, const char *name, double error)
{
    if (error < 0)
        cJSON_AddNullToObject(object, name);
    else
        cli_json_number(object, name, error);
}

static void layer_json(cJSON *object, const qcnn_layer_info *layer)
{
    const bool codebook = strcmp(layer->storage, "codebook") == 0;
    const cli_operations operations = cli_layer_operations(layer);
    cli_json_text(object, "name", layer->name);
    cli_json_text(object, "type", layer->type);
    shape_json(object, "output_shape", &layer->output_shape);
    cli_json_text(object, "storage", layer->storage);
    cli_json_text(object, "codeword_type", layer->codeword_type);
    cli_json_text(object, "method", layer->method);
    cli_json_number(object, "subspace", layer->subspace);
    cli_json_number(object, "codewords", layer->codewords);
    cli_json_number(object, "weights", (double)layer->weights);
    cli_json_number(object, "bytes", (double)layer->bytes);
    cli_json_number(object, "memory_bytes", (double)layer->memory_bytes);
    cli_json_number(object, "bits_per_weight", layer->weights ? 8.0 * (double)layer->bytes / (double)layer->weights : 0);
    operations_json(object, layer->dense_operations, operations.multiplications, operations.lookups);
    cJSON *cost = cli_json_child(object, "cost"); // what the method follows from: the smaller one wins
    cli_json_number(cost, "dense", layer->dense_cost);
    if (codebook)
        cli_json_number(cost, "lut", layer->lut_cost);
    error_json(object, "error", layer->error);
    error_json(object, "error_before", layer->error_before);
}

void cli_model_json(const qcnn_model *model, const cli_totals *totals, cJSON *root)
{
    cli_json_number(root, "original_bytes", (double)totals->original_bytes);
    cli_json_number(root, "file_bytes", (double)totals->file_bytes);
    cli_json_number(root, "memory_bytes", (double)totals->memory_bytes);
    cli_json_number(root, "ratio", totals->ratio);
    cli_json_text(root, "kernels", qcnn_model_kernels(model));
    cli_json_number(root, "classes", qcnn_model_n_classes(model));
    cJSON_AddBoolToObject(root, "calibrated", qcnn_model_calibrated(model));
    operations_json(root, totals->dense_operations, totals->multiplications, totals->lookups);
    for (int output = 0; output < 2; output++) {
        cJSON *ports = cli_json_array(root, output ? "outputs" : "inputs");
        for (int i = 0; i < (output ? qcnn_model_n_outputs(model) : qcnn_model_n_inputs(model)); i++) {
            const qcnn_port port = output ? qcnn_model_output(model, i) : qcnn_model_input(model, i);
            cJSON *object = cli_json_append(ports);
            cli_json_text(object, "name", port.name);
            shape_json(object, "shape", &port.shape);
        }
    }
    cJSON *layers = cli_json_array(root, "layers");
    for (int i = 0; i < qcnn_model_n_layers(model); i++) {
        const qcnn_layer_info layer = qcnn_model_layer(model, i);
        if (cli_has_weights(&layer))
            layer_json(cli_json_append(layers), &layer);
    }
}

// ---- the table ------------------------------------------------------------------------------------------------------

static void layer_row(cli_table *table, const qcnn_layer_info *layer)
{
    cli_text bytes, dense, multiplications, lookups;
    char shape[96], setting[32], reason[128];
    const cli_operations operations = cli_layer_operations(layer);
    cli_table_cell(table, "%s", layer->name);
    cli_table_cell(table, "%s", layer->type);
    cli_table_cell(table, "%s", cli_shape_text(&layer->output_shape, shape));
    if (!cli_has_weights(layer)) {
        cli_table_gap(table);
        return;
    }
    cli_table_cell(table, "%s", layer->storage);
    cli_table_cell(table, "%s", cli_layer_setting(layer, setting));
    cli_table_cell(table, "%s", cli_exact_text(layer->bytes, bytes));
    cli_table_cell(table, "%.2f", layer->weights ? 8.0 * (double)layer->bytes / (double)layer->weights : 0);
    cli_table_cell(table, "%s", cli_count_text((double)layer->dense_operations, dense));
    cli_table_cell(table, "%s", cli_count_text((double)operations.multiplications, multiplications));
    cli_table_cell(table, "%s", operations.lookups ? cli_count_text((double)operations.lookups, lookups) : "-");
    cli_table_cell(table, "%s", layer->method);
    cli_table_cell(table, "%s", cli_layer_reason(layer, reason));
}

// A last row: a name, bytes, and where `totals` is not NULL the sums of the operations.
static void sum_row(cli_table *table, const char *name, uint64_t n_bytes, const cli_totals *totals)
{
    cli_text bytes, dense, multiplications, lookups;
    cli_table_cell(table, "%s", name);
    for (int i = 0; i < 4; i++)
        cli_table_cell(table, "%s", "");
    cli_table_cell(table, "%s", cli_exact_text(n_bytes, bytes));
    if (totals) {
        cli_table_cell(table, "%.2f", totals->weights ? 8.0 * (double)n_bytes / (double)totals->weights : 0);
        cli_table_cell(table, "%s", cli_count_text((double)totals->dense_operations, dense));
        cli_table_cell(table, "%s", cli_count_text((double)totals->multiplications, multiplications));
        cli_table_cell(table, "%s", totals->lookups ? cli_count_text((double)totals->lookups, lookups) : "-");
    }
    cli_table_gap(table);
}

void cli_model_print(const qcnn_model *model, const cli_totals *totals, bool all)
{
    cli_table table;
    cli_table_begin(&table, "layer|type|output|stored as|C'/K|>bytes|>bits/weight|>dense ops|>multiplications|>look-ups|runs|why");
    for (int i = 0; i < qcnn_model_n_layers(model); i++) {
        const qcnn_layer_info layer = qcnn_model_layer(model, i);
        if (all || cli_has_weights(&layer))
            layer_row(&table, &layer);
    }
    if (totals->file_bytes >= totals->layer_bytes)
        sum_row(&table, "graph, names, padding", totals->file_bytes - totals->layer_bytes, NULL);
    sum_row(&table, "file", totals->file_bytes, totals);
    cli_table_end(&table, 2);
    cli_text original, file, memory;
    printf("\n  %s of float32 weights in %s: %.2fx smaller; %s in memory as it runs\n",
           cli_bytes_text((double)totals->original_bytes, original), cli_bytes_text((double)totals->file_bytes, file), totals->ratio,
           cli_bytes_text((double)totals->memory_bytes, memory));
}
