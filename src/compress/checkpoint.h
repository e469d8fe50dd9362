// SPDX-License-Identifier: Apache-2.0
// The layers that an error correction has finished, in a file beside the output, so that a killed run goes on where it was. The file
// is written whole or not at all after each layer; the one before it is kept under its name with ".previous" behind, and used
// where the newer one is missing or damaged. A file made for another network, other images or other settings is not used.
//
//     "QCNNCKPT" | u32 version | u64 key | u32 layers | layers | u32 CRC of all before
//     layer: u32 node | f32 error | f32 error before | u32 K | f32 codewords [S][M][K][C'] | f32 scales [S][M] of int8 ones | assignments | u32 biases | f32
//     bias

#ifndef QCNN_COMPRESS_CHECKPOINT_H
#define QCNN_COMPRESS_CHECKPOINT_H

#include "compress/settings.h"
#include "qcnn_compress.h"

// Behind the name of a checkpoint: the one of the layers that are corrected after refinement.
#define QCNN_CHECKPOINT_REST ".rest"
// And the state of the joint descent of convolutions.
#define QCNN_CHECKPOINT_JOINT ".joint"

// Likewise: what the search for settings has found out about the layers (search.c).
#define QCNN_CHECKPOINT_SEARCH ".search"

// What the result depends on: network, calibration images (their names and the pixels of some), settings, options.
// Errors: IO, FORMAT, MEMORY (an image).
qcnn_status qcnn_checkpoint_key(const qcnn_model *original, const qcnn_layer_setting *settings, const qcnn_compress_options *options,
                                uint64_t *key, qcnn_error *error);

// Installs the layers of the file at options->checkpoint in `compressed`, a fresh copy of `original`, and marks them in done[node]. A file
// that is there and cannot be used is told to options->note; none at all is fine. Errors: MEMORY.
qcnn_status qcnn_checkpoint_load(const qcnn_model *original, const qcnn_layer_setting *settings, const qcnn_compress_options *options,
                                 uint64_t key, qcnn_model *compressed, bool *done, qcnn_error *error);

// Writes the layers marked in done. Errors: IO, MEMORY.
qcnn_status qcnn_checkpoint_save(const qcnn_model *compressed, const qcnn_compress_options *options, uint64_t key, const bool *done,
                                 qcnn_error *error);

#endif
