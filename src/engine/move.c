// SPDX-License-Identifier: Apache-2.0
// Layers that only move elements: concat, transpose, slice and pad.

#include <string.h>

#include "engine/layers.h"

enum { BYTES_PER_TASK = 65536 };

// ---- concat ---------------------------------------------------------------------------------------------------------

// Item i is the piece that input i % n_inputs adds to outer index i / n_inputs.
typedef struct concat_job {
    const qcnn_step *step;
    int n_inputs;
    int64_t row; // bytes of the output per outer index
} concat_job;

// Bytes of an operand from dimension `axis` on; a byte plane is joined along its channels.
static int64_t inner_bytes(const qcnn_shape *shape, const qcnn_format *format, int axis)
{
    if (qcnn_is_plane(format))
        return (int64_t)(qcnn_shape_quads(shape) * qcnn_quad_bytes(shape));
    int64_t n = sizeof(float);
    for (int i = axis; i < shape->rank; i++)
        n *= shape->dims[i];
    return n;
}

static void run_concat_pieces(void *argument, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const concat_job *job = argument;
    const qcnn_step *step = job->step;
    const int axis = step->node->attributes.axis;
    unsigned char *to = (step->output_quads ? step->output_quads : (unsigned char *)step->output) + begin / job->n_inputs * job->row;
    for (int i = 0; i < (int)(begin % job->n_inputs); i++)
        to += inner_bytes(&step->inputs[i].shape, &step->inputs[i].format, axis);
    for (int64_t i = begin; i < end; i++) {
        const qcnn_operand *input = &step->inputs[i % job->n_inputs];
        const int64_t n = inner_bytes(&input->shape, &input->format, axis);
        const unsigned char *from = input->quads ? input->quads : (const unsigned char *)input->data;
        memcpy(to, from + i / job->n_inputs * n, (size_t)n);
        to += n;
    }
}

static void concat_run(const qcnn_step *step, const qcnn_parallel *parallel)
{
    const int axis = step->node->attributes.axis;
    concat_job job = { step, step->node->n_inputs, inner_bytes(&step->output_shape, &step->output_format, axis) };
    int64_t outer = 1;
    for (int i = 0; i < axis; i++)
        outer *= step->output_shape.dims[i];
    qcnn_for_range(parallel, outer * job.n_inputs, BYTES_PER_TASK / (job.row / job.n_inputs + 1) + 1, run_concat_pieces, &job);
}

// All or none: parts of whole quads, but the last.
static bool joins_quads(const qcnn_step *step)
{
    bool joins = step->node->attributes.axis == 1 && qcnn_is_plane(&step->output_format);
    for (int i = 0; i < step->node->n_inputs; i++)
        joins &= qcnn_is_plane(&step->inputs[i].format) && (i + 1 == step->node->n_inputs || step->inputs[i].shape.dims[1] % 4 == 0);
    return joins;
}

const qcnn_layer_type qcnn_layer_concat = { .run = concat_run, .reads_quads = joins_quads, .writes_quads = joins_quads };

// ---- transpose, slice: output [index] = input [base + sum of index[i] * strides[i]] -----------------------------------

typedef struct strided_job {
    const qcnn_step *step;
    int rank; // at least 1; dims[0] is the innermost loop
    int64_t base, dims[QCNN_MAX_RANK], strides[QCNN_MAX_RANK];
} strided_job;

static void input_strides(const qcnn_shape *shape, int64_t *strides)
{
    int64_t step = 1;
    for (int i = shape->rank - 1; i >= 0; step *= shape->dims[i], i--)
        strides[i] = step;
}

// Adds the next outer dimension, merged with the one inside it where they form one progression.
static void add_loop(strided_job *job, int64_t dim, int64_t stride)
{
    const int last = job->rank - 1;
    if (dim == 1)
        return;
    if (last >= 0 && stride == job->strides[last] * job->dims[last]) {
        job->dims[last] *= dim;
        return;
    }
    job->dims[job->rank] = dim;
    job->strides[job->rank++] = stride;
}

static void run_strided_range(void *argument, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const strided_job *job = argument;
    const int64_t stride = job->strides[0];
    for (int64_t i = begin; i < end;) {
        const int64_t column = i % job->dims[0], left = job->dims[0] - column, n = left < end - i ? left : end - i;
        int64_t from = job->base + column * stride, rest = i / job->dims[0];
        for (int d = 1; d < job->rank; rest /= job->dims[d], d++)
            from += rest % job->dims[d] * job->strides[d];
        const float *x = job->step->inputs[0].data + from;
        float *y = job->step->output + i;
        if (stride == 1)
            memcpy(y, x, (size_t)n * sizeof *y);
        else
            for (int64_t j = 0; j < n; j++)
                y[j] = x[j * stride];
        i += n;
    }
}

