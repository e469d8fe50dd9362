// SPDX-License-Identifier: Apache-2.0
// What each setting that a layer may have costs in bits and in divergence, at a row of prices: found by fits of the survey's windows.

#ifndef QCNN_COMPRESS_CURVES_H
#define QCNN_COMPRESS_CURVES_H

#include "coding/encode.h"
#include "compress/settings.h"
#include "compress/survey.h"

enum { QCNN_N_PRICES = 7, QCNN_MAX_CURVES = 24 }; // curves of a layer

// Prices are in divergence per bit. The first is 0; each other one is QCNN_PRICE_STEP times the one before.
static const double QCNN_PRICE_STEP = 5;

// Bits are those of the whole layer's weights, in a file's sections: numbers, and assignments.
typedef struct qcnn_setting_curve {
    qcnn_layer_setting setting;
    double coded[QCNN_N_PRICES][QCNN_TENSOR_SECTIONS], plain[QCNN_N_PRICES][QCNN_TENSOR_SECTIONS];
    double divergence[QCNN_N_PRICES];
    double time;     // of a run, in the cost model's units
    double unfolded; // bytes of memory that reading takes for them, where they do not lie in the file as they are
} qcnn_setting_curve;

typedef struct qcnn_layer_curves {
    size_t node;
    qcnn_setting_curve *curves;
    int n_curves;
} qcnn_layer_curves;

// The curves of a surveyed layer, or that of the setting alone that the caller has named in *fixed; `lowest` is the first price above 0.
// Release with qcnn_curves_free, after a failure too. Errors: MEMORY, UNSUPPORTED, CANCELLED.
qcnn_status qcnn_curves_find(const qcnn_model *original, const qcnn_surveyed_layer *layer, const qcnn_layer_setting *fixed, double lowest,
                             uint64_t seed, const qcnn_parallel *parallel, const qcnn_progress *progress, qcnn_layer_curves *curves,
                             qcnn_error *error);
void qcnn_curves_free(qcnn_layer_curves *curves);

// Bits and divergence of a setting from the middle of those that would be tried, at price 0: what is usual in this network.
qcnn_status qcnn_curves_probe(const qcnn_model *original, const qcnn_surveyed_layer *layer, uint64_t seed, double *bits, double *divergence,
                              qcnn_error *error);

// A setting at a price.
typedef struct qcnn_setting_point {
    double bits; // as stored: coded, or plain where coding is not worth it, or too much for a reader
    double divergence;
    double plain_bits; // of all sections
    bool priced;       // false: bits do not depend on the price, the fit is that of price 0
} qcnn_setting_point;

// At any price: straight lines between logarithms. Sections are coded or not as the writer of files does it; where the assignments are
// not, a price would only do harm.
qcnn_setting_point qcnn_curve_at(const qcnn_setting_curve *curve, double lowest, double price);

#endif
