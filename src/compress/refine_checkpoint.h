// SPDX-License-Identifier: Apache-2.0
// The state of a refinement in a file, so that a killed run goes on where it last looked at the held-out images and ends with the same
// bytes. The file is written beside its place and renamed: whole or not there.
//
//     "QCNNREFI" | u64 version | u64 key | u64 bytes of state | state | u32 CRC of the state

#ifndef QCNN_COMPRESS_REFINE_CHECKPOINT_H
#define QCNN_COMPRESS_REFINE_CHECKPOINT_H

#include <stdbool.h>

#include "base/status.h"

// Numbers that are written and read where they are, in order.
typedef struct qcnn_refine_block {
    void *data;
    size_t n_bytes;
} qcnn_refine_block;

// A key from another and n bytes.
uint64_t qcnn_refine_key(uint64_t key, const void *data, size_t n_bytes);

// Errors: IO.
qcnn_status qcnn_refine_checkpoint_save(const char *path, uint64_t key, const qcnn_refine_block *blocks, size_t n_blocks,
                                        qcnn_error *error);

// Fills the blocks and gives true; gives false where there is no whole file of this key and these sizes, and leaves the blocks alone.
bool qcnn_refine_checkpoint_load(const char *path, uint64_t key, const qcnn_refine_block *blocks, size_t n_blocks);

// Removes the file, and what a kill may have left of one being written.
void qcnn_refine_checkpoint_unlink(const char *path);

#endif
