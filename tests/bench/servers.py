"""The servers that are measured: how each is installed, started and talked to."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import load
import machine

PEERS = pathlib.Path(__file__).with_name("peers")
TARGET = load.ROOT / "target"
DIST = TARGET / "dist/mcp-echo-stateful"
"""What is measured unless another build is named: the profile of the image."""
BOTH = "application/json, text/event-stream"


class Skip(Exception):
    """A server that cannot be had here; says why."""


@dataclasses.dataclass(frozen=True)
class Server:
    """What is the same whenever it runs."""

    name: str
    install: callable
    command: callable
    """(port, fixed reply, directory) -> arguments and environment"""
    version: str = "2025-06-18"
    accept: str = BOTH
    tool: str = "echo"
    argument: str = "message"
    fixed: bool = False
    delete: bool = True
    hosts: tuple[str, ...] = ("127.0.0.1:{port}",)
    path: str = "/mcp"


def ours(binary: pathlib.Path | None, name: str = "ours", hosts=("echo-stateful0.localhost",), **settings: str) -> Server:
    """This repository's server with its whole default stack: everything as configured, the access log to a file."""
    binary = binary or DIST

    def install():
        if binary == DIST:
            subprocess.run(["cargo", "build", "--profile", "dist", "--locked", "--quiet"], cwd=load.ROOT, check=True)

    def command(port, _reply, directory):
        log = {"LOG_FILE": str(pathlib.Path(directory) / "access.log")}
        return [str(binary)], {"HOST": "127.0.0.1", "PORT": str(port), **log, **settings}

    return Server(name, install, command, hosts=tuple(hosts))


def crate(name: str, **more) -> Server:
    def command(port, reply, _directory):
        return [str(load.CRATES / f"release/peer-{name}"), str(port), *([reply] if more.get("fixed") else [])], {}

    return Server(name, lambda: load.build(name), command, **more)


def nginx_command(port, reply, directory):
    conf = pathlib.Path(directory) / "nginx.conf"
    quoted = reply.replace("\\", "\\\\").replace("'", "\\'")
    conf.write_text(
        f"daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/error.log;\n"
        "events { worker_connections 20000; }\n"
        "http { access_log off; keepalive_requests 1000000000; default_type application/json;\n"
        f"  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/f;\n"
        f"  uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;\n"
        f"  server {{ listen 127.0.0.1:{port}; location / {{ return 200 '{quoted}'; }} }} }}\n"
    )
    return ["nginx", "-c", str(conf), "-e", f"{directory}/error.log"], {}


