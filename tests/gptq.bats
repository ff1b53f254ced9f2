load lib

# ppl MODEL OPTIONS: of what the stream on stdin, or MODEL, scores on eval text.
ppl() {
	tc-ppl "$@" -q --json | jq .ppl
}

# A short calibration of the draft model, tokens only.
tokens() {
	tc-calib draft -q --tokens-only --samples 16 --seqlen 256
}

@test "gptq beats round to nearest, one-shot and sequential, on every grid" {
	for grid in sym asym fmin; do
		rtn=$(tc-quant draft -q --bits 3 --$grid | ppl --window 256 --max-tokens 8192)
		one=$(tc-calib draft -q --hessian --samples 16 --seqlen 256 | tc-quant -q --method gptq --bits 3 --$grid | ppl --window 256 --max-tokens 8192)
		seq=$(tokens | tc-quant -q --method gptq --bits 3 --$grid --sequential | ppl --window 256 --max-tokens 8192)
		jq -en "$one < 0.97 * $rtn and $seq < 0.97 * $rtn" >/dev/null || { echo "$grid: rtn $rtn, one-shot $one, sequential $seq"; return 1; }
	done
}

@test "a block's Hessians are all measured before any of its matrices changes" {
	tc-calib draft -q --hessian --samples 16 --seqlen 256 | tc-quant -q --method gptq -o one.tc
	tokens | tc-quant -q --method gptq --sequential -o seq.tc
	# The first block is measured on the same states in both, the others not.
	tc-cmp one.tc seq.tc --json >cmp.json || true
	jq -e '[.tensors[] | select(.name | test("layers.0.")) | .max_abs] | max == 0' cmp.json
	jq -e '[.tensors[] | select(.name | test("layers.1.")) | .max_abs] | max > 0' cmp.json
}

@test "layer by layer, each of a block's layers is fitted to those before it" {
	tokens >t.tc
	for option in block layer; do
		tc-quant t.tc -q --method gptq --bits 3 --sequential --order $option -o $option.tc
	done
	tc-quant t.tc -q --method gptq --bits 3 --sequential | tc-cmp - block.tc
	tc-cmp block.tc layer.tc --json >cmp.json || true
	jq -e '[.tensors[] | select(.name | test("layers.0.*[qkv]_proj")) | .max_abs] | max == 0' cmp.json
	jq -e '[.tensors[] | select(.name | test("layers.0.*(o|up|down)_proj")) | .max_abs] | min > 0' cmp.json
	# The last layer of a block that quantizes nothing else sees the same.
	for option in block layer; do
		tc-quant t.tc -q --method gptq --bits 3 --sequential --order $option --include '*.down_proj.*' -o $option.tc
	done
	tc-cmp block.tc layer.tc
	# What opt weighs errors by is measured likewise.
	for option in block layer; do
		tc-quant t.tc -q --method opt --bits 3 --sequential --order $option -o $option.tc
	done
	! tc-cmp block.tc layer.tc >cmp || return 1
	ids 4 48 >ids.json
	tc-calib "$TINY/gpt2" -q --tokens-only --ids ids.json | tc-quant -q --method gptq --group 16 --sequential --order layer | tc-ls >list
	fails 2 'order goes with --sequential' tc-quant t.tc --order layer
	fails 2 "order: 'both': must be one of block, layer" tc-quant t.tc --sequential --order both
}

@test "gptq gives the same bytes at any number of threads, block size, pipe" {
	tokens >t.tc
	tc-quant t.tc -q --method gptq --bits 3 --sequential --threads 1 -o a.tc
	tc-quant t.tc -q --method gptq --bits 3 --sequential --threads 2 -o b.tc
	tc-quant -q --method gptq --bits 3 --sequential --block 32 -o c.tc <t.tc
	cat t.tc | tc-quant -q --method gptq --bits 3 --sequential --memory 1M -o d.tc
	cmp a.tc b.tc
	cmp a.tc c.tc
	cmp a.tc d.tc
}

@test "act-order and static groups change codes, not their size" {
	tokens >t.tc
	tc-quant t.tc -q --method gptq --sequential --group 32 -o plain.tc
	for option in --act-order --static-groups; do
		tc-quant t.tc -q --method gptq --sequential --group 32 $option -o other.tc
		! cmp -s plain.tc other.tc
		[ "$(tc-ls plain.tc --json | jq .ledger.model_bytes)" = "$(tc-ls other.tc --json | jq .ledger.model_bytes)" ]
	done
}

