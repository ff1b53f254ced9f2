#include "cli/draw.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

/* The sequences of all shards, as places in the text. */
struct places {
	size_t n;
	size_t *begin, *length;
};

static size_t
count_or(int64_t given, size_t otherwise)
{
	return given == TC_UNSET ? otherwise : (size_t)given;
}

/* The sequences of --ids. */
static int
take_given(const struct tc_common *o, const struct tc_ids *text, struct places *p, struct tc_err *err)
{
	size_t skip = count_or(o->skip, 0), have = text->nseq;
	size_t n = count_or(o->samples, have > skip ? have - skip : 0), at = 0;

	if (n == 0 || skip + n > have)
		return tc_fail(err, TC_DATA, "%s has %zu sequences; %zu after the first %zu were asked for",
		    o->ids, have, n, skip);
	for (size_t i = 0; i < skip + n; at += text->length[i++]) {
		if (i < skip)
			continue;
		if (text->length[i] == 0)
			return tc_fail(err, TC_DATA, "%s: sequence %zu is empty", o->ids, i);
		p->begin[p->n] = at;
		p->length[p->n++] = text->length[i];
	}
	return 0;
}

static int
take_windows(const struct tc_common *o, const struct tc_ids *text, size_t n, size_t seqlen, struct places *p, struct tc_err *err)
{
	size_t skip = count_or(o->skip, 0), have = text->n / seqlen;
	struct tc_rng rng;

	if (o->seed == TC_UNSET && (skip > have || n > have - skip))
		return tc_fail(err, TC_DATA, "the text has %zu windows of %zu tokens; %zu after the first %zu were asked for",
		    have, seqlen, n, skip);
	if (have == 0)
		return tc_fail(err, TC_DATA, "the text has %zu tokens, a window takes %zu", text->n, seqlen);
	if (o->seed != TC_UNSET)
		tc_rng_seed(&rng, (uint64_t)o->seed);
	for (size_t i = 0; i < skip + n; i++) {
		size_t begin = o->seed == TC_UNSET ? i * seqlen : tc_rng_below(&rng, text->n - seqlen + 1);

		if (i < skip)
			continue;
		p->begin[p->n] = begin;
		p->length[p->n++] = seqlen;
	}
	return 0;
}

/* Of all sequences this shard's. */
static int
copy_shard(const struct tc_common *o, const struct tc_ids *text, const struct places *p, struct tc_draw *out, struct tc_err *err)
{
	size_t first = p->n * (size_t)(o->shard.i - 1) / (size_t)o->shard.n;
	size_t last = p->n * (size_t)o->shard.i / (size_t)o->shard.n, at = 0;

	if (first == last)
		return tc_fail(err, TC_USAGE, "--shard %lld/%lld: there are only %zu sequences", (long long)o->shard.i,
		    (long long)o->shard.n, p->n);
	out->first = first;
	out->nseq = last - first;
	for (size_t i = first; i < last; i++)
		out->ntokens += p->length[i];
	out->length = tc_alloc(out->nseq, sizeof(*out->length), err);
	out->ids = tc_alloc(out->ntokens, sizeof(*out->ids), err);
	if (!out->length || !out->ids)
		return -1;
	for (size_t i = first; i < last; at += p->length[i++]) {
		out->length[i - first] = p->length[i];
		memcpy(out->ids + at, text->ids + p->begin[i], p->length[i] * sizeof(*out->ids));
	}
	return 0;
}

int
tc_cli_draw(struct tc_cli *cli, const struct tc_ids *text, size_t positions, size_t samples, size_t seqlen, struct tc_draw *out)
{
	const struct tc_common *o = cli->common;
	struct tc_err *err = &cli->err;
	size_t length = count_or(o->seqlen, tc_min(seqlen, positions)), n = count_or(o->samples, samples), most = n;
	struct places p = {0};
	int r = -1;

	*out = (struct tc_draw){0};
	if (text->nseq <= 1 && length > positions)
		return tc_fail(err, TC_USAGE, "--seqlen %zu: the model has %zu positions", length, positions);
	if (text->nseq > 1 && (o->seqlen != TC_UNSET || o->seed != TC_UNSET))
		tc_cli_say(cli, "the sequences of %s are taken as they are: --seqlen and --seed are for a text", o->ids);
	/* More than there is cannot be meant, but with a seed. */
	if (o->seed == TC_UNSET)
		most = tc_min(n, text->nseq > 1 ? text->nseq : text->n / tc_max(length, 1));
	p.begin = tc_alloc(tc_max(text->nseq, most), sizeof(*p.begin), err);
	p.length = tc_alloc(tc_max(text->nseq, most), sizeof(*p.length), err);
	if (p.begin && p.length)
		r = text->nseq > 1 ? take_given(o, text, &p, err) : take_windows(o, text, n, length, &p, err);
	if (r == 0)
		r = copy_shard(o, text, &p, out, err);
	free(p.begin);
	free(p.length);
	if (r < 0)
		tc_draw_free(out);
	return r;
}

int
tc_draw_held(const struct tc_hold *h, size_t most, struct tc_draw *d, struct tc_err *err)
{
	const struct tc_record *r = tc_hold_tokens(h, "calib");

	*d = (struct tc_draw){0};
	if (!r || r->u.tokens.nseq == 0)
		return tc_fail(err, TC_DATA, "the stream carries no calibration tokens: tc-calib(1) puts them there");
	*d = (struct tc_draw){ .first = r->u.tokens.first, .nseq = tc_min(r->u.tokens.nseq, most) };
	d->length = tc_alloc(d->nseq, sizeof(*d->length), err);
	if (!d->length)
		return -1;
	for (size_t i = 0; i < d->nseq; i++)
		d->ntokens += d->length[i] = r->u.tokens.length[i];
	d->ids = tc_alloc(d->ntokens, sizeof(*d->ids), err);
	if (!d->ids) {
		tc_draw_free(d);
		return -1;
	}
	memcpy(d->ids, r->part[0].data, d->ntokens * sizeof(*d->ids));
	return 0;
}

void
tc_draw_free(struct tc_draw *d)
{
	free(d->length);
	free(d->ids);
	*d = (struct tc_draw){0};
}

int
tc_cli_draw_put(struct tc_cli *cli, const struct tc_draw *d, const char *tag, const struct tc_ids *text)
{
	struct tc_record r = { .kind = TC_KIND_TOKENS, .nparts = 1 };
	struct tc_tokens *t = &r.u.tokens;
	int result;

	*t = (struct tc_tokens){ .first = d->first, .nseq = d->nseq };
	snprintf(t->tag, sizeof(t->tag), "%s", tag);
	snprintf(t->text_sha256, sizeof(t->text_sha256), "%s", text->sha256);
	t->length = tc_alloc(d->nseq, sizeof(*t->length), &cli->err);
	if (!t->length)
		return -1;
	for (size_t i = 0; i < d->nseq; i++)
		t->length[i] = d->length[i];
	r.part[0] = (struct tc_part){ .name = "data", .data = d->ids, .size_bytes = d->ntokens * sizeof(*d->ids) };
	result = tc_writer_put(cli->writer, &r, &cli->err);
	free(t->length);
	return result;
}
