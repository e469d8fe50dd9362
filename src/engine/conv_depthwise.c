// SPDX-License-Identifier: Apache-2.0
// Depthwise convolution: each output channel filters one input channel. The channel is copied between zeros first where
// the layer has padding, so that the kernel's loop needs no bounds.

#include <string.h>

#include "engine/layers.h"

typedef struct depthwise_job {
    const qcnn_step *step;
    qcnn_window window;
    int64_t n_channels, n_outputs, per_input; // of one image; outputs that read the same input channel
    int64_t padded[3];                        // sides of the channel with its padding
    int64_t padded_elements;                  // 0: no padding, channels are read in place
} depthwise_job;

bool qcnn_is_depthwise(const qcnn_step *step)
{
    const qcnn_attributes *a = &step->node->attributes;
    return a->groups > 1 && a->groups == step->inputs[0].shape.dims[1];
}

static depthwise_job depthwise_measure(const qcnn_step *step)
{
    const qcnn_shape *x = &step->inputs[0].shape, *y = &step->output_shape;
    depthwise_job job = { .step = step, .window = qcnn_window_of(&step->node->attributes, x, y) };
    job.n_channels = x->dims[1];
    job.n_outputs = y->dims[1];
    job.per_input = job.n_outputs / job.n_channels;
    int64_t padding = 0;
    for (int i = 0; i < 3; i++) {
        job.padded[i] = job.window.in[i] + job.window.begin[i] + job.window.end[i];
        padding += job.window.begin[i] + job.window.end[i];
    }
    const size_t plane = qcnn_plan_bytes((uint64_t)job.padded[0], (uint64_t)job.padded[1], (uint64_t)job.padded[2]);
    job.padded_elements = !padding ? 0 : plane < (size_t)INT64_MAX / 64 ? (int64_t)plane : INT64_MAX / 64;
    return job;
}

// A worker's scratch: the offset of each tap, then the padded channel.
static size_t offsets_bytes(const depthwise_job *job)
{
    return ((size_t)job->window.n_taps * sizeof(ptrdiff_t) + 63) / 64 * 64;
}

void qcnn_depthwise_plan(qcnn_step *step)
{
    const depthwise_job job = depthwise_measure(step);
    step->worker_bytes = offsets_bytes(&job) + (size_t)job.padded_elements * sizeof(float);
}

static void find_tap_offsets(const depthwise_job *job, ptrdiff_t *offsets)
{
    const qcnn_window *w = &job->window;
    for (int64_t z = 0; z < w->kernel[0]; z++)
        for (int64_t y = 0; y < w->kernel[1]; y++)
            for (int64_t x = 0; x < w->kernel[2]; x++)
                *offsets++ = (ptrdiff_t)((z * w->dilation[0] * job->padded[1] + y * w->dilation[1]) * job->padded[2] + x * w->dilation[2]);
}

static void pad_channel(const depthwise_job *job, const float *channel, float *padded)
{
    const qcnn_window *w = &job->window;
    memset(padded, 0, (size_t)job->padded_elements * sizeof *padded);
    for (int64_t z = 0; z < w->in[0]; z++)
        for (int64_t y = 0; y < w->in[1]; y++)
            memcpy(padded + ((z + w->begin[0]) * job->padded[1] + y + w->begin[1]) * job->padded[2] + w->begin[2],
                   channel + (z * w->in[1] + y) * w->in[2], (size_t)w->in[2] * sizeof *padded);
}

// Output channels begin..end-1, counted over all images.
static void run_depthwise_channels(void *argument, int64_t begin, int64_t end, int worker)
{
    const depthwise_job *job = argument;
    const qcnn_step *step = job->step;
    const qcnn_window *w = &job->window;
    unsigned char *scratch = step->worker + (size_t)worker * step->worker_bytes;
    ptrdiff_t *offsets = (ptrdiff_t *)(void *)scratch;
    float *padded = (float *)(void *)(scratch + offsets_bytes(job));
    find_tap_offsets(job, offsets);
    const bool has_bias = step->node->n_inputs > 2 && step->inputs[2].data;
    int64_t padded_channel = -1;
    for (int64_t i = begin; i < end; i++) {
        const int64_t output = i % job->n_outputs, channel = i / job->per_input;
        const float *x = step->inputs[0].data + channel * w->in_elements;
        if (job->padded_elements) {
            if (padded_channel != channel)
                pad_channel(job, x, padded);
            padded_channel = channel;
            x = padded;
        }
        float *y = step->output + i * w->out_elements;
        for (int64_t row = 0; row < w->out[0] * w->out[1]; row++)
            step->kernels->depthwise(y + row * w->out[2], (size_t)w->out[2],
                                     x + (row / w->out[1] * w->stride[0] * job->padded[1] + row % w->out[1] * w->stride[1]) *
                                             job->padded[2],
                                     (size_t)w->stride[2], step->inputs[1].data + output * w->n_taps, offsets, (size_t)w->n_taps,
                                     has_bias ? step->inputs[2].data[output] : 0);
        qcnn_fused_activation(step, y, (size_t)w->out_elements);
    }
}

void qcnn_depthwise_run(const qcnn_step *step, const qcnn_parallel *parallel)
{
    depthwise_job job = depthwise_measure(step);
    qcnn_for_range(parallel, step->output_shape.dims[0] * job.n_outputs, 1, run_depthwise_channels, &job);
}
