// SPDX-License-Identifier: Apache-2.0
// Refinement: the codewords and biases of a compressed network are trained end to end so that it answers as the
// original does, on crops of calibration images that nobody labelled (distillation). Images held out decide which state is kept.

#ifndef QCNN_COMPRESS_REFINE_H
#define QCNN_COMPRESS_REFINE_H

#include "compress/samples.h"
#include "model/model.h"
#include "qcnn_compress.h"

// One stage of training.
typedef struct qcnn_refine_stage {
    int n_steps; // 0: the stage is left out; negative: from the minutes
    int batch;   // a multiple of 8
    float rate;  // of codewords, in units of their layer's weights (root mean square), at its highest
    float bias_rate;
    float logit_weight; // of the divergence of the answers in the loss; 0: only the response in front of the fully-connected layers counts
    float feature_weight; // of the squared error of what fully-connected layers read, relative to its square
    int n_crops;          // whose activations are kept; 0: from the minutes
} qcnn_refine_stage;

typedef struct qcnn_refine_options {
    double minutes;          // sets numbers of steps by a nominal speed
    qcnn_refine_stage whole; // every layer with codebooks
    qcnn_refine_stage head;  // then the fully-connected end alone
    bool skip_first;         // a convolution that reads the image stays as it is, where others have codebooks: it costs most and errs least
    float temperature;       // of the softmax that is compared
    float mix;               // share of images that are mixtures of two crops
    float jitter;            // how far contrast and brightness vary
    float zoom;              // how far crops are enlarged
    uint64_t seed;
    int n_held_out;                // samples watched; 0: every held-out image
    int n_looks;                   // how often they are looked at in a stage
    const qcnn_parallel *parallel; // changes the time, never the result
    const qcnn_progress *progress;
    // NULL, or told when the steps will take much longer than the minutes: their number, and so the result, does not follow the clock.
    void (*note)(void *context, const char *message);
    void *note_context;
    // NULL, or the start of the names of files (CHECKPOINT.whole, CHECKPOINT.head) that keep the state of each stage. The same call
    // goes on from them and ends with the same bytes; the caller removes them with qcnn_refine_checkpoint_remove.
    const char *checkpoint;
    // NULL, or told of each look at the held-out samples.
    void (*looked)(void *context, const char *stage, int step, double divergence, double agreement);
    void *looked_context;
} qcnn_refine_options;

qcnn_refine_options qcnn_refine_options_default(void);

// What was measured on the held-out samples, before the first step and of the state that is kept.
typedef struct qcnn_refine_report {
    double divergence[2];         // mean Kullback-Leibler divergence of the answers from the original's, in nats
    double agreement[2];          // share of equal first classes
    int n_steps[2], best_step[2]; // of the whole network and of its head
} qcnn_refine_report;

// Refines `compressed`, a compressed copy of `original` over the same graph that is prepared afterwards, in place. int8 and float16
// codewords and biases end as numbers of their type. On failure the compressed model is as it was.
// Errors: UNSUPPORTED (names a node), ARGUMENT, MEMORY, CANCELLED, what samples give.
qcnn_status qcnn_refine(const qcnn_model *original, qcnn_model *compressed, const qcnn_samples *samples, const qcnn_refine_options *options,
                        qcnn_refine_report *report, qcnn_error *error);

void qcnn_refine_checkpoint_remove(const char *checkpoint);

#endif
