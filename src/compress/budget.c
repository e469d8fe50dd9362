// SPDX-License-Identifier: Apache-2.0
// Compressing to a size or to a loss: settings from the search, the compression itself, and a measurement. Where that misses the goal
// the aim that the search was given is corrected by what was measured, and it is done again, a few times at most.

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "compress/compress.h"
#include "compress/ranges.h"
#include "compress/search.h"

enum { N_ATTEMPTS = 3, SURVEY_IMAGES = 128 };
static const double ratio_tolerance = 0.019, ratio_promise = 0.02, drop_tolerance = 0.25;
static const double first_caution = 2; // times what noise in the weights loses: fits of whole networks lose more at the same divergence

typedef struct budget {
    const qcnn_model *original;
    const qcnn_compress_options *options;
    qcnn_compress_options attempts;               // the same without refinement
    qcnn_layer_setting *settings, *best_settings; // [n_nodes]: of an attempt, of the best one
    qcnn_samples samples;
    qcnn_judge *few, *all; // held-out images: for the survey, for what was compressed
    qcnn_search *search;
    qcnn_model *best;
    double best_bytes;
} budget;

static qcnn_status file_bytes(const qcnn_model *model, double *n_bytes, qcnn_error *error)
{
    void *file;
    size_t n;
    QCNN_TRY(qcnn_save_memory(model, &file, &n, error));
    qcnn_bytes_free(file);
    *n_bytes = (double)(n + qcnn_ranges_bytes(model)); // which come at the very end
    return QCNN_OK;
}

static qcnn_status prepare(budget *b, const qcnn_layer_setting *named, qcnn_error *error)
{
    QCNN_TRY(qcnn_samples_open(b->original, b->options->calibration, b->options->preprocess,
                               qcnn_rng_split(b->options->seed, b->original->n_nodes), &b->samples, error));
    const int n_held = b->samples.n_images[QCNN_PART_HELD_OUT];
    const qcnn_part part = n_held > 0 ? QCNN_PART_HELD_OUT : QCNN_PART_FIT;
    const int n = b->samples.n_images[part], n_few = n < SURVEY_IMAGES ? n : SURVEY_IMAGES;
    QCNN_TRY(qcnn_judge_new(b->original, &b->samples, part, n_few, b->options->parallel, b->options->progress, &b->few, error));
    if (b->options->max_drop > 0)
        QCNN_TRY(qcnn_judge_new(b->original, &b->samples, part, n, b->options->parallel, b->options->progress, &b->all, error));
    return qcnn_search_new(b->original, &b->samples, b->few, b->options, named, &b->search, error);
}

static void keep(budget *b, qcnn_model *model, double n_bytes)
{
    qcnn_model_free(b->best);
    b->best = model;
    b->best_bytes = n_bytes;
    memcpy(b->best_settings, b->settings, b->original->n_nodes * sizeof *b->settings);
}

// ---- aims -----------------------------------------------------------------------------------------------------------

// The nearest that was tried on either side of what is wanted, as logarithms: what was aimed at, and what came of it.
typedef struct aims {
    double wanted, widest; // at most so far from one aim to the next
    double aim[2], result[2];
    bool tried[2]; // too little, too much
} aims;

// Between two results where there is one on either side, otherwise as far as the last result was off.
static double next_aim(aims *a, double aim, double result)
{
    const double x = log(aim), y = log(fmax(result, 1e-12));
    const int side = y > a->wanted;
    a->tried[side] = true;
    a->aim[side] = x;
    a->result[side] = y;
    if (!a->tried[!side])
        return exp(x + fmin(fmax(a->wanted - y, -a->widest), a->widest));
    const double share = (a->wanted - a->result[0]) / (a->result[1] - a->result[0]);
    return exp(a->aim[0] + fmin(fmax(share, 0.1), 0.9) * (a->aim[1] - a->aim[0]));
}

// ---- a size ---------------------------------------------------------------------------------------------------------

static qcnn_status try_size(budget *b, double asked, double wanted, qcnn_search_result *expected, double *n_bytes, qcnn_error *error)
{
    qcnn_model *model;
    QCNN_TRY(qcnn_search_for_bytes(b->search, asked, b->settings, expected, error));
    QCNN_TRY(qcnn_compress_with(b->original, b->settings, &b->attempts, &model, error));
    const qcnn_status status = file_bytes(model, n_bytes, error);
    if (status == QCNN_OK && (!b->best || fabs(*n_bytes - wanted) < fabs(b->best_bytes - wanted)))
        keep(b, model, *n_bytes);
    else
        qcnn_model_free(model);
    return status;
}

