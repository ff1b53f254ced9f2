load lib

# A tiny model, calibrated: ARCH [OPTION...].
calibrated() {
	ids 4 64 >ids.json
	tc-calib "$TINY/$1" --ids ids.json "${@:2}" -o c.tc
}

# The model's bytes as tc-ls counts them.
bytes_of() {
	tc-ls "$1" --json | jq .ledger.model_bytes
}

@test "a plan in the stream is obeyed, and its bytes are what it said" {
	for arch in llama qwen2 gpt2 gemma2; do
		calibrated $arch
		for bits in $([ $arch = gpt2 ] && echo 7 || echo 3.9) 8.2 9.5; do  # gpt2's positions are f32
			tc-alloc c.tc -q --bits-per-weight $bits | tee plan.tc | tc-quant -o q.tc 2>said || { cat said; return 1; }
			grep -q 'obeying the plan in the stream (knapsack' said
			tc-alloc --check q.tc
			[ "$(bytes_of q.tc)" = "$(sed -n 's/.*has \([0-9]*\) bytes, \1 in the plan$/\1/p' said)" ] || { cat said; return 1; }
			tc-ls q.tc --json | jq -e ".ledger.bits_per_weight.model | . <= $bits and . > 0.9 * $bits"
			tc-ppl q.tc --ids ids.json -q --json | jq -e '.ppl > 0'
		done
	done
}

@test "the plan alone serves as well, and has what the page says" {
	calibrated qwen2
	tc-alloc c.tc -q --bits-per-weight 5 -o plan.json >out
	[ ! -s out ]
	jq -e '.tc_alloc == 1 and .method == "knapsack" and .predicted_bytes <= .budget_bytes and .bits_per_weight <= 5 and .predicted_error > 0 and
		(.tensors | length > 0 and all(.method == "rtn" and .bits >= 2 and .bits <= 8 and (.group == 128 or .group == 32) and .bytes > 0 and .predicted_error >= 0))' plan.json
	jq -e '([.tensors[].predicted_error] | add) - .predicted_error | fabs < 1e-9' plan.json
	tc-quant c.tc -q --alloc plan.json -o q.tc
	[ "$(bytes_of q.tc)" = "$(jq .predicted_bytes plan.json)" ]
	tc-alloc --check --alloc plan.json q.tc
	tc-alloc c.tc -q --bits-per-weight 5 | tc-quant -q | tc-ls - --json | jq -c '.tensors' >there
	tc-ls q.tc --json | jq -c '.tensors' | cmp - there
	# What is not listed is left as it is; a plan by hand.
	jq '.tensors |= map(select(.name | test("down")) | .bits = 3 | .group = "row")' plan.json >few.json
	tc-quant c.tc -q --alloc few.json | tc-ls - --json | jq -e '[.tensors[] | select(.bits == 3)] | length == 3 and all(.role == "down")' || tc-quant c.tc -q --alloc few.json | tc-ls -
}

@test "the same plan with 1 and 2 threads, from a pipe and a file" {
	calibrated llama --hessian
	for weigh in kl kl-each none; do
		tc-alloc c.tc -q --bits-per-weight 5 --weigh $weigh --threads 1 -o one.json
		tc-alloc - -q --bits-per-weight 5 --weigh $weigh --threads 2 $([ $weigh = none ] || echo --memory 1M) -o two.json <c.tc
		cmp one.json two.json
	done
	tc-alloc c.tc -q --bits-per-weight 5 --threads 1 >a.tc
	cat c.tc | tc-alloc -q --bits-per-weight 5 --threads 2 | cmp - a.tc
}

@test "the stream goes through, one plan in it" {
	calibrated qwen2
	tc-alloc c.tc -q --bits-per-weight 5 -o p.json
	tc-alloc c.tc -q --bits-per-weight 5 | tc-alloc - -q --bits-per-weight 4 -o q.json
	tc-alloc c.tc -q --bits-per-weight 5 >p.tc
	tc-alloc p.tc -q --bits-per-weight 4 >q.tc
	for f in p q; do
		[ "$(records $f.tc | jq -r 'select(.kind == "file") | .name' | grep -cx alloc.json)" = 1 ]
	done
	records c.tc | jq -c 'select(.kind == "tensor" or .kind == "stat" or .kind == "tokens") | del(.at)' >before
	records q.tc | jq -c 'select(.kind == "tensor" or .kind == "stat" or .kind == "tokens") | del(.at)' | cmp - before
	tc-export q.tc out -q 2>/dev/null || tc-export q.tc -o out -q
	[ ! -e out/alloc.json ] && [ -e out/config.json ]
	tc-alloc c.tc -q --strip --bits-per-weight 5 >s.tc
	records s.tc | jq -es '[.[] | .kind] | index("tensor") and (index("stat") or index("tokens") | not)'
}

