// SPDX-License-Identifier: Apache-2.0
// The loop of refinement: fresh crops, the original's answers, a step; now and then a look at images held out, and in the end the
// best of the states looked at.

#include "compress/refine.h"

#include <math.h>
#include <string.h>

#include "compress/refine_batch.h"
#include "compress/refine_loss.h"
#include "compress/round.h"

static const double PI = 3.14159265358979323846;

qcnn_refine_options qcnn_refine_options_default(void)
{
    return (qcnn_refine_options){ .minutes = 10,
                                  .batch = 64,
                                  .rate = 0.01f,
                                  .bias_rate = 0.003f,
                                  .temperature = 1,
                                  .feature_weight = 0.3f,
                                  .mix = 0.5f,
                                  .jitter = 0.2f,
                                  .zoom = 0.2f,
                                  .n_looks = 10 };
}

// What can be put back: codewords and assignments of each layer, biases.
typedef struct state {
    float **codewords, **biases;
    uint8_t **assignments;
    double divergence, agreement;
    int step;
} state;

typedef struct refinement {
    const qcnn_refine_options *options;
    const qcnn_samples *samples;
    qcnn_model *compressed;
    qcnn_trainer *teacher, *student;
    qcnn_refine_batch batch;
    float *teacher_logits, *student_logits, *gradients; // [batch][classes]
    float *held_out_logits;                             // the teacher's, [n_held_out][classes]
    int n_classes, n_held_out, n_steps;
    state best;
} refinement;

// ---- states ---------------------------------------------------------------------------------------------------------

static qcnn_status new_state(const qcnn_trainer *trainer, state *best, qcnn_error *error)
{
    best->codewords = qcnn_allocate_zeroed(trainer->n_weights, sizeof *best->codewords);
    best->assignments = qcnn_allocate_zeroed(trainer->n_weights, sizeof *best->assignments);
    best->biases = qcnn_allocate_zeroed(trainer->n_biases, sizeof *best->biases);
    if (!best->codewords || !best->assignments || !best->biases)
        return qcnn_fail_memory(error, trainer->n_weights * sizeof *best->codewords);
    for (size_t i = 0; i < trainer->n_weights; i++) {
        best->codewords[i] = qcnn_allocate(trainer->weights[i].n_codewords, sizeof(float));
        best->assignments[i] = qcnn_allocate(trainer->weights[i].n_assignments, 1);
        if (!best->codewords[i] || !best->assignments[i])
            return qcnn_fail_memory(error, trainer->weights[i].n_assignments);
    }
    for (size_t i = 0; i < trainer->n_biases; i++) {
        best->biases[i] = qcnn_allocate(trainer->biases[i].n, sizeof(float));
        if (!best->biases[i])
            return qcnn_fail_memory(error, trainer->biases[i].n * sizeof(float));
    }
    return QCNN_OK;
}

static void free_state(const qcnn_trainer *trainer, state *best)
{
    for (size_t i = 0; best->codewords && best->assignments && i < trainer->n_weights; i++) {
        qcnn_release(best->codewords[i]);
        qcnn_release(best->assignments[i]);
    }
    for (size_t i = 0; best->biases && i < trainer->n_biases; i++)
        qcnn_release(best->biases[i]);
    qcnn_release(best->codewords);
    qcnn_release(best->assignments);
    qcnn_release(best->biases);
}

static void keep_state(const qcnn_trainer *trainer, state *best)
{
    for (size_t i = 0; i < trainer->n_weights; i++) {
        memcpy(best->codewords[i], trainer->weights[i].codewords, trainer->weights[i].n_codewords * sizeof(float));
        memcpy(best->assignments[i], trainer->weights[i].assignments, trainer->weights[i].n_assignments);
    }
    for (size_t i = 0; i < trainer->n_biases; i++)
        memcpy(best->biases[i], trainer->biases[i].values, trainer->biases[i].n * sizeof(float));
}

