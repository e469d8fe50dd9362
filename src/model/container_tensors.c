// SPDX-License-Identifier: Apache-2.0
// The sections of tensors in a .qcnn file: numbers and assignments. Sizes must equal what the graph section says. Float32
// numbers are used in place; float16 and int8 ones are decoded to float32, assignments to a byte each. Int8 numbers and
// assignments may be entropy-coded.

#include <string.h>

#include "base/checked.h"
#include "base/half.h"
#include "model/container_reader.h"
#include "model/rans.h"

// ---- sizes ----------------------------------------------------------------------------------------------------------

bool qcnn_count_codeword_numbers(const qcnn_codebook *book, uint64_t *n)
{
    return qcnn_multiply((uint64_t)book->n_sets, (uint64_t)book->n_subspaces, n) && qcnn_multiply(*n, (uint64_t)book->n_codewords, n) &&
           qcnn_multiply(*n, (uint64_t)book->subspace, n);
}

static bool number_bytes(qcnn_number_type type, uint64_t n, uint64_t n_scales, uint64_t *n_bytes)
{
    if (type != QCNN_INT8)
        return qcnn_multiply(n, type == QCNN_FLOAT16 ? 2 : sizeof(float), n_bytes);
    return qcnn_multiply(n_scales, sizeof(float), n_bytes) && qcnn_add(*n_bytes, n, n_bytes);
}

static uint64_t count_books(const qcnn_codebook *book)
{
    return (uint64_t)book->n_sets * (uint64_t)book->n_subspaces; // each below 2^31
}

bool qcnn_codeword_bytes(const qcnn_codebook *book, uint64_t *n_bytes)
{
    uint64_t n;
    return qcnn_count_codeword_numbers(book, &n) && number_bytes(book->codeword_type, n, count_books(book), n_bytes);
}

bool qcnn_data_bytes(const qcnn_tensor *tensor, uint64_t *n_bytes)
{
    return number_bytes(tensor->data_type, qcnn_shape_elements(&tensor->shape), (uint64_t)tensor->shape.dims[0], n_bytes);
}

bool qcnn_count_assignments(const qcnn_codebook *book, uint64_t *n)
{
    return qcnn_multiply((uint64_t)book->groups, (uint64_t)book->n_subspaces, n) && qcnn_multiply(*n, (uint64_t)book->n_taps, n) &&
           qcnn_multiply(*n, (uint64_t)book->n_outputs, n);
}

bool qcnn_packed_bytes(uint64_t n_assignments, int n_codewords, uint64_t *n_bytes)
{
    if (!qcnn_multiply(n_assignments, (uint64_t)qcnn_assignment_bits(n_codewords), n_bytes) || !qcnn_add(*n_bytes, 7, n_bytes))
        return false;
    *n_bytes /= 8;
    return true;
}

// Counts `n` more bytes of memory that do not lie in the file.
static qcnn_status unfold(container *file, const container_section *section, uint64_t n)
{
    if (!qcnn_add(file->unfolded, n, &file->unfolded) || qcnn_unfolds_too_far(file->unfolded, file->n_bytes))
        return REFUSE_SECTION(file, section, "it unfolds to more memory than a file of %zu bytes may take", file->n_bytes);
    return QCNN_OK;
}

// ---- numbers --------------------------------------------------------------------------------------------------------

static bool decode_halves(const unsigned char *bytes, size_t n, float *numbers)
{
    bool finite = true;
    for (size_t i = 0; i < n; i++) {
        const uint16_t half = (uint16_t)(bytes[2 * i] | bytes[2 * i + 1] << 8);
        finite &= (half & 0x7c00) != 0x7c00;
        numbers[i] = qcnn_half_to_float(half);
    }
    return finite;
}

static bool scales_are_good(const float *scales, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(scales[i] >= 0 && scales[i] <= QCNN_MAX_SCALE) || __builtin_signbit(scales[i])) // a NaN fails too
            return false;
    return true;
}

// Decodes the symbols of a coded section, which begin at byte `begin` of it.
static qcnn_status read_symbols(container *file, const container_section *section, size_t begin, const qcnn_rows *rows, uint8_t *symbols)
{
    qcnn_error reason = { 0 };
    const qcnn_status status =
        qcnn_rans_decode(file->bytes + section->offset + begin, (size_t)section->stored_bytes - begin, rows, symbols, &reason);
    if (status == QCNN_ERROR_MEMORY)
        return qcnn_fail(file->error, status, "%s", reason.message);
    return status == QCNN_OK ? QCNN_OK : REFUSE_SECTION(file, section, "%s", reason.message);
}

