// SPDX-License-Identifier: Apache-2.0
// Of Android's unistd.h, what libqcnn_java.so needs: declarations of our own, because the NDK's headers are not to be had here.

#ifndef QCNN_BIONIC_UNISTD_H
#define QCNN_BIONIC_UNISTD_H

#define _SC_NPROCESSORS_ONLN 0x61

long sysconf(int name);

#endif
