"""Successive halving: rungs, and the choice of what goes on, for any order of workers, scores and deaths."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.halving import NEW, Contender, Halving, Step, Until, next_step, rungs_of
from harness.core.objective import Objective

State = Literal["waiting", "running", "ended"]


@pytest.mark.parametrize(
    ("epochs", "folds", "rungs"),
    [
        (30, 1, (3, 10)),
        (100, 1, (4, 11, 33)),
        (9, 1, (3,)),
        (4, 1, (1,)),
        (2, 1, (1,)),
        (1, 1, ()),
        (30, 5, (1, 2)),
        (30, 10, (1, 3)),
        (30, 2, (1,)),
    ],
)
def test_rungs(epochs: int, folds: int, rungs: tuple[int, ...]) -> None:
    assert rungs_of(epochs, folds) == rungs


@given(st.integers(1, 500), st.integers(1, 20))
def test_rungs_rise_to_less_than_the_whole(epochs: int, folds: int) -> None:
    rungs = rungs_of(epochs, folds)
    assert sorted(set(rungs)) == list(rungs)
    assert all(1 <= rung < (folds if folds > 1 else epochs) for rung in rungs)


def test_the_record_is_read_back_and_anything_else_is_a_new_trial() -> None:
    halving = Halving(((0.5, 1.0), (0.75, None)), 1, "place 3 of 4", 2.5)
    assert Halving.of(halving.as_json()) == halving
    others: list[object] = [None, [], {}, {"reached": "ab"}]
    for other in (*others, {"reached": [[1]], "promoted": 0, "over": None, "seconds": 0}):
        assert Halving.of(other) == NEW


def test_where_a_trial_stops_next() -> None:
    rungs = (3, 10)
    assert NEW.until(rungs) == Until(3, 1, 2)
    assert Halving(((0.5, 1.0),), 1).until(rungs) == Until(10, 2, 2)
    assert Halving(((0.5, 1.0), (0.5, 1.0)), 2).until(rungs) is None
    assert Halving(((0.5, 1.0),), 0, "late").until(rungs) == Until(3, 1, 2, "late")


@dataclass
class Study:
    """Trials on record, and workers that take steps in any order and may die at any moment."""

    values: dict[int, list[float]]
    wanted: int
    rungs: int
    objective: Objective = field(default_factory=Objective)
    smaller: int | None = None  # what some of the workers want
    states: dict[int, State] = field(default_factory=dict)
    halvings: dict[int, Halving] = field(default_factory=dict)
    unsent: set[int] = field(default_factory=set)  # that pause, and MLflow does not have it yet
    log: list[tuple[int, int, str | None]] = field(default_factory=list)  # number, rung reached, why it was over

    def contenders(self) -> list[Contender]:
        return [Contender(n, self.states[n], self.halvings[n], n not in self.unsent) for n in sorted(self.states)]

    def claim(self, wanted: int) -> int | None:
        begins = len(self.states) < wanted
        step = next_step(self.contenders(), self.rungs, wanted=wanted, most=self.wanted, objective=self.objective)
        if step is None:
            return None
        number = len(self.states) if step.number is None else step.number
        self.check(step, number, begins)
        self.states[number], self.halvings[number] = "running", step.halving
        return number

    def check(self, step: Step, number: int, begins: bool) -> None:
        """The rule, in other words than the code's."""
        if step.number is None:
            assert begins
            return
        before = self.halvings[number]
        assert self.states[number] == "waiting"
        if step.halving.promoted > before.promoted:
            rung = len(before.reached)
            assert step.halving.promoted == rung
            mine = before.reached[rung - 1]
            better = sum(
                self.is_better(h.reached[rung - 1], n, mine, number) for n, h in self.others(rung, number)
            )
            least = 0 if begins or self.trains() else 1
            assert better < max(least, (1 + len(self.others(rung, number))) // 3)
        elif step.halving.over is not None and before.over is None:
            assert number not in self.unsent or not (begins or self.trains())
            rung = len(before.reached)
            mine = before.reached[rung - 1]
            others = self.others(rung, number)
            better = sum(self.is_better(h.reached[rung - 1], n, mine, number) for n, h in others)
            lost = sum(
                len(h.reached) < rung and (h.over is not None or self.states[n] == "ended")
                for n, h in self.halvings.items()
            )
            # To this rung, beside those that are there.
            may_come = self.wanted - lost - len(others) - 1 if begins or self.trains() else 0
            assert all(better >= max(1, (1 + len(others) + more) // 3) for more in range(may_come + 1))

    def trains(self) -> bool:
        return any(s == "running" and self.halvings[n].over is None for n, s in self.states.items())

    def others(self, rung: int, number: int) -> list[tuple[int, Halving]]:
        return [(n, h) for n, h in self.halvings.items() if n != number and len(h.reached) >= rung]

    def is_better(
        self, one: tuple[float | None, float | None], n: int, other: tuple[float | None, float | None], m: int
    ) -> bool:
        assert one[0] is not None
        assert other[0] is not None
        sign = 1 if self.objective.minimise else -1
        return (sign * one[0], one[1], n) < (sign * other[0], other[1], m)

    def end(self, number: int) -> None:
        """The trial comes to where it was to stop."""
        halving = self.halvings[number]
        if halving.over is not None:
            self.states[number] = "ended"
            self.log.append((number, len(halving.reached), halving.over))
            return
        rung = halving.promoted + 1
        score = self.values[number][min(rung, self.rungs) - 1]
        if rung > self.rungs:
            self.states[number] = "ended"
        else:
            self.states[number], self.halvings[number] = "waiting", halving.reaching(rung, (score, 1.0))
            self.unsent.add(number)
        self.log.append((number, rung, None))

    def run(self, workers: int, chance: random.Random, deaths: float, sends: float = 1.0) -> None:
        running: list[int] = []
        for _ in range(10_000):
            self.unsent = {number for number in self.unsent if chance.random() >= sends}
            asked = [self.wanted, self.wanted if self.smaller is None else self.smaller]
            chance.shuffle(asked)
            for wanted in asked:
                while len(running) < workers and (number := self.claim(wanted)) is not None:
                    running.append(number)
            if not running and self.unsent:
                continue
            if not running:
                return
            number = running.pop(chance.randrange(len(running)))
            if chance.random() < deaths:
                self.states[number] = "waiting"
            else:
                self.end(number)
        pytest.fail("the study never came to its end")


@given(
    st.lists(st.lists(st.sampled_from([0.1, 0.3, 0.5, 0.7]), min_size=3, max_size=3), min_size=1, max_size=30),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(0, 2**32),
    st.booleans(),
)
def test_any_workers_and_deaths(
    values: list[list[float]], rungs: int, workers: int, seed: int, minimise: bool
) -> None:
    study = Study(dict(enumerate(values)), len(values), rungs, Objective("val_loss", minimise))
    study.run(workers, random.Random(seed), deaths=0.3, sends=0.3)
    assert set(study.states.values()) == {"ended"}
    assert len(study.states) == len(values)
    for rung in range(1, rungs + 1):  # at the end nobody is left who deserved to go on
        reached = [(n, h) for n, h in study.halvings.items() if len(h.reached) >= rung]
        keys = {n: h.reached[rung - 1] for n, h in reached}
        sign = 1 if minimise else -1
        best = sorted(keys, key=lambda n: (sign * (keys[n][0] or 0.0), keys[n][1], n))
        assert all(study.halvings[n].promoted >= rung for n in best[: max(1, len(reached) // 3)])


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 6), st.integers(1, 5), st.integers(0, 2**32))
def test_no_trial_waits_for_ever(wanted: int, smaller: int, foreign: int, workers: int, seed: int) -> None:
    """Also where two sweeps want different numbers of trials, and where other tools have added ended ones."""
    chance = random.Random(seed)
    values = {number: [chance.random(), chance.random()] for number in range(100)}
    study = Study(values, max(wanted, smaller, foreign), 2, smaller=min(wanted, smaller))
    study.states = dict.fromkeys(range(foreign), "ended")
    study.halvings = dict.fromkeys(range(foreign), NEW)
    study.run(workers, chance, deaths=0.2, sends=0.5)
    assert set(study.states.values()) == {"ended"}
    own = [halving for number, halving in study.halvings.items() if number >= foreign]
    assert any(len(halving.reached) == halving.promoted == 2 for halving in own) or not own


@given(st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=2), min_size=1, max_size=30), st.integers(0, 2**32))
def test_deaths_change_nothing_for_one_worker(values: list[list[float]], seed: int) -> None:
    whole, killed = (Study(dict(enumerate(values)), len(values), 2) for _ in range(2))
    whole.run(1, random.Random(0), deaths=0.0)
    killed.run(1, random.Random(seed), deaths=0.5)
    assert killed.log == whole.log
    assert killed.halvings == whole.halvings


def test_a_trial_that_has_failed_gives_its_place_to_the_next() -> None:
    reached = [Halving(((value, 1.0),)) for value in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4)]
    six = [Contender(n, "waiting", halving) for n, halving in enumerate(reached)]
    assert next_step(six, 1, wanted=9) == Step(0, replace(reached[0], promoted=1))
    # The first one fails after its promotion: it is not among the contenders any more.
    assert next_step(six[1:], 1, wanted=9) == Step(1, replace(reached[1], promoted=1))


def test_one_trial_reaches_its_end_however_few_there_are() -> None:
    two = [Contender(n, "waiting", Halving(((value, 1.0),))) for n, value in enumerate((0.3, 0.4))]
    assert next_step(two, 2, wanted=6) == Step(None, NEW)
    six = [*two, *(Contender(n, "running", NEW) for n in range(2, 6))]
    assert next_step(six, 2, wanted=6) is None
    assert next_step(two, 2, wanted=2) == Step(1, replace(two[1].halving, promoted=1))


def test_a_new_study_begins_and_a_finished_one_has_nothing_to_do() -> None:
    assert next_step([], 2, wanted=1) == Step(None, NEW)
    assert next_step([Contender(0, "ended", NEW)], 2, wanted=1) is None


def test_a_trial_that_can_not_go_on_any_more_is_over_at_once() -> None:
    def pausing(*values: float) -> list[Contender]:
        return [Contender(n, "waiting", Halving(((value, 1.0),))) for n, value in enumerate(values)]

    assert next_step(pausing(0.6, 0.3), 2, wanted=6) == Step(None, NEW)  # the best two of six go on
    third = next_step(pausing(0.6, 0.3, 0.5), 2, wanted=12)
    assert third == Step(0, Halving(((0.6, 1.0),), promoted=1))
    first, *rest = pausing(0.6, 0.3, 0.5)
    gone = [replace(first, state="running", halving=replace(first.halving, promoted=1)), *rest]
    assert next_step(gone, 2, wanted=12) == Step(None, NEW)
    over = next_step(gone, 2, wanted=6)
    why = "asha pruner, rung 1: place 3 of 3, and at most 2 go on"
    assert over == Step(1, Halving(((0.3, 1.0),), over=why))
    unsent = [replace(each, is_sent=False) for each in gone]
    assert next_step(unsent, 2, wanted=6) == Step(None, NEW)
    why = "asha pruner, rung 1: place 2 of 3, and at most 1 go on"  # nothing else is left to do
    ended = replace(gone[0], state="ended")
    assert next_step([ended, *unsent[1:]], 2, wanted=3) == Step(2, Halving(((0.5, 1.0),), over=why))
