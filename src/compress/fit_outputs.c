// SPDX-License-Identifier: Apache-2.0
// Descent over outputs together. What the layers behind make of errors depends on few directions of a layer's outputs, as many as there are
// classes: with F the second moments of the derivatives by the outputs (the Fisher information) the objective is tr(F e^T G e), e = w* - w,
// of which all other steps take F's diagonal alone. With P = G e F, for the block b of output o, all others as they are,
//
//     F_oo d^T G_bb d - 2 d^T h        h = P_bo + F_oo G_bb w_bo
//
// and whatever is changed there pulls at all outputs: P += G_b change F_o. Blocks are taken in panels, outputs in tiles one after the
// other; inside of both P is kept up to date at once, elsewhere by products.

#include <string.h>

#include "compress/blas.h"
#include "compress/fit_state.h"

typedef struct outputs_job {
    fit_state *s;
    const float *fisher; // of the group
    int g, first, end;   // the panel: blocks first..end - 1
    float *pull;         // [panel_rows][padded]: P
    float *change;       // [panel_rows][padded]: old less new weights
    float *moved;        // [panel_rows][FIT_TILE]: G change of a tile
} outputs_job;

static int first_row(const outputs_job *job)
{
    return job->s->blocks[job->first].row;
}

static int n_rows(const outputs_job *job)
{
    const fit_block *last = &job->s->blocks[job->end - 1];
    return last->row + last->width - first_row(job);
}

// v^T G_bb v of each codeword of the block.
static void find_norms(const fit_state *s, int g, int b, float *norms)
{
    const int width = s->blocks[b].width;
    const size_t row = (size_t)s->blocks[b].row, n = (size_t)s->n;
    const float *codeword = fit_codebook(s, fit_set(s, g), s->blocks[b].m), *form = s->problem->gram[g] + row * n + row;
    for (int k = 0; k < s->form->n_codewords; k++, codeword += s->form->subspace) {
        norms[k] = 0;
        for (int i = 0; i < width; i++)
            for (int j = 0; j < width; j++)
                norms[k] += codeword[i] * form[(size_t)i * n + (size_t)j] * codeword[j];
    }
}

// The best codeword for output o in block b. h: C' numbers.
static int best_codeword(const fit_state *s, int g, int b, int present, float own, const float *norms, const float *h)
{
    const int width = s->blocks[b].width;
    const float *codeword = fit_codebook(s, fit_set(s, g), s->blocks[b].m), *bits = fit_bits(s, fit_set(s, g), s->blocks[b].m);
    float least = 0;
    int best = present;
    for (int k = -1; k < s->form->n_codewords; k++) { // the present one first: of equals it stays
        const int candidate = k < 0 ? present : k;
        const float *v = codeword + (size_t)candidate * (size_t)s->form->subspace;
        float product = 0;
        for (int i = 0; i < width; i++)
            product += v[i] * h[i];
        const float cost = own * norms[candidate] - 2 * product + s->current_price * bits[candidate];
        if (k >= 0 && !(cost < least))
            continue;
        least = cost;
        best = candidate;
    }
    return best;
}

// Puts another codeword into block b of output `o` and takes it into P, in the panel's rows from the block on and the tile's columns.
static void replace(const outputs_job *job, int b, int tile, int o, int codeword)
{
    const fit_state *s = job->s;
    const int width = s->blocks[b].width, row = s->blocks[b].row - first_row(job), end = n_rows(job), n_columns = fit_tile_width(s, tile);
    const size_t ld = (size_t)s->n_outputs, n = (size_t)s->n, column = (size_t)tile * s->tile;
    const float *v = fit_codebook(s, fit_set(s, job->g), s->blocks[b].m) + (size_t)codeword * (size_t)s->form->subspace;
    const float *gram = s->problem->gram[job->g] + (size_t)first_row(job) * n + (size_t)s->blocks[b].row;
    const float *fisher = job->fisher + (size_t)o * ld + column;
    float *w = s->weights[job->g] + (size_t)s->blocks[b].row * ld + (size_t)o, *change = job->change + (size_t)row * s->padded + (size_t)o;
    s->assigned[job->g][(size_t)b * ld + (size_t)o] = (uint8_t)codeword;
    for (int i = 0; i < width; i++) {
        change[(size_t)i * s->padded] = w[(size_t)i * ld] - v[i];
        w[(size_t)i * ld] = v[i];
    }
    for (int j = row; j < end; j++) {
        float sum = 0, *pull = job->pull + (size_t)j * s->padded + column;
        for (int i = 0; i < width; i++)
            sum += gram[(size_t)j * n + (size_t)i] * change[(size_t)i * s->padded];
        for (int c = 0; c < n_columns; c++)
            pull[c] += sum * fisher[c];
    }
}

