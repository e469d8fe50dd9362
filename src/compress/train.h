// SPDX-License-Identifier: Apache-2.0
// Training a compressed network: its forward pass over a batch, the gradients of a loss at its logits, and the steps of its
// codewords and biases. refine.c drives it; the original network, run by the same code, is the teacher.
//
// Results do not depend on the number of threads: work is cut into pieces whose number and order of summation are fixed.

#ifndef QCNN_COMPRESS_TRAIN_H
#define QCNN_COMPRESS_TRAIN_H

#include "base/parallel.h"
#include "base/rng.h"
#include "compress/blas.h"
#include "engine/layers.h"
#include "model/model.h"

// The images of a batch lie in this many slices, each computed by one thread and with weight gradients of its own.
enum { QCNN_TRAIN_SLICES = 8 };

// Inputs of a fully-connected layer that are trained together, at most, where subspaces are not wider themselves.
enum { QCNN_TRAIN_INPUT_TILE = 192 };

// An activation of a batch. `rows`: [batch][channels], what fully-connected layers read and the logits are. Otherwise
// [slice][channel][image of the slice][position], so that one GEMM serves several images.
typedef struct qcnn_train_value {
    bool present, rows;
    int64_t channels, n_positions;
    qcnn_shape shape; // at batch 1
    float *data;
    float *gradient; // NULL: nothing that is trained lies before it
    bool borrowed;   // the teacher's data
} qcnn_train_value;

// Weights held as a codebook, while they are trained. "Columns" are the dense weights in the order of the assignments,
// [groups][n_inputs][n_taps][n_outputs].
typedef struct qcnn_train_weights {
    int tensor;                       // of the model
    qcnn_codebook book;               // points to the two below
    float *codewords;                 // [n_sets][M][K][C']
    const uint8_t *assignments;       // [groups][M][n_taps][n_outputs], the model's
    float *gradient, *first, *second; // of the codewords; Adam's moments
    float *columns;                   // convolutions: decoded once a step
    float *column_gradients;          // convolutions: [slices] of them
    float scale;                      // root mean square of the columns
    float unit; // of learning rates: the scale over the root of what an output sums, so that responses of wide layers move no faster
    size_t n_columns, n_codewords, n_assignments; // elements
} qcnn_train_weights;

typedef struct qcnn_train_bias {
    int tensor;
    size_t n;
    float *values, *gradients; // gradients: [slices][n]
    float *first, *second;
    float unit; // of learning rates, as the weights' of its layer
} qcnn_train_bias;

typedef struct qcnn_train_layer {
    const qcnn_node *node;
    int weights, bias;                  // of the trainer; -1: none
    const float *dense, *constant_bias; // weights and bias that are not trained, [c_out][n_inputs * n_taps]
    bool shared;                        // its output is the teacher's
    qcnn_window window;                 // conv, pools
    int32_t *chosen;                    // max pool: where in its plane each output's maximum lies
    float *before;                      // what the activation was given, where its derivative asks for it
} qcnn_train_layer;

typedef struct qcnn_trainer {
    const qcnn_model *model;
    const qcnn_parallel *parallel;
    int batch, slice; // slice: images of one
    bool backward, everywhere;
    qcnn_train_value *values;
    qcnn_train_layer *layers;
    qcnn_train_weights *weights;
    qcnn_train_bias *biases;
    size_t n_layers, n_weights, n_biases;
    int input, logits; // values: what is given, what the loss reads
    float *scratch;    // [workers][scratch_floats]
    size_t scratch_floats;
    float *gemm_scratch; // [workers][gemm_floats]; NULL: products in float32
    size_t gemm_floats;
} qcnn_trainer;

typedef struct qcnn_train_options {
    int batch;                   // a multiple of QCNN_TRAIN_SLICES
    bool backward;               // false: forward only
    bool exact;                  // products in float32 where bfloat16 would be faster
    bool everywhere;             // gradients of all values, though nothing may be trained before them
    size_t first_node;           // not 0: layers before this node are left out, and its first input is what is given; all later layers must
                                 // depend on the rest of the graph through that value alone
    const qcnn_trainer *teacher; // NULL, or the trainer of the original: layers that are the same need not run twice
    const qcnn_parallel *parallel;
} qcnn_train_options;

