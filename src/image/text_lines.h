// SPDX-License-Identifier: Apache-2.0
// Going through a text file line by line: class lists, labels.tsv.

#ifndef QCNN_IMAGE_TEXT_LINES_H
#define QCNN_IMAGE_TEXT_LINES_H

#include <stdbool.h>
#include <stddef.h>

// Start with { text, text + n_bytes } (after qcnn_skip_bom). A line's end is LF, CR LF or the end of the text.
typedef struct qcnn_lines {
    const char *next, *end;
    const char *line; // the current one, without its end
    size_t length;
    size_t number; // from 1
} qcnn_lines;

qcnn_lines qcnn_lines_of(const char *text, size_t n_bytes); // a byte order mark is skipped
bool qcnn_next_line(qcnn_lines *lines);                     // false after the last

// Valid UTF-8 (RFC 3629) without control characters.
bool qcnn_is_plain_utf8(const char *text, size_t n_bytes);

#endif
