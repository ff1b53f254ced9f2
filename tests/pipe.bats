load lib

# run_stage STAGE OPERAND...: the stage as the tests of pairs want it, with
# what differs from run to run taken away.
run_stage() {
	local stage=$1 out=gen.$BASHPID
	shift
	case $stage in
	tc-calib | tc-fisher) "$stage" --ids ids.json "$@" ;;
	tc-quant) tc-quant -q "$@" ;;
	tc-ppl) tc-ppl --ids ids.json "$@" ;;
	# Both ends of a pipe may be this: a file each.
	tc-gen) tc-gen --ids ids.json -n 4 --json --seed 1 "$@" >"$out" || return
		sed 's/, "tokens_per_second": [^}]*//' "$out" ;;
	tc-export) rm -rf exported && tc-export -o exported "$@" ;;
	tc-cmp) tc-cmp "${1:--}" c.tc || return $(($? == 1 ? 0 : $?)) ;; # 1: they differ
	*) "$stage" "$@" ;;
	esac
}

@test "the literal pipe" {
	tc-calib --samples 2 --seqlen 128 </dev/null | tc-quant --bits 4 | tc-ppl --window 256 --max-tokens 512 >out
	[ "${PIPESTATUS[*]}" = "0 0 0" ]
	grep -qE '^perplexity [0-9.]+ ' out
	grep -q 'bits per weight 6.532 whole model, 4.156 linear layers' out
}

@test "every ordered pair of stages, over a pipe, a file on stdin and a mapped file" {
	stages="tc-import tc-export tc-ls tc-merge tc-calib tc-fisher tc-quant tc-ppl tc-gen tc-cmp"
	ids 2 48 >ids.json
	tc-calib "$TINY/llama" --ids ids.json -o c.tc
	for first in $stages; do
		run_stage $first c.tc >first.out
		for second in $stages; do
			want=0 message=.
			case $first:$second in
			tc-export:*) want=66 message='empty: did the upstream stage fail' ;;
			tc-ls:* | tc-ppl:* | tc-gen:* | tc-cmp:*) want=65 message='not a tinycompress stream|not a model' ;;
			tc-quant:tc-quant) want=65 message='is quantized already' ;;
			esac
			for way in pipe file mapped; do
				got=0
				case $way in
				pipe) run_stage $first c.tc | run_stage $second >$way.out 2>err || got=$? ;;
				file) run_stage $second <first.out >$way.out 2>err || got=$? ;;
				mapped) run_stage $second first.out >$way.out 2>err || got=$? ;;
				esac
				[ "$got" -eq "$want" ] || { echo "$first $second, $way: exit $got, expected $want"; cat err; return 1; }
				[ "$want" -eq 0 ] || grep -qE "$message" err || { echo "$first $second, $way:"; cat err; return 1; }
			done
			[ "$want" -ne 0 ] || { cmp pipe.out file.out && cmp pipe.out mapped.out; } || return 1
		done
	done
}

@test "a failure travels: its code is the last status, and it is told once" {
	ids 2 48 >ids.json
	damaged llama nan 'tensors["model.layers.1.mlp.up_proj.weight"][2][8:12] = struct.pack("<f", math.nan)'
	chain() { "$@" | tc-calib --ids ids.json | tc-quant -q | tc-ppl --ids ids.json --json --result r.json; }
	got=0
	chain tc-import nan >out 2>err || got=$?
	[ "$got" -eq 65 ] && [ ! -s out ] && [ ! -e r.json ] || return 1
	[ "$(wc -l <err)" -eq 1 ] && grep -q '^tc-import: .*not a finite number' err || return 1
	# Who fails before its stream begins leaves an empty pipe.
	for option in nothere --nonsense; do
		got=0
		chain tc-import $option >out 2>err || got=$?
		[ "$got" -eq 66 ] && [ ! -s out ] && [ ! -e r.json ] || return 1
		[ "$(head -n 1 err | cut -d: -f1)" = tc-import ]
		[ "$(grep -c 'empty: did the upstream stage fail' err)" -eq 3 ]
	done
	# From the middle on, too.
	echo '[[1,2,999]]' >bad.json
	got=0
	{ tc-import "$TINY/llama" | tc-calib --ids bad.json --seqlen 3 --samples 1 | tc-quant -q | tc-ppl --ids ids.json; } >out 2>err || got=$?
	[ "$got" -eq 65 ] && [ ! -s out ] || return 1
	[ "$(wc -l <err)" -eq 1 ] && grep -q '^tc-calib: .*outside the vocabulary' err || return 1
}

