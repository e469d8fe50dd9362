// SPDX-License-Identifier: Apache-2.0
// Pieces of a stretch, one after the other: a convolution, or a session over the nodes up to the next one. What passes between pieces
// lies in buffers of each lane.

#include "compress/stretch.h"

#include <string.h>

#include "base/parallel.h"
#include "compress/conv_bf16.h"

// Nodes first..end - 1.
typedef struct stretch_piece {
    size_t first, end;
    qcnn_conv_bf16 *conv; // of the only node; else NULL
    qcnn_model *model;    // else: its nodes; NULL: nothing that they compute is needed
} stretch_piece;

static const uint64_t most_lane_bytes = (uint64_t)512 << 20; // of all lanes

// What one sample needs while it is run.
typedef struct stretch_lane {
    float **values;          // [n_values]: NULL for those that no piece reads or writes
    qcnn_session **sessions; // [n_pieces]
    const float **inputs;    // of a session
    float **outputs;         // likewise
    void *scratch;           // of convolutions
} stretch_lane;

struct qcnn_stretch {
    const qcnn_model *model;
    const qcnn_parallel *parallel;
    const bool *wanted; // while it is being made
    stretch_piece *pieces;
    size_t n_pieces;
    bool *reads, *holds; // [n_values]: from outside; in buffers
    stretch_lane *lanes;
    int n_lanes;
};

static bool reads_value(const qcnn_node *node, int value)
{
    for (int i = 0; i < node->n_inputs; i++)
        if (node->inputs[i] == value)
            return true;
    return false;
}

// Whether a node of first..end - 1 writes the value, or reads it.
static bool is_written(const qcnn_model *model, int value, size_t first, size_t end)
{
    for (size_t n = first; n < end; n++)
        if (model->nodes[n].output == value)
            return true;
    return false;
}

static bool is_read(const qcnn_model *model, int value, size_t first, size_t end)
{
    for (size_t n = first; n < end; n++)
        if (reads_value(&model->nodes[n], value))
            return true;
    return false;
}

// ---- pieces ---------------------------------------------------------------------------------------------------------

static qcnn_status cut_pieces(qcnn_stretch *s, size_t first, size_t end, qcnn_error *error)
{
    s->pieces = qcnn_allocate_zeroed(end - first, sizeof *s->pieces);
    if (!s->pieces)
        return qcnn_fail_memory(error, (end - first) * sizeof *s->pieces);
    bool open = false; // whether the last piece may grow
    for (size_t n = first; n < end; n++) {
        const bool fast = qcnn_conv_bf16_suits(s->model, &s->model->nodes[n]);
        if (!open || fast)
            s->pieces[s->n_pieces++] = (stretch_piece){ .first = n };
        stretch_piece *piece = &s->pieces[s->n_pieces - 1];
        piece->end = n + 1;
        if (fast)
            QCNN_TRY(qcnn_conv_bf16_new(s->model, &s->model->nodes[n], &piece->conv, error));
        open = !fast;
    }
    return QCNN_OK;
}

// Drops the nodes that are not in first..end - 1.
static void cut_nodes(qcnn_model *model, size_t first, size_t end)
{
    size_t n_left = 0;
    for (size_t n = 0; n < model->n_nodes; n++) {
        if (n >= first && n < end) {
            model->nodes[n_left++] = model->nodes[n];
            continue;
        }
        qcnn_release(model->nodes[n].name);
        qcnn_release(model->nodes[n].inputs);
        qcnn_release(model->nodes[n].decoded);
    }
    model->n_nodes = n_left;
}

// Inputs are what the nodes read and none of them writes, outputs what is wanted of what they write or read behind them.
static qcnn_status set_ports(const qcnn_stretch *s, const stretch_piece *piece, size_t end, qcnn_error *error)
{
    qcnn_model *model = piece->model;
    model->n_inputs = model->n_outputs = 0;
    for (size_t v = 0; v < model->n_values; v++) {
        const bool written = is_written(s->model, (int)v, piece->first, piece->end);
        if (!written && model->values[v].tensor < 0 && is_read(s->model, (int)v, piece->first, piece->end))
            QCNN_TRY(qcnn_model_add_input(model, (int)v, error));
        if (written && (s->wanted[v] || is_read(s->model, (int)v, piece->end, end)))
            QCNN_TRY(qcnn_model_add_output(model, (int)v, error));
    }
    return QCNN_OK;
}

