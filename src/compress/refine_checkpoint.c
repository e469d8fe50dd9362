// SPDX-License-Identifier: Apache-2.0
// Checkpoints of refinement: some hundred megabytes, so they are written piece by piece and checked before they are read.

#include "compress/refine_checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/crc32.h"

enum { VERSION = 1, MAX_NAME_BYTES = 4096, PIECE_BYTES = 1 << 16 };

static const char magic[8] = "QCNNREFI";

typedef struct header {
    char magic[8];
    uint64_t version, key, n_bytes;
} header;

uint64_t qcnn_refine_key(uint64_t key, const void *data, size_t n_bytes)
{
    qcnn_crc32_tables tables;
    qcnn_crc32_init(&tables);
    const uint64_t crc = qcnn_crc32(&tables, (uint32_t)(key >> 32), data, n_bytes);
    return (key ^ crc) * 0x9e3779b97f4a7c15u + n_bytes;
}

static uint64_t sum_of(const qcnn_refine_block *blocks, size_t n_blocks)
{
    uint64_t n_bytes = 0;
    for (size_t i = 0; i < n_blocks; i++)
        n_bytes += blocks[i].n_bytes;
    return n_bytes;
}

static bool write_all(FILE *file, uint64_t key, const qcnn_refine_block *blocks, size_t n_blocks)
{
    header head = { .version = VERSION, .key = key, .n_bytes = sum_of(blocks, n_blocks) };
    memcpy(head.magic, magic, sizeof magic);
    qcnn_crc32_tables tables;
    qcnn_crc32_init(&tables);
    uint32_t crc = 0;
    bool written = fwrite(&head, sizeof head, 1, file) == 1;
    for (size_t i = 0; i < n_blocks && written; i++) {
        crc = qcnn_crc32(&tables, crc, blocks[i].data, blocks[i].n_bytes);
        written = blocks[i].n_bytes == 0 || fwrite(blocks[i].data, blocks[i].n_bytes, 1, file) == 1;
    }
    return written && fwrite(&crc, sizeof crc, 1, file) == 1 && fflush(file) == 0 && fsync(fileno(file)) == 0;
}

qcnn_status qcnn_refine_checkpoint_save(const char *path, uint64_t key, const qcnn_refine_block *blocks, size_t n_blocks, qcnn_error *error)
{
    char name[MAX_NAME_BYTES];
    const int n = snprintf(name, sizeof name, "%s.new", path);
    FILE *file = n > 0 && n < MAX_NAME_BYTES ? fopen(name, "wb") : NULL;
    if (!file)
        return qcnn_fail(error, QCNN_ERROR_IO, "%s: %s", path, strerror(errno));
    bool written = write_all(file, key, blocks, n_blocks);
    int reason = errno;
    if (fclose(file) != 0 || (written && rename(name, path) != 0)) {
        reason = written ? errno : reason;
        written = false;
    }
    if (written)
        return QCNN_OK;
    unlink(name);
    return qcnn_fail(error, QCNN_ERROR_IO, "%s: %s", path, strerror(reason));
}

// Whether the state that follows in the file is whole; the file then stands at its start again.
static bool is_whole(FILE *file, uint64_t n_bytes)
{
    const long start = ftell(file);
    unsigned char piece[PIECE_BYTES];
    qcnn_crc32_tables tables;
    qcnn_crc32_init(&tables);
    uint32_t crc = 0, found;
    while (n_bytes > 0) {
        const size_t n = n_bytes < PIECE_BYTES ? (size_t)n_bytes : PIECE_BYTES;
        if (fread(piece, n, 1, file) != 1)
            return false;
        crc = qcnn_crc32(&tables, crc, piece, n);
        n_bytes -= n;
    }
    return start >= 0 && fread(&found, sizeof found, 1, file) == 1 && found == crc && fseek(file, start, SEEK_SET) == 0;
}

bool qcnn_refine_checkpoint_load(const char *path, uint64_t key, const qcnn_refine_block *blocks, size_t n_blocks)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return false;
    header head;
    bool usable = fread(&head, sizeof head, 1, file) == 1 && memcmp(head.magic, magic, sizeof magic) == 0 && head.version == VERSION &&
                  head.key == key && head.n_bytes == sum_of(blocks, n_blocks) && is_whole(file, head.n_bytes);
    for (size_t i = 0; i < n_blocks && usable; i++)
        usable = blocks[i].n_bytes == 0 || fread(blocks[i].data, blocks[i].n_bytes, 1, file) == 1;
    fclose(file);
    return usable;
}

void qcnn_refine_checkpoint_unlink(const char *path)
{
    char part[MAX_NAME_BYTES];
    const int n = snprintf(part, sizeof part, "%s.new", path);
    unlink(path);
    if (n > 0 && n < MAX_NAME_BYTES)
        unlink(part);
}
