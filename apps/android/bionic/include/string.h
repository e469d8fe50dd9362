// SPDX-License-Identifier: Apache-2.0
// Of Android's string.h, what libqcnn_java.so needs: declarations of our own, because the NDK's headers are not to be had here.

#ifndef QCNN_BIONIC_STRING_H
#define QCNN_BIONIC_STRING_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int value, size_t n);
int memcmp(const void *a, const void *b, size_t n);
void *memchr(const void *bytes, int value, size_t n);
size_t strlen(const char *text);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);
char *strerror(int code);

#endif
