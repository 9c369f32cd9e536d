"""Makes families.json: llama.cpp's logits of tiny random models, one for each family and way of scaling positions.

The weights come from a generator that src/models/llama/families.rs repeats, so no file has to be kept. Run with
llama-cpp-python: `python families.py > families.json`.
"""

import ctypes
import json
import os
import struct
import sys
import tempfile

import llama_cpp

HEADS, KV_HEADS, HEAD, FFN, LAYERS, VOCABULARY, CONTEXT = 4, 2, 16, 48, 7, 40, 256
TOKENS = [(7 * n * n + 3 * n + 1) % VOCABULARY for n in range(96)]
ASKED = [0, 5, 20, 47, 95]

CASES = {
    "llama": ("llama", {}),
    "llama linear": ("llama", {"type": "linear", "factor": 4.0}),
    "llama yarn": ("llama", {"type": "yarn", "factor": 4.0, "original": 64}),
    "llama factors": ("llama", {"factors": True}),
    "smollm3": ("smollm3", {}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "gemma3": ("gemma3", {}),
}


def width_of(family):
    """Where the family allows it, heads are wider in sum than the model."""
    return 32 if family in ("qwen3", "gemma3") else HEADS * HEAD


class Random:
    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (self.state >> 40) / (1 << 23) - 1.0

    def many(self, count, scale, middle=0.0):
        return [middle + scale * self.next() for _ in range(count)]


def text(s):
    return struct.pack("<Q", len(s)) + s.encode()


def tensors(family, options):
    random, width = Random(11), width_of(family)
    out = [("token_embd.weight", [width, VOCABULARY], random.many(width * VOCABULARY, 1.0))]
    out.append(("output.weight", [width, VOCABULARY], random.many(width * VOCABULARY, 0.5)))
    out.append(("output_norm.weight", [width], random.many(width, 0.3, 1.0)))
    if options.get("factors"):
        out.append(("rope_freqs.weight", [HEAD // 2], random.many(HEAD // 2, 1.0, 2.0)))
    q, kv = HEADS * HEAD, KV_HEADS * HEAD
    for layer in range(LAYERS):
        def put(name, shape, scale, middle=0.0):
            count = 1
            for n in shape:
                count *= n
            out.append((f"blk.{layer}.{name}", shape, random.many(count, scale, middle)))

        put("attn_norm.weight", [width], 0.3, 1.0)
        put("ffn_norm.weight", [width], 0.3, 1.0)
        put("attn_q.weight", [width, q], 0.4)
        put("attn_k.weight", [width, kv], 0.4)
        put("attn_v.weight", [width, kv], 0.4)
        put("attn_output.weight", [q, width], 0.2)
        put("ffn_gate.weight", [width, FFN], 0.3)
        put("ffn_up.weight", [width, FFN], 0.3)
        put("ffn_down.weight", [FFN, width], 0.2)
        if family == "qwen2":
            put("attn_q.bias", [q], 0.5)
            put("attn_k.bias", [kv], 0.5)
            put("attn_v.bias", [kv], 0.5)
        if family in ("qwen3", "gemma3"):
            put("attn_q_norm.weight", [HEAD], 0.3, 1.0)
            put("attn_k_norm.weight", [HEAD], 0.3, 1.0)
        if family == "gemma3":
            put("post_attention_norm.weight", [width], 0.3, 1.0)
            put("post_ffw_norm.weight", [width], 0.3, 1.0)
    return out


def file(family, options):
    keys = []

    def u32(key, n):
        keys.append(text(key) + struct.pack("<II", 4, n))

    def f32(key, x):
        keys.append(text(key) + struct.pack("<If", 6, x))

    def string(key, s):
        keys.append(text(key) + struct.pack("<I", 8) + text(s))

    string("general.architecture", family)
    string("tokenizer.ggml.model", "no_vocab")
    for key, n in [("block_count", LAYERS), ("context_length", CONTEXT), ("embedding_length", width_of(family)),
                   ("feed_forward_length", FFN), ("attention.head_count", HEADS),
                   ("attention.head_count_kv", KV_HEADS), ("attention.key_length", HEAD),
                   ("attention.value_length", HEAD), ("rope.dimension_count", HEAD), ("vocab_size", VOCABULARY)]:
        u32(f"{family}.{key}", n)
    f32(f"{family}.attention.layer_norm_rms_epsilon", 1e-6)
    f32(f"{family}.rope.freq_base", 1000000.0 if family == "gemma3" else 10000.0)
    if family == "gemma3":
        u32("gemma3.attention.sliding_window", 12)
    if "type" in options:
        string(f"{family}.rope.scaling.type", options["type"])
        f32(f"{family}.rope.scaling.factor", options["factor"])
    if "original" in options:
        u32(f"{family}.rope.scaling.original_context_length", options["original"])
    head, data, offset = b"", b"", 0
    made = tensors(family, options)
    for name, shape, values in made:
        head += text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", n) for n in shape)
        head += struct.pack("<IQ", 0, offset)
        raw = struct.pack(f"<{len(values)}f", *values)
        raw += b"\0" * (-len(raw) % 32)
        data += raw
        offset += len(raw)
    out = b"GGUF" + struct.pack("<IQQ", 3, len(made), len(keys)) + b"".join(keys) + head
    return out + b"\0" * (-len(out) % 32) + data


def logits(path):
    model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
    assert model, path
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_threads, params.n_threads_batch = CONTEXT, 128, 1, 1
    params.type_k = params.type_v = 0
    context = llama_cpp.llama_init_from_model(model, params)
    batch = llama_cpp.llama_batch_init(len(TOKENS), 0, 1)
    batch.n_tokens = len(TOKENS)
    for at, token in enumerate(TOKENS):
        batch.token[at], batch.pos[at], batch.n_seq_id[at], batch.logits[at] = token, at, 1, 1
        batch.seq_id[at][0] = 0
    assert llama_cpp.llama_decode(context, batch) == 0
    rows = [llama_cpp.llama_get_logits_ith(context, at) for at in ASKED]
    return [[round(row[n], 5) for n in range(VOCABULARY)] for row in rows]


made = []
for name, (family, options) in CASES.items():
    with tempfile.NamedTemporaryFile(suffix=".gguf", delete=False) as f:
        f.write(file(family, options))
    made.append({"name": name, "logits": logits(f.name)})
    os.unlink(f.name)
json.dump({"made_with": f"llama-cpp-python {llama_cpp.__version__}", "asked": ASKED, "cases": made}, sys.stdout)
