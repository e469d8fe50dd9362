// SPDX-License-Identifier: Apache-2.0
// Reading Protocol Buffers messages in place: a reader walks the fields of one message, values are spans of the bytes it
// was given. Nothing is allocated, nothing is recursive, and no length is believed before it is compared with what remains.
//
//     qcnn_pb_reader reader = qcnn_pb_open(message);
//     qcnn_pb_field field;
//     while (qcnn_pb_next(&reader, &field))
//         switch (field.tag) {
//         case QCNN_PB_TAG(1, QCNN_PB_BYTES): name = field.bytes; break;
//         }
//     if (reader.malformed) ...
//
// Fields with an unexpected number or wire type fall through the switch: they are skipped, as the format demands.

#ifndef QCNN_IMPORT_PROTOBUF_H
#define QCNN_IMPORT_PROTOBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct qcnn_span {
    const unsigned char *data;
    size_t n;
} qcnn_span;

bool qcnn_span_is(qcnn_span span, const char *text);
bool qcnn_span_equal(qcnn_span a, qcnn_span b);
// For "%.*s" in messages: no more of a hostile name than a line can take.
#define QCNN_SPAN_TEXT(span) (int)((span).n < 80 ? (span).n : 80), (const char *)((span).data ? (span).data : (const unsigned char *)"")

enum { QCNN_PB_VARINT = 0, QCNN_PB_FIXED64 = 1, QCNN_PB_BYTES = 2, QCNN_PB_FIXED32 = 5 };

#define QCNN_PB_TAG(number, wire) ((uint32_t)(number) << 3 | (uint32_t)(wire))

typedef struct qcnn_pb_reader {
    qcnn_span rest;
    bool malformed; // the message ended inside a field, or is not protobuf at all
} qcnn_pb_reader;

typedef struct qcnn_pb_field {
    uint32_t tag;
    uint64_t value;  // varint and fixed fields
    qcnn_span bytes; // strings, messages, packed numbers; for fixed fields their own 4 or 8 bytes
} qcnn_pb_field;

qcnn_pb_reader qcnn_pb_open(qcnn_span message);

// The next field; false at the end of the message and on malformed bytes.
bool qcnn_pb_next(qcnn_pb_reader *reader, qcnn_pb_field *field);

// Takes one varint off the front of packed numbers; false when they are used up or malformed.
bool qcnn_pb_varint(qcnn_span *packed, uint64_t *value);

#endif
