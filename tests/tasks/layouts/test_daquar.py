from pathlib import Path

import pytest

from vlray.tasks import catalogue
from vlray.tasks.example import Answers, Example
from vlray.tasks.problems import Problems


def read(path: Path, text: str) -> tuple[list[Example], Problems]:
    path.write_text(text)
    problems = Problems()
    files = {"questions": (str(path),)}
    return list(catalogue.find("daquar").read("train", files, problems)), problems


def test_the_image_is_taken_out_of_the_question(tmp_path: Path) -> None:
    text = (
        "what is on the right side of the black telephone in the image3 ?\ndesk\n"
        "what is found on the table in the image12 ? \nbook, lamp\n"
        "how many chairs are there in this image7 ?\r\n4\r\n"
    )
    examples, problems = read(tmp_path / "qa.txt", text)
    assert not problems.counts
    assert examples == [
        Example(
            "1",
            "what is on the right side of the black telephone ?",
            ("image3",),
            Answers(("desk",)),
        ),
        Example("2", "what is found on the table ?", ("image12",), Answers(("book, lamp",))),
        Example("3", "how many chairs are there ?", ("image7",), Answers(("4",))),
    ]


def test_a_missing_answer_costs_one_question_and_shifts_no_other(tmp_path: Path) -> None:
    text = "what is it in the image1 ?\nwhat is red in the image2 ?\nlamp\nbed\n"
    examples, problems = read(tmp_path / "qa.txt", text)
    assert [(example.example_id, example.text) for example in examples] == [("2", "what is red ?")]
    assert problems.counts == {"no-annotation": 1, "no-question": 1}


def test_a_text_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="each question names its image"):
        read(tmp_path / "qa.txt", "what is this ?\nlamp\n")
