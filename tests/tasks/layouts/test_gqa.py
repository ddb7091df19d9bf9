import json
from pathlib import Path

from vlray.tasks import catalogue
from vlray.tasks.example import Answers
from vlray.tasks.problems import Problems

ENTRY = {
    "semantic": [
        {"operation": "select", "dependencies": [], "argument": "wall (722332)"},
        {"operation": "filter color", "dependencies": [0], "argument": "white"},
        {"operation": "relate", "dependencies": [1], "argument": "_,on,s (722335)"},
        {"operation": "query", "dependencies": [2], "argument": "name"},
    ],
    "entailed": ["02930160", "02930158"],
    "equivalent": ["02930152"],
    "question": "What is on the white wall?",
    "imageId": "2354786",
    "isBalanced": True,
    "groups": {"global": None, "local": "14-wall_on,s"},
    "answer": "pipe",
    "semanticStr": "select: wall (722332)->filter color: white [0]",
    "annotations": {"answer": {"0": "722335"}, "question": {"4:6": "722332"}, "fullAnswer": {}},
    "types": {"detailed": "relS", "semantic": "rel", "structural": "query"},
    "fullAnswer": "The pipe is on the wall.",
}


def test_a_question_carries_what_the_official_evaluation_breaks_down_by(tmp_path: Path) -> None:
    path = tmp_path / "val_balanced_questions.json"
    path.write_text(json.dumps({"02930152": ENTRY}))
    problems = Problems()
    files = {"questions": (str(path),)}
    [example] = catalogue.find("gqa").read("val", files, problems)
    assert not problems.counts
    assert example.example_id == "02930152"  # with its zero: it is no number
    assert example.image_ids == ("2354786",)
    assert example.label == Answers(("pipe",))
    assert example.about == {
        "structural": "query",
        "semantic": "rel",
        "detailed": "relS",
        "balanced": "true",
        "entailed": "02930160 02930158",
        "steps": "3",  # the query of a name is none
        "full_answer": "The pipe is on the wall.",
    }


def test_test_images_keep_their_n_and_several_files_follow_each_other(tmp_path: Path) -> None:
    paths = []
    for number in range(2):
        entry = {"imageId": f"n16131{number}", "question": "Is it red?", "isBalanced": False}
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps({f"2012{number}": entry}))
        paths.append(str(path))
    examples = list(catalogue.find("gqa").read("test", {"questions": tuple(paths)}, Problems()))
    assert [example.image_ids for example in examples] == [("n161310",), ("n161311",)]
    assert [example.label for example in examples] == [None, None]
    assert examples[0].about == {"balanced": "false"}
