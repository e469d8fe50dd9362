// SPDX-License-Identifier: Apache-2.0
// Samples run in small batches, so that the weights of a fully-connected layer are read once for several of them.

#include "compress/judge.h"

#include <math.h>
#include <string.h>

#include "base/parallel.h"

enum { BATCH = 8 };

struct qcnn_judge {
    const qcnn_samples *samples;
    qcnn_part part;
    int n, n_classes;
    const qcnn_parallel *parallel;
    float *probabilities; // [n][n_classes], of the original
};

typedef struct judge_worker {
    qcnn_session *session;
    float *input, **outputs;
    int n_outputs;
} judge_worker;

typedef struct judge_job {
    const qcnn_judge *judge;
    const qcnn_model *model;
    judge_worker *workers;
    int first;            // of the batches under way
    qcnn_error *errors;   // [batches]
    float *probabilities; // [n][n_classes]
} judge_job;

// ---- running --------------------------------------------------------------------------------------------------------

static bool ends_in_softmax(const qcnn_model *model)
{
    for (size_t n = 0; n < model->n_nodes; n++)
        if (model->nodes[n].output == model->outputs[0])
            return model->nodes[n].op == QCNN_OP_SOFTMAX;
    return false;
}

static void softmax(float *scores, int n)
{
    float largest = scores[0], sum = 0;
    for (int i = 1; i < n; i++)
        largest = scores[i] > largest ? scores[i] : largest;
    for (int i = 0; i < n; i++)
        sum += scores[i] = expf(scores[i] - largest);
    for (int i = 0; i < n; i++)
        scores[i] /= sum;
}

static void free_worker(judge_worker *worker)
{
    for (int i = 0; worker->outputs && i < worker->n_outputs; i++)
        qcnn_release(worker->outputs[i]);
    qcnn_release(worker->outputs);
    qcnn_release(worker->input);
    qcnn_session_free(worker->session);
    *worker = (judge_worker){ 0 };
}

static qcnn_status make_worker(const judge_job *job, judge_worker *worker, qcnn_error *error)
{
    qcnn_session_options options = qcnn_session_options_default();
    options.batch = BATCH;
    QCNN_TRY(qcnn_session_create(job->model, &options, &worker->session, error));
    const size_t n_input = BATCH * job->judge->samples->n_elements;
    worker->n_outputs = qcnn_model_n_outputs(job->model);
    worker->input = qcnn_allocate(n_input, sizeof *worker->input);
    worker->outputs = qcnn_allocate_zeroed((size_t)worker->n_outputs, sizeof *worker->outputs);
    if (!worker->input || !worker->outputs)
        return qcnn_fail_memory(error, n_input * sizeof *worker->input);
    for (int i = 0; i < worker->n_outputs; i++) {
        const qcnn_shape shape = qcnn_session_output_shape(worker->session, i);
        worker->outputs[i] = qcnn_allocate((size_t)qcnn_shape_elements(&shape), sizeof(float));
        if (!worker->outputs[i])
            return qcnn_fail_memory(error, (size_t)qcnn_shape_elements(&shape) * sizeof(float));
    }
    return QCNN_OK;
}

static qcnn_status run_batch(const judge_job *job, int batch, judge_worker *worker, qcnn_error *error)
{
    const qcnn_judge *judge = job->judge;
    const size_t n_elements = judge->samples->n_elements, n_classes = (size_t)judge->n_classes;
    if (!worker->input) {
        const qcnn_status status = make_worker(job, worker, error);
        if (status != QCNN_OK) {
            free_worker(worker);
            return status;
        }
    }
    const int first = batch * BATCH, n = judge->n - first < BATCH ? judge->n - first : BATCH;
    memset(worker->input, 0, BATCH * n_elements * sizeof *worker->input);
    for (int i = 0; i < n; i++)
        QCNN_TRY(qcnn_samples_read(judge->samples, judge->part, first + i, worker->input + (size_t)i * n_elements, error));
    qcnn_run(worker->session, (const float *const[]){ worker->input }, worker->outputs);
    float *probabilities = job->probabilities + (size_t)first * n_classes;
    memcpy(probabilities, worker->outputs[0], (size_t)n * n_classes * sizeof *probabilities);
    for (int i = 0; i < n && !ends_in_softmax(job->model); i++)
        softmax(probabilities + (size_t)i * n_classes, judge->n_classes);
    return QCNN_OK;
}

static void batch_task(void *argument, int index, int worker)
{
    const judge_job *job = argument;
    const int batch = job->first + index;
    job->errors[batch].status = QCNN_OK;
    job->errors[batch].status = run_batch(job, batch, &job->workers[worker], &job->errors[batch]);
}

