// SPDX-License-Identifier: Apache-2.0
// Costs of sixteen points at a time, the codewords one after the other. Compiled twice on x86, for AVX2 and for the baseline.

#include "compress/nearest.h"

#include <float.h>
#include <string.h>

#include "base/rng.h"

enum { LANES = 8, BLOCK = 2 * LANES };

typedef float lanes_f __attribute__((vector_size(LANES * 4), may_alias, aligned(4)));
typedef int32_t lanes_i __attribute__((vector_size(LANES * 4), may_alias, aligned(4)));

// Two vectors of points, x: [dim][stride], against all candidates.
static inline __attribute__((always_inline)) void nearest_block(const qcnn_candidates *c, const float *x, size_t stride, const float *price,
                                                                const float *noise, const float *temperature, int32_t nearest[BLOCK])
{
    const float far = FLT_MAX;
    lanes_f least0 = { far, far, far, far, far, far, far, far }, least1 = least0;
    lanes_i index0 = { 0 }, index1 = { 0 };
    const lanes_f price0 = *(const lanes_f *)price, price1 = *(const lanes_f *)(price + LANES);
    for (int k = 0; k < c->n; k++) {
        const float *direction = c->direction + (size_t)k * (size_t)c->dim;
        const float bits = c->bits ? c->bits[k] : 0;
        lanes_f sum0 = { 0 }, sum1 = { 0 };
        for (int d = 0; d < c->dim; d++) {
            sum0 += direction[d] * *(const lanes_f *)(x + (size_t)d * stride);
            sum1 += direction[d] * *(const lanes_f *)(x + (size_t)d * stride + LANES);
        }
        lanes_f cost0 = c->constant[k] + price0 * bits - 2 * sum0, cost1 = c->constant[k] + price1 * bits - 2 * sum1;
        if (noise) {
            cost0 -= *(const lanes_f *)temperature * *(const lanes_f *)(noise + (size_t)k * BLOCK);
            cost1 -= *(const lanes_f *)(temperature + LANES) * *(const lanes_f *)(noise + (size_t)k * BLOCK + LANES);
        }
        const lanes_i less0 = cost0 < least0, less1 = cost1 < least1;
        least0 = (lanes_f)(((lanes_i)cost0 & less0) | ((lanes_i)least0 & ~less0));
        least1 = (lanes_f)(((lanes_i)cost1 & less1) | ((lanes_i)least1 & ~less1));
        index0 = (less0 & k) | (index0 & ~less0);
        index1 = (less1 & k) | (index1 & ~less1);
    }
    memcpy(nearest, &index0, sizeof index0);
    memcpy(nearest + LANES, &index1, sizeof index1);
}

static inline __attribute__((always_inline)) void nearest_all(const qcnn_candidates *c, const float *points, size_t stride, size_t n_points,
                                                              uint8_t *nearest)
{
    const float free_of_charge[BLOCK] = { 0 };
    int32_t index[BLOCK];
    for (size_t first = 0; first < n_points; first += BLOCK) {
        const size_t n = n_points - first < BLOCK ? n_points - first : BLOCK;
        const float *price = c->price ? c->price + first : free_of_charge;
        if (c->noise)
            nearest_block(c, points + first, stride, price, c->noise + qcnn_rng_split(c->draw, first) % QCNN_NOISE, c->temperature + first,
                          index);
        else
            nearest_block(c, points + first, stride, price, NULL, NULL, index);
        for (size_t i = 0; i < n; i++)
            nearest[first + i] = (uint8_t)index[i];
    }
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static void nearest_avx2(const qcnn_candidates *c, const float *points, size_t stride, size_t n_points,
                                                             uint8_t *nearest)
{
    nearest_all(c, points, stride, n_points, nearest);
}
#endif

void qcnn_nearest(const qcnn_candidates *candidates, const float *points, size_t stride, size_t n_points, uint8_t *nearest)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        nearest_avx2(candidates, points, stride, n_points, nearest);
        return;
    }
#endif
    nearest_all(candidates, points, stride, n_points, nearest);
}
