// SPDX-License-Identifier: Apache-2.0
// Convolution from codebooks (Wu et al., CVPR 2016, section 3.2): the scalar products of an input pixel with all codewords
// of its subspace are computed once, and every (tap, output channel) that reads the pixel looks its own up.
//
// Positions of a row lie in the vector lanes. For one input row and subspace the table is
//
//     table[codeword][phase][column]        column c of phase p is the padded input column c * stride + p
//
// so that the entries which one tap needs for a whole output row are one contiguous piece, whatever the stride. A ring
// holds the tables of the kernel's rows while the output row moves down; each input row's tables are built once a strip.
//
// Entries are float32, or (unless the model is to run exactly) whole numbers of 16 bits with one scale for the layer and the
// image, small enough that those of one call of the kernel add up in 16 bits.

#include "engine/engine.h"

#include <math.h>
#include <string.h>

// Few taps a call, and sums are loaded and stored too often; many, and their tables leave the first-level cache.
enum { MIN_TAPS_PER_CALL = 4, MAX_TAPS_PER_CALL = 9, LONGEST_SUBSPACE = 64 };

// The shape of the work, in the layer's own units; a 1-D convolution is a 2-D one of height 1.
typedef struct lut_conv_geometry {
    int64_t height, width, out_height, out_width; // of input and output
    int kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
    size_t phase_columns; // columns of one phase that output columns read; whole vectors read on into what follows, and are cut
    size_t row_columns;   // of all phases: the floats of one codeword
    size_t table_floats;  // tables of one input row: [n_subspaces][n_codewords][row_columns]
    size_t ring_rows;
    size_t lanes; // output columns, rounded up to whole blocks
    int n_strips;
    bool words; // entries of 16 bits
    int limit;  // their largest
} lut_conv_geometry;

static lut_conv_geometry lut_conv_measure(const qcnn_step *step)
{
    const qcnn_attributes *a = &step->node->attributes;
    const qcnn_codebook *book = &qcnn_node_weights(step->model, step->node)->codebook;
    const qcnn_shape *x = &step->inputs[0].shape, *y = &step->output_shape;
    const int row = a->n_spatial - 2, column = a->n_spatial - 1; // spatial indices; row is -1 in 1-D
    lut_conv_geometry g = { .height = 1, .out_height = 1, .kernel_h = 1, .stride_h = 1, .dilation_h = 1 };
    if (row >= 0) {
        g.height = x->dims[2];
        g.out_height = y->dims[2];
        g.kernel_h = a->kernel[row];
        g.stride_h = a->stride[row];
        g.dilation_h = a->dilation[row];
        g.pad_top = a->window_begin[row];
    }
    g.width = x->dims[2 + column];
    g.out_width = y->dims[2 + column];
    g.kernel_w = a->kernel[column];
    g.stride_w = a->stride[column];
    g.dilation_w = a->dilation[column];
    g.pad_left = a->window_begin[column];

    const size_t block = QCNN_LUT_COLUMNS, gemm = (size_t)step->kernels->gemm_columns;
    const size_t reach = (size_t)(g.kernel_w - 1) * (size_t)g.dilation_w / (size_t)g.stride_w;
    g.lanes = ((size_t)g.out_width + block - 1) / block * block;
    g.phase_columns = ((size_t)g.out_width + reach + gemm - 1) / gemm * gemm;
    g.row_columns = g.phase_columns * (size_t)g.stride_w;
    g.table_floats = (size_t)book->n_subspaces * (size_t)book->n_codewords * g.row_columns;
    g.ring_rows = (size_t)(g.kernel_h - 1) * (size_t)g.dilation_h + 1;
    if ((int64_t)g.ring_rows > g.height)
        g.ring_rows = (size_t)g.height;
    g.words = !step->model->exact;
    g.limit = INT16_MAX / (g.kernel_w > MAX_TAPS_PER_CALL ? g.kernel_w : MAX_TAPS_PER_CALL);
    return g;
}

