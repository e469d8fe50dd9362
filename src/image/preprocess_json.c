// SPDX-License-Identifier: Apache-2.0
// Reading preprocess.json. Every key is required and none other is known: a misspelt one must not pass for a default. The
// reader knows only the JSON that can stand there (an object of strings, numbers and lists of numbers) and needs libc alone, so
// that apps compile it beside preprocess.c; numbers do not depend on the locale.

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/status.h"
#include "qcnn_image.h"

enum { MAX_JSON_BYTES = 64 << 10, MAX_JSON_SIDE = 1 << 15, MAX_NUMBERS = 4, MAX_TEXT = 40 };
_Static_assert((int)MAX_NUMBERS >= (int)QCNN_MAX_RESIZES, "a list must hold all resizes");

typedef struct json_reader {
    const char *text, *at, *end;
} json_reader;

typedef enum value_kind { VALUE_TEXT, VALUE_NUMBER, VALUE_LIST, VALUE_OTHER } value_kind;

typedef struct json_value {
    value_kind kind;
    char text[MAX_TEXT + 1];
    double numbers[MAX_NUMBERS]; // of a list: those that fit
    int n_numbers;               // of a list: all of them; -1 where one item is no number
} json_value;

static qcnn_status fail_syntax(const json_reader *reader, qcnn_error *error)
{
    return qcnn_fail(error, QCNN_ERROR_FORMAT, "preprocess.json: not valid JSON near byte %td", reader->at - reader->text);
}

static void skip_space(json_reader *reader)
{
    while (reader->at < reader->end && (*reader->at == ' ' || *reader->at == '\t' || *reader->at == '\r' || *reader->at == '\n'))
        reader->at++;
}

// Whether the next character, spaces aside, is this one; takes it.
static bool take(json_reader *reader, char character)
{
    skip_space(reader);
    if (reader->at == reader->end || *reader->at != character)
        return false;
    reader->at++;
    return true;
}

// The same without leaving out spaces.
static bool take_next(json_reader *reader, char character)
{
    const bool there = reader->at < reader->end && *reader->at == character;
    reader->at += there;
    return there;
}

// After the opening quote. What does not fit into MAX_TEXT is cut off: no word that is known is that long. Neither does one
// need escapes, so a backslash stays as it is and takes the character behind it along.
static qcnn_status read_text(json_reader *reader, char text[MAX_TEXT + 1], qcnn_error *error)
{
    size_t n = 0;
    while (reader->at < reader->end && *reader->at != '"') {
        if ((unsigned char)*reader->at < ' ')
            return fail_syntax(reader, error);
        const int n_taken = *reader->at == '\\' && reader->end - reader->at > 1 ? 2 : 1;
        for (int i = 0; i < n_taken; i++, reader->at++)
            if (n < MAX_TEXT)
                text[n++] = *reader->at;
    }
    text[n] = 0;
    return take_next(reader, '"') ? QCNN_OK : fail_syntax(reader, error);
}

