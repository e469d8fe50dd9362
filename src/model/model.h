// SPDX-License-Identifier: Apache-2.0
// The network in memory: a list of nodes in running order over values, some of which are constant tensors. Importers and
// the .qcnn reader build it, the compressor replaces tensors in it, sessions run it, writers and exporters read it.
//
// The graph is already simple when it gets here: importers have folded constants and shape arithmetic, BatchNorm and
// activations into their neighbours, and replaced operators that others can express.

#ifndef QCNN_MODEL_MODEL_H
#define QCNN_MODEL_MODEL_H

#include <stdbool.h>

#include "base/memory.h"
#include "qcnn.h"

enum { QCNN_MAX_SPATIAL = 3, QCNN_MAX_NAME = 1024, QCNN_MAX_CODEWORDS = 256 };

// ---- tensors --------------------------------------------------------------------------------------------------------

// How numbers are stored in files. In memory weights and codewords are float32 always: those of the other two types are
// decoded when a file is read, and hold only what the type can express, so that writing them again loses nothing. An int8
// number is exactly scale * integer, the integer -127..127, the scale finite and not negative.
typedef enum qcnn_number_type { QCNN_FLOAT32, QCNN_FLOAT16, QCNN_INT8, QCNN_N_NUMBER_TYPES } qcnn_number_type;

// Product-quantized weights of a convolution, [groups * n_outputs][n_inputs][n_taps], or of a fully-connected layer
// (one group, one tap). Every assignment is < n_codewords, checked when the codebook is made or read.
typedef struct qcnn_codebook {
    int groups;      // of the convolution; 1 for a fully-connected layer
    int n_sets;      // sets of codebooks: 1 (all groups share it) or `groups`
    int n_inputs;    // input channels of one group
    int n_outputs;   // output channels of one group
    int n_taps;      // product of the kernel's sides
    int subspace;    // C', 1..n_inputs; the last subspace may be narrower
    int n_subspaces; // M = ceil(n_inputs / C')
    int n_codewords; // K, 1..256
    qcnn_number_type codeword_type;
    const float *codewords;     // [n_sets][M][K][C'], zeros where the last subspace is narrower
    const float *scales;        // [n_sets][M] of int8 codewords, else NULL
    const uint8_t *assignments; // [groups][M][n_taps][n_outputs]
    const float *peaks;         // [groups][M]: the largest size of table entries, by calibration; those beyond are cut; NULL: not known
} qcnn_codebook;

// A constant. Exactly one of `data` and `codebook.codewords` is set; what they point to belongs to the tensor when the
// `owned_` pointer is set and otherwise to whoever outlives the model (a mapped file, the original of a copy). In a model that can
// only run (run_only) those that no run reads may be NULL.
typedef struct qcnn_tensor {
    qcnn_shape shape;
    const float *data; // float32, row-major
    qcnn_number_type data_type;
    const float *data_scales; // [dims[0]] of int8 data, else NULL
    qcnn_codebook codebook;
    void *owned_data; // what to release: data, or the codewords
    void *owned_assignments;
    void *owned_scales; // of the data, or of the codewords
    void *owned_peaks;
    uint64_t stored_bytes; // of its sections in a file, where they are known exactly; 0: what plain ones would take
    float error;           // relative response error of the layer that reads it; negative: not known
    float error_before;    // the same before error correction; 0: not known. Not in files
} qcnn_tensor;

static inline bool qcnn_is_codebook(const qcnn_tensor *tensor)
{
    return tensor->codebook.groups > 0;
}

// ---- nodes ----------------------------------------------------------------------------------------------------------

