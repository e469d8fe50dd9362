// SPDX-License-Identifier: Apache-2.0
// Lloyd's algorithm with a k-means++ start. Points lie coordinate-major so that the vector lanes hold different points: no
// sum crosses lanes, and the result does not depend on the instruction set. Distances are summed as (x - c)^2 rather than
// |c|^2 - 2 x c, which costs a subtraction that the loads hide, and makes a point at its codeword have distance 0 exactly.

#include "compress/kmeans.h"

#include <float.h>
#include <string.h>

#include "base/rng.h"

enum { BLOCK = 16, MAX_ITERATIONS = 100 };

// Lloyd's last iterations move a few points for ever smaller gains: below this share of the error they are not worth it.
static const double SMALLEST_GAIN = 1e-4;

// Four lanes are what every target has (SSE2, NEON, SIMD128); four vectors of them hide the latency of the sums.
typedef float lanes_f __attribute__((vector_size(16), may_alias));
typedef int32_t lanes_i __attribute__((vector_size(16), may_alias));

static size_t padded(size_t n)
{
    return (n + BLOCK - 1) / BLOCK * BLOCK;
}

qcnn_status qcnn_kmeans_new(int max_points, int max_dim, int max_codewords, qcnn_kmeans **result, qcnn_error *error)
{
    *result = NULL;
    const size_t stride = padded((size_t)max_points), dim = (size_t)max_dim, k = (size_t)max_codewords;
    qcnn_kmeans *problem = qcnn_allocate_zeroed(1, sizeof *problem);
    if (!problem)
        return qcnn_fail_memory(error, sizeof *problem);
    problem->stride = stride;
    problem->max_iterations = MAX_ITERATIONS;
    // Zeroed, so that the padding behind the last point is always defined.
    problem->points = qcnn_allocate_zeroed(dim * stride, sizeof(float));
    problem->codewords = qcnn_allocate(k * dim, sizeof(float));
    problem->assignments = qcnn_allocate(stride, 1);
    problem->distances = qcnn_allocate(stride, sizeof(float));
    problem->block_sums = qcnn_allocate(stride / BLOCK, sizeof(double));
    problem->trial_codewords = qcnn_allocate(k * dim, sizeof(float));
    problem->trial_assignments = qcnn_allocate(stride, 1);
    problem->sums = qcnn_allocate(dim * k, sizeof(double));
    problem->counts = qcnn_allocate(k, sizeof(int));
    if (!problem->points || !problem->codewords || !problem->assignments || !problem->distances || !problem->block_sums ||
        !problem->trial_codewords || !problem->trial_assignments || !problem->sums || !problem->counts) {
        qcnn_kmeans_free(problem);
        return qcnn_fail_memory(error, dim * stride * sizeof(float));
    }
    *result = problem;
    return QCNN_OK;
}

void qcnn_kmeans_free(qcnn_kmeans *problem)
{
    if (!problem)
        return;
    qcnn_release(problem->points);
    qcnn_release(problem->codewords);
    qcnn_release(problem->assignments);
    qcnn_release(problem->distances);
    qcnn_release(problem->block_sums);
    qcnn_release(problem->trial_codewords);
    qcnn_release(problem->trial_assignments);
    qcnn_release(problem->sums);
    qcnn_release(problem->counts);
    qcnn_release(problem);
}

// Squared distances of BLOCK points, the first at `points`, to one codeword.
static inline void block_distances(const float *points, size_t stride, const float *codeword, int dim, lanes_f distance[4])
{
    lanes_f sum0 = { 0 }, sum1 = { 0 }, sum2 = { 0 }, sum3 = { 0 };
    for (int d = 0; d < dim; d++, points += stride) {
        const lanes_f *x = (const lanes_f *)points;
        const lanes_f c = { codeword[d], codeword[d], codeword[d], codeword[d] };
        const lanes_f e0 = x[0] - c, e1 = x[1] - c, e2 = x[2] - c, e3 = x[3] - c;
        sum0 += e0 * e0;
        sum1 += e1 * e1;
        sum2 += e2 * e2;
        sum3 += e3 * e3;
    }
    distance[0] = sum0;
    distance[1] = sum1;
    distance[2] = sum2;
    distance[3] = sum3;
}