@test "an abort in a saved stream is told to whoever reads it" {
	damaged llama nan 'tensors["model.layers.1.mlp.up_proj.weight"][2][8:12] = struct.pack("<f", math.nan)'
	tc-import nan >aborted.tc 2>/dev/null || true
	fails 65 'not a finite number' tc-ls aborted.tc
	fails 65 'not a finite number' tc-export aborted.tc -o out
	[ ! -e out ]
}

# poison FILE NAME PART HEX: the stream on stdout, with the third and later
# values of a tensor's part replaced, and every hash right again: what another
# writer could have made.
poison() {
	"$PYTHON" - "$@" <<'END'
import msgpack, struct, sys, xxhash
path, target, where, value = sys.argv[1:]
data = open(path, "rb").read()
stream = msgpack.Unpacker(max_buffer_size=len(data) + 1)
stream.feed(data)
xxh3 = xxhash.xxh3_64_intdigest
def number(x):
    return struct.pack(">BQ", 0xCF, x)
def take():
    start = stream.tell()
    return stream.unpack(), data[start:stream.tell()]
hashes, index, out = [], [], b""
def seal(content):
    hashes.append(xxh3(content))
    return number(hashes[-1])
header, raw = take()
stream.unpack()
out = raw + seal(raw)
head, raw = take()
while head["kind"] != "end":
    index.append([head["name" if head["kind"] in ("tensor", "file") else "kind"], len(out)])
    out, content = out + raw, raw
    for part, size in head["parts"]:
        payload = b""
        while len(payload) < size:
            payload += stream.unpack() or b""
        if (head.get("name"), part) == (target, where):
            new = bytes.fromhex(value)
            payload = payload[:2 * len(new)] + new + payload[3 * len(new):]
        if size:
            out += b"\xc0" * (-(len(out) + 5) % 64) + struct.pack(">BI", 0xC6, size) + payload
        content += payload
    stream.unpack()
    out += seal(content)
    head, raw = take()
pack = msgpack.packb
end = b"\x87" + pack("kind") + pack("end") + pack("records") + pack(len(hashes)) + pack("hash")
end += number(xxh3(struct.pack("<%dQ" % len(hashes), *hashes))) + pack("index") + pack(index)
end += pack("inputs") + bytes([0x90 + len(head["inputs"])]) + b"".join(map(number, head["inputs"]))
end += pack("check") + number(xxh3(end)) + pack("at") + number(len(out))
sys.stdout.buffer.write(out + end)
END
}

@test "NaN and Inf in a stream are refused by whoever uses the weights" {
	ids 2 48 >ids.json
	name=model.layers.1.mlp.up_proj.weight
	tc-import "$TINY/llama" -o dense.tc
	poison dense.tc nothing nothing 00 | cmp - dense.tc
	poison dense.tc $name data 0000c07f >nan.tc
	fails_midway 65 "$name: .* 2 is NaN or infinite" tc-quant -q nan.tc
	tc-quant -q dense.tc -o packed.tc
	poison packed.tc $name scales 007c >inf.tc
	for f in nan inf; do
		fails_midway 65 "$name: .* 2 is NaN or infinite" tc-calib $f.tc --ids ids.json
		fails_midway 65 "$name: .* 2 is NaN or infinite" tc-fisher $f.tc --ids ids.json
		fails 65 "$name: .* 2 is NaN or infinite" tc-ppl $f.tc --ids ids.json --result r.json
		fails 65 "$name: .* 2 is NaN or infinite" tc-gen $f.tc --ids ids.json --json
		fails 65 "$name.*not a finite number" tc-export $f.tc -o out
		[ ! -e r.json ] && [ ! -e out ] || return 1
	done
}

