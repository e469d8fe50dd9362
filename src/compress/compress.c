// SPDX-License-Identifier: Apache-2.0
// Compressing a model: choose settings, copy the graph, replace the weights of each layer by a codebook.

#include "compress/compress.h"

#include <math.h>
#include <stdio.h>

#include "base/rng.h"
#include "compress/checkpoint.h"
#include "compress/correction.h"
#include "compress/finish.h"
#include "compress/quantize.h"
#include "compress/ranges.h"
#include "compress/refine.h"
#include "compress/response.h"
#include "compress/round.h"
#include "compress/settings.h"
#include "compress/train.h"

qcnn_compress_options qcnn_compress_options_default(void)
{
    return (qcnn_compress_options){ .size = sizeof(qcnn_compress_options), .correction = QCNN_CORRECTION_NONE };
}

static bool by_search(const qcnn_compress_options *options)
{
    return options->ratio > 0 || options->max_drop > 0;
}

static qcnn_status check_options(const qcnn_compress_options *options, qcnn_error *error)
{
    if (options->size != sizeof *options)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "compress options of %zu bytes: start from qcnn_compress_options_default",
                         options->size);
    if (options->correction != QCNN_CORRECTION_NONE && !options->calibration)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "error correction needs calibration images: give --calib DATASET");
    if (by_search(options) && !options->calibration)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "the search for settings needs calibration images: give --calib DATASET");
    if (!(options->rate_price >= 0) || (options->rate_price > 0 && options->correction == QCNN_CORRECTION_NONE))
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "the price of a bit must be 0 or more, and without error correction 0");
    if (!(options->refine_minutes >= 0) || (options->refine_minutes > 0 && !options->calibration))
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "refinement needs minutes of 0 or more and calibration images: give --calib DATASET");
    return QCNN_OK;
}

static qcnn_status check_original(const qcnn_model *original, qcnn_error *error)
{
    for (size_t i = 0; i < original->n_tensors; i++)
        if (qcnn_is_codebook(&original->tensors[i]))
            return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "the model is compressed already; give the original");
    return QCNN_OK;
}

static qcnn_status compress_layer(qcnn_model *model, size_t index, const qcnn_layer_setting *setting, const qcnn_compress_options *options,
                                  qcnn_error *error)
{
    const qcnn_node *node = &model->nodes[index];
    qcnn_tensor *weights = qcnn_node_weights(model, node), tensor;
    const int groups = node->op == QCNN_OP_CONV ? node->attributes.groups : 1;
    const int largest = setting->largest > 0 ? setting->largest : QCNN_MAX_INTEGER;
    if (setting->subspace == 0)
        return qcnn_data_round(weights, setting->codeword_type, largest, error);
    const qcnn_codebook form = qcnn_codebook_form(&weights->shape, groups, setting->set_per_group, setting->subspace, setting->n_codewords);
    const qcnn_quantize_options quantize = {
        .name = node->name ? node->name : "",
        .seed = qcnn_rng_split(options->seed, index),
        .parallel = options->parallel,
        .progress = options->progress,
    };
    QCNN_TRY(qcnn_quantize(&form, weights->data, &quantize, &tensor, error));
    tensor.shape = weights->shape;
    qcnn_tensor_release(weights);
    *weights = tensor;
    return setting->codeword_type == QCNN_FLOAT32 ? QCNN_OK : qcnn_codebook_round(weights, setting->codeword_type, largest, error);
}

static qcnn_status compress_layers(qcnn_model *model, const qcnn_layer_setting *settings, const qcnn_compress_options *options,
                                   qcnn_error *error)
{
    for (size_t n = 0; n < model->n_nodes; n++)
        if (settings[n].subspace > 0 || settings[n].codeword_type != QCNN_FLOAT32)
            QCNN_TRY(compress_layer(model, n, &settings[n], options, error));
    return QCNN_OK;
}

// ---- correction and refinement --------------------------------------------------------------------------------------

// What training is for: the last step of correction, or more of it.
typedef enum refine_part { REFINE_JOINT, REFINE_ALL } refine_part;

