// SPDX-License-Identifier: Apache-2.0
// Product quantization of one layer: one k-means for each subspace of each set of codebooks, spread over threads.

#include "compress/quantize.h"

#include <limits.h>
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/parallel.h"
#include "base/rng.h"

// ---- form -----------------------------------------------------------------------------------------------------------

qcnn_codebook qcnn_codebook_form(const qcnn_shape *weights, int groups, bool set_per_group, int subspace, int n_codewords)
{
    const qcnn_codebook none = { 0 };
    uint64_t n_taps = 1, n_columns;
    for (int i = 2; i < weights->rank; i++)
        if (!qcnn_multiply(n_taps, (uint64_t)weights->dims[i], &n_taps))
            return none;
    if (!qcnn_multiply(n_taps, (uint64_t)weights->dims[0], &n_columns) || n_columns > INT_MAX / 2 || weights->dims[1] > INT_MAX / 2)
        return none;
    qcnn_codebook form = {
        .groups = groups,
        .n_sets = set_per_group ? groups : 1,
        .n_inputs = (int)weights->dims[1],
        .n_outputs = (int)(weights->dims[0] / groups),
        .n_taps = (int)n_taps,
        .subspace = subspace,
        .n_codewords = n_codewords,
    };
    form.n_subspaces = (form.n_inputs - 1) / subspace + 1;
    if ((int64_t)form.n_sets * form.n_subspaces > INT_MAX)
        return none;
    if (form.n_codewords > qcnn_codebook_n_columns(&form))
        form.n_codewords = qcnn_codebook_n_columns(&form);
    return form;
}

int qcnn_codebook_n_columns(const qcnn_codebook *form)
{
    return form->groups / form->n_sets * form->n_taps * form->n_outputs;
}

int qcnn_codebook_width(const qcnn_codebook *form, int m)
{
    const int left = form->n_inputs - m * form->subspace;
    return left < form->subspace ? left : form->subspace;
}

// ---- columns --------------------------------------------------------------------------------------------------------

void qcnn_columns_gather(const qcnn_codebook *form, const float *weights, int set, int m, qcnn_kmeans *problem)
{
    const size_t n_inputs = (size_t)form->n_inputs, n_taps = (size_t)form->n_taps, n_outputs = (size_t)form->n_outputs;
    const int groups_in_set = form->groups / form->n_sets;
    problem->n = qcnn_codebook_n_columns(form);
    problem->dim = qcnn_codebook_width(form, m);
    problem->k = form->n_codewords;
    const float *source = weights + ((size_t)set * groups_in_set * n_outputs * n_inputs + (size_t)m * form->subspace) * n_taps;
    for (size_t output = 0; output < groups_in_set * n_outputs; output++, source += n_inputs * n_taps) {
        const size_t first = output / n_outputs * n_taps * n_outputs + output % n_outputs; // the column of tap 0
        for (size_t d = 0; d < (size_t)problem->dim; d++)
            for (size_t tap = 0; tap < n_taps; tap++)
                problem->points[d * problem->stride + first + tap * n_outputs] = source[d * n_taps + tap];
    }
}

void qcnn_columns_store(const qcnn_codebook *form, int set, int m, const qcnn_kmeans *problem, float *codewords, uint8_t *assignments)
{
    const size_t n_subspaces = (size_t)form->n_subspaces, n_codewords = (size_t)form->n_codewords, subspace = (size_t)form->subspace;
    const size_t dim = (size_t)problem->dim;
    float *codeword = codewords + ((size_t)set * n_subspaces + m) * n_codewords * subspace;
    for (size_t k = 0; k < n_codewords; k++, codeword += subspace) {
        memcpy(codeword, problem->codewords + k * dim, dim * sizeof(float));
        memset(codeword + dim, 0, (subspace - dim) * sizeof(float));
    }
    const size_t groups_in_set = (size_t)(form->groups / form->n_sets), n = (size_t)form->n_taps * form->n_outputs;
    for (size_t g = 0; g < groups_in_set; g++)
        memcpy(assignments + ((set * groups_in_set + g) * n_subspaces + m) * n, problem->assignments + g * n, n);
}

// ---- a layer --------------------------------------------------------------------------------------------------------

typedef struct layer_job {
    const qcnn_codebook *form;
    const float *weights;
    float *codewords;
    uint8_t *assignments;
    uint64_t seed;
    int n_restarts;
    int first;               // index of the first problem of this round
    qcnn_kmeans **workspace; // one a worker
    int n_workers;
} layer_job;

static void quantize_subspace(void *argument, int index, int worker)
{
    const layer_job *job = argument;
    const int problem = job->first + index, set = problem / job->form->n_subspaces, m = problem % job->form->n_subspaces;
    qcnn_kmeans *kmeans = job->workspace[worker];
    qcnn_columns_gather(job->form, job->weights, set, m, kmeans);
    qcnn_kmeans_run(kmeans, qcnn_rng_split(job->seed, (uint64_t)problem), job->n_restarts);
    qcnn_columns_store(job->form, set, m, kmeans, job->codewords, job->assignments);
}

