#include "cli/prompts.h"

#include <stdlib.h>
#include <string.h>

#include "cli/tokens.h"
#include "token/chat.h"

#define PROMPTS_BYTES_MAX ((size_t)64 << 20)

struct reading {
	struct tc_prompts *out;
	struct tc_cli *cli;
	const struct tc_common *o;
	const struct tc_talk *talk;
	struct tc_chat *chat;    /* NULL: prompts are texts to continue */
	size_t room;             /* prompts that out->prompt has room for */
};

/* The text as it is, or as a user's turn. */
static int
write_prompt(const struct reading *r, const char *text, struct tc_buf *b)
{
	struct tc_turn turn[] = { { "system", r->o->system }, { "user", text } };
	size_t first = r->o->system ? 0 : 1;

	if (!r->chat)
		return tc_buf_append(b, text, strlen(text), &r->cli->err);
	return tc_chat_render(r->chat, turn + first, 2 - first, b, &r->cli->err);
}

static int
encode_prompt(const struct reading *r, struct tc_prompt *p)
{
	struct tc_buf b = {0};
	int got = write_prompt(r, p->text, &b);

	if (got == 0)
		got = tc_tokenizer_encode(r->talk->tokenizer, (const char *)b.p, b.n, true, &p->ids, &p->n, &r->cli->err);
	tc_buf_free(&b);
	return got;
}

static struct tc_prompt *
new_prompt(struct reading *r)
{
	size_t room = r->room ? 2 * r->room : 1;
	struct tc_prompt *more;

	if (r->out->n == r->room) {
		more = realloc(r->out->prompt, room * sizeof(*more));
		if (!more) {
			tc_fail_nomem(&r->cli->err, room * sizeof(*more));
			return NULL;
		}
		r->out->prompt = more;
		r->room = room;
	}
	r->out->prompt[r->out->n] = (struct tc_prompt){0};
	return &r->out->prompt[r->out->n++];
}

static int
add_prompt(struct reading *r, const char *text, size_t n)
{
	struct tc_err *err = &r->cli->err;
	struct tc_prompt *p = new_prompt(r);

	if (!p)
		return -1;
	p->chat = r->chat != NULL;
	p->text = tc_strndup(text, n, err);
	if (!p->text)
		return -1;
	if (!r->talk->tokenizer)
		return tc_fail(err, TC_DATA, "the model has no tokenizer.json: give token ids with --ids FILE");
	if (encode_prompt(r, p) < 0)
		return tc_err_at(err, "prompt %zu", r->out->n);
	return p->n > 0 ? 0 : tc_fail(err, TC_DATA, "prompt %zu is empty", r->out->n);
}

/* ---- --prompts ---- */

static int
add_object(struct reading *r, const char *line, size_t n)
{
	struct tc_err *err = &r->cli->err;
	const char *text;
	json_error_t why;
	json_t *o = json_loadb(line, n, 0, &why);
	int got;

	if (!o)
		return tc_fail(err, TC_DATA, "prompt %zu: %s", r->out->n + 1, why.text);
	text = json_string_value(json_object_get(o, "prompt"));
	got = text ? add_prompt(r, text, strlen(text)) : tc_fail(err, TC_DATA, "prompt %zu: no \"prompt\" in it", r->out->n + 1);
	json_decref(o);
	return got;
}

static int
add_lines(struct reading *r, const struct tc_buf *b)
{
	for (size_t at = 0, n; at < b->n; at += n + 1) {
		const char *line = (const char *)b->p + at, *end = memchr(line, '\n', b->n - at);

		n = end ? (size_t)(end - line) : b->n - at;
		if (memchr(line, 0, n))
			return tc_fail(&r->cli->err, TC_DATA, "a NUL byte in prompt %zu", r->out->n + 1);
		if (n > 0 && (line[0] == '{' ? add_object(r, line, n) : add_prompt(r, line, n)) < 0)
			return -1;
	}
	return r->out->n > 0 ? 0 : tc_fail(&r->cli->err, TC_DATA, "no prompt in it");
}

static int
read_file(struct reading *r)
{
	struct tc_buf b = {0};
	int got = tc_read_file(r->o->prompts, &b, PROMPTS_BYTES_MAX, &r->cli->err);

	if (got == 0 && add_lines(r, &b) < 0)
		got = tc_err_at(&r->cli->err, "%s", r->o->prompts);
	tc_buf_free(&b);
	return got;
}

/* ---- --ids ---- */

static int
add_ids(struct reading *r, const uint32_t *ids, size_t n)
{
	struct tc_prompt *p = new_prompt(r);

	if (!p)
		return -1;
	if (n == 0)
		return tc_fail(&r->cli->err, TC_DATA, "%s: sequence %zu is empty", r->o->ids, r->out->n - 1);
	p->ids = tc_alloc(n, sizeof(*p->ids), &r->cli->err);
	if (!p->ids)
		return -1;
	memcpy(p->ids, ids, n * sizeof(*ids));
	p->n = n;
	return 0;
}

static int
read_ids(struct reading *r)
{
	struct tc_ids ids;
	int got = tc_cli_tokens(r->cli, NULL, NULL, TC_TEXT_RUNNING, &ids);

	if (got < 0)
		return -1;
	for (size_t i = 0, at = 0; got == 0 && i < ids.nseq; at += ids.length[i++])
		got = add_ids(r, ids.ids + at, ids.length[i]);
	tc_ids_free(&ids);
	return got;
}

/* ---- */

static int
check_options(const struct reading *r)
{
	const struct tc_common *o = r->o;
	struct tc_err *err = &r->cli->err;

	if ((o->prompt != NULL) + (o->prompts != NULL) + (o->ids != NULL) > 1)
		return tc_fail(err, TC_USAGE, "--prompt, --prompts and --ids exclude each other");
	if (o->system && !o->chat)
		return tc_fail(err, TC_USAGE, "--system goes with --chat");
	if (o->ids && o->chat)
		return tc_fail(err, TC_USAGE, "--ids and --chat exclude each other");
	return 0;
}

static int
open_chat(struct reading *r)
{
	if (!r->talk->template)
		return tc_fail(&r->cli->err, TC_DATA, "--chat: the model has no chat template");
	return tc_chat_open(&r->chat, r->talk->template, &r->cli->err);
}

int
tc_prompts_read(struct tc_prompts *p, struct tc_cli *cli, const struct tc_talk *talk)
{
	const struct tc_common *o = cli->common;
	struct reading r = { .out = p, .cli = cli, .o = o, .talk = talk };
	const char *text = o->prompt ? o->prompt : TC_DEFAULT_PROMPT;
	int got = -1;

	*p = (struct tc_prompts){0};
	if (check_options(&r) == 0 && (!o->chat || open_chat(&r) == 0))
		got = o->ids ? read_ids(&r) : o->prompts ? read_file(&r) : add_prompt(&r, text, strlen(text));
	tc_chat_close(r.chat);
	return got;
}

void
tc_prompts_free(struct tc_prompts *p)
{
	for (size_t i = 0; i < p->n; i++) {
		free(p->prompt[i].text);
		free(p->prompt[i].ids);
	}
	free(p->prompt);
	*p = (struct tc_prompts){0};
}

struct tc_sampling
tc_cli_sampling(const struct tc_common *o)
{
	return (struct tc_sampling){ o->temp, (size_t)o->top_k, o->top_p, o->repeat_penalty };
}
