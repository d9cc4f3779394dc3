"""What is measured, figure by figure, and what must be reached.

Every comparison is made in bursts that take turns between servers that run at the same time: what the machine does
meanwhile, it does to both. A ratio is taken within each turn; what is told is the median of the turns."""

import contextlib
import dataclasses
import json
import pathlib
import re
import subprocess
import time

import load
import machine
from report import Report, median, number, spread
from servers import Running, Server, Skip, all_peers, crate, finished, ours
from shared import store


@dataclasses.dataclass
class Bench:
    """How long and how often, and what the figures share."""

    report: Report
    seconds: float
    turns: int
    smoke: bool
    binary: pathlib.Path | None
    against: pathlib.Path | None
    reply: str = ""
    _installed: set = dataclasses.field(default_factory=set)

    def start(self, stack: contextlib.ExitStack, server: Server, **how) -> Running | None:
        """Starts a server that ends with the stack; `None`, and the reason told, if it cannot be had."""
        try:
            if server.name not in self._installed:
                server.install()
                self._installed.add(server.name)
            return stack.enter_context(Running(server, self.reply, **how))
        except (Skip, OSError, subprocess.CalledProcessError) as reason:
            self.report.say(f"SKIP {server.name}: {reason}")
            self.report.record("skip", server=server.name, reason=str(reason))
            return None

    def own(self, **settings) -> Server:
        return ours(self.binary, **settings)

    def peers(self) -> list[Server]:
        cheap = {"hyper", "axum", "nginx"}
        return [peer for peer in all_peers() if not self.smoke or peer.name in cheap]

    def sample(self) -> None:
        """What the servers with a fixed reply say: our own answer to the first session's echo."""
        if not self.reply:
            with contextlib.ExitStack() as stack:
                own = self.start(stack, self.own())
                own.sessions(1)
                self.reply = own.load.do("sample", call="echo")["body"]

    def few(self, count: int, smoke: int) -> int:
        return smoke if self.smoke else count


def turn(servers: list[Running], number: int) -> list[Running]:
    """The order of one turn: each is first as often as any other."""
    at = number % len(servers)
    return servers[at:] + servers[:at]


def echo(bench: Bench) -> None:
    """CPU per echo beside bare HTTP servers and other MCP servers; echoes per second on one core."""
    bench.sample()
    with contextlib.ExitStack() as stack:
        started = [bench.start(stack, server) for server in [bench.own(), *bench.peers()]]
        if bench.against:
            started.append(bench.start(stack, ours(bench.against, name="against")))
        running = [server for server in started if server]
        for server in running:
            server.sessions(100)
            server.burst("echo", bench.seconds)
        bursts = {server.server.name: [] for server in running}
        for number_of_turn in range(bench.turns):
            for server in turn(running, number_of_turn):
                bursts[server.server.name].append(server.burst("echo", bench.seconds))
    own = bursts["ours"]
    rows = []
    for name, found in bursts.items():
        to_axum = [a["cpu"] / b["cpu"] for a, b in zip(found, bursts.get("axum", found))]
        to_own = [a["cpu"] / b["cpu"] for a, b in zip(found, own)]
        rows.append([name, spread(b["cpu"] for b in found), spread(b["rate"] for b in found), number(median(to_axum)), number(median(to_own))])
        bench.report.record("echo", server=name, cpu=[b["cpu"] for b in found], rate=[b["rate"] for b in found])
    bench.report.table(["server", "CPU µs per echo", "echoes per second", "CPU to axum's", "CPU to ours"], rows)
    if "axum" in bursts:
        ratios = [a["cpu"] / b["cpu"] for a, b in zip(own, bursts["axum"])]
        bench.report.judge("echo", "CPU per echo to bare axum's", ratios, 1.4)
    least = {"rmcp": 3.5, "typescript-v1": 35, "typescript-v2": 30, "python-sdk": 45, "original-sse": 40, "original-json": 20}
    for name, limit in least.items():
        if name in bursts:
            ratios = [a["cpu"] / b["cpu"] for a, b in zip(bursts[name], own)]
            bench.report.judge("echo", f"CPU of {name} to ours", ratios, limit, least=True)


