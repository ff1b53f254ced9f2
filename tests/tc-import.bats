load lib

@test "a directory, a safetensors file and a stream give the same stream" {
	for arch in llama qwen2; do
		tc-import "$TINY/$arch" >dir.tc
		tc-import "$TINY/$arch/model.safetensors" -o file.tc
		tc-import dir.tc -o mapped.tc
		tc-import - <dir.tc >piped.tc
		cmp dir.tc file.tc && cmp dir.tc mapped.tc && cmp dir.tc piped.tc || return 1
		(cd "$TINY/$arch" && tc-import model.safetensors) | cmp - dir.tc
	done
}

@test "the tensors come in order, with names, roles and shapes; the tied head is a ref" {
	tc-import "$TINY/qwen2" -o q.tc
	records q.tc >heads
	[ "$(head -n 1 heads | jq -c '[.tied, .parameters, .steps[0][0]]')" = "[true,85104,\"tc-import\"]" ]
	[ "$(jq -r 'select(.kind == "tensor") | .name' heads | sed -n '1p;2p;3p;$p' | paste -sd ' ')" = \
	    "model.embed_tokens.weight model.layers.0.input_layernorm.weight model.layers.0.self_attn.q_proj.weight model.norm.weight" ]
	[ "$(tail -n 2 heads | head -n 1 | jq -c '[.kind, .role, .to]')" = '["ref","head","model.embed_tokens.weight"]' ]
	[ "$(jq -c 'select(.name == "model.layers.2.mlp.down_proj.weight") | [.role, .part, .block, .shape, .format]' heads)" = \
	    '["down","weight",2,[48,112],{"encoding":"dense","dtype":"f32"}]' ]
	tc-import "$TINY/llama" -o l.tc
	records l.tc >heads
	[ "$(tail -n 2 heads | head -n 1 | jq -c '[.kind, .name]')" = '["tensor","lm_head.weight"]' ]
	[ "$(head -n 1 heads | jq -c '[.tied, .parameters]')" = '[false,97872]' ]
}

@test "the embedded model keeps its bytes, and bf16 its type" {
	tc-import demo -o demo.tc
	records demo.tc >heads
	[ "$(jq -r 'select(.kind == "tensor") | .format.dtype' heads | sort -u)" = bf16 ]
	[ "$(jq -r 'select(.kind == "file") | .name' heads | head -n 1)" = tokenizer.json ]
	[ "$(jq -s '[.[] | select(.kind == "tensor") | .parts[0][1]] | add' heads)" -eq 31480576 ]
}

@test "payloads lie on 64-byte boundaries" {
	tc-import "$TINY/llama" -o l.tc
	"$PYTHON" - l.tc "$TINY/llama/model.safetensors" <<-'END'
		import json, struct, sys
		stream, file = (open(a, "rb").read() for a in sys.argv[1:])
		n = 8 + struct.unpack("<Q", file[:8])[0]
		head = json.loads(file[8:n])
		for name, t in head.items():
		    if name != "__metadata__":
		        at = stream.find(file[n:][slice(*t["data_offsets"])])
		        assert at > 0 and at % 64 == 0, (name, at)
	END
}

@test "shards with an index are one model, and must be what the index says" {
	damaged llama one ''
	mkdir two
	cp one/config.json two/
	"$PYTHON" - one/model.safetensors two <<-'END'
		import json, struct, sys
		data = open(sys.argv[1], "rb").read()
		n = 8 + struct.unpack("<Q", data[:8])[0]
		names = json.loads(data[8:n])
		index = {}
		for shard in (0, 1):
		    head, body = {}, b""
		    file = "model-0000%d-of-00002.safetensors" % (shard + 1)
		    for i, (name, t) in enumerate(names.items()):
		        if i % 2 == shard:
		            raw = data[n:][slice(*t["data_offsets"])]
		            head[name] = {**t, "data_offsets": [len(body), len(body) + len(raw)]}
		            body += raw
		            index[name] = file
		    head = json.dumps(head).encode()
		    open(sys.argv[2] + "/" + file, "wb").write(struct.pack("<Q", len(head)) + head + body)
		json.dump({"weight_map": index}, open(sys.argv[2] + "/model.safetensors.index.json", "w"))
	END
	tc-import one -o one.tc
	records one.tc | jq -c 'select(.kind == "tensor") | del(.at)' >one.heads
	tc-import two -o two.tc
	records two.tc | jq -c 'select(.kind == "tensor") | del(.at)' | cmp - one.heads
	ids 2 64 >ids.json
	[ "$(tc-ppl two --ids ids.json --json | jq .ppl)" = "$(tc-ppl one --ids ids.json --json | jq .ppl)" ]
	sed -i 's/model-00002-of/model-00009-of/' two/model.safetensors.index.json
	fails 66 'model-00009-of-00002' tc-import two
	sed -i 's/"model-00009-of[^"]*"/"..\/one\/model.safetensors"/' two/model.safetensors.index.json
	fails 65 'is not the name of a shard' tc-import two
	rm two/model.safetensors.index.json
	fails 66 'neither model.safetensors nor' tc-import two
}

