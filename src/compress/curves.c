// SPDX-License-Identifier: Apache-2.0
// Each setting is a few small fits. Where a price changes nothing between 0 and the highest, the prices between are not tried.

#include "compress/curves.h"

#include <math.h>
#include <string.h>

#include "base/parallel.h"
#include "base/rng.h"
#include "coding/encode.h"
#include "compress/blas.h"
#include "compress/fit.h"
#include "compress/quantize.h"
#include "compress/round.h"

// C'/K to try. A setting must fit the windows, and have four columns or more for each codeword.
typedef struct book_shape {
    int subspace, n_codewords;
} book_shape;
static const book_shape conv_shapes[] = { { 1, 64 },  { 2, 128 }, { 1, 8 },   { 1, 16 },  { 2, 16 },  { 2, 32 },
                                          { 2, 64 },  { 3, 64 },  { 3, 128 }, { 4, 32 },  { 4, 64 },  { 4, 128 },
                                          { 4, 256 }, { 6, 128 }, { 8, 64 },  { 8, 128 }, { 8, 256 }, { 12, 128 } };
static const book_shape fc_shapes[] = { { 1, 64 },  { 2, 128 },  { 1, 8 },   { 1, 16 },   { 2, 16 },  { 2, 32 },
                                        { 4, 16 },  { 4, 32 },   { 4, 64 },  { 8, 32 },   { 8, 64 },  { 8, 128 },
                                        { 12, 64 }, { 12, 128 }, { 16, 64 }, { 16, 128 }, { 24, 64 }, { 24, 128 } };
static const int dense_integers[] = { 127, 63, 31, 15, 7 }; // the largest integers of int8 weights to try
enum { COLUMNS_A_WORD = 4, MAX_DENSE_WEIGHTS = 300000 };

typedef struct curve_job {
    const qcnn_model *original;
    const qcnn_surveyed_layer *layer;
    double lowest;
    uint64_t seed;
    qcnn_layer_curves *curves;
    int first_price, n_prices, step; // of the prices tried in this round
    int first_task;                  // of those under way
    qcnn_error *errors;              // of each curve and price
    const bool *skip;                // of each curve
} curve_job;

void qcnn_curves_free(qcnn_layer_curves *curves)
{
    qcnn_release(curves->curves);
    *curves = (qcnn_layer_curves){ 0 };
}

static double price_at(double lowest, int i)
{
    return i == 0 ? 0 : lowest * pow(QCNN_PRICE_STEP, i - 1);
}

// ---- candidates -----------------------------------------------------------------------------------------------------

static int groups_of(const qcnn_node *node)
{
    return node->op == QCNN_OP_CONV ? node->attributes.groups : 1;
}

// A curve without its numbers: a setting, the time of a run, the memory that its weights unfold to.
static void add_curve(const qcnn_model *original, const qcnn_node *node, const qcnn_layer_setting *setting, qcnn_layer_curves *curves)
{
    const bool book = setting->subspace > 0;
    qcnn_tensor tensor = { .shape = qcnn_node_weights(original, node)->shape, .data_type = book ? QCNN_FLOAT32 : setting->codeword_type };
    if (book) {
        tensor.codebook =
            qcnn_codebook_form(&tensor.shape, groups_of(node), setting->set_per_group, setting->subspace, setting->n_codewords);
        tensor.codebook.codeword_type = setting->codeword_type;
    }
    const qcnn_layer_cost cost =
        qcnn_cost(original->prices, node, &tensor, &original->values[node->inputs[0]].shape, &original->values[node->output].shape);
    curves->curves[curves->n_curves++] = (qcnn_setting_curve){ .setting = *setting,
                                                               .time = book && cost.lut < cost.dense ? cost.lut : cost.dense,
                                                               .unfolded = (double)qcnn_tensor_unfolded(&tensor) };
}

