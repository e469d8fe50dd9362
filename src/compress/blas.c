// SPDX-License-Identifier: Apache-2.0
// Tiles over OpenBLAS. A tile is a task; tiles that are computed at the same time write different parts of the result.

#include "compress/blas.h"

#include <cblas.h>

#include "base/parallel.h"

enum { TILE = 512, PANEL = 256, COLUMNS = 128 }; // sides of a product's tile, rows of a Cholesky step, columns of a solve

// LAPACK's Cholesky factorisation of a small block, which OpenBLAS brings along (column-major: "L" is our upper triangle).
extern void spotrf_(const char *uplo, const int *n, float *a, const int *lda, int *info);

void qcnn_blas_start(void)
{
    openblas_set_num_threads(1);
}

static int tiles_of(int n)
{
    return (n + TILE - 1) / TILE;
}

static int tile_side(int n, int tile)
{
    const int left = n - tile * TILE;
    return left < TILE ? left : TILE;
}

// ---- products -------------------------------------------------------------------------------------------------------

void qcnn_gemm_serial(const qcnn_gemm_call *call)
{
    cblas_sgemm(CblasRowMajor, call->transpose_a ? CblasTrans : CblasNoTrans, call->transpose_b ? CblasTrans : CblasNoTrans, call->m,
                call->n, call->k, call->alpha, call->a, (int)call->lda, call->b, (int)call->ldb, call->beta, call->c, (int)call->ldc);
}

static void gemm_tile(void *argument, int index, int worker)
{
    (void)worker;
    qcnn_gemm_call tile = *(const qcnn_gemm_call *)argument;
    const int n_columns = tiles_of(tile.n), row = index / n_columns, column = index % n_columns;
    const size_t i = (size_t)row * TILE, j = (size_t)column * TILE;
    tile.a += tile.transpose_a ? i : i * tile.lda;
    tile.b += tile.transpose_b ? j * tile.ldb : j;
    tile.c += i * tile.ldc + j;
    tile.m = tile_side(tile.m, row);
    tile.n = tile_side(tile.n, column);
    qcnn_gemm_serial(&tile);
}

void qcnn_gemm(const qcnn_gemm_call *call, const qcnn_parallel *parallel)
{
    qcnn_gemm_call copy = *call;
    qcnn_for(parallel, tiles_of(call->m) * tiles_of(call->n), gemm_tile, &copy);
}

// ---- triangles ------------------------------------------------------------------------------------------------------

// Row and column of tile `index` of an upper triangle of n x n tiles, row by row.
static void triangle_tile(int index, int n, int *row, int *column)
{
    *row = 0;
    while (index >= n - *row)
        index -= n - (*row)++;
    *column = *row + index;
}

static void gram_tile(void *argument, int index, int worker)
{
    (void)worker;
    qcnn_gemm_call tile = *(const qcnn_gemm_call *)argument;
    int row, column;
    triangle_tile(index, tiles_of(tile.n), &row, &column);
    const size_t i = (size_t)row * TILE, j = (size_t)column * TILE;
    tile.a += i;
    tile.b += j;
    tile.c += i * tile.ldc + j;
    tile.m = tile_side(tile.m, row);
    tile.n = tile_side(tile.n, column);
    if (row == column)
        cblas_ssyrk(CblasRowMajor, CblasUpper, CblasTrans, tile.n, tile.k, tile.alpha, tile.a, (int)tile.lda, tile.beta, tile.c,
                    (int)tile.ldc);
    else
        qcnn_gemm_serial(&tile);
}

void qcnn_gram_add(int n, int k, float alpha, const float *a, size_t lda, float *c, size_t ldc, const qcnn_parallel *parallel)
{
    qcnn_gemm_call call = {
        .transpose_a = true, .m = n, .n = n, .k = k, .alpha = alpha, .beta = 1, .a = a, .b = a, .lda = lda, .ldb = lda, .c = c, .ldc = ldc
    };
    const int n_tiles = tiles_of(n);
    qcnn_for(parallel, n_tiles * (n_tiles + 1) / 2, gram_tile, &call);
}

typedef struct mirror_job {
    int n;
    float *c;
    size_t ldc;
    bool up; // the lower triangle over the upper one
} mirror_job;

