// SPDX-License-Identifier: Apache-2.0
// Beam search over the assignments of one output to blocks of a fit (fit_beam.c).

#ifndef QCNN_COMPRESS_FIT_BEAM_H
#define QCNN_COMPRESS_FIT_BEAM_H

#include "compress/fit_order.h"

typedef struct fit_beam_worker fit_beam_worker;

typedef struct fit_beam {
    const fit_state *s;
    int g;
    const fit_order *order;
    int width;        // paths kept, at most 65536
    int n_padded;     // codewords, up to whole groups
    float *codewords; // [set][m][C'][n_padded]
    float *constants; // [position][n_padded]: c^T Q c
    float *forms;     // [position][C'][C']: A_bb
    fit_beam_worker *workers;
} fit_beam;

// For blocks of group g, with codewords as they are. Errors: MEMORY.
qcnn_status qcnn_fit_beam_new(const fit_state *s, int g, const fit_order *order, int width, fit_beam *beam, qcnn_error *error);
void qcnn_fit_beam_free(fit_beam *beam);

// New assignments of output o to the blocks, if better ones are found. pull[order->n]: G's rows of these blocks times the errors of all
// others; NULL: there are none.
void qcnn_fit_beam_search(const fit_beam *beam, int o, const float *pull, int worker);

#endif
