// SPDX-License-Identifier: Apache-2.0
// Findings as sentences and as JSON.

#include "findings.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- what is lost ---------------------------------------------------------------------------------------------------

double cli_expected_loss(const cli_findings *findings)
{
    return 100 * findings->loss.drop;
}

double cli_expected_reach(const cli_findings *findings)
{
    return 100 * 1.96 * findings->loss.drop_error;
}

const char *cli_loss_text(const cli_findings *findings, char text[400])
{
    const qcnn_comparison *loss = &findings->loss;
    const double points = cli_expected_loss(findings), reach = cli_expected_reach(findings);
    snprintf(text, 400,
             "expected to lose %.2f points of top-1 (95 %% interval %.2f to %.2f), by %d calibration images %s\n"
             "  the original's first class on %.1f %% of them, divergence %.4f; images that the network was trained on flatter it",
             points, points - reach, points + reach, loss->n_images,
             loss->held_out ? "held out of all fits" : "that were fitted to, which flatters", 100 * loss->agreement, loss->divergence);
    return text;
}

const char *cli_loss_warning(const cli_findings *findings, char text[300])
{
    const double upper = cli_expected_loss(findings) + cli_expected_reach(findings);
    text[0] = 0;
    if (findings->max_drop > 0 && findings->loss.n_images > 0 && upper > findings->max_drop)
        snprintf(text, 300,
                 "the loss may be up to %.2f points, not %g, as far as %d images tell, and more if the network was trained on them: more "
                 "images, others, or a smaller --max-drop make it surer",
                 upper, findings->max_drop, findings->loss.n_images);
    return text;
}

// ---- which layer costs it -------------------------------------------------------------------------------------------

double cli_layer_cost(const qcnn_diagnosis *diagnosis, int index)
{
    return diagnosis->divergence - diagnosis->layers[index].others_divergence;
}

