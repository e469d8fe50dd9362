// SPDX-License-Identifier: Apache-2.0
// Activations and their derivatives, taken from the output where it tells enough.

#include <math.h>

#include "compress/train.h"

bool qcnn_train_activation_known(qcnn_function function)
{
    return function == QCNN_IDENTITY || (function >= QCNN_RELU && function <= QCNN_HARD_SWISH);
}

bool qcnn_train_activation_needs_input(qcnn_function function)
{
    return function == QCNN_HARD_SWISH;
}

static float clamp(float x, float low, float high)
{
    return x < low ? low : x > high ? high : x;
}

void qcnn_train_activate(const qcnn_activation *activation, float *y, size_t n)
{
    const float alpha = activation->alpha, beta = activation->beta;
    switch (activation->function) {
    case QCNN_RELU:
        for (size_t i = 0; i < n; i++)
            y[i] = y[i] > 0 ? y[i] : 0;
        break;
    case QCNN_LEAKY_RELU:
        for (size_t i = 0; i < n; i++)
            y[i] = y[i] > 0 ? y[i] : alpha * y[i];
        break;
    case QCNN_CLIP:
        for (size_t i = 0; i < n; i++)
            y[i] = clamp(y[i], alpha, beta);
        break;
    case QCNN_ELU:
        for (size_t i = 0; i < n; i++)
            y[i] = y[i] > 0 ? y[i] : alpha * expm1f(y[i]);
        break;
    case QCNN_SIGMOID:
        for (size_t i = 0; i < n; i++)
            y[i] = 1 / (1 + expf(-y[i]));
        break;
    case QCNN_HARD_SIGMOID:
        for (size_t i = 0; i < n; i++)
            y[i] = clamp(alpha * y[i] + beta, 0, 1);
        break;
    case QCNN_TANH:
        for (size_t i = 0; i < n; i++)
            y[i] = tanhf(y[i]);
        break;
    case QCNN_HARD_SWISH:
        for (size_t i = 0; i < n; i++)
            y[i] *= clamp(y[i] / 6 + 0.5f, 0, 1);
        break;
    default: break;
    }
}

static float hard_swish_slope(float x)
{
    return x <= -3 ? 0 : x >= 3 ? 1 : x / 3 + 0.5f;
}

void qcnn_train_activation_gradient(const qcnn_activation *activation, const float *y, const float *before, float *gradient, size_t n)
{
    const float alpha = activation->alpha, beta = activation->beta;
    switch (activation->function) {
    case QCNN_RELU:
        for (size_t i = 0; i < n; i++)
            gradient[i] = y[i] > 0 ? gradient[i] : 0;
        break;
    case QCNN_LEAKY_RELU:
        for (size_t i = 0; i < n; i++)
            gradient[i] *= y[i] > 0 ? 1 : alpha;
        break;
    case QCNN_CLIP:
        for (size_t i = 0; i < n; i++)
            gradient[i] = y[i] > alpha && y[i] < beta ? gradient[i] : 0;
        break;
    case QCNN_ELU:
        for (size_t i = 0; i < n; i++)
            gradient[i] *= y[i] > 0 ? 1 : y[i] + alpha;
        break;
    case QCNN_SIGMOID:
        for (size_t i = 0; i < n; i++)
            gradient[i] *= y[i] * (1 - y[i]);
        break;
    case QCNN_HARD_SIGMOID:
        for (size_t i = 0; i < n; i++)
            gradient[i] *= y[i] > 0 && y[i] < 1 ? alpha : 0;
        break;
    case QCNN_TANH:
        for (size_t i = 0; i < n; i++)
            gradient[i] *= 1 - y[i] * y[i];
        break;
    case QCNN_HARD_SWISH:
        for (size_t i = 0; i < n; i++)
            gradient[i] *= hard_swish_slope(before[i]);
        break;
    default: break;
    }
}
