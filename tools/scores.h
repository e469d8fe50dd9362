// SPDX-License-Identifier: Apache-2.0
// Judging class scores: accuracy, and how far a compressed network went from its original.

#ifndef QCNN_TOOLS_SCORES_H
#define QCNN_TOOLS_SCORES_H

typedef struct cli_accuracy {
    int n_labelled;
    double top1, top5; // percent of the labelled images; NaN without any
} cli_accuracy;

typedef struct cli_loss {
    double points;    // percentage points lost; negative: won
    double low, high; // 95 % interval
} cli_loss;

typedef struct cli_comparison {
    double agreement;  // percent of all images with the same likeliest class
    double divergence; // mean Kullback-Leibler divergence of the probabilities from the original's, in nats
    cli_loss top1, top5;
} cli_comparison;

// Class scores (n_images, n_classes) of one network; labels[i] < 0: image i has none.
cli_accuracy cli_judge(const float *scores, const int *labels, int n_images, int n_classes);
cli_comparison cli_compare(const float *scores, const float *original, const int *labels, int n_images, int n_classes);

#endif
