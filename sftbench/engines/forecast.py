"""The chance that a completion states an answer: paths around it, and the turns not taken.

A completion is followed along a path that never begins an answer: at every step the first tokens
of the answers are left out of the draw, and their probability is kept. What the path passes by is
thus counted in full, where a sampled completion says only whether it went there. With g(t) the
probability of an answer's first token at step t and r that of the rest of the answer and a word's
end after it, the completion states the answer with probability

    1 - (1 - g(0) r) (1 - g(1) r) ... (1 - g(31) r)

averaged over paths, where g(t) r sums over the first tokens of all answers. r is read, for each
first token, at one turn of each path, drawn in proportion to the probability of getting there.
A path is followed for some tokens only; beyond
them it is taken to pass an answer as often as in the second half of what was seen (measured:
docs/mastery.md). A path that states an answer in another spelling counts as one that states it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sftbench.engines.forest import Forest, Node
from sftbench.engines.passed import Path, chance_of, share_rests, turns_of, worth_reading
from sftbench.engines.sampling import draw, uniforms

if TYPE_CHECKING:
    import torch

    from sftbench.engines.protocol import Asked, Sampling
    from sftbench.engines.tokens import Codec

AT_ONCE = 48
"""Most nodes of a row whose logits are held at once when answers are read to their ends."""

ALIKE = 8
"""Rows whose ends of answers are read together: places that a row leaves empty are read, too."""

LEAVES_OUT = -1e30

Ids = tuple[int, ...]


class _Rest(NamedTuple):
    """Answers that begin with one token, to be read on after it.

    Attributes:
        path: where.
        first: the token's place among the first tokens.
        turn: number of the node that it follows.
        spelled: the answers that begin with it.
    """

    path: Path
    first: int
    turn: int
    spelled: list[Ids]

    @property
    def begun(self) -> list[Ids]:
        """Every beginning of these answers, shorter ones first; each is a node."""
        found = {ids[:end] for ids in self.spelled for end in range(1, len(ids) + 1)}
        return sorted(found, key=lambda ids: (len(ids), ids))


class _Answers(NamedTuple):
    """A fact's answers as tokens, none beginning with another, and their first tokens."""

    spelled: list[Ids]
    firsts: list[int]


