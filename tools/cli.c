// SPDX-License-Identifier: Apache-2.0
// Messages, text, clocks and files of the command line.

#include "cli.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

// ---- messages -------------------------------------------------------------------------------------------------------

void cli_one_line(char *text)
{
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
}

static void print_message(const char *format, va_list arguments)
{
    char message[1024];
    vsnprintf(message, sizeof message, format, arguments);
    cli_one_line(message);
    fprintf(stderr, "qcnn: %s\n", message);
}

int cli_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_message(format, arguments);
    va_end(arguments);
    return CLI_FAILED;
}

int cli_fail_at(const char *path, const qcnn_error *error)
{
    const bool named = path && !strncmp(error->message, path, strlen(path));
    return named || !path ? cli_fail("%s", error->message) : cli_fail("%s: %s", path, error->message);
}

void cli_note(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_message(format, arguments);
    va_end(arguments);
}

int cli_finish(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return CLI_DONE;
    return cli_fail("standard output could not be written: %s", strerror(errno));
}

// ---- text -----------------------------------------------------------------------------------------------------------

// Bytes of the UTF-8 character at `text`; 0 when it is not one (overlong, surrogate, cut short, above U+10FFFF).
static int utf8_length(const unsigned char *text)
{
    if (text[0] < 0x80)
        return 1;
    const int n = text[0] >= 0xf0 && text[0] <= 0xf4  ? 4
                  : text[0] >= 0xe0 && text[0] < 0xf0 ? 3
                  : text[0] >= 0xc2 && text[0] < 0xe0 ? 2
                                                      : 0;
    for (int i = 1; i < n; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    const unsigned start = text[0] << 8 | text[1];
    const bool forbidden =
        (n == 3 && (start < 0xe0a0 || (start >= 0xeda0 && start < 0xee80))) || (n == 4 && (start < 0xf090 || start > 0xf48f));
    return forbidden ? 0 : n;
}

char *cli_utf8(const char *text)
{
    const unsigned char *in = (const unsigned char *)(text ? text : "");
    char *clean = cli_allocate(3 * strlen((const char *)in) + 1, 1), *out = clean;
    while (*in) {
        const int n = utf8_length(in);
        memcpy(out, n ? (const char *)in : "\xef\xbf\xbd", n ? (size_t)n : 3);
        out += n ? n : 3;
        in += n ? n : 1;
    }
    return clean;
}

// ---- memory, clocks -------------------------------------------------------------------------------------------------

void *cli_allocate(size_t n, size_t size)
{
    void *memory = calloc(n ? n : 1, size ? size : 1);
    if (!memory)
        exit(cli_fail("out of memory: %zu x %zu bytes could not be allocated", n, size));
    return memory;
}

double cli_clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
}

// getrusage also counts what the parent had before exec, so a large parent (a Python script) would hide our peak: the kernel's
// figure for this program alone comes first.
uint64_t cli_peak_rss_bytes(void)
{
    unsigned long long kilobytes = 0;
    FILE *status = fopen("/proc/self/status", "r");
    for (char line[256]; status && fgets(line, sizeof line, status);)
        if (sscanf(line, "VmHWM: %llu kB", &kilobytes) == 1)
            break;
    if (status)
        fclose(status);
    if (!kilobytes) {
        struct rusage usage;
        kilobytes = getrusage(RUSAGE_SELF, &usage) == 0 ? (unsigned long long)usage.ru_maxrss : 0;
    }
    return 1024 * kilobytes;
}

int cli_compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// ---- files ----------------------------------------------------------------------------------------------------------

char *cli_read_file(const char *path, size_t limit, size_t *n_bytes)
{
    struct stat info;
    FILE *file = fopen(path, "rb");
    if (!file || fstat(fileno(file), &info)) {
        cli_fail("%s: it cannot be read: %s", path, strerror(errno));
        if (file)
            fclose(file);
        return NULL;
    }
    char *text = NULL;
    if (!S_ISREG(info.st_mode))
        cli_fail("%s: it is not a regular file", path);
    else if ((uint64_t)info.st_size > limit)
        cli_fail("%s: it has %lld bytes, more than the %zu that such a file may have", path, (long long)info.st_size, limit);
    else {
        text = cli_allocate((size_t)info.st_size + 1, 1);
        *n_bytes = fread(text, 1, (size_t)info.st_size, file);
        text[*n_bytes] = 0;
        if (ferror(file)) {
            cli_fail("%s: it cannot be read: %s", path, strerror(errno));
            free(text);
            text = NULL;
        }
    }
    fclose(file);
    return text;
}

// Calls `visit` with the file or files of a model's path: itself, or where no such file exists the parts around its commas.
static void for_model_files(const char *path, void (*visit)(const char *file, const struct stat *info, void *context), void *context)
{
    struct stat info;
    if (stat(path, &info) == 0) {
        visit(path, &info, context);
        return;
    }
    while (*path) {
        char part[PATH_MAX];
        const size_t n = strcspn(path, ",");
        snprintf(part, sizeof part, "%.*s", (int)(n < sizeof part ? n : sizeof part - 1), path);
        if (stat(part, &info) == 0)
            visit(part, &info, context);
        path += n + (path[n] == ',');
    }
}

static void add_size(const char *file, const struct stat *info, void *context)
{
    (void)file;
    *(uint64_t *)context += (uint64_t)info->st_size;
}

uint64_t cli_model_file_bytes(const char *path)
{
    uint64_t total = 0;
    for_model_files(path, add_size, &total);
    return total;
}

typedef struct same_file {
    struct stat target;
    bool found;
} same_file;

static void compare_file(const char *file, const struct stat *info, void *context)
{
    (void)file;
    same_file *same = context;
    same->found |= info->st_dev == same->target.st_dev && info->st_ino == same->target.st_ino;
}

bool cli_can_write(const char *path, const char *model_path)
{
    same_file same = { .found = false };
    if (stat(path, &same.target) == 0) {
        for_model_files(model_path, compare_file, &same);
        if (same.found) {
            cli_fail("%s: it is the model to be read; name another file to write", path);
            return false;
        }
        if (S_ISDIR(same.target.st_mode)) {
            cli_fail("%s: it is a folder; name a file to write", path);
            return false;
        }
    }
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
    if (access(folder, W_OK) == 0)
        return true;
    cli_fail("%s: nothing can be written to its folder: %s", path, strerror(errno));
    return false;
}
