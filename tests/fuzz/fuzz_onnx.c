// SPDX-License-Identifier: Apache-2.0
// Any bytes as an ONNX model; what is accepted is run, saved and read back.

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    qcnn_model *model, *again;
    qcnn_error error;
    if (qcnn_import_onnx(data, size, NULL, NULL, &model, &error) != QCNN_OK)
        return error.message[0] == 0 ? abort(), 0 : 0; // every refusal explains itself
    fuzz_run(model);
    void *file;
    size_t n_bytes;
    if (qcnn_save_memory(model, &file, &n_bytes, &error) == QCNN_OK) {
        if (qcnn_model_load(file, n_bytes, NULL, &again, &error) == QCNN_OK)
            qcnn_model_free(again);
        else if (error.status != QCNN_ERROR_MEMORY)
            abort(); // what we write we read
        qcnn_bytes_free(file);
    }
    qcnn_model_free(model);
    return 0;
}
