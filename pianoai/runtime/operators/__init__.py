"""The operators of TorchScript that run here, in NumPy, by the name that serialised code calls them.

What is not in OPERATORS does not run. Tensors are arrays, 0-dimensional ones included.
"""

from pianoai.runtime.operators.activations import ACTIVATIONS
from pianoai.runtime.operators.creation import CREATION
from pianoai.runtime.operators.elementwise import ELEMENTWISE
from pianoai.runtime.operators.indexing import INDEXING
from pianoai.runtime.operators.layers import LAYERS
from pianoai.runtime.operators.promotion import Operator
from pianoai.runtime.operators.reductions import REDUCTIONS
from pianoai.runtime.operators.shapes import SHAPES
from pianoai.runtime.operators.values import VALUES

OPERATORS: dict[str, Operator] = {
    **ELEMENTWISE,
    **ACTIVATIONS,
    **SHAPES,
    **INDEXING,
    **REDUCTIONS,
    **LAYERS,
    **CREATION,
    **VALUES,
}
