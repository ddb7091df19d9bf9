"""Where weights are."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import pytest

from vlray.models.weights import find


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no config\.json; .* OUT/best or OUT/last"):
        find(str(tmp_path))


@pytest.mark.parametrize("weights", ["./nothing", "/nothing/here", "a/b/c", "~/nothing"])
def test_a_path_of_nothing_is_not_asked_for_on_the_hub(weights: str) -> None:
    with pytest.raises(ValueError, match=f"{weights} is not a folder"):
        find(weights)


def test_what_cannot_be_had_from_the_hub_names_the_ways_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        ValueError, match=r"download .* failed .* copied here; .*OFFLINE=1 .* minilm"
    ):
        find("unc-nlp/lxmert-base-uncased-not-here")


def test_without_a_connection_the_hub_is_asked_once_and_nothing_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = logging.getLogger("huggingface_hub")
    monkeypatch.setattr(client, "propagate", True)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nobody is there
    huggingface_hub.close_session()
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)  # between the tries
    with pytest.raises(ValueError, match=r"download .* failed .* connect"):
        find("unc-nlp/lxmert-base-uncased-not-here")
    huggingface_hub.close_session()
    assert waits == []
    assert [record.name for record in caplog.records if record.name.startswith(client.name)] == []
