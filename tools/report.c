// SPDX-License-Identifier: Apache-2.0
// Writing the HTML report: pictures first (sizes to scale, bytes, operations and errors of each layer), then the settings.
// Names come from files of any origin, so every text goes through put_text.

#include "report.h"

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

static void put_tiles(const page *p)
{
    const cli_totals *t = p->report->totals;
    cli_text a, b;
    fputs("<div class=\"tiles\">", p->out);
    fprintf(p->out, "<div class=\"tile\"><b>%.1f\u00d7</b><span>smaller: %s of weights in a file of %s</span></div>", t->ratio,
            cli_bytes_text((double)t->original_bytes, a), cli_bytes_text((double)t->file_bytes, b));
    const double now = (double)t->multiplications + (double)t->lookups;
    fprintf(p->out, "<div class=\"tile\"><b>%.1f\u00d7</b><span>fewer operations: %s multiply-adds became %s</span></div>",
            now > 0 ? (double)t->dense_operations / now : 0, cli_count_text((double)t->dense_operations, a), cli_count_text(now, b));
    fprintf(p->out, "<div class=\"tile\"><b>%.2f</b><span>bits a weight, %s weights</span></div>",
            t->weights ? 8.0 * (double)t->file_bytes / (double)t->weights : 0, cli_count_text((double)t->weights, a));
    fprintf(p->out, "<div class=\"tile\"><b>%s</b><span>on %d thread%s, peak memory %s</span></div></div>\n",
            cli_duration_text(p->report->seconds, a), p->report->threads, p->report->threads == 1 ? "" : "s",
            cli_bytes_text((double)p->report->peak_rss_bytes, b));
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
        const layer_pair *pair = &p->layers[i];
        const double y = ROW * i, before = (double)pair->original_bytes, after = (double)pair->layer.bytes;
        cli_text before_text, after_text;
        cli_bytes_text(before, before_text);
        cli_bytes_text(after, after_text);
        put_row_name(p, pair->layer.name, y + 20);
        put_bar(p->out, "before", p->left, y + 5, p->bars * before / largest, 11, pair->layer.name, before_text);
        put_bar(p->out, pair->kind, p->left, y + 17, p->bars * after / largest, 11, pair->layer.name, after_text);
        fprintf(p->out,
                "<text class=\"end soft\" x=\"%d\" y=\"%.1f\">%s \u2192 %s</text><text class=\"end bold\" x=\"%d\" "
                "y=\"%.1f\">%.1f\u00d7</text>\n",
                PICTURE - 60, y + 20, before_text, after_text, PICTURE, y + 20, after > 0 ? before / after : 0);
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
    open_section(
        p->out, "Operations of each layer",
        "For one image. A look-up is one table entry read and added. Layers whose tables would cost more than they save run dense.");
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
                PICTURE - 60, y + 20, dense, cli_count_text((double)now.multiplications + (double)now.lookups, sum), PICTURE, y + 20,
                strcmp(layer->method, "lut") == 0 ? "tables" : "dense");
    }
    fputs("</svg></div></section>\n", p->out);
}

static void put_layer_errors(const page *p)
{
    double largest = 0;
    for (int i = 0; i < p->n_layers; i++)
        largest = p->layers[i].layer.error > largest ? p->layers[i].layer.error : largest;
    if (largest <= 0) {
        open_section(p->out, "Error of each layer", "Not known: nothing was calibrated, so no layer's response was measured.");
        fputs("</section>\n", p->out);
        return;
    }
    open_section(p->out, "Error of each layer",
                 "Relative error of the layer's response, as the compressor measured it; look here first when accuracy falls.");
    open_picture(p->out, 24 * p->n_layers);
    for (int i = 0; i < p->n_layers; i++) {
        const qcnn_layer_info *layer = &p->layers[i].layer;
        char value[32];
        snprintf(value, sizeof value, layer->error < 0 ? "not known" : "%.4f", layer->error);
        put_row_name(p, layer->name, 24 * i + 16);
        if (layer->error > 0)
            put_bar(p->out, "error", p->left, 24 * i + 5, p->bars * layer->error / largest, 14, layer->name, value);
        fprintf(p->out, "<text class=\"end bold\" x=\"%d\" y=\"%d\">%s</text>\n", PICTURE, 24 * i + 16, value);
    }
    fputs("</svg></div></section>\n", p->out);
}

