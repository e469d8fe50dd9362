// SPDX-License-Identifier: Apache-2.0
// What error correction knows about a layer: second moments of its inputs, and how its wanted responses differ from those that
// its weights give on the inputs it will get. Rows are input vectors (im2col patches of a convolution): n = taps x channels of
// a group, tap-major, [tap][channel].
//
// With x the input the layer will get, o the one it had, both with their means taken out, W its weights and T = o W:
//
//     gram = E[x x^T]    cross = E[x^T (T - x W)]

#ifndef QCNN_COMPRESS_STATISTICS_H
#define QCNN_COMPRESS_STATISTICS_H

#include "base/status.h"
#include "model/model.h"

typedef struct qcnn_statistics {
    int groups, n, n_outputs;         // rows and columns of a group's weight matrix
    int64_t n_rows;                   // samples summed up
    double positions;                 // rows that one image gives: output positions of a convolution
    float **weights;                  // [groups]: n x n_outputs, the original weights
    float **gram;                     // [groups]: n x n, symmetric
    float **cross;                    // [groups]: n x n_outputs
    double *input_mean, *wanted_mean; // [groups][n]: of x and of o
    int n_maps;                       // of a fully-connected layer that reads feature maps, one after the other: how many; else 0
    float *map_cross;                 // [n_maps][n_maps]: sum over a map's positions p of E[x_(c,p) (o - x)_(c',p)]
    int n_wanted;                     // of a fully-connected layer that reads one row a sample: so many rows of o, as they are
    float *wanted_inputs;             // n_wanted x n
    // rows of held-out samples, means taken out
    int n_held;
    float **held_inputs;   // [groups]: n_held x n, x
    float **held_residual; // [groups]: n_held x n_outputs, T - x W
} qcnn_statistics;

typedef struct qcnn_statistics_builder qcnn_statistics_builder;

// For node `node` of the prepared model, whose weights are float32. `n_samples` and n_held_samples tell how many will come.
// Of each sample up to `n_positions` output positions are taken, chosen by the seed and the sample's number.
qcnn_status qcnn_statistics_begin(const qcnn_model *model, size_t node, int n_positions, int n_samples, int n_held_samples, uint64_t seed,
                                  const qcnn_parallel *parallel, qcnn_statistics_builder **builder, qcnn_error *error);
void qcnn_statistics_free_builder(qcnn_statistics_builder *builder);

// Adds n samples: x[i] and o[i] point to the layer's input in the network as far as it is quantized and in the original; o may
// equal x. Samples come in order, the held-out ones last. Errors: MEMORY.
qcnn_status qcnn_statistics_add(qcnn_statistics_builder *builder, int first, int n, const float *const *x, const float *const *o,
                                qcnn_error *error);

// Ends the sums. The statistics are the caller's then, to be freed. Errors: MEMORY.
qcnn_status qcnn_statistics_end(qcnn_statistics_builder *builder, qcnn_statistics *statistics, qcnn_error *error);
void qcnn_statistics_free(qcnn_statistics *statistics);

#endif
