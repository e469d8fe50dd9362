// SPDX-License-Identifier: Apache-2.0
// Error correction of a network: its layers one after the other, each quantized so that its responses on calibration samples
// stay what they were in the original.

#ifndef QCNN_COMPRESS_CORRECTION_H
#define QCNN_COMPRESS_CORRECTION_H

#include "compress/settings.h"
#include "qcnn_compress.h"

// Corrects a network, in one go or some layers first: what is known of its samples by then is kept for the others.
typedef struct qcnn_corrector qcnn_corrector;

// settings[node]: of all layers that will be corrected. `original` is prepared. Errors: MEMORY.
qcnn_status qcnn_corrector_new(const qcnn_model *original, const qcnn_layer_setting *settings, qcnn_corrector **corrector,
                               qcnn_error *error);
void qcnn_corrector_free(qcnn_corrector *corrector);

// Quantizes the layers of `compressed`, a copy of the original, that settings[node] give a codebook. With
// QCNN_CORRECTION_LAYER each layer gets the original network's inputs, with QCNN_CORRECTION_NETWORK those of the network as far as it
// is quantized. Layers marked in kept[node] (NULL: none) are quantized already. Errors: those of qcnn_samples_open and qcnn_samples_read,
// UNSUPPORTED (a layer that cannot be corrected; the message names it), MEMORY, CANCELLED; `compressed` is then to be freed.
qcnn_status qcnn_correct(qcnn_corrector *corrector, const qcnn_layer_setting *settings, const qcnn_compress_options *options,
                         const bool *kept, qcnn_model *compressed, qcnn_error *error);

#endif
