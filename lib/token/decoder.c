/* Design: a token's bytes are worked out once, when the tokenizer is loaded,
 * and again for the first token of a text where that one differs (Metaspace).
 * Only the characters that a text as a whole loses at its start (Strip behind
 * Fuse) are left for later. */
#include "token/decoder.h"

#include <stdlib.h>
#include <string.h>

#include "token/bytelevel.h"
#include "token/fallback.h"
#include "token/pattern.h"
#include "token/section.h"
#include "token/utf8.h"

enum {
	STEPS_MAX = 16
};

enum what { BYTE_LEVEL, BYTE_FALLBACK, FUSE, METASPACE, REPLACE, STRIP };

struct tc_decode_step {
	enum what what;
	struct tc_pattern *pattern;  /* Replace */
	struct tc_buf text;          /* what Replace puts; the character of Metaspace and Strip */
	bool drop_first;             /* Metaspace: not a space in the first token */
	size_t start, stop;          /* Strip: how many at most */
};

/* --- the section --- */

/* Do the steps so far make one string of all tokens? */
static bool
joined(const struct tc_decoder *d)
{
	enum what last = d->n_steps ? d->steps[d->n_steps - 1].what : REPLACE;

	return last == FUSE || last == BYTE_LEVEL;
}

static struct tc_decode_step *
add_step(struct tc_decoder *d, enum what what, struct tc_err *err)
{
	struct tc_decode_step *step = &d->steps[d->n_steps];

	if (joined(d) && what != FUSE && what != STRIP) {
		tc_fail(err, TC_DATA, "a decoder behind 'Fuse' or 'ByteLevel' is neither 'Fuse' nor 'Strip'");
		return NULL;
	}
	if (d->n_steps == STEPS_MAX) {
		tc_fail(err, TC_DATA, "decoder: more than %d steps", STEPS_MAX);
		return NULL;
	}
	step->what = what;
	d->n_steps++;
	return step;
}

static int
add_byte_level(void *ctx, const json_t *o, struct tc_err *err)
{
	const struct tc_decoder *d = ctx;

	(void)o;
	/* It would look at what the others made of all tokens as one string. */
	if (d->n_steps)
		return tc_fail(err, TC_DATA, "decoder 'ByteLevel' behind another is not supported");
	return add_step(ctx, BYTE_LEVEL, err) ? 0 : -1;
}

static int
add_byte_fallback(void *ctx, const json_t *o, struct tc_err *err)
{
	(void)o;
	return add_step(ctx, BYTE_FALLBACK, err) ? 0 : -1;
}

static int
add_fuse(void *ctx, const json_t *o, struct tc_err *err)
{
	(void)o;
	return add_step(ctx, FUSE, err) ? 0 : -1;
}

static int
add_replace(void *ctx, const json_t *o, struct tc_err *err)
{
	static const char where[] = "decoder 'Replace'";
	struct tc_decode_step *step = add_step(ctx, REPLACE, err);
	const char *text;
	size_t n;

	if (!step || tc_field_string(o, where, "content", &text, &n, err) < 0 ||
	    tc_buf_append(&step->text, text, n, err) < 0)
		return -1;
	return tc_field_pattern(o, where, &step->pattern, err);
}

static int
read_character(struct tc_decode_step *step, const json_t *o, const char *where, const char *key, struct tc_err *err)
{
	const char *text;
	size_t n, used = 0;

	if (tc_field_string(o, where, key, &text, &n, err) < 0)
		return -1;
	if (n > 0)
		tc_utf8_get((const unsigned char *)text, &used);
	if (n == 0 || used != n)
		return tc_fail(err, TC_DATA, "%s: '%s' is not one character", where, key);
	return tc_buf_append(&step->text, text, n, err);
}

static int
add_metaspace(void *ctx, const json_t *o, struct tc_err *err)
{
	static const char where[] = "decoder 'Metaspace'";
	const char *scheme = json_string_value(json_object_get(o, "prepend_scheme"));
	struct tc_decode_step *step = add_step(ctx, METASPACE, err);
	bool prefix = true;

	if (!step || tc_field_optional_bool(o, where, "add_prefix_space", &prefix, err) < 0)
		return -1;
	step->drop_first = prefix && !(scheme && strcmp(scheme, "never") == 0);
	return read_character(step, o, where, "replacement", err);
}

