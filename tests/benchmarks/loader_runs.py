"""The programs that ``tests.benchmarks.loader`` measures, each in a process of its own.

Each prints lines ``RESULT {json}``; moments are as ``time.time()`` counts.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BATCH, WARM = 32, 1000
SEED = 9595


def say(**values: Any) -> None:
    """Print a result."""
    print("RESULT " + json.dumps(values), flush=True)


def memory(process: int | str = "self") -> dict[str, float]:
    """Give what a process has in memory now, MiB: RSS, its share of it (PSS), its own (USS)."""
    kib = dict.fromkeys(("Rss", "Pss", "Private_Clean", "Private_Dirty"), 0)
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in kib:
            kib[name] = int(value.split()[0])
    uss = kib["Private_Clean"] + kib["Private_Dirty"]
    return {"rss": kib["Rss"] / 1024, "pss": kib["Pss"] / 1024, "uss": uss / 1024}


def opening(work: Path) -> None:
    """Open the output, as a user looks into it, and its store."""
    from vlray.regions.output import open_output
    from vlray.regions.store import open_store

    begin = time.perf_counter()
    output = open_output(str(work / "regions"))
    listed = time.perf_counter()
    images = len(output)
    ids = time.perf_counter()
    store = open_store(str(work / "regions"), work / "cache")
    assert len(store) == images
    end = time.perf_counter()
    say(output=listed - begin, ids=ids - listed, store=end - ids)


def store(work: Path) -> None:
    """Read the vectors of all images in another order, batch by batch, twice."""
    import numpy as np

    from vlray.regions.store import open_store

    opened = open_store(str(work / "regions"), work / "cache")
    out = np.empty((BATCH, 36, opened.feature_dim), opened.feature_dtype)
    rows = np.random.default_rng(0).permutation(len(opened))
    rows = rows[: len(rows) // BATCH * BATCH].reshape(-1, BATCH)
    for warm in (False, True):
        begin = time.perf_counter()
        for batch in rows:
            opened.read_feats(batch, out)
        seconds = time.perf_counter() - begin
        if warm:
            say(rate=rows.size / seconds, gigabytes=out.nbytes * len(rows) / seconds / 1e9)


def bare(work: Path) -> None:
    """Import torch, and nothing else."""
    import torch

    assert torch.float16
    say(**memory())


def worker(work: Path) -> None:
    """Let a worker process of torch's DataLoader read, and give what it has in memory."""
    import psutil
    from torch.utils.data import DataLoader

    loader, *_ = _open(work, 0, 1)
    batches = iter(
        DataLoader(loader.dataset, batch_size=None, sampler=loader.sampler, num_workers=1)
    )
    for _ in range(WARM):
        next(batches)
    (child,) = psutil.Process().children()
    say(**memory(child.pid))


def ours(work: Path, rank: int = 0, world: int = 1) -> None:
    """Train on nothing: vlray's loader."""
    begin = time.time()
    loader, imported, examples, opened = _open(work, rank, world)
    _consume(iter(loader), begin)
    say(
        imports=imported - begin,
        examples=examples - imported,
        regions=opened - examples,
        **memory(),
    )


def _open(work: Path, rank: int, world: int) -> tuple[Any, float, float, float]:
    """Open the loader; give it, and when imports, examples and regions were done."""
    from vlray.config.data import DataSection
    from vlray.config.loader import LoaderSection
    from vlray.loader.collate import Collate
    from vlray.loader.dataset import RegionDataset
    from vlray.loader.loader import RegionLoader
    from vlray.regions.store import open_store
    from vlray.tasks.corpus import open_corpus
    from vlray.tasks.labels import LabelSpace

    imported = time.time()
    data = DataSection(annotations={"bench-vqa": str(work / "data")}, cache_dir=str(work / "cache"))
    labels = LabelSpace.from_file(work / "data" / "vqa" / "trainval_ans2label.json")
    corpus = open_corpus("bench-vqa:train", data, labels)
    examples = time.time()
    regions = open_store(str(work / "regions"), data.cache_folder())
    dataset = RegionDataset(corpus, regions, Collate(LoaderSection()))
    loader = RegionLoader(dataset, BATCH, seed=SEED, rank=rank, world=world)
    return loader, imported, examples, time.time()


