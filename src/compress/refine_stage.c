// SPDX-License-Identifier: Apache-2.0
// The loop of a stage: crops, the original's answers, a step; now and then a look at images held out, and in the end the best of the
// states looked at.

#include "compress/refine_stage.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "compress/gemm_bf16.h"
#include "compress/refine_checkpoint.h"
#include "compress/refine_loss.h"

static const double PI = 3.14159265358979323846;

enum { WARM_STEPS = 10, TIMED_STEPS = 4 };

// What a checkpoint holds beside the numbers that are trained.
typedef struct progress_state {
    int64_t step, best_step;
    double divergence[2], agreement[2];
} progress_state;

typedef struct workspace {
    float *teacher, *student, *gradients; // [batch][classes]
    float *held_out;                      // the teacher's logits, [n_held_out][classes]
    size_t *picks;                        // [batch]
    uint32_t *order;                      // of crops, in this round over them
    size_t round;
    int n_classes;
    float **codewords, **biases; // of the best state
    progress_state progress;
    qcnn_refine_block *blocks; // of a checkpoint
    size_t n_blocks;
    uint64_t key;
} workspace;

// ---- memory ---------------------------------------------------------------------------------------------------------

static qcnn_status new_best(const qcnn_trainer *trainer, workspace *work, qcnn_error *error)
{
    work->codewords = qcnn_allocate_zeroed(trainer->n_weights, sizeof *work->codewords);
    work->biases = qcnn_allocate_zeroed(trainer->n_biases, sizeof *work->biases);
    if (!work->codewords || !work->biases)
        return qcnn_fail_memory(error, trainer->n_weights * sizeof *work->codewords);
    for (size_t i = 0; i < trainer->n_weights; i++) {
        work->codewords[i] = qcnn_allocate(trainer->weights[i].n_codewords, sizeof(float));
        if (!work->codewords[i])
            return qcnn_fail_memory(error, trainer->weights[i].n_codewords * sizeof(float));
    }
    for (size_t i = 0; i < trainer->n_biases; i++) {
        work->biases[i] = qcnn_allocate(trainer->biases[i].n, sizeof(float));
        if (!work->biases[i])
            return qcnn_fail_memory(error, trainer->biases[i].n * sizeof(float));
    }
    return QCNN_OK;
}

static qcnn_status open_workspace(const qcnn_refine_run *run, workspace *work, qcnn_error *error)
{
    *work = (workspace){ .n_classes = qcnn_train_n_classes(run->student), .round = SIZE_MAX };
    const size_t batch = (size_t)run->student->batch, n = batch * (size_t)work->n_classes;
    work->teacher = qcnn_allocate(n, sizeof(float));
    work->student = qcnn_allocate(n, sizeof(float));
    work->gradients = qcnn_allocate(n, sizeof(float));
    work->held_out = qcnn_allocate(run->held_out->n * (size_t)work->n_classes, sizeof(float));
    work->picks = qcnn_allocate(batch, sizeof *work->picks);
    work->order = qcnn_allocate(run->training->n, sizeof *work->order);
    if (!work->teacher || !work->student || !work->gradients || !work->held_out || !work->picks || !work->order)
        return qcnn_fail_memory(error, n * sizeof(float));
    return new_best(run->student, work, error);
}

static void close_workspace(const qcnn_trainer *trainer, workspace *work)
{
    for (size_t i = 0; work->codewords && i < trainer->n_weights; i++)
        qcnn_release(work->codewords[i]);
    for (size_t i = 0; work->biases && i < trainer->n_biases; i++)
        qcnn_release(work->biases[i]);
    void *const blocks[] = { work->codewords, work->biases, work->teacher, work->student, work->gradients,
                             work->held_out,  work->picks,  work->order,   work->blocks };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        qcnn_release(blocks[i]);
}

// Copies the trainer's state to the best one, or back.
static void copy_state(const qcnn_trainer *trainer, workspace *work, bool back)
{
    for (size_t i = 0; i < trainer->n_weights; i++) {
        qcnn_train_weights *w = &trainer->weights[i];
        memcpy(back ? w->codewords : work->codewords[i], back ? work->codewords[i] : w->codewords, w->n_codewords * sizeof(float));
    }
    for (size_t i = 0; i < trainer->n_biases; i++) {
        qcnn_train_bias *b = &trainer->biases[i];
        memcpy(back ? b->values : work->biases[i], back ? work->biases[i] : b->values, b->n * sizeof(float));
    }
}

// ---- checkpoints ----------------------------------------------------------------------------------------------------

enum { BLOCKS_OF_WEIGHTS = 4, BLOCKS_OF_BIAS = 4 };

static void add_block(workspace *work, void *data, size_t n, size_t size)
{
    work->blocks[work->n_blocks++] = (qcnn_refine_block){ data, data ? n * size : 0 };
}

