"""Metadata that do not agree with the repository are refused by the right error, and never replaced by a guess."""

from __future__ import annotations

import gc
import http.server
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml

import fsvc
import fsvc.mlflow
from fsvc.errors import Corruption, InvalidUse, NotFound, TrackingError, UnknownFormat
from fsvc.workspace import Workspace

Edit = Callable[[dict[str, Any]], None]


def edit_file(directory: Path, edit: Edit) -> None:
    """Change the MLmodel file of a model on disk."""
    file = directory / "MLmodel"
    content = yaml.safe_load(file.read_text())
    edit(content["metadata"])
    file.write_text(yaml.safe_dump(content))


@pytest.fixture
def place(sqlite: str, snap: fsvc.Snapshot, log: Any) -> Path:
    """Where the files of a logged model lie: the artifact store itself."""
    info = log(snap.select(["age", "spend"]))
    return Path(mlflow.artifacts.download_artifacts(info.model_uri))


def setting(part: str, value: Any) -> Edit:
    def edit(metadata: dict[str, Any]) -> None:
        metadata["fsvc"]["train"][part] = value

    return edit


def dropping(part: str) -> Edit:
    def edit(metadata: dict[str, Any]) -> None:
        del metadata["fsvc"]["train"][part]

    return edit


def both(value: str) -> Edit:
    """Another commit, in the block and in the plain key alike."""

    def edit(metadata: dict[str, Any]) -> None:
        metadata["feature_store_version"] = metadata["fsvc"]["train"]["commit"] = value

    return edit


def plainly(key: str, value: Any) -> Edit:
    return lambda metadata: metadata.update({key: value})


def block(key: str, value: Any) -> Edit:
    return lambda metadata: metadata["fsvc"].update({key: value})


@pytest.mark.parametrize(
    ("edit", "error", "sentence"),
    [
        (setting("commit", "0" * 64), Corruption, "contradict themselves"),
        (both("0" * 64), Corruption, "was pinned when the model"),
        (both("v2"), Corruption, "its 'commit' is 'v2'"),
        (setting("snapshot", "0" * 64), Corruption, "snapshot 0+ is not that of commit"),
        (setting("version", 3), Corruption, "version 3 is not that of commit"),
        (setting("version", "2"), Corruption, "its 'version'"),
        (setting("version", True), Corruption, "its 'version'"),
        (setting("rows", 7), Corruption, "they say 7 rows, the snapshot has 200"),
        (setting("rows", -1), Corruption, "its 'rows'"),
        (setting("columns", ["age", "income"]), Corruption, "income"),
        (setting("columns", "age"), Corruption, "its 'columns'"),
        (setting("feature_set", "orders"), Corruption, "contradict themselves"),
        (setting("repository", str(uuid.UUID(int=7))), NotFound, "00000000-0000-0000-0000-000000000007"),
        (setting("repository", "/home/ada"), Corruption, "its 'repository'"),
        (setting("ref", 5), Corruption, "its 'ref'"),
        *((dropping(part), Corruption, part) for part in ("repository", "feature_set", "commit", "snapshot")),
        (dropping("rows"), Corruption, "its 'rows' is missing"),
        (plainly("feature_store_name", "orders"), Corruption, "feature_store_name is 'orders'"),
        (plainly("feature_store_version", "v3"), Corruption, "feature_store_version is 'v3'"),
        (plainly("feature_store_version", None), Corruption, "feature_store_version is missing"),
        (plainly("fsvc", "nothing"), Corruption, "no object"),
        (block("schema_version", 2), UnknownFormat, "schema_version 2, this fsvc knows 1"),
        (block("schema_version", "1"), Corruption, "their schema_version is '1'"),
        (block("schema_version", 0), Corruption, "their schema_version"),
        (block("inputs", None), Corruption, "'inputs' is missing"),
        (block("inputs", [{"role": "train"}]), Corruption, "an input's role is 'train'"),
        (block("train", []), Corruption, "not a reference"),
        (block("pin", "NO TOKEN"), Corruption, "'pin' is no token"),
    ],
)
def test_edited_metadata(
    edit: Edit, error: type[Exception], sentence: str, place: Path, repo: fsvc.Repository
) -> None:
    edit_file(place, edit)
    with pytest.raises(fsvc.FsvcError, match=sentence) as caught:
        fsvc.mlflow.restore(place)
    assert type(caught.value) is error
    assert repo.verify().ok


