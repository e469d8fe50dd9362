// SPDX-License-Identifier: Apache-2.0
// One block of a fit: assigning its outputs, and moving its codewords when they are its own. With a price on bits this is
// entropy-constrained vector quantization (Chou, Lookabaugh, Gray, 1989): codewords that few outputs use become dear, lose the
// rest, and a subspace that matters little ends with few numbers or a single one.

#include <math.h>
#include <string.h>

#include "base/parallel.h"
#include "base/rng.h"
#include "compress/fit_state.h"
#include "compress/nearest.h"

// ---- small matrices -------------------------------------------------------------------------------------------------

bool qcnn_small_cholesky(int n, double *a)
{
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < i; k++)
            for (int j = i; j < n; j++)
                a[i * n + j] -= a[k * n + i] * a[k * n + j];
        if (!(a[i * n + i] > 0))
            return false;
        const double root = sqrt(a[i * n + i]);
        for (int j = i; j < n; j++)
            a[i * n + j] /= root;
    }
    return true;
}

void qcnn_small_solve_upper(int n, const double *r, double *x)
{
    for (int i = n - 1; i >= 0; i--) {
        for (int j = i + 1; j < n; j++)
            x[i] -= r[i * n + j] * x[j];
        x[i] /= r[i * n + i];
    }
}

void qcnn_small_solve(int n, const double *r, double *x)
{
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < i; j++)
            x[i] -= r[j * n + i] * x[j];
        x[i] /= r[i * n + i];
    }
    qcnn_small_solve_upper(n, r, x);
}

// ---- assigning ------------------------------------------------------------------------------------------------------

void qcnn_fit_assign(const fit_state *s, int g, int b, int tile, const float *form, const float *points, int worker)
{
    const int k_all = s->form->n_codewords, width = s->blocks[b].width, m = s->blocks[b].m, set = fit_set(s, g);
    const float *codeword = fit_codebook(s, set, m);
    const size_t first = (size_t)g * s->padded + (size_t)tile * s->tile;
    float *constant = fit_constants(s, worker), *direction = constant + k_all;
    for (int k = 0; k < k_all; k++, codeword += s->form->subspace) {
        double sum = 0;
        for (int i = 0; i < width; i++) {
            double row = 0;
            for (int j = 0; j < width; j++)
                row += (double)form[i * width + j] * (double)codeword[j];
            sum += row * (double)codeword[i];
            direction[(size_t)k * (size_t)width + (size_t)i] = codeword[i];
        }
        constant[k] = (float)sum;
    }
    const qcnn_candidates candidates = { .n = k_all,
                                         .dim = width,
                                         .direction = direction,
                                         .constant = constant,
                                         .bits = s->options->price > 0 ? fit_bits(s, set, m) : NULL,
                                         .price = s->price + first,
                                         .noise = s->hot ? s->noise : NULL,
                                         .temperature = s->hot ? s->temperature + first : NULL,
                                         .draw = qcnn_rng_split(s->draw, (uint64_t)(b * s->form->groups + g) << 32 | (uint64_t)tile) };
    qcnn_nearest(&candidates, points, FIT_TILE, (size_t)fit_tile_width(s, tile),
                 s->assigned[g] + (size_t)b * (size_t)s->n_outputs + (size_t)tile * s->tile);
}

// ---- training -------------------------------------------------------------------------------------------------------

typedef struct train_job {
    fit_state *s;
    int g, b;
    const float *form, *points;
    double *sums; // [tile][K][width + 1]: sums of points, and their weight
} train_job;

