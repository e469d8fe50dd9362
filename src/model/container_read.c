// SPDX-License-Identifier: Apache-2.0
// Reading a .qcnn file from memory (docs/format.md). Trusts nothing: first the frame (header, section table, padding, CRCs),
// then the graph, the texts, and every tensor's sections (container_tensors.c).

#include <string.h>

#include "base/checked.h"
#include "model/container_reader.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "float32 data is used in place: the processor must be little-endian");

// ---- the frame ------------------------------------------------------------------------------------------------------

static container_section section_at(const container *file, uint32_t index)
{
    qcnn_cursor cursor = { .next = file->bytes + QCNN_HEADER_BYTES + (size_t)index * QCNN_ENTRY_BYTES, .n_left = QCNN_ENTRY_BYTES };
    container_section section = { .index = index };
    for (int i = 0; i < 4; i++) {
        const unsigned char c = cursor.next[i];
        section.name[i] = c > 0x20 && c < 0x7f ? (char)c : '?';
    }
    section.type = qcnn_read_u32(&cursor);
    section.flags = qcnn_read_u32(&cursor);
    section.encoding = qcnn_read_u32(&cursor);
    section.tensor = qcnn_read_u32(&cursor);
    section.offset = qcnn_read_u64(&cursor);
    section.stored_bytes = qcnn_read_u64(&cursor);
    section.decoded_bytes = qcnn_read_u64(&cursor);
    section.crc = qcnn_read_u32(&cursor);
    return section;
}

static qcnn_status check_header(container *file)
{
    const size_t n_reserved = QCNN_HEADER_CRC_AT - QCNN_HEADER_RESERVED_AT;
    qcnn_cursor cursor = { .next = file->bytes, .n_left = file->n_bytes };
    const unsigned char *magic = qcnn_read_bytes(&cursor, QCNN_MAGIC_BYTES);
    if (!magic || memcmp(magic, QCNN_MAGIC, QCNN_MAGIC_BYTES))
        return REFUSE(file, "not a .qcnn file: it does not begin with the magic bytes");
    if (file->n_bytes < QCNN_HEADER_BYTES)
        return REFUSE(file, "the file is cut off: %zu bytes are less than its header", file->n_bytes);
    const unsigned major = qcnn_read_u16(&cursor);
    qcnn_read_u16(&cursor); // minor: newer ones only add sections that may be skipped
    if (major != QCNN_FORMAT_MAJOR)
        return qcnn_fail(file->error, QCNN_ERROR_UNSUPPORTED, "format version %u is not known here (only %d): a newer qcnn is needed",
                         major, QCNN_FORMAT_MAJOR);
    if (qcnn_read_u32(&cursor) != QCNN_HEADER_BYTES)
        return REFUSE(file, "the header's length is not %d", QCNN_HEADER_BYTES);
    const uint64_t length = qcnn_read_u64(&cursor);
    if (length != file->n_bytes)
        return REFUSE(file, "the header says %llu bytes but there are %zu: cut off or extended", (unsigned long long)length, file->n_bytes);
    file->n_sections = qcnn_read_u32(&cursor);
    if (file->n_sections > QCNN_MAX_SECTIONS || file->n_sections > (file->n_bytes - QCNN_HEADER_BYTES) / QCNN_ENTRY_BYTES)
        return REFUSE(file, "%u sections are more than allowed or than the file can hold", file->n_sections);
    if (!qcnn_bytes_are_zero(qcnn_read_bytes(&cursor, n_reserved), n_reserved))
        return REFUSE(file, "reserved bytes of the header are not zero");
    const uint32_t stored = qcnn_read_u32(&cursor);
    uint32_t crc = qcnn_crc32(&file->crc, 0, file->bytes, QCNN_HEADER_CRC_AT);
    crc = qcnn_crc32(&file->crc, crc, cursor.next, (size_t)file->n_sections * QCNN_ENTRY_BYTES);
    if (crc != stored)
        return REFUSE(file, "the checksum of header and section table does not match: the file is damaged");
    return QCNN_OK;
}