static int
read_times(const json_t *o, const char *key, size_t *v, struct tc_err *err)
{
	const json_t *f = json_object_get(o, key);

	if (!json_is_integer(f) || json_integer_value(f) < 0)
		return tc_fail(err, TC_DATA, "decoder 'Strip': '%s' is not a count", key);
	*v = (size_t)json_integer_value(f);
	return 0;
}

static int
add_strip(void *ctx, const json_t *o, struct tc_err *err)
{
	struct tc_decoder *d = ctx;
	bool fused = joined(d);
	struct tc_decode_step *step = add_step(d, STRIP, err);

	if (!step || read_character(step, o, "decoder 'Strip'", "content", err) < 0 ||
	    read_times(o, "start", &step->start, err) < 0 || read_times(o, "stop", &step->stop, err) < 0)
		return -1;
	if (!fused)
		return 0;
	/* The end of a text isn't known when a token of it is decoded. */
	if (step->stop || d->strip_times)
		return tc_fail(err, TC_DATA, "decoder 'Strip' at the end of a text, or twice, is not supported");
	memcpy(d->strip, step->text.p, step->text.n);
	d->strip_bytes = step->text.n;
	d->strip_times = step->start;
	tc_buf_free(&step->text);
	d->n_steps--; /* not a step of each token */
	return 0;
}

static const struct tc_kind kinds[] = {
	{ "ByteFallback", add_byte_fallback },
	{ "ByteLevel", add_byte_level },
	{ "Fuse", add_fuse },
	{ "Metaspace", add_metaspace },
	{ "Replace", add_replace },
	{ "Strip", add_strip },
};

static const struct tc_section decoder = {
	"decoder", "decoders", kinds, sizeof(kinds) / sizeof(*kinds)
};

/* --- one token --- */

static bool
has(const char *s, size_t n, const void *text, size_t k)
{
	return n >= k && memcmp(s, text, k) == 0;
}

static int
run_metaspace(const struct tc_decode_step *step, const char *s, size_t n, bool first, struct tc_buf *out,
    struct tc_err *err)
{
	size_t k;

	for (size_t i = 0; i < n; i += k) {
		bool space = has(s + i, n - i, step->text.p, step->text.n);

		tc_utf8_get((const unsigned char *)s + i, &k);
		if (space && first && step->drop_first)
			continue;
		if (tc_buf_append(out, space ? " " : s + i, space ? 1 : k, err) < 0)
			return -1;
	}
	return 0;
}

static int
run_replace(const struct tc_decode_step *step, const char *s, size_t n, struct tc_buf *out, struct tc_err *err)
{
	struct tc_pattern_walk walk = {0};
	size_t from, to, done = 0;
	int r;

	while ((r = tc_pattern_next(step->pattern, s, n, &walk, &from, &to, err)) > 0) {
		if (tc_buf_append(out, s + done, from - done, err) < 0 ||
		    tc_buf_append(out, step->text.p, step->text.n, err) < 0)
			return -1;
		done = to;
	}
	return r < 0 ? -1 : tc_buf_append(out, s + done, n - done, err);
}

static int
run_strip(const struct tc_decode_step *step, const char *s, size_t n, struct tc_buf *out, struct tc_err *err)
{
	size_t k = step->text.n;

	for (size_t i = 0; i < step->start && has(s, n, step->text.p, k); i++, n -= k)
		s += k;
	for (size_t i = 0; i < step->stop && n >= k && has(s + n - k, k, step->text.p, k); i++)
		n -= k;
	return tc_buf_append(out, s, n, err);
}

static int
run_step(const struct tc_decode_step *step, const char *s, size_t n, bool first, bool *byte, struct tc_buf *out,
    struct tc_err *err)
{
	unsigned char b;

	switch (step->what) {
	case BYTE_LEVEL:
		return tc_bytelevel_unspell(s, n, out, err);
	case BYTE_FALLBACK:
		*byte = tc_fallback_byte(s, n, &b);
		return *byte ? tc_buf_append(out, &b, 1, err) : tc_buf_append(out, s, n, err);
	case METASPACE:
		return run_metaspace(step, s, n, first, out, err);
	case REPLACE:
		return run_replace(step, s, n, out, err);
	case STRIP:
		return run_strip(step, s, n, out, err);
	default:
		return tc_buf_append(out, s, n, err);
	}
}

