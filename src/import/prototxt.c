// SPDX-License-Identifier: Apache-2.0
// Parser of Protocol Buffers' text format, as much of it as network descriptions use.

#include "import/prototxt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { MAX_FIELDS = 1 << 16, MAX_NESTING = 32, MAX_NUMBER = 40 };

typedef struct text_reader {
    qcnn_span rest;
    int line;
    prototxt *result;
    int open[MAX_NESTING]; // messages not yet closed
    int depth;
    qcnn_error *error;
} text_reader;

static qcnn_status bad_text(const text_reader *reader, const char *what)
{
    return qcnn_fail(reader->error, QCNN_ERROR_FORMAT, "prototxt line %d: %s", reader->line, what);
}

// ---- characters -----------------------------------------------------------------------------------------------------

static int peek(const text_reader *reader)
{
    return reader->rest.n ? reader->rest.data[0] : -1;
}

static void advance(text_reader *reader)
{
    reader->line += reader->rest.data[0] == '\n';
    reader->rest.data++;
    reader->rest.n--;
}

static void skip_blanks(text_reader *reader)
{
    for (int c = peek(reader); c >= 0; c = peek(reader)) {
        if (c == '#')
            while (peek(reader) >= 0 && peek(reader) != '\n')
                advance(reader);
        else if (c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == ',' || c == ';')
            advance(reader);
        else
            return;
    }
}

static bool take(text_reader *reader, int c)
{
    skip_blanks(reader);
    if (peek(reader) != c)
        return false;
    advance(reader);
    return true;
}

static bool is_word_character(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '+' || c == '-';
}

// A name, a number, or a quoted string without its quotes.
static qcnn_status take_word(text_reader *reader, qcnn_span *word)
{
    skip_blanks(reader);
    const int quote = peek(reader) == '"' || peek(reader) == '\'' ? peek(reader) : 0;
    if (quote)
        advance(reader);
    *word = (qcnn_span){ reader->rest.data, 0 };
    while (quote ? peek(reader) >= ' ' && peek(reader) != quote : is_word_character(peek(reader))) {
        advance(reader);
        word->n++;
    }
    if (quote ? peek(reader) != quote : word->n == 0)
        return bad_text(reader, quote ? "a string does not end" : "a name or a value is missing");
    if (quote)
        advance(reader);
    return QCNN_OK;
}

// ---- fields ---------------------------------------------------------------------------------------------------------

static qcnn_status add_field(text_reader *reader, qcnn_span name, qcnn_span value, bool is_message)
{
    prototxt *result = reader->result;
    if (result->n_fields >= MAX_FIELDS)
        return qcnn_fail(reader->error, QCNN_ERROR_UNSUPPORTED, "the prototxt has more than %d fields", MAX_FIELDS);
    if (!qcnn_reserve(&result->fields, &result->capacity, result->n_fields + 1, sizeof *result->fields))
        return qcnn_fail_memory(reader->error, result->n_fields * sizeof *result->fields);
    const int index = (int)result->n_fields++;
    result->fields[index] = (prototxt_field){ name, value, is_message, index + 1 };
    return QCNN_OK;
}

static qcnn_status open_message(text_reader *reader, qcnn_span name)
{
    if (reader->depth == MAX_NESTING)
        return qcnn_fail(reader->error, QCNN_ERROR_UNSUPPORTED, "prototxt line %d: messages nest deeper than %d", reader->line,
                         MAX_NESTING);
    reader->open[reader->depth++] = (int)reader->result->n_fields;
    return add_field(reader, name, (qcnn_span){ 0 }, true);
}

static void close_message(text_reader *reader)
{
    reader->result->fields[reader->open[--reader->depth]].next = (int)reader->result->n_fields;
}

// One field, or the end of a message.
static qcnn_status parse_field(text_reader *reader)
{
    qcnn_span name, value;
    if (reader->depth > 1 && take(reader, '}')) {
        close_message(reader);
        return QCNN_OK;
    }
    QCNN_TRY(take_word(reader, &name));
    const bool colon = take(reader, ':');
    if (take(reader, '{'))
        return open_message(reader, name);
    if (!colon)
        return bad_text(reader, "neither ':' nor '{' follows a name");
    const bool is_list = take(reader, '[');
    while (!is_list || !take(reader, ']')) {
        QCNN_TRY(take_word(reader, &value));
        QCNN_TRY(add_field(reader, name, value, false));
        if (!is_list)
            break;
    }
    return QCNN_OK;
}

qcnn_status qcnn_prototxt_parse(qcnn_span text, prototxt *result, qcnn_error *error)
{
    *result = (prototxt){ 0 };
    text_reader reader = { .rest = text, .line = 1, .result = result, .error = error };
    QCNN_TRY(open_message(&reader, (qcnn_span){ 0 }));
    for (skip_blanks(&reader); peek(&reader) >= 0; skip_blanks(&reader))
        QCNN_TRY(parse_field(&reader));
    if (reader.depth != 1)
        return bad_text(&reader, "a message is not closed");
    close_message(&reader);
    return QCNN_OK;
}

void qcnn_prototxt_free(prototxt *result)
{
    qcnn_release(result->fields);
    *result = (prototxt){ 0 };
}

// ---- access ---------------------------------------------------------------------------------------------------------

int qcnn_prototxt_find(const prototxt *text, int in, const char *name, int nth)
{
    if (in < 0)
        return -1;
    for (int i = in + 1; i < text->fields[in].next; i = text->fields[i].next)
        if (qcnn_span_is(text->fields[i].name, name) && nth-- == 0)
            return i;
    return -1;
}

qcnn_span qcnn_prototxt_text(const prototxt *text, int in, const char *name)
{
    const int field = qcnn_prototxt_find(text, in, name, 0);
    return field < 0 ? (qcnn_span){ 0 } : text->fields[field].value;
}

// The value of a field as a C string; false when it is absent.
static bool number_text(const prototxt *text, int in, const char *name, int nth, char number[MAX_NUMBER])
{
    const int field = qcnn_prototxt_find(text, in, name, nth);
    if (field < 0)
        return false;
    const qcnn_span value = text->fields[field].value;
    const size_t n = value.n < MAX_NUMBER ? value.n : 0; // too long: empty, and so no number
    if (n)
        memcpy(number, value.data, n);
    number[n] = 0;
    return true;
}

int64_t qcnn_prototxt_int(const prototxt *text, int in, const char *name, int nth, int64_t otherwise, bool *valid)
{
    char number[MAX_NUMBER], *end;
    if (!number_text(text, in, name, nth, number))
        return otherwise;
    errno = 0;
    const long long value = strtoll(number, &end, 10);
    if (end == number || *end || errno)
        *valid = false;
    return value;
}

float qcnn_prototxt_float(const prototxt *text, int in, const char *name, int nth, float otherwise, bool *valid)
{
    char number[MAX_NUMBER], *end;
    if (!number_text(text, in, name, nth, number))
        return otherwise;
    const float value = strtof(number, &end);
    if (end != number && *end == 'f')
        end++;
    if (end == number || *end)
        *valid = false;
    return value;
}

bool qcnn_prototxt_bool(const prototxt *text, int in, const char *name, bool otherwise, bool *valid)
{
    char word[MAX_NUMBER];
    if (!number_text(text, in, name, 0, word))
        return otherwise;
    const bool yes = !strcmp(word, "true") || !strcmp(word, "1"), no = !strcmp(word, "false") || !strcmp(word, "0");
    *valid &= yes || no;
    return yes;
}