@test "NaN and Inf are refused, tensor and element named" {
	damaged llama nan 'tensors["model.layers.1.mlp.up_proj.weight"][2][8:12] = struct.pack("<f", math.nan)'
	fails_midway 65 "model.layers.1.mlp.up_proj.weight.: element 2 is not a finite number" tc-import nan
	damaged qwen2 inf 'tensors["model.norm.weight"][2][-4:] = struct.pack("<f", -math.inf)'
	fails_midway 65 "model.norm.weight.: element 47 is not a finite number" tc-import inf
	fails 65 'not a finite number' tc-import nan -o nan.tc
	[ ! -e nan.tc ]
}

@test "missing, additional and misshapen tensors are refused by name" {
	damaged llama missing 'del tensors["model.layers.2.self_attn.o_proj.weight"]'
	fails 65 "model.layers.2.self_attn.o_proj.weight. is missing" tc-import missing
	damaged llama headless 'del tensors["lm_head.weight"]'
	fails 65 "lm_head.weight. is missing .*tie_word_embeddings" tc-import headless
	damaged qwen2 more 'tensors["model.layers.3.mlp.up_proj.weight"] = tensors["model.layers.2.mlp.up_proj.weight"]'
	fails 65 "model.layers.3.mlp.up_proj.weight. is unexpected" tc-import more
	damaged qwen2 turned 'tensors["model.layers.0.mlp.up_proj.weight"][1] = [48, 112]'
	fails 65 "model.layers.0.mlp.up_proj.weight.: has shape 48 x 112, config.json says 112 x 48" tc-import turned
	damaged qwen2 flat 'tensors["model.layers.0.mlp.up_proj.weight"][1] = [48 * 112]'
	fails 65 "has shape 5376, config.json says 112 x 48" tc-import flat
	damaged qwen2 untied 'tensors["lm_head.weight"] = ["F32", [320, 48], bytearray(320 * 48 * 4)]'
	fails 65 "lm_head.weight. is not 'model.embed_tokens.weight', but config.json says tie_word_embeddings" tc-import untied
	damaged llama ints 'tensors["model.norm.weight"][0] = "I32"'
	fails 65 'dtype I32 is not supported' tc-import ints
}

@test "a config that contradicts the tensors, or has what is not known, is refused" {
	damaged llama width 'config["hidden_size"] = 96'
	fails 65 'has shape .*, config.json says' tc-import width
	damaged llama layers 'config["num_hidden_layers"] = 4'
	fails 65 "model.layers.3.* is missing" tc-import layers
	damaged llama heads 'config["num_attention_heads"] = 5'
	fails 65 'num_attention_heads|has shape|multiple' tc-import heads
	damaged qwen2 key 'config["logit_softcapping"] = 30.0'
	fails 65 "config.json: 'logit_softcapping' is not known here and may change the numbers" tc-import key
	damaged qwen2 act 'config["hidden_act"] = "gelu"'
	fails 65 "hidden_act 'gelu' is not supported" tc-import act
	damaged qwen2 arch 'config["model_type"] = "mamba"'
	fails 65 "'mamba' is not supported" tc-import arch
	damaged llama rope 'config["rope_parameters"]["rope_type"] = "dynamic"'
	fails 65 "rope_type 'dynamic' is not supported" tc-import rope
	damaged llama window 'config["sliding_window"] = 64'
	fails 65 'sliding_window: a llama model has none' tc-import window
	damaged llama quantized 'config["quantization_config"] = {"quant_method": "gptq"}'
	fails 65 'already quantized' tc-import quantized
	damaged llama broken ''
	head -c 100 "$TINY/llama/config.json" >broken/config.json
	fails 65 'config.json: line' tc-import broken
}

@test "damaged safetensors files are refused" {
	damaged llama good ''
	for n in 4 500 $(($(stat -c %s good/model.safetensors) - 1)); do
		mkdir -p cut && cp good/config.json cut/
		head -c "$n" good/model.safetensors >cut/model.safetensors
		fails 65 'truncated|not a safetensors file' tc-import cut
	done
	printf '\xff\xff\xff\xff\xff\xff\xff\x7f{}' >cut/model.safetensors
	fails 65 'header' tc-import cut
	rm cut/model.safetensors
	fails 66 'neither model.safetensors nor' tc-import cut
	rm cut/config.json
	fails 66 'config.json' tc-import cut
}

@test "a stream cut at any record's border, or inside one, is refused" {
	tc-import "$TINY/qwen2" -o good.tc
	records good.tc | jq .at >borders
	[ "$(wc -l <borders)" -gt 30 ]
	while read -r at; do
		for n in "$at" $((at + 30)); do
			[ "$n" -gt 13 ] || continue
			head -c "$n" good.tc >cut.tc
			fails_midway 65 'input ended early' tc-import - <cut.tc
		done
	done <borders
}

@test "what is no whole stream is refused" {
	refuses_bad_streams tc-import
}

@test "the embedded model is the default, on a terminal too" {
	takes_default tc-import -o /dev/null
}

@test "output goes where it should, whole or not at all" {
	writes_well tc-import
}

@test "bad command lines" {
	fails 2 'unknown option' tc-import --bits 4 demo
	fails 2 'unknown option' tc-import --out x demo
	fails 2 'threads: 0: must be 1 to' tc-import --threads 0 demo
	fails 2 'threads: 257: must be 1 to 256' tc-import --threads 257 demo
	fails 2 'whole number' tc-import --threads 2x demo
	fails 2 . tc-import demo demo
	fails 2 . tc-import demo -o
	TC_CPU=quantum fails 2 quantum tc-import demo
	TC_THREADS=none fails 2 TC_THREADS tc-import demo
	[ ! -e x ]
}
