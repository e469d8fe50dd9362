// SPDX-License-Identifier: Apache-2.0
// Which code runs a node, and the helpers that layers share.

#include "engine/layers.h"

#include "base/checked.h"

static const qcnn_layer_type *const layer_types[QCNN_N_OPS] = {
    [QCNN_OP_CONV] = &qcnn_layer_conv_dense,
    [QCNN_OP_FC] = &qcnn_layer_fc_dense,
    [QCNN_OP_MATMUL] = &qcnn_layer_matmul,
    [QCNN_OP_MAX_POOL] = &qcnn_layer_max_pool,
    [QCNN_OP_AVERAGE_POOL] = &qcnn_layer_average_pool,
    [QCNN_OP_LRN] = &qcnn_layer_lrn,
    [QCNN_OP_UNARY] = &qcnn_layer_unary,
    [QCNN_OP_BINARY] = &qcnn_layer_binary,
    [QCNN_OP_SOFTMAX] = &qcnn_layer_softmax,
    [QCNN_OP_LOG_SOFTMAX] = &qcnn_layer_softmax,
    [QCNN_OP_CONCAT] = &qcnn_layer_concat,
    [QCNN_OP_TRANSPOSE] = &qcnn_layer_transpose,
    [QCNN_OP_PAD] = &qcnn_layer_pad,
    [QCNN_OP_REDUCE_MEAN] = &qcnn_layer_reduce,
    [QCNN_OP_REDUCE_MAX] = &qcnn_layer_reduce,
    [QCNN_OP_SLICE] = &qcnn_layer_slice,
};

const qcnn_layer_type *qcnn_layer_of(const qcnn_node *node)
{
    if (node->method == QCNN_METHOD_LUT && node->op == QCNN_OP_CONV)
        return node->byte_codebook ? &qcnn_layer_conv_lut_bytes : &qcnn_layer_conv_lut;
    if (node->method == QCNN_METHOD_LUT)
        return node->byte_codebook ? &qcnn_layer_fc_lut_bytes : &qcnn_layer_fc_lut;
    if (node->bytes)
        return &qcnn_layer_conv_bytes;
    return layer_types[node->op];
}

bool qcnn_is_view(const qcnn_node *node, const qcnn_shape *x, const qcnn_shape *y)
{
    int last = -1;
    switch (node->op) {
    case QCNN_OP_RESHAPE: return true;
    case QCNN_OP_TRANSPOSE:
        for (int i = 0; i < y->rank; i++)
            if (y->dims[i] > 1) {
                if (node->attributes.axes[i] < last)
                    return false;
                last = node->attributes.axes[i];
            }
        return true;
    case QCNN_OP_UNARY: return node->attributes.function == QCNN_IDENTITY;
    case QCNN_OP_CONCAT: return node->n_inputs == 1;
    case QCNN_OP_SLICE: return qcnn_shape_equal(x, y);
    case QCNN_OP_PAD:
        for (int i = 0; i < y->rank; i++)
            if (node->attributes.begin[i] != 0 || node->attributes.end[i] != 0)
                return false;
        return true;
    case QCNN_OP_REDUCE_MEAN:
    case QCNN_OP_REDUCE_MAX: return qcnn_shape_elements(x) == qcnn_shape_elements(y);
    default: return false;
    }
}

// ---- splitting work -------------------------------------------------------------------------------------------------

typedef struct range_job {
    int64_t n, piece;
    void (*body)(void *argument, int64_t begin, int64_t end, int worker);
    void *argument;
} range_job;

static void run_piece(void *argument, int index, int worker)
{
    const range_job *job = argument;
    const int64_t begin = index * job->piece, end = begin + job->piece < job->n ? begin + job->piece : job->n;
    job->body(job->argument, begin, end, worker);
}

void qcnn_for_range(const qcnn_parallel *parallel, int64_t n, int64_t grain,
                    void (*body)(void *argument, int64_t begin, int64_t end, int worker), void *argument)
{
    enum { PIECES_PER_WORKER = 8 }; // enough to even out workers of different speed
    const int64_t workers = qcnn_n_workers(parallel);
    if (workers == 1 || n <= grain) {
        body(argument, 0, n, 0);
        return;
    }
    const int64_t pieces = workers * PIECES_PER_WORKER, even = (n + pieces - 1) / pieces;
    range_job job = { n, (even + grain - 1) / grain * grain, body, argument };
    qcnn_for(parallel, (int)((n + job.piece - 1) / job.piece), run_piece, &job);
}

size_t qcnn_plan_bytes(uint64_t a, uint64_t b, uint64_t size)
{
    uint64_t n;
    return qcnn_multiply(a, b, &n) && qcnn_multiply(n, size, &n) && n <= SIZE_MAX ? (size_t)n : SIZE_MAX;
}

// ---- byte planes ----------------------------------------------------------------------------------------------------

size_t qcnn_quad_bytes(const qcnn_shape *shape)
{
    size_t n = 4;
    for (int i = 2; i < shape->rank; i++)
        n *= (size_t)shape->dims[i];
    return n;
}

int qcnn_held_to(const qcnn_activation *activation, const qcnn_format *format)
{
    const float most = activation->beta / format->scale + 0.5F;
    return activation->function == QCNN_CLIP && most < (float)format->limit ? (int)most : format->limit;
}

// ---- windows --------------------------------------------------------------------------------------------------------

qcnn_window qcnn_window_of(const qcnn_attributes *attributes, const qcnn_shape *x, const qcnn_shape *y)
{
    qcnn_window w = { .in_elements = 1, .out_elements = 1, .n_taps = 1 };
    const int absent = 3 - attributes->n_spatial;
    for (int i = 0; i < 3; i++) {
        const int from = i - absent; // index of the layer's own dimension
        w.in[i] = from < 0 ? 1 : x->dims[2 + from];
        w.out[i] = from < 0 ? 1 : y->dims[2 + from];
        w.kernel[i] = from < 0 ? 1 : attributes->kernel[from];
        w.stride[i] = from < 0 ? 1 : attributes->stride[from];
        w.dilation[i] = from < 0 ? 1 : attributes->dilation[from];
        w.begin[i] = from < 0 ? 0 : attributes->window_begin[from];
        w.end[i] = from < 0 ? 0 : attributes->window_end[from];
        w.in_elements *= w.in[i];
        w.out_elements *= w.out[i];
        if (__builtin_mul_overflow(w.n_taps, w.kernel[i], &w.n_taps)) // a pool's may; nobody counts them there
            w.n_taps = INT64_MAX;
    }
    return w;
}

void qcnn_window_flatten(qcnn_window *window)
{
    if (window->n_taps != 1 || window->in_elements != window->out_elements)
        return;
    for (int i = 0; i < 3; i++)
        if (window->in[i] != window->out[i] || window->begin[i] != 0)
            return;
    const int64_t n = window->out_elements;
    *window = (qcnn_window){ .in = { 1, 1, n }, .out = { 1, 1, n }, .in_elements = n, .out_elements = n, .n_taps = 1 };
    for (int i = 0; i < 3; i++)
        window->kernel[i] = window->stride[i] = window->dilation[i] = 1;
}

void qcnn_window_taps(const qcnn_window *window, int i, int64_t position, int64_t *first, int64_t *last)
{
    const int64_t start = position * window->stride[i] - window->begin[i], dilation = window->dilation[i];
    *first = start < 0 ? (-start + dilation - 1) / dilation : 0;
    *last = start < window->in[i] ? (window->in[i] - 1 - start) / dilation + 1 : 0;
    if (*last > window->kernel[i])
        *last = window->kernel[i];
}
