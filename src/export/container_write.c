// SPDX-License-Identifier: Apache-2.0
// Writing a .qcnn file (docs/format.md). The same model always gives the same bytes. What was written is read back before it
// is handed out, so that nothing leaves here that the reader would refuse.

#include <string.h>

#include "base/checked.h"
#include "base/crc32.h"
#include "model/container.h"
#include "qcnn_compress.h"

// A section, in file order. Its content is `bytes`, or what `tensor`'s assignments pack to.
typedef struct section_plan {
    uint32_t type, flags, tensor;
    const void *bytes;
    const qcnn_codebook *pack;
    uint64_t n_bytes, offset;
} section_plan;

typedef struct container_plan {
    const qcnn_model *model;
    qcnn_buffer graph, classes;
    section_plan *sections;
    size_t n_sections, capacity;
    uint64_t file_bytes;
} container_plan;

// ---- the graph section ----------------------------------------------------------------------------------------------

static void write_name(qcnn_buffer *buffer, const char *name)
{
    const size_t n = name ? strlen(name) : 0;
    qcnn_write_u16(buffer, (uint16_t)(n <= QCNN_MAX_NAME ? n : QCNN_MAX_NAME)); // builders refuse longer ones
    qcnn_write_bytes(buffer, name, n <= QCNN_MAX_NAME ? n : QCNN_MAX_NAME);
}

static void write_shape(qcnn_buffer *buffer, const qcnn_shape *shape)
{
    qcnn_write_u32(buffer, (uint32_t)shape->rank);
    for (int i = 0; i < shape->rank; i++)
        qcnn_write_u64(buffer, (uint64_t)shape->dims[i]);
}

static void write_tensor(qcnn_buffer *buffer, const qcnn_tensor *tensor)
{
    const qcnn_codebook *book = &tensor->codebook;
    qcnn_write_u32(buffer, qcnn_is_codebook(tensor) ? QCNN_STORAGE_CODEBOOK : QCNN_STORAGE_FLOAT32);
    qcnn_write_f32(buffer, tensor->error >= 0 && tensor->error <= 1e30f ? tensor->error : -1);
    write_shape(buffer, &tensor->shape);
    if (!qcnn_is_codebook(tensor))
        return;
    qcnn_write_u32(buffer, QCNN_CODEWORDS_FLOAT32);
    const int sizes[] = { book->groups, book->n_sets, book->n_inputs, book->n_outputs, book->n_taps, book->subspace, book->n_codewords };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        qcnn_write_u32(buffer, (uint32_t)sizes[i]);
}

static void write_node(qcnn_buffer *buffer, const qcnn_node *node)
{
    qcnn_write_u16(buffer, qcnn_op_number(node->op));
    qcnn_write_u16(buffer, (uint16_t)node->n_inputs);
    qcnn_write_u32(buffer, (uint32_t)node->output);
    write_name(buffer, node->name);
    for (int i = 0; i < node->n_inputs; i++)
        qcnn_write_u32(buffer, node->inputs[i] < 0 ? QCNN_NO_INDEX : (uint32_t)node->inputs[i]);
    qcnn_write_attributes(buffer, node->op, &node->attributes);
}

static void write_graph(qcnn_buffer *buffer, const qcnn_model *model)
{
    qcnn_write_u64(buffer, model->original_bytes);
    const size_t counts[] = { model->n_tensors, model->n_values, model->n_nodes, model->n_inputs, model->n_outputs };
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        qcnn_write_u32(buffer, (uint32_t)counts[i]);
    for (size_t i = 0; i < model->n_tensors; i++)
        write_tensor(buffer, &model->tensors[i]);
    for (size_t i = 0; i < model->n_values; i++) {
        qcnn_write_u32(buffer, model->values[i].tensor < 0 ? QCNN_NO_INDEX : (uint32_t)model->values[i].tensor);
        write_name(buffer, model->values[i].name);
    }
    for (size_t i = 0; i < model->n_nodes; i++)
        write_node(buffer, &model->nodes[i]);
    for (size_t i = 0; i < model->n_inputs; i++) {
        qcnn_write_u32(buffer, (uint32_t)model->inputs[i]);
        write_shape(buffer, &model->values[model->inputs[i]].shape);
    }
    for (size_t i = 0; i < model->n_outputs; i++)
        qcnn_write_u32(buffer, (uint32_t)model->outputs[i]);
}

// ---- the plan -------------------------------------------------------------------------------------------------------

