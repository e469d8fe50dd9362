// SPDX-License-Identifier: Apache-2.0
// Product quantization of single layers: forms, narrower subspaces, groups, K above the columns, threads, progress.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka.h needs the four above
#include <cmocka.h>

#include "base/rng.h"
#include "compress/quantize.h"

static float *random_weights(size_t n, uint64_t seed)
{
    float *weights = qcnn_allocate(n, sizeof *weights);
    assert_non_null(weights);
    qcnn_rng rng = { seed };
    for (size_t i = 0; i < n; i++)
        weights[i] = (float)(qcnn_rng_unit(&rng) - 0.5);
    return weights;
}

static qcnn_codebook form_of(int c_out, int c_in, int n_taps, int groups, bool per_group, int subspace, int n_codewords)
{
    const qcnn_shape shape = { 3, { c_out, c_in, n_taps } };
    const qcnn_codebook form = qcnn_codebook_form(&shape, groups, per_group, subspace, n_codewords);
    assert_true(form.n_subspaces > 0);
    return form;
}

static size_t n_weights(const qcnn_codebook *form)
{
    return (size_t)form->groups * (size_t)form->n_outputs * (size_t)form->n_inputs * (size_t)form->n_taps;
}

static size_t n_assignments(const qcnn_codebook *form)
{
    return (size_t)form->groups * (size_t)form->n_subspaces * (size_t)form->n_taps * (size_t)form->n_outputs;
}

static qcnn_tensor quantize(const qcnn_codebook *form, const float *weights, const qcnn_parallel *parallel)
{
    qcnn_tensor tensor;
    qcnn_error error;
    const qcnn_quantize_options options = { .name = "layer", .seed = 3, .parallel = parallel };
    assert_int_equal(qcnn_quantize(form, weights, &options, &tensor, &error), QCNN_OK);
    const qcnn_codebook *book = &tensor.codebook;
    for (size_t i = 0; i < n_assignments(book); i++)
        assert_true(book->assignments[i] < book->n_codewords);
    return tensor;
}

// ||W - W'||^2 / ||W||^2
static double relative_error(const qcnn_codebook *book, const float *weights)
{
    const size_t n = n_weights(book);
    float *decoded = qcnn_allocate(n, sizeof *decoded);
    assert_non_null(decoded);
    qcnn_codebook_decode(book, decoded);
    double error = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        const double e = (double)weights[i] - (double)decoded[i];
        error += e * e;
        squares += (double)weights[i] * (double)weights[i];
    }
    qcnn_release(decoded);
    return error / squares;
}

