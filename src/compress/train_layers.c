// SPDX-License-Identifier: Apache-2.0
// Layers without weights in training, forward and back: pools, local response normalization, functions, sums and products,
// concatenation, and what only moves elements.

#include <math.h>
#include <string.h>

#include "compress/train.h"

typedef struct layer_job {
    qcnn_trainer *trainer;
    qcnn_train_layer *layer;
    const qcnn_train_value *x, *y; // the first input, the output
    bool back;
} layer_job;

// Elements of a value in one slice.
static size_t slice_floats(const qcnn_trainer *trainer, const qcnn_train_value *value)
{
    return (size_t)value->channels * (size_t)value->n_positions * (size_t)trainer->slice;
}

static const qcnn_train_value *input_of(const layer_job *job, int i)
{
    return &job->trainer->values[job->layer->node->inputs[i]];
}

// ---- pools ----------------------------------------------------------------------------------------------------------

static void max_plane(const qcnn_window *w, const float *x, float *y, int32_t *chosen)
{
    int64_t first[3], last[3];
    for (int64_t i = 0; i < w->out_elements; i++) {
        const int64_t at[3] = { i / (w->out[1] * w->out[2]), i / w->out[2] % w->out[1], i % w->out[2] };
        for (int d = 0; d < 3; d++)
            qcnn_window_taps(w, d, at[d], &first[d], &last[d]);
        float best = -INFINITY;
        int64_t where = -1;
        for (int64_t z = first[0]; z < last[0]; z++)
            for (int64_t v = first[1]; v < last[1]; v++)
                for (int64_t u = first[2]; u < last[2]; u++) {
                    const int64_t from = ((at[0] * w->stride[0] - w->begin[0] + z * w->dilation[0]) * w->in[1] + at[1] * w->stride[1] -
                                          w->begin[1] + v * w->dilation[1]) *
                                             w->in[2] +
                                         at[2] * w->stride[2] - w->begin[2] + u * w->dilation[2];
                    if (x[from] > best) {
                        best = x[from];
                        where = from;
                    }
                }
        y[i] = best;
        chosen[i] = (int32_t)where;
    }
}

// What an average at output `at` divides by, along dimension d.
static int64_t taps_counted(const qcnn_window *w, int d, int64_t at, int64_t n_inside, bool include_padding)
{
    if (!include_padding)
        return n_inside;
    const int64_t room = w->in[d] + w->end[d] + w->begin[d] - at * w->stride[d], taps = (room + w->dilation[d] - 1) / w->dilation[d];
    return taps < w->kernel[d] ? taps : w->kernel[d];
}

// y = means of windows of x, or back: x += shares of y.
static void average_plane(const qcnn_window *w, bool include_padding, float *x, float *y, bool back)
{
    int64_t first[3], last[3];
    for (int64_t i = 0; i < w->out_elements; i++) {
        const int64_t at[3] = { i / (w->out[1] * w->out[2]), i / w->out[2] % w->out[1], i % w->out[2] };
        int64_t n = 1;
        for (int d = 0; d < 3; d++) {
            qcnn_window_taps(w, d, at[d], &first[d], &last[d]);
            n *= taps_counted(w, d, at[d], last[d] > first[d] ? last[d] - first[d] : 0, include_padding);
        }
        const float share = n > 0 ? 1 / (float)n : 0;
        float sum = 0;
        for (int64_t z = first[0]; z < last[0]; z++)
            for (int64_t v = first[1]; v < last[1]; v++)
                for (int64_t u = first[2]; u < last[2]; u++) {
                    float *from = x +
                                  ((at[0] * w->stride[0] - w->begin[0] + z * w->dilation[0]) * w->in[1] + at[1] * w->stride[1] -
                                   w->begin[1] + v * w->dilation[1]) *
                                      w->in[2] +
                                  at[2] * w->stride[2] - w->begin[2] + u * w->dilation[2];
                    if (back)
                        *from += y[i] * share;
                    else
                        sum += *from;
                }
        if (!back)
            y[i] = sum * share;
    }
}

