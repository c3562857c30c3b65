"""An exported folder in others' tools: lm-eval agrees on every text, TransformerLens and nnsight see the same.

Each test skips where its package is missing: extras `eval` (lm-eval) and `interp` (transformer-lens, nnsight).
"""

import importlib
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import untrained
from untrained import TEXTS

from nanolm.cli.benchmark import benchmark
from nanolm.export.export import export
from nanolm.generator import Generator, load
from nanolm.interpret.attention import attention_weights
from nanolm.interpret.lens import logit_lens
from nanolm.runs.run import Run
from nanolm.scoring.speller import Speller
from nanolm.text import normalise
from nanolm.tokenizer.base import BOS

PROMPT = "the army general is sent to the front"


@pytest.fixture(params=["word", "char", "bpe"])
def exported(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Generator]:
    """The folder of an untrained run, and the run itself."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    run = untrained.run(tmp_path, untrained.tokenizer(request.param), context=96)
    return export(str(run.folder), "hf", outputs=str(tmp_path / "out")), load(run.folder, precision="fp32")


def token_ids(generator: Generator, text: str) -> list[int]:
    return [BOS, *generator.tokenizer.encode(normalise(text, "clean"))]


@torch.inference_mode()
def log_probabilities(generator: Generator, ids: list[int]) -> torch.Tensor:
    """(T, V): of what follows each token."""
    return generator.model.logits(generator.model(torch.tensor([ids])))[0].log_softmax(-1)


@pytest.mark.slow
def test_tokenizers_survive_being_saved_by_transformers(exported: tuple[Path, Generator], tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("transformers").AutoTokenizer
    folder, generator = exported
    first = tokenizers.from_pretrained(folder)
    first.save_pretrained(tmp_path / "saved")
    again = tokenizers.from_pretrained(tmp_path / "saved")
    for text in [*TEXTS, "<EOS>", "", "a <BOS> b"]:
        assert again(text)["input_ids"] == first(text)["input_ids"] == token_ids(generator, text)
        assert again.decode(again(text)["input_ids"]) == first.decode(first(text)["input_ids"])
    assert (again.padding_side, again.model_max_length) == (first.padding_side, first.model_max_length)


@pytest.mark.slow
def test_lm_eval_measures_the_same_nats(exported: tuple[Path, Generator]) -> None:
    harness = pytest.importorskip("lm_eval.models.huggingface").HFLM
    instance = pytest.importorskip("lm_eval.api.instance").Instance
    folder, generator = exported
    judge = harness(pretrained=str(folder), add_bos_token=False, device="cpu", dtype="float32", batch_size=1)
    texts = [normalise(text, "clean") for text in TEXTS]
    asked = [instance("loglikelihood_rolling", {}, (text,), 0) for text in texts]
    for text, theirs in zip(texts, judge.loglikelihood_rolling(asked, disable_tqdm=True), strict=True):
        ids = token_ids(generator, text)
        assert len(ids) <= generator.model.context, "longer ones are cut into windows, which are not ours"
        ours = log_probabilities(generator, ids)[range(len(ids) - 1), ids[1:]].sum()
        assert theirs == pytest.approx(float(ours), abs=1e-4, rel=0)


TASK = """
task: pairs
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: ""
doc_to_choice: "{{{{[good, bad]}}}}"
doc_to_target: 0
target_delimiter: ""
metric_list: [{{metric: acc}}]
"""


@pytest.mark.slow
def test_lm_eval_chooses_the_same_text_of_every_pair(exported: tuple[Path, Generator], tmp_path: Path) -> None:
    harness = pytest.importorskip("lm_eval.models.huggingface").HFLM
    tasks, evaluator = pytest.importorskip("lm_eval.tasks"), pytest.importorskip("lm_eval.evaluator")
    folder, generator = exported
    chance, words = random.Random(0), [word for text in TEXTS for word in text.split()] + ["zorblax"]
    rows = [{part: " ".join(chance.choices(words, k=8)) for part in ("good", "bad")} for _ in range(300)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "pairs.yaml").write_text(TASK.format(file=tmp_path / "pairs.jsonl"))
    judge = harness(pretrained=str(folder), add_bos_token=False, device="cpu", dtype="float32", batch_size=16)
    given = tasks.TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False)
    done = evaluator.simple_evaluate(judge, tasks=["pairs"], task_manager=given, bootstrap_iters=0, verbosity="ERROR")
    theirs = sorted(done["samples"]["pairs"], key=lambda sample: sample["doc_id"])

    assert generator.run
    Speller(["quay"]).save(generator.run / "speller.json")
    Run.open(generator.run).list_files("speller.json")
    found = benchmark(str(generator.run), str(tmp_path / "pairs.jsonl"), tmp_path / "out")
    [table] = (tmp_path / "out" / "benchmarks").glob("*/pairs.csv")
    for sample, ours in zip(theirs, pd.read_csv(table).itertuples(), strict=True):
        nats = [-answer[0][0] for answer in sample["resps"]]
        np.testing.assert_allclose(nats, np.array([ours.good_tokens, ours.bad_tokens]) * math.log(2), atol=1e-3)
        assert sample["acc"] == (ours.good_tokens < ours.bad_tokens)
    assert done["results"]["pairs"]["acc,none"] == pytest.approx(found["tokens"][0])


@pytest.mark.slow
def test_transformer_lens_sees_the_same_logits_and_attention(exported: tuple[Path, Generator]) -> None:
    bridges = pytest.importorskip("transformer_lens.model_bridge").TransformerBridge
    folder, generator = exported
    bridge, ids = bridges.boot_transformers(str(folder)), token_ids(generator, PROMPT)
    bridge.cfg.default_prepend_bos = True  # else it takes the <BOS> off
    assert bridge.to_tokens(PROMPT).tolist() == [ids]
    logits, cache = bridge.run_with_cache(torch.tensor([ids]))
    np.testing.assert_allclose(logits[0].detach().log_softmax(-1), log_probabilities(generator, ids), atol=1e-4)
    for layer, pattern in enumerate(attention_weights(generator.model, ids)):
        theirs = cache[f"blocks.{layer}.attn.hook_pattern"][0].detach()
        np.testing.assert_allclose(theirs, pattern, atol=1e-4)

    lens = pytest.importorskip("transformer_lens.tools.analysis").logit_lens
    row = torch.tensor([ids])
    said = lens(bridge, row[:, :-1], positions=None, targets=row[:, 1:], return_type="probs")
    own = logit_lens(generator.model, ids)
    np.testing.assert_allclose(said.values.detach()[:, 0, :, 0], own.probabilities, atol=1e-4)
    assert (said.rank_trajectory()[:, 0] + 1).tolist() == own.ranks.tolist()


@pytest.mark.slow
def test_nnsight_traces_the_same_logits(exported: tuple[Path, Generator]) -> None:
    nnsight = pytest.importorskip("nnsight")
    if hasattr(object, "save"):  # which nnsight gives to all there is: onnx can't be exported after that
        importlib.import_module("nnsight._c").unmount("save")
    transformers: Any = pytest.importorskip("transformers")
    folder, generator = exported
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)  # which nnsight doesn't find by itself
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    model = nnsight.TransformersModel(plain, task="text-generation", tokenizer=tokenizer)
    streams, patterns = [], []
    with model.trace(PROMPT):
        streams.append(nnsight.save(model.model.embed_tokens.output))
        for layer in model.model.layers:
            patterns.append(nnsight.save(layer.self_attn.output[1]))
            streams.append(nnsight.save(layer.output))
        logits = nnsight.save(model.lm_head.output)
    ids = token_ids(generator, PROMPT)
    np.testing.assert_allclose(logits[0].detach().log_softmax(-1), log_probabilities(generator, ids), atol=1e-4)
    np.testing.assert_allclose(torch.cat(patterns).detach(), attention_weights(generator.model, ids), atol=1e-4)

    with torch.inference_mode():
        hidden = torch.stack([stream.reshape(len(ids), -1)[:-1] for stream in streams])
        theirs = plain.lm_head(plain.model.norm(hidden)).softmax(-1)  # (L + 1, T - 1, V)
    own, true = logit_lens(generator.model, ids), torch.tensor(ids[1:]).expand(len(theirs), -1)
    np.testing.assert_allclose(theirs.gather(-1, true[..., None])[..., 0], own.probabilities, atol=1e-4)
    assert theirs.argmax(-1).tolist() == own.likeliest.tolist()


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_a_pipeline_warns_of_nothing(exported: tuple[Path, Generator], caplog: pytest.LogCaptureFixture) -> None:
    transformers: Any = pytest.importorskip("transformers")
    folder, generator = exported
    transformers.utils.logging.enable_propagation()
    with caplog.at_level("WARNING"):
        write = transformers.pipeline("text-generation", str(folder), device="cpu")
        [[one], [two]] = write([PROMPT, "a dog"], max_new_tokens=5, do_sample=False)
    assert [(record.name, record.getMessage()) for record in caplog.records] == []
    assert one["generated_text"] == generator.generate(PROMPT, decode="greedy", max_new_tokens=5)
    assert two["generated_text"] == generator.generate("a dog", decode="greedy", max_new_tokens=5)
