// SPDX-License-Identifier: Apache-2.0
// Every dense layer as its definition says, one output element at a time, in double precision: what the engine is compared
// with. Nothing here is shared with the engine.

#ifndef QCNN_TESTS_REFERENCE_LAYERS_H
#define QCNN_TESTS_REFERENCE_LAYERS_H

#include <math.h>

#include "model/model.h"

typedef struct reference_operand {
    qcnn_shape shape;
    const float *data; // NULL: absent
} reference_operand;

static inline void reference_unravel(int64_t index, const qcnn_shape *shape, int64_t *at)
{
    for (int i = shape->rank - 1; i >= 0; index /= shape->dims[i], i--)
        at[i] = index % shape->dims[i];
}

static inline int64_t reference_ravel(const int64_t *at, const qcnn_shape *shape)
{
    int64_t index = 0;
    for (int i = 0; i < shape->rank; i++)
        index = index * shape->dims[i] + at[i];
    return index;
}

// The element that an operand broadcast to `shape` has at `at`.
static inline double reference_broadcast(const reference_operand *x, const int64_t *at, int rank)
{
    int64_t own[QCNN_MAX_RANK];
    for (int i = 0; i < x->shape.rank; i++)
        own[i] = x->shape.dims[i] == 1 ? 0 : at[i + rank - x->shape.rank];
    return x->data[reference_ravel(own, &x->shape)];
}

static inline double reference_function(qcnn_function f, double alpha, double beta, double v, double w)
{
    switch (f) {
    case QCNN_RELU: return fmax(v, 0);
    case QCNN_LEAKY_RELU: return v >= 0 ? v : alpha * v;
    case QCNN_CLIP: return fmin(fmax(v, alpha), beta);
    case QCNN_ELU: return v >= 0 ? v : alpha * (exp(v) - 1);
    case QCNN_SIGMOID: return 1 / (1 + exp(-v));
    case QCNN_HARD_SIGMOID: return fmax(0, fmin(1, alpha * v + beta));
    case QCNN_TANH: return tanh(v);
    case QCNN_HARD_SWISH: return v * fmax(0, fmin(1, v / 6 + 0.5));
    case QCNN_SQRT: return sqrt(v);
    case QCNN_EXP: return exp(v);
    case QCNN_LOG: return log(v);
    case QCNN_ABS: return fabs(v);
    case QCNN_NEGATE: return -v;
    case QCNN_RECIPROCAL: return 1 / v;
    case QCNN_ADD: return v + w;
    case QCNN_SUBTRACT: return v - w;
    case QCNN_MULTIPLY: return v * w;
    case QCNN_DIVIDE: return v / w;
    case QCNN_MINIMUM: return fmin(v, w);
    case QCNN_MAXIMUM: return fmax(v, w);
    case QCNN_POWER: return pow(v, w);
    case QCNN_PRELU: return v >= 0 ? v : v * w;
    default: return v;
    }
}

// Index of tap number `tap` of the window at output `at` (both spatial), or false outside the input; `*padded` tells
// whether it lies at least inside the padding.
static inline bool reference_tap(const qcnn_attributes *a, const qcnn_shape *x, const int64_t *at, int64_t tap, int64_t *from, bool *padded)
{
    bool inside = true;
    *padded = true;
    for (int i = a->n_spatial - 1; i >= 0; tap /= a->kernel[i], i--) {
        from[i] = at[i] * a->stride[i] - a->window_begin[i] + tap % a->kernel[i] * a->dilation[i];
        inside = inside && from[i] >= 0 && from[i] < x->dims[2 + i];
        *padded = *padded && from[i] < x->dims[2 + i] + a->window_end[i];
    }
    return inside;
}

