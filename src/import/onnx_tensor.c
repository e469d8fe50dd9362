// SPDX-License-Identifier: Apache-2.0
// Decoding ONNX tensors: typed fields, raw bytes or external data, in any numeric type, to float32 or int64. No memory is
// taken before the declared number of elements has been compared with the bytes that are there.

#include <string.h>

#include "base/checked.h"
#include "base/half.h"
#include "import/onnx.h"

// Where a tensor's elements are.
typedef struct element_source {
    bool has_raw, is_external;
    qcnn_span raw;
    qcnn_span location;
    uint64_t offset, length;
    bool has_length;
} element_source;

static qcnn_status bad_tensor(const onnx_tensor *tensor, qcnn_status status, const char *what, qcnn_error *error)
{
    return qcnn_fail(error, status, "tensor '%.*s': %s", QCNN_SPAN_TEXT(tensor->name), what);
}

// Bytes of one element; 0 for types that are not numbers.
static size_t element_bytes(int type)
{
    switch (type) {
    case ONNX_BOOL:
    case ONNX_INT8:
    case ONNX_UINT8: return 1;
    case ONNX_INT16:
    case ONNX_UINT16:
    case ONNX_FLOAT16:
    case ONNX_BFLOAT16: return 2;
    case ONNX_FLOAT:
    case ONNX_INT32:
    case ONNX_UINT32: return 4;
    case ONNX_DOUBLE:
    case ONNX_INT64:
    case ONNX_UINT64: return 8;
    }
    return 0;
}

// The TensorProto field that holds elements of `type` one by one.
static uint32_t typed_field(int type)
{
    switch (type) {
    case ONNX_FLOAT: return 4;
    case ONNX_INT64: return 7;
    case ONNX_DOUBLE: return 10;
    case ONNX_UINT32:
    case ONNX_UINT64: return 11;
    }
    return 5; // int32_data: 32 bits and less, float16 as its bits
}

// ---- one element ----------------------------------------------------------------------------------------------------

static float float_from_element(int type, uint64_t element)
{
    float value;
    double wide;
    const uint32_t word = (uint32_t)(type == ONNX_BFLOAT16 ? element << 16 : element);
    switch (type) {
    case ONNX_FLOAT16: return qcnn_half_to_float((uint16_t)element);
    case ONNX_DOUBLE: memcpy(&wide, &element, sizeof wide); return (float)wide;
    default: // float, bfloat16
        memcpy(&value, &word, sizeof value);
        return value;
    }
}

static int64_t integer_from_element(int type, uint64_t element)
{
    switch (type) {
    case ONNX_BOOL: return element != 0;
    case ONNX_INT8: return (int8_t)element;
    case ONNX_UINT8: return (uint8_t)element;
    case ONNX_INT16: return (int16_t)element;
    case ONNX_UINT16: return (uint16_t)element;
    case ONNX_INT32: return (int32_t)element;
    case ONNX_UINT32: return (uint32_t)element;
    }
    return (int64_t)element;
}

static void store_element(int type, uint64_t element, void *out, size_t index)
{
    if (onnx_is_float(type))
        ((float *)out)[index] = float_from_element(type, element);
    else
        ((int64_t *)out)[index] = integer_from_element(type, element);
}

// ---- all elements ---------------------------------------------------------------------------------------------------

static void decode_raw(int type, const unsigned char *raw, size_t n, void *out)
{
    const size_t size = element_bytes(type);
    if (type == ONNX_FLOAT) {
        memcpy(out, raw, n * sizeof(float));
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t element = 0;
        memcpy(&element, raw + i * size, size); // little-endian, as the machine
        store_element(type, element, out, i);
    }
}

