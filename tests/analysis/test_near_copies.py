import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.near_copies import clusters, equal, near_pairs

bits = st.lists(st.integers(0, 63), max_size=3, unique=True)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**64 - 1), bits, st.integers(0, 99))
def test_hashes_up_to_three_bits_apart_are_always_found(one, flipped, seed):
    other = one
    for bit in flipped:
        other ^= 1 << bit
    noise = np.random.default_rng(seed).integers(0, 2**64, 300, dtype=np.uint64)
    hashes = np.concatenate([noise, np.array([one, other], dtype=np.uint64)])
    assert [300, 301] in near_pairs(hashes, 3).tolist()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2**12), min_size=2, max_size=60), st.integers(0, 3))
def test_what_brute_force_finds(values, distance):
    hashes = np.array(values, dtype=np.uint64)
    near = np.bitwise_count(hashes[:, None] ^ hashes[None]) <= distance
    sets = clusters(near_pairs(hashes, distance), len(hashes))
    together = {(int(a), int(b)) for of in sets for a in of for b in of}
    for i, j in np.argwhere(near).tolist():
        assert i == j or (i, j) in together
    for one, two in near_pairs(hashes, distance).tolist():
        assert near[one, two]


def test_a_thousand_equal_hashes_make_a_chain():
    pairs = near_pairs(np.zeros(1000, dtype=np.uint64), 6)
    assert len(pairs) == 999
    assert [len(of) for of in clusters(pairs, 1000)] == [1000]


def test_sixty_thousand_hashes_take_seconds():
    hashes = np.random.default_rng(0).integers(0, 2**64, 60_000, dtype=np.uint64)
    assert len(near_pairs(hashes, 3)) == 0


def test_equal_digests():
    assert equal([b"a", b"b", b"a", b"a"]).tolist() == [[0, 2], [0, 3]]
    assert equal([b"a"]).shape == (0, 2)


def test_clusters_by_hand():
    assert [of.tolist() for of in clusters(np.array([[4, 5], [0, 2], [2, 5]]), 7)] == [[0, 2, 4, 5]]
