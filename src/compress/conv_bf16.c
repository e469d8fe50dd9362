// SPDX-License-Identifier: Apache-2.0
// Patches are never made: the sample is laid out once, rounded and with its padding, its columns sorted by their remainder modulo the
// stride, so that each tap of a row of outputs is one contiguous run. Panels of a product are filled from two such runs at a time.
//
//     planes[channel][padded row][column % stride][column / stride]

#include "compress/conv_bf16.h"

#include <string.h>

#include "compress/gemm_bf16.h"
#include "engine/layers.h"
#include "kernels/kernels.h"

enum { POSITIONS = 8 * QCNN_GEMM_BF16_COLUMNS, SLACK = 32 }; // columns of a product; numbers that may be read beyond a run

struct qcnn_conv_bf16 {
    const qcnn_node *node;
    const float *bias; // NULL: none
    const struct qcnn_kernels *kernels;
    qcnn_window window;
    int groups, n_inputs, n_outputs, n_rows;   // n_rows: of the patches of a group, [channel][tap]
    size_t phase, row, plane, n_plane_numbers; // numbers between column remainders, rows and channels of the layout; of all
    size_t *offsets;                           // [n_rows]: of a tap's channel and place in a group's planes
    uint32_t *weights;                         // [groups][block of k][panel][pair][row]
    size_t group_words;
};

static int ceil_of(int n, int side)
{
    return (n + side - 1) / side * side;
}

// Words of the weights of a group, whose rows before k are packed already.
static size_t packed_words(const qcnn_conv_bf16 *c, int k)
{
    return (size_t)((k + 1) / 2) * (size_t)ceil_of(c->n_outputs, QCNN_GEMM_BF16_ROWS);
}

static int depth_of(const qcnn_conv_bf16 *c, int k)
{
    return c->n_rows - k < QCNN_BF16_DEPTH ? c->n_rows - k : QCNN_BF16_DEPTH;
}

bool qcnn_conv_bf16_suits(const qcnn_model *model, const qcnn_node *node)
{
    enum { LEAST_ROWS = 16, LEAST_OUTPUTS = 8 };
    const qcnn_tensor *weights = node->op == QCNN_OP_CONV ? qcnn_node_weights(model, node) : NULL;
    if (!weights || !qcnn_gemm_bf16_available() || model->values[node->inputs[0]].shape.dims[0] != 1 || node->attributes.n_spatial > 2 ||
        (node->n_inputs > 2 && node->inputs[2] >= 0 && !qcnn_node_bias(model, node)) || (!qcnn_is_codebook(weights) && !weights->data))
        return false;
    const int64_t n_outputs = weights->shape.dims[0], n_rows = (int64_t)qcnn_shape_elements(&weights->shape) / n_outputs;
    return n_rows >= LEAST_ROWS && n_outputs / node->attributes.groups >= LEAST_OUTPUTS;
}

static void lay_out(qcnn_conv_bf16 *c)
{
    const qcnn_window *w = &c->window;
    const size_t stride = (size_t)w->stride[2];
    const size_t width = (size_t)((w->out[2] - 1) * w->stride[2] + (w->kernel[2] - 1) * w->dilation[2] + 1);
    const size_t height = (size_t)((w->out[1] - 1) * w->stride[1] + (w->kernel[1] - 1) * w->dilation[1] + 1);
    c->phase = (width + stride - 1) / stride;
    c->row = stride * c->phase;
    c->plane = height * c->row;
    c->n_plane_numbers = (size_t)c->groups * (size_t)c->n_inputs * c->plane;
    for (int k = 0; k < c->n_rows; k++) {
        const size_t n_taps = (size_t)w->n_taps, channel = (size_t)k / n_taps, tap = (size_t)k % n_taps;
        const size_t y = tap / (size_t)w->kernel[2] * (size_t)w->dilation[1], x = tap % (size_t)w->kernel[2] * (size_t)w->dilation[2];
        c->offsets[k] = channel * c->plane + y * c->row + x % stride * c->phase + x / stride;
    }
}

