# SPDX-License-Identifier: Apache-2.0
"""The ways in which a good node gives no output: the input was wrong, there is no answer, or none was asked for."""


class InvalidMessage(ValueError):
    """An input message cannot be used. The text says what is wrong with it and what to do."""


class NoResult(RuntimeError):
    """The input was fine but there is no valid answer to it: nothing may be published. The text says why."""


class NotAsked(Exception):
    """Nobody wants an answer to this input: it is not counted as one."""
