// SPDX-License-Identifier: Apache-2.0
// What the sections of a tensor hold in a .qcnn file: numbers in their type, packed assignments, each plain or entropy-coded.

#ifndef QCNN_CODING_ENCODE_H
#define QCNN_CODING_ENCODE_H

#include "model/container.h"

// The content of a section. `bytes` points into the model, or to memory that `owned` holds too (qcnn_release).
typedef struct qcnn_content {
    const void *bytes;
    void *owned;
    uint64_t n_bytes;
    uint32_t encoding;      // QCNN_ENCODING_PLAIN, or QCNN_ENCODING_RANS where that saves an eighth, of small sections anything
    uint64_t decoded_bytes; // of the plain form
} qcnn_content;

// Fills *content with the content of a DATA, CODE or ASGN section (`type`); `plain`: not entropy-coded. Errors: MEMORY; FORMAT
// where a float32 number in memory is not one of the type it is to be stored in.
qcnn_status qcnn_encode(uint32_t type, const qcnn_tensor *tensor, bool plain, qcnn_content *content, qcnn_error *error);

// The exact bytes of a tensor's sections in a file, without padding: encodes and counts. Errors: as above.
qcnn_status qcnn_coded_bytes(const qcnn_tensor *tensor, uint64_t *n_bytes, qcnn_error *error);

// Whether a section is stored coded: where that saves an eighth, of small sections anything. What is not coded need not be decoded when
// a file is opened.
bool qcnn_worth_coding(uint64_t plain_bytes, uint64_t coded_bytes);

// About what the sections of a tensor take in bits, plain and coded, each in two parts: what grows with the number of input channels, and
// what does not. So a part of a layer tells what the whole one will take. Numbers that are not coded take as much in either form.
typedef struct qcnn_section_bits {
    double plain[2], coded[2]; // growing, constant
} qcnn_section_bits;

enum { QCNN_TENSOR_SECTIONS = 2 }; // numbers, and assignments, which take nothing where the tensor has none

// Errors: as above.
qcnn_status qcnn_coded_parts(const qcnn_tensor *tensor, qcnn_section_bits sections[QCNN_TENSOR_SECTIONS], qcnn_error *error);

// The exact bytes of a codebook alone; 0 where it cannot be encoded.
uint64_t qcnn_codebook_coded_bytes(const qcnn_codebook *codebook);

// Sorts the codewords of each subspace and set by how often they are used (the network stays the same to the bit) and makes zeros of
// those that are not used at all: entropy coding then gets along with few tables. The tensor must own codewords and assignments.
// Errors: MEMORY.
qcnn_status qcnn_codebook_sort(qcnn_tensor *tensor, qcnn_error *error);

#endif
