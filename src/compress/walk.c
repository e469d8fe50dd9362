// SPDX-License-Identifier: Apache-2.0
// Walking samples through a network. A stretch is run by itself (stretch.h); a fully-connected layer at its start is a matrix product
// over many samples instead, because one sample at a time would read all its weights again and again.

#include "compress/walk.h"

#include <stdatomic.h>
#include <string.h>

#include "base/parallel.h"
#include "compress/gemm_bf16.h"
#include "compress/half.h"
#include "compress/stretch.h"
#include "kernels/kernels.h"

enum { MAX_CHUNK = 256 };
static const size_t chunk_floats = 16 << 20;

// A value of all samples; several stops may share one.
typedef struct kept_value {
    int value, n_users;
    size_t n_elements;
    uint16_t *data; // [sample][n_elements]
} kept_value;

typedef struct stop {
    size_t node; // nodes before it have been run
    kept_value **kept;
    int n_kept;
} stop;

struct qcnn_walk {
    const qcnn_model *model;
    qcnn_walk_samples samples;
    const qcnn_parallel *parallel;
    stop base;
    // the stretch under way
    size_t node;       // where it ends
    int x, chunk;      // the value that becomes known; samples at once
    size_t n_elements; // of one sample of it
    bool keep;
    stop next;                   // filled while keeping; shares what it can with base
    qcnn_stretch *stretch;       // its nodes; NULL: none but what follows
    const qcnn_node *fc;         // the fully-connected layer at its start, or NULL
    float *fc_weights;           // decoded; NULL: those of the model
    float *fc_input, *fc_output; // [chunk][rows * inputs], [chunk][rows * outputs]
    float *inputs;               // [chunk][n_elements]
    qcnn_error *errors;          // [chunk]
    int first, n;                // of the chunk
    atomic_int n_taken;          // of its samples
};

static int n_samples(const qcnn_walk *walk)
{
    return walk->samples.n[0] + walk->samples.n[1];
}

static size_t elements_of(const qcnn_walk *walk, int value)
{
    return (size_t)qcnn_shape_elements(&walk->model->values[value].shape);
}

// ---- stops ----------------------------------------------------------------------------------------------------------

static void release_kept(kept_value *kept)
{
    if (!kept || --kept->n_users > 0)
        return;
    qcnn_release(kept->data);
    qcnn_release(kept);
}

static void clear_stop(stop *s)
{
    for (int i = 0; i < s->n_kept; i++)
        release_kept(s->kept[i]);
    qcnn_release(s->kept);
    *s = (stop){ 0 };
}

static kept_value *find_kept(const stop *s, int value)
{
    for (int i = 0; i < s->n_kept; i++)
        if (s->kept[i]->value == value)
            return s->kept[i];
    return NULL;
}

static bool is_graph_input(const qcnn_model *model, int value)
{
    return model->inputs[0] == value;
}

// Whether a value is known before node `node` and read by it or one behind it. Constants are none of ours.
static bool is_live(const qcnn_model *model, int value, size_t node)
{
    if (model->values[value].tensor >= 0)
        return false;
    bool known = is_graph_input(model, value), read = false;
    for (size_t n = 0; n < model->n_nodes; n++) {
        known = known || (n < node && model->nodes[n].output == value);
        for (int i = 0; n >= node && i < model->nodes[n].n_inputs; i++)
            read = read || model->nodes[n].inputs[i] == value;
    }
    return known && read;
}

uint64_t qcnn_walk_sample_bytes(const qcnn_walk *walk, size_t node)
{
    uint64_t bytes = 0;
    for (size_t v = 0; v < walk->model->n_values; v++)
        if (!is_graph_input(walk->model, (int)v) && is_live(walk->model, (int)v, node))
            bytes += 2 * (uint64_t)elements_of(walk, (int)v);
    return bytes;
}

static qcnn_status new_kept(const qcnn_walk *walk, int value, kept_value **result, qcnn_error *error)
{
    kept_value *kept = qcnn_allocate_zeroed(1, sizeof *kept);
    if (!kept)
        return qcnn_fail_memory(error, sizeof *kept);
    *kept = (kept_value){ .value = value, .n_users = 1, .n_elements = elements_of(walk, value) };
    kept->data = qcnn_allocate((size_t)n_samples(walk) * kept->n_elements, sizeof *kept->data);
    if (!kept->data) {
        qcnn_release(kept);
        return qcnn_fail_memory(error, (size_t)n_samples(walk) * elements_of(walk, value) * sizeof(uint16_t));
    }
    *result = kept;
    return QCNN_OK;
}

