// SPDX-License-Identifier: Apache-2.0
// A beam search over the assignments of each output. Blocks are decided one after the other as in a feedback pass (fit_feedback.c, whose
// letters are used here), but not for good: the best so many partial assignments, the paths, are kept, and each is continued with every
// codeword (the M-algorithm of tree coding, Anderson and Mohan, 1984). Two things decide how good the few are:
//
// - The order of the blocks (fit_order.c). Here rows are in that order throughout, the first block is decided last.
// - What is ahead: a path's errors change what the undecided blocks have to stand for, U_bb w*_b + s_b, and about a twentieth of its
//   square will be left as error. So paths are compared by
//
//       sum over decided b of |U_bb e_b + s_b|^2  +  ahead * sum over undecided b of |U_bb w*_b + s_b|^2
//
//   which for codeword c at block b is c^T Q c - 2 c . h and what does not depend on c; with A = U^T U over the rows before b
//
//       Q = U_bb^T U_bb + ahead A_bb    h = U_bb^T (U_bb w*_b + s_b) + ahead (v + A_bb w*_b)    v = sum over rows r before b of U_rb (t_r +
//       s_r)
//
// A path holds, of the rows of a panel, s or when decided e, and v as far as it comes from the rows before the panel. Behind a panel a
// product takes its errors into the sums of all rows before it.

#include "compress/fit_beam.h"

#include <float.h>
#include <string.h>

#include "base/parallel.h"
#include "compress/blas.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CLONES
#endif

enum { LANES = 16, CODEWORDS = 4 * LANES }; // codewords are compared in groups of so many
static const float ahead = 0.05f;

typedef float lanes __attribute__((vector_size(LANES * 4), may_alias, aligned(4)));

// Of one worker. Of the two of a pair one is read while the other is written.
struct fit_beam_worker {
    float *sums[2];        // [width][n]: of rows before the panel; t + s
    float *rows[2];        // [width][2 panel_rows]: s or e of the panel's rows, then v
    float *error[2];       // [width]: of decided blocks
    float *future[2];      // [width]: the squares of the undecided
    uint16_t *root[2];     // [width]: the path that a path was when the panel began
    float *scores;         // [width][n_padded]: of all continuations
    float *least;          // [width]: of a path's
    uint16_t *parents;     // [position][width]
    uint8_t *choices;      // [position][width]
    float *above, *cross;  // [C'][panel_rows]: U and A between the panel's rows before the block and the block
    float *target, *image; // [n]: w* in order, and t = U_bb w*_b
    int n_paths;
    double gap; // from the least score to the bound of what is kept, at the last block
};

// ---- memory ---------------------------------------------------------------------------------------------------------

static void free_worker(fit_beam_worker *b)
{
    for (int i = 0; i < 2; i++) {
        qcnn_release(b->sums[i]);
        qcnn_release(b->rows[i]);
        qcnn_release(b->error[i]);
        qcnn_release(b->future[i]);
        qcnn_release(b->root[i]);
    }
    qcnn_release(b->scores);
    qcnn_release(b->least);
    qcnn_release(b->parents);
    qcnn_release(b->choices);
    qcnn_release(b->above);
    qcnn_release(b->cross);
    qcnn_release(b->target);
    qcnn_release(b->image);
}

static bool new_worker(const fit_beam *job, fit_beam_worker *b)
{
    const fit_state *s = job->s;
    const size_t width = (size_t)job->width, rows = (size_t)qcnn_fit_order_rows(s), n = (size_t)job->order->n;
    bool have = true;
    for (int i = 0; i < 2; i++) {
        b->sums[i] = qcnn_allocate(width * n, sizeof(float));
        b->rows[i] = qcnn_allocate(width * 2 * rows, sizeof(float));
        b->error[i] = qcnn_allocate(width, sizeof(float));
        b->future[i] = qcnn_allocate(width, sizeof(float));
        b->root[i] = qcnn_allocate(width, sizeof(uint16_t));
        have = have && b->sums[i] && b->rows[i] && b->error[i] && b->future[i] && b->root[i];
    }
    b->scores = qcnn_allocate(width * (size_t)job->n_padded, sizeof(float));
    b->least = qcnn_allocate(width, sizeof(float));
    b->parents = qcnn_allocate((size_t)job->order->n_blocks * width, sizeof(uint16_t));
    b->choices = qcnn_allocate((size_t)job->order->n_blocks * width, 1);
    b->above = qcnn_allocate((size_t)s->form->subspace * rows, sizeof(float));
    b->cross = qcnn_allocate((size_t)s->form->subspace * rows, sizeof(float));
    b->target = qcnn_allocate(n, sizeof(float));
    b->image = qcnn_allocate(n, sizeof(float));
    return have && b->scores && b->least && b->parents && b->choices && b->above && b->cross && b->target && b->image;
}

