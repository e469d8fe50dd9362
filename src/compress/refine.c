// SPDX-License-Identifier: Apache-2.0
// The stages of refinement, and what becomes of their result: all layers on fresh crops, then the fully-connected end on activations
// that are computed once. Work is done on a copy of the model, whose tensors take their places when nothing can fail any more.

#include "compress/refine.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "compress/refine_stage.h"
#include "compress/round.h"

enum { CACHE_BATCH = 64, MAX_HEAD_CROPS = 16384, MAX_NAME_BYTES = 4096 };

qcnn_refine_options qcnn_refine_options_default(void)
{
    return (qcnn_refine_options){ .minutes = 10,
                                  .whole = { -1, 64, 0.005f, 0.003f, 0.005f },
                                  .head = { -1, 128, 0.003f, 0.002f, 0.004f },
                                  .temperature = 1,
                                  .feature_weight = 0.3f,
                                  .mix = 0.5f,
                                  .jitter = 0.2f,
                                  .zoom = 0.2f,
                                  .n_looks = 10 };
}

typedef struct refinement {
    const qcnn_refine_options *options;
    const qcnn_samples *samples;
    const qcnn_model *original;
    qcnn_model *model;             // a copy of the compressed one
    qcnn_refine_stage whole, head; // with numbers of steps
    size_t head_node;              // the first of the fully-connected end; 0: there is none
    int n_held_out, n_head_crops;
    double planned_seconds[2]; // of the stages
    qcnn_refine_report *report;
} refinement;

// ---- results --------------------------------------------------------------------------------------------------------

// The largest integer that an int8 codebook uses: coarser ones cost fewer bits, and are to stay so.
static int largest_integer(const qcnn_codebook *book)
{
    const size_t n = (size_t)book->n_codewords * (size_t)book->subspace, n_books = (size_t)book->n_sets * (size_t)book->n_subspaces;
    float largest = 1;
    for (size_t i = 0; book->scales && i < n_books * n; i++)
        if (book->scales[i / n] > 0)
            largest = fmaxf(largest, rintf(fabsf(book->codewords[i]) / book->scales[i / n]));
    return largest < QCNN_MAX_INTEGER ? (int)largest : QCNN_MAX_INTEGER;
}

static qcnn_status store_weights(qcnn_tensor *tensor, const qcnn_train_weights *weights, qcnn_error *error)
{
    float *codewords = qcnn_allocate(weights->n_codewords, sizeof *codewords);
    uint8_t *assignments = qcnn_allocate(weights->n_assignments, 1);
    float *scales = tensor->owned_scales;
    const int largest = largest_integer(&tensor->codebook);
    const size_t n_scales = (size_t)weights->book.n_sets * (size_t)weights->book.n_subspaces;
    if (tensor->codebook.scales && !scales) // the compressed model's: rounding will need room of its own
        scales = qcnn_allocate(n_scales, sizeof *scales);
    if (!codewords || !assignments || (tensor->codebook.scales && !scales)) {
        qcnn_release(codewords);
        qcnn_release(assignments);
        return qcnn_fail_memory(error, weights->n_assignments);
    }
    memcpy(codewords, weights->codewords, weights->n_codewords * sizeof *codewords);
    memcpy(assignments, weights->assignments, weights->n_assignments);
    if (scales && !tensor->owned_scales)
        memcpy(scales, tensor->codebook.scales, n_scales * sizeof *scales);
    qcnn_release(tensor->owned_data);
    qcnn_release(tensor->owned_assignments);
    tensor->codebook.codewords = tensor->owned_data = codewords;
    tensor->codebook.assignments = tensor->owned_assignments = assignments;
    tensor->codebook.scales = tensor->owned_scales = scales;
    tensor->stored_bytes = 0;
    tensor->error = -1; // of the layer alone: no longer what it was
    if (tensor->codebook.codeword_type != QCNN_FLOAT32)
        return qcnn_codebook_round(tensor, tensor->codebook.codeword_type, largest, error);
    return QCNN_OK;
}

static qcnn_status store_bias(qcnn_tensor *tensor, const qcnn_train_bias *bias, qcnn_error *error)
{
    float *values = qcnn_allocate(bias->n, sizeof *values);
    if (!values)
        return qcnn_fail_memory(error, bias->n * sizeof *values);
    memcpy(values, bias->values, bias->n * sizeof *values);
    qcnn_release(tensor->owned_data);
    tensor->data = tensor->owned_data = values;
    tensor->stored_bytes = 0;
    return tensor->data_type == QCNN_FLOAT32 ? QCNN_OK : qcnn_data_round(tensor, tensor->data_type, QCNN_MAX_INTEGER, error);
}

