#!/bin/bash
# Sources the workspace, which sources ROS, then becomes the command.
set -e
source /workspace/install/setup.bash
exec "$@"
