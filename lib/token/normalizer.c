#include "token/normalizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "token/charsmap.h"
#include "token/pattern.h"
#include "token/section.h"
#include "token/unicode.h"
#include "token/utf8.h"

enum {
	STEPS_MAX = 64
};

struct step;

/* Appends what s[0..n), n > 0, becomes; see tc_normalizer_run() for *first. */
typedef int step_run(struct step *step, const char *s, size_t n, bool *first, struct tc_buf *out,
    struct tc_err *err);

struct step {
	step_run *run;
	enum tc_unicode_form form;
	bool left, right;           /* Strip */
	struct tc_pattern *pattern; /* Replace */
	struct tc_buf text;         /* what Prepend and Replace put; scratch of NFC and its like */
	struct tc_charsmap *charsmap;
};

struct tc_normalizer {
	struct step steps[STEPS_MAX];
	size_t n_steps;
	struct tc_buf out[2]; /* in turns */
};

/* --- the steps --- */

static int
run_form(struct step *step, const char *s, size_t n, bool *first, struct tc_buf *out, struct tc_err *err)
{
	(void)first;
	return tc_unicode_normalize(step->form, s, n, &step->text, out, err);
}

static int
run_lowercase(struct step *step, const char *s, size_t n, bool *first, struct tc_buf *out, struct tc_err *err)
{
	(void)step, (void)first;
	return tc_unicode_lower(s, n, out, err);
}

static int
run_strip(struct step *step, const char *s, size_t n, bool *first, struct tc_buf *out, struct tc_err *err)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t from = step->left ? tc_utf8_spaces_at_start(p, n) : 0;

	*first = *first && from == 0;
	if (step->right)
		n -= tc_utf8_spaces_at_end(p + from, n - from);
	return tc_buf_append(out, s + from, n - from, err);
}

static int
run_strip_accents(struct step *step, const char *s, size_t n, bool *first, struct tc_buf *out, struct tc_err *err)
{
	size_t used;

	(void)step;
	for (size_t i = 0; i < n; i += used) {
		if (!tc_unicode_is_mark(tc_utf8_get((const unsigned char *)s + i, &used))) {
			if (tc_buf_append(out, s + i, used, err) < 0)
				return -1;
		} else if (i == 0) {
			*first = false;
		}
	}
	return 0;
}

static int
run_prepend(struct step *step, const char *s, size_t n, bool *first, struct tc_buf *out, struct tc_err *err)
{
	(void)first;
	if (tc_buf_append(out, step->text.p, step->text.n, err) < 0)
		return -1;
	return tc_buf_append(out, s, n, err);
}

static int
run_replace(struct step *step, const char *s, size_t n, bool *first, struct tc_buf *out, struct tc_err *err)
{
	struct tc_pattern_walk walk = {0};
	size_t from, to, done = 0;
	int r;

	while ((r = tc_pattern_next(step->pattern, s, n, &walk, &from, &to, err)) > 0) {
		if (tc_buf_append(out, s + done, from - done, err) < 0 ||
		    tc_buf_append(out, step->text.p, step->text.n, err) < 0)
			return -1;
		if (out->n == 0)
			*first = false;
		done = to;
	}
	return r < 0 ? -1 : tc_buf_append(out, s + done, n - done, err);
}

static int
run_precompiled(struct step *step, const char *s, size_t n, bool *first, struct tc_buf *out, struct tc_err *err)
{
	(void)first;
	return tc_charsmap_run(step->charsmap, s, n, out, err);
}

/* --- loading --- */

/* NULL and *err when there are too many. */
static struct step *
add_step(struct tc_normalizer *z, step_run *run, struct tc_err *err)
{
	struct step *step;

	if (z->n_steps == STEPS_MAX) {
		tc_fail(err, TC_DATA, "normalizer: more than %d steps", STEPS_MAX);
		return NULL;
	}
	step = &z->steps[z->n_steps++];
	step->run = run;
	return step;
}

static int
add_form(void *ctx, enum tc_unicode_form form, struct tc_err *err)
{
	struct step *step = add_step(ctx, run_form, err);

	if (!step)
		return -1;
	step->form = form;
	return 0;
}

static int
add_nfc(void *ctx, const json_t *o, struct tc_err *err)
{
	(void)o;
	return add_form(ctx, TC_NFC, err);
}

static int
add_nfd(void *ctx, const json_t *o, struct tc_err *err)
{
	(void)o;
	return add_form(ctx, TC_NFD, err);
}

