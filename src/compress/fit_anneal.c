// SPDX-License-Identifier: Apache-2.0
// Simulated annealing of the assignments. With every codeword a sum of many, the objective has as many local minima as a glass, and descent
// ends in a poor one. Here sweeps take the codeword of least cost + temperature * noise, the noise of Gumbel's distribution: which draws
// codewords with probabilities exp(-cost / temperature), as a heat bath does (Kirkpatrick, Gelatt, Vecchi, 1983). The temperature falls to
// nothing, codebooks follow every few sweeps, and sweeps without noise end it. What was there before is kept if it was better.

#include <math.h>
#include <string.h>

#include "base/parallel.h"
#include "base/rng.h"
#include "compress/fit_state.h"
#include "compress/gemm_bf16.h"
#include "compress/nearest.h"

enum { SOLVE_EVERY = 2, RENEW_EVERY = 16 }; // sweeps between two solves, and between residuals computed anew

// In mean errors of a block of an output.
static const double first_temperature = 0.55, last_temperature = 0.05;

// What annealing may lose.
typedef struct fit_saved {
    float *codewords, *bits;
    uint8_t *assigned; // of all groups
    size_t n_codewords, n_bits, n_assigned;
    double objective;
} fit_saved;

static void copy_state(fit_state *s, fit_saved *saved, bool back)
{
    memcpy(back ? s->codewords : saved->codewords, back ? saved->codewords : s->codewords, saved->n_codewords * sizeof(float));
    memcpy(back ? s->bits : saved->bits, back ? saved->bits : s->bits, saved->n_bits * sizeof(float));
    for (int g = 0; g < s->form->groups; g++) {
        uint8_t *copy = saved->assigned + (size_t)g * saved->n_assigned;
        memcpy(back ? s->assigned[g] : copy, back ? copy : s->assigned[g], saved->n_assigned);
    }
}

static void make_noise(float *noise, uint64_t seed)
{
    qcnn_rng rng = { seed };
    for (int i = 0; i < QCNN_NOISE + QCNN_NOISE_READ; i++)
        noise[i] = i < QCNN_NOISE ? (float)-log(-log((qcnn_rng_unit(&rng) + 0x1p-54) * (1 - 0x1p-50))) : noise[i - QCNN_NOISE];
}

static void set_temperature(fit_state *s, double temperature)
{
    s->hot = temperature > 0;
    for (size_t i = 0; i < (size_t)s->form->groups * s->padded; i++)
        s->temperature[i] = (float)temperature / s->importance[i];
}

void qcnn_fit_product(const fit_state *s, const qcnn_gemm_call *call, int worker)
{
    if (s->hot && s->products && call->m >= QCNN_GEMM_BF16_ROWS && call->n >= QCNN_GEMM_BF16_COLUMNS)
        qcnn_gemm_bf16(call, s->products + (size_t)worker * s->products_floats);
    else
        qcnn_gemm_serial(call);
}

// ---- G in bfloat16 --------------------------------------------------------------------------------------------------

// Words of a panel.
static size_t packed_words(const fit_state *s)
{
    return (size_t)(s->panel_rows + 1) / 2 * (size_t)((s->n + QCNN_GEMM_BF16_ROWS - 1) / QCNN_GEMM_BF16_ROWS * QCNN_GEMM_BF16_ROWS);
}

// Packs the columns of a panel. Its own rows are zero: they have been brought up to date.
static void pack_panel(void *argument, int index, int worker)
{
    (void)worker;
    const fit_state *s = argument;
    const int g = index / s->n_panels, panel = index % s->n_panels;
    int first = 0;
    for (int i = 0; i < panel; i++)
        first = qcnn_fit_panel_end(s, first);
    const fit_block *begin = &s->blocks[first], *last = &s->blocks[qcnn_fit_panel_end(s, first) - 1];
    const int n_rows = last->row + last->width - begin->row;
    uint32_t *to = s->packed[g] + (size_t)panel * packed_words(s);
    qcnn_bf16_pack(s->problem->gram[g] + begin->row, (size_t)s->n, 1, s->n, n_rows, QCNN_GEMM_BF16_ROWS, to);
    for (int row = begin->row; row < begin->row + n_rows; row++)
        for (int pair = 0; pair < (n_rows + 1) / 2; pair++)
            to[((size_t)(row / QCNN_GEMM_BF16_ROWS) * (size_t)((n_rows + 1) / 2) + (size_t)pair) * QCNN_GEMM_BF16_ROWS +
               (size_t)(row % QCNN_GEMM_BF16_ROWS)] = 0;
}

void qcnn_fit_add_packed(const fit_state *s, int g, int panel, int tile, int n_rows, const float *change, size_t stride, int worker)
{
    const int pairs = (n_rows + 1) / 2, width = fit_tile_width(s, tile);
    uint32_t *columns = (uint32_t *)(void *)(s->products + (size_t)worker * s->products_floats);
    qcnn_bf16_pack(change, 1, stride, width, n_rows, QCNN_GEMM_BF16_COLUMNS, columns);
    qcnn_bf16_multiply(s->n, width, pairs, s->packed[g] + (size_t)panel * packed_words(s), columns, true,
                       s->residual[g] + (size_t)tile * s->tile, (size_t)s->n_outputs);
}

