// SPDX-License-Identifier: Apache-2.0
// Reading preprocess.json. Every key is required and none other is known: a misspelt one must not pass for a default.

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "base/status.h"
#include "qcnn_image.h"

enum { MAX_JSON_BYTES = 64 << 10, MAX_JSON_SIDE = 1 << 15 };

typedef qcnn_status key_reader(const cJSON *value, qcnn_preprocess *preprocess, qcnn_error *error);

static bool is_side(const cJSON *value, int lowest)
{
    return cJSON_IsNumber(value) && value->valuedouble >= lowest && value->valuedouble <= MAX_JSON_SIDE &&
           value->valuedouble == floor(value->valuedouble);
}

static qcnn_status read_resize(const cJSON *value, qcnn_preprocess *preprocess, qcnn_error *error)
{
    const bool list = cJSON_IsArray(value);
    for (const cJSON *item = list ? value->child : value; item; item = list ? item->next : NULL) {
        if (!is_side(item, 1) || preprocess->n_resizes == QCNN_MAX_RESIZES)
            return qcnn_fail(error, QCNN_ERROR_FORMAT,
                             "preprocess.json: resize_shorter must be a side of 1 to %d pixels, or a list of at most %d", MAX_JSON_SIDE,
                             QCNN_MAX_RESIZES);
        preprocess->resize_shorter[preprocess->n_resizes++] = (int)item->valuedouble;
    }
    return QCNN_OK;
}

static qcnn_status read_interpolation(const cJSON *value, qcnn_preprocess *preprocess, qcnn_error *error)
{
    (void)preprocess;
    if (!cJSON_IsString(value) || strcmp(value->valuestring, "bilinear") != 0)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "preprocess.json: interpolation must be \"bilinear\"");
    return QCNN_OK;
}

static qcnn_status read_crop(const cJSON *value, qcnn_preprocess *preprocess, qcnn_error *error)
{
    if (!is_side(value, 0))
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "preprocess.json: crop must be a side of at most %d pixels, or 0 for none",
                         MAX_JSON_SIDE);
    preprocess->crop = (int)value->valuedouble;
    return QCNN_OK;
}

static qcnn_status read_channels(const cJSON *value, qcnn_preprocess *preprocess, qcnn_error *error)
{
    const char *text = cJSON_IsString(value) ? value->valuestring : "";
    preprocess->bgr = strcmp(text, "BGR") == 0;
    preprocess->n_channels = strcmp(text, "GRAY") == 0 ? 1 : 3;
    if (!preprocess->bgr && preprocess->n_channels == 3 && strcmp(text, "RGB") != 0)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "preprocess.json: channels must be \"RGB\", \"BGR\" or \"GRAY\"");
    return QCNN_OK;
}

// One number for each channel: finite as a float and at least `lowest` in size.
static qcnn_status read_numbers(const cJSON *value, int n, double lowest, float *numbers, const char *key, qcnn_error *error)
{
    bool valid = cJSON_IsArray(value) && cJSON_GetArraySize(value) == n;
    const cJSON *item = valid ? value->child : NULL;
    for (int i = 0; valid && i < n; i++, item = item->next) {
        valid = cJSON_IsNumber(item) && fabs(item->valuedouble) >= lowest && fabs(item->valuedouble) <= 1e6;
        numbers[i] = valid ? (float)item->valuedouble : 0;
    }
    if (!valid)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "preprocess.json: %s must be a list of %d numbers, one for each channel%s", key, n,
                         lowest > 0 ? ", none of them 0" : "");
    return QCNN_OK;
}

// Read after "channels", which says how many there are: see the order of `keys`.
static qcnn_status read_mean(const cJSON *value, qcnn_preprocess *preprocess, qcnn_error *error)
{
    return read_numbers(value, preprocess->n_channels, 0, preprocess->mean, "mean", error);
}

static qcnn_status read_std(const cJSON *value, qcnn_preprocess *preprocess, qcnn_error *error)
{
    return read_numbers(value, preprocess->n_channels, 1e-6, preprocess->std, "std", error);
}

static const struct {
    const char *name;
    key_reader *read;
} keys[] = {
    { "resize_shorter", read_resize },
    { "interpolation", read_interpolation },
    { "crop", read_crop },
    { "channels", read_channels },
    { "mean", read_mean },
    { "std", read_std },
};
enum { N_KEYS = sizeof keys / sizeof keys[0] };

static qcnn_status read_object(const cJSON *object, qcnn_preprocess *preprocess, qcnn_error *error)
{
    const cJSON *values[N_KEYS] = { 0 };
    if (!cJSON_IsObject(object))
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "preprocess.json: not a JSON object");
    for (const cJSON *item = object->child; item; item = item->next) {
        int key = 0;
        while (key < N_KEYS && strcmp(keys[key].name, item->string) != 0)
            key++;
        if (key == N_KEYS)
            return qcnn_fail(error, QCNN_ERROR_FORMAT, "preprocess.json: unknown key \"%.40s\"", item->string);
        if (values[key])
            return qcnn_fail(error, QCNN_ERROR_FORMAT, "preprocess.json: %s stands there twice", keys[key].name);
        values[key] = item;
    }
    for (int key = 0; key < N_KEYS; key++) {
        if (!values[key])
            return qcnn_fail(error, QCNN_ERROR_FORMAT, "preprocess.json: %s is missing", keys[key].name);
        QCNN_TRY(keys[key].read(values[key], preprocess, error));
    }
    return QCNN_OK;
}

qcnn_status qcnn_preprocess_parse(const char *text, size_t n_bytes, qcnn_preprocess *preprocess, qcnn_error *error)
{
    if (!preprocess || (!text && n_bytes > 0))
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "qcnn_preprocess_parse: a pointer is null");
    *preprocess = (qcnn_preprocess){ 0 };
    if (n_bytes == 0 || n_bytes > MAX_JSON_BYTES)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "preprocess.json: %zu bytes, where 1 to %d are expected", n_bytes, MAX_JSON_BYTES);
    const char *end = NULL;
    cJSON *object = cJSON_ParseWithLengthOpts(text, n_bytes, &end, 0);
    if (!object)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "preprocess.json: not valid JSON near byte %td", end ? end - text : 0);
    qcnn_status status = QCNN_OK;
    while (end < text + n_bytes && strchr(" \t\r\n", *end) && *end)
        end++;
    if (end < text + n_bytes)
        status = qcnn_fail(error, QCNN_ERROR_FORMAT, "preprocess.json: something follows the JSON object at byte %td", end - text);
    else
        status = read_object(object, preprocess, error);
    cJSON_Delete(object);
    if (status != QCNN_OK)
        *preprocess = (qcnn_preprocess){ 0 };
    return status;
}
