// SPDX-License-Identifier: Apache-2.0
// Opening a model of any kind by its path.

#include "import/import.h"

#include <string.h>

#include "import/file_map.h"

enum { MAX_PATH_BYTES = 4096 };

static bool ends_with(const char *path, const char *suffix)
{
    const size_t n = strlen(path), k = strlen(suffix);
    return n >= k && !strcmp(path + n - k, suffix);
}

// ---- ONNX -----------------------------------------------------------------------------------------------------------

static bool probe_onnx(const char *path)
{
    return ends_with(path, ".onnx");
}

// The folder that `path` lies in.
static qcnn_status folder_of(const char *path, char folder[MAX_PATH_BYTES], qcnn_error *error)
{
    const char *slash = strrchr(path, '/');
    const size_t n = slash ? (size_t)(slash - path) : 0;
    if (n >= MAX_PATH_BYTES)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "the path of the model is longer than %d bytes", MAX_PATH_BYTES);
    memcpy(folder, path, n);
    folder[n] = 0;
    if (n == 0)
        strcpy(folder, slash ? "/" : ".");
    return QCNN_OK;
}

static bool refers_to_file(const qcnn_model *model)
{
    for (size_t i = 0; i < model->n_tensors; i++)
        if (!model->tensors[i].owned_data)
            return true;
    return false;
}

// The model keeps the mapping it came from when it refers to it; otherwise nobody needs it any more.
static void hand_over(qcnn_model *model, void *file, size_t n_bytes)
{
    if (!model || !refers_to_file(model)) {
        qcnn_unmap_file(file, n_bytes);
        return;
    }
    model->file = file;
    model->file_bytes = n_bytes;
    model->release_file = qcnn_unmap_file;
}

static qcnn_status read_onnx(const char *path, const qcnn_import_options *options, qcnn_model **model, qcnn_error *error)
{
    char folder[MAX_PATH_BYTES];
    void *file;
    size_t n_bytes;
    QCNN_TRY(folder_of(path, folder, error));
    QCNN_TRY(qcnn_map_file(path, &file, &n_bytes, error));
    const qcnn_status status = qcnn_onnx_read((qcnn_span){ file, n_bytes }, folder, true, options, model, error);
    hand_over(*model, file, n_bytes);
    return status;
}

// ---- Caffe ----------------------------------------------------------------------------------------------------------

static bool probe_caffe(const char *path)
{
    const char *comma = strstr(path, ".prototxt,");
    return comma && ends_with(comma, ".caffemodel");
}

static qcnn_status read_caffe(const char *path, const qcnn_import_options *options, qcnn_model **model, qcnn_error *error)
{
    char net_path[MAX_PATH_BYTES];
    const char *weights_path = strstr(path, ".prototxt,") + strlen(".prototxt,");
    const size_t n = (size_t)(weights_path - path) - 1;
    void *net, *weights;
    size_t n_net, n_weights;
    if (n >= sizeof net_path)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "the path of the model is longer than %d bytes", MAX_PATH_BYTES);
    memcpy(net_path, path, n);
    net_path[n] = 0;
    QCNN_TRY(qcnn_map_file(net_path, &net, &n_net, error));
    qcnn_status status = qcnn_map_file(weights_path, &weights, &n_weights, error);
    if (status == QCNN_OK) {
        status = qcnn_caffe_read((qcnn_span){ net, n_net }, (qcnn_span){ weights, n_weights }, options, model, error);
        hand_over(*model, weights, n_weights);
    }
    qcnn_unmap_file(net, n_net);
    return status;
}

// ---- our own --------------------------------------------------------------------------------------------------------

static bool probe_qcnn(const char *path)
{
    return ends_with(path, ".qcnn");
}

static qcnn_status read_qcnn(const char *path, const qcnn_import_options *options, qcnn_model **model, qcnn_error *error)
{
    qcnn_load_options load = qcnn_load_options_default();
    load.kernels = options->kernels;
    load.exact = options->exact;
    load.run_only = options->run_only;
    return qcnn_model_open(path, &load, model, error);
}

// ---- the table ------------------------------------------------------------------------------------------------------

static const struct importer {
    bool (*probe)(const char *path);
    qcnn_status (*read)(const char *path, const qcnn_import_options *options, qcnn_model **model, qcnn_error *error);
} importers[] = {
    { probe_onnx, read_onnx },
    { probe_caffe, read_caffe },
    { probe_qcnn, read_qcnn },
};

qcnn_import_options qcnn_import_options_default(void)
{
    return (qcnn_import_options){ .size = sizeof(qcnn_import_options) };
}

// The caller's options over the defaults: an older caller's structure may be shorter.
static qcnn_status take_options(const qcnn_import_options *given, qcnn_import_options *options, qcnn_error *error)
{
    *options = qcnn_import_options_default();
    if (!given)
        return QCNN_OK;
    if (given->size == 0 || given->size > sizeof *options)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "import options were not made by qcnn_import_options_default");
    memcpy(options, given, given->size);
    options->size = sizeof *options;
    return QCNN_OK;
}

qcnn_status qcnn_import(const char *path, const qcnn_import_options *options, qcnn_model **model, qcnn_error *error)
{
    qcnn_import_options own;
    *model = NULL;
    QCNN_TRY(take_options(options, &own, error));
    for (size_t i = 0; i < sizeof importers / sizeof *importers; i++)
        if (importers[i].probe(path))
            return importers[i].read(path, &own, model, error);
    return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "%s: not a model; give NET.onnx, NET.prototxt,WEIGHTS.caffemodel or NET.qcnn", path);
}

qcnn_status qcnn_import_onnx(const void *data, size_t n_bytes, const char *folder, const qcnn_import_options *options, qcnn_model **model,
                             qcnn_error *error)
{
    qcnn_import_options own;
    *model = NULL;
    QCNN_TRY(take_options(options, &own, error));
    return qcnn_onnx_read((qcnn_span){ data, n_bytes }, folder, false, &own, model, error);
}
