// SPDX-License-Identifier: Apache-2.0
// The HTML report of `qcnn compress --report`: one file that needs nothing else.

#ifndef QCNN_TOOLS_REPORT_H
#define QCNN_TOOLS_REPORT_H

#include "findings.h"
#include "layers.h"

typedef struct cli_report {
    const char *original_path, *compressed_path;
    const cli_totals *totals;     // of the compressed model
    const cli_findings *findings; // with both models
    const char *how, *settings;   // how settings were chosen and fitted; the caller's own, or NULL
    uint64_t seed, peak_rss_bytes;
    int threads;
    double seconds;
} cli_report;

// Writes the whole report or nothing; CLI_DONE, or CLI_FAILED with a message.
int cli_report_write(const cli_report *report, const char *path);

#endif
