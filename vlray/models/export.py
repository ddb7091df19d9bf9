"""The export command: write a checkpoint as a folder for plain transformers."""

from __future__ import annotations

import shutil
from pathlib import Path

from vlray.config.export import ExportConfig
from vlray.loader.word_pieces import TOKENIZER
from vlray.models.build import save_network
from vlray.models.checkpoint import CheckpointInfo
from vlray.models.load import is_built_in, load_checkpoint
from vlray.models.plain import card, plain_network
from vlray.models.store import locate
from vlray.settings import secrets
from vlray.settings.atomic import replacing


def run(config: ExportConfig) -> None:
    """Write the folder, and print the class to load and what differs.

    Raises:
        FileNotFoundError: The checkpoint does not exist.
        FileExistsError: The output exists.
        ValueError: The checkpoint has a model of the user's own.
    """
    folder = locate(config.checkpoint, "best", config.data.cache_folder())
    output = Path(config.output).expanduser()
    if output.exists():
        raise FileExistsError(f"{output} exists; pass a new folder")
    info = CheckpointInfo.read(folder)
    if not is_built_in(info.model, info.goal):
        raise ValueError(
            f"{config.checkpoint} has the model {info.model.name}, which transformers does not "
            "have; export is for lxmert and visualbert"
        )
    model, _ = load_checkpoint(folder)
    network, sentences = plain_network(model, info)
    name = type(network).__name__
    with replacing(output) as temporary:
        temporary.mkdir()
        save_network(network, temporary)
        if (folder / TOKENIZER).is_file():
            shutil.copyfile(folder / TOKENIZER, temporary / TOKENIZER)
        text = card(info, [f"Load it with transformers' {name}.", *sentences], name)
        (temporary / "README.md").write_text(text, encoding="utf-8")
    secrets.show("\n".join([f"{output}: {name}.from_pretrained({config.output!r})", *sentences]))
