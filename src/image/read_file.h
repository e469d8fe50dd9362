// SPDX-License-Identifier: Apache-2.0
// Reading a whole file of bounded size.

#ifndef QCNN_IMAGE_READ_FILE_H
#define QCNN_IMAGE_READ_FILE_H

#include "base/status.h"

// All bytes of the regular file at `path`, at most `max_bytes`, followed by a zero that is not counted (text may be parsed in
// place). The caller releases *data with qcnn_release. Errors name the path: IO, MEMORY, FORMAT (larger than max_bytes).
qcnn_status qcnn_read_whole_file(const char *path, uint64_t max_bytes, uint8_t **data, size_t *n_bytes, qcnn_error *error);

#endif
