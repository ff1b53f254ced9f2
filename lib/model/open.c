#include "model/open.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "file/safetensors.h"
#include "model/checkpoint.h"
#include "model/gguf_source.h"
#include "stream/reader.h"

#define FIRST_BYTES 64  /* enough to tell what a file is */

/* ---- a stream on a descriptor that we opened ---- */

struct owner {
	struct tc_source source;   /* first; a copy of what inner says */
	struct tc_source *inner;
	int fd;
};

static void
copy_state(struct owner *o)
{
	o->source.header = o->inner->header;
	o->source.mapped = o->inner->mapped;
	o->source.hash = o->inner->hash;
	o->source.records = o->inner->records;
	o->source.bytes = o->inner->bytes;
}

static int
owner_next(struct tc_source *s, struct tc_record *r, struct tc_err *err)
{
	struct owner *o = (struct owner *)s;
	int n;

	o->inner->spare_payloads = s->spare_payloads;
	n = tc_source_next(o->inner, r, err);
	copy_state(o);
	return n;
}

static void
owner_close(struct tc_source *s)
{
	struct owner *o = (struct owner *)s;

	tc_source_close(o->inner);
	close(o->fd);
	free(o);
}

static int
open_stream(struct tc_source **s, const char *path, struct tc_err *err)
{
	struct owner *o = tc_zalloc(1, sizeof(*o), err);

	if (!o)
		return -1;
	o->source.next = owner_next;
	o->source.close = owner_close;
	o->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (o->fd < 0) {
		tc_fail_errno(err, "%s", path);
		free(o);
		return -1;
	}
	if (tc_reader_open_fd(&o->inner, o->fd, path, err) < 0) {
		close(o->fd);
		free(o);
		return -1;
	}
	copy_state(o);
	*s = &o->source;
	return 0;
}

/* ---- files ---- */

/* Eight bytes of header length, of which the upper ones are zero, then JSON. */
static bool
is_safetensors(const unsigned char *p, size_t n)
{
	uint64_t length = 0;

	if (n < 9)
		return false;
	for (int i = 0; i < 8; i++)
		length |= (uint64_t)p[i] << (8 * i);
	return length >= 2 && length <= TC_ST_HEADER_MAX && p[8] == '{';
}

static int
open_safetensors(struct tc_source **s, const char *path, struct tc_err *err)
{
	const char *slash = strrchr(path, '/');
	char *dir;
	int r;

	if (!slash)
		return tc_checkpoint_open(s, ".", path, err);
	dir = tc_strndup(path, (size_t)(slash - path), err);
	if (!dir)
		return -1;
	r = tc_checkpoint_open(s, dir, slash + 1, err);
	free(dir);
	return r;
}

/* How many of the first bytes there are, at most FIRST_BYTES; -1. */
static ptrdiff_t
read_first(const char *path, unsigned char *p, struct tc_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ptrdiff_t n;

	if (fd < 0)
		return tc_fail_errno(err, "%s", path);
	n = tc_read_full(fd, p, FIRST_BYTES, err);
	if (n < 0)
		tc_err_at(err, "%s", path);
	close(fd);
	return n;
}

static int
open_file(struct tc_source **s, const char *path, struct tc_err *err)
{
	unsigned char p[FIRST_BYTES];
	ptrdiff_t n = read_first(path, p, err);

	if (n < 0)
		return -1;
	if (n == 0)
		return tc_fail(err, TC_NOINPUT, "%s: empty: did the upstream stage fail?", path);
	if (tc_reader_is_stream(p, (size_t)n))
		return tc_reader_open_file(s, path, err);
	if (is_safetensors(p, (size_t)n))
		return open_safetensors(s, path, err);
	if (n >= 4 && memcmp(p, "GGUF", 4) == 0)
		return tc_gguf_source_open(s, path, err);
	return tc_fail(err, TC_DATA, "%s: not a model: neither a saved stream nor safetensors nor GGUF nor a Hugging Face directory", path);
}

int
tc_model_open(struct tc_source **s, const char *path, struct tc_err *err)
{
	struct stat sb;

	*s = NULL;
	if (stat(path, &sb) < 0)
		return tc_fail_errno(err, "%s", path);
	if (S_ISDIR(sb.st_mode))
		return tc_checkpoint_open(s, path, NULL, err);
	if (S_ISREG(sb.st_mode))
		return open_file(s, path, err);
	return open_stream(s, path, err);
}