static qcnn_status report(const qcnn_quantize_options *options, int n_done, int n, qcnn_error *error)
{
    const qcnn_progress *progress = options->progress;
    if (progress && progress->report(progress->context, options->name, (double)n_done / n))
        return qcnn_fail(error, QCNN_ERROR_CANCELLED, "cancelled while quantizing layer '%s'", options->name);
    return QCNN_OK;
}

// In rounds, between which the caller's thread reports progress.
static qcnn_status quantize_subspaces(layer_job *job, const qcnn_quantize_options *options, qcnn_error *error)
{
    const int n = job->form->n_sets * job->form->n_subspaces;
    const int least = 4 * job->n_workers, share = n / 32, round = share > least ? share : least;
    QCNN_TRY(report(options, 0, n, error));
    for (job->first = 0; job->first < n; job->first += round) {
        const int n_left = n - job->first, n_tasks = n_left < round ? n_left : round;
        qcnn_for(options->parallel, n_tasks, quantize_subspace, job);
        QCNN_TRY(report(options, job->first + n_tasks, n, error));
    }
    return QCNN_OK;
}

static void free_workspace(layer_job *job)
{
    for (int worker = 0; job->workspace && worker < job->n_workers; worker++)
        qcnn_kmeans_free(job->workspace[worker]);
    qcnn_release(job->workspace);
}

static qcnn_status new_workspace(layer_job *job, qcnn_error *error)
{
    job->workspace = qcnn_allocate_zeroed((size_t)job->n_workers, sizeof *job->workspace);
    if (!job->workspace)
        return qcnn_fail_memory(error, (size_t)job->n_workers * sizeof *job->workspace);
    for (int worker = 0; worker < job->n_workers; worker++)
        QCNN_TRY(qcnn_kmeans_new(qcnn_codebook_n_columns(job->form), job->form->subspace, job->form->n_codewords, &job->workspace[worker],
                                 error));
    return QCNN_OK;
}

// As many starts as 2^30 multiply-adds an iteration allow, 1 to 8: each convolution of AlexNet gets 8 (about 1 % less error than
// one gives), its fc6 one.
static int choose_restarts(const qcnn_codebook *form, uint64_t n_weights)
{
    const uint64_t n = ((uint64_t)1 << 30) / (n_weights * (uint64_t)form->n_codewords);
    return n < 1 ? 1 : n > 8 ? 8 : (int)n;
}

// Lowers K to the codewords that any subspace uses: they are the first ones of each.
static void drop_unused_codewords(qcnn_codebook *book, float *codewords, size_t n_assignments)
{
    int n_used = 1;
    for (size_t i = 0; i < n_assignments; i++)
        n_used = book->assignments[i] >= n_used ? book->assignments[i] + 1 : n_used;
    const size_t subspace = (size_t)book->subspace, n_codebooks = (size_t)book->n_sets * book->n_subspaces;
    for (size_t i = 0; i < n_codebooks && n_used < book->n_codewords; i++)
        memmove(codewords + i * n_used * subspace, codewords + i * book->n_codewords * subspace, n_used * subspace * sizeof(float));
    book->n_codewords = n_used;
}

static qcnn_status check_finite(const float *weights, uint64_t n, const char *name, qcnn_error *error)
{
    for (uint64_t i = 0; i < n; i++)
        if (!isfinite(weights[i]))
            return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "layer '%s': weight %llu is not a finite number; leave the layer dense", name,
                             (unsigned long long)i);
    return QCNN_OK;
}

qcnn_status qcnn_quantize(const qcnn_codebook *form, const float *weights, const qcnn_quantize_options *options, qcnn_tensor *tensor,
                          qcnn_error *error)
{
    memset(tensor, 0, sizeof *tensor);
    const size_t n_columns = (size_t)form->groups * form->n_taps * form->n_outputs, n_weights = n_columns * form->n_inputs;
    const size_t n_assignments = n_columns * form->n_subspaces;
    const size_t n_codewords = (size_t)form->n_sets * form->n_subspaces * form->n_codewords * form->subspace;
    QCNN_TRY(check_finite(weights, n_weights, options->name, error));
    layer_job job = {
        .form = form,
        .weights = weights,
        .codewords = qcnn_allocate(n_codewords, sizeof(float)),
        .assignments = qcnn_allocate(n_assignments, 1),
        .seed = options->seed,
        .n_restarts = choose_restarts(form, n_weights),
        .n_workers = qcnn_n_workers(options->parallel),
    };
    qcnn_status status = job.codewords && job.assignments ? QCNN_OK : qcnn_fail_memory(error, n_codewords * sizeof(float) + n_assignments);
    if (status == QCNN_OK)
        status = new_workspace(&job, error);
    if (status == QCNN_OK)
        status = quantize_subspaces(&job, options, error);
    free_workspace(&job);
    if (status != QCNN_OK) {
        qcnn_release(job.codewords);
        qcnn_release(job.assignments);
        return status;
    }
    *tensor = (qcnn_tensor){ .codebook = *form, .owned_data = job.codewords, .owned_assignments = job.assignments, .error = -1 };
    tensor->codebook.codewords = job.codewords;
    tensor->codebook.assignments = job.assignments;
    drop_unused_codewords(&tensor->codebook, job.codewords, n_assignments);
    return QCNN_OK;
}
