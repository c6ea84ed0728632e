# SPDX-License-Identifier: Apache-2.0
"""Build the TensorRT engine of every model: for this GPU into the cache, or for a named one to see that it builds.

example: perception build-engines --target SM87
"""

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--target", default="SM86", help="compute capability, or CURRENT (default: %(default)s)")
    parser.add_argument("--precision", action="append", choices=["fp32", "fp16"], help="repeatable (default: both)")


def run(arguments: argparse.Namespace) -> int:
    """Build, a line each; 1 if one failed."""
    from perception_models.runtime.build import build_engines, weight_folders
    from perception_nodes.progress import progress

    precisions = arguments.precision or ["fp32", "fp16"]
    reports = build_engines(arguments.target, precisions)
    failed = 0
    for report in progress(reports, len(weight_folders()) * len(precisions), "building"):
        failed += not report.ok
        state = f"{report.precision}, {report.seconds:.1f} s" if report.ok else "FAILED"
        print(f"{report.model} for {report.target}, {report.requested} asked: {state} {report.note}".rstrip())
    return 1 if failed else 0
