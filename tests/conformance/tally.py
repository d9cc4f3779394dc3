"""Counts what the suites found: tally.py RESULTS REQUIREMENTS RUN…

A run is a directory below RESULTS, with the suite's exit status and one directory per scenario that holds its
checks.json. REQUIREMENTS is the suite's own directory of frozen requirement sets. The suite itself is not asked
whether all is well: it counts no warning, and no scenario that it gave up on halfway.
"""
import json
import re
import sys
from collections import Counter
from pathlib import Path

STATUSES = ["SUCCESS", "FAILURE", "WARNING", "INFO", "SKIPPED"]

# What must have run, by the last part of the run's name: how many scenarios count towards the revision's score and
# how many are reported beside it, and the least number of checks that must have passed. A scenario that finds nothing
# to test passes too, and only the last number tells.
EXPECTED = {
    "2025-11-25": (30, 3, 84),
    "2026-07-28": (37, 13, 197),
    "all": (65, 0, 234),
    "stable": (32, 0, 47),
}


def required(path):
    """The server scenarios of a requirement set: (scored, not scored)."""
    text = path.read_text()
    scored = re.search(r"^server:\n((?:[ #].*\n|\n)*)", text, re.MULTILINE)[1]
    return (
        set(re.findall(r"^  - (\S+)$", scored, re.MULTILINE)),
        set(re.findall(r"^  - scenario: (\S+)\n    leg: server$", text, re.MULTILINE)),
    )


def scenarios(directory):
    """(name, checks) of each scenario of a run; the checks are None where the suite wrote none."""
    for scenario in sorted(path for path in directory.glob("*") if path.is_dir()):
        name = re.fullmatch(r"server-(.+)-\d{4}-\d\d-\d\dT[\dZ.:-]+", scenario.name)[1]
        try:
            yield name, json.loads((scenario / "checks.json").read_text())
        except (OSError, ValueError):
            yield name, None


def faults_of(checks):
    """What keeps one scenario from passing."""
    if not checks:
        return ["no checks.json: the suite gave up on it" if checks is None else "it checked nothing"]
    return [
        f"{check['id']} {check['status']}: {check.get('errorMessage') or check['description']}"
        + (f"\n      {json.dumps(check['details'])[:2000]}" if check.get("details") else "")
        for check in checks
        if check["status"] not in {"SUCCESS", "INFO", "SKIPPED"}
    ]


def tally(results, requirements, run):
    """The row of one run, how many scenarios passed, and what went wrong: a list for each thing that failed."""
    kind = run.split("/")[1]
    expected_scored, expected_beside, expected_checks = EXPECTED[kind]
    directory = results / run
    found = list(scenarios(directory))
    names = Counter(name for name, _ in found)
    counts = Counter(check["status"] for _, checks in found for check in checks or [])
    failed = [(name, faults) for name, checks in found if (faults := faults_of(checks))]
    good = set(names) - {name for name, _ in failed}

    scored, beside = set(names), set()
    frozen = requirements / f"{kind}.yaml"
    if frozen.exists():
        scored, beside = required(frozen)
    of_run = [f"{name} did not run" for name in sorted((scored | beside) - set(names))]
    of_run += [f"{name} is not in the requirement set" for name in sorted(set(names) - scored - beside)]
    of_run += [f"{name} ran {times} times" for name, times in names.items() if times > 1]
    if (len(scored), len(beside)) != (expected_scored, expected_beside):
        of_run.append(f"{len(scored)} + {len(beside)} scenarios, not {expected_scored} + {expected_beside}")
    if counts["SUCCESS"] < expected_checks:
        of_run.append(f"{counts['SUCCESS']} checks passed, not {expected_checks}")
    if (status := (directory / "status").read_text().strip()) != "0":
        of_run.append(f"the suite ended with exit status {status}")

    score = f"{len(good & scored)}/{expected_scored}"
    if expected_beside:
        score += f" + {len(good & beside)}/{expected_beside}"
    row = [run, score, *(str(counts[status]) for status in STATUSES)]
    failures = [[f"{run}: {name}: {fault}" for fault in faults] for name, faults in failed]
    return row, len(good), failures + [[f"{run}: {fault}"] for fault in of_run]


def main(results, requirements, *runs):
    results, requirements = Path(results), Path(requirements)
    rows = [["run", "scenarios", *(status.lower() for status in STATUSES)]]
    passed, failures = 0, []
    for run in runs:
        row, good, run_failures = tally(results, requirements, run)
        rows.append(row)
        passed += good
        failures += run_failures
    if (status := (results / "server.status").read_text().strip()) == "0":
        passed += 1
    else:
        failures.append([f"told to stop, the server ended with exit status {status}"])
    if panics := [line for line in (results / "server.out").read_text().splitlines() if "panicked at" in line]:
        failures.append([f"the server said: {line}" for line in panics])

    print()
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(cell.ljust(width) if i < 2 else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(row, widths))))
    print()
    for failure in failures:
        print("FAILED " + "\n       ".join(failure))
    print(f"{passed} passed, {len(failures)} failed")
    return 1 if failures or not runs else 0


sys.exit(main(*sys.argv[1:]))
