// SPDX-License-Identifier: Apache-2.0
// Data sets: folders of images with labels.tsv or without. IDX files are read by idx.c.

#include "image/dataset.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "image/image.h"
#include "image/read_file.h"
#include "image/text_lines.h"

enum { MAX_LABELS_BYTES = 256 << 20, MAX_LABEL = 999999, MAX_PATH_BYTES = 4096 };

// "folder/name", to be released.
static char *join_path(const char *folder, const char *name)
{
    const size_t n = strlen(folder) + strlen(name) + 2;
    char *path = qcnn_allocate(n, 1);
    if (path)
        snprintf(path, n, "%s/%s", folder, name);
    return path;
}

// ---- labels.tsv -----------------------------------------------------------------------------------------------------

// Inside the folder: relative, and no part of it is "..".
static bool stays_inside(const char *path, size_t length)
{
    if (path[0] == '/')
        return false;
    for (size_t begin = 0; begin <= length;) {
        const char *slash = memchr(path + begin, '/', length - begin);
        const size_t end = slash ? (size_t)(slash - path) : length;
        if (end - begin == 2 && memcmp(path + begin, "..", 2) == 0)
            return false;
        begin = end + 1;
    }
    return true;
}

// One line: path, tab, label. Appends the path to the names at *n_names.
static qcnn_status add_line(qcnn_dataset *dataset, const qcnn_lines *lines, size_t *n_names, qcnn_error *error)
{
    const char *line = lines->line, *tab = memchr(line, '\t', lines->length);
    const size_t path_bytes = tab ? (size_t)(tab - line) : 0, label_bytes = tab ? lines->length - path_bytes - 1 : 0;
    if (path_bytes == 0 || label_bytes == 0)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "labels.tsv: line %zu is not \"path<TAB>class index\"", lines->number);
    if (path_bytes > MAX_PATH_BYTES || !qcnn_is_plain_utf8(line, path_bytes))
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "labels.tsv: line %zu: the path is longer than %d bytes or not UTF-8 text",
                         lines->number, MAX_PATH_BYTES);
    if (!stays_inside(line, path_bytes))
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "labels.tsv: line %zu: the path leaves the folder: '%.*s'", lines->number,
                         (int)path_bytes, line);
    int label = 0;
    for (size_t i = 0; i < label_bytes; i++) {
        const char digit = tab[1 + i];
        if (digit < '0' || digit > '9' || (label = label * 10 + (digit - '0')) > MAX_LABEL)
            return qcnn_fail(error, QCNN_ERROR_FORMAT, "labels.tsv: line %zu: the class index '%.*s' is not a number of 0 to %d",
                             lines->number, label_bytes < 20 ? (int)label_bytes : 20, tab + 1, MAX_LABEL);
    }
    dataset->entries[dataset->n_entries++] = (qcnn_dataset_entry){ (uint32_t)*n_names, label };
    memcpy(dataset->names + *n_names, line, path_bytes);
    *n_names += path_bytes;
    dataset->names[(*n_names)++] = 0;
    return QCNN_OK;
}

static qcnn_status add_lines(qcnn_dataset *dataset, const char *text, size_t n_bytes, qcnn_error *error)
{
    qcnn_lines lines = qcnn_lines_of(text, n_bytes);
    while (qcnn_next_line(&lines))
        continue;
    const size_t n_lines = lines.number;
    if (n_lines == 0)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "labels.tsv is empty");
    dataset->entries = qcnn_allocate(n_lines, sizeof *dataset->entries);
    dataset->names = qcnn_allocate(n_bytes, 1); // a path and its zero take less than their line
    if (!dataset->entries || !dataset->names)
        return qcnn_fail_memory(error, n_bytes + n_lines * sizeof *dataset->entries);
    lines = qcnn_lines_of(text, n_bytes);
    size_t n_names = 0;
    while (qcnn_next_line(&lines))
        QCNN_TRY(add_line(dataset, &lines, &n_names, error));
    return QCNN_OK;
}

