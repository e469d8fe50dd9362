// SPDX-License-Identifier: Apache-2.0
// Block coordinate descent: with all other blocks as they are, the objective of block b is d^T G_bb d - 2 d^T h for
// h = R_b + G_bb w_b, R = G (w* - w). Taking the best codeword for every output, or the best codewords for the assignments, cannot
// raise it. R is kept up to date at once inside a panel of blocks and by a product behind it.

#include <string.h>

#include "base/parallel.h"
#include "compress/blas.h"
#include "compress/fit_state.h"

typedef struct descent_job {
    fit_state *s;
    float *forms; // of each worker, C' x C'
    // a trained sweep
    int g, first, end, b;
    float *change; // [panel_rows][padded]: old less new weights of the panel
    float *points; // [C'][padded]
} descent_job;

static void block_form(const fit_state *s, int g, int b, float *form)
{
    const size_t width = (size_t)s->blocks[b].width, row = (size_t)s->blocks[b].row, n = (size_t)s->n;
    for (size_t i = 0; i < width; i++)
        memcpy(form + i * width, s->problem->gram[g] + (row + i) * n + row, width * sizeof *form);
}

static void find_points(const fit_state *s, const float *form, int g, int b, int tile, float *points, size_t stride)
{
    const size_t width = (size_t)s->blocks[b].width, ld = (size_t)s->n_outputs, n = (size_t)fit_tile_width(s, tile);
    const size_t at = (size_t)s->blocks[b].row * ld + (size_t)tile * s->tile;
    const float *r = s->residual[g] + at, *w = s->weights[g] + at;
    for (size_t i = 0; i < width; i++) {
        memcpy(points + i * stride, r + i * ld, n * sizeof *points);
        for (size_t j = 0; j < width; j++)
            for (size_t o = 0; o < n; o++)
                points[i * stride + o] += form[i * width + j] * w[j * ld + o];
    }
}

// Takes the new assignments of a tile into weights, into `change` (rows of the panel) and into R of the panel's rows.
static void apply(const fit_state *s, int g, int b, int tile, int panel_row, int panel_end_row, float *change, size_t stride)
{
    const size_t width = (size_t)s->blocks[b].width, row = (size_t)s->blocks[b].row, n = (size_t)fit_tile_width(s, tile);
    const size_t ld = (size_t)s->n_outputs, first = (size_t)tile * s->tile;
    const float *codebook = fit_codebook(s, fit_set(s, g), s->blocks[b].m);
    const uint8_t *assigned = s->assigned[g] + (size_t)b * ld + first;
    float *w = s->weights[g] + row * ld + first, *r = s->residual[g] + first;
    change += (row - (size_t)panel_row) * stride;
    for (size_t i = 0; i < width; i++)
        for (size_t o = 0; o < n; o++) {
            const float value = codebook[assigned[o] * (size_t)s->form->subspace + i];
            change[i * stride + o] = w[i * ld + o] - value;
            w[i * ld + o] = value;
        }
    for (size_t j = (size_t)panel_row; j < (size_t)panel_end_row; j++)
        for (size_t i = 0; i < width; i++) {
            const float gram = s->problem->gram[g][j * (size_t)s->n + row + i];
            for (size_t o = 0; o < n; o++)
                r[j * ld + o] += gram * change[i * stride + o];
        }
}

// R outside the panel's rows += G change, for one tile.
static void update_residual(const fit_state *s, int g, int row, int end_row, int tile, const float *change, size_t stride)
{
    const size_t ld = (size_t)s->n_outputs, n = (size_t)s->n;
    qcnn_gemm_call call = {
        .n = fit_tile_width(s, tile), .k = end_row - row, .alpha = 1, .beta = 1, .lda = n, .b = change, .ldb = stride, .ldc = ld
    };
    call.m = row;
    call.a = s->problem->gram[g] + (size_t)row;
    call.c = s->residual[g] + (size_t)tile * s->tile;
    if (call.m > 0)
        qcnn_gemm_serial(&call);
    call.m = s->n - end_row;
    call.a += (size_t)end_row * n;
    call.c += (size_t)end_row * ld;
    if (call.m > 0)
        qcnn_gemm_serial(&call);
}

// ---- codebooks given ------------------------------------------------------------------------------------------------

