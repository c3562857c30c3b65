"""An exported folder in others' tools: lm-eval agrees on every text, TransformerLens and nnsight see the same.

Each test skips where its package is missing: extras `eval` (lm-eval) and `interp` (transformer-lens, nnsight).
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import untrained
from untrained import TEXTS

from nanolm.export.export import export
from nanolm.generator import Generator, load
from nanolm.interpret.attention import attention_weights
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
        assert theirs == pytest.approx(float(ours), abs=1e-4 * abs(float(ours)))


@pytest.mark.slow
def test_transformer_lens_sees_the_same_logits_and_attention(exported: tuple[Path, Generator]) -> None:
    bridges = pytest.importorskip("transformer_lens.model_bridge").TransformerBridge
    folder, generator = exported
    bridge, ids = bridges.boot_transformers(str(folder)), token_ids(generator, PROMPT)
    bridge.cfg.default_prepend_bos = True  # else it takes the <BOS> off
    assert bridge.to_tokens(PROMPT).tolist() == [ids]
    logits, cache = bridge.run_with_cache(torch.tensor([ids]))
    np.testing.assert_allclose(logits[0].detach().log_softmax(-1), log_probabilities(generator, ids), atol=1e-4)
    ours = attention_weights(generator.model, ids)
    for layer, pattern in enumerate(ours):
        theirs = cache[f"blocks.{layer}.attn.hook_pattern"][0].detach()
        np.testing.assert_allclose(theirs, pattern, atol=1e-4)


@pytest.mark.slow
def test_nnsight_traces_the_same_logits(exported: tuple[Path, Generator]) -> None:
    nnsight = pytest.importorskip("nnsight")
    transformers: Any = pytest.importorskip("transformers")
    folder, generator = exported
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = nnsight.LanguageModel(transformers.AutoModelForCausalLM.from_pretrained(folder), tokenizer=tokenizer)
    with model.trace(PROMPT):
        hidden = model.model.layers[0].output.save()
        logits = model.lm_head.output.save()
    ids = token_ids(generator, PROMPT)
    np.testing.assert_allclose(logits[0].detach().log_softmax(-1), log_probabilities(generator, ids), atol=1e-4)
    assert hidden.shape[-2:] == (len(ids), generator.model.config.dims)
