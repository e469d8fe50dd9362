// SPDX-License-Identifier: Apache-2.0
// Tables, bars and short figures for people.

#include "table.h"

#include <langinfo.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

// Characters of UTF-8 text: every byte that does not continue one.
static int text_width(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void add_cell(cli_table *table, char *text)
{
    if (table->n_cells == table->capacity) {
        table->capacity = table->capacity ? 2 * table->capacity : 64;
        char **cells = cli_allocate((size_t)table->capacity, sizeof *cells);
        if (table->n_cells)
            memcpy(cells, table->cells, (size_t)table->n_cells * sizeof *cells);
        free(table->cells);
        table->cells = cells;
    }
    int *width = &table->widths[table->n_cells % table->n_columns];
    if (text && text_width(text) > *width)
        *width = text_width(text);
    table->cells[table->n_cells++] = text;
}

void cli_table_begin(cli_table *table, const char *titles)
{
    *table = (cli_table){ .n_columns = 1 };
    for (const char *c = titles; *c; c++)
        table->n_columns += *c == '|';
    for (int i = 0; i < table->n_columns; i++) {
        if (*titles == '>') {
            table->right |= 1u << i;
            titles++;
        }
        const size_t n = strcspn(titles, "|");
        cli_table_cell(table, "%.*s", (int)n, titles);
        titles += n + (titles[n] == '|');
    }
}

void cli_table_cell(cli_table *table, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    cli_one_line(text);
    add_cell(table, cli_utf8(text));
}

void cli_table_gap(cli_table *table)
{
    do
        add_cell(table, NULL);
    while (table->n_cells % table->n_columns);
}

void cli_table_end(cli_table *table, int indent)
{
    for (int row = 0; row < table->n_cells / table->n_columns; row++) {
        char **cells = &table->cells[row * table->n_columns];
        int pending = indent; // spaces are printed only before text: no line ends with them
        for (int i = 0; i < table->n_columns; i++) {
            const int padding = table->widths[i] - (cells[i] ? text_width(cells[i]) : 0);
            const bool right = table->right >> i & 1;
            if (cells[i] && *cells[i]) {
                printf("%*s%s", pending + (right ? padding : 0), "", cells[i]);
                pending = right ? 0 : padding;
            } else
                pending += table->widths[i];
            pending += 2;
            free(cells[i]);
        }
        putchar('\n');
    }
    free(table->cells);
    *table = (cli_table){ 0 };
}

// ---- figures --------------------------------------------------------------------------------------------------------

// Three significant digits of `value` with the unit of its thousands.
static const char *scaled_text(double value, const char *const *units, int n_units, cli_text text)
{
    int unit = 0;
    while (value >= 999.5 && unit + 1 < n_units) {
        value /= 1000;
        unit++;
    }
    const int decimals = unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    snprintf(text, sizeof(cli_text), "%.*f%s%s", decimals, value, *units[unit] ? " " : "", units[unit]);
    return text;
}

const char *cli_bytes_text(double bytes, cli_text text)
{
    static const char *const units[] = { "B", "kB", "MB", "GB", "TB" };
    return scaled_text(bytes, units, 5, text);
}

const char *cli_count_text(double count, cli_text text)
{
    static const char *const units[] = { "", "k", "M", "G", "T" };
    return scaled_text(count, units, 5, text);
}

const char *cli_exact_text(uint64_t number, cli_text text)
{
    char digits[24];
    const int n = snprintf(digits, sizeof digits, "%llu", (unsigned long long)number);
    char *out = text;
    for (int i = 0; i < n; i++) {
        if (i && (n - i) % 3 == 0)
            *out++ = ',';
        *out++ = digits[i];
    }
    *out = 0;
    return text;
}

const char *cli_duration_text(double seconds, cli_text text)
{
    const long long whole = (long long)(seconds + 0.5);
    if (seconds < 9.95)
        snprintf(text, sizeof(cli_text), "%.1f s", seconds);
    else if (whole < 60)
        snprintf(text, sizeof(cli_text), "%lld s", whole);
    else if (whole < 3600)
        snprintf(text, sizeof(cli_text), "%lld min %lld s", whole / 60, whole % 60);
    else
        snprintf(text, sizeof(cli_text), "%lld h %lld min", whole / 3600, whole % 3600 / 60);
    return text;
}

const char *cli_bar_text(double fraction, int width, cli_text text)
{
    static const char *const eighths[] = { "", "\u258f", "\u258e", "\u258d", "\u258c", "\u258b", "\u258a", "\u2589" };
    const bool blocks = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    width = width > 20 ? 20 : width;
    const double length = fmin(fmax(fraction, 0), 1) * width;
    int full = blocks ? (int)length : (int)(length + 0.5);
    int part = blocks ? (int)((length - full) * 8) : 0;
    if (fraction > 0 && !full && !part) // something small is not nothing
        *(blocks ? &part : &full) = 1;
    char *out = text;
    for (int i = 0; i < full; i++)
        out += sprintf(out, "%s", blocks ? "\u2588" : "#");
    sprintf(out, "%s", eighths[part]);
    return text;
}
