# SPDX-License-Identifier: Apache-2.0
"""The `perception` command. A command's module is imported when that command runs, so help is instant."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NamedTuple


class Command(NamedTuple):
    """A module of perception_nodes.commands, with `configure(parser)` and `run(arguments)`, and what it does."""

    module: str
    summary: str


COMMANDS = {
    "simulate": Command("simulate", "make a bag of a simulated drive, with its truth"),
    "convert": Command("convert", "make a bag of a recorded data set, with its truth"),
    "replay": Command("replay", "play a bag to the genuine ROS 2 nodes; record and judge their answers"),
    "evaluate": Command("evaluate", "judge the pipelines on a bag, in process and deterministic"),
    "benchmark": Command("benchmark", "measure the latency and memory of a pipeline"),
    "register": Command("register", "find one cloud in another, from nothing"),
    "map": Command("map", "build the map of a place from a recording of it"),
    "localize": Command("localize", "find where an image was taken in a map"),
    "train": Command("train", "train a model by its recipe (needs torch)"),
    "export": Command("export", "write a trained checkpoint as ONNX (needs torch)"),
    "import-weights": Command("import_weights", "turn a published checkpoint into weights to run (needs torch)"),
    "build-engines": Command("build_engines", "build the TensorRT engine of every model"),
    "doctor": Command("doctor", "say what works on this machine, and how to mend what does not"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 done, 1 failed with the reason on stderr, 2 wrong arguments."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] not in COMMANDS:
        _overview().parse_args(words or ["--help"])
        return 2
    module = import_module(f"perception_nodes.commands.{COMMANDS[words[0]].module}")
    parser = argparse.ArgumentParser(
        prog=f"perception {words[0]}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.configure(parser)
    return _run(module.run, parser.parse_args(words[1:]))


def _run(run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    try:
        return run(options)
    except KeyboardInterrupt:
        print("perception: interrupted", file=sys.stderr)
        return 1
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        if os.environ.get("PERCEPTION_TRACEBACK"):
            raise
        print(f"perception: {error}\n(set PERCEPTION_TRACEBACK=1 to see where)", file=sys.stderr)
        return 1


def _overview() -> argparse.ArgumentParser:
    lines = "\n".join(f"  {name:15} {command.summary}" for name, command in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="perception",
        description="3D perception from LiDAR and cameras: bags in, judged results out.",
        epilog=f"commands:\n{lines}\n\nexample: perception simulate drive out/drive.mcap --seconds 20\n"
        "each command: perception COMMAND --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="see below")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
