// SPDX-License-Identifier: Apache-2.0
// The ONNX importer's parts and how they meet:
//
//     onnx_parse.c     ModelProto -> onnx_graph: nodes, initializers, inputs and outputs as spans of the file
//     onnx_tensor.c    TensorProto -> floats or integers, from typed, raw or external data
//     onnx_names.c     names become values, nodes are put in order
//     onnx_read.c      the course of an import: each node is lowered in turn
//     onnx_lower*.c    one function per ONNX operator: adds nodes of ours to the model
//     onnx_integers.c  shape arithmetic: operators on integer tensors, computed right away
//     simplify.c       folds and fuses what the lowering left, drops what nothing reads
//
// While importing every value has a known shape and type. Floats live in the model, constant or not; integers are always
// constants and live here, so an integer that depends on the network's input data is refused where it arises.

#ifndef QCNN_IMPORT_ONNX_H
#define QCNN_IMPORT_ONNX_H

#include "base/status.h"
#include "import/protobuf.h"
#include "model/model.h"
#include "qcnn_compress.h"

enum {
    // Limits on what a file may hold: far beyond real networks, they bound memory and time on hostile files.
    ONNX_MAX_NODES = 1 << 13,
    ONNX_MAX_TENSORS = 1 << 14,
    ONNX_MAX_INPUTS = 1 << 10,   // of a graph or a node; outputs likewise
    ONNX_MAX_VALUES = 1 << 16,   // names that something defines
    ONNX_MAX_INTEGERS = 1 << 16, // elements of one integer constant
};

// ---- the file -------------------------------------------------------------------------------------------------------

// TensorProto.DataType
enum {
    ONNX_FLOAT = 1,
    ONNX_UINT8,
    ONNX_INT8,
    ONNX_UINT16,
    ONNX_INT16,
    ONNX_INT32,
    ONNX_INT64,
    ONNX_STRING,
    ONNX_BOOL,
    ONNX_FLOAT16,
    ONNX_DOUBLE,
    ONNX_UINT32,
    ONNX_UINT64,
    ONNX_COMPLEX64,
    ONNX_COMPLEX128,
    ONNX_BFLOAT16
};

static inline bool onnx_is_float(int type)
{
    return type == ONNX_FLOAT || type == ONNX_FLOAT16 || type == ONNX_DOUBLE || type == ONNX_BFLOAT16;
}

// A constant, not yet decoded. Unlike shapes of the model its dimensions may be 0 (an empty list of axes).
typedef struct onnx_tensor {
    qcnn_span name;
    qcnn_span message; // the TensorProto
    int type;
    qcnn_shape shape;
} onnx_tensor;

// A graph input or output. dims are -1 where the model leaves them open; rank is -1 when it says nothing of the shape.
typedef struct onnx_port {
    qcnn_span name;
    int type; // 0: not a tensor, or not said
    qcnn_shape shape;
} onnx_port;

typedef struct onnx_node {
    qcnn_span name, op, domain;
    qcnn_span message;         // the NodeProto: attributes are looked up in it when asked for
    int first_input, n_inputs; // in onnx_graph.arguments
    int first_output, n_outputs;
} onnx_node;

typedef struct onnx_graph {
    int64_t opset;
    onnx_node *nodes;
    onnx_tensor *initializers;
    onnx_port *inputs, *outputs;
    qcnn_span *arguments; // names of the nodes' inputs and outputs
    size_t n_nodes, n_initializers, n_inputs, n_outputs, n_arguments;
    size_t node_capacity, initializer_capacity, input_capacity, output_capacity, argument_capacity;
} onnx_graph;

// Spans refer to `file`, which must outlive the graph. Free it with qcnn_onnx_graph_free on success and failure alike.
qcnn_status qcnn_onnx_parse(qcnn_span file, onnx_graph *graph, qcnn_error *error);
void qcnn_onnx_graph_free(onnx_graph *graph);

