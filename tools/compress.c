// SPDX-License-Identifier: Apache-2.0
// qcnn compress: a trained network in, a .qcnn file out.

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "findings.h"
#include "layers.h"
#include "progress.h"
#include "report.h"
#include "table.h"

enum { CHECKPOINT_NAME_BYTES = 4096 };

typedef struct compress_request {
    const char *model_path, *output, *calibration, *report;
    cli_model_options model;
    const char *preset, *settings;
    qcnn_correction correction;
    double refine_minutes; // 0: none
    double rate_price;
    double ratio, max_drop; // 0: not asked for
    uint64_t seed;
    int threads;
    bool json;
} compress_request;

// What the run took.
typedef struct compress_effort {
    double seconds;
    uint64_t peak_rss_bytes;
    int threads;
} compress_effort;

// ---- the work -------------------------------------------------------------------------------------------------------

// The file beside the output in which a correction keeps what it has finished; "" where there is none to be had.
static const char *checkpoint_name(const compress_request *request, char name[CHECKPOINT_NAME_BYTES])
{
    const bool long_work = request->correction != QCNN_CORRECTION_NONE || request->refine_minutes > 0;
    const bool wanted = long_work && strncmp(request->output, "/dev/", 5) != 0;
    const int n = wanted ? snprintf(name, CHECKPOINT_NAME_BYTES, "%s.checkpoint", request->output) : 0;
    if (n <= 0 || n >= CHECKPOINT_NAME_BYTES)
        name[0] = 0;
    return name;
}

// Attempts of a search repeat each other: what was said last is not said again.
static void note(void *context, const char *message)
{
    static char last[512];
    cli_progress_end(context);
    if (strcmp(last, message) != 0)
        cli_note("%s", message);
    snprintf(last, sizeof last, "%s", message);
}

static int stopped_by_signal(const compress_request *request, const char *checkpoint, int status)
{
    char search[CHECKPOINT_NAME_BYTES + 8];
    snprintf(search, sizeof search, "%s.search", checkpoint);
    if (checkpoint[0] && (access(checkpoint, F_OK) == 0 || access(search, F_OK) == 0))
        cli_fail("%s: stopped by a signal; the same command goes on from %s", request->output, checkpoint);
    else
        cli_fail("%s: stopped by a signal; nothing was written", request->output);
    return status;
}

// Images and the checkpoint are at fault where something could not be read: the message names them. Otherwise the model is.
static int tell_failure(const compress_request *request, const qcnn_error *error)
{
    const bool file = error->status == QCNN_ERROR_IO || error->status == QCNN_ERROR_FORMAT;
    return cli_fail_at(file ? NULL : request->model_path, error);
}

static int compress_model(const compress_request *request, const qcnn_model *original, const qcnn_dataset *images, const qcnn_pool *pool,
                          cli_progress *progress, qcnn_model **compressed)
{
    char checkpoint[CHECKPOINT_NAME_BYTES];
    qcnn_compress_options options = qcnn_compress_options_default();
    options.preset = request->preset;
    options.settings = request->settings;
    options.seed = request->seed;
    options.parallel = qcnn_pool_hook(pool);
    options.progress = &progress->hook;
    options.correction = request->correction;
    options.refine_minutes = request->refine_minutes;
    options.rate_price = request->rate_price;
    options.checkpoint = *checkpoint_name(request, checkpoint) ? checkpoint : NULL;
    options.note = note;
    options.note_context = progress;
    options.ratio = request->ratio;
    options.max_drop = request->max_drop;
    options.calibration = images;
    qcnn_error error;
    if (options.checkpoint && access(checkpoint, F_OK) == 0)
        cli_note("%s: an earlier run left it; what fits this command is taken over", checkpoint);
    const qcnn_status failed = qcnn_compress(original, &options, compressed, &error);
    cli_progress_end(progress);
    const int stopped = cli_progress_stopped();
    if (stopped) // also when the signal came too late for the hook: nothing has been written yet
        return stopped_by_signal(request, checkpoint, stopped);
    return failed ? tell_failure(request, &error) : CLI_DONE;
}

// Reads the written file back: the figures are those of the file, and a file that does not load is noticed here.
static qcnn_model *read_back(const compress_request *request)
{
    qcnn_model *model;
    qcnn_error error;
    if (qcnn_model_open(request->output, NULL, &model, &error))
        cli_fail("%s: what was written does not load: %s", request->output, error.message);
    return model;
}

