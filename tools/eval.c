// SPDX-License-Identifier: Apache-2.0
// qcnn eval: accuracy on a data set, alone or beside the original.

#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "progress.h"
#include "scores.h"
#include "table.h"

typedef struct eval_request {
    const char *model_path, *dataset_path, *against, *scores;
    cli_model_options model;
    int limit, threads;
    bool json;
} eval_request;

// Scores of one network over the data set.
typedef struct scored {
    float *scores; // (n_images, n_classes), qcnn_bytes_free
    int n_images, n_classes;
    double milliseconds; // per image, decoding and preprocessing included
} scored;

static int score_model(const eval_request *request, const char *path, const qcnn_model *model, const char *preprocess,
                       const qcnn_dataset *dataset, const qcnn_pool *pool, scored *result)
{
    cli_progress progress;
    cli_progress_begin(&progress);
    qcnn_evaluate_options options = qcnn_evaluate_options_default();
    options.limit = request->limit;
    options.preprocess = preprocess;
    options.parallel = qcnn_pool_hook(pool);
    options.progress = &progress.hook;
    qcnn_error error;
    const double start = cli_clock_ms();
    const qcnn_status failed = qcnn_evaluate(model, dataset, &options, &result->scores, &result->n_images, &result->n_classes, &error);
    cli_progress_end(&progress);
    if (failed == QCNN_ERROR_CANCELLED) {
        cli_fail("%s: stopped by a signal", path);
        return cli_progress_stopped();
    }
    if (failed)
        return cli_fail_at(path, &error);
    result->milliseconds = (cli_clock_ms() - start) / result->n_images;
    return CLI_DONE;
}

// Scores that an earlier evaluation of the original has written.
static int read_scores(const eval_request *request, const scored *ours, scored *result)
{
    qcnn_array array;
    qcnn_error error;
    if (qcnn_npy_read(request->against, &array, &error))
        return cli_fail_at(request->against, &error);
    const bool fits =
        array.data && array.shape.rank == 2 && array.shape.dims[0] == ours->n_images && array.shape.dims[1] == ours->n_classes;
    if (fits) {
        *result = (scored){ .scores = array.data, .n_images = ours->n_images, .n_classes = ours->n_classes };
        array.data = NULL;
    }
    qcnn_array_free(&array);
    return fits ? CLI_DONE
                : cli_fail("%s: it does not hold scores of %d images and %d classes", request->against, ours->n_images, ours->n_classes);
}

static bool is_npy(const char *path)
{
    const size_t n = strlen(path);
    return n > 4 && strcmp(path + n - 4, ".npy") == 0;
}

// The original is given its images exactly as the model gets them.
static int score_original(const eval_request *request, const qcnn_model *model, const qcnn_dataset *dataset, const qcnn_pool *pool,
                          const scored *ours, scored *result)
{
    if (is_npy(request->against))
        return read_scores(request, ours, result);
    const char *preprocess = qcnn_model_preprocessing(model);
    const cli_model_options options = { .kernels = request->model.kernels, .preprocess_text = preprocess, .run_only = true };
    qcnn_model *original = cli_model_open(request->against, &options);
    if (!original)
        return CLI_FAILED;
    int status = score_model(request, request->against, original, preprocess, dataset, pool, result);
    qcnn_model_free(original);
    if (status == CLI_DONE && (ours->n_classes != result->n_classes || ours->n_images != result->n_images))
        status = cli_fail("%s: it tells %d classes apart, %s %d; name the model that it was made from", request->against, result->n_classes,
                          request->model_path, ours->n_classes);
    return status;
}

