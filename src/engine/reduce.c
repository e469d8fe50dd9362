// SPDX-License-Identifier: Apache-2.0
// Means and maxima over any set of dimensions.

#include <string.h>

#include "engine/layers.h"

// Loops over the kept and over the reduced dimensions, innermost first, neighbours merged.
typedef struct reduce_loops {
    int rank;
    int64_t n, dims[QCNN_MAX_RANK], strides[QCNN_MAX_RANK];
} reduce_loops;

typedef struct reduce_job {
    const qcnn_step *step;
    reduce_loops kept, reduced;
} reduce_job;

static void add_dimension(reduce_loops *loops, int64_t dim, int64_t stride)
{
    const int last = loops->rank - 1;
    if (dim == 1)
        return;
    loops->n *= dim;
    if (last >= 0 && stride == loops->strides[last] * loops->dims[last]) {
        loops->dims[last] *= dim;
        return;
    }
    loops->dims[loops->rank] = dim;
    loops->strides[loops->rank++] = stride;
}

static int64_t loop_offset(const reduce_loops *loops, int first, int64_t index)
{
    int64_t offset = 0;
    for (int d = first; d < loops->rank; index /= loops->dims[d], d++)
        offset += index % loops->dims[d] * loops->strides[d];
    return offset;
}

// Eight sums side by side, the same in every tier: one alone would wait for itself.
static double sum_of_row(const float *x, int64_t n, int64_t stride)
{
    enum { LANES = 8 };
    double sums[LANES] = { 0 }, sum = 0;
    int64_t j = 0;
    if (stride == 1)
        for (; j + LANES <= n; j += LANES)
            for (int64_t i = 0; i < LANES; i++)
                sums[i] += x[j + i];
    for (; j < n; j++)
        sum += x[j * stride];
    for (int i = 0; i < LANES; i++)
        sum += sums[i];
    return sum;
}

static void run_reduce_range(void *argument, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const reduce_job *job = argument;
    const reduce_loops *reduced = &job->reduced;
    const bool mean = job->step->node->op == QCNN_OP_REDUCE_MEAN;
    const int64_t inner = reduced->rank ? reduced->dims[0] : 1, stride = reduced->rank ? reduced->strides[0] : 0;
    for (int64_t i = begin; i < end; i++) {
        const float *x = job->step->inputs[0].data + loop_offset(&job->kept, 0, i);
        double sum = 0;
        float largest = x[0];
        for (int64_t r = 0; r < reduced->n / inner; r++) {
            const float *row = x + loop_offset(reduced, 1, r);
            if (mean)
                sum += sum_of_row(row, inner, stride);
            for (int64_t j = 0; !mean && j < inner; j++)
                largest = row[j * stride] > largest ? row[j * stride] : largest;
        }
        job->step->output[i] = mean ? (float)(sum / (double)reduced->n) : largest;
    }
}

// ---- byte planes ----------------------------------------------------------------------------------------------------

// Sums of the four channels of n quads, exact. Two quads at a time, bytes of even and odd channels in lanes of 16 bits.
static void sum_quads(const uint8_t *quads, size_t n, uint32_t sums[4])
{
    enum { MOST = 257 }; // bytes that 16 bits add up
    const uint64_t bytes = 0x00FF00FF00FF00FF;
    for (size_t p = 0; p + 2 <= n;) {
        uint64_t even = 0, odd = 0;
        for (int i = 0; i < MOST && p + 2 <= n; i++, p += 2, quads += 8) {
            uint64_t pair;
            memcpy(&pair, quads, sizeof pair);
            even += pair & bytes;
            odd += pair >> 8 & bytes;
        }
        for (int i = 0; i < 4; i++) {
            sums[i % 2 * 2] += (uint32_t)(even >> 16 * i) & 0xFFFF;
            sums[i % 2 * 2 + 1] += (uint32_t)(odd >> 16 * i) & 0xFFFF;
        }
    }
    for (int i = 0; n % 2 && i < 4; i++)
        sums[i] += quads[i];
}

// Means over all positions, of the quads begin..end-1 of all images.
static void run_mean_quads(void *argument, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const qcnn_step *step = ((const reduce_job *)argument)->step;
    const qcnn_operand *x = &step->inputs[0];
    const size_t n_quads = qcnn_shape_quads(&x->shape), quad_bytes = qcnn_quad_bytes(&x->shape), channels = (size_t)x->shape.dims[1];
    const double scale = (double)x->format.scale * 4 / (double)quad_bytes;
    for (size_t i = (size_t)begin; i < (size_t)end; i++) {
        uint32_t sums[4] = { 0 };
        sum_quads(x->quads + i * quad_bytes, quad_bytes / 4, sums);
        for (size_t c = 0, channel = i % n_quads * 4; c < 4 && channel + c < channels; c++)
            step->output[i / n_quads * channels + channel + c] = (float)(sums[c] * scale);
    }
}

// Means of whole planes, small enough for the sums.
static bool reads_mean_quads(const qcnn_step *step)
{
    const qcnn_shape *x = &step->inputs[0].shape;
    bool whole = step->node->op == QCNN_OP_REDUCE_MEAN && x->rank >= 3 && qcnn_quad_bytes(x) <= 1 << 26;
    for (int i = 0; i < x->rank; i++)
        whole &= (step->node->attributes.axes[i] != 0) == (i >= 2);
    return whole;
}

static void reduce_run(const qcnn_step *step, const qcnn_parallel *parallel)
{
    const qcnn_shape *x = &step->inputs[0].shape;
    reduce_job job = { .step = step, .kept.n = 1, .reduced.n = 1 };
    int64_t stride = 1;
    for (int i = x->rank - 1; i >= 0; stride *= x->dims[i], i--)
        add_dimension(step->node->attributes.axes[i] ? &job.reduced : &job.kept, x->dims[i], stride);
    enum { ELEMENTS = 16384 };
    if (step->inputs[0].quads) {
        qcnn_for_range(parallel, x->dims[0] * (int64_t)qcnn_shape_quads(x), ELEMENTS / (int64_t)qcnn_quad_bytes(x) + 1, run_mean_quads,
                       &job);
        return;
    }
    qcnn_for_range(parallel, job.kept.n, ELEMENTS / job.reduced.n + 1, run_reduce_range, &job);
}

const qcnn_layer_type qcnn_layer_reduce = { .run = reduce_run, .reads_quads = reads_mean_quads };
