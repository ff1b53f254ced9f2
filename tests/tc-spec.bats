#!/usr/bin/env bats
# tc-spec: speculative decoding.

load lib

@test "tc-spec writes what tc-gen writes, at every K" {
	tc-gen demo --prompts docs -n 16 --json | jq -c .ids >want
	[ "$(wc -l <want)" -eq 100 ]
	for k in 1 2 3 4 5 6 7 8; do
		tc-spec demo --draft draft -k $k --prompts docs -n 16 --json >got
		jq -c .ids got | cmp - want || { echo "K $k"; return 1; }
		[ "$(jq -s 'all(.identical)' got)" = true ]
	done
	[ "$(jq -s 'map(.accepted) | add > 0' got)" = true ]
}

@test "tc-spec: every way of guessing, with and without a repetition penalty" {
	head -n 12 "$TC_ROOT/share/prompts/docs.txt" >prompts
	for penalty in 1 1.3; do
		tc-gen demo --prompts prompts -n 40 --repeat-penalty $penalty --json | jq -c .ids >want
		while read -r options; do
			# shellcheck disable=SC2086
			tc-spec demo $options --prompts prompts -n 40 --repeat-penalty $penalty --json | jq -c .ids | cmp - want ||
			    { echo "$options, penalty $penalty"; return 1; }
		done <<-'END'
			--draft lookup -k 8
			--draft lookup --adaptive
			--draft quant --draft-bits 3
			--draft quant --adaptive --threads 1
			--draft draft -k 12 --draft-min-p 0.5
			--draft lookup --draft draft -k 6 --adaptive --draft-min-p 0.2
		END
	done
}

@test "tc-spec: a model that guesses for itself is always right" {
	head -n 6 "$TC_ROOT/share/prompts/docs.txt" >prompts
	for k in 1 4 7; do
		tc-spec demo --draft demo -k $k --prompts prompts -n 33 --json >got
		[ "$(jq -s -c 'map([.accept_rate, .identical, .proposed > 0]) | unique' got)" = '[[1,true,true]]' ]
	done
	tc-spec demo --draft demo --prompts prompts -n 33 --temp 0.7 --top-p 0.9 --seed 3 --json >got
	[ "$(jq -s -c 'map([.accept_rate, .identical]) | unique' got)" = '[[1,null]]' ]
}

@test "tc-spec: the figures add up, at any number of threads" {
	head -n 5 "$TC_ROOT/share/prompts/docs.txt" >prompts
	tc-spec demo --draft draft --prompts prompts -n 30 --json --result r.json >got
	jq -s -e 'all(.accept_rate == .accepted / .proposed and .tokens_per_pass == (.accepted + .passes) / .passes
	    and .tokens == (.ids | length) and .accepted + .passes >= .tokens - 1 and .speedup > 0
	    and (.seconds * .tokens_per_second / .tokens - 1 | fabs) < 1e-9)' got
	jq -e --slurpfile g got '.stage == "tc-spec" and (.measured.prompts | length == 5)
	    and .measured.overall.accepted == ($g | map(.accepted) | add) and .measured.overall.identical
	    and .run.speedup_stderr > 0' r.json
	jq -c 'del(.seconds, .target_seconds, .speedup, .tokens_per_second, .target_tokens_per_second)' got >a
	tc-spec demo --draft draft --prompts prompts -n 30 --json --threads 1 --result r.json |
	    jq -c 'del(.seconds, .target_seconds, .speedup, .tokens_per_second, .target_tokens_per_second)' | cmp a -
	tc-spec demo --draft draft --prompts prompts -n 30 --runs 2 >text
	[ "$(grep -c yes text)" -eq 5 ]
	grep -q '^5 prompts, 150 tokens: .* guesses accepted, .* times as fast .*, identical$' text
}

@test "tc-spec: nothing to guess, and tokens that are drawn" {
	tc-spec demo --draft lookup -n 1 --json >got
	[ "$(jq -c '[.tokens, .passes, .proposed, .accepted, .accept_rate, .tokens_per_pass, .identical]' got)" = '[1,0,0,0,null,null,true]' ]
	tc-spec demo --draft lookup -n 8 --temp 1 >text
	[ "$(awk 'NR == 2 { print $7 }' text)" = - ]
}

