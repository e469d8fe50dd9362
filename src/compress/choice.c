// SPDX-License-Identifier: Apache-2.0
// At a price layers are independent but for one bound: what all sections unfold to, less twice the file (model/container.h). That is a
// knapsack: layer after layer, the least cost for every amount of the bound that has been used up, in steps.

#include "compress/choice.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "model/container.h"

enum { N_STEPS = 2000 };                // of the bound
static const double nearly = 1.03;      // times the best: settings among which time decides
static const double caution = 1 - 0.02; // of a file's bytes: it may come out smaller than expected

struct qcnn_choice_room {
    qcnn_setting_point *points; // [layer][widest], at the present price
    int widest;                 // curves of any layer
    double *costs, *next;       // [N_STEPS + 1]: the least of the layers so far
    uint8_t *taken;             // [layer][N_STEPS + 1]: the curve that leads there
};

void qcnn_choice_free(qcnn_choice *choice)
{
    if (choice->room) {
        qcnn_release(choice->room->points);
        qcnn_release(choice->room->costs);
        qcnn_release(choice->room->next);
        qcnn_release(choice->room->taken);
    }
    qcnn_release(choice->room);
    qcnn_release(choice->curves);
    *choice = (qcnn_choice){ 0 };
}

qcnn_status qcnn_choice_new(const qcnn_choice_problem *problem, qcnn_choice *choice, qcnn_error *error)
{
    const size_t n_layers = (size_t)problem->n_layers;
    *choice = (qcnn_choice){ .problem = problem };
    choice->curves = qcnn_allocate_zeroed(n_layers, sizeof *choice->curves);
    struct qcnn_choice_room *room = choice->room = qcnn_allocate_zeroed(1, sizeof *room);
    if (!choice->curves || !room)
        return qcnn_fail_memory(error, n_layers * sizeof *choice->curves);
    for (size_t i = 0; i < n_layers; i++)
        room->widest = problem->layers[i].n_curves > room->widest ? problem->layers[i].n_curves : room->widest;
    room->points = qcnn_allocate(n_layers * (size_t)room->widest, sizeof *room->points);
    room->costs = qcnn_allocate(N_STEPS + 1, sizeof *room->costs);
    room->next = qcnn_allocate(N_STEPS + 1, sizeof *room->next);
    room->taken = qcnn_allocate(n_layers * (N_STEPS + 1), sizeof *room->taken);
    if (!room->points || !room->costs || !room->next || !room->taken)
        return qcnn_fail_memory(error, n_layers * (N_STEPS + 1));
    return QCNN_OK;
}

// ---- a setting ------------------------------------------------------------------------------------------------------

static const qcnn_setting_point *point_of(const qcnn_choice *choice, int layer, int curve)
{
    return &choice->room->points[(size_t)layer * (size_t)choice->room->widest + (size_t)curve];
}

static double cost_of(const qcnn_choice *choice, int layer, int curve)
{
    const qcnn_setting_point *point = point_of(choice, layer, curve);
    return point->divergence + choice->price * point->bits;
}

// What a setting takes of the bound, less than nothing where the file's bytes pay for more than it unfolds to.
static double burden_of(const qcnn_choice *choice, int layer, int curve)
{
    return choice->problem->layers[layer].curves[curve].unfolded - 2 * caution * point_of(choice, layer, curve)->bits / 8;
}

static double bound_of(const qcnn_choice_problem *problem)
{
    return (double)QCNN_FREE_UNFOLDED + 2 * caution * problem->fixed_bytes - problem->fixed_unfolded;
}

static double burden_of_all(const qcnn_choice *choice)
{
    double sum = 0;
    for (int i = 0; i < choice->problem->n_layers; i++)
        sum += burden_of(choice, i, choice->curves[i]);
    return sum;
}

static void add_up(qcnn_choice *choice)
{
    choice->readable = burden_of_all(choice) <= bound_of(choice->problem);
    choice->bytes = choice->problem->fixed_bytes;
    choice->unfolded = choice->problem->fixed_unfolded;
    choice->divergence = 0;
    for (int i = 0; i < choice->problem->n_layers; i++) {
        const qcnn_setting_point *point = point_of(choice, i, choice->curves[i]);
        choice->bytes += (choice->readable ? point->bits : point->plain_bits) / 8;
        choice->unfolded += choice->problem->layers[i].curves[choice->curves[i]].unfolded;
        choice->divergence += point->divergence;
    }
}

// ---- the best at a price --------------------------------------------------------------------------------------------

static void take_cheapest(qcnn_choice *choice)
{
    for (int i = 0; i < choice->problem->n_layers; i++)
        for (int c = choice->curves[i] = 0; c < choice->problem->layers[i].n_curves; c++)
            if (cost_of(choice, i, c) < cost_of(choice, i, choice->curves[i]))
                choice->curves[i] = c;
}

