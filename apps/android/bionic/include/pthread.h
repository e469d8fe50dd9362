// SPDX-License-Identifier: Apache-2.0
// Of Android's pthread.h, what libqcnn_java.so needs: declarations of our own, because the NDK's headers are not to be had here.

#ifndef QCNN_BIONIC_PTHREAD_H
#define QCNN_BIONIC_PTHREAD_H

// Sizes and alignments as Android fixed them for ever (they are part of its ABI); all zero is the initialised state.
typedef long pthread_t;
#if defined(__LP64__)
typedef struct pthread_mutex_t {
    int private_words[10];
} pthread_mutex_t;
typedef struct pthread_cond_t {
    int private_words[12];
} pthread_cond_t;
#else
typedef struct pthread_mutex_t {
    int private_words[1];
} pthread_mutex_t;
typedef struct pthread_cond_t {
    int private_words[1];
} pthread_cond_t;
#endif

int pthread_create(pthread_t *thread, const void *attributes, void *(*main)(void *), void *argument);
int pthread_join(pthread_t thread, void **result);
int pthread_mutex_init(pthread_mutex_t *mutex, const void *attributes);
int pthread_mutex_destroy(pthread_mutex_t *mutex);
int pthread_mutex_lock(pthread_mutex_t *mutex);
int pthread_mutex_unlock(pthread_mutex_t *mutex);
int pthread_cond_init(pthread_cond_t *condition, const void *attributes);
int pthread_cond_destroy(pthread_cond_t *condition);
int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex);
int pthread_cond_signal(pthread_cond_t *condition);
int pthread_cond_broadcast(pthread_cond_t *condition);

#endif
