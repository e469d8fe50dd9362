// SPDX-License-Identifier: Apache-2.0
// Writing the HTML report: pictures first (sizes to scale, bytes, operations and errors of each layer), then the settings.
// Names come from files of any origin, so every text goes through put_text.

#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report_style.h"
#include "table.h"

enum { PICTURE = 860, FIGURES = 220, ROW = 34 }; // in SVG units: the picture, its figures on the right, a layer's height
enum { NAME = 21 };                              // characters of a name

// One layer with weights, before and after.
typedef struct layer_pair {
    qcnn_layer_info layer;
    uint64_t original_bytes;
    double error_before;
    const char *kind; // its CSS class
    int index;        // as qcnn_model_layer counts
} layer_pair;

typedef struct page {
    FILE *out;
    const cli_report *report;
    layer_pair *layers;
    int n_layers;
    int left, bars; // where bars begin, and how long they get
} page;

// ---- text -----------------------------------------------------------------------------------------------------------

static void put_escaped(FILE *out, const char *text)
{
    for (; *text; text++)
        switch (*text) {
        case '&': fputs("&amp;", out); break;
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '"': fputs("&quot;", out); break;
        case '\'': fputs("&#39;", out); break;
        default: fputc((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text, out);
        }
}

static void put_text(FILE *out, const char *text)
{
    char *clean = cli_utf8(text);
    put_escaped(out, clean);
    free(clean);
}

// The last `limit` characters of a name: exporters' names differ at their ends.
static void put_tail(FILE *out, const char *text, int limit)
{
    char *clean = cli_utf8(text);
    int n = 0;
    const char *at = clean + strlen(clean);
    while (at > clean && n < limit)
        n += (*--at & 0xc0) != 0x80;
    if (at > clean)
        fputs("\u2026", out);
    put_escaped(out, at);
    free(clean);
}

static void open_section(FILE *out, const char *title, const char *explanation)
{
    fprintf(out, "<section><h2>%s</h2><p>%s</p>\n", title, explanation);
}

static void put_legend(FILE *out, const char *const *rows, int n)
{
    fputs("<div class=\"legend\">", out);
    for (int i = 0; i < n; i++) // pairs of colour and text
        fprintf(out, "<span><i style=\"background:var(--%s)\"></i>%s</span>", rows[2 * i], rows[2 * i + 1]);
    fputs("</div>\n", out);
}

static void open_picture(FILE *out, int height)
{
    fprintf(out, "<div class=\"wide\"><svg viewBox=\"0 0 %d %d\" role=\"img\">\n", PICTURE, height);
}

// A bar with a tooltip "name: value"; what is too short to be seen gets one unit.
static void put_bar(FILE *out, const char *kind, double x, double y, double width, double height, const char *name, const char *value)
{
    fprintf(out, "<rect class=\"%s\" x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\" rx=\"2\"><title>", kind, x, y,
            width < 1 ? 1 : width, height);
    put_text(out, name);
    fprintf(out, ": %s</title></rect>\n", value);
}

static void put_row_name(const page *p, const char *name, double y)
{
    fprintf(p->out, "<text class=\"end\" x=\"%d\" y=\"%.1f\">", p->left - 12, y);
    put_tail(p->out, name, NAME);
    fputs("</text>\n", p->out);
}

// ---- head -----------------------------------------------------------------------------------------------------------

static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void put_head(const page *p)
{
    const cli_report *report = p->report;
    fputs("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
          "content=\"width=device-width,initial-scale=1\">\n<title>",
          p->out);
    put_text(p->out, file_name(report->compressed_path));
    fprintf(p->out, " \u2013 qcnn report</title>\n<style>\n%s</style></head>\n<body><main>\n<h1>", report_style);
    put_text(p->out, file_name(report->compressed_path));
    fputs("</h1>\n<p>compressed from ", p->out);
    put_text(p->out, file_name(report->original_path));
    fputs("</p>\n", p->out);
}

static void open_tile(FILE *out, const char *format, double value)
{
    fputs("<div class=\"tile\"><b>", out);
    fprintf(out, format, value);
    fputs("</b><span>", out);
}

static void put_tiles(const page *p)
{
    static const char close[] = "</span></div>\n";
    const cli_totals *t = p->report->totals;
    const cli_findings *f = p->report->findings;
    cli_text a, b, c;
    fputs("<div class=\"tiles\">", p->out);
    open_tile(p->out, "%.1f\u00d7", t->ratio);
    fputs("smaller", p->out);
    if (f->ratio_asked > 0)
        fprintf(p->out, " (%g\u00d7 asked for)", f->ratio_asked);
    fprintf(p->out, ": %s of weights in a file of %s%s", cli_bytes_text((double)t->original_bytes, a),
            cli_bytes_text((double)t->file_bytes, b), close);
    if (cli_times_faster(f, -1) > 0) {
        open_tile(p->out, "%.1f\u00d7", cli_times_faster(f, -1));
        fprintf(p->out, "faster: %.3g ms an image, not %.3g: measured here, one thread, %s kernels, against the original in floats%s",
                f->after.ms, f->before.ms, qcnn_model_kernels(f->compressed), close);
    }
    if (f->loss.n_images > 0) {
        open_tile(p->out, "%.2f", cli_expected_loss(f));
        fprintf(p->out, "points of top-1 lost, expected by %d %s images: %.2f to %.2f%s", f->loss.n_images,
                f->loss.held_out ? "held-out" : "calibration", cli_expected_loss(f) - cli_expected_reach(f),
                cli_expected_loss(f) + cli_expected_reach(f), close);
    }
    open_tile(p->out, "%.2f", t->weights ? 8.0 * (double)t->file_bytes / (double)t->weights : 0);
    fprintf(p->out, "bits a weight, %s weights; compressed in %s on %d thread%s, peak memory %s%s</div>\n",
            cli_count_text((double)t->weights, a), cli_duration_text(p->report->seconds, c), p->report->threads,
            p->report->threads == 1 ? "" : "s", cli_bytes_text((double)p->report->peak_rss_bytes, b), close);
}

// ---- sizes to scale -------------------------------------------------------------------------------------------------

// A bar of all layers at `y`, `scale` units a byte, and behind them the rest of the file.
static double put_stack(const page *p, double y, double scale, bool after)
{
    const cli_totals *t = p->report->totals;
    double x = 0;
    cli_text value;
    for (int i = 0; i <= p->n_layers; i++) {
        const bool rest = i == p->n_layers;
        const uint64_t all = t->file_bytes > t->layer_bytes ? t->file_bytes - t->layer_bytes : 0;
        const double bytes = (double)(rest ? (after ? all : 0) : after ? p->layers[i].layer.bytes : p->layers[i].original_bytes);
        const char *name = rest ? "graph, names, padding" : p->layers[i].layer.name;
        const double width = bytes * scale;
        if (bytes == 0)
            continue;
        const double gap = width > 4 ? 1.5 : 0; // a sliver of background tells neighbours apart
        put_bar(p->out, rest ? "rest" : p->layers[i].kind, x, y, width - gap, 44, name, cli_bytes_text(bytes, value));
        if (width > 58) {
            fprintf(p->out, "<text class=\"on middle\" x=\"%.1f\" y=\"%.1f\" pointer-events=\"none\">", x + width / 2, y + 27);
            put_tail(p->out, name, (int)(width / 9) - 1);
            fputs("</text>\n", p->out);
        }
        x += width;
    }
    return x;
}

static void put_sizes(const page *p)
{
    static const char *const legend[] = { "conv", "convolution", "fc", "fully connected", "rest", "everything else" };
    const cli_totals *t = p->report->totals;
    const double largest = (double)(t->original_bytes > t->file_bytes ? t->original_bytes : t->file_bytes);
    cli_text text;
    open_section(p->out, "Before and after", "The first two bars have one scale; the third shows the compressed file enlarged.");
    put_legend(p->out, legend, 3);
    open_picture(p->out, 268);
    fprintf(p->out, "<text class=\"soft\" x=\"0\" y=\"14\">float32 weights, %s</text>\n", cli_bytes_text((double)t->original_bytes, text));
    put_stack(p, 22, PICTURE / largest, false);
    fprintf(p->out, "<text class=\"soft\" x=\"0\" y=\"96\">compressed file, %s</text>\n", cli_bytes_text((double)t->file_bytes, text));
    const double end = put_stack(p, 104, PICTURE / largest, true);
    fprintf(p->out, "<path class=\"zoom\" d=\"M0 152 L%.1f 152 L%d 216 L0 216 Z\"/>\n", end, PICTURE);
    fprintf(p->out, "<text class=\"soft\" x=\"8\" y=\"206\">the same, enlarged %.1f times</text>\n", largest / (double)t->file_bytes);
    put_stack(p, 220, PICTURE / (double)t->file_bytes, true);
    fputs("</svg></div></section>\n", p->out);
}

// ---- layer by layer -------------------------------------------------------------------------------------------------

// A layer's two bars and their figures, in row i.
static void put_pair(const page *p, int i, double before, double after, double largest, const char *before_text, const char *after_text)
{
    const layer_pair *pair = &p->layers[i];
    const double y = ROW * i;
    put_row_name(p, pair->layer.name, y + 20);
    put_bar(p->out, "before", p->left, y + 5, p->bars * before / largest, 11, pair->layer.name, before_text);
    put_bar(p->out, pair->kind, p->left, y + 17, p->bars * after / largest, 11, pair->layer.name, after_text);
    fprintf(p->out,
            "<text class=\"end soft\" x=\"%d\" y=\"%.1f\">%s \u2192 %s</text><text class=\"end bold\" x=\"%d\" "
            "y=\"%.1f\">%.1f\u00d7</text>\n",
            PICTURE - 68, y + 20, before_text, after_text, PICTURE, y + 20, after > 0 ? before / after : 0);
}

static void put_layer_bytes(const page *p)
{
    static const char *const legend[] = { "before", "float32", "conv", "compressed convolution", "fc", "compressed fully connected" };
    double largest = 1;
    for (int i = 0; i < p->n_layers; i++)
        largest = p->layers[i].original_bytes > largest ? (double)p->layers[i].original_bytes : largest;
    open_section(p->out, "Bytes of each layer", "Weights, codebooks, assignments and biases, as stored.");
    put_legend(p->out, legend, 3);
    open_picture(p->out, ROW * p->n_layers);
    for (int i = 0; i < p->n_layers; i++) {
        const double before = (double)p->layers[i].original_bytes, after = (double)p->layers[i].layer.bytes;
        cli_text before_text, after_text;
        put_pair(p, i, before, after, largest, cli_bytes_text(before, before_text), cli_bytes_text(after, after_text));
    }
    fputs("</svg></div></section>\n", p->out);
}

static void put_layer_times(const page *p)
{
    static const char *const legend[] = { "before", "the original, in floats",   "conv", "compressed convolution",
                                          "fc",     "compressed fully connected" };
    const cli_timing *before = &p->report->findings->before, *after = &p->report->findings->after;
    char intro[400];
    double largest = 0;
    if (cli_times_faster(p->report->findings, -1) <= 0)
        return;
    for (int i = 0; i < p->n_layers; i++) {
        const int index = p->layers[i].index;
        largest = before->layer_ms[index] > largest ? before->layer_ms[index] : largest;
        largest = after->layer_ms[index] > largest ? after->layer_ms[index] : largest;
    }
    snprintf(
        intro, sizeof intro,
        "Milliseconds for one image on one thread, medians of %d and %d runs on the machine that wrote this, with its %s kernels. What "
        "lies between these layers adds to the whole: %.3g \u2192 %.3g ms.",
        before->n_runs, after->n_runs, qcnn_model_kernels(p->report->findings->compressed), before->ms, after->ms);
    open_section(p->out, "Time of each layer", intro);
    put_legend(p->out, legend, 3);
    open_picture(p->out, ROW * p->n_layers);
    for (int i = 0; i < p->n_layers; i++) {
        const double was = before->layer_ms[p->layers[i].index], is = after->layer_ms[p->layers[i].index];
        cli_text was_text, is_text;
        snprintf(was_text, sizeof was_text, "%.3f", was);
        snprintf(is_text, sizeof is_text, "%.3f ms", is);
        put_pair(p, i, was, is, largest > 0 ? largest : 1, was_text, is_text);
    }
    fputs("</svg></div></section>\n", p->out);
}

static void put_layer_operations(const page *p)
{
    static const char *const legend[] = { "before", "multiply-adds when dense", "conv", "multiplications", "lookup", "look-ups" };
    double largest = 1;
    for (int i = 0; i < p->n_layers; i++) {
        const cli_operations now = cli_layer_operations(&p->layers[i].layer);
        const double dense = (double)p->layers[i].layer.dense_operations, sum = (double)now.multiplications + (double)now.lookups;
        largest = dense > largest ? dense : largest;
        largest = sum > largest ? sum : largest;
    }
    const cli_totals *t = p->report->totals;
    cli_text all_dense, all_mul, all_look;
    char intro[400];
    snprintf(
        intro, sizeof intro,
        "For one image: %s multiply-adds became %s multiplications and %s look-ups. A look-up is one table entry read and added. Layers "
        "whose tables would cost more than they save run dense. In bytes both are several times cheaper than in floats.",
        cli_count_text((double)t->dense_operations, all_dense), cli_count_text((double)t->multiplications, all_mul),
        cli_count_text((double)t->lookups, all_look));
    open_section(p->out, "Operations of each layer", intro);
    put_legend(p->out, legend, 3);
    open_picture(p->out, ROW * p->n_layers);
    for (int i = 0; i < p->n_layers; i++) {
        const qcnn_layer_info *layer = &p->layers[i].layer;
        const cli_operations now = cli_layer_operations(layer);
        const double y = ROW * i, scale = p->bars / largest, multiplications = (double)now.multiplications * scale;
        cli_text dense, mul, look, sum;
        put_row_name(p, layer->name, y + 20);
        put_bar(p->out, "before", p->left, y + 5, (double)layer->dense_operations * scale, 11, layer->name,
                cli_count_text((double)layer->dense_operations, dense));
        put_bar(p->out, "conv", p->left, y + 17, multiplications, 11, layer->name, cli_count_text((double)now.multiplications, mul));
        if (now.lookups)
            put_bar(p->out, "lookup", p->left + (multiplications < 1 ? 1 : multiplications) + 1, y + 17, (double)now.lookups * scale, 11,
                    layer->name, cli_count_text((double)now.lookups, look));
        fprintf(p->out,
                "<text class=\"end soft\" x=\"%d\" y=\"%.1f\">%s \u2192 %s</text><text class=\"end bold\" x=\"%d\" y=\"%.1f\">%s</text>\n",
                PICTURE - 68, y + 20, dense, cli_count_text((double)now.multiplications + (double)now.lookups, sum), PICTURE, y + 20,
                strcmp(layer->method, "lut") == 0 ? "tables" : "dense");
    }
    fputs("</svg></div></section>\n", p->out);
}

// The response error of a layer before and after correction, or why there is none.
static const char *error_text(const qcnn_layer_info *layer, double before, char text[100])
{
    if (layer->error >= 0 && before >= 0)
        snprintf(text, 100, "%.4f \u2192 %.4f", before, layer->error);
    else if (layer->error >= 0)
        snprintf(text, 100, "%.4f", layer->error);
    else if (strcmp(layer->storage, "codebook") == 0)
        snprintf(text, 100, "not known");
    else if (strcmp(layer->storage, "float32") == 0)
        snprintf(text, 100, "as it was");
    else
        snprintf(text, 100, "rounded to %s, not measured", layer->storage);
    return text;
}

static void put_layer_errors(const page *p)
{
    double largest = 0;
    for (int i = 0; i < p->n_layers; i++)
        largest = fmax(largest, fmax(p->layers[i].layer.error, p->layers[i].error_before));
    if (largest <= 0) {
        fputs("<section><h2>Error of each layer</h2><p>Not known: it is measured with error correction or refinement.</p></section>\n",
              p->out);
        return;
    }
    open_section(p->out, "Error of each layer",
                 "Squared error of the layer's response relative to its variance, as the compressor measured it: grey what k-means alone "
                 "leaves, then "
                 "what is left in the end. Front to back, errors of the layers before are in it. The last steps of correction weigh errors "
                 "by what the network's answers make of them, all outputs together: this error may grow while less is lost.");
    open_picture(p->out, 24 * p->n_layers);
    for (int i = 0; i < p->n_layers; i++) {
        const qcnn_layer_info *layer = &p->layers[i].layer;
        char value[100];
        const double before = p->layers[i].error_before;
        error_text(layer, before, value);
        put_row_name(p, layer->name, 24 * i + 16);
        if (before > 0)
            put_bar(p->out, "before", p->left, 24 * i + 4, p->bars * before / largest, 7, layer->name, value);
        if (layer->error > 0)
            put_bar(p->out, "error", p->left, 24 * i + 12, p->bars * layer->error / largest, 7, layer->name, value);
        fprintf(p->out, "<text class=\"end bold\" x=\"%d\" y=\"%d\">%s</text>\n", PICTURE, 24 * i + 16, value);
    }
    fputs("</svg></div></section>\n", p->out);
}

static void put_diagnosis_row(const page *p, int index)
{
    const qcnn_diagnosis *d = &p->report->findings->diagnosis;
    const qcnn_layer_info layer = qcnn_model_layer(p->report->findings->compressed, index);
    const double faster = cli_times_faster(p->report->findings, index);
    char error[100];
    cli_text bytes;
    fputs("<tr><td>", p->out);
    put_text(p->out, layer.name);
    fprintf(p->out, "<td class=\"n\">%.4f<td class=\"n\">%.4f<td class=\"n\">%.4f<td class=\"n\">%s<td class=\"n\">",
            cli_layer_cost(d, index), d->layers[index].others_divergence, d->layers[index].alone_divergence,
            cli_exact_text(layer.bytes, bytes));
    if (faster > 0)
        fprintf(p->out, "%.1f", faster);
    fprintf(p->out, "<td>%s</tr>\n", error_text(&layer, p->report->findings->errors_before[index], error));
}

static void put_diagnosis(const page *p)
{
    const qcnn_diagnosis *d = &p->report->findings->diagnosis;
    char intro[500];
    if (!d->layers)
        return;
    fputs("<section><h2>Which layer costs the accuracy</h2><p class=\"verdict\">", p->out);
    put_text(p->out, cli_verdict(p->report->findings, intro));
    fprintf(p->out,
            "</p><p>Divergence of the answers from the original's on %d calibration images, in floats: %.4f with all layers compressed. A "
            "layer costs what is gained with all others compressed and it alone as it was. Effects do not add up: layers behind a "
            "corrected one were fitted to make up for its error, so that it may look worse alone than the whole does.</p>\n",
            d->n_images, d->divergence);
    fputs("<div class=\"wide\"><table><tr><th>layer<th class=\"n\">costs<th class=\"n\">all others<th class=\"n\">it alone<th "
          "class=\"n\">bytes<th class=\"n\">times faster<th>response error</tr>\n",
          p->out);
    int *order = cli_allocate((size_t)d->n_layers + 1, sizeof *order);
    const int n = cli_layers_by_cost(d, order);
    for (int i = 0; i < n; i++)
        put_diagnosis_row(p, order[i]);
    free(order);
    fputs("</table></div></section>\n", p->out);
}

// ---- the table, the whole -------------------------------------------------------------------------------------------

static void put_settings(const page *p)
{
    open_section(p->out, "Settings and why",
                 "C\u2032: inputs a codeword spans. K: codewords. Bits a weight are of all that is stored: codebooks and assignments, or "
                 "numbers and their scales, and biases. A layer runs from tables where the cost model expects that to be cheaper (costs in "
                 "multiply-adds of this tier).");
    fputs("<div class=\"wide\"><table><tr><th>layer<th>type<th>output<th>stored as<th>C\u2032/K<th class=\"n\">bytes<th class=\"n\">bits a "
          "weight<th>runs<th>why</tr>\n",
          p->out);
    cli_text bytes;
    for (int i = 0; i < p->n_layers; i++) {
        const qcnn_layer_info *layer = &p->layers[i].layer;
        char shape[96], setting[32], reason[128];
        fputs("<tr><td>", p->out);
        put_text(p->out, layer->name);
        fprintf(p->out, "<td>%s<td>%s<td>%s<td>%s<td class=\"n\">%s<td class=\"n\">%.2f<td>%s<td>%s</tr>\n", layer->type,
                cli_shape_text(&layer->output_shape, shape), layer->storage, cli_layer_setting(layer, setting),
                cli_exact_text(layer->bytes, bytes), layer->weights ? 8.0 * (double)layer->bytes / (double)layer->weights : 0,
                layer->method, cli_layer_reason(layer, reason));
    }
    const cli_totals *t = p->report->totals;
    if (t->file_bytes >= t->layer_bytes)
        fprintf(p->out, "<tr><td>graph, names, padding<td><td><td><td><td class=\"n\">%s<td><td><td></tr>\n",
                cli_exact_text(t->file_bytes - t->layer_bytes, bytes));
    fprintf(p->out,
            "<tr class=\"total\"><td>file<td><td><td><td><td class=\"n\">%s<td class=\"n\">%.2f<td><td></tr></table></div></section>\n",
            cli_exact_text(t->file_bytes, bytes), t->weights ? 8.0 * (double)t->file_bytes / (double)t->weights : 0);
}

static void put_foot(const page *p)
{
    fprintf(p->out, "<footer>qcnn %s, %s", qcnn_version(), p->report->how);
    if (p->report->settings) {
        fputs(", set ", p->out);
        put_text(p->out, p->report->settings);
    }
    fprintf(p->out, ", seed %llu.</footer>\n</main></body></html>\n", (unsigned long long)p->report->seed);
}

static void collect_layers(page *p)
{
    const qcnn_model *model = p->report->findings->compressed;
    p->layers = cli_allocate((size_t)qcnn_model_n_layers(model), sizeof *p->layers);
    for (int i = 0; i < qcnn_model_n_layers(model); i++) {
        const qcnn_layer_info layer = qcnn_model_layer(model, i);
        if (!cli_has_weights(&layer))
            continue;
        const char *kind = strcmp(layer.type, "conv") == 0 ? "conv" : strcmp(layer.type, "fc") == 0 ? "fc" : "rest";
        const int width = 30 + 8 * (int)(strlen(layer.name) < NAME ? strlen(layer.name) : NAME);
        p->left = width > p->left ? width : p->left;
        p->layers[p->n_layers++] =
            (layer_pair){ layer, qcnn_model_layer(p->report->findings->original, i).bytes, p->report->findings->errors_before[i], kind, i };
    }
    p->bars = PICTURE - FIGURES - p->left;
}

int cli_report_write(const cli_report *report, const char *path)
{
    char *text = NULL;
    size_t n_bytes = 0;
    page p = { .out = open_memstream(&text, &n_bytes), .report = report };
    if (!p.out)
        return cli_fail("%s: out of memory, the report was not written", path);
    collect_layers(&p);
    put_head(&p);
    put_tiles(&p);
    put_sizes(&p);
    put_diagnosis(&p);
    put_layer_errors(&p);
    put_layer_times(&p);
    put_layer_bytes(&p);
    put_layer_operations(&p);
    put_settings(&p);
    put_foot(&p);
    const bool complete = !ferror(p.out);
    int status = CLI_DONE;
    qcnn_error error;
    if (fclose(p.out) || !complete)
        status = cli_fail("%s: out of memory, the report was not written", path);
    else if (qcnn_write_file(path, text, n_bytes, &error))
        status = cli_fail_at(path, &error);
    free(p.layers);
    free(text);
    return status;
}
