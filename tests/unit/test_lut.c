// SPDX-License-Identifier: Apache-2.0
// Look-up layers against a double-precision convolution with the decoded weights, over geometries that reach every corner:
// strides beyond the kernel, dilation, asymmetric padding, groups with shared and own codebooks, narrow last subspaces.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "engine/engine.h"

typedef struct lut_case {
    int64_t batch, height, width; // height 0: one spatial dimension
    int groups, inputs, outputs;  // channels of one group
    int kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, top, left, bottom, right;
    int subspace, codewords, sets;
} lut_case;

static const lut_case conv_cases[] = {
    { 1, 7, 9, 1, 8, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 4, 16, 1 },      // plain
    { 2, 13, 13, 2, 12, 10, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 8, 32, 1 },   // groups share, narrow last subspace
    { 1, 13, 31, 2, 9, 7, 5, 5, 1, 1, 1, 1, 2, 2, 2, 2, 2, 128, 2 },    // own codebooks, more than one block of columns
    { 1, 23, 23, 1, 3, 12, 11, 11, 4, 4, 1, 1, 0, 0, 0, 0, 3, 128, 1 }, // AlexNet's first layer, smaller
    { 1, 10, 11, 1, 5, 6, 1, 1, 2, 3, 1, 1, 0, 0, 0, 0, 5, 256, 1 },    // stride beyond the kernel
    { 1, 12, 17, 1, 4, 5, 3, 2, 2, 1, 2, 3, 2, 0, 1, 3, 3, 7, 1 },      // dilation, asymmetric padding, odd K
    { 3, 2, 3, 1, 2, 3, 3, 3, 1, 1, 1, 1, 2, 2, 2, 2, 1, 1, 1 },        // kernel taller than the input, K = 1
    { 1, 0, 40, 2, 6, 4, 1, 5, 1, 2, 1, 2, 0, 3, 0, 4, 4, 9, 2 },       // one dimension
};

static float uniform(qcnn_rng *rng)
{
    return (float)((double)(qcnn_rng_next(rng) >> 40) / (1 << 23) - 1);
}

static float *random_floats(qcnn_rng *rng, size_t n)
{
    float *data = qcnn_allocate(n, sizeof *data);
    for (size_t i = 0; i < n; i++)
        data[i] = uniform(rng);
    return data;
}

static qcnn_tensor random_codebook(qcnn_rng *rng, const lut_case *c, int taps, const qcnn_shape *shape)
{
    qcnn_codebook book = { .groups = c->groups,
                           .n_sets = c->sets,
                           .n_inputs = c->inputs,
                           .n_outputs = c->outputs,
                           .n_taps = taps,
                           .subspace = c->subspace,
                           .n_subspaces = (c->inputs - 1) / c->subspace + 1,
                           .n_codewords = c->codewords };
    const size_t n_codes = (size_t)(c->groups * book.n_subspaces * taps * c->outputs);
    float *codewords = random_floats(rng, (size_t)(c->sets * book.n_subspaces * c->codewords * c->subspace));
    uint8_t *codes = qcnn_allocate(n_codes, 1);
    for (size_t i = 0; i < n_codes; i++)
        codes[i] = (uint8_t)(qcnn_rng_next(rng) % (uint64_t)c->codewords);
    book.codewords = codewords;
    book.assignments = codes;
    return (qcnn_tensor){ .shape = *shape, .codebook = book, .owned_data = codewords, .owned_assignments = codes, .error = -1 };
}