static inline double reference_window(const qcnn_node *node, const reference_operand *in, const qcnn_shape *y, const int64_t *at)
{
    const qcnn_attributes *a = &node->attributes;
    const qcnn_shape *x = &in[0].shape;
    const bool conv = node->op == QCNN_OP_CONV, max = node->op == QCNN_OP_MAX_POOL;
    const int64_t c_in = conv ? x->dims[1] / a->groups : 1, c_out = y->dims[1] / (conv ? a->groups : 1);
    int64_t n_taps = 1, n_counted = 0;
    for (int i = 0; i < a->n_spatial; i++)
        n_taps *= a->kernel[i];
    double result = max ? -INFINITY : conv && node->n_inputs > 2 && in[2].data ? in[2].data[at[1]] : 0;
    for (int64_t c = 0; c < c_in; c++)
        for (int64_t tap = 0; tap < n_taps; tap++) {
            int64_t from[QCNN_MAX_RANK] = { at[0], conv ? at[1] / c_out * c_in + c : at[1] };
            bool padded;
            const bool inside = reference_tap(a, x, at + 2, tap, from + 2, &padded);
            n_counted += inside || (a->count_include_pad && padded);
            if (!inside)
                continue;
            const double v = in[0].data[reference_ravel(from, x)];
            if (conv)
                result += v * in[1].data[(at[1] * c_in + c) * n_taps + tap];
            else
                result = max ? fmax(result, v) : result + v;
        }
    return node->op == QCNN_OP_AVERAGE_POOL ? (n_counted ? result / (double)n_counted : 0) : result;
}

static inline double reference_fc(const qcnn_node *node, const reference_operand *in, int64_t index)
{
    const int64_t n_out = in[1].shape.dims[0], n_in = in[1].shape.dims[1], row = index / n_out, o = index % n_out;
    double sum = node->n_inputs > 2 && in[2].data ? in[2].data[o] : 0;
    for (int64_t k = 0; k < n_in; k++)
        sum += (double)in[0].data[row * n_in + k] * in[1].data[o * n_in + k];
    return sum;
}

// Element (row, column) of the matrix of a matmul's operand that leading index `at` of `n_lead` broadcast dimensions selects.
static inline double reference_matrix(const reference_operand *x, const int64_t *at, int n_lead, int64_t row, int64_t column)
{
    int64_t own[QCNN_MAX_RANK];
    const int rank = x->shape.rank;
    for (int d = 0; d < rank - 2; d++)
        own[d] = x->shape.dims[d] == 1 ? 0 : at[d + n_lead - (rank - 2)];
    own[rank - 2] = row;
    own[rank - 1] = column;
    return x->data[reference_ravel(own, &x->shape)];
}

static inline double reference_matmul(const reference_operand *in, const qcnn_shape *y, const int64_t *at)
{
    const bool row = in[0].shape.rank == 1, column = in[1].shape.rank == 1; // vectors
    const int n_lead = y->rank - !row - !column;
    const int64_t i = row ? 0 : at[n_lead], j = column ? 0 : at[y->rank - 1];
    double sum = 0;
    for (int64_t k = 0; k < in[0].shape.dims[in[0].shape.rank - 1]; k++)
        sum += (row ? in[0].data[k] : reference_matrix(&in[0], at, n_lead, i, k)) *
               (column ? in[1].data[k] : reference_matrix(&in[1], at, n_lead, k, j));
    return sum;
}

static inline double reference_lrn(const qcnn_attributes *a, const reference_operand *x, const int64_t *at)
{
    int64_t near[QCNN_MAX_RANK];
    for (int i = 0; i < x->shape.rank; i++)
        near[i] = at[i];
    double sum = 0;
    for (int64_t c = at[1] - (a->lrn_size - 1) / 2; c <= at[1] + a->lrn_size / 2; c++)
        if (c >= 0 && c < x->shape.dims[1]) {
            near[1] = c;
            sum += pow(x->data[reference_ravel(near, &x->shape)], 2);
        }
    return x->data[reference_ravel(at, &x->shape)] * pow(a->lrn_bias + (double)a->lrn_alpha / a->lrn_size * sum, -(double)a->lrn_beta);
}

static inline double reference_softmax(const qcnn_node *node, const reference_operand *x, const int64_t *at)
{
    const int64_t n = (int64_t)qcnn_shape_elements(&x->shape);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t other[QCNN_MAX_RANK];
        reference_unravel(i, &x->shape, other);
        bool same = true; // outside the axes
        for (int d = 0; d < x->shape.rank; d++)
            same = same && ((d >= node->attributes.axis && d <= node->attributes.axis_end) || other[d] == at[d]);
        sum += same ? exp(x->data[i]) : 0;
    }
    const double v = x->data[reference_ravel(at, &x->shape)];
    return node->op == QCNN_OP_SOFTMAX ? exp(v) / sum : v - log(sum);
}

