// SPDX-License-Identifier: Apache-2.0
// Dense convolution in bytes. An image's inputs are a byte plane already or become bytes over the range they have in this layer and
// image, four channels of a pixel together (a quad), zero padding included. With strides sy, sx they are laid out by remainder,
//
//     quads[quad][y mod sy][x mod sx][y / sy][x / sx][4]        y, x: of the padded input
//
// so that each tap of *all* output positions, row after row, is one contiguous piece: output position (oy, ox) is column
// oy * plane_w + ox, whatever tap and stride. The few columns between two rows are computed and dropped. At stride 1 a row's right
// padding is the next row's left one. A byte plane that needs neither strides nor padding is read where it is. What a 1x1 kernel gives
// in its padding is the same everywhere: one column more, spread over the border of the output.
//
// Fewer than four channels are interleaved instead, a padded row's bytes [x][channel] in groups of four: group g of a kernel row
// begins, for output column j, at byte sx * channels * j + 4 g. Planes hold the groups g < phases_x; a later g is an earlier one's
// some columns on. Where the last group of a kernel row is one byte, one more plane holds the last bytes of four padded rows from
// each y * sy on.
//
// Sums are whole numbers, and min and max do not care for order: no split over workers changes a bit.

#include <math.h>
#include <string.h>

#include "engine/layers.h"

enum { CHUNK_BYTES = 192 << 10, MAX_TILE = 1024, SLACK = 64, MAX_PARTS = 64 };

typedef struct bytes_job {
    const qcnn_step *step;
    const qcnn_dense_bytes *bytes;
    qcnn_window w;
    int64_t groups, n_inputs, n_outputs, n_quads; // of one group
    int64_t phases_y, phases_x, plane_h, plane_w; // of one remainder (interleaved, phases_x is the number of planes)
    int64_t tail;                                 // columns behind the last row of a plane
    int64_t row_steps, shift;                     // interleaved: groups of a kernel row, columns between a plane's groups
    bool by_rows;                                 // tiles end where output rows do
    bool bordered;                                // a 1x1 kernel with padding: `w` is its inside as one row
    qcnn_window whole;                            // all of it
    bool in_place;                                // the input is a byte plane that has this layout already
    int64_t n_planes;                             // of a quad: remainders, and that of the rests
    size_t plane_bytes, quad_bytes, image_quads;  // of one remainder, of a quad; quads of an image
    int64_t n_columns, chunk, n_chunks, tiles, row_tiles, n_row_parts; // of one group
    // of the image at hand
    int64_t image;
    float scale, inverse;
    int zero;
    const uint8_t *quads; // the inputs laid out: in shared scratch, or where they are
    // in shared scratch
    uint8_t *packed;
    uint32_t *offsets;      // [n_steps]
    float *scales, *starts; // [groups * n_outputs]
    float *ranges;          // [MAX_PARTS][2]
} bytes_job;

static int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static float lesser(float a, float b)
{
    return a < b ? a : b;
}

static float greater(float a, float b)
{
    return a > b ? a : b;
}

// Whether tiles may end where output rows do: few columns are left over there.
static bool rows_make_tiles(int64_t plane_w, int64_t out_w)
{
    return plane_w > out_w && out_w >= 96 && divide_up(out_w, 16) * 16 <= plane_w + 4;
}

static void interleave(bytes_job *job)
{
    const qcnn_window *w = &job->w;
    const int64_t step = w->stride[2] * job->n_inputs; // bytes from one output column to the next
    const int64_t divisor = step % 4 == 0 ? 4 : step % 2 == 0 ? 2 : 1, period = step / divisor;
    job->row_steps = divide_up(w->kernel[2] * job->n_inputs, 4);
    job->phases_x = least(period, job->row_steps);
    job->shift = 4 / divisor;
    job->plane_w = w->out[2] + (job->row_steps - 1) / period * job->shift;
    if (job->plane_w > w->out[2] && !rows_make_tiles(job->plane_w, w->out[2])) { // a plane for each group: no columns between rows
        job->phases_x = job->row_steps;
        job->plane_w = w->out[2];
    }
}

