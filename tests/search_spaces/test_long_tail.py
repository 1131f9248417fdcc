"""The space `long-tail` corrects imbalance once, in the loss, and offers the paper's LDAM-DRW."""

from __future__ import annotations

from search_spaces.declared import DeclaredSpace
from search_spaces.space import load_space


def test_imbalance_is_corrected_once() -> None:
    space = load_space("long-tail")
    assert isinstance(space, DeclaredSpace)
    pairs = {names[:3] for names in space.chooser.lawful}
    afterwards = {names[:3] for names in space.chooser.lawful if names[4] == "logit_adjustment"}
    assert afterwards == {("cross_entropy", "natural", "none")}
    assert pairs == {
        ("balanced_softmax", "natural", "none"),
        ("logit_adjustment", "natural", "none"),
        ("ldam", "natural", "none"),
        ("ldam", "natural", "effective_number"),
        ("cross_entropy", "natural", "none"),
        ("cross_entropy", "natural", "effective_number"),
        ("cross_entropy", "square_root", "none"),
    }
    assert space.allow == ()
