"""Model -> TorchScript archive with the same bytes each time, and the proof that all that run it agree."""

import io
import json
import re
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pianoai import __version__
from pianoai.checkpoint import Checkpoint
from pianoai.dataset import batches
from pianoai.metrics.likelihood import Calibration, Thresholds
from pianoai.models.base import FrameModel, State
from pianoai.models.frame import PLANES, laplace_quantile, level_logit, read_features
from pianoai.models.heads import Head, NoteByNote
from pianoai.models.objective import validation_nll
from pianoai.parallel import spread
from pianoai.params import bounded
from pianoai.runtime import model as runtime
from pianoai.runtime.errors import InputError
from pianoai.runtime.model import FORMAT, METADATA
from pianoai.runtime.roll import NO_NOTE, NOISE, PITCHES, Floats, Roll, levels, velocities
from pianoai.runtime.stepping import note_planes
from pianoai.windows import Windows

LONG = 4  # passages of three windows in the parity check
SHARE = 64  # rolls in the parity check that are worth a process of their own
METHODS = ("forward", "read")  # of the archive
# Of one whose notes are drawn one after the other.
IN_PARTS = ("forward", "read", "hear", "begin", "turn", "end", "given")
SINGLE = 6  # PyTorch's number of float32
PREFIX = "model"  # the folder inside the archive
OMITTED = ("serialization_id", ".debug_pkl")  # they hold paths and differ from run to run
# The number of a class among all that this process has traced; a frozen module has one class, which needs none.
MANGLED = re.compile(r"[./]___torch_mangle_\d+")
EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class ExportConfig:
    """The section `export` of params.yaml."""

    weights: str = bounded(choices=("float32", "float16"))
    windows: int = bounded(least=1)
    tolerance: float = bounded(least=0)
    frames: int = bounded(least=1)
    seed: int = bounded(least=0, most=2**32 - 1)


class Step(nn.Module):
    """What is traced of a model: its step as the forward pass of a module, and `read`."""

    def __init__(self, model: FrameModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, frame: Tensor, state: State, noise: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor, State]:
        """See FrameModel.step."""
        return self.model.step(frame, state, noise, temperature)

    def read(self, planes: Tensor, memory: Tensor, position: Tensor) -> Tensor:
        """See FrameModel.read."""
        return self.model.read(planes, memory, position)


