// SPDX-License-Identifier: Apache-2.0
// Walks, in up to two teams of two, and the statistics they give.

#include "compress/calibration.h"

#include <stdio.h>

#include "base/rng.h"
#include "compress/walk.h"

enum { CONV_SAMPLES = 4000, LEAST_CONV_SAMPLES = 640, FC_SAMPLES = 8000, HELD_OUT_SAMPLES = 300, POSITIONS = 16, MAX_TEAMS = 2 };
static const uint64_t keep_bytes = (uint64_t)600 << 20; // of one walk at one stop

// The same samples through both networks.
typedef struct team {
    int n[2];          // samples of each part
    qcnn_walk *wanted; // through the original
    qcnn_walk *given;  // through the compressed network; NULL: there is no difference yet
    bool rests;        // whether this stop is none of `wanted`: another walk is ahead of it
} team;

struct qcnn_calibration {
    const qcnn_model *original, *compressed; // compressed: NULL while there is no difference
    const qcnn_compress_options *options;
    qcnn_samples samples;
    int conv_samples;      // for layers with many rows a sample
    team teams[MAX_TEAMS]; // only the first has held-out samples
    int n_teams;
    qcnn_walk *ahead;             // of the first team through the original, up to node ahead_node: from before a restart; NULL: none
    size_t ahead_node, last_node; // last_node: of the last stop
};

// Fewer samples, and more positions of each, where a walk could not keep what convolutions of so many read: it would run the layers before
// them again for each.
static int choose_conv_samples(const qcnn_model *model)
{
    uint64_t most = 1;
    for (size_t n = 0; n < model->n_nodes; n++) {
        const int input = model->nodes[n].op == QCNN_OP_CONV ? model->nodes[n].inputs[0] : model->inputs[0];
        const uint64_t n_bytes = input == model->inputs[0] ? 0 : sizeof(uint16_t) * qcnn_shape_elements(&model->values[input].shape);
        most = n_bytes > most ? n_bytes : most;
    }
    const uint64_t fitting = keep_bytes / most;
    return fitting >= CONV_SAMPLES + HELD_OUT_SAMPLES        ? CONV_SAMPLES
           : fitting < LEAST_CONV_SAMPLES + HELD_OUT_SAMPLES ? LEAST_CONV_SAMPLES
                                                             : (int)fitting - HELD_OUT_SAMPLES;
}

qcnn_status qcnn_calibration_open(const qcnn_model *original, const qcnn_compress_options *options, qcnn_calibration **result,
                                  qcnn_error *error)
{
    *result = NULL;
    qcnn_calibration *c = qcnn_allocate_zeroed(1, sizeof *c);
    if (!c)
        return qcnn_fail_memory(error, sizeof *c);
    c->original = original;
    c->options = options;
    c->conv_samples = choose_conv_samples(original);
    const uint64_t seed = qcnn_rng_split(options->seed, original->n_nodes);
    const qcnn_status status = qcnn_samples_open(original, options->calibration, options->preprocess, seed, &c->samples, error);
    if (status != QCNN_OK) {
        qcnn_release(c);
        return status;
    }
    *result = c;
    return QCNN_OK;
}

static void free_teams(qcnn_calibration *c)
{
    for (int i = 0; i < c->n_teams; i++) {
        qcnn_walk_free(c->teams[i].wanted);
        qcnn_walk_free(c->teams[i].given);
    }
    qcnn_walk_free(c->ahead);
    c->ahead = NULL;
    c->n_teams = 0;
}

void qcnn_calibration_close(qcnn_calibration *c)
{
    if (!c)
        return;
    free_teams(c);
    qcnn_samples_close(&c->samples);
    qcnn_release(c);
}

const qcnn_samples *qcnn_calibration_samples(const qcnn_calibration *c)
{
    return &c->samples;
}

// ---- teams ----------------------------------------------------------------------------------------------------------

// Whether one sample gives the layer many rows.
static bool gives_many_rows(const qcnn_calibration *c, const qcnn_node *node)
{
    const qcnn_shape *x = &c->original->values[node->inputs[0]].shape, *y = &c->original->values[node->output].shape;
    const uint64_t n_rows =
        node->op == QCNN_OP_CONV ? qcnn_shape_elements(y) / (uint64_t)y->dims[1] : qcnn_shape_elements(x) / (uint64_t)x->dims[x->rank - 1];
    return n_rows >= POSITIONS / 2;
}

