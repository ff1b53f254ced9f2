load lib

# shapes FILE: of each tensor of blocks, the role and the shape, each once.
shapes() {
	tc-ls "$1" --json | jq -r '.tensors[] | select(.block != null and .block >= 0) | [.role, .part, (.shape | join("x"))] | join(" ")' | sort -u
}

calibrated() {
	ids 4 128 >ids.json
	tc-calib "$TINY/${1:-llama}" -q --ids ids.json "${@:2}"
}

# config DIR KEY
config() {
	jq -c ".$2" "$1/config.json"
}

# same A B: two models give the same predictions.
same() {
	tc-ppl "$1" -q --ids ids.json --base "$2" --json | jq -e '.kld < 1e-6 and .delta < 1e-6'
}

@test "neurons, heads and blocks: shapes shrink, the config says so, the checkpoint loads" {
	for model in llama qwen2 gemma2 gpt2; do
		calibrated $model --hessian >c.tc
		for what in neurons heads blocks; do
			[ $model.$what != gpt2.heads ] || continue
			tc-prune c.tc -q --structured $what --sparsity 0.5 -o p.tc
			rm -rf out
			tc-export p.tc -q -o out
			same out p.tc
			tc-import out -o in.tc
			[ "$(shapes in.tc)" = "$(shapes p.tc)" ]
			[ "$(tc-ls p.tc --json | jq .ledger.parameters)" = "$(tc-ls "$TINY/$model" --json | jq .ledger.parameters)" ]
			[ "$(tc-ls p.tc --json | jq .ledger.model_bytes)" -lt "$(tc-ls "$TINY/$model" --json | jq .ledger.model_bytes)" ]
			tc-quant p.tc -q | tc-ppl -q --ids ids.json
		done
	done
}

@test "what the config says" {
	calibrated llama >c.tc
	tc-prune c.tc -q --structured neurons --sparsity 0.25 | tc-export -q -o n
	[ "$(config n intermediate_size)" = 84 ]
	[ "$(config n initializer_range)" = 0.02 ]
	tc-prune c.tc -q --structured heads | tc-export -q -o h
	[ "$(jq -c '[.num_attention_heads, .num_key_value_heads, .head_dim]' h/config.json)" = '[3,1,8]' ]
	tc-prune c.tc -q --structured blocks --sparsity 0.4 -o b.tc
	tc-export b.tc -q -o b
	[ "$(config b num_hidden_layers)" = 2 ]
	tc-ls b.tc --json | jq -e '[.tensors[] | .name | select(test("layers")) | split(".")[2]] | unique == ["0", "1"]'
	calibrated qwen2 >c.tc
	tc-prune c.tc -q --structured heads | tc-export -q -o q
	[ "$(jq -c '[.num_attention_heads, .num_key_value_heads, .head_dim]' q/config.json)" = '[2,1,12]' ]
	calibrated gemma2 >c.tc
	tc-prune c.tc -q --structured blocks --sparsity 0.25 | tc-export -q -o g
	jq -e '.num_hidden_layers == 3 and (.layer_types | length == 3)' g/config.json
	calibrated gpt2 >c.tc
	tc-prune c.tc -q --structured neurons --sparsity 0.25 | tc-export -q -o g2
	[ "$(config g2 n_inner)" = 144 ]
	fails_midway 65 'no key for the size of a head' tc-prune c.tc --structured heads
}

@test "statistics are cut with the model, and it can be measured and pruned on" {
	calibrated llama --hessian >c.tc
	tc-prune c.tc -q --structured neurons --sparsity 0.25 -o p.tc
	records p.tc | jq -s -e '[.[] | select(.site == "mlp_mid") | .dim] | unique == [84]'
	records p.tc | jq -s -e '[.[] | select(.site == "attn_out") | .dim] | unique == [48]'
	tc-quant p.tc -q --method gptq | tc-ppl -q --ids ids.json
	tc-prune p.tc -q --structured heads | tc-ppl -q --ids ids.json
	tc-prune p.tc -q --method wanda --nm 2:4 | tc-ppl -q --ids ids.json
	tc-prune c.tc -q --structured neurons --strip -o p.tc
	[ -z "$(records p.tc | jq 'select(.site != null)')" ]
	# What is known of the blocks that go goes with them.
	tc-prune c.tc -q --structured blocks --sparsity 0.4 -o p.tc
	records p.tc | jq -s -e '[.[] | select(.site != null and .block >= 0) | .block] | unique == [0, 1]'
}

