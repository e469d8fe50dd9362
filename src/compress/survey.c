// SPDX-License-Identifier: Apache-2.0
// A window is made into a network of one layer, so that statistics and fits see nothing special in it. Sensitivities come from
// runs of the whole network in which one layer's weights carry noise, more where inputs are weaker, as the error of a good quantizer:
// independent noise of variance v_i changes the responses of a row by outputs * (sum of v_i * variance of input i).

#include "compress/survey.h"

#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "compress/blas.h"
#include "compress/importance.h"
#include "compress/settings.h"
#include "compress/target.h"
#include "compress/walk.h"

enum { N_SAMPLES = 480, IMPORTANCE_SAMPLES = 256, POSITIONS = 16, CONV_WIDTH = 24, FC_WIDTH = 48, CHUNK = 32 };
static const uint64_t keep_bytes = (uint64_t)600 << 20;
static const double first_noise = 0.02, wanted_divergence = 0.02; // of the weights' power; that noise should lead to

typedef struct channel_sums {
    double *sum, *square; // [channels of the layer's input]
    double n;             // numbers summed for each
} channel_sums;

typedef struct surveyor {
    const qcnn_model *original;
    const qcnn_samples *samples;
    const qcnn_judge *judge;
    uint64_t seed;
    const qcnn_parallel *parallel;
    const qcnn_progress *progress;
    qcnn_survey *survey;
    int n_done;                          // layers
    double noise_drop, noise_divergence; // summed over all layers
} surveyor;

static const double walk_part = 0.5; // of a layer's time: the walk, the rest is judging noise

// Progress within the layer under way.
static int report_layer(const surveyor *s, double fraction)
{
    const qcnn_progress *progress = s->progress;
    return progress ? progress->report(progress->context, "survey", (s->n_done + fraction) / s->survey->n_layers) : 0;
}

static qcnn_status report(const surveyor *s, double fraction, qcnn_error *error)
{
    return report_layer(s, fraction) ? qcnn_fail(error, QCNN_ERROR_CANCELLED, "cancelled while surveying the network") : QCNN_OK;
}

static int report_judging(void *context, const char *stage, double fraction)
{
    (void)stage;
    return report_layer(context, walk_part + (1 - walk_part) * fraction);
}

static int groups_of(const qcnn_node *node)
{
    return node->op == QCNN_OP_CONV ? node->attributes.groups : 1;
}

void qcnn_survey_free(qcnn_survey *survey)
{
    for (int i = 0; survey->layers && i < survey->n_layers; i++) {
        for (int w = 0; w < QCNN_SURVEY_WINDOWS; w++)
            qcnn_statistics_free(&survey->layers[i].windows[w]);
        qcnn_release(survey->layers[i].importance);
    }
    qcnn_release(survey->layers);
    *survey = (qcnn_survey){ 0 };
}

// ---- windows --------------------------------------------------------------------------------------------------------

// First channel, in a group, of window w: the windows are spread evenly.
static int first_channel(const qcnn_surveyed_layer *layer, int n_channels, int w)
{
    return layer->n_windows == 1 ? 0 : (int)((int64_t)(n_channels - layer->width) * w / (layer->n_windows - 1));
}

// weights [outputs][width][taps] of a window.
static qcnn_status window_weights(const qcnn_tensor *weights, int first, int width, qcnn_tensor *window, qcnn_error *error)
{
    *window = (qcnn_tensor){ .shape = weights->shape, .error = -1 };
    window->shape.dims[1] = width;
    const size_t n_outputs = (size_t)weights->shape.dims[0], n_channels = (size_t)weights->shape.dims[1];
    const size_t n_taps = (size_t)qcnn_shape_elements(&weights->shape) / n_outputs / n_channels, n = (size_t)width * n_taps;
    float *data = qcnn_allocate(n_outputs * n, sizeof *data);
    if (!data)
        return qcnn_fail_memory(error, n_outputs * n * sizeof *data);
    for (size_t o = 0; o < n_outputs; o++)
        memcpy(data + o * n, weights->data + (o * n_channels + (size_t)first) * n_taps, n * sizeof *data);
    window->data = window->owned_data = data;
    return QCNN_OK;
}

