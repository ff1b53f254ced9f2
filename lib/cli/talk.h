/* talk.h - a model to generate with: loaded whole, with its tokenizer, its
 * chat template and the tokens that end its texts. */
#ifndef TC_CLI_TALK_H
#define TC_CLI_TALK_H

#include "cli/cli.h"
#include "model/decode.h"
#include "token/tokenizer.h"

#define TC_TALK_EOS_MAX 32

struct tc_talk {
	struct tc_source *source;
	struct tc_model model;
	struct tc_tokenizer *tokenizer;  /* NULL: the model has none */
	char *template;                  /* of chats, as Jinja; NULL: none */
	char *bos_token, *eos_token;     /* that it speaks of; NULL: not said */
	uint32_t eos[TC_TALK_EOS_MAX];   /* of config.json and generation_config.json */
	size_t neos;
	/* Set by the caller: also sees the records that the model takes. */
	int (*also)(void *ctx, const struct tc_record *r, bool mapped, struct tc_err *err);
	void *ctx;
};

/* Reads the model of t->source, which the caller has opened, to its end;
 * matrix products as compute says (NULL: f32).  Set *t to {0} first, but for what
 * is the caller's, and close it in any case. */
int tc_talk_load(struct tc_talk *t, struct tc_cli *cli, struct tc_compute *compute) TC_MUST_CHECK;
void tc_talk_close(struct tc_talk *t);

/* TC_DATA unless token ids mean the same to both. */
int tc_talk_same_tokens(const struct tc_talk *t, const struct tc_talk *other, struct tc_err *err) TC_MUST_CHECK;

bool tc_talk_ends(const struct tc_talk *t, uint32_t id); /* is it one of eos? */

#endif
