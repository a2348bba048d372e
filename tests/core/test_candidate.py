"""The identity of a candidate, by which a comparison finds its repeats again."""

from dataclasses import replace

import pytest

from harness.core.candidate import Candidate
from harness.core.names import digest_of
from harness.core.records import TrialConfig

CONFIG = TrialConfig(
    model="fcnn", params={"lr": 0.001, "batch_size": 32}, epochs=30, seed=1, threads=1, last_epoch=12
)
NETWORK = Candidate(
    name="fcnn",
    study="demo-fcnn",
    model="fcnn",
    representation="features",
    columns=("rms_mean", "tempo"),
    seed=0,
    config=CONFIG,
)
BASELINE = replace(NETWORK, name="majority", study=None, model="majority", columns=("tempo",), config=None)


@pytest.mark.parametrize(
    ("candidate", "digest"),
    [
        (NETWORK, "041c04bb01f4786cfa756bd90558b76aec139e9cb786aef1d834a928ab61cba5"),
        (BASELINE, "22e22f61f6e4b34513e2d4c090bb54fe4490cd2bdae1aa2a41dd258ba6151ab9"),
    ],
)
def test_repeats_on_record_are_found_by_it(candidate: Candidate, digest: str) -> None:
    """A field that is added to a candidate must not change the identity of those that do without it."""
    assert digest_of(candidate.identity()) == digest


def test_what_changes_a_repeat_is_in_it_and_nothing_else_is() -> None:
    same = [replace(NETWORK, name="other"), replace(NETWORK, config=replace(CONFIG, threads=2))]
    assert [candidate.identity() for candidate in same] == [NETWORK.identity()] * 2
    nested = replace(NETWORK, search="0123")
    others = [replace(NETWORK, members=5), replace(NETWORK, untuned=True), replace(NETWORK, seed=1), nested]
    assert len({digest_of(candidate.identity()) for candidate in (NETWORK, *others)}) == 5
    assert replace(nested, chosen=(CONFIG,)).identity() == nested.identity()