/* Appends the bytes of a token spelled s[0..n).  A byte that is no character
 * by itself passes the other steps as it is. */
static int
render(const struct tc_decoder *d, const char *s, size_t n, bool first, struct tc_buf *out, struct tc_err *err)
{
	struct tc_buf scratch[2] = {0};
	bool byte = false;
	int r = -1;

	for (size_t i = 0; i < d->n_steps && !byte; i++) {
		struct tc_buf *to = &scratch[i % 2];

		to->n = 0;
		if (tc_buf_reserve(to, n + 1, err) < 0 || run_step(&d->steps[i], s, n, first, &byte, to, err) < 0)
			goto out;
		s = (const char *)to->p;
		n = to->n;
	}
	r = tc_buf_append(out, s, n, err);
out:
	tc_buf_free(&scratch[0]);
	tc_buf_free(&scratch[1]);
	return r;
}

static int
render_all(const struct tc_decoder *d, const struct tc_vocab *vocab, bool first, struct tc_token_bytes *b,
    struct tc_err *err)
{
	b->ends = tc_alloc(d->n_ids, sizeof(*b->ends), err);
	if (!b->ends)
		return -1;
	for (uint32_t id = 0; id < d->n_ids; id++) {
		const struct tc_token *t = &vocab->tokens[id];

		if (t->flags && render(d, tc_vocab_text(vocab, id), t->n, first, &b->text, err) < 0)
			return -1;
		b->ends[id] = b->text.n;
	}
	return 0;
}

int
tc_decoder_load(struct tc_decoder *d, const json_t *section, const struct tc_vocab *vocab, struct tc_err *err)
{
	bool first_differs = false;

	d->steps = tc_zalloc(STEPS_MAX + 1, sizeof(*d->steps), err);
	if (!d->steps || tc_section_load(&decoder, section, d, err) < 0)
		return -1;
	for (size_t i = 0; i < d->n_steps; i++)
		first_differs = first_differs || d->steps[i].drop_first;
	d->spaced = !section || json_is_null(section);
	d->n_ids = vocab->n_ids;
	if (render_all(d, vocab, false, &d->bytes, err) < 0)
		return -1;
	return first_differs ? render_all(d, vocab, true, &d->first, err) : 0;
}

void
tc_decoder_free(struct tc_decoder *d)
{
	for (size_t i = 0; d->steps && i <= STEPS_MAX; i++) {
		tc_pattern_free(d->steps[i].pattern);
		tc_buf_free(&d->steps[i].text);
	}
	free(d->steps);
	tc_buf_free(&d->bytes.text);
	tc_buf_free(&d->first.text);
	free(d->bytes.ends);
	free(d->first.ends);
	*d = (struct tc_decoder){0};
}

/* Takes what the text loses at its start from the bytes that were appended. */
static void
strip_start(const struct tc_decoder *d, struct tc_decoding *at, struct tc_buf *out, size_t from)
{
	size_t k = d->strip_bytes, done = from;

	for (; at->stripped < d->strip_times && has((const char *)out->p + done, out->n - done, d->strip, k); done += k)
		at->stripped++;
	if (done < out->n)
		at->stripped = d->strip_times;
	memmove(out->p + from, out->p + done, out->n - done);
	out->n -= done - from;
}

int
tc_decoder_append(const struct tc_decoder *d, struct tc_decoding *at, uint32_t id, struct tc_buf *out,
    struct tc_err *err)
{
	const struct tc_token_bytes *b = !at->started && d->first.ends ? &d->first : &d->bytes;
	size_t from = id ? b->ends[id - 1] : 0, before = out->n;

	if (d->spaced && at->started && tc_buf_append(out, " ", 1, err) < 0)
		return -1;
	at->started = true;
	if (b->ends[id] > from && tc_buf_append(out, b->text.p + from, b->ends[id] - from, err) < 0)
		return -1;
	if (at->stripped < d->strip_times && out->n > before)
		strip_start(d, at, out, before);
	return 0;
}