static qcnn_refine_options refine_options(const qcnn_compress_options *options, refine_part part)
{
    // The joint descent: the error of the response behind all convolutions, no answers, crops as they are. Many steps of few crops go
    // further than few of many.
    static const qcnn_refine_stage joint = { 160, QCNN_TRAIN_SLICES, 0.005f, 0.003f, 0, 1, 1024 };
    qcnn_refine_options refinement = qcnn_refine_options_default();
    refinement.minutes = options->refine_minutes;
    if (part == REFINE_JOINT) {
        refinement.whole = joint;
        refinement.head.n_steps = 0;
        refinement.mix = refinement.jitter = refinement.zoom = 0;
        refinement.n_looks = 2;
        refinement.minutes = 0; // as many steps as it has
    } else if (options->correction == QCNN_CORRECTION_NETWORK) { // layers fit each other by then: all together, at small rates
        refinement.whole.rate = 0.003f;
        refinement.whole.bias_rate = 0.0015f;
        refinement.head.n_steps = 0;
        refinement.skip_first = true;
    }
    refinement.seed = options->seed;
    refinement.parallel = options->parallel;
    refinement.progress = options->progress;
    refinement.note = options->note;
    refinement.note_context = options->note_context;
    return refinement;
}

// What refinement has gained: its user waited for it.
static void tell_refined(const qcnn_compress_options *options, const qcnn_refine_report *report)
{
    static const double notable = 0.05;
    char message[200];
    const double before = report->divergence[0], after = report->divergence[1];
    if (!options->note)
        return;
    snprintf(message, sizeof message, "refinement: divergence on held-out images %.3g -> %.3g%s", before, after,
             after > (1 - notable) * before ? "; it hardly helped: finer settings would" : "");
    options->note(options->note_context, message);
}

static qcnn_status refine(const qcnn_model *original, const qcnn_compress_options *options, refine_part part, qcnn_model *compressed,
                          qcnn_error *error)
{
    qcnn_refine_options refinement = refine_options(options, part);
    qcnn_refine_report report;
    qcnn_samples samples;
    char checkpoint[4096];
    if (options->checkpoint) {
        const int n =
            snprintf(checkpoint, sizeof checkpoint, "%s%s", options->checkpoint, part == REFINE_JOINT ? QCNN_CHECKPOINT_JOINT : "");
        refinement.checkpoint = n > 0 && (size_t)n < sizeof checkpoint ? checkpoint : NULL;
    }
    QCNN_TRY(qcnn_samples_open(original, options->calibration, options->preprocess, options->seed, &samples, error));
    const qcnn_status status = qcnn_refine(original, compressed, &samples, &refinement, &report, error);
    qcnn_samples_close(&samples);
    if (status == QCNN_OK && part == REFINE_ALL)
        tell_refined(options, &report);
    return status;
}

// The convolution with a codebook that the network begins with; n_nodes if there is none.
static size_t find_first(const qcnn_model *original, const qcnn_layer_setting *settings)
{
    const qcnn_node *node = &original->nodes[0];
    return settings[0].subspace > 0 && node->op == QCNN_OP_CONV && node->inputs[0] == original->inputs[0] ? 0 : original->n_nodes;
}

// The node behind the last convolution, where there are convolutions with codebooks before and other layers with codebooks from there on;
// otherwise 0. A convolution that the network begins with does not count.
static size_t find_rest(const qcnn_model *original, const qcnn_layer_setting *settings)
{
    const size_t first = find_first(original, settings);
    size_t rest = 0;
    bool before = false, behind = false;
    for (size_t n = 0; n < original->n_nodes; n++)
        rest = original->nodes[n].op == QCNN_OP_CONV ? n + 1 : rest;
    for (size_t n = 0; n < original->n_nodes; n++)
        if (settings[n].subspace > 0 && n != first)
            *(n < rest ? &before : &behind) = true;
    return before && behind ? rest : 0;
}

