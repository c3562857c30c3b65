"""Schedules, parameter groups, Muon's steps, and learning rates that hold from width to width."""

from copy import deepcopy as copy_of
from typing import Any

import pytest
import torch
from torch import Tensor

from nanolm import hardware
from nanolm.config import options
from nanolm.errors import ConfigError
from nanolm.model.config import ModelConfig
from nanolm.model.spelling import Pieces, pieces_of
from nanolm.model.transformer import Transformer
from nanolm.model.width import last_gain
from nanolm.optim.adam import Adam
from nanolm.optim.adamw import AdamW
from nanolm.optim.base import OptimConfig, lr_factor
from nanolm.optim.muon import Muon, MuonOptimizer
from nanolm.optim.orthogonal import MARGIN, POLAR, even_rows, orthogonalise

CONFIGS: list[OptimConfig] = [Adam(), AdamW(), Muon()]


def build(dims: int = 16, nblocks: int = 2, pieces: Pieces | None = None, **fields: Any) -> Transformer:
    torch.manual_seed(0)
    config = ModelConfig(dims=dims, heads=2, nblocks=nblocks, **fields)
    return Transformer(config, vocab_size=30, context=16, pieces=pieces)


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    ids = torch.randint(4, 30, (4, 17), generator=torch.Generator().manual_seed(seed))
    return ids[:, :-1], ids[:, 1:]


def train(model: Transformer, optimizer: Any, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        loss = model.loss(*batch()) / 64
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_schedules() -> None:
    def factors(**fields: Any) -> list[float]:
        return [lr_factor(OptimConfig(**fields), step, 100, 10) for step in range(101)]

    linear = factors(schedule="linear", warmup=10, final=0.1)
    assert linear[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert linear[10] == 1
    assert linear[55] == pytest.approx(0.55)
    assert linear[100] == pytest.approx(0.1)
    assert factors(schedule="linear", warmup=0.1, final=0.1) == linear
    cosine = factors(schedule="cosine", warmup=0)
    assert (cosine[0], cosine[50], cosine[100]) == pytest.approx((1, 0.5, 0))
    step = factors(schedule="step", warmup=0, step_every=5)
    assert (step[49], step[50], step[99], step[100]) == (1, 0.5, 0.5, 0.25)
    assert set(factors(schedule="constant", warmup=0)) == {1}


def test_the_options_of_the_group() -> None:
    assert set(options("optim")) == {"adam", "adamw", "muon"}
    assert Adam().lr == 1e-3


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"lr": 0.0}, "optim.lr=0.0: must be above 0"),
        ({"schedule": "cos"}, "optim.schedule=cos: must be one of linear, cosine, step, constant"),
        ({"clip": -1.0}, "optim.clip=-1.0: "),
        ({"momentum": 1.0}, "optim.momentum=1.0: "),
    ],
)
def test_a_wrong_knob_names_its_key(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        Muon(**fields)
    assert str(error.value).startswith(says)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_every_parameter_is_in_one_group_and_learns(config: OptimConfig, tied: bool) -> None:
    model = build(tied=tied, biases=True)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = config.build(model)
    grouped = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())
    assert all(group["lr"] == group["base_lr"] for group in optimizer.param_groups)
    losses = train(model, optimizer, 10)
    assert losses[-1] < losses[0] - 0.1
    assert all(not parameter.equal(before[name]) for name, parameter in model.named_parameters())


@pytest.mark.parametrize("config", [AdamW(), Muon()], ids=lambda config: config.name)
def test_only_matrices_decay(config: OptimConfig) -> None:
    model = build(tied=False, biases=True)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for group in config.build(model).param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert (group["weight_decay"] > 0) == (parameter.ndim == 2 and name != "embedding.weight"), name


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_a_restored_state_goes_on_bit_for_bit(config: OptimConfig) -> None:
    model, copy = build(), build()
    optimizer = config.build(model)
    train(model, optimizer, 3)
    copy.load_state_dict(model.state_dict())
    restored = config.build(copy)
    state = copy_of(optimizer.state_dict())
    assert all(isinstance(value, Tensor) for entry in state["state"].values() for value in entry.values())
    restored.load_state_dict(state)
    assert train(model, optimizer, 3) == train(copy, restored, 3)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_a_flag_skips_a_bad_step(config: OptimConfig) -> None:
    model, plain = build(), build()
    optimizer, other = config.build(model), config.build(plain)
    optimizer.found_inf = torch.zeros(())
    assert train(model, optimizer, 2) == train(plain, other, 2)
    before, state = copy_of(model.state_dict()), copy_of(optimizer.state_dict()["state"])
    (model.loss(*batch()) * torch.nan).backward()
    optimizer.found_inf = torch.ones(())
    optimizer.step()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    torch.testing.assert_close(optimizer.state_dict()["state"], state, rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 24, 60)])
