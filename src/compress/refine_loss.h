// SPDX-License-Identifier: Apache-2.0
// What refinement lowers, and what it is judged by.

#ifndef QCNN_COMPRESS_REFINE_LOSS_H
#define QCNN_COMPRESS_REFINE_LOSS_H

#include "compress/train.h"

// Divergence and agreement, sums over images.
typedef struct qcnn_refine_score {
    double divergence; // Kullback-Leibler, nats
    int n_agree, n;
} qcnn_refine_score;

// Compares n rows of logits.
void qcnn_refine_compare(const float *teacher, const float *student, int n, int n_classes, qcnn_refine_score *score);

// Gradients of T^2 KL(softmax(teacher / T) || softmax(student / T)), the mean over n rows.
void qcnn_refine_logit_gradients(const float *teacher, const float *student, int n, int n_classes, float temperature, float *gradients);

// Adds the gradients of weight / 2 * |student - teacher|^2 / |teacher|^2 of a value, where it has any.
void qcnn_refine_feature_gradients(const qcnn_trainer *teacher, qcnn_trainer *student, int value, float weight);

#endif
