/* Chat templates: what a conversation becomes.  The templates are the models'
 * own, the parts for tools cut; the expected texts are what Jinja makes of
 * them with trim_blocks and lstrip_blocks, as transformers sets it. */
#include <stdlib.h>
#include <string.h>

#include "tap.h"
#include "token/chat.h"

static const char smollm2[] =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/* A ChatML template without a system turn of its own. */
static const char plain[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

static const char llama2[] =
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message "
    "= messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = "
    "false %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != "
    "(loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate "
    "user/assistant/user/assistant/...') }}{% endif %}{% if loop.index0 == 0 and system_message != false "
    "%}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else "
    "%}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + "
    "'[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + "
    "content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}";

static const char llama3[] =
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = "
    "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + "
    "'<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ "
    "content }}{% endfor %}{% if add_generation_prompt %}{{ "
    "'<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";

static const char llama31[] =
    "{{- bos_token }}\n{%- if not date_string is defined %}\n    {%- set date_string = \"26 Jul 2024\" "
    "%}\n{%- endif %}\n\n{#- This block extracts the system message, so we can slot it into the right "
    "place. #}\n{%- if messages[0]['role'] == 'system' %}\n    {%- set system_message = "
    "messages[0]['content']|trim %}\n    {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set "
    "system_message = \"\" %}\n{%- endif %}\n\n{#- System message + builtin tools #}\n{{- "
    "\"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}\n{{- \"Cutting Knowledge Date: December 2023\\n\" "
    "}}\n{{- \"Today Date: \" + date_string + \"\\n\\n\" }}\n{{- system_message }}\n{{- \"<|eot_id|>\" }}\n\n{%- for "
    "message in messages %}\n    {%- if not (message.role == 'ipython' or message.role == 'tool' or "
    "'tool_calls' in message) %}\n        {{- '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}\n    {%- endif %}\n{%- endfor "
    "%}\n{%- if add_generation_prompt %}\n    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' "
    "}}\n{%- endif %}\n";

static const char mistral01[] =
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 "
    "== 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') "
    "}}{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% "
    "elif message['role'] == 'assistant' %}{{ message['content'] + eos_token + ' ' }}{% else %}{{ "
    "raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}";

static const char mistral02[] =
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 "
    "== 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') "
    "}}{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% "
    "elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% else %}{{ "
    "raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}";

static const char mistral_v1[] =
    "{%- if messages[0][\"role\"] == \"system\" %}\n    {%- set system_message = messages[0][\"content\"] %}\n   "
    " {%- set loop_messages = messages[1:] %}\n{%- else %}\n    {%- set loop_messages = messages %}\n{%- "
    "endif %}\n\n{{- bos_token }}\n{%- for message in loop_messages %}\n    {%- if (message[\"role\"] == "
    "\"user\") != (loop.index0 % 2 == 0) %}\n        {{- raise_exception(\"After the optional system "
    "message, conversation roles must alternate user/assistant/user/assistant/...\") }}\n    {%- endif %}\n "
    "   {%- if message[\"role\"] == \"user\" %}\n        {%- if loop.first and system_message is defined %}\n  "
    "          {{- \" [INST] \" + system_message + \"\\n\\n\" + message[\"content\"] + \" [/INST]\" }}\n        {%- "
    "else %}\n            {{- \" [INST] \" + message[\"content\"] + \" [/INST]\" }}\n        {%- endif %}\n    "
    "{%- elif message[\"role\"] == \"assistant\" %}\n        {{- \" \" + message[\"content\"] + eos_token}}\n    "
    "{%- else %}\n        {{- raise_exception(\"Only user and assistant roles are supported, with the "
    "exception of an initial optional system message!\") }}\n    {%- endif %}\n{%- endfor %}\n";

static const char mistral_v3[] =
    "{%- if messages[0][\"role\"] == \"system\" %}\n    {%- set system_message = messages[0][\"content\"] %}\n   "
    " {%- set loop_messages = messages[1:] %}\n{%- else %}\n    {%- set loop_messages = messages %}\n{%- "
    "endif %}\n\n{{- bos_token }}\n{%- for message in loop_messages %}\n    {%- if (message[\"role\"] == "
    "\"user\") != (loop.index0 % 2 == 0) %}\n        {{- raise_exception(\"After the optional system "
    "message, conversation roles must alternate user/assistant/user/assistant/...\") }}\n    {%- endif %}\n "
    "   {%- if message[\"role\"] == \"user\" %}\n        {%- if loop.last and system_message is defined %}\n   "
    "         {{- \"[INST] \" + system_message + \"\\n\\n\" + message[\"content\"] + \"[/INST]\" }}\n        {%- "
    "else %}\n            {{- \"[INST] \" + message[\"content\"] + \"[/INST]\" }}\n        {%- endif %}\n    {%- "
    "elif message[\"role\"] == \"assistant\" %}\n        {{- \" \" + message[\"content\"]|trim + eos_token}}\n    "
    "{%- else %}\n        {{- raise_exception(\"Only user and assistant roles are supported, with the "
    "exception of an initial optional system message!\") }}\n    {%- endif %}\n{%- endfor %}\n";

static const char mistral_tekken[] =
    "{%- if messages[0][\"role\"] == \"system\" %}\n    {%- set system_message = messages[0][\"content\"] %}\n   "
    " {%- set loop_messages = messages[1:] %}\n{%- else %}\n    {%- set loop_messages = messages %}\n{%- "
    "endif %}\n\n{{- bos_token }}\n{%- for message in loop_messages %}\n    {%- if (message[\"role\"] == "
    "\"user\") != (loop.index0 % 2 == 0) %}\n        {{- raise_exception(\"After the optional system "
    "message, conversation roles must alternate user/assistant/user/assistant/...\") }}\n    {%- endif %}\n "
    "   {%- if message[\"role\"] == \"user\" %}\n        {%- if loop.last and system_message is defined %}\n   "
    "         {{- \"[INST]\" + system_message + \"\\n\\n\" + message[\"content\"] + \"[/INST]\" }}\n        {%- "
    "else %}\n            {{- \"[INST]\" + message[\"content\"] + \"[/INST]\" }}\n        {%- endif %}\n    {%- "
    "elif message[\"role\"] == \"assistant\" %}\n        {{- message[\"content\"] + eos_token}}\n    {%- else "
    "%}\n        {{- raise_exception(\"Only user and assistant roles are supported, with the exception of "
    "an initial optional system message!\") }}\n    {%- endif %}\n{%- endfor %}\n";

static const char gemma2[] =
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not "
    "supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != "
    "(loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate "
    "user/assistant/user/assistant/...') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set "
    "role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + "
    "'\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt "
    "%}{{'<start_of_turn>model\n'}}{% endif %}";

static const char gemma3[] =
    "{{ bos_token }}\n{%- if messages[0]['role'] == 'system' -%}\n    {%- if messages[0]['content'] is "
    "string -%}\n        {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}\n    {%- else -%}\n  "
    "      {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\n\n' -%}\n    {%- endif -%}\n   "
    " {%- set loop_messages = messages[1:] -%}\n{%- else -%}\n    {%- set first_user_prefix = \"\" -%}\n    "
    "{%- set loop_messages = messages -%}\n{%- endif -%}\n{%- for message in loop_messages -%}\n    {%- if "
    "(message['role'] == 'assistant') -%}\n        {%- set role = \"model\" -%}\n    {%- else -%}\n        "
    "{%- set role = message['role'] -%}\n    {%- endif -%}\n    {{ '<start_of_turn>' + role + '\n' + "
    "(first_user_prefix if loop.first else \"\") }}\n    {%- if message['content'] is string -%}\n        {{ "
    "message['content'] | trim }}\n    {%- endif -%}\n    {{ '<end_of_turn>\n' }}\n{%- endfor -%}\n{%- if "
    "add_generation_prompt -%}\n    {{'<start_of_turn>model\n'}}\n{%- endif -%}\n";

static const char qwen25[] =
    "{%- if tools %}\n    {{- '<|im_start|>system\\n' }}\n    {%- if messages[0]['role'] == 'system' %}\n    "
    "    {{- messages[0]['content'] }}\n    {%- else %}\n        {{- 'You are Qwen, created by Alibaba "
    "Cloud. You are a helpful assistant.' }}\n    {%- endif %}\n{%- else %}\n    {%- if messages[0]['role'] "
    "== 'system' %}\n        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}\n    "
    "{%- else %}\n        {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a "
    "helpful assistant.<|im_end|>\\n' }}\n    {%- endif %}\n{%- endif %}\n{%- for message in messages %}\n    "
    "{%- if (message.role == \"user\") or (message.role == \"system\" and not loop.first) or (message.role "
    "== \"assistant\" and not message.tool_calls) %}\n        {{- '<|im_start|>' + message.role + '\\n' + "
    "message.content + '<|im_end|>' + '\\n' }}\n    {%- endif %}\n{%- endfor %}\n{%- if "
    "add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n";

static const struct tc_turn talk[] = { { "system", " Be brief. " }, { "user", " Hi " }, { "assistant", " Yes? " },
	{ "user", "Bye\n" } };
static const struct tc_turn hello[] = { { "user", " Hi there " } };

/* Templates, conversations, and what becomes of them; NULL: refused. */
static const struct {
	const char *name, *template;
	const struct tc_turn *turn;
	size_t n;
	const char *want;
} cases[] = {
	{ "SmolLM2: its own system turn", smollm2, hello, 1,
	  "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
	  "<|im_start|>user\n Hi there <|im_end|>\n<|im_start|>assistant\n" },
	{ "ChatML without a system turn", plain, hello, 1, "<|im_start|>user\n Hi there <|im_end|>\n<|im_start|>assistant\n" },
	{ "llama2: a question", llama2, hello, 1,
	  "<s>[INST] Hi there [/INST]" },
	{ "llama2: a conversation", llama2, talk + 1, 3,
	  "<s>[INST] Hi [/INST] Yes? </s><s>[INST] Bye [/INST]" },
	{ "llama2: a conversation with a system turn", llama2, talk, 4,
	  "<s>[INST] <<SYS>>\n Be brief. \n<</SYS>>\n\n Hi [/INST] Yes? </s><s>[INST] Bye [/INST]" },
	{ "llama3: a question", llama3, hello, 1,
	  "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"
	  "Hi there<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n" },
	{ "llama3: a conversation", llama3, talk + 1, 3,
	  "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"
	  "Hi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
	  "Yes?<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
	  "Bye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n" },
	{ "llama3: a conversation with a system turn", llama3, talk, 4,
	  "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
	  "Be brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
	  "Hi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
	  "Yes?<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
	  "Bye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n" },
	{ "llama31: a question", llama31, hello, 1,
	  "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
	  "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
	  "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
	  "Hi there<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n" },
	{ "llama31: a conversation", llama31, talk + 1, 3,
	  "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
	  "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
	  "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
	  "Hi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
	  "Yes?<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
	  "Bye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n" },
	{ "llama31: a conversation with a system turn", llama31, talk, 4,
	  "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
	  "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
	  "Be brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
	  "Hi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
	  "Yes?<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
	  "Bye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n" },
	{ "mistral01: a question", mistral01, hello, 1,
	  "<s>[INST]  Hi there  [/INST]" },
	{ "mistral01: a conversation", mistral01, talk + 1, 3,
	  "<s>[INST]  Hi  [/INST] Yes? </s> [INST] Bye\n [/INST]" },
	{ "mistral01: a conversation with a system turn", mistral01, talk, 4,
	  NULL },
	{ "mistral02: a question", mistral02, hello, 1,
	  "<s>[INST]  Hi there  [/INST]" },
	{ "mistral02: a conversation", mistral02, talk + 1, 3,
	  "<s>[INST]  Hi  [/INST] Yes? </s>[INST] Bye\n [/INST]" },
	{ "mistral02: a conversation with a system turn", mistral02, talk, 4,
	  NULL },
	{ "mistral_v1: a question", mistral_v1, hello, 1,
	  "<s> [INST]  Hi there  [/INST]" },
	{ "mistral_v1: a conversation", mistral_v1, talk + 1, 3,
	  "<s> [INST]  Hi  [/INST]  Yes? </s> [INST] Bye\n [/INST]" },
	{ "mistral_v1: a conversation with a system turn", mistral_v1, talk, 4,
	  "<s> [INST]  Be brief. \n\n Hi  [/INST]  Yes? </s> [INST] Bye\n [/INST]" },
	{ "mistral_v3: a question", mistral_v3, hello, 1,
	  "<s>[INST]  Hi there [/INST]" },
	{ "mistral_v3: a conversation", mistral_v3, talk + 1, 3,
	  "<s>[INST]  Hi [/INST] Yes?</s>[INST] Bye\n[/INST]" },
	{ "mistral_v3: a conversation with a system turn", mistral_v3, talk, 4,
	  "<s>[INST]  Hi [/INST] Yes?</s>[INST]  Be brief. \n\nBye\n[/INST]" },
	{ "mistral_tekken: a question", mistral_tekken, hello, 1,
	  "<s>[INST] Hi there [/INST]" },
	{ "mistral_tekken: a conversation", mistral_tekken, talk + 1, 3,
	  "<s>[INST] Hi [/INST] Yes? </s>[INST]Bye\n[/INST]" },
	{ "mistral_tekken: a conversation with a system turn", mistral_tekken, talk, 4,
	  "<s>[INST] Hi [/INST] Yes? </s>[INST] Be brief. \n\nBye\n[/INST]" },
	{ "gemma2: a question", gemma2, hello, 1,
	  "<bos><start_of_turn>user\nHi there<end_of_turn>\n<start_of_turn>model\n" },
	{ "gemma2: a conversation", gemma2, talk + 1, 3,
	  "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nYes?<end_of_turn>\n"
	  "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n" },
	{ "gemma2: a conversation with a system turn", gemma2, talk, 4,
	  NULL },
	{ "gemma3: a question", gemma3, hello, 1,
	  "<bos><start_of_turn>user\nHi there<end_of_turn>\n<start_of_turn>model\n" },
	{ "gemma3: a conversation", gemma3, talk + 1, 3,
	  "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nYes?<end_of_turn>\n"
	  "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n" },
	{ "gemma3: a conversation with a system turn", gemma3, talk, 4,
	  "<bos><start_of_turn>user\n Be brief. \n\nHi<end_of_turn>\n<start_of_turn>model\nYes?<end_of_turn>\n"
	  "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n" },
	{ "qwen25: a question", qwen25, hello, 1,
	  "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
	  "<|im_start|>user\n Hi there <|im_end|>\n<|im_start|>assistant\n" },
	{ "qwen25: a conversation", qwen25, talk + 1, 3,
	  "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
	  "<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n Yes? <|im_end|>\n<|im_start|>user\nBye\n"
	  "<|im_end|>\n<|im_start|>assistant\n" },
	{ "qwen25: a conversation with a system turn", qwen25, talk, 4,
	  "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n"
	  " Yes? <|im_end|>\n<|im_start|>user\nBye\n<|im_end|>\n<|im_start|>assistant\n" },
};

static struct tc_err err;

/* 1 when the turns render as wanted; the text is printed otherwise. */
static int
renders(const char *template, const struct tc_turn *turn, size_t n, const char *want)
{
	struct tc_chat *chat = NULL;
	struct tc_buf b = {0};
	int same, r;

	if (tc_chat_open(&chat, template, NULL, NULL, &err) < 0) {
		printf("# %s\n", err.msg);
		return 0;
	}
	r = tc_chat_render(chat, turn, n, &b, &err);
	same = want ? r == 0 && b.n == strlen(want) && memcmp(b.p, want, b.n) == 0 : r < 0 && err.code == TC_DATA;
	if (!same)
		printf("# %s\n# %.*s\n", r < 0 ? err.msg : "", (int)b.n, (char *)b.p);
	tc_buf_free(&b);
	tc_chat_close(chat);
	return same;
}

static int
refused(const char *template, const char *why)
{
	struct tc_chat *chat = NULL;

	if (tc_chat_open(&chat, template, NULL, NULL, &err) == 0) {
		printf("# taken as %s\n", tc_chat_name(chat));
		tc_chat_close(chat);
		return 0;
	}
	return err.code == TC_DATA && !chat && strstr(err.msg, why) != NULL;
}

static void
test_refusals(void)
{
	ok(refused("{{ '### Instruction:' }}", "### Instruction"), "an unknown template is refused and shown");
	ok(refused("{% for m in messages %}{{ '<|im_start|>' + m.role + '<|im_sep|>' + m.content + '<|im_end|>' }}{% endfor %}"
	    "{{ '<|im_start|>assistant\\n' }}", "none that is known"), "other text between ChatML's marks");
	ok(refused("{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{{ '<|im_start|>assistant\\n<think>\\n' }}",
	    "none that is known"), "an answer that begins with something");
	ok(refused("{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{{ '<|im_start|>assistant\\n' }}"
	    "{{ strftime_now('%d') }}", "today's date"), "a date");
	ok(refused("{% set system_message = 'You are kind.' %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
	    "{{ '<|im_start|>assistant\\n' }}", "system turn"), "a system turn in a variable");
	ok(refused("{{ '[INST] ' + message.content + ' [/INST]' }} unclosed {{ 'quote", "none that is known"), "code that does not end");
	ok(refused("{# a comment", "none"), "a comment that does not end");
	ok(refused("", "none"), "an empty template");
}

static void
test_turns(void)
{
	const struct tc_turn twice[] = { { "user", "a" }, { "user", "b" } }, tool[] = { { "tool", "a" } };

	ok(renders(plain, twice, 2, NULL), "two turns of the user are refused");
	ok(renders(plain, talk, 3, NULL), "a conversation that ends with the assistant is refused");
	ok(renders(plain, talk, 1, NULL) && renders(plain, talk, 0, NULL), "one without a question is refused");
	ok(renders(plain, tool, 1, NULL), "another role is refused");
}

static void
test_tokens(void)
{
	static const char tekken[] = "<B>[INST] Hi [/INST] Yes? <E>[INST]Bye\n[/INST]";
	struct tc_chat *chat = NULL;
	struct tc_buf b = {0};

	ok(tc_chat_open(&chat, mistral_tekken, "<B>", "<E>", &err) == 0 && strcmp(tc_chat_name(chat), "Mistral v3-tekken") == 0,
	    "a template is named");
	ok(tc_chat_render(chat, talk + 1, 3, &b, &err) == 0 && b.n == strlen(tekken) && !memcmp(b.p, tekken, b.n),
	    "the model's own BOS and end tokens");
	tc_chat_close(chat);
	tc_buf_free(&b);
}

int
main(void)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		ok(renders(cases[i].template, cases[i].turn, cases[i].n, cases[i].want), "%s", cases[i].name);
	test_refusals();
	test_turns();
	test_tokens();
	return done_testing();
}