static qcnn_status list_blocks(const qcnn_trainer *trainer, workspace *work, qcnn_error *error)
{
    const size_t n_most = 1 + BLOCKS_OF_WEIGHTS * trainer->n_weights + BLOCKS_OF_BIAS * trainer->n_biases;
    work->blocks = qcnn_allocate(n_most, sizeof *work->blocks);
    if (!work->blocks)
        return qcnn_fail_memory(error, n_most * sizeof *work->blocks);
    add_block(work, &work->progress, 1, sizeof work->progress);
    for (size_t i = 0; i < trainer->n_weights; i++) {
        qcnn_train_weights *w = &trainer->weights[i];
        float *const codewords[] = { w->codewords, w->first, w->second, work->codewords[i] };
        for (int k = 0; k < 4; k++)
            add_block(work, codewords[k], w->n_codewords, sizeof(float));
    }
    for (size_t i = 0; i < trainer->n_biases; i++) {
        qcnn_train_bias *b = &trainer->biases[i];
        float *const blocks[] = { b->values, b->first, b->second, work->biases[i] };
        for (int k = 0; k < 4; k++)
            add_block(work, blocks[k], b->n, sizeof(float));
    }
    return QCNN_OK;
}

// What the result depends on: the start, the stage and its options, the original's answers on the held-out images.
static void set_key(const qcnn_refine_run *run, workspace *work)
{
    const qcnn_refine_options *o = run->options;
    const double numbers[] = { run->stage->n_steps,
                               run->student->batch,
                               run->stage->rate,
                               run->stage->bias_rate,
                               (double)run->training->n,
                               run->stage->logit_weight,
                               run->stage->feature_weight,
                               o->temperature,
                               o->mix,
                               o->jitter,
                               o->zoom,
                               o->n_looks,
                               qcnn_gemm_bf16_available(),
                               (double)(o->seed >> 32),
                               (double)(o->seed & 0xffffffffu) };
    uint64_t key = qcnn_refine_key(0, numbers, sizeof numbers);
    key = qcnn_refine_key(key, work->held_out, run->held_out->n * (size_t)work->n_classes * sizeof(float));
    for (size_t i = 0; i < run->student->n_weights; i++) {
        const qcnn_train_weights *w = &run->student->weights[i];
        key = qcnn_refine_key(key, w->codewords, w->n_codewords * sizeof(float));
        key = qcnn_refine_key(key, w->assignments, w->n_assignments);
    }
    for (size_t i = 0; i < run->student->n_biases; i++)
        key = qcnn_refine_key(key, run->student->biases[i].values, run->student->biases[i].n * sizeof(float));
    work->key = key;
}

// ---- inputs ---------------------------------------------------------------------------------------------------------

// Crops in an order that is drawn anew for each round over them.
static void fill_training(const qcnn_refine_run *run, workspace *work, int step)
{
    const size_t n = run->training->n, batch = (size_t)run->student->batch;
    for (size_t i = 0; i < batch; i++) {
        const size_t number = (size_t)step * batch + i;
        if (number / n != work->round) {
            work->round = number / n;
            qcnn_rng shuffle = { qcnn_rng_split(run->options->seed ^ 0x73687566, number / n) };
            for (size_t j = 0; j < n; j++)
                work->order[j] = (uint32_t)j;
            for (size_t j = n - 1; j > 0; j--) {
                const size_t k = qcnn_rng_below(&shuffle, (uint32_t)j + 1);
                const uint32_t other = work->order[k];
                work->order[k] = work->order[j];
                work->order[j] = other;
            }
        }
        work->picks[i] = work->order[number % n];
    }
    qcnn_refine_cache_get(run->training, work->picks, run->teacher, run->student);
}

static void fill_held_out(const qcnn_refine_run *run, workspace *work, size_t first)
{
    for (size_t i = 0; i < (size_t)run->student->batch; i++)
        work->picks[i] = first + i < run->held_out->n ? first + i : run->held_out->n - 1;
    qcnn_refine_cache_get(run->held_out, work->picks, run->teacher, run->student);
}

// ---- steps ----------------------------------------------------------------------------------------------------------

// Divergence and agreement on the held-out samples. Before the first step the original's answers are kept.
static void look(const qcnn_refine_run *run, workspace *work, int step, double *divergence, double *agreement)
{
    const size_t n_classes = (size_t)work->n_classes, n_all = run->held_out->n, batch = (size_t)run->student->batch;
    qcnn_refine_score score = { 0 };
    for (size_t i = 0; i < n_all; i += batch) {
        const size_t n = n_all - i < batch ? n_all - i : batch;
        float *teacher = work->held_out + i * n_classes;
        fill_held_out(run, work, i);
        if (step == 0) {
            qcnn_train_get_logits(run->teacher, work->teacher);
            memcpy(teacher, work->teacher, n * n_classes * sizeof *teacher);
        }
        qcnn_train_forward(run->student);
        qcnn_train_get_logits(run->student, work->student);
        qcnn_refine_compare(teacher, work->student, (int)n, work->n_classes, &score);
    }
    *divergence = score.divergence / score.n;
    *agreement = (double)score.n_agree / score.n;
    if (run->options->looked)
        run->options->looked(run->options->looked_context, run->name, step, *divergence, *agreement);
}

