// SPDX-License-Identifier: Apache-2.0
// The walk from layer to layer. For each: statistics over samples, the corrected target, the fit, the bias from the means.

#include "compress/correction.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "coding/encode.h"
#include "compress/blas.h"
#include "compress/calibration.h"
#include "compress/checkpoint.h"
#include "compress/fit.h"
#include "compress/importance.h"
#include "compress/install.h"
#include "compress/quantize.h"
#include "compress/round.h"
#include "compress/sensitivity.h"
#include "compress/target.h"

typedef struct qcnn_corrector {
    const qcnn_model *original;
    qcnn_model *compressed;
    const qcnn_layer_setting *settings, *all_settings; // of this correction, of all
    const qcnn_compress_options *options;
    qcnn_calibration *calibration; // NULL before the first
    const bool *done;              // [n_nodes]: layers that are quantized
    float **importances;           // [node]: of each output channel, mean 1; NULL for a node or for all: not known
    float **fishers;               // [node]: of each convolution, between the outputs of a group; NULL: not known
    double *scales;                // [node]: what they were divided by, the derivative of the divergence by the mean squared error
    bool asked_importances;
} correction;

static const char *name_of(const qcnn_node *node)
{
    return node->name ? node->name : "";
}

// Progress of a layer: its first part is the walk, the second the fit.
typedef struct part {
    const qcnn_progress *outer;
    double begin, end;
} part;

// MOST_...: outputs of a convolution's group and of a fully-connected layer beyond which they are not taken together.
enum { PROBE_SAMPLES = 100, IMPORTANCE_SAMPLES = 384, MOST_CHANNELS = 1024, MOST_OUTPUTS = 8192 };

static const double walk_share = 0.6;

static int report_part(void *context, const char *stage, double fraction)
{
    const part *p = context;
    return p->outer->report(p->outer->context, stage, p->begin + (p->end - p->begin) * fraction);
}

static qcnn_status gather(correction *c, size_t n, qcnn_statistics *statistics, qcnn_error *error)
{
    const part first = { c->options->progress, 0, walk_share };
    const qcnn_progress progress = { report_part, (void *)&first };
    return qcnn_calibration_gather(c->calibration, n, c->options->progress ? &progress : NULL, statistics, error);
}

// ---- a layer --------------------------------------------------------------------------------------------------------

// Weights of a codebook as matrices of statistics' layout, into w[g].
static qcnn_status decode(const qcnn_codebook *book, const qcnn_statistics *s, float **w, qcnn_error *error)
{
    enum { SIDE = 16 };
    const size_t n = (size_t)s->n, n_outputs = (size_t)s->n_outputs, n_channels = (size_t)book->n_inputs, n_taps = (size_t)book->n_taps;
    float *flat = qcnn_allocate((size_t)s->groups * n * n_outputs, sizeof *flat);
    if (!flat)
        return qcnn_fail_memory(error, (size_t)s->groups * n * n_outputs * sizeof *flat);
    qcnn_codebook_decode(book, flat);
    for (int g = 0; g < s->groups; g++)
        for (size_t first = 0; first < n_outputs; first += SIDE) // cache lines at both ends
            for (size_t c = 0; c < n_channels; c++)
                for (size_t t = 0; t < n_taps; t++)
                    for (size_t o = first; o < n_outputs && o < first + SIDE; o++)
                        w[g][(t * n_channels + c) * n_outputs + o] = flat[(((size_t)g * n_outputs + o) * n_channels + c) * n_taps + t];
    qcnn_release(flat);
    return QCNN_OK;
}

