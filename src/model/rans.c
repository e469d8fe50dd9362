// SPDX-License-Identifier: Apache-2.0
// Decoding entropy-coded symbols (docs/format.md, section 4): range asymmetric numeral systems after J. Duda, eight states that
// take turns, so that a processor works on eight symbols at once. Symbols come in rows, each with one of a few tables of
// frequencies. Hostile bytes give an error or symbols of the alphabet: every look-up stays in its table, every read in bounds.

#include <string.h>

#include "model/rans.h"

// ---- bits -----------------------------------------------------------------------------------------------------------

typedef struct bit_reader {
    const unsigned char *bytes;
    size_t n_bits, at; // at > n_bits after reading beyond the end
} bit_reader;

static uint32_t read_bits(bit_reader *reader, int n)
{
    uint32_t value = 0;
    for (int i = 0; i < n; i++, reader->at++)
        if (reader->at < reader->n_bits)
            value |= (uint32_t)(reader->bytes[reader->at / 8] >> reader->at % 8 & 1) << i;
    return value;
}

// Exponential Golomb code of order `order`: z ones, a zero, then order + z bits of what exceeds (2^z - 1) 2^order.
static uint32_t read_golomb(bit_reader *reader, int order)
{
    int n_ones = 0;
    while (n_ones < QCNN_RANS_BITS + 2 && read_bits(reader, 1))
        n_ones++;
    return (((uint32_t)1 << n_ones) - 1) * ((uint32_t)1 << order) + read_bits(reader, order + n_ones);
}

// ---- tables ---------------------------------------------------------------------------------------------------------

// For each slot of the total: its place among the symbol's slots (12 bits), the symbol (8), its frequency modulo the total (12).
static void fill_slots(uint32_t *slots, uint32_t first, uint32_t frequency, uint32_t symbol)
{
    const uint32_t entry = symbol << 12 | frequency << 20;
    for (uint32_t i = 0; i < frequency; i++)
        slots[first + i] = entry | i;
}

static inline uint8_t symbol_of(uint32_t entry)
{
    return (uint8_t)(entry >> 12);
}

// The state behind a symbol, before more bits are read into it.
static inline uint32_t advance(uint32_t state, uint32_t entry)
{
    return (entry >> 20) * (state >> QCNN_RANS_BITS) + (entry & 0xfff);
}

// A symbol that fills its table takes no bits and leaves the states as they are.
static inline bool is_alone(const uint32_t *slots)
{
    return slots[0] >> 20 == 0;
}

static const char *read_table(bit_reader *reader, int n_symbols, uint32_t *slots)
{
    const int order = (int)read_bits(reader, 4);
    int32_t frequency = 0, sum = 0;
    for (int k = 0; k < n_symbols; k++) {
        const uint32_t code = read_golomb(reader, order);
        if (code > 2 * QCNN_RANS_TOTAL)
            return "a frequency is out of range";
        frequency += code & 1 ? -(int32_t)(code / 2) - 1 : (int32_t)(code / 2);
        if (frequency < 0 || frequency > QCNN_RANS_TOTAL - sum)
            return "a frequency is out of range";
        if (frequency > 0)
            fill_slots(slots, (uint32_t)sum, (uint32_t)frequency, (uint32_t)k);
        sum += frequency;
    }
    return sum == QCNN_RANS_TOTAL ? NULL : "frequencies do not add up";
}

static bool rest_of_byte_is_zero(bit_reader *reader)
{
    return read_bits(reader, (int)(-reader->at & 7)) == 0;
}

// ---- symbols --------------------------------------------------------------------------------------------------------

typedef struct rans_stream {
    uint32_t states[QCNN_RANS_LANES];
    const unsigned char *next, *end;
} rans_stream;

static inline uint32_t load_word(const unsigned char *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8;
}

// `filled` where a state is low, else the state; *low says which. Without a branch: it is one at random.
#if defined(__x86_64__)
static inline uint32_t filled_if_low(uint32_t state, uint32_t filled, size_t *low)
{
    *low = 0;
    __asm__("cmpl %3, %0\n\tsetb %b1\n\tcmovb %2, %0"
            : "+r"(state), "+q"(*low)
            : "r"(filled), "i"(QCNN_RANS_LOW)
            : "cc"); // compilers branch
    return state;
}
#else
static inline uint32_t filled_if_low(uint32_t state, uint32_t filled, size_t *low)
{
    *low = state < QCNN_RANS_LOW;
    return state ^ ((state ^ filled) & (0 - (uint32_t)*low));
}
#endif

static inline uint32_t decode_symbol(uint32_t state, const uint32_t *slots, const unsigned char **next, uint8_t *symbol)
{
    const uint32_t entry = slots[state & (QCNN_RANS_TOTAL - 1)];
    size_t low;
    *symbol = symbol_of(entry);
    state = advance(state, entry);
    state = filled_if_low(state, state << 16 | load_word(*next), &low);
    *next += 2 * low;
    return state;
}

