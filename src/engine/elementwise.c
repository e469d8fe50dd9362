// SPDX-License-Identifier: Apache-2.0
// Functions of one argument, and of two that broadcast against each other.

#include <math.h>

#include "engine/layers.h"

enum { ELEMENTS_PER_TASK = 16384 };

// ---- one argument ---------------------------------------------------------------------------------------------------

static void run_unary_range(void *argument, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const qcnn_step *step = argument;
    qcnn_activation activation = step->node->attributes.activation; // alpha and beta
    activation.function = step->node->attributes.function;
    step->kernels->activate(&activation, step->output + begin, step->inputs[0].data + begin, (size_t)(end - begin));
}

static void unary_run(const qcnn_step *step, const qcnn_parallel *parallel)
{
    qcnn_for_range(parallel, (int64_t)qcnn_shape_elements(&step->output_shape), ELEMENTS_PER_TASK, run_unary_range, (void *)step);
}

const qcnn_layer_type qcnn_layer_unary = { .run = unary_run };

// ---- two arguments --------------------------------------------------------------------------------------------------

// The loops over dimensions, neighbours merged where both inputs allow it: equal shapes, or a scalar beside anything, end
// as one dimension, a value per channel as two.
typedef struct binary_job {
    const qcnn_step *step;
    int rank;
    int64_t dims[QCNN_MAX_RANK], a_strides[QCNN_MAX_RANK], b_strides[QCNN_MAX_RANK]; // stride 0: broadcast
} binary_job;

static int64_t aligned_dim(const qcnn_shape *shape, int i, int rank)
{
    const int from = i - (rank - shape->rank);
    return from < 0 ? 1 : shape->dims[from];
}

static binary_job binary_measure(const qcnn_step *step)
{
    const qcnn_shape *y = &step->output_shape, *a = &step->inputs[0].shape, *b = &step->inputs[1].shape;
    binary_job job = { .step = step, .rank = 0 };
    int64_t a_step = 1, b_step = 1;
    for (int i = y->rank - 1; i >= 0; i--) { // innermost first; dims[0] is the innermost loop
        const int64_t a_dim = aligned_dim(a, i, y->rank), b_dim = aligned_dim(b, i, y->rank);
        const int64_t a_stride = a_dim == 1 ? 0 : a_step, b_stride = b_dim == 1 ? 0 : b_step;
        a_step *= a_dim;
        b_step *= b_dim;
        if (y->dims[i] == 1)
            continue;
        const int last = job.rank - 1;
        if (last >= 0 && a_stride == job.a_strides[last] * job.dims[last] && b_stride == job.b_strides[last] * job.dims[last]) {
            job.dims[last] *= y->dims[i];
            continue;
        }
        job.dims[job.rank] = y->dims[i];
        job.a_strides[job.rank] = a_stride;
        job.b_strides[job.rank++] = b_stride;
    }
    if (job.rank == 0)
        job.dims[job.rank++] = 1;
    return job;
}

#define EACH_PAIR(expression)                                                                                                              \
    do {                                                                                                                                   \
        if (a_stride && b_stride)                                                                                                          \
            for (int64_t j = 0; j < n; j++) {                                                                                              \
                const float p = a[j], q = b[j];                                                                                            \
                y[j] = (expression);                                                                                                       \
            }                                                                                                                              \
        else                                                                                                                               \
            for (int64_t j = 0; j < n; j++) {                                                                                              \
                const float p = a[j * a_stride], q = b[j * b_stride];                                                                      \
                y[j] = (expression);                                                                                                       \
            }                                                                                                                              \
    } while (0)

// y[j] = f(a[j * a_stride], b[j * b_stride]); strides are 0 or 1.
static void apply_function(qcnn_function function, float *y, const float *a, int64_t a_stride, const float *b, int64_t b_stride, int64_t n)
{
    switch (function) {
    case QCNN_ADD: EACH_PAIR(p + q); break;
    case QCNN_SUBTRACT: EACH_PAIR(p - q); break;
    case QCNN_MULTIPLY: EACH_PAIR(p * q); break;
    case QCNN_DIVIDE: EACH_PAIR(p / q); break;
    case QCNN_MINIMUM: EACH_PAIR(p < q ? p : q); break;
    case QCNN_MAXIMUM: EACH_PAIR(p > q ? p : q); break;
    case QCNN_POWER: EACH_PAIR(powf(p, q)); break;
    default: EACH_PAIR(p < 0 ? p * q : p); break; // QCNN_PRELU
    }
}

// Output elements begin..end-1, one innermost row (or what the range cuts from it) at a time.
static void run_binary_range(void *argument, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const binary_job *job = argument;
    const qcnn_step *step = job->step;
    for (int64_t i = begin; i < end;) {
        const int64_t column = i % job->dims[0], left = job->dims[0] - column, n = left < end - i ? left : end - i;
        int64_t rest = i / job->dims[0], a = column * job->a_strides[0], b = column * job->b_strides[0];
        for (int d = 1; d < job->rank; rest /= job->dims[d], d++) {
            a += rest % job->dims[d] * job->a_strides[d];
            b += rest % job->dims[d] * job->b_strides[d];
        }
        apply_function(step->node->attributes.function, step->output + i, step->inputs[0].data + a, job->a_strides[0],
                       step->inputs[1].data + b, job->b_strides[0], n);
        i += n;
    }
    qcnn_fused_activation(step, step->output + begin, (size_t)(end - begin));
}

static void binary_run(const qcnn_step *step, const qcnn_parallel *parallel)
{
    if (step->output_quads) {
        qcnn_add_planes_run(step, parallel);
        return;
    }
    binary_job job = binary_measure(step);
    qcnn_for_range(parallel, (int64_t)qcnn_shape_elements(&step->output_shape), ELEMENTS_PER_TASK, run_binary_range, &job);
}

const qcnn_layer_type qcnn_layer_binary = {
    .plan = qcnn_add_planes_plan, .run = binary_run, .reads_quads = qcnn_adds_planes, .writes_quads = qcnn_adds_to_plane
};
