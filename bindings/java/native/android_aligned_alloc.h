// SPDX-License-Identifier: Apache-2.0
// Included before everything else on Android, whose C library has aligned_alloc only since API 28.

#ifndef QCNN_ANDROID_ALIGNED_ALLOC_H
#define QCNN_ANDROID_ALIGNED_ALLOC_H

#include <stdlib.h>

static inline void *qcnn_android_aligned_alloc(size_t alignment, size_t n_bytes)
{
    void *pointer;
    return posix_memalign(&pointer, alignment, n_bytes) == 0 ? pointer : NULL;
}

#define aligned_alloc qcnn_android_aligned_alloc

#endif
