// SPDX-License-Identifier: Apache-2.0
// Losses of refinement.

#include "compress/refine_loss.h"

#include <math.h>

static int first_class(const float *logits, int n)
{
    int best = 0;
    for (int c = 1; c < n; c++)
        best = logits[c] > logits[best] ? c : best;
    return best;
}

// KL = sum p (log p - log q), with log p = (t - largest) - log sum.
static double divergence(const float *teacher, const float *student, int n)
{
    double t_largest = -INFINITY, s_largest = -INFINITY, t_sum = 0, s_sum = 0, result = 0;
    for (int c = 0; c < n; c++) {
        t_largest = fmax(t_largest, (double)teacher[c]);
        s_largest = fmax(s_largest, (double)student[c]);
    }
    for (int c = 0; c < n; c++) {
        t_sum += exp((double)teacher[c] - t_largest);
        s_sum += exp((double)student[c] - s_largest);
    }
    for (int c = 0; c < n; c++) {
        const double log_p = (double)teacher[c] - t_largest - log(t_sum), log_q = (double)student[c] - s_largest - log(s_sum);
        result += exp(log_p) * (log_p - log_q);
    }
    return result;
}

void qcnn_refine_compare(const float *teacher, const float *student, int n, int n_classes, qcnn_refine_score *score)
{
    for (int i = 0; i < n; i++, teacher += n_classes, student += n_classes) {
        score->divergence += divergence(teacher, student, n_classes);
        score->n_agree += first_class(teacher, n_classes) == first_class(student, n_classes);
    }
    score->n += n;
}

void qcnn_refine_logit_gradients(const float *teacher, const float *student, int n, int n_classes, float temperature, float *gradients)
{
    for (int i = 0; i < n; i++, teacher += n_classes, student += n_classes, gradients += n_classes) {
        double largest[2], sums[2] = { 0, 0 };
        for (int k = 0; k < 2; k++) {
            const float *logits = k ? student : teacher;
            largest[k] = logits[first_class(logits, n_classes)];
            for (int c = 0; c < n_classes; c++)
                sums[k] += exp(((double)logits[c] - largest[k]) / temperature);
        }
        for (int c = 0; c < n_classes; c++) {
            const double p = exp(((double)teacher[c] - largest[0]) / temperature) / sums[0];
            const double q = exp(((double)student[c] - largest[1]) / temperature) / sums[1];
            gradients[c] = (float)(temperature * (q - p) / n);
        }
    }
}

typedef struct feature_job {
    const float *teacher, *student;
    float *gradients;
    size_t n; // of a slice
    double squares[QCNN_TRAIN_SLICES];
    float factor;
} feature_job;

static void square_slice(void *argument, int slice, int worker)
{
    (void)worker;
    feature_job *job = argument;
    double sum = 0;
    for (size_t i = (size_t)slice * job->n; i < ((size_t)slice + 1) * job->n; i++)
        sum += (double)job->teacher[i] * job->teacher[i];
    job->squares[slice] = sum;
}

static void gradient_slice(void *argument, int slice, int worker)
{
    (void)worker;
    const feature_job *job = argument;
    for (size_t i = (size_t)slice * job->n; i < ((size_t)slice + 1) * job->n; i++)
        job->gradients[i] += job->factor * (job->student[i] - job->teacher[i]);
}

void qcnn_refine_feature_gradients(const qcnn_trainer *teacher, qcnn_trainer *student, int value, float weight)
{
    const qcnn_train_value *v = &student->values[value];
    if (!v->gradient)
        return;
    feature_job job = {
        teacher->values[value].data, v->data, v->gradient, (size_t)(v->channels * v->n_positions) * (size_t)student->slice, { 0 }, 0
    };
    qcnn_for(student->parallel, QCNN_TRAIN_SLICES, square_slice, &job);
    double sum = 0;
    for (int slice = 0; slice < QCNN_TRAIN_SLICES; slice++)
        sum += job.squares[slice];
    job.factor = sum > 0 ? (float)(weight / sum) : 0;
    qcnn_for(student->parallel, QCNN_TRAIN_SLICES, gradient_slice, &job);
}
