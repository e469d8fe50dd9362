// SPDX-License-Identifier: Apache-2.0
// Timing a network in passing. `qcnn bench` has inputs of the user's choice and as many runs as are wanted; here a few must do.

#include "timing.h"

#include <stdlib.h>

#include "cli.h"

enum { WARM_UP = 2, LEAST_RUNS = 3, MOST_RUNS = 20 };
static const double enough_ms = 500;

static double median(double *times, int n)
{
    qsort(times, (size_t)n, sizeof *times, cli_compare_doubles);
    return times[(n - 1) / 2];
}

static void time_runs(qcnn_session *session, int n_layers, const float *const *inputs, float *const *outputs, cli_timing *timing)
{
    double total_ms[MOST_RUNS], *layer_ms = cli_allocate((size_t)n_layers * MOST_RUNS, sizeof *layer_ms); // (n_layers, MOST_RUNS)
    const double begin = cli_clock_ms();
    int n = 0;
    for (int run = 0; run < WARM_UP + MOST_RUNS && (n < LEAST_RUNS || cli_clock_ms() - begin < enough_ms); run++) {
        const double start = cli_clock_ms();
        qcnn_run(session, inputs, outputs);
        if (run < WARM_UP)
            continue;
        total_ms[n] = cli_clock_ms() - start;
        for (int i = 0; i < n_layers; i++)
            layer_ms[i * MOST_RUNS + n] = qcnn_session_layer_ms(session, i);
        n++;
    }
    timing->n_runs = n;
    timing->ms = median(total_ms, n);
    timing->layer_ms = cli_allocate((size_t)n_layers, sizeof *timing->layer_ms);
    for (int i = 0; i < n_layers; i++)
        timing->layer_ms[i] = median(&layer_ms[i * MOST_RUNS], n);
    free(layer_ms);
}

qcnn_status cli_time_model(const qcnn_model *model, cli_timing *timing, qcnn_error *error)
{
    *timing = (cli_timing){ 0 };
    qcnn_session_options options = qcnn_session_options_default();
    options.clock_ms = cli_clock_ms;
    qcnn_session *session;
    const qcnn_status status = qcnn_session_create(model, &options, &session, error);
    if (status != QCNN_OK)
        return status;
    const int n_inputs = qcnn_model_n_inputs(model), n_outputs = qcnn_model_n_outputs(model);
    float **inputs = cli_allocate((size_t)n_inputs, sizeof *inputs), **outputs = cli_allocate((size_t)n_outputs, sizeof *outputs);
    uint32_t random = 1;
    for (int i = 0; i < n_inputs; i++) {
        const qcnn_shape shape = qcnn_session_input_shape(session, i);
        const size_t n = cli_shape_elements(&shape);
        inputs[i] = cli_allocate(n, sizeof(float));
        for (size_t j = 0; j < n; j++) { // between -1 and 1
            random = random * 1664525u + 1013904223u;
            inputs[i][j] = (float)(int32_t)random * 0x1p-31f;
        }
    }
    for (int i = 0; i < n_outputs; i++) {
        const qcnn_shape shape = qcnn_session_output_shape(session, i);
        outputs[i] = cli_allocate(cli_shape_elements(&shape), sizeof(float));
    }
    time_runs(session, qcnn_model_n_layers(model), (const float *const *)inputs, outputs, timing);
    for (int i = 0; i < n_inputs; i++)
        free(inputs[i]);
    for (int i = 0; i < n_outputs; i++)
        free(outputs[i]);
    free(inputs);
    free(outputs);
    qcnn_session_free(session);
    return QCNN_OK;
}

void cli_timing_free(cli_timing *timing)
{
    free(timing->layer_ms);
    *timing = (cli_timing){ 0 };
}
