#!/usr/bin/env bats
# tc-gen: greedy and sampled generation.

load lib

# Greedy ids of the reference (PyTorch, f32): 24 given, 40 generated.
@test "tc-gen continues the fixtures as the reference does" {
	for m in qwen2 llama; do
		"$PYTHON" - "$TINY/$m/ref.safetensors" <<'P' >want
import json, struct, sys
f = open(sys.argv[1], "rb")
n, = struct.unpack("<Q", f.read(8))
h = json.loads(f.read(n))["greedy"]
a, b = h["data_offsets"]
f.seek(8 + n + a)
size = {"I32": "i", "I64": "q"}[h["dtype"]]
ids = struct.unpack("<%d%s" % ((b - a) // struct.calcsize(size), size), f.read(b - a))
json.dump([list(ids[:24])], open("prompt.json", "w"))
print(json.dumps(list(ids[24:])))
P
		tc-gen "$TINY/$m" --ids prompt.json -n 40 --json >got
		[ "$(jq -c .ids got)" = "$(jq -c . want)" ]
	done
}

@test "tc-gen gives the reference's greedy ids, with and without repetition penalty" {
	need_shared fixtures/reference.json
	n=$(jq '.generate | length' "$TC_SHARED/fixtures/reference.json")
	[ "$n" -gt 0 ]
	for ((i = 0; i < n; i++)); do
		jq ".generate[$i]" "$TC_SHARED/fixtures/reference.json" >ref
		tc-gen demo --json -n 64 --prompt "$(jq -r .prompt ref)" --repeat-penalty "$(jq .repetition_penalty ref)" >got
		[ "$(jq '.ids | length' got)" -ge 60 ]
		jq -e --slurpfile r ref '.ids == ($r[0].ids | .[(length - 64):])' got
	done
}

@test "tc-gen: the same ids at 1 and 2 threads, from a pipe, a file and a directory" {
	tc-gen demo -n 24 --json --threads 1 | jq -c .ids >a
	tc-gen demo -n 24 --json --threads 2 | jq -c .ids >b
	tc-import demo | tc-gen - -n 24 --json | jq -c .ids >c
	tc-import demo -o m.tcs
	tc-gen m.tcs -n 24 --json | jq -c .ids >d
	cmp a b && cmp a c && cmp a d || return 1
}

@test "tc-gen runs packed weights as their dense export" {
	tc-import "$TINY/llama" | tc-quant -q --bits 4 --group 16 --embed same --head same -o q.tcs
	tc-export q.tcs -o dense
	ids 1 12 >p.json
	tc-gen q.tcs --ids p.json -n 20 --json | jq -c .ids >a
	tc-gen dense --ids p.json -n 20 --json | jq -c .ids >b
	cmp a b
}

@test "tc-gen --compute int8: the same ids at 1 and 2 threads, and nearly those of f32" {
	tc-quant demo -q --bits 8 --group row --sym -o q.tcs
	for scale in token batch; do
		for threads in 1 2; do
			tc-gen q.tcs -q -n 24 --json --compute int8 --act-scale $scale --threads $threads >$scale.$threads
		done
		[ "$(jq -c .ids $scale.1)" = "$(jq -c .ids $scale.2)" ]
		[ "$(jq -c '[.compute, .act_scale, .hold_out]' $scale.1)" = "[\"int8\",\"$scale\",0]" ]
	done
	tc-gen q.tcs -q -n 24 --json >f32
	jq -e '.compute == "f32" and (has("act_scale") | not)' f32
	[ "$(jq -c '.ids[:5]' token.1)" = "$(jq -c '.ids[:5]' f32)" ]
	tc-gen q.tcs -n 4 --compute int8 --hold-out 6 >out 2>err
	[ -s out ]
	grep -qx 'tc-gen: int8: 56 weight matrices run so, 1 in f32' err
	fails 65 'no weight matrix of the model has codes for it' tc-gen demo --compute int8
	fails 2 'hold-out goes with --compute int8' tc-gen demo --hold-out 6
}

@test "tc-gen: a seed gives the same sample again, another seed another" {
	tc-gen demo -n 24 --temp 1 --seed 1 --json | jq -c .ids >a
	tc-gen demo -n 24 --temp 1 --seed 1 --json | jq -c .ids >b
	tc-gen demo -n 24 --temp 1 --seed 2 --json | jq -c .ids >c
	cmp a b
	! cmp -s a c || return 1
}

@test "tc-gen: top-k 1 and a tiny top-p are greedy" {
	tc-gen demo -n 16 --json | jq -c .ids >greedy
	tc-gen demo -n 16 --temp 2 --top-k 1 --json | jq -c .ids >k
	tc-gen demo -n 16 --temp 2 --top-p 0.000001 --json | jq -c .ids >p
	cmp greedy k && cmp greedy p || return 1
}

@test "tc-gen ends before a stop string, which is not printed" {
	tc-gen demo -n 40 --prompt "SQLite is a C library that" >whole
	grep -q 'database' whole
	tc-gen demo -n 40 --prompt "SQLite is a C library that" --stop database >cut
	[ "$(cat cut)" = "$(sed -n '1s/database.*//p' whole)" ]
}

@test "tc-gen: text is the prompt and what follows; --json has the documented keys" {
	tc-gen demo -n 8 --prompt "The index" >text
	tc-gen demo -n 8 --prompt "The index" --json >json
	[ "$(cat text)" = "$(jq -r '.prompt + .text' json)" ]
	[ "$(jq -c '[(.ids | length), (.metrics | keys)]' json)" = '[8,["distinct_2","ended","longest_repeat","rep_4"]]' ]
}

@test "tc-gen --prompts takes lines and JSON lines, one object each" {
	printf 'A table\n\n{"prompt": "An index"}\n' >prompts
	tc-gen demo --prompts prompts -n 4 --json >out
	[ "$(jq -c -s 'map(.prompt)' out)" = '["A table","An index"]' ]
}

# chat_model DIR [TEMPLATE]: the draft model with a chat template, ChatML.
chat_model() {
	cp -rL "$TC_ROOT/share/models/draft-2m" "$1"
	jq -n --arg t "${2:-$CHATML}" '{chat_template: $t, eos_token: {content: "<E>"}}' >"$1/tokenizer_config.json"
}
CHATML="{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

@test "tc-gen: conversations are written as the chat template says" {
	chat_model m
	written='<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n'
	last='<|im_start|>assistant\n'
	cat >chats <<-'END'
		{"system": "Be kind.", "user": "Hi"}
		{"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]}
		{"messages": [{"role": "user", "content": "Hi"}]}
		{"user": "Hi"}
		{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "Bye"}]}
		a text
	END
	printf '{"prompt": "%s"}\n' "$written$last" "$written$last" '<|im_start|>user\nHi<|im_end|>\n'"$last"{,} \
	    '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYes?<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n'"$last" 'a text' >texts
	tc-gen m --prompts chats -n 8 --json >got
	tc-gen m --prompts texts -n 8 --json | jq -c .ids >want
	jq -c .ids got | cmp - want
	[ "$(jq -c -s 'map(.prompt)' got)" = '["Hi","Hi","Hi","Hi","Bye","a text"]' ]
	# Texts with --chat, and a system turn for those that have none.
	tc-gen m --chat --system 'Be kind.' --prompt Hi -n 8 --json | jq -c .ids | cmp - <(head -n 1 want)
	printf '{"user": "Hi"}\n{"system": "Be kind.", "user": "Hi"}\n' >two
	tc-gen m --system 'Be kind.' --prompts two -n 8 --json | jq -c .ids | cmp - <(head -n 2 want)
	# An answer does not repeat its question.
	[ "$(tc-gen m --chat --prompt Hi -n 8)" = "$(tc-gen m --chat --prompt Hi -n 8 --json | jq -r .text)" ]
}

@test "tc-gen adds no BOS to a conversation but its template's" {
	cp -rL "$TC_ROOT/share/models/draft-2m" m
	jq '.post_processor = {type: "TemplateProcessing", single: [{SpecialToken: {id: "<|endoftext|>", type_id: 0}}, {Sequence: {id: "A", type_id: 0}}],
	    pair: [], special_tokens: {"<|endoftext|>": {id: "<|endoftext|>", ids: [0], tokens: ["<|endoftext|>"]}}}' "$TC_ROOT/share/models/draft-2m/tokenizer.json" >m/tokenizer.json
	jq -n --arg t "{{ bos_token }}$CHATML" '{chat_template: $t, bos_token: "<|endoftext|>"}' >m/tokenizer_config.json
	tc-gen m --chat --prompt Hi -n 8 --json | jq -c .ids >got
	tc-gen m --prompt '<|im_start|>user
Hi<|im_end|>
<|im_start|>assistant
' -n 8 --json | jq -c .ids | cmp - got
}

