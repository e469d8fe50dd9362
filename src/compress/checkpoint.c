// SPDX-License-Identifier: Apache-2.0
// Checkpoints: the key, writing, and reading bytes that may be damaged.

#include "compress/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/crc32.h"
#include "compress/gemm_bf16.h"
#include "compress/install.h"
#include "compress/quantize.h"
#include "compress/refine.h"
#include "compress/refine_checkpoint.h"

enum { VERSION = 2, MAX_NAME_BYTES = 4096 };
static const char magic[8] = "QCNNCKPT";

// ---- the key --------------------------------------------------------------------------------------------------------

// FNV-1a over 64 bits, eight bytes at a time.
static void mix(uint64_t *key, const void *data, size_t n)
{
    const unsigned char *bytes = data;
    for (; n >= 8; n -= 8, bytes += 8) {
        uint64_t word;
        memcpy(&word, bytes, sizeof word);
        *key = (*key ^ word) * 0x100000001b3u;
        *key ^= *key >> 29;
    }
    for (; n > 0; n--, bytes++)
        *key = (*key ^ *bytes) * 0x100000001b3u;
}

static void mix_number(uint64_t *key, uint64_t number)
{
    mix(key, &number, sizeof number);
}

static void mix_text(uint64_t *key, const char *text)
{
    mix_number(key, text ? strlen(text) : UINT64_MAX);
    if (text)
        mix(key, text, strlen(text));
}

// To be raised with every change of what a correction or a search finds.
static const uint64_t correction_version = 8;

static void mix_model(uint64_t *key, const qcnn_model *model)
{
    mix_text(key, qcnn_version());
    mix_number(key, correction_version);
    mix_number(key, qcnn_gemm_bf16_available());
    mix_text(key, qcnn_model_kernels(model));
    for (size_t i = 0; i < model->n_tensors; i++)
        mix(key, model->tensors[i].data, (size_t)qcnn_shape_elements(&model->tensors[i].shape) * sizeof(float));
    for (size_t n = 0; n < model->n_nodes; n++) {
        const qcnn_node *node = &model->nodes[n];
        mix_number(key, node->op);
        mix_text(key, node->name);
        mix(key, node->inputs, (size_t)node->n_inputs * sizeof *node->inputs);
        mix_number(key, (uint64_t)node->output);
        mix(key, &node->attributes, sizeof node->attributes);
    }
}

static qcnn_status mix_images(uint64_t *key, const qcnn_dataset *dataset, qcnn_error *error)
{
    enum { READ_IMAGES = 32 };
    const int n = qcnn_dataset_size(dataset);
    for (int i = 0; i < n; i++)
        mix_text(key, qcnn_dataset_name(dataset, i));
    for (int i = 0; i < READ_IMAGES && i < n; i++) {
        qcnn_image image;
        QCNN_TRY(qcnn_dataset_image(dataset, (int)((int64_t)i * n / (n < READ_IMAGES ? n : READ_IMAGES)), &image, error));
        mix(key, image.pixels, (size_t)image.width * (size_t)image.height * (size_t)image.channels);
        qcnn_image_free(&image);
    }
    return QCNN_OK;
}

qcnn_status qcnn_checkpoint_key(const qcnn_model *original, const qcnn_layer_setting *settings, const qcnn_compress_options *options,
                                uint64_t *key, qcnn_error *error)
{
    *key = 0xcbf29ce484222325u;
    mix_model(key, original);
    for (size_t n = 0; n < original->n_nodes; n++) {
        const qcnn_layer_setting *s = &settings[n];
        const int numbers[5] = { s->subspace, s->n_codewords, s->set_per_group, (int)s->codeword_type, s->largest };
        mix(key, numbers, sizeof numbers);
        mix(key, &s->price, sizeof s->price);
        mix(key, &s->expected_bytes, sizeof s->expected_bytes);
        mix_number(key, s->steered);
    }
    mix_number(key, (uint64_t)options->correction);
    mix_number(key, options->seed);
    mix(key, &options->rate_price, sizeof options->rate_price);
    mix_text(key, options->preprocess ? options->preprocess : qcnn_model_preprocessing(original));
    return mix_images(key, options->calibration, error);
}

// ---- writing --------------------------------------------------------------------------------------------------------

typedef struct book_sizes {
    size_t n_books, n_codewords, n_assignments; // n_codewords: floats
} book_sizes;

