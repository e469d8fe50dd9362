// SPDX-License-Identifier: Apache-2.0
// NumPy's .npy files (numpy.lib.format, versions 1.0 to 3.0): a magic string, the version, the length of a header, the header
// (a Python dict of descr, fortran_order and shape, nothing else), then the elements.

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/half.h"
#include "base/memory.h"
#include "base/status.h"
#include "image/read_file.h"
#include "qcnn_compress.h"

static const uint8_t npy_magic[6] = { 0x93, 'N', 'U', 'M', 'P', 'Y' };
static const uint64_t max_npy_bytes = (uint64_t)16 << 30;

typedef struct npy_type {
    char kind; // as in descr: float, signed, unsigned, bool
    int bytes;
} npy_type;

typedef struct npy_header {
    npy_type type;
    bool big_endian, fortran_order;
    qcnn_shape shape;
} npy_header;

// ---- the header -----------------------------------------------------------------------------------------------------

typedef struct npy_text {
    const char *next, *end;
} npy_text;

static void skip_spaces(npy_text *text)
{
    while (text->next < text->end && *text->next == ' ')
        text->next++;
}

// Takes `word` if it comes next, spaces before it aside.
static bool take(npy_text *text, const char *word)
{
    skip_spaces(text);
    const size_t n = strlen(word);
    if ((size_t)(text->end - text->next) < n || memcmp(text->next, word, n) != 0)
        return false;
    text->next += n;
    return true;
}

// 'text' or "text", into `to` with a zero after it.
static bool take_string(npy_text *text, char to[16])
{
    const char *quote = take(text, "'") ? "'" : take(text, "\"") ? "\"" : NULL;
    size_t n = 0;
    if (!quote)
        return false;
    while (text->next < text->end && *text->next != *quote && n < 15)
        to[n++] = *text->next++;
    to[n] = 0;
    return text->next < text->end && *text->next++ == *quote;
}

static bool take_number(npy_text *text, int64_t *number)
{
    skip_spaces(text);
    const char *first = text->next;
    uint64_t value = 0;
    while (text->next < text->end && *text->next >= '0' && *text->next <= '9')
        if (!qcnn_multiply(value, 10, &value) || !qcnn_add(value, (uint64_t)(*text->next++ - '0'), &value) || value > INT64_MAX)
            return false;
    *number = (int64_t)value;
    return text->next > first;
}

// (), (4,) or (4, 3, ...).
static qcnn_status read_shape(npy_text *text, qcnn_shape *shape, qcnn_error *error)
{
    bool comma = true;
    if (!take(text, "("))
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "npy: the header's shape is not a tuple");
    while (!take(text, ")")) {
        int64_t dim;
        if (!comma || !take_number(text, &dim))
            return qcnn_fail(error, QCNN_ERROR_FORMAT, "npy: the header's shape is malformed");
        if (shape->rank == QCNN_MAX_RANK)
            return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "npy: more than %d dimensions", QCNN_MAX_RANK);
        if (dim == 0)
            return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "npy: dimension %d is 0: the array holds nothing", shape->rank);
        shape->dims[shape->rank++] = dim;
        comma = take(text, ",");
    }
    if (shape->rank == 1 && !comma)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "npy: the header's shape is a number, where a tuple is expected");
    return QCNN_OK;
}

static qcnn_status read_type(npy_text *text, npy_header *header, qcnn_error *error)
{
    static const npy_type known[] = {
        { 'f', 2 }, { 'f', 4 }, { 'f', 8 }, { 'i', 1 }, { 'i', 2 }, { 'i', 4 }, { 'i', 8 }, { 'u', 1 }, { 'u', 2 }, { 'u', 4 }, { 'b', 1 },
    };
    char descr[16];
    if (!take_string(text, descr))
        return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "npy: the element type is not a plain one, such as '<f4'");
    for (size_t i = 0; strlen(descr) == 3 && i < sizeof known / sizeof known[0]; i++) {
        const bool order_fits = known[i].bytes == 1 ? strchr("|<>", descr[0]) != NULL : descr[0] == '<' || descr[0] == '>';
        if (order_fits && descr[1] == known[i].kind && descr[2] == '0' + known[i].bytes) {
            header->type = known[i];
            header->big_endian = descr[0] == '>';
            return QCNN_OK;
        }
    }
    return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "npy: element type '%s': save it as float32 or int64", descr);
}

static qcnn_status read_order(npy_text *text, npy_header *header, qcnn_error *error)
{
    header->fortran_order = take(text, "True");
    if (!header->fortran_order && !take(text, "False"))
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "npy: the header's fortran_order is neither True nor False");
    return QCNN_OK;
}