def venv(name: str, requirements: str) -> pathlib.Path:
    """A virtual environment below target/, made anew when its requirements change."""
    where, wanted = TARGET / f"bench-{name}", (PEERS / "python" / requirements).read_text()
    stamp = where / "requirements"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(where, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(where)], check=True)
        pip = [str(where / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", "--requirement"]
        subprocess.run([*pip, str(PEERS / "python" / requirements)], check=True)
        stamp.write_text(wanted)
    return where


def node_modules() -> pathlib.Path:
    """The TypeScript SDKs, installed below target/."""
    where = TARGET / "bench-typescript"
    where.mkdir(parents=True, exist_ok=True)
    for file in sorted((PEERS / "typescript").iterdir()):
        if file.is_file():
            shutil.copy(file, where / file.name)
    if not (where / "node_modules").exists():
        subprocess.run(["npm", "ci", "--silent"], cwd=where, check=True, stdout=subprocess.DEVNULL)
    return where


def typescript(version: str) -> Server:
    def command(port, _reply, _directory):
        return ["node", str(TARGET / "bench-typescript" / f"{version}.mjs"), str(port)], {}

    return Server(f"typescript-{version}", node_modules, command)


def python_sdk() -> Server:
    def command(port, _reply, _directory):
        return [str(TARGET / "bench-python-sdk/bin/python"), str(PEERS / "python/sdk.py"), str(port)], {}

    return Server("python-sdk", lambda: venv("python-sdk", "sdk.txt"), command)


def original(form: str, accept: str) -> Server:
    def command(port, _reply, _directory):
        where = TARGET / "bench-original/bin"
        environment = {"PORT": str(port), "HOST": "127.0.0.1", "MCP_ECHO_HOST": "127.0.0.1", "MCP_ECHO_PORT": str(port)}
        environment |= {"LOG_LEVEL": "ERROR", "MCP_ECHO_DEBUG": "false", "MCP_SESSION_TIMEOUT": "3600"}
        return [str(where / "mcp-echo-streamablehttp-server-stateful")], environment

    return Server(f"original-{form}", lambda: venv("original", "original.txt"), command, accept=accept, delete=False)


def all_peers() -> list[Server]:
    """In the order of the tables."""
    return [
        crate("hyper", fixed=True),
        crate("axum", fixed=True),
        Server("nginx", lambda: machine.install("nginx-light:nginx"), nginx_command, fixed=True),
        crate("rmcp"),
        typescript("v1"),
        typescript("v2"),
        python_sdk(),
        original("sse", BOTH),
        original("json", "application/json"),
    ]


class Running:
    """A server that runs, with a generator beside it."""

    def __init__(self, server: Server, reply: str = "", core: int | None = machine.SERVER_CORE, load_core: int | None = machine.LOAD_CORE):
        self.server, self.directory = server, tempfile.mkdtemp(prefix=f"bench-{server.name}-")
        self.port = machine.free_port()
        command, environment = server.command(self.port, reply, self.directory)
        path = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.log = open(pathlib.Path(self.directory) / "output", "w+b")
        self.process = subprocess.Popen(
            [*machine.on_core(core), *command],
            env={**path, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.log,
            cwd=self.directory,
        )
        self.load, self.opened = None, None
        self.wait()
        self.pids = machine.family(self.process.pid)
        self.load = self.generator(load_core)

    def wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            if self.process.poll() is not None:
                self.log.seek(0)
                raise Skip(f"it ended at its start: {self.log.read().decode(errors='replace')[-500:]}")
            time.sleep(0.02)
        self.close()
        raise Skip("it did not listen within a minute")

    def generator(self, core: int | None) -> load.Load:
        server = self.server
        dialect = {
            "address": f"127.0.0.1:{self.port}",
            "hosts": [host.format(port=self.port) for host in server.hosts],
            "pids": self.pids,
            **{name: getattr(server, name) for name in ("path", "version", "accept", "tool", "argument", "fixed", "delete")},
        }
        return load.Load(dialect, core)

    def open(self) -> None:
        """Opens a session for requests that do not come from the generator."""
        params = {"protocolVersion": self.server.version, "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
        body = json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
        headers = {"Host": self.server.hosts[0], "Content-Type": "application/json", "Accept": self.server.accept}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{self.server.path}", body.encode(), headers)
        with urllib.request.urlopen(request) as answer:
            self.opened = answer.headers["Mcp-Session-Id"]

    def sessions(self, count: int, connections: int = 32) -> float:
        """Opens sessions until there are so many; seconds that took."""
        return 0.0 if self.server.fixed else self.load.do("sessions", count=count, connections=connections)["seconds"]

    def burst(self, call: str, seconds: float, *, connections: int = 64, sessions: int = 100, rate: float | None = None, most: int | None = None) -> dict:
        """Calls for a while. CPU and latencies in microseconds."""
        result = self.load.do(
            "burst", call=call, connections=connections, seconds=seconds, warmup=min(0.2, seconds / 4), rate=rate, sessions=sessions, most=most
        )
        return finished(result)

    def close(self) -> None:
        if self.load:
            self.load.close()
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=20)
        self.process.kill()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def finished(result: dict) -> dict:
    """A burst's own figures from what the generator counted."""
    answers = max(result["answers"], 1)
    return {**result, "cpu": result["server_cpu"] / answers * 1e6, "rate": result["answers"] / result["seconds"]}
