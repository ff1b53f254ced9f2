/* encode TOKENIZER.JSON < TEXT > IDS: the ids of a text, one a line, and on
 * stderr how long it took.  encode -d TOKENIZER.JSON < IDS > TEXT goes back.
 * No test by itself: tests/tokens.py compares what it prints. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "token/ids.h"
#include "token/tokenizer.h"

enum { LIMIT_BYTES = 1 << 30 };

static double
seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int
encode(struct tc_tokenizer *t, const struct tc_buf *text, struct tc_err *err)
{
	double start = seconds();
	uint32_t *ids;
	size_t n;

	if (tc_tokenizer_encode(t, text->n ? (const char *)text->p : "", text->n, false, &ids, &n, err) < 0)
		return -1;
	fprintf(stderr, "%.3f s, %zu bytes, %zu ids\n", seconds() - start, text->n, n);
	for (size_t i = 0; i < n; i++)
		printf("%" PRIu32 "\n", ids[i]);
	free(ids);
	return 0;
}

static int
decode(struct tc_tokenizer *t, struct tc_buf *text, struct tc_err *err)
{
	struct tc_ids ids = {0};
	struct tc_buf out = {0};
	int r = tc_buf_append(text, "", 1, err);
	char *s = (char *)text->p, *end;

	for (unsigned long v; r == 0 && (v = strtoul(s, &end, 10), end != s); s = end) {
		uint32_t id = (uint32_t)v;

		r = tc_ids_append(&ids, &id, 1, err);
	}
	if (r == 0)
		r = tc_tokenizer_decode(t, ids.p, ids.n, false, &out, err);
	if (r == 0)
		fwrite(out.p, 1, out.n, stdout);
	free(ids.p);
	tc_buf_free(&out);
	return r;
}

int
main(int argc, char **argv)
{
	bool back = argc == 3 && strcmp(argv[1], "-d") == 0;
	struct tc_buf file = {0}, text = {0};
	struct tc_tokenizer *t = NULL;
	struct tc_err err = {0};
	int r;

	if (argc != 2 && !back) {
		fprintf(stderr, "use: encode [-d] TOKENIZER.JSON\n");
		return TC_USAGE;
	}
	r = tc_read_file(argv[argc - 1], &file, LIMIT_BYTES, &err);
	if (r == 0)
		r = tc_tokenizer_load(&t, file.p, file.n, &err);
	if (r == 0)
		r = tc_read_fd(0, "stdin", &text, LIMIT_BYTES, &err);
	if (r == 0)
		r = back ? decode(t, &text, &err) : encode(t, &text, &err);
	if (r < 0)
		fprintf(stderr, "encode: %s\n", err.msg);
	tc_tokenizer_free(t);
	tc_buf_free(&file);
	tc_buf_free(&text);
	return fflush(stdout) || r < 0 ? err.code ? err.code : TC_IO : 0;
}
