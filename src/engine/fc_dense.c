// SPDX-License-Identifier: Apache-2.0
// Fully-connected layer with float weights. One image is bound by reading the weights, a batch reads them once for all.

#include <string.h>

#include "engine/layers.h"

// A block of weights is used for every row of the input while it is in the cache. The scalar products add up blocks of
// INPUT_BLOCK in rising order, each within itself in the order of the kernel.
enum { OUTPUT_BLOCK = 24, INPUT_BLOCK = 1024 };

static void run_fc_outputs(void *argument, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const qcnn_step *step = argument;
    const qcnn_shape *w = &step->inputs[1].shape;
    const size_t n_outputs = (size_t)w->dims[0], n_inputs = (size_t)w->dims[1];
    const size_t n_rows = (size_t)qcnn_shape_elements(&step->inputs[0].shape) / n_inputs;
    const float *bias = step->node->n_inputs > 2 ? step->inputs[2].data : NULL;
    for (size_t o = (size_t)begin; o < (size_t)end; o += OUTPUT_BLOCK) {
        const size_t n = (size_t)end - o < OUTPUT_BLOCK ? (size_t)end - o : OUTPUT_BLOCK;
        float *y = step->output + o; // (rows, n), rows n_outputs apart
        for (size_t row = 0; row < n_rows; row++)
            for (size_t i = 0; i < n; i++)
                y[row * n_outputs + i] = bias ? bias[o + i] : 0;
        for (size_t k = 0; k < n_inputs; k += INPUT_BLOCK)
            step->kernels->dots(n, n_rows, n_inputs - k < INPUT_BLOCK ? n_inputs - k : INPUT_BLOCK, step->inputs[1].data + o * n_inputs + k,
                                n_inputs, step->inputs[0].data + k, n_inputs, y, n_outputs);
        for (size_t row = 0; row < n_rows; row++)
            qcnn_fused_activation(step, y + row * n_outputs, n);
    }
}

static void fc_dense_run(const qcnn_step *step, const qcnn_parallel *parallel)
{
    qcnn_for_range(parallel, step->inputs[1].shape.dims[0], OUTPUT_BLOCK, run_fc_outputs, (void *)step);
}

const qcnn_layer_type qcnn_layer_fc_dense = { .run = fc_dense_run };
