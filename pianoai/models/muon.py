"""Muon for the matrices inside a network, AdamW for the rest of it, as one optimiser."""

from collections.abc import Callable, Iterable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from pianoai.losses import root

ROUNDS = 5  # of Newton-Schulz
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of its odd polynomial of degree 5


class Muon(Optimizer):
    """Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) for matrices, AdamW for the rest.

    `learning_rate` serves both: an orthogonal update is scaled by 0.2 sqrt(larger side), which gives it the root
    mean square of an AdamW step (Liu et al. 2025, arXiv:2502.16982). PyTorch has a Muon too, but it computes
    in bfloat16, which most CPUs do slowly: here it takes seven times as long. Both halves are groups of one
    optimiser, so that clipping, schedules and checkpoints see all of them.
    """

    def __init__(
        self,
        matrices: Iterable[Parameter],
        others: Iterable[Parameter],
        learning_rate: float,
        weight_decay: float,
    ) -> None:
        groups: list[dict[str, Any]] = [
            {"params": list(matrices), "update": "muon", "momentum": 0.95},
            {"params": list(others), "update": "adamw", "betas": (0.9, 0.95)},
        ]
        super().__init__(groups, {"lr": learning_rate, "weight_decay": weight_decay})

    @classmethod
    def of(cls, model: nn.Module, inner: tuple[str, ...], learning_rate: float, weight_decay: float) -> Self:
        """For a model; `inner` is how the names of the layers begin whose matrices are made orthogonal."""
        named = dict(model.named_parameters())
        matrices = {name: value for name, value in named.items() if name.startswith(inner) and value.ndim == 2}
        others = [value for name, value in named.items() if name not in matrices]
        return cls(matrices.values(), others, learning_rate, weight_decay)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; `closure` computes the loss anew, as in every optimiser."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            update = muon_update if group["update"] == "muon" else adamw_update
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(update(parameter.grad, self.state[parameter], group), alpha=-group["lr"])
        return loss


def muon_update(gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    """Nesterov momentum of the gradient, made orthogonal, with the root mean square of an AdamW step."""
    average: Tensor = state.setdefault("momentum", torch.zeros_like(gradient))
    average.lerp_(gradient, 1 - group["momentum"])
    scale: float = 0.2 * max(gradient.shape) ** 0.5
    return scale * orthogonal(gradient.lerp(average, group["momentum"]))


def adamw_update(gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    """The mean gradient over the root mean square gradient, both corrected for starting at zero.

    Kingma and Ba 2015, with the decay of weights apart from it (Loshchilov and Hutter 2019).
    """
    state["step"] = state.get("step", 0) + 1
    mean: Tensor = state.setdefault("mean", torch.zeros_like(gradient))
    square: Tensor = state.setdefault("square", torch.zeros_like(gradient))
    first, second = group["betas"]
    mean.lerp_(gradient, 1 - first)
    square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
    deviation = root(square / (1 - second ** state["step"])) + 1e-8
    update: Tensor = mean / (1 - first ** state["step"]) / deviation
    return update


def orthogonal(matrix: Tensor) -> Tensor:
    """A matrix with the same singular vectors and singular values near 1 (roughly 0.7 to 1.2).

    Five rounds of x <- a x + b x^3 + c x^5 on the singular values, after dividing by the Frobenius norm.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (wide.norm() + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ROUNDS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    found: Tensor = x if wide is matrix else x.T
    return found
