#include "token/decoder.h"

#include <stdlib.h>

#include "token/bytelevel.h"
#include "token/section.h"

/* What the section asks for. */
struct chain {
	bool byte_level, fuse;
};

static int
add_byte_level(void *ctx, const json_t *o, struct tc_err *err)
{
	struct chain *c = ctx;

	(void)o;
	/* Both would look at all tokens as one string. */
	if (c->byte_level || c->fuse)
		return tc_fail(err, TC_DATA, "decoder 'ByteLevel' behind another is not supported");
	c->byte_level = true;
	return 0;
}

/* It joins tokens, which is what we do with them anyway. */
static int
add_fuse(void *ctx, const json_t *o, struct tc_err *err)
{
	struct chain *c = ctx;

	(void)o, (void)err;
	c->fuse = true;
	return 0;
}

static const struct tc_kind kinds[] = {
	{ "ByteLevel", add_byte_level },
	{ "Fuse", add_fuse },
};

static const struct tc_section decoder = {
	"decoder", "decoders", kinds, sizeof(kinds) / sizeof(*kinds)
};

int
tc_decoder_load(struct tc_decoder *d, const json_t *section, const struct tc_vocab *vocab, struct tc_err *err)
{
	struct chain chain = {0};

	if (tc_section_load(&decoder, section, &chain, err) < 0)
		return -1;
	d->spaced = !section || json_is_null(section);
	d->n_ids = vocab->n_ids;
	d->ends = tc_alloc(d->n_ids, sizeof(*d->ends), err);
	if (!d->ends)
		return -1;
	for (uint32_t id = 0; id < d->n_ids; id++) {
		const struct tc_token *t = &vocab->tokens[id];
		int r = 0;

		if (t->flags && chain.byte_level)
			r = tc_bytelevel_unspell(tc_vocab_text(vocab, id), t->n, &d->text, err);
		else if (t->flags)
			r = tc_buf_append(&d->text, tc_vocab_text(vocab, id), t->n, err);
		if (r < 0)
			return -1;
		d->ends[id] = d->text.n;
	}
	return 0;
}

void
tc_decoder_free(struct tc_decoder *d)
{
	tc_buf_free(&d->text);
	free(d->ends);
	*d = (struct tc_decoder){0};
}