static void print_text(const eval_request *request, const scored *ours, const cli_accuracy *accuracy, const scored *theirs,
                       const cli_accuracy *original, const cli_comparison *comparison, int threads)
{
    printf("%d images of %s, %d thread%s\n\n", ours->n_images, request->dataset_path, threads, threads == 1 ? "" : "s");
    cli_table table;
    cli_table_begin(&table, "|>top-1|>top-5|>ms per image");
    const scored *runs[2] = { theirs, ours };
    const cli_accuracy *accuracies[2] = { original, accuracy };
    const char *paths[2] = { request->against, request->model_path };
    for (int i = request->against ? 0 : 1; i < 2; i++) {
        cli_table_cell(&table, "%s", paths[i]);
        if (accuracies[i]->n_labelled) {
            cli_table_cell(&table, "%.2f %%", accuracies[i]->top1);
            cli_table_cell(&table, "%.2f %%", accuracies[i]->top5);
        } else {
            cli_table_cell(&table, "-");
            cli_table_cell(&table, "-");
        }
        cli_table_cell(&table, "%.2f", runs[i]->milliseconds);
    }
    cli_table_end(&table, 2);
    if (!request->against)
        return;
    printf("\n  Same likeliest class on %.2f %% of the images; divergence %.4f nats.\n", comparison->agreement, comparison->divergence);
    if (accuracy->n_labelled)
        printf("  Points lost: top-1 %.2f (95 %% interval %.2f to %.2f), top-5 %.2f (%.2f to %.2f).\n", comparison->top1.points,
               comparison->top1.low, comparison->top1.high, comparison->top5.points, comparison->top5.low, comparison->top5.high);
}

static int print_json(const eval_request *request, const qcnn_model *model, const scored *ours, const cli_accuracy *accuracy,
                      const scored *theirs, const cli_accuracy *original, const cli_comparison *comparison, int threads)
{
    cJSON *root = cli_json_object();
    cli_json_number(root, "images", ours->n_images);
    cli_json_number(root, "labelled", accuracy->n_labelled);
    cli_json_number(root, "top1", accuracy->top1);
    cli_json_number(root, "top5", accuracy->top5);
    cli_json_number(root, "milliseconds", ours->milliseconds);
    cli_json_number(root, "threads", threads);
    cli_json_text(root, "kernels", qcnn_model_kernels(model));
    if (request->against) {
        cli_json_number(root, "original_top1", original->top1);
        cli_json_number(root, "original_top5", original->top5);
        cli_json_number(root, "original_milliseconds", theirs->milliseconds);
        cli_json_number(root, "agreement", comparison->agreement);
        cli_json_number(root, "divergence", comparison->divergence);
        cli_json_number(root, "lost_top1", comparison->top1.points);
        cli_json_interval(root, "lost_top1_interval", comparison->top1.low, comparison->top1.high);
        cli_json_number(root, "lost_top5", comparison->top5.points);
        cli_json_interval(root, "lost_top5_interval", comparison->top5.low, comparison->top5.high);
    }
    return cli_json_print(root);
}

static int report_scores(const eval_request *request, const qcnn_model *model, const qcnn_dataset *dataset, const scored *ours,
                         const scored *theirs, int threads)
{
    int *labels = cli_allocate((size_t)ours->n_images, sizeof *labels);
    for (int i = 0; i < ours->n_images; i++)
        labels[i] = qcnn_dataset_label(dataset, (int)((int64_t)i * qcnn_dataset_size(dataset) / ours->n_images));
    const cli_accuracy accuracy = cli_judge(ours->scores, labels, ours->n_images, ours->n_classes);
    cli_accuracy original = { 0 };
    cli_comparison comparison = { 0 };
    if (request->against) {
        original = cli_judge(theirs->scores, labels, ours->n_images, ours->n_classes);
        comparison = cli_compare(ours->scores, theirs->scores, labels, ours->n_images, ours->n_classes);
    }
    free(labels);
    if (!accuracy.n_labelled && !request->against)
        return cli_fail("%s: none of its images has a label; add labels.tsv, or compare with --against ORIGINAL", request->dataset_path);
    if (request->json)
        return print_json(request, model, ours, &accuracy, theirs, &original, &comparison, threads);
    print_text(request, ours, &accuracy, theirs, &original, &comparison, threads);
    return cli_finish();
}

static int write_scores(const eval_request *request, const scored *ours)
{
    const qcnn_shape shape = { 2, { ours->n_images, ours->n_classes } };
    qcnn_error error;
    return qcnn_npy_write(request->scores, &shape, ours->scores, &error) ? cli_fail_at(request->scores, &error) : CLI_DONE;
}

