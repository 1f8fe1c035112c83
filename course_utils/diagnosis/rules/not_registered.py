"""Weights that take part in the pass and that `parameters()` does not list.

Evidence is the graph: a leaf below the output that is no parameter of the model and did not come
with the batch. Layers kept in a list on purpose, such as a teacher under no_grad, are no leaves.
A leaf that no attribute holds counts if it is an nn.Parameter (a layer made inside forward).
"""

from collections.abc import Iterator, Mapping, Sequence, Set

from torch import Tensor, nn

from ...measuring import tensors_in, torch_internals
from .. import remedies
from ..graph import walk
from ..measured_pass import MeasuredPass
from ..report import Finding
from .rule import Case, rule

_OWN = frozenset(vars(nn.Module()))
_DEEPEST = 4  # containers in containers that are looked into
_AFTER = "# and make the optimizer afterwards: it holds what parameters() lists at that moment"


@rule(silences=("loss_cut_off",))
def not_registered(case: Case) -> Finding | None:
    """Leaves of the graph that the model does not list."""
    measured_pass = case.measured_pass
    leaves = _strangers(measured_pass)
    if not leaves:
        return _no_parameter(measured_pass)
    held = measured_pass.held
    places = _places(measured_pass.model, leaves)
    leaves = {
        key: leaf for key, leaf in leaves.items() if key in places or isinstance(leaf, nn.Parameter)
    }
    if held is not None and leaves and leaves.keys() <= held:
        case.notes.append(
            f"{len(leaves)} tensors are in the optimizer and not in model.parameters(): they "
            "train, but state_dict() and model.to() leave them out."
        )
        return None
    if not leaves:
        return None
    listed = len(list(measured_pass.model.parameters()))
    names = tuple(dict.fromkeys(places[key][0] for key in leaves if key in places))
    where = ", ".join(names[:6]) or "a layer that forward makes anew in each call"
    return Finding(
        kind="not_registered",
        layers=names or ("(model)",),
        quantity="share of the tensors in the graph that parameters() lists",
        measured=listed / (listed + len(leaves)),
        predicted=1.0,
        cause=f"{len(leaves)} tensors that the output depends on are not in model.parameters(): "
        f"{where}. No optimizer made from parameters() moves them, and state_dict() and "
        "model.to() leave them out.",
        remedy="\n".join(
            [*dict.fromkeys(places[key][1] for key in leaves if key in places), _AFTER]
            if names
            else ["# make the layer in __init__, as an attribute of self, and use it in forward"]
        ),
        notebook=remedies.CHAPTERS[12],
    )


def _no_parameter(measured_pass: MeasuredPass) -> Finding | None:
    """A model in which there is nothing at all to train."""
    if any(True for _ in measured_pass.model.parameters()):
        return None
    return Finding(
        kind="not_registered",
        layers=("(model)",),
        quantity="parameters",
        measured=0.0,
        cause="The model has no parameter, and no other tensor in it takes a gradient: there is "
        "nothing to train. Layers have to be attributes of the module, or in an nn.ModuleList.",
        remedy="# assign layers in __init__, after super().__init__(): self.layer = nn.Linear(…)",
        notebook=remedies.CHAPTERS[12],
    )


def _strangers(measured_pass: MeasuredPass) -> dict[int, Tensor]:
    """Leaves below the output, by id, that are neither listed nor part of the batch."""
    batch = measured_pass.batch
    given = [tensor for _, tensor in tensors_in((batch.args, batch.kwargs, batch.target))]
    shapes = {tuple(tensor.shape) for tensor in given}  # a copy of it may be a leaf on purpose
    known = {id(tensor) for tensor in (*measured_pass.model.parameters(), *given)}
    leaves: dict[int, Tensor] = {}
    for node in measured_pass.output_nodes:
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in known:
            if isinstance(leaf, nn.Parameter) or tuple(leaf.shape) not in shapes:
                leaves[id(leaf)] = leaf
    return leaves


