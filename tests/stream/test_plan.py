from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from pyarrow.fs import LocalFileSystem

from vlray.images.listing import LISTING
from vlray.regions import parts
from vlray.regions.schema import FAILURES, PLAN
from vlray.stream import plan as plans
from vlray.stream.changes import compare
from vlray.stream.plan import ShardPlan

FS = LocalFileSystem()
EMPTY = plans.resolve(plans.SCHEMA.empty_table(), 0)


def listing(names: list[str], split: str = "all") -> pa.Table:
    rows = [{"image_id": name, "path": f"{split}/{name}.jpg", "split": split} for name in names]
    rows = [row | {"file_bytes": len(names), "mtime_ns": 0} for row in rows]
    return pa.Table.from_pylist(rows, schema=LISTING)


def extended(plan: ShardPlan, images: pa.Table, size: int) -> pa.Table:
    return plans.extend(plan, compare(plan, images, set()).new, size)


def grown(plan: ShardPlan, rows: pa.Table) -> ShardPlan:
    return plans.resolve(pa.concat_tables([plan.rows, rows]), plan.stored + 1)


@given(
    st.lists(st.integers(0, 30), max_size=40, unique=True),
    st.lists(st.integers(0, 30), max_size=40, unique=True),
    st.integers(1, 7),
)
def test_later_images_become_further_shards_and_move_no_earlier_one(
    first: list[int], second: list[int], size: int
) -> None:
    before = grown(EMPTY, extended(EMPTY, listing(sorted(map(str, first))), size))
    after = grown(before, extended(before, listing(sorted(map(str, second))), size))
    assert after.table.slice(0, before.table.num_rows).equals(before.table)
    ids = after.table["image_id"].to_pylist()
    assert sorted(ids) == sorted({str(n) for n in first + second})
    assert (after.sizes() <= size).all()
    shards = after.table["shard"].to_numpy()
    assert (np.diff(shards) >= 0).all()
    assert set(shards[before.table.num_rows :]).isdisjoint(shards[: before.table.num_rows])


def test_a_shard_holds_one_split_only() -> None:
    names = [str(n) for n in range(5)]
    both = pa.concat_tables([listing(names, "train"), listing([f"v{n}" for n in names], "val")])
    rows = extended(EMPTY, both, 2)
    assert rows["shard"].to_pylist() == [0, 0, 1, 1, 2, 3, 3, 4, 4, 5]
    assert rows["split"].to_pylist() == ["train"] * 5 + ["val"] * 5


def test_a_stored_plan_is_read_back_whole(tmp_path: Path) -> None:
    root = str(tmp_path)
    plan = plans.store(FS, root, EMPTY, extended(EMPTY, listing(["a", "b", "c"]), 2))
    plan = plans.store(FS, root, plan, extended(plan, listing(["b", "d"]), 2))
    again = plans.load(FS, root)
    assert again.table.equals(plan.table)
    assert again.stored == plan.stored == 2


def write(root: Path, folder: str, shard: int, table: pa.Table) -> None:
    (root / folder).mkdir(exist_ok=True)
    path = root / folder / parts.part_name(shard)
    path.write_bytes(parts.encode_plain(table))


def failure(stage: str) -> pa.Table:
    row = dict.fromkeys(FAILURES.names, "x") | {"stage": stage}
    return pa.Table.from_pylist([row], schema=FAILURES)


def test_shards_with_a_part_are_done_unless_the_detector_raised_in_them(tmp_path: Path) -> None:
    plan = grown(EMPTY, extended(EMPTY, listing([str(n) for n in range(8)]), 2))
    for shard in (0, 1, 2):
        write(tmp_path, parts.REGIONS, shard, PLAN.empty_table())
    write(tmp_path, parts.FAILURES, 1, failure("decode"))
    write(tmp_path, parts.FAILURES, 2, failure("detect"))
    todo = plans.shards_to_do(FS, str(tmp_path), plan, retry_failures=False)
    assert todo.tolist() == [2, 3]
    assert not (tmp_path / parts.REGIONS / parts.part_name(2)).exists()
    todo = plans.shards_to_do(FS, str(tmp_path), plan, retry_failures=True)
    assert todo.tolist() == [1, 2, 3]


def test_other_files_in_the_folder_are_no_parts() -> None:
    assert parts.shard_of("part-00012.parquet") == 12
    assert parts.shard_of(parts.part_name(1234567)) == 1234567
    for name in ("part-.parquet", "00012.parquet", "part-00012.parquet.bak", ".tmp-part-1.parquet"):
        assert parts.shard_of(name) is None