@test "no method is over its budget; the knapsack has the least error" {
	calibrated llama
	for method in uniform greedy knapsack; do
		tc-alloc c.tc -q --method $method --bits-per-weight 4.5 -o $method.json
		jq -e '.predicted_bytes <= .budget_bytes' $method.json
	done
	jq -es '.[0].predicted_error <= .[1].predicted_error and .[0].predicted_error <= .[2].predicted_error' knapsack.json greedy.json uniform.json
	jq -e '[.tensors[] | select(.name | test("layers")) | [.bits, .group]] | unique | length == 1' uniform.json
	fails 2 'the cheapest choices take [0-9]+ bytes, the budget is' tc-alloc c.tc -q --bits-per-weight 1 --weigh none
	fails 2 'norms, biases and the cache alone take' tc-alloc c.tc -q --bytes 10 --weigh none
	# Methods that rank say the least of all choices of the embedding.
	tc-fisher c.tc --ids ids.json --per tensor -q -o f.tc
	for embed in rtn:2,rtn:8 rtn:8,rtn:2; do
		tc-alloc f.tc -q --method fisher --embed $embed --bytes 20K 2>&1 >/dev/null | sed 's/,.*//' >$embed || true
	done
	cmp rtn:2,rtn:8 rtn:8,rtn:2 && grep -q 'the cheapest choices take' rtn:2,rtn:8
}

@test "budgets of bytes, latency and memory" {
	calibrated llama
	tc-alloc c.tc -q --weigh none --bytes 100K -o a.json
	jq -e '.budget_bytes == 102400 and .predicted_bytes <= 102400' a.json
	tc-alloc c.tc -q --weigh none --latency 1e9 --bandwidth 1e9 -o l.json
	jq -e '.budget_bytes > 1e15 and .predicted_bytes > 0' l.json
	# An untied embedding is not read: it takes the best there is.
	tc-alloc c.tc -q --weigh none --latency 0.08 --bandwidth 1 -o l.json
	jq -e '[.tensors[] | select(.name | test("embed"))] | length == 0' l.json
	jq -e '([.tensors[].bytes] | add) <= 80000' l.json
	# Keys and values of 4 layers or fewer, a tile of positions at least.
	tc-alloc c.tc -q --weigh none --ram 1M --context 64 -o r.json
	tc-alloc c.tc -q --weigh none --ram 1M --context 600 -o s.json 2>/dev/null || true
	jq -e '.budget_bytes < 1048576' r.json
	calibrated qwen2
	tc-alloc c.tc -q --weigh none --latency 0.08 --bandwidth 1 -o l.json
	jq -e '.predicted_bytes <= 80000' l.json
}

@test "classes: literal shares, and with a budget moved ones" {
	calibrated llama
	tc-fisher c.tc --ids ids.json -q -o f.tc
	for method in classes fisher act-adaptive; do
		tc-alloc f.tc -q --method $method -o $method.json
		jq -e '.budget_bytes == null and .predicted_error == null and
			([.tensors[] | select(.name | test("layers")) | .bits] | unique == [3, 4, 6])' $method.json
	done
	jq -c .tensors classes.json >a; jq -c .tensors fisher.json | cmp - a
	! jq -c .tensors act-adaptive.json | cmp -s - a
	tc-alloc f.tc -q --method classes --sensitivity act -o x.json
	jq -c .tensors act-adaptive.json >a; jq -c .tensors x.json | cmp - a
	tc-alloc f.tc -q --method joint -o joint.json
	jq -e '[.tensors[] | select(.name | test("layers")) | [.bits, .sparsity]] | unique == [[3, 0.5], [4, 0.32], [6, 0.15]]' joint.json
	tc-alloc f.tc -q --method classes --class-shares 50,50 --class-bits 8,2 -o two.json
	jq -e '[.tensors[] | select(.name | test("layers")) | .bits] | unique == [2, 8]' two.json
	for bits in 4.5 5 6; do
		tc-alloc f.tc -q --method fisher --bits-per-weight $bits -o b.json
		jq -e ".bits_per_weight <= $bits and .bits_per_weight > 0.75 * $bits" b.json
		tc-quant f.tc -q --alloc b.json -o q.tc && tc-alloc --check --alloc b.json q.tc
	done
	fails 65 'squared gradients are not known \(tc-fisher\)' tc-alloc c.tc -q --method fisher -o x
	tc-import "$TINY/llama" -o bare.tc
	fails 65 "inputs' squares are not known \(tc-calib\)" tc-alloc bare.tc -q --method act-adaptive -o x
}

