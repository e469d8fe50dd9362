// SPDX-License-Identifier: Apache-2.0
// How the attributes of each operator lie in a .qcnn file. One table serves the reader and the writer: it lists the fields
// of each operator in file order, and gives operators and functions numbers that stay when the C enumerations change.

#include <stddef.h>
#include <string.h>

#include "model/container.h"

typedef enum field_kind {
    FIELD_INT32,
    FIELD_INT64,
    FIELD_FLOAT32,
    FIELD_SPATIAL,  // int32, zero beyond n_spatial
    FIELD_FUNCTION, // a function's number, 32 bits
} field_kind;

typedef struct attribute_field {
    uint8_t kind, count; // count 0: the end of the list
    uint16_t offset;     // in qcnn_attributes
} attribute_field;

#define FIELD(kind, member, count)                                                                                                         \
    {                                                                                                                                      \
        kind, count, offsetof(qcnn_attributes, member)                                                                                     \
    }
#define SPATIAL(member) FIELD(FIELD_SPATIAL, member, QCNN_MAX_SPATIAL)
#define WINDOW                                                                                                                             \
    FIELD(FIELD_INT32, n_spatial, 1), SPATIAL(kernel), SPATIAL(stride), SPATIAL(dilation), SPATIAL(window_begin), SPATIAL(window_end)
#define ACTIVATION FIELD(FIELD_FUNCTION, activation.function, 1), FIELD(FIELD_FLOAT32, activation.alpha, 2)
#define FUNCTION FIELD(FIELD_FUNCTION, function, 1), ACTIVATION
#define BY_DIMENSION(kind, member) FIELD(kind, member, QCNN_MAX_RANK)

enum { MAX_FIELDS = 10 };

static const struct {
    uint16_t number;
    attribute_field fields[MAX_FIELDS];
} op_layouts[QCNN_N_OPS] = {
    [QCNN_OP_CONV] = { 1, { WINDOW, FIELD(FIELD_INT32, groups, 1), ACTIVATION } },
    [QCNN_OP_FC] = { 2, { ACTIVATION } },
    [QCNN_OP_MATMUL] = { 3, { { 0, 0, 0 } } },
    [QCNN_OP_MAX_POOL] = { 4, { WINDOW, FIELD(FIELD_INT32, ceil_mode, 1) } },
    [QCNN_OP_AVERAGE_POOL] = { 5, { WINDOW, FIELD(FIELD_INT32, ceil_mode, 1), FIELD(FIELD_INT32, count_include_pad, 1) } },
    [QCNN_OP_LRN] = { 6, { FIELD(FIELD_INT32, lrn_size, 1), FIELD(FIELD_FLOAT32, lrn_alpha, 3) } }, // alpha, beta, bias
    [QCNN_OP_UNARY] = { 7, { FUNCTION } },
    [QCNN_OP_BINARY] = { 8, { FUNCTION } },
    [QCNN_OP_SOFTMAX] = { 9, { FIELD(FIELD_INT32, axis, 2) } }, // axis, axis_end
    [QCNN_OP_LOG_SOFTMAX] = { 10, { FIELD(FIELD_INT32, axis, 2) } },
    [QCNN_OP_CONCAT] = { 11, { FIELD(FIELD_INT32, axis, 1) } },
    [QCNN_OP_RESHAPE] = { 12, { FIELD(FIELD_INT32, target_rank, 1), BY_DIMENSION(FIELD_INT64, target) } },
    [QCNN_OP_TRANSPOSE] = { 13, { BY_DIMENSION(FIELD_INT32, axes) } },
    [QCNN_OP_PAD] = { 14,
                      { BY_DIMENSION(FIELD_INT64, begin), BY_DIMENSION(FIELD_INT64, end), FIELD(FIELD_FLOAT32, pad_value, 1),
                        FIELD(FIELD_INT32, pad_mode, 1) } },
    [QCNN_OP_REDUCE_MEAN] = { 15, { BY_DIMENSION(FIELD_INT32, axes), FIELD(FIELD_INT32, keep_dims, 1) } },
    [QCNN_OP_REDUCE_MAX] = { 16, { BY_DIMENSION(FIELD_INT32, axes), FIELD(FIELD_INT32, keep_dims, 1) } },
    [QCNN_OP_SLICE] = { 17, { BY_DIMENSION(FIELD_INT64, begin), BY_DIMENSION(FIELD_INT64, end), BY_DIMENSION(FIELD_INT64, step) } },
};