@test "tc-spec: a model that ends its text ends it here" {
	tc-gen demo --prompt 'The table' -n 20 --json >whole
	cp -rL "$TC_ROOT/share/models/demo-16m" m
	rm -f m/generation_config.json
	jq --argjson e "$(jq '.ids[7]' whole)" '.eos_token_id = $e' "$TC_ROOT/share/models/demo-16m/config.json" >m/config.json
	tc-gen m --prompt 'The table' -n 20 --json | jq -c .ids >want
	[ "$(jq length want)" -le 8 ]
	tc-spec m --draft demo -k 5 --prompt 'The table' -n 20 --json | jq -c .ids | cmp - want
}

@test "tc-spec: a seed gives the same sample again, another seed another" {
	for seed in 1 1 2; do
		tc-spec demo --draft draft --temp 1 --seed $seed -n 24 --json | jq -c .ids
	done >ids
	[ "$(sort -u ids | wc -l)" -eq 2 ]
	[ "$(sed -n 1p ids)" = "$(sed -n 2p ids)" ]
}

@test "tc-spec: packed models, int8, a pipe, and tokens in place of text" {
	tc-quant demo -q --bits 8 --group row --sym -o q.tcs
	tc-gen q.tcs -q --compute int8 -n 24 --json | jq -c .ids >want
	tc-spec q.tcs -q --draft q.tcs --compute int8 -n 24 --json >got
	jq -c .ids got | cmp - want
	[ "$(jq -c '[.accept_rate, .compute]' got)" = '[1,"int8"]' ]
	tc-import demo | tc-spec - --draft lookup -n 24 --json | jq -e .identical
	ids 3 20 >p.json
	tc-spec "$TINY/llama" --draft "$TINY/qwen2" --ids p.json -n 20 --json >got
	[ "$(jq -s -c 'map([.identical, .text, .prompt]) | unique' got)" = '[[true,null,null]]' ]
}

@test "tc-spec refuses other vocabularies" {
	cp -rL "$TC_ROOT/share/models/draft-2m" m
	jq '.model.vocab |= with_entries(if .value == 1000 then .value = 1001 elif .value == 1001 then .value = 1000 else . end)' \
	    "$TC_ROOT/share/models/draft-2m/tokenizer.json" >m/tokenizer.json
	fails 65 "draft m: its vocabulary is not the model's: token 1000 differs" tc-spec demo --draft m
	# The same tokens, written otherwise.
	jq . "$TC_ROOT/share/models/draft-2m/tokenizer.json" >m/tokenizer.json
	tc-spec demo --draft m -n 8 --json | jq -e .identical
	rm m/tokenizer.json
	fails 65 'a tokenizer is missing' tc-spec demo --draft m
}

@test "tc-spec refuses bad options" {
	fails 2 'nothing guesses' tc-spec demo
	fails 2 'guesses' tc-spec demo --draft lookup -k 0
	fails 2 'guesses' tc-spec demo --draft lookup -k 65
	fails 2 'draft-bits' tc-spec demo --draft quant --draft-bits 9
	fails 2 'draft-min-p' tc-spec demo --draft draft --draft-min-p 2
	fails 2 'standard input is the model' tc-spec demo --draft -
	fails 2 'draft quant: is there twice' tc-spec demo --draft quant --draft lookup --draft quant
	fails 2 'act-scale batch' tc-spec demo --draft lookup --compute int8 --act-scale batch
	fails 66 'draft nothere: .*nothere' tc-spec demo --draft nothere
	fails 74 'No such file' tc-spec demo --draft lookup --result nodir/r.json
	ids 1 300 >long.json
	fails 65 'positions' tc-spec "$TINY/llama" --draft lookup --ids long.json --json
}

@test "tc-spec refuses bad streams" {
	refuses_bad_streams tc-spec --draft lookup -n 2
}

@test "tc-spec: a closed pipe ends it in silence, a full disk is exit 74" {
	tc-spec demo -q --draft lookup --prompts docs -n 4 --json 2>err | head -c 10 >/dev/null
	[ ! -s err ]
	run -74 --separate-stderr bash -c 'tc-spec demo --draft lookup -n 4 >/dev/full'
	[[ $stderr == *"No space left"* ]]
}