@test "statistics suffice for a plan" {
	ids 4 64 >ids.json
	tc-calib "$TINY/qwen2" --ids ids.json --stats-only -o s.tc
	tc-fisher "$TINY/qwen2" --ids ids.json --per tensor --stats-only -q -o f.tc
	tc-import "$TINY/qwen2" -o m.tc
	for case in "s.tc --method act-adaptive" "f.tc --method fisher" "s.tc --method uniform"; do
		tc-alloc $case -q --bits-per-weight 6 -o p.json
		tc-quant m.tc -q --alloc p.json -o q.tc
		[ "$(bytes_of q.tc)" = "$(jq .predicted_bytes p.json)" ] || { echo "$case"; jq .predicted_bytes p.json; bytes_of q.tc; return 1; }
	done
	fails 65 'its errors are not known: the stream has no weights' tc-alloc s.tc -q --bits-per-weight 6 -o x
	fails 65 'the stream has no weights: give -o PLAN' tc-alloc s.tc -q --method act-adaptive
	fails 65 '--weigh kl: the stream has no weights' tc-alloc s.tc -q --bits-per-weight 6 --weigh kl -o x
}

@test "errors of tc-quant --errors stand for measured ones" {
	calibrated llama
	for bits in 3 4 8; do
		tc-quant c.tc -q --bits $bits --embed same --head same --errors e$bits >/dev/null
	done
	args=(-q --bits-per-weight 6 --weigh none --choices rtn:3,rtn:4,rtn:8 --embed rtn:3,rtn:4,rtn:8)
	tc-alloc c.tc "${args[@]}" -o a.json
	tc-alloc c.tc "${args[@]}" --errors e3 --errors e4 --errors e8 -o b.json
	cmp a.json b.json
	tc-calib "$TINY/llama" --ids ids.json --stats-only | tc-alloc - "${args[@]}" --errors e3 --errors e4 --errors e8 -o c.json
	jq -c '[.tensors[] | [.name, .bits]]' a.json >a; jq -c '[.tensors[] | [.name, .bits]]' c.json | cmp - a
	# All errors of a kind are by one measure, here by squares; and what is measured
	# beside them is by that.
	jq -c 'if (.name | test("layers.0.*down")) and .bits == 3 then .hessian_error = 0.0001 else . end' e3 >e3h
	tc-alloc c.tc "${args[@]}" --errors e3h --errors e4 -o d.json
	cmp a.json d.json
	for e in e3 e4 e8; do jq -c 'if .name | test("layers.1.*up") then .squares_error = null else . end' $e >w$e; done
	tc-alloc c.tc "${args[@]}" --errors we3 --errors we4 --errors we8 -o w.json
	jq -c '[.name, .bits, .weight_error]' e3 e4 e8 >known
	jq -c '.tensors[] | select(.name | test("layers")) | [.name, .bits, .predicted_error]' w.json | while read -r line; do grep -qF "$line" known || { echo "$line"; return 1; }; done
	ids 4 64 >ids.json
	tc-calib "$TINY/llama" --ids ids.json --hessian | tc-quant -q --bits 3 --errors h3 -o /dev/null
	fails 65 '"hessian_error" is in --errors for some choices' tc-alloc c.tc "${args[@]}" --errors h3 -o x
	fails 2 'errors has relative errors: not with --weigh kl-each' tc-alloc c.tc -q --bits-per-weight 6 --weigh kl-each --errors e3 -o x
	fails 2 'errors has relative errors: not with --weigh fisher' tc-alloc c.tc -q --bits-per-weight 6 --weigh fisher --errors e3 -o x
	jq -c '.weight_error = -0.5' e3 >bad
	fails 65 'bad: line 1: "weight_error" is negative' tc-alloc c.tc "${args[@]}" --errors bad -o x
	sed 's/"weight_error": [^,]*/"weight_error": 1e999/' e3 >bad
	fails 65 'bad: line 1 is not' tc-alloc c.tc "${args[@]}" --errors bad -o x
	jq -c '.name = "x." + .name' e3 >bad
	fails 65 'bad: names no tensor of the model' tc-alloc c.tc "${args[@]}" --errors bad -o x
	echo nonsense >bad
	fails 65 'bad: line 1 is not of tc-quant --errors' tc-alloc c.tc "${args[@]}" --errors bad -o x
	fails 66 'nothere' tc-alloc c.tc "${args[@]}" --errors nothere -o x
}

@test "what the options of the grids cost is known" {
	calibrated qwen2
	for options in --sym --fmin '--scale f32' '--sym --scale u8'; do
		tc-alloc c.tc -q --weigh none --bits-per-weight 6 $options -o p.json
		tc-quant c.tc -q --alloc p.json $options -o q.tc
		[ "$(bytes_of q.tc)" = "$(jq .predicted_bytes p.json)" ] || { echo "$options"; return 1; }
	done
}

