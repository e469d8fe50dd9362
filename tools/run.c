// SPDX-License-Identifier: Apache-2.0
// qcnn run: raw tensors through the network, .npy in and .npy out.

#include <stdlib.h>

#include "cli.h"

typedef struct run_request {
    const char *model_path;
    char **input_paths;
    int n_inputs;
    cli_list outputs;
    const char *kernels;
    bool fast;
    int threads;
} run_request;

// "1x3x224x224, 1x10": what the model's inputs or outputs look like.
static const char *ports_text(const qcnn_model *model, char *text, size_t size)
{
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < qcnn_model_n_inputs(model) && used < size; i++) {
        char shape_text[96];
        const qcnn_port port = qcnn_model_input(model, i);
        used += (size_t)snprintf(text + used, size - used, "%s%s %s", i ? ", " : "", port.name, cli_shape_text(&port.shape, shape_text));
    }
    return text;
}

// Shapes of the float arrays, which are the model's inputs in order. Integer arrays were bound when it was imported.
static int input_shapes(const run_request *request, const qcnn_model *model, const qcnn_array *arrays, qcnn_shape *shapes,
                        const float **data)
{
    char expected[400];
    const int n_expected = qcnn_model_n_inputs(model);
    int n = 0;
    for (int i = 0; i < request->n_inputs; i++) {
        if (!arrays[i].data)
            continue;
        if (n < n_expected) {
            const qcnn_shape want = qcnn_model_input(model, n).shape;
            bool fits = arrays[i].shape.rank == want.rank;
            for (int d = 1; fits && d < want.rank; d++) // dimension 0 is the batch
                fits = arrays[i].shape.dims[d] == want.dims[d];
            char shape_text[96];
            if (!fits)
                return cli_fail("%s: its shape is %s; %s expects %s (any batch)", request->input_paths[i],
                                cli_shape_text(&arrays[i].shape, shape_text), request->model_path,
                                ports_text(model, expected, sizeof expected));
            shapes[n] = arrays[i].shape;
            data[n] = arrays[i].data;
        }
        n++;
    }
    if (n != n_expected)
        return cli_fail("%s: it has %d input(s) (%s), but %d float arrays were given; name one .npy file for each", request->model_path,
                        n_expected, ports_text(model, expected, sizeof expected), n);
    return CLI_DONE;
}

static int write_outputs(const run_request *request, const qcnn_session *session, float *const *outputs)
{
    qcnn_error error;
    for (int i = 0; i < request->outputs.n; i++) {
        const qcnn_shape shape = qcnn_session_output_shape(session, i);
        if (qcnn_npy_write(request->outputs.items[i], &shape, outputs[i], &error))
            return cli_fail_at(request->outputs.items[i], &error);
    }
    return CLI_DONE;
}

static int run_session(const run_request *request, const qcnn_model *model, const qcnn_shape *shapes, const float *const *data)
{
    const int n_outputs = qcnn_model_n_outputs(model);
    if (request->outputs.n != n_outputs)
        return cli_fail("%s: it has %d output(s), but -o names %d files; name one .npy file for each", request->model_path, n_outputs,
                        request->outputs.n);
    qcnn_pool *pool;
    if (cli_pool_open(request->threads, &pool))
        return CLI_FAILED;
    qcnn_session_options options = qcnn_session_options_default();
    options.input_shapes = shapes;
    options.parallel = qcnn_pool_hook(pool);
    qcnn_session *session;
    qcnn_error error;
    int status = CLI_FAILED;
    if (qcnn_session_create(model, &options, &session, &error))
        cli_fail_at(request->model_path, &error);
    else {
        float **outputs = cli_allocate((size_t)n_outputs, sizeof *outputs);
        for (int i = 0; i < n_outputs; i++) {
            const qcnn_shape shape = qcnn_session_output_shape(session, i);
            outputs[i] = cli_allocate(cli_shape_elements(&shape), sizeof(float));
        }
        qcnn_run(session, data, outputs);
        status = write_outputs(request, session, outputs);
        for (int i = 0; i < n_outputs; i++)
            free(outputs[i]);
        free(outputs);
    }
    qcnn_session_free(session);
    qcnn_pool_free(pool);
    return status;
}

static int run_model(const run_request *request, const qcnn_array *arrays)
{
    qcnn_model *model = cli_model_open(
        request->model_path,
        &(cli_model_options){
            .kernels = request->kernels, .exact = !request->fast, .run_only = true, .inputs = arrays, .n_inputs = request->n_inputs });
    if (!model)
        return CLI_FAILED;
    qcnn_shape *shapes = cli_allocate((size_t)request->n_inputs, sizeof *shapes);
    const float **data = cli_allocate((size_t)request->n_inputs, sizeof *data);
    int status = input_shapes(request, model, arrays, shapes, data);
    if (status == CLI_DONE)
        status = run_session(request, model, shapes, data);
    free(shapes);
    free(data);
    qcnn_model_free(model);
    return status;
}

static int run_run(const cli_command *command, int argc, char **argv)
{
    run_request request = { .threads = 1 };
    const cli_option options[] = {
        { .name = "--output",
          .letter = 'o',
          .value = "OUT.npy",
          .list = &request.outputs,
          .help = "the files to write, in graph output order" },
        CLI_OPTION_THREADS(&request.threads, "1"),
        CLI_OPTION_KERNELS(&request.kernels),
        { .name = "--fast", .flag = &request.fast, .help = "round to bytes as the other commands do; run itself is exact, for comparing" },
        { 0 },
    };
    int n_operands;
    int status = cli_parse(command, options, argc, argv, &n_operands);
    if (status != CLI_GO_ON)
        return status;
    if (!request.outputs.n)
        return cli_usage(command, "it needs -o OUT.npy...");
    request.model_path = argv[1];
    request.input_paths = argv + 2;
    request.n_inputs = n_operands - 1;
    for (int i = 0; i < request.outputs.n; i++)
        if (!cli_can_write(request.outputs.items[i], request.model_path))
            return CLI_FAILED;

    qcnn_array *arrays = cli_allocate((size_t)request.n_inputs, sizeof *arrays);
    qcnn_error error;
    status = CLI_DONE;
    for (int i = 0; status == CLI_DONE && i < request.n_inputs; i++)
        if (qcnn_npy_read(request.input_paths[i], &arrays[i], &error))
            status = cli_fail_at(request.input_paths[i], &error);
    if (status == CLI_DONE)
        status = run_model(&request, arrays);
    for (int i = 0; i < request.n_inputs; i++)
        qcnn_array_free(&arrays[i]);
    free(arrays);
    return status;
}

const cli_command cli_run = {
    .name = "run",
    .summary = "raw tensors through the network: .npy files in, .npy files out",
    .operands = "MODEL IN.npy...",
    .details = "Inputs come in graph input order; dimension 0 is the batch. Integer arrays stand for inputs that are shapes or axes.\n"
               "After MODEL, -o takes all file names up to the next option; before it, one (it may be repeated).\n",
    .examples = "  qcnn run net.qcnn image.npy -o scores.npy\n"
                "  qcnn run two_headed.onnx image.npy -o boxes.npy scores.npy\n",
    .min_operands = 2,
    .max_operands = 1 << 20,
    .run = run_run,
};