static void release_packed(fit_state *s)
{
    for (int g = 0; s->packed && g < s->form->groups; g++)
        qcnn_release(s->packed[g]);
    qcnn_release(s->packed);
    s->packed = NULL;
}

static bool pack_gram(fit_state *s)
{
    for (int b = s->n_panels = 0; b < s->n_blocks; s->n_panels++)
        b = qcnn_fit_panel_end(s, b);
    s->packed = qcnn_allocate_zeroed((size_t)s->form->groups, sizeof *s->packed);
    bool have = s->packed;
    for (int g = 0; have && g < s->form->groups; g++) {
        s->packed[g] = qcnn_allocate((size_t)s->n_panels * packed_words(s), sizeof **s->packed);
        have = s->packed[g];
    }
    if (have)
        qcnn_for(s->options->parallel, s->form->groups * s->n_panels, pack_panel, s);
    return have;
}

// ---- sweeps ---------------------------------------------------------------------------------------------------------

static qcnn_status hot_sweep(fit_state *s, int i, qcnn_error *error)
{
    s->draw++;
    QCNN_TRY(qcnn_fit_descend(s, error));
    if (i % SOLVE_EVERY == SOLVE_EVERY - 1)
        QCNN_TRY(qcnn_fit_solve(s, error));
    if (i % RENEW_EVERY == RENEW_EVERY - 1)
        qcnn_fit_find_residual(s);
    return QCNN_OK;
}

static qcnn_status cold_sweep(fit_state *s, qcnn_error *error)
{
    qcnn_fit_find_residual(s);
    QCNN_TRY(qcnn_fit_descend(s, error));
    return qcnn_fit_solve(s, error);
}

static qcnn_status anneal(fit_state *s, double unit, qcnn_error *error)
{
    const int n = s->options->n_annealing;
    for (int i = 0; i < n; i++, s->step++) {
        set_temperature(s, unit * (last_temperature + (first_temperature - last_temperature) * (n - i) / n));
        QCNN_TRY(hot_sweep(s, i, error));
    }
    set_temperature(s, 0);
    for (int i = 0; i < FIT_LAST_SWEEPS; i++, s->step++)
        QCNN_TRY(cold_sweep(s, error));
    return QCNN_OK;
}

static qcnn_status anneal_or_stay(fit_state *s, fit_saved *saved, qcnn_error *error)
{
    make_noise(s->noise, qcnn_rng_split(s->options->seed, (uint64_t)s->n));
    saved->objective = qcnn_fit_objective(s);
    copy_state(s, saved, false);
    const double unit = saved->objective / ((double)s->form->groups * s->n_blocks * s->n_outputs);
    QCNN_TRY(anneal(s, unit, error));
    if (!(qcnn_fit_objective(s) < saved->objective)) {
        copy_state(s, saved, true);
        qcnn_fit_decode(s);
    }
    return QCNN_OK;
}

qcnn_status qcnn_fit_anneal(fit_state *s, qcnn_error *error)
{
    const size_t groups = (size_t)s->form->groups;
    fit_saved saved = { .n_assigned = (size_t)s->n_blocks * (size_t)s->n_outputs };
    saved.n_bits = (size_t)s->form->n_sets * (size_t)s->form->n_subspaces * (size_t)s->form->n_codewords;
    saved.n_codewords = saved.n_bits * (size_t)s->form->subspace;
    saved.codewords = qcnn_allocate(saved.n_codewords, sizeof(float));
    saved.bits = qcnn_allocate(saved.n_bits, sizeof(float));
    saved.assigned = qcnn_allocate(groups * saved.n_assigned, 1);
    s->noise = qcnn_allocate(QCNN_NOISE + QCNN_NOISE_READ, sizeof(float));
    s->temperature = qcnn_allocate(groups * s->padded, sizeof(float));
    s->products_floats = qcnn_gemm_bf16_scratch(s->n);
    const bool bf16 = qcnn_gemm_bf16_available();
    if (bf16)
        s->products = qcnn_allocate((size_t)qcnn_n_workers(s->options->parallel) * s->products_floats, sizeof(float));
    const bool have =
        (!bf16 || (s->products && pack_gram(s))) && saved.codewords && saved.bits && saved.assigned && s->noise && s->temperature;
    const qcnn_status status =
        have ? anneal_or_stay(s, &saved, error) : qcnn_fail_memory(error, groups * saved.n_assigned + saved.n_codewords * sizeof(float));
    qcnn_release(saved.codewords);
    qcnn_release(saved.bits);
    qcnn_release(saved.assigned);
    qcnn_release(s->noise);
    qcnn_release(s->temperature);
    qcnn_release(s->products);
    release_packed(s);
    s->noise = s->temperature = s->products = NULL;
    s->hot = false;
    return status;
}
