"""Tiny trainings in a process of their own, for tests of what changes weights.

python -m tests.tiny_training FOLDER SET FAMILY... prints JSON: PyTorch's kernels, and a checksum of weights each.
"""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

from pianoai.determinism import DeterminismConfig, pin

pin(DeterminismConfig(threads=2, instruction_set=sys.argv[2]))

import torch  # noqa: E402

from pianoai import training, windows  # noqa: E402
from tests.test_training import BUDGET, LOSS, config  # noqa: E402

music = windows.read(Path(sys.argv[1]))
found = {"kernels": torch.backends.cpu.get_cpu_capability()}
for name in sys.argv[3:]:
    trained, _, _ = training.train(name, config(name), music, replace(BUDGET, epochs=1, batch=4), LOSS)
    weights = b"".join(tensor.numpy().tobytes() for _, tensor in sorted(trained.weights.items()))
    found[name] = hashlib.sha256(weights).hexdigest()
print(json.dumps(found))
