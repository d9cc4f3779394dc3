"""The figure of the shared store: replicas on one Redis beside the same server with its sessions in memory."""

import contextlib
import re
import shutil
import subprocess
import tempfile
import time

import machine
from report import number, spread
from servers import finished


class Store:
    """A Redis server of its own, gone at the end."""

    def __init__(self, *arguments: str):
        machine.install("redis-server")
        self.port, self.directory = machine.free_port(), tempfile.mkdtemp(prefix="bench-store-")
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--dir", self.directory, "--save", "", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.settings = {"MCP_STORE_URL": f"redis://127.0.0.1:{self.port}", "MCP_ECHO_STORE__NAMESPACE": "bench"}
        self.settings["MCP_ECHO_SESSION__CAPACITY"] = "10000000"
        while "PONG" not in self.ask("PING"):
            time.sleep(0.05)

    def ask(self, *command: str) -> str:
        asked = ["redis-cli", "-p", str(self.port), *command]
        return subprocess.run(asked, capture_output=True, text=True).stdout.strip()

    def scripts(self) -> int:
        return sum(int(calls) for calls in re.findall(r"cmdstat_eval(?:sha)?:calls=(\d+)", self.ask("INFO", "commandstats")))

    def used(self) -> int:
        return int(re.search(r"used_memory:(\d+)", self.ask("INFO", "memory")).group(1))

    def seen(self, send: callable) -> list[str]:
        """The arguments of the longest script that the store is sent meanwhile."""
        watching = subprocess.Popen(["redis-cli", "-p", str(self.port), "MONITOR"], stdout=subprocess.PIPE, text=True)
        watching.stdout.readline()
        send()
        time.sleep(0.2)
        watching.terminate()
        lines = [line for line in watching.stdout.read().splitlines() if '"EVALSHA"' in line]
        return [text.encode().decode("unicode_escape") for text in re.findall(r'"((?:[^"\\]|\\.)*)"', max(lines, key=len))]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def trips(bench, server, store, call: str) -> float:
    """Scripts per call, those that are sent at rest left out."""
    server.burst(call, 0.2)
    count = bench.few(5_000, 200)
    before, start = store.scripts(), time.monotonic()
    answers = server.load.do("burst", call=call, connections=8, seconds=60, warmup=0, rate=None, sessions=100, most=count)["answers"]
    sent, took = store.scripts() - before, time.monotonic() - start
    before, start = store.scripts(), time.monotonic()
    time.sleep(3)
    at_rest = (store.scripts() - before) / (time.monotonic() - start)
    bench.report.record("store", what="scripts a second at rest", each=at_rest)
    return (sent - at_rest * took) / answers


def alone(bench, store, arguments: list[str]) -> float:
    """Echoes per second of the script by itself, without a server of ours."""
    *script, _operation, _sent, _not_after, _away_from, _away_till = arguments
    # Each has an operation's id of its own, as ours have, and no time after which it is too late.
    command = [*script, "__rand_int__", "0", str(2**52), "0", "0"]
    count = str(bench.few(100_000, 1_000))
    how = ["redis-benchmark", "-p", str(store.port), "-n", count, "-c", "64", "-P", "8", "-r", "1000000000", "--csv", *command]
    told = subprocess.run(how, check=True, capture_output=True, text=True).stdout
    return float(re.findall(r'"([\d.]+)"', told.splitlines()[-1])[0])