static const uint8_t function_numbers[QCNN_N_FUNCTIONS] = {
    [QCNN_IDENTITY] = 0,     [QCNN_RELU] = 1,     [QCNN_LEAKY_RELU] = 2,  [QCNN_CLIP] = 3,   [QCNN_ELU] = 4,       [QCNN_SIGMOID] = 5,
    [QCNN_HARD_SIGMOID] = 6, [QCNN_TANH] = 7,     [QCNN_HARD_SWISH] = 8,  [QCNN_SQRT] = 9,   [QCNN_EXP] = 10,      [QCNN_LOG] = 11,
    [QCNN_ABS] = 12,         [QCNN_NEGATE] = 13,  [QCNN_RECIPROCAL] = 14, [QCNN_ADD] = 32,   [QCNN_SUBTRACT] = 33, [QCNN_MULTIPLY] = 34,
    [QCNN_DIVIDE] = 35,      [QCNN_MINIMUM] = 36, [QCNN_MAXIMUM] = 37,    [QCNN_POWER] = 38, [QCNN_PRELU] = 39,
};

_Static_assert(sizeof(int) == 4 && sizeof(float) == 4 && sizeof(qcnn_function) == 4, "fields are copied by these sizes");
_Static_assert(offsetof(qcnn_activation, beta) == offsetof(qcnn_activation, alpha) + 4, "two fields written as one");
_Static_assert(offsetof(qcnn_attributes, lrn_bias) == offsetof(qcnn_attributes, lrn_alpha) + 8, "three fields written as one");
_Static_assert(offsetof(qcnn_attributes, axis_end) == offsetof(qcnn_attributes, axis) + 4, "two fields written as one");

uint16_t qcnn_op_number(qcnn_op op)
{
    return op_layouts[op].number;
}

bool qcnn_op_from_number(uint16_t number, qcnn_op *op)
{
    for (int i = 0; i < QCNN_N_OPS; i++)
        if (op_layouts[i].number == number) {
            *op = (qcnn_op)i;
            return true;
        }
    return false;
}

static bool function_from_number(uint32_t number, qcnn_function *function)
{
    for (int i = 0; i < QCNN_N_FUNCTIONS; i++)
        if (function_numbers[i] == number) {
            *function = (qcnn_function)i;
            return true;
        }
    return false;
}

const char *qcnn_read_attributes(qcnn_cursor *cursor, qcnn_op op, qcnn_attributes *attributes)
{
    memset(attributes, 0, sizeof *attributes);
    for (const attribute_field *field = op_layouts[op].fields; field->count; field++) {
        unsigned char *target = (unsigned char *)attributes + field->offset;
        for (int i = 0; i < field->count; i++) {
            if (field->kind == FIELD_INT64) {
                const uint64_t value = qcnn_read_u64(cursor);
                memcpy(target + 8 * i, &value, 8);
                continue;
            }
            uint32_t value = qcnn_read_u32(cursor);
            if (field->kind == FIELD_FUNCTION) {
                qcnn_function function;
                if (!function_from_number(value, &function))
                    return "unknown function number";
                value = function;
            }
            if (field->kind == FIELD_SPATIAL && i >= attributes->n_spatial && value != 0)
                return "a window has more dimensions than it says";
            memcpy(target + 4 * i, &value, 4);
        }
    }
    return NULL;
}

void qcnn_write_attributes(qcnn_buffer *buffer, qcnn_op op, const qcnn_attributes *attributes)
{
    for (const attribute_field *field = op_layouts[op].fields; field->count; field++) {
        const unsigned char *source = (const unsigned char *)attributes + field->offset;
        for (int i = 0; i < field->count; i++) {
            if (field->kind == FIELD_INT64) {
                uint64_t value;
                memcpy(&value, source + 8 * i, 8);
                qcnn_write_u64(buffer, value);
                continue;
            }
            uint32_t value;
            memcpy(&value, source + 4 * i, 4);
            if (field->kind == FIELD_FUNCTION)
                value = function_numbers[value];
            if (field->kind == FIELD_SPATIAL && i >= attributes->n_spatial)
                value = 0;
            qcnn_write_u32(buffer, value);
        }
    }
}
