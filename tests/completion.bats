load lib

stages() {
	sed -n 's/^STAGES = //p' "$TC_ROOT/Makefile"
}

# completes WORD...: what bash would offer for the last word, one a line; the
# words are split as readline does.
completes() {
	local stage=$1
	(
		source <("$stage" --completion bash)
		COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
		"_${stage//-/_}" "$stage" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
		printf '%s\n' "${COMPREPLY[@]}"
	)
}

@test "bash completes options" {
	[ "$(completes tc-quant --me)" = "--method
--memory" ]
	[ "$(completes tc-quant demo --s | paste -sd ' ')" = '--sym --scale --sequential --static-groups --stats --seed --strip' ]
	[ -z "$(completes tc-quant --nonsense)" ]
	# Every option that --help lists, and no other.
	for stage in $(stages); do
		completes "$stage" -- | sort >got
		"$stage" --help | grep -oE '^  (-., |    )--[a-z0-9-]+' | grep -oE -- '--.*' | sort | diff - got || { echo "$stage"; return 1; }
	done
}

@test "bash completes values: names from the table, files where there are files" {
	[ "$(completes tc-quant --method '')" = "$(tc-quant --method nothere demo 2>&1 | sed 's/.*one of //; s/, /\n/g')" ]
	[ "$(completes tc-quant --scale '' | paste -sd ' ')" = 'f16 f32 u8' ]
	[ "$(completes tc-quant --levels o)" = odd ]
	# --scale=f3 is three words, or two before there is a value.
	[ "$(completes tc-quant --scale = f3)" = f32 ]
	[ "$(completes tc-quant --scale = | paste -sd ' ')" = 'f16 f32 u8' ]
	# Nothing offered means file names ...
	(source <(tc-quant --completion bash) && complete -p tc-quant) | grep -q -- '-o default '
	[ -z "$(completes tc-quant --output '')" ] && [ -z "$(completes tc-quant -o q)" ] && [ -z "$(completes tc-quant mod)" ] || return 1
	[ -z "$(completes tc-ppl --base '')" ]
	# ... save where a number is wanted.
	tc-quant --completion bash | grep -qE '^	--bits\|.*\) compopt \+o default '
}

@test "the completion of every stage is a script that bash takes silently" {
	for stage in $(stages); do
		"$stage" --completion bash >script
		bash -n script || return 1
		[ -z "$(bash -uc '. ./script' 2>&1)" ]
	done
	fails 2 "'ksh': must be one of bash, zsh" tc-ls --completion ksh
	fails 2 'needs a value' tc-ls --completion
	! tc-ls --help | grep completion || return 1
}

@test "the completion of every stage is a script that zsh takes" {
	for stage in $(stages); do
		"$stage" --completion zsh >"_$stage"
		[ "$(head -n 1 "_$stage")" = "#compdef $stage" ]
		grep -qF "if [[ \$service = $stage ]]; then" "_$stage"
		"$stage" --help | grep -oE '^  (-., |    )--[a-z0-9-]+' | grep -oE -- '--.*' | sort >want
		sed -n '/_arguments/,/^}/p' "_$stage" | grep -oE "(^	    ('\*')?|,)--[a-z0-9-]+" | grep -oE -- '--.*' | sort | diff want - || { echo "$stage"; return 1; }
		# Quotes are closed on each line.
		! sed "s/'\\\\''//g" "_$stage" | awk -F "'" 'NF % 2 == 0' | grep . || return 1
	done
	grep -qF -- "--scale='[type of scales and minima, u8 in 8 bits (default f16)]:TYPE:(f16 f32 u8)'" _tc-quant
	grep -qF -- "'(-o --output)'{-o+,--output=}'[write FILE" _tc-quant
	if command -v zsh >/dev/null; then
		for stage in $(stages); do zsh -n "_$stage"; done
	fi
}

@test "make install installs them, where both shells look" {
	# The stages that are tested, however they were built.
	local built=()
	for stage in $(stages); do built+=(-o "$TC_BIN/$stage"); done
	make -s -C "$TC_ROOT" install "${built[@]}" BIN="$TC_BIN" BUILD="$TC_BUILD" DESTDIR="$PWD/root" PREFIX=/usr >log 2>&1 || { cat log; return 1; }
	share=root/usr/share
	[ "$(head -n 1 $share/zsh/site-functions/_tinycompress)" = "#compdef $(stages)" ]
	[ "$(grep -c '^#compdef' $share/zsh/site-functions/_tinycompress)" -eq 1 ]
	for stage in $(stages); do
		(source "$share/bash-completion/completions/$stage" && complete -p "$stage") | grep -q -- "-F _${stage//-/_} "
		grep -q "^_${stage//-/_}()" $share/zsh/site-functions/_tinycompress
	done
	[ -f $share/tinycompress/prompts/docs.txt ] && [ -x $share/tinycompress/get-model ] && cmp "$TC_ROOT/share/models.tsv" $share/tinycompress/models.tsv &&
	    cmp "$TC_ROOT/share/super-weights.tsv" $share/tinycompress/super-weights.tsv || return 1
	unset TC_SHARE
	XDG_CACHE_HOME=$PWD/none fails 66 'run .*/usr/bin/\.\./share/tinycompress/get-model smollm2-135m' root/usr/bin/tc-ls smollm2-135m
}
