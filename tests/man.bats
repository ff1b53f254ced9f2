load lib

stages() {
	sed -n 's/^STAGES = //p' "$TC_ROOT/Makefile"
}

# Options as "letter name argument", "-" where there is none: of --help ...
help_options() {
	"$1" --help | "$PYTHON" -c '
import re, sys
for line in sys.stdin:
    m = re.match(r"  (?:-(\w), |    )--([a-z0-9-]+)(?: (\S+))?(?:  |$)", line)
    if m:
        print(*(g or "-" for g in m.groups()))' | sort
}

# ... and of the OPTIONS of a page.
page_options() {
	"$PYTHON" -c '
import re, sys
section = re.search(r"^\.Sh OPTIONS\n(.*?)^\.S[hs]", open(sys.argv[1]).read(), re.M | re.S).group(1)
for line in re.findall(r"^\.It (.*)$", section, re.M):
    m = re.fullmatch(r"(?:Fl (\w) , )?Fl -([a-z0-9-]+)(?: Ar (.+))?", line)
    assert m, line
    print(m[1] or "-", m[2], re.sub(r" Ns | Ar |Ar ", "", m[3]) if m[3] else "-")' "$TC_ROOT/man/$1.1" | sort
}

@test "every stage has a page" {
	[ "$(stages | wc -w)" -ge 8 ]
	for stage in $(stages); do
		[ -s "$TC_ROOT/man/$stage.1" ]
		grep -q "^\.Xr $stage 1\$\|^\.It Xr $stage 1\$" "$TC_ROOT/man/tc.7"
	done
}

@test "mandoc finds nothing to say of any page" {
	for page in "$TC_ROOT"/man/*.[157]; do
		mandoc -Tlint -Wwarning "$page" >lint 2>&1 || true
		[ ! -s lint ] || { cat lint; return 1; }
		for section in NAME DESCRIPTION 'SEE ALSO'; do
			grep -q "^\.Sh $section\$" "$page" || { echo "$page: no $section"; return 1; }
		done
	done
	for stage in $(stages); do
		for section in SYNOPSIS OPTIONS ENVIRONMENT 'EXIT STATUS' EXAMPLES; do
			grep -q "^\.Sh $section\$" "$TC_ROOT/man/$stage.1" || { echo "$stage: no $section"; return 1; }
		done
	done
}

@test "the pages' options are those of --help, and the other way round" {
	for stage in $(stages); do
		help_options "$stage" >help
		page_options "$stage" >page
		[ "$(wc -l <help)" -ge 6 ]
		diff help page || { echo "$stage: --help (<) and page (>) differ"; return 1; }
	done
}

@test "what the page calls a stage is what --help calls it" {
	for stage in $(stages); do
		summary=$("$stage" --help | sed -n "s/^$stage - //p")
		grep -qFx ".Nd $summary" "$TC_ROOT/man/$stage.1" || { echo "$stage: $summary"; return 1; }
	done
}

@test "the examples run" {
	for page in "$TC_ROOT"/man/*.1; do
		name=$(basename "$page" .1)
		sed -n '/^\.Sh EXAMPLES/,/^\.Sh SEE/s/^\$ //p' "$page" | sed 's/\\e/\\/g; s/\\-/-/g; s/\\(aq/'"'/g" >examples
		[ -s examples ] || { echo "$name has no examples"; return 1; }
		mkdir "$name"
		while read -r -u 9 line; do
			(cd "$name" && bash -c "$line") </dev/null >out 2>err 9<&- || { echo "$name: $line"; cat err; return 1; }
		done 9<examples
	done
}

@test "the reader of tc-stream.5 reads a stream, and refuses a damaged one" {
	sed -n '/BEGIN READER/,/END READER/p' "$TC_ROOT/man/tc-stream.5" | grep -v '^\.' | sed 's/\\-/-/g; s/\\e/\\/g' >reader.py
	[ "$(wc -l <reader.py)" -ge 30 ] && [ "$(wc -l <reader.py)" -le 60 ] || return 1
	ids 2 64 >ids.json
	tc-calib "$TINY/qwen2" --ids ids.json | tc-quant -q -o q.tc
	"$PYTHON" reader.py q.tc >got
	records q.tc | jq -r 'select(.kind and .kind != "end") | "\(.kind) \(if .kind == "tensor" or .kind == "file" then .name else .kind end)"' >want
	cmp got want
	[ "$(grep -c '^tensor ' got)" -eq 38 ]
	size=$(stat -c %s q.tc)
	for n in 1 5 40 900 $((size / 4)) $((size / 2)) $((size - 400)) $((size - 20)) $((size - 1)); do
		flip q.tc "$n" >bad.tc
		! "$PYTHON" reader.py bad.tc >/dev/null 2>&1 || { echo "byte $n"; return 1; }
		head -c "$n" q.tc >bad.tc
		! "$PYTHON" reader.py bad.tc >/dev/null 2>&1 || { echo "cut at $n"; return 1; }
	done
}

@test "--help and --version are answered on stdout, which is checked" {
	for stage in $(stages); do
		for option in --help -h --version; do
			"$stage" $option >out 2>err
			[ -s out ] && [ ! -s err ] || return 1
			fails 74 'standard output: No space left' bash -c "exec $stage $option >/dev/full"
		done
		"$stage" --version | grep -qE "^$stage [0-9]+\.[0-9.]+ \(build [0-9a-f]{16}\)\$"
		# Help is given whatever else is there; a mistake before it is one.
		"$stage" nothere --help >out
		fails 2 'unknown option' "$stage" --nonsense --help
	done
}

@test "unknown, abbreviated and unfinished options are refused" {
	for stage in $(stages); do
		for option in --nonsense --hel --versio --thread=2 --threads=2x --quiet=1 -Z --tmpdir; do
			fails 2 "^$stage: " "$stage" $option
		done
	done
}
