"""Hashes every object of the cache and of the remote again, and lists those whose content is not what their name says.

python -m pianoai.storage.audit               exit code 1 if there are any

DVC names an object by the MD5 of its content, but looks at names alone when it pushes: a damaged object in the remote
stays there and is believed to be well. Objects are read in pieces, so memory does not depend on their size.
"""

import argparse
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo
from tqdm import tqdm

from pianoai.storage.advice import advice, set_up_client

PIECE = 1 << 20  # bytes


@dataclass(frozen=True)
class Damaged:
    """An object that is not what its name says."""

    path: str
    size: int
    found: str  # the MD5 of what it holds

    def __str__(self) -> str:
        return f"{self.path}: {self.size:,} bytes with MD5 {self.found}"


def audit(objects: Any) -> Iterator[Damaged | None]:
    """For every object of a database of DVC, by path, what is wrong with it, if anything."""
    fs = objects.fs
    for path in sorted(fs.find(objects.path)):
        digest, size = hashlib.md5(usedforsecurity=False), 0
        with fs.open(path, "rb") as file:
            while piece := file.read(PIECE):
                digest.update(piece)
                size += len(piece)
        found = digest.hexdigest()
        named = "".join(fs.parts(path)[-2:]).removesuffix(".dir")
        yield None if named == found else Damaged(fs.unstrip_protocol(path), size, found)


def main(arguments: list[str]) -> int:
    """Print what is damaged and what to do; the exit code."""
    parser = argparse.ArgumentParser("python -m pianoai.storage.audit", description="See the module's first lines.")
    parser.add_argument("--remote", help="by its name; the default one if not given")
    given = parser.parse_args(arguments)
    damaged = 0
    set_up_client()
    try:
        repo = Repo()
        for place, objects in (("cache", repo.cache.local), ("remote", repo.cloud.get_remote_odb(given.remote))):
            bar = tqdm(audit(objects), f"auditing the {place}", unit=" objects", leave=False, disable=None)
            count = bad = 0
            for wrong in bar:
                count += 1
                if wrong:
                    bad += 1
                    tqdm.write(str(wrong))
            print(f"{place}: {count} objects, {bad} damaged")
            damaged += bad
    except (DvcException, OSError, *client_errors()) as error:
        said = f"{type(error).__name__}: {error} {error.__cause__ or ''}".rstrip()
        print(f"error: {said}", *(f"error: {line}" for line in advice(said)), sep="\n", file=sys.stderr)
        return 1
    if damaged:
        print(
            "Remove the damaged ones. Then `make pull` fetches what is missing here, and `make push`, where a good copy"
        )
        print("is or after `make repro`, stores what is missing there.")
    return int(damaged > 0)


def client_errors() -> tuple[type[Exception], ...]:
    """What the client of S3 raises besides OSError."""
    from aiohttp import ClientError as HttpError
    from botocore.exceptions import BotoCoreError, ClientError

    return BotoCoreError, ClientError, HttpError


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