// Up for the first steps, then down half a cosine to a fiftieth.
static float rate_at(const qcnn_refine_run *run, int step)
{
    const double warm = fmin(1, (step + 1) / (double)WARM_STEPS), done = (double)step / run->stage->n_steps;
    return (float)(warm * (0.02 + 0.98 * 0.5 * (1 + cos(PI * done))));
}

static void set_gradients(const qcnn_refine_run *run, workspace *work)
{
    qcnn_trainer *student = run->student;
    const size_t n = (size_t)student->batch * (size_t)work->n_classes;
    qcnn_train_get_logits(run->teacher, work->teacher);
    qcnn_train_get_logits(student, work->student);
    qcnn_refine_logit_gradients(work->teacher, work->student, student->batch, work->n_classes, run->options->temperature, work->gradients);
    for (size_t i = 0; i < n; i++)
        work->gradients[i] *= run->stage->logit_weight;
    qcnn_train_clear_gradients(student);
    qcnn_train_set_logit_gradients(student, work->gradients);
    for (int i = 0; run->stage->feature_weight > 0 && i < run->training->n_kept; i++) {
        const qcnn_refine_kept *kept = &run->training->kept[i];
        if (!kept->to_student && kept->value != student->logits)
            qcnn_refine_feature_gradients(run->teacher, student, kept->value, run->stage->feature_weight);
    }
}

static void train_step(const qcnn_refine_run *run, workspace *work, int step)
{
    qcnn_trainer *student = run->student;
    const float rate = rate_at(run, step);
    fill_training(run, work, step);
    qcnn_train_forward(student);
    set_gradients(run, work);
    qcnn_train_backward(student);
    qcnn_train_update(student,
                      &(qcnn_train_step){ .number = step + 1, .rate = run->stage->rate * rate, .bias_rate = run->stage->bias_rate * rate });
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

// Says so if this machine is much slower than the plan, judged by the first steps.
static void compare_with_plan(const qcnn_refine_run *run, double seconds_a_step)
{
    char message[240];
    const double planned = run->planned_seconds, needed = seconds_a_step * run->stage->n_steps;
    if (!run->options->note || planned <= 0 || needed < 30 || needed < 1.5 * planned)
        return;
    snprintf(
        message, sizeof message,
        "%s: %d steps, %.1f minutes' work of the two processors that --refine counts in, will take about %.1f minutes on this slower or "
        "busier machine",
        run->name, run->stage->n_steps, planned / 60, needed / 60);
    run->options->note(run->options->note_context, message);
}

static qcnn_status report_progress(const qcnn_refine_run *run, int step, qcnn_error *error)
{
    const qcnn_progress *progress = run->options->progress;
    if (progress && progress->report && progress->report(progress->context, run->name, (double)step / run->stage->n_steps) != 0)
        return qcnn_fail(error, QCNN_ERROR_CANCELLED, "refinement was stopped");
    return QCNN_OK;
}

// Keeps the state where it is the best so far.
static void look_and_keep(const qcnn_refine_run *run, workspace *work)
{
    progress_state *now = &work->progress;
    double divergence, agreement;
    look(run, work, (int)now->step, &divergence, &agreement);
    if (now->step == 0) {
        now->divergence[0] = divergence;
        now->agreement[0] = agreement;
    }
    if (now->step > 0 && !(divergence < now->divergence[1]))
        return;
    copy_state(run->student, work, false);
    now->divergence[1] = divergence;
    now->agreement[1] = agreement;
    now->best_step = now->step;
}

static qcnn_status train(const qcnn_refine_run *run, workspace *work, qcnn_error *error)
{
    const int64_t n_steps = run->stage->n_steps, n_looks = run->options->n_looks;
    progress_state *now = &work->progress;
    look_and_keep(run, work);
    if (run->checkpoint) {
        set_key(run, work);
        QCNN_TRY(list_blocks(run->student, work, error));
        qcnn_refine_checkpoint_load(run->checkpoint, work->key, work->blocks, work->n_blocks);
    }
    const int64_t first = now->step;
    const double begin = seconds_now();
    while (now->step < n_steps) {
        QCNN_TRY(report_progress(run, (int)now->step, error));
        train_step(run, work, (int)now->step);
        now->step++;
        if (now->step == first + TIMED_STEPS)
            compare_with_plan(run, (seconds_now() - begin) / TIMED_STEPS);
        if (now->step < n_steps && now->step * n_looks / n_steps == (now->step - 1) * n_looks / n_steps)
            continue;
        look_and_keep(run, work);
        if (run->checkpoint)
            QCNN_TRY(qcnn_refine_checkpoint_save(run->checkpoint, work->key, work->blocks, work->n_blocks, error));
    }
    copy_state(run->student, work, true);
    return report_progress(run, (int)n_steps, error);
}

qcnn_status qcnn_refine_train(qcnn_refine_run *run, qcnn_error *error)
{
    workspace work;
    qcnn_status status = open_workspace(run, &work, error);
    if (status == QCNN_OK)
        status = train(run, &work, error);
    for (int i = 0; i < 2; i++) {
        run->divergence[i] = work.progress.divergence[i];
        run->agreement[i] = work.progress.agreement[i];
    }
    run->best_step = (int)work.progress.best_step;
    close_workspace(run->student, &work);
    return status;
}