// Installs codebook, error and bias. s->cross (no longer needed) receives the weights.
static qcnn_status install(correction *c, size_t n, qcnn_statistics *s, qcnn_tensor *tensor, qcnn_error *error)
{
    qcnn_install_codebook(c->compressed, n, tensor);
    qcnn_tensor *weights = qcnn_node_weights(c->compressed, &c->compressed->nodes[n]);
    QCNN_TRY(decode(&weights->codebook, s, s->cross, error));
    double relative;
    QCNN_TRY(qcnn_response_error(s, s->cross, c->options->parallel, &relative, error));
    weights->error = s->n_held > 0 && isfinite(relative) ? (float)relative : -1; // else it is measured in the end (response.c)

    const size_t rows = (size_t)s->n, n_outputs = (size_t)s->n_outputs, n_all = (size_t)s->groups * n_outputs;
    const qcnn_tensor *old = qcnn_node_bias(c->original, &c->original->nodes[n]);
    float *bias = qcnn_allocate(n_all, sizeof *bias);
    double *sums = qcnn_allocate(n_all, sizeof *sums);
    if (!bias || !sums) {
        qcnn_release(bias);
        qcnn_release(sums);
        return qcnn_fail_memory(error, n_all * sizeof *sums);
    }
    for (size_t o = 0; o < n_all; o++)
        sums[o] = old ? (double)old->data[o] : 0;
    for (int g = 0; g < s->groups; g++)
        for (size_t i = 0; i < rows; i++)
            for (size_t o = 0; o < n_outputs; o++)
                sums[(size_t)g * n_outputs + o] += s->wanted_mean[(size_t)g * rows + i] * (double)s->weights[g][i * n_outputs + o] -
                                                   s->input_mean[(size_t)g * rows + i] * (double)s->cross[g][i * n_outputs + o];
    for (size_t o = 0; o < n_all; o++)
        bias[o] = (float)sums[o];
    qcnn_release(sums);
    return qcnn_install_bias(c->compressed, n, bias, error);
}

// ---- importances ----------------------------------------------------------------------------------------------------

static void free_importances(correction *c)
{
    for (size_t n = 0; c->importances && n < c->original->n_nodes; n++)
        qcnn_release(c->importances[n]);
    for (size_t n = 0; c->fishers && n < c->original->n_nodes; n++)
        qcnn_release(c->fishers[n]);
    qcnn_release(c->importances);
    qcnn_release(c->fishers);
    c->fishers = NULL;
    qcnn_release(c->scales);
    c->importances = NULL;
    c->scales = NULL;
}

// Of all layers that get a codebook. A network that gradients cannot pass has none.
static qcnn_status find_importances(correction *c, qcnn_error *error)
{
    const size_t n_nodes = c->original->n_nodes;
    c->asked_importances = true;
    c->importances = qcnn_allocate_zeroed(n_nodes, sizeof *c->importances);
    c->fishers = qcnn_allocate_zeroed(n_nodes, sizeof *c->fishers);
    c->scales = qcnn_allocate_zeroed(n_nodes, sizeof *c->scales);
    if (!c->importances || !c->fishers || !c->scales)
        return qcnn_fail_memory(error, n_nodes * sizeof *c->importances);
    for (size_t n = 0; n < n_nodes; n++) {
        if (c->all_settings[n].subspace == 0)
            continue;
        const size_t n_outputs = (size_t)qcnn_node_weights(c->original, &c->original->nodes[n])->shape.dims[0];
        c->importances[n] = qcnn_allocate_zeroed(n_outputs, sizeof(float));
        if (!c->importances[n])
            return qcnn_fail_memory(error, n_outputs * sizeof(float));
        if (c->original->nodes[n].op != QCNN_OP_CONV || n_outputs > MOST_CHANNELS)
            continue;
        c->fishers[n] = qcnn_allocate(n_outputs * n_outputs / (size_t)c->original->nodes[n].attributes.groups, sizeof(float));
        if (!c->fishers[n])
            return qcnn_fail_memory(error, n_outputs * n_outputs * sizeof(float));
    }
    const qcnn_status status = qcnn_importances(c->original, qcnn_calibration_samples(c->calibration), IMPORTANCE_SAMPLES, c->options->seed,
                                                c->options->parallel, c->options->progress, c->importances, c->fishers, error);
    if (status == QCNN_ERROR_UNSUPPORTED) {
        free_importances(c);
        return QCNN_OK;
    }
    for (size_t n = 0; status == QCNN_OK && n < n_nodes; n++)
        if (c->importances[n])
            c->scales[n] = qcnn_importances_normalise(c->importances[n],
                                                      (size_t)qcnn_node_weights(c->original, &c->original->nodes[n])->shape.dims[0]);
    return status;
}

