"""The tables of the trace, as count, check and render share them."""
import csv
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

# Nothing is left beside the programs.
sys.dont_write_bytecode = True

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
DOCUMENT = ROOT / "docs" / "trace.md"

# The clones that the trace was made from, by name, each at its commit.
PINNED = {
    "modelcontextprotocol": "b0f60ba5409db7a6582440a7b473cc0398890f15",
    "ext-tasks": "e4345978be1f602f1fc48d89051e8559dd5302a6",
}
REVISIONS = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"]
LEVELS = ["MUST", "MUST NOT", "SHOULD", "SHOULD NOT"]
KINDS = ["test", "choice", "none", "open"]

# The files of rows, in the order of the document.
AREAS = {
    "basic": "Messages, versions, lifecycle",
    "transport": "Streamable HTTP",
    "authorization": "Authorization",
    "patterns": "Cancellation, ping, progress, subscriptions, questions by result",
    "server": "Tools, resources, prompts, completion, logging, pages, caching",
    "client": "Elicitation, sampling, roots",
    "tasks": "Tasks",
}

# Whom a sentence binds that does not bind this server.
OTHERS = {
    "client": "what sends requests: an MCP client",
    "host": "the application around a client, its model or its user",
    "authorization-server": "what issues tokens; this server issues none",
    "registration": "clients and authorization servers, when a client is registered",
    "stdio": "the stdio transport; this server speaks HTTP alone",
    "other-transport": "a transport of one's own; there is none here",
    "intermediary": "a proxy or gateway between client and server",
    "sdk": "a library for others to build on",
    "author": "who writes an extension",
    "citation": "nobody: it explains the words or repeats another page's",
}

ROW = ["id", "revisions", "place", "level", "asks", "held_by"]
SENTENCE = ["page", "section", "revisions", "words", "digest", "rows"]
PAGE = ["page", "revision", *LEVELS]


def read(path, head):
    with path.open(newline="") as file:
        lines = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    if not lines or lines[0] != head:
        raise SystemExit(f"{path.name}: the head must be {head}")
    if short := [number for number, line in enumerate(lines, 1) if len(line) != len(head)]:
        raise SystemExit(f"{path.name}: line {short[0]} must have {len(head)} columns")
    return [dict(zip(head, line)) for line in lines[1:]]


def write(path, head, lines):
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
        writer.writerows([head, *lines])


def rows():
    """All rows, by area."""
    return {area: read(HERE / f"{area}.tsv", ROW) for area in AREAS}


def sentences():
    return read(HERE / "sentences.tsv", SENTENCE)


def pages():
    return read(HERE / "pages.tsv", PAGE)


def kind(row):
    """(kind, the rest) of what holds a row."""
    kind, _, rest = row["held_by"].partition(":")
    return kind, rest


def program(name):
    """count or render as a module: their files have no ending."""
    loader = SourceFileLoader(name, str(HERE / name))
    module = module_from_spec(spec_from_loader(name, loader))
    loader.exec_module(module)
    return module