def two_calls(bench: Bench, figure: str, what: str, dear: str, cheap: str, limit: float) -> None:
    """One kind of call beside another, on two servers of ours."""
    with contextlib.ExitStack() as stack:
        pair = [bench.start(stack, bench.own()) for _ in range(2)]
        for server in pair:
            server.sessions(100)
        found = {dear: [], cheap: []}
        for number_of_turn in range(bench.turns):
            calls = [(pair[0], dear), (pair[1], cheap)]
            for server, call in calls if number_of_turn % 2 else reversed(calls):
                found[call].append(server.burst(call, bench.seconds)["cpu"])
    rows = [[call, spread(found[call])] for call in (cheap, dear)]
    bench.report.table(["call", "CPU µs"], rows)
    bench.report.judge(figure, what, [a / b for a, b in zip(found[dear], found[cheap])], limit)


def sse(bench: Bench) -> None:
    """An answer as an event beside one as JSON."""
    two_calls(bench, "sse", "CPU of an SSE answer to a JSON answer's", "echo_sse", "echo_json", 1.4)


def stateless(bench: Bench) -> None:
    """A call of revision 2026-07-28 beside one in a session: without state, and with a handle, which is looked up and mirrored."""
    two_calls(bench, "stateless", "CPU of a stateless tools/call to a sessioned one's", "echo_stateless", "echo", 1.25)
    two_calls(bench, "stateless", "CPU of one with a handle to a sessioned one's", "echo_handle", "echo", 1.25)


def sessions(bench: Bench) -> None:
    """Sessions created per second on one core."""
    with contextlib.ExitStack() as stack:
        settings = {"MCP_ECHO_SESSION__CAPACITY": "10000000"}
        servers = [bench.own(**settings), *[peer for peer in bench.peers() if not peer.fixed]]
        running = [server for server in (bench.start(stack, server) for server in servers) if server]
        found = {server.server.name: [] for server in running}
        for number_of_turn in range(bench.turns):
            for server in turn(running, number_of_turn):
                burst = server.burst("initialize", bench.seconds, connections=16)
                found[server.server.name].append(burst)
    rows = []
    for name, bursts in found.items():
        rows.append([name, spread(b["rate"] for b in bursts), spread(b["cpu"] for b in bursts)])
        bench.report.record("sessions", server=name, rate=[b["rate"] for b in bursts], cpu=[b["cpu"] for b in bursts])
    bench.report.table(["server", "sessions per second", "CPU µs per session"], rows)
    if "rmcp" in found:
        # By CPU, since the generator shares its core with the rest of the machine.
        ratios = [a["cpu"] / b["cpu"] for a, b in zip(found["rmcp"], found["ours"])]
        bench.report.judge("sessions", "sessions per CPU second to rmcp's", ratios, 5, least=True)


