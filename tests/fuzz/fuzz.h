// SPDX-License-Identifier: Apache-2.0
// What the fuzz targets share: memory bounded as a small machine would, and a run of whatever network a parser let through.

#ifndef QCNN_FUZZ_H
#define QCNN_FUZZ_H

#include <stdlib.h>
#include <string.h>

#include "qcnn_compress.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Blocks beyond this fail: what a parser makes of a few kilobytes has no business being larger.
enum { FUZZ_MAX_BLOCK = 64 << 20 };

static void *fuzz_allocate(void *context, size_t bytes, size_t alignment)
{
    (void)context;
    return bytes > FUZZ_MAX_BLOCK ? NULL : aligned_alloc(alignment, bytes);
}

static void fuzz_release(void *context, void *pointer)
{
    (void)context;
    free(pointer);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    static const qcnn_allocator bounded = { fuzz_allocate, fuzz_release, NULL };
    qcnn_set_allocator(&bounded);
    return 0;
}

// Every accepted network must also describe itself and run, where a run is short.
static inline void fuzz_run(const qcnn_model *model)
{
    double cost = 0;
    for (int i = 0; i < qcnn_model_n_layers(model); i++)
        cost += qcnn_model_layer(model, i).dense_cost + qcnn_model_layer(model, i).lut_cost;
    qcnn_session *session;
    if (cost > 1e6 || qcnn_session_create(model, NULL, &session, NULL) != QCNN_OK)
        return;
    enum { MAX_PORTS = 8 };
    const int n_inputs = qcnn_model_n_inputs(model), n_outputs = qcnn_model_n_outputs(model);
    float *inputs[MAX_PORTS] = { 0 }, *outputs[MAX_PORTS] = { 0 };
    size_t total = qcnn_session_bytes(session) / sizeof(float);
    int ready = n_inputs <= MAX_PORTS && n_outputs <= MAX_PORTS;
    for (int i = 0; ready && i < n_inputs + n_outputs; i++) {
        const qcnn_shape shape = i < n_inputs ? qcnn_session_input_shape(session, i) : qcnn_session_output_shape(session, i - n_inputs);
        size_t n = 1;
        for (int d = 0; d < shape.rank; d++)
            n = n < 1 << 20 ? n * (size_t)(shape.dims[d] < 1 << 20 ? shape.dims[d] : 1 << 20) : n;
        total += n;
        ready = total < 1 << 20;
        if (ready)
            *(i < n_inputs ? &inputs[i] : &outputs[i - n_inputs]) = calloc(n, sizeof(float));
    }
    if (ready)
        qcnn_run(session, (const float *const *)inputs, outputs);
    for (int i = 0; i < MAX_PORTS; i++) {
        free(inputs[i]);
        free(outputs[i]);
    }
    qcnn_session_free(session);
}

#endif