static void run_strided(strided_job *job, const qcnn_parallel *parallel)
{
    if (job->rank == 0)
        add_loop(job, (int64_t)qcnn_shape_elements(&job->step->output_shape), 1);
    if (job->rank == 0) // a single element
        job->dims[job->rank++] = 1;
    qcnn_for_range(parallel, (int64_t)qcnn_shape_elements(&job->step->output_shape), BYTES_PER_TASK / (int)sizeof(float), run_strided_range,
                   job);
}

static void transpose_run(const qcnn_step *step, const qcnn_parallel *parallel)
{
    strided_job job = { .step = step };
    int64_t strides[QCNN_MAX_RANK];
    input_strides(&step->inputs[0].shape, strides);
    for (int i = step->output_shape.rank - 1; i >= 0; i--)
        add_loop(&job, step->output_shape.dims[i], strides[step->node->attributes.axes[i]]);
    run_strided(&job, parallel);
}

static void slice_run(const qcnn_step *step, const qcnn_parallel *parallel)
{
    strided_job job = { .step = step };
    int64_t strides[QCNN_MAX_RANK];
    input_strides(&step->inputs[0].shape, strides);
    for (int i = step->output_shape.rank - 1; i >= 0; i--) {
        job.base += step->node->attributes.begin[i] * strides[i];
        if (step->output_shape.dims[i] > 1)
            add_loop(&job, step->output_shape.dims[i], step->node->attributes.step[i] * strides[i]);
    }
    run_strided(&job, parallel);
}

const qcnn_layer_type qcnn_layer_transpose = { .run = transpose_run };
const qcnn_layer_type qcnn_layer_slice = { .run = slice_run };

// ---- pad ------------------------------------------------------------------------------------------------------------

enum { PAD_CONSTANT, PAD_REFLECT, PAD_EDGE };

// Input index under output index i of a dimension; -1 in constant padding.
static int64_t source_index(int mode, int64_t i, int64_t begin, int64_t side)
{
    const int64_t from = i - begin;
    if (from >= 0 && from < side)
        return from;
    if (mode == PAD_CONSTANT)
        return -1;
    if (mode == PAD_EDGE)
        return from < 0 ? 0 : side - 1;
    return from < 0 ? -from : 2 * (side - 1) - from;
}

// One row along the last dimension; x NULL: all of it is constant padding.
static void pad_row(const qcnn_attributes *a, const float *x, int64_t side, int64_t begin, float *y, int64_t n)
{
    const int64_t copy_from = begin < 0 ? 0 : begin < n ? begin : n; // output range that is plain input
    const int64_t copy_end = begin + side < n ? begin + side : n;
    for (int64_t i = 0; i < n; i++) {
        if (x && i == copy_from && copy_end > copy_from) {
            memcpy(y + i, x + i - begin, (size_t)(copy_end - copy_from) * sizeof *y);
            i = copy_end - 1;
            continue;
        }
        const int64_t from = x ? source_index(a->pad_mode, i, begin, side) : -1;
        y[i] = from < 0 ? a->pad_value : x[from];
    }
}

static void run_pad_rows(void *argument, int64_t first, int64_t end, int worker)
{
    (void)worker;
    const qcnn_step *step = argument;
    const qcnn_attributes *a = &step->node->attributes;
    const qcnn_shape *in = &step->inputs[0].shape, *out = &step->output_shape;
    const int last = out->rank - 1;
    for (int64_t row = first; row < end; row++) {
        const float *x = step->inputs[0].data;
        int64_t rest = row, stride = in->dims[last];
        for (int i = last - 1; i >= 0; stride *= in->dims[i], rest /= out->dims[i], i--) {
            const int64_t from = source_index(a->pad_mode, rest % out->dims[i], a->begin[i], in->dims[i]);
            x = x && from >= 0 ? x + from * stride : NULL;
        }
        pad_row(a, x, in->dims[last], a->begin[last], step->output + row * out->dims[last], out->dims[last]);
    }
}

static void pad_run(const qcnn_step *step, const qcnn_parallel *parallel)
{
    if (step->output_shape.rank == 0) {
        step->output[0] = step->inputs[0].data[0];
        return;
    }
    const int64_t row = step->output_shape.dims[step->output_shape.rank - 1];
    qcnn_for_range(parallel, (int64_t)qcnn_shape_elements(&step->output_shape) / row, BYTES_PER_TASK / (row * (int64_t)sizeof(float)) + 1,
                   run_pad_rows, (void *)step);
}

const qcnn_layer_type qcnn_layer_pad = { .run = pad_run };
