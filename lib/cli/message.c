/* message.c - what a stage says on stderr, and JSON on stdout. */
#include "cli/private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024
#define REDRAW_SECONDS 0.1
#define REPEAT_SECONDS 60.0
#define CLEAR_LINE "\r\033[K"

/* One write(2) a line, so that the lines of a pipe's stages do not mix.  What
 * is lost when stderr cannot take it has nowhere else to go. */
static void
put(const char *s, size_t n)
{
	ssize_t got;

	while (n && ((got = write(STDERR_FILENO, s, n)) > 0 || (got < 0 && errno == EINTR)))
		if (got > 0) {
			s += got;
			n -= (size_t)got;
		}
}

/* "stage: ..." into line; returns its length, at most width. */
static size_t
compose(const struct tc_cli *cli, char line[LINE_MAX_BYTES], size_t width, const char *fmt, va_list ap)
{
	size_t n = (size_t)snprintf(line, LINE_MAX_BYTES, "%s: ", cli->stage->name);

	vsnprintf(line + n, LINE_MAX_BYTES - n, fmt, ap);
	for (n = 0; line[n] && n < width; n++)
		if ((unsigned char)line[n] < 0x20 || line[n] == 0x7f)
			line[n] = '?';
	return n;
}

static void
put_line(struct tc_cli *cli, const char *fmt, va_list ap)
{
	char line[LINE_MAX_BYTES];
	size_t n = compose(cli, line, LINE_MAX_BYTES - 1, fmt, ap);

	tc_message_clear(cli);
	line[n++] = '\n';
	put(line, n);
}

void
tc_message_clear(struct tc_cli *cli)
{
	if (cli->redrawn)
		put(CLEAR_LINE, strlen(CLEAR_LINE));
	cli->redrawn = false;
}

static void TC_PRINTF(2, 3)
complain(struct tc_cli *cli, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put_line(cli, fmt, ap);
	va_end(ap);
}

void
tc_message_error(struct tc_cli *cli)
{
	complain(cli, "%s", cli->err.msg);
}

void
tc_cli_say(struct tc_cli *cli, const char *fmt, ...)
{
	va_list ap;

	if (cli->common->quiet)
		return;
	va_start(ap, fmt);
	put_line(cli, fmt, ap);
	va_end(ap);
}

static bool
may_redraw(void)
{
	struct stat st;

	return isatty(STDERR_FILENO) && !(fstat(STDOUT_FILENO, &st) == 0 && S_ISFIFO(st.st_mode));
}

static void
redraw(struct tc_cli *cli, const char *fmt, va_list ap)
{
	char line[LINE_MAX_BYTES];
	struct winsize w;
	size_t width = 80;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 1)
		width = w.ws_col;
	width = compose(cli, line, tc_min(width - 1, LINE_MAX_BYTES - 1), fmt, ap);
	put(CLEAR_LINE, strlen(CLEAR_LINE));
	put(line, width);
	cli->redrawn = true;
}

void
tc_cli_progress(struct tc_cli *cli, const char *fmt, ...)
{
	double now = tc_now(), quiet_seconds = now - cli->said;
	va_list ap;

	if (cli->common->quiet || quiet_seconds < REDRAW_SECONDS)
		return;
	va_start(ap, fmt);
	if (may_redraw()) {
		redraw(cli, fmt, ap);
		cli->said = now;
	} else if (quiet_seconds >= REPEAT_SECONDS) {
		put_line(cli, fmt, ap);
		cli->said = now;
	}
	va_end(ap);
}

int
tc_cli_print_json(struct tc_cli *cli, const json_t *object)
{
	char *text = json_dumps(object, JSON_REAL_PRECISION(17));
	int r = 0;

	if (!text)
		return tc_fail(&cli->err, TC_INTERNAL, "cannot print JSON");
	tc_message_clear(cli);
	if (printf("%s\n", text) < 0)
		r = tc_fail(&cli->err, TC_IO, "standard output: %s", strerror(errno));
	free(text);
	return r;
}

int
tc_cli_print_json_new(struct tc_cli *cli, json_t *object)
{
	int r = object ? tc_cli_print_json(cli, object) : tc_fail_nomem(&cli->err, 0);

	json_decref(object);
	return r;
}
