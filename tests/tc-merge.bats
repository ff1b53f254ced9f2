load lib

# shards N ARG...: N shards of a calibration, and all of it in one.
shards() {
	local n=$1 i
	shift
	for i in $(seq "$n"); do
		tc-calib -q "$@" --shard "$i/$n" -o "$i.tc" || return 1
	done
	tc-calib -q "$@" -o all.tc
}

@test "four shards of the demo model give the bytes of one run, in any order" {
	shards 4 demo --samples 8 --seqlen 128 --hessian
	tc-merge -q 1.tc 2.tc 3.tc 4.tc | cmp - all.tc
	tc-merge -q 3.tc 1.tc 4.tc 2.tc -o merged.tc
	cmp merged.tc all.tc
	! cmp -s 1.tc all.tc || return 1
}

@test "statistics without weights are merged as well" {
	shards 4 demo --samples 8 --seqlen 128 --hessian --stats-only
	[ "$(tc-ls all.tc --json | jq '[(.tensors | length), (.statistics | length > 0)] | @csv' -r)" = '0,true' ]
	tc-merge -q 4.tc 2.tc 3.tc 1.tc | cmp - all.tc
}

@test "any number of shards and sequences, of one length or several, gives the same bytes" {
	for case in "3 8" "1 5" "5 5" "2 7" "7 13"; do
		set -- $case
		ids "$2" 24 | jq -c 'to_entries | map(.value[:8 + .key])' >ids
		shards "$1" "$TINY/qwen2" --ids ids --hessian
		tc-merge -q $(seq -f %g.tc "$1" -1 1) | cmp - all.tc
	done
	shards 3 "$TINY/llama" --ids ids --tokens-only
	tc-merge -q 2.tc 3.tc 1.tc | cmp - all.tc
}

@test "a merge of the first shards can be merged with the rest" {
	ids 8 16 >ids
	shards 4 "$TINY/llama" --ids ids
	tc-merge 1.tc 2.tc 2>err | cat >12.tc
	grep -qx 'tc-merge: 2 shards, 4 sequences' err
	tc-merge -q 4.tc 12.tc 3.tc | cmp - all.tc
}

@test "shards come from pipes and from standard input too" {
	ids 4 16 >ids
	shards 2 "$TINY/llama" --ids ids
	tc-merge -q <(cat 2.tc) - <1.tc | cmp - all.tc
	fails_midway 2 'standard input can be one model only' tc-merge - - <1.tc
}

@test "a single stream is copied" {
	ids 4 16 >ids
	shards 1 "$TINY/llama" --ids ids
	tc-merge 1.tc | cmp - 1.tc
	tc-merge <1.tc | cmp - 1.tc
	tc-merge "$TINY/qwen2" | cmp - <(tc-import "$TINY/qwen2")
}

@test "a gap and an overlap are errors that name the sequences" {
	ids 9 16 >ids
	shards 3 "$TINY/llama" --ids ids --samples 9
	fails_midway 65 'tokens: sequences 3 to 5 are in no shard' tc-merge 1.tc 3.tc
	fails_midway 65 'tokens: sequences 0 to 2 are in no shard' tc-merge 3.tc 2.tc
	fails_midway 65 'tokens: sequences 6 to 8 are in no shard' tc-merge 1.tc 2.tc
	fails_midway 65 'tokens: sequences 0 to 2 are in no shard' tc-merge 2.tc
	fails_midway 65 'tokens: sequences 3 to 5 are in more than one shard' tc-merge 1.tc 2.tc 2.tc 3.tc
	fails_midway 65 'tokens: sequences 0 to 2 are in more than one shard' tc-merge 1.tc 1.tc
	mkdir out
	fails 65 'in no shard' tc-merge 1.tc 3.tc -o out/new.tc
	[ -z "$(ls -A out)" ]
}

@test "an older statistic that all shards have is kept, not added" {
	ids 6 16 >ids
	ids 4 8 >old
	tc-calib -q "$TINY/llama" --ids old --hessian -o old.tc
	shards 3 old.tc --ids ids
	tc-merge -q 1.tc 2.tc 3.tc | cmp - all.tc
	[ "$(tc-ls all.tc --json | jq -c '[.statistics[] | select(.kind == "hessian") | .sequences] | unique')" = '[4]' ]
}

# gradients N WHAT LENGTH SAMPLES: N shards of made-up squared gradients, and
# all of them in one.
gradients() {
	local n=$1 what=$2 i
	shift 2
	for i in $(seq "$n"); do
		made_up "$what" "$i/$n" "$@" >"$i.tc" || return 1
	done
	made_up "$what" 1/1 "$@" | tc-merge -q -o all.tc
}

@test "shards of squared gradients give the bytes of one run, in any order" {
	for case in "2 8" "3 8" "5 5" "7 13"; do
		set -- $case
		gradients "$1" fisher 6 "$2"
		tc-merge -q $(seq -f %g.tc "$1" -1 1) | cmp - all.tc
	done
	[ "$(tc-ls all.tc --json | jq -c '[.statistics[] | .sequences] | unique')" = '[13]' ]
	fails_midway 65 'tokens: sequences 11 to 12 are in no shard' tc-merge [1-6].tc
	fails_midway 65 'tokens: sequences 1 to 2 are in more than one shard' tc-merge [1-7].tc 2.tc
}

