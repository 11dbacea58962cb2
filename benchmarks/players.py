"""Three runtimes that make frames with the same model, one interface; nothing is imported before it is needed.

python benchmarks/players.py NAME MODEL     makes 64 frames: "first" after the first, in the end its peak memory in kB
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from pianoai.runtime.roll import Floats

FRAMES = 64  # that a fresh process makes
NOISE = 177  # uniform numbers a frame
TEMPERATURE = 0.9


class Player(Protocol):
    """Makes frames."""

    def start(self) -> None:
        """Forget all frames."""

    def step(self, frame: "Floats", noise: "Floats") -> tuple["Floats", "Floats"]:
        """The next frame (88,) and its probabilities (3, 88), from a frame (88,) and noise (177,)."""


class Ours:
    """The runtime that is shipped."""

    def __init__(self, archive: Path) -> None:
        from pianoai.runtime import model

        self._model = model.load(archive)
        self._temperature = np.array(TEMPERATURE, np.float32)
        self.start()

    def start(self) -> None:
        """See Player."""
        self._state = self._model.start()

    def step(self, frame: "Floats", noise: "Floats") -> tuple["Floats", "Floats"]:
        """See Player."""
        drawn, probabilities, self._state = self._model.step(frame, self._state, noise, self._temperature)
        return drawn, probabilities


class OnnxRuntime:
    """ONNX Runtime and a graph of `onnx_step`: one thread, all memory bound once, the bag of keys changed in place."""

    def __init__(self, model: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # `optimise` did it all
        options.enable_cpu_mem_arena = False  # quicker or as quick, and less memory
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._binding = self._session.io_binding()
        kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}
        self._at: dict[str, Any] = {}
        for node in self._session.get_inputs():
            place = self._at[node.name] = np.zeros(node.shape, kinds[node.type])
            self._binding.bind_input(node.name, "cpu", 0, place.dtype.type, place.shape, place.ctypes.data)
        for node in self._session.get_outputs():
            name = node.name.removeprefix("new_")
            place = self._at[name] if name in self._at else self._at.setdefault(name, np.zeros(node.shape, np.float32))
            self._binding.bind_output(node.name, "cpu", 0, np.float32, place.shape, place.ctypes.data)
        self._bags = [place[0] for name, place in self._at.items() if name.startswith(("keys_", "values_"))]
        self._window = self._bags[0].shape[1]
        self._at["temperature"][...] = TEMPERATURE
        self._noise = self._at["noise"]
        self.start()

    def start(self) -> None:
        """See Player."""
        self._position = 0
        self._at["loudness"][...] = 0

    def step(self, frame: "Floats", noise: "Floats") -> tuple["Floats", "Floats"]:
        """See Player."""
        at, last = self._at, self._window - 1
        if self._position > last:  # the newest keys leave the last place to the next ones; the oldest go
            oldest = (self._position - self._window) % last
            for bag in self._bags:
                bag[:, oldest] = bag[:, last]
        at["filled"][0] = filled = min(self._position, last)
        at["total"][0] = filled + 1
        at["position"][0, 0] = self._position % (4 * self._window)
        at["frame"][0], self._noise[...] = frame, noise
        self._session.run_with_iobinding(self._binding)
        at["loudness"][...] = at["now"]
        self._position += 1
        return at["drawn"][0].copy(), at["probabilities"].copy()


def optimise(model: Path, out: Path) -> None:
    """Write the graph as ONNX Runtime makes it when it may do all it can, so that a session need not do it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3  # it warns that the file may be for this processor alone, as it shall be
    options.optimized_model_filepath = str(out)
    onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


class TorchScript:
    """PyTorch on an archive."""

    def __init__(self, archive: Path) -> None:
        import warnings

        import torch

        from pianoai.runtime import model

        self._torch: Any = torch
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._module: Any = torch.jit.load(str(archive))  # type: ignore[no-untyped-call]
        self._temperature = torch.tensor(TEMPERATURE)
        metadata = model.load(archive).metadata
        self._zeros = [(shape, getattr(torch, kind)) for shape, kind in metadata.state]
        self.start()

    def start(self) -> None:
        """See Player."""
        self._state = tuple(self._torch.zeros(shape, dtype=kind) for shape, kind in self._zeros)

    def step(self, frame: "Floats", noise: "Floats") -> tuple["Floats", "Floats"]:
        """See Player."""
        torch = self._torch
        with torch.no_grad():
            drawn, probabilities, self._state = self._module(
                torch.from_numpy(frame), self._state, torch.from_numpy(noise), self._temperature
            )
        return drawn.numpy(), probabilities.numpy()


PLAYERS: dict[str, type[Ours] | type[OnnxRuntime] | type[TorchScript]] = {
    "ours": Ours,
    "onnxruntime": OnnxRuntime,
    "torchscript": TorchScript,
}


def main(name: str, model: str) -> None:
    """See the first lines of this module."""
    player = PLAYERS[name](Path(model))
    frame, noise = np.zeros(88, np.float32), np.full(NOISE, 0.5, np.float32)
    frame, _ = player.step(frame, noise)
    print("first", flush=True)
    for _ in range(FRAMES - 1):
        frame, _ = player.step(frame, noise)
    status = Path("/proc/self/status").read_text("ascii")
    print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


if __name__ == "__main__":
    main(*sys.argv[1:])
