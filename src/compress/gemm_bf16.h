// SPDX-License-Identifier: Apache-2.0
// Matrix products whose factors are rounded to bfloat16 and summed in float32, on processors that do this at twice the speed of
// float32: enough for the gradients and responses of training.

#ifndef QCNN_COMPRESS_GEMM_BF16_H
#define QCNN_COMPRESS_GEMM_BF16_H

#include <stdint.h>

#include "base/status.h"
#include "compress/blas.h"

// Whether this processor has the instructions, and they are not forbidden.
bool qcnn_gemm_bf16_available(void);

// Everything in float32 from now on, as on processors without: for tests. Not while anything runs.
void qcnn_gemm_bf16_forbid(bool forbid);

// A tile of the product; smaller ones are faster in float32.
enum { QCNN_GEMM_BF16_ROWS = 12, QCNN_GEMM_BF16_COLUMNS = 32 };

// Floats of scratch memory that products with at most m rows need.
size_t qcnn_gemm_bf16_scratch(int m);

// As qcnn_gemm_serial, with alpha 1 and beta 0 or 1. Only where available.
void qcnn_gemm_bf16(const qcnn_gemm_call *call, float *scratch);

// As qcnn_gemm, with alpha 1 and beta 0 or 1, in bfloat16 where available: for walks and cross moments. (Not for second moments, which
// must stay positive definite when means are taken out.) Errors: MEMORY.
qcnn_status qcnn_gemm_fast(const qcnn_gemm_call *call, const qcnn_parallel *parallel, qcnn_error *error);

// ---- pieces, for products whose factors are packed elsewhere --------------------------------------------------------

// Numbers of k that a product takes at once, an even number.
enum { QCNN_BF16_DEPTH = 512 };

// Panels of `side` rows or columns, a word holding two neighbouring k: to[panel][k / 2][side]. Along k the source has stride k_stride,
// along the other dimension n_stride, one of which is 1. What lies beyond n and k is zero.
void qcnn_bf16_pack(const float *from, size_t n_stride, size_t k_stride, int n, int k, int side, uint32_t *to);

// C (m x n) += A B of one such block of k: panels of QCNN_GEMM_BF16_ROWS rows of A, and of QCNN_GEMM_BF16_COLUMNS columns of B; `add`
// false: C = A B.
void qcnn_bf16_multiply(int m, int n, int pairs, const uint32_t *a, const uint32_t *b, bool add, float *c, size_t ldc);

// Rounds n numbers.
void qcnn_bf16_round(const float *from, size_t n, uint16_t *to);

// to[i] = low[i] | high[i] << 16, 16 numbers at a time: up to 15 more than n are read and written.
void qcnn_bf16_interleave(const uint16_t *low, const uint16_t *high, size_t n, uint32_t *to);

#endif
