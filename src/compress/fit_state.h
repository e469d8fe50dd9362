// SPDX-License-Identifier: Apache-2.0
// What the steps of a fit share. A *block* is one subspace of one tap: block b = tap * M + m covers `width` rows of a group's matrices
// from `row` on. Columns are outputs, taken in tiles.

#ifndef QCNN_COMPRESS_FIT_STATE_H
#define QCNN_COMPRESS_FIT_STATE_H

#include "compress/blas.h"
#include "compress/fit.h"

enum { FIT_TILE = 128, FIT_PANEL = 64 }; // most outputs of a task, rows between two products

typedef struct fit_block {
    int row, width, m;
} fit_block;

typedef struct fit_state {
    const qcnn_codebook *form;
    const qcnn_fit_problem *problem;
    const qcnn_fit_options *options;
    int n, n_outputs, n_blocks, n_tiles; // n_tiles: of one group
    size_t tile, padded;                 // outputs of a tile; n_outputs, up to whole tiles
    int panel_rows;                      // at most so many rows between two products
    bool trained;                        // each block has a codebook to itself: no taps, no group shares it
    bool frozen;                         // codewords are not to move any more
    fit_block *blocks;                   // [n_blocks]
    float **weights;                     // [groups]: n x n_outputs, what the codebook stands for now
    float **residual;                    // [groups]: n x n_outputs: G (w* - w); in a feedback pass w* - w
    uint8_t **assigned;                  // [groups]: n_blocks x n_outputs
    float *codewords;                    // [n_sets][M][K][C']
    float *scales;                       // [n_sets][M]: of codewords rounded to int8; NULL otherwise
    float *bits;                         // [n_sets][M][K]: length of each codeword's number, or all 0
    float current_price;                 // options->price, or what steering has made of it
    int n_steered;                       // times; logarithms of price and bits at the last
    double steered_price, steered_bits;
    float *price;       // [groups][padded]: current_price / importance
    float *importance;  // [groups][padded]
    bool hot;           // assignments are drawn, not the best: annealing
    float *temperature; // [groups][padded]: of each output's costs
    float *noise;       // as qcnn_candidates reads it
    uint64_t draw;      // sweeps so far: each has other noise
    float *products;    // [workers][products_floats]: scratch of products in bfloat16 while hot; NULL: in float32
    size_t products_floats;
    uint32_t **packed; // [groups][n_panels]: G in bfloat16, likewise
    int n_panels;
    int step, n_steps; // for progress
    float **scratch;   // of each worker: panel_rows x FIT_TILE, C' x FIT_TILE, and K x (C' + 1)
} fit_state;

static inline float *fit_codebook(const fit_state *s, int set, int m)
{
    return s->codewords +
           ((size_t)set * (size_t)s->form->n_subspaces + (size_t)m) * (size_t)s->form->n_codewords * (size_t)s->form->subspace;
}

static inline float *fit_bits(const fit_state *s, int set, int m)
{
    return s->bits + ((size_t)set * (size_t)s->form->n_subspaces + (size_t)m) * (size_t)s->form->n_codewords;
}

// Lengths of the numbers in each codebook from how often they are assigned now.
void qcnn_fit_count_bits(fit_state *s);

// weights from codewords and assignments.
void qcnn_fit_decode(fit_state *s);

// residual = G (w* - w).
void qcnn_fit_find_residual(fit_state *s);

// One feedback pass, with factor[g] = U, G = U^T U (upper triangle): new assignments, with trained codebooks also new codewords; weights
// follow.
qcnn_status qcnn_fit_feedback(fit_state *s, float *const *factor, qcnn_error *error);

// Codebooks by least squares for the present assignments; residual and weights follow.
qcnn_status qcnn_fit_solve(fit_state *s, qcnn_error *error);

// One sweep of descent over all blocks: assignments, with trained codebooks also codewords; residual and weights follow.
qcnn_status qcnn_fit_descend(fit_state *s, qcnn_error *error);

