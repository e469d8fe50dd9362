// SPDX-License-Identifier: Apache-2.0
// Products of bytes for 64-bit ARM processors with dot-product instructions (most phones since 2018): `sdot` adds four products
// to each of four accumulators at once.

#include <arm_neon.h>
#include <string.h>

#include "kernels/kernels.h"

// ---- tables ---------------------------------------------------------------------------------------------------------

enum { DOT_POSITIONS = 4, DOT_ENTRIES = 16 }; // of a tile: 16 accumulators

// Where a tile reads: the quads of its first position, the codewords and the codeword sums of its first entry.
typedef struct dot_table_source {
    const uint8_t *x;
    const int8_t *codewords;
    const int32_t *sums;
    size_t x_stride, width;
    int n_quads, zero;
} dot_table_source;

static inline dot_table_source dot_source_at(const dot_table_source *source, size_t position, size_t entry)
{
    dot_table_source tile = *source;
    tile.x += 4 * position;
    tile.codewords += 4 * entry;
    tile.sums += entry;
    return tile;
}

// Accumulators of `positions` positions (a constant at every call) for sixteen entries. Activations are unsigned, `sdot` is
// signed: it is given them less 128, and 128 times the codeword's sum is added.
static inline __attribute__((always_inline)) void dot_accumulate_tile(int positions, dot_table_source source, int32x4_t a[DOT_POSITIONS][4])
{
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const int32x4_t start = vmulq_n_s32(vld1q_s32(source.sums + 4 * i), 128 - source.zero);
#pragma GCC unroll 4
        for (int p = 0; p < positions; p++)
            a[p][i] = start;
    }
    for (int q = 0; q < source.n_quads; q++, source.codewords += 4 * source.width, source.x += source.x_stride) {
        int8x16_t words[4]; // four codewords each
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            words[i] = vld1q_s8(source.codewords + 16 * i);
#pragma GCC unroll 4
        for (int p = 0; p < positions; p++) {
            uint32_t quad;
            memcpy(&quad, source.x + 4 * p, 4);
            const int8x16_t values = vreinterpretq_s8_u32(vdupq_n_u32(quad ^ 0x80808080u));
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++)
                a[p][i] = vdotq_s32(a[p][i], words[i], values);
        }
    }
}

static inline __attribute__((always_inline)) int32x4_t dot_tile_peak(int positions, dot_table_source source, int32x4_t peak)
{
    int32x4_t a[DOT_POSITIONS][4];
    dot_accumulate_tile(positions, source, a);
#pragma GCC unroll 4
    for (int p = 0; p < positions; p++)
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            peak = vmaxq_s32(peak, vabsq_s32(a[p][i]));
    return peak;
}

void qcnn_table_peaks_neondot(size_t n_positions, size_t n_subspaces, const uint32_t *rows, int n_quads, const uint8_t *x, size_t x_stride,
                              const int8_t *codewords, const int32_t *codeword_sums, int zero, size_t width, int32_t *peaks)
{
    for (size_t r = 0; r < n_subspaces; r++) {
        const size_t m = rows ? rows[r] : r, first_quad = m * (size_t)n_quads;
        const dot_table_source source = {
            x + first_quad * x_stride, codewords + first_quad * width * 4, codeword_sums + m * width, x_stride, width, n_quads, zero
        };
        int32x4_t peak = vdupq_n_s32(peaks[r]);
        for (size_t k = 0; k < width; k += DOT_ENTRIES) {
            size_t p = 0;
            for (; p + DOT_POSITIONS <= n_positions; p += DOT_POSITIONS)
                peak = dot_tile_peak(DOT_POSITIONS, dot_source_at(&source, p, k), peak);
            for (; p < n_positions; p++)
                peak = dot_tile_peak(1, dot_source_at(&source, p, k), peak);
        }
        peaks[r] = vmaxvq_s32(peak);
    }
}

// Eight accumulators as signed bytes.
static inline int8x8_t dot_entries(int32x4_t left, int32x4_t right, int shift, int factor)
{
    const int32x4_t by = vdupq_n_s32(-shift);
    const int16x8_t held = vcombine_s16(vqmovn_s32(vrshlq_s32(left, by)), vqmovn_s32(vrshlq_s32(right, by)));
    return vqmovn_s16(vqrdmulhq_n_s16(held, (int16_t)factor)); // (2 held factor + 2^15) / 2^16, rounded down
}

