// SPDX-License-Identifier: Apache-2.0
// Writing a file so that its name always stands for something whole.

#ifndef QCNN_EXPORT_ATOMIC_FILE_H
#define QCNN_EXPORT_ATOMIC_FILE_H

#include "base/status.h"

// Writes `n_bytes` bytes to a temporary beside `path` (".NAME.PID-N.tmp"), syncs it, renames it to `path` and syncs the
// folder. On an error that happens before the rename the temporary is gone and the old file, if there was one, untouched; a
// process that is killed may leave a temporary behind, never a part of a file under `path`. Permissions are those of the file
// that is replaced, else what the umask leaves of 0666. A device or pipe (/dev/stdout) is written to directly.
// Errors: IO (with the path and the system's reason), MEMORY.
qcnn_status qcnn_write_file(const char *path, const void *data, size_t n_bytes, qcnn_error *error);

#endif
