"""Decoding against transformers: the same filters, and over the same Llama the same tokens as `generate`."""

from typing import Any, Optional

import pytest
import torch
from torch import Tensor

from nanolm.decode import filters
from nanolm.decode.base import DecodeConfig, Hypothesis
from nanolm.decode.beam import Beam
from nanolm.decode.greedy import Greedy
from nanolm.decode.sample import Sample
from nanolm.tokenizer.base import BOS, EOS, PAD, UNK

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

CONTEXT, VOCABULARY = 24, 60
PROMPTS = [[BOS, 5, 4, 6, 9, 9, 5], [BOS], [BOS, 6, 6], [BOS, 4, 5, 4, 5, 4, 30, 31, 32, 5, 4]]


class Llama:
    """A tiny random Llama as a Stepper: every step reads all ids again."""

    device = torch.device("cpu")

    def __init__(self, seed: int, eos: float) -> None:
        torch.manual_seed(seed)
        config = transformers.LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT + 1,
            initializer_range=0.25,
            pad_token_id=PAD,
            bos_token_id=BOS,
            eos_token_id=EOS,
        )
        self.model = transformers.LlamaForCausalLM(config).eval()
        self.model.lm_head = torch.nn.Linear(32, VOCABULARY)
        self.model.lm_head.bias.data[EOS] = eos

    def new_cache(self, batch: int, starts: Optional[Tensor] = None) -> Any:
        return LlamaCache(starts if starts is not None else torch.zeros(batch, dtype=torch.long))

    @torch.no_grad()
    def step(self, ids: Tensor, cache: Any) -> Tensor:
        cache.ids = torch.cat([cache.ids, ids], 1)
        mask = torch.arange(cache.ids.shape[1]) >= cache.starts[:, None]
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        return self.model(input_ids=cache.ids, attention_mask=mask.long(), position_ids=positions).logits[:, -1]


class LlamaCache:
    def __init__(self, starts: Tensor) -> None:
        self.starts, self.ids = starts, torch.zeros(len(starts), 0, dtype=torch.long)

    def select(self, index: Tensor) -> None:
        self.starts, self.ids = self.starts[index], self.ids[index]


def theirs(llama: Llama, prompt: list[int], **fields: Any) -> tuple[list[list[int]], list[float]]:
    """The continuations by transformers, padding cut, and their scores."""
    out = llama.model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_length=CONTEXT + 1,
        suppress_tokens=[PAD, UNK, BOS],
        return_dict_in_generate=True,
        output_scores=True,
        **fields,
    )
    found = [ids[: ids.index(EOS) + 1] if EOS in ids else ids for ids in out.sequences[:, len(prompt) :].tolist()]
    scores = out.sequences_scores.tolist() if "sequences_scores" in out else []
    return [[token for token in ids if token != PAD] for ids in found], scores


def ours(llama: Llama, config: DecodeConfig) -> list[list[Hypothesis]]:
    return config.decode(llama, PROMPTS, CONTEXT, [(0, i) for i in range(len(PROMPTS))])


SHARED: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.4},
    {"no_repeat_ngram_size": 2},
    {"min_new_tokens": 12},
    {"repetition_penalty": 0.8, "no_repeat_ngram_size": 3, "min_new_tokens": 5},
]


@pytest.mark.parametrize("fields", SHARED, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_greedy_gives_the_same_tokens(seed: int, fields: dict[str, Any]) -> None:
    llama = Llama(seed, eos=1.0)
    for prompt, found in zip(PROMPTS, ours(llama, Greedy(**fields)), strict=True):
        assert [found[0].ids] == theirs(llama, prompt, **fields)[0]


BEAMS: list[dict[str, Any]] = [
    {"num_beams": 4},
    {"num_beams": 10, "num_return_sequences": 10},
    {"num_beams": 4, "early_stopping": True, "num_return_sequences": 2},
    {"num_beams": 4, "early_stopping": "never", "num_return_sequences": 4},
    {"num_beams": 4, "early_stopping": "never", "length_penalty": 2.0},
    {"num_beams": 4, "length_penalty": 0.0},
    {"num_beams": 4, "length_penalty": 2.0, "num_return_sequences": 4},
    {"num_beams": 4, "early_stopping": "never", "length_penalty": -1.0},
    {"num_beams": 3, "length_penalty": -0.5},
]


@pytest.mark.parametrize("shared", [SHARED[0], SHARED[-1]], ids=str)
@pytest.mark.parametrize("fields", BEAMS, ids=str)
@pytest.mark.parametrize("eos", [1.0, 4.0])
def test_beam_search_gives_the_same_tokens_and_scores(
    eos: float, fields: dict[str, Any], shared: dict[str, Any]
) -> None:
    llama = Llama(len(str(fields)), eos)
    for prompt, found in zip(PROMPTS, ours(llama, Beam(**fields, **shared)), strict=True):
        ids, scores = theirs(llama, prompt, **fields, **shared)
        assert [one.ids for one in found] == ids
        assert [one.score for one in found] == pytest.approx(scores, rel=1e-4)


WARPERS: list[tuple[Sample, list[Any]]] = [
    (Sample(temperature=0.6), [transformers.TemperatureLogitsWarper(0.6)]),
    (Sample(top_k=7), [transformers.TopKLogitsWarper(7)]),
    (Sample(top_k=1000), [transformers.TopKLogitsWarper(1000)]),
    (Sample(top_p=0.8), [transformers.TopPLogitsWarper(0.8)]),
    (Sample(top_p=0.0), [transformers.TopPLogitsWarper(0.0)]),
    (Sample(min_p=0.1), [transformers.MinPLogitsWarper(0.1)]),
    (Sample(min_p=1.0), [transformers.MinPLogitsWarper(1.0)]),
    (
        Sample(temperature=1.7, top_k=20, top_p=0.9, min_p=0.05),
        [
            transformers.TemperatureLogitsWarper(1.7),
            transformers.TopKLogitsWarper(20),
            transformers.TopPLogitsWarper(0.9),
            transformers.MinPLogitsWarper(0.05),
        ],
    ),
]


@pytest.mark.parametrize("vocabulary", [50, 2000])
@pytest.mark.parametrize(("config", "warpers"), WARPERS, ids=range(len(WARPERS)))
def test_sampling_filters_equal_theirs(config: Sample, warpers: list[Any], vocabulary: int) -> None:
    torch.manual_seed(0)
    scores = torch.randn(16, vocabulary) * torch.linspace(0.1, 4, 16)[:, None]
    scores[:, :3] = -torch.inf
    expected = scores
    for warper in warpers:
        expected = warper(None, expected)
    assert torch.allclose(config.warp(scores).softmax(-1), expected.softmax(-1), atol=1e-7)


def test_history_filters_equal_theirs() -> None:
    torch.manual_seed(0)
    scores, history = torch.randn(16, 12) * 3, torch.randint(0, 12, (16, 30))
    for penalty in (0.5, 1.3):
        expected = transformers.RepetitionPenaltyLogitsProcessor(penalty)(history, scores)
        assert filters.repetition_penalty(scores, history, penalty).equal(expected)
    for size in (1, 2, 3, 31):
        expected = transformers.NoRepeatNGramLogitsProcessor(size)(history, scores)
        assert filters.no_repeat_ngram(scores, history, size).equal(expected)
