load lib

# A calibrated model, c.tc, and some token ids.
calibrated() {
	ids 4 128 >ids.json
	tc-calib "$TINY/$1" --ids ids.json --hessian -o c.tc
}

kld() {
	tc-ppl "$1" --ids ids.json --base "$2" --json | jq .kld
}

@test "higher ranks are nearer, all of them exact but for their type" {
	calibrated qwen2
	was=100
	for rank in 4 12 24 40; do
		tc-lowrank c.tc -q --rank $rank --dtype f16 -o l.tc
		now=$(kld l.tc "$TINY/qwen2")
		jq -en "$now < $was" >/dev/null || { echo "$rank: $now, before $was"; return 1; }
		was=$now
	done
	# the residual of nothing but rounding has its full rank
	tc-quant c.tc -q --bits 2 -o q.tc
	tc-lowrank q.tc -q --residual --base "$TINY/qwen2" --rank 1000 --dtype f32 -o l.tc
	kld l.tc "$TINY/qwen2" | jq -e '. < 1e-6'
}

@test "every metric, type and architecture: pipes, tokens scored, the same bytes with 1 and 2 threads" {
	for arch in llama qwen2 gemma2 gpt2; do
		calibrated $arch
		while read -r options; do
			# shellcheck disable=SC2086
			tc-lowrank c.tc -q $options --threads 1 -o one.tc
			# shellcheck disable=SC2086
			tc-lowrank -q $options --threads 2 <c.tc | cmp - one.tc
			tc-ppl one.tc --ids ids.json --json | jq -e '.ppl > 1 and .nll < 100' >/dev/null || { echo "$arch $options"; return 1; }
			records one.tc | jq -se 'any(.[]; .rank > 0 and .format.encoding == "none")' >/dev/null
		done <<-'END'
			--rank 8
			--rank 9 --metric norm --dtype bf16
			--rank 10 --metric none --dtype f32
			--threshold 0.3
			--bits-budget 10
			--rank 8 --sequential
			--rank 8 --sequential --order layer --metric norm
			--bits-budget 12 --sequential
		END
	done
}

@test "what calibration measured is heeded, and what was measured on the way more so" {
	calibrated llama
	for metric in hessian norm none; do
		tc-lowrank c.tc -q --rank 12 --metric $metric --errors $metric.json -o l.tc
		jq -s -e 'length == 21 and all(.[]; .method == "lowrank" and .bits == 16 and .group == "rank 12")' $metric.json
	done
	jq -n -e --slurpfile h hessian.json --slurpfile n norm.json --slurpfile w none.json \
	    '[$h, $n, $w | map(.hessian_error) | add] | .[0] < .[1] and .[0] < .[2]'
	jq -n -e --slurpfile n norm.json --slurpfile w none.json '[$n, $w | map(.squares_error) | add] | .[0] < .[1]'
	jq -n -e --slurpfile h hessian.json --slurpfile w none.json '[$h, $w | map(.weight_error) | add] | .[1] < .[0]'
	cmp <(tc-lowrank c.tc -q --rank 12) <(tc-lowrank c.tc -q --rank 12 --metric hessian) && return 1 # but for what it says
	tc-calib "$TINY/llama" --ids ids.json -o n.tc
	fails_midway 65 'Hessian is not known' tc-lowrank n.tc --rank 4 --metric hessian
	fails 65 'is not known .*--bits-budget looks before --sequential' tc-lowrank n.tc --bits-budget 4 --metric hessian --sequential
	fails_midway 65 'squares are not known' tc-lowrank "$TINY/llama" --rank 4 --metric norm
	tc-lowrank "$TINY/llama" -q --rank 4 -o l.tc
}

