#include "cli/tokens.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES_MAX ((size_t)4 << 30)
#define IDS_BYTES_MAX ((size_t)1 << 30)

void
tc_ids_free(struct tc_ids *i)
{
	free(i->ids);
	free(i->length);
	*i = (struct tc_ids){0};
}

/* ---- --ids ---- */

static int
append_array(struct tc_ids *out, const json_t *a, size_t seq, struct tc_err *err)
{
	const json_t *v;
	size_t i;

	json_array_foreach(a, i, v) {
		if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > UINT32_MAX)
			return tc_fail(err, TC_DATA, "sequence %zu: item %zu is not a token id", seq, i);
		out->ids[out->n++] = (uint32_t)json_integer_value(v);
	}
	out->length[out->nseq++] = json_array_size(a);
	return 0;
}

static int
ids_of_json(const json_t *root, struct tc_ids *out, struct tc_err *err)
{
	bool nested = json_is_array(root) && json_is_array(json_array_get(root, 0));
	size_t total = 0, n = nested ? json_array_size(root) : 1;
	const json_t *v;
	size_t i;

	if (!json_is_array(root))
		return tc_fail(err, TC_DATA, "not a JSON array of token ids");
	json_array_foreach(root, i, v) {
		if (nested && !json_is_array(v))
			return tc_fail(err, TC_DATA, "item %zu is not an array", i);
		total += nested ? json_array_size(v) : 1;
	}
	out->ids = tc_alloc(total, sizeof(*out->ids), err);
	out->length = tc_alloc(n, sizeof(*out->length), err);
	if (!out->ids || !out->length)
		return -1;
	if (!nested)
		return append_array(out, root, 0, err);
	json_array_foreach(root, i, v)
		if (append_array(out, v, i, err) < 0)
			return -1;
	return 0;
}

static int
read_ids(const char *path, struct tc_ids *out, struct tc_err *err)
{
	struct tc_buf b = {0};
	json_error_t why;
	json_t *root = NULL;
	int r = -1;

	if (tc_read_file(path, &b, IDS_BYTES_MAX, err) < 0)
		goto out;
	root = json_loadb((const char *)b.p, b.n, 0, &why);
	if (!root) {
		tc_fail(err, TC_DATA, "%s: line %d: %s", path, why.line, why.text);
		goto out;
	}
	r = ids_of_json(root, out, err);
	if (r < 0)
		tc_err_at(err, "%s", path);
out:
	json_decref(root);
	tc_buf_free(&b);
	return r;
}

/* ---- text ---- */

static bool
blank(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strchr(" \t\r\n\v\f", p[i]) || !p[i])
			return false;
	return true;
}

/* The length of the line at p, its newline included. */
static size_t
line_length(const char *p, size_t n)
{
	const char *end = memchr(p, '\n', n);

	return end ? (size_t)(end - p) + 1 : n;
}

/* As GPTQ's evaluation reads WikiText: each line with its newline, a blank one
 * as nothing, all joined by two newlines. */
static int
join_lines(const struct tc_buf *text, struct tc_buf *out, struct tc_err *err)
{
	const char *p = (const char *)text->p;

	for (size_t at = 0; at < text->n;) {
		size_t n = line_length(p + at, text->n - at);

		if (at > 0 && tc_buf_append(out, "\n\n", 2, err) < 0)
			return -1;
		if (!blank(p + at, n) && tc_buf_append(out, p + at, n, err) < 0)
			return -1;
		at += n;
	}
	return 0;
}

static int
encode_lines(struct tc_tokenizer *tok, const struct tc_buf *text, struct tc_ids *out, struct tc_err *err)
{
	const char *p = (const char *)text->p;
	struct tc_buf ids = {0}, lengths = {0};
	int r = -1;

	for (size_t at = 0; at < text->n;) {
		size_t n = line_length(p + at, text->n - at), count, bare = n;
		uint32_t *one = NULL;

		if (p[at + n - 1] == '\n')
			bare--;
		if (!blank(p + at, n)) {
			if (tc_tokenizer_encode(tok, p + at, bare, true, &one, &count, err) < 0) {
				tc_err_at(err, "the line at byte %zu", at);
				goto out;
			}
			r = tc_buf_append(&ids, one, count * sizeof(*one), err);
			if (r == 0)
				r = tc_buf_append(&lengths, &count, sizeof(count), err);
			free(one);
			if (r < 0)
				goto out;
			out->nseq++;
		}
		at += n;
	}
	out->ids = (uint32_t *)ids.p;
	out->n = ids.n / sizeof(*out->ids);
	out->length = (size_t *)lengths.p;
	return 0;
out:
	tc_buf_free(&ids);
	tc_buf_free(&lengths);
	return -1;
}