// A worker's scratch: the input row [n_inputs][row_columns], the ring of tables, which input row each slot holds,
// the tables each tap reads, and the output row [n_outputs][lanes]. With entries of 16 bits the ring holds those, the sums are
// whole numbers, and `table` has room for one subspace's entries in float.
typedef struct lut_conv_scratch {
    float *input_row, *ring, *sums, *table;
    int16_t *word_ring;
    int32_t *word_sums;
    const float **tap_tables;
    const int16_t **tap_words;
    int64_t *slot_rows;
} lut_conv_scratch;

static size_t round_to_line(size_t n_bytes)
{
    return (n_bytes + 63) / 64 * 64;
}

static size_t lut_conv_place(const lut_conv_geometry *g, const qcnn_codebook *book, unsigned char *base, lut_conv_scratch *scratch)
{
    size_t used = 0;
    scratch->input_row = (float *)(void *)(base + used);
    used += round_to_line((size_t)book->n_inputs * g->row_columns * sizeof(float));
    scratch->ring = (float *)(void *)(base + used);
    scratch->word_ring = (int16_t *)(void *)(base + used);
    used += round_to_line((g->ring_rows * g->table_floats + g->lanes) * (g->words ? sizeof(int16_t) : sizeof(float)));
    scratch->table = (float *)(void *)(base + used);
    used += g->words ? round_to_line((size_t)book->n_codewords * g->row_columns * sizeof(float)) : 0;
    scratch->sums = (float *)(void *)(base + used);
    used += round_to_line((size_t)book->n_outputs * g->lanes * sizeof(float));
    scratch->word_sums = (int32_t *)(void *)scratch->sums;
    scratch->tap_tables = (const float **)(void *)(base + used);
    scratch->tap_words = (const int16_t **)(void *)(base + used);
    used += round_to_line(((size_t)book->n_taps + MIN_TAPS_PER_CALL) * sizeof(float *));
    scratch->slot_rows = (int64_t *)(void *)(base + used);
    used += round_to_line(g->ring_rows * sizeof(int64_t));
    return used;
}

static void lut_conv_plan(qcnn_step *step)
{
    const lut_conv_geometry g = lut_conv_measure(step);
    const qcnn_codebook *book = &qcnn_node_weights(step->model, step->node)->codebook;
    const double floats = (double)g.ring_rows * (double)g.row_columns * ((double)book->n_subspaces * book->n_codewords + book->n_inputs) +
                          (double)book->n_outputs * (double)g.lanes;
    static unsigned char nowhere[64];
    lut_conv_scratch unused;
    step->shared_bytes = g.words ? (size_t)step->output_shape.dims[0] * sizeof(float) : 0;
    step->worker_bytes = floats < (double)(SIZE_MAX / 64) ? lut_conv_place(&g, book, nowhere, &unused)
                                                          : SIZE_MAX; // beyond any machine: the session refuses it
}

// One input row of a group, spread into phases with zeros around it: input_row[channel][phase][column].
static void spread_row(const lut_conv_geometry *g, const float *row, size_t channel_stride, int n_channels, float *input_row)
{
    memset(input_row, 0, (size_t)n_channels * g->row_columns * sizeof *input_row);
    for (int channel = 0; channel < n_channels; channel++, row += channel_stride, input_row += g->row_columns) {
        if (g->stride_w == 1) {
            const size_t room = g->phase_columns > (size_t)g->pad_left ? g->phase_columns - (size_t)g->pad_left : 0;
            const size_t n = (size_t)g->width < room ? (size_t)g->width : room;
            memcpy(input_row + (room ? g->pad_left : 0), row, n * sizeof *row);
            continue;
        }
        for (int64_t x = 0; x < g->width; x++) {
            const size_t padded = (size_t)(x + g->pad_left), column = padded / (size_t)g->stride_w;
            if (column < g->phase_columns) // pixels to the right of the last window are read by nobody
                input_row[padded % (size_t)g->stride_w * g->phase_columns + column] = row[x];
        }
    }
}

