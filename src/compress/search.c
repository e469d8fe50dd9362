// SPDX-License-Identifier: Apache-2.0
// Minimise divergence + price * bits, layer by layer: at the right price the best network under a budget (Shoham and Gersho, 1988).

#include "compress/search.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "compress/checkpoint.h"
#include "compress/choice.h"
#include "compress/refine_checkpoint.h"

static const double lowest_share = 1.0 / 20; // of what a bit usually saves, where the row of prices begins
static const double steerable = 0.15;        // how much bits must change with the price (logarithms of both) to be steered by it
enum { N_BISECTIONS = 40, SECTION_BYTES = 48 + 32 + 32 }; // entry, description, padding

struct qcnn_search {
    const qcnn_model *original;
    qcnn_survey survey;
    qcnn_layer_curves *layers; // [survey.n_layers]
    double lowest;             // price above 0
    double fixed_bytes;        // of the file, all but the layers' weights
    double fixed_unfolded;     // bytes of memory, likewise
};

void qcnn_search_free(qcnn_search *search)
{
    if (!search)
        return;
    for (int i = 0; search->layers && i < search->survey.n_layers; i++)
        qcnn_curves_free(&search->layers[i]);
    qcnn_release(search->layers);
    qcnn_survey_free(&search->survey);
    qcnn_release(search);
}

// ---- preparation ----------------------------------------------------------------------------------------------------

// What the file takes beside the layers' weights, their biases in half precision.
static qcnn_status find_fixed_bytes(qcnn_search *search, qcnn_error *error)
{
    void *file;
    size_t n_bytes;
    QCNN_TRY(qcnn_save_memory(search->original, &file, &n_bytes, error));
    qcnn_bytes_free(file);
    search->fixed_bytes = (double)n_bytes;
    search->fixed_unfolded = 0;
    for (int i = 0; i < search->survey.n_layers; i++) {
        const qcnn_node *node = &search->original->nodes[search->survey.layers[i].node];
        const qcnn_tensor *weights = qcnn_node_weights(search->original, node), *bias = qcnn_node_bias(search->original, node);
        search->fixed_bytes += SECTION_BYTES - (double)qcnn_tensor_bytes(weights);
        if (bias) {
            search->fixed_bytes -= (double)qcnn_tensor_bytes(bias) / 2;
            search->fixed_unfolded += (double)qcnn_tensor_bytes(bias);
        }
    }
    return QCNN_OK;
}

// The lowest price above 0: a share of the divergence that a bit stands for where all layers have middling settings.
static qcnn_status find_lowest(qcnn_search *search, uint64_t seed, qcnn_error *error)
{
    double bits = 0, divergence = 0;
    for (int i = 0; i < search->survey.n_layers; i++) {
        double of_bits, of_divergence;
        QCNN_TRY(qcnn_curves_probe(search->original, &search->survey.layers[i], seed, &of_bits, &of_divergence, error));
        bits += of_bits;
        divergence += of_divergence;
    }
    search->lowest = bits > 0 && divergence > 0 ? lowest_share * divergence / bits : 1e-12;
    return QCNN_OK;
}

// Progress of a layer among all.
typedef struct layer_part {
    const qcnn_progress *outer;
    int layer, n_layers;
} layer_part;

static int report_layer(void *context, const char *stage, double fraction)
{
    const layer_part *part = context;
    return part->outer->report(part->outer->context, stage, (part->layer + fraction) / part->n_layers);
}

static qcnn_status find_curves(qcnn_search *search, const qcnn_compress_options *options, const qcnn_layer_setting *fixed,
                               qcnn_error *error)
{
    const int n_layers = search->survey.n_layers;
    search->layers = qcnn_allocate_zeroed((size_t)n_layers, sizeof *search->layers);
    if (!search->layers)
        return qcnn_fail_memory(error, (size_t)n_layers * sizeof *search->layers);
    for (int i = 0; i < n_layers; i++) {
        const qcnn_surveyed_layer *layer = &search->survey.layers[i];
        layer_part part = { options->progress, i, n_layers };
        const qcnn_progress progress = { report_layer, &part };
        QCNN_TRY(qcnn_curves_find(search->original, layer, &fixed[layer->node], search->lowest, qcnn_rng_split(options->seed, layer->node),
                                  options->parallel, options->progress ? &progress : NULL, &search->layers[i], error));
    }
    return QCNN_OK;
}

static qcnn_status find_out(qcnn_search *search, const qcnn_samples *samples, const qcnn_judge *judge, const qcnn_compress_options *options,
                            const qcnn_layer_setting *fixed, qcnn_error *error)
{
    QCNN_TRY(qcnn_survey_make(search->original, samples, judge, qcnn_rng_split(options->seed, search->original->n_nodes + 1),
                              options->parallel, options->progress, &search->survey, error));
    QCNN_TRY(find_lowest(search, options->seed, error));
    return find_curves(search, options, fixed, error);
}