static void pool_slice(const layer_job *job, int slice)
{
    const qcnn_window *w = &job->layer->window;
    const bool include = job->layer->node->attributes.count_include_pad != 0;
    const int64_t n_planes = job->x->channels * job->trainer->slice;
    float *x = (job->back ? job->x->gradient : job->x->data) + (int64_t)slice * n_planes * w->in_elements;
    float *y = (job->back ? job->y->gradient : job->y->data) + (int64_t)slice * n_planes * w->out_elements;
    int32_t *chosen = job->layer->chosen ? job->layer->chosen + (int64_t)slice * n_planes * w->out_elements : NULL;
    for (int64_t p = 0; p < n_planes; p++, x += w->in_elements, y += w->out_elements) {
        if (job->layer->node->op == QCNN_OP_AVERAGE_POOL) {
            average_plane(w, include, x, y, job->back);
            continue;
        }
        if (!job->back)
            max_plane(w, x, y, chosen);
        else
            for (int64_t i = 0; i < w->out_elements; i++)
                if (chosen[i] >= 0)
                    x[chosen[i]] += y[i];
        chosen += w->out_elements;
    }
}

// The mean of each channel's positions.
static void mean_slice(const layer_job *job, int slice)
{
    const qcnn_trainer *trainer = job->trainer;
    const size_t n = (size_t)job->x->n_positions, images = (size_t)trainer->slice;
    const float share = 1 / (float)n;
    float *x = (job->back ? job->x->gradient : job->x->data) + (size_t)slice * slice_floats(trainer, job->x);
    float *y = (job->back ? job->y->gradient : job->y->data) + (size_t)slice * slice_floats(trainer, job->y);
    for (size_t c = 0; c < (size_t)job->x->channels; c++)
        for (size_t i = 0; i < images; i++, x += n) {
            float *to = y + (job->y->rows ? i * (size_t)job->y->channels + c : c * images + i), sum = 0;
            for (size_t p = 0; p < n; p++)
                if (job->back)
                    x[p] += *to * share;
                else
                    sum += x[p];
            if (!job->back)
                *to = sum * share;
        }
}

// ---- local response normalization -------------------------------------------------------------------------------------

enum { LRN_PIECE = 128 };

// s^-beta; three quarters, which every published network takes, by square roots.
static QCNN_TRAIN_CLONES void lrn_powers(const float *s, float *power, size_t n, float beta)
{
    if (beta == 0.75f)
        for (size_t i = 0; i < n; i++)
            power[i] = 1 / sqrtf(s[i] * sqrtf(s[i]));
    else
        for (size_t i = 0; i < n; i++)
            power[i] = powf(s[i], -beta);
}

// s[c][i] = bias + alpha / size * squares of the channels around c, for n positions from x.
static QCNN_TRAIN_CLONES void lrn_sums(const qcnn_attributes *a, const float *x, size_t stride, int64_t channels, size_t n, float *s)
{
    const int64_t below = (a->lrn_size - 1) / 2, above = a->lrn_size / 2;
    const float alpha = a->lrn_alpha / (float)a->lrn_size;
    for (int64_t c = 0; c < channels; c++, s += LRN_PIECE) {
        for (size_t i = 0; i < n; i++)
            s[i] = 0;
        for (int64_t j = c > below ? c - below : 0; j <= c + above && j < channels; j++)
            for (size_t i = 0; i < n; i++)
                s[i] += x[(size_t)j * stride + i] * x[(size_t)j * stride + i];
        for (size_t i = 0; i < n; i++)
            s[i] = a->lrn_bias + alpha * s[i];
    }
}

// dx_c = dy_c s_c^-beta - 2 alpha beta / size x_c sum over the channels j that see c of dy_j y_j / s_j.
static QCNN_TRAIN_CLONES void lrn_back(const qcnn_attributes *a, const float *x, const float *y, const float *dy, float *dx, size_t stride,
                                       int64_t channels, size_t n, const float *s)
{
    const int64_t below = (a->lrn_size - 1) / 2, above = a->lrn_size / 2;
    const float factor = 2 * a->lrn_alpha / (float)a->lrn_size * a->lrn_beta;
    float power[LRN_PIECE], sum[LRN_PIECE];
    for (int64_t c = 0; c < channels; c++) {
        const size_t at = (size_t)c * stride;
        lrn_powers(s + c * LRN_PIECE, power, n, a->lrn_beta);
        for (size_t i = 0; i < n; i++)
            sum[i] = 0;
        for (int64_t j = c > above ? c - above : 0; j <= c + below && j < channels; j++)
            for (size_t i = 0; i < n; i++)
                sum[i] += dy[(size_t)j * stride + i] * y[(size_t)j * stride + i] / s[j * LRN_PIECE + (int64_t)i];
        for (size_t i = 0; i < n; i++)
            dx[at + i] += dy[at + i] * power[i] - factor * x[at + i] * sum[i];
    }
}

