// SPDX-License-Identifier: Apache-2.0
// Class scores of the images of a data set. Images are spread over the workers, each of which has a session of its own that
// runs serially: results do not depend on how many there are.

#include <stdbool.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "base/status.h"
#include "model/model.h"
#include "qcnn_compress.h"

enum { IMAGES_PER_WORKER = 8 }; // between two reports of progress

// What a worker needs for an image, made when it first gets one.
typedef struct image_worker {
    bool ready;
    qcnn_session *session;
    float *input, **outputs; // outputs[0] is set for each image
} image_worker;

typedef struct evaluation {
    const qcnn_model *model;
    const qcnn_dataset *dataset;
    qcnn_preprocess preprocess;
    qcnn_shape input;
    size_t n_input, n_outputs;
    int n_images, n_classes;
    float *scores; // [n_images][n_classes]
    image_worker *workers;
    int n_workers, first; // first: of the images in the current block
    qcnn_error *errors;   // one for each image of a block
} evaluation;

qcnn_evaluate_options qcnn_evaluate_options_default(void)
{
    return (qcnn_evaluate_options){ .size = sizeof(qcnn_evaluate_options) };
}

static int dataset_index(const evaluation *work, int image)
{
    return (int)((int64_t)image * qcnn_dataset_size(work->dataset) / work->n_images);
}

static qcnn_status make_worker(const evaluation *work, image_worker *worker, qcnn_error *error)
{
    QCNN_TRY(qcnn_session_create(work->model, NULL, &worker->session, error));
    worker->input = qcnn_allocate(work->n_input, sizeof *worker->input);
    worker->outputs = qcnn_allocate_zeroed(work->n_outputs, sizeof *worker->outputs);
    if (!worker->input || !worker->outputs)
        return qcnn_fail_memory(error, work->n_input * sizeof *worker->input);
    for (size_t i = 1; i < work->n_outputs; i++) {
        const qcnn_shape shape = qcnn_session_output_shape(worker->session, (int)i);
        worker->outputs[i] = qcnn_allocate((size_t)qcnn_shape_elements(&shape), sizeof(float));
        if (!worker->outputs[i])
            return qcnn_fail_memory(error, (size_t)qcnn_shape_elements(&shape) * sizeof(float));
    }
    worker->ready = true;
    return QCNN_OK;
}

static void free_worker(image_worker *worker, size_t n_outputs)
{
    for (size_t i = 1; worker->outputs && i < n_outputs; i++)
        qcnn_release(worker->outputs[i]);
    qcnn_release(worker->outputs);
    qcnn_release(worker->input);
    qcnn_session_free(worker->session);
    *worker = (image_worker){ 0 };
}

static qcnn_status prepare_input(const evaluation *work, const qcnn_image *image, float *input, qcnn_error *error)
{
    int width, height;
    QCNN_TRY(qcnn_preprocess_size(&work->preprocess, image->width, image->height, &width, &height, error));
    if (width != work->input.dims[3] || height != work->input.dims[2])
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "preprocessing makes %d x %d pixels of it, the network reads %lld x %lld", width,
                         height, (long long)work->input.dims[3], (long long)work->input.dims[2]);
    return qcnn_preprocess_image(&work->preprocess, image, input, error);
}

static qcnn_status score_image(evaluation *work, int image_index, image_worker *worker, qcnn_error *error)
{
    if (!worker->ready) {
        free_worker(worker, work->n_outputs); // what a failed attempt has left
        QCNN_TRY(make_worker(work, worker, error));
    }
    const int index = dataset_index(work, image_index);
    qcnn_image image;
    QCNN_TRY(qcnn_dataset_image(work->dataset, index, &image, error));
    qcnn_error inner;
    const qcnn_status status = prepare_input(work, &image, worker->input, &inner);
    qcnn_image_free(&image);
    if (status != QCNN_OK)
        return qcnn_fail(error, status, "%s: %s", qcnn_dataset_name(work->dataset, index), inner.message);
    worker->outputs[0] = work->scores + (size_t)image_index * (size_t)work->n_classes;
    qcnn_run(worker->session, (const float *const[]){ worker->input }, worker->outputs);
    return QCNN_OK;
}

static void score_task(void *argument, int index, int worker)
{
    evaluation *work = argument;
    work->errors[index].status = QCNN_OK;
    const qcnn_status status = score_image(work, work->first + index, &work->workers[worker], &work->errors[index]);
    work->errors[index].status = status;
}

static qcnn_status report(const qcnn_evaluate_options *options, double fraction, qcnn_error *error)
{
    const qcnn_progress *progress = options->progress;
    if (progress && progress->report && progress->report(progress->context, "evaluate", fraction) != 0)
        return qcnn_fail(error, QCNN_ERROR_CANCELLED, "evaluation was stopped");
    return QCNN_OK;
}