static qcnn_status build_window(const qcnn_model *original, const qcnn_node *node, int first, int width, qcnn_model *model,
                                qcnn_error *error)
{
    qcnn_tensor tensor;
    qcnn_shape x = original->values[node->inputs[0]].shape;
    x.dims[node->op == QCNN_OP_CONV ? 1 : x.rank - 1] = (int64_t)groups_of(node) * width;
    qcnn_attributes attributes = node->attributes;
    attributes.activation = (qcnn_activation){ .function = QCNN_IDENTITY };
    int index, inputs[2], output;
    QCNN_TRY(window_weights(qcnn_node_weights(original, node), first, width, &tensor, error));
    QCNN_TRY(qcnn_model_add_tensor(model, &tensor, &index, error));
    QCNN_TRY(qcnn_model_add_value(model, "x", &x, -1, &inputs[0], error));
    QCNN_TRY(qcnn_model_add_value(model, "w", NULL, index, &inputs[1], error));
    QCNN_TRY(qcnn_model_add_value(model, "y", NULL, -1, &output, error));
    QCNN_TRY(qcnn_model_add_node(model, node->op, node->name, inputs, 2, output, &attributes, NULL, error));
    QCNN_TRY(qcnn_model_add_input(model, inputs[0], error));
    QCNN_TRY(qcnn_model_add_output(model, output, error));
    return qcnn_model_prepare(model, NULL, error);
}

// A network of one layer, without bias and activation.
static qcnn_status window_model(const qcnn_model *original, const qcnn_node *node, int first, int width, qcnn_model **model,
                                qcnn_error *error)
{
    QCNN_TRY(qcnn_model_new(model, error));
    const qcnn_status status = build_window(original, node, first, width, *model, error);
    if (status != QCNN_OK) {
        qcnn_model_free(*model);
        *model = NULL;
    }
    return status;
}

// ---- statistics -----------------------------------------------------------------------------------------------------

typedef struct layer_walk {
    const qcnn_node *node;
    int groups, n_channels; // of a group
    size_t outer, inner;    // input: [outer][groups * n_channels][inner]
    qcnn_model *models[QCNN_SURVEY_WINDOWS];
    qcnn_statistics_builder *builders[QCNN_SURVEY_WINDOWS];
    float *compact; // [chunk][outer][groups * width][inner]
    channel_sums channels;
    double mean_variance; // of the channels
} layer_walk;

static void cut_window(const layer_walk *walk, const float *input, int first, int width, float *compact)
{
    const size_t n = (size_t)width * walk->inner, stride = (size_t)walk->n_channels * walk->inner;
    for (size_t row = 0; row < walk->outer * (size_t)walk->groups; row++)
        memcpy(compact + row * n, input + row * stride + (size_t)first * walk->inner, n * sizeof *compact);
}

static void add_channels(const layer_walk *walk, const float *input, channel_sums *sums)
{
    const size_t n_channels = (size_t)walk->groups * (size_t)walk->n_channels;
    for (size_t row = 0; row < walk->outer; row++)
        for (size_t c = 0; c < n_channels; c++)
            for (size_t i = 0; i < walk->inner; i++) {
                const double x = (double)input[(row * n_channels + c) * walk->inner + i];
                sums->sum[c] += x;
                sums->square[c] += x * x;
            }
    sums->n += (double)(walk->outer * walk->inner);
}

static qcnn_status begin_layer(const surveyor *s, const qcnn_surveyed_layer *layer, int chunk, layer_walk *walk, qcnn_error *error)
{
    const qcnn_node *node = walk->node = &s->original->nodes[layer->node];
    const qcnn_shape *x = &s->original->values[node->inputs[0]].shape;
    walk->groups = groups_of(node);
    walk->n_channels = (int)qcnn_node_weights(s->original, node)->shape.dims[1];
    const size_t n_channels = (size_t)walk->groups * (size_t)walk->n_channels, n_elements = (size_t)qcnn_shape_elements(x);
    walk->inner = node->op == QCNN_OP_CONV ? n_elements / n_channels : 1;
    walk->outer = node->op == QCNN_OP_CONV ? 1 : n_elements / n_channels;
    const size_t n_compact = walk->outer * (size_t)walk->groups * (size_t)layer->width * walk->inner;
    walk->compact = qcnn_allocate((size_t)chunk * n_compact, sizeof *walk->compact);
    walk->channels.sum = qcnn_allocate_zeroed(n_channels, sizeof *walk->channels.sum);
    walk->channels.square = qcnn_allocate_zeroed(n_channels, sizeof *walk->channels.square);
    if (!walk->compact || !walk->channels.sum || !walk->channels.square)
        return qcnn_fail_memory(error, (size_t)chunk * n_compact * sizeof *walk->compact);
    for (int w = 0; w < layer->n_windows; w++) {
        QCNN_TRY(window_model(s->original, node, first_channel(layer, walk->n_channels, w), layer->width, &walk->models[w], error));
        QCNN_TRY(qcnn_statistics_begin(walk->models[w], 0, POSITIONS, N_SAMPLES, 0, qcnn_rng_split(s->seed, layer->node), s->parallel,
                                       &walk->builders[w], error));
    }
    return QCNN_OK;
}

