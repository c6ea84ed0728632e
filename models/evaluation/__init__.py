# SPDX-License-Identifier: Apache-2.0
"""Metrics and reports on plain arrays: accuracy against truth, latency, pictures."""
