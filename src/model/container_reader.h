// SPDX-License-Identifier: Apache-2.0
// What the files of the .qcnn reader share: a file being read, a section of it, and how they are refused.

#ifndef QCNN_MODEL_CONTAINER_READER_H
#define QCNN_MODEL_CONTAINER_READER_H

#include "base/crc32.h"
#include "model/container.h"

typedef struct container_section {
    uint32_t index; // in the table
    uint32_t type, flags, encoding, tensor;
    uint64_t offset, stored_bytes, decoded_bytes;
    uint32_t crc;
    char name[5]; // the type as text, '?' for what is not printable
} container_section;

typedef struct container {
    const unsigned char *bytes; // 64-byte aligned
    size_t n_bytes;
    uint32_t n_sections;
    uint64_t unfolded; // memory taken by assignments and decoded numbers so far, of all tensors
    qcnn_crc32_tables crc;
    qcnn_model *model;
    qcnn_error *error;
} container;

#define REFUSE(file, ...) qcnn_fail((file)->error, QCNN_ERROR_FORMAT, __VA_ARGS__)
#define REFUSE_SECTION(file, section, what, ...)                                                                                           \
    qcnn_fail((file)->error, QCNN_ERROR_FORMAT, "section %u (%s): " what, (section)->index, (section)->name, ##__VA_ARGS__)

// Reads a DATA, CODE or ASGN section into its tensor. (container_tensors.c)
qcnn_status qcnn_read_tensor_section(container *file, const container_section *section);

// Reads a RANG section into values and codebooks, whose sizes the graph has told. (container_ranges.c)
qcnn_status qcnn_read_ranges(container *file, const container_section *section);

#endif
