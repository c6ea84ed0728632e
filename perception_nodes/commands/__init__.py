# SPDX-License-Identifier: Apache-2.0
"""One module a command of `perception`: `configure(parser)` and `run(arguments) -> exit status`."""
