// SPDX-License-Identifier: Apache-2.0
// Greedy by size: the largest buffer first, each at the lowest place where it meets no buffer of its time. Networks come
// within a few percent of the largest sum of buffers that are alive together, which nothing can undercut.

#include "engine/memory_plan.h"

#include "base/checked.h"

// Shell sort, largest first, equal ones in their old order: no memory, no surprise at ten thousand nodes.
static void sort_by_size(qcnn_span **order, size_t n)
{
    size_t gap = 1;
    while (gap < n / 3)
        gap = 3 * gap + 1;
    for (; gap > 0; gap /= 3)
        for (size_t i = gap; i < n; i++) {
            qcnn_span *moved = order[i];
            size_t j = i;
            for (; j >= gap; j -= gap) {
                const qcnn_span *before = order[j - gap];
                if (before->bytes > moved->bytes || (before->bytes == moved->bytes && before < moved))
                    break;
                order[j] = order[j - gap];
            }
            order[j] = moved;
        }
}

// Places `buffer` among the n already placed, which are sorted by offset, and inserts it there.
static bool place_buffer(qcnn_span **placed, size_t n, qcnn_span *buffer, uint64_t *total)
{
    uint64_t offset = 0, end;
    for (size_t i = 0; i < n; i++) {
        const qcnn_span *other = placed[i];
        if (other->last < buffer->first || other->first > buffer->last)
            continue;
        if (other->offset >= offset && other->offset - offset >= buffer->bytes)
            break; // fits before this one
        if (other->offset + other->bytes > offset)
            offset = other->offset + other->bytes;
    }
    buffer->offset = offset;
    if (!qcnn_add(offset, buffer->bytes, &end))
        return false;
    *total = end > *total ? end : *total;
    size_t i = n;
    for (; i > 0 && placed[i - 1]->offset > offset; i--)
        placed[i] = placed[i - 1];
    placed[i] = buffer;
    return true;
}

qcnn_status qcnn_plan_memory(qcnn_span *buffers, size_t n, uint64_t *total, qcnn_error *error)
{
    qcnn_span **order = qcnn_allocate(2 * n, sizeof *order);
    if (!order)
        return qcnn_fail_memory(error, 2 * n * sizeof *order);
    qcnn_status status = QCNN_OK;
    *total = 0;
    for (size_t i = 0; i < n; i++) {
        order[i] = &buffers[i];
        if (!qcnn_round_up(buffers[i].bytes, 64, &buffers[i].bytes))
            status = qcnn_fail_memory(error, SIZE_MAX);
    }
    sort_by_size(order, n);
    for (size_t i = 0; i < n && status == QCNN_OK; i++)
        if (!place_buffer(order + n, i, order[i], total))
            status = qcnn_fail_memory(error, SIZE_MAX);
    qcnn_release(order);
    return status;
}
