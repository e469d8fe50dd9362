// SPDX-License-Identifier: Apache-2.0
// Integer tables for WebAssembly SIMD. `swizzle` looks sixteen codes up in sixteen bytes and gives 0 for codes beyond, so larger
// tables are the union of what their sixteenths give.

#include <string.h>
#include <wasm_simd128.h>

#include "kernels/kernels.h"

// ---- building -------------------------------------------------------------------------------------------------------

enum { WASM_POSITIONS = 2, WASM_ENTRIES = 8 }; // of a tile: 8 accumulators

// Where a tile reads: the quads of its first position, the codewords and the codeword sums of its first entry.
typedef struct wasm_source {
    const uint8_t *x;
    const int8_t *codewords;
    const int32_t *sums;
    size_t x_stride, width;
    int n_quads, zero;
} wasm_source;

static inline wasm_source wasm_source_at(const wasm_source *source, size_t position, size_t entry)
{
    wasm_source tile = *source;
    tile.x += 4 * position;
    tile.codewords += 4 * entry;
    tile.sums += entry;
    return tile;
}

// Sums of neighbours: (a0 + a1, a2 + a3, b0 + b1, b2 + b3).
static inline v128_t add_neighbours(v128_t a, v128_t b)
{
    return wasm_i32x4_add(wasm_i32x4_shuffle(a, b, 0, 2, 4, 6), wasm_i32x4_shuffle(a, b, 1, 3, 5, 7));
}

// Accumulators of `positions` positions (a constant at every call) for eight entries: a[p][0] the first four, a[p][1] the rest.
static inline __attribute__((always_inline)) void accumulate_wasm(int positions, wasm_source source, v128_t a[WASM_POSITIONS][2])
{
    v128_t pairs[WASM_POSITIONS][4]; // two entries each, each in two halves
    for (int p = 0; p < positions; p++)
        for (int i = 0; i < 4; i++)
            pairs[p][i] = wasm_i32x4_const_splat(0);
    for (int q = 0; q < source.n_quads; q++, source.codewords += 4 * source.width, source.x += source.x_stride) {
        v128_t words[4]; // two codewords each
        for (int i = 0; i < 4; i++)
            words[i] = wasm_i16x8_load8x8(source.codewords + 8 * i);
        for (int p = 0; p < positions; p++) {
            const v128_t values = wasm_u16x8_extend_low_u8x16(wasm_v128_load32_splat(source.x + 4 * p)); // the quad twice
            for (int i = 0; i < 4; i++)
                pairs[p][i] = wasm_i32x4_add(pairs[p][i], wasm_i32x4_dot_i16x8(words[i], values));
        }
    }
    for (int i = 0; i < 2; i++) {
        const v128_t start = wasm_i32x4_mul(wasm_v128_load(source.sums + 4 * i), wasm_i32x4_splat(-source.zero));
        for (int p = 0; p < positions; p++)
            a[p][i] = wasm_i32x4_add(add_neighbours(pairs[p][2 * i], pairs[p][2 * i + 1]), start);
    }
}

static inline __attribute__((always_inline)) v128_t peak_wasm(int positions, wasm_source source, v128_t peak)
{
    v128_t a[WASM_POSITIONS][2];
    accumulate_wasm(positions, source, a);
    for (int p = 0; p < positions; p++)
        for (int i = 0; i < 2; i++)
            peak = wasm_i32x4_max(peak, wasm_i32x4_abs(a[p][i]));
    return peak;
}

void qcnn_table_peaks_wasm(size_t n_positions, size_t n_subspaces, const uint32_t *rows, int n_quads, const uint8_t *x, size_t x_stride,
                           const int8_t *codewords, const int32_t *codeword_sums, int zero, size_t width, int32_t *peaks)
{
    for (size_t r = 0; r < n_subspaces; r++) {
        const size_t m = rows ? rows[r] : r, first_quad = m * (size_t)n_quads;
        const wasm_source source = {
            x + first_quad * x_stride, codewords + first_quad * width * 4, codeword_sums + m * width, x_stride, width, n_quads, zero
        };
        v128_t peak = wasm_i32x4_splat(peaks[r]);
        for (size_t k = 0; k < width; k += WASM_ENTRIES) {
            size_t p = 0;
            for (; p + WASM_POSITIONS <= n_positions; p += WASM_POSITIONS)
                peak = peak_wasm(WASM_POSITIONS, wasm_source_at(&source, p, k), peak);
            for (; p < n_positions; p++)
                peak = peak_wasm(1, wasm_source_at(&source, p, k), peak);
        }
        int32_t lanes[4];
        wasm_v128_store(lanes, peak);
        for (int i = 0; i < 4; i++)
            peaks[r] = lanes[i] > peaks[r] ? lanes[i] : peaks[r];
    }
}

