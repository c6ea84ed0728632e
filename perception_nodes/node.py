# SPDX-License-Identifier: Apache-2.0
"""PerceptionNode, the base of every node: a node gives its parameters, topics, `load()` and `process(message)`."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar, cast

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.publisher import Publisher
from std_msgs.msg import Header

from perception_nodes.diagnostics import Health
from perception_nodes.errors import InvalidMessage, NoResult, NotAsked
from perception_nodes.interfaces import RELIABLE_SENSOR_QOS, SENSOR_QOS, Input, Model, Output
from perception_nodes.lifecycle import GuardedNode
from perception_nodes.mailbox import Worker
from perception_nodes.parameters import Parameters, ParameterSet
from perception_nodes.stamps import StampGuard, nanoseconds
from perception_nodes.timing import Timing

THROTTLE = 5.0  # seconds between two logs of one kind

P = TypeVar("P", bound=Parameters)
M = TypeVar("M", bound=Model)


class PerceptionNode(GuardedNode, Generic[P, M]):
    """Runs one model behind ROS 2 topics; loads in configure, subscribes in activate, frees everything in cleanup.

    A subclass sets the three class attributes and writes `load`, and `process(message)` or the handlers that its
    inputs name. Handlers run one at a time on one thread, so they need no locks. A handler raises InvalidMessage for
    input that cannot be used and NoResult where there is no valid answer; both are counted and reported, nothing is
    published; NotAsked passes a message over in silence.
    Raises InvalidParameters where the parameters given at start are not valid.
    """

    parameters_type: ClassVar[type[Parameters]]
    inputs: tuple[Input, ...]  # an instance may choose its own in `load`
    outputs: ClassVar[tuple[Output, ...]]

    def __init__(self, name: str, **arguments: Any) -> None:
        super().__init__(name, **arguments)
        self.timing, self.health = Timing(), Health()
        self._model: M | None = None
        self._results: dict[str, Publisher[Any]] = {}
        self._stamps: dict[str, StampGuard] = {}
        self._worker = Worker(self._handle, f"{name}_worker")
        kind = cast("type[P]", self.parameters_type)
        self._set = ParameterSet(self, kind, lambda: self.state == "unconfigured")
        self._diagnostics_topic = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._timing_topic = self.create_publisher(DiagnosticArray, "~/timing", 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # reports go on while simulated time stands still
        self._report_timer = self.create_timer(1.0, self._report, clock=steady)
        self._start_timer = self.create_timer(0.0, self._start, clock=steady)

    def load(self) -> M:
        """Loads the model with `self.parameters`; what else it opens goes through `self.keep`."""
        raise NotImplementedError

    def process(self, message: Any) -> None:
        """Turns one message into published results."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forgets what was learnt from earlier messages; called on activation and when a source starts again."""

    def facts(self) -> Mapping[str, object]:
        """What the node itself adds to its values on /diagnostics, such as whether it is lost."""
        return {}

    @property
    def parameters(self) -> P:
        """The current valid parameters: one frozen object, so take it once per message."""
        return self._set.current

    @property
    def model(self) -> M:
        """What `load` returned. Raises RuntimeError while there is none."""
        if self._model is None:
            raise RuntimeError("the model is not loaded: clean up and configure the node")
        return self._model

    def publish(self, topic: str, message: Any) -> None:
        """Publishes on an output, named as in `outputs`."""
        self._results[topic].publish(message)

    def is_wanted(self, topic: str) -> bool:
        """Whether anyone listens to an output; costly messages need not be built for nobody."""
        return self._results[topic].get_subscription_count() > 0

    def warn(self, text: str) -> None:
        """Counts and logs something that does not spoil the result but must be known."""
        self.health.warnings += 1
        self._complain(text)

    def configure(self) -> None:
        """Loads the model and creates the outputs."""
        self.while_configured.callback(self._forget)
        self._model = self.keep(self.load())
        for output in self.outputs:
            publisher = self._results[output.topic] = self.create_publisher(output.kind, output.topic, output.qos)
            self.while_configured.callback(self.destroy_publisher, publisher)

    def activate(self) -> None:
        """Starts the worker, then subscribes."""
        self.model  # noqa: B018  # a cleanup that failed leaves none
        self._stamps = {source.topic: StampGuard() for source in self.inputs}
        self.timing.clear()
        self.reset()
        self._worker.start()
        self.while_active.callback(self._worker.stop)
        for source in self.inputs:
            put = partial(self._worker.put, source, every=source.every)
            is_reliable = source.qos is SENSOR_QOS and self.parameters.reliable_input
            qos = RELIABLE_SENSOR_QOS if is_reliable else source.qos
            subscription = self.create_subscription(source.kind, source.topic, put, qos)
            self.while_active.callback(self.destroy_subscription, subscription)

    def _start(self) -> None:
        self._start_timer.cancel()
        if self.parameters.autostart:
            self.bring_up()

    def _forget(self) -> None:
        self._model = None
        self._results = {}

    def _handle(self, source: Input, message: Any) -> None:
        """One message on the worker thread; whatever happens to it is counted, reported, and stays here."""
        try:
            if source.stamped:
                self._check_stamp(source, message.header)
            with self.timing.stage("total" if source.makes_results else source.handler):
                getattr(self, source.handler)(message)
            if source.makes_results:
                self._account(message.header)
        except NotAsked:
            pass
        except InvalidMessage as error:
            self.health.rejected += 1
            self._complain(f"a message on {source.topic} was rejected: {error}")
        except NoResult as error:
            self.health.no_result += 1
            self._complain(f"no result: {error}")
        except Exception as error:  # noqa: BLE001  # one bad message must not end the node
            self.health.failed += 1
            self.health.last_error = f"{type(error).__name__}: {error}"
            self.get_logger().error(traceback.format_exc(), throttle_duration_sec=THROTTLE)

    def _check_stamp(self, source: Input, header: Header) -> None:
        limits = self.parameters
        now = self.get_clock().now().nanoseconds
        if self._stamps[source.topic].check(header, now, limits.max_age, limits.stamp_jump):
            self.warn(f"time on {source.topic} jumped back: the source started again, the past is forgotten")
            self.reset()

    def _account(self, header: Header) -> None:
        """A message became a result: its age now, and what the model says of its time."""
        self.health.processed += 1
        self.health.age = (self.get_clock().now().nanoseconds - nanoseconds(header.stamp)) * 1e-9
        for stage, milliseconds in self.model.timing.items():
            self.timing.record(stage, milliseconds)

    def _complain(self, text: str) -> None:
        self.health.last_error = text
        self.get_logger().warning(text, throttle_duration_sec=THROTTLE)

    def _report(self) -> None:
        """Publishes the health and the timing of the last second."""
        stamp = self.get_clock().now().to_msg()
        status = self.health.status(
            name=self.get_fully_qualified_name(),
            state=self.state,
            transition_error=self.transition_error,
            counts=self.health.counts(self._worker.received, self._worker.dropped),
            silence=self.parameters.silence,
            sources=", ".join(self.resolve_topic_name(source.topic) for source in self.inputs),
            engine=asdict(self._model.engine_info) if self._model else {},
            facts=self.facts(),
        )
        self._diagnostics_topic.publish(DiagnosticArray(header=Header(stamp=stamp), status=[status]))
        self._timing_topic.publish(self.timing.message(stamp))
