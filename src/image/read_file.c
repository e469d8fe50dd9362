// SPDX-License-Identifier: Apache-2.0
// Reading a whole file of bounded size.

#include "image/read_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

static qcnn_status read_all(int file, const char *path, uint8_t *data, size_t n_bytes, qcnn_error *error)
{
    for (size_t done = 0; done < n_bytes;) {
        const ssize_t got = read(file, data + done, n_bytes - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return qcnn_fail(error, QCNN_ERROR_IO, "%s: cannot be read: %s", path, strerror(errno));
        if (got == 0)
            return qcnn_fail(error, QCNN_ERROR_IO, "%s: shrank while it was read", path);
        done += (size_t)got;
    }
    return QCNN_OK;
}

static qcnn_status read_open_file(int file, const char *path, uint64_t max_bytes, uint8_t **data, size_t *n_bytes, qcnn_error *error)
{
    struct stat info;
    if (fstat(file, &info) != 0)
        return qcnn_fail(error, QCNN_ERROR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return qcnn_fail(error, QCNN_ERROR_IO, "%s: not a regular file", path);
    if ((uint64_t)info.st_size > max_bytes || (uint64_t)info.st_size > SIZE_MAX / 2)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "%s: %llu bytes, more than the limit of %llu for a file of this kind", path,
                         (unsigned long long)info.st_size, (unsigned long long)max_bytes);
    const size_t size = (size_t)info.st_size;
    uint8_t *bytes = qcnn_allocate(size + 1, 1);
    if (!bytes)
        return qcnn_fail_memory(error, size + 1);
    const qcnn_status status = read_all(file, path, bytes, size, error);
    if (status != QCNN_OK) {
        qcnn_release(bytes);
        return status;
    }
    bytes[size] = 0;
    *data = bytes;
    *n_bytes = size;
    return QCNN_OK;
}

qcnn_status qcnn_read_whole_file(const char *path, uint64_t max_bytes, uint8_t **data, size_t *n_bytes, qcnn_error *error)
{
    *data = NULL;
    *n_bytes = 0;
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a FIFO must not make us wait
    if (file < 0)
        return qcnn_fail(error, QCNN_ERROR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    const qcnn_status status = read_open_file(file, path, max_bytes, data, n_bytes, error);
    close(file);
    return status;
}
