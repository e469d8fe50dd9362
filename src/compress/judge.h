// SPDX-License-Identifier: Apache-2.0
// How far a network is from the original on samples without labels.

#ifndef QCNN_COMPRESS_JUDGE_H
#define QCNN_COMPRESS_JUDGE_H

#include "compress/samples.h"

// Of the class probabilities p of the original and q of the other, means over the samples.
typedef struct qcnn_verdict {
    double agreement;  // how often both have the same first class, 0..1
    double divergence; // sum p log(p / q), in nats
    double drop;       // p of its own first class less p of the other's: the top-1 lost if labels were drawn from p, 0..1
    double drop_error; // standard error of that mean; 0 of a single sample
} qcnn_verdict;

typedef struct qcnn_judge qcnn_judge;

// Runs the prepared original over the first `n` samples of a part; the samples must outlive the judge. Output 0 holds probabilities
// where a softmax writes it, otherwise logits. Errors: those of qcnn_samples_read, MEMORY, CANCELLED.
qcnn_status qcnn_judge_new(const qcnn_model *original, const qcnn_samples *samples, qcnn_part part, int n, const qcnn_parallel *parallel,
                           const qcnn_progress *progress, qcnn_judge **judge, qcnn_error *error);
void qcnn_judge_free(qcnn_judge *judge);

// A prepared model over the same graph. One result for any number of threads. `progress`, of both, may be NULL. Errors: as above.
qcnn_status qcnn_judge_model(const qcnn_judge *judge, const qcnn_model *model, const qcnn_progress *progress, qcnn_verdict *verdict,
                             qcnn_error *error);

#endif
