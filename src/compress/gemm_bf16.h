// SPDX-License-Identifier: Apache-2.0
// Matrix products whose factors are rounded to bfloat16 and summed in float32, on processors that do this at twice the speed of
// float32: enough for the gradients and responses of training.

#ifndef QCNN_COMPRESS_GEMM_BF16_H
#define QCNN_COMPRESS_GEMM_BF16_H

#include "compress/blas.h"

// Whether this processor has the instructions.
bool qcnn_gemm_bf16_available(void);

// A tile of the product; smaller ones are faster in float32.
enum { QCNN_GEMM_BF16_ROWS = 12, QCNN_GEMM_BF16_COLUMNS = 32 };

// Floats of scratch memory that products with at most m rows need.
size_t qcnn_gemm_bf16_scratch(int m);

// As qcnn_gemm_serial, with alpha 1 and beta 0 or 1. Only where available.
void qcnn_gemm_bf16(const qcnn_gemm_call *call, float *scratch);

#endif
