// SPDX-License-Identifier: Apache-2.0
// Guarded buffers, comparisons and timing of the kernel tester.

#include "check.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if !defined(__wasi__)
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

enum { MAX_MESSAGES = 20 };

static char running[400]; // the kernel, tier and shape in hand, for whoever fails or faults

// ---- random choices -------------------------------------------------------------------------------------------------

int check_below(checker *check, int n)
{
    return (int)qcnn_rng_below(&check->rng, (uint32_t)n);
}

int check_near(checker *check, int tile)
{
    const int choices[] = { 1, tile - 1, tile, tile + 1, 2 * tile - 1, 2 * tile, 2 * tile + 1, 1 + check_below(check, 4 * tile) };
    const int size = choices[check_below(check, 8)];
    return size < 1 ? 1 : size;
}

void check_shape(checker *check, const char *format, ...)
{
    const int n = snprintf(running, sizeof running, "%s of tier %s, ", check->kernel, check->tier->name);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(running + n, sizeof running - (size_t)n, format, arguments);
    va_end(arguments);
}

// ---- buffers --------------------------------------------------------------------------------------------------------

#if !defined(__wasi__)

static unsigned char *slots[CHECK_SLOTS];

static void say(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) < 0)
        _exit(3);
}

static void fault(int number)
{
    say("FAULT: ");
    say(number == SIGILL ? "instruction this processor lacks: " : "memory outside the buffers: ");
    say(running);
    say("\n");
    _exit(1);
}

// Each slot: a page without access, CHECK_SLOT_BYTES, a page without access.
void check_start(void)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < CHECK_SLOTS; i++) {
        unsigned char *all = mmap(NULL, CHECK_SLOT_BYTES + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (all == MAP_FAILED || mprotect(all + page, CHECK_SLOT_BYTES, PROT_READ | PROT_WRITE)) {
            perror("guard pages");
            exit(3);
        }
        slots[i] = all + page;
    }
    const int signals[] = { SIGSEGV, SIGBUS, SIGILL };
    for (int i = 0; i < 3; i++)
        sigaction(signals[i], &(struct sigaction){ .sa_handler = fault }, NULL);
}

void *check_place(checker *check, int slot, size_t bytes)
{
    if (bytes > CHECK_SLOT_BYTES - 2 * CHECK_MARGIN) {
        fprintf(stderr, "%s: a slot holds no %zu bytes\n", running, bytes);
        exit(3);
    }
    const size_t inside = check->no_guards ? CHECK_MARGIN : 0;
    return slots[slot] + (check_below(check, 4) ? CHECK_SLOT_BYTES - bytes - inside : inside); // faults at the end are likelier
}

bool check_surroundings(checker *check)
{
    (void)check;
    return true;
}

#else

enum { MARK = 0xA5 };

static unsigned char slots[CHECK_SLOTS][CHECK_SLOT_BYTES + 2 * CHECK_MARGIN];
static size_t slot_begin[CHECK_SLOTS], slot_bytes[CHECK_SLOTS];

void check_start(void)
{
}

void *check_place(checker *check, int slot, size_t bytes)
{
    const size_t begin = CHECK_MARGIN + (check_below(check, 4) ? (64 - bytes % 64) % 64 : 0);
    if (begin + bytes + CHECK_MARGIN > sizeof *slots) {
        fprintf(stderr, "%s: a slot holds no %zu bytes\n", running, bytes);
        exit(3);
    }
    slot_begin[slot] = begin;
    slot_bytes[slot] = bytes;
    memset(slots[slot] + begin - CHECK_MARGIN, MARK, CHECK_MARGIN);
    memset(slots[slot] + begin + bytes, MARK, CHECK_MARGIN);
    return slots[slot] + begin;
}

bool check_surroundings(checker *check)
{
    for (int i = 0; i < CHECK_SLOTS; i++)
        for (size_t j = 0; slot_begin[i] && j < CHECK_MARGIN; j++)
            if (slots[i][slot_begin[i] - 1 - j] != MARK || slots[i][slot_begin[i] + slot_bytes[i] + j] != MARK) {
                check_fail(check, "wrote outside buffer %d", i);
                return false;
            }
    return true;
}

#endif

float *check_floats(checker *check, int slot, size_t n)
{
    float *values = check_place(check, slot, n * sizeof *values);
    for (size_t i = 0; i < n; i++)
        values[i] = (float)(2 * qcnn_rng_unit(&check->rng) - 1);
    return values;
}

uint8_t *check_bytes(checker *check, int slot, size_t n, int limit)
{
    uint8_t *values = check_place(check, slot, n);
    for (size_t i = 0; i < n; i++)
        values[i] = (uint8_t)check_below(check, limit);
    return values;
}

void *check_copy(checker *check, int slot, const void *from, size_t bytes)
{
    return memcpy(check_place(check, slot, bytes), from, bytes);
}

// ---- verdicts -------------------------------------------------------------------------------------------------------

void check_fail(checker *check, const char *format, ...)
{
    if (check->failures++ >= MAX_MESSAGES)
        return;
    fprintf(stderr, "FAIL: %s: ", running);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

bool check_same(checker *check, const void *expected, const void *got, size_t bytes)
{
    const unsigned char *a = expected, *b = got;
    for (size_t i = 0; i < bytes; i++)
        if (a[i] != b[i]) {
            check_fail(check, "byte %zu of %zu is %02x, expected %02x", i, bytes, b[i], a[i]);
            return false;
        }
    return check_surroundings(check);
}

bool check_close(checker *check, const double *expected, const double *magnitude, const float *got, size_t n, double bound)
{
    for (size_t i = 0; i < n; i++) {
        const double allowed = bound * fabs(magnitude ? magnitude[i] : expected[i]);
        const double value = got[i];
        const bool fine = isnan(expected[i]) ? isnan(value) : value == expected[i] || fabs(value - expected[i]) <= allowed;
        if (!fine) {
            check_fail(check, "element %zu of %zu is %.9g, expected %.9g within %.3g", i, n, value, expected[i], allowed);
            return false;
        }
    }
    return check_surroundings(check);
}

// ---- timing ---------------------------------------------------------------------------------------------------------

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void check_time(checker *check, const char *what, double units, const char *unit, void (*body)(void *argument), void *argument)
{
    enum { TURNS = 5, CALLS = 16 };
    double best = 0;
    for (int turn = 0; turn < TURNS; turn++) {
        long calls = 0;
        const double start = seconds();
        double now;
        do {
            for (int i = 0; i < CALLS; i++) // the clock costs as much as the smallest kernels
                body(argument);
            calls += CALLS;
            now = seconds();
        } while (now - start < 0.05 / TURNS);
        const double rate = (double)calls * units / (now - start) * 1e-9;
        best = rate > best ? rate : best;
    }
    printf("%-28s %-10s %-34s %9.2f G%s/s\n", check->kernel, check->tier->name, what, best, unit);
    fflush(stdout);
}
