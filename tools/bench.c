// SPDX-License-Identifier: Apache-2.0
// qcnn bench: how long a run takes, in all and layer by layer.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "table.h"

typedef struct bench_request {
    const char *model_path, *image_path, *input_path;
    cli_model_options model;
    int threads, batch, repeat, warm_up;
    int cold_mb; // of other memory read and written before each run
    uint64_t seed;
    bool json;
} bench_request;

typedef struct bench_result {
    double median_ms, p90_ms, min_ms, load_ms;
    double *runs_ms;  // (repeat) in the order of the runs
    double *layer_ms; // (n_layers) medians
    int threads;
    size_t session_bytes;
} bench_result;

// ---- inputs ---------------------------------------------------------------------------------------------------------

// A normal deviate by Box and Muller from a 64-bit congruential generator (Knuth's MMIX constants), so that a seed gives the
// same inputs everywhere.
static float random_normal(uint64_t *state)
{
    double uniform[2];
    for (int i = 0; i < 2; i++) {
        *state = *state * 6364136223846793005u + 1442695040888963407u;
        uniform[i] = ((double)(*state >> 11) + 0.5) * 0x1p-53;
    }
    return (float)(sqrt(-2 * log(uniform[0])) * cos(2 * M_PI * uniform[1]));
}

// What one graph input is fed: images one after the other, of which the runs take `batch` at a time, starting again at the first
// after the last. The first ones stand once more behind them, so that every run's are contiguous: nothing is copied in between.
typedef struct bench_feed {
    float *images; // (n_images + batch - 1, ...)
    size_t n_images, image_elements;
} bench_feed;

static void feed_allocate(bench_feed *feed, size_t n_images, size_t image_elements, int batch)
{
    feed->n_images = n_images;
    feed->image_elements = image_elements;
    feed->images = cli_allocate(n_images + (size_t)batch - 1, image_elements * sizeof(float));
}

static void feed_repeat(const bench_feed *feed, int batch)
{
    for (size_t i = feed->n_images; i < feed->n_images + (size_t)batch - 1; i++)
        memcpy(feed->images + i * feed->image_elements, feed->images + (i - feed->n_images) * feed->image_elements,
               feed->image_elements * sizeof(float));
}

static const float *feed_of_run(const bench_feed *feed, int batch, size_t run)
{
    return feed->images + run * (size_t)batch % feed->n_images * feed->image_elements;
}

// The images of --input FILE.npy, whose dimension 0 counts them.
static int feed_from_npy(const bench_request *request, const qcnn_shape *want, bench_feed *feed)
{
    qcnn_array array;
    qcnn_error error;
    if (qcnn_npy_read(request->input_path, &array, &error))
        return cli_fail_at(request->input_path, &error);
    bool fits = array.data && array.shape.rank == want->rank && want->rank > 0 && array.shape.dims[0] > 0;
    for (int d = 1; fits && d < want->rank; d++)
        fits = array.shape.dims[d] == want->dims[d];
    int status = CLI_DONE;
    if (fits) {
        const size_t n_images = (size_t)array.shape.dims[0], n_elements = cli_shape_elements(&array.shape);
        feed_allocate(feed, n_images, n_elements / n_images, request->batch);
        memcpy(feed->images, array.data, n_elements * sizeof(float));
    } else {
        char text[96], want_text[96];
        status = cli_fail("%s: its shape is %s; %s expects floats of shape %s (any number of images)", request->input_path,
                          cli_shape_text(&array.shape, text), request->model_path, cli_shape_text(want, want_text));
    }
    qcnn_array_free(&array);
    return status;
}