// The stop before walk->node: shares what base has, and makes room for the rest.
static qcnn_status plan_next(qcnn_walk *walk, qcnn_error *error)
{
    const qcnn_model *model = walk->model;
    walk->next = (stop){ .node = walk->node, .kept = qcnn_allocate_zeroed(model->n_values, sizeof(kept_value *)) };
    if (!walk->next.kept)
        return qcnn_fail_memory(error, model->n_values * sizeof(kept_value *));
    for (size_t v = 0; v < model->n_values; v++) {
        if (is_graph_input(model, (int)v) || !is_live(model, (int)v, walk->node))
            continue;
        kept_value *kept = find_kept(&walk->base, (int)v);
        if (kept)
            kept->n_users++;
        else
            QCNN_TRY(new_kept(walk, (int)v, &kept, error));
        walk->next.kept[walk->next.n_kept++] = kept;
    }
    return QCNN_OK;
}

// ---- the stretch ----------------------------------------------------------------------------------------------------

// Whether a value is wanted from the stretch: the next node's input, or what is kept and was not before.
static bool is_wanted(const qcnn_walk *walk, int value)
{
    return value == walk->x || (walk->keep && find_kept(&walk->next, value) && !find_kept(&walk->base, value));
}

static qcnn_status build_stretch(qcnn_walk *walk, size_t first, qcnn_error *error)
{
    if (first == walk->node)
        return QCNN_OK;
    bool *wanted = qcnn_allocate(walk->model->n_values, sizeof *wanted);
    if (!wanted)
        return qcnn_fail_memory(error, walk->model->n_values);
    for (size_t v = 0; v < walk->model->n_values; v++)
        wanted[v] = is_wanted(walk, (int)v);
    const qcnn_status status = qcnn_stretch_new(walk->model, first, walk->node, wanted, walk->parallel, &walk->stretch, error);
    qcnn_release(wanted);
    return status;
}

// ---- a fully-connected layer at the start ---------------------------------------------------------------------------

// It must have constant weights and read something kept, with nothing between.
static const qcnn_node *leading_fc(const qcnn_walk *walk)
{
    const qcnn_node *node = &walk->model->nodes[walk->base.node];
    if (walk->base.node == walk->node || node->op != QCNN_OP_FC || !qcnn_node_weights(walk->model, node) ||
        !find_kept(&walk->base, node->inputs[0]) || (node->n_inputs > 2 && node->inputs[2] >= 0 && !qcnn_node_bias(walk->model, node)))
        return NULL;
    return node;
}

static qcnn_status begin_fc(qcnn_walk *walk, qcnn_error *error)
{
    const qcnn_tensor *weights = qcnn_node_weights(walk->model, walk->fc);
    const size_t n_in = elements_of(walk, walk->fc->inputs[0]), n_out = elements_of(walk, walk->fc->output);
    walk->fc_input = qcnn_allocate((size_t)walk->chunk * n_in, sizeof(float));
    walk->fc_output = qcnn_allocate((size_t)walk->chunk * n_out, sizeof(float));
    if (!walk->fc_input || !walk->fc_output)
        return qcnn_fail_memory(error, (size_t)walk->chunk * (n_in + n_out) * sizeof(float));
    if (!qcnn_is_codebook(weights))
        return QCNN_OK;
    const size_t n = (size_t)qcnn_shape_elements(&weights->shape);
    walk->fc_weights = qcnn_allocate(n, sizeof(float));
    if (!walk->fc_weights)
        return qcnn_fail_memory(error, n * sizeof(float));
    qcnn_codebook_decode(&weights->codebook, walk->fc_weights);
    return QCNN_OK;
}

static qcnn_status run_fc(qcnn_walk *walk, int n, qcnn_error *error)
{
    const qcnn_tensor *weights = qcnn_node_weights(walk->model, walk->fc), *bias = qcnn_node_bias(walk->model, walk->fc);
    const kept_value *x = find_kept(&walk->base, walk->fc->inputs[0]);
    const size_t n_in = (size_t)weights->shape.dims[1], n_out = (size_t)weights->shape.dims[0], n_rows = (size_t)n * (x->n_elements / n_in);
    qcnn_half_values(x->data + (size_t)walk->first * x->n_elements, walk->fc_input, (size_t)n * x->n_elements);
    for (size_t row = 0; row < n_rows; row++)
        for (size_t o = 0; o < n_out; o++)
            walk->fc_output[row * n_out + o] = bias ? bias->data[o] : 0;
    const qcnn_gemm_call call = { .transpose_b = true,
                                  .m = (int)n_rows,
                                  .n = (int)n_out,
                                  .k = (int)n_in,
                                  .alpha = 1,
                                  .beta = 1,
                                  .a = walk->fc_input,
                                  .lda = n_in,
                                  .b = walk->fc_weights ? walk->fc_weights : weights->data,
                                  .ldb = n_in,
                                  .c = walk->fc_output,
                                  .ldc = n_out };
    QCNN_TRY(qcnn_gemm_fast(&call, walk->parallel, error));
    if (walk->fc->attributes.activation.function != QCNN_IDENTITY)
        qcnn_kernels_find(NULL)->activate(&walk->fc->attributes.activation, walk->fc_output, walk->fc_output, n_rows * n_out);
    return QCNN_OK;
}