static qcnn_status pack_weights(qcnn_conv_bf16 *c, const qcnn_tensor *weights, qcnn_error *error)
{
    const size_t n = (size_t)c->n_rows * (size_t)c->n_outputs;
    float *decoded = qcnn_is_codebook(weights) ? qcnn_allocate((size_t)c->groups * n, sizeof *decoded) : NULL;
    if (qcnn_is_codebook(weights) && !decoded)
        return qcnn_fail_memory(error, (size_t)c->groups * n * sizeof *decoded);
    if (decoded)
        qcnn_codebook_decode(&weights->codebook, decoded);
    for (int g = 0; g < c->groups; g++)
        for (int k = 0; k < c->n_rows; k += QCNN_BF16_DEPTH)
            qcnn_bf16_pack((decoded ? decoded : weights->data) + (size_t)g * n + (size_t)k, (size_t)c->n_rows, 1, c->n_outputs,
                           depth_of(c, k), QCNN_GEMM_BF16_ROWS, c->weights + (size_t)g * c->group_words + packed_words(c, k));
    qcnn_release(decoded);
    return QCNN_OK;
}

qcnn_status qcnn_conv_bf16_new(const qcnn_model *model, const qcnn_node *node, qcnn_conv_bf16 **result, qcnn_error *error)
{
    *result = NULL;
    const qcnn_tensor *weights = qcnn_node_weights(model, node), *bias = qcnn_node_bias(model, node);
    qcnn_conv_bf16 *c = qcnn_allocate_zeroed(1, sizeof *c);
    if (!c)
        return qcnn_fail_memory(error, sizeof *c);
    c->node = node;
    c->kernels = qcnn_kernels_find(NULL);
    c->bias = bias ? bias->data : NULL;
    c->window = qcnn_window_of(&node->attributes, &model->values[node->inputs[0]].shape, &model->values[node->output].shape);
    c->groups = node->attributes.groups;
    c->n_outputs = (int)(weights->shape.dims[0] / c->groups);
    c->n_inputs = (int)weights->shape.dims[1];
    c->n_rows = c->n_inputs * (int)c->window.n_taps;
    c->group_words = packed_words(c, c->n_rows);
    c->offsets = qcnn_allocate((size_t)c->n_rows, sizeof *c->offsets);
    c->weights = qcnn_allocate((size_t)c->groups * c->group_words, sizeof *c->weights);
    qcnn_status status = c->offsets && c->weights ? QCNN_OK : qcnn_fail_memory(error, (size_t)c->groups * c->group_words * 4);
    if (status == QCNN_OK) {
        lay_out(c);
        status = pack_weights(c, weights, error);
    }
    if (status != QCNN_OK)
        qcnn_conv_bf16_free(c);
    else
        *result = c;
    return status;
}

void qcnn_conv_bf16_free(qcnn_conv_bf16 *c)
{
    if (!c)
        return;
    qcnn_release(c->offsets);
    qcnn_release(c->weights);
    qcnn_release(c);
}

// ---- running --------------------------------------------------------------------------------------------------------

// Words of a pair's row and of a block of panels.
enum { ROW_WORDS = POSITIONS + SLACK, BLOCK_WORDS = QCNN_BF16_DEPTH / 2 * POSITIONS };

size_t qcnn_conv_bf16_scratch(const qcnn_conv_bf16 *c)
{
    const size_t n_numbers = c->n_plane_numbers + SLACK + (size_t)c->window.in[2];
    return (ROW_WORDS + BLOCK_WORDS) * sizeof(uint32_t) + n_numbers * sizeof(uint16_t);
}

// One row of the input into the padded row at `to`; columns beyond what taps read are dropped.
static void lay_row(const qcnn_conv_bf16 *c, const float *from, uint16_t *rounded, uint16_t *to)
{
    const size_t stride = (size_t)c->window.stride[2], n = (size_t)c->window.in[2], begin = (size_t)c->window.begin[2];
    if (stride == 1) {
        qcnn_bf16_round(from, begin + n <= c->phase ? n : c->phase - begin, to + begin);
        return;
    }
    qcnn_bf16_round(from, n, rounded);
    for (size_t x = 0; x < n && begin + x < c->row; x++)
        to[(begin + x) % stride * c->phase + (begin + x) / stride] = rounded[x];
}