@test "--stats: statistics of a file stand in for the stream's" {
	calibrated llama
	tc-calib "$TINY/llama" --ids ids.json --hessian --stats-only -o s.tc
	for options in '--rank 9' '--rank 9 --metric norm' '--bits-budget 12'; do
		# shellcheck disable=SC2086
		tc-lowrank c.tc -q $options -o want.tc
		# shellcheck disable=SC2086
		tc-lowrank "$TINY/llama" -q $options --stats s.tc | tc-cmp - want.tc >cmp || { echo "$options"; cat cmp; return 1; }
	done
	# factors of which are quantized by it, too
	tc-lowrank c.tc -q --rank 9 -o want.tc
	tc-lowrank "$TINY/llama" -q --rank 9 --stats s.tc -o l.tc
	for method in gptq awq opt; do
		tc-quant l.tc -q --method $method --stats s.tc | tc-cmp - <(tc-quant want.tc -q --method $method) >cmp || { cat cmp; return 1; }
	done
	tc-calib "$TINY/llama" --ids ids.json --tokens-only | tc-lowrank -q --bits-budget 12 --stats s.tc --sequential -o l.tc
	fails 2 'measures what --stats would say' tc-lowrank c.tc --rank 4 --sequential --stats s.tc
	fails 2 'metric none counts by nothing' tc-lowrank c.tc --rank 4 --metric none --stats s.tc
	fails 66 'nothere' tc-lowrank c.tc --rank 4 --stats nothere
}

@test "a threshold is met by the least rank that meets it" {
	calibrated llama
	tc-lowrank c.tc -q --threshold 0.1 --damp 0 --dtype f32 --errors e.json -o l.tc
	jq -s -e 'length > 0 and all(.[]; .hessian_error < 0.1001)' e.json
	ranks=$(jq -r '.group' e.json | sort -u | wc -l)
	[ "$ranks" -gt 3 ]
	name=$(jq -rs '.[3].name' e.json) rank=$(jq -rs '.[3].group | ltrimstr("rank ")' e.json)
	tc-lowrank c.tc -q --rank $((rank - 1)) --damp 0 --dtype f32 --include "$name" --errors less.json -o l.tc
	jq -e '.hessian_error > 0.1' less.json
}

@test "a budget is kept, and used" {
	calibrated qwen2
	for budget in 6 10 14; do
		tc-lowrank c.tc -q --bits-budget $budget -o l.tc
		tc-ls l.tc --json | jq -e ".ledger.bits_per_weight.linear | . <= $budget and . > 0.95 * $budget"
		kld l.tc "$TINY/qwen2"
	done >got
	tc-lowrank c.tc -q --bits-budget 40 --dtype f32 | tc-ls --json | jq -e '.ledger.parts.factors == 0'
	# better than ranks that are all alike, in no more bytes
	tc-lowrank c.tc -q --rank 14 --errors same.json -o l.tc
	bits=$(tc-ls l.tc --json | jq .ledger.bits_per_weight.linear)
	tc-lowrank c.tc -q --bits-budget "$bits" --errors own.json -o l.tc
	tc-ls l.tc --json | jq -e ".ledger.bits_per_weight.linear <= $bits"
	jq -n -e --slurpfile a same.json --slurpfile b own.json '[$a, $b | map(.hessian_error) | add] | .[1] < .[0]'
	fails 65 'the least ranks take [0-9]+ bytes, the budget leaves' tc-lowrank c.tc --bits-budget 0.1
	fails 65 'what is not factored takes' tc-lowrank c.tc --bits-budget 1 --include '*q_proj.weight'
	tc-lowrank c.tc -q --bits-budget 30 --include '*q_proj.weight' | tc-ls --json | jq -e '.ledger.bits_per_weight.linear <= 32'
}