// ---- samples --------------------------------------------------------------------------------------------------------

static qcnn_status read_image(const qcnn_walk *walk, int sample, float *tensor, qcnn_error *error)
{
    const qcnn_walk_samples *samples = &walk->samples;
    if (sample < samples->n[0])
        return qcnn_samples_read(samples->source, QCNN_PART_FIT, (int64_t)samples->first + sample, tensor, error);
    return qcnn_samples_read(samples->source, QCNN_PART_HELD_OUT, sample - samples->n[0], tensor, error);
}

// A value that is known without running a session, of one sample.
static qcnn_status read_value(const qcnn_walk *walk, int value, int sample, float *tensor, qcnn_error *error)
{
    const size_t n = elements_of(walk, value);
    const kept_value *kept = find_kept(&walk->base, value);
    if (kept)
        qcnn_half_values(kept->data + (size_t)sample * n, tensor, n);
    else if (walk->fc && walk->fc->output == value)
        memcpy(tensor, walk->fc_output + (size_t)(sample - walk->first) * n, n * sizeof *tensor);
    else
        return read_image(walk, sample, tensor, error);
    return QCNN_OK;
}

static void keep_value(const qcnn_walk *walk, int value, int sample, const float *tensor)
{
    const kept_value *kept = walk->keep ? find_kept(&walk->next, value) : NULL;
    if (kept && !find_kept(&walk->base, value))
        qcnn_halves_of(tensor, kept->data + (size_t)sample * kept->n_elements, kept->n_elements);
}

static qcnn_status walk_sample(qcnn_walk *walk, int sample, int lane, qcnn_error *error)
{
    float *x = walk->inputs + (size_t)(sample - walk->first) * walk->n_elements;
    const float *found = NULL;
    if (walk->stretch) {
        for (size_t v = 0; v < walk->model->n_values; v++)
            if (qcnn_stretch_reads(walk->stretch, (int)v))
                QCNN_TRY(read_value(walk, (int)v, sample, qcnn_stretch_value(walk->stretch, (int)v, lane), error));
        qcnn_stretch_run(walk->stretch, lane);
        for (size_t v = 0; v < walk->model->n_values; v++)
            if (is_wanted(walk, (int)v) && qcnn_stretch_value(walk->stretch, (int)v, lane) && !qcnn_stretch_reads(walk->stretch, (int)v))
                keep_value(walk, (int)v, sample, qcnn_stretch_value(walk->stretch, (int)v, lane));
        found = qcnn_stretch_reads(walk->stretch, walk->x) ? NULL : qcnn_stretch_value(walk->stretch, walk->x, lane);
    }
    if (found)
        memcpy(x, found, walk->n_elements * sizeof *x);
    else
        QCNN_TRY(read_value(walk, walk->x, sample, x, error));
    if (walk->fc && is_wanted(walk, walk->fc->output))
        keep_value(walk, walk->fc->output, sample, walk->fc_output + (size_t)(sample - walk->first) * elements_of(walk, walk->fc->output));
    return QCNN_OK;
}

// The samples of a chunk that no other lane has taken.
static void walk_lane(void *argument, int lane, int worker)
{
    (void)worker;
    qcnn_walk *walk = argument;
    for (int i; (i = atomic_fetch_add(&walk->n_taken, 1)) < walk->n;)
        walk->errors[i].status = walk_sample(walk, walk->first + i, lane, &walk->errors[i]);
}

// ---- public ---------------------------------------------------------------------------------------------------------

qcnn_status qcnn_walk_new(const qcnn_model *model, const qcnn_walk_samples *samples, const qcnn_parallel *parallel, qcnn_walk **result,
                          qcnn_error *error)
{
    *result = NULL;
    qcnn_walk *walk = qcnn_allocate_zeroed(1, sizeof *walk);
    if (!walk)
        return qcnn_fail_memory(error, sizeof *walk);
    walk->model = model;
    walk->samples = *samples;
    walk->parallel = parallel;
    *result = walk;
    return QCNN_OK;
}