def test_orthogonalise_brings_singular_values_near_one(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape)
    values = torch.linalg.svdvals(orthogonalise(x))
    assert values.max() < 1.3
    assert values.mean() == pytest.approx(1, abs=0.1)
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    assert torch.nn.functional.cosine_similarity(orthogonalise(x).flatten(1), (u @ v).flatten(1)).min() > 0.95


def test_a_wide_matrix_takes_the_steps_of_any_other() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 24, 60, dtype=torch.float64) * torch.logspace(0, -4, 60, dtype=torch.float64)
    step_by_step = x / (x.norm(dim=(1, 2), keepdim=True) * MARGIN + 1e-7)
    for a, b, c in POLAR:
        gram = step_by_step @ step_by_step.mT
        step_by_step = a * step_by_step + (b * gram + c * gram @ gram) @ step_by_step
    torch.testing.assert_close(orthogonalise(x), step_by_step)
    assert (orthogonalise(x.float()) - step_by_step).norm() < 0.01 * step_by_step.norm()


def test_stacked_maps_are_orthogonalised_one_by_one() -> None:
    torch.manual_seed(0)
    together, gradient = torch.nn.Parameter(torch.zeros(12, 8)), torch.randn(12, 8)
    apart = [torch.nn.Parameter(torch.zeros(rows, 8)) for rows in (8, 4)]
    together.grad = gradient
    for parameter, part in zip(apart, gradient.split([8, 4]), strict=True):
        parameter.grad = part.clone()
    common = {"lr": 0.1, "weight_decay": 0.0, "momentum": 0.9}
    how = ((0.9, 0.99), 1e-8)
    MuonOptimizer([{"params": [together], "parts": (8, 4), **common}], *how).step()
    groups = [{"params": [parameter], "parts": (len(parameter),), **common} for parameter in apart]
    MuonOptimizer(groups, *how).step()
    torch.testing.assert_close(together.detach(), torch.cat([parameter.detach() for parameter in apart]))


@pytest.mark.parametrize("kind", [AdamW, Muon])
def test_the_embedding_learns_at_its_own_share(kind: type[AdamW] | type[Muon]) -> None:
    model, config = build(spelling=10), kind(embedding_lr=2.5)
    groups = {id(weight): group["lr"] for group in config.build(model).param_groups for weight in group["params"]}
    assert groups[id(model.embedding.weight)] == pytest.approx(2.5 * config.lr)
    assert groups[id(model.get_parameter("norm.weight"))] == kind().lr * 256 / 16
    with pytest.raises(ConfigError, match=r"^optim\.embedding_lr=0\.0: "):
        kind(embedding_lr=0.0)


@pytest.mark.parametrize("spelling", [0, 10])
@pytest.mark.parametrize("kind", [AdamW, Muon])
def test_tokens_own_vectors_decay_where_they_are_spelt_too(kind: type[AdamW] | type[Muon], spelling: int) -> None:
    model = build(spelling=spelling, pieces=pieces_of(["ab"] * 30, spelling) if spelling else None)
    groups = kind(embedding_decay=4.0).build(model).param_groups
    decays = {id(weight): group["weight_decay"] for group in groups for weight in group["params"]}
    assert decays[id(model.embedding.weight)] == pytest.approx(0.4 if spelling else 0)


