// SPDX-License-Identifier: Apache-2.0
// The two steps of a max pool in portable C.

#include <math.h>

#include "kernels/kernels.h"

void qcnn_max_rows_c(float *y, const float *x, size_t row_stride, size_t n_rows, size_t n)
{
    for (size_t j = 0; j < n; j++) {
        float most = -INFINITY;
        for (size_t r = 0; r < n_rows; r++)
            most = x[r * row_stride + j] > most ? x[r * row_stride + j] : most;
        y[j] = most;
    }
}

void qcnn_max_columns_c(float *y, const float *x, size_t n, size_t n_taps, size_t stride)
{
    for (size_t j = 0; j < n; j++, x += stride) {
        float most = -INFINITY;
        for (size_t t = 0; t < n_taps; t++)
            most = x[t] > most ? x[t] : most;
        y[j] = most;
    }
}

void qcnn_max_windows_c(float *y, const float *x, size_t row_stride, size_t n_rows, size_t n, size_t n_taps, size_t stride)
{
    for (size_t j = 0; j < n; j++, x += stride) {
        float most = -INFINITY;
        for (size_t r = 0; r < n_rows; r++)
            for (size_t t = 0; t < n_taps; t++)
                most = x[r * row_stride + t] > most ? x[r * row_stride + t] : most;
        y[j] = most;
    }
}
