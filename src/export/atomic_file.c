// SPDX-License-Identifier: Apache-2.0
// Temporary, write, sync, rename, sync the folder.

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "qcnn_compress.h"

enum { EXTRA_NAME = 40, MAX_ATTEMPTS = 1000 };

static qcnn_status fail_write(qcnn_error *error, const char *path, const char *what)
{
    return qcnn_fail(error, QCNN_ERROR_IO, "%s: %s: %s", path, what, strerror(errno));
}

static bool write_all(int descriptor, const unsigned char *data, size_t n_bytes)
{
    while (n_bytes > 0) {
        const ssize_t n = write(descriptor, data, n_bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        data += n;
        n_bytes -= (size_t)n;
    }
    return true;
}

// Bytes of `path` up to and including the last slash; 0 without one.
static size_t folder_bytes(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

// Makes a file that was not there before, ".NAME.PID-N.tmp" in the folder of `path`, and leaves its name in `name`.
static int create_temporary(const char *path, const struct stat *replaced, char *name, size_t room)
{
    const size_t folder = folder_bytes(path);
    int descriptor = -1;
    errno = EEXIST;
    for (int i = 0; descriptor < 0 && errno == EEXIST && i < MAX_ATTEMPTS; i++) { // other threads, and leftovers of killed processes
        snprintf(name, room, "%.*s.%.200s.%ld-%d.tmp", (int)folder, path, path + folder, (long)getpid(), i);
        descriptor = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    }
    if (descriptor >= 0 && replaced)
        (void)!fchmod(descriptor, replaced->st_mode & 0777); // not every file system has permissions
    return descriptor;
}

static bool sync_folder(const char *path, char *scratch)
{
    const size_t n = folder_bytes(path);
    memcpy(scratch, n ? path : ".", n ? n : 1);
    scratch[n ? n : 1] = 0;
    const int descriptor = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0)
        return false;
    const bool synced = fsync(descriptor) == 0 || errno == EINVAL || errno == EROFS; // some file systems cannot sync folders
    const int reason = errno;
    close(descriptor);
    errno = reason;
    return synced;
}

// Returns what failed, with errno set; NULL when the file is in place and lasting. `name` has room for the temporary's name.
static const char *replace_file(const char *path, const void *data, size_t n_bytes, const struct stat *replaced, char *name)
{
    const int descriptor = create_temporary(path, replaced, name, strlen(path) + EXTRA_NAME);
    if (descriptor < 0)
        return "cannot make a temporary file beside it";
    const char *failed = NULL;
    if (!write_all(descriptor, data, n_bytes))
        failed = "cannot be written";
    else if (fsync(descriptor))
        failed = "cannot be synced to disk";
    int reason = errno;
    if (close(descriptor) && !failed) {
        failed = "cannot be closed";
        reason = errno;
    }
    if (!failed && rename(name, path)) {
        failed = "cannot be renamed into place";
        reason = errno;
    }
    if (failed) {
        unlink(name);
        errno = reason;
        return failed;
    }
    return sync_folder(path, name) ? NULL : "is written, but its folder cannot be synced";
}

static const char *write_directly(const char *path, const void *data, size_t n_bytes)
{
    const int descriptor = open(path, O_WRONLY | O_CLOEXEC);
    if (descriptor < 0)
        return "cannot be opened for writing";
    const bool written = write_all(descriptor, data, n_bytes);
    const int reason = errno;
    const bool closed = close(descriptor) == 0;
    if (!written)
        errno = reason;
    return written && closed ? NULL : "cannot be written";
}

qcnn_status qcnn_write_file(const char *path, const void *data, size_t n_bytes, qcnn_error *error)
{
    if (!path || !*path || (!data && n_bytes > 0))
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "no path or no data to write");
    struct stat facts;
    const bool exists = stat(path, &facts) == 0;
    const char *failed;
    if (exists && S_ISDIR(facts.st_mode)) {
        errno = EISDIR;
        failed = "cannot be written";
    } else if (exists && !S_ISREG(facts.st_mode)) {
        failed = write_directly(path, data, n_bytes);
    } else {
        char *name = qcnn_allocate(strlen(path) + EXTRA_NAME, 1);
        if (!name)
            return qcnn_fail_memory(error, strlen(path) + EXTRA_NAME);
        failed = replace_file(path, data, n_bytes, exists ? &facts : NULL, name);
        const int reason = errno;
        qcnn_release(name);
        errno = reason;
    }
    return failed ? fail_write(error, path, failed) : QCNN_OK;
}
