// SPDX-License-Identifier: Apache-2.0
// How long a run of a network takes on this machine, in all and layer by layer: what the report compares.

#ifndef QCNN_TOOLS_TIMING_H
#define QCNN_TOOLS_TIMING_H

#include "qcnn.h"

typedef struct cli_timing {
    double ms;        // the median run of one image on one thread
    double *layer_ms; // [n_layers] medians
    int n_runs;       // that were timed
} cli_timing;

// A few runs on random numbers, about half a second of them. QCNN_OK, or why there is no session, and *timing is zeroed.
qcnn_status cli_time_model(const qcnn_model *model, cli_timing *timing, qcnn_error *error);
void cli_timing_free(cli_timing *timing); // a zeroed one is fine

#endif
