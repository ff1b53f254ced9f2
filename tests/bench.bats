# bench.bats - the scripts under bench/ that make models and tables.
load lib

BENCH=$TC_ROOT/bench
export PATH=$TC_BUILD/unit:$PATH
export MODELS=models RUNS=1 TRIES=1

gguf() {
	"$PYTHON" "$BENCH/gguf" "$@"
}

# made DIR ARCH OPTION...: a checkpoint whose numbers f16 holds, with the demo's tokenizer
made() {
	mkmodel "$1" --arch "$2" --dtype f16 --vocab 8192 --tokenizer "$TC_ROOT/share/models/demo-16m/tokenizer.json" "${@:3}"
}

# stands_in PROGRAM: a program that writes on stderr what it is given on stdin
stands_in() {
	mkdir -p stubs
	{ echo '#!/bin/sh'; echo "cat >&2 <<'END'"; cat; echo END; } >"stubs/$1"
	chmod +x "stubs/$1"
}

@test "a GGUF file has the tensors of the directory that it was made of" {
	made llama llama --untied --heads 4 --kv-heads 2
	made qwen2 qwen2 --heads 4 --kv-heads 1 --theta 5e5
	for arch in llama qwen2; do
		gguf $arch $arch.gguf
		tc-cmp $arch $arch.gguf --json >$arch.json
		[ "$(key $arch.json '.tensors | length')" -ge 20 ]
		[ "$(key $arch.json .different)" = 0 ]
	done
	# and of one whose weights are not f16's, to within its rounding
	for dtype in bf16 f32; do
		made $dtype llama --dtype $dtype
		gguf $dtype $dtype.gguf
		tc-cmp $dtype $dtype.gguf --json >$dtype.json || [ $? -eq 1 ]   # they differ
		[ "$(key $dtype.json '.relative_error < 3e-4 and .relative_error > 0')" = true ]
	done
}

@test "a GGUF file of the demo has its hyper-parameters and its tokenizer" {
	gguf "$TC_ROOT/share/models/demo-16m" demo.gguf
	for model in demo demo.gguf; do
		tc-ppl $model -q --max-tokens 4096 --json >$model.json
	done
	[ "$(key demo.json .tokens_scored)" = 4092 ]
	[ "$(key demo.gguf.json .tokens_scored)" = 4092 ]
	near "$(key demo.gguf.json .ppl)" "$(key demo.json .ppl)" 1e-6
}

@test "a model sharded over files makes the same GGUF file" {
	mkdir one two
	made one/m qwen2
	made two/m qwen2 --shard-bytes 100000
	[ -e two/m/model.safetensors.index.json ]
	gguf one/m one.gguf
	gguf two/m two.gguf
	cmp one.gguf two.gguf
}

@test "what the format cannot hold, or this script does not know, is refused" {
	fails 1 'gguf: gemma2: qwen2 and llama are supported' gguf "$TINY/gemma2" out.gguf
	damaged llama scaled 'config["rope_parameters"] = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}'
	fails 1 'gguf: rope scaling' gguf scaled out.gguf
	damaged llama large 'tensors["model.layers.1.mlp.up_proj.weight"][2][:4] = struct.pack("<f", 1e6)'
	fails 1 'gguf: blk.1.ffn_up.weight: a weight does not fit f16' gguf large out.gguf
	damaged llama odd 'tensors["model.layers.1.mlp.odd_proj.weight"] = tensors["model.layers.1.mlp.up_proj.weight"]'
	fails 1 'gguf: model.layers.1.mlp.odd_proj.weight: no name' gguf odd out.gguf
	fails 1 'usage' gguf "$TINY/llama"
}

@test "the made-up checkpoint has the shapes it is named for, and always the same weights" {
	"$BENCH/shapes" a --layers 1 --vocab 8192
	"$BENCH/shapes" b --layers 1 --vocab 8192
	cmp a/model.safetensors b/model.safetensors
	"$BENCH/shapes" c --layers 1 --vocab 8192 --seed 2
	! cmp -s a/model.safetensors c/model.safetensors || return 1
	[ "$(key a/config.json '"\(.hidden_size) \(.intermediate_size) \(.num_attention_heads) \(.num_key_value_heads) \(.rope_parameters.rope_theta)"')" = '896 4864 14 2 1000000' ]
	# 151936 x 896 + 24 x 14912384 + 896 is what the whole one has
	[ "$(tc-ls a --json | jq .ledger.parameters)" = $((8192 * 896 + 14912384 + 896)) ]
	fails 2 'usage' "$BENCH/shapes"
}

