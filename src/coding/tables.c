// SPDX-License-Identifier: Apache-2.0
// Rows are clustered by what it would cost to code them with each other's statistics: Lloyd's algorithm in bits. Where the symbols
// are codewords, sorted by how often they are used, the rows of a layer differ little and few tables serve all.

#include "coding/tables.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_ITERATIONS = 6 };

typedef struct ranked_row {
    double entropy;
    uint32_t row;
} ranked_row;

typedef struct table_search {
    const qcnn_rows *rows;
    uint32_t *counts;      // [n_rows][n_symbols]
    uint64_t *sums;        // [tables][n_symbols]
    float *lengths;        // [tables][n_symbols], bits of a symbol
    uint8_t *table_of_row; // [n_rows]
    ranked_row *order;     // [n_rows], by entropy
    uint16_t *frequencies; // [tables][n_symbols]
} table_search;

void qcnn_tables_free(qcnn_tables *tables)
{
    qcnn_release(tables->frequencies);
    qcnn_release(tables->table_of_row);
    *tables = (qcnn_tables){ 0 };
}

// ---- the bits of a table --------------------------------------------------------------------------------------------

int qcnn_table_order(const uint16_t *frequencies, int n_symbols, uint64_t *n_bits)
{
    int best = 0;
    *n_bits = UINT64_MAX;
    for (int order = 0; order < QCNN_RANS_BITS; order++) {
        uint64_t bits = 4;
        for (int k = 0; k < n_symbols; k++)
            bits += (uint64_t)(2 * qcnn_golomb_ones(qcnn_table_code(frequencies[k], k ? frequencies[k - 1] : 0), order) + 1 + order);
        if (bits < *n_bits) {
            *n_bits = bits;
            best = order;
        }
    }
    return best;
}

// ---- frequencies ----------------------------------------------------------------------------------------------------

// How many bits it costs, or gains, when the symbol's frequency changes by `step`.
static double change(uint64_t count, int frequency, int step)
{
    return (double)count * (log2(frequency) - log2(frequency + step));
}

// Scales counts so that they add up to QCNN_RANS_TOTAL; what occurs at all has 1 or more. Rounding is evened out where it costs least.
static void scale_counts(const uint64_t *counts, int n_symbols, uint16_t *frequencies)
{
    uint64_t total = 0;
    int sum = 0;
    for (int k = 0; k < n_symbols; k++)
        total += counts[k];
    for (int k = 0; k < n_symbols; k++) {
        const double share = (double)counts[k] * QCNN_RANS_TOTAL / (double)total;
        frequencies[k] = (uint16_t)(counts[k] == 0 ? 0 : share < 1 ? 1 : lrint(share));
        sum += frequencies[k];
    }
    while (sum != QCNN_RANS_TOTAL) {
        const int step = sum < QCNN_RANS_TOTAL ? 1 : -1;
        double least = INFINITY;
        int best = -1;
        for (int k = 0; k < n_symbols; k++)
            if (counts[k] > 0 && frequencies[k] + step > 0) {
                const double bits = change(counts[k], frequencies[k], step);
                if (bits < least) {
                    least = bits;
                    best = k;
                }
            }
        frequencies[best] = (uint16_t)(frequencies[best] + step);
        sum += step;
    }
}

// ---- clusters -------------------------------------------------------------------------------------------------------

static void sum_rows(const table_search *search, int n_tables)
{
    const size_t n_symbols = (size_t)search->rows->n_symbols;
    memset(search->sums, 0, (size_t)n_tables * n_symbols * sizeof *search->sums);
    for (size_t r = 0; r < search->rows->n_rows; r++)
        for (size_t k = 0; k < n_symbols; k++)
            search->sums[search->table_of_row[r] * n_symbols + k] += search->counts[r * n_symbols + k];
}

// Bits of each symbol under a table; one that does not occur in it may still be looked at.
static void set_lengths(const table_search *search, int n_tables)
{
    const size_t n_symbols = (size_t)search->rows->n_symbols;
    for (int t = 0; t < n_tables; t++) {
        const uint64_t *sums = search->sums + (size_t)t * n_symbols;
        double total = 0;
        for (size_t k = 0; k < n_symbols; k++)
            total += (double)sums[k] + 0.25;
        for (size_t k = 0; k < n_symbols; k++)
            search->lengths[(size_t)t * n_symbols + k] = (float)log2(total / ((double)sums[k] + 0.25));
    }
}

static void move_rows(const table_search *search, int n_tables)
{
    const size_t n_symbols = (size_t)search->rows->n_symbols;
    for (size_t r = 0; r < search->rows->n_rows; r++) {
        const uint32_t *counts = search->counts + r * n_symbols;
        float least = INFINITY;
        for (int t = 0; t < n_tables; t++) {
            const float *lengths = search->lengths + (size_t)t * n_symbols;
            float bits = 0;
            for (size_t k = 0; k < n_symbols; k++)
                bits += (float)counts[k] * lengths[k];
            if (bits < least) {
                least = bits;
                search->table_of_row[r] = (uint8_t)t;
            }
        }
    }
}

// Renumbers the tables that have rows, in the order in which rows come to them.
static int drop_empty_tables(const table_search *search)
{
    int number[QCNN_RANS_MAX_TABLES], n_tables = 0;
    for (int t = 0; t < QCNN_RANS_MAX_TABLES; t++)
        number[t] = -1;
    for (size_t r = 0; r < search->rows->n_rows; r++) {
        int *n = &number[search->table_of_row[r]];
        if (*n < 0)
            *n = n_tables++;
        search->table_of_row[r] = (uint8_t)*n;
    }
    return n_tables;
}

