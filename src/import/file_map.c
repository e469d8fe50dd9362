// SPDX-License-Identifier: Apache-2.0
// A regular file as read-only memory.

#include "import/file_map.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static qcnn_status map_descriptor(int file, const char *path, void **data, size_t *n_bytes, qcnn_error *error)
{
    struct stat info;
    if (fstat(file, &info))
        return qcnn_fail(error, QCNN_ERROR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return qcnn_fail(error, QCNN_ERROR_IO, "%s: not a regular file", path);
    if (info.st_size == 0)
        return QCNN_OK;
    void *mapping = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (mapping == MAP_FAILED)
        return qcnn_fail(error, QCNN_ERROR_IO, "%s: cannot be mapped: %s", path, strerror(errno));
    *data = mapping;
    *n_bytes = (size_t)info.st_size;
    return QCNN_OK;
}

qcnn_status qcnn_map_file(const char *path, void **data, size_t *n_bytes, qcnn_error *error)
{
    *data = NULL;
    *n_bytes = 0;
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a FIFO must not make us wait
    if (file < 0)
        return qcnn_fail(error, QCNN_ERROR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    const qcnn_status status = map_descriptor(file, path, data, n_bytes, error);
    close(file);
    return status;
}

void qcnn_unmap_file(void *data, size_t n_bytes)
{
    if (data)
        munmap(data, n_bytes);
}