static book_sizes sizes_of(const qcnn_codebook *book)
{
    const size_t n_books = (size_t)book->n_sets * (size_t)book->n_subspaces;
    return (book_sizes){ n_books, n_books * (size_t)book->n_codewords * (size_t)book->subspace,
                         (size_t)book->groups * (size_t)book->n_subspaces * (size_t)book->n_taps * (size_t)book->n_outputs };
}

static void write_layer(qcnn_buffer *out, const qcnn_model *model, size_t n)
{
    const qcnn_tensor *weights = qcnn_node_weights(model, &model->nodes[n]), *bias = qcnn_node_bias(model, &model->nodes[n]);
    const book_sizes sizes = sizes_of(&weights->codebook);
    qcnn_write_u32(out, (uint32_t)n);
    qcnn_write_f32(out, weights->error);
    qcnn_write_f32(out, weights->error_before);
    qcnn_write_u32(out, (uint32_t)weights->codebook.n_codewords);
    qcnn_write_bytes(out, weights->codebook.codewords, sizes.n_codewords * sizeof(float));
    if (weights->codebook.scales)
        qcnn_write_bytes(out, weights->codebook.scales, sizes.n_books * sizeof(float));
    qcnn_write_bytes(out, weights->codebook.assignments, sizes.n_assignments);
    qcnn_write_u32(out, bias ? (uint32_t)bias->shape.dims[0] : 0);
    if (bias)
        qcnn_write_bytes(out, bias->data, (size_t)bias->shape.dims[0] * sizeof(float));
}

static uint32_t crc_of(const unsigned char *data, size_t n)
{
    qcnn_crc32_tables tables;
    qcnn_crc32_init(&tables);
    return qcnn_crc32(&tables, 0, data, n);
}

// "path.previous" into room for MAX_NAME_BYTES; false if it is too long.
static bool previous_name(const char *path, char *name)
{
    const int n = snprintf(name, MAX_NAME_BYTES, "%s.previous", path);
    return n > 0 && n < MAX_NAME_BYTES;
}

qcnn_status qcnn_checkpoint_save(const qcnn_model *compressed, const qcnn_compress_options *options, uint64_t key, const bool *done,
                                 qcnn_error *error)
{
    qcnn_buffer out = { 0 };
    uint32_t n_done = 0;
    for (size_t n = 0; n < compressed->n_nodes; n++)
        n_done += done[n];
    qcnn_write_bytes(&out, magic, sizeof magic);
    qcnn_write_u32(&out, VERSION);
    qcnn_write_u64(&out, key);
    qcnn_write_u32(&out, n_done);
    for (size_t n = 0; n < compressed->n_nodes; n++)
        if (done[n])
            write_layer(&out, compressed, n);
    qcnn_write_u32(&out, out.failed ? 0 : crc_of(out.data, out.n_bytes));
    char previous[MAX_NAME_BYTES];
    qcnn_status status = out.failed ? qcnn_fail_memory(error, out.capacity) : QCNN_OK;
    if (status == QCNN_OK && previous_name(options->checkpoint, previous))
        rename(options->checkpoint, previous); // the first time there is nothing to rename
    if (status == QCNN_OK)
        status = qcnn_write_file(options->checkpoint, out.data, out.n_bytes, error);
    qcnn_release(out.data);
    return status;
}

void qcnn_checkpoint_remove(const char *path)
{
    char previous[MAX_NAME_BYTES], rest[MAX_NAME_BYTES];
    unlink(path);
    if (previous_name(path, previous))
        unlink(previous);
    qcnn_refine_checkpoint_remove(path);
    if (snprintf(previous, sizeof previous, "%s" QCNN_CHECKPOINT_SEARCH, path) < MAX_NAME_BYTES)
        qcnn_refine_checkpoint_unlink(previous);
    if (snprintf(previous, sizeof previous, "%s" QCNN_CHECKPOINT_JOINT, path) < MAX_NAME_BYTES)
        qcnn_refine_checkpoint_remove(previous);
    const int n = snprintf(previous, sizeof previous, "%s" QCNN_CHECKPOINT_REST, path);
    if (n > 0 && n < MAX_NAME_BYTES) {
        unlink(previous);
        if (previous_name(previous, rest))
            unlink(rest);
    }
}

// ---- reading --------------------------------------------------------------------------------------------------------

