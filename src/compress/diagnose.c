// SPDX-License-Identifier: Apache-2.0
// How far a compressed network is from its original, and which layer costs the accuracy: networks in which one layer alone is
// compressed, and in which all but one are. They are copies of the compressed graph over the tensors of both networks.

#include <string.h>

#include "compress/judge.h"
#include "qcnn_compress.h"

void qcnn_diagnosis_free(qcnn_diagnosis *diagnosis)
{
    qcnn_release(diagnosis->layers);
    *diagnosis = (qcnn_diagnosis){ 0 };
}

// A tensor over memory that somebody else owns.
static qcnn_tensor shared(const qcnn_tensor *tensor)
{
    qcnn_tensor copy = *tensor;
    copy.owned_data = copy.owned_assignments = copy.owned_scales = copy.owned_peaks = NULL;
    return copy;
}

// Gives node n of a copy of the compressed model the weights and the bias of the original.
static qcnn_status restore_layer(const qcnn_model *original, size_t n, qcnn_model *model, qcnn_error *error)
{
    qcnn_tensor *weights = qcnn_node_weights(model, &model->nodes[n]), *bias = qcnn_node_bias(model, &model->nodes[n]);
    const qcnn_tensor *before = qcnn_node_bias(original, &original->nodes[n]);
    *weights = shared(qcnn_node_weights(original, &original->nodes[n]));
    if (!bias)
        return QCNN_OK;
    if (before) {
        *bias = shared(before);
        return QCNN_OK;
    }
    const size_t n_outputs = (size_t)qcnn_shape_elements(&bias->shape); // a bias that correction has added
    float *zeros = qcnn_allocate_zeroed(n_outputs, sizeof *zeros);
    if (!zeros)
        return qcnn_fail_memory(error, n_outputs * sizeof *zeros);
    *bias = (qcnn_tensor){ .shape = bias->shape, .data = zeros, .owned_data = zeros, .error = -1 };
    return QCNN_OK;
}

// Judges the network in which layer `index` alone is compressed, or all but it (n_nodes: all).
static qcnn_status judge_mixture(const qcnn_model *original, const qcnn_model *compressed, const qcnn_judge *judge, size_t index,
                                 bool alone, qcnn_verdict *verdict, qcnn_error *error)
{
    qcnn_model *model;
    QCNN_TRY(qcnn_model_copy(compressed, &model, error));
    qcnn_status status = QCNN_OK;
    for (size_t n = 0; n < model->n_nodes && status == QCNN_OK; n++)
        if (qcnn_node_weights(model, &model->nodes[n]) && qcnn_node_weights(original, &original->nodes[n]) && (n == index) != alone)
            status = restore_layer(original, n, model, error);
    model->exact = true; // integer arithmetic would also round the layers that are not compressed
    if (status == QCNN_OK)
        status = qcnn_model_prepare(model, qcnn_model_kernels(compressed), error);
    if (status == QCNN_OK)
        status = qcnn_judge_model(judge, model, NULL, verdict, error);
    qcnn_model_free(model);
    return status;
}

static qcnn_status report(const qcnn_progress *progress, double fraction, qcnn_error *error)
{
    if (progress && progress->report(progress->context, "diagnosis", fraction))
        return qcnn_fail(error, QCNN_ERROR_CANCELLED, "cancelled while looking for the layers that cost accuracy");
    return QCNN_OK;
}

static qcnn_status diagnose_layers(const qcnn_model *original, const qcnn_model *compressed, const qcnn_judge *judge,
                                   const qcnn_progress *progress, qcnn_diagnosis *diagnosis, qcnn_error *error)
{
    qcnn_verdict verdict;
    QCNN_TRY(judge_mixture(original, compressed, judge, compressed->n_nodes, false, &verdict, error));
    diagnosis->agreement = verdict.agreement;
    diagnosis->divergence = verdict.divergence;
    for (size_t n = 0; n < compressed->n_nodes; n++) {
        QCNN_TRY(report(progress, (double)n / (double)compressed->n_nodes, error));
        const qcnn_tensor *weights = qcnn_node_weights(compressed, &compressed->nodes[n]);
        if (!weights || (!qcnn_is_codebook(weights) && weights->data_type == QCNN_FLOAT32))
            continue;
        qcnn_layer_diagnosis *layer = &diagnosis->layers[n];
        QCNN_TRY(judge_mixture(original, compressed, judge, n, true, &verdict, error));
        layer->alone_agreement = verdict.agreement;
        layer->alone_divergence = verdict.divergence;
        QCNN_TRY(judge_mixture(original, compressed, judge, n, false, &verdict, error));
        layer->others_agreement = verdict.agreement;
        layer->others_divergence = verdict.divergence;
        layer->known = 1;
    }
    return report(progress, 1, error);
}