// Bytes of a padded row interleaved: what the planes read of it, and room for what is written past that.
static int64_t line_bytes(const bytes_job *job)
{
    const qcnn_window *w = &job->w;
    const int64_t read = w->stride[2] * job->n_inputs * (job->plane_w - 1) + 4 * job->phases_x;
    const int64_t written = (w->begin[2] + w->in[2]) * job->n_inputs;
    return (read > written ? read : written) + 4;
}

static void leave_border_out(bytes_job *job)
{
    const qcnn_window w = job->w;
    if (job->bytes->interleaved || w.n_taps != 1 || w.in_elements == w.out_elements || w.in_elements == 0)
        return;
    for (int i = 0; i < 3; i++)
        if (w.stride[i] != 1 || w.begin[i] < 0 || w.begin[i] + w.in[i] > w.out[i] || (i == 0 && w.out[i] != 1))
            return;
    job->bordered = true;
    job->whole = w;
    const int64_t n = w.in_elements;
    for (int i = 0; i < 3; i++) {
        job->w.in[i] = job->w.out[i] = i < 2 ? 1 : n;
        job->w.begin[i] = 0;
    }
}

static bytes_job measure_bytes(const qcnn_step *step)
{
    const qcnn_attributes *a = &step->node->attributes;
    const qcnn_shape *x = &step->inputs[0].shape, *y = &step->output_shape;
    bytes_job job = { .step = step, .bytes = step->node->bytes, .w = qcnn_window_of(a, x, y), .groups = a->groups };
    qcnn_window_flatten(&job.w);
    leave_border_out(&job);
    const qcnn_window *w = &job.w;
    job.n_inputs = x->dims[1] / a->groups;
    job.n_outputs = y->dims[1] / a->groups;
    job.n_quads = divide_up(job.n_inputs, 4);
    job.phases_y = least(w->stride[1], (w->kernel[1] - 1) * w->dilation[1] + 1);
    job.plane_h = w->out[1] + (w->kernel[1] - 1) * w->dilation[1] / w->stride[1];
    if (job.bytes->interleaved)
        interleave(&job);
    else {
        job.phases_x = least(w->stride[2], (w->kernel[2] - 1) * w->dilation[2] + 1);
        job.plane_w = w->out[2] + (w->kernel[2] - 1) * w->dilation[2] / w->stride[2] + job.bordered;
        const int64_t right = job.plane_w - w->in[2] - w->begin[2], shared = w->in[2] + (right > w->begin[2] ? right : w->begin[2]);
        if (w->stride[2] == 1 && right > 0 && w->begin[2] > 0 && shared >= w->out[2]) {
            job.plane_w = shared;
            job.tail = right;
        }
    }
    job.by_rows = !job.bordered && rows_make_tiles(job.plane_w, w->out[2]);
    job.plane_bytes = (size_t)((job.plane_h * job.plane_w + job.tail) * 4);
    job.n_planes = job.phases_y * job.phases_x + (job.bytes->rest_steps > 0);
    job.quad_bytes = (size_t)job.n_planes * job.plane_bytes;
    job.image_quads = (size_t)(job.groups * job.n_quads);
    job.n_columns = (w->out[1] - 1) * job.plane_w + w->out[2] + job.bordered;
    job.in_place = qcnn_is_plane(&step->inputs[0].format) && !job.bytes->interleaved && w->begin[1] == 0 && w->begin[2] == 0 &&
                   job.n_planes == 1 && job.plane_h == w->in[1] && job.plane_w == w->in[2];
    return job;
}

// Tiles that make whole quads of outputs together.
static int64_t quad_tiles(const bytes_job *job)
{
    return job->bytes->tile_rows < 4 ? 4 / job->bytes->tile_rows : 1;
}

