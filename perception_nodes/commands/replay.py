# SPDX-License-Identifier: Apache-2.0
"""Play a bag to the genuine ROS 2 nodes, each a process of its own beyond DDS, and judge what they answer.

In lock-step by default: a message is sent when the one before is answered, so nothing is dropped. With --realtime RATE
the bag keeps its pace times RATE, and drops and latencies are those of a robot. The nodes also get the bag's /tf and
/tf_static. Several tasks play one after the other. OUT/TASK.mcap holds the messages of the bag and the answers.

example: perception replay out/drive.mcap --tasks detection,registration --out out/replay
         perception replay out/drive.mcap --realtime 1.0 --out out/realtime
"""

import argparse
from typing import TYPE_CHECKING

from perception_nodes.commands.judging import add_judging, finish, tasks_of

if TYPE_CHECKING:
    from perception_nodes.judges.judgement import Judgement
    from perception_nodes.replay import Replay


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_judging(parser)
    parser.add_argument("--realtime", type=float, metavar="RATE", help="keep the bag's pace times RATE")
    parser.add_argument("--target-frame", help="frame of the answers (default: the cloud's); the bag's /tf leads to it")
    parser.add_argument("--timeout", type=float, default=30.0, help="longest wait, s (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Replay, judge, write the report, print the main figures."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    finish(arguments.out, [_replay(task, arguments) for task in tasks_of(arguments)])
    return 0


def _replay(task: str, arguments: argparse.Namespace) -> "Judgement":
    from perception_nodes.judges import judge_of
    from perception_nodes.played import PLAYED
    from perception_nodes.progress import progress
    from perception_nodes.replay import replay

    judge, played, target = judge_of(task), PLAYED[task], arguments.out / f"{task}.mcap"
    measured = replay(
        arguments.bag,
        target,
        played,
        rate=arguments.realtime,
        topic=arguments.topic,
        parameters=judge.node_parameters(arguments),
        timeout=arguments.timeout,
        watch=lambda messages, count: progress(messages, count, f"replaying for {task}"),
    )
    judged: Judgement = judge.recorded(target, arguments, progress)
    mode = f"at {arguments.realtime:g} x real time" if arguments.realtime else "in lock-step"
    return judged.extended(
        title=f"Replay of {arguments.bag.name} for {task}",
        facts={"node": f"{played.name}, {mode}", "model": arguments.variant},
        figures=_figures(measured),
        shown=_lines(measured),
    )


def _figures(measured: "Replay") -> dict[str, float]:
    from perception_models.evaluation.latency import percentiles

    # The first answer pays for what is set up on first use; it is a warm-up.
    latencies = list(measured.latencies.values())[1:]
    return {
        "messages_sent": float(measured.sent),
        "messages_without_answer": float(measured.dropped),
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


def _lines(measured: "Replay") -> list[str]:
    said = f"; the node's last word on it: {measured.complaint}" if measured.dropped and measured.complaint else ""
    lines = [
        f"{measured.sent} messages sent, {measured.dropped} without answer{said}",
        f"node: {measured.node_memory:.0f} MB at most, started in {measured.start_seconds:.1f} s",
        f"{'ms in the node':14}" + "".join(f"{column:>9}" for column in ("p50", "p95", "p99")),
    ]
    for stage, values in measured.stages.items():
        lines.append(f"{stage:14}" + "".join(f"{values[f'{column}_ms']:9.1f}" for column in ("p50", "p95", "p99")))
    return lines
