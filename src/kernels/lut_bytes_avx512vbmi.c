// SPDX-License-Identifier: Apache-2.0
// Byte tables with AVX-512 VBMI and VNNI. A table of 64 entries is one register, and vpermb looks up 64 outputs at once;
// vpermi2b does so in a table of 128 entries, two of them and a blend in 256.

#include <immintrin.h>

#include "kernels/kernels.h"

#define VBMI_INLINE static inline __attribute__((always_inline))

// ---- building -------------------------------------------------------------------------------------------------------

// The accumulators of 16 entries of one position.
VBMI_INLINE __m512i accumulate_vbmi(int n_quads, const uint8_t *x, size_t x_stride, const int8_t *codewords, size_t width, __m512i sum)
{
    for (int q = 0; q < n_quads; q++) {
        int32_t quad;
        __builtin_memcpy(&quad, x + (size_t)q * x_stride, sizeof quad);
        sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi32(quad), _mm512_loadu_si512(codewords + (size_t)q * width * 4));
    }
    return sum;
}

// What the accumulators start with: minus `zero` times the sum of each codeword, plus `more`.
VBMI_INLINE __m512i start_of(const int32_t *codeword_sums, int zero, int32_t more)
{
    const __m512i start = _mm512_set1_epi32(more);
    if (zero == 0)
        return start;
    return _mm512_add_epi32(start, _mm512_mullo_epi32(_mm512_set1_epi32(-zero), _mm512_loadu_si512(codeword_sums)));
}

VBMI_INLINE __m512i peaks_of(size_t n_positions, int n_quads, const uint8_t *x, size_t x_stride, const int8_t *codewords,
                             const int32_t *codeword_sums, int zero, size_t width, __m512i peak)
{
    for (size_t k = 0; k < width; k += 16) {
        const __m512i start = start_of(codeword_sums + k, zero, 0);
        for (size_t p = 0; p < n_positions; p++)
            peak = _mm512_max_epi32(peak, _mm512_abs_epi32(accumulate_vbmi(n_quads, x + 4 * p, x_stride, codewords + 4 * k, width, start)));
    }
    return peak;
}

void qcnn_table_peaks_avx512vbmi(size_t n_positions, size_t n_subspaces, const uint32_t *rows, int n_quads, const uint8_t *x,
                                 size_t x_stride, const int8_t *codewords, const int32_t *codeword_sums, int zero, size_t width,
                                 int32_t *peaks)
{
    for (size_t r = 0; r < n_subspaces; r++) {
        const size_t m = rows ? rows[r] : r, first = m * (size_t)n_quads;
        const uint8_t *values = x + first * x_stride;
        const int8_t *words = codewords + first * width * 4;
        const int32_t *sums = codeword_sums + m * width;
        __m512i peak = _mm512_set1_epi32(peaks[r]);
        switch (n_quads) {
        case 1: peak = peaks_of(n_positions, 1, values, x_stride, words, sums, zero, width, peak); break;
        case 2: peak = peaks_of(n_positions, 2, values, x_stride, words, sums, zero, width, peak); break;
        default: peak = peaks_of(n_positions, n_quads, values, x_stride, words, sums, zero, width, peak);
        }
        peaks[r] = _mm512_reduce_max_epi32(peak);
    }
}

// 64 entries: packing works within 128-bit lanes and leaves dword v of lane i where dword i of lane v belongs.
VBMI_INLINE __m512i entries_of_64(int n_quads, const uint8_t *x, size_t x_stride, const int8_t *codewords, size_t width,
                                  const __m512i start[4], __m128i shift, __m512i factor)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i a[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++)
        a[v] = _mm512_sra_epi32(accumulate_vbmi(n_quads, x, x_stride, codewords + 64 * v, width, start[v]), shift);
    const __m512i low = _mm512_mulhrs_epi16(_mm512_packs_epi32(a[0], a[1]), factor);
    const __m512i high = _mm512_mulhrs_epi16(_mm512_packs_epi32(a[2], a[3]), factor);
    const __m512i bytes = _mm512_xor_si512(_mm512_packs_epi16(low, high), _mm512_set1_epi8((char)0x80)); // + 128
    return _mm512_permutexvar_epi32(order, bytes);
}

