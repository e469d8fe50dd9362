// SPDX-License-Identifier: Apache-2.0
// Integer tables with AVX2: building, sums of byte tables by `vpshufb`, which looks codes up in sixteen bytes, and sums of 16-bit
// tables with positions in the lanes.

#include <immintrin.h>
#include <string.h>

#include "kernels/kernels.h"

static inline __m256i load_256(const void *bytes)
{
    return _mm256_loadu_si256((const __m256i *)bytes);
}

// ---- building -------------------------------------------------------------------------------------------------------

enum { AVX2_POSITIONS = 4, AVX2_ENTRIES = 8 }; // of a tile: 8 accumulators

// Where a tile reads: the quads of its first position, the codewords and the codeword sums of its first entry.
typedef struct avx2_source {
    const uint8_t *x;
    const int8_t *codewords;
    const int32_t *sums;
    size_t x_stride, width;
    int n_quads, zero;
} avx2_source;

static inline avx2_source avx2_source_at(const avx2_source *source, size_t position, size_t entry)
{
    avx2_source tile = *source;
    tile.x += 4 * position;
    tile.codewords += 4 * entry;
    tile.sums += entry;
    return tile;
}

// Four codewords as 16-bit numbers.
static inline __m256i widened_256(const int8_t *codewords)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)codewords));
}

// A quad as 16-bit numbers, four times.
static inline __m256i quads_256(const uint8_t *x)
{
    int32_t quad;
    memcpy(&quad, x, 4);
    return _mm256_broadcastq_epi64(_mm_cvtepu8_epi16(_mm_cvtsi32_si128(quad)));
}

// Accumulators of `positions` positions (a constant at every call) for eight entries.
static inline __attribute__((always_inline)) void accumulate_avx2(int positions, avx2_source source, __m256i a[AVX2_POSITIONS])
{
    __m256i halves[AVX2_POSITIONS][2]; // four entries each, each in two halves
#pragma GCC unroll 4
    for (int p = 0; p < positions; p++)
        halves[p][0] = halves[p][1] = _mm256_setzero_si256();
    for (int q = 0; q < source.n_quads; q++, source.codewords += 4 * source.width, source.x += source.x_stride) {
        const __m256i low = widened_256(source.codewords), high = widened_256(source.codewords + 16);
#pragma GCC unroll 4
        for (int p = 0; p < positions; p++) {
            const __m256i values = quads_256(source.x + 4 * p);
            halves[p][0] = _mm256_add_epi32(halves[p][0], _mm256_madd_epi16(low, values));
            halves[p][1] = _mm256_add_epi32(halves[p][1], _mm256_madd_epi16(high, values));
        }
    }
    const __m256i start = _mm256_mullo_epi32(load_256(source.sums), _mm256_set1_epi32(-source.zero));
#pragma GCC unroll 4
    for (int p = 0; p < positions; p++) { // entries 0 1 4 5 | 2 3 6 7, put in order
        const __m256i whole = _mm256_hadd_epi32(halves[p][0], halves[p][1]);
        a[p] = _mm256_add_epi32(_mm256_permute4x64_epi64(whole, _MM_SHUFFLE(3, 1, 2, 0)), start);
    }
}

static inline __attribute__((always_inline)) __m256i peak_avx2(int positions, avx2_source source, __m256i peak)
{
    __m256i a[AVX2_POSITIONS];
    accumulate_avx2(positions, source, a);
#pragma GCC unroll 4
    for (int p = 0; p < positions; p++)
        peak = _mm256_max_epi32(peak, _mm256_abs_epi32(a[p]));
    return peak;
}

void qcnn_table_peaks_avx2(size_t n_positions, size_t n_subspaces, const uint32_t *rows, int n_quads, const uint8_t *x, size_t x_stride,
                           const int8_t *codewords, const int32_t *codeword_sums, int zero, size_t width, int32_t *peaks)
{
    for (size_t r = 0; r < n_subspaces; r++) {
        const size_t m = rows ? rows[r] : r, first_quad = m * (size_t)n_quads;
        const avx2_source source = {
            x + first_quad * x_stride, codewords + first_quad * width * 4, codeword_sums + m * width, x_stride, width, n_quads, zero
        };
        __m256i peak = _mm256_set1_epi32(peaks[r]);
        for (size_t k = 0; k < width; k += AVX2_ENTRIES) {
            size_t p = 0;
            for (; p + AVX2_POSITIONS <= n_positions; p += AVX2_POSITIONS)
                peak = peak_avx2(AVX2_POSITIONS, avx2_source_at(&source, p, k), peak);
            for (; p < n_positions; p++)
                peak = peak_avx2(1, avx2_source_at(&source, p, k), peak);
        }
        int32_t lanes[8];
        _mm256_storeu_si256((__m256i *)(void *)lanes, peak);
        for (int i = 0; i < 8; i++)
            peaks[r] = lanes[i] > peaks[r] ? lanes[i] : peaks[r];
    }
}