qcnn_status qcnn_dataset_from_labels(const char *text, size_t n_bytes, const char *folder, qcnn_dataset **dataset, qcnn_error *error)
{
    *dataset = NULL;
    if (n_bytes > MAX_LABELS_BYTES)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "labels.tsv: more than %d bytes", MAX_LABELS_BYTES);
    qcnn_dataset *made = qcnn_allocate_zeroed(1, sizeof *made);
    if (!made)
        return qcnn_fail_memory(error, sizeof *made);
    made->folder = qcnn_copy_text(folder, strlen(folder));
    const qcnn_status status = made->folder ? add_lines(made, text, n_bytes, error) : qcnn_fail_memory(error, strlen(folder));
    if (status != QCNN_OK) {
        qcnn_dataset_free(made);
        return status;
    }
    *dataset = made;
    return QCNN_OK;
}

static qcnn_status open_labels(const char *path, const char *folder, qcnn_dataset **dataset, qcnn_error *error)
{
    uint8_t *text;
    size_t n_bytes;
    QCNN_TRY(qcnn_read_whole_file(path, MAX_LABELS_BYTES, &text, &n_bytes, error));
    qcnn_error inner;
    qcnn_status status = qcnn_dataset_from_labels((const char *)text, n_bytes, folder, dataset, &inner);
    if (status != QCNN_OK)
        status = qcnn_fail(error, status, "%s: %s", folder, inner.message);
    qcnn_release(text);
    return status;
}

// ---- folders without labels -----------------------------------------------------------------------------------------

static bool is_image_name(const char *name)
{
    static const char *const endings[] = { ".jpg", ".jpeg", ".png" };
    const size_t n = strlen(name);
    for (size_t i = 0; i < sizeof endings / sizeof endings[0] && name[0] != '.'; i++) {
        const size_t n_ending = strlen(endings[i]);
        if (n > n_ending && strcasecmp(name + n - n_ending, endings[i]) == 0)
            return true;
    }
    return false;
}

static int compare_texts(const void *a, const void *b)
{
    const char *left, *right;
    memcpy(&left, a, sizeof left);
    memcpy(&right, b, sizeof right);
    return strcmp(left, right);
}

// Names of the images in the folder one after the other, each with its zero.
static qcnn_status list_names(DIR *folder, qcnn_dataset *dataset, size_t *n_bytes, qcnn_error *error)
{
    size_t capacity = 0;
    errno = 0;
    for (const struct dirent *item; (item = readdir(folder));) {
        const size_t n = strlen(item->d_name) + 1;
        if (!is_image_name(item->d_name))
            continue;
        if (*n_bytes + n > INT_MAX || !qcnn_reserve(&dataset->names, &capacity, *n_bytes + n, 1))
            return qcnn_fail_memory(error, *n_bytes + n);
        memcpy(dataset->names + *n_bytes, item->d_name, n);
        *n_bytes += n;
        dataset->n_entries++;
    }
    return errno == 0 ? QCNN_OK : qcnn_fail(error, QCNN_ERROR_IO, "%s: cannot be listed: %s", dataset->folder, strerror(errno));
}

// Entries in the order of names, whatever order the file system has.
static qcnn_status sort_names(qcnn_dataset *dataset, qcnn_error *error)
{
    const size_t n = (size_t)dataset->n_entries;
    const char **sorted = qcnn_allocate(n, sizeof *sorted);
    dataset->entries = qcnn_allocate(n, sizeof *dataset->entries);
    if (!sorted || !dataset->entries) {
        qcnn_release(sorted);
        return qcnn_fail_memory(error, n * sizeof *sorted);
    }
    const char *name = dataset->names;
    for (size_t i = 0; i < n; i++, name += strlen(name) + 1)
        sorted[i] = name;
    qsort(sorted, n, sizeof *sorted, compare_texts);
    for (size_t i = 0; i < n; i++)
        dataset->entries[i] = (qcnn_dataset_entry){ (uint32_t)(sorted[i] - dataset->names), -1 };
    qcnn_release(sorted);
    return QCNN_OK;
}