// Chunks of columns whose inputs stay in the second-level cache while all outputs pass over them, and pieces for the workers.
static void split_bytes(bytes_job *job, int n_workers)
{
    const int64_t unit = job->by_rows ? job->plane_w : job->step->kernels->bytes_columns, n_units = divide_up(job->n_columns, unit);
    const int64_t most = CHUNK_BYTES / (job->n_planes * job->n_quads * 4 * unit);
    const int64_t chunks = divide_up(divide_up(n_units, most > 1 ? most : 1), n_workers) * n_workers; // as many for each worker
    job->chunk = divide_up(n_units, least(n_units, n_workers > 1 && chunks < 2 * n_workers ? 2 * n_workers : chunks)) * unit;
    job->n_chunks = divide_up(job->n_columns, job->chunk);
    job->tiles = divide_up(job->n_outputs, job->bytes->tile_rows);
    const int64_t wanted = n_workers > 1 ? divide_up(4 * n_workers, job->groups * job->n_chunks) : 1;
    job->row_tiles = divide_up(divide_up(job->tiles, wanted), quad_tiles(job)) * quad_tiles(job);
    job->n_row_parts = divide_up(job->tiles, job->row_tiles);
}

static size_t align_64(size_t n)
{
    return (n + 63) / 64 * 64;
}

static void place_scratch(bytes_job *job, unsigned char *shared)
{
    const size_t n_outputs = (size_t)(job->groups * job->n_outputs);
    job->packed = shared;
    if (!job->in_place)
        shared += align_64(job->image_quads * job->quad_bytes + SLACK);
    job->offsets = (uint32_t *)(void *)shared;
    shared += align_64(job->bytes->n_steps * sizeof *job->offsets);
    job->scales = (float *)(void *)shared;
    shared += align_64(n_outputs * sizeof(float));
    job->starts = (float *)(void *)shared;
    shared += align_64(n_outputs * sizeof(float));
    job->ranges = (float *)(void *)shared;
}

static void conv_bytes_plan(qcnn_step *step)
{
    const bytes_job job = measure_bytes(step);
    const size_t quads = qcnn_plan_bytes(qcnn_plan_bytes((uint64_t)job.plane_h + 1, (uint64_t)job.plane_w, 4), (uint64_t)job.n_planes,
                                         (uint64_t)job.image_quads);
    const size_t n_outputs = (size_t)(job.groups * job.n_outputs);
    const size_t most = SIZE_MAX > UINT32_MAX ? UINT32_MAX - 1024 : SIZE_MAX / 4; // offsets have 32 bits; what follows may not wrap
    step->shared_bytes = quads > most ? SIZE_MAX
                                      : (job.in_place ? 0 : align_64(quads + SLACK)) + align_64(job.bytes->n_steps * sizeof(uint32_t)) +
                                            2 * align_64(n_outputs * sizeof(float)) + MAX_PARTS * 2 * sizeof(float);
    step->worker_bytes = align_64((size_t)job.w.in[2] * 4); // a line of pixels, and later a tile
    if (job.bytes->interleaved)
        step->worker_bytes += align_64((size_t)line_bytes(&job));
    if (step->worker_bytes < MAX_TILE * sizeof(float))
        step->worker_bytes = MAX_TILE * sizeof(float);
}

// ---- inputs to bytes ------------------------------------------------------------------------------------------------

static int64_t input_elements(const bytes_job *job)
{
    return job->groups * job->n_inputs * job->w.in_elements;
}

static void find_ranges(void *argument, int index, int worker)
{
    (void)worker;
    const bytes_job *job = argument;
    const int64_t n = input_elements(job), part = divide_up(n, MAX_PARTS), first = index * part;
    float *range = job->ranges + 2 * (size_t)index;
    range[0] = range[1] = 0;
    if (first < n)
        job->step->kernels->range(job->step->inputs[0].data + job->image * n + first, (size_t)least(part, n - first), &range[0], &range[1]);
}