// Coded integers: scales, the largest magnitude L, then integer + L as symbols. They are decoded into the last quarter of the room
// for the floats, which overwrite them from the front.
static qcnn_status read_coded_integers(container *file, const container_section *section, size_t n, size_t n_scales, float *numbers)
{
    const unsigned char *bytes = file->bytes + section->offset;
    const size_t begin = n_scales * sizeof(float) + 1;
    if (section->stored_bytes < begin || bytes[begin - 1] > INT8_MAX)
        return REFUSE_SECTION(file, section, "it ends inside its scales, or its largest integer is above 127");
    const uint8_t largest = bytes[begin - 1];
    unsigned char *symbols = (unsigned char *)(numbers + n) - n;
    QCNN_TRY(read_symbols(file, section, begin, &(qcnn_rows){ n_scales, n / n_scales, 2 * largest + 1 }, symbols));
    for (size_t i = 0; i < n; i++)
        symbols[i] = (unsigned char)(symbols[i] - largest);
    qcnn_integers_to_floats(symbols, n, (const float *)(const void *)bytes, n_scales, numbers);
    return QCNN_OK;
}

// The numbers of a section whose size has been checked: *numbers points into the file, or to memory that *owned holds too.
static qcnn_status read_numbers(container *file, const container_section *section, qcnn_number_type type, size_t n, size_t n_scales,
                                const float **numbers, void **owned, const float **scales)
{
    const unsigned char *bytes = file->bytes + section->offset;
    const bool coded = section->encoding == QCNN_ENCODING_RANS;
    if (coded && type != QCNN_INT8)
        return REFUSE_SECTION(file, section, "only int8 numbers and assignments can be entropy-coded");
    if (type == QCNN_FLOAT32) {
        *numbers = (const float *)(const void *)bytes;
        return QCNN_OK;
    }
    QCNN_TRY(unfold(file, section, (uint64_t)n * sizeof(float)));
    float *decoded = *owned = qcnn_allocate(n, sizeof *decoded);
    if (!decoded)
        return qcnn_fail_memory(file->error, n * sizeof *decoded);
    if (type == QCNN_FLOAT16 && !decode_halves(bytes, n, decoded))
        return REFUSE_SECTION(file, section, "a float16 number is not finite");
    if (type == QCNN_INT8) {
        if (section->stored_bytes < n_scales * sizeof **scales)
            return REFUSE_SECTION(file, section, "it ends inside its scales, or its largest integer is above 127");
        *scales = (const float *)(const void *)bytes;
        if (!scales_are_good(*scales, n_scales))
            return REFUSE_SECTION(file, section, "a scale is negative, too large or not a number");
        if (coded)
            QCNN_TRY(read_coded_integers(file, section, n, n_scales, decoded));
        else if (!qcnn_integers_to_floats(bytes + n_scales * sizeof **scales, n, *scales, n_scales, decoded))
            return REFUSE_SECTION(file, section, "an integer is not in -127..127");
    }
    *numbers = decoded;
    return QCNN_OK;
}

// ---- the three sections ---------------------------------------------------------------------------------------------

static qcnn_status read_data(container *file, const container_section *section, qcnn_tensor *tensor)
{
    uint64_t n_bytes;
    if (tensor->codebook.groups)
        return REFUSE_SECTION(file, section, "tensor %u is stored as a codebook", section->tensor);
    if (!qcnn_data_bytes(tensor, &n_bytes) || n_bytes != section->decoded_bytes)
        return REFUSE_SECTION(file, section, "its size does not fit the shape of tensor %u", section->tensor);
    return read_numbers(file, section, tensor->data_type, (size_t)qcnn_shape_elements(&tensor->shape), (size_t)tensor->shape.dims[0],
                        &tensor->data, &tensor->owned_data, &tensor->data_scales);
}

