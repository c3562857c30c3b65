"""torch's optimizers without its compiler.

In: an optimizer's class. Out: the same, without the decorators by which torch keeps its compiler away from an
optimizer: each of them imports it, which takes more than a second of every start. Nothing here compiles an optimizer.
"""

import inspect
from typing import Any

import torch


def light(optimizer: type[torch.optim.Optimizer]) -> Any:
    """A subclass that does the same."""
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    methods = {name: inspect.unwrap(getattr(optimizer, name)) for name in names}
    return type(optimizer.__name__, (optimizer,), methods | {"step": torch.no_grad()(inspect.unwrap(optimizer.step))})