VBMI_INLINE void tables_of(size_t n_positions, int n_quads, const uint8_t *x, size_t x_stride, const int8_t *codewords,
                           const int32_t *codeword_sums, int zero, size_t width, int shift, int16_t factor, uint8_t *tables)
{
    const __m512i factors = _mm512_set1_epi16(factor);
    const __m128i by = _mm_cvtsi32_si128(shift);
    const int32_t half = (1 << shift) >> 1; // rounds what is shifted out
    size_t k = 0;
    for (; k + 64 <= width; k += 64) {
        __m512i start[4];
#pragma GCC unroll 4
        for (size_t v = 0; v < 4; v++)
            start[v] = start_of(codeword_sums + k + 16 * v, zero, half);
        for (size_t p = 0; p < n_positions; p++)
            _mm512_storeu_si512(tables + p * width + k,
                                entries_of_64(n_quads, x + 4 * p, x_stride, codewords + 4 * k, width, start, by, factors));
    }
    for (; k < width; k += 16) {
        const __m512i start = start_of(codeword_sums + k, zero, half);
        for (size_t p = 0; p < n_positions; p++) {
            const __m512i a = _mm512_sra_epi32(accumulate_vbmi(n_quads, x + 4 * p, x_stride, codewords + 4 * k, width, start), by);
            const __m256i scaled = _mm256_mulhrs_epi16(_mm512_cvtsepi32_epi16(a), _mm512_castsi512_si256(factors));
            const __m128i bytes = _mm_xor_si128(_mm256_cvtsepi16_epi8(scaled), _mm_set1_epi8((char)0x80));
            _mm_storeu_si128((__m128i *)(void *)(tables + p * width + k), bytes);
        }
    }
}

void qcnn_table_bytes_avx512vbmi(size_t n_positions, size_t n_subspaces, const uint32_t *rows, int n_quads, const uint8_t *x,
                                 size_t x_stride, const int8_t *codewords, const int32_t *codeword_sums, int zero, size_t width,
                                 const uint8_t *shifts, const int16_t *factors, uint8_t *tables)
{
    for (size_t r = 0; r < n_subspaces; r++, tables += n_positions * width) {
        const size_t m = rows ? rows[r] : r, first = m * (size_t)n_quads;
        const uint8_t *values = x + first * x_stride;
        const int8_t *words = codewords + first * width * 4;
        const int32_t *sums = codeword_sums + m * width;
        switch (n_quads) {
        case 1: tables_of(n_positions, 1, values, x_stride, words, sums, zero, width, shifts[r], factors[r], tables); break;
        case 2: tables_of(n_positions, 2, values, x_stride, words, sums, zero, width, shifts[r], factors[r], tables); break;
        default: tables_of(n_positions, n_quads, values, x_stride, words, sums, zero, width, shifts[r], factors[r], tables);
        }
    }
}

// ---- looking up -----------------------------------------------------------------------------------------------------

// A table of 64 * registers bytes.
typedef struct byte_table {
    __m512i part[4];
} byte_table;

VBMI_INLINE byte_table load_table(const uint8_t *table, int registers)
{
    byte_table t;
#pragma GCC unroll 4
    for (int i = 0; i < registers; i++)
        t.part[i] = _mm512_loadu_si512(table + 64 * i);
    return t;
}

VBMI_INLINE __m512i look_up(const byte_table *t, int registers, __m512i codes)
{
    if (registers == 1)
        return _mm512_permutexvar_epi8(codes, t->part[0]);
    const __m512i low = _mm512_permutex2var_epi8(t->part[0], codes, t->part[1]);
    if (registers == 2)
        return low;
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(codes), low, _mm512_permutex2var_epi8(t->part[2], codes, t->part[3]));
}

