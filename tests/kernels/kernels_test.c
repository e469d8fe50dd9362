// SPDX-License-Identifier: Apache-2.0
// Checks every kernel of every tier that this processor runs, times them, or lists them. The idea is that of dav1d's checkasm:
// one list, one program.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

#define KERNEL(field)                                                                                                                      \
    {                                                                                                                                      \
#field, offsetof(qcnn_kernels, field), check_##field, bench_##field                                                                \
    }

// Every function of qcnn_kernels; tests/structure.sh holds this list against src/kernels/kernels.h.
const kernel_entry kernel_list[] = {
    KERNEL(gemm),
    KERNEL(dots),
    KERNEL(depthwise),
    KERNEL(maximum),
    KERNEL(max_rows),
    KERNEL(max_columns),
    KERNEL(max_windows),
    KERNEL(accumulate),
    KERNEL(lrn),
    KERNEL(activate),
    KERNEL(lut_sum_columns),
    KERNEL(lut_sum),
    KERNEL(range),
    KERNEL(quantize_quads),
    KERNEL(quantize_bytes),
    KERNEL(quantize_words),
    KERNEL(dequantize),
    KERNEL(dequantize_turned),
    KERNEL(quad_norms),
    KERNEL(table_peaks),
    KERNEL(table_bytes),
    KERNEL(lut_conv_bytes),
    KERNEL(lut_fc_bytes),
    KERNEL(lut_sum_words),
    KERNEL(dense_bytes),
    KERNEL(dense_quads),
    KERNEL(requantize_turned),
    KERNEL(max_quads),
    KERNEL(lrn_quads),
    KERNEL(dequantize_quads),
};
const size_t n_kernel_list = sizeof kernel_list / sizeof *kernel_list;

static const char usage[] =
    "usage: kernels_test [--seed N] [--kernel NAME] [--tier NAME] [--no-guards] [--bench | --list]\n"
    "Checks the kernels of each instruction-set tier against the C tier. --bench times them instead; --list tells which tier's\n"
    "function each tier has for each kernel. --no-guards is for emulators that touch\n"
    "memory where the processor would not.\n";

// The function pointer of a kernel in a tier, as bytes: only compared.
static bool same_function(const kernel_entry *entry, const qcnn_kernels *a, const qcnn_kernels *b)
{
    return memcmp((const char *)a + entry->offset, (const char *)b + entry->offset, sizeof(void (*)(void))) == 0;
}

// A row a kernel; in the column of a tier stands the first tier that has its function.
static void list(void)
{
    printf("| kernel |");
    for (int t = 0; qcnn_kernels_name(t); t++)
        printf(" %s |", qcnn_kernels_name(t));
    printf("\n");
    for (size_t i = 0; i < n_kernel_list; i++) {
        printf("| %s |", kernel_list[i].name);
        for (int t = 0; qcnn_kernels_name(t); t++) {
            const qcnn_kernels *tier = qcnn_kernels_find(qcnn_kernels_name(t));
            int first = 0;
            while (!same_function(&kernel_list[i], tier, qcnn_kernels_find(qcnn_kernels_name(first))))
                first++;
            printf(" %s |", qcnn_kernels_name(first));
        }
        printf("\n");
    }
}

int main(int argc, char **argv)
{
    uint64_t seed = 1;
    const char *kernel = NULL, *tier = NULL;
    bool bench = false, only_list = false, no_guards = false;
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(option, "--bench") == 0)
            bench = true;
        else if (strcmp(option, "--list") == 0)
            only_list = true;
        else if (strcmp(option, "--no-guards") == 0)
            no_guards = true;
        else if (strcmp(option, "--seed") == 0 && *value)
            seed = strtoull(value, NULL, 0), i++;
        else if (strcmp(option, "--kernel") == 0 && *value)
            kernel = value, i++;
        else if (strcmp(option, "--tier") == 0 && *value)
            tier = value, i++;
        else {
            fputs(usage, strcmp(option, "--help") == 0 ? stdout : stderr);
            return strcmp(option, "--help") == 0 ? 0 : 2;
        }
    }
    const qcnn_kernels *c = qcnn_kernels_find("c");
    if (only_list) {
        list();
        return 0;
    }
    check_start();
    int failures = 0, runs = 0;
    for (size_t i = 0; i < n_kernel_list; i++) {
        const kernel_entry *entry = &kernel_list[i];
        if (kernel && strcmp(kernel, entry->name) != 0)
            continue;
        const qcnn_kernels *last = NULL; // tiers often share a function: once is enough
        for (int t = 0; qcnn_kernels_name(t); t++) {
            const qcnn_kernels *candidate = qcnn_kernels_find(qcnn_kernels_name(t));
            if ((tier && strcmp(tier, candidate->name) != 0) || (last && same_function(entry, last, candidate)))
                continue;
            last = candidate;
            checker check = { .c = c, .tier = candidate, .kernel = entry->name, .rng = { seed }, .no_guards = no_guards };
            (bench ? entry->bench : entry->check)(&check);
            failures += check.failures;
            runs++;
        }
    }
    if (!runs) {
        fputs("kernels_test: no such kernel or tier here\n", stderr);
        return 2;
    }
    if (!bench)
        printf("kernels_test: %d kernels checked, seed %llu, %d failures\n", runs, (unsigned long long)seed, failures);
    return failures != 0;
}