// In small chunks, so that progress is asked often.
static qcnn_status walk_layer(const surveyor *s, qcnn_walk *walk, const qcnn_surveyed_layer *layer, layer_walk *at, qcnn_error *error)
{
    const int largest = qcnn_walk_chunk_size(walk), chunk = largest < CHUNK ? largest : CHUNK;
    const float *rows[CHUNK];
    const size_t n_compact = at->outer * (size_t)at->groups * (size_t)layer->width * at->inner;
    for (int first = 0; first < N_SAMPLES; first += chunk) {
        const int n = N_SAMPLES - first < chunk ? N_SAMPLES - first : chunk;
        QCNN_TRY(report(s, walk_part * first / N_SAMPLES, error));
        QCNN_TRY(qcnn_walk_chunk(walk, first, n, error));
        for (int i = 0; i < n; i++)
            add_channels(at, qcnn_walk_input(walk, first + i), &at->channels);
        for (int w = 0; w < layer->n_windows; w++) {
            for (int i = 0; i < n; i++) {
                cut_window(at, qcnn_walk_input(walk, first + i), first_channel(layer, at->n_channels, w), layer->width,
                           at->compact + (size_t)i * n_compact);
                rows[i] = at->compact + (size_t)i * n_compact;
            }
            QCNN_TRY(qcnn_statistics_add(at->builders[w], first, n, rows, rows, error));
        }
    }
    return QCNN_OK;
}

// ---- sensitivity ----------------------------------------------------------------------------------------------------

// Two numbers of the normal distribution (Box and Muller).
static void normal_pair(qcnn_rng *rng, double *a, double *b)
{
    const double radius = sqrt(-2 * log(1 - qcnn_rng_unit(rng))), angle = 2 * acos(-1) * qcnn_rng_unit(rng);
    *a = radius * cos(angle);
    *b = radius * sin(angle);
}

static qcnn_status copy_tensor(qcnn_tensor *tensor, qcnn_error *error)
{
    const size_t n = (size_t)qcnn_shape_elements(&tensor->shape);
    float *copy = qcnn_allocate(n, sizeof *copy);
    if (!copy)
        return qcnn_fail_memory(error, n * sizeof *copy);
    memcpy(copy, tensor->data, n * sizeof *copy);
    tensor->data = tensor->owned_data = copy;
    return QCNN_OK;
}

// Variance of input channel c, and what the noise of its weights is divided by: few channels are nearly silent, and may not drown all.
static double channel_variance(const channel_sums *channels, size_t c)
{
    const double mean = channels->sum[c] / channels->n;
    return fmax(channels->square[c] / channels->n - mean * mean, 0);
}

static double noise_divisor(const layer_walk *walk, size_t c)
{
    return channel_variance(&walk->channels, c) + 0.1 * walk->mean_variance + 1e-30;
}

// Adds noise of this strength to a layer's weights; the bias takes out what it does to the mean of the responses.
static qcnn_status add_noise(const surveyor *s, const layer_walk *walk, size_t n, double strength, qcnn_model *model, qcnn_error *error)
{
    qcnn_tensor *weights = qcnn_node_weights(model, &model->nodes[n]), *bias = qcnn_node_bias(model, &model->nodes[n]);
    QCNN_TRY(copy_tensor(weights, error));
    if (bias)
        QCNN_TRY(copy_tensor(bias, error));
    const size_t n_outputs = (size_t)weights->shape.dims[0], n_channels = (size_t)walk->n_channels;
    const size_t n_taps = (size_t)qcnn_shape_elements(&weights->shape) / n_outputs / n_channels;
    float *w = weights->owned_data, *b = bias ? bias->owned_data : NULL;
    qcnn_rng rng = { qcnn_rng_split(s->seed, n) };
    double pair[2] = { 0, 0 };
    for (size_t o = 0, i = 0; o < n_outputs; o++) {
        const size_t first = o / (n_outputs / (size_t)walk->groups) * n_channels;
        double shift = 0;
        for (size_t c = 0; c < n_channels; c++) {
            const double deviation = sqrt(strength / noise_divisor(walk, first + c));
            for (size_t t = 0; t < n_taps; t++, i++) {
                if (i % 2 == 0)
                    normal_pair(&rng, &pair[0], &pair[1]);
                w[i] += (float)(deviation * pair[i % 2]);
                shift += deviation * pair[i % 2] * walk->channels.sum[first + c] / walk->channels.n;
            }
        }
        if (b)
            b[o] -= (float)shift;
    }
    return QCNN_OK;
}

