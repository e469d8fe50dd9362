// SPDX-License-Identifier: Apache-2.0
// Reader of the Protocol Buffers wire format (https://protobuf.dev/programming-guides/encoding/).

#include "import/protobuf.h"

#include <string.h>

bool qcnn_span_is(qcnn_span span, const char *text)
{
    return span.n == strlen(text) && (span.n == 0 || memcmp(span.data, text, span.n) == 0);
}

bool qcnn_span_equal(qcnn_span a, qcnn_span b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.data, b.data, a.n) == 0);
}

qcnn_pb_reader qcnn_pb_open(qcnn_span message)
{
    return (qcnn_pb_reader){ message, false };
}

bool qcnn_pb_varint(qcnn_span *packed, uint64_t *value)
{
    *value = 0;
    for (size_t i = 0; i < packed->n && i < 10; i++) {
        const uint64_t bits = packed->data[i] & 0x7f;
        if (i == 9 && bits > 1)
            return false; // more than 64 bits
        *value |= bits << (7 * i);
        if (!(packed->data[i] & 0x80)) {
            packed->data += i + 1;
            packed->n -= i + 1;
            return true;
        }
    }
    return false;
}

// The next `n` bytes of the message, if there are so many.
static bool take_bytes(qcnn_pb_reader *reader, uint64_t n, qcnn_span *bytes)
{
    if (n > reader->rest.n)
        return false;
    *bytes = (qcnn_span){ reader->rest.data, (size_t)n };
    reader->rest.data += n;
    reader->rest.n -= (size_t)n;
    return true;
}

static uint64_t little_endian(qcnn_span bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes.n; i++)
        value |= (uint64_t)bytes.data[i] << (8 * i);
    return value;
}

static bool read_field(qcnn_pb_reader *reader, qcnn_pb_field *field)
{
    uint64_t tag;
    if (!qcnn_pb_varint(&reader->rest, &tag) || tag > UINT32_MAX || tag >> 3 == 0)
        return false;
    field->tag = (uint32_t)tag;
    switch (tag & 7) {
    case QCNN_PB_VARINT: return qcnn_pb_varint(&reader->rest, &field->value);
    case QCNN_PB_BYTES: return qcnn_pb_varint(&reader->rest, &field->value) && take_bytes(reader, field->value, &field->bytes);
    case QCNN_PB_FIXED32:
    case QCNN_PB_FIXED64:
        if (!take_bytes(reader, (tag & 7) == QCNN_PB_FIXED32 ? 4 : 8, &field->bytes))
            return false;
        field->value = little_endian(field->bytes);
        return true;
    default: // groups (3, 4) have been out of the language since before ONNX and Caffe used it
        return false;
    }
}

bool qcnn_pb_next(qcnn_pb_reader *reader, qcnn_pb_field *field)
{
    *field = (qcnn_pb_field){ 0 };
    if (reader->malformed || reader->rest.n == 0)
        return false;
    reader->malformed = !read_field(reader, field);
    return !reader->malformed;
}
