"""Intervals against their formulas by hand and scipy, sizes of samples against the textbook."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_pipeline.stages.intervals import sample_size, wilson_interval


@pytest.mark.parametrize(
    ("hits", "trials", "expected"),
    [
        (0, 0, (0.0, 1.0)),
        (0, 10, (0.0, 0.277533)),  # Wilson's interval keeps width where nothing was hit
        (10, 10, (0.722467, 1.0)),
        (5, 10, (0.236593, 0.763407)),
        (199, 199, (0.981062, 1.0)),  # exactly 1, not 1 but for a rounding error
        (0, 199, (0.0, 0.0189382)),
    ],
)
def test_wilson_interval(hits: int, trials: int, expected: tuple[float, float]) -> None:
    found = wilson_interval(hits, trials)
    assert found == pytest.approx(expected, abs=1e-6)
    if hits == 0:
        assert found[0] == 0.0
    if hits == trials:
        assert found[1] == 1.0


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(deadline=None, max_examples=50)
def test_wilson_interval_agrees_with_scipy(drawn: tuple[int, int]) -> None:
    from scipy.stats import binomtest

    hits, trials = drawn
    low, high = wilson_interval(hits, trials)
    expected = binomtest(hits, trials).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-5)


@pytest.mark.parametrize(
    ("margin", "expected", "population", "size"),
    [
        (0.03, 0.05, 10**9, 203),  # 1.96^2 * .05 * .95 / .03^2 = 202.7
        (0.05, 0.5, 10**9, 385),  # the textbook's 384.1
        (0.05, 0.5, 1000, 278),  # with the finite population correction
        (0.01, 0.5, 10, 10),
        (0.03, 0.05, 0, 0),
    ],
)
def test_sample_size(margin: float, expected: float, population: int, size: int) -> None:
    assert sample_size(margin, expected, population) == size