def memory(bench: Bench) -> None:
    """Resident memory that each idle session adds: initialize, initialized and one echo have been said in it."""
    rows = []
    counts = {"ours": bench.few(100_000, 5_000)}
    for server in [bench.own(MCP_ECHO_SESSION__CAPACITY="10000000", MCP_SESSION_TIMEOUT="3600"), *bench.peers()]:
        if server.fixed:
            continue
        count = counts.get(server.name, bench.few(5_000, 500))
        with contextlib.ExitStack() as stack:
            running = bench.start(stack, server)
            if not running:
                continue
            before_count = max(count // 50, 100)
            running.sessions(before_count)
            before = machine.rss(running.pids)
            running.sessions(count)
            each = (machine.rss(running.pids) - before) / (count - before_count)
        rows.append([server.name, number(count), number(each)])
        bench.report.record("memory", server=server.name, sessions=count, bytes=each)
        if server.name == "ours":
            own = each
    bench.report.table(["server", "sessions", "bytes each"], rows)
    bench.report.judge("memory", "bytes per idle session", [own], 560)


TEN = [f"echo-stateful{number}.localhost" for number in range(10)]


def million(bench: Bench) -> None:
    """A million live sessions over the ten hosts, and the echo rate beside a server with a thousand."""
    count = bench.few(1_000_000, 20_000)
    with contextlib.ExitStack() as stack:
        settings = {
            "MCP_ECHO_SESSION__CAPACITY": str(count),
            "MCP_SESSION_TIMEOUT": "7200",
            # More is booked for each than it takes, and so many do not fit as configured.
            "MCP_ECHO_MEMORY__MAX_BYTES": str(2 << 30),
        }
        many = bench.start(stack, bench.own(hosts=TEN, **settings))
        few = bench.start(stack, bench.own(hosts=TEN, **settings))
        took = many.sessions(count)
        few.sessions(1000)
        megabytes = machine.rss(many.pids) / 1e6
        bench.report.say(f"{number(count)} sessions opened in {number(took)} s, three requests each.\n")
        ratios = []
        for number_of_turn in range(bench.turns):
            bursts = {}
            for server, name, used in turn([(many, "many", count), (few, "few", 1000)], number_of_turn):
                bursts[name] = server.burst("echo", bench.seconds, sessions=used)
            ratios.append(bursts["few"]["cpu"] / bursts["many"]["cpu"])
    bench.report.judge("million", "resident memory, MB", [megabytes], 800)
    bench.report.judge("million", "echoes per CPU second to those with 1 000 sessions", ratios, 0.8, least=True)


def streams(bench: Bench) -> None:
    """Ten thousand open GET streams, and the echo rate beside a server with none."""
    files = machine.raise_open_files()
    count = min(bench.few(10_000, 500), files - 500)
    with contextlib.ExitStack() as stack:
        pair = [bench.start(stack, bench.own(MCP_SESSION_TIMEOUT="3600")) for _ in range(2)]
        for server in pair:
            server.sessions(count + 100)
        with_streams, without = pair
        before = machine.rss(with_streams.pids)
        opened = with_streams.load.do("streams", count=count)["streams"]
        each = (machine.rss(with_streams.pids) - before) / max(opened, 1)
        ratios = []
        for number_of_turn in range(bench.turns):
            bursts = {server: server.burst("echo", bench.seconds) for server in turn(pair, number_of_turn)}
            ratios.append(bursts[without]["cpu"] / bursts[with_streams]["cpu"])
        held = with_streams.load.do("streams_open")["streams"]
    bench.report.say(f"{number(opened)} streams opened.\n")
    bench.report.judge("streams", "streams still open, of those opened", [held / count], 1, least=True)
    bench.report.judge("streams", "bytes per stream", [each], 13_500)
    bench.report.judge("streams", "echoes per CPU second to those without streams", ratios, 0.8, least=True)


def start(bench: Bench) -> None:
    """From exec to the first right answer."""
    bench.sample()
    own, axum = bench.own(), crate("axum", fixed=True)
    for server in (own, axum):
        server.install()
    found = {"ours": [], "axum": []}
    with contextlib.ExitStack() as stack:
        generators = {}
        for server in (own, axum):
            # The generator of a server that is not started yet.
            port = machine.free_port()
            fields = ("path", "version", "accept", "tool", "argument", "fixed", "delete")
            dialect = {"address": f"127.0.0.1:{port}", "hosts": [host.format(port=port) for host in server.hosts], "pids": []}
            dialect |= {name: getattr(server, name) for name in fields}
            generators[server.name] = (load.Load(dialect, None), server, port)
            stack.callback(generators[server.name][0].close)
        for _ in range(bench.few(25, 3)):
            for name, (generator, server, port) in generators.items():
                (program, *arguments), environment = server.command(port, bench.reply, "/tmp")
                environment.pop("LOG_FILE", None)
                call = "echo" if server.fixed else "initialize"
                answer = generator.do("start", program=program, arguments=arguments, environment=environment, call=call)
                found[name].append(answer["seconds"] * 1e3)
    bench.report.table(["server", "ms"], [[name, spread(values)] for name, values in found.items()])
    bench.report.judge("start", "ms over bare axum's", [a - b for a, b in zip(found["ours"], found["axum"])], 5)


def latency(bench: Bench) -> None:
    """Latency at half of the maximum rate, calls sent on schedule whether or not answers come."""
    bench.sample()
    with contextlib.ExitStack() as stack:
        pair = [bench.start(stack, server) for server in (bench.own(), crate("axum", fixed=True))]
        names = [server.server.name for server in pair]
        found = {name: [] for name in names}
        for server in pair:
            server.sessions(100)
        for number_of_turn in range(bench.turns):
            for server in turn(pair, number_of_turn):
                most = server.burst("echo", bench.seconds)["rate"]
                found[server.server.name].append(server.burst("echo", bench.seconds * 2, rate=most / 2))
    rows = [[name, *[spread(b[key] for b in found[name]) for key in ("p50", "p90", "p99")]] for name in names]
    bench.report.table(["server", "p50 µs", "p90 µs", "p99 µs"], rows)
    bench.report.judge("latency", "p99 to bare axum's", [a["p99"] / b["p99"] for a, b in zip(found["ours"], found["axum"])], 1.25)


def cores(bench: Bench) -> None:
    """Both cores, shared with two generators, beside one core: what the CPU that the server got came to."""
    bench.sample()
    found, shares = {}, []
    for server in (bench.own(), crate("axum", fixed=True)):
        with contextlib.ExitStack() as stack:
            one = bench.start(stack, server)
            both = bench.start(stack, server, core=None, load_core=None)
            second = both.generator(None)
            stack.callback(second.close)
            for running in (one, both):
                running.sessions(100)
            if not server.fixed:
                second.do("sessions", count=100, connections=32)
            ratios = found.setdefault(server.name, [])
            plan = {"call": "echo", "connections": 32, "seconds": bench.seconds, "warmup": 0.2, "rate": None, "sessions": 100, "most": None}
            for _ in range(bench.turns):
                alone = one.burst("echo", bench.seconds)
                both.load.begin("burst", **plan)
                second.begin("burst", **plan)
                parts = [generator.end("burst") for generator in (both.load, second)]
                answers = sum(part["answers"] for part in parts)
                # Each generator has seen the whole server's CPU while it worked.
                cpu = max(part["server_cpu"] for part in parts)
                own = sum(part["own_cpu"] for part in parts)
                each = finished({"answers": answers, "server_cpu": cpu, "seconds": bench.seconds})["cpu"]
                ratios.append(2 * alone["cpu"] / each)
                shares.append((cpu + own) / max(part["seconds"] for part in parts))
    bench.report.say(f"Server and generators together kept {spread(shares)} cores busy.\n")
    bench.report.table(["server", "two cores to one"], [[name, spread(ratios)] for name, ratios in found.items()])
    bench.report.judge("cores", "rate of two cores to one's, by the CPU that each echo took", found["ours"], 1.85, least=True)


def posts(server: Running, path: str, body: str, count: int, *how: str) -> float:
    """CPU seconds of a server that answers so many POSTs of h2load, all of them with 200."""
    (host,) = (host.format(port=server.port) for host in server.server.hosts[:1])
    headers = ["-H", "content-type: application/json", "-H", "accept: application/json"]
    headers += ["-H", f"mcp-session-id: {server.opened}"] if server.opened else []
    sent = pathlib.Path(server.directory) / "sent.json"
    sent.write_text(body)
    url = [f"--connect-to=127.0.0.1:{server.port}", "-d", str(sent), f"http://{host}{path}"]
    before = machine.cpu(server.pids)
    command = [*machine.on_core(machine.LOAD_CORE), "h2load", "-n", str(count), *how, *headers, *url]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if f"{count} 2xx" not in told:
        raise RuntimeError(f"not every answer was right: {told}")
    return machine.cpu(server.pids) - before


def beside_axum(bench: Bench, one: callable) -> dict[str, list[float]]:
    """What `one` says of ours and of bare axum, turn by turn."""
    machine.install("nghttp2-client:h2load")
    bench.sample()
    with contextlib.ExitStack() as stack:
        pair = [bench.start(stack, server) for server in (bench.own(), crate("axum", fixed=True))]
        pair[0].open()
        found = {server.server.name: [] for server in pair}
        for number_of_turn in range(bench.turns):
            for server in turn(pair, number_of_turn):
                found[server.server.name].append(one(server))
    return found


def call_of(tool: str, arguments: dict) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})


