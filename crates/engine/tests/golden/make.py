#!/usr/bin/env python3
"""Makes the golden files of this folder from independent implementations (see README.md).

Usage: make.py MODELS_FOLDER      (the folder with smollm2.gguf and minilm/)
"""
import ctypes
import json
import pathlib
import sys

import numpy as np

HERE = pathlib.Path(__file__).parent
MODELS = pathlib.Path(sys.argv[1])
TOKENS = 64

QUESTIONS = [
    "What is the capital of France?", "Write a haiku about rain.", "Explain gravity to a child.",
    "List three uses of copper.", "Translate 'good morning' into Spanish.", "What is 12 + 30?",
    "Who wrote Hamlet?", "Give me a recipe for pancakes.", "Why is the sky blue?",
    "What does HTTP stand for?", "Name the planets of the solar system.", "How do vaccines work?",
    "Tell me a short story about a fox.", "What is a prime number?", "Summarise the plot of Cinderella.",
    "How many days are in a leap year?", "What is photosynthesis?", "Write a Python function that reverses a list.",
    "What is the difference between a virus and a bacterium?", "Give a synonym for 'happy'.",
    "What is machine learning?", "How does a refrigerator work?", "What are the primary colours?",
    "Write an email that asks for a day off.", "What is the boiling point of water?",
]
TEXTS = [
    "The capital of Italy is", "Once upon a time there was a", "def fibonacci(n):\n    ", "The quick brown fox",
    "In 1969, the first human", "import numpy as np\n\n", "Water is made of", "SELECT name FROM users WHERE",
    "The three laws of motion are", "Dear Sir or Madam,\n\n", "1, 2, 3, 4, 5,", "<html>\n<head>\n",
    "It was the best of times, it was", "The mitochondria is the", "fn main() {\n    ", "Roses are red,\nviolets are",
    "A journey of a thousand miles", "The largest ocean on Earth is", "Bonjour, je m'appelle", "#include <stdio.h>\n\nint",
    "The recipe needs two eggs,", "Albert Einstein was born in", "To be, or not to be,", "The stock market",
    "{\"name\": \"Alice\", \"age\":", "Monday, Tuesday, Wednesday,", "The Great Wall of China", "Cats and dogs are",
    "In the beginning", "Chapter 1\n\n", "The temperature in July", "for i in range(10):\n    print(",
]
TRICKY = [
    "", " ", "  ", "   a", "a   ", "\n", "\n\n \n", "\t\tx", "Hello, world!", "hello  world", "12345", "1 2 3", "3.14159",
    "2024-11-23T10:00:00Z", "don't I'll we've he'd I'm you're it's", "DON'T", "naïve café", "日本語のテキスト", "مرحبا بالعالم",
    "🙂🙃 👩‍👩‍👧‍👦", "e\u0301 vs é", "Ⅷ ½ ٣", "x=1;y+=2//z", "def f(x):\n\treturn x**2\n", "    indented\n        more",
    "a" * 300, "ab" * 200, "!!!???...", "https://example.org/a?b=c&d=%20", "<|im_start|>user\nhi<|im_end|>\n",
    "text<|endoftext|>more", "<|im_start", "\u00a0nbsp", "\u200bzero", "\r\nwindows\r\n", "ÀÉÎÕÜ ß", "Привет, мир", "한국어 텍스트",
    "snake_case camelCase SCREAMING", "0x1F 1e-9 1_000", "“quotes” — dash…", "a\u0000b", "tab\tsep\tvalues", "C++ C# F#",
]
CONVERSATIONS = [
    [("user", "Hi")],
    [("system", "You are terse."), ("user", "What is 1+1?")],
    [("user", "Hello"), ("assistant", "Hi, how can I help?"), ("user", "Tell me\na joke")],
    [("system", "S"), ("user", "U"), ("assistant", "A"), ("user", "ü 🙂 <b>")],
]


