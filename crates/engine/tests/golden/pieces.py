"""Makes pieces.json: a small vocabulary that SentencePiece has trained, and its own encodings of tricky texts.

Run with the package sentencepiece: `python pieces.py > pieces.json`.
"""

import io
import json
import pathlib
import sys

import sentencepiece

HERE = pathlib.Path(__file__).parent
CORPUS = [case["text"] for case in json.loads((HERE / "tokenizer.json").read_text())["cases"]]
CORPUS += (HERE / "README.md").read_text().splitlines()
CORPUS += pathlib.Path(__file__).read_text().splitlines()
CORPUS += (HERE / "make.py").read_text().splitlines()

TEXTS = [
    "Hello world", " leading space", "two  spaces", "trailing ", "", " ", "   ", "line\nbreak\n\n", "tab\there",
    "naïve café", "中文字符", "🙂🙂", "a\u0301", "0123456789", "The model's logits", "x" * 40, "def f(x):\n    return x",
    "\u2581already", "mixed 中 and é and 🙂 end", "\x00\x01", "the the the the", "tokenizer.json", "(a) [b] {c} <d>",
] + CORPUS

out = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter([line for line in CORPUS if line.strip()]), model_writer=out, model_type="bpe",
    vocab_size=700, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
    character_coverage=0.98, minloglevel=2)
processor = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())


def kind(n):
    if processor.is_unknown(n):
        return 2
    if processor.is_control(n):
        return 3
    return 6 if processor.is_byte(n) else 1


count = processor.get_piece_size()
json.dump({
    "made_with": f"sentencepiece {sentencepiece.__version__}",
    "tokens": [processor.id_to_piece(n) for n in range(count)],
    "scores": [round(processor.get_score(n), 3) for n in range(count)],
    "kinds": [kind(n) for n in range(count)],
    "cases": [{"text": text, "ids": processor.encode(text)} for text in TEXTS if "\0" not in text],
}, sys.stdout)
