"""Looking inside: what is shown is exact. Shares sum to the logit, the last lens is the output, a part off is off."""

import csv
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import untrained
from tiny_model import ORIGINAL, VOCABULARY, build, ids
from tiny_run import tiny_config

from nanolm.cli.look import look
from nanolm.corpus.corpus import Encoded
from nanolm.errors import ConfigError, RunError
from nanolm.export.export import export
from nanolm.interpret.ablation import ablations, mean_outputs
from nanolm.interpret.attention import attention_weights
from nanolm.interpret.attribution import logit_attribution
from nanolm.interpret.embeddings import MAPS, nearest, principal_map
from nanolm.interpret.heads import head_scores, scores_of
from nanolm.interpret.lens import logit_lens, stream_scale
from nanolm.interpret.parts import Part, all_parts, collect_parts, replaced
from nanolm.runs.load import load_for_scoring
from nanolm.tokenizer.base import BOS, EOS
from nanolm.training.train import train

MODELS: list[dict[str, Any]] = [
    {},
    ORIGINAL,
    {"kv_heads": 1, "tied": False, "biases": True, "norm": "layer"},
    {"positions": "alibi", "attention_output": False, "mlp": "single"},
]
TEXT = [BOS, *ids(1, 9)[0].tolist()]


@pytest.mark.parametrize("pieces", MODELS, ids=str)
def test_the_last_lens_is_the_output(pieces: dict[str, Any]) -> None:
    model = build(pieces)
    lens = logit_lens(model, TEXT)
    with torch.no_grad():
        logprobs = model.logits(model(torch.tensor([TEXT])))[0, :-1].log_softmax(-1)
    true = logprobs[range(len(TEXT) - 1), TEXT[1:]]
    assert lens.probabilities.shape == (3, len(TEXT) - 1)
    torch.testing.assert_close(lens.probabilities[-1], true.exp())
    assert lens.likeliest[-1].tolist() == logprobs.argmax(-1).tolist()
    assert lens.ranks[-1].tolist() == [(row > x).sum().item() + 1 for row, x in zip(logprobs, true, strict=True)]
    if model.norm is not None:
        with torch.inference_mode():
            first = model.logits(model.norm(collect_parts(model, TEXT).stream[0]))[0].softmax(-1)
        assert float(lens.probabilities[0, 0]) == pytest.approx(float(first[TEXT[1]]))


@pytest.mark.parametrize("pieces", MODELS, ids=str)
def test_a_lens_tuned_by_norm_ends_in_the_output_too(pieces: dict[str, Any]) -> None:
    model = build(pieces)
    texts = [[BOS, *ids(1, size, seed=size)[0].tolist(), EOS] for size in (9, 5, 12)]
    scale = stream_scale(model, texts)
    plain, tuned = logit_lens(model, TEXT), logit_lens(model, TEXT, scale)
    assert torch.equal(tuned.probabilities[-1], plain.probabilities[-1])
    assert torch.equal(tuned.ranks[-1], plain.ranks[-1])
    assert not torch.allclose(tuned.probabilities[:-1], plain.probabilities[:-1])
    streams = torch.cat([collect_parts(model, text).stream[:, 1:] for text in texts], 1)
    moved = scale.tuned(streams)
    torch.testing.assert_close(moved.mean(1), streams[-1].mean(0).expand(3, -1))
    torch.testing.assert_close(moved.std(1), streams[-1].std(0).expand(3, -1))


@pytest.mark.parametrize("pieces", [one for one in MODELS if one is not ORIGINAL], ids=str)
def test_shares_sum_to_the_logit(pieces: dict[str, Any]) -> None:
    model = build(pieces)
    with torch.no_grad():
        logits = model.logits(model(torch.tensor([TEXT])))[0, -1]
    for token in (4, VOCABULARY - 1):
        shares = logit_attribution(model, TEXT, token)
        assert list(shares) == ["embedding", *map(str, all_parts(model)), "biases"]
        assert sum(shares.values()) == pytest.approx(float(logits[token]), abs=1e-5)


