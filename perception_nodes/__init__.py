# SPDX-License-Identifier: Apache-2.0
"""ROS 2 side of the perception stack: converts, calls, publishes."""
