"""Import another tool's file into an output, or resume an interrupted import."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vlray.config.convert import ConvertConfig
from vlray.formats.correct import Corrector
from vlray.formats.flags import DOUBTS, Flag
from vlray.formats.lookup import open_reader, recognize
from vlray.formats.progress import ConversionProgress
from vlray.formats.provenance import identity_of
from vlray.formats.readers.protocol import RawRegions, Reader, Unreadable
from vlray.formats.sizes import Photographs, read_sizes, renamer
from vlray.formats.survey import Survey, survey
from vlray.formats.write import Shard, ShardWriter
from vlray.images.find import list_images
from vlray.regions import parts
from vlray.regions.claim import claim
from vlray.regions.lock import only_writer
from vlray.settings.wording import counted
from vlray.storage import files

log = logging.getLogger("vlray.formats")


@dataclass
class ImportResult:
    """Counts for one import run."""

    output: str
    images: int = 0  # written by this run, failures excluded
    regions: int = 0
    failed: int = 0
    existing: int = 0  # images written by earlier runs
    bytes: int = 0
    seconds: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)  # failures in this run, by error class
    first_failure: str = ""
    is_redone: bool = False  # the source had changed, so the output was started over

    @property
    def done(self) -> int:
        """Number of images processed by this run, including failures."""
        return self.images + self.failed


def import_file(config: ConvertConfig) -> ImportResult:
    """Import a file of region features into an output, or finish an earlier import.

    Raises:
        ValueError: The settings, the file or an existing output prevent the import.
    """
    source = Path(config.source).expanduser()
    name = config.format or recognize(source)
    reader = open_reader(name, source, trust_pickle=config.trust_pickle)
    photographs = _photographs(config)
    rename = renamer(config.id_rule)
    seen = survey(
        reader, source, photographs, rename, boxes=config.boxes, labels=tuple(config.labels)
    )
    _log_survey(config, name, seen, reader)
    fs, root = files.resolve(config.output)
    companions = getattr(reader, "companions", ())
    identity = identity_of(config, name, source, seen, photographs, companions)
    with only_writer(fs, root, config.output):
        is_redone = claim(fs, root, config.output, identity, on_changed=config.on_changed)
        for folder in (parts.REGIONS, parts.FAILURES, parts.PLAN, parts.FLAGS):
            files.remove_temporaries(fs, files.join(root, folder))
        writer = ShardWriter(fs, root, identity, seen.feature_dim, config.dtype)
        run = _Import(config, reader, seen, photographs, rename, writer)
        run.result.is_redone = is_redone
        return run.finish()


def _photographs(config: ConvertConfig) -> Photographs:
    sizes = read_sizes(Path(config.sizes), config.id_rule) if config.sizes else None
    if not config.images:
        return Photographs.of(None, sizes, config.split)
    # "keep" applies to ids in the file; a photograph's id is then the stem of the file name.
    rule = "stem" if config.id_rule == "keep" else config.id_rule
    listing = list_images(config.images, id_rule=rule)
    log.info("%s: %s", config.images, counted(listing.table.num_rows, "photograph"))
    return Photographs.of(listing, sizes, config.split)


def _log_survey(config: ConvertConfig, name: str, seen: Survey, reader: Reader) -> None:
    """Log how the file is interpreted, and report problems that affect all images.

    Raises:
        ValueError: None of the first images has a photograph in ``--images``.
    """
    vectors = f"vectors of length {seen.feature_dim}" if seen.feature_dim else "no vectors"
    log.info("%s: %s, %s, labels: %s", config.source, name, vectors, seen.labels.source)
    kind = np.dtype(getattr(reader, "float_type", "<f4"))
    if kind != np.float32:
        log.warning("the vectors are read as %s, although the format has float32", kind.name)
    for key, value in seen.settings().items():
        log.debug("%s: %s", key, value)
    if seen.frame.normalized:
        unit = "the images' shorter side" if seen.frame.shorter_side else "width and height"
        log.info("reading boxes as fractions of %s", unit)
    if seen.frame.swapped:
        log.info("image sizes are stored as width, height, contrary to the format; swapping them")
    first = ", ".join(seen.first_ids)
    if config.images and not seen.with_photograph:
        raise ValueError(
            f"{config.images} has no photograph for any of the first "
            f"{counted(seen.images, 'image')} ({first}, ...); pass --id-rule coco or "
            "regex:PATTERN to match ids and file names"
        )
    if not seen.with_size:
        log.warning(
            "no image size for the first %s (%s, ...), so images with boxes that need one will "
            "fail; pass --images FOLDER or --sizes FILE",
            counted(seen.images, "image"),
            first,
        )


class _Import:
    """One pass over the file, shard by shard; a shard is written while the next one is read."""

    def __init__(
        self,
        config: ConvertConfig,
        reader: Reader,
        seen: Survey,
        photographs: Photographs,
        rename: Callable[[str], str],
        writer: ShardWriter,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._photographs, self._rename = photographs, rename
        self._size, self._strict = config.shard_size, config.strict
        # A resumed import reuses the ids that earlier shards assigned to words.
        names = writer.labels() or (seen.labels.objects, seen.labels.attributes)
        self._correct = Corrector(seen, *names, float16=config.dtype == "float16")
        self._taken: set[str] = set()  # image ids that have a row
        self._planned: set[str] = set()  # image ids in the plan
        self.result = ImportResult(config.output)

    def finish(self) -> ImportResult:
        """Write all missing shards, and return the counts."""
        began = time.monotonic()
        position = number = 0
        unit = getattr(self._reader, "unit", " images")
        with ThreadPoolExecutor(1) as pool, ConversionProgress(self._reader.end, unit) as progress:
            pending: Future[int] | None = None
            stream: Iterator[tuple[int, RawRegions | Unreadable]] | None = None
            while position < self._reader.end:
                stored = self._writer.stored(number)
                # Skip a stored shard. The stream is dropped, since the next read must seek.
                if stored is not None and stored.begin == position:
                    self._remember(stored.image_ids, stored.planned)
                    position, stream = stored.end, None
                    progress.skip(position)
                else:
                    stream = stream or self._reader.read(position)
                    shard = self._fill(Shard(number, position), stream, progress)
                    if not len(shard):
                        break
                    position = shard.end
                    # Waiting for the previous write keeps at most two shards in memory.
                    self.result.bytes += pending.result() if pending else 0
                    pending = pool.submit(self._writer.write, shard)
                number += 1
            self.result.bytes += pending.result() if pending else 0
        self.result.seconds = time.monotonic() - began
        return self.result

    def _remember(self, image_ids: list[str], planned: list[str]) -> None:
        self._taken.update(image_ids)
        self._planned.update(planned)
        self.result.existing += len(image_ids)

    def _fill(
        self,
        shard: Shard,
        stream: Iterator[tuple[int, RawRegions | Unreadable]],
        progress: ConversionProgress,
    ) -> Shard:
        """Fill a shard with the next images from the file."""
        for position, raw in stream:
            shard.end = position
            self._take(shard, raw)
            progress.count(position, self.result.done, self.result.failed)
            if len(shard) == self._size:
                break
        else:
            shard.end = self._reader.end  # also covers empty lines after the last image
        # Copy the names: the vocabularies grow while this shard is written in the background.
        shard.labels = list(self._correct.objects.names), list(self._correct.attributes.names)
        return shard

    def _take(self, shard: Shard, raw: RawRegions | Unreadable) -> None:
        try:
            image_id = self._rename(raw.image_id)
        except ValueError as error:
            name, reason = "BadId", str(error)
            if isinstance(raw, Unreadable):  # the id may be unreadable too
                name, reason = raw.error, raw.reason
            self._fail(shard, raw.image_id, "", "", name, reason)
            return
        photograph = self._photographs.look_up(image_id, raw.image_id)
        path, split = photograph.path, photograph.split
        # A repeated id has one row in the plan; later occurrences are failures.
        if image_id not in self._planned:
            self._planned.add(image_id)
            shard.plan.append((image_id, path, split))
        if isinstance(raw, Unreadable):
            self._fail(shard, image_id, path, split, raw.error, raw.reason)
            return
        if image_id in self._taken:
            reason = f"the file has several rows with the id {image_id}; only the first was used"
            self._fail(shard, image_id, path, split, "DuplicateId", reason)
            return
        row, flags, reason = self._correct(raw, photograph.image_hw)
        if photograph.flag:
            flags.append(Flag(photograph.flag, path))
        shard.flags += [(image_id, flag) for flag in flags]
        doubts = [flag for flag in flags if flag.flag in DOUBTS] if self._strict else []
        if row is None:
            self._fail(shard, image_id, path, split, "BadRow", reason)
        elif doubts:
            reason = "; ".join(f"{flag.flag}: {flag.detail}" for flag in doubts)
            self._fail(shard, image_id, path, split, "Doubtful", reason)
        else:
            self._taken.add(image_id)
            shard.rows.append((image_id, path, split, row))
            self.result.images += 1
            self.result.regions += len(row.boxes)

    def _fail(
        self, shard: Shard, image_id: str, path: str, split: str, error: str, reason: str
    ) -> None:
        row = {"image_id": image_id, "path": path, "split": split, "stage": "read"}
        shard.failures.append(row | {"error": error, "reason": reason})
        self.result.failed += 1
        self.result.reasons[error] += 1
        self.result.first_failure = self.result.first_failure or f"{image_id}: {reason}"
