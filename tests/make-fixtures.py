#!/usr/bin/env python3
"""Makes tests/fixtures/arch/NAME: tiny random checkpoints of every architecture
and rope scaling, with the logits that PyTorch computes in double precision and
the gradients of the first sequence's mean NLL;
and tests/fixtures/bf16/NAME: copies of those and of tests/fixtures/tiny/NAME
with their weights rounded to bf16, and the logits of the rounded weights.

Run by hand (pip install torch transformers); the results are committed.
Use: tests/make-fixtures.py [NAME | bf16/NAME ...]"""
import json
import os
import sys

import torch
import transformers as tf
from safetensors.torch import load_file, save_file
from torch.overrides import TorchFunctionMode

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures")
ROOT = os.path.join(FIXTURES, "arch")
VOCAB, TOKENS = 96, 40

BASE = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=56, num_hidden_layers=3,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
            bos_token_id=1, eos_token_id=2, pad_token_id=None)


def rope(kind, **more):
    return dict(rope_type=kind, rope_theta=10000.0, **more)


def longrope(original):
    return rope("longrope", short_factor=[1.0, 1.1, 1.3, 1.5], long_factor=[1.5, 2.0, 3.0, 5.0],
                original_max_position_embeddings=original)


MODELS = {
    "mistral": (tf.MistralConfig, dict(sliding_window=12, head_dim=8)),
    "qwen2-window": (tf.Qwen2Config, dict(use_sliding_window=True, sliding_window=9, max_window_layers=1)),
    "qwen3": (tf.Qwen3Config, dict(head_dim=12, tie_word_embeddings=True)),
    "gemma3": (tf.Gemma3TextConfig, dict(
        head_dim=10, query_pre_attn_scalar=14, sliding_window=7, num_hidden_layers=4,
        layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
        rope_parameters={"full_attention": rope("linear", factor=8.0) | dict(rope_theta=1e6),
                         "sliding_attention": rope("default")})),
    "olmo2": (tf.Olmo2Config, dict()),
    "smollm3": (tf.SmolLM3Config, dict(num_hidden_layers=4, no_rope_layers=[1, 0, 1, 1], tie_word_embeddings=True)),
    "phi3": (tf.Phi3Config, dict(sliding_window=None)),
    "phi3-longrope-short": (tf.Phi3Config, dict(original_max_position_embeddings=48, rope_parameters=longrope(48))),
    "phi3-longrope-long": (tf.Phi3Config, dict(original_max_position_embeddings=16, rope_parameters=longrope(16))),
    "llama-linear": (tf.LlamaConfig, dict(rope_parameters=rope("linear", factor=4.0))),
    "llama-llama3": (tf.LlamaConfig, dict(rope_parameters=rope(
        "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32))),
    "llama-yarn": (tf.LlamaConfig, dict(rope_parameters=rope(
        "yarn", factor=4.0, original_max_position_embeddings=16))),
    "llama-bias": (tf.LlamaConfig, dict(attention_bias=True, mlp_bias=True)),
}

TINY = ["qwen2", "llama", "gemma2", "gpt2"]  # tests/fixtures/tiny, whose checkpoints are given


def make(name):
    kind, more = MODELS[name]
    config = kind(**{**BASE, **more})
    config._attn_implementation = "eager"
    torch.manual_seed(sum(map(ord, name)))
    model = tf.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Larger than usual, and norms away from 1, so that errors show.
            parameter.copy_(parameter + torch.randn_like(parameter) * (0.2 if parameter.dim() > 1 else 0.1))
    directory = os.path.join(ROOT, name)
    os.makedirs(directory, exist_ok=True)
    model.save_pretrained(directory)
    ids = torch.randint(0, VOCAB, (2, TOKENS))
    with torch.no_grad():
        logits = model.double()(ids).logits
    with AllDouble():
        loss = torch.nn.functional.cross_entropy(model(ids[:1]).logits[0, :-1], ids[0, 1:])
        loss.backward()
    gradients = {"grad." + n: p.grad.float().contiguous() for n, p in model.named_parameters()}
    save_file({"input_ids": ids.int(), "logits_f64": logits.contiguous(), **gradients},
              os.path.join(directory, "ref.safetensors"))
    extra = os.path.join(directory, "generation_config.json")
    if os.path.exists(extra):
        os.remove(extra)
    print(name, sum(p.numel() for p in model.parameters()), float(logits.abs().max()))


class AllDouble(TorchFunctionMode):
    """transformers computes norms, softmax and rope's angles in float32
    whatever the weights' type, which moves logits of tests/fixtures/tiny by up
    to 2e-5: within this those are double too."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        def wide(x):
            return torch.float64 if x is torch.float32 else x

        if function is torch.Tensor.float:
            function = torch.Tensor.double
        return function(*map(wide, args), **{k: wide(v) for k, v in (kwargs or {}).items()})


def round_weights(name):
    source = os.path.join(FIXTURES, "arch" if name in MODELS else "tiny", name)
    directory = os.path.join(FIXTURES, "bf16", name)
    os.makedirs(directory, exist_ok=True)
    weights = load_file(os.path.join(source, "model.safetensors"))
    save_file({k: w.bfloat16() for k, w in weights.items()}, os.path.join(directory, "model.safetensors"), {"format": "pt"})
    with open(os.path.join(source, "config.json")) as f:
        config = json.load(f)
    with open(os.path.join(directory, "config.json"), "w") as f:
        json.dump(config | {"dtype": "bfloat16"}, f, indent=2)
        f.write("\n")
    # As float32, which holds the rounded weights: only they are rounded, not
    # what a model computes when it is made.
    model = tf.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    # The beginning of one sequence is enough, and small.
    ids = load_file(os.path.join(source, "ref.safetensors"))["input_ids"][:1, :TOKENS].contiguous()
    with torch.no_grad(), AllDouble():
        logits = model.eval().double()(ids.long()).logits
    save_file({"input_ids": ids, "logits_f64": logits.contiguous()}, os.path.join(directory, "ref.safetensors"))
    print("bf16/" + name, float(logits.abs().max()))


for name in sys.argv[1:] or [*MODELS, *("bf16/" + n for n in [*TINY, *MODELS])]:
    if name.startswith("bf16/"):
        round_weights(name.removeprefix("bf16/"))
    else:
        make(name)
