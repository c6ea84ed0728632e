# SPDX-License-Identifier: Apache-2.0
"""Geometry in numpy that every task shares: rigid transforms, boxes, suppression."""