def test_shares_are_not_defined_where_norms_come_after() -> None:
    with pytest.raises(ConfigError, match=r"model\.norm_position=post"):
        logit_attribution(build(ORIGINAL), TEXT, 5)


@pytest.mark.parametrize("pieces", MODELS, ids=str)
def test_a_part_that_is_off_gives_nothing_and_comes_back(pieces: dict[str, Any]) -> None:
    model = build(pieces)
    before = collect_parts(model, TEXT)
    with replaced(model, Part(0, 2), None):
        off = collect_parts(model, TEXT)
    assert not off.heads[0, 2].any()
    torch.testing.assert_close(off.heads[0, :2], before.heads[0, :2])
    with replaced(model, Part(1), torch.full((model.config.dims,), 3.0)):
        assert (collect_parts(model, TEXT).mlps[1] == 3).all()
    torch.testing.assert_close(collect_parts(model, TEXT).stream, before.stream)


def test_ablations_are_scores_without_the_part() -> None:
    model = build({}).float()
    texts = [[BOS, *ids(1, size, seed=size)[0].tolist(), EOS] for size in (5, 30, 9)]
    encoded = Encoded(np.concatenate(texts).astype(np.uint16), np.cumsum([0, *map(len, texts)]))
    nbytes = np.array([20, 90, 40])
    whole, found = ablations(model, encoded, nbytes)
    assert [one.part for one in found] == all_parts(model)
    assert len({round(one.zeroed, 6) for one in found}) == len(found)
    with torch.no_grad():
        model.blocks[1].mlp.down.weight.zero_()  # type: ignore[union-attr]
    assert ablations(model, encoded, nbytes)[0] - whole == pytest.approx(found[-1].zeroed, abs=1e-5)
    means = mean_outputs(model, encoded)
    assert not means[Part(1)].any()  # it gives nothing now, so its mean is nothing
    again = {one.part: one for one in ablations(model, encoded, nbytes)[1]}
    assert again[Part(1)].zeroed == again[Part(1)].averaged == pytest.approx(0, abs=1e-6)


def test_means_are_over_the_tokens_that_are_read() -> None:
    model = build({})
    texts = [[BOS, 5, 6, EOS], [BOS, 7, 8, 9, 10, EOS]]
    encoded = Encoded(np.concatenate(texts).astype(np.uint16), np.array([0, 4, 10]))
    every = torch.cat([collect_parts(model, text[:-1]).mlps[1] for text in texts])
    torch.testing.assert_close(mean_outputs(model, encoded)[Part(1)], every.mean(0))


def test_scores_of_heads_that_are_known() -> None:
    size = 4
    tokens = 1 + 2 * size
    before, same, induction = np.zeros((3, tokens, tokens))
    for place in range(1, tokens):
        before[place, place - 1] = 1
        same[place, max(0, place - size)] = 1
        induction[place, max(0, place - size + 1)] = 1
    scores = scores_of(np.stack([[before, same, induction]]), size)
    assert scores[["layer", "head"]].to_numpy().tolist() == [[1, 1], [1, 2], [1, 3]]
    assert np.diag(scores[["previous", "duplicate", "induction"]].to_numpy()).tolist() == [1, 1, 1]
    assert scores["induction"][0] == 0
    assert head_scores(build({}).float()).shape == (8, 5)


def test_words_near_each_other() -> None:
    model = build({})
    with torch.no_grad():
        model.embedding.weight[7] = 2 * model.embedding.weight[5]
    (first, cosine), *others = nearest(model, 5)
    assert (first, cosine) == (7, pytest.approx(1))
    assert all(token > EOS for token, _ in others)
    points, share = principal_map(model, range(4, 20))
    assert points.shape == (16, 2)
    assert 0 < share < 1
    vectors = model.embedding.weight.detach()[4:20].float()
    spread = (vectors - vectors.mean(0)).square().sum()
    assert float(points.square().sum() / spread) == pytest.approx(share, abs=1e-4)


