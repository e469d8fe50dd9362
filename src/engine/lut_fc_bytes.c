// SPDX-License-Identifier: Apache-2.0
// Fully-connected layer from byte tables, one row at a time: each output adds one 8-bit entry of every subspace in 32 bits.
// Subspaces whose inputs are all zero, which ReLUs leave behind, have tables of zeros and are passed over with their codes.
//
// The largest entry of a subspace is bounded by the length of its input times that of its longest codeword: close enough (the divergence
// from exact tables is that with the true one, docs/method.md), and found without reading the codewords once more.
//
// Each worker sums some of the outputs. Tables that are small it builds itself, all of them, sooner than another core's come over.

#include <math.h>
#include <string.h>

#include "engine/table_scale.h"

enum { SUBSPACES_PER_TASK = 64, SMALL_TABLES = 256 << 10 };

typedef struct byte_fc {
    const qcnn_step *step;
    const qcnn_codebook *book;
    size_t n_quads, width;
    bool own_tables;    // of each worker
    const float *input; // of the row in work
    float *output;
    qcnn_byte_scale bytes;
    float unit;              // of the entries
    uint8_t *quads, *tables; // [M][n_quads][4], [n_rows][width] where workers share them
    uint32_t *rows;          // the subspaces that are not zero
    int32_t *norms;          // of the quads
    int32_t *peaks;          // [n_rows], as the others
    int16_t *factors;
    uint8_t *weights, *shifts;
    uint32_t *order, *sorted_rows; // by falling weight: places in `rows`, and what stands there
    float *scales;
    size_t n_rows, piece; // outputs of a task
} byte_fc;

static byte_fc byte_fc_measure(const qcnn_step *step)
{
    const qcnn_codebook *book = &qcnn_node_weights(step->model, step->node)->codebook;
    const size_t width = step->node->byte_codebook->width;
    return (byte_fc){ .step = step,
                      .book = book,
                      .n_quads = ((size_t)book->subspace + 3) / 4,
                      .width = width,
                      .own_tables = (size_t)book->n_subspaces * width <= SMALL_TABLES };
}

static size_t byte_fc_place(byte_fc *fc, unsigned char *base)
{
    const size_t n = (size_t)fc->book->n_subspaces;
    size_t used = 0;
    fc->quads = base;
    used += qcnn_whole_lines(n * fc->n_quads * 4 + 4);
    fc->tables = base + used;
    used += fc->own_tables ? 0 : qcnn_whole_lines(n * fc->width);
    fc->rows = (uint32_t *)(void *)(base + used);
    used += qcnn_whole_lines(n * sizeof *fc->rows);
    fc->norms = (int32_t *)(void *)(base + used);
    used += qcnn_whole_lines(n * fc->n_quads * sizeof *fc->norms);
    fc->peaks = (int32_t *)(void *)(base + used);
    used += qcnn_whole_lines(n * sizeof *fc->peaks);
    fc->scales = (float *)(void *)(base + used);
    used += qcnn_whole_lines(n * sizeof *fc->scales);
    fc->order = (uint32_t *)(void *)(base + used);
    used += qcnn_whole_lines(n * sizeof *fc->order);
    fc->sorted_rows = (uint32_t *)(void *)(base + used);
    used += qcnn_whole_lines(n * sizeof *fc->sorted_rows);
    fc->factors = (int16_t *)(void *)(base + used);
    used += qcnn_whole_lines(2 * n * sizeof *fc->factors); // as they come, and sorted
    fc->weights = base + used;
    used += n;
    fc->shifts = base + used; // as they come, and sorted
    return used + 2 * n;
}

static void byte_fc_plan(qcnn_step *step)
{
    byte_fc fc = byte_fc_measure(step);
    static unsigned char nowhere[64];
    step->shared_bytes = byte_fc_place(&fc, nowhere);
    const size_t outputs = (size_t)fc.book->n_outputs; // a task may take all of them, beside the bytes of an input row
    step->worker_bytes = qcnn_whole_lines(outputs * sizeof(int32_t)) + (fc.own_tables ? (size_t)fc.book->n_subspaces * fc.width : 0);
}

