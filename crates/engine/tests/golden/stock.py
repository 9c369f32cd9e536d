"""Makes stock.json: llama.cpp's logits of tiny random models of the families that candle's stock models serve.

Each case brings its keys and its tensors' shapes, so that src/models/stock/tests.rs makes the same file with the same
generator. Run with xllamacpp, whose library has llama.cpp's own functions in it: `python stock.py > stock.json`.
"""

import ctypes
import importlib.util
import json
import os
import struct
import sys
import tempfile

import xllamacpp

WIDTH, HEADS, KV_HEADS, HEAD, FFN, LAYERS, VOCABULARY, CONTEXT = 64, 4, 2, 16, 96, 4, 40, 256
TOKENS = [(7 * n * n + 3 * n + 1) % VOCABULARY for n in range(96)]
ASKED = [0, 5, 20, 47, 95]


def common(family, rope, **more):
    keys = {
        "block_count": LAYERS,
        "context_length": CONTEXT,
        "embedding_length": WIDTH,
        "feed_forward_length": FFN,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "rope.dimension_count": rope,
        "rope.freq_base": 10000.0,
        "vocab_size": VOCABULARY,
    } | more
    return {"general.architecture": family} | {f"{family}.{key}": value for key, value in keys.items()}


RMS = {"attention.layer_norm_rms_epsilon": 1e-5}
Q, KV = HEADS * HEAD, KV_HEADS * HEAD


def table(norm="output_norm", output=True):
    out = [("token_embd.weight", [WIDTH, VOCABULARY], 1.0, 0.0), (f"{norm}.weight", [WIDTH], 0.3, 1.0)]
    return out + [("output.weight", [WIDTH, VOCABULARY], 0.5, 0.0)] * output


def norms(*names):
    return [(f"{name}.weight", [WIDTH], 0.3, 1.0) for name in names]


def attention(biased):
    out = [(f"attn_{n}.weight", [WIDTH, size], 0.4, 0.0) for n, size in (("q", Q), ("k", KV), ("v", KV))]
    if biased:
        out += [(f"attn_{n}.bias", [size], 0.5, 0.0) for n, size in (("q", Q), ("k", KV), ("v", KV))]
    return out + [("attn_output.weight", [Q, WIDTH], 0.2, 0.0)]


def layers(of):
    return [(f"blk.{n}.{name}", *rest) for n in range(LAYERS) for name, *rest in of(n)]


def phi2(_):
    out = []
    for name, inner, outer, scale in [("attn_qkv", WIDTH, 3 * WIDTH, 0.4), ("attn_output", WIDTH, WIDTH, 0.2),
                                      ("ffn_up", WIDTH, FFN, 0.3), ("ffn_down", FFN, WIDTH, 0.2)]:
        out += [(f"{name}.weight", [inner, outer], scale, 0.0), (f"{name}.bias", [outer], 0.3, 0.0)]
    return out + norms("attn_norm") + [("attn_norm.bias", [WIDTH], 0.3, 0.0)]


def phi3(_):
    return norms("attn_norm", "ffn_norm") + [
        ("attn_qkv.weight", [WIDTH, Q + 2 * KV], 0.4, 0.0),
        ("attn_output.weight", [Q, WIDTH], 0.2, 0.0),
        ("ffn_up.weight", [WIDTH, 2 * FFN], 0.3, 0.0),
        ("ffn_down.weight", [FFN, WIDTH], 0.2, 0.0),
    ]


def glm4(biased):
    return lambda _: norms("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm") + attention(biased) + [
        ("ffn_up.weight", [WIDTH, 2 * FFN], 0.3, 0.0),
        ("ffn_down.weight", [FFN, WIDTH], 0.2, 0.0),
    ]


# Layers that attend have key-value heads, the others are short convolutions.
LFM2_HEADS = [0, KV_HEADS, 0, KV_HEADS]


def lfm2(n):
    out = norms("attn_norm", "ffn_norm") + [
        ("ffn_gate.weight", [WIDTH, FFN], 0.3, 0.0),
        ("ffn_up.weight", [WIDTH, FFN], 0.3, 0.0),
        ("ffn_down.weight", [FFN, WIDTH], 0.2, 0.0),
    ]
    if LFM2_HEADS[n]:
        return out + attention(False) + [(f"attn_{n}_norm.weight", [HEAD], 0.3, 1.0) for n in "qk"]
    return out + [
        ("shortconv.conv.weight", [3, WIDTH], 0.6, 0.0),
        ("shortconv.in_proj.weight", [WIDTH, 3 * WIDTH], 0.4, 0.0),
        ("shortconv.out_proj.weight", [WIDTH, WIDTH], 0.3, 0.0),
    ]


# Wide enough for blocks of 256 values: what our own decoder has no code for.
COARSE = 256


