load lib

# value KEY-PATH COMMAND...: one value of the JSON that the command prints.
value() {
	local path=$1
	shift
	"$@" --json | jq "$path"
}

@test "the embedded model on the embedded text has PyTorch's perplexity, on each CPU path" {
	ran=0
	for cpu in generic avx2 avx512 amx; do
		got=0
		TC_CPU=$cpu tc-ppl demo -q --max-tokens 8192 --json >out 2>err || got=$?
		if [ "$got" -eq 2 ] && grep -q "$cpu" err; then continue; fi
		[ "$got" -eq 0 ] || { cat err; return 1; }
		near "$(jq .ppl out)" 20.669642006216385 1e-4
		[ "$(jq -c '[.windows, .tokens_scored, .tokens_dropped]' out)" = '[8,8184,0]' ]
		ran=$((ran + 1))
	done
	[ "$ran" -ge 1 ]
}

@test "window by window it is PyTorch's" {
	tc-ppl demo -q --max-tokens 3100 --result r.json >out
	jq -r '.measured.windows_nll[]' r.json >got
	printf '%s\n' 3.110603416926344 2.9202234436831573 3.11651075993572 >want
	[ "$(wc -l <got)" -eq 3 ]
	paste got want | while read -r a b; do near "$a" "$b" 2e-5; done
	[ "$(jq -c '.measured.tokens_dropped' r.json)" = $((3100 - 3 * 1024)) ]
}

@test "--window and --score-from are PyTorch's" {
	near "$(value .nll tc-ppl demo -q --window 512 --max-tokens 1024)" "$(jq -n '(3.0612185733068507 + 3.3106860339787603) / 2')" 2e-5
	tc-ppl demo -q --window 512 --score-from 256 --max-tokens 1024 --json >out
	near "$(jq .nll out)" "$(jq -n '(2.8767552776191114 + 3.108546036137861) / 2')" 2e-5
	[ "$(jq .tokens_scored out)" -eq $((2 * 255)) ]
	[ "$(value .nll tc-ppl demo -q --preset llama.cpp --max-tokens 1024)" = "$(jq .nll out)" ]
}

@test "the preset hf-sliding is PyTorch's" {
	tc-ppl demo -q --preset hf-sliding --max-tokens 2560 --json >out
	near "$(jq .nll out)" "$(jq -n '(3182.1474805777107 + 1510.554531665368 + 1424.510157020064 + 1603.9196629519574) / 2559')" 2e-5
	near "$(value .nll tc-ppl demo -q --preset hf-sliding --max-tokens 2048)" \
	    "$(jq -n '(3182.1474805777107 + 1510.554531665368 + 1424.510157020064) / 2047')" 2e-5
	[ "$(jq -c '[.windows, .tokens_scored, .tokens_dropped, .protocol.stride]' out)" = '[4,2559,0,512]' ]
}

@test "with a stride each prediction is scored once" {
	[ "$(value '[.windows, .tokens_scored, .tokens_dropped]|tojson' tc-ppl draft -q --max-tokens 1000 --window 256 --stride 100)" = '"[8,955,44]"' ]
	[ "$(value '[.windows, .tokens_scored, .tokens_dropped]|tojson' tc-ppl draft -q --max-tokens 1000 --window 256)" = '"[3,765,232]"' ]
}

@test "the preset gptq joins lines by two newlines" {
	head -c 30000 "$TC_SHARE/text/eval.txt" >text
	awk 'NR > 1 { printf "\n\n" } /[^ \t\r\v\f]/ { printf "%s\n", $0 }' text >joined
	[ "$(value .nll tc-ppl draft -q --preset gptq --text text --max-tokens 2048)" = \
	    "$(value .nll tc-ppl draft -q --text joined --max-tokens 2048)" ]
	[ "$(value .nll tc-ppl draft -q --text text --max-tokens 2048)" != \
	    "$(value .nll tc-ppl draft -q --text joined --max-tokens 2048)" ]
}

