// SPDX-License-Identifier: Apache-2.0
// Product quantization of the weights of one layer (docs/method.md, section 1). The steps stand alone, because error
// correction takes the same ones in another order: the form, the columns of a subspace, their codewords put back.

#ifndef QCNN_COMPRESS_QUANTIZE_H
#define QCNN_COMPRESS_QUANTIZE_H

#include "compress/kmeans.h"
#include "model/model.h"
#include "qcnn_compress.h"

// The sizes of a codebook for weights of this shape, [groups * n_outputs][n_inputs][kernel...], in one set for all groups
// or one for each; its pointers are NULL. K is lowered to the number of columns. 1 <= subspace <= n_inputs,
// 1 <= n_codewords <= QCNN_MAX_CODEWORDS. n_columns of a set and every size inside are at most INT_MAX, or else
// n_subspaces is 0 and the weights are too large for a codebook.
qcnn_codebook qcnn_codebook_form(const qcnn_shape *weights, int groups, bool set_per_group, int subspace, int n_codewords);

// Columns clustered together in a subspace of one set: (groups of the set) x taps x outputs, in this order.
int qcnn_codebook_n_columns(const qcnn_codebook *form);

// Inputs in subspace m: C', or fewer in the last.
int qcnn_codebook_width(const qcnn_codebook *form, int m);

// Copies the columns of subspace m of a set into problem->points, and sets n, dim and k.
void qcnn_columns_gather(const qcnn_codebook *form, const float *weights, int set, int m, qcnn_kmeans *problem);

// Copies the codewords and assignments of a solved problem to their places in [n_sets][M][K][C'] and
// [groups][M][n_taps][n_outputs].
void qcnn_columns_store(const qcnn_codebook *form, int set, int m, const qcnn_kmeans *problem, float *codewords, uint8_t *assignments);

typedef struct qcnn_quantize_options {
    const char *name; // of the layer: the stage that progress reports, and the place that errors name
    uint64_t seed;
    const qcnn_parallel *parallel; // changes the time, never the result
    const qcnn_progress *progress; // may be NULL
} qcnn_quantize_options;

// Quantizes `weights` ([groups * n_outputs][n_inputs][n_taps]) into *tensor, which owns its codebook; its shape is the caller's to
// set. The codebook has the form's sizes, but K is lowered to what the subspaces use. *tensor is zeroed on failure.
// Errors: UNSUPPORTED (weights that are not finite), MEMORY, CANCELLED.
qcnn_status qcnn_quantize(const qcnn_codebook *form, const float *weights, const qcnn_quantize_options *options, qcnn_tensor *tensor,
                          qcnn_error *error);

#endif
