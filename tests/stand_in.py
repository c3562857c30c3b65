"""Apple's GPU as far as a CPU can stand in for it: tensors that say they lie on mps, and refuse what it refuses.

`mps_stand_in()` makes torch believe in the device while it is entered. A tensor that is made on mps or brought there
lies in the CPU's memory and is computed there, but its `device` is mps:0, and so is that of everything made of it.
Refused, as by the device: a float64 in any operation, operands on two devices, `numpy()`. Its fused Adam takes no
notice of `found_inf` (torch before https://github.com/pytorch/pytorch/pull/186360). What operations there were is kept,
so that they can be compared with those that torch has for mps. What such a device computes wrongly, nobody here sees.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

MPS = torch.device("mps", 0)
MOVES = {Tensor.to, Tensor.cpu, Tensor.copy_, Tensor.__getitem__, Tensor.__setitem__}  # from device to device
MOVES |= {torch._has_compatible_shallow_copy_type}
FUSED = {torch._fused_adam_, torch._fused_adamw_}
operations: set[str] = set()  # aten::... of all that was computed on the stand-in


class OnMps(Tensor):
    """A tensor of the stand-in."""

    device = property(lambda self: MPS)  # type: ignore[assignment]

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return call(func, args, dict(kwargs or {}))


class Factories(TorchFunctionMode):
    """torch.zeros(..., device="mps") and tensor.to("mps"): what a tensor's own class can't see."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return call(func, args, dict(kwargs or {}))


class Watched(TorchDispatchMode):
    """Inside an operation on the stand-in: keeps the names of what is computed; raises at a float64."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        operations.add(func.name())
        if any(isinstance(one, Tensor) and one.dtype == torch.float64 for one in tree_leaves(out)):
            raise TypeError(f"{func.name()}: mps has no float64")
        return out


def is_mps(value: Any) -> bool:
    """Whether it names the device."""
    return str(value).partition(":")[0] == "mps" if isinstance(value, str | torch.device) else False


def call(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The function of tensors, of which some lie on the stand-in or shall lie there."""
    leaves = tree_leaves((args, kwargs))
    here = any(isinstance(one, OnMps) for one in leaves)
    named = [one for one in leaves if isinstance(one, torch.device)]
    named += [one for one in (kwargs.get("device"), *(args[1:2] if func is Tensor.to else ())) if isinstance(one, str)]
    there = is_mps(named[0]) if named else here and func is not Tensor.cpu
    with torch._C.DisableTorchFunction():
        if (not here and not there) or func is torch._C._nn._parse_to:
            return func(*args, **kwargs)
        if here:
            refuse(func, leaves)
        if func in FUSED:
            kwargs.pop("found_inf", None)
        args, kwargs = tree_map(lambda one: "cpu" if is_mps(one) else one, (args, kwargs))
        if func is Tensor.__deepcopy__:
            return copied(args[0], args[1])
        with Watched():
            out = func(*args, **kwargs)
        moved = func in (Tensor.to, Tensor.cpu) and here != there
        return tree_map(lambda one: placed(one, there, moved) if isinstance(one, Tensor) else one, out)


def refuse(func: Callable[..., Any], leaves: list[Any]) -> None:
    """Raises where the device would."""
    if func is Tensor.numpy:
        raise TypeError("can't convert mps:0 device type tensor to numpy")
    others = [one for one in leaves if isinstance(one, Tensor) and not isinstance(one, OnMps) and one.dim()]
    is_backward = torch._C._current_graph_task_id() != -1  # whose gradients come from below, as plain tensors
    if others and func not in MOVES and not is_backward:
        raise RuntimeError(f"{func}: expected all tensors on one device, found cpu and mps:0")


def placed(tensor: Tensor, there: bool, moved: bool) -> Tensor:
    """The result as a tensor of the device; a copy where it came from the other one."""
    if there and tensor.dtype == torch.float64:
        raise TypeError("mps has no float64")
    if there == isinstance(tensor, OnMps) and not moved:
        return tensor
    return (tensor.clone() if moved else tensor).as_subclass(OnMps if there else Tensor)  # type: ignore[arg-type]


def copied(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    """copy.deepcopy of a parameter."""
    new: Any = tensor.detach().clone().as_subclass(OnMps).requires_grad_(tensor.requires_grad)
    if hasattr(tensor, "_is_param"):
        new._is_param = True
    memo[id(tensor)] = new
    return new


@contextmanager
def mps_stand_in(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inside, in every thread that is started there too, this machine has the device mps."""
    operations.clear()
    autocast, enabled, dtype = torch.autocast, torch.is_autocast_enabled, torch.get_autocast_dtype
    on_cpu: Callable[[str], str] = lambda kind: "cpu" if kind == "mps" else kind  # noqa: E731
    patch.setattr(torch, "autocast", lambda kind, *how, **more: autocast(on_cpu(kind), *how, **more))
    patch.setattr(torch, "is_autocast_enabled", lambda *kind: enabled(*map(on_cpu, kind)))
    patch.setattr(torch, "get_autocast_dtype", lambda kind: dtype(on_cpu(kind)))
    patch.setattr(torch.mps, "get_rng_state", lambda device=MPS: torch.get_rng_state())
    patch.setattr(torch.mps, "set_rng_state", lambda state, device=MPS: torch.set_rng_state(state))
    bootstrap, move = threading.Thread._bootstrap_inner, torch.nn.Module.to  # type: ignore[attr-defined]

    def begin(thread: threading.Thread) -> None:
        with Factories():
            bootstrap(thread)

    def to(module: torch.nn.Module, *where: Any) -> torch.nn.Module:
        torch.__future__.set_swap_module_params_on_conversion(True)  # keeps the parameters that others hold
        try:
            return move(module, *where)
        finally:
            torch.__future__.set_swap_module_params_on_conversion(False)

    patch.setattr(threading.Thread, "_bootstrap_inner", begin)
    patch.setattr(torch.nn.Module, "to", to)
    with Factories():
        yield
