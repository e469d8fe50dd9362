// SPDX-License-Identifier: Apache-2.0
// Sums of two values of one shape, each in floats or a byte plane, to a byte plane: the additions of residual networks. In pieces that stay
// in the first-level cache, through floats.

#include <string.h>

#include "engine/layers.h"

enum { ADD_PIECE = 256 }; // positions

typedef struct add_job {
    const qcnn_step *step;
    size_t n_quads, channels, plane, pieces; // of an image; positions and their pieces
} add_job;

// Positions first..first+n-1 of an operand's quad (of all images), up to four channels of floats [4][ADD_PIECE].
static void load_channels(const add_job *job, const qcnn_operand *x, size_t quad, int n_channels, size_t first, size_t n, float *to)
{
    if (x->quads) {
        job->step->kernels->dequantize_quads(n, x->quads + (quad * job->plane + first) * 4, n_channels, x->format.scale, to, ADD_PIECE);
        return;
    }
    const float *from = x->data + (quad / job->n_quads * job->channels + quad % job->n_quads * 4) * job->plane + first;
    for (size_t i = 0; i < (size_t)n_channels; i++)
        memcpy(to + i * ADD_PIECE, from + i * job->plane, n * sizeof *to);
}

static void run_add_pieces(void *argument, int64_t begin, int64_t end, int worker)
{
    const add_job *job = argument;
    const qcnn_step *step = job->step;
    const qcnn_kernels *kernels = step->kernels;
    const int limit = qcnn_held_to(&step->node->attributes.activation, &step->output_format);
    float *sums = (float *)(void *)(step->worker + (size_t)worker * step->worker_bytes), *others = sums + 4 * ADD_PIECE;
    for (size_t i = (size_t)begin; i < (size_t)end; i++) {
        const size_t first = i % job->pieces * ADD_PIECE, n = job->plane - first < ADD_PIECE ? job->plane - first : ADD_PIECE;
        for (size_t q = 0; q < job->n_quads; q++) {
            const size_t quad = i / job->pieces * job->n_quads + q, left = job->channels - 4 * q;
            const int n_channels = left < 4 ? (int)left : 4;
            load_channels(job, &step->inputs[0], quad, n_channels, first, n, sums);
            load_channels(job, &step->inputs[1], quad, n_channels, first, n, others);
            for (size_t c = 0; c < (size_t)n_channels; c++)
                kernels->accumulate(sums + c * ADD_PIECE, others + c * ADD_PIECE, n, 1);
            kernels->quantize_quads(n, sums, ADD_PIECE, n_channels, 1 / step->output_format.scale, 0, limit,
                                    step->output_quads + (quad * job->plane + first) * 4);
        }
    }
}

void qcnn_add_planes_plan(qcnn_step *step)
{
    if (qcnn_is_plane(&step->output_format))
        step->worker_bytes = 2 * 4 * ADD_PIECE * sizeof(float);
}

void qcnn_add_planes_run(const qcnn_step *step, const qcnn_parallel *parallel)
{
    const qcnn_shape *y = &step->output_shape;
    add_job job = { step, qcnn_shape_quads(y), (size_t)y->dims[1], qcnn_quad_bytes(y) / 4, 0 };
    job.pieces = (job.plane + ADD_PIECE - 1) / ADD_PIECE;
    qcnn_for_range(parallel, y->dims[0] * (int64_t)job.pieces, 1, run_add_pieces, &job);
}

// What is left of the sum below zero is lost: behind a ReLU nothing is.
bool qcnn_adds_to_plane(const qcnn_step *step)
{
    const qcnn_attributes *a = &step->node->attributes;
    return a->function == QCNN_ADD && qcnn_only_holds(&a->activation) && qcnn_shape_equal(&step->inputs[0].shape, &step->output_shape) &&
           qcnn_shape_equal(&step->inputs[1].shape, &step->output_shape);
}

bool qcnn_adds_planes(const qcnn_step *step)
{
    return qcnn_is_plane(&step->output_format) && qcnn_adds_to_plane(step);
}