static void lrn_slice(const layer_job *job, int slice, float *s)
{
    const qcnn_attributes *a = &job->layer->node->attributes;
    const size_t stride = (size_t)job->trainer->slice * (size_t)job->x->n_positions,
                 begin = (size_t)slice * slice_floats(job->trainer, job->x);
    float power[LRN_PIECE];
    for (size_t first = 0; first < stride; first += LRN_PIECE) {
        const size_t n = stride - first < LRN_PIECE ? stride - first : LRN_PIECE, at = begin + first;
        lrn_sums(a, job->x->data + at, stride, job->x->channels, n, s);
        if (job->back) {
            lrn_back(a, job->x->data + at, job->y->data + at, job->y->gradient + at, job->x->gradient + at, stride, job->x->channels, n, s);
            continue;
        }
        for (int64_t c = 0; c < job->x->channels; c++) {
            lrn_powers(s + c * LRN_PIECE, power, n, a->lrn_beta);
            for (size_t i = 0; i < n; i++)
                job->y->data[at + (size_t)c * stride + i] = job->x->data[at + (size_t)c * stride + i] * power[i];
        }
    }
}

// ---- functions --------------------------------------------------------------------------------------------------------

static void unary_slice(const layer_job *job, int slice)
{
    const size_t n = slice_floats(job->trainer, job->x), at = (size_t)slice * n;
    qcnn_activation activation = job->layer->node->attributes.activation;
    activation.function = job->layer->node->attributes.function;
    if (!job->back) {
        memcpy(job->y->data + at, job->x->data + at, n * sizeof(float));
        qcnn_train_activate(&activation, job->y->data + at, n);
        return;
    }
    qcnn_train_activation_gradient(&activation, job->y->data + at, job->x->data + at, job->y->gradient + at, n);
    for (size_t i = 0; i < n; i++)
        job->x->gradient[at + i] += job->y->gradient[at + i];
}

// One element of a sum, difference or product, or the shares of its gradient.
static void binary_element(const layer_job *job, const qcnn_train_value *a, const qcnn_train_value *b, size_t y, size_t at_a, size_t at_b)
{
    const qcnn_function function = job->layer->node->attributes.function;
    const float v = a->data[at_a], w = b->data[at_b];
    if (!job->back) {
        job->y->data[y] = function == QCNN_ADD ? v + w : function == QCNN_SUBTRACT ? v - w : v * w;
        return;
    }
    const float g = job->y->gradient[y];
    if (a->gradient)
        a->gradient[at_a] += function == QCNN_MULTIPLY ? g * w : g;
    if (b->gradient)
        b->gradient[at_b] += function == QCNN_MULTIPLY ? g * v : function == QCNN_SUBTRACT ? -g : g;
}

static void binary_slice(const layer_job *job, int slice)
{
    const qcnn_train_value *a = input_of(job, 0), *b = input_of(job, 1);
    const size_t n = slice_floats(job->trainer, job->y), positions = (size_t)job->y->n_positions;
    const size_t a_step = a->n_positions == job->y->n_positions ? 1 : positions,
                 b_step = b->n_positions == job->y->n_positions ? 1 : positions;
    const size_t begin = (size_t)slice * n;
    const float *before = job->layer->before ? job->layer->before + begin : NULL;
    const qcnn_activation *activation = &job->layer->node->attributes.activation;
    if (job->back)
        qcnn_train_activation_gradient(activation, job->y->data + begin, before, job->y->gradient + begin, n);
    for (size_t i = begin; i < begin + n; i++)
        binary_element(job, a, b, i, i / a_step, i / b_step);
    if (job->back)
        return;
    if (job->layer->before)
        memcpy(job->layer->before + begin, job->y->data + begin, n * sizeof(float));
    qcnn_train_activate(activation, job->y->data + begin, n);
}

