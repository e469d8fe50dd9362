// SPDX-License-Identifier: Apache-2.0
// Beam searches in the course of a fit: some over all blocks of an output at once, then sweeps of searches over windows of a few blocks
// with all others as they are, which are cheap and start from what there is. Codebooks are solved for behind each.

#include <string.h>

#include "base/parallel.h"
#include "compress/blas.h"
#include "compress/fit_beam.h"

// ---- all blocks -----------------------------------------------------------------------------------------------------

static void search_output(void *argument, int o, int worker)
{
    qcnn_fit_beam_search(argument, o, NULL, worker);
}

static qcnn_status search_all(fit_state *s, const fit_order *orders, int width, qcnn_error *error)
{
    for (int g = 0; g < s->form->groups; g++) {
        fit_beam beam;
        QCNN_TRY(qcnn_fit_beam_new(s, g, &orders[g], width, &beam, error));
        qcnn_for(s->options->parallel, s->n_outputs, search_output, &beam);
        qcnn_fit_beam_free(&beam);
        QCNN_TRY(qcnn_fit_report(s, (g + 1.0) / s->form->groups, error));
    }
    qcnn_fit_decode(s);
    return QCNN_OK;
}

// ---- windows --------------------------------------------------------------------------------------------------------

typedef struct window_job {
    fit_state *s;
    int width;
    int *list;      // [n_blocks]
    fit_beam *beam; // of the present window
    float *rows;    // [panel_rows][n]: G's rows of its blocks
    float *form;    // [panel_rows][panel_rows]: G between these
    float *pull;    // [panel_rows][n_outputs]: R - G_ww (w* - w)
    float *change;  // [panel_rows][n_outputs]: of weights
} window_job;

static void search_window_output(void *argument, int o, int worker)
{
    const window_job *job = argument;
    float pull[QCNN_MAX_CORRECTED_SUBSPACE]; // a panel has no more rows
    for (int i = 0; i < job->beam->order->n; i++)
        pull[i] = job->pull[(size_t)i * (size_t)job->s->n_outputs + (size_t)o];
    qcnn_fit_beam_search(job->beam, o, pull, worker);
}

static void gather_window(const window_job *job)
{
    const fit_state *s = job->s;
    const fit_order *order = job->beam->order;
    const int g = job->beam->g;
    const size_t ld = (size_t)s->n_outputs, n = (size_t)s->n, n_window = (size_t)order->n;
    for (int b = 0; b < order->n_blocks; b++) {
        const fit_block *block = &order->blocks[b], *from = &s->blocks[order->index[b]];
        for (size_t i = 0; i < (size_t)block->width; i++) {
            const size_t row = (size_t)block->row + i, at = ((size_t)from->row + i) * ld;
            memcpy(job->rows + row * n, s->problem->gram[g] + ((size_t)from->row + i) * n, n * sizeof(float));
            memcpy(job->pull + row * ld, s->residual[g] + at, ld * sizeof(float));
            for (size_t o = 0; o < ld; o++)
                job->change[row * ld + o] = s->problem->target[g][at + o] - s->weights[g][at + o];
            for (int c = 0; c < order->n_blocks; c++)
                memcpy(job->form + row * n_window + (size_t)order->blocks[c].row,
                       job->rows + row * n + (size_t)s->blocks[order->index[c]].row, (size_t)order->blocks[c].width * sizeof(float));
        }
    }
}

static void find_pull(const window_job *job)
{
    const int n_window = job->beam->order->n, n_outputs = job->s->n_outputs;
    gather_window(job);
    const qcnn_gemm_call call = { .m = n_window,
                                  .n = n_outputs,
                                  .k = n_window,
                                  .alpha = -1,
                                  .beta = 1,
                                  .a = job->form,
                                  .lda = (size_t)n_window,
                                  .b = job->change,
                                  .ldb = (size_t)n_outputs,
                                  .c = job->pull,
                                  .ldc = (size_t)n_outputs };
    qcnn_gemm(&call, job->s->options->parallel);
}

// Takes the new assignments into weights and residual.
static void apply_window(const window_job *job)
{
    const fit_state *s = job->s;
    const fit_order *order = job->beam->order;
    const int g = job->beam->g;
    const size_t ld = (size_t)s->n_outputs;
    for (int b = 0; b < order->n_blocks; b++) {
        const fit_block *block = &order->blocks[b], *from = &s->blocks[order->index[b]];
        const float *codebook = fit_codebook(s, fit_set(s, g), block->m);
        const uint8_t *assigned = s->assigned[g] + (size_t)order->index[b] * ld;
        for (size_t i = 0; i < (size_t)block->width; i++)
            for (size_t o = 0; o < ld; o++) {
                float *w = &s->weights[g][((size_t)from->row + i) * ld + o];
                const float value = codebook[assigned[o] * (size_t)s->form->subspace + i];
                job->change[((size_t)block->row + i) * ld + o] = value - *w;
                *w = value;
            }
    }
    const qcnn_gemm_call call = { .transpose_a = true,
                                  .m = s->n,
                                  .n = s->n_outputs,
                                  .k = order->n,
                                  .alpha = -1,
                                  .beta = 1,
                                  .a = job->rows,
                                  .lda = (size_t)s->n,
                                  .b = job->change,
                                  .ldb = ld,
                                  .c = s->residual[g],
                                  .ldc = ld };
    qcnn_gemm(&call, s->options->parallel);
}

static qcnn_status search_window(window_job *job, int g, int first, int end, qcnn_error *error)
{
    fit_order order;
    fit_beam beam;
    QCNN_TRY(qcnn_fit_order_new(job->s, g, job->list + first, end - first, &order, error));
    const qcnn_status status = qcnn_fit_beam_new(job->s, g, &order, job->width, &beam, error);
    if (status == QCNN_OK) {
        job->beam = &beam;
        find_pull(job);
        qcnn_for(job->s->options->parallel, job->s->n_outputs, search_window_output, job);
        apply_window(job);
        qcnn_fit_beam_free(&beam);
    }
    qcnn_fit_order_free(&order);
    return status;
}

