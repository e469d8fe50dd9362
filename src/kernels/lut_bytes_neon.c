// SPDX-License-Identifier: Apache-2.0
// Integer tables for 64-bit ARM: building, and sums of byte tables by `tbl`, which looks sixteen codes up in tables of 16, 32 or
// 64 bytes; larger tables are quarters or halves of 64.

#include <arm_neon.h>
#include <string.h>

#include "kernels/kernels.h"

// ---- building -------------------------------------------------------------------------------------------------------

enum { POSITIONS = 4, ENTRIES = 8 }; // of a tile: 16 accumulators

// Where a tile reads: the quads of its first position, the codewords and the codeword sums of its first entry.
typedef struct table_source {
    const uint8_t *x;
    const int8_t *codewords;
    const int32_t *sums;
    size_t x_stride, width;
    int n_quads, zero;
} table_source;

static inline table_source source_at(const table_source *source, size_t position, size_t entry)
{
    table_source tile = *source;
    tile.x += 4 * position;
    tile.codewords += 4 * entry;
    tile.sums += entry;
    return tile;
}

// Accumulators of `positions` positions (a constant at every call) for eight entries: a[p][0] the first four, a[p][1] the rest.
// The products of two bytes fit 16 bits, their sums do not: pairs are widened as they are added.
static inline __attribute__((always_inline)) void accumulate_tile(int positions, table_source source, int32x4_t a[POSITIONS][2])
{
    int32x4_t pairs[POSITIONS][4]; // two entries each, each in two halves
#pragma GCC unroll 4
    for (int p = 0; p < positions; p++)
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            pairs[p][i] = vdupq_n_s32(0);
    for (int q = 0; q < source.n_quads; q++, source.codewords += 4 * source.width, source.x += source.x_stride) {
        int16x8_t words[4]; // two codewords each
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            const int8x16_t bytes = vld1q_s8(source.codewords + 16 * i);
            words[2 * i] = vmovl_s8(vget_low_s8(bytes));
            words[2 * i + 1] = vmovl_high_s8(bytes);
        }
#pragma GCC unroll 4
        for (int p = 0; p < positions; p++) {
            uint32_t quad;
            memcpy(&quad, source.x + 4 * p, 4);
            const int16x8_t values = vreinterpretq_s16_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(quad)))); // the quad twice
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++)
                pairs[p][i] = vpadalq_s16(pairs[p][i], vmulq_s16(words[i], values));
        }
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        const int32x4_t start = vmulq_n_s32(vld1q_s32(source.sums + 4 * i), -source.zero);
#pragma GCC unroll 4
        for (int p = 0; p < positions; p++)
            a[p][i] = vaddq_s32(vpaddq_s32(pairs[p][2 * i], pairs[p][2 * i + 1]), start);
    }
}

static inline __attribute__((always_inline)) int32x4_t tile_peak(int positions, table_source source, int32x4_t peak)
{
    int32x4_t a[POSITIONS][2];
    accumulate_tile(positions, source, a);
#pragma GCC unroll 4
    for (int p = 0; p < positions; p++)
        peak = vmaxq_s32(peak, vmaxq_s32(vabsq_s32(a[p][0]), vabsq_s32(a[p][1])));
    return peak;
}

void qcnn_table_peaks_neon(size_t n_positions, size_t n_subspaces, const uint32_t *rows, int n_quads, const uint8_t *x, size_t x_stride,
                           const int8_t *codewords, const int32_t *codeword_sums, int zero, size_t width, int32_t *peaks)
{
    for (size_t r = 0; r < n_subspaces; r++) {
        const size_t m = rows ? rows[r] : r, first_quad = m * (size_t)n_quads;
        const table_source source = {
            x + first_quad * x_stride, codewords + first_quad * width * 4, codeword_sums + m * width, x_stride, width, n_quads, zero
        };
        int32x4_t peak = vdupq_n_s32(peaks[r]);
        for (size_t k = 0; k < width; k += ENTRIES) {
            size_t p = 0;
            for (; p + POSITIONS <= n_positions; p += POSITIONS)
                peak = tile_peak(POSITIONS, source_at(&source, p, k), peak);
            for (; p < n_positions; p++)
                peak = tile_peak(1, source_at(&source, p, k), peak);
        }
        peaks[r] = vmaxvq_s32(peak);
    }
}