static bool plan_section(container_plan *plan, section_plan section)
{
    if (!qcnn_reserve(&plan->sections, &plan->capacity, plan->n_sections + 1, sizeof *plan->sections))
        return false;
    plan->sections[plan->n_sections++] = section;
    return true;
}

static bool plan_tensor(container_plan *plan, uint32_t index)
{
    const qcnn_tensor *tensor = &plan->model->tensors[index];
    const qcnn_codebook *book = &tensor->codebook;
    section_plan section = { .type = QCNN_SECTION_DATA, .flags = QCNN_FLAG_REQUIRED, .tensor = index, .bytes = tensor->data };
    if (!qcnn_is_codebook(tensor))
        return qcnn_multiply(qcnn_shape_elements(&tensor->shape), sizeof(float), &section.n_bytes) && plan_section(plan, section);
    section.type = QCNN_SECTION_CODEWORDS;
    section.bytes = book->codewords;
    if (!qcnn_codeword_bytes(book, &section.n_bytes) || !plan_section(plan, section))
        return false;
    section.type = QCNN_SECTION_ASSIGNMENTS;
    section.pack = book;
    uint64_t n;
    return qcnn_count_assignments(book, &n) && qcnn_packed_bytes(n, book->n_codewords, &section.n_bytes) && plan_section(plan, section);
}

static bool plan_sections(container_plan *plan)
{
    const qcnn_model *model = plan->model;
    write_graph(&plan->graph, model);
    for (size_t i = 0; i < model->n_classes; i++) {
        qcnn_write_bytes(&plan->classes, model->classes[i], strlen(model->classes[i]));
        qcnn_write_u8(&plan->classes, '\n');
    }
    if (plan->graph.failed || plan->classes.failed)
        return false;
    section_plan section = { .type = QCNN_SECTION_GRAPH, .flags = QCNN_FLAG_REQUIRED, .tensor = QCNN_NO_INDEX };
    section.bytes = plan->graph.data;
    section.n_bytes = plan->graph.n_bytes;
    if (!plan_section(plan, section))
        return false;
    section.flags = 0;
    if (model->preprocessing) {
        section.type = QCNN_SECTION_PREPROCESSING;
        section.bytes = model->preprocessing;
        section.n_bytes = strlen(model->preprocessing);
        if (!plan_section(plan, section))
            return false;
    }
    if (model->n_classes > 0) {
        section.type = QCNN_SECTION_CLASSES;
        section.bytes = plan->classes.data;
        section.n_bytes = plan->classes.n_bytes;
        if (!plan_section(plan, section))
            return false;
    }
    for (size_t i = 0; i < model->n_tensors; i++)
        if (!plan_tensor(plan, (uint32_t)i))
            return false;
    return true;
}

static bool plan_offsets(container_plan *plan)
{
    uint64_t end = QCNN_HEADER_BYTES + plan->n_sections * QCNN_ENTRY_BYTES;
    for (size_t i = 0; i < plan->n_sections; i++) {
        section_plan *section = &plan->sections[i];
        if (!qcnn_round_up(end, QCNN_ALIGNMENT, &section->offset) || !qcnn_add(section->offset, section->n_bytes, &end))
            return false;
    }
    return qcnn_round_up(end, QCNN_ALIGNMENT, &plan->file_bytes) && plan->file_bytes <= SIZE_MAX / 2;
}

// ---- the file -------------------------------------------------------------------------------------------------------

static void put_u32(unsigned char *bytes, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        bytes[i] = (unsigned char)(value >> 8 * i);
}

void qcnn_container_repair_checksums(unsigned char *file, size_t n_bytes)
{
    if (n_bytes < QCNN_HEADER_BYTES)
        return;
    qcnn_crc32_tables crc;
    qcnn_crc32_init(&crc);
    unsigned char *const table = file + QCNN_HEADER_BYTES;
    const size_t room = (n_bytes - QCNN_HEADER_BYTES) / QCNN_ENTRY_BYTES;
    qcnn_cursor header = { .next = file + QCNN_HEADER_COUNT_AT, .n_left = 4 };
    const uint32_t count = qcnn_read_u32(&header);
    const size_t n_sections = count < room ? count : room;
    for (size_t i = 0; i < n_sections; i++) {
        unsigned char *entry = table + i * QCNN_ENTRY_BYTES;
        qcnn_cursor cursor = { .next = entry + QCNN_ENTRY_OFFSET_AT, .n_left = 16 };
        const uint64_t offset = qcnn_read_u64(&cursor), stored = qcnn_read_u64(&cursor);
        if (offset <= n_bytes && stored <= n_bytes - offset)
            put_u32(entry + QCNN_ENTRY_CRC_AT, qcnn_crc32(&crc, 0, file + offset, (size_t)stored));
    }
    const uint32_t first = qcnn_crc32(&crc, 0, file, QCNN_HEADER_CRC_AT);
    put_u32(file + QCNN_HEADER_CRC_AT, qcnn_crc32(&crc, first, table, n_sections * QCNN_ENTRY_BYTES));
}