@test "methods beside each other, by rules" {
	calibrated llama --hessian
	tc-alloc c.tc -q --weigh none --bits-per-weight 6 --rule down=gptq:3:32 --rule 'v=nf4:4:64' --rule block:0=hqq:5 --rule '*o_proj*=skip' --rule embed=awq:4 -o p.json
	name() { jq -r --arg n "$1" '.tensors[] | select(.name == $n) | "\(.method) \(.bits) \(.group)"' p.json; }
	[ "$(name model.layers.1.mlp.down_proj.weight)" = 'gptq 3 32' ]
	[ "$(name model.layers.1.self_attn.v_proj.weight)" = 'nf4 4 64' ]
	[ "$(name model.layers.0.self_attn.v_proj.weight)" = 'hqq 5 128' ]
	[ -z "$(name model.layers.0.self_attn.o_proj.weight)" ]
	tc-quant c.tc -q --alloc p.json -o q.tc
	tc-alloc --check --alloc p.json q.tc
	tc-ls q.tc | grep -q 'nf4\|codebook'
	# gptq's tensors are those of gptq alone, when blocks are measured as they came.
	tc-quant c.tc -q --method gptq --bits 3 --group 32 --include '*1.mlp.down*' -o g.tc
	tc-cmp q.tc g.tc --include '*1.mlp.down*' --json | jq -e '[.. | .max_abs? // empty] | all(. == 0)'
	tc-alloc c.tc -q --weigh none --bits-per-weight 8 --rule first:1=rtn:8 --rule last:1=rtn:2 -o p.json
	jq -e '[.tensors[] | select(.name | test("layers.0")) | .bits] | all(. == 8)' p.json
}

@test "--scale u8 is refused as tc-quant refuses it" {
	for option in '--choices rtn:3,gptq:4' '--embed awq:4' '--head pq:8' '--rule q=gptq:4' '--rule *up*=pq:8'; do
		fails 2 "--scale u8 is for methods that round to nearest, not for" tc-alloc demo --bytes 9M --scale u8 $option || { echo "$option"; return 1; }
	done
	fails 2 'not for awq' tc-alloc demo --role-sweep --scale u8 --sweep awq:4
}

@test "--stats: a file's statistics stand in for the stream's" {
	calibrated llama --hessian
	tc-fisher c.tc --ids ids.json -q --per tensor -o f.tc
	tc-import "$TINY/llama" -o bare.tc
	tc-alloc c.tc -q --weigh none --bits-per-weight 6 --choices gptq:3,gptq:4,rtn:8 -o a.json
	tc-alloc bare.tc -q --weigh none --bits-per-weight 6 --choices gptq:3,gptq:4,rtn:8 --stats c.tc -o b.json
	cmp a.json b.json
	tc-alloc - -q --weigh none --bits-per-weight 6 --choices gptq:3,gptq:4,rtn:8 --stats c.tc <bare.tc >p.tc
	records p.tc | head -n 1 | jq -r '.steps[-1] | .[2] + .[3]' | grep -qE -- '--stats [0-9a-f]{16}'
	tc-alloc f.tc -q --method fisher -o a.json
	tc-alloc bare.tc -q --method fisher --stats f.tc -o b.json
	cmp a.json b.json
	# Those of the stream are not looked at.
	tc-calib "$TINY/llama" --ids ids.json -q --stats-only -o s.tc
	tc-alloc bare.tc -q --weigh none --bits-per-weight 6 --stats s.tc -o a.json
	tc-alloc c.tc -q --weigh none --bits-per-weight 6 --stats s.tc -o b.json
	cmp a.json b.json
	tc-alloc c.tc -q --role-sweep --sweep dense:0.5 --json >a
	tc-calib bare.tc --ids ids.json -q --tokens-only | tc-alloc - -q --role-sweep --sweep dense:0.5 --stats c.tc --json | cmp - a
	fails 65 'is of another model' tc-alloc "$TINY/qwen2" -q --bytes 9M --weigh none --stats s.tc -o x
	fails 65 'has no statistics' tc-alloc bare.tc -q --bytes 9M --weigh none --stats bare.tc -o x
	fails 66 'nothere' tc-alloc bare.tc -q --bytes 9M --weigh none --stats nothere -o x
}

@test "-o - is standard output" {
	calibrated llama
	tc-alloc c.tc -q --weigh none --bits-per-weight 6 -o a.json
	tc-alloc c.tc -q --weigh none --bits-per-weight 6 -o - | cmp - a.json
	[ ! -e ./- ]
	got=0; tc-alloc c.tc -q --weigh none --bits-per-weight 6 -o - >/dev/full 2>err || got=$?
	[ "$got" -eq 74 ] && grep -q 'standard output: .*No space left' err
}

@test "a plan in the stream gives way to --alloc's" {
	calibrated llama
	tc-alloc c.tc -q --weigh none --bits-per-weight 6 -o six.json
	tc-alloc c.tc -q --weigh none --bits-per-weight 5 >five.tc
	for from in five.tc -; do
		tc-quant $from --alloc six.json <five.tc >q.tc 2>err
		grep -q 'the plan in the stream gives way to that of --alloc' err && ! grep -q obeying err
		tc-alloc --check -q q.tc && tc-alloc --check -q --alloc six.json q.tc
		[ "$(records q.tc | jq -r 'select(.kind == "file") | .name' | grep -cx alloc.json)" = 1 ]
	done
	tc-prune five.tc --method magnitude --alloc six.json 2>err | tc-quant - --alloc six.json 2>err2 >p.tc
	grep -q 'gives way' err && ! grep -q 'gives way' err2
	tc-alloc --check -q p.tc
	tc-alloc --check q.tc 2>err
	! grep -q obeying err && grep -q 'the model has [0-9]* bytes' err
	got=0; tc-alloc --check --alloc <(jq '.tensors[0].bits = 7' six.json) q.tc 2>err >/dev/null || got=$?
	[ $got = 1 ] && ! grep -q 'gives way' err
}

