// SPDX-License-Identifier: Apache-2.0
// Rounding float32 numbers to what a type of fewer bits can express (model.h, qcnn_number_type).

#ifndef QCNN_COMPRESS_ROUND_H
#define QCNN_COMPRESS_ROUND_H

#include "model/model.h"

enum { QCNN_MAX_INTEGER = 127 }; // of int8 numbers

// Rounds `n` finite numbers in place to scale * integer, the integer within -largest..largest (1..127), and returns the scale:
// of those tried the one with the smallest sum of squared errors. All zeros give 0.
float qcnn_round_int8(float *numbers, size_t n, int largest);

// Rounds `n` numbers in place to the scale given (as a solver does that keeps the scale fixed); 0 makes zeros of them.
void qcnn_round_int8_to(float *numbers, size_t n, int largest, float scale);

// Rounds `n` numbers in place to float16, those beyond its range to its largest.
void qcnn_round_float16(float *numbers, size_t n);

// Rounds the codewords of a tensor in place, one scale for each subspace of each set, and sets type and scales. The tensor must own
// its codewords (owned_data). `largest` (1..127) is for int8: fewer steps cost fewer bits once entropy-coded. Errors: MEMORY.
qcnn_status qcnn_codebook_round(qcnn_tensor *tensor, qcnn_number_type type, int largest, qcnn_error *error);

// The same for a tensor of dense data, one scale for each index of dimension 0. Data that the tensor does not own is copied first.
qcnn_status qcnn_data_round(qcnn_tensor *tensor, qcnn_number_type type, int largest, qcnn_error *error);

#endif
