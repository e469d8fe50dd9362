// SPDX-License-Identifier: Apache-2.0
// Small ONNX files for tests, written field by field.
//
//     onnx_file file = { .opset = 13 };
//     sample_input(&file, "x", SHAPE(1, 4));
//     sample_floats(&file, "w", SHAPE(4), (const float[]){ 1, 2, 3, 4 });
//     sample_node(&file, "Add", "sum", "x w", "y", NULL);
//     sample_output(&file, "y");
//     qcnn_model *model = sample_import(&file);      // fails the test when the importer refuses
//
// Include cmocka.h first.

#ifndef QCNN_TESTS_ONNX_SAMPLES_H
#define QCNN_TESTS_ONNX_SAMPLES_H

#include <string.h>

#include "build_model.h"
#include "export/protobuf_write.h"
#include "import/onnx.h"

typedef struct onnx_file {
    int64_t opset;
    qcnn_buffer graph;
    qcnn_buffer bytes; // the whole file, once finished
} onnx_file;

// ---- attributes -----------------------------------------------------------------------------------------------------

static inline void sample_attribute(qcnn_buffer *node, const char *name, qcnn_buffer *attribute)
{
    qcnn_put_text(attribute, 1, name);
    qcnn_put_message(node, 5, attribute);
}

static inline void sample_int(qcnn_buffer *node, const char *name, int64_t value)
{
    qcnn_buffer attribute = { 0 };
    qcnn_put_int(&attribute, 3, value);
    sample_attribute(node, name, &attribute);
}

static inline void sample_float(qcnn_buffer *node, const char *name, float value)
{
    qcnn_buffer attribute = { 0 };
    qcnn_put_float(&attribute, 2, value);
    sample_attribute(node, name, &attribute);
}

static inline void sample_ints(qcnn_buffer *node, const char *name, int n, const int64_t *list)
{
    qcnn_buffer attribute = { 0 };
    for (int i = 0; i < n; i++)
        qcnn_put_int(&attribute, 8, list[i]);
    sample_attribute(node, name, &attribute);
}

// ---- parts of the graph ---------------------------------------------------------------------------------------------

// `inputs` and `outputs` are names separated by blanks; "-" is an absent one. `attributes` is released.
static inline void sample_names(qcnn_buffer *node, int field, const char *names)
{
    while (*names) {
        const size_t n = strcspn(names, " ");
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)n, names);
        qcnn_put_text(node, field, strcmp(name, "-") ? name : "");
        names += n + strspn(names + n, " ");
    }
}

static inline void sample_node(onnx_file *file, const char *op, const char *name, const char *inputs, const char *outputs,
                               qcnn_buffer *attributes)
{
    qcnn_buffer node = { 0 };
    sample_names(&node, 1, inputs);
    sample_names(&node, 2, outputs);
    qcnn_put_text(&node, 3, name);
    qcnn_put_text(&node, 4, op);
    if (attributes) {
        qcnn_write_bytes(&node, attributes->data, attributes->n_bytes);
        qcnn_release(attributes->data);
        *attributes = (qcnn_buffer){ 0 };
    }
    qcnn_put_message(&file->graph, 1, &node);
}

// The head of an initializer: the caller adds its data and ends it with qcnn_put_message(&file->graph, 5, ...).
static inline qcnn_buffer sample_tensor(const char *name, int type, qcnn_shape shape)
{
    qcnn_buffer tensor = { 0 };
    for (int i = 0; i < shape.rank; i++)
        qcnn_put_int(&tensor, 1, shape.dims[i]);
    qcnn_put_int(&tensor, 2, type);
    qcnn_put_text(&tensor, 8, name);
    return tensor;
}

static inline void sample_raw(onnx_file *file, const char *name, int type, qcnn_shape shape, const void *data, size_t n_bytes)
{
    qcnn_buffer tensor = sample_tensor(name, type, shape);
    qcnn_put_length(&tensor, 9, n_bytes);
    qcnn_write_bytes(&tensor, data, n_bytes);
    qcnn_put_message(&file->graph, 5, &tensor);
}

static inline void sample_floats(onnx_file *file, const char *name, qcnn_shape shape, const float *data)
{
    sample_raw(file, name, ONNX_FLOAT, shape, data, (size_t)qcnn_shape_elements(&shape) * sizeof *data);
}

static inline void sample_integers(onnx_file *file, const char *name, int n, const int64_t *data)
{
    sample_raw(file, name, ONNX_INT64, SHAPE(n), data, (size_t)n * sizeof *data);
}

static inline void sample_port(onnx_file *file, int field, const char *name, int type, const qcnn_shape *shape)
{
    qcnn_buffer port = { 0 }, kind = { 0 }, tensor = { 0 }, dims = { 0 };
    for (int i = 0; shape && i < shape->rank; i++) {
        qcnn_buffer dim = { 0 };
        if (shape->dims[i] > 0)
            qcnn_put_int(&dim, 1, shape->dims[i]);
        else
            qcnn_put_text(&dim, 2, "N");
        qcnn_put_message(&dims, 1, &dim);
    }
    qcnn_put_int(&tensor, 1, type);
    if (shape)
        qcnn_put_message(&tensor, 2, &dims);
    qcnn_put_message(&kind, 1, &tensor);
    qcnn_put_text(&port, 1, name);
    qcnn_put_message(&port, 2, &kind);
    qcnn_put_message(&file->graph, field, &port);
}

static inline void sample_input(onnx_file *file, const char *name, qcnn_shape shape)
{
    sample_port(file, 11, name, ONNX_FLOAT, &shape);
}

static inline void sample_output(onnx_file *file, const char *name)
{
    sample_port(file, 12, name, ONNX_FLOAT, NULL);
}

// ---- the file -------------------------------------------------------------------------------------------------------

static inline void sample_finish(onnx_file *file)
{
    qcnn_buffer opset = { 0 };
    qcnn_put_int(&opset, 2, file->opset);
    qcnn_put_int(&file->bytes, 1, 7);
    qcnn_put_message(&file->bytes, 7, &file->graph);
    qcnn_put_message(&file->bytes, 8, &opset);
    assert_false(file->bytes.failed);
}

static inline void sample_free(onnx_file *file)
{
    qcnn_release(file->graph.data);
    qcnn_release(file->bytes.data);
    memset(file, 0, sizeof *file);
}

static inline qcnn_model *sample_import(onnx_file *file)
{
    qcnn_model *model;
    sample_finish(file);
    BUILD_CHECK(qcnn_import_onnx(file->bytes.data, file->bytes.n_bytes, NULL, NULL, &model, error));
    sample_free(file);
    return model;
}

// Imports and expects an error of `status` whose message contains `text`.
static inline void sample_refused(onnx_file *file, qcnn_status status, const char *text)
{
    qcnn_model *model;
    qcnn_error error = { 0 };
    sample_finish(file);
    const qcnn_status actual = qcnn_import_onnx(file->bytes.data, file->bytes.n_bytes, NULL, NULL, &model, &error);
    sample_free(file);
    assert_null(model);
    if (actual != status || !strstr(error.message, text))
        fail_msg("expected '%s' with '%s', got '%s': %s", qcnn_status_name(status), text, qcnn_status_name(actual), error.message);
}

// Runs a model of one input and one output at batch 1.
static inline void sample_run(const qcnn_model *model, const float *x, float *y)
{
    qcnn_session *session;
    BUILD_CHECK(qcnn_session_create(model, NULL, &session, error));
    qcnn_run(session, &x, &y);
    qcnn_session_free(session);
}

#endif
