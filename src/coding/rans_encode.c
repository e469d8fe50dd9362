// SPDX-License-Identifier: Apache-2.0
// The encoder runs from the last symbol to the first, since the decoder takes off last what was put on first.

#include "coding/rans_encode.h"

#include <math.h>
#include <string.h>

#include "coding/tables.h"
#include "model/container.h"

// ---- tables ---------------------------------------------------------------------------------------------------------

typedef struct bit_writer {
    qcnn_buffer *buffer;
    uint32_t bits; // fewer than 8 that are not written yet
    int n_bits;
} bit_writer;

static void write_bits(bit_writer *writer, uint32_t value, int n)
{
    for (int i = 0; i < n; i++) {
        writer->bits |= (value >> i & 1) << writer->n_bits;
        if (++writer->n_bits == 8) {
            qcnn_write_u8(writer->buffer, (uint8_t)writer->bits);
            writer->bits = 0;
            writer->n_bits = 0;
        }
    }
}

static void finish_byte(bit_writer *writer)
{
    write_bits(writer, 0, -writer->n_bits & 7);
}

static void write_golomb(bit_writer *writer, uint32_t code, int order)
{
    const int n_ones = qcnn_golomb_ones(code, order);
    write_bits(writer, ((uint32_t)1 << n_ones) - 1, n_ones + 1);
    write_bits(writer, code - ((((uint32_t)1 << n_ones) - 1) << order), n_ones + order);
}

static void write_tables(const qcnn_tables *tables, const qcnn_rows *rows, qcnn_buffer *buffer)
{
    bit_writer writer = { .buffer = buffer };
    write_bits(&writer, (uint32_t)tables->n_tables, 8);
    for (int t = 0; t < tables->n_tables; t++) {
        const uint16_t *frequencies = tables->frequencies + t * rows->n_symbols;
        uint64_t ignored;
        const int order = qcnn_table_order(frequencies, rows->n_symbols, &ignored);
        write_bits(&writer, (uint32_t)order, 4);
        for (int k = 0; k < rows->n_symbols; k++)
            write_golomb(&writer, qcnn_table_code(frequencies[k], k ? frequencies[k - 1] : 0), order);
    }
    finish_byte(&writer);
    const int n_bits = qcnn_assignment_bits(tables->n_tables);
    for (size_t r = 0; r < rows->n_rows; r++)
        write_bits(&writer, tables->table_of_row[r], n_bits);
    finish_byte(&writer);
}

// ---- symbols --------------------------------------------------------------------------------------------------------

// The states after all symbols are encoded; returns where their words begin in `room`, which ends with the last one.
static uint16_t *encode_symbols(const qcnn_tables *tables, const uint16_t *first, const qcnn_rows *rows, const uint8_t *symbols,
                                uint16_t *end, uint32_t states[QCNN_RANS_LANES])
{
    for (int lane = 0; lane < QCNN_RANS_LANES; lane++)
        states[lane] = QCNN_RANS_LOW;
    for (size_t r = rows->n_rows; r-- > 0;) {
        const size_t table = (size_t)tables->table_of_row[r] * (size_t)rows->n_symbols;
        for (size_t i = rows->length; i-- > 0;) {
            const uint8_t symbol = symbols[r * rows->length + i];
            const uint32_t frequency = tables->frequencies[table + symbol];
            uint32_t state = states[i % QCNN_RANS_LANES];
            if (state >= (uint64_t)frequency << (32 - QCNN_RANS_BITS)) {
                *--end = (uint16_t)state;
                state >>= 16;
            }
            states[i % QCNN_RANS_LANES] = (state / frequency << QCNN_RANS_BITS) + state % frequency + first[table + symbol];
        }
    }
    return end;
}

// The first slot of each symbol in each table.
static void add_up(const qcnn_tables *tables, int n_symbols, uint16_t *first)
{
    for (int t = 0; t < tables->n_tables; t++)
        for (int k = 0, sum = 0; k < n_symbols; k++) {
            first[t * n_symbols + k] = (uint16_t)sum;
            sum += tables->frequencies[t * n_symbols + k];
        }
}

static qcnn_status write_symbols(const qcnn_tables *tables, const qcnn_rows *rows, const uint8_t *symbols, qcnn_buffer *buffer,
                                 qcnn_error *error)
{
    const size_t n = rows->n_rows * rows->length, n_frequencies = (size_t)tables->n_tables * (size_t)rows->n_symbols;
    uint16_t *words = qcnn_allocate(n, sizeof *words), *first = qcnn_allocate(n_frequencies, sizeof *first);
    if (words && first) {
        uint32_t states[QCNN_RANS_LANES];
        add_up(tables, rows->n_symbols, first);
        const uint16_t *begin = encode_symbols(tables, first, rows, symbols, words + n, states);
        for (int lane = 0; lane < QCNN_RANS_LANES; lane++)
            qcnn_write_u32(buffer, states[lane]);
        qcnn_write_bytes(buffer, begin, (size_t)(words + n - begin) * sizeof *words); // little-endian, as all of this needs
    }
    const bool enough = words && first && !buffer->failed;
    qcnn_release(words);
    qcnn_release(first);
    return enough ? QCNN_OK : qcnn_fail_memory(error, n * sizeof *words);
}

qcnn_status qcnn_rans_encode(const qcnn_rows *rows, const uint8_t *symbols, qcnn_buffer *buffer, qcnn_error *error)
{
    qcnn_tables tables;
    qcnn_status status = qcnn_tables_choose(rows, symbols, &tables, error);
    if (status == QCNN_OK) {
        write_tables(&tables, rows, buffer);
        status = write_symbols(&tables, rows, symbols, buffer, error);
    }
    qcnn_tables_free(&tables);
    return status;
}

qcnn_status qcnn_rans_measure(const qcnn_rows *rows, const uint8_t *symbols, double *symbol_bits, double *table_bits, qcnn_error *error)
{
    qcnn_tables tables;
    const qcnn_status status = qcnn_tables_choose(rows, symbols, &tables, error);
    *symbol_bits = status == QCNN_OK ? (double)rows->n_rows * qcnn_assignment_bits(tables.n_tables) : 0;
    *table_bits = 0;
    for (int t = 0; status == QCNN_OK && t < tables.n_tables; t++) {
        uint64_t bits;
        qcnn_table_order(tables.frequencies + t * rows->n_symbols, rows->n_symbols, &bits);
        *table_bits += (double)bits;
    }
    for (size_t r = 0; status == QCNN_OK && r < rows->n_rows; r++) {
        const uint16_t *frequencies = tables.frequencies + (size_t)tables.table_of_row[r] * (size_t)rows->n_symbols;
        for (size_t i = 0; i < rows->length; i++)
            *symbol_bits += QCNN_RANS_BITS - log2(frequencies[symbols[r * rows->length + i]]);
    }
    qcnn_tables_free(&tables);
    return status;
}