// The elements packed in one field, or the one that it is; false when there are more than `n` in all or they are cut short.
static bool decode_field(int type, const qcnn_pb_field *field, size_t n, void *out, size_t *done)
{
    qcnn_span rest = field->bytes;
    uint64_t element = field->value;
    const uint32_t wire = field->tag & 7;
    const size_t size = type == ONNX_FLOAT ? 4 : type == ONNX_DOUBLE ? 8 : 0;
    if (wire == QCNN_PB_VARINT && size == 0) {
        if (*done >= n)
            return false;
        store_element(type, element, out, (*done)++);
        return true;
    }
    if (wire == QCNN_PB_VARINT || (wire != QCNN_PB_BYTES && rest.n != size))
        return false;
    if (size) {
        const size_t count = rest.n / size;
        if (rest.n % size || count > n - *done)
            return false;
        decode_raw(type, rest.data, count, (float *)out + *done);
        *done += count;
        return true;
    }
    while (rest.n) {
        if (*done >= n || !qcnn_pb_varint(&rest, &element))
            return false;
        store_element(type, element, out, (*done)++);
    }
    return true;
}

static bool decode_typed(const onnx_tensor *tensor, size_t n, void *out)
{
    qcnn_pb_reader reader = qcnn_pb_open(tensor->message);
    qcnn_pb_field field;
    size_t done = 0;
    while (qcnn_pb_next(&reader, &field))
        if (field.tag >> 3 == typed_field(tensor->type) && !decode_field(tensor->type, &field, n, out, &done))
            return false;
    return done == n;
}

// ---- where they are -------------------------------------------------------------------------------------------------

static bool parse_decimal(qcnn_span text, uint64_t *value)
{
    *value = 0;
    for (size_t i = 0; i < text.n; i++)
        if (text.data[i] < '0' || text.data[i] > '9' || !qcnn_multiply(*value, 10, value) ||
            !qcnn_add(*value, (uint64_t)(text.data[i] - '0'), value))
            return false;
    return text.n > 0;
}

// One StringStringEntry of external_data.
static bool read_entry(qcnn_span message, element_source *from)
{
    qcnn_span key = { 0 }, value = { 0 };
    qcnn_pb_reader reader = qcnn_pb_open(message);
    qcnn_pb_field field;
    while (qcnn_pb_next(&reader, &field)) {
        if (field.tag == QCNN_PB_TAG(1, QCNN_PB_BYTES))
            key = field.bytes;
        if (field.tag == QCNN_PB_TAG(2, QCNN_PB_BYTES))
            value = field.bytes;
    }
    if (qcnn_span_is(key, "location"))
        from->location = value;
    if (qcnn_span_is(key, "offset"))
        return parse_decimal(value, &from->offset);
    if (qcnn_span_is(key, "length"))
        return from->has_length = parse_decimal(value, &from->length);
    return !reader.malformed;
}

static qcnn_status find_elements(const onnx_tensor *tensor, element_source *from, qcnn_error *error)
{
    *from = (element_source){ 0 };
    bool valid = true;
    qcnn_pb_reader reader = qcnn_pb_open(tensor->message);
    qcnn_pb_field field;
    while (qcnn_pb_next(&reader, &field))
        switch (field.tag) {
        case QCNN_PB_TAG(9, QCNN_PB_BYTES):
            from->has_raw = true;
            from->raw = field.bytes;
            break;
        case QCNN_PB_TAG(13, QCNN_PB_BYTES): valid &= read_entry(field.bytes, from); break;
        case QCNN_PB_TAG(14, QCNN_PB_VARINT): from->is_external = field.value == 1; break;
        }
    return valid ? QCNN_OK : bad_tensor(tensor, QCNN_ERROR_FORMAT, "its external data has no valid offset or length", error);
}

// Reads external data into *loaded, which then stands for raw bytes.
static qcnn_status load_external(const onnx_tensor *tensor, const onnx_source *source, uint64_t n_bytes, element_source *from,
                                 void **loaded, qcnn_error *error)
{
    if (!source->folder)
        return bad_tensor(tensor, QCNN_ERROR_UNSUPPORTED, "its data lies in another file, which cannot be read from here", error);
    if (from->has_length && from->length != n_bytes)
        return bad_tensor(tensor, QCNN_ERROR_FORMAT, "the length of its external data does not match its shape and type", error);
    QCNN_TRY(qcnn_read_external(source->folder, from->location, from->offset, (size_t)n_bytes, loaded, error));
    from->has_raw = true;
    from->raw = (qcnn_span){ *loaded, (size_t)n_bytes };
    return QCNN_OK;
}

