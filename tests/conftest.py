"""What tests share: one local Ray cluster, real photographs, a small detector of our own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from jaxtyping import install_import_hook

# How long an example takes says nothing on a machine that others use as well.
hypothesis.settings.register_profile("vlray", deadline=None)
hypothesis.settings.load_profile("vlray")

# Arrays are checked against their annotated types and shapes while the tests run. RegionBatch is
# left out: detectors of users' own may put anything into one, and tests do.
install_import_hook(["vlray.regions.schema", "vlray.images"], "beartype.beartype")

# Before anything imports ray: no dashboard, no statistics, no token file in the home folder.
os.environ.update(
    RAY_AUTH_MODE="disabled",
    RAY_USAGE_STATS_ENABLED="0",
    RAY_BACKEND_LOG_LEVEL="fatal",
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
    RAY_DATA_DISABLE_PROGRESS_BARS="1",
)
for name in [name for name in os.environ if name.startswith(("VLRAY_", "AWS_"))]:
    del os.environ[name]
# Nobody's real credentials; here, so that Ray's workers have them too.
os.environ.update(
    AWS_ACCESS_KEY_ID="testing",
    AWS_SECRET_ACCESS_KEY="testing",
    AWS_DEFAULT_REGION="us-east-1",
    AWS_EC2_METADATA_DISABLED="true",
)

TESTS = Path(__file__).parent
SHARED = TESTS.parents[1] / "shared"
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kill-rounds", type=int, default=2, help="rounds of each kind of kill test (default 2)"
    )
    parser.addoption("--thorough", action="store_true", help="also the tests marked thorough")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--thorough"):
        return
    reason = "takes half a minute and tries together what others try apart: --thorough runs it"
    for item in items:
        if item.get_closest_marker("thorough"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's own settings.yaml out of the tests, and the tests out of it."""
    os.environ["VLRAY_HOME"] = str(tmp_path_factory.mktemp("home"))
    yield
    del os.environ["VLRAY_HOME"]


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """One local cluster for the whole session; gives its address.

    Four logical CPUs, however many there are: stages wait for each other otherwise.
    """
    import ray

    folder = tempfile.mkdtemp(prefix="vr", dir="/tmp")  # sockets want a short path
    context = ray.init(
        "local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=400 * 2**20,
        _temp_dir=folder,
        log_to_driver=True,
        logging_level="ERROR",
    )
    yield context.address_info["gcs_address"]
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Published features, photographs and annotations, which not every checkout has beside it."""
    if not SHARED.is_dir():
        pytest.skip(f"no {SHARED}: the published fixtures are not beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five photographs that scikit-image's wheel brings."""
    import skimage

    folder = tmp_path_factory.mktemp("photos")
    for name in PHOTOS:
        shutil.copy(Path(skimage.__file__).parent / "data" / name, folder)
    return folder


@pytest.fixture(scope="session")
def many_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty crops of them, of three sizes, and two files that are no images."""
    import numpy as np
    import skimage
    from PIL import Image

    folder = tmp_path_factory.mktemp("many")
    data = Path(skimage.__file__).parent / "data"
    sources = [Image.open(data / name).convert("RGB") for name in PHOTOS]
    rng = np.random.default_rng(0)
    for index in range(60):
        source = sources[index % len(sources)]
        width, height = [(160, 120), (120, 160), (140, 140)][index % 3]
        left = int(rng.integers(0, source.width - width))
        top = int(rng.integers(0, source.height - height))
        crop = source.crop((left, top, left + width, top + height))
        crop.save(folder / f"crop {index:03d}.jpg", quality=90)
    (folder / "crop 007b.jpg").write_text("no image at all")
    whole = (folder / "crop 030.jpg").read_bytes()
    (folder / "crop 030b.jpg").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An empty disk of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="session")
def grid_detector() -> str:
    """A detector in a file of its own, as a user would write it: quick, and no weights."""
    return f"{TESTS / 'stream' / 'grid_detector.py'}:GridDetector"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """An S3 server in a process of its own; gives its URL, which AWS_ENDPOINT_URL has as well.

    Ray's workers may be older than that variable: give them ``?endpoint_override=URL``.
    """
    program = (
        "import sys; from moto.server import ThreadedMotoServer; "
        "server = ThreadedMotoServer('127.0.0.1', 0); server.start(); "
        "print('http://%s:%d' % server.get_host_and_port(), flush=True); sys.stdin.read()"
    )
    # A thread would not do: pyarrow may hold the interpreter's lock while it waits for an answer.
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = next(line.strip() for line in process.stdout if line.startswith("http"))
        os.environ["AWS_ENDPOINT_URL"] = url
        yield url
        del os.environ["AWS_ENDPOINT_URL"]


@pytest.fixture
def bucket(s3_server: str) -> str:
    """The URI of an empty folder in a bucket of its own."""
    import boto3

    name = f"vlray-{uuid.uuid4()}"
    boto3.client("s3", endpoint_url=s3_server).create_bucket(Bucket=name)
    return f"s3://{name}/some/folder"
