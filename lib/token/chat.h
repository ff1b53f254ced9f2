/* chat.h - turns of a conversation as the text that a chat model was trained
 * on.  A model brings its template (Jinja); we know some by what they write
 * and refuse others by name, rather than guess. */
#ifndef TC_TOKEN_CHAT_H
#define TC_TOKEN_CHAT_H

#include <stddef.h>

#include "base/err.h"
#include "base/mem.h"

struct tc_turn {
	const char *role;     /* "system", "user", "assistant" */
	const char *content;
};

struct tc_chat;

/* From a model's chat template; bos and eos are what its bos_token and
 * eos_token stand for, NULL: what models of its kind have.  All are copied.
 * Known are ChatML (Qwen, SmolLM2), Gemma 1 to 3, Llama 2, Llama 3 to 3.3 and
 * Mistral's v0.1, v0.2, v1, v3 and v3-tekken.  TC_DATA: any other, or one of
 * these families that writes something else as well. */
int tc_chat_open(struct tc_chat **chat, const char *template, const char *bos, const char *eos, struct tc_err *err) TC_MUST_CHECK;
void tc_chat_close(struct tc_chat *chat);
const char *tc_chat_name(const struct tc_chat *chat);

/* Appends the turns and the beginning of the assistant's answer, and special
 * tokens as text wherever the template has them, BOS among them: to be encoded
 * without adding any.  Without a system turn the template's own default, if it
 * has one, comes first; where a template would write the day's date, the one
 * that it falls back to.  TC_DATA: roles out of order, or a system turn
 * where the template has none. */
int tc_chat_render(const struct tc_chat *chat, const struct tc_turn *turn, size_t n, struct tc_buf *out, struct tc_err *err) TC_MUST_CHECK;

#endif
