// SPDX-License-Identifier: Apache-2.0
// The course of a fit: start, feedback passes with solves between them, sweeps of descent.

#include "compress/fit.h"

#include <math.h>
#include <string.h>

#include "base/parallel.h"
#include "base/rng.h"
#include "compress/blas.h"
#include "compress/fit_state.h"
#include "compress/quantize.h"
#include "compress/round.h"

// ---- state ----------------------------------------------------------------------------------------------------------

int qcnn_fit_panel_end(const fit_state *s, int first)
{
    int end = first, n_rows = 0;
    while (end < s->n_blocks && (end == first || n_rows + s->blocks[end].width <= s->panel_rows))
        n_rows += s->blocks[end++].width;
    return end;
}

int qcnn_fit_panel_begin(const fit_state *s, int end)
{
    int first = end, n_rows = 0;
    while (first > 0 && (first == end || n_rows + s->blocks[first - 1].width <= s->panel_rows))
        n_rows += s->blocks[--first].width;
    return first;
}

static void lay_blocks(fit_state *s)
{
    const qcnn_codebook *form = s->form;
    for (int tap = 0, b = 0; tap < form->n_taps; tap++)
        for (int m = 0; m < form->n_subspaces; m++, b++)
            s->blocks[b] = (fit_block){ tap * form->n_inputs + m * form->subspace, qcnn_codebook_width(form, m), m };
}

static void set_importance(fit_state *s)
{
    for (int g = 0; g < s->form->groups; g++)
        for (size_t o = 0; o < s->padded; o++) {
            const size_t i = (size_t)g * s->padded + o;
            const size_t n = (size_t)s->n_outputs, channel = (size_t)g * n + o;
            s->importance[i] = o >= n                   ? 1
                               : s->options->fisher     ? s->options->fisher[channel * n + o]
                               : s->options->importance ? s->options->importance[channel]
                                                        : 1;
            s->price[i] = s->options->price / s->importance[i];
        }
}

static bool new_matrices(int n, size_t bytes, void *pointer)
{
    void **matrices = qcnn_allocate_zeroed((size_t)n, sizeof *matrices);
    memcpy(pointer, &matrices, sizeof matrices);
    bool have = matrices;
    for (int i = 0; have && i < n; i++) {
        matrices[i] = qcnn_allocate(bytes, 1);
        have = matrices[i];
    }
    return have;
}

static void free_matrices(void *pointer, int n)
{
    void **matrices;
    memcpy(&matrices, pointer, sizeof matrices);
    for (int i = 0; matrices && i < n; i++)
        qcnn_release(matrices[i]);
    qcnn_release(matrices);
}

static void free_state(fit_state *s)
{
    const int groups = s->form->groups;
    qcnn_release(s->blocks);
    free_matrices(&s->weights, groups);
    free_matrices(&s->residual, groups);
    free_matrices(&s->assigned, groups);
    free_matrices(&s->scratch, qcnn_n_workers(s->options->parallel));
    qcnn_release(s->codewords);
    qcnn_release(s->scales);
    qcnn_release(s->bits);
    qcnn_release(s->price);
    qcnn_release(s->importance);
}

