// SPDX-License-Identifier: Apache-2.0
// Settings at a price under the bound on what a file unfolds to: made-up curves, compared with all combinations.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "compress/choice.h"
#include "model/container.h"

enum { MEGA = 1 << 20, N_LAYERS = 4, N_CURVES = 5 };

// A setting of n assignments, of `bits` each when plain and `share` of that when coded, the same at every price.
static qcnn_setting_curve curve_of(double n, double bits, double share, double divergence, double time)
{
    qcnn_setting_curve curve = { .setting = { .subspace = 1, .n_codewords = 2 }, .time = time, .unfolded = n };
    for (int i = 0; i < QCNN_N_PRICES; i++) {
        curve.plain[i][1] = n * bits;
        curve.coded[i][1] = n * bits * share;
        curve.divergence[i] = divergence;
    }
    return curve;
}

static qcnn_choice new_choice(const qcnn_choice_problem *problem)
{
    qcnn_choice choice;
    assert_int_equal(qcnn_choice_new(problem, &choice, NULL), QCNN_OK);
    return choice;
}

// Finer and finer cuts of layers of different size: half the divergence for twice the assignments, which coded take little more.
static void fill(qcnn_setting_curve curves[N_LAYERS][N_CURVES], qcnn_layer_curves layers[N_LAYERS])
{
    for (int i = 0; i < N_LAYERS; i++) {
        layers[i] = (qcnn_layer_curves){ .curves = curves[i], .n_curves = N_CURVES };
        for (int c = 0; c < N_CURVES; c++) {
            const double n = (1 + 0.7 * i) * MEGA * (1 << c);
            curves[i][c] = curve_of(n, 6, pow(0.6, c), (0.01 + 0.004 * ((3 * i) % 4)) * pow(0.5, c), 1);
        }
    }
}

// The least cost of all combinations that a reader may unfold; all of them if `bounded` is false.
static double least_cost(const qcnn_choice_problem *problem, double price, bool bounded)
{
    double least = INFINITY;
    for (int code = 0; code < N_CURVES * N_CURVES * N_CURVES * N_CURVES; code++) {
        double cost = 0, bytes = problem->fixed_bytes, unfolded = problem->fixed_unfolded;
        for (int i = 0, rest = code; i < N_LAYERS; i++, rest /= N_CURVES) {
            const qcnn_setting_curve *curve = &problem->layers[i].curves[rest % N_CURVES];
            const qcnn_setting_point point = qcnn_curve_at(curve, problem->lowest, price);
            cost += point.divergence + price * point.bits;
            bytes += point.bits / 8;
            unfolded += curve->unfolded;
        }
        if (!bounded || !qcnn_unfolds_too_far((uint64_t)unfolded, (uint64_t)(0.98 * bytes)))
            least = fmin(least, cost);
    }
    return least;
}

static void test_bound_is_held(void **state)
{
    (void)state;
    qcnn_setting_curve curves[N_LAYERS][N_CURVES];
    qcnn_layer_curves layers[N_LAYERS];
    fill(curves, layers);
    const qcnn_choice_problem problem = { layers, N_LAYERS, 1e-12, 100000, 5000 };
    qcnn_choice choice = new_choice(&problem);
    int n_bound = 0;
    for (double price = 1e-12; price < 1e-8; price *= 2) {
        qcnn_choose(&choice, price);
        double cost = choice.divergence + price * 8 * (choice.bytes - problem.fixed_bytes);
        const double least = least_cost(&problem, price, true);
        assert_true(choice.readable);
        assert_false(qcnn_unfolds_too_far((uint64_t)choice.unfolded, (uint64_t)choice.bytes));
        assert_true(cost < 1.005 * least + 1e-12); // in steps of the bound
        n_bound += least > 1.01 * least_cost(&problem, price, false);
        const double bytes = choice.bytes, divergence = choice.divergence;
        qcnn_choice_spend(&choice, 1.2 * bytes);
        assert_true(choice.readable && choice.bytes <= 1.2 * bytes && choice.divergence <= divergence);
        assert_false(qcnn_unfolds_too_far((uint64_t)choice.unfolded, (uint64_t)choice.bytes));
    }
    assert_true(n_bound >= 3); // prices at which the best settings of all would not do
    qcnn_choice_free(&choice);
}

// What no settings can keep from unfolding too far is stored plain.
static void test_beyond_the_bound(void **state)
{
    (void)state;
    qcnn_setting_curve curve = curve_of(40 * MEGA, 6, 0.25, 0.01, 1);
    const qcnn_layer_curves layer = { .curves = &curve, .n_curves = 1 };
    const qcnn_choice_problem problem = { &layer, 1, 1e-12, 1000, 0 };
    qcnn_choice choice = new_choice(&problem);
    qcnn_choose(&choice, 1e-10);
    assert_false(choice.readable);
    assert_true(fabs(choice.bytes - 1000 - 30 * MEGA) < 1);
    qcnn_choice_free(&choice);
}

// Of a large layer whose coding saves less than an eighth the writer stores the plain form: its bits, and the fit of price 0.
static void test_plain_where_coding_saves_little(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        qcnn_setting_curve curve = curve_of(MEGA, 6, i ? 0.8 : 0.9, 0.02, 1);
        curve.divergence[0] = 0.01;
        const qcnn_setting_point point = qcnn_curve_at(&curve, 1e-12, 1e-10);
        assert_int_equal(point.priced, i == 1);
        assert_true(fabs(point.bits / (6 * MEGA) - (i ? 0.8 : 1)) < 1e-6);
        assert_true(fabs(point.divergence - (i ? 0.02 : 0.01)) < 1e-6);
    }
}

static void test_time_decides_between_equals(void **state)
{
    (void)state;
    qcnn_setting_curve curves[] = { curve_of(MEGA, 6, 0.5, 0.0100, 3), curve_of(MEGA, 6, 0.5, 0.0102, 1),
                                    curve_of(MEGA, 6, 0.5, 0.02, 0.5) };
    const qcnn_layer_curves layer = { .curves = curves, .n_curves = 3 };
    const qcnn_choice_problem problem = { &layer, 1, 1e-12, 1000, 0 };
    qcnn_choice choice = new_choice(&problem);
    qcnn_choose(&choice, 1e-12);
    assert_int_equal(choice.curves[0], 1);
    qcnn_choice_free(&choice);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bound_is_held),
        cmocka_unit_test(test_beyond_the_bound),
        cmocka_unit_test(test_plain_where_coding_saves_little),
        cmocka_unit_test(test_time_decides_between_equals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