def test_a_commit_that_the_repository_has_but_was_not_pinned(place: Path, repo: fsvc.Repository) -> None:
    """Everything agrees, but it is another snapshot than the model was logged with: only the pin tells."""
    other = repo.snapshot("customer_features@v3")

    def edit(metadata: dict[str, Any]) -> None:
        metadata["feature_store_version"] = other.commit.id
        metadata["fsvc"]["train"] = other.reference.document()

    edit_file(place, edit)
    with pytest.raises(Corruption, match="was pinned when the model was logged"):
        fsvc.mlflow.restore(place)
    found = fsvc.mlflow.lineage(place)
    assert found.data[0].commit is None
    assert "was pinned" in str(found.data[0].problem)


def test_a_file_that_was_cut_off(place: Path, snap: fsvc.Snapshot) -> None:
    """Wherever it was cut: an error, or, where only what comes after the metadata is lost, the same data."""
    file = place / "MLmodel"
    data = file.read_bytes()
    refused = 0
    for kept in range(0, len(data), 13):
        file.write_bytes(data[:kept])
        try:
            restored = fsvc.mlflow.restore(place)
        except (Corruption, NotFound):
            refused += 1
        else:
            assert restored == snap.select(["age", "spend"])
            assert kept > data.index(snap.id.encode())
    assert refused > 20


@pytest.mark.parametrize(
    "text", ["- a\n- b\n", "flavors: [", "flavors: 5\n", "a: &a [*a]\n", "!!python/none x", "\x00"]
)
def test_a_file_that_is_something_else(text: str, place: Path) -> None:
    (place / "MLmodel").write_text(text)
    with pytest.raises(Corruption, match="was cut off or edited"):
        fsvc.mlflow.restore(place)


@pytest.mark.parametrize("last", ["metadata: {fsvc: {schema_version: *a11}}", "metadata: {fsvc: *a11}"])
def test_a_few_lines_that_stand_for_billions(last: str, place: Path) -> None:
    """Aliases of aliases: whoever put such a value into a message would write for years."""
    lines = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 10)}]" for n in range(12)]
    (place / "MLmodel").write_text("\n".join([*lines, "flavors: {python_function: {}}", last]))
    for look in (fsvc.mlflow.restore, fsvc.mlflow.lineage, fsvc.mlflow.verify):
        with pytest.raises(Corruption, match="stands for more than 1,000,000 values"):
            look(place)


def test_the_commit_is_missing(sqlite: str, snap: fsvc.Snapshot, log: Any, tmp_path: Path) -> None:
    """Another copy of the repository has the uuid, but not the commit: never its newest data instead."""
    import shutil

    early = tmp_path / "early"
    shutil.copytree(snap.store.storage.location, early)
    repo = fsvc.open(snap.store.storage.location)
    late = repo.commit({"customer_features": snap.to_arrow().slice(5)}, key="customer", message="late")
    info = log(late.snapshot("customer_features"))
    with pytest.raises(NotFound, match=f"commit {late.id}, which .* stands on, is not in .*early"):
        fsvc.mlflow.restore(info.model_uri, repository=early)
    assert fsvc.mlflow.lineage(info.model_uri, repository=early).data[0].commit is None