// Tables of two positions for eight entries: eight bytes to each of two places.
static inline void store_entries_256(__m256i a, __m256i b, int shift, __m256i factor, uint8_t *first, uint8_t *second)
{
    const __m128i by = _mm_cvtsi32_si128(shift);
    const __m256i half = _mm256_set1_epi32((1 << shift) >> 1);
    const __m256i left = _mm256_sra_epi32(_mm256_add_epi32(a, half), by), right = _mm256_sra_epi32(_mm256_add_epi32(b, half), by);
    const __m256i held = _mm256_packs_epi32(left, right);     // a0-3 b0-3 | a4-7 b4-7
    const __m256i scaled = _mm256_mulhrs_epi16(held, factor); // (2 held factor + 2^15) / 2^16
    const __m256i bytes = _mm256_xor_si256(_mm256_packs_epi16(scaled, scaled), _mm256_set1_epi8((char)-128));
    const __m128i both = _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
    _mm_storel_epi64((__m128i *)(void *)first, both);
    _mm_storel_epi64((__m128i *)(void *)second, _mm_unpackhi_epi64(both, both));
}

static inline __attribute__((always_inline)) void bytes_avx2(int positions, avx2_source source, int shift, __m256i factor, uint8_t *table)
{
    __m256i a[AVX2_POSITIONS];
    accumulate_avx2(positions, source, a);
    if (positions == 1)
        store_entries_256(a[0], a[0], shift, factor, table, table);
#pragma GCC unroll 2
    for (int p = 0; p + 1 < positions; p += 2)
        store_entries_256(a[p], a[p + 1], shift, factor, table + (size_t)p * source.width, table + (size_t)(p + 1) * source.width);
}

void qcnn_table_bytes_avx2(size_t n_positions, size_t n_subspaces, const uint32_t *rows, int n_quads, const uint8_t *x, size_t x_stride,
                           const int8_t *codewords, const int32_t *codeword_sums, int zero, size_t width, const uint8_t *shifts,
                           const int16_t *factors, uint8_t *tables)
{
    for (size_t r = 0; r < n_subspaces; r++, tables += n_positions * width) {
        const size_t m = rows ? rows[r] : r, first_quad = m * (size_t)n_quads;
        const avx2_source source = {
            x + first_quad * x_stride, codewords + first_quad * width * 4, codeword_sums + m * width, x_stride, width, n_quads, zero
        };
        const __m256i factor = _mm256_set1_epi16(factors[r]);
        for (size_t k = 0; k < width; k += AVX2_ENTRIES) {
            size_t p = 0;
            for (; p + AVX2_POSITIONS <= n_positions; p += AVX2_POSITIONS)
                bytes_avx2(AVX2_POSITIONS, avx2_source_at(&source, p, k), shifts[r], factor, tables + p * width + k);
            for (; p < n_positions; p++)
                bytes_avx2(1, avx2_source_at(&source, p, k), shifts[r], factor, tables + p * width + k);
        }
    }
}

// ---- sums of byte tables --------------------------------------------------------------------------------------------

// 32 entries of a table of 16 * `parts` bytes, `parts` a constant at every call: each part gives its candidate for the low four
// bits of a code, and the code's next bits choose among them, two by two.
static inline __attribute__((always_inline)) __m256i look_up_256(const __m256i *table, int parts, __m256i codes)
{
    __m256i entries[16];
    const __m256i low = parts > 8 ? _mm256_and_si256(codes, _mm256_set1_epi8(15)) : codes; // vpshufb gives 0 for codes from 128 on
#pragma GCC unroll 16
    for (int i = 0; i < parts; i++)
        entries[i] = _mm256_shuffle_epi8(table[i], low);
#pragma GCC unroll 4
    for (int bit = 4, n = parts / 2; n > 0; bit++, n /= 2) {
        const __m256i chosen = _mm256_sll_epi16(codes, _mm_cvtsi32_si128(7 - bit)); // the bit at the top of its byte
#pragma GCC unroll 8
        for (int i = 0; i < n; i++)
            entries[i] = _mm256_blendv_epi8(entries[2 * i], entries[2 * i + 1], chosen);
    }
    return entries[0];
}

