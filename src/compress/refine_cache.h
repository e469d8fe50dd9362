// SPDX-License-Identifier: Apache-2.0
// What the fully-connected end of a network reads, kept for many crops: training that end alone then costs a seventh of training all
// of it. The original's and the compressed network's activations are kept side by side.

#ifndef QCNN_COMPRESS_REFINE_CACHE_H
#define QCNN_COMPRESS_REFINE_CACHE_H

#include "base/rng.h"
#include "compress/train.h"

typedef struct qcnn_refine_cache {
    size_t n, n_features;        // crops; activations of one
    uint16_t *teacher, *student; // float16, [n][n_features]
} qcnn_refine_cache;

// Room for n crops of what `value` of the trainers holds for one image.
qcnn_status qcnn_refine_cache_new(const qcnn_trainer *trainer, int value, size_t n, qcnn_refine_cache *cache, qcnn_error *error);
void qcnn_refine_cache_free(qcnn_refine_cache *cache); // a zeroed one is fine

// Copies `value` of the first n images of the trainers' batch to crops first...
void qcnn_refine_cache_put(qcnn_refine_cache *cache, size_t first, const qcnn_trainer *teacher, const qcnn_trainer *student, int value,
                           int n);

// Puts crop `index`, or where share > 0 a mixture with that share of crop `other`, into image i of the batches of two trainers.
typedef struct qcnn_refine_pick {
    size_t index, other;
    float share;
} qcnn_refine_pick;

// Fills both trainers' inputs, one pick for each image of the batch.
void qcnn_refine_cache_get(const qcnn_refine_cache *cache, const qcnn_refine_pick *picks, qcnn_trainer *teacher, qcnn_trainer *student);

#endif