// ---- the checkpoint -------------------------------------------------------------------------------------------------

// What is used of a survey and its curves once they are there.
typedef struct found_layer {
    uint64_t node;
    double sensitivity;
    int n_curves;
    qcnn_setting_curve curves[QCNN_MAX_CURVES];
} found_layer;

typedef struct found {
    double lowest, drop_per_divergence;
    uint64_t n_layers;
    found_layer layers[]; // [n_nodes], so that a file's size is known before it is read
} found;

static size_t found_bytes(const qcnn_search *search)
{
    return sizeof(found) + search->original->n_nodes * sizeof(found_layer);
}

static void note_down(const qcnn_search *search, found *f)
{
    f->lowest = search->lowest;
    f->drop_per_divergence = search->survey.drop_per_divergence;
    f->n_layers = (uint64_t)search->survey.n_layers;
    for (int i = 0; i < search->survey.n_layers; i++) {
        const qcnn_layer_curves *curves = &search->layers[i];
        f->layers[i].node = search->survey.layers[i].node;
        f->layers[i].sensitivity = search->survey.layers[i].sensitivity;
        f->layers[i].n_curves = curves->n_curves;
        memcpy(f->layers[i].curves, curves->curves, (size_t)curves->n_curves * sizeof *curves->curves);
    }
}

// A file is not trusted for having the right sum: every number that leads to memory is checked.
static bool is_sound(const qcnn_search *search, const found *f)
{
    const uint64_t n_nodes = search->original->n_nodes;
    if (f->n_layers > n_nodes)
        return false;
    for (uint64_t i = 0; i < f->n_layers; i++)
        if (f->layers[i].node >= n_nodes || !qcnn_node_weights(search->original, &search->original->nodes[f->layers[i].node]) ||
            f->layers[i].n_curves < 1 || f->layers[i].n_curves > QCNN_MAX_CURVES)
            return false;
    return true;
}

static qcnn_status take_over(qcnn_search *search, const found *f, qcnn_error *error)
{
    const size_t n_layers = (size_t)f->n_layers;
    search->survey.layers = qcnn_allocate_zeroed(n_layers, sizeof *search->survey.layers);
    search->layers = qcnn_allocate_zeroed(n_layers, sizeof *search->layers);
    if (!search->survey.layers || !search->layers)
        return qcnn_fail_memory(error, n_layers * sizeof *search->survey.layers);
    search->lowest = f->lowest;
    search->survey.drop_per_divergence = f->drop_per_divergence;
    search->survey.n_layers = (int)n_layers;
    for (size_t i = 0; i < n_layers; i++) {
        qcnn_layer_curves *curves = &search->layers[i];
        search->survey.layers[i].node = curves->node = (size_t)f->layers[i].node;
        search->survey.layers[i].sensitivity = f->layers[i].sensitivity;
        curves->n_curves = f->layers[i].n_curves;
        curves->curves = qcnn_allocate((size_t)curves->n_curves, sizeof *curves->curves);
        if (!curves->curves)
            return qcnn_fail_memory(error, (size_t)curves->n_curves * sizeof *curves->curves);
        memcpy(curves->curves, f->layers[i].curves, (size_t)curves->n_curves * sizeof *curves->curves);
    }
    return QCNN_OK;
}

// Takes over what an earlier run has found out, or finds it out and writes it down.
static qcnn_status resume(qcnn_search *search, const qcnn_samples *samples, const qcnn_judge *judge, const qcnn_compress_options *options,
                          const qcnn_layer_setting *fixed, qcnn_error *error)
{
    char path[4096];
    uint64_t key;
    const int n = options->checkpoint ? snprintf(path, sizeof path, "%s" QCNN_CHECKPOINT_SEARCH, options->checkpoint) : 0;
    if (n <= 0 || (size_t)n >= sizeof path)
        return find_out(search, samples, judge, options, fixed, error);
    QCNN_TRY(qcnn_checkpoint_key(search->original, fixed, options, &key, error));
    for (size_t i = 0; i < search->original->n_nodes; i++)
        key = qcnn_refine_key(key, &fixed[i].named, sizeof fixed[i].named);
    found *f = qcnn_allocate_zeroed(found_bytes(search), 1);
    if (!f)
        return qcnn_fail_memory(error, found_bytes(search));
    const qcnn_refine_block block = { f, found_bytes(search) };
    qcnn_status status;
    if (qcnn_refine_checkpoint_load(path, key, &block, 1) && is_sound(search, f)) {
        status = take_over(search, f, error);
    } else {
        status = find_out(search, samples, judge, options, fixed, error);
        if (status == QCNN_OK) {
            note_down(search, f);
            status = qcnn_refine_checkpoint_save(path, key, &block, 1, error);
        }
    }
    qcnn_release(f);
    return status;
}