// The scale and zero of the image's bytes.
static void set_input_scale(bytes_job *job, const qcnn_parallel *parallel)
{
    const float bound = 1e37F; // infinities end here
    const int limit = job->step->kernels->bytes_limit;
    float low = 0, high = 0;
    qcnn_for(parallel, MAX_PARTS, find_ranges, job);
    for (size_t i = 0; i < MAX_PARTS; i++) {
        low = lesser(low, job->ranges[2 * i]);
        high = greater(high, job->ranges[2 * i + 1]);
    }
    low = greater(low, -bound);
    high = lesser(high, bound);
    job->inverse = (high - low) / (float)limit;
    job->scale = job->inverse > 0 ? 1 / job->inverse : 0;
    if (!(job->scale < bound)) // numbers too small to have an inverse
        job->scale = job->inverse = 0;
    job->zero = (int)(-low * job->scale + 0.5F);
}

// What makes of an output's sum its value, or its byte.
static void set_output_scales(const bytes_job *job)
{
    const bool has_bias = job->step->node->n_inputs > 2 && job->step->inputs[2].data;
    const qcnn_format *format = &job->step->output_format;
    const float unit = qcnn_is_plane(format) ? 1 / format->scale : 1;
    for (size_t o = 0; o < (size_t)(job->groups * job->n_outputs); o++) {
        const float scale = job->bytes->scales[o] * job->inverse;
        job->scales[o] = scale * unit;
        job->starts[o] = ((has_bias ? job->step->inputs[2].data[o] : 0) - scale * (float)job->zero * (float)job->bytes->sums[o]) * unit;
    }
}

// Pixels x..x+n-1 in row y of an input quad (of the image): where they are, or made of floats in `room`.
static const uint8_t *input_row(const bytes_job *job, int64_t quad, int64_t y, int64_t x, int64_t n, uint8_t *room)
{
    const qcnn_window *w = &job->w;
    const qcnn_operand *input = &job->step->inputs[0];
    const int64_t pixel = y * w->in[2] + x, group = quad / job->n_quads, q = quad % job->n_quads;
    if (input->quads)
        return input->quads + ((job->image * (int64_t)job->image_quads + quad) * w->in_elements + pixel) * 4;
    const float *channels = input->data + job->image * input_elements(job) + (group * job->n_inputs + 4 * q) * w->in_elements;
    job->step->kernels->quantize_quads((size_t)n, channels + pixel, (size_t)w->in_elements, (int)least(4, job->n_inputs - 4 * q),
                                       job->scale, job->zero, job->step->kernels->bytes_limit, room);
    return room;
}

// A row of one quad's bytes, all remainders of x: padded input row y * stride + phase_y.
static void pack_byte_row(const bytes_job *job, int64_t index, int64_t phase_y, int64_t y, uint8_t *line)
{
    const qcnn_window *w = &job->w;
    const int64_t in_y = y * w->stride[1] + phase_y - w->begin[1];
    const bool inside = in_y >= 0 && in_y < w->in[1];
    const bool direct = w->stride[2] == 1; // no remainders: straight into place
    uint8_t *row = job->packed + (size_t)index * job->quad_bytes + (size_t)(phase_y * job->phases_x) * job->plane_bytes +
                   (size_t)(y * job->plane_w) * 4;
    const uint8_t *pixels = inside && !direct ? input_row(job, index, in_y, 0, w->in[2], line) : NULL;
    for (int64_t phase = 0; phase < job->phases_x; phase++, row += job->plane_bytes) {
        int64_t first = 0, end = 0; // the columns inside the input
        if (inside) {
            const int64_t before = w->begin[2] - phase;
            first = before > 0 ? least(divide_up(before, w->stride[2]), job->plane_w) : 0;
            end = w->in[2] + before > 0 ? least(divide_up(w->in[2] + before, w->stride[2]), job->plane_w) : 0;
            end = end > first ? end : first;
        }
        memset(row, job->zero, (size_t)first * 4);
        const int64_t x = first * w->stride[2] + phase - w->begin[2];
        uint8_t *place = row + first * 4;
        if (direct && end > first) {
            const uint8_t *from = input_row(job, index, in_y, x, end - first, place);
            if (from != place)
                memcpy(place, from, (size_t)(end - first) * 4);
        } else
            for (int64_t i = 0; i < end - first; i++)
                memcpy(place + i * 4, pixels + (x + i * w->stride[2]) * 4, 4);
        memset(row + end * 4, job->zero, (size_t)(job->plane_w - end + (y == job->plane_h - 1 ? job->tail : 0)) * 4);
    }
}

