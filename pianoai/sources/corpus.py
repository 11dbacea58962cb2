"""The source `corpus`: scores that music21 carries, read as one keyboard part; needs no network."""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from music21 import corpus
from music21.common import getCorpusFilePath
from tqdm import tqdm

from pianoai.sources import DataConfig, Piece, Refused, scores
from pianoai.sources.workers import spread

KEYBOARD = (  # for two hands and nothing else
    "bach/bwv846",
    "chopin/mazurka06-2",
    "cpebach/h186",
    "joplin/maple_leaf_rag",
    "mozart/k545/*",
    "schoenberg/opus19/*",
    "schumann_clara/polonaise_op1n*",
    "verdi/laDonnaEMobile",
)
CHORALES = ("bach/bwv*",)  # and all of them in four or more parts, once KEYBOARD has been served
QUARTETS = (
    "beethoven/opus*",
    "haydn/opus*",
    "mozart/k155/*",
    "mozart/k156/*",
    "mozart/k458/*",
    "mozart/k80/*",
    "schumann_robert/opus41no1/*",
)
# The oboe d'amore is written a third too high; the same chorale without it is bach/bwv248.23-s.
LEFT_OUT = ("bach/bwv248.23-2",)
FORMATS = (".mxl", ".xml", ".krn")  # of one piece in two formats the first is read


def read(config: DataConfig) -> Iterator[Piece | Refused]:
    """The pieces of the installed music21, by name; the scores are parsed on all cores."""
    found = sorted(choose(Path(path) for path in corpus.getCorePaths()).items())
    yield from tqdm(spread(read_score, found, config.backend), total=len(found), desc="reading scores", unit="score")


def read_score(name: str, path: Path) -> Piece | Refused:
    """One score of the corpus."""
    return scores.read(name, path, group(name), one_player=kind(name) == "keyboard")


def choose(paths: Iterator[Path]) -> dict[str, Path]:
    """Of some files of the corpus those to read, by name: the path without its ending."""
    root = Path(getCorpusFilePath())
    found: dict[str, Path] = {}
    for path in paths:
        name = path.relative_to(root).with_suffix("").as_posix()
        if path.suffix not in FORMATS or kind(name) == "other":
            continue
        if name not in found or FORMATS.index(path.suffix) < FORMATS.index(found[name].suffix):
            found[name] = path
    return found


def kind(name: str) -> str:
    """keyboard, chorale, quartet or other."""
    if name in LEFT_OUT:
        return "other"
    for word, patterns in (("keyboard", KEYBOARD), ("chorale", CHORALES), ("quartet", QUARTETS)):
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            return word
    return "other"


def group(name: str) -> str:
    """The group of a piece: versions of one movement of Bach's, movements of one work.

    bach/bwv112.5-sc is a version of bach/bwv112.5.
    """
    return re.sub(r"-.*" if kind(name) == "chorale" else r"/movement.*", "", name)