static qcnn_status fill_from_folder(qcnn_dataset *dataset, const char *path, qcnn_error *error)
{
    dataset->folder = qcnn_copy_text(path, strlen(path));
    if (!dataset->folder)
        return qcnn_fail_memory(error, strlen(path));
    DIR *folder = opendir(path);
    if (!folder)
        return qcnn_fail(error, QCNN_ERROR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    size_t n_bytes = 0;
    const qcnn_status status = list_names(folder, dataset, &n_bytes, error);
    closedir(folder);
    if (status != QCNN_OK)
        return status;
    if (dataset->n_entries == 0)
        return qcnn_fail(error, QCNN_ERROR_FORMAT, "%s: a folder without labels.tsv and without .jpg, .jpeg or .png files", path);
    return sort_names(dataset, error);
}

static qcnn_status open_unlabelled(const char *path, qcnn_dataset **dataset, qcnn_error *error)
{
    qcnn_dataset *made = qcnn_allocate_zeroed(1, sizeof *made);
    if (!made)
        return qcnn_fail_memory(error, sizeof *made);
    const qcnn_status status = fill_from_folder(made, path, error);
    if (status != QCNN_OK) {
        qcnn_dataset_free(made);
        return status;
    }
    *dataset = made;
    return QCNN_OK;
}

// ---- public ---------------------------------------------------------------------------------------------------------

qcnn_status qcnn_dataset_open(const char *path, qcnn_dataset **dataset, qcnn_error *error)
{
    if (!path || !dataset)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "qcnn_dataset_open: a pointer is null");
    *dataset = NULL;
    struct stat info;
    if (stat(path, &info) != 0)
        return qcnn_fail(error, QCNN_ERROR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    if (!S_ISDIR(info.st_mode))
        return qcnn_dataset_open_idx(path, dataset, error);
    char *labels = join_path(path, "labels.tsv");
    if (!labels)
        return qcnn_fail_memory(error, strlen(path));
    const bool labelled = stat(labels, &info) == 0 || errno != ENOENT;
    const qcnn_status status = labelled ? open_labels(labels, path, dataset, error) : open_unlabelled(path, dataset, error);
    qcnn_release(labels);
    return status;
}

void qcnn_dataset_free(qcnn_dataset *dataset)
{
    if (!dataset)
        return;
    qcnn_release(dataset->entries);
    qcnn_release(dataset->names);
    qcnn_release(dataset->folder);
    qcnn_release(dataset->idx_pixels);
    qcnn_release(dataset);
}

static bool in_range(const qcnn_dataset *dataset, int index)
{
    return dataset && index >= 0 && index < dataset->n_entries;
}

int qcnn_dataset_size(const qcnn_dataset *dataset)
{
    return dataset ? dataset->n_entries : 0;
}

int qcnn_dataset_label(const qcnn_dataset *dataset, int index)
{
    return in_range(dataset, index) ? dataset->entries[index].label : -1;
}

const char *qcnn_dataset_name(const qcnn_dataset *dataset, int index)
{
    return in_range(dataset, index) ? dataset->names + dataset->entries[index].name : NULL;
}

static qcnn_status copy_idx_image(const qcnn_dataset *dataset, int index, qcnn_image *image, qcnn_error *error)
{
    const size_t n_bytes = (size_t)dataset->idx_width * (size_t)dataset->idx_height;
    uint8_t *pixels = qcnn_allocate(n_bytes, 1);
    if (!pixels)
        return qcnn_fail_memory(error, n_bytes);
    memcpy(pixels, dataset->idx_pixels + (size_t)index * n_bytes, n_bytes);
    *image = (qcnn_image){ dataset->idx_width, dataset->idx_height, 1, pixels };
    return QCNN_OK;
}

qcnn_status qcnn_dataset_image(const qcnn_dataset *dataset, int index, qcnn_image *image, qcnn_error *error)
{
    if (!image)
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "qcnn_dataset_image: a pointer is null");
    *image = (qcnn_image){ 0 };
    if (!in_range(dataset, index))
        return qcnn_fail(error, QCNN_ERROR_ARGUMENT, "qcnn_dataset_image: index %d is out of range", index);
    if (dataset->idx_pixels)
        return copy_idx_image(dataset, index, image, error);
    char *path = join_path(dataset->folder, qcnn_dataset_name(dataset, index));
    if (!path)
        return qcnn_fail_memory(error, strlen(dataset->folder));
    const qcnn_status status = qcnn_image_read(path, image, error);
    qcnn_release(path);
    return status;
}
