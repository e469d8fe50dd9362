// SPDX-License-Identifier: Apache-2.0
// Local response normalization across channels, in pieces of a plane whose neighbouring channels stay in the first cache.

#include "engine/layers.h"

enum { LRN_PIECE = 128 };

typedef struct lrn_job {
    const qcnn_step *step;
    int64_t channels, plane, pieces; // elements of a channel, pieces of a channel
} lrn_job;

static void run_lrn_pieces(void *argument, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const lrn_job *job = argument;
    const qcnn_attributes *a = &job->step->node->attributes;
    const int64_t below = (a->lrn_size - 1) / 2, above = a->lrn_size / 2; // neighbours on either side
    const size_t plane = (size_t)job->plane;
    for (int64_t i = begin; i < end; i++) {
        const int64_t position = i % job->pieces * LRN_PIECE;
        const size_t n = (size_t)(job->plane - position < LRN_PIECE ? job->plane - position : LRN_PIECE);
        const float *x = job->step->inputs[0].data + i / job->pieces * job->channels * job->plane + position;
        float *y = job->step->output + (x - job->step->inputs[0].data);
        for (int64_t c = 0; c < job->channels; c++) {
            const int64_t first = c > below ? c - below : 0, last = c + above < job->channels ? c + above : job->channels - 1;
            job->step->kernels->lrn(y + c * job->plane, x + c * job->plane, x + first * job->plane, plane, (size_t)(last - first + 1), n,
                                    a->lrn_alpha / (float)a->lrn_size, a->lrn_beta, a->lrn_bias);
        }
    }
}

// The same to a byte plane.
static void run_lrn_quads(void *argument, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const lrn_job *job = argument;
    const qcnn_step *step = job->step;
    const qcnn_attributes *a = &step->node->attributes;
    const size_t n_quads = qcnn_shape_quads(&step->output_shape), quad_bytes = qcnn_quad_bytes(&step->output_shape);
    for (int64_t i = begin; i < end; i++) {
        const int64_t position = i % job->pieces * LRN_PIECE, left = job->plane - position;
        step->kernels->lrn_quads(step->output_quads + (size_t)(i / job->pieces) * n_quads * quad_bytes + (size_t)position * 4, quad_bytes,
                                 step->inputs[0].data + i / job->pieces * job->channels * job->plane + position, (size_t)job->plane,
                                 (size_t)job->channels, (size_t)(left < LRN_PIECE ? left : LRN_PIECE), a->lrn_size,
                                 a->lrn_alpha / (float)a->lrn_size, a->lrn_bias, 1 / step->output_format.scale, step->output_format.limit);
    }
}

static void lrn_run(const qcnn_step *step, const qcnn_parallel *parallel)
{
    const qcnn_shape *x = &step->inputs[0].shape;
    lrn_job job = { .step = step, .channels = x->dims[1] };
    job.plane = (int64_t)qcnn_shape_elements(x) / x->dims[0] / job.channels;
    job.pieces = (job.plane + LRN_PIECE - 1) / LRN_PIECE;
    qcnn_for_range(parallel, x->dims[0] * job.pieces, 1, step->output_quads ? run_lrn_quads : run_lrn_pieces, &job);
}

// The range before is so much wider than the one behind that bytes would be too coarse: only the output can be a byte plane.
static bool writes_lrn_quads(const qcnn_step *step)
{
    const qcnn_attributes *a = &step->node->attributes;
    return a->lrn_beta == 0.75F && a->lrn_bias >= 0x1p-20F && a->lrn_bias <= 0x1p20F && a->lrn_alpha >= 0;
}

const qcnn_layer_type qcnn_layer_lrn = { .run = lrn_run, .writes_quads = writes_lrn_quads };