// The same of interleaved channels: a line of quads, closed up to `bytes`, from which each plane takes its groups.
static void pack_interleaved_row(const bytes_job *job, int64_t index, int64_t phase_y, int64_t y, uint8_t *line)
{
    const qcnn_window *w = &job->w;
    const int64_t in_y = y * w->stride[1] + phase_y - w->begin[1], n = job->n_inputs, step = w->stride[2] * n;
    uint8_t *row = job->packed + (size_t)index * job->quad_bytes + (size_t)(phase_y * job->phases_x) * job->plane_bytes +
                   (size_t)(y * job->plane_w) * 4;
    uint8_t *bytes = line + align_64((size_t)w->in[2] * 4);
    memset(bytes, job->zero, (size_t)line_bytes(job));
    if (in_y >= 0 && in_y < w->in[1]) {
        const uint8_t *pixels = input_row(job, index, in_y, 0, w->in[2], line);
        for (int64_t x = 0; x < w->in[2]; x++) // the bytes behind a pixel's own are `zero` and give way to the next pixel's
            memcpy(bytes + (w->begin[2] + x) * n, pixels + 4 * x, 4);
    }
    for (int64_t plane = 0; plane < job->phases_x; plane++, row += job->plane_bytes)
        for (int64_t j = 0; j < job->plane_w; j++)
            memcpy(row + 4 * j, bytes + step * j + 4 * plane, 4);
}

// Where group g of the packed row `y` of the padded input is, for output column 0.
static size_t interleaved_offset(const bytes_job *job, int64_t y, int64_t g)
{
    const int64_t plane = y % job->w.stride[1] * job->phases_x + g % job->phases_x;
    return (size_t)plane * job->plane_bytes + (size_t)(y / job->w.stride[1] * job->plane_w + g / job->phases_x * job->shift) * 4;
}

// Rows of the plane of the rests, from the first bytes of the rows' last groups.
static void pack_rests(void *argument, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const bytes_job *job = argument;
    const int64_t stride = job->w.stride[1], packed = job->plane_h * stride;
    for (int64_t y = begin; y < end; y++) {
        const uint8_t *rows[4];
        for (int64_t i = 0; i < 4; i++) { // rows that are not packed meet no weights
            const bool there = y * stride + i < packed && (y * stride + i) % stride < job->phases_y;
            rows[i] = job->packed + interleaved_offset(job, there ? y * stride + i : y * stride, job->row_steps - 1);
        }
        uint8_t *rests = job->packed + job->quad_bytes - job->plane_bytes + (size_t)(y * job->plane_w) * 4;
        for (int64_t j = 0; j < 4 * job->w.out[2]; j += 4)
            memcpy(rests + j, (uint8_t[]){ rows[0][j], rows[1][j], rows[2][j], rows[3][j] }, 4);
    }
}

static void pack_quads(void *argument, int64_t begin, int64_t end, int worker)
{
    const bytes_job *job = argument;
    const int64_t n_quads = (int64_t)job->image_quads;
    uint8_t *line = job->step->worker + (size_t)worker * job->step->worker_bytes;
    for (int64_t i = begin; i < end; i++)
        (job->bytes->interleaved ? pack_interleaved_row : pack_byte_row)(job, i % n_quads, i / n_quads % job->phases_y,
                                                                         i / n_quads / job->phases_y, line);
}

