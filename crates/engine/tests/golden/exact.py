#!/usr/bin/env python3
"""Makes exact.json: SmolLM2's logits in plain 32-bit floats over the values that the file's blocks stand for, so that nothing
is rounded but what 32 bits round (see README.md).

Usage: exact.py MODELS_FOLDER      (the folder with smollm2.gguf; greedy.json must be there)
"""
import json
import pathlib
import sys

import gguf
import numpy as np

HERE = pathlib.Path(__file__).parent
# So many of the best logits are kept of a row.
BEST = 4
# Of the answers of greedy.json these are computed; the long text is all prompts and answers, one after the other.
CASES = range(0, 57, 4)
LONG = 1500
# Rows of the long text that are kept.
KEPT = [*range(40, LONG, 73), LONG - 1]


class Model:
    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.tensors = {
            tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32) for tensor in reader.tensors
        }
        field = lambda name: reader.get_field(f"llama.{name}").contents()
        self.layers, self.width = field("block_count"), field("embedding_length")
        self.heads, self.groups = field("attention.head_count"), field("attention.head_count_kv")
        self.epsilon, self.base = field("attention.layer_norm_rms_epsilon"), field("rope.freq_base")
        self.head = self.width // self.heads

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(self.epsilon)) * self.tensors[name]

    def turn(self, x):
        """Pairs lie side by side: x is (rows, heads, width of a head)."""
        pairs = np.arange(self.head // 2)
        angles = np.arange(len(x))[:, None] * self.base ** (-2.0 * pairs / self.head)
        cos, sin = (f(angles)[:, None, :].astype(np.float32) for f in (np.cos, np.sin))
        out = np.empty_like(x)
        out[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
        out[..., 1::2] = x[..., 0::2] * sin + x[..., 1::2] * cos
        return out

    def attend(self, x, layer):
        weight = lambda name: self.tensors[f"blk.{layer}.{name}.weight"]
        rows = len(x)
        q = self.turn((x @ weight("attn_q").T).reshape(rows, self.heads, self.head))
        k = self.turn((x @ weight("attn_k").T).reshape(rows, self.groups, self.head))
        v = (x @ weight("attn_v").T).reshape(rows, self.groups, self.head)
        out = np.empty_like(q)
        hidden = np.triu(np.full((rows, rows), -np.inf, np.float32), 1)
        for head in range(self.heads):
            group = head // (self.heads // self.groups)
            scores = q[:, head] @ k[:, group].T / np.float32(np.sqrt(self.head)) + hidden
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            out[:, head] = weights / weights.sum(-1, keepdims=True) @ v[:, group]
        return out.reshape(rows, -1) @ weight("attn_output").T

    def logits(self, tokens, rows):
        """Of some rows of a text."""
        x = self.tensors["token_embd.weight"][tokens]
        for layer in range(self.layers):
            weight = lambda name: self.tensors[f"blk.{layer}.{name}.weight"]
            x = x + self.attend(self.norm(x, f"blk.{layer}.attn_norm.weight"), layer)
            y = self.norm(x, f"blk.{layer}.ffn_norm.weight")
            gate = y @ weight("ffn_gate").T
            x = x + (gate / (1 + np.exp(-gate)) * (y @ weight("ffn_up").T)) @ weight("ffn_down").T
        output = self.tensors.get("output.weight", self.tensors["token_embd.weight"])
        return self.norm(x[rows], "output_norm.weight") @ output.T


def best(row):
    ids = np.argsort(-row, kind="stable")[:BEST]
    return [[int(n) for n in ids], [round(float(row[n]), 4) for n in ids]]


def main():
    model = Model(pathlib.Path(sys.argv[1]) / "smollm2.gguf")
    golden = json.loads((HERE / "greedy.json").read_text())["cases"]
    cases = []
    for number in CASES:
        prompt, tokens = golden[number]["prompt_ids"], golden[number]["tokens"]
        rows = range(len(prompt) - 1, len(prompt) + len(tokens) - 1)
        cases.append({"number": number, "best": [best(row) for row in model.logits(prompt + tokens[:-1], rows)]})
    text = [token for case in golden for token in case["prompt_ids"] + case["tokens"]][:LONG]
    long = [[row, *best(logits)] for row, logits in zip(KEPT, model.logits(text, KEPT))]
    made = {"oracle": f"numpy {np.__version__}, gguf", "cases": cases, "length": LONG, "long": long}
    (HERE / "exact.json").write_text(json.dumps(made, separators=(",", ":")) + "\n")


main()