// Puts what was trained into the copy, as numbers of the types that the file will hold.
static qcnn_status store(const qcnn_trainer *trainer, qcnn_model *model, qcnn_error *error)
{
    for (size_t i = 0; i < trainer->n_weights; i++)
        QCNN_TRY(store_weights(&model->tensors[trainer->weights[i].tensor], &trainer->weights[i], error));
    for (size_t i = 0; i < trainer->n_biases; i++)
        QCNN_TRY(store_bias(&model->tensors[trainer->biases[i].tensor], &trainer->biases[i], error));
    return QCNN_OK;
}

// The copy's new tensors change places with the old ones.
static void hand_over(qcnn_model *copy, qcnn_model *compressed)
{
    for (size_t i = 0; i < copy->n_tensors; i++)
        if (copy->tensors[i].owned_data) {
            const qcnn_tensor old = compressed->tensors[i];
            compressed->tensors[i] = copy->tensors[i];
            copy->tensors[i] = old;
        }
}

// ---- how many steps -------------------------------------------------------------------------------------------------

// Two processors of the kind this was written on take this many multiply-adds of convolutions a second, all in all; those of
// fully-connected layers, which also decode and reassign millions of columns, cost some times as much.
static const double NOMINAL_SPEED = 9e10, FC_COST = 3;

// Multiply-adds of one image through the layers from node `first` on, times a factor for layers with and without codebooks. What lies
// before the first codebook of a whole network is computed once for both networks.
static double count_work(const refinement *work, size_t first, double codebook, double dense)
{
    double sum = 0;
    bool shared = first == 0;
    for (size_t n = first; n < work->model->n_nodes; n++) {
        const qcnn_node *node = &work->model->nodes[n];
        const qcnn_tensor *weights = node->op == QCNN_OP_CONV || node->op == QCNN_OP_FC ? qcnn_node_weights(work->model, node) : NULL;
        if (!weights)
            continue;
        const qcnn_shape *y = &work->model->values[node->output].shape;
        double operations = (double)qcnn_shape_elements(&weights->shape) * (node->op == QCNN_OP_FC ? FC_COST : 1);
        for (int d = 2; node->op == QCNN_OP_CONV && d < y->rank; d++)
            operations *= (double)y->dims[d];
        shared = shared && !qcnn_is_codebook(weights);
        sum += (shared ? 1 : qcnn_is_codebook(weights) ? codebook : dense) * operations;
    }
    return sum;
}

static int clamp_steps(double steps)
{
    return steps < 1 ? 1 : steps > 1e6 ? 1000000 : (int)steps;
}

// The head gets a third of the time, where there is one, half of it to fill the cache. A step runs the teacher forward and the student
// forward and twice back.
static void set_steps(refinement *work)
{
    const double operations = work->options->minutes * 60 * NOMINAL_SPEED;
    work->whole = work->options->whole;
    work->head = work->options->head;
    if (work->head_node == 0)
        work->head.n_steps = 0;
    const double head_share = work->head.n_steps == 0 ? 0 : work->whole.n_steps == 0 ? 1 : 1.0 / 3;
    work->planned_seconds[0] = (1 - head_share) * work->options->minutes * 60;
    work->planned_seconds[1] = head_share / 2 * work->options->minutes * 60;
    const double crops = head_share / 2 * operations / count_work(work, 0, 2, 2);
    work->n_head_crops = work->options->n_head_crops;
    if (work->n_head_crops <= 0)
        work->n_head_crops = crops < 256 ? 256 : crops > MAX_HEAD_CROPS ? MAX_HEAD_CROPS : (int)crops;
    if (work->whole.n_steps < 0)
        work->whole.n_steps = clamp_steps((1 - head_share) * operations / (count_work(work, 0, 4, 3) * work->whole.batch));
    if (work->head.n_steps < 0)
        work->head.n_steps = clamp_steps(head_share / 2 * operations / (count_work(work, work->head_node, 4, 3) * work->head.batch));
}

// ---- stages ---------------------------------------------------------------------------------------------------------

