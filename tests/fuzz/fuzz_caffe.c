// SPDX-License-Identifier: Apache-2.0
// Any bytes as a Caffe pair: the prototxt up to the first zero byte, the caffemodel behind it.

#include "import/import.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    const size_t n_text = zero ? (size_t)(zero - data) : size, behind = zero ? n_text + 1 : size;
    const qcnn_import_options options = qcnn_import_options_default();
    qcnn_model *model;
    if (qcnn_caffe_read((qcnn_span){ data, n_text }, (qcnn_span){ data + behind, size - behind }, &options, &model, NULL) != QCNN_OK)
        return 0;
    fuzz_run(model);
    qcnn_model_free(model);
    return 0;
}
