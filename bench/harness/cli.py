"""The command `bench/run`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from .build import compile_programs
from .failures import BenchError
from .lab import Lab, say
from .plan import FULL, QUICK
from .processes import place
from .rendering import as_markdown, as_text, machine
from .results import Results
from .scenarios import SCENARIOS
from .subjects import REFERENCE, Subject, gateways, peers, references


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the scenarios; exit status 0 when figures came out, 1 when the run could not be made, 130 on Ctrl-C."""
    options = read_options(argv)
    signal.signal(signal.SIGTERM, interrupted)
    os.sched_setaffinity(0, place().load)
    try:
        results = run(options)
    except BenchError as error:
        say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        say("bench: interrupted; every process that it started has ended")
        return 130
    print(as_text(results), end="")
    if options.markdown:
        options.markdown.write_text(as_markdown(results))
    if options.json:
        options.json.write_text(json.dumps(document(results), indent=1))
    return 0


def interrupted(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends the run as Ctrl-C does."""
    raise KeyboardInterrupt


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench/run", description="Measure the gateway against its references.")
    parser.add_argument("--quick", action="store_true", help="a smoke check of about a minute")
    parser.add_argument("--only", action="append", choices=sorted(SCENARIOS), help="this scenario (repeatable)")
    parser.add_argument("--subject", action="append", help="this subject beside the reference (repeatable)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables as Markdown")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND", help="measure a peer too")
    parser.add_argument("--peer-header", action="append", default=[], metavar="NAME=HEADER: VALUE")
    parser.add_argument("--peer-model", action="append", default=[], metavar="NAME=MODEL")
    parser.add_argument("--peer-path", action="append", default=[], metavar="NAME=PATH")
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> Results:
    """Compiles, starts, measures, and ends every process."""
    programs = compile_programs()
    wanted = options.only or list(SCENARIOS)
    results = Results([])
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, Lab(programs, results, Path(directory)) as lab:
        results.subjects.extend(chosen(options, lab.mock.port))
        for name, scenario in SCENARIOS.items():
            if name in wanted:
                lab.scenario = name
                scenario(lab, QUICK if options.quick else FULL)
    return results


def chosen(options: argparse.Namespace, upstream_port: int) -> list[Subject]:
    """The subjects of this run; BenchError when a name is unknown."""
    extra = peers(options.peer, options.peer_header, options.peer_model, options.peer_path, upstream_port)
    every = [*references(), *gateways(), *extra]
    if not options.subject:
        return every
    unknown = set(options.subject) - {subject.name for subject in every}
    if unknown:
        names = ", ".join(subject.name for subject in every)
        raise BenchError(f"no subject {', '.join(sorted(unknown))}; there are {names}")
    return [subject for subject in every if subject.name in (REFERENCE, *options.subject)]


def document(results: Results) -> dict[str, object]:
    """The run as one JSON object: machine, samples, failures, remarks."""
    return {
        "machine": machine(),
        "samples": [asdict(sample) for sample in results.samples],
        "failures": [[*where, why] for where, why in results.failures.items()],
        "remarks": results.remarks,
    }


if __name__ == "__main__":
    sys.exit(main())
