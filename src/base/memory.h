// SPDX-License-Identifier: Apache-2.0
// The one way to get memory. All blocks are 64-byte aligned, so that any vector load may start at the first element.

#ifndef QCNN_BASE_MEMORY_H
#define QCNN_BASE_MEMORY_H

#include <stdbool.h>

#include "base/status.h"

// n * size bytes, uninitialised (allocate) or zero (zeroed). NULL when the product overflows, exceeds half the address
// space, or the allocator has none; zero bytes give a valid pointer. The caller frees with qcnn_release (NULL is fine).
void *qcnn_allocate(size_t n, size_t size);
void *qcnn_allocate_zeroed(size_t n, size_t size);
void qcnn_release(void *pointer);

// A copy of `n` bytes of text with a zero after them.
char *qcnn_copy_text(const char *text, size_t n);

// Room for at least `n` elements of `size` bytes in a growing array: *array and *capacity are updated, contents kept.
// False when memory runs out; the array is then unchanged.
bool qcnn_reserve(void *array_pointer, size_t *capacity, size_t n, size_t size);

#endif
