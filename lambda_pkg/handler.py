"""The Lambda function, whose contract is in docs/function.md; the model is loaded as Lambda starts up."""

import os
from pathlib import Path

# A fourteenth of a processor does not work faster in two threads; this must be said before NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from pianoai.runtime.function import Function

FOLDER = Path(__file__).parent
lambda_handler = Function(Path(os.environ.get("PIANOAI_MODEL") or FOLDER / "model.ts"), FOLDER / "page.json")