// The table of one subspace of one input row: table[k][column] = <codeword k, the row's channels of the subspace>.
static void build_table(const qcnn_kernels *kernels, const qcnn_codebook *book, const float *codewords, const lut_conv_geometry *g, int m,
                        const float *input_row, float *table)
{
    static const float zeros[QCNN_GEMM_MAX_ROWS];
    const size_t columns = (size_t)kernels->gemm_columns, subspace = (size_t)book->subspace;
    const int left = book->n_inputs - m * book->subspace;
    const size_t width = (size_t)(left < book->subspace ? left : book->subspace);
    codewords += (size_t)m * (size_t)book->n_codewords * subspace;
    input_row += (size_t)m * subspace * g->row_columns;
    for (int k = 0; k < book->n_codewords; k += kernels->gemm_rows) {
        const int rows = book->n_codewords - k < kernels->gemm_rows ? book->n_codewords - k : kernels->gemm_rows;
        for (size_t column = 0; column < g->row_columns; column += columns)
            kernels->gemm(rows, (int)columns, width, codewords + (size_t)k * subspace, subspace, input_row + column, g->row_columns,
                          table + (size_t)k * g->row_columns + column, g->row_columns, zeros);
    }
}

// The tables of one input row into slot `slot` of the ring, [m][k][column]; `inverse`: whole numbers in a unit of the entries.
static void build_tables(const qcnn_kernels *kernels, const qcnn_codebook *book, const float *codewords, const lut_conv_geometry *g,
                         const lut_conv_scratch *scratch, size_t slot, float inverse)
{
    const size_t n = (size_t)book->n_codewords * g->row_columns;
    for (int m = 0; m < book->n_subspaces; m++) {
        const size_t place = slot * g->table_floats + (size_t)m * n;
        build_table(kernels, book, codewords, g, m, scratch->input_row, g->words ? scratch->table : scratch->ring + place);
        if (g->words)
            kernels->quantize_words(n, scratch->table, inverse, g->limit, scratch->word_ring + place);
    }
}

typedef struct lut_conv_job {
    const qcnn_step *step;
    const qcnn_codebook *book;
    lut_conv_geometry g;
    float *units; // of each image's entries of 16 bits
} lut_conv_job;

// Fills scratch->tap_tables for subspace m and the kernel rows ky..ky_end-1, which lie inside the input; returns how many.
static size_t point_at_tables(const lut_conv_job *job, const lut_conv_scratch *scratch, int m, int ky, int ky_end, int64_t out_row,
                              size_t n)
{
    const lut_conv_geometry *g = &job->g;
    const size_t table = (size_t)m * (size_t)job->book->n_codewords * g->row_columns;
    for (; ky < ky_end; ky++) {
        const size_t row = (size_t)(out_row * g->stride_h - g->pad_top + (int64_t)ky * g->dilation_h);
        const size_t row_table = table + row % g->ring_rows * g->table_floats;
        for (size_t kx = 0; kx < (size_t)g->kernel_w; kx++) {
            const size_t offset = kx * (size_t)g->dilation_w, stride = (size_t)g->stride_w;
            const size_t place = row_table + offset % stride * g->phase_columns + offset / stride;
            if (g->words)
                scratch->tap_words[n++] = scratch->word_ring + place;
            else
                scratch->tap_tables[n++] = scratch->ring + place;
        }
    }
    return n;
}