static void add_codebook(const qcnn_model *original, const qcnn_surveyed_layer *layer, book_shape s, qcnn_layer_curves *curves)
{
    const qcnn_node *node = &original->nodes[layer->node];
    const qcnn_shape *weights = &qcnn_node_weights(original, node)->shape;
    if (s.subspace > layer->width || (layer->width % s.subspace && layer->width < weights->dims[1]) || curves->n_curves == QCNN_MAX_CURVES)
        return;
    const qcnn_codebook form = qcnn_codebook_form(weights, groups_of(node), true, s.subspace, s.n_codewords);
    if (form.n_subspaces == 0 || qcnn_codebook_n_columns(&form) < COLUMNS_A_WORD * s.n_codewords)
        return;
    const qcnn_layer_setting setting = {
        .subspace = s.subspace, .n_codewords = s.n_codewords, .set_per_group = true, .codeword_type = QCNN_INT8
    };
    add_curve(original, node, &setting, curves);
}

static void add_candidates(const qcnn_model *original, const qcnn_surveyed_layer *layer, const qcnn_layer_setting *fixed,
                           qcnn_layer_curves *curves)
{
    const qcnn_node *node = &original->nodes[layer->node];
    const qcnn_shape *weights = &qcnn_node_weights(original, node)->shape;
    if (fixed->named) {
        add_curve(original, node, fixed, curves);
        return;
    }
    if (node->op == QCNN_OP_CONV)
        for (size_t i = 0; i < sizeof conv_shapes / sizeof *conv_shapes; i++)
            add_codebook(original, layer, conv_shapes[i], curves);
    else
        for (size_t i = 0; i < sizeof fc_shapes / sizeof *fc_shapes; i++)
            add_codebook(original, layer, fc_shapes[i], curves);
    for (size_t i = 0; i < sizeof dense_integers / sizeof *dense_integers; i++)
        if (qcnn_shape_elements(weights) <= MAX_DENSE_WEIGHTS && curves->n_curves < QCNN_MAX_CURVES)
            add_curve(original, node, &(qcnn_layer_setting){ .codeword_type = QCNN_INT8, .largest = dense_integers[i] }, curves);
}

// ---- fits of windows ------------------------------------------------------------------------------------------------

// Sum of importance * e^T G e for e = w - decoded, over outputs and groups; `decoded` [groups * outputs][width][taps].
static qcnn_status objective_of(const qcnn_statistics *s, int width, const float *importance, const float *decoded, double *objective,
                                qcnn_error *error)
{
    const size_t n = (size_t)s->n, n_outputs = (size_t)s->n_outputs, n_taps = n / (size_t)width;
    float *e = qcnn_allocate(2 * n * n_outputs, sizeof *e);
    if (!e)
        return qcnn_fail_memory(error, 2 * n * n_outputs * sizeof *e);
    float *ge = e + n * n_outputs;
    *objective = 0;
    for (int g = 0; g < s->groups; g++) {
        for (size_t o = 0; o < n_outputs; o++)
            for (size_t c = 0; c < (size_t)width; c++)
                for (size_t t = 0; t < n_taps; t++) {
                    const size_t at = (t * (size_t)width + c) * n_outputs + o;
                    e[at] = s->weights[g][at] - decoded[(((size_t)g * n_outputs + o) * (size_t)width + c) * n_taps + t];
                }
        const qcnn_gemm_call call = { .m = s->n,
                                      .n = s->n_outputs,
                                      .k = s->n,
                                      .alpha = 1,
                                      .a = s->gram[g],
                                      .lda = n,
                                      .b = e,
                                      .ldb = n_outputs,
                                      .c = ge,
                                      .ldc = n_outputs };
        qcnn_gemm_serial(&call);
        for (size_t i = 0; i < n * n_outputs; i++)
            *objective += (double)e[i] * (double)ge[i] * (importance ? (double)importance[(size_t)g * n_outputs + i % n_outputs] : 1);
    }
    qcnn_release(e);
    return QCNN_OK;
}

