"""Vectors of sentence-transformers itself for fifty texts: `python sentences.py MODELS_FOLDER`.

Sixteen-bit integers, so that the file stays small: a number is `n / 32767`, two bytes each, little-endian, in hexadecimal.
"""
import json
import struct
import sys
from pathlib import Path

import sentence_transformers
import torch
from sentence_transformers import SentenceTransformer, models

HERE, FOLDER = Path(__file__).parent, Path(sys.argv[1]) / "minilm"

TEXTS = [
    # Everyday sentences, near and far from one another.
    "The inn has twelve rooms and a fire in the hall.",
    "There are a dozen bedrooms and a warm lounge in the guest house.",
    "Rain is expected in the north until Thursday evening.",
    "She closed the ledger and put out the lamp.",
    "He shut the account book and turned off the light.",
    "Prices of copper rose by three percent after the strike.",
    "A small dog chased the postman down the lane.",
    "The postman was followed along the street by a little terrier.",
    "How do I get my money back for a cancelled booking?",
    "Where can I ask for a refund?",
    "My grandmother taught me to bake bread without a recipe.",
    "The committee will vote on the new budget next Monday.",
    "Turn left at the church and go on until the bridge.",
    "No vacancies tonight.",
    "Nobody came to the meeting, and nobody minded.",
    "The patient was given 250 mg of the medicine twice a day.",
    # Knowledge, science, law.
    "Water boils at a lower temperature on a high mountain.",
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.",
    "The defendant was found not guilty on all counts.",
    "Newton's second law: force equals mass times acceleration.",
    "A lease ends when the tenant hands back the keys.",
    "Mitochondria are the power stations of the cell.",
    "The treaty of 1648 ended thirty years of war.",
    "An operating system gives memory to processes and takes it back when they exit.",
    "When a process ends, the kernel reclaims every page that it held.",
    "Gradient descent follows the slope of the loss downwards.",
    # Code, markup, numbers, odd shapes.
    "fn main() { println!(\"Hello, world!\"); }",
    "SELECT name, COUNT(*) FROM guests WHERE nights > 2 GROUP BY name;",
    "for i in range(10): print(i ** 2)",
    "{\"room\": 7, \"guests\": [\"Ada\", \"Grace\"], \"paid\": true}",
    "<a href=\"/rooms/12?floor=2\">Room 12</a>",
    "3.14159265358979, -42, 1e-9, 0x1F, 10,000,000",
    "https://example.org/path?query=value#fragment",
    "ERROR 2026-11-23T14:02:31Z worker 4121 exited with signal 9",
    "a",
    "?!",
    "OK OK OK OK OK OK OK OK",
    "   leading, trailing   and\tinner\n\nspace   ",
    "UPPER CASE AND lower case AND MiXeD cAsE",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    # Other languages and scripts, accents, signs.
    "Der Gasthof hat zwölf Zimmer und einen Kamin in der Halle.",
    "L'auberge a douze chambres et une cheminée dans la salle.",
    "La posada tiene doce habitaciones y una chimenea.",
    "旅館には十二の部屋があります。",
    "В гостинице двенадцать комнат и камин в зале.",
    "naïve façade, Zürich, Ångström, smörgåsbord, piñata",
    "x² + y² = r², ∑ 1/n² = π²/6, a ≠ b",
    "Good night 🌙 and sleep well 😴",
    # Long ones: below the limit of 256 tokens, and beyond it.
    "The guests came in from the cold, one after another, and each was given a key, a candle and a word of welcome. " * 5,
    "Memory is lent and comes back; what is lent is written down, and what comes back is counted again. " * 30,
]
assert len(TEXTS) == 50

transformer = models.Transformer(str(FOLDER), max_seq_length=256)
pooling = models.Pooling(transformer.get_word_embedding_dimension(), pooling_mode="mean")
model = SentenceTransformer(modules=[transformer, pooling, models.Normalize()], device="cpu")
vectors = model.encode(TEXTS, batch_size=16)


def packed(vector):
    return struct.pack(f"<{len(vector)}h", *(round(float(x) * 32767) for x in vector)).hex()


oracle = f"sentence-transformers {sentence_transformers.__version__}, torch {torch.__version__}"
cases = [{"text": text, "vector": packed(vector)} for text, vector in zip(TEXTS, vectors)]
value = {"oracle": oracle, "cases": cases}
(HERE / "sentences.json").write_text(json.dumps(value, ensure_ascii=False, indent=0) + "\n")
print(oracle, len(cases), "texts")