static inline __attribute__((always_inline)) void tile_bytes(int positions, table_source source, int shift, int factor, uint8_t *table)
{
    int32x4_t a[POSITIONS][2];
    accumulate_tile(positions, source, a);
    const int32x4_t right = vdupq_n_s32(-shift);
#pragma GCC unroll 4
    for (int p = 0; p < positions; p++) {
        const int16x8_t held = vcombine_s16(vqmovn_s32(vrshlq_s32(a[p][0], right)), vqmovn_s32(vrshlq_s32(a[p][1], right)));
        const int8x8_t entries = vqmovn_s16(vqrdmulhq_n_s16(held, (int16_t)factor)); // (2 held factor + 2^15) / 2^16, rounded down
        vst1_u8(table + (size_t)p * source.width, veor_u8(vreinterpret_u8_s8(entries), vdup_n_u8(128)));
    }
}

void qcnn_table_bytes_neon(size_t n_positions, size_t n_subspaces, const uint32_t *rows, int n_quads, const uint8_t *x, size_t x_stride,
                           const int8_t *codewords, const int32_t *codeword_sums, int zero, size_t width, const uint8_t *shifts,
                           const int16_t *factors, uint8_t *tables)
{
    for (size_t r = 0; r < n_subspaces; r++, tables += n_positions * width) {
        const size_t m = rows ? rows[r] : r, first_quad = m * (size_t)n_quads;
        const table_source source = {
            x + first_quad * x_stride, codewords + first_quad * width * 4, codeword_sums + m * width, x_stride, width, n_quads, zero
        };
        for (size_t k = 0; k < width; k += ENTRIES) {
            size_t p = 0;
            for (; p + POSITIONS <= n_positions; p += POSITIONS)
                tile_bytes(POSITIONS, source_at(&source, p, k), shifts[r], factors[r], tables + p * width + k);
            for (; p < n_positions; p++)
                tile_bytes(1, source_at(&source, p, k), shifts[r], factors[r], tables + p * width + k);
        }
    }
}

// ---- summing --------------------------------------------------------------------------------------------------------

// Sixteen entries of a table of 16 * `registers` bytes that lie in `table`; `registers` is a constant at every call.
static inline __attribute__((always_inline)) uint8x16_t look_up(const uint8x16x4_t *table, int registers, uint8x16_t codes)
{
    if (registers == 1)
        return vqtbl1q_u8(table[0].val[0], codes);
    if (registers == 2)
        return vqtbl2q_u8((uint8x16x2_t){ { table[0].val[0], table[0].val[1] } }, codes);
    uint8x16_t entries = vqtbl4q_u8(table[0], codes);
#pragma GCC unroll 4
    for (int i = 1; i < registers / 4; i++) { // a code that is not in this quarter leaves the entry as it is
        codes = vsubq_u8(codes, vdupq_n_u8(64));
        entries = vqtbx4q_u8(entries, table[i], codes);
    }
    return entries;
}

static inline __attribute__((always_inline)) void load_table(uint8x16x4_t *table, int registers, const uint8_t *bytes)
{
#pragma GCC unroll 16
    for (int i = 0; i < registers; i++)
        table[i / 4].val[i % 4] = vld1q_u8(bytes + 16 * i);
}

static inline void add_words(int32_t *sums, uint16x8_t words)
{
    vst1q_s32(sums, vaddq_s32(vld1q_s32(sums), vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(words)))));
    vst1q_s32(sums + 4, vaddq_s32(vld1q_s32(sums + 4), vreinterpretq_s32_u32(vmovl_high_u16(words))));
}

// A block of 16 * `vectors` outputs over at most ROWS rows, sums in 16 bits; `vectors` and `registers` are constants.
enum { ROWS = 257 }; // 257 * 255 fits 16 bits

static inline __attribute__((always_inline)) void fc_block(int vectors, int registers, size_t n_rows, const uint32_t *rows,
                                                           const uint8_t *codes, size_t code_stride, const uint8_t *tables, int32_t *sums)
{
    uint16x8_t low[4], high[4];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
        low[v] = high[v] = vdupq_n_u16(0);
    for (size_t r = 0; r < n_rows; r++) {
        uint8x16x4_t table[4];
        load_table(table, registers, tables + r * 16 * (size_t)registers);
        const uint8_t *row = codes + rows[r] * code_stride;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            const uint8x16_t entries = look_up(table, registers, vld1q_u8(row + 16 * v));
            low[v] = vaddw_u8(low[v], vget_low_u8(entries));
            high[v] = vaddw_high_u8(high[v], entries);
        }
    }
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        add_words(sums + 16 * v, low[v]);
        add_words(sums + 16 * v + 8, high[v]);
    }
}

