# SPDX-License-Identifier: Apache-2.0
"""Brings up the registration node: ros2 launch perception_nodes registration.launch.py points:=/velodyne_points"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from perception_nodes.node_process import TRANSPORT

DEFAULT_PARAMETERS = PathJoinSubstitution([FindPackageShare("perception_nodes"), "config", "registration.yaml"])

ARGUMENTS = {  # name: default, description
    "namespace": ("", "namespace of the node and its relative topics"),
    "points": ("points", "topic of the clouds (sensor_msgs/PointCloud2)"),
    "mode": ("", "odometry, pair or map; empty: as params_file says"),
    "map_file": ("", "mode map: .ply, .pcd or .npy; empty: as params_file says"),
    "params_file": (DEFAULT_PARAMETERS, "YAML file of the node's parameters"),
    "use_sim_time": ("false", "time from /clock, as with ros2 bag play --clock"),
    "autostart": ("", "configure and activate at once; empty: as params_file says"),
    "backend": ("", "auto, onnxruntime or tensorrt; empty: as params_file says"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
}


def generate_launch_description() -> LaunchDescription:
    """The node with its arguments; a transport for large clouds unless the environment names one."""
    declared = [DeclareLaunchArgument(n, default_value=d, description=text) for n, (d, text) in ARGUMENTS.items()]
    transport = EnvironmentVariable("FASTDDS_BUILTIN_TRANSPORTS", default_value=TRANSPORT)
    set_transport = SetEnvironmentVariable("FASTDDS_BUILTIN_TRANSPORTS", transport)
    return LaunchDescription([*declared, set_transport, OpaqueFunction(function=registration_node)])


def registration_node(context: LaunchContext) -> list[Node]:
    """The node action; only arguments that were given override the parameter file."""
    overrides = {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for name, kind in (
            ("use_sim_time", bool),
            ("autostart", bool),
            ("backend", str),
            ("mode", str),
            ("map_file", str),
        )
        if LaunchConfiguration(name).perform(context)
    }
    node = Node(
        package="perception_nodes",
        executable="registration_node",
        name="registration_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[LaunchConfiguration("params_file"), overrides],
        remappings=[("~/points", LaunchConfiguration("points")), ("/tf", "tf"), ("/tf_static", "tf_static")],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
    )
    return [node]