static inline __attribute__((always_inline)) void dot_tile_bytes(int positions, dot_table_source source, int shift, int factor,
                                                                 uint8_t *table)
{
    int32x4_t a[DOT_POSITIONS][4];
    dot_accumulate_tile(positions, source, a);
#pragma GCC unroll 4
    for (int p = 0; p < positions; p++) {
        const int8x16_t entries = vcombine_s8(dot_entries(a[p][0], a[p][1], shift, factor), dot_entries(a[p][2], a[p][3], shift, factor));
        vst1q_u8(table + (size_t)p * source.width, veorq_u8(vreinterpretq_u8_s8(entries), vdupq_n_u8(128)));
    }
}

void qcnn_table_bytes_neondot(size_t n_positions, size_t n_subspaces, const uint32_t *rows, int n_quads, const uint8_t *x, size_t x_stride,
                              const int8_t *codewords, const int32_t *codeword_sums, int zero, size_t width, const uint8_t *shifts,
                              const int16_t *factors, uint8_t *tables)
{
    for (size_t r = 0; r < n_subspaces; r++, tables += n_positions * width) {
        const size_t m = rows ? rows[r] : r, first_quad = m * (size_t)n_quads;
        const dot_table_source source = {
            x + first_quad * x_stride, codewords + first_quad * width * 4, codeword_sums + m * width, x_stride, width, n_quads, zero
        };
        for (size_t k = 0; k < width; k += DOT_ENTRIES) {
            size_t p = 0;
            for (; p + DOT_POSITIONS <= n_positions; p += DOT_POSITIONS)
                dot_tile_bytes(DOT_POSITIONS, dot_source_at(&source, p, k), shifts[r], factors[r], tables + p * width + k);
            for (; p < n_positions; p++)
                dot_tile_bytes(1, dot_source_at(&source, p, k), shifts[r], factors[r], tables + p * width + k);
        }
    }
}

// ---- dense: 4 rows x 16 columns -------------------------------------------------------------------------------------

enum { DOT_DENSE_ROWS = 4, DOT_DENSE_COLUMNS = 16 };

// The sums of a tile, all of it.
static inline void dot_sum_tile(size_t n_steps, const int8_t *weights, const uint8_t *x, const uint32_t *offsets,
                                int32_t rows[DOT_DENSE_ROWS][DOT_DENSE_COLUMNS])
{
    int32x4_t sums[DOT_DENSE_ROWS][4];
    for (int r = 0; r < DOT_DENSE_ROWS; r++)
        for (int v = 0; v < 4; v++)
            sums[r][v] = vdupq_n_s32(0);
    for (size_t s = 0; s < n_steps; s++, weights += DOT_DENSE_ROWS * 4) {
        const int8_t *quads = (const int8_t *)x + offsets[s]; // bytes to 127 are signed bytes
        const int8x16_t w = vld1q_s8(weights);
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
            const int8x16_t a = vld1q_s8(quads + 16 * v);
            sums[0][v] = vdotq_laneq_s32(sums[0][v], a, w, 0);
            sums[1][v] = vdotq_laneq_s32(sums[1][v], a, w, 1);
            sums[2][v] = vdotq_laneq_s32(sums[2][v], a, w, 2);
            sums[3][v] = vdotq_laneq_s32(sums[3][v], a, w, 3);
        }
    }
    for (int r = 0; r < DOT_DENSE_ROWS; r++)
        for (int v = 0; v < 4; v++)
            vst1q_s32(rows[r] + 4 * v, sums[r][v]);
}

void qcnn_dense_bytes_4x16_neondot(size_t n_rows, size_t n_columns, size_t n_steps, const int8_t *weights, const uint8_t *x,
                                   const uint32_t *offsets, const float *scales, const float *starts, float low, float *y, size_t y_stride)
{
    int32_t rows[DOT_DENSE_ROWS][DOT_DENSE_COLUMNS];
    dot_sum_tile(n_steps, weights, x, offsets, rows);
    for (size_t r = 0; r < n_rows; r++)
        qcnn_dequantize_neon(n_columns, rows[r], scales[r], starts[r], low, y + r * y_stride);
}

void qcnn_dense_quads_4x16_neondot(size_t n_rows, size_t n_columns, size_t n_steps, const int8_t *weights, const uint8_t *x,
                                   const uint32_t *offsets, const float *scales, const float *starts, int limit, uint8_t *y,
                                   size_t quad_stride)
{
    (void)quad_stride; // a tile has one quad
    int32_t rows[DOT_DENSE_ROWS][DOT_DENSE_COLUMNS];
    dot_sum_tile(n_steps, weights, x, offsets, rows);
    qcnn_quads_of_sums_neon(n_rows, n_columns, rows[0], DOT_DENSE_COLUMNS, scales, starts, limit, y);
}
