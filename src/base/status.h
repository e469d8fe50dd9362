// SPDX-License-Identifier: Apache-2.0
// Filling in the caller's error object. `return qcnn_fail(error, QCNN_ERROR_FORMAT, "...", ...)` is how every failure leaves.

#ifndef QCNN_BASE_STATUS_H
#define QCNN_BASE_STATUS_H

#include "qcnn.h"

// Writes the message (cut to fit; control characters from hostile names become '?') and returns `status`. `error` may be NULL.
__attribute__((format(printf, 3, 4))) qcnn_status qcnn_fail(qcnn_error *error, qcnn_status status, const char *format, ...);

// The message every failed allocation gives.
qcnn_status qcnn_fail_memory(qcnn_error *error, size_t n_bytes);

#define QCNN_TRY(call)                       \
    do {                                     \
        const qcnn_status status_ = (call);  \
        if (status_ != QCNN_OK)              \
            return status_;                  \
    } while (0)

#endif
