#!/usr/bin/env bats
# tc-gen: greedy and sampled generation.

load lib

# Greedy ids of the reference (PyTorch, f32): 24 given, 40 generated.
# The reference's 64 greedy ids: 24 were given, 40 generated.
reference_ids() {
	"$PYTHON" - "$TINY/$1/ref.safetensors" <<-'P'
	import json, struct, sys
	f = open(sys.argv[1], "rb")
	n, = struct.unpack("<Q", f.read(8))
	h = json.loads(f.read(n))["greedy"]
	a, b = h["data_offsets"]
	f.seek(8 + n + a)
	size = {"I32": "i", "I64": "q"}[h["dtype"]]
	print(json.dumps(list(struct.unpack("<%d%s" % ((b - a) // struct.calcsize(size), size), f.read(b - a)))))
	P
}

@test "tc-gen continues the fixtures as the reference does, whatever the batch, with and without a cache" {
	for m in qwen2 llama gemma2 gpt2; do
		reference_ids $m >greedy
		# Any beginning of a greedy text goes on as it did.
		jq -c '. as $g | [range(24; 41) | $g[:.]]' greedy >prompts.json
		jq -c '. as $g | range(24; 41) | $g[. : . + 23]' greedy >want
		for options in '--batch 1' '--batch 5' '--batch 16' '--batch 100 --threads 1' '--batch 5 --no-cache'; do
			# shellcheck disable=SC2086
			tc-gen "$TINY/$m" --ids prompts.json -n 23 --json $options >got
			jq -c .ids got | cmp - want || { echo "$m $options"; return 1; }
		done
		jq -c '[.[:24]]' greedy >prompt.json
		[ "$(tc-gen "$TINY/$m" --ids prompt.json -n 40 --json | jq -c .ids)" = "$(jq -c '.[24:]' greedy)" ]
	done
}

@test "tc-gen: a drawn text does not depend on the batch, and each prompt has its own seed" {
	for options in '' '--batch 1' '--batch 3 --threads 1' '--batch 64' '--batch 7 --no-cache'; do
		# shellcheck disable=SC2086
		tc-gen draft --prompts general -n 12 --temp 1 --top-p 0.9 --repeat-penalty 1.2 --seed 5 --json $options | jq -c '[.text, .ids]' >got
		[ -e want ] || cp got want
		cmp got want || { echo "$options"; return 1; }
	done
	sed -n 4p "$TC_ROOT/share/prompts/general.txt" >fourth
	tc-gen draft --prompts fourth -n 12 --temp 1 --top-p 0.9 --repeat-penalty 1.2 --seed 8 --json | jq -c '[.text, .ids]' | cmp - <(sed -n 4p want)
	# Some end at a stop string, and others take their place.
	tc-gen draft --prompts general -n 24 --stop ' the' --json | jq -c .ids >a
	tc-gen draft --prompts general -n 24 --stop ' the' --json --batch 1 | jq -c .ids | cmp - a
	[ "$(jq length a | sort -u | wc -l)" -gt 3 ]
}

@test "tc-gen: text of many prompts comes in their order" {
	head -n 12 "$TC_ROOT/share/prompts/docs.txt" >prompts
	tc-gen draft --prompts prompts -n 9 --stop ' of' --json | jq -r '.prompt + .text' >want
	for batch in 1 4 12; do
		tc-gen draft --prompts prompts -n 9 --stop ' of' --batch $batch | cmp - want
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

@test "tc-gen --compute bf16: the same ids at 1 and 2 threads, and nearly those of f32" {
	for threads in 1 2; do
		tc-gen demo -n 24 --json --compute bf16 --threads $threads >bf16.$threads 2>err
		grep -qx 'tc-gen: bf16: 57 weight matrices as they are, 0 rounded' err
	done
	[ "$(jq -c .ids bf16.1)" = "$(jq -c .ids bf16.2)" ]
	jq -e '.compute == "bf16" and (has("act_scale") | not)' bf16.1
	[ "$(jq -c '.ids[:5]' bf16.1)" = "$(tc-gen demo -q -n 24 --json | jq -c '.ids[:5]')" ]
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
	fails 2 'stop: an empty text' tc-gen demo --stop database --stop ''
}

@test "tc-gen: text is the prompt and what follows; --json has the documented keys" {
	tc-gen demo -n 8 --prompt "The index" >text
	tc-gen demo -n 8 --prompt "The index" --json >json
	[ "$(cat text)" = "$(jq -r '.prompt + .text' json)" ]
	[ "$(jq -c '[(.ids | length), (.metrics | keys)]' json)" = \
	    '[8,["distinct_2","ended","longest_repeat","loop_rate","rep_4","script_leak","word_distinct_2","word_rep_4"]]' ]
}

@test "tc-gen --prompts takes lines and JSON lines, one object each" {
	printf 'A table\n\n{"prompt": "An index"}\n' >prompts
	tc-gen demo --prompts prompts -n 4 --json >out
	[ "$(jq -c -s 'map(.prompt)' out)" = '["A table","An index"]' ]
	sed 's/$/\r/' prompts >crlf
	tc-gen demo --prompts crlf -n 4 --json | jq -c '[.prompt, .ids]' | cmp - <(jq -c '[.prompt, .ids]' out)
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
	# Questions head the answers of several conversations; one alone does not repeat its question.
	tc-gen m --prompts two -n 8 >text
	[ "$(cat text)" = "$(tc-gen m --prompts two -n 8 --json | jq -r -s 'map("> " + .prompt + "\n" + .text) | join("\n\n")')" ]
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
		{"prompt": "a", "prompt": "b"}|duplicate object key
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

@test "tc-gen --base: agreement with the texts of another model, and with their tokens one by one" {
	tc-quant "$TINY/llama" -q --bits 4 --group 16 -o q.tcs
	ids 5 9 >p.json
	tc-gen q.tcs --ids p.json -n 12 --json --base "$TINY/llama" >got
	tc-gen q.tcs --ids p.json -n 12 --json | jq -c .ids >ours
	tc-gen "$TINY/llama" --ids p.json -n 12 --json | jq -c .ids >theirs
	jq -c .ids got | cmp - ours
	for i in 1 2 3 4 5; do
		sed -n ${i}p ours >a
		sed -n ${i}p theirs >b
		jq -n -c --slurpfile a a --slurpfile b b '[$a[0], $b[0]] | transpose | map(.[0] == .[1]) |
		    [index(false) // length, (map(select(.)) | length) / length]' >want
		# Each of the base's tokens after the prompt and those before it.
		jq -c --argjson i $((i - 1)) --slurpfile b b '.[$i] as $p | [range(0; $b[0] | length) | $p + $b[0][:.]]' p.json >each.json
		tc-gen q.tcs --ids each.json -n 1 --json | jq -c '.ids[0]' | jq -s -c --slurpfile b b \
		    '[., $b[0]] | transpose | map(select(.[0] == .[1])) | length / ($b[0] | length)' >>want
		sed -n ${i}p got | jq -c '.metrics | [.first_divergence, .share_equal], .teacher_forced' | cmp - want
	done
	tc-gen demo --base demo --prompts general -n 6 --repeat-penalty 1.3 --json |
	    jq -e -s 'all(.[]; (.ids | length) == .metrics.first_divergence and .metrics.share_equal == 1 and .metrics.teacher_forced == 1)' >/dev/null
	# What is the base's whole text is what the model takes, token by token.
	tc-quant draft -q --bits 8 --group row --sym -o draft8.tcs
	tc-gen draft8.tcs -q --compute int8 --act-scale batch --prompts general -n 12 --json --base draft |
	    jq -e -s 'map(.metrics | select(.share_equal == 1)) | length > 3 and all(.[]; .teacher_forced == 1)' >/dev/null
	tc-gen draft --base demo -n 4 --metrics | grep -q '^teacher_forced  '
	fails 65 'base: .*vocabulary' tc-gen demo --base "$TINY/qwen2" --json
	fails 66 'base: .*nothere' tc-gen demo --base nothere --json
	fails 2 'base goes with' tc-gen demo --base demo
}

@test "tc-gen --metrics and --result: figures over all texts" {
	tc-gen draft --prompts general -n 16 --result a.json --metrics >text
	tc-gen draft --prompts general -n 16 --result a.json --batch 3 --threads 1 --json >objects
	tc-gen draft --prompts general -n 16 | cmp - <(sed '/^figure  /,$d' text | sed '$d')
	sed -n '/^figure  /,$p' text | awk 'NR > 1 { print $1 }' >names
	[ "$(jq -r '.measured.overall | keys_unsorted[]' a.json)" = "$(cat names)" ]
	jq -c '.measured.outputs[] | .ids, .metrics' a.json | cmp - <(jq -c '.ids, .metrics' objects)
	# Repetitions of all texts as one, as a few lines of Python count them.
	"$PYTHON" - <<-'P'
	import json
	o = [json.loads(l) for l in open("objects")]
	a = json.load(open("a.json"))["measured"]["overall"]
	def distinct(x, n):
	    g = [tuple(x[i:i + n]) for i in range(len(x) - n + 1)]
	    return len(set(g)) / len(g)
	words = " ".join(d["text"] for d in o).split()
	ids = [i for d in o for i in d["ids"]]
	for k, x in ("", ids), ("word_", words):
	    assert abs(a[k + "rep_4"]["joined"] - (1 - distinct(x, 4))) < 1e-12, k
	    assert abs(a[k + "distinct_2"]["joined"] - distinct(x, 2)) < 1e-12, k
	for k in "rep_4", "word_distinct_2", "loop_rate", "longest_repeat":
	    x = [d["metrics"][k] for d in o]
	    m = sum(x) / len(x)
	    e = (sum((y - m) ** 2 for y in x) / (len(x) - 1) / len(x)) ** 0.5
	    assert abs(a[k]["mean"] - m) < 1e-12 and abs(a[k]["stderr"] - e) < 1e-12 and a[k]["texts"] == len(x), k
	for d in o:
	    assert abs(d["metrics"]["word_distinct_2"] - (distinct(d["text"].split(), 2) if len(d["text"].split()) > 1 else 1)) < 1e-12
	P
	run -1 --separate-stderr tc-gen draft --prompts general -n 15 --result a.json --metrics
	[[ $stderr == *'a different result is there already'* ]]
	fails 2 'exclude each other' tc-gen draft --metrics --json
	fails 74 'nothere' tc-gen draft --json --result nothere/a.json
}

@test "tc-gen refuses bad options and prompts" {
	fails 2 'temp' tc-gen demo --temp -1
	fails 2 'top-p' tc-gen demo --top-p 1.5
	fails 2 'tokens' tc-gen demo -n 0
	fails 2 'batch' tc-gen demo --batch 0
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
