// SPDX-License-Identifier: Apache-2.0
// Any bytes as a .npy array or an IDX data set.

#include "image/dataset.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    qcnn_array array;
    if (qcnn_npy_parse(data, size, &array, NULL) == QCNN_OK)
        qcnn_array_free(&array);
    qcnn_dataset *dataset;
    if (qcnn_dataset_from_idx(data, size, NULL, 0, &dataset, NULL) == QCNN_OK)
        qcnn_dataset_free(dataset);
    return 0;
}
