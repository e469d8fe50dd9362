// SPDX-License-Identifier: Apache-2.0
// The progress of long work on stderr: a bar on a terminal, otherwise a line where a stage takes long; and stopping it by SIGINT or
// SIGTERM.

#ifndef QCNN_TOOLS_PROGRESS_H
#define QCNN_TOOLS_PROGRESS_H

#include "qcnn_compress.h"

typedef struct cli_progress {
    qcnn_progress hook; // to pass to the library
    char stage[64];
    double stage_start_ms, drawn_ms; // drawn: or told, without a terminal
    int shown;                       // a bar stands on the terminal
} cli_progress;

// From here on SIGINT and SIGTERM make the hook ask for an end; a second one ends the process at once.
void cli_progress_begin(cli_progress *progress);
// Takes the bar off the terminal, so that a message may follow.
void cli_progress_end(cli_progress *progress);
// Whether a signal came: 0, or the exit status that says so, 128 + its number.
int cli_progress_stopped(void);

#endif
