// SPDX-License-Identifier: Apache-2.0
// Seeded random numbers, the same on every machine: SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
// generators", OOPSLA 2014). Work that is spread over threads takes one generator per piece, from qcnn_rng_split, so that
// results depend on the seed alone.

#ifndef QCNN_BASE_RNG_H
#define QCNN_BASE_RNG_H

#include <stdint.h>

typedef struct qcnn_rng {
    uint64_t state; // any value is a good seed
} qcnn_rng;

static inline uint64_t qcnn_rng_next(qcnn_rng *rng)
{
    uint64_t z = rng->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

// Uniform in [0, 1).
static inline double qcnn_rng_unit(qcnn_rng *rng)
{
    return (double)(qcnn_rng_next(rng) >> 11) * 0x1p-53;
}

// Uniform in 0..n-1, n >= 1. (Its bias, below n / 2^64, does not matter here.)
static inline uint32_t qcnn_rng_below(qcnn_rng *rng, uint32_t n)
{
    return (uint32_t)(qcnn_rng_unit(rng) * n);
}

// The seed of piece `index` of work whose seed is `seed`.
static inline uint64_t qcnn_rng_split(uint64_t seed, uint64_t index)
{
    qcnn_rng outer = { seed };
    qcnn_rng inner = { qcnn_rng_next(&outer) ^ index };
    return qcnn_rng_next(&inner);
}

#endif