@dataclass(frozen=True)
class Forecasts:
    """A model with what turns its tokens into text and its words apart.

    Attributes:
        model: a transformers causal language model that reads trees (see `require_trees`).
        codec: its tokenizer.
        end_ids: ids that end a completion.
        ends_word: bool ``[vocabulary]``: tokens after which the word before them has ended.
    """

    model: Any
    codec: Codec
    end_ids: frozenset[int]
    ends_word: torch.Tensor

    def run(self, batch: Sequence[Asked], how: Sampling, looked: int) -> list[list[list[float]]]:
        """Return the chance of a statement, ``[facts][prompts][paths]``.

        Args:
            batch: facts that are read together.
            how: temperature and longest completion.
            looked: tokens that a path is followed for.
        """
        import torch

        looked = min(looked, how.max_new_tokens)
        answers = [self._answers(asked) for asked in batch]
        with torch.inference_mode():
            forest, tips, logits = self._read_prompts(batch)
            paths = [
                Path(row, prompt, [tips[row][prompt]])
                for row, asked in enumerate(batch)
                for prompt, seeds in enumerate(asked.seeds)
                for _ in seeds
            ]
            first = torch.stack([logits[path.row][path.prompt] for path in paths])
            del logits
            self._walk(batch, answers, forest, paths, first, how, looked)
            del first
            self._read_rests(batch, answers, forest, paths, how)
        chances: list[list[list[float]]] = [[[] for _ in asked.prompts] for asked in batch]
        for path in paths:
            # An answer that begins at the last token cannot end, unless it is that long.
            shortest = min(map(len, answers[path.row].spelled), default=1)
            chance = chance_of(path, how.max_new_tokens - shortest + 1)
            chances[path.row][path.prompt].append(chance)
        return chances

    def _answers(self, asked: Asked) -> _Answers:
        spelled = {tuple(self.codec.encode_pair("x", f" {form}")[1]) for form in asked.answers}
        kept: list[Ids] = []
        for ids in sorted(spelled, key=lambda ids: (len(ids), ids)):
            if ids and not any(self._is_in(short, ids, asked.whole_words) for short in kept):
                kept.append(ids)
        return _Answers(kept, sorted({ids[0] for ids in kept}))

    def _is_in(self, short: Ids, ids: Ids, whole_words: bool) -> bool:
        """Return whether a spelling states another one on its way: "New York City" "New York"."""
        if ids[: len(short)] != short:
            return False
        # "euros" does not state "euro": the word goes on.
        return len(ids) == len(short) or not whole_words or bool(self.ends_word[ids[len(short)]])

    def _read_prompts(
        self, batch: Sequence[Asked]
    ) -> tuple[Forest, list[list[int]], list[list[torch.Tensor]]]:
        """Read all prompts; return the forest, each prompt's last node, and its logits."""
        prompts = [
            [tuple(map(int, self.codec.encode(p))) for p in asked.prompts] for asked in batch
        ]
        inner = [{ids[:end] for ids in own for end in range(1, len(ids))} for own in prompts]
        shared = sorted(set.intersection(*inner), key=len)
        forest = Forest(self.model, 1 if shared else len(batch))
        number: dict[Ids, int] = {ids: place for place, ids in enumerate(shared)}
        if shared:
            forest.extend([[(number.get(ids[:-1], -1), ids[-1]) for ids in shared]])
            forest.spread(len(batch))
        # A prompt may begin another one: each has a last node of its own, at the end of its row.
        lines = [sorted(all_ - number.keys(), key=len) for all_ in inner]
        lines = [[*line, *own] for line, own in zip(lines, prompts, strict=True)]
        places = forest.numbers(list(map(len, lines)))
        nodes: list[list[Node]] = []
        for line, taken, own in zip(lines, places, prompts, strict=True):
            inside = len(line) - len(own)
            known = number | dict(zip(line[:inside], taken, strict=False))
            nodes.append([(known.get(ids[:-1], -1), ids[-1]) for ids in line])
        logits = forest.extend(nodes, wanted=max(map(len, prompts)))
        tips = [
            list(taken[len(taken) - len(own) :]) for taken, own in zip(places, prompts, strict=True)
        ]
        return (
            forest,
            tips,
            [list(row[-len(own) :]) for row, own in zip(logits, prompts, strict=True)],
        )

    def _walk(
        self,
        batch: Sequence[Asked],
        answers: Sequence[_Answers],
        forest: Forest,
        paths: Sequence[Path],
        logits: torch.Tensor,
        how: Sampling,
        looked: int,
    ) -> None:
        """Follow every path for `looked` tokens, until it ends or states an answer after all."""
        import torch

        seeds = [seed for asked in batch for own in asked.seeds for seed in own]
        chance = uniforms(seeds, looked)
        live = list(range(len(paths)))
        for step in range(looked):
            whole = (logits.float() / how.temperature).logsumexp(dim=1)
            for place, number in enumerate(live):
                firsts = answers[paths[number].row].firsts
                logp = logits[place, firsts].float() / how.temperature - whole[place]
                paths[number].passed.append(logp.exp().tolist())
                logits[place, firsts] = LEAVES_OUT
            tokens = draw(logits, how.temperature, chance[live, step]).tolist()
            live = self._note(batch, paths, live, tokens)
            if not live or step + 1 == looked:
                return
            logits = torch.stack(self._step(forest, [paths[number] for number in live]))

    def _note(
        self,
        batch: Sequence[Asked],
        paths: Sequence[Path],
        live: Sequence[int],
        tokens: Sequence[int],
    ) -> list[int]:
        """Add the tokens to their paths; return the paths that go on."""
        going = []
        for number, token in zip(live, tokens, strict=True):
            if token in self.end_ids:
                text = self.codec.text(paths[number].ids)
                stated = batch[paths[number].row].found(f"{text} ")  # nothing follows any more
                paths[number].finish = "found" if stated else "stop"
            else:
                paths[number].ids.append(token)
                going.append(number)
        texts = self.codec.texts([paths[number].ids for number in going])
        for number, text in zip(going, texts, strict=True):
            if batch[paths[number].row].found(text.rstrip("\ufffd")):
                paths[number].finish = "found"
        return [number for number in going if paths[number].finish == "length"]

    def _step(self, forest: Forest, live: Sequence[Path]) -> list[torch.Tensor]:
        """Read the last token of each path; return the logits after it."""
        nodes: list[list[Node]] = [[] for _ in range(forest.rows)]
        for path in live:
            nodes[path.row].append((path.places[-1], path.ids[-1]))
        places = [iter(numbers) for numbers in forest.numbers(list(map(len, nodes)))]
        logits = forest.extend(nodes, wanted=max(map(len, nodes)))
        found = []
        for path in live:
            path.places.append(next(places[path.row]))
            found.append(logits[path.row, path.places[-1] - forest.size])  # from the end
        return found

    def _read_rests(
        self,
        batch: Sequence[Asked],
        answers: Sequence[_Answers],
        forest: Forest,
        paths: Sequence[Path],
        how: Sampling,
    ) -> None:
        """Read the rest of the answers that each path passed, at one turn for each first token."""
        seeds = [seed for asked in batch for own in asked.seeds for seed in own]
        rests: list[list[_Rest]] = [[] for _ in batch]
        turns = [turns_of(path, seed) for path, seed in zip(paths, seeds, strict=True)]
        chosen = worth_reading(paths, turns)
        for number, first in chosen:
            path, known = paths[number], answers[paths[number].row]
            spelled = [ids for ids in known.spelled if ids[0] == known.firsts[first]]
            place = path.places[turns[number][first].step]
            rests[path.row].append(_Rest(path, first, place, spelled))
        for group in _alike(rests):
            whole = len(group) == forest.rows  # then there is nothing to copy
            rows = range(forest.rows) if whole else group
            picked, left = forest if whole else forest.pick(group), [rests[row] for row in rows]
            while any(left):
                now = [_first_of(row) for row in left]
                self._read_some([batch[row] for row in rows], picked, now, how)
                left = [row[len(taken) :] for row, taken in zip(left, now, strict=True)]
            del picked  # before the next is made
        share_rests(paths, turns)

    def _read_some(
        self,
        batch: Sequence[Asked],
        forest: Forest,
        rests: Sequence[Sequence[_Rest]],
        how: Sampling,
    ) -> None:
        """Read these ends of answers, and note r."""
        counts = [sum(len(rest.begun) for rest in row) for row in rests]
        nodes: list[list[Node]] = []
        for row, numbers in zip(rests, forest.numbers(counts), strict=True):
            places, own = iter(numbers), []
            for rest in row:
                number: dict[Ids, int] = {(): rest.turn}
                for ids in rest.begun:
                    own.append((number[ids[:-1]], ids[-1]))
                    number[ids] = next(places)
            nodes.append(own)
        logits = forest.extend(nodes, wanted=max(map(len, nodes)))
        for row, asked, count, own_logits in zip(rests, batch, counts, logits, strict=True):
            place = len(own_logits) - count
            for rest in row:
                part = own_logits[place : place + len(rest.begun)]
                rest.path.rest[rest.first] = self._stated(part, rest, how, asked.whole_words)
                place += len(rest.begun)

    def _stated(self, logits: torch.Tensor, rest: _Rest, how: Sampling, whole_words: bool) -> float:
        """Return the chance of an answer's other tokens and of a word's end, after its first."""
        probable = (logits.float() / how.temperature).softmax(dim=1)
        place = {ids: number for number, ids in enumerate(rest.begun)}
        chance: dict[Ids, float] = {}
        for ids in rest.begun:
            before = ids[:-1]
            chance[ids] = (
                chance[before] * float(probable[place[before], ids[-1]]) if before else 1.0
            )
        ends = probable[:, self.ends_word].double().sum(dim=1) if whole_words else None
        return sum(
            chance[ids] * (1.0 if ends is None else float(ends[place[ids]])) for ids in rest.spelled
        )


