// SPDX-License-Identifier: Apache-2.0
// Entropy-coded symbols: what decoder (rans.c) and encoder (src/coding) agree on. docs/format.md, section 4.

#ifndef QCNN_MODEL_RANS_H
#define QCNN_MODEL_RANS_H

#include "model/model.h"

enum {
    QCNN_RANS_BITS = 12, // frequencies of a table add up to 2^12
    QCNN_RANS_TOTAL = 1 << QCNN_RANS_BITS,
    QCNN_RANS_LANES = 8,     // states; symbol i of a row belongs to state i mod 8
    QCNN_RANS_LOW = 1 << 16, // the smallest state; where all of them start in the encoder, and end in the decoder
    QCNN_RANS_MAX_TABLES = 64,
};

// Symbols 0..n_symbols - 1 in rows of equal length; the rows of one table follow its frequencies.
typedef struct qcnn_rows {
    size_t n_rows, length;
    int n_symbols; // 1..256
} qcnn_rows;

// Decodes exactly n_rows * length symbols from exactly `n_bytes` bytes. Errors: FORMAT (what is wrong), MEMORY.
qcnn_status qcnn_rans_decode(const unsigned char *bytes, size_t n_bytes, const qcnn_rows *rows, uint8_t *symbols, qcnn_error *error);

#endif