// Locates the `n` elements: from->raw holds exactly them when from->has_raw, else the message has room for so many. *loaded,
// if set, is what from->raw refers to and the caller's to release.
static qcnn_status locate(const onnx_tensor *tensor, const onnx_source *source, uint64_t *n, element_source *from, void **loaded,
                          qcnn_error *error)
{
    *loaded = NULL;
    uint64_t n_bytes;
    *n = qcnn_shape_elements(&tensor->shape);
    if (element_bytes(tensor->type) == 0)
        return bad_tensor(tensor, QCNN_ERROR_UNSUPPORTED, "its elements are not numbers of a supported type", error);
    if (!qcnn_multiply(*n, element_bytes(tensor->type), &n_bytes) || n_bytes > SIZE_MAX / 8)
        return bad_tensor(tensor, QCNN_ERROR_FORMAT, "its shape is impossibly large", error);
    QCNN_TRY(find_elements(tensor, from, error));
    if (from->is_external)
        QCNN_TRY(load_external(tensor, source, n_bytes, from, loaded, error));
    if (from->has_raw ? from->raw.n != n_bytes : *n > tensor->message.n)
        return bad_tensor(tensor, QCNN_ERROR_FORMAT, "its data does not match its shape and type", error);
    return QCNN_OK;
}

// ---- the two results ------------------------------------------------------------------------------------------------

static qcnn_status decode(const onnx_tensor *tensor, const element_source *from, size_t n, void *out, qcnn_error *error)
{
    if (from->has_raw)
        decode_raw(tensor->type, from->raw.data, n, out);
    else if (!decode_typed(tensor, n, out))
        return bad_tensor(tensor, QCNN_ERROR_FORMAT, "its data does not match its shape and type", error);
    return QCNN_OK;
}

qcnn_status qcnn_onnx_floats_of(const onnx_tensor *tensor, const onnx_source *source, qcnn_tensor *result, qcnn_error *error)
{
    *result = (qcnn_tensor){ .shape = tensor->shape, .error = -1 };
    element_source from;
    uint64_t n;
    void *loaded;
    QCNN_TRY(locate(tensor, source, &n, &from, &loaded, error));
    if (tensor->type == ONNX_FLOAT && loaded) {
        result->data = result->owned_data = loaded;
        return QCNN_OK;
    }
    if (tensor->type == ONNX_FLOAT && from.has_raw && source->outlives && (uintptr_t)from.raw.data % _Alignof(float) == 0) {
        result->data = (const float *)(const void *)from.raw.data;
        return QCNN_OK;
    }
    float *floats = qcnn_allocate((size_t)n, sizeof *floats);
    const qcnn_status status =
        floats ? decode(tensor, &from, (size_t)n, floats, error) : qcnn_fail_memory(error, (size_t)n * sizeof *floats);
    qcnn_release(loaded);
    result->data = result->owned_data = floats;
    if (status != QCNN_OK)
        qcnn_tensor_release(result);
    return status;
}

qcnn_status qcnn_onnx_integers_of(const onnx_tensor *tensor, const onnx_source *source, int64_t **values, qcnn_error *error)
{
    *values = NULL;
    element_source from;
    uint64_t n;
    void *loaded;
    if (qcnn_shape_elements(&tensor->shape) > ONNX_MAX_INTEGERS)
        return bad_tensor(tensor, QCNN_ERROR_UNSUPPORTED, "integer tensors serve shapes and indices only, and this one is too large",
                          error);
    QCNN_TRY(locate(tensor, source, &n, &from, &loaded, error));
    *values = qcnn_allocate((size_t)n, sizeof **values);
    const qcnn_status status =
        *values ? decode(tensor, &from, (size_t)n, *values, error) : qcnn_fail_memory(error, (size_t)n * sizeof **values);
    qcnn_release(loaded);
    if (status != QCNN_OK) {
        qcnn_release(*values);
        *values = NULL;
    }
    return status;
}
