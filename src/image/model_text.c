// SPDX-License-Identifier: Apache-2.0
// What a user gives beside the network, class names and preprocessing, checked and put into the model.

#include "image/text_lines.h"
#include "model/model.h"
#include "qcnn_compress.h"

enum { MAX_CLASSES = 1 << 20 };

static qcnn_status check_class_line(const qcnn_lines *lines, qcnn_error *error)
{
    if (lines->length == 0)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "class names: line %zu is empty: one name a line, in index order", lines->number);
    if (lines->length > QCNN_MAX_NAME)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "class names: line %zu has %zu bytes, more than %d", lines->number, lines->length,
                         QCNN_MAX_NAME);
    if (!qcnn_is_plain_utf8(lines->line, lines->length))
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "class names: line %zu is not UTF-8 text", lines->number);
    if (lines->number > MAX_CLASSES)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "class names: more than %d lines", MAX_CLASSES);
    return QCNN_OK;
}

// A list that does not fit would name the wrong things without anyone noticing.
static qcnn_status check_n_classes(const qcnn_model *model, size_t n_classes, qcnn_error *error)
{
    if (n_classes == 0)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "class names: the list is empty");
    if (model->n_outputs == 0)
        return QCNN_OK;
    const uint64_t n_scores = qcnn_shape_elements(&model->values[model->outputs[0]].shape);
    if (n_scores != n_classes)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "class names: %zu lines for a network with %llu outputs", n_classes,
                         (unsigned long long)n_scores);
    return QCNN_OK;
}

static qcnn_status add_classes(qcnn_model *model, qcnn_lines lines, qcnn_error *error)
{
    while (qcnn_next_line(&lines))
        QCNN_TRY(qcnn_model_add_class(model, lines.line, lines.length, error));
    return QCNN_OK;
}

static void free_classes(char **classes, size_t n_classes)
{
    for (size_t i = 0; i < n_classes; i++)
        qcnn_release(classes[i]);
    qcnn_release(classes);
}

qcnn_status qcnn_model_set_classes_text(qcnn_model *model, const char *text, size_t n_bytes, qcnn_error *error)
{
    if (!model || (!text && n_bytes > 0))
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "qcnn_model_set_classes_text: a pointer is null");
    qcnn_lines lines = qcnn_lines_of(text, n_bytes);
    while (qcnn_next_line(&lines))
        QCNN_TRY(check_class_line(&lines, error));
    QCNN_TRY(check_n_classes(model, lines.number, error));

    char **old_classes = model->classes;
    const size_t n_old = model->n_classes, old_capacity = model->class_capacity;
    model->classes = NULL;
    model->n_classes = model->class_capacity = 0;
    const qcnn_status status = add_classes(model, qcnn_lines_of(text, n_bytes), error);
    if (status == QCNN_OK) {
        free_classes(old_classes, n_old);
        return QCNN_OK;
    }
    free_classes(model->classes, model->n_classes);
    model->classes = old_classes;
    model->n_classes = n_old;
    model->class_capacity = old_capacity;
    return status;
}

qcnn_status qcnn_model_set_preprocess_text(qcnn_model *model, const char *text, size_t n_bytes, qcnn_error *error)
{
    qcnn_preprocess preprocess;
    if (!model)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "qcnn_model_set_preprocess_text: a pointer is null");
    QCNN_TRY(qcnn_preprocess_parse(text, n_bytes, &preprocess, error));
    return qcnn_model_set_preprocessing(model, text, n_bytes, error);
}
