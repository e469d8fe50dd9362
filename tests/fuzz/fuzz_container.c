// SPDX-License-Identifier: Apache-2.0
// Any bytes as a .qcnn file. Checksums would stop nearly every mutation at the door, so they are made right first.

#include "base/crc32.h"
#include "model/container.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    memcpy(copy, data, size);
    qcnn_container_repair_checksums(copy, size);
    qcnn_model *model;
    qcnn_error error;
    qcnn_load_options options = qcnn_load_options_default();
    options.run_only = size & 1;
    if (qcnn_model_load(copy, size, &options, &model, &error) == QCNN_OK) {
        fuzz_run(model);
        qcnn_model_free(model);
    } else if (error.message[0] == 0) {
        abort();
    }
    free(copy);
    return 0;
}