// In rounds, between which the caller's thread reports progress.
static qcnn_status run_batches(judge_job *job, int n_batches, const qcnn_progress *progress, qcnn_error *error)
{
    const int round = 2 * qcnn_n_workers(job->judge->parallel);
    for (job->first = 0; job->first < n_batches; job->first += round) {
        const int n_left = n_batches - job->first;
        if (progress && progress->report(progress->context, "judging", (double)job->first / n_batches))
            return qcnn_fail(error, QCNN_ERROR_CANCELLED, "cancelled while comparing with the original");
        qcnn_for(job->judge->parallel, n_left < round ? n_left : round, batch_task, job);
    }
    for (int i = 0; i < n_batches; i++)
        if (job->errors[i].status != QCNN_OK)
            return qcnn_fail(error, job->errors[i].status, "%s", job->errors[i].message);
    return QCNN_OK;
}

// The probabilities that a model gives to all samples, into room for them.
static qcnn_status run_all(const qcnn_judge *judge, const qcnn_model *model, const qcnn_progress *progress, float *probabilities,
                           qcnn_error *error)
{
    const int n_workers = qcnn_n_workers(judge->parallel), n_batches = (judge->n + BATCH - 1) / BATCH;
    judge_job job = { .judge = judge, .model = model, .probabilities = probabilities };
    job.workers = qcnn_allocate_zeroed((size_t)n_workers, sizeof *job.workers);
    job.errors = qcnn_allocate_zeroed((size_t)n_batches, sizeof *job.errors);
    qcnn_status status = job.workers && job.errors ? QCNN_OK : qcnn_fail_memory(error, (size_t)n_batches * sizeof *job.errors);
    if (status == QCNN_OK)
        status = run_batches(&job, n_batches, progress, error);
    for (int i = 0; job.workers && i < n_workers; i++)
        free_worker(&job.workers[i]);
    qcnn_release(job.workers);
    qcnn_release(job.errors);
    return status;
}

// ---- judging --------------------------------------------------------------------------------------------------------

qcnn_status qcnn_judge_new(const qcnn_model *original, const qcnn_samples *samples, qcnn_part part, int n, const qcnn_parallel *parallel,
                           const qcnn_progress *progress, qcnn_judge **result, qcnn_error *error)
{
    *result = NULL;
    const qcnn_shape output = qcnn_model_output(original, 0).shape;
    const uint64_t n_classes = qcnn_shape_elements(&output);
    if (output.rank < 1 || output.dims[0] != 1 || n_classes > INT32_MAX || n < 1)
        return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "the network's first output is not class scores of one image");
    qcnn_judge *judge = qcnn_allocate_zeroed(1, sizeof *judge);
    if (!judge)
        return qcnn_fail_memory(error, sizeof *judge);
    *judge = (qcnn_judge){ .samples = samples, .part = part, .n = n, .n_classes = (int)n_classes, .parallel = parallel };
    judge->probabilities = qcnn_allocate((size_t)n * (size_t)n_classes, sizeof *judge->probabilities);
    const qcnn_status status = judge->probabilities ? run_all(judge, original, progress, judge->probabilities, error)
                                                    : qcnn_fail_memory(error, (size_t)n * (size_t)n_classes * sizeof(float));
    if (status != QCNN_OK) {
        qcnn_judge_free(judge);
        return status;
    }
    *result = judge;
    return QCNN_OK;
}

void qcnn_judge_free(qcnn_judge *judge)
{
    if (!judge)
        return;
    qcnn_release(judge->probabilities);
    qcnn_release(judge);
}

static int first_class(const float *probabilities, int n)
{
    int first = 0;
    for (int i = 1; i < n; i++)
        first = probabilities[i] > probabilities[first] ? i : first;
    return first;
}

qcnn_status qcnn_judge_model(const qcnn_judge *judge, const qcnn_model *model, const qcnn_progress *progress, qcnn_verdict *verdict,
                             qcnn_error *error)
{
    const size_t n_classes = (size_t)judge->n_classes;
    float *probabilities = qcnn_allocate((size_t)judge->n * n_classes, sizeof *probabilities);
    if (!probabilities)
        return qcnn_fail_memory(error, (size_t)judge->n * n_classes * sizeof *probabilities);
    *verdict = (qcnn_verdict){ 0 };
    double squares = 0;
    const qcnn_status status = run_all(judge, model, progress, probabilities, error);
    for (int i = 0; status == QCNN_OK && i < judge->n; i++) {
        const float *p = judge->probabilities + (size_t)i * n_classes, *q = probabilities + (size_t)i * n_classes;
        const int p_first = first_class(p, judge->n_classes), q_first = first_class(q, judge->n_classes);
        double divergence = 0;
        for (size_t k = 0; k < n_classes; k++)
            if (p[k] > 0)
                divergence += (double)p[k] * log((double)p[k] / ((double)q[k] > 1e-30 ? (double)q[k] : 1e-30));
        verdict->agreement += (p_first == q_first) / (double)judge->n;
        verdict->divergence += divergence / judge->n;
        const double drop = (double)p[p_first] - (double)p[q_first];
        verdict->drop += drop / judge->n;
        squares += drop * drop;
    }
    if (judge->n > 1)
        verdict->drop_error = sqrt(fmax(squares / judge->n - verdict->drop * verdict->drop, 0) / (judge->n - 1));
    qcnn_release(probabilities);
    return status;
}
