# SPDX-License-Identifier: Apache-2.0
"""A camera finds itself in a known place."""
