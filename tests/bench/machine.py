"""What the machine gives: cores, memory, open files, free ports."""

import fcntl
import os
import pathlib
import re
import resource
import shutil
import socket
import subprocess

# The server has one core for itself, the generator the other.
SERVER_CORE, LOAD_CORE = 0, 1


def on_core(core: int | None) -> list[str]:
    """What stands before a command to keep it on one core; nothing where there is but one, or none is asked for."""
    return ["taskset", "-c", str(core)] if core is not None and (os.cpu_count() or 1) > 1 else []


def raise_open_files() -> int:
    """Open files as far as they may go; how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def family(pid: int) -> list[int]:
    """A process and all that it started."""
    pids = [pid]
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            pids += family(int(child))
    return pids


def rss(pids: list[int]) -> int:
    """Resident memory. Bytes."""
    total = 0
    for pid in pids:
        text = pathlib.Path(f"/proc/{pid}/status").read_text()
        total += int(re.search(r"VmRSS:\s+(\d+) kB", text).group(1)) * 1024
    return total


def cpu(pids: list[int]) -> float:
    """What all threads of these processes have worked. Seconds."""
    threads = [thread for pid in pids for thread in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def install(*packages: str) -> None:
    """Debian packages, those of them whose command (the name after the colon) is not there yet; one suite at a time."""
    missing = [name.split(":")[0] for name in packages if not shutil.which(name.split(":")[-1])]
    if missing:
        with open(pathlib.Path(__file__).resolve().parents[2] / "target/apt.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            subprocess.run(["apt-get", "-qq", "update"], check=True)
            apt = ["apt-get", "-qq", "install", "-y", "--no-install-recommends", *missing]
            subprocess.run(apt, check=True, stdout=subprocess.DEVNULL)


def about() -> str:
    """One line for a reader who wants to know where numbers come from."""
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return f"{os.cpu_count()} cores, {cpu.group(1) if cpu else 'unknown CPU'}, Linux {os.uname().release}"
