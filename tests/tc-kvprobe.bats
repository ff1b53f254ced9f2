load lib

ALL=f32,bf16,f16,int8,int4,int8-channel,int4-channel,int8-rotated,int4-rotated

# probe ARG...: of the tiny llama on two sequences, with little to measure.
probe() {
	[ -e ids.json ] || ids 2 256 >ids.json
	tc-kvprobe "$TINY/llama" -q --ids ids.json --ladder none --runs 1 "$@"
}

@test "tc-kvprobe: the embedded model's figures are the reference's" {
	tc-kvprobe demo -q --kv f32,int8,int4 --ladder none --runs 1 --max-tokens 8192 --json >out
	near "$(jq .f32.ppl out)" 20.669642 1e-4
	jq -e '.f32.kld == 0 and .f32.same_top == 1 and .int8.kld < 5e-4 and .int4.kld > 0.02 and .int4.kld < 0.08' out
	jq -e '.f32.bytes_per_token == 8192 and .int8.bytes_per_token == 2112 and .int4.bytes_per_token == 1088' out
	jq -e '[.int8, .int4] | all(.f16_ratio == .bytes_per_token / 4096)' out
	jq -e '[.f32, .int8, .int4] | all(.tokens_per_second > 0 and (.key_error | length) == 8)' out
	tc-ppl demo -q --kv int4 --base demo --max-tokens 8192 --json >ppl
	[ "$(jq -c '[.ppl, .kld, .same_top]' ppl)" = "$(jq -c '.int4 | [.ppl, .kld, .same_top]' out)" ]
	tc-ppl demo -q --max-tokens 8192 --json >ppl
	[ "$(jq .ppl ppl)" = "$(jq .f32.ppl out)" ]
}

@test "tc-kvprobe: all formats, at any number of threads and on any kind" {
	for cpu in generic avx2 avx512 avx512vnni; do
		got=0
		TC_CPU=$cpu probe --kv $ALL --threads 1 --result $cpu.json >out 2>err || got=$?
		if [ "$got" -eq 2 ] && grep -q "$cpu" err; then continue; fi
		[ "$got" -eq 0 ] || { cat err; return 1; }
		TC_CPU=$cpu probe --kv $ALL --threads 3 --result $cpu.json >out
		jq -e '.measured | [.f16.kld, .int8.kld, .int4.kld] | .[0] < .[1] and .[1] < .[2]' $cpu.json
		jq -e '.measured | .["int8-rotated"].kld < .int4.kld and .["int4-channel"].window_bytes > 0' $cpu.json
		jq -e '(.measured | has("ladder")) and (.measured.f32 | has("tokens_per_second") | not) and .run.f32.tokens_per_second > 0' $cpu.json
	done
	fails 1 'a different result is there already' probe --kv f32 --result generic.json
}

@test "tc-kvprobe: bytes held are those counted, at every length, and beyond the positions it says so" {
	ids 2 64 >ids.json
	tc-kvprobe "$TINY/llama" --ids ids.json --kv $ALL --ladder 128,256,512,1024,2048,4096 --runs 1 --json >out 2>err
	[ "$(jq '.ladder | length' out)" -eq 54 ]
	jq -e '.ladder | all(.bytes == .held_bytes and .tokens_per_second > 0 and .beyond_positions == (.positions > 256))' out
	jq -e '.int8.bytes_per_token as $b | .ladder | map(select(.format == "int8")) | all(.bytes == $b * .positions)' out
	grep -q "beyond the model's 256 positions only speed and bytes" err
	tc-kvprobe "$TINY/gpt2" --ids ids.json --kv f32 --ladder 128,512 --runs 1 --json >out 2>err
	[ "$(jq -c '.ladder | map(.positions)' out)" = '[128]' ]
	grep -q "beyond the model's 256 positions it has no embeddings" err
}

@test "tc-kvprobe: huge key biases break int4 by token, not by channel, and it shows where" {
	ids 2 256 >ids.json
	damaged qwen2 biased 'tensors["model.layers.1.self_attn.k_proj.bias"][2][20:24] = struct.pack("<f", 300)'
	for m in "$TINY/qwen2" biased; do
		tc-kvprobe $m -q --ids ids.json --kv f32,int4,int4-channel --ladder none --runs 1 --json >$(basename $m).json
	done
	jq -e '.int4.kld > 5 * .["int4-channel"].kld' biased.json
	[ "$(jq '.int4.kld' biased.json)" != "$(jq '.int4.kld' qwen2.json)" ]
	jq -e '.key_largest[1] > 250 and .key_largest[1] > 50 * .key_median[1] and .key_largest[0] < 20 * .key_median[0]' biased.json
	tc-kvprobe biased -q --ids ids.json --kv int4 --ladder none --runs 1 | grep 'block 1: a channel of its keys reaches 3'
}

