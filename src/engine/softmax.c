// SPDX-License-Identifier: Apache-2.0
// Softmax and its logarithm over the dimensions axis..axis_end taken together.

#include <math.h>

#include "engine/layers.h"

typedef struct softmax_job {
    const qcnn_step *step;
    int64_t n, inner; // elements that share a sum; distance between two of them
} softmax_job;

static void run_softmax_rows(void *argument, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const softmax_job *job = argument;
    const bool logarithm = job->step->node->op == QCNN_OP_LOG_SOFTMAX;
    for (int64_t i = begin; i < end; i++) {
        const int64_t offset = i / job->inner * job->n * job->inner + i % job->inner, stride = job->inner;
        const float *x = job->step->inputs[0].data + offset;
        float *y = job->step->output + offset, largest = x[0];
        for (int64_t k = 1; k < job->n; k++)
            largest = x[k * stride] > largest ? x[k * stride] : largest;
        double sum = 0;
        for (int64_t k = 0; k < job->n; k++) {
            y[k * stride] = expf(x[k * stride] - largest);
            sum += y[k * stride];
        }
        const float scale = (float)(1 / sum), log_sum = logf((float)sum);
        for (int64_t k = 0; k < job->n; k++)
            y[k * stride] = logarithm ? x[k * stride] - largest - log_sum : y[k * stride] * scale;
    }
}

static void softmax_run(const qcnn_step *step, const qcnn_parallel *parallel)
{
    const qcnn_shape *x = &step->inputs[0].shape;
    softmax_job job = { .step = step, .n = 1, .inner = 1 };
    for (int i = 0; i < x->rank; i++)
        if (i >= step->node->attributes.axis)
            *(i <= step->node->attributes.axis_end ? &job.n : &job.inner) *= x->dims[i];
    enum { ELEMENTS = 4096 };
    qcnn_for_range(parallel, (int64_t)qcnn_shape_elements(x) / job.n, (ELEMENTS + job.n - 1) / job.n, run_softmax_rows, &job);
}

const qcnn_layer_type qcnn_layer_softmax = { .run = softmax_run };
