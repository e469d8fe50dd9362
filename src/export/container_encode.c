// SPDX-License-Identifier: Apache-2.0
// Encoding the sections of a tensor: what the reader decodes again to the same float32 numbers and assignments.

#include "export/container_encode.h"

#include <math.h>
#include <string.h>

#include "base/half.h"

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

static qcnn_status encode_numbers(qcnn_number_type type, const float *numbers, uint64_t n, const float *scales, uint64_t n_scales,
                                  qcnn_content *content, qcnn_error *error)
{
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
    return exact ? QCNN_OK : qcnn_fail(error, QCNN_ERROR_FORMAT, "a number of it is not %s", qcnn_number_type_name(type));
}

qcnn_status qcnn_encode_data(const qcnn_tensor *tensor, qcnn_content *content, qcnn_error *error)
{
    if (!qcnn_data_bytes(tensor, &content->n_bytes))
        return qcnn_fail_memory(error, SIZE_MAX);
    return encode_numbers(tensor->data_type, tensor->data, qcnn_shape_elements(&tensor->shape), tensor->data_scales,
                          (uint64_t)tensor->shape.dims[0], content, error);
}

qcnn_status qcnn_encode_codewords(const qcnn_codebook *book, qcnn_content *content, qcnn_error *error)
{
    uint64_t n;
    if (!qcnn_codeword_bytes(book, &content->n_bytes) || !qcnn_count_codeword_numbers(book, &n))
        return qcnn_fail_memory(error, SIZE_MAX);
    return encode_numbers(book->codeword_type, book->codewords, n, book->scales, (uint64_t)book->n_sets * (uint64_t)book->n_subspaces,
                          content, error);
}

// ---- assignments ----------------------------------------------------------------------------------------------------

qcnn_status qcnn_encode_assignments(const qcnn_codebook *book, qcnn_content *content, qcnn_error *error)
{
    uint64_t n;
    if (!qcnn_count_assignments(book, &n) || !qcnn_packed_bytes(n, book->n_codewords, &content->n_bytes))
        return qcnn_fail_memory(error, SIZE_MAX);
    content->bytes = content->owned = qcnn_allocate((size_t)content->n_bytes, 1);
    if (!content->owned)
        return qcnn_fail_memory(error, (size_t)content->n_bytes);
    qcnn_pack_bits(book->assignments, (size_t)n, qcnn_assignment_bits(book->n_codewords), content->owned);
    return QCNN_OK;
}
