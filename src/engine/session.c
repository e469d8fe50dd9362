// SPDX-License-Identifier: Apache-2.0
// Sessions: all shapes, buffers and scratch of a run are fixed when the session is made; a run binds the caller's tensors
// and walks the steps.
//
// Everything the engine (base, model, kernels, engine) wants from its platform, beyond reading a file:
//   libc: aligned_alloc and free (or the caller's allocator), memcpy, memset, memcmp, strcmp, strlen, snprintf, vsnprintf
//   libm: expf, expm1f, logf, powf, sqrtf, tanhf, fabsf
//
// Where a value lives: constants in the model, graph inputs in the caller's buffers, the first value behind each graph
// output in the caller's buffer for it, everything else in one arena. A view shares the memory of what it views. What is only
// concatenated along its outermost dimension is written into its place in the concatenation, which then never runs. What a
// graph output names but does not own (a graph input, a constant, the memory of another output) is copied after the run.

#include <string.h>

#include "base/checked.h"
#include "engine/layers.h"
#include "engine/session_plan.h"

// A pointer to refresh at the start of a run, because it points into a buffer of the caller's.
typedef struct binding {
    const float **slot;
    bool to_output; // outputs[port], else inputs[port]
    int port;
} binding;

typedef struct output_port {
    qcnn_step *writer;      // writes the caller's buffer itself; or NULL:
    const float *copy_from; // copied when the run is over
    size_t bytes;
} output_port;

struct qcnn_session {
    const qcnn_model *model;
    qcnn_parallel parallel; // n_workers 1: none
    double (*clock_ms)(void);
    qcnn_shape *shapes;     // of all values
    qcnn_step *steps;       // of all nodes; a view's has no output
    qcnn_operand *operands; // of all steps
    binding *bindings;
    size_t n_bindings;
    output_port *outputs;
    unsigned char *arena;
    size_t arena_bytes;
};

// ---- options and shapes ---------------------------------------------------------------------------------------------

qcnn_session_options qcnn_session_options_default(void)
{
    return (qcnn_session_options){ .size = sizeof(qcnn_session_options), .batch = 1 };
}

// The caller's structure may be of an older, shorter version.
static qcnn_session_options complete_options(const qcnn_session_options *options)
{
    qcnn_session_options complete = qcnn_session_options_default();
    if (options)
        memcpy(&complete, options, options->size < sizeof complete ? options->size : sizeof complete);
    complete.size = sizeof complete;
    return complete;
}

static qcnn_status input_shapes(const qcnn_model *model, const qcnn_session_options *options, qcnn_shape *shapes, qcnn_error *error)
{
    if (!options->input_shapes && options->batch < 1)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "a batch of %d images: give 1 or more", options->batch);
    for (size_t i = 0; i < model->n_inputs; i++) {
        shapes[i] = options->input_shapes ? options->input_shapes[i] : model->values[model->inputs[i]].shape;
        if (shapes[i].rank < 0 || shapes[i].rank > QCNN_MAX_RANK)
            return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "the shape of input %zu has %d dimensions: give 0 to %d", i, shapes[i].rank,
                             QCNN_MAX_RANK);
        if (!options->input_shapes && shapes[i].rank > 0 &&
            __builtin_mul_overflow(shapes[i].dims[0], (int64_t)options->batch, &shapes[i].dims[0]))
            return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "a batch of %d images is too large", options->batch);
        for (int d = 0; d < shapes[i].rank; d++)
            if (shapes[i].dims[d] < 1)
                return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "the shape of input %zu has a dimension below 1", i);
        if (qcnn_shape_elements(&shapes[i]) > SIZE_MAX / 2 / sizeof(float))
            return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "the shape of input %zu has more elements than memory can hold", i);
    }
    return QCNN_OK;
}

static qcnn_status find_shapes(qcnn_session *session, const qcnn_session_options *options, qcnn_error *error)
{
    const qcnn_model *model = session->model;
    qcnn_shape *inputs = qcnn_allocate(model->n_inputs, sizeof *inputs);
    if (!inputs)
        return qcnn_fail_memory(error, model->n_inputs * sizeof *inputs);
    qcnn_status status = input_shapes(model, options, inputs, error);
    if (status == QCNN_OK)
        status = qcnn_infer_shapes(model, inputs, session->shapes, error);
    qcnn_release(inputs);
    if (status != QCNN_ERROR_FORMAT)
        return status;
    if (error) // the model is fine, the shapes asked for are not
        error->status = QCNN_ERROR_ARGUMENT;
    return QCNN_ERROR_ARGUMENT;
}

