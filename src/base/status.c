// SPDX-License-Identifier: Apache-2.0
// Status names and error messages.

#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>

const char *qcnn_status_name(qcnn_status status)
{
    switch (status) {
    case QCNN_OK: return "ok";
    case QCNN_ERROR_ARGUMENT: return "invalid argument";
    case QCNN_ERROR_MEMORY: return "out of memory";
    case QCNN_ERROR_IO: return "input/output error";
    case QCNN_ERROR_FORMAT: return "malformed file";
    case QCNN_ERROR_UNSUPPORTED: return "unsupported";
    case QCNN_ERROR_CANCELLED: return "cancelled";
    }
    return "unknown status";
}

const char *qcnn_version(void)
{
    return QCNN_VERSION;
}

qcnn_status qcnn_fail(qcnn_error *error, qcnn_status status, const char *format, ...)
{
    if (!error)
        return status;
    error->status = status;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    for (char *c = error->message; *c; c++) // names come from files: a message stays one line, without terminal escapes
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    return status;
}

qcnn_status qcnn_fail_memory(qcnn_error *error, size_t n_bytes)
{
    return qcnn_fail(error, QCNN_ERROR_MEMORY, "out of memory: %zu bytes could not be allocated", n_bytes);
}