static void train_tile(void *argument, int tile, int worker)
{
    const train_job *job = argument;
    const fit_state *s = job->s;
    const size_t width = (size_t)s->blocks[job->b].width, first = (size_t)tile * s->tile;
    float *points = fit_points(s, worker);
    for (size_t i = 0; i < width; i++)
        memcpy(points + i * FIT_TILE, job->points + i * s->padded + first, s->tile * sizeof *points);
    qcnn_fit_assign(s, job->g, job->b, tile, job->form, points, worker);
    double *sums = job->sums + (size_t)tile * (size_t)s->form->n_codewords * (width + 1);
    memset(sums, 0, (size_t)s->form->n_codewords * (width + 1) * sizeof *sums);
    const uint8_t *assigned = s->assigned[job->g] + (size_t)job->b * (size_t)s->n_outputs + first;
    const float *importance = s->importance + (size_t)job->g * s->padded + first;
    for (int o = 0; o < fit_tile_width(s, tile); o++) {
        double *sum = sums + assigned[o] * (width + 1);
        const double weight = (double)importance[o];
        for (size_t i = 0; i < width; i++)
            sum[i] += weight * (double)points[i * FIT_TILE + (size_t)o];
        sum[width] += weight;
    }
}

// Codewords to Q^-1 times the mean of their points.
static void move_codewords(const train_job *job, const double *r)
{
    const fit_state *s = job->s;
    const int width = s->blocks[job->b].width, n_codewords = s->form->n_codewords, stride = n_codewords * (width + 1);
    float *codeword = fit_codebook(s, fit_set(s, job->g), s->blocks[job->b].m);
    for (int k = 0; k < n_codewords; k++, codeword += s->form->subspace) {
        double *sum = job->sums + (size_t)k * (size_t)(width + 1);
        for (int tile = 1; tile < s->n_tiles; tile++)
            for (int i = 0; i <= width; i++)
                sum[i] += sum[(size_t)tile * (size_t)stride + (size_t)i];
        if (!(sum[width] > 0))
            continue;
        for (int i = 0; i < width; i++)
            sum[i] /= sum[width];
        qcnn_small_solve(width, r, sum);
        for (int i = 0; i < width; i++)
            codeword[i] = (float)sum[i];
    }
}

void qcnn_fit_code_lengths(const int *counts, int n_codewords, float *bits)
{
    double total = 0;
    for (int k = 0; k < n_codewords; k++)
        total += counts[k];
    for (int k = 0; k < n_codewords; k++)
        bits[k] = (float)log2(counts[k] > 0 ? total / counts[k] : 2 * total);
}

static void count_block(fit_state *s, int g, int b)
{
    int counts[QCNN_MAX_CODEWORDS] = { 0 };
    const uint8_t *assigned = s->assigned[g] + (size_t)b * (size_t)s->n_outputs;
    for (int o = 0; o < s->n_outputs; o++)
        counts[assigned[o]]++;
    qcnn_fit_code_lengths(counts, s->form->n_codewords, fit_bits(s, fit_set(s, g), s->blocks[b].m));
}

qcnn_status qcnn_fit_train(fit_state *s, int g, int b, const float *form, const float *points, int n_rounds, qcnn_error *error)
{
    const size_t width = (size_t)s->blocks[b].width;
    const size_t n_sums = (size_t)s->n_tiles * (size_t)s->form->n_codewords * (width + 1);
    train_job job = { .s = s, .g = g, .b = b, .form = form, .points = points };
    job.sums = qcnn_allocate(n_sums, sizeof *job.sums);
    double *r = qcnn_allocate(width * width, sizeof *r);
    qcnn_status status = job.sums && r ? QCNN_OK : qcnn_fail_memory(error, n_sums * sizeof *job.sums);
    for (size_t i = 0; status == QCNN_OK && i < width * width; i++)
        r[i] = (double)form[i];
    const bool moves = status == QCNN_OK && s->trained && !s->frozen && qcnn_small_cholesky((int)width, r);
    if (status == QCNN_OK)
        qcnn_for(s->options->parallel, s->n_tiles, train_tile, &job);
    for (int round = 0; moves && round < n_rounds; round++) {
        move_codewords(&job, r);
        if (s->options->price > 0)
            count_block(s, g, b);
        qcnn_for(s->options->parallel, s->n_tiles, train_tile, &job);
    }
    if (status == QCNN_OK && s->options->price > 0 && s->trained)
        count_block(s, g, b);
    qcnn_release(job.sums);
    qcnn_release(r);
    return status;
}