def http2(bench: Bench) -> None:
    """HTTP/2 without TLS: 64 streams at a time on one connection."""
    count = bench.few(20_000, 500)
    echo_call = call_of("echo", {"message": "x" * 30})
    found = beside_axum(bench, lambda server: posts(server, "/mcp", echo_call, count, "-c", "1", "-m", "64") / count * 1e6)
    bench.report.table(["server", "CPU µs per echo"], [[name, spread(values)] for name, values in found.items()])
    bench.report.judge("http2", "CPU per echo to bare axum's", [a / b for a, b in zip(found["ours"], found["axum"])], 1.5)


def large(bench: Bench) -> None:
    """A reader of answers of 16 MiB, over HTTP/1: `big_response`, beside a fixed body."""
    count, mebibytes = bench.few(20, 2), 16
    # The tool's limit is for the whole text; what is around it makes up for the rest.
    call = call_of("big_response", {"bytes": mebibytes * 1024 * 1024 - 1024})

    def one(server):
        path = "/large" if server.server.fixed else "/mcp"
        return posts(server, path, call, count, "-c", "1", "--h1") / count / mebibytes * 1e6

    found = beside_axum(bench, one)
    bench.report.table(["server", "CPU µs per MiB"], [[name, spread(values)] for name, values in found.items()])
    bench.report.judge("large", "CPU per MiB to bare axum's", [a / b for a, b in zip(found["ours"], found["axum"])], 1.15)


