"""Tables of examples: what goes in comes out, once, and quickly the next time."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlray.config.data import DataSection
from vlray.storage import files
from vlray.tasks import catalogue
from vlray.tasks.columns import SCHEMA, example_of, to_batch
from vlray.tasks.example import Answers, Boxes, Choices, Example
from vlray.tasks.examples import open_examples, table_from
from vlray.tasks.problems import DataError
from vlray.tasks.table_file import ROWS, SeenIds

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
TEXTS = st.lists(TEXT, max_size=3).map(tuple)
NUMBER = st.floats(-1e4, 1e4, width=32)
BOX = st.tuples(NUMBER, NUMBER, NUMBER, NUMBER)
SPAN = st.tuples(st.integers(0, 99), st.integers(0, 99))


@st.composite
def boxes(draw: st.DrawFn) -> Boxes:
    count = draw(st.integers(0, 3))

    def column(kind: st.SearchStrategy) -> tuple:
        return tuple(draw(st.lists(kind, min_size=count, max_size=count)))

    return Boxes(column(BOX), column(TEXT), column(SPAN), column(TEXTS))


LABELS = st.one_of(
    st.none(),
    st.builds(Answers, TEXTS, st.lists(st.sampled_from([0.0, 0.25, 1.0]), max_size=3).map(tuple)),
    st.builds(Choices, TEXTS, st.integers(-1, 3)),
    boxes(),
)
EXAMPLES = st.builds(
    Example,
    TEXT,
    TEXT,
    st.lists(TEXT, min_size=1, max_size=2).map(tuple),
    LABELS,
    st.dictionaries(TEXT, TEXT, max_size=2),
)


def some(count: int, first: int = 0) -> list[Example]:
    return [
        Example(f"q{n}", f"text {n}", (f"image {n % 7}",), Answers((f"a{n % 3}",)), {"n": str(n)})
        for n in range(first, first + count)
    ]


def line(number: int, *images: str, text: str = "what is it", **more: object) -> dict:
    """Give one entry of the file of `lines_dataset`."""
    return {"id": f"q{number}", "text": text, "images": images or (f"{number}",), **more}


def spec_of(lines_dataset) -> catalogue.SpecDataset:
    dataset = catalogue.from_file(lines_dataset([]))
    assert isinstance(dataset, catalogue.SpecDataset)
    return dataset


def data_in(tmp_path: Path, **more: str) -> DataSection:
    return DataSection(
        annotations={"mine": str(tmp_path)}, cache_dir=str(tmp_path / "cache"), **more
    )


@given(st.lists(EXAMPLES, max_size=5))
@settings(max_examples=60)
def test_examples_of_every_label_survive_the_table(examples: list[Example]) -> None:
    assert [example_of(row) for row in to_batch(examples).to_pylist()] == examples


def test_any_example_is_at_hand_by_its_index(lines_dataset, tmp_path) -> None:
    examples = some(2 * ROWS + 10)
    table = table_from(iter(examples), spec_of(lines_dataset).spec, "train", tmp_path / "t.arrow")
    assert len(table) == len(examples)
    assert table[-1] == examples[-1]
    indices = np.array([ROWS, 0, 2 * ROWS + 9, ROWS - 1, 0])
    assert table.take(indices) == [examples[index] for index in indices]
    assert list(table) == examples
    assert table.column("text").to_pylist()[ROWS] == f"text {ROWS}"
    with pytest.raises(IndexError, match="index 8202 is out of range"):
        table[len(examples)]


def test_a_part_is_the_same_file_seen_through_its_rows(lines_dataset, tmp_path) -> None:
    examples = some(50)
    whole = table_from(iter(examples), spec_of(lines_dataset).spec, "train", tmp_path / "t.arrow")
    part = whole.part("few", np.array([40, 3, 17])).part("fewer", np.array([2, 0]))
    assert list(part) == [examples[17], examples[40]]
    assert part.column("example_id").to_pylist() == ["q17", "q40"]
    again = pickle.loads(pickle.dumps(part))
    assert list(again) == list(part)
    assert again.name == "mine:fewer"


def test_an_empty_table_is_a_table(lines_dataset, tmp_path) -> None:
    table = table_from(iter(()), spec_of(lines_dataset).spec, "train", tmp_path / "t.arrow")
    assert len(table) == 0
    assert list(table) == []
    assert table.column("boxes").type == SCHEMA.field("boxes").type


@given(st.lists(st.lists(st.integers(0, 60).map(str), max_size=20), max_size=12))
def test_an_id_is_new_once(batches: list[list[str]]) -> None:
    seen, known = SeenIds(), set()
    for batch in batches:
        expected = []
        for name in batch:
            expected.append(name not in known)
            known.add(name)
        assert seen.add(batch).tolist() == expected


def test_what_is_wrong_is_counted_and_still_known_the_next_time(lines_dataset, tmp_path) -> None:
    entries = [line(n, answer="yes") for n in range(ROWS + 5)]
    entries += [line(3, text="again"), "{", line(-1) | {"images": []}]
    dataset = catalogue.from_file(lines_dataset(entries))
    for _ in range(2):
        table = open_examples(dataset, "train", data_in(tmp_path))
        assert len(table) == ROWS + 5
        assert table[3].text == "what is it"
        assert table.problems.counts == {"duplicate-id": 1, "broken-line": 1, "no-image": 1}
        assert table.problems.examples["duplicate-id"] == ["q3"]
        with pytest.raises(DataError, match="1 example with a duplicate id"):
            open_examples(dataset, "train", data_in(tmp_path, on_bad="stop"))
    assert len(list((tmp_path / "cache" / "examples").glob("*.arrow"))) == 1


def test_changed_files_and_readers_make_another_table(lines_dataset, tmp_path) -> None:
    yaml_file = lines_dataset([line(1)])
    assert len(open_examples(catalogue.from_file(yaml_file), "train", data_in(tmp_path))) == 1
    (tmp_path / "train.jsonl").write_text(f"{json.dumps(line(1))}\n{json.dumps(line(2))}\n")
    assert len(open_examples(catalogue.from_file(yaml_file), "train", data_in(tmp_path))) == 2
    layout = tmp_path / "layout.py"
    layout.write_text(layout.read_text().replace('entry["text"]', 'entry["text"].upper()'))
    table = open_examples(catalogue.from_file(yaml_file), "train", data_in(tmp_path))
    assert table[0].text == "WHAT IS IT"


def test_a_reader_that_fails_leaves_nothing_behind(lines_dataset, tmp_path) -> None:
    def failing():
        yield from some(ROWS + 1)
        raise ValueError("the file is of another form")

    with pytest.raises(ValueError, match="another form"):
        table_from(failing(), spec_of(lines_dataset).spec, "train", tmp_path / "t" / "t.arrow")
    assert list((tmp_path / "t").iterdir()) == []


def test_a_value_of_another_type_is_refused_with_its_column(lines_dataset, tmp_path) -> None:
    wrong = [Example("q1", 7, ("a",))]
    with pytest.raises(ValueError, match="text of an example from 'q1' on is not of type string"):
        table_from(iter(wrong), spec_of(lines_dataset).spec, "train", tmp_path / "t.arrow")


@pytest.mark.usefixtures("processes")
def test_processes_that_open_a_split_at_once_read_it_once(lines_dataset, tmp_path) -> None:
    yaml_file = lines_dataset([line(n) for n in range(300)])
    program = (
        "import sys, logging; logging.basicConfig(level='INFO');"
        "from pathlib import Path; from vlray.config.data import DataSection;"
        "from vlray.tasks import catalogue; from vlray.tasks.examples import open_examples;"
        f"data = DataSection(annotations={{'mine': {str(tmp_path)!r}}},"
        f" cache_dir={str(tmp_path / 'cache')!r});"
        f"dataset = catalogue.from_file(Path({str(yaml_file)!r}));"
        "print(len(open_examples(dataset, 'train', data)))"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    outputs = [process.communicate() for process in running]
    assert [out for out, _ in outputs] == ["300\n"] * 3
    assert sum(err.count("read 300 examples") for _, err in outputs) == 1


def test_a_split_of_first_images_and_its_rest_make_up_the_whole(lines_dataset, tmp_path) -> None:
    order = tmp_path / "order.txt"
    order.write_text("\n".join(f"image{n}" for n in (4, 2, 0, 1, 3)))
    part = {"of": "train", "files": {"order": "order.txt"}}
    file = lines_dataset(
        [line(n, f"image{n % 5}") for n in range(23)],
        splits={
            "train": {"files": {"lines": "train.jsonl"}},
            "mini": part | {"first_images": ["order", 2]},
            "rest": part | {"except_images": ["order", 2]},
            "short": part | {"first_images": ["order", 6]},
        },
    )
    dataset, data = catalogue.from_file(file), data_in(tmp_path)
    mini, rest = (open_examples(dataset, name, data) for name in ("mini", "rest"))
    assert {example.image_ids[0] for example in mini} == {"image4", "image2"}
    ids = [example.example_id for example in (*mini, *rest)]
    assert sorted(ids) == sorted(f"q{n}" for n in range(23))
    with pytest.raises(ValueError, match="has 5 image ids, but the split needs the first 6"):
        open_examples(dataset, "short", data)


def test_a_missing_file_is_said_with_its_places_and_its_source(lines_dataset, tmp_path) -> None:
    dataset = catalogue.from_file(lines_dataset([]))
    with pytest.raises(FileNotFoundError) as error:
        open_examples(dataset, "test", data_in(tmp_path))
    said = str(error.value)
    assert str(tmp_path / "official" / "test.jsonl") in said
    assert str(tmp_path / "test.jsonl") in said
    assert "https://example.org/test.zip" in said
    assert "vlray env set data.annotations.mine FOLDER" in said
    assert "`vlray datasets list` names the datasets" in said
    (tmp_path / "test.jsonl").write_text("")  # the last part of the official name is enough
    assert len(open_examples(dataset, "test", data_in(tmp_path))) == 0


def test_files_in_a_bucket_are_read_and_read_again_when_they_change(tmp_path, bucket) -> None:
    fs, path = files.resolve(f"{bucket}/testset.json")
    dataset = catalogue.find("vqa-rad")
    data = DataSection(annotations={"vqa-rad": bucket}, cache_dir=str(tmp_path))
    entry = {"qid": 11, "image_name": "a.jpg", "answer": "yes", "question": "Is it?"}
    for count in (1, 2):
        entries = [entry | {"qid": number} for number in range(count)]
        files.write_atomic(fs, path, json.dumps(entries).encode())
        table = open_examples(dataset, "test", data)
        assert [example.example_id for example in table] == [str(n) for n in range(count)]


def test_a_cache_folder_that_cannot_be_made_is_said(lines_dataset, tmp_path) -> None:
    (tmp_path / "cache").write_text("a file")
    dataset = catalogue.from_file(lines_dataset([]))
    with pytest.raises(ValueError, match=r"is not writable .* --data.cache-dir FOLDER"):
        open_examples(dataset, "train", data_in(tmp_path))


def test_a_changed_label_rule_holds_for_a_table_that_is_there(lines_dataset, tmp_path) -> None:
    spec = catalogue.from_file(lines_dataset([line(1)])).spec
    for labels in ("answers", "none"):
        dataset = catalogue.SpecDataset(spec.model_copy(update={"labels": labels}))
        table = open_examples(dataset, "train", data_in(tmp_path))
        assert pickle.loads(pickle.dumps(table)).spec.labels == labels
        assert table.part("one", np.array([0])).spec.labels == labels
    assert len(list((tmp_path / "cache" / "examples").glob("*.arrow"))) == 1