static void descend_tile(const outputs_job *job, int tile)
{
    const fit_state *s = job->s;
    const size_t ld = (size_t)s->n_outputs, n = (size_t)s->n;
    for (int b = job->first; b < job->end; b++) {
        const int width = s->blocks[b].width, row = s->blocks[b].row;
        const float *form = s->problem->gram[job->g] + (size_t)row * n + (size_t)row;
        float norms[QCNN_MAX_CODEWORDS], h[QCNN_MAX_CORRECTED_SUBSPACE];
        find_norms(s, job->g, b, norms);
        for (int o = tile * (int)s->tile; o < tile * (int)s->tile + fit_tile_width(s, tile); o++) {
            const float own = job->fisher[(size_t)o * ld + (size_t)o];
            const float *w = s->weights[job->g] + (size_t)row * ld + (size_t)o;
            for (int i = 0; i < width; i++) {
                h[i] = job->pull[(size_t)(row - first_row(job) + i) * s->padded + (size_t)o];
                for (int j = 0; j < width; j++)
                    h[i] += own * form[(size_t)i * n + (size_t)j] * w[(size_t)j * ld];
            }
            const int present = s->assigned[job->g][(size_t)b * ld + (size_t)o], best = best_codeword(s, job->g, b, present, own, norms, h);
            if (best != present)
                replace(job, b, tile, o, best);
        }
    }
}

// P of the outputs behind the tile += G change F.
static void pull_at_rest(const outputs_job *job, int tile)
{
    const fit_state *s = job->s;
    const size_t ld = (size_t)s->n_outputs, first = (size_t)tile * s->tile, rest = first + s->tile;
    if (rest >= ld)
        return;
    const qcnn_gemm_call change = { .m = n_rows(job),
                                    .n = (int)s->tile,
                                    .k = n_rows(job),
                                    .alpha = 1,
                                    .a = s->problem->gram[job->g] + (size_t)first_row(job) * (size_t)(s->n + 1),
                                    .lda = (size_t)s->n,
                                    .b = job->change + first,
                                    .ldb = s->padded,
                                    .c = job->moved,
                                    .ldc = FIT_TILE };
    qcnn_gemm_serial(&change);
    const qcnn_gemm_call pull = { .m = n_rows(job),
                                  .n = (int)(ld - rest),
                                  .k = (int)s->tile,
                                  .alpha = 1,
                                  .beta = 1,
                                  .a = job->moved,
                                  .lda = FIT_TILE,
                                  .b = job->fisher + first * ld + rest,
                                  .ldb = ld,
                                  .c = job->pull + rest,
                                  .ldc = s->padded };
    qcnn_gemm(&pull, s->options->parallel);
}

static void descend_panel(const outputs_job *job)
{
    const fit_state *s = job->s;
    const size_t ld = (size_t)s->n_outputs;
    memset(job->change, 0, (size_t)n_rows(job) * s->padded * sizeof *job->change);
    const qcnn_gemm_call pull = { .m = n_rows(job),
                                  .n = s->n_outputs,
                                  .k = s->n_outputs,
                                  .alpha = 1,
                                  .a = s->residual[job->g] + (size_t)first_row(job) * ld,
                                  .lda = ld,
                                  .b = job->fisher,
                                  .ldb = ld,
                                  .c = job->pull,
                                  .ldc = s->padded };
    qcnn_gemm(&pull, s->options->parallel);
    for (int tile = 0; tile < s->n_tiles; tile++) {
        descend_tile(job, tile);
        pull_at_rest(job, tile);
    }
    const qcnn_gemm_call residual = { .m = s->n,
                                      .n = s->n_outputs,
                                      .k = n_rows(job),
                                      .alpha = 1,
                                      .beta = 1,
                                      .a = s->problem->gram[job->g] + (size_t)first_row(job),
                                      .lda = (size_t)s->n,
                                      .b = job->change,
                                      .ldb = s->padded,
                                      .c = s->residual[job->g],
                                      .ldc = ld };
    qcnn_gemm(&residual, s->options->parallel);
}

qcnn_status qcnn_fit_descend_outputs(fit_state *s, qcnn_error *error)
{
    const size_t panel = (size_t)s->panel_rows * s->padded;
    outputs_job job = { .s = s,
                        .pull = qcnn_allocate(panel, sizeof(float)),
                        .change = qcnn_allocate(panel, sizeof(float)),
                        .moved = qcnn_allocate((size_t)s->panel_rows * FIT_TILE, sizeof(float)) };
    qcnn_status status = job.pull && job.change && job.moved ? QCNN_OK : qcnn_fail_memory(error, 2 * panel * sizeof(float));
    for (job.g = 0; status == QCNN_OK && job.g < s->form->groups; job.g++) {
        job.fisher = s->options->fisher + (size_t)job.g * (size_t)s->n_outputs * (size_t)s->n_outputs;
        for (job.first = 0; status == QCNN_OK && job.first < s->n_blocks; job.first = job.end) {
            job.end = qcnn_fit_panel_end(s, job.first);
            descend_panel(&job);
            status = qcnn_fit_report(s, ((double)job.g + (double)job.end / s->n_blocks) / s->form->groups, error);
        }
    }
    qcnn_release(job.pull);
    qcnn_release(job.change);
    qcnn_release(job.moved);
    if (status == QCNN_OK && s->options->price > 0)
        qcnn_fit_count_bits(s);
    return status;
}