// Sums of one output row of a group into scratch->sums, [n_outputs][lanes]. One call of the kernel takes all taps of a
// subspace, or several subspaces where the kernel is small: sums stay in registers meanwhile.
static void sum_row(const lut_conv_job *job, const lut_conv_scratch *scratch, const uint8_t *assignments, const float *bias,
                    int64_t out_row)
{
    const lut_conv_geometry *g = &job->g;
    const qcnn_codebook *book = job->book;
    const size_t n_outputs = (size_t)book->n_outputs;
    for (size_t o = 0; o < n_outputs; o++)
        for (size_t column = 0; column < g->lanes; column++)
            scratch->sums[o * g->lanes + column] = bias && !g->words ? bias[o] : 0; // of words: a bias comes last
    int ky = 0, ky_end = g->kernel_h;                                               // rows of padding add nothing
    const int64_t top = out_row * g->stride_h - g->pad_top;
    while (ky < ky_end && top + (int64_t)ky * g->dilation_h < 0)
        ky++;
    while (ky < ky_end && top + (int64_t)(ky_end - 1) * g->dilation_h >= g->height)
        ky_end--;
    const bool small = book->n_taps < MIN_TAPS_PER_CALL && ky_end - ky == g->kernel_h;
    const int subspaces = small ? MIN_TAPS_PER_CALL / book->n_taps : 1;
    const int rows = g->kernel_w < MAX_TAPS_PER_CALL ? MAX_TAPS_PER_CALL / g->kernel_w : 1;
    for (int m = 0; m < book->n_subspaces; m += subspaces)
        for (int row = ky; row < ky_end; row += rows) {
            const int row_end = ky_end - row < rows ? ky_end : row + rows;
            size_t n_taps = 0;
            for (int next = m; next < m + subspaces && next < book->n_subspaces; next++)
                n_taps = point_at_tables(job, scratch, next, row, row_end, out_row, n_taps);
            const uint8_t *codes = assignments + (size_t)(m * book->n_taps + row * g->kernel_w) * n_outputs;
            if (g->words)
                job->step->kernels->lut_sum_words(n_outputs, n_taps, codes, scratch->tap_words, g->row_columns, scratch->word_sums,
                                                  g->lanes);
            else
                job->step->kernels->lut_sum_columns(n_outputs, n_taps, codes, scratch->tap_tables, g->row_columns, scratch->sums, g->lanes);
        }
}

// One strip of output rows of one group of one image.
static void run_strip(void *argument, int index, int worker)
{
    const lut_conv_job *job = argument;
    const qcnn_step *step = job->step;
    const qcnn_codebook *book = job->book;
    const lut_conv_geometry *g = &job->g;
    const int strip = index % g->n_strips, group = index / g->n_strips % book->groups, image = index / g->n_strips / book->groups;
    const int64_t first = g->out_height * strip / g->n_strips, end = g->out_height * (strip + 1) / g->n_strips;

    const size_t in_plane = (size_t)(g->height * g->width), out_plane = (size_t)(g->out_height * g->out_width);
    const size_t n_inputs = (size_t)book->n_inputs, n_outputs = (size_t)book->n_outputs;
    const size_t place = (size_t)image * (size_t)book->groups + (size_t)group;
    const float *input = step->inputs[0].data + place * n_inputs * in_plane;
    float *output = step->output + place * n_outputs * out_plane;
    const float *bias = step->node->n_inputs > 2 && step->inputs[2].data ? step->inputs[2].data + (size_t)group * n_outputs : NULL;
    const uint8_t *assignments = book->assignments + (size_t)group * (size_t)book->n_subspaces * (size_t)book->n_taps * n_outputs;
    const float *codewords = book->codewords;
    if (book->n_sets > 1)
        codewords += (size_t)group * (size_t)book->n_subspaces * (size_t)book->n_codewords * (size_t)book->subspace;

    const float unit = g->words ? job->units[image] : 0;
    lut_conv_scratch scratch;
    lut_conv_place(g, book, step->worker + (size_t)worker * step->worker_bytes, &scratch);
    for (size_t slot = 0; slot < g->ring_rows; slot++)
        scratch.slot_rows[slot] = -1;
    for (int64_t out_row = first; out_row < end; out_row++) {
        for (int ky = 0; ky < g->kernel_h; ky++) {
            const int64_t row = out_row * g->stride_h - g->pad_top + (int64_t)ky * g->dilation_h;
            if (row < 0 || row >= g->height || scratch.slot_rows[(size_t)row % g->ring_rows] == row)
                continue;
            scratch.slot_rows[(size_t)row % g->ring_rows] = row;
            spread_row(g, input + (size_t)(row * g->width), in_plane, book->n_inputs, scratch.input_row);
            build_tables(step->kernels, book, codewords, g, &scratch, (size_t)row % g->ring_rows, unit > 0 ? 1 / unit : 0);
        }
        sum_row(job, &scratch, assignments, bias, out_row);
        for (size_t o = 0; o < n_outputs; o++) {
            float *sums = scratch.sums + o * g->lanes;
            if (g->words)
                step->kernels->dequantize((size_t)g->out_width, scratch.word_sums + o * g->lanes, unit, bias ? bias[o] : 0, -INFINITY,
                                          sums);
            step->kernels->activate(&step->node->attributes.activation, output + o * out_plane + (size_t)(out_row * g->out_width), sums,
                                    (size_t)g->out_width);
        }
    }
}

