"""Where a number comes from: the command, the code and the machine that made it, stored beside every result."""

import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch


def provenance() -> dict[str, Any]:
    """The command line, our version and git commit (None outside a checkout, "+" after it: changed files), the machine."""
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "lwrefinenet": package_version(),
        "commit": _commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": {
            "processor": _processor(),
            "threads": torch.get_num_threads(),
            "system": platform.system(),
            **_gpu(),
        },
    }


def _gpu() -> dict[str, str]:
    return {"gpu": computer(torch.device("cuda"))} if torch.cuda.is_available() else {}


def computer(device: torch.device) -> str:
    """What computes there, by its name: the GPU's, or the processor's with its threads."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    threads = torch.get_num_threads()
    named = f"{threads} {'thread' if threads == 1 else 'threads'} of {_processor()}"
    return named if device.type == "cpu" else device.type


def package_version() -> str:
    """Our version, or that we are not installed."""
    try:
        return version("lwrefinenet")
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str | None:
    folder = Path(__file__).parent
    # Installed into an environment inside another project's repository we are not what its commit says.
    if _git(folder, "ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    head = _git(folder, "rev-parse", "HEAD")
    if head is None:
        return None
    return head + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    """The processor's name and what matters for its speed, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    values = {key.strip(): value.strip() for key, value in fields.items()}
    flags = set(values.get("flags", "").split())
    notable = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{values.get('model name', platform.machine())} ({', '.join(notable) or 'no AVX2'})"