// Adds 16 words times 2^shift to `n` or, if there are as many, 16 numbers.
VBMI_INLINE void add_words(int32_t *sums, __m256i words, __m128i shift, size_t n)
{
    const __mmask16 mask = n >= 16 ? 0xFFFF : (__mmask16)((1U << n) - 1);
    const __m512i old = _mm512_maskz_loadu_epi32(mask, sums);
    _mm512_mask_storeu_epi32(sums, mask, _mm512_add_epi32(old, _mm512_sll_epi32(_mm512_cvtepu16_epi32(words), shift)));
}

// Adds sums of 16 bits, those of even and of odd outputs, times 2^shift to 64 numbers of 32; `n` of them are there. (One copy: it is called
// once in hundreds of look-ups and would be a third of this file's code.)
static __attribute__((noinline)) void add_sums(int32_t *sums, __m512i even, __m512i odd, int shift, size_t n)
{
    const __m512i low = _mm512_unpacklo_epi16(even, odd), high = _mm512_unpackhi_epi16(even, odd); // lane i: 16 i + 0..7 | + 8..15
    const __m512i first = _mm512_permutex2var_epi64(low, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), high);
    const __m512i second = _mm512_permutex2var_epi64(low, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), high);
    const __m128i shifts = _mm_cvtsi32_si128(shift);
    add_words(sums, _mm512_castsi512_si256(first), shifts, n);
    add_words(sums + 16, _mm512_extracti64x4_epi64(first, 1), shifts, n > 16 ? n - 16 : 0);
    add_words(sums + 32, _mm512_castsi512_si256(second), shifts, n > 32 ? n - 32 : 0);
    add_words(sums + 48, _mm512_extracti64x4_epi64(second, 1), shifts, n > 48 ? n - 48 : 0);
}

typedef struct conv_sums {
    size_t n_steps;
    const qcnn_lut_step *steps;
    const uint8_t *tables, *codes; // of the first position, of the first output
    size_t position_stride, sum_stride;
    int shift;
    __mmask64 mask; // of the outputs of a single block
    int32_t *sums;
} conv_sums;

// `blocks` x 64 outputs of some positions side by side, which share the codes; a single block may be short. Words hold an even output's
// entry below an odd one's: their sum, modulo 2^16, less 256 times the odd ones' sum is the even ones'.
VBMI_INLINE void sum_blocks(int blocks, int positions, int registers, const conv_sums *job)
{
    const size_t stride = job->position_stride;
    __m512i all[6], odd[6]; // (blocks, positions)
#pragma GCC unroll 6
    for (int i = 0; i < blocks * positions; i++)
        all[i] = odd[i] = _mm512_setzero_si512();
    for (const qcnn_lut_step *step = job->steps, *end = step + job->n_steps; step < end; step++) {
        const uint8_t *row = job->codes + step->code;
        byte_table table[3];
#pragma GCC unroll 3
        for (int p = 0; p < positions; p++)
            table[p] = load_table(job->tables + step->table + (size_t)p * stride, registers);
#pragma GCC unroll 3
        for (int j = 0; j < blocks; j++) {
            const __m512i code = blocks == 1 ? _mm512_maskz_loadu_epi8(job->mask, row) : _mm512_loadu_si512(row + 64 * j);
#pragma GCC unroll 3
            for (int p = 0; p < positions; p++) {
                const __m512i entries = look_up(&table[p], registers, code);
                all[j * positions + p] = _mm512_add_epi16(all[j * positions + p], entries);
                odd[j * positions + p] = _mm512_add_epi16(odd[j * positions + p], _mm512_srli_epi16(entries, 8));
            }
        }
    }
    const size_t n = blocks == 1 ? (size_t)__builtin_popcountll(job->mask) : 64;
#pragma GCC unroll 3
    for (int j = 0; j < blocks; j++)
#pragma GCC unroll 3
        for (int p = 0; p < positions; p++) {
            const __m512i even = _mm512_sub_epi16(all[j * positions + p], _mm512_slli_epi16(odd[j * positions + p], 8));
            add_sums(job->sums + (size_t)p * job->sum_stride + 64 * j, even, odd[j * positions + p], job->shift, n);
        }
}