@test "a residual: what quantization and pruning took, behind input ops too" {
	calibrated llama
	while read -r options; do
		# shellcheck disable=SC2086
		tc-quant c.tc -q $options -o q.tc
		before=$(kld q.tc "$TINY/llama")
		tc-lowrank q.tc -q --residual --base "$TINY/llama" --rank 12 --threads 1 --errors e.json -o r.tc
		tc-import "$TINY/llama" -o base.tc
		tc-lowrank -q --residual --base base.tc --rank 12 <q.tc | cmp - r.tc
		after=$(kld r.tc "$TINY/llama")
		jq -en "$after < 0.8 * $before" >/dev/null || { echo "$options: $before, then $after"; return 1; }
		jq -s -e 'all(.[]; .hessian_error < 0.9)' e.json >/dev/null
		rm -rf out
		tc-export r.tc -o out
		tc-ppl r.tc --ids ids.json --base out --json | jq -e '.kld < 1e-6' >/dev/null || { echo "export: $options"; return 1; }
	done <<-'END'
		--bits 3 --group 16
		--bits 2 --rotate
		--method awq --bits 3
		--method pq
		--method nf3 --keep top:0.01
		--bits 2 --residual 1 --group 16
	END
	tc-lowrank q.tc -q --residual --base "$TINY/llama" --threshold 0.01 -o r.tc
	tc-lowrank q.tc -q --residual --base "$TINY/llama" --bits-budget 8 -o b.tc
	tc-ls b.tc --json | jq -e '.ledger.bits_per_weight.linear | . <= 8 and . > 7.8'
	tc-lowrank q.tc -q --residual --base "$TINY/llama" --rank 4 --sequential | tc-ls >/dev/null
	# nothing is missing of what is the same
	tc-lowrank c.tc --residual --base "$TINY/llama" --rank 4 -o l.tc 2>err
	grep -q 'adds nothing: it stays as it is' err
	cmp <(tc-ls l.tc --json | jq .tensors) <(tc-ls c.tc --json | jq .tensors)
}

@test "factors are quantized, alone or beside codes" {
	calibrated llama
	tc-lowrank c.tc -q --rank 16 -o l.tc
	tc-quant c.tc -q --bits 3 --group 16 -o q.tc
	tc-lowrank q.tc -q --residual --base "$TINY/llama" --rank 12 -o r.tc
	for options in '--bits 8 --group 16' '--bits 8 --group row' '--bits 8 --method gptq --group 8' '--method opt --bits 8 --group 32' \
	    '--method lloyd --bits 8 --group 8' '--bits 8 --scale u8 --sym'; do
		for from in l r; do
			# shellcheck disable=SC2086
			tc-quant $from.tc -q $options --threads 1 -o f.tc
			# shellcheck disable=SC2086
			tc-quant -q $options --threads 2 <$from.tc | cmp - f.tc
			jq -en "$(kld f.tc $from.tc) < 0.002" >/dev/null || { echo "$from $options: $(kld f.tc $from.tc)"; return 1; }
			[[ $options == *lloyd* ]] || [ "$(tc-ls f.tc --json | jq .ledger.parts.factors)" -lt "$(tc-ls $from.tc --json | jq .ledger.parts.factors)" ]
			rm -rf out
			tc-export f.tc -o out
			tc-ppl f.tc --ids ids.json --base out --json | jq -e '.kld < 1e-6' >/dev/null || { echo "export: $options"; return 1; }
		done
	done
	for options in '--method awq --bits 8' '--bits 8 --rotate' '--sequential --bits 8 --method gptq'; do
		# shellcheck disable=SC2086
		tc-quant l.tc -q $options -o f.tc
		jq -en "$(kld f.tc l.tc) < 0.002" >/dev/null || { echo "$options: $(kld f.tc l.tc)"; return 1; }
	done
	tc-quant l.tc -q --bits 8 --errors e.json -o f.tc
	jq -s -e 'all(.[]; .method == "rtn" and .bits == 8 and .group == "row" and .hessian_error > 0)' e.json
	fails_midway 65 'codes and scales only, it cannot have codes of vectors \(pq\)' tc-quant l.tc --method pq
	fails_midway 65 'codes and scales only, it cannot have a residual \(--residual\)' tc-quant l.tc --residual 2
	fails_midway 65 'codes and scales only, it cannot have weights held apart \(--keep\)' tc-quant l.tc --keep top:0.01
	fails_midway 65 'codes and scales only, it cannot have levels of each row or group \(--per\)' tc-quant l.tc --method lloyd --per row
	fails_midway 65 'squared gradients are of weights' tc-quant l.tc --method opt --weights fisher
	fails_midway 65 'has factors, and they are no numbers' tc-quant f.tc
	fails_midway 65 'cannot be done to its other weights' tc-quant r.tc --rotate
}

