// SPDX-License-Identifier: Apache-2.0
// qcnn.h - the engine: load a compressed network, run it.
//
// The short way:
//
//     qcnn_error error;
//     qcnn_model *model;
//     if (qcnn_model_open("alexnet.qcnn", NULL, &model, &error)) { puts(error.message); return 1; }
//     qcnn_session *session;
//     if (qcnn_session_create(model, NULL, &session, &error)) { puts(error.message); return 1; }
//     qcnn_run(session, (const float *const[]){ image }, (float *const[]){ scores });
//     qcnn_session_free(session);
//     qcnn_model_free(model);
//
// A model never changes after loading: any number of threads may share one. A session holds the memory of one run and
// belongs to one thread at a time. Tensors are float32, row-major (images: N, C, H, W).
//
// The library never prints, exits, aborts or reads the environment. Every function that can fail returns a qcnn_status
// and, where it takes a `qcnn_error *` (which may be NULL), explains itself there. On failure outputs are set to NULL.

#ifndef QCNN_H
#define QCNN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define QCNN_VERSION_MAJOR 0
#define QCNN_VERSION_MINOR 1
#define QCNN_VERSION_PATCH 0
#define QCNN_VERSION "0.1.0"

#if defined(_WIN32)
#define QCNN_API
#else
#define QCNN_API __attribute__((visibility("default")))
#endif

// ---- status ---------------------------------------------------------------------------------------------------------

typedef enum qcnn_status {
    QCNN_OK = 0,
    QCNN_ERROR_ARGUMENT,    // the caller asked for something that makes no sense (a null pointer, a batch of 0)
    QCNN_ERROR_MEMORY,      // an allocation failed
    QCNN_ERROR_IO,          // a file could not be read or written
    QCNN_ERROR_FORMAT,      // the bytes are not a valid file of their kind
    QCNN_ERROR_UNSUPPORTED, // valid, but outside what this library does; the message names it
    QCNN_ERROR_CANCELLED,   // the caller's progress hook asked to stop
} qcnn_status;

// What went wrong, in one line: what, where, and where it helps what to do. Filled by the library, owned by the caller.
typedef struct qcnn_error {
    qcnn_status status;
    char message[512];
} qcnn_error;

QCNN_API const char *qcnn_status_name(qcnn_status status);
QCNN_API const char *qcnn_version(void);

// ---- hooks ----------------------------------------------------------------------------------------------------------

// Where memory comes from. `allocate` returns `bytes` bytes aligned to `alignment` (a power of two, at most 64) or NULL;
// `release` takes what `allocate` returned. Set once, before any other call; NULL restores the C library's own.
typedef struct qcnn_allocator {
    void *(*allocate)(void *context, size_t bytes, size_t alignment);
    void (*release)(void *context, void *pointer);
    void *context;
} qcnn_allocator;

QCNN_API void qcnn_set_allocator(const qcnn_allocator *allocator);

// How work is spread over threads. `run` calls task(argument, index, worker) once for every index in 0..n_tasks-1, in any
// order and on any thread, and returns when all are done. `worker` is in 0..n_workers-1 and no two tasks that run at the
// same time share one. A NULL `qcnn_parallel *` means: in order, on the calling thread. Results never depend on the hook.
typedef struct qcnn_parallel {
    void (*run)(void *context, int n_tasks, void (*task)(void *argument, int index, int worker), void *argument);
    void *context;
    int n_workers;
} qcnn_parallel;

// ---- models ---------------------------------------------------------------------------------------------------------

#define QCNN_MAX_RANK 8

typedef struct qcnn_shape {
    int rank;                    // 0 for a scalar
    int64_t dims[QCNN_MAX_RANK]; // each >= 1
} qcnn_shape;

typedef struct qcnn_model qcnn_model;
typedef struct qcnn_session qcnn_session;

typedef struct qcnn_load_options {
    size_t size;         // sizeof(qcnn_load_options): set by qcnn_load_options_default
    const char *kernels; // instruction-set tier ("c", "avx2", ...); NULL: the best this processor has
    int exact;           // non-zero: float tables and weights; zero: bytes and 16-bit tables where those are faster
    int copy;            // non-zero: copy the file's bytes; zero: refer to them (mapped, or the caller's buffer)
    int run_only;        // non-zero: free weights once they are in the form that runs read; such a model can only be run and inspected
} qcnn_load_options;

QCNN_API qcnn_load_options qcnn_load_options_default(void);

// Names of the tiers that this processor has, best last; NULL past the end.
QCNN_API const char *qcnn_kernels_name(int index);

// Loads a .qcnn file (docs/format.md). `options` may be NULL. The file is mapped read-only unless `copy` is set.
// Errors: ARGUMENT (unknown tier), MEMORY, IO, FORMAT, UNSUPPORTED (a newer major version).
QCNN_API qcnn_status qcnn_model_open(const char *path, const qcnn_load_options *options, qcnn_model **model, qcnn_error *error);

// The same from memory. Unless options->copy is set, `data` must stay valid and unchanged until qcnn_model_free.
QCNN_API qcnn_status qcnn_model_load(const void *data, size_t n_bytes, const qcnn_load_options *options, qcnn_model **model,
                                     qcnn_error *error);

