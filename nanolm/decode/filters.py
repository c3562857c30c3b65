"""Filters on next-token scores: pure functions (B, V) -> (B, V) that leave their input alone; -inf means never.

`scores` are logits or log-probabilities; `history` (B, T) holds the ids so far. Each equals the class of the same idea
in transformers. Only methods of tensors are used, so that the configs beside it import without torch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

NEVER = -math.inf
HEAD = 256  # among so many likeliest tokens the nucleus is looked for first


def repetition_penalty(scores: Tensor, history: Tensor, penalty: float) -> Tensor:
    """Divides positive scores of tokens seen before, multiplies negative ones. CTRL, https://arxiv.org/abs/1909.05858"""
    seen = scores.gather(1, history)
    return scores.scatter(1, history, (seen * penalty).where(seen < 0, seen / penalty))


def no_repeat_ngram(scores: Tensor, history: Tensor, size: int) -> Tensor:
    """Forbids what would complete an n-gram that is in the history. https://arxiv.org/abs/1705.04304, section 2.5"""
    length = history.shape[1]
    if length < size:
        return scores
    windows = history.unfold(1, size, 1)  # (B, length - size + 1, size)
    matches = (windows[..., :-1] == history[:, None, length + 1 - size :]).all(-1)
    counts = scores.new_zeros(scores.shape).scatter_add(1, windows[..., -1], matches.to(scores.dtype))
    return scores.masked_fill(counts > 0, NEVER)


def suppress(scores: Tensor, tokens: range) -> Tensor:
    """Forbids the tokens of a range of ids."""
    scores = scores.clone()
    scores[:, tokens.start : tokens.stop] = NEVER
    return scores


def unless_stuck(scores: Tensor, before: Tensor, token: int) -> Tensor:
    """Gives `token` the score it had `before` in those rows where every token is forbidden."""
    stuck = scores.amax(-1) == NEVER
    scores = scores.clone()
    scores[:, token] = before[:, token].where(stuck, scores[:, token])
    return scores


def temperature(scores: Tensor, value: float) -> Tensor:
    """Flatter above 1, sharper below; the best score becomes 0, so that no value of it overflows."""
    value = min(max(value, 1e-30), 1e30)  # beyond these, float32 has 0 and inf
    return (scores - scores.amax(-1, keepdim=True)) / value


def top_k(scores: Tensor, k: int) -> Tensor:
    """Keeps the k best tokens, and those that tie with the k-th. https://arxiv.org/abs/1805.04833"""
    kth = scores.topk(min(k, scores.shape[-1])).values[:, -1:]
    return scores.masked_fill(scores < kth, NEVER)


def top_p(scores: Tensor, p: float) -> Tensor:
    """Keeps the fewest tokens whose probabilities reach p: the nucleus. https://arxiv.org/abs/1904.09751"""
    total, vocabulary = scores.logsumexp(-1, keepdim=True), scores.shape[-1]
    sizes = (vocabulary,) if scores.is_cuda else (min(HEAD, vocabulary), vocabulary)  # a GPU would wait for the look
    for size in sizes:  # sorting everything takes ten times as long
        best = scores.topk(size).values
        likely = (best - total).exp()
        before = likely.cumsum(-1) - likely  # of all tokens that are likelier
        if size == vocabulary or bool((before[:, -1] >= p).all()):
            break
    least = best.masked_fill((before >= p) & (before > 0), math.inf).amin(-1, keepdim=True)
    return scores.masked_fill(scores < least, NEVER)


def min_p(scores: Tensor, p: float) -> Tensor:
    """Keeps the tokens at least p times as likely as the likeliest. https://arxiv.org/abs/2407.01082"""
    probabilities = scores.softmax(-1)
    return scores.masked_fill(probabilities < p * probabilities.amax(-1, keepdim=True), NEVER)