// Moves the state into the model. Nothing can fail in between but rounding, which is done to copies before.
static void store_state(refinement *work)
{
    for (size_t i = 0; i < work->student->n_weights; i++) {
        qcnn_tensor *tensor = &work->compressed->tensors[work->student->weights[i].tensor];
        qcnn_release(tensor->owned_data);
        qcnn_release(tensor->owned_assignments);
        tensor->codebook.codewords = tensor->owned_data = work->best.codewords[i];
        tensor->codebook.assignments = tensor->owned_assignments = work->best.assignments[i];
        tensor->stored_bytes = 0;
        tensor->error = -1;
        work->best.codewords[i] = NULL;
        work->best.assignments[i] = NULL;
    }
    for (size_t i = 0; i < work->student->n_biases; i++) {
        qcnn_tensor *tensor = &work->compressed->tensors[work->student->biases[i].tensor];
        qcnn_release(tensor->owned_data);
        tensor->data = tensor->owned_data = work->best.biases[i];
        tensor->stored_bytes = 0;
        work->best.biases[i] = NULL;
    }
}

// Numbers of the types that the file will hold.
static qcnn_status round_stored(refinement *work, qcnn_error *error)
{
    for (size_t i = 0; i < work->student->n_weights; i++) {
        qcnn_tensor *tensor = &work->compressed->tensors[work->student->weights[i].tensor];
        if (tensor->codebook.codeword_type != QCNN_FLOAT32)
            QCNN_TRY(qcnn_codebook_round(tensor, tensor->codebook.codeword_type, QCNN_MAX_INTEGER, error));
    }
    for (size_t i = 0; i < work->student->n_biases; i++) {
        qcnn_tensor *tensor = &work->compressed->tensors[work->student->biases[i].tensor];
        if (tensor->data_type != QCNN_FLOAT32)
            QCNN_TRY(qcnn_data_round(tensor, tensor->data_type, QCNN_MAX_INTEGER, error));
    }
    return QCNN_OK;
}

// ---- passes ---------------------------------------------------------------------------------------------------------

// The teacher's layers; or only those whose results the student borrows.
static void run_teacher(refinement *work, bool all)
{
    for (size_t i = 0; i < work->teacher->n_layers; i++)
        if (all || work->student->layers[i].shared)
            qcnn_train_layer_forward(work->teacher, &work->teacher->layers[i]);
}

// Divergence and agreement on the held-out samples. The first time, the teacher's answers are kept.
static qcnn_status look(refinement *work, int step, state *now, qcnn_error *error)
{
    const bool first = step == 0;
    const int batch = work->student->batch;
    const size_t n_classes = (size_t)work->n_classes;
    qcnn_refine_score score = { 0 };
    for (int i = 0; i < work->n_held_out; i += batch) {
        const int n = work->n_held_out - i < batch ? work->n_held_out - i : batch;
        float *teacher = work->held_out_logits + (size_t)i * n_classes;
        QCNN_TRY(qcnn_refine_batch_plain(&work->batch, QCNN_PART_HELD_OUT, i, work->n_held_out, error));
        run_teacher(work, first);
        if (first) {
            qcnn_train_get_logits(work->teacher, work->teacher_logits);
            memcpy(teacher, work->teacher_logits, (size_t)n * n_classes * sizeof *teacher);
        }
        qcnn_train_forward(work->student);
        qcnn_train_get_logits(work->student, work->student_logits);
        qcnn_refine_compare(teacher, work->student_logits, n, work->n_classes, &score);
    }
    now->divergence = score.divergence / score.n;
    now->agreement = (double)score.n_agree / score.n;
    now->step = step;
    if (work->options->looked)
        work->options->looked(work->options->looked_context, step, now->divergence, now->agreement);
    return QCNN_OK;
}

// Inputs of fully-connected layers follow the teacher's.
static void add_feature_gradients(refinement *work)
{
    for (size_t i = 0; work->options->feature_weight > 0 && i < work->student->n_layers; i++)
        if (work->student->layers[i].node->op == QCNN_OP_FC)
            qcnn_refine_feature_gradients(work->teacher, work->student, work->student->layers[i].node->inputs[0],
                                          work->options->feature_weight);
}

