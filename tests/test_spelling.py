"""Embeddings that know how tokens are spelt: their pieces, the gradient, evaluation, and folding into a plain one."""

import zlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny_run import tiny_config

from nanolm.config import build
from nanolm.errors import ConfigError, RunError
from nanolm.files import write_json
from nanolm.model.config import ModelConfig
from nanolm.model.layers import Embedding
from nanolm.model.spelling import LENGTHS, SpelledEmbedding, pieces_of, spelt_means
from nanolm.model.transformer import Transformer
from nanolm.runs.find import find_run
from nanolm.runs.run import BEST, Run
from nanolm.runs.weights import read_weights, write_weights
from nanolm.training.setup import affordable
from nanolm.training.train import train

WORDS = ["<PAD>", "direct", "directed", "film", "x", "", "naïve", "\udc80"]


def spelled(rows: int = 500, dims: int = 4) -> SpelledEmbedding:
    torch.manual_seed(0)
    made = SpelledEmbedding(len(WORDS), dims, rows, pieces_of(WORDS, rows))
    torch.nn.init.normal_(made.spelling)
    return made


def of_word(index: int, rows: int = 500) -> list[int]:
    pieces = pieces_of(WORDS, rows)
    ends = [*pieces.starts.tolist()[1:], len(pieces.rows)]
    return pieces.rows[pieces.starts[index] : ends[index]].tolist()


def test_words_have_the_pieces_that_they_are_made_of() -> None:
    assert len(of_word(2)) == 8 + 7 + 6, "\x02directed\x03 has ten signs"
    assert set(of_word(1)) & set(of_word(2)) >= set(of_word(1)[:4]), "they begin alike"
    assert not set(of_word(3)) & set(of_word(2))
    assert [len(of_word(index)) for index in (4, 5)] == [1, 1], "a letter, and nothing"


def test_pieces_are_what_slices_and_crc32_say() -> None:
    words = [*WORDS, "😀漢é", "ß", "\x02a"]
    expected, starts = list[int](), list[int]()
    for word in words:
        marked = f"\x02{word}\x03"
        cut = [marked[at : at + size] for size in LENGTHS for at in range(len(marked) - size + 1)] or [marked]
        starts.append(len(expected))
        expected += [zlib.crc32(piece.encode("utf-8", "surrogatepass")) % 1000 for piece in cut]
    pieces = pieces_of(words, 1000)
    assert (pieces.rows.tolist(), pieces.starts.tolist()) == (expected, starts)


def test_a_token_is_its_own_vector_and_the_mean_of_its_pieces() -> None:
    made = spelled()
    for index in range(len(WORDS)):
        mean = made.spelling[of_word(index)].mean(0)
        torch.testing.assert_close(made(torch.tensor(index)), made.weight[index] + mean)


def test_the_gradient_is_that_of_plain_means() -> None:
    made, grad = spelled(rows=20), torch.randn(len(WORDS), 4)
    made.table().backward(grad)
    own = made.spelling.detach().clone().requires_grad_()
    torch.stack([own[of_word(index, 20)].mean(0) for index in range(len(WORDS))]).backward(grad)
    torch.testing.assert_close(made.spelling.grad, own.grad)
    torch.testing.assert_close(made.weight.grad, grad)


def test_evaluation_sees_what_was_learnt_since_the_last_one() -> None:
    made = spelled()
    for _ in range(2):
        with torch.no_grad():
            made.spelling.add_(1)
        expected = made.train().table().detach()
        assert made.eval().table().equal(expected)
        assert made.table() is made.table(), "made once"
        assert expected.equal(made.weight + spelt_means(made.spelling, WORDS))


def test_both_ends_of_a_tied_model_learn_from_spelling() -> None:
    torch.manual_seed(0)
    config = ModelConfig(dims=8, heads=2, nblocks=1, spelling=50)
    model = Transformer(config, len(WORDS), 8, pieces_of(WORDS, 50)).double()
    ids, targets = torch.tensor([[1, 2, 3]]), torch.tensor([[2, 3, 7]])
    rows = model.get_parameter("embedding.spelling")
    table = model.embedding.table()
    loss = F.cross_entropy(F.linear(model(ids, vectors=table[ids])[0], table), targets[0], reduction="sum")
    [expected] = torch.autograd.grad(loss, rows)
    model.loss(ids, targets).backward()
    torch.testing.assert_close(rows.grad, expected)
    model.eval()
    assert model.nats(ids, targets).sum().item() == pytest.approx(loss.item())
    assert model.summary()["tables"] == rows.numel()


@pytest.mark.usefixtures("no_curves")
def test_a_run_that_learnt_with_it_is_a_plain_model(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, model={"spelling": 300})
    train(config)
    run = Run.open(find_run("latest", config.outputs))
    stored, note = read_weights(run.folder / BEST)
    assert stored["embedding.spelling"].abs().max() > 0
    for which in ("best", "last"):
        model = run.model(which)
        assert type(model.embedding) is Embedding
        assert "embedding.spelling" not in model.state_dict()
    words = run.tokenizer().vocabulary
    mean = stored["embedding.spelling"][pieces_of(words[-1:], 300).rows].mean(0)
    torch.testing.assert_close(run.model().embedding.weight[-1], stored["embedding.weight"][-1] + mean)

    own = stored["embedding.spelling"]
    rounded = {name: tensor.to(torch.int8) if tensor.ndim == 2 else tensor for name, tensor in stored.items()}
    for odd in (stored | {"embedding.spelling": torch.zeros(299, 16)}, rounded | {"embedding.spelling": own}):
        write_weights(run.folder / BEST, odd, note)
        with pytest.raises(RunError, match="not those of the config"):
            run.model()
    write_weights(run.folder / BEST, stored | {"embedding.spelling": torch.zeros(0, 16)}, note)
    write_json(run.folder / "config.json", run.config | {"model": run.config["model"] | {"spelling": 0}})
    run.list_files("config.json")
    with pytest.raises(RunError, match="not those of the config"):
        Run.open(run.folder).model()


@pytest.mark.usefixtures("no_curves")
def test_characters_have_no_pieces_and_go_on_under_the_same_preset(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, model={"spelling": 300}, tokenizer=build("tokenizer", {"name": "char"}), epochs=1)
    train(config)
    folder = find_run("latest", config.outputs)
    assert Run.open(folder).config["model"]["spelling"] == 0
    again = replace(config, init=str(folder))
    assert train(again, ["model=tiny"], folder=tmp_path / "out" / "again") > 0


def test_tables_beyond_the_memory_are_named() -> None:
    config = ModelConfig(dims=4096, heads=2, nblocks=1, spelling=2**24, ngrams=2, ngram_rows=2**20)
    with pytest.raises(
        ConfigError, match=r"lower model\.dims or model\.nblocks or model\.ngram_rows or model\.spelling"
    ):
        affordable(config, 100, 16, "cpu")
