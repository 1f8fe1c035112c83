"""What a picture shows, read from the artists on its axes."""


def labelled(ax, start):
    """The lines whose label starts so."""
    return [line for line in ax.lines if str(line.get_label()).startswith(start)]


def line(ax, label):
    """The only line of this label."""
    (found,) = [one for one in ax.lines if one.get_label() == label]
    return found


def legend(ax):
    """The words of the legend."""
    return [text.get_text() for text in ax.get_legend().get_texts()]
