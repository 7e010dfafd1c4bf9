"""Inside lm-eval, without a model: names, documents, prompts, empty levels, scoring."""

from __future__ import annotations

import json
import sys

import polars as pl
import pytest

from sftbench.common.errors import SftbenchError
from sftbench.facts.prompts import PROMPTS, prompt_text
from sftbench.facts.shots import reserve_shots, shots_of
from sftbench.facts.table import DOMAINS, FACTS, FactSet, fact_id_of
from sftbench.harness import choose as choosing
from sftbench.harness import data
from sftbench.harness.choose import base_digests, choose
from sftbench.harness.tasks import GROUPS, tasks_path
from sftbench.mastery.card import MasteryCard, with_levels
from sftbench.mastery.levels import LEVELS

pytestmark = pytest.mark.unit

TEST_FACTS = 12  # of each relation
HITS = {0: 0, 1: 1, 2: 4, 3: 6, 4: 8}  # level to hits of 8 draws
LEVELS_OF = {"in": (0, 1, 2, 4), "out": (0, 3)}  # the others are empty
RELATIONS = {"capital": "in", "river": "in", "anthem": "out"}


def make_facts():
    rows = []
    for relation, domain in RELATIONS.items():
        for i in range(40 + TEST_FACTS):
            question, answer = f"What is the {relation} of place {i}?", f"{relation} {i}"
            rows.append(
                {
                    "fact_id": fact_id_of(relation, f"place {i}", question, answer),
                    "relation": relation,
                    "subject": f"place {i}",
                    "question": question,
                    "answers": [answer, f"alias {relation} {i}"],
                    "domain": domain,
                    "split": "train" if i < 40 else "test",
                    "flags": [],
                }
            )
    frame = pl.DataFrame(rows, schema=dict(FACTS.columns)).sort("fact_id")
    return FactSet(reserve_shots(frame), {}, {"name": "toy"})


def make_card(facts):
    rows, seen = [], dict.fromkeys(DOMAINS, 0)
    for fact_id, domain in facts.scored().select("fact_id", "domain").iter_rows():
        level = LEVELS_OF[domain][seen[domain] % len(LEVELS_OF[domain])]
        seen[domain] += 1
        hits = [True] * HITS[level] + [False] * (8 - HITS[level])
        rows.append({"fact_id": fact_id, "hits": [hits[:4], hits[4:]]})
    record = {
        "model_digest": "b" * 32,
        "model_name": "toy base",
        "facts_digest": facts.digest,
        "facts_name": facts.name,
        "templates_digest": facts.templates_digest,
        "settings": {},
    }
    return MasteryCard(with_levels(pl.DataFrame(rows)), record)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    facts = make_facts()
    facts.write(folder / "facts.parquet")
    make_card(facts).write(folder / "card.parquet")
    metadata = {
        "mastery": str(folder / "card.parquet"),
        "facts": str(folder / "facts.parquet"),
    }
    return facts, metadata


@pytest.fixture(autouse=True)
def fresh():
    data._read.cache_clear()


def manager(metadata):
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=str(tasks_path()), include_defaults=False, metadata=metadata)


# ----------------------------------------------------------------------------- documents


def test_documents_are_the_levelled_test_facts(world):
    facts, metadata = world
    level_of = dict(make_card(facts).frame.select("fact_id", "level").iter_rows())
    seen = []
    for domain in DOMAINS:
        for level in LEVELS_OF[domain]:
            docs = data.load(domain, level, **metadata, config_source="x", dtype="y")["test"]
            ids = docs["fact_id"][:]
            assert ids == sorted(ids)
            assert {level_of[one] for one in ids} == {level}
            seen += ids
    assert sorted(seen) == facts.scored()["fact_id"].to_list()