// The whole file; *data is NULL if there is none. Errors: IO, MEMORY.
static qcnn_status read_file(const char *path, unsigned char **data, size_t *n_bytes, qcnn_error *error)
{
    *data = NULL;
    struct stat info;
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return errno == ENOENT ? QCNN_OK : qcnn_fail(error, QCNN_ERROR_IO, "%s: %s", path, strerror(errno));
    qcnn_status status =
        fstat(file, &info) == 0 && S_ISREG(info.st_mode) ? QCNN_OK : qcnn_fail(error, QCNN_ERROR_IO, "%s: not a file", path);
    *n_bytes = status == QCNN_OK ? (size_t)info.st_size : 0;
    if (status == QCNN_OK && !(*data = qcnn_allocate(*n_bytes, 1)))
        status = qcnn_fail_memory(error, *n_bytes);
    for (size_t n_read = 0; status == QCNN_OK && n_read < *n_bytes;) {
        const ssize_t n = read(file, *data + n_read, *n_bytes - n_read);
        if (n <= 0)
            status = qcnn_fail(error, QCNN_ERROR_IO, "%s: cannot be read", path);
        n_read += n > 0 ? (size_t)n : 0;
    }
    close(file);
    if (status != QCNN_OK) {
        qcnn_release(*data);
        *data = NULL;
    }
    return status;
}

static bool all_finite(const float *numbers, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(numbers[i]))
            return false;
    return true;
}

// n floats that become the caller's; NULL with `damaged` set, or when memory lacks.
static float *read_floats(qcnn_cursor *cursor, size_t n, bool *damaged)
{
    const unsigned char *bytes = n <= SIZE_MAX / sizeof(float) ? qcnn_read_bytes(cursor, n * sizeof(float)) : NULL;
    if (!bytes) {
        *damaged = true;
        return NULL;
    }
    float *numbers = qcnn_allocate(n, sizeof *numbers);
    if (numbers) {
        memcpy(numbers, bytes, n * sizeof *numbers);
        *damaged = *damaged || !all_finite(numbers, n);
    }
    return numbers;
}

static bool assignments_fit(const uint8_t *assignments, size_t n, int n_codewords)
{
    for (size_t i = 0; i < n; i++)
        if (assignments[i] >= n_codewords)
            return false;
    return true;
}

// The codebook of a layer of this form. *damaged where the bytes cannot be one.
static qcnn_status read_codebook(qcnn_cursor *cursor, qcnn_codebook form, qcnn_tensor *tensor, bool *damaged, qcnn_error *error)
{
    *tensor = (qcnn_tensor){ .error = qcnn_read_f32(cursor) };
    tensor->error_before = qcnn_read_f32(cursor);
    const uint32_t n_codewords = qcnn_read_u32(cursor);
    if (cursor->failed || n_codewords < 1 || n_codewords > (uint32_t)form.n_codewords || !isfinite(tensor->error) ||
        !isfinite(tensor->error_before)) {
        *damaged = true;
        return QCNN_OK;
    }
    form.n_codewords = (int)n_codewords;
    const book_sizes sizes = sizes_of(&form);
    const bool scaled = form.codeword_type == QCNN_INT8;
    tensor->codebook = form;
    tensor->codebook.codewords = tensor->owned_data = read_floats(cursor, sizes.n_codewords, damaged);
    if (scaled && !*damaged)
        tensor->codebook.scales = tensor->owned_scales = read_floats(cursor, sizes.n_books, damaged);
    const unsigned char *assignments = qcnn_read_bytes(cursor, sizes.n_assignments);
    if (*damaged || !assignments || !assignments_fit(assignments, sizes.n_assignments, form.n_codewords)) {
        *damaged = true;
        return QCNN_OK;
    }
    uint8_t *copy = qcnn_allocate(sizes.n_assignments, 1);
    if (copy)
        memcpy(copy, assignments, sizes.n_assignments);
    tensor->codebook.assignments = tensor->owned_assignments = copy;
    return copy && tensor->owned_data && (!scaled || tensor->owned_scales) ? QCNN_OK : qcnn_fail_memory(error, sizes.n_assignments);
}

