// SPDX-License-Identifier: Apache-2.0
// The feedback pass: blocks are quantized one after the other, from the last to the first, and those that are not yet quantized
// make up for the error so far, as in GPTQ (Frantar et al., 2022). With G = U^T U the objective is |U e|^2 for e = w* - w, whose part
// of block b, U_bb e_b + sum over c > b of U_bc e_c, depends on blocks that are decided and on b alone:
//
//     s_b = sum over c > b of U_bc e_c        h = U_bb^T (U_bb w*_b + s_b)        minimise d^T U_bb^T U_bb d - 2 d^T h

#include <string.h>

#include "base/parallel.h"
#include "compress/blas.h"
#include "compress/fit_state.h"

typedef struct feedback_job {
    fit_state *s;
    float *const *factor;
    qcnn_error *errors;
    // a trained pass, block by block
    int g, first, end, b; // panel: blocks first..end - 1
    float *sums, *points; // [panel_rows][padded], [C'][padded]
    float *form;          // C' x C'
} feedback_job;

// U_bb^T U_bb, full.
static void block_form(const fit_state *s, const float *factor, int b, float *form)
{
    const int width = s->blocks[b].width, row = s->blocks[b].row;
    const float *u = factor + (size_t)row * (size_t)s->n + (size_t)row;
    for (int i = 0; i < width; i++)
        for (int j = 0; j < width; j++) {
            double sum = 0;
            for (int k = 0; k <= i && k <= j; k++)
                sum += (double)u[(size_t)k * (size_t)s->n + (size_t)i] * (double)u[(size_t)k * (size_t)s->n + (size_t)j];
            form[i * width + j] = (float)sum;
        }
}

// h of `n` outputs: target and sums point to the block's first row at the first output.
static void find_points(const fit_state *s, const float *factor, int b, const float *target, const float *sums, size_t sums_stride,
                        size_t n, float *points, size_t points_stride)
{
    const size_t width = (size_t)s->blocks[b].width, row = (size_t)s->blocks[b].row, ldu = (size_t)s->n, ldt = (size_t)s->n_outputs;
    const float *u = factor + row * ldu + row;
    for (size_t i = 0; i < width; i++)
        memset(points + i * points_stride, 0, n * sizeof *points);
    for (size_t k = 0; k < width; k++) {
        float z[FIT_TILE];
        memcpy(z, sums + k * sums_stride, n * sizeof *z);
        for (size_t j = k; j < width; j++)
            for (size_t o = 0; o < n; o++)
                z[o] += u[k * ldu + j] * target[j * ldt + o];
        for (size_t i = k; i < width; i++)
            for (size_t o = 0; o < n; o++)
                points[i * points_stride + o] += u[k * ldu + i] * z[o];
    }
}

// From the assignments of a tile: weights, errors, and the sums of the panel's rows above the block.
static void apply(const fit_state *s, const float *factor, int g, int b, int tile, int panel_row, float *sums, size_t sums_stride)
{
    const size_t width = (size_t)s->blocks[b].width, row = (size_t)s->blocks[b].row, n = (size_t)fit_tile_width(s, tile);
    const size_t ld = (size_t)s->n_outputs, first = (size_t)tile * s->tile;
    const float *codebook = fit_codebook(s, fit_set(s, g), s->blocks[b].m), *target = s->problem->target[g] + row * ld + first;
    const uint8_t *assigned = s->assigned[g] + (size_t)b * ld + first;
    float *e = s->residual[g] + row * ld + first, *w = s->weights[g] + row * ld + first;
    for (size_t i = 0; i < width; i++)
        for (size_t o = 0; o < n; o++) {
            w[i * ld + o] = codebook[assigned[o] * (size_t)s->form->subspace + i];
            e[i * ld + o] = target[i * ld + o] - w[i * ld + o];
        }
    for (size_t j = (size_t)panel_row; j < row; j++)
        for (size_t i = 0; i < width; i++) {
            const float u = factor[j * (size_t)s->n + row + i];
            for (size_t o = 0; o < n; o++)
                sums[(j - (size_t)panel_row) * sums_stride + o] += u * e[i * ld + o];
        }
}

// The panel's sums over all blocks behind it, for one tile: rows `stride` apart.
static void panel_sums(const fit_state *s, const float *factor, int g, int row, int end_row, int tile, float *sums, size_t stride)
{
    const size_t ld = (size_t)s->n_outputs, first = (size_t)tile * s->tile;
    if (end_row == s->n) {
        for (int i = 0; i < end_row - row; i++)
            memset(sums + (size_t)i * stride, 0, s->tile * sizeof *sums);
        return;
    }
    const qcnn_gemm_call call = { .m = end_row - row,
                                  .n = fit_tile_width(s, tile),
                                  .k = s->n - end_row,
                                  .alpha = 1,
                                  .a = factor + (size_t)row * (size_t)s->n + (size_t)end_row,
                                  .lda = (size_t)s->n,
                                  .b = s->residual[g] + (size_t)end_row * ld + first,
                                  .ldb = ld,
                                  .c = sums,
                                  .ldc = stride };
    qcnn_gemm_serial(&call);
}

