// SPDX-License-Identifier: Apache-2.0
// The order is found from the inverse of G, of which a decided block's rows are taken out at each step: what is left is the inverse of
// the undecided blocks' part of G, and its diagonal blocks are the inverse variances of inputs given all other undecided ones. It is the
// order in which V-BLAST detects signals (Wolniansky et al., 1998).

#include "compress/fit_order.h"

#include <math.h>
#include <string.h>

#include "compress/blas.h"

void qcnn_fit_order_free(fit_order *order)
{
    qcnn_release(order->index);
    qcnn_release(order->blocks);
    qcnn_release(order->factor);
    qcnn_release(order->cross);
    *order = (fit_order){ 0 };
}

int qcnn_fit_order_panel(const fit_state *s, const fit_order *order, int end)
{
    int first = end, n_rows = 0;
    while (first > 0 && (first == end || n_rows + order->blocks[first - 1].width <= qcnn_fit_order_rows(s)))
        n_rows += order->blocks[--first].width;
    return first;
}

static void place_blocks(const fit_state *s, fit_order *order)
{
    order->n = 0;
    for (int i = 0; i < order->n_blocks; i++) {
        order->blocks[i] = s->blocks[order->index[i]];
        order->blocks[i].row = order->n;
        order->n += order->blocks[i].width;
    }
}

// The blocks' part of G, in order.
static void gather(const fit_state *s, int g, const fit_order *order, float *to)
{
    for (int i = 0; i < order->n_blocks; i++)
        for (int j = 0; j < order->n_blocks; j++) {
            const fit_block *row = &order->blocks[i], *column = &order->blocks[j];
            const float *from =
                s->problem->gram[g] + (size_t)s->blocks[order->index[i]].row * (size_t)s->n + (size_t)s->blocks[order->index[j]].row;
            for (int k = 0; k < row->width; k++)
                memcpy(to + (size_t)(row->row + k) * (size_t)order->n + (size_t)column->row, from + (size_t)k * (size_t)s->n,
                       (size_t)column->width * sizeof *to);
        }
}

// ---- choosing -------------------------------------------------------------------------------------------------------

typedef struct order_scratch {
    float *inverse;       // n x n
    float *rows, *solved; // [C'][n]: of the inverse, and R^-T of these
    double *form;         // C' x C'
    double *weight;       // [n_blocks]: half the logarithm of the size of its weights
    int *chosen;          // [n_blocks]: position in the list that was given
    bool *decided;        // [n_blocks]
} order_scratch;

static void free_scratch(order_scratch *o)
{
    qcnn_release(o->inverse);
    qcnn_release(o->rows);
    qcnn_release(o->solved);
    qcnn_release(o->form);
    qcnn_release(o->weight);
    qcnn_release(o->chosen);
    qcnn_release(o->decided);
}

static bool new_scratch(const fit_state *s, const fit_order *order, order_scratch *o)
{
    const size_t n = (size_t)order->n, c = (size_t)s->form->subspace, n_blocks = (size_t)order->n_blocks;
    o->inverse = qcnn_allocate_zeroed(n * n, sizeof(float));
    o->rows = qcnn_allocate(c * n, sizeof(float));
    o->solved = qcnn_allocate(c * n, sizeof(float));
    o->form = qcnn_allocate(c * c, sizeof(double));
    o->weight = qcnn_allocate(n_blocks, sizeof(double));
    o->chosen = qcnn_allocate(n_blocks, sizeof(int));
    o->decided = qcnn_allocate_zeroed(n_blocks, sizeof(bool));
    return o->inverse && o->rows && o->solved && o->form && o->weight && o->chosen && o->decided;
}

// The upper R of the inverse's block, R^T R; false if it is not positive definite any more.
static bool factorise_block(const fit_order *order, const order_scratch *o, int b)
{
    const size_t width = (size_t)order->blocks[b].width, n = (size_t)order->n;
    const float *from = o->inverse + (size_t)order->blocks[b].row * (n + 1);
    for (size_t i = 0; i < width; i++)
        for (size_t j = 0; j < width; j++)
            o->form[i * width + j] = (double)from[i * n + j];
    return qcnn_small_cholesky((int)width, o->form);
}

// Logarithm of the conditional variances of a block's inputs, as a mean over them, and of its weights.
static double rank_block(const fit_order *order, const order_scratch *o, int b)
{
    const int width = order->blocks[b].width;
    double sum = 0;
    if (!factorise_block(order, o, b))
        return HUGE_VAL;
    for (int i = 0; i < width; i++)
        sum -= 2 * log(o->form[i * width + i]);
    return sum / width + o->weight[b];
}

// Takes block b out of the inverse: inverse -= B^T B, B = R^-T rows.
static void take_out(const fit_order *order, order_scratch *o, int b, const qcnn_parallel *parallel)
{
    const size_t width = (size_t)order->blocks[b].width, n = (size_t)order->n;
    if (!factorise_block(order, o, b))
        return;
    memcpy(o->rows, o->inverse + (size_t)order->blocks[b].row * n, width * n * sizeof(float));
    for (size_t i = 0; i < width; i++)
        for (size_t j = 0; j < n; j++) {
            double x = (double)o->rows[i * n + j];
            for (size_t k = 0; k < i; k++)
                x -= o->form[k * width + i] * (double)o->solved[k * n + j];
            o->solved[i * n + j] = (float)(x / o->form[i * width + i]);
        }
    const qcnn_gemm_call call = { .transpose_a = true,
                                  .m = order->n,
                                  .n = order->n,
                                  .k = (int)width,
                                  .alpha = -1,
                                  .beta = 1,
                                  .a = o->solved,
                                  .lda = n,
                                  .b = o->solved,
                                  .ldb = n,
                                  .c = o->inverse,
                                  .ldc = n };
    qcnn_gemm(&call, parallel);
}

