// SPDX-License-Identifier: Apache-2.0
// Calibration samples: which images belong to which part, in which order, cut where.

#include "compress/samples.h"

#include <string.h>

#include "base/rng.h"
#include "image/crop.h"

enum { HELD_OUT_EVERY = 10 };

static qcnn_status check_input(const qcnn_model *model, qcnn_samples *samples, qcnn_error *error)
{
    char text[96];
    if (qcnn_model_n_inputs(model) != 1)
        return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "the network has %d inputs: only one image in can be calibrated",
                         qcnn_model_n_inputs(model));
    samples->shape = qcnn_model_input(model, 0).shape;
    if (samples->shape.rank != 4 || samples->shape.dims[0] != 1 || samples->shape.dims[1] != samples->preprocess.n_channels)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "the network reads a tensor of %s, preprocessing makes one of 1x%dxHxW",
                         qcnn_shape_text(&samples->shape, text), samples->preprocess.n_channels);
    samples->n_elements = (size_t)qcnn_shape_elements(&samples->shape);
    return QCNN_OK;
}

static void shuffle(int *items, int n, uint64_t seed)
{
    qcnn_rng rng = { seed };
    for (int i = n - 1; i > 0; i--) {
        const int j = (int)qcnn_rng_below(&rng, (uint32_t)i + 1), item = items[i];
        items[i] = items[j];
        items[j] = item;
    }
}

static qcnn_status divide_images(qcnn_samples *samples, qcnn_error *error)
{
    const int n = qcnn_dataset_size(samples->dataset);
    if (n < 1)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "the calibration set has no images");
    for (int part = 0; part < 2; part++) {
        samples->order[part] = qcnn_allocate((size_t)n, sizeof(int));
        if (!samples->order[part])
            return qcnn_fail_memory(error, (size_t)n * sizeof(int));
    }
    for (int i = 0; i < n; i++) {
        const qcnn_part part = i % HELD_OUT_EVERY == HELD_OUT_EVERY - 1 ? QCNN_PART_HELD_OUT : QCNN_PART_FIT;
        samples->order[part][samples->n_images[part]++] = i;
    }
    for (int part = 0; part < 2; part++)
        shuffle(samples->order[part], samples->n_images[part], qcnn_rng_split(samples->seed, (uint64_t)part));
    return QCNN_OK;
}

static qcnn_status open_samples(const qcnn_model *model, const char *preprocess, qcnn_samples *samples, qcnn_error *error)
{
    const char *text = preprocess ? preprocess : qcnn_model_preprocessing(model);
    if (!text)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "the model does not say how images become its input: give --preprocess FILE.json");
    QCNN_TRY(qcnn_preprocess_parse(text, strlen(text), &samples->preprocess, error));
    QCNN_TRY(check_input(model, samples, error));
    return divide_images(samples, error);
}

qcnn_status qcnn_samples_open(const qcnn_model *model, const qcnn_dataset *dataset, const char *preprocess, uint64_t seed,
                              qcnn_samples *samples, qcnn_error *error)
{
    *samples = (qcnn_samples){ .dataset = dataset, .seed = seed };
    const qcnn_status status = open_samples(model, preprocess, samples, error);
    if (status != QCNN_OK)
        qcnn_samples_close(samples);
    return status;
}

void qcnn_samples_close(qcnn_samples *samples)
{
    qcnn_release(samples->order[0]);
    qcnn_release(samples->order[1]);
    *samples = (qcnn_samples){ 0 };
}

static qcnn_status cut(const qcnn_samples *samples, const qcnn_image *image, const qcnn_crop *crop, float *tensor, qcnn_error *error)
{
    int width, height;
    QCNN_TRY(qcnn_preprocess_size(&samples->preprocess, image->width, image->height, &width, &height, error));
    if (width != samples->shape.dims[3] || height != samples->shape.dims[2])
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "preprocessing makes %d x %d pixels of it, the network reads %lld x %lld", width,
                         height, (long long)samples->shape.dims[3], (long long)samples->shape.dims[2]);
    return qcnn_preprocess_crop(&samples->preprocess, image, crop, tensor, error);
}

qcnn_status qcnn_samples_read(const qcnn_samples *samples, qcnn_part part, int64_t index, float *tensor, qcnn_error *error)
{
    const int n_images = samples->n_images[part], number = samples->order[part][index % n_images];
    qcnn_rng rng = { qcnn_rng_split(qcnn_rng_split(samples->seed, 2 + (uint64_t)part), (uint64_t)index) };
    qcnn_crop crop = { .x = qcnn_rng_unit(&rng), .y = qcnn_rng_unit(&rng) };
    crop.flip = qcnn_rng_below(&rng, 2) == 1;
    qcnn_image image;
    QCNN_TRY(qcnn_dataset_image(samples->dataset, number, &image, error));
    qcnn_error inner;
    const qcnn_status status = cut(samples, &image, index < n_images ? NULL : &crop, tensor, &inner);
    qcnn_image_free(&image);
    return status == QCNN_OK ? QCNN_OK : qcnn_fail(error, status, "%s: %s", qcnn_dataset_name(samples->dataset, number), inner.message);
}
