/* cli.c - how a stage begins and ends. */
#include "cli/private.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/version.h"
#include "cli/table.h"
#include "kernel/kernel.h"

/* A descriptor that came closed must not become the first file that is
 * opened.  Reading standard input then finds a character device (the embedded
 * default), writing standard output fails, as it should. */
static void
fill_standard_descriptors(void)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
			if (open("/dev/null", fd == STDERR_FILENO ? O_WRONLY : O_RDONLY) != fd)
				_exit(TC_IO);
}

/* Whoever started us may have left signals blocked or ignored.  A file size
 * limit is an error of write(2) like a full disk, not a reason to die. */
static void
reset_signals(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGXFSZ, SIG_IGN);
}

static int
open_pool(struct tc_cli *cli)
{
	static const struct tc_option row = { .type = TC_OPT_COUNT, .min = 1, .max = TC_THREADS_MAX };
	const char *text = getenv("TC_THREADS");
	int64_t n = cli->common->threads;

	if (n == TC_UNSET && text && *text && tc_value_parse(&row, text, &n, &cli->err) < 0)
		return tc_err_at(&cli->err, "TC_THREADS");
	if (n == TC_UNSET)
		n = tc_threads_allowed();
	return tc_pool_open(&cli->pool, (int)n, &cli->err);
}

static int
select_kernels(struct tc_cli *cli)
{
	const char *name = getenv("TC_CPU");

	return tc_kernels_select(name && *name ? name : NULL, &cli->err);
}

/* Returns 1 when there is work to do, 0 when the command line is answered. */
static int
prepare(struct tc_cli *cli, void *args, int argc)
{
	if (tc_options_parse(cli->stage, args, argc, cli->argv, &cli->parsed, &cli->err) < 0)
		return -1;
	if (cli->parsed.help) {
		tc_options_help(cli->stage);
		return 0;
	}
	if (cli->parsed.version) {
		printf("%s %s (build %s)\n", cli->stage->name, tc_version, tc_build_id);
		return 0;
	}
	if (cli->parsed.completion) {
		tc_options_complete(cli->stage, cli->parsed.completion);
		return 0;
	}
	if (tc_options_canonical(cli->stage, args, cli->options, sizeof(cli->options), &cli->err) < 0 ||
	    select_kernels(cli) < 0 || open_pool(cli) < 0)
		return -1;
	return 1;
}

void
tc_cli_begin(struct tc_cli *cli, const struct tc_stage *stage, void *args, int argc, char **argv)
{
	fill_standard_descriptors();
	reset_signals();
	*cli = (struct tc_cli){
		.stage = stage,
		.common = (void *)((char *)args + stage->common_offset),
		.argv = argv,
		.started = tc_now(),
	};
	cli->said = cli->started;
	if (prepare(cli, args, argc) <= 0)
		exit(tc_cli_end(cli));
}

/* The failure is reported by a record in the stream: the last
 * stage of a pipe then exits with our code.  A file that failed is removed,
 * so there is nobody to tell. */
static void
write_abort(struct tc_cli *cli)
{
	const char *stage = cli->stage->name, *msg = cli->err.msg;
	char upstream[TC_STEP_STAGE_MAX];
	struct tc_err lost = {0};

	if (cli->output && !tc_output_is_direct(cli->output))
		return;
	/* What came down the pipe goes on as it came: "stage: message". */
	if (cli->err.told && strstr(msg, ": ") && strstr(msg, ": ") < msg + sizeof(upstream) - 1) {
		snprintf(upstream, sizeof(upstream), "%.*s", (int)(strstr(msg, ": ") - msg), msg);
		stage = upstream;
		msg = strstr(msg, ": ") + 2;
	}
	/* When this fails too, the stream has no end, and is refused for that. */
	(void)!tc_writer_abort(cli->writer, stage, cli->err.code, msg, &lost);
}

/* Standard output is written when it is closed without complaint. */
static int
close_stdout(struct tc_err *err)
{
	struct stat st;
	bool failed = ferror(stdout);

	if (fflush(stdout) != 0)
		return tc_fail(err, TC_IO, "standard output: %s", strerror(errno));
	if (failed)
		return tc_fail(err, TC_IO, "standard output: write error");
	if (fstat(STDOUT_FILENO, &st) == 0 && S_ISREG(st.st_mode) && fsync(STDOUT_FILENO) < 0 && errno != EINVAL && errno != EROFS)
		return tc_fail(err, TC_IO, "standard output: %s", strerror(errno));
	if (fclose(stdout) != 0)
		return tc_fail(err, TC_IO, "standard output: %s", strerror(errno));
	return 0;
}

static void
commit(struct tc_cli *cli)
{
	struct tc_output *o = cli->output;

	assert(!cli->writer); /* tc_cli_stream_end was called */
	cli->output = NULL;
	if (o)
		(void)!tc_output_commit(o, &cli->err); /* cli->err says how it went */
}

/* Upstream has printed its error where we would, if it is a stage of the same
 * pipe; an abort record in a saved stream was told to somebody else. */
static void
abandon(struct tc_cli *cli)
{
	if (!cli->err.told || !cli->stdin_piped)
		tc_message_error(cli);
	if (cli->writer)
		write_abort(cli);
	tc_output_discard(cli->output);
}

int
tc_cli_end(struct tc_cli *cli)
{
	struct tc_err unflushed = {0};

	tc_message_clear(cli);
	if (cli->err.code == TC_OK)
		commit(cli);
	if (cli->err.code != TC_OK)
		abandon(cli);
	tc_temporary_remove_all();
	if (close_stdout(&unflushed) < 0 && cli->err.code == TC_OK) {
		cli->err = unflushed;
		tc_message_error(cli);
	}
	tc_writer_free(cli->writer);
	tc_pool_close(cli->pool);
	return cli->err.code;
}
