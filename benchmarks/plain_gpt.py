"""A plain character GPT and its training loop, as nanoGPT's README describes its CPU recipe; the race's other runner.

In: a file of text and a folder. Out: the folder's plain.safetensors. The recipe: 4 layers, 4 heads, 128 dims, block 64,
batches of 12 random windows, 2,000 steps of AdamW from 1e-3 to 1e-4 by cosine after 100 steps of warm-up, beta2 0.99,
no dropout; every 250 steps both losses are estimated on 20 batches. The last tenth of the characters is val.
"""

import math
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

LAYERS, HEADS, DIMS, BLOCK, BATCH = 4, 4, 128, 64, 12
STEPS, WARMUP, HIGH, LOW = 2000, 100, 1e-3, 1e-4
EVAL_EVERY, EVAL_BATCHES = 250, 20


class Block(nn.Module):
    """Attention and MLP, each behind a norm and added to the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(DIMS, bias=False), nn.LayerNorm(DIMS, bias=False)
        self.qkv, self.out = nn.Linear(DIMS, 3 * DIMS, bias=False), nn.Linear(DIMS, DIMS, bias=False)
        self.up, self.down = nn.Linear(DIMS, 4 * DIMS, bias=False), nn.Linear(4 * DIMS, DIMS, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, DIMS) -> (B, T, DIMS)."""
        rows, length, _ = x.shape
        query, key, value = self.qkv(self.norm1(x)).view(rows, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        read = F.scaled_dot_product_attention(query, key, value, is_causal=True)  # (B, HEADS, T, DIMS / HEADS)
        x = x + self.out(read.transpose(1, 2).reshape(rows, length, DIMS))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class PlainGPT(nn.Module):
    """Learnt positions, tied output, GPT-2's initialisation."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, DIMS), nn.Embedding(BLOCK, DIMS)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(DIMS, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                is_last = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * LAYERS) if is_last else 0.02)

    def nats(self, ids: Tensor, targets: Tensor) -> Tensor:
        """ids, targets (B, T) -> (B, T)."""
        x = self.tokens(ids) + self.places.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = self.norm(x) @ self.tokens.weight.T
        return F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")


def encode(text: str) -> tuple[Tensor, list[str]]:
    """The ids of a text, and its characters by id."""
    known = sorted(set(text))
    table = {char: i for i, char in enumerate(known)}
    return torch.tensor([table[char] for char in text]), known


def windows(ids: Tensor, block: int, count: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """`count` random windows of `block` ids, and what follows each id."""
    starts = torch.randint(len(ids) - block, (count,), generator=chance)
    rows = torch.stack([ids[start : start + block + 1] for start in starts.tolist()])
    return rows[:, :-1], rows[:, 1:]


def learning_rate(step: int) -> float:
    """Warm-up, then half a cosine."""
    if step < WARMUP:
        return HIGH * (step + 1) / (WARMUP + 1)
    return LOW + (HIGH - LOW) * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP))) / 2


def train(text: str, steps: int = STEPS) -> PlainGPT:
    """The trained model; prints the losses as it goes."""
    torch.manual_seed(1337)
    chance = torch.Generator().manual_seed(1337)
    ids, known = encode(text)
    parts = {"train": ids[: int(len(ids) * 0.9)], "val": ids[int(len(ids) * 0.9) :]}
    model, begun = PlainGPT(len(known)), time.perf_counter()
    decayed = [weight for weight in model.parameters() if weight.dim() == 2]
    others = [weight for weight in model.parameters() if weight.dim() != 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, HIGH, (0.9, 0.99))
    for step in range(steps + 1):
        if step % EVAL_EVERY == 0:
            losses = {name: estimate(model, part, chance) for name, part in parts.items()}
            told = ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
            print(f"step {step}: {told}, {time.perf_counter() - begun:.0f} s", flush=True)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        model.nats(*windows(parts["train"], BLOCK, BATCH, chance)).mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return model


@torch.no_grad()
def estimate(model: nn.Module, ids: Tensor, chance: torch.Generator, batches: int = EVAL_BATCHES) -> float:
    """nanoGPT's estimate of a loss in nats: the mean over random windows of BLOCK."""
    return sum(model.nats(*windows(ids, BLOCK, BATCH, chance)).mean().item() for _ in range(batches)) / batches


if __name__ == "__main__":
    trained = train(Path(sys.argv[1]).read_text("utf-8"), int(sys.argv[3]) if sys.argv[3:] else STEPS)
    save_file(
        {name: weight.detach() for name, weight in trained.named_parameters()}, f"{sys.argv[2]}/plain.safetensors"
    )
