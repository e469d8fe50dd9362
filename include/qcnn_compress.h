// SPDX-License-Identifier: Apache-2.0
// qcnn_compress.h - everything around the engine: import a trained network, compress it, save it, export it, read data sets
// and judge the result. Nothing here is needed to run a .qcnn file.
//
//     qcnn_import("net.onnx", NULL, &original, &error);
//     qcnn_compress(original, &options, &compressed, &error);
//     qcnn_save(compressed, "net.qcnn", &error);

#ifndef QCNN_COMPRESS_H
#define QCNN_COMPRESS_H

#include "qcnn.h"
#include "qcnn_image.h"

#ifdef __cplusplus
extern "C" {
#endif

// ---- threads --------------------------------------------------------------------------------------------------------

// A pool of worker threads that serves as a qcnn_parallel hook. n_threads 0: one per processor.
typedef struct qcnn_pool qcnn_pool;
QCNN_API qcnn_status qcnn_pool_create(int n_threads, qcnn_pool **pool, qcnn_error *error);
QCNN_API const qcnn_parallel *qcnn_pool_hook(const qcnn_pool *pool); // valid until the pool is freed; NULL pool: NULL
QCNN_API void qcnn_pool_free(qcnn_pool *pool);

// ---- progress -------------------------------------------------------------------------------------------------------

// Called now and then during long work, from the calling thread. `fraction` of `stage` is done (0..1). Return non-zero to
// stop: the work then fails with QCNN_ERROR_CANCELLED and leaves nothing behind.
typedef struct qcnn_progress {
    int (*report)(void *context, const char *stage, double fraction);
    void *context;
} qcnn_progress;

// ---- tensors in files (.npy, NumPy format 1.0 to 3.0) ---------------------------------------------------------------

typedef struct qcnn_array {
    qcnn_shape shape;
    float *data;       // set for float arrays (float16, float32, float64 on reading)
    int64_t *integers; // set instead for integer and bool arrays
} qcnn_array;

QCNN_API qcnn_status qcnn_npy_parse(const void *data, size_t n_bytes, qcnn_array *array, qcnn_error *error);
QCNN_API qcnn_status qcnn_npy_read(const char *path, qcnn_array *array, qcnn_error *error);
QCNN_API qcnn_status qcnn_npy_write(const char *path, const qcnn_shape *shape, const float *data, qcnn_error *error);
QCNN_API void qcnn_array_free(qcnn_array *array);

// ---- import and export ----------------------------------------------------------------------------------------------

typedef struct qcnn_import_options {
    size_t size;
    const char *kernels;      // as qcnn_load_options
    int exact;                // likewise
    int side;                 // used for height and width where the model leaves them open; 0: none known
    const qcnn_array *inputs; // NULL, or n_inputs arrays in graph input order: their shapes replace open dimensions, and
    int n_inputs;             // integer ones become constants (shapes, axes), no longer inputs of the model
    int run_only;             // as qcnn_load_options, for .qcnn files
} qcnn_import_options;

QCNN_API qcnn_import_options qcnn_import_options_default(void);

// Reads MODEL: "x.onnx", "x.prototxt,x.caffemodel" or "x.qcnn". External data of an ONNX model is read only from its own folder.
// Errors: IO, FORMAT, UNSUPPORTED (names operator and node), MEMORY, ARGUMENT.
QCNN_API qcnn_status qcnn_import(const char *path, const qcnn_import_options *options, qcnn_model **model, qcnn_error *error);

// The ONNX importer on bytes; `folder` is where external data may lie (NULL: it is refused).
QCNN_API qcnn_status qcnn_import_onnx(const void *data, size_t n_bytes, const char *folder, const qcnn_import_options *options,
                                      qcnn_model **model, qcnn_error *error);

// Writes plain ONNX (opset 13) with the weights decoded, for any other engine.
QCNN_API qcnn_status qcnn_export_onnx(const qcnn_model *model, const char *path, qcnn_error *error);

// Writes the .qcnn file: complete, synced and renamed into place, or not at all.
QCNN_API qcnn_status qcnn_save(const qcnn_model *model, const char *path, qcnn_error *error);
// The same into memory; *data is released with qcnn_bytes_free.
QCNN_API qcnn_status qcnn_save_memory(const qcnn_model *model, void **data, size_t *n_bytes, qcnn_error *error);
QCNN_API void qcnn_bytes_free(void *data);

// Writes a file of any kind: to a temporary beside `path` (".NAME.PID-N.tmp") that is synced and renamed, and the folder
// synced. On an error before the rename the temporary is gone and an old file untouched; a process that is killed may leave a
// temporary behind, never a part of a file under `path`. Permissions are those of the file that is replaced, else what the umask
// leaves of 0666. A device or pipe (/dev/stdout) is written to directly. Errors: IO (with the path and the reason), MEMORY.
QCNN_API qcnn_status qcnn_write_file(const char *path, const void *data, size_t n_bytes, qcnn_error *error);

// Class names, one a line (UTF-8, LF or CR LF), and preprocess.json replace what the model holds. `text` is copied.
// Errors: FORMAT (with the line), ARGUMENT (not as many names as the network has outputs), MEMORY; the model is then unchanged.
QCNN_API qcnn_status qcnn_model_set_classes_text(qcnn_model *model, const char *text, size_t n_bytes, qcnn_error *error);
QCNN_API qcnn_status qcnn_model_set_preprocess_text(qcnn_model *model, const char *text, size_t n_bytes, qcnn_error *error);

// ---- data sets ------------------------------------------------------------------------------------------------------

// A folder of images with or without labels.tsv, or an IDX image file (docs/data.md).
typedef struct qcnn_dataset qcnn_dataset;
QCNN_API qcnn_status qcnn_dataset_open(const char *path, qcnn_dataset **dataset, qcnn_error *error);
QCNN_API void qcnn_dataset_free(qcnn_dataset *dataset);
QCNN_API int qcnn_dataset_size(const qcnn_dataset *dataset);
QCNN_API int qcnn_dataset_label(const qcnn_dataset *dataset, int index);        // -1: no label
QCNN_API const char *qcnn_dataset_name(const qcnn_dataset *dataset, int index); // the image's path or number
// Decodes image `index` into *image, which the caller frees. Safe from several threads at once.
QCNN_API qcnn_status qcnn_dataset_image(const qcnn_dataset *dataset, int index, qcnn_image *image, qcnn_error *error);

// ---- compressing ----------------------------------------------------------------------------------------------------

typedef enum qcnn_correction { QCNN_CORRECTION_NONE, QCNN_CORRECTION_LAYER, QCNN_CORRECTION_NETWORK } qcnn_correction;

typedef struct qcnn_compress_options {
    size_t size;
    const char *preset;   // "q-cnn" (the default when NULL)
    const char *settings; // NULL, or "LAYER=C/K,LAYER=dense,...": overrides the preset, or the search, by layer name
    double ratio;         // above 0: settings are searched for a file so many times smaller than the original's weights in float32
    double max_drop;      // above 0: for the smallest file that loses at most so many points of top-1 accuracy, estimated on
                          // calibration images that nothing was fitted to: if classes were drawn from the original's probabilities
    qcnn_correction correction;
    const qcnn_dataset *calibration; // images for error correction and for the ranges of activations (qcnn_calibrate), labels not used;
                                     // must be there unless correction is NONE, and then no ranges are found without
    const char *preprocess;          // NULL, or preprocess.json text to use for them instead of the model's
    // What a bit of an assignment is worth, in divergence of the class probabilities (nats): with error correction, assignments
    // are chosen for the sum of both, and cost fewer bits once entropy-coded. 0: only the error counts. About 1e-11 to 1e-9.
    double rate_price;
    // Minutes on two processors of 2023 (AVX-512) for which codewords and biases are then trained end to end to answer
    // as the original does on the calibration images; 0: none. Sets the number of steps: the result does not depend on the clock.
    double refine_minutes;
    // NULL, or a file in which error correction keeps the layers it has finished, so that the same call goes on from there and ends
    // with the same bytes. One that is damaged, or was made for anything else, is told to `note` and not used.
    const char *checkpoint;
    void (*note)(void *context, const char *message); // NULL, or told what a user should know though nothing failed
    void *note_context;
    uint64_t seed;
    const qcnn_parallel *parallel; // changes the time, never the result
    const qcnn_progress *progress;
} qcnn_compress_options;

QCNN_API qcnn_compress_options qcnn_compress_options_default(void);

// A compressed copy of `original`, which must outlive it.
// Errors: ARGUMENT (a setting that names no layer, or does not fit it; no calibration images; a size or drop that is not reached),
// UNSUPPORTED, MEMORY, CANCELLED, and with images IO and FORMAT (one that cannot be read).
QCNN_API qcnn_status qcnn_compress(const qcnn_model *original, const qcnn_compress_options *options, qcnn_model **compressed,
                                   qcnn_error *error);

typedef struct qcnn_calibrate_options {
    size_t size;
    const char *preprocess;        // NULL, or preprocess.json text to use for the images instead of the model's
    uint64_t seed;                 // which images are taken
    const qcnn_parallel *parallel; // changes the time, never the result
    const qcnn_progress *progress;
} qcnn_calibrate_options;

QCNN_API qcnn_calibrate_options qcnn_calibrate_options_default(void);

// A calibrated copy of `model`, which must outlive it: 256 crops of the images are run in floats, and the range of each activation and
// the largest table entries of each convolution with a codebook are kept, those that nine crops in ten stay within (of entries four fifths
// of that, which cuts few and makes the step of all others finer). The engine then need
// not find scales for each image, and may keep activations as bytes from layer to layer; qcnn_compress with images does the same at its
// end. Ranges that the model had are found anew. Only a compressed model runs in bytes: for an original it is an error. `options` may be
// NULL.
// Errors: ARGUMENT (no images, no preprocessing, an original), UNSUPPORTED (a network that does not read one image), IO and FORMAT
// (an image that cannot be read), MEMORY, CANCELLED.
QCNN_API qcnn_status qcnn_calibrate(const qcnn_model *model, const qcnn_dataset *images, const qcnn_calibrate_options *options,
                                    qcnn_model **calibrated, qcnn_error *error);

// Whether a model holds calibrated ranges.
QCNN_API int qcnn_model_calibrated(const qcnn_model *model);

// Removes a checkpoint, once the result is safe.
QCNN_API void qcnn_checkpoint_remove(const char *path);

// A compressed network beside its original, on calibration images that nothing was fitted to (every tenth; where there are fewer than
// ten images, on all of them).
typedef struct qcnn_comparison {
    int n_images, held_out;       // held_out 0: they were fitted to, which flatters
    double agreement, divergence; // how often the first class is the original's (0..1); of the class probabilities (nats)
    double drop, drop_error;      // top-1 accuracy lost (0..1) if classes were drawn from the original's probabilities, its standard error
} qcnn_comparison;

// At most n_images images; 0: all. Both run as they were loaded. Errors: as qcnn_diagnose.
QCNN_API qcnn_status qcnn_compare(const qcnn_model *original, const qcnn_model *compressed, const qcnn_dataset *calibration, int n_images,
                                  const qcnn_parallel *parallel, const qcnn_progress *progress, qcnn_comparison *comparison,
                                  qcnn_error *error);

// Which layer costs the accuracy, on such images: how often the first class is the original's (0..1), and the divergence of the class
// probabilities (nats), of floats: without the rounding of a run in bytes.
typedef struct qcnn_layer_diagnosis {
    int known;                                  // 0: the layer is not compressed
    double alone_agreement, alone_divergence;   // of the network in which this layer alone is compressed
    double others_agreement, others_divergence; // in which all but this one are
} qcnn_layer_diagnosis;

typedef struct qcnn_diagnosis {
    int n_images;
    double agreement, divergence; // of the compressed network
    qcnn_layer_diagnosis *layers; // [n_layers], as qcnn_model_layer counts
    int n_layers;
} qcnn_diagnosis;

// `compressed` is what qcnn_compress made of `original`, or what was read back from its file; at most n_images images, 0: so many that
// it takes a minute or so.
// Errors: ARGUMENT, IO and FORMAT (an image that cannot be read), UNSUPPORTED (a network that gives no class scores), MEMORY, CANCELLED.
QCNN_API qcnn_status qcnn_diagnose(const qcnn_model *original, const qcnn_model *compressed, const qcnn_dataset *calibration, int n_images,
                                   const qcnn_parallel *parallel, const qcnn_progress *progress, qcnn_diagnosis *diagnosis,
                                   qcnn_error *error);
QCNN_API void qcnn_diagnosis_free(qcnn_diagnosis *diagnosis);

// ---- judging --------------------------------------------------------------------------------------------------------

// Class scores of images of a data set: preprocess, run, one image after the other or in parallel.
typedef struct qcnn_evaluate_options {
    size_t size;
    int limit;              // at most so many images, spread evenly over the set in order; 0: all
    const char *preprocess; // NULL, or preprocess.json text to use instead of the model's
    const qcnn_parallel *parallel;
    const qcnn_progress *progress;
} qcnn_evaluate_options;

QCNN_API qcnn_evaluate_options qcnn_evaluate_options_default(void);

// *scores (n_images x n_classes floats, qcnn_bytes_free) in data set order; n_images is min(limit, size).
// Row i is image floor(i * size / n_images) of the data set.
QCNN_API qcnn_status qcnn_evaluate(const qcnn_model *model, const qcnn_dataset *dataset, const qcnn_evaluate_options *options,
                                   float **scores, int *n_images, int *n_classes, qcnn_error *error);

#ifdef __cplusplus
}
#endif
#endif