// Spreads the row's bytes, which lie at the end of the quads, to whole quads for each subspace from the front: that never overtakes.
static void spread_quads(const byte_fc *fc, const uint8_t *values)
{
    const size_t subspace = (size_t)fc->book->subspace, n_inputs = (size_t)fc->book->n_inputs, padded = fc->n_quads * 4;
    const uint32_t zeros = (uint32_t)fc->bytes.zero * 0x01010101U;
    uint8_t *to = fc->quads;
    for (size_t first = 0; first < n_inputs; first += subspace, to += padded) {
        const size_t n = n_inputs - first < subspace ? n_inputs - first : subspace;
        for (size_t i = 0; i < padded; i += 4) { // what is read behind the values is not kept
            const uint32_t kept = i + 4 <= n ? UINT32_MAX : i < n ? (1U << 8 * (n - i)) - 1 : 0;
            uint32_t quad;
            memcpy(&quad, values + first + i, 4);
            quad = (quad & kept) | (zeros & ~kept);
            memcpy(to + i, &quad, 4);
        }
    }
}

// The row in bytes, whole quads for each subspace, and the list of subspaces that are not zero.
static void quantize_row(byte_fc *fc)
{
    const qcnn_codebook *book = fc->book;
    const size_t n_inputs = (size_t)book->n_inputs, n_subspaces = (size_t)book->n_subspaces, n_quads = fc->n_quads;
    const qcnn_byte_scale *bytes = &fc->bytes;
    uint8_t *values = fc->quads + (n_subspaces * n_quads * 4 - n_inputs);
    fc->step->kernels->quantize_bytes(n_inputs, fc->input, bytes->inverse, bytes->zero, bytes->limit, values);
    if (values != fc->quads)
        spread_quads(fc, values);
    const uint32_t zeros = (uint32_t)bytes->zero * 0x01010101U;
    const uint8_t *quads = fc->quads;
    fc->n_rows = 0;
    for (size_t m = 0; m < n_subspaces; m++) {
        uint32_t other = 0;
        for (size_t q = 0; q < n_quads; q++, quads += 4) {
            uint32_t quad;
            memcpy(&quad, quads, 4);
            other |= quad ^ zeros;
        }
        fc->rows[fc->n_rows] = (uint32_t)m;
        fc->n_rows += other != 0;
    }
}

// Bounds of the accumulators of each row.
static void bound_peaks(const byte_fc *fc)
{
    const qcnn_byte_codebook *codebook = fc->step->node->byte_codebook;
    const size_t n_quads = fc->n_quads;
    fc->step->kernels->quad_norms((size_t)fc->book->n_subspaces * n_quads, 1, fc->quads, 0, fc->bytes.zero, fc->norms);
    for (size_t r = 0; r < fc->n_rows; r++) {
        const size_t m = fc->rows[r];
        float norm = 0;
        for (size_t q = 0; q < n_quads; q++)
            norm += (float)fc->norms[m * n_quads + q];
        const float peak = sqrtf(norm * codebook->norms[m]);
        fc->peaks[r] = peak < 0x1p28F ? (int32_t)peak + 1 : 1 << 28;
        fc->scales[r] = codebook->scales[m];
    }
}

// The tables of rows begin..end-1, sorted, into tables [n_rows][width].
static void build_byte_tables(const byte_fc *fc, size_t begin, size_t end, uint8_t *tables)
{
    const qcnn_byte_codebook *codebook = fc->step->node->byte_codebook;
    fc->step->kernels->table_bytes(1, end - begin, fc->sorted_rows + begin, (int)fc->n_quads, fc->quads, 4, codebook->codewords,
                                   codebook->sums, fc->bytes.zero, fc->width, fc->shifts + begin, fc->factors + begin,
                                   tables + begin * fc->width);
}

static void build_fc_bytes(void *argument, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const byte_fc *fc = argument;
    build_byte_tables(fc, (size_t)begin, (size_t)end, fc->tables);
}

