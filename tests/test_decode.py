"""The strategies on a toy model: what each writes, alone and in a batch; beams against brute force."""

import itertools
import math

import pytest
import torch
from toy_model import PROMPTS, Toy, run

from nanolm.decode import autoregressive
from nanolm.decode.base import DecodeConfig
from nanolm.decode.beam import Beam
from nanolm.decode.greedy import Greedy
from nanolm.decode.sample import Sample, draw
from nanolm.tokenizer.base import BOS, EOS

STRATEGIES = [
    Greedy(),
    Greedy(repetition_penalty=1.5, min_new_tokens=4),
    Sample(num_return_sequences=3),
    Sample(temperature=0.7, top_k=4, top_p=0.9, min_p=0.05, no_repeat_ngram_size=2),
    Sample(temperature=0),
    Beam(num_beams=4, num_return_sequences=3),
    Beam(num_beams=3, early_stopping=True, length_penalty=2.0, repetition_penalty=1.3),
    Beam(num_beams=3, early_stopping="never", max_new_tokens=5, no_repeat_ngram_size=2),
]


@pytest.mark.parametrize("config", STRATEGIES, ids=str)
def test_a_prompt_alone_and_in_a_batch_give_the_same(config: DecodeConfig) -> None:
    toy = Toy(eos=1.0)
    together = run(config, toy, PROMPTS)
    for i, (prompt, found) in enumerate(zip(PROMPTS, together, strict=True)):
        assert found == config.decode(toy, [prompt], 12, [(3, i)])[0]
        assert len(found) == config.num_return_sequences


@pytest.mark.parametrize("config", STRATEGIES, ids=str)
def test_what_every_hypothesis_keeps_to(config: DecodeConfig) -> None:
    toy = Toy(eos=1.0)
    for prompt, found in zip(PROMPTS, run(config, toy, PROMPTS), strict=True):
        limit = min(13 - len(prompt), config.max_new_tokens or 13)
        for one in found:
            assert one.finished == (one.ids[-1] == EOS)
            assert one.finished or len(one.ids) == limit
            assert config.min_new_tokens < len(one.ids) <= limit
            assert all(token > EOS for token in one.ids[:-1])
            assert one.ids[-1] >= EOS
            assert one.logprob == pytest.approx(toy.logprob(prompt, one.ids), abs=1e-4)


def first_streamed(config: DecodeConfig, toy: Toy, prompt: list[int], seed: tuple[int, ...]) -> list[int]:
    return [token for which, token in config.stream(toy, prompt, 12, seed) if which == 0]


@pytest.mark.parametrize("config", [c for c in STRATEGIES if not isinstance(c, Beam)], ids=str)
def test_streamed_ids_are_the_decoded_ones(config: DecodeConfig) -> None:
    toy = Toy(eos=1.0)
    assert first_streamed(config, toy, PROMPTS[0], (3, 0)) == run(config, toy, PROMPTS)[0][0].ids


def test_beam_streams_its_best_at_the_end() -> None:
    config = Beam(num_beams=3)
    assert first_streamed(config, Toy(), [BOS, 4], (0,)) == run(config, Toy(), [[BOS, 4]])[0][0].ids


def test_greedy_is_the_likeliest_token_each_time() -> None:
    toy, ids = Toy(eos=-9.0), [BOS, 4]
    for _ in range(6):
        scores = toy.logits(ids)
        scores[:EOS] = -math.inf
        ids.append(int(scores.argmax()))
    assert run(Greedy(max_new_tokens=6), toy, [[BOS, 4]])[0][0].ids == ids[2:]
    assert run(Sample(max_new_tokens=6, temperature=0), toy, [[BOS, 4]])[0][0].ids == ids[2:]
    for value in (1e-30, 1e-300):
        assert run(Sample(max_new_tokens=6, temperature=value), toy, [[BOS, 4]])[0][0].ids == ids[2:]
    assert min(run(Sample(max_new_tokens=6, temperature=1e300), toy, [[BOS, 4]])[0][0].ids) >= EOS
    assert run(Sample(max_new_tokens=6, top_k=1), toy, [[BOS, 4]])[0][0].ids == ids[2:]


@pytest.mark.parametrize("seed", range(5))
def test_one_beam_is_greedy(seed: int) -> None:
    toy = Toy(eos=1.0, seed=seed)
    greedy, beam = run(Greedy(), toy, PROMPTS), run(Beam(num_beams=1), toy, PROMPTS)
    assert [found[0].ids for found in greedy] == [found[0].ids for found in beam]


@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 1.0, 3.0])
def test_wide_beams_find_what_brute_force_finds(length_penalty: float) -> None:
    toy, prompt, limit, words = Toy(vocabulary=7), [BOS, 4], 4, (4, 5, 6)
    ended = [(*ids, EOS) for n in range(limit) for ids in itertools.product(words, repeat=n)]
    every = [*ended, *itertools.product(words, repeat=limit)]
    scores = sorted((toy.logprob(prompt, ids) / len(ids) ** length_penalty for ids in every), reverse=True)
    config = Beam(
        num_beams=128,
        num_return_sequences=128,
        length_penalty=length_penalty,
        early_stopping="never",
        max_new_tokens=limit,
    )
    found = run(config, toy, [prompt])[0]
    assert [one.score for one in found] == pytest.approx(scores, abs=1e-4)
    assert {tuple(one.ids) for one in found} == set(every)  # no more than are possible


