// SPDX-License-Identifier: Apache-2.0
// Convolution from byte tables (Wu et al., CVPR 2016, section 3.2, in integers). The image is a byte plane or becomes bytes, every pixel
// and subspace a table of 8-bit entries, and each output position adds the entries that its taps choose, many output channels at a time, in
// 32 bits. Entries count a power of two of the layer's and the image's unit, the same for all of a subspace (table_scale.h): sums run over
// subspaces of one weight. An entry of 128 stands for zero; their sum is taken out.
//
// The unit follows from the largest entries: those found by calibration, where the codebook has them, or else this image's.
//
// A ring holds the tables of the input rows under the kernel, [row][subspace][column][entry]. Taps in the padding are left out.

#include <string.h>

#include "engine/table_scale.h"

// Codes of one call: they stay in the first-level cache over the positions of a tile. Tables of a call over a tile of positions:
// they stay in the second-level cache.
enum { CODE_BYTES_PER_CALL = 24 << 10, TABLE_BYTES_PER_TILE = 160 << 10 };

typedef struct byte_conv {
    const qcnn_step *step;
    const qcnn_codebook *book;
    int64_t height, width, out_height, out_width;
    int kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
    size_t n_quads, table_width, ring_rows, row_bytes; // quads of a subspace; bytes of the tables of one input row
    int subspaces_per_call, tile, n_strips;            // tile: output positions of a row
    // of the image in work
    int64_t image;
    qcnn_byte_scale bytes;
    float unit;           // of the entries
    const uint8_t *quads; // [groups][M][n_quads][height][width][4]: the input's, or in scratch
    uint8_t *made_quads;
    int32_t *peaks;   // [groups][M]
    uint32_t *order;  // [groups][M]: a group's subspaces, those whose entries count most first
    int16_t *factors; // [groups][M]
    uint8_t *weights; // [groups][M]
    uint8_t *shifts;  // [groups][M]
} byte_conv;

// Positions of an output row for which the same columns of the kernel lie inside the input.
typedef struct row_segment {
    int x, n, first_tap, last_tap; // taps first_tap..last_tap-1
} row_segment;

// A worker's scratch: the ring, which input row each slot holds, the steps of a call, sums [out_width][n_outputs] of a row.
typedef struct byte_conv_scratch {
    uint8_t *ring;
    int64_t *slot_rows;
    qcnn_lut_step *steps;
    int32_t *sums;
    float *starts;         // [n_outputs]
    int32_t *norms;        // of the pixels, one subspace
    uint32_t *chosen;      // pixels
    uint8_t *chosen_quads; // [n_quads][chosen][4]
    row_segment *segments; // of a row, n_segments
    int n_segments;
    size_t *row_tables; // where the tables of each kernel row are in the ring
} byte_conv_scratch;

static byte_conv byte_conv_measure(const qcnn_step *step)
{
    const qcnn_attributes *a = &step->node->attributes;
    const qcnn_codebook *book = &qcnn_node_weights(step->model, step->node)->codebook;
    const qcnn_shape *x = &step->inputs[0].shape, *y = &step->output_shape;
    const qcnn_window w = qcnn_window_of(a, x, y);
    byte_conv conv = { .step = step, .book = book, .height = w.in[1], .width = w.in[2], .out_height = w.out[1], .out_width = w.out[2] };
    conv.kernel_h = (int)w.kernel[1], conv.kernel_w = (int)w.kernel[2];
    conv.stride_h = (int)w.stride[1], conv.stride_w = (int)w.stride[2];
    conv.dilation_h = (int)w.dilation[1], conv.dilation_w = (int)w.dilation[2];
    conv.pad_top = (int)w.begin[1], conv.pad_left = (int)w.begin[2];
    conv.n_quads = ((size_t)book->subspace + 3) / 4;
    conv.table_width = step->node->byte_codebook->width;
    conv.row_bytes = qcnn_plan_bytes((uint64_t)book->n_subspaces, (uint64_t)conv.width, conv.table_width);
    const int64_t rows = (int64_t)(conv.kernel_h - 1) * conv.dilation_h + 1;
    conv.ring_rows = (size_t)(rows < conv.height ? rows : conv.height);
    const int steps = CODE_BYTES_PER_CALL / book->n_outputs;
    conv.subspaces_per_call = (steps < QCNN_LUT_MAX_STEPS ? steps : QCNN_LUT_MAX_STEPS) / book->n_taps;
    if (conv.subspaces_per_call < 1)
        conv.subspaces_per_call = 1;
    const size_t column_bytes = (size_t)conv.subspaces_per_call * (size_t)conv.kernel_h * conv.table_width * (size_t)conv.stride_w;
    conv.tile = column_bytes < TABLE_BYTES_PER_TILE / 8 ? (int)(TABLE_BYTES_PER_TILE / column_bytes) : 8;
    return conv;
}