static qcnn_status allocate_state(fit_state *s, qcnn_error *error)
{
    const qcnn_codebook *form = s->form;
    const size_t matrix = (size_t)s->n * (size_t)s->n_outputs * sizeof(float), c = (size_t)form->subspace, k = (size_t)form->n_codewords;
    const size_t n_books = (size_t)form->n_sets * (size_t)form->n_subspaces;
    s->blocks = qcnn_allocate((size_t)s->n_blocks, sizeof *s->blocks);
    s->codewords = qcnn_allocate_zeroed(n_books * k * c, sizeof(float));
    s->bits = qcnn_allocate_zeroed(n_books * k, sizeof(float));
    s->scales = form->codeword_type == QCNN_INT8 ? qcnn_allocate(n_books, sizeof(float)) : NULL;
    s->price = qcnn_allocate((size_t)form->groups * s->padded, sizeof(float));
    s->importance = qcnn_allocate((size_t)form->groups * s->padded, sizeof(float));
    const bool have = new_matrices(form->groups, matrix, &s->weights) && new_matrices(form->groups, matrix, &s->residual) &&
                      new_matrices(form->groups, (size_t)s->n_blocks * (size_t)s->n_outputs, &s->assigned) &&
                      new_matrices(qcnn_n_workers(s->options->parallel),
                                   ((size_t)s->panel_rows * FIT_TILE + c * FIT_TILE + k * (c + 1)) * sizeof(float), &s->scratch);
    if (!have || !s->blocks || !s->codewords || (form->codeword_type == QCNN_INT8 && !s->scales) || !s->bits || !s->price || !s->importance)
        return qcnn_fail_memory(error, matrix);
    lay_blocks(s);
    set_importance(s);
    return QCNN_OK;
}

qcnn_status qcnn_fit_report(fit_state *s, double fraction, qcnn_error *error)
{
    const qcnn_progress *progress = s->options->progress;
    if (progress && progress->report(progress->context, s->options->name, (s->step + fraction) / s->n_steps))
        return qcnn_fail(error, QCNN_ERROR_CANCELLED, "cancelled while correcting layer '%s'", s->options->name);
    return QCNN_OK;
}

// ---- what several steps need ----------------------------------------------------------------------------------------

void qcnn_fit_count_bits(fit_state *s)
{
    const int groups_in_set = s->form->groups / s->form->n_sets;
    for (int set = 0; set < s->form->n_sets; set++)
        for (int m = 0; m < s->form->n_subspaces; m++) {
            int counts[QCNN_MAX_CODEWORDS] = { 0 };
            for (int g = set * groups_in_set; g < (set + 1) * groups_in_set; g++)
                for (int b = m; b < s->n_blocks; b += s->form->n_subspaces)
                    for (int o = 0; o < s->n_outputs; o++)
                        counts[s->assigned[g][(size_t)b * (size_t)s->n_outputs + (size_t)o]]++;
            qcnn_fit_code_lengths(counts, s->form->n_codewords, fit_bits(s, set, m));
        }
}

void qcnn_fit_decode(fit_state *s)
{
    const size_t ld = (size_t)s->n_outputs;
    for (int g = 0; g < s->form->groups; g++)
        for (int b = 0; b < s->n_blocks; b++) {
            const float *codebook = fit_codebook(s, fit_set(s, g), s->blocks[b].m);
            const uint8_t *assigned = s->assigned[g] + (size_t)b * ld;
            float *w = s->weights[g] + (size_t)s->blocks[b].row * ld;
            for (size_t i = 0; i < (size_t)s->blocks[b].width; i++)
                for (size_t o = 0; o < ld; o++)
                    w[i * ld + o] = codebook[assigned[o] * (size_t)s->form->subspace + i];
        }
}

// The weights hold w* - w for the while of the product, there is no room for more, and are decoded anew.
void qcnn_fit_find_residual(fit_state *s)
{
    const size_t n = (size_t)s->n, ld = (size_t)s->n_outputs;
    for (int g = 0; g < s->form->groups; g++) {
        float *difference = s->weights[g];
        for (size_t i = 0; i < n * ld; i++)
            difference[i] = s->problem->target[g][i] - difference[i];
        const qcnn_gemm_call call = { .m = s->n,
                                      .n = s->n_outputs,
                                      .k = s->n,
                                      .alpha = 1,
                                      .a = s->problem->gram[g],
                                      .lda = n,
                                      .b = difference,
                                      .ldb = ld,
                                      .c = s->residual[g],
                                      .ldc = ld };
        qcnn_gemm(&call, s->options->parallel);
    }
    qcnn_fit_decode(s);
}