static inline __attribute__((always_inline)) void bytes_wasm(int positions, wasm_source source, int shift, int factor, uint8_t *table)
{
    v128_t a[WASM_POSITIONS][2];
    accumulate_wasm(positions, source, a);
    const v128_t half = wasm_i32x4_splat((1 << shift) >> 1);
    for (int p = 0; p < positions; p++) {
        const v128_t left = wasm_i32x4_shr(wasm_i32x4_add(a[p][0], half), (uint32_t)shift);
        const v128_t right = wasm_i32x4_shr(wasm_i32x4_add(a[p][1], half), (uint32_t)shift);
        const v128_t held = wasm_i16x8_narrow_i32x4(left, right);
        const v128_t scaled = wasm_i16x8_q15mulr_sat(held, wasm_i16x8_splat((int16_t)factor));
        const v128_t entries = wasm_v128_xor(wasm_i8x16_narrow_i16x8(scaled, scaled), wasm_u8x16_const_splat(128));
        wasm_v128_store64_lane(table + (size_t)p * source.width, entries, 0);
    }
}

void qcnn_table_bytes_wasm(size_t n_positions, size_t n_subspaces, const uint32_t *rows, int n_quads, const uint8_t *x, size_t x_stride,
                           const int8_t *codewords, const int32_t *codeword_sums, int zero, size_t width, const uint8_t *shifts,
                           const int16_t *factors, uint8_t *tables)
{
    for (size_t r = 0; r < n_subspaces; r++, tables += n_positions * width) {
        const size_t m = rows ? rows[r] : r, first_quad = m * (size_t)n_quads;
        const wasm_source source = {
            x + first_quad * x_stride, codewords + first_quad * width * 4, codeword_sums + m * width, x_stride, width, n_quads, zero
        };
        for (size_t k = 0; k < width; k += WASM_ENTRIES) {
            size_t p = 0;
            for (; p + WASM_POSITIONS <= n_positions; p += WASM_POSITIONS)
                bytes_wasm(WASM_POSITIONS, wasm_source_at(&source, p, k), shifts[r], factors[r], tables + p * width + k);
            for (; p < n_positions; p++)
                bytes_wasm(1, wasm_source_at(&source, p, k), shifts[r], factors[r], tables + p * width + k);
        }
    }
}

// ---- summing --------------------------------------------------------------------------------------------------------

// Sixteen entries of a table of 16 * `parts` bytes; `parts` is a constant at every call.
static inline __attribute__((always_inline)) v128_t look_up_wasm(const v128_t *table, int parts, v128_t codes)
{
    v128_t entries = wasm_i8x16_swizzle(table[0], codes);
    for (int i = 1; i < parts; i++) {
        codes = wasm_i8x16_sub(codes, wasm_i8x16_const_splat(16));
        entries = wasm_v128_or(entries, wasm_i8x16_swizzle(table[i], codes));
    }
    return entries;
}

static inline void add_words_wasm(int32_t *sums, v128_t words)
{
    wasm_v128_store(sums, wasm_i32x4_add(wasm_v128_load(sums), wasm_u32x4_extend_low_u16x8(words)));
    wasm_v128_store(sums + 4, wasm_i32x4_add(wasm_v128_load(sums + 4), wasm_u32x4_extend_high_u16x8(words)));
}

enum { WASM_ROWS = 257 }; // 257 * 255 fits 16 bits

// 16 * `vectors` outputs over at most WASM_ROWS rows, sums in 16 bits; `vectors` and `parts` are constants at every call.
static inline __attribute__((always_inline)) void fc_block_wasm(int vectors, int parts, size_t n_rows, const uint32_t *rows,
                                                                const uint8_t *codes, size_t code_stride, const uint8_t *tables,
                                                                int32_t *sums)
{
    v128_t low[4], high[4];
    for (int v = 0; v < vectors; v++)
        low[v] = high[v] = wasm_i16x8_const_splat(0);
    for (size_t r = 0; r < n_rows; r++) {
        v128_t table[8];
        for (int i = 0; i < parts; i++)
            table[i] = wasm_v128_load(tables + (r * (size_t)parts + (size_t)i) * 16);
        const uint8_t *row = codes + rows[r] * code_stride;
        for (int v = 0; v < vectors; v++) {
            const v128_t entries = look_up_wasm(table, parts, wasm_v128_load(row + 16 * v));
            low[v] = wasm_i16x8_add(low[v], wasm_u16x8_extend_low_u8x16(entries));
            high[v] = wasm_i16x8_add(high[v], wasm_u16x8_extend_high_u8x16(entries));
        }
    }
    for (int v = 0; v < vectors; v++) {
        add_words_wasm(sums + 16 * v, low[v]);
        add_words_wasm(sums + 16 * v + 8, high[v]);
    }
}