qcnn_status qcnn_onnx_parse_tensor(qcnn_span message, onnx_tensor *tensor, qcnn_error *error);

// ---- attributes -----------------------------------------------------------------------------------------------------
// Each gives `otherwise` (or false) when the node has no such attribute.

bool qcnn_onnx_has(const onnx_node *node, const char *name);
int64_t qcnn_onnx_int(const onnx_node *node, const char *name, int64_t otherwise);
float qcnn_onnx_float(const onnx_node *node, const char *name, float otherwise);
qcnn_span qcnn_onnx_text(const onnx_node *node, const char *name);                            // empty when absent
qcnn_span qcnn_onnx_message(const onnx_node *node, const char *name);                         // of a tensor attribute; likewise
bool qcnn_onnx_ints(const onnx_node *node, const char *name, int64_t *list, int max, int *n); // false also beyond `max`
bool qcnn_onnx_floats(const onnx_node *node, const char *name, float *list, int max, int *n); // likewise

// ---- tensor data ----------------------------------------------------------------------------------------------------

// Where tensor data may come from besides the message itself.
typedef struct onnx_source {
    const char *folder; // of external data; NULL: refused
    bool outlives;      // the file's bytes outlive the model, so that tensors may refer to them
} onnx_source;

// A float tensor as one of the model's: it refers to the file or owns its data. The shape has at least one element.
qcnn_status qcnn_onnx_floats_of(const onnx_tensor *tensor, const onnx_source *source, qcnn_tensor *result, qcnn_error *error);

// An integer or bool tensor: *values (released by the caller), at most ONNX_MAX_INTEGERS.
qcnn_status qcnn_onnx_integers_of(const onnx_tensor *tensor, const onnx_source *source, int64_t **values, qcnn_error *error);

// The bytes of `location` in `folder` from `offset` on, `n_bytes` of them (released by the caller): a regular file reached
// without "..", absolute paths or symbolic links.
qcnn_status qcnn_read_external(const char *folder, qcnn_span location, uint64_t offset, size_t n_bytes, void **data, qcnn_error *error);

// ---- lowering -------------------------------------------------------------------------------------------------------

// What a name stands for.
typedef struct onnx_value {
    qcnn_span name;
    int producer;    // node, or -1
    int initializer; // or -1
    bool is_input;
    bool is_read;      // by a node, or it is a graph output
    bool known;        // set once the rest is
    int type;          // ONNX element type
    int value;         // floats: index in the model
    int64_t *integers; // integers: the elements, owned; shape below
    qcnn_shape shape;  // integers: dims may be 0
} onnx_value;

typedef struct onnx_import {
    onnx_graph graph;
    onnx_source source;
    const qcnn_import_options *options;
    qcnn_model *model;  // being built
    onnx_value *values; // sorted by name
    size_t n_values;
    int *arguments;        // graph.arguments as indices of values, -1 for absent ones
    uint64_t budget;       // bytes that computed constants may still take
    const onnx_node *node; // being lowered
    qcnn_error *error;
} onnx_import;

// Names to indices, and nodes in an order that lets each be lowered after what it reads. (onnx_names.c)
qcnn_status qcnn_onnx_resolve_names(onnx_import *import);
int qcnn_onnx_find(const onnx_import *import, qcnn_span name); // index of a value, or -1
qcnn_status qcnn_onnx_order(const onnx_import *import, int *order);

// Makes tensor data known as `value`. (onnx_read.c)
qcnn_status qcnn_onnx_decode(onnx_import *import, const onnx_tensor *tensor, onnx_value *value);

typedef qcnn_status (*onnx_lowering)(onnx_import *import);

// An ONNX operator: how it is expressed when its first input is float (or it has none), and when that is integer.
typedef struct onnx_operator {
    const char *name;
    int min_inputs, max_inputs;
    onnx_lowering floats, integers;
} onnx_operator;

// The tables, each ended by a nameless entry.
extern const onnx_operator qcnn_onnx_layers[], qcnn_onnx_arithmetic[], qcnn_onnx_movement[];

