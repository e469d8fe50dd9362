// SPDX-License-Identifier: Apache-2.0
// The blocked product of Goto and van de Geijn: a block of B in the second cache, panels of A that stream past it, a tile of C in
// registers. A lane holds two neighbouring k: the instruction multiplies both and adds.

#include "compress/gemm_bf16.h"

#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"

enum { ROWS = QCNN_GEMM_BF16_ROWS, COLUMNS = QCNN_GEMM_BF16_COLUMNS, DEPTH = QCNN_BF16_DEPTH, WIDTH = 256 }; // tile of C; block of B

static int padded(int n, int side)
{
    return (n + side - 1) / side * side;
}

size_t qcnn_gemm_bf16_scratch(int m)
{
    return (size_t)DEPTH / 2 * ((size_t)padded(m, ROWS) + WIDTH);
}

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))

static bool have_instructions(void)
{
    return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}

// Two floats as bfloat16 numbers in one word, the first in the low half; rounded to nearest, ties to even (finite numbers).
static inline uint32_t half_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

static inline uint32_t pair_of(float low, float high)
{
    return half_of(low) | half_of(high) << 16;
}

// 16 lanes of pairs from two rows.
TARGET static inline __m512i pairs_of_rows(__m512 low, __m512 high)
{
    const __m512i l = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(low)), h = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(high));
    return _mm512_or_si512(l, _mm512_slli_epi32(h, 16));
}

// Rows along which k runs: 16 words of each at a time, then spread over the panel.
TARGET static void pack_along_k(const float *source, size_t n_stride, int count, int k, int side, uint32_t *to)
{
    const __m512i lanes =
        _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), _mm512_set1_epi32(side));
    for (int i = 0; i < count; i++) {
        const float *row = source + (size_t)i * n_stride;
        int p = 0;
        for (; 2 * p + 32 <= k; p += 16)
            _mm512_i32scatter_epi32(to + (size_t)p * (size_t)side + (size_t)i, lanes,
                                    (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(row + 2 * p + 16), _mm512_loadu_ps(row + 2 * p)), 4);
        for (; p < k / 2; p++)
            to[(size_t)p * (size_t)side + (size_t)i] = pair_of(row[2 * p], row[2 * p + 1]);
        if (k % 2)
            to[(size_t)p * (size_t)side + (size_t)i] = half_of(row[k - 1]);
    }
}

TARGET void qcnn_bf16_pack(const float *from, size_t n_stride, size_t k_stride, int n, int k, int side, uint32_t *to)
{
    const int pairs = (k + 1) / 2;
    for (int first = 0; first < n; first += side, to += (size_t)pairs * (size_t)side) {
        const int count = n - first < side ? n - first : side;
        const float *source = from + (size_t)first * n_stride;
        if (count < side)
            memset(to, 0, (size_t)pairs * (size_t)side * sizeof *to);
        if (n_stride == 1) {
            for (int p = 0; p < pairs; p++) {
                const float *low = source + (size_t)(2 * p) * k_stride, *high = low + k_stride;
                for (int i = 0; i < count; i += 16) {
                    const __mmask16 mask = count - i < 16 ? (__mmask16)((1u << (count - i)) - 1) : (__mmask16)0xffff;
                    const __m512 a = _mm512_maskz_loadu_ps(mask, low + i);
                    const __m512 b = 2 * p + 1 < k ? _mm512_maskz_loadu_ps(mask, high + i) : _mm512_setzero_ps();
                    _mm512_mask_storeu_epi32(to + (size_t)p * (size_t)side + (size_t)i, mask, pairs_of_rows(a, b));
                }
            }
            continue;
        }
        pack_along_k(source, n_stride, count, k, side, to);
    }
}

