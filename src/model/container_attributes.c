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
    FIELD_SPATIAL,  // int32 for each of QCNN_MAX_SPATIAL dimensions; zero beyond n_spatial
    FIELD_FUNCTION, // a function's number, 32 bits
} field_kind;

typedef struct field {
    uint8_t kind, count;
    uint16_t offset; // in qcnn_attributes
} field;

#define FIELD(kind, count, member) { kind, count, offsetof(qcnn_attributes, member) }
#define SPATIAL(member) FIELD(FIELD_SPATIAL, QCNN_MAX_SPATIAL, member)
#define WINDOW \
    FIELD(FIELD_INT32, 1, n_spatial), SPATIAL(kernel), SPATIAL(stride), SPATIAL(dilation), SPATIAL(window_begin), SPATIAL(window_end)
#define ACTIVATION \
    FIELD(FIELD_FUNCTION, 1, activation.function), FIELD(FIELD_FLOAT32, 1, activation.alpha), FIELD(FIELD_FLOAT32, 1, activation.beta)

_Static_assert(sizeof(qcnn_function) == 4 && sizeof(int) == 4 && sizeof(float) == 4, "fields are copied by these sizes");

enum { MAX_FIELDS = 9 };

typedef struct op_layout {
    uint16_t number;
    uint8_t n_fields;
    field fields[MAX_FIELDS];
} op_layout;

static const op_layout op_layouts[QCNN_N_OPS] = {
    [QCNN_OP_CONV] = { 1, 9 + 1 - 1, { WINDOW } },
};
