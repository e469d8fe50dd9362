// SPDX-License-Identifier: Apache-2.0
// The engine from a file to scores on any machine: loads a model, runs it on seeded inputs with each tier of this processor
// and prints the bits of what comes out, two lines a tier:
//   engine_run MODEL.qcnn  ->  c/exact 3f800000 bf000000 ...
//                              c/integer 3f800100 bf000000 ...
// It uses the public header and the C library alone, so that it also tests the engine as two files (scripts/amalgamate.py).

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qcnn.h"

enum { MAX_PORTS = 8 };

static int64_t elements(const qcnn_shape *shape)
{
    int64_t n = 1;
    for (int i = 0; i < shape->rank; i++)
        n *= shape->dims[i];
    return n;
}

// The whole file in 64-byte aligned memory; exits when it cannot be read.
static void *read_file(const char *path, size_t *n_bytes)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) {
        perror(path);
        exit(1);
    }
    *n_bytes = (size_t)ftell(file);
    rewind(file);
    void *bytes = aligned_alloc(64, (*n_bytes + 63) / 64 * 64);
    if (!bytes || fread(bytes, 1, *n_bytes, file) != *n_bytes) {
        perror(path);
        exit(1);
    }
    fclose(file);
    return bytes;
}

// Values like those of normalised images, half of them in 0..2, some zero: the same on every machine.
static float *input_values(int64_t n)
{
    float *values = malloc((size_t)n * sizeof *values);
    uint32_t state = 12345;
    for (int64_t i = 0; values && i < n; i++) {
        state = state * 1664525u + 1013904223u;
        const int step = (int)(state >> 20) - 2048;
        values[i] = step % 7 == 0 ? 0.0F : (float)step / 1024.0F;
    }
    return values;
}

// Runs one tier, with float tables and weights or with integer ones; prints its line. False when it failed.
static int run(const void *bytes, size_t n_bytes, const char *tier, int exact)
{
    qcnn_error error;
    qcnn_model *model;
    qcnn_session *session;
    qcnn_load_options options = qcnn_load_options_default();
    options.kernels = tier;
    options.exact = exact;
    if (qcnn_model_load(bytes, n_bytes, &options, &model, &error) || qcnn_session_create(model, NULL, &session, &error)) {
        fprintf(stderr, "engine_run: %s\n", error.message);
        return 0;
    }
    const int n_inputs = qcnn_model_n_inputs(model), n_outputs = qcnn_model_n_outputs(model);
    if (n_inputs > MAX_PORTS || n_outputs > MAX_PORTS) {
        fputs("engine_run: too many inputs or outputs\n", stderr);
        return 0;
    }
    float *inputs[MAX_PORTS], *outputs[MAX_PORTS];
    for (int i = 0; i < n_inputs; i++) {
        const qcnn_shape shape = qcnn_session_input_shape(session, i);
        inputs[i] = input_values(elements(&shape));
    }
    for (int i = 0; i < n_outputs; i++) {
        const qcnn_shape shape = qcnn_session_output_shape(session, i);
        outputs[i] = malloc((size_t)elements(&shape) * sizeof(float));
    }
    qcnn_run(session, (const float *const *)inputs, outputs);
    printf("%s/%s", qcnn_model_kernels(model), exact ? "exact" : "integer");
    for (int i = 0; i < n_outputs; i++) {
        const qcnn_shape shape = qcnn_session_output_shape(session, i);
        for (int64_t j = 0; j < elements(&shape); j++) {
            uint32_t bits;
            memcpy(&bits, outputs[i] + j, sizeof bits);
            printf(" %08x", (unsigned)bits);
        }
        free(outputs[i]);
    }
    printf("\n");
    for (int i = 0; i < n_inputs; i++)
        free(inputs[i]);
    qcnn_session_free(session);
    qcnn_model_free(model);
    return 1;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fputs("usage: engine_run MODEL.qcnn\n", stderr);
        return 2;
    }
    size_t n_bytes;
    void *bytes = read_file(argv[1], &n_bytes);
    int fine = 1;
    for (int i = 0; fine && qcnn_kernels_name(i); i++)
        fine = run(bytes, n_bytes, qcnn_kernels_name(i), 1) && run(bytes, n_bytes, qcnn_kernels_name(i), 0);
    free(bytes);
    return !fine;
}