// ---- what all outputs share -----------------------------------------------------------------------------------------

static void set_codewords(const fit_beam *job)
{
    const fit_state *s = job->s;
    const size_t c = (size_t)s->form->subspace, padded = (size_t)job->n_padded;
    memset(job->codewords, 0, (size_t)s->form->n_sets * (size_t)s->form->n_subspaces * c * padded * sizeof(float));
    for (int set = 0; set < s->form->n_sets; set++)
        for (int m = 0; m < s->form->n_subspaces; m++)
            for (size_t k = 0; k < (size_t)s->form->n_codewords; k++)
                for (size_t i = 0; i < c; i++)
                    job->codewords[((size_t)(set * s->form->n_subspaces + m) * c + i) * padded + k] = fit_codebook(s, set, m)[k * c + i];
}

// A_bb = G_bb - U_bb^T U_bb, and c^T Q c of each codeword.
static void set_forms(const fit_beam *job, int position)
{
    const fit_state *s = job->s;
    const fit_block *block = &job->order->blocks[position], *from = &s->blocks[job->order->index[position]];
    const size_t c = (size_t)s->form->subspace, padded = (size_t)job->n_padded, width = (size_t)block->width, n = (size_t)job->order->n;
    const size_t at = (size_t)position, ldg = (size_t)s->n;
    const float *u = job->order->factor + (size_t)block->row * (n + 1), *gram = s->problem->gram[job->g] + (size_t)from->row * (ldg + 1);
    const float *codeword = fit_codebook(s, fit_set(s, job->g), block->m);
    float *form = job->forms + at * c * c, *constant = job->constants + at * padded;
    double q[QCNN_MAX_CORRECTED_SUBSPACE];
    for (size_t i = 0; i < width; i++)
        for (size_t j = 0; j < width; j++) {
            double sum = 0;
            for (size_t k = 0; k <= i && k <= j; k++)
                sum += (double)u[k * n + i] * (double)u[k * n + j];
            form[i * c + j] = (float)((double)gram[i * ldg + j] - sum);
        }
    for (size_t k = 0; k < padded; k++, codeword += c) {
        double square = 0;
        for (size_t i = 0; i < width && k < (size_t)s->form->n_codewords; i++) {
            q[i] = 0;
            for (size_t j = 0; j < width; j++)
                q[i] += ((double)gram[i * ldg + j] - (1 - (double)ahead) * (double)form[i * c + j]) * (double)codeword[j];
            square += q[i] * (double)codeword[i];
        }
        constant[k] = k < (size_t)s->form->n_codewords ? (float)square : FLT_MAX;
    }
}

// ---- a block --------------------------------------------------------------------------------------------------------

// scores[k] = base + constant[k] - 2 c_k . h for whole groups of codewords; gives the least.
CLONES static float continue_path(int n_padded, int width, const float *h, float base, const float *constant, const float *codewords,
                                  float *scores)
{
    lanes least = { 0 };
    least += FLT_MAX;
    for (int k = 0; k < n_padded; k += CODEWORDS) {
        const float *row = codewords + k;
        lanes sum0 = { 0 }, sum1 = sum0, sum2 = sum0, sum3 = sum0;
        for (int i = 0; i < width; i++, row += n_padded) {
            sum0 += h[i] * *(const lanes *)row;
            sum1 += h[i] * *(const lanes *)(row + LANES);
            sum2 += h[i] * *(const lanes *)(row + 2 * LANES);
            sum3 += h[i] * *(const lanes *)(row + 3 * LANES);
        }
        const lanes score[4] = { base + *(const lanes *)(constant + k) - 2 * sum0, base + *(const lanes *)(constant + k + LANES) - 2 * sum1,
                                 base + *(const lanes *)(constant + k + 2 * LANES) - 2 * sum2,
                                 base + *(const lanes *)(constant + k + 3 * LANES) - 2 * sum3 };
        for (int i = 0; i < 4; i++) {
            *(lanes *)(scores + k + i * LANES) = score[i];
            for (int j = 0; j < LANES; j++)
                least[j] = score[i][j] < least[j] ? score[i][j] : least[j];
        }
    }
    float result = least[0];
    for (int j = 1; j < LANES; j++)
        result = least[j] < result ? least[j] : result;
    return result;
}