static int
encode(struct tc_tokenizer *tok, const struct tc_buf *text, enum tc_text_as as, struct tc_ids *out, struct tc_err *err)
{
	struct tc_buf joined = {0};
	int r;

	if (as == TC_TEXT_LINES)
		return encode_lines(tok, text, out, err);
	if (as == TC_TEXT_JOINED && join_lines(text, &joined, err) < 0) {
		tc_buf_free(&joined);
		return -1;
	}
	if (as == TC_TEXT_JOINED)
		text = &joined;
	r = tc_tokenizer_encode(tok, (const char *)text->p, text->n, true, &out->ids, &out->n, err);
	tc_buf_free(&joined);
	return r;
}

int
tc_cli_read_text(struct tc_cli *cli, const char *path, const char *embedded, struct tc_buf *text, char sha256[TC_SHA256_HEX])
{
	char share[PATH_MAX];

	if (!path) {
		if (tc_cli_share(cli, embedded, share, sizeof(share)) < 0)
			return -1;
		path = share;
		tc_cli_say(cli, "no text given: using the embedded %s", strrchr(embedded, '/') + 1);
	}
	if (tc_read_file(path, text, TEXT_BYTES_MAX, &cli->err) < 0)
		return -1;
	if (text->n == 0)
		return tc_fail(&cli->err, TC_DATA, "%s: is empty", path);
	return tc_sha256_of(text->p, text->n, sha256, &cli->err);
}

int
tc_cli_text(struct tc_cli *cli, struct tc_tokenizer *tok, const char *path, const char *embedded, enum tc_text_as as,
    struct tc_ids *out)
{
	struct tc_buf text = {0};
	int r = -1;

	*out = (struct tc_ids){0};
	if (!tok)
		return tc_fail(&cli->err, TC_DATA, "the model has no tokenizer.json: give token ids with --ids FILE");
	if (tc_cli_read_text(cli, path, embedded, &text, out->sha256) < 0)
		goto out;
	r = encode(tok, &text, as, out, &cli->err);
	if (r < 0)
		tc_err_at(&cli->err, "%s", path ? path : embedded);
out:
	tc_buf_free(&text);
	if (r < 0)
		tc_ids_free(out);
	return r;
}

int
tc_cli_tokens(struct tc_cli *cli, struct tc_tokenizer *tok, const char *embedded, enum tc_text_as as, struct tc_ids *out)
{
	const struct tc_common *o = cli->common;

	*out = (struct tc_ids){0};
	if (o->ids && o->text)
		return tc_fail(&cli->err, TC_USAGE, "--text and --ids exclude each other");
	if (!o->ids)
		return tc_cli_text(cli, tok, o->text, embedded, as, out);
	if (read_ids(o->ids, out, &cli->err) < 0) {
		tc_ids_free(out);
		return -1;
	}
	return 0;
}

int
tc_cli_take_tokenizer(struct tc_cli *cli, const struct tc_record *r, struct tc_tokenizer **tok)
{
	if (r->kind != TC_KIND_FILE || strcmp(r->u.file.name, "tokenizer.json") != 0)
		return 0;
	tc_tokenizer_free(*tok);
	*tok = NULL;
	return tc_tokenizer_load(tok, r->part[0].data, r->part[0].size_bytes, &cli->err) < 0 ? -1 : 1;
}

bool
tc_tokenizer_bos(struct tc_tokenizer *tok, uint32_t *bos)
{
	struct tc_err ignored;
	uint32_t *ids = NULL;
	size_t n = 0;
	bool one;

	/* Only what comes before a text: an end token of the template would
	 * stand after it. */
	if (tc_tokenizer_encode(tok, "a", 1, true, &ids, &n, &ignored) < 0)
		return false;
	one = n > 1 && tc_tokenizer_is_special(tok, ids[0]);
	if (one)
		*bos = ids[0];
	free(ids);
	return one;
}
