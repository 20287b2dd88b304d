"""LowRank against the full matrix, and what must not matter to it."""

import pytest
import torch

from explorer.adapters.low_rank import LowRank


def make(d_out: int, rank: int, d_in: int, seed: int, scale: float = 1.5) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    return LowRank(torch.randn(rank, d_in, generator=generator), torch.randn(d_out, rank, generator=generator), scale)


@pytest.mark.parametrize(("d_out", "rank", "d_in"), [(12, 4, 20), (20, 4, 12), (6, 1, 9), (3, 8, 5)])
def test_spectrum_equals_the_dense_svd(d_out: int, rank: int, d_in: int) -> None:
    update = make(d_out, rank, d_in, seed=0)
    exact = torch.linalg.svdvals(update.dense().double())
    spectrum = update.spectrum()
    count = min(len(exact), len(spectrum.s))
    torch.testing.assert_close(spectrum.s[:count].double(), exact[:count], rtol=1e-5, atol=1e-5)
    rebuilt = spectrum.u @ torch.diag(spectrum.s) @ spectrum.vh
    torch.testing.assert_close(rebuilt, update.dense(), rtol=1e-4, atol=1e-4)


def test_first_right_singular_vector_when_the_two_largest_values_are_close() -> None:
    q_in, _ = torch.linalg.qr(torch.randn(30, 2, generator=torch.Generator().manual_seed(1)).double())
    q_out, _ = torch.linalg.qr(torch.randn(20, 2, generator=torch.Generator().manual_seed(2)).double())
    s = torch.tensor([1.0, 0.999], dtype=torch.float64)
    update = LowRank((s[:, None] * q_in.T), q_out, 1.0)
    assert abs(float(update.spectrum().vh[0].double() @ q_in[:, 0])) > 1 - 1e-5


def test_inner_and_norm_equal_the_dense_ones() -> None:
    one, two = make(10, 3, 14, seed=3), make(10, 5, 14, seed=4, scale=0.5)
    assert one.inner(two) == pytest.approx(float((one.dense() * two.dense()).sum()), rel=1e-4)
    assert one.norm() == pytest.approx(float(one.dense().norm()), rel=1e-5)


def test_change_of_basis_changes_nothing() -> None:
    one, other = make(10, 3, 14, seed=5), make(10, 3, 14, seed=6)
    mix = torch.randn(3, 3, generator=torch.Generator().manual_seed(7))
    same = LowRank(mix @ one.a, one.b @ torch.linalg.inv(mix), one.scale)
    assert same.inner(other) == pytest.approx(one.inner(other), rel=1e-3)
    assert abs(float(same.spectrum().vh[0] @ one.spectrum().vh[0])) > 1 - 1e-5


def test_a_negative_scale_or_a_zero_update_is_no_special_case() -> None:
    update = make(8, 2, 9, seed=8, scale=-2.0)
    assert (update.spectrum().s >= 0).all()
    zero = LowRank(torch.randn(2, 9), torch.zeros(8, 2), 1.0)
    assert zero.norm() == 0.0
    assert (zero.spectrum().s == 0).all()