// A model of one layer with a bias and a ReLU, forced to run by tables.
static qcnn_model *one_layer(qcnn_rng *rng, const lut_case *c, qcnn_op op, const qcnn_attributes *attributes, const qcnn_shape *x,
                             const qcnn_shape *w, int taps, const char *kernels, bool exact)
{
    qcnn_model *model;
    int values[3], output, tensor;
    const qcnn_shape bias_shape = { 1, { w->dims[0] } };
    assert_int_equal(qcnn_model_new(&model, NULL), QCNN_OK);
    qcnn_tensor weights = random_codebook(rng, c, taps, w);
    qcnn_tensor bias = { .shape = bias_shape, .data = random_floats(rng, (size_t)w->dims[0]), .error = -1 };
    bias.owned_data = (void *)(uintptr_t)bias.data;
    qcnn_model_add_value(model, "x", x, -1, &values[0], NULL);
    qcnn_model_add_tensor(model, &weights, &tensor, NULL);
    qcnn_model_add_value(model, "w", w, tensor, &values[1], NULL);
    qcnn_model_add_tensor(model, &bias, &tensor, NULL);
    qcnn_model_add_value(model, "b", &bias_shape, tensor, &values[2], NULL);
    qcnn_model_add_value(model, "y", NULL, -1, &output, NULL);
    qcnn_model_add_node(model, op, "layer", values, 3, output, attributes, NULL, NULL);
    qcnn_model_add_input(model, values[0], NULL);
    qcnn_model_add_output(model, output, NULL);
    qcnn_error error;
    model->exact = exact;
    if (qcnn_model_prepare(model, kernels, &error) != QCNN_OK)
        fail_msg("%s", error.message);
    qcnn_node *node = &model->nodes[0];
    qcnn_release(node->decoded);
    qcnn_release(node->bytes);
    node->decoded = NULL;
    node->bytes = NULL;
    node->method = QCNN_METHOD_LUT;
    const qcnn_codebook *book = &model->tensors[0].codebook;
    if (!exact && !node->byte_codebook && (op == QCNN_OP_FC || model->kernels->conv_byte_tables))
        assert_int_equal(qcnn_byte_codebook_make(book, qcnn_table_width(book->n_codewords, op == QCNN_OP_CONV), &node->byte_codebook, NULL),
                         QCNN_OK);
    return model;
}

static float *run_model(const qcnn_model *model, int batch, const float *x, const qcnn_parallel *parallel, size_t n_out)
{
    qcnn_session_options options = qcnn_session_options_default();
    options.batch = batch;
    options.parallel = parallel;
    qcnn_session *session;
    qcnn_error error;
    if (qcnn_session_create(model, &options, &session, &error) != QCNN_OK)
        fail_msg("%s", error.message);
    float *y = qcnn_allocate(n_out, sizeof *y);
    qcnn_run(session, (const float *const[]){ x }, (float *const[]){ y });
    qcnn_session_free(session);
    return y;
}

// How far integer tables may be off: inputs and codewords lie in -1..1, so a table entry is off by at most half a step of its
// own, 1/254 of the largest possible, and of the 1/2 and 1/254 of a step of inputs and codewords. Errors of an output's entries
// mostly cancel: five times the root of their number.
static double integer_bound(const qcnn_model *model)
{
    const qcnn_codebook *book = &model->tensors[0].codebook;
    const double entry = book->subspace * (0.5 / 127 + 0.5 / 127 + 0.5 / 127);
    return 5 * entry * sqrt((double)book->n_subspaces * book->n_taps) / sqrt(3);
}

static void backwards(void *context, int n_tasks, void (*task)(void *argument, int index, int worker), void *argument)
{
    (void)context;
    for (int i = n_tasks - 1; i >= 0; i--)
        task(argument, i, i % 3);
}

static const qcnn_parallel backwards_hook = { backwards, NULL, 3 };

