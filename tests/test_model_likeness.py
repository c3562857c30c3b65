"""The model beside others: transformers' Llama, a compiled trunk, ALiBi's paper."""

import pytest
import torch
from tiny_model import VOCABULARY, build, ids
from torch import Tensor

from nanolm.errors import ConfigError
from nanolm.model.config import POSITIONS, ModelConfig
from nanolm.model.layers import Dropout
from nanolm.model.positions import WAYS, alibi_slopes
from nanolm.model.transformer import Transformer


def hugging_face(model: Transformer, ours: str) -> list[str]:
    """Their names of our parameter, in the order of its rows."""
    parts = {
        "embedding.weight": ["model.embed_tokens"],
        "norm.weight": ["model.norm"],
        "attention.qkv.weight": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        "attention.output.weight": ["self_attn.o_proj"],
        "attention.q_norm.weight": ["self_attn.q_norm"],
        "attention.k_norm.weight": ["self_attn.k_norm"],
        "attention_norm.weight": ["input_layernorm"],
        "mlp_norm.weight": ["post_attention_layernorm"],
        "mlp.up.weight": ["mlp.gate_proj", "mlp.up_proj"],
        "mlp.down.weight": ["mlp.down_proj"],
    }
    if not ours.startswith("blocks."):
        return [f"{name}.weight" for name in parts[ours]]
    _, block, rest = ours.split(".", 2)
    return [f"model.layers.{block}.{name}.weight" for name in parts[rest]]


@pytest.mark.slow
@pytest.mark.parametrize("qk_norm", [True, False], ids=["Qwen3", "Llama"])
@pytest.mark.parametrize("kv_heads", [None, 2])
def test_the_modern_arrangement_is_that_of_transformers(qk_norm: bool, kv_heads: int | None) -> None:
    transformers = pytest.importorskip("transformers")
    model = build({"qk_norm": qk_norm, "kv_heads": kv_heads}, dims=64, context=128).float()
    config = model.config
    kind = "Qwen3" if qk_norm else "Llama"
    theirs = getattr(transformers, f"{kind}ForCausalLM")(
        getattr(transformers, f"{kind}Config")(
            vocab_size=VOCABULARY,
            hidden_size=config.dims,
            intermediate_size=config.hidden_dims,
            num_hidden_layers=config.nblocks,
            num_attention_heads=config.heads,
            num_key_value_heads=config.key_heads,
            head_dim=config.head_dims,
            rms_norm_eps=1e-6,
            max_position_embeddings=128,
            tie_word_embeddings=True,
        )
    ).eval()
    weights: dict[str, torch.Tensor] = {}
    for name, parameter in model.state_dict().items():
        names = hugging_face(model, name)
        module = model.get_submodule(name.rsplit(".", 1)[0])
        rows = list(getattr(module, "parts", (len(parameter),)))
        weights |= dict(zip(names, parameter.split(rows), strict=True))
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert missing == ["lm_head.weight"]
    assert not unexpected
    text = ids(3, 128)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(model(text)), theirs(text).logits, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_compiled_trunk_gives_the_same_loss_and_gradient() -> None:
    model, text, targets = build({}).float(), ids(2, 12), ids(2, 12, seed=2)
    eager = model.loss(text, targets)
    expected = torch.autograd.grad(eager, list(model.parameters()))
    model.compile()
    compiled = model.loss(text, targets)
    torch.testing.assert_close(compiled, eager)
    torch.testing.assert_close(torch.autograd.grad(compiled, list(model.parameters())), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_compiled_dropout_draws_for_each_place_and_keeps_its_mask() -> None:
    dropout, x = Dropout(0.3).train(), torch.ones(100, 100, requires_grad=True)

    def twice(x: Tensor) -> tuple[Tensor, Tensor]:
        return dropout(x * 1.0), dropout(x * 2.0)

    first, second = torch.compile(twice, dynamic=True)(x)
    torch.testing.assert_close(torch.autograd.grad(first.sum() + second.sum(), x)[0], (first + second).detach())
    kept = [(out != 0).float() for out in (first, second)]
    shares = [share.mean().item() for share in (*kept, kept[0] * kept[1])]
    assert shares == pytest.approx([0.7, 0.7, 0.49], abs=0.03)


def test_alibi_is_the_bias_of_the_paper() -> None:
    """Slopes 1/4, 1/16 ... 2^-8 for four heads; between them for more (Press et al. 2022)."""
    assert alibi_slopes(4).tolist() == [1 / 4, 1 / 16, 1 / 64, 1 / 256]
    torch.testing.assert_close(alibi_slopes(6), torch.tensor([1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 2, 1 / 8]))
    model = build({"positions": "alibi"}, context=16)
    mask = model.positions.mask(torch.zeros(1, 2, 16), 4, None)
    assert mask is not None
    inf = torch.inf
    assert mask[0].tolist() == [[-2 / 4, -1 / 4, 0, -inf], [-3 / 4, -2 / 4, -1 / 4, 0]]
    assert mask[3, 1].tolist() == [-3 / 256, -2 / 256, -1 / 256, 0]


@pytest.mark.parametrize("positions", POSITIONS)
def test_only_the_mask_tells_the_order_without_positions(positions: str) -> None:
    """With one block, swapping earlier tokens changes what the last one sees, but not with positions=none."""
    torch.manual_seed(0)
    model = Transformer(ModelConfig(dims=16, heads=4, nblocks=1, positions=positions), VOCABULARY, 16).double().eval()
    text = torch.tensor([[5, 9, 7, 4]])
    swapped = text[:, [1, 0, 2, 3]]
    assert torch.allclose(model(text)[:, -1], model(swapped)[:, -1]) == (positions == "none")


def test_unknown_positions_are_an_error() -> None:
    config = ModelConfig(dims=16, heads=4)
    config.positions = "learned"
    with pytest.raises(
        ConfigError, match=r"^model\.positions=learned: must be one of rotary, sinusoidal, alibi, none$"
    ):
        Transformer(config, VOCABULARY, 16)
    assert tuple(WAYS) == POSITIONS