// Whether some of the convolutions before node `rest` spend so few bits on a weight that a descent of all together pays.
static bool are_coarse(const qcnn_model *original, size_t rest, const qcnn_layer_setting *settings)
{
    static const double few_bits = 1.5;
    const size_t first = find_first(original, settings);
    for (size_t n = 0; n < rest; n++)
        if (n != first && settings[n].subspace > 0 && log2((double)settings[n].n_codewords) < few_bits * settings[n].subspace)
            return true;
    return false;
}

// The joint descent is an extra: a network that training cannot pass, or too few images, go without.
static qcnn_status descend(const qcnn_model *original, const qcnn_compress_options *options, qcnn_model *compressed, qcnn_error *error)
{
    qcnn_error why = { 0 };
    const qcnn_status status = refine(original, options, REFINE_JOINT, compressed, &why);
    if (status != QCNN_ERROR_UNSUPPORTED && status != QCNN_ERROR_ARGUMENT)
        return status == QCNN_OK ? QCNN_OK : qcnn_fail(error, status, "%s", why.message);
    char text[sizeof why.message + 64];
    snprintf(text, sizeof text, "convolutions do not descend together: %s", why.message);
    if (options->note)
        options->note(options->note_context, text);
    return QCNN_OK;
}

// A correction under way.
typedef struct correcting {
    qcnn_corrector *corrector;
    const qcnn_model *original;
    qcnn_model *compressed;
    const qcnn_layer_setting *settings;
    const qcnn_compress_options *options;
} correcting;

// The options of the second half: a checkpoint of its own. `name`: room for n bytes.
static qcnn_compress_options rest_options(const qcnn_compress_options *options, char *name, size_t n)
{
    qcnn_compress_options second = *options;
    const int length = snprintf(name, n, "%s" QCNN_CHECKPOINT_REST, options->checkpoint ? options->checkpoint : "");
    second.checkpoint = options->checkpoint && length > 0 && (size_t)length < n ? name : NULL;
    return second;
}

// Convolutions are corrected and descend together before the fully-connected layers are corrected. These would otherwise learn to
// make up for errors that the descent takes away. The first convolution waits too: with its few channels it errs little, and while it
// is the original's, what lies before the second is computed once for both networks and no gradient passes it. `half` and `kept`: what
// the first half corrects, [n_nodes] zeros.
static qcnn_status correct_in_halves(const correcting *c, size_t rest, qcnn_layer_setting *half, bool *kept, qcnn_error *error)
{
    char checkpoint[4096];
    const qcnn_compress_options second = rest_options(c->options, checkpoint, sizeof checkpoint);
    const size_t waiting = find_first(c->original, c->settings);
    for (size_t n = 0; n < rest; n++)
        if (n != waiting) {
            half[n] = c->settings[n];
            kept[n] = half[n].subspace > 0;
        }
    QCNN_TRY(qcnn_correct(c->corrector, half, c->options, NULL, c->compressed, error));
    QCNN_TRY(descend(c->original, c->options, c->compressed, error));
    return qcnn_correct(c->corrector, c->settings, &second, kept, c->compressed, error);
}

static qcnn_status correct_with(const correcting *c, qcnn_error *error)
{
    const size_t n_nodes = c->original->n_nodes,
                 rest = c->options->correction == QCNN_CORRECTION_NETWORK ? find_rest(c->original, c->settings) : 0;
    if (rest == 0 || !are_coarse(c->original, rest, c->settings))
        return qcnn_correct(c->corrector, c->settings, c->options, NULL, c->compressed, error);
    qcnn_layer_setting *half = qcnn_allocate_zeroed(n_nodes, sizeof *half);
    bool *kept = qcnn_allocate_zeroed(n_nodes, sizeof *kept);
    const qcnn_status status =
        half && kept ? correct_in_halves(c, rest, half, kept, error) : qcnn_fail_memory(error, n_nodes * sizeof *half);
    qcnn_release(half);
    qcnn_release(kept);
    return status;
}

static qcnn_status correct(const qcnn_model *original, const qcnn_layer_setting *settings, const qcnn_compress_options *options,
                           qcnn_model *compressed, qcnn_error *error)
{
    correcting c = { .original = original, .compressed = compressed, .settings = settings, .options = options };
    QCNN_TRY(qcnn_corrector_new(original, settings, &c.corrector, error));
    const qcnn_status status = correct_with(&c, error);
    qcnn_corrector_free(c.corrector);
    return status;
}

