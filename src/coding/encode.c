// SPDX-License-Identifier: Apache-2.0
// Encoding the sections of a tensor: what the reader decodes again to the same float32 numbers and assignments.

#include "coding/encode.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "coding/rans_encode.h"

// ---- numbers --------------------------------------------------------------------------------------------------------

static bool encode_halves(const float *numbers, size_t n, unsigned char *bytes)
{
    bool exact = true;
    for (size_t i = 0; i < n; i++) {
        const uint16_t half = qcnn_float_to_half(numbers[i]);
        exact &= isfinite(numbers[i]) && qcnn_half_to_float(half) == numbers[i];
        bytes[2 * i] = (unsigned char)half;
        bytes[2 * i + 1] = (unsigned char)(half >> 8);
    }
    return exact;
}

static bool encode_integers(const float *numbers, size_t n, const float *scales, size_t n_scales, unsigned char *bytes)
{
    const size_t run = n / n_scales;
    bool exact = true;
    memcpy(bytes, scales, n_scales * sizeof *scales);
    bytes += n_scales * sizeof *scales;
    for (size_t s = 0; s < n_scales; s++)
        for (size_t i = s * run; i < (s + 1) * run; i++) {
            const float integer = scales[s] > 0 ? rintf(numbers[i] / scales[s]) : 0;
            const bool fits = fabsf(integer) <= 127 && scales[s] * integer == numbers[i];
            exact &= fits;
            bytes[i] = (unsigned char)(int8_t)(fits ? integer : 0);
        }
    return exact;
}

// ---- entropy coding -------------------------------------------------------------------------------------------------

enum { QUICK_BYTES = 512 << 10 }; // sections that are decoded within a millisecond

bool qcnn_worth_coding(uint64_t plain_bytes, uint64_t coded_bytes)
{
    const uint64_t least = plain_bytes > QUICK_BYTES ? (plain_bytes + 7) / 8 : 1;
    return coded_bytes + least <= plain_bytes;
}

// Takes the coded form where that is worth it. `coded` is used up.
static qcnn_status choose(qcnn_buffer coded, qcnn_content *content)
{
    if (!qcnn_worth_coding(content->n_bytes, coded.n_bytes)) {
        qcnn_release(coded.data);
        return QCNN_OK;
    }
    qcnn_release(content->owned);
    content->bytes = content->owned = coded.data;
    content->n_bytes = coded.n_bytes;
    content->encoding = QCNN_ENCODING_RANS;
    return QCNN_OK;
}

// integer + L of each int8 number, the symbols to code, L being the largest magnitude. NULL: no memory.
static uint8_t *integer_symbols(const unsigned char *integers, size_t n, int *largest)
{
    uint8_t *symbols = qcnn_allocate(n, 1);
    *largest = 0;
    for (size_t i = 0; i < n; i++)
        *largest = abs((int8_t)integers[i]) > *largest ? abs((int8_t)integers[i]) : *largest;
    for (size_t i = 0; symbols && i < n; i++)
        symbols[i] = (uint8_t)((int8_t)integers[i] + *largest);
    return symbols;
}

// Int8 numbers: the scales, L, and the symbols.
static qcnn_status code_integers(size_t n, size_t n_scales, qcnn_content *content, qcnn_error *error)
{
    int largest;
    uint8_t *symbols = integer_symbols((const unsigned char *)content->owned + n_scales * sizeof(float), n, &largest);
    if (!symbols)
        return qcnn_fail_memory(error, n);
    qcnn_buffer coded = { 0 };
    qcnn_write_bytes(&coded, content->owned, n_scales * sizeof(float));
    qcnn_write_u8(&coded, (uint8_t)largest);
    const qcnn_status status = qcnn_rans_encode(&(qcnn_rows){ n_scales, n / n_scales, 2 * largest + 1 }, symbols, &coded, error);
    qcnn_release(symbols);
    if (status == QCNN_OK)
        return choose(coded, content);
    qcnn_release(coded.data);
    return status;
}

static qcnn_rows assignment_rows(const qcnn_codebook *book)
{
    return (qcnn_rows){ (size_t)book->groups * (size_t)book->n_subspaces, (size_t)book->n_taps * (size_t)book->n_outputs,
                        book->n_codewords };
}

