"""Cards in a folder, behind an address, and in a repository of the hub; how far two agree."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lands import Oracle, fact_set, make
from statsmodels.stats.inter_rater import cohens_kappa
from typer.testing import CliRunner

from sftbench.analysis.agreement import agreement, weighted_kappa
from sftbench.cli.app import app
from sftbench.common.errors import SftbenchError
from sftbench.compare.cards import agreement_of_cards, mastery_of_cards
from sftbench.mastery.canonical import canonical_settings, is_canonical, place_of
from sftbench.mastery.card import MasteryCard, with_levels
from sftbench.mastery.sampled import SampledEstimator
from sftbench.mastery.share import pull, push
from sftbench.mastery.store import HubStore, open_store

pytestmark = pytest.mark.unit

RUN = CliRunner()
FACTS = fact_set()


def card_of(tmp_path: Path, seed: int = 0) -> MasteryCard:
    return make(
        Oracle(), FACTS, tmp_path / f"{seed}.parquet", estimator=SampledEstimator(seed=seed)
    )


def pulled(store, where="there", **options):
    return pull(
        store,
        where=where,
        model_digest="0" * 32,
        facts_digest=FACTS.digest,
        **options,
    )


@pytest.mark.parametrize("kind", ["folder", "address"])
def test_a_card_comes_back_as_it_went(tmp_path, kind):
    ref = str(tmp_path / "store") if kind == "folder" else f"memory://{tmp_path.name}"
    store, card = open_store(ref), card_of(tmp_path)
    with pytest.raises(SftbenchError, match="holds no card"):
        pulled(store)
    assert push(card, store, where=ref) == (place_of(card.record), False)
    assert push(card, store, where=ref) == (place_of(card.record), True)
    back = pulled(store)
    assert back.digest == card.digest
    assert back.frame.equals(card.frame)


def test_of_several_cards_the_wanted_one_is_named(tmp_path):
    store = open_store(str(tmp_path / "store"))
    cards = [card_of(tmp_path, seed) for seed in (0, 1)]
    for card in cards:
        push(card, store, where="there")
    with pytest.raises(SftbenchError, match="holds 2 cards") as error:
        pulled(store)
    assert "--digest" in str(error.value.remedy)
    assert pulled(store, digest=cards[1].digest[:10]).digest == cards[1].digest
    with pytest.raises(SftbenchError, match="with the digest ffff"):
        pulled(store, digest="ffff")


def test_the_canonical_card_comes_before_others(tmp_path):
    store, other = open_store(str(tmp_path / "store")), card_of(tmp_path)
    found = other.frame.select("fact_id").with_columns(
        chances=pl.lit([0.5] * 21, pl.List(pl.Float64)), error=pl.lit(0.01)
    )
    record = {**other.record, "settings": canonical_settings()}
    canonical = MasteryCard(with_levels(found), record)
    assert is_canonical(canonical)
    assert not is_canonical(other)
    part = {**record, "selection": {"limit": 3}}
    assert not is_canonical(MasteryCard(canonical.frame, part))
    for card in (other, canonical):
        push(card, store, where="there")
    assert pulled(store).digest == canonical.digest
    tested = {**record, "selection": {"limit": None, "split": "test"}}
    smaller = MasteryCard(canonical.frame.head(2), tested)
    assert is_canonical(smaller)
    assert not is_canonical(
        MasteryCard(canonical.frame, {**record, "selection": {"split": "train"}})
    )
    push(smaller, store, where="there")
    assert pulled(store).digest == canonical.digest  # the one that holds the other
    elsewhere = MasteryCard(canonical.frame.head(1), {**record, "templates_digest": "7" * 32})
    push(elsewhere, store, where="there")
    with pytest.raises(SftbenchError, match=r"holds 3 cards.* by likelihood, .* by likelihood"):
        pulled(store)  # of other templates: neither holds the other


def test_a_card_that_lies_there_twice_is_one(tmp_path):
    store, card = open_store(str(tmp_path / "store")), card_of(tmp_path)
    again = MasteryCard(card.frame, {**card.record, "selection": {"limit": None, "split": "test"}})
    for one in (card, again):
        push(one, store, where="there")
    assert len(list((tmp_path / "store").rglob("*.parquet"))) == 2
    assert pulled(store).digest == pulled(store, digest=card.digest).digest == card.digest


def test_other_rows_under_the_same_name_are_refused(tmp_path):
    store, card = open_store(str(tmp_path / "store")), card_of(tmp_path)
    push(card, store, where="there")
    hits = card.frame.select("fact_id", hits=pl.col("hits").list.reverse())
    other = MasteryCard(with_levels(hits.head(3)), card.record)
    with pytest.raises(SftbenchError, match=r"holds another card.*of 3 facts \d have another"):
        push(other, store, where="there")
    (file,) = (tmp_path / "store").rglob("*.parquet")
    other.write(file)
    with pytest.raises(SftbenchError, match="another card"):
        push(card, store, where="there")
    moved = MasteryCard(card.frame, {**card.record, "model_digest": "1" * 32})
    moved.write(file)
    with pytest.raises(SftbenchError, match="not the card that its name says"):
        pulled(store)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(SftbenchError, match="not a Parquet file") as error:
        pulled(store)
    assert str(error.value.where).startswith("there: mastery/")


def test_a_card_that_names_no_digests_is_put_nowhere(tmp_path):
    card = card_of(tmp_path)
    evil = MasteryCard(card.frame, {**card.record, "model_digest": "../../evil"})
    with pytest.raises(SftbenchError, match="no digests"):
        push(evil, open_store(str(tmp_path / "store")), where="there")
    assert not (tmp_path / "store").exists()


def test_a_spoilt_neighbour_does_not_take_a_card_with_it(tmp_path):
    store, card = open_store(str(tmp_path / "store")), card_of(tmp_path)
    push(card, store, where="there")
    (file,) = (tmp_path / "store").rglob("*.parquet")
    (file.parent / "zz.parquet").write_text("junk")
    assert pulled(store).digest == card.digest


def test_what_a_file_system_refuses_is_told(tmp_path):
    (tmp_path / "store").write_text("a file")
    with pytest.raises(SftbenchError, match="cannot be read or written"):
        push(card_of(tmp_path), open_store(str(tmp_path / "store")), where="there")


def test_draws_that_ended_by_what_they_showed_are_not_halved(tmp_path):
    card = card_of(tmp_path)
    record = {**card.record, "settings": {"estimator": "adaptive"}}
    with pytest.raises(SftbenchError, match=r"shared out.*adaptive"):
        mastery_of_cards(FACTS, MasteryCard(card.frame, record))


def test_rows_that_hold_nothing_are_refused(tmp_path):
    from sftbench.mastery.card import MASTERY

    card = card_of(tmp_path)
    empty = MasteryCard(card.frame.with_columns(hits=None, draws=None), card.record)
    MASTERY.write(empty.frame, tmp_path / "e.parquet", {**card.record, "digest": empty.digest})
    with pytest.raises(SftbenchError, match="not those that this card was written with"):
        MasteryCard.read(tmp_path / "e.parquet")


def test_addresses_that_nobody_knows_are_named():
    with pytest.raises(SftbenchError, match="cannot be opened"):
        open_store("nothing://cards")


class Hub(BaseHTTPRequestHandler):
    """The few answers of the hub that pushing and pulling a small file needs."""

    files: dict[str, bytes]
    made: list[str]
    fail: bool

    def log_message(self, *args):
        """Keep quiet."""

    def _send(self, body, status=200, **headers):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _here(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def _read(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_GET(self):
        if "/tree/" in self.path:
            under = self.path.split("/tree/main/")[1].split("?")[0].replace("%2F", "/")
            found = [
                {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                for name, content in self.files.items()
                if name.startswith(under + "/")
            ]
            if found:
                self._send(found)
            else:
                self._send({"error": "not found"}, 404, X_Error_Code="EntryNotFound")
            return
        self._file()

    def do_HEAD(self):
        self._file()

    def _file(self):
        if "/resolve/main/" not in self.path:
            self._send({"error": "no such right"}, 403)
            return
        name = self.path.split("/resolve/main/")[1].replace("%2F", "/")
        content = self.files[name]
        self._send(
            content,
            ETag=f'"{abs(hash(content)):040x}"',
            X_Repo_Commit="a" * 40,
            Content_Type="application/octet-stream",
        )

    def do_POST(self):
        body = self._read()
        if self.fail:
            self._send({"error": "no such right"}, 403)
        elif self.path.endswith("/api/repos/create"):
            self.made.append(json.loads(body)["name"])
            self._send({"url": f"{self._here()}/datasets/org/cards"})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            modes = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in files
            ]
            self._send({"files": modes})
        elif "/commit/" in self.path:
            import base64

            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    value = entry["value"]
                    self.files[value["path"]] = base64.b64decode(value["content"])
            url = f"{self._here()}/datasets/org/cards/commit/{'a' * 40}"
            self._send({"commitUrl": url, "commitOid": "a" * 40, "pullRequestUrl": None})
        else:
            self._send({})


@pytest.fixture
def hub(tmp_path, monkeypatch):
    Hub.files, Hub.made, Hub.fail = {}, [], False
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    from huggingface_hub import HfApi, constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield HfApi(endpoint=f"http://127.0.0.1:{server.server_port}", token="hf_test")
    server.shutdown()
    server.server_close()


def test_a_card_goes_to_the_hub_and_comes_back(tmp_path, hub):
    store, card = HubStore("org/cards", api=hub), card_of(tmp_path)
    with pytest.raises(SftbenchError, match="holds no card"):
        pulled(store)
    assert push(card, store, where="org/cards") == (place_of(card.record), False)
    assert Hub.made == ["cards"]
    assert list(Hub.files) == [place_of(card.record)]
    assert pulled(store).digest == card.digest
    assert push(card, store, where="org/cards").there


def test_what_the_hub_refuses_is_told(tmp_path, hub):
    Hub.fail = True
    with pytest.raises(SftbenchError, match="the hub does not do it"):
        push(card_of(tmp_path), HubStore("org/cards", api=hub), where="org/cards")


def test_references_of_the_hub_are_told_from_folders(tmp_path):
    for ref in ("datasets/org/cards", "hf://datasets/org/cards@v1"):
        assert isinstance(open_store(ref), HubStore)
    assert not isinstance(open_store(str(tmp_path)), HubStore)


def test_cards_of_one_base_are_held_against_each_other(tmp_path):
    first, second = card_of(tmp_path), card_of(tmp_path, 1)
    found = agreement_of_cards(first, second)
    assert found.n == first.frame.height
    assert found.kappa is not None
    assert found.kappa > 0.9
    assert sum(map(sum, found.table)) == found.n
    other = MasteryCard(second.frame, {**second.record, "model_digest": "1" * 32})
    with pytest.raises(SftbenchError, match="differ in model"):
        agreement_of_cards(first, other)


def test_chances_cannot_be_shared_out_into_halves(tmp_path):
    card = card_of(tmp_path)
    found = card.frame.select("fact_id").with_columns(
        chances=pl.lit([0.5] * 21, pl.List(pl.Float64)), error=pl.lit(0.01)
    )
    record = {**card.record, "settings": canonical_settings()}
    estimated = MasteryCard(with_levels(found), record)
    with pytest.raises(SftbenchError, match=r"no single draws.*likelihood"):
        mastery_of_cards(FACTS, estimated)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_weighted_kappa_is_that_of_an_independent_library(pairs):
    table = np.zeros((5, 5), dtype=int)
    for a, b in pairs:
        table[a, b] += 1
    ours = weighted_kappa(table)
    if ours is not None:
        theirs = cohens_kappa(table, wt="fc", return_results=False)  # Fleiss-Cohen: quadratic
        assert ours == pytest.approx(float(theirs), abs=1e-9)


def test_bias_and_agreement_by_level():
    first = [(0, 0.0), (1, 0.1), (2, 0.3), (2, 0.4), (4, 1.0)]
    second = [(0, 0.0), (1, 0.2), (1, 0.2), (2, 0.5), (4, 0.9)]
    found = agreement(first, second)
    assert found.same == pytest.approx(0.8)
    assert (found.middle, found.middle_same) == (3, pytest.approx(2 / 3))
    assert found.bias == pytest.approx(0.0)
    assert [(one.level, one.n) for one in found.levels] == [(0, 1), (1, 1), (2, 2), (4, 1)]
    assert [one.bias for one in found.levels] == pytest.approx([0, 0.1, 0.0, -0.1])
    with pytest.raises(ValueError, match="facts"):
        agreement(first, second[:2])


def test_the_commands_show_compare_push_and_pull(tmp_path, monkeypatch):
    from sftbench.checkpoints import digest
    from sftbench.facts import reference

    card_of(tmp_path)
    card_of(tmp_path, 1)
    first, second, store = (str(tmp_path / name) for name in ("0.parquet", "1.parquet", "store"))
    FACTS.write(tmp_path / "facts.parquet")
    facts = str(tmp_path / "facts.parquet")
    shown = RUN.invoke(app, ["card", "show", first, "--facts", facts])
    assert shown.exit_code == 0, shown.output
    assert "sampled, not the canonical card" in shown.output
    found = RUN.invoke(app, ["card", "diff", first, second, "-o", str(tmp_path / "diff.json")])
    assert found.exit_code == 0, found.output
    assert "weighted kappa" in found.output
    assert json.loads((tmp_path / "diff.json").read_text())["n"] == 10
    pushed = RUN.invoke(app, ["card", "push", first, store])
    assert pushed.exit_code == 0, pushed.output
    assert "mastery/" in pushed.output
    monkeypatch.setattr(digest, "checkpoint_digest", lambda path: "0" * 32)
    output = tmp_path / "back.parquet"
    arguments = ["card", "pull", store, "--model", "lab", "--facts", facts, "-o", str(output)]
    back = RUN.invoke(app, arguments)
    assert back.exit_code == 0, back.output
    assert MasteryCard.read(output).digest == MasteryCard.read(tmp_path / "0.parquet").digest
    assert reference.resolve_facts(facts).digest == FACTS.digest