static qcnn_status add_team(qcnn_calibration *c, int first, int n_fit, int n_held, qcnn_error *error)
{
    team *t = &c->teams[c->n_teams++];
    *t = (team){ .n = { n_fit, n_held } };
    const qcnn_walk_samples samples = { .source = &c->samples, .first = first, .n = { n_fit, n_held } };
    QCNN_TRY(qcnn_walk_new(c->original, &samples, c->options->parallel, &t->wanted, error));
    return c->compressed ? qcnn_walk_new(c->compressed, &samples, c->options->parallel, &t->given, error) : QCNN_OK;
}

void qcnn_calibration_rest(qcnn_calibration *c)
{
    for (int i = 0; i < c->n_teams; i++) {
        qcnn_walk_free(c->teams[i].given);
        c->teams[i].given = NULL;
        if (i == 0)
            continue;
        qcnn_walk_free(c->teams[i].wanted);
        c->teams[i].wanted = NULL;
    }
    c->n_teams = c->n_teams > 0;
}

qcnn_status qcnn_calibration_restart(qcnn_calibration *c, const qcnn_compress_options *options, qcnn_error *error)
{
    const int n[2] = { c->n_teams > 0 ? c->teams[0].n[0] : 0, c->n_teams > 0 ? c->teams[0].n[1] : 0 };
    qcnn_walk *ahead = c->n_teams > 0 ? c->teams[0].wanted : NULL;
    if (ahead)
        c->teams[0].wanted = NULL;
    free_teams(c);
    c->options = options;
    c->compressed = NULL;
    c->ahead = ahead;
    c->ahead_node = c->last_node;
    return ahead ? add_team(c, 0, n[0], n[1], error) : QCNN_OK;
}

static qcnn_status choose_teams(qcnn_calibration *c, const qcnn_node *node, qcnn_error *error)
{
    const int wanted = gives_many_rows(c, node) ? c->conv_samples : FC_SAMPLES, n_held = c->samples.n_images[QCNN_PART_HELD_OUT];
    if (c->n_teams == 0)
        return add_team(c, 0, wanted, n_held < HELD_OUT_SAMPLES ? n_held : HELD_OUT_SAMPLES, error);
    if (c->n_teams == 1 && c->teams[0].n[0] < wanted)
        return add_team(c, c->teams[0].n[0], wanted - c->teams[0].n[0], 0, error);
    return QCNN_OK;
}

qcnn_status qcnn_calibration_diverge(qcnn_calibration *c, const qcnn_model *compressed, qcnn_error *error)
{
    if (c->compressed)
        return QCNN_OK;
    c->compressed = compressed;
    for (int i = 0; i < c->n_teams; i++)
        QCNN_TRY(qcnn_walk_fork(c->teams[i].wanted, compressed, &c->teams[i].given, error));
    return QCNN_OK;
}

// ---- gathering ------------------------------------------------------------------------------------------------------

typedef struct gathering {
    qcnn_statistics_builder *builder; // NULL: none are wanted
    const qcnn_progress *progress;
    const char *name;
    int n_done, n_all;
} gathering;

// Samples begin..end - 1 of a team, which are gathering->n_done.. of all.
static qcnn_status gather_samples(const team *t, int begin, int end, gathering *g, qcnn_error *error)
{
    enum { MAX_CHUNK = 256 };
    const float *x[MAX_CHUNK], *o[MAX_CHUNK];
    const int chunk = qcnn_walk_chunk_size(t->given ? t->given : t->wanted);
    for (int first = begin; first < end; first += chunk) {
        if (g->progress && g->progress->report(g->progress->context, g->name, (double)g->n_done / g->n_all))
            return qcnn_fail(error, QCNN_ERROR_CANCELLED, "cancelled while calibrating layer '%s'", g->name);
        const int n = end - first < chunk ? end - first : chunk;
        if (!t->rests)
            QCNN_TRY(qcnn_walk_chunk(t->wanted, first, n, error));
        if (t->given)
            QCNN_TRY(qcnn_walk_chunk(t->given, first, n, error));
        for (int i = 0; g->builder && i < n; i++) {
            o[i] = qcnn_walk_input(t->wanted, first + i);
            x[i] = t->given ? qcnn_walk_input(t->given, first + i) : o[i];
        }
        if (g->builder)
            QCNN_TRY(qcnn_statistics_add(g->builder, g->n_done, n, x, o, error));
        g->n_done += n;
    }
    return QCNN_OK;
}