@pytest.mark.parametrize(("nblocks", "share"), [(2, 1.0), (4, 1.0), (8, 0.5)])
@pytest.mark.parametrize("kind", [AdamW, Muon])
def test_what_blocks_add_learns_slower_in_a_deep_model(
    kind: type[AdamW] | type[Muon], nblocks: int, share: float
) -> None:
    model = build(nblocks=nblocks)

    def learns(**fields: Any) -> dict[int, tuple[float, float]]:
        """The learning rate of each parameter, and what it loses in a step to weight decay."""
        found = {}
        for group in kind(**fields).build(model).param_groups:
            for weight in group["params"]:
                found[id(weight)] = group["lr"], group["lr"] * group["weight_decay"]
        return found

    scaled, plain = learns(), learns(depth_scaling=False)
    ends = {id(part.weight) for block in model.blocks for part in (block.attention.output, block.mlp.down)}
    assert len(plain) == len(list(model.parameters()))
    assert len(scaled) == len(plain)
    for one, (lr, pull) in plain.items():
        assert scaled[one] == pytest.approx((lr * (share if one in ends else 1), pull))


@pytest.mark.slow
@pytest.mark.parametrize("config", [AdamW(lr=2e-3), Muon(lr=2e-3)], ids=lambda config: config.name)
def test_steps_move_every_depth_alike(config: OptimConfig) -> None:
    moves = []
    for nblocks in (4, 8, 16):
        model = build(64, nblocks)
        hidden = model(batch()[0]).detach()
        train(model, config.build(model), 4)
        moves.append((model(batch()[0]).detach() - hidden).norm().item())
    assert max(moves) / min(moves) < 1.5, moves


def test_rows_are_brought_to_one_size_by_what_they_were() -> None:
    torch.manual_seed(0)
    change, squares, mean = torch.randn(4, 6) * torch.tensor([[1.0], [10], [0.1], [0]]), torch.zeros(4, 1), 0.0
    for _ in range(3):
        mean = 0.95 * mean + 0.05 * change.square().mean(1, keepdim=True)
        even = change * even_rows(change, squares, 0.05)
        torch.testing.assert_close(squares, mean)
    assert even.norm().item() == pytest.approx(change.norm().item())
    torch.testing.assert_close(even[:3].norm(dim=1), (change.norm() / 3**0.5).expand(3))
    assert not even[3].any()


def test_a_row_that_was_large_before_moves_less() -> None:
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    optimizer = MuonOptimizer(
        [{"params": [weight], "parts": (2,), "lr": 0.1, "weight_decay": 0.0, "momentum": 0.0, "row_beta2": 0.5}],
        (0.9, 0.99),
        1e-8,
    )
    optimizer.state[weight]["row_squares"][0] = 10.0
    weight.grad = torch.eye(2)
    optimizer.step()
    moved = weight.detach().norm(dim=1)
    assert moved[0] < 0.5 * moved[1]


@pytest.mark.parametrize("able", [True, False])
def test_fp32_is_fp32_on_every_machine(monkeypatch: pytest.MonkeyPatch, able: bool) -> None:
    monkeypatch.setattr(hardware, "cpu_has", lambda kind: able)
    assert Muon().build(build()).dtype is None  # type: ignore[attr-defined]
    low = Muon().build(build(), "bf16").dtype  # type: ignore[attr-defined]
    assert low == (torch.bfloat16 if able else None)


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("config", [AdamW(lr=4e-3), Muon(lr=4e-3)], ids=lambda config: config.name)
def test_a_step_moves_every_width_alike(config: OptimConfig, tied: bool) -> None:
    """The coordinate check of https://arxiv.org/abs/2203.03466: how far logits and hidden vectors move in 4 steps."""
    moves = []
    for dims in (128, 256, 512):
        move = torch.zeros(2)
        for seed in range(2):
            torch.manual_seed(seed)
            model = Transformer(ModelConfig(dims=dims, heads=4, nblocks=2, tied=tied), vocab_size=300, context=16)
            ids = torch.randint(4, 300, (16, 17), generator=torch.Generator().manual_seed(0))
            hidden = model(ids[:, :-1]).detach()
            logits, gain = model.logits(hidden), model.get_parameter(last_gain(model.config)).detach()
            optimizer = config.build(model)
            for _ in range(4):
                optimizer.zero_grad()
                (model.loss(ids[:, :-1], ids[:, 1:]) / 256).backward()
                optimizer.step()
            now = model(ids[:, :-1]).detach()
            move[0] += (model.logits(now) - logits).square().mean().sqrt()
            move[1] += ((now - hidden) / gain).square().mean().sqrt()
        moves.append(move / 2)
    table = torch.stack(moves)
    assert (table.amax(0) / table.amin(0)).max() < 1.5, table