// What can be told of the written file. What fails is told, and not found.
static void find_out(const compress_request *request, const qcnn_dataset *images, const qcnn_pool *pool, cli_progress *progress,
                     cli_findings *findings)
{
    const qcnn_model *original = findings->original, *compressed = findings->compressed;
    const qcnn_parallel *parallel = qcnn_pool_hook(pool);
    qcnn_error error;
    findings->ratio_asked = request->ratio;
    findings->max_drop = request->max_drop;
    if (images && qcnn_compare(original, compressed, images, 0, parallel, &progress->hook, &findings->loss, &error))
        cli_note("%s; so nothing is known of what is lost", error.message);
    if (request->report && images &&
        qcnn_diagnose(original, compressed, images, 0, parallel, &progress->hook, &findings->diagnosis, &error))
        cli_note("%s; the report says nothing of which layer costs the accuracy", error.message);
    if (request->report && (cli_time_model(original, &findings->before, &error) || cli_time_model(compressed, &findings->after, &error)))
        cli_note("%s; the report says nothing of speed", error.message);
    cli_progress_end(progress);
}

static int print_result(const compress_request *request, const cli_findings *findings, const cli_totals *totals,
                        const compress_effort *effort)
{
    char text[400];
    if (*cli_loss_warning(findings, text))
        cli_note("%s: %s", request->output, text);
    if (request->json) {
        cJSON *root = cli_json_object();
        cli_model_json(findings->compressed, totals, root);
        cli_json_number(root, "seconds", effort->seconds);
        cli_json_number(root, "peak_rss_bytes", (double)effort->peak_rss_bytes);
        cli_json_number(root, "threads", effort->threads);
        cli_findings_json(findings, root);
        return cli_json_print(root);
    }
    cli_text duration, peak;
    cli_model_print(findings->compressed, totals, false);
    if (request->ratio > 0)
        printf("  asked for %gx smaller, reached %.2fx\n", request->ratio, totals->ratio);
    if (findings->loss.n_images > 0)
        printf("  %s\n", cli_loss_text(findings, text));
    printf("  in %s on %d thread%s, peak memory %s\n", cli_duration_text(effort->seconds, duration), effort->threads,
           effort->threads == 1 ? "" : "s", cli_bytes_text((double)effort->peak_rss_bytes, peak));
    return cli_finish();
}

static const char *how_chosen(const compress_request *request, char text[160])
{
    static const char *const corrections[] = { "no error correction", "error correction of each layer", "error correction front to back" };
    char goal[80];
    if (request->ratio > 0)
        snprintf(goal, sizeof goal, "settings searched for 1/%g", request->ratio);
    else if (request->max_drop > 0)
        snprintf(goal, sizeof goal, "settings searched for a loss of at most %g point%s", request->max_drop,
                 request->max_drop == 1 ? "" : "s");
    else
        snprintf(goal, sizeof goal, "preset %s", request->preset);
    const int n = snprintf(text, 160, "%s, %s", goal, corrections[request->correction]);
    if (request->refine_minutes > 0 && n > 0 && n < 160)
        snprintf(text + n, 160 - (size_t)n, ", refined for %g minute%s", request->refine_minutes, request->refine_minutes == 1 ? "" : "s");
    return text;
}

static int write_report(const compress_request *request, const cli_findings *findings, const cli_totals *totals,
                        const compress_effort *effort)
{
    char how[160];
    const cli_report report = {
        .original_path = request->model_path,
        .compressed_path = request->output,
        .totals = totals,
        .findings = findings,
        .how = how_chosen(request, how),
        .settings = request->settings,
        .seed = request->seed,
        .peak_rss_bytes = effort->peak_rss_bytes,
        .threads = effort->threads,
        .seconds = effort->seconds,
    };
    return cli_report_write(&report, request->report);
}

static double *list_errors_before(const qcnn_model *compressed)
{
    double *errors = cli_allocate((size_t)qcnn_model_n_layers(compressed) + 1, sizeof *errors);
    for (int i = 0; i < qcnn_model_n_layers(compressed); i++)
        errors[i] = qcnn_model_layer(compressed, i).error_before;
    return errors;
}

// Takes over errors_before.
static int tell(const compress_request *request, const qcnn_model *original, const qcnn_dataset *images, const qcnn_pool *pool,
                cli_progress *progress, double *errors_before, const compress_effort *effort)
{
    qcnn_model *written = read_back(request);
    if (!written) {
        free(errors_before);
        return CLI_FAILED;
    }
    const cli_totals totals = cli_model_totals(written, cli_model_file_bytes(request->output));
    cli_findings findings = { .original = original, .compressed = written, .errors_before = errors_before };
    find_out(request, images, pool, progress, &findings);
    if (cli_progress_stopped()) {
        cli_note("%s is written; what it loses was not found out", request->output);
        cli_findings_free(&findings);
        qcnn_model_free(written);
        return cli_progress_stopped();
    }
    const int reported = request->report ? write_report(request, &findings, &totals, effort) : CLI_DONE;
    const int printed = print_result(request, &findings, &totals, effort);
    cli_findings_free(&findings);
    qcnn_model_free(written);
    return reported == CLI_DONE ? printed : reported;
}

