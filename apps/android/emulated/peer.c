// SPDX-License-Identifier: Apache-2.0
// Runs an ONNX network in ONNX Runtime's arm64 library (from Maven Central: com.microsoft.onnxruntime:onnxruntime), one thread,
// so that its instructions can be counted beside ours. There is no header of it here: the calls that are used are declared by
// their place in its table of functions, which never changes.
//   peer LIBRARY MODEL.onnx RUNS

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef void *status;

typedef struct api_base {
    void *const *(*get_api)(uint32_t version);
    const char *(*get_version)(void);
} api_base;

enum {
    CREATE_ENV = 3,
    CREATE_SESSION = 7,
    RUN = 9,
    CREATE_OPTIONS = 10,
    INTRA_THREADS = 24,
    INPUT_NAME = 36,
    OUTPUT_NAME = 37,
    CREATE_TENSOR = 49,
    CPU_MEMORY = 69,
    ALLOCATOR = 78,
    ERROR_MESSAGE = 2
};
enum { API_VERSION = 16, SIDE = 227, N_VALUES = 3 * SIDE * SIDE, WARNINGS = 2, FLOAT = 1 };

static void *const *api;

static void check(status failed)
{
    if (failed) {
        const char *(*const message)(status) = api[ERROR_MESSAGE];
        fprintf(stderr, "peer: %s\n", message(failed));
        exit(1);
    }
}

int main(int argc, char **argv)
{
    void *library = argc == 4 ? dlopen(argv[1], RTLD_NOW) : NULL;
    const api_base *(*const get_base)(void) = library ? dlsym(library, "OrtGetApiBase") : NULL;
    if (!get_base) {
        fprintf(stderr, "usage: peer LIBRARY MODEL.onnx RUNS: %s\n", argc == 4 ? dlerror() : "");
        return 2;
    }
    api = get_base()->get_api(API_VERSION);
    status (*const create_env)(int level, const char *name, void **env) = api[CREATE_ENV];
    status (*const create_options)(void **options) = api[CREATE_OPTIONS];
    status (*const set_threads)(void *options, int n) = api[INTRA_THREADS];
    status (*const create_session)(void *env, const char *path, void *options, void **session) = api[CREATE_SESSION];
    status (*const allocator_of)(void **allocator) = api[ALLOCATOR];
    status (*const input_name)(void *session, size_t index, void *allocator, char **name) = api[INPUT_NAME];
    status (*const output_name)(void *session, size_t index, void *allocator, char **name) = api[OUTPUT_NAME];
    status (*const cpu_memory)(int allocator, int type, void **info) = api[CPU_MEMORY];
    status (*const create_tensor)(void *info, void *data, size_t n_bytes, const int64_t *shape, size_t rank, int type, void **value) =
        api[CREATE_TENSOR];
    status (*const run)(void *session, void *options, const char *const *inputs, void *const *values, size_t n_inputs,
                        const char *const *outputs, size_t n_outputs, void **results) = api[RUN];

    void *env, *options, *session, *allocator, *memory, *tensor;
    char *in, *out;
    check(create_env(WARNINGS, "peer", &env));
    check(create_options(&options));
    check(set_threads(options, 1));
    check(create_session(env, argv[2], options, &session));
    check(allocator_of(&allocator));
    check(input_name(session, 0, allocator, &in));
    check(output_name(session, 0, allocator, &out));
    check(cpu_memory(0, 0, &memory));
    float *values = malloc(N_VALUES * sizeof *values);
    for (int i = 0; i < N_VALUES; i++)
        values[i] = (float)(i * 31 % 255 - 127);
    const int64_t shape[] = { 1, 3, SIDE, SIDE };
    check(create_tensor(memory, values, N_VALUES * sizeof *values, shape, 4, FLOAT, &tensor));
    for (int i = 0; i < atoi(argv[3]); i++) {
        void *result = NULL;
        check(run(session, NULL, (const char *const *)&in, &tensor, 1, (const char *const *)&out, 1, &result));
    }
    fprintf(stderr, "ONNX Runtime %s ran %s\n", get_base()->get_version(), argv[2]);
    return 0;
}
