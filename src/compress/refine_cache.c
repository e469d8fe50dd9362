// SPDX-License-Identifier: Apache-2.0
// Activations of many crops in float16.

#include "compress/refine_cache.h"

#include "compress/half.h"

static size_t features_of(const qcnn_model *model, int value)
{
    return (size_t)qcnn_shape_elements(&model->values[value].shape); // at batch 1
}

size_t qcnn_refine_cache_bytes(const qcnn_model *model, const qcnn_refine_kept *kept, int n_kept)
{
    size_t n = 0;
    for (int i = 0; i < n_kept; i++)
        n += features_of(model, kept[i].value);
    return n * sizeof(uint16_t);
}

qcnn_status qcnn_refine_cache_new(const qcnn_model *model, const qcnn_refine_kept *kept, int n_kept, size_t n, qcnn_refine_cache *cache,
                                  qcnn_error *error)
{
    *cache = (qcnn_refine_cache){ .n = n, .n_kept = n_kept };
    for (int i = 0; i < n_kept; i++) {
        cache->kept[i] = kept[i];
        cache->kept[i].n_features = features_of(model, kept[i].value);
        cache->kept[i].data = qcnn_allocate(n, cache->kept[i].n_features * sizeof(uint16_t));
        if (!cache->kept[i].data)
            return qcnn_fail_memory(error, n * cache->kept[i].n_features * sizeof(uint16_t));
    }
    return QCNN_OK;
}

void qcnn_refine_cache_free(qcnn_refine_cache *cache)
{
    for (int i = 0; i < cache->n_kept; i++)
        qcnn_release(cache->kept[i].data);
    *cache = (qcnn_refine_cache){ 0 };
}

typedef struct cache_job {
    const qcnn_refine_cache *cache;
    const qcnn_trainer *teacher, *student;
    size_t first;
    const size_t *picks;
} cache_job;

// The largest float16; beyond it activations are cut off.
static const float LARGEST = 65504;

static void put_image(void *argument, int index, int worker)
{
    (void)worker;
    const cache_job *job = argument;
    for (int i = 0; i < job->cache->n_kept; i++) {
        const qcnn_refine_kept *kept = &job->cache->kept[i];
        const qcnn_trainer *trainer = kept->of_student ? job->student : job->teacher;
        const qcnn_train_value *value = &trainer->values[kept->value];
        uint16_t *to = kept->data + (job->first + (size_t)index) * kept->n_features;
        for (size_t f = 0; f < kept->n_features; f++) {
            const float x = value->data[qcnn_train_place(trainer, value, (size_t)index, f)];
            to[f] = qcnn_half_of(x > LARGEST ? LARGEST : x < -LARGEST ? -LARGEST : x);
        }
    }
}

void qcnn_refine_cache_put(qcnn_refine_cache *cache, size_t first, const qcnn_trainer *teacher, const qcnn_trainer *student, int n)
{
    cache_job job = { .cache = cache, .teacher = teacher, .student = student, .first = first };
    qcnn_for(teacher->parallel, n, put_image, &job);
}

static void get_image(void *argument, int index, int worker)
{
    (void)worker;
    const cache_job *job = argument;
    for (int i = 0; i < job->cache->n_kept; i++) {
        const qcnn_refine_kept *kept = &job->cache->kept[i];
        const qcnn_trainer *trainer = kept->to_student ? job->student : job->teacher;
        const qcnn_train_value *value = &trainer->values[kept->value];
        const size_t n = (size_t)value->n_positions; // which lie side by side
        const uint16_t *from = kept->data + job->picks[index] * kept->n_features;
        for (size_t c = 0; c < (size_t)value->channels; c++, from += n)
            qcnn_half_values(from, value->data + qcnn_train_place(trainer, value, (size_t)index, c * n), n);
    }
}

void qcnn_refine_cache_get(const qcnn_refine_cache *cache, const size_t *picks, qcnn_trainer *teacher, qcnn_trainer *student)
{
    cache_job job = { .cache = cache, .teacher = teacher, .student = student, .picks = picks };
    qcnn_for(student->parallel, student->batch, get_image, &job);
}
