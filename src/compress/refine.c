// SPDX-License-Identifier: Apache-2.0
// The stages of refinement, and what becomes of their result: all layers, then the fully-connected end, each on activations that are
// computed once. Work is done on a copy of the model, whose tensors take their places when nothing can fail any more.

#include "compress/refine.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "compress/refine_batch.h"
#include "compress/refine_checkpoint.h"
#include "compress/refine_stage.h"
#include "compress/round.h"

enum { CACHE_BATCH = 16, MOST_HELD_OUT = 1024, LEAST_CROPS = 64, MOST_CROPS = 16384, MAX_NAME_BYTES = 4096 };

static const double MOST_CACHE_BYTES = 1e9;

qcnn_refine_options qcnn_refine_options_default(void)
{
    return (qcnn_refine_options){ .minutes = 10,
                                  .whole = { -1, 16, 0.005f, 0.003f, 1, 0.3f, 0 },
                                  .head = { -1, 128, 0.003f, 0.002f, 1, 0.3f, 0 },
                                  .temperature = 1,
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
    size_t first_node;             // the first that is trained with a codebook, or 0
    bool behind;                   // whether it reads what a compressed layer makes
    size_t head_node;              // the first of the fully-connected end; 0: there is none
    int n_held_out;
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
    uint8_t *assignments = tensor->owned_assignments; // not trained: the compressed model's, until the tensor has a copy
    float *scales = tensor->owned_scales;
    const int largest = largest_integer(&tensor->codebook);
    const size_t n_scales = (size_t)weights->book.n_sets * (size_t)weights->book.n_subspaces;
    if (tensor->codebook.scales && !scales) // the compressed model's: rounding will need room of its own
        scales = qcnn_allocate(n_scales, sizeof *scales);
    if (!assignments && (assignments = qcnn_allocate(weights->n_assignments, 1)))
        memcpy(assignments, weights->assignments, weights->n_assignments);
    if (!codewords || !assignments || (tensor->codebook.scales && !scales)) {
        qcnn_release(codewords);
        if (!tensor->owned_assignments)
            qcnn_release(assignments);
        return qcnn_fail_memory(error, weights->n_assignments);
    }
    memcpy(codewords, weights->codewords, weights->n_codewords * sizeof *codewords);
    if (scales && !tensor->owned_scales)
        memcpy(scales, tensor->codebook.scales, n_scales * sizeof *scales);
    qcnn_release(tensor->owned_data);
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
// fully-connected layers, which also decode millions of columns, cost some times as much.
static const double NOMINAL_SPEED = 9e10, FC_COST = 5;

// Multiply-adds of one image through the layers from node `first` on, times a factor for layers with and without codebooks; those
// before the first codebook of a whole network run forward only.
static double count_work(const refinement *work, size_t first, double codebook, double dense)
{
    double sum = 0;
    bool before = first == 0;
    for (size_t n = first; n < work->model->n_nodes; n++) {
        const qcnn_node *node = &work->model->nodes[n];
        const qcnn_tensor *weights = node->op == QCNN_OP_CONV || node->op == QCNN_OP_FC ? qcnn_node_weights(work->model, node) : NULL;
        if (!weights)
            continue;
        const qcnn_shape *y = &work->model->values[node->output].shape;
        double operations = (double)qcnn_shape_elements(&weights->shape) * (node->op == QCNN_OP_FC ? FC_COST : 1);
        for (int d = 2; node->op == QCNN_OP_CONV && d < y->rank; d++)
            operations *= (double)y->dims[d];
        before = before && !qcnn_is_codebook(weights);
        sum += (before ? 1 : qcnn_is_codebook(weights) ? codebook : dense) * operations;
    }
    return sum;
}

static int clamp_steps(double steps)
{
    return steps < 1 ? 1 : steps > 1e6 ? 1000000 : (int)steps;
}

static int clamp_crops(double crops)
{
    return crops < LEAST_CROPS ? LEAST_CROPS : crops > MOST_CROPS ? MOST_CROPS : (int)crops;
}

// The head gets a third of the time, where there is one. An eighth of a stage's time goes to the activations that are kept, of the
// head's half. Of a layer with a codebook a step runs three products, the first of them two.
static void set_steps(refinement *work)
{
    const double operations = work->options->minutes * 60 * NOMINAL_SPEED;
    work->whole = work->options->whole;
    work->head = work->options->head;
    if (work->head_node == 0)
        work->head.n_steps = 0;
    const double head_share = work->head.n_steps == 0 ? 0 : work->whole.n_steps == 0 ? 1 : 1.0 / 3;
    work->planned_seconds[0] = (1 - head_share) * 7 / 8 * work->options->minutes * 60;
    work->planned_seconds[1] = head_share / 2 * work->options->minutes * 60;
    if (work->whole.n_crops <= 0)
        work->whole.n_crops = clamp_crops((1 - head_share) / 8 * operations / count_work(work, 0, 1.5, 1.5));
    if (work->head.n_crops <= 0)
        work->head.n_crops = clamp_crops(head_share / 2 * operations / count_work(work, 0, 2, 2));
    if (work->whole.n_steps < 0)
        work->whole.n_steps =
            clamp_steps((1 - head_share) * 7 / 8 * operations / (count_work(work, work->first_node, 2, 1.5) * work->whole.batch));
    if (work->head.n_steps < 0)
        work->head.n_steps = clamp_steps(head_share / 2 * operations / (count_work(work, work->head_node, 4, 3) * work->head.batch));
}

// ---- what is kept of crops ------------------------------------------------------------------------------------------

// What the student reads first, the original's logits, and what its fully-connected layers read: for the loss of the response alone
// only the first of them. Without any it is what the last convolution makes.
static int list_kept(const qcnn_trainer *student, bool behind, bool answers, qcnn_refine_kept *kept)
{
    int n = 0, last_conv = -1;
    kept[n++] = (qcnn_refine_kept){ .value = student->input, .of_student = behind, .to_student = true };
    kept[n++] = (qcnn_refine_kept){ .value = student->logits };
    for (size_t i = 0; i < student->n_layers && n < QCNN_REFINE_MAX_KEPT; i++) {
        const qcnn_node *node = student->layers[i].node;
        last_conv = node->op == QCNN_OP_CONV ? node->output : last_conv;
        if (node->op == QCNN_OP_FC && student->values[node->inputs[0]].gradient && (answers || n == 2))
            kept[n++] = (qcnn_refine_kept){ .value = node->inputs[0] };
    }
    if (n == 2 && last_conv >= 0 && last_conv != student->logits)
        kept[n++] = (qcnn_refine_kept){ .value = last_conv };
    return n;
}

// Of crops of a part, those of training varied.
static qcnn_status fill_cache(const refinement *work, qcnn_refine_batch *batch, qcnn_trainer *student, bool training, int first_step,
                              qcnn_refine_cache *cache, qcnn_error *error)
{
    const qcnn_progress *progress = work->options->progress;
    const int n = (int)cache->n;
    for (int first = 0; first < n; first += CACHE_BATCH) {
        if (progress && progress->report && progress->report(progress->context, "refine: activations", (double)first / n) != 0)
            return qcnn_fail(error, QCNN_ERROR_CANCELLED, "refinement was stopped");
        QCNN_TRY(training ? qcnn_refine_batch_fill(batch, first_step + first / CACHE_BATCH, error)
                          : qcnn_refine_batch_plain(batch, QCNN_PART_HELD_OUT, first, n, error));
        qcnn_train_forward(batch->trainer);
        if (student)
            qcnn_train_forward(student);
        qcnn_refine_cache_put(cache, (size_t)first, batch->trainer, student, n - first < CACHE_BATCH ? n - first : CACHE_BATCH);
    }
    return QCNN_OK;
}

// The whole networks run once over all crops; the student only where the stage begins behind what is compressed.
static qcnn_status fill_caches(const refinement *work, bool is_head, qcnn_refine_cache *training, qcnn_refine_cache *held_out,
                               qcnn_error *error)
{
    qcnn_trainer *teacher = NULL, *student = NULL;
    qcnn_refine_batch batch = { 0 };
    qcnn_train_options options = { .batch = CACHE_BATCH, .parallel = work->options->parallel };
    qcnn_status status = qcnn_trainer_new(work->original, &options, &teacher, error);
    options.teacher = teacher;
    if (status == QCNN_OK && (is_head || work->behind))
        status = qcnn_trainer_new(work->model, &options, &student, error);
    if (status == QCNN_OK)
        status = qcnn_refine_batch_open(work->samples, work->options, teacher, &batch, error);
    if (status == QCNN_OK) // the head sees crops that the first stage has not seen
        status = fill_cache(work, &batch, student, true, is_head ? MOST_CROPS : 0, training, error);
    if (status == QCNN_OK)
        status = fill_cache(work, &batch, student, false, 0, held_out, error);
    qcnn_refine_batch_close(&batch);
    qcnn_trainer_free(student);
    qcnn_trainer_free(teacher);
    return status;
}

// ---- stages ---------------------------------------------------------------------------------------------------------

// A student that begins at node `first`, and the original beside it.
static qcnn_status new_trainers(const refinement *work, const qcnn_refine_stage *stage, size_t first, qcnn_refine_run *run,
                                qcnn_error *error)
{
    qcnn_train_options options = { .batch = stage->batch, .first_node = first, .parallel = work->options->parallel };
    QCNN_TRY(qcnn_trainer_new(work->original, &options, &run->teacher, error));
    options.backward = true;
    return qcnn_trainer_new(work->model, &options, &run->student, error);
}

static qcnn_status run_stage(const refinement *work, const qcnn_refine_stage *stage, bool is_head, qcnn_refine_run *run,
                             qcnn_refine_cache *training, qcnn_refine_cache *held_out, qcnn_error *error)
{
    qcnn_refine_kept kept[QCNN_REFINE_MAX_KEPT];
    QCNN_TRY(new_trainers(work, stage, is_head ? work->head_node : work->first_node, run, error));
    const int n_kept = list_kept(run->student, is_head || work->behind, stage->logit_weight > 0, kept);
    const double most = MOST_CACHE_BYTES / (double)qcnn_refine_cache_bytes(work->model, kept, n_kept);
    const int n_crops = clamp_crops(fmin(stage->n_crops, most));
    QCNN_TRY(qcnn_refine_cache_new(work->model, kept, n_kept, (size_t)n_crops, training, error));
    QCNN_TRY(qcnn_refine_cache_new(work->model, kept, n_kept, (size_t)work->n_held_out, held_out, error));
    QCNN_TRY(fill_caches(work, is_head, training, held_out, error));
    QCNN_TRY(qcnn_refine_train(run, error));
    return store(run->student, work->model, error);
}

static qcnn_status train_stage(const refinement *work, const qcnn_refine_stage *stage, bool is_head, qcnn_refine_run *run,
                               qcnn_error *error)
{
    qcnn_refine_cache training = { 0 }, held_out = { 0 };
    run->training = &training;
    run->held_out = &held_out;
    const qcnn_status status = run_stage(work, stage, is_head, run, &training, &held_out, error);
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
            qcnn_refine_checkpoint_unlink(name);
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
                                .planned_seconds =
                                    (s ? work->options->head : work->options->whole).n_steps < 0 ? work->planned_seconds[s] : 0,
                                .checkpoint = work->options->checkpoint ? name : NULL };
        if (run.checkpoint)
            QCNN_TRY(checkpoint_name(work->options->checkpoint, s, name, error));
        QCNN_TRY(train_stage(work, stage, s > 0, &run, error));
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

static bool has_codebook(const qcnn_model *model, size_t n)
{
    const qcnn_node *node = &model->nodes[n];
    const qcnn_tensor *weights = node->op == QCNN_OP_CONV || node->op == QCNN_OP_FC ? qcnn_node_weights(model, node) : NULL;
    return weights && qcnn_is_codebook(weights);
}

// The first node with a codebook from node `n` on, or n_nodes.
static size_t next_codebook(const qcnn_model *model, size_t n)
{
    while (n < model->n_nodes && !has_codebook(model, n))
        n++;
    return n;
}

// Where training begins: at the first layer with a codebook, or the second. Its input is kept, so it should be no larger than the image,
// and all that follows has to depend on the image through it alone; otherwise at the image, node 0.
static qcnn_status find_first(refinement *work, qcnn_error *error)
{
    const qcnn_model *model = work->model;
    size_t n = next_codebook(model, 0);
    if (work->options->skip_first && model->nodes[n].inputs[0] == model->inputs[0] && next_codebook(model, n + 1) < model->n_nodes)
        n = next_codebook(model, n + 1);
    if (qcnn_shape_elements(&model->values[model->nodes[n].inputs[0]].shape) > qcnn_shape_elements(&model->values[model->inputs[0]].shape))
        return QCNN_OK;
    qcnn_trainer *trial;
    const qcnn_train_options options = { .batch = QCNN_TRAIN_SLICES, .first_node = n };
    const qcnn_status status = qcnn_trainer_new(model, &options, &trial, error);
    qcnn_trainer_free(trial);
    if (status == QCNN_OK)
        work->first_node = n;
    work->behind = work->first_node > next_codebook(model, 0);
    return status == QCNN_ERROR_UNSUPPORTED ? QCNN_OK : status;
}

static qcnn_status check(const qcnn_model *original, const qcnn_model *compressed, const qcnn_samples *samples,
                         const qcnn_refine_options *options, qcnn_error *error)
{
    bool codebooks = false;
    for (size_t i = 0; i < compressed->n_tensors; i++)
        codebooks = codebooks || qcnn_is_codebook(&compressed->tensors[i]);
    if (!codebooks)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "there is nothing to refine: no layer is stored as a codebook");
    if (original->n_nodes != compressed->n_nodes || original->n_values > compressed->n_values) // corrected layers may have got a bias
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
    if (work.n_held_out > MOST_HELD_OUT)
        work.n_held_out = MOST_HELD_OUT;
    work.head_node = find_head(compressed);
    QCNN_TRY(qcnn_model_copy(compressed, &work.model, error));
    qcnn_status status = find_first(&work, error);
    if (status == QCNN_OK) {
        set_steps(&work);
        status = run_stages(&work, error);
    }
    if (status == QCNN_OK)
        hand_over(work.model, compressed);
    qcnn_model_free(work.model);
    return status;
}
