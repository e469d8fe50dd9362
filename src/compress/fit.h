// SPDX-License-Identifier: Apache-2.0
// Codebooks and assignments for one layer that keep its responses: given the second moments G of its inputs and a target W*,
//
//     minimise  sum over outputs o of  importance_o (w_o - w*_o)^T G (w_o - w*_o)  +  price * bits of the assignments
//
// over weights w that a product-quantized form can express. Steps (docs/method.md): k-means in the metric of G's blocks; passes that
// quantize one subspace after the other while those not yet quantized make up for the error so far (as GPTQ and GPTVQ do), with
// codebooks solved for between them; sweeps of block coordinate descent; annealing; and, where it is known how outputs depend on each other,
// sweeps that take them together.

#ifndef QCNN_COMPRESS_FIT_H
#define QCNN_COMPRESS_FIT_H

#include "base/status.h"
#include "model/model.h"
#include "qcnn_compress.h"

enum { QCNN_MAX_CORRECTED_SUBSPACE = 256 }; // C' at most

typedef struct qcnn_fit_options {
    const char *name; // of the layer: the stage that progress reports
    uint64_t seed;
    int n_passes, n_sweeps;  // of feedback, of descent
    int n_annealing;         // sweeps of annealing after these, in layers where codebooks serve many taps or groups; 0: none
    int largest;             // of int8 codewords, 1..127; 0: as many steps as a bit is worth, without a price 127
    float price;             // objective per bit of an assignment; 0: all numbers are equally long
    double target_bits;      // of assignments and codewords: with a price, it changes on the way until they take about as many; 0: it stays
    const float *importance; // [groups * n_outputs], or NULL: all 1
    // How outputs depend on each other, F of [groups][n_outputs][n_outputs], symmetric, its diagonal then the importances; or NULL. The
    // last n_joint sweeps minimise sum over o and o' of F_oo' (w_o - w*_o)^T G (w_o' - w*_o').
    const float *fisher;
    int n_joint;
    const qcnn_parallel *parallel;
    const qcnn_progress *progress;
    // Or NULL: called with the weights that k-means gives, [groups]: n x n_outputs, before anything improves on them.
    qcnn_status (*started)(void *context, float *const *weights, qcnn_error *error);
    void *started_context;
    // For tests and diagnosis, or NULL: called with the objective behind every step.
    void (*watch)(void *context, const char *step, double objective);
    void *watch_context;
} qcnn_fit_options;

// The layer: matrices of each group, n = taps * channels rows, tap-major, as in statistics.h.
typedef struct qcnn_fit_problem {
    int n;
    float **gram;   // n x n, symmetric and positive definite; used as scratch and restored
    float **target; // n x n_outputs
} qcnn_fit_problem;

// Gives a tensor that owns its codebook; its shape is the caller's to set. K is lowered to what the subspaces use.
// *tensor is zeroed on failure. Errors: UNSUPPORTED (gram not positive definite, numbers not finite), MEMORY, CANCELLED.
qcnn_status qcnn_fit(const qcnn_codebook *form, const qcnn_fit_problem *problem, const qcnn_fit_options *options, qcnn_tensor *tensor,
                     qcnn_error *error);

#endif