double qcnn_fit_objective(fit_state *s)
{
    qcnn_fit_find_residual(s);
    const size_t n = (size_t)s->n, ld = (size_t)s->n_outputs;
    double objective = 0;
    for (int g = 0; g < s->form->groups; g++) {
        for (size_t i = 0; i < n; i++)
            for (size_t o = 0; o < ld; o++)
                objective += (double)s->importance[(size_t)g * s->padded + o] * (double)s->residual[g][i * ld + o] *
                             ((double)s->problem->target[g][i * ld + o] - (double)s->weights[g][i * ld + o]);
        for (int b = 0; b < s->n_blocks; b++)
            for (size_t o = 0; o < ld; o++)
                objective +=
                    (double)s->options->price * (double)fit_bits(s, fit_set(s, g), s->blocks[b].m)[s->assigned[g][(size_t)b * ld + o]];
    }
    return objective;
}

void qcnn_fit_watch(fit_state *s, const char *step)
{
    if (s->options->watch)
        s->options->watch(s->options->watch_context, step, qcnn_fit_objective(s));
}

// ---- start ----------------------------------------------------------------------------------------------------------

typedef struct start_job {
    fit_state *s;
    qcnn_kmeans **workspace;
    double **root; // of each worker, C' x C'
    bool failed;   // a block of G was not positive definite
} start_job;

// The sum of G's blocks of subspace m, over taps and the groups of the set.
static void sum_blocks(const fit_state *s, int set, int m, double *sum)
{
    const int width = s->blocks[m].width, n_groups = s->form->groups / s->form->n_sets;
    memset(sum, 0, (size_t)width * (size_t)width * sizeof *sum);
    for (int g = set * n_groups; g < (set + 1) * n_groups; g++)
        for (int b = m; b < s->n_blocks; b += s->form->n_subspaces)
            for (int i = 0; i < width; i++)
                for (int j = 0; j < width; j++)
                    sum[i * width + j] +=
                        (double)s->problem->gram[g][(size_t)(s->blocks[b].row + i) * (size_t)s->n + (size_t)(s->blocks[b].row + j)];
}

// k-means of the points R w* with G_m = R^T R: distances there are the metric's.
static void start_subspace(void *argument, int index, int worker)
{
    start_job *job = argument;
    fit_state *s = job->s;
    const int set = index / s->form->n_subspaces, m = index % s->form->n_subspaces, width = s->blocks[m].width;
    const int n_groups = s->form->groups / s->form->n_sets;
    const size_t ld = (size_t)s->n_outputs;
    qcnn_kmeans *kmeans = job->workspace[worker];
    double *root = job->root[worker];
    sum_blocks(s, set, m, root);
    if (!qcnn_small_cholesky(width, root)) {
        job->failed = true; // by any worker, never taken back
        return;
    }
    kmeans->n = 0;
    kmeans->dim = width;
    kmeans->k = s->form->n_codewords;
    for (int g = set * n_groups; g < (set + 1) * n_groups; g++)
        for (int b = m; b < s->n_blocks; b += s->form->n_subspaces) {
            const float *target = s->problem->target[g] + (size_t)s->blocks[b].row * ld;
            for (int i = 0; i < width; i++)
                for (size_t o = 0; o < ld; o++) {
                    double sum = 0;
                    for (int j = i; j < width; j++)
                        sum += root[i * width + j] * (double)target[(size_t)j * ld + o];
                    kmeans->points[(size_t)i * kmeans->stride + (size_t)kmeans->n + o] = (float)sum;
                }
            kmeans->n += s->n_outputs;
        }
    qcnn_kmeans_run(kmeans, qcnn_rng_split(s->options->seed, (uint64_t)index), 1);
    const uint8_t *assigned = kmeans->assignments;
    for (int g = set * n_groups; g < (set + 1) * n_groups; g++)
        for (int b = m; b < s->n_blocks; b += s->form->n_subspaces, assigned += ld)
            memcpy(s->assigned[g] + (size_t)b * ld, assigned, ld);
    float *codeword = fit_codebook(s, set, m);
    for (int k = 0; k < s->form->n_codewords; k++, codeword += s->form->subspace) {
        double x[QCNN_MAX_CORRECTED_SUBSPACE];
        for (int i = 0; i < width; i++)
            x[i] = (double)kmeans->codewords[k * width + i];
        qcnn_small_solve_upper(width, root, x);
        for (int i = 0; i < width; i++)
            codeword[i] = (float)x[i];
    }
}