@test "what the provenance says of the machine" {
	calibrated llama --hessian
	cpu() {
		tc-alloc c.tc -q --bits-per-weight 8 "$@" >p.tc
		tc-ls p.tc --json | jq -r '.steps[-1].cpu'
	}
	kernels=$(cpu --weigh kl --samples 1)
	[ -n "$kernels" ]
	[ "$(cpu --weigh none)" = "" ]
	[ "$(cpu --weigh none --choices gptq:4)" = "$kernels" ]
	[ "$(cpu --weigh none --rule q=awq:4)" = "$kernels" ]
}

@test "--role-sweep: what saves nothing stands last" {
	calibrated llama
	tc-alloc c.tc -q --role-sweep --sweep rtn:8:1 --scale f32 --json >sweep
	jq -e '[.sweep[] | select(.saved_bytes < 0) | .kld_per_bit] | length > 0 and all(. == null)' sweep
	jq -e '[.sweep[] | .saved_bytes | . > -1000000000 and . < 1000000000] | all' sweep
	fails 2 'sweep: skip changes nothing' tc-alloc c.tc --role-sweep --sweep skip
}

@test "--role-sweep: roles and blocks, ordered" {
	calibrated llama
	tc-alloc c.tc -q --role-sweep --sweep rtn:3,rtn:2:32 --json >sweep
	jq -e '.sequences == 4 and .tokens == 256 and .nll > 0' sweep
	roles=$(jq -c '[.sweep[] | select(.choice == "rtn:3:128" and (.what | startswith("block") | not)) | .what] | sort' sweep)
	[ "$roles" = '["down","embed","gate","head","k","o","q","up","v"]' ]
	layers=$(jq '[.sweep[] | select(.choice == "rtn:3:128" and (.what | startswith("block"))) | .what] | length' sweep)
	[ "$layers" -ge 2 ]
	jq -e '[.sweep[] | select(.choice == "rtn:3:128" and (.what | startswith("block") | not)) | .kld_per_bit] | . == (sort | reverse)' sweep
	jq -e '.sweep | all(.kld >= 0 and .kld_stderr >= 0 and .saved_bytes > 0 and .tensors >= 1)' sweep
	# One block replaced is the model with that block quantized.
	want=$(jq '.sweep[] | select(.choice == "rtn:3:128" and .what == "block 1") | .kld' sweep)
	tc-quant c.tc -q --bits 3 --include '*layers.1.*' | tc-ppl - --ids ids.json -q --base c.tc --json >ppl
	near "$(jq .kld ppl)" "$want" 1e-6
	tc-alloc c.tc -q --role-sweep --sweep rtn:3 --threads 1 --json | jq -c .sweep >one
	tc-alloc c.tc -q --role-sweep --sweep rtn:3 --threads 2 --json | jq -c .sweep | cmp - one
	tc-alloc c.tc -q --role-sweep --sweep rtn:3 --samples 1 | grep -q '^1 sequences, 64 tokens, nll '
	tc-import "$TINY/llama" -o bare.tc
	fails 65 'carries no calibration tokens' tc-alloc bare.tc -q --role-sweep --sweep rtn:3
}

