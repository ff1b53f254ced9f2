/* result.c - result files.  See tc-results(5). */
#include "cli/result.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/version.h"
#include "cli/machine.h"
#include "kernel/kernel.h"

#define RESULT_BYTES_MAX ((size_t)256 << 20)
#define JSON_NUMBERS JSON_REAL_PRECISION(17) /* doubles read back as they were */

static int
nomem(struct tc_err *err)
{
	return tc_fail(err, TC_NOMEM, "out of memory (result)");
}

/* The hash that two runs must agree on: of the text without blanks, keys
 * sorted. */
static int
measured_hash(const json_t *measured, char hex[TC_SHA256_HEX], struct tc_err *err)
{
	char *text = json_dumps(measured, JSON_COMPACT | JSON_SORT_KEYS | JSON_NUMBERS);
	int r;

	if (!text)
		return nomem(err);
	r = tc_sha256_of(text, strlen(text), hex, err);
	free(text);
	return r;
}

static int
add_step(json_t *chain, const char *stage, const char *build, const char *cpu, const char *options, uint64_t input)
{
	char hex[17];

	snprintf(hex, sizeof(hex), "%016" PRIx64, input);
	return json_array_append_new(chain, json_pack("{s:s, s:s, s:s, s:s, s:s}", "stage", stage,
	    "build", build, "cpu", cpu, "options", options, "input", hex));
}

static json_t *
provenance(const struct tc_cli *cli, const struct tc_source *source)
{
	json_t *chain = json_array();
	int r = 0;

	for (int i = 0; i < source->header.nsteps; i++) {
		const struct tc_step *s = &source->header.step[i];

		r |= add_step(chain, s->stage, s->build, s->cpu, s->options, s->input);
	}
	r |= add_step(chain, cli->stage->name, tc_build_id, tc_kernels_name(), cli->options, source->hash);
	if (r == 0)
		return chain;
	json_decref(chain);
	return NULL;
}

/* The whole file as text; free(3) it. */
static char *
compose(struct tc_cli *cli, const struct tc_source *source, json_t *measured, json_t *run, char hex[TC_SHA256_HEX])
{
	json_t *m = json_copy(measured), *r = json_copy(run), *file = NULL;
	char *text = NULL;

	if (!m || !r || json_object_set_new(m, "provenance", provenance(cli, source)) < 0 ||
	    tc_machine_describe(cli, r) < 0) {
		nomem(&cli->err);
		goto out;
	}
	if (measured_hash(m, hex, &cli->err) < 0)
		goto out;
	file = json_pack("{s:i, s:s, s:O, s:s, s:O}", "schema", TC_RESULT_SCHEMA, "stage", cli->stage->name,
	    "measured", m, "measured_sha256", hex, "run", r);
	if (file)
		text = json_dumps(file, JSON_INDENT(1) | JSON_NUMBERS);
	if (!text)
		nomem(&cli->err);
out:
	json_decref(m);
	json_decref(r);
	json_decref(file);
	return text;
}

/* Whether the file holds what was measured here.  The hash is computed anew:
 * a file that was edited does not pass for what it says it is. */
static int
agrees(const struct tc_buf *b, const char *hex, bool *same, struct tc_err *err)
{
	json_t *file = json_loadb((const char *)b->p, b->n, JSON_REJECT_DUPLICATES, NULL);
	const json_t *measured = json_object_get(file, "measured");
	const char *declared = json_string_value(json_object_get(file, "measured_sha256"));
	char theirs[TC_SHA256_HEX] = "";
	int r = measured ? measured_hash(measured, theirs, err) : 0;

	*same = declared && strcmp(declared, hex) == 0 && strcmp(theirs, hex) == 0;
	json_decref(file);
	return r;
}

/* 0: no result is there, 1: the same one, -1: another or an error. */
static int
compare(const char *path, const char *hex, struct tc_err *err)
{
	struct tc_buf b = {0};
	struct stat st;
	bool same = false;
	int r;

	if (stat(path, &st) < 0)
		return errno == ENOENT ? 0 : tc_fail_errno(err, "%s", path);
	if (!S_ISREG(st.st_mode))
		return 0;
	r = tc_read_file(path, &b, RESULT_BYTES_MAX, err);
	if (r == 0)
		r = agrees(&b, hex, &same, err);
	tc_buf_free(&b);
	if (r < 0)
		return -1;
	return same ? 1 : tc_fail(err, TC_CHECK, "%s: a different result is there already", path);
}

static int
write_text(struct tc_output *o, const char *path, const char *text, struct tc_err *err)
{
	return tc_write_all(tc_output_fd(o), text, strlen(text), err) < 0 ? tc_err_at(err, "%s", path) : 0;
}

/* 0: written, 1: somebody else was first, -1. */
static int
create(const char *path, const char *text, struct tc_err *err)
{
	struct tc_output *o;

	if (tc_output_open(&o, path, err) < 0)
		return -1;
	if (write_text(o, path, text, err) < 0 || write_text(o, path, "\n", err) < 0) {
		tc_output_discard(o);
		return -1;
	}
	return tc_output_commit_new(o, err);
}

int
tc_result_write(struct tc_cli *cli, const char *path, const struct tc_source *source, json_t *measured, json_t *run)
{
	char hex[TC_SHA256_HEX];
	char *text = compose(cli, source, measured, run, hex);
	int r;

	if (!text)
		return -1;
	/* Again when another writer of the same cell came between. */
	do {
		r = compare(path, hex, &cli->err);
		if (r != 0)
			break;
		r = create(path, text, &cli->err);
	} while (r > 0);
	free(text);
	return r < 0 ? -1 : 0;
}

int
tc_result_check(const char *path, struct tc_err *err)
{
	const char *slash = strrchr(path, '/');
	char dir[PATH_MAX];

	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
	if (access(dir[0] ? dir : "/", W_OK) == 0)
		return 0;
	tc_fail_errno(err, "%s", path);
	err->code = TC_IO;
	return -1;
}