def theirs(work: Path) -> None:
    """Train on nothing: the file read as LXMERT reads it, kept, and torch's DataLoader.

    Source: airsplay/lxmert, src/utils.py (load_obj_tsv), src/tasks/vqa_data.py.
    """
    begin = time.time()
    import base64
    import csv

    import numpy as np
    import torch
    from torch.utils.data import DataLoader, Dataset

    csv.field_size_limit(sys.maxsize)
    names = [
        "img_id",
        "img_h",
        "img_w",
        "objects_id",
        "objects_conf",
        "attrs_id",
        "attrs_conf",
        "num_boxes",
        "boxes",
        "features",
    ]
    kinds = {
        "objects_id": np.int64,
        "objects_conf": np.float32,
        "attrs_id": np.int64,
        "attrs_conf": np.float32,
        "boxes": np.float32,
        "features": np.float32,
    }

    def load(path: Path) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        with path.open() as stream:
            for record in csv.DictReader(stream, names, delimiter="\t"):
                row: dict[str, Any] = dict(record)
                for name, kind in kinds.items():
                    row[name] = np.frombuffer(base64.b64decode(row[name]), kind)
                for name in ("boxes", "features"):
                    row[name] = row[name].reshape(int(row["num_boxes"]), -1)
                found[row["img_id"]] = row
        return found

    class Questions(Dataset):
        def __init__(self) -> None:
            self.images = load(work / "data" / "mscoco_imgfeat" / "train2014_obj36.tsv")
            folder = work / "data" / "vqa"
            self.labels = json.loads((folder / "trainval_ans2label.json").read_text())
            questions = json.loads((folder / "train.json").read_text())
            self.data = [one for one in questions if one["img_id"] in self.images]

        def __len__(self) -> int:
            return len(self.data)

        def __getitem__(self, index: int) -> tuple[Any, ...]:
            one = self.data[index]
            image = self.images[one["img_id"]]
            boxes = image["boxes"].copy()
            boxes[:, (0, 2)] /= int(image["img_w"])
            boxes[:, (1, 3)] /= int(image["img_h"])
            np.testing.assert_array_less(boxes, 1 + 1e-5)
            np.testing.assert_array_less(-boxes, 1e-5)
            target = torch.zeros(len(self.labels))
            for answer, score in one["label"].items():
                target[self.labels[answer]] = score
            return one["question_id"], image["features"].copy(), boxes, one["sent"], target

    _consume(iter(DataLoader(Questions(), batch_size=BATCH, shuffle=True)), begin)
    say(**memory())


def lxmert(work: Path, clone: str) -> None:
    """Train on nothing: LXMERT's own classes, of a clone."""
    begin = time.time()
    sys.path.insert(0, str(Path(clone) / "src"))
    sys.argv = sys.argv[:1]  # its options are read from there when it is imported
    os.chdir(work)
    from tasks.vqa_data import VQADataset, VQATorchDataset
    from torch.utils.data import DataLoader

    dataset = VQATorchDataset(VQADataset("train"))
    _consume(iter(DataLoader(dataset, batch_size=BATCH, shuffle=True)), begin)
    say(**memory())


def _consume(batches: Iterator[Any], begin: float) -> None:
    """Take a thousand batches, and time as many again."""
    next(batches)
    first = time.time()
    for _ in range(WARM - 1):
        next(batches)
    reached = time.time()
    for _ in range(WARM):
        next(batches)
    rate = WARM * BATCH / (time.time() - reached)
    say(begin=begin, first=first, reached=reached, rate=rate)


def main() -> None:
    """Run one of them: NAME WORK [ARGUMENTS]; with HOLD, stay until standard input is closed."""
    name, work, *rest = sys.argv[1:]
    hold = "hold" in rest
    rest = [word for word in rest if word != "hold"]
    programs = {"opening": opening, "store": store, "theirs": theirs, "bare": bare}
    programs["worker"] = worker
    if name == "ours":
        ours(Path(work), *map(int, rest))
    elif name == "lxmert":
        lxmert(Path(work), rest[0])
    else:
        programs[name](Path(work))
    if hold:
        sys.stdin.read()


if __name__ == "__main__":
    main()