static void take_lightest(qcnn_choice *choice)
{
    for (int i = 0; i < choice->problem->n_layers; i++)
        for (int c = choice->curves[i] = 0; c < choice->problem->layers[i].n_curves; c++)
            if (burden_of(choice, i, c) < burden_of(choice, i, choice->curves[i]))
                choice->curves[i] = c;
}

// From the lightest settings, which leave `left` of the bound. The steps are rounded up, so that the bound holds.
static void take_best(qcnn_choice *choice, double left)
{
    struct qcnn_choice_room *room = choice->room;
    for (int s = 0; s <= N_STEPS; s++)
        room->costs[s] = 0;
    for (int i = 0; i < choice->problem->n_layers; i++) {
        uint8_t *taken = room->taken + (size_t)i * (N_STEPS + 1);
        const double least = burden_of(choice, i, choice->curves[i]);
        for (int s = 0; s <= N_STEPS; s++) {
            room->next[s] = INFINITY;
            taken[s] = (uint8_t)choice->curves[i]; // should no cost be finite
        }
        for (int c = 0; c < choice->problem->layers[i].n_curves; c++) {
            const double cost = cost_of(choice, i, c), share = (burden_of(choice, i, c) - least) / left;
            if (share > 1)
                continue;
            const int steps = (int)ceil(share * N_STEPS);
            for (int s = steps; s <= N_STEPS; s++)
                if (room->costs[s - steps] + cost < room->next[s]) {
                    room->next[s] = room->costs[s - steps] + cost;
                    taken[s] = (uint8_t)c;
                }
        }
        double *swapped = room->costs;
        room->costs = room->next;
        room->next = swapped;
    }
    for (int i = choice->problem->n_layers - 1, s = N_STEPS; i >= 0; i--) {
        const double least = burden_of(choice, i, choice->curves[i]);
        choice->curves[i] = room->taken[(size_t)i * (N_STEPS + 1) + (size_t)s];
        s -= (int)ceil((burden_of(choice, i, choice->curves[i]) - least) / left * N_STEPS);
    }
}

// In each layer the fastest of the settings that are nearly as good as the present one, if the bound allows it.
static void take_fastest(qcnn_choice *choice)
{
    double left = bound_of(choice->problem) - burden_of_all(choice);
    for (int i = 0; i < choice->problem->n_layers; i++) {
        const qcnn_layer_curves *layer = &choice->problem->layers[i];
        const double most = nearly * cost_of(choice, i, choice->curves[i]), burden = burden_of(choice, i, choice->curves[i]);
        int best = choice->curves[i];
        for (int c = 0; c < layer->n_curves; c++)
            if (cost_of(choice, i, c) <= most && layer->curves[c].time < layer->curves[best].time &&
                burden_of(choice, i, c) - burden <= fmax(left, 0))
                best = c;
        left -= burden_of(choice, i, best) - burden;
        choice->curves[i] = best;
    }
}

void qcnn_choose(qcnn_choice *choice, double price)
{
    choice->price = price;
    for (int i = 0; i < choice->problem->n_layers; i++)
        for (int c = 0; c < choice->problem->layers[i].n_curves; c++)
            choice->room->points[(size_t)i * (size_t)choice->room->widest + (size_t)c] =
                qcnn_curve_at(&choice->problem->layers[i].curves[c], choice->problem->lowest, price);
    take_cheapest(choice);
    if (burden_of_all(choice) > bound_of(choice->problem)) {
        take_lightest(choice);
        const double left = bound_of(choice->problem) - burden_of_all(choice);
        if (left > 0)
            take_best(choice, left);
    }
    take_fastest(choice);
    add_up(choice);
}

// ---- what is left ---------------------------------------------------------------------------------------------------

void qcnn_choice_spend(qcnn_choice *choice, double file_bytes)
{
    for (bool found = choice->readable; found;) {
        const double left = bound_of(choice->problem) - burden_of_all(choice);
        double most = 0;
        int layer = -1, curve = -1;
        for (int i = 0; i < choice->problem->n_layers; i++) {
            const qcnn_setting_point *now = point_of(choice, i, choice->curves[i]);
            for (int c = 0; c < choice->problem->layers[i].n_curves; c++) {
                const qcnn_setting_point *other = point_of(choice, i, c);
                const double gain = (now->divergence - other->divergence) / (other->bits - now->bits);
                if (other->bits > now->bits && gain > most && choice->bytes + (other->bits - now->bits) / 8 <= file_bytes &&
                    burden_of(choice, i, c) - burden_of(choice, i, choice->curves[i]) <= left) {
                    most = gain;
                    layer = i;
                    curve = c;
                }
            }
        }
        found = layer >= 0;
        if (found) {
            choice->curves[layer] = curve;
            add_up(choice);
        }
    }
}
