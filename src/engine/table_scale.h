// SPDX-License-Identifier: Apache-2.0
// Scales of layers that run from byte tables: of their inputs in bytes and of the tables. Each image has its own.

#ifndef QCNN_ENGINE_TABLE_SCALE_H
#define QCNN_ENGINE_TABLE_SCALE_H

#include "engine/layers.h"

// A value is scale * (byte - zero).
typedef struct qcnn_byte_scale {
    float scale, inverse;
    int zero, limit; // bytes are 0..limit
} qcnn_byte_scale;

// That of n numbers: their range and zero fit; where none is negative, zero is byte 0.
qcnn_byte_scale qcnn_byte_scale_of(const qcnn_kernels *kernels, const float *x, size_t n, int limit);

// The bound of a ReLU, which dequantizing kernels apply, or -INFINITY.
float qcnn_low_bound(const qcnn_activation *activation);

// Whether an activation is left to do once the bound is applied.
bool qcnn_activation_left(const qcnn_activation *activation);

static inline size_t qcnn_whole_lines(size_t n_bytes)
{
    return (n_bytes + 63) / 64 * 64;
}

enum { QCNN_MAX_WEIGHT = 7 };

// How table_bytes turns accumulators into entries (kernels.h). A layer and an image have one unit, which is returned; the entries
// of subspace m count 2^weights[m] of it, so that those of a subspace with small inputs are as fine as they can be. From the
// peaks of n tables, the scale of their codewords (n_scales of them, repeated) and that of the input; sets shifts, factors and
// weights of the n tables. An output adds n_terms entries, whose sum stays below 2^31.
float qcnn_table_unit(const int32_t *peaks, size_t n, const float *scales, size_t n_scales, float input_scale, uint64_t n_terms,
                      uint8_t *shifts, int16_t *factors, uint8_t *weights);

// The numbers 0..n-1 by falling weight, equal ones in order.
void qcnn_order_by_weight(const uint8_t *weights, size_t n, uint32_t *order);

#endif
