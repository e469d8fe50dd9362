// SPDX-License-Identifier: Apache-2.0
// One setting for each layer at a price of bits: the least divergence + price * bits among those whose file a reader may unfold.

#ifndef QCNN_COMPRESS_CHOICE_H
#define QCNN_COMPRESS_CHOICE_H

#include "base/status.h"
#include "compress/curves.h"

typedef struct qcnn_choice_problem {
    const qcnn_layer_curves *layers; // [n_layers], each with a curve or more
    int n_layers;
    double lowest;         // price above 0, of all curves
    double fixed_bytes;    // of the file, all but the layers' weights
    double fixed_unfolded; // bytes of memory, likewise
} qcnn_choice_problem;

typedef struct qcnn_choice {
    const qcnn_choice_problem *problem;
    double price, bytes, unfolded, divergence; // of the file and of all layers, as expected
    bool readable;                             // false: it cannot be coded for all that it unfolds to, `bytes` are those of plain sections
    int *curves;                               // [n_layers]: the number of each layer's curve
    struct qcnn_choice_room *room;
} qcnn_choice;

// Release with qcnn_choice_free, after a failure too. The problem must outlive the choice. Errors: MEMORY.
qcnn_status qcnn_choice_new(const qcnn_choice_problem *problem, qcnn_choice *choice, qcnn_error *error);
void qcnn_choice_free(qcnn_choice *choice);

// The best settings at a price. Of those of a layer that are nearly equal the fastest is taken.
void qcnn_choose(qcnn_choice *choice, double price);

// Spends what is left of so many bytes of a file where it saves most divergence a byte, at the same price.
void qcnn_choice_spend(qcnn_choice *choice, double file_bytes);

#endif
