"""All metrics -> the table, the winner and why, and the winner's weights as models/selected.pt."""

import json
import shutil
from pathlib import Path

from pianoai import params
from pianoai.selection import SelectConfig, select
from pianoai.stage import run, write_json

CANDIDATES = ("gan", "wgan", "transformer")


def main() -> None:
    """Write metrics/selection.json and models/selected.pt."""
    metrics = {name: json.loads(Path(f"metrics/{name}.json").read_text("utf-8")) for name in ("copy", *CANDIDATES)}
    baseline = metrics.pop("copy")
    chosen = select(metrics, baseline, params.read("select", SelectConfig))
    shutil.copyfile(f"models/{chosen.winner}.pt", "models/selected.pt")
    write_json(
        Path("metrics/selection.json"),
        {
            "winner": chosen.winner,
            "reason": chosen.reason,
            "failed": {name: ", ".join(why) for name, why in chosen.failed.items()},
            "table": chosen.table.to_dict(orient="index"),
            "scoring": metrics[chosen.winner]["scoring"],
        },
    )
    print(chosen.table.round(3).to_string())
    print(f"select: {chosen.winner}: {chosen.reason}")


if __name__ == "__main__":
    run(main, "select")