static qcnn_status new_trainers(const refinement *work, int batch, size_t first_node, bool backward, bool latent, qcnn_trainer **teacher,
                                qcnn_trainer **student, qcnn_error *error)
{
    qcnn_train_options options = { .batch = batch, .first_node = first_node, .parallel = work->options->parallel };
    *student = NULL;
    QCNN_TRY(qcnn_trainer_new(work->original, &options, teacher, error));
    options.backward = backward;
    options.latent = latent;
    options.teacher = first_node == 0 ? *teacher : NULL;
    return qcnn_trainer_new(work->model, &options, student, error);
}

static qcnn_status train_whole(const refinement *work, qcnn_refine_run *run, qcnn_error *error)
{
    qcnn_refine_batch batch = { 0 };
    qcnn_status status = new_trainers(work, work->whole.batch, 0, true, work->whole.latent_rate > 0, &run->teacher, &run->student, error);
    if (status == QCNN_OK)
        status = qcnn_refine_batch_open(work->samples, work->options, run->teacher, &batch, error);
    run->batch = &batch;
    if (status == QCNN_OK)
        status = qcnn_refine_train(run, error);
    if (status == QCNN_OK)
        status = store(run->student, work->model, error);
    qcnn_refine_batch_close(&batch);
    qcnn_trainer_free(run->student);
    qcnn_trainer_free(run->teacher);
    return status;
}

// Activations at the head of crops of a part, those of training varied.
static qcnn_status fill_cache(const refinement *work, qcnn_refine_batch *batch, qcnn_trainer *teacher, qcnn_trainer *student, bool training,
                              int n, qcnn_refine_cache *cache, qcnn_error *error)
{
    const qcnn_progress *progress = work->options->progress;
    const int value = work->model->nodes[work->head_node].inputs[0];
    QCNN_TRY(qcnn_refine_cache_new(student, value, (size_t)n, cache, error));
    for (int first = 0; first < n; first += CACHE_BATCH) {
        if (progress && progress->report && progress->report(progress->context, "refine: activations", (double)first / n) != 0)
            return qcnn_fail(error, QCNN_ERROR_CANCELLED, "refinement was stopped");
        // Steps that the first stage has not seen.
        QCNN_TRY(training ? qcnn_refine_batch_fill(batch, 1000000 + first / CACHE_BATCH, error)
                          : qcnn_refine_batch_plain(batch, QCNN_PART_HELD_OUT, first, n, error));
        qcnn_train_forward(teacher);
        qcnn_train_forward(student);
        qcnn_refine_cache_put(cache, (size_t)first, teacher, student, value, n - first < CACHE_BATCH ? n - first : CACHE_BATCH);
    }
    return QCNN_OK;
}

static qcnn_status fill_caches(const refinement *work, qcnn_refine_cache *training, qcnn_refine_cache *held_out, qcnn_error *error)
{
    qcnn_trainer *teacher, *student;
    qcnn_refine_batch batch = { 0 };
    qcnn_status status = new_trainers(work, CACHE_BATCH, 0, false, false, &teacher, &student, error);
    if (status == QCNN_OK)
        status = qcnn_refine_batch_open(work->samples, work->options, teacher, &batch, error);
    if (status == QCNN_OK)
        status = fill_cache(work, &batch, teacher, student, true, work->n_head_crops, training, error);
    if (status == QCNN_OK)
        status = fill_cache(work, &batch, teacher, student, false, work->n_held_out, held_out, error);
    qcnn_refine_batch_close(&batch);
    qcnn_trainer_free(student);
    qcnn_trainer_free(teacher);
    return status;
}

static qcnn_status train_head(const refinement *work, qcnn_refine_run *run, qcnn_error *error)
{
    qcnn_refine_cache training = { 0 }, held_out = { 0 };
    qcnn_status status = fill_caches(work, &training, &held_out, error);
    if (status == QCNN_OK)
        status =
            new_trainers(work, work->head.batch, work->head_node, true, work->head.latent_rate > 0, &run->teacher, &run->student, error);
    run->training = &training;
    run->held_out = &held_out;
    if (status == QCNN_OK)
        status = qcnn_refine_train(run, error);
    if (status == QCNN_OK)
        status = store(run->student, work->model, error);
    qcnn_trainer_free(run->student);
    qcnn_trainer_free(run->teacher);
    qcnn_refine_cache_free(&training);
    qcnn_refine_cache_free(&held_out);
    return status;
}

