# SPDX-License-Identifier: Apache-2.0
"""The two ways in which a good node gives no output: the input was wrong, or there is no answer."""


class InvalidMessage(ValueError):
    """An input message cannot be used. The text says what is wrong with it and what to do."""


class NoResult(RuntimeError):
    """The input was fine but there is no valid answer to it: nothing may be published. The text says why."""