@test "data are better than none, and making up is better still" {
	tc-calib draft -q --hessian --samples 16 --seqlen 256 -o h.tc
	tc-calib draft -q --samples 16 --seqlen 256 -o n.tc
	score() { tc-prune "$1" -q --structured neurons "${@:2}" | tc-ppl -q --text "$TC_ROOT/share/text/eval.txt" --window 256 --max-tokens 8192 --json | jq .ppl; }
	none=$(score draft)
	norms=$(score n.tc)
	hessian=$(score h.tc)
	sequential=$(score n.tc --sequential)
	stats=$(score draft --stats h.tc)
	echo "$none $norms $hessian $sequential $stats"
	jq -en "$none > $norms and $norms > $hessian and $norms > $sequential and $stats == $hessian"
}

@test "the same bytes at any number of threads, pipe, file" {
	calibrated llama --hessian >c.tc
	for options in 'neurons' 'heads' 'blocks' 'neurons --sequential' 'heads --sequential --order layer'; do
		# shellcheck disable=SC2086
		{
			tc-prune c.tc -q --structured $options --threads 1 -o one.tc
			tc-prune -q --structured $options --threads 2 <c.tc | cmp - one.tc
			cat c.tc | tc-prune -q --structured $options | cmp - one.tc
		} || { echo "$options"; return 1; }
	done
}

@test "what cannot be done" {
	calibrated llama --stats-only >s.tc
	calibrated llama >c.tc
	fails_midway 65 'statistics only' tc-prune s.tc --structured neurons
	fails_midway 65 'is compressed already' tc-prune <(tc-quant c.tc -q) --structured neurons
	fails_midway 65 'is compressed already' tc-prune <(tc-prune c.tc -q) --structured heads
	fails_midway 65 'no calibration tokens' tc-prune "$TINY/llama" --structured blocks
	fails_midway 65 'no calibration tokens' tc-prune "$TINY/llama" --structured neurons --sequential
	tc-prune c.tc --structured neurons --damp 0.3 -o p.tc 2>said
	grep -q -- '--damp did nothing: no Hessian is known' said
	tc-prune c.tc --structured neurons --damp 0.3 --sequential -o p.tc 2>said
	! grep -e --damp said || return 1
	fails_midway 2 'less than one' tc-prune c.tc --structured blocks --sparsity 0.3
	fails_midway 2 'none would stay' tc-prune c.tc --structured heads --sparsity 1
	head -c $(($(stat -c %s c.tc) / 2)) c.tc >cut.tc
	fails_midway 65 'ended early|input' tc-prune cut.tc --structured neurons
	fails_midway 74 'No space left' tc-prune c.tc --structured neurons -o /dev/full
}

@test "what stays cannot make up for more than its type holds" {
	calibrated llama --hessian >c.tc
	# The important half of the neurons is nearly nothing, and the others are huge multiples of it.
	made_up changed c.tc '
for head, parts in of(stat="hessian", site="mlp_mid"):
    n = head["dim"]
    node = [(1e-4 if i < n // 2 else 1e-9) if i == j else 1e37 if j < n // 2 <= i else 0 for i in range(n) for j in range(i + 1)]
    parts[0] = struct.pack("<%df" % len(node), *node) * len(head["nodes"])' >huge.tc
	fails_midway 65 'down_proj.weight: weight [0-9]+ is NaN or infinite' tc-prune huge.tc -q --structured neurons
}

@test "what does not go together" {
	fails 2 "structured: 'rows': must be one of heads, neurons, blocks" tc-prune demo --structured rows
	for option in '--method wanda' '--nm 2:4' '--per row' '--layers owl' '--bits 4' '--group 32' '--sym' '--errors e.json' '--embed same' \
	    '--include *mlp*'; do
		# shellcheck disable=SC2086
		fails 2 'takes all weights of a part away' tc-prune demo --structured neurons $option
	done
	for option in '--sequential' '--damp 0.1' '--stats c.tc'; do
		# shellcheck disable=SC2086
		fails 2 'looks at what goes through them' tc-prune demo --structured blocks $option
	done
	fails 2 'in place of --stats' tc-prune demo --structured heads --sequential --stats c.tc
	fails 2 'order goes with' tc-prune demo --structured heads --order layer
}

@test "a plan is for tensors as they are" {
	calibrated llama >c.tc
	tc-alloc c.tc -q --weigh none --bits-per-weight 8 -o plan.json
	run -2 tc-prune c.tc --structured neurons --alloc plan.json
	tc-alloc c.tc -q --weigh none --bits-per-weight 8 >planned.tc
	run ! tc-prune planned.tc -q --structured neurons -o out.tc
	[ "$status" -eq 2 ]
	[[ $output = *"the stream carries a plan"* ]]
	[ ! -e out.tc ]
}