// One to three blocks of all positions, as many positions at a time as registers allow, the others alone.
VBMI_INLINE void sum_positions(int registers, int blocks, size_t n_positions, conv_sums job)
{
    const size_t most = blocks == 3 ? 2 : 3;
    for (size_t n; n_positions > 0; n_positions -= n) {
        n = n_positions < most ? 1 : most;
        if (registers == 2 && blocks == 2 && (n_positions == 2 || n_positions == 4)) { // what a row leaves over
            n = 2;
            sum_blocks(2, 2, 2, &job);
        } else if (n > 1)
            sum_blocks(blocks, blocks == 3 ? 2 : 3, registers, &job);
        else
            sum_blocks(blocks, 1, registers, &job);
        job.tables += n * job.position_stride;
        job.sums += n * job.sum_stride;
    }
}

void qcnn_lut_conv_bytes_avx512vbmi(size_t n_outputs, size_t n_positions, size_t n_steps, const qcnn_lut_step *steps, const uint8_t *tables,
                                    size_t position_stride, size_t width, const uint8_t *codes, int shift, int32_t *sums, size_t sum_stride)
{
    conv_sums job = { n_steps, steps, tables, codes, position_stride, sum_stride, shift, ~(__mmask64)0, sums };
    while (n_outputs > 0) {
        const int blocks = width < 256 && n_outputs >= 192 && n_outputs / 64 % 2 ? 3 : n_outputs >= 128 ? 2 : 1;
        const size_t n = n_outputs < 64 ? n_outputs : 64 * (size_t)blocks;
        if (n < 64)
            job.mask = ((__mmask64)1 << n) - 1;
        switch (width / 64 * 4 + (size_t)blocks) {
        case 5: sum_positions(1, 1, n_positions, job); break;
        case 6: sum_positions(1, 2, n_positions, job); break;
        case 7: sum_positions(1, 3, n_positions, job); break;
        case 9: sum_positions(2, 1, n_positions, job); break;
        case 10: sum_positions(2, 2, n_positions, job); break;
        case 11: sum_positions(2, 3, n_positions, job); break;
        case 17: sum_positions(4, 1, n_positions, job); break;
        default: sum_positions(4, 2, n_positions, job);
        }
        n_outputs -= n;
        job.codes += n;
        job.sums += n;
    }
}

// ---- one position, thousands of subspaces ---------------------------------------------------------------------------

enum {
    FC_ROWS = 8,    // rows of codes that are read side by side: streams that a prefetcher follows
    FC_BLOCKS = 64, // blocks of 64 outputs whose sums of 16 bits are kept meanwhile
    FC_FLUSH = 256, // rows after which those could overflow
};

// Adds FC_ROWS rows to the words of blocks of 64 outputs, [all, odd][32] as in sum_blocks, and fetches the codes of the rows to come: they
// are used once, and a page is over before the processor has noticed.
VBMI_INLINE void sum_rows_vbmi(int registers, size_t n_blocks, const uint8_t *const *codes, const uint8_t *const *ahead,
                               const uint8_t *tables, uint16_t *words)
{
    byte_table table[FC_ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < FC_ROWS; r++)
        table[r] = load_table(tables + 64 * registers * r, registers);
    for (size_t o = 0; o < 64 * n_blocks; o += 64) {
        __m512i all = _mm512_load_si512(words + o), odd = _mm512_load_si512(words + o + 32);
#pragma GCC unroll 8
        for (int r = 0; r < FC_ROWS; r++) {
            _mm_prefetch((const char *)ahead[r] + o, _MM_HINT_T0);
            const __m512i entries = look_up(&table[r], registers, _mm512_loadu_si512(codes[r] + o));
            all = _mm512_add_epi16(all, entries);
            odd = _mm512_add_epi16(odd, _mm512_srli_epi16(entries, 8));
        }
        _mm512_store_si512(words + o, all);
        _mm512_store_si512(words + o + 32, odd);
    }
}

