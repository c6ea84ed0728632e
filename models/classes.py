# SPDX-License-Identifier: Apache-2.0
"""The classes of road users; labels index them everywhere."""

CLASSES = ("vehicle", "pedestrian", "cyclist")
VEHICLE, PEDESTRIAN, CYCLIST = range(len(CLASSES))
