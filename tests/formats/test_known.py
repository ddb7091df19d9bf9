from __future__ import annotations

from pathlib import Path

import pytest

from vlray.config.convert import EXPORTS, FORMATS
from vlray.formats.exporting import _WRITERS
from vlray.formats.known import open_reader, reader_of, recognize


@pytest.mark.parametrize("name", FORMATS)
def test_each_form_has_a_reader_of_its_name(name: str) -> None:
    reader = reader_of(name)
    assert reader.name == name
    assert ("pickled" in FORMATS[name].about) == reader.pickled


def test_what_can_be_written_is_what_the_help_says() -> None:
    assert set(_WRITERS) == set(EXPORTS) <= set(FORMATS)


def test_an_unknown_form_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no form 'tvs'; choose tsv10, tsv6, vinvl, npz"):
        reader_of("tvs")
    (tmp_path / "notes.txt").write_text("nothing of that kind\n")
    for source in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ValueError, match="of no form that vlray knows"):
            recognize(source)


def test_pickles_wait_for_trust(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a pickle may run any code.*say --trust-pickle"):
        open_reader("lmdb", tmp_path, trust_pickle=False)