// Up for the first steps, then down half a cosine to a fiftieth.
static float rate_at(const refinement *work, int step)
{
    const double warm = fmin(1, (step + 1) / 10.0), done = (double)step / work->n_steps;
    return (float)(warm * (0.02 + 0.98 * 0.5 * (1 + cos(PI * done))));
}

static qcnn_status train_step(refinement *work, int step, qcnn_error *error)
{
    const qcnn_refine_options *options = work->options;
    const float rate = rate_at(work, step);
    QCNN_TRY(qcnn_refine_batch_fill(&work->batch, step, error));
    run_teacher(work, true);
    qcnn_train_forward(work->student);
    qcnn_train_get_logits(work->teacher, work->teacher_logits);
    qcnn_train_get_logits(work->student, work->student_logits);
    qcnn_refine_logit_gradients(work->teacher_logits, work->student_logits, work->student->batch, work->n_classes, options->temperature,
                                work->gradients);
    qcnn_train_clear_gradients(work->student);
    qcnn_train_set_logit_gradients(work->student, work->gradients);
    add_feature_gradients(work);
    work->student->step = step + 1;
    work->student->latent_rate = options->latent_rate * rate;
    work->student->rate_price = options->rate_price;
    qcnn_train_backward(work->student);
    qcnn_train_update(work->student,
                      &(qcnn_train_step){ .number = step + 1, .rate = options->rate * rate, .bias_rate = options->bias_rate * rate });
    return QCNN_OK;
}

static qcnn_status report_progress(const refinement *work, int step, qcnn_error *error)
{
    const qcnn_progress *progress = work->options->progress;
    if (progress && progress->report && progress->report(progress->context, "refine", (double)step / work->n_steps) != 0)
        return qcnn_fail(error, QCNN_ERROR_CANCELLED, "refinement was stopped");
    return QCNN_OK;
}

static qcnn_status run(refinement *work, qcnn_refine_report *report, qcnn_error *error)
{
    state now = { 0 };
    QCNN_TRY(look(work, 0, &now, error));
    keep_state(work->student, &work->best);
    work->best.divergence = report->divergence[0] = now.divergence;
    work->best.agreement = report->agreement[0] = now.agreement;
    int looked = 0;
    for (int step = 0; step < work->n_steps; step++) {
        QCNN_TRY(report_progress(work, step, error));
        QCNN_TRY(train_step(work, step, error));
        const int looks = (int)((int64_t)(step + 1) * work->options->n_looks / work->n_steps);
        if (looks == looked && step + 1 < work->n_steps)
            continue;
        looked = looks;
        QCNN_TRY(look(work, step + 1, &now, error));
        if (now.divergence < work->best.divergence) {
            keep_state(work->student, &work->best);
            work->best.divergence = now.divergence;
            work->best.agreement = now.agreement;
            work->best.step = step + 1;
        }
    }
    report->divergence[1] = work->best.divergence;
    report->agreement[1] = work->best.agreement;
    report->n_steps = work->n_steps;
    report->best_step = work->best.step;
    return report_progress(work, work->n_steps, error);
}

// ---- all of it --------------------------------------------------------------------------------------------------------

// Multiply-adds of one image's step: the teacher's forward pass, the student's three.
static double work_of_image(const refinement *work)
{
    double sum = 0;
    for (size_t i = 0; i < work->student->n_layers; i++) {
        const qcnn_train_layer *layer = &work->student->layers[i];
        if (layer->node->op != QCNN_OP_CONV && layer->node->op != QCNN_OP_FC)
            continue;
        const qcnn_tensor *weights = qcnn_node_weights(work->compressed, layer->node);
        const qcnn_train_value *y = &work->student->values[layer->node->output];
        double operations = (double)qcnn_shape_elements(&weights->shape);
        if (layer->node->op == QCNN_OP_CONV)
            operations *= (double)y->n_positions;
        sum += operations * (1 + !layer->shared + (layer->weights >= 0) + (work->student->values[layer->node->inputs[0]].gradient != NULL));
    }
    return sum;
}

