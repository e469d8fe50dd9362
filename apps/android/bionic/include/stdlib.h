// SPDX-License-Identifier: Apache-2.0
// Of Android's stdlib.h, what libqcnn_java.so needs: declarations of our own, because the NDK's headers are not to be had here.

#ifndef QCNN_BIONIC_STDLIB_H
#define QCNN_BIONIC_STDLIB_H

#include <stddef.h>

void *malloc(size_t n_bytes);
void free(void *pointer);
int posix_memalign(void **pointer, size_t alignment, size_t n_bytes);

#endif
