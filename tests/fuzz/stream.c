/* A libFuzzer target for the stream reader:
 *
 *   clang -fsanitize=fuzzer,address -DTC_LIBFUZZER ... tests/fuzz/stream.c
 *
 * and, without TC_LIBFUZZER, a program that runs the files given to it.
 * The bytes are read as a descriptor and as a mapped file, which must agree;
 * what is accepted must survive being written again with heads made anew. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "stream/reader.h"
#include "stream/writer.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void
copy_record(struct tc_writer *w, struct tc_record *r)
{
	struct tc_err err;

	if (r->kind != TC_KIND_OTHER)
		r->raw = NULL;
	if (tc_writer_put(w, r, &err) < 0)
		abort();
}

/* Reads s to its end, into w when there is one. */
static int
drain(struct tc_source *s, struct tc_writer *w)
{
	struct tc_record r;
	struct tc_err err = {0};
	int k;

	if (w && tc_writer_header(w, &s->header, &err) < 0)
		abort();
	while ((k = tc_source_next(s, &r, &err)) > 0)
		if (w)
			copy_record(w, &r);
	if (k < 0 && (err.code == 0 || err.msg[0] == '\0'))
		abort();
	if (k == 0 && w && tc_writer_end(w, &s->header, &err) < 0)
		abort();
	tc_source_close(s);
	return k;
}

static int
read_fd(int fd, int copy)
{
	struct tc_source *s;
	struct tc_writer *w = NULL;
	struct tc_err err;
	int k;

	if (lseek(fd, 0, SEEK_SET) < 0 || tc_reader_open_fd(&s, fd, "fuzz", &err) < 0)
		return -1;
	if (copy >= 0 && tc_writer_open(&w, copy, "copy", &err) < 0)
		abort();
	k = drain(s, w);
	tc_writer_free(w);
	return k;
}

static int
read_file(int fd)
{
	struct tc_source *s;
	struct tc_err err;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return tc_reader_open_file(&s, path, &err) < 0 ? -1 : drain(s, NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	int fd = memfd_create("input", 0), copy = memfd_create("copy", 0), k;

	if (fd < 0 || copy < 0 || write(fd, p, n) != (ssize_t)n)
		abort();
	k = read_fd(fd, copy);
	if (k != read_file(fd))
		abort();
	if (k == 0 && read_fd(copy, -1) != 0)
		abort();
	close(fd);
	close(copy);
	return 0;
}

#ifndef TC_LIBFUZZER
int
main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		struct tc_buf b = {0};
		struct tc_err err;

		if (tc_read_file(argv[i], &b, SIZE_MAX, &err) < 0) {
			fprintf(stderr, "%s\n", err.msg);
			return err.code;
		}
		LLVMFuzzerTestOneInput(b.p, b.n);
		tc_buf_free(&b);
	}
	return 0;
}
#endif