static qcnn_status gather_teams(qcnn_calibration *c, gathering *g, qcnn_error *error)
{
    for (int i = 0; i < c->n_teams; i++)
        QCNN_TRY(gather_samples(&c->teams[i], 0, c->teams[i].n[0], g, error));
    return gather_samples(&c->teams[0], c->teams[0].n[0], c->teams[0].n[0] + c->teams[0].n[1], g, error);
}

// The first team takes the walk that is ahead once it comes past where that stands. Until then its own has nothing to do but give inputs to
// layers that are not skipped.
static void take_ahead(qcnn_calibration *c, size_t node, bool skipping)
{
    team *first = &c->teams[0];
    first->rests = c->ahead && node <= c->ahead_node && skipping && first->given;
    if (!c->ahead || node <= c->ahead_node)
        return;
    qcnn_walk_free(first->wanted);
    first->wanted = c->ahead;
    c->ahead = NULL;
}

static qcnn_status begin(qcnn_calibration *c, size_t node, bool skipping, qcnn_error *error)
{
    QCNN_TRY(choose_teams(c, &c->original->nodes[node], error));
    take_ahead(c, node, skipping);
    c->last_node = node;
    for (int i = 0; i < c->n_teams; i++) {
        if (!c->teams[i].rests)
            QCNN_TRY(qcnn_walk_begin(c->teams[i].wanted, node, keep_bytes, error));
        if (c->teams[i].given)
            QCNN_TRY(qcnn_walk_begin(c->teams[i].given, node, keep_bytes, error));
    }
    return QCNN_OK;
}

static gathering new_gathering(const qcnn_calibration *c, size_t node, const qcnn_progress *progress)
{
    const char *name = c->original->nodes[node].name;
    gathering g = { .progress = progress, .name = name ? name : "", .n_all = c->teams[0].n[1] };
    for (int i = 0; i < c->n_teams; i++)
        g.n_all += c->teams[i].n[0];
    return g;
}

static void end(qcnn_calibration *c)
{
    for (int i = 0; i < c->n_teams; i++) {
        if (!c->teams[i].rests)
            qcnn_walk_end(c->teams[i].wanted);
        if (c->teams[i].given)
            qcnn_walk_end(c->teams[i].given);
    }
}

qcnn_status qcnn_calibration_gather(qcnn_calibration *c, size_t node, const qcnn_progress *progress, qcnn_statistics *statistics,
                                    qcnn_error *error)
{
    QCNN_TRY(begin(c, node, false, error));
    gathering g = new_gathering(c, node, progress);
    const int n_positions = POSITIONS * CONV_SAMPLES / c->conv_samples;
    QCNN_TRY(qcnn_statistics_begin(c->original, node, n_positions, g.n_all - c->teams[0].n[1], c->teams[0].n[1],
                                   qcnn_rng_split(c->options->seed, node), c->options->parallel, &g.builder, error));
    qcnn_status status = gather_teams(c, &g, error);
    if (status == QCNN_OK)
        status = qcnn_statistics_end(g.builder, statistics, error);
    qcnn_statistics_free_builder(g.builder);
    end(c);
    return status;
}

qcnn_status qcnn_calibration_skip(qcnn_calibration *c, size_t node, const qcnn_progress *progress, qcnn_error *error)
{
    QCNN_TRY(begin(c, node, true, error));
    gathering g = new_gathering(c, node, progress);
    char name[64];
    snprintf(name, sizeof name, "past %.50s", g.name); // it is done: no work of its own
    g.name = name;
    const qcnn_status status = gather_teams(c, &g, error);
    end(c);
    return status;
}
