// SPDX-License-Identifier: Apache-2.0
// From names to indices: the table of everything an ONNX graph defines, the nodes' arguments looked up in it, and an order
// in which every node comes after those it reads.

#include <stdlib.h>
#include <string.h>

#include "import/onnx.h"

// ---- the table ------------------------------------------------------------------------------------------------------

static int compare_names(const void *a, const void *b)
{
    const qcnn_span x = ((const onnx_value *)a)->name, y = ((const onnx_value *)b)->name;
    const int order = memcmp(x.data, y.data, x.n < y.n ? x.n : y.n);
    return order ? order : (x.n > y.n) - (x.n < y.n);
}

static void define(onnx_import *import, onnx_value value)
{
    if (value.name.n)
        import->values[import->n_values++] = value;
}

static void define_all(onnx_import *import)
{
    const onnx_graph *graph = &import->graph;
    for (size_t i = 0; i < graph->n_inputs; i++)
        define(import, (onnx_value){ .name = graph->inputs[i].name, .producer = -1, .initializer = -1, .is_input = true });
    for (size_t i = 0; i < graph->n_initializers; i++)
        define(import, (onnx_value){ .name = graph->initializers[i].name, .producer = -1, .initializer = (int)i });
    for (size_t i = 0; i < graph->n_nodes; i++)
        for (int k = 0; k < graph->nodes[i].n_outputs; k++)
            define(import,
                   (onnx_value){ .name = graph->arguments[graph->nodes[i].first_output + k], .producer = (int)i, .initializer = -1 });
}

// Equal names stand side by side now. Only an input and its default, an initializer, may share one.
static qcnn_status merge_equal(onnx_import *import)
{
    size_t n = 0;
    for (size_t i = 0; i < import->n_values; i++) {
        onnx_value *value = &import->values[i], *last = n ? &import->values[n - 1] : NULL;
        if (!last || !qcnn_span_equal(last->name, value->name)) {
            import->values[n++] = *value;
            continue;
        }
        if (value->producer >= 0 || last->producer >= 0 || (value->is_input && last->is_input) ||
            (value->initializer >= 0 && last->initializer >= 0))
            return qcnn_fail(import->error, QCNN_ERROR_FORMAT, "the ONNX graph defines '%.*s' twice", QCNN_SPAN_TEXT(value->name));
        last->is_input = true;
        last->initializer = value->initializer >= 0 ? value->initializer : last->initializer;
    }
    import->n_values = n;
    return QCNN_OK;
}

int qcnn_onnx_find(const onnx_import *import, qcnn_span name)
{
    const onnx_value key = { .name = name };
    const onnx_value *found = import->n_values ? bsearch(&key, import->values, import->n_values, sizeof key, compare_names) : NULL;
    return found ? (int)(found - import->values) : -1;
}

static qcnn_status resolve_arguments(onnx_import *import)
{
    const onnx_graph *graph = &import->graph;
    for (size_t i = 0; i < graph->n_nodes; i++) {
        const onnx_node *node = &graph->nodes[i];
        for (int k = node->first_input; k < node->first_output + node->n_outputs; k++) {
            const qcnn_span name = graph->arguments[k];
            import->arguments[k] = name.n ? qcnn_onnx_find(import, name) : -1;
            if (name.n && import->arguments[k] < 0)
                return qcnn_fail(import->error, QCNN_ERROR_FORMAT, "node '%.*s' (%.*s) reads '%.*s', which nothing defines",
                                 QCNN_SPAN_TEXT(node->name), QCNN_SPAN_TEXT(node->op), QCNN_SPAN_TEXT(name));
            if (k < node->first_output && import->arguments[k] >= 0)
                import->values[import->arguments[k]].is_read = true;
        }
    }
    return QCNN_OK;
}

qcnn_status qcnn_onnx_resolve_names(onnx_import *import)
{
    const onnx_graph *graph = &import->graph;
    size_t n = graph->n_inputs + graph->n_initializers;
    for (size_t i = 0; i < graph->n_nodes; i++)
        n += (size_t)graph->nodes[i].n_outputs;
    if (n > ONNX_MAX_VALUES || graph->n_arguments > 4 * ONNX_MAX_VALUES)
        return qcnn_fail(import->error, QCNN_ERROR_UNSUPPORTED, "the ONNX graph has more than %d values", ONNX_MAX_VALUES);
    import->values = qcnn_allocate(n, sizeof *import->values);
    import->arguments = qcnn_allocate(graph->n_arguments, sizeof *import->arguments);
    if (!import->values || !import->arguments)
        return qcnn_fail_memory(import->error, n * sizeof *import->values);
    define_all(import);
    qsort(import->values, import->n_values, sizeof *import->values, compare_names);
    QCNN_TRY(merge_equal(import));
    return resolve_arguments(import);
}

// ---- the order ------------------------------------------------------------------------------------------------------

enum { UNSEEN, OPEN, DONE };

typedef struct visit {
    int node, next_input;
} visit;

// The producer of the node's input `index`; -1 for what no node makes.
static int producer_of(const onnx_import *import, int node, int index)
{
    const int value = import->arguments[import->graph.nodes[node].first_input + index];
    return value < 0 ? -1 : import->values[value].producer;
}

// Appends `root` to the order after everything it depends on: depth first, with a stack of our own.
static qcnn_status visit_node(const onnx_import *import, int root, unsigned char *state, visit *stack, int *order, size_t *n)
{
    size_t depth = 0;
    if (state[root] == DONE)
        return QCNN_OK;
    state[root] = OPEN;
    stack[depth++] = (visit){ root, 0 };
    while (depth) {
        visit *top = &stack[depth - 1];
        if (top->next_input == import->graph.nodes[top->node].n_inputs) {
            state[top->node] = DONE;
            order[(*n)++] = top->node;
            depth--;
            continue;
        }
        const int next = producer_of(import, top->node, top->next_input++);
        if (next < 0 || state[next] == DONE)
            continue;
        if (state[next] == OPEN)
            return qcnn_fail(import->error, QCNN_ERROR_FORMAT, "the ONNX graph runs in a circle through node '%.*s'",
                             QCNN_SPAN_TEXT(import->graph.nodes[next].name));
        state[next] = OPEN;
        stack[depth++] = (visit){ next, 0 };
    }
    return QCNN_OK;
}

qcnn_status qcnn_onnx_order(const onnx_import *import, int *order)
{
    const size_t n_nodes = import->graph.n_nodes;
    unsigned char *state = qcnn_allocate_zeroed(n_nodes, 1);
    visit *stack = qcnn_allocate(n_nodes, sizeof *stack);
    qcnn_status status = state && stack ? QCNN_OK : qcnn_fail_memory(import->error, n_nodes * sizeof *stack);
    size_t n = 0;
    for (size_t i = 0; i < n_nodes && status == QCNN_OK; i++)
        status = visit_node(import, (int)i, state, stack, order, &n);
    qcnn_release(state);
    qcnn_release(stack);
    return status;
}
