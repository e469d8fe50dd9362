// SPDX-License-Identifier: Apache-2.0
// IEEE 754 binary16, bits to float and back.

#ifndef QCNN_BASE_HALF_H
#define QCNN_BASE_HALF_H

#include <stdint.h>

// Every half is a float exactly.
float qcnn_half_to_float(uint16_t half);

// The nearest half, ties to even; beyond the largest one infinity.
uint16_t qcnn_float_to_half(float value);

#endif