// Block by block; of several failures the first in data set order is told, whichever came first in time.
static qcnn_status score_all(evaluation *work, const qcnn_evaluate_options *options, qcnn_error *error)
{
    const int block = work->n_workers * IMAGES_PER_WORKER;
    work->scores = qcnn_allocate((size_t)work->n_images * (size_t)work->n_classes, sizeof *work->scores);
    work->workers = qcnn_allocate_zeroed((size_t)work->n_workers, sizeof *work->workers);
    work->errors = qcnn_allocate((size_t)block, sizeof *work->errors);
    if (!work->scores || !work->workers || !work->errors)
        return qcnn_fail_memory(error, (size_t)work->n_images * (size_t)work->n_classes * sizeof *work->scores);
    for (work->first = 0; work->first < work->n_images; work->first += block) {
        QCNN_TRY(report(options, (double)work->first / work->n_images, error));
        const int n = work->n_images - work->first < block ? work->n_images - work->first : block;
        qcnn_for(options->parallel, n, score_task, work);
        for (int i = 0; i < n; i++)
            if (work->errors[i].status != QCNN_OK)
                return qcnn_fail(error, work->errors[i].status, "%s", work->errors[i].message);
    }
    return report(options, 1, error);
}

static qcnn_status choose_preprocessing(const qcnn_model *model, const qcnn_evaluate_options *options, evaluation *work, qcnn_error *error)
{
    const char *text = options->preprocess ? options->preprocess : qcnn_model_preprocessing(model);
    if (!text)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "the model does not say how images become its input: give --preprocess FILE.json");
    return qcnn_preprocess_parse(text, strlen(text), &work->preprocess, error);
}

// The network must read one image and give scores.
static qcnn_status check_model(const qcnn_model *model, evaluation *work, qcnn_error *error)
{
    char text[96];
    if (qcnn_model_n_inputs(model) != 1 || qcnn_model_n_outputs(model) < 1)
        return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED,
                         "the network has %d inputs and %d outputs: only one image in, scores out can be judged",
                         qcnn_model_n_inputs(model), qcnn_model_n_outputs(model));
    work->input = qcnn_model_input(model, 0).shape;
    if (work->input.rank != 4 || work->input.dims[0] != 1 || work->input.dims[1] != work->preprocess.n_channels)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "the network reads a tensor of %s, preprocessing makes one of 1x%dxHxW",
                         qcnn_shape_text(&work->input, text), work->preprocess.n_channels);
    const qcnn_shape output = qcnn_model_output(model, 0).shape;
    const uint64_t n_classes = qcnn_shape_elements(&output);
    if (n_classes > INT32_MAX)
        return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "the network gives a tensor of %s, not class scores",
                         qcnn_shape_text(&output, text));
    work->n_classes = (int)n_classes;
    work->n_input = (size_t)qcnn_shape_elements(&work->input);
    work->n_outputs = (size_t)qcnn_model_n_outputs(model);
    return QCNN_OK;
}

static void free_evaluation(evaluation *work)
{
    for (int i = 0; work->workers && i < work->n_workers; i++)
        free_worker(&work->workers[i], work->n_outputs);
    qcnn_release(work->workers);
    qcnn_release(work->errors);
    qcnn_release(work->scores);
}

qcnn_status qcnn_evaluate(const qcnn_model *model, const qcnn_dataset *dataset, const qcnn_evaluate_options *options, float **scores,
                          int *n_images, int *n_classes, qcnn_error *error)
{
    const qcnn_evaluate_options defaults = qcnn_evaluate_options_default();
    if (!model || !dataset || !scores || !n_images || !n_classes)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "qcnn_evaluate: a pointer is null");
    *scores = NULL;
    *n_images = *n_classes = 0;
    if (!options)
        options = &defaults;
    if (options->size != sizeof *options || options->limit < 0)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "qcnn_evaluate: start from qcnn_evaluate_options_default, limit at least 0");
    const int size = qcnn_dataset_size(dataset);
    evaluation work = { .model = model, .dataset = dataset, .n_workers = qcnn_n_workers(options->parallel) };
    work.n_images = options->limit > 0 && options->limit < size ? options->limit : size;
    qcnn_status status = choose_preprocessing(model, options, &work, error);
    if (status == QCNN_OK)
        status = check_model(model, &work, error);
    if (status == QCNN_OK)
        status = score_all(&work, options, error);
    if (status == QCNN_OK) {
        *scores = work.scores;
        *n_images = work.n_images;
        *n_classes = work.n_classes;
        work.scores = NULL;
    }
    free_evaluation(&work);
    return status;
}