// ---- codebooks given ------------------------------------------------------------------------------------------------

static void feedback_tile(void *argument, int index, int worker)
{
    const feedback_job *job = argument;
    const fit_state *s = job->s;
    const int g = index / s->n_tiles, tile = index % s->n_tiles;
    const float *factor = job->factor[g];
    float *sums = fit_panel(s, worker), *points = fit_points(s, worker),
          *form = job->form + (size_t)worker * (size_t)s->form->subspace * (size_t)s->form->subspace;
    for (int end = s->n_blocks; end > 0;) {
        const int first = qcnn_fit_panel_begin(s, end), row = s->blocks[first].row;
        panel_sums(s, factor, g, row, s->blocks[end - 1].row + s->blocks[end - 1].width, tile, sums, FIT_TILE);
        for (int b = end - 1; b >= first; b--) {
            const size_t at = (size_t)s->blocks[b].row * (size_t)s->n_outputs + (size_t)tile * s->tile;
            block_form(s, factor, b, form);
            find_points(s, factor, b, s->problem->target[g] + at, sums + (size_t)(s->blocks[b].row - row) * FIT_TILE, FIT_TILE,
                        (size_t)fit_tile_width(s, tile), points, FIT_TILE);
            qcnn_fit_assign(s, g, b, tile, form, points, worker);
            apply(s, factor, g, b, tile, row, sums, FIT_TILE);
        }
        end = first;
    }
}

// ---- codebooks trained on the way -----------------------------------------------------------------------------------

static void sums_tile(void *argument, int tile, int worker)
{
    (void)worker;
    const feedback_job *job = argument;
    const fit_state *s = job->s;
    const fit_block *last = &s->blocks[job->end - 1];
    panel_sums(s, job->factor[job->g], job->g, s->blocks[job->first].row, last->row + last->width, tile,
               job->sums + (size_t)tile * job->s->tile, s->padded);
}

static void points_tile(void *argument, int tile, int worker)
{
    (void)worker;
    const feedback_job *job = argument;
    const fit_state *s = job->s;
    const int row = s->blocks[job->b].row;
    const size_t at = (size_t)row * (size_t)s->n_outputs + (size_t)tile * s->tile;
    find_points(s, job->factor[job->g], job->b, s->problem->target[job->g] + at,
                job->sums + (size_t)(row - s->blocks[job->first].row) * s->padded + (size_t)tile * s->tile, s->padded,
                (size_t)fit_tile_width(s, tile), job->points + (size_t)tile * s->tile, s->padded);
}

static void apply_tile(void *argument, int tile, int worker)
{
    (void)worker;
    const feedback_job *job = argument;
    apply(job->s, job->factor[job->g], job->g, job->b, tile, job->s->blocks[job->first].row, job->sums + (size_t)tile * job->s->tile,
          job->s->padded);
}

static qcnn_status trained_pass(feedback_job *job, qcnn_error *error)
{
    enum { ROUNDS = 8 };
    fit_state *s = job->s;
    const qcnn_parallel *parallel = s->options->parallel;
    for (job->end = s->n_blocks; job->end > 0; job->end = job->first) {
        job->first = qcnn_fit_panel_begin(s, job->end);
        qcnn_for(parallel, s->n_tiles, sums_tile, job);
        for (job->b = job->end - 1; job->b >= job->first; job->b--) {
            block_form(s, job->factor[job->g], job->b, job->form);
            qcnn_for(parallel, s->n_tiles, points_tile, job);
            QCNN_TRY(qcnn_fit_train(s, job->g, job->b, job->form, job->points, ROUNDS, error));
            qcnn_for(parallel, s->n_tiles, apply_tile, job);
        }
        QCNN_TRY(qcnn_fit_report(s, (double)(s->n_blocks - job->first) / s->n_blocks, error));
    }
    return QCNN_OK;
}

qcnn_status qcnn_fit_feedback(fit_state *s, float *const *factor, qcnn_error *error)
{
    const size_t c = (size_t)s->form->subspace, n_workers = (size_t)qcnn_n_workers(s->options->parallel);
    feedback_job job = { .s = s, .factor = factor };
    job.sums = qcnn_allocate((size_t)s->panel_rows * s->padded, sizeof(float));
    job.points = qcnn_allocate_zeroed(c * s->padded, sizeof(float));
    job.form = qcnn_allocate(n_workers * c * c, sizeof(float));
    qcnn_status status = job.sums && job.points && job.form ? QCNN_OK : qcnn_fail_memory(error, (size_t)s->panel_rows * s->padded * 4);
    if (status == QCNN_OK && !s->trained) {
        qcnn_for(s->options->parallel, s->form->groups * s->n_tiles, feedback_tile, &job);
        status = qcnn_fit_report(s, 1, error);
    }
    for (job.g = 0; status == QCNN_OK && s->trained && job.g < s->form->groups; job.g++)
        status = trained_pass(&job, error);
    qcnn_release(job.sums);
    qcnn_release(job.points);
    qcnn_release(job.form);
    if (status == QCNN_OK && s->options->price > 0)
        qcnn_fit_count_bits(s);
    return status;
}
