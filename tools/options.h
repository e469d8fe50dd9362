// SPDX-License-Identifier: Apache-2.0
// Command lines as tables: a subcommand lists its options once, and parsing, range checks, hints and --help follow from the list.

#ifndef QCNN_TOOLS_OPTIONS_H
#define QCNN_TOOLS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2 }; // exit statuses
enum { CLI_MAX_LIST = 64 };

// Arguments that belong together; they point into argv.
typedef struct cli_list {
    const char *items[CLI_MAX_LIST];
    int n;
} cli_list;

// One option. Exactly one of flag, text, list, integer, number and real says where its value goes; it keeps what it held
// when the option is not given.
typedef struct cli_option {
    const char *name;           // "--threads"
    char letter;                // 'o' for -o; 0: none
    const char *value;          // what --help calls the value; NULL for a flag
    const char *help;           // one line
    bool *flag;                 // set to true
    const char **text;          // any text, or one of `choices`
    const char *const *choices; // NULL-terminated
    cli_list *list;             // takes every argument up to the next option once an operand has been seen, else one
    int *integer;               // minimum..maximum
    uint64_t *number;           // any 64-bit number
    double *real;               // minimum..maximum
    int minimum, maximum;
    bool *given; // set when the option is there; with `optional`, its number may be missing
    bool optional;
} cli_option;

typedef struct cli_command {
    const char *name;
    const char *summary;
    const char *operands; // as --help shows them: "MODEL DATASET"
    const char *details;  // paragraphs of --help below the options; may be NULL
    const char *examples; // lines
    int min_operands, max_operands;
    int (*run)(const struct cli_command *command, int argc, char **argv); // argv[0] is the subcommand; gives the exit status
} cli_command;

// What cli_parse gives when the command should go on; every other value is its exit status.
enum { CLI_GO_ON = -1 };

// Reads argv[1..argc-1]. Operands are moved, in order, to argv[1..*n_operands]. Prints --help to stdout (then CLI_DONE), or one
// line about what is wrong to stderr (then CLI_USAGE). The options end with a row without a name.
int cli_parse(const cli_command *command, const cli_option *options, int argc, char **argv, int *n_operands);

// "qcnn eval: <message>; 'qcnn eval --help' explains" on stderr; gives CLI_USAGE. `command` may be NULL.
__attribute__((format(printf, 2, 3))) int cli_usage(const cli_command *command, const char *format, ...);

// The name nearest to a mistyped one, if any is near: at most two edits away, and less than half of it wrong.
typedef struct cli_hint {
    const char *typed, *best;
    int distance;
} cli_hint;
void cli_hint_try(cli_hint *hint, const char *candidate);

#endif
