"""Look at a backbone before anything is adapted: what blocks forward mode, what slows it down, and the fix.

One small pass (two examples, one random tangent) is made with every operator watched. An operator that has no
forward derivative is noted, its result taken as a constant, and the pass goes on, so that all of them are
found at once.

Policies. The engines see to the first three as far as tangents reach; all are checked here, what shows
without a pass (``modes``) whenever a ``FewShotAdapter`` is made, fits or predicts, and what shows in plain
calls by ``adapt.backbones.contract`` when it first does:

- **Dropout** and whatever else draws random numbers is refused while active, before the adapted parameters as
  well as behind them: f would differ from call to call, and a prefix computed once would freeze one mask.
- **Custom operators** that drop tangents are refused: torch would take their derivative for zero.
- **Autocast** is respected: values and tangents are computed under the autocast that the caller is in. The
  engines then agree within the rounding of the lower precision (``agreement.TOLERANCE``).
- **Batch norm** uses its running statistics. Batch statistics (training mode, or none were tracked) are
  refused: the features of an example would depend on the others, and buffers would change.
- **Any floating-point dtype** will do, but one for all adapted parameters: they are one vector.
- **State**: a backbone whose forward pass writes to its buffers, parameters or input is refused. It is not a
  function.

*Safe* is what changes no value beyond rounding and nothing that the caller can see in the module afterwards.
The choice of torch's kernels is safe: the engines make it for each pass, and it is listed as ``applied``. A
change of the module is not, even if its fix is mechanical: it is made only with ``apply=True``.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from adapt.errors import AdaptError
from adapt.forward.agreement import difference
from adapt.forward.errors import NotDifferentiable, explain, first_sentence
from adapt.forward.fast.dual import version
from adapt.forward.functional import functional
from adapt.forward.pushforward import pushforward
from adapt.forward.reference import reference
from adapt.forward.types import Pytree
from adapt.forward.watch import EVAL, Finding, Watch

__all__ = ["Finding", "Preflight", "modes", "preflight"]


@dataclass(frozen=True)
class Preflight:
    """What :func:`preflight` found.

    Attributes:
        blocked: what must be mended before the backbone can be adapted.
        repeated: what the fast engine leaves to the reference, which then repeats the whole pass.
        fallbacks: operators without a rule, differentiated by torch one by one: right, and slower.
        applied: what was set right, by the engines for each pass or by ``apply=True`` in the module.
    """

    blocked: tuple[Finding, ...] = ()
    repeated: tuple[Finding, ...] = ()
    fallbacks: tuple[str, ...] = ()
    applied: tuple[str, ...] = ()

    def raise_if_blocked(self) -> None:
        """Raise one AdaptError that names everything that blocks, each with its fix."""
        if self.blocked:
            raise AdaptError(
                "the backbone cannot be adapted by forward gradients:\n" + _lines(_grouped(self.blocked))
            )

    def __str__(self) -> str:
        verdict = "blocked" if self.blocked else "ready for forward gradients"
        parts = [
            ("to be mended", _grouped(self.blocked)),
            ("slow, the whole pass is repeated by the reference because of", _grouped(self.repeated)),
            ("slow, differentiated by torch one by one", self.fallbacks),
            ("set right", self.applied),
        ]
        return "\n".join([verdict, *(f"{title}:\n{_lines(lines)}" for title, lines in parts if lines)])


def preflight(
    backbone: nn.Module,
    x: Tensor | tuple[Any, ...],
    parameters: Collection[str] | None = None,
    *,
    apply: bool = False,
) -> Preflight:
    """Everything that blocks forward mode through ``backbone(x)``, found in one small pass.

    Buffers and random generators are left as they were. ``apply=True`` first makes the fixes that are
    mechanical but change the module: ``backbone.eval()``, and plain attention in transformers' models.

    Args:
        backbone: any module.
        x: a few examples (two are used), or the tuple of all positional arguments.
        parameters: names of those to be adapted; None = all floating-point ones.
        apply: make the fixes that change the module.

    Raises:
        AdaptError: the backbone has no such parameters, or ``backbone(x)`` fails by itself.

    Example:
        >>> found = preflight(nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5)), torch.randn(2, 3))
        >>> print(found)
        blocked
        to be mended:
          - Dropout in backbone.1 (it is in training mode, where it changes at random): call backbone.eval()
    """
    inputs = tuple(
        leaf[:2] if isinstance(leaf, Tensor) and leaf.ndim else leaf
        for leaf in (x if isinstance(x, tuple) else (x,))
    )
    applied = _mend(backbone) if apply else []
    points, blocked = _points(backbone, parameters)
    blocked += modes(backbone)
    if opaque := [*_opaque(backbone)]:  # may not even run here
        return Preflight(tuple(blocked + opaque), applied=tuple(applied))
    generator = torch.Generator().manual_seed(0)
    tangents = {
        name: torch.randn(1, *point.shape, generator=generator).to(point) for name, point in points.items()
    }
    f = _Function(backbone, inputs, points)
    devices = {leaf.device for leaf in tree_leaves((points, inputs)) if isinstance(leaf, Tensor)}
    cuda = [device for device in devices if device.type == "cuda"]
    with torch.random.fork_rng(devices=cuda), torch.no_grad():
        value = f.plain(points)
        if other := [leaf for leaf in tree_leaves(value) if not isinstance(leaf, Tensor)]:
            fix = "wrap the backbone in a module that returns the features, one tensor"
            reason = f"it holds a {type(other[0]).__name__}, which is no tensor"
            return Preflight((*blocked, Finding("output", "", reason, fix)), applied=tuple(applied))
        columns = _reference(f, points, tangents)
        watch = Watch(backbone, cuda)
        watch.walk(f, points, tangents)
        known = {finding.module for finding in blocked if finding.module}
        blocked += [finding for finding in watch.random if finding.module not in known]
        if not blocked:
            blocked += f.written()  # else most likely by a norm that is named already
        more, repeated = _judge(watch, columns)
        blocked += more
        if not blocked:
            blocked += _differences((value, columns), pushforward(f, points, tangents))
    if watch.attention:
        applied.append("scaled_dot_product_attention: matrix products, no fused kernel, in each pass")
    if any(isinstance(module, nn.TransformerEncoderLayer) for module in backbone.modules()):
        applied.append("TransformerEncoderLayer: plain, not fused, in each pass")
    if any(isinstance(module, nn.LSTM) for module in backbone.modules()):
        applied.append("LSTM: plain, not fused, in each pass")
    return Preflight(tuple(blocked), tuple(repeated), tuple(sorted(watch.fallbacks)), tuple(applied))


def modes(backbone: nn.Module) -> Iterator[Finding]:
    """The modules of ``backbone`` whose present mode makes it random or its features depend on the batch."""
    for path, module in backbone.named_modules():
        name = type(module).__name__
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if module.training:
                fix = f"{EVAL}, and adapt.backbones.freeze_batch_norm to adapt its scale and shift"
                yield Finding(name, path, "it is in training mode, where it changes with every batch", fix)
            elif module.running_mean is None:
                fix = "train it with track_running_stats=True, or use GroupNorm"
                yield Finding(name, path, "it has no running statistics, only those of the batch", fix)
        elif module.training and _drops(module):
            yield Finding(name, path, "it is in training mode, where it changes at random", EVAL)


def _drops(module: nn.Module) -> bool:
    """Whether the module draws random numbers while training: dropout, also of timm and torchvision."""
    if isinstance(module, nn.RReLU):
        return True
    name = type(module).__name__.lower()
    if not isinstance(module, nn.MultiheadAttention | nn.RNNBase) and not (
        "drop" in name or "stochastic" in name
    ):
        return False
    rates = [getattr(module, rate, 0) for rate in ("p", "prob", "drop_prob", "dropout")]
    return any(isinstance(rate, int | float) and rate > 0 for rate in rates)


def _opaque(backbone: nn.Module) -> Iterator[Finding]:
    """Modules that no tangent can be carried through, known without a pass."""
    seen = set()
    for path, module in backbone.named_modules():
        config = getattr(module, "config", None)
        kind = getattr(config, "_attn_implementation", None)
        if kind not in (None, "eager", "sdpa") and id(config) not in seen:
            seen.add(id(config))  # a model and its layers share one
            fix = 'call model.set_attn_implementation("eager")'
            yield Finding(type(module).__name__, path, f"no forward derivative of its attention, {kind}", fix)


def _mend(backbone: nn.Module) -> list[str]:
    """The fixes that change the module: what was done."""
    done = []
    if any(finding.fix.startswith(EVAL) for finding in modes(backbone)):
        backbone.eval()
        done.append("backbone.eval() was called: dropout off, batch norms use their running statistics")
    for finding in _opaque(backbone):
        if hasattr(module := backbone.get_submodule(finding.module), "set_attn_implementation"):
            module.set_attn_implementation("eager")  # type: ignore[operator]
            done.append(f'{finding.name}.set_attn_implementation("eager") was called')
    return done


def _points(backbone: nn.Module, names: Collection[str] | None) -> tuple[dict[str, Tensor], list[Finding]]:
    """The parameters that are to move, and what is wrong with their dtypes."""
    every = dict(backbone.named_parameters())
    if names is not None and (missing := sorted(set(names) - set(every))):
        raise AdaptError(f"{type(backbone).__name__} has no parameter {missing[0]}: see named_parameters()")
    points: dict[str, Tensor] = {}
    findings = []
    for name, parameter in every.items():
        if names is not None and name not in names:
            continue
        if isinstance(parameter, nn.UninitializedParameter) or parameter.is_meta:
            raise AdaptError(f"backbone.{name} has no values: load the weights, or pass one batch first")
        if parameter.is_floating_point():
            points[name] = parameter.detach().clone()
        elif names is not None:
            reason = f"it is {parameter.dtype}, and so cannot move"
            findings.append(Finding("parameter", name, reason, "adapt floating-point parameters only"))
    if not points:
        raise AdaptError(f"{type(backbone).__name__} has no floating-point parameters to adapt")
    dtypes = sorted({str(point.dtype) for point in points.values()})
    if len(dtypes) > 1:
        reason = f"adapted ones are {' and '.join(dtypes)}, and cannot be one vector"
        findings.append(Finding("parameters", "", reason, "convert them, for instance backbone.float()"))
    return points, findings


class _Function:
    """Features as a function of the adapted parameters; what a pass writes to are copies."""

    def __init__(self, backbone: nn.Module, inputs: tuple[Any, ...], points: Mapping[str, Tensor]) -> None:
        self.backbone = backbone
        self.inputs = tuple(leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in inputs)
        self.buffers = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
        self.tensors = [
            *(("buffer", name, buffer) for name, buffer in self.buffers.items()),
            *(("parameter", name, point) for name, point in points.items()),
            *(("input", "", leaf) for leaf in self.inputs if isinstance(leaf, Tensor)),
        ]
        self.versions = [version(tensor) for *_, tensor in self.tensors]

    def __call__(self, parameters: Mapping[str, Tensor]) -> Pytree:
        return functional(self.backbone, {**self.buffers, **parameters}, self.inputs)

    def plain(self, points: Mapping[str, Tensor]) -> Pytree:
        """The features, without tangents."""
        try:
            return self(points)
        except Exception as error:
            raise AdaptError(
                f"torch.func.functional_call(backbone, parameters, x) fails ({first_sentence(str(error))}): "
                "pass examples that it takes, and a plain module, neither scripted nor compiled"
            ) from error

    def written(self) -> list[Finding]:
        """What a pass has changed."""
        reason, fix = "the forward pass writes to it", f"{EVAL}, or copy it first"
        return [
            Finding(kind, name, reason, fix)
            for (kind, name, tensor), before in zip(self.tensors, self.versions, strict=True)
            if version(tensor) != before
        ]


def _reference(f: _Function, points: Pytree, tangents: Pytree) -> Pytree | Exception:
    """The reference's tangents, or why it has none."""
    try:
        return reference(f, points, tangents)[1]
    except Exception as error:
        return error


