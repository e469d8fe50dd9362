// SPDX-License-Identifier: Apache-2.0
// Blocks of a fit in an order that suits the beam search (fit_beam.c): all blocks of a group, or a few.

#ifndef QCNN_COMPRESS_FIT_ORDER_H
#define QCNN_COMPRESS_FIT_ORDER_H

#include "compress/fit_state.h"

// The last block is decided first; rows of the matrices here are in that order too.
typedef struct fit_order {
    int n, n_blocks;   // rows, blocks
    int *index;        // [n_blocks]: which block of the fit
    fit_block *blocks; // [n_blocks]: width and codebook as there, row in this order
    float *factor;     // U, n x n, G = U^T U, upper triangle
    float *cross;      // [n][panel_rows]: U^T U over the rows before a panel, between the panel's rows
} fit_order;

// Orders blocks[0..n_blocks - 1] of group g. Each time the undecided block is taken that the other undecided ones can do least for: whose
// inputs vary most when theirs are given, with the size of its weights by half as much. Errors: UNSUPPORTED (G not positive definite),
// MEMORY.
qcnn_status qcnn_fit_order_new(const fit_state *s, int g, const int *blocks, int n_blocks, fit_order *order, qcnn_error *error);
void qcnn_fit_order_free(fit_order *order);

// Rows of a panel, at most.
static inline int qcnn_fit_order_rows(const fit_state *s)
{
    enum { ROWS = 128 };
    return s->form->subspace > ROWS ? s->form->subspace : ROWS;
}

// The panel that ends at position `end` begins at the result.
int qcnn_fit_order_panel(const fit_state *s, const fit_order *order, int end);

#endif