static int
add_nfkc(void *ctx, const json_t *o, struct tc_err *err)
{
	(void)o;
	return add_form(ctx, TC_NFKC, err);
}

static int
add_nfkd(void *ctx, const json_t *o, struct tc_err *err)
{
	(void)o;
	return add_form(ctx, TC_NFKD, err);
}

static int
add_lowercase(void *ctx, const json_t *o, struct tc_err *err)
{
	(void)o;
	return add_step(ctx, run_lowercase, err) ? 0 : -1;
}

static int
add_strip_accents(void *ctx, const json_t *o, struct tc_err *err)
{
	(void)o;
	return add_step(ctx, run_strip_accents, err) ? 0 : -1;
}

static int
add_strip(void *ctx, const json_t *o, struct tc_err *err)
{
	static const char where[] = "normalizer 'Strip'";
	struct step *step = add_step(ctx, run_strip, err);

	if (!step || tc_field_bool(o, where, "strip_left", &step->left, err) < 0)
		return -1;
	return tc_field_bool(o, where, "strip_right", &step->right, err);
}

static int
add_prepend(void *ctx, const json_t *o, struct tc_err *err)
{
	struct step *step = add_step(ctx, run_prepend, err);
	const char *text;
	size_t n;

	if (!step || tc_field_string(o, "normalizer 'Prepend'", "prepend", &text, &n, err) < 0)
		return -1;
	return tc_buf_append(&step->text, text, n, err);
}

static int
add_replace(void *ctx, const json_t *o, struct tc_err *err)
{
	static const char where[] = "normalizer 'Replace'";
	struct step *step = add_step(ctx, run_replace, err);
	const char *text;
	size_t n;

	if (!step || tc_field_string(o, where, "content", &text, &n, err) < 0 ||
	    tc_buf_append(&step->text, text, n, err) < 0)
		return -1;
	return tc_field_pattern(o, where, &step->pattern, err);
}

static int
add_precompiled(void *ctx, const json_t *o, struct tc_err *err)
{
	static const char where[] = "normalizer 'Precompiled'";
	struct step *step = add_step(ctx, run_precompiled, err);
	const char *text;
	size_t n;

	if (!step || tc_field_string(o, where, "precompiled_charsmap", &text, &n, err) < 0)
		return -1;
	if (tc_charsmap_load(&step->charsmap, text, n, err) < 0)
		return tc_err_at(err, "%s", where);
	return 0;
}

static const struct tc_kind kinds[] = {
	{ "Lowercase", add_lowercase },
	{ "NFC", add_nfc },
	{ "NFD", add_nfd },
	{ "NFKC", add_nfkc },
	{ "NFKD", add_nfkd },
	{ "Precompiled", add_precompiled },
	{ "Prepend", add_prepend },
	{ "Replace", add_replace },
	{ "Strip", add_strip },
	{ "StripAccents", add_strip_accents },
};

static const struct tc_section normalizer = {
	"normalizer", "normalizers", kinds, sizeof(kinds) / sizeof(*kinds)
};

int
tc_normalizer_load(struct tc_normalizer **out, const json_t *section, struct tc_err *err)
{
	struct tc_normalizer *z = calloc(1, sizeof(*z));

	*out = NULL;
	if (!z)
		return tc_fail_nomem(err, sizeof(*z));
	if (tc_section_load(&normalizer, section, z, err) < 0) {
		tc_normalizer_free(z);
		return -1;
	}
	*out = z;
	return 0;
}

void
tc_normalizer_free(struct tc_normalizer *z)
{
	if (!z)
		return;
	for (size_t i = 0; i < z->n_steps; i++) {
		tc_pattern_free(z->steps[i].pattern);
		tc_buf_free(&z->steps[i].text);
		tc_charsmap_free(z->steps[i].charsmap);
	}
	tc_buf_free(&z->out[0]);
	tc_buf_free(&z->out[1]);
	free(z);
}

int
tc_normalizer_run(struct tc_normalizer *z, const char **s, size_t *n, bool *first, struct tc_err *err)
{
	for (size_t i = 0; i < z->n_steps && *n > 0; i++) {
		struct tc_buf *out = &z->out[i % 2];

		out->n = 0;
		if (tc_buf_reserve(out, 1, err) < 0 ||
		    z->steps[i].run(&z->steps[i], *s, *n, first, out, err) < 0)
			return -1;
		*s = (const char *)out->p;
		*n = out->n;
	}
	return 0;
}
