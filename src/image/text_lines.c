// SPDX-License-Identifier: Apache-2.0
// Going through a text file line by line.

#include "image/text_lines.h"

#include <stdint.h>
#include <string.h>

qcnn_lines qcnn_lines_of(const char *text, size_t n_bytes)
{
    const bool marked = n_bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0;
    return (qcnn_lines){ .next = marked ? text + 3 : text, .end = text + n_bytes };
}

bool qcnn_next_line(qcnn_lines *lines)
{
    if (lines->next == lines->end)
        return false;
    const size_t left = (size_t)(lines->end - lines->next);
    const char *feed = memchr(lines->next, '\n', left);
    lines->line = lines->next;
    lines->length = feed ? (size_t)(feed - lines->next) : left;
    lines->next += lines->length + (feed != NULL);
    lines->number++;
    if (feed && lines->length > 0 && lines->line[lines->length - 1] == '\r')
        lines->length--;
    return true;
}

// Bytes of the code point at `p`, 0 where it is malformed: overlong, a surrogate, beyond U+10FFFF, or cut off.
static size_t code_point_bytes(const uint8_t *p, size_t left)
{
    if (p[0] < 0x80)
        return p[0] >= 0x20 && p[0] != 0x7f;
    const size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    const bool wrong =
        (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f);
    return wrong ? 0 : n;
}

bool qcnn_is_plain_utf8(const char *text, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes;) {
        const size_t n = code_point_bytes((const uint8_t *)text + i, n_bytes - i);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}