static void write_contents(const container_plan *plan, unsigned char *file)
{
    for (size_t i = 0; i < plan->n_sections; i++) {
        const section_plan *section = &plan->sections[i];
        unsigned char *content = file + section->offset;
        uint64_t n;
        if (section->pack && qcnn_count_assignments(section->pack, &n))
            qcnn_pack_bits(section->pack->assignments, (size_t)n, qcnn_assignment_bits(section->pack->n_codewords), content);
        else if (section->n_bytes > 0)
            memcpy(content, section->bytes, (size_t)section->n_bytes);
    }
}

// Header and section table, without checksums.
static void write_head(const container_plan *plan, qcnn_buffer *head)
{
    qcnn_write_bytes(head, QCNN_MAGIC, QCNN_MAGIC_BYTES);
    qcnn_write_u16(head, QCNN_FORMAT_MAJOR);
    qcnn_write_u16(head, QCNN_FORMAT_MINOR);
    qcnn_write_u32(head, QCNN_HEADER_BYTES);
    qcnn_write_u64(head, plan->file_bytes);
    qcnn_write_u32(head, (uint32_t)plan->n_sections);
    qcnn_write_zeros(head, QCNN_HEADER_BYTES - QCNN_HEADER_RESERVED_AT);
    for (size_t i = 0; i < plan->n_sections; i++) {
        const section_plan *section = &plan->sections[i];
        qcnn_write_u32(head, section->type);
        qcnn_write_u32(head, section->flags);
        qcnn_write_u32(head, QCNN_ENCODING_PLAIN);
        qcnn_write_u32(head, section->tensor);
        qcnn_write_u64(head, section->offset);
        qcnn_write_u64(head, section->n_bytes);
        qcnn_write_u64(head, section->n_bytes);
        qcnn_write_zeros(head, 8);
    }
}

static bool write_container(const container_plan *plan, unsigned char *file)
{
    qcnn_buffer head = { 0 };
    write_head(plan, &head);
    const bool whole = !head.failed;
    if (whole) {
        memcpy(file, head.data, head.n_bytes);
        write_contents(plan, file);
        qcnn_container_repair_checksums(file, (size_t)plan->file_bytes);
    }
    qcnn_release(head.data);
    return whole;
}

static qcnn_status read_back(const void *data, size_t n_bytes, qcnn_error *error)
{
    qcnn_model *model;
    qcnn_error reason = { 0 };
    const qcnn_status status = qcnn_model_load(data, n_bytes, NULL, &model, &reason);
    qcnn_model_free(model);
    return status == QCNN_OK ? status : qcnn_fail(error, status, "the model cannot be saved: %s", reason.message);
}

qcnn_status qcnn_save_memory(const qcnn_model *model, void **data, size_t *n_bytes, qcnn_error *error)
{
    *data = NULL;
    *n_bytes = 0;
    container_plan plan = { .model = model };
    unsigned char *file = NULL;
    if (plan_sections(&plan) && plan_offsets(&plan))
        file = qcnn_allocate_zeroed((size_t)plan.file_bytes, 1);
    qcnn_status status = QCNN_OK;
    if (!file || !write_container(&plan, file))
        status = qcnn_fail_memory(error, (size_t)plan.file_bytes);
    if (status == QCNN_OK)
        status = read_back(file, (size_t)plan.file_bytes, error);
    qcnn_release(plan.sections);
    qcnn_release(plan.graph.data);
    qcnn_release(plan.classes.data);
    if (status != QCNN_OK) {
        qcnn_release(file);
        return status;
    }
    *data = file;
    *n_bytes = (size_t)plan.file_bytes;
    return QCNN_OK;
}

qcnn_status qcnn_save(const qcnn_model *model, const char *path, qcnn_error *error)
{
    void *data;
    size_t n_bytes;
    QCNN_TRY(qcnn_save_memory(model, &data, &n_bytes, error));
    const qcnn_status status = qcnn_write_file(path, data, n_bytes, error);
    qcnn_bytes_free(data);
    return status;
}

void qcnn_bytes_free(void *data)
{
    qcnn_release(data);
}
