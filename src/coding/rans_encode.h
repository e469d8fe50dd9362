// SPDX-License-Identifier: Apache-2.0
// Entropy-coding symbols, the counterpart of model/rans.h.

#ifndef QCNN_CODING_RANS_ENCODE_H
#define QCNN_CODING_RANS_ENCODE_H

#include "base/bytes.h"
#include "model/rans.h"

// Appends the coded symbols to the buffer. n_rows and length are 1 or more. Errors: MEMORY.
qcnn_status qcnn_rans_encode(const qcnn_rows *rows, const uint8_t *symbols, qcnn_buffer *buffer, qcnn_error *error);

// Bits that coding would take: of the symbols and the rows' choices of a table, and of the tables. Errors: MEMORY.
qcnn_status qcnn_rans_measure(const qcnn_rows *rows, const uint8_t *symbols, double *symbol_bits, double *table_bits, qcnn_error *error);

#endif