static inline lanes_f select_f(lanes_i mask, lanes_f yes, lanes_f no)
{
    return (lanes_f)(((lanes_i)yes & mask) | ((lanes_i)no & ~mask));
}

// ---- start ----------------------------------------------------------------------------------------------------------

static void copy_point(const qcnn_kmeans *problem, int point, float *codeword)
{
    for (int d = 0; d < problem->dim; d++)
        codeword[d] = problem->points[(size_t)d * problem->stride + point];
}

// Takes a new codeword into `distances` and `block_sums`; gives the sum of all. FLT_MAX stands for "no codeword yet".
static double add_codeword(qcnn_kmeans *problem, const float *codeword)
{
    double total = 0;
    for (int first = 0, block = 0; first < problem->n; first += BLOCK, block++) {
        lanes_f distance[4];
        lanes_f *nearest = (lanes_f *)(problem->distances + first);
        block_distances(problem->points + first, problem->stride, codeword, problem->dim, distance);
        for (int v = 0; v < 4; v++)
            nearest[v] = select_f(distance[v] < nearest[v], distance[v], nearest[v]);
        const int n = problem->n - first < BLOCK ? problem->n - first : BLOCK;
        double sum = 0;
        for (int i = first; i < first + n; i++)
            sum += (double)problem->distances[i];
        problem->block_sums[block] = sum;
        total += sum;
    }
    return total;
}

// The point at which the running sum of distances passes `target`; never one at distance 0 while another is left.
static int point_at(const qcnn_kmeans *problem, double target)
{
    const int n_blocks = (int)(padded((size_t)problem->n) / BLOCK);
    int last = 0; // the fallback when rounding lets the target lie past the end
    for (int block = 0; block < n_blocks; block++) {
        if (!(problem->block_sums[block] > 0))
            continue;
        const int end = (block + 1) * BLOCK < problem->n ? (block + 1) * BLOCK : problem->n;
        const bool here = target < problem->block_sums[block];
        for (int i = block * BLOCK; i < end; i++) {
            if (!(problem->distances[i] > 0))
                continue;
            last = i;
            if (here && target < (double)problem->distances[i])
                return i;
            target -= (double)problem->distances[i];
        }
        if (here)
            return last;
    }
    return last;
}

// k-means++: each codeword is a point drawn with probability proportional to its squared distance from those before it.
static void choose_start(qcnn_kmeans *problem, qcnn_rng *rng, float *codewords)
{
    const int dim = problem->dim;
    const size_t n_padded = padded((size_t)problem->n);
    for (size_t i = 0; i < n_padded; i++)
        problem->distances[i] = FLT_MAX;
    problem->n_used = 0;
    int point = (int)qcnn_rng_below(rng, (uint32_t)problem->n);
    for (;;) {
        float *codeword = codewords + (size_t)problem->n_used++ * dim;
        copy_point(problem, point, codeword);
        if (problem->n_used == problem->k)
            return;
        const double total = add_codeword(problem, codeword);
        if (!(total > 0)) // every point is a codeword already
            return;
        point = point_at(problem, qcnn_rng_unit(rng) * total);
    }
}

// ---- iterations -----------------------------------------------------------------------------------------------------

// Assigns each point to its nearest codeword (of equally near ones the first); gives the error.
static double assign(qcnn_kmeans *problem, const float *codewords, uint8_t *assignments)
{
    double error = 0;
    for (int first = 0; first < problem->n; first += BLOCK) {
        const float far = FLT_MAX;
        lanes_f nearest[4] = { { far, far, far, far }, { far, far, far, far }, { far, far, far, far }, { far, far, far, far } };
        lanes_i index[4] = { { 0 }, { 0 }, { 0 }, { 0 } };
        for (int k = 0; k < problem->n_used; k++) {
            const lanes_i this_one = { k, k, k, k };
            lanes_f distance[4];
            block_distances(problem->points + first, problem->stride, codewords + (size_t)k * problem->dim, problem->dim, distance);
            for (int v = 0; v < 4; v++) {
                const lanes_i closer = distance[v] < nearest[v];
                nearest[v] = select_f(closer, distance[v], nearest[v]);
                index[v] = (this_one & closer) | (index[v] & ~closer);
            }
        }
        const int n = problem->n - first < BLOCK ? problem->n - first : BLOCK;
        double sum = 0;
        for (int i = 0; i < n; i++) {
            problem->distances[first + i] = nearest[i / 4][i % 4];
            assignments[first + i] = (uint8_t)index[i / 4][i % 4];
            sum += (double)nearest[i / 4][i % 4];
        }
        error += sum;
    }
    return error;
}

