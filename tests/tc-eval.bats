#!/usr/bin/env bats
# tc-eval: multiple choice, of items from files and made by rule.

load lib

# A file of items that are token ids of the tiny fixtures.
id_items() {
	cat <<-'END'
		{"context":[1,2,3,4],"choices":[[5],[6],[7,8]],"answer":0,"group":"a"}
		{"context":[9,8,7],"choices":[[6],[5,4]],"answer":1,"group":"a"}
		{"context":[100,200,300,319],"choices":[[1],[2],[3],[4]],"answer":2}
		{"context":[11],"choices":[[12,13,14],[12,13]],"answer":0}
	END
}

@test "log-likelihoods are PyTorch's: the tiny fixtures" {
	for arch in llama qwen2; do
		"$PYTHON" - "$TINY/$arch/ref.safetensors" >items.jsonl 3>want <<-'END'
			import json, os, struct, sys
			data = open(sys.argv[1], "rb").read()
			n = 8 + struct.unpack("<Q", data[:8])[0]
			head = json.loads(data[8:n])
			def values(name):
			    t = head[name]
			    letter = {"F32": "f", "F64": "d", "I64": "q", "I32": "i"}[t["dtype"]]
			    raw = data[n:][slice(*t["data_offsets"])]
			    return struct.unpack("<%d%s" % (len(raw) // struct.calcsize(letter), letter), raw)
			ids, nll = values("input_ids")[:96], values("nll")
			for at, scored in ((1, 1), (5, 3), (40, 2), (90, 6)):
			    right = list(ids[at:at + scored])
			    print(json.dumps({"context": list(ids[:at]), "choices": [[0], right, right[:1] + [1, 2]], "answer": 1}))
			    os.write(3, b"%.17g\n" % -sum(nll[at - 1:at - 1 + scored]))
		END
		tc-eval "$TINY/$arch" --task items.jsonl --details got >out
		jq '.log_p[1]' got >log_p
		[ "$(wc -l <log_p)" -eq 4 ]
		paste log_p want | while read -r a b; do near "$a" "$b" 2e-5; done
		[ "$(jq -c .tokens got | paste -sd ' ')" = '[1,1,3] [1,3,3] [1,2,3] [1,6,3]' ]
	done
}

# Items, then log-likelihoods by transformers 5.23 in f32, split as
# lm-evaluation-harness' _encode_pair() does, and whether the answer is greedy.
@test "log-likelihoods are PyTorch's: the embedded model on text" {
	cat >items.jsonl <<-'END'
		{"context":"SQLite is a C library that implements an SQL database","choices":[" engine"," fish","base"],"answer":0}
		{"context":"The default page size is 4096 bytes. ","choices":["The","A table"],"answer":0}
		{"context":"CREATE TABLE t1(a INTEGER PRIMARY","choices":[" KEY);"," KEY, b TEXT)"," value"],"answer":0}
	END
	cat >want <<-'END'
		-5.131301768844296
		-14.145303615157772
		-12.98745406491058
		-1.5771268785910706
		-11.670004526989587
		-6.927540532217021
		-14.076690674073607
		-12.36508362778257
	END
	tc-eval demo -q --task items.jsonl --details got >out
	jq -r '.log_p[]' got | paste - want | while read -r a b; do near "$a" "$b" 2e-5; done
	[ "$(jq -r '.log_p[]' got | wc -l)" -eq "$(wc -l <want)" ]
	[ "$(jq -c .greedy got | paste -sd ' ')" = 'false true false' ]
}

@test "the keys of --json are the documented ones, and agree with --details" {
	id_items >items.jsonl
	tc-eval "$TINY/llama" --task items.jsonl --json --details got >out
	[ "$(wc -l <out)" -eq 1 ]
	[ "$(jq -c 'keys' out)" = '["bits_per_weight","choices","choices_cut","items","items_sha256","model_bytes","parameters","peak_rss_bytes","protocol","seconds","sequences","tasks","tokens","tokens_dropped","tokens_scored"]' ]
	[ "$(jq -c '[.items, .choices, .tokens_scored, .choices_cut, .tokens_dropped]' out)" = '[4,11,16,0,0]' ]
	# [5] [6] and [7,8] share one; [6] begins as [5,4] does; the four; the two.
	[ "$(jq -c '[.sequences, .tokens]' out)" = '[4,16]' ]
	[ "$(jq -c '.protocol' out)" = '{"norm":"none","shots":0,"bos":false,"compute":"f32"}' ]
	jq -e '.bits_per_weight.model == 32 and .parameters == 97872' out
	[ "$(jq -c '.tasks[0] | keys_unsorted' out)" = '["task","n","clusters","chance","norm","accuracy","accuracy_stderr","accuracy_stderr_clustered","low","high","above_chance","accuracy_none","accuracy_tokens","accuracy_bytes","greedy","margin","margin_stderr","margin_stderr_clustered"]' ]
	jq -e '.tasks[0] | .task == "items" and .n == 4 and .clusters == 3' out
	near "$(jq '.tasks[0].chance' out)" "$(jq -n '(1/3 + 1/2 + 1/4 + 1/2) / 4')" 1e-12
	near "$(jq '.tasks[0].accuracy' out)" "$(jq -s 'map(if .chosen == .answer then 1 else 0 end) | add / length' got)" 1e-12
	near "$(jq '.tasks[0].margin' out)" "$(jq -s 'map(.margin) | add / length' got)" 1e-12
	near "$(jq '.tasks[0].accuracy_stderr' out)" "$(jq '.tasks[0].accuracy | (. * (1 - .) / 4) | sqrt' out)" 1e-12
	jq -e '.log_p as $p | .answer as $a | .chosen == ($p | index(max)) and
	    (.margin - ($p[$a] - ($p | del(.[$a]) | max)) | fabs) < 1e-9' got
	# By tokens, and by bytes: of ids there are none.
	tc-eval "$TINY/llama" --task items.jsonl --json --norm tokens --details got >per
	jq -e '[.log_p, .tokens] | transpose | map(.[0] / .[1]) | index(max)' got >want
	[ "$(jq .chosen got | paste -sd ' ')" = "$(paste -sd ' ' want)" ]
	[ "$(jq '.tasks[0].accuracy' per)" = "$(jq '.tasks[0].accuracy_tokens' out)" ]
	[ "$(jq '.tasks[0].accuracy_none' out)" = "$(jq '.tasks[0].accuracy_bytes' out)" ]
}

@test "against a base: differences and flips are those of the items" {
	tc-quant demo -q --bits 2 -o q2.tc
	tc-eval q2.tc -q --base demo --task cloze,copying,closing --items 30 --json --details got >out
	tc-eval demo -q --task cloze,copying,closing --items 30 --json >base
	[ "$(jq -c '.tasks[].base_accuracy' out)" = "$(jq -c '.tasks[].accuracy' base)" ]
	[ "$(jq -c '.tasks[].base_greedy' out)" = "$(jq -c '.tasks[].greedy' base)" ]
	for i in 0 1 2; do
		jq -s --slurpfile o out "map(select(.task == \$o[0].tasks[$i].task)) |
		    [length, (map(select(.chosen != .answer and .base_chosen == .answer)) | length),
		    (map(select(.chosen == .answer and .base_chosen != .answer)) | length)]" got | jq -c . >counted
		[ "$(jq -c ".tasks[$i] | [.n, .flips.lost, .flips.won]" out)" = "$(cat counted)" ]
		near "$(jq ".tasks[$i] | .accuracy - .base_accuracy" out)" "$(jq ".tasks[$i].delta" out)" 1e-9
		near "$(jq ".tasks[$i] | .margin - .base_margin" out)" "$(jq ".tasks[$i].margin_delta" out)" 1e-9
		near "$(jq ".tasks[$i].delta_high - .tasks[$i].delta" out)" "$(jq ".tasks[$i].delta_stderr_clustered * 1.959963984540054" out)" 1e-9
	done
	jq -e '.tasks[0] | .delta_high < 0 and .sign_p < 0.01 and .margin_delta < -1' out
	# Against itself nothing.
	tc-eval demo -q --base demo --task cloze --items 10 --json | jq -e '.tasks[0] |
	    .delta == 0 and .delta_stderr == 0 and .flips == {"lost": 0, "won": 0} and .sign_p == 1 and .margin_delta == 0'
}

@test "the embedded model completes its own texts, and does not add" {
	tc-eval demo -q --items 100 --task cloze,continuation,copying,closing,addition --json >out
	jq -e '.tasks[:4] | all(.above_chance and .accuracy > 0.5)' out
	jq -e '.tasks[4] | .above_chance | not' out
}

@test "--list prints items that are given back as the same ones" {
	tc-eval --list -q >all.jsonl
	[ "$(wc -l <all.jsonl)" -eq 2000 ]
	[ "$(jq -r .task all.jsonl | uniq | paste -sd ' ')" = 'cloze continuation copying induction closing addition subtraction multiplication comparison transitivity' ]
	tc-eval --list -q --task all.jsonl | cmp - all.jsonl
	tc-eval draft -q --items 3 --json >named
	tc-eval --list -q --items 3 >three.jsonl
	tc-eval draft -q --task three.jsonl --json >filed
	[ "$(jq -r .items_sha256 named)" = "$(sha256sum <three.jsonl | cut -d ' ' -f 1)" ]
	[ "$(jq -c 'del(.seconds, .peak_rss_bytes)' named)" = "$(jq -c 'del(.seconds, .peak_rss_bytes)' filed)" ]
	# The first of each task, however it is asked for.
	tc-eval --list -q --items 3 --task all.jsonl | cmp - three.jsonl
	tc-eval --list -q --items 3 --task transitivity,cloze >two
	grep -E '"task":"(cloze|transitivity)"' three.jsonl | sort | cmp - <(sort two)
	! tc-eval --list -q --items 3 --seed 1 | cmp -s - three.jsonl || return 1
	tc-eval --list -q --items 3 --seed 0 | cmp - three.jsonl
}

@test "items are made of the text that is given" {
	printf 'One two three four five six seven eight nine Alpha. One two three four five six seven eight nine Beta. %s\n' \
	    'One two three four five six seven eight nine Gamma. One two three four five six seven eight nine Delta.' >text
	tc-eval --list -q --text text --task cloze >got
	[ "$(wc -l <got)" -eq 4 ]
	[ "$(jq -r '.choices[.answer]' got | sort | paste -sd,)" = ' Alpha, Beta, Delta, Gamma' ]
	jq -e '.group == "p0" and (.choices | length == 4)' got
	fails 65 'the text is too short for the task copying' tc-eval --list -q --text text --task copying
	fails 65 'the text is too short for the task continuation' tc-eval -q --text text --task continuation demo
	# Sums are made of nothing.
	fails 2 'text: no task is made of it' tc-eval --list --text text --task addition,comparison
	tc-eval --list --text text --task addition,cloze --items 5 | head -n 5 | cmp - <(tc-eval --list --task addition --items 5)
}

@test "--shots puts items before an item, as if they stood in its context" {
	cat >shots.jsonl <<-'END'
		{"context":"Q: 1\nA:","choices":[" one"," two"],"answer":0}
		{"context":"Q: 2\nA:","choices":[" one"," two"],"answer":1}
		{"context":"Q: 3\nA:","choices":[" three"," two"],"answer":0}
	END
	cat >long.jsonl <<-'END'
		{"task":"shots","context":"Q: 2\nA: two\n\nQ: 1\nA:","choices":[" one"," two"],"answer":0}
		{"task":"shots","context":"Q: 1\nA: one\n\nQ: 2\nA:","choices":[" one"," two"],"answer":1}
		{"task":"shots","context":"Q: 1\nA: one\n\nQ: 3\nA:","choices":[" three"," two"],"answer":0}
	END
	tc-eval draft -q --task shots.jsonl --shots 1 --json --details one >with
	tc-eval draft -q --task long.jsonl --details two >out
	cmp one two
	[ "$(jq -r .examples_sha256 with)" = "$(tc-eval --list --task shots.jsonl | sha256sum | cut -d ' ' -f 1)" ]
	# From a file, whose task is another.
	cp shots.jsonl other.jsonl
	tc-eval draft -q --task shots.jsonl --shots 1 --shots-from other.jsonl --details three >out
	cmp one three
	# Enough are made for a task made by rule.
	tc-eval draft -q --task addition --items 2 --shots 5 --json | jq -e '.items == 2 and .protocol.shots == 5'
	fails 65 'task shots, item 0: 3 examples before it were asked for, there are 2' tc-eval draft -q --task shots.jsonl --shots 3
	fails 2 'shots-from goes with --shots' tc-eval draft -q --task shots.jsonl --shots-from other.jsonl
}

@test "contexts longer than the model's positions lose their beginning, which is said" {
	"$PYTHON" -c 'import json
for n in (20, 2000): print(json.dumps({"context": "word " * n + "end", "choices": [" one", " two"], "answer": 0}))' >items.jsonl
	tc-eval demo --task items.jsonl --json >out 2>err
	grep -qE "2 choices and their contexts are longer than the model's 1024 positions: [0-9]+ tokens" err
	jq -e '.choices_cut == 2 and .tokens_dropped > 1000 and .items == 2' out
	echo '{"context":"","choices":["one","two"],"answer":0}' >items.jsonl
	fails 65 'task items, item 0: choice 0: has nothing before it' tc-eval demo -q --task items.jsonl
}

@test "threads, pipes, memory and CPU paths make no difference to what is measured" {
	id_items >items.jsonl
	tc-quant "$TINY/llama" -q -o q.tc
	tc-eval q.tc --task items.jsonl --base "$TINY/qwen2" --threads 1 --result one.json --details one >out
	tc-eval q.tc --task items.jsonl --base "$TINY/qwen2" --threads 2 --result two.json --details two >out
	tc-eval --task items.jsonl --base "$TINY/qwen2" --result piped.json <q.tc >out
	perl -e '$| = 1; syswrite STDOUT, $c while sysread STDIN, $c, 1' <q.tc |
	    tc-eval --task items.jsonl --base "$TINY/qwen2" --result slow.json >out
	for f in one two piped slow; do jq -S .measured $f.json >$f.measured; done
	cmp one.measured two.measured && cmp one.measured piped.measured && cmp one.measured slow.measured && cmp one two || return 1
	mkdir tmp
	tc-eval draft -q --items 20 --threads 1 --details d1 >out
	TMPDIR=$PWD/tmp tc-eval draft -q --items 20 --threads 2 --memory 1M --details d2 >out
	cmp d1 d2 && [ -z "$(ls -A tmp)" ] || return 1
	ran=0
	for cpu in generic avx2 avx512 avx512vnni; do
		got=0
		TC_CPU=$cpu tc-eval demo -q --items 5 --details d.$cpu >out 2>err || got=$?
		if [ "$got" -eq 2 ] && grep -q "$cpu" err; then continue; fi
		[ "$got" -eq 0 ] || { cat err; return 1; }
		paste <(jq '.log_p[]' d.generic) <(jq '.log_p[]' d.$cpu) | while read -r a b; do near "$a" "$b" 1e-4; done
		ran=$((ran + 1))
	done
	[ "$ran" -ge 1 ]
}

@test "a result file says what was measured; the same again is success, another is refused" {
	id_items >items.jsonl
	tc-eval "$TINY/llama" --task items.jsonl --base "$TINY/qwen2" --result r.json >out
	[ "$(jq -c '[.measured.provenance[].stage]' r.json)" = '["tc-import","tc-eval"]' ]
	[ "$(jq -r '.measured.provenance[1].options' r.json)" = '--task items.jsonl --norm none --shots 0 --compute f32' ]
	jq -e '.measured | .model.arch == "llama" and .base.arch == "qwen2" and (.model.weights_sha256 | length) == 64 and
	    (has("seconds") | not) and .text_sha256 == ""' r.json
	cp r.json kept.json
	mkdir dir && cp items.jsonl dir
	tc-eval "$TINY/llama" --task dir/items.jsonl --base "$TINY/qwen2" --threads 1 --result r.json >out
	cmp r.json kept.json
	fails 1 'a different result is there already' tc-eval "$TINY/llama" --task items.jsonl --norm tokens --base "$TINY/qwen2" --result r.json
	cmp r.json kept.json
	fails 74 'nothere/r.json' tc-eval "$TINY/llama" --task items.jsonl --result nothere/r.json
}

@test "--compute int8: nearly the answers of f32" {
	tc-quant demo -q --bits 8 --group row --sym -o q.tc
	tc-eval q.tc -q --task cloze --items 40 --json >f32
	tc-eval q.tc --task cloze --items 40 --json --compute int8 >int8 2>err
	grep -qx 'tc-eval: int8: 56 weight matrices run so, 1 in f32' err
	near "$(jq '.tasks[0].accuracy' int8)" "$(jq '.tasks[0].accuracy' f32)" 0.1
	near "$(jq '.tasks[0].margin' int8)" "$(jq '.tasks[0].margin' f32)" 0.1
	[ "$(jq -c '.protocol | [.compute, .act_scale, .hold_out]' int8)" = '["int8","token",0]' ]
	fails 65 'no weight matrix of the model has codes for it' tc-eval draft -q --task cloze --items 2 --compute int8
}

@test "text output: a table, one line a task" {
	id_items >items.jsonl
	tc-eval "$TINY/llama" --task items.jsonl >out
	[ "$(wc -l <out)" -eq 4 ]
	head -n 1 out | grep -qE '^task +items +accuracy +stderr +low +high +chance +above +greedy +margin$'
	sed -n 2p out | grep -qE '^items +4 .*%'
	grep -q '^4 items with 11 choices in 4 sequences, 16 tokens  (sha256 [0-9a-f]\{16\})$' out
	tc-eval "$TINY/llama" --task items.jsonl --base "$TINY/llama" >out
	head -n 1 out | grep -qE 'margin +base +delta +from +to +lost +won +p +change$'
}

@test "nothing is printed or written when the stream fails at its end" {
	id_items >items.jsonl
	tc-import "$TINY/llama" -o l.tc
	head -c -1 l.tc >cut.tc
	mkdir out
	fails 65 'input ended early' tc-eval - --task items.jsonl --json --result out/r.json --details out/d <cut.tc
	fails 65 'input ended early' tc-eval cut.tc --task items.jsonl --result out/r.json --details out/d
	fails 65 'base: cut.tc' tc-eval l.tc --base cut.tc --task items.jsonl --result out/r.json --details out/d
	[ -z "$(ls -A out)" ]
	fails 74 'standard output: No space left' bash -c 'exec tc-eval l.tc --task items.jsonl >/dev/full'
	fails 74 'standard output' bash -c 'exec tc-eval --list -q >/dev/full'
	fails 74 'standard output' bash -c 'exec tc-eval l.tc --task items.jsonl >&-'
	fails 74 'No space left' tc-eval l.tc --task items.jsonl --details /dev/full
	fails 74 'nodir' tc-eval l.tc --task items.jsonl --details nodir/d
	tc-eval --list -q 2>err | head -c 100 >/dev/null
	got=${PIPESTATUS[0]}
	[ "$got" -eq 141 ] && [ ! -s err ]
}

@test "bad items" {
	echo '{"context":"a","choices":["b"],"answer":0}' >bad.jsonl
	fails 65 'bad.jsonl: line 1: choices: must be an array of 2 to 64' tc-eval demo -q --task bad.jsonl
	printf '{"context":"a","choices":["b","c"],"answer":0}\n{"context":\n' >bad.jsonl
	fails 65 'bad.jsonl: line 2: ' tc-eval demo -q --task bad.jsonl
	fails 65 'bad.jsonl: line 2: ' tc-eval demo -q --task cloze --items 2 --shots 1 --shots-from bad.jsonl
	printf 'a \xff\n' >bad.jsonl
	fails 65 'bad.jsonl: invalid UTF-8 at byte 2' tc-eval demo -q --task bad.jsonl
	: >empty.jsonl
	fails 65 'empty.jsonl: has no items' tc-eval demo -q --task empty.jsonl
	fails 66 'nothere.jsonl' tc-eval demo -q --task nothere.jsonl
	printf '\xff' >text
	fails 65 'text: invalid UTF-8 at byte 0' tc-eval --list -q --text text
	fails 65 'empty.jsonl: is empty' tc-eval --list -q --text empty.jsonl
	echo '{"context":[1],"choices":[[2],[320]],"answer":0}' >bad.jsonl
	fails 65 'choice 1: token 1: id 320 is outside the vocabulary of 320' tc-eval "$TINY/llama" --task bad.jsonl
	fails 65 'no tokenizer.json: items must be token ids' tc-eval "$TINY/llama" -q --task cloze --items 2
	ids 1 300 >long
	jq -c '{context: [1], choices: [.[0], [1]], answer: 0}' long >bad.jsonl
	fails 65 'its 300 tokens are more than the model.s 256 positions' tc-eval "$TINY/llama" --task bad.jsonl
}

@test "a base must speak the same tokens" {
	id_items >items.jsonl
	fails 65 'base: its vocabulary has 320 entries, the model.s 8192' tc-eval demo -q --task items.jsonl --base "$TINY/llama"
	fails 66 'base: nothere' tc-eval "$TINY/llama" --task items.jsonl --base nothere
	fails 2 'one model only' tc-eval --task items.jsonl --base - - < <(tc-import "$TINY/llama")
}

@test "bad models" {
	id_items >items.jsonl
	damaged llama nan 'tensors["model.layers.1.mlp.up_proj.weight"][2][8:12] = struct.pack("<f", math.nan)'
	fails 65 'element 2 is not a finite number' tc-eval nan --task items.jsonl --result r.json
	damaged llama missing 'del tensors["model.norm.weight"]'
	fails 65 "model.norm.weight. is missing" tc-eval missing --task items.jsonl --result r.json
	refuses_bad_streams tc-eval -q --task items.jsonl --result r.json
	[ ! -e r.json ]
}

@test "bad command lines" {
	fails 2 'items: 0: must be' tc-eval demo --items 0
	fails 2 'shots: -1: must be' tc-eval demo --shots -1
	fails 2 'norm: .chars.: must be one of none, tokens, bytes' tc-eval demo --norm chars
	fails 2 'task: cloze,: a name is empty' tc-eval demo --task cloze,
	fails 2 'task: : a name is empty' tc-eval demo --task ''
	fails 2 'task clozed: is no file, and none of the tasks cloze, continuation' tc-eval demo --task clozed
	fails 2 'task: cloze is there twice' tc-eval demo -q --task cloze,cloze
	id_items >items.jsonl
	fails 2 'text: no task is made of it' tc-eval demo --task items.jsonl --text items.jsonl
	fails 2 'seed: no task is drawn with it' tc-eval demo --task items.jsonl --seed 5
	fails 2 'list runs no model' tc-eval --list demo
	for option in '--base demo' '--shots 1' '--json' '--result r' '--details d'; do
		fails 2 'list runs no model' tc-eval --list $option
	done
	fails 2 'compute' tc-eval demo --compute f64
	fails 2 'act-scale goes with --compute int8' tc-eval demo --act-scale batch
	fails 2 'unknown option' tc-eval demo --ids x
	TC_CPU=avx9000 fails 2 avx9000 tc-eval demo
}

@test "the embedded model is the default" {
	takes_default tc-eval --items 2 --task comparison
}
