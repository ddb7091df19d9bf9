"""Flickr30k captions, and Flickr30k Entities: boxes for the phrases in the captions."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from typing import Literal

from vlray.storage import files as storage
from vlray.tasks.example import Boxes, Example
from vlray.tasks.layouts._boxes import Corners, is_box
from vlray.tasks.layouts._fields import image_namer
from vlray.tasks.layouts.documents import lines, open_bytes, short_name
from vlray.tasks.problems import Problems
from vlray.tasks.protocol import Files

ROLES: Mapping[str, Mapping[str, Literal["required", "optional"]]] = {
    "captions": {"captions": "required"},
    "entities": {"images": "required", "sentences": "required", "boxes": "required"},
}

_CAPTION = re.compile(r"(?P<image>[^#\t]+)#(?P<number>\d+)\t(?P<text>.*\S.*)")
_PHRASE = re.compile(r"\[/EN#(?P<id>\d+)/(?P<kind>\S+) (?P<words>[^\]]*)\]")

NOT_VISUAL = "0"
"""Id of all phrases about something that is not visible."""


def captions(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read the captions (five per image), one example per caption.

    Args:
        files: ``captions``: on each line ``1000092795.jpg#0``, a tab and the caption.
        problems: Object in which faulty entries are counted.
        options: ``id_rule``.

    Raises:
        ValueError: No line has this format.

    Source:
        results_20130124.token and its readme at https://shannon.cs.illinois.edu/DenotationGraph/
    """
    image_id = image_namer(options)
    for path in files["captions"]:
        good = bad = 0
        for number, line in lines(path, problems):
            match = _CAPTION.fullmatch(line)
            if match is None:
                bad += 1
                problems.add("broken-line", f"line {number} of {short_name(path)}: {line!r:.60}")
                continue
            good += 1
            yield Example(
                example_id=f"{match['image']}#{match['number']}",
                text=match["text"].strip(),
                image_ids=(image_id(match["image"]),),
            )
        if bad > 1 and not good:
            raise ValueError(
                f"{path} is not in the expected format: expected lines of IMAGE.jpg#0, a tab and a "
                "caption"
            )


def entities(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read the captions for the listed images, with boxes for the phrases.

    The text is the caption without markup. A phrase without a box (``notvisual``, a scene, or not
    in the image) has no span; ``about`` has the number of such phrases as ``phrases_without_box``.

    Args:
        files: ``images``: image ids, one per line; ``sentences`` and ``boxes``: the folders
            Sentences (``ID.txt``) and Annotations (``ID.xml``).
        problems: Object in which faulty entries are counted.
        options: ``id_rule``.

    Raises:
        ValueError: None of the listed images has a file in both folders.

    Source:
        BryanPlummer/flickr30k_entities: README.md and flickr30k_entities_utils.py, which also
        subtracts 1 from the coordinates.
    """
    image_id = image_namer(options)
    good = bad = 0
    has_phrases = False
    for path in files["images"]:
        for _, line in lines(path, problems):
            image = line.strip()
            name = image_id(image)
            try:
                boxes = _boxes(storage.join(files["boxes"][0], f"{image}.xml"), problems)
                text_path = storage.join(files["sentences"][0], f"{image}.txt")
                texts = list(lines(text_path, problems))
            except (OSError, ElementTree.ParseError, ValueError) as error:
                bad += 1
                problems.add("no-annotation", f"image {image}: {error!s:.100}")
                continue
            good += 1
            # Lines are numbered from 1, the captions of an image from 0.
            for number, text in texts:
                has_phrases = has_phrases or _PHRASE.search(text) is not None
                yield _sentence(f"{image}#{number - 1}", name, text, boxes)
    if good > 1 and not has_phrases:
        raise ValueError(
            f"no caption of {files['sentences'][0]} marks a phrase, as in [/EN#1/people A man]; "
            "unpack annotations.zip there"
        )
    if bad > 1 and not good:
        raise ValueError(
            f"none of the {bad:,} images of {files['images'][0]} has annotations in "
            f"{files['boxes'][0]} and {files['sentences'][0]}; unpack annotations.zip there"
        )


def _sentence(
    example_id: str, image: str, marked: str, boxes_of: Mapping[str, list[Corners]]
) -> Example:
    """Convert a caption with markup to an example; ``boxes_of`` maps phrase ids to boxes."""
    text, boxes, kinds, spans = "", [], [], []
    without = end = 0
    for match in _PHRASE.finditer(marked):
        # Spans are positions in the text without markup, which grows phrase by phrase.
        text += marked[end : match.start()]
        span = (len(text), len(text) + len(match["words"]))
        text += match["words"]
        end = match.end()
        of_phrase = [] if match["id"] == NOT_VISUAL else boxes_of.get(match["id"], [])
        without += not of_phrase
        boxes += of_phrase
        kinds += [match["kind"]] * len(of_phrase)
        spans += [span] * len(of_phrase)
    text += marked[end:]
    return Example(
        example_id=example_id,
        text=text.rstrip(),
        image_ids=(image,),
        label=Boxes(tuple(boxes), tuple(kinds), tuple(spans)),
        about={"phrases_without_box": str(without)} if without else {},
    )


def _boxes(path: str, problems: Problems) -> dict[str, list[Corners]]:
    """Read an image's boxes, keyed by phrase id.

    Raises:
        OSError: The file does not exist.
        ElementTree.ParseError: The file is not XML.
        ValueError: A box lacks a coordinate.
    """
    with open_bytes(path) as stream:
        root = ElementTree.fromstring(stream.read())
    image_hw = int(root.findtext("size/height", "0")), int(root.findtext("size/width", "0"))
    boxes: dict[str, list[Corners]] = {}
    for thing in root.findall("object"):
        box = thing.find("bndbox")
        if box is None:  # a scene, or an entity that is not visible
            continue
        # The files count pixels from 1.
        x1, y1, x2, y2 = (float(box.findtext(key, "")) - 1 for key in _COORDINATES)
        if is_box((x1, y1, x2, y2), image_hw, f"a box in {short_name(path)}", problems):
            # A box may belong to several phrases, each named by its id.
            for name in thing.findall("name"):
                boxes.setdefault(name.text or "", []).append((x1, y1, x2, y2))
    return boxes


_COORDINATES = ("xmin", "ymin", "xmax", "ymax")