@test "factors run as what they stand for: decoded, with whole numbers, differentiated" {
	calibrated llama
	tc-lowrank c.tc -q --rank 12 -o l.tc
	tc-export l.tc -o out
	tc-fisher l.tc -q --ids ids.json --rank role --json >a
	tc-fisher out -q --ids ids.json --rank role --json >b
	jq -n -e --slurpfile a a --slurpfile b b '[$a, $b | .[0] | [.. | numbers] | add] | (.[0] / .[1] - 1 | fabs) < 0.01'
	tc-gen draft -q --prompt 'Once' -n 8 >/dev/null
	tc-lowrank draft -q --rank 40 -o d.tc
	tc-export d.tc -o draft.out
	cmp <(tc-gen d.tc -q --prompt 'Once upon a time' -n 12) <(tc-gen draft.out -q --prompt 'Once upon a time' -n 12)
	tc-quant c.tc -q --bits 8 --sym | tc-lowrank -q --residual --base "$TINY/llama" --rank 4 -o r.tc
	tc-ppl r.tc --compute int8 --ids ids.json --base r.tc --json | jq -e '.kld < 0.01'
}

@test "what takes no fewer bytes stays, and is said" {
	tc-lowrank "$TINY/llama" --rank 1000 --dtype f32 -o l.tc 2>err
	[ "$(grep -c 'take no fewer bytes: it stays as it is' err)" -eq 21 ]
	grep -q ' 0 tensors factored, mean rank 0.0, 21 left as they are; whole model' err
	cmp <(tc-ls l.tc --json | jq .tensors) <(tc-import "$TINY/llama" | tc-ls --json | jq .tensors)
}