static inline void widen_256_to(int32_t *sums, __m128i words)
{
    __m256i *place = (__m256i *)(void *)sums;
    _mm256_storeu_si256(place, _mm256_add_epi32(_mm256_loadu_si256(place), _mm256_cvtepu16_epi32(words)));
}

enum {
    AVX2_ROWS = 257,     // 257 * 255 fits 16 bits
    AVX2_OUTPUTS = 4096, // whose sums of 16 bits are kept meanwhile
};

// Adds `rows` rows, a constant at every call like `parts`, to the words of n_outputs outputs, whole vectors: [vector][all, odd][16].
// `odd` are the sums of every second output, `all` those of the others plus 2^8 times `odd`, modulo 2^16. Whole rows at a time: the
// codes stream from memory.
static inline __attribute__((always_inline)) void fc_rows_avx2(int n_rows, int parts, size_t n_outputs, const uint32_t *rows,
                                                               const uint8_t *codes, size_t code_stride, const uint8_t *tables,
                                                               uint16_t *words)
{
    __m256i table[4][16];
    const uint8_t *row[4];
#pragma GCC unroll 4
    for (int r = 0; r < n_rows; r++) {
        row[r] = codes + rows[r] * code_stride;
#pragma GCC unroll 16
        for (int i = 0; i < parts; i++)
            table[r][i] = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(tables + (r * parts + i) * 16)));
    }
    for (size_t o = 0; o < n_outputs; o += 32, words += 32) {
        __m256i *place = (__m256i *)(void *)words, all = _mm256_load_si256(place), odd = _mm256_load_si256(place + 1);
#pragma GCC unroll 4
        for (int r = 0; r < n_rows; r++) {
            const __m256i entries = look_up_256(table[r], parts, load_256(row[r] + o));
            all = _mm256_add_epi16(all, entries);
            odd = _mm256_add_epi16(odd, _mm256_srli_epi16(entries, 8));
        }
        _mm256_store_si256(place, all);
        _mm256_store_si256(place + 1, odd);
    }
}

static void flush_words_avx2(size_t n_outputs, const uint16_t *words, int32_t *sums)
{
    for (size_t o = 0; o < n_outputs; o += 32, words += 32, sums += 32) {
        const __m256i *place = (const __m256i *)(const void *)words;
        const __m256i odd = _mm256_load_si256(place + 1), even = _mm256_sub_epi16(_mm256_load_si256(place), _mm256_slli_epi16(odd, 8));
        const __m256i low = _mm256_unpacklo_epi16(even, odd), high = _mm256_unpackhi_epi16(even, odd); // 0-7 16-23, 8-15 24-31
        widen_256_to(sums, _mm256_castsi256_si128(low));
        widen_256_to(sums + 8, _mm256_castsi256_si128(high));
        widen_256_to(sums + 16, _mm256_extracti128_si256(low, 1));
        widen_256_to(sums + 24, _mm256_extracti128_si256(high, 1));
    }
}

// At most AVX2_ROWS rows and AVX2_OUTPUTS outputs, whole vectors.
static inline __attribute__((always_inline)) void fc_words_avx2(int together, int parts, size_t n_outputs, size_t n_rows,
                                                                const uint32_t *rows, const uint8_t *codes, size_t code_stride,
                                                                const uint8_t *tables, int32_t *sums)
{
    uint16_t words[AVX2_OUTPUTS] __attribute__((aligned(32)));
    const size_t step = (size_t)together, width = (size_t)parts * 16;
    __builtin_memset(words, 0, n_outputs * sizeof *words);
    size_t r = 0;
    for (; r + step <= n_rows; r += step)
        fc_rows_avx2(together, parts, n_outputs, rows + r, codes, code_stride, tables + r * width, words);
    for (; r < n_rows; r++)
        fc_rows_avx2(1, parts, n_outputs, rows + r, codes, code_stride, tables + r * width, words);
    flush_words_avx2(n_outputs, words, sums);
}