// The tables begin behind room for those of the padding on the left, which are never read: a position's begin at
// position * stride, whatever its first tap.
static size_t ring_margin(const byte_conv *conv)
{
    return (size_t)conv->pad_left * conv->table_width;
}

static size_t byte_conv_place(const byte_conv *conv, unsigned char *base, byte_conv_scratch *scratch)
{
    size_t used = 0;
    const size_t n_outputs = (size_t)conv->book->n_outputs;
    scratch->ring = base;
    used += qcnn_whole_lines(conv->ring_rows * conv->row_bytes + ring_margin(conv));
    scratch->slot_rows = (int64_t *)(void *)(base + used);
    used += qcnn_whole_lines(conv->ring_rows * sizeof(int64_t));
    scratch->steps = (qcnn_lut_step *)(void *)(base + used);
    used += qcnn_whole_lines((size_t)conv->subspaces_per_call * (size_t)conv->book->n_taps * sizeof(qcnn_lut_step));
    scratch->segments = (row_segment *)(void *)(base + used);
    used += qcnn_whole_lines((size_t)conv->out_width * sizeof(row_segment));
    scratch->sums = (int32_t *)(void *)(base + used);
    used += qcnn_whole_lines((size_t)conv->out_width * n_outputs * sizeof(int32_t));
    scratch->starts = (float *)(void *)(base + used);
    used += qcnn_whole_lines(n_outputs * sizeof(float));
    scratch->norms = (int32_t *)(void *)(base + used);
    const size_t plane = conv->book->peaks ? 0 : (size_t)(conv->height * conv->width); // peaks that are known are not looked for
    used += qcnn_whole_lines(plane * sizeof(int32_t));
    scratch->chosen = (uint32_t *)(void *)(base + used);
    used += qcnn_whole_lines((plane + 1) * sizeof(uint32_t));
    scratch->chosen_quads = base + used;
    used += qcnn_whole_lines(conv->n_quads * plane * 4);
    scratch->row_tables = (size_t *)(void *)(base + used);
    used += qcnn_whole_lines((size_t)conv->kernel_h * sizeof(size_t));
    return used;
}

static size_t place_shared(byte_conv *conv, unsigned char *base)
{
    const size_t n_tables = (size_t)conv->book->groups * (size_t)conv->book->n_subspaces;
    const bool is_plane = qcnn_is_plane(&conv->step->inputs[0].format);
    const size_t quad_bytes = is_plane ? 0 : n_tables * conv->n_quads * (size_t)(conv->height * conv->width) * 4;
    conv->made_quads = base;
    conv->peaks = (int32_t *)(void *)(base + qcnn_whole_lines(quad_bytes));
    conv->order = (uint32_t *)(void *)(conv->peaks + n_tables);
    conv->factors = (int16_t *)(void *)(conv->order + n_tables);
    conv->weights = (uint8_t *)(void *)(conv->factors + n_tables);
    conv->shifts = conv->weights + n_tables;
    return qcnn_whole_lines(quad_bytes) + n_tables * (sizeof *conv->peaks + sizeof *conv->order + sizeof *conv->factors + 2);
}

