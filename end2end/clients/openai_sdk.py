"""What the official Python SDK must find. One check a run: openai_sdk.py BASE_URL CHECK."""

import sys

import openai

MODEL = "smollm2"
QUESTION = [{"role": "user", "content": "Say hello in one short sentence."}]


def models(client):
    listed = [model.id for model in client.models.list()]
    assert MODEL in listed and "minilm" in listed, listed
    assert client.models.retrieve(MODEL).object == "model"


def chat(client):
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=12, temperature=0)
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and choice.message.content.strip(), answer
    assert choice.finish_reason in ("stop", "length"), choice
    assert answer.usage.completion_tokens <= 12, answer.usage
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens, answer.usage
    again = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=12, temperature=0)
    assert again.choices[0].message.content == choice.message.content, "greedy decoding is deterministic"


def stream(client):
    whole = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=16, temperature=0)
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=QUESTION,
            max_tokens=16,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content, (text, whole.choices[0].message.content)
    assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert reasons[-1] in ("stop", "length") and not any(reasons[:-1]), reasons
    assert not chunks[-1].choices and chunks[-1].usage.completion_tokens == whole.usage.completion_tokens, chunks[-1]
    assert len({chunk.id for chunk in chunks}) == 1


def completions(client):
    answer = client.completions.create(model=MODEL, prompt="The capital of France is", max_tokens=8, temperature=0)
    assert answer.choices[0].text.strip(), answer
    assert answer.usage.completion_tokens <= 8


def embeddings(client):
    texts = ["a cat sleeps on the sofa", "a kitten naps on the couch", "quarterly tax returns are due"]
    # The SDK asks for base64 unless told otherwise; both must give the same numbers.
    packed = client.embeddings.create(model="minilm", input=texts)
    plain = client.embeddings.create(model="minilm", input=texts, encoding_format="float")
    assert [item.index for item in packed.data] == [0, 1, 2]
    for one, other in zip(packed.data, plain.data):
        assert len(one.embedding) == 384
        assert all(abs(a - b) < 1e-6 for a, b in zip(one.embedding, other.embedding))
    cat, kitten, taxes = (item.embedding for item in plain.data)
    dot = lambda a, b: sum(x * y for x, y in zip(a, b))
    assert dot(cat, kitten) > dot(cat, taxes) + 0.3, (dot(cat, kitten), dot(cat, taxes))
    assert packed.usage.prompt_tokens > 0


def errors(client):
    def raises(kind, call):
        try:
            call()
        except kind as error:
            return error
        raise AssertionError(f"{kind.__name__} was expected")

    unknown = raises(
        openai.NotFoundError, lambda: client.chat.completions.create(model="nobody", messages=QUESTION)
    )
    assert unknown.body["message"] and unknown.request_id, (unknown.body, unknown.request_id)
    raises(
        openai.BadRequestError,
        lambda: client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=-3),
    )
    raises(openai.BadRequestError, lambda: client.embeddings.create(model=MODEL, input="a chat model"))
    raises(
        openai.BadRequestError,
        lambda: client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "long " * 20000}]),
    )
    raises(openai.NotFoundError, lambda: client.models.retrieve("nobody"))


CHECKS = {check.__name__: check for check in (models, chat, stream, completions, embeddings, errors)}

if __name__ == "__main__":
    base_url, name = sys.argv[1:]
    CHECKS[name](openai.OpenAI(base_url=base_url + "/v1", api_key="none", max_retries=0, timeout=60))
    print(name, "holds")
