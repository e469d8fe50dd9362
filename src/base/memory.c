// SPDX-License-Identifier: Apache-2.0
// Aligned allocation through the caller's hook.

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

enum { ALIGNMENT = 64 };

static void *system_allocate(void *context, size_t bytes, size_t alignment)
{
    (void)context;
    return aligned_alloc(alignment, bytes);
}

static void system_release(void *context, void *pointer)
{
    (void)context;
    free(pointer);
}

static qcnn_allocator current_allocator = { system_allocate, system_release, NULL };

void qcnn_set_allocator(const qcnn_allocator *allocator)
{
    current_allocator = allocator ? *allocator : (qcnn_allocator){ system_allocate, system_release, NULL };
}

void *qcnn_allocate(size_t n, size_t size)
{
    uint64_t bytes;
    if (!qcnn_multiply(n, size, &bytes) || !qcnn_round_up(bytes ? bytes : 1, ALIGNMENT, &bytes) || bytes > SIZE_MAX / 2)
        return NULL;
    return current_allocator.allocate(current_allocator.context, (size_t)bytes, ALIGNMENT);
}

void *qcnn_allocate_zeroed(size_t n, size_t size)
{
    void *pointer = qcnn_allocate(n, size);
    if (pointer)
        memset(pointer, 0, n * size);
    return pointer;
}

void qcnn_release(void *pointer)
{
    if (pointer)
        current_allocator.release(current_allocator.context, pointer);
}

char *qcnn_copy_text(const char *text, size_t n)
{
    char *copy = qcnn_allocate(n + 1, 1);
    if (copy) {
        memcpy(copy, text, n);
        copy[n] = 0;
    }
    return copy;
}

bool qcnn_reserve(void *array_pointer, size_t *capacity, size_t n, size_t size)
{
    if (n <= *capacity)
        return true;
    const size_t grown = n + n / 2 + 8;
    void *larger = qcnn_allocate(grown, size);
    if (!larger)
        return false;
    void *array;
    memcpy(&array, array_pointer, sizeof array);
    if (array)
        memcpy(larger, array, *capacity * size);
    qcnn_release(array);
    memcpy(array_pointer, &larger, sizeof larger);
    *capacity = grown;
    return true;
}
