// SPDX-License-Identifier: Apache-2.0
// Packing small numbers into bits. Eight numbers of b bits fill b bytes exactly, so the work goes by eight: their 8 b bits are
// spread over the 64 of a word by halves, in three steps whatever b is.

#include <string.h>

#include "model/container.h"

static uint64_t low_bits(int n)
{
    return n < 64 ? ((uint64_t)1 << n) - 1 : UINT64_MAX;
}

static inline uint64_t load_little(const unsigned char *bytes, size_t n)
{
    uint64_t word = 0;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (n == sizeof word) { // one load
        memcpy(&word, bytes, sizeof word);
        return word;
    }
#endif
    for (size_t i = 0; i < n; i++)
        word |= (uint64_t)bytes[i] << 8 * i;
    return word;
}

static inline void store_little(uint64_t word, unsigned char *bytes, size_t n)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (n == sizeof word) {
        memcpy(bytes, &word, sizeof word);
        return;
    }
#endif
    for (size_t i = 0; i < n; i++)
        bytes[i] = (unsigned char)(word >> 8 * i);
}

//             7654 3210    eight numbers of b bits, no gaps
//        7654      3210    halves, 32 bits apart
//      76   54   32   10   pairs, 16 bits apart
//     7  6 5  4 3  2 1  0  one in each byte
typedef struct bit_spread {
    uint64_t low[3]; // bits that stay in a step
    int shift[3];    // how far the others go
} bit_spread;

static bit_spread spread_of(int n_bits)
{
    const uint64_t four = low_bits(4 * n_bits), two = low_bits(2 * n_bits), one = low_bits(n_bits);
    return (bit_spread){ { four, two | two << 32, (one | one << 16) | (one | one << 16) << 32 },
                         { 32 - 4 * n_bits, 16 - 2 * n_bits, 8 - n_bits } };
}

static inline uint64_t spread_bits(uint64_t word, const bit_spread *spread)
{
    // What goes on is what does not stay: one operation less than another mask, and the loop has the three steps in a row.
#pragma GCC unroll 3
    for (int step = 0; step < 3; step++) {
        const uint64_t stays = word & spread->low[step];
        word = stays | (word ^ stays) << spread->shift[step];
    }
    return word;
}

static inline uint64_t gather_bits(uint64_t word, const bit_spread *spread)
{
    for (int step = 2; step >= 0; step--)
        word = (word & spread->low[step]) | (word >> spread->shift[step] & ~spread->low[step]);
    return word;
}

void qcnn_unpack_bits(const unsigned char *packed, size_t n, int n_bits, uint8_t *numbers)
{
    const size_t step = (size_t)n_bits;
    if (n_bits == 0 || n == 0) {
        memset(numbers, 0, n);
        return;
    }
    const bit_spread spread = spread_of(n_bits);
    const uint64_t used = low_bits(8 * n_bits);
    size_t n_left = (n * step + 7) / 8; // packed bytes
    for (; n >= 8 && n_left >= 8; n -= 8, n_left -= step, packed += step, numbers += 8)
        store_little(spread_bits(load_little(packed, 8) & used, &spread), numbers, 8);
    while (n > 0) {
        const size_t group = n < 8 ? n : 8, n_bytes = n_left < step ? n_left : step;
        store_little(spread_bits(load_little(packed, n_bytes), &spread), numbers, group);
        n -= group;
        n_left -= n_bytes;
        packed += n_bytes;
        numbers += group;
    }
}

void qcnn_pack_bits(const uint8_t *numbers, size_t n, int n_bits, unsigned char *packed)
{
    if (n_bits == 0)
        return;
    const bit_spread spread = spread_of(n_bits);
    while (n > 0) {
        const size_t group = n < 8 ? n : 8, n_bytes = (group * (size_t)n_bits + 7) / 8;
        store_little(gather_bits(load_little(numbers, group), &spread), packed, n_bytes);
        n -= group;
        numbers += group;
        packed += n_bytes;
    }
}