@test "--include and --exclude choose by name" {
	tc-lowrank "$TINY/llama" -q --rank 4 --include '*.q_proj.*' --exclude 'model.layers.0.*' -o l.tc
	[ "$(records l.tc | jq -r 'select(.rank) | .name')" = 'model.layers.1.self_attn.q_proj.weight
model.layers.2.self_attn.q_proj.weight' ]
	tc-lowrank "$TINY/llama" --rank 4 --include 'model.norm*' -o l.tc 2>err
	grep -q -- '--include names nothing that is factored' err
	fails 2 'nothing.*' tc-lowrank "$TINY/llama" --rank 4 --include 'nothing*'
}

@test "statistics behind the first changed weight are stale; --strip drops them" {
	calibrated llama
	tc-lowrank c.tc -q --rank 4 -o l.tc
	records l.tc | jq -se '[.[] | select(.kind == "stat") | .stale] | .[0] == false and .[-1] == true'
	tc-lowrank c.tc -q --rank 4 --strip -o l.tc
	records l.tc | jq -se 'all(.[]; .kind != "stat" and .kind != "tokens")'
}

@test "the provenance says what was done, and to which weights" {
	tc-quant "$TINY/llama" -q -o q.tc
	tc-import "$TINY/llama" -o base.tc
	for base in "$TINY/llama" base.tc; do
		tc-lowrank q.tc -q --residual --base "$base" --rank 4 --damp 0.5 -o l.tc
		records l.tc | head -1 | jq -r '.steps[-1] | "\(.[0]) \(.[3])"'
	done >steps
	grep -qE '^tc-lowrank --rank 4 --dtype f16 --residual --base [0-9a-f]{16} --damp 0.5$' steps || { cat steps; return 1; }
	[ "$(sort -u steps | wc -l)" -eq 1 ]
}

@test "tensors that cannot be factored, and bases that do not fit" {
	tc-quant "$TINY/llama" -q -o q.tc
	fails_midway 65 'is quantized already: --residual adds to it' tc-lowrank q.tc --rank 4
	tc-lowrank "$TINY/llama" -q --rank 4 -o l.tc
	fails_midway 65 'has factors already' tc-lowrank l.tc --rank 4
	fails 65 'has factors already' tc-lowrank l.tc --bits-budget 8
	fails_midway 65 'has another shape in the base|is not in the base' tc-lowrank q.tc --residual --base "$TINY/qwen2" --rank 4
	damaged llama inf 'tensors["model.layers.1.mlp.up_proj.weight"][2][8:12] = struct.pack("<f", math.inf)'
	fails_midway 65 'element 2 is not a finite number' tc-lowrank inf --rank 4
	fails 65 'element 2 is not a finite number' tc-lowrank q.tc --residual --base inf --rank 4
	damaged llama huge 'tensors["model.layers.0.mlp.up_proj.weight"][2][0:4] = struct.pack("<f", 3e38)'
	fails_midway 65 'NaN or infinite' tc-lowrank huge --rank 4
	fails 66 'nothere' tc-lowrank q.tc --residual --base nothere --rank 4
	fails_midway 65 'no calibration tokens' tc-lowrank "$TINY/llama" --rank 4 --sequential
}

@test "--errors: whole or not at all" {
	fails 74 'nothere' tc-lowrank "$TINY/llama" --rank 4 --errors nothere/e.json
	damaged llama inf 'tensors["model.layers.1.mlp.up_proj.weight"][2][8:12] = struct.pack("<f", math.inf)'
	fails_midway 65 'not a finite number' tc-lowrank inf -q --rank 4 --errors e.json
	[ ! -e e.json ]
	fails_midway 74 'No space left' tc-lowrank "$TINY/llama" -q --rank 4 --errors /dev/full
}

@test "bad models" {
	refuses_bad_streams tc-lowrank -q --rank 4
	tc-import "$TINY/llama" -o good.tc
	head -c 100000 good.tc >cut.tc
	fails 65 'input ended early' tc-lowrank cut.tc --bits-budget 8
	fails 65 'input ended early' tc-lowrank good.tc --residual --base cut.tc --rank 4
}

@test "bad command lines" {
	fails 2 'one of --rank, --threshold and --bits-budget' tc-lowrank demo
	fails 2 'one of --rank, --threshold and --bits-budget' tc-lowrank demo --rank 4 --threshold 0.1
	fails 2 'one of --rank, --threshold and --bits-budget' tc-lowrank demo --bits-budget 4 --threshold 0.1
	fails 2 'residual and --base go together' tc-lowrank demo --rank 4 --residual
	fails 2 'residual and --base go together' tc-lowrank demo --rank 4 --base demo
	fails 2 'order goes with --sequential' tc-lowrank demo --rank 4 --order layer
	fails 2 'metric none counts by nothing' tc-lowrank demo --rank 4 --metric none --sequential
	fails 2 'metric none counts by nothing' tc-lowrank demo --rank 4 --metric none --damp 0.1
	fails 2 'rank.*0' tc-lowrank demo --rank 0
	fails 2 'rank' tc-lowrank demo --rank x
	fails 2 'threshold' tc-lowrank demo --threshold 1.5
	fails 2 'threshold' tc-lowrank demo --threshold -1
	fails 2 'bits-budget' tc-lowrank demo --bits-budget 0
	fails 2 'must be one of hessian, norm, none' tc-lowrank demo --rank 4 --metric l1
	fails 2 'must be one of f16, bf16, f32' tc-lowrank demo --rank 4 --dtype u8
	fails 2 'damp' tc-lowrank demo --rank 4 --damp 2
	fails 2 'memory' tc-lowrank demo --rank 4 --memory 1000
	fails 2 'order' tc-lowrank demo --rank 4 --sequential --order tensor
	fails 2 . tc-lowrank demo demo --rank 4
}

@test "the embedded model is the default" {
	takes_default tc-lowrank --rank 8 -o /dev/null
}

@test "output goes where it should, whole or not at all" {
	writes_well tc-lowrank -q --rank 8
}