@test "--check says what differs" {
	calibrated qwen2
	tc-alloc c.tc -q --bits-per-weight 6 --rule gate=rtn:4:32 --rule k=skip -o p.json
	tc-quant c.tc -q --alloc p.json -o good.tc
	[ -z "$(tc-alloc --check --alloc p.json good.tc)" ]
	got=0; tc-alloc --check --alloc p.json c.tc >lines 2>err || got=$?
	[ $got = 1 ] && grep -q 'tensors are not as planned' err
	[ "$(wc -l <lines)" = "$(jq '.tensors | length' p.json)" ]
	grep -q 'is not quantized, planned are 4 bits' lines
	jq '(.tensors[] | select(.name | test("0.mlp.gate")) | .bits) = 5 | (.tensors[] | select(.name | test("1.mlp.gate")) | .group) = 64 | .tensors |= map(select(.name | test("1.mlp.down") | not))' p.json >other.json
	got=0; tc-alloc --check --alloc other.json good.tc >lines 2>err || got=$?
	[ $got = 1 ] && [ "$(wc -l <lines)" = 3 ]
	grep -q '0.mlp.gate_proj.weight: has 4 bits, planned are 5' lines
	grep -qE '1.mlp.gate_proj.weight: has groups of (32|row), planned are 64' lines
	grep -q '1.mlp.down_proj.weight: has . bits, planned are none' lines
	jq '.budget_bytes = 1000' p.json >small.json
	fails 1 'bytes, the budget is 1000' tc-alloc -q --check --alloc small.json good.tc
	fails 65 'the stream carries no plan: give --alloc' tc-alloc --check good.tc
	# Bits and groups alike, another grid.
	for plan in nf4:4 hqq:4; do
		tc-alloc c.tc -q --weigh none --bytes 9M --choices $plan --embed skip -o p.json
		tc-quant c.tc -q --embed skip -o rtn.tc
		got=0; tc-alloc --check --alloc p.json rtn.tc >lines 2>err || got=$?
		[ $got = 1 ] && grep -q "is uniform (zero: int), planned is ${plan%:4}" lines
	done
	tc-alloc c.tc -q --weigh none --bytes 9M --choices lloyd:4 --embed skip -o p.json
	tc-quant c.tc -q --alloc p.json --per row | tc-alloc - --check -q --alloc p.json
	# Factors.
	tc-alloc c.tc -q --weigh none --bytes 9M --choices rtn:4 --embed skip --rule down=skip -o p.json
	tc-lowrank c.tc -q --rank 4 -o l.tc
	got=0; tc-alloc --check --alloc p.json l.tc >lines 2>err || got=$?
	[ $got = 1 ] && ! grep -q 'has 0 bits' lines
	grep -q 'down_proj.weight: has factors of rank 4, planned are none' lines
	grep -q 'up_proj.weight: is not quantized, planned are 4 bits' lines
}

@test "tc-quant --alloc: what goes beside a plan, and bad plans" {
	calibrated qwen2
	tc-alloc c.tc -q --weigh none --bits-per-weight 6 -o p.json
	for option in '--bits 4' '--group 32' '--method opt' '--embed same' '--head skip'; do
		fails 2 "^tc-quant: ${option%% *} beside a plan" tc-quant c.tc --alloc p.json $option
		tc-alloc c.tc -q --weigh none --bits-per-weight 6 | fails 2 "${option%% *} beside a plan" tc-quant -q - $option
	done
	fails 2 'go with --method gptq' tc-quant c.tc --alloc p.json --act-order
	tc-quant c.tc -q --alloc p.json --threads 1 -o a.tc
	tc-quant - -q --alloc p.json --threads 2 <c.tc | cmp - a.tc
	records a.tc | head -n 1 | jq -r '.steps[-1] | .[2] + .[3]' | grep -qE -- '--alloc plan:[0-9a-f]{16}'
	! records a.tc | head -n 1 | jq -r '.steps[-1] | .[2] + .[3]' | grep -qE -- '--bits|--embed|--method'
	tc-alloc c.tc -q --weigh none --bits-per-weight 6 >p.tc
	tc-quant p.tc -q --sequential --rotate | tc-ls - | grep -q hadamard
	fails 66 nothere tc-quant c.tc --alloc nothere
	echo '{' >bad; fails 65 'bad: is no JSON' tc-quant c.tc --alloc bad
	echo '{}' >bad; fails 65 'bad: is no plan of tc-alloc' tc-quant c.tc --alloc bad
	for change in '.tensors[0].bits = 9' '.tensors[0].bits = "4"' '.tensors[0].method = "x"' '.tensors[0].group = 0' \
	    '.tensors[0].sparsity = 1' '.tensors[0].name = 5' '.tensors += [.tensors[0]]' '.tensors[0] = 3' '.tc_alloc = 2'; do
		jq "$change" p.json >bad
		fails 65 '^tc-quant: --alloc: bad: ' tc-quant c.tc --alloc bad || { echo "$change"; return 1; }
	done
	jq '.tensors[0].name = "model.norm.weight"' p.json >bad
	fails 65 'model.norm.weight, which is never quantized' tc-quant c.tc --alloc bad
	jq '.tensors[0].name = "model.layers.77.mlp.up_proj.weight"' p.json >bad
	fails 65 'the plan is of another model' tc-quant c.tc --alloc bad
}

@test "a plan of no tensor, and options of methods that only a plan in the stream has" {
	calibrated llama --hessian
	tc-alloc c.tc -q --choices skip --embed skip --weigh none --bytes 4M -o none.json
	jq -e '.tensors == []' none.json
	for option in '--mse' '--weights none' '--act-order' '--vector 4' '--per row'; do
		fails 2 '^tc-quant: --' tc-quant c.tc -q --alloc none.json $option || { echo "$option"; return 1; }
	done
	tc-quant c.tc -q --alloc none.json | tc-ls - --json | jq -e '[.tensors[] | select(.bits)] == []'
	tc-alloc c.tc -q --choices gptq:3,gptq:4 --embed rtn:8 --bits-per-weight 7 --weigh none >p.tc
	tc-quant p.tc -q --act-order --damp 0.02 -o q.tc
	tc-alloc --check -q q.tc
	fails 2 'weighs? errors' tc-quant p.tc -q --weights none
	fails 2 'go with --method gptq' tc-quant c.tc -q --act-order
}