static void sum_fc_bytes(void *argument, int index, int worker)
{
    const byte_fc *fc = argument;
    const qcnn_step *step = fc->step;
    const size_t n_outputs = (size_t)fc->book->n_outputs, first = (size_t)index * fc->piece;
    const size_t n = n_outputs - first < fc->piece ? n_outputs - first : fc->piece;
    const float *bias = step->node->n_inputs > 2 ? step->inputs[2].data : NULL;
    int32_t *sums = (int32_t *)(void *)(step->worker + (size_t)worker * step->worker_bytes);
    memset(sums, 0, n * sizeof *sums);
    uint8_t *tables = fc->tables;
    if (fc->own_tables) {
        tables = (uint8_t *)sums + qcnn_whole_lines((size_t)fc->book->n_outputs * sizeof *sums);
        build_byte_tables(fc, 0, fc->n_rows, tables);
    }
    int32_t zeros = 0; // entries of 128 stand for zero
    for (size_t r = 0, end; r < fc->n_rows; r = end) {
        const int weight = fc->weights[fc->order[r]];
        for (end = r; end < fc->n_rows && fc->weights[fc->order[end]] == weight;)
            end++;
        step->kernels->lut_fc_bytes(n, end - r, fc->sorted_rows + r, fc->book->assignments + first, n_outputs, tables + r * fc->width,
                                    fc->width, sums);
        zeros += (int32_t)(end - r) * (128 << weight);
        const int next = end < fc->n_rows ? fc->weights[fc->order[end]] : 0;
        for (size_t o = 0; weight > next && o < n; o++)
            sums[o] <<= weight - next; // what has been added counts more than what comes
    }
    for (size_t o = 0; o < n; o++)
        sums[o] -= zeros;
    float *y = fc->output + first;
    step->kernels->dequantize(n, sums, fc->unit, 0, -__builtin_inff(), y);
    for (size_t o = 0; bias && o < n; o++)
        y[o] += bias[first + o];
    qcnn_fused_activation(step, y, n);
}

// The rows by falling weight, with their factors and shifts.
static void sort_rows(byte_fc *fc)
{
    int16_t *sorted = fc->factors + fc->book->n_subspaces;
    uint8_t *sorted_shifts = fc->shifts + fc->book->n_subspaces;
    qcnn_order_by_weight(fc->weights, fc->n_rows, fc->order);
    for (size_t r = 0; r < fc->n_rows; r++) {
        fc->sorted_rows[r] = fc->rows[fc->order[r]];
        sorted[r] = fc->factors[fc->order[r]];
        sorted_shifts[r] = fc->shifts[fc->order[r]];
    }
    fc->factors = sorted;
    fc->shifts = sorted_shifts;
}

static void byte_fc_run(const qcnn_step *step, const qcnn_parallel *parallel)
{
    byte_fc fc = byte_fc_measure(step);
    byte_fc_place(&fc, step->shared);
    const qcnn_codebook *book = fc.book;
    const size_t n_inputs = (size_t)book->n_inputs, n_outputs = (size_t)book->n_outputs, n_workers = (size_t)qcnn_n_workers(parallel);
    const size_t even = (n_outputs + n_workers - 1) / n_workers; // as long pieces of the codes as there are workers, whole vectors
    fc.piece = n_workers == 1 ? n_outputs : (even + 63) / 64 * 64;
    const int64_t n = (int64_t)(qcnn_shape_elements(&step->inputs[0].shape) / n_inputs);
    for (int64_t row = 0; row < n; row++) {
        fc.input = step->inputs[0].data + (size_t)row * n_inputs;
        fc.output = step->output + (size_t)row * n_outputs;
        fc.bytes = qcnn_byte_scale_of(step->kernels, fc.input, n_inputs, 255);
        quantize_row(&fc);
        bound_peaks(&fc);
        int16_t *factors = fc.factors;
        uint8_t *shifts = fc.shifts;
        fc.unit = qcnn_table_unit(fc.peaks, fc.n_rows, fc.scales, fc.n_rows, fc.bytes.scale, fc.n_rows, shifts, factors, fc.weights);
        sort_rows(&fc);
        if (!fc.own_tables)
            qcnn_for_range(parallel, (int64_t)fc.n_rows, SUBSPACES_PER_TASK, build_fc_bytes, &fc);
        qcnn_for(parallel, (int)((n_outputs + fc.piece - 1) / fc.piece), sum_fc_bytes, &fc);
        fc.factors = factors;
        fc.shifts = shifts;
    }
}

const qcnn_layer_type qcnn_layer_fc_lut_bytes = { .plan = byte_fc_plan, .run = byte_fc_run };