static void weigh_blocks(const fit_state *s, int g, const fit_order *order, order_scratch *o)
{
    const size_t ld = (size_t)s->n_outputs;
    for (int b = 0; b < order->n_blocks; b++) {
        const fit_block *block = &s->blocks[order->index[b]];
        double sum = 0;
        for (int i = 0; i < block->width; i++)
            for (size_t out = 0; out < ld; out++) {
                const double w = (double)s->problem->target[g][(size_t)(block->row + i) * ld + out];
                sum += (double)s->importance[(size_t)g * s->padded + out] * w * w;
            }
        o->weight[b] = 0.5 * log(sum / block->width + 1e-30);
    }
}

static bool choose(const fit_state *s, int g, fit_order *order, order_scratch *o)
{
    const qcnn_parallel *parallel = s->options->parallel;
    const size_t n = (size_t)order->n;
    gather(s, g, order, order->factor);
    if (!qcnn_cholesky(order->n, order->factor, n, parallel))
        return false;
    for (size_t i = 0; i < n; i++)
        o->inverse[i * n + i] = 1;
    qcnn_cholesky_solve(order->n, order->factor, n, order->n, o->inverse, n, parallel);
    weigh_blocks(s, g, order, o);
    for (int position = order->n_blocks - 1; position >= 0; position--) {
        int best = -1;
        double most = 0;
        for (int b = 0; b < order->n_blocks; b++) {
            const double rank = o->decided[b] ? -HUGE_VAL : rank_block(order, o, b);
            if (!o->decided[b] && (best < 0 || rank > most)) {
                best = b;
                most = rank;
            }
        }
        o->decided[best] = true;
        o->chosen[position] = order->index[best];
        take_out(order, o, best, parallel);
    }
    memcpy(order->index, o->chosen, (size_t)order->n_blocks * sizeof *o->chosen);
    place_blocks(s, order);
    return true;
}

// ---- matrices -------------------------------------------------------------------------------------------------------

static bool set_matrices(const fit_state *s, int g, fit_order *order)
{
    const size_t n = (size_t)order->n;
    gather(s, g, order, order->factor);
    if (!qcnn_cholesky(order->n, order->factor, n, s->options->parallel))
        return false;
    for (int end = order->n_blocks; end > 0;) {
        const int first = qcnn_fit_order_panel(s, order, end), row = order->blocks[first].row,
                  end_row = end < order->n_blocks ? order->blocks[end].row : order->n;
        const qcnn_gemm_call call = { .transpose_a = true,
                                      .m = end_row - row,
                                      .n = end_row - row,
                                      .k = row,
                                      .alpha = 1,
                                      .a = order->factor + row,
                                      .lda = n,
                                      .b = order->factor + row,
                                      .ldb = n,
                                      .c = order->cross + (size_t)row * (size_t)qcnn_fit_order_rows(s),
                                      .ldc = (size_t)qcnn_fit_order_rows(s) };
        if (row > 0)
            qcnn_gemm(&call, s->options->parallel);
        end = first;
    }
    return true;
}

static qcnn_status build(const fit_state *s, int g, fit_order *order, qcnn_error *error)
{
    const size_t n = (size_t)order->n;
    order_scratch o = { 0 };
    order->factor = qcnn_allocate(n * n, sizeof(float));
    order->cross = qcnn_allocate_zeroed(n * (size_t)qcnn_fit_order_rows(s), sizeof(float));
    qcnn_status status =
        order->factor && order->cross && new_scratch(s, order, &o) ? QCNN_OK : qcnn_fail_memory(error, n * n * sizeof(float));
    if (status == QCNN_OK && !(choose(s, g, order, &o) && set_matrices(s, g, order)))
        status =
            qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "layer '%s': the moments of its inputs are not positive definite", s->options->name);
    free_scratch(&o);
    return status;
}

qcnn_status qcnn_fit_order_new(const fit_state *s, int g, const int *blocks, int n_blocks, fit_order *order, qcnn_error *error)
{
    *order = (fit_order){ .n_blocks = n_blocks };
    order->index = qcnn_allocate((size_t)n_blocks, sizeof *order->index);
    order->blocks = qcnn_allocate((size_t)n_blocks, sizeof *order->blocks);
    qcnn_status status = order->index && order->blocks ? QCNN_OK : qcnn_fail_memory(error, (size_t)n_blocks * sizeof *order->blocks);
    if (status == QCNN_OK) {
        memcpy(order->index, blocks, (size_t)n_blocks * sizeof *blocks);
        place_blocks(s, order);
        status = build(s, g, order, error);
    }
    if (status != QCNN_OK)
        qcnn_fit_order_free(order);
    return status;
}
