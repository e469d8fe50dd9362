// SPDX-License-Identifier: Apache-2.0
// Activations of many crops in float16.

#include "compress/refine_cache.h"

#include "base/half.h"

qcnn_status qcnn_refine_cache_new(const qcnn_trainer *trainer, int value, size_t n, qcnn_refine_cache *cache, qcnn_error *error)
{
    const qcnn_train_value *v = &trainer->values[value];
    *cache = (qcnn_refine_cache){ .n = n, .n_features = (size_t)v->channels * (size_t)v->n_positions };
    cache->teacher = qcnn_allocate(n, cache->n_features * sizeof(uint16_t));
    cache->student = qcnn_allocate(n, cache->n_features * sizeof(uint16_t));
    return cache->teacher && cache->student ? QCNN_OK : qcnn_fail_memory(error, 2 * n * cache->n_features * sizeof(uint16_t));
}

void qcnn_refine_cache_free(qcnn_refine_cache *cache)
{
    qcnn_release(cache->teacher);
    qcnn_release(cache->student);
    *cache = (qcnn_refine_cache){ 0 };
}

typedef struct cache_job {
    qcnn_refine_cache *cache;
    const qcnn_trainer *trainers[2]; // teacher, student
    int value;
    size_t first;
    const qcnn_refine_pick *picks;
} cache_job;

// The largest float16; beyond it activations are cut off.
static const float LARGEST = 65504;

static void put_image(void *argument, int index, int worker)
{
    (void)worker;
    const cache_job *job = argument;
    for (int k = 0; k < 2; k++) {
        const qcnn_trainer *trainer = job->trainers[k];
        const qcnn_train_value *value = &trainer->values[job->value];
        uint16_t *to = (k ? job->cache->student : job->cache->teacher) + (job->first + (size_t)index) * job->cache->n_features;
        for (size_t f = 0; f < job->cache->n_features; f++) {
            const float x = value->data[qcnn_train_place(trainer, value, (size_t)index, f)];
            to[f] = qcnn_float_to_half(x > LARGEST ? LARGEST : x < -LARGEST ? -LARGEST : x);
        }
    }
}

void qcnn_refine_cache_put(qcnn_refine_cache *cache, size_t first, const qcnn_trainer *teacher, const qcnn_trainer *student, int value,
                           int n)
{
    cache_job job = { .cache = cache, .trainers = { teacher, student }, .value = value, .first = first };
    qcnn_for(student->parallel, n, put_image, &job);
}

static void get_image(void *argument, int index, int worker)
{
    (void)worker;
    const cache_job *job = argument;
    const qcnn_refine_pick *pick = &job->picks[index];
    const size_t n = job->cache->n_features;
    for (int k = 0; k < 2; k++) {
        const qcnn_trainer *trainer = job->trainers[k];
        const qcnn_train_value *value = &trainer->values[trainer->input];
        const uint16_t *all = k ? job->cache->student : job->cache->teacher, *from = all + pick->index * n, *other = all + pick->other * n;
        for (size_t f = 0; f < n; f++) {
            float x = qcnn_half_to_float(from[f]);
            if (pick->share > 0)
                x += pick->share * (qcnn_half_to_float(other[f]) - x);
            value->data[qcnn_train_place(trainer, value, (size_t)index, f)] = x;
        }
    }
}

void qcnn_refine_cache_get(const qcnn_refine_cache *cache, const qcnn_refine_pick *picks, qcnn_trainer *teacher, qcnn_trainer *student)
{
    cache_job job = { .cache = (qcnn_refine_cache *)cache, .trainers = { teacher, student }, .picks = picks };
    qcnn_for(student->parallel, student->batch, get_image, &job);
}