// ---- planning -------------------------------------------------------------------------------------------------------

static bool is_view_node(const qcnn_session *session, const qcnn_node *node)
{
    return qcnn_is_view(node, &session->shapes[node->inputs[0]], &session->shapes[node->output]);
}

// Who provides, writes and last reads each value's memory.
static void trace_values(const qcnn_session *session, qcnn_session_plan *plan)
{
    const qcnn_model *model = session->model;
    qcnn_value_plan *values = plan->values;
    for (size_t i = 0; i < model->n_values; i++)
        values[i] =
            (qcnn_value_plan){ .root = (int)i, .input = -1, .output = -1, .producer = -1, .first_use = -1, .last_use = -1, .buffer = -1 };
    for (size_t i = 0; i < model->n_inputs; i++)
        values[model->inputs[i]].input = (int)i;
    for (size_t n = 0; n < model->n_nodes; n++) {
        const qcnn_node *node = &model->nodes[n];
        for (int i = 0; i < node->n_inputs; i++)
            if (node->inputs[i] >= 0)
                values[values[node->inputs[i]].root].last_use = (int)n;
        if (is_view_node(session, node))
            values[node->output].root = values[node->inputs[0]].root;
        else
            values[node->output].producer = values[node->output].first_use = values[node->output].last_use = (int)n;
    }
    for (size_t i = 0; i < model->n_outputs; i++) {
        qcnn_value_plan *root = &values[values[model->outputs[i]].root];
        if (root->producer >= 0 && root->output < 0)
            root->output = (int)i;
    }
}

// Whether the inputs of a concatenation can be written into its output: their parts are contiguous there, and each is some
// node's own output, joined nowhere else and no output of the graph.
static bool joins_in_place(const qcnn_session *session, const qcnn_value_plan *values, size_t n)
{
    const qcnn_node *node = &session->model->nodes[n];
    const qcnn_shape *shape = &session->shapes[node->output];
    if (node->op != QCNN_OP_CONCAT || values[node->output].root != node->output || values[node->output].output >= 0)
        return false;
    for (int d = 0; d < node->attributes.axis; d++)
        if (shape->dims[d] != 1)
            return false;
    for (int i = 0; i < node->n_inputs; i++) {
        const qcnn_value_plan *part = &values[node->inputs[i]];
        if (part->root != node->inputs[i] || part->producer < 0 || part->output >= 0 || part->first_use < 0)
            return false;
        for (int j = 0; j < i; j++)
            if (node->inputs[j] == node->inputs[i])
                return false;
    }
    return true;
}

// Gives the parts of such concatenations their places. A part's views follow it.
static void join_values(const qcnn_session *session, qcnn_session_plan *plan)
{
    const qcnn_model *model = session->model;
    qcnn_value_plan *values = plan->values;
    for (size_t n = 0; n < model->n_nodes; n++) {
        if (!joins_in_place(session, values, n))
            continue;
        const int whole = model->nodes[n].output;
        size_t offset = 0;
        for (int i = 0; i < model->nodes[n].n_inputs; i++) {
            const int part = model->nodes[n].inputs[i];
            if (values[part].first_use < values[whole].first_use)
                values[whole].first_use = values[part].first_use;
            for (size_t v = 0; v < model->n_values; v++)
                if (values[v].root == part) {
                    values[v].root = whole;
                    values[v].offset += offset;
                }
            if (values[part].last_use > values[whole].last_use)
                values[whole].last_use = values[part].last_use;
            offset += (size_t)qcnn_shape_elements(&session->shapes[part]);
        }
        plan->joined[n] = true;
    }
}

static int add_buffer(qcnn_session_plan *plan, uint64_t bytes, int first, int last)
{
    if (bytes == 0)
        return -1;
    plan->buffers[plan->n_buffers] = (qcnn_span){ .bytes = bytes, .first = first, .last = last };
    return (int)plan->n_buffers++;
}

