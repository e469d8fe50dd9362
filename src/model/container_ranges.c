// SPDX-License-Identifier: Apache-2.0
// The RANG section of a .qcnn file: what calibration found, ranges of values and the largest table entries of codebooks. Records
// come by ascending index, so that nothing is there twice; peaks are used in place.

#include "model/container_reader.h"

static bool peaks_are_good(const float *peaks, size_t n)
{
    bool good = true;
    for (size_t i = 0; i < n; i++)
        good &= peaks[i] >= 0 && peaks[i] <= QCNN_MAX_SCALE; // a NaN fails too
    return good;
}

static qcnn_status read_value_range(container *file, const container_section *section, qcnn_cursor *cursor, int64_t *before)
{
    const uint32_t index = qcnn_read_u32(cursor);
    const float low = qcnn_read_f32(cursor), high = qcnn_read_f32(cursor);
    if (cursor->failed)
        return REFUSE_SECTION(file, section, "it ends inside its ranges");
    if (index >= file->model->n_values || (int64_t)index <= *before || file->model->values[index].tensor >= 0)
        return REFUSE_SECTION(file, section, "value %u is out of order, unknown or a constant", index);
    if (!(low >= -QCNN_MAX_SCALE && low < high && high <= QCNN_MAX_SCALE))
        return REFUSE_SECTION(file, section, "the range of value %u is empty, too large or not a number", index);
    file->model->values[index].low = low;
    file->model->values[index].high = high;
    *before = index;
    return QCNN_OK;
}

static qcnn_status read_peaks(container *file, const container_section *section, qcnn_cursor *cursor, int64_t *before)
{
    const uint32_t index = qcnn_read_u32(cursor);
    if (cursor->failed)
        return REFUSE_SECTION(file, section, "it ends inside its peaks");
    if (index >= file->model->n_tensors || (int64_t)index <= *before || !file->model->tensors[index].codebook.groups)
        return REFUSE_SECTION(file, section, "tensor %u is out of order, unknown or not a codebook", index);
    qcnn_codebook *book = &file->model->tensors[index].codebook;
    const uint64_t n = (uint64_t)book->groups * (uint64_t)book->n_subspaces; // each below 2^31
    const float *peaks = n <= cursor->n_left / sizeof *peaks ? (const void *)qcnn_read_bytes(cursor, (size_t)n * sizeof *peaks) : NULL;
    if (!peaks)
        return REFUSE_SECTION(file, section, "it ends inside its peaks");
    if (!peaks_are_good(peaks, (size_t)n))
        return REFUSE_SECTION(file, section, "a peak of tensor %u is negative, too large or not a number", index);
    book->peaks = peaks;
    *before = index;
    return QCNN_OK;
}

qcnn_status qcnn_read_ranges(container *file, const container_section *section)
{
    qcnn_cursor cursor = { .next = file->bytes + section->offset, .n_left = (size_t)section->stored_bytes };
    const uint32_t n_ranges = qcnn_read_u32(&cursor), n_peaks = qcnn_read_u32(&cursor);
    int64_t before = -1;
    if (cursor.failed)
        return REFUSE_SECTION(file, section, "it ends inside its counts");
    for (uint32_t i = 0; i < n_ranges; i++)
        QCNN_TRY(read_value_range(file, section, &cursor, &before));
    before = -1;
    for (uint32_t i = 0; i < n_peaks; i++)
        QCNN_TRY(read_peaks(file, section, &cursor, &before));
    if (cursor.n_left > 0)
        return REFUSE_SECTION(file, section, "%zu bytes follow its end", cursor.n_left);
    return QCNN_OK;
}
