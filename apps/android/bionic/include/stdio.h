// SPDX-License-Identifier: Apache-2.0
// Of Android's stdio.h, what libqcnn_java.so needs: declarations of our own, because the NDK's headers are not to be had here.

#ifndef QCNN_BIONIC_STDIO_H
#define QCNN_BIONIC_STDIO_H

#include <stdarg.h>
#include <stddef.h>

int snprintf(char *restrict to, size_t size, const char *restrict format, ...) __attribute__((format(printf, 3, 4)));
int vsnprintf(char *restrict to, size_t size, const char *restrict format, va_list arguments);

#endif
