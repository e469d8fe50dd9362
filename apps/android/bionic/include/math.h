// SPDX-License-Identifier: Apache-2.0
// Of Android's math.h, what libqcnn_java.so needs: declarations of our own, because the NDK's headers are not to be had here.

#ifndef QCNN_BIONIC_MATH_H
#define QCNN_BIONIC_MATH_H

#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")
#define HUGE_VALF __builtin_huge_valf()
#define isnan(x) __builtin_isnan(x)
#define isinf(x) __builtin_isinf(x)
#define isfinite(x) __builtin_isfinite(x)

double fabs(double x);
double ceil(double x);
double floor(double x);
double round(double x);
double sqrt(double x);
double exp(double x);
double log(double x);
double pow(double x, double y);
double ldexp(double x, int exponent);
double fmin(double x, double y);
double fmax(double x, double y);
float fabsf(float x);
float ceilf(float x);
float floorf(float x);
float roundf(float x);
float rintf(float x);
float nearbyintf(float x);
long lrintf(float x);
long lroundf(float x);
float sqrtf(float x);
float expf(float x);
float expm1f(float x);
float logf(float x);
float log1pf(float x);
float powf(float x, float y);
float tanhf(float x);
float fmaf(float x, float y, float z);
float fminf(float x, float y);
float fmaxf(float x, float y);
float ldexpf(float x, int exponent);

#endif
