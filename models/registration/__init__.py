# SPDX-License-Identifier: Apache-2.0
"""Registration: the pose of one cloud of points in another, from nothing."""

from perception_models.registration.pipeline import Registrar, Registration

__all__ = ["Registrar", "Registration"]
