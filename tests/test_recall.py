"""Recalling what sounded, against attention by hand."""

import torch
from torch import Tensor

from pianoai.models.transformer import KEY_WIDTH, Recall

WINDOW, HEADS, TIME = 6, 3, 15


def turned(part: Tensor, at: int) -> Tensor:
    """Pairs of numbers as complex ones, each turned by its whole turns per four windows, times the position."""
    half = KEY_WIDTH // 2
    turns = torch.logspace(0, torch.log2(torch.tensor(2.0 * WINDOW)).item(), half, 2).round()
    return torch.complex(part[:half], part[half:]) * torch.exp(2j * torch.pi * turns * at / (4 * WINDOW))


@torch.no_grad()
def test_found_is_the_mean_of_what_sounded_weighed_by_attention() -> None:
    torch.manual_seed(2)
    recall, x = Recall(10, HEADS, WINDOW), torch.randn(2, TIME, 10)
    recall.sharpness.uniform_(1, 3)
    features = (torch.rand(2, TIME, 264) < 0.2).float()
    found = recall(x, features)
    assert found.shape == (2, TIME, 88, 2 * HEADS)
    asked = recall.ask(x).view(2, TIME, 2, HEADS, KEY_WIDTH)
    for batch, time, head in ((0, 0, 0), (0, 3, 1), (1, 5, 2), (1, 6, 0), (0, TIME - 1, 1)):
        seen = range(max(0, time - WINDOW + 1), time + 1)
        scores = []
        for other in seen:
            q, k = asked[batch, time, 0, head], asked[batch, other, 1, head]
            query = turned(q / q.square().mean().sqrt() * recall.sharpness[0], time)
            key = turned(k / k.square().mean().sqrt() * recall.sharpness[1], other)
            scores.append(float((query * key.conj()).real.sum()) / KEY_WIDTH**0.5)
        shares = torch.softmax(torch.tensor(scores), 0)
        for kind, pitch in ((0, 0), (1, 40), (0, 87)):
            expected = sum(
                share * features[batch, other, 88 * kind + pitch] for share, other in zip(shares, seen, strict=True)
            )
            torch.testing.assert_close(found[batch, time, pitch, 2 * head + kind], expected, atol=1e-5, rtol=1e-4)