static void byte_conv_plan(qcnn_step *step)
{
    byte_conv conv = byte_conv_measure(step);
    static unsigned char nowhere[64];
    byte_conv_scratch unused;
    const double pixels = (double)conv.height * (double)conv.width, tables = (double)conv.ring_rows * (double)conv.row_bytes;
    const double sums = (double)conv.out_width * conv.book->n_outputs + (double)conv.pad_left * (double)conv.table_width;
    const double codes = (double)conv.book->n_subspaces * conv.book->n_taps * conv.book->n_outputs;
    const double quads = pixels * (conv.book->n_inputs + 4.0) * conv.book->groups * 4, most = (double)(SIZE_MAX / 64); // nothing wraps
    // Offsets of tables and codes have 32 bits.
    const bool fits = tables < 4e9 && tables < 4 * most && codes < 4e9 && quads < 4 * most && sums < most;
    step->shared_bytes = fits ? place_shared(&conv, nowhere) : SIZE_MAX;
    step->worker_bytes = fits ? byte_conv_place(&conv, nowhere, &unused) : SIZE_MAX;
}

// ---- the image in bytes ---------------------------------------------------------------------------------------------

static void quantize_quads_of(void *argument, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const byte_conv *conv = argument;
    const qcnn_codebook *book = conv->book;
    const int64_t per_group = book->n_subspaces * (int64_t)conv->n_quads;
    const size_t plane = (size_t)(conv->height * conv->width);
    const float *input = conv->step->inputs[0].data + (size_t)(conv->image * book->groups * book->n_inputs) * plane;
    for (int64_t i = begin; i < end; i++) {
        const int64_t group = i / per_group, m = i % per_group / (int64_t)conv->n_quads, q = i % (int64_t)conv->n_quads;
        const int64_t left = book->n_inputs - m * book->subspace, here = (left < book->subspace ? left : book->subspace) - 4 * q;
        const int n = here < 0 ? 0 : here < 4 ? (int)here : 4;
        const int64_t channel = n > 0 ? group * book->n_inputs + m * book->subspace + 4 * q : 0;
        conv->step->kernels->quantize_quads(plane, input + (size_t)channel * plane, plane, n, conv->bytes.inverse, conv->bytes.zero,
                                            conv->bytes.limit, conv->made_quads + (size_t)i * plane * 4);
    }
}

// Codebooks of a group: bytes, and the sums of codewords.
static const int8_t *group_codewords(const byte_conv *conv, int64_t group, const int32_t **sums)
{
    const qcnn_byte_codebook *codebook = conv->step->node->byte_codebook;
    const size_t set = conv->book->n_sets > 1 ? (size_t)group : 0, n = set * (size_t)conv->book->n_subspaces * conv->table_width;
    *sums = codebook->sums + n;
    return codebook->codewords + n * conv->n_quads * 4;
}

// Lists the pixels whose squared norm is above `bound`, and copies their quads side by side; returns how many.
static size_t choose_pixels(const byte_conv *conv, const byte_conv_scratch *scratch, const uint8_t *x, float bound)
{
    const size_t plane = (size_t)(conv->height * conv->width);
    size_t n = 0;
    for (size_t p = 0; p < plane; p++) {
        scratch->chosen[n] = (uint32_t)p;
        n += (float)scratch->norms[p] > bound; // no branch: it would be mispredicted
    }
    for (size_t q = 0; q < conv->n_quads; q++)
        for (size_t i = 0; i < n; i++)
            memcpy(scratch->chosen_quads + (q * n + i) * 4, x + (q * plane + scratch->chosen[i]) * 4, 4);
    return n;
}

