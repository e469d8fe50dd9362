// SPDX-License-Identifier: Apache-2.0
// Writing a .qcnn file (docs/format.md). The same model always gives the same bytes. What was written is read back before it
// is handed out, so that nothing leaves here that the reader would refuse.

#include <string.h>

#include "base/checked.h"
#include "base/crc32.h"
#include "coding/encode.h"
#include "qcnn_compress.h"

// A section, in file order.
typedef struct section_plan {
    uint32_t type, flags, tensor;
    qcnn_content content;
    uint64_t offset;
} section_plan;

typedef struct container_plan {
    const qcnn_model *model;
    qcnn_buffer graph, classes, ranges;
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

static uint32_t storage_of(const qcnn_tensor *tensor)
{
    static const uint32_t of_data[] = { QCNN_STORAGE_FLOAT32, QCNN_STORAGE_FLOAT16, QCNN_STORAGE_INT8 };
    return qcnn_is_codebook(tensor) ? QCNN_STORAGE_CODEBOOK : of_data[tensor->data_type];
}

static void write_tensor(qcnn_buffer *buffer, const qcnn_tensor *tensor)
{
    const qcnn_codebook *book = &tensor->codebook;
    qcnn_write_u32(buffer, storage_of(tensor));
    qcnn_write_f32(buffer, tensor->error >= 0 && tensor->error <= 1e30f ? tensor->error : -1);
    write_shape(buffer, &tensor->shape);
    if (!qcnn_is_codebook(tensor))
        return;
    qcnn_write_u32(buffer, book->codeword_type);
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

// ---- what calibration found -----------------------------------------------------------------------------------------

static void write_ranges(qcnn_buffer *buffer, const qcnn_model *model)
{
    uint32_t n_ranges = 0, n_peaks = 0;
    for (size_t i = 0; i < model->n_values; i++)
        n_ranges += model->values[i].low < model->values[i].high;
    for (size_t i = 0; i < model->n_tensors; i++)
        n_peaks += model->tensors[i].codebook.peaks != NULL;
    qcnn_write_u32(buffer, n_ranges);
    qcnn_write_u32(buffer, n_peaks);
    for (size_t i = 0; i < model->n_values; i++) {
        const qcnn_value *value = &model->values[i];
        if (value->low < value->high) {
            qcnn_write_u32(buffer, (uint32_t)i);
            qcnn_write_f32(buffer, value->low);
            qcnn_write_f32(buffer, value->high);
        }
    }
    for (size_t i = 0; i < model->n_tensors; i++) {
        const qcnn_codebook *book = &model->tensors[i].codebook;
        if (book->peaks) {
            qcnn_write_u32(buffer, (uint32_t)i);
            qcnn_write_bytes(buffer, book->peaks, (size_t)book->groups * (size_t)book->n_subspaces * sizeof *book->peaks);
        }
    }
}

// ---- the plan -------------------------------------------------------------------------------------------------------

// Takes the content over, in success and failure alike.
static qcnn_status plan_section(container_plan *plan, uint32_t type, uint32_t flags, uint32_t tensor, qcnn_content content,
                                qcnn_error *error)
{
    if (!qcnn_reserve(&plan->sections, &plan->capacity, plan->n_sections + 1, sizeof *plan->sections)) {
        qcnn_release(content.owned);
        return qcnn_fail_memory(error, (plan->n_sections + 1) * sizeof *plan->sections);
    }
    plan->sections[plan->n_sections++] = (section_plan){ .type = type, .flags = flags, .tensor = tensor, .content = content };
    return QCNN_OK;
}

static qcnn_status plan_encoded(container_plan *plan, uint32_t type, uint32_t index, qcnn_error *error)
{
    qcnn_content content;
    qcnn_error reason = { 0 };
    const qcnn_status status = qcnn_encode(type, &plan->model->tensors[index], false, &content, &reason);
    if (status == QCNN_OK)
        return plan_section(plan, type, QCNN_FLAG_REQUIRED, index, content, error);
    return qcnn_fail(error, status, "the model cannot be saved: tensor %u: %s", index, reason.message);
}

static qcnn_content plain_content(const void *bytes, size_t n_bytes)
{
    return (qcnn_content){ .bytes = bytes, .n_bytes = n_bytes, .decoded_bytes = n_bytes, .encoding = QCNN_ENCODING_PLAIN };
}

static qcnn_status plan_texts(container_plan *plan, qcnn_error *error)
{
    const qcnn_model *model = plan->model;
    for (size_t i = 0; i < model->n_classes; i++) {
        qcnn_write_bytes(&plan->classes, model->classes[i], strlen(model->classes[i]));
        qcnn_write_u8(&plan->classes, '\n');
    }
    if (plan->classes.failed)
        return qcnn_fail_memory(error, plan->classes.n_bytes);
    if (model->preprocessing) {
        const qcnn_content text = plain_content(model->preprocessing, strlen(model->preprocessing));
        QCNN_TRY(plan_section(plan, QCNN_SECTION_PREPROCESSING, 0, QCNN_NO_INDEX, text, error));
    }
    if (model->n_classes > 0) {
        const qcnn_content text = plain_content(plan->classes.data, plan->classes.n_bytes);
        QCNN_TRY(plan_section(plan, QCNN_SECTION_CLASSES, 0, QCNN_NO_INDEX, text, error));
    }
    return QCNN_OK;
}

static qcnn_status plan_ranges(container_plan *plan, qcnn_error *error)
{
    if (!qcnn_model_has_ranges(plan->model))
        return QCNN_OK;
    write_ranges(&plan->ranges, plan->model);
    if (plan->ranges.failed)
        return qcnn_fail_memory(error, plan->ranges.n_bytes);
    const qcnn_content content = plain_content(plan->ranges.data, plan->ranges.n_bytes);
    return plan_section(plan, QCNN_SECTION_RANGES, 0, QCNN_NO_INDEX, content, error);
}

static qcnn_status plan_sections(container_plan *plan, qcnn_error *error)
{
    const qcnn_model *model = plan->model;
    write_graph(&plan->graph, model);
    if (plan->graph.failed)
        return qcnn_fail_memory(error, plan->graph.n_bytes);
    const qcnn_content graph = plain_content(plan->graph.data, plan->graph.n_bytes);
    QCNN_TRY(plan_section(plan, QCNN_SECTION_GRAPH, QCNN_FLAG_REQUIRED, QCNN_NO_INDEX, graph, error));
    QCNN_TRY(plan_texts(plan, error));
    QCNN_TRY(plan_ranges(plan, error));
    for (size_t i = 0; i < model->n_tensors; i++) {
        const bool codebook = qcnn_is_codebook(&model->tensors[i]);
        QCNN_TRY(plan_encoded(plan, codebook ? QCNN_SECTION_CODEWORDS : QCNN_SECTION_DATA, (uint32_t)i, error));
        if (codebook)
            QCNN_TRY(plan_encoded(plan, QCNN_SECTION_ASSIGNMENTS, (uint32_t)i, error));
    }
    return QCNN_OK;
}

static bool plan_offsets(container_plan *plan)
{
    uint64_t end = QCNN_HEADER_BYTES + plan->n_sections * QCNN_ENTRY_BYTES;
    for (size_t i = 0; i < plan->n_sections; i++) {
        section_plan *section = &plan->sections[i];
        if (!qcnn_round_up(end, QCNN_ALIGNMENT, &section->offset) || !qcnn_add(section->offset, section->content.n_bytes, &end))
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
        if (section->content.n_bytes > 0)
            memcpy(file + section->offset, section->content.bytes, (size_t)section->content.n_bytes);
    }
}

// Header and section table, without checksums.
static void write_head(const container_plan *plan, qcnn_buffer *head)
{
    qcnn_write_bytes(head, QCNN_MAGIC, QCNN_MAGIC_BYTES);
    qcnn_write_u16(head, QCNN_FORMAT_MAJOR);
    qcnn_write_u16(head, plan->ranges.n_bytes > 0 ? QCNN_FORMAT_MINOR : 0);
    qcnn_write_u32(head, QCNN_HEADER_BYTES);
    qcnn_write_u64(head, plan->file_bytes);
    qcnn_write_u32(head, (uint32_t)plan->n_sections);
    qcnn_write_zeros(head, QCNN_HEADER_BYTES - QCNN_HEADER_RESERVED_AT);
    for (size_t i = 0; i < plan->n_sections; i++) {
        const section_plan *section = &plan->sections[i];
        qcnn_write_u32(head, section->type);
        qcnn_write_u32(head, section->flags);
        qcnn_write_u32(head, section->content.encoding);
        qcnn_write_u32(head, section->tensor);
        qcnn_write_u64(head, section->offset);
        qcnn_write_u64(head, section->content.n_bytes);
        qcnn_write_u64(head, section->content.decoded_bytes);
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

static void clear_plan(container_plan *plan)
{
    for (size_t i = 0; i < plan->n_sections; i++)
        qcnn_release(plan->sections[i].content.owned);
    qcnn_release(plan->sections);
    qcnn_release(plan->graph.data);
    qcnn_release(plan->classes.data);
    qcnn_release(plan->ranges.data);
    *plan = (container_plan){ .model = plan->model };
}

static bool file_unfolds_too_far(const container_plan *plan)
{
    uint64_t unfolded = 0;
    for (size_t i = 0; i < plan->model->n_tensors; i++)
        unfolded += qcnn_tensor_unfolded(&plan->model->tensors[i]);
    return qcnn_unfolds_too_far(unfolded, plan->file_bytes);
}

// The coded section that saved least; NULL: none is coded.
static section_plan *least_saving(container_plan *plan)
{
    section_plan *least = NULL;
    for (size_t i = 0; i < plan->n_sections; i++) {
        const qcnn_content *content = &plan->sections[i].content;
        if (content->encoding != QCNN_ENCODING_PLAIN &&
            (!least || content->decoded_bytes - content->n_bytes < least->content.decoded_bytes - least->content.n_bytes))
            least = &plan->sections[i];
    }
    return least;
}

// Entropy-coded where that saves enough, unless the file would become so small that no reader may unfold it: then as many sections stay
// plain as are needed, those first that lose least by it.
static qcnn_status plan_file(container_plan *plan, qcnn_error *error)
{
    QCNN_TRY(plan_sections(plan, error));
    for (;;) {
        if (!plan_offsets(plan))
            return qcnn_fail_memory(error, SIZE_MAX);
        section_plan *section = file_unfolds_too_far(plan) ? least_saving(plan) : NULL;
        if (!section)
            return QCNN_OK;
        qcnn_release(section->content.owned);
        QCNN_TRY(qcnn_encode(section->type, &plan->model->tensors[section->tensor], true, &section->content, error));
    }
}

static qcnn_status make_file(container_plan *plan, unsigned char **file, qcnn_error *error)
{
    QCNN_TRY(plan_file(plan, error));
    *file = qcnn_allocate_zeroed((size_t)plan->file_bytes, 1);
    if (!*file || !write_container(plan, *file))
        return qcnn_fail_memory(error, (size_t)plan->file_bytes);
    return read_back(*file, (size_t)plan->file_bytes, error);
}

qcnn_status qcnn_save_memory(const qcnn_model *model, void **data, size_t *n_bytes, qcnn_error *error)
{
    *data = NULL;
    *n_bytes = 0;
    QCNN_TRY(qcnn_model_require_weights(model, error));
    container_plan plan = { .model = model };
    unsigned char *file = NULL;
    const qcnn_status status = make_file(&plan, &file, error);
    if (status == QCNN_OK) {
        *data = file;
        *n_bytes = (size_t)plan.file_bytes;
    } else {
        qcnn_release(file);
    }
    clear_plan(&plan);
    return status;
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
