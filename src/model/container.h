// SPDX-License-Identifier: Apache-2.0
// The layout of a .qcnn file, shared by its reader and its writer. docs/format.md is the specification; names here follow it.

#ifndef QCNN_MODEL_CONTAINER_H
#define QCNN_MODEL_CONTAINER_H

#include "base/bytes.h"
#include "model/model.h"

#define QCNN_MAGIC "\x89QCNN\r\n\x1a" // 8 bytes: not text, and broken by whatever converts line ends

enum {
    QCNN_FORMAT_MAJOR = 1,
    QCNN_FORMAT_MINOR = 1, // of a file with ranges; 0 without
    QCNN_MAGIC_BYTES = 8,
    QCNN_HEADER_BYTES = 64, // magic, major, minor, header length, file length, number of sections, zeros, CRC
    QCNN_HEADER_COUNT_AT = 24,
    QCNN_HEADER_RESERVED_AT = 28,
    QCNN_HEADER_CRC_AT = 60, // of the bytes before it, then of the section table
    QCNN_ENTRY_BYTES = 48,   // type, flags, encoding, tensor, offset, stored bytes, decoded bytes, CRC, zeros
    QCNN_ENTRY_OFFSET_AT = 16,
    QCNN_ENTRY_CRC_AT = 40,
    QCNN_ENTRY_RESERVED_AT = 44,
    QCNN_ALIGNMENT = 64, // of every section's first byte, and of the file's length

    // Limits on what a file may hold. They bound memory and time on hostile files, and are far beyond real networks.
    QCNN_MAX_SECTIONS = 1 << 16,
    QCNN_MAX_GRAPH_BYTES = 4 << 20,
    QCNN_MAX_TEXT_BYTES = 1 << 20, // preprocessing, or all class names together
    QCNN_MAX_TENSORS = 1 << 13,
    QCNN_MAX_VALUES = 1 << 14,
    QCNN_MAX_NODES = 1 << 13,
    QCNN_MAX_PORTS = 1 << 10, // graph inputs, and graph outputs
    QCNN_MAX_CLASSES = 1 << 15,
};

// Of one tensor: its float32 bytes, and every product of its dimensions, stay far from the end of 64 bits.
#define QCNN_MAX_ELEMENTS ((uint64_t)1 << 40)

// An assignment is packed in a file but takes a byte in memory, a float16 or int8 number takes four. So that no file unfolds
// into much more than itself, all of them together may take at most 2 x file bytes + QCNN_FREE_UNFOLDED.
#define QCNN_FREE_UNFOLDED ((uint64_t)8 << 20)

static inline bool qcnn_unfolds_too_far(uint64_t unfolded, uint64_t file_bytes)
{
    return unfolded > 2 * file_bytes + QCNN_FREE_UNFOLDED;
}

#define QCNN_FOURCC(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)
#define QCNN_SECTION_GRAPH QCNN_FOURCC('G', 'R', 'P', 'H')
#define QCNN_SECTION_PREPROCESSING QCNN_FOURCC('P', 'R', 'E', 'P')
#define QCNN_SECTION_CLASSES QCNN_FOURCC('C', 'L', 'A', 'S')
#define QCNN_SECTION_RANGES QCNN_FOURCC('R', 'A', 'N', 'G')
#define QCNN_SECTION_DATA QCNN_FOURCC('D', 'A', 'T', 'A')
#define QCNN_SECTION_CODEWORDS QCNN_FOURCC('C', 'O', 'D', 'E')
#define QCNN_SECTION_ASSIGNMENTS QCNN_FOURCC('A', 'S', 'G', 'N')

#define QCNN_FLAG_REQUIRED 1u // a reader that does not know the section must refuse the file
#define QCNN_ENCODING_PLAIN 0u
#define QCNN_ENCODING_RANS 1u    // of assignments and int8 numbers (model/rans.h)
#define QCNN_NO_INDEX UINT32_MAX // where an entry has no tensor, a value no constant, a node no such input

enum { QCNN_STORAGE_FLOAT32 = 0, QCNN_STORAGE_CODEBOOK = 1, QCNN_STORAGE_FLOAT16 = 2, QCNN_STORAGE_INT8 = 3 };
#define QCNN_MAX_SCALE 1e30f // of int8 numbers; ranges and peaks are no larger either

// ---- sizes of tensors' sections -------------------------------------------------------------------------------------
// Each is false when the size does not fit in 64 bits. (container_tensors.c)

bool qcnn_count_codeword_numbers(const qcnn_codebook *codebook, uint64_t *n); // S M K C'
bool qcnn_codeword_bytes(const qcnn_codebook *codebook, uint64_t *n_bytes);   // scales included, as below
bool qcnn_data_bytes(const qcnn_tensor *tensor, uint64_t *n_bytes);
bool qcnn_count_assignments(const qcnn_codebook *codebook, uint64_t *n);
bool qcnn_packed_bytes(uint64_t n_assignments, int n_codewords, uint64_t *n_bytes);

// ---- assignments (bitpack.c) ----------------------------------------------------------------------------------------

// `n` numbers of `n_bits` bits (0..8) each, least significant bit first, without gaps, as bytes; and back.
// `packed` has (n * n_bits + 7) / 8 bytes, the unused bits of the last one zero.
void qcnn_unpack_bits(const unsigned char *packed, size_t n, int n_bits, uint8_t *numbers);
void qcnn_pack_bits(const uint8_t *numbers, size_t n, int n_bits, unsigned char *packed);

// ---- the graph section ----------------------------------------------------------------------------------------------

// Parses the GRPH section into an empty model. Its tensors have shapes and codebook sizes but no data yet. (container_graph.c)
qcnn_status qcnn_read_graph(const unsigned char *bytes, size_t n_bytes, qcnn_model *model, qcnn_error *error);

// The attributes of one operator; both directions follow one table. (container_attributes.c)
uint16_t qcnn_op_number(qcnn_op op);                    // the operator's number in files; 0 when it has none
bool qcnn_op_from_number(uint16_t number, qcnn_op *op); // false: unknown
// NULL, or what is wrong with them.
const char *qcnn_read_attributes(qcnn_cursor *cursor, qcnn_op op, qcnn_attributes *attributes);
void qcnn_write_attributes(qcnn_buffer *buffer, qcnn_op op, const qcnn_attributes *attributes);

// ---- checksums ------------------------------------------------------------------------------------------------------

// Computes all checksums of a file whose section table is in place and writes them where they belong. Safe on any bytes:
// the writer's last step, and how tests and fuzzing get past the checksums. (export/container_write.c)
void qcnn_container_repair_checksums(unsigned char *file, size_t n_bytes);

#endif