// The largest accumulator of each subspace: that of the pixel with the largest norm, and of those whose norm, times that of the
// longest codeword, could exceed it. Few are left.
static void find_peaks(void *argument, int64_t begin, int64_t end, int worker)
{
    const byte_conv *conv = argument;
    const qcnn_kernels *kernels = conv->step->kernels;
    const int64_t n_subspaces = conv->book->n_subspaces, plane = conv->height * conv->width;
    byte_conv_scratch scratch;
    byte_conv_place(conv, conv->step->worker + (size_t)worker * conv->step->worker_bytes, &scratch);
    for (int64_t i = begin; i < end; i++) {
        const int32_t *sums;
        const int8_t *codewords = group_codewords(conv, i / n_subspaces, &sums);
        const size_t m = (size_t)(i % n_subspaces), set = conv->book->n_sets > 1 ? (size_t)i : m;
        codewords += m * conv->n_quads * conv->table_width * 4;
        sums += m * conv->table_width;
        const uint8_t *x = conv->quads + (size_t)(i * (int64_t)conv->n_quads * plane) * 4;
        kernels->quad_norms((size_t)plane, (int)conv->n_quads, x, (size_t)plane * 4, conv->bytes.zero, scratch.norms);
        int32_t largest = 0;
        for (int64_t p = 0; p < plane; p++)
            largest = scratch.norms[p] > largest ? scratch.norms[p] : largest;
        conv->peaks[i] = 0;
        const float norm = conv->step->node->byte_codebook->norms[set];
        for (int pass = 0; pass < 2 && largest > 0; pass++) {
            const float peak = (float)conv->peaks[i], bound = pass == 0 ? (float)largest * 0.9999F : peak * peak / norm * 0.9999F;
            const size_t n = choose_pixels(conv, &scratch, x, bound);
            kernels->table_peaks(n, 1, NULL, (int)conv->n_quads, scratch.chosen_quads, n * 4, codewords, sums, conv->bytes.zero,
                                 conv->table_width, &conv->peaks[i]);
        }
    }
}

// ---- sums -----------------------------------------------------------------------------------------------------------

// The taps first..last-1 along a side of `size` that lie inside, for the window that starts at `start`.
static void taps_inside(int64_t start, int dilation, int kernel, int64_t size, int *first, int *last)
{
    *first = 0;
    *last = kernel;
    while (*first < kernel && start + (int64_t)*first * dilation < 0)
        ++*first;
    while (*last > *first && start + (int64_t)(*last - 1) * dilation >= size)
        --*last;
}

// Positions of a tile whose taps lie inside alike: those between the borders, and few at each of them.
static void find_segments(const byte_conv *conv, byte_conv_scratch *scratch)
{
    row_segment *segment = NULL;
    scratch->n_segments = 0;
    for (int x = 0; x < conv->out_width; x++) {
        int first, last;
        taps_inside((int64_t)x * conv->stride_w - conv->pad_left, conv->dilation_w, conv->kernel_w, conv->width, &first, &last);
        if (!segment || segment->first_tap != first || segment->last_tap != last || x % conv->tile == 0) {
            segment = &scratch->segments[scratch->n_segments++];
            *segment = (row_segment){ .x = x, .first_tap = first, .last_tap = last };
        }
        segment->n++;
    }
}

// The steps of n_subspaces subspaces and the kernel rows given, [kernel column][subspace][kernel row], so that those of some
// columns are a piece.
static void list_steps(const byte_conv *conv, const byte_conv_scratch *scratch, const int rows[2], const uint32_t *subspaces,
                       int n_subspaces)
{
    const size_t width = conv->table_width, n_outputs = (size_t)conv->book->n_outputs, kernel_w = (size_t)conv->kernel_w;
    const size_t plane_bytes = (size_t)conv->width * width, table_step = (size_t)conv->dilation_w * width;
    const size_t n_rows = (size_t)(rows[1] - rows[0]), per_column = (size_t)n_subspaces * n_rows;
    qcnn_lut_step *steps = scratch->steps;
    for (int i = 0; i < n_subspaces; i++)
        for (size_t row = 0; row < n_rows; row++, steps++) {
            const size_t ky = (size_t)rows[0] + row;
            uint32_t table = (uint32_t)(scratch->row_tables[ky] + subspaces[i] * plane_bytes);
            uint32_t code = (uint32_t)((subspaces[i] * (size_t)conv->kernel_h + ky) * kernel_w * n_outputs);
            for (size_t kx = 0; kx < kernel_w; kx++, table += (uint32_t)table_step, code += (uint32_t)n_outputs)
                steps[kx * per_column] = (qcnn_lut_step){ table, code };
        }
}