// That a section follows the one that ends at *end, after zeros up to the next multiple of 64; moves *end behind it.
static qcnn_status check_section(const container *file, const container_section *section, uint64_t *end)
{
    const unsigned char *entry = file->bytes + QCNN_HEADER_BYTES + (size_t)section->index * QCNN_ENTRY_BYTES;
    uint64_t start, next;
    if (!qcnn_round_up(*end, QCNN_ALIGNMENT, &start) || section->offset != start)
        return REFUSE_SECTION(file, section, "it does not begin at the next multiple of %d", QCNN_ALIGNMENT);
    if (!qcnn_add(start, section->stored_bytes, &next) || next > file->n_bytes)
        return REFUSE_SECTION(file, section, "it reaches beyond the end of the file");
    if (!qcnn_bytes_are_zero(file->bytes + *end, (size_t)(start - *end)))
        return REFUSE_SECTION(file, section, "the padding before it is not zero");
    if (section->flags & ~QCNN_FLAG_REQUIRED)
        return REFUSE_SECTION(file, section, "it has unknown flags");
    if (!qcnn_bytes_are_zero(entry + QCNN_ENTRY_RESERVED_AT, QCNN_ENTRY_BYTES - QCNN_ENTRY_RESERVED_AT))
        return REFUSE_SECTION(file, section, "reserved bytes of its entry are not zero");
    if (qcnn_crc32(&file->crc, 0, file->bytes + start, (size_t)section->stored_bytes) != section->crc)
        return REFUSE_SECTION(file, section, "its checksum does not match: the file is damaged");
    *end = next;
    return QCNN_OK;
}

static qcnn_status check_frame(container *file)
{
    QCNN_TRY(check_header(file));
    uint64_t end = QCNN_HEADER_BYTES + (uint64_t)file->n_sections * QCNN_ENTRY_BYTES, length;
    for (uint32_t i = 0; i < file->n_sections; i++) {
        const container_section section = section_at(file, i);
        QCNN_TRY(check_section(file, &section, &end));
    }
    if (!qcnn_round_up(end, QCNN_ALIGNMENT, &length) || length != file->n_bytes)
        return REFUSE(file, "the sections do not cover the file: they end at byte %llu", (unsigned long long)end);
    if (!qcnn_bytes_are_zero(file->bytes + end, (size_t)(length - end)))
        return REFUSE(file, "the padding at the end of the file is not zero");
    return QCNN_OK;
}

// ---- texts ----------------------------------------------------------------------------------------------------------

static qcnn_status read_preprocessing(container *file, const container_section *section)
{
    const unsigned char *text = file->bytes + section->offset;
    if (section->stored_bytes > QCNN_MAX_TEXT_BYTES || !qcnn_bytes_are_text(text, (size_t)section->stored_bytes, true))
        return REFUSE_SECTION(file, section, "it is too long, or not UTF-8 text");
    return qcnn_model_set_preprocessing(file->model, (const char *)text, (size_t)section->stored_bytes, file->error);
}

// Names, each ended by a line feed.
static qcnn_status read_classes(container *file, const container_section *section)
{
    const unsigned char *text = file->bytes + section->offset;
    size_t n_left = (size_t)section->stored_bytes;
    if (n_left > QCNN_MAX_TEXT_BYTES)
        return REFUSE_SECTION(file, section, "it is too long");
    while (n_left > 0) {
        const unsigned char *end = memchr(text, '\n', n_left);
        const size_t n = end ? (size_t)(end - text) : 0;
        if (!end || n > QCNN_MAX_NAME || file->model->n_classes >= QCNN_MAX_CLASSES || !qcnn_bytes_are_text(text, n, false))
            return REFUSE_SECTION(file, section, "class %zu is cut off, one too many, too long, or not UTF-8 text", file->model->n_classes);
        QCNN_TRY(qcnn_model_add_class(file->model, (const char *)text, n, file->error));
        text += n + 1;
        n_left -= n + 1;
    }
    return QCNN_OK;
}

// ---- sections -------------------------------------------------------------------------------------------------------

typedef struct section_kind {
    uint32_t type, flags;
    bool of_tensor;
    int rank; // known sections come in this order; those of tensors by tensor first
} section_kind;

static const section_kind section_kinds[] = {
    { QCNN_SECTION_GRAPH, QCNN_FLAG_REQUIRED, false, 0 },
    { QCNN_SECTION_PREPROCESSING, 0, false, 1 },
    { QCNN_SECTION_CLASSES, 0, false, 2 },
    { QCNN_SECTION_RANGES, 0, false, 3 },
    { QCNN_SECTION_DATA, QCNN_FLAG_REQUIRED, true, 4 },
    { QCNN_SECTION_CODEWORDS, QCNN_FLAG_REQUIRED, true, 4 },
    { QCNN_SECTION_ASSIGNMENTS, QCNN_FLAG_REQUIRED, true, 5 },
};

static const section_kind *kind_of(uint32_t type)
{
    for (size_t i = 0; i < sizeof section_kinds / sizeof *section_kinds; i++)
        if (section_kinds[i].type == type)
            return &section_kinds[i];
    return NULL;
}