// Clusters the rows into at most *n_tables, sets their frequencies, and gives the bits of everything.
static double cluster(const table_search *search, int *n_tables)
{
    const size_t n_rows = search->rows->n_rows, n_symbols = (size_t)search->rows->n_symbols;
    for (size_t i = 0; i < n_rows; i++)
        search->table_of_row[search->order[i].row] = (uint8_t)(i * (size_t)*n_tables / n_rows);
    for (int iteration = 0; iteration<N_ITERATIONS && * n_tables> 1 && (size_t)*n_tables < n_rows; iteration++) {
        sum_rows(search, *n_tables);
        set_lengths(search, *n_tables);
        move_rows(search, *n_tables);
    }
    *n_tables = drop_empty_tables(search);
    sum_rows(search, *n_tables);
    double bits = (double)n_rows * qcnn_assignment_bits(*n_tables);
    for (int t = 0; t < *n_tables; t++) {
        const uint64_t *sums = search->sums + (size_t)t * n_symbols;
        uint16_t *frequencies = search->frequencies + (size_t)t * n_symbols;
        uint64_t table_bits;
        scale_counts(sums, (int)n_symbols, frequencies);
        qcnn_table_order(frequencies, (int)n_symbols, &table_bits);
        bits += (double)table_bits;
        for (size_t k = 0; k < n_symbols; k++)
            bits += sums[k] > 0 ? (double)sums[k] * (QCNN_RANS_BITS - log2(frequencies[k])) : 0;
    }
    return bits;
}

static qcnn_status keep(const table_search *search, int n_tables, qcnn_tables *tables, qcnn_error *error)
{
    const size_t n = (size_t)n_tables * (size_t)search->rows->n_symbols;
    qcnn_tables_free(tables);
    tables->frequencies = qcnn_allocate(n, sizeof *tables->frequencies);
    tables->table_of_row = qcnn_allocate(search->rows->n_rows, 1);
    if (!tables->frequencies || !tables->table_of_row)
        return qcnn_fail_memory(error, n * sizeof *tables->frequencies);
    tables->n_tables = n_tables;
    memcpy(tables->frequencies, search->frequencies, n * sizeof *tables->frequencies);
    memcpy(tables->table_of_row, search->table_of_row, search->rows->n_rows);
    return QCNN_OK;
}

// ---- the search -----------------------------------------------------------------------------------------------------

static void count_symbols(const table_search *search, const uint8_t *symbols)
{
    const size_t n_symbols = (size_t)search->rows->n_symbols, length = search->rows->length;
    for (size_t r = 0; r < search->rows->n_rows; r++) {
        uint32_t *counts = search->counts + r * n_symbols;
        double entropy = 0;
        for (size_t i = 0; i < length; i++)
            counts[symbols[r * length + i]]++;
        for (size_t k = 0; k < n_symbols; k++)
            entropy += counts[k] ? counts[k] * log2((double)length / counts[k]) : 0;
        search->order[r] = (ranked_row){ entropy, (uint32_t)r };
    }
}

static int by_entropy(const void *a, const void *b)
{
    const ranked_row *p = a, *q = b;
    return p->entropy != q->entropy ? (p->entropy < q->entropy ? -1 : 1) : p->row < q->row ? -1 : 1;
}

static qcnn_status try_numbers(const table_search *search, qcnn_tables *tables, qcnn_error *error)
{
    const size_t n_rows = search->rows->n_rows, most = n_rows < QCNN_RANS_MAX_TABLES ? n_rows : QCNN_RANS_MAX_TABLES;
    double least = INFINITY;
    int n_worse = 0;
    for (size_t n = 1; n_worse < 2; n = 2 * n < most ? 2 * n : most) {
        int n_tables = (int)n;
        const double bits = cluster(search, &n_tables);
        n_worse = bits < least ? 0 : n_worse + 1;
        if (bits < least) {
            least = bits;
            QCNN_TRY(keep(search, n_tables, tables, error));
        }
        if (n == most)
            break;
    }
    return QCNN_OK;
}

qcnn_status qcnn_tables_choose(const qcnn_rows *rows, const uint8_t *symbols, qcnn_tables *tables, qcnn_error *error)
{
    *tables = (qcnn_tables){ 0 };
    const size_t n_rows = rows->n_rows, n = QCNN_RANS_MAX_TABLES * (size_t)rows->n_symbols;
    table_search search = {
        .rows = rows,
        .counts = qcnn_allocate_zeroed(n_rows * (size_t)rows->n_symbols, sizeof *search.counts),
        .sums = qcnn_allocate(n, sizeof *search.sums),
        .lengths = qcnn_allocate(n, sizeof *search.lengths),
        .table_of_row = qcnn_allocate(n_rows, 1),
        .order = qcnn_allocate(n_rows, sizeof *search.order),
        .frequencies = qcnn_allocate(n, sizeof *search.frequencies),
    };
    qcnn_status status = QCNN_OK;
    if (!search.counts || !search.sums || !search.lengths || !search.table_of_row || !search.order || !search.frequencies)
        status = qcnn_fail_memory(error, n_rows * (size_t)rows->n_symbols * sizeof *search.counts);
    if (status == QCNN_OK) {
        count_symbols(&search, symbols);
        qsort(search.order, n_rows, sizeof *search.order, by_entropy);
        status = try_numbers(&search, tables, error);
    }
    qcnn_release(search.counts);
    qcnn_release(search.sums);
    qcnn_release(search.lengths);
    qcnn_release(search.table_of_row);
    qcnn_release(search.order);
    qcnn_release(search.frequencies);
    return status;
}