// What a bit of this layer is worth in its response error; 0 where nothing is known of it.
static qcnn_status find_price(const correction *c, size_t n, const qcnn_statistics *s, double *price, qcnn_error *error)
{
    double sensitivity;
    *price = (double)c->settings[n].price;
    if (*price > 0 || c->options->rate_price <= 0)
        return QCNN_OK;
    if (c->importances)
        sensitivity = c->scales[n];
    else
        QCNN_TRY(qcnn_sensitivity(c->original, n, s, qcnn_calibration_samples(c->calibration), PROBE_SAMPLES,
                                  qcnn_rng_split(c->options->seed, n), c->options->parallel, &sensitivity, error));
    if (sensitivity > 0)
        *price = c->options->rate_price / sensitivity;
    return QCNN_OK;
}

// The bytes that the layers before node n have left of what was expected of them go to those that are steered, in proportion.
static double share_of_rest(const correction *c, size_t n)
{
    double steered = 0, left = 0;
    for (size_t i = 0; i < n; i++)
        if (c->done[i] && c->settings[i].expected_bytes > 0)
            left += c->settings[i].expected_bytes -
                    (double)qcnn_codebook_coded_bytes(&qcnn_node_weights(c->compressed, &c->compressed->nodes[i])->codebook);
    for (size_t i = n; i < c->original->n_nodes; i++)
        steered += c->settings[i].steered ? c->settings[i].expected_bytes : 0;
    const double share = steered > 0 ? left * c->settings[n].expected_bytes / steered : 0;
    return share < -0.5 * c->settings[n].expected_bytes ? -0.5 * c->settings[n].expected_bytes : share;
}

// ---- course ---------------------------------------------------------------------------------------------------------

// So many that a layer takes some twenty seconds, each being about a product with its second moments. Codebooks of many bits a weight err
// so little that it does not matter.
static int annealing_sweeps(const qcnn_statistics *s, const qcnn_layer_setting *setting)
{
    static const double operations = 4e11, most_bits = 3;
    enum { LEAST = 20, MOST = 200 };
    if (log2(setting->n_codewords) / setting->subspace >= most_bits)
        return 0;
    const double n = operations / ((double)s->groups * s->n * s->n * s->n_outputs);
    return n < LEAST ? LEAST : n > MOST ? MOST : (int)n;
}

// What a layer errs before correction.
typedef struct start_error {
    const qcnn_statistics *statistics;
    const qcnn_parallel *parallel;
    double relative;
} start_error;

static qcnn_status measure_start(void *context, float *const *weights, qcnn_error *error)
{
    start_error *start = context;
    return qcnn_response_error(start->statistics, weights, start->parallel, &start->relative, error);
}

// How the outputs of a layer matter together: what is known of a convolution, or a new one of a fully-connected layer. NULL where that is
// not known.
static qcnn_status find_fisher(const correction *c, size_t n, const qcnn_statistics *s, const float **known, float **fisher,
                               qcnn_error *error)
{
    const size_t n_outputs = (size_t)s->n_outputs;
    *known = c->fishers ? c->fishers[n] : NULL;
    *fisher = NULL;
    if (!c->importances || s->n_wanted == 0 || n_outputs > MOST_OUTPUTS)
        return QCNN_OK;
    *fisher = qcnn_allocate(n_outputs * n_outputs, sizeof **fisher);
    if (!*fisher)
        return qcnn_fail_memory(error, n_outputs * n_outputs * sizeof **fisher);
    const qcnn_status status = qcnn_fisher(c->original, n, s->wanted_inputs, s->n_wanted, qcnn_rng_split(c->options->seed, n),
                                           c->options->parallel, *fisher, error);
    if (status == QCNN_OK) {
        *known = *fisher;
        return QCNN_OK;
    }
    qcnn_release(*fisher);
    *fisher = NULL;
    return status == QCNN_ERROR_UNSUPPORTED ? QCNN_OK : status;
}

