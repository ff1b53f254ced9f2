/* cli.h - what a stage's main() stands on.  Only lib/cli prints or exits.
 *
 *   struct tc_cli cli;
 *   tc_cli_begin(&cli, &stage, &args, argc, argv);   exits 0 or 2 by itself
 *   if (tc_cli_model(&cli, 0, &source) == 0 && ...)
 *           work(&cli, &args);                       failures fill cli.err
 *   return tc_cli_end(&cli);                         message, abort record, exit code
 */
#ifndef TC_CLI_CLI_H
#define TC_CLI_CLI_H

#include <stdio.h>
#include <jansson.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/thread.h"
#include "cli/options.h"
#include "stream/source.h"
#include "stream/writer.h"

struct tc_output;  /* a file being written under a temporary name */

struct tc_cli {
	const struct tc_stage *stage;
	struct tc_common *common;
	struct tc_parsed parsed;
	char options[TC_STEP_OPTIONS_MAX]; /* canonical */
	struct tc_pool *pool;
	struct tc_writer *writer;          /* of the stage's output stream, or NULL */
	struct tc_output *output;          /* NULL: stdout */
	const char *step_cpu;              /* as given to tc_cli_stream_out */
	struct tc_err err;
	char **argv;
	double started;                    /* seconds, monotonic */
	double said;                       /* when progress last spoke */
	bool redrawn;                      /* a progress line is on the terminal */
	bool stdin_used;                   /* a model comes from standard input ... */
	bool stdin_piped;                  /* ... and that is a pipe, with a stage before us */
};

/* Resets SIGPIPE to default, blocks nothing, parses; prints --help/--version
 * or the usage error and exits; opens the thread pool (--threads, then
 * TC_THREADS, then what is allowed); checks TC_CPU. */
void tc_cli_begin(struct tc_cli *cli, const struct tc_stage *stage, void *args, int argc, char **argv);

/* The i-th operand as MODEL, else (i == 0, none given) standard input by the
 * rules of tc(7): a FIFO, socket or file is read, a character device or a
 * closed descriptor means the embedded default ("demo"), announced on stderr.
 * "demo" and "draft" name embedded models, a name that share/get-model knows
 * what it has fetched; "-" is standard input. */
int tc_cli_model(struct tc_cli *cli, int i, struct tc_source **source) TC_MUST_CHECK;
/* The same for a stage that needs weights more than once: the source is mapped,
 * so that parts last until it is closed.  What cannot be mapped (a pipe, a
 * checkpoint whose tensors must be converted) is first copied, as a stream, to
 * an unlinked file in --tmpdir, TMPDIR or /tmp: a pipe until the stage before
 * has ended.  No room there is TC_IO. */
int tc_cli_model_kept(struct tc_cli *cli, int i, struct tc_source **source) TC_MUST_CHECK;
/* As tc_cli_model(), for a path given by an option (--base). */
int tc_cli_model_path(struct tc_cli *cli, const char *path, struct tc_source **source) TC_MUST_CHECK;
/* The same, mapped as tc_cli_model_kept() says. */
int tc_cli_model_path_kept(struct tc_cli *cli, const char *path, struct tc_source **source) TC_MUST_CHECK;

/* Opens the output stream (-o FILE, else stdout, refused when a terminal)
 * and writes the source's header with this stage's step appended
 * (step_cpu: kernel path, "" where no number depends on it, NULL for a stage
 * that is no step: its output is its input).  cli->writer is set. */
int tc_cli_stream_out(struct tc_cli *cli, const struct tc_source *source, const char *step_cpu) TC_MUST_CHECK;
/* What it would refuse, before work is done for it: a terminal. */
int tc_cli_stream_check(struct tc_cli *cli) TC_MUST_CHECK;
/* After the source has ended: the end record, with the chain of input hashes
 * (the source's steps, then source->hash for this stage's own). */
int tc_cli_stream_end(struct tc_cli *cli, const struct tc_source *source) TC_MUST_CHECK;

/* A file of share/ ("text/eval.txt", "models/demo-16m"): $TC_SHARE, else
 * beside the executable (../share, ../share/tinycompress).  TC_NOINPUT when absent. */
int tc_cli_share(struct tc_cli *cli, const char *name, char *path, size_t size) TC_MUST_CHECK;

/* Closes and syncs the output; gives it its final name when nothing failed,
 * removes it otherwise; on failure writes the abort record and prints
 * "stage: message" unless upstream told it already.  Flushes stdout and
 * checks it (a full disk is exit 74).  Returns the exit code. */
int tc_cli_end(struct tc_cli *cli);

/* One line on stderr, "stage: ...", unless -q. */
void tc_cli_say(struct tc_cli *cli, const char *fmt, ...) TC_PRINTF(2, 3);
/* Progress: on a terminal (and stdout not a pipe) a line redrawn at most ten
 * times a second, otherwise at most a line a minute; nothing with -q. */
void tc_cli_progress(struct tc_cli *cli, const char *fmt, ...) TC_PRINTF(2, 3);
/* Prints a JSON object on stdout, one line, keys in the order given,
 * numbers with a point whatever the locale. */
int tc_cli_print_json(struct tc_cli *cli, const json_t *object) TC_MUST_CHECK;
/* The same of one that it frees; NULL: out of memory. */
int tc_cli_print_json_new(struct tc_cli *cli, json_t *object) TC_MUST_CHECK;

/* A temporary file that is already unlinked, in --tmpdir, TMPDIR or /tmp. */
int tc_cli_tmpfile(struct tc_cli *cli, int *fd) TC_MUST_CHECK;

/* A named file written whole or not at all: temporary name beside it, fsync,
 * rename.  Removed by SIGINT/SIGTERM/SIGHUP handlers and by tc_cli_end after a failure. */
int tc_output_open(struct tc_output **o, const char *path, struct tc_err *err) TC_MUST_CHECK;
/* The same for a directory, which must not exist yet or be empty (else
 * TC_USAGE).  The descriptor is that of the directory: files, and nothing
 * else, are made in it with openat(2) and synced by the caller. */
int tc_output_open_dir(struct tc_output **o, const char *path, struct tc_err *err) TC_MUST_CHECK;
int tc_output_fd(const struct tc_output *o);
int tc_output_commit(struct tc_output *o, struct tc_err *err) TC_MUST_CHECK; /* frees */
/* Never over an existing file: returns 1 when there is one.  Frees. */
int tc_output_commit_new(struct tc_output *o, struct tc_err *err) TC_MUST_CHECK;
void tc_output_discard(struct tc_output *o);                               /* frees; NULL is fine */

uint64_t tc_peak_rss_bytes(void); /* of this process */

#endif
