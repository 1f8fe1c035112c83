"""Names of modules and parameters without the wrappers for devices, compilers and strategies."""

from torch import Tensor, nn

INNER = {"_orig_mod", "_fsdp_wrapped_module", "_forward_module", "_checkpoint_wrapped_module"}
"""Attributes under which wrappers keep what they wrap, and nobody else keeps anything."""

HOLDERS = {"DistributedDataParallel", "DataParallel", "DeepSpeedEngine"}
"""Classes that keep what they wrap as `module`."""


def plain_names(model: nn.Module) -> dict[str, str]:
    """Name of each module as it is, and without wrappers: `module.0` is `0`.

    So a record made under DistributedDataParallel has the names of one made without.
    """
    plain: dict[str, str] = {"": ""}
    kinds: dict[str, type] = {}
    for name, module in model.named_modules():
        kinds[name] = type(module)
        if not name:
            continue
        above, _, own = name.rpartition(".")
        held = own == "module" and any(c.__name__ in HOLDERS for c in kinds[above].__mro__)
        if own in INNER or held:
            plain[name] = plain[above]
        else:
            plain[name] = f"{plain[above]}.{own}".lstrip(".")
    return plain


def named_parameters(model: nn.Module, plain: dict[str, str]) -> dict[str, nn.Parameter]:
    """The parameters by name without wrappers, in the order of `named_parameters()`.

    Args:
        model: The watched model.
        plain: As from `plain_names`.
    """
    return {_plain(name, plain): parameter for name, parameter in model.named_parameters()}


def named_buffers(model: nn.Module, plain: dict[str, str]) -> dict[str, Tensor]:
    """The buffers in the same way."""
    return {_plain(name, plain): buffer for name, buffer in model.named_buffers()}


def _plain(name: str, plain: dict[str, str]) -> str:
    above, _, own = name.rpartition(".")
    return f"{plain.get(above, above)}.{own}".lstrip(".")