// The words of the last subspace of each set are as long as all others; what is beyond the inputs has to be zero.
static bool words_end_in_zeros(const qcnn_codebook *book)
{
    const size_t subspace = (size_t)book->subspace, n_words = (size_t)book->n_codewords;
    const size_t width = (size_t)(book->n_inputs - (book->n_subspaces - 1) * book->subspace);
    for (size_t set = 0; width < subspace && set < (size_t)book->n_sets; set++) {
        const float *words = book->codewords + ((set + 1) * (size_t)book->n_subspaces - 1) * n_words * subspace;
        for (size_t k = 0; k < n_words; k++)
            if (!qcnn_bytes_are_zero((const unsigned char *)(words + k * subspace + width), (subspace - width) * sizeof *words))
                return false;
    }
    return true;
}

static qcnn_status read_codewords(container *file, const container_section *section, qcnn_tensor *tensor)
{
    qcnn_codebook *book = &tensor->codebook;
    uint64_t n, n_bytes;
    if (!book->groups)
        return REFUSE_SECTION(file, section, "tensor %u is not stored as a codebook", section->tensor);
    if (!qcnn_codeword_bytes(book, &n_bytes) || n_bytes != section->decoded_bytes || !qcnn_count_codeword_numbers(book, &n))
        return REFUSE_SECTION(file, section, "its size does not fit the codebook of tensor %u", section->tensor);
    QCNN_TRY(read_numbers(file, section, book->codeword_type, (size_t)n, (size_t)count_books(book), &book->codewords, &tensor->owned_data,
                          &book->scales));
    if (!words_end_in_zeros(book))
        return REFUSE_SECTION(file, section, "codewords of tensor %u do not end in zeros", section->tensor);
    return QCNN_OK;
}

static uint8_t largest_of(const uint8_t *numbers, size_t n)
{
    uint8_t largest = 0;
    for (size_t i = 0; i < n; i++)
        largest = numbers[i] > largest ? numbers[i] : largest;
    return largest;
}

static qcnn_status read_packed(container *file, const container_section *section, const qcnn_codebook *book, size_t n, uint8_t *assignments)
{
    const unsigned char *packed = file->bytes + section->offset;
    const int n_bits = qcnn_assignment_bits(book->n_codewords), n_unused = (int)(section->stored_bytes * 8 - n * (uint64_t)n_bits);
    if (n_unused > 0 && packed[section->stored_bytes - 1] >> (8 - n_unused))
        return REFUSE_SECTION(file, section, "the unused bits of its last byte are not zero");
    qcnn_unpack_bits(packed, n, n_bits, assignments);
    if (1 << n_bits != book->n_codewords && largest_of(assignments, n) >= book->n_codewords)
        return REFUSE_SECTION(file, section, "an assignment of tensor %u is not below %d", section->tensor, book->n_codewords);
    return QCNN_OK;
}

static qcnn_status read_assignments(container *file, const container_section *section, qcnn_tensor *tensor)
{
    qcnn_codebook *book = &tensor->codebook;
    uint64_t n, n_bytes;
    if (!book->groups)
        return REFUSE_SECTION(file, section, "tensor %u is not stored as a codebook", section->tensor);
    if (!qcnn_count_assignments(book, &n) || !qcnn_packed_bytes(n, book->n_codewords, &n_bytes) || n_bytes != section->decoded_bytes)
        return REFUSE_SECTION(file, section, "its size does not fit the codebook of tensor %u", section->tensor);
    QCNN_TRY(unfold(file, section, n));
    uint8_t *assignments = tensor->owned_assignments = qcnn_allocate((size_t)n, 1);
    if (!assignments)
        return qcnn_fail_memory(file->error, (size_t)n);
    if (section->encoding == QCNN_ENCODING_PLAIN) {
        QCNN_TRY(read_packed(file, section, book, (size_t)n, assignments));
    } else {
        const size_t n_rows = (size_t)book->groups * (size_t)book->n_subspaces;
        QCNN_TRY(read_symbols(file, section, 0, &(qcnn_rows){ n_rows, (size_t)n / n_rows, book->n_codewords }, assignments));
    }
    book->assignments = assignments;
    return QCNN_OK;
}

qcnn_status qcnn_read_tensor_section(container *file, const container_section *section)
{
    if (section->tensor >= file->model->n_tensors)
        return REFUSE_SECTION(file, section, "there is no tensor %u", section->tensor);
    qcnn_tensor *tensor = &file->model->tensors[section->tensor];
    tensor->stored_bytes += section->stored_bytes;
    if (section->type == QCNN_SECTION_DATA)
        return read_data(file, section, tensor);
    if (section->type == QCNN_SECTION_CODEWORDS)
        return read_codewords(file, section, tensor);
    return read_assignments(file, section, tensor);
}
