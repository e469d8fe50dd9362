// SPDX-License-Identifier: Apache-2.0
// Which layers are quantized, and how finely: a preset's rules, overridden layer by layer in the caller's text.

#ifndef QCNN_COMPRESS_SETTINGS_H
#define QCNN_COMPRESS_SETTINGS_H

#include "model/model.h"

typedef struct qcnn_layer_setting {
    int subspace;                   // C'; 0: the layer stays dense
    int n_codewords;                // K
    bool set_per_group;             // a convolution's groups have codebooks of their own
    bool named;                     // by the caller's text, not the preset
    qcnn_number_type codeword_type; // of a codebook, or of the dense weights
    int largest;                    // of int8 integers, 1..127: fewer steps cost fewer bits in the file; 0: 127
    float price;                    // response error per bit of an assignment (fit.h), from a search; 0: from the rate price
    double expected_bytes;          // of codewords and assignments, from a search; 0: not known
    bool steered;                   // the price may change so that the layer takes as many
} qcnn_layer_setting;

// Fills settings[model->n_nodes]. `preset` NULL: "q-cnn"; `text` NULL or "LAYER=C/K,LAYER=dense,...", layers by their exact
// names. Behind C/K may stand, in any order, "/float16", "/int8" or "/int8:LARGEST" for the codewords and "/groups" for codebooks of
// their own; behind dense a type. Errors: ARGUMENT (an unknown preset or layer, a layer named twice, C' or K out of range, anything
// unreadable).
//
// "q-cnn" gives convolutions C'=8 K=128, with fewer input channels C' as many as there are; fully-connected layers C'=4 K=32, the
// last of them C'=1 K=16; groups share codebooks. Unless the text names it, a layer stays dense whose
// - convolution reads one channel at a time (depthwise ones, grey images): there is nothing to cut;
// - codebook would take more bytes than its float32 weights;
// - weights are read by anything else as well.
qcnn_status qcnn_settings_choose(const qcnn_model *model, const char *preset, const char *text, qcnn_layer_setting *settings,
                                 qcnn_error *error);

// How many places of the model read a tensor of it: node inputs and graph outputs.
int qcnn_tensor_readers(const qcnn_model *model, const qcnn_tensor *tensor);

#endif
