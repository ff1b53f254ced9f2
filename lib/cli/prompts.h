/* prompts.h - what a stage generates from, --prompt, --prompts, --ids, --chat
 * and --system, and how (TC_COMMON_PROMPT). */
#ifndef TC_CLI_PROMPTS_H
#define TC_CLI_PROMPTS_H

#include "cli/cli.h"
#include "cli/talk.h"
#include "model/sample.h"

#define TC_DEFAULT_PROMPT "SQLite is a C library that"

struct tc_prompt {
	char *text;       /* as it was given, of a conversation the last turn; NULL: as ids */
	bool chat;        /* it is a conversation, written as the chat template says */
	uint32_t *ids;    /* [n], n > 0 */
	size_t n;
};

struct tc_prompts {
	struct tc_prompt *prompt;
	size_t n;
};

/* At least one.  --prompts names a file of share/prompts (coach, docs, general)
 * or any other, a prompt a line (a carriage return at its end is none of it): a
 * text, or a JSON object with "prompt", with "user" and perhaps "system", or with
 * "messages", [{"role", "content"}, ...].  The last two, and with --chat texts
 * too, are conversations.  TC_USAGE: options that exclude each other; TC_DATA: no
 * tokenizer or template where one is needed, a malformed file, an empty prompt.
 * *p needs tc_prompts_free() in any case. */
int tc_prompts_read(struct tc_prompts *p, struct tc_cli *cli, const struct tc_talk *talk) TC_MUST_CHECK;
void tc_prompts_free(struct tc_prompts *p);

struct tc_sampling tc_cli_sampling(const struct tc_common *o);

#endif