qcnn_status qcnn_walk_fork(const qcnn_walk *walk, const qcnn_model *model, qcnn_walk **result, qcnn_error *error)
{
    QCNN_TRY(qcnn_walk_new(model, &walk->samples, walk->parallel, result, error));
    qcnn_walk *fork = *result;
    fork->base = (stop){ .node = walk->base.node, .kept = qcnn_allocate((size_t)walk->base.n_kept, sizeof(kept_value *)) };
    if (!fork->base.kept) {
        qcnn_walk_free(fork);
        *result = NULL;
        return qcnn_fail_memory(error, (size_t)walk->base.n_kept * sizeof(kept_value *));
    }
    for (int i = 0; i < walk->base.n_kept; i++) {
        walk->base.kept[i]->n_users++;
        fork->base.kept[fork->base.n_kept++] = walk->base.kept[i];
    }
    return QCNN_OK;
}

// What a stretch needs beyond base and next.
static void free_stretch(qcnn_walk *walk)
{
    qcnn_stretch_free(walk->stretch);
    qcnn_release(walk->fc_weights);
    qcnn_release(walk->fc_input);
    qcnn_release(walk->fc_output);
    qcnn_release(walk->inputs);
    qcnn_release(walk->errors);
    walk->stretch = NULL;
    walk->fc = NULL;
    walk->fc_weights = walk->fc_input = walk->fc_output = walk->inputs = NULL;
    walk->errors = NULL;
}

void qcnn_walk_free(qcnn_walk *walk)
{
    if (!walk)
        return;
    free_stretch(walk);
    clear_stop(&walk->next);
    clear_stop(&walk->base);
    qcnn_release(walk);
}

qcnn_status qcnn_walk_begin(qcnn_walk *walk, size_t node, uint64_t keep_bytes, qcnn_error *error)
{
    walk->node = node;
    walk->x = walk->model->nodes[node].inputs[0];
    walk->n_elements = elements_of(walk, walk->x);
    const size_t fitting = chunk_floats / walk->n_elements;
    walk->chunk = fitting < 1 ? 1 : fitting > MAX_CHUNK ? MAX_CHUNK : (int)fitting;
    uint64_t bytes;
    walk->keep = !__builtin_mul_overflow(qcnn_walk_sample_bytes(walk, node), (uint64_t)n_samples(walk), &bytes) && bytes <= keep_bytes &&
                 keep_bytes > 0;
    if (walk->keep)
        QCNN_TRY(plan_next(walk, error));
    walk->fc = leading_fc(walk);
    if (walk->fc)
        QCNN_TRY(begin_fc(walk, error));
    QCNN_TRY(build_stretch(walk, walk->base.node + (walk->fc ? 1 : 0), error));
    walk->inputs = qcnn_allocate((size_t)walk->chunk * walk->n_elements, sizeof(float));
    walk->errors = qcnn_allocate_zeroed((size_t)walk->chunk, sizeof *walk->errors);
    if (!walk->inputs || !walk->errors)
        return qcnn_fail_memory(error, (size_t)walk->chunk * walk->n_elements * sizeof(float));
    return QCNN_OK;
}

size_t qcnn_walk_n_elements(const qcnn_walk *walk)
{
    return walk->n_elements;
}

int qcnn_walk_chunk_size(const qcnn_walk *walk)
{
    return walk->chunk;
}

qcnn_status qcnn_walk_chunk(qcnn_walk *walk, int first, int n, qcnn_error *error)
{
    walk->first = first;
    walk->n = n;
    atomic_store(&walk->n_taken, 0);
    if (walk->fc)
        QCNN_TRY(run_fc(walk, n, error));
    qcnn_for(walk->parallel, walk->stretch ? qcnn_stretch_n_lanes(walk->stretch) : qcnn_n_workers(walk->parallel), walk_lane, walk);
    for (int i = 0; i < n; i++)
        if (walk->errors[i].status != QCNN_OK)
            return qcnn_fail(error, walk->errors[i].status, "%s", walk->errors[i].message);
    return QCNN_OK;
}

const float *qcnn_walk_input(const qcnn_walk *walk, int sample)
{
    return walk->inputs + (size_t)(sample - walk->first) * walk->n_elements;
}

void qcnn_walk_end(qcnn_walk *walk)
{
    free_stretch(walk);
    if (!walk->keep)
        return;
    clear_stop(&walk->base);
    walk->base = walk->next;
    walk->next = (stop){ 0 };
    walk->keep = false;
}