// ---- products -------------------------------------------------------------------------------------------------------

static void find_offsets(const bytes_job *job)
{
    const qcnn_window *w = &job->w;
    uint32_t *offset = job->offsets;
    if (job->bytes->interleaved) {
        const int64_t n_rests = (int64_t)job->bytes->rest_steps;
        for (int64_t ky = 0; ky < w->kernel[1]; ky++)
            for (int64_t g = 0; g < job->row_steps - (n_rests > 0); g++)
                *offset++ = (uint32_t)interleaved_offset(job, ky * w->dilation[1], g);
        for (int64_t g = 0; g < n_rests; g++)
            *offset++ = (uint32_t)(job->quad_bytes - job->plane_bytes + (size_t)(4 * g / w->stride[1] * job->plane_w) * 4);
        return;
    }
    for (int64_t q = 0; q < job->n_quads; q++)
        for (int64_t ky = 0; ky < w->kernel[1]; ky++)
            for (int64_t kx = 0; kx < w->kernel[2]; kx++) {
                const int64_t y = ky * w->dilation[1], x = kx * w->dilation[2];
                const int64_t plane = y % w->stride[1] * job->phases_x + x % w->stride[2];
                *offset++ = (uint32_t)((size_t)q * job->quad_bytes + (size_t)plane * job->plane_bytes +
                                       (size_t)(y / w->stride[1] * job->plane_w + x / w->stride[2]) * 4);
            }
}

// memcpy of n elements of four bytes, floats or quads, without its call: for the short pieces of a tile's rows.
static inline void copy_elements(uint8_t *to, const uint8_t *from, size_t n)
{
    enum { BLOCK = 64 };
    size_t j = 0;
    for (; j + BLOCK <= 4 * n; j += BLOCK)
        memcpy(to + j, from + j, BLOCK);
    if (j < 4 * n && 4 * n >= BLOCK) // the last ones, some of them once more
        memcpy(to + 4 * n - BLOCK, from + 4 * n - BLOCK, BLOCK);
    else
        for (; j < 4 * n; j += 4)
            memcpy(to + j, from + j, 4);
}

static uint8_t *fill_elements(uint8_t *to, const uint8_t *element, int64_t n)
{
    for (; n > 0; n--, to += 4)
        memcpy(to, element, 4);
    return to;
}

// Writes the last column of a tile to all positions of the padding.
static void fill_border(const bytes_job *job, const uint8_t *column, size_t stride, int64_t rows, uint8_t *y)
{
    const qcnn_window *w = &job->whole;
    const int64_t left = w->begin[2], right = w->out[2] - w->in[2] - left;
    const int64_t above = w->begin[1] * w->out[2] + left, below = (w->out[1] - w->in[1] - w->begin[1]) * w->out[2] + right;
    for (int64_t r = 0; r < rows; r++, column += 4 * stride) {
        y = fill_elements(y, column, above);
        for (int64_t row = 1; row < w->in[1]; row++) // behind one row and before the next
            y = fill_elements(y + 4 * w->in[2], column, right + left);
        y = fill_elements(y + 4 * w->in[2], column, below);
    }
}

// The same as copy_tile of a layer whose border is left out.
static void copy_bordered_tile(const bytes_job *job, const uint8_t *tile, size_t stride, int64_t rows, int64_t j0, int64_t n, uint8_t *y)
{
    const qcnn_window *w = &job->whole;
    const int64_t inside = least(j0 + n, w->in_elements);
    for (int64_t j = j0, length; j < inside; j += length) {
        const int64_t oy = j / w->in[2], ox = j % w->in[2];
        length = least(inside - j, w->in[2] - ox);
        for (int64_t r = 0; r < rows; r++)
            copy_elements(y + (r * w->out_elements + (oy + w->begin[1]) * w->out[2] + ox + w->begin[2]) * 4,
                          tile + ((size_t)r * stride + (size_t)(j - j0)) * 4, (size_t)length);
    }
    if (inside < j0 + n)
        fill_border(job, tile + (size_t)(inside - j0) * 4, stride, rows, y);
}

