// SPDX-License-Identifier: Apache-2.0
// Calibrated ranges. A copy of the network gives out all values that it computes. Each sample's extremes are kept: the
// least of all and what nine in ten stay below become the range, four fifths of the latter the peaks of tables.

#include "compress/ranges.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "kernels/kernels.h"
#include "model/container.h"

enum { N_SAMPLES = 256, SAMPLES_PER_WORKER = 4, PIXELS = 256 }; // per worker: between two reports of progress

// A codebook that a convolution reads.
typedef struct peak_book {
    const qcnn_codebook *codebook; // NULL: the tensor is none
    size_t first, n;               // of its peaks among all
    float *norms;                  // [n_sets][M]: the largest squared norm of a codeword
} peak_book;

typedef struct range_worker {
    qcnn_session *session;
    float *input, **outputs;
    float *column; // the inputs of a subspace at one position
} range_worker;

typedef struct range_job {
    const qcnn_samples *samples;
    qcnn_model *traced;     // the copy
    int *places;            // [n_values]: which output of it gives the value, or -1
    peak_book *books;       // [n_tensors]
    size_t n_peaks, widest; // of all codebooks: peaks, and the widest subspace
    float *lows, *highs;    // [n_values][N_SAMPLES]
    float *peaks;           // [n_peaks][N_SAMPLES]
    range_worker *workers;
    int n_workers, first; // first: sample of the block
    qcnn_error *errors;   // [samples of a block]
} range_job;

// ---- the copy -------------------------------------------------------------------------------------------------------

// Every value that a node writes becomes an output.
static qcnn_status trace_all(range_job *job, const qcnn_model *model, const char *kernels, qcnn_error *error)
{
    QCNN_TRY(qcnn_model_copy(model, &job->traced, error));
    qcnn_model *traced = job->traced;
    traced->exact = true;
    traced->n_outputs = 0;
    job->places = qcnn_allocate(model->n_values, sizeof *job->places);
    job->lows = qcnn_allocate_zeroed(model->n_values, N_SAMPLES * sizeof *job->lows);
    job->highs = qcnn_allocate_zeroed(model->n_values, N_SAMPLES * sizeof *job->highs);
    if (!job->places || !job->lows || !job->highs)
        return qcnn_fail_memory(error, model->n_values * N_SAMPLES * sizeof *job->lows);
    for (size_t v = 0; v < model->n_values; v++)
        job->places[v] = -1;
    for (size_t n = 0; n < model->n_nodes; n++) {
        job->places[model->nodes[n].output] = (int)traced->n_outputs;
        QCNN_TRY(qcnn_model_add_output(traced, model->nodes[n].output, error));
    }
    return qcnn_model_prepare(traced, kernels, error);
}

static float largest_norm(const qcnn_codebook *book, size_t set, size_t m)
{
    const size_t width = (size_t)book->subspace, n_codewords = (size_t)book->n_codewords;
    const float *words = book->codewords + (set * (size_t)book->n_subspaces + m) * n_codewords * width;
    float largest = 0;
    for (size_t k = 0; k < n_codewords; k++) {
        float norm = 0;
        for (size_t c = 0; c < width; c++)
            norm += words[k * width + c] * words[k * width + c];
        largest = norm > largest ? norm : largest;
    }
    return largest;
}