static qcnn_status start(fit_state *s, qcnn_error *error)
{
    enum { ITERATIONS = 25, TRAINED_ITERATIONS = 5 }; // trained codebooks are to be trained on other points yet
    const int n_workers = qcnn_n_workers(s->options->parallel), n = s->form->n_sets * s->form->n_subspaces;
    const size_t c = (size_t)s->form->subspace;
    start_job job = { .s = s, .workspace = qcnn_allocate_zeroed((size_t)n_workers, sizeof *job.workspace) };
    qcnn_status status =
        job.workspace && new_matrices(n_workers, c * c * sizeof(double), &job.root) ? QCNN_OK : qcnn_fail_memory(error, c * c);
    for (int i = 0; status == QCNN_OK && i < n_workers; i++) {
        status = qcnn_kmeans_new(qcnn_codebook_n_columns(s->form), s->form->subspace, s->form->n_codewords, &job.workspace[i], error);
        if (status == QCNN_OK)
            job.workspace[i]->max_iterations = s->trained ? TRAINED_ITERATIONS : ITERATIONS;
    }
    if (status == QCNN_OK)
        qcnn_for(s->options->parallel, n, start_subspace, &job);
    for (int i = 0; job.workspace && i < n_workers; i++)
        qcnn_kmeans_free(job.workspace[i]);
    qcnn_release(job.workspace);
    free_matrices(&job.root, n_workers);
    if (status == QCNN_OK && job.failed)
        return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "layer '%s': its inputs cannot be corrected for; leave the layer dense",
                         s->options->name);
    if (status == QCNN_OK && s->options->price > 0)
        qcnn_fit_count_bits(s);
    return status;
}

// ---- the course -----------------------------------------------------------------------------------------------------

// G = U^T U: U over the upper triangle of `factor`, which holds G.
static qcnn_status factorise(const fit_state *s, float *factor, qcnn_error *error)
{
    if (qcnn_cholesky(s->n, factor, (size_t)s->n, s->options->parallel))
        return QCNN_OK;
    return qcnn_fail(error, QCNN_ERROR_UNSUPPORTED, "layer '%s': the moments of its inputs are not positive definite", s->options->name);
}

// A pass that does not need G beside U, which takes its place for a while: both would be 5 GB for the fc6 of VGG-16.
static qcnn_status feedback_in_place(fit_state *s, qcnn_error *error)
{
    const size_t n = (size_t)s->n, groups = (size_t)s->form->groups;
    float *diagonal = qcnn_allocate(groups * n, sizeof *diagonal);
    if (!diagonal)
        return qcnn_fail_memory(error, groups * n * sizeof *diagonal);
    qcnn_status status = QCNN_OK;
    for (size_t g = 0; g < groups; g++)
        for (size_t i = 0; i < n; i++)
            diagonal[g * n + i] = s->problem->gram[g][i * n + i];
    for (size_t g = 0; status == QCNN_OK && g < groups; g++)
        status = factorise(s, s->problem->gram[g], error);
    if (status == QCNN_OK)
        status = qcnn_fit_feedback(s, s->problem->gram, error);
    for (size_t g = 0; g < groups; g++) {
        for (size_t i = 0; i < n; i++)
            s->problem->gram[g][i * n + i] = diagonal[g * n + i];
        qcnn_mirror_lower(s->n, s->problem->gram[g], n, s->options->parallel);
    }
    qcnn_release(diagonal);
    return status;
}

