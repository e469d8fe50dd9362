// SPDX-License-Identifier: Apache-2.0
// What work costs, in multiply-adds of a dense convolution of the same tier. Measured on one core of an AMD EPYC Zen 4 at 3.7 GHz
// (`kernels_test --bench`, and AlexNet's layers), but those marked as guesses. docs/method.md explains the counts.

#include "kernels/kernels.h"

// Floats throughout: AlexNet's layers with AVX2 on a Zen 3. A multiply-add is 27 ps there.
const qcnn_prices qcnn_float_prices = { 4.5, 2.8, 1, 4.5, 10, 4, 1, 1 };

// Bytes, by vpermi2b. A multiply-add is 4.35 ps (230 G/s); a table multiplication 9.5 ps, a look-up 11.5 ps (88 G/s), both with what is
// around them in a layer. Fully-connected layers run dense in float: 17 ps, and their bytes come at 40 GB/s or so.
const qcnn_prices qcnn_prices_byte_tables = { 2.2, 2.7, 4, 4, 3, 5, 64, 4 };

// 16-bit tables: look-ups at 55 G/s beside multiply-adds at 220 (AVX-512 with VNNI), at 28 beside 100 (AVX2).
const qcnn_prices qcnn_prices_word_tables = { 4, 4, 2, 3, 3, 3, 1, 4 };

// 16-bit tables on ARM, in instructions executed (AlexNet's layers under QEMU): nobody has timed it. A dense multiply-add takes a third of
// one, or, with dot products, a ninth.
const qcnn_prices qcnn_prices_neon = { 6, 3.6, 1.5, 2, 2, 1, 1, 4 };
const qcnn_prices qcnn_prices_neondot = { 17, 9, 2, 3, 3, 3, 1, 4 };

// 16-bit tables where dense bytes have no instruction of their own: portable C, and a guess for WebAssembly.
const qcnn_prices qcnn_prices_plain = { 1, 2.2, 1, 2, 2.5, 1, 1, 4 };
