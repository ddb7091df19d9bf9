"""Samples of a test as plain data: an example, its images, answers and phrases.

Shapes: R: regions of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from vlray.tasks.example import Example


@dataclass(frozen=True)
class Candidate:
    """One of the model's answers.

    Attributes:
        name: Text of the answer.
        probability: Softmax probability.
        score: Score by the dataset's metric; None: unknown.
    """

    name: str
    probability: float
    score: float | None


@dataclass(frozen=True)
class Phrase:
    """A phrase of the text with its predicted and annotated boxes.

    Attributes:
        span: Start and end in the text, in characters.
        predicted: The model's box with the highest score, pixels; None: no prediction.
        right: Annotated boxes of the phrase, pixels.
        is_hit: Whether ``predicted`` matches an annotated box; None: unknown.
    """

    span: tuple[int, int]
    predicted: Sequence[float] | None
    right: Sequence[Sequence[float]]
    is_hit: bool | None


@dataclass(frozen=True, eq=False)
class Image:
    """An image with the regions that the model received.

    Attributes:
        image_id: Id of the image.
        regions: Name of the output that holds the image.
        size: Width and height, pixels.
        boxes: Boxes of the regions in the model's order, pixels.
        labels: Class of each region; empty: the output has no classes.
        attention: Attention weight of each region; None: unknown.
        caption: Tells several images apart, such as ``left``; may be empty.
    """

    image_id: str
    regions: str
    size: tuple[int, int]
    boxes: Float32[np.ndarray, "R 4"]
    labels: tuple[str, ...] = ()
    attention: tuple[float, ...] | None = None
    caption: str = ""


@dataclass(frozen=True, eq=False)
class Sample:
    """An example with everything that the page shows about it.

    Attributes:
        example: The example of the dataset.
        score: Score of the prediction; None: unknown.
        candidates: Best answers, most probable first.
        images: The images with their regions.
        phrases: Phrases of the text; only in grounding.
    """

    example: Example
    score: float | None
    candidates: tuple[Candidate, ...] = ()
    images: tuple[Image, ...] = ()
    phrases: tuple[Phrase, ...] = ()
