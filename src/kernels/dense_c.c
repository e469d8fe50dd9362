// SPDX-License-Identifier: Apache-2.0
// Dense kernels in portable C: what every other tier is tested against. Loops run over fixed-size blocks of independent
// lanes, so that any compiler can keep them in vector registers without reordering a sum.

#include <math.h>
#include <string.h>

#include "kernels/kernels.h"

enum { GEMM_C_COLUMNS = 8, DOT_C_LANES = 8 };

// ---- matrix product -------------------------------------------------------------------------------------------------

// `rows` is a constant at every call: the accumulators then live in registers.
static inline __attribute__((always_inline)) void gemm_rows_c(int rows, int columns, size_t depth, const float *a, size_t a_stride,
                                                              const float *b, size_t b_stride, float *c, size_t c_stride,
                                                              const float *start)
{
    float sums[4][GEMM_C_COLUMNS]; // (rows, columns)
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < GEMM_C_COLUMNS; j++)
            sums[r][j] = start ? start[r] : j < columns ? c[(size_t)r * c_stride + (size_t)j] : 0;
    for (size_t k = 0; k < depth; k++)
        for (int r = 0; r < rows; r++)
            for (int j = 0; j < GEMM_C_COLUMNS; j++)
                sums[r][j] += a[(size_t)r * a_stride + k] * b[k * b_stride + (size_t)j];
    for (int r = 0; r < rows; r++)
        memcpy(c + (size_t)r * c_stride, sums[r], (size_t)columns * sizeof(float));
}

void qcnn_gemm_4x8_c(int rows, int columns, size_t depth, const float *a, size_t a_stride, const float *b, size_t b_stride, float *c,
                     size_t c_stride, const float *start)
{
    switch (rows) {
    case 1: gemm_rows_c(1, columns, depth, a, a_stride, b, b_stride, c, c_stride, start); break;
    case 2: gemm_rows_c(2, columns, depth, a, a_stride, b, b_stride, c, c_stride, start); break;
    case 3: gemm_rows_c(3, columns, depth, a, a_stride, b, b_stride, c, c_stride, start); break;
    default: gemm_rows_c(4, columns, depth, a, a_stride, b, b_stride, c, c_stride, start); break;
    }
}

// ---- scalar products ------------------------------------------------------------------------------------------------

static float dot_lanes_c(size_t n, const float *restrict w, const float *restrict x)
{
    float lanes[DOT_C_LANES] = { 0 }, tail = 0;
    size_t k = 0;
    for (; k + DOT_C_LANES <= n; k += DOT_C_LANES)
        for (size_t j = 0; j < DOT_C_LANES; j++)
            lanes[j] += w[k + j] * x[k + j];
    for (; k < n; k++)
        tail += w[k] * x[k];
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7])) + tail;
}

void qcnn_dots_c(size_t n_rows, size_t n_vectors, size_t n, const float *w, size_t w_stride, const float *x, size_t x_stride, float *y,
                 size_t y_stride)
{
    for (size_t r = 0; r < n_rows; r++)
        for (size_t v = 0; v < n_vectors; v++)
            y[v * y_stride + r] += dot_lanes_c(n, w + r * w_stride, x + v * x_stride);
}

// ---- depthwise convolution ------------------------------------------------------------------------------------------

void qcnn_depthwise_c(float *y, size_t n, const float *x, size_t stride, const float *w, const ptrdiff_t *offsets, size_t n_taps, float bias)
{
    enum { LANES = 16 };
    size_t j = 0;
    for (; stride == 1 && j + LANES <= n; j += LANES) {
        float sums[LANES];
        for (size_t i = 0; i < LANES; i++)
            sums[i] = bias;
        for (size_t t = 0; t < n_taps; t++)
            for (size_t i = 0; i < LANES; i++)
                sums[i] += w[t] * (x + offsets[t])[j + i];
        memcpy(y + j, sums, sizeof sums);
    }
    for (; j < n; j++) {
        float sum = bias;
        for (size_t t = 0; t < n_taps; t++)
            sum += w[t] * (x + offsets[t])[j * stride];
        y[j] = sum;
    }
}

// ---- pools, normalization -------------------------------------------------------------------------------------------

void qcnn_maximum_c(float *y, const float *x, size_t n, size_t stride)
{
    for (size_t j = 0; j < n; j++)
        y[j] = x[j * stride] > y[j] ? x[j * stride] : y[j];
}

void qcnn_accumulate_c(float *y, const float *x, size_t n, size_t stride)
{
    for (size_t j = 0; j < n; j++)
        y[j] += x[j * stride];
}

void qcnn_lrn_c(float *y, const float *x, const float *rows, size_t row_stride, size_t n_rows, size_t n, float scale, float beta, float bias)
{
    memset(y, 0, n * sizeof(float));
    for (size_t i = 0; i < n_rows; i++)
        for (size_t j = 0; j < n; j++)
            y[j] += rows[i * row_stride + j] * rows[i * row_stride + j];
    if (beta == 0.75F) // the published networks' exponent: v^-0.75 = v^-0.5 * v^-0.25
        for (size_t j = 0; j < n; j++) {
            const float root = 1 / sqrtf(bias + scale * y[j]);
            y[j] = x[j] * (root * sqrtf(root));
        }
    else
        for (size_t j = 0; j < n; j++)
            y[j] = x[j] * powf(bias + scale * y[j], -beta);
}

// ---- functions of one argument --------------------------------------------------------------------------------------

#define MAP(expression)                  \
    do {                                 \
        for (size_t j = 0; j < n; j++) { \
            const float v = x[j];        \
            y[j] = (expression);         \
        }                                \
    } while (0)

static float bounded(float v, float low, float high)
{
    v = v < low ? low : v;
    return v > high ? high : v;
}

void qcnn_activate_c(const qcnn_activation *activation, float *y, const float *x, size_t n)
{
    const float alpha = activation->alpha, beta = activation->beta;
    switch (activation->function) {
    case QCNN_RELU: MAP(v < 0 ? 0 : v); break;
    case QCNN_LEAKY_RELU: MAP(v < 0 ? alpha * v : v); break;
    case QCNN_CLIP: MAP(bounded(v, alpha, beta)); break;
    case QCNN_ELU: MAP(v < 0 ? alpha * expm1f(v) : v); break;
    case QCNN_SIGMOID: MAP(1 / (1 + expf(-v))); break;
    case QCNN_HARD_SIGMOID: MAP(bounded(alpha * v + beta, 0, 1)); break;
    case QCNN_TANH: MAP(tanhf(v)); break;
    case QCNN_HARD_SWISH: MAP(v * bounded(v / 6 + 0.5F, 0, 1)); break;
    case QCNN_SQRT: MAP(sqrtf(v)); break;
    case QCNN_EXP: MAP(expf(v)); break;
    case QCNN_LOG: MAP(logf(v)); break;
    case QCNN_ABS: MAP(fabsf(v)); break;
    case QCNN_NEGATE: MAP(-v); break;
    case QCNN_RECIPROCAL: MAP(1 / v); break;
    default: // QCNN_IDENTITY
        if (y != x)
            memcpy(y, x, n * sizeof(float));
    }
}