// The judge of held-out images; *held_out tells whether there are any, otherwise it judges by those that were fitted to.
static qcnn_status open_judge(const qcnn_model *original, const qcnn_model *compressed, const qcnn_dataset *calibration, int n_images,
                              const qcnn_parallel *parallel, const qcnn_progress *progress, qcnn_samples *samples, int *n_judged,
                              int *held_out, qcnn_judge **judge, qcnn_error *error)
{
    if (original->n_nodes != compressed->n_nodes)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "the two networks have not the same layers");
    QCNN_TRY(qcnn_model_require_weights(original, error));
    QCNN_TRY(qcnn_samples_open(original, calibration, qcnn_model_preprocessing(compressed), 0, samples, error));
    *held_out = samples->n_images[QCNN_PART_HELD_OUT] > 0;
    const qcnn_part part = *held_out ? QCNN_PART_HELD_OUT : QCNN_PART_FIT;
    *n_judged = n_images > 0 && n_images < samples->n_images[part] ? n_images : samples->n_images[part];
    return qcnn_judge_new(original, samples, part, *n_judged, parallel, progress, judge, error);
}

qcnn_status qcnn_compare(const qcnn_model *original, const qcnn_model *compressed, const qcnn_dataset *calibration, int n_images,
                         const qcnn_parallel *parallel, const qcnn_progress *progress, qcnn_comparison *comparison, qcnn_error *error)
{
    qcnn_samples samples = { 0 };
    qcnn_judge *judge = NULL;
    qcnn_verdict verdict = { 0 };
    *comparison = (qcnn_comparison){ 0 };
    qcnn_status status = open_judge(original, compressed, calibration, n_images, parallel, progress, &samples, &comparison->n_images,
                                    &comparison->held_out, &judge, error);
    if (status == QCNN_OK)
        status = qcnn_judge_model(judge, compressed, progress, &verdict, error);
    qcnn_judge_free(judge);
    qcnn_samples_close(&samples);
    comparison->agreement = verdict.agreement;
    comparison->divergence = verdict.divergence;
    comparison->drop = verdict.drop;
    comparison->drop_error = verdict.drop_error;
    if (status != QCNN_OK)
        *comparison = (qcnn_comparison){ 0 };
    return status;
}

// So many images that all the mixtures take about this many multiply-adds, within bounds.
static int affordable_images(const qcnn_model *compressed)
{
    static const double operations = 2e12;
    enum { LEAST = 50, MOST = 1000 };
    double an_image = 0;
    int n_layers = 0;
    for (int i = 0; i < qcnn_model_n_layers(compressed); i++) {
        const qcnn_layer_info layer = qcnn_model_layer(compressed, i);
        an_image += (double)layer.dense_operations;
        n_layers += layer.weights > 0;
    }
    const double n = operations / ((2 * n_layers + 2) * (an_image + 1));
    return n < LEAST ? LEAST : n > MOST ? MOST : (int)n;
}

qcnn_status qcnn_diagnose(const qcnn_model *original, const qcnn_model *compressed, const qcnn_dataset *calibration, int n_images,
                          const qcnn_parallel *parallel, const qcnn_progress *progress, qcnn_diagnosis *diagnosis, qcnn_error *error)
{
    *diagnosis = (qcnn_diagnosis){ 0 };
    qcnn_samples samples = { 0 };
    qcnn_judge *judge = NULL;
    int held_out;
    diagnosis->n_layers = (int)compressed->n_nodes;
    diagnosis->layers = qcnn_allocate_zeroed(compressed->n_nodes, sizeof *diagnosis->layers);
    qcnn_status status = diagnosis->layers
                             ? open_judge(original, compressed, calibration, n_images > 0 ? n_images : affordable_images(compressed),
                                          parallel, NULL, &samples, &diagnosis->n_images, &held_out, &judge, error)
                             : qcnn_fail_memory(error, compressed->n_nodes * sizeof *diagnosis->layers);
    if (status == QCNN_OK)
        status = diagnose_layers(original, compressed, judge, progress, diagnosis, error);
    qcnn_judge_free(judge);
    qcnn_samples_close(&samples);
    if (status != QCNN_OK)
        qcnn_diagnosis_free(diagnosis);
    return status;
}