@test "--sym and --fmin beside a plan are of the rows whose method has them" {
	calibrated llama --hessian
	for options in --sym --fmin; do
		tc-alloc c.tc -q --weigh none --bits-per-weight 8 $options --rule down=hqq:4 --rule up=nf4:4 --rule embed=awq:4 --rule q=gptq:4 -o p.json
		tc-quant c.tc -q --alloc p.json $options -o q.tc
		[ "$(bytes_of q.tc)" = "$(jq .predicted_bytes p.json)" ]
		tc-alloc --check -q --alloc p.json q.tc
	done
}

@test "plans that prune: tc-prune and tc-quant obey, each its part" {
	for arch in llama qwen2; do
		calibrated $arch
		tc-fisher c.tc --ids ids.json -q --per tensor -o f.tc
		tc-alloc f.tc -q --method joint --embed rtn:4:128:0.32 -o p.json 2>said
		tc-alloc f.tc -q --method joint --embed rtn:4:128:0.32 | tc-prune - --method wanda 2>said | tc-quant - -q -o q.tc
		grep -q 'obeying the plan in the stream (joint' said
		tc-alloc --check q.tc
		[ "$(bytes_of q.tc)" = "$(jq .predicted_bytes p.json)" ] || { bytes_of q.tc; jq .predicted_bytes p.json; return 1; }
		tc-prune c.tc -q --method wanda --alloc p.json | tc-quant - -q --alloc p.json | tc-ls - --json | jq -c .tensors >there
		tc-ls q.tc --json | jq -c .tensors | cmp - there
		got=0; tc-quant f.tc -q --alloc p.json | tc-alloc --check --alloc p.json - >lines 2>err || got=$?
		[ $got = 1 ] && grep -q 'weights that are not 0, planned are at most' lines
	done
	# What pruning leaves is measured, and dearer than what is not pruned.
	tc-alloc c.tc -q --bytes 1G --choices rtn:4:128:0.5,rtn:4 --embed skip --rule down=dense:0.5 -o p.json
	jq -e '[.tensors[] | select(.name | test("down")) | .sparsity == 0.5 and .predicted_error > 0 and .bits == null] | length > 0 and all' p.json
	jq -e '[.tensors[] | select(.name | test("down") | not) | .sparsity == null] | all' p.json
	tc-alloc c.tc -q --role-sweep --sweep dense:0.5 --json | jq -e '.sweep | length > 8 and all(.kld > 0 and .saved_bytes > 0)'
	fails 2 '^tc-prune: --per model beside a plan' tc-prune c.tc --alloc p.json --per model
	for option in '--sparsity 0.5' '--nm 2:4' '--embed same' '--head skip'; do
		fails 2 "^tc-prune: ${option%% *} beside a plan" tc-prune c.tc --alloc p.json $option
	done
	fails 65 'is no plan' tc-prune c.tc --alloc <(echo '{}')
	records q.tc | head -n 1 | jq -r '.steps[-2] | .[2] + .[3]' | grep -qE -- '--alloc plan:[0-9a-f]{16}'
}

