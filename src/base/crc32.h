// SPDX-License-Identifier: Apache-2.0
// CRC-32 as in zlib, PNG and Ethernet (polynomial 0xEDB88320, reflected), sixteen bytes at a time. The tables are made by the
// caller in about two microseconds, so that the library needs neither a global that changes nor 16 kB of constants.

#ifndef QCNN_BASE_CRC32_H
#define QCNN_BASE_CRC32_H

#include <stddef.h>
#include <stdint.h>

typedef struct qcnn_crc32_tables {
    uint32_t entry[16][256]; // [bytes that follow][byte]
} qcnn_crc32_tables;

void qcnn_crc32_init(qcnn_crc32_tables *tables);

// Of `n` bytes that follow those whose CRC is `crc`; 0 to begin.
uint32_t qcnn_crc32(const qcnn_crc32_tables *tables, uint32_t crc, const void *bytes, size_t n);

#endif