// With as many codewords as columns every weight comes back exactly: gather, store and decode agree on every layout.
static void test_exact_when_k_reaches_the_columns(void **state)
{
    (void)state;
    static const int cases[][6] = {
        // c_out, c_in, taps, groups, per group, C'
        { 10, 7, 1, 1, 0, 3 }, { 6, 5, 4, 1, 0, 2 },  { 8, 5, 3, 2, 0, 4 },
        { 8, 5, 3, 2, 1, 4 },  { 12, 3, 9, 4, 1, 3 }, { 1, 1, 1, 1, 0, 1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int *c = cases[i];
        const qcnn_codebook form = form_of(c[0], c[1], c[2], c[3], c[4], c[5], 256);
        assert_int_equal(form.n_codewords, c[0] * c[2] / (c[4] ? c[3] : 1));
        float *weights = random_weights(n_weights(&form), i);
        qcnn_tensor tensor = quantize(&form, weights, NULL);
        assert_true(relative_error(&tensor.codebook, weights) == 0);
        qcnn_tensor_release(&tensor);
        qcnn_release(weights);
    }
}

static void test_form(void **state)
{
    (void)state;
    const qcnn_codebook form = form_of(12, 10, 9, 3, true, 4, 20);
    assert_int_equal(form.groups, 3);
    assert_int_equal(form.n_sets, 3);
    assert_int_equal(form.n_inputs, 10);
    assert_int_equal(form.n_outputs, 4);
    assert_int_equal(form.n_taps, 9);
    assert_int_equal(form.n_subspaces, 3);
    assert_int_equal(form.n_codewords, 20);
    assert_int_equal(qcnn_codebook_n_columns(&form), 36);
    assert_int_equal(qcnn_codebook_width(&form, 1), 4);
    assert_int_equal(qcnn_codebook_width(&form, 2), 2);
    const qcnn_shape huge = { 3, { 1 << 30, 4, 1 << 30 } };
    assert_int_equal(qcnn_codebook_form(&huge, 1, false, 4, 16).n_subspaces, 0);
}

// What lies behind a narrower last subspace is zero, for the format says so.
static void test_padding_is_zero(void **state)
{
    (void)state;
    const qcnn_codebook form = form_of(40, 10, 2, 1, false, 4, 16);
    float *weights = random_weights(n_weights(&form), 7);
    qcnn_tensor tensor = quantize(&form, weights, NULL);
    for (int k = 0; k < 16; k++)
        for (int i = 2; i < 4; i++)
            assert_true(tensor.codebook.codewords[(2 * 16 + k) * 4 + i] == 0);
    assert_true(relative_error(&tensor.codebook, weights) < 0.6);
    qcnn_tensor_release(&tensor);
    qcnn_release(weights);
}

static void test_more_codewords_err_less(void **state)
{
    (void)state;
    double previous = INFINITY;
    for (int k = 2; k <= 256; k *= 2) {
        const qcnn_codebook form = form_of(64, 12, 9, 2, false, 5, k);
        float *weights = random_weights(n_weights(&form), 1);
        qcnn_tensor tensor = quantize(&form, weights, NULL);
        const double error = relative_error(&tensor.codebook, weights);
        assert_true(error < previous);
        previous = error;
        qcnn_tensor_release(&tensor);
        qcnn_release(weights);
    }
}

static void test_a_set_per_group_errs_less(void **state)
{
    (void)state;
    double errors[2];
    for (int per_group = 0; per_group < 2; per_group++) {
        const qcnn_codebook form = form_of(64, 8, 9, 4, per_group, 4, 32);
        float *weights = random_weights(n_weights(&form), 2);
        qcnn_tensor tensor = quantize(&form, weights, NULL);
        errors[per_group] = relative_error(&tensor.codebook, weights);
        qcnn_tensor_release(&tensor);
        qcnn_release(weights);
    }
    assert_true(errors[1] < errors[0]);
}

// Weights of only three values need three codewords, or three to the power of C'.
static void test_unused_codewords_are_dropped(void **state)
{
    (void)state;
    const qcnn_codebook form = form_of(50, 9, 4, 1, false, 2, 128);
    float *weights = random_weights(n_weights(&form), 3);
    for (size_t i = 0; i < n_weights(&form); i++)
        weights[i] = weights[i] < -0.2f ? -1 : weights[i] > 0.2f ? 2 : 0;
    qcnn_tensor tensor = quantize(&form, weights, NULL);
    assert_int_equal(tensor.codebook.n_codewords, 9);
    assert_true(relative_error(&tensor.codebook, weights) == 0);
    qcnn_tensor_release(&tensor);
    qcnn_release(weights);
}

static void test_threads_change_nothing(void **state)
{
    (void)state;
    static const int cases[][5] = { { 64, 90, 1, 1, 4 }, { 48, 20, 9, 2, 8 } }; // c_out, c_in, taps, groups, C'
    for (size_t i = 0; i < 2; i++) {
        const int *c = cases[i];
        const qcnn_codebook form = form_of(c[0], c[1], c[2], c[3], c[3] > 1, c[4], 16);
        float *weights = random_weights(n_weights(&form), i);
        qcnn_tensor serial = quantize(&form, weights, NULL);
        for (int n_threads = 1; n_threads <= 4; n_threads *= 2) {
            qcnn_pool *pool;
            assert_int_equal(qcnn_pool_create(n_threads, &pool, NULL), QCNN_OK);
            qcnn_tensor parallel = quantize(&form, weights, qcnn_pool_hook(pool));
            const size_t n = (size_t)form.n_sets * (size_t)form.n_subspaces * 16 * (size_t)form.subspace;
            assert_memory_equal(serial.codebook.codewords, parallel.codebook.codewords, n * sizeof(float));
            assert_memory_equal(serial.codebook.assignments, parallel.codebook.assignments, n_assignments(&form));
            qcnn_tensor_release(&parallel);
            qcnn_pool_free(pool);
        }
        qcnn_tensor_release(&serial);
        qcnn_release(weights);
    }
}

static void test_not_finite(void **state)
{
    (void)state;
    const qcnn_codebook form = form_of(10, 6, 1, 1, false, 2, 4);
    float *weights = random_weights(n_weights(&form), 0);
    weights[17] = NAN;
    qcnn_tensor tensor;
    qcnn_error error;
    const qcnn_quantize_options options = { .name = "fc_x" };
    assert_int_equal(qcnn_quantize(&form, weights, &options, &tensor, &error), QCNN_ERROR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "'fc_x': weight 17"));
    assert_null(tensor.owned_data);
    qcnn_release(weights);
}

typedef struct watch {
    double last;
    int n_reports, stop_at; // stop at this report; 0: never
} watch;

static int watch_report(void *context, const char *stage, double fraction)
{
    watch *w = context;
    assert_string_equal(stage, "layer");
    assert_true(fraction >= w->last && fraction <= 1);
    w->last = fraction;
    return ++w->n_reports == w->stop_at;
}

static void test_progress_and_cancel(void **state)
{
    (void)state;
    const qcnn_codebook form = form_of(20, 200, 1, 1, false, 2, 4);
    float *weights = random_weights(n_weights(&form), 0);
    watch w = { 0 };
    const qcnn_progress progress = { watch_report, &w };
    const qcnn_quantize_options options = { .name = "layer", .progress = &progress };
    qcnn_tensor tensor;
    qcnn_error error;
    assert_int_equal(qcnn_quantize(&form, weights, &options, &tensor, &error), QCNN_OK);
    assert_true(w.last == 1);
    qcnn_tensor_release(&tensor);
    const int n_reports = w.n_reports;
    assert_true(n_reports > 5);
    for (int stop_at = 1; stop_at <= n_reports; stop_at++) {
        w = (watch){ .stop_at = stop_at };
        assert_int_equal(qcnn_quantize(&form, weights, &options, &tensor, &error), QCNN_ERROR_CANCELLED);
        assert_int_equal(w.n_reports, stop_at);
        assert_null(tensor.owned_data);
    }
    qcnn_release(weights);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact_when_k_reaches_the_columns),
        cmocka_unit_test(test_form),
        cmocka_unit_test(test_padding_is_zero),
        cmocka_unit_test(test_more_codewords_err_less),
        cmocka_unit_test(test_a_set_per_group_errs_less),
        cmocka_unit_test(test_unused_codewords_are_dropped),
        cmocka_unit_test(test_threads_change_nothing),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_progress_and_cancel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