static void count_points(qcnn_kmeans *problem, const uint8_t *assignments)
{
    memset(problem->counts, 0, (size_t)problem->n_used * sizeof(int));
    for (int i = 0; i < problem->n; i++)
        problem->counts[assignments[i]]++;
}

// Gives each codeword that lost all its points the point that is farthest from its own codeword.
static void fill_empty(qcnn_kmeans *problem, uint8_t *assignments)
{
    for (int k = 0; k < problem->n_used; k++) {
        if (problem->counts[k] > 0)
            continue;
        int farthest = 0;
        for (int i = 1; i < problem->n; i++)
            if (problem->distances[i] > problem->distances[farthest])
                farthest = i;
        if (!(problem->distances[farthest] > 0))
            return;
        problem->counts[assignments[farthest]]--;
        problem->counts[k] = 1;
        assignments[farthest] = (uint8_t)k;
        problem->distances[farthest] = 0;
    }
}

// Moves each codeword to the mean of its points.
static void move_codewords(qcnn_kmeans *problem, const uint8_t *assignments, float *codewords)
{
    const int dim = problem->dim, n_used = problem->n_used;
    memset(problem->sums, 0, (size_t)dim * n_used * sizeof(double));
    for (int d = 0; d < dim; d++) {
        const float *x = problem->points + (size_t)d * problem->stride;
        double *sums = problem->sums + (size_t)d * n_used;
        for (int i = 0; i < problem->n; i++)
            sums[assignments[i]] += (double)x[i];
    }
    for (int k = 0; k < n_used; k++)
        for (int d = 0; d < dim && problem->counts[k] > 0; d++)
            codewords[(size_t)k * dim + d] = (float)(problem->sums[(size_t)d * n_used + k] / problem->counts[k]);
}

// One run from a new start. Ends behind an assignment, so that each point has its nearest codeword.
static double lloyd(qcnn_kmeans *problem, uint64_t seed, float *codewords, uint8_t *assignments)
{
    qcnn_rng rng = { seed };
    choose_start(problem, &rng, codewords);
    double error = assign(problem, codewords, assignments);
    for (int iteration = 0; iteration < problem->max_iterations && error > 0; iteration++) {
        count_points(problem, assignments);
        fill_empty(problem, assignments);
        move_codewords(problem, assignments, codewords);
        const double previous = error;
        error = assign(problem, codewords, assignments);
        if (!(previous - error > SMALLEST_GAIN * previous))
            break;
    }
    return error;
}

void qcnn_kmeans_run(qcnn_kmeans *problem, uint64_t seed, int n_restarts)
{
    const size_t codeword_bytes = (size_t)problem->dim * sizeof(float);
    problem->error = lloyd(problem, qcnn_rng_split(seed, 0), problem->codewords, problem->assignments);
    int n_used = problem->n_used;
    for (int restart = 1; restart < n_restarts && problem->error > 0; restart++) {
        const double error = lloyd(problem, qcnn_rng_split(seed, (uint64_t)restart), problem->trial_codewords, problem->trial_assignments);
        if (!(error < problem->error))
            continue;
        problem->error = error;
        n_used = problem->n_used;
        memcpy(problem->codewords, problem->trial_codewords, (size_t)n_used * codeword_bytes);
        memcpy(problem->assignments, problem->trial_assignments, (size_t)problem->n);
    }
    problem->n_used = n_used;
    memset((char *)problem->codewords + (size_t)n_used * codeword_bytes, 0, (size_t)(problem->k - n_used) * codeword_bytes);
}