CLONES static int count_below(const float *scores, int n, float bound)
{
    int count = 0;
    for (int i = 0; i < n; i++)
        count += scores[i] < bound;
    return count;
}

static int count_all_below(const fit_beam_worker *b, int n_padded, float bound, int most)
{
    int count = 0;
    for (int p = 0; p < b->n_paths && count <= most; p++)
        if (b->least[p] < bound)
            count += count_below(b->scores + (size_t)p * (size_t)n_padded, n_padded, bound);
    return count;
}

// A bound below which there are at most `width` continuations, and hardly fewer.
static float find_bound(const fit_beam *job, fit_beam_worker *b)
{
    enum { TRIES = 24 };
    float least = FLT_MAX;
    for (int p = 0; p < b->n_paths; p++)
        least = b->least[p] < least ? b->least[p] : least;
    if (b->n_paths * job->s->form->n_codewords <= job->width)
        return FLT_MAX;
    double low = 0, high = -1, gap = b->gap > 0 ? b->gap : 1e-3 * (double)(least < 0 ? -least : least) + 1e-30;
    for (int i = 0; i < TRIES; i++) {
        const int count = count_all_below(b, job->n_padded, (float)((double)least + gap), job->width);
        if (count > job->width)
            high = gap;
        else
            low = gap;
        if (count <= job->width && count >= job->width - job->width / 8)
            break;
        gap = high < 0 ? 2 * gap : low > 0 ? 0.5 * (low + high) : 0.5 * high;
    }
    b->gap = low;
    return low > 0 ? (float)((double)least + low) : least;
}

typedef struct beam_place {
    int o, panel_row;
    float price;
} beam_place;

// What the rows before the block in the panel have to do with it.
static void gather_panel(const fit_beam *job, fit_beam_worker *b, const beam_place *at, const fit_block *block)
{
    const size_t n = (size_t)job->order->n, rows = (size_t)qcnn_fit_order_rows(job->s), row = (size_t)block->row,
                 first = (size_t)at->panel_row;
    const float *factor = job->order->factor, *cross = job->order->cross;
    for (size_t i = 0; i < (size_t)block->width; i++)
        for (size_t j = 0; j < row - first; j++) {
            b->above[i * rows + j] = factor[(first + j) * n + row + i];
            b->cross[i * rows + j] = cross[(first + j) * rows + row - first + i];
        }
}

// x = t + s of the block and v, of a path.
CLONES static void find_point(const float *rows, const float *image, const float *above, size_t n_rows, size_t width, size_t local,
                              float *x, float *v)
{
    for (size_t i = 0; i < width; i++) {
        const float *u = above + i * n_rows;
        float sum = 0;
        for (size_t j = 0; j < local; j++)
            sum += u[j] * (image[j] + rows[j]);
        x[i] = image[local + i] + rows[local + i];
        v[i] = rows[n_rows + local + i] + sum;
    }
}

static void continue_paths(const fit_beam *job, fit_beam_worker *b, const beam_place *at, int position, const fit_block *block)
{
    const fit_state *s = job->s;
    const size_t width = (size_t)block->width, n = (size_t)job->order->n, rows = (size_t)qcnn_fit_order_rows(s),
                 local = (size_t)(block->row - at->panel_row);
    const size_t c = (size_t)s->form->subspace, padded = (size_t)job->n_padded, shared = (size_t)position;
    const float *u = job->order->factor + (size_t)block->row * (n + 1), *form = job->forms + shared * c * c;
    const float *target = b->target + block->row, *image = b->image + at->panel_row;
    const float *codewords = job->codewords + (size_t)(fit_set(s, job->g) * s->form->n_subspaces + block->m) * c * padded;
    const float *bits = s->options->price > 0 ? fit_bits(s, fit_set(s, job->g), block->m) : NULL;
    float x[QCNN_MAX_CORRECTED_SUBSPACE], v[QCNN_MAX_CORRECTED_SUBSPACE], h[QCNN_MAX_CORRECTED_SUBSPACE],
        still[QCNN_MAX_CORRECTED_SUBSPACE];
    float square = 0;
    for (size_t i = 0; i < width; i++) {
        still[i] = 0;
        for (size_t j = 0; j < width; j++)
            still[i] += form[i * c + j] * target[j];
        square += still[i] * target[i];
    }
    for (int p = 0; p < b->n_paths; p++) {
        find_point(b->rows[0] + (size_t)p * 2 * rows, image, b->above, rows, width, local, x, v);
        float base = 0, decided = 0;
        for (size_t i = 0; i < width; i++) {
            h[i] = ahead * (v[i] + still[i]);
            for (size_t j = 0; j <= i; j++)
                h[i] += u[j * n + i] * x[j];
            decided += x[i] * x[i];
            base += v[i] * target[i];
        }
        base = b->error[0][p] + decided + ahead * (b->future[0][p] - decided + 2 * base + square);
        float *scores = b->scores + (size_t)p * padded;
        b->least[p] = continue_path((int)padded, (int)width, h, base, job->constants + shared * padded, codewords, scores);
        if (!bits)
            continue;
        b->least[p] = FLT_MAX;
        for (size_t k = 0; k < (size_t)s->form->n_codewords; k++) {
            scores[k] += at->price * bits[k];
            b->least[p] = scores[k] < b->least[p] ? scores[k] : b->least[p];
        }
    }
}