static qcnn_status fit_layer(correction *c, size_t n, qcnn_statistics *s, double price, qcnn_tensor *tensor, qcnn_error *error)
{
    const qcnn_node *node = &c->original->nodes[n];
    const qcnn_layer_setting *setting = &c->settings[n];
    const qcnn_tensor *weights = qcnn_node_weights(c->original, node);
    const part second = { c->options->progress, walk_share, 1 };
    const qcnn_progress progress = { report_part, (void *)&second };
    qcnn_codebook form = qcnn_codebook_form(&weights->shape, s->groups, setting->set_per_group, setting->subspace, setting->n_codewords);
    form.codeword_type = setting->codeword_type;
    const qcnn_fit_problem problem = { .n = s->n, .gram = s->gram, .target = s->cross };
    start_error begin = { .statistics = s, .parallel = c->options->parallel };
    const float *fisher;
    float *own_fisher;
    QCNN_TRY(find_fisher(c, n, s, &fisher, &own_fisher, error));
    const qcnn_fit_options fit = {
        .name = name_of(node),
        .seed = qcnn_rng_split(c->options->seed, n),
        .n_passes = form.n_taps == 1 && form.n_sets == form.groups ? 1 : 4,
        .n_sweeps = form.n_taps == 1 && form.n_sets == form.groups ? 2 : 5,
        .n_annealing = annealing_sweeps(s, setting),
        .largest = setting->largest,
        .price = (float)price,
        .importance = c->importances ? c->importances[n] : NULL,
        .fisher = fisher,
        .n_joint = node->op == QCNN_OP_CONV ? 4 : 2,
        .parallel = c->options->parallel,
        .progress = c->options->progress ? &progress : NULL,
        .started = measure_start,
        .started_context = &begin,
        .target_bits = setting->steered ? 8 * (setting->expected_bytes + share_of_rest(c, n)) : 0,
    };
    const qcnn_status status = qcnn_fit(&form, &problem, &fit, tensor, error);
    tensor->error_before = isfinite(begin.relative) ? (float)begin.relative : -1;
    qcnn_release(own_fisher);
    return status;
}

// Quantizes node n. The shrunk moments belong to the fit alone: errors are measured on held-out rows, or with them for want of any.
static qcnn_status correct_layer(correction *c, size_t n, qcnn_error *error)
{
    const qcnn_node *node = &c->original->nodes[n];
    if (c->settings[n].subspace > QCNN_MAX_CORRECTED_SUBSPACE)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "layer '%s': with error correction C is at most %d", name_of(node),
                         QCNN_MAX_CORRECTED_SUBSPACE);
    qcnn_statistics statistics = { 0 };
    QCNN_TRY(gather(c, n, &statistics, error));
    double price;
    qcnn_tensor tensor = { 0 };
    qcnn_status status = find_price(c, n, &statistics, &price, error);
    if (status == QCNN_OK)
        status = qcnn_target_find(&statistics, c->options->parallel, error);
    if (status == QCNN_OK)
        status = qcnn_target_shrink(&statistics, error);
    if (status == QCNN_OK)
        status = fit_layer(c, n, &statistics, price, &tensor, error);
    if (status == QCNN_OK)
        status = install(c, n, &statistics, &tensor, error);
    qcnn_statistics_free(&statistics);
    return status;
}

// A layer that stays dense, its weights rounded.
static qcnn_status round_layer(correction *c, size_t n, qcnn_error *error)
{
    const qcnn_layer_setting *setting = &c->settings[n];
    const int largest = setting->largest > 0 ? setting->largest : QCNN_MAX_INTEGER;
    return qcnn_data_round(qcnn_node_weights(c->compressed, &c->compressed->nodes[n]), setting->codeword_type, largest, error);
}

// Layers whose results are there, from a checkpoint, are walked past as if they had been corrected: the walks must pass through
// the same stops as in a run that was never interrupted. Only once there is something to be corrected behind them.
static qcnn_status catch_up(correction *c, const bool *done, size_t *from, size_t to, qcnn_error *error)
{
    for (; *from < to; (*from)++)
        if (done[*from]) {
            QCNN_TRY(qcnn_calibration_skip(c->calibration, *from, c->options->progress, error));
            if (c->options->correction == QCNN_CORRECTION_NETWORK)
                QCNN_TRY(qcnn_calibration_diverge(c->calibration, c->compressed, error));
        }
    return QCNN_OK;
}

