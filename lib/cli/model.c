/* model.c - the streams that a stage reads and writes, and other files that
 * it finds by rule. */
#include "cli/private.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/version.h"
#include "model/open.h"
#include "stream/reader.h"

#define DEMO_MODEL "demo-16m"
#define DRAFT_MODEL "draft-2m"
#define STANDARD_OUTPUT "standard output"

static int
join(char *path, size_t size, const char *dir, const char *name, struct tc_err *err)
{
	if (snprintf(path, size, "%s/%s", dir, name) >= (int)size)
		return tc_fail(err, TC_NOINPUT, "%.64s.../%s: the name is too long", dir, name);
	return 0;
}

/* The directory of the executable. */
static int
executable_dir(char *dir, size_t size, struct tc_err *err)
{
	ssize_t n = readlink("/proc/self/exe", dir, size - 1);
	char *slash;

	if (n < 0)
		return tc_fail_errno(err, "/proc/self/exe");
	dir[n] = 0;
	slash = strrchr(dir, '/');
	if (slash)
		*slash = 0;
	return 0;
}

int
tc_cli_share(struct tc_cli *cli, const char *name, char *path, size_t size)
{
	static const char *const places[] = { "../share", "../share/tinycompress" };
	const char *given = getenv("TC_SHARE");
	char exe[PATH_MAX], dir[PATH_MAX + 32];

	if (given && *given) {
		if (join(path, size, given, name, &cli->err) < 0)
			return -1;
		return access(path, F_OK) == 0 ? 0 : tc_fail_errno(&cli->err, "%s (TC_SHARE)", path);
	}
	if (executable_dir(exe, sizeof(exe), &cli->err) < 0)
		return -1;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		if (join(dir, sizeof(dir), exe, places[i], &cli->err) < 0 || join(path, size, dir, name, &cli->err) < 0)
			return -1;
		if (access(path, F_OK) == 0)
			return 0;
	}
	return tc_fail(&cli->err, TC_NOINPUT, "%s: not beside the executable (%s/%s); set TC_SHARE", name, exe, places[0]);
}

/* What parts of a source must last for. */
enum keep { KEEP_RECORD, KEEP_ALL };

/* Maps a spool, which may be -1, and closes it: the mapping holds the file. */
static int
open_spool(struct tc_cli *cli, int spool, const char *name, struct tc_source **source)
{
	int r;

	if (spool < 0)
		return -1;
	r = tc_reader_map_fd(source, spool, name, &cli->err);
	close(spool);
	return r;
}

/* A stream on a descriptor, mapped as it is when it is a file from its
 * beginning on, else as a copy. */
static int
open_kept_fd(struct tc_cli *cli, int fd, const char *name, struct tc_source **source)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && lseek(fd, 0, SEEK_CUR) == 0)
		return tc_reader_map_fd(source, fd, name, &cli->err);
	return open_spool(cli, tc_spool_fd(cli, fd, name), name, source);
}

static int
open_kept(struct tc_cli *cli, const char *path, struct tc_source **source)
{
	struct tc_source *once;
	struct stat st;
	int fd, r;

	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return tc_fail_errno(&cli->err, "%s", path);
		r = open_kept_fd(cli, fd, path, source);
		close(fd);
		return r;
	}
	if (tc_model_open(&once, path, &cli->err) < 0)
		return -1;
	if (once->mapped) {
		*source = once;
		return 0;
	}
	/* A checkpoint of which tensors are converted, one at a time. */
	r = open_spool(cli, tc_spool_source(cli, once), path, source);
	tc_source_close(once);
	return r;
}

static int
open_path(struct tc_cli *cli, const char *path, enum keep keep, struct tc_source **source)
{
	return keep == KEEP_ALL ? open_kept(cli, path, source) : tc_model_open(source, path, &cli->err);
}

static int
open_embedded(struct tc_cli *cli, const char *name, enum keep keep, struct tc_source **source)
{
	char file[64], path[PATH_MAX];

	snprintf(file, sizeof(file), "models/%s", name);
	if (tc_cli_share(cli, file, path, sizeof(path)) < 0)
		return -1;
	return open_path(cli, path, keep, source);
}

static int
open_stdin(struct tc_cli *cli, enum keep keep, struct tc_source **source)
{
	struct stat st;

	if (cli->stdin_used)
		return tc_fail(&cli->err, TC_USAGE, "standard input can be one model only");
	if (isatty(STDIN_FILENO))
		return tc_fail(&cli->err, TC_NOINPUT, "standard input: is a terminal");
	cli->stdin_used = true;
	cli->stdin_piped = fstat(STDIN_FILENO, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode));
	if (keep == KEEP_ALL)
		return open_kept_fd(cli, STDIN_FILENO, "standard input", source);
	return tc_reader_open_fd(source, STDIN_FILENO, "standard input", &cli->err);
}

/* No model named: a character device is what a shell or cron leaves there, or
 * stands for a closed descriptor; anything else was put there to be read. */
static int
open_unnamed(struct tc_cli *cli, enum keep keep, struct tc_source **source)
{
	struct stat st;

	if (fstat(STDIN_FILENO, &st) == 0 && !S_ISCHR(st.st_mode))
		return open_stdin(cli, keep, source);
	tc_cli_say(cli, "no model given: using the embedded " DEMO_MODEL);
	return open_embedded(cli, DEMO_MODEL, keep, source);
}