// Adds the listed steps to the positions of segments first..end-1.
static void add_steps(const byte_conv *conv, const byte_conv_scratch *scratch, const uint8_t *codes, size_t per_column, int weight,
                      int first_segment, int end_segment)
{
    const size_t width = conv->table_width, n_outputs = (size_t)conv->book->n_outputs, stride = (size_t)conv->stride_w * width;
    for (int i = first_segment; i < end_segment; i++) {
        const row_segment *segment = &scratch->segments[i];
        const size_t end = (size_t)segment->last_tap * per_column, x = (size_t)segment->x;
        for (size_t n, s = (size_t)segment->first_tap * per_column; s < end; s += n) {
            n = end - s < QCNN_LUT_MAX_STEPS ? end - s : QCNN_LUT_MAX_STEPS;
            conv->step->kernels->lut_conv_bytes(n_outputs, (size_t)segment->n, n, scratch->steps + s, scratch->ring + x * stride, stride,
                                                width, codes, weight, scratch->sums + x * n_outputs, n_outputs);
        }
    }
}

static void fill(int32_t *numbers, size_t n, int32_t value)
{
    size_t done = n < 64 ? n : 64;
    for (size_t i = 0; i < done; i++)
        numbers[i] = value;
    for (; done < n; done *= 2) // by moves of whole vectors
        memcpy(numbers + done, numbers, (done < n - done ? done : n - done) * sizeof *numbers);
}

// Sums of one output row, less those of the zeros that entries are offset by.
static void sum_byte_row(const byte_conv *conv, const byte_conv_scratch *scratch, const uint8_t *codes, int64_t group, int64_t out_row)
{
    const qcnn_codebook *book = conv->book;
    const uint32_t *order = conv->order + group * book->n_subspaces;
    const uint8_t *weights = conv->weights + group * book->n_subspaces;
    const int32_t *peaks = conv->peaks + group * book->n_subspaces;
    const size_t n_outputs = (size_t)book->n_outputs;
    const int64_t top = out_row * conv->stride_h - conv->pad_top;
    int rows[2];
    taps_inside(top, conv->dilation_h, conv->kernel_h, conv->height, &rows[0], &rows[1]);
    for (int ky = rows[0]; ky < rows[1]; ky++)
        scratch->row_tables[ky] = (size_t)(top + (int64_t)ky * conv->dilation_h) % conv->ring_rows * conv->row_bytes;
    int32_t zeros = 0; // of one tap
    for (int m = 0; m < book->n_subspaces; m++)
        zeros += peaks[m] > 0 ? 128 << weights[m] : 0;
    for (int i = 0; i < scratch->n_segments; i++) {
        const row_segment *segment = &scratch->segments[i];
        fill(scratch->sums + (size_t)segment->x * n_outputs, (size_t)segment->n * n_outputs,
             -zeros * (rows[1] - rows[0]) * (segment->last_tap - segment->first_tap));
    }
    for (int first = 0, end; first < scratch->n_segments; first = end) {
        const int tile = scratch->segments[first].x / conv->tile;
        for (end = first; end < scratch->n_segments && scratch->segments[end].x / conv->tile == tile;)
            end++;
        for (int i = 0, n; i < book->n_subspaces; i += n) {
            const int weight = weights[order[i]];
            for (n = 0; n < conv->subspaces_per_call && i + n < book->n_subspaces && weights[order[i + n]] == weight; n++)
                if (peaks[order[i + n]] == 0)
                    break; // zero throughout: nothing to add
            if (n > 0) {
                list_steps(conv, scratch, rows, order + i, n);
                add_steps(conv, scratch, codes, (size_t)n * (size_t)(rows[1] - rows[0]), weight, first, end);
            }
            n += n == 0;
        }
    }
}