// A label beyond the model's classes means the wrong labels or the wrong model: noticed before the work, not counted as an error of it.
static int check_labels(const eval_request *request, const qcnn_model *model, const qcnn_dataset *dataset)
{
    const qcnn_port output = qcnn_model_output(model, 0);
    int64_t n_classes = 1;
    for (int i = 0; i < output.shape.rank; i++)
        n_classes *= output.shape.dims[i];
    for (int i = 0; i < qcnn_dataset_size(dataset); i++)
        if (qcnn_dataset_label(dataset, i) >= n_classes)
            return cli_fail("%s: image '%s' has class %d, but %s has %lld classes (0 to %lld)", request->dataset_path,
                            qcnn_dataset_name(dataset, i), qcnn_dataset_label(dataset, i), request->model_path, (long long)n_classes,
                            (long long)n_classes - 1);
    return CLI_DONE;
}

static int eval_model(const eval_request *request, const qcnn_model *model, const qcnn_pool *pool)
{
    qcnn_dataset *dataset;
    qcnn_error error;
    if (qcnn_dataset_open(request->dataset_path, &dataset, &error))
        return cli_fail_at(request->dataset_path, &error);
    scored ours = { 0 }, theirs = { 0 };
    int status = check_labels(request, model, dataset);
    if (status == CLI_DONE)
        status = score_model(request, request->model_path, model, NULL, dataset, pool, &ours);
    if (status == CLI_DONE && request->against)
        status = score_original(request, model, dataset, pool, &ours, &theirs);
    if (status == CLI_DONE && request->scores)
        status = write_scores(request, &ours);
    if (status == CLI_DONE)
        status = report_scores(request, model, dataset, &ours, &theirs, cli_pool_threads(pool));
    qcnn_bytes_free(ours.scores);
    qcnn_bytes_free(theirs.scores);
    qcnn_dataset_free(dataset);
    return status;
}

static int run_eval(const cli_command *command, int argc, char **argv)
{
    eval_request request = { .model = { .run_only = true } };
    const cli_option options[] = {
        { .name = "--against",
          .value = "ORIGINAL",
          .text = &request.against,
          .help = "also run this model, or read its --scores, and compare" },
        { .name = "--scores", .value = "OUT.npy", .text = &request.scores, .help = "write the class scores of all images" },
        { .name = "--limit",
          .value = "N",
          .integer = &request.limit,
          .maximum = 1 << 30,
          .help = "judge N images spread over the set (default: 0, all)" },
        CLI_OPTION_PREPROCESS(&request.model.preprocess),
        CLI_OPTION_CLASSES(&request.model.classes),
        CLI_OPTION_THREADS(&request.threads, "0"),
        CLI_OPTION_KERNELS(&request.model.kernels),
        CLI_OPTION_EXACT(&request.model.exact),
        CLI_OPTION_JSON(&request.json),
        { 0 },
    };
    int n_operands;
    int status = cli_parse(command, options, argc, argv, &n_operands);
    if (status != CLI_GO_ON)
        return status;
    request.model_path = argv[1];
    request.dataset_path = argv[2];
    qcnn_model *model = cli_model_open(request.model_path, &request.model);
    if (!model)
        return CLI_FAILED;
    qcnn_pool *pool;
    status = cli_pool_open(request.threads, &pool);
    if (status == CLI_DONE)
        status = eval_model(&request, model, pool);
    qcnn_pool_free(pool);
    qcnn_model_free(model);
    return status;
}

const cli_command cli_eval = {
    .name = "eval",
    .summary = "accuracy on a data set, alone or beside the original",
    .operands = "MODEL DATASET",
    .details =
        "--against gives the original the same images, preprocessed as MODEL says, and tells in how many percent of them both name the\n"
        "same class (agreement), how many points of accuracy are lost with the paired 95 % interval, and the divergence of the\n"
        "probabilities. Times are per image, with decoding and preprocessing, over all threads.\n",
    .examples = "  qcnn eval net.qcnn photos/\n"
                "  qcnn eval net.qcnn photos/ --against net.onnx --limit 1000 --json\n"
                "  qcnn eval net.onnx t10k-images-idx3-ubyte.gz --preprocess preprocess.json\n",
    .min_operands = 2,
    .max_operands = 2,
    .run = run_eval,
};
