// SPDX-License-Identifier: Apache-2.0
// External data of an ONNX model: bytes of another file, which must lie in the model's own folder. The path comes from the
// model and may be hostile, so it is walked one component at a time and no link is followed anywhere.

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "import/onnx.h"

enum { MAX_LOCATION = 1024 };

static qcnn_status bad_location(qcnn_span location, const char *what, qcnn_error *error)
{
    return qcnn_fail(error, QCNN_ERROR_FORMAT, "external data '%.*s': %s", QCNN_SPAN_TEXT(location), what);
}

// Opens the next component of a path, in `folder`; closes `folder`. A negative result leaves errno set.
static int descend(int folder, const char *name, bool last)
{
    const int next = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | (last ? 0 : O_DIRECTORY));
    const int reason = errno;
    close(folder);
    errno = reason;
    return next;
}

static qcnn_status open_external(const char *folder, qcnn_span location, int *file, qcnn_error *error)
{
    char path[MAX_LOCATION + 1];
    if (location.n == 0 || location.n > MAX_LOCATION || memchr(location.data, 0, location.n))
        return bad_location(location, "the path is empty, too long or no text", error);
    memcpy(path, location.data, location.n);
    path[location.n] = 0;
    if (path[0] == '/')
        return bad_location(location, "the path is absolute; it must be inside the model's own folder", error);
    *file = open(folder, O_RDONLY | O_CLOEXEC | O_DIRECTORY);
    char *rest = path;
    for (char *name = strsep(&rest, "/"); name && *file >= 0; name = strsep(&rest, "/")) {
        if (!strcmp(name, "..")) {
            close(*file);
            return bad_location(location, "the path leaves the model's own folder", error);
        }
        if (*name && strcmp(name, "."))
            *file = descend(*file, name, rest == NULL);
    }
    if (*file < 0)
        return errno == ELOOP || errno == ENOTDIR
                   ? bad_location(location, "the path goes through a symbolic link or a file", error)
                   : qcnn_fail(error, QCNN_ERROR_IO, "external data '%.*s': %s", QCNN_SPAN_TEXT(location), strerror(errno));
    return QCNN_OK;
}

static qcnn_status read_at(int file, qcnn_span location, uint64_t offset, size_t n_bytes, char *data, qcnn_error *error)
{
    for (size_t done = 0; done < n_bytes;) {
        const ssize_t got = pread(file, data + done, n_bytes - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return qcnn_fail(error, QCNN_ERROR_IO, "external data '%.*s': cannot be read: %s", QCNN_SPAN_TEXT(location),
                             got ? strerror(errno) : "it shrank");
        done += (size_t)got;
    }
    return QCNN_OK;
}

static qcnn_status read_open(int file, qcnn_span location, uint64_t offset, size_t n_bytes, void **data, qcnn_error *error)
{
    struct stat info;
    if (fstat(file, &info) || !S_ISREG(info.st_mode))
        return bad_location(location, "not a regular file", error);
    if (offset > (uint64_t)info.st_size || n_bytes > (uint64_t)info.st_size - offset)
        return bad_location(location, "the file is shorter than the model says", error);
    *data = qcnn_allocate(n_bytes, 1);
    if (!*data)
        return qcnn_fail_memory(error, n_bytes);
    const qcnn_status status = read_at(file, location, offset, n_bytes, *data, error);
    if (status != QCNN_OK) {
        qcnn_release(*data);
        *data = NULL;
    }
    return status;
}

qcnn_status qcnn_read_external(const char *folder, qcnn_span location, uint64_t offset, size_t n_bytes, void **data, qcnn_error *error)
{
    *data = NULL;
    int file = -1;
    QCNN_TRY(open_external(folder, location, &file, error));
    const qcnn_status status = read_open(file, location, offset, n_bytes, data, error);
    close(file);
    return status;
}
