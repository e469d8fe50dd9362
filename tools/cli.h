// SPDX-License-Identifier: Apache-2.0
// What the subcommands of `qcnn` share: messages, text files, models, threads, clocks. The command sees the public headers only.
//
// Data goes to stdout, messages and progress to stderr. Every function that can fail says why in one line on stderr.

#ifndef QCNN_TOOLS_CLI_H
#define QCNN_TOOLS_CLI_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdio.h>

#include "options.h"
#include "qcnn_compress.h"

extern const cli_command cli_compress, cli_calibrate, cli_eval, cli_classify, cli_run, cli_bench, cli_inspect, cli_export;

// ---- messages -------------------------------------------------------------------------------------------------------

// "qcnn: <message>" on stderr; gives CLI_FAILED. A message says what, where and what to do.
__attribute__((format(printf, 1, 2))) int cli_fail(const char *format, ...);
// What the library said about `path` (NULL: about nothing in particular); the path comes first, once.
int cli_fail_at(const char *path, const qcnn_error *error);
__attribute__((format(printf, 1, 2))) void cli_note(const char *format, ...); // the same line, for what is no failure

// Control characters of a line of text (names come from files) become '?'.
void cli_one_line(char *text);

// A copy of `text` that is valid UTF-8, bytes that are not replaced by U+FFFD, for JSON and HTML; free() it. NULL gives "".
char *cli_utf8(const char *text);

// Ends the data on stdout: CLI_DONE, or CLI_FAILED with a message when it could not be written (a full disk).
int cli_finish(void);

// ---- memory, clocks -------------------------------------------------------------------------------------------------

// calloc, or the end of the process with a message: the command has nothing to save then. free() it.
void *cli_allocate(size_t n, size_t size);
double cli_clock_ms(void);                             // monotonic
uint64_t cli_peak_rss_bytes(void);                     // of this process, since it began
int cli_compare_doubles(const void *a, const void *b); // for qsort

// ---- JSON: each ends the process with a message when memory is out ---------------------------------------------------

cJSON *cli_json_object(void);
cJSON *cli_json_array(cJSON *object, const char *key); // adds an empty array and gives it
cJSON *cli_json_append(cJSON *array);                  // appends an empty object and gives it
cJSON *cli_json_child(cJSON *object, const char *key); // adds an empty object and gives it
void cli_json_text(cJSON *object, const char *key, const char *text);
void cli_json_number(cJSON *object, const char *key, double value); // not finite: null
void cli_json_numbers(cJSON *object, const char *key, const double *values, int n);
void cli_json_interval(cJSON *object, const char *key, double low, double high);
int cli_json_print(cJSON *object); // prints and deletes it; the exit status

// ---- files ----------------------------------------------------------------------------------------------------------

// A whole file with a zero byte after it, or NULL with a message; free() it. At most `limit` bytes are accepted.
char *cli_read_file(const char *path, size_t limit, size_t *n_bytes);
// Bytes of a model's file or files ("net.prototxt,weights.caffemodel"); 0 when unknown.
uint64_t cli_model_file_bytes(const char *path);
// Whether `path` can be made: its folder exists and may be written, and it is none of the files of `model_path`. Says why not.
bool cli_can_write(const char *path, const char *model_path);

// ---- models ---------------------------------------------------------------------------------------------------------

typedef struct cli_model_options {
    const char *kernels;         // --kernels
    bool exact;                  // --exact
    bool run_only;               // the model is to be run or inspected only
    const char *preprocess;      // --preprocess FILE
    const char *classes;         // --classes FILE
    const char *preprocess_text; // preprocess.json text where no file is given: only the image size is taken from it
    const qcnn_array *inputs;
    int n_inputs;
} cli_model_options;

// The model at `path` with the options applied, or NULL with a message.
qcnn_model *cli_model_open(const char *path, const cli_model_options *options);

// The preprocessing of a model (at `path`) that reads one image; CLI_DONE, or CLI_FAILED with a message.
int cli_model_preprocess(const qcnn_model *model, const char *path, qcnn_preprocess *preprocess);
// An image file as the model's input at batch 1; CLI_DONE, or CLI_FAILED with a message.
int cli_image_tensor(const qcnn_model *model, const qcnn_preprocess *preprocess, const char *path, float *tensor);

// Whether a layer has weights: those are the layers that sizes are about.
bool cli_has_weights(const qcnn_layer_info *layer);

// "1x64x55x55"
const char *cli_shape_text(const qcnn_shape *shape, char text[96]);
size_t cli_shape_elements(const qcnn_shape *shape);

// Threads for --threads N (0: one per processor); *pool is NULL for one thread. CLI_DONE or CLI_FAILED.
int cli_pool_open(int n_threads, qcnn_pool **pool);
int cli_pool_threads(const qcnn_pool *pool);

// `scores` in place to probabilities: softmax, unless they are a distribution already.
void cli_probabilities(float *scores, int n);

// ---- rows of option tables that several subcommands have ---------------------------------------------------------------

#define CLI_OPTION_JSON(variable)                                                                                                          \
    {                                                                                                                                      \
        .name = "--json", .flag = variable, .help = "print one JSON object"                                                                \
    }
#define CLI_OPTION_THREADS(variable, default_text)                                                                                         \
    {                                                                                                                                      \
        .name = "--threads", .value = "N", .integer = variable, .maximum = 1024,                                                           \
        .help = "threads; 0: one per processor (default: " default_text ")"                                                                \
    }
#define CLI_OPTION_KERNELS(variable)                                                                                                       \
    {                                                                                                                                      \
        .name = "--kernels", .value = "TIER", .text = variable, .help = "force an instruction-set tier: c, avx2, ..."                      \
    }
#define CLI_OPTION_EXACT(variable)                                                                                                         \
    {                                                                                                                                      \
        .name = "--exact", .flag = variable, .help = "run codebook layers in floats, without the rounding of the fast paths"               \
    }
#define CLI_OPTION_PREPROCESS(variable)                                                                                                    \
    {                                                                                                                                      \
        .name = "--preprocess", .value = "FILE.json", .text = variable, .help = "how images become tensors, instead of the model's own"    \
    }
#define CLI_OPTION_CLASSES(variable)                                                                                                       \
    {                                                                                                                                      \
        .name = "--classes", .value = "FILE.txt", .text = variable, .help = "class names, one a line, instead of the model's own"          \
    }

#endif