static void check_conv(const lut_case *c, const char *kernels, bool exact)
{
    qcnn_rng rng;
    rng = (qcnn_rng){ qcnn_rng_split(7, 0) };
    const int rank = c->height ? 4 : 3, row = c->height ? 0 : -1, column = rank - 3;
    qcnn_attributes a = { .n_spatial = rank - 2, .groups = c->groups, .activation = { QCNN_RELU, 0, 0 } };
    qcnn_shape x = { rank, { 1, (int64_t)c->groups * c->inputs } }, w = { rank, { (int64_t)c->groups * c->outputs, c->inputs } };
    if (row >= 0) {
        a.kernel[0] = c->kernel_h, a.stride[0] = c->stride_h, a.dilation[0] = c->dilation_h;
        a.window_begin[0] = c->top, a.window_end[0] = c->bottom;
        x.dims[2] = c->height, w.dims[2] = c->kernel_h;
    }
    a.kernel[column] = c->kernel_w, a.stride[column] = c->stride_w, a.dilation[column] = c->dilation_w;
    a.window_begin[column] = c->left, a.window_end[column] = c->right;
    x.dims[2 + column] = c->width, w.dims[2 + column] = c->kernel_w;
    const int taps = c->kernel_h * c->kernel_w;
    qcnn_model *model = one_layer(&rng, c, QCNN_OP_CONV, &a, &x, &w, taps, kernels, exact);

    const qcnn_shape y_shape = qcnn_model_output(model, 0).shape;
    const int64_t height = c->height ? c->height : 1, out_h = row >= 0 ? y_shape.dims[2] : 1, out_w = y_shape.dims[2 + column];
    const size_t image_in = (size_t)(x.dims[1] * height * c->width), image_out = (size_t)(y_shape.dims[1] * out_h * out_w);
    float *input = random_floats(&rng, (size_t)c->batch * image_in);
    float *dense = qcnn_allocate((size_t)qcnn_shape_elements(&w), sizeof *dense);
    qcnn_codebook_decode(&model->tensors[0].codebook, dense);
    float *y = run_model(model, (int)c->batch, input, NULL, (size_t)c->batch * image_out);
    float *split = run_model(model, (int)c->batch, input, &backwards_hook, (size_t)c->batch * image_out);
    assert_memory_equal(y, split, (size_t)c->batch * image_out * sizeof *y);
    float *last = run_model(model, 1, input + (size_t)(c->batch - 1) * image_in, NULL, image_out);
    assert_memory_equal(y + (size_t)(c->batch - 1) * image_out, last, image_out * sizeof *y);

    for (size_t i = 0; i < (size_t)c->batch * image_out; i++) {
        const int64_t q = (int64_t)i % out_w, p = (int64_t)i / out_w % out_h, o = (int64_t)i / out_w / out_h % y_shape.dims[1];
        const int64_t image = (int64_t)(i / image_out), group = o / c->outputs;
        double sum = model->tensors[1].data[o];
        for (int channel = 0; channel < c->inputs; channel++)
            for (int ky = 0; ky < c->kernel_h; ky++)
                for (int kx = 0; kx < c->kernel_w; kx++) {
                    const int64_t iy = p * c->stride_h - c->top + ky * c->dilation_h, ix = q * c->stride_w - c->left + kx * c->dilation_w;
                    if (iy < 0 || iy >= height || ix < 0 || ix >= c->width)
                        continue;
                    const int64_t plane = image * x.dims[1] + group * c->inputs + channel;
                    sum += (double)input[(plane * height + iy) * c->width + ix] *
                           dense[((o * c->inputs + channel) * c->kernel_h + ky) * c->kernel_w + kx];
                }
        assert_float_equal(y[i], sum > 0 ? sum : 0, exact ? 1e-4 : integer_bound(model));
    }
    qcnn_release(input);
    qcnn_release(dense);
    qcnn_release(y);
    qcnn_release(split);
    qcnn_release(last);
    qcnn_model_free(model);
}

static void convolutions(void **state)
{
    (void)state;
    for (int tier = 0; qcnn_kernels_name(tier); tier++)
        for (size_t i = 0; i < sizeof conv_cases / sizeof *conv_cases; i++)
            for (int exact = 0; exact <= 1; exact++)
                check_conv(&conv_cases[i], qcnn_kernels_name(tier), exact);
}

static void check_fc(int rows, int n_in, int n_out, int subspace, int codewords, const char *kernels, bool exact)
{
    qcnn_rng rng;
    rng = (qcnn_rng){ qcnn_rng_split(11, 0) };
    const lut_case c = { .groups = 1, .inputs = n_in, .outputs = n_out, .subspace = subspace, .codewords = codewords, .sets = 1 };
    const qcnn_shape x = { 2, { 1, n_in } }, w = { 2, { n_out, n_in } };
    const qcnn_attributes a = { .activation = { QCNN_RELU, 0, 0 } };
    qcnn_model *model = one_layer(&rng, &c, QCNN_OP_FC, &a, &x, &w, 1, kernels, exact);
    float *input = random_floats(&rng, (size_t)rows * (size_t)n_in);
    float *dense = qcnn_allocate((size_t)n_in * (size_t)n_out, sizeof *dense);
    qcnn_codebook_decode(&model->tensors[0].codebook, dense);
    float *y = run_model(model, rows, input, NULL, (size_t)rows * (size_t)n_out);
    float *split = run_model(model, rows, input, &backwards_hook, (size_t)rows * (size_t)n_out);
    float *last = run_model(model, 1, input + (size_t)(rows - 1) * (size_t)n_in, NULL, (size_t)n_out);
    assert_memory_equal(y, split, (size_t)rows * (size_t)n_out * sizeof *y);
    assert_memory_equal(y + (size_t)(rows - 1) * (size_t)n_out, last, (size_t)n_out * sizeof *y);
    for (int row = 0; row < rows; row++)
        for (int o = 0; o < n_out; o++) {
            double sum = model->tensors[1].data[o];
            for (int i = 0; i < n_in; i++)
                sum += (double)input[row * n_in + i] * dense[o * n_in + i];
            assert_float_equal(y[row * n_out + o], sum > 0 ? sum : 0, exact ? 1e-4 : integer_bound(model));
        }
    qcnn_release(input);
    qcnn_release(dense);
    qcnn_release(y);
    qcnn_release(split);
    qcnn_release(last);
    qcnn_model_free(model);
}

