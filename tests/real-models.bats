#!/usr/bin/env bats
# Real checkpoints (share/get-model); skipped where they are not fetched.

load lib

fetched() {
	[ -e "${XDG_CACHE_HOME:-$HOME/.cache}/tinycompress/models/$1/model.gguf" ] || skip "$1 is not fetched"
}

# golden/smollm2-chat.jsonl: greedy ids of transformers in f32 on the
# dequantized weights.
@test "SmolLM2 answers five chat prompts as transformers does" {
	fetched smollm2-135m
	jq -r .prompt "$TC_ROOT/tests/golden/smollm2-chat.jsonl" >prompts
	tc-gen smollm2-135m --chat --prompts prompts -n 64 --json | jq -c '{prompt, ids}' >got
	cmp got "$TC_ROOT/tests/golden/smollm2-chat.jsonl"
}

# transformers, f32: the first windows of WikiText-2, scored from 256.
@test "perplexities of SmolLM2 and Gemma 3 are those of transformers on the same weights" {
	fetched smollm2-135m
	fetched gemma3-270m
	need_shared text/wiki.test.raw
	tc-ppl smollm2-135m -q --text "$TC_SHARED/text/wiki.test.raw" --window 512 --score-from 256 --max-tokens 12288 --json >smol
	near "$(key smol .ppl)" 26.325926742432305 1e-4
	tc-ppl gemma3-270m -q --text "$TC_SHARED/text/wiki.test.raw" --preset llama.cpp --max-tokens 3072 --json >gemma
	near "$(key gemma .ppl)" 16.51605149370679 1e-4
}

@test "tc-quant quantizes anew what came quantized, once" {
	fetched smollm2-135m
	tc-quant smollm2-135m --bits 3 -o anew.tcs 2>said
	grep -q 'was Q4_1 before' said
	[ "$(tc-ls anew.tcs --json | jq '[.tensors[] | select(.role == "up") | .format] | unique | length')" = 1 ]
	fails_midway 65 'is quantized already' tc-quant anew.tcs
}