def beside_memory(bench, store) -> None:
    """CPU of our process and latency, in turns with one that keeps its sessions in memory."""
    with contextlib.ExitStack() as stack:
        pair = {"memory": bench.start(stack, bench.own()), "store": bench.start(stack, bench.own(**store.settings))}
        for server in pair.values():
            time.sleep(0.3)
            server.sessions(100)
        kinds = [(call, f"{trips(bench, pair['store'], store, call):.2f}") for call in ("echo", "echo_sse", "echo_handle", "initialize")]
        bench.report.table(["call", "scripts"], [list(row) for row in kinds])
        bench.report.judge("store", "scripts an echo", [float(kinds[0][1])], 1.05)
        arguments = store.seen(lambda: pair["store"].load.do("sample", call="echo"))
        found, paced = {name: [] for name in pair}, {name: [] for name in pair}
        scripts = []
        for turn in range(bench.turns):
            for name in list(pair)[:: 1 if turn % 2 else -1]:
                found[name].append(pair[name].burst("echo", bench.seconds))
                paced[name].append(pair[name].burst("echo", bench.seconds, rate=1000.0))
            scripts.append(alone(bench, store, arguments))
        begun = [pair["store"].burst("initialize", bench.seconds, connections=16)["rate"] for _ in range(bench.turns)]
    rows = [
        [name, spread(b["cpu"] for b in found[name]), spread(b["rate"] for b in found[name]), *[spread(b[key] for b in paced[name]) for key in ("p50", "p99")]]
        for name in pair
    ]
    bench.report.table(["sessions in", "CPU µs of ours", "echoes per second", "p50 µs at 1000 a second", "p99 µs"], rows)
    bench.report.say(f"The script alone, by redis-benchmark: {spread(scripts)} per second. Sessions begun per second: {spread(begun)}.\n")
    bench.report.judge("store", "CPU of ours to an echo's in memory", [a["cpu"] / b["cpu"] for a, b in zip(found["store"], found["memory"])], 2.5)
    bench.report.judge("store", "p50 over memory's, ms", [(a["p50"] - b["p50"]) / 1e3 for a, b in zip(paced["store"], paced["memory"])], 0.3)
    bench.report.judge("store", "echoes per second to the script's alone", [a["rate"] / b for a, b in zip(found["store"], scripts)], 0.5, least=True)


def size(bench, store) -> None:
    with contextlib.ExitStack() as stack:
        server = bench.start(stack, bench.own(**store.settings))
        time.sleep(0.3)
        server.sessions(100)
        count = bench.few(20_000, 500)
        before = store.used()
        server.sessions(count + 100)
        # What is kept of single operations is gone by then.
        time.sleep(3)
        each = (store.used() - before) / count
    bench.report.say(f"A session takes {number(each)} bytes in the store: initialize, initialized and one echo have been said in it.\n")
    bench.report.record("store", what="bytes a session", each=each)


def replicas(bench, store) -> None:
    """All on both cores, with a generator each and the store."""
    rows = []
    for count in (1, 2, 3):
        with contextlib.ExitStack() as stack:
            servers = [bench.start(stack, bench.own(**store.settings), core=None, load_core=None) for _ in range(count)]
            time.sleep(0.3)
            for server in servers:
                server.sessions(100)
            rates = []
            plan = {"call": "echo", "connections": 32, "seconds": bench.seconds, "warmup": 0.2, "rate": None, "sessions": 100, "most": None}
            for _ in range(bench.turns):
                for server in servers:
                    server.load.begin("burst", **plan)
                rates.append(sum(finished(server.load.end("burst"))["rate"] for server in servers))
        rows.append([str(count), spread(rates)])
    bench.report.table(["replicas", "echoes per second, together"], rows)


def persistence(bench) -> None:
    """What it costs that an answer is on the store's disk."""
    rows = []
    for name, arguments, settings in [
        ("none", [], {}),
        ("appendfsync everysec", ["--appendonly", "yes"], {}),
        ("appendfsync always", ["--appendonly", "yes", "--appendfsync", "always"], {}),
    ]:
        with contextlib.ExitStack() as stack:
            store = stack.enter_context(Store(*arguments))
            server = bench.start(stack, bench.own(**store.settings, **settings))
            time.sleep(0.3)
            server.sessions(100)
            bursts = [server.burst("echo", bench.seconds) for _ in range(bench.turns)]
            paced = [server.burst("echo", bench.seconds, rate=500.0) for _ in range(bench.turns)]
        rows.append([name, spread(b["rate"] for b in bursts), spread(b["p50"] for b in paced), spread(b["p99"] for b in paced)])
    bench.report.table(["the store's persistence", "echoes per second", "p50 µs at 500 a second", "p99 µs"], rows)


def store(bench) -> None:
    """Sessions in a Redis on the same machine, beside sessions in memory."""
    with Store() as redis:
        beside_memory(bench, redis)
        size(bench, redis)
        replicas(bench, redis)
    persistence(bench)
