// SPDX-License-Identifier: Apache-2.0
// The cost model that decides how a codebook layer runs: by tables, or dense with its weights decoded once at load.
// docs/method.md derives the counts; the three prices were fitted to measurements (bench/, docs/speed.md).

#include "model/model.h"

// In units of one multiply-add of the dense convolution path (0.027 ns on one core of a Zen 3 with AVX2). Measured there on
// AlexNet's layers: a table multiplication of a convolution 4.5 (short sums, and every result is stored), its look-up (a
// vector load and addition) 2.8; a look-up of a fully-connected layer at batch 1 between 7 and 17, depending on K and tier.
// A byte of weights or assignments comes from memory once a run: 1.75 measured. The last two prices are not fits but a
// choice: 10 within the range, and 4 above the measurement, so that AlexNet's fc8 (C'=1, K=16) keeps the memory that compression
// saved. Dense it was the faster one here with warm caches, 0.14 against 0.21 ms.
static const double COST_TABLE = 4.5, COST_CONV_LOOKUP = 2.8, COST_FC_LOOKUP = 10, COST_BYTE = 4;

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

static qcnn_layer_cost conv_cost(const qcnn_node *node, const qcnn_tensor *weights, const qcnn_shape *x, const qcnn_shape *y)
{
    const qcnn_attributes *a = &node->attributes;
    uint64_t taps = 1;
    for (int i = 0; i < a->n_spatial; i++)
        taps *= (uint64_t)a->kernel[i];
    const uint64_t batch = (uint64_t)y->dims[0], c_in = (uint64_t)x->dims[1], c_out = (uint64_t)y->dims[1], positions = spatial_product(y);
    const uint64_t n_weights = c_in / (uint64_t)a->groups * c_out * taps;
    qcnn_layer_cost cost = { .dense_operations = batch * positions * n_weights };
    cost.dense = (double)cost.dense_operations + COST_BYTE * sizeof(float) * (double)n_weights;
    if (!weights || !qcnn_is_codebook(weights))
        return cost;
    const uint64_t codes = c_out * taps * (uint64_t)weights->codebook.n_subspaces;
    cost.table_multiplications = batch * pixels_read(a, x, y) * c_in * (uint64_t)weights->codebook.n_codewords;
    cost.lookups = batch * positions * codes;
    cost.lut = COST_TABLE * (double)cost.table_multiplications + COST_CONV_LOOKUP * (double)cost.lookups + COST_BYTE * (double)codes;
    return cost;
}

static qcnn_layer_cost fc_cost(const qcnn_tensor *weights, const qcnn_shape *x, const qcnn_shape *y)
{
    const uint64_t n_in = (uint64_t)x->dims[x->rank - 1], n_out = (uint64_t)y->dims[y->rank - 1];
    const uint64_t rows = qcnn_shape_elements(x) / n_in;
    qcnn_layer_cost cost = { .dense_operations = rows * n_in * n_out };
    cost.dense = (double)cost.dense_operations + COST_BYTE * sizeof(float) * (double)(n_in * n_out);
    if (!weights || !qcnn_is_codebook(weights))
        return cost;
    const uint64_t codes = n_out * (uint64_t)weights->codebook.n_subspaces;
    cost.table_multiplications = rows * n_in * (uint64_t)weights->codebook.n_codewords;
    cost.lookups = rows * codes;
    cost.lut = COST_TABLE * (double)cost.table_multiplications + COST_FC_LOOKUP * (double)cost.lookups + COST_BYTE * (double)codes;
    return cost;
}

qcnn_layer_cost qcnn_cost(const qcnn_node *node, const qcnn_tensor *weights, const qcnn_shape *input, const qcnn_shape *output)
{
    if (node->op == QCNN_OP_CONV)
        return conv_cost(node, weights, input, output);
    if (node->op == QCNN_OP_FC)
        return fc_cost(weights, input, output);
    return (qcnn_layer_cost){ 0 };
}
