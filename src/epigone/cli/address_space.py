"""The limit that the system may set to a process's address space (`ulimit -v`), checked before torch is loaded.

Libraries that cannot get memory while they are being loaded, or outside of Python, end the process without a word.
"""

from __future__ import annotations

from epigone.errors import OutOfMemory

TO_TRAIN, TO_USE = 2_500_000 * 1024, 1_250_000 * 1024
"""Least bytes for training, and for everything else that loads a model. The small bundled base was trained with 2.3
million KB, and could not be with 2.0; it wrote with 1.3 (torch 2.13 for processors, two threads, 2026-11-30)."""


def check_address_space(needed: int) -> None:
    """Raises OutOfMemory where this process may not take `needed` bytes of address space."""
    if not needed:
        return
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < needed:
        raise OutOfMemory(
            f"This process is limited to {limit / 1e9:.1f} GB of address space; torch and a model need "
            f"{needed / 1e9:.1f} GB here.",
            hint='Raise the limit, which "ulimit -v" shows in kilobytes: ulimit -v unlimited',
        )