@test "tc-kvprobe: text is two tables" {
	ids 2 64 >ids.json
	tc-kvprobe "$TINY/llama" -q --ids ids.json --kv f32,int4 --ladder 64 --runs 1 >out
	grep -q '^f32 .*100.00%' out
	grep -qE '^int4 ' out
	grep -qE '^ +64 +int4 +no ' out
	[ "$(grep -c '^$' out)" -eq 2 ]
}

@test "tc-kvprobe: a stream and a checkpoint are the same to it" {
	tc-import "$TINY/llama" -o m.tcs
	probe --result a.json >/dev/null
	for m in m.tcs -; do
		tc-kvprobe $m -q --ids ids.json --ladder none --runs 1 --result b.json >/dev/null <m.tcs
		[ "$(jq -S '.measured | del(.provenance)' a.json)" = "$(jq -S '.measured | del(.provenance)' b.json)" ]
	done
}

@test "tc-kvprobe --json has the documented keys" {
	probe --ladder 64 --json >out
	sed -n '/^\.Ss Keys/,/^\.Sh ENV/p' "$TC_ROOT/man/tc-kvprobe.1" >page
	for key in $(jq -r '(keys - ["int8", "int4", "f16"])[], (.int8, .ladder[0], .protocol | keys[])' out); do
		grep -qE "^\.(It )?Cm ([a-z_]+ , )*$key( |,|\$)" page || { echo "not in the page: $key"; return 1; }
	done
}

@test "tc-kvprobe: bad command lines" {
	fails 2 "kv: .*int5' is not one of f32.bf16" tc-kvprobe demo --kv f32,int5
	fails 2 'kv: .*int8 is there twice' tc-kvprobe demo --kv int8,int4,int8
	fails 2 "kv: .*'' is not one of" tc-kvprobe demo --kv f32,
	fails 2 'kv: .*too long' tc-kvprobe demo --kv aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
	fails 2 'ladder: .*16' tc-kvprobe demo --ladder 128,16
	fails 2 'window: 1: must be' tc-kvprobe demo --window 1
	fails 2 'runs: 0: must be' tc-kvprobe demo --runs 0
	fails 2 'window 4096: the model has 1024 positions' tc-kvprobe demo -q --window 4096
	fails 2 'unknown option' tc-kvprobe demo -o out
	ids 1 64 >ids.json
	fails 2 'max-tokens goes with a running text' tc-kvprobe "$TINY/llama" --ids ids.json --max-tokens 9
	fails 74 'nothere/r.json' tc-kvprobe "$TINY/llama" --ids ids.json --result nothere/r.json
}

@test "tc-kvprobe: bad text and models" {
	printf 'too short a text' >short
	fails 65 'too short for a window of 512' tc-kvprobe draft -q --window 512 --text short
	fails 65 'no tokenizer.json: give token ids with --ids' tc-kvprobe "$TINY/qwen2" -q
	ids 2 64 >ids.json
	damaged llama nan 'tensors["model.layers.1.mlp.up_proj.weight"][2][8:12] = struct.pack("<f", math.nan)'
	fails 65 'element 2 is not a finite number' tc-kvprobe nan --ids ids.json --result r.json
	damaged llama missing 'del tensors["model.norm.weight"]'
	fails 65 "model.norm.weight. is missing" tc-kvprobe missing --ids ids.json --result r.json
	refuses_bad_streams tc-kvprobe -q --ids ids.json --result r.json
	[ ! -e r.json ]
}

@test "tc-kvprobe: the embedded model is the default" {
	for from in /dev/null '&-'; do
		eval "tc-kvprobe --runs 1 --ladder none --kv f32 --window 64 --max-tokens 64 --json <$from >out 2>err"
		grep -q 'no model given: using the embedded demo-16m' err
	done
	fails 66 'empty: did the upstream stage fail' tc-kvprobe < <(:)
}

@test "tc-kvprobe: a full disk is exit 74, a reader that goes away ends it in silence" {
	ids 2 64 >ids.json
	run -74 --separate-stderr bash -c "tc-kvprobe $TINY/llama -q --ids ids.json --kv f32 --ladder none --runs 1 >/dev/full"
	[[ $stderr == *"No space left"* ]]
	probe --json 2>err | true
	[ ! -s err ]
}
