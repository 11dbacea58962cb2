"""What a function must keep to, and whether figures belong to the zip that is there."""

from typing import Any

MIB = 2**20  # Lambda's megabyte
SPARE_MB = 30  # of its memory a function must be able to do without
MOST_RESIDENT_MB = 64
BEATS_PER_MINUTE = 120
PIECE = 32  # beats
PERIOD_US = 20_000  # Lambda shares out CPUs in slices of this length
CPU_AT_128_MB = 0.072  # 1.44 ms in every 20; the share grows with the memory


def cpu_share(memory_mb: int) -> float:
    """The part of one CPU that Lambda gives a function of so much memory."""
    return CPU_AT_128_MB * memory_mb / 128


def frame_ms(frames_per_beat: int) -> float:
    """How long a frame lasts at 120 beats a minute, in milliseconds."""
    return 60_000 / BEATS_PER_MINUTE / frames_per_beat


def failures(figures: dict[str, Any]) -> list[str]:
    """One line for each limit that measured figures break; a figure that was not measured (None) breaks none."""
    found = []
    small = figures["memory_mb"] - SPARE_MB
    if figures.get("survives_with_less") is False:
        found.append(f"the function does not survive in {small} MB, {SPARE_MB} less than deploy.memory_mb")
    for key, most in {"resident_mb": MOST_RESIDENT_MB, "max_memory_used_mb": small}.items():
        value = figures.get(key)
        if value is not None and value > most:
            found.append(f"{key} is {value:.1f}, more than {most}")
    value, lasts = figures.get("throttled_ms_per_frame"), frame_ms(figures["frames_per_beat"])
    if value is not None and value > lasts:
        found.append(
            f"a frame takes {value:.1f} ms with Lambda's share of a CPU, longer than the {lasts:.1f} ms that it lasts"
            f" at {BEATS_PER_MINUTE} beats a minute"
        )
    return found


def stale(figures: dict[str, Any], package: dict[str, Any]) -> bool:
    """Whether figures are of another zip than the one that metrics/package.json describes."""
    return bool(figures["zip_sha256"] != package["zip_sha256"])
