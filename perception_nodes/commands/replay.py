# SPDX-License-Identifier: Apache-2.0
"""Play a bag to the genuine ROS 2 node, a process of its own beyond DDS, and judge what it answers.

In lock-step by default: a cloud is sent when the one before is answered, so nothing is dropped. With --realtime RATE
the bag keeps its pace times RATE, and drops and latencies are those of a robot. The node also gets the bag's /tf and
/tf_static, for --target-frame. OUT/replay.mcap holds the messages of the bag and the answers.

example: perception replay out/drive.mcap --tasks detection --out out/replay
         perception replay out/drive.mcap --realtime 1.0 --out out/realtime
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from perception_nodes.commands.judging import add_judging, check_tasks, print_summary, settings_of

if TYPE_CHECKING:
    from perception_nodes.replay import Replay


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_judging(parser)
    parser.add_argument("--realtime", type=float, metavar="RATE", help="keep the bag's pace times RATE")
    parser.add_argument("--target-frame", help="frame of the answers (default: the cloud's); the bag's /tf leads to it")
    parser.add_argument("--timeout", type=float, default=30.0, help="longest wait, s (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Replay, judge, write the report, print the main figures."""
    from perception_nodes.evaluate import judge, recorded, write_results
    from perception_nodes.progress import progress
    from perception_nodes.replay import replay
    from perception_nodes.scans import ScanBag

    check_tasks(arguments)
    target: Path = arguments.out / "replay.mcap"
    arguments.out.mkdir(parents=True, exist_ok=True)
    measured = replay(
        arguments.bag,
        target,
        rate=arguments.realtime,
        topic=arguments.topic,
        parameters=_parameters(arguments),
        timeout=arguments.timeout,
        watch=lambda messages, count: progress(messages, count, "replaying"),
    )
    with ScanBag(target, arguments.topic) as bag:
        result = judge(bag, recorded(bag), progress(bag, len(bag), "judging"))
        result.figures |= _figures(measured)
        mode = f"at {arguments.realtime:g} x real time" if arguments.realtime else "in lock-step"
        facts = {"node": f"detection_node, replayed {mode}", "model": arguments.variant}
        metrics = write_results(
            arguments.out, f"Replay of {arguments.bag.name}", bag, result, settings_of(arguments), facts
        )
    _show(measured)
    print_summary(metrics, arguments.out)
    return 0


def _parameters(arguments: argparse.Namespace) -> dict[str, object]:
    from perception_models.classes import CLASSES

    thresholds = {f"score_threshold.{name}": arguments.score_threshold for name in CLASSES}
    engine = {"variant": arguments.variant, "backend": arguments.backend, "threads": arguments.threads or 0}
    target = {"target_frame": arguments.target_frame} if arguments.target_frame else {}
    return {**engine, **thresholds, **target}


def _figures(measured: "Replay") -> dict[str, float]:
    from perception_models.evaluation.latency import percentiles

    # The first answer pays for what is set up on first use; it is a warm-up.
    latencies = list(measured.latencies.values())[1:]
    return {
        "clouds_sent": float(measured.sent),
        "clouds_without_answer": float(measured.dropped),
        "node_start_s": measured.start_seconds,
        "node_peak_memory_mb": measured.node_memory,
        **{f"latency_round-trip_{name}_ms": value for name, value in percentiles(latencies).items()},
        **{
            f"latency_node-{stage}_{name}": value
            for stage, values in measured.stages.items()
            for name, value in values.items()
            if name.endswith("_ms")
        },
    }


def _show(measured: "Replay") -> None:
    said = f"; the node's last word on it: {measured.complaint}" if measured.dropped and measured.complaint else ""
    print(f"  {measured.sent} clouds sent, {measured.dropped} without answer{said}")
    print(f"  node: {measured.node_memory:.0f} MB at most, started in {measured.start_seconds:.1f} s")
    print(f"  {'ms in the node':12}" + "".join(f"{column:>9}" for column in ("p50", "p95", "p99")))
    for stage, values in measured.stages.items():
        print(f"  {stage:14}" + "".join(f"{values[f'{column}_ms']:9.1f}" for column in ("p50", "p95", "p99")))