static qcnn_status code_assignments(const qcnn_codebook *book, qcnn_content *content, qcnn_error *error)
{
    const qcnn_rows rows = assignment_rows(book);
    qcnn_buffer coded = { 0 };
    const qcnn_status status = qcnn_rans_encode(&rows, book->assignments, &coded, error);
    if (status == QCNN_OK)
        return choose(coded, content);
    qcnn_release(coded.data);
    return status;
}

// ---- sections -------------------------------------------------------------------------------------------------------

// content->n_bytes is that of the plain form.
static qcnn_status encode_numbers(qcnn_number_type type, const float *numbers, uint64_t n, const float *scales, uint64_t n_scales,
                                  bool plain, qcnn_content *content, qcnn_error *error)
{
    content->decoded_bytes = content->n_bytes;
    if (type == QCNN_FLOAT32) {
        content->bytes = numbers;
        return QCNN_OK;
    }
    unsigned char *bytes = content->owned = qcnn_allocate((size_t)content->n_bytes, 1);
    if (!bytes)
        return qcnn_fail_memory(error, (size_t)content->n_bytes);
    content->bytes = bytes;
    const bool exact = type == QCNN_FLOAT16 ? encode_halves(numbers, (size_t)n, bytes)
                                            : scales && encode_integers(numbers, (size_t)n, scales, (size_t)n_scales, bytes);
    if (!exact)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "a number of it is not %s", qcnn_number_type_name(type));
    return type == QCNN_INT8 && !plain ? code_integers((size_t)n, (size_t)n_scales, content, error) : QCNN_OK;
}

static qcnn_status encode_data(const qcnn_tensor *tensor, bool plain, qcnn_content *content, qcnn_error *error)
{
    if (!qcnn_data_bytes(tensor, &content->n_bytes))
        return qcnn_fail_memory(error, SIZE_MAX);
    return encode_numbers(tensor->data_type, tensor->data, qcnn_shape_elements(&tensor->shape), tensor->data_scales,
                          (uint64_t)tensor->shape.dims[0], plain, content, error);
}

static qcnn_status encode_codewords(const qcnn_codebook *book, bool plain, qcnn_content *content, qcnn_error *error)
{
    uint64_t n;
    if (!qcnn_codeword_bytes(book, &content->n_bytes) || !qcnn_count_codeword_numbers(book, &n))
        return qcnn_fail_memory(error, SIZE_MAX);
    return encode_numbers(book->codeword_type, book->codewords, n, book->scales, (uint64_t)book->n_sets * (uint64_t)book->n_subspaces,
                          plain, content, error);
}

static qcnn_status encode_assignments(const qcnn_codebook *book, bool plain, qcnn_content *content, qcnn_error *error)
{
    uint64_t n;
    if (!qcnn_count_assignments(book, &n) || !qcnn_packed_bytes(n, book->n_codewords, &content->n_bytes))
        return qcnn_fail_memory(error, SIZE_MAX);
    content->decoded_bytes = content->n_bytes;
    content->bytes = content->owned = qcnn_allocate((size_t)content->n_bytes, 1);
    if (!content->owned)
        return qcnn_fail_memory(error, (size_t)content->n_bytes);
    qcnn_pack_bits(book->assignments, (size_t)n, qcnn_assignment_bits(book->n_codewords), content->owned);
    return plain || content->n_bytes == 0 ? QCNN_OK : code_assignments(book, content, error);
}

qcnn_status qcnn_encode(uint32_t type, const qcnn_tensor *tensor, bool plain, qcnn_content *content, qcnn_error *error)
{
    *content = (qcnn_content){ .encoding = QCNN_ENCODING_PLAIN };
    qcnn_status status;
    if (type == QCNN_SECTION_DATA)
        status = encode_data(tensor, plain, content, error);
    else if (type == QCNN_SECTION_CODEWORDS)
        status = encode_codewords(&tensor->codebook, plain, content, error);
    else
        status = encode_assignments(&tensor->codebook, plain, content, error);
    if (status != QCNN_OK) {
        qcnn_release(content->owned);
        *content = (qcnn_content){ 0 };
    }
    return status;
}

// ---- counting -------------------------------------------------------------------------------------------------------

static qcnn_status count_section(uint32_t type, const qcnn_tensor *tensor, uint64_t *n_bytes, qcnn_error *error)
{
    qcnn_content content;
    QCNN_TRY(qcnn_encode(type, tensor, false, &content, error));
    qcnn_release(content.owned);
    *n_bytes += content.n_bytes;
    return QCNN_OK;
}