// Bytes of memory of a value; false: too many.
static bool value_bytes(const qcnn_shape *shape, const qcnn_format *format, uint64_t *bytes)
{
    if (!qcnn_is_plane(format))
        return qcnn_multiply(qcnn_shape_elements(shape), sizeof(float), bytes);
    qcnn_shape whole = *shape;
    whole.dims[1] = (int64_t)(4 * qcnn_shape_quads(shape));
    return qcnn_add(qcnn_shape_elements(&whole), QCNN_PLANE_SLACK, bytes);
}

// Lets every step say what scratch it needs, and lists the buffers of the arena. Workers have the same scratch in all steps: what another
// core has touched comes slowly.
static qcnn_status list_buffers(qcnn_session *session, qcnn_session_plan *plan, qcnn_error *error)
{
    enum { WORKER_UNIT = 256, WORKER_GAP = 256 << 10 }; // bytes; what lies nearer to another's scratch was slow (measured on Zen 4)
    const qcnn_model *model = session->model;
    uint64_t most = 0;
    for (size_t n = 0; n < model->n_nodes; n++) {
        qcnn_step *step = &session->steps[n];
        const int now = (int)n;
        plan->shared_buffer[n] = -1;
        if (is_view_node(session, step->node) || plan->joined[n])
            continue;
        const qcnn_layer_type *layer = qcnn_layer_of(step->node);
        if (layer->plan)
            layer->plan(step);
        most = step->worker_bytes > most ? step->worker_bytes : most;
        plan->shared_buffer[n] = add_buffer(plan, step->shared_bytes, now, now);
        const int root = plan->values[step->node->output].root;
        qcnn_value_plan *output = &plan->values[root];
        uint64_t bytes;
        if (!value_bytes(&session->shapes[root], &output->format, &bytes))
            return qcnn_fail_memory(error, SIZE_MAX);
        if (output->output < 0 && output->buffer < 0)
            output->buffer = add_buffer(plan, bytes, output->first_use, output->last_use);
    }
    uint64_t all_workers;
    if (session->parallel.n_workers > 1 && !qcnn_add(most, WORKER_GAP, &most))
        return qcnn_fail_memory(error, SIZE_MAX);
    if (!qcnn_round_up(most, WORKER_UNIT, &most) || !qcnn_multiply(most, (uint64_t)session->parallel.n_workers, &all_workers) ||
        all_workers > SIZE_MAX)
        return qcnn_fail_memory(error, SIZE_MAX);
    for (size_t n = 0; n < model->n_nodes; n++)
        session->steps[n].worker_bytes = (size_t)most;
    plan->worker_buffer = add_buffer(plan, all_workers, 0, (int)model->n_nodes);
    return QCNN_OK;
}

// Where there are several workers and memory is small, no buffer is put where another was: each core's cache keeps its part of each.
static void keep_apart(const qcnn_session *session, const qcnn_session_plan *plan)
{
    const uint64_t most = (uint64_t)16 << 20;
    uint64_t total = 0;
    for (size_t i = 0; i < plan->n_buffers && total <= most; i++)
        total = plan->buffers[i].bytes <= most ? total + plan->buffers[i].bytes : most + 1;
    for (size_t i = 0; session->parallel.n_workers > 1 && total <= most && i < plan->n_buffers; i++) {
        plan->buffers[i].first = 0;
        plan->buffers[i].last = (int)session->model->n_nodes;
    }
}

static void *arena_place(const qcnn_session *session, const qcnn_session_plan *plan, int buffer)
{
    return buffer < 0 ? NULL : session->arena + plan->buffers[buffer].offset;
}

// Of a value that lives in the arena: its floats or quads, whichever they are.
static void *value_place(const qcnn_session *session, const qcnn_session_plan *plan, int value)
{
    const qcnn_value_plan *root = &plan->values[plan->values[value].root];
    unsigned char *place = arena_place(session, plan, root->buffer);
    return place ? place + plan->values[value].offset * (qcnn_is_plane(&root->format) ? 1 : sizeof(float)) : NULL;
}

// Points *slot to a value's floats, now or (where the caller brings them) at every run.
static void attach_value(qcnn_session *session, const qcnn_session_plan *plan, int value, const float **slot)
{
    const qcnn_value_plan *root = &plan->values[plan->values[value].root];
    const int tensor = session->model->values[plan->values[value].root].tensor;
    if (tensor >= 0)
        *slot = session->model->tensors[tensor].data;
    else if (root->input >= 0)
        session->bindings[session->n_bindings++] = (binding){ slot, false, root->input };
    else if (root->output >= 0)
        session->bindings[session->n_bindings++] = (binding){ slot, true, root->output };
    else
        *slot = value_place(session, plan, value);
}