// The kept path `to` from path `from` by an error e of the block.
CLONES static void add_errors(const float *from, const float *above, const float *cross, const float *e, size_t n_rows, size_t width,
                              size_t local, float *to)
{
    memcpy(to, from, 2 * n_rows * sizeof *to);
    for (size_t i = 0; i < width; i++) {
        const float *u = above + i * n_rows, *a = cross + i * n_rows;
        for (size_t j = 0; j < local; j++) {
            to[j] += u[j] * e[i];
            to[n_rows + j] += a[j] * e[i];
        }
        to[local + i] = e[i];
    }
}

static void keep_path(const fit_beam *job, fit_beam_worker *b, const beam_place *at, const fit_block *block, int p, int k, int kept)
{
    const fit_state *s = job->s;
    const size_t width = (size_t)block->width, n = (size_t)job->order->n, rows = (size_t)qcnn_fit_order_rows(s),
                 local = (size_t)(block->row - at->panel_row);
    const float *u = job->order->factor + (size_t)block->row * (n + 1), *from = b->rows[0] + (size_t)p * 2 * rows;
    const float *codeword = fit_codebook(s, fit_set(s, job->g), block->m) + (size_t)k * (size_t)s->form->subspace;
    float e[QCNN_MAX_CORRECTED_SUBSPACE], error = b->error[0][p];
    for (size_t i = 0; i < width; i++)
        e[i] = b->target[block->row + (int)i] - codeword[i];
    for (size_t i = 0; i < width; i++) {
        float sum = from[local + i];
        for (size_t j = i; j < width; j++)
            sum += u[i * n + j] * e[j];
        error += sum * sum;
    }
    if (s->options->price > 0)
        error += at->price * fit_bits(s, fit_set(s, job->g), block->m)[k];
    b->error[1][kept] = error;
    b->future[1][kept] = (b->scores[(size_t)p * (size_t)job->n_padded + (size_t)k] - error) / ahead;
    b->root[1][kept] = b->root[0][p];
    add_errors(from, b->above, b->cross, e, rows, width, local, b->rows[1] + (size_t)kept * 2 * rows);
}

static void swap(float **pair)
{
    float *first = pair[0];
    pair[0] = pair[1];
    pair[1] = first;
}

static void decide(const fit_beam *job, fit_beam_worker *b, const beam_place *at, int position)
{
    const fit_block *block = &job->order->blocks[position];
    uint16_t *parents = b->parents + (size_t)position * (size_t)job->width;
    uint8_t *choices = b->choices + (size_t)position * (size_t)job->width;
    gather_panel(job, b, at, block);
    continue_paths(job, b, at, position, block);
    const float bound = find_bound(job, b);
    int n_kept = 0;
    for (int p = 0; p < b->n_paths; p++) {
        const float *scores = b->scores + (size_t)p * (size_t)job->n_padded;
        if (b->least[p] > bound)
            continue;
        for (int k = 0; k < job->s->form->n_codewords && n_kept < job->width; k++) {
            if (!(scores[k] < bound) && !(scores[k] == bound && n_kept == 0))
                continue;
            keep_path(job, b, at, block, p, k, n_kept);
            parents[n_kept] = (uint16_t)p;
            choices[n_kept++] = (uint8_t)k;
        }
    }
    b->n_paths = n_kept;
    uint16_t *root = b->root[0];
    b->root[0] = b->root[1];
    b->root[1] = root;
    swap(b->rows);
    swap(b->error);
    swap(b->future);
}