static qcnn_status list_books(range_job *job, qcnn_error *error)
{
    const qcnn_model *traced = job->traced;
    job->books = qcnn_allocate_zeroed(traced->n_tensors, sizeof *job->books);
    if (!job->books)
        return qcnn_fail_memory(error, traced->n_tensors * sizeof *job->books);
    for (size_t n = 0; n < traced->n_nodes; n++) {
        const qcnn_tensor *weights = qcnn_node_weights(traced, &traced->nodes[n]);
        if (traced->nodes[n].op != QCNN_OP_CONV || !weights || !qcnn_is_codebook(weights))
            continue;
        const qcnn_codebook *codebook = &weights->codebook;
        peak_book *book = &job->books[weights - traced->tensors];
        if (book->codebook)
            continue; // two convolutions share it
        const size_t n_subspaces = (size_t)codebook->n_subspaces, n_norms = (size_t)codebook->n_sets * n_subspaces;
        *book = (peak_book){ .codebook = codebook, .first = job->n_peaks, .n = (size_t)codebook->groups * n_subspaces };
        book->norms = qcnn_allocate(n_norms, sizeof *book->norms);
        if (!book->norms)
            return qcnn_fail_memory(error, n_norms * sizeof *book->norms);
        for (size_t i = 0; i < n_norms; i++)
            book->norms[i] = largest_norm(codebook, i / n_subspaces, i % n_subspaces);
        job->n_peaks += book->n;
        job->widest = (size_t)codebook->subspace > job->widest ? (size_t)codebook->subspace : job->widest;
    }
    job->peaks = qcnn_allocate_zeroed(job->n_peaks, N_SAMPLES * sizeof *job->peaks);
    return job->peaks ? QCNN_OK : qcnn_fail_memory(error, job->n_peaks * N_SAMPLES * sizeof *job->peaks);
}

// ---- peaks ----------------------------------------------------------------------------------------------------------

// Squared norms of n pixels of `width` channels.
static void pixel_norms(const float *x, size_t plane, size_t width, size_t n, float *norms)
{
    memset(norms, 0, n * sizeof *norms);
    for (size_t c = 0; c < width; c++)
        for (size_t p = 0; p < n; p++)
            norms[p] += x[c * plane + p] * x[c * plane + p];
}

// The largest absolute scalar product of pixel `x` with a codeword.
static float largest_product(const float *x, size_t plane, size_t width, const float *words, const qcnn_codebook *book, float *column)
{
    float largest = 0;
    for (size_t c = 0; c < width; c++)
        column[c] = x[c * plane];
    for (size_t k = 0; k < (size_t)book->n_codewords; k++) {
        float product = 0;
        for (size_t c = 0; c < width; c++)
            product += column[c] * words[k * (size_t)book->subspace + c];
        largest = fabsf(product) > largest ? fabsf(product) : largest;
    }
    return largest;
}

// The largest entry of a subspace: that of the pixel with the largest norm, or of one whose norm, times that of the longest codeword
// (`norm`), exceeds it (Cauchy-Schwarz; the factor covers rounding). Few are left, and which changes nothing.
static float find_peak(const float *x, size_t plane, size_t width, const float *words, const qcnn_codebook *book, float norm, float *column)
{
    float norms[PIXELS], peak = 0, largest = 0;
    size_t brightest = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t first = 0; first < plane; first += PIXELS) {
            const size_t n = plane - first < PIXELS ? plane - first : PIXELS;
            pixel_norms(x + first, plane, width, n, norms);
            for (size_t p = 0; p < n; p++) {
                if (pass == 0 && norms[p] > largest) {
                    largest = norms[p];
                    brightest = first + p;
                } else if (pass == 1 && norms[p] * norm * 1.001F > peak * peak) {
                    const float product = largest_product(x + first + p, plane, width, words, book, column);
                    peak = product > peak ? product : peak;
                }
            }
        }
        if (pass == 0)
            peak = largest_product(x + brightest, plane, width, words, book, column);
    }
    return peak;
}

// Raises the peaks of sample `index` to those of a convolution with input `x`, of `plane` positions.
static void raise_peaks(const range_job *job, const peak_book *book, const float *x, size_t plane, float *column, size_t index)
{
    const qcnn_codebook *codebook = book->codebook;
    const size_t n_subspaces = (size_t)codebook->n_subspaces, n_inputs = (size_t)codebook->n_inputs, subspace = (size_t)codebook->subspace;
    for (size_t i = 0; i < book->n; i++) {
        const size_t group = i / n_subspaces, m = i % n_subspaces, set = codebook->n_sets > 1 ? i : m;
        const size_t left = n_inputs - m * subspace, width = left < subspace ? left : subspace;
        const float *words = codebook->codewords + set * (size_t)codebook->n_codewords * subspace;
        const float peak =
            find_peak(x + (group * n_inputs + m * subspace) * plane, plane, width, words, codebook, book->norms[set], column);
        float *kept = &job->peaks[(book->first + i) * N_SAMPLES + index];
        *kept = peak > *kept ? peak : *kept;
    }
}

