// SPDX-License-Identifier: Apache-2.0
// qcnn classify: the likeliest classes of photographs.

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli.h"
#include "table.h"

typedef struct classifier {
    const qcnn_model *model;
    qcnn_preprocess preprocess;
    qcnn_session *session;
    float *tensor;        // (channels, side, side)
    float *probabilities; // (n_classes)
    int n_classes, top;
    int *best; // the `top` likeliest classes, likeliest first
} classifier;

static int open_classifier(classifier *c, const char *path, const qcnn_parallel *parallel)
{
    if (cli_model_preprocess(c->model, path, &c->preprocess))
        return CLI_FAILED;
    if (qcnn_model_n_outputs(c->model) != 1)
        return cli_fail("%s: it has %d outputs, a classifier has one; use 'qcnn run'", path, qcnn_model_n_outputs(c->model));
    const qcnn_shape input = qcnn_model_input(c->model, 0).shape, output = qcnn_model_output(c->model, 0).shape;
    qcnn_session_options options = qcnn_session_options_default();
    options.parallel = parallel;
    qcnn_error error;
    if (qcnn_session_create(c->model, &options, &c->session, &error))
        return cli_fail_at(path, &error);
    c->n_classes = (int)cli_shape_elements(&output);
    if (c->top > c->n_classes)
        c->top = c->n_classes;
    c->tensor = cli_allocate(cli_shape_elements(&input), sizeof(float));
    c->probabilities = cli_allocate((size_t)c->n_classes, sizeof(float));
    c->best = cli_allocate((size_t)c->top, sizeof(int));
    return CLI_DONE;
}

static void close_classifier(classifier *c)
{
    qcnn_session_free(c->session);
    free(c->tensor);
    free(c->probabilities);
    free(c->best);
}

// Insertion into the short list of the best; among equals the lower class comes first.
static void pick_best(classifier *c)
{
    int n = 0;
    for (int i = 0; i < c->n_classes; i++) {
        int at = n < c->top ? n++ : c->top;
        for (; at > 0 && c->probabilities[i] > c->probabilities[c->best[at - 1]]; at--)
            if (at < c->top)
                c->best[at] = c->best[at - 1];
        if (at < c->top)
            c->best[at] = i;
    }
}

// Fills probabilities and best. The time is of the network alone.
static int classify_image(classifier *c, const char *path, double *milliseconds)
{
    struct stat of_path;
    if (stat(path, &of_path) == 0 && S_ISDIR(of_path.st_mode))
        return cli_fail("%s: it is a folder; name the images in it, or judge all of them by 'qcnn eval'", path);
    if (cli_image_tensor(c->model, &c->preprocess, path, c->tensor))
        return CLI_FAILED;
    const double start = cli_clock_ms();
    qcnn_run(c->session, (const float *const[]){ c->tensor }, (float *const[]){ c->probabilities });
    *milliseconds = cli_clock_ms() - start;
    cli_probabilities(c->probabilities, c->n_classes);
    pick_best(c);
    return CLI_DONE;
}

static void print_image(const classifier *c, const char *path, double milliseconds)
{
    char name[512];
    snprintf(name, sizeof name, "%s", path);
    cli_one_line(name);
    printf("%s (%.1f ms)\n", name, milliseconds);
    cli_table table;
    cli_table_begin(&table, ">class|label|>probability|");
    for (int i = 0; i < c->top; i++) {
        const float probability = c->probabilities[c->best[i]];
        const char *label = qcnn_model_class(c->model, c->best[i]);
        cli_text bar;
        cli_table_cell(&table, "%d", c->best[i]);
        cli_table_cell(&table, "%s", label ? label : "-");
        cli_table_cell(&table, "%.2f %%", 100 * (double)probability);
        cli_table_cell(&table, "%s", cli_bar_text(probability, 20, bar));
    }
    cli_table_end(&table, 2);
}

static void add_image(const classifier *c, cJSON *images, const char *path, double milliseconds)
{
    cJSON *image = cli_json_append(images);
    cli_json_text(image, "file", path);
    cli_json_number(image, "milliseconds", milliseconds);
    cJSON *top = cli_json_array(image, "top");
    for (int i = 0; i < c->top; i++) {
        cJSON *entry = cli_json_append(top);
        cli_json_number(entry, "class", c->best[i]);
        const char *label = qcnn_model_class(c->model, c->best[i]);
        cli_json_text(entry, "label", label ? label : "");
        cli_json_number(entry, "probability", c->probabilities[c->best[i]]);
    }
}

static int classify_images(classifier *c, char **paths, int n, bool json)
{
    int status = CLI_DONE;
    cJSON *root = json ? cli_json_object() : NULL, *images = json ? cli_json_array(root, "images") : NULL;
    for (int i = 0; i < n; i++) {
        double milliseconds = 0;
        if (classify_image(c, paths[i], &milliseconds)) // the others are still shown
            status = CLI_FAILED;
        else if (json)
            add_image(c, images, paths[i], milliseconds);
        else
            print_image(c, paths[i], milliseconds);
    }
    const int written = json ? cli_json_print(root) : cli_finish();
    return status == CLI_DONE ? written : status;
}

static int run_classify(const cli_command *command, int argc, char **argv)
{
    int threads = 1;
    bool json = false;
    cli_model_options model_options = { .run_only = true };
    classifier c = { .top = 5 };
    const cli_option options[] = {
        { .name = "--top",
          .letter = 'k',
          .value = "K",
          .integer = &c.top,
          .minimum = 1,
          .maximum = 1000000,
          .help = "how many classes to show (default: 5)" },
        CLI_OPTION_PREPROCESS(&model_options.preprocess),
        CLI_OPTION_CLASSES(&model_options.classes),
        CLI_OPTION_THREADS(&threads, "1"),
        CLI_OPTION_KERNELS(&model_options.kernels),
        CLI_OPTION_EXACT(&model_options.exact),
        CLI_OPTION_JSON(&json),
        { 0 },
    };
    int n_operands;
    int status = cli_parse(command, options, argc, argv, &n_operands);
    if (status != CLI_GO_ON)
        return status;
    qcnn_model *model = cli_model_open(argv[1], &model_options);
    if (!model)
        return CLI_FAILED;
    c.model = model;
    qcnn_pool *pool;
    status = cli_pool_open(threads, &pool);
    if (status == CLI_DONE)
        status = open_classifier(&c, argv[1], qcnn_pool_hook(pool));
    if (status == CLI_DONE)
        status = classify_images(&c, argv + 2, n_operands - 1, json);
    close_classifier(&c);
    qcnn_pool_free(pool);
    qcnn_model_free(model);
    return status;
}

const cli_command cli_classify = {
    .name = "classify",
    .summary = "the likeliest classes of photographs (JPEG or PNG)",
    .operands = "MODEL IMAGE...",
    .details = "Scores that are not probabilities already go through a softmax. Milliseconds are those of the network alone.\n"
               "An image that cannot be read is reported, the others are shown, and the exit status is 1.\n",
    .examples = "  qcnn classify net.qcnn cat.jpg dog.png --top 3\n"
                "  qcnn classify net.onnx --preprocess preprocess.json --classes classes.txt -- *.jpg\n",
    .min_operands = 2,
    .max_operands = 1 << 20,
    .run = run_classify,
};