int cli_layers_by_cost(const qcnn_diagnosis *diagnosis, int *order)
{
    int n = 0;
    for (int i = 0; i < diagnosis->n_layers; i++) {
        if (!diagnosis->layers[i].known)
            continue;
        int at = n++;
        for (; at > 0 && cli_layer_cost(diagnosis, i) > cli_layer_cost(diagnosis, order[at - 1]); at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
    return n;
}

// "--set conv4=4/128 gives it finer settings, --set conv4=dense leaves it alone"
static const char *advice(const qcnn_layer_info *layer, char text[240])
{
    const bool codebook = strcmp(layer->storage, "codebook") == 0;
    const char *type = strcmp(layer->codeword_type, "float32") == 0 ? "" : layer->codeword_type;
    if (codebook && layer->subspace > 1)
        snprintf(text, 240, "--set %.60s=%d/%d%s%s gives it finer settings, --set %.60s=dense leaves it alone", layer->name,
                 layer->subspace / 2, layer->codewords, *type ? "/" : "", type, layer->name);
    else
        snprintf(text, 240, "--set %.60s=dense leaves it alone", layer->name);
    return text;
}

const char *cli_verdict(const cli_findings *findings, char text[500])
{
    static const double notable = 0.1; // of the whole divergence
    const qcnn_diagnosis *d = &findings->diagnosis;
    int *order = cli_allocate((size_t)d->n_layers + 1, sizeof *order);
    const int n = cli_layers_by_cost(d, order), worst = order[0];
    text[0] = 0;
    if (n > 1 && cli_layer_cost(d, worst) > notable * d->divergence) {
        char what_to_do[240];
        const qcnn_layer_info layer = qcnn_model_layer(findings->compressed, worst);
        snprintf(text, 500, "%.60s costs most: with it as it was, the divergence falls from %.4f to %.4f. %s.", layer.name, d->divergence,
                 d->layers[worst].others_divergence, advice(&layer, what_to_do));
    } else if (n > 1) {
        snprintf(text, 500,
                 "No layer stands out: with any one of them as it was, the divergence stays at %.4f of %.4f or above. If that is too much, "
                 "all need finer settings: a smaller --ratio, or --set.",
                 d->layers[worst].others_divergence, d->divergence);
    }
    free(order);
    return text;
}

// ---- speed ----------------------------------------------------------------------------------------------------------

double cli_times_faster(const cli_findings *findings, int index)
{
    if (findings->before.n_runs == 0 || findings->after.n_runs == 0)
        return 0;
    const double before = index < 0 ? findings->before.ms : findings->before.layer_ms[index];
    const double after = index < 0 ? findings->after.ms : findings->after.layer_ms[index];
    return after > 0 ? before / after : 0;
}

// ---- JSON -----------------------------------------------------------------------------------------------------------

static void loss_json(const cli_findings *findings, cJSON *root)
{
    const double points = cli_expected_loss(findings), reach = cli_expected_reach(findings);
    cJSON *object = cli_json_child(root, "estimate");
    cli_json_number(object, "images", findings->loss.n_images);
    cJSON_AddBoolToObject(object, "held_out", findings->loss.held_out);
    cli_json_number(object, "lost_top1", points);
    cli_json_interval(object, "lost_top1_interval", points - reach, points + reach);
    cli_json_number(object, "agreement", 100 * findings->loss.agreement);
    cli_json_number(object, "divergence", findings->loss.divergence);
}

static void speed_json(const cli_findings *findings, cJSON *root)
{
    cJSON *object = cli_json_child(root, "speed");
    cli_json_number(object, "threads", 1);
    cli_json_number(object, "original_ms", findings->before.ms);
    cli_json_number(object, "ms", findings->after.ms);
    cli_json_number(object, "times_faster", cli_times_faster(findings, -1));
    cJSON *layers = cli_json_array(object, "layers");
    for (int i = 0; i < qcnn_model_n_layers(findings->compressed); i++) {
        const qcnn_layer_info layer = qcnn_model_layer(findings->compressed, i);
        if (!cli_has_weights(&layer))
            continue;
        cJSON *row = cli_json_append(layers);
        cli_json_text(row, "name", layer.name);
        cli_json_number(row, "original_ms", findings->before.layer_ms[i]);
        cli_json_number(row, "ms", findings->after.layer_ms[i]);
        cli_json_number(row, "times_faster", cli_times_faster(findings, i));
    }
}

static void diagnosis_json(const cli_findings *findings, cJSON *root)
{
    char text[500];
    const qcnn_diagnosis *d = &findings->diagnosis;
    int *order = cli_allocate((size_t)d->n_layers + 1, sizeof *order);
    cJSON *object = cli_json_child(root, "diagnosis");
    cli_json_text(object, "verdict", cli_verdict(findings, text));
    cli_json_number(object, "images", d->n_images);
    cli_json_number(object, "agreement", 100 * d->agreement);
    cli_json_number(object, "divergence", d->divergence);
    cJSON *layers = cli_json_array(object, "layers");
    const int n = cli_layers_by_cost(d, order);
    for (int i = 0; i < n; i++) {
        const qcnn_layer_diagnosis *of = &d->layers[order[i]];
        cJSON *row = cli_json_append(layers);
        cli_json_text(row, "name", qcnn_model_layer(findings->compressed, order[i]).name);
        cli_json_number(row, "cost", cli_layer_cost(d, order[i]));
        cli_json_number(row, "alone_divergence", of->alone_divergence);
        cli_json_number(row, "alone_agreement", 100 * of->alone_agreement);
        cli_json_number(row, "others_divergence", of->others_divergence);
        cli_json_number(row, "others_agreement", 100 * of->others_agreement);
    }
    free(order);
}

// Into the layers that are there: the written file does not have these errors.
static void errors_json(const cli_findings *findings, cJSON *root)
{
    cJSON *row = cJSON_GetObjectItem(root, "layers")->child;
    for (int i = 0; i < qcnn_model_n_layers(findings->compressed); i++) {
        const qcnn_layer_info layer = qcnn_model_layer(findings->compressed, i);
        if (!cli_has_weights(&layer))
            continue;
        cJSON_DeleteItemFromObject(row, "error_before");
        cli_json_number(row, "error_before", findings->errors_before[i] < 0 ? NAN : findings->errors_before[i]);
        row = row->next;
    }
}

void cli_findings_json(const cli_findings *findings, cJSON *root)
{
    errors_json(findings, root);
    if (findings->ratio_asked > 0)
        cli_json_number(root, "ratio_asked", findings->ratio_asked);
    if (findings->max_drop > 0)
        cli_json_number(root, "max_drop", findings->max_drop);
    if (findings->loss.n_images > 0)
        loss_json(findings, root);
    if (findings->before.n_runs > 0 && findings->after.n_runs > 0)
        speed_json(findings, root);
    if (findings->diagnosis.layers)
        diagnosis_json(findings, root);
}

void cli_findings_free(cli_findings *findings)
{
    free(findings->errors_before);
    cli_timing_free(&findings->before);
    cli_timing_free(&findings->after);
    qcnn_diagnosis_free(&findings->diagnosis);
}