// Frees the model; NULL is fine. Its sessions must be gone.
QCNN_API void qcnn_model_free(qcnn_model *model);

// A graph input or output. `name` and `shape` are the model's and live as long as it does; shapes are those of batch 1.
typedef struct qcnn_port {
    const char *name;
    qcnn_shape shape;
} qcnn_port;

QCNN_API int qcnn_model_n_inputs(const qcnn_model *model);
QCNN_API int qcnn_model_n_outputs(const qcnn_model *model);
QCNN_API qcnn_port qcnn_model_input(const qcnn_model *model, int index); // index in 0..n_inputs-1, else a zeroed port
QCNN_API qcnn_port qcnn_model_output(const qcnn_model *model, int index);

// Class names in index order, and the preprocessing text (preprocess.json), as stored in the file.
QCNN_API int qcnn_model_n_classes(const qcnn_model *model);                // 0: none stored
QCNN_API const char *qcnn_model_class(const qcnn_model *model, int index); // NULL when out of range
QCNN_API const char *qcnn_model_preprocessing(const qcnn_model *model);    // NULL: none stored
QCNN_API const char *qcnn_model_kernels(const qcnn_model *model);          // the tier in use

// One step of the network, as it will run.
typedef struct qcnn_layer_info {
    const char *name;
    const char *type;               // "conv", "fc", "max_pool", ...
    qcnn_shape output_shape;        // at batch 1
    const char *storage;            // "codebook", "float32", "float16", "int8", or "" for a layer without weights
    const char *method;             // "lut", "dense", or "" for a layer without weights
    int subspace;                   // C', inputs a codeword spans; 0 unless stored as a codebook
    int codewords;                  // K; 0 likewise
    uint64_t weights;               // dense weights, biases not counted
    uint64_t bytes;                 // of weights, codebooks, assignments and biases, as stored
    uint64_t dense_operations;      // multiply-adds of the dense form, per image
    uint64_t table_multiplications; // multiply-adds that build the tables, per image; 0 unless stored as a codebook
    uint64_t lookups;               // look-ups (each an addition), per image; likewise
    double dense_cost;              // what the cost model (docs/method.md) expects, in multiply-add units
    double lut_cost;                // 0 unless stored as a codebook
    double error;                   // relative response error measured by the compressor; negative: not known. Correction in the end weighs
                                    // errors by what the answers make of them: it may be above error_before while less is lost
    double error_before;       // the same of what k-means alone gives, before error correction; negative: not known, as in loaded models
    const char *codeword_type; // "float32", "float16", "int8": how codewords are stored; "" unless stored as a codebook
    uint64_t memory_bytes;     // what a run reads of weights and bias: assignments of a byte each and codewords, or decoded weights
} qcnn_layer_info;

QCNN_API int qcnn_model_n_layers(const qcnn_model *model);
QCNN_API qcnn_layer_info qcnn_model_layer(const qcnn_model *model, int index); // zeroed when out of range
QCNN_API uint64_t qcnn_model_original_bytes(const qcnn_model *model);          // float32 bytes of all weights and biases, uncompressed

// ---- sessions -------------------------------------------------------------------------------------------------------

typedef struct qcnn_session_options {
    size_t size;                    // sizeof(qcnn_session_options): set by qcnn_session_options_default
    int batch;                      // images in a run, 1 or more: multiplies dimension 0 of every input and output
    const qcnn_shape *input_shapes; // NULL, or n_inputs shapes to use instead of the model's (batch is then ignored)
    const qcnn_parallel *parallel;  // NULL, or a hook that must outlive the session
    double (*clock_ms)(void);       // NULL, or a clock: then qcnn_session_layer_ms tells where the last run's time went
} qcnn_session_options;

QCNN_API qcnn_session_options qcnn_session_options_default(void);

// Plans all memory of a run. `options` may be NULL. The model must outlive the session.
// Errors: ARGUMENT (shapes that the network cannot take, named), MEMORY.
QCNN_API qcnn_status qcnn_session_create(const qcnn_model *model, const qcnn_session_options *options, qcnn_session **session,
                                         qcnn_error *error);
QCNN_API void qcnn_session_free(qcnn_session *session);

QCNN_API qcnn_shape qcnn_session_input_shape(const qcnn_session *session, int index);
QCNN_API qcnn_shape qcnn_session_output_shape(const qcnn_session *session, int index);

// Runs the network: inputs[i] points to the floats of input i, outputs[i] to room for those of output i (both the
// caller's, shapes as above; they must not overlap). Allocates nothing and cannot fail once the session exists.
QCNN_API void qcnn_run(qcnn_session *session, const float *const *inputs, float *const *outputs);

// Bytes planned for activations and scratch.
QCNN_API size_t qcnn_session_bytes(const qcnn_session *session);

// Milliseconds that layer `index` took in the last run; 0 without options.clock_ms.
QCNN_API double qcnn_session_layer_ms(const qcnn_session *session, int index);

#ifdef __cplusplus
}
#endif
#endif