// The window's weights as a tensor of dense data.
static qcnn_status window_tensor(const qcnn_statistics *s, const qcnn_shape *shape, qcnn_tensor *tensor, qcnn_error *error)
{
    const size_t n_outputs = (size_t)s->n_outputs, width = (size_t)shape->dims[1], n_taps = (size_t)s->n / width;
    *tensor = (qcnn_tensor){ .shape = *shape, .error = -1 };
    float *data = tensor->owned_data = qcnn_allocate((size_t)qcnn_shape_elements(shape), sizeof *data);
    tensor->data = data;
    if (!data)
        return qcnn_fail_memory(error, (size_t)qcnn_shape_elements(shape) * sizeof *data);
    for (int g = 0; g < s->groups; g++)
        for (size_t o = 0; o < n_outputs; o++)
            for (size_t c = 0; c < width; c++)
                for (size_t t = 0; t < n_taps; t++)
                    data[(((size_t)g * n_outputs + o) * width + c) * n_taps + t] = s->weights[g][(t * width + c) * n_outputs + o];
    return QCNN_OK;
}

static qcnn_status fit_window(const char *name, const qcnn_statistics *s, const qcnn_shape *shape, const float *importance,
                              const qcnn_layer_setting *setting, double price, uint64_t seed, qcnn_tensor *tensor, qcnn_error *error)
{
    if (setting->subspace == 0) {
        QCNN_TRY(window_tensor(s, shape, tensor, error));
        return qcnn_data_round(tensor, setting->codeword_type, setting->largest, error);
    }
    qcnn_codebook form = qcnn_codebook_form(shape, s->groups, setting->set_per_group, setting->subspace, setting->n_codewords);
    form.codeword_type = setting->codeword_type;
    const size_t n = (size_t)s->n * (size_t)s->n;
    float *moments = qcnn_allocate((size_t)s->groups * n, sizeof *moments), **gram = qcnn_allocate((size_t)s->groups, sizeof *gram);
    qcnn_status status = moments && gram ? QCNN_OK : qcnn_fail_memory(error, (size_t)s->groups * n * sizeof *moments);
    for (int g = 0; g < s->groups && status == QCNN_OK; g++) { // a fit works in its moments, which others use at the same time
        gram[g] = moments + (size_t)g * n;
        memcpy(gram[g], s->gram[g], n * sizeof *moments);
    }
    const qcnn_fit_problem problem = { .n = s->n, .gram = gram, .target = (float **)s->weights };
    const qcnn_fit_options options = {
        .name = name, .seed = seed, .n_passes = 1, .n_sweeps = 1, .price = (float)price, .importance = importance
    };
    if (status == QCNN_OK)
        status = qcnn_fit(&form, &problem, &options, tensor, error);
    if (status == QCNN_OK)
        tensor->shape = *shape;
    qcnn_release(moments);
    qcnn_release(gram);
    return status;
}

// Bits and objective of one window.
static qcnn_status measure_window(const curve_job *job, int w, const qcnn_layer_setting *setting, double price,
                                  qcnn_section_bits sections[QCNN_TENSOR_SECTIONS], double *objective, qcnn_error *error)
{
    const qcnn_statistics *s = &job->layer->windows[w];
    const qcnn_node *node = &job->original->nodes[job->layer->node];
    qcnn_shape shape = qcnn_node_weights(job->original, node)->shape;
    shape.dims[1] = job->layer->width;
    qcnn_tensor tensor = { 0 };
    qcnn_status status = fit_window(node->name ? node->name : "", s, &shape, job->layer->importance, setting, price,
                                    qcnn_rng_split(job->seed, (uint64_t)w), &tensor, error);
    if (status == QCNN_OK)
        status = qcnn_coded_parts(&tensor, sections, error);
    const size_t n = (size_t)qcnn_shape_elements(&shape);
    float *decoded = qcnn_allocate(n, sizeof *decoded);
    if (status == QCNN_OK && !decoded)
        status = qcnn_fail_memory(error, n * sizeof *decoded);
    if (status == QCNN_OK && qcnn_is_codebook(&tensor))
        qcnn_codebook_decode(&tensor.codebook, decoded);
    else if (status == QCNN_OK)
        memcpy(decoded, tensor.data, n * sizeof *decoded);
    if (status == QCNN_OK)
        status = objective_of(s, job->layer->width, job->layer->importance, decoded, objective, error);
    qcnn_release(decoded);
    qcnn_tensor_release(&tensor);
    return status;
}

