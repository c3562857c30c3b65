"""Embeddings of the last tokens together: which row each run has, where a text begins, and what a model begins as."""

import pytest
import torch

from nanolm.errors import ConfigError
from nanolm.model.config import ModelConfig
from nanolm.model.ngrams import FACTORS, NOTHING, NGrams
from nanolm.model.transformer import Transformer


def test_each_run_has_a_row_in_the_table_of_its_length() -> None:
    torch.manual_seed(0)
    ngrams = NGrams(3, 50, 4)
    torch.nn.init.normal_(ngrams.tables)
    text = torch.tensor([[7, 1, 2, 3, 1, 2]])  # four tokens after two others
    found = ngrams(text)[0]
    for place in range(4):
        before_that, before, token = text[0, place : place + 3].tolist()
        pair = token * FACTORS[0] ^ before * FACTORS[1]
        triple = pair ^ before_that * FACTORS[2]
        assert found[place].equal(ngrams.tables[0, pair % 50] + ngrams.tables[1, triple % 50])


def test_order_counts_and_so_does_a_beginning() -> None:
    ngrams = NGrams(2, 1000, 1)
    ngrams.tables.data = torch.arange(1000.0).view(1, 1000, 1)
    rows = ngrams(torch.tensor([[NOTHING, 5, 6, 5, 6]])).flatten().tolist()
    assert len(set(rows)) == 3, "5 after nothing, 6 after 5, 5 after 6, 6 after 5"
    assert rows[1] == rows[3]


def test_a_model_begins_as_it_would_without_them_and_learns_their_rows() -> None:
    models = []
    for ngrams in (1, 3):
        torch.manual_seed(0)
        models.append(Transformer(ModelConfig(dims=16, heads=2, nblocks=1, ngrams=ngrams, ngram_rows=40), 20, 8))
    text = torch.tensor([[4, 5, 6, 7], [5, 6, 4, 4]])
    plain, having = (model.loss(text, text.roll(-1, 1)) for model in models)
    assert plain.equal(having)
    having.backward()
    tables = models[1].get_parameter("ngrams.tables")
    assert tables.grad is not None
    touched = (tables.grad != 0).any(-1).sum(1).tolist()
    assert all(1 < rows <= 8 for rows in touched)
    assert models[1].summary()["tables"] == 2 * 40 * 16


def test_bad_sizes_name_the_key() -> None:
    with pytest.raises(ConfigError, match=r"^model\.ngrams=0: "):
        ModelConfig(ngrams=0)
    with pytest.raises(ConfigError, match=r"^model\.ngram_rows=0: "):
        ModelConfig(ngrams=2, ngram_rows=0)
