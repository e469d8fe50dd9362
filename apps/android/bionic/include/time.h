// SPDX-License-Identifier: Apache-2.0
// Of Android's time.h, what libqcnn_java.so needs: declarations of our own, because the NDK's headers are not to be had here.

#ifndef QCNN_BIONIC_TIME_H
#define QCNN_BIONIC_TIME_H

// time_t and long are of one size on every Android ABI of ours.
struct timespec {
    long tv_sec, tv_nsec;
};

#define CLOCK_MONOTONIC 1

int clock_gettime(int clock, struct timespec *now);

#endif
