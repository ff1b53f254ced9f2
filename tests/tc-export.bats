load lib

# payloads FILE: name, dtype and hash of each tensor of a safetensors file.
payloads() {
	"$PYTHON" - "$1" <<'END'
import hashlib, json, struct, sys
data = open(sys.argv[1], "rb").read()
n = 8 + struct.unpack("<Q", data[:8])[0]
for name, t in sorted(json.loads(data[8:n]).items()):
    if name != "__metadata__":
        a, b = t["data_offsets"]
        size = {"F32": 4, "F16": 2, "BF16": 2}[t["dtype"]]
        assert (n + a) % size == 0, name + " is not aligned"
        print(name, t["dtype"], t["shape"], hashlib.sha256(data[n + a:n + b]).hexdigest())
END
}

# odd_model DIR: odd numbers of bf16 values everywhere.
odd_model() {
	damaged llama "$1" '
import random
random.seed(1)
config |= dict(hidden_size=5, num_attention_heads=2, num_key_value_heads=1, head_dim=2, intermediate_size=3,
    vocab_size=7, num_hidden_layers=2)
size = {"embed": [7, 5], "lm_hea": [7, 5], "q_proj": [4, 5], "k_proj": [2, 5], "v_proj": [2, 5], "o_proj": [5, 4],
    "gate_p": [3, 5], "up_pro": [3, 5], "down_p": [5, 3]}
for name in list(tensors):
    if "layers.2" in name:
        del tensors[name]
        continue
    shape = next((s for k, s in size.items() if k in name), [5])
    n = math.prod(shape)
    raw = b"".join(struct.pack("<f", random.uniform(0.5, 1.5))[2:] for _ in range(n))
    tensors[name] = ["BF16", shape, bytearray(raw)]
'
}

ppl() {
	tc-ppl -q --ids ids --window 64 --json "$1" | jq .ppl
}

@test "import, export and import give the same bytes" {
	for model in "$TINY/qwen2" "$TINY/llama" demo; do
		rm -rf out
		tc-import "$model" -o a.tc
		tc-export "$model" -o out
		tc-import out | cmp - a.tc
	done
	cmp out/config.json "$TC_ROOT/share/models/demo-16m/config.json"
	cmp out/tokenizer.json "$TC_ROOT/share/models/demo-16m/tokenizer.json"
	payloads out/model.safetensors >got
	payloads "$TC_ROOT/share/models/demo-16m/model.safetensors" | cmp - got
	! grep lm_head got || return 1
}

@test "a file, a pipe and a checkpoint are exported alike" {
	tc-import "$TINY/qwen2" -o a.tc
	tc-export a.tc -o map
	tc-export - -o file/ <a.tc
	cat a.tc | tc-export -o pipe
	tc-export "$TINY/qwen2" -o checkpoint
	for d in file pipe checkpoint; do
		diff -r map $d
	done
	[ "$(stat -c %a map)" = "$(mkdir plain; stat -c %a plain)" ]
	[ "$(stat -c %a map/config.json)" = "$(: >file.plain; stat -c %a file.plain)" ]
}

@test "a quantized model scores the same packed and exported" {
	ids 3 65 >ids
	for how in "--bits 4" "--bits 3 --group 32 --sym" "--bits 8 --fmin --embed same --head 8"; do
		for arch in qwen2 llama; do
			rm -rf out
			tc-quant -q "$TINY/$arch" $how -o q.tc
			tc-export q.tc -o out
			packed=$(ppl q.tc) dense=$(ppl out) plain=$(ppl "$TINY/$arch")
			near "$dense" "$packed" 1e-5
			! near "$plain" "$packed" 1e-5 || return 1
		done
	done
}