// ---- samples --------------------------------------------------------------------------------------------------------

static void free_worker(const range_job *job, range_worker *worker)
{
    for (size_t i = 0; worker->outputs && i < job->traced->n_outputs; i++)
        qcnn_release(worker->outputs[i]);
    qcnn_release(worker->outputs);
    qcnn_release(worker->input);
    qcnn_release(worker->column);
    qcnn_session_free(worker->session);
    *worker = (range_worker){ 0 };
}

static qcnn_status make_worker(const range_job *job, range_worker *worker, qcnn_error *error)
{
    const qcnn_model *traced = job->traced;
    QCNN_TRY(qcnn_session_create(traced, NULL, &worker->session, error));
    worker->input = qcnn_allocate(job->samples->n_elements, sizeof *worker->input);
    worker->outputs = qcnn_allocate_zeroed(traced->n_outputs, sizeof *worker->outputs);
    worker->column = qcnn_allocate(job->widest, sizeof *worker->column);
    if (!worker->input || !worker->outputs || !worker->column)
        return qcnn_fail_memory(error, job->samples->n_elements * sizeof *worker->input);
    for (size_t i = 0; i < traced->n_outputs; i++) {
        const size_t n = (size_t)qcnn_shape_elements(&traced->values[traced->outputs[i]].shape);
        worker->outputs[i] = qcnn_allocate(n, sizeof(float));
        if (!worker->outputs[i])
            return qcnn_fail_memory(error, n * sizeof(float));
    }
    return QCNN_OK;
}

static const float *data_of(const range_job *job, const range_worker *worker, int value)
{
    if (job->places[value] >= 0)
        return worker->outputs[job->places[value]];
    const int tensor = job->traced->values[value].tensor;
    return tensor >= 0 ? job->traced->tensors[tensor].data : worker->input;
}

static void keep_extremes(const range_job *job, const range_worker *worker, size_t index)
{
    const qcnn_model *traced = job->traced;
    for (size_t v = 0; v < traced->n_values; v++) {
        if (job->places[v] < 0 && traced->inputs[0] != (int)v)
            continue;
        float low = INFINITY, high = -INFINITY;
        traced->kernels->range(data_of(job, worker, (int)v), (size_t)qcnn_shape_elements(&traced->values[v].shape), &low, &high);
        job->lows[v * N_SAMPLES + index] = low;
        job->highs[v * N_SAMPLES + index] = high;
    }
    for (size_t n = 0; n < traced->n_nodes; n++) {
        const qcnn_node *node = &traced->nodes[n];
        const qcnn_tensor *weights = qcnn_node_weights(traced, node);
        const peak_book *book = weights ? &job->books[weights - traced->tensors] : NULL;
        const qcnn_shape *shape = &traced->values[node->inputs[0]].shape;
        if (!book || !book->codebook || node->op != QCNN_OP_CONV)
            continue;
        const size_t n_channels = (size_t)shape->dims[1], plane = (size_t)qcnn_shape_elements(shape) / (size_t)shape->dims[0] / n_channels;
        for (size_t image = 0; image < (size_t)shape->dims[0]; image++)
            raise_peaks(job, book, data_of(job, worker, node->inputs[0]) + image * n_channels * plane, plane, worker->column, index);
    }
}

static qcnn_status run_sample(const range_job *job, int index, range_worker *worker, qcnn_error *error)
{
    if (!worker->session) {
        const qcnn_status status = make_worker(job, worker, error);
        if (status != QCNN_OK) {
            free_worker(job, worker);
            return status;
        }
    }
    QCNN_TRY(qcnn_samples_read(job->samples, QCNN_PART_FIT, index, worker->input, error));
    qcnn_run(worker->session, (const float *const[]){ worker->input }, worker->outputs);
    keep_extremes(job, worker, (size_t)index);
    return QCNN_OK;
}