static void attach_all(qcnn_session *session, const qcnn_session_plan *plan)
{
    const qcnn_model *model = session->model;
    for (size_t n = 0; n < model->n_nodes; n++) {
        qcnn_step *step = &session->steps[n];
        const qcnn_node *node = step->node;
        for (int i = 0; i < node->n_inputs; i++)
            if (node->inputs[i] >= 0 && qcnn_is_plane(&step->inputs[i].format))
                step->inputs[i].quads = value_place(session, plan, node->inputs[i]);
            else if (node->inputs[i] >= 0)
                attach_value(session, plan, node->inputs[i], &step->inputs[i].data);
        if (node->decoded)
            step->inputs[1].data = node->decoded;
        void *output = is_view_node(session, node) || plan->joined[n] ? NULL : value_place(session, plan, node->output);
        if (qcnn_is_plane(&step->output_format))
            step->output_quads = output;
        else
            step->output = output;
        step->shared = arena_place(session, plan, plan->shared_buffer[n]);
        step->worker = arena_place(session, plan, plan->worker_buffer);
    }
    for (size_t i = 0; i < model->n_outputs; i++) {
        const int value = model->outputs[i];
        const qcnn_value_plan *root = &plan->values[plan->values[value].root];
        output_port *port = &session->outputs[i];
        port->bytes = (size_t)qcnn_shape_elements(&session->shapes[value]) * sizeof(float);
        if (root->output == (int)i)
            port->writer = &session->steps[root->producer];
        else
            attach_value(session, plan, value, &port->copy_from);
    }
}

static void init_steps(qcnn_session *session)
{
    const qcnn_model *model = session->model;
    qcnn_operand *operands = session->operands;
    for (size_t n = 0; n < model->n_nodes; n++) {
        const qcnn_node *node = &model->nodes[n];
        session->steps[n] = (qcnn_step){ .node = node, .model = model, .kernels = model->kernels, .inputs = operands };
        session->steps[n].output_shape = session->shapes[node->output];
        for (int i = 0; i < node->n_inputs; i++, operands++)
            if (node->inputs[i] >= 0)
                operands->shape = session->shapes[node->inputs[i]];
    }
}

static qcnn_status plan_session(qcnn_session *session, qcnn_session_plan *plan, qcnn_error *error)
{
    const size_t n_nodes = session->model->n_nodes, n_values = session->model->n_values;
    plan->values = qcnn_allocate(n_values, sizeof *plan->values);
    plan->buffers = qcnn_allocate(2 * n_nodes + 1, sizeof *plan->buffers);
    plan->shared_buffer = qcnn_allocate(n_nodes, sizeof(int));
    plan->joined = qcnn_allocate_zeroed(n_nodes, sizeof(bool));
    if (!plan->values || !plan->buffers || !plan->shared_buffer || !plan->joined)
        return qcnn_fail_memory(error, n_values * sizeof *plan->values);
    init_steps(session);
    trace_values(session, plan);
    join_values(session, plan);
    qcnn_choose_planes(session->model, session->shapes, session->steps, plan);
    QCNN_TRY(list_buffers(session, plan, error));
    keep_apart(session, plan);
    uint64_t total;
    QCNN_TRY(qcnn_plan_memory(plan->buffers, plan->n_buffers, &total, error));
    session->arena = total <= SIZE_MAX ? qcnn_allocate((size_t)total, 1) : NULL;
    if (!session->arena)
        return qcnn_fail_memory(error, (size_t)total);
    session->arena_bytes = (size_t)total;
    attach_all(session, plan);
    return QCNN_OK;
}

// ---- the life of a session ------------------------------------------------------------------------------------------