// ---- an output ------------------------------------------------------------------------------------------------------

// y += U^-T x, from x in y.
static void solve_factor(const fit_order *order, float *y)
{
    const size_t n = (size_t)order->n;
    for (size_t i = 0; i < n; i++) {
        const float *u = order->factor + i * n;
        y[i] /= u[i];
        for (size_t j = i + 1; j < n; j++)
            y[j] -= u[j] * y[i];
    }
}

// w* and t in order, and the sums of the only path.
static void begin_output(const fit_beam *job, fit_beam_worker *b, const beam_place *at, const float *pull)
{
    const fit_state *s = job->s;
    const fit_order *order = job->order;
    const size_t n = (size_t)order->n;
    for (int i = 0; i < order->n_blocks; i++) {
        const fit_block *block = &order->blocks[i], *from = &s->blocks[order->index[i]];
        for (int j = 0; j < block->width; j++)
            b->target[block->row + j] = s->problem->target[job->g][(size_t)(from->row + j) * (size_t)s->n_outputs + (size_t)at->o];
    }
    if (pull) {
        memcpy(b->sums[0], pull, n * sizeof *pull);
        solve_factor(order, b->sums[0]);
    } else
        memset(b->sums[0], 0, n * sizeof(float));
    b->future[0][0] = 0;
    for (int i = 0; i < order->n_blocks; i++) {
        const fit_block *block = &order->blocks[i];
        for (int j = block->row; j < block->row + block->width; j++) {
            float sum = 0;
            for (int k = j; k < block->row + block->width; k++)
                sum += order->factor[(size_t)j * n + (size_t)k] * b->target[k];
            b->image[j] = sum;
            b->sums[0][j] += sum;
            b->future[0][0] += b->sums[0][j] * b->sums[0][j];
        }
    }
    b->error[0][0] = 0;
    b->n_paths = 1;
    b->gap = 0;
}

// What the present assignments cost, counted as a path's error. `errors`: scratch of n floats.
static double present_error(const fit_beam *job, const fit_beam_worker *b, const beam_place *at, float *errors)
{
    const fit_state *s = job->s;
    const fit_order *order = job->order;
    double cost = 0;
    for (int i = 0; i < order->n_blocks; i++) {
        const fit_block *block = &order->blocks[i];
        const int k = s->assigned[job->g][(size_t)order->index[i] * (size_t)s->n_outputs + (size_t)at->o];
        const float *codeword = fit_codebook(s, fit_set(s, job->g), block->m) + (size_t)k * (size_t)s->form->subspace;
        for (int j = 0; j < block->width; j++)
            errors[block->row + j] = b->target[block->row + j] - codeword[j];
        if (s->options->price > 0)
            cost += (double)(at->price * fit_bits(s, fit_set(s, job->g), block->m)[k]);
    }
    for (int i = 0; i < order->n; i++) {
        const float *u = order->factor + (size_t)i * (size_t)order->n;
        float sum = b->sums[0][i] - b->image[i];
        for (int j = i; j < order->n; j++)
            sum += u[j] * errors[j];
        cost += (double)sum * (double)sum;
    }
    return cost;
}

// s of the panel's rows, and v from the rows before it.
static void begin_panel(const fit_beam *job, fit_beam_worker *b, const beam_place *at, int n_rows)
{
    const size_t n = (size_t)job->order->n, panel_rows = (size_t)qcnn_fit_order_rows(job->s);
    for (int p = 0; p < b->n_paths; p++) {
        const float *sums = b->sums[0] + (size_t)p * n + at->panel_row;
        float *rows = b->rows[0] + (size_t)p * 2 * panel_rows;
        for (int i = 0; i < n_rows; i++)
            rows[i] = sums[i] - b->image[at->panel_row + i];
        memset(rows + panel_rows, 0, panel_rows * sizeof *rows);
        b->root[0][p] = (uint16_t)p;
    }
    const qcnn_gemm_call call = { .m = b->n_paths,
                                  .n = n_rows,
                                  .k = at->panel_row,
                                  .alpha = 1,
                                  .a = b->sums[0],
                                  .lda = n,
                                  .b = job->order->factor + at->panel_row,
                                  .ldb = n,
                                  .c = b->rows[0] + panel_rows,
                                  .ldc = 2 * panel_rows };
    if (at->panel_row > 0)
        qcnn_gemm_serial(&call);
}