static void fully_connected(void **state)
{
    (void)state;
    for (int tier = 0; qcnn_kernels_name(tier); tier++)
        for (int exact = 0; exact <= 1; exact++) {
            check_fc(1, 30, 17, 4, 16, qcnn_kernels_name(tier), exact);
            check_fc(5, 31, 300, 4, 32, qcnn_kernels_name(tier), exact);
            check_fc(37, 64, 9, 1, 16, qcnn_kernels_name(tier), exact);
            check_fc(16, 100, 513, 7, 256, qcnn_kernels_name(tier), exact);
        }
}

// Sums of the same tables must agree to the bit in every tier.
static void sums_are_bit_exact(void **state)
{
    (void)state;
    enum { LANES = 48, TAPS = 5, CODEWORDS = 11, STRIDE = 53 };
    qcnn_rng rng;
    rng = (qcnn_rng){ qcnn_rng_split(3, 0) };
    float *table = random_floats(&rng, TAPS * CODEWORDS * STRIDE);
    const qcnn_kernels *reference = qcnn_kernels_find("c");
    for (int tier = 0; qcnn_kernels_name(tier); tier++)
        for (size_t n_outputs = 1; n_outputs < 14; n_outputs++) {
            const qcnn_kernels *kernels = qcnn_kernels_find(qcnn_kernels_name(tier));
            uint8_t codes[TAPS * 14];
            const float *tables[TAPS];
            for (size_t i = 0; i < sizeof codes; i++)
                codes[i] = (uint8_t)(qcnn_rng_next(&rng) % CODEWORDS);
            for (int t = 0; t < TAPS; t++)
                tables[t] = table + t * CODEWORDS * STRIDE + t; // misaligned on purpose
            float *expected = random_floats(&rng, n_outputs * LANES), *got = qcnn_allocate(n_outputs * LANES, sizeof *got);
            memcpy(got, expected, n_outputs * LANES * sizeof *got);
            reference->lut_sum_columns(n_outputs, TAPS, codes, tables, STRIDE, expected, LANES);
            kernels->lut_sum_columns(n_outputs, TAPS, codes, tables, STRIDE, got, LANES);
            assert_memory_equal(expected, got, n_outputs * LANES * sizeof *got);
            qcnn_release(expected);
            qcnn_release(got);
        }
    qcnn_release(table);
}

static void single_sums_are_bit_exact(void **state)
{
    (void)state;
    enum { SUBSPACES = 7, MAX_OUTPUTS = 70 };
    static const int n_codewords[] = { 1, 5, 8, 16, 31, 32, 64, 128, 256 };
    qcnn_rng rng = { 5 };
    float *tables = random_floats(&rng, SUBSPACES * 256);
    const qcnn_kernels *reference = qcnn_kernels_find("c");
    for (int tier = 0; qcnn_kernels_name(tier); tier++)
        for (size_t k = 0; k < sizeof n_codewords / sizeof *n_codewords; k++)
            for (size_t n = 1; n < MAX_OUTPUTS; n++) {
                uint8_t codes[SUBSPACES * MAX_OUTPUTS];
                for (size_t i = 0; i < sizeof codes; i++)
                    codes[i] = (uint8_t)qcnn_rng_below(&rng, (uint32_t)n_codewords[k]);
                float expected[MAX_OUTPUTS] = { 1 }, got[MAX_OUTPUTS] = { 1 };
                reference->lut_sum(n, SUBSPACES, codes, MAX_OUTPUTS, tables, (size_t)n_codewords[k], expected);
                qcnn_kernels_find(qcnn_kernels_name(tier))->lut_sum(n, SUBSPACES, codes, MAX_OUTPUTS, tables, (size_t)n_codewords[k], got);
                assert_memory_equal(expected, got, sizeof got);
            }
    qcnn_release(tables);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_bit_exact),
        cmocka_unit_test(single_sums_are_bit_exact),
        cmocka_unit_test(convolutions),
        cmocka_unit_test(fully_connected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