// All whole vectors of outputs; gives the number of outputs done. More vectors share the loading of a small table.
static inline __attribute__((always_inline)) size_t fc_blocks_wasm(int vectors, int parts, size_t n_outputs, size_t n_rows,
                                                                   const uint32_t *rows, const uint8_t *codes, size_t code_stride,
                                                                   const uint8_t *tables, int32_t *sums)
{
    const size_t block = 16 * (size_t)vectors;
    size_t o = 0;
    for (; o + block <= n_outputs; o += block)
        fc_block_wasm(vectors, parts, n_rows, rows, codes + o, code_stride, tables, sums + o);
    for (; o + 16 <= n_outputs; o += 16)
        fc_block_wasm(1, parts, n_rows, rows, codes + o, code_stride, tables, sums + o);
    return o;
}

void qcnn_lut_fc_bytes_wasm(size_t n_outputs, size_t n_rows, const uint32_t *rows, const uint8_t *codes, size_t code_stride,
                            const uint8_t *tables, size_t width, int32_t *sums)
{
    for (size_t begin = 0; begin < n_rows; begin += WASM_ROWS) {
        const size_t n = n_rows - begin < WASM_ROWS ? n_rows - begin : WASM_ROWS;
        const uint8_t *some = tables + begin * width;
        size_t done = 0;
        switch (width) {
        case 16: done = fc_blocks_wasm(4, 1, n_outputs, n, rows + begin, codes, code_stride, some, sums); break;
        case 32: done = fc_blocks_wasm(4, 2, n_outputs, n, rows + begin, codes, code_stride, some, sums); break;
        case 64: done = fc_blocks_wasm(2, 4, n_outputs, n, rows + begin, codes, code_stride, some, sums); break;
        case 128: done = fc_blocks_wasm(1, 8, n_outputs, n, rows + begin, codes, code_stride, some, sums); break;
        default: break; // sixteen swizzles cost as much as sixteen loads
        }
        qcnn_lut_fc_bytes_c(n_outputs - done, n, rows + begin, codes + done, code_stride, some, width, sums + done);
    }
}

// ---- 16-bit tables, positions in the lanes --------------------------------------------------------------------------

// `outputs` outputs, a constant at every call, of sixteen positions.
static inline __attribute__((always_inline)) void words_block_wasm(int outputs, size_t n_outputs, size_t n_taps, const uint8_t *assignments,
                                                                   const int16_t *const *tables, size_t table_stride, size_t column,
                                                                   int32_t *place, size_t lanes)
{
    v128_t words[4][2];
    for (int i = 0; i < outputs; i++)
        words[i][0] = words[i][1] = wasm_i16x8_const_splat(0);
    for (size_t t = 0; t < n_taps; t++) {
        const int16_t *table = tables[t] + column;
        const uint8_t *codes = assignments + t * n_outputs;
        for (int i = 0; i < outputs; i++) {
            const int16_t *entries = table + codes[i] * table_stride;
            words[i][0] = wasm_i16x8_add(words[i][0], wasm_v128_load(entries));
            words[i][1] = wasm_i16x8_add(words[i][1], wasm_v128_load(entries + 8));
        }
    }
    for (int i = 0; i < outputs; i++)
        for (int v = 0; v < 2; v++) {
            int32_t *sums = place + (size_t)i * lanes + 8 * v;
            wasm_v128_store(sums, wasm_i32x4_add(wasm_v128_load(sums), wasm_i32x4_extend_low_i16x8(words[i][v])));
            wasm_v128_store(sums + 4, wasm_i32x4_add(wasm_v128_load(sums + 4), wasm_i32x4_extend_high_i16x8(words[i][v])));
        }
}

void qcnn_lut_sum_words_wasm(size_t n_outputs, size_t n_taps, const uint8_t *assignments, const int16_t *const *tables, size_t table_stride,
                             int32_t *sums, size_t lanes)
{
    for (size_t column = 0; column < lanes; column += QCNN_LUT_COLUMNS) {
        size_t o = 0;
        for (; o + 4 <= n_outputs; o += 4)
            words_block_wasm(4, n_outputs, n_taps, assignments + o, tables, table_stride, column, sums + o * lanes + column, lanes);
        for (; o < n_outputs; o++)
            words_block_wasm(1, n_outputs, n_taps, assignments + o, tables, table_stride, column, sums + o * lanes + column, lanes);
    }
}
