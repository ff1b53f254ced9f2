/* Chat templates: what a conversation becomes.  ChatML's expected texts are
 * what Jinja made of SmolLM2's own template, Gemma's follow its documentation. */
#include <stdlib.h>
#include <string.h>

#include "tap.h"
#include "token/chat.h"

/* SmolLM2-Instruct's template, as its tokenizer_config.json has it. */
static const char smollm2[] =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/* A ChatML template without a system turn of its own. */
static const char plain[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

static const char gemma[] =
    "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}...{{ '<start_of_turn>' + role + '\\n' }}...";

static struct tc_err err;

/* 1 when the turns render as wanted; the text is printed otherwise. */
static int
renders(const char *template, const struct tc_turn *turn, size_t n, const char *want)
{
	struct tc_chat *chat = NULL;
	struct tc_buf b = {0};
	int same;

	if (tc_chat_open(&chat, template, &err) < 0 || tc_chat_render(chat, turn, n, &b, &err) < 0) {
		printf("# %s\n", err.msg);
		tc_chat_close(chat);
		return 0;
	}
	same = b.n == strlen(want) && memcmp(b.p, want, b.n) == 0;
	if (!same)
		printf("# %.*s\n", (int)b.n, (char *)b.p);
	tc_buf_free(&b);
	tc_chat_close(chat);
	return same;
}

int
main(void)
{
	const struct tc_turn hello[] = { { "user", "Hello" } };
	const struct tc_turn talk[] = { { "system", "Be brief." }, { "user", " Hi " }, { "assistant", "Yes?" }, { "user", "Bye" } };
	const struct tc_turn wrong[] = { { "user", "a" }, { "user", "b" } };
	struct tc_chat *chat = NULL;
	struct tc_buf b = {0};

	ok(renders(smollm2, hello, 1,
	    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
	    "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"), "ChatML: the template's own system turn");
	ok(renders(smollm2, talk, 4,
	    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\nYes?<|im_end|>\n"
	    "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"), "ChatML: a system turn that is given");
	ok(renders(plain, hello, 1, "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"),
	    "ChatML: a template without a system turn");
	ok(renders(gemma, hello, 1, "<start_of_turn>user\nHello<end_of_turn>\n<start_of_turn>model\n"), "Gemma: one turn");
	ok(renders(gemma, talk, 4,
	    "<start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nYes?<end_of_turn>\n"
	    "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n"), "Gemma: the system turn begins the user's, turns are trimmed");
	ok(tc_chat_open(&chat, "{{ '### Instruction:' }}", &err) < 0 && err.code == TC_DATA && strstr(err.msg, "### Instruction") &&
	    !chat, "an unknown template is refused and shown");
	ok(tc_chat_open(&chat, plain, &err) == 0 && strcmp(tc_chat_name(chat), "ChatML") == 0, "a template is named");
	ok(tc_chat_render(chat, wrong, 2, &b, &err) < 0 && err.code == TC_DATA, "two turns of the user are refused");
	ok(tc_chat_render(chat, talk, 3, &b, &err) < 0, "a conversation that ends with the assistant is refused");
	tc_chat_close(chat);
	tc_buf_free(&b);
	return done_testing();
}