void qcnn_lut_fc_bytes_avx2(size_t n_outputs, size_t n_rows, const uint32_t *rows, const uint8_t *codes, size_t code_stride,
                            const uint8_t *tables, size_t width, int32_t *sums)
{
    const size_t whole = n_outputs / 32 * 32;
    for (size_t begin = 0; begin < n_rows; begin += AVX2_ROWS) {
        const size_t n = n_rows - begin < AVX2_ROWS ? n_rows - begin : AVX2_ROWS;
        const uint8_t *some = tables + begin * width;
        const uint32_t *those = rows + begin;
        for (size_t o = 0; o < whole; o += AVX2_OUTPUTS) {
            const size_t outputs = whole - o < AVX2_OUTPUTS ? whole - o : AVX2_OUTPUTS;
            switch (width) {
            case 16: fc_words_avx2(4, 1, outputs, n, those, codes + o, code_stride, some, sums + o); break;
            case 32: fc_words_avx2(4, 2, outputs, n, those, codes + o, code_stride, some, sums + o); break;
            case 64: fc_words_avx2(2, 4, outputs, n, those, codes + o, code_stride, some, sums + o); break;
            case 128: fc_words_avx2(1, 8, outputs, n, those, codes + o, code_stride, some, sums + o); break;
            default: fc_words_avx2(1, 16, outputs, n, those, codes + o, code_stride, some, sums + o); break;
            }
        }
        qcnn_lut_fc_bytes_c(n_outputs - whole, n, those, codes + whole, code_stride, some, width, sums + whole);
    }
}

// ---- sums of 16-bit tables, positions in the lanes ------------------------------------------------------------------

// `outputs` outputs of 16 * `vectors` positions, constants at every call.
static inline __attribute__((always_inline)) void words_block_avx2(int outputs, int vectors, size_t n_outputs, size_t n_taps,
                                                                   const uint8_t *assignments, const int16_t *const *tables,
                                                                   size_t table_stride, size_t column, int32_t *place, size_t lanes)
{
    __m256i words[8][2];
#pragma GCC unroll 8
    for (int i = 0; i < outputs; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            words[i][v] = _mm256_setzero_si256();
    for (size_t t = 0; t < n_taps; t++) {
        const int16_t *table = tables[t] + column;
        const uint8_t *codes = assignments + t * n_outputs;
#pragma GCC unroll 8
        for (int i = 0; i < outputs; i++) {
            const int16_t *entries = table + codes[i] * table_stride;
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                words[i][v] = _mm256_add_epi16(words[i][v], load_256(entries + 16 * v));
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < outputs; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            __m256i *sums = (__m256i *)(void *)(place + (size_t)i * lanes + 16 * v);
            const __m256i low = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(words[i][v]));
            const __m256i high = _mm256_cvtepi16_epi32(_mm256_extracti128_si256(words[i][v], 1));
            _mm256_storeu_si256(sums, _mm256_add_epi32(_mm256_loadu_si256(sums), low));
            _mm256_storeu_si256(sums + 1, _mm256_add_epi32(_mm256_loadu_si256(sums + 1), high));
        }
}

void qcnn_lut_sum_words_avx2(size_t n_outputs, size_t n_taps, const uint8_t *assignments, const int16_t *const *tables, size_t table_stride,
                             int32_t *sums, size_t lanes)
{
    size_t column = 0;
    for (; column + 32 <= lanes; column += 32) { // a code is read once for 32 positions
        size_t o = 0;
        for (; o + 4 <= n_outputs; o += 4)
            words_block_avx2(4, 2, n_outputs, n_taps, assignments + o, tables, table_stride, column, sums + o * lanes + column, lanes);
        for (; o < n_outputs; o++)
            words_block_avx2(1, 2, n_outputs, n_taps, assignments + o, tables, table_stride, column, sums + o * lanes + column, lanes);
    }
    for (; column < lanes; column += QCNN_LUT_COLUMNS) {
        size_t o = 0;
        for (; o + 8 <= n_outputs; o += 8)
            words_block_avx2(8, 1, n_outputs, n_taps, assignments + o, tables, table_stride, column, sums + o * lanes + column, lanes);
        for (; o < n_outputs; o++)
            words_block_avx2(1, 1, n_outputs, n_taps, assignments + o, tables, table_stride, column, sums + o * lanes + column, lanes);
    }
}