static void put_diagnosis(const page *p)
{
    const qcnn_diagnosis *d = p->report->diagnosis;
    if (!d)
        return;
    char intro[400];
    snprintf(
        intro, sizeof intro,
        "On %d calibration images that nothing was fitted to, the compressed network has the original's first class on %.1f %%; "
        "divergence %.4f. A layer costs much if the network is bad with it alone compressed, and good with all others compressed: give it "
        "finer settings (--set), or leave it dense.",
        d->n_images, 100 * d->agreement, d->divergence);
    open_section(p->out, "Which layer costs the accuracy", intro);
    fputs("<div class=\"wide\"><table><tr><th>layer<th class=\"n\">bytes<th class=\"n\">response error<th class=\"n\">times "
          "faster<th class=\"n\">alone: same class<th class=\"n\">divergence<th class=\"n\">all others: same class<th "
          "class=\"n\">divergence</tr>\n",
          p->out);
    for (int i = 0; i < p->n_layers; i++) {
        const qcnn_layer_info *layer = &p->layers[i].layer;
        const qcnn_layer_diagnosis *of = &d->layers[p->layers[i].index];
        const double cost = strcmp(layer->method, "lut") == 0 ? layer->lut_cost : layer->dense_cost;
        char error[32];
        cli_text bytes;
        if (!of->known)
            continue;
        if (layer->error < 0)
            error[0] = 0;
        else
            snprintf(error, sizeof error, "%.4f", layer->error);
        fputs("<tr><td>", p->out);
        put_text(p->out, layer->name);
        fprintf(p->out,
                "<td class=\"n\">%s<td class=\"n\">%s<td class=\"n\">%.1f<td class=\"n\">%.1f %%<td class=\"n\">%.4f<td "
                "class=\"n\">%.1f %%<td class=\"n\">%.4f</tr>\n",
                cli_exact_text(layer->bytes, bytes), error, cost > 0 ? layer->dense_cost / cost : 1, 100 * of->alone_agreement,
                of->alone_divergence, 100 * of->others_agreement, of->others_divergence);
    }
    fputs("</table></div></section>\n", p->out);
}

// ---- the table, the whole -------------------------------------------------------------------------------------------

static void put_settings(const page *p)
{
    open_section(p->out, "Settings and why",
                 "C\u2032: inputs a codeword spans. K: codewords. A layer runs from tables where the cost model expects that to be cheaper "
                 "(costs in multiply-adds).");
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
    const qcnn_model *model = p->report->compressed;
    p->layers = cli_allocate((size_t)qcnn_model_n_layers(model), sizeof *p->layers);
    for (int i = 0; i < qcnn_model_n_layers(model); i++) {
        const qcnn_layer_info layer = qcnn_model_layer(model, i);
        if (!cli_has_weights(&layer))
            continue;
        const char *kind = strcmp(layer.type, "conv") == 0 ? "conv" : strcmp(layer.type, "fc") == 0 ? "fc" : "rest";
        const int width = 30 + 8 * (int)(strlen(layer.name) < NAME ? strlen(layer.name) : NAME);
        p->left = width > p->left ? width : p->left;
        p->layers[p->n_layers++] = (layer_pair){ layer, qcnn_model_layer(p->report->original, i).bytes, kind, i };
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
    put_layer_bytes(&p);
    put_layer_operations(&p);
    put_layer_errors(&p);
    put_diagnosis(&p);
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
