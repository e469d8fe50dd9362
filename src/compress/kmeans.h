// SPDX-License-Identifier: Apache-2.0
// k-means of one small set of points: the step that every codebook comes from. It runs on one thread, because a layer has
// many such problems to spread over threads, and its result depends on the points and the seed alone.
//
// For a metric x^T G x other than the Euclidean one, cluster the points L^T x with G = L L^T (Cholesky): in any metric a
// centroid is the plain mean of its points, so the codewords in the old coordinates follow from the assignments.

#ifndef QCNN_COMPRESS_KMEANS_H
#define QCNN_COMPRESS_KMEANS_H

#include "base/memory.h"

// Points and codewords of one problem, and the memory to solve it. Made once for the largest problem, then filled and run
// many times: the caller sets n, dim, k and the points before each run.
typedef struct qcnn_kmeans {
    int n, dim, k;      // points, coordinates, codewords wanted: 1 or more, k at most QCNN_MAX_CODEWORDS
    int max_iterations; // of a run; set when made to more than are ever worth it
    size_t stride;      // floats between coordinates of `points`, set when made
    float *points;      // [dim][stride]: coordinate d of point i is points[d * stride + i]
    // results
    int n_used;           // codewords that are used, the first ones: k, or fewer if there are fewer distinct points
    float *codewords;     // [k][dim], the unused ones zero
    uint8_t *assignments; // [n]: the nearest codeword of each point
    double error;         // sum of squared distances
    // scratch
    float *distances;   // [stride] squared, from each point to its nearest codeword
    double *block_sums; // [stride / block] of distances
    float *trial_codewords;
    uint8_t *trial_assignments;
    double *sums; // [dim][k]
    int *counts;  // [k]
} qcnn_kmeans;

// Memory for problems up to these sizes. *problem is NULL on failure (MEMORY).
qcnn_status qcnn_kmeans_new(int max_points, int max_dim, int max_codewords, qcnn_kmeans **problem, qcnn_error *error);
void qcnn_kmeans_free(qcnn_kmeans *problem);

// The best of n_restarts (1 or more) runs of Lloyd's algorithm, each from its own k-means++ start (Arthur and Vassilvitskii,
// SODA 2007). Exact, error 0, when there are no more than k distinct points. Points that are not finite do no harm
// beyond a meaningless result.
void qcnn_kmeans_run(qcnn_kmeans *problem, uint64_t seed, int n_restarts);

#endif