qcnn_status qcnn_search_new(const qcnn_model *original, const qcnn_samples *samples, const qcnn_judge *judge,
                            const qcnn_compress_options *options, const qcnn_layer_setting *fixed, qcnn_search **result, qcnn_error *error)
{
    *result = NULL;
    qcnn_search *search = qcnn_allocate_zeroed(1, sizeof *search);
    if (!search)
        return qcnn_fail_memory(error, sizeof *search);
    search->original = original;
    qcnn_status status = resume(search, samples, judge, options, fixed, error);
    if (status == QCNN_OK)
        status = find_fixed_bytes(search, error);
    if (status != QCNN_OK) {
        qcnn_search_free(search);
        return status;
    }
    *result = search;
    return QCNN_OK;
}

double qcnn_search_drop_rate(const qcnn_search *search)
{
    return fmax(search->survey.drop_per_divergence, 0.01);
}

// ---- settings -------------------------------------------------------------------------------------------------------

// How the bits of a setting follow the price: the slope of their logarithms.
static double slope_at(const qcnn_search *search, const qcnn_setting_curve *curve, double price)
{
    const double below = qcnn_curve_at(curve, search->lowest, price / 2).bits, above = qcnn_curve_at(curve, search->lowest, price * 2).bits;
    return log((below + 1) / (above + 1)) / log(4);
}

// Without a budget nothing is steered: the price is what counts.
static void write_settings(const qcnn_search *search, const qcnn_choice *choice, double budget, qcnn_layer_setting *settings)
{
    double steered = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < search->survey.n_layers; i++) {
            const qcnn_surveyed_layer *layer = &search->survey.layers[i];
            const qcnn_setting_curve *curve = &search->layers[i].curves[choice->curves[i]];
            qcnn_layer_setting *setting = &settings[layer->node];
            const qcnn_setting_point point = qcnn_curve_at(curve, search->lowest, choice->price);
            *setting = curve->setting;
            setting->price = layer->sensitivity > 0 && point.priced ? (float)(choice->price / layer->sensitivity) : 0;
            setting->expected_bytes = point.bits / 8;
            setting->steered = budget > 0 && setting->price > 0 && slope_at(search, curve, choice->price) > steerable;
            if (pass == 0 && setting->steered)
                steered += point.bits / 8;
            if (pass == 1 && setting->steered && budget > 0)
                setting->expected_bytes *= fmax(0.5, 1 + (budget - choice->bytes) / steered);
        }
}

typedef enum search_goal { GOAL_BYTES, GOAL_DIVERGENCE } search_goal;

// The lowest price at which the file is no larger than `limit`, or the highest at which it diverges no more.
static qcnn_status find_price(const qcnn_search *search, search_goal goal, double limit, qcnn_choice *choice, qcnn_error *error)
{
    double low = log(search->lowest) - 20, high = low + 20 + log(QCNN_PRICE_STEP) * QCNN_N_PRICES + 10;
    qcnn_choose(choice, exp(high));
    if (goal == GOAL_BYTES && choice->bytes > limit)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "no settings make the file so small: at most about %.1f times are reached",
                         (double)qcnn_model_original_bytes(search->original) / choice->bytes);
    for (int i = 0; i < N_BISECTIONS; i++) {
        const double middle = (low + high) / 2;
        qcnn_choose(choice, exp(middle));
        const bool dearer = goal == GOAL_BYTES ? choice->bytes > limit : choice->divergence < limit;
        if (dearer)
            low = middle;
        else
            high = middle;
    }
    qcnn_choose(choice, exp(goal == GOAL_BYTES ? high : low));
    return QCNN_OK;
}

static qcnn_status settle(const qcnn_search *search, search_goal goal, double limit, qcnn_layer_setting *settings,
                          qcnn_search_result *result, qcnn_error *error)
{
    const qcnn_choice_problem problem = { search->layers, search->survey.n_layers, search->lowest, search->fixed_bytes,
                                          search->fixed_unfolded };
    qcnn_choice choice;
    qcnn_status status = qcnn_choice_new(&problem, &choice, error);
    if (status == QCNN_OK)
        status = find_price(search, goal, limit, &choice, error);
    if (status == QCNN_OK) {
        const double budget = goal == GOAL_BYTES ? limit : 0;
        qcnn_choice_spend(&choice, budget);
        write_settings(search, &choice, budget, settings);
        *result = (qcnn_search_result){ choice.price, choice.bytes, choice.divergence };
    }
    qcnn_choice_free(&choice);
    return status;
}

qcnn_status qcnn_search_for_bytes(const qcnn_search *search, double file_bytes, qcnn_layer_setting *settings, qcnn_search_result *result,
                                  qcnn_error *error)
{
    return settle(search, GOAL_BYTES, file_bytes, settings, result, error);
}

qcnn_status qcnn_search_for_divergence(const qcnn_search *search, double divergence, qcnn_layer_setting *settings,
                                       qcnn_search_result *result, qcnn_error *error)
{
    return settle(search, GOAL_DIVERGENCE, divergence, settings, result, error);
}