typedef enum qcnn_op {
    QCNN_OP_CONV,         // x [n][c][spatial...], w [c_out][c / groups][kernel...], optional bias [c_out]
    QCNN_OP_FC,           // x [...][n_in], w [n_out][n_in] (constant), optional bias [n_out] (constant) -> [...][n_out]
    QCNN_OP_MATMUL,       // a [...][m][k], b [...][k][n], leading dimensions broadcast; rank 1 as NumPy's matmul
    QCNN_OP_MAX_POOL,     // x [n][c][spatial...]
    QCNN_OP_AVERAGE_POOL, // x [n][c][spatial...]
    QCNN_OP_LRN,          // x [n][c]...: y = x / (bias + alpha / size * sum over `size` channels of x^2)^beta
    QCNN_OP_UNARY,        // y = f(x)
    QCNN_OP_BINARY,       // y = f(a, b), broadcast as NumPy does
    QCNN_OP_SOFTMAX,      // over the dimensions axis..axis_end taken together
    QCNN_OP_LOG_SOFTMAX,  // likewise
    QCNN_OP_CONCAT,       // along `axis`, one or more inputs
    QCNN_OP_RESHAPE,      // to `target`: 0 copies the input's dimension, -1 is what remains
    QCNN_OP_TRANSPOSE,    // dimension i of the output is dimension axes[i] of the input
    QCNN_OP_PAD,          // by pad_begin / pad_end of each dimension (negative ones cut)
    QCNN_OP_REDUCE_MEAN,  // over the dimensions marked in axes
    QCNN_OP_REDUCE_MAX,
    QCNN_OP_SLICE, // begin, step and (through `extent`) length of each dimension
    QCNN_N_OPS
} qcnn_op;

typedef enum qcnn_function {
    QCNN_IDENTITY,
    // of one argument: activations, alone or fused behind a convolution, a fully-connected layer or a binary node
    QCNN_RELU,
    QCNN_LEAKY_RELU,
    QCNN_CLIP,
    QCNN_ELU,
    QCNN_SIGMOID,
    QCNN_HARD_SIGMOID,
    QCNN_TANH,
    QCNN_HARD_SWISH,
    QCNN_SQRT,
    QCNN_EXP,
    QCNN_LOG,
    QCNN_ABS,
    QCNN_NEGATE,
    QCNN_RECIPROCAL,
    // of two
    QCNN_ADD,
    QCNN_SUBTRACT,
    QCNN_MULTIPLY,
    QCNN_DIVIDE,
    QCNN_MINIMUM,
    QCNN_MAXIMUM,
    QCNN_POWER,
    QCNN_PRELU,
    QCNN_N_FUNCTIONS
} qcnn_function;

typedef struct qcnn_activation {
    qcnn_function function; // QCNN_IDENTITY: none
    float alpha, beta;      // leaky_relu, elu: alpha; clip: [alpha, beta]; hard_sigmoid: alpha x + beta
} qcnn_activation;

// Attributes are one plain struct; each op reads the fields named beside it and the rest are zero.
typedef struct qcnn_attributes {
    // conv, pools
    int n_spatial; // 1..3
    int32_t kernel[QCNN_MAX_SPATIAL], stride[QCNN_MAX_SPATIAL], dilation[QCNN_MAX_SPATIAL];
    int32_t window_begin[QCNN_MAX_SPATIAL], window_end[QCNN_MAX_SPATIAL]; // padding
    int32_t groups;                                                       // conv
    int32_t ceil_mode;                                                    // pools: a last, partial window counts
    int32_t count_include_pad;                                            // average pool
    // lrn
    int32_t lrn_size;
    float lrn_alpha, lrn_beta, lrn_bias;
    // softmax, concat
    int32_t axis, axis_end;
    // reshape
    int32_t target_rank;
    int64_t target[QCNN_MAX_RANK];
    // transpose: the permutation; reduce: 1 for each reduced dimension
    int32_t axes[QCNN_MAX_RANK];
    int32_t keep_dims; // reduce
    // pad: elements added before and after (negative: cut off); slice: first index, end (exclusive; INT64_MAX: all the rest), step >= 1
    int64_t begin[QCNN_MAX_RANK], end[QCNN_MAX_RANK], step[QCNN_MAX_RANK];
    float pad_value;
    int32_t pad_mode; // 0 constant, 1 reflect, 2 edge
    // unary: the function; binary: the function; conv, fc, binary: what is fused behind
    qcnn_function function;
    qcnn_activation activation;
} qcnn_attributes;