CALLS = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", re.MULTILINE)


def syscalls(bench: Bench) -> None:
    """System calls per echo."""
    machine.install("strace")
    count = bench.few(20_000, 2_000)
    with contextlib.ExitStack() as stack:
        server = bench.start(stack, bench.own())
        server.sessions(100)
        server.burst("echo", 0.3)
        counted = pathlib.Path(server.directory) / "strace"
        tracer = subprocess.Popen(["strace", "-c", "-f", "-q", "-o", str(counted), "-p", str(server.process.pid)], stderr=subprocess.DEVNULL)
        time.sleep(1)
        # The warm-up counts as well, and the connections.
        result = server.load.do("burst", call="echo", connections=64, seconds=60, warmup=0, rate=None, sessions=100, most=count)
        tracer.send_signal(2)
        tracer.wait(timeout=30)
        found = {name: int(calls) / result["answers"] for calls, name in CALLS.findall(counted.read_text())}
    rows = [[name, number(each)] for name, each in sorted(found.items(), key=lambda pair: -pair[1]) if name != "total" and each >= 0.005]
    bench.report.table(["system call", "per echo"], rows)
    reads = sum(found.get(name, 0) for name in ("read", "readv", "recvfrom", "recvmsg"))
    writes = sum(found.get(name, 0) for name in ("write", "writev", "sendto", "sendmsg"))
    bench.report.judge("syscalls", "reads per echo", [reads], 1.1)
    bench.report.judge("syscalls", "writes per echo", [writes], 1.1)


ALL = {
    function.__name__: function
    for function in (echo, sse, stateless, http2, large, sessions, memory, million, streams, start, latency, cores, syscalls, store)
}