// The sums of the rows before the panel, of the paths that are left.
static void end_panel(const fit_beam *job, fit_beam_worker *b, const beam_place *at, int n_rows)
{
    const size_t n = (size_t)job->order->n;
    for (int p = 0; p < b->n_paths; p++)
        memcpy(b->sums[1] + (size_t)p * n, b->sums[0] + (size_t)b->root[0][p] * n, (size_t)at->panel_row * sizeof(float));
    const qcnn_gemm_call call = { .transpose_b = true,
                                  .m = b->n_paths,
                                  .n = at->panel_row,
                                  .k = n_rows,
                                  .alpha = 1,
                                  .beta = 1,
                                  .a = b->rows[0],
                                  .lda = 2 * (size_t)qcnn_fit_order_rows(job->s),
                                  .b = job->order->factor + at->panel_row,
                                  .ldb = n,
                                  .c = b->sums[1],
                                  .ldc = n };
    if (at->panel_row > 0)
        qcnn_gemm_serial(&call);
    swap(b->sums);
}

static void search_panels(const fit_beam *job, fit_beam_worker *b, beam_place *at)
{
    const fit_order *order = job->order;
    for (int end = order->n_blocks; end > 0;) {
        const int first = qcnn_fit_order_panel(job->s, order, end), end_row = end < order->n_blocks ? order->blocks[end].row : order->n;
        at->panel_row = order->blocks[first].row;
        begin_panel(job, b, at, end_row - at->panel_row);
        for (int i = end - 1; i >= first; i--)
            decide(job, b, at, i);
        end_panel(job, b, at, end_row - at->panel_row);
        end = first;
    }
}

void qcnn_fit_beam_search(const fit_beam *job, int o, const float *pull, int worker)
{
    const fit_state *s = job->s;
    fit_beam_worker *b = &job->workers[worker];
    beam_place at = { .o = o, .price = s->price[(size_t)job->g * s->padded + (size_t)o] };
    begin_output(job, b, &at, pull);
    const double present = present_error(job, b, &at, b->sums[1]);
    search_panels(job, b, &at);
    int best = 0;
    for (int p = 1; p < b->n_paths; p++)
        best = b->error[0][p] < b->error[0][best] ? p : best;
    if ((double)b->error[0][best] >= present)
        return;
    for (int i = 0; i < job->order->n_blocks; i++) {
        const size_t place = (size_t)i * (size_t)job->width + (size_t)best;
        s->assigned[job->g][(size_t)job->order->index[i] * (size_t)s->n_outputs + (size_t)o] = b->choices[place];
        best = b->parents[place];
    }
}

// ---- public ---------------------------------------------------------------------------------------------------------

void qcnn_fit_beam_free(fit_beam *job)
{
    for (int i = 0; job->workers && i < qcnn_n_workers(job->s->options->parallel); i++)
        free_worker(&job->workers[i]);
    qcnn_release(job->workers);
    qcnn_release(job->codewords);
    qcnn_release(job->constants);
    qcnn_release(job->forms);
    *job = (fit_beam){ 0 };
}

qcnn_status qcnn_fit_beam_new(const fit_state *s, int g, const fit_order *order, int width, fit_beam *job, qcnn_error *error)
{
    const size_t n_books = (size_t)s->form->n_sets * (size_t)s->form->n_subspaces, c = (size_t)s->form->subspace;
    const int n_workers = qcnn_n_workers(s->options->parallel);
    *job = (fit_beam){ .s = s, .g = g, .order = order, .width = width };
    job->n_padded = (s->form->n_codewords + CODEWORDS - 1) / CODEWORDS * CODEWORDS;
    job->codewords = qcnn_allocate(n_books * c * (size_t)job->n_padded, sizeof(float));
    job->constants = qcnn_allocate((size_t)order->n_blocks * (size_t)job->n_padded, sizeof(float));
    job->forms = qcnn_allocate((size_t)order->n_blocks * c * c, sizeof(float));
    job->workers = qcnn_allocate_zeroed((size_t)n_workers, sizeof *job->workers);
    bool have = job->codewords && job->constants && job->forms && job->workers;
    for (int i = 0; have && i < n_workers; i++)
        have = new_worker(job, &job->workers[i]);
    if (!have) {
        qcnn_fit_beam_free(job);
        return qcnn_fail_memory(error, (size_t)n_workers * (size_t)width * (size_t)order->n * 2 * sizeof(float));
    }
    set_codewords(job);
    for (int i = 0; i < order->n_blocks; i++)
        set_forms(job, i);
    return QCNN_OK;
}