// FC_ROWS rows, the first `n` of them there.
static __attribute__((noinline)) void sum_chunk_vbmi(size_t width, size_t n_outputs, size_t n, const uint8_t *const *codes,
                                                     const uint8_t *const *ahead, const uint8_t *tables, uint16_t *words)
{
    const size_t blocks = n_outputs / 64, left = n_outputs % 64;
    const int registers = width <= 64 ? 1 : width == 128 ? 2 : 4;
    uint8_t padded[FC_ROWS * 256], last[FC_ROWS][64];
    const uint8_t *last_codes[FC_ROWS];
    if (n < FC_ROWS || width < 64) { // zeros for the rows that are not there, and up to a register
        const __mmask64 mask = width < 64 ? ((__mmask64)1 << width) - 1 : ~(__mmask64)0;
        const size_t step = (size_t)registers * 64;
        for (size_t r = 0; r < FC_ROWS; r++)
            for (size_t i = 0; i < step; i += 64)
                _mm512_storeu_si512(padded + r * step + i, _mm512_maskz_loadu_epi8(r < n ? mask : 0, tables + r * width + i));
        tables = padded;
    }
    for (size_t r = 0; left > 0 && r < FC_ROWS; r++) {
        _mm512_storeu_si512(last[r], _mm512_maskz_loadu_epi8(((__mmask64)1 << left) - 1, codes[r] + 64 * blocks));
        last_codes[r] = last[r];
    }
    for (size_t m = blocks;; m = 1, codes = last_codes) {
        switch (registers) {
        case 1: sum_rows_vbmi(1, m, codes, ahead, tables, words); break;
        case 2: sum_rows_vbmi(2, m, codes, ahead, tables, words); break;
        default: sum_rows_vbmi(4, m, codes, ahead, tables, words);
        }
        if (left == 0 || codes == last_codes)
            break;
        words += 64 * blocks;
    }
}

// At most FC_FLUSH rows of at most FC_BLOCKS blocks.
static void sum_fc_vbmi(size_t width, size_t n_outputs, size_t n_rows, const uint32_t *rows, const uint8_t *codes, size_t code_stride,
                        const uint8_t *tables, int32_t *sums)
{
    uint16_t words[FC_BLOCKS * 64] __attribute__((aligned(64)));
    __builtin_memset(words, 0, (n_outputs + 63) / 64 * 128);
    for (size_t r = 0; r < n_rows; r += FC_ROWS) {
        const uint8_t *row_codes[FC_ROWS], *ahead[FC_ROWS];
        for (size_t i = 0; i < FC_ROWS; i++) {
            row_codes[i] = codes + rows[r + i < n_rows ? r + i : r] * code_stride;
            ahead[i] = r + FC_ROWS + i < n_rows ? codes + rows[r + FC_ROWS + i] * code_stride : row_codes[i];
        }
        sum_chunk_vbmi(width, n_outputs, n_rows - r, row_codes, ahead, tables + r * width, words);
    }
    for (size_t o = 0; o < n_outputs; o += 64) {
        const __m512i all = _mm512_load_si512(words + o), odd = _mm512_load_si512(words + o + 32);
        add_sums(sums + o, _mm512_sub_epi16(all, _mm512_slli_epi16(odd, 8)), odd, 0, n_outputs - o < 64 ? n_outputs - o : 64);
    }
}

void qcnn_lut_fc_bytes_avx512vbmi(size_t n_outputs, size_t n_rows, const uint32_t *rows, const uint8_t *codes, size_t code_stride,
                                  const uint8_t *tables, size_t width, int32_t *sums)
{
    for (size_t o = 0; o < n_outputs; o += FC_BLOCKS * 64) {
        const size_t n = n_outputs - o < FC_BLOCKS * 64 ? n_outputs - o : FC_BLOCKS * 64;
        for (size_t r = 0; r < n_rows; r += FC_FLUSH)
            sum_fc_vbmi(width, n, n_rows - r < FC_FLUSH ? n_rows - r : FC_FLUSH, rows + r, codes + o, code_stride, tables + r * width,
                        sums + o);
    }
}
