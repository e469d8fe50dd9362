// SPDX-License-Identifier: Apache-2.0
// A data set in memory: names and labels of all images, and either the folder they lie in or the pixels themselves.

#ifndef QCNN_IMAGE_DATASET_H
#define QCNN_IMAGE_DATASET_H

#include "base/status.h"
#include "qcnn_compress.h"

typedef struct qcnn_dataset_entry {
    uint32_t name; // offset into `names`
    int32_t label; // -1: none
} qcnn_dataset_entry;

struct qcnn_dataset {
    qcnn_dataset_entry *entries;
    char *names; // zero-terminated texts
    int n_entries;
    char *folder;        // images are files: names are relative to it; or
    uint8_t *idx_pixels; // a copy of the IDX file: image i starts at idx_pixels + i * width * height
    int idx_width, idx_height;
};

// Parses labels.tsv. Names are not looked up. `folder` (copied) is where they will be.
qcnn_status qcnn_dataset_from_labels(const char *text, size_t n_bytes, const char *folder, qcnn_dataset **dataset, qcnn_error *error);

// Takes the bytes of an IDX image file and, unless NULL, of its labels; both plain or gzip. (idx.c)
qcnn_status qcnn_dataset_from_idx(const uint8_t *images, size_t n_image_bytes, const uint8_t *labels, size_t n_label_bytes,
                                  qcnn_dataset **dataset, qcnn_error *error);

// Opens "...-images-idx3-ubyte[.gz]" with the labels beside it. (idx.c)
qcnn_status qcnn_dataset_open_idx(const char *path, qcnn_dataset **dataset, qcnn_error *error);

#endif
