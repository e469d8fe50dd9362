// SPDX-License-Identifier: Apache-2.0
// What `inspect` and `compress` tell about a model's layers: sizes, operations and why a layer runs as it does.

#ifndef QCNN_TOOLS_LAYERS_H
#define QCNN_TOOLS_LAYERS_H

#include "cli.h"

typedef struct cli_totals {
    uint64_t original_bytes, file_bytes;
    uint64_t memory_bytes; // what a run reads of weights and biases
    uint64_t layer_bytes;  // of all layers with weights; the rest of the file is graph, names, preprocessing and padding
    uint64_t weights;
    uint64_t dense_operations;         // multiply-adds when every layer runs dense
    uint64_t multiplications, lookups; // as the model runs
    double ratio;
} cli_totals;

// Multiplications (of tables or dense) and look-ups of a layer as it runs.
typedef struct cli_operations {
    uint64_t multiplications, lookups;
} cli_operations;

cli_totals cli_model_totals(const qcnn_model *model, uint64_t file_bytes);
cli_operations cli_layer_operations(const qcnn_layer_info *layer);
// Why the layer runs as it does: "tables cost 12.4 M, dense 150 M".
const char *cli_layer_reason(const qcnn_layer_info *layer, char text[128]);
// "8/128", or "-" for a layer without a codebook.
const char *cli_layer_setting(const qcnn_layer_info *layer, char text[32]);

// original_bytes, file_bytes, ratio, operations and layers[] of docs/interface.md.
void cli_model_json(const qcnn_model *model, const cli_totals *totals, cJSON *root);
// The same as a table. `all`: also layers without weights.
void cli_model_print(const qcnn_model *model, const cli_totals *totals, bool all);

#endif