def test_beams_that_a_stop_string_ends_are_those_of_brute_force() -> None:
    toy, prompt, limit, words = Toy(vocabulary=7), [BOS, 4], 4, (4, 5, 6)
    ended = {(*ids, EOS) for n in range(limit) for ids in itertools.product(words, repeat=n) if 5 not in ids}
    stopped = {(*ids, 5) for n in range(limit) for ids in itertools.product((4, 6), repeat=n)}
    every = ended | stopped | set(itertools.product((4, 6), repeat=limit))
    config = Beam(num_beams=64, num_return_sequences=64, early_stopping="never", max_new_tokens=limit)
    [found] = config.decode(toy, [prompt], 12, [(0,)], lambda which, new: new[-1] == 5)
    assert {tuple(one.ids) for one in found} == every
    assert all(one.finished == (one.ids[-1] in (EOS, 5)) for one in found)
    scores = sorted((toy.logprob(prompt, ids) / len(ids) for ids in every), reverse=True)
    assert [one.score for one in found] == pytest.approx(scores, abs=1e-4)
    narrow = Beam(num_beams=2, max_new_tokens=limit).decode(toy, [prompt, [BOS]], 12, [(0,), (0,)], lambda i, new: True)
    assert [len(found[0].ids) for found in narrow] == [1, 1]


@pytest.mark.parametrize("look", [1, 8])
def test_a_stop_string_ends_its_row_alone(look: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(autoregressive.LOOK, "cpu", look)
    toy, config = Toy(eos=-9.0), Sample(num_return_sequences=4)
    free = run(config, toy, PROMPTS)
    seeds = [(3, i) for i in range(len(PROMPTS))]
    stopping = config.decode(toy, PROMPTS, 12, seeds, lambda which, new: which % 2 == 0 and new[-1] == 5)
    for prompt, (found, whole) in enumerate(zip(stopping, free, strict=True)):
        for one, other in zip(found, whole, strict=True):
            size = other.ids.index(5) + 1 if prompt % 2 == 0 and 5 in other.ids else len(other.ids)
            assert one.ids == other.ids[:size]
            assert one.finished == (size < len(other.ids) or other.finished or (prompt % 2 == 0 and one.ids[-1] == 5))


def test_early_stopping_true_ends_sooner_and_never_is_at_least_as_good() -> None:
    reads, scores = {}, {}
    for stopping in (True, False, "never"):
        toy = Toy(vocabulary=30, eos=2.0)
        config = Beam(num_beams=3, early_stopping=stopping, length_penalty=1.0)
        scores[stopping] = [found[0].score for found in run(config, toy, PROMPTS, context=24)]
        reads[stopping] = toy.read
    assert reads[True] < reads[False] < reads["never"]
    assert all(never >= other - 1e-6 for other, never in zip(scores[False], scores["never"], strict=True))


def test_finished_rows_leave_the_batch_and_copies_share_the_reading() -> None:
    toy = Toy(vocabulary=30, eos=4.0)
    found = run(Sample(num_return_sequences=40), toy, [[BOS] + [5] * 20], context=60)[0]
    steps = max(len(one.ids) for one in found) - 1
    assert toy.read - 21 < 0.7 * 40 * steps
    assert len({tuple(one.ids) for one in found}) > 10


@pytest.mark.parametrize("config", [Greedy(), Sample(num_return_sequences=3)], ids=str)
def test_looking_at_the_device_less_often_changes_nothing(config: Greedy, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Toy(eos=2.0)
    often = run(config, toy, PROMPTS)
    monkeypatch.setitem(autoregressive.LOOK, "cpu", 5)
    assert run(config, toy, PROMPTS) == often
    assert first_streamed(config, toy, PROMPTS[0], (3, 0)) == often[0][0].ids


def test_sampling_follows_the_distribution() -> None:
    scores = torch.tensor([[0.0, 1.0, -math.inf, 2.0]])
    uniform = (torch.arange(10_000) + 0.5) / 10_000
    drawn = draw(scores.expand(10_000, 4), uniform).bincount(minlength=4) / 10_000
    assert drawn.tolist() == pytest.approx(scores.softmax(-1)[0].tolist(), abs=2e-4)
    ends = torch.tensor([0.0, 1 - 2**-24])
    assert draw(torch.tensor([[-math.inf, 3.0, 1.0, -math.inf]]).expand(2, 4), ends).tolist() == [1, 2]


def test_seeds_make_samples_and_only_they() -> None:
    toy, config = Toy(eos=-9.0), Sample(num_return_sequences=4)
    first, again = run(config, toy, PROMPTS), run(config, toy, PROMPTS)
    other = config.decode(toy, PROMPTS, 12, [(4, i) for i in range(len(PROMPTS))])
    assert first == again != other
    assert run(Sample(num_return_sequences=2), toy, PROMPTS)[0] == first[0][:2]