static qcnn_status correct_layers(correction *c, uint64_t key, bool *done, qcnn_error *error)
{
    size_t next = 0;
    for (size_t n = 0; n < c->original->n_nodes; n++) {
        const qcnn_layer_setting *setting = &c->settings[n];
        if (done[n] || (setting->subspace == 0 && setting->codeword_type == QCNN_FLOAT32))
            continue;
        if (!c->asked_importances)
            QCNN_TRY(find_importances(c, error));
        QCNN_TRY(catch_up(c, done, &next, n, error));
        next = n + 1;
        QCNN_TRY(setting->subspace > 0 ? correct_layer(c, n, error) : round_layer(c, n, error));
        if (c->options->correction == QCNN_CORRECTION_NETWORK)
            QCNN_TRY(qcnn_calibration_diverge(c->calibration, c->compressed, error));
        done[n] = setting->subspace > 0; // rounding is quick: it is done again
        if (c->options->checkpoint && done[n])
            QCNN_TRY(qcnn_checkpoint_save(c->compressed, c->options, key, done, error));
    }
    return QCNN_OK;
}

// Tells which layers a checkpoint has spared.
static void tell_resumed(const correction *c)
{
    char text[400] = "resuming: ";
    int n = 0;
    for (size_t i = 0; c->options->note && i < c->original->n_nodes && strlen(text) < 300; i++)
        if (c->done[i]) {
            const size_t used = strlen(text);
            snprintf(text + used, sizeof text - used, "%s%.60s", n++ ? ", " : "", name_of(&c->original->nodes[i]));
        }
    if (n == 0)
        return;
    const size_t used = strlen(text);
    snprintf(text + used, sizeof text - used, n == 1 ? " is done" : " are done");
    c->options->note(c->options->note_context, text);
}

qcnn_status qcnn_corrector_new(const qcnn_model *original, const qcnn_layer_setting *settings, qcnn_corrector **result, qcnn_error *error)
{
    *result = qcnn_allocate_zeroed(1, sizeof **result);
    if (!*result)
        return qcnn_fail_memory(error, sizeof **result);
    **result = (correction){ .original = original, .all_settings = settings };
    qcnn_blas_start();
    return QCNN_OK;
}

void qcnn_corrector_free(qcnn_corrector *c)
{
    if (!c)
        return;
    free_importances(c);
    qcnn_calibration_close(c->calibration);
    qcnn_release(c);
}

qcnn_status qcnn_correct(qcnn_corrector *c, const qcnn_layer_setting *settings, const qcnn_compress_options *options, const bool *kept,
                         qcnn_model *compressed, qcnn_error *error)
{
    const qcnn_model *original = c->original;
    uint64_t key = 0;
    bool *done = qcnn_allocate_zeroed(original->n_nodes, sizeof *done);
    if (!done)
        return qcnn_fail_memory(error, original->n_nodes);
    c->settings = settings;
    c->options = options;
    c->compressed = compressed;
    c->done = done;
    qcnn_status status = c->calibration ? qcnn_calibration_restart(c->calibration, options, error)
                                        : qcnn_calibration_open(original, options, &c->calibration, error);
    if (status == QCNN_OK && options->checkpoint) {
        status = qcnn_checkpoint_key(original, settings, options, &key, error);
        if (status == QCNN_OK)
            status = qcnn_checkpoint_load(original, settings, options, key, compressed, done, error);
        if (status == QCNN_OK)
            tell_resumed(c);
    }
    for (size_t n = 0; kept && n < original->n_nodes; n++)
        done[n] = done[n] || kept[n];
    if (status == QCNN_OK)
        status = correct_layers(c, key, done, error);
    if (c->calibration)
        qcnn_calibration_rest(c->calibration);
    c->done = NULL;
    c->settings = NULL;
    c->options = NULL;
    c->compressed = NULL;
    qcnn_release(done);
    return status;
}
