// SPDX-License-Identifier: Apache-2.0
// The inner loop of every assignment step: for each of many points the codeword of least cost, where the cost is a quadratic
// form and, with a price on bits, the length of the codeword's number in the coded file.

#ifndef QCNN_COMPRESS_NEAREST_H
#define QCNN_COMPRESS_NEAREST_H

#include <stddef.h>
#include <stdint.h>

enum { QCNN_NEAREST_PADDING = 16, QCNN_NOISE = 1 << 16, QCNN_NOISE_READ = 256 * QCNN_NEAREST_PADDING };

// Codewords as the cost sees them: cost of codeword k at point i = constant[k] + price[i] * bits[k] - 2 <direction[k], point i>, less
// temperature[i] times a number of `noise`, which one being chosen by `draw`.
typedef struct qcnn_candidates {
    int n, dim;               // candidates, at most 256; coordinates
    const float *direction;   // [n][dim]
    const float *constant;    // [n]
    const float *bits;        // [n], or NULL: no price
    const float *price;       // [points], or NULL
    const float *noise;       // [QCNN_NOISE + QCNN_NOISE_READ], or NULL: none
    const float *temperature; // [points]
    uint64_t draw;
} qcnn_candidates;

// points: [dim][stride], n_points of them; prices and temperatures, too, may be read up to the next multiple of QCNN_NEAREST_PADDING, so
// that stride is at least that. Of equally cheap codewords the first. The result for a point depends on it alone.
void qcnn_nearest(const qcnn_candidates *candidates, const float *points, size_t stride, size_t n_points, uint8_t *nearest);

#endif
