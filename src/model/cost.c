// SPDX-License-Identifier: Apache-2.0
// The cost model that decides how a codebook layer runs: by tables, or dense with its weights decoded once at load. Each tier of
// kernels has its prices (src/kernels/prices.c); docs/method.md derives the counts.

#include "model/model.h"

static uint64_t spatial_product(const qcnn_shape *shape)
{
    uint64_t n = 1;
    for (int i = 2; i < shape->rank; i++)
        n *= (uint64_t)shape->dims[i];
    return n;
}

// Input pixels under at least one tap: all of them unless the stride jumps over some.
static uint64_t pixels_read(const qcnn_attributes *a, const qcnn_shape *x, const qcnn_shape *y)
{
    uint64_t n = 1;
    for (int i = 0; i < a->n_spatial; i++) {
        const uint64_t under_taps = (uint64_t)y->dims[2 + i] * (uint64_t)a->kernel[i], side = (uint64_t)x->dims[2 + i];
        n *= under_taps < side ? under_taps : side;
    }
    return n;
}

static uint64_t whole(uint64_t n, int unit)
{
    return (n + (uint64_t)unit - 1) / (uint64_t)unit * (uint64_t)unit;
}

static qcnn_layer_cost conv_cost(const qcnn_prices *prices, const qcnn_node *node, const qcnn_tensor *weights, const qcnn_shape *x,
                                 const qcnn_shape *y)
{
    const qcnn_attributes *a = &node->attributes;
    uint64_t taps = 1;
    for (int i = 0; i < a->n_spatial; i++)
        taps *= (uint64_t)a->kernel[i];
    const uint64_t batch = (uint64_t)y->dims[0], c_in = (uint64_t)x->dims[1], c_out = (uint64_t)y->dims[1], positions = spatial_product(y);
    const uint64_t n_weights = c_in / (uint64_t)a->groups * c_out * taps;
    qcnn_layer_cost cost = { .dense_operations = batch * positions * n_weights };
    const uint64_t groups = (uint64_t)a->groups, width = c_in / groups;
    cost.dense = (double)cost.dense_operations / (double)width * (double)whole(width, prices->quad);
    if (!weights || !qcnn_is_codebook(weights))
        return cost;
    const uint64_t codes = c_out * taps * (uint64_t)weights->codebook.n_subspaces;
    cost.table_multiplications = batch * pixels_read(a, x, y) * c_in * (uint64_t)weights->codebook.n_codewords;
    cost.lookups = batch * positions * codes;
    const uint64_t outputs = c_out / groups, blocks = whole(outputs, prices->block);
    double lookup = prices->conv_lookup * (double)blocks / (double)outputs;
    if (prices->block > 1 && blocks == (uint64_t)prices->block)
        lookup *= 2; // each table is loaded for one vector of outputs
    if (prices->block > 1 && weights->codebook.n_codewords > 128)
        lookup *= 2; // two look-ups and a choice
    cost.lut = prices->conv_table * (double)cost.table_multiplications + lookup * (double)cost.lookups;
    return cost;
}

static qcnn_layer_cost fc_cost(const qcnn_prices *prices, const qcnn_tensor *weights, const qcnn_shape *x, const qcnn_shape *y)
{
    const uint64_t n_in = (uint64_t)x->dims[x->rank - 1], n_out = (uint64_t)y->dims[y->rank - 1];
    const uint64_t rows = qcnn_shape_elements(x) / n_in;
    qcnn_layer_cost cost = { .dense_operations = rows * n_in * n_out };
    cost.dense = prices->fc_multiply * (double)cost.dense_operations + prices->byte * sizeof(float) * (double)(n_in * n_out);
    if (!weights || !qcnn_is_codebook(weights))
        return cost;
    const uint64_t codes = n_out * (uint64_t)weights->codebook.n_subspaces;
    cost.table_multiplications = rows * n_in * (uint64_t)weights->codebook.n_codewords;
    cost.lookups = rows * codes;
    cost.lut =
        prices->fc_table * (double)cost.table_multiplications + prices->fc_lookup * (double)cost.lookups + prices->byte * (double)codes;
    return cost;
}

qcnn_layer_cost qcnn_cost(const qcnn_prices *prices, const qcnn_node *node, const qcnn_tensor *weights, const qcnn_shape *input,
                          const qcnn_shape *output)
{
    if (node->op == QCNN_OP_CONV)
        return conv_cost(prices, node, weights, input, output);
    if (node->op == QCNN_OP_FC)
        return fc_cost(prices, weights, input, output);
    return (qcnn_layer_cost){ 0 };
}