// Passes with joint solves between them, which need G.
static qcnn_status passes_and_solves(fit_state *s, float **factor, qcnn_error *error)
{
    const size_t n_bytes = (size_t)s->n * (size_t)s->n * sizeof(float);
    for (int g = 0; g < s->form->groups; g++) {
        memcpy(factor[g], s->problem->gram[g], n_bytes);
        QCNN_TRY(factorise(s, factor[g], error));
    }
    for (int pass = 0; pass < s->options->n_passes; pass++, s->step++) {
        QCNN_TRY(qcnn_fit_feedback(s, factor, error));
        qcnn_fit_watch(s, "feedback");
        qcnn_fit_steer(s);
        qcnn_fit_find_residual(s);
        QCNN_TRY(qcnn_fit_solve(s, error));
        qcnn_fit_watch(s, "solve");
    }
    return QCNN_OK;
}

static qcnn_status feedback_passes(fit_state *s, qcnn_error *error)
{
    for (int pass = 0; s->trained && pass < s->options->n_passes; pass++, s->step++) {
        QCNN_TRY(feedback_in_place(s, error));
        qcnn_fit_watch(s, "feedback");
        qcnn_fit_steer(s);
    }
    if (s->trained || s->options->n_passes == 0)
        return QCNN_OK;
    float **factor;
    const size_t n_bytes = (size_t)s->n * (size_t)s->n * sizeof(float);
    qcnn_status status = new_matrices(s->form->groups, n_bytes, &factor) ? QCNN_OK : qcnn_fail_memory(error, n_bytes);
    if (status == QCNN_OK)
        status = passes_and_solves(s, factor, error);
    free_matrices(&factor, s->form->groups);
    return status;
}

static qcnn_status descent_sweeps(fit_state *s, qcnn_error *error)
{
    for (int sweep = 0; sweep < s->options->n_sweeps; sweep++, s->step++) {
        qcnn_fit_find_residual(s);
        QCNN_TRY(qcnn_fit_descend(s, error));
        qcnn_fit_watch(s, "descent");
        qcnn_fit_steer(s);
        if (s->trained)
            continue;
        QCNN_TRY(qcnn_fit_solve(s, error));
        qcnn_fit_watch(s, "solve");
    }
    return QCNN_OK;
}

// Assignments in the metric of all outputs together; codewords stay.
static qcnn_status joint_sweeps(fit_state *s, qcnn_error *error)
{
    for (int sweep = 0; s->options->fisher && sweep < s->options->n_joint; sweep++, s->step++) {
        qcnn_fit_find_residual(s);
        QCNN_TRY(qcnn_fit_descend_outputs(s, error));
        qcnn_fit_watch(s, "outputs");
        qcnn_fit_steer(s);
    }
    return QCNN_OK;
}

// Sets codewords that nobody uses to 0, where they do no harm to the scale of the others.
static void clear_unused(fit_state *s, int set, int m)
{
    bool used[QCNN_MAX_CODEWORDS] = { false };
    const int n_groups = s->form->groups / s->form->n_sets;
    for (int g = set * n_groups; g < (set + 1) * n_groups; g++)
        for (int b = m; b < s->n_blocks; b += s->form->n_subspaces)
            for (int o = 0; o < s->n_outputs; o++)
                used[s->assigned[g][(size_t)b * (size_t)s->n_outputs + (size_t)o]] = true;
    float *codeword = fit_codebook(s, set, m);
    for (int k = 0; k < s->form->n_codewords; k++, codeword += s->form->subspace)
        if (!used[k])
            memset(codeword, 0, (size_t)s->form->subspace * sizeof *codeword);
}

