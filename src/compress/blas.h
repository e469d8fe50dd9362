// SPDX-License-Identifier: Apache-2.0
// Dense linear algebra of the compressor: OpenBLAS on one thread, spread over the caller's threads in tiles whose size does not
// depend on how many there are. So results do not either. All matrices are row-major.

#ifndef QCNN_COMPRESS_BLAS_H
#define QCNN_COMPRESS_BLAS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

// To be called before any other function here: BLAS's own threads off, for the whole process.
void qcnn_blas_start(void);

// C (m x n, rows ldc apart) = alpha op(A) op(B) + beta C. op(A) is m x k: A itself, or with transpose_a its transpose, A being
// k x m; likewise op(B), k x n.
typedef struct qcnn_gemm_call {
    bool transpose_a, transpose_b;
    int m, n, k;
    float alpha, beta;
    const float *a, *b;
    size_t lda, ldb;
    float *c;
    size_t ldc;
} qcnn_gemm_call;

void qcnn_gemm(const qcnn_gemm_call *call, const qcnn_parallel *parallel);
void qcnn_gemm_serial(const qcnn_gemm_call *call); // on the calling thread, for use inside a task

// y = A x for a symmetric A (n x n) of which the upper triangle is read; on the calling thread.
void qcnn_symmetric_product(int n, const float *a, size_t lda, const float *x, float *y);

// The upper triangle of C (n x n) += alpha A^T A with A (k x n); what lies below the diagonal is left as it is.
void qcnn_gram_add(int n, int k, float alpha, const float *a, size_t lda, float *c, size_t ldc, const qcnn_parallel *parallel);

// Copies the upper triangle over the lower one, or the lower over the upper.
void qcnn_mirror_upper(int n, float *c, size_t ldc, const qcnn_parallel *parallel);
void qcnn_mirror_lower(int n, float *c, size_t ldc, const qcnn_parallel *parallel);

// A = U^T U for the symmetric positive definite A (n x n) of which only the upper triangle is read and replaced by U; below the
// diagonal nothing changes, so that a full A can be had back (qcnn_mirror_lower, and the diagonal from a copy). False when A is not
// positive definite; it is then partly overwritten.
bool qcnn_cholesky(int n, float *a, size_t lda, const qcnn_parallel *parallel);

// B (n x n_columns) = A^-1 B, with U from qcnn_cholesky.
void qcnn_cholesky_solve(int n, const float *u, size_t ldu, int n_columns, float *b, size_t ldb, const qcnn_parallel *parallel);

#endif
