# SPDX-License-Identifier: Apache-2.0
"""Brings up the reconstruction node: ros2 launch perception_nodes reconstruction.launch.py image:=/camera/image_raw"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from perception_nodes.node_process import TRANSPORT

DEFAULT_PARAMETERS = PathJoinSubstitution([FindPackageShare("perception_nodes"), "config", "reconstruction.yaml"])

ARGUMENTS = {  # name: default, description
    "namespace": ("", "namespace of the node and its relative topics"),
    "image": ("camera/image", "topic of the images (sensor_msgs/Image)"),
    "camera_info": ("camera/camera_info", "topic of their camera (sensor_msgs/CameraInfo)"),
    "depth": ("camera/depth", "topic of depth registered to them (sensor_msgs/Image), where scale_source is depth"),
    "odometry": ("odom", "topic of odometry (nav_msgs/Odometry), where scale_source is odometry"),
    "params_file": (DEFAULT_PARAMETERS, "YAML file of the node's parameters"),
    "use_sim_time": ("false", "time from /clock, as with ros2 bag play --clock"),
    "autostart": ("", "configure and activate at once; empty: as params_file says"),
    "backend": ("", "auto, onnxruntime or tensorrt; empty: as params_file says"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
}
TOPICS = {"image": "image", "camera_info": "camera_info", "scale_depth": "depth", "scale_odometry": "odometry"}


def generate_launch_description() -> LaunchDescription:
    """The node with its arguments; a transport for large clouds unless the environment names one."""
    declared = [DeclareLaunchArgument(n, default_value=d, description=text) for n, (d, text) in ARGUMENTS.items()]
    transport = EnvironmentVariable("FASTDDS_BUILTIN_TRANSPORTS", default_value=TRANSPORT)
    set_transport = SetEnvironmentVariable("FASTDDS_BUILTIN_TRANSPORTS", transport)
    return LaunchDescription([*declared, set_transport, OpaqueFunction(function=reconstruction_node)])


def reconstruction_node(context: LaunchContext) -> list[Node]:
    """The node action; only arguments that were given override the parameter file."""
    overrides = {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for name, kind in (("use_sim_time", bool), ("autostart", bool), ("backend", str))
        if LaunchConfiguration(name).perform(context)
    }
    topics = [(f"~/{topic}", LaunchConfiguration(argument)) for topic, argument in TOPICS.items()]
    node = Node(
        package="perception_nodes",
        executable="reconstruction_node",
        name="reconstruction_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[LaunchConfiguration("params_file"), overrides],
        remappings=[*topics, ("/tf", "tf"), ("/tf_static", "tf_static")],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
    )
    return [node]