typedef enum qcnn_method { QCNN_METHOD_NONE, QCNN_METHOD_DENSE, QCNN_METHOD_LUT } qcnn_method;

// Weights of a convolution that runs dense in bytes: whole numbers -127..127 times a scale for each output. One allocation.
// A *step* is four input channels (the last ones may be absent: zeros) under one tap, taps innermost. *Interleaved*, where
// channels are fewer than four, it is four neighbours of a kernel row's weights, channels innermost: [taps of a row][channels]. If one
// weight is left of each row, the last steps (rest_steps) are those of four rows each, where the stride allows it.
typedef struct qcnn_dense_bytes {
    int tile_rows; // outputs of a tile, as many as the kernel takes
    bool interleaved;
    size_t n_steps, rest_steps, tile_bytes;
    int8_t *weights; // [groups][ceil(n_outputs / tile_rows)][n_steps][tile_rows][4]
    float *scales;   // [groups * n_outputs]
    int32_t *sums;   // [groups * n_outputs]: of an output's whole numbers
} qcnn_dense_bytes;

// Codewords for layers that run from byte tables: whole numbers -127..127 times a scale for each subspace, four inputs (a quad)
// together, padded with zeros to whole quads and to the width of a table. One allocation.
typedef struct qcnn_byte_codebook {
    size_t width;      // bytes of a table
    int8_t *codewords; // [n_sets][M][quads][width][4]
    int32_t *sums;     // [n_sets][M][width]: of a codeword's whole numbers
    float *scales;     // [n_sets][M]
    float *norms;      // [n_sets][M]: the largest squared norm of the whole numbers of a codeword
} qcnn_byte_codebook;

typedef struct qcnn_node {
    qcnn_op op;
    char *name;
    int *inputs; // indices of values; -1: an optional input that is absent
    int n_inputs;
    int output; // index of a value
    qcnn_attributes attributes;
    qcnn_method method;                // how a layer with weights runs: decided by qcnn_model_prepare
    float *decoded;                    // float32 weights of a codebook layer that runs dense; owned
    qcnn_dense_bytes *bytes;           // the same in bytes, of a layer that runs so; owned
    qcnn_byte_codebook *byte_codebook; // of a layer that runs from byte tables; owned
} qcnn_node;

typedef struct qcnn_value {
    char *name;       // may be NULL except for graph inputs and outputs
    qcnn_shape shape; // as imported: batch 1
    int tensor;       // index of its constant, or -1
    float low, high;  // range of its elements on calibration images; equal: not known
} qcnn_value;

struct qcnn_kernels;

// What work costs on a tier of kernels, in multiply-adds of a dense convolution there. docs/method.md says how these were measured.
typedef struct qcnn_prices {
    double conv_table, conv_lookup;          // a multiplication that builds a table, a look-up
    double fc_multiply, fc_table, fc_lookup; // of a fully-connected layer: also a dense multiply-add
    double byte;                             // of weights or assignments that come from memory
    int block;                               // outputs that convolutions look up together: those of a group are rounded up to whole blocks
    int quad;                                // input channels that dense convolutions take together
} qcnn_prices;

struct qcnn_model {
    qcnn_value *values;
    qcnn_node *nodes; // each reads only graph inputs, constants and outputs of earlier nodes
    qcnn_tensor *tensors;
    int *inputs, *outputs; // indices of values
    size_t n_values, n_nodes, n_tensors, n_inputs, n_outputs;
    size_t value_capacity, node_capacity, tensor_capacity, input_capacity, output_capacity;
    char *preprocessing;
    char **classes;
    size_t n_classes, class_capacity;
    uint64_t original_bytes;            // float32 bytes of all weights and biases before compression
    const struct qcnn_kernels *kernels; // set by qcnn_model_prepare
    const qcnn_prices *prices;          // likewise
    bool exact;                         // everything runs in floats
    bool in_bytes;                      // layers may run in bytes: set by qcnn_model_prepare
    bool run_only;                      // weights that no run reads are gone
    void *file;                         // the bytes that tensors refer to, released with the model by
    size_t file_bytes;
    void (*release_file)(void *file, size_t n_bytes); // NULL: they are somebody else's
};