static qcnn_status judge_noise(const surveyor *s, const layer_walk *walk, size_t n, double strength, qcnn_verdict *verdict,
                               qcnn_error *error)
{
    qcnn_model *model;
    const qcnn_progress progress = { report_judging, (void *)s };
    QCNN_TRY(qcnn_model_copy(s->original, &model, error));
    qcnn_status status = add_noise(s, walk, n, strength, model, error);
    if (status == QCNN_OK)
        status = qcnn_model_prepare(model, NULL, error);
    if (status == QCNN_OK)
        status = qcnn_judge_model(s->judge, model, &progress, verdict, error);
    qcnn_model_free(model);
    return status;
}

static double mean_power(const qcnn_tensor *tensor)
{
    const size_t n = (size_t)qcnn_shape_elements(&tensor->shape);
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)tensor->data[i] * (double)tensor->data[i];
    return sum / (double)n;
}

static qcnn_status find_sensitivity(surveyor *s, layer_walk *walk, qcnn_surveyed_layer *layer, qcnn_error *error)
{
    const qcnn_tensor *weights = qcnn_node_weights(s->original, walk->node);
    const size_t n_channels = (size_t)walk->groups * (size_t)walk->n_channels;
    const double n_taps = (double)qcnn_shape_elements(&weights->shape) / (double)weights->shape.dims[0] / walk->n_channels;
    walk->mean_variance = 0;
    for (size_t c = 0; c < n_channels; c++)
        walk->mean_variance += channel_variance(&walk->channels, c) / (double)n_channels;
    double inputs = 0; // response that noise of strength 1 makes in an output, over the rows of all groups
    for (size_t c = 0; c < n_channels; c++)
        inputs += n_taps * channel_variance(&walk->channels, c) / noise_divisor(walk, c);
    double strength = first_noise * mean_power(weights) * walk->mean_variance;
    qcnn_verdict verdict = { 0 };
    for (int attempt = 0; attempt < 3; attempt++) {
        QCNN_TRY(judge_noise(s, walk, layer->node, strength, &verdict, error));
        if (attempt == 2 || !(verdict.divergence < wanted_divergence / 4 || verdict.divergence > wanted_divergence * 4))
            break;
        const double factor = wanted_divergence / (verdict.divergence > 1e-6 ? verdict.divergence : 1e-6);
        strength *= factor > 100 ? 100 : factor < 0.01 ? 0.01 : factor;
    }
    const double objective = strength * inputs * (double)weights->shape.dims[0] / walk->groups;
    layer->sensitivity = objective > 0 ? verdict.divergence / objective : 0;
    s->noise_divergence += verdict.divergence;
    s->noise_drop += verdict.drop;
    return QCNN_OK;
}

// ---- layers ---------------------------------------------------------------------------------------------------------

static void end_layer(layer_walk *walk)
{
    for (int w = 0; w < QCNN_SURVEY_WINDOWS; w++) {
        qcnn_statistics_free_builder(walk->builders[w]);
        qcnn_model_free(walk->models[w]);
    }
    qcnn_release(walk->compact);
    qcnn_release(walk->channels.sum);
    qcnn_release(walk->channels.square);
}

static qcnn_status survey_layer(surveyor *s, qcnn_walk *walk, qcnn_surveyed_layer *layer, qcnn_error *error)
{
    layer_walk at = { 0 };
    QCNN_TRY(qcnn_walk_begin(walk, layer->node, keep_bytes, error));
    qcnn_status status = begin_layer(s, layer, qcnn_walk_chunk_size(walk), &at, error);
    if (status == QCNN_OK)
        status = walk_layer(s, walk, layer, &at, error);
    qcnn_walk_end(walk);
    for (int w = 0; w < layer->n_windows && status == QCNN_OK; w++) {
        status = qcnn_statistics_end(at.builders[w], &layer->windows[w], error);
        if (status == QCNN_OK)
            status = qcnn_target_shrink(&layer->windows[w], error);
    }
    if (status == QCNN_OK)
        status = find_sensitivity(s, &at, layer, error);
    end_layer(&at);
    return status;
}

