# SPDX-License-Identifier: Apache-2.0
"""A lifecycle node that no transition can kill: what one opens is closed by its opposite, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from perception_nodes.interfaces import Closable

C = TypeVar("C", bound=Closable)


class GuardedNode(LifecycleNode):
    """Wraps every transition: an exception is a FAILURE with its reason in `transition_error`, not a dead process.

    A subclass writes `configure` and `activate` and registers what undoes them on `while_configured` and
    `while_active`. A transition that fails half-way is undone; one that fails while closing has closed all it could.
    """

    def __init__(self, name: str, **arguments: Any) -> None:
        super().__init__(name, **arguments)
        self.while_configured, self.while_active = ExitStack(), ExitStack()
        self.transition_error = ""
        self._destroyed = False

    @property
    def state(self) -> str:
        """The label of the lifecycle state."""
        return str(self._state_machine.current_state[1])

    def configure(self) -> None:
        """Opens what lives until cleanup."""

    def activate(self) -> None:
        """Opens what lives until deactivation."""

    def keep(self, resource: C) -> C:
        """Returns a resource that is closed on cleanup."""
        self.while_configured.callback(resource.close)
        return resource

    def bring_up(self) -> None:
        """Configures and activates; a failure leaves the node where it came to, with its reason logged."""
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """unconfigured -> inactive."""
        return self._transition("configure", self.configure, undo=self._release)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """inactive -> active."""
        return self._transition("activate", self.activate, undo=self.while_active.close)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """active -> inactive."""
        return self._transition("deactivate", self.while_active.close)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """inactive -> unconfigured."""
        return self._transition("cleanup", self._release)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Any state -> finalized."""
        return self._transition("shutdown", self._release)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees everything, so that the node can be configured again."""
        return self._transition("error processing", self._release)

    def destroy_node(self) -> None:
        """Closes everything and the node itself; may be called again."""
        if not self._destroyed:
            self._destroyed = True
            self._transition("destroy", self._release)
            super().destroy_node()

    def _transition(
        self, name: str, action: Callable[[], None], undo: Callable[[], None] = lambda: None
    ) -> TransitionCallbackReturn:
        try:
            with ExitStack() as on_failure:
                on_failure.callback(undo)
                action()
                on_failure.pop_all()
        except Exception as error:  # noqa: BLE001  # the purpose of this class
            self.transition_error = f"{name} failed: {error or type(error).__name__}"
            self.get_logger().error(self.transition_error)
            return TransitionCallbackReturn.FAILURE
        self.transition_error = ""
        return TransitionCallbackReturn.SUCCESS

    def _release(self) -> None:
        with self.while_configured:
            self.while_active.close()
