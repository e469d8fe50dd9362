// SPDX-License-Identifier: Apache-2.0
// Random crops, some enlarged, some mixed with another, with contrast and brightness varied. The original network was trained on such
// photographs and is sure of most answers; mixtures make it say more, as it does about photographs it never saw.

#include "compress/refine_batch.h"

#include <math.h>
#include <string.h>

typedef struct fill_job {
    qcnn_refine_batch *batch;
    int step; // of training; -1: plain samples
    qcnn_part part;
    int first, end;
} fill_job;

qcnn_status qcnn_refine_batch_open(const qcnn_samples *samples, const qcnn_refine_options *options, qcnn_trainer *trainer,
                                   qcnn_refine_batch *batch, qcnn_error *error)
{
    const size_t n = 3 * samples->n_elements * (size_t)qcnn_n_workers(options->parallel);
    *batch = (qcnn_refine_batch){ .samples = samples, .options = options, .trainer = trainer };
    batch->images = qcnn_allocate(n, sizeof(float));
    batch->errors = qcnn_allocate((size_t)trainer->batch, sizeof *batch->errors);
    return batch->images && batch->errors ? QCNN_OK : qcnn_fail_memory(error, n * sizeof(float));
}

void qcnn_refine_batch_close(qcnn_refine_batch *batch)
{
    qcnn_release(batch->images);
    qcnn_release(batch->errors);
    *batch = (qcnn_refine_batch){ 0 };
}

// A window of the image, `share` of its sides, enlarged to the whole (bilinear).
static void zoom_image(const qcnn_shape *shape, float *image, float *scratch, qcnn_rng *rng, float most)
{
    const int64_t height = shape->dims[2], width = shape->dims[3];
    const float share = 1 - most * (float)qcnn_rng_unit(rng);
    const float top = (1 - share) * (float)(height - 1) * (float)qcnn_rng_unit(rng);
    const float left = (1 - share) * (float)(width - 1) * (float)qcnn_rng_unit(rng);
    memcpy(scratch, image, (size_t)(shape->dims[1] * height * width) * sizeof *image);
    for (int64_t c = 0; c < shape->dims[1]; c++, scratch += height * width)
        for (int64_t y = 0; y < height; y++) {
            const float v = top + share * (float)y;
            const int64_t row = (int64_t)v, below = row + 1 < height ? row + 1 : row;
            const float down = v - (float)row;
            for (int64_t x = 0; x < width; x++) {
                const float u = left + share * (float)x;
                const int64_t column = (int64_t)u, beside = column + 1 < width ? column + 1 : column;
                const float right = u - (float)column;
                const float upper = scratch[row * width + column] * (1 - right) + scratch[row * width + beside] * right;
                const float lower = scratch[below * width + column] * (1 - right) + scratch[below * width + beside] * right;
                *image++ = upper * (1 - down) + lower * down;
            }
        }
}

// Half of the mixtures are weighted sums, half have a rectangle of the other image.
static void mix_images(const qcnn_shape *shape, float *image, const float *other, qcnn_rng *rng)
{
    const int64_t channels = shape->dims[1], height = shape->dims[2], width = shape->dims[3];
    if (qcnn_rng_below(rng, 2) == 0) {
        const float share = 0.5f * (float)qcnn_rng_unit(rng);
        for (int64_t i = 0; i < channels * height * width; i++)
            image[i] += share * (other[i] - image[i]);
        return;
    }
    const double side = 0.3 + 0.5 * qcnn_rng_unit(rng);
    const int64_t rows = (int64_t)(side * (double)height), columns = (int64_t)(side * (double)width);
    const int64_t top = qcnn_rng_below(rng, (uint32_t)(height - rows + 1)), left = qcnn_rng_below(rng, (uint32_t)(width - columns + 1));
    for (int64_t c = 0; c < channels; c++)
        for (int64_t y = top; y < top + rows; y++)
            memcpy(image + (c * height + y) * width + left, other + (c * height + y) * width + left, (size_t)columns * sizeof *image);
}

static void jitter_image(float *image, size_t n, qcnn_rng *rng, float most)
{
    double square = 0;
    for (size_t i = 0; i < n; i++)
        square += (double)image[i] * image[i];
    const float contrast = 1 + most * (2 * (float)qcnn_rng_unit(rng) - 1);
    const float shift = most * (2 * (float)qcnn_rng_unit(rng) - 1) * 0.7f * (float)sqrt(square / (double)n);
    for (size_t i = 0; i < n; i++)
        image[i] = contrast * image[i] + shift;
}

static qcnn_status training_image(const fill_job *job, int index, float *image, float *other, float *scratch, qcnn_error *error)
{
    const qcnn_samples *samples = job->batch->samples;
    const qcnn_refine_options *options = job->batch->options;
    const int64_t number = (int64_t)job->step * job->batch->trainer->batch + index, n_images = samples->n_images[QCNN_PART_FIT];
    qcnn_rng rng = { qcnn_rng_split(options->seed ^ 0x7265666e, (uint64_t)number) };
    QCNN_TRY(qcnn_samples_read(samples, QCNN_PART_FIT, n_images + number, image, error)); // past the central crops
    if (options->zoom > 0)
        zoom_image(&samples->shape, image, scratch, &rng, options->zoom);
    if (qcnn_rng_unit(&rng) < (double)options->mix) {
        const int64_t partner = n_images * (2 + (int64_t)qcnn_rng_below(&rng, 1000)) + qcnn_rng_below(&rng, (uint32_t)n_images);
        QCNN_TRY(qcnn_samples_read(samples, QCNN_PART_FIT, partner, other, error));
        mix_images(&samples->shape, image, other, &rng);
    }
    if (options->jitter > 0)
        jitter_image(image, samples->n_elements, &rng, options->jitter);
    return QCNN_OK;
}

static void fill_task(void *argument, int index, int worker)
{
    const fill_job *job = argument;
    const size_t n = job->batch->samples->n_elements;
    float *image = job->batch->images + (size_t)worker * 3 * n;
    qcnn_error *error = &job->batch->errors[index];
    if (job->step >= 0)
        error->status = training_image(job, index, image, image + n, image + 2 * n, error);
    else {
        const int number = job->first + index < job->end ? job->first + index : job->end - 1;
        error->status = qcnn_samples_read(job->batch->samples, job->part, number, image, error);
    }
    if (error->status == QCNN_OK)
        qcnn_train_set_image(job->batch->trainer, index, image);
}

static qcnn_status fill(fill_job *job, qcnn_error *error)
{
    qcnn_refine_batch *batch = job->batch;
    qcnn_for(batch->options->parallel, batch->trainer->batch, fill_task, job);
    for (int i = 0; i < batch->trainer->batch; i++)
        if (batch->errors[i].status != QCNN_OK)
            return qcnn_fail(error, batch->errors[i].status, "%s", batch->errors[i].message);
    return QCNN_OK;
}

qcnn_status qcnn_refine_batch_fill(qcnn_refine_batch *batch, int step, qcnn_error *error)
{
    return fill(&(fill_job){ .batch = batch, .step = step }, error);
}

qcnn_status qcnn_refine_batch_plain(qcnn_refine_batch *batch, qcnn_part part, int first, int end, qcnn_error *error)
{
    return fill(&(fill_job){ .batch = batch, .step = -1, .part = part, .first = first, .end = end }, error);
}
