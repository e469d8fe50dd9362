// SPDX-License-Identifier: Apache-2.0
// Compressing with settings that are chosen already, layer by layer: what the settings search calls again and again.

#ifndef QCNN_COMPRESS_COMPRESS_H
#define QCNN_COMPRESS_COMPRESS_H

#include "compress/settings.h"
#include "qcnn_compress.h"

// As qcnn_compress with settings[original->n_nodes] in the place of options->preset and options->settings.
qcnn_status qcnn_compress_with(const qcnn_model *original, const qcnn_layer_setting *settings, const qcnn_compress_options *options,
                               qcnn_model **compressed, qcnn_error *error);

// The same with settings from a search, for options->ratio or options->max_drop; `named` are the caller's. (budget.c)
qcnn_status qcnn_compress_to_budget(const qcnn_model *original, const qcnn_layer_setting *named, const qcnn_compress_options *options,
                                    qcnn_model **compressed, qcnn_error *error);

#endif
