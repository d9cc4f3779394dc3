"""The load generator as a process beside one server: commands in, answers out."""

import json
import pathlib
import subprocess

import machine

ROOT = pathlib.Path(__file__).resolve().parents[2]
CRATES = ROOT / "target/bench-peers"
# Where the workspace of tests/ is built.
TESTS = ROOT / "target/tests"


def build(crate: str) -> None:
    """Builds a crate below tests/bench in release mode."""
    here = pathlib.Path(__file__).parent
    source, target = (here / "load", TESTS) if crate == "load" else (here / "peers" / crate, CRATES)
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--target-dir", str(target)]
    subprocess.run([*command, "--manifest-path", str(source / "Cargo.toml")], check=True)


class Load:
    """Talks to one server; sessions are kept from one command to the next."""

    def __init__(self, dialect: dict, core: int | None):
        command = [*machine.on_core(core), str(TESTS / "release/bench-load")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.say(dialect)

    def say(self, line: dict) -> None:
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()

    def do(self, what: str, **arguments) -> dict:
        self.begin(what, **arguments)
        return self.end(what)

    def begin(self, what: str, **arguments) -> None:
        """Asks without waiting, so that two generators can work at the same time."""
        self.say({"do": what, **arguments})

    def end(self, what: str) -> dict:
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"error": "the generator ended"}
        if "error" in answer:
            raise RuntimeError(f"{what}: {answer['error']}")
        return answer

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)
