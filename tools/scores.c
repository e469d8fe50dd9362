// SPDX-License-Identifier: Apache-2.0
// Accuracy, agreement, divergence and the paired interval of a loss.

#include "scores.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

// How many classes come before `label`: those that score more, and equal ones with a lower index. What is not a number loses:
// as a label's score it comes last, as another's it counts as more.
static int rank_of(const float *scores, int n_classes, int label)
{
    int rank = 0;
    for (int i = 0; i < n_classes; i++)
        rank += i < label ? !(scores[i] < scores[label]) : i > label ? !(scores[i] <= scores[label]) : 0;
    return rank;
}

static bool is_right(const float *scores, int n_classes, int label, int top)
{
    return label < n_classes && rank_of(scores, n_classes, label) < top;
}

static int likeliest(const float *scores, int n_classes)
{
    int best = 0;
    for (int i = 1; i < n_classes; i++)
        if (scores[i] > scores[best])
            best = i;
    return best;
}

cli_accuracy cli_judge(const float *scores, const int *labels, int n_images, int n_classes)
{
    int n = 0, top1 = 0, top5 = 0;
    for (int i = 0; i < n_images; i++) {
        if (labels[i] < 0)
            continue;
        const float *row = scores + (size_t)i * (size_t)n_classes;
        top1 += is_right(row, n_classes, labels[i], 1);
        top5 += is_right(row, n_classes, labels[i], 5);
        n++;
    }
    return (cli_accuracy){ n, n ? 100.0 * top1 / n : NAN, n ? 100.0 * top5 / n : NAN };
}

// Both networks see the same images, so only those on which they differ tell anything: b that the original alone gets right,
// c that the other one does. The loss is (b - c) / n, and as the mean of n values of -1, 0 and 1 its standard error is
// sqrt(b + c - (b - c)^2 / n) / n; the interval is 1.96 of these to each side (the normal approximation behind McNemar's test).
static cli_loss paired_loss(const float *scores, const float *original, const int *labels, int n_images, int n_classes, int top)
{
    double n = 0, b = 0, c = 0;
    for (int i = 0; i < n_images; i++) {
        if (labels[i] < 0)
            continue;
        const size_t row = (size_t)i * (size_t)n_classes;
        const bool right = is_right(scores + row, n_classes, labels[i], top),
                   original_right = is_right(original + row, n_classes, labels[i], top);
        b += original_right && !right;
        c += right && !original_right;
        n++;
    }
    if (n == 0)
        return (cli_loss){ NAN, NAN, NAN };
    const double points = 100 * (b - c) / n, reach = 100 * 1.96 * sqrt(b + c - (b - c) * (b - c) / n) / n;
    return (cli_loss){ points, points - reach, points + reach };
}

// sum p log(p / q), with probabilities below 1e-12 taken as that: float32 outputs know no less.
static double divergence(const float *p, const float *q, int n_classes)
{
    double sum = 0;
    for (int i = 0; i < n_classes; i++)
        if (p[i] > 0)
            sum += p[i] * log(fmax(p[i], 1e-12) / fmax(q[i], 1e-12));
    return sum;
}

cli_comparison cli_compare(const float *scores, const float *original, const int *labels, int n_images, int n_classes)
{
    cli_comparison result = { .top1 = paired_loss(scores, original, labels, n_images, n_classes, 1),
                              .top5 = paired_loss(scores, original, labels, n_images, n_classes, 5) };
    const size_t row_bytes = (size_t)n_classes * sizeof(float);
    float *p = cli_allocate(2, row_bytes), *q = p + n_classes;
    for (int i = 0; i < n_images; i++) {
        const size_t row = (size_t)i * (size_t)n_classes;
        result.agreement += likeliest(scores + row, n_classes) == likeliest(original + row, n_classes);
        memcpy(p, original + row, row_bytes);
        memcpy(q, scores + row, row_bytes);
        cli_probabilities(p, n_classes);
        cli_probabilities(q, n_classes);
        result.divergence += divergence(p, q, n_classes);
    }
    free(p);
    result.agreement *= 100.0 / n_images;
    result.divergence /= n_images;
    return result;
}