# Runs four stages whose input is held back, kills the i-th when all run, and
# lets the input go on.  Leaves the last status in $got.
kill_stage() {
	local i=$1 n=0 pipe
	rm -f in pid.*
	mkfifo in
	bash -c 'stage() { echo $BASHPID >.pid.$1; mv .pid.$1 pid.$1; shift; exec "$@"; }
		stage 1 tc-import - <in | stage 2 tc-calib --ids ids.json | stage 3 tc-quant -q |
		    stage 4 tc-ppl --ids ids.json --result r.json' >out 2>err 3>&- &
	pipe=$!
	exec 9>in
	head -c 150000 whole.tc >&9
	until [ -e pid.1 ] && [ -e pid.2 ] && [ -e pid.3 ] && [ -e pid.4 ]; do
		n=$((n + 1)); [ $n -lt 1000 ] || return 1
		sleep 0.02
	done
	kill -9 "$(cat pid.$i)"
	(trap '' PIPE; tail -c +150001 whole.tc >&9) 2>/dev/null || true
	exec 9>&-
	got=0
	wait $pipe || got=$?
}

@test "each stage of a pipe killed: the last status says so, nothing is left" {
	ids 2 48 >ids.json
	tc-import "$TINY/llama" -o whole.tc
	mkdir tmp
	export TMPDIR=$PWD/tmp
	for i in 1 2 3 4; do
		kill_stage $i
		[ "$got" -ne 0 ] || { echo "stage $i killed, yet success"; cat out err; return 1; }
		[ ! -e r.json ] && [ ! -s out ] || return 1
		[ -z "$(ls -A tmp)" ]
	done
}

@test "killed while it writes, a stage leaves no file under its final name" {
	tc-import "$TINY/llama" -o whole.tc
	mkfifo in
	mkdir dir
	for signal in TERM INT HUP KILL; do
		tc-import - -o dir/out.tc <in 3>&- 2>/dev/null &
		pid=$!
		exec 9>in
		head -c 150000 whole.tc >&9
		n=0
		until [ -n "$(ls -A dir)" ]; do
			n=$((n + 1)); [ $n -lt 1000 ] || return 1
			sleep 0.02
		done
		# Background jobs of a script ignore SIGINT from the start, and then go on.
		[ $signal != INT ] || signal=QUIT
		kill -$signal $pid
		got=0
		exec 9>&-
		wait $pid || got=$?
		[ "$got" -ne 0 ] && [ ! -e dir/out.tc ] || return 1
		if [ $signal = KILL ]; then rm -f dir/.out.tc.*; fi
		[ -z "$(ls -A dir)" ] || { echo "SIG$signal left $(ls -A dir)"; return 1; }
	done
}

@test "a pipe that delivers one byte at a time changes nothing" {
	ids 2 48 >ids.json
	tc-import "$TINY/qwen2" -o m.tc
	dribble() { perl -e '$| = 1; syswrite STDOUT, $c while sysread STDIN, $c, 1'; }
	tc-calib m.tc --ids ids.json | tc-quant -q -o want.tc
	dribble <m.tc | tc-calib --ids ids.json | dribble | tc-quant -q | dribble | tc-import - | cmp - want.tc
	tc-ppl want.tc --ids ids.json >want
	dribble <want.tc | tc-ppl --ids ids.json | cmp - want
}

@test "a huge declared length reserves nothing" {
	(ulimit -v 300000; tc-ls --version >/dev/null 2>&1) || skip "this build does not run under a limit of address space"
	tc-import "$TINY/llama" -o good.tc
	at=$(records good.tc | sed -n 2p | jq .at)
	body=$(records good.tc | jq 'select(.kind == "tensor") | .at' | head -n 1)
	n=0
	# array 32, map 32, bin 32, str 32, ext 32: as the first object, in place
	# of a record, and in place of a payload
	for object in '\xdd\x0f\xff\xff\xff' '\xdf\x7f\xff\xff\xff' '\xc6\xff\xff\xff\xfe' '\xdb\x7f\xff\xff\xff' '\xc9\xff\xff\xff\xff\x01'; do
		printf "$object" >1.tc
		{ head -c "$at" good.tc; printf "$object"; head -c 5000 /dev/zero; } >2.tc
		{ head -c $((body + 260)) good.tc; printf "$object"; head -c 100000 /dev/zero; } >3.tc
		for f in 1 2 3; do
			for stage in tc-ls tc-import tc-quant tc-merge tc-calib tc-fisher tc-ppl tc-gen; do
				got=0
				(ulimit -v 300000; "$stage" - --threads 1 <$f.tc >/dev/null 2>err) || got=$?
				[ "$got" -eq 65 ] || { echo "$stage, $object, case $f: exit $got"; cat err; return 1; }
				n=$((n + 1))
			done
		done
	done
	[ $n -eq 120 ]
}

