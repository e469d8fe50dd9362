// SPDX-License-Identifier: Apache-2.0
// IDX, the format of MNIST and its successors: a magic number that says "unsigned bytes in d dimensions", d sizes, the bytes,
// all big-endian; often inside gzip. Only what the sizes declare is ever unpacked, and it must be all there is.

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#include "base/checked.h"
#include "base/memory.h"
#include "image/dataset.h"
#include "image/read_file.h"

enum { MAX_IDX_RANK = 3, MAX_IDX_SIDE = 1 << 14, MAX_IDX_IMAGES = 1 << 27, MAX_NUMBER_BYTES = 12 };

static const uint64_t max_idx_bytes = (uint64_t)1 << 30;
// gzip may shrink to a thousandth, images never do: beyond this a file is a bomb (small ones, such as labels in order, pass).
static const uint64_t max_gzip_ratio = 200, always_unpacked = 8 << 20;

// Declared sizes, and the bytes after them. `owned` is what to release.
typedef struct idx_file {
    uint32_t dims[MAX_IDX_RANK];
    const uint8_t *bytes;
    uint8_t *owned;
    size_t n_bytes;
} idx_file;

static uint32_t big_endian_u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static qcnn_status read_idx_header(const uint8_t *header, int rank, idx_file *file, const char *what, qcnn_error *error)
{
    if (big_endian_u32(header) != 0x800u + (unsigned)rank)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "%s: not an IDX file of bytes in %d dimension%s", what, rank, rank > 1 ? "s" : "");
    uint64_t n_bytes = 1;
    bool fits = true;
    for (int d = 0; d < rank; d++) {
        file->dims[d] = big_endian_u32(header + 4 + 4 * d);
        fits = fits && file->dims[d] >= 1 && file->dims[d] <= (d == 0 ? MAX_IDX_IMAGES : MAX_IDX_SIDE) &&
               qcnn_multiply(n_bytes, file->dims[d], &n_bytes) && n_bytes <= max_idx_bytes;
    }
    if (!fits)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "%s: a declared size is 0 or beyond all bounds", what);
    file->n_bytes = (size_t)n_bytes;
    return QCNN_OK;
}

static voidpf zlib_allocate(voidpf context, uInt n, uInt size)
{
    (void)context;
    return qcnn_allocate(n, size);
}

static void zlib_release(voidpf context, voidpf pointer)
{
    (void)context;
    qcnn_release(pointer);
}

// The next n bytes of the stream, exactly. *ended tells whether the stream ended with them.
static qcnn_status unpack(z_stream *stream, uint8_t *to, size_t n, bool *ended, const char *what, qcnn_error *error)
{
    stream->next_out = to;
    stream->avail_out = (uInt)n;
    int code = Z_OK;
    while (stream->avail_out > 0 && code == Z_OK)
        code = inflate(stream, Z_NO_FLUSH);
    if (stream->avail_out > 0)
        return code == Z_MEM_ERROR ? qcnn_fail_memory(error, n)
                                   : qcnn_fail(error, QCNN_ERROR_FORMAT, "%s: the gzip data are damaged or cut off", what);
    *ended = code == Z_STREAM_END;
    return QCNN_OK;
}

// After the last declared byte nothing may follow but the end of the stream with a matching checksum.
static qcnn_status check_gzip_end(z_stream *stream, bool ended, const char *what, qcnn_error *error)
{
    uint8_t surplus;
    stream->next_out = &surplus;
    stream->avail_out = 1;
    if ((!ended && inflate(stream, Z_FINISH) != Z_STREAM_END) || stream->avail_out == 0 || stream->avail_in > 0)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "%s: the gzip data do not end where the declared sizes do", what);
    return QCNN_OK;
}

static qcnn_status unpack_idx(z_stream *stream, int rank, idx_file *file, const char *what, qcnn_error *error)
{
    const uint64_t packed_bytes = stream->avail_in;
    uint8_t header[4 + 4 * MAX_IDX_RANK];
    bool ended = false;
    QCNN_TRY(unpack(stream, header, 4 + 4 * (size_t)rank, &ended, what, error));
    QCNN_TRY(read_idx_header(header, rank, file, what, error));
    if (file->n_bytes > always_unpacked && file->n_bytes / max_gzip_ratio > packed_bytes)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "%s: declares %zu bytes, which its %llu packed bytes cannot hold", what, file->n_bytes,
                         (unsigned long long)packed_bytes);
    file->owned = qcnn_allocate(file->n_bytes, 1);
    if (!file->owned)
        return qcnn_fail_memory(error, file->n_bytes);
    file->bytes = file->owned;
    QCNN_TRY(unpack(stream, file->owned, file->n_bytes, &ended, what, error));
    return check_gzip_end(stream, ended, what, error);
}

static qcnn_status read_gzip_idx(const uint8_t *bytes, size_t n_bytes, int rank, idx_file *file, const char *what, qcnn_error *error)
{
    const int gzip_window = 16 + MAX_WBITS;
    z_stream stream = { .next_in = (z_const Bytef *)bytes, .avail_in = (uInt)n_bytes, .zalloc = zlib_allocate, .zfree = zlib_release };
    if (n_bytes > max_idx_bytes)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "%s: the file is too large", what);
    if (inflateInit2(&stream, gzip_window) != Z_OK)
        return qcnn_fail_memory(error, 0);
    const qcnn_status status = unpack_idx(&stream, rank, file, what, error);
    inflateEnd(&stream);
    return status;
}