// A file that misses the size by more than is promised is still the nearest that was found: its user should know.
static void tell_of_a_miss(const budget *b, double wanted)
{
    char message[160];
    if (!b->options->note || fabs(b->best_bytes - wanted) <= ratio_promise * wanted)
        return;
    snprintf(message, sizeof message,
             "the nearest file that %d attempts found is %.2f times smaller, not %g: --rate-price and --set give others", N_ATTEMPTS,
             wanted / b->best_bytes * b->options->ratio, b->options->ratio);
    b->options->note(b->options->note_context, message);
}

static qcnn_status compress_to_ratio(budget *b, qcnn_error *error)
{
    const double wanted = (double)qcnn_model_original_bytes(b->original) / b->options->ratio;
    aims tried = { .wanted = log(wanted), .widest = log(1.5) };
    double asked = 0.99 * wanted; // rather a little too small than too large
    for (int attempt = 0; attempt < N_ATTEMPTS; attempt++) {
        qcnn_search_result expected;
        double n_bytes = 0;
        b->attempts.checkpoint = attempt == 0 ? b->options->checkpoint : NULL; // one file for the longest part: the first attempt
        const qcnn_status status = try_size(b, asked, wanted, &expected, &n_bytes, error);
        if (status == QCNN_ERROR_ARGUMENT && b->best)
            break; // the corrected aim is beyond all settings
        QCNN_TRY(status);
        if (fabs(n_bytes - wanted) <= ratio_tolerance * wanted || expected.file_bytes < (1 - ratio_tolerance) * asked)
            break; // near enough, or already all that settings can give
        asked = next_aim(&tried, asked, n_bytes);
    }
    tell_of_a_miss(b, wanted);
    return QCNN_OK;
}

// ---- a loss ---------------------------------------------------------------------------------------------------------

static qcnn_status try_divergence(budget *b, double divergence, double limit, double *drop, qcnn_error *error)
{
    qcnn_search_result expected;
    qcnn_model *model;
    qcnn_verdict verdict = { 0 };
    double n_bytes = 0;
    QCNN_TRY(qcnn_search_for_divergence(b->search, divergence, b->settings, &expected, error));
    QCNN_TRY(qcnn_compress_with(b->original, b->settings, &b->attempts, &model, error));
    qcnn_status status = qcnn_judge_model(b->all, model, b->options->progress, &verdict, error);
    if (status == QCNN_OK)
        status = file_bytes(model, &n_bytes, error);
    *drop = verdict.drop;
    if (status == QCNN_OK && verdict.drop <= limit && (!b->best || n_bytes < b->best_bytes))
        keep(b, model, n_bytes);
    else
        qcnn_model_free(model);
    return status;
}

static qcnn_status compress_to_drop(budget *b, qcnn_error *error)
{
    const double limit = b->options->max_drop / 100;
    aims tried = { .wanted = log((1 - drop_tolerance / 2) * limit), .widest = log(3) };
    double divergence = limit / (first_caution * qcnn_search_drop_rate(b->search)), drop = 0;
    for (int attempt = 0; attempt < N_ATTEMPTS || (!b->best && attempt < 2 * N_ATTEMPTS); attempt++) {
        b->attempts.checkpoint = attempt == 0 ? b->options->checkpoint : NULL;
        QCNN_TRY(try_divergence(b, divergence, limit, &drop, error));
        if (drop <= limit && drop >= (1 - drop_tolerance) * limit)
            break;
        divergence = next_aim(&tried, divergence, drop);
    }
    if (!b->best)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "no settings lose as little as %g point%s: the least that was reached is %.2f",
                         b->options->max_drop, b->options->max_drop == 1 ? "" : "s", 100 * drop);
    return QCNN_OK;
}

qcnn_status qcnn_compress_to_budget(const qcnn_model *original, const qcnn_layer_setting *named, const qcnn_compress_options *options,
                                    qcnn_model **compressed, qcnn_error *error)
{
    budget b = { .original = original, .options = options, .attempts = *options };
    b.attempts.refine_minutes = 0;
    b.settings = qcnn_allocate_zeroed(original->n_nodes, sizeof *b.settings);
    b.best_settings = qcnn_allocate_zeroed(original->n_nodes, sizeof *b.best_settings);
    qcnn_status status =
        b.settings && b.best_settings ? prepare(&b, named, error) : qcnn_fail_memory(error, original->n_nodes * sizeof *b.settings);
    if (status == QCNN_OK)
        status = options->ratio > 0 ? compress_to_ratio(&b, error) : compress_to_drop(&b, error);
    if (status == QCNN_OK && options->refine_minutes > 0) {
        status = qcnn_compress_with(original, b.best_settings, options, compressed, error);
    } else if (status == QCNN_OK) {
        *compressed = b.best;
        b.best = NULL;
    }
    qcnn_model_free(b.best);
    qcnn_search_free(b.search);
    qcnn_judge_free(b.few);
    qcnn_judge_free(b.all);
    qcnn_samples_close(&b.samples);
    qcnn_release(b.settings);
    qcnn_release(b.best_settings);
    return status;
}