// Fills the feed of input `index` whose shape at the session's batch is `shape`.
static int fill_feed(const bench_request *request, const qcnn_model *model, int index, const qcnn_shape *shape, uint64_t *random,
                     bench_feed *feed)
{
    const size_t n = cli_shape_elements(shape), batch = (size_t)request->batch;
    if (request->input_path) {
        const qcnn_shape want = qcnn_model_input(model, index).shape;
        const int status = feed_from_npy(request, &want, feed);
        if (status != CLI_DONE)
            return status;
    } else if (request->image_path) {
        qcnn_preprocess preprocess;
        feed_allocate(feed, 1, n / batch, request->batch);
        if (cli_model_preprocess(model, request->model_path, &preprocess) ||
            cli_image_tensor(model, &preprocess, request->image_path, feed->images))
            return CLI_FAILED;
    } else {
        feed_allocate(feed, batch, n / batch, request->batch);
        for (size_t i = 0; i < n; i++)
            feed->images[i] = random_normal(random);
    }
    feed_repeat(feed, request->batch);
    return CLI_DONE;
}

// ---- measuring ------------------------------------------------------------------------------------------------------

static double percentile(double *sorted, int n, double fraction)
{
    const int rank = (int)ceil(fraction * n) - 1; // nearest rank
    return sorted[rank < 0 ? 0 : rank];
}

// Reads and writes other memory, so that the network's own has left the caches.
static void chill(unsigned char *cold, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i += 64)
        ((volatile unsigned char *)cold)[i]++;
}

static void measure(const bench_request *request, qcnn_session *session, int n_layers, const bench_feed *feeds, int n_inputs,
                    float *const *outputs, bench_result *result)
{
    const int n = request->repeat;
    const float **inputs = cli_allocate((size_t)n_inputs, sizeof *inputs);
    const size_t cold_bytes = (size_t)request->cold_mb * 1000000;
    unsigned char *cold = cli_allocate(cold_bytes + 1, 1);
    double *total_ms = cli_allocate((size_t)n, sizeof *total_ms);
    double *layer_ms = cli_allocate((size_t)n * (size_t)n_layers, sizeof *layer_ms); // (n_layers, n)
    result->runs_ms = cli_allocate((size_t)n, sizeof *result->runs_ms);
    for (int i = -request->warm_up; i < n; i++) {
        for (int input = 0; input < n_inputs; input++)
            inputs[input] = feed_of_run(&feeds[input], request->batch, (size_t)(i + request->warm_up));
        chill(cold, cold_bytes);
        const double start = cli_clock_ms();
        qcnn_run(session, inputs, outputs);
        if (i < 0)
            continue;
        total_ms[i] = result->runs_ms[i] = cli_clock_ms() - start;
        for (int layer = 0; layer < n_layers; layer++)
            layer_ms[(size_t)layer * (size_t)n + (size_t)i] = qcnn_session_layer_ms(session, layer);
    }
    qsort(total_ms, (size_t)n, sizeof *total_ms, cli_compare_doubles);
    result->median_ms = percentile(total_ms, n, 0.5);
    result->p90_ms = percentile(total_ms, n, 0.9);
    result->min_ms = total_ms[0];
    result->layer_ms = cli_allocate((size_t)n_layers, sizeof *result->layer_ms);
    for (int layer = 0; layer < n_layers; layer++) {
        double *times = layer_ms + (size_t)layer * (size_t)n;
        qsort(times, (size_t)n, sizeof *times, cli_compare_doubles);
        result->layer_ms[layer] = percentile(times, n, 0.5);
    }
    free(total_ms);
    free(layer_ms);
    free(cold);
    free(inputs);
}