// Fails with UNSUPPORTED or FORMAT, naming operator and node.
__attribute__((format(printf, 3, 4))) qcnn_status qcnn_onnx_refuse(onnx_import *import, qcnn_status status, const char *format, ...);

// The value behind input `index` of the node in hand; NULL when it is absent.
onnx_value *qcnn_onnx_input(onnx_import *import, int index);
// True when output `index` is named by the node and read by somebody, or is a graph output.
bool qcnn_onnx_output_used(onnx_import *import, int index);

// Input `index` as a float value of the model; fails when it is absent or an integer.
qcnn_status qcnn_onnx_float_input(onnx_import *import, int index, int *value);
// Input `index` as a list of integers; *n is 0 and *list NULL when it is absent. Fails when it is not constant.
qcnn_status qcnn_onnx_integer_input(onnx_import *import, int index, const int64_t **list, int *n);

// Constant data of a float value, or NULL when it is not constant.
const float *qcnn_onnx_constant(const onnx_import *import, int value);
static inline const qcnn_shape *qcnn_onnx_shape(const onnx_import *import, int value)
{
    return &import->model->values[value].shape;
}

// `axis` of a tensor of rank `rank`, negative ones counted from the end, into 0..rank-1; -1 when it is outside.
int qcnn_onnx_axis(int64_t axis, int rank);

// Axes as a mask over `rank` dimensions, from attribute "axes" or from input `input`. *given is false when there are none.
qcnn_status qcnn_onnx_axes(onnx_import *import, int input, int rank, unsigned *mask, bool *given);

// A name from the file as text that may be stored and shown, with "/part" behind it unless `part` is NULL.
enum { QCNN_ONNX_NAME_BYTES = 256 };
void qcnn_onnx_name_text(qcnn_span name, const char *part, char text[QCNN_ONNX_NAME_BYTES]);

// Adds one node; its output's shape is inferred, and it is computed right away when all its inputs are constant. `part`
// distinguishes the auxiliary nodes of an ONNX node ("bias", ...) and is NULL for the one that carries its name.
qcnn_status qcnn_onnx_emit(onnx_import *import, qcnn_op op, const char *part, const int *inputs, int n_inputs,
                           const qcnn_attributes *attributes, int *output);
qcnn_status qcnn_onnx_emit_unary(onnx_import *import, const qcnn_activation *activation, const char *part, int input, int *output);
qcnn_status qcnn_onnx_emit_binary(onnx_import *import, qcnn_function function, const char *part, int a, int b, int *output);
// A reshape to fixed dimensions that leaves the batch open where it can.
qcnn_status qcnn_onnx_emit_reshape(onnx_import *import, const char *part, int input, const qcnn_shape *shape, int *output);

// Charges n * size bytes to the budget that keeps small files from unfolding into large memory.
qcnn_status qcnn_onnx_charge(onnx_import *import, uint64_t n, size_t size);
// Uninitialised memory for a constant of the model or for integers, charged.
qcnn_status qcnn_onnx_allocate_floats(onnx_import *import, uint64_t n, float **data);
qcnn_status qcnn_onnx_allocate_integers(onnx_import *import, const qcnn_shape *shape, int64_t **integers);

// A new constant of the model: `data` is taken over in success and failure alike.
qcnn_status qcnn_onnx_add_constant(onnx_import *import, const qcnn_shape *shape, float *data, int *value);
qcnn_status qcnn_onnx_add_scalar(onnx_import *import, float scalar, int *value);

// Binds output 0 of the node in hand (or output `index`); `integers` is taken over in success and failure alike.
qcnn_status qcnn_onnx_set_float(onnx_import *import, int value);
qcnn_status qcnn_onnx_set_float_output(onnx_import *import, int index, int value);
qcnn_status qcnn_onnx_set_integers(onnx_import *import, int type, const qcnn_shape *shape, int64_t *integers);

#endif