// One sweep over the assignments in the metric of options->fisher; residual, which must be up to date, and weights follow.
qcnn_status qcnn_fit_descend_outputs(fit_state *s, qcnn_error *error);

// options->n_annealing sweeps that find their way out of local minima, and as many of descent as FIT_LAST_SWEEPS; never ends above where
// it began.
enum { FIT_LAST_SWEEPS = 3 };
qcnn_status qcnn_fit_anneal(fit_state *s, qcnn_error *error);

// A product inside a task: while hot in bfloat16 where the processor gains by it, whose errors drown in the noise.
void qcnn_fit_product(const fit_state *s, const qcnn_gemm_call *call, int worker);

// R of all rows but those of panel `panel`, of which there are n_rows, += G change for one tile, from `packed`.
void qcnn_fit_add_packed(const fit_state *s, int g, int panel, int tile, int n_rows, const float *change, size_t stride, int worker);

// What is minimised, for the present state; residual follows.
double qcnn_fit_objective(fit_state *s);

// Changes the price so that the next step comes nearer to options->target_bits; whether it was worth another.
bool qcnn_fit_steer(fit_state *s);

// The largest integer for a codebook's int8 numbers: the fewer steps the fewer bits, at what a bit is worth.
int qcnn_fit_largest_integer(const fit_state *s, int set, int m);

// ---- pieces ---------------------------------------------------------------------------------------------------------

// The set whose codebooks group g uses.
static inline int fit_set(const fit_state *s, int g)
{
    return s->form->n_sets == 1 ? 0 : g;
}

// Blocks first..*end - 1 are those of the panel that begins at block `first`: *end for walking up; for walking down the
// panel that ends at block `end` begins at the result.
int qcnn_fit_panel_end(const fit_state *s, int first);
int qcnn_fit_panel_begin(const fit_state *s, int end);

// Outputs of tile `tile`.
static inline int fit_tile_width(const fit_state *s, int tile)
{
    const int left = s->n_outputs - tile * (int)s->tile;
    return left < (int)s->tile ? left : (int)s->tile;
}

// The scratch of a worker: rows of FIT_TILE floats.
static inline float *fit_panel(const fit_state *s, int worker)
{
    return s->scratch[worker];
}

static inline float *fit_points(const fit_state *s, int worker)
{
    return s->scratch[worker] + (size_t)s->panel_rows * FIT_TILE;
}

static inline float *fit_constants(const fit_state *s, int worker)
{
    return fit_points(s, worker) + (size_t)s->form->subspace * FIT_TILE;
}

// Assigns the outputs of a tile: to each the codeword d of the block with the least d^T Q d - 2 d^T h + price * bits. form: Q, width x
// width; points: h, width x FIT_TILE.
void qcnn_fit_assign(const fit_state *s, int g, int b, int tile, const float *form, const float *points, int worker);

// The same for all outputs of a group, after moving the block's codewords to where they fit best: a few rounds of both, with
// trained codebooks that are not frozen. points: width x padded.
qcnn_status qcnn_fit_train(fit_state *s, int g, int b, const float *form, const float *points, int n_rounds, qcnn_error *error);

// Lengths of numbers in bits, -log2 of their share of all; of one that does not occur, longer than any that does.
void qcnn_fit_code_lengths(const int *counts, int n_codewords, float *bits);

// R^T R = a for a symmetric positive definite matrix of small size, in place, upper triangle; false if it is not.
bool qcnn_small_cholesky(int n, double *a);
void qcnn_small_solve(int n, const double *r, double *x);       // R^T R x = x
void qcnn_small_solve_upper(int n, const double *r, double *x); // R x = x

// Tells progress that `fraction` of the present step is done. Errors: CANCELLED.
qcnn_status qcnn_fit_report(fit_state *s, double fraction, qcnn_error *error);

// Reports a step to the watch, if there is one.
void qcnn_fit_watch(fit_state *s, const char *step);

#endif