static qcnn_status measure(const curve_job *job, qcnn_setting_curve *curve, int i, qcnn_error *error)
{
    const qcnn_surveyed_layer *layer = job->layer;
    const double price = layer->sensitivity > 0 ? price_at(job->lowest, i) / layer->sensitivity : 0;
    memset(curve->coded[i], 0, sizeof curve->coded[i]);
    memset(curve->plain[i], 0, sizeof curve->plain[i]);
    curve->divergence[i] = 0;
    for (int w = 0; w < layer->n_windows; w++) {
        qcnn_section_bits sections[QCNN_TENSOR_SECTIONS];
        double objective;
        QCNN_TRY(measure_window(job, w, &curve->setting, price, sections, &objective, error));
        for (int s = 0; s < QCNN_TENSOR_SECTIONS; s++) {
            curve->coded[i][s] += sections[s].coded[0] / layer->share + sections[s].coded[1] / layer->n_windows;
            curve->plain[i][s] += sections[s].plain[0] / layer->share + sections[s].plain[1] / layer->n_windows;
        }
        curve->divergence[i] += layer->sensitivity * objective / layer->share;
    }
    return QCNN_OK;
}

// ---- the curves -----------------------------------------------------------------------------------------------------

static void measure_task(void *argument, int index, int worker)
{
    (void)worker;
    const curve_job *job = argument;
    const int task = job->first_task + index, curve = task / job->n_prices, price = job->first_price + task % job->n_prices * job->step;
    job->errors[task].status = QCNN_OK;
    if (job->skip && job->skip[curve])
        return;
    job->errors[task].status = measure(job, &job->curves->curves[curve], price, &job->errors[task]);
}

// In rounds, between which the caller's thread reports progress. begin, end: of the fraction.
static qcnn_status measure_all(curve_job *job, const qcnn_parallel *parallel, const qcnn_progress *progress, double begin, double end,
                               qcnn_error *error)
{
    const int n_tasks = job->curves->n_curves * job->n_prices, round = 2 * qcnn_n_workers(parallel);
    for (job->first_task = 0; job->first_task < n_tasks; job->first_task += round) {
        const int n_left = n_tasks - job->first_task;
        if (progress && progress->report(progress->context, "search", begin + (end - begin) * job->first_task / n_tasks))
            return qcnn_fail(error, QCNN_ERROR_CANCELLED, "cancelled while searching for settings");
        qcnn_for(parallel, n_left < round ? n_left : round, measure_task, job);
    }
    for (int i = 0; i < n_tasks; i++)
        if (job->errors[i].status != QCNN_OK)
            return qcnn_fail(error, job->errors[i].status, "%s", job->errors[i].message);
    return QCNN_OK;
}

// Curves on which the highest price changes next to nothing, or which have no price, become straight.
static void straighten(const qcnn_layer_curves *curves, bool *straight)
{
    for (int c = 0; c < curves->n_curves; c++) {
        qcnn_setting_curve *curve = &curves->curves[c];
        const int last = QCNN_N_PRICES - 1;
        straight[c] = curve->setting.subspace == 0 ||
                      curve->coded[last][0] + curve->coded[last][1] > 0.97 * (curve->coded[0][0] + curve->coded[0][1]);
        for (int i = 1; i < last && straight[c]; i++) {
            memcpy(curve->coded[i], curve->coded[0], sizeof curve->coded[i]);
            memcpy(curve->plain[i], curve->plain[0], sizeof curve->plain[i]);
            curve->divergence[i] = curve->divergence[0];
        }
    }
}