static int count_digits(json_reader *reader, double *mantissa)
{
    int n = 0;
    for (; reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9'; reader->at++, n++)
        *mantissa = *mantissa * 10 + (*reader->at - '0');
    return n;
}

// Exact to a unit in the last place of a double for what people write: up to 15 digits and powers of ten up to 22.
static qcnn_status read_number(json_reader *reader, double *number, qcnn_error *error)
{
    const bool negative = take_next(reader, '-');
    double mantissa = 0, power = 0;
    int scale = 0;
    if (count_digits(reader, &mantissa) == 0)
        return fail_syntax(reader, error);
    if (take_next(reader, '.')) {
        scale = -count_digits(reader, &mantissa);
        if (scale == 0)
            return fail_syntax(reader, error);
    }
    if (take_next(reader, 'e') || take_next(reader, 'E')) {
        const bool below = take_next(reader, '-');
        if (!below)
            take_next(reader, '+');
        if (count_digits(reader, &power) == 0)
            return fail_syntax(reader, error);
        const int shift = power > 4096 ? 4096 : (int)power;
        scale += below ? -shift : shift;
    }
    double factor = 1;
    for (int i = scale < 0 ? -scale : scale; i > 0 && factor < 1e300; i--)
        factor *= 10;
    *number = scale < 0 ? mantissa / factor : mantissa * factor;
    if (negative)
        *number = -*number;
    return QCNN_OK;
}

static bool starts_number(const json_reader *reader)
{
    return reader->at < reader->end && (*reader->at == '-' || (*reader->at >= '0' && *reader->at <= '9'));
}

// true, false and null: valid, but no value of any key.
static bool take_word(json_reader *reader)
{
    static const char *const words[] = { "true", "false", "null" };
    for (int i = 0; i < 3; i++) {
        const size_t n = strlen(words[i]);
        if ((size_t)(reader->end - reader->at) >= n && memcmp(reader->at, words[i], n) == 0) {
            reader->at += n;
            return true;
        }
    }
    return false;
}

// After the opening bracket.
static qcnn_status read_list(json_reader *reader, json_value *value, qcnn_error *error)
{
    int n = 0;
    bool all_numbers = true;
    if (take(reader, ']'))
        return QCNN_OK;
    do {
        skip_space(reader);
        double number = 0;
        char ignored[MAX_TEXT + 1];
        if (starts_number(reader)) {
            QCNN_TRY(read_number(reader, &number, error));
        } else {
            all_numbers = false;
            if (take(reader, '"'))
                QCNN_TRY(read_text(reader, ignored, error));
            else if (!take_word(reader))
                return fail_syntax(reader, error);
        }
        if (n < MAX_NUMBERS)
            value->numbers[n] = number;
        n++;
    } while (take(reader, ','));
    value->n_numbers = all_numbers ? n : -1;
    return take(reader, ']') ? QCNN_OK : fail_syntax(reader, error);
}

static qcnn_status read_value(json_reader *reader, json_value *value, qcnn_error *error)
{
    *value = (json_value){ .kind = VALUE_OTHER };
    skip_space(reader);
    if (starts_number(reader)) {
        value->kind = VALUE_NUMBER;
        return read_number(reader, &value->numbers[0], error);
    }
    if (take(reader, '"')) {
        value->kind = VALUE_TEXT;
        return read_text(reader, value->text, error);
    }
    if (take(reader, '[')) {
        value->kind = VALUE_LIST;
        return read_list(reader, value, error);
    }
    if (take(reader, '{'))
        return take(reader, '}') ? QCNN_OK : fail_syntax(reader, error);
    return take_word(reader) ? QCNN_OK : fail_syntax(reader, error);
}

typedef qcnn_status key_reader(const json_value *value, qcnn_preprocess *preprocess, qcnn_error *error);

static bool is_side(double number, int lowest)
{
    return number >= lowest && number <= MAX_JSON_SIDE && number == floor(number);
}

static qcnn_status read_resize(const json_value *value, qcnn_preprocess *preprocess, qcnn_error *error)
{
    const int n = value->kind == VALUE_NUMBER ? 1 : value->kind == VALUE_LIST ? value->n_numbers : -1;
    bool valid = n >= 0 && n <= QCNN_MAX_RESIZES;
    for (int i = 0; valid && i < n; i++) {
        valid = is_side(value->numbers[i], 1);
        preprocess->resize_shorter[i] = valid ? (int)value->numbers[i] : 0;
    }
    if (!valid)
        return qcnn_fail(error, QCNN_ERROR_FORMAT,
                         "preprocess.json: resize_shorter must be a side of 1 to %d pixels, or a list of at most %d", MAX_JSON_SIDE,
                         QCNN_MAX_RESIZES);
    preprocess->n_resizes = n;
    return QCNN_OK;
}

static qcnn_status read_interpolation(const json_value *value, qcnn_preprocess *preprocess, qcnn_error *error)
{
    (void)preprocess;
    if (value->kind != VALUE_TEXT || strcmp(value->text, "bilinear") != 0)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "preprocess.json: interpolation must be \"bilinear\"");
    return QCNN_OK;
}

