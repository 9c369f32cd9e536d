"""What a scraper must find at /metrics, read with Prometheus's own OpenMetrics parser: metrics.py BASE_URL DASHBOARD.

Loads a model, uses it, unloads it, and looks each time. The dashboard may name no metric that is not there.
"""

import json
import re
import sys
import urllib.parse
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families

MODEL = "smollm2"

# Name, type, unit, and the labels that a series must have.
WANTED = [
    ("innkeeper_model_memory_bytes", "gauge", "bytes", {"model", "kind"}),
    ("innkeeper_model_state", "gauge", "", {"model", "state"}),
    ("innkeeper_loads", "counter", "", {"model", "result"}),
    ("innkeeper_unloads", "counter", "", {"model", "reason"}),
    ("innkeeper_load_duration_seconds", "histogram", "seconds", {"model"}),
    ("innkeeper_memory_returned_bytes", "counter", "bytes", {"model"}),
    ("innkeeper_memory_residual_bytes", "gauge", "bytes", {"model"}),
    ("innkeeper_cycle_residual_bytes", "gauge", "bytes", {"model"}),
    ("innkeeper_server_growth_bytes", "gauge", "bytes", set()),
    ("innkeeper_prediction_error_ratio", "gauge", "ratio", {"model", "at"}),
    ("innkeeper_requests", "counter", "", {"model", "outcome"}),
    ("innkeeper_requests_in_flight", "gauge", "", {"model"}),
    ("innkeeper_queue_depth", "gauge", "", {"model"}),
    ("innkeeper_time_to_first_token_seconds", "histogram", "seconds", {"model"}),
    ("innkeeper_time_per_output_token_seconds", "histogram", "seconds", {"model"}),
    ("innkeeper_tokens", "counter", "", {"model", "type"}),
    ("innkeeper_host_memory_available_bytes", "gauge", "bytes", set()),
    ("innkeeper_server_memory_bytes", "gauge", "bytes", set()),
    ("innkeeper_spare_worker_memory_bytes", "gauge", "bytes", set()),
    ("innkeeper_budget_bytes", "gauge", "bytes", {"kind"}),
    ("innkeeper_gpu_memory_used_bytes", "gauge", "bytes", {"gpu", "name"}),
    ("innkeeper_unaccounted_bytes", "gauge", "bytes", {"device"}),
]


def scrape(base):
    with urllib.request.urlopen(f"{base}/metrics") as answer:
        kind = answer.headers["content-type"]
        assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8", kind
        families = list(text_string_to_metric_families(answer.read().decode()))
    names = [family.name for family in families]
    assert len(names) == len(set(names)), names
    return {family.name: family for family in families}


def verb(base, name, **fields):
    body = urllib.parse.urlencode(fields).encode()
    with urllib.request.urlopen(f"{base}/manage/{name}", body) as answer:
        return json.load(answer)


def use(base):
    body = {"model": MODEL, "max_tokens": 8, "messages": [{"role": "user", "content": "Hello"}]}
    request = urllib.request.Request(
        f"{base}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["usage"]


def value(families, family, sample, **labels):
    found = [
        one.value
        for one in families[family].samples
        if one.name == sample and all(one.labels.get(key) == wanted for key, wanted in labels.items())
    ]
    assert len(found) == 1, (sample, labels, found)
    return found[0]


def every_name(families):
    for name, kind, unit, labels in WANTED:
        family = families[name]
        assert family.type == kind, (name, family.type)
        assert family.unit == unit, (name, family.unit)
        assert family.documentation, name
        for sample in family.samples:
            assert labels <= set(sample.labels), (sample, labels)
    unknown = set(families) - {name for name, *_ in WANTED}
    assert not unknown, f"not in this table: {unknown}"


def dashboard(scrapes, path):
    families = [family for scrape in scrapes for family in scrape.values()]
    samples = {sample.name for family in families for sample in family.samples}
    # A machine without a GPU has the family and no series of it.
    names = samples | {name for name, kind, *_ in WANTED if kind == "gauge"}
    with open(path, encoding="utf-8") as file:
        text = file.read()
    assert json.loads(text)["panels"], "a dashboard without panels"
    named = set(re.findall(r"innkeeper_[a-z_]+", text))
    assert len(named) > 10, named
    assert named <= names, f"the dashboard names what there is not: {named - names}"


def main():
    base, path = sys.argv[1:]
    verb(base, "load", model=MODEL)
    usage = use(base)
    loaded = scrape(base)
    every_name(loaded)
    private = value(loaded, "innkeeper_model_memory_bytes", "innkeeper_model_memory_bytes", model=MODEL, kind="private")
    assert private > 1 << 20, private
    assert value(loaded, "innkeeper_model_state", "innkeeper_model_state", model=MODEL, state="ready") == 1
    assert value(loaded, "innkeeper_loads", "innkeeper_loads_total", model=MODEL, result="ready") >= 1
    assert value(loaded, "innkeeper_requests", "innkeeper_requests_total", model=MODEL, outcome="done") >= 1
    made = value(loaded, "innkeeper_tokens", "innkeeper_tokens_total", model=MODEL, type="completion")
    assert made >= usage["completion_tokens"], (made, usage)
    seconds = "innkeeper_load_duration_seconds"
    assert 0 < value(loaded, seconds, f"{seconds}_sum", model=MODEL) < 60
    assert value(loaded, seconds, f"{seconds}_bucket", model=MODEL, le="+Inf") == value(
        loaded, seconds, f"{seconds}_count", model=MODEL
    )
    receipt = verb(base, "unload", model=MODEL)
    gone = scrape(base)
    left = [one for one in gone["innkeeper_model_memory_bytes"].samples if one.labels["model"] == MODEL]
    assert not left, f"series outlived their instance: {left}"
    assert value(gone, "innkeeper_model_state", "innkeeper_model_state", model=MODEL, state="unloaded") == 1
    back = value(gone, "innkeeper_memory_returned_bytes", "innkeeper_memory_returned_bytes_total", model=MODEL)
    assert back >= receipt["ram"]["returned_bytes"] > 0, (back, receipt)
    assert value(gone, "innkeeper_unloads", "innkeeper_unloads_total", model=MODEL, reason="asked") >= 1
    dashboard([loaded, gone], path)
    print("metrics holds")


main()