@test "of tokens and statistics those of the last stage are divided, others kept" {
	gradients 3 fisher-of-calibrated 6 7
	tc-merge -q 2.tc 3.tc 1.tc | cmp - all.tc
	[ "$(tc-ls all.tc --json | jq -c '[.tokens[] | [.tag, .sequences]]')" = '[["calib",9],["fisher",7]]' ]
	[ "$(tc-ls all.tc --json | jq -c '[.statistics[] | .sequences] | unique')" = '[7,9]' ]
	fails_midway 65 'tokens: sequences 0 to 1 are in more than one shard' tc-merge 1.tc 1.tc
	gradients 3 calib-of-fisher 6 7
	tc-merge -q 2.tc 3.tc 1.tc | cmp - all.tc
	[ "$(tc-ls all.tc --json | jq -c '[.tokens[] | [.tag, .sequences]]')" = '[["fisher",5],["calib",7]]' ]
}

@test "squared gradients of other tensors, groups or lengths are refused" {
	gradients 2 fisher 6 4
	made_up fisher 2/2 6 4 role=k >k.tc
	made_up fisher 2/2 6 4 part=bias >bias.tc
	made_up fisher 2/2 6 4 group=3 >group.tc
	made_up fisher 2/2 6 4 block=1 >block.tc
	fails_midway 65 'record 2 is a stat fisher of q weight, block 0 in one, a stat fisher of k weight, block 0 in the other' tc-merge 1.tc k.tc
	fails_midway 65 'a stat fisher of q weight, block 0 in one, a stat fisher of q bias, block 0' tc-merge 1.tc bias.tc
	fails_midway 65 'the stat fisher_group of q weight, block 0 differs' tc-merge 1.tc group.tc
	fails_midway 65 'block 0 in one' tc-merge 1.tc block.tc
	gradients 3 fisher 6 7
	made_up fisher 3/3 5 7 >3.tc
	fails_midway 65 '1.tc has sequences of 6 tokens, 3.tc of 5: squared gradients of a mean scale' tc-merge 1.tc 2.tc 3.tc
}

@test "what is not of one run is refused" {
	ids 4 16 >ids
	ids 4 17 >others
	shards 2 "$TINY/llama" --ids ids
	cp 1.tc llama.tc
	tc-calib -q "$TINY/llama" --ids others --shard 2/2 --hessian -o options.tc
	tc-calib -q "$TINY/llama" --ids ids --stats-only --shard 2/2 -o less.tc
	tc-calib -q "$TINY/qwen2" --ids ids --shard 2/2 -o qwen2.tc
	damaged llama changed 'struct.pack_into("<f", tensors["model.layers.1.mlp.up_proj.weight"][2], 0, 0.5)'
	cp "$TINY/llama/config.json" "$TINY/llama/generation_config.json" changed/
	tc-calib -q changed --ids ids --shard 2/2 -o changed.tc
	fails 65 'llama.tc and options.tc: not shards of one run: another model, or other steps' tc-merge llama.tc options.tc
	fails 65 'not shards of one run' tc-merge llama.tc less.tc
	fails 65 'another model' tc-merge llama.tc qwen2.tc
	fails_midway 65 'not shards of one run: the tensor model.layers.1.mlp.up_proj.weight differs' tc-merge llama.tc changed.tc
	fails 65 'a checkpoint, which has no statistics' tc-merge "$TINY/llama" "$TINY/llama"
	tc-import "$TINY/llama" -o plain.tc
	fails_midway 65 'no tokens or statistics to merge' tc-merge plain.tc plain.tc
}

@test "shards that were quantized one by one are refused" {
	ids 4 16 >ids
	shards 2 "$TINY/llama" --ids ids
	tc-quant -q 1.tc -o q1.tc
	tc-quant -q 2.tc -o q2.tc
	fails_midway 65 'step 3 \(tc-quant\) read different streams: merge shards before it' tc-merge q1.tc q2.tc
}

@test "one shard that breaks off fails the merge" {
	ids 4 16 >ids
	shards 2 "$TINY/llama" --ids ids
	head -c 200000 2.tc >cut.tc
	fails_midway 65 'cut.tc: .*input ended early' tc-merge 1.tc cut.tc
	fails_midway 65 'cut.tc: .*input ended early' tc-merge cut.tc 1.tc
	fails 66 'nothere.tc' tc-merge 1.tc nothere.tc
}

@test "at most 256 shards" {
	tc-import "$TINY/llama" -o 1.tc
	fails 2 'extra operand' tc-merge $(yes 1.tc | head -n 257)
	fails_midway 65 'no tokens or statistics' tc-merge $(yes 1.tc | head -n 256)
}

@test "bad streams are refused, outputs are whole or not there" {
	refuses_bad_streams tc-merge
	rm -rf out
	writes_well tc-merge
}

@test "without an operand, what is on standard input decides" {
	takes_default tc-merge -o out.tc
	tc-merge out.tc | cmp - <(tc-import demo)
}