@test "the golden stream stays readable" {
	golden=$TC_ROOT/tests/golden/tiny-quant
	ids 4 64 >ids.json
	tc-ls "$golden.tcs" --json >now.json
	# Keys may be added, nothing else may change.
	"$PYTHON" - "$golden.ls.json" now.json <<-'END'
		import json, sys
		def same(was, now, where):
		    if isinstance(was, dict):
		        for k in was:
		            assert k in now, where + "." + k
		            same(was[k], now[k], where + "." + k)
		    elif isinstance(was, list):
		        assert len(was) == len(now), where
		        for i, (a, b) in enumerate(zip(was, now)):
		            same(a, b, "%s[%d]" % (where, i))
		    else:
		        assert was == now, (where, was, now)
		same(*(json.load(open(a)) for a in sys.argv[1:]), "")
	END
	near "$(tc-ppl "$golden.tcs" --ids ids.json --json | jq .ppl)" 844.02914 1e-6
	tc-import "$golden.tcs" | cmp - "$golden.tcs"
	tc-import - <"$golden.tcs" | cmp - "$golden.tcs"
}

@test "today's stages write the golden stream, but for their build" {
	golden=$TC_ROOT/tests/golden/tiny-quant.tcs
	ids 4 64 >ids.json
	tc-calib "$TINY/llama" --ids ids.json | tc-quant -q --bits 4 --head 8 --group 32 -o now.tc
	for f in "$golden" now.tc; do
		records "$f" | jq -c 'select(.kind == "tensor" or .kind == "file" or .kind == "tokens") | del(.at)'
	done >both
	[ "$(sort both | uniq -c | awk '{ print $1 }' | sort -u)" = 2 ]
	[ "$(tc-ppl now.tc --ids ids.json --json | jq .ppl)" = "$(tc-ppl "$golden" --ids ids.json --json | jq .ppl)" ]
}

@test "jobs under GNU parallel write whole results, side by side" {
	ids 2 48 >ids.json
	mkdir cells
	parallel --will-cite -j4 'tc-quant -q {1} --bits {2} | tc-ppl --ids ids.json --base {1} --result cells/{1/}-{2}.json >/dev/null' \
	    ::: "$TINY/llama" "$TINY/qwen2" ::: 2 4 8 </dev/null
	[ "$(ls -A cells | wc -l)" -eq 6 ]
	for f in cells/*.json; do jq -e '.measured.ppl > 1 and .measured.provenance[1].stage == "tc-quant"' "$f"; done
	# Two writers of one cell agree.
	parallel --will-cite -j4 "tc-ppl $TINY/llama --ids ids.json --result cells/same.json >/dev/null #" ::: 1 2 3 4 </dev/null
	[ "$(ls -A cells | wc -l)" -eq 7 ]
}

@test "a model that overflows is said to, and gives no number" {
	ids 2 48 >ids.json
	damaged llama loud 'n = len(tensors["model.norm.weight"][2]) // 4; tensors["model.layers.1.input_layernorm.weight"][2][:] = struct.pack("<%df" % n, *[3e38] * n)'
	fails 65 'not finite: the model overflows' tc-ppl loud --ids ids.json --window 48 --json
	fails_midway 65 'not finite: the model overflows' tc-calib loud --ids ids.json
	fails_midway 65 'not finite: the model overflows' tc-fisher loud --ids ids.json
	fails 65 'not finite: the model overflows' tc-gen loud --ids ids.json -n 4 --json
}
