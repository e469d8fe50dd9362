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
    const bool have = (s->products || !bf16) && saved.codewords && saved.bits && saved.assigned && s->noise && s->temperature;
    const qcnn_status status =
        have ? anneal_or_stay(s, &saved, error) : qcnn_fail_memory(error, groups * saved.n_assigned + saved.n_codewords * sizeof(float));
    qcnn_release(saved.codewords);
    qcnn_release(saved.bits);
    qcnn_release(saved.assigned);
    qcnn_release(s->noise);
    qcnn_release(s->temperature);
    qcnn_release(s->products);
    s->noise = s->temperature = s->products = NULL;
    s->hot = false;
    return status;
}
