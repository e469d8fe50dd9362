// SPDX-License-Identifier: Apache-2.0
// A walk of many samples through a network, stopping before chosen nodes. What is known at a stop and needed beyond it is kept
// for all samples, in half precision, so that each stop starts from the one before. Where that would take too much memory
// nothing is kept, and the next stretch starts from the last stop that was kept, or from the images.
//
//     images ──▶ [conv1 ... pool1] ──▶ kept ──▶ [conv2 ... pool2] ──▶ kept ──▶ ...
//                                        └ before conv2: its input
//
// Two walks over the same samples, through the original and through the network as far as it is quantized, give a layer its
// targets and its inputs; until the first quantized layer they are the same walk.

#ifndef QCNN_COMPRESS_WALK_H
#define QCNN_COMPRESS_WALK_H

#include "compress/samples.h"

typedef struct qcnn_walk qcnn_walk;

// Which samples: n[QCNN_PART_FIT] of the part to fit to from number `first` on, followed by n[QCNN_PART_HELD_OUT] of the other.
typedef struct qcnn_walk_samples {
    const qcnn_samples *source;
    int first;
    int n[2];
} qcnn_walk_samples;

// A walk at the start of `model`, which must be a copy of a prepared model and outlive it, like the source of the samples. The
// weights of nodes behind the current stop may still change. Errors: MEMORY.
qcnn_status qcnn_walk_new(const qcnn_model *model, const qcnn_walk_samples *samples, const qcnn_parallel *parallel, qcnn_walk **walk,
                          qcnn_error *error);
void qcnn_walk_free(qcnn_walk *walk);

// A second walk that stands where `walk` stands, through another model over the same graph.
qcnn_status qcnn_walk_fork(const qcnn_walk *walk, const qcnn_model *model, qcnn_walk **fork, qcnn_error *error);

// Prepares the stretch from the last kept stop to node `node`, whose input 0 becomes known. With keep_bytes > 0 the stop is kept
// if that takes no more than so many bytes.
qcnn_status qcnn_walk_begin(qcnn_walk *walk, size_t node, uint64_t keep_bytes, qcnn_error *error);

// Floats of that input, of one sample.
size_t qcnn_walk_n_elements(const qcnn_walk *walk);

// How many samples may be taken at once; not dependent on threads.
int qcnn_walk_chunk_size(const qcnn_walk *walk);

// The stretch for samples first..first + n - 1, n <= qcnn_walk_chunk_size; each once between begin and end, in rising order.
// Afterwards qcnn_walk_input gives the node's input for them.
// Errors: those of qcnn_samples_read, MEMORY.
qcnn_status qcnn_walk_chunk(qcnn_walk *walk, int first, int n, qcnn_error *error);
const float *qcnn_walk_input(const qcnn_walk *walk, int sample); // valid until the next chunk or end

// Ends the stretch; a kept stop is now where the walk stands.
void qcnn_walk_end(qcnn_walk *walk);

// Bytes that keeping the stop before `node` takes for one sample.
uint64_t qcnn_walk_sample_bytes(const qcnn_walk *walk, size_t node);

#endif