@test "the demo model, quantized, scores the same packed and exported" {
	tc-quant -q demo -o q.tc
	tc-export q.tc -o out
	packed=$(tc-ppl -q q.tc --max-tokens 2048 --json | jq .ppl)
	near "$(tc-ppl -q out --max-tokens 2048 --json | jq .ppl)" "$packed" 1e-5
	# Packed tensors became f32, the others are as they were.
	payloads out/model.safetensors >got
	[ "$(grep -c ' F32 ' got)" -eq 56 ]
	payloads "$TC_ROOT/share/models/demo-16m/model.safetensors" | grep norm >want
	grep norm got | cmp - want
}

@test "a type can be chosen; conversions round, and back they are exact" {
	tc-export demo --dtype f32 -o wide
	payloads wide/model.safetensors | awk '{ print $2 }' | sort -u | grep -qx F32
	tc-export wide --dtype bf16 -o back
	payloads back/model.safetensors >got
	payloads "$TC_ROOT/share/models/demo-16m/model.safetensors" | cmp - got
	tc-export demo --dtype f16 -o half
	"$PYTHON" - wide half <<-'END'
		import json, struct, sys
		def read(path):
		    data = open(path + "/model.safetensors", "rb").read()
		    n = 8 + struct.unpack("<Q", data[:8])[0]
		    return {k: data[n:][slice(*v["data_offsets"])] for k, v in json.loads(data[8:n]).items() if k != "__metadata__"}
		wide, half = (read(p) for p in sys.argv[1:])
		for name in "model.norm.weight", "model.layers.3.mlp.down_proj.weight":
		    x = struct.unpack("<%df" % (len(wide[name]) // 4), wide[name])
		    assert struct.pack("<%de" % len(x), *x) == half[name], name
	END
	fails 2 'f64: must be one of|f64' tc-export demo --dtype f64 -o never
}

@test "a weight that the type cannot hold is an error that names it" {
	damaged llama big 'struct.pack_into("<f", tensors["model.layers.1.mlp.up_proj.weight"][2], 40, -65520.0)'
	fails 65 "model.layers.1.mlp.up_proj.weight': element 10 is too large for f16" tc-export big --dtype f16 -o out
	[ ! -e out ]
	tc-export big --dtype bf16 -o out
	damaged llama bigger 'struct.pack_into("<f", tensors["model.norm.weight"][2], 8, 3.4e38)'
	fails 65 "model.norm.weight': element 2 is too large for bf16" tc-export bigger --dtype bf16 -o out2
	tc-export bigger -o out2
}

@test "odd numbers of 16-bit weights leave no hole and misalign nothing" {
	odd_model odd
	tc-export odd -o same
	tc-import odd | cmp - <(tc-import same)
	tc-quant -q odd --group 4 -o q.tc
	tc-export q.tc -o out
	payloads out/model.safetensors >got
	[ "$(grep -c ' F32 ' got)" -eq 14 ] && [ "$(grep -c ' BF16 ' got)" -eq 7 ] || return 1
	payloads odd/model.safetensors | grep BF16 | grep -E 'norm|embed|lm_head' >want
	grep BF16 got | cmp - want
	ids 2 17 7 >ids
	near "$(tc-ppl -q --ids ids --window 16 --json out | jq .ppl)" "$(tc-ppl -q --ids ids --window 16 --json q.tc | jq .ppl)" 1e-5
}

@test "statistics and tokens stay behind" {
	ids 2 16 >ids
	tc-calib "$TINY/llama" --ids ids | tc-export -o out
	[ "$(ls out)" = "$(printf '%s\n' config.json generation_config.json model.safetensors)" ]
	tc-import out | cmp - <(tc-import "$TINY/llama")
	tc-calib "$TINY/llama" --ids ids --stats-only -o stats.tc
	fails 65 'no weights' tc-export stats.tc -o none
	[ ! -e none ]
}

@test "a directory in use is not touched, an empty one is filled" {
	mkdir used empty
	echo kept >used/kept
	: >file
	fails 2 'used: exists and is not empty' tc-export "$TINY/llama" -o used
	fails 2 'file: exists and is not a directory' tc-export "$TINY/llama" -o file
	fails 2 'o DIR is missing' tc-export "$TINY/llama"
	fails 2 'standard output' tc-export "$TINY/llama" -o -
	[ "$(ls used)" = kept ] && [ ! -s file ] || return 1
	chmod 750 empty
	tc-export "$TINY/llama" -o empty
	[ "$(stat -c %a empty)" = 750 ]
	tc-import empty | cmp - <(tc-import "$TINY/llama")
	[ "$(ls -A | paste -sd ' ')" = 'empty fails.err fails.out file used' ]
}

@test "a stream that breaks off, or a full disk, leaves no directory" {
	tc-import "$TINY/llama" -o good.tc
	size=$(stat -c %s good.tc)
	mkdir out
	cd out
	for n in 700 $((size / 3)) $((size - 3000)) $((size - 1)); do
		fails 65 'input ended early' tc-export -o dir - < <(head -c "$n" ../good.tc)
	done
	flip ../good.tc $((size / 2)) >../flipped.tc
	fails 65 'damaged' tc-export ../flipped.tc -o dir
	fails 66 'empty: did the upstream stage fail' tc-export -o dir < <(:)
	(ulimit -f 100; fails 74 'File too large' tc-export ../good.tc -o dir)
	(ulimit -f 0; ! tc-export ../good.tc -o dir 2>/dev/null) || return 1
	[ "$(ls -A)" = "$(printf '%s\n' fails.err fails.out)" ]
}

@test "a whole stream that lacks tensors is refused" {
	tc-import "$TINY/llama" -o good.tc
	# Up to the final norm, then the end of a stream that says so.
	"$PYTHON" - good.tc <<-'END' >short.tc
		import msgpack, struct, sys, xxhash
		xxh3 = xxhash.xxh3_64_intdigest
		pack = msgpack.packb
		fixed = lambda n: struct.pack(">BQ", 0xCF, n)
		data = open(sys.argv[1], "rb").read()
		end = msgpack.unpackb(data[struct.unpack(">Q", data[-8:])[0]:])
		keep = next(i for i, e in enumerate(end["index"]) if e[0] == "model.norm.weight")
		cut = end["index"][keep][1]
		starts = [e[1] for e in end["index"][:keep + 1]]
		hashes = b"".join(data[s - 8:s][::-1] for s in starts)
		out = b"\x87" + pack("kind") + pack("end") + pack("records") + pack(keep + 1) + pack("hash") + fixed(xxh3(hashes))
		out += pack("index") + pack(end["index"][:keep]) + pack("inputs") + b"\x91" + fixed(end["inputs"][0])
		out += pack("check") + fixed(xxh3(out)) + pack("at") + fixed(cut)
		sys.stdout.buffer.write(data[:cut] + out)
	END
	tc-ls short.tc >/dev/null
	fails 65 "only 28 of the model's tensors" tc-export short.tc -o out
	[ ! -e out ]
}

@test "a signal leaves no directory" {
	tc-import "$TINY/llama" -o good.tc
	mkdir out
	for sig in TERM INT HUP; do
		# A stream that goes on, but never comes.
		mkfifo "fifo.$sig"
		exec 5<>"fifo.$sig"
		head -c 60000 good.tc >&5
		# Background jobs ignore SIGINT; this undoes it.
		env --default-signal tc-export -o out/dir - <&5 5<&- 3>&- &
		pid=$!
		for _ in $(seq 1000); do
			if compgen -G 'out/.dir.*/model.safetensors' >/dev/null; then break; fi
			sleep 0.02
		done
		compgen -G 'out/.dir.*/config.json'
		kill -s "$sig" $pid
		got=0; wait $pid || got=$?
		[ "$got" -eq $((128 + $(kill -l "$sig"))) ]
		[ -z "$(ls -A out)" ]
		exec 5>&-
	done
}

@test "without an operand, what is on standard input decides" {
	tc-export -o default </dev/null 2>err
	grep -q 'no model given: using the embedded demo-16m' err
	tc-import default | cmp - <(tc-import demo)
}