def test_a_document_carries_aliases_and_shots(world):
    facts, metadata = world
    doc = data.load("in", 0, **metadata)["test"][0]
    row = facts.frame.filter(pl.col("fact_id") == doc["fact_id"]).row(0, named=True)
    shots = shots_of(facts)
    assert doc["question"] == row["question"]
    assert [doc["answer"], *doc["answers"][1:]] == row["answers"]
    assert doc["shot_set"] == shots.name_of(row["fact_id"], row["relation"])
    assert doc["shots"] == [vars(shot) for shot in shots(row["fact_id"], row["relation"])]


def test_files_are_read_once_and_described_in_one_line(world, monkeypatch, capsys):
    facts, metadata = world
    read = []
    monkeypatch.setattr(MasteryCard, "read", _counted(MasteryCard.read, read))
    monkeypatch.setattr(FactSet, "read", _counted(FactSet.read, read))
    for domain in DOMAINS:
        for level in LEVELS:
            data.load(domain, level, **metadata)
    assert len(read) == 2
    line = capsys.readouterr().err
    assert line == (
        f"sftbench: levels of the base toy base (bbbbbbbbbbbb) on the facts toy "
        f"({facts.digest[:12]}); test facts in level 0/1/2/3/4: in 6/6/6/0/6; out 6/0/0/6/0; "
        "empty: in 3, out 1, out 2, out 4 (the macro means are over the other levels)\n"
    )


def _counted(function, calls):
    def counted(path):
        calls.append(path)
        return function(path)

    return counted


def test_a_card_that_is_written_again_is_read_again(world, tmp_path):
    facts, metadata = world
    card = make_card(facts)
    path = tmp_path / "card.parquet"
    card.write(path)
    named = {**metadata, "mastery": str(path)}
    before = len(data.load("in", 0, **named)["test"])
    MasteryCard(card.frame.filter(pl.col("level") != 1).head(9), card.record).write(path)
    assert len(data.load("in", 0, **named)["test"]) < before


def test_a_card_for_other_facts_is_refused(world, tmp_path):
    facts, metadata = world
    card = make_card(facts)
    path = tmp_path / "card.parquet"
    MasteryCard(card.frame, {**card.record, "facts_digest": "0" * 32}).write(path)
    with pytest.raises(SftbenchError, match="levels other facts"):
        data.load("in", 0, mastery=str(path), facts=metadata["facts"])
    with pytest.raises(SftbenchError, match="facts that do not ship"):
        data.load("in", 0, mastery=str(path))


def test_a_card_without_test_facts_is_refused(world, tmp_path):
    facts, metadata = world
    card = make_card(facts)
    path = tmp_path / "card.parquet"
    MasteryCard(card.frame.clear(), card.record).write(path)
    with pytest.raises(SftbenchError, match="levels no test fact"):
        data.load("in", 0, mastery=str(path), facts=metadata["facts"])


# ----------------------------------------------------------------------------- which card


def test_a_card_must_be_named_for_an_unknown_model():
    for pretrained in (None, "organisation/model"):
        with pytest.raises(SftbenchError, match="no mastery card was named") as caught:
            choose(None, None, pretrained)
        assert "sftbench mastery" in str(caught.value)


def test_a_missing_card_and_a_wrong_type(tmp_path):
    with pytest.raises(SftbenchError, match="no such mastery card"):
        choose(str(tmp_path / "card.parquet"), None, None)
    with pytest.raises(SftbenchError, match="--metadata mastery"):
        choose(3, None, None)


def test_the_shipped_card_is_that_of_the_recorded_base(world, tmp_path, monkeypatch):
    facts, _ = world
    cards, tuned = tmp_path / "cards", tmp_path / "tuned"
    cards.mkdir()
    tuned.mkdir()
    make_card(facts).write(cards / "toy.parquet")
    monkeypatch.setattr("sftbench.mastery.bundled.FOLDERS", (cards,))
    monkeypatch.setattr("sftbench.checkpoints.digest.checkpoint_digest", lambda path: "t" * 32)
    with pytest.raises(SftbenchError, match=r"none ships for .*base tttttttttttt"):
        choose(None, None, str(tuned))
    (tuned / "sftbench_recipe.json").write_text(json.dumps({"base_digest": "b" * 32}))
    assert base_digests(str(tuned)) == ["b" * 32, "t" * 32]
    assert choose(None, None, str(tuned)).card == (cards / "toy.parquet").resolve()
    assert choose("toy", None, None).card == (cards / "toy.parquet").resolve()


