load lib

# ppl OPTIONS: of what the stream on stdin scores on eval text.
ppl() {
	tc-ppl -q --window 256 --max-tokens 8192 --json | jq .ppl
}

# A short calibration of the draft model.
calibrated() {
	tc-calib draft -q --samples 16 --seqlen 256 "$@"
}

@test "awq beats round to nearest: by Hessians, by squares, and sequential" {
	rtn=$(tc-quant draft -q --bits 3 | ppl)
	hessian=$(calibrated --hessian | tc-quant -q --method awq --bits 3 | ppl)
	squares=$(calibrated | tc-quant -q --method awq --bits 3 | ppl)
	sequential=$(calibrated --tokens-only | tc-quant -q --method awq --bits 3 --sequential | ppl)
	jq -en "$hessian < 0.95 * $rtn and $squares < 0.97 * $rtn and $sequential < 0.95 * $rtn" >/dev/null ||
	    { echo "rtn $rtn, Hessian $hessian, squares $squares, sequential $sequential"; return 1; }
}

@test "awq on every grid, and in groups of any width" {
	ids 4 128 >ids.json
	tc-calib "$TINY/llama" -q --hessian --ids ids.json -o c.tc
	for options in --sym "--sym --levels full" --asym --fmin "--scale f32" "--group 10" "--group row"; do
		for bits in 2 3; do
			# shellcheck disable=SC2086
			for method in rtn awq; do
				tc-quant c.tc -q --method $method --bits $bits $options | tc-ppl -q --ids ids.json --base "$TINY/llama" --json | jq .kld >$method
			done
			jq -en "$(cat awq) < $(cat rtn)" >/dev/null || { echo "$bits $options: $(cat awq), rtn $(cat rtn)"; return 1; }
		done
	done
}

@test "awq keeps its scales as input ops, 16 bits an input" {
	calibrated -o c.tc
	tc-quant c.tc -q --strip -o rtn.tc
	tc-quant c.tc -q --strip --method awq -o awq.tc
	tc-ls awq.tc | grep 'up_proj.weight .* after scale'
	tc-ls awq.tc --json >awq.json
	tc-ls rtn.tc --json >rtn.json
	jq -en --slurpfile a awq.json --slurpfile r rtn.json \
	    '$a[0].ledger as $a | $r[0].ledger as $r | $a.model_bytes - $r.model_bytes == $a.parts.input_ops and $a.parts.input_ops > 0'
}

@test "awq gives the same bytes at any number of threads, and by a pipe" {
	calibrated --hessian -o c.tc
	tc-quant c.tc -q --method awq --bits 3 --threads 1 -o one.tc
	tc-quant -q --method awq --bits 3 --threads 2 <c.tc | cmp - one.tc
	calibrated --tokens-only -o t.tc
	tc-quant t.tc -q --method awq --sequential --threads 1 -o one.tc
	tc-quant -q --method awq --sequential --threads 2 --memory 1M <t.tc | cmp - one.tc
}

@test "every architecture goes through awq" {
	ids 4 48 >ids.json
	for arch in qwen2 llama gemma2 gpt2; do
		tc-calib "$TINY/$arch" -q --tokens-only --ids ids.json | tc-quant -q --method awq --bits 8 --group 16 --sequential |
		    tc-ppl -q --ids ids.json --base "$TINY/$arch" --json >ppl.json
		jq -e '.kld < 3e-3' ppl.json >/dev/null || { echo "$arch $(jq .kld ppl.json)"; return 1; }
	done
}

@test "what awq needs and does not get" {
	tc-import "$TINY/llama" -q -o m.tc
	fails_midway 65 'nothing is known of its inputs' tc-quant m.tc --method awq
	fails_midway 65 'no calibration tokens' tc-quant m.tc --method awq --sequential
	ids 2 32 >ids.json
	tc-calib m.tc -q --ids ids.json -o c.tc
	fails_midway 2 'group tensor is not for it' tc-quant c.tc --method awq --group tensor
	fails 2 'go with --method gptq' tc-quant c.tc --method awq --act-order
}