static qcnn_status read_section(container *file, const container_section *section)
{
    if (section->type == QCNN_SECTION_GRAPH)
        return qcnn_read_graph(file->bytes + section->offset, (size_t)section->stored_bytes, file->model, file->error);
    if (section->type == QCNN_SECTION_PREPROCESSING)
        return read_preprocessing(file, section);
    if (section->type == QCNN_SECTION_CLASSES)
        return read_classes(file, section);
    if (section->type == QCNN_SECTION_RANGES)
        return qcnn_read_ranges(file, section);
    return qcnn_read_tensor_section(file, section);
}

static qcnn_status read_sections(container *file)
{
    int64_t before = -1; // where the last known section stands in the order of all
    for (uint32_t i = 0; i < file->n_sections; i++) {
        const container_section section = section_at(file, i);
        const section_kind *kind = kind_of(section.type);
        if (!kind && (section.flags & QCNN_FLAG_REQUIRED))
            return qcnn_fail(file->error, QCNN_ERROR_UNSUPPORTED, "section %u (%s) is required but not known here: a newer qcnn is needed",
                             i, section.name);
        if (!kind)
            continue;
        if (section.flags != kind->flags || kind->of_tensor != (section.tensor != QCNN_NO_INDEX))
            return REFUSE_SECTION(file, &section, "wrong flags or tensor");
        if (section.encoding != QCNN_ENCODING_PLAIN && !(section.encoding == QCNN_ENCODING_RANS && kind->of_tensor))
            return qcnn_fail(file->error, QCNN_ERROR_UNSUPPORTED, "section %u (%s) has unknown encoding %u: a newer qcnn is needed", i,
                             section.name, section.encoding);
        if (section.encoding == QCNN_ENCODING_PLAIN && section.decoded_bytes != section.stored_bytes)
            return REFUSE_SECTION(file, &section, "a plain section must decode to its own size");
        const int64_t place = kind->rank + (kind->of_tensor ? 2 * (int64_t)section.tensor : 0);
        if (place <= before || (before < 0 && place > 0))
            return REFUSE_SECTION(file, &section, "out of order, or there twice (the order is GRPH, PREP, CLAS, RANG, then the tensors')");
        before = place;
        QCNN_TRY(read_section(file, &section));
    }
    if (before < 0)
        return REFUSE(file, "there is no GRPH section");
    for (size_t i = 0; i < file->model->n_tensors; i++) {
        const qcnn_tensor *tensor = &file->model->tensors[i];
        if (!tensor->data && !(tensor->codebook.codewords && tensor->codebook.assignments))
            return REFUSE(file, "a section of tensor %zu is missing", i);
    }
    return QCNN_OK;
}

// ---- loading --------------------------------------------------------------------------------------------------------

static void release_copy(void *file, size_t n_bytes)
{
    (void)n_bytes;
    qcnn_release(file);
}

static qcnn_status load_into(qcnn_model *model, const void *data, size_t n_bytes, const qcnn_load_options *options, qcnn_error *error)
{
    if (options->copy || (uintptr_t)data % QCNN_ALIGNMENT) {
        void *copy = qcnn_allocate(n_bytes, 1);
        if (!copy)
            return qcnn_fail_memory(error, n_bytes);
        if (n_bytes > 0)
            memcpy(copy, data, n_bytes);
        model->file = copy;
        model->file_bytes = n_bytes;
        model->release_file = release_copy;
        data = copy;
    }
    container file = { .bytes = data, .n_bytes = n_bytes, .model = model, .error = error };
    qcnn_crc32_init(&file.crc);
    QCNN_TRY(check_frame(&file));
    QCNN_TRY(read_sections(&file));
    model->exact = options->exact != 0;
    model->run_only = options->run_only != 0;
    return qcnn_model_prepare(model, options->kernels, error);
}

qcnn_load_options qcnn_load_options_default(void)
{
    return (qcnn_load_options){ .size = sizeof(qcnn_load_options) };
}

qcnn_status qcnn_model_load(const void *data, size_t n_bytes, const qcnn_load_options *options, qcnn_model **model, qcnn_error *error)
{
    const qcnn_load_options defaults = qcnn_load_options_default();
    *model = NULL;
    if (!data && n_bytes > 0)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "no data to load a model from");
    if (options && options->size < sizeof *options)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "load options were not made by qcnn_load_options_default");
    QCNN_TRY(qcnn_model_new(model, error));
    const qcnn_status status = load_into(*model, data, n_bytes, options ? options : &defaults, error);
    if (status != QCNN_OK) {
        qcnn_model_free(*model);
        *model = NULL;
    }
    return status;
}