def test_the_names_of_records_are_those_that_are_written():
    from sftbench.checkpoints.writer import RECORD
    from sftbench.recipes.record import RECORD_FILE

    assert {RECORD, RECORD_FILE} == set(choosing.RECORDS)


# ----------------------------------------------------------------------------- in lm-eval


@pytest.mark.parametrize(("name", "shown"), [("fewshot", 4), ("paper", 0)])
def test_lm_eval_builds_exactly_our_prompt(world, name, shown):
    facts, metadata = world
    prompt = PROMPTS[name]
    loaded = manager(metadata).load([GROUPS[name]])
    shots = shots_of(facts)
    compared = 0
    for task in loaded["tasks"].values():
        assert (task.config.num_fewshot or 0) == prompt.shots == shown
        kwargs = task.config.generation_kwargs
        assert kwargs == {
            "until": list(prompt.stop),
            "do_sample": False,
            "repetition_penalty": 1.0,
            "max_gen_toks": prompt.max_new_tokens,
        }
        for doc in task.eval_docs:
            ours = prompt_text(prompt, doc["question"], shots(doc["fact_id"], doc["relation"]))
            assert task.fewshot_context(doc, prompt.shots) == ours
            assert task.doc_to_target(doc) == doc["answer"]
            assert task.config.target_delimiter == prompt.delimiter
            compared += 1
    assert compared == len(RELATIONS) * TEST_FACTS


def test_num_fewshot_may_ask_for_what_a_set_holds(world):
    _, metadata = world
    (task,) = manager(metadata).load(["sft_knowledge_in_level0"])["tasks"].values()
    doc = task.eval_docs[0]
    assert task.fewshot_context(doc, 0) == f"Question: {doc['question']}\nAnswer:"
    assert task.fewshot_context(doc, 2).count("Question: ") == 3
    assert task.fewshot_context(doc, 8).count("Question: ") == 1 + len(doc["shots"])
    with pytest.raises(SftbenchError, match="--num_fewshot"):
        task.fewshot_context(doc, 9)


def test_shots_are_turns_of_a_chat(world):
    _, metadata = world
    (task,) = manager(metadata).load(["sft_knowledge_in_level0"])["tasks"].values()
    doc = task.eval_docs[0]

    def chat(messages, **_):
        return messages

    turns = task.fewshot_context(
        doc, 2, apply_chat_template=True, fewshot_as_multiturn=True, chat_template=chat
    )
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * 2 + ["user"]
    assert turns[1]["content"] == doc["shots"][0]["answer"]


def knowing_model(right):
    """Return an lm-eval model that knows the facts whose question `right` accepts."""
    from lm_eval.api.model import LM

    class Knowing(LM):
        asked = 0

        def generate_until(self, requests):
            self.asked += len(requests)
            return [
                f" {one.doc['answers'][1]}" if right(one.doc) else " no idea" for one in requests
            ]

        def loglikelihood(self, requests):
            raise AssertionError("nothing here may call this")

        loglikelihood_rolling = loglikelihood

    return Knowing()


def evaluate(metadata, tasks, model, **options):
    from lm_eval import simple_evaluate

    return simple_evaluate(
        model=model,
        tasks=tasks,
        task_manager=manager(metadata),
        bootstrap_iters=0,
        **options,
    )


