// SPDX-License-Identifier: Apache-2.0
// qcnn inspect: what is in a model, how each layer is stored, how it runs and why.

#include <ctype.h>
#include <string.h>

#include "cli.h"
#include "layers.h"
#include "table.h"

static void print_ports(const char *title, const qcnn_model *model, int n, qcnn_port (*port_of)(const qcnn_model *model, int index))
{
    for (int i = 0; i < n; i++) {
        char shape[96], name[256];
        const qcnn_port port = port_of(model, i);
        snprintf(name, sizeof name, "%s", port.name);
        cli_one_line(name);
        printf("  %-14s %s %s\n", title, name, cli_shape_text(&port.shape, shape));
    }
}

static void print_model(const char *path, const qcnn_model *model, const cli_totals *totals)
{
    char line[512];
    snprintf(line, sizeof line, "%s", path);
    cli_one_line(line);
    printf("%s\n", line);
    print_ports("input", model, qcnn_model_n_inputs(model), qcnn_model_input);
    print_ports("output", model, qcnn_model_n_outputs(model), qcnn_model_output);
    snprintf(line, sizeof line, "%s", qcnn_model_preprocessing(model) ? qcnn_model_preprocessing(model) : "none stored");
    for (size_t n = strlen(line); n > 0 && isspace((unsigned char)line[n - 1]); n--)
        line[n - 1] = 0; // a file's last line ends too
    cli_one_line(line);
    printf("  %-14s %d\n  %-14s %s\n  %-14s %s\n  %-14s %s\n\n", "classes", qcnn_model_n_classes(model), "preprocessing", line, "ranges",
           qcnn_model_calibrated(model) ? "calibrated" : "found for each image", "kernels", qcnn_model_kernels(model));
    cli_model_print(model, totals, true);
}

static int run_inspect(const cli_command *command, int argc, char **argv)
{
    bool json = false;
    cli_model_options model_options = { .run_only = true };
    const cli_option options[] = {
        CLI_OPTION_PREPROCESS(&model_options.preprocess),
        CLI_OPTION_CLASSES(&model_options.classes),
        CLI_OPTION_KERNELS(&model_options.kernels),
        CLI_OPTION_EXACT(&model_options.exact),
        CLI_OPTION_JSON(&json),
        { 0 },
    };
    int n_operands;
    const int status = cli_parse(command, options, argc, argv, &n_operands);
    if (status != CLI_GO_ON)
        return status;
    qcnn_model *model = cli_model_open(argv[1], &model_options);
    if (!model)
        return CLI_FAILED;
    const cli_totals totals = cli_model_totals(model, cli_model_file_bytes(argv[1]));
    cJSON *root = NULL;
    if (json)
        cli_model_json(model, &totals, root = cli_json_object());
    else
        print_model(argv[1], model, &totals);
    qcnn_model_free(model);
    return json ? cli_json_print(root) : cli_finish();
}

const cli_command cli_inspect = {
    .name = "inspect",
    .summary = "what is in a model: sizes, settings and operations of each layer, and why it runs as it does",
    .operands = "MODEL",
    .details =
        "A layer stored as a codebook runs from look-up tables where the cost model expects that to be cheaper than dense: the last\n"
        "column shows both costs in multiply-adds. C'/K: inputs a codeword spans, codewords. 'multiplications' and 'look-ups' are\n"
        "those of one image as the layer runs, 'dense ops' the multiply-adds of its dense form. Bytes and bits/weight are of all that\n"
        "is stored for a layer: weights of int8 have a scale for each output, and biases stay float32, which shows where there are few\n"
        "weights for each.\n"
        "'In memory' (--json: memory_bytes) is what a run reads of weights and biases: assignments, a byte each, and codewords, or\n"
        "decoded weights.\n",
    .examples = "  qcnn inspect net.qcnn\n"
                "  qcnn inspect net.onnx --json\n",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_inspect,
};
