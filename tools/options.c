// SPDX-License-Identifier: Apache-2.0
// The option parser: GNU-style long options (--name VALUE, --name=VALUE), single letters (-o VALUE, -oVALUE), "--" before
// operands that start with a dash. Numbers are read whole or refused.

#include "options.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

// ---- messages -------------------------------------------------------------------------------------------------------

int cli_usage(const cli_command *command, const char *format, ...)
{
    char message[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    cli_one_line(message);
    const char *space = command ? " " : "", *name = command ? command->name : "";
    fprintf(stderr, "qcnn%s%s: %s; 'qcnn%s%s --help' explains\n", space, name, message, space, name);
    return CLI_USAGE;
}

// Edits (insert, delete, replace) from a to b; long names count as far.
static int edit_distance(const char *a, const char *b)
{
    enum { LONGEST = 63 };
    int row[LONGEST + 1];
    const int n_a = (int)strnlen(a, LONGEST + 1), n_b = (int)strnlen(b, LONGEST + 1);
    if (n_a > LONGEST || n_b > LONGEST)
        return LONGEST;
    for (int j = 0; j <= n_b; j++)
        row[j] = j;
    for (int i = 1; i <= n_a; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n_b; j++) {
            int least = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < least)
                least = row[j] + 1;
            if (row[j - 1] + 1 < least)
                least = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = least;
        }
    }
    return row[n_b];
}

void cli_hint_try(cli_hint *hint, const char *candidate)
{
    const int distance = edit_distance(hint->typed, candidate);
    if (distance <= 2 && 2 * distance < (int)strlen(candidate) && (!hint->best || distance < hint->distance)) {
        hint->best = candidate;
        hint->distance = distance;
    }
}

static int unknown_option(const cli_command *command, const cli_option *options, const char *argument)
{
    char typed[64];
    snprintf(typed, sizeof typed, "%.*s", (int)strcspn(argument, "="), argument);
    cli_hint hint = { .typed = typed };
    for (const cli_option *option = options; option->name; option++)
        cli_hint_try(&hint, option->name);
    cli_hint_try(&hint, "--help");
    if (hint.best)
        return cli_usage(command, "unknown option '%s', did you mean '%s'?", typed, hint.best);
    return cli_usage(command, "unknown option '%s'", typed);
}

static void print_help(const cli_command *command, const cli_option *options)
{
    printf("Usage: qcnn %s [OPTION...] %s\n\n%s\n\nOptions:\n", command->name, command->operands, command->summary);
    const cli_option help = { .name = "--help", .letter = 'h', .help = "show this text" };
    for (const cli_option *option = options, *next; option; option = next) {
        if (!option->name)
            option = &help;
        next = option == &help ? NULL : option + 1;
        char left[80], letter[8] = "    ";
        if (option->letter)
            snprintf(letter, sizeof letter, "-%c, ", option->letter);
        const char *open = option->optional ? "[" : "", *close = option->optional ? "]" : "", *dots = option->list ? "..." : "";
        snprintf(left, sizeof left, "%s%s%s%s%s%s%s", letter, option->name, option->value ? " " : "", open,
                 option->value ? option->value : "", dots, close);
        printf("  %-30s %s\n", left, option->help);
    }
    if (command->details)
        printf("\n%s", command->details);
    printf("\nExamples:\n%s", command->examples);
}

// ---- values ---------------------------------------------------------------------------------------------------------

static bool parse_unsigned(const char *text, uint64_t *value)
{
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && !*end && !errno;
}

static bool parse_real(const char *text, double *value)
{
    char *end;
    errno = 0;
    *value = strtod(text, &end);
    return ((text[0] >= '0' && text[0] <= '9') || text[0] == '.') && !text[strspn(text, "0123456789.eE+-")] && !*end && !errno &&
           isfinite(*value);
}

static int store_number(const cli_command *command, const cli_option *option, const char *text)
{
    uint64_t number;
    double real;
    if (option->real) {
        if (!parse_real(text, &real) || real < option->minimum || real > option->maximum)
            return cli_usage(command, "%s: '%s' is not a number from %d to %d", option->name, text, option->minimum, option->maximum);
        *option->real = real;
        return CLI_GO_ON;
    }
    const bool whole = parse_unsigned(text, &number);
    if (option->number) {
        if (!whole)
            return cli_usage(command, "%s: '%s' is not a whole number below 2^64", option->name, text);
        *option->number = number;
        return CLI_GO_ON;
    }
    if (!whole || number < (uint64_t)option->minimum || number > (uint64_t)option->maximum)
        return cli_usage(command, "%s: '%s' is not a whole number from %d to %d", option->name, text, option->minimum, option->maximum);
    *option->integer = (int)number;
    return CLI_GO_ON;
}