// C (rows x columns, at most ROWS x COLUMNS) = or += panel of A times panel of B.
TARGET static void tile(int pairs, const uint32_t *a, const uint32_t *b, int rows, int columns, bool add, float *c, size_t ldc)
{
    __m512 sums[ROWS][2];
    for (int r = 0; r < ROWS; r++)
        sums[r][0] = sums[r][1] = _mm512_setzero_ps();
    for (int p = 0; p < pairs; p++, a += ROWS, b += COLUMNS) {
        const __m512bh low = (__m512bh)_mm512_loadu_si512(b), high = (__m512bh)_mm512_loadu_si512(b + 16);
#pragma GCC unroll 12
        for (int r = 0; r < ROWS; r++) {
            const __m512bh x = (__m512bh)_mm512_set1_epi32((int)a[r]);
            sums[r][0] = _mm512_dpbf16_ps(sums[r][0], x, low);
            sums[r][1] = _mm512_dpbf16_ps(sums[r][1], x, high);
        }
    }
    const __mmask16 first = columns < 16 ? (__mmask16)((1u << columns) - 1) : (__mmask16)0xffff;
    const __mmask16 second = columns < 32 ? (__mmask16)((1u << (columns - 16)) - 1) : (__mmask16)0xffff;
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; r++) {
        if (r >= rows)
            break;
        float *to = c + (size_t)r * ldc;
        _mm512_mask_storeu_ps(to, first, add ? _mm512_add_ps(_mm512_maskz_loadu_ps(first, to), sums[r][0]) : sums[r][0]);
        _mm512_mask_storeu_ps(to + 16, second, add ? _mm512_add_ps(_mm512_maskz_loadu_ps(second, to + 16), sums[r][1]) : sums[r][1]);
    }
}

// The same for at most half as many columns.
TARGET static void narrow_tile(int pairs, const uint32_t *a, const uint32_t *b, int rows, int columns, bool add, float *c, size_t ldc)
{
    __m512 sums[ROWS];
    for (int r = 0; r < ROWS; r++)
        sums[r] = _mm512_setzero_ps();
    for (int p = 0; p < pairs; p++, a += ROWS, b += COLUMNS) {
        const __m512bh x = (__m512bh)_mm512_loadu_si512(b);
#pragma GCC unroll 12
        for (int r = 0; r < ROWS; r++)
            sums[r] = _mm512_dpbf16_ps(sums[r], (__m512bh)_mm512_set1_epi32((int)a[r]), x);
    }
    const __mmask16 mask = columns < 16 ? (__mmask16)((1u << columns) - 1) : (__mmask16)0xffff;
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; r++) {
        if (r >= rows)
            break;
        float *to = c + (size_t)r * ldc;
        _mm512_mask_storeu_ps(to, mask, add ? _mm512_add_ps(_mm512_maskz_loadu_ps(mask, to), sums[r]) : sums[r]);
    }
}

void qcnn_bf16_multiply(int m, int n, int pairs, const uint32_t *a, const uint32_t *b, bool add, float *c, size_t ldc)
{
    for (int i = 0; i < m; i += ROWS)
        for (int j = 0; j < n; j += COLUMNS)
            (n - j > COLUMNS / 2 ? tile : narrow_tile)(pairs, a + (size_t)i * (size_t)pairs, b + (size_t)j * (size_t)pairs,
                                                       m - i < ROWS ? m - i : ROWS, n - j < COLUMNS ? n - j : COLUMNS, add,
                                                       c + (size_t)i * ldc + (size_t)j, ldc);
}

TARGET void qcnn_bf16_round(const float *from, size_t n, uint16_t *to)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        _mm256_storeu_si256((__m256i *)(void *)(to + i), (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(from + i)));
    for (; i < n; i++)
        to[i] = (uint16_t)half_of(from[i]);
}

TARGET void qcnn_bf16_interleave(const uint16_t *low, const uint16_t *high, size_t n, uint32_t *to)
{
    for (size_t i = 0; i < n; i += 16) {
        const __m512i l = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(low + i)));
        const __m512i h = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(high + i)));
        _mm512_storeu_si512(to + i, _mm512_or_si512(l, _mm512_slli_epi32(h, 16)));
    }
}

