// SPDX-License-Identifier: Apache-2.0
// What the sections of a tensor hold in a .qcnn file: numbers in their type, packed assignments.

#ifndef QCNN_EXPORT_CONTAINER_ENCODE_H
#define QCNN_EXPORT_CONTAINER_ENCODE_H

#include "model/container.h"

// The content of a section. `bytes` points into the model, or to memory that `owned` holds too (qcnn_release).
typedef struct qcnn_content {
    const void *bytes;
    void *owned;
    uint64_t n_bytes;
} qcnn_content;

// Each fills *content. Errors: MEMORY; FORMAT where a float32 number in memory is not one of the type it is to be stored in.
qcnn_status qcnn_encode_data(const qcnn_tensor *tensor, qcnn_content *content, qcnn_error *error);
qcnn_status qcnn_encode_codewords(const qcnn_codebook *codebook, qcnn_content *content, qcnn_error *error);
qcnn_status qcnn_encode_assignments(const qcnn_codebook *codebook, qcnn_content *content, qcnn_error *error);

#endif