// Two processors of the kind this was written on take this many multiply-adds a second, all in all.
static const double NOMINAL_SPEED = 5.5e10;

static int steps_of_minutes(const refinement *work)
{
    const double steps = work->options->minutes * 60 * NOMINAL_SPEED / (work_of_image(work) * work->student->batch);
    return steps < 1 ? 1 : steps > 1e6 ? 1000000 : (int)steps;
}

static qcnn_status prepare(const qcnn_model *original, refinement *work, qcnn_error *error)
{
    const qcnn_refine_options *options = work->options;
    qcnn_train_options train = { .batch = options->batch, .parallel = options->parallel };
    QCNN_TRY(qcnn_trainer_new(original, &train, &work->teacher, error));
    train.backward = true;
    train.latent = options->latent_rate > 0;
    train.teacher = work->teacher;
    QCNN_TRY(qcnn_trainer_new(work->compressed, &train, &work->student, error));
    if (work->student->n_weights == 0)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "there is nothing to refine: no layer is stored as a codebook");
    work->n_classes = qcnn_train_n_classes(work->student);
    const int n_held_out = work->samples->n_images[QCNN_PART_HELD_OUT];
    work->n_held_out = options->n_held_out > 0 ? options->n_held_out : n_held_out;
    if (n_held_out < 1)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "refinement needs at least 10 calibration images");
    const size_t n = (size_t)work->student->batch * (size_t)work->n_classes;
    work->teacher_logits = qcnn_allocate(n, sizeof(float));
    work->student_logits = qcnn_allocate(n, sizeof(float));
    work->gradients = qcnn_allocate(n, sizeof(float));
    work->held_out_logits = qcnn_allocate((size_t)work->n_held_out * (size_t)work->n_classes, sizeof(float));
    if (!work->teacher_logits || !work->student_logits || !work->gradients || !work->held_out_logits)
        return qcnn_fail_memory(error, n * sizeof(float));
    work->n_steps = options->n_steps > 0 ? options->n_steps : steps_of_minutes(work);
    QCNN_TRY(new_state(work->student, &work->best, error));
    return qcnn_refine_batch_open(work->samples, options, work->teacher, &work->batch, error);
}

static void release_refinement(refinement *work)
{
    qcnn_refine_batch_close(&work->batch);
    if (work->student)
        free_state(work->student, &work->best);
    qcnn_trainer_free(work->student);
    qcnn_trainer_free(work->teacher);
    qcnn_release(work->teacher_logits);
    qcnn_release(work->student_logits);
    qcnn_release(work->gradients);
    qcnn_release(work->held_out_logits);
}

// Layers that run dense decode their new codewords.
static qcnn_status prepare_again(qcnn_model *model, qcnn_error *error)
{
    for (size_t n = 0; n < model->n_nodes; n++) {
        qcnn_release(model->nodes[n].decoded);
        model->nodes[n].decoded = NULL;
    }
    const char *kernels = qcnn_model_kernels(model);
    return qcnn_model_prepare(model, *kernels ? kernels : NULL, error);
}

qcnn_status qcnn_refine(const qcnn_model *original, qcnn_model *compressed, const qcnn_samples *samples, const qcnn_refine_options *options,
                        qcnn_refine_report *report, qcnn_error *error)
{
    *report = (qcnn_refine_report){ 0 };
    if (original->n_nodes != compressed->n_nodes || original->n_values != compressed->n_values)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "refinement: the compressed network is not a copy of the original");
    if (options->batch < QCNN_TRAIN_SLICES || options->batch % QCNN_TRAIN_SLICES != 0)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "refinement: a batch of %d, where multiples of %d are possible", options->batch,
                         QCNN_TRAIN_SLICES);
    refinement work = { .options = options, .samples = samples, .compressed = compressed };
    qcnn_status status = prepare(original, &work, error);
    if (status == QCNN_OK)
        status = run(&work, report, error);
    if (status == QCNN_OK) {
        store_state(&work);
        status = round_stored(&work, error);
    }
    if (status == QCNN_OK)
        status = prepare_again(compressed, error);
    release_refinement(&work);
    return status;
}