def _alike(rests: Sequence[Sequence[_Rest]]) -> Iterator[list[int]]:
    """Yield the rows that have something to read, few at a time, with about as much of it each."""
    counts = [sum(len(rest.begun) for rest in row) for row in rests]
    ordered = sorted((row for row, count in enumerate(counts) if count), key=lambda r: counts[r])
    for start in range(0, len(ordered), ALIKE):
        yield ordered[start : start + ALIKE]


def _first_of(rests: Sequence[_Rest]) -> Sequence[_Rest]:
    """Return as many as are read at once, one at least."""
    total = 0
    for number, rest in enumerate(rests):
        total += len(rest.begun)
        if number and total > AT_ONCE:
            return rests[:number]
    return rests


def together(asked: Sequence[Asked], most: int) -> Iterator[list[Asked]]:
    """Cut into batches of at most `most` paths (a fact with more has a batch of its own)."""
    batch: list[Asked] = []
    for one in asked:
        if batch and paths_of([*batch, one]) > most:
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def paths_of(batch: Sequence[Asked]) -> int:
    """Return how many paths are followed at once."""
    return sum(len(seeds) for asked in batch for seeds in asked.seeds)


def word_ends(codec: Codec, vocabulary: int, end_ids: frozenset[int]) -> torch.Tensor:
    """Return bool ``[vocabulary]``: whether a word has ended where this token comes next."""
    import torch

    start = codec.encode("x")
    before = len(codec.text(start))
    known = min(vocabulary, len(codec.tokenizer))
    texts = [text[before:] for text in codec.texts([[*start, token] for token in range(known)])]
    ends = [
        token in end_ids or (text != "" and not text[0].isalnum() and text[0] != "\ufffd")
        for token, text in enumerate(texts)
    ]
    return torch.tensor(ends + [False] * (vocabulary - known))