@test "gptq on the grids of every method beats that method, and stores what it stores" {
	tokens >t.tc
	while read -r options; do
		# shellcheck disable=SC2086
		tc-quant draft -q --method $options -o plain.tc
		# shellcheck disable=SC2086
		tc-quant t.tc -q --method gptq --grid $options --sequential --strip -o gptq.tc
		[ "$(tc-ls plain.tc --json | jq .ledger.model_bytes)" = "$(tc-ls gptq.tc --json | jq .ledger.model_bytes)" ]
		a=$(ppl plain.tc --window 256 --max-tokens 8192)
		b=$(ppl gptq.tc --window 256 --max-tokens 8192)
		jq -en "$b < $a" >/dev/null || { echo "$options: $b, without gptq $a"; return 1; }
	done <<-'END'
		rtn --bits 3 --mse
		opt --bits 3
		opt --bits 3 --sym --levels full
		nf3
		lloyd --bits 3
		hqq --bits 3
	END
}

@test "grids of another method take its bits and zeros, and those of the embedding" {
	tokens >t.tc
	tc-quant t.tc -q --method gptq --grid nf3 --sequential --embed same -o q.tc
	records q.tc | jq -c 'select(.format.encoding == "codebook") | [.role, .format.bits]' | sort -u >list
	[ "$(grep -c ',3' list)" -eq 8 ] && grep -q embed list
	records q.tc | head -n 1 | jq -r '.steps[-1][3]' | grep -q -- '--method gptq --bits 3 .*--grid nf3'
	fails 2 'bits: nf3 has 3 bits' tc-quant t.tc --method gptq --grid nf3 --bits 4 --sequential
	fails 2 '--sym does not go with --grid hqq' tc-quant t.tc --method gptq --grid hqq --sym
	fails 2 'go with --method gptq' tc-quant t.tc --grid opt
	fails 2 "grid: 'gptq': must be one of" tc-quant t.tc --method gptq --grid gptq
	fails 2 'grids of rtn, not of opt' tc-quant t.tc --method gptq --grid opt --mse
	fails 2 'grids of rtn, not of hqq' tc-quant t.tc --method hqq --mse
}

@test "round to nearest does not depend on the order of blocks" {
	tokens >t.tc
	tc-quant t.tc -q --strip -o a.tc
	tc-quant t.tc -q --strip --sequential -o b.tc
	tc-cmp a.tc b.tc
}

@test "every architecture goes through sequentially" {
	ids 4 48 >ids.json
	for arch in qwen2 llama gemma2 gpt2; do
		tc-calib "$TINY/$arch" -q --tokens-only --ids ids.json | tc-quant -q --method gptq --bits 8 --group 16 --sequential |
		    tc-ppl -q --ids ids.json --base "$TINY/$arch" --json >ppl.json
		jq -e '.kld < 2e-3' ppl.json >/dev/null || { echo "$arch $(jq .kld ppl.json)"; return 1; }
	done
}

@test "what gptq needs and does not get" {
	tc-import "$TINY/llama" -q -o m.tc
	fails_midway 65 'Hessian is not known' tc-quant m.tc --method gptq
	fails_midway 65 'no calibration tokens' tc-quant m.tc --method gptq --sequential
	fails 2 'go with --method gptq' tc-quant m.tc --act-order
	fails 2 'go with --method gptq' tc-quant m.tc --damp 0.1
	fails 2 'damp' tc-quant m.tc --method gptq --damp 2
	ids 2 32 >ids.json
	tc-calib m.tc -q --hessian --ids ids.json -o c.tc
	fails_midway 2 'row by row' tc-quant c.tc --method gptq --group tensor
	tc-quant c.tc -q --bits 8 -o q.tc --exclude '*down*'
	tc-quant q.tc --method gptq --include '*down*' --group 16 -o r.tc 2>err
	grep -q 'measured before weights upstream changed' err
}

@test "a truncated stream leaves nothing whole" {
	tokens >t.tc
	for share in 3 5 7 9; do
		head -c $(($(stat -c %s t.tc) * share / 10)) t.tc >cut.tc
		fails_midway 65 'ended early|input' tc-quant cut.tc --method gptq --sequential
	done
}