static int compress_and_save(const compress_request *request, const qcnn_model *original, const qcnn_dataset *images, const qcnn_pool *pool,
                             cli_progress *progress, double start_ms)
{
    qcnn_model *compressed;
    const int status = compress_model(request, original, images, pool, progress, &compressed);
    if (status != CLI_DONE)
        return status;
    qcnn_error error;
    const qcnn_status failed = qcnn_save(compressed, request->output, &error);
    double *errors_before = failed ? NULL : list_errors_before(compressed);
    qcnn_model_free(compressed);
    if (failed)
        return cli_fail_at(request->output, &error);
    char checkpoint[CHECKPOINT_NAME_BYTES];
    if (*checkpoint_name(request, checkpoint))
        qcnn_checkpoint_remove(checkpoint);
    const compress_effort effort = { 1e-3 * (cli_clock_ms() - start_ms), cli_peak_rss_bytes(), cli_pool_threads(pool) };
    return tell(request, original, images, pool, progress, errors_before, &effort);
}

// ---- the request ----------------------------------------------------------------------------------------------------

// What can be said about the request before long work begins.
static int check_request(const compress_request *request)
{
    if (!cli_can_write(request->output, request->model_path) || (request->report && !cli_can_write(request->report, request->model_path)))
        return CLI_FAILED;
    if (request->report && strcmp(request->report, request->output) == 0)
        return cli_fail("%s: it cannot be both the model and the report; name two files", request->output);
    return CLI_DONE;
}

static int run_request(const compress_request *request)
{
    const double start_ms = cli_clock_ms();
    cli_progress progress;
    cli_progress_begin(&progress); // from here on a signal ends the work in good order
    if (check_request(request))
        return CLI_FAILED;
    qcnn_model *original = cli_model_open(request->model_path, &request->model);
    if (!original)
        return CLI_FAILED;
    qcnn_pool *pool = NULL;
    qcnn_dataset *images = NULL;
    qcnn_error error;
    int status = CLI_DONE;
    if (request->calibration && qcnn_dataset_open(request->calibration, &images, &error))
        status = cli_fail_at(request->calibration, &error);
    if (status == CLI_DONE)
        status = cli_pool_open(request->threads, &pool);
    if (status == CLI_DONE)
        status = compress_and_save(request, original, images, pool, &progress, start_ms);
    qcnn_pool_free(pool);
    qcnn_dataset_free(images);
    qcnn_model_free(original);
    return status;
}

static qcnn_correction choose_correction(const char *text, const char *calibration)
{
    if (!text)
        return calibration ? QCNN_CORRECTION_NETWORK : QCNN_CORRECTION_NONE;
    return strcmp(text, "none") == 0 ? QCNN_CORRECTION_NONE : strcmp(text, "layer") == 0 ? QCNN_CORRECTION_LAYER : QCNN_CORRECTION_NETWORK;
}