def coarse(biased):
    def of(_):
        out = [(f"{name}_norm.weight", [COARSE], 0.3, 1.0) for name in ("attn", "ffn")]
        for name, outer, kind in [("attn_q", COARSE, "Q2_K"), ("attn_k", COARSE // 2, "Q2_K"), ("attn_v", COARSE // 2, "Q3_K"),
                                  ("attn_output", COARSE, "Q3_K"), ("ffn_gate", COARSE, "Q2_K"), ("ffn_up", COARSE, "Q2_K"),
                                  ("ffn_down", COARSE, "Q3_K")]:
            out.append((f"{name}.weight", [COARSE, outer], kind, 0.0))
            if biased and name in ("attn_q", "attn_k", "attn_v"):
                out.append((f"{name}.bias", [outer], 0.5, 0.0))
        return out

    return [("token_embd.weight", [COARSE, VOCABULARY], 1.0, 0.0), ("output_norm.weight", [COARSE], 0.3, 1.0),
            ("output.weight", [COARSE, VOCABULARY], "Q3_K", 0.0)] + layers(of)


WIDE = {"embedding_length": COARSE, "feed_forward_length": COARSE, "rope.dimension_count": COARSE // HEADS} | RMS
BIASES = [("output_norm.bias", [WIDTH], 0.3, 0.0), ("output.bias", [VOCABULARY], 0.3, 0.0)]
LENGTHS = {"attention.key_length": HEAD, "attention.value_length": HEAD}
CASES = {
    "phi2": (common("phi2", 8, **{"attention.head_count_kv": HEADS, "attention.layer_norm_epsilon": 1e-5}),
             table() + BIASES + layers(phi2)),
    "phi3": (common("phi3", HEAD, **RMS), table() + layers(phi3)),
    "glm4": (common("glm4", HEAD // 2, **RMS, **LENGTHS), table() + layers(glm4(False))),
    "glm4 biases": (common("glm4", HEAD // 2, **RMS, **LENGTHS), table() + layers(glm4(True))),
    "lfm2": (common("lfm2", HEAD, **RMS, **{"attention.head_count_kv": LFM2_HEADS, "shortconv.l_cache": 3,
                                            "rope.freq_base": 1000000.0}),
             table("token_embd_norm", output=False) + layers(lfm2)),
    "llama coarse": (common("llama", 0, **WIDE), coarse(False)),
    "qwen2 coarse": (common("qwen2", 0, **WIDE), coarse(True)),
}

# Number of the type, bytes of a block of 256 values, and where in it the scales stand, with their values as 16-bit floats.
BLOCKS = {"Q2_K": (10, 84, {80: 0x1C00, 82: 0x2000}), "Q3_K": (11, 110, {108: 0x1000})}


class Random:
    def __init__(self, seed):
        self.state = seed

    def many(self, count, scale, middle):
        out = []
        for _ in range(count):
            self.state = (self.state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
            out.append(middle + scale * ((self.state >> 40) / (1 << 23) - 1.0))
        return out


    def blocks(self, count, kind):
        _, size, scales = BLOCKS[kind]
        out = bytearray()
        for _ in range(count // 256):
            block = bytearray(int(128 + 128 * x) for x in self.many(size, 1.0, 0.0))
            for at, scale in scales.items():
                block[at:at + 2] = struct.pack("<H", scale)
            out += block
        return bytes(out)


def text(s):
    return struct.pack("<Q", len(s.encode())) + s.encode()


def value(v):
    if isinstance(v, str):
        return struct.pack("<I", 8) + text(v)
    if isinstance(v, list) and isinstance(v[0], str):
        return struct.pack("<IIQ", 9, 8, len(v)) + b"".join(map(text, v))
    if isinstance(v, list) and isinstance(v[0], float):
        return struct.pack("<IIQ", 9, 6, len(v)) + struct.pack(f"<{len(v)}f", *v)
    if isinstance(v, list):
        return struct.pack("<IIQ", 9, 5, len(v)) + struct.pack(f"<{len(v)}i", *v)
    return struct.pack("<If", 6, v) if isinstance(v, float) else struct.pack("<II", 4, v)


def file(keys, tensors):
    keys = {"tokenizer.ggml.model": "no_vocab"} | keys
    random, head, data = Random(11), b"", b""
    for name, shape, scale, middle in tensors:
        count = 1
        for n in shape:
            count *= n
        head += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        kind = BLOCKS[scale][0] if scale in BLOCKS else 0
        head += struct.pack("<IQ", kind, len(data))
        data += random.blocks(count, scale) if kind else struct.pack(f"<{count}f", *random.many(count, scale, middle))
        data += b"\0" * (-len(data) % 32)
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    out += b"".join(text(key) + value(v) for key, v in keys.items()) + head
    return out + b"\0" * (-len(out) % 32) + data


class Parameters(ctypes.Structure):
    """More bytes than any of llama.cpp's structures of parameters has; only the numbers below are touched."""

    _fields_ = [("words", ctypes.c_int32 * 256)]


class Batch(ctypes.Structure):
    _fields_ = [("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)), ("embd", ctypes.c_void_p),
                ("pos", ctypes.POINTER(ctypes.c_int32)), ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
                ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))), ("logits", ctypes.POINTER(ctypes.c_int8))]


# Where they stand in the parameters of a context, in words, with their usual values.
N_CTX, THREADS, KINDS = (0, 512), ((7, 4), (8, 4)), ((26, 1), (27, 1))

folder = os.path.dirname(importlib.util.find_spec("xllamacpp").origin)
llama = ctypes.CDLL(os.path.join(folder, "xllamacpp.abi3.so"))
for name, result in [("llama_model_default_params", Parameters), ("llama_context_default_params", Parameters),
                     ("llama_model_load_from_file", ctypes.c_void_p), ("llama_init_from_model", ctypes.c_void_p),
                     ("llama_batch_init", Batch), ("llama_model_get_vocab", ctypes.c_void_p), ("llama_get_logits_ith", ctypes.POINTER(ctypes.c_float))]:
    getattr(llama, name).restype = result


def logits(path):
    model = ctypes.c_void_p(llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params()))
    assert model, path
    params = llama.llama_context_default_params()
    for (at, usual), mine in zip([N_CTX, *THREADS, *KINDS], [CONTEXT, 1, 1, 0, 0]):
        assert params.words[at] == usual, "another llama.cpp: look its parameters up"
        params.words[at] = mine
    context = ctypes.c_void_p(llama.llama_init_from_model(model, params))
    batch = llama.llama_batch_init(len(TOKENS), 0, 1)
    batch.n_tokens = len(TOKENS)
    for at, token in enumerate(TOKENS):
        batch.token[at], batch.pos[at], batch.n_seq_id[at], batch.logits[at] = token, at, 1, 1
        batch.seq_id[at][0] = 0
    assert llama.llama_decode(context, batch) == 0
    rows = [llama.llama_get_logits_ith(context, at) for at in ASKED]
    return [[round(row[n], 5) for n in range(VOCABULARY)] for row in rows]


# phi3's special tokens swallow the space after them, of which the file says nothing: llama.cpp goes by the model's name.
SPECIALS = ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>"]
TEXTS = ["<|user|>\nHello there<|end|>\n<|assistant|>\n", "<|user|>  the\t one <|end|> <|end|>word", "<|endoftext|>\nthe one",
         "the<s> the", "</s> \n the", "<|user|>\u00a0the", "the <|user|>", "<|end|>"]


def phi3_tokens():
    pieces = json.load(open(os.path.join(os.path.dirname(__file__), "pieces.json")))
    tokens, scores = pieces["tokens"] + SPECIALS, pieces["scores"] + [0.0] * len(SPECIALS)
    keys, tensors = CASES["phi3"]
    tensors = [(name, [WIDTH, len(tokens)] if VOCABULARY in shape else shape, *rest) for name, shape, *rest in tensors]
    keys = {key: n for key, n in keys.items() if not key.endswith("vocab_size")} | {
        "general.name": "Phi-3 of no size",
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [float(score) for score in scores],
        "tokenizer.ggml.token_type": pieces["kinds"] + [3] * len(SPECIALS),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    with tempfile.NamedTemporaryFile(suffix=".gguf", delete=False) as f:
        f.write(file(keys, tensors))
    model = ctypes.c_void_p(llama.llama_model_load_from_file(f.name.encode(), llama.llama_model_default_params()))
    os.unlink(f.name)
    vocabulary = ctypes.c_void_p(llama.llama_model_get_vocab(model))
    cases, ids = [], (ctypes.c_int32 * 256)()
    for words in TEXTS:
        raw = words.encode()
        count = llama.llama_tokenize(vocabulary, raw, len(raw), ids, 256, ctypes.c_bool(True), ctypes.c_bool(True))
        assert count > 0
        cases.append({"text": words, "ids": ids[:count]})
    return cases


made = []
for name, (keys, tensors) in CASES.items():
    with tempfile.NamedTemporaryFile(suffix=".gguf", delete=False) as f:
        f.write(file(keys, tensors))
    made.append({"name": name, "keys": keys, "tensors": tensors, "logits": logits(f.name)})
    os.unlink(f.name)
out = {"made_with": f"xllamacpp {xllamacpp.__version__}", "asked": ASKED, "specials": SPECIALS, "texts": phi3_tokens(), "cases": made}
json.dump(out, sys.stdout)
