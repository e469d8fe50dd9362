// SPDX-License-Identifier: Apache-2.0
// Choosing tables of frequencies for rows of symbols: rows that are alike share one.

#ifndef QCNN_CODING_TABLES_H
#define QCNN_CODING_TABLES_H

#include "model/rans.h"

typedef struct qcnn_tables {
    int n_tables;
    uint16_t *frequencies; // [n_tables][n_symbols], each table adds up to QCNN_RANS_TOTAL
    uint8_t *table_of_row; // [n_rows]
} qcnn_tables;

// The tables whose own bits, with the symbols coded by them, are the fewest of the numbers of tables tried: 1, 2, 4 ... 64. One
// result for the same symbols. Release with qcnn_tables_free, after a failure too. Errors: MEMORY.
qcnn_status qcnn_tables_choose(const qcnn_rows *rows, const uint8_t *symbols, qcnn_tables *tables, qcnn_error *error);
void qcnn_tables_free(qcnn_tables *tables);

// The order of the exponential Golomb code that takes the fewest bits for the frequencies of a table, and those bits.
int qcnn_table_order(const uint16_t *frequencies, int n_symbols, uint64_t *n_bits);

// What is coded for a frequency: its difference from the one before, odd where it is negative.
static inline uint32_t qcnn_table_code(int frequency, int before)
{
    return frequency >= before ? 2 * (uint32_t)(frequency - before) : 2 * (uint32_t)(before - frequency) - 1;
}

// Ones before the zero of an exponential Golomb code.
static inline int qcnn_golomb_ones(uint32_t code, int order)
{
    int n_ones = 0;
    while (code >= (((uint32_t)2 << n_ones) - 1) << order)
        n_ones++;
    return n_ones;
}

#endif