static void mirror_tile(void *argument, int index, int worker)
{
    (void)worker;
    enum { SIDE = 32 }; // small squares, because one of the two runs down columns
    const mirror_job *job = argument;
    int row, column;
    triangle_tile(index, tiles_of(job->n), &row, &column);
    const int i_end = row * TILE + tile_side(job->n, row), j_end = column * TILE + tile_side(job->n, column);
    for (int i0 = row * TILE; i0 < i_end; i0 += SIDE)
        for (int j0 = column * TILE; j0 < j_end; j0 += SIDE)
            for (int i = i0; i < i_end && i < i0 + SIDE; i++)
                for (int j = j0 > i ? j0 : i + 1; j < j_end && j < j0 + SIDE; j++) {
                    float *upper = &job->c[(size_t)i * job->ldc + (size_t)j], *lower = &job->c[(size_t)j * job->ldc + (size_t)i];
                    *(job->up ? upper : lower) = *(job->up ? lower : upper);
                }
}

static void mirror(int n, float *c, size_t ldc, bool up, const qcnn_parallel *parallel)
{
    mirror_job job = { n, c, ldc, up };
    const int n_tiles = tiles_of(n);
    qcnn_for(parallel, n_tiles * (n_tiles + 1) / 2, mirror_tile, &job);
}

void qcnn_mirror_upper(int n, float *c, size_t ldc, const qcnn_parallel *parallel)
{
    mirror(n, c, ldc, false, parallel);
}

void qcnn_mirror_lower(int n, float *c, size_t ldc, const qcnn_parallel *parallel)
{
    mirror(n, c, ldc, true, parallel);
}

// ---- Cholesky -------------------------------------------------------------------------------------------------------

typedef struct cholesky_job {
    int n, first, side; // the panel: rows first..first + side - 1
    float *a;
    size_t lda;
} cholesky_job;

// Columns of the panel to the right of its diagonal block: U_12 = U_11^-T A_12.
static void panel_tile(void *argument, int index, int worker)
{
    (void)worker;
    const cholesky_job *job = argument;
    const int begin = job->first + job->side, j = begin + index * TILE, n = job->n - j < TILE ? job->n - j : TILE;
    cblas_strsm(CblasRowMajor, CblasLeft, CblasUpper, CblasTrans, CblasNonUnit, job->side, n, 1,
                job->a + (size_t)job->first * job->lda + (size_t)job->first, (int)job->lda,
                job->a + (size_t)job->first * job->lda + (size_t)j, (int)job->lda);
}

bool qcnn_cholesky(int n, float *a, size_t lda, const qcnn_parallel *parallel)
{
    for (int first = 0; first < n; first += PANEL) {
        cholesky_job job = { n, first, n - first < PANEL ? n - first : PANEL, a, lda };
        float *diagonal = a + (size_t)first * lda + (size_t)first;
        const int stride = (int)lda;
        int info = 0;
        spotrf_("L", &job.side, diagonal, &stride, &info);
        if (info != 0)
            return false;
        const int begin = first + job.side, n_left = n - begin;
        if (n_left == 0)
            break;
        qcnn_for(parallel, tiles_of(n_left), panel_tile, &job);
        qcnn_gram_add(n_left, job.side, -1, a + (size_t)first * lda + (size_t)begin, lda, a + (size_t)begin * lda + (size_t)begin, lda,
                      parallel);
    }
    return true;
}

typedef struct solve_job {
    int n, n_columns;
    const float *u;
    float *b;
    size_t ldu, ldb;
} solve_job;

static void solve_tile(void *argument, int index, int worker)
{
    (void)worker;
    const solve_job *job = argument;
    const int j = index * COLUMNS, n = job->n_columns - j < COLUMNS ? job->n_columns - j : COLUMNS;
    cblas_strsm(CblasRowMajor, CblasLeft, CblasUpper, CblasTrans, CblasNonUnit, job->n, n, 1, job->u, (int)job->ldu, job->b + j,
                (int)job->ldb);
    cblas_strsm(CblasRowMajor, CblasLeft, CblasUpper, CblasNoTrans, CblasNonUnit, job->n, n, 1, job->u, (int)job->ldu, job->b + j,
                (int)job->ldb);
}

void qcnn_cholesky_solve(int n, const float *u, size_t ldu, int n_columns, float *b, size_t ldb, const qcnn_parallel *parallel)
{
    solve_job job = { n, n_columns, u, b, ldu, ldb };
    qcnn_for(parallel, (n_columns + COLUMNS - 1) / COLUMNS, solve_tile, &job);
}

void qcnn_symmetric_product(int n, const float *a, size_t lda, const float *x, float *y)
{
    cblas_ssymv(CblasRowMajor, CblasUpper, n, 1, a, (int)lda, x, 1, 0, y, 1);
}