static qcnn_status build_piece(const qcnn_stretch *s, stretch_piece *piece, size_t end, qcnn_error *error)
{
    QCNN_TRY(qcnn_model_copy(s->model, &piece->model, error));
    cut_nodes(piece->model, piece->first, piece->end);
    QCNN_TRY(set_ports(s, piece, end, error));
    if (piece->model->n_outputs == 0) {
        qcnn_model_free(piece->model);
        piece->model = NULL;
        return QCNN_OK;
    }
    const char *kernels = qcnn_model_kernels(s->model);
    return qcnn_model_prepare(piece->model, *kernels ? kernels : NULL, error);
}

// Which values have buffers, and which of them come from outside.
static void find_values(qcnn_stretch *s, size_t first, size_t end)
{
    for (size_t p = 0; p < s->n_pieces; p++) {
        const stretch_piece *piece = &s->pieces[p];
        const qcnn_node *node = &s->model->nodes[piece->first];
        if (piece->conv)
            s->holds[node->inputs[0]] = s->holds[node->output] = true;
        for (size_t i = 0; piece->model && i < piece->model->n_inputs; i++)
            s->holds[piece->model->inputs[i]] = true;
        for (size_t i = 0; piece->model && i < piece->model->n_outputs; i++)
            s->holds[piece->model->outputs[i]] = true;
    }
    for (size_t v = 0; v < s->model->n_values; v++)
        s->reads[v] = s->holds[v] && !is_written(s->model, (int)v, first, end);
}

// ---- lanes ----------------------------------------------------------------------------------------------------------

static qcnn_status new_lane(const qcnn_stretch *s, stretch_lane *lane, qcnn_error *error)
{
    const size_t n_values = s->model->n_values;
    size_t scratch = 1;
    lane->values = qcnn_allocate_zeroed(n_values, sizeof *lane->values);
    lane->inputs = qcnn_allocate_zeroed(n_values, sizeof *lane->inputs);
    lane->outputs = qcnn_allocate_zeroed(n_values, sizeof *lane->outputs);
    lane->sessions = qcnn_allocate_zeroed(s->n_pieces, sizeof(qcnn_session *));
    if (!lane->values || !lane->inputs || !lane->outputs || !lane->sessions)
        return qcnn_fail_memory(error, n_values * sizeof *lane->values);
    for (size_t p = 0; p < s->n_pieces; p++) {
        const size_t bytes = s->pieces[p].conv ? qcnn_conv_bf16_scratch(s->pieces[p].conv) : 0;
        scratch = bytes > scratch ? bytes : scratch;
        if (s->pieces[p].model)
            QCNN_TRY(qcnn_session_create(s->pieces[p].model, NULL, &lane->sessions[p], error));
    }
    lane->scratch = qcnn_allocate(scratch, 1);
    if (!lane->scratch)
        return qcnn_fail_memory(error, scratch);
    for (size_t v = 0; v < n_values; v++) {
        const size_t n = (size_t)qcnn_shape_elements(&s->model->values[v].shape);
        lane->values[v] = s->holds[v] ? qcnn_allocate(n, sizeof(float)) : NULL;
        if (s->holds[v] && !lane->values[v])
            return qcnn_fail_memory(error, n * sizeof(float));
    }
    return QCNN_OK;
}

static uint64_t lane_bytes(const qcnn_stretch *s, const stretch_lane *lane)
{
    uint64_t bytes = 1;
    for (size_t p = 0; p < s->n_pieces; p++)
        bytes += lane->sessions[p]   ? qcnn_session_bytes(lane->sessions[p])
                 : s->pieces[p].conv ? qcnn_conv_bf16_scratch(s->pieces[p].conv)
                                     : 0;
    for (size_t v = 0; v < s->model->n_values; v++)
        bytes += s->holds[v] ? sizeof(float) * qcnn_shape_elements(&s->model->values[v].shape) : 0;
    return bytes;
}

