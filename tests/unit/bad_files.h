// SPDX-License-Identifier: Apache-2.0
// Bad .qcnn files for tests: a valid file with one number changed, or put together from other sections, checksums right.

#ifndef QCNN_TESTS_BAD_FILES_H
#define QCNN_TESTS_BAD_FILES_H

#include "container_samples.h"

// ---- one number changed ---------------------------------------------------------------------------------------------

// Where a number lies: in the header, in the table entry of a section, or in the content of one.
typedef enum place { HEADER, ENTRY, CONTENT } place;
enum { GRPH, CODE_W, ASGN_W, DATA_B, N_SECTIONS };

enum { FORMAT = QCNN_ERROR_FORMAT, UNSUPPORTED = QCNN_ERROR_UNSUPPORTED };

typedef struct file_change {
    int status;
    const char *expected; // in the message
    place place;
    int section, at, n_bytes;
    uint64_t value;
} file_change;

static inline unsigned char *place_of(bytes file, const file_change *change)
{
    unsigned char *entry = file.data + QCNN_HEADER_BYTES + change->section * QCNN_ENTRY_BYTES;
    if (change->place == HEADER)
        return file.data + change->at;
    return change->place == ENTRY ? entry + change->at : file.data + get(entry + QCNN_ENTRY_OFFSET_AT, 8) + change->at;
}

static inline void assert_refused(bytes file, int status, const char *expected)
{
    qcnn_error error;
    const qcnn_status got = try_load(file, &error);
    if ((int)got != status || !strstr(error.message, expected))
        fail_msg("expected '%s', got %s '%s'", expected, qcnn_status_name(got), error.message);
}

// Each change alone, made to a copy of `good`, is refused as it says.
static inline void assert_changes_refused(bytes good, const file_change *changes, size_t n_changes)
{
    bytes bad = { qcnn_allocate(good.n, 1), good.n };
    for (size_t i = 0; i < n_changes; i++) {
        memcpy(bad.data, good.data, good.n);
        put(place_of(bad, &changes[i]), changes[i].value, changes[i].n_bytes);
        qcnn_container_repair_checksums(bad.data, bad.n);
        assert_refused(bad, changes[i].status, changes[i].expected);
    }
    qcnn_release(bad.data);
}

// ---- files put together from sections -------------------------------------------------------------------------------

typedef struct part {
    uint32_t type, flags, tensor;
    const void *content;
    size_t n;
    uint32_t encoding;
    uint64_t decoded; // where it is not plain
} part;

// A file of these sections, its frame in order.
static inline bytes assemble(const part *parts, size_t n_parts)
{
    size_t end = QCNN_HEADER_BYTES + n_parts * QCNN_ENTRY_BYTES;
    for (size_t i = 0; i < n_parts; i++)
        end = (end + 63) / 64 * 64 + parts[i].n;
    bytes file = { NULL, (end + 63) / 64 * 64 };
    file.data = qcnn_allocate_zeroed(file.n, 1);
    memcpy(file.data, QCNN_MAGIC, QCNN_MAGIC_BYTES);
    put(file.data + 8, QCNN_FORMAT_MAJOR, 2);
    put(file.data + 10, 77, 2); // a newer minor version is none of our business
    put(file.data + 12, QCNN_HEADER_BYTES, 4);
    put(file.data + 16, file.n, 8);
    put(file.data + QCNN_HEADER_COUNT_AT, n_parts, 4);
    end = QCNN_HEADER_BYTES + n_parts * QCNN_ENTRY_BYTES;
    for (size_t i = 0; i < n_parts; i++) {
        unsigned char *entry = file.data + QCNN_HEADER_BYTES + i * QCNN_ENTRY_BYTES;
        const size_t start = (end + 63) / 64 * 64;
        put(entry, parts[i].type, 4);
        put(entry + 4, parts[i].flags, 4);
        put(entry + 8, parts[i].encoding, 4);
        put(entry + 12, parts[i].tensor, 4);
        put(entry + 16, start, 8);
        put(entry + 24, parts[i].n, 8);
        put(entry + 32, parts[i].encoding ? parts[i].decoded : parts[i].n, 8);
        memcpy(file.data + start, parts[i].content, parts[i].n);
        end = start + parts[i].n;
    }
    qcnn_container_repair_checksums(file.data, file.n);
    return file;
}

enum { MAX_PARTS = 8 };

// The sections of a file, into room for MAX_PARTS.
static inline size_t take_apart(bytes file, part *parts)
{
    const size_t n = (size_t)get(file.data + QCNN_HEADER_COUNT_AT, 4);
    for (size_t i = 0; i < n; i++) {
        const unsigned char *entry = file.data + QCNN_HEADER_BYTES + i * QCNN_ENTRY_BYTES;
        parts[i] = (part){ (uint32_t)get(entry, 4),
                           (uint32_t)get(entry + 4, 4),
                           (uint32_t)get(entry + 12, 4),
                           file.data + get(entry + 16, 8),
                           (size_t)get(entry + 24, 8),
                           (uint32_t)get(entry + 8, 4),
                           get(entry + 32, 8) };
    }
    return n;
}

static inline void assert_parts_refused(const part *parts, size_t n, int status, const char *expected)
{
    const bytes file = assemble(parts, n);
    if (expected) {
        assert_refused(file, status, expected);
    } else {
        qcnn_error error;
        if (try_load(file, &error) != QCNN_OK)
            fail_msg("refused: %s", error.message);
    }
    qcnn_release(file.data);
}

#endif