static qcnn_status build_session(qcnn_session *session, const qcnn_session_options *options, qcnn_error *error)
{
    const qcnn_model *model = session->model;
    size_t n_operands = 0;
    for (size_t n = 0; n < model->n_nodes; n++)
        n_operands += (size_t)model->nodes[n].n_inputs;
    session->shapes = qcnn_allocate_zeroed(model->n_values, sizeof *session->shapes);
    session->steps = qcnn_allocate_zeroed(model->n_nodes, sizeof *session->steps);
    session->operands = qcnn_allocate_zeroed(n_operands, sizeof *session->operands);
    session->bindings = qcnn_allocate_zeroed(n_operands + model->n_outputs, sizeof *session->bindings);
    session->outputs = qcnn_allocate_zeroed(model->n_outputs, sizeof *session->outputs);
    if (!session->shapes || !session->steps || !session->operands || !session->bindings || !session->outputs)
        return qcnn_fail_memory(error, model->n_values * sizeof *session->shapes + model->n_nodes * sizeof *session->steps);
    session->parallel.n_workers = 1;
    if (options->parallel && options->parallel->n_workers > 1)
        session->parallel = *options->parallel;
    session->clock_ms = options->clock_ms;
    QCNN_TRY(find_shapes(session, options, error));

    qcnn_session_plan plan = { 0 };
    const qcnn_status status = plan_session(session, &plan, error);
    qcnn_release(plan.values);
    qcnn_release(plan.buffers);
    qcnn_release(plan.shared_buffer);
    qcnn_release(plan.joined);
    return status;
}

qcnn_status qcnn_session_create(const qcnn_model *model, const qcnn_session_options *options, qcnn_session **session, qcnn_error *error)
{
    if (!session)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "no place to put the session");
    *session = NULL;
    if (!model || !model->kernels)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "the model is %s", model ? "not prepared to run" : "NULL");
    qcnn_session *made = qcnn_allocate_zeroed(1, sizeof *made);
    if (!made)
        return qcnn_fail_memory(error, sizeof *made);
    made->model = model;
    const qcnn_session_options complete = complete_options(options);
    const qcnn_status status = build_session(made, &complete, error);
    if (status != QCNN_OK) {
        qcnn_session_free(made);
        return status;
    }
    *session = made;
    return QCNN_OK;
}

void qcnn_session_free(qcnn_session *session)
{
    if (!session)
        return;
    qcnn_release(session->shapes);
    qcnn_release(session->steps);
    qcnn_release(session->operands);
    qcnn_release(session->bindings);
    qcnn_release(session->outputs);
    qcnn_release(session->arena);
    qcnn_release(session);
}

void qcnn_run(qcnn_session *session, const float *const *inputs, float *const *outputs)
{
    const qcnn_model *model = session->model;
    for (size_t i = 0; i < session->n_bindings; i++) {
        const binding *bind = &session->bindings[i];
        *bind->slot = bind->to_output ? outputs[bind->port] : inputs[bind->port];
    }
    for (size_t i = 0; i < model->n_outputs; i++)
        if (session->outputs[i].writer)
            session->outputs[i].writer->output = outputs[i];
    double before = session->clock_ms ? session->clock_ms() : 0;
    for (size_t n = 0; n < model->n_nodes; n++) {
        qcnn_step *step = &session->steps[n];
        if (step->output || step->output_quads) // a view has neither
            qcnn_layer_of(step->node)->run(step, &session->parallel);
        if (session->clock_ms) {
            const double now = session->clock_ms();
            step->milliseconds = now - before;
            before = now;
        }
    }
    for (size_t i = 0; i < model->n_outputs; i++)
        if (!session->outputs[i].writer)
            memcpy(outputs[i], session->outputs[i].copy_from, session->outputs[i].bytes);
}

// ---- questions ------------------------------------------------------------------------------------------------------

qcnn_shape qcnn_session_input_shape(const qcnn_session *session, int index)
{
    const qcnn_model *model = session->model;
    return index >= 0 && (size_t)index < model->n_inputs ? session->shapes[model->inputs[index]] : (qcnn_shape){ 0 };
}

qcnn_shape qcnn_session_output_shape(const qcnn_session *session, int index)
{
    const qcnn_model *model = session->model;
    return index >= 0 && (size_t)index < model->n_outputs ? session->shapes[model->outputs[index]] : (qcnn_shape){ 0 };
}

size_t qcnn_session_bytes(const qcnn_session *session)
{
    return session->arena_bytes;
}

double qcnn_session_layer_ms(const qcnn_session *session, int index)
{
    return index >= 0 && (size_t)index < session->model->n_nodes ? session->steps[index].milliseconds : 0;
}