// One for each worker, or as many as fit.
static qcnn_status new_lanes(qcnn_stretch *s, qcnn_error *error)
{
    const int n_workers = qcnn_n_workers(s->parallel);
    uint64_t fitting = 1;
    s->lanes = qcnn_allocate_zeroed((size_t)n_workers, sizeof *s->lanes);
    if (!s->lanes)
        return qcnn_fail_memory(error, (size_t)n_workers * sizeof *s->lanes);
    while (s->n_lanes < n_workers && (uint64_t)s->n_lanes < fitting) {
        stretch_lane *lane = &s->lanes[s->n_lanes++];
        QCNN_TRY(new_lane(s, lane, error));
        fitting = most_lane_bytes / lane_bytes(s, lane);
    }
    return QCNN_OK;
}

static void free_lane(const qcnn_stretch *s, stretch_lane *lane)
{
    for (size_t v = 0; lane->values && v < s->model->n_values; v++)
        qcnn_release(lane->values[v]);
    for (size_t p = 0; lane->sessions && p < s->n_pieces; p++)
        qcnn_session_free(lane->sessions[p]);
    qcnn_release(lane->values);
    qcnn_release(lane->sessions);
    qcnn_release((void *)lane->inputs);
    qcnn_release(lane->outputs);
    qcnn_release(lane->scratch);
}

// ---- public ---------------------------------------------------------------------------------------------------------

static qcnn_status build(qcnn_stretch *s, size_t first, size_t end, qcnn_error *error)
{
    const size_t n_values = s->model->n_values;
    s->reads = qcnn_allocate_zeroed(n_values, sizeof *s->reads);
    s->holds = qcnn_allocate_zeroed(n_values, sizeof *s->holds);
    if (!s->reads || !s->holds)
        return qcnn_fail_memory(error, n_values);
    QCNN_TRY(cut_pieces(s, first, end, error));
    for (size_t p = 0; p < s->n_pieces; p++)
        if (!s->pieces[p].conv)
            QCNN_TRY(build_piece(s, &s->pieces[p], end, error));
    find_values(s, first, end);
    return new_lanes(s, error);
}

qcnn_status qcnn_stretch_new(const qcnn_model *model, size_t first, size_t end, const bool *wanted, const qcnn_parallel *parallel,
                             qcnn_stretch **result, qcnn_error *error)
{
    *result = NULL;
    qcnn_stretch *s = qcnn_allocate_zeroed(1, sizeof *s);
    if (!s)
        return qcnn_fail_memory(error, sizeof *s);
    *s = (qcnn_stretch){ .model = model, .parallel = parallel, .wanted = wanted };
    const qcnn_status status = build(s, first, end, error);
    s->wanted = NULL;
    if (status != QCNN_OK)
        qcnn_stretch_free(s);
    else
        *result = s;
    return status;
}

void qcnn_stretch_free(qcnn_stretch *s)
{
    if (!s)
        return;
    for (int i = 0; s->lanes && i < s->n_lanes; i++)
        free_lane(s, &s->lanes[i]);
    for (size_t p = 0; p < s->n_pieces; p++) {
        qcnn_conv_bf16_free(s->pieces[p].conv);
        qcnn_model_free(s->pieces[p].model);
    }
    qcnn_release(s->lanes);
    qcnn_release(s->pieces);
    qcnn_release(s->reads);
    qcnn_release(s->holds);
    qcnn_release(s);
}

bool qcnn_stretch_reads(const qcnn_stretch *s, int value)
{
    return s->reads[value];
}

int qcnn_stretch_n_lanes(const qcnn_stretch *s)
{
    return s->n_lanes;
}

float *qcnn_stretch_value(const qcnn_stretch *s, int value, int lane)
{
    return s->lanes[lane].values[value];
}

void qcnn_stretch_run(const qcnn_stretch *s, int lane)
{
    const stretch_lane *l = &s->lanes[lane];
    for (size_t p = 0; p < s->n_pieces; p++) {
        const stretch_piece *piece = &s->pieces[p];
        const qcnn_node *node = &s->model->nodes[piece->first];
        if (piece->conv)
            qcnn_conv_bf16_run(piece->conv, l->values[node->inputs[0]], l->values[node->output], l->scratch);
        if (!piece->model)
            continue;
        for (size_t i = 0; i < piece->model->n_inputs; i++)
            l->inputs[i] = l->values[piece->model->inputs[i]];
        for (size_t i = 0; i < piece->model->n_outputs; i++)
            l->outputs[i] = l->values[piece->model->outputs[i]];
        qcnn_run(l->sessions[p], l->inputs, l->outputs);
    }
}