// The tables of the input rows that an output row needs and the ring does not hold yet.
static void build_byte_rows(const byte_conv *conv, const byte_conv_scratch *scratch, int64_t group, int64_t out_row)
{
    const int32_t *sums;
    const int8_t *codewords = group_codewords(conv, group, &sums);
    const size_t plane = (size_t)(conv->height * conv->width), n_subspaces = (size_t)conv->book->n_subspaces;
    for (int ky = 0; ky < conv->kernel_h; ky++) {
        const int64_t row = out_row * conv->stride_h - conv->pad_top + (int64_t)ky * conv->dilation_h;
        if (row < 0 || row >= conv->height || scratch->slot_rows[(size_t)row % conv->ring_rows] == row)
            continue;
        scratch->slot_rows[(size_t)row % conv->ring_rows] = row;
        const uint8_t *x = conv->quads + (((size_t)group * n_subspaces * conv->n_quads) * plane + (size_t)(row * conv->width)) * 4;
        conv->step->kernels->table_bytes((size_t)conv->width, n_subspaces, NULL, (int)conv->n_quads, x, plane * 4, codewords, sums,
                                         conv->bytes.zero, conv->table_width, conv->shifts + (size_t)group * n_subspaces,
                                         conv->factors + (size_t)group * n_subspaces,
                                         scratch->ring + ring_margin(conv) + (size_t)row % conv->ring_rows * conv->row_bytes);
    }
}

// One strip of output rows of one group.
static void run_byte_strip(void *argument, int index, int worker)
{
    const byte_conv *conv = argument;
    const qcnn_step *step = conv->step;
    const qcnn_codebook *book = conv->book;
    const qcnn_activation *activation = &step->node->attributes.activation;
    const int strip = index / book->groups, group = index % book->groups;
    const int64_t first = conv->out_height * strip / conv->n_strips, end = conv->out_height * (strip + 1) / conv->n_strips;
    const size_t n_outputs = (size_t)book->n_outputs, n_all = (size_t)book->groups * n_outputs;
    const size_t out_plane = (size_t)(conv->out_height * conv->out_width);
    const uint8_t *codes = book->assignments + (size_t)group * (size_t)book->n_subspaces * (size_t)book->n_taps * n_outputs;
    const bool has_bias = step->node->n_inputs > 2 && step->inputs[2].data;

    byte_conv_scratch scratch;
    byte_conv_place(conv, step->worker + (size_t)worker * step->worker_bytes, &scratch);
    find_segments(conv, &scratch);
    for (size_t slot = 0; slot < conv->ring_rows; slot++)
        scratch.slot_rows[slot] = -1;
    const float inverse = step->output_quads ? 1 / step->output_format.scale : 1;
    for (size_t o = 0; o < n_outputs; o++)
        scratch.starts[o] = has_bias ? step->inputs[2].data[(size_t)group * n_outputs + o] * inverse : 0;
    for (int64_t out_row = first; out_row < end; out_row++) {
        build_byte_rows(conv, &scratch, group, out_row);
        sum_byte_row(conv, &scratch, codes, group, out_row);
        const size_t position = (size_t)(out_row * conv->out_width);
        if (step->output_quads) {
            const size_t quad = (size_t)conv->image * ((n_all + 3) / 4) + (size_t)group * n_outputs / 4; // groups are whole quads
            step->kernels->requantize_turned((size_t)conv->out_width, n_outputs, scratch.sums, n_outputs, conv->unit * inverse,
                                             scratch.starts, qcnn_held_to(activation, &step->output_format),
                                             step->output_quads + (quad * out_plane + position) * 4, out_plane * 4);
            continue;
        }
        float *row = step->output + ((size_t)conv->image * n_all + (size_t)group * n_outputs) * out_plane + position;
        step->kernels->dequantize_turned((size_t)conv->out_width, n_outputs, scratch.sums, n_outputs, conv->unit, scratch.starts,
                                         qcnn_low_bound(activation), row, out_plane);
        if (qcnn_activation_left(activation))
            for (size_t o = 0; o < n_outputs; o++)
                step->kernels->activate(activation, row + o * out_plane, row + o * out_plane, (size_t)conv->out_width);
    }
}

