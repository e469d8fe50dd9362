// SPDX-License-Identifier: Apache-2.0
// Little-endian bytes, read with a cursor that never leaves its bounds and written into a buffer that grows. Both remember
// the first failure, so that a run of calls needs one check at its end.

#ifndef QCNN_BASE_BYTES_H
#define QCNN_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// ---- reading --------------------------------------------------------------------------------------------------------

typedef struct qcnn_cursor {
    const unsigned char *next;
    size_t n_left;
    bool failed; // something beyond the end was asked for; every later read gives 0
} qcnn_cursor;

// The next `n` bytes, which are then behind the cursor; NULL when fewer are left.
const unsigned char *qcnn_read_bytes(qcnn_cursor *cursor, size_t n);

uint8_t qcnn_read_u8(qcnn_cursor *cursor);
uint16_t qcnn_read_u16(qcnn_cursor *cursor);
uint32_t qcnn_read_u32(qcnn_cursor *cursor);
uint64_t qcnn_read_u64(qcnn_cursor *cursor);
float qcnn_read_f32(qcnn_cursor *cursor);

// True when all `n` bytes are zero.
bool qcnn_bytes_are_zero(const unsigned char *bytes, size_t n);

// True when the bytes are well-formed UTF-8 without control characters; with `lines`, tab, CR and LF may occur.
bool qcnn_bytes_are_text(const unsigned char *bytes, size_t n, bool lines);

// ---- writing --------------------------------------------------------------------------------------------------------

typedef struct qcnn_buffer {
    unsigned char *data; // released by the owner with qcnn_release
    size_t n_bytes, capacity;
    bool failed; // memory ran out; later writes do nothing
} qcnn_buffer;

void qcnn_write_bytes(qcnn_buffer *buffer, const void *bytes, size_t n);
void qcnn_write_zeros(qcnn_buffer *buffer, size_t n);
void qcnn_write_u8(qcnn_buffer *buffer, uint8_t value);
void qcnn_write_u16(qcnn_buffer *buffer, uint16_t value);
void qcnn_write_u32(qcnn_buffer *buffer, uint32_t value);
void qcnn_write_u64(qcnn_buffer *buffer, uint64_t value);
void qcnn_write_f32(qcnn_buffer *buffer, float value);

#endif
