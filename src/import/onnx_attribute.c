// SPDX-License-Identifier: Apache-2.0
// Looking up attributes of an ONNX node. They are read from the node's message each time: nodes have few, and keeping none
// spares a second form of the graph in memory.

#include <string.h>

#include "import/onnx.h"

// AttributeProto's fields
enum { NAME = 1, FLOAT = 2, INT = 3, TEXT = 4, TENSOR = 5, FLOATS = 7, INTS = 8 };

// The message of attribute `name`; false when there is none.
static bool find_attribute(const onnx_node *node, const char *name, qcnn_span *message)
{
    qcnn_pb_reader reader = qcnn_pb_open(node->message), attribute;
    qcnn_pb_field field, part;
    while (qcnn_pb_next(&reader, &field)) {
        if (field.tag != QCNN_PB_TAG(5, QCNN_PB_BYTES))
            continue;
        attribute = qcnn_pb_open(field.bytes);
        while (qcnn_pb_next(&attribute, &part))
            if (part.tag == QCNN_PB_TAG(NAME, QCNN_PB_BYTES) && qcnn_span_is(part.bytes, name)) {
                *message = field.bytes;
                return true;
            }
    }
    return false;
}

// The last field with `tag` in attribute `name`.
static bool find_field(const onnx_node *node, const char *name, uint32_t tag, qcnn_pb_field *found)
{
    qcnn_span message;
    if (!find_attribute(node, name, &message))
        return false;
    bool any = false;
    qcnn_pb_reader reader = qcnn_pb_open(message);
    qcnn_pb_field field;
    while (qcnn_pb_next(&reader, &field))
        if (field.tag == tag) {
            *found = field;
            any = true;
        }
    return any;
}

bool qcnn_onnx_has(const onnx_node *node, const char *name)
{
    qcnn_span message;
    return find_attribute(node, name, &message);
}

int64_t qcnn_onnx_int(const onnx_node *node, const char *name, int64_t otherwise)
{
    qcnn_pb_field field;
    return find_field(node, name, QCNN_PB_TAG(INT, QCNN_PB_VARINT), &field) ? (int64_t)field.value : otherwise;
}

static float float_from_bits(uint64_t bits)
{
    const uint32_t word = (uint32_t)bits;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

float qcnn_onnx_float(const onnx_node *node, const char *name, float otherwise)
{
    qcnn_pb_field field;
    return find_field(node, name, QCNN_PB_TAG(FLOAT, QCNN_PB_FIXED32), &field) ? float_from_bits(field.value) : otherwise;
}

qcnn_span qcnn_onnx_text(const onnx_node *node, const char *name)
{
    qcnn_pb_field field = { 0 };
    return find_field(node, name, QCNN_PB_TAG(TEXT, QCNN_PB_BYTES), &field) ? field.bytes : (qcnn_span){ 0 };
}

qcnn_span qcnn_onnx_message(const onnx_node *node, const char *name)
{
    qcnn_pb_field field = { 0 };
    return find_field(node, name, QCNN_PB_TAG(TENSOR, QCNN_PB_BYTES), &field) ? field.bytes : (qcnn_span){ 0 };
}

bool qcnn_onnx_ints(const onnx_node *node, const char *name, int64_t *list, int max, int *n)
{
    *n = 0;
    qcnn_span message;
    if (!find_attribute(node, name, &message))
        return false;
    qcnn_pb_reader reader = qcnn_pb_open(message);
    qcnn_pb_field field;
    uint64_t number;
    while (qcnn_pb_next(&reader, &field)) {
        if (field.tag == QCNN_PB_TAG(INTS, QCNN_PB_VARINT)) {
            if (*n >= max)
                return false;
            list[(*n)++] = (int64_t)field.value;
        } else if (field.tag == QCNN_PB_TAG(INTS, QCNN_PB_BYTES)) {
            while (qcnn_pb_varint(&field.bytes, &number)) {
                if (*n >= max)
                    return false;
                list[(*n)++] = (int64_t)number;
            }
            if (field.bytes.n)
                return false;
        }
    }
    return !reader.malformed;
}

bool qcnn_onnx_floats(const onnx_node *node, const char *name, float *list, int max, int *n)
{
    *n = 0;
    qcnn_span message;
    if (!find_attribute(node, name, &message))
        return false;
    qcnn_pb_reader reader = qcnn_pb_open(message);
    qcnn_pb_field field;
    while (qcnn_pb_next(&reader, &field)) {
        const bool one = field.tag == QCNN_PB_TAG(FLOATS, QCNN_PB_FIXED32);
        if (!one && field.tag != QCNN_PB_TAG(FLOATS, QCNN_PB_BYTES))
            continue;
        if (field.bytes.n % 4 || field.bytes.n / 4 > (size_t)(max - *n))
            return false;
        memcpy(list + *n, field.bytes.data, field.bytes.n);
        *n += (int)(field.bytes.n / 4);
    }
    return !reader.malformed;
}
