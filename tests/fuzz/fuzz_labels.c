// SPDX-License-Identifier: Apache-2.0
// Any bytes as the small text files: class names, preprocess.json, labels.tsv. The first byte chooses.

#include "image/dataset.h"
#include "model/model.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const char *text = (const char *)data + 1;
    qcnn_dataset *dataset;
    qcnn_preprocess preprocess;
    qcnn_model *model;
    switch (data[0] % 3) {
    case 0:
        if (qcnn_dataset_from_labels(text, size - 1, "folder", &dataset, NULL) == QCNN_OK)
            qcnn_dataset_free(dataset);
        break;
    case 1: qcnn_preprocess_parse(text, size - 1, &preprocess, NULL); break;
    default:
        if (qcnn_model_new(&model, NULL) != QCNN_OK)
            break;
        qcnn_model_set_classes_text(model, text, size - 1, NULL);
        qcnn_model_free(model);
    }
    return 0;
}
