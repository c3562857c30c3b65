"""Looking inside: what is shown is exact. Shares sum to the logit, the last lens is the output, a part off is off."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import untrained
from tiny_model import ORIGINAL, VOCABULARY, build, ids

from nanolm.cli.look import look
from nanolm.corpus.corpus import Encoded
from nanolm.errors import ConfigError, RunError
from nanolm.export.export import export
from nanolm.interpret.ablation import ablations, mean_outputs
from nanolm.interpret.attribution import logit_attribution
from nanolm.interpret.embeddings import nearest, principal_map
from nanolm.interpret.heads import head_scores, scores_of
from nanolm.interpret.lens import logit_lens
from nanolm.interpret.parts import Part, all_parts, collect_parts, replaced
from nanolm.tokenizer.base import BOS, EOS

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
    vectors = model.embedding.weight[4:20].float()
    spread = (vectors - vectors.mean(0)).square().sum()
    assert float(points.square().sum() / spread) == pytest.approx(share, abs=1e-4)


def test_the_verb_writes_a_page_and_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    untrained.run(tmp_path)
    folder = look("latest", "the </script> army general is sent", outputs=tmp_path / "out")
    assert {file.name for file in folder.iterdir()} == {"index.html", "heads.csv"}
    assert "no ablations: " in capsys.readouterr().err  # an untrained run has no corpus
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