def _judge(watch: Watch, columns: Pytree | Exception) -> tuple[list[Finding], list[Finding]]:
    """What the fast engine refused: blocked, or repeated by the reference, which has ``columns`` or fails."""
    if not isinstance(columns, Exception):
        return list(watch.certain), list(watch.refused)
    blocked = [*watch.certain, *(finding for finding, fails in watch.refused.items() if fails)]
    repeated = [finding for finding, fails in watch.refused.items() if not fails]
    if repeated and not blocked and not watch.random:  # the reference stops at something not seen here
        error = columns if isinstance(columns, NotDifferentiable) else explain(columns, None)
        blocked.append(Finding(error.operation, repeated[0].module, error.reason, error.fix))
    return blocked, repeated


def _differences(expected: tuple[Pytree, Pytree | Exception], result: tuple[Pytree, Pytree]) -> list[Finding]:
    """Is the value that of a plain pass, and are the tangents those of the reference (where it works)?"""
    found = []
    fix = "do not adapt this backbone with the fast engine (engine='reference'), and report it"
    for name, right, computed in zip(("value", "tangents"), expected, result, strict=True):
        if not isinstance(right, Exception) and (reason := difference(right, computed)):
            found.append(Finding(name, "", reason, fix))
    return found


def _grouped(findings: Sequence[Finding]) -> list[str]:
    """One line for all findings that differ in their place only."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.name, finding.reason), []).append(finding)
    more = {key: f" (and {len(group) - 1} more)" if len(group) > 1 else "" for key, group in groups.items()}
    return [f"{group[0]}{more[key]}" for key, group in groups.items()]


def _lines(items: Iterable[str]) -> str:
    return "\n".join(f"  - {item}" for item in items)
