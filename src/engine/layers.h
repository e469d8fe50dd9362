// SPDX-License-Identifier: Apache-2.0
// The layer types that layers.c chooses from, and what several of them share: splitting a range of work over the workers,
// and the geometry of a sliding window.

#ifndef QCNN_ENGINE_LAYERS_H
#define QCNN_ENGINE_LAYERS_H

#include "engine/engine.h"

extern const qcnn_layer_type qcnn_layer_matmul, qcnn_layer_max_pool, qcnn_layer_average_pool, qcnn_layer_lrn, qcnn_layer_unary,
    qcnn_layer_binary, qcnn_layer_softmax, qcnn_layer_concat, qcnn_layer_transpose, qcnn_layer_pad, qcnn_layer_slice, qcnn_layer_reduce;

// Whether a node only renames its first input's elements (x, y: shapes of that input and of the output): it is given the
// input's memory and never run. A reshape always is.
bool qcnn_is_view(const qcnn_node *node, const qcnn_shape *x, const qcnn_shape *y);

// A convolution whose groups have one input channel each (conv_depthwise.c); conv_dense.c hands over to it.
bool qcnn_is_depthwise(const qcnn_step *step);
void qcnn_depthwise_plan(qcnn_step *step);
void qcnn_depthwise_run(const qcnn_step *step, const qcnn_parallel *parallel);

// Calls body(argument, begin, end, worker) for pieces that cover 0..n-1, multiples of `grain` but the last. How many
// pieces depends on the number of workers: the body must give an item the same result whatever piece it is in.
void qcnn_for_range(const qcnn_parallel *parallel, int64_t n, int64_t grain,
                    void (*body)(void *argument, int64_t begin, int64_t end, int worker), void *argument);

// Bytes of a product of sizes, for plan(): SIZE_MAX, which no session accepts, when it does not fit.
size_t qcnn_plan_bytes(uint64_t a, uint64_t b, uint64_t size);

// A window in three dimensions; a layer of fewer has leading ones of side 1.
typedef struct qcnn_window {
    int64_t in[3], out[3];                                       // depth, height, width
    int64_t kernel[3], stride[3], dilation[3], begin[3], end[3]; // begin, end: padding
    int64_t in_elements, out_elements, n_taps;                   // products
} qcnn_window;

qcnn_window qcnn_window_of(const qcnn_attributes *attributes, const qcnn_shape *x, const qcnn_shape *y);

// Where each position reads one input element of its own, in order (a 1x1 convolution): all positions become one row.
void qcnn_window_flatten(qcnn_window *window);

// The taps of the window at `position` along dimension `i` that lie inside the input: tap t reads index
// position * stride - begin + t * dilation. [*first, *last), empty when none does.
void qcnn_window_taps(const qcnn_window *window, int i, int64_t position, int64_t *first, int64_t *last);

// ---- byte planes ----

static inline bool qcnn_is_plane(const qcnn_format *format)
{
    return format->scale > 0;
}

// Quads of one image of that shape, and bytes of one of them: 4 for each position.
static inline size_t qcnn_shape_quads(const qcnn_shape *shape)
{
    return ((size_t)shape->dims[1] + 3) / 4;
}
size_t qcnn_quad_bytes(const qcnn_shape *shape);

// Whether holding a value to the bytes 0..qcnn_held_to is all that an activation does: ReLU, and clips from zero.
static inline bool qcnn_only_holds(const qcnn_activation *activation)
{
    return activation->function == QCNN_RELU || (activation->function == QCNN_CLIP && activation->alpha == 0 && activation->beta > 0);
}
int qcnn_held_to(const qcnn_activation *activation, const qcnn_format *format);

// Additions with a byte plane for output (add_planes.c); elementwise.c hands over to it.
bool qcnn_adds_planes(const qcnn_step *step);
bool qcnn_adds_to_plane(const qcnn_step *step);
void qcnn_add_planes_plan(qcnn_step *step);
void qcnn_add_planes_run(const qcnn_step *step, const qcnn_parallel *parallel);

// Activation of a fused layer over n elements in place; nothing for QCNN_IDENTITY.
static inline void qcnn_fused_activation(const qcnn_step *step, float *y, size_t n)
{
    if (step->node->attributes.activation.function != QCNN_IDENTITY)
        step->kernels->activate(&step->node->attributes.activation, y, y, n);
}

#endif