@test "a table's row has both speeds, their ratio, and who was not there" {
	stands_in llama-perplexity <<-'OUT'
		perplexity: 1.00 seconds per pass
		llama_perf_context_print: prompt eval time =    1000.00 ms / 20480 tokens (    0.75 ms per token,     10.00 tokens per second)
		llama_perf_context_print:        eval time =       0.00 ms /     1 runs   (    0.00 ms per token,      inf tokens per second)
	OUT
	export PATH=$PWD/stubs:$PATH TC_SHARED=$PWD
	"$BENCH/llama" ppl >table 2>log
	[ "$(grep -cE ' +[0-9]+ +10 +[0-9.]+x +[0-9]+x +- +[0-9]+%(  disturbed)?$' table)" -ge 3 ]
	sed -nE 's/^  the second half.* ([0-9]+) +10 +([0-9.]+)x +10x .*/\1 \2/p' table >ratio
	near "$(awk '{ print $1 / 10 }' ratio)" "$(awk '{ print $2 }' ratio)" 0.001
	[ "$(ls models)" ]
}

@test "a section whose programs are missing is skipped, and said to be" {
	for program in llama-imatrix llama-bench llama-quantize; do
		! command -v $program >/dev/null || skip "$program is there"
	done
	"$BENCH/llama" calib >table 2>log
	grep -qx 'calib: skipped: llama-imatrix is not on PATH' table
	grep -qx 'demo, quantized: skipped: llama-quantize is not on PATH' table
}

@test "MB/s of tc-quant: a row each for pipe and file, whatever the machine" {
	LAYERS=1 "$BENCH/quant" >table
	[ "$(grep -cE '^(a pipe alone|rtn|nf4).* +[0-9]+ MB/s$' table)" -eq 7 ]
}

@test "gptq of a block: seconds, operations and memory" {
	SEQUENCES=2 LENGTH=64 "$BENCH/gptq" >out
	grep -qE '^2 x 64 tokens, 2 threads: [0-9.]+ s a block, [0-9]+ GFLOP/s; 24 blocks: [0-9.]+ minutes$' out
	grep -qE 'peak memory [0-9]+ MB: .*Hessians of 2 sums' out
}

# A stand-in for tc-ppl: of b bits a linear weight, nll 3 + w + 1/b in window w
# of 4, and a little more in every other window.
ppl_stands_in() {
	mkdir -p stubs
	cat >stubs/tc-ppl <<-'END'
		#!/usr/bin/env bash
		while [ "$1" != --result ]; do [[ $1 != *.tcs ]] || model=$1; shift; done
		tc-ls "$model" --json | jq '.ledger | .bits_per_weight.linear as $b
			| [range(4) | 3 + . + 1 / $b + . % 2 / $b / 10] as $nll
			| {measured: {windows_nll: $nll, windows_scored: [1, 1, 1, 3], ppl: ($nll | add / 4 | exp), model_bytes, bits_per_weight}}' >"$2"
	END
	chmod +x stubs/tc-ppl
	export PATH=$PWD/stubs:$PATH
}

@test "the table of methods: differences to the row that a row names, and the order" {
	ppl_stands_in
	export TC_SHARED=$PWD OUT=$PWD/results
	SET=ladder ROWS='^int4 g(16|32)' "$BENCH/methods" >table
	[ "$(grep -c '^| int4' table)" -eq 4 ]
	# 1/6 - 1/16 and, in windows 1 and 3 with 4 of 6 predictions, a tenth of that
	near "$(sed -n 's/^| int4 g16, f16 minimum .*| +\([0-9.]*\) \[.*/\1/p' table)" "$(jq -n '(1/6 - 1/16) * (1 + 0.4 / 6)')" 1e-3
	grep -qE '^\| int4 g16, searched \| .*\| int4 g16, f16 minimum \| [0-9.]+ \| 0 \[0, 0\] \|$' table
	grep -q '^Best first, eval.txt: int4 g16.* · int4 g32, f16 minimum\.$' table
	# what is there is not measured again
	[ "$(ls results | wc -l)" -eq 5 ]
	touch -d '1 hour ago' results/*
	SET=ladder ROWS='^int4 g(16|32)' "$BENCH/methods" | cmp - table
	[ -z "$(find results -newermt '-30 minutes' -type f)" ]
	# without the texts, or the model, a section is left out
	SET=smollm2 "$BENCH/methods" >table
	[ "$(grep -c 'skipped' table)" -eq 2 ]
}

@test "the table of methods: draws of calibration" {
	ppl_stands_in
	export TC_SHARED=$PWD DRAWS="0 32"
	SET=demo ROWS='^opt asym 4 g32, calibrated' "$BENCH/methods" >table
	grep -qE '^\| opt asym 4 g32, calibrated \|.*\| 0 \[0, 0\] \| 0 ± 0 \(draws alone 0\) \|$' table
	grep -q '| over 2 draws |$' table
}