// ---- building (model.c) ---------------------------------------------------------------------------------------------
// Each adds one thing and gives its index in *index. Names are copied. On failure (MEMORY) the model is still whole.

qcnn_status qcnn_model_new(qcnn_model **model, qcnn_error *error);
qcnn_status qcnn_model_add_value(qcnn_model *model, const char *name, const qcnn_shape *shape, int tensor, int *index, qcnn_error *error);
// Takes the tensor over in success and failure alike; `*tensor` is zeroed.
qcnn_status qcnn_model_add_tensor(qcnn_model *model, qcnn_tensor *tensor, int *index, qcnn_error *error);
qcnn_status qcnn_model_add_node(qcnn_model *model, qcnn_op op, const char *name, const int *inputs, int n_inputs, int output,
                                const qcnn_attributes *attributes, int *index, qcnn_error *error);
qcnn_status qcnn_model_add_input(qcnn_model *model, int value, qcnn_error *error);
qcnn_status qcnn_model_add_output(qcnn_model *model, int value, qcnn_error *error);
qcnn_status qcnn_model_add_class(qcnn_model *model, const char *name, size_t n, qcnn_error *error);
void qcnn_model_clear_classes(qcnn_model *model);
qcnn_status qcnn_model_set_preprocessing(qcnn_model *model, const char *text, size_t n, qcnn_error *error);

// A second model over the same graph whose tensors refer to the first one's data: the first must outlive it. Tensors of
// the copy may then be replaced (qcnn_tensor_release, assign). The copy is not prepared. What calibration found is copied.
qcnn_status qcnn_model_copy(const qcnn_model *model, qcnn_model **copy, qcnn_error *error);

void qcnn_tensor_release(qcnn_tensor *tensor);

// Drops what calibration found: ranges of values, peaks of codebooks. And whether there is any of it.
void qcnn_model_forget_ranges(qcnn_model *model);
bool qcnn_model_has_ranges(const qcnn_model *model);

// The weights of node `index` (a conv or fc whose weights are constant), else NULL; and its constant bias, else NULL.
qcnn_tensor *qcnn_node_weights(const qcnn_model *model, const qcnn_node *node);
qcnn_tensor *qcnn_node_bias(const qcnn_model *model, const qcnn_node *node);

// ---- checking and preparing -----------------------------------------------------------------------------------------

uint64_t qcnn_shape_elements(const qcnn_shape *shape); // product of dims; UINT64_MAX when it does not fit
bool qcnn_shape_equal(const qcnn_shape *a, const qcnn_shape *b);
// "1x3x227x227" into text; returns text.
const char *qcnn_shape_text(const qcnn_shape *shape, char text[96]);

// The output shape of a node from its inputs' shapes (an absent input's is NULL), with every attribute checked on the
// way: what passes here can be run. FORMAT errors name the node. (shapes.c)
qcnn_status qcnn_infer_shape(const qcnn_node *node, const qcnn_shape *const *inputs, qcnn_shape *output, qcnn_error *error);

// Shapes of all values, given those of the graph inputs. `shapes` has n_values entries. (shapes.c)
qcnn_status qcnn_infer_shapes(const qcnn_model *model, const qcnn_shape *input_shapes, qcnn_shape *shapes, qcnn_error *error);

// Makes a built model ready to run: checks that indices, order, tensors and shapes agree, sets the values' shapes, chooses a
// method for each layer, decodes those that run dense, and for run_only frees what no run reads. `kernels` NULL: the best tier. (prepare.c)
qcnn_status qcnn_model_prepare(qcnn_model *model, const char *kernels, qcnn_error *error);

