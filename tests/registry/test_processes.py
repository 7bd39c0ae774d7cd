"""Several processes and threads at once, and processes that are killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

from model_folders import fake_model
from palate.errors import ArtifactError, UsageError
from palate.registry import add, collect, find, moves, promote, resolve, versions
from palate.store import Store, open_store
from palate.store.registry_tables import Alias

WORKER = """
import sys
from pathlib import Path
from palate.registry import add, promote
from palate.store import open_store
url, folder, number = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
store = open_store(url)
added = add(store, folder / f"m{number}", models_dir=folder / "models", who=number)
print(added.version.name, flush=True)
for turn in range(6):
    promote(store, added.version.name, reason=f"{number}.{turn}", who=number)
"""


def worker(url: str, folder: Path, number: int, code: str = WORKER) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, url, str(folder), str(number)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_that_add_and_promote_at_once(store_address: str, tmp_path: Path) -> None:
    for number in range(3):
        fake_model(tmp_path / f"m{number}", number)
    open_store(store_address).close()
    processes = [worker(store_address, tmp_path, number) for number in range(3)]
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    store = open_store(store_address)
    assert sorted(version.name for version in versions(store)) == ["v1.0", "v1.1", "v1.2"]
    check_history(store)
    store.close()


def check_history(store: Store) -> None:
    """Every move begins where the one before ended, and the alias is where the last one went."""
    for alias in ("production", "previous"):
        places: list[str | None] = [None]
        for move in moves(store):
            if move.alias == alias:
                assert move.before == places[-1]
                assert move.version != move.before
                places.append(move.version)
        assert find(store, alias).name == places[-1]
    production = [move for move in moves(store) if move.alias == "production"]
    assert find(store, "previous").name == production[-1].before


def test_threads_that_promote_at_once(store: Store, tmp_path: Path) -> None:
    names = []
    for number in range(4):
        source = fake_model(tmp_path / f"m{number}", number)
        names.append(add(store, source, models_dir=tmp_path / "models", who="ann").version.name)

    def work(name: str) -> None:
        for turn in range(5):
            promote(store, name, reason=str(turn), who=name)

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_history(store)


KILLED_IN_COPY = """
import shutil, sys, time
from pathlib import Path
from palate.registry import add
from palate.store import open_store
def slow(source, target, copy=shutil.copyfile):
    copy(source, target)
    print("copied", flush=True)
    time.sleep(60)
shutil.copyfile = slow
url, folder = sys.argv[1], Path(sys.argv[2])
add(open_store(url), folder / "m0", models_dir=folder / "models", who="killed", name="v1.0")
"""


def test_a_process_that_is_killed_while_it_copies_leaves_no_version(store_address: str, tmp_path: Path) -> None:
    source = fake_model(tmp_path / "m0")
    process = worker(store_address, tmp_path, 0, KILLED_IN_COPY)
    assert process.stdout is not None
    assert process.stdout.readline() == "copied\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    store = open_store(store_address)
    assert versions(store) == []
    added = add(store, source, models_dir=tmp_path / "models", who="ann", name="v1.0").version
    assert [path.name for path in (tmp_path / "models").iterdir() if path.name != ".lock"] == [added.folder.name]
    assert resolve(store, "v1.0").folder == added.folder
    store.close()


MOVER = """
import sys, itertools
from pathlib import Path
from palate.registry import promote
from palate.store import open_store
store = open_store(sys.argv[1])
for turn in itertools.count():
    promote(store, ("v1.0", "v1.1")[turn % 2], reason=str(turn), who="mover")
    print(turn, flush=True)
"""


def test_a_killed_move_leaves_exactly_one_production(store_address: str, tmp_path: Path) -> None:
    store = open_store(store_address)
    for number in range(2):
        add(store, fake_model(tmp_path / f"m{number}", number), models_dir=tmp_path / "models", who="ann")
    for pause in (0.0, 0.004, 0.009):
        process = worker(store_address, tmp_path, 0, MOVER)
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        check_history(store)
        assert store.read(lambda session: session.query(Alias).count()) == 2
    store.close()


def test_garbage_collection_beside_promotions_never_takes_what_an_alias_names(store: Store, tmp_path: Path) -> None:
    models = tmp_path / "models"
    sources = [fake_model(tmp_path / f"m{number}", number) for number in range(8)]
    ended = threading.Event()

    def collects() -> None:
        while not ended.wait(0.05):
            collect(store, models, older_than=timedelta(0))

    collector = threading.Thread(target=collects)
    collector.start()
    promoted = []
    try:
        for source in sources:
            try:
                version = add(store, source, models_dir=models, who="ann").version
                promote(store, version.name, alias="candidate", reason="r", who="ann")
            except (UsageError, ArtifactError):  # collected between the two, or while its files were checked
                continue
            promoted.append((version.name, version.folder))
            assert resolve(store, "candidate").folder == version.folder
    finally:
        ended.set()
        collector.join()
    assert promoted
    collect(store, models, older_than=timedelta(0))
    assert {version.name: version.folder for version in versions(store)} == dict(promoted)
    folders = {path for path in models.iterdir() if path.is_dir()}
    assert folders == {folder for _, folder in promoted}
