// SPDX-License-Identifier: Apache-2.0
// Reading a .caffemodel: a NetParameter message of caffe.proto, of which only layers' names and blobs matter.

#include "import/caffe_weights.h"

#include <string.h>

enum { MAX_LAYERS = 1 << 13 };

// Field numbers of a layer's name and blobs: LayerParameter (field 100 of the net) and V1LayerParameter (field 2).
static qcnn_status add_layer(caffe_weights *weights, qcnn_span message, uint32_t name_tag, uint32_t blob_tag, qcnn_error *error)
{
    caffe_layer_weights layer = { 0 };
    qcnn_pb_reader reader = qcnn_pb_open(message);
    qcnn_pb_field field;
    while (qcnn_pb_next(&reader, &field)) {
        if (field.tag == name_tag)
            layer.name = field.bytes;
        if (field.tag == blob_tag && layer.n_blobs < CAFFE_MAX_BLOBS)
            layer.blobs[layer.n_blobs++] = field.bytes;
    }
    if (reader.malformed)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "not a valid caffemodel: a layer is cut short or no protobuf message");
    if (layer.n_blobs == 0)
        return QCNN_OK;
    if (weights->n_layers >= MAX_LAYERS)
        return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "the caffemodel has more than %d layers", MAX_LAYERS);
    if (!qcnn_reserve(&weights->layers, &weights->capacity, weights->n_layers + 1, sizeof layer))
        return qcnn_fail_memory(error, weights->n_layers * sizeof layer);
    weights->layers[weights->n_layers++] = layer;
    return QCNN_OK;
}

qcnn_status qcnn_caffe_find_weights(qcnn_span file, caffe_weights *weights, qcnn_error *error)
{
    *weights = (caffe_weights){ 0 };
    qcnn_pb_reader reader = qcnn_pb_open(file);
    qcnn_pb_field field;
    while (qcnn_pb_next(&reader, &field)) {
        if (field.tag == QCNN_PB_TAG(100, QCNN_PB_BYTES))
            QCNN_TRY(add_layer(weights, field.bytes, QCNN_PB_TAG(1, QCNN_PB_BYTES), QCNN_PB_TAG(7, QCNN_PB_BYTES), error));
        if (field.tag == QCNN_PB_TAG(2, QCNN_PB_BYTES))
            QCNN_TRY(add_layer(weights, field.bytes, QCNN_PB_TAG(4, QCNN_PB_BYTES), QCNN_PB_TAG(6, QCNN_PB_BYTES), error));
    }
    if (reader.malformed)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "not a valid caffemodel: it is cut short or no protobuf message");
    return QCNN_OK;
}

const caffe_layer_weights *qcnn_caffe_layer(const caffe_weights *weights, qcnn_span name)
{
    for (size_t i = 0; i < weights->n_layers; i++)
        if (qcnn_span_equal(weights->layers[i].name, name))
            return &weights->layers[i];
    return NULL;
}

// ---- blobs ----------------------------------------------------------------------------------------------------------

enum { BLOB_DATA = 5, BLOB_DOUBLE_DATA = 8 };

// Copies a field's numbers behind those that are there; false when there are more than `n` or they are cut short.
static bool append_numbers(const qcnn_pb_field *field, float *numbers, uint64_t n, uint64_t *done)
{
    const bool wide = field->tag >> 3 == BLOB_DOUBLE_DATA;
    const size_t size = wide ? sizeof(double) : sizeof(float), count = field->bytes.n / size;
    if (field->bytes.n % size || count > n - *done)
        return false;
    if (!wide && count)
        memcpy(numbers + *done, field->bytes.data, field->bytes.n);
    for (size_t i = 0; wide && i < count; i++) {
        double value;
        memcpy(&value, field->bytes.data + i * size, size);
        numbers[*done + i] = (float)value;
    }
    *done += count;
    return true;
}

static bool is_data(uint32_t tag)
{
    return tag == QCNN_PB_TAG(BLOB_DATA, QCNN_PB_BYTES) || tag == QCNN_PB_TAG(BLOB_DATA, QCNN_PB_FIXED32) ||
           tag == QCNN_PB_TAG(BLOB_DOUBLE_DATA, QCNN_PB_BYTES) || tag == QCNN_PB_TAG(BLOB_DOUBLE_DATA, QCNN_PB_FIXED64);
}

static bool copy_numbers(qcnn_span blob, float *numbers, uint64_t n)
{
    qcnn_pb_reader reader = qcnn_pb_open(blob);
    qcnn_pb_field field;
    uint64_t done = 0;
    while (qcnn_pb_next(&reader, &field))
        if (is_data(field.tag) && !append_numbers(&field, numbers, n, &done))
            return false;
    return done == n && !reader.malformed;
}

// All `n` numbers in one aligned field of floats, as Caffe writes them: they can stay where they are.
static const float *numbers_in_place(qcnn_span blob, uint64_t n)
{
    const float *found = NULL;
    qcnn_pb_reader reader = qcnn_pb_open(blob);
    qcnn_pb_field field;
    while (qcnn_pb_next(&reader, &field)) {
        if (!is_data(field.tag))
            continue;
        if (found || field.tag != QCNN_PB_TAG(BLOB_DATA, QCNN_PB_BYTES) || field.bytes.n != n * sizeof(float) ||
            (uintptr_t)field.bytes.data % _Alignof(float))
            return NULL;
        found = (const float *)(const void *)field.bytes.data;
    }
    return reader.malformed ? NULL : found;
}

qcnn_status qcnn_caffe_tensor(const caffe_layer_weights *layer, int blob, const qcnn_shape *shape, qcnn_tensor *tensor, qcnn_error *error)
{
    *tensor = (qcnn_tensor){ .shape = *shape, .error = -1 };
    const uint64_t n = qcnn_shape_elements(shape);
    char text[96];
    const qcnn_span bytes = blob < layer->n_blobs ? layer->blobs[blob] : (qcnn_span){ 0 };
    if (n > bytes.n / sizeof(float)) // also when there is no such blob
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "layer '%.*s': the caffemodel lacks the %s numbers of its blob %d",
                         QCNN_SPAN_TEXT(layer->name), qcnn_shape_text(shape, text), blob);
    if ((tensor->data = numbers_in_place(bytes, n)))
        return QCNN_OK;
    float *numbers = qcnn_allocate((size_t)n, sizeof *numbers);
    if (!numbers)
        return qcnn_fail_memory(error, (size_t)n * sizeof *numbers);
    tensor->data = tensor->owned_data = numbers;
    if (copy_numbers(bytes, numbers, n))
        return QCNN_OK;
    qcnn_tensor_release(tensor);
    return qcnn_fail(error, QCNN_ERROR_FORMAT, "layer '%.*s': blob %d of the caffemodel does not have %s numbers",
                     QCNN_SPAN_TEXT(layer->name), blob, qcnn_shape_text(shape, text));
}
