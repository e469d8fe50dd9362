// SPDX-License-Identifier: Apache-2.0
// Protocol Buffers in text form (Caffe's .prototxt): parsed without a schema into one array of fields, each message followed
// by what it contains. Values stay text until somebody asks for a number.

#ifndef QCNN_IMPORT_PROTOTXT_H
#define QCNN_IMPORT_PROTOTXT_H

#include "base/status.h"
#include "import/protobuf.h"

typedef struct prototxt_field {
    qcnn_span name;
    qcnn_span value; // of a scalar: without quotes; empty for a message
    bool is_message;
    int next; // index behind this field and everything in it
} prototxt_field;

typedef struct prototxt {
    prototxt_field *fields; // field 0 is the message that the file is
    size_t n_fields, capacity;
} prototxt;

// Spans refer to `text`, which must outlive the result. Free it with qcnn_prototxt_free on success and failure alike.
// Errors: FORMAT with the line, UNSUPPORTED (more fields or nesting than any network has), MEMORY.
qcnn_status qcnn_prototxt_parse(qcnn_span text, prototxt *result, qcnn_error *error);
void qcnn_prototxt_free(prototxt *result);

// The field `name` number `nth` (from 0) directly in message `in`; -1 when there is none, or when `in` is -1.
int qcnn_prototxt_find(const prototxt *text, int in, const char *name, int nth);

// Scalars of message `in`, `otherwise` where they are absent (or `in` is -1). A value that is no such number gives false in
// *valid, which otherwise stays as it is.
qcnn_span qcnn_prototxt_text(const prototxt *text, int in, const char *name);
int64_t qcnn_prototxt_int(const prototxt *text, int in, const char *name, int nth, int64_t otherwise, bool *valid);
float qcnn_prototxt_float(const prototxt *text, int in, const char *name, int nth, float otherwise, bool *valid);
bool qcnn_prototxt_bool(const prototxt *text, int in, const char *name, bool otherwise, bool *valid);

#endif