qcnn_status qcnn_coded_bytes(const qcnn_tensor *tensor, uint64_t *n_bytes, qcnn_error *error)
{
    *n_bytes = 0;
    if (!qcnn_is_codebook(tensor))
        return count_section(QCNN_SECTION_DATA, tensor, n_bytes, error);
    QCNN_TRY(count_section(QCNN_SECTION_CODEWORDS, tensor, n_bytes, error));
    return count_section(QCNN_SECTION_ASSIGNMENTS, tensor, n_bytes, error);
}

// Of a plain int8 content.
static qcnn_status integer_parts(size_t n, size_t n_scales, const unsigned char *plain, double *symbol_bits, double *table_bits,
                                 qcnn_error *error)
{
    int largest;
    uint8_t *symbols = integer_symbols(plain + n_scales * sizeof(float), n, &largest);
    if (!symbols)
        return qcnn_fail_memory(error, n);
    const qcnn_status status =
        qcnn_rans_measure(&(qcnn_rows){ n_scales, n / n_scales, 2 * largest + 1 }, symbols, symbol_bits, table_bits, error);
    qcnn_release(symbols);
    return status;
}

enum { GROWING, CONSTANT };

// Of numbers with a scale for each of n_scales runs, of which there are more the more channels, or not.
static qcnn_status number_parts(uint32_t type, const qcnn_tensor *tensor, qcnn_number_type number_type, size_t n, size_t n_scales,
                                bool scales_grow, qcnn_section_bits *bits, qcnn_error *error)
{
    qcnn_content content;
    QCNN_TRY(qcnn_encode(type, tensor, true, &content, error));
    const double scale_bits = number_type == QCNN_INT8 ? 32 * (double)n_scales : 0;
    bits->plain[GROWING] = bits->coded[GROWING] = 8 * (double)content.n_bytes - scale_bits;
    bits->plain[CONSTANT] = bits->coded[CONSTANT] = 0;
    qcnn_status status = QCNN_OK;
    if (number_type == QCNN_INT8) {
        status = integer_parts(n, n_scales, content.owned, &bits->coded[GROWING], &bits->coded[CONSTANT], error);
        bits->coded[CONSTANT] += 32 * QCNN_RANS_LANES;
        bits->plain[scales_grow ? GROWING : CONSTANT] += scale_bits;
        bits->coded[scales_grow ? GROWING : CONSTANT] += scale_bits;
    }
    qcnn_release(content.owned);
    return status;
}

qcnn_status qcnn_coded_parts(const qcnn_tensor *tensor, qcnn_section_bits sections[QCNN_TENSOR_SECTIONS], qcnn_error *error)
{
    const qcnn_codebook *book = &tensor->codebook;
    memset(sections, 0, QCNN_TENSOR_SECTIONS * sizeof *sections);
    if (!qcnn_is_codebook(tensor))
        return number_parts(QCNN_SECTION_DATA, tensor, tensor->data_type, (size_t)qcnn_shape_elements(&tensor->shape),
                            (size_t)tensor->shape.dims[0], false, &sections[0], error);
    const size_t n_books = (size_t)book->n_sets * (size_t)book->n_subspaces,
                 n = n_books * (size_t)book->n_codewords * (size_t)book->subspace;
    QCNN_TRY(number_parts(QCNN_SECTION_CODEWORDS, tensor, book->codeword_type, n, n_books, true, &sections[0], error));
    const qcnn_rows rows = assignment_rows(book);
    sections[1].plain[GROWING] = (double)qcnn_assignment_bits(book->n_codewords) * (double)(rows.n_rows * rows.length);
    QCNN_TRY(qcnn_rans_measure(&rows, book->assignments, &sections[1].coded[GROWING], &sections[1].coded[CONSTANT], error));
    sections[1].coded[CONSTANT] += 32 * QCNN_RANS_LANES;
    return QCNN_OK;
}

uint64_t qcnn_codebook_coded_bytes(const qcnn_codebook *book)
{
    uint64_t n_bytes;
    return qcnn_coded_bytes(&(qcnn_tensor){ .codebook = *book }, &n_bytes, NULL) == QCNN_OK ? n_bytes : 0;
}