void qcnn_gemm_bf16(const qcnn_gemm_call *call, float *scratch)
{
    uint32_t *const panels = (uint32_t *)(void *)scratch;
    for (int k = 0; k < call->k; k += DEPTH) {
        const int depth = call->k - k < DEPTH ? call->k - k : DEPTH, pairs = (depth + 1) / 2;
        uint32_t *const block = panels + (size_t)pairs * (size_t)padded(call->m, ROWS);
        const float *a = call->a + (call->transpose_a ? (size_t)k * call->lda : (size_t)k);
        qcnn_bf16_pack(a, call->transpose_a ? 1 : call->lda, call->transpose_a ? call->lda : 1, call->m, depth, ROWS, panels);
        for (int n = 0; n < call->n; n += WIDTH) {
            const int width = call->n - n < WIDTH ? call->n - n : WIDTH;
            const float *b = call->b + (call->transpose_b ? (size_t)n * call->ldb + (size_t)k : (size_t)k * call->ldb + (size_t)n);
            qcnn_bf16_pack(b, call->transpose_b ? call->ldb : 1, call->transpose_b ? 1 : call->ldb, width, depth, COLUMNS, block);
            qcnn_bf16_multiply(call->m, width, pairs, panels, block, k > 0 || call->beta != 0, call->c + n, call->ldc);
        }
    }
}

#else

static bool have_instructions(void)
{
    return false;
}

void qcnn_gemm_bf16(const qcnn_gemm_call *call, float *scratch)
{
    (void)scratch;
    qcnn_gemm_serial(call);
}

void qcnn_bf16_pack(const float *from, size_t n_stride, size_t k_stride, int n, int k, int side, uint32_t *to)
{
    (void)from, (void)n_stride, (void)k_stride, (void)n, (void)k, (void)side, (void)to;
}

void qcnn_bf16_multiply(int m, int n, int pairs, const uint32_t *a, const uint32_t *b, bool add, float *c, size_t ldc)
{
    (void)m, (void)n, (void)pairs, (void)a, (void)b, (void)add, (void)c, (void)ldc;
}

void qcnn_bf16_round(const float *from, size_t n, uint16_t *to)
{
    (void)from, (void)n, (void)to;
}

void qcnn_bf16_interleave(const uint16_t *low, const uint16_t *high, size_t n, uint32_t *to)
{
    (void)low, (void)high, (void)n, (void)to;
}

#endif

// ---- whether ---------------------------------------------------------------------------------------------------------

static bool forbidden;

void qcnn_gemm_bf16_forbid(bool forbid)
{
    forbidden = forbid;
}

bool qcnn_gemm_bf16_available(void)
{
    return !forbidden && have_instructions();
}

// ---- spread over threads --------------------------------------------------------------------------------------------

enum { TILE_SIDE = 512 };

typedef struct fast_job {
    qcnn_gemm_call call;
    float *scratch; // [workers][n_scratch]
    size_t n_scratch;
} fast_job;

static int tiles_along(int n)
{
    return (n + TILE_SIDE - 1) / TILE_SIDE;
}

static void fast_tile(void *argument, int index, int worker)
{
    const fast_job *job = argument;
    qcnn_gemm_call tile = job->call;
    const int n_columns = tiles_along(tile.n), row = index / n_columns * TILE_SIDE, column = index % n_columns * TILE_SIDE;
    tile.a += tile.transpose_a ? (size_t)row : (size_t)row * tile.lda;
    tile.b += tile.transpose_b ? (size_t)column * tile.ldb : (size_t)column;
    tile.c += (size_t)row * tile.ldc + (size_t)column;
    tile.m = tile.m - row < TILE_SIDE ? tile.m - row : TILE_SIDE;
    tile.n = tile.n - column < TILE_SIDE ? tile.n - column : TILE_SIDE;
    qcnn_gemm_bf16(&tile, job->scratch + (size_t)worker * job->n_scratch);
}

qcnn_status qcnn_gemm_fast(const qcnn_gemm_call *call, const qcnn_parallel *parallel, qcnn_error *error)
{
    if (!qcnn_gemm_bf16_available()) {
        qcnn_gemm(call, parallel);
        return QCNN_OK;
    }
    fast_job job = { .call = *call, .n_scratch = qcnn_gemm_bf16_scratch(call->m < TILE_SIDE ? call->m : TILE_SIDE) };
    const size_t n = (size_t)qcnn_n_workers(parallel) * job.n_scratch;
    job.scratch = qcnn_allocate(n, sizeof *job.scratch);
    if (!job.scratch)
        return qcnn_fail_memory(error, n * sizeof *job.scratch);
    qcnn_for(parallel, tiles_along(call->m) * tiles_along(call->n), fast_tile, &job);
    qcnn_release(job.scratch);
    return QCNN_OK;
}