static qcnn_status read_header(npy_text text, npy_header *header, qcnn_error *error)
{
    enum { DESCR = 1, ORDER = 2, SHAPE = 4 };
    unsigned seen = 0;
    bool comma = take(&text, "{");
    while (!take(&text, "}")) {
        char key[16];
        if (!comma || !take_string(&text, key) || !take(&text, ":"))
            return qcnn_fail(error, QCNN_ERROR_FORMAT, "npy: the header is not a dict of descr, fortran_order and shape");
        const unsigned bit = strcmp(key, "descr") == 0           ? DESCR
                             : strcmp(key, "fortran_order") == 0 ? ORDER
                             : strcmp(key, "shape") == 0         ? SHAPE
                                                                 : 0;
        if (bit == 0 || (seen & bit))
            return qcnn_fail(error, QCNN_ERROR_FORMAT, "npy: the header's key '%s' is unknown or stands there twice", key);
        seen |= bit;
        QCNN_TRY(bit == DESCR   ? read_type(&text, header, error)
                 : bit == ORDER ? read_order(&text, header, error)
                                : read_shape(&text, &header->shape, error));
        comma = take(&text, ",");
    }
    while (text.next < text.end && (*text.next == ' ' || *text.next == '\n'))
        text.next++;
    if (seen != (DESCR | ORDER | SHAPE) || text.next != text.end)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "npy: the header lacks descr, fortran_order or shape, or does not end after them");
    return QCNN_OK;
}

// ---- the elements ---------------------------------------------------------------------------------------------------

static uint64_t read_bits(const uint8_t *p, int n_bytes, bool big_endian)
{
    uint64_t bits = 0;
    for (int i = 0; i < n_bytes; i++)
        bits = bits << 8 | p[big_endian ? i : n_bytes - 1 - i];
    return bits;
}

static float to_float(uint64_t bits, int n_bytes)
{
    if (n_bytes == 2)
        return qcnn_half_to_float((uint16_t)bits);
    if (n_bytes == 8) {
        double value;
        memcpy(&value, &bits, sizeof value);
        return (float)value;
    }
    const uint32_t word = (uint32_t)bits;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

static int64_t to_integer(uint64_t bits, npy_type type)
{
    if (type.kind == 'b')
        return bits != 0;
    const int unused = 64 - 8 * type.bytes;
    return type.kind == 'u' ? (int64_t)bits : (int64_t)(bits << unused) >> unused;
}

// Distance in elements of neighbours along each dimension of the file's order.
static void file_strides(const npy_header *header, uint64_t strides[QCNN_MAX_RANK])
{
    const int rank = header->shape.rank;
    uint64_t stride = 1;
    for (int i = 0; i < rank; i++) {
        const int d = header->fortran_order ? i : rank - 1 - i;
        strides[d] = stride;
        stride *= (uint64_t)header->shape.dims[d];
    }
}

static void read_elements(const npy_header *header, const uint8_t *data, uint64_t n_elements, qcnn_array *array)
{
    uint64_t strides[QCNN_MAX_RANK] = { 0 }, offset = 0;
    int64_t index[QCNN_MAX_RANK] = { 0 };
    file_strides(header, strides);
    for (uint64_t i = 0; i < n_elements; i++) {
        const uint64_t bits = read_bits(data + offset * (uint64_t)header->type.bytes, header->type.bytes, header->big_endian);
        if (array->data)
            array->data[i] = to_float(bits, header->type.bytes);
        else
            array->integers[i] = to_integer(bits, header->type);
        for (int d = header->shape.rank - 1; d >= 0; d--) { // the next index, last dimension fastest
            offset += strides[d];
            if (++index[d] < header->shape.dims[d])
                break;
            offset -= strides[d] * (uint64_t)index[d];
            index[d] = 0;
        }
    }
}

// ---- public ---------------------------------------------------------------------------------------------------------

// Where the header's text lies.
static qcnn_status find_header(const uint8_t *bytes, size_t n_bytes, npy_text *text, qcnn_error *error)
{
    if (n_bytes < 10 || memcmp(bytes, npy_magic, sizeof npy_magic) != 0)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "npy: not a .npy file");
    const int major = bytes[6], minor = bytes[7];
    if (major < 1 || major > 3 || minor != 0)
        return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "npy: format version %d.%d, where 1.0, 2.0 and 3.0 are known", major, minor);
    const size_t length_bytes = major == 1 ? 2 : 4, start = 8 + length_bytes;
    if (n_bytes < start || read_bits(bytes + 8, (int)length_bytes, false) > n_bytes - start)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "npy: the file is cut off in its header");
    text->next = (const char *)bytes + start;
    text->end = text->next + read_bits(bytes + 8, (int)length_bytes, false);
    return QCNN_OK;
}