def _places(model: nn.Module, leaves: dict[int, Tensor]) -> dict[int, tuple[str, str]]:
    """Attribute that holds a leaf, or what was computed from it, and code that registers it."""
    places: dict[int, tuple[str, str]] = {}
    for name, module in model.named_modules():
        buffers = torch_internals.own_buffers(module)
        shared = _of_class(module)
        for attribute, value in (*vars(module).items(), *buffers.items(), *shared.items()):
            if attribute in _OWN:
                continue
            full = f"{name}.{attribute}" if name else attribute
            for tensor in _tensors(value, _DEEPEST, set()):
                below = {id(tensor)}
                if tensor.grad_fn is not None:
                    ends = (getattr(node, "variable", None) for node in walk(tensor.grad_fn))
                    below = {id(leaf) for leaf in ends if leaf is not None}
                if below and below <= leaves.keys():
                    for key in below:
                        code = (
                            _of_instance(full)
                            if attribute in shared
                            else _register(full, value, attribute in buffers)
                        )
                        places.setdefault(key, (full, code))
    return places


def _of_class(module: nn.Module) -> dict[str, object]:
    """Attributes of the class of a module that hold tensors or modules."""
    mine = [c for c in type(module).__mro__ if not c.__module__.startswith(("torch.", "builtins"))]
    held = (Tensor, nn.Module, Mapping, list, tuple)
    values = {key: value for c in reversed(mine) for key, value in vars(c).items()}
    return {k: v for k, v in values.items() if isinstance(v, held) and not k.startswith("__")}


def _of_instance(name: str) -> str:
    """What to do about an attribute of the class."""
    last = name.rpartition(".")[2]
    return f"# {last} belongs to the class: self.{last} = nn.Parameter(…) in __init__ in its place"


def _tensors(value: object, depth: int, seen: set[int]) -> Iterator[Tensor]:
    """Tensors in an attribute: in containers, in modules, and in plain objects."""
    if isinstance(value, Tensor):
        yield value
        return
    if depth < 0 or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, nn.Module):
        yield from value.parameters()
        inside = [v for module in value.modules() for k, v in vars(module).items() if k not in _OWN]
    elif isinstance(value, Mapping):
        inside = list(value.values())
    elif isinstance(value, Sequence | Set) and not isinstance(value, str | bytes | range):
        inside = list(value)
    else:
        inside = list(getattr(value, "__dict__", {}).values())
        if type(value).__module__.startswith(("torch.", "builtins")):
            return
    for one in inside:
        yield from _tensors(one, depth - 1, seen)


def _register(name: str, value: object, buffer: bool) -> str:
    """Code that registers what an attribute holds."""
    place = remedies.path(name)
    if buffer:
        return f"value = {place}.detach()\ndel {place}\n{place} = nn.Parameter(value)"
    if isinstance(value, Tensor):
        return f"{place} = nn.Parameter({place}.detach())"
    if getattr(value, "default_factory", None) is not None:  # nn.ModuleDict makes no entries
        return (
            f"# make the layers of {place} in __init__, all of them, and hold them in nn.ModuleDict"
        )
    values = list(value.values()) if isinstance(value, Mapping) else value
    makes_more = hasattr(value, "__missing__")  # a defaultdict
    if isinstance(values, Sequence) and values and not makes_more:
        kind = "Dict" if isinstance(value, Mapping) else "List"
        if all(isinstance(one, nn.Module) for one in values):
            return f"{place} = nn.Module{kind}({place})"
        if all(isinstance(one, Tensor) for one in values):
            return f"{place} = nn.Parameter{kind}({place})"
        if kind == "List" and all(_modules(one) for one in values):
            return f"{place} = nn.ModuleList(nn.ModuleList(part) for part in {place})"
    if isinstance(value, Sequence | Mapping):
        return f"# hold the layers of {place} in nn.ModuleList or nn.ModuleDict"
    return f"# let {type(value).__name__}, which {place} is, inherit from nn.Module"


def _modules(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, nn.Module) for one in value)
