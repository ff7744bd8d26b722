"""How much memory this process uses."""

from pathlib import Path


def bytes_of(name: str) -> int:
    """Return what the kernel tells as VmRSS (resident now), VmHWM (the most it ever was), ..."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"the kernel does not tell {name} of this process")
