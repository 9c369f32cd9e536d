"""The official Ollama client finds what it expects: `python ollama_sdk.py URL`."""
import sys

import ollama

MODEL = "smollm2"
QUESTION = [{"role": "user", "content": "Say hello in one short sentence."}]
SHORT = {"num_predict": 8, "temperature": 0}


def shelf(client):
    models = {model.model: model for model in client.list().models}
    assert set(models) == {"smollm2:latest", "minilm:latest"}, models
    one = models["smollm2:latest"]
    assert one.size > 90e6 and len(one.digest) == 64 and one.modified_at.year > 2000, one
    assert (one.details.family, one.details.quantization_level) == ("llama", "Q4_1"), one.details
    shown = client.show(MODEL)
    assert shown.capabilities == ["completion"] and shown.details.parameter_size == "134.52M", shown
    assert shown.modelinfo["llama.context_length"] == 8192, shown.modelinfo
    assert client.show("minilm").capabilities == ["embedding"]


def chat(client):
    whole = client.chat(MODEL, QUESTION, options=SHORT)
    assert whole.message.role == "assistant" and whole.message.content.strip(), whole
    assert whole.done and whole.done_reason == "length" and whole.eval_count == 8, whole
    assert whole.total_duration > whole.eval_duration > 0 and whole.prompt_eval_count > 0, whole
    pieces = list(client.chat(MODEL, QUESTION, options=SHORT, stream=True))
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True], pieces
    assert "".join(piece.message.content for piece in pieces) == whole.message.content


def generate(client):
    whole = client.generate(MODEL, "Once upon a time", raw=True, options=SHORT)
    assert whole.response and whole.done_reason == "length", whole
    pieces = client.generate(MODEL, "Once upon a time", raw=True, options=SHORT, stream=True)
    assert "".join(piece.response for piece in pieces) == whole.response


def keep_alive(client):
    assert client.generate(MODEL, keep_alive="10m").done_reason == "load"
    (loaded,) = client.ps().models
    assert loaded.model == "smollm2:latest" and loaded.size > 1e6 and loaded.context_length == 8192, loaded
    assert loaded.expires_at is not None, loaded
    client.chat(MODEL, QUESTION, options={**SHORT, "num_ctx": 512}, keep_alive=-1)
    (loaded,) = client.ps().models
    assert (loaded.context_length, loaded.expires_at) == (512, None), loaded
    assert client.generate(MODEL, keep_alive=0).done_reason == "unload"
    assert not client.ps().models


def embed(client):
    texts = ["a cat sat on the mat", "a kitten lay on the rug", "income taxes rose again"]
    answer = client.embed("minilm", texts)
    assert [len(vector) for vector in answer.embeddings] == [384] * 3 and answer.prompt_eval_count > 0
    one = client.embeddings("minilm", texts[0]).embedding
    assert all(abs(a - b) < 1e-6 for a, b in zip(one, answer.embeddings[0]))


def errors(client):
    for call, status in [
        (lambda: client.chat("nobody", QUESTION), 404),
        (lambda: client.chat(MODEL, QUESTION, format="json"), 400),
        (lambda: client.embed(MODEL, "a chat model"), 400),
        (lambda: list(client.chat("nobody", QUESTION, stream=True)), 404),
    ]:
        try:
            call()
        except ollama.ResponseError as error:
            assert error.status_code == status and error.error, error
        else:
            raise AssertionError("it was not refused")


CHECKS = {check.__name__: check for check in (shelf, chat, generate, keep_alive, embed, errors)}

if __name__ == "__main__":
    url, name = sys.argv[1:]
    CHECKS[name](ollama.Client(host=url, timeout=60))
    print(name, "holds")