static inline double reference_reduce(const qcnn_node *node, const reference_operand *x, int64_t index)
{
    double sum = 0, largest = -INFINITY;
    int64_t count = 0;
    for (int64_t i = 0; i < (int64_t)qcnn_shape_elements(&x->shape); i++) {
        int64_t from[QCNN_MAX_RANK], to = 0;
        reference_unravel(i, &x->shape, from);
        for (int d = 0; d < x->shape.rank; d++)
            if (!node->attributes.axes[d])
                to = to * x->shape.dims[d] + from[d];
        if (to != index)
            continue;
        sum += x->data[i];
        largest = fmax(largest, x->data[i]);
        count++;
    }
    return node->op == QCNN_OP_REDUCE_MEAN ? sum / (double)count : largest;
}

static inline double reference_pad(const qcnn_attributes *a, const reference_operand *x, const int64_t *at)
{
    int64_t from[QCNN_MAX_RANK];
    for (int d = 0; d < x->shape.rank; d++) {
        const int64_t side = x->shape.dims[d];
        from[d] = at[d] - a->begin[d];
        if (from[d] >= 0 && from[d] < side)
            continue;
        if (a->pad_mode == 0)
            return a->pad_value;
        if (a->pad_mode == 1)
            from[d] = from[d] < 0 ? -from[d] : 2 * side - 2 - from[d];
        else
            from[d] = from[d] < 0 ? 0 : side - 1;
    }
    return x->data[reference_ravel(from, &x->shape)];
}

static inline double reference_moved(const qcnn_node *node, const reference_operand *in, int64_t *at, int64_t index)
{
    const qcnn_attributes *a = &node->attributes;
    int64_t from[QCNN_MAX_RANK];
    int k = 0;
    switch (node->op) {
    case QCNN_OP_CONCAT:
        for (; at[a->axis] >= in[k].shape.dims[a->axis]; k++)
            at[a->axis] -= in[k].shape.dims[a->axis];
        return in[k].data[reference_ravel(at, &in[k].shape)];
    case QCNN_OP_TRANSPOSE:
        for (int d = 0; d < in[0].shape.rank; d++)
            from[a->axes[d]] = at[d];
        return in[0].data[reference_ravel(from, &in[0].shape)];
    case QCNN_OP_SLICE:
        for (int d = 0; d < in[0].shape.rank; d++)
            from[d] = a->begin[d] + at[d] * a->step[d];
        return in[0].data[reference_ravel(from, &in[0].shape)];
    case QCNN_OP_PAD: return reference_pad(a, &in[0], at);
    default: return in[0].data[index]; // QCNN_OP_RESHAPE
    }
}

// Output element `index` of a node.
static inline double reference_element(const qcnn_node *node, const reference_operand *in, const qcnn_shape *y, int64_t index)
{
    const qcnn_attributes *a = &node->attributes;
    int64_t at[QCNN_MAX_RANK] = { 0 };
    reference_unravel(index, y, at);
    double v;
    switch (node->op) {
    case QCNN_OP_CONV:
    case QCNN_OP_MAX_POOL:
    case QCNN_OP_AVERAGE_POOL: v = reference_window(node, in, y, at); break;
    case QCNN_OP_FC: v = reference_fc(node, in, index); break;
    case QCNN_OP_MATMUL: v = reference_matmul(in, y, at); break;
    case QCNN_OP_LRN: v = reference_lrn(a, &in[0], at); break;
    case QCNN_OP_UNARY: return reference_function(a->function, a->activation.alpha, a->activation.beta, in[0].data[index], 0);
    case QCNN_OP_BINARY:
        v = reference_function(a->function, 0, 0, reference_broadcast(&in[0], at, y->rank), reference_broadcast(&in[1], at, y->rank));
        break;
    case QCNN_OP_SOFTMAX:
    case QCNN_OP_LOG_SOFTMAX: v = reference_softmax(node, &in[0], at); break;
    case QCNN_OP_REDUCE_MEAN:
    case QCNN_OP_REDUCE_MAX: v = reference_reduce(node, &in[0], index); break;
    default: v = reference_moved(node, in, at, index); break;
    }
    return reference_function(a->activation.function, a->activation.alpha, a->activation.beta, v, 0);
}

#endif
