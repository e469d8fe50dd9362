// SPDX-License-Identifier: Apache-2.0
// Dense kernels in portable C: what every other tier is tested against. The two that cost most are written with the
// compilers' own vectors of four floats, which become the registers of whatever machine this is; other loops run over
// independent lanes that a compiler vectorizes without reordering a sum.

#include <math.h>
#include <string.h>

#include "kernels/kernels.h"

typedef float quad __attribute__((vector_size(16)));

static inline quad load_quad(const float *x)
{
    quad v;
    memcpy(&v, x, sizeof v);
    return v;
}

static inline quad same_quad(float x)
{
    return (quad){ x, x, x, x };
}

// ---- matrix product: 4 rows x 8 columns -----------------------------------------------------------------------------

// `rows` is a constant at every call: the sums then live in registers.
static inline __attribute__((always_inline)) void gemm_rows_c(int rows, int columns, size_t depth, const float *a, size_t a_stride,
                                                              const float *b, size_t b_stride, float *c, size_t c_stride,
                                                              const float *start)
{
    quad sums[4][2]; // (rows, columns)
    for (int r = 0; r < rows; r++) {
        float row[8] = { 0 };
        if (!start)
            memcpy(row, c + (size_t)r * c_stride, (size_t)columns * sizeof *row);
        sums[r][0] = start ? same_quad(start[r]) : load_quad(row);
        sums[r][1] = start ? same_quad(start[r]) : load_quad(row + 4);
    }
    for (size_t k = 0; k < depth; k++, b += b_stride) {
        const quad low = load_quad(b), high = load_quad(b + 4);
        for (int r = 0; r < rows; r++) {
            const quad weight = same_quad(a[(size_t)r * a_stride + k]);
            sums[r][0] += weight * low;
            sums[r][1] += weight * high;
        }
    }
    for (int r = 0; r < rows; r++)
        memcpy(c + (size_t)r * c_stride, sums[r], (size_t)columns * sizeof *c);
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

// `rows` products with one vector, a constant at every call. Each has its own lanes: company does not change its bits.
static inline __attribute__((always_inline)) void dot_rows_c(int rows, size_t n, const float *w, size_t w_stride, const float *x, float *y)
{
    quad sums[4][2];
    memset(sums, 0, sizeof sums);
    size_t k = 0;
    for (; k + 8 <= n; k += 8) {
        const quad low = load_quad(x + k), high = load_quad(x + k + 4);
        for (int r = 0; r < rows; r++) {
            sums[r][0] += load_quad(w + (size_t)r * w_stride + k) * low;
            sums[r][1] += load_quad(w + (size_t)r * w_stride + k + 4) * high;
        }
    }
    for (int r = 0; r < rows; r++) {
        const quad sum = sums[r][0] + sums[r][1];
        float tail = 0;
        for (size_t i = k; i < n; i++)
            tail += w[(size_t)r * w_stride + i] * x[i];
        y[r] += ((sum[0] + sum[2]) + (sum[1] + sum[3])) + tail;
    }
}

void qcnn_dots_c(size_t n_rows, size_t n_vectors, size_t n, const float *w, size_t w_stride, const float *x, size_t x_stride, float *y,
                 size_t y_stride)
{
    size_t r = 0;
    for (; r + 4 <= n_rows; r += 4)
        for (size_t v = 0; v < n_vectors; v++)
            dot_rows_c(4, n, w + r * w_stride, w_stride, x + v * x_stride, y + v * y_stride + r);
    for (; r < n_rows; r++)
        for (size_t v = 0; v < n_vectors; v++)
            dot_rows_c(1, n, w + r * w_stride, w_stride, x + v * x_stride, y + v * y_stride + r);
}

// ---- depthwise convolution ------------------------------------------------------------------------------------------

void qcnn_depthwise_c(float *y, size_t n, const float *x, size_t stride, const float *w, const ptrdiff_t *offsets, size_t n_taps,
                      float bias)
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

void qcnn_lrn_c(float *y, const float *x, const float *rows, size_t row_stride, size_t n_rows, size_t n, float scale, float beta,
                float bias)
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

#define MAP(expression)                                                                                                                    \
    do {                                                                                                                                   \
        for (size_t j = 0; j < n; j++) {                                                                                                   \
            const float v = x[j];                                                                                                          \
            y[j] = (expression);                                                                                                           \
        }                                                                                                                                  \
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