// ---- movement ---------------------------------------------------------------------------------------------------------

static void move(const float *from, float *to, size_t n, bool add)
{
    for (size_t i = 0; i < n; i++)
        to[i] = add ? to[i] + from[i] : from[i];
}

// Along the channels: pieces of an image's row, or of the slice.
static void concat_slice(const layer_job *job, int slice)
{
    const qcnn_train_value *y = job->y;
    const size_t n_pieces = y->rows ? (size_t)job->trainer->slice : 1, y_piece = slice_floats(job->trainer, y) / n_pieces;
    for (size_t piece = 0; piece < n_pieces; piece++) {
        size_t at = ((size_t)slice * n_pieces + piece) * y_piece;
        for (int i = 0; i < job->layer->node->n_inputs; i++) {
            const qcnn_train_value *x = input_of(job, i);
            const size_t n = slice_floats(job->trainer, x) / n_pieces, from = ((size_t)slice * n_pieces + piece) * n;
            if (!job->back)
                move(x->data + from, y->data + at, n, false);
            else if (x->gradient)
                move(y->gradient + at, x->gradient + from, n, true);
            at += n;
        }
    }
}

static void reshape_slice(const layer_job *job, int slice)
{
    const qcnn_trainer *trainer = job->trainer;
    const size_t images = (size_t)trainer->slice, n = slice_floats(trainer, job->x) / images;
    for (size_t i = (size_t)slice * images; i < ((size_t)slice + 1) * images; i++)
        for (size_t f = 0; f < n; f++) {
            const size_t x = qcnn_train_place(trainer, job->x, i, f), y = qcnn_train_place(trainer, job->y, i, f);
            if (job->back)
                job->x->gradient[x] += job->y->gradient[y];
            else
                job->y->data[y] = job->x->data[x];
        }
}

// ---- all --------------------------------------------------------------------------------------------------------------

static void run_slice(void *argument, int slice, int worker)
{
    const layer_job *job = argument;
    switch (job->layer->node->op) {
    case QCNN_OP_MAX_POOL:
    case QCNN_OP_AVERAGE_POOL: pool_slice(job, slice); break;
    case QCNN_OP_REDUCE_MEAN: mean_slice(job, slice); break;
    case QCNN_OP_LRN: lrn_slice(job, slice, job->trainer->scratch + (size_t)worker * job->trainer->scratch_floats); break;
    case QCNN_OP_UNARY: unary_slice(job, slice); break;
    case QCNN_OP_BINARY: binary_slice(job, slice); break;
    case QCNN_OP_CONCAT: concat_slice(job, slice); break;
    default: reshape_slice(job, slice); break; // QCNN_OP_RESHAPE
    }
}

static void run_layer(qcnn_trainer *trainer, qcnn_train_layer *layer, bool back)
{
    layer_job job = { trainer, layer, &trainer->values[layer->node->inputs[0]], &trainer->values[layer->node->output], back };
    qcnn_for(trainer->parallel, QCNN_TRAIN_SLICES, run_slice, &job);
}

void qcnn_train_layer_forward(qcnn_trainer *trainer, qcnn_train_layer *layer)
{
    switch (layer->node->op) {
    case QCNN_OP_CONV: qcnn_train_conv_forward(trainer, layer); break;
    case QCNN_OP_FC: qcnn_train_fc_forward(trainer, layer); break;
    default: run_layer(trainer, layer, false); break;
    }
}

void qcnn_train_layer_backward(qcnn_trainer *trainer, qcnn_train_layer *layer)
{
    switch (layer->node->op) {
    case QCNN_OP_CONV: qcnn_train_conv_backward(trainer, layer); break;
    case QCNN_OP_FC: qcnn_train_fc_backward(trainer, layer); break;
    default: run_layer(trainer, layer, true); break;
    }
}

size_t qcnn_train_lrn_scratch(const qcnn_trainer *trainer, const qcnn_train_layer *layer)
{
    return (size_t)trainer->values[layer->node->inputs[0]].channels * LRN_PIECE;
}
