// SPDX-License-Identifier: Apache-2.0
// Opening models with the options that most subcommands share, and small questions about them.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

enum { MAX_PREPROCESS_BYTES = 1 << 20, MAX_CLASSES_BYTES = 64 << 20 };

// The preprocessing text to apply: *file (to be freed) from a --preprocess file. False with a message when it is unusable.
static bool read_preprocess(const cli_model_options *options, char **file, size_t *n_bytes, int *side)
{
    qcnn_preprocess preprocess;
    qcnn_error error;
    if (options->preprocess) {
        if (!(*file = cli_read_file(options->preprocess, MAX_PREPROCESS_BYTES, n_bytes)))
            return false;
        if (qcnn_preprocess_parse(*file, *n_bytes, &preprocess, &error)) {
            cli_fail_at(options->preprocess, &error);
            return false;
        }
        *side = preprocess.crop;
    } else if (options->preprocess_text &&
               !qcnn_preprocess_parse(options->preprocess_text, strlen(options->preprocess_text), &preprocess, NULL))
        *side = preprocess.crop;
    return true;
}

static bool set_texts(qcnn_model *model, const cli_model_options *options, const char *preprocess, size_t n_bytes)
{
    qcnn_error error;
    if (preprocess && qcnn_model_set_preprocess_text(model, preprocess, n_bytes, &error)) {
        cli_fail_at(options->preprocess, &error);
        return false;
    }
    if (!options->classes)
        return true;
    char *text = cli_read_file(options->classes, MAX_CLASSES_BYTES, &n_bytes);
    if (!text)
        return false;
    const bool done = !qcnn_model_set_classes_text(model, text, n_bytes, &error);
    if (!done)
        cli_fail_at(options->classes, &error);
    free(text);
    return done;
}

qcnn_model *cli_model_open(const char *path, const cli_model_options *options)
{
    char *preprocess = NULL;
    size_t n_bytes = 0;
    qcnn_import_options import = qcnn_import_options_default();
    import.kernels = options->kernels;
    import.exact = options->exact;
    import.run_only = options->run_only;
    import.inputs = options->inputs;
    import.n_inputs = options->n_inputs;
    qcnn_model *model = NULL;
    qcnn_error error;
    if (read_preprocess(options, &preprocess, &n_bytes, &import.side)) {
        if (qcnn_import(path, &import, &model, &error))
            cli_fail_at(path, &error);
        else if (!set_texts(model, options, preprocess, n_bytes)) {
            qcnn_model_free(model);
            model = NULL;
        }
    }
    free(preprocess);
    return model;
}

int cli_model_preprocess(const qcnn_model *model, const char *path, qcnn_preprocess *preprocess)
{
    const char *text = qcnn_model_preprocessing(model);
    if (!text)
        return cli_fail("%s: it does not say how images become tensors; give --preprocess FILE.json", path);
    qcnn_error error;
    if (qcnn_preprocess_parse(text, strlen(text), preprocess, &error))
        return cli_fail("%s: its preprocessing is unusable: %s", path, error.message);
    const qcnn_shape shape = qcnn_model_input(model, 0).shape;
    char shape_text[96];
    cli_shape_text(&shape, shape_text);
    if (qcnn_model_n_inputs(model) != 1 || shape.rank != 4 || shape.dims[0] != 1)
        return cli_fail("%s: its input is not one image (%d inputs, the first %s); use 'qcnn run' with tensors", path,
                        qcnn_model_n_inputs(model), shape_text);
    if (preprocess->n_channels != shape.dims[1])
        return cli_fail("%s: it reads %s, but its preprocessing makes %d channels; give a --preprocess file that fits", path, shape_text,
                        preprocess->n_channels);
    return CLI_DONE;
}

int cli_image_tensor(const qcnn_model *model, const qcnn_preprocess *preprocess, const char *path, float *tensor)
{
    const qcnn_shape shape = qcnn_model_input(model, 0).shape;
    qcnn_image image;
    qcnn_error error;
    if (qcnn_image_read(path, &image, &error))
        return cli_fail_at(path, &error);
    int width = 0, height = 0;
    qcnn_status status = qcnn_preprocess_size(preprocess, image.width, image.height, &width, &height, &error);
    const bool fits = width == shape.dims[3] && height == shape.dims[2];
    if (status == QCNN_OK && fits)
        status = qcnn_preprocess_image(preprocess, &image, tensor, &error);
    qcnn_image_free(&image);
    if (status != QCNN_OK)
        return cli_fail_at(path, &error);
    if (!fits)
        return cli_fail("%s: preprocessing makes %d x %d pixels of it, the model reads %lld x %lld; set crop in --preprocess", path, width,
                        height, (long long)shape.dims[3], (long long)shape.dims[2]);
    return CLI_DONE;
}

bool cli_has_weights(const qcnn_layer_info *layer)
{
    return layer->weights > 0 || layer->bytes > 0;
}

const char *cli_shape_text(const qcnn_shape *shape, char text[96])
{
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < shape->rank && used < 96; i++)
        used += (size_t)snprintf(text + used, 96 - used, "%s%lld", i ? "x" : "", (long long)shape->dims[i]);
    return shape->rank ? text : strcpy(text, "scalar");
}

size_t cli_shape_elements(const qcnn_shape *shape)
{
    size_t n = 1;
    for (int i = 0; i < shape->rank; i++)
        n *= (size_t)shape->dims[i];
    return n;
}

int cli_pool_open(int n_threads, qcnn_pool **pool)
{
    qcnn_error error;
    *pool = NULL;
    if (n_threads != 1 && qcnn_pool_create(n_threads, pool, &error))
        return cli_fail_at(NULL, &error);
    return CLI_DONE;
}

int cli_pool_threads(const qcnn_pool *pool)
{
    return pool ? qcnn_pool_hook(pool)->n_workers : 1;
}

void cli_probabilities(float *scores, int n)
{
    double sum = 0, largest = -INFINITY;
    bool in_range = true;
    for (int i = 0; i < n; i++) {
        sum += scores[i];
        in_range &= scores[i] >= 0 && scores[i] <= 1.0001f;
        if (scores[i] > largest)
            largest = scores[i];
    }
    if (in_range && fabs(sum - 1) < 1e-3)
        return;
    sum = 0;
    for (int i = 0; i < n; i++)
        sum += exp(scores[i] - largest);
    for (int i = 0; i < n; i++)
        scores[i] = (float)(exp(scores[i] - largest) / sum);
}