// Each block in one window.
static qcnn_status sweep_windows(window_job *job, qcnn_error *error)
{
    const fit_state *s = job->s;
    for (int g = 0; g < s->form->groups; g++)
        for (int first = 0; first < s->n_blocks;) {
            int end = first, n_rows = 0;
            while (end < s->n_blocks && (end == first || n_rows + s->blocks[job->list[end]].width <= qcnn_fit_order_rows(s)))
                n_rows += s->blocks[job->list[end++]].width;
            QCNN_TRY(search_window(job, g, first, end, error));
            first = end;
            QCNN_TRY(qcnn_fit_report(job->s, (g + (double)end / s->n_blocks) / s->form->groups, error));
        }
    return QCNN_OK;
}

// Windows of the channels of one tap and of the taps of few channels in turn.
static void list_blocks(const fit_state *s, bool by_channels, int *list)
{
    const int n_taps = s->form->n_taps;
    for (int i = 0; i < s->n_blocks; i++)
        list[i] = by_channels ? i % n_taps * s->form->n_subspaces + i / n_taps : i;
}

// ---- the course -----------------------------------------------------------------------------------------------------

static qcnn_status solve_behind(fit_state *s, double *objective, qcnn_error *error)
{
    if (s->options->price > 0)
        qcnn_fit_count_bits(s);
    qcnn_fit_watch(s, "search");
    qcnn_fit_find_residual(s);
    QCNN_TRY(qcnn_fit_solve(s, error));
    qcnn_fit_watch(s, "solve");
    *objective = qcnn_fit_objective(s);
    s->step++;
    return QCNN_OK;
}

static int narrower(int width)
{
    return width < 4 ? 1 : width / 4;
}

// A narrow search tells whether wide ones pay.
static qcnn_status search_orders(fit_state *s, const fit_order *orders, bool *pays, qcnn_error *error)
{
    static const double least_gain = 0.07;
    double objective;
    const double before = qcnn_fit_objective(s);
    QCNN_TRY(search_all(s, orders, narrower(s->options->beam_width), error));
    QCNN_TRY(solve_behind(s, &objective, error));
    *pays = objective < (1 - least_gain) * before;
    for (int i = 1; *pays && i < FIT_SEARCHES; i++) {
        QCNN_TRY(search_all(s, orders, s->options->beam_width, error));
        QCNN_TRY(solve_behind(s, &objective, error));
    }
    return QCNN_OK;
}

static qcnn_status sweep_while_it_pays(window_job *job, qcnn_error *error)
{
    static const double least_gain = 0.002;
    double before = qcnn_fit_objective(job->s), objective = 0;
    for (int i = 0; i < FIT_WINDOW_SWEEPS && objective < (1 - least_gain) * before; i++) {
        before = i > 0 ? objective : before;
        list_blocks(job->s, i % 2 == 1, job->list);
        QCNN_TRY(sweep_windows(job, error));
        QCNN_TRY(solve_behind(job->s, &objective, error));
    }
    return QCNN_OK;
}

static qcnn_status search_windows(fit_state *s, qcnn_error *error)
{
    const size_t rows = (size_t)qcnn_fit_order_rows(s), n = (size_t)s->n, n_outputs = (size_t)s->n_outputs;
    window_job job = { .s = s, .width = narrower(s->options->beam_width) };
    job.list = qcnn_allocate((size_t)s->n_blocks, sizeof *job.list);
    job.rows = qcnn_allocate(rows * n, sizeof(float));
    job.form = qcnn_allocate(rows * rows, sizeof(float));
    job.pull = qcnn_allocate(rows * n_outputs, sizeof(float));
    job.change = qcnn_allocate(rows * n_outputs, sizeof(float));
    const bool have = job.list && job.rows && job.form && job.pull && job.change;
    const qcnn_status status = have ? sweep_while_it_pays(&job, error) : qcnn_fail_memory(error, rows * (n + n_outputs) * sizeof(float));
    qcnn_release(job.list);
    qcnn_release(job.rows);
    qcnn_release(job.form);
    qcnn_release(job.pull);
    qcnn_release(job.change);
    return status;
}

static qcnn_status make_orders(const fit_state *s, fit_order *orders, qcnn_error *error)
{
    int *all = qcnn_allocate((size_t)s->n_blocks, sizeof *all);
    qcnn_status status = all ? QCNN_OK : qcnn_fail_memory(error, (size_t)s->n_blocks * sizeof *all);
    for (int i = 0; all && i < s->n_blocks; i++)
        all[i] = i;
    for (int g = 0; status == QCNN_OK && g < s->form->groups; g++)
        status = qcnn_fit_order_new(s, g, all, s->n_blocks, &orders[g], error);
    qcnn_release(all);
    return status;
}

qcnn_status qcnn_fit_search(fit_state *s, bool *pays, qcnn_error *error)
{
    *pays = false;
    fit_order *orders = qcnn_allocate_zeroed((size_t)s->form->groups, sizeof *orders);
    qcnn_status status = orders ? make_orders(s, orders, error) : qcnn_fail_memory(error, (size_t)s->form->groups * sizeof *orders);
    if (status == QCNN_OK)
        status = search_orders(s, orders, pays, error);
    for (int g = 0; orders && g < s->form->groups; g++)
        qcnn_fit_order_free(&orders[g]);
    qcnn_release(orders);
    return status == QCNN_OK && *pays ? search_windows(s, error) : status;
}