@test "tc-gen refuses prompt files and templates that it does not understand" {
	chat_model m
	chat_model other '{{ "### Instruction: " + messages[0].content }}'
	fails 65 "none that is known .*'\\{\\{ \"### Instruction" tc-gen other --chat --prompt Hi
	fails 65 'chat: the model has no chat template' tc-gen demo --chat --prompt Hi
	while IFS='|' read -r line why; do
		printf 'one\n%s\n' "$line" >bad
		fails 65 "bad: prompt 2: $why" tc-gen m --prompts bad
	done <<-'END'
		{"prompt": 1}|no "prompt"
		{"prompt": "a", "user": "b"}|no "prompt"
		{"prompt": "a", "system": "b"}|no "prompt"
		{"system": "b"}|no "prompt"
		{"user": "a", "system": 1}|"system" is not a text
		{"messages": "a"}|no "prompt"
		{"messages": []}|the conversation must end with a turn of the user
		{"messages": [{"role": "user"}]}|message 1 has no
		{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "a"}]}|turn 2 is the user's
		{"messages": [{"role": "assistant", "content": "a"}]}|turn 1 is the assistant's
		{"messages": [{"role": "tool", "content": "a"}]}|turn 1 is the tool's
		{"prompt": "a"|.*expected
	END
	printf '{"user": "a"}\n' >user
	fails 65 'the model has no chat template' tc-gen demo --prompts user
	fails 2 'system goes with --chat' tc-gen demo --system a --prompt b
	echo text >texts
	fails 2 'system goes with --chat: prompt 1 is a text' tc-gen demo --system a --prompts texts
	printf 'a\0b\n' >nul
	fails 65 'NUL byte in prompt 1' tc-gen demo --prompts nul
	: >empty
	fails 65 'no prompt in it' tc-gen demo --prompts empty
}

