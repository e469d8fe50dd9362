// SPDX-License-Identifier: Apache-2.0
// The command `qcnn`: finds the subcommand and hands over.

#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"

static const cli_command *const commands[] = { &cli_compress, &cli_calibrate, &cli_eval,    &cli_classify,
                                               &cli_run,      &cli_bench,     &cli_inspect, &cli_export };
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static int print_help(void)
{
    puts("Usage: qcnn SUBCOMMAND [OPTION...] ...\n\n"
         "Makes trained convolutional networks small by product quantization, and runs them from their codebooks.\n\n"
         "Subcommands:");
    for (int i = 0; i < N_COMMANDS; i++)
        printf("  %-10s %s\n", commands[i]->name, commands[i]->summary);
    puts("\nA MODEL is an ONNX file, a Caffe pair (NET.prototxt,WEIGHTS.caffemodel) or a .qcnn file.\n"
         "A DATASET is a folder with images and labels.tsv, a folder of images, or an IDX image file (*-images-idx3-ubyte[.gz]).\n"
         "Exit status: 0 done, 1 the input or the request was at fault, 2 usage.\n\n"
         "Examples:\n"
         "  qcnn compress net.onnx -o net.qcnn --preset q-cnn --preprocess preprocess.json --classes classes.txt\n"
         "  qcnn eval net.qcnn photos/ --against net.onnx\n"
         "  qcnn classify net.qcnn cat.jpg\n"
         "  qcnn SUBCOMMAND --help");
    return cli_finish();
}

static const cli_command *find_command(const char *name)
{
    for (int i = 0; i < N_COMMANDS; i++)
        if (strcmp(name, commands[i]->name) == 0)
            return commands[i];
    return NULL;
}

static int unknown_command(const char *name)
{
    cli_hint hint = { .typed = name };
    for (int i = 0; i < N_COMMANDS; i++)
        cli_hint_try(&hint, commands[i]->name);
    if (hint.best)
        return cli_usage(NULL, "unknown subcommand '%s', did you mean '%s'?", name, hint.best);
    return cli_usage(NULL, "unknown subcommand '%s'", name);
}

int main(int argc, char **argv)
{
    setlocale(LC_CTYPE, ""); // for bars in tables; numbers stay in the C locale
    if (argc < 2)
        return cli_usage(NULL, "it needs a subcommand");
    if (strcmp(argv[1], "--version") == 0) {
        printf("qcnn %s\n", qcnn_version());
        return cli_finish();
    }
    const bool help = strcmp(argv[1], "help") == 0;
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || (help && argc == 2))
        return print_help();
    const cli_command *command = find_command(argv[1 + help]);
    if (!command)
        return unknown_command(argv[1 + help]);
    if (help) // qcnn help eval
        return command->run(command, 2, (char *[]){ argv[2], "--help", NULL });
    return command->run(command, argc - 1, argv + 1);
}
