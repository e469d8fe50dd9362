// SPDX-License-Identifier: Apache-2.0
// What `qcnn compress` finds out about the file it has written: what it loses, how fast it runs, which layer costs the accuracy.

#ifndef QCNN_TOOLS_FINDINGS_H
#define QCNN_TOOLS_FINDINGS_H

#include "cli.h"
#include "timing.h"

typedef struct cli_findings {
    const qcnn_model *original, *compressed; // the same layers in the same order
    double *errors_before;                   // [n_layers] response errors that k-means alone left, which no file holds; negative: not known
    double ratio_asked, max_drop;            // 0: not asked for
    qcnn_comparison loss;                    // n_images 0: there are no images to tell by
    cli_timing before, after;                // n_runs 0: not timed
    qcnn_diagnosis diagnosis;                // layers NULL: not made
} cli_findings;

// Points of top-1 that the file is expected to lose, and the reach of their 95 % interval on either side.
double cli_expected_loss(const cli_findings *findings);
double cli_expected_reach(const cli_findings *findings);

// "expected to lose 0.42 points of top-1 (95 % interval 0.10 to 0.74), by 300 calibration images held out of all fits", and a second
// line, indented by two, on what else they tell.
const char *cli_loss_text(const cli_findings *findings, char text[400]);
// A line on a loss that may be above the one asked for; "" where there is nothing to warn of.
const char *cli_loss_warning(const cli_findings *findings, char text[300]);

// By how much the divergence falls with layer `index` of the diagnosis left as it was.
double cli_layer_cost(const qcnn_diagnosis *diagnosis, int index);
// Indices of the layers that are known, the costliest first, into room for n_layers; their number.
int cli_layers_by_cost(const qcnn_diagnosis *diagnosis, int *order);
// Which layer to look at, and what to do about it, in one or two sentences.
const char *cli_verdict(const cli_findings *findings, char text[500]);

// Time of the original over time now, of a layer or (index -1) of the network; 0: not known.
double cli_times_faster(const cli_findings *findings, int index);

// Into an object that has the layers of cli_model_json.
void cli_findings_json(const cli_findings *findings, cJSON *root);
void cli_findings_free(cli_findings *findings);

#endif
