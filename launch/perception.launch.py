# SPDX-License-Identifier: Apache-2.0
"""Brings up every perception node, and RViz on request: ros2 launch perception_nodes perception.launch.py rviz:=true"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare("perception_nodes")

ARGUMENTS = {  # name: default, description
    "namespace": ("", "namespace of the nodes and their relative topics"),
    "points": ("points", "topic of the clouds (sensor_msgs/PointCloud2)"),
    "image": ("camera/image", "topic of the images (sensor_msgs/Image)"),
    "camera_info": ("camera/camera_info", "topic of their camera (sensor_msgs/CameraInfo)"),
    "depth": ("camera/depth", "topic of depth registered to them (sensor_msgs/Image)"),
    "odometry": ("odom", "topic of odometry (nav_msgs/Odometry), where reconstruction has its scale from it"),
    "map_file": ("", "map for the relocalization node; empty: as its file of parameters says"),
    "use_sim_time": ("false", "time from /clock, as with ros2 bag play --clock"),
    "autostart": ("", "configure and activate at once; empty: as each node's file says"),
    "backend": ("", "auto, onnxruntime or tensorrt; empty: as each node's file says"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
    "detection": ("true", "run the detection node"),
    "detection_params": (PathJoinSubstitution([SHARE, "config", "detection.yaml"]), "its YAML file of parameters"),
    "reconstruction": ("false", "run the reconstruction node; it sends map -> base_link, or -> odom as its file says"),
    "reconstruction_params": (PathJoinSubstitution([SHARE, "config", "reconstruction.yaml"]), "its YAML file"),
    "registration": ("false", "run the registration node; as odometry it sends odom -> base_link"),
    "registration_params": (PathJoinSubstitution([SHARE, "config", "registration.yaml"]), "its YAML file"),
    "relocalization": ("false", "run the relocalization node; it needs a map_file"),
    "relocalization_params": (PathJoinSubstitution([SHARE, "config", "relocalization.yaml"]), "its YAML file"),
    "segmentation": ("false", "run the segmentation node; it needs depth and TF from its map_frame to the camera"),
    "segmentation_params": (PathJoinSubstitution([SHARE, "config", "segmentation.yaml"]), "its YAML file"),
    "tracking": ("false", "run the tracking node; what it follows is given by id, by a click in RViz or by a box"),
    "tracking_params": (PathJoinSubstitution([SHARE, "config", "tracking.yaml"]), "its YAML file of parameters"),
    "rviz": ("false", "open RViz with this package's displays"),
    "fixed_frame": ("base_link", "fixed frame of RViz"),
}

SHARED = ("namespace", "use_sim_time", "autostart", "backend", "log_level")


def generate_launch_description() -> LaunchDescription:
    """Each task's own launch file, switched by the argument of its name."""
    declared = [DeclareLaunchArgument(n, default_value=d, description=text) for n, (d, text) in ARGUMENTS.items()]
    clouds = [task(name, "points") for name in ("detection", "registration", "tracking")]
    images = [
        task("reconstruction", "image", "camera_info", "depth", "odometry"),
        task("relocalization", "image", "camera_info", "map_file"),
        task("segmentation", "image", "camera_info", "depth", "points"),
    ]
    tasks = [*clouds, *images]
    return LaunchDescription([*declared, *tasks, rviz()])


def task(name: str, *own: str) -> IncludeLaunchDescription:
    """The launch file of a task with the shared arguments, its own ones and its own parameter file."""
    shared = [(argument, LaunchConfiguration(argument)) for argument in (*SHARED, *own)]
    return IncludeLaunchDescription(
        PythonLaunchDescriptionSource(PathJoinSubstitution([SHARE, "launch", f"{name}.launch.py"])),
        launch_arguments=[*shared, ("params_file", LaunchConfiguration(f"{name}_params"))],
        condition=IfCondition(LaunchConfiguration(name)),
    )


def rviz() -> Node:
    """RViz with this package's displays, in the same namespace as the nodes."""
    topics = [(name, LaunchConfiguration(name)) for name in ("points", "image")]
    displays = PathJoinSubstitution([SHARE, "rviz", "perception.rviz"])
    return Node(
        package="rviz2",
        executable="rviz2",
        namespace=LaunchConfiguration("namespace"),
        arguments=["-d", displays, "-f", LaunchConfiguration("fixed_frame")],
        parameters=[{"use_sim_time": LaunchConfiguration("use_sim_time")}],
        remappings=[*topics, ("/tf", "tf"), ("/tf_static", "tf_static")],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
