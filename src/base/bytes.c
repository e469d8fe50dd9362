// SPDX-License-Identifier: Apache-2.0
// The bounded cursor and the growing buffer.

#include "base/bytes.h"

#include <string.h>

#include "base/memory.h"

// ---- reading --------------------------------------------------------------------------------------------------------

const unsigned char *qcnn_read_bytes(qcnn_cursor *cursor, size_t n)
{
    if (cursor->failed || n > cursor->n_left) {
        cursor->failed = true;
        return NULL;
    }
    const unsigned char *bytes = cursor->next;
    cursor->next += n;
    cursor->n_left -= n;
    return bytes;
}

static uint64_t read_little(qcnn_cursor *cursor, size_t n)
{
    const unsigned char *bytes = qcnn_read_bytes(cursor, n);
    uint64_t value = 0;
    for (size_t i = 0; bytes && i < n; i++)
        value |= (uint64_t)bytes[i] << 8 * i;
    return value;
}

uint8_t qcnn_read_u8(qcnn_cursor *cursor)
{
    return (uint8_t)read_little(cursor, 1);
}

uint16_t qcnn_read_u16(qcnn_cursor *cursor)
{
    return (uint16_t)read_little(cursor, 2);
}

uint32_t qcnn_read_u32(qcnn_cursor *cursor)
{
    return (uint32_t)read_little(cursor, 4);
}

uint64_t qcnn_read_u64(qcnn_cursor *cursor)
{
    return read_little(cursor, 8);
}

float qcnn_read_f32(qcnn_cursor *cursor)
{
    const uint32_t bits = qcnn_read_u32(cursor);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

bool qcnn_bytes_are_zero(const unsigned char *bytes, size_t n)
{
    unsigned char any = 0;
    for (size_t i = 0; i < n; i++)
        any |= bytes[i];
    return any == 0;
}

// Bytes of the UTF-8 character that starts at `s`, at most `n`; 0 when it is malformed (Unicode 15, table 3-7).
static size_t character_bytes(const unsigned char *s, size_t n)
{
    const unsigned char first = s[0];
    if (first < 0x80)
        return 1;
    if (first < 0xc2 || first > 0xf4)
        return 0;
    const size_t length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (n < length)
        return 0;
    const unsigned char low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;  // no overlong forms
    const unsigned char high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf; // no surrogates, nothing beyond U+10FFFF
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

bool qcnn_bytes_are_text(const unsigned char *bytes, size_t n, bool lines)
{
    for (size_t i = 0; i < n;) {
        const unsigned char c = bytes[i];
        if ((c < 0x20 && !(lines && (c == '\t' || c == '\r' || c == '\n'))) || c == 0x7f)
            return false;
        const size_t length = character_bytes(bytes + i, n - i);
        if (!length)
            return false;
        i += length;
    }
    return true;
}

// ---- writing --------------------------------------------------------------------------------------------------------

// Room for `n` more bytes at the end of the buffer, counted as written; NULL after a failure.
static unsigned char *extend(qcnn_buffer *buffer, size_t n)
{
    if (buffer->failed || n > SIZE_MAX / 2 - buffer->n_bytes || !qcnn_reserve(&buffer->data, &buffer->capacity, buffer->n_bytes + n, 1)) {
        buffer->failed = true;
        return NULL;
    }
    unsigned char *end = buffer->n_bytes ? buffer->data + buffer->n_bytes : buffer->data;
    buffer->n_bytes += n;
    return end;
}

void qcnn_write_bytes(qcnn_buffer *buffer, const void *bytes, size_t n)
{
    unsigned char *end = extend(buffer, n);
    if (end && n > 0)
        memcpy(end, bytes, n);
}

void qcnn_write_zeros(qcnn_buffer *buffer, size_t n)
{
    unsigned char *end = extend(buffer, n);
    if (end)
        memset(end, 0, n);
}

static void write_little(qcnn_buffer *buffer, uint64_t value, size_t n)
{
    unsigned char *end = extend(buffer, n);
    for (size_t i = 0; end && i < n; i++)
        end[i] = (unsigned char)(value >> 8 * i);
}

void qcnn_write_u8(qcnn_buffer *buffer, uint8_t value)
{
    write_little(buffer, value, 1);
}

void qcnn_write_u16(qcnn_buffer *buffer, uint16_t value)
{
    write_little(buffer, value, 2);
}

void qcnn_write_u32(qcnn_buffer *buffer, uint32_t value)
{
    write_little(buffer, value, 4);
}

void qcnn_write_u64(qcnn_buffer *buffer, uint64_t value)
{
    write_little(buffer, value, 8);
}

void qcnn_write_f32(qcnn_buffer *buffer, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    qcnn_write_u32(buffer, bits);
}