// Copies the columns of a tile that are output positions: columns j0..j0+n-1 of `tile` [rows][stride], elements of four bytes.
static void copy_tile(const bytes_job *job, const uint8_t *tile, size_t stride, int64_t rows, int64_t j0, int64_t n, uint8_t *y)
{
    const int64_t width = job->w.out[2];
    for (int64_t j = j0; j < j0 + n;) {
        const int64_t oy = j / job->plane_w, ox = j % job->plane_w, next = least(j0 + n, (oy + 1) * job->plane_w);
        const int64_t length = least(next - j, width - ox);
        if (length > 0)
            for (int64_t r = 0; r < rows; r++)
                copy_elements(y + (r * job->w.out_elements + oy * width + ox) * 4, tile + ((size_t)r * stride + (size_t)(j - j0)) * 4,
                              (size_t)length);
        j = next;
    }
}

// Outputs of tile t, of as many tiles as make whole quads: rows of floats or quads, `stride` elements of four bytes apart.
static void multiply_tile(const bytes_job *job, int64_t group, int64_t t, int64_t column, int64_t n, uint8_t *y, size_t stride)
{
    const qcnn_step *step = job->step;
    const qcnn_activation *activation = &step->node->attributes.activation;
    const int64_t tile_rows = job->bytes->tile_rows, o = group * job->n_outputs + t * tile_rows;
    const int8_t *weights = job->bytes->weights + (size_t)(group * job->tiles + t) * job->bytes->tile_bytes;
    const uint8_t *quads = job->quads + (size_t)(group * job->n_quads) * job->quad_bytes + column * 4;
    size_t rows = (size_t)least(tile_rows, job->n_outputs - t * tile_rows);
    if (!step->output_quads) {
        step->kernels->dense_bytes(rows, (size_t)n, job->bytes->n_steps, weights, quads, job->offsets, job->scales + o, job->starts + o,
                                   activation->function == QCNN_RELU ? 0 : -INFINITY, (float *)(void *)y, stride);
        return;
    }
    const int limit = qcnn_held_to(activation, &step->output_format);
    for (int64_t i = 0; i < quad_tiles(job); i++, weights += job->bytes->tile_bytes) { // tiles of half a quad
        const int64_t done = i * tile_rows, left = job->n_outputs - t * tile_rows - done;
        rows = (size_t)least(tile_rows, left);
        if (left > 0)
            step->kernels->dense_quads(rows, (size_t)n, job->bytes->n_steps, weights, quads, job->offsets, job->scales + o + done,
                                       job->starts + o + done, limit, y + done, stride * 4);
        else
            for (int64_t j = 0; j < n; j++)
                memset(y + 4 * j + done, 0, (size_t)(4 - done));
    }
}