static void lay_planes(const qcnn_conv_bf16 *c, const float *x, uint16_t *rounded, uint16_t *planes)
{
    const qcnn_window *w = &c->window;
    memset(planes, 0, (c->n_plane_numbers + SLACK) * sizeof *planes);
    for (int channel = 0; channel < c->groups * c->n_inputs; channel++, x += w->in_elements, planes += c->plane)
        for (size_t y = 0, at = (size_t)w->begin[1] * c->row; y < (size_t)w->in[1] && at < c->plane; y++, at += c->row)
            lay_row(c, x + y * (size_t)w->in[2], rounded, planes + at);
}

// The words of one pair of rows of patches for n positions from `first` on.
static void fill_row(const qcnn_conv_bf16 *c, const uint16_t *low, const uint16_t *high, int first, int n, uint32_t *row)
{
    const int width = (int)c->window.out[2];
    for (int done = 0; done < n;) {
        const int y = (first + done) / width, x = (first + done) % width, run = width - x < n - done ? width - x : n - done;
        const size_t at = (size_t)y * (size_t)c->window.stride[1] * c->row + (size_t)x;
        qcnn_bf16_interleave(low + at, high + at, (size_t)run, row + done);
        done += run;
    }
}

// Panels of the patches' rows k..k + depth - 1 for n positions.
static void fill_block(const qcnn_conv_bf16 *c, const uint16_t *planes, int k, int depth, int first, int n, uint32_t *row, uint32_t *block)
{
    enum { COLUMNS = QCNN_GEMM_BF16_COLUMNS };
    const int pairs = (depth + 1) / 2;
    for (int p = 0; p < pairs; p++) {
        const uint16_t *low = planes + c->offsets[k + 2 * p];
        const uint16_t *high = 2 * p + 1 < depth ? planes + c->offsets[k + 2 * p + 1] : low; // its weight is zero
        fill_row(c, low, high, first, n, row);
        for (int j = 0; j < n; j += COLUMNS)
            memcpy(block + ((size_t)j * (size_t)pairs + (size_t)p * COLUMNS), row + j, COLUMNS * sizeof *block);
    }
}

void qcnn_conv_bf16_run(const qcnn_conv_bf16 *c, const float *x, float *y, void *scratch)
{
    const int n_positions = (int)c->window.out_elements;
    uint32_t *row = scratch, *block = row + ROW_WORDS;
    uint16_t *planes = (uint16_t *)(void *)(block + BLOCK_WORDS), *rounded = planes + c->n_plane_numbers + SLACK;
    memset(row, 0, ROW_WORDS * sizeof *row);
    lay_planes(c, x, rounded, planes);
    for (int o = 0; o < c->groups * c->n_outputs; o++)
        for (int i = 0; i < n_positions; i++)
            y[(size_t)o * (size_t)n_positions + (size_t)i] = c->bias ? c->bias[o] : 0;
    for (int g = 0; g < c->groups; g++)
        for (int first = 0; first < n_positions; first += POSITIONS) {
            const int n = n_positions - first < POSITIONS ? n_positions - first : POSITIONS;
            for (int k = 0; k < c->n_rows; k += QCNN_BF16_DEPTH) {
                const int depth = depth_of(c, k);
                fill_block(c, planes + (size_t)g * (size_t)c->n_inputs * c->plane, k, depth, first, n, row, block);
                qcnn_bf16_multiply(c->n_outputs, n, (depth + 1) / 2, c->weights + (size_t)g * c->group_words + packed_words(c, k), block,
                                   true, y + (size_t)g * (size_t)c->n_outputs * (size_t)n_positions + first, (size_t)n_positions);
            }
        }
    const qcnn_activation *activation = &c->node->attributes.activation;
    if (activation->function != QCNN_IDENTITY)
        c->kernels->activate(activation, y, y, (size_t)c->groups * (size_t)c->n_outputs * (size_t)n_positions);
}