@test "the preset lines takes each line on its own" {
	printf 'The first line is here.\n\n  \nAnd this is the second one, which is longer.\n' >both
	printf 'The first line is here.\n' >first
	printf 'And this is the second one, which is longer.\n' >second
	for f in both first second; do
		tc-ppl draft -q --preset lines --text $f --json >$f.json
	done
	[ "$(jq .windows both.json)" -eq 2 ]
	near "$(jq .nll both.json)" "$(jq -s '(.[0].nll * .[0].tokens_scored + .[1].nll * .[1].tokens_scored) /
	    (.[0].tokens_scored + .[1].tokens_scored)' first.json second.json)" 1e-12
}

@test "sequences of ids are windows of their own" {
	echo '[[1,2,3],[4],[5,6,7,8],[]]' >ids.json
	tc-ppl "$TINY/llama" --ids ids.json --json >out
	[ "$(jq -c '[.windows, .tokens_scored, .tokens_dropped]' out)" = '[2,5,1]' ]
	tc-ppl "$TINY/llama" --ids ids.json --window 3 --json >out
	[ "$(jq -c '[.windows, .tokens_scored, .tokens_dropped]' out)" = '[2,4,2]' ]
}

@test "the tiny fixtures have PyTorch's likelihoods" {
	for arch in llama qwen2; do
		"$PYTHON" - "$TINY/$arch/ref.safetensors" >want 3>ids.json <<-'END'
			import json, os, struct, sys
			data = open(sys.argv[1], "rb").read()
			n = 8 + struct.unpack("<Q", data[:8])[0]
			head = json.loads(data[8:n])
			def values(name):
			    t = head[name]
			    letter = {"F32": "f", "F64": "d", "I64": "q", "I32": "i"}[t["dtype"]]
			    raw = data[n:][slice(*t["data_offsets"])]
			    return struct.unpack("<%d%s" % (len(raw) // struct.calcsize(letter), letter), raw)
			ids = values("input_ids")
			os.write(3, json.dumps([ids[:96], ids[96:]]).encode())
			nll = values("nll")
			print(sum(nll) / len(nll))
		END
		near "$(value .nll tc-ppl "$TINY/$arch" --ids ids.json)" "$(cat want)" 1e-5
	done
}

@test "bos is put in front only where the template has one" {
	[ "$(value .protocol.bos tc-ppl demo -q --max-tokens 64 --window 64)" = false ]
}

@test "a model against itself: no difference, and against its quantized self some" {
	tc-ppl demo -q --max-tokens 2048 --window 512 --base demo --json >out
	jq -e '.delta == 0 and .delta_low == 0 and .delta_high == 0 and (.kld | fabs) < 1e-6 and .same_top == 1 and
	    .ppl_ratio == 1 and .base_ppl == .ppl' out
	tc-quant demo -q --bits 3 | tc-ppl -q --max-tokens 2048 --window 512 --base demo --json >q3
	jq -e '.delta_low < .delta and .delta < .delta_high and .kld > 0.05 and .same_top < 0.9 and .same_top > 0.3' q3
	near "$(jq .base_ppl q3)" "$(jq .ppl out)" 1e-12
	near "$(jq '.ppl / .base_ppl' q3)" "$(jq .ppl_ratio q3)" 1e-9
	near "$(jq '.nll - .delta' q3)" "$(jq .nll out)" 1e-9
}

@test "--kv: fewer bits of keys and values cost more" {
	for kv in f32 int8 int4; do
		tc-ppl demo -q --max-tokens 2048 --base demo --kv $kv --json >$kv.json
	done
	tc-ppl demo -q --max-tokens 2048 --base demo --json >out
	jq -e '(.protocol | has("kv") | not)' out
	[ "$(jq -c '[.nll, .kld]' out)" = "$(jq -c '[.nll, .kld]' f32.json)" ]
	jq -e '.protocol.kv == "int8" and .kld > 1e-6 and .kld < 1e-3' int8.json
	jq -e '.protocol.kv == "int4" and .kld > 0.01 and .kld < 0.2 and .delta > 0' int4.json
	fails 2 'kv: .int5.: must be one of f32, bf16' tc-ppl demo --kv int5
}

@test "a base must speak the same tokens" {
	ids 2 64 >ids.json
	fails 65 'base: its vocabulary has 320 entries, the model.s 8192' tc-ppl demo -q --max-tokens 64 --window 64 --base "$TINY/llama"
	fails 66 'base: nothere' tc-ppl "$TINY/llama" --ids ids.json --base nothere
	cp -r "$TC_SHARE/models/draft-2m" other
	chmod -R u+w other
	sed -i 's/"version": *"1.0"/"version":"1.0" /' other/tokenizer.json
	tc-ppl draft -q --max-tokens 64 --window 64 --base other --json | jq -e '.delta == 0'
	jq '.model.vocab |= with_entries(if .value == 1000 then .value = 1001 elif .value == 1001 then .value = 1000 else . end)' \
	    "$TC_ROOT/share/models/draft-2m/tokenizer.json" >other/tokenizer.json
	fails 65 "base: its vocabulary is not the model's: token 1000 differs" tc-ppl draft -q --max-tokens 64 --window 64 --base other
	fails 2 'one model only' tc-ppl --ids ids.json --base - - < <(tc-import "$TINY/llama")
	tc-import "$TINY/llama" | tc-ppl "$TINY/llama" --ids ids.json --base - --json | jq -e '.delta == 0'
}

@test "the keys of --json are the documented ones" {
	ids 2 64 >ids.json
	tc-ppl "$TINY/llama" --ids ids.json --json >out
	[ "$(wc -l <out)" -eq 1 ]
	jq -e '[.ppl, .nll, .stderr, .ppl_stderr, .tokens_scored, .tokens_dropped, .windows, .bits_per_weight.model,
	    .bits_per_weight.linear, .model_bytes, .parameters, .seconds, .tokens_per_second, .peak_rss_bytes] |
	    all(type == "number")' out
	[ "$(jq -c '.protocol | keys' out)" = '["bos","compute","preset","score_from","stride","window"]' ]
	jq -e 'has("base_ppl") | not' out
	tc-ppl "$TINY/llama" --ids ids.json --base "$TINY/llama" --json >out
	jq -e '[.base_ppl, .ppl_ratio, .delta, .delta_low, .delta_high, .kld, .same_top] | all(type == "number")' out
	near "$(jq .ppl out)" "$(jq '.nll | exp' out)" 1e-12
	near "$(jq .ppl_stderr out)" "$(jq '.ppl * .stderr' out)" 1e-12
	jq -e '.bits_per_weight.model == 32 and .parameters == 97872 and .model_bytes == 4 * 97872' out
}

@test "a number is written with a point, whatever the locale" {
	ids 2 64 >ids.json
	for name in $(locale -a | grep -iE '^(de_DE|fr_FR|da_DK)' | head -n 2) C; do
		LC_ALL=$name tc-ppl "$TINY/llama" --ids ids.json --json | jq -e '.ppl | . != floor'
	done
}

@test "a result file says what was measured, and its hash can be recomputed" {
	ids 4 64 >ids.json
	tc-calib "$TINY/llama" --ids ids.json | tc-quant -q | tc-ppl --ids ids.json --base "$TINY/llama" --result r.json >out
	"$PYTHON" - r.json <<-'END'
		import hashlib, json, sys
		text = open(sys.argv[1]).read()
		# Numbers stay as they are written.
		class Written(float):
		    pass
		def number(text):
		    x = Written(text)
		    x.text = text
		    return x
		r = json.loads(text, parse_float=number)
		def dump(v):
		    if isinstance(v, dict):
		        return "{" + ",".join(json.dumps(k, ensure_ascii=False) + ":" + dump(v[k]) for k in sorted(v)) + "}"
		    if isinstance(v, list):
		        return "[" + ",".join(map(dump, v)) + "]"
		    return v.text if isinstance(v, Written) else json.dumps(v, ensure_ascii=False)
		assert hashlib.sha256(dump(r["measured"]).encode()).hexdigest() == r["measured_sha256"]
		assert list(r) == ["schema", "stage", "measured", "measured_sha256", "run"]
	END
	[ "$(jq -c '[.measured.provenance[].stage]' r.json)" = '["tc-import","tc-calib","tc-quant","tc-ppl"]' ]
	[ "$(jq -r '.measured.provenance[3].options' r.json)" = '--preset windows --compute f32' ]
	jq -e '.measured.provenance | all(.input | test("^[0-9a-f]{16}$"))' r.json
	jq -e '.measured.calib_overlap_13gram == 1 and (.measured.windows_nll | length) == 4 and
	    (.measured.windows_delta | length) == 4 and .measured.model.ledger.model_bytes == .measured.model_bytes and
	    .run.threads > 0 and (.run.libraries | length) == 5 and (.run.command | index("--result"))' r.json
}

@test "the weights' hash is that of names and parts" {
	ids 2 64 >ids.json
	tc-ppl "$TINY/llama" --ids ids.json --result r.json >out
	tc-import "$TINY/llama" -o l.tc
	records l.tc | jq -r 'select(.kind == "tensor") | .name' >names
	"$PYTHON" - "$TINY/llama/model.safetensors" names >want <<-'END'
		import hashlib, json, struct, sys
		data = open(sys.argv[1], "rb").read()
		n = 8 + struct.unpack("<Q", data[:8])[0]
		head = json.loads(data[8:n])
		h = hashlib.sha256()
		for name in open(sys.argv[2]).read().split():
		    h.update(name.encode() + b"\0" + data[n:][slice(*head[name]["data_offsets"])])
		print(h.hexdigest())
	END
	[ "$(jq -r .measured.model.weights_sha256 r.json)" = "$(cat want)" ]
}

@test "the same result again is success and leaves the file alone, a different one is refused" {
	ids 2 64 >ids.json
	tc-ppl "$TINY/llama" --ids ids.json --threads 1 --result r.json >out
	cp -p r.json kept.json
	was=$(stat -c '%i %y' r.json)
	tc-ppl "$TINY/llama" --ids ids.json --threads 2 --result r.json >out
	cmp r.json kept.json
	[ "$(stat -c '%i %y' r.json)" = "$was" ]
	fails 1 'r.json: a different result is there already' tc-ppl "$TINY/llama" --ids ids.json --window 32 --result r.json
	cmp r.json kept.json
	sed 's/"windows": 2/"windows": 3/' kept.json >r.json
	fails 1 'a different result is there already' tc-ppl "$TINY/llama" --ids ids.json --result r.json
	echo '{' >r.json
	fails 1 'a different result is there already' tc-ppl "$TINY/llama" --ids ids.json --result r.json
	[ "$(ls -A)" = "$(ls -A | grep -v '^\.')" ]
}

@test "threads, pipes and slow pipes make no difference to what is measured" {
	ids 4 64 >ids.json
	tc-quant "$TINY/llama" -q -o q.tc
	tc-ppl q.tc --ids ids.json --base "$TINY/qwen2" --threads 1 --result one.json >out
	tc-ppl q.tc --ids ids.json --base "$TINY/qwen2" --threads 2 --result two.json >out
	tc-ppl --ids ids.json --base "$TINY/qwen2" --result piped.json <q.tc >out
	perl -e '$| = 1; syswrite STDOUT, $c while sysread STDIN, $c, 1' <q.tc |
	    tc-ppl --ids ids.json --base "$TINY/qwen2" --result slow.json >out
	tc-ppl draft -q --max-tokens 1000 --window 200 --threads 1 --result draft1.json >out
	tc-ppl draft -q --max-tokens 1000 --window 200 --threads 2 --result draft2.json >out
	for f in one two piped slow draft1 draft2; do jq -S .measured $f.json >$f.measured; done
	cmp one.measured two.measured && cmp one.measured piped.measured && cmp one.measured slow.measured || return 1
	cmp draft1.measured draft2.measured
}

@test "--memory: what spills to a file changes nothing and leaves nothing behind" {
	mkdir tmp
	TMPDIR=$PWD/tmp value .nll tc-ppl draft -q --max-tokens 8192 --memory 1M >spilled
	value .nll tc-ppl draft -q --max-tokens 8192 | cmp - spilled
	[ -z "$(ls -A tmp)" ]
}

@test "nothing is printed or written when the stream fails at its end" {
	ids 2 64 >ids.json
	tc-import "$TINY/llama" -o l.tc
	head -c -1 l.tc >cut.tc
	fails 65 'input ended early' tc-ppl - --ids ids.json --json --result r.json <cut.tc
	[ ! -e r.json ]
	fails 65 'input ended early' tc-ppl cut.tc --ids ids.json --result r.json
	fails 65 'base: cut.tc' tc-ppl l.tc --base cut.tc --ids ids.json --result r.json
	fails 74 'nodir' tc-ppl l.tc --ids ids.json --result nodir/r.json
	[ ! -e r.json ]
	fails 74 'standard output: No space left' bash -c 'exec tc-ppl l.tc --ids ids.json >/dev/full'
	fails 74 'standard output' bash -c 'exec tc-ppl l.tc --ids ids.json >&-'
}

# A copy of the model where one channel of the MLP's middle is a hundred times
# what it was, and its weights behind a hundredth: the function is the same.
spiked() {
	damaged llama "$1" '
for i in range(3):
    name = "model.layers.%d.mlp." % i
    up, down = tensors[name + "up_proj.weight"], tensors[name + "down_proj.weight"]
    rows, cols = down[1]
    for k in range(up[1][1]):
        at = 4 * (7 * up[1][1] + k)
        up[2][at:at + 4] = struct.pack("<f", 100 * struct.unpack("<f", up[2][at:at + 4])[0])
    for j in range(rows):
        at = 4 * (j * cols + 7)
        down[2][at:at + 4] = struct.pack("<f", struct.unpack("<f", down[2][at:at + 4])[0] / 100)'
}

@test "--compute bf16: close to f32, the same at 1 and 2 threads and on kinds with multiply-adds" {
	tc-ppl demo -q --max-tokens 8192 --json >f32
	for threads in 1 2; do
		tc-ppl demo --max-tokens 8192 --json --compute bf16 --threads $threads >bf16.$threads 2>err
		grep -qx 'tc-ppl: bf16: 57 weight matrices as they are, 0 rounded' err
	done
	[ "$(jq .nll bf16.1)" = "$(jq .nll bf16.2)" ]
	[ "$(jq .nll bf16.1)" != "$(jq .nll f32)" ]
	near "$(jq .ppl bf16.1)" "$(jq .ppl f32)" 0.002
	jq -e '.protocol.compute == "bf16" and (.protocol | has("act_scale") | not) and .bf16_layers == {"bf16": 57, "rounded": 0} and (has("int8_layers") | not)' bf16.1
	jq -e 'has("bf16_layers") | not' f32
	# A base runs in f32.
	tc-ppl draft -q --max-tokens 4096 --json --compute bf16 --base draft | jq -e '(.delta | fabs) < 0.002 and .delta != 0 and .same_top > 0.98'
	if tc-bench --cpu --json | jq -e '[.kinds[] | select(.available) | .name] | contains(["avx512", "avx512vnni"])'; then
		[ "$(TC_CPU=avx512 tc-ppl draft -q --max-tokens 4096 --json --compute bf16 | jq .nll)" = "$(TC_CPU=avx512vnni tc-ppl draft -q --max-tokens 4096 --json --compute bf16 | jq .nll)" ]
	fi
}

@test "--compute bf16: weights that are not bf16 are rounded, and counted; codes are not" {
	ids 2 48 >ids.json
	tc-ppl "$TINY/llama" --ids ids.json --json --compute bf16 >rounded 2>err
	grep -qx 'tc-ppl: bf16: 0 weight matrices as they are, 22 rounded' err
	near "$(jq .nll rounded)" "$(tc-ppl "$TINY/llama" -q --ids ids.json --json | jq .nll)" 0.01
	tc-quant "$TINY/llama" -q --bits 4 --group 32 -o q.tcs
	tc-ppl q.tcs --ids ids.json --json --compute bf16 2>&1 >/dev/null | grep -qx 'tc-ppl: bf16: 21 weight matrices as they are, 1 rounded'
	fails 2 'act-scale goes with --compute int8' tc-ppl draft --compute bf16 --act-scale token
}

@test "--compute int8: close to the same codes in f32, the same at 1 and 2 threads" {
	tc-quant demo -q --bits 8 --group row --sym -o q.tcs
	tc-ppl q.tcs -q --max-tokens 8192 --json >f32
	for scale in token batch; do
		for threads in 1 2; do
			tc-ppl q.tcs --max-tokens 8192 --json --compute int8 --act-scale $scale --threads $threads >$scale.$threads 2>err
			grep -qx 'tc-ppl: int8: 56 weight matrices run so, 1 in f32' err
		done
		[ "$(jq .nll $scale.1)" = "$(jq .nll $scale.2)" ]
	done
	near "$(jq .ppl token.1)" "$(jq .ppl f32)" 0.005
	near "$(jq .ppl batch.1)" "$(jq .ppl f32)" 0.05
	jq -e '[.protocol.compute, .protocol.act_scale, .protocol.hold_out, .int8_layers] == ["int8", "token", 0, {"int8": 56, "f32": 1}]' token.1
	jq -e '(.protocol | has("act_scale") | not) and (has("int8_layers") | not)' f32
	# The head too; and with a base, which runs in f32.
	tc-quant demo -q --bits 8 --group 64 --embed 8 -o e.tcs
	tc-ppl e.tcs -q --max-tokens 8192 --json --compute int8 --base e.tcs >both
	jq -e '.int8_layers == {"int8": 57, "f32": 0} and (.delta | fabs) < 0.005 and .delta != 0 and .same_top > 0.95' both
}

@test "--compute int8 --hold-out: a spike that spoils the scale is restored" {
	ids 4 64 >ids.json
	spiked spiked
	tc-quant spiked -q --bits 8 --group row --sym -o q.tcs
	for args in '' '--hold-out 4' '--act-scale batch' '--act-scale batch --hold-out 4'; do
		tc-ppl q.tcs -q --ids ids.json --json --compute int8 $args --base q.tcs | jq .kld
	done >got
	awk '{ kld[NR] = $1 } END { exit !(kld[2] < kld[1] / 3 && kld[4] < kld[3] / 3) }' got || { cat got; return 1; }
}

@test "--compute int8: what cannot be, and what is said" {
	fails 65 'no weight matrix of the model has codes for it .make them with tc-quant --bits 8 --group row --sym' tc-ppl draft -q --max-tokens 2048 --compute int8
	tc-quant draft -q --bits 4 --group 16 -o narrow.tcs
	fails 65 'no weight matrix' tc-ppl narrow.tcs -q --max-tokens 2048 --compute int8
	fails 2 'compute: .f64.: must be one of f32, bf16, int8' tc-ppl draft --compute f64
	fails 2 'act-scale: .tensor.: must be one of token, batch' tc-ppl draft --compute int8 --act-scale tensor
	fails 2 'act-scale goes with --compute int8' tc-ppl draft --act-scale batch
	fails 2 'hold-out goes with --compute int8' tc-ppl draft --compute f32 --hold-out 0
	fails 2 'hold-out 1.5: must be 0 or at least 2' tc-ppl draft --compute int8 --hold-out 1.5
	fails 2 'hold-out: -1: must be' tc-ppl draft --compute int8 --hold-out -1
}

@test "bad text and ids" {
	: >empty
	fails 65 'empty: is empty' tc-ppl draft -q --text empty
	printf 'too short a text' >short
	fails 65 'the text has [0-9]+ tokens: too short for a window of 512' tc-ppl draft -q --window 512 --text short
	printf 'x' >one
	fails 65 'too short' tc-ppl draft -q --preset lines --text one
	fails 65 'too short' tc-ppl draft -q --preset hf-sliding --text one
	printf 'a \xff b\n' >bad
	fails 65 'bad: .*invalid UTF-8 at byte 2' tc-ppl draft -q --text bad
	printf 'good line\na \xc0\x80 b\n' >bad
	fails 65 'bad: .*invalid UTF-8' tc-ppl draft -q --preset lines --text bad
	fails 66 'nothere' tc-ppl draft -q --text nothere
	fails 65 'no tokenizer.json: give token ids with --ids' tc-ppl "$TINY/qwen2" -q
	echo '[[1,2,320]]' >ids.json
	fails 65 'token 2: id 320 is outside the vocabulary of 320' tc-ppl "$TINY/qwen2" --ids ids.json
	echo '[[1.5,2]]' >ids.json
	fails 65 'item 0 is not a token id' tc-ppl "$TINY/qwen2" --ids ids.json
}

@test "bad models" {
	ids 2 64 >ids.json
	damaged llama nan 'tensors["model.layers.1.mlp.up_proj.weight"][2][8:12] = struct.pack("<f", math.nan)'
	fails 65 'element 2 is not a finite number' tc-ppl nan --ids ids.json --result r.json
	damaged llama missing 'del tensors["model.norm.weight"]'
	fails 65 "model.norm.weight. is missing" tc-ppl missing --ids ids.json --result r.json
	damaged llama key 'config["logit_scale"] = 0.5'
	fails 65 "'logit_scale' is not known" tc-ppl key --ids ids.json --result r.json
	refuses_bad_streams tc-ppl -q --ids ids.json --result r.json
	[ ! -e r.json ]
}

@test "bad command lines" {
	fails 2 'window: 1: must be' tc-ppl demo --window 1
	fails 2 'stride: 0: must be' tc-ppl demo --stride 0
	fails 2 'score-from: -1: must be' tc-ppl demo --score-from -1
	fails 2 'max-tokens: 1: must be' tc-ppl demo --max-tokens 1
	fails 2 'preset: .c4.: must be one of windows, hf-sliding' tc-ppl demo --preset c4
	fails 2 'memory: 4Q|memory: .4Q' tc-ppl demo --memory 4Q
	fails 2 'window 4096: the model has 1024 positions' tc-ppl demo -q --window 4096
	fails 2 'stride 300: larger than the window of 256' tc-ppl demo -q --window 256 --stride 300
	fails 2 'score-from 255: nothing of a window of 256' tc-ppl demo -q --window 256 --score-from 255
	fails 2 'the preset lines has none' tc-ppl demo -q --preset lines --stride 5
	fails 2 'says what is scored' tc-ppl demo -q --preset hf-sliding --score-from 5
	fails 2 'text and --ids exclude' tc-ppl demo -q --text x --ids y
	ids 1 64 >ids.json
	fails 2 'max-tokens goes with a running text' tc-ppl "$TINY/llama" --ids ids.json --max-tokens 9
	fails 2 'unknown option' tc-ppl demo -o out
	TC_CPU=avx9000 fails 2 avx9000 tc-ppl demo
}

@test "the embedded model is the default" {
	takes_default tc-ppl --max-tokens 64 --window 64
}

@test "tc-ppl --score-from holds for sequences given as ids" {
	ids 3 32 >ids.json
	tc-ppl "$TINY/llama" -q --ids ids.json --window 32 --score-from 16 --json >out
	[ "$(key out .tokens_scored)" = 45 ]
	[ "$(key out .tokens_dropped)" = 0 ]
	tc-ppl "$TINY/llama" -q --ids ids.json --window 32 --json >all
	[ "$(key all .tokens_scored)" = 93 ]
}

@test "tc-ppl says at once that a result cannot be written" {
	ids 1 32 >ids.json
	fails 74 'nothere/r.json' tc-ppl "$TINY/llama" --ids ids.json --window 32 --result nothere/r.json
}
