// SPDX-License-Identifier: Apache-2.0
// A progress bar on a terminal, ten times a second at most; without one a line at the end of a stage of some seconds, and now and then
// within a longer one. The remaining time assumes that a stage goes on as fast as it went so far.

#include "progress.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "table.h"

static volatile sig_atomic_t stop_signal;

static void on_signal(int number)
{
    stop_signal = number;
}

static void draw(cli_progress *progress, double fraction, double now_ms)
{
    cli_text bar, rest;
    const double elapsed = 1e-3 * (now_ms - progress->stage_start_ms);
    const bool known = fraction > 0 && elapsed > 0.5;
    if (known)
        cli_duration_text(elapsed * (1 - fraction) / fraction, rest);
    // The bar goes between brackets, padded with spaces by the cursor column rather than by counting bytes.
    fprintf(stderr, "\r\033[K%-28.28s [%s\033[50G] %3.0f %%%s%s", progress->stage, cli_bar_text(fraction, 19, bar), 100 * fraction,
            known ? "  " : "", known ? rest : "");
    if (known)
        fputs(" left", stderr);
    fflush(stderr);
    progress->shown = 1;
    progress->drawn_ms = now_ms;
}

// Lines for a log. Short work has none.
static void tell(cli_progress *progress, double fraction, double now_ms)
{
    static const double rest_ms = 60000;
    cli_text rest;
    const double elapsed = 1e-3 * (now_ms - progress->stage_start_ms);
    if (now_ms - progress->drawn_ms < rest_ms || fraction <= 0)
        return;
    cli_note("%s: %.0f %%, %s left", progress->stage, 100 * fraction, cli_duration_text(elapsed * (1 - fraction) / fraction, rest));
    progress->drawn_ms = now_ms;
}

static void tell_end(const cli_progress *progress, double now_ms)
{
    static const double worth_ms = 5000;
    cli_text elapsed;
    const double ms = now_ms - progress->stage_start_ms;
    if (progress->stage[0] && ms >= worth_ms)
        cli_note("%s: done in %s", progress->stage, cli_duration_text(1e-3 * ms, elapsed));
}

static int report(void *context, const char *stage, double fraction)
{
    cli_progress *progress = context;
    const double now_ms = cli_clock_ms();
    const bool terminal = isatty(STDERR_FILENO);
    if (strncmp(progress->stage, stage, sizeof progress->stage - 1) != 0) {
        if (!terminal)
            tell_end(progress, now_ms);
        snprintf(progress->stage, sizeof progress->stage, "%s", stage);
        cli_one_line(progress->stage);
        progress->stage_start_ms = now_ms;
        progress->drawn_ms = terminal ? 0 : now_ms;
    }
    fraction = fraction < 0 ? 0 : fraction > 1 ? 1 : fraction;
    if (!terminal)
        tell(progress, fraction, now_ms);
    else if (now_ms - progress->drawn_ms >= 100)
        draw(progress, fraction, now_ms);
    return stop_signal != 0;
}

void cli_progress_begin(cli_progress *progress)
{
    *progress = (cli_progress){ .hook = { .report = report } };
    progress->hook.context = progress;
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND };
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

void cli_progress_end(cli_progress *progress)
{
    if (progress->shown)
        fputs("\r\033[K", stderr);
    progress->shown = 0;
}

int cli_progress_stopped(void)
{
    return stop_signal ? 128 + stop_signal : 0;
}
