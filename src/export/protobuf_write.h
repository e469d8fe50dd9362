// SPDX-License-Identifier: Apache-2.0
// Writing Protocol Buffers messages into a qcnn_buffer: one function for each kind of field.

#ifndef QCNN_EXPORT_PROTOBUF_WRITE_H
#define QCNN_EXPORT_PROTOBUF_WRITE_H

#include "base/bytes.h"

void qcnn_put_int(qcnn_buffer *message, int field, int64_t value);
void qcnn_put_float(qcnn_buffer *message, int field, float value);
void qcnn_put_text(qcnn_buffer *message, int field, const char *text);
// The head of a field of `n` bytes, which the caller appends.
void qcnn_put_length(qcnn_buffer *message, int field, uint64_t n);
// A message in a field; `part` is released and zeroed.
void qcnn_put_message(qcnn_buffer *message, int field, qcnn_buffer *part);

#endif
