load lib

# differs COMMAND...: exits with 1 and says nothing on stderr.
differs() {
	local got=0
	"$@" >out 2>err || got=$?
	[ "$got" -eq 1 ] && [ ! -s err ] || { echo "exit $got: $*"; cat err; return 1; }
}

@test "a model and its stream are the same numbers, whatever the architecture" {
	for model in "$TINY"/* "$TC_ROOT"/tests/fixtures/arch/*; do
		tc-import "$model" | tc-cmp "$model" - --json >cmp || { echo "$model"; return 1; }
		[ "$(key cmp .different)" -eq 0 ] && [ "$(key cmp .same)" -ge 20 ] || return 1
		[ "$(jq -c '.tensors[0] | [.relative_error, .snr_db, .max_abs, .max_at, .note]' cmp)" = '[0,null,0,null,null]' ]
		[ "$(jq -c '.tensors | length' cmp)" -eq "$(tc-ls "$model" --json | jq '.tensors | length')" ]
	done
}

@test "the figures are those of a sum by hand" {
	damaged llama other '
name = "model.layers.1.mlp.up_proj.weight"
kind, shape, raw = tensors[name]
n = len(raw) // 4
x = list(struct.unpack("<%df" % n, raw))
y = list(x)
y[5 * shape[1] + 7] += 0.5      # row 5, column 7
y[60 * shape[1] + 1] -= 0.25
y = list(struct.unpack("<%df" % n, struct.pack("<%df" % n, *y)))
raw[:] = struct.pack("<%df" % n, *y)
norm = math.fsum(v * v for v in x)
diff = math.fsum((v - w) ** 2 for v, w in zip(x, y))
with open("want", "w") as f:
    print(math.sqrt(diff / norm), 10 * math.log10(norm / diff), max(abs(v - w) for v, w in zip(x, y)), file=f)
bias = tensors["model.norm.weight"][2]
bias[12:16] = struct.pack("<f", struct.unpack("<f", bias[12:16])[0] + 2)'
	differs tc-cmp "$TINY/llama" other --json
	read -r relative snr max <want
	jq '.tensors[] | select(.name == "model.layers.1.mlp.up_proj.weight")' out >t
	near "$(key t .relative_error)" "$relative" 1e-13
	near "$(key t .snr_db)" "$snr" 1e-13
	[ "$(jq ".max_abs == $max" t)" = true ]
	[ "$(jq -c '[.max_at, .format_a, .format_b]' t)" = '[[5,7],"f32","f32"]' ]
	[ "$(jq -c '.tensors[] | select(.name == "model.norm.weight") | [.max_at, (.max_abs * 1000 | round)]' out)" = '[[3],2000]' ]
	[ "$(jq -c '[.same, .different]' out)" = '[28,2]' ]
	differs tc-cmp "$TINY/llama" other
	grep -qE "^model\.layers\.1\.mlp\.up_proj\.weight +${relative:0:6}[0-9]* +${snr:0:4}[0-9]* +0\.5 +5,7  f32 +f32\$" out
	grep -q '^30 tensors: 28 same, 2 different; of those in both, relative error 0\.' out
}

@test "zeros: an error of nothing is infinite, 0 and -0 are the same" {
	damaged llama zero 'tensors["lm_head.weight"][2][:] = bytes(len(tensors["lm_head.weight"][2]))'
	damaged llama minus 'w = tensors["lm_head.weight"][2]; w[:] = b"\0\0\0\x80" * (len(w) // 4)'
	tc-cmp -q zero minus
	differs tc-cmp zero "$TINY/llama" --include lm_head.weight --json
	[ "$(jq -c '.tensors[0] | [.relative_error, .snr_db, .max_abs > 0]' out)" = '[null,null,true]' ]
	differs tc-cmp zero "$TINY/llama" --include lm_head.weight
	grep -qE '^lm_head\.weight +inf +-inf ' out
	differs tc-cmp "$TINY/llama" zero --include lm_head.weight --json
	[ "$(jq -c '.tensors[0] | [.relative_error, .snr_db]' out)" = '[1,0]' ] || [ "$(jq -c '.tensors[0] | [.relative_error, .snr_db]' out)" = '[1.0,0.0]' ]
}

@test "quantized weights are compared as the numbers they stand for" {
	tc-quant -q "$TINY/llama" --bits 8 --group 16 -o q8.tc
	tc-quant -q "$TINY/llama" --bits 3 --group 16 -o q3.tc
	differs tc-cmp "$TINY/llama" q8.tc --json
	mv out q8.json
	differs tc-cmp "$TINY/llama" q3.tc --json
	[ "$(jq -c '.tensors[2] | [.format_a, .format_b]' out)" = '["f32","uniform 3 bit g16 int f16"]' ]
	[ "$(jq -s '.[0].snr_db > .[1].snr_db + 25' q8.json out)" = true ]
	# Dequantized and exported, the model is the same as the packed one.
	tc-export q3.tc -o plain
	tc-cmp q3.tc plain --json >cmp
	[ "$(jq -c '[.different, .tensors[2].format_a]' cmp)" = '[0,"uniform 3 bit g16 int f16"]' ]
}

@test "threads, pipes and maps change no bit" {
	tc-quant -q demo --bits 3 -o q.tc
	differs tc-cmp demo q.tc --json --threads 1; mv out one
	differs tc-cmp demo q.tc --json --threads 7; cmp one out
	differs sh -c 'cat q.tc | tc-cmp demo - --json'; cmp one out
	differs bash -c 'tc-cmp <(tc-import demo) <(cat q.tc) --json'; cmp one out
}

@test "-q says nothing, the exit status does" {
	tc-quant -q "$TINY/llama" -o q.tc
	tc-cmp -q "$TINY/llama" "$TINY/llama" >out 2>&1
	[ ! -s out ]
	differs tc-cmp --quiet "$TINY/llama" q.tc
	[ ! -s out ]
	differs tc-cmp -q --json "$TINY/llama" q.tc
	[ ! -s out ]
	tc-cmp -q "$TINY/llama" q.tc --exclude '*_proj.weight'
	differs tc-cmp -q "$TINY/llama" q.tc --include '*.1.mlp.*'
	fails 2 'matches no tensor' tc-cmp "$TINY/llama" q.tc --include 'nothing*'
}

@test "what only one model has, and other shapes, are differences" {
	differs tc-cmp "$TINY/llama" "$TINY/qwen2" --json
	[ "$(jq -c '[.tensors[] | select(.name | endswith("layers.0.self_attn.q_proj.bias")) | .format_a, .note]' out)" = '[null,"only in the second"]' ]
	[ "$(jq '.same + .different == (.tensors | length)' out)" = true ]
	differs tc-cmp "$TINY/qwen2" "$TINY/llama"
	grep -qE 'layers\.0\.self_attn\.q_proj\.bias .* only in the first$' out
	grep -q ' the shapes differ$' out
	# No name in common: each is told once.
	differs tc-cmp "$TINY/gpt2" "$TINY/llama" --json
	[ "$(jq -c '[.same, .relative_error, ([.tensors[].note] | unique)]' out)" = '[0,0.0,["only in the first","only in the second"]]' ] ||
	    [ "$(jq -c '[.same, .relative_error, ([.tensors[].note] | unique)]' out)" = '[0,0,["only in the first","only in the second"]]' ]
	[ "$(jq '.tensors | length' out)" -eq $(($(tc-ls "$TINY/gpt2" --json | jq '.tensors | length') + $(tc-ls "$TINY/llama" --json | jq '.tensors | length'))) ]
}

@test "NaN and infinity are refused, on either side, by name and place" {
	damaged llama bad 'tensors["model.layers.2.mlp.down_proj.weight"][2][400:404] = struct.pack("<f", math.nan)'
	damaged llama inf 'tensors["model.norm.weight"][2][4:8] = struct.pack("<f", math.inf)'
	fails 65 'model\.layers\.2\.mlp\.down_proj\.weight.*element 100' tc-cmp bad "$TINY/llama"
	fails 65 'model\.layers\.2\.mlp\.down_proj\.weight.*element 100' tc-cmp "$TINY/llama" bad
	fails 65 'model\.norm\.weight.*element 1 ' tc-cmp inf inf
}

@test "two models must be named, and be whole" {
	for operands in '' "$TINY/llama" -; do
		fails 2 'two models are needed' tc-cmp $operands </dev/null
	done
	fails 2 'extra operand' tc-cmp demo demo demo
	fails 2 'one model only' tc-cmp - - < <(tc-import "$TINY/llama")
	fails 66 nothere tc-cmp demo nothere
	fails 66 nothere tc-cmp nothere demo
	tc-import "$TINY/llama" -o good.tc
	size=$(stat -c %s good.tc)
	for n in 20 800 $((size / 2)) $((size - 1)); do
		head -c "$n" good.tc >cut.tc
		fails 65 'input ended early|not a model' tc-cmp good.tc cut.tc
		fails 65 'input ended early' tc-cmp - good.tc <cut.tc
	done
	for n in 3 900 $((size / 2)) $((size - 20)); do
		flip good.tc "$n" >flipped.tc
		fails 65 . tc-cmp good.tc flipped.tc
	done
	# A stage that fails before it: its code, its words once.
	got=0; tc-calib "$TINY/llama" --ids nothere 2>err | tc-cmp good.tc - >out 2>>err || got=$?
	[ "$got" -eq 66 ] && [ ! -s out ] || return 1
	fails 74 'No space left' sh -c "tc-cmp good.tc good.tc >/dev/full"
}
