"""What an explorer shows where its sliders stand, read from the arrays that the browser gets."""


def _index(explorer):
    packed = explorer._packed
    return [list(packed.values[name]).index(value) for name, value in explorer.values.items()]


def mark(explorer, panel, label):
    """(x, y) of the mark with this label at the present setting of the sliders."""
    packed, index = explorer._packed, _index(explorer)
    for entry in packed.spec["panels"][panel]["marks"]:
        if entry.get("label") == label:
            return packed.array(entry["x"], index), packed.array(entry["y"], index)
    raise AssertionError(f"no mark {label!r}")


def readouts(explorer):
    """All figures under the panels at the present setting of the sliders."""
    packed, index = explorer._packed, _index(explorer)
    return [packed.array(r["values"], index)[0] for r in packed.spec["readouts"]]