static qcnn_status read_idx(const uint8_t *bytes, size_t n_bytes, int rank, idx_file *file, const char *what, qcnn_error *error)
{
    const size_t header_bytes = 4 + 4 * (size_t)rank;
    if (n_bytes >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b)
        return read_gzip_idx(bytes, n_bytes, rank, file, what, error);
    if (n_bytes < header_bytes)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "%s: the file is cut off in its header", what);
    QCNN_TRY(read_idx_header(bytes, rank, file, what, error));
    if (n_bytes - header_bytes != file->n_bytes)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "%s: %zu bytes follow the header, where the declared sizes ask for %zu", what,
                         n_bytes - header_bytes, file->n_bytes);
    file->bytes = bytes + header_bytes;
    return QCNN_OK;
}

// Entries named by their number.
static qcnn_status fill_entries(qcnn_dataset *dataset, const idx_file *images, const idx_file *labels, qcnn_error *error)
{
    const size_t n = images->dims[0];
    dataset->entries = qcnn_allocate(n, sizeof *dataset->entries);
    dataset->names = qcnn_allocate(n, MAX_NUMBER_BYTES);
    if (!dataset->entries || !dataset->names)
        return qcnn_fail_memory(error, n * MAX_NUMBER_BYTES);
    size_t n_names = 0;
    for (size_t i = 0; i < n; i++) {
        dataset->entries[i] = (qcnn_dataset_entry){ (uint32_t)n_names, labels->bytes ? labels->bytes[i] : -1 };
        n_names += 1 + (size_t)snprintf(dataset->names + n_names, MAX_NUMBER_BYTES, "%zu", i);
    }
    dataset->n_entries = (int)n;
    return QCNN_OK;
}

static qcnn_status fill_dataset(qcnn_dataset *dataset, idx_file *images, const idx_file *labels, qcnn_error *error)
{
    if (labels->bytes && labels->dims[0] != images->dims[0])
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "%u labels for %u images", labels->dims[0], images->dims[0]);
    QCNN_TRY(fill_entries(dataset, images, labels, error));
    if (!images->owned) {
        images->owned = qcnn_allocate(images->n_bytes, 1);
        if (!images->owned)
            return qcnn_fail_memory(error, images->n_bytes);
        memcpy(images->owned, images->bytes, images->n_bytes);
    }
    dataset->idx_pixels = images->owned;
    images->owned = NULL;
    dataset->idx_height = (int)images->dims[1];
    dataset->idx_width = (int)images->dims[2];
    return QCNN_OK;
}

qcnn_status qcnn_dataset_from_idx(const uint8_t *images, size_t n_image_bytes, const uint8_t *labels, size_t n_label_bytes,
                                  qcnn_dataset **dataset, qcnn_error *error)
{
    *dataset = NULL;
    idx_file image_file = { 0 }, label_file = { 0 };
    qcnn_dataset *made = qcnn_allocate_zeroed(1, sizeof *made);
    qcnn_status status = made ? QCNN_OK : qcnn_fail_memory(error, sizeof *made);
    if (status == QCNN_OK)
        status = read_idx(images, n_image_bytes, 3, &image_file, "IDX images", error);
    if (status == QCNN_OK && labels)
        status = read_idx(labels, n_label_bytes, 1, &label_file, "IDX labels", error);
    if (status == QCNN_OK)
        status = fill_dataset(made, &image_file, &label_file, error);
    qcnn_release(image_file.owned);
    qcnn_release(label_file.owned);
    if (status != QCNN_OK) {
        qcnn_dataset_free(made);
        return status;
    }
    *dataset = made;
    return QCNN_OK;
}

// "a-images-idx3-ubyte" to "a-labels-idx1-ubyte", in place: both names have the same length.
static bool to_labels_path(char *path)
{
    static const char images[] = "-images-idx3-ubyte", labels[] = "-labels-idx1-ubyte";
    const size_t n = strlen(path), packed = n > 3 && strcmp(path + n - 3, ".gz") == 0 ? 3 : 0, length = sizeof images - 1;
    if (n < length + packed || memcmp(path + n - packed - length, images, length) != 0)
        return false;
    memcpy(path + n - packed - length, labels, length);
    return true;
}

// A file of labels is optional, but one that exists must be readable.
static qcnn_status read_labels_beside(const char *path, uint8_t **labels, size_t *n_bytes, qcnn_error *error)
{
    *labels = NULL;
    *n_bytes = 0;
    struct stat info;
    if (stat(path, &info) != 0 && errno == ENOENT)
        return QCNN_OK;
    return qcnn_read_whole_file(path, max_idx_bytes, labels, n_bytes, error);
}

qcnn_status qcnn_dataset_open_idx(const char *path, qcnn_dataset **dataset, qcnn_error *error)
{
    *dataset = NULL;
    uint8_t *images = NULL, *labels = NULL;
    size_t n_image_bytes = 0, n_label_bytes = 0;
    char *labels_path = qcnn_copy_text(path, strlen(path));
    qcnn_status status = labels_path ? QCNN_OK : qcnn_fail_memory(error, strlen(path));
    if (status == QCNN_OK && !to_labels_path(labels_path))
        status =
            qcnn_fail(error, QCNN_ERROR_ARGUMENT, "%s: not a data set: give a folder of images or a *-images-idx3-ubyte[.gz] file", path);
    if (status == QCNN_OK)
        status = qcnn_read_whole_file(path, max_idx_bytes, &images, &n_image_bytes, error);
    if (status == QCNN_OK)
        status = read_labels_beside(labels_path, &labels, &n_label_bytes, error);
    if (status == QCNN_OK) {
        qcnn_error inner;
        status = qcnn_dataset_from_idx(images, n_image_bytes, labels, n_label_bytes, dataset, &inner);
        if (status != QCNN_OK)
            status = qcnn_fail(error, status, "%s: %s", path, inner.message);
    }
    qcnn_release(labels_path);
    qcnn_release(images);
    qcnn_release(labels);
    return status;
}