static qcnn_status checkpoint_name(const char *checkpoint, int stage, char name[MAX_NAME_BYTES], qcnn_error *error)
{
    const int n = snprintf(name, MAX_NAME_BYTES, "%s.%s", checkpoint, stage ? "head" : "whole");
    return n > 0 && n < MAX_NAME_BYTES ? QCNN_OK : qcnn_fail(error, QCNN_ERROR_ARGUMENT, "the name of the checkpoint is too long");
}

void qcnn_refine_checkpoint_remove(const char *checkpoint)
{
    char name[MAX_NAME_BYTES];
    for (int stage = 0; stage < 2; stage++)
        if (checkpoint_name(checkpoint, stage, name, NULL) == QCNN_OK)
            unlink(name);
}

static qcnn_status run_stages(refinement *work, qcnn_error *error)
{
    qcnn_refine_report *report = work->report;
    for (int s = 0; s < 2; s++) {
        const qcnn_refine_stage *stage = s ? &work->head : &work->whole;
        char name[MAX_NAME_BYTES];
        if (stage->n_steps == 0)
            continue;
        qcnn_refine_run run = { .name = s ? "refine: fully-connected layers" : "refine",
                                .options = work->options,
                                .stage = stage,
                                .n_held_out = work->n_held_out,
                                .planned_seconds =
                                    (s ? work->options->head : work->options->whole).n_steps < 0 ? work->planned_seconds[s] : 0,
                                .checkpoint = work->options->checkpoint ? name : NULL };
        if (run.checkpoint)
            QCNN_TRY(checkpoint_name(work->options->checkpoint, s, name, error));
        QCNN_TRY(s ? train_head(work, &run, error) : train_whole(work, &run, error));
        if (report->n_steps[0] == 0) {
            report->divergence[0] = run.divergence[0];
            report->agreement[0] = run.agreement[0];
        }
        report->divergence[1] = run.divergence[1];
        report->agreement[1] = run.agreement[1];
        report->n_steps[s] = stage->n_steps;
        report->best_step[s] = run.best_step;
    }
    return QCNN_OK;
}

// ---- all of it --------------------------------------------------------------------------------------------------------

// The first fully-connected layer with a codebook behind the last convolution; 0: there is none.
static size_t find_head(const qcnn_model *model)
{
    size_t head = 0;
    for (size_t n = model->n_nodes; n-- > 1 && model->nodes[n].op != QCNN_OP_CONV;) {
        const qcnn_tensor *weights = model->nodes[n].op == QCNN_OP_FC ? qcnn_node_weights(model, &model->nodes[n]) : NULL;
        if (weights && qcnn_is_codebook(weights))
            head = n;
    }
    return head;
}

static qcnn_status check(const qcnn_model *original, const qcnn_model *compressed, const qcnn_samples *samples,
                         const qcnn_refine_options *options, qcnn_error *error)
{
    bool codebooks = false;
    for (size_t i = 0; i < compressed->n_tensors; i++)
        codebooks = codebooks || qcnn_is_codebook(&compressed->tensors[i]);
    if (!codebooks)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "there is nothing to refine: no layer is stored as a codebook");
    if (original->n_nodes != compressed->n_nodes || original->n_values != compressed->n_values)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "refinement: the compressed network is not a copy of the original");
    if (samples->n_images[QCNN_PART_HELD_OUT] < 1)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "refinement needs at least 10 calibration images");
    const int batches[] = { options->whole.batch, options->head.batch };
    for (int i = 0; i < 2; i++)
        if (batches[i] < QCNN_TRAIN_SLICES || batches[i] % QCNN_TRAIN_SLICES != 0)
            return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "refinement: a batch of %d, where multiples of %d are possible", batches[i],
                             QCNN_TRAIN_SLICES);
    return QCNN_OK;
}

qcnn_status qcnn_refine(const qcnn_model *original, qcnn_model *compressed, const qcnn_samples *samples, const qcnn_refine_options *options,
                        qcnn_refine_report *report, qcnn_error *error)
{
    *report = (qcnn_refine_report){ 0 };
    QCNN_TRY(check(original, compressed, samples, options, error));
    refinement work = { .options = options, .samples = samples, .original = original, .report = report };
    work.n_held_out = options->n_held_out > 0 ? options->n_held_out : samples->n_images[QCNN_PART_HELD_OUT];
    work.head_node = find_head(compressed);
    QCNN_TRY(qcnn_model_copy(compressed, &work.model, error));
    set_steps(&work);
    const qcnn_status status = run_stages(&work, error);
    if (status == QCNN_OK)
        hand_over(work.model, compressed);
    qcnn_model_free(work.model);
    return status;
}
