// SPDX-License-Identifier: Apache-2.0
// Local response normalization across channels, in pieces of a plane whose neighbouring channels stay in the first cache.

#include "engine/layers.h"

enum { LRN_PIECE = 256 };

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

static void lrn_run(const qcnn_step *step, const qcnn_parallel *parallel)
{
    const qcnn_shape *x = &step->inputs[0].shape;
    lrn_job job = { .step = step, .channels = x->dims[1] };
    job.plane = (int64_t)qcnn_shape_elements(x) / x->dims[0] / job.channels;
    job.pieces = (job.plane + LRN_PIECE - 1) / LRN_PIECE;
    qcnn_for_range(parallel, x->dims[0] * job.pieces, 1, run_lrn_pieces, &job);
}

const qcnn_layer_type qcnn_layer_lrn = { NULL, lrn_run };