static void descend_tile(void *argument, int index, int worker)
{
    const descent_job *job = argument;
    const fit_state *s = job->s;
    const int g = index / s->n_tiles, tile = index % s->n_tiles;
    float *change = fit_panel(s, worker), *points = fit_points(s, worker);
    float *form = job->forms + (size_t)worker * (size_t)s->form->subspace * (size_t)s->form->subspace;
    for (int first = 0, panel = 0; first < s->n_blocks; panel++) {
        const int end = qcnn_fit_panel_end(s, first), row = s->blocks[first].row,
                  end_row = s->blocks[end - 1].row + s->blocks[end - 1].width;
        for (int b = first; b < end; b++) {
            block_form(s, g, b, form);
            find_points(s, form, g, b, tile, points, FIT_TILE);
            qcnn_fit_assign(s, g, b, tile, form, points, worker);
            apply(s, g, b, tile, row, end_row, change, FIT_TILE);
        }
        if (s->hot && s->packed)
            qcnn_fit_add_packed(s, g, panel, tile, end_row - row, change, FIT_TILE, worker);
        else
            update_residual(s, g, row, end_row, tile, change, FIT_TILE);
        first = end;
    }
}

// ---- codebooks trained on the way -----------------------------------------------------------------------------------

static void points_tile(void *argument, int tile, int worker)
{
    (void)worker;
    const descent_job *job = argument;
    find_points(job->s, job->forms, job->g, job->b, tile, job->points + (size_t)tile * job->s->tile, job->s->padded);
}

static void apply_tile(void *argument, int tile, int worker)
{
    (void)worker;
    const descent_job *job = argument;
    const fit_block *last = &job->s->blocks[job->end - 1];
    apply(job->s, job->g, job->b, tile, job->s->blocks[job->first].row, last->row + last->width, job->change + (size_t)tile * job->s->tile,
          job->s->padded);
}

static void update_tile(void *argument, int tile, int worker)
{
    (void)worker;
    const descent_job *job = argument;
    const fit_block *last = &job->s->blocks[job->end - 1];
    update_residual(job->s, job->g, job->s->blocks[job->first].row, last->row + last->width, tile,
                    job->change + (size_t)tile * job->s->tile, job->s->padded);
}

static qcnn_status trained_sweep(descent_job *job, qcnn_error *error)
{
    enum { ROUNDS = 2 };
    fit_state *s = job->s;
    const qcnn_parallel *parallel = s->options->parallel;
    for (job->first = 0; job->first < s->n_blocks; job->first = job->end) {
        job->end = qcnn_fit_panel_end(s, job->first);
        for (job->b = job->first; job->b < job->end; job->b++) {
            block_form(s, job->g, job->b, job->forms);
            qcnn_for(parallel, s->n_tiles, points_tile, job);
            QCNN_TRY(qcnn_fit_train(s, job->g, job->b, job->forms, job->points, ROUNDS, error));
            qcnn_for(parallel, s->n_tiles, apply_tile, job);
        }
        qcnn_for(parallel, s->n_tiles, update_tile, job);
        QCNN_TRY(qcnn_fit_report(s, (double)job->end / s->n_blocks, error));
    }
    return QCNN_OK;
}

qcnn_status qcnn_fit_descend(fit_state *s, qcnn_error *error)
{
    const size_t c = (size_t)s->form->subspace, n_workers = (size_t)qcnn_n_workers(s->options->parallel);
    descent_job job = { .s = s };
    job.change = qcnn_allocate((size_t)s->panel_rows * s->padded, sizeof(float));
    job.points = qcnn_allocate_zeroed(c * s->padded, sizeof(float));
    job.forms = qcnn_allocate(n_workers * c * c, sizeof(float));
    qcnn_status status = job.change && job.points && job.forms ? QCNN_OK : qcnn_fail_memory(error, (size_t)s->panel_rows * s->padded * 4);
    if (status == QCNN_OK && !s->trained) {
        qcnn_for(s->options->parallel, s->form->groups * s->n_tiles, descend_tile, &job);
        status = qcnn_fit_report(s, 1, error);
    }
    for (job.g = 0; status == QCNN_OK && s->trained && job.g < s->form->groups; job.g++)
        status = trained_sweep(&job, error);
    qcnn_release(job.change);
    qcnn_release(job.points);
    qcnn_release(job.forms);
    if (status == QCNN_OK && s->options->price > 0)
        qcnn_fit_count_bits(s);
    return status;
}