class Parts(nn.Module):
    """What is traced of a model whose notes are drawn one after the other; see `NoteStep`."""

    def __init__(self, model: FrameModel) -> None:
        super().__init__()
        assert isinstance(model.head, NoteByNote)
        self.model, self.head = model, model.head

    def hear(self, frame: Tensor, state: State, noise: Tensor) -> tuple[Tensor, State]:
        """See FrameModel.hear."""
        return self.model.hear(frame, state, noise)

    def read(self, planes: Tensor, memory: Tensor, position: Tensor) -> Tensor:
        """See FrameModel.read."""
        return self.model.read(planes, memory, position)

    def begin(
        self, context: Tensor, frame: Tensor, noise: Tensor, temperature: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See NoteByNote.begin."""
        return self.head.begin(context, frame, noise, temperature)

    def turn(self, hidden: Tensor, last: Tensor, logits: Tensor, quantiles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See NoteByNote.turn."""
        return self.head.turn(hidden, last, logits, quantiles)

    def end(self, said: Tensor, quantiles: Tensor) -> tuple[Tensor, Tensor]:
        """The row (88,) and its probabilities (3, 88) after the last turn."""
        return self.head.cells(said, quantiles)

    def given(self, context: Tensor, following: Tensor) -> Tensor:
        """Probabilities (3, 88) of a frame that is known, from its planes (264,)."""
        return torch.sigmoid(self.head.given(context, following))


class NoteStep(nn.Module):
    """The step of such a model, as a script: a loop of turns, each of which draws a note."""

    def __init__(self, parts: Any) -> None:
        super().__init__()
        self.parts = parts
        self.no_note = NO_NOTE

    def forward(
        self, frame: Tensor, state: tuple[Tensor, Tensor, Tensor], noise: Tensor, temperature: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
        """See FrameModel.step."""
        context, left = self.parts.hear(frame, state, noise)
        hidden, logits, quantiles, last = self.parts.begin(context, frame, noise, temperature)
        said = logits
        while bool(last < self.no_note):
            hidden, last, said = self.parts.turn(hidden, last, logits, quantiles)
        drawn, probabilities = self.parts.end(said, quantiles)
        return drawn, probabilities, left

    @torch.jit.export
    def hear(
        self, frame: Tensor, state: tuple[Tensor, Tensor, Tensor], noise: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """See FrameModel.hear."""
        return self.parts.hear(frame, state, noise)  # type: ignore[no-any-return]

    @torch.jit.export
    def read(self, planes: Tensor, memory: Tensor, position: Tensor) -> Tensor:
        """See FrameModel.read."""
        return self.parts.read(planes, memory, position)  # type: ignore[no-any-return]

    @torch.jit.export
    def begin(
        self, context: Tensor, frame: Tensor, noise: Tensor, temperature: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See NoteByNote.begin."""
        return self.parts.begin(context, frame, noise, temperature)  # type: ignore[no-any-return]

    @torch.jit.export
    def turn(self, hidden: Tensor, last: Tensor, logits: Tensor, quantiles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See NoteByNote.turn."""
        return self.parts.turn(hidden, last, logits, quantiles)  # type: ignore[no-any-return]

    @torch.jit.export
    def end(self, said: Tensor, quantiles: Tensor) -> tuple[Tensor, Tensor]:
        """See Parts.end."""
        return self.parts.end(said, quantiles)  # type: ignore[no-any-return]

    @torch.jit.export
    def given(self, context: Tensor, following: Tensor) -> Tensor:
        """See Parts.given."""
        return self.parts.given(context, following)  # type: ignore[no-any-return]


def trace(model: FrameModel) -> torch.jit.ScriptModule:
    """The step and what else the runtime calls as frozen TorchScript, with the weights as constants.

    It is straight-line code, but for the loop over the notes of a frame where there is one. That it computes the same
    is for `parity` to check.
    """
    frame, (memory, position, loudness) = torch.zeros(PITCHES), model.initial_state()
    state, noise, one = (memory, position, loudness), torch.full((model.noise,), 0.5), torch.tensor(1.0)
    reading = (torch.zeros(model.chunk, PLANES), memory, position)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # TorchScript announces its deprecation at every call
        if not isinstance(model.head, NoteByNote):
            examples = {"forward": (frame, state, noise, one), "read": reading}
            traced = torch.jit.trace_module(Step(model).eval(), examples, check_trace=False)  # type: ignore[no-untyped-call]
        else:
            context = model.hear(frame, state, noise)[0]
            hidden, logits, quantiles, last = model.head.begin(context, frame, noise, one)
            examples = {
                "hear": (frame, state, noise),
                "read": reading,
                "begin": (context, frame, noise, one),
                "turn": (hidden, last, logits, quantiles),
                "end": (logits.transpose(0, 1), quantiles),
                "given": (context, torch.zeros(PLANES)),
            }
            parts = torch.jit.trace_module(Parts(model).eval(), examples, check_trace=False)  # type: ignore[no-untyped-call]
            traced = torch.jit.script(NoteStep(parts).eval())
        frozen: torch.jit.ScriptModule = torch.jit.freeze(traced, list(methods(model)[1:]))
    return frozen


def methods(model: FrameModel) -> tuple[str, ...]:
    """The methods of a model's archive."""
    return IN_PARTS if isinstance(model.head, NoteByNote) else METHODS


def rounded(model: FrameModel, weights: str) -> FrameModel:
    """The model itself, with its matrices rounded to what `weights` can hold."""
    if weights == "float16":
        with torch.no_grad():
            for parameter in filter(is_matrix, model.parameters()):
                parameter.copy_(parameter.half().float())
    return model


def is_matrix(value: Tensor) -> bool:
    """Whether half precision is for it: matrices are nearly all of a model, and the rest is delicate."""
    return value.ndim == 2 and value.dtype == torch.float32


def store_half(graph: Any) -> None:
    """Replace the matrices among a frozen graph's constants by half-precision ones, converted where they are used.

    The values must be those of `rounded`, so that nothing is lost.
    """
    for node in graph.findAllNodes("prim::Constant"):
        value = node.output().toIValue() if node.output().type().kind() == "TensorType" else None
        if not isinstance(value, Tensor) or not is_matrix(value):
            continue
        arguments = [graph.insertConstant(each) for each in (value.half(), SINGLE, False, False, None)]
        converted = graph.create("aten::to", arguments)
        for created in [argument.node() for argument in arguments]:
            created.moveBefore(node)
        converted.insertBefore(node)
        converted.output().setType(node.output().type())
        node.output().replaceAllUsesWith(converted.output())
    torch._C._jit_pass_dce(graph)
    graph.lint()


def describe(
    checkpoint: Checkpoint,
    calibration: Calibration,
    thresholds: Thresholds,
    flip_rates: Floats,
    samples: int,
) -> dict[str, Any]:
    """What the archive says besides weights (`runtime.model.Metadata`); flip_rates are (3, 88) or more rows."""
    model = checkpoint.model()
    off, stay, struck = (row.tolist() for row in flip_rates[:3].astype(float).round(6))
    return {
        "format": FORMAT,
        "version": __version__,
        "family": checkpoint.family,
        "frames_per_beat": checkpoint.frames_per_beat,
        "window": checkpoint.window,
        "noise": model.noise,
        "read": model.chunk,
        "reach": model.reach,
        "state": [
            {"shape": list(part.shape), "dtype": str(part.dtype).removeprefix("torch.")}
            for part in model.initial_state()
        ],
        "samples": samples if model.latent or isinstance(model.head, NoteByNote) else 1,
        "calibration": {"sounding": list(calibration.sounding), "struck": list(calibration.struck)},
        "thresholds": {"sounding": thresholds.sounding, "onset": thresholds.onset},
        "flip_rates": {"on": off, "stay": stay, "struck": struck},
        "data": checkpoint.data,
        "parameters": count_parameters(model),
    }


def count_parameters(model: nn.Module) -> int:
    """How many numbers were learnt."""
    return sum(parameter.numel() for parameter in model.parameters())


def to_archive(model: FrameModel, metadata: dict[str, Any], weights: str = "float32") -> bytes:
    """The TorchScript archive, its matrices stored as `weights`; equal models and metadata give equal bytes."""
    saved = io.BytesIO()
    traced = trace(rounded(model, weights))
    if weights == "float16":
        for name in methods(model):
            store_half(traced._c._get_method(name).graph)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(traced, saved, {METADATA: json.dumps(metadata, sort_keys=True)})
    rewritten = io.BytesIO()
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(rewritten, "w") as target:
        for name in sorted(source.namelist()):
            inner = MANGLED.sub("", name.partition("/")[2])
            if not inner.endswith(OMITTED):
                content = source.read(name)
                if inner.endswith((".py", "data.pkl")):  # text, and a pickle that spells the class as text
                    content = MANGLED.sub("", content.decode("latin1")).encode("latin1")
                target.writestr(zipfile.ZipInfo(f"{PREFIX}/{inner}", EPOCH), content)
    return rewritten.getvalue()


@torch.no_grad()
def eager(model: FrameModel, metadata: runtime.Metadata) -> runtime.Model:
    """The PyTorch model behind the interface of the runtime."""
    return runtime.Model(metadata, array_step(model.step))


def array_step(step: Callable[..., tuple[Tensor, Tensor, State]]) -> runtime.Step:
    """A step on tensors as a step on arrays."""

    def call(
        frame: Floats, state: runtime.State, noise: Floats, temperature: Floats
    ) -> tuple[Floats, Floats, runtime.State]:
        with torch.no_grad():
            drawn, probabilities, new = step(
                torch.from_numpy(frame),
                tuple(torch.as_tensor(part) for part in state),
                torch.from_numpy(noise),
                torch.as_tensor(temperature),
            )
        return drawn.numpy(), probabilities.numpy(), tuple(part.numpy() for part in new)

    return call


def parity(checkpoint: Checkpoint, archive: bytes, rolls: list[Roll], config: ExportConfig) -> dict[str, float | int]:
    """Compare eager PyTorch, TorchScript and the NumPy runtime on real rolls (frames, 88), and generating.

    Teacher-forced, the largest difference of a probability of the frame that follows, eager being the whole pass, with
    the matrices rounded as they are stored, and not the step; once more after the runtime has read a roll's beginning
    in chunks. Raises InputError when it is above the tolerance. Generating, `frames` frames from equal seeds by
    TorchScript, by the runtime and by PyTorch's own step: where they differ, every pitch must have been drawn within
    the tolerance of its probability (a near-tie), or the lowest where notes are drawn one after the other; it is
    counted, then all go on from the same frame. This also runs past a full ring of keys.
    """
    model, loaded, script = rounded(checkpoint.model(), config.weights), runtime.load(archive), load_script(archive)
    parts = spread(partial(known_differences, model, archive, config), list(enumerate(rolls)), SHARE)
    worst = {name: float(np.max([part[name] for part in parts])) for name in parts[0]}  # keeps NaN
    check(worst, config.tolerance)
    players = {"torchscript": array_step(script), "runtime": loaded.step, "pytorch": array_step(model.step)}
    drawn, worst["drawing"] = compare_drawing(players, loaded, config, model.head)
    check({"drawing": worst["drawing"]}, config.tolerance)
    return {
        "windows": len(rolls),
        "frames": sum(len(roll) for roll in rolls),
        **{f"difference_{name}": difference for name, difference in worst.items()},
        **drawn,
    }


def load_script(archive: bytes) -> Any:
    """An archive as PyTorch loads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.load(io.BytesIO(archive))  # type: ignore[no-untyped-call]


def known_differences(
    model: FrameModel, archive: bytes, config: ExportConfig, rolls: Sequence[tuple[int, Roll]]
) -> list[dict[str, float]]:
    """For each roll the largest differences of a probability from those of the model's whole pass.

    Its frames are known, and its number goes into the seed of its noise.
    """
    loaded, script = runtime.load(archive), load_script(archive)
    known = array_given(script) if loaded.given else None
    teachers = {"torchscript": teacher(array_step(script), known), "runtime": teacher(loaded.step, loaded.given)}
    differences = []
    for number, roll in rolls:
        worst = {"torchscript": 0.0, "runtime": 0.0, "reading": 0.0}
        chance = np.random.Generator(np.random.PCG64([config.seed, number]))
        noise = chance.random((len(roll) - 1, model.noise), np.float32)
        whole = whole_pass(model, roll, noise)
        cells = roll.astype(np.float32)
        for name, given in teachers.items():
            state = loaded.start()
            for at, said in enumerate(whole):
                found, state = given(cells[at], state, noise[at], cells[at + 1])
                worst[name] = further(worst[name], found, said)
        state = loaded.read(roll[:-2], loaded.start())
        found, state = teachers["runtime"](cells[-2], state, noise[-1], cells[-1])
        worst["reading"] = further(worst["reading"], found, whole[-1])
        differences.append(worst)
    return differences


def check(differences: dict[str, float], tolerance: float) -> None:
    """Raises InputError where one of them is above the tolerance, or no number."""
    for name, difference in differences.items():
        if not difference <= tolerance:
            raise InputError(
                f"export: {name} differs from PyTorch by {difference:.2g}, more than export.tolerance {tolerance:g}"
            )


def further(worst: float, one: Floats, other: Floats) -> float:
    """The largest difference so far; what is no number stays so, and passes no tolerance."""
    return float(np.maximum(worst, np.abs(one - other).max()))


@torch.no_grad()
def rounding_cost(checkpoint: Checkpoint, windows: Windows, samples: int, config: ExportConfig) -> float:
    """Nats a frame that the rounding of matrices costs on the validation split.

    A model with noise of its own is scored as the mixture over `samples` draws, the same for both.
    """
    if config.weights == "float32":
        return 0.0
    models = (checkpoint.model(), rounded(checkpoint.model(), config.weights))
    generators = [torch.Generator().manual_seed(config.seed) for _ in models]
    totals, frames = np.zeros(2), 0
    for batch in batches(windows, "valid"):
        for at, (model, generator) in enumerate(zip(models, generators, strict=True)):
            nats, count = validation_nll(model, batch, samples, generator)
            totals[at] += count * float(nats)
        frames += count
    return round(float(totals[1] - totals[0]) / frames, 6)


@torch.no_grad()
def whole_pass(model: FrameModel, roll: Roll, noise: Floats) -> Floats:
    """Probabilities (frames - 1, 3, 88) of the frames of a roll from the second on, in one pass."""
    roll = np.array(roll)  # PyTorch wants to own it
    features = read_features(*(torch.from_numpy(part) for part in (roll, velocities(roll), levels(roll))))[None]
    latent = torch.from_numpy(noise[:, NOISE:])
    logits = model.head(model(features[:, :-1], latent[None]), features[:, 1:])
    probabilities: Floats = torch.sigmoid(logits)[0].numpy()
    return probabilities


def teacher(step: runtime.Step, given: runtime.Given | None) -> runtime.Given:
    """What tells the probabilities of a frame that is known: `given`, or a step, which does not look at it."""
    if given is not None:
        return given
    one = np.array(1, np.float32)

    def ask(frame: Floats, state: runtime.State, noise: Floats, following: Floats) -> tuple[Floats, runtime.State]:
        _, probabilities, left = step(frame, state, noise, one)
        return probabilities, left

    return ask


def array_given(script: Any) -> runtime.Given:
    """The probabilities of a frame that is known, by an archive that PyTorch has loaded."""

    def ask(frame: Floats, state: runtime.State, noise: Floats, following: Floats) -> tuple[Floats, runtime.State]:
        with torch.no_grad():
            parts = tuple(torch.as_tensor(part) for part in state)
            context, left = script.hear(torch.from_numpy(frame), parts, torch.from_numpy(noise))
            probabilities = script.given(context, torch.from_numpy(note_planes(following)))
        return probabilities.numpy(), tuple(part.numpy() for part in left)

    return ask


def compare_drawing(
    players: dict[str, runtime.Step], loaded: runtime.Model, config: ExportConfig, head: Head
) -> tuple[dict[str, int], float]:
    """Frames in which another player drew other notes than the first, the near-ties behind them, and the largest
    difference of a probability on the way. The `head` is what draws.

    Raises InputError for a difference of notes that no near-tie explains.
    """
    chance = np.random.Generator(np.random.PCG64(config.seed))
    one = np.array(1, np.float32)
    (leader, first), *others = players.items()
    states = {name: loaded.start() for name in players}
    frame = np.zeros(PITCHES, np.float32)
    different = ties = 0
    worst = 0.0
    for at in range(config.frames):
        noise = chance.random(loaded.metadata.noise, np.float32)
        drawn, said, states[leader] = first(frame, states[leader], noise, one)
        for name, step in others:
            drawn_too, said_too, states[name] = step(frame, states[name], noise, one)
            worst = further(worst, said, said_too)
            apart = np.flatnonzero(drawn != drawn_too)
            if len(apart):
                apart = apart[:1] if loaded.given else apart
                different += 1
                ties += len(apart)
                level = states[leader][2][PITCHES]
                if not (distance_to_tie(said, noise, level, head)[apart] <= config.tolerance).all():
                    raise InputError(f"export: {name} drew other notes in frame {at}, and not by a near-tie")
        frame = drawn
    counts = {"frames_drawn": config.frames, "frames_different": different, "near_ties": ties}
    return counts, worst


@torch.no_grad()
def distance_to_tie(said: Floats, noise: Floats, level: Floats, head: Head) -> Floats:
    """How far each pitch's probabilities (3, 88) are from turning what the `head` draws after a frame's level: (88,).

    A cell turns on sounding, on being struck again, or on a velocity half-way between two whole numbers: the way there
    by the slope where it is.
    """
    again = np.abs(said[1] - noise[PITCHES : 2 * PITCHES])
    expected = torch.from_numpy(said[2]).clamp(1e-6, 1 - 1e-6).requires_grad_()
    with torch.enable_grad():
        moved = torch.logit(expected) + head.log_scale.exp() * laplace_quantile(torch.tensor(noise[NOISE - 1]))
        velocity = head.velocity(moved, level_logit(torch.as_tensor(level)))
        (slope,) = torch.autograd.grad(velocity.sum(), expected)
    half_way = ((velocity % 1 - 0.5).abs() / slope.clamp(min=1e-6)).numpy()
    distance: Floats = np.minimum(np.abs(said[0] - noise[:PITCHES]), np.minimum(again, half_way))
    return distance


def choose_windows(windows: Windows, config: ExportConfig) -> list[Roll]:
    """`config.windows` real windows of `windows.length` frames, spread over the validation split, all of them where
    there are fewer; and up to LONG passages three times as long, in which a ring of keys goes round.

    Raises InputError when every validation piece is shorter than a window.
    """
    length = windows.length
    chosen = windows.excerpts("valid", length, length // 8, config.windows)
    if not chosen:
        raise InputError(f"export: no validation piece has {length} frames; make window.length smaller")
    long = windows.excerpts("valid", 3 * length, length // 8, LONG)
    return [roll[:length] for roll in chosen] + [roll[: 3 * length] for roll in long]