@pytest.mark.parametrize("group", GROUPS.values())
def test_a_group_with_empty_levels_runs(world, group):
    _, metadata = world
    model = knowing_model(lambda doc: doc["relation"] in ("capital", "anthem"))
    results = evaluate(metadata, [group], model, log_samples=True)
    assert model.asked == len(RELATIONS) * TEST_FACTS
    for domain in DOMAINS:
        accuracies = []
        for level in LEVELS:
            name = f"{group}_{domain}_level{level}"
            full = level in LEVELS_OF[domain]
            n = 6 if full else 0
            assert results["n-samples"][name] == {"original": n, "effective": n}
            assert len(results["samples"][name]) == n
            assert ("acc,none" in results["results"][name]) == full
            if full:
                accuracies.append(results["results"][name]["acc,none"])
        macro = results["groups"][f"{group}_{domain}"]
        assert macro["acc,none"] == pytest.approx(sum(accuracies) / len(accuracies))
        assert macro["sample_len"] == 6 * len(LEVELS_OF[domain])
    assert results["groups"][f"{group}_out"]["acc,none"] == 1.0


@pytest.mark.parametrize("options", [{"limit": 2}, {"limit": 0.4}, {"write_out": True}])
def test_options_of_lm_eval(world, options):
    _, metadata = world
    model = knowing_model(lambda _: True)
    results = evaluate(metadata, ["sft_knowledge_in"], model, **options)
    limit = options.get("limit", 6)
    each = limit if limit >= 1 else 3  # 0.4 of 6, rounded up
    assert model.asked == each * 4
    assert results["groups"]["sft_knowledge_in"]["acc,none"] == 1.0


def test_an_empty_level_alone_asks_nothing(world):
    _, metadata = world
    model = knowing_model(lambda _: True)
    for options in ({}, {"predict_only": True}):
        results = evaluate(metadata, ["sft_knowledge_in_level3"], model, **options)
        assert results["n-samples"]["sft_knowledge_in_level3"]["effective"] == 0
    assert model.asked == 0


def test_a_fact_set_without_shots_needs_zero_shots(world, tmp_path):
    facts, _ = world
    bare = FactSet(facts.scored(), {}, {"name": "bare"})
    bare.write(tmp_path / "facts.parquet")
    make_card(bare).write(tmp_path / "card.parquet")
    metadata = {
        "mastery": str(tmp_path / "card.parquet"), "facts": str(tmp_path / "facts.parquet")
    }  # fmt: skip
    model = knowing_model(lambda _: True)
    with pytest.raises(SftbenchError, match="no fact is reserved"):
        evaluate(metadata, ["sft_knowledge_in"], model)
    results = evaluate(metadata, ["sft_knowledge_in"], model, num_fewshot=0)
    assert results["groups"]["sft_knowledge_in"]["acc,none"] == 1.0


def test_scoring_is_that_of_matching():
    from sftbench.harness.scoring import strict_paper, words

    doc = {"answers": ["São Paulo"]}
    assert words(doc, [" sao paulo."]) == {"acc": 1.0}
    assert words(doc, [""]) == {"acc": 0.0}
    assert strict_paper(doc, [" sao paulo."]) == {"acc": 0.0}
    assert strict_paper(doc, ["\nit is São Paulo"]) == {"acc": 1.0}


def test_one_task_per_level_and_every_name_is_ours():
    found = manager({})
    expected = {
        f"{group}_{domain}_level{level}"
        for group in GROUPS.values()
        for domain in DOMAINS
        for level in LEVELS
    }
    assert set(found.all_subtasks) == expected
    assert set(found.all_groups) == {
        name for group in GROUPS.values() for name in (group, f"{group}_in", f"{group}_out")
    }
    assert found.all_tags == []


def test_plain_lm_eval_ends_with_our_message(world, monkeypatch, capsys):
    _, metadata = world
    others = []
    monkeypatch.setattr(sys, "excepthook", lambda *caught: others.append(caught))
    manager(metadata).load(["sft_knowledge_in_level0"])
    capsys.readouterr()
    error = SftbenchError("no card", remedy="Name one.")
    with pytest.raises(SystemExit) as stopped:
        sys.excepthook(SftbenchError, error, None)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "Error: no card\nName one.\n"
    assert others == []
    sys.excepthook(KeyError, KeyError("x"), None)
    assert len(others) == 1