qcnn_status qcnn_npy_parse(const void *data, size_t n_bytes, qcnn_array *array, qcnn_error *error)
{
    if (!array || (!data && n_bytes > 0))
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "qcnn_npy_parse: a pointer is null");
    *array = (qcnn_array){ 0 };
    npy_text text;
    npy_header header = { 0 };
    QCNN_TRY(find_header(data, n_bytes, &text, error));
    QCNN_TRY(read_header(text, &header, error));

    uint64_t n_elements = 1, expected;
    bool fits = true;
    for (int d = 0; d < header.shape.rank; d++)
        fits = fits && qcnn_multiply(n_elements, (uint64_t)header.shape.dims[d], &n_elements);
    fits = fits && qcnn_multiply(n_elements, (uint64_t)header.type.bytes, &expected);
    const uint8_t *elements = (const uint8_t *)text.end;
    const size_t n_left = n_bytes - (size_t)(elements - (const uint8_t *)data);
    if (!fits || expected != n_left)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "npy: %zu bytes follow the header, not as many as its shape and type ask for", n_left);

    const bool is_float = header.type.kind == 'f';
    void *values = qcnn_allocate((size_t)n_elements, is_float ? sizeof *array->data : sizeof *array->integers);
    if (!values)
        return qcnn_fail_memory(error, (size_t)n_elements * sizeof *array->data);
    *array = (qcnn_array){ header.shape, is_float ? values : NULL, is_float ? NULL : values };
    read_elements(&header, elements, n_elements, array);
    return QCNN_OK;
}

qcnn_status qcnn_npy_read(const char *path, qcnn_array *array, qcnn_error *error)
{
    if (!path || !array)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "qcnn_npy_read: a pointer is null");
    *array = (qcnn_array){ 0 };
    uint8_t *data;
    size_t n_bytes;
    QCNN_TRY(qcnn_read_whole_file(path, max_npy_bytes, &data, &n_bytes, error));
    qcnn_error inner;
    qcnn_status status = qcnn_npy_parse(data, n_bytes, array, &inner);
    if (status != QCNN_OK)
        status = qcnn_fail(error, status, "%s: %s", path, inner.message);
    qcnn_release(data);
    return status;
}

// Version 1.0, padded so that the elements start at a multiple of 64 bytes; returns that length.
static size_t make_header(const qcnn_shape *shape, char header[384])
{
    char dims[256] = "";
    int n = 0;
    for (int d = 0; d < shape->rank; d++)
        n += snprintf(dims + n, sizeof dims - (size_t)n, d == 0 ? "%lld," : d == 1 ? " %lld" : ", %lld", (long long)shape->dims[d]);
    memcpy(header, npy_magic, sizeof npy_magic);
    memcpy(header + 6, "\1\0", 2);
    const int text = snprintf(header + 10, 384 - 10, "{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }", dims);
    const size_t total = (10 + (size_t)text + 1 + 63) / 64 * 64;
    memset(header + 10 + text, ' ', total - 10 - (size_t)text);
    header[total - 1] = '\n';
    header[8] = (char)((total - 10) & 0xff);
    header[9] = (char)((total - 10) >> 8);
    return total;
}

qcnn_status qcnn_npy_write(const char *path, const qcnn_shape *shape, const float *data, qcnn_error *error)
{
    if (!path || !shape || !data || shape->rank < 0 || shape->rank > QCNN_MAX_RANK)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "qcnn_npy_write: a pointer is null or the rank out of range");
    uint64_t n_bytes = sizeof *data, total;
    for (int d = 0; d < shape->rank; d++)
        if (shape->dims[d] < 1 || !qcnn_multiply(n_bytes, (uint64_t)shape->dims[d], &n_bytes))
            return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "qcnn_npy_write: dimension %d is out of range", d);
    char header[384];
    const size_t header_bytes = make_header(shape, header);
    if (!qcnn_add(n_bytes, header_bytes, &total))
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "qcnn_npy_write: the array is too large");
    uint8_t *file = qcnn_allocate((size_t)total, 1);
    if (!file)
        return qcnn_fail_memory(error, (size_t)total);
    memcpy(file, header, header_bytes);
    memcpy(file + header_bytes, data, (size_t)n_bytes);
    const qcnn_status status = qcnn_write_file(path, file, (size_t)total, error);
    qcnn_release(file);
    return status;
}

void qcnn_array_free(qcnn_array *array)
{
    if (!array)
        return;
    qcnn_release(array->data);
    qcnn_release(array->integers);
    *array = (qcnn_array){ 0 };
}
