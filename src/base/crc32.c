// SPDX-License-Identifier: Apache-2.0
// CRC-32, "slicing by 16": entry[i][b] is the CRC of byte b followed by i zero bytes, so that sixteen look-ups that do not
// wait for each other replace sixteen that do.

#include "base/crc32.h"

void qcnn_crc32_init(qcnn_crc32_tables *tables)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
        tables->entry[0][byte] = crc;
    }
    for (int i = 1; i < 16; i++)
        for (int byte = 0; byte < 256; byte++) {
            const uint32_t shorter = tables->entry[i - 1][byte];
            tables->entry[i][byte] = shorter >> 8 ^ tables->entry[0][shorter & 255];
        }
}

uint32_t qcnn_crc32(const qcnn_crc32_tables *tables, uint32_t crc, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    crc = ~crc;
    for (; n >= 16; n -= 16, p += 16) {
        uint32_t later = 0, next = 0; // what does not wait for the last round, and what does
#pragma GCC unroll 12
        for (int i = 4; i < 16; i++)
            later ^= tables->entry[15 - i][p[i]];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            next ^= tables->entry[15 - i][p[i] ^ (crc >> 8 * i & 255)];
        crc = next ^ later;
    }
    for (; n > 0; n--, p++)
        crc = crc >> 8 ^ tables->entry[0][(crc ^ *p) & 255];
    return ~crc;
}