static qcnn_status read_crop(const json_value *value, qcnn_preprocess *preprocess, qcnn_error *error)
{
    if (value->kind != VALUE_NUMBER || !is_side(value->numbers[0], 0))
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "preprocess.json: crop must be a side of at most %d pixels, or 0 for none",
                         MAX_JSON_SIDE);
    preprocess->crop = (int)value->numbers[0];
    return QCNN_OK;
}

static qcnn_status read_channels(const json_value *value, qcnn_preprocess *preprocess, qcnn_error *error)
{
    preprocess->bgr = strcmp(value->text, "BGR") == 0;
    preprocess->n_channels = strcmp(value->text, "GRAY") == 0 ? 1 : 3;
    if (!preprocess->bgr && preprocess->n_channels == 3 && strcmp(value->text, "RGB") != 0)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "preprocess.json: channels must be \"RGB\", \"BGR\" or \"GRAY\"");
    return QCNN_OK;
}

// One number for each channel: finite as a float and at least `lowest` in size.
static qcnn_status read_numbers(const json_value *value, int n, double lowest, float *numbers, const char *key, qcnn_error *error)
{
    bool valid = value->kind == VALUE_LIST && value->n_numbers == n;
    for (int i = 0; valid && i < n; i++) {
        const double size = fabs(value->numbers[i]);
        valid = size >= lowest && size <= 1e6;
        numbers[i] = valid ? (float)value->numbers[i] : 0;
    }
    if (!valid)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "preprocess.json: %s must be a list of %d numbers, one for each channel%s", key, n,
                         lowest > 0 ? ", none of them 0" : "");
    return QCNN_OK;
}

// Read after "channels", which says how many there are: see the order of `keys`.
static qcnn_status read_mean(const json_value *value, qcnn_preprocess *preprocess, qcnn_error *error)
{
    return read_numbers(value, preprocess->n_channels, 0, preprocess->mean, "mean", error);
}

static qcnn_status read_std(const json_value *value, qcnn_preprocess *preprocess, qcnn_error *error)
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

// "key": value, the name looked up among `keys`.
static qcnn_status read_member(json_reader *reader, json_value values[N_KEYS], bool found[N_KEYS], qcnn_error *error)
{
    char name[MAX_TEXT + 1];
    if (!take(reader, '"'))
        return fail_syntax(reader, error);
    QCNN_TRY(read_text(reader, name, error));
    int key = 0;
    while (key < N_KEYS && strcmp(keys[key].name, name) != 0)
        key++;
    if (key == N_KEYS)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "preprocess.json: unknown key \"%s\"", name);
    if (found[key])
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "preprocess.json: %s stands there twice", name);
    found[key] = true;
    return take(reader, ':') ? read_value(reader, &values[key], error) : fail_syntax(reader, error);
}

static qcnn_status read_object(json_reader *reader, qcnn_preprocess *preprocess, qcnn_error *error)
{
    json_value values[N_KEYS];
    bool found[N_KEYS] = { false };
    if (!take(reader, '{'))
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "preprocess.json: not a JSON object");
    if (!take(reader, '}')) {
        do
            QCNN_TRY(read_member(reader, values, found, error));
        while (take(reader, ','));
        if (!take(reader, '}'))
            return fail_syntax(reader, error);
    }
    skip_space(reader);
    if (reader->at < reader->end)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "preprocess.json: something follows the JSON object at byte %td",
                         reader->at - reader->text);
    for (int key = 0; key < N_KEYS; key++) {
        if (!found[key])
            return qcnn_fail(error, QCNN_ERROR_FORMAT, "preprocess.json: %s is missing", keys[key].name);
        QCNN_TRY(keys[key].read(&values[key], preprocess, error));
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
    json_reader reader = { text, text, text + n_bytes };
    const qcnn_status status = read_object(&reader, preprocess, error);
    if (status != QCNN_OK)
        *preprocess = (qcnn_preprocess){ 0 };
    return status;
}