@test "bad command lines" {
	fails 2 'needs a budget' tc-alloc demo
	fails 2 'exclude each other' tc-alloc demo --bytes 1M --bits-per-weight 4
	fails 2 'latency and --bandwidth go together' tc-alloc demo --latency 5
	fails 2 'ram and --context go together' tc-alloc demo --ram 5M
	fails 2 'ram and --context go together' tc-alloc demo --bytes 5M --context 10
	fails 2 'bits-per-weight: 0: must' tc-alloc demo --bits-per-weight 0
	fails 2 'method: ' tc-alloc demo --method best --bytes 1M
	for choice in 'x:4' 'rtn' 'rtn:9' 'rtn:4:0' 'rtn:4:128:1' 'rtn:4:128:-1' 'rtn:4:128:0:1' 'nf4:3' 'skip:4' 'dense' '' 'rtn:4,'; do
		fails 2 '^tc-alloc: --choices: ' tc-alloc demo --bytes 9M --choices "$choice" || { echo "$choice"; return 1; }
		fails 2 '^tc-alloc: --embed: ' tc-alloc demo --bytes 9M --embed "$choice" || { echo "$choice"; return 1; }
	done
	for rule in 'q' '=rtn:4' 'q=rtn:4,rtn:3' 'first:=rtn:4' 'first:x=rtn:4' 'last:0=rtn:4' 'q='; do
		fails 2 'rule' tc-alloc demo --bytes 9M --rule "$rule" || { echo "$rule"; return 1; }
	done
	fails 2 "rule: 'nothing\*' matches no tensor" tc-alloc "$TINY/llama" --bytes 9M --rule 'nothing*=rtn:4'
	fails 2 'go with methods that rank' tc-alloc demo --bytes 9M --class-bits 6,4,3
	fails 2 'sensitivity goes with' tc-alloc demo --bytes 9M --sensitivity act
	fails 2 'they add up to 90' tc-alloc demo --method fisher --class-shares 10,80
	fails 2 'must be as many' tc-alloc demo --method fisher --class-bits 6,4
	fails 2 'give --class-sparsity' tc-alloc demo --method fisher --class-bits none
	fails 2 'are not for it' tc-alloc demo --method fisher --weigh kl
	fails 2 'sym and --fmin exclude' tc-alloc demo --bytes 9M --sym --fmin
	fails 2 'role-sweep and --check exclude' tc-alloc demo --role-sweep --check
	fails 2 'makes no plan' tc-alloc demo --role-sweep --bytes 9M
	fails 2 'makes no plan' tc-alloc demo --check --method uniform
	fails 2 'writes no plan' tc-alloc demo --check -o x
	for mode in check role-sweep; do
		for option in '--choices rtn:4' '--embed rtn:4' '--head skip' '--weigh none' '--errors x' --strip; do
			fails 2 "$mode makes no plan: not with ${option%% *}" tc-alloc demo --$mode $option || { echo "$option"; return 1; }
		done
	done
	for option in '--samples 1' '--memory 1G' '--stats x' --sym --fmin '--scale f32'; do
		fails 2 "check measures nothing: not with ${option%% *}" tc-alloc demo --check $option || { echo "$option"; return 1; }
	done
	fails 2 'strip is of the stream' tc-alloc demo --bytes 9M --strip -o x
	for how in '--weigh none' '--weigh fisher' '--method fisher'; do
		fails 2 'samples and --memory are for runs' tc-alloc demo --bytes 9M $how --samples 4
		fails 2 'samples and --memory are for runs' tc-alloc demo --bytes 9M $how --memory 1G
	done
	fails 2 'sweep goes with --role-sweep' tc-alloc demo --bytes 9M --sweep rtn:3
	fails 2 'json goes with --role-sweep' tc-alloc demo --bytes 9M --json
	fails 66 'nothere' tc-alloc demo --check --alloc nothere
	fails 2 'unknown option' tc-alloc demo --bits 4
}

@test "bad models" {
	refuses_bad_streams tc-alloc -q --bytes 100M
	damaged llama nan 'tensors["model.layers.1.mlp.up_proj.weight"][2][8:12] = struct.pack("<f", math.nan)'
	fails 65 'element 2 is not a finite number' tc-alloc nan --bytes 1M
	tc-quant "$TINY/llama" -q -o q.tc
	fails 65 'is quantized already' tc-alloc q.tc --bytes 1M
	tc-import "$TINY/llama" -o m.tc
	fails 65 '--weigh|carries no calibration tokens' tc-alloc m.tc --bytes 100K --weigh kl
	fails 65 'squared gradients are not known' tc-alloc m.tc --bytes 100K --weigh fisher
}

@test "the embedded model is the default" {
	takes_default tc-alloc --bits-per-weight 6 --method uniform --choices rtn:4 --embed rtn:4 -o /dev/null
}

@test "output goes where it should, whole or not at all" {
	tc-import "$TINY/llama" -o good.tc
	head -c 300000 good.tc >cut.tc
	run=(tc-alloc -q --bytes 100K)
	got=0
	script -qec "${run[*]} good.tc" /dev/null </dev/null >terminal || got=$?
	[ "$got" -eq 2 ] && grep -q 'is a terminal: use -o FILE or a pipe' terminal
	# Before anything is read.
	got=0
	script -qec "${run[*]} cut.tc" /dev/null </dev/null >terminal || got=$?
	[ "$got" -eq 2 ] && grep -q 'is a terminal: use -o FILE or a pipe' terminal
	got=0; "${run[@]}" good.tc >/dev/full 2>err || got=$?
	[ "$got" -eq 74 ] && grep -q 'No space left' err
	fails 74 'No space left' "${run[@]}" good.tc -o /dev/full
	got=0; "${run[@]}" good.tc >&- 2>err || got=$?
	[ "$got" -eq 74 ]
	tc-alloc demo -q --method uniform --bits-per-weight 6 --choices rtn:4 --embed rtn:4 2>err | head -c 100 >/dev/null
	[ "${PIPESTATUS[0]}" -eq 141 ] && [ ! -s err ]
	mkdir out && echo kept >out/kept
	fails 65 'input ended early' "${run[@]}" cut.tc -o out/new.json
	fails 65 'input ended early' "${run[@]}" -o out/kept - <cut.tc
	[ "$(ls -A out)" = kept ] && [ "$(cat out/kept)" = kept ]
	"${run[@]}" good.tc -o out/kept && jq -e .tc_alloc out/kept
	[ "$(ls -A out)" = kept ]
}