// A bound of the entries of an image's tables: codewords times the largest input of each channel.
static float entry_bound(const lut_conv_job *job, const float *image)
{
    const qcnn_codebook *book = job->book;
    const size_t plane = (size_t)(job->g.height * job->g.width), set_floats = (size_t)book->n_subspaces * (size_t)book->n_codewords;
    float bound = 0;
    for (int group = 0; group < book->groups; group++) {
        const float *codeword = book->codewords + (book->n_sets > 1 ? (size_t)group * set_floats * (size_t)book->subspace : 0);
        for (int m = 0; m < book->n_subspaces; m++) {
            float largest[LONGEST_SUBSPACE]; // of the subspace's channels, in turn where there are more
            const int first = m * book->subspace, width = book->n_inputs - first < book->subspace ? book->n_inputs - first : book->subspace;
            for (int i = 0; i < LONGEST_SUBSPACE; i++)
                largest[i] = 0;
            for (int i = 0; i < width; i++, image += plane) {
                float low = 0, high = 0;
                job->step->kernels->range(image, plane, &low, &high);
                high = high > -low ? high : -low;
                largest[i % LONGEST_SUBSPACE] = high > largest[i % LONGEST_SUBSPACE] ? high : largest[i % LONGEST_SUBSPACE];
            }
            for (int k = 0; k < book->n_codewords; k++, codeword += book->subspace) {
                float sum = 0;
                for (int i = 0; i < width; i++)
                    sum += fabsf(codeword[i]) * largest[i % LONGEST_SUBSPACE];
                bound = sum > bound ? sum : bound;
            }
        }
    }
    return bound;
}

static void find_units(void *argument, int image, int worker)
{
    (void)worker;
    const lut_conv_job *job = argument;
    const size_t image_floats = (size_t)job->book->groups * (size_t)job->book->n_inputs * (size_t)(job->g.height * job->g.width);
    const float bound = entry_bound(job, job->step->inputs[0].data + (size_t)image * image_floats);
    job->units[image] = bound < INFINITY ? bound / (float)job->g.limit : 0; // beyond numbers there is nothing to scale
}

static void lut_conv_run(const qcnn_step *step, const qcnn_parallel *parallel)
{
    lut_conv_job job = { step, &qcnn_node_weights(step->model, step->node)->codebook, lut_conv_measure(step),
                         (float *)(void *)step->shared };
    const int64_t pieces = step->output_shape.dims[0] * job.book->groups;
    const int64_t wanted = (qcnn_n_workers(parallel) + pieces - 1) / pieces; // a strip more repeats the tables at its seam
    job.g.n_strips = (int)(wanted < job.g.out_height ? wanted : job.g.out_height);
    if (job.g.words)
        qcnn_for(parallel, (int)step->output_shape.dims[0], find_units, &job);
    qcnn_for(parallel, (int)(pieces * job.g.n_strips), run_strip, &job);
}

const qcnn_layer_type qcnn_layer_conv_lut = { .plan = lut_conv_plan, .run = lut_conv_run };