class TestFindingTheRepository:
    """By uuid: given, open, around here, or where it was last seen."""

    @pytest.fixture
    def closed(
        self, tmp_path: Path, table: Any, sqlite: str, log: Any
    ) -> tuple[str, Path, fsvc.Snapshot | str]:
        """A model whose repository is no longer open in this process, and where it lies."""
        made = Workspace.init(tmp_path / "project").repository
        where = Path(made.location)
        made.commit({"features": table(1)}, key="customer", message="one")
        info = log(made.snapshot("features"))
        project = made.project
        del made
        gc.collect()
        return info.model_uri, where, project

    def test_given(self, closed: Any, tmp_path: Path) -> None:
        uri, where, project = closed
        assert fsvc.mlflow.restore(uri, repository=where).store.info.project == project
        other = fsvc.init(tmp_path / "other")
        with pytest.raises(
            NotFound, match=f"stands on repository {project}; the one at .*other is {other.project}"
        ):
            fsvc.mlflow.restore(uri, repository=other)

    def test_last_seen(self, closed: Any) -> None:
        uri, where, project = closed
        found = fsvc.mlflow.restore(uri)
        assert (found.store.info.project, found.store.storage.location) == (project, str(where))

    def test_around_here(self, closed: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        uri, _, project = closed
        moved = tmp_path / "moved"
        (tmp_path / "project").rename(moved)
        (moved / "deep").mkdir()
        monkeypatch.chdir(moved / "deep")
        assert fsvc.mlflow.restore(uri).store.info.project == project

    def test_nowhere(self, closed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        uri, where, project = closed
        (tmp_path / "project").rename(tmp_path / "moved")
        with pytest.raises(NotFound, match=f"stands on repository {project}, which is not here") as caught:
            fsvc.mlflow.restore(uri)
        assert f"it was last seen at {where} on 2" in str(caught.value.hint)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another machine"))
        with pytest.raises(NotFound, match=project) as caught:
            fsvc.mlflow.restore(uri)
        assert "never used on this machine" in str(caught.value.hint)
        lineage = fsvc.mlflow.lineage(uri)
        assert lineage.data[0].reference.repository == project
        assert "which is not here" in str(lineage.data[0].problem)

    def test_another_repository_at_the_place(self, closed: Any, tmp_path: Path) -> None:
        uri, _, project = closed
        (tmp_path / "project").rename(tmp_path / "moved")
        Workspace.init(tmp_path / "project")
        with pytest.raises(NotFound, match=f"{project}, which is not here"):
            fsvc.mlflow.restore(uri)

    @pytest.mark.parametrize("notes", ["", "[]", "{", '{"a": 5}', "[" * 100_000])
    def test_notes_that_cannot_be_read(self, notes: str, closed: Any, tmp_path: Path) -> None:
        uri, where, _ = closed
        (tmp_path / "state" / "fsvc" / "repositories.json").write_text(notes)
        with pytest.raises(NotFound, match="which is not here"):
            fsvc.mlflow.restore(uri)
        fsvc.mlflow.restore(uri, repository=where)
        assert str(where) in (tmp_path / "state" / "fsvc" / "repositories.json").read_text()


class TestPlainKeys:
    """Models that somebody logged with name and commit only."""

    def model(self, metadata: dict[str, Any]) -> str:
        import small_flavor

        return str(small_flavor.log_model("fitted", "m", metadata).model_uri)

    def test_they_are_looked_up(self, sqlite: str, repo: fsvc.Repository, snap: fsvc.Snapshot) -> None:
        for version in (snap.commit.id, snap.commit.id[:12], "v2"):
            uri = self.model({"feature_store_name": snap.name, "feature_store_version": version})
            assert fsvc.mlflow.restore(uri, repository=repo) == snap
        with pytest.raises(NotFound, match="but not its repository"):
            fsvc.mlflow.restore(uri)

    @pytest.mark.parametrize(
        ("name", "version"), [("orders", "v1"), ("customer_features", "v9"), ("customer_features", "f" * 64)]
    )
    def test_what_is_not_there(self, name: str, version: str, sqlite: str, repo: fsvc.Repository) -> None:
        uri = self.model({"feature_store_name": name, "feature_store_version": version})
        with pytest.raises(NotFound, match=f"name {name}@{version}, but"):
            fsvc.mlflow.restore(uri, repository=repo)


SECRETS = "ada:s3cret"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")


@pytest.fixture
def refusing() -> Iterator[str]:
    """The address of a server that knows nobody."""

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"error_code": "UNAUTHENTICATED", "message": "who are you, %s?"}' % SECRETS.encode()
            self.send_response(401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def everything(repo: fsvc.Repository, snap: fsvc.Snapshot, log: Any) -> list[Callable[[], object]]:
    return [
        lambda: fsvc.mlflow.restore("models:/churn/1"),
        lambda: fsvc.mlflow.restore("models:/churn@champion"),
        lambda: fsvc.mlflow.lineage(f"models:/m-{'1' * 32}"),
        lambda: fsvc.mlflow.restore(f"runs:/{'1' * 32}/model"),
        lambda: fsvc.mlflow.sync_pins(repo),
        lambda: log(snap),
    ]


def test_a_server_that_does_not_answer(
    impatient: None, repo: fsvc.Repository, snap: fsvc.Snapshot, log: Any
) -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        mlflow.set_tracking_uri(f"http://{SECRETS}@{place}")
        for ask in everything(repo, snap, log):
            with pytest.raises(TrackingError, match=f"MLflow at http://{place} does not answer") as caught:
                ask()
            assert "s3cret" not in str(caught.value)
            assert "s3cret" not in str(caught.value.hint)
    assert repo.pins() == []
    assert repo.verify().ok


def test_a_server_that_refuses(
    impatient: None, refusing: str, repo: fsvc.Repository, snap: fsvc.Snapshot, log: Any
) -> None:
    mlflow.set_tracking_uri(f"http://{SECRETS}@{refusing}")
    for ask in everything(repo, snap, log):
        with pytest.raises(TrackingError, match=f"MLflow at http://{refusing} refused") as caught:
            ask()
        assert "s3cret" not in str(caught.value)
        assert "MLFLOW_TRACKING_PASSWORD" in str(caught.value.hint)
    assert repo.pins() == []


def test_uris_that_are_no_text(sqlite: str) -> None:
    for value in ("models:/a/b/c/1", "models:/%00/1", "dbfs:/x"):
        with pytest.raises((NotFound, InvalidUse, TrackingError)):
            fsvc.mlflow.restore(value)
