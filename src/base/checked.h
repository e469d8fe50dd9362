// SPDX-License-Identifier: Apache-2.0
// The only arithmetic allowed on sizes that come from a file: it tells when the result does not fit.

#ifndef QCNN_BASE_CHECKED_H
#define QCNN_BASE_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

// Each returns false, leaving *result unspecified, when the true result exceeds 64 bits.
static inline bool qcnn_add(uint64_t a, uint64_t b, uint64_t *result)
{
    return !__builtin_add_overflow(a, b, result);
}

static inline bool qcnn_multiply(uint64_t a, uint64_t b, uint64_t *result)
{
    return !__builtin_mul_overflow(a, b, result);
}

// Up to the next multiple of `step`, a power of two.
static inline bool qcnn_round_up(uint64_t a, uint64_t step, uint64_t *result)
{
    if (!qcnn_add(a, step - 1, result))
        return false;
    *result &= ~(step - 1);
    return true;
}

#endif