static void sample_task(void *argument, int index, int worker)
{
    const range_job *job = argument;
    job->errors[index].status = QCNN_OK;
    job->errors[index].status = run_sample(job, job->first + index, &job->workers[worker], &job->errors[index]);
}

static qcnn_status report(const qcnn_progress *progress, double fraction, qcnn_error *error)
{
    if (progress && progress->report && progress->report(progress->context, "ranges", fraction))
        return qcnn_fail(error, QCNN_ERROR_CANCELLED, "cancelled while looking for the ranges of activations");
    return QCNN_OK;
}

static qcnn_status run_samples(range_job *job, const qcnn_parallel *parallel, const qcnn_progress *progress, qcnn_error *error)
{
    const int block = job->n_workers * SAMPLES_PER_WORKER;
    job->workers = qcnn_allocate_zeroed((size_t)job->n_workers, sizeof *job->workers);
    job->errors = qcnn_allocate((size_t)block, sizeof *job->errors);
    if (!job->workers || !job->errors)
        return qcnn_fail_memory(error, (size_t)block * sizeof *job->errors);
    for (job->first = 0; job->first < N_SAMPLES; job->first += block) {
        QCNN_TRY(report(progress, (double)job->first / N_SAMPLES, error));
        const int n = N_SAMPLES - job->first < block ? N_SAMPLES - job->first : block;
        qcnn_for(parallel, n, sample_task, job);
        for (int i = 0; i < n; i++)
            if (job->errors[i].status != QCNN_OK)
                return qcnn_fail(error, job->errors[i].status, "%s", job->errors[i].message);
    }
    return report(progress, 1, error);
}

// ---- choosing -------------------------------------------------------------------------------------------------------