// A row while at least eight words are left for each eight symbols; returns how many symbols it has decoded. Written out, because the
// states are to stay in registers.
static size_t decode_quickly(rans_stream *stream, const uint32_t *slots, size_t n, uint8_t *symbols)
{
    uint32_t *s = stream->states, a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
    const unsigned char *next = stream->next;
    size_t i = 0;
    for (; i + QCNN_RANS_LANES <= n && stream->end - next >= 2 * QCNN_RANS_LANES; i += QCNN_RANS_LANES) {
        a = decode_symbol(a, slots, &next, symbols + i);
        b = decode_symbol(b, slots, &next, symbols + i + 1);
        c = decode_symbol(c, slots, &next, symbols + i + 2);
        d = decode_symbol(d, slots, &next, symbols + i + 3);
        e = decode_symbol(e, slots, &next, symbols + i + 4);
        f = decode_symbol(f, slots, &next, symbols + i + 5);
        g = decode_symbol(g, slots, &next, symbols + i + 6);
        h = decode_symbol(h, slots, &next, symbols + i + 7);
    }
    s[0] = a, s[1] = b, s[2] = c, s[3] = d, s[4] = e, s[5] = f, s[6] = g, s[7] = h;
    stream->next = next;
    return i;
}

static bool decode_row(rans_stream *stream, const uint32_t *slots, size_t n, uint8_t *symbols)
{
    if (is_alone(slots)) {
        memset(symbols, symbol_of(slots[0]), n);
        return true;
    }
    for (size_t i = decode_quickly(stream, slots, n, symbols); i < n; i++) {
        uint32_t *state = &stream->states[i % QCNN_RANS_LANES];
        const uint32_t entry = slots[*state & (QCNN_RANS_TOTAL - 1)];
        symbols[i] = symbol_of(entry);
        *state = advance(*state, entry);
        if (*state >= QCNN_RANS_LOW)
            continue;
        if (stream->end - stream->next < 2)
            return false;
        *state = *state << 16 | load_word(stream->next);
        stream->next += 2;
    }
    return true;
}

static const char *open_stream(rans_stream *stream, const unsigned char *bytes, const unsigned char *end)
{
    if (end - bytes < 4 * QCNN_RANS_LANES)
        return "it ends before its symbols";
    for (int lane = 0; lane < QCNN_RANS_LANES; lane++, bytes += 4) {
        stream->states[lane] = load_word(bytes) | load_word(bytes + 2) << 16;
        if (stream->states[lane] < QCNN_RANS_LOW)
            return "a state is out of range";
    }
    stream->next = bytes;
    stream->end = end;
    return NULL;
}

static const char *close_stream(const rans_stream *stream)
{
    bool whole = stream->next == stream->end;
    for (int lane = 0; lane < QCNN_RANS_LANES; lane++)
        whole &= stream->states[lane] == QCNN_RANS_LOW;
    return whole ? NULL : "its symbols do not end where it ends";
}

static const char *decode_rows(const bit_reader *map, int n_tables, const uint32_t *slots, const qcnn_rows *rows, uint8_t *symbols)
{
    bit_reader reader = *map;
    const int n_bits = qcnn_assignment_bits(n_tables);
    const size_t at = reader.at / 8, n_bytes = reader.n_bits / 8;
    const uint64_t map_bytes = ((uint64_t)rows->n_rows * (uint64_t)n_bits + 7) / 8;
    rans_stream stream;
    if (map_bytes > n_bytes - at)
        return "it ends inside its tables";
    const char *wrong = open_stream(&stream, reader.bytes + at + (size_t)map_bytes, reader.bytes + n_bytes);
    for (size_t r = 0; r < rows->n_rows && !wrong; r++) {
        const uint32_t table = read_bits(&reader, n_bits);
        if (table >= (uint32_t)n_tables)
            wrong = "a row has a table that does not exist";
        else if (!decode_row(&stream, slots + table * QCNN_RANS_TOTAL, rows->length, symbols + r * rows->length))
            wrong = "it ends before its symbols";
    }
    if (!wrong && !rest_of_byte_is_zero(&reader))
        wrong = "unused bits are not zero";
    return wrong ? wrong : close_stream(&stream);
}

static const char *decode(bit_reader *reader, int n_tables, uint32_t *slots, const qcnn_rows *rows, uint8_t *symbols)
{
    for (int t = 0; t < n_tables; t++) {
        const char *wrong = read_table(reader, rows->n_symbols, slots + (size_t)t * QCNN_RANS_TOTAL);
        if (wrong)
            return reader->at > reader->n_bits ? "it ends inside its tables" : wrong;
    }
    if (!rest_of_byte_is_zero(reader))
        return "unused bits are not zero";
    if (reader->at > reader->n_bits)
        return "it ends inside its tables";
    return decode_rows(reader, n_tables, slots, rows, symbols);
}

qcnn_status qcnn_rans_decode(const unsigned char *bytes, size_t n_bytes, const qcnn_rows *rows, uint8_t *symbols, qcnn_error *error)
{
    bit_reader reader = { .bytes = bytes, .n_bits = n_bytes < SIZE_MAX / 8 ? n_bytes * 8 : 0 };
    const int n_tables = (int)read_bits(&reader, 8);
    if (n_tables < 1 || n_tables > QCNN_RANS_MAX_TABLES)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "it has no tables or more than %d", QCNN_RANS_MAX_TABLES);
    uint32_t *slots = qcnn_allocate((size_t)n_tables * QCNN_RANS_TOTAL, sizeof *slots);
    if (!slots)
        return qcnn_fail_memory(error, (size_t)n_tables * QCNN_RANS_TOTAL * sizeof *slots);
    const char *wrong = decode(&reader, n_tables, slots, rows, symbols);
    qcnn_release(slots);
    return wrong ? qcnn_fail(error, QCNN_ERROR_FORMAT, "%s", wrong) : QCNN_OK;
}