@test "tc-gen: the prompts of share/" {
	[ "$(tc-gen draft --prompts docs -n 1 --json | wc -l)" -eq 100 ]
	[ "$(tc-gen draft --prompts general -n 1 --json | wc -l)" -ge 40 ]
	chat_model m
	tc-gen m --prompts coach -n 1 --json >out
	[ "$(wc -l <out)" -ge 20 ]
	jq -e 'has("text")' out >/dev/null
}

@test "tc-gen: figures of collapse on a model that loops" {
	tc-gen demo -n 200 --json >out
	[ "$(jq '.metrics.rep_4 > 0.3 and .metrics.longest_repeat > 20 and .metrics.distinct_2 < 0.7' out)" = true ]
}

@test "tc-gen refuses bad options and prompts" {
	fails 2 'temp' tc-gen demo --temp -1
	fails 2 'top-p' tc-gen demo --top-p 1.5
	fails 2 'tokens' tc-gen demo -n 0
	fails 2 'exclude each other' tc-gen demo --prompt a --prompts b
	fails 66 'nothere' tc-gen demo --prompts nothere
	fails 65 'prompt 1 is empty' tc-gen demo --prompt ''
	printf '{"text": "no prompt"}\n' >bad
	fails 65 'no "prompt"' tc-gen demo --prompts bad
	fails 65 'invalid UTF-8' tc-gen demo --prompt $'\xff'
	fails 65 'no tokenizer' tc-gen "$TINY/llama" --prompt hello
	echo '[[1, 400]]' >ids.json
	fails 65 'outside the vocabulary' tc-gen "$TINY/llama" --ids ids.json --json
	ids 1 300 >long.json
	fails 65 'positions' tc-gen "$TINY/llama" --ids long.json --json
}

@test "tc-gen refuses bad streams" {
	refuses_bad_streams tc-gen -n 2
	tc-calib "$TINY/llama" -q --ids <(ids 2 16) --stats-only -o stats.tcs
	fails 65 'embedding is missing' tc-gen stats.tcs --ids <(ids 1 4) --json
}

@test "tc-gen: a closed pipe ends it in silence, a full disk is exit 74" {
	tc-gen demo -q -n 400 2>err | head -c 10 >/dev/null
	[ ! -s err ]
	run -74 --separate-stderr bash -c 'tc-gen demo -n 4 >/dev/full'
	[[ $stderr == *"No space left"* ]]
}

@test "tc-gen: a continuation may be empty" {
	tc-gen demo -n 4 --stop ' ' --json >out
	[ "$(jq -c '[.text, (.ids | length)]' out)" = '["",1]' ]
}

@test "tc-gen: what is generated does not depend on how much may be" {
	m=$TC_ROOT/tests/fixtures/arch/phi3-longrope-short
	ids 1 8 96 >p.json
	tc-gen "$m" --ids p.json -n 16 --json | jq -c '.ids[:16]' >a
	tc-gen "$m" --ids p.json -n 56 --json | jq -c '.ids[:16]' >b
	cmp a b
}

@test "formats that are unpacked at every product: long prompts, threads, an untied head" {
	ids=$(seq 1 23 | paste -sd ,)
	while read -r options; do
		# shellcheck disable=SC2086
		tc-quant "$TINY/llama" -q $options -o q.tc
		rm -rf out
		tc-export q.tc -o out
		echo "[[$ids]]" >prompt.json
		tc-gen out --ids prompt.json -n 12 --json | jq -c .ids >want
		for threads in 1 2 4; do
			tc-gen q.tc --ids prompt.json -n 12 --threads $threads --json | jq -c .ids | cmp - want ||
			    { echo "$options, $threads threads"; return 1; }
		done
		tc-bench q.tc -q --threads 1 --thread-counts 1,3 --prefill 16 --decode 16 --runs 1 --json >/dev/null
	done <<-'END'
		--method pq --vector 4 --book role
		--method lloyd --per row --bits 6 --head 6
		--bits 6 --residual 2 --head same
		--method lloyd --per group --group 16 --bits 3 --rotate --keep top:0.01
	END
}
