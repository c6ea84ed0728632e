# SPDX-License-Identifier: Apache-2.0
"""SAM (Kirillov et al., Segment Anything, ICCV 2023) with the parameter names of its checkpoints.

Two phases: the encoder sees an image once, the decoder answers any number of prompts about it.
"""

from __future__ import annotations

from torch import Tensor, nn

from perception_models.segmentation.sam_decoder import SamDecoder
from perception_models.segmentation.sam_encoder import SamEncoder
from perception_models.segmentation.sam_prompts import SamPrompts
from perception_models.segmentation.sam_settings import SamSettings


class Sam(nn.Module):
    """Image encoder, prompt encoder and mask decoder."""

    def __init__(self, settings: SamSettings) -> None:
        super().__init__()
        self.settings = settings
        self.image_encoder = SamEncoder(settings)
        self.prompt_encoder = SamPrompts(settings)
        self.mask_decoder = SamDecoder(settings)

    @property
    def answering(self) -> PromptedDecoder:
        """The second phase, of the same weights."""
        return PromptedDecoder(self.prompt_encoder, self.mask_decoder)


class PromptedDecoder(nn.Module):
    """Features and prompts -> masks: all that runs after the encoder."""

    def __init__(self, prompt_encoder: SamPrompts, mask_decoder: SamDecoder) -> None:
        super().__init__()
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder

    def forward(
        self, features: Tensor, coordinates: Tensor, labels: Tensor, mask: Tensor, has_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Answer B prompts about an image.

        features (1, channels, grid, grid); coordinates (B, K, 2) x y in pixels of the padded image; labels (B, K)
        int64: 1 foreground, 0 background, 2 and 3 the corners of a box, -1 no point; mask (B, 1, 4 grid, 4 grid) logits
        of an earlier answer, has_mask (B,) 1 or 0 -> logits (B, 4, 4 grid, 4 grid), scores (B, 4): the answer to a
        clear prompt, then whole, part and subpart of an ambiguous one.
        """
        prompts = self.prompt_encoder(coordinates, labels, mask, has_mask)
        answers: tuple[Tensor, Tensor] = self.mask_decoder(features, self.prompt_encoder.image_positions(), prompts)
        return answers
