// SPDX-License-Identifier: Apache-2.0
// Opening a .qcnn file by path: mapped read-only, or read into memory. The only file of the engine that calls the operating
// system; machines without one leave it out and use qcnn_model_load.

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/container.h"

typedef struct file_bytes {
    void *bytes; // 64-byte aligned
    size_t n_bytes;
    void (*release)(void *bytes, size_t n_bytes);
} file_bytes;

static void unmap_file(void *bytes, size_t n_bytes)
{
    munmap(bytes, n_bytes);
}

static void release_file_copy(void *bytes, size_t n_bytes)
{
    (void)n_bytes;
    qcnn_release(bytes);
}

static qcnn_status fail_file(qcnn_error *error, const char *path, const char *what)
{
    return qcnn_fail(error, QCNN_ERROR_IO, "%s: cannot be %s: %s", path, what, strerror(errno));
}

static qcnn_status map_file(int descriptor, const char *path, file_bytes *file, qcnn_error *error)
{
    void *bytes = mmap(NULL, file->n_bytes, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (bytes == MAP_FAILED)
        return fail_file(error, path, "mapped");
    file->bytes = bytes;
    file->release = unmap_file;
    return QCNN_OK;
}

static qcnn_status copy_file(int descriptor, const char *path, file_bytes *file, qcnn_error *error)
{
    unsigned char *bytes = qcnn_allocate(file->n_bytes, 1);
    if (!bytes)
        return qcnn_fail_memory(error, file->n_bytes);
    file->bytes = bytes;
    file->release = release_file_copy;
    for (size_t done = 0; done < file->n_bytes;) {
        const ssize_t n = read(descriptor, bytes + done, file->n_bytes - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_file(error, path, "read");
        if (n == 0)
            return qcnn_fail(error, QCNN_ERROR_IO, "%s: became shorter while it was read", path);
        done += (size_t)n;
    }
    return QCNN_OK;
}

static qcnn_status fetch_file(int descriptor, const char *path, int copy, file_bytes *file, qcnn_error *error)
{
    struct stat facts;
    if (fstat(descriptor, &facts))
        return fail_file(error, path, "examined");
    if (!S_ISREG(facts.st_mode))
        return qcnn_fail(error, QCNN_ERROR_IO, "%s: is not a regular file", path);
    if (facts.st_size < QCNN_HEADER_BYTES || (uint64_t)facts.st_size > SIZE_MAX / 2)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "%s: not a .qcnn file: %lld bytes", path, (long long)facts.st_size);
    file->n_bytes = (size_t)facts.st_size;
    return copy ? copy_file(descriptor, path, file, error) : map_file(descriptor, path, file, error);
}

qcnn_status qcnn_model_open(const char *path, const qcnn_load_options *options, qcnn_model **model, qcnn_error *error)
{
    *model = NULL;
    if (!path)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "no path to open a model from");
    qcnn_load_options in_place = options ? *options : qcnn_load_options_default();
    const int copy = in_place.copy;
    in_place.copy = 0;                                                    // whatever is loaded below belongs to the model already
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // does not wait for the writer of a pipe
    if (descriptor < 0)
        return fail_file(error, path, "opened");
    file_bytes file = { 0 };
    qcnn_status status = fetch_file(descriptor, path, copy, &file, error);
    close(descriptor);
    if (status == QCNN_OK) {
        qcnn_error reason = { 0 };
        status = qcnn_model_load(file.bytes, file.n_bytes, &in_place, model, &reason);
        if (status != QCNN_OK)
            qcnn_fail(error, status, "%s: %s", path, reason.message);
    }
    if (status != QCNN_OK) {
        if (file.bytes)
            file.release(file.bytes, file.n_bytes);
        return status;
    }
    (*model)->file = file.bytes;
    (*model)->file_bytes = file.n_bytes;
    (*model)->release_file = file.release;
    return QCNN_OK;
}
