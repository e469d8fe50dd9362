// SPDX-License-Identifier: Apache-2.0
// Minimise divergence + price * bits, layer by layer: at the right price the best network under a budget (Shoham and Gersho, 1988). Among
// settings that are nearly equal the fastest is taken.

#include "compress/search.h"

#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "compress/curves.h"

static const double lowest_share = 1.0 / 20; // of what a bit usually saves, where the row of prices begins
static const double nearly = 1.03;           // times the best: settings among which time decides
static const double steerable = 0.15;        // how much bits must change with the price (logarithms of both) to be steered by it
enum { N_BISECTIONS = 40, SECTION_BYTES = 48 + 32 + 32 }; // entry, description, padding

struct qcnn_search {
    const qcnn_model *original;
    qcnn_survey survey;
    qcnn_layer_curves *layers; // [survey.n_layers]
    double lowest;             // price above 0
    double fixed_bytes;        // of the file, all but the layers' weights
};

// A choice: for each layer the number of its curve.
typedef struct search_choice {
    double price, bytes, divergence;
    int *curves;
} search_choice;

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
    for (int i = 0; i < search->survey.n_layers; i++) {
        const qcnn_node *node = &search->original->nodes[search->survey.layers[i].node];
        const qcnn_tensor *weights = qcnn_node_weights(search->original, node), *bias = qcnn_node_bias(search->original, node);
        search->fixed_bytes += SECTION_BYTES - (double)qcnn_tensor_bytes(weights);
        if (bias)
            search->fixed_bytes -= (double)qcnn_tensor_bytes(bias) / 2;
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

static qcnn_status find_curves(qcnn_search *search, const qcnn_compress_options *options, const qcnn_layer_setting *fixed,
                               qcnn_error *error)
{
    const int n_layers = search->survey.n_layers;
    search->layers = qcnn_allocate_zeroed((size_t)n_layers, sizeof *search->layers);
    if (!search->layers)
        return qcnn_fail_memory(error, (size_t)n_layers * sizeof *search->layers);
    for (int i = 0; i < n_layers; i++) {
        const qcnn_surveyed_layer *layer = &search->survey.layers[i];
        const qcnn_progress *progress = options->progress;
        if (progress && progress->report(progress->context, "search", (double)i / n_layers))
            return qcnn_fail(error, QCNN_ERROR_CANCELLED, "cancelled while searching for settings");
        QCNN_TRY(qcnn_curves_find(search->original, layer, &fixed[layer->node], search->lowest, qcnn_rng_split(options->seed, layer->node),
                                  options->parallel, &search->layers[i], error));
    }
    return QCNN_OK;
}

qcnn_status qcnn_search_new(const qcnn_model *original, const qcnn_samples *samples, const qcnn_judge *judge,
                            const qcnn_compress_options *options, const qcnn_layer_setting *fixed, qcnn_search **result, qcnn_error *error)
{
    *result = NULL;
    qcnn_search *search = qcnn_allocate_zeroed(1, sizeof *search);
    if (!search)
        return qcnn_fail_memory(error, sizeof *search);
    search->original = original;
    qcnn_status status = qcnn_survey_make(original, samples, judge, qcnn_rng_split(options->seed, original->n_nodes + 1), options->parallel,
                                          options->progress, &search->survey, error);
    if (status == QCNN_OK)
        status = find_fixed_bytes(search, error);
    if (status == QCNN_OK)
        status = find_lowest(search, options->seed, error);
    if (status == QCNN_OK)
        status = find_curves(search, options, fixed, error);
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

// ---- choosing -------------------------------------------------------------------------------------------------------

static double cost_at(const qcnn_search *search, const qcnn_setting_curve *curve, double price)
{
    double bits, divergence;
    qcnn_curve_at(curve, search->lowest, price, &bits, &divergence);
    return divergence + price * bits;
}

static int best_curve(const qcnn_search *search, const qcnn_layer_curves *layer, double price)
{
    double least = INFINITY;
    for (int c = 0; c < layer->n_curves; c++)
        least = fmin(least, cost_at(search, &layer->curves[c], price));
    int best = 0;
    double time = INFINITY;
    for (int c = 0; c < layer->n_curves; c++)
        if (cost_at(search, &layer->curves[c], price) <= nearly * least && layer->curves[c].time < time) {
            time = layer->curves[c].time;
            best = c;
        }
    return best;
}

static void add_up(const qcnn_search *search, search_choice *choice)
{
    choice->bytes = search->fixed_bytes;
    choice->divergence = 0;
    for (int i = 0; i < search->survey.n_layers; i++) {
        double bits, divergence;
        qcnn_curve_at(&search->layers[i].curves[choice->curves[i]], search->lowest, choice->price, &bits, &divergence);
        choice->bytes += bits / 8;
        choice->divergence += divergence;
    }
}

static void choose(const qcnn_search *search, double price, search_choice *choice)
{
    choice->price = price;
    for (int i = 0; i < search->survey.n_layers; i++)
        choice->curves[i] = best_curve(search, &search->layers[i], price);
    add_up(search, choice);
}

// Spends what is left of the budget where it saves most divergence a byte.
static void spend_rest(const qcnn_search *search, double budget, search_choice *choice)
{
    for (bool found = true; found;) {
        double most = 0;
        int layer = -1, curve = -1;
        for (int i = 0; i < search->survey.n_layers; i++) {
            double bits, divergence;
            const qcnn_layer_curves *curves = &search->layers[i];
            qcnn_curve_at(&curves->curves[choice->curves[i]], search->lowest, choice->price, &bits, &divergence);
            for (int c = 0; c < curves->n_curves; c++) {
                double other_bits, other_divergence;
                qcnn_curve_at(&curves->curves[c], search->lowest, choice->price, &other_bits, &other_divergence);
                const double gain = (divergence - other_divergence) / (other_bits - bits);
                if (other_bits > bits && gain > most && choice->bytes + (other_bits - bits) / 8 <= budget) {
                    most = gain;
                    layer = i;
                    curve = c;
                }
            }
        }
        found = layer >= 0;
        if (found) {
            choice->curves[layer] = curve;
            add_up(search, choice);
        }
    }
}

// ---- settings -------------------------------------------------------------------------------------------------------

// How the bits of a setting follow the price: the slope of their logarithms.
static double slope_at(const qcnn_search *search, const qcnn_setting_curve *curve, double price)
{
    double below, above, ignored;
    qcnn_curve_at(curve, search->lowest, price / 2, &below, &ignored);
    qcnn_curve_at(curve, search->lowest, price * 2, &above, &ignored);
    return log((below + 1) / (above + 1)) / log(4);
}

// `scale`: of the bytes of layers that are steered.
static void write_settings(const qcnn_search *search, const search_choice *choice, double budget, qcnn_layer_setting *settings)
{
    double steered = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < search->survey.n_layers; i++) {
            const qcnn_surveyed_layer *layer = &search->survey.layers[i];
            const qcnn_setting_curve *curve = &search->layers[i].curves[choice->curves[i]];
            qcnn_layer_setting *setting = &settings[layer->node];
            double bits, divergence;
            qcnn_curve_at(curve, search->lowest, choice->price, &bits, &divergence);
            *setting = curve->setting;
            setting->price = layer->sensitivity > 0 && setting->subspace > 0 ? (float)(choice->price / layer->sensitivity) : 0;
            setting->expected_bytes = bits / 8;
            setting->steered = setting->price > 0 && slope_at(search, curve, choice->price) > steerable;
            if (pass == 0 && setting->steered)
                steered += bits / 8;
            if (pass == 1 && setting->steered && budget > 0)
                setting->expected_bytes *= fmax(0.5, 1 + (budget - choice->bytes) / steered);
        }
}

typedef enum search_goal { GOAL_BYTES, GOAL_DIVERGENCE } search_goal;

// The lowest price at which the file is no larger than `limit`, or the highest at which it diverges no more.
static qcnn_status find_price(const qcnn_search *search, search_goal goal, double limit, search_choice *choice, qcnn_error *error)
{
    double low = log(search->lowest) - 20, high = low + 20 + log(QCNN_PRICE_STEP) * QCNN_N_PRICES + 10;
    choose(search, exp(high), choice);
    if (goal == GOAL_BYTES && choice->bytes > limit)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "no settings make the file so small: at most about %.1f times are reached",
                         (double)qcnn_model_original_bytes(search->original) / choice->bytes);
    for (int i = 0; i < N_BISECTIONS; i++) {
        const double middle = (low + high) / 2;
        choose(search, exp(middle), choice);
        const bool dearer = goal == GOAL_BYTES ? choice->bytes > limit : choice->divergence < limit;
        if (dearer)
            low = middle;
        else
            high = middle;
    }
    choose(search, exp(goal == GOAL_BYTES ? high : low), choice);
    return QCNN_OK;
}

static qcnn_status settle(const qcnn_search *search, search_goal goal, double limit, qcnn_layer_setting *settings,
                          qcnn_search_result *result, qcnn_error *error)
{
    search_choice choice = { .curves = qcnn_allocate((size_t)search->survey.n_layers, sizeof *choice.curves) };
    if (!choice.curves)
        return qcnn_fail_memory(error, (size_t)search->survey.n_layers * sizeof *choice.curves);
    const qcnn_status status = find_price(search, goal, limit, &choice, error);
    if (status == QCNN_OK) {
        const double budget = goal == GOAL_BYTES ? limit : 0;
        spend_rest(search, budget, &choice);
        write_settings(search, &choice, budget, settings);
        *result = (qcnn_search_result){ choice.price, choice.bytes, choice.divergence };
    }
    qcnn_release(choice.curves);
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