// A trainer of `model` (prepared, and alive as long as the trainer). Errors: UNSUPPORTED names a node that cannot be
// trained through, MEMORY.
qcnn_status qcnn_trainer_new(const qcnn_model *model, const qcnn_train_options *options, qcnn_trainer **trainer, qcnn_error *error);
void qcnn_trainer_free(qcnn_trainer *trainer);

// Where element f of image i of a batch lies in a value; elements of an image count channels, then positions.
static inline size_t qcnn_train_place(const qcnn_trainer *trainer, const qcnn_train_value *value, size_t i, size_t f)
{
    const size_t n = (size_t)value->n_positions, channels = (size_t)value->channels, images = (size_t)trainer->slice;
    return value->rows ? i * channels + f : ((i / images * channels + f / n) * images + i % images) * n + f % n;
}

// Puts image `index` of the batch, [channels][positions], into the input value.
void qcnn_train_set_image(qcnn_trainer *trainer, int index, const float *image);

// Runs the network over the batch. The teacher, if there is one, must have run on the same images.
void qcnn_train_forward(qcnn_trainer *trainer);

// The logits of the batch, [batch][classes], into `logits`; and gradients of a loss back from there.
int qcnn_train_n_classes(const qcnn_trainer *trainer);
void qcnn_train_get_logits(const qcnn_trainer *trainer, float *logits);
void qcnn_train_clear_gradients(qcnn_trainer *trainer);
void qcnn_train_set_logit_gradients(qcnn_trainer *trainer, const float *gradients);

// From the gradients of values to those of codewords and biases (in the trainer's weights and biases).
void qcnn_train_backward(qcnn_trainer *trainer);

// One step of Adam: codewords move by about `rate` times their layer's weight scale.
typedef struct qcnn_train_step {
    int number; // from 1
    float rate, bias_rate;
} qcnn_train_step;
void qcnn_train_update(qcnn_trainer *trainer, const qcnn_train_step *step);

// Loops over independent lanes, compiled for several instruction sets that give the same bits. (Not with clang, whose sanitizers
// run before the choice is made.)
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define QCNN_TRAIN_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define QCNN_TRAIN_CLONES
#endif

// ---- layers (train_layers.c, train_conv.c, train_fc.c) --------------------------------------------------------------

void qcnn_train_layer_forward(qcnn_trainer *trainer, qcnn_train_layer *layer);
void qcnn_train_layer_backward(qcnn_trainer *trainer, qcnn_train_layer *layer);
void qcnn_train_conv_forward(qcnn_trainer *trainer, qcnn_train_layer *layer);
void qcnn_train_conv_backward(qcnn_trainer *trainer, qcnn_train_layer *layer);
size_t qcnn_train_conv_scratch(const qcnn_trainer *trainer, const qcnn_train_layer *layer); // floats
void qcnn_train_fc_forward(qcnn_trainer *trainer, qcnn_train_layer *layer);
void qcnn_train_fc_backward(qcnn_trainer *trainer, qcnn_train_layer *layer);
size_t qcnn_train_fc_scratch(const qcnn_trainer *trainer, const qcnn_train_layer *layer);
size_t qcnn_train_lrn_scratch(const qcnn_trainer *trainer, const qcnn_train_layer *layer);

// A product on the thread of a worker, in bfloat16 where the processor gains by it.
void qcnn_train_gemm(const qcnn_trainer *trainer, const qcnn_gemm_call *call, int worker);

// y = f(y) and dy *= f'(x) over n elements. The derivative is taken from y, or from x = before where not NULL.
void qcnn_train_activate(const qcnn_activation *activation, float *y, size_t n);
void qcnn_train_activation_gradient(const qcnn_activation *activation, const float *y, const float *before, float *gradient, size_t n);
bool qcnn_train_activation_known(qcnn_function function); // can be trained through
bool qcnn_train_activation_needs_input(qcnn_function function);

// ---- codebooks (train_codebook.c) -----------------------------------------------------------------------------------

// Columns of subspace m of a group: outputs first..first + n - 1 of each tap, to [width][n_taps][n].
void qcnn_train_decode(const qcnn_train_weights *weights, int group, int m, int first, int n, float *columns);

// Adds the gradients of columns [width][n_taps * n_outputs] of subspace m of a group to those of its codewords.
void qcnn_train_gather(qcnn_train_weights *weights, int group, int m, const float *gradients);

// Sums the slices' gradients of a convolution's columns and gathers them; nothing for fully-connected layers, which did it.
void qcnn_train_collect(const qcnn_trainer *trainer, qcnn_train_weights *weights);

#endif