// Codewords to what the type of the form can express, and a sweep over the assignments to make up for it; more where their bits are
// still off what they are steered to.
static qcnn_status round_codewords(fit_state *s, qcnn_error *error)
{
    enum { MOST_SWEEPS = 4 };
    if (s->form->codeword_type == QCNN_FLOAT32)
        return QCNN_OK;
    const size_t n = (size_t)s->form->n_codewords * (size_t)s->form->subspace;
    for (int set = 0; set < s->form->n_sets; set++)
        for (int m = 0; m < s->form->n_subspaces; m++) {
            clear_unused(s, set, m);
            if (s->form->codeword_type == QCNN_INT8)
                s->scales[set * s->form->n_subspaces + m] =
                    qcnn_round_int8(fit_codebook(s, set, m), n, qcnn_fit_largest_integer(s, set, m));
            else
                qcnn_round_float16(fit_codebook(s, set, m), n);
        }
    qcnn_fit_decode(s);
    qcnn_fit_watch(s, "round");
    s->frozen = true;
    for (int sweep = 0; sweep < MOST_SWEEPS; sweep++) {
        qcnn_fit_find_residual(s);
        QCNN_TRY(s->options->fisher ? qcnn_fit_descend_outputs(s, error) : qcnn_fit_descend(s, error));
        qcnn_fit_watch(s, "descent");
        if (!qcnn_fit_steer(s))
            break;
    }
    return QCNN_OK;
}

static qcnn_status run(fit_state *s, qcnn_error *error)
{
    const bool annealed = !s->trained && s->options->n_annealing > 0;
    s->n_steps = s->options->n_passes + s->options->n_sweeps + 1 + (annealed ? s->options->n_annealing + FIT_LAST_SWEEPS : 0) +
                 (s->options->fisher ? s->options->n_joint : 0) + (s->form->codeword_type != QCNN_FLOAT32);
    QCNN_TRY(start(s, error));
    qcnn_fit_decode(s);
    qcnn_fit_watch(s, "start");
    if (s->options->started)
        QCNN_TRY(s->options->started(s->options->started_context, s->weights, error));
    s->step = 1;
    QCNN_TRY(feedback_passes(s, error));
    QCNN_TRY(descent_sweeps(s, error));
    if (annealed) {
        QCNN_TRY(qcnn_fit_anneal(s, error));
        qcnn_fit_watch(s, "annealing");
    }
    QCNN_TRY(joint_sweeps(s, error));
    return round_codewords(s, error);
}

// ---- result ---------------------------------------------------------------------------------------------------------

// Numbers the codewords of a codebook by falling use; gives how many are used. order[k]: the k-th most used.
static int order_by_use(const int *counts, int n, int *order)
{
    int n_used = 0;
    for (int k = 0; k < n; k++) {
        int at = k;
        for (; at > 0 && counts[order[at - 1]] < counts[k]; at--)
            order[at] = order[at - 1];
        order[at] = k;
        n_used += counts[k] > 0;
    }
    return n_used;
}

// Copies one codebook, its most used codewords first, with its assignments; gives how many are used.
static int store_codebook(const fit_state *s, int set, int m, float *codewords, uint8_t *assignments)
{
    const qcnn_codebook *form = s->form;
    const size_t ld = (size_t)s->n_outputs, c = (size_t)form->subspace, n_codewords = (size_t)form->n_codewords;
    const int n_groups = form->groups / form->n_sets;
    int counts[QCNN_MAX_CODEWORDS] = { 0 }, order[QCNN_MAX_CODEWORDS];
    uint8_t rank[QCNN_MAX_CODEWORDS];
    for (int g = set * n_groups; g < (set + 1) * n_groups; g++)
        for (int b = m; b < s->n_blocks; b += form->n_subspaces)
            for (size_t o = 0; o < ld; o++)
                counts[s->assigned[g][(size_t)b * ld + o]]++;
    const int n_used = order_by_use(counts, form->n_codewords, order);
    float *to = codewords + ((size_t)set * (size_t)form->n_subspaces + (size_t)m) * n_codewords * c;
    for (int k = 0; k < n_used; k++) {
        rank[order[k]] = (uint8_t)k;
        memcpy(to + (size_t)k * c, fit_codebook(s, set, m) + (size_t)order[k] * c, c * sizeof *to);
    }
    for (int g = set * n_groups; g < (set + 1) * n_groups; g++)
        for (int tap = 0; tap < form->n_taps; tap++)
            for (size_t o = 0; o < ld; o++)
                assignments[(((size_t)g * (size_t)form->n_subspaces + (size_t)m) * (size_t)form->n_taps + (size_t)tap) * ld + o] =
                    rank[s->assigned[g][(size_t)(tap * form->n_subspaces + m) * ld + o]];
    return n_used;
}

