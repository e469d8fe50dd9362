// SPDX-License-Identifier: Apache-2.0
// Activations of many crops, kept in float16: what the part of a network that is trained reads, and what the original answers. The
// rest of the network then runs once a crop and not once a step.

#ifndef QCNN_COMPRESS_REFINE_CACHE_H
#define QCNN_COMPRESS_REFINE_CACHE_H

#include "compress/train.h"

// One activation of every crop.
typedef struct qcnn_refine_kept {
    int value;                   // of the graph
    bool of_student, to_student; // which trainer it comes from, and which it is given to; else the teacher
    size_t n_features;           // of one crop
    uint16_t *data;              // float16, [n][n_features]
} qcnn_refine_kept;

enum { QCNN_REFINE_MAX_KEPT = 16 };

typedef struct qcnn_refine_cache {
    size_t n; // crops
    int n_kept;
    qcnn_refine_kept kept[QCNN_REFINE_MAX_KEPT];
} qcnn_refine_cache;

// Bytes of a crop. The kept ones need value, of_student and to_student.
size_t qcnn_refine_cache_bytes(const qcnn_model *model, const qcnn_refine_kept *kept, int n_kept);

// Room for n crops.
qcnn_status qcnn_refine_cache_new(const qcnn_model *model, const qcnn_refine_kept *kept, int n_kept, size_t n, qcnn_refine_cache *cache,
                                  qcnn_error *error);
void qcnn_refine_cache_free(qcnn_refine_cache *cache); // a zeroed one is fine

// Copies the activations of the first n images of the trainers' batch to crops first... `student` may be NULL if nothing of it is kept.
void qcnn_refine_cache_put(qcnn_refine_cache *cache, size_t first, const qcnn_trainer *teacher, const qcnn_trainer *student, int n);

// Fills values of both trainers, with crop picks[i] in image i of the batch.
void qcnn_refine_cache_get(const qcnn_refine_cache *cache, const size_t *picks, qcnn_trainer *teacher, qcnn_trainer *student);

#endif