// The layers whose weights are constant, float32, read once, and can be cut along their inputs.
static qcnn_status list_layers(const qcnn_model *original, qcnn_survey *survey, qcnn_error *error)
{
    survey->layers = qcnn_allocate_zeroed(original->n_nodes, sizeof *survey->layers);
    if (!survey->layers)
        return qcnn_fail_memory(error, original->n_nodes * sizeof *survey->layers);
    for (size_t n = 0; n < original->n_nodes; n++) {
        const qcnn_node *node = &original->nodes[n];
        const qcnn_tensor *weights = qcnn_node_weights(original, node);
        if (!weights || !weights->data || qcnn_tensor_readers(original, weights) != 1)
            continue;
        const int n_channels = (int)weights->shape.dims[1], most = node->op == QCNN_OP_CONV ? CONV_WIDTH : FC_WIDTH;
        qcnn_surveyed_layer layer = { .node = n, .width = n_channels < most ? n_channels : most };
        const int fitting = n_channels / layer.width, wanted = node->op == QCNN_OP_CONV ? 2 : QCNN_SURVEY_WINDOWS;
        layer.n_windows = fitting < wanted ? fitting : wanted;
        layer.share = (double)layer.n_windows * layer.width / n_channels;
        survey->layers[survey->n_layers++] = layer;
    }
    return QCNN_OK;
}

// Importances of all layers' outputs, or of none where gradients cannot pass.
static qcnn_status find_importances(const surveyor *s, qcnn_error *error)
{
    const size_t n_nodes = s->original->n_nodes;
    float **by_node = qcnn_allocate_zeroed(n_nodes, sizeof *by_node);
    if (!by_node)
        return qcnn_fail_memory(error, n_nodes * sizeof *by_node);
    qcnn_status status = QCNN_OK;
    for (int i = 0; i < s->survey->n_layers && status == QCNN_OK; i++) {
        qcnn_surveyed_layer *layer = &s->survey->layers[i];
        const size_t n = (size_t)qcnn_node_weights(s->original, &s->original->nodes[layer->node])->shape.dims[0];
        by_node[layer->node] = layer->importance = qcnn_allocate_zeroed(n, sizeof(float));
        if (!layer->importance)
            status = qcnn_fail_memory(error, n * sizeof(float));
    }
    if (status == QCNN_OK)
        status = qcnn_importances(s->original, s->samples, IMPORTANCE_SAMPLES, s->seed, s->parallel, s->progress, by_node, NULL, error);
    for (int i = 0; i < s->survey->n_layers; i++) {
        qcnn_surveyed_layer *layer = &s->survey->layers[i];
        if (status == QCNN_OK)
            qcnn_importances_normalise(layer->importance,
                                       (size_t)qcnn_node_weights(s->original, &s->original->nodes[layer->node])->shape.dims[0]);
        else if (status == QCNN_ERROR_UNSUPPORTED) {
            qcnn_release(layer->importance);
            layer->importance = NULL;
        }
    }
    qcnn_release(by_node);
    return status == QCNN_ERROR_UNSUPPORTED ? QCNN_OK : status;
}

static qcnn_status survey_layers(surveyor *s, qcnn_error *error)
{
    qcnn_walk_samples taken = { .source = s->samples, .n = { N_SAMPLES, 0 } };
    qcnn_walk *walk;
    QCNN_TRY(list_layers(s->original, s->survey, error));
    QCNN_TRY(find_importances(s, error));
    QCNN_TRY(qcnn_walk_new(s->original, &taken, s->parallel, &walk, error));
    qcnn_status status = QCNN_OK;
    for (s->n_done = 0; s->n_done < s->survey->n_layers && status == QCNN_OK; s->n_done++)
        status = survey_layer(s, walk, &s->survey->layers[s->n_done], error);
    qcnn_walk_free(walk);
    s->survey->drop_per_divergence = s->noise_divergence > 0 ? s->noise_drop / s->noise_divergence : 0;
    return status == QCNN_OK ? report(s, 0, error) : status;
}

qcnn_status qcnn_survey_make(const qcnn_model *original, const qcnn_samples *samples, const qcnn_judge *judge, uint64_t seed,
                             const qcnn_parallel *parallel, const qcnn_progress *progress, qcnn_survey *survey, qcnn_error *error)
{
    *survey = (qcnn_survey){ 0 };
    qcnn_blas_start();
    surveyor s = {
        .original = original, .samples = samples, .judge = judge, .seed = seed, .parallel = parallel, .progress = progress, .survey = survey
    };
    const qcnn_status status = survey_layers(&s, error);
    if (status != QCNN_OK)
        qcnn_survey_free(survey);
    return status;
}