static int store_text(const cli_command *command, const cli_option *option, const char *text)
{
    if (!option->choices) {
        if (!*text)
            return cli_usage(command, "%s: an empty name", option->name);
        *option->text = text;
        return CLI_GO_ON;
    }
    char all[200] = "";
    for (const char *const *choice = option->choices; *choice; choice++) {
        if (strcmp(text, *choice) == 0) {
            *option->text = *choice;
            return CLI_GO_ON;
        }
        const size_t used = strlen(all);
        snprintf(all + used, sizeof all - used, "%s%s", used ? ", " : "", *choice);
    }
    return cli_usage(command, "%s: '%s' is none of: %s", option->name, text, all);
}

static int store(const cli_command *command, const cli_option *option, const char *text)
{
    if (option->text)
        return store_text(command, option, text);
    if (!option->list)
        return store_number(command, option, text);
    if (option->list->n == CLI_MAX_LIST)
        return cli_usage(command, "%s: more than %d values", option->name, CLI_MAX_LIST);
    option->list->items[option->list->n++] = text;
    return CLI_GO_ON;
}

// ---- the command line -----------------------------------------------------------------------------------------------

static bool is_option(const char *argument)
{
    return argument[0] == '-' && argument[1];
}

// The option that an argument names, and the value written into the same argument ("--name=VALUE", "-oVALUE"), if any.
static const cli_option *find_option(const cli_option *options, const char *argument, const char **attached)
{
    const size_t n = strcspn(argument, "=");
    for (const cli_option *option = options; option->name; option++) {
        if (strncmp(argument, option->name, n) == 0 && !option->name[n]) {
            *attached = argument[n] ? argument + n + 1 : NULL;
            return option;
        }
        if (option->letter && argument[1] == option->letter) {
            *attached = argument[2] ? argument + 2 : NULL;
            return option;
        }
    }
    return NULL;
}

// Reads the option at argv[*at] with its values and leaves *at on the last argument used.
static int parse_option(const cli_command *command, const cli_option *option, const char *attached, int argc, char **argv, int *at,
                        bool operand_seen)
{
    if (option->given)
        *option->given = true;
    if (option->flag) {
        *option->flag = true;
        return attached ? cli_usage(command, "%s takes no value", option->name) : CLI_GO_ON;
    }
    if (attached)
        return store(command, option, attached);
    const bool follows = *at + 1 < argc;
    double number;
    if (option->optional && !(follows && parse_real(argv[*at + 1], &number)))
        return CLI_GO_ON;
    const bool numeric = option->integer || option->number || option->real; // "-5" is then a bad number, not an option
    if (!follows || (is_option(argv[*at + 1]) && !(numeric && strchr("0123456789", argv[*at + 1][1]))))
        return cli_usage(command, "%s needs a value, %s", option->name, option->value);
    int status;
    do
        status = store(command, option, argv[++*at]);
    while (status == CLI_GO_ON && option->list && operand_seen && *at + 1 < argc && !is_option(argv[*at + 1]));
    return status;
}

int cli_parse(const cli_command *command, const cli_option *options, int argc, char **argv, int *n_operands)
{
    *n_operands = 0;
    bool options_over = false;
    for (int at = 1; at < argc; at++) {
        if (options_over || !is_option(argv[at])) {
            argv[++*n_operands] = argv[at];
            continue;
        }
        if (strcmp(argv[at], "--") == 0) {
            options_over = true;
            continue;
        }
        if (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0) {
            print_help(command, options);
            return cli_finish();
        }
        const char *attached;
        const cli_option *option = find_option(options, argv[at], &attached);
        if (!option)
            return unknown_option(command, options, argv[at]);
        const int status = parse_option(command, option, attached, argc, argv, &at, *n_operands > 0);
        if (status != CLI_GO_ON)
            return status;
    }
    if (*n_operands < command->min_operands)
        return cli_usage(command, "it needs %s", command->operands);
    if (*n_operands > command->max_operands)
        return cli_usage(command, "it takes %s, '%s' is one too many", command->operands, argv[command->max_operands + 1]);
    return CLI_GO_ON;
}