// The unit of the entries and what makes them, from the peaks.
static void choose_unit(byte_conv *conv)
{
    const qcnn_codebook *book = conv->book;
    const size_t n_subspaces = (size_t)book->n_subspaces, n_scales = (size_t)book->n_sets * n_subspaces;
    conv->unit =
        qcnn_table_unit(conv->peaks, (size_t)book->groups * n_subspaces, conv->step->node->byte_codebook->scales, n_scales,
                        conv->bytes.scale, (uint64_t)n_subspaces * (uint64_t)book->n_taps, conv->shifts, conv->factors, conv->weights);
    for (size_t i = 0; i < (size_t)book->groups * n_subspaces; i += n_subspaces)
        qcnn_order_by_weight(conv->weights + i, n_subspaces, conv->order + i);
}

// The peaks that calibration found, in accumulators of this input's scale.
static void scale_peaks(const byte_conv *conv)
{
    const qcnn_codebook *book = conv->book;
    const size_t n_scales = (size_t)book->n_sets * (size_t)book->n_subspaces;
    for (size_t i = 0, k = 0; i < (size_t)book->groups * (size_t)book->n_subspaces; i++, k = k + 1 < n_scales ? k + 1 : 0) {
        const float peak = book->peaks[i] / (conv->step->node->byte_codebook->scales[k] * conv->bytes.scale);
        conv->peaks[i] = !(peak > 0) ? 0 : peak < 0x1p28F ? (int32_t)peak + 1 : 1 << 28;
    }
}

static void byte_conv_run(const qcnn_step *step, const qcnn_parallel *parallel)
{
    byte_conv conv = byte_conv_measure(step);
    const qcnn_codebook *book = conv.book;
    const qcnn_operand *input = &step->inputs[0];
    place_shared(&conv, step->shared);
    const int64_t n_tables = (int64_t)book->groups * book->n_subspaces;
    const size_t plane = (size_t)(conv.height * conv.width), in_image = (size_t)(book->groups * book->n_inputs) * plane;
    const int wanted = qcnn_n_workers(parallel); // a strip more repeats the tables at its seam
    conv.n_strips = (int)(wanted < conv.out_height ? wanted : conv.out_height);
    for (conv.image = 0; conv.image < step->output_shape.dims[0]; conv.image++) {
        if (input->quads) {
            conv.quads = input->quads + (size_t)conv.image * in_image;
            conv.bytes =
                (qcnn_byte_scale){ .scale = input->format.scale, .inverse = 1 / input->format.scale, .limit = input->format.limit };
        } else {
            conv.quads = conv.made_quads;
            conv.bytes = qcnn_byte_scale_of(step->kernels, input->data + (size_t)conv.image * in_image, in_image, 255);
            qcnn_for_range(parallel, n_tables * (int64_t)conv.n_quads, 1, quantize_quads_of, &conv);
        }
        if (book->peaks)
            scale_peaks(&conv);
        else
            qcnn_for_range(parallel, n_tables, 1, find_peaks, &conv);
        choose_unit(&conv);
        qcnn_for(parallel, book->groups * conv.n_strips, run_byte_strip, &conv);
    }
}

// Where the input's subspaces are whole quads.
static bool reads_whole_subspaces(const qcnn_step *step)
{
    const qcnn_codebook *book = &qcnn_node_weights(step->model, step->node)->codebook;
    return book->subspace % 4 == 0 && book->n_inputs % book->subspace == 0;
}

static bool writes_whole_groups(const qcnn_step *step)
{
    const qcnn_codebook *book = &qcnn_node_weights(step->model, step->node)->codebook;
    return qcnn_only_holds(&step->node->attributes.activation) && (book->groups == 1 || book->n_outputs % 4 == 0);
}

const qcnn_layer_type qcnn_layer_conv_lut_bytes = {
    .plan = byte_conv_plan, .run = byte_conv_run, .reads_quads = reads_whole_subspaces, .writes_quads = writes_whole_groups
};
