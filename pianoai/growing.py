"""NumPy files that are written piece after piece, so that what is written never stands in memory as a whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Growing:
    """An array in a .npy file, to whose end others are appended; its bytes are those that np.save writes."""

    def __init__(self, file: IO[bytes], dtype: DTypeLike, columns: tuple[int, ...]) -> None:
        self._file, self.dtype, self._columns = file, np.dtype(dtype), columns
        self.length = 0
        self._header()

    def append(self, rows: NDArray[Any]) -> None:
        """Put rows at the end. Raises ValueError for such of another type or shape."""
        if rows.dtype != self.dtype or rows.shape[1:] != self._columns:
            raise ValueError(f"rows of {rows.dtype} {rows.shape} do not fit to {self.dtype} {self._columns}")
        self._file.write(np.ascontiguousarray(rows).data)
        self.length += len(rows)

    def _header(self) -> None:
        """Write how long the array is. NumPy leaves room in it for the length to grow."""
        described = np.lib.format.dtype_to_descr(self.dtype)
        header = {"descr": described, "fortran_order": False, "shape": (self.length, *self._columns)}
        self._file.seek(0)
        np.lib.format.write_array_header_1_0(self._file, header)


@contextmanager
def growing(path: Path, dtype: DTypeLike, columns: tuple[int, ...] = ()) -> Iterator[Growing]:
    """A new file for an array ``(any, *columns)``. When something is raised inside, the file is removed."""
    try:
        with path.open("wb") as file:
            array = Growing(file, dtype, columns)
            yield array
            array._header()
    except BaseException:
        path.unlink(missing_ok=True)
        raise
