/* spool.c - a stream that can be read once, as a file that can be mapped. */
#include "cli/private.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "stream/reader.h"

#define PIECE_BYTES ((size_t)1 << 20) /* as much as a pipe holds */

static int
copy(int from, const char *name, int to, const char *to_name, unsigned char *piece, struct tc_err *err)
{
	for (size_t pieces = 0;; pieces++) {
		ptrdiff_t n = tc_read_full(from, piece, PIECE_BYTES, err);

		if (n < 0)
			return tc_err_at(err, "%s", name);
		if (tc_write_all(to, piece, (size_t)n, err) < 0)
			return tc_err_at(err, "%s: copying it to a %s", name, to_name);
		if ((size_t)n < PIECE_BYTES || (pieces == 0 && !tc_reader_is_stream(piece, (size_t)n)))
			return 0;
	}
}

/* "temporary file in /tmp" */
static void
spool_name(const struct tc_cli *cli, char *name, size_t size)
{
	snprintf(name, size, "temporary file in %s", tc_temporary_dir(cli));
}

/* The spool, unless what was done with it has failed. */
static int
unless_failed(int spool, int r)
{
	if (r == 0)
		return spool;
	close(spool);
	return -1;
}

int
tc_spool_fd(struct tc_cli *cli, int fd, const char *name)
{
	char to_name[128];
	unsigned char *piece;
	int spool, r = -1;

	if (tc_cli_tmpfile(cli, &spool) < 0)
		return -1;
	spool_name(cli, to_name, sizeof(to_name));
	piece = tc_alloc(PIECE_BYTES, 1, &cli->err);
	if (piece)
		r = copy(fd, name, spool, to_name, piece, &cli->err);
	free(piece);
	return unless_failed(spool, r);
}

static int
copy_records(struct tc_source *source, struct tc_writer *w, struct tc_err *err)
{
	struct tc_record r;
	int got;

	if (tc_writer_header(w, &source->header, err) < 0)
		return -1;
	while ((got = tc_source_next(source, &r, err)) > 0)
		if (tc_writer_put(w, &r, err) < 0)
			return -1;
	return got < 0 ? -1 : tc_writer_end(w, &source->header, err);
}

int
tc_spool_source(struct tc_cli *cli, struct tc_source *source)
{
	char to_name[128];
	struct tc_writer *w;
	int spool, r;

	if (tc_cli_tmpfile(cli, &spool) < 0)
		return -1;
	spool_name(cli, to_name, sizeof(to_name));
	r = tc_writer_open(&w, spool, to_name, &cli->err);
	if (r == 0)
		r = copy_records(source, w, &cli->err);
	tc_writer_free(w);
	return unless_failed(spool, r);
}
