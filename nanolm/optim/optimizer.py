"""Adam's step over groups of parameters, and what it remembers of each; the base of every optimizer here.

In: parameters with gradients. Out: the same parameters, moved. By hand, because the first use of torch.optim.Optimizer
imports torch's compiler, more than a second of every start (torch 2.13); the arithmetic is torch's fused kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class AdamOptimizer:
    """groups: dicts of "params", "lr", "base_lr" and "weight_decay", which the caller may change between two steps.

    decoupled: weight decay on the side, as in AdamW, or else added to the gradient.
    """

    def __init__(
        self, groups: list[dict[str, Any]], betas: tuple[float, float], eps: float, decoupled: bool = True
    ) -> None:
        self.param_groups, self.betas, self.eps, self.decoupled = groups, betas, eps, decoupled
        self.found_inf: Tensor | None = None  # 1.0, on the device, at a step that must change nothing
        self.parted = False  # whether each of several ranks has the gradients of other parameters, or all the same
        self.state = {weight: self.new_state(group, weight) for group in groups for weight in group["params"]}

    def new_state(self, group: dict[str, Any], weight: Tensor) -> dict[str, Tensor]:
        """What is remembered of a parameter before its first step."""
        zeros = weight.detach().new_zeros
        return {"step": zeros(()), "exp_avg": zeros(weight.shape), "exp_avg_sq": zeros(weight.shape)}

    def cost(self, group: dict[str, Any], weight: Tensor) -> int:
        """Of a step of one parameter, in multiplications of matrices that take as long."""
        return 40 * weight.numel()

    def step(self) -> None:
        """Moves every parameter that has a gradient."""
        import torch

        with torch.no_grad():
            for group in self.param_groups:
                self.update(group)

    def update(self, group: dict[str, Any]) -> None:
        """Adam's step of one group."""
        import torch

        weights = [weight for weight in group["params"] if weight.grad is not None]
        if not weights:
            return
        states = [self.state[weight] for weight in weights]
        steps = [state["step"] for state in states]
        torch._foreach_add_(steps, 1)
        kernel = torch._fused_adamw_ if self.decoupled else torch._fused_adam_
        kernel(
            weights,
            [weight.grad for weight in weights],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            steps,
            lr=group["lr"],
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=group["weight_decay"],
            eps=self.eps,
            amsgrad=False,
            maximize=False,
            found_inf=self.found_inf,
        )
        if self.found_inf is not None:  # a step that changed nothing doesn't count
            torch._foreach_sub_(steps, [self.found_inf] * len(steps))

    def zero_grad(self) -> None:
        """Forgets all gradients."""
        for weight in self.state:
            weight.grad = None

    def reset(self) -> None:
        """Forgets all steps."""
        for state in self.state.values():
            for tensor in state.values():
                tensor.zero_()

    def state_dict(self) -> dict[str, Any]:
        """What is remembered, by the place of each parameter among all of the groups, as in torch."""
        return {"state": dict(enumerate(self.state.values()))}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Takes over what a `state_dict` holds (torch's own too); ValueError where it is of other parameters."""
        own, states = self.state_dict()["state"], saved["state"]
        if not states:  # saved before the first step
            return
        for place, state in own.items():
            for name, tensor in state.items():
                found = states.get(place, {}).get(name)
                if found is None or found.shape != tensor.shape:
                    raise ValueError(f"the optimizer's {name} of parameter {place} is missing or of another shape")
        for place, state in own.items():
            for name, tensor in state.items():
                tensor.copy_(states[place][name])
