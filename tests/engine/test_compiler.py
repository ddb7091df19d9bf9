"""torch.compile without a compiler is refused before the first step."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlray.engine.compiler import check_compiler


@pytest.mark.parametrize(("on_gpu", "name"), [(True, "gcc"), (False, "g++")])
def test_compiling_wants_a_compiler(
    on_gpu: bool, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ValueError, match=r"--model.compile needs a compiler, but neither"):
        check_compiler(on_gpu)
    (tmp_path / name).touch(0o755)
    check_compiler(on_gpu)