static int
open_model(struct tc_cli *cli, const char *path, enum keep keep, struct tc_source **source)
{
	char fetched[PATH_MAX];
	int named;

	*source = NULL;
	if (strcmp(path, "-") == 0)
		return open_stdin(cli, keep, source);
	if (strcmp(path, "demo") == 0)
		return open_embedded(cli, DEMO_MODEL, keep, source);
	if (strcmp(path, "draft") == 0)
		return open_embedded(cli, DRAFT_MODEL, keep, source);
	named = tc_cli_named(cli, path, fetched, sizeof(fetched));
	if (named < 0)
		return -1;
	return open_path(cli, named ? fetched : path, keep, source);
}

int
tc_cli_model_path(struct tc_cli *cli, const char *path, struct tc_source **source)
{
	return open_model(cli, path, KEEP_RECORD, source);
}

int
tc_cli_model_path_kept(struct tc_cli *cli, const char *path, struct tc_source **source)
{
	return open_model(cli, path, KEEP_ALL, source);
}

static int
open_operand(struct tc_cli *cli, int i, enum keep keep, struct tc_source **source)
{
	*source = NULL;
	if (i < cli->parsed.noperands)
		return open_model(cli, cli->parsed.operand[i], keep, source);
	if (i > 0)
		return tc_fail(&cli->err, TC_USAGE, "operand %d is missing (see %s --help)", i + 1, cli->stage->name);
	return open_unnamed(cli, keep, source);
}

int
tc_cli_model(struct tc_cli *cli, int i, struct tc_source **source)
{
	return open_operand(cli, i, KEEP_RECORD, source);
}

int
tc_cli_model_kept(struct tc_cli *cli, int i, struct tc_source **source)
{
	return open_operand(cli, i, KEEP_ALL, source);
}

/* The source's header and this stage's step, if it is one. */
static int
extend_header(const struct tc_cli *cli, const struct tc_source *source, struct tc_header *h, struct tc_err *err)
{
	if (tc_header_copy(h, &source->header, err) < 0)
		return -1;
	if (cli->step_cpu &&
	    tc_header_add_step(h, cli->stage->name, tc_build_id, cli->step_cpu, cli->options, err) < 0) {
		tc_header_free(h);
		return -1;
	}
	return 0;
}

static int
refuse_terminal(int fd, const char *name, struct tc_err *err)
{
	return isatty(fd) ? tc_fail(err, TC_USAGE, "%s is a terminal: use -o FILE or a pipe", name) : 0;
}

static bool
to_standard_output(const struct tc_cli *cli)
{
	return !cli->common->output || strcmp(cli->common->output, "-") == 0;
}

int
tc_cli_stream_check(struct tc_cli *cli)
{
	return to_standard_output(cli) ? refuse_terminal(STDOUT_FILENO, STANDARD_OUTPUT, &cli->err) : 0;
}

static int
open_output(struct tc_cli *cli, int *fd, const char **name)
{
	*fd = STDOUT_FILENO;
	*name = cli->common->output;
	if (to_standard_output(cli)) {
		*name = STANDARD_OUTPUT;
	} else {
		if (tc_output_open(&cli->output, *name, &cli->err) < 0)
			return -1;
		*fd = tc_output_fd(cli->output);
	}
	return refuse_terminal(*fd, *name, &cli->err);
}

int
tc_cli_stream_out(struct tc_cli *cli, const struct tc_source *source, const char *step_cpu)
{
	struct tc_writer *w = NULL;
	struct tc_header h = {0};
	const char *name;
	int fd, r;

	cli->step_cpu = step_cpu;
	if (open_output(cli, &fd, &name) < 0 || extend_header(cli, source, &h, &cli->err) < 0)
		return -1;
	r = tc_writer_open(&w, fd, name, &cli->err);
	if (r == 0)
		r = tc_writer_header(w, &h, &cli->err);
	tc_header_free(&h);
	if (r < 0) {
		tc_writer_free(w);
		return -1;
	}
	cli->writer = w;
	return 0;
}

int
tc_cli_stream_end(struct tc_cli *cli, const struct tc_source *source)
{
	struct tc_header h = {0};
	int r;

	if (extend_header(cli, source, &h, &cli->err) < 0)
		return -1;
	if (cli->step_cpu)
		h.step[h.nsteps - 1].input = source->hash;
	r = tc_writer_end(cli->writer, &h, &cli->err);
	tc_header_free(&h);
	if (r == 0) {
		tc_writer_free(cli->writer);
		cli->writer = NULL;
	}
	return r;
}

const char *
tc_temporary_dir(const struct tc_cli *cli)
{
	const char *env = getenv("TMPDIR");

	if (cli->common->tmpdir)
		return cli->common->tmpdir;
	return env && *env ? env : "/tmp";
}

int
tc_cli_tmpfile(struct tc_cli *cli, int *fd)
{
	const char *dir = tc_temporary_dir(cli);
	char path[PATH_MAX];

	if (join(path, sizeof(path), dir, "tc.XXXXXX", &cli->err) < 0)
		return -1;
	*fd = tc_temporary_open(path);
	return *fd < 0 ? tc_fail_errno(&cli->err, "temporary file in %s", dir) : 0;
}