static int compare_floats(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

// What nine samples in ten stay within, or all where that is no more than `nothing`. The largest of all would make the step too coarse
// for most of them; the others lose little, since few of their elements are cut (docs/method.md).
static float usual(float *of_samples, float nothing)
{
    qsort(of_samples, N_SAMPLES, sizeof *of_samples, compare_floats);
    const float chosen = of_samples[N_SAMPLES * 9 / 10];
    return chosen > nothing ? chosen : of_samples[N_SAMPLES - 1];
}

static void choose_ranges(const range_job *job, qcnn_model *model)
{
    for (size_t v = 0; v < model->n_values; v++) {
        float low = job->lows[v * N_SAMPLES]; // of all of them: whether a value is ever negative decides how it can be kept
        for (size_t i = 1; i < N_SAMPLES; i++)
            low = fminf(low, job->lows[v * N_SAMPLES + i]);
        const float high = usual(job->highs + v * N_SAMPLES, low);
        if (low >= -QCNN_MAX_SCALE && low < high && high <= QCNN_MAX_SCALE) {
            model->values[v].low = low;
            model->values[v].high = high;
        }
    }
}

// Of the usual largest entry: entries above are few and are cut, all others get a finer step (measured: docs/method.md).
static const float PEAK_SHARE = 0.8F;

static qcnn_status choose_peaks(const range_job *job, qcnn_model *model, qcnn_error *error)
{
    for (size_t t = 0; t < model->n_tensors; t++) {
        const peak_book *book = &job->books[t];
        if (!book->codebook)
            continue;
        float *peaks = qcnn_allocate(book->n, sizeof *peaks), largest = 0;
        if (!peaks)
            return qcnn_fail_memory(error, book->n * sizeof *peaks);
        for (size_t i = 0; i < book->n; i++) {
            peaks[i] = PEAK_SHARE * usual(job->peaks + (book->first + i) * N_SAMPLES, 0);
            largest = peaks[i] > largest ? peaks[i] : largest;
        }
        if (largest <= QCNN_MAX_SCALE)
            model->tensors[t].codebook.peaks = model->tensors[t].owned_peaks = peaks;
        else
            qcnn_release(peaks);
    }
    return QCNN_OK;
}

static void clear_job(range_job *job)
{
    for (int w = 0; job->workers && w < job->n_workers; w++)
        free_worker(job, &job->workers[w]);
    for (size_t t = 0; job->books && t < job->traced->n_tensors; t++)
        qcnn_release(job->books[t].norms);
    qcnn_release(job->workers);
    qcnn_release(job->errors);
    qcnn_release(job->books);
    qcnn_release(job->places);
    qcnn_release(job->lows);
    qcnn_release(job->highs);
    qcnn_release(job->peaks);
    qcnn_model_free(job->traced);
}

static qcnn_status find_ranges(qcnn_model *model, const char *kernels, const qcnn_samples *samples, const qcnn_parallel *parallel,
                               const qcnn_progress *progress, qcnn_error *error)
{
    range_job job = { .samples = samples, .n_workers = qcnn_n_workers(parallel) };
    qcnn_status status = trace_all(&job, model, kernels, error);
    if (status == QCNN_OK)
        status = list_books(&job, error);
    if (status == QCNN_OK)
        status = run_samples(&job, parallel, progress, error);
    if (status == QCNN_OK) {
        choose_ranges(&job, model);
        status = choose_peaks(&job, model, error);
    }
    clear_job(&job);
    return status;
}

qcnn_status qcnn_find_ranges(qcnn_model *model, const char *kernels, const qcnn_dataset *images, const qcnn_calibrate_options *options,
                             qcnn_error *error)
{
    qcnn_samples samples;
    qcnn_model_forget_ranges(model);
    QCNN_TRY(qcnn_samples_open(model, images, options->preprocess, options->seed, &samples, error));
    kernels = *kernels ? kernels : NULL;
    qcnn_status status = find_ranges(model, kernels, &samples, options->parallel, options->progress, error);
    qcnn_samples_close(&samples);
    if (status != QCNN_OK)
        qcnn_model_forget_ranges(model);
    return status == QCNN_OK ? qcnn_model_prepare(model, kernels, error) : status;
}

uint64_t qcnn_ranges_bytes(const qcnn_model *model)
{
    uint64_t n = QCNN_ENTRY_BYTES + 8 + 12 * (model->n_nodes + model->n_inputs);
    for (size_t i = 0; i < model->n_nodes; i++) {
        const qcnn_tensor *weights = qcnn_node_weights(model, &model->nodes[i]);
        if (model->nodes[i].op == QCNN_OP_CONV && weights && qcnn_is_codebook(weights))
            n += 4 + 4 * (uint64_t)weights->codebook.groups * (uint64_t)weights->codebook.n_subspaces;
    }
    return n;
}

// ---- public ---------------------------------------------------------------------------------------------------------

qcnn_calibrate_options qcnn_calibrate_options_default(void)
{
    return (qcnn_calibrate_options){ .size = sizeof(qcnn_calibrate_options) };
}

int qcnn_model_calibrated(const qcnn_model *model)
{
    return qcnn_model_has_ranges(model);
}

qcnn_status qcnn_calibrate(const qcnn_model *model, const qcnn_dataset *images, const qcnn_calibrate_options *options,
                           qcnn_model **calibrated, qcnn_error *error)
{
    const qcnn_calibrate_options defaults = qcnn_calibrate_options_default();
    *calibrated = NULL;
    if (!options)
        options = &defaults;
    if (!model || !images || options->size != sizeof *options)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "give a model and images, and start from qcnn_calibrate_options_default");
    if (!qcnn_model_is_rounded(model))
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "the model is not compressed: it runs in floats, ranges are of no use; compress it");
    QCNN_TRY(qcnn_model_copy(model, calibrated, error));
    (*calibrated)->exact = model->exact;
    const qcnn_status status = qcnn_find_ranges(*calibrated, qcnn_model_kernels(model), images, options, error);
    if (status != QCNN_OK) {
        qcnn_model_free(*calibrated);
        *calibrated = NULL;
    }
    return status;
}
