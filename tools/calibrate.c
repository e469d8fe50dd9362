// SPDX-License-Identifier: Apache-2.0
// qcnn calibrate: the ranges of activations into a compressed model that has none, or anew.

#include <string.h>

#include "cli.h"
#include "layers.h"
#include "progress.h"
#include "table.h"

typedef struct calibrate_request {
    const char *model_path, *output, *calibration;
    cli_model_options model;
    uint64_t seed;
    int threads;
    bool json;
} calibrate_request;

static int print_result(const calibrate_request *request, const qcnn_model *model, double seconds, int threads)
{
    const uint64_t file_bytes = cli_model_file_bytes(request->output);
    if (request->json) {
        cJSON *root = cli_json_object();
        const cli_totals totals = cli_model_totals(model, file_bytes);
        cli_model_json(model, &totals, root);
        cli_json_number(root, "seconds", seconds);
        cli_json_number(root, "threads", threads);
        return cli_json_print(root);
    }
    cli_text bytes, duration;
    char name[512];
    snprintf(name, sizeof name, "%s", request->output);
    cli_one_line(name);
    printf("%s: ranges of activations from 256 images; %s bytes, in %s on %d thread%s\n", name, cli_exact_text(file_bytes, bytes),
           cli_duration_text(seconds, duration), threads, threads == 1 ? "" : "s");
    return cli_finish();
}

static int calibrate_and_save(const calibrate_request *request, const qcnn_model *model, const qcnn_pool *pool, cli_progress *progress,
                              double start_ms)
{
    qcnn_calibrate_options options = qcnn_calibrate_options_default();
    options.seed = request->seed;
    options.parallel = qcnn_pool_hook(pool);
    options.progress = &progress->hook;
    qcnn_error error;
    qcnn_dataset *images;
    if (qcnn_dataset_open(request->calibration, &images, &error))
        return cli_fail_at(request->calibration, &error);
    qcnn_model *calibrated;
    const qcnn_status failed = qcnn_calibrate(model, images, &options, &calibrated, &error);
    qcnn_dataset_free(images);
    cli_progress_end(progress);
    int status = cli_progress_stopped();
    if (status)
        cli_fail("%s: stopped by a signal; nothing was written", request->output);
    else if (failed)
        status = cli_fail_at(request->model_path, &error);
    else if (qcnn_save(calibrated, request->output, &error))
        status = cli_fail_at(request->output, &error);
    else
        status = print_result(request, calibrated, 1e-3 * (cli_clock_ms() - start_ms), cli_pool_threads(pool));
    qcnn_model_free(calibrated);
    return status;
}

static int run_request(const calibrate_request *request)
{
    const double start_ms = cli_clock_ms();
    cli_progress progress;
    cli_progress_begin(&progress); // from here on a signal ends the work in good order
    if (!cli_can_write(request->output, request->model_path))
        return CLI_FAILED;
    qcnn_model *model = cli_model_open(request->model_path, &request->model);
    if (!model)
        return CLI_FAILED;
    qcnn_pool *pool;
    int status = cli_pool_open(request->threads, &pool);
    if (status == CLI_DONE)
        status = calibrate_and_save(request, model, pool, &progress, start_ms);
    qcnn_pool_free(pool);
    qcnn_model_free(model);
    return status;
}

static int run_calibrate(const cli_command *command, int argc, char **argv)
{
    calibrate_request request = { .seed = 1 };
    const cli_option options[] = {
        { .name = "--output", .letter = 'o', .value = "OUT.qcnn", .text = &request.output, .help = "the file to write" },
        { .name = "--calib", .value = "DATASET", .text = &request.calibration, .help = "images to calibrate on; labels are not used" },
        CLI_OPTION_PREPROCESS(&request.model.preprocess),
        CLI_OPTION_CLASSES(&request.model.classes),
        { .name = "--seed", .value = "S", .number = &request.seed, .help = "which images are taken: one seed, one result (default: 1)" },
        CLI_OPTION_THREADS(&request.threads, "0"),
        CLI_OPTION_JSON(&request.json),
        { 0 },
    };
    int n_operands;
    const int status = cli_parse(command, options, argc, argv, &n_operands);
    if (status != CLI_GO_ON)
        return status;
    if (!request.output)
        return cli_usage(command, "it needs -o OUT.qcnn");
    if (!request.calibration)
        return cli_usage(command, "it needs --calib DATASET");
    request.model_path = argv[1];
    return run_request(&request);
}

const cli_command cli_calibrate = {
    .name = "calibrate",
    .summary = "find the ranges of a compressed model's activations, so that it runs faster",
    .operands = "MODEL.qcnn",
    .details =
        "Runs 256 images through the network and stores between which bounds activations lie; weights stay as they are. With them the\n"
        "engine keeps activations in bytes from layer to layer. 'qcnn compress --calib' does the same at its end, so this is for files\n"
        "compressed without images. --preprocess and --classes are stored in the file. The file appears complete or not at all.\n",
    .examples = "  qcnn calibrate net.qcnn --calib photos/ -o faster.qcnn\n"
                "  qcnn calibrate net.qcnn --calib photos/ -o faster.qcnn --threads 1 --json\n",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_calibrate,
};