static int bench_session(const bench_request *request, const qcnn_model *model, qcnn_session *session, bench_result *result)
{
    const int n_inputs = qcnn_model_n_inputs(model), n_outputs = qcnn_model_n_outputs(model);
    if (request->input_path && n_inputs != 1)
        return cli_fail("%s: it has %d inputs; --input is for networks with one", request->model_path, n_inputs);
    bench_feed *feeds = cli_allocate((size_t)n_inputs, sizeof *feeds);
    float **outputs = cli_allocate((size_t)n_outputs, sizeof *outputs);
    uint64_t random = request->seed;
    int status = CLI_DONE;
    for (int i = 0; i < n_inputs && status == CLI_DONE; i++) {
        const qcnn_shape shape = qcnn_session_input_shape(session, i);
        status = fill_feed(request, model, i, &shape, &random, &feeds[i]);
    }
    for (int i = 0; i < n_outputs; i++) {
        const qcnn_shape shape = qcnn_session_output_shape(session, i);
        outputs[i] = cli_allocate(cli_shape_elements(&shape), sizeof(float));
    }
    if (status == CLI_DONE)
        measure(request, session, qcnn_model_n_layers(model), feeds, n_inputs, outputs, result);
    for (int i = 0; i < n_inputs; i++)
        free(feeds[i].images);
    for (int i = 0; i < n_outputs; i++)
        free(outputs[i]);
    free(feeds);
    free(outputs);
    return status;
}

// ---- output ---------------------------------------------------------------------------------------------------------

static int print_json(const bench_request *request, const qcnn_model *model, const bench_result *result)
{
    cJSON *root = cli_json_object();
    cli_json_number(root, "threads", result->threads);
    cli_json_number(root, "batch", request->batch);
    cli_json_number(root, "repeat", request->repeat);
    cli_json_number(root, "median_ms", result->median_ms);
    cli_json_number(root, "p90_ms", result->p90_ms);
    cli_json_number(root, "min_ms", result->min_ms);
    cli_json_number(root, "load_ms", result->load_ms);
    cli_json_number(root, "session_bytes", (double)result->session_bytes);
    cli_json_number(root, "peak_rss_bytes", (double)cli_peak_rss_bytes());
    cli_json_number(root, "cold_bytes", 1e6 * request->cold_mb);
    cli_json_text(root, "input", request->input_path ? request->input_path : request->image_path ? request->image_path : "random");
    cli_json_text(root, "kernels", qcnn_model_kernels(model));
    cli_json_numbers(root, "runs_ms", result->runs_ms, request->repeat);
    cJSON *layers = cli_json_array(root, "layers");
    for (int i = 0; i < qcnn_model_n_layers(model); i++) {
        const qcnn_layer_info layer = qcnn_model_layer(model, i);
        cJSON *object = cli_json_append(layers);
        cli_json_text(object, "name", layer.name);
        cli_json_text(object, "type", layer.type);
        cli_json_text(object, "method", layer.method);
        cli_json_number(object, "ms", result->layer_ms[i]);
    }
    return cli_json_print(root);
}

static int print_text(const bench_request *request, const qcnn_model *model, const bench_result *result)
{
    double largest = 0, sum = 0;
    for (int i = 0; i < qcnn_model_n_layers(model); i++) {
        largest = fmax(largest, result->layer_ms[i]);
        sum += result->layer_ms[i];
    }
    cli_table table;
    cli_table_begin(&table, "layer|type|runs|>ms|>share|");
    for (int i = 0; i < qcnn_model_n_layers(model); i++) {
        const qcnn_layer_info layer = qcnn_model_layer(model, i);
        cli_text bar;
        cli_table_cell(&table, "%s", layer.name);
        cli_table_cell(&table, "%s", layer.type);
        cli_table_cell(&table, "%s", layer.method);
        cli_table_cell(&table, "%.3f", result->layer_ms[i]);
        cli_table_cell(&table, "%.1f %%", sum > 0 ? 100 * result->layer_ms[i] / sum : 0);
        cli_table_cell(&table, "%s", cli_bar_text(largest > 0 ? result->layer_ms[i] / largest : 0, 20, bar));
    }
    cli_table_end(&table, 2);
    cli_text peak, session;
    printf("\n  median %.3f ms, 90th percentile %.3f ms, fastest %.3f ms: %d run%s, batch %d, %d thread%s, kernels %s\n", result->median_ms,
           result->p90_ms, result->min_ms, request->repeat, request->repeat == 1 ? "" : "s", request->batch, result->threads,
           result->threads == 1 ? "" : "s", qcnn_model_kernels(model));
    printf("  loaded in %.1f ms; peak memory %s, %s of it activations and scratch\n", result->load_ms,
           cli_bytes_text((double)cli_peak_rss_bytes(), peak), cli_bytes_text((double)result->session_bytes, session));
    return cli_finish();
}