// For what needs a model's weights, not only its runs. Errors: ARGUMENT (a model opened with run_only).
static inline qcnn_status qcnn_model_require_weights(const qcnn_model *model, qcnn_error *error)
{
    return model->run_only ? qcnn_fail(error, QCNN_ERROR_ARGUMENT, "the model was opened with run_only: its weights are gone") : QCNN_OK;
}

// Whether some weights have been rounded: a model without such is an original, and runs in floats throughout. (prepare.c)
bool qcnn_model_is_rounded(const qcnn_model *model);

// Multiply-adds, table multiplications and look-ups of a layer at these shapes, and what the cost model makes of them. (cost.c)
typedef struct qcnn_layer_cost {
    uint64_t dense_operations, table_multiplications, lookups;
    double dense, lut; // in multiply-add units
} qcnn_layer_cost;
qcnn_layer_cost qcnn_cost(const qcnn_prices *prices, const qcnn_node *node, const qcnn_tensor *weights, const qcnn_shape *input,
                          const qcnn_shape *output);

// Packs the constant weights of convolution `node` as bytes into *made, which the caller releases in success and failure alike.
// Errors: MEMORY. And how many bytes that takes, UINT64_MAX when too many. (dense_bytes.c)
qcnn_status qcnn_dense_bytes_make(const qcnn_node *node, const qcnn_tensor *weights, int tile_rows, qcnn_dense_bytes **made,
                                  qcnn_error *error);
uint64_t qcnn_dense_bytes_size(const qcnn_node *node, const qcnn_tensor *weights, int tile_rows);

// The dense weights that a codebook stands for, [groups * n_outputs][n_inputs][n_taps], into room for as many floats. (codebook.c)
void qcnn_codebook_decode(const qcnn_codebook *codebook, float *weights);

// Bytes of a table of n_codewords entries: the least of 16, 32, 64, 128 and 256 that holds them, in convolutions from 64 up.
static inline size_t qcnn_table_width(int n_codewords, bool is_conv)
{
    size_t width = is_conv ? 64 : 16;
    while (width < (size_t)n_codewords)
        width *= 2;
    return width;
}

// `n_scales` runs of n numbers, each with a scale of its own: numbers = scale * byte, as a signed one. The bytes may lie in the same
// memory, at its end. False where one is -128.
bool qcnn_integers_to_floats(const unsigned char *bytes, size_t n, const float *scales, size_t n_scales, float *numbers);

// A codebook's codewords as bytes for tables of that width, into *made, which the caller releases. Errors: MEMORY. And how many
// bytes that takes. (codebook_bytes.c)
qcnn_status qcnn_byte_codebook_make(const qcnn_codebook *codebook, size_t width, qcnn_byte_codebook **made, qcnn_error *error);
uint64_t qcnn_byte_codebook_size(const qcnn_codebook *codebook, size_t width);

// Bytes a tensor takes in a file: stored_bytes, or else those of its numbers, scales and packed assignments. Of a codebook
// only the sizes and the type are read: it may be one that is still to be made.
uint64_t qcnn_tensor_bytes(const qcnn_tensor *tensor);
uint64_t qcnn_codebook_bytes(const qcnn_codebook *codebook);

// Bytes of memory beyond those of the file that a tensor takes once read: assignments, a byte each, and decoded numbers.
uint64_t qcnn_tensor_unfolded(const qcnn_tensor *tensor);

const char *qcnn_number_type_name(qcnn_number_type type); // "float32", "float16", "int8"

// Bits of one packed assignment: ceil(log2 K), 0 when K is 1.
int qcnn_assignment_bits(int n_codewords);

const char *qcnn_op_name(qcnn_op op);                   // "conv", "max_pool", ...; NULL out of range
const char *qcnn_function_name(qcnn_function function); // "relu", "add", ...

#endif