static void multiply_byte_piece(const bytes_job *job, int64_t group, int64_t row_part, int64_t chunk, uint8_t *tile)
{
    const qcnn_step *step = job->step;
    const bool direct = job->plane_w == job->w.out[2];
    const int64_t tile_columns = step->kernels->bytes_columns, tiles = step->output_quads ? quad_tiles(job) : 1;
    const int64_t last_column = least(job->n_columns, (chunk + 1) * job->chunk);
    const int64_t outputs = step->output_quads ? divide_up(job->groups * job->n_outputs, 4) : job->groups * job->n_outputs;
    uint8_t *output = (step->output_quads ? step->output_quads : (uint8_t *)step->output) + job->image * outputs * job->w.out_elements * 4;
    for (int64_t t = row_part * job->row_tiles; t < least(job->tiles, (row_part + 1) * job->row_tiles); t += tiles) {
        int64_t o = group * job->n_outputs + t * job->bytes->tile_rows;
        int64_t rows = least(tiles * job->bytes->tile_rows, (group + 1) * job->n_outputs - o);
        if (step->output_quads)
            o /= 4, rows = divide_up(rows, 4);
        uint8_t *y = output + o * job->w.out_elements * 4;
        for (int64_t j = chunk * job->chunk, columns; j < last_column; j += columns) {
            uint8_t *to = direct ? y + j * 4 : tile;
            size_t stride = (size_t)(direct ? job->w.out_elements : tile_columns);
            columns = least(tile_columns, last_column - j);
            if (job->by_rows) {
                const int64_t oy = j / job->plane_w, ox = j % job->plane_w;
                if (ox >= job->w.out[2]) { // between two rows
                    columns = job->plane_w - ox;
                    continue;
                }
                columns = least(tile_columns, job->w.out[2] - ox);
                to = y + (oy * job->w.out[2] + ox) * 4;
                stride = (size_t)job->w.out_elements;
            }
            multiply_tile(job, group, t, j, columns, to, stride);
            if (to == tile)
                (job->bordered ? copy_bordered_tile : copy_tile)(job, tile, stride, rows, j, columns, y);
        }
    }
}

static void multiply_byte_pieces(void *argument, int index, int worker)
{
    const bytes_job *job = argument;
    uint8_t *tile = job->step->worker + (size_t)worker * job->step->worker_bytes;
    multiply_byte_piece(job, index / job->n_row_parts % job->groups, index % job->n_row_parts, index / job->n_row_parts / job->groups,
                        tile);
}

static void activate_rows(void *argument, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const bytes_job *job = argument;
    const int64_t n = job->w.out_elements;
    qcnn_fused_activation(job->step, job->step->output + (job->image * job->groups * job->n_outputs + begin) * n,
                          (size_t)((end - begin) * n));
}

static void conv_bytes_run(const qcnn_step *step, const qcnn_parallel *parallel)
{
    bytes_job job = measure_bytes(step);
    split_bytes(&job, qcnn_n_workers(parallel));
    place_scratch(&job, step->shared);
    find_offsets(&job);
    if (!job.in_place)
        memset(job.packed + job.image_quads * job.quad_bytes, 0, SLACK);
    if (step->inputs[0].quads) {
        job.inverse = step->inputs[0].format.scale;
        set_output_scales(&job);
    }
    for (job.image = 0; job.image < step->output_shape.dims[0]; job.image++) {
        if (!step->inputs[0].quads) {
            set_input_scale(&job, parallel);
            set_output_scales(&job);
        }
        job.quads = job.in_place ? step->inputs[0].quads + (size_t)job.image * job.image_quads * job.quad_bytes : job.packed;
        if (!job.in_place)
            qcnn_for_range(parallel, (int64_t)job.image_quads * job.phases_y * job.plane_h, 1, pack_quads, &job);
        if (job.bytes->rest_steps > 0)
            qcnn_for_range(parallel, job.plane_h, 1, pack_rests, &job);
        qcnn_for(parallel, (int)(job.groups * job.n_row_parts * job.n_chunks), multiply_byte_pieces, &job);
        if (!step->output_quads && step->node->attributes.activation.function != QCNN_RELU)
            qcnn_for_range(parallel, job.groups * job.n_outputs, 1, activate_rows, &job);
    }
}

// Groups of whole quads, at either end.
static bool reads_byte_plane(const qcnn_step *step)
{
    return step->node->attributes.groups == 1 || step->inputs[0].shape.dims[1] / step->node->attributes.groups % 4 == 0;
}

static bool writes_byte_plane(const qcnn_step *step)
{
    const qcnn_attributes *a = &step->node->attributes;
    return qcnn_only_holds(&a->activation) && (a->groups == 1 || step->output_shape.dims[1] / a->groups % 4 == 0);
}

const qcnn_layer_type qcnn_layer_conv_bytes = {
    .plan = conv_bytes_plan, .run = conv_bytes_run, .reads_quads = reads_byte_plane, .writes_quads = writes_byte_plane
};
