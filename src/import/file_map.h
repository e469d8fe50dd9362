// SPDX-License-Identifier: Apache-2.0
// A regular file as read-only memory.

#ifndef QCNN_IMPORT_FILE_MAP_H
#define QCNN_IMPORT_FILE_MAP_H

#include "base/status.h"

// Maps the file at `path`; an empty file gives *data NULL and *n_bytes 0. Errors name the path: IO (also for what is no
// regular file). Unmap with qcnn_unmap_file, which fits qcnn_model.release_file.
qcnn_status qcnn_map_file(const char *path, void **data, size_t *n_bytes, qcnn_error *error);
void qcnn_unmap_file(void *data, size_t n_bytes);

#endif