static int bench_model(const bench_request *request, const qcnn_model *model, bench_result *result)
{
    qcnn_pool *pool;
    if (cli_pool_open(request->threads, &pool))
        return CLI_FAILED;
    result->threads = cli_pool_threads(pool);
    qcnn_session_options options = qcnn_session_options_default();
    options.batch = request->batch;
    options.parallel = qcnn_pool_hook(pool);
    options.clock_ms = cli_clock_ms;
    qcnn_session *session;
    qcnn_error error;
    int status = CLI_FAILED;
    if (qcnn_session_create(model, &options, &session, &error))
        cli_fail_at(request->model_path, &error);
    else {
        result->session_bytes = qcnn_session_bytes(session);
        status = bench_session(request, model, session, result);
    }
    qcnn_session_free(session);
    qcnn_pool_free(pool);
    return status;
}

static int run_bench(const cli_command *command, int argc, char **argv)
{
    bench_request request = { .model = { .run_only = true }, .threads = 1, .batch = 1, .repeat = 20, .warm_up = 3, .seed = 1 };
    const cli_option options[] = {
        { .name = "--batch",
          .value = "N",
          .integer = &request.batch,
          .minimum = 1,
          .maximum = 65536,
          .help = "images in a run (default: 1)" },
        { .name = "--repeat",
          .value = "N",
          .integer = &request.repeat,
          .minimum = 1,
          .maximum = 1000000,
          .help = "runs that are timed (default: 20)" },
        { .name = "--warm-up", .value = "N", .integer = &request.warm_up, .maximum = 1000000, .help = "runs before those (default: 3)" },
        { .name = "--image", .value = "FILE", .text = &request.image_path, .help = "a photo as input instead of random numbers" },
        { .name = "--input",
          .value = "FILE.npy",
          .text = &request.input_path,
          .help = "preprocessed images, any number: the runs take them in turn" },
        { .name = "--cold",
          .value = "MB",
          .integer = &request.cold_mb,
          .maximum = 4096,
          .help = "read and write so much other memory before each run, outside the time (default: 0)" },
        { .name = "--seed", .value = "S", .number = &request.seed, .help = "of the random inputs (default: 1)" },
        CLI_OPTION_PREPROCESS(&request.model.preprocess),
        CLI_OPTION_CLASSES(&request.model.classes),
        CLI_OPTION_THREADS(&request.threads, "1"),
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
    if (request.image_path && request.input_path)
        return cli_usage(command, "--image and --input exclude each other");
    bench_result result = { 0 };
    const double start = cli_clock_ms();
    qcnn_model *model = cli_model_open(request.model_path, &request.model);
    result.load_ms = cli_clock_ms() - start;
    if (!model)
        return CLI_FAILED;
    status = bench_model(&request, model, &result);
    if (status == CLI_DONE)
        status = request.json ? print_json(&request, model, &result) : print_text(&request, model, &result);
    free(result.runs_ms);
    free(result.layer_ms);
    qcnn_model_free(model);
    return status;
}

const cli_command cli_bench = {
    .name = "bench",
    .summary = "how long a run takes, in all and layer by layer",
    .operands = "MODEL",
    .details =
        "Inputs are random normal numbers, or a photo: after ReLU a photo leaves more zeros than noise does, so time with one where it\n"
        "matters. Times of layers are medians of their own, and need not add up to the median of the whole.\n",
    .examples = "  qcnn bench net.qcnn --image cat.jpg\n"
                "  qcnn bench net.qcnn --input photos.npy --cold 64\n"
                "  qcnn bench net.onnx --threads 2 --batch 16 --repeat 50 --json\n",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_bench,
};
