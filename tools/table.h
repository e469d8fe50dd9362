// SPDX-License-Identifier: Apache-2.0
// Tables for people: columns as wide as their widest cell, in characters rather than bytes; bars; short figures.

#ifndef QCNN_TOOLS_TABLE_H
#define QCNN_TOOLS_TABLE_H

#include <stdint.h>

enum { CLI_MAX_COLUMNS = 16 };

typedef struct cli_table {
    int n_columns;
    unsigned right;              // bit i: column i is aligned to the right
    int widths[CLI_MAX_COLUMNS]; // in characters
    char **cells;                // row after row
    int n_cells, capacity;
} cli_table;

// `titles` are separated by '|'; a title that starts with '>' is of a column aligned to the right.
void cli_table_begin(cli_table *table, const char *titles);
__attribute__((format(printf, 2, 3))) void cli_table_cell(cli_table *table, const char *format, ...);
// Leaves the cells up to the end of the row empty, at least one of them: at the start of a row, an empty line.
void cli_table_gap(cli_table *table);
// Prints to stdout, each row indented by `indent` spaces, and frees the cells.
void cli_table_end(cli_table *table, int indent);

typedef char cli_text[64];

// Each writes into `text` and returns it.
const char *cli_bytes_text(double bytes, cli_text text);      // "57.7 MB" (1 MB = 1,000,000 bytes)
const char *cli_exact_text(uint64_t number, cli_text text);   // "57,687,624"
const char *cli_count_text(double count, cli_text text);      // "1.24 G"
const char *cli_duration_text(double seconds, cli_text text); // "1 min 20 s"
// A bar of at most `width` (up to 20) characters for a fraction 0..1.
const char *cli_bar_text(double fraction, int width, cli_text text);

#endif