def test_maps_of_words(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build({})
    with torch.no_grad():  # two groups of words, far from each other
        model.embedding.weight[4:13, 0] += 30
        model.embedding.weight[13:22, 0] -= 30
    for kind in ("pca", "tsne"):
        points, about = MAPS[kind](model, range(4, 22))
        assert points.shape == (18, 2)
        assert kind == "pca" or "t-SNE" in about
        groups = points[:9].float(), points[9:].float()
        within = max(float(torch.cdist(group, group).mean()) for group in groups)
        assert within < float(torch.cdist(*groups).mean())
    assert torch.equal(MAPS["tsne"](model, range(4, 22))[0], MAPS["tsne"](model, range(4, 22))[0])
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ConfigError, match="map=umap: is not installed"):
        MAPS["umap"](model, range(4, 22))
    fake = types.ModuleType("umap")
    fake.UMAP = lambda **_: types.SimpleNamespace(fit_transform=lambda vectors: vectors[:, :2])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "umap", fake)
    assert torch.equal(MAPS["umap"](model, range(4, 22))[0], model.embedding.weight[4:22, :2].float())


def test_random_tokens_are_all_different() -> None:
    assert head_scores(build({}, context=256)).shape == (8, 5)  # of a vocabulary that holds fewer than 64


def test_a_text_written_twice_instead_of_random_tokens(tmp_path: Path) -> None:
    folder = tmp_path / "out" / "run"
    train(tiny_config(tmp_path), folder=folder)
    place = look(str(folder), "ada finds a ship", documents=0, repeat="text", outputs=tmp_path / "out")
    loaded = load_for_scoring(folder)
    text = loaded.tokenizer.encode("ada finds a ship")
    weights = attention_weights(loaded.model, [BOS, *text, *text])
    assert np.allclose(pd.read_csv(place / "heads.csv"), scores_of(weights, len(text)))
    assert not np.allclose(pd.read_csv(place / "heads.csv"), head_scores(loaded.model))
    with pytest.raises(ConfigError, match="repeat=twice"):
        look(str(folder), "ada finds a ship", repeat="twice")


def test_heads_over_the_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "out" / "run"
    train(tiny_config(tmp_path, keep_every=10), folder=folder)
    capsys.readouterr()
    place = look(str(folder), "ada finds a ship", documents=4, map="tsne", outputs=tmp_path / "out")
    assert not capsys.readouterr().err
    names = {"index.html", "heads.csv", "parts.csv", "heads_over_steps.csv", "heads_over_steps.png"}
    assert {file.name for file in place.iterdir()} == names
    scores = pd.read_csv(place / "heads_over_steps.csv")
    assert scores["step"].unique().tolist() == [0, 10, 20, 24]
    assert len(scores) == 4 * 4
    for step in (0, 24):
        model = load_for_scoring(folder, which=f"step-{step}").model
        own = scores[scores["step"] == step].drop(columns="step")
        assert np.allclose(own, head_scores(model))
    text = (place / "index.html").read_text()
    for title in ("Layer by layer: the plain lens", "Layer by layer: the lens tuned by norm", "When heads formed"):
        assert f"<h2>{title}</h2>" in text
    assert text.count("<svg") == 2
    assert text.count("data:image/png") == 1
    with pytest.raises(ConfigError, match="map=som: must be one of pca, tsne, umap"):
        look(str(folder), "ada", map="som", outputs=tmp_path / "out")


def test_the_verb_writes_a_page_and_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    untrained.run(tmp_path)
    folder = look("latest", "the </script> army general is sent", outputs=tmp_path / "out")
    assert {file.name for file in folder.iterdir()} == {"index.html", "heads.csv"}
    assert "no ablations, and no lens tuned by norm: " in capsys.readouterr().err  # an untrained run has no corpus
    text = (folder / "index.html").read_text()
    assert text.count("<script>") == 1
    assert "http" not in text.replace("http-equiv", "")
    with open(folder / "heads.csv", newline="") as file:
        assert len(list(csv.reader(file))) == 1 + 4
    with pytest.raises(ConfigError, match="prompt: must be given"):
        look("latest", None, outputs=tmp_path / "out")
    small = export(str(tmp_path / "out" / "run"), "int8", outputs=str(tmp_path / "out"))
    with pytest.raises(RunError, match="its weights are int8"):
        look(str(small), "the army", outputs=tmp_path / "out")