static qcnn_status find_errors(const qcnn_model *original, const qcnn_compress_options *options, qcnn_model *compressed, qcnn_error *error)
{
    qcnn_samples samples;
    QCNN_TRY(qcnn_samples_open(original, options->calibration, options->preprocess, options->seed, &samples, error));
    const qcnn_status status = qcnn_response_errors(original, compressed, &samples, options->parallel, options->progress, error);
    qcnn_samples_close(&samples);
    return status;
}

static qcnn_status make_compressed(const qcnn_model *original, const qcnn_layer_setting *settings, const qcnn_compress_options *options,
                                   qcnn_model **compressed, qcnn_error *error)
{
    QCNN_TRY(qcnn_model_copy(original, compressed, error));
    qcnn_model_forget_ranges(*compressed); // those of another network
    if (options->correction == QCNN_CORRECTION_NONE)
        QCNN_TRY(compress_layers(*compressed, settings, options, error));
    else
        QCNN_TRY(correct(original, settings, options, *compressed, error));
    if (options->refine_minutes > 0)
        QCNN_TRY(refine(original, options, REFINE_ALL, *compressed, error));
    QCNN_TRY(qcnn_model_finish(*compressed, options->rate_price > 0 || by_search(options), error));
    const char *kernels = qcnn_model_kernels(original);
    QCNN_TRY(qcnn_model_prepare(*compressed, *kernels ? kernels : NULL, error));
    const bool measured = options->correction != QCNN_CORRECTION_NONE || options->refine_minutes > 0;
    return measured ? find_errors(original, options, *compressed, error) : QCNN_OK;
}

qcnn_status qcnn_compress_with(const qcnn_model *original, const qcnn_layer_setting *settings, const qcnn_compress_options *options,
                               qcnn_model **compressed, qcnn_error *error)
{
    *compressed = NULL;
    QCNN_TRY(check_options(options, error));
    QCNN_TRY(check_original(original, error));
    const qcnn_status status = make_compressed(original, settings, options, compressed, error);
    if (status != QCNN_OK) {
        qcnn_model_free(*compressed);
        *compressed = NULL;
    }
    return status;
}

// The last step of all: the finished network has other activations than the original.
static qcnn_status calibrate_compressed(const qcnn_model *original, const qcnn_compress_options *options, qcnn_model **compressed,
                                        qcnn_error *error)
{
    if (!options->calibration || !qcnn_model_is_rounded(*compressed))
        return QCNN_OK;
    qcnn_calibrate_options calibration = qcnn_calibrate_options_default();
    calibration.preprocess = options->preprocess;
    calibration.seed = options->seed;
    calibration.parallel = options->parallel;
    calibration.progress = options->progress;
    const qcnn_status status = qcnn_find_ranges(*compressed, qcnn_model_kernels(original), options->calibration, &calibration, error);
    if (status != QCNN_OK) {
        qcnn_model_free(*compressed);
        *compressed = NULL;
    }
    return status;
}

qcnn_status qcnn_compress(const qcnn_model *original, const qcnn_compress_options *options, qcnn_model **compressed, qcnn_error *error)
{
    *compressed = NULL;
    const qcnn_compress_options defaults = qcnn_compress_options_default();
    if (!options)
        options = &defaults;
    QCNN_TRY(check_options(options, error));
    qcnn_layer_setting *settings = qcnn_allocate_zeroed(original->n_nodes, sizeof *settings);
    if (!settings)
        return qcnn_fail_memory(error, original->n_nodes * sizeof *settings);
    qcnn_status status = qcnn_settings_choose(original, options->preset, options->settings, settings, error);
    if (status == QCNN_OK && by_search(options))
        status = qcnn_compress_to_budget(original, settings, options, compressed, error);
    else if (status == QCNN_OK)
        status = qcnn_compress_with(original, settings, options, compressed, error);
    qcnn_release(settings);
    return status == QCNN_OK ? calibrate_compressed(original, options, compressed, error) : status;
}
