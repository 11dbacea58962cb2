"""Every parameter, as its dataclass bounds it and params.yaml explains it: python -m pianoai.reference.

Writes docs/parameters.md, which a test compares with the code.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any, get_type_hints

from ruamel.yaml import YAML

from pianoai.determinism import DeterminismConfig
from pianoai.evaluation import EvaluateConfig
from pianoai.export import ExportConfig
from pianoai.losses import LossConfig
from pianoai.models import gan, transformer, wgan
from pianoai.models.objective import TrainConfig
from pianoai.packaging import DeployConfig
from pianoai.selection import SelectConfig
from pianoai.sources import DataConfig
from pianoai.windows import RollConfig, SplitConfig, WindowConfig

PAGE = Path("docs/parameters.md")
SECTIONS: dict[str, type] = {
    "data": DataConfig,
    "roll": RollConfig,
    "window": WindowConfig,
    "split": SplitConfig,
    "determinism": DeterminismConfig,
    "train": TrainConfig,
    "loss": LossConfig,
    "model": transformer.Config,
    "gan": gan.Config,
    "wgan": wgan.Config,
    "evaluate": EvaluateConfig,
    "select": SelectConfig,
    "export": ExportConfig,
    "deploy": DeployConfig,
}
KINDS = {int: "whole number", float: "number", str: "text", bool: "true or false"}


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(Path()), "utf-8")
    print(f"{PAGE}: {len(SECTIONS)} sections")


def page(root: Path) -> str:
    """The reference of the project in `root` as Markdown."""
    text = (root / "params.yaml").read_text("utf-8")
    values = YAML(typ="safe").load(text)
    explained = comments(text)
    stages = readers(YAML(typ="safe").load((root / "dvc.yaml").read_text("utf-8"))["stages"])
    parts = [
        "# Parameters\n\nAll that can be changed, in `params.yaml` or with `dvc exp run -S section.key=value`. A value"
        " of another type, out of range or unknown is refused with its name. What a change re-runs takes what follows"
        " from it along, where that comes out differently; `report`, which shows all of `params.yaml`, runs after every"
        " change, and `deploy.memory_mb` is read by `make verify` alone."
        " This page is written by `.venv/bin/python -m pianoai.reference`."
    ]
    for section, kind in SECTIONS.items():
        rows = [
            f"| `{key}` | `{shown(at(values, f'{section}.{key}'))}` | {allowed} | {explained[f'{section}.{key}']} |"
            for key, allowed in fields(kind)
        ]
        runs = ", ".join(stages[section])
        head = f"## {section}\n\nRead by `{kind.__module__}.{kind.__name__}`; a change re-runs {runs}."
        parts.append("\n".join([f"{head}\n", "| key | default | allowed | what it is |", "|---|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def fields(kind: type) -> list[tuple[str, str]]:
    """Every key of a section, those of sections inside with a dot, and what it may be."""
    hints = get_type_hints(kind)
    found: list[tuple[str, str]] = []
    for field in dataclasses.fields(kind):
        inner = hints[field.name]
        if dataclasses.is_dataclass(inner):
            found += [(f"{field.name}.{key}", allowed) for key, allowed in fields(inner)]  # type: ignore[arg-type]
        else:
            found.append((field.name, allowed(inner, field.metadata)))
    return sorted(found, key=lambda row: "." in row[0])  # as in params.yaml, where they come last


def allowed(kind: type, limits: Any) -> str:
    """What a value may be, in words."""
    if limits["choices"]:
        return ", ".join(f"`{choice}`" for choice in limits["choices"])
    least, most = limits["least"], limits["most"]
    if least is None and most is None:
        return KINDS[kind]
    return f"{KINDS[kind]}, " + (f"{least:,} or more" if most is None else f"{least:,} to {most:,}")


def at(values: Any, path: str) -> Any:
    """The value at a dotted path."""
    for key in path.split("."):
        values = values[key]
    return values


def shown(value: object) -> str:
    """A value as YAML has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def comments(text: str) -> dict[str, str]:
    """The comment beside each key of a YAML text, by dotted path."""
    found: dict[str, str] = {}
    path: list[str] = []
    for line in text.splitlines():
        if key := re.match(r"( *)(\w+):", line):
            path = [*path[: len(key[1]) // 2], key[2]]
            found[".".join(path)] = line.partition(" # ")[2].strip()
    return found


def readers(stages: dict[str, Any]) -> dict[str, list[str]]:
    """The stages that depend on each section, in order; a section by name of a `foreach` stands for its stages."""
    found: dict[str, list[str]] = {}
    for name, stage in stages.items():
        items = stage.get("foreach", {"": {}})
        for item, fields_ in items.items():
            for key in stage.get("do", stage)["params"]:
                section = str(key).replace("${item.section}", fields_.get("section", "")).split(".")[0]
                address = f"`{name}@{item}`" if item else f"`{name}`"
                if address not in found.setdefault(section, []):
                    found[section].append(address)
    return found


if __name__ == "__main__":
    main()