static qcnn_status read_layer(qcnn_cursor *cursor, const qcnn_model *original, const qcnn_layer_setting *settings, qcnn_model *compressed,
                              bool *done, bool *damaged, qcnn_error *error)
{
    const uint32_t n = qcnn_read_u32(cursor);
    if (cursor->failed || n >= original->n_nodes || settings[n].subspace == 0 || done[n]) {
        *damaged = true;
        return QCNN_OK;
    }
    const qcnn_node *node = &original->nodes[n];
    const qcnn_tensor *weights = qcnn_node_weights(original, node);
    qcnn_codebook form = qcnn_codebook_form(&weights->shape, node->op == QCNN_OP_CONV ? node->attributes.groups : 1,
                                            settings[n].set_per_group, settings[n].subspace, settings[n].n_codewords);
    form.codeword_type = settings[n].codeword_type;
    qcnn_tensor tensor;
    float *bias = NULL;
    qcnn_status status = read_codebook(cursor, form, &tensor, damaged, error);
    const uint32_t n_bias = qcnn_read_u32(cursor);
    *damaged = *damaged || cursor->failed || (int64_t)n_bias != weights->shape.dims[0];
    if (status == QCNN_OK && !*damaged && !(bias = read_floats(cursor, n_bias, damaged)) && !*damaged)
        status = qcnn_fail_memory(error, n_bias * sizeof(float));
    if (status != QCNN_OK || *damaged) {
        qcnn_tensor_release(&tensor);
        qcnn_release(bias);
        return status;
    }
    qcnn_install_codebook(compressed, n, &tensor);
    done[n] = true;
    return qcnn_install_bias(compressed, n, bias, error);
}

// *damaged: the bytes are no checkpoint for this key. CRC and key come first: what passes them and is damaged all the same was
// written so on purpose, and `compressed` may then hold some of it.
static qcnn_status parse(const unsigned char *data, size_t n_bytes, uint64_t key, const qcnn_model *original,
                         const qcnn_layer_setting *settings, qcnn_model *compressed, bool *done, bool *damaged, qcnn_error *error)
{
    qcnn_cursor cursor = { .next = data, .n_left = n_bytes < 4 ? 0 : n_bytes - 4 };
    const unsigned char *start = qcnn_read_bytes(&cursor, sizeof magic);
    const uint32_t version = qcnn_read_u32(&cursor);
    const uint64_t found = qcnn_read_u64(&cursor);
    const uint32_t n_layers = qcnn_read_u32(&cursor);
    qcnn_cursor end = { .next = data + (n_bytes < 4 ? 0 : n_bytes - 4), .n_left = n_bytes < 4 ? 0 : 4 };
    *damaged = !start || cursor.failed || memcmp(start, magic, sizeof magic) != 0 || version != VERSION || found != key ||
               n_layers > original->n_nodes || qcnn_read_u32(&end) != crc_of(data, n_bytes - 4);
    for (uint32_t i = 0; i < n_layers && !*damaged; i++)
        QCNN_TRY(read_layer(&cursor, original, settings, compressed, done, damaged, error));
    *damaged = *damaged || cursor.n_left > 0;
    return QCNN_OK;
}

// Whether the file's layers are in `compressed` now.
static qcnn_status load_one(const char *path, uint64_t key, const qcnn_model *original, const qcnn_layer_setting *settings,
                            const qcnn_compress_options *options, qcnn_model *compressed, bool *done, bool *used, qcnn_error *error)
{
    unsigned char *data;
    size_t n_bytes = 0;
    qcnn_error inner = { 0 };
    *used = false;
    const qcnn_status status = read_file(path, &data, &n_bytes, &inner);
    if (status == QCNN_ERROR_MEMORY)
        return qcnn_fail(error, status, "%s", inner.message);
    bool damaged = status != QCNN_OK;
    if (!data && !damaged)
        return QCNN_OK;
    qcnn_status parsed = QCNN_OK;
    if (data)
        parsed = parse(data, n_bytes, key, original, settings, compressed, done, &damaged, error);
    qcnn_release(data);
    *used = parsed == QCNN_OK && !damaged;
    if (parsed == QCNN_OK && damaged && options->note) {
        snprintf(inner.message, sizeof inner.message, "%.300s: not a whole checkpoint of this network, images and settings; ignored", path);
        options->note(options->note_context, inner.message);
    }
    return parsed;
}

qcnn_status qcnn_checkpoint_load(const qcnn_model *original, const qcnn_layer_setting *settings, const qcnn_compress_options *options,
                                 uint64_t key, qcnn_model *compressed, bool *done, qcnn_error *error)
{
    bool used;
    QCNN_TRY(load_one(options->checkpoint, key, original, settings, options, compressed, done, &used, error));
    char previous[MAX_NAME_BYTES];
    if (used || !previous_name(options->checkpoint, previous))
        return QCNN_OK;
    memset(done, 0, original->n_nodes * sizeof *done);
    QCNN_TRY(load_one(previous, key, original, settings, options, compressed, done, &used, error));
    if (!used)
        memset(done, 0, original->n_nodes * sizeof *done);
    return QCNN_OK;
}