// All whole vectors of outputs; gives the number of outputs done.
static inline __attribute__((always_inline)) size_t fc_blocks(int registers, size_t n_outputs, size_t n_rows, const uint32_t *rows,
                                                              const uint8_t *codes, size_t code_stride, const uint8_t *tables,
                                                              int32_t *sums)
{
    size_t o = 0;
    for (; o + 64 <= n_outputs; o += 64)
        fc_block(4, registers, n_rows, rows, codes + o, code_stride, tables, sums + o);
    for (; o + 16 <= n_outputs; o += 16)
        fc_block(1, registers, n_rows, rows, codes + o, code_stride, tables, sums + o);
    return o;
}

void qcnn_lut_fc_bytes_neon(size_t n_outputs, size_t n_rows, const uint32_t *rows, const uint8_t *codes, size_t code_stride,
                            const uint8_t *tables, size_t width, int32_t *sums)
{
    for (size_t begin = 0; begin < n_rows; begin += ROWS) {
        const size_t n = n_rows - begin < ROWS ? n_rows - begin : ROWS;
        const uint8_t *some = tables + begin * width;
        size_t done = 0;
        switch (width) {
        case 16: done = fc_blocks(1, n_outputs, n, rows + begin, codes, code_stride, some, sums); break;
        case 32: done = fc_blocks(2, n_outputs, n, rows + begin, codes, code_stride, some, sums); break;
        case 64: done = fc_blocks(4, n_outputs, n, rows + begin, codes, code_stride, some, sums); break;
        case 128: done = fc_blocks(8, n_outputs, n, rows + begin, codes, code_stride, some, sums); break;
        default: done = fc_blocks(16, n_outputs, n, rows + begin, codes, code_stride, some, sums); break;
        }
        qcnn_lut_fc_bytes_c(n_outputs - done, n, rows + begin, codes + done, code_stride, some, width, sums + done);
    }
}

// ---- 16-bit tables, positions in the lanes --------------------------------------------------------------------------

// `outputs` outputs of 8 * `vectors` positions, constants at every call.
static inline __attribute__((always_inline)) void words_block(int outputs, int vectors, size_t n_outputs, size_t n_taps,
                                                              const uint8_t *assignments, const int16_t *const *tables, size_t table_stride,
                                                              size_t column, int32_t *place, size_t lanes)
{
    int16x8_t words[8][4];
#pragma GCC unroll 8
    for (int i = 0; i < outputs; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            words[i][v] = vdupq_n_s16(0);
    for (size_t t = 0; t < n_taps; t++) {
        const int16_t *table = tables[t] + column;
        const uint8_t *codes = assignments + t * n_outputs;
#pragma GCC unroll 8
        for (int i = 0; i < outputs; i++) {
            const int16_t *entries = table + codes[i] * table_stride;
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                words[i][v] = vaddq_s16(words[i][v], vld1q_s16(entries + 8 * v));
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < outputs; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            int32_t *sums = place + (size_t)i * lanes + 8 * v;
            vst1q_s32(sums, vaddw_s16(vld1q_s32(sums), vget_low_s16(words[i][v])));
            vst1q_s32(sums + 4, vaddw_high_s16(vld1q_s32(sums + 4), words[i][v]));
        }
}

void qcnn_lut_sum_words_neon(size_t n_outputs, size_t n_taps, const uint8_t *assignments, const int16_t *const *tables, size_t table_stride,
                             int32_t *sums, size_t lanes)
{
    size_t column = 0;
    for (; column + 32 <= lanes; column += 32) { // a code is read once for 32 positions
        size_t o = 0;
        for (; o + 4 <= n_outputs; o += 4)
            words_block(4, 4, n_outputs, n_taps, assignments + o, tables, table_stride, column, sums + o * lanes + column, lanes);
        for (; o < n_outputs; o++)
            words_block(1, 4, n_outputs, n_taps, assignments + o, tables, table_stride, column, sums + o * lanes + column, lanes);
    }
    for (; column < lanes; column += QCNN_LUT_COLUMNS) {
        size_t o = 0;
        for (; o + 8 <= n_outputs; o += 8)
            words_block(8, 2, n_outputs, n_taps, assignments + o, tables, table_stride, column, sums + o * lanes + column, lanes);
        for (; o < n_outputs; o++)
            words_block(1, 2, n_outputs, n_taps, assignments + o, tables, table_stride, column, sums + o * lanes + column, lanes);
    }
}
