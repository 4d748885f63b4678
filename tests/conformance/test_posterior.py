"""Every formula of the posterior against brute force: refitting, joint fits, densities and their
integrals."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal
from torch.func import vmap

from adapt.heads import one_hot
from adapt.inner import CrossEntropy, GaussNewton, Learned, Linearised, Loss, SquaredError, plain
from adapt.inner.levenberg_marquardt import quadratic
from adapt.inner.posterior import (
    Posterior,
    choose,
    condition,
    covariance,
    held_out_moves,
    information,
    innovation,
    leave_one_out,
    log_evidence,
    merge,
    posterior_of,
    predictive,
    variances,
)

F64 = torch.float64
K, N, WAYS = 3, 12, 2
PRIOR = torch.tensor([0.5, 2.0, 1.0], dtype=F64)
LEARNED = plain(PRIOR)
SPREAD, NOISE = 0.3, 0.05


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


COLUMNS, OFFSET, VALUES = drawn(K, N, WAYS), drawn(N, WAYS, seed=1), drawn(N, WAYS, seed=2)
LABELS = one_hot(torch.arange(N) % WAYS, WAYS, F64)
ROWS = torch.arange(N)


def model(rows: Tensor) -> Callable[[Tensor], Tensor]:
    """Outputs of some of the examples, linear in z."""
    return lambda z: OFFSET[rows] + torch.tensordot(z, COLUMNS[:, rows], 1)


def solved(
    rows: Tensor, targets: Tensor, loss: Loss, learned: Learned = LEARNED, steps: int = 1
) -> Posterior:
    z, trace = GaussNewton(steps=steps)(model(rows), targets[rows], loss, learned)
    assert trace.curvature is not None and trace.prior is not None
    return posterior_of(z, trace.curvature, trace.prior, SPREAD, NOISE, len(rows))


def near(a: Tensor, b: Tensor, rel: float = 1e-9) -> bool:
    return torch.allclose(a, b, rtol=rel, atol=rel)


@pytest.mark.parametrize("solver", [GaussNewton(), GaussNewton(steps=4), Linearised()])
@pytest.mark.parametrize(("targets", "loss"), [(VALUES, SquaredError()), (LABELS, CrossEntropy())])
def test_what_a_solver_says_is_the_curvature_of_its_last_quadratic_model(
    solver: GaussNewton | Linearised, targets: Tensor, loss: Loss
) -> None:
    _, trace = solver(model(ROWS), targets, loss, LEARNED)
    assert trace.prior is not None and trace.curvature is not None
    assert torch.equal(trace.prior, PRIOR)
    steps = solver.steps - 1
    at, _ = GaussNewton(steps=steps)(model(ROWS), targets, loss, LEARNED)
    assert near(trace.curvature, quadratic(model(ROWS)(at), COLUMNS, targets, loss).curvature, 1e-6)


def test_predictive_and_evidence_are_those_of_the_gaussian_process() -> None:
    """Outputs are linear in z ~ N(0, sΛ), observed with variance s: everything is one Gaussian."""
    found = solved(ROWS, VALUES, SquaredError())
    flat = COLUMNS.flatten(1).T  # [n·C, k]
    together = SPREAD * (flat @ torch.diag(1 / PRIOR) @ flat.T + torch.eye(N * WAYS, dtype=F64))
    left = (VALUES - OFFSET).flatten()
    value = SquaredError().value(model(ROWS)(found.z), VALUES)
    evidence = MultivariateNormal(0 * left, together).log_prob(left)
    assert near(log_evidence(found, value, VALUES, SquaredError()), evidence)

    new = drawn(K, 5, WAYS, seed=3)
    across = SPREAD * new.flatten(1).T @ torch.diag(1 / PRIOR) @ flat.T
    own = SPREAD * new.flatten(1).T @ torch.diag(1 / PRIOR) @ new.flatten(1)
    mean = (across @ torch.linalg.solve(together, left)).view(5, WAYS)
    whole = own - across @ torch.linalg.solve(together, across.T)
    moments = predictive(found, torch.tensordot(found.z, new, 1), new)
    assert near(moments.mean, mean)
    for i in range(5):
        block = slice(WAYS * i, WAYS * (i + 1))
        assert near(moments.covariance[i], whole[block, block])


def test_evidence_of_classes_is_the_integral_over_z() -> None:
    """By importance sampling from the posterior itself."""
    loss = CrossEntropy()
    found = solved(ROWS, LABELS, loss, steps=20)._replace(spread=torch.tensor(1.0, dtype=F64))
    near_it = MultivariateNormal(found.z, 1.5 * covariance(found))
    prior = MultivariateNormal(0 * PRIOR, torch.diag(1 / PRIOR))
    torch.manual_seed(0)
    z = near_it.sample((20_000,))
    values = vmap(lambda z: loss.value(model(ROWS)(z), LABELS))(z)
    sampled = torch.logsumexp(-values + prior.log_prob(z) - near_it.log_prob(z), 0) - torch.tensor(2e4).log()
    laplace = log_evidence(found, loss.value(model(ROWS)(found.z), LABELS), LABELS, loss)
    assert float(laplace) == pytest.approx(float(sampled), abs=0.2)  # not quite a Gaussian


def test_leaving_one_out_is_refitting_without_it() -> None:
    loss = SquaredError()
    found = solved(ROWS, VALUES, loss)
    outputs = leave_one_out(found, model(ROWS)(found.z), COLUMNS, VALUES, loss)
    moves = held_out_moves(found, model(ROWS)(found.z), COLUMNS, VALUES, loss)
    for i in range(N):
        without = solved(ROWS[i != ROWS], VALUES, loss)
        assert near(found.z + moves[i], without.z)
        assert near(outputs[i], model(ROWS)(without.z)[i])


def test_leaving_one_label_out_is_nearly_refitting_without_it() -> None:
    loss = CrossEntropy()
    found = solved(ROWS, LABELS, loss, steps=20)
    outputs = leave_one_out(found, model(ROWS)(found.z), COLUMNS, LABELS, loss)
    exact = torch.stack([model(ROWS)(solved(ROWS[i != ROWS], LABELS, loss, steps=20).z)[i] for i in range(N)])
    wrong, naive = (outputs - exact).norm(), (model(ROWS)(found.z) - exact).norm()
    assert wrong < 0.2 * naive


@pytest.mark.parametrize("parts", [[5, 7], [1, 1, 10], [12]])
def test_conditioning_part_by_part_is_the_fit_to_all(parts: list[int]) -> None:
    loss = SquaredError()
    now = posterior_of(0 * PRIOR, torch.zeros(K, K, dtype=F64), PRIOR, SPREAD, NOISE)
    for rows in ROWS.split(parts):
        now = condition(now, model(rows)(now.z), COLUMNS[:, rows], VALUES[rows], loss)
    whole = solved(ROWS, VALUES, loss)
    assert near(now.z, whole.z, 1e-8) and near(now.precision, whole.precision)
    assert float(now.examples) == N


def test_forgetting_gives_back_to_the_prior() -> None:
    rows, later = ROWS[:6], ROWS[6:]
    before = solved(rows, VALUES, SquaredError())
    new = VALUES[later], SquaredError()
    gone = condition(before, model(later)(before.z), COLUMNS[:, later], *new, forget=0.0)
    alone = solved(later, VALUES, SquaredError())
    assert near(gone.precision, alone.precision)
    some = condition(before, model(later)(before.z), COLUMNS[:, later], *new, forget=0.7)
    expected = 0.7 * before.precision + 0.3 * torch.diag(PRIOR) + alone.precision - torch.diag(PRIOR)
    assert near(some.precision, expected)
    assert float(some.examples) == pytest.approx(0.7 * 6 + 6)


def test_together_is_the_joint_fit() -> None:
    parts = [solved(rows, VALUES, SquaredError()) for rows in ROWS.split([3, 4, 5])]
    joint, whole = merge(parts), solved(ROWS, VALUES, SquaredError())
    assert near(joint.z, whole.z) and near(joint.precision, whole.precision)


@pytest.mark.parametrize(("targets", "loss"), [(VALUES, SquaredError()), (LABELS, CrossEntropy())])
def test_information_is_what_the_entropy_falls_by(targets: Tensor, loss: Loss) -> None:
    found = solved(ROWS, targets, loss, steps=5)
    outputs, columns = drawn(6, WAYS, seed=4), drawn(K, 6, WAYS, seed=5)
    gain = information(found, outputs, columns, loss)
    for i in range(6):
        after = condition(found, outputs[[i]], columns[:, [i]], 0 * outputs[[i]], loss)
        fell = 0.5 * (torch.logdet(after.precision) - torch.logdet(found.precision))
        assert near(gain[i], fell)


def uncertain(found: Posterior, outputs: Tensor, columns: Tensor, loss: Loss) -> Tensor:
    """Of all candidates, Σ tr H cov / s."""
    covariances = predictive(found, outputs, columns).covariance / SPREAD
    curvatures = torch.eye(outputs.shape[1], dtype=F64).expand(len(outputs), -1, -1)
    if not loss.regression:
        p = outputs.softmax(1)
        curvatures = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    return (curvatures * covariances).sum()


@pytest.mark.parametrize("ways", [1, 2, 5])
@pytest.mark.parametrize("loss", [SquaredError(), CrossEntropy()])
def test_the_labels_asked_for_make_all_outputs_most_certain(loss: Loss, ways: int) -> None:
    """Trying every label, one after the other."""
    outputs, columns = drawn(6, ways, seed=4), drawn(K, 6, ways, seed=5)
    found = posterior_of(torch.zeros(K, dtype=F64), torch.eye(K, dtype=F64), PRIOR, SPREAD, NOISE, 3)
    chosen, known, left = choose(found, outputs, columns, loss, 6).tolist(), found, [*range(6)]
    for row in chosen:
        tried = {
            i: condition(known, outputs[[i]], columns[:, [i]], 0 * outputs[[i]], loss)._replace(z=found.z)
            for i in left
        }
        after = {i: float(uncertain(it, outputs, columns, loss)) for i, it in tried.items()}
        assert after[row] == pytest.approx(min(after.values()), rel=1e-9)
        known = tried[row]
        left.remove(row)


def test_labels_teach_by_what_z_is_solved_for_and_less_where_that_is_off() -> None:
    outputs, columns, start = drawn(6, WAYS, seed=4), drawn(K, 6, WAYS, seed=5), drawn(K, 6, WAYS, seed=6)
    found, loss = solved(ROWS, VALUES, SquaredError()), SquaredError()
    linear = outputs - torch.einsum("k,knc->nc", found.z, start)
    off = torch.tensor([0.0, 0.3, 0.1, 0.0, 2.0, 0.0], dtype=F64)
    for begun in (linear, linear - off[:, None]):  # õ, for which o(z) is linear, and is not
        odd = (outputs - begun - torch.einsum("k,knc->nc", found.z, start)).square().sum(1)
        weight = 1 / (1 + odd / odd.mean()) if begun is not linear else torch.ones(6, dtype=F64)
        variance = []
        for i in range(6):
            rows = start[:, i] @ start[:, i].T * weight[i]
            after = found._replace(precision=found.precision + rows)
            variance.append(float(uncertain(after, outputs, columns, loss)))
        first = int(choose(found, outputs, columns, loss, 1, (begun, start)))
        assert variance[first] == pytest.approx(min(variance), rel=1e-9)


def test_many_outputs_are_as_few() -> None:
    """Of more outputs than directions systems are those of the directions: by the large ones."""
    loss, ways = CrossEntropy(), 5
    columns, outputs = drawn(K, N, ways, seed=9), drawn(N, ways, seed=10)
    targets = one_hot(torch.arange(N) % ways, ways, F64)
    curvature = quadratic(outputs, columns, targets, loss).curvature
    held = torch.tensor([1.0, torch.inf, 0.5], dtype=F64)
    found = posterior_of(torch.zeros(K, dtype=F64), curvature, held, SPREAD, NOISE, N)
    inverse = covariance(found) / SPREAD
    moves, gain = (
        held_out_moves(found, outputs, columns, targets, loss),
        information(found, outputs, columns, loss),
    )
    for i in range(N):
        j, p = columns[:, i].T, outputs[i].softmax(0)
        h = torch.diag(p) - torch.outer(p, p)
        shared = j @ inverse @ j.T
        expected = inverse @ j.T @ torch.linalg.solve(torch.eye(ways, dtype=F64) - h @ shared, p - targets[i])
        assert near(moves[i], expected) and float(moves[i, 1]) == 0.0
        assert near(gain[i], 0.5 * torch.logdet(torch.eye(ways, dtype=F64) + shared @ h))


def test_innovation_is_the_distance_by_the_joint_covariance() -> None:
    found = solved(ROWS, VALUES, SquaredError())
    outputs, columns, targets = drawn(5, WAYS, seed=6), drawn(K, 5, WAYS, seed=7), drawn(5, WAYS, seed=8)
    flat = columns.flatten(1)
    whole = flat.T @ covariance(found) @ flat + NOISE * torch.eye(10, dtype=F64)
    left = (targets - outputs).flatten()
    assert near(innovation(found, outputs, columns, targets), left @ torch.linalg.solve(whole, left))


def test_a_direction_that_is_held_is_as_one_that_is_not_there() -> None:
    held = PRIOR.clone()
    held[1] = torch.inf
    loss, free = SquaredError(), torch.tensor([0, 2])
    found = solved(ROWS, VALUES, loss, plain(held))
    less = posterior_of(
        found.z[free], quadratic(model(ROWS)(0 * PRIOR), COLUMNS[free], VALUES, loss).curvature, PRIOR[free]
    )._replace(spread=found.spread, noise=found.noise)
    assert float(found.z[1]) == 0.0
    assert near(covariance(found)[free][:, free], covariance(less))
    assert not covariance(found)[1].any() and not covariance(found)[:, 1].any()
    value = loss.value(model(ROWS)(found.z), VALUES)
    assert near(log_evidence(found, value, VALUES, loss), log_evidence(less, value, VALUES, loss))
    new = (model(ROWS)(found.z)[:4], COLUMNS[:, :4], VALUES[:4] + 1, loss)
    further = condition(found, *new, forget=0.5)
    small = condition(less, new[0], COLUMNS[free][:, :4], *new[2:], forget=0.5)
    assert float(further.z[1]) == 0.0 and near(further.z[free], small.z)
    assert near(merge([found, found]).z[free], merge([less, less]).z)


def test_pure_batched_and_differentiable() -> None:
    loss = SquaredError()
    many = vmap(lambda targets: condition(start, OFFSET, COLUMNS, targets, loss))
    start = posterior_of(0 * PRIOR, torch.zeros(K, K, dtype=F64), PRIOR)
    batch = torch.stack([VALUES, VALUES + 1])
    each = [condition(start, OFFSET, COLUMNS, targets, loss) for targets in batch]
    assert near(many(batch).z, torch.stack([one.z for one in each]))

    def evidence(prior: Tensor, spread: Tensor) -> Tensor:
        z, trace = GaussNewton()(model(ROWS), VALUES, loss, plain(prior))
        assert trace.curvature is not None
        found = posterior_of(z, trace.curvature, prior, spread)
        return log_evidence(found, loss.value(model(ROWS)(z), VALUES), VALUES, loss)

    inputs = (PRIOR.clone().requires_grad_(), torch.tensor(0.3, dtype=F64, requires_grad=True))
    assert torch.autograd.gradcheck(evidence, inputs)


# ------------------------------------------------------------------------------------------ any size


@pytest.mark.parametrize("size", [1e-20, 1e-10, 1.0, 1e10, 1e20])
def test_formulas_hold_in_single_precision_for_columns_of_any_size(size: float) -> None:
    """By float64: A of columns of 1e20 is no float32."""
    small = (size * COLUMNS).float()
    prior, loss, columns = PRIOR.float(), SquaredError(), small.double()
    z, trace = GaussNewton()(
        lambda z: OFFSET.float() + torch.tensordot(z, small, 1), VALUES.float(), loss, plain(prior)
    )
    assert trace.curvature is not None
    found = posterior_of(z, trace.curvature, prior, SPREAD, NOISE, N)
    a = quadratic(OFFSET, columns, VALUES, loss).curvature + torch.diag(PRIOR)
    c = SPREAD * torch.linalg.inv(a)
    expected = torch.einsum("kmc,kj,jmc->mc", columns, c, columns)
    assert near(variances(found, small).double(), expected, 1e-5)
    whole = predictive(found, OFFSET.float(), small).covariance.diagonal(dim1=1, dim2=2)
    assert near(whole.double(), expected, 1e-5)
    more = condition(found, OFFSET.float(), small, VALUES.float(), loss)
    assert near(more.precision, 2 * a - torch.diag(PRIOR), 1e-5)
    flat, left = columns.flatten(1), (VALUES - OFFSET).flatten()
    joint = flat.T @ c @ flat + NOISE * torch.eye(N * WAYS, dtype=F64)
    assert float(innovation(found, OFFSET.float(), small, VALUES.float())) == pytest.approx(
        float(left @ torch.linalg.solve(joint, left)), rel=1e-4
    )


def test_an_innovation_far_below_the_noise_does_not_cancel() -> None:
    """Of values that z explains: the spread is 10¹² times the noise."""
    found = solved(ROWS[:2], VALUES, SquaredError())._replace(noise=torch.tensor(1e-12, dtype=F64))
    columns = drawn(K, 1, 1, seed=3)
    flat, left = columns.flatten(1), torch.tensor([0.7], dtype=F64)
    expected = left.square() / (flat.T @ covariance(found) @ flat + 1e-12)
    zero = torch.zeros(1, 1, dtype=F64)
    assert near(innovation(found, zero, columns, left[:, None]), expected.squeeze())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [0, 1, 2])
def test_nothing_is_known_where_there_is_neither_prior_nor_example(n: int, dtype: torch.dtype) -> None:
    """A is singular: what examples show is known, and the rest is not, least of all exactly."""
    seen, loss, prior = COLUMNS[:, :n, :1].to(dtype), SquaredError(), torch.zeros(K, dtype=dtype)
    values = torch.zeros(n, 1, dtype=dtype)
    curvature = quadratic(values, seen, values, loss).curvature
    found = posterior_of(torch.zeros(K, dtype=dtype), curvature, prior)
    assert near(variances(found, seen).double(), torch.ones(n, 1, dtype=F64), 1e-3)
    assert bool((variances(found, COLUMNS[:, n:, :1].to(dtype)) > 30).all())
    assert bool(torch.isfinite(leave_one_out(found, values, seen, values, loss)).all())
    assert int(choose(found, torch.zeros(2, 1, dtype=dtype), COLUMNS[:, :2, :1].to(dtype), loss, 1)) == 0 or n
    columns, targets = COLUMNS[..., :1].to(dtype), VALUES[:, :1].to(dtype)
    whole = condition(found, 0 * targets, columns, targets, loss)
    rows = torch.cat([seen, columns], 1)[..., 0].T.double()
    expected = torch.linalg.lstsq(rows, torch.cat([values, targets]).double()).solution[:, 0]
    assert near(whole.z.double(), expected, 20 * torch.finfo(dtype).eps)


def test_a_thousand_small_examples_count_beside_a_large_one() -> None:
    """In float32, 1 added to 10⁸ is nothing."""
    found = posterior_of(torch.zeros(1), torch.tensor([[1e8]]), torch.ones(1))
    one = torch.ones(1, 1)
    for _ in range(1000):
        found = condition(found, 0 * one, one[None], 0 * one, SquaredError())
    assert float(found.precision) == 1e8 + 1001
    assert found.z.dtype == torch.float32


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_teaches_nothing(bad: float) -> None:
    found = solved(ROWS, VALUES, SquaredError())
    columns = COLUMNS.clone()
    columns[1, 0, 0] = bad
    after = condition(found, OFFSET, columns, VALUES, SquaredError())
    assert torch.equal(after.z, found.z) and torch.equal(after.precision, found.precision)
    assert float(after.examples) == N