def greedy():
    import llama_cpp
    from llama_cpp import Llama
    llm = Llama(str(MODELS / "smollm2.gguf"), n_ctx=1024, n_threads=1, n_threads_batch=1, verbose=False, use_mmap=True)
    n_vocab = llm.n_vocab()
    rendered = templates(llm)
    prompts = [{"text": chat([("user", q)], llm), "kind": "chat"} for q in QUESTIONS]
    prompts += [{"text": t, "kind": "text"} for t in TEXTS]
    cases = []
    for prompt in prompts:
        ids = llm.tokenize(prompt["text"].encode(), add_bos=False, special=True)
        llm.reset()
        llm.eval(ids)
        tokens, pieces, gaps, first = [], [], [], None
        for _ in range(TOKENS):
            pointer = llama_cpp.llama_get_logits_ith(llm.ctx, -1)
            logits = np.array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float * n_vocab)).contents)
            order = np.argsort(-logits, kind="stable")[:8]
            if first is None:
                first = [[int(i), round(float(logits[i]), 4)] for i in order]
            tokens.append(int(order[0]))
            gaps.append(round(float(logits[order[0]] - logits[order[1]]), 4))
            if tokens[-1] in (llm.token_eos(), 0):
                break
            pieces.append(llm._model.detokenize([tokens[-1]]).hex())
            llm.eval([tokens[-1]])
        cases.append({**prompt, "prompt_ids": ids, "tokens": tokens, "pieces": pieces, "gaps": gaps, "first_logits": first})
    write("greedy.json", {"oracle": f"llama-cpp-python {llama_cpp.__version__}", "cases": cases})
    ids = [{"text": t, "ids": llm.tokenize(t.encode(), add_bos=False, special=True)} for t in TRICKY]
    write("tokenizer.json", {"oracle": f"llama-cpp-python {llama_cpp.__version__}", "cases": ids})
    write("template.json", {"oracle": "jinja2", "cases": rendered})


def chat(turns, llm, generation=True):
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(llm.metadata["tokenizer.chat_template"])
    messages = [{"role": role, "content": content} for role, content in turns]
    return template.render(messages=messages, add_generation_prompt=generation, bos_token="<|im_start|>", eos_token="<|im_end|>")


def templates(llm):
    return [{"turns": turns, "text": chat(turns, llm)} for turns in CONVERSATIONS]


def embeddings():
    """all-MiniLM-L6-v2 in plain numpy: BERT, mean pooling over the mask, L2 norm."""
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer
    weights = {k.removeprefix("bert."): v.astype(np.float64) for k, v in load_file(str(MODELS / "minilm/model.safetensors")).items()
               if v.dtype.kind == "f"}
    config = json.loads((MODELS / "minilm/config.json").read_text())
    tokenizer = Tokenizer.from_file(str(MODELS / "minilm/tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    heads, eps = config["num_attention_heads"], config["layer_norm_eps"]
    from math import erf
    gelu = np.vectorize(lambda x: 0.5 * x * (1.0 + erf(x / 2 ** 0.5)))

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred ** 2).mean(-1, keepdims=True) + eps) * weights[name + ".weight"] + weights[name + ".bias"]

    def linear(x, name):
        return x @ weights[name + ".weight"].T + weights[name + ".bias"]

    def vector(text):
        ids = tokenizer.encode(text).ids
        x = (weights["embeddings.word_embeddings.weight"][ids] + weights["embeddings.position_embeddings.weight"][: len(ids)]
             + weights["embeddings.token_type_embeddings.weight"][0])
        x = norm(x, "embeddings.LayerNorm")
        for layer in range(config["num_hidden_layers"]):
            p = f"encoder.layer.{layer}."
            q, k, v = (linear(x, p + f"attention.self.{n}").reshape(len(ids), heads, -1).swapaxes(0, 1) for n in ("query", "key", "value"))
            scores = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            scores /= scores.sum(-1, keepdims=True)
            mixed = (scores @ v).swapaxes(0, 1).reshape(len(ids), -1)
            x = norm(linear(mixed, p + "attention.output.dense") + x, p + "attention.output.LayerNorm")
            x = norm(linear(gelu(linear(x, p + "intermediate.dense")), p + "output.dense") + x, p + "output.LayerNorm")
        mean = x.mean(0)
        return len(ids), mean / np.linalg.norm(mean)

    texts = ["Hello, world!", "A man is eating food.", "Someone has a meal.", "The stock market fell sharply today.", "x",
             "Quantum computers use qubits. " * 12, "naïve café 日本語 🙂", "    spaces   and\nlines  ", "word " * 400]
    cases = []
    for text in texts:
        tokens, v = vector(text)
        cases.append({"text": text, "tokens": tokens, "vector": [round(float(x), 6) for x in v]})
    write("embeddings.json", {"oracle": "numpy (float64), tokenizers", "cases": cases})


def write(name, value):
    (HERE / name).write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(name)


embeddings()
greedy()
