"""Chooses a model by its metrics alone: constraints first, then the rule of params.yaml."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from pianoai.params import bounded
from pianoai.runtime.errors import InputError

Metrics = dict[str, dict[str, Any]]
COLUMNS = {
    "nll": ("valid", "nll"),
    "skill": ("valid", "skill"),
    "onset_f1": ("valid", "onset_f1"),
    "test_nll": ("test", "nll"),
    "spread": ("stability", "valid_nll_spread"),
    "density_ratio": ("stability", "density_ratio"),
    "standstill": ("stability", "standstill"),
    "overlap": ("music", "overlap"),
    "memorised": ("music", "memorised"),
    "parameters": ("complexity", "parameters"),
    "multiply_adds": ("complexity", "multiply_adds"),
    "bytes": ("deployability", "bytes"),
}


@dataclass(frozen=True)
class SelectConfig:
    """The section `select` of params.yaml."""

    metric: str = bounded(choices=("nll", "nll_changed", "mse", "cosine"))
    tolerance: float = bounded(least=0)
    min_skill: float = bounded()
    max_bytes: int = bounded(least=1)
    max_parameters: int = bounded(least=1)
    max_standstill: float = bounded(least=0, most=1)
    max_density_change: float = bounded(least=1)
    min_overlap: float = bounded(least=0, most=1)
    max_memorised: float = bounded(least=0, most=1)


@dataclass(frozen=True)
class Selection:
    """The winner, why, what each candidate failed (empty: nothing), and the table of all."""

    winner: str
    reason: str
    failed: dict[str, list[str]]
    table: pd.DataFrame


def select(candidates: dict[str, Metrics], baseline: Metrics, config: SelectConfig) -> Selection:
    """Choose among candidates (name -> metrics/NAME.json).

    A candidate must meet every constraint. Of those that do, the ones within `tolerance` of the lowest validation
    `metric` are equal, and the one with the fewest multiply-adds wins. Raises InputError when none is left.
    """
    failed = {name: constraints(metrics, config) for name, metrics in candidates.items()}
    eligible = [name for name in candidates if not failed[name]]
    if not eligible:
        reasons = "; ".join(f"{name}: {', '.join(why)}" for name, why in failed.items())
        raise InputError(f"select: no model meets the constraints of params.yaml ({reasons})")

    def value(name: str) -> float:
        return float(candidates[name]["valid"][config.metric])

    best = min(value(name) for name in eligible)
    near = [name for name in eligible if value(name) <= best + config.tolerance]
    winner = min(near, key=lambda name: (candidates[name]["complexity"]["multiply_adds"], value(name), name))
    reason = f"valid {config.metric} {value(winner):.3f}, the lowest"
    if len(near) > 1:
        others = ", ".join(name for name in near if name != winner)
        reason = f"valid {config.metric} {value(winner):.3f}, within {config.tolerance} of {others}, and cheapest"
    return Selection(winner, reason, failed, table({"copy": baseline} | candidates))


def constraints(metrics: Metrics, config: SelectConfig) -> list[str]:
    """What a candidate fails, in words; empty when it may ship."""
    deployable, stable, music = metrics["deployability"], metrics["stability"], metrics["music"]
    ratio = stable["density_ratio"]
    checks = {
        f"skill below {config.min_skill}": metrics["valid"]["skill"] >= config.min_skill,
        f"does not export ({deployable['reason']})": bool(deployable["exports"]),
        f"needs operators the runtime lacks ({deployable['reason']})": not deployable["missing_operators"],
        f"over {config.max_bytes} bytes": deployable["bytes"] <= config.max_bytes,
        f"over {config.max_parameters} parameters": metrics["complexity"]["parameters"] <= config.max_parameters,
        "equal input gives different output": bool(stable["same_output"] and deployable["same_bytes"]),
        f"stands still over {config.max_standstill:g} of the time more than real music": (
            stable["standstill"] <= stable["real_standstill"] + config.max_standstill
        ),
        f"density off by more than a factor of {config.max_density_change}": (
            1 / config.max_density_change <= ratio <= config.max_density_change
        ),
        f"overlaps with real music by less than {config.min_overlap:g}": music["overlap"] >= config.min_overlap,
        f"over {config.max_memorised:g} of its passages more than of real music are the training music's": (
            music["memorised"] <= music["real"]["memorised"] + config.max_memorised
        ),
    }
    return [name for name, met in checks.items() if not met]


def table(metrics: dict[str, Metrics]) -> pd.DataFrame:
    """One row a model, the columns of COLUMNS."""
    rows = {
        name: {column: blocks[block][key] for column, (block, key) in COLUMNS.items()}
        for name, blocks in metrics.items()
    }
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.index.name = "model"
    return frame
