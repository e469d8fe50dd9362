// SPDX-License-Identifier: Apache-2.0
// qcnn export: a model as plain ONNX with the decoded weights.

#include "cli.h"
#include "table.h"

static int run_export(const cli_command *command, int argc, char **argv)
{
    const char *output = NULL;
    const cli_option options[] = {
        { .name = "--output", .letter = 'o', .value = "OUT.onnx", .text = &output, .help = "the file to write" },
        { 0 },
    };
    int n_operands;
    const int status = cli_parse(command, options, argc, argv, &n_operands);
    if (status != CLI_GO_ON)
        return status;
    if (!output)
        return cli_usage(command, "it needs -o OUT.onnx");
    const char *path = argv[1];
    if (!cli_can_write(output, path))
        return CLI_FAILED;
    qcnn_model *model = cli_model_open(path, &(cli_model_options){ 0 });
    if (!model)
        return CLI_FAILED;
    qcnn_error error;
    const qcnn_status failed = qcnn_export_onnx(model, output, &error);
    qcnn_model_free(model);
    if (failed)
        return cli_fail_at(output, &error);
    cli_text bytes;
    cli_note("%s: %s written", output, cli_bytes_text((double)cli_model_file_bytes(output), bytes));
    return CLI_DONE;
}

const cli_command cli_export = {
    .name = "export",
    .summary = "write a model as plain ONNX with the decoded weights, for checking in any other engine",
    .operands = "MODEL.qcnn",
    .details = "ONNX holds no preprocessing and no class names: 'qcnn classify decoded.onnx' needs --preprocess and --classes.\n",
    .examples = "  qcnn export net.qcnn -o decoded.onnx\n",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_export,
};