qcnn_status qcnn_curves_find(const qcnn_model *original, const qcnn_surveyed_layer *layer, const qcnn_layer_setting *fixed, double lowest,
                             uint64_t seed, const qcnn_parallel *parallel, const qcnn_progress *progress, qcnn_layer_curves *curves,
                             qcnn_error *error)
{
    *curves = (qcnn_layer_curves){ .node = layer->node };
    qcnn_error errors[QCNN_MAX_CURVES * QCNN_N_PRICES];
    bool straight[QCNN_MAX_CURVES];
    curves->curves = qcnn_allocate_zeroed(QCNN_MAX_CURVES, sizeof *curves->curves);
    if (!curves->curves)
        return qcnn_fail_memory(error, QCNN_MAX_CURVES * sizeof *curves->curves);
    add_candidates(original, layer, fixed, curves);
    curve_job job = { .original = original, .layer = layer, .lowest = lowest, .seed = seed, .curves = curves, .errors = errors };
    job.n_prices = 2;
    job.step = QCNN_N_PRICES - 1;
    QCNN_TRY(measure_all(&job, parallel, progress, 0, 0.3, error));
    straighten(curves, straight);
    job.first_price = job.step = 1;
    job.n_prices = QCNN_N_PRICES - 2;
    job.skip = straight;
    return measure_all(&job, parallel, progress, 0.3, 1, error);
}

qcnn_status qcnn_curves_probe(const qcnn_model *original, const qcnn_surveyed_layer *layer, uint64_t seed, double *bits, double *divergence,
                              qcnn_error *error)
{
    qcnn_setting_curve room[QCNN_MAX_CURVES];
    qcnn_layer_curves curves = { .node = layer->node, .curves = room };
    add_candidates(original, layer, &(qcnn_layer_setting){ 0 }, &curves);
    *bits = *divergence = 0;
    if (curves.n_curves == 0)
        return QCNN_OK;
    int n_books = 0; // codebooks come first
    while (n_books < curves.n_curves && room[n_books].setting.subspace > 0)
        n_books++;
    const curve_job job = { .original = original, .layer = layer, .seed = seed, .curves = &curves };
    qcnn_setting_curve *middle = &room[n_books > 0 ? n_books / 2 : curves.n_curves - 1];
    QCNN_TRY(measure(&job, middle, 0, error));
    *bits = middle->coded[0][0] + middle->coded[0][1];
    *divergence = middle->divergence[0];
    return QCNN_OK;
}

static double between(double below, double above, double share, double least)
{
    return exp((1 - share) * log(below + least) + share * log(above + least)) - least;
}

// With some caution: bits are not known to the last percent.
static bool worth_coding(double plain_bits, double coded_bits)
{
    return qcnn_worth_coding((uint64_t)(plain_bits / 8), (uint64_t)(1.02 * coded_bits / 8 + 1));
}

// *coded: whether the last section, the assignments, is.
static qcnn_setting_point point_at(const qcnn_setting_curve *curve, double lowest, double price, bool *coded)
{
    // Price 0 stands one step below the lowest one.
    double at = price > 0 ? 1 + log(price / lowest) / log(QCNN_PRICE_STEP) : 0;
    at = at < 0 ? 0 : at > QCNN_N_PRICES - 1 ? QCNN_N_PRICES - 1 : at;
    const int i = at < QCNN_N_PRICES - 1 ? (int)at : QCNN_N_PRICES - 2;
    const double share = at - i;
    qcnn_setting_point point = { .divergence = between(curve->divergence[i], curve->divergence[i + 1], share, 1e-12),
                                 .priced = curve->setting.subspace > 0 && at > 0 };
    for (int s = 0; s < QCNN_TENSOR_SECTIONS; s++) {
        const double if_coded = between(curve->coded[i][s], curve->coded[i + 1][s], share, 1),
                     if_plain = between(curve->plain[i][s], curve->plain[i + 1][s], share, 1);
        *coded = worth_coding(if_plain, if_coded);
        point.bits += *coded ? if_coded : if_plain;
        point.plain_bits += if_plain;
    }
    return point;
}

qcnn_setting_point qcnn_curve_at(const qcnn_setting_curve *curve, double lowest, double price)
{
    bool coded, ignored;
    const qcnn_setting_point point = point_at(curve, lowest, price, &coded), free = point_at(curve, lowest, 0, &ignored);
    const bool better = free.divergence + price * free.bits < point.divergence + price * point.bits;
    return !coded && better ? free : point;
}