static int run_compress(const cli_command *command, int argc, char **argv)
{
    static const char *const presets[] = { "q-cnn", NULL }, *const corrections[] = { "none", "layer", "network", NULL };
    compress_request request = { .preset = "q-cnn", .seed = 1 };
    const char *correction = NULL;
    bool by_preset = false, by_ratio = false, by_drop = false, refine = false;
    double minutes = 0;
    const cli_option options[] = {
        { .name = "--output", .letter = 'o', .value = "OUT.qcnn", .text = &request.output, .help = "the file to write" },
        { .name = "--preset",
          .value = "NAME",
          .text = &request.preset,
          .choices = presets,
          .given = &by_preset,
          .help = "q-cnn: the paper's settings (the default)" },
        { .name = "--set",
          .value = "LAYER=C/K,...",
          .text = &request.settings,
          .help = "C inputs a codeword and K codewords, or 'dense', for layers by name" },
        { .name = "--calib",
          .value = "DATASET",
          .text = &request.calibration,
          .help = "images for error correction and for the ranges of activations" },
        CLI_OPTION_PREPROCESS(&request.model.preprocess),
        CLI_OPTION_CLASSES(&request.model.classes),
        { .name = "--correction",
          .value = "KIND",
          .text = &correction,
          .choices = corrections,
          .help = "none; layer: each layer alone; network: front to back (default: network if --calib is given)" },
        { .name = "--rate-price",
          .value = "NATS",
          .real = &request.rate_price,
          .maximum = 1,
          .help = "choose assignments for error and entropy-coded size: divergence that a bit is worth, about 1e-10" },
        { .name = "--ratio",
          .value = "R",
          .real = &request.ratio,
          .minimum = 1,
          .maximum = 1000,
          .given = &by_ratio,
          .help = "search settings for a file R times smaller (with --calib)" },
        { .name = "--max-drop",
          .value = "POINTS",
          .real = &request.max_drop,
          .maximum = 100,
          .given = &by_drop,
          .help = "search the smallest file that loses at most so many points, estimated on the --calib images" },
        { .name = "--refine",
          .value = "MINUTES",
          .real = &minutes,
          .maximum = 100000,
          .given = &refine,
          .optional = true,
          .help = "then train end to end to answer as the original does on the images of --calib (default: 10 minutes)" },
        { .name = "--seed", .value = "S", .number = &request.seed, .help = "of all random choices: one seed, one result (default: 1)" },
        CLI_OPTION_THREADS(&request.threads, "0"),
        { .name = "--report", .value = "FILE.html", .text = &request.report, .help = "also write a report: one HTML file with pictures" },
        CLI_OPTION_JSON(&request.json),
        { 0 },
    };
    int n_operands;
    const int status = cli_parse(command, options, argc, argv, &n_operands);
    if (status != CLI_GO_ON)
        return status;
    if (by_preset + by_ratio + by_drop > 1)
        return cli_usage(command, "--preset, --ratio and --max-drop exclude each other");
    if (refine)
        request.refine_minutes = minutes > 0 ? minutes : 10;
    if (refine && !request.calibration)
        return cli_usage(command, "--refine needs --calib DATASET");
    if (by_drop && !(request.max_drop > 0))
        return cli_usage(command, "--max-drop: a file that loses nothing is the original; give some points");
    if ((by_ratio || by_drop) && !request.calibration)
        return cli_usage(command, "%s needs --calib DATASET", by_ratio ? "--ratio" : "--max-drop");
    request.correction = choose_correction(correction, request.calibration);
    if (request.correction != QCNN_CORRECTION_NONE && !request.calibration)
        return cli_usage(command, "--correction %s needs --calib DATASET", correction);
    if (!request.output)
        return cli_usage(command, "it needs -o OUT.qcnn");
    request.model_path = argv[1];
    return run_request(&request);
}

const cli_command cli_compress = {
    .name = "compress",
    .summary = "make a trained network small by product quantization",
    .operands = "MODEL",
    .details =
        "The q-cnn preset: convolutions C'=8 K=128 (the first one, of 3 channels, C'=3), fully-connected layers C'=4 K=32, the last of\n"
        "them C'=1 K=16.\n\n"
        "--set LAYER=C/K may go on: /float16 or /int8 store the codewords in fewer bits (/int8:31: whole numbers up to 31 only, which\n"
        "entropy coding makes smaller still), /groups gives each group of a convolution codebooks of its own. dense/int8 is possible "
        "too.\n\n"
        "--preprocess and --classes are stored in the file. The file appears complete or not at all; SIGINT and SIGTERM stop the work\n"
        "with exit status 130 and 143 and leave nothing behind but, with error correction, OUT.qcnn.checkpoint and its predecessor\n"
        "OUT.qcnn.checkpoint.previous: the same command goes on from the layers they hold, and from what a search of --ratio or "
        "--max-drop\n"
        "has found out, in OUT.qcnn.checkpoint.search. They disappear with success. --ratio is met within 2 %.\n\n"
        "What a file is expected to lose is estimated on the calibration images that no fit saw, every tenth. Images that the network\n"
        "was trained on flatter it: for --max-drop give others, and more of them for a surer estimate.\n",
    .examples = "  qcnn compress net.onnx -o net.qcnn --calib photos --preprocess preprocess.json --classes classes.txt\n"
                "  qcnn compress net.onnx -o net.qcnn --calib photos --preprocess preprocess.json --ratio 35\n"
                "  qcnn compress net.onnx -o net.qcnn --preprocess preprocess.json --classes classes.txt --report net.html\n"
                "  qcnn compress net.prototxt,net.caffemodel -o net.qcnn --set 'conv2=4/128,conv3=4/128,fc8=dense'\n",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_compress,
};
