// SPDX-License-Identifier: Apache-2.0
// Writer of the Protocol Buffers wire format.

#include "export/protobuf_write.h"

#include <string.h>

#include "base/memory.h"

static void put_varint(qcnn_buffer *message, uint64_t value)
{
    while (value > 0x7f) {
        qcnn_write_u8(message, (uint8_t)(value | 0x80));
        value >>= 7;
    }
    qcnn_write_u8(message, (uint8_t)value);
}

void qcnn_put_int(qcnn_buffer *message, int field, int64_t value)
{
    put_varint(message, (uint64_t)field << 3);
    put_varint(message, (uint64_t)value);
}

void qcnn_put_float(qcnn_buffer *message, int field, float value)
{
    put_varint(message, (uint64_t)field << 3 | 5);
    qcnn_write_f32(message, value);
}

void qcnn_put_length(qcnn_buffer *message, int field, uint64_t n)
{
    put_varint(message, (uint64_t)field << 3 | 2);
    put_varint(message, n);
}

void qcnn_put_text(qcnn_buffer *message, int field, const char *text)
{
    qcnn_put_length(message, field, strlen(text));
    qcnn_write_bytes(message, text, strlen(text));
}

void qcnn_put_message(qcnn_buffer *message, int field, qcnn_buffer *part)
{
    qcnn_put_length(message, field, part->n_bytes);
    if (part->n_bytes)
        qcnn_write_bytes(message, part->data, part->n_bytes);
    message->failed |= part->failed;
    qcnn_release(part->data);
    *part = (qcnn_buffer){ 0 };
}