static qcnn_status store(fit_state *s, qcnn_tensor *tensor, qcnn_error *error)
{
    const qcnn_codebook *form = s->form;
    const size_t n_books = (size_t)form->n_sets * (size_t)form->n_subspaces, c = (size_t)form->subspace, k = (size_t)form->n_codewords;
    const size_t n_assignments = (size_t)form->groups * (size_t)s->n_blocks * (size_t)s->n_outputs;
    float *codewords = qcnn_allocate_zeroed(n_books * k * c, sizeof(float));
    uint8_t *assignments = qcnn_allocate(n_assignments, 1);
    if (!codewords || !assignments) {
        qcnn_release(codewords);
        qcnn_release(assignments);
        return qcnn_fail_memory(error, n_books * k * c * sizeof(float) + n_assignments);
    }
    int n_used = 1;
    for (int set = 0; set < form->n_sets; set++)
        for (int m = 0; m < form->n_subspaces; m++) {
            const int n = store_codebook(s, set, m, codewords, assignments);
            n_used = n > n_used ? n : n_used;
        }
    for (size_t i = 0; i < n_books && (size_t)n_used < k; i++)
        memmove(codewords + i * (size_t)n_used * c, codewords + i * k * c, (size_t)n_used * c * sizeof *codewords);
    *tensor = (qcnn_tensor){ .codebook = *form, .owned_data = codewords, .owned_assignments = assignments, .error = -1 };
    tensor->codebook.n_codewords = n_used;
    tensor->codebook.codewords = codewords;
    tensor->codebook.assignments = assignments;
    tensor->codebook.scales = tensor->owned_scales = s->scales;
    s->scales = NULL;
    return QCNN_OK;
}

enum { TILE_UNIT = 32 };

// Of a group: as many as there must be, and where they are few, an even number in all, for two threads.
static int count_tiles(const qcnn_codebook *form)
{
    enum { FEW = 8, LEAST = 64 };
    const int n = (form->n_outputs + FIT_TILE - 1) / FIT_TILE, n_all = n * form->groups;
    return n_all % 2 == 1 && n_all < FEW && form->n_outputs >= (n + 1) * LEAST ? n + 1 : n;
}

qcnn_status qcnn_fit(const qcnn_codebook *form, const qcnn_fit_problem *problem, const qcnn_fit_options *options, qcnn_tensor *tensor,
                     qcnn_error *error)
{
    memset(tensor, 0, sizeof *tensor);
    fit_state s = {
        .form = form, .problem = problem, .options = options, .n = problem->n, .n_outputs = form->n_outputs, .current_price = options->price
    };
    s.n_blocks = form->n_taps * form->n_subspaces;
    s.n_tiles = count_tiles(form);
    s.tile = (size_t)(form->n_outputs + s.n_tiles - 1) / (size_t)s.n_tiles;
    s.tile = (s.tile + TILE_UNIT - 1) / TILE_UNIT * TILE_UNIT;
    s.n_tiles = (form->n_outputs + (int)s.tile - 1) / (int)s.tile; // rounding up may have left none for the last
    s.padded = (size_t)s.n_tiles * s.tile;
    s.panel_rows = form->subspace > FIT_PANEL ? form->subspace : FIT_PANEL;
    s.trained = form->n_taps == 1 && form->n_sets == form->groups;
    qcnn_status status = allocate_state(&s, error);
    if (status == QCNN_OK)
        status = run(&s, error);
    if (status == QCNN_OK)
        status = store(&s, tensor, error);
    free_state(&s);
    return status;
}
